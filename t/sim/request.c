/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Requests, in place of h2x_request.c and all of httpd behind it. */

#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "h2x.h"
#include "h2x_request.h"

#define HEAD "HTTP/1.1 200 OK\r\n\r\n"

/* Stands for all files. */
#define FD 12345

request requests[REQUESTS_MAX];
int request_count;

/* ---- bodies ---- */

#define BODY_STEP 61

static char bytes[REQUESTS_MAX * BODY_STEP + BODY_MAX];

void request_init(void)
{
    apr_uint32_t state = 1;
    apr_size_t i;

    for (i = 0; i < sizeof(bytes); ++i) {
        state = state * 1103515245 + 12345;
        bytes[i] = (char)(state >> 16);
    }
}

const char *body_at(int number, apr_size_t at)
{
    return bytes + number * BODY_STEP + at;
}

apr_size_t body_same(int number, apr_size_t at, const void *data,
                     apr_size_t len)
{
    const char *wanted = body_at(number, at), *found = data;
    apr_size_t i = 0;

    if (at + len <= BODY_MAX && !memcmp(wanted, found, len)) {
        return len;
    }
    while (at + i < BODY_MAX && i < len && wanted[i] == found[i]) {
        ++i;
    }
    return i;
}

/* All files have the same in them, wherever a response begins in it. */
ssize_t __wrap_pread(int fd, void *to, size_t len, off_t offset);
ssize_t __wrap_pread64(int fd, void *to, size_t len, off_t offset);

ssize_t __wrap_pread(int fd, void *to, size_t len, off_t offset)
{
    SIM_CHECK(fd == FD && (apr_size_t)offset + len <= BODY_MAX,
              "%d bytes of no file are read", (int)len);
    memcpy(to, body_at(0, (apr_size_t)offset), len);
    return (ssize_t)len;
}

ssize_t __wrap_pread64(int fd, void *to, size_t len, off_t offset)
{
    return __wrap_pread(fd, to, len, offset);
}

/* ---- what they do ---- */

static apr_size_t some_size(void)
{
    switch (sim_random(5)) {
    case 0:
        return 0;
    case 1:
        return sim_random(100);
    case 2:
        return sim_random(5000);
    case 3:
        return sim_random(20000);
    default:
        return sim_random(BODY_MAX);
    }
}

request *request_make(void)
{
    request *q;

    if (request_count == REQUESTS_MAX) {
        return NULL;
    }
    q = &requests[request_count];
    memset(q, 0, sizeof(*q));
    q->number = request_count++;
    if (sim_one_in(3)) {
        q->is_upload = 1;
        q->upload = some_size();
        q->pauses_upload = sim_one_in(2);
        q->reads = (reading)sim_random(4);
    }
    if (sim_one_in(3)) {
        q->computes = sim_random(30000);
    }
    if (sim_one_in(3)) {
        q->waits = sim_random(200000);
        q->says_it_waits = sim_one_in(2);
    }
    q->size = some_size();
    q->piece = 1 + sim_random(40000);
    if (sim_one_in(4)) {
        q->pause = sim_random(20000);
    }
    q->flushes = sim_one_in(4);
    q->is_file = sim_one_in(4);
    q->fails = sim_one_in(12);
    return q;
}

/* ---- how they do it ---- */

static void handler_pass(request *q, apr_interval_time_t time, int is_busy)
{
    ++q->conn->handlers;
    connection_pass(q->conn, time, is_busy);
    --q->conn->handlers;
}

static void check_chunks(request *q, h2x_chunk *chunk)
{
    while (chunk) {
        h2x_chunk *next = chunk->next;
        int same = (int)body_same(q->number, q->taken, chunk->data,
                                  chunk->len);

        SIM_CHECK(same == (int)chunk->len, "request %d: byte %d of its body "
                  "is wrong", q->number, (int)q->taken + same);
        q->taken += chunk->len;
        free(chunk->data);
        free(chunk);
        chunk = next;
    }
}

/* Reads until there is so much. Returns 0 when it cannot. */
static int read_body(h2x_stream *stream, request *q, apr_size_t enough)
{
    apr_status_t rv = APR_SUCCESS;
    int has_ended = 0;

    while (rv == APR_SUCCESS && !has_ended && q->taken < enough) {
        h2x_chunk *chunks = NULL;
        apr_size_t len = 0;

        h2x_lock_acquire(stream->lock);
        rv = h2x_stream_await_input_locked(stream, -1, APR_BLOCK_READ, -1);
        if (rv == APR_SUCCESS) {
            len = h2x_stream_take_locked(stream, &chunks);
            has_ended = (stream->in.state != H2X_INPUT_OPEN);
            stream->owner->consumed_locked(stream->owner_baton, stream, len);
        }
        h2x_lock_release(stream->lock);
        sim_did_something("reads a body");
        check_chunks(q, chunks);
    }
    if (rv == APR_SUCCESS && has_ended && stream->in.state == H2X_INPUT_ENDED) {
        SIM_CHECK(q->taken == q->upload, "request %d: %d bytes of its body "
                  "in place of %d", q->number, (int)q->taken, (int)q->upload);
    }
    return rv == APR_SUCCESS;
}

