#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "report.h"

enum { PATH_LIMIT = 512 };

bool ek_path_is_plain(const char *path) {
  size_t length = strlen(path), start = 0;
  if (length == 0 || length >= PATH_LIMIT) return false;
  for (size_t i = 0; i <= length; i++) {
    if (path[i] != '/' && path[i] != '\0') {
      if ((unsigned char)path[i] < 0x20 || path[i] == 0x7F) return false;
      continue;
    }
    size_t size = i - start;
    if (size == 0) return false; /* also a leading or trailing slash */
    if (path[start] == '.' && (size == 1 || (size == 2 && path[start + 1] == '.'))) return false;
    start = i + 1;
  }
  return true;
}

/* Opens the folder that holds the last component, refusing links on the way; `last` is where
 * that component starts. */
static int open_parent(const char *path, const char **last) {
  char component[PATH_LIMIT];
  int folder = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const char *slash;
  for (*last = path; folder >= 0 && (slash = strchr(*last, '/')); *last = slash + 1) {
    size_t size = (size_t)(slash - *last);
    memcpy(component, *last, size);
    component[size] = '\0';
    int next = openat(folder, component, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int error = errno;
    close(folder);
    errno = error;
    folder = next;
  }
  return folder;
}

int ek_open_file(const char *path, const char *what, int64_t *size) {
  const char *last;
  int folder = open_parent(path, &last), fd = -1;
  /* O_NONBLOCK: a named pipe must not hang the job */
  if (folder >= 0) fd = openat(folder, last, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) ek_fail("cannot open %s '%s': %s", what, path, strerror(errno));
  close(folder);
  struct stat status;
  if (fstat(fd, &status) || !S_ISREG(status.st_mode))
    ek_fail("%s '%s' is not a regular file", what, path);
  *size = status.st_size;
  return fd;
}

static int open_or_make_folder(int parent, const char *name) {
  if (mkdirat(parent, name, 0777) && errno != EEXIST) return -1;
  return openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

int ek_create_output(const char *folder, int index) {
  char name[32];
  const char *last;
  int parent = open_parent(folder, &last), fd = -1;
  int inside = parent < 0 ? -1 : open_or_make_folder(parent, last);
  snprintf(name, sizeof name, "%d.bin", index);
  if (inside >= 0)
    fd = openat(inside, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
  if (fd < 0) ek_fail("cannot create '%s/%s': %s", folder, name, strerror(errno));
  close(parent);
  close(inside);
  return fd;
}

static ssize_t read_some(int fd, char *to, size_t bytes, int64_t offset) {
  ssize_t got;
  do got = pread(fd, to, bytes, (off_t)offset);
  while (got < 0 && errno == EINTR);
  return got;
}

char *ek_read_small(const char *path, size_t limit, size_t *size, const char **error) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  char *text = malloc(limit + 2);
  ssize_t got = 1;
  *error = fd < 0 ? strerror(errno) : text ? NULL : "out of memory";
  for (*size = 0; !*error && got > 0 && *size <= limit; *size += (size_t)got) {
    got = read_some(fd, text + *size, limit + 1 - *size, (int64_t)*size);
    if (got < 0) *error = strerror(errno), got = 0;
  }
  if (!*error && *size > limit) *error = "too large";
  if (fd >= 0) close(fd);
  return *error ? NULL : text;
}

void ek_read_at(int fd, void *to, size_t bytes, int64_t offset, const char *what) {
  for (size_t done = 0; done < bytes;) {
    ssize_t got = read_some(fd, (char *)to + done, bytes - done, offset + (int64_t)done);
    if (got < 0) ek_fail("cannot read %s: %s", what, strerror(errno));
    if (got == 0) ek_fail("%s ended early", what);
    done += (size_t)got;
  }
}

void ek_write_all(int fd, const void *from, size_t bytes, const char *what) {
  for (size_t done = 0; done < bytes;) {
    ssize_t put = write(fd, (const char *)from + done, bytes - done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) ek_fail("cannot write %s: %s", what, strerror(errno));
    done += (size_t)put;
  }
}
