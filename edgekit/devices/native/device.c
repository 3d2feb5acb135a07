/* The device executable: runs a compiled model on the files a job names.
 *
 *     device JOB.json RESULT.json
 *     device --version
 *
 * Exit status 0: result.json holds the results. 1: it holds an error. 2: it could not be written
 * or the arguments are wrong. Job and library are checked before anything runs; a library's own
 * code is trusted, so a fault in it ends this process by a signal, which the runner reports.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files.h"
#include "host.h"
#include "library.h"
#include "report.h"

enum { GUARD_BYTES = EK_ALIGNMENT, GUARD = 0xA5 };

typedef struct {
  const ek_job_t *job;
  const ek_model_t *model;
  int in_files[EK_MAX_TENSORS], out_files[EK_MAX_TENSORS];
  void *inputs[EK_MAX_TENSORS], *outputs[EK_MAX_TENSORS], *workspace;
  int64_t loaded_item;
  int threads;
  double load_us, first_run_us, *times_us, *step_us;
} session_t;

/* The bytes behind every buffer carry a pattern that a correct library leaves alone. What the
 * library does not touch is not touched here either: it would count as memory in use. */
static void *new_buffer(size_t bytes) {
  void *buffer = NULL;
  if (posix_memalign(&buffer, EK_ALIGNMENT, bytes + GUARD_BYTES))
    ek_fail("out of memory: %zu bytes", bytes);
  memset((unsigned char *)buffer + bytes, GUARD, GUARD_BYTES);
  return buffer;
}

static void check_guard(const void *buffer, size_t bytes, const char *what) {
  const unsigned char *guard = (const unsigned char *)buffer + bytes;
  for (int i = 0; i < GUARD_BYTES; i++)
    if (guard[i] != GUARD) ek_fail("the library wrote behind the end of %s", what);
}

static void check_guards(const session_t *s) {
  for (int i = 0; i < s->model->num_inputs; i++)
    check_guard(s->inputs[i], s->model->inputs[i].bytes, "an input");
  for (int i = 0; i < s->model->num_outputs; i++)
    check_guard(s->outputs[i], s->model->outputs[i].bytes, "an output");
  check_guard(s->workspace, s->model->workspace_bytes, "the workspace");
}

static int set_threads(const ek_model_t *model, int wanted) {
  int threads = model->set_threads ? model->set_threads(wanted) : 1;
  if (threads < 1) ek_fail("the library could not start %d threads", wanted);
  return threads;
}

static double *new_times(int64_t count) {
  double *times = calloc((size_t)count + 1, sizeof *times);
  if (!times) ek_fail("out of memory");
  return times;
}

static void open_session(session_t *s, const ek_job_t *job) {
  double start = ek_now_us();
  s->job = job;
  s->model = ek_library_open(job->model);
  if (job->mode == EK_MODE_STEPS && (!s->model->step || !s->model->step_names))
    ek_fail("library has no steps to time");
  s->threads = set_threads(s->model, (int)job->num_threads);
  ek_library_match(s->model, job, s->in_files);
  for (int i = 0; i < s->model->num_inputs; i++)
    s->inputs[i] = new_buffer(s->model->inputs[i].bytes);
  for (int i = 0; i < s->model->num_outputs; i++) {
    s->outputs[i] = new_buffer(s->model->outputs[i].bytes);
    s->out_files[i] = ek_create_output(job->outputs, i);
  }
  s->workspace = new_buffer(s->model->workspace_bytes);
  s->loaded_item = -1;
  s->load_us = ek_now_us() - start;
  s->times_us = new_times(job->mode == EK_MODE_LATENCY ? job->num_runs : 0);
  s->step_us = new_times(s->model->num_steps);
}

static void load_item(session_t *s, int64_t item) {
  if (s->loaded_item == item) return;
  for (int i = 0; i < s->model->num_inputs; i++) {
    size_t bytes = s->model->inputs[i].bytes;
    ek_read_at(s->in_files[i], s->inputs[i], bytes, item * (int64_t)bytes, "an input");
  }
  s->loaded_item = item;
}

static double run(session_t *s) {
  const void *const *inputs = (const void *const *)s->inputs;
  ek_mark();
  double start = ek_now_us();
  int status = s->model->run(inputs, s->outputs, s->workspace);
  double duration = ek_now_us() - start;
  ek_mark();
  if (status) ek_fail("the model's run function returned %d", status);
  return duration;
}

static void run_steps(session_t *s) {
  const void *const *inputs = (const void *const *)s->inputs;
  for (int i = 0; i < s->model->num_steps; i++) {
    ek_mark();
    double start = ek_now_us();
    int status = s->model->step(i, inputs, s->outputs, s->workspace);
    s->step_us[i] += ek_now_us() - start;
    ek_mark();
    if (status) ek_fail("step %d of the model returned %d", i, status);
  }
}

