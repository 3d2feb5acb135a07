#include "job.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "json.h"
#include "report.h"

enum { JOB_BYTES_LIMIT = 1 << 20, TEXT_LIMIT = 256 };

static const ek_json_t *get(const ek_json_t *object, const char *key, ek_json_kind_t kind) {
  const ek_json_t *found = NULL;
  for (const ek_json_t *value = object->child; value; value = value->next) {
    if (strcmp(value->key, key)) continue;
    if (found) ek_fail("job: '%s' is given twice", key);
    found = value;
  }
  if (!found) ek_fail("job: '%s' is missing", key);
  if (found->kind != kind) ek_fail("job: '%s' has the wrong type", key);
  return found;
}

static int64_t get_integer(const ek_json_t *object, const char *key, int64_t low, int64_t high) {
  int64_t value = get(object, key, EK_JSON_INTEGER)->integer;
  if (value < low || value > high)
    ek_fail("job: '%s' is %lld, must lie in %lld..%lld", key, (long long)value, (long long)low,
            (long long)high);
  return value;
}

static const char *get_text(const ek_json_t *object, const char *key) {
  const char *text = get(object, key, EK_JSON_STRING)->text;
  if (strlen(text) > TEXT_LIMIT) ek_fail("job: '%s' is too long", key);
  return text;
}

static const char *get_path(const ek_json_t *object, const char *key) {
  const char *path = get(object, key, EK_JSON_STRING)->text;
  if (!ek_path_is_plain(path)) ek_fail("job: '%s' must be a path below the job's folder", key);
  return path;
}

static void refuse_unknown(const ek_json_t *object, const char *const *known) {
  for (const ek_json_t *value = object->child; value; value = value->next) {
    const char *const *name = known;
    while (*name && strcmp(*name, value->key)) name++;
    if (!*name) ek_fail("job: unknown field '%.64s'", value->key);
  }
}

static ek_mode_t get_mode(const ek_json_t *object) {
  static const char *const names[] = {"outputs", "latency", "steps"};
  const char *mode = get_text(object, "mode");
  for (int i = 0; i < 3; i++)
    if (!strcmp(mode, names[i])) return (ek_mode_t)i;
  ek_fail("job: mode is '%s', must be outputs, latency or steps", mode);
}

static void read_input(const ek_json_t *value, int64_t num_items, ek_job_input_t *input) {
  static const char *const known[] = {"name", "file", "dtype", "shape", NULL};
  if (value->kind != EK_JSON_OBJECT) ek_fail("job: an input is not an object");
  refuse_unknown(value, known);
  input->name = get_text(value, "name");
  input->file = get_path(value, "file");
  input->dtype = get_text(value, "dtype");
  const ek_json_t *shape = get(value, "shape", EK_JSON_ARRAY);
  if (shape->count < 1 || shape->count > EK_MAX_DIMS)
    ek_fail("job: input '%s' has %zu dimensions, must be 1..%d", input->name, shape->count,
            EK_MAX_DIMS);
  for (const ek_json_t *size = shape->child; size; size = size->next) {
    if (size->kind != EK_JSON_INTEGER || size->integer < 1 || size->integer > INT32_MAX)
      ek_fail("job: the shape of input '%s' is not made of positive integers", input->name);
    input->shape[input->ndim++] = size->integer;
  }
  if (input->shape[0] != num_items)
    ek_fail("job: input '%s' has %lld items, num_items is %lld", input->name,
            (long long)input->shape[0], (long long)num_items);
}

static void read_inputs(const ek_json_t *list, ek_job_t *job) {
  if (list->count < 1 || list->count > EK_MAX_TENSORS)
    ek_fail("job: %zu inputs, must be 1..%d", list->count, EK_MAX_TENSORS);
  for (const ek_json_t *value = list->child; value; value = value->next)
    read_input(value, job->num_items, &job->inputs[job->num_inputs++]);
}

static void read_job(const ek_json_t *root, ek_job_t *job) {
  static const char *const known[] = {"schema",   "engine",      "model",    "inputs",
                                      "outputs",  "num_items",   "num_runs", "warmup_runs",
                                      "num_threads", "mode", NULL};
  if (root->kind != EK_JSON_OBJECT) ek_fail("job: not an object");
  refuse_unknown(root, known);
  get_integer(root, "schema", 1, 1);
  job->engine = get_text(root, "engine");
  if (strcmp(job->engine, "tvm"))
    ek_fail("job: engine is '%s', this program runs 'tvm' libraries only", job->engine);
  job->model = get_path(root, "model");
  job->outputs = get_path(root, "outputs");
  job->mode = get_mode(root);
  job->num_items = get_integer(root, "num_items", 1, 10000000);
  job->warmup_runs = get_integer(root, "warmup_runs", 0, 1000000);
  job->num_runs = get_integer(root, "num_runs", job->mode != EK_MODE_OUTPUTS, 1000000);
  job->num_threads = get_integer(root, "num_threads", 1, 256);
  read_inputs(get(root, "inputs", EK_JSON_ARRAY), job);
}

const ek_job_t *ek_job_read(const char *path) {
  size_t size;
  const char *error;
  char *text = ek_read_small(path, JOB_BYTES_LIMIT, &size, &error);
  if (!text) ek_fail("job: %s", error);
  const ek_json_t *root = ek_json_parse(text, size, &error);
  if (!root) ek_fail("job: not JSON: %s", error);
  ek_job_t *job = calloc(1, sizeof *job);
  if (!job) ek_fail("out of memory");
  read_job(root, job);
  return job;
}
