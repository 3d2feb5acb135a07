/* Runs a model from tables: the steps, where their operands lie, and the model's description.
 *
 * The generated source defines EK_RUN, EK_MAX_THREADS, EK_MAX_ARGUMENTS, `weights`, `places`,
 * `steps` and the description before it includes this.
 */
#ifndef EK_STEPS_H
#define EK_STEPS_H

#include "ek_pool.h"

typedef enum { PLACE_INPUT, PLACE_OUTPUT, PLACE_WEIGHTS, PLACE_WORKSPACE } place_kind_t;

typedef struct {
  uint8_t kind;
  size_t offset; /* in bytes; for inputs and outputs the number of the tensor */
} place_t;

typedef struct {
  int (*call)(void *const *arguments, uint8_t *scratch, int32_t begin, int32_t end);
  uint32_t first_place, num_arguments;
  int32_t num_items;
  size_t scratch, scratch_stride; /* bytes into the workspace; bytes of one thread */
} step_t;

typedef struct {
  const void *const *inputs;
  void *const *outputs;
  uint8_t *workspace;
} buffers_t;

static inline void *steps_resolve(const place_t *place, const uint8_t *weights,
                                  const buffers_t *buffers) {
  switch (place->kind) {
    /* Kernels take plain pointers: which of them they only read is known to the compiler. */
    case PLACE_INPUT: return (void *)(uintptr_t)buffers->inputs[place->offset];
    case PLACE_OUTPUT: return buffers->outputs[place->offset];
    case PLACE_WEIGHTS: return (void *)(uintptr_t)(weights + place->offset);
    default: return buffers->workspace + place->offset;
  }
}

static inline int steps_call(const step_t *step, const place_t *places, const uint8_t *weights,
                             const buffers_t *buffers, void **arguments) {
  for (uint32_t i = 0; i < step->num_arguments; i++)
    arguments[i] = steps_resolve(&places[step->first_place + i], weights, buffers);
  const pool_job_t job = {
      .call = step->call,
      .arguments = arguments,
      .scratch = buffers->workspace + step->scratch,
      .scratch_stride = step->scratch_stride,
      .num_items = step->num_items,
  };
  return pool_run(&job);
}

#endif
