#include "host.h"

#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "report.h"

enum { LINE_LIMIT = 1024, EK_MARK_WHICH = 0x656B };

double ek_now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e6 + (double)now.tv_nsec * 1e-3;
}

/* Copies what stands behind "key<spaces>:" in a file of such lines; false when there is none. */
static bool read_key(const char *path, const char *key, char *value, size_t limit) {
  char line[LINE_LIMIT];
  bool found = false;
  FILE *file = fopen(path, "r");
  while (file && !found && fgets(line, sizeof line, file)) {
    char *colon = strchr(line, ':');
    if (!colon || strncmp(line, key, strlen(key))) continue;
    if (strspn(line + strlen(key), " \t") != (size_t)(colon - line) - strlen(key)) continue;
    char *text = colon + 1 + strspn(colon + 1, " \t");
    text[strcspn(text, "\r\n")] = '\0';
    snprintf(value, limit, "%s", text);
    found = true;
  }
  if (file) fclose(file);
  return found;
}

static bool read_line(const char *path, char *value, size_t limit) {
  FILE *file = fopen(path, "r");
  bool found = file && fgets(value, (int)limit, file);
  if (file) fclose(file);
  if (found) value[strcspn(value, "\r\n")] = '\0';
  return found && value[0];
}

/* Not getrusage: after a vfork its maximum includes the parent's, a Python of hundreds of MiB. */
int64_t ek_peak_rss_kib(void) {
  char value[LINE_LIMIT];
  return read_key("/proc/self/status", "VmHWM", value, sizeof value) ? atoll(value) : -1;
}

static double read_scaled(const char *path, double scale, int base) {
  char value[LINE_LIMIT], *end;
  if (!read_line(path, value, sizeof value)) return NAN;
  double number = base == 16 ? (double)strtoull(value, &end, 16) : strtod(value, &end);
  return end == value ? NAN : number * scale;
}

ek_cpu_state_t ek_cpu_state(void) {
  ek_cpu_state_t state;
  char clock[LINE_LIMIT];
  state.clock_mhz = read_scaled("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", 1e-3, 10);
  if (isnan(state.clock_mhz) && read_key("/proc/cpuinfo", "cpu MHz", clock, sizeof clock))
    state.clock_mhz = atof(clock);
  state.temperature_c = read_scaled("/sys/class/thermal/thermal_zone0/temp", 1e-3, 10);
  state.throttled =
      read_scaled("/sys/devices/platform/soc/soc:firmware/get_throttled", 1, 16);
  return state;
}

static void write_number(FILE *file, double value) {
  if (isfinite(value)) fprintf(file, "%.3f", value);
  else fputs("null", file);
}

static void write_pair(FILE *file, const char *name, double before, double after) {
  fprintf(file, ",\"%s\":[", name);
  write_number(file, before);
  fputc(',', file);
  write_number(file, after);
  fputc(']', file);
}

void ek_write_device(FILE *file, const ek_cpu_state_t *before, const ek_cpu_state_t *after) {
  char model[LINE_LIMIT], governor[LINE_LIMIT];
  bool named = read_line("/proc/device-tree/model", model, sizeof model) ||
               read_key("/proc/cpuinfo", "model name", model, sizeof model) ||
               read_key("/proc/cpuinfo", "Model", model, sizeof model) ||
               read_key("/proc/cpuinfo", "CPU part", model, sizeof model);
  bool governed = read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", governor,
                            sizeof governor);
  fputs("{\"cpu_model\":", file);
  ek_report_string(file, named ? model : NULL);
  fputs(",\"governor\":", file);
  ek_report_string(file, governed ? governor : NULL);
  fprintf(file, ",\"cores\":%ld", sysconf(_SC_NPROCESSORS_ONLN));
  write_pair(file, "clock_mhz", before->clock_mhz, after->clock_mhz);
  write_pair(file, "temperature_c", before->temperature_c, after->temperature_c);
  write_pair(file, "throttled", before->throttled, after->throttled);
  fputc('}', file);
}

void ek_die_with_parent(void) {
  const char *parent = getenv("EDGEKIT_PARENT");
  if (!parent) return;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != atol(parent)) exit(2); /* it died before the call */
}

void ek_mark(void) {
  static int marking = -1;
  if (marking < 0) marking = getenv("EDGEKIT_MARK") != NULL;
  if (marking) syscall(SYS_getpriority, EK_MARK_WHICH, 0);
}
