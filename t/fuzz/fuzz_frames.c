/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * A session: the input is what a client sends, in steps, and what the server
 * does between them. It has three bytes of configuration (see configure());
 * each step begins with a letter (see steps[]), and takes what follows as its
 * numbers and texts. What is no letter is passed over, and what is missing at
 * the end is 0, so that any input means something.
 *
 * What comes out is checked by wire.c; what the engine promises to those who
 * drive it, here.
 */

#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <apr_strings.h>

#include <httpd.h>
#include <http_log.h>

#include "h2x_head.h"
#include "h2x_session.h"
#include "wire.h"

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define NO_SETTINGS "\0\0\0\4\0\0\0\0\0"
#define OK_HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
#define BUFFER_MIN (17 * 1024)
#define MAX_STREAMS 256
#define MANY_STREAMS 128

/* A stream, and what its request is at. */
typedef struct {
    h2x_stream *stream;
    size_t made; /* bytes of its body */
} job;

static conn_rec c1;
static server_rec server;
static h2x_lock *lock;
static h2x_stream_store *store;
static h2x_session *session;
static job jobs[MAX_STREAMS];
static int job_count;
static int has_given_up; /* the session cannot go on */
static int is_upgraded;  /* stream 1 may come with SETTINGS that are wrong */
static FILE *file;       /* has one wire_pattern() */

/* ---- the engine's part ---- */

static job *job_of(const h2x_stream *stream)
{
    int i;

    for (i = 0; i < job_count; ++i) {
        if (jobs[i].stream == stream) {
            return &jobs[i];
        }
    }
    return NULL;
}

static void on_ready(void *baton, h2x_stream *stream)
{
    FUZZ_CHECK(baton == &server && stream->state == H2X_STREAM_QUEUED);
    FUZZ_CHECK(!job_of(stream) && job_count < MAX_STREAMS);
    FUZZ_CHECK(stream->promised_on ? stream->id % 2 == 0
                                   : stream->id % 2 == 1);
    FUZZ_CHECK(stream->request.method && stream->request.fields);
    FUZZ_CHECK(stream->priority.urgency >= 0 && stream->priority.urgency <= 7);
    jobs[job_count].stream = stream;
    jobs[job_count++].made = 0;
}

static void on_reprioritized(void *baton, h2x_stream *stream)
{
    FUZZ_CHECK(baton == &server && stream->state == H2X_STREAM_QUEUED);
}

/* Those that are closed are released later, as by other threads. */
static void on_closed(void *baton, h2x_stream *stream)
{
    FUZZ_CHECK(baton == &server && stream->is_closed);
    FUZZ_CHECK(stream->state != H2X_STREAM_CLOSED);
    if (stream->state == H2X_STREAM_RECEIVING) {
        FUZZ_CHECK(!job_of(stream) && job_count < MAX_STREAMS);
        jobs[job_count++].stream = stream;
    }
    if (stream->state != H2X_STREAM_RUNNING) {
        h2x_stream_advance_locked(stream, H2X_STREAM_CLOSED);
    }
}

static const h2x_session_owner owner = {
    on_ready, on_reprioritized, on_closed
};
static const h2x_stream_owner stream_owner; /* for runners alone */

/* Frees the streams that are over. */
static void reap(void)
{
    int i, kept = 0;

    for (i = 0; i < job_count; ++i) {
        if (jobs[i].stream->state == H2X_STREAM_CLOSED) {
            h2x_session_release(session, jobs[i].stream);
        }
        else {
            jobs[kept++] = jobs[i];
        }
    }
    job_count = kept;
}

static void receive(const void *data, size_t len)
{
    apr_status_t rv;

    if (!has_given_up) {
        rv = h2x_session_receive(session, fuzz_copy(data, len), len);
        has_given_up = rv != APR_SUCCESS && !APR_STATUS_IS_EAGAIN(rv);
        FUZZ_CHECK(!has_given_up
                   || h2x_session_get_state(session) == H2X_SESSION_CLOSED);
    }
}

