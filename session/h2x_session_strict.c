/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* What a client may not do and nghttp2 lets pass: errors of the connection,
 * and too much of what is allowed. */

#include "h2x_clock.h"
#include "h2x_session_core.h"
#include "h2x_session_strict.h"

/* The greatest window, and the frame size that we never raise (RFC 9113,
 * sections 6.9.1 and 6.5.2). */
#define WINDOW_MAX 0x7fffffff
#define FRAME_MAX 16384

/* More settings than anybody has in one frame, of 6 bytes each. */
#define SETTINGS_MAX 32
#define SETTINGS_ENTRY_LEN 6

/* ---- too much of something ---- */

/* What a PING costs, but the answer to one. */
static h2x_event judge_ping(h2x_session *session, const nghttp2_frame_hd *hd)
{
    if (hd->flags & NGHTTP2_FLAG_ACK && session->pings_sent) {
        --session->pings_sent;
        return H2X_EVENT_NONE;
    }
    return H2X_EVENT_PING;
}

/* What a frame is to the guard, by its head alone. */
static h2x_event judge(h2x_session *session, const nghttp2_frame_hd *hd)
{
    switch (hd->type) {
    case NGHTTP2_HEADERS:
        return H2X_EVENT_HEADERS;
    case NGHTTP2_CONTINUATION:
        return H2X_EVENT_CONTINUATION;
    case NGHTTP2_DATA:
        return (hd->length || hd->flags & NGHTTP2_FLAG_END_STREAM)
               ? H2X_EVENT_NONE : H2X_EVENT_EMPTY_DATA;
    case NGHTTP2_RST_STREAM:
        return H2X_EVENT_NONE; /* see judge_reset() */
    case NGHTTP2_WINDOW_UPDATE:
        return H2X_EVENT_WINDOW_UPDATE;
    case NGHTTP2_PING:
        return judge_ping(session, hd);
    case NGHTTP2_SETTINGS:
        return (hd->flags & NGHTTP2_FLAG_ACK) ? H2X_EVENT_NONE
                                              : H2X_EVENT_SETTINGS;
    case NGHTTP2_PRIORITY:
    case NGHTTP2_PRIORITY_UPDATE:
        return H2X_EVENT_PRIORITY;
    default:
        return H2X_EVENT_UNKNOWN;
    }
}

/* Frames have httpd's Timeout to come. Most come in one piece. */
static void check_frame_time(h2x_session *session)
{
    if (h2x_frame_scan_is_within(&session->scan)
        && h2x_frame_scan_is_late(&session->scan, h2x_clock_now(),
                                  session->params.server->timeout)) {
        h2x_session_condemn(session, NGHTTP2_ENHANCE_YOUR_CALM,
                            "a frame or head takes longer than Timeout");
    }
}

void h2x_session_scan(h2x_session *session, const char *data, apr_size_t len)
{
    const nghttp2_frame_hd *hd;

    while ((hd = h2x_frame_scan_next(&session->scan, &data, &len))) {
        h2x_session_note(session, judge(session, hd));
    }
    check_frame_time(session);
}

/* What a client's RST_STREAM costs it. */
static h2x_event judge_reset(h2x_session *session, int32_t id)
{
    h2x_stream *stream = h2x_session_stream(session, id);

    return (stream && stream->out.sent == H2X_SENT_NOTHING)
           ? H2X_EVENT_RESET_EARLY : H2X_EVENT_RESET_LATE;
}

/* Looks at the identifier of a field block. */
static void check_id(h2x_session *session, int32_t id)
{
    h2x_id_kind kind = (id % 2) ? h2x_stream_ids_note(&session->ids, id)
                                : H2X_ID_NEW;

    if (kind == H2X_ID_SKIPPED) {
        h2x_session_condemn(session, NGHTTP2_PROTOCOL_ERROR,
                            "a stream's identifier falls");
    }
    else if (kind == H2X_ID_USED && !h2x_session_stream(session, id)) {
        h2x_session_note(session, H2X_EVENT_STRAY_HEAD);
    }
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
        h2x_session_note(session, H2X_EVENT_HEAD);
        h2x_field_account_begin(&session->fields);
        check_id(session, hd->stream_id);
        break;
    case NGHTTP2_RST_STREAM:
        h2x_session_note(session, judge_reset(session, hd->stream_id));
        break;
    case NGHTTP2_SETTINGS:
        if (hd->length > SETTINGS_MAX * SETTINGS_ENTRY_LEN) {
            h2x_session_condemn(session, NGHTTP2_ENHANCE_YOUR_CALM,
                                "SETTINGS has too many entries");
        }
        remember_windows(session);
        break;
    case NGHTTP2_CONTINUATION:
        if (hd->length > FRAME_MAX) {
            h2x_session_condemn(session, NGHTTP2_FRAME_SIZE_ERROR,
                                "CONTINUATION is too large");
        }
        break;
    case NGHTTP2_PRIORITY_UPDATE:
        h2x_priority_update_begin(&session->update);
        break;
    case NGHTTP2_PRIORITY:
        if (!hd->stream_id) {
            h2x_session_condemn(session, NGHTTP2_PROTOCOL_ERROR,
                                "PRIORITY is on stream 0");
        }
        break;
    }
    return h2x_session_go_on(session);
}
