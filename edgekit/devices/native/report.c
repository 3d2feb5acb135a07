#include "report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EK_PATH_LIMIT = 4096, EK_MESSAGE_LIMIT = 1024 };

static char result_path[EK_PATH_LIMIT];
static char partial_path[EK_PATH_LIMIT];

/* The job's folder becomes the working directory later, so a relative path is made absolute. */
void ek_report_open(const char *path) {
  char folder[EK_PATH_LIMIT] = "";
  if (path[0] != '/' && getcwd(folder, sizeof folder) == NULL) folder[0] = '\0';
  const char *joint = folder[0] ? "/" : "";
  int length = snprintf(partial_path, sizeof partial_path, "%s%s%s.part", folder, joint, path);
  if (length < 0 || (size_t)length >= sizeof partial_path) {
    fprintf(stderr, "device: the path of the result is too long\n");
    exit(2);
  }
  memcpy(result_path, partial_path, (size_t)length - strlen(".part"));
}

FILE *ek_report_begin(void) {
  FILE *file = fopen(partial_path, "wb");
  if (!file) {
    fprintf(stderr, "device: cannot write %s: %s\n", partial_path, strerror(errno));
    exit(2);
  }
  return file;
}

void ek_report_close(FILE *file) {
  int failed = ferror(file);
  failed |= fclose(file);
  if (failed || rename(partial_path, result_path)) {
    fprintf(stderr, "device: cannot write %s: %s\n", result_path, strerror(errno));
    exit(2);
  }
}

/* Length of the UTF-8 sequence at `at`, 0 when it is none. */
static int sequence_length(const unsigned char *at) {
  int length = at[0] < 0x80 ? 1 : at[0] < 0xC2 ? 0 : at[0] < 0xE0 ? 2 : at[0] < 0xF0 ? 3 : 4;
  if (at[0] > 0xF4) return 0;
  for (int i = 1; i < length; i++)
    if ((at[i] & 0xC0) != 0x80) return 0;
  if (length == 3 && at[0] == 0xE0 && at[1] < 0xA0) return 0;  /* overlong */
  if (length == 3 && at[0] == 0xED && at[1] > 0x9F) return 0;  /* surrogates */
  if (length == 4 && at[0] == 0xF0 && at[1] < 0x90) return 0;  /* overlong */
  if (length == 4 && at[0] == 0xF4 && at[1] > 0x8F) return 0;  /* beyond U+10FFFF */
  return length;
}

void ek_report_string(FILE *file, const char *text) {
  if (!text) {
    fputs("null", file);
    return;
  }
  fputc('"', file);
  for (const unsigned char *at = (const unsigned char *)text; *at;) {
    int length = sequence_length(at);
    if (length == 0) {
      fputs("\\ufffd", file);
      at++;
    } else if (length == 1 && (*at < 0x20 || *at == '"' || *at == '\\' || *at == 0x7F)) {
      fprintf(file, "\\u%04x", *at++);
    } else {
      fwrite(at, 1, (size_t)length, file);
      at += length;
    }
  }
  fputc('"', file);
}

void ek_fail(const char *format, ...) {
  char message[EK_MESSAGE_LIMIT];
  va_list values;
  va_start(values, format);
  vsnprintf(message, sizeof message, format, values);
  va_end(values);
  FILE *file = ek_report_begin();
  fputs("{\"schema\":1,\"status\":\"error\",\"error\":", file);
  ek_report_string(file, message);
  fputs("}\n", file);
  ek_report_close(file);
  exit(1);
}
