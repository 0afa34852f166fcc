/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <stdlib.h>
#include <string.h>

#include <apr_strings.h>

#include <nghttp2/nghttp2.h>

#include <httpd.h>
#include <http_log.h>

#include "h2x.h"
#include "h2x_conf.h"
#include "h2x_field.h"
#include "h2x_session.h"

/* What all streams of a connection together may receive before the first
 * WINDOW_UPDATE. What is kept for a stream is bounded by its own window. */
#define SESSION_WINDOW (1024 * 1024)

/* A DATA frame is not made shorter than this to fill a buffer. */
#define DATA_MIN 1024

#define FRAME_HEAD_LEN 9

/* Marks the PING that goes with the first GOAWAY. */
static const uint8_t drain_mark[8] = "h2xdrain";

APR_RING_HEAD(h2x_stream_ring, h2x_stream);

struct h2x_session {
    h2x_session_params params;
    nghttp2_session *ng;
    h2x_session_state state;
    struct h2x_stream_ring all;  /* streams that were not released */
    struct h2x_stream_ring news; /* those with new output */
    int stream_count;
    int is_fresh;
    int drained;            /* the client has answered the PING */
    int goaway_said;
    size_t received;        /* bytes of bodies, to be credited */
    apr_size_t data_max;    /* H2MaxDataFrameLen */
    h2x_buffer *buffer;     /* that is being written */
    int buffer_full;
    const uint8_t *left;    /* of a frame that found no room */
    size_t left_len;
    nghttp2_nv *nva;        /* scratch */
    int nva_size;
};

static nghttp2_session_callbacks *callbacks;

#define LOG(session, level, ...) \
    ap_log_cerror(APLOG_MARK, level, 0, (session)->params.c1, __VA_ARGS__)
#define LOG_ID(session) (session)->params.c1->log_id

static h2x_stream *stream_of(h2x_session *session, int32_t id)
{
    return id ? nghttp2_session_get_stream_user_data(session->ng, id) : NULL;
}

static void add_news(h2x_session *session, h2x_stream *stream)
{
    if (!stream->has_news) {
        APR_RING_INSERT_TAIL(&session->news, stream, h2x_stream, news);
        stream->has_news = 1;
    }
}

static void remove_news(h2x_stream *stream)
{
    if (stream->has_news) {
        APR_RING_REMOVE(stream, news);
        stream->has_news = 0;
    }
}

/* ---- receiving ---- */

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *frame,
                            void *baton)
{
    h2x_session *session = baton;
    h2x_stream *stream;

    if (frame->hd.type != NGHTTP2_HEADERS
        || frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0;
    }
    stream = h2x_stream_acquire(session->params.store, frame->hd.stream_id,
                                session->params.lock);
    if (!stream) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    stream->owner = session->params.stream_owner;
    stream->owner_baton = session->params.baton;
    APR_RING_INSERT_TAIL(&session->all, stream, h2x_stream, all);
    ++session->stream_count;
    session->is_fresh = 0;
    nghttp2_session_set_stream_user_data(ng, stream->id, stream);
    return 0;
}

static void read_pseudo(h2x_session *session, h2x_stream *stream,
                        const char *name, const char *value, apr_size_t len)
{
    h2x_request_head *head = &stream->request;
    apr_size_t max = (apr_size_t)
        session->params.server->limit_req_line;
    /* one byte more is enough to see that it is too long */
    char *copy = apr_pstrmemdup(stream->pool, value,
                                len > max ? max + 1 : len);

    switch (name[1]) {
    case 'm':
        head->method = copy;
        break;
    case 's':
        head->scheme = copy;
        break;
    case 'a':
        head->authority = copy;
        break;
    case 'p':
        head->path = copy;
        break;
    }
}

