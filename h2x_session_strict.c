/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* What a client may not do and nghttp2 lets pass: errors of the connection. */

#include "h2x_session_impl.h"

/* The greatest window, and the frame size that we never raise (RFC 9113,
 * sections 6.9.1 and 6.5.2). */
#define WINDOW_MAX 0x7fffffff
#define FRAME_MAX 16384

void h2x_session_condemn(h2x_session *session, uint32_t code, const char *why)
{
    LOG(session, APLOG_INFO, "h2x(%s): %s", LOG_ID(session), why);
    nghttp2_session_terminate_session(session->ng, code);
}

/* ---- identifiers that were skipped (section 5.1.1) ---- */

static int was_skipped(const h2x_session *session, int32_t id)
{
    int i;

    for (i = 0; i < session->gap_count && i < H2X_GAPS; ++i) {
        if (id >= session->gaps[i].first && id <= session->gaps[i].last) {
            return 1;
        }
    }
    return 0;
}

static void check_id(h2x_session *session, int32_t id)
{
    if (id % 2 == 0) {
        return;
    }
    if (id <= session->last_id) {
        if (was_skipped(session, id)) {
            h2x_session_condemn(session, NGHTTP2_PROTOCOL_ERROR,
                                "a stream's identifier falls");
        }
        return;
    }
    if (id > session->last_id + 2) {
        h2x_id_gap *gap = &session->gaps[session->gap_count++ % H2X_GAPS];

        gap->first = session->last_id + 2;
        gap->last = id - 2;
    }
    session->last_id = id;
}

/* ---- windows that grow by a setting (section 6.9.2) ---- */

static void remember_windows(h2x_session *session)
{
    h2x_stream *stream;

    session->window_before = nghttp2_session_get_remote_settings(
        session->ng, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE);
    session->widest = 0;
    APR_RING_FOREACH(stream, &session->all, h2x_stream, all) {
        int32_t window = nghttp2_session_get_stream_remote_window_size(
            session->ng, stream->id);

        if (window > session->widest) {
            session->widest = window;
        }
    }
}

void h2x_session_check_windows(h2x_session *session)
{
    apr_int64_t now = nghttp2_session_get_remote_settings(
        session->ng, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE);

    if (now - session->window_before + session->widest > WINDOW_MAX) {
        h2x_session_condemn(session, NGHTTP2_FLOW_CONTROL_ERROR,
                            "SETTINGS_INITIAL_WINDOW_SIZE makes a window "
                            "overflow");
    }
}

int h2x_session_on_begin_frame(nghttp2_session *ng,
                               const nghttp2_frame_hd *hd, void *baton)
{
    h2x_session *session = baton;

    switch (hd->type) {
    case NGHTTP2_HEADERS:
        check_id(session, hd->stream_id);
        break;
    case NGHTTP2_SETTINGS:
        remember_windows(session);
        break;
    case NGHTTP2_CONTINUATION:
        if (hd->length > FRAME_MAX) {
            h2x_session_condemn(session, NGHTTP2_FRAME_SIZE_ERROR,
                                "CONTINUATION is too large");
        }
        break;
    case NGHTTP2_PRIORITY:
        if (!hd->stream_id) {
            h2x_session_condemn(session, NGHTTP2_PROTOCOL_ERROR,
                                "PRIORITY is on stream 0");
        }
        break;
    }
    return 0;
}
