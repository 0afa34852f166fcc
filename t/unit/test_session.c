/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* A session that is driven by bytes in memory, with a client session of
 * nghttp2 on the other side. */

#include "unit.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <apr_strings.h>

#include <nghttp2/nghttp2.h>

#include <httpd.h>
#include <http_log.h>

#include "h2x_field.h"
#include "h2x_session.h"
#include "h2x_stream.h"

#define MAX_STREAMS 64
#define BODY_MAX (1 << 20)

/* What a client has seen of a stream. */
typedef struct {
    int status;
    int interim;
    char head[256];      /* its fields but the status */
    char trailers[256];
    char *body;
    size_t body_len;
    size_t frame_max;    /* longest DATA frame */
    int ended;
    int reset;           /* -1: it was not */
} answer;

/* What a client sends as a body. */
typedef struct {
    const char *data;
    size_t len;
    int ended;
} upload;

static conn_rec c1;
static server_rec server;
static h2x_lock *lock;
static h2x_stream_store *store;
static h2x_session *session;
static h2x_buffer buffer;
static h2x_stream *ready[MAX_STREAMS];
static h2x_stream *closed[MAX_STREAMS];
static int ready_count;
static int closed_count;

static nghttp2_session *client;
static answer answers[MAX_STREAMS];
static upload uploads[MAX_STREAMS];
static int32_t goaways[4];
static int goaway_count;
static uint32_t goaway_code;
static apr_status_t failure;

/* ---- the client ---- */

