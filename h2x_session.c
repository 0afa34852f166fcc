/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <stdlib.h>
#include <string.h>

#include <apr_strings.h>

#include "h2x_clock.h"
#include "h2x_conf.h"
#include "h2x_head.h"
#include "session/h2x_session_core.h"
#include "session/h2x_session_fields.h"
#include "session/h2x_session_memory.h"
#include "session/h2x_session_out.h"
#include "session/h2x_session_priority.h"
#include "session/h2x_session_push.h"
#include "session/h2x_session_strict.h"

/* What all streams of a connection together may send in a round trip. What is
 * kept for a stream is bounded by its own window. */
#define SESSION_WINDOW (16 * 1024 * 1024)

/* Priorities of streams that are not yet open, which are kept at most. */
#define EARLY_MAX 100

/* Frames that may wait to be sent after a piece was read. What may be open on
 * a connection never makes that many. */
#define ANSWERS_MAX 10000

/* Marks the PINGs that measure how much comes in a round trip. */
static const uint8_t sample_mark[8]
    = { 'h', '2', 'x', 'w', 'i', 'n', 'd', 'o' };

static nghttp2_session_callbacks *callbacks;

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
    if (frame->hd.stream_id > session->goaway_id) {
        /* the GOAWAY, which may not be out yet, says that it was not begun */
        return h2x_session_reject(session, frame->hd.stream_id,
                                  NGHTTP2_REFUSED_STREAM);
    }
    if (!h2x_session_may_keep(session)) {
        return h2x_session_reject(session, frame->hd.stream_id,
                                  NGHTTP2_REFUSED_STREAM);
    }
    stream = h2x_session_add(session, frame->hd.stream_id);
    if (!stream) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    session->is_fresh = 0;
    nghttp2_session_set_stream_user_data(ng, stream->id, stream);
    return 0;
}

static void end_input(h2x_session *session, h2x_stream *stream)
{
    h2x_stream_advance_in_locked(stream, H2X_INPUT_ENDED);
    if (!stream->in.bytes) {
        h2x_session_forget_window(session, stream);
    }
    h2x_stream_wake_locked(stream);
}

static void end_head(h2x_session *session, h2x_stream *stream,
                     const nghttp2_frame *frame)
{
    if (stream->state != H2X_STREAM_RECEIVING) {
        return;
    }
    stream->request.has_body = !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM);
    stream->limits.takes_push = h2x_session_takes_push(session);
    h2x_session_read_priority(session, stream);
    h2x_session_enqueue(session, stream);
}

/* A PING of ours was answered. */
static void on_ping_ack(h2x_session *session, const uint8_t *data)
{
    if (!memcmp(data, sample_mark, sizeof(sample_mark))) {
        h2x_windows_end_sample(&session->windows, h2x_clock_now());
    }
    h2x_session_check_drained(session, data);
}

static int on_frame_recv(nghttp2_session *ng, const nghttp2_frame *frame,
                         void *baton)
{
    h2x_session *session = baton;
    h2x_stream *stream = h2x_session_stream(session, frame->hd.stream_id);

    if (frame->hd.type == NGHTTP2_PING
        && (frame->hd.flags & NGHTTP2_FLAG_ACK)) {
        on_ping_ack(session, frame->ping.opaque_data);
    }
    if (frame->hd.type == NGHTTP2_SETTINGS) {
        if (frame->hd.flags & NGHTTP2_FLAG_ACK) {
            h2x_windows_guess(&session->windows, h2x_clock_now());
        }
        h2x_session_check_windows(session);
    }
    if (frame->hd.type == NGHTTP2_PRIORITY_UPDATE) {
        h2x_session_update_priority(session, frame->hd.stream_id);
    }
    if (!stream || (frame->hd.type != NGHTTP2_HEADERS
                    && frame->hd.type != NGHTTP2_DATA)) {
        return h2x_session_go_on(session);
    }
    stream->bytes_in += H2X_FRAME_HEAD_LEN + frame->hd.length;
    if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
        end_input(session, stream);
    }
    else if (frame->hd.type == NGHTTP2_DATA && frame->hd.length
             && frame->hd.length == frame->data.padlen) {
        h2x_session_note(session, H2X_EVENT_EMPTY_DATA);
    }
    if (frame->hd.type == NGHTTP2_HEADERS) {
        end_head(session, stream, frame);
    }
    return h2x_session_go_on(session);
}

/* Counts bytes of a body that have come, and may ask for a measurement. */
static void sample(h2x_session *session, h2x_stream *stream, size_t len)
{
    apr_time_t now;

    stream->in.received += len;
    if (!h2x_windows_count(&session->windows, stream->in.received, len)) {
        return;
    }
    now = h2x_clock_now();
    if (h2x_windows_is_due(&session->windows, now)
        && nghttp2_submit_ping(session->ng, NGHTTP2_FLAG_NONE,
                               sample_mark) == 0) {
        h2x_windows_begin_sample(&session->windows, now, len);
    }
}

