/* Entry for TVM's own runtime: a function over DLPack tensors, the model's inputs and then its
 * outputs. `tvm.runtime.load_module("libmodel.so")["model_run"](x, y)`.
 *
 * Only shared libraries have it; EK_MODEL and EK_ENTRY name the model and this function. It is the
 * one place that checks what it is given. The declarations are those of DLPack and of TVM's foreign
 * function interface; the loader fills the pointer to the function that takes a message, so that
 * the library needs nothing of TVM.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "ek_model.h"

typedef struct {
  void *data;
  struct {
    int32_t type, id;
  } device;
  int32_t ndim;
  struct {
    uint8_t code, bits;
    uint16_t lanes;
  } dtype;
  int64_t *shape, *strides;
  uint64_t byte_offset;
} packed_tensor_t;

typedef struct {
  int32_t type;
  uint32_t padding;
  union {
    int64_t integer;
    void *pointer;
  };
} packed_value_t;

enum { PACKED_POINTER = 7, PACKED_TENSOR = 70, PACKED_HEADER = 24, PACKED_CPU = 1 };

__attribute__((weak, visibility("default"))) void (*__TVMFFIErrorSetRaisedFromCStr)(
    const char *kind, const char *message) = NULL;

static int packed_fail(const char *message) {
  if (__TVMFFIErrorSetRaisedFromCStr) __TVMFFIErrorSetRaisedFromCStr("ValueError", message);
  return -1;
}

static bool packed_is(const packed_tensor_t *tensor, const char *dtype) {
  static const struct {
    const char *name;
    uint8_t code, bits;
  } known[] = {{"int8", 0, 8},     {"int16", 0, 16},  {"int32", 0, 32},   {"int64", 0, 64},
               {"uint8", 1, 8},    {"uint16", 1, 16}, {"uint32", 1, 32},  {"uint64", 1, 64},
               {"float16", 2, 16}, {"float32", 2, 32}, {"float64", 2, 64}, {"bool", 6, 8}};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (!strcmp(known[i].name, dtype))
      return tensor->dtype.code == known[i].code && tensor->dtype.bits == known[i].bits &&
             tensor->dtype.lanes == 1;
  return false;
}

static bool packed_fits(const packed_tensor_t *tensor, const ek_tensor_t *wanted) {
  if (tensor->ndim != wanted->ndim) return false;
  int64_t stride = 1;
  for (int32_t d = wanted->ndim - 1; d >= 0; d--) {
    if (tensor->shape[d] != wanted->shape[d]) return false;
    if (tensor->strides && wanted->shape[d] > 1 && tensor->strides[d] != stride) return false;
    stride *= wanted->shape[d];
  }
  return true;
}

/* Returns the tensor's memory, or NULL after giving a reason. */
static void *packed_data(const packed_value_t *value, const ek_tensor_t *wanted) {
  const packed_tensor_t *tensor = value->pointer;
  if (value->type == PACKED_TENSOR)
    tensor = (const packed_tensor_t *)((const uint8_t *)value->pointer + PACKED_HEADER);
  else if (value->type != PACKED_POINTER)
    return packed_fail("an argument is no tensor"), NULL;
  if (tensor->device.type != PACKED_CPU)
    return packed_fail("a tensor lies on another device than the CPU"), NULL;
  if (!packed_is(tensor, wanted->dtype)) return packed_fail("a tensor has the wrong dtype"), NULL;
  if (!packed_fits(tensor, wanted))
    return packed_fail("a tensor has the wrong shape or is not contiguous"), NULL;
  uint8_t *data = (uint8_t *)tensor->data + tensor->byte_offset;
  if ((uintptr_t)data % EK_ALIGNMENT)
    return packed_fail("a tensor is not aligned to 64 bytes"), NULL;
  return data;
}

static void *packed_workspace;

__attribute__((destructor)) static void packed_end(void) { free(packed_workspace); }

extern const ek_model_t EK_MODEL;

int EK_ENTRY(void *self, const packed_value_t *arguments, int32_t count, packed_value_t *result) {
  const ek_model_t *model = &EK_MODEL;
  void *pointers[EK_NUM_TENSORS];
  (void)self;
  (void)result;
  if (count != EK_NUM_TENSORS)
    return packed_fail("the model takes its inputs and then its outputs, each a tensor");
  for (int32_t i = 0; i < count; i++) {
    const ek_tensor_t *wanted = i < model->num_inputs ? &model->inputs[i]
                                                      : &model->outputs[i - model->num_inputs];
    pointers[i] = packed_data(&arguments[i], wanted);
    if (!pointers[i]) return -1;
  }
  if (!packed_workspace &&
      posix_memalign(&packed_workspace, EK_ALIGNMENT, model->workspace_bytes + EK_ALIGNMENT))
    return packed_fail("out of memory");
  const void *const *inputs = (const void *const *)pointers;
  if (model->run(inputs, pointers + model->num_inputs, packed_workspace))
    return packed_fail("the model failed");
  return 0;
}