static answer *answer_of(int32_t id)
{
    assert_true(id / 2 < MAX_STREAMS);
    return &answers[id / 2];
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

    if (!strncmp((const char *)name, ":status", name_len)) {
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

static int on_frame(nghttp2_session *ng UNUSED, const nghttp2_frame *frame,
                    void *baton UNUSED)
{
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

#define FIELD(name, value) \
    { (uint8_t *)(name), (uint8_t *)(value), sizeof(name) - 1, \
      strlen(value), NGHTTP2_NV_FLAG_NONE }

/* Submits a request; more is a field or NULL, body what goes with it. */
static int32_t ask_for(const char *path, const char *name, const char *value,
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

static int32_t ask(void)
{
    return ask_for("/", NULL, NULL, NULL);
}

static int32_t send_body(const char *data, size_t len, int ended)
{
    int32_t id = (int32_t)nghttp2_session_get_next_stream_id(client);
    upload *up = &uploads[id / 2];

    up->data = data;
    up->len = len;
    up->ended = ended;
    return ask_for("/", NULL, NULL, up);
}

static void make_client(int windows)
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
    nghttp2_submit_settings(client, NGHTTP2_FLAG_NONE, NULL, 0);
}

/* ---- between ---- */

/* Gives the server what the client has to say. */
static int pump_in(void)
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

/* Gives the client what the server has to say, one buffer of it. */
static int pump_out(void)
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

static void pump(void)
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
    assert_ptr_equal(baton, &server);
    assert_true(stream->is_closed);
    assert_true(closed_count < MAX_STREAMS);
    closed[closed_count++] = stream;
}

static const h2x_session_owner owner = { on_ready, on_closed };
static const h2x_stream_owner stream_owner = { NULL, NULL, NULL, NULL };

static void make_session(void)
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

static void set_buffer(size_t size)
{
    free(buffer.data);
    buffer.data = malloc(size);
    buffer.size = size;
}

/* Makes all that a test starts with. */
static void begin(void)
{
    make_session();
    make_client(1);
    pump();
}

static int setup(void **state)
{
    if (unit_setup(state)) {
        return 1;
    }
    unit_conf[H2X_MAX_SESSION_STREAMS] = 100;
    unit_conf[H2X_WINDOW_SIZE] = 65535;
    memset(&c1, 0, sizeof(c1));
    memset(&server, 0, sizeof(server));
    memset(answers, 0, sizeof(answers));
    memset(uploads, 0, sizeof(uploads));
    for (int i = 0; i < MAX_STREAMS; ++i) {
        answers[i].reset = -1;
    }
    ready_count = closed_count = goaway_count = 0;
    failure = APR_SUCCESS;
    server.log.level = APLOG_INFO;
    server.limit_req_line = 100;
    server.limit_req_fieldsize = 200;
    server.limit_req_fields = 10;
    c1.base_server = &server;
    c1.log_id = "id";
    c1.pool = unit_pool;
    lock = unit_lock();
    set_buffer(32768);
    return h2x_stream_store_create(&store, unit_pool) != APR_SUCCESS;
}

/* Releases the streams that are closed. */
static void reap(void)
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
static int teardown(void **state)
{
    int i;

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
    }
    set_buffer(1);
    free(buffer.data);
    buffer.data = NULL;
    return unit_teardown(state);
}

/* Its request runs. */
static h2x_stream *run(int at)
{
    assert_true(at < ready_count);
    h2x_lock_acquire(lock);
    h2x_stream_advance_locked(ready[at], H2X_STREAM_RUNNING);
    h2x_lock_release(lock);
    return ready[at];
}

static void say_head(h2x_stream *stream, const char *text)
{
    h2x_pending_head *pending = apr_pcalloc(stream->pool, sizeof(*pending));
    h2x_pending_head **last = &stream->heads;

    pending->head = h2x_field_parse_head(stream->pool, text, strlen(text));
    assert_non_null(pending->head);
    while (*last) {
        last = &(*last)->next;
    }
    *last = pending;
}

static void say(h2x_stream *stream, const char *data, size_t len)
{
    h2x_lock_acquire(lock);
    assert_int_equal(h2x_segments_add(&stream->out, data, len), APR_SUCCESS);
    h2x_session_output(session, stream);
    h2x_lock_release(lock);
}

static void end(h2x_stream *stream, int failed)
{
    h2x_lock_acquire(lock);
    stream->out_ended = 1;
    stream->out_failed = failed;
    h2x_stream_advance_locked(stream, H2X_STREAM_DRAINING);
    h2x_session_output(session, stream);
    h2x_lock_release(lock);
}

#define OK_HEAD "HTTP/1.1 200 OK\r\nServer: x\r\n\r\n"

static void respond(h2x_stream *stream, const char *data, size_t len)
{
    say_head(stream, OK_HEAD);
    if (len) {
        say(stream, data, len);
    }
    end(stream, 0);
}

static void check_answer(int32_t id, int status, const char *data, size_t len)
{
    answer *a = answer_of(id);

    assert_int_equal(a->status, status);
    assert_int_equal(a->body_len, len);
    assert_memory_equal(a->body ? a->body : "", data, len);
    assert_true(a->ended);
    assert_int_equal(a->reset, -1);
}

static char *pattern(size_t len)
{
    char *data = apr_palloc(unit_pool, len);
    size_t i;

    for (i = 0; i < len; ++i) {
        data[i] = (char)(i * 7 + i / 251);
    }
    return data;
}

/* ---- tests ---- */

TEST(begins_with_settings)
{
    unit_conf[H2X_MAX_SESSION_STREAMS] = 17;
    unit_conf[H2X_WINDOW_SIZE] = 5000;
    begin();
    assert_int_equal(nghttp2_session_get_remote_settings(
        client, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS), 17);
    assert_int_equal(nghttp2_session_get_remote_settings(
        client, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE), 5000);
    assert_true(nghttp2_session_get_remote_window_size(client) > 65535);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_OPEN);
    assert_int_equal(h2x_session_stream_count(session), 0);
    assert_true(h2x_session_is_fresh(session));
}

TEST(reads_a_request)
{
    h2x_request_head *head;

    begin();
    ask_for("/a?b=c", "x-note", "some value", NULL);
    pump();
    assert_int_equal(ready_count, 1);
    assert_int_equal(h2x_session_stream_count(session), 1);
    assert_false(h2x_session_is_fresh(session));
    head = &ready[0]->request;
    assert_int_equal(ready[0]->id, 1);
    assert_string_equal(head->method, "GET");
    assert_string_equal(head->scheme, "https");
    assert_string_equal(head->authority, "example.org");
    assert_string_equal(head->path, "/a?b=c");
    assert_string_equal(apr_table_get(head->fields, "x-note"), "some value");
    assert_int_equal(apr_table_elts(head->fields)->nelts, 1);
    assert_int_equal(head->status, 0);
    assert_false(head->has_body);
    assert_true(ready[0]->in_ended);
    assert_true(head->received > 0);
    assert_true(ready[0]->bytes_in > 9);
}

TEST(answers_with_a_body)
{
    int32_t id;

    begin();
    id = ask();
    pump();
    respond(run(0), "hello world", 11);
    pump();
    check_answer(id, 200, "hello world", 11);
    assert_string_equal(answer_of(id)->head, "server=x;");
    assert_int_equal(closed_count, 1);
    assert_int_equal(closed[0]->out.bytes, 0);
    assert_true(closed[0]->bytes_out > 11 + 9 + 9);
    reap();
    assert_int_equal(h2x_session_stream_count(session), 0);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_OPEN);
}