static void fill(h2x_segments *row, request *q, apr_size_t at, apr_size_t len)
{
    if (q->is_file && q->size > 16 * 1024) {
        SIM_CHECK(h2x_segments_add_file(row, FD, (apr_off_t)at, len, 0)
                  == APR_SUCCESS, "no file");
        q->keeps_file = 1;
        return;
    }
    SIM_CHECK(h2x_segments_add(row, body_at(q->is_file ? 0 : q->number, at),
                               len) == APR_SUCCESS, "no memory");
}

static h2x_pending *make_head(h2x_stream *stream)
{
    h2x_pending *pending = apr_pcalloc(stream->pool, sizeof(*pending));

    pending->head = h2x_field_parse_head(stream->pool, HEAD, strlen(HEAD));
    return pending;
}

static void respond(h2x_stream *stream, request *q)
{
    h2x_pending *pending = make_head(stream);
    h2x_segments row = { NULL, NULL, 0, 0, 0 };
    apr_size_t done = 0, returned;
    apr_size_t stop = q->fails ? q->size / 2 : q->size;
    apr_status_t rv = APR_SUCCESS;
    h2x_output_end end;

    do {
        apr_size_t len = stop - done < q->piece ? stop - done : q->piece;

        fill(&row, q, done, len);
        done += len;
        end = done < stop ? H2X_OUTPUT_GOES_ON
            : q->fails ? H2X_OUTPUT_FAILS : H2X_OUTPUT_ENDS;
        if (pending && q->reads == READS_LATE && q->is_upload) {
            end = H2X_OUTPUT_GOES_ON;
        }
        rv = h2x_stream_publish(stream, pending, &row, end,
                                q->flushes && sim_one_in(2), &returned);
        if (pending && q->reads == READS_LATE && q->is_upload) {
            if (rv == APR_SUCCESS && !read_body(stream, q, (apr_size_t)-1)) {
                rv = APR_ECONNABORTED;
            }
            if (done == stop) {
                end = q->fails ? H2X_OUTPUT_FAILS : H2X_OUTPUT_ENDS;
                h2x_stream_publish(stream, NULL, &row, end, 0, &returned);
            }
        }
        pending = NULL;
        sim_did_something("responds");
        if (q->pause && sim_one_in(3)) {
            handler_pass(q, q->pause, 0);
        }
    } while (rv == APR_SUCCESS && end == H2X_OUTPUT_GOES_ON);
}

/* The secondary connection, as far as the engine looks at it. */
static void make_c2(h2x_stream *stream, conn_rec *c1)
{
    apr_pool_t *p = stream->job.c2_pool->pool;
    conn_rec *c2 = apr_pcalloc(p, sizeof(*c2));

    c2->master = c1;
    c2->pool = p;
    c2->conn_config = apr_pcalloc(p, sizeof(void *));
    h2x_conn_make(c2)->stream = stream;
    stream->job.c2 = c2;
}

void h2x_request_run(h2x_stream *stream, conn_rec *c1, h2x_runner *runner)
{
    request *q = &requests[atoi(stream->request.path + 1)];

    SIM_CHECK(!sim_locks_held(), "request %d runs with a lock held",
              q->number);
    SIM_CHECK(!q->runner, "request %d begins twice", q->number);
    SIM_CHECK(stream->state == H2X_STREAM_RUNNING, "request %d begins in "
              "state %d", q->number, stream->state);
    sim_say("request %d begins", q->number);
    sim_did_something("begins a request");
    q->runner = sim_self();
    stream->job.c2_pool = runner->c2_pool;
    runner->c2_pool = NULL;
    stream->limits.max_memory = 32 * 1024;
    stream->limits.timeout = world.stream_timeout;
    stream->limits.keep_alive = apr_time_from_sec(5);
    stream->limits.min_rate = 500;
    make_c2(stream, c1);
    if (q->says_it_waits) {
        h2x_drive_hand_over(stream->job.c2);
    }
    if (q->computes) {
        handler_pass(q, q->computes, 1);
    }
    if (q->waits) {
        handler_pass(q, q->waits, 0);
    }
    if (q->reads == READS_SOME) {
        read_body(stream, q, 1 + q->upload / 2);
    }
    else if (q->reads == READS_ALL) {
        read_body(stream, q, (apr_size_t)-1);
    }
    respond(stream, q);
    q->is_done = 1;
    sim_did_something("is done with a request");
    sim_say("request %d is done", q->number);
}

void h2x_request_end(h2x_stream *stream, const h2x_request_sum *sum UNUSED,
                     const h2x_runner *runner UNUSED)
{
    request *q = &requests[atoi(stream->request.path + 1)];
    h2x_c2_pool *c2_pool = stream->job.c2_pool;

    SIM_CHECK(!sim_locks_held(), "request %d ends with a lock held",
              q->number);
    SIM_CHECK(q->is_done, "request %d ends while it runs", q->number);
    SIM_CHECK(!q->is_ended, "request %d ends twice", q->number);
    SIM_CHECK(q->keeps_file || q->runner == sim_self(),
              "request %d ends on another thread", q->number);
    sim_say("request %d ends", q->number);
    sim_did_something("ends a request");
    q->is_ended = 1;
    if (sim_one_in(8)) {
        /* a log that takes its time */
        handler_pass(q, sim_random(5000), 0);
    }
    stream->job.c2 = NULL;
    stream->job.c2_pool = NULL;
    apr_pool_clear(c2_pool->pool);
}

