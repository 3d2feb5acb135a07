/* Writing result.json: the only way this program speaks to its runner. */
#ifndef EK_REPORT_H
#define EK_REPORT_H

#include <stdio.h>

/* Names the file that receives the result. It appears at once, by a rename, or not at all. */
void ek_report_open(const char *path);

/* Starts the document; ek_report_close puts it in place. */
FILE *ek_report_begin(void);
void ek_report_close(FILE *file);

/* Writes a JSON string; NULL becomes null, bytes that are not UTF-8 become U+FFFD. */
void ek_report_string(FILE *file, const char *text);

/* Writes an error document and ends the process with status 1. */
#if defined(__GNUC__)
__attribute__((noreturn, format(printf, 1, 2)))
#endif
void ek_fail(const char *format, ...);

#endif