TEST(answers_without_a_body)
{
    int32_t id;

    begin();
    id = ask();
    pump();
    respond(run(0), NULL, 0);
    pump();
    check_answer(id, 200, "", 0);
    assert_int_equal(closed_count, 1);
}

TEST(answers_many)
{
    int i, round;

    begin();
    for (round = 0; round < 3; ++round) {
        for (i = 0; i < 20; ++i) {
            ask();
        }
        pump();
        assert_int_equal(ready_count, 20);
        assert_int_equal(h2x_session_stream_count(session), 20);
        for (i = 19; i >= 0; --i) {
            respond(run(i), "body", 4);
        }
        pump();
        for (i = 0; i < 20; ++i) {
            check_answer(40 * round + 2 * i + 1, 200, "body", 4);
        }
        assert_int_equal(closed_count, 20);
        reap();
        ready_count = 0;
        assert_int_equal(h2x_session_stream_count(session), 0);
    }
}

/* The client gets each piece at once, and the end when it is known. */
TEST(answers_piece_by_piece)
{
    h2x_stream *stream;
    answer *a;

    begin();
    a = answer_of(ask());
    pump();
    stream = run(0);
    say_head(stream, OK_HEAD);
    h2x_lock_acquire(lock);
    h2x_session_output(session, stream);
    h2x_lock_release(lock);
    pump();
    assert_int_equal(a->status, 200);
    say(stream, "one", 3);
    pump();
    assert_int_equal(a->body_len, 3);
    say(stream, "two", 3);
    pump();
    assert_int_equal(a->body_len, 6);
    assert_false(a->ended);
    end(stream, 0);
    pump();
    check_answer(1, 200, "onetwo", 6);
}

TEST(interim_responses_and_trailers)
{
    h2x_stream *stream;
    apr_table_t *trailers = apr_table_make(unit_pool, 1);
    int32_t id;

    begin();
    id = ask();
    pump();
    stream = run(0);
    say_head(stream, "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n");
    say_head(stream, "HTTP/1.1 103 Early Hints\r\nLink: b\r\n\r\n");
    say_head(stream, OK_HEAD);
    say(stream, "body", 4);
    apr_table_setn(trailers, "X-Sum", "1");
    stream->out_trailers = h2x_field_trailers(stream->pool, trailers);
    end(stream, 0);
    pump();
    check_answer(id, 200, "body", 4);
    assert_int_equal(answer_of(id)->interim, 2);
    assert_string_equal(answer_of(id)->head, "link=a;link=b;server=x;");
    assert_string_equal(answer_of(id)->trailers, "x-sum=1;");
}

static void check_large(size_t buffer_size, apr_int64_t data_max)
{
    size_t len = 300000;
    char *data = pattern(len);
    int32_t one, two;

    unit_conf[H2X_MAX_DATA_FRAME_LEN] = data_max;
    begin();
    set_buffer(buffer_size);
    one = ask();
    two = ask();
    pump();
    respond(run(0), data, len);
    respond(run(1), data + 1, len - 1);
    pump();
    check_answer(one, 200, data, len);
    check_answer(two, 200, data + 1, len - 1);
    assert_true(answer_of(one)->frame_max
                <= (size_t)(data_max ? data_max : 16384));
}

TEST(large_answers)
{
    check_large(32768, 0);
}

TEST(large_answers_in_an_odd_buffer)
{
    check_large(17001, 0);
}

TEST(large_answers_in_a_buffer_of_one_frame)
{
    check_large(16384 + 9, 0);
}

TEST(large_answers_in_small_frames)
{
    check_large(32768, 777);
}

/* The bytes of a stream stay where they are until the client has room. */
TEST(client_without_window)
{
    h2x_stream *stream;

    make_session();
    make_client(0);
    ask();
    pump();
    stream = run(0);
    say_head(stream, OK_HEAD);
    say(stream, pattern(100000), 100000);
    end(stream, 0);
    pump();
    assert_int_equal(answers[0].body_len, 65535);
    assert_int_equal(stream->out.bytes, 100000 - 65535);
    assert_int_equal(closed_count, 0);
    nghttp2_session_consume(client, 1, 65535);
    pump();
    check_answer(1, 200, pattern(100000), 100000);
}

