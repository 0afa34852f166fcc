/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* What a client may not do and nghttp2 lets pass: errors of the connection,
 * and too much of what is allowed. */

#include <string.h>

#include <apr_strings.h>

#include "h2x_clock.h"
#include "h2x_conf.h"
#include "h2x_session_impl.h"

/* The greatest window, and the frame size that we never raise (RFC 9113,
 * sections 6.9.1 and 6.5.2). */
#define WINDOW_MAX 0x7fffffff
#define FRAME_MAX 16384

/* More settings than anybody has in one frame, of 6 bytes each. */
#define SETTINGS_MAX 32
#define SETTINGS_ENTRY_LEN 6

void h2x_session_condemn(h2x_session *session, uint32_t code, const char *why)
{
    if (!session->error_reason) {
        session->error = code;
        session->error_reason = why;
    }
}

/* Ends the connection; logs why, unless nghttp2 has ended it already: see
 * on_frame_send(). */
static void terminate(h2x_session *session, uint32_t code, const char *why)
{
    size_t queued = nghttp2_session_get_outbound_queue_size(session->ng);

    h2x_session_check_outside(session);
    nghttp2_session_terminate_session(session->ng, code);
    if (nghttp2_session_get_outbound_queue_size(session->ng) != queued) {
        session->is_condemned = 1;
        LOG(session, APLOG_INFO, "h2x(%s): closing the connection with %s: "
            "%s", LOG_ID(session), nghttp2_http2_strerror(code), why);
    }
}

/* ---- too much of something ---- */

void h2x_session_suspect(h2x_session *session, h2x_event event)
{
    if (!session->excess
        && h2x_guard_is_spent(&session->guard,
                              h2x_guard_prices[event].budget,
                              h2x_clock_now())) {
        session->excess = event;
    }
}

static void terminate_for_excess(h2x_session *session)
{
    const server_rec *s = session->params.server;
    const h2x_price *price = &h2x_guard_prices[session->excess];
    int is_error = (price->budget == H2X_BUDGET_ERRORS);
    char why[128];

    apr_snprintf(why, sizeof(why), "too many %s, see %s (%d)",
                 price->name, is_error ? "H2MaxStreamErrors" : "H2Guard",
                 (int)h2x_conf_get(s, is_error ? H2X_MAX_STREAM_ERRORS
                                               : H2X_GUARD));
    terminate(session, NGHTTP2_ENHANCE_YOUR_CALM, why);
}

void h2x_session_end_condemned(h2x_session *session)
{
    if (session->is_condemned) {
        return;
    }
    if (session->error_reason) {
        terminate(session, session->error, session->error_reason);
    }
    else if (session->excess) {
        terminate_for_excess(session);
    }
}

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

static void read_frame_head(h2x_session *session)
{
    const uint8_t *head = session->frame_head;
    nghttp2_frame_hd *hd = &session->frame;

    hd->length = (size_t)head[0] << 16 | head[1] << 8 | head[2];
    hd->type = head[3];
    hd->flags = head[4];
    session->payload_left = hd->length;
    session->frame_head_len = 0;
    h2x_session_note(session, judge(session, hd));
}

/* Does the head go on that the last frame is of? */
static int is_within_head(const h2x_session *session)
{
    const nghttp2_frame_hd *hd = &session->frame;

    return (hd->type == NGHTTP2_HEADERS || hd->type == NGHTTP2_CONTINUATION)
           && !(hd->flags & NGHTTP2_FLAG_END_HEADERS);
}

/* Is more to come of a frame or head? DATA may come as slowly as its request
 * has time. */
static int is_within_frame(const h2x_session *session)
{
    return session->frame_head_len || is_within_head(session)
           || (session->payload_left
               && session->frame.type != NGHTTP2_DATA);
}

/* Frames have httpd's Timeout to come. Most come in one piece. */
static void check_frame_time(h2x_session *session)
{
    apr_time_t now;

    if (is_within_frame(session)) {
        now = h2x_clock_now();
        if (!session->frame_since) {
            session->frame_since = now;
        }
        else if (now - session->frame_since
                 > session->params.server->timeout) {
            h2x_session_condemn(session, NGHTTP2_ENHANCE_YOUR_CALM,
                                "a frame or head takes longer than Timeout");
        }
    }
}

void h2x_session_scan(h2x_session *session, const char *data, apr_size_t len)
{
    apr_size_t n;

    for (; len; data += n, len -= n) {
        if (session->payload_left) {
            n = (session->payload_left < len) ? session->payload_left : len;
            session->payload_left -= n;
            continue;
        }
        if (!session->frame_head_len && !is_within_head(session)) {
            session->frame_since = 0;
        }
        n = H2X_FRAME_HEAD_LEN - session->frame_head_len;
        n = (n < len) ? n : len;
        memcpy(session->frame_head + session->frame_head_len, data, n);
        session->frame_head_len += n;
        if (session->frame_head_len == H2X_FRAME_HEAD_LEN) {
            read_frame_head(session);
        }
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
        else if (!h2x_session_stream(session, id)) {
            h2x_session_note(session, H2X_EVENT_STRAY_HEAD);
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
        h2x_session_note(session, H2X_EVENT_HEAD);
        session->fields.block_len = 0;
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
        session->update_len = 0;
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
