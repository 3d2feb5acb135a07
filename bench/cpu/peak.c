/* The arithmetic this core can do at best: multiply-adds of registers, nothing loaded or stored.
 *
 * Prints three numbers in billions of operations per second, a multiply-add counted as two: fp32;
 * int8 sums of four products in 32 bits, with AVX2 by vpmaddubsw, whose sums of two saturate; the
 * same without saturation. With AVX512-VNNI vpdpbusd does both. With AVX2 one operand of vpmaddubsw
 * must then be the magnitude, at most 128, and vpsignb moves its sign to the other one.
 */
#include <immintrin.h>
#include <stdio.h>
#include <time.h>

#define REPEAT(step) \
  step(0) step(1) step(2) step(3) step(4) step(5) step(6) step(7) step(8) step(9) step(10) step(11)
enum { CHAINS = 12, ROUNDS = 1 << 19, TRIES = 60 };

#ifdef __AVX512F__
typedef __m512 floats;
typedef __m512i levels;
enum { BYTES = 64 };
#define FMA(a, x, y) _mm512_fmadd_ps(x, y, a)
#define DOT(a, x, y) _mm512_dpbusd_epi32(a, x, y)
#define EXACT_DOT DOT
#define SET_FLOAT _mm512_set1_ps
#define SET_LEVEL _mm512_set1_epi8
#else
typedef __m256 floats;
typedef __m256i levels;
enum { BYTES = 32 };
#define FMA(a, x, y) _mm256_fmadd_ps(x, y, a)
#define DOT(a, x, y) \
  _mm256_add_epi32(a, _mm256_madd_epi16(_mm256_maddubs_epi16(x, y), _mm256_set1_epi16(1)))
#define EXACT_DOT(a, x, y) DOT(a, x, _mm256_sign_epi8(y, x))
#define SET_FLOAT _mm256_set1_ps
#define SET_LEVEL _mm256_set1_epi8
#endif

/* Keeps a value in a register and hides from the compiler what it is. */
#define HIDE(v) __asm__ volatile("" : "+v"(v))

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec + now.tv_nsec * 1e-9;
}

static double time_floats(void) {
  floats acc[CHAINS], x = SET_FLOAT(1e-9f), y = SET_FLOAT(1e-9f);
  for (int i = 0; i < CHAINS; i++) acc[i] = SET_FLOAT(0);
  double start = seconds();
  for (int round = 0; round < ROUNDS; round++) {
    HIDE(x);
#define STEP(i) acc[i] = FMA(acc[i], x, y);
    REPEAT(STEP)
#undef STEP
  }
  double end = seconds();
  for (int i = 0; i < CHAINS; i++) HIDE(acc[i]);
  return end - start;
}

#define TIME_LEVELS(name, dot)                                        \
  static double name(void) {                                          \
    levels acc[CHAINS], x = SET_LEVEL(3), y = SET_LEVEL(1);           \
    for (int i = 0; i < CHAINS; i++) acc[i] = SET_LEVEL(0);           \
    double start = seconds();                                         \
    for (int round = 0; round < ROUNDS; round++) {                    \
      REPEAT(STEP_OF_##dot)                                           \
    }                                                                 \
    double end = seconds();                                           \
    for (int i = 0; i < CHAINS; i++) HIDE(acc[i]);                    \
    return end - start;                                               \
  }
/* x is hidden before every product, or the compiler would compute it once. */
#define STEP_OF_DOT(i) HIDE(x); acc[i] = DOT(acc[i], x, y);
#define STEP_OF_EXACT_DOT(i) HIDE(x); acc[i] = EXACT_DOT(acc[i], x, y);
TIME_LEVELS(time_levels, DOT)
TIME_LEVELS(time_exact_levels, EXACT_DOT)

int main(void) {
  double best[3] = {1e9, 1e9, 1e9};
  for (int i = 0; i < TRIES; i++) {
    double found[3] = {time_floats(), time_levels(), time_exact_levels()};
    for (int kind = 0; kind < 3; kind++)
      if (found[kind] < best[kind]) best[kind] = found[kind];
  }
  double products = 2.0 * CHAINS * ROUNDS / 1e9;
  printf("%.1f %.1f %.1f\n", products * (BYTES / 4) / best[0], products * BYTES / best[1],
         products * BYTES / best[2]);
  return 0;
}