/* Keeps a field of a request head, within the limits of httpd. */
static void read_field(h2x_session *session, h2x_stream *stream,
                       const char *name, apr_size_t name_len,
                       const char *value, apr_size_t value_len)
{
    const server_rec *s = session->params.server;
    h2x_request_head *head = &stream->request;
    apr_size_t max = (apr_size_t)s->limit_req_fieldsize;
    int is_cookie = (name_len == 6 && !memcmp(name, "cookie", 6));

    if (is_cookie) {
        head->field_count += (head->cookie_len == 0);
        head->cookie_len += value_len + 2;
    }
    else {
        ++head->field_count;
    }
    if ((s->limit_req_fields && head->field_count > s->limit_req_fields)
        || name_len + value_len + 2 > max || head->cookie_len > max) {
        if (!head->status) {
            LOG(session, APLOG_INFO, "h2x(%s-%d): request field %.*s exceeds "
                "%s", LOG_ID(session), stream->id,
                (int)(name_len < 64 ? name_len : 64), name,
                (s->limit_req_fields
                 && head->field_count > s->limit_req_fields)
                ? "LimitRequestFields" : "LimitRequestFieldSize");
        }
        head->status = HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE;
        return;
    }
    apr_table_addn(head->fields, h2x_field_name(stream->pool, name, name_len),
                   apr_pstrmemdup(stream->pool, value, value_len));
}

/* Keeps a trailer. The runner may be at work in the stream's pool. */
static int read_trailer(h2x_stream *stream, const char *name,
                        apr_size_t name_len, const char *value,
                        apr_size_t value_len)
{
    apr_pool_t *p;

    if (h2x_field_is_bad_trailer(name, name_len)) {
        return 0;
    }
    if (!stream->in_trailers) {
        if (apr_pool_create_unmanaged_ex(&p, NULL, NULL) != APR_SUCCESS) {
            return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        }
        stream->in_trailers = apr_table_make(p, 4);
    }
    p = apr_table_elts(stream->in_trailers)->pool;
    apr_table_addn(stream->in_trailers, h2x_field_name(p, name, name_len),
                   apr_pstrmemdup(p, value, value_len));
    return 0;
}

static int on_header(nghttp2_session *ng, const nghttp2_frame *frame,
                     const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, uint8_t flags,
                     void *baton)
{
    h2x_session *session = baton;
    h2x_stream *stream = stream_of(session, frame->hd.stream_id);

    (void)ng;
    (void)flags;
    if (!stream || frame->hd.type != NGHTTP2_HEADERS) {
        return 0;
    }
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return read_trailer(stream, (const char *)name, name_len,
                            (const char *)value, value_len);
    }
    if (name[0] == ':') {
        read_pseudo(session, stream, (const char *)name, (const char *)value,
                    value_len);
    }
    else {
        read_field(session, stream, (const char *)name, name_len,
                   (const char *)value, value_len);
    }
    return 0;
}

/* nghttp2 would drop a malformed field; RFC 9113, section 8.2.1, does not. */
static int on_invalid_header(nghttp2_session *ng, const nghttp2_frame *frame,
                             const uint8_t *name, size_t name_len,
                             const uint8_t *value, size_t value_len,
                             uint8_t flags, void *baton)
{
    (void)ng;
    (void)frame;
    (void)name;
    (void)name_len;
    (void)value;
    (void)value_len;
    (void)flags;
    (void)baton;
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static void end_input(h2x_stream *stream)
{
    stream->in_ended = 1;
    h2x_stream_wake_locked(stream);
}

static void end_head(h2x_session *session, h2x_stream *stream,
                     const nghttp2_frame *frame)
{
    if (stream->state != H2X_STREAM_RECEIVING) {
        return;
    }
    stream->request.received = apr_time_now();
    stream->request.has_body = !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM);
    h2x_stream_advance_locked(stream, H2X_STREAM_QUEUED);
    session->params.owner->ready(session->params.baton, stream);
}

static int on_frame_recv(nghttp2_session *ng, const nghttp2_frame *frame,
                         void *baton)
{
    h2x_session *session = baton;
    h2x_stream *stream = stream_of(session, frame->hd.stream_id);

    (void)ng;
    if (frame->hd.type == NGHTTP2_PING
        && (frame->hd.flags & NGHTTP2_FLAG_ACK)
        && !memcmp(frame->ping.opaque_data, drain_mark, sizeof(drain_mark))) {
        session->drained = 1;
    }
    if (!stream || (frame->hd.type != NGHTTP2_HEADERS
                    && frame->hd.type != NGHTTP2_DATA)) {
        return 0;
    }
    stream->bytes_in += FRAME_HEAD_LEN + frame->hd.length;
    if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
        end_input(stream);
    }
    if (frame->hd.type == NGHTTP2_HEADERS) {
        end_head(session, stream, frame);
    }
    return 0;
}