static int on_data_chunk_recv(nghttp2_session *ng, uint8_t flags, int32_t id,
                              const uint8_t *data, size_t len, void *baton)
{
    h2x_session *session = baton;
    h2x_stream *stream = h2x_session_stream(session, id);

    session->received += len;
    if (!stream || stream->state >= H2X_STREAM_DRAINING) {
        return 0;
    }
    if (h2x_stream_feed_locked(stream, data, len) != APR_SUCCESS) {
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    sample(session, stream, len);
    return 0;
}

static int on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code,
                           void *baton)
{
    h2x_session *session = baton;
    h2x_stream *stream = h2x_session_stream(session, id);

    if (stream) {
        if (code != NGHTTP2_NO_ERROR) {
            LOG(session, APLOG_DEBUG, "h2x(%s-%d): reset: %s",
                LOG_ID(session), id, nghttp2_http2_strerror(code));
        }
        h2x_session_close_stream(session, stream);
    }
    return 0;
}

static int on_invalid_frame_recv(nghttp2_session *ng,
                                 const nghttp2_frame *frame, int error,
                                 void *baton)
{
    h2x_session *session = baton;

    LOG(session, APLOG_DEBUG, "h2x(%s-%d): bad frame (type 0x%02x) from "
        "client: %s", LOG_ID(session), frame->hd.stream_id, frame->hd.type,
        nghttp2_strerror(error));
    return 0;
}

apr_status_t h2x_session_receive(h2x_session *session, const char *data,
                                 apr_size_t len)
{
    ssize_t n = 0;

    h2x_lock_check(session->params.lock);
    if (session->end >= H2X_END_CLOSED) {
        return APR_EGENERAL;
    }
    if (session->end >= H2X_END_TERMINATED) {
        return APR_EAGAIN;
    }
    h2x_session_scan(session, data, len);
    if (h2x_session_go_on(session) == 0) {
        h2x_session_enter(session);
        n = nghttp2_session_mem_recv(session->ng, (const uint8_t *)data, len);
        h2x_session_leave(session);
    }
    if (n == NGHTTP2_ERR_BAD_CLIENT_MAGIC) {
        h2x_session_condemn(session, NGHTTP2_PROTOCOL_ERROR,
                            "client did not send the preface");
    }
    else if (nghttp2_session_get_outbound_queue_size(session->ng)
             > ANSWERS_MAX) {
        h2x_session_condemn(session, NGHTTP2_ENHANCE_YOUR_CALM,
                            "too many frames to answer at once");
    }
    if (n < 0 && h2x_session_go_on(session) == 0) {
        return h2x_session_give_up(session, n);
    }
    h2x_session_settle(session);
    return APR_SUCCESS;
}

/* Gives a stream the window that it needs, whose body was read. */
static void widen(h2x_session *session, h2x_stream *stream)
{
    int32_t more;

    if (stream->in.state == H2X_INPUT_ENDED) {
        h2x_session_forget_window(session, stream);
        return;
    }
    more = h2x_windows_take(&session->windows, &stream->wider_by);
    h2x_session_check_outside(session);
    if (more && nghttp2_session_set_local_window_size(
                    session->ng, NGHTTP2_FLAG_NONE, stream->id,
                    h2x_windows_size(&session->windows, stream->wider_by))
                != 0) {
        h2x_windows_give_back(&session->windows, &stream->wider_by, more);
    }
}

void h2x_session_consumed(h2x_session *session, h2x_stream *stream,
                          apr_size_t len)
{
    h2x_lock_check(session->params.lock);
    if (!stream->is_closed) {
        if (len) {
            h2x_session_check_outside(session);
            nghttp2_session_consume_stream(session->ng, stream->id, len);
        }
        widen(session, stream);
    }
}

/* ---- life ---- */

static apr_status_t delete_callbacks(void *unused)
{
    nghttp2_session_callbacks_del(callbacks);
    callbacks = NULL;
    return APR_SUCCESS;
}