/* Sends one buffer. Returns whether there may be more. */
static int send_some(size_t size)
{
    h2x_buffer buffer = { malloc(size), 0, size };

    FUZZ_CHECK(buffer.data);
    if (h2x_session_send(session, &buffer) != APR_SUCCESS) {
        FUZZ_CHECK(h2x_session_get_state(session) == H2X_SESSION_CLOSED);
        has_given_up = 1;
        buffer.len = 0;
    }
    FUZZ_CHECK(buffer.len <= size);
    wire_read(buffer.data, buffer.len);
    free(buffer.data);
    return buffer.len != 0;
}

/* Sends all. A head has gone out then, unless it opens a promised stream:
 * that waits for SETTINGS_MAX_CONCURRENT_STREAMS. */
static void send_all(size_t size)
{
    int i;

    while (send_some(size)) {
        continue;
    }
    FUZZ_CHECK(has_given_up || wire_is_whole());
    for (i = 0; i < job_count; ++i) {
        const h2x_stream *stream = jobs[i].stream;

        FUZZ_CHECK(stream->state != H2X_STREAM_DRAINING || stream->is_closed
                   || stream->promised_on
                   || h2x_session_get_state(session) == H2X_SESSION_CLOSED
                   || h2x_session_has_failed(session)
                   || wire_status(stream->id) || wire_is_reset(stream->id));
    }
}

/* ---- requests ---- */

static void run(job *one)
{
    h2x_stream_advance_locked(one->stream, H2X_STREAM_RUNNING);
    if (!is_upgraded || one->stream->id != 1) {
        wire_begun(one->stream->id);
    }
}

/* The next request that has a state; if it was QUEUED, it runs then. */
static job *choose(h2x_stream_state state)
{
    int i, at = (int)fuzz_byte();

    for (i = 0; i < job_count; ++i) {
        job *chosen = &jobs[(i + at) % job_count];

        if (chosen->stream->state == state) {
            if (state == H2X_STREAM_QUEUED) {
                run(chosen);
            }
            return chosen;
        }
    }
    return NULL;
}

static h2x_pending *append(h2x_stream *stream)
{
    h2x_pending *pending = apr_pcalloc(stream->pool, sizeof(*pending));

    h2x_stream_append_locked(stream, pending);
    return pending;
}

/* A response head, if the text is one. Returns its status. */
static int say_head(h2x_stream *stream, const char *text)
{
    h2x_head *head = h2x_field_parse_head(stream->pool, text, strlen(text));

    if (!head) {
        return 0;
    }
    append(stream)->head = head;
    return head->status;
}

static void set_promising(h2x_stream *stream)
{
    static const h2x_resource base = { "https", "example.org", "/" };
    static const h2x_field field = { "accept-language", "en", 15, 2 };
    h2x_promising *promising = apr_pcalloc(stream->pool, sizeof(*promising));

    promising->method = "GET";
    promising->base = base;
    promising->count = 1;
    promising->fields[0] = field;
    stream->out.promising = promising;
}

/* Promises some resources of 256. */
static void say_promises(h2x_stream *stream, unsigned first, unsigned count)
{
    h2x_promise **next = &append(stream)->promises;

    if (!stream->out.promising) {
        set_promising(stream);
    }
    for (; count; --count) {
        *next = apr_pcalloc(stream->pool, sizeof(**next));
        (*next)->path = apr_psprintf(stream->pool, "/%u", first++ % 256);
        (*next)->is_critical = count % 2;
        next = &(*next)->next;
    }
}

/* Where a piece of a body is: bits of a step. */
#define BODY_BORROWED 1
#define BODY_FILE 2
#define BODY_CUT 4 /* a file that is shorter than it was */

static void say_piece(job *one, unsigned how, size_t len)
{
    h2x_stream *stream = one->stream;
    const char *data = wire_pattern(one->made);
    apr_off_t at = (apr_off_t)(one->made % WIRE_PIECE);
    apr_status_t rv;

    if (how & BODY_FILE) {
        at += (how & BODY_CUT) ? WIRE_PIECE - at : 0;
        rv = h2x_segments_add_file(&stream->out.row, fileno(file), at, len, 0);
    }
    else if (how & BODY_BORROWED) {
        rv = h2x_segments_borrow(&stream->out.row, data, len);
    }
    else {
        rv = h2x_segments_add(&stream->out.row, data, len);
    }
    FUZZ_CHECK(rv == APR_SUCCESS);
    one->made += len;
    wire_expect(stream->id, len, 0);
}