static int on_data_chunk_recv(nghttp2_session *ng, uint8_t flags, int32_t id,
                              const uint8_t *data, size_t len, void *baton)
{
    h2x_session *session = baton;
    h2x_stream *stream = stream_of(session, id);

    (void)ng;
    (void)flags;
    session->received += len;
    if (!stream || stream->state >= H2X_STREAM_DRAINING) {
        return 0;
    }
    if (h2x_stream_feed_locked(stream, data, len) != APR_SUCCESS) {
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    return 0;
}

static int on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code,
                           void *baton)
{
    h2x_session *session = baton;
    h2x_stream *stream = stream_of(session, id);

    (void)ng;
    if (stream) {
        if (code != NGHTTP2_NO_ERROR) {
            LOG(session, APLOG_DEBUG, "h2x(%s-%d): reset: %s",
                LOG_ID(session), id, nghttp2_http2_strerror(code));
        }
        stream->is_closed = 1;
        remove_news(stream);
        h2x_stream_wake_locked(stream);
        session->params.owner->closed(session->params.baton, stream);
    }
    return 0;
}

static int on_invalid_frame_recv(nghttp2_session *ng,
                                 const nghttp2_frame *frame, int error,
                                 void *baton)
{
    h2x_session *session = baton;

    (void)ng;
    LOG(session, APLOG_INFO, "h2x(%s-%d): bad frame (type 0x%02x) from "
        "client: %s", LOG_ID(session), frame->hd.stream_id, frame->hd.type,
        nghttp2_strerror(error));
    return 0;
}

/* Does what callbacks asked for, and sees whether the session is over. */
static void settle(h2x_session *session)
{
    if (session->received) {
        nghttp2_session_consume_connection(session->ng, session->received);
        session->received = 0;
    }
    if (session->drained && !session->goaway_said) {
        h2x_session_goaway(session);
    }
    if (!session->left && !nghttp2_session_want_read(session->ng)
        && !nghttp2_session_want_write(session->ng)) {
        session->state = H2X_SESSION_CLOSED;
    }
}

/* The session cannot go on: no memory, or a peer that does not listen. */
static apr_status_t give_up(h2x_session *session, ssize_t error)
{
    LOG(session, APLOG_INFO, "h2x(%s): closing: %s", LOG_ID(session),
        nghttp2_strerror((int)error));
    session->state = H2X_SESSION_CLOSED;
    return APR_EGENERAL;
}

apr_status_t h2x_session_receive(h2x_session *session, const char *data,
                                 apr_size_t len)
{
    ssize_t n;

    h2x_lock_check(session->params.lock);
    if (session->state == H2X_SESSION_CLOSED) {
        return APR_EGENERAL;
    }
    n = nghttp2_session_mem_recv(session->ng, (const uint8_t *)data, len);
    if (n < 0 && n != NGHTTP2_ERR_BAD_CLIENT_MAGIC) {
        return give_up(session, n);
    }
    if (n < 0) {
        LOG(session, APLOG_INFO, "h2x(%s): client did not send the preface",
            LOG_ID(session));
        nghttp2_session_terminate_session(session->ng,
                                          NGHTTP2_PROTOCOL_ERROR);
    }
    settle(session);
    return APR_SUCCESS;
}

/* ---- sending ---- */

static apr_size_t room(const h2x_session *session)
{
    return session->buffer->size - session->buffer->len;
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
    apr_off_t left = stream->out.bytes;

    (void)ng;
    (void)id;
    (void)buf;
    if (!left && !stream->out_ended) {
        return NGHTTP2_ERR_DEFERRED;
    }
    if (!left && stream->out_failed) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    if (session->data_max && length > session->data_max) {
        length = session->data_max;
    }
    if (free_len >= DATA_MIN + FRAME_HEAD_LEN
        && length > free_len - FRAME_HEAD_LEN) {
        length = free_len - FRAME_HEAD_LEN;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (left > (apr_off_t)length) {
        return (ssize_t)length;
    }
    if (stream->out_ended && !stream->out_failed) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (stream->out_trailers) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            stream->trailers_due = 1;
            add_news(session, stream);
        }
    }
    return (ssize_t)left;
}

