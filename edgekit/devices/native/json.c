#include "json.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_LIMIT = 16, VALUE_LIMIT = 16384 };

typedef struct {
  char *at, *end;
  ek_json_t *values;
  size_t used;
  const char *error;
} reader_t;

static bool read_value(reader_t *reader, ek_json_t *value, int depth);

static bool refuse(reader_t *reader, const char *reason) {
  if (!reader->error) reader->error = reason;
  return false;
}

static void skip_space(reader_t *reader) {
  while (reader->at < reader->end && memchr(" \t\r\n", *reader->at, 4)) reader->at++;
}

static bool take(reader_t *reader, char wanted) {
  skip_space(reader);
  if (reader->at == reader->end || *reader->at != wanted) return false;
  reader->at++;
  return true;
}

static ek_json_t *new_value(reader_t *reader) {
  if (reader->used == VALUE_LIMIT) {
    refuse(reader, "too many values");
    return NULL;
  }
  return &reader->values[reader->used++];
}

static bool read_hex(reader_t *reader, uint32_t *code) {
  if (reader->end - reader->at < 4) return refuse(reader, "unfinished escape");
  *code = 0;
  for (int i = 0; i < 4; i++) {
    char c = *reader->at++;
    int digit = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
    if (digit < 0) return refuse(reader, "invalid escape");
    *code = *code * 16 + (uint32_t)digit;
  }
  return true;
}

/* An escape of six characters becomes at most three bytes, a pair of them four: the text never
 * grows, which is why strings are decoded in place. */
