/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The half of a session that sends. */

#include <stdlib.h>
#include <string.h>

#include "h2x_clock.h"
#include "h2x_session_core.h"
#include "h2x_session_out.h"
#include "h2x_session_priority.h"
#include "h2x_session_push.h"

/* A DATA frame is not made shorter than this to fill a buffer, and no less is
 * left of a window. */
#define DATA_MIN 1024

/* Nor longer than a client takes that has not said otherwise. */
#define DATA_MAX (16 * 1024)

/* A client whose windows make them shorter than this, dribbles. */
#define DATA_TINY 64

static apr_size_t room(const h2x_session *session)
{
    return session->buffer->size - session->buffer->len;
}

/* How much the client takes at once of a stream: more than 0. */
static size_t window_of(nghttp2_session *ng, int32_t id)
{
    int32_t of_stream = nghttp2_session_get_stream_remote_window_size(ng, id);
    int32_t of_all = nghttp2_session_get_remote_window_size(ng);

    return of_stream < of_all ? of_stream : of_all;
}

/*
 * Shortens a DATA frame to go into the buffer, and to leave some of a window
 * that is smaller than what there is to send. A client that gives windows back
 * frame by frame gives them in these pieces: where one is small, so are frames
 * from then on.
 */
static size_t cut(nghttp2_session *ng, int32_t id, size_t length,
                  apr_off_t left, apr_size_t free_len)
{
    size_t most = length, rest;

    if (free_len >= DATA_MIN + H2X_FRAME_HEAD_LEN
        && length > free_len - H2X_FRAME_HEAD_LEN) {
        length = free_len - H2X_FRAME_HEAD_LEN;
    }
    if (left <= (apr_off_t)length) {
        return length;
    }
    rest = window_of(ng, id) - length;
    return (!rest || rest >= DATA_MIN) ? length
         : (length >= 2 * DATA_MIN) ? length - (DATA_MIN - rest) : most;
}

/*
 * Says how many bytes of a body the next DATA frame takes. They stay where
 * they are until write_data(), as the buffer may turn out to be full.
 */
static ssize_t measure_data(nghttp2_session *ng, int32_t id, uint8_t *buf,
                            size_t length, uint32_t *flags,
                            nghttp2_data_source *source, void *baton)
{
    h2x_session *session = baton;
    h2x_stream *stream = source->ptr;
    apr_size_t free_len = room(session);
    apr_off_t left = stream->out.row.bytes;

    free_len -= (free_len > (apr_size_t)session->padding_max)
        ? session->padding_max : 0;
    if (!left && stream->out.end == H2X_OUTPUT_GOES_ON) {
        return NGHTTP2_ERR_DEFERRED;
    }
    if (!left && stream->out.end >= H2X_OUTPUT_FAILS) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    if (session->data_max && length > session->data_max) {
        length = session->data_max;
    }
    if (length > 2 * (size_t)session->padding_max) {
        length -= session->padding_max; /* a full frame has no room for it */
    }
    length = cut(ng, id, length, left, free_len);
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (left > (apr_off_t)length) {
        return (ssize_t)length;
    }
    if (stream->out.end == H2X_OUTPUT_ENDS) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (stream->out.trailers) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            h2x_stream_advance_sent_locked(stream, H2X_SENT_BODY);
            h2x_session_add_news(session, stream);
        }
    }
    return (ssize_t)left;
}

/* Was a frame made short by the client's windows? There is more to send. */
static int is_dribble(const h2x_session *session, const h2x_stream *stream,
                      size_t length)
{
    return stream->out.row.bytes && length < DATA_TINY
           && length != session->data_max;
}

