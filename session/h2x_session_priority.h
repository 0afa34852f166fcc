/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The priorities of a session (RFC 9218).
 */
#ifndef H2X_SESSION_PRIORITY_H
#define H2X_SESSION_PRIORITY_H

#include <nghttp2/nghttp2.h>

#include "h2x_session.h"

/** Finds the priority of a request that has come. */
void h2x_session_read_priority(h2x_session *session, h2x_stream *stream);

/** nghttp2's callback for a piece of a PRIORITY_UPDATE frame. */
int h2x_session_on_priority_chunk(nghttp2_session *ng,
                                  const nghttp2_frame_hd *hd,
                                  const uint8_t *data, size_t len,
                                  void *baton);

/** nghttp2's callback for the end of one. */
int h2x_session_on_priority_end(nghttp2_session *ng, void **payload,
                                const nghttp2_frame_hd *hd, void *baton);

/** Takes note of a PRIORITY_UPDATE frame that has come, for stream 0 if it is
 * as it should be (RFC 9218, section 7.1). */
void h2x_session_update_priority(h2x_session *session, int32_t frame_id);

/**
 * Merges what a response says of its priority (RFC 9218, section 8); one that
 * was promised has H2PushPriority too.
 */
void h2x_session_merge_priority(h2x_session *session, h2x_stream *stream,
                                const h2x_head *head);

#endif /* H2X_SESSION_PRIORITY_H */