TEST(parts_of_files)
{
    char path[] = "/tmp/h2x-test-session-XXXXXX";
    int fd = mkstemp(path);
    char *data = pattern(50000);
    h2x_stream *stream;

    unlink(path);
    assert_int_equal(write(fd, data, 50000), 50000);
    begin();
    ask();
    ask();
    pump();
    stream = run(0);
    say_head(stream, OK_HEAD);
    assert_int_equal(h2x_segments_add_file(&stream->out, fd, 100, 40000, 0),
                     APR_SUCCESS);
    end(stream, 0);
    pump();
    check_answer(1, 200, data + 100, 40000);

    stream = run(1);    /* whose file is not what it was */
    say_head(stream, OK_HEAD);
    assert_int_equal(h2x_segments_add_file(&stream->out, fd, 0, 50000, 0),
                     APR_SUCCESS);
    assert_int_equal(ftruncate(fd, 20000), 0);
    unit_log_count = 0;
    end(stream, 0);
    pump();
    assert_true(answers[1].reset > 0);
    assert_false(answers[1].ended);
    assert_true(answers[1].body_len < 20001);
    assert_int_equal(unit_log_count, 1);
    assert_int_equal(closed_count, 2);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_OPEN);
    close(fd);
}

/* ---- bodies of requests ---- */

static size_t taken(h2x_stream *stream, char *to)
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

TEST(reads_a_body)
{
    char to[10];

    begin();
    send_body("hello", 5, 1);
    pump();
    assert_int_equal(ready_count, 1);
    assert_true(ready[0]->request.has_body);
    assert_true(ready[0]->in_ended);
    assert_int_equal(taken(run(0), to), 5);
    assert_memory_equal(to, "hello", 5);
}

TEST(reads_a_body_as_it_comes)
{
    h2x_stream *stream;
    char to[10];

    begin();
    send_body("one", 3, 0);
    pump();
    stream = run(0);
    assert_int_equal(taken(stream, to), 3);
    assert_false(stream->in_ended);
    uploads[0].data = "four";
    uploads[0].len = 4;
    uploads[0].ended = 1;
    nghttp2_session_resume_data(client, 1);
    pump();
    assert_int_equal(taken(stream, to), 4);
    assert_memory_equal(to, "four", 4);
    assert_true(stream->in_ended);
    assert_int_equal(ready_count, 1);
}

/* What the runner does not take, the client may not follow up. */
TEST(body_is_held_back)
{
    size_t len = 200000, at = 0;
    char *data = pattern(len), *to = malloc(len);
    h2x_stream *stream;
    int rounds = 0;

    unit_conf[H2X_WINDOW_SIZE] = 10000;
    begin();
    send_body(data, len, 1);
    pump();
    stream = run(0);
    assert_int_equal(len - uploads[0].len, 10000);
    for (; at < len; ++rounds) {
        size_t n = taken(stream, to + at);

        assert_true(n > 0 && n <= 10000);
        at += n;
        pump();
        assert_true(len - uploads[0].len - at <= 10000);
    }
    assert_true(rounds >= 20);
    assert_memory_equal(data, to, len);
    assert_true(stream->in_ended);
    free(to);
}

/* A stream whose body nobody takes leaves the others their room. */
TEST(connection_window_is_given_back)
{
    char *data = pattern(60000), *to = malloc(60000);
    int i;

    begin();
    for (i = 0; i < 40; ++i) {      /* 2.4 MB */
        send_body(data, 60000, 1);
        pump();
        assert_int_equal(uploads[i].len, 0);
    }
    assert_int_equal(ready_count, 40);
    for (i = 0; i < 40; ++i) {
        assert_int_equal(taken(run(i), to), 60000);
        assert_memory_equal(data, to, 60000);
    }
    free(to);
}

TEST(trailers_of_requests)
{
    nghttp2_nv fields[] = { FIELD("x-sum", "1"), FIELD("cookie", "no") };
    char to[10];

    begin();
    send_body("body", 4, 0);
    pump();
    run(0);
    nghttp2_submit_trailer(client, 1, fields, 2);
    pump();
    assert_true(ready[0]->in_ended);
    assert_int_equal(taken(ready[0], to), 4);
    assert_non_null(ready[0]->in_trailers);
    assert_string_equal(apr_table_get(ready[0]->in_trailers, "X-Sum"), "1");
    assert_int_equal(apr_table_elts(ready[0]->in_trailers)->nelts, 1);
}

