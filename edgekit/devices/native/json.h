/* A small JSON reader with limits on size, depth and number of values. */
#ifndef EK_JSON_H
#define EK_JSON_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
  EK_JSON_NULL,
  EK_JSON_BOOL,
  EK_JSON_INTEGER, /* fits int64 */
  EK_JSON_NUMBER,  /* any other number; jobs hold none */
  EK_JSON_STRING,
  EK_JSON_ARRAY,
  EK_JSON_OBJECT,
} ek_json_kind_t;

typedef struct ek_json {
  ek_json_kind_t kind;
  int64_t integer;
  const char *text;            /* of a string: UTF-8 as found, without NUL inside */
  const char *key;             /* within an object */
  const struct ek_json *child; /* first value of an array or object */
  const struct ek_json *next;
  size_t count;                /* values of an array or object */
} ek_json_t;

/* Parses `size` bytes at `text`, which is changed and must stay alive. text[size] must be
 * writable. Returns NULL and a reason in *error when it is not one JSON value. */
const ek_json_t *ek_json_parse(char *text, size_t size, const char **error);

#endif
