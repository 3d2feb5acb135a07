#include "library.h"

#include <dlfcn.h>
#include <elf.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "files.h"
#include "report.h"

enum { STEP_LIMIT = 100000, NAME_LIMIT = 1024 };
static const uint64_t BYTES_LIMIT = (uint64_t)1 << 40;

#if UINTPTR_MAX > UINT32_MAX
typedef Elf64_Ehdr elf_header_t;
typedef Elf64_Phdr elf_segment_t;
enum { OWN_CLASS = ELFCLASS64 };
#else
typedef Elf32_Ehdr elf_header_t;
typedef Elf32_Phdr elf_segment_t;
enum { OWN_CLASS = ELFCLASS32 };
#endif

#if defined(__x86_64__)
enum { OWN_MACHINE = EM_X86_64 };
#elif defined(__aarch64__)
enum { OWN_MACHINE = EM_AARCH64 };
#elif defined(__arm__)
enum { OWN_MACHINE = EM_ARM };
#else
#error "unknown machine"
#endif

/* The loader maps segments without looking at the file's length: a library that was cut off on
 * its way ends the process with SIGBUS. */
static void check_elf(const char *path, int fd, int64_t size) {
  elf_header_t header;
  if (size < (int64_t)sizeof header) ek_fail("library '%s' is not an ELF file", path);
  ek_read_at(fd, &header, sizeof header, 0, "the library");
  if (memcmp(header.e_ident, ELFMAG, SELFMAG)) ek_fail("library '%s' is not an ELF file", path);
  if (header.e_ident[EI_CLASS] != OWN_CLASS || header.e_machine != OWN_MACHINE)
    ek_fail("library '%s' is built for another CPU (ELF machine %d, this device is %d)", path,
            header.e_machine, OWN_MACHINE);
  if (header.e_phentsize != sizeof(elf_segment_t)) ek_fail("library '%s' is damaged", path);
  for (int i = 0; i < header.e_phnum; i++) {
    elf_segment_t segment;
    uint64_t at = header.e_phoff + (uint64_t)i * sizeof segment;
    if (at > (uint64_t)size || (uint64_t)size - at < sizeof segment)
      ek_fail("library '%s' is cut off", path);
    ek_read_at(fd, &segment, sizeof segment, (int64_t)at, "the library");
    if (segment.p_type != PT_LOAD) continue;
    if (segment.p_offset > (uint64_t)size || (uint64_t)size - segment.p_offset < segment.p_filesz)
      ek_fail("library '%s' is cut off", path);
  }
}

static size_t size_of(const char *dtype) {
  static const struct {
    const char *name;
    size_t bytes;
  } known[] = {{"float32", 4}, {"uint8", 1},   {"int8", 1},   {"int64", 8},  {"int32", 4},
               {"bool", 1},    {"float16", 2}, {"int16", 2},  {"uint16", 2}, {"uint32", 4},
               {"uint64", 8},  {"float64", 8}};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (!strcmp(known[i].name, dtype)) return known[i].bytes;
  return 0;
}

static void check_tensor(const ek_tensor_t *tensor, const char *what) {
  if (!tensor->name || !tensor->dtype || strnlen(tensor->name, NAME_LIMIT) == NAME_LIMIT)
    ek_fail("library: an %s has no name or no dtype", what);
  uint64_t bytes = size_of(tensor->dtype);
  if (bytes == 0) ek_fail("library: %s '%s' has an unknown dtype", what, tensor->name);
  if (tensor->ndim < 1 || tensor->ndim > EK_MAX_DIMS || !tensor->shape)
    ek_fail("library: %s '%s' has %d dimensions", what, tensor->name, tensor->ndim);
  for (int d = 0; d < tensor->ndim; d++) {
    int64_t size = tensor->shape[d];
    if (size < 1 || (uint64_t)size > BYTES_LIMIT / bytes)
      ek_fail("library: %s '%s' has an impossible shape", what, tensor->name);
    bytes *= (uint64_t)size;
  }
  if (tensor->shape[0] != 1)
    ek_fail("library: %s '%s' has a batch of %lld, must be 1", what, tensor->name,
            (long long)tensor->shape[0]);
  if (bytes != tensor->bytes)
    ek_fail("library: %s '%s' says %zu bytes, its shape needs %llu", what, tensor->name,
            tensor->bytes, (unsigned long long)bytes);
}

