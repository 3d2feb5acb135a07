/* A model as one static program: `NAME [--threads N] [--runs N] INPUT... OUTPUT...`.
 *
 * Every file holds one tensor as raw bytes, inputs first, in the order of the model.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ek_model.h"

static void fail(const char *what, const char *name) {
  fprintf(stderr, "%s: %s\n", what, name);
  exit(1);
}

static void *new_buffer(size_t bytes) {
  void *buffer = NULL;
  if (posix_memalign(&buffer, EK_ALIGNMENT, bytes + EK_ALIGNMENT)) fail("out of memory", "buffer");
  return buffer;
}

static void read_file(const char *path, void *buffer, size_t bytes) {
  FILE *file = fopen(path, "rb");
  if (!file) fail(strerror(errno), path);
  if (fread(buffer, 1, bytes, file) != bytes || fgetc(file) != EOF)
    fail("the file has not the size of its tensor", path);
  fclose(file);
}

static void write_file(const char *path, const void *buffer, size_t bytes) {
  FILE *file = fopen(path, "wb");
  if (!file) fail(strerror(errno), path);
  if (fwrite(buffer, 1, bytes, file) != bytes || fclose(file)) fail("cannot write", path);
}

static double now_ms(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e3 + (double)time.tv_nsec * 1e-6;
}

static int number_option(int *argc, char ***argv, const char *name, int value) {
  if (*argc < 3 || strcmp((*argv)[1], name)) return value;
  value = atoi((*argv)[2]);
  *argc -= 2;
  *argv += 2;
  return value;
}

int main(int argc, char **argv) {
  const ek_model_t *model = ek_model();
  const char *program = argv[0];
  const int threads = number_option(&argc, &argv, "--threads", 1);
  const int runs = number_option(&argc, &argv, "--runs", 1);
  const int num_files = model->num_inputs + model->num_outputs;
  if (argc != num_files + 1 || threads < 1 || runs < 1) {
    fprintf(stderr, "usage: %s [--threads N] [--runs N]", program);
    for (int i = 0; i < model->num_inputs; i++) fprintf(stderr, " %s", model->inputs[i].name);
    for (int i = 0; i < model->num_outputs; i++) fprintf(stderr, " %s", model->outputs[i].name);
    fprintf(stderr, "\n");
    return 2;
  }
  void **buffers = calloc((size_t)num_files, sizeof *buffers);
  if (!buffers) fail("out of memory", "buffers");
  void **outputs = buffers + model->num_inputs;
  for (int i = 0; i < model->num_inputs; i++) {
    buffers[i] = new_buffer(model->inputs[i].bytes);
    read_file(argv[1 + i], buffers[i], model->inputs[i].bytes);
  }
  for (int i = 0; i < model->num_outputs; i++) outputs[i] = new_buffer(model->outputs[i].bytes);
  void *workspace = new_buffer(model->workspace_bytes);
  model->set_threads(threads);
  double best = 0;
  for (int i = 0; i < runs; i++) {
    const double start = now_ms();
    if (model->run((const void *const *)buffers, outputs, workspace)) fail("failed", "run");
    const double taken = now_ms() - start;
    if (i == 0 || taken < best) best = taken;
  }
  for (int i = 0; i < model->num_outputs; i++)
    write_file(argv[1 + model->num_inputs + i], outputs[i], model->outputs[i].bytes);
  if (runs > 1) fprintf(stderr, "%.3f ms, the best of %d runs\n", best, runs);
  return 0;
}
