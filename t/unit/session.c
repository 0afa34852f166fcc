/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <apr_strings.h>

#include <httpd.h>
#include <http_log.h>

#define BODY_MAX (1 << 20)

static conn_rec c1;
server_rec server;
h2x_lock *lock;
static h2x_stream_store *store;
h2x_session *session;
h2x_buffer buffer;
h2x_stream *ready[MAX_STREAMS];
h2x_stream *closed[MAX_STREAMS];
int ready_count;
int closed_count;
int reprioritized_count;

nghttp2_session *client;
answer answers[MAX_STREAMS];
static answer pushes[MAX_STREAMS];
upload uploads[MAX_STREAMS];
seen_frame seen[MAX_FRAMES];
int seen_count;
int32_t goaways[4];
int goaway_count;
uint32_t goaway_code;
static apr_status_t failure;

/* ---- the client ---- */

answer *answer_of(int32_t id)
{
    assert_true(id / 2 < MAX_STREAMS);
    return id % 2 ? &answers[id / 2] : &pushes[id / 2];
}

static void append(char *to, size_t size, const uint8_t *name,
                   size_t name_len, const uint8_t *value, size_t value_len)
{
    size_t at = strlen(to);

    snprintf(to + at, size - at, "%.*s=%.*s;", (int)name_len, name,
             (int)value_len, value);
}

static int on_header(nghttp2_session *ng UNUSED, const nghttp2_frame *frame,
                     const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len,
                     uint8_t flags UNUSED, void *baton UNUSED)
{
    answer *a = answer_of(frame->hd.stream_id);

    if (frame->hd.type == NGHTTP2_PUSH_PROMISE) {
        a = answer_of(frame->push_promise.promised_stream_id);
        append(a->request, sizeof(a->request), name, name_len, value,
               value_len);
    }
    else if (!strncmp((const char *)name, ":status", name_len)) {
        a->interim += (a->status != 0);
        a->status = atoi((const char *)value);
    }
    else if (a->body_len || a->status == 0 || a->ended) {
        append(a->trailers, sizeof(a->trailers), name, name_len, value,
               value_len);
    }
    else {
        append(a->head, sizeof(a->head), name, name_len, value, value_len);
    }
    return 0;
}

static int on_data(nghttp2_session *ng UNUSED, uint8_t flags UNUSED,
                   int32_t id, const uint8_t *data, size_t len,
                   void *baton UNUSED)
{
    answer *a = answer_of(id);

    assert_true(a->body_len + len <= BODY_MAX);
    if (!a->body) {
        a->body = malloc(BODY_MAX);
    }
    memcpy(a->body + a->body_len, data, len);
    a->body_len += len;
    return 0;
}

/* Takes a note of a frame. */
static void see(const nghttp2_frame *frame)
{
    seen_frame *f = &seen[seen_count];

    assert_true(seen_count < MAX_FRAMES);
    ++seen_count;
    memset(f, 0, sizeof(*f));
    f->type = frame->hd.type;
    f->id = frame->hd.stream_id;
    f->len = frame->hd.length;
    switch (frame->hd.type) {
    case NGHTTP2_DATA:
        f->padding = frame->data.padlen;
        f->len -= f->padding;
        break;
    case NGHTTP2_HEADERS:
        f->padding = frame->headers.padlen;
        break;
    case NGHTTP2_PUSH_PROMISE:
        f->padding = frame->push_promise.padlen;
        f->promised = frame->push_promise.promised_stream_id;
        answer_of(f->promised)->promised_on = f->id;
        break;
    }
}

static int on_frame(nghttp2_session *ng UNUSED, const nghttp2_frame *frame,
                    void *baton UNUSED)
{
    see(frame);
    if (frame->hd.type == NGHTTP2_GOAWAY) {
        assert_true(goaway_count < 4);
        goaways[goaway_count++] = frame->goaway.last_stream_id;
        goaway_code = frame->goaway.error_code;
    }
    else if (frame->hd.type == NGHTTP2_RST_STREAM) {
        answer_of(frame->hd.stream_id)->reset
            = (int)frame->rst_stream.error_code;
    }
    else if (frame->hd.stream_id
             && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) {
        answer_of(frame->hd.stream_id)->ended = 1;
    }
    if (frame->hd.type == NGHTTP2_DATA) {
        answer *a = answer_of(frame->hd.stream_id);

        a->frame_max = frame->hd.length > a->frame_max ? frame->hd.length
                                                       : a->frame_max;
    }
    return 0;
}

