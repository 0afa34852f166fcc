/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Lines for the log that wait until a session's lock is free. */

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <apr_strings.h>

#include <httpd.h>
#include <http_log.h>

#include "h2x.h"
#include "h2x_lock.h"

typedef struct h2x_line {
    struct h2x_line *next;
    const char *file; /* where it was logged, as APLOG_MARK says */
    int line;
    int module_index;
    int level;
    apr_status_t status;
    char text[1]; /* as long as it is */
} h2x_line;

/* Adds an empty line for a text of this length. Returns NULL when there is no
 * room or no memory for it. */
static h2x_line *append(h2x_lines *lines, apr_size_t len)
{
    h2x_line *line = (lines->count < H2X_LINES_MAX)
                     ? malloc(sizeof(*line) + len) : NULL;

    if (!line) {
        ++lines->dropped;
        return NULL;
    }
    line->next = NULL;
    *(lines->count++ ? &lines->last->next : &lines->first) = line;
    lines->last = line;
    return line;
}

void h2x_lines_add_locked(h2x_lock *lock, const char *file, int line,
                          int module_index, int level, apr_status_t status,
                          const conn_rec *c1, const char *format, ...)
{
    h2x_lines *lines = &lock->lines;
    char text[MAX_STRING_LEN];
    apr_size_t len;
    h2x_line *added;
    va_list args;

    h2x_lock_check(lock);
    if (!lines->c1) {
        memset(lines, 0, sizeof(*lines));
        lines->c1 = c1;
    }
    va_start(args, format);
    apr_vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    len = strlen(text);
    added = append(lines, len);
    if (added) {
        added->file = file;
        added->line = line;
        added->module_index = module_index;
        added->level = level;
        added->status = status;
        memcpy(added->text, text, len + 1);
    }
}

/* Writes lines, and frees them. */
static void write_lines(const h2x_lines *lines)
{
    h2x_line *line, *next;

    for (line = lines->first; line; line = next) {
        next = line->next;
        ap_log_cerror_(line->file, line->line, line->module_index,
                       line->level, line->status, lines->c1, "%s",
                       line->text);
        free(line);
    }
    if (lines->dropped) {
        ap_log_cerror(APLOG_MARK, APLOG_INFO, 0, lines->c1,
                      "h2x(%s): %d more lines, which are not logged",
                      lines->c1->log_id, lines->dropped);
    }
}

void h2x_lock_write_lines(h2x_lock *lock)
{
    h2x_lock_check(lock);
    lock->is_writing = 1;
    while (lock->lines.c1) {
        h2x_lines lines = lock->lines;

        lock->lines.c1 = NULL;
        h2x_lock_release(lock);
        write_lines(&lines);
        h2x_lock_acquire(lock);
    }
    lock->is_writing = 0;
}