/* RFC 9113, section 8.1: the answer is complete, no more body is wanted. */
TEST(answered_before_the_body_came)
{
    begin();
    send_body("some", 4, 0);
    pump();
    respond(run(0), "no", 2);
    pump();
    assert_int_equal(answers[0].status, 200);
    assert_true(answers[0].ended);
    assert_int_equal(answers[0].reset, NGHTTP2_NO_ERROR);
    assert_int_equal(closed_count, 1);
}

/* ---- limits ---- */

static void check_status(const char *path, const char *name,
                         const char *value, int status)
{
    int at = ready_count;

    ask_for(path, name, value, NULL);
    pump();
    assert_int_equal(ready_count, at + 1);
    assert_int_equal(ready[at]->request.status, status);
}

TEST(limits_of_fields)
{
    char *most = apr_pstrcat(unit_pool, pattern(0), NULL);

    begin();
    most = apr_palloc(unit_pool, 400);
    memset(most, 'v', 399);
    most[200 - 2 - 4] = '\0';       /* "name" and ": " */
    check_status("/", "name", most, 0);
    assert_int_equal(unit_log_count, 0);
    most[200 - 2 - 4] = 'v';
    most[200 - 2 - 3] = '\0';
    check_status("/", "name", most, 431);
    assert_int_equal(unit_log_count, 1);
    assert_non_null(strstr(unit_log_line, "LimitRequestFieldSize"));
    assert_non_null(strstr(unit_log_line, "(id-3)"));
}

TEST(limit_of_the_number_of_fields)
{
    nghttp2_nv fields[16] = {
        FIELD(":method", "GET"), FIELD(":scheme", "https"),
        FIELD(":authority", "example.org"), FIELD(":path", "/"),
    };
    nghttp2_nv field = FIELD("x", "y"), crumb = FIELD("cookie", "a=b");
    int i;

    begin();
    for (i = 4; i < 16; ++i) {
        fields[i] = field;
    }
    nghttp2_submit_request(client, NULL, fields, 14, NULL, NULL);
    nghttp2_submit_request(client, NULL, fields, 15, NULL, NULL);
    for (i = 5; i < 16; ++i) {
        fields[i] = crumb;          /* count as one */
    }
    nghttp2_submit_request(client, NULL, fields, 16, NULL, NULL);
    pump();
    assert_int_equal(ready_count, 3);
    assert_int_equal(ready[0]->request.status, 0);
    assert_int_equal(ready[1]->request.status, 431);
    assert_int_equal(ready[2]->request.status, 0);
    assert_int_equal(unit_log_count, 1);
    assert_non_null(strstr(unit_log_line, "LimitRequestFields"));
}

/* Kept as far as is needed to see that it is too long. */
TEST(limit_of_the_path)
{
    char *path = apr_palloc(unit_pool, 5001);

    begin();
    memset(path, '/', 5000);
    path[5000] = '\0';
    check_status(path, NULL, NULL, 0);
    assert_int_equal(strlen(ready[0]->request.path), 101);
}

TEST(more_streams_than_allowed)
{
    int i;

    unit_conf[H2X_MAX_SESSION_STREAMS] = 3;
    make_session();
    make_client(1);
    for (i = 0; i < 5; ++i) {       /* before it knows of the limit */
        ask();
    }
    pump();
    assert_int_equal(ready_count, 3);
    assert_int_equal(h2x_session_stream_count(session), 3);
    assert_int_equal(answers[3].reset, NGHTTP2_REFUSED_STREAM);
    assert_int_equal(answers[4].reset, NGHTTP2_REFUSED_STREAM);
    for (i = 0; i < 3; ++i) {
        respond(run(i), "x", 1);
    }
    pump();
    reap();
    ask();
    pump();
    assert_int_equal(ready_count, 4);
    assert_int_equal(goaway_count, 0);
}

TEST(head_too_large_to_send)
{
    char *text = apr_palloc(unit_pool, 5000);
    int32_t id;

    unit_conf[H2X_MAX_HEADER_BLOCK_LEN] = 1000;
    begin();
    id = ask();
    ask();
    pump();
    memset(text, 'v', 5000);
    memcpy(text, "HTTP/1.1 200 OK\r\nX: ", 20);
    strcpy(text + 4000, "\r\n\r\n");
    say_head(run(0), text);
    say(ready[0], "body", 4);
    unit_log_count = 0;
    end(ready[0], 0);
    pump();
    assert_int_equal(answer_of(id)->status, 0);
    assert_int_equal(answer_of(id)->reset, NGHTTP2_INTERNAL_ERROR);
    assert_int_equal(unit_log_count, 1);
    assert_int_equal(closed_count, 1);
    respond(run(1), "fine", 4);
    pump();
    check_answer(3, 200, "fine", 4);
}

