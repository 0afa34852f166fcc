/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * What nghttp2 lets pass: errors of the connection, and too much of what is
 * allowed.
 */
#ifndef H2X_SESSION_STRICT_H
#define H2X_SESSION_STRICT_H

#include <nghttp2/nghttp2.h>

#include "h2x_session.h"

/** Shows the guard what comes: all frames, as nghttp2 does not tell of those
 * that it ignores, and how long one takes to come. */
void h2x_session_scan(h2x_session *session, const char *data, apr_size_t len);

/** nghttp2's callback for the head of a frame. */
int h2x_session_on_begin_frame(nghttp2_session *ng,
                               const nghttp2_frame_hd *hd, void *baton);

/** Looks whether SETTINGS that have come make a window overflow. */
void h2x_session_check_windows(h2x_session *session);

#endif /* H2X_SESSION_STRICT_H */
