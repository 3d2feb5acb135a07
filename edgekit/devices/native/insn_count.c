/* A qemu plugin (TCG, API version 1) that counts the instructions a guest program executes.
 *
 * One inline addition per translated block: cheap, and exact for one thread. The device programs
 * mark the start and the end of every run by getpriority(EK_MARK_WHICH, ...), a call no other
 * program makes; at each mark the count so far is kept. At exit the file named by
 * EDGEKIT_COUNT_FILE receives one count per mark and the total last.
 *
 * Source: qemu's documentation of TCG plugins. The few declarations needed stand here, because
 * distributions don't package qemu-plugin.h with qemu-user.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;

typedef struct {
  const char *target_name;
  struct {
    int min, cur;
  } version;
  bool system_emulation;
  union {
    struct {
      int smp_vcpus, max_vcpus;
    } system;
  };
} qemu_info_t;

enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };

extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
                                                  void (*call)(qemu_plugin_id_t,
                                                               struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *block,
                                                     enum qemu_plugin_op op, void *to,
                                                     uint64_t value);
extern void qemu_plugin_register_vcpu_syscall_cb(
    qemu_plugin_id_t id, void (*call)(qemu_plugin_id_t, unsigned int vcpu, int64_t number,
                                      uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                                      uint64_t, uint64_t));
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id,
                                           void (*call)(qemu_plugin_id_t, void *), void *data);

enum { API_VERSION = 1, EK_MARK_WHICH = 0x656B };
enum { GETPRIORITY_AARCH64 = 141, GETPRIORITY_ARM = 96 };

static uint64_t count, *marks;
static size_t num_marks, room;

static void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
  (void)id;
  qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &count,
                                           qemu_plugin_tb_n_insns(block));
}

static void on_syscall(qemu_plugin_id_t id, unsigned int vcpu, int64_t number, uint64_t a1,
                       uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6,
                       uint64_t a7, uint64_t a8) {
  (void)id, (void)vcpu, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
  if (a1 != EK_MARK_WHICH || (number != GETPRIORITY_AARCH64 && number != GETPRIORITY_ARM)) return;
  if (num_marks == room) {
    room = room ? 2 * room : 1024;
    marks = realloc(marks, room * sizeof *marks);
    if (!marks) abort();
  }
  marks[num_marks++] = count;
}

static void at_exit(qemu_plugin_id_t id, void *data) {
  (void)id, (void)data;
  const char *path = getenv("EDGEKIT_COUNT_FILE");
  FILE *file = path ? fopen(path, "w") : NULL;
  if (!file) return;
  for (size_t i = 0; i < num_marks; i++) fprintf(file, "%" PRIu64 "\n", marks[i]);
  fprintf(file, "%" PRIu64 "\n", count);
  fclose(file);
}

EXPORT int qemu_plugin_version = API_VERSION;

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc,
                               char **argv) {
  (void)info, (void)argc, (void)argv;
  qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
  qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
  qemu_plugin_register_atexit_cb(id, at_exit, NULL);
  return 0;
}
