/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Requests, in place of h2x_request.c and all of httpd behind it. */

#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <apr_strings.h>

#include "h2x.h"
#include "h2x_request.h"
#include "memory.h"

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

/* Whoever serves it waits for both sides at once. */
static void make_tunnel(request *q)
{
    q->tunnel = H2X_HAS_POLLFD && sim_one_in(2) ? H2X_TUNNEL_WEBSOCKET
                                                : H2X_TUNNEL_CONNECT;
    q->is_upload = 1;
    q->upload = some_size();
    q->pauses_upload = sim_one_in(2);
    q->piece += q->size / 20; /* the other end may pause after each */
    q->ends_last = sim_one_in(2);
    q->ends_never = q->tunnel == H2X_TUNNEL_WEBSOCKET && sim_one_in(2);
    q->is_file = 0;
}

request *request_make(int is_promised)
{
    request *q;

    if (request_count == REQUESTS_MAX) {
        return NULL;
    }
    q = &requests[request_count];
    memset(q, 0, sizeof(*q));
    q->number = request_count++;
    q->is_promised = is_promised;
    if (!is_promised && sim_one_in(3)) {
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
        q->piece += q->size / 20; /* not to take for ever */
    }
    q->flushes = sim_one_in(4);
    q->is_file = sim_one_in(4);
    q->fails = sim_one_in(12);
    if (!is_promised && sim_one_in(8)) {
        make_tunnel(q);
    }
    else if (!is_promised && !q->is_upload && sim_one_in(4)) {
        q->promises = 1 + (int)sim_random(5);
    }
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

/* Returns 0 when there is no memory. */
static int fill(h2x_segments *row, request *q, apr_size_t at, apr_size_t len)
{
    apr_status_t rv;

    if (q->is_file && q->size > 16 * 1024) {
        rv = h2x_segments_add_file(row, FD, (apr_off_t)at, len, 0);
        q->keeps_file = 1;
    }
    else {
        rv = h2x_segments_add(row, body_at(q->is_file ? 0 : q->number, at),
                              len);
    }
    SIM_CHECK(rv == APR_SUCCESS || memory_has_failed(), "no memory");
    return rv == APR_SUCCESS;
}

/* ---- promises ---- */

/* As h2x_announce.c does: what all have in common. */
static void begin_promises(h2x_stream *stream)
{
    const h2x_request_head *head = &stream->request;

    h2x_promising *promising = apr_pcalloc(stream->pool, sizeof(*promising));

    promising->method = "GET";
    promising->base.scheme = head->scheme;
    promising->base.authority = head->authority;
    promising->base.path = head->path;
    stream->out.promising = promising;
}

static h2x_promise *make_promises(h2x_stream *stream, request *q)
{
    h2x_promise *first = NULL, **next = &first;
    request *promised;

    for (; stream->out.promising && q->promises
           && (promised = request_make(1)); --q->promises) {
        *next = apr_pcalloc(stream->pool, sizeof(**next));
        (*next)->path = apr_psprintf(stream->pool, "/%d", promised->number);
        (*next)->is_critical = sim_one_in(2);
        next = &(*next)->next;
    }
    return first;
}

/* Those that go with no head. */
static void promise_early(h2x_stream *stream, request *q)
{
    h2x_pending *pending = apr_pcalloc(stream->pool, sizeof(*pending));

    pending->promises = make_promises(stream, q);
    if (pending->promises) {
        h2x_lock_acquire(stream->lock);
        h2x_stream_append_locked(stream, pending);
        if (!stream->is_closed) {
            stream->owner->output_locked(stream->owner_baton, stream, 1);
        }
        h2x_lock_release(stream->lock);
    }
}

static h2x_pending *make_head(h2x_stream *stream, request *q)
{
    h2x_pending *pending = apr_pcalloc(stream->pool, sizeof(*pending));

    pending->promises = make_promises(stream, q);
    pending->head = h2x_field_parse_head(stream->pool, HEAD, strlen(HEAD));
    return pending;
}

/*
 * A thread that was woken for nothing may not have room now that it had not
 * before. But its share of what may be kept may have grown, as another stream
 * has ended: while much of its output is left, nobody waits for more.
 */
static void note_response(const h2x_stream *stream)
{
    sim_did_something(stream->out.row.memory >= stream->limits.max_memory / 2
                      ? NULL : "responds");
}

/* ---- tunnels ---- */

/* What a thread that serves a tunnel waits for: its client, the other end. */
typedef struct {
    h2x_stream *stream;
    request *q;
    apr_size_t written;
    apr_time_t next;     /* when the other end has more to say; 0: it has
                          * nothing more to say */
    int is_read;         /* the client has nothing more to say */
    int is_broken;
} tunnel;

static int has_signal(const void *baton)
{
    const tunnel *t = baton;

    return !t->is_read && net_is_signalled(t->stream->signal[0]);
}

/* Returns 0 when neither has anything for so long that it is given up. */
static int await_either(tunnel *t)
{
    apr_time_t end = sim_now() + t->stream->limits.timeout;
    int came;

    if (!t->next) {
        return sim_wait(has_signal, t, end, "the client, in a tunnel");
    }
    ++t->q->conn->handlers;
    ++t->q->conn->reasons;
    came = sim_wait_outside(has_signal, t, t->next, "a tunnel");
    --t->q->conn->reasons;
    --t->q->conn->handlers;
    return came || t->next <= sim_now();
}

/* Takes what the client has said. */
static void read_tunnel(tunnel *t)
{
    apr_status_t rv;

    do {
        h2x_stream *stream = t->stream;
        h2x_chunk *chunks = NULL;
        apr_size_t len;
        int has_ended = 0;

        h2x_lock_acquire(stream->lock);
        rv = h2x_stream_await_input_locked(stream, -1, APR_NONBLOCK_READ, -1);
        if (rv == APR_SUCCESS) {
            len = h2x_stream_take_locked(stream, &chunks);
            has_ended = stream->in.state == H2X_INPUT_ENDED;
            t->is_read = has_ended || stream->in.state == H2X_INPUT_CUT;
            stream->owner->consumed_locked(stream->owner_baton, stream, len);
        }
        h2x_lock_release(stream->lock);
        sim_did_something("reads in a tunnel");
        check_chunks(t->q, chunks);
        SIM_CHECK(!has_ended || t->q->taken == t->q->upload, "request %d: %d "
                  "bytes in place of %d", t->q->number, (int)t->q->taken,
                  (int)t->q->upload);
    } while (rv == APR_SUCCESS && !t->is_read);
    t->is_broken = (rv != APR_SUCCESS && rv != APR_EAGAIN);
}

static apr_status_t write_tunnel(tunnel *t, h2x_pending *pending,
                                 apr_size_t len, h2x_output_end end)
{
    h2x_segments row = { NULL, NULL, 0, 0, 0 };
    apr_size_t returned;

    if (len && !fill(&row, t->q, t->written, len)) {
        t->is_broken = 1;
    }
    else {
        t->written += len;
    }
    return h2x_stream_publish(t->stream, pending, &row, end, 1, &returned);
}

/* The other end says something, or ends its side, which shuts a socket. */
static void hear_other_end(tunnel *t)
{
    apr_size_t rest = t->q->size - t->written;
    apr_size_t len = rest < t->q->piece ? rest : t->q->piece;

    if (len && write_tunnel(t, NULL, len, H2X_OUTPUT_GOES_ON)
               != APR_SUCCESS) {
        t->is_broken = 1;
    }
    note_response(t->stream);
    t->next = sim_now() + (sim_one_in(3) ? 1 + sim_random(20000) : 1);
    if (t->written == t->q->size) {
        t->next = 0;
        net_shut_signal(t->stream->signal[0]);
    }
}

static void serve_tunnel(h2x_stream *stream, request *q)
{
    tunnel t = { stream, q, 0, sim_now() + 1, 0, 0 };

    if (h2x_stream_open_signal(stream) != APR_SUCCESS) {
        SIM_CHECK(sim.may_fail, "no pair of sockets");
        write_tunnel(&t, make_head(stream, q), 0, H2X_OUTPUT_FAILS);
        return;
    }
    stream->owner->tunnel_begins(stream->owner_baton, stream);
    t.is_broken = (write_tunnel(&t, make_head(stream, q), 0,
                                H2X_OUTPUT_GOES_ON) != APR_SUCCESS);
    while (!t.is_broken && (t.next || !t.is_read)) {
        if (!await_either(&t)) {
            SIM_CHECK(world.is_wild, "request %d: a tunnel that nobody ends",
                      q->number);
            t.is_broken = 1;
        }
        if (has_signal(&t)) {
            read_tunnel(&t);
        }
        if (t.next && t.next <= sim_now() && !t.is_broken) {
            hear_other_end(&t);
        }
    }
    write_tunnel(&t, NULL, 0, t.is_broken ? H2X_OUTPUT_FAILS
                                          : H2X_OUTPUT_ENDS);
}

/* ---- responses ---- */

static void respond(h2x_stream *stream, request *q)
{
    h2x_pending *pending = make_head(stream, q);
    h2x_segments row = { NULL, NULL, 0, 0, 0 };
    apr_size_t done = 0, returned;
    apr_size_t stop = q->fails ? q->size / 2 : q->size;
    apr_status_t rv = APR_SUCCESS;
    h2x_output_end end;

    do {
        apr_size_t len = stop - done < q->piece ? stop - done : q->piece;

        if (!fill(&row, q, done, len)) {
            q->fails = 1;
            stop = done;
            len = 0;
        }
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
        note_response(stream);
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

/* CONNECT has no path (RFC 9113, section 8.5). */
static request *request_of(const h2x_stream *stream)
{
    const h2x_request_head *head = &stream->request;

    return &requests[atoi(head->path ? head->path + 1 : head->authority)];
}

void h2x_request_run(h2x_stream *stream, conn_rec *c1, h2x_runner *runner)
{
    request *q = request_of(stream);

    SIM_CHECK(!sim_locks_held(), "request %d runs with a lock held",
              q->number);
    SIM_CHECK(!q->runner, "request %d begins twice", q->number);
    SIM_CHECK(stream->state == H2X_STREAM_RUNNING, "request %d begins in "
              "state %d", q->number, stream->state);
    sim_say("request %d begins", q->number);
    sim_did_something("begins a request");
    q->runner = sim_self();
    q->conn = (connection *)c1;
    stream->job.tunnel = q->tunnel;
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
    if (stream->limits.takes_push && q->promises) {
        begin_promises(stream);
        if (sim_one_in(2)) {
            promise_early(stream, q);
        }
    }
    if (q->computes) {
        handler_pass(q, q->computes, 1);
    }
    if (q->waits) {
        handler_pass(q, q->waits, 0);
    }
    if (q->tunnel) {
        serve_tunnel(stream, q);
    }
    else if (q->reads == READS_SOME) {
        read_body(stream, q, 1 + q->upload / 2);
    }
    else if (q->reads == READS_ALL) {
        read_body(stream, q, (apr_size_t)-1);
    }
    if (!q->tunnel) {
        respond(stream, q);
    }
    q->is_done = 1;
    sim_did_something("is done with a request");
    sim_say("request %d is done", q->number);
}

void h2x_request_end(h2x_stream *stream, const h2x_request_sum *sum UNUSED,
                     const h2x_runner *runner UNUSED)
{
    request *q = request_of(stream);
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
    return q->conn && !q->is_over && !q->conn->is_over
           && (!q->is_promised || q->is_announced);
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
    /* that the client has left, may have been read, or seen by writing */
    conn->unread = (net_is_unread(conn->socket) && !is_busy && !conn->stuck
                    && (has_open(conn) || !conn->logs)
                    && conn->reasons == conn->handlers + conn->logs
                    && !conn->waits_for_thread && !conn->is_over
                    && !conn->c1.aborted)
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
        /* without a thread of the MPM, what the client says is not read, and
         * its streams may be reset */
        if (world.is_wild || q->was_cancelled
            || (q->conn && q->conn->waited > world.stream_timeout / 2)
            || (q->is_promised && !q->is_announced)) {
            continue;
        }
        SIM_CHECK(q->runner, "request %d did not run", i);
        if (q->fails && !q->tunnel) {
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