static ssize_t read_upload(nghttp2_session *ng UNUSED, int32_t id UNUSED,
                           uint8_t *to, size_t len, uint32_t *flags,
                           nghttp2_data_source *source, void *baton UNUSED)
{
    upload *up = source->ptr;

    if (!up->len && !up->ended) {
        return NGHTTP2_ERR_DEFERRED;
    }
    len = up->len < len ? up->len : len;
    memcpy(to, up->data, len);
    up->data += len;
    up->len -= len;
    if (!up->len && up->ended) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)len;
}

/* Submits a request; more is a field or NULL, body what goes with it. */
int32_t ask_for(const char *path, const char *name, const char *value,
                       upload *body)
{
    nghttp2_nv fields[] = {
        FIELD(":method", body ? "POST" : "GET"), FIELD(":scheme", "https"),
        FIELD(":authority", "example.org"), FIELD(":path", path),
        FIELD("", "")
    };
    nghttp2_data_provider provider = { { 0 }, read_upload };
    int32_t id;

    if (name) {
        fields[4].name = (uint8_t *)name;
        fields[4].namelen = strlen(name);
        fields[4].value = (uint8_t *)value;
        fields[4].valuelen = strlen(value);
    }
    provider.source.ptr = body;
    id = nghttp2_submit_request(client, NULL, fields, name ? 5 : 4,
                                body ? &provider : NULL, NULL);
    assert_true(id > 0);
    return id;
}

int32_t ask(void)
{
    return ask_for("/", NULL, NULL, NULL);
}

int32_t send_body(const char *data, size_t len, int ended)
{
    int32_t id = (int32_t)nghttp2_session_get_next_stream_id(client);
    upload *up = &uploads[id / 2];

    up->data = data;
    up->len = len;
    up->ended = ended;
    return ask_for("/", NULL, NULL, up);
}

void make_client_with(int windows, const nghttp2_settings_entry *settings,
                      size_t count)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;

    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks,
                                                              on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_option_new(&option);
    nghttp2_option_set_no_auto_window_update(option, !windows);
    assert_int_equal(nghttp2_session_client_new2(&client, callbacks, NULL,
                                                 option), 0);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_submit_settings(client, NGHTTP2_FLAG_NONE, settings, count);
}

void make_client(int windows)
{
    make_client_with(windows, NULL, 0);
}

/* ---- between ---- */

/* Gives the server what the client has to say. */
int pump_in(void)
{
    const uint8_t *data;
    ssize_t n;
    int count = 0;

    while (!failure && (n = nghttp2_session_mem_send(client, &data)) > 0) {
        h2x_lock_acquire(lock);
        failure = h2x_session_receive(session, (const char *)data, n);
        h2x_lock_release(lock);
        ++count;
    }
    return count;
}

void send_frame(int type, int flags, int32_t id, const void *payload,
                size_t len)
{
    const char head[9] = {
        (char)(len >> 16), (char)(len >> 8), (char)len, (char)type,
        (char)flags, (char)(id >> 24), (char)(id >> 16), (char)(id >> 8),
        (char)id
    };

    h2x_lock_acquire(lock);
    if (!failure) {
        failure = h2x_session_receive(session, head, sizeof(head));
    }
    if (!failure && len) {
        failure = h2x_session_receive(session, payload, len);
    }
    h2x_lock_release(lock);
}

/* Gives the client what the server has to say, one buffer of it. */
int pump_out(void)
{
    h2x_lock_acquire(lock);
    buffer.len = 0;
    assert_int_equal(h2x_session_send(session, &buffer), APR_SUCCESS);
    h2x_lock_release(lock);
    assert_true(buffer.len <= buffer.size);
    if (buffer.len) {
        assert_int_equal(nghttp2_session_mem_recv(
                             client, (uint8_t *)buffer.data, buffer.len),
                         buffer.len);
    }
    return buffer.len != 0;
}

