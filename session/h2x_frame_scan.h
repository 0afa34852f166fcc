/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The frames of a client as they come, seen before nghttp2 reads them: that
 * does not tell of frames that it ignores, nor how long one takes to come.
 * Pure.
 */
#ifndef H2X_FRAME_SCAN_H
#define H2X_FRAME_SCAN_H

#include <apr.h>
#include <apr_time.h>

#include <nghttp2/nghttp2.h>

/** The bytes of a frame before its payload (RFC 9113, section 4.1). */
#define H2X_FRAME_HEAD_LEN 9

/** Where a connection's input is. Its members are h2x_frame_scan.c's. */
typedef struct h2x_frame_scan {
    nghttp2_frame_hd frame; /* the frame that comes; if none of its payload is
                             * left, the last one. Without its stream */
    size_t payload_left;    /* bytes of its payload, or of the client's
                             * preface, which are still to come */
    uint8_t head[H2X_FRAME_HEAD_LEN]; /* of the next frame, so far */
    size_t head_len;        /* bytes of that */
    apr_time_t since;       /* when reading first ended within the frame, or
                             * within the field block that it is of; 0: it did
                             * not */
} h2x_frame_scan;

/** Begins with the client's preface. */
void h2x_frame_scan_init(h2x_frame_scan *scan);

/**
 * Reads up to the end of the next frame head.
 * @param data is moved on, and `len` lowered, by what was read
 * @return the length, type and flags of that frame, until the next call; NULL
 *         when all is read
 */
const nghttp2_frame_hd *h2x_frame_scan_next(h2x_frame_scan *scan,
                                            const char **data,
                                            apr_size_t *len);

/**
 * Returns nonzero if more is to come of a frame or of a field block. DATA may
 * come as slowly as its request has time.
 */
int h2x_frame_scan_is_within(const h2x_frame_scan *scan);

/**
 * Notes that reading ended within a frame.
 * @return nonzero if it has taken longer than the timeout
 */
int h2x_frame_scan_is_late(h2x_frame_scan *scan, apr_time_t now,
                           apr_interval_time_t timeout);

#endif /* H2X_FRAME_SCAN_H */