static void run_items(session_t *s) {
  for (int64_t item = 0; item < s->job->num_items; item++) {
    load_item(s, item);
    double duration = run(s);
    if (item == 0) {
      s->first_run_us = duration;
      check_guards(s);
    }
    for (int i = 0; i < s->model->num_outputs; i++)
      ek_write_all(s->out_files[i], s->outputs[i], s->model->outputs[i].bytes, "an output");
  }
}

static void run_timed(session_t *s) {
  int64_t total = s->job->warmup_runs + s->job->num_runs;
  for (int64_t i = 0; i < total; i++) {
    load_item(s, i % s->job->num_items);
    int64_t timed = i - s->job->warmup_runs;
    if (s->job->mode == EK_MODE_STEPS && timed >= 0) {
      run_steps(s);
      continue;
    }
    double duration = run(s);
    if (timed >= 0) s->times_us[timed] = duration;
  }
}

static void write_shape(FILE *file, const session_t *s, const ek_tensor_t *tensor) {
  fprintf(file, "[%lld", (long long)s->job->num_items);
  for (int d = 1; d < tensor->ndim; d++) fprintf(file, ",%lld", (long long)tensor->shape[d]);
  fputc(']', file);
}

static void write_outputs(FILE *file, const session_t *s) {
  fputs(",\"outputs\":[", file);
  for (int i = 0; i < s->model->num_outputs; i++) {
    fputs(i ? ",{\"name\":" : "{\"name\":", file);
    ek_report_string(file, s->model->outputs[i].name);
    fputs(",\"file\":", file);
    char path[1024];
    snprintf(path, sizeof path, "%s/%d.bin", s->job->outputs, i);
    ek_report_string(file, path);
    fprintf(file, ",\"dtype\":\"%s\",\"shape\":", s->model->outputs[i].dtype);
    write_shape(file, s, &s->model->outputs[i]);
    fputc('}', file);
  }
  fputc(']', file);
}

static void write_times(FILE *file, const session_t *s) {
  int64_t count = s->job->mode == EK_MODE_LATENCY ? s->job->num_runs : 0;
  fputs(",\"times_us\":[", file);
  for (int64_t i = 0; i < count; i++) fprintf(file, i ? ",%.3f" : "%.3f", s->times_us[i]);
  fputc(']', file);
  if (s->job->mode != EK_MODE_STEPS) return;
  fputs(",\"steps\":[", file);
  for (int i = 0; i < s->model->num_steps; i++) {
    fputs(i ? ",{\"name\":" : "{\"name\":", file);
    ek_report_string(file, s->model->step_names[i] ? s->model->step_names[i] : "");
    fprintf(file, ",\"us\":%.3f}", s->step_us[i] / (double)s->job->num_runs);
  }
  fputc(']', file);
}

static void write_result(const session_t *s, const ek_cpu_state_t *before) {
  ek_cpu_state_t after = ek_cpu_state();
  FILE *file = ek_report_begin();
  fputs("{\"schema\":1,\"status\":\"ok\"", file);
  write_outputs(file, s);
  write_times(file, s);
  fprintf(file, ",\"first_run_us\":%.3f,\"load_us\":%.3f,\"threads\":%d", s->first_run_us,
          s->load_us, s->threads);
  int64_t rss = ek_peak_rss_kib();
  if (rss >= 0) fprintf(file, ",\"peak_rss_kib\":%lld", (long long)rss);
  fputs(",\"device\":", file);
  ek_write_device(file, before, &after);
  fputs("}\n", file);
  ek_report_close(file);
}

/* Everything a job names lies below its own folder, which becomes the working directory. */
static void enter_folder_of(char *path) {
  char *slash = strrchr(path, '/');
  if (!slash) return;
  *slash = '\0';
  if (chdir(slash == path ? "/" : path)) ek_fail("cannot enter the job's folder");
}

int main(int argc, char **argv) {
  if (argc == 2 && !strcmp(argv[1], "--version")) {
    printf("device executable, ABI %d, %d bits\n", EK_ABI, (int)(8 * sizeof(void *)));
    return 0;
  }
  if (argc != 3) {
    fprintf(stderr, "usage: device JOB.json RESULT.json\n");
    return 2;
  }
  static session_t session;
  ek_die_with_parent();
  ek_report_open(argv[2]);
  const ek_job_t *job = ek_job_read(argv[1]);
  enter_folder_of(argv[1]);
  open_session(&session, job);
  ek_cpu_state_t before = ek_cpu_state();
  run_items(&session);
  if (job->mode != EK_MODE_OUTPUTS) run_timed(&session);
  check_guards(&session);
  write_result(&session, &before);
  return 0;
}