/* ---- do they get on? ---- */

/* The longest that the engine may take to notice that a thread waits, and to
 * go on without it. */
#define NOTICE_MAX (100 * 1000)

/* The longest that an event may wait for a thread, while there may be one: a
 * look of the watchdog or three, for each of those that are stuck. */
#define EVENT_MAX (40 * 1000)

/* The longest that a connection may be kept waiting while processors compute
 * for others. */
#define BUSY_MAX (1000 * 1000)

static int is_open(const request *q)
{
    return q->conn && !q->is_over && !q->conn->is_over;
}

/* Could it begin: has the server got it, and a thread for it? */
static int could_begin(const request *q)
{
    return is_open(q) && !q->runner && !q->was_cancelled
           && !q->conn->waits_for_thread && !q->conn->stuck
           && !net_is_readable(q->conn->socket);
}

static int has_open(const connection *conn)
{
    int i, count = 0;

    for (i = 0; i < request_count; ++i) {
        count += (requests[i].conn == conn && is_open(&requests[i]));
    }
    return count > 0;
}

/* How many threads are stuck: with the lock of a connection, for it, or in a
 * log. */
static int count_stuck(void)
{
    int stuck = sim_waiting_for_mutexes(), i;

    for (i = 0; i < connection_count; ++i) {
        stuck += connections[i]->stuck + connections[i]->logs;
    }
    return stuck;
}

/* How many are in requests. */
static int count_running(void)
{
    int running = 0, i;

    for (i = 0; i < request_count; ++i) {
        running += (requests[i].runner && !requests[i].is_ended);
    }
    return running;
}

/*
 * Whatever other connections do: something must come of a connection's
 * requests, unless its own client or its own handlers take their time, as long
 * as there may be one more thread.
 */
static void check_progress(connection *conn, apr_interval_time_t time,
                           int is_busy)
{
    if (conn->reasons || conn->waits_for_thread || !has_open(conn)) {
        conn->idle = conn->waits = 0;
    }
    else {
        conn->idle += is_busy ? 0 : time;
        conn->waits += time;
    }
    /* that the client has left, may have been read */
    conn->unread = (net_is_readable(conn->socket) && !is_busy && !conn->stuck
                    && (has_open(conn) || !conn->logs)
                    && conn->reasons == conn->handlers + conn->logs
                    && !conn->waits_for_thread && !conn->is_over)
        ? conn->unread + time : 0;
    SIM_CHECK(conn->unread < NOTICE_MAX, "connection %d is not read",
              conn->number);
    SIM_CHECK(conn->idle < NOTICE_MAX && conn->waits < BUSY_MAX,
              "connection %d is held up by others", conn->number);
}

void request_on_time(apr_interval_time_t time, int has_reason, int is_busy)
{
    static apr_interval_time_t idle;
    int stuck = count_stuck(), held = stuck + count_running(), open = 0, i;
    /* the last one runs no request, but may be stuck */
    int has_thread = held < world.workers + world.mpm_threads
                     && !(sim.may_fail && stuck);

    for (i = 0; i < request_count; ++i) {
        open += is_open(&requests[i]);
    }
    idle = (open && !has_reason) ? idle + time : 0;
    SIM_CHECK(world.is_wild || idle < NOTICE_MAX,
              "requests are open, and everybody waits");
    SIM_CHECK(net_oldest_event(has_thread ? time : 0, is_busy) < EVENT_MAX,
              "an event is left");
    if (world.is_wild) {
        return;
    }
    for (i = 0; i < request_count; ++i) {
        request *q = &requests[i];

        q->held_up = (could_begin(q) && !is_busy && held < world.workers)
            ? q->held_up + time : 0;
        SIM_CHECK(q->held_up < NOTICE_MAX, "request %d is held up", i);
    }
    for (i = 0; i < connection_count; ++i) {
        check_progress(connections[i], has_thread ? time : 0, is_busy);
    }
}

void request_check_all(void)
{
    int i;

    for (i = 0; i < request_count; ++i) {
        const request *q = &requests[i];

        SIM_CHECK(!q->runner || q->is_ended, "request %d did not end", i);
        if (world.is_wild) {
            continue;
        }
        SIM_CHECK(q->runner, "request %d did not run", i);
        if (q->fails) {
            SIM_CHECK(!q->has_ended, "request %d failed, and its response is "
                      "complete", i);
            continue;
        }
        SIM_CHECK(q->status == 200 && q->has_ended && q->received == q->size,
                  "request %d: status %d, %d of %d bytes, %s, code %u", i,
                  q->status, (int)q->received, (int)q->size,
                  q->has_ended ? "complete" : "not complete", q->code);
    }
}
