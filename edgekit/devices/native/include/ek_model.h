/* The whole interface between a compiled model and whoever runs it.
 *
 * A library exports, for a model called NAME (default: model):
 *     extern const ek_model_t NAME_model;
 *     int NAME_run(const void *const *inputs, void *const *outputs, void *workspace);
 *     const ek_model_t *ek_model(void);       generic entry for users of dlopen
 *
 * Kernels check nothing. The caller provides, each aligned to EK_ALIGNMENT bytes:
 *     inputs[i]   inputs[i].bytes readable bytes, one item (batch of one);
 *     outputs[i]  outputs[i].bytes writable bytes;
 *     workspace   workspace_bytes writable bytes with any content; nothing else is allocated.
 * One call at a time per library: kernels share the thread pool.
 */
#ifndef EK_MODEL_H
#define EK_MODEL_H

#include <stddef.h>
#include <stdint.h>

#define EK_ABI 1
#define EK_ALIGNMENT 64

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  const char *name;
  const char *dtype;    /* "float32", "uint8", "int64" ...: numpy's words */
  int32_t ndim;
  const int64_t *shape; /* ndim values; a batch of one leads */
  size_t bytes;         /* of one item */
} ek_tensor_t;

typedef struct {
  int32_t abi;          /* EK_ABI */
  int32_t num_inputs, num_outputs, num_steps;
  size_t workspace_bytes;
  const ek_tensor_t *inputs, *outputs;
  const char *const *step_names; /* num_steps names: run the steps one by one to time operators */
  /* Both return 0 on success. */
  int (*run)(const void *const *inputs, void *const *outputs, void *workspace);
  int (*step)(int32_t i, const void *const *inputs, void *const *outputs, void *workspace);
  int (*set_threads)(int n); /* returns the number in force; may be NULL: one thread */
} ek_model_t;

const ek_model_t *ek_model(void);

#ifdef __cplusplus
}
#endif

#endif