void pump(void)
{
    while (pump_in() + pump_out() > 0) {
        /* until nobody has anything to say */
    }
}

/* ---- the server ---- */

static void on_ready(void *baton, h2x_stream *stream)
{
    assert_ptr_equal(baton, &server);
    assert_int_equal(stream->state, H2X_STREAM_QUEUED);
    assert_true(ready_count < MAX_STREAMS);
    ready[ready_count++] = stream;
}

static void on_closed(void *baton, h2x_stream *stream)
{
    int i;

    assert_ptr_equal(baton, &server);
    assert_true(stream->is_closed);
    assert_true(closed_count < MAX_STREAMS);
    for (i = 0; i < closed_count; ++i) {
        assert_ptr_not_equal(closed[i], stream);
    }
    closed[closed_count++] = stream;
}

static void on_reprioritized(void *baton UNUSED, h2x_stream *stream)
{
    assert_int_equal(stream->state, H2X_STREAM_QUEUED);
    ++reprioritized_count;
}

static const h2x_session_owner owner = {
    on_ready, on_reprioritized, on_closed
};
static void blocks(void *baton UNUSED, h2x_stream *stream UNUSED,
                   int blocks UNUSED)
{
}

static int waits_for_client(void *baton UNUSED, h2x_stream *stream)
{
    return h2x_session_waits_for_client(session, stream, stream->out.progress);
}

static const h2x_stream_owner stream_owner = {
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, blocks, waits_for_client, NULL
};

void make_session(void)
{
    h2x_session_params params = { 0 };

    params.c1 = &c1;
    params.server = &server;
    params.lock = lock;
    params.store = store;
    params.owner = &owner;
    params.stream_owner = &stream_owner;
    params.baton = &server;
    assert_int_equal(h2x_session_init(unit_pool), APR_SUCCESS);
    assert_int_equal(h2x_session_create(&session, &params, unit_pool),
                     APR_SUCCESS);
}

void set_buffer(size_t size)
{
    free(buffer.data);
    buffer.data = malloc(size);
    buffer.size = size;
}

/* Makes all that a test starts with. */
void begin(void)
{
    make_session();
    make_client(1);
    pump();
}

/* Begins with a client that says these settings. */
void begin_with(int windows, const nghttp2_settings_entry *settings,
                size_t count)
{
    make_session();
    make_client_with(windows, settings, count);
    pump();
}

/* Changes a setting of the client, and waits until that is known. */
void change(int32_t setting, uint32_t value)
{
    nghttp2_settings_entry entry = { setting, value };

    nghttp2_submit_settings(client, NGHTTP2_FLAG_NONE, &entry, 1);
    pump();
}

int setup(void **state)
{
    if (unit_setup(state)) {
        return 1;
    }
    unit_conf[H2X_MAX_SESSION_STREAMS] = 100;
    unit_conf[H2X_WINDOW_SIZE] = 65535;
    memset(&c1, 0, sizeof(c1));
    memset(&server, 0, sizeof(server));
    memset(answers, 0, sizeof(answers));
    memset(pushes, 0, sizeof(pushes));
    memset(uploads, 0, sizeof(uploads));
    for (int i = 0; i < MAX_STREAMS; ++i) {
        answers[i].reset = pushes[i].reset = -1;
    }
    ready_count = closed_count = reprioritized_count = 0;
    goaway_count = seen_count = 0;
    failure = APR_SUCCESS;
    server.log.level = APLOG_INFO;
    server.timeout = apr_time_from_sec(60);
    server.limit_req_line = 100;
    server.limit_req_fieldsize = 200;
    server.limit_req_fields = 10;
    c1.base_server = &server;
    c1.log_id = "id";
    c1.pool = unit_pool;
    lock = unit_lock();
    set_buffer(32768);
    store = unit_store();
    return store == NULL;
}