static void say_body(job *one, unsigned how, size_t len)
{
    while (len) {
        size_t left = wire_pattern_left(one->made);
        size_t n = left < len ? left : len;

        say_piece(one, how, n);
        len -= n;
    }
    h2x_session_output(session, one->stream);
}

static void end_request(job *one, int has_failed)
{
    h2x_stream *stream = one->stream;

    h2x_stream_end_output_locked(stream, has_failed ? H2X_OUTPUT_FAILS
                                                    : H2X_OUTPUT_ENDS);
    wire_expect(stream->id, 0, !has_failed);
    if (stream->is_closed) {
        h2x_stream_advance_locked(stream, H2X_STREAM_CLOSED);
    }
    else {
        h2x_stream_advance_locked(stream, H2X_STREAM_DRAINING);
        h2x_session_output(session, stream);
    }
}

/* ---- steps of the client ---- */

static void send_frame(unsigned type, unsigned flags, unsigned id,
                       const char *payload, size_t len)
{
    receive(fuzz_frame(type, flags, id, payload, len), FUZZ_FRAME_HEAD + len);
}

/* A frame: type, flags, stream, length of the payload and that. */
static void step_frame(void)
{
    unsigned type = fuzz_byte(), flags = fuzz_byte(), id = fuzz_byte();
    size_t len = fuzz_piece_size(fuzz_byte());

    send_frame(type, flags, id, fuzz_piece(len), len);
}

/* DATA: flags, stream, length. */
static void step_data(void)
{
    unsigned flags = fuzz_byte(), id = fuzz_byte(), len = fuzz_size();

    send_frame(0, flags, id, wire_pattern(0), len);
}

/* Bytes, with their length. */
static void step_raw(void)
{
    size_t len = fuzz_piece_size(fuzz_byte());

    receive(fuzz_piece(len), len);
}

/* ---- steps of the server ---- */

/* The answers to a request; all but the first may be followed by others. */
enum { ANSWER_OK, ANSWER_INTERIM, ANSWER_HEAD, ANSWER_PROMISES, ANSWER_HTTP11,
       ANSWER_CONNECT, ANSWER_KINDS };