/* ---- what goes wrong ---- */

TEST(malformed_requests)
{
    static const char *const bad[][2] = {
        { "x-bad", "line\nbreak" }, { "x-bad", "nul\x01" },
        { "connection", "close" }, { "te", "gzip" },
        { "transfer-encoding", "chunked" }, { "bad name", "x" },
        { ":late", "x" }, { "content-length", "5" }, { NULL, NULL }
    };
    int i;

    begin();
    for (i = 0; bad[i][0]; ++i) {
        int32_t id = ask_for("/", bad[i][0], bad[i][1], NULL);

        pump();
        assert_int_equal(ready_count, 0);
        assert_int_equal(answer_of(id)->reset, NGHTTP2_PROTOCOL_ERROR);
        reap();
        assert_int_equal(h2x_session_stream_count(session), 0);
    }
    ask();
    pump();
    assert_int_equal(ready_count, 1);
    assert_int_equal(goaway_count, 0);
}

TEST(reset_by_the_client)
{
    int at;

    begin();
    for (at = 0; at < 4; ++at) {
        ask();
    }
    pump();
    say_head(run(1), OK_HEAD);
    say(ready[1], "some", 4);
    say_head(run(2), OK_HEAD);
    pump();
    say(ready[2], "other", 5);      /* which is on its way */
    for (at = 0; at < 3; ++at) {
        nghttp2_submit_rst_stream(client, NGHTTP2_FLAG_NONE, 2 * at + 1,
                                  NGHTTP2_CANCEL);
    }
    pump();
    assert_int_equal(closed_count, 3);
    for (at = 0; at < 3; ++at) {
        assert_true(ready[at]->is_closed);
    }
    say(ready[1], "more", 4);       /* its runner did not know yet */
    h2x_lock_acquire(lock);
    h2x_session_consumed(session, ready[1], 10);
    h2x_session_cancel(session, ready[1]);
    h2x_lock_release(lock);
    end(ready[2], 1);
    pump();
    reap();
    assert_int_equal(h2x_session_stream_count(session), 1);
    respond(run(3), "fine", 4);
    pump();
    check_answer(7, 200, "fine", 4);
}

TEST(cancelled)
{
    begin();
    ask();
    ask();
    pump();
    h2x_lock_acquire(lock);
    h2x_session_cancel(session, ready[0]);
    h2x_lock_release(lock);
    pump();
    assert_int_equal(answers[0].reset, NGHTTP2_CANCEL);
    assert_int_equal(closed_count, 1);
    assert_ptr_equal(closed[0], ready[0]);
}

TEST(failed_before_the_head)
{
    begin();
    ask();
    pump();
    run(0);
    end(ready[0], 1);
    pump();
    assert_int_equal(answers[0].reset, NGHTTP2_INTERNAL_ERROR);
    assert_int_equal(answers[0].status, 0);
    assert_int_equal(closed_count, 1);
}

/* What was written before is sent; then it is no short success. */
TEST(failed_half_way)
{
    begin();
    ask();
    ask();
    pump();
    say_head(run(0), OK_HEAD);
    say(ready[0], "half", 4);
    end(ready[0], 1);
    say_head(run(1), OK_HEAD);
    say(ready[1], "half", 4);
    pump();
    end(ready[1], 1);
    pump();
    assert_int_equal(answers[0].status, 200);
    assert_int_equal(answers[0].body_len, 4);
    assert_int_equal(answers[1].body_len, 4);
    assert_false(answers[0].ended || answers[1].ended);
    assert_int_equal(answers[0].reset, NGHTTP2_INTERNAL_ERROR);
    assert_int_equal(answers[1].reset, NGHTTP2_INTERNAL_ERROR);
    assert_int_equal(closed_count, 2);
}

TEST(needs_http11)
{
    begin();
    ask();
    pump();
    run(0)->needs_http11 = 1;
    end(ready[0], 1);
    pump();
    assert_int_equal(answers[0].reset, NGHTTP2_HTTP_1_1_REQUIRED);
    assert_int_equal(closed_count, 1);
}