/* Writes a DATA frame: the one place where a body's bytes are copied. */
static int write_data(nghttp2_session *ng, nghttp2_frame *frame,
                      const uint8_t *head, size_t length,
                      nghttp2_data_source *source, void *baton)
{
    h2x_session *session = baton;
    h2x_stream *stream = source->ptr;
    char *to = session->buffer->data + session->buffer->len;
    size_t padding = frame->data.padlen; /* with the byte that tells it */
    apr_time_t now = h2x_clock_now();

    if (room(session) < H2X_FRAME_HEAD_LEN + length + padding) {
        session->buffer_full = 1;
        return NGHTTP2_ERR_WOULDBLOCK;
    }
    memcpy(to, head, H2X_FRAME_HEAD_LEN);
    to += H2X_FRAME_HEAD_LEN;
    if (padding) {
        *to++ = (char)(padding - 1);
        memset(to + length, 0, padding - 1);
    }
    if (h2x_segments_read(&stream->out.row, to, length) != APR_SUCCESS) {
        if (stream->out.end < H2X_OUTPUT_FAILS) {
            LOG(session, APLOG_INFO, "h2x(%s-%d): cannot read a file as far "
                "as its announced length", LOG_ID(session), stream->id);
        }
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    session->buffer->len += H2X_FRAME_HEAD_LEN + length + padding;
    h2x_session_note(session, is_dribble(session, stream, length)
                              ? H2X_EVENT_DRIBBLE : H2X_EVENT_DATA);
    session->taken += (apr_off_t)length;
    session->progress = h2x_guard_advance(session->progress, now, length,
                                          session->min_rate);
    stream->out.progress = h2x_guard_advance(
        (stream->out.row.bytes && stream->out.progress)
            ? stream->out.progress : now,
        now, length, stream->limits.min_rate);
    if (stream->out.row.memory < stream->limits.max_memory) {
        h2x_stream_room_locked(stream);
    }
    return 0;
}

/* Chooses the length of a frame with its padding (RFC 9113, section 6.1). */
static ssize_t select_padding(nghttp2_session *ng, const nghttp2_frame *frame,
                              size_t max, void *baton)
{
    h2x_session *session = baton;
    size_t len = frame->hd.length;

    if (session->padding_max) {
        len += ap_random_pick(0, session->padding_max);
    }
    return (ssize_t)(len < max ? len : max);
}

/* Is this the answer to an error of the client? */
static int is_client_error(uint32_t code)
{
    return code == NGHTTP2_PROTOCOL_ERROR || code == NGHTTP2_STREAM_CLOSED
           || code == NGHTTP2_FLOW_CONTROL_ERROR
           || code == NGHTTP2_FRAME_SIZE_ERROR;
}

/* Notes that a stream was reset, if the client has made it so. */
static void note_reset(h2x_session *session, int32_t id, uint32_t code)
{
    if (code == NGHTTP2_REFUSED_STREAM) {
        h2x_session_note(session, H2X_EVENT_REFUSED);
    }
    if (is_client_error(code)) {
        if (!session->excess) {
            LOG(session, APLOG_INFO, "h2x(%s-%d): client's error, reset with "
                "%s", LOG_ID(session), id, nghttp2_http2_strerror(code));
        }
        h2x_session_note(session, H2X_EVENT_ERROR);
        h2x_session_note(session, H2X_EVENT_RESET_MADE);
    }
}

/* A GOAWAY with an error is sent. Of one that nghttp2 has made, the log does
 * not say yet why. */
static void end_with(h2x_session *session, const nghttp2_goaway *goaway)
{
    if (session->end < H2X_END_TERMINATED) {
        LOG(session, APLOG_INFO, "h2x(%s): closing the connection with %s%s"
            "%.*s", LOG_ID(session),
            nghttp2_http2_strerror(goaway->error_code),
            goaway->opaque_data_len ? ": " : "",
            (int)goaway->opaque_data_len,
            goaway->opaque_data_len ? (const char *)goaway->opaque_data : "");
    }
    h2x_session_advance(session, H2X_END_FAILED);
}

static int on_frame_send(nghttp2_session *ng, const nghttp2_frame *frame,
                         void *baton)
{
    h2x_session *session = baton;
    h2x_stream *stream = h2x_session_stream(session, frame->hd.stream_id);

    if (frame->hd.type == NGHTTP2_GOAWAY
        && frame->goaway.error_code != NGHTTP2_NO_ERROR) {
        end_with(session, &frame->goaway);
    }
    if (frame->hd.type == NGHTTP2_PING) {
        session->pings_sent += !(frame->hd.flags & NGHTTP2_FLAG_ACK);
    }
    if (frame->hd.type == NGHTTP2_RST_STREAM) {
        note_reset(session, frame->hd.stream_id, frame->rst_stream.error_code);
    }
    if (frame->hd.type == NGHTTP2_PUSH_PROMISE) {
        h2x_session_promised(session, frame->push_promise.promised_stream_id);
    }
    if (stream) {
        stream->bytes_out += H2X_FRAME_HEAD_LEN + frame->hd.length;
        if ((frame->hd.type == NGHTTP2_HEADERS
             || frame->hd.type == NGHTTP2_DATA)
            && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) {
            h2x_stream_advance_sent_locked(stream, H2X_SENT_END);
            h2x_session_note(session, H2X_EVENT_RESPONSE);
            h2x_session_add_news(session, stream);
        }
    }
    return 0;
}

static int reset(h2x_session *session, h2x_stream *stream, uint32_t code)
{
    stream->out.was_reset = 1;
    return nghttp2_submit_rst_stream(session->ng, NGHTTP2_FLAG_NONE,
                                     stream->id, code);
}

/* Resets a stream whose response cannot be sent, or not as far as its end. */
static int reset_failed(h2x_session *session, h2x_stream *stream)
{
    return reset(session, stream, stream->job.tunnel == H2X_TUNNEL_CONNECT
                 ? NGHTTP2_CONNECT_ERROR : NGHTTP2_INTERNAL_ERROR);
}

static int is_interim(const nghttp2_headers *head)
{
    return head->nvlen && head->nva[0].namelen == 7
           && !memcmp(head->nva[0].name, ":status", 7)
           && head->nva[0].value[0] == '1';
}

/*
 * A head that nghttp2 does not send would leave the client waiting, unless
 * another one follows. The stream of a promise that is not sent, it closes
 * itself.
 */
static int on_frame_not_send(nghttp2_session *ng, const nghttp2_frame *frame,
                             int error, void *baton)
{
    h2x_session *session = baton;
    h2x_stream *stream = h2x_session_stream(session, frame->hd.stream_id);

    if (stream && frame->hd.type == NGHTTP2_HEADERS) {
        if (session->end < H2X_END_TERMINATED) {
            LOG(session, APLOG_INFO, "h2x(%s-%d): cannot send response head: "
                "%s", LOG_ID(session), stream->id, nghttp2_strerror(error));
        }
        if (is_interim(&frame->headers)) {
            return 0;
        }
        h2x_stream_end_output_locked(stream, H2X_OUTPUT_FAILS);
        return reset_failed(session, stream);
    }
    return 0;
}

static int submit_head(h2x_session *session, h2x_stream *stream,
                       const h2x_head *head)
{
    nghttp2_data_provider provider;
    char status[4];
    int n;

    status[0] = (char)('0' + head->status / 100);
    status[1] = (char)('0' + head->status / 10 % 10);
    status[2] = (char)('0' + head->status % 10);
    status[3] = '\0';
    n = h2x_nva_make(&session->nva, head, status);
    if (n < 0) {
        return NGHTTP2_ERR_NOMEM;
    }
    if (head->status < 200) {
        return nghttp2_submit_headers(session->ng, NGHTTP2_FLAG_NONE,
                                      stream->id, NULL, session->nva.fields,
                                      n, NULL);
    }
    h2x_stream_advance_sent_locked(stream, H2X_SENT_HEAD);
    provider.source.ptr = stream;
    provider.read_callback = measure_data;
    return nghttp2_submit_response(
        session->ng, stream->id, session->nva.fields, n,
        (stream->out.end == H2X_OUTPUT_ENDS && !stream->out.row.bytes
         && !stream->out.trailers) ? NULL : &provider);
}

static int submit_trailers(h2x_session *session, h2x_stream *stream)
{
    int n = h2x_nva_make(&session->nva, stream->out.trailers, NULL);

    h2x_stream_advance_sent_locked(stream, H2X_SENT_TRAILERS);
    return (n < 0) ? NGHTTP2_ERR_NOMEM
                   : nghttp2_submit_trailer(session->ng, stream->id,
                                            session->nva.fields, n);
}

/*
 * Submits the head of a response. Of what was promised, only a success is
 * worth anything to the client.
 */
static int submit_response(h2x_session *session, h2x_stream *stream,
                           const h2x_head *head)
{
    if (stream->promised_on && head->status < 200) {
        return 0;
    }
    if (stream->promised_on && head->status >= 300) {
        return reset(session, stream, NGHTTP2_CANCEL);
    }
    if (head->status >= 200) {
        h2x_session_merge_priority(session, stream, head);
    }
    return submit_head(session, stream, head);
}

static int submit_pending(h2x_session *session, h2x_stream *stream)
{
    int rv = 0;

    while (stream->out.pending && rv == 0 && !stream->out.was_reset) {
        const h2x_pending *pending = stream->out.pending;

        stream->out.pending = pending->next;
        rv = h2x_session_promise(session, stream, pending->promises);
        if (rv == 0 && pending->head) {
            rv = submit_response(session, stream, pending->head);
        }
    }
    return rv;
}

/* Tells nghttp2 what is new with a stream. */
static int submit(h2x_session *session, h2x_stream *stream)
{
    int rv;

    if (stream->out.was_reset) {
        return 0;
    }
    if (stream->out.end == H2X_OUTPUT_NEEDS_HTTP11) {
        return reset(session, stream, stream->promised_on
                     ? NGHTTP2_CANCEL : NGHTTP2_HTTP_1_1_REQUIRED);
    }
    rv = submit_pending(session, stream);
    if (stream->out.was_reset) {
        return rv;
    }
    if (rv == 0 && stream->out.end == H2X_OUTPUT_FAILS
        && (stream->job.tunnel == H2X_TUNNEL_CONNECT
            || stream->out.sent == H2X_SENT_NOTHING)) {
        return reset_failed(session, stream);
    }
    if (rv == 0 && stream->out.sent == H2X_SENT_BODY) {
        return submit_trailers(session, stream);
    }
    if (rv == 0 && stream->out.sent == H2X_SENT_END) {
        /* nobody will read the rest of the body (RFC 9113, section 8.1) */
        if (stream->in.state < H2X_INPUT_ENDED
            && stream->state >= H2X_STREAM_DRAINING) {
            return reset(session, stream, NGHTTP2_NO_ERROR);
        }
        return 0;
    }
    if (rv == 0 && stream->out.sent != H2X_SENT_NOTHING) {
        h2x_session_check_outside(session);
        /* it says so when there is nothing to resume */
        nghttp2_session_resume_data(session->ng, stream->id);
    }
    return rv;
}

static int submit_news(h2x_session *session)
{
    while (!APR_RING_EMPTY(&session->news, h2x_stream, news)) {
        h2x_stream *stream = APR_RING_FIRST(&session->news);
        int rv;

        h2x_session_remove_news(stream);
        rv = submit(session, stream);
        if (nghttp2_is_fatal(rv)) {
            return rv;
        }
    }
    return 0;
}

static ssize_t send_ng(h2x_session *session, const uint8_t **data)
{
    ssize_t n;

    h2x_session_enter(session);
    n = nghttp2_session_mem_send(session->ng, data);
    h2x_session_leave(session);
    return n;
}

/* Copies a frame into the buffer, or keeps it until there is room. */
static int write_frame(h2x_session *session, const uint8_t *data, size_t len)
{
    if (room(session) < len) {
        session->left = data;
        session->left_len = len;
        session->buffer_full = 1;
        return 0;
    }
    memcpy(session->buffer->data + session->buffer->len, data, len);
    session->buffer->len += len;
    session->left = NULL;
    return 1;
}

apr_status_t h2x_session_send(h2x_session *session, h2x_buffer *buffer)
{
    const uint8_t *data;
    ssize_t n;

    h2x_lock_check(session->params.lock);
    if (session->end >= H2X_END_CLOSED) {
        return APR_SUCCESS;
    }
    session->buffer = buffer;
    session->buffer_full = 0;
    if (session->left
        && !write_frame(session, session->left, session->left_len)) {
        return APR_SUCCESS;
    }
    do {
        n = submit_news(session);
        while (n == 0 && (n = send_ng(session, &data)) > 0) {
            n = write_frame(session, data, (size_t)n) - 1;
        }
        if (n < 0 && !session->buffer_full) {
            return h2x_session_give_up(session, n);
        }
    } while (!session->buffer_full
             && !APR_RING_EMPTY(&session->news, h2x_stream, news));
    h2x_session_settle(session);
    return APR_SUCCESS;
}

void h2x_session_output(h2x_session *session, h2x_stream *stream)
{
    h2x_lock_check(session->params.lock);
    if (!stream->is_closed) {
        h2x_session_add_news(session, stream);
    }
}

static apr_off_t size_of_head(const h2x_head *head)
{
    apr_off_t size = H2X_FRAME_HEAD_LEN;
    int i;

    for (i = 0; i < head->count; ++i) {
        size += head->fields[i].name_len + head->fields[i].value_len;
    }
    return size;
}

apr_off_t h2x_session_unsent(const h2x_session *session,
                             const h2x_stream *stream)
{
    const h2x_pending *pending;
    apr_off_t size = 0, body = stream->out.row.bytes;

    h2x_lock_check(session->params.lock);
    if (stream->is_closed || stream->out.was_reset) {
        return 0;
    }
    for (pending = stream->out.pending; pending; pending = pending->next) {
        size += pending->head ? size_of_head(pending->head) : 0;
    }
    if (body) {
        size += body + (body + DATA_MAX - 1) / DATA_MAX * H2X_FRAME_HEAD_LEN;
    }
    if (stream->out.trailers && stream->out.sent != H2X_SENT_END) {
        size += size_of_head(stream->out.trailers);
    }
    return size;
}

apr_size_t h2x_session_queue_size(const h2x_session *session)
{
    return nghttp2_session_get_outbound_queue_size(session->ng);
}

int h2x_session_is_window_shut(const h2x_session *session,
                               const h2x_stream *stream)
{
    return nghttp2_session_get_stream_remote_window_size(session->ng,
                                                         stream->id) <= 0;
}

apr_off_t h2x_session_taken(const h2x_session *session)
{
    return session->taken;
}

int h2x_session_waits_for_client(const h2x_session *session,
                                 const h2x_stream *stream, apr_time_t since)
{
    return session->progress <= since
           || h2x_session_is_window_shut(session, stream);
}

void h2x_session_cancel(h2x_session *session, h2x_stream *stream)
{
    int rv = stream->is_closed ? 0 : reset(session, stream, NGHTTP2_CANCEL);

    if (nghttp2_is_fatal(rv)) {
        h2x_session_give_up(session, rv);
    }
}

void h2x_session_out_init(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_send_data_callback(callbacks, write_data);
    nghttp2_session_callbacks_set_select_padding_callback(callbacks,
                                                          select_padding);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks,
                                                         on_frame_send);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(
        callbacks, on_frame_not_send);
}
