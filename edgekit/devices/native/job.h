/* job.json as the device executable understands it. */
#ifndef EK_JOB_H
#define EK_JOB_H

#include <stdint.h>

enum { EK_MAX_TENSORS = 32, EK_MAX_DIMS = 8 };

typedef enum { EK_MODE_OUTPUTS, EK_MODE_LATENCY, EK_MODE_STEPS } ek_mode_t;

typedef struct {
  const char *name, *file, *dtype;
  int32_t ndim;
  int64_t shape[EK_MAX_DIMS]; /* shape[0] is the number of items */
} ek_job_input_t;

typedef struct {
  const char *engine, *model, *outputs;
  int32_t num_inputs;
  ek_job_input_t inputs[EK_MAX_TENSORS];
  int64_t num_items, warmup_runs, num_runs, num_threads;
  ek_mode_t mode;
} ek_job_t;

/* Reads and checks a job; fails with a message that names the field. Never returns NULL. */
const ek_job_t *ek_job_read(const char *path);

#endif