TEST(no_preface)
{
    static const char other[] = "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n";

    begin();
    h2x_session_destroy(session);
    make_session();
    h2x_lock_acquire(lock);
    h2x_session_receive(session, other, sizeof(other) - 1);
    h2x_lock_release(lock);
    pump_out();
    assert_int_equal(goaway_count, 1);
    assert_int_equal(goaway_code, NGHTTP2_PROTOCOL_ERROR);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_CLOSED);
    h2x_lock_acquire(lock);
    assert_int_equal(h2x_session_receive(session, "x", 1), APR_EGENERAL);
    h2x_lock_release(lock);
}

/* An error of the connection: GOAWAY says so, and that is the end. */
TEST(connection_error)
{
    static const char data_on_0[] = { 0, 0, 1, 0, 0, 0, 0, 0, 0, 'x' };

    begin();
    ask();
    pump();
    h2x_lock_acquire(lock);
    assert_int_equal(h2x_session_receive(session, data_on_0,
                                         sizeof(data_on_0)), APR_SUCCESS);
    h2x_lock_release(lock);
    pump_out();
    assert_int_equal(goaway_code, NGHTTP2_PROTOCOL_ERROR);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_CLOSED);
    h2x_lock_acquire(lock);
    h2x_session_abort(session);
    h2x_lock_release(lock);
    assert_int_equal(closed_count, 1);
}

/* Any cut in what comes is the same to a session. */
TEST(bytes_one_by_one)
{
    const uint8_t *data;
    ssize_t n, i;
    char to[5];

    make_session();
    make_client(1);
    send_body("hello", 5, 1);
    while ((n = nghttp2_session_mem_send(client, &data)) > 0) {
        for (i = 0; i < n; ++i) {
            char *one = malloc(1);

            *one = (char)data[i];
            h2x_lock_acquire(lock);
            assert_int_equal(h2x_session_receive(session, one, 1),
                             APR_SUCCESS);
            h2x_lock_release(lock);
            free(one);
        }
    }
    assert_int_equal(ready_count, 1);
    assert_int_equal(taken(run(0), to), 5);
    respond(ready[0], "fine", 4);
    pump();
    check_answer(1, 200, "fine", 4);
}

/* ---- ends ---- */

TEST(drains_in_two_steps)
{
    begin();
    ask();
    pump();
    ask();      /* is on its way when the session begins to drain */
    h2x_lock_acquire(lock);
    h2x_session_drain(session);
    h2x_session_drain(session);
    h2x_lock_release(lock);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_DRAINING);
    pump_in();
    pump_out();
    assert_int_equal(goaway_count, 1);
    assert_int_equal(goaways[0], 0x7fffffff);
    pump();
    assert_int_equal(ready_count, 2);
    assert_int_equal(goaway_count, 2);
    assert_int_equal(goaways[1], 3);
    assert_int_equal(goaway_code, NGHTTP2_NO_ERROR);
    respond(run(0), "one", 3);
    pump();
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_DRAINING);
    respond(run(1), "two", 3);
    pump();
    check_answer(1, 200, "one", 3);
    check_answer(3, 200, "two", 3);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_CLOSED);
    assert_int_equal(goaway_count, 2);
}

TEST(drains_without_streams)
{
    begin();
    h2x_lock_acquire(lock);
    h2x_session_drain(session);
    h2x_lock_release(lock);
    pump_out();
    assert_int_equal(goaways[0], 0x7fffffff);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_DRAINING);
    pump_in();
    pump_out();
    /* the client of nghttp2 is through and ignores it: read it here */
    assert_int_equal(buffer.len, 9 + 8);
    assert_int_equal(buffer.data[3], NGHTTP2_GOAWAY);
    assert_memory_equal(buffer.data + 9, "\0\0\0\0\0\0\0\0", 8);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_CLOSED);
}

TEST(says_goodbye)
{
    begin();
    ask();
    pump();
    h2x_lock_acquire(lock);
    h2x_session_goaway(session);
    h2x_session_goaway(session);
    h2x_session_drain(session);
    h2x_lock_release(lock);
    pump();
    assert_int_equal(goaway_count, 1);
    assert_int_equal(goaways[0], 1);
    respond(run(0), "one", 3);
    pump();
    check_answer(1, 200, "one", 3);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_CLOSED);
    assert_int_equal(goaway_count, 1);
}

TEST(client_says_goodbye)
{
    begin();
    ask();
    pump();
    nghttp2_submit_goaway(client, NGHTTP2_FLAG_NONE, 0, NGHTTP2_NO_ERROR,
                          NULL, 0);
    pump();
    respond(run(0), "one", 3);
    pump();
    check_answer(1, 200, "one", 3);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_CLOSED);
}