/* Writes a DATA frame: the one place where a body's bytes are copied. */
static int write_data(nghttp2_session *ng, nghttp2_frame *frame,
                      const uint8_t *head, size_t length,
                      nghttp2_data_source *source, void *baton)
{
    h2x_session *session = baton;
    h2x_stream *stream = source->ptr;
    char *to = session->buffer->data + session->buffer->len;

    (void)ng;
    (void)frame;
    if (room(session) < length + FRAME_HEAD_LEN) {
        session->buffer_full = 1;
        return NGHTTP2_ERR_WOULDBLOCK;
    }
    memcpy(to, head, FRAME_HEAD_LEN);
    if (h2x_segments_read(&stream->out, to + FRAME_HEAD_LEN, length)
        != APR_SUCCESS) {
        LOG(session, APLOG_INFO, "h2x(%s-%d): cannot read a file as far as "
            "its announced length", LOG_ID(session), stream->id);
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    session->buffer->len += FRAME_HEAD_LEN + length;
    stream->progress = apr_time_now();
    if (stream->out.memory < stream->max_memory) {
        h2x_stream_wake_locked(stream);
    }
    return 0;
}

static int on_frame_send(nghttp2_session *ng, const nghttp2_frame *frame,
                         void *baton)
{
    h2x_session *session = baton;
    h2x_stream *stream = stream_of(session, frame->hd.stream_id);

    (void)ng;
    if (frame->hd.type == NGHTTP2_GOAWAY
        && frame->goaway.error_code != NGHTTP2_NO_ERROR) {
        LOG(session, APLOG_INFO, "h2x(%s): closing the connection with %s%s"
            "%.*s", LOG_ID(session),
            nghttp2_http2_strerror(frame->goaway.error_code),
            frame->goaway.opaque_data_len ? ": " : "",
            (int)frame->goaway.opaque_data_len, frame->goaway.opaque_data);
    }
    if (stream) {
        stream->bytes_out += FRAME_HEAD_LEN + frame->hd.length;
        if ((frame->hd.type == NGHTTP2_HEADERS
             || frame->hd.type == NGHTTP2_DATA)
            && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) {
            stream->end_sent = 1;
            add_news(session, stream);
        }
    }
    return 0;
}

/* A head that nghttp2 does not send would leave the client waiting. */
static int on_frame_not_send(nghttp2_session *ng, const nghttp2_frame *frame,
                             int error, void *baton)
{
    h2x_session *session = baton;
    h2x_stream *stream = stream_of(session, frame->hd.stream_id);

    (void)ng;
    if (stream && frame->hd.type == NGHTTP2_HEADERS) {
        LOG(session, APLOG_INFO, "h2x(%s-%d): cannot send response head: %s",
            LOG_ID(session), stream->id, nghttp2_strerror(error));
        stream->responded = 0;
        stream->out_failed = 1;
        stream->out_ended = 1;
        add_news(session, stream);
    }
    return 0;
}

static void set_nv(nghttp2_nv *nv, const char *name, apr_size_t name_len,
                   const char *value, apr_size_t value_len, uint8_t flags)
{
    nv->name = (uint8_t *)name;
    nv->namelen = name_len;
    nv->value = (uint8_t *)value;
    nv->valuelen = value_len;
    nv->flags = flags;
}

/*
 * Turns a head into what nghttp2 wants. Names and values stay where they
 * are, in the stream's pool, which outlives the frame.
 * @return how many, or -1 when there is no memory
 */
static int make_nva(h2x_session *session, const h2x_head *head,
                    const char *status)
{
    int i, n = 0;

    if (session->nva_size < head->count + 1) {
        nghttp2_nv *nva = realloc(session->nva,
                                  (head->count + 1) * sizeof(*nva));

        if (!nva) {
            return -1;
        }
        session->nva = nva;
        session->nva_size = head->count + 1;
    }
    if (head->status) {
        set_nv(&session->nva[n++], ":status", 7, status, 3,
               NGHTTP2_NV_FLAG_NONE);
    }
    for (i = 0; i < head->count; ++i) {
        const h2x_field *field = &head->fields[i];

        set_nv(&session->nva[n++], field->name, field->name_len, field->value,
               field->value_len, NGHTTP2_NV_FLAG_NO_COPY_NAME
               | NGHTTP2_NV_FLAG_NO_COPY_VALUE);
    }
    return n;
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
    n = make_nva(session, head, status);
    if (n < 0) {
        return NGHTTP2_ERR_NOMEM;
    }
    if (head->status < 200) {
        return nghttp2_submit_headers(session->ng, NGHTTP2_FLAG_NONE,
                                      stream->id, NULL, session->nva, n, NULL);
    }
    stream->responded = 1;
    provider.source.ptr = stream;
    provider.read_callback = measure_data;
    return nghttp2_submit_response(session->ng, stream->id, session->nva, n,
        (stream->out_ended && !stream->out_failed && !stream->out.bytes
         && !stream->out_trailers) ? NULL : &provider);
}

static int reset(h2x_session *session, h2x_stream *stream, uint32_t code)
{
    return nghttp2_submit_rst_stream(session->ng, NGHTTP2_FLAG_NONE,
                                     stream->id, code);
}

static int submit_trailers(h2x_session *session, h2x_stream *stream)
{
    int n = make_nva(session, stream->out_trailers, NULL);

    stream->trailers_due = 0;
    return (n < 0) ? NGHTTP2_ERR_NOMEM
                   : nghttp2_submit_trailer(session->ng, stream->id,
                                            session->nva, n);
}

/* Tells nghttp2 what is new with a stream. */
static int submit(h2x_session *session, h2x_stream *stream)
{
    int rv = 0;

    if (stream->needs_http11) {
        return reset(session, stream, NGHTTP2_HTTP_1_1_REQUIRED);
    }
    while (stream->heads && rv == 0) {
        rv = submit_head(session, stream, stream->heads->head);
        stream->heads = stream->heads->next;
    }
    if (rv == 0 && stream->out_failed && !stream->responded) {
        return reset(session, stream, NGHTTP2_INTERNAL_ERROR);
    }
    if (rv == 0 && stream->trailers_due) {
        return submit_trailers(session, stream);
    }
    if (rv == 0 && stream->end_sent) {
        /* nobody will read the rest of the body (RFC 9113, section 8.1) */
        if (!stream->in_ended && stream->state >= H2X_STREAM_DRAINING) {
            return reset(session, stream, NGHTTP2_NO_ERROR);
        }
        return 0;
    }
    if (rv == 0 && stream->responded) {
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

        remove_news(stream);
        rv = submit(session, stream);
        if (nghttp2_is_fatal(rv)) {
            return rv;
        }
    }
    return 0;
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
    if (session->state == H2X_SESSION_CLOSED) {
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
        while (n == 0
               && (n = nghttp2_session_mem_send(session->ng, &data)) > 0) {
            n = write_frame(session, data, (size_t)n) - 1;
        }
        if (n < 0 && !session->buffer_full) {
            return give_up(session, n);
        }
    } while (!session->buffer_full
             && !APR_RING_EMPTY(&session->news, h2x_stream, news));
    settle(session);
    return APR_SUCCESS;
}

void h2x_session_output(h2x_session *session, h2x_stream *stream)
{
    h2x_lock_check(session->params.lock);
    if (!stream->is_closed) {
        add_news(session, stream);
    }
}

void h2x_session_consumed(h2x_session *session, h2x_stream *stream,
                          apr_size_t len)
{
    h2x_lock_check(session->params.lock);
    if (!stream->is_closed && len) {
        nghttp2_session_consume_stream(session->ng, stream->id, len);
    }
}

void h2x_session_cancel(h2x_session *session, h2x_stream *stream)
{
    if (!stream->is_closed) {
        reset(session, stream, NGHTTP2_CANCEL);
    }
}

/* ---- life ---- */

apr_status_t h2x_session_init(apr_pool_t *p)
{
    (void)p;
    if (callbacks) {
        return APR_SUCCESS;
    }
    if (nghttp2_session_callbacks_new(&callbacks)) {
        return APR_ENOMEM;
    }
#define CALLBACK(name, function) \
    nghttp2_session_callbacks_set_##name##_callback(callbacks, function)
    CALLBACK(on_begin_headers, on_begin_headers);
    CALLBACK(on_header, on_header);
    CALLBACK(on_invalid_header, on_invalid_header);
    CALLBACK(on_frame_recv, on_frame_recv);
    CALLBACK(on_data_chunk_recv, on_data_chunk_recv);
    CALLBACK(on_stream_close, on_stream_close);
    CALLBACK(on_invalid_frame_recv, on_invalid_frame_recv);
    CALLBACK(send_data, write_data);
    CALLBACK(on_frame_send, on_frame_send);
    CALLBACK(on_frame_not_send, on_frame_not_send);
#undef CALLBACK
    return APR_SUCCESS;
}

static int make_ng(h2x_session *session, const server_rec *s)
{
    nghttp2_option *option;
    size_t header_max = (size_t)h2x_conf_get(s, H2X_MAX_HEADER_BLOCK_LEN);
    int rv = nghttp2_option_new(&option);

    if (rv) {
        return rv;
    }
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_closed_streams(option, 1);
    if (header_max) {
        nghttp2_option_set_max_send_header_block_length(option, header_max);
    }
    rv = nghttp2_session_server_new2(&session->ng, callbacks, session, option);
    nghttp2_option_del(option);
    return rv;
}

static int submit_settings(h2x_session *session, const server_rec *s)
{
    int32_t window = (int32_t)h2x_conf_get(s, H2X_WINDOW_SIZE);
    nghttp2_settings_entry settings[] = {
        { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
          (uint32_t)h2x_conf_get(s, H2X_MAX_SESSION_STREAMS) },
        { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, (uint32_t)window },
    };
    int rv = nghttp2_submit_settings(session->ng, NGHTTP2_FLAG_NONE, settings,
                                     sizeof(settings) / sizeof(settings[0]));

    if (rv == 0) {
        rv = nghttp2_session_set_local_window_size(
            session->ng, NGHTTP2_FLAG_NONE, 0,
            window > SESSION_WINDOW ? window : SESSION_WINDOW);
    }
    return rv;
}

apr_status_t h2x_session_create(h2x_session **psession,
                                const h2x_session_params *params,
                                apr_pool_t *p)
{
    h2x_session *session = apr_pcalloc(p, sizeof(*session));
    const server_rec *s = params->server;

    session->params = *params;
    session->is_fresh = 1;
    session->data_max = (apr_size_t)h2x_conf_get(s, H2X_MAX_DATA_FRAME_LEN);
    APR_RING_INIT(&session->all, h2x_stream, all);
    APR_RING_INIT(&session->news, h2x_stream, news);
    if (make_ng(session, s)) {
        return APR_ENOMEM;
    }
    if (submit_settings(session, s)) {
        nghttp2_session_del(session->ng);
        return APR_EGENERAL;
    }
    *psession = session;
    return APR_SUCCESS;
}

void h2x_session_destroy(h2x_session *session)
{
    ap_assert(session->stream_count == 0);
    nghttp2_session_del(session->ng);
    free(session->nva);
}

h2x_session_state h2x_session_get_state(const h2x_session *session)
{
    return session->state;
}

int h2x_session_stream_count(const h2x_session *session)
{
    return session->stream_count;
}

int h2x_session_is_fresh(const h2x_session *session)
{
    return session->is_fresh;
}

void h2x_session_drain(h2x_session *session)
{
    if (session->state == H2X_SESSION_OPEN) {
        session->state = H2X_SESSION_DRAINING;
        nghttp2_submit_shutdown_notice(session->ng);
        nghttp2_submit_ping(session->ng, NGHTTP2_FLAG_NONE, drain_mark);
    }
}

void h2x_session_goaway(h2x_session *session)
{
    if (session->state == H2X_SESSION_CLOSED || session->goaway_said) {
        return;
    }
    session->state = H2X_SESSION_DRAINING;
    session->goaway_said = 1;
    nghttp2_submit_goaway(session->ng, NGHTTP2_FLAG_NONE,
                          nghttp2_session_get_last_proc_stream_id(session->ng),
                          NGHTTP2_NO_ERROR, NULL, 0);
}

void h2x_session_each(h2x_session *session,
                      void (*callback)(void *baton, h2x_stream *stream),
                      void *baton)
{
    h2x_stream *stream, *next;

    h2x_lock_check(session->params.lock);
    for (stream = APR_RING_FIRST(&session->all);
         stream != APR_RING_SENTINEL(&session->all, h2x_stream, all);
         stream = next) {
        next = APR_RING_NEXT(stream, all);
        callback(baton, stream);
    }
}

static void abort_stream(void *baton, h2x_stream *stream)
{
    h2x_session *session = baton;

    if (!stream->is_closed) {
        stream->is_closed = 1;
        remove_news(stream);
        h2x_stream_wake_locked(stream);
        session->params.owner->closed(session->params.baton, stream);
    }
}

void h2x_session_abort(h2x_session *session)
{
    session->state = H2X_SESSION_CLOSED;
    h2x_session_each(session, abort_stream, session);
}

void h2x_session_release(h2x_session *session, h2x_stream *stream)
{
    h2x_lock_check(session->params.lock);
    remove_news(stream);
    APR_RING_REMOVE(stream, all);
    --session->stream_count;
    h2x_stream_release(session->params.store, stream);
}
