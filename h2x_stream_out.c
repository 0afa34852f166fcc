/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Rows of output: what a stream has to send, in memory and in files. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "h2x_memory.h"
#include "h2x_stream.h"

/* A segment takes in what follows while it has room. */
#define SEGMENT_MIN 1024

static h2x_segment *append(h2x_segments *row, apr_size_t size)
{
    h2x_segment *segment = malloc(sizeof(*segment) + size);

    if (!segment) {
        h2x_memory_missing();
        return NULL;
    }
    segment->next = NULL;
    segment->memory = size ? (char *)(segment + 1) : NULL;
    segment->offset = 0;
    segment->len = 0;
    segment->size = size;
    if (row->last) {
        row->last->next = segment;
    }
    else {
        row->first = segment;
    }
    row->last = segment;
    return segment;
}

/* How much fits behind what is in a segment. */
static apr_size_t room_in(const h2x_segment *segment)
{
    return segment->size
           ? segment->size - (apr_size_t)segment->offset - segment->len : 0;
}

/* Finds room for some bytes: at the end of the last segment, or a new one. */
static char *reserve(h2x_segments *row, apr_size_t len)
{
    h2x_segment *segment = row->last;

    if (!segment || room_in(segment) < len) {
        segment = append(row, len > SEGMENT_MIN ? len : SEGMENT_MIN);
    }
    return segment ? (char *)(segment + 1) + segment->offset + segment->len
                   : NULL;
}

static void count_in(h2x_segments *row, apr_size_t len)
{
    row->last->len += len;
    row->bytes += len;
    if (row->last->memory) {
        row->memory += len;
    }
}

apr_status_t h2x_segments_add(h2x_segments *row, const void *data,
                              apr_size_t len)
{
    char *room = reserve(row, len);

    if (!room) {
        return APR_ENOMEM;
    }
    memcpy(room, data, len);
    count_in(row, len);
    return APR_SUCCESS;
}

apr_status_t h2x_segments_borrow(h2x_segments *row, const char *data,
                                 apr_size_t len)
{
    if (!append(row, 0)) {
        return APR_ENOMEM;
    }
    row->last->memory = data;
    count_in(row, len);
    return APR_SUCCESS;
}

/* Does not compile where pread() could not be told each offset of a file. */
typedef char off_t_is_wide_enough[sizeof(off_t) >= sizeof(apr_off_t) ? 1 : -1];

/* Reads all of a part of a file. */
static apr_status_t read_file(apr_os_file_t fd, apr_off_t offset, char *to,
                              apr_size_t len)
{
    while (len) {
        apr_ssize_t n = pread(fd, to, len, offset);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n ? errno : APR_EOF;
        }
        to += n;
        offset += n;
        len -= n;
    }
    return APR_SUCCESS;
}

apr_status_t h2x_segments_add_file(h2x_segments *row, apr_os_file_t fd,
                                   apr_off_t offset, apr_size_t len, int read)
{
    apr_status_t rv = APR_SUCCESS;

    if (read) {
        char *room = reserve(row, len);

        rv = room ? read_file(fd, offset, room, len) : APR_ENOMEM;
    }
    else if (append(row, 0)) {
        row->last->fd = fd;
        row->last->offset = offset;
    }
    else {
        rv = APR_ENOMEM;
    }
    if (rv == APR_SUCCESS) {
        count_in(row, len);
    }
    return rv;
}

/* Is a row but a few bytes that fit into the last segment of another one? */
static int fits_behind(const h2x_segments *to, const h2x_segments *from)
{
    return to->last && from->first->size && from->first == from->last
           && from->first->len <= room_in(to->last);
}

void h2x_segments_move(h2x_segments *to, h2x_segments *from)
{
    if (!from->first) {
        return;
    }
    if (fits_behind(to, from)) {
        /* of many small ones, each would take a segment */
        h2x_segments_add(to, from->first->memory + from->first->offset,
                         from->first->len);
        to->returned += from->returned;
        h2x_segments_clear(from);
        from->returned = 0;
        return;
    }
    if (to->last) {
        to->last->next = from->first;
    }
    else {
        to->first = from->first;
    }
    to->last = from->last;
    to->bytes += from->bytes;
    to->memory += from->memory;
    to->returned += from->returned;
    memset(from, 0, sizeof(*from));
}

static int is_borrowed(const h2x_segment *segment)
{
    return segment->memory && !segment->size;
}

static void drop_first(h2x_segments *row)
{
    h2x_segment *segment = row->first;

    row->first = segment->next;
    if (!row->first) {
        row->last = NULL;
    }
    row->returned += is_borrowed(segment);
    free(segment);
}

apr_status_t h2x_segments_read(h2x_segments *row, char *to, apr_size_t len)
{
    while (len) {
        h2x_segment *segment = row->first;
        apr_size_t n;
        apr_status_t rv;

        if (!segment) {
            return APR_EOF;
        }
        n = (segment->len < len) ? segment->len : len;
        if (segment->memory) {
            memcpy(to, segment->memory + segment->offset, n);
            row->memory -= n;
        }
        else if ((rv = read_file(segment->fd, segment->offset, to, n))
                 != APR_SUCCESS) {
            return rv;
        }
        to += n;
        len -= n;
        segment->offset += n;
        segment->len -= n;
        row->bytes -= n;
        if (!segment->len) {
            drop_first(row);
        }
    }
    return APR_SUCCESS;
}

int h2x_segments_is_in_memory(const h2x_segments *row)
{
    return row->bytes == (apr_off_t)row->memory;
}

int h2x_segments_is_borrowed(const h2x_segments *row)
{
    const h2x_segment *segment = row->first;

    while (segment && !is_borrowed(segment)) {
        segment = segment->next;
    }
    return segment != NULL;
}

apr_status_t h2x_segments_own(h2x_segments *row)
{
    h2x_segment **at, *borrowed, *own;

    for (at = &row->first; *at; at = &(*at)->next) {
        borrowed = *at;
        if (!is_borrowed(borrowed)) {
            continue;
        }
        own = malloc(sizeof(*own) + borrowed->len);
        if (!own) {
            h2x_memory_missing();
            return APR_ENOMEM;
        }
        own->next = borrowed->next;
        own->memory = memcpy(own + 1, borrowed->memory + borrowed->offset,
                             borrowed->len);
        own->offset = 0;
        own->len = own->size = borrowed->len;
        if (row->last == borrowed) {
            row->last = own;
        }
        *at = own;
        ++row->returned;
        free(borrowed);
    }
    return APR_SUCCESS;
}

void h2x_segments_clear(h2x_segments *row)
{
    while (row->first) {
        drop_first(row);
    }
    row->bytes = 0;
    row->memory = 0;
}