static void check_model(const ek_model_t *model) {
  if (!model) ek_fail("library: ek_model() gave nothing");
  if (model->abi != EK_ABI)
    ek_fail("library has ABI %d, this device executable has %d: compile again", model->abi, EK_ABI);
  if (model->num_inputs < 1 || model->num_inputs > EK_MAX_TENSORS || !model->inputs)
    ek_fail("library has %d inputs, must be 1..%d", model->num_inputs, EK_MAX_TENSORS);
  if (model->num_outputs < 1 || model->num_outputs > EK_MAX_TENSORS || !model->outputs)
    ek_fail("library has %d outputs, must be 1..%d", model->num_outputs, EK_MAX_TENSORS);
  if (!model->run) ek_fail("library has no run function");
  if (model->workspace_bytes > BYTES_LIMIT || model->workspace_bytes > SIZE_MAX / 2)
    ek_fail("library wants a workspace of %zu bytes", model->workspace_bytes);
  if (model->num_steps < 0 || model->num_steps > STEP_LIMIT)
    ek_fail("library has %d steps", model->num_steps);
  for (int i = 0; i < model->num_inputs; i++) check_tensor(&model->inputs[i], "input");
  for (int i = 0; i < model->num_outputs; i++) check_tensor(&model->outputs[i], "output");
}

const ek_model_t *ek_library_open(const char *path) {
  int64_t size;
  int fd = ek_open_file(path, "library", &size);
  check_elf(path, fd, size);
  close(fd);
  char below[1024]; /* a name without a slash would be looked up in system folders */
  snprintf(below, sizeof below, "./%s", path);
  void *library = dlopen(below, RTLD_NOW | RTLD_LOCAL);
  if (!library) ek_fail("cannot load library: %s", dlerror());
  const ek_model_t *(*entry)(void);
  *(void **)&entry = dlsym(library, "ek_model");
  if (!entry) ek_fail("library '%s' has no ek_model function", path);
  const ek_model_t *model = entry();
  check_model(model);
  return model;
}

static const ek_job_input_t *find_input(const ek_job_t *job, const char *name) {
  const ek_job_input_t *found = NULL;
  for (int i = 0; i < job->num_inputs; i++) {
    if (strcmp(job->inputs[i].name, name)) continue;
    if (found) ek_fail("job: input '%s' is given twice", name);
    found = &job->inputs[i];
  }
  if (!found) ek_fail("job: the model's input '%s' is missing", name);
  return found;
}

void ek_library_match(const ek_model_t *model, const ek_job_t *job, int *fds) {
  if (job->num_inputs != model->num_inputs)
    ek_fail("job: %d inputs, the model has %d", job->num_inputs, model->num_inputs);
  for (int i = 0; i < model->num_inputs; i++) {
    const ek_tensor_t *tensor = &model->inputs[i];
    const ek_job_input_t *input = find_input(job, tensor->name);
    if (strcmp(input->dtype, tensor->dtype))
      ek_fail("job: input '%s' is %s, the model takes %s", input->name, input->dtype,
              tensor->dtype);
    bool same = input->ndim == tensor->ndim;
    for (int d = 1; same && d < tensor->ndim; d++) same = input->shape[d] == tensor->shape[d];
    if (!same) ek_fail("job: input '%s' doesn't have the model's shape", input->name);
    int64_t size;
    fds[i] = ek_open_file(input->file, "input", &size);
    if ((uint64_t)job->num_items > UINT64_MAX / 2 / tensor->bytes ||
        (uint64_t)size != (uint64_t)job->num_items * tensor->bytes)
      ek_fail("job: file '%s' of input '%s' has %lld bytes, %lld items need %zu each",
              input->file, input->name, (long long)size, (long long)job->num_items,
              tensor->bytes);
  }
}
