/* y = 2 x + b in two steps. The first element of x may ask for a fault, and the environment
 * variable EK_TEST_MODEL for a false description. */
#include <stdlib.h>
#include <string.h>

#include "ek_model.h"

enum { SIZE = 4, CRASH = -1, TRAP = -2, HANG = -3, FAIL = -4, OVERRUN = -5, DOT_PRODUCT = -6 };

static const int64_t shape[] = {1, SIZE};
static const ek_tensor_t inputs[] = {{"x", "float32", 2, shape, 4 * SIZE},
                                     {"b", "float32", 2, shape, 4 * SIZE}};
static const ek_tensor_t outputs[] = {{"y", "float32", 2, shape, 4 * SIZE}};
static const char *const step_names[] = {"double", "shift"};

static int misbehave(int fault, float *y) {
  if (fault == CRASH) *(volatile int *)8 = 1;
#if defined(__x86_64__)
  if (fault == TRAP) __asm__ volatile("ud2");
#elif defined(__aarch64__)
  if (fault == TRAP) __asm__ volatile(".inst 0");
  if (fault == DOT_PRODUCT) __asm__ volatile(".inst 0x4e829420" ::: "v0"); /* sdot v0, v1, v2 */
#endif
  for (volatile int i = 0; fault == HANG; i = 0) (void)i;
  if (fault == OVERRUN) y[SIZE + 1] = 0;
  return fault == FAIL ? 7 : 0;
}

static int step(int32_t i, const void *const *in, void *const *out, void *workspace) {
  const float *x = in[0], *b = in[1];
  float *y = out[0], *doubled = workspace;
  for (int k = 0; k < SIZE; k++) {
    if (i == 0) doubled[k] = 2 * x[k];
    else y[k] = doubled[k] + b[k];
  }
  return i == 0 && x[0] < 0 ? misbehave((int)x[0], y) : 0;
}

static int run(const void *const *in, void *const *out, void *workspace) {
  int status = step(0, in, out, workspace);
  return status ? status : step(1, in, out, workspace);
}

static int set_threads(int wanted) { return wanted > 2 ? 2 : wanted; }

const ek_model_t *ek_model(void) {
  static const int64_t batch_of_two[] = {2, SIZE}, endless[] = {1, (int64_t)1 << 62};
  static ek_tensor_t false_input[2];
  static ek_model_t model = {EK_ABI, 2,          1,   2,    4 * SIZE,   inputs,
                             outputs, step_names, run, step, set_threads};
  const char *said = getenv("EK_TEST_MODEL");
  if (!said) return &model;
  memcpy(false_input, inputs, sizeof inputs);
  if (!strcmp(said, "nothing")) return 0;
  if (!strcmp(said, "abi")) model.abi = 99;
  if (!strcmp(said, "no-inputs")) model.num_inputs = 0;
  if (!strcmp(said, "many-outputs")) model.num_outputs = 1 << 30;
  if (!strcmp(said, "no-run")) model.run = 0;
  if (!strcmp(said, "no-steps")) model.step = 0;
  if (!strcmp(said, "workspace")) model.workspace_bytes = (size_t)-1;
  if (!strcmp(said, "bytes")) false_input[0].bytes = 3;
  if (!strcmp(said, "dtype")) false_input[0].dtype = "complex64";
  if (!strcmp(said, "name")) false_input[0].name = 0;
  if (!strcmp(said, "batch")) false_input[0].shape = batch_of_two;
  if (!strcmp(said, "endless")) false_input[0].shape = endless;
  if (!strcmp(said, "dims")) false_input[0].ndim = 1000;
  if (!strcmp(said, "no-threads")) model.set_threads = 0;
  model.inputs = false_input;
  return &model;
}
