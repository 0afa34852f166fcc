/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <string.h>

#include "h2x_frame_scan.h"

void h2x_frame_scan_init(h2x_frame_scan *scan)
{
    memset(scan, 0, sizeof(*scan));
    scan->payload_left = NGHTTP2_CLIENT_MAGIC_LEN;
    scan->frame.type = NGHTTP2_SETTINGS; /* as good as any but DATA */
}

static void read_head(h2x_frame_scan *scan)
{
    const uint8_t *head = scan->head;

    scan->frame.length = (size_t)head[0] << 16 | head[1] << 8 | head[2];
    scan->frame.type = head[3];
    scan->frame.flags = head[4];
    scan->payload_left = scan->frame.length;
    scan->head_len = 0;
}

/* Returns nonzero if the last frame is of a field block that goes on. */
static int is_within_block(const h2x_frame_scan *scan)
{
    const nghttp2_frame_hd *frame = &scan->frame;

    return (frame->type == NGHTTP2_HEADERS
            || frame->type == NGHTTP2_CONTINUATION)
           && !(frame->flags & NGHTTP2_FLAG_END_HEADERS);
}

/* Moves on, by no more than is there. Returns by how many bytes. */
static size_t move_on(const char **data, apr_size_t *len, size_t n)
{
    n = (n < *len) ? n : *len;
    *data += n;
    *len -= n;
    return n;
}

const nghttp2_frame_hd *h2x_frame_scan_next(h2x_frame_scan *scan,
                                            const char **data,
                                            apr_size_t *len)
{
    const char *head;
    size_t n;

    scan->payload_left -= move_on(data, len, scan->payload_left);
    if (!*len) {
        return NULL;
    }
    if (!scan->head_len && !is_within_block(scan)) {
        scan->since = 0;
    }
    head = *data;
    n = move_on(data, len, H2X_FRAME_HEAD_LEN - scan->head_len);
    memcpy(scan->head + scan->head_len, head, n);
    scan->head_len += n;
    if (scan->head_len < H2X_FRAME_HEAD_LEN) {
        return NULL;
    }
    read_head(scan);
    return &scan->frame;
}

int h2x_frame_scan_is_within(const h2x_frame_scan *scan)
{
    return scan->head_len || is_within_block(scan)
           || (scan->payload_left && scan->frame.type != NGHTTP2_DATA);
}

int h2x_frame_scan_is_late(h2x_frame_scan *scan, apr_time_t now,
                           apr_interval_time_t timeout)
{
    if (!scan->since) {
        scan->since = now;
    }
    return now - scan->since > timeout;
}