/* Releases the streams that are closed. */
void reap(void)
{
    h2x_lock_acquire(lock);
    while (closed_count) {
        h2x_stream *stream = closed[--closed_count];

        h2x_stream_advance_locked(stream, H2X_STREAM_CLOSED);
        h2x_session_release(session, stream);
    }
    h2x_lock_release(lock);
}

/* Whatever was left undone, all counters are 0 in the end. */
int teardown(void **state)
{
    int i;

    if (apr_thread_mutex_trylock(lock->mutex) != APR_SUCCESS) {
        client = NULL;      /* the test has failed with the lock held */
        return unit_teardown(state);
    }
    apr_thread_mutex_unlock(lock->mutex);
    reap();
    h2x_lock_acquire(lock);
    h2x_session_abort(session);
    h2x_lock_release(lock);
    reap();
    assert_int_equal(h2x_session_stream_count(session), 0);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_CLOSED);
    h2x_lock_acquire(lock);
    h2x_session_destroy(session);
    h2x_lock_release(lock);
    if (client) {
        nghttp2_session_del(client);
        client = NULL;
    }
    for (i = 0; i < MAX_STREAMS; ++i) {
        free(answers[i].body);
        free(pushes[i].body);
    }
    set_buffer(1);
    free(buffer.data);
    buffer.data = NULL;
    return unit_teardown(state);
}

/* Its request runs. */
h2x_stream *run(int at)
{
    assert_true(at < ready_count);
    h2x_lock_acquire(lock);
    h2x_stream_advance_locked(ready[at], H2X_STREAM_RUNNING);
    h2x_lock_release(lock);
    return ready[at];
}

void say_head(h2x_stream *stream, const char *text)
{
    h2x_pending *pending = apr_pcalloc(stream->pool, sizeof(*pending));

    pending->head = h2x_field_parse_head(stream->pool, text, strlen(text));
    assert_non_null(pending->head);
    h2x_lock_acquire(lock);
    h2x_stream_append_locked(stream, pending);
    h2x_lock_release(lock);
}

void say(h2x_stream *stream, const char *data, size_t len)
{
    h2x_lock_acquire(lock);
    assert_int_equal(h2x_segments_add(&stream->out.row, data, len),
                     APR_SUCCESS);
    h2x_session_output(session, stream);
    h2x_lock_release(lock);
}

void end_with(h2x_stream *stream, h2x_output_end how)
{
    h2x_lock_acquire(lock);
    h2x_stream_end_output_locked(stream, how);
    h2x_stream_advance_locked(stream, H2X_STREAM_DRAINING);
    h2x_session_output(session, stream);
    h2x_lock_release(lock);
}

void end(h2x_stream *stream, int failed)
{
    end_with(stream, failed ? H2X_OUTPUT_FAILS : H2X_OUTPUT_ENDS);
}

void respond(h2x_stream *stream, const char *data, size_t len)
{
    say_head(stream, OK_HEAD);
    if (len) {
        say(stream, data, len);
    }
    end(stream, 0);
}

void check_answer(int32_t id, int status, const char *data, size_t len)
{
    answer *a = answer_of(id);

    assert_int_equal(a->status, status);
    assert_int_equal(a->body_len, len);
    assert_memory_equal(a->body ? a->body : "", data, len);
    assert_true(a->ended);
    assert_int_equal(a->reset, -1);
}

char *pattern(size_t len)
{
    char *data = apr_palloc(unit_pool, len);
    size_t i;

    for (i = 0; i < len; ++i) {
        data[i] = (char)(i * 7 + i / 251);
    }
    return data;
}

size_t taken(h2x_stream *stream, char *to)
{
    h2x_chunk *chunk, *next;
    size_t at = 0;

    h2x_lock_acquire(lock);
    h2x_stream_take_locked(stream, &chunk);
    for (; chunk; chunk = next) {
        next = chunk->next;
        memcpy(to + at, chunk->data, chunk->len);
        at += chunk->len;
        free(chunk->data);
        free(chunk);
    }
    h2x_session_consumed(session, stream, at);
    h2x_lock_release(lock);
    return at;
}

/* Starts anew, within one test. */
void again(void)
{
    teardown(NULL);
    setup(NULL);
}