apr_status_t h2x_session_init(apr_pool_t *p)
{
    if (callbacks) {
        return APR_SUCCESS;
    }
    if (nghttp2_session_callbacks_new(&callbacks)) {
        return APR_ENOMEM;
    }
    apr_pool_cleanup_register(p, NULL, delete_callbacks,
                              apr_pool_cleanup_null);
#define CALLBACK(name, function) \
    nghttp2_session_callbacks_set_##name##_callback(callbacks, function)
    CALLBACK(on_begin_frame, h2x_session_on_begin_frame);
    CALLBACK(on_begin_headers, on_begin_headers);
    CALLBACK(on_header, h2x_session_on_header);
    CALLBACK(on_invalid_header, h2x_session_on_invalid_header);
    CALLBACK(on_frame_recv, on_frame_recv);
    CALLBACK(on_data_chunk_recv, on_data_chunk_recv);
    CALLBACK(on_extension_chunk_recv, h2x_session_on_priority_chunk);
    CALLBACK(unpack_extension, h2x_session_on_priority_end);
    CALLBACK(on_stream_close, on_stream_close);
    CALLBACK(on_invalid_frame_recv, on_invalid_frame_recv);
#undef CALLBACK
    h2x_session_out_init(callbacks);
    return APR_SUCCESS;
}

/* The guard's limits come first, whatever the version: it says why it ends a
 * connection. */
static void lift_limits(nghttp2_option *option)
{
    nghttp2_option_set_max_outbound_ack(option, 2 * ANSWERS_MAX);
#ifdef H2X_HAVE_NGHTTP2_OPTION_SET_MAX_CONTINUATIONS
    nghttp2_option_set_max_continuations(option, SIZE_MAX);
#endif
#ifdef H2X_HAVE_NGHTTP2_OPTION_SET_GLITCH_RATE_LIMIT
    nghttp2_option_set_glitch_rate_limit(option, UINT64_MAX, UINT64_MAX);
#endif
#ifdef H2X_HAVE_NGHTTP2_OPTION_SET_STREAM_RESET_RATE_LIMIT
    nghttp2_option_set_stream_reset_rate_limit(option, UINT64_MAX, UINT64_MAX);
#endif
}

static int make_ng(h2x_session *session, const server_rec *s)
{
    nghttp2_mem mem;
    nghttp2_option *option;
    size_t header_max = (size_t)h2x_conf_get(s, H2X_MAX_HEADER_BLOCK_LEN);
    int rv = nghttp2_option_new(&option);

    if (rv) {
        return rv;
    }
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_closed_streams(option, 1);
#ifdef H2X_HAVE_NGHTTP2_OPTION_SET_NO_RFC9113_LEADING_AND_TRAILING_WS_VALIDATION
    nghttp2_option_set_no_rfc9113_leading_and_trailing_ws_validation(option,
                                                                     1);
#endif
    nghttp2_option_set_user_recv_extension_type(option,
                                                NGHTTP2_PRIORITY_UPDATE);
    lift_limits(option);
    if (header_max) {
        nghttp2_option_set_max_send_header_block_length(option, header_max);
    }
    h2x_session_init_memory(session, &mem);
    rv = nghttp2_session_server_new3(&session->ng, callbacks, session, option,
                                     &mem);
    nghttp2_option_del(option);
    return rv;
}

static int submit_settings(h2x_session *session, const server_rec *s)
{
    int32_t window = (int32_t)h2x_conf_get(s, H2X_WINDOW_SIZE);
    nghttp2_settings_entry settings[4] = {
        { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
          (uint32_t)h2x_conf_get(s, H2X_MAX_SESSION_STREAMS) },
        { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, (uint32_t)window },
        { NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1 },
    };
    int rv, count = 3;

    if (H2X_HAS_POLLFD && h2x_conf_get(s, H2X_WEBSOCKETS)) {
        settings[count].settings_id = NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL;
        settings[count++].value = 1;
    }
    h2x_session_check_outside(session);
    rv = nghttp2_submit_settings(session->ng, NGHTTP2_FLAG_NONE, settings,
                                 count);
    if (rv == 0) {
        rv = nghttp2_session_set_local_window_size(
            session->ng, NGHTTP2_FLAG_NONE, 0,
            window > SESSION_WINDOW ? window : SESSION_WINDOW);
    }
    return rv;
}

/* Says which origins the connection may serve (RFC 8336). */
static int submit_origins(h2x_session *session)
{
    const apr_array_header_t *origins = session->params.origins;
    nghttp2_origin_entry *entries;
    int i, rv;

    if (!origins || !origins->nelts) {
        return 0;
    }
    entries = calloc(origins->nelts, sizeof(*entries));
    if (!entries) {
        return NGHTTP2_ERR_NOMEM;
    }
    for (i = 0; i < origins->nelts; ++i) {
        entries[i].origin = APR_ARRAY_IDX(origins, i, uint8_t *);
        entries[i].origin_len = strlen((const char *)entries[i].origin);
    }
    rv = nghttp2_submit_origin(session->ng, NGHTTP2_FLAG_NONE, entries,
                               origins->nelts);
    free(entries);
    return rv;
}

