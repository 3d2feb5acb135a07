/* What the operating system knows: clock, memory, and the state of the CPU. */
#ifndef EK_HOST_H
#define EK_HOST_H

#include <stdint.h>
#include <stdio.h>

double ek_now_us(void);

/* Peak resident memory of this program in KiB, -1 when unknown. */
int64_t ek_peak_rss_kib(void);

/* The state of the CPU at one moment; what a system doesn't tell is NAN. */
typedef struct {
  double clock_mhz, temperature_c, throttled; /* throttled: the Raspberry Pi's bit mask */
} ek_cpu_state_t;

ek_cpu_state_t ek_cpu_state(void);

/* Writes {"cpu_model", "governor", "cores", and clock_mhz, temperature_c, throttled: [before,
 * after]}; unknown values are null. */
void ek_write_device(FILE *file, const ek_cpu_state_t *before, const ek_cpu_state_t *after);

/* Ends this process when its parent dies, if the runner names itself in EDGEKIT_PARENT. */
void ek_die_with_parent(void);

/* Tells an instruction counter in an emulator that a run starts or ends. A system call with
 * arguments nobody else uses; without an emulator it does nothing. */
void ek_mark(void);

#endif
