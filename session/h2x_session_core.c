/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* A session's streams, from the first frame to the last; and its own end. */

#include <string.h>

#include <apr_strings.h>

#include "h2x_clock.h"
#include "h2x_conf.h"
#include "h2x_session_core.h"

/* Marks the PING that goes with the first GOAWAY. */
static const uint8_t drain_mark[8] = { 'h', '2', 'x', 'd', 'r', 'a', 'i', 'n' };

/* ---- streams ---- */

h2x_stream *h2x_session_add(h2x_session *session, int32_t id)
{
    h2x_stream *stream = h2x_stream_acquire(session->params.store, id,
                                            session->params.lock);

    if (stream) {
        stream->owner = session->params.stream_owner;
        stream->owner_baton = session->params.baton;
        stream->limits.min_rate = session->min_rate;
        APR_RING_INSERT_TAIL(&session->all, stream, h2x_stream, all);
        if (!session->stream_count++) {
            session->progress = h2x_clock_now(); /* nothing was to be sent */
        }
    }
    return stream;
}

void h2x_session_enqueue(h2x_session *session, h2x_stream *stream)
{
    stream->request.received = apr_time_now();
    h2x_stream_advance_locked(stream, H2X_STREAM_QUEUED);
    session->params.owner->ready(session->params.baton, stream);
}

void h2x_session_forget_window(h2x_session *session, h2x_stream *stream)
{
    h2x_windows_give_back(&session->windows, &stream->wider_by,
                          stream->wider_by);
}

void h2x_session_close_stream(h2x_session *session, h2x_stream *stream)
{
    stream->is_closed = 1;
    if (stream->in.state != H2X_INPUT_ENDED
        || stream->out.sent != H2X_SENT_END) {
        h2x_stream_drop_input_locked(stream);
    }
    h2x_session_forget_window(session, stream);
    h2x_session_remove_news(stream);
    h2x_stream_wake_locked(stream);
    session->params.owner->closed(session->params.baton, stream);
}

void h2x_session_release(h2x_session *session, h2x_stream *stream)
{
    h2x_lock_check(session->params.lock);
    h2x_session_remove_news(stream);
    h2x_field_account_release(&session->fields, stream->kept);
    stream->kept = 0;
    APR_RING_REMOVE(stream, all);
    if (!--session->stream_count) {
        session->idle_since = h2x_clock_now();
    }
    if (stream->limits.keep_alive) {
        session->keep_alive = stream->limits.keep_alive;
    }
    session->promised_count -= (stream->promised_on != 0);
    h2x_stream_release(session->params.store, stream);
}

/* ---- the end ---- */

void h2x_session_advance(h2x_session *session, h2x_session_end end)
{
    ap_assert(end > session->end);
    session->end = end;
}

h2x_session_state h2x_session_get_state(const h2x_session *session)
{
    return (session->end >= H2X_END_CLOSED) ? H2X_SESSION_CLOSED
         : (session->end > H2X_END_OPEN) ? H2X_SESSION_DRAINING
         : H2X_SESSION_OPEN;
}

int h2x_session_has_failed(const h2x_session *session)
{
    return session->end == H2X_END_FAILED
           || session->end == H2X_END_CLOSED_FAILED;
}

int h2x_session_is_condemned(const h2x_session *session)
{
    return session->end >= H2X_END_TERMINATED;
}

void h2x_session_drain(h2x_session *session)
{
    if (session->end == H2X_END_OPEN) {
        h2x_session_advance(session, H2X_END_NOTICE);
        nghttp2_submit_shutdown_notice(session->ng);
        nghttp2_submit_ping(session->ng, NGHTTP2_FLAG_NONE, drain_mark);
    }
}

void h2x_session_check_drained(h2x_session *session, const uint8_t *data)
{
    if (session->end == H2X_END_NOTICE
        && !memcmp(data, drain_mark, sizeof(drain_mark))) {
        h2x_session_advance(session, H2X_END_ANSWERED);
    }
}

void h2x_session_goaway(h2x_session *session)
{
    if (session->end < H2X_END_GOAWAY) {
        h2x_session_advance(session, H2X_END_GOAWAY);
        session->goaway_id
            = nghttp2_session_get_last_proc_stream_id(session->ng);
        nghttp2_submit_goaway(session->ng, NGHTTP2_FLAG_NONE,
                              session->goaway_id, NGHTTP2_NO_ERROR, NULL, 0);
    }
}

void h2x_session_condemn(h2x_session *session, uint32_t code, const char *why)
{
    if (session->end < H2X_END_CONDEMNED) {
        h2x_session_advance(session, H2X_END_CONDEMNED);
        session->error = code;
        session->error_reason = why;
    }
}

void h2x_session_suspect(h2x_session *session, h2x_event event)
{
    if (!session->excess
        && h2x_guard_is_spent(&session->guard,
                              h2x_guard_prices[event].budget,
                              h2x_clock_now())) {
        session->excess = event;
        h2x_session_condemn(session, NGHTTP2_ENHANCE_YOUR_CALM, NULL);
    }
}

/* Says what was too much. */
static const char *describe_excess(const h2x_session *session, char *why,
                                   apr_size_t size)
{
    const server_rec *s = session->params.server;
    const h2x_price *price = &h2x_guard_prices[session->excess];
    int is_error = (price->budget == H2X_BUDGET_ERRORS);

    apr_snprintf(why, size, "too many %s, see %s (%d)",
                 price->name, is_error ? "H2MaxStreamErrors" : "H2Guard",
                 (int)h2x_conf_get(s, is_error ? H2X_MAX_STREAM_ERRORS
                                               : H2X_GUARD));
    return why;
}

/* Ends the connection; logs why, unless nghttp2 has ended it already: see
 * on_frame_send(). */
static void terminate(h2x_session *session)
{
    size_t queued = nghttp2_session_get_outbound_queue_size(session->ng);
    char why[128];

    h2x_session_check_outside(session);
    nghttp2_session_terminate_session(session->ng, session->error);
    if (nghttp2_session_get_outbound_queue_size(session->ng) != queued) {
        h2x_session_advance(session, H2X_END_TERMINATED);
        LOG(session, APLOG_INFO, "h2x(%s): closing the connection with %s: "
            "%s", LOG_ID(session), nghttp2_http2_strerror(session->error),
            session->error_reason ? session->error_reason
                                  : describe_excess(session, why,
                                                    sizeof(why)));
    }
}

void h2x_session_settle(h2x_session *session)
{
    if (session->received) {
        h2x_session_check_outside(session);
        nghttp2_session_consume_connection(session->ng, session->received);
        session->received = 0;
    }
    if (session->end == H2X_END_CONDEMNED) {
        terminate(session);
    }
    if (session->end == H2X_END_ANSWERED) {
        h2x_session_goaway(session);
    }
    if (!session->left && !nghttp2_session_want_read(session->ng)
        && !nghttp2_session_want_write(session->ng)) {
        h2x_session_close(session);
    }
}

void h2x_session_close(h2x_session *session)
{
    if (session->end < H2X_END_CLOSED) {
        h2x_session_advance(session, session->end == H2X_END_FAILED
                                     ? H2X_END_CLOSED_FAILED
                                     : H2X_END_CLOSED);
    }
}

apr_status_t h2x_session_give_up(h2x_session *session, ssize_t error)
{
    LOG(session, APLOG_INFO, "h2x(%s): closing: %s", LOG_ID(session),
        nghttp2_strerror((int)error));
    h2x_session_close(session);
    return APR_EGENERAL;
}