static void init_parts(h2x_session *session, const server_rec *s)
{
    int streams_max = (int)h2x_conf_get(s, H2X_MAX_SESSION_STREAMS);
    apr_time_t now = h2x_clock_now();

    h2x_guard_init(&session->guard, (int)h2x_conf_get(s, H2X_GUARD),
                   (int)h2x_conf_get(s, H2X_MAX_STREAM_ERRORS), now);
    h2x_frame_scan_init(&session->scan);
    h2x_stream_ids_init(&session->ids);
    h2x_field_account_init(&session->fields, (apr_size_t)s->limit_req_line,
                           (apr_size_t)s->limit_req_fieldsize);
    h2x_windows_init(&session->windows,
                     (int32_t)h2x_conf_get(s, H2X_WINDOW_SIZE), now);
    h2x_early_init(&session->early,
                   streams_max < EARLY_MAX ? streams_max : EARLY_MAX);
}

apr_status_t h2x_session_create(h2x_session **psession,
                                const h2x_session_params *params,
                                apr_pool_t *p)
{
    h2x_session *session = apr_pcalloc(p, sizeof(*session));
    const server_rec *s = params->server;

    session->params = *params;
    session->is_fresh = 1;
    session->idle_since = h2x_clock_now();
    session->keep_alive = s->keep_alive_timeout;
    session->goaway_id = INT32_MAX;
    init_parts(session, s);
    session->diary.size = (int)h2x_conf_get(s, H2X_PUSH_DIARY_SIZE);
    session->padding_max = (1 << h2x_conf_get(s, H2X_PADDING)) - 1;
    session->min_rate = (int)h2x_conf_get(s, H2X_MIN_RATE);
    session->data_max = (apr_size_t)h2x_conf_get(s, H2X_MAX_DATA_FRAME_LEN);
    APR_RING_INIT(&session->all, h2x_stream, all);
    APR_RING_INIT(&session->news, h2x_stream, news);
    if (make_ng(session, s)) {
        return APR_ENOMEM;
    }
    if (submit_settings(session, s) || submit_origins(session)) {
        h2x_session_check_outside(session);
        nghttp2_session_del(session->ng);
        return APR_EGENERAL;
    }
    *psession = session;
    return APR_SUCCESS;
}

static int upgrade_ng(h2x_session *session, const h2x_first_request *first)
{
    int rv;

    h2x_session_enter(session);
    rv = nghttp2_session_upgrade2(session->ng,
                                  (const uint8_t *)first->settings,
                                  first->settings_len,
                                  !strcmp(first->method, "HEAD"), NULL);
    h2x_session_leave(session);
    return rv;
}

apr_status_t h2x_session_upgrade(h2x_session *session,
                                 const h2x_first_request *first)
{
    size_t queued = nghttp2_session_get_outbound_queue_size(session->ng);
    h2x_stream *stream = h2x_session_add(session, 1);

    if (!stream) {
        return APR_ENOMEM;
    }
    if ((first->body_len
         && h2x_stream_feed_locked(stream, first->body, first->body_len)
                != APR_SUCCESS)
        || upgrade_ng(session, first)) {
        h2x_session_release(session, stream);
        return APR_EINVAL;
    }
    if (nghttp2_session_get_outbound_queue_size(session->ng) != queued) {
        /* a GOAWAY, for values that SETTINGS may not have (RFC 9113, section
         * 6.5.2), which says that the request was not begun */
        h2x_session_release(session, stream);
        return APR_SUCCESS;
    }
    nghttp2_session_set_stream_user_data(session->ng, stream->id, stream);
    session->is_fresh = 0;
    h2x_stream_ids_note(&session->ids, stream->id);
    h2x_head_set(stream, first);
    h2x_stream_advance_in_locked(stream, H2X_INPUT_ENDED);
    stream->limits.takes_push = h2x_session_takes_push(session);
    h2x_session_read_priority(session, stream);
    h2x_session_enqueue(session, stream);
    return APR_SUCCESS;
}

void h2x_session_destroy(h2x_session *session)
{
    ap_assert(session->stream_count == 0);
    h2x_windows_end(&session->windows);
    h2x_field_account_end(&session->fields);
    h2x_session_check_outside(session);
    nghttp2_session_del(session->ng);
    h2x_diary_clear(&session->diary);
    h2x_early_clear(&session->early);
    h2x_nva_clear(&session->nva);
}

int h2x_session_stream_count(const h2x_session *session)
{
    return session->stream_count;
}

int h2x_session_is_fresh(const h2x_session *session)
{
    return session->is_fresh;
}

apr_time_t h2x_session_idle_until(const h2x_session *session)
{
    int is_new = session->is_fresh && session->end == H2X_END_OPEN;

    return session->idle_since
           + (is_new ? session->params.server->timeout : session->keep_alive);
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
        h2x_session_close_stream(session, stream);
    }
}

void h2x_session_abort(h2x_session *session)
{
    h2x_session_close(session);
    h2x_session_each(session, abort_stream, session);
}