static char *write_utf8(char *to, uint32_t code) {
  if (code < 0x80) {
    *to++ = (char)code;
  } else if (code < 0x800) {
    *to++ = (char)(0xC0 | code >> 6);
    *to++ = (char)(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    *to++ = (char)(0xE0 | code >> 12);
    *to++ = (char)(0x80 | (code >> 6 & 0x3F));
    *to++ = (char)(0x80 | (code & 0x3F));
  } else {
    *to++ = (char)(0xF0 | code >> 18);
    *to++ = (char)(0x80 | (code >> 12 & 0x3F));
    *to++ = (char)(0x80 | (code >> 6 & 0x3F));
    *to++ = (char)(0x80 | (code & 0x3F));
  }
  return to;
}

static bool read_unicode_escape(reader_t *reader, uint32_t *code) {
  if (!read_hex(reader, code)) return false;
  if (*code == 0) return refuse(reader, "NUL inside a string");
  if (*code >= 0xDC00 && *code <= 0xDFFF) return refuse(reader, "half of a surrogate pair");
  if (*code < 0xD800 || *code > 0xDBFF) return true;
  uint32_t low;
  if (reader->end - reader->at < 2 || reader->at[0] != '\\' || reader->at[1] != 'u')
    return refuse(reader, "half of a surrogate pair");
  reader->at += 2;
  if (!read_hex(reader, &low)) return false;
  if (low < 0xDC00 || low > 0xDFFF) return refuse(reader, "half of a surrogate pair");
  *code = 0x10000 + ((*code - 0xD800) << 10) + (low - 0xDC00);
  return true;
}

static bool read_escape(reader_t *reader, char **to) {
  static const char names[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
  if (reader->at == reader->end) return refuse(reader, "unfinished escape");
  char name = *reader->at++;
  if (name == 'u') {
    uint32_t code;
    if (!read_unicode_escape(reader, &code)) return false;
    *to = write_utf8(*to, code);
    return true;
  }
  const char *found = memchr(names, name, sizeof names - 1);
  if (!found) return refuse(reader, "invalid escape");
  *(*to)++ = meanings[found - names];
  return true;
}

/* Called behind the opening quote; the result ends with NUL where the closing quote stood, or
 * before it. */
static const char *read_string(reader_t *reader) {
  char *start = reader->at, *to = reader->at;
  while (reader->at < reader->end) {
    char c = *reader->at++;
    if (c == '"') {
      *to = '\0';
      return start;
    }
    if ((unsigned char)c < 0x20) break;
    if (c != '\\') *to++ = c;
    else if (!read_escape(reader, &to)) return NULL;
  }
  refuse(reader, "unfinished string");
  return NULL;
}

static bool is_digit(const reader_t *reader) {
  return reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9';
}

static bool skip_digits(reader_t *reader) {
  if (!is_digit(reader)) return refuse(reader, "invalid number");
  while (is_digit(reader)) reader->at++;
  return true;
}

static bool read_number(reader_t *reader, ek_json_t *value) {
  bool negative = *reader->at == '-', fits = true;
  reader->at += negative;
  const char *first = reader->at;
  uint64_t magnitude = 0;
  while (is_digit(reader)) {
    unsigned digit = (unsigned)(*reader->at++ - '0');
    if (magnitude > ((uint64_t)INT64_MAX - digit) / 10) fits = false;
    else magnitude = magnitude * 10 + digit;
  }
  if (reader->at == first) return refuse(reader, "invalid number");
  if (*first == '0' && reader->at - first > 1) return refuse(reader, "number with leading zero");
  value->kind = fits ? EK_JSON_INTEGER : EK_JSON_NUMBER;
  value->integer = fits ? (negative ? -(int64_t)magnitude : (int64_t)magnitude) : 0;
  if (reader->at < reader->end && *reader->at == '.') {
    value->kind = EK_JSON_NUMBER;
    reader->at++;
    if (!skip_digits(reader)) return false;
  }
  if (reader->at < reader->end && (*reader->at == 'e' || *reader->at == 'E')) {
    value->kind = EK_JSON_NUMBER;
    reader->at++;
    if (reader->at < reader->end && (*reader->at == '+' || *reader->at == '-')) reader->at++;
    if (!skip_digits(reader)) return false;
  }
  return true;
}

static bool read_word(reader_t *reader, ek_json_t *value) {
  static const struct {
    const char *word;
    ek_json_kind_t kind;
    int64_t integer;
  } words[] = {{"null", EK_JSON_NULL, 0}, {"true", EK_JSON_BOOL, 1}, {"false", EK_JSON_BOOL, 0}};
  for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
    size_t length = strlen(words[i].word);
    if ((size_t)(reader->end - reader->at) < length) continue;
    if (memcmp(reader->at, words[i].word, length)) continue;
    reader->at += length;
    value->kind = words[i].kind;
    value->integer = words[i].integer;
    return true;
  }
  return refuse(reader, "not a JSON value");
}

/* Arrays and objects: the same list of values, with keys or without. */
static bool read_list(reader_t *reader, ek_json_t *list, int depth) {
  bool object = *reader->at++ == '{';
  char closing = object ? '}' : ']';
  list->kind = object ? EK_JSON_OBJECT : EK_JSON_ARRAY;
  if (depth == DEPTH_LIMIT) return refuse(reader, "nested too deeply");
  if (take(reader, closing)) return true;
  const ek_json_t **link = &list->child;
  do {
    ek_json_t *value = new_value(reader);
    if (!value) return false;
    if (object) {
      if (!take(reader, '"')) return refuse(reader, "expected a key");
      if (!(value->key = read_string(reader))) return false;
      if (!take(reader, ':')) return refuse(reader, "expected ':'");
    }
    if (!read_value(reader, value, depth + 1)) return false;
    *link = value;
    link = &value->next;
    list->count++;
  } while (take(reader, ','));
  return take(reader, closing) || refuse(reader, "expected ',' or the end of the list");
}

static bool read_value(reader_t *reader, ek_json_t *value, int depth) {
  skip_space(reader);
  if (reader->at == reader->end) return refuse(reader, "unfinished document");
  char c = *reader->at;
  if (c == '{' || c == '[') return read_list(reader, value, depth);
  if (c == '-' || (c >= '0' && c <= '9')) return read_number(reader, value);
  if (c != '"') return read_word(reader, value);
  reader->at++;
  value->kind = EK_JSON_STRING;
  return (value->text = read_string(reader)) != NULL;
}

const ek_json_t *ek_json_parse(char *text, size_t size, const char **error) {
  reader_t reader = {text, text + size, calloc(VALUE_LIMIT, sizeof(ek_json_t)), 0, NULL};
  *error = "out of memory";
  if (!reader.values) return NULL;
  ek_json_t *root = new_value(&reader);
  if (memchr(text, '\0', size)) refuse(&reader, "NUL inside the document");
  else if (read_value(&reader, root, 0)) skip_space(&reader);
  if (!reader.error && reader.at != reader.end) refuse(&reader, "text behind the end");
  *error = reader.error;
  return reader.error ? NULL : root;
}