static void answer(job *one, unsigned kind)
{
    h2x_stream *stream = one->stream;
    unsigned count;

    switch (kind) {
    case ANSWER_INTERIM:
        say_head(stream, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        break;
    case ANSWER_HEAD:
        if (say_head(stream, fuzz_piece(fuzz_piece_size(fuzz_byte())))
            >= 200) {
            return;
        }
        break;
    case ANSWER_PROMISES:
        count = fuzz_byte() % 40;
        say_promises(stream, fuzz_byte(), count);
        break;
    case ANSWER_HTTP11:
        h2x_stream_end_output_locked(stream, H2X_OUTPUT_NEEDS_HTTP11);
        break;
    case ANSWER_CONNECT:
        stream->job.tunnel = H2X_TUNNEL_CONNECT;
        break;
    }
    say_head(stream, OK_HEAD);
}

/* A request begins to answer: which, how. */
static void step_answer(void)
{
    job *one = choose(H2X_STREAM_QUEUED);
    unsigned kind = fuzz_byte() % ANSWER_KINDS;

    if (one) {
        answer(one, kind);
        h2x_session_output(session, one->stream);
    }
}

/* All requests are answered: how long. */
static void step_answer_all(void)
{
    unsigned len = fuzz_size();
    int i;

    for (i = 0; i < job_count; ++i) {
        if (jobs[i].stream->state == H2X_STREAM_QUEUED) {
            run(&jobs[i]);
            say_head(jobs[i].stream, OK_HEAD);
            say_body(&jobs[i], 0, len);
            end_request(&jobs[i], 0);
        }
    }
}

/* A request says a part of its body: which, where that is, how long. */
static void step_body(void)
{
    job *one = choose(H2X_STREAM_RUNNING);
    unsigned how = fuzz_byte();
    size_t len = fuzz_size();

    if (one) {
        say_body(one, how, len);
    }
}

/* A request ends: which, how. */
static void step_end(void)
{
    job *one = choose(H2X_STREAM_RUNNING);
    unsigned how = fuzz_byte();

    if (one && how & 2) {
        apr_table_t *trailers = apr_table_make(one->stream->pool, 1);

        apr_table_addn(trailers, "X-Trailer", "1");
        one->stream->out.trailers = h2x_field_trailers(one->stream->pool,
                                                       trailers);
    }
    if (one) {
        end_request(one, how & 1);
    }
}

/* A request fails before it has said anything: which. */
static void step_fail(void)
{
    job *one = choose(H2X_STREAM_QUEUED);

    if (one) {
        end_request(one, 1);
    }
}

/* A request takes what has come of its body: which. */
static void step_take(void)
{
    job *one = choose(H2X_STREAM_RUNNING);
    h2x_chunk *chunk, *next;
    apr_size_t len, sum = 0;

    if (!one) {
        return;
    }
    len = h2x_stream_take_locked(one->stream, &chunk);
    for (; chunk; chunk = next) {
        next = chunk->next;
        sum += chunk->len;
        FUZZ_CHECK(chunk->len <= chunk->size);
        free(chunk->data);
        free(chunk);
    }
    FUZZ_CHECK(sum == len);
    h2x_session_consumed(session, one->stream, len);
}

/* A buffer is sent: how many KB more than the least. */
static void step_send(void)
{
    send_some(BUFFER_MIN + fuzz_byte() % 32 * 1024);
}

static void step_send_all(void)
{
    send_all(BUFFER_MIN);
}

/* A stream that makes no progress: which. */
static void step_cancel(void)
{
    job *one = choose(H2X_STREAM_DRAINING);

    if (one) {
        h2x_session_waits_for_client(session, one->stream, 0);
        h2x_session_cancel(session, one->stream);
    }
}

static void step_drain(void)
{
    h2x_session_drain(session);
}

static void step_goaway(void)
{
    h2x_session_goaway(session);
}

static void (*const steps[256])(void) = {
    ['F'] = step_frame,
    ['D'] = step_data,
    ['R'] = step_raw,
    ['A'] = step_answer,
    ['a'] = step_answer_all,
    ['B'] = step_body,
    ['E'] = step_end,
    ['X'] = step_fail,
    ['T'] = step_take,
    ['S'] = step_send,
    ['.'] = step_send_all,
    ['C'] = step_cancel,
    ['d'] = step_drain,
    ['g'] = step_goaway,
    ['r'] = reap,
};

/* ---- all of it ---- */

/* How the connection begins: bits of the second byte. */
#define BEGIN_WEBSOCKETS 1
#define BEGIN_UPGRADE 2
#define BEGIN_DIARY 4
#define BEGIN_ORIGINS 8
#define BEGIN_WITHOUT_PREFACE 16
#define BEGIN_SMALL_HEADS 32

static unsigned configure(void)
{
    unsigned streams = fuzz_byte(), how = fuzz_byte(), sizes = fuzz_byte();

    unit_conf[H2X_MAX_SESSION_STREAMS] = 1 + streams % 64;
    unit_conf[H2X_MAX_STREAM_ERRORS] = streams >> 6;
    unit_conf[H2X_WEBSOCKETS] = how & BEGIN_WEBSOCKETS;
    unit_conf[H2X_PUSH_DIARY_SIZE] = (how & BEGIN_DIARY) ? 8 : 256;
    unit_conf[H2X_MAX_HEADER_BLOCK_LEN] = (how & BEGIN_SMALL_HEADS) ? 64 : 0;
    unit_conf[H2X_PADDING] = sizes % 9;
    unit_conf[H2X_MAX_DATA_FRAME_LEN] = (sizes & 16) ? 100 : 0;
    unit_conf[H2X_GUARD] = (sizes & 8) ? 100 : 1;
    unit_conf[H2X_WINDOW_SIZE] = 1024 << (sizes >> 5);
    server.log.level = APLOG_DEBUG;
    server.limit_req_line = 100;
    server.limit_req_fieldsize = 200;
    server.limit_req_fields = 10;
    c1.base_server = &server;
    c1.log_id = "id";
    c1.pool = unit_pool;
    return how;
}

static void make_session(int has_origins)
{
    static const char *const names[] = { "https://a", "https://b:8443" };
    apr_array_header_t *origins = apr_array_make(unit_pool, 2, sizeof(char *));
    h2x_session_params params = {
        .c1 = &c1, .server = &server, .lock = lock, .store = store,
        .owner = &owner, .stream_owner = &stream_owner, .baton = &server
    };

    if (has_origins) {
        APR_ARRAY_PUSH(origins, const char *) = names[0];
        APR_ARRAY_PUSH(origins, const char *) = names[1];
        params.origins = origins;
    }
    FUZZ_CHECK(h2x_session_init(unit_pool) == APR_SUCCESS);
    FUZZ_CHECK(h2x_session_create(&session, &params, unit_pool)
               == APR_SUCCESS);
}

/* A request of HTTP/1.1 goes first: its settings and body are in the input. */
static void upgrade(void)
{
    h2x_first_request first = { 0 };

    first.settings_len = fuzz_piece_size(fuzz_byte() % 64);
    first.settings = fuzz_piece(first.settings_len);
    first.body_len = fuzz_byte();
    first.body = (char *)wire_pattern(0);
    first.method = first.body_len % 2 ? "POST" : "HEAD";
    first.path = "/";
    first.fields = apr_table_make(unit_pool, 1);
    has_given_up = h2x_session_upgrade(session, &first) != APR_SUCCESS;
}

static void begin(const uint8_t *data, size_t size)
{
    unsigned how;

    fuzz_begin(data, size);
    wire_begin();
    how = configure();
    lock = unit_lock();
    store = unit_store();
    FUZZ_CHECK(store);
    job_count = has_given_up = 0;
    h2x_lock_acquire(lock);
    make_session(how & BEGIN_ORIGINS);
    is_upgraded = how & BEGIN_UPGRADE;
    if (is_upgraded) {
        upgrade();
    }
    if (!(how & BEGIN_WITHOUT_PREFACE)) {
        receive(PREFACE NO_SETTINGS,
                sizeof(PREFACE) + sizeof(NO_SETTINGS) - 2);
    }
}

/* Whatever was left undone, nothing is left of it. */
static void finish(void)
{
    int i;

    if (!has_given_up) {
        send_all(2 * BUFFER_MIN);
    }
    h2x_session_abort(session);
    FUZZ_CHECK(h2x_session_get_state(session) == H2X_SESSION_CLOSED);
    for (i = 0; i < job_count; ++i) {
        FUZZ_CHECK(jobs[i].stream->is_closed);
        if (jobs[i].stream->state == H2X_STREAM_RUNNING) {
            end_request(&jobs[i], 1);
        }
    }
    reap();
    FUZZ_CHECK(!job_count && !h2x_session_stream_count(session));
    h2x_session_destroy(session);
    h2x_lock_release(lock);
    wire_end();
    fuzz_end();
}

/* Requests whose streams are closed end, when there are many of them. */
static void tidy(void)
{
    int i;

    for (i = 0; i < job_count && job_count > MANY_STREAMS; ++i) {
        if (jobs[i].stream->is_closed
            && jobs[i].stream->state == H2X_STREAM_RUNNING) {
            end_request(&jobs[i], 1);
        }
    }
    if (job_count > MANY_STREAMS) {
        reap();
        FUZZ_CHECK(job_count <= MANY_STREAMS);
    }
}

static void make_file(void)
{
    file = tmpfile();
    FUZZ_CHECK(file);
    FUZZ_CHECK(fwrite(wire_pattern(0), 1, WIRE_PIECE, file) == WIRE_PIECE);
    FUZZ_CHECK(!fflush(file));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    begin(data, size);
    if (!file) {
        make_file();
    }
    while (fuzz_left() && !has_given_up) {
        unsigned letter = fuzz_byte();

        if (steps[letter]) {
            steps[letter]();
        }
        tidy();
    }
    finish();
    return 0;
}
