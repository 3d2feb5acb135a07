/* Files named in a job: always below the job's folder, never through a link. */
#ifndef EK_FILES_H
#define EK_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether a path is relative, made of plain components ("..", "." and "" are none) and short. */
bool ek_path_is_plain(const char *path);

/* Opens an existing regular file below the working directory; fails the job otherwise. */
int ek_open_file(const char *path, const char *what, int64_t *size);

/* Creates (or empties) the file number `index` of a folder below the working directory. */
int ek_create_output(const char *folder, int index);

/* Reads a whole small file; the buffer has one spare byte. Returns NULL with a reason. */
char *ek_read_small(const char *path, size_t limit, size_t *size, const char **error);

/* Reads or writes exactly `bytes` bytes; fails the job otherwise. */
void ek_read_at(int fd, void *to, size_t bytes, int64_t offset, const char *what);
void ek_write_all(int fd, const void *from, size_t bytes, const char *what);

#endif
