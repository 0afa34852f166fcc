/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* A session's streams, from the first frame to the last; and its own end. */

#include "h2x_clock.h"
#include "h2x_session_impl.h"

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
    h2x_session_forget_fields(session, stream);
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

void h2x_session_goaway(h2x_session *session)
{
    if (session->state == H2X_SESSION_CLOSED || session->goaway_said) {
        return;
    }
    session->state = H2X_SESSION_DRAINING;
    session->goaway_said = 1;
    session->goaway_id = nghttp2_session_get_last_proc_stream_id(session->ng);
    nghttp2_submit_goaway(session->ng, NGHTTP2_FLAG_NONE, session->goaway_id,
                          NGHTTP2_NO_ERROR, NULL, 0);
}

/* Does what callbacks asked for, and sees whether the session is over. */
void h2x_session_settle(h2x_session *session)
{
    if (session->received) {
        h2x_session_check_outside(session);
        nghttp2_session_consume_connection(session->ng, session->received);
        session->received = 0;
    }
    h2x_session_end_condemned(session);
    if (session->drained && !session->goaway_said) {
        h2x_session_goaway(session);
    }
    if (!session->left && !nghttp2_session_want_read(session->ng)
        && !nghttp2_session_want_write(session->ng)) {
        session->state = H2X_SESSION_CLOSED;
    }
}

/* The session cannot go on: no memory, or a peer that does not listen. */
apr_status_t h2x_session_give_up(h2x_session *session, ssize_t error)
{
    LOG(session, APLOG_INFO, "h2x(%s): closing: %s", LOG_ID(session),
        nghttp2_strerror((int)error));
    session->state = H2X_SESSION_CLOSED;
    return APR_EGENERAL;
}