TEST(aborted)
{
    int i;

    begin();
    for (i = 0; i < 10; ++i) {
        ask();
    }
    send_body("half", 4, 0);
    pump();
    for (i = 3; i < 11; ++i) {
        run(i);
    }
    for (i = 6; i < 11; ++i) {
        say_head(ready[i], OK_HEAD);
        say(ready[i], "some", 4);
    }
    end(ready[9], 0);
    h2x_lock_acquire(lock);
    h2x_session_abort(session);
    h2x_session_abort(session);
    h2x_lock_release(lock);
    assert_int_equal(closed_count, 11);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_CLOSED);
    say(ready[8], "more", 4);
    assert_int_equal(h2x_session_stream_count(session), 11);
    assert_false(pump_out());
    reap();
    assert_int_equal(h2x_session_stream_count(session), 0);
}

/* A frame that found no room is no harm at the end. */
TEST(aborted_with_a_frame_left)
{
    begin();
    ask();
    pump();
    respond(run(0), pattern(1000), 1000);
    set_buffer(10);
    h2x_lock_acquire(lock);
    buffer.len = 0;
    assert_int_equal(h2x_session_send(session, &buffer), APR_SUCCESS);
    h2x_lock_release(lock);
    assert_int_equal(buffer.len, 0);
}

static void count(void *baton, h2x_stream *stream)
{
    assert_non_null(stream);
    ++*(int *)baton;
}

static void release(void *baton, h2x_stream *stream)
{
    h2x_stream_advance_locked(stream, H2X_STREAM_CLOSED);
    h2x_session_release(session, stream);
    ++*(int *)baton;
}

TEST(each_stream)
{
    int counted = 0, i;

    begin();
    for (i = 0; i < 5; ++i) {
        ask();
    }
    pump();
    h2x_lock_acquire(lock);
    h2x_session_each(session, count, &counted);
    assert_int_equal(counted, 5);
    h2x_session_abort(session);
    closed_count = 0;
    h2x_session_each(session, release, &counted);
    assert_int_equal(counted, 10);
    h2x_session_each(session, count, &counted);
    assert_int_equal(counted, 10);
    h2x_lock_release(lock);
    assert_int_equal(h2x_session_stream_count(session), 0);
}

TEST(not_destroyed_with_streams)
{
    begin();
    ask();
    pump();
    expect_assert_failure(h2x_session_destroy(session));
}

#define SESSION_TEST(name) \
    cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SESSION_TEST(begins_with_settings),
        SESSION_TEST(reads_a_request),
        SESSION_TEST(answers_with_a_body),
        SESSION_TEST(answers_without_a_body),
        SESSION_TEST(answers_many),
        SESSION_TEST(answers_piece_by_piece),
        SESSION_TEST(interim_responses_and_trailers),
        SESSION_TEST(large_answers),
        SESSION_TEST(large_answers_in_an_odd_buffer),
        SESSION_TEST(large_answers_in_a_buffer_of_one_frame),
        SESSION_TEST(large_answers_in_small_frames),
        SESSION_TEST(client_without_window),
        SESSION_TEST(parts_of_files),
        SESSION_TEST(reads_a_body),
        SESSION_TEST(reads_a_body_as_it_comes),
        SESSION_TEST(body_is_held_back),
        SESSION_TEST(connection_window_is_given_back),
        SESSION_TEST(trailers_of_requests),
        SESSION_TEST(answered_before_the_body_came),
        SESSION_TEST(limits_of_fields),
        SESSION_TEST(limit_of_the_number_of_fields),
        SESSION_TEST(limit_of_the_path),
        SESSION_TEST(more_streams_than_allowed),
        SESSION_TEST(head_too_large_to_send),
        SESSION_TEST(malformed_requests),
        SESSION_TEST(reset_by_the_client),
        SESSION_TEST(cancelled),
        SESSION_TEST(failed_before_the_head),
        SESSION_TEST(failed_half_way),
        SESSION_TEST(needs_http11),
        SESSION_TEST(no_preface),
        SESSION_TEST(connection_error),
        SESSION_TEST(bytes_one_by_one),
        SESSION_TEST(drains_in_two_steps),
        SESSION_TEST(drains_without_streams),
        SESSION_TEST(says_goodbye),
        SESSION_TEST(client_says_goodbye),
        SESSION_TEST(aborted),
        SESSION_TEST(aborted_with_a_frame_left),
        SESSION_TEST(each_stream),
        SESSION_TEST(not_destroyed_with_streams),
    };

    return UNIT_RUN(tests);
}
