/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The engine.
 *
 * httpd gives a connection a thread, and one request at a time. HTTP/2 brings
 * many requests on one connection, and each may be stuck: in a script, in a
 * backend, in an upload that does not come. The usual answer, a thread for
 * each request, costs two thread switches and a good deal of locking for
 * every small file; and most requests are for small files.
 *
 * So a request runs on the thread that read it, the connection thread, one
 * after the other, until one of them may wait. Then the connection is *handed
 * over*: from that moment on the watch (h2x_watch.c, one thread a child)
 * reads and writes its frames, and its other requests go to workers
 * (h2x_worker.c). The request that waits knows nothing of it and runs on
 * where it is; no thread is woken for it. When it is done, the connection
 * thread takes its connection back.
 *
 * Three things hand a connection over:
 * - a handler is about to run that is not the core's own serving of a file
 *   (see h2x_request_may_wait());
 * - a request waits for a part of its body, or for room in its output;
 * - the connection thread has been in one request for some milliseconds,
 *   whatever it does there: the watch looks at that, as long as there is any
 *   connection thread at work.
 *
 * Whoever has output sends it: a worker that has a piece of response takes
 * the lock and writes frames itself, as far as the socket takes them. Only
 * the rest is left to the watch.
 *
 * When nothing runs, the connection goes back to the MPM, which waits for the
 * client without a thread. That is also where a download rests whose client
 * does not read: what is left of a file is a descriptor and an offset.
 *
 * One lock a session protects all of this. It is held while frames are read
 * and written, never while code of a request runs. What is done with it held
 * does not block: see pass() for how that is with c1's output filters.
 *
 * Order of locks: the session's, then one of the watch's, the workers' or the
 * store's. Nobody takes the locks of two sessions.
 */

#include <stdlib.h>
#include <string.h>

#include <apr_atomic.h>
#include <apr_strings.h>

#include <httpd.h>
#include <ap_mpm.h>
#include <http_connection.h>
#include <http_core.h>
#include <http_log.h>
#include <http_main.h>
#include <http_protocol.h>
#include <scoreboard.h>
#include <util_filter.h>

#include "h2x.h"
#include "h2x_conf.h"
#include "h2x_drive.h"
#include "h2x_request.h"
#include "h2x_session.h"
#include "h2x_stream.h"
#include "h2x_watch.h"
#include "h2x_worker.h"

/* What is given to c1's filters at once. Less than the threshold past which
 * the core's output filter blocks (FlushMaxThreshold, 64 KB). */
#define BUFFER_SIZE (32 * 1024)

/* What is read before requests are run, and in one go from the filters. */
#define READ_MAX (256 * 1024)
#define READ_SIZE (16 * 1024)

/* A request that takes longer than this is in the way of the others. */
#define RUN_MAX (4 * 1000)

/* How long requests run, one after the other, before output is sent. */
#define BATCH_MAX 1000

/* Output of a request on a worker that is not kept to be sent with more. */
#define SEND_AT (16 * 1024)

/* The size of a TLS record that fits into one packet. */
#define TLS_SMALL 1300

APR_RING_HEAD(drive_stream_ring, h2x_stream);

/* Connections use different stores, so as not to wait for each other. */
#define STORES 8

/* What the connections of a child share. */
typedef struct {
    h2x_watch *watch;
    h2x_workers *workers;
    h2x_stream_store *stores[STORES];
    int is_async;       /* the MPM keeps idle connections */
    int can_wait;       /* and waits for others on our behalf */
    int threads;        /* ThreadsPerChild */
    int thread_limit;   /* slots of a child in the scoreboard */
    apr_uint32_t stopping;
} child_engine;

/* How the child is stopping. */
enum { STOP_NOT, STOP_GRACEFUL, STOP_NOW };

/* NULL before the child is ready and after it has said goodbye. */
static child_engine *engine;

typedef enum {
    DRIVER_MPM,   /* nobody: the MPM has the connection */
    DRIVER_CONN,  /* the connection thread */
    DRIVER_WATCH  /* the watch; and, for what it writes, any thread */
} drive_role;

struct h2x_drive {
    conn_rec *c1;
    h2x_lock lock;
    h2x_session *session;
    drive_role driver;
    struct drive_stream_ring ready; /* QUEUED */
    struct drive_stream_ring ended; /* CLOSED, to be ended and released */
    int ready_count;
    int ended_count;
    int running;       /* requests that run or end, on any thread */
    int running_max;
    int has_deadline;  /* for streams that make no progress */
    int offered;       /* pieces of work offered and not begun */
    apr_uint32_t unsent; /* a request wrote a little, to be sent soon; atomic */
    int gone;          /* the client is; nothing is read or written */
    int pending_input; /* reading stopped before all was read */

    /* the connection thread */
    apr_thread_cond_t *work; /* there is something to do for it */
    int is_waiting;    /* it waits for that */
    h2x_stream *inline_stream; /* the request it runs */
    int is_busy;       /* it runs or ends a request */
    apr_uint64_t busy_since; /* a time; 0: it is not. Read without the lock */

    h2x_watch_entry watch;
    h2x_worker_source source;

    h2x_buffer buffer;
    apr_bucket_brigade *in;
    apr_bucket_brigade *out;
    apr_off_t tls_warm_up;     /* bytes that go out in small records */
    apr_interval_time_t tls_cool_down;
    apr_off_t tls_sent;        /* since the connection was cold */
    apr_time_t tls_last;
};

/* A bucket without any meaning. What ends with it does not stay in mod_ssl's
 * buffer, as it would without, and does not block, as with a FLUSH bucket. */
static apr_status_t nudge_read(apr_bucket *b, const char **str,
                               apr_size_t *len, apr_read_type_e block)
{
    (void)b;
    (void)block;
    *str = NULL;
    *len = 0;
    return APR_SUCCESS;
}

static const apr_bucket_type_t nudge_type = {
    "H2X_NUDGE", 5, APR_BUCKET_METADATA, apr_bucket_destroy_noop, nudge_read,
    apr_bucket_setaside_noop, apr_bucket_split_notimpl,
    apr_bucket_simple_copy
};

static apr_bucket *nudge_create(apr_bucket_alloc_t *list)
{
    apr_bucket *b = apr_bucket_alloc(sizeof(*b), list);

    APR_BUCKET_INIT(b);
    b->free = apr_bucket_free;
    b->list = list;
    b->type = &nudge_type;
    b->data = NULL;
    b->length = 0;
    b->start = 0;
    return b;
}

/* ---- writing ---- */

/* The client is gone: all of its streams are closed. */
static void lose(h2x_drive *drive)
{
    if (!drive->gone) {
        drive->gone = 1;
        h2x_session_abort(drive->session);
    }
}

/* Lets the core write what it holds, as far as the socket takes it. */
static void write_held(h2x_drive *drive)
{
    ap_filter_t *f = drive->c1->output_filters;

    while (f->next) {
        f = f->next;
    }
    f->frec->filter_func.out_func(f, NULL);
}

/* How many bytes the next TLS record may take. */
static apr_size_t record_size(h2x_drive *drive)
{
    apr_time_t now;

    if (!drive->tls_warm_up) {
        return BUFFER_SIZE;
    }
    now = apr_time_now();
    if (drive->tls_cool_down && now - drive->tls_last > drive->tls_cool_down) {
        drive->tls_sent = 0;
    }
    drive->tls_last = now;
    return drive->tls_sent < drive->tls_warm_up ? TLS_SMALL : BUFFER_SIZE;
}

/*
 * Passes the buffer on to c1's output filters. This does not block, as they
 * hold nothing from before (see send_locked()), and this is less than what
 * the core starts to block at.
 */
static void pass(h2x_drive *drive)
{
    apr_bucket_alloc_t *list = drive->c1->bucket_alloc;
    apr_size_t size = record_size(drive);
    apr_size_t at, n;

    for (at = 0; at < drive->buffer.len; at += n) {
        n = drive->buffer.len - at;
        n = (n < size) ? n : size;
        APR_BRIGADE_INSERT_TAIL(drive->out,
            apr_bucket_transient_create(drive->buffer.data + at, n, list));
        APR_BRIGADE_INSERT_TAIL(drive->out, nudge_create(list));
    }
    drive->tls_sent += drive->buffer.len;
    ap_pass_brigade(drive->c1->output_filters, drive->out);
    apr_brigade_cleanup(drive->out);
}

/* Asks the watch for what the session waits for, if that is its part. */
static void arm(h2x_drive *drive)
{
    if (drive->driver == DRIVER_WATCH && !drive->gone
        && h2x_session_get_state(drive->session) != H2X_SESSION_CLOSED) {
        h2x_watch_arm(engine->watch, &drive->watch,
                      drive->c1->data_in_output_filters
                      ? APR_POLLIN | APR_POLLOUT : APR_POLLIN);
    }
}

/* Sends frames, as far as the socket takes them. Any thread. */
static void send_locked(h2x_drive *drive)
{
    conn_rec *c1 = drive->c1;

    h2x_lock_check(&drive->lock);
    apr_atomic_set32(&drive->unsent, 0);
    while (!drive->gone) {
        if (c1->data_in_output_filters) {
            write_held(drive);
        }
        if (c1->aborted) {
            lose(drive);
        }
        if (c1->data_in_output_filters) {
            break;
        }
        if (!drive->buffer.data
            && !(drive->buffer.data = malloc(BUFFER_SIZE))) {
            lose(drive);
            break;
        }
        drive->buffer.len = 0;
        drive->buffer.size = BUFFER_SIZE;
        if (h2x_session_send(drive->session, &drive->buffer) != APR_SUCCESS) {
            lose(drive);
        }
        if (!drive->buffer.len) {
            break;
        }
        pass(drive);
    }
    arm(drive);
}

/* ---- reading ---- */

/* Gives the session what one read from c1's filters brought. */
static apr_size_t receive_brigade(h2x_drive *drive)
{
    apr_size_t total = 0, len;
    const char *data;
    apr_bucket *b;

    while (!APR_BRIGADE_EMPTY(drive->in)) {
        b = APR_BRIGADE_FIRST(drive->in);
        if (APR_BUCKET_IS_EOS(b)) {
            lose(drive);
        }
        else if (!APR_BUCKET_IS_METADATA(b) && !drive->gone) {
            if (apr_bucket_read(b, &data, &len, APR_BLOCK_READ)
                    != APR_SUCCESS
                || h2x_session_receive(drive->session, data, len)
                    != APR_SUCCESS) {
                lose(drive);
            }
            total += len;
        }
        apr_bucket_delete(b);
    }
    return total;
}

/*
 * Reads what has come, but no more than is good for the other requests.
 * @return how many bytes
 */
static apr_size_t receive_locked(h2x_drive *drive)
{
    apr_size_t total = 0;
    apr_status_t rv;

    h2x_lock_check(&drive->lock);
    drive->pending_input = 0;
    while (!drive->gone
           && h2x_session_get_state(drive->session) != H2X_SESSION_CLOSED) {
        if (total >= READ_MAX) {
            drive->pending_input = 1;
            break;
        }
        rv = ap_get_brigade(drive->c1->input_filters, drive->in,
                            AP_MODE_READBYTES, APR_NONBLOCK_READ, READ_SIZE);
        if (APR_STATUS_IS_EAGAIN(rv)
            || (rv == APR_SUCCESS && APR_BRIGADE_EMPTY(drive->in))) {
            break;
        }
        if (rv != APR_SUCCESS) {
            apr_brigade_cleanup(drive->in);
            lose(drive);
            break;
        }
        total += receive_brigade(drive);
    }
    return total;
}

/* ---- queues ---- */

static void push_ended(h2x_drive *drive, h2x_stream *stream)
{
    h2x_stream_advance_locked(stream, H2X_STREAM_CLOSED);
    APR_RING_INSERT_TAIL(&drive->ended, stream, h2x_stream, link);
    ++drive->ended_count;
}

static h2x_stream *pop_ended(h2x_drive *drive)
{
    h2x_stream *stream = NULL;

    if (drive->ended_count) {
        stream = APR_RING_FIRST(&drive->ended);
        APR_RING_REMOVE(stream, link);
        --drive->ended_count;
        ++drive->running;
    }
    return stream;
}

/* How many of the requests that are ready may start. */
static int startable(const h2x_drive *drive)
{
    int room = drive->running_max - drive->running;

    return room < drive->ready_count ? (room > 0 ? room : 0)
                                     : drive->ready_count;
}

static h2x_stream *pop_ready(h2x_drive *drive)
{
    h2x_stream *stream = NULL;

    if (startable(drive)) {
        stream = APR_RING_FIRST(&drive->ready);
        APR_RING_REMOVE(stream, link);
        --drive->ready_count;
        ++drive->running;
        h2x_stream_advance_locked(stream, H2X_STREAM_RUNNING);
    }
    return stream;
}

/* The session's callbacks. */

static void on_ready_stream(void *baton, h2x_stream *stream)
{
    h2x_drive *drive = baton;

    APR_RING_INSERT_TAIL(&drive->ready, stream, h2x_stream, link);
    ++drive->ready_count;
}

static void on_closed_stream(void *baton, h2x_stream *stream)
{
    h2x_drive *drive = baton;

    if (stream->state == H2X_STREAM_QUEUED) {
        APR_RING_REMOVE(stream, link);
        --drive->ready_count;
    }
    if (stream->state != H2X_STREAM_RUNNING) {
        push_ended(drive, stream);
    }
}

static const h2x_session_owner session_owner = {
    on_ready_stream, on_closed_stream
};

/* ---- giving work away ---- */

/*
 * Sees to it that somebody does what is to be done: the connection thread
 * when it waits, workers when it is busy or not there. When it drives, it
 * will look.
 */
static void delegate_locked(h2x_drive *drive)
{
    int work = drive->ended_count + startable(drive);

    if (drive->driver == DRIVER_CONN) {
        return;
    }
    if (drive->is_waiting) {
        if (work || !drive->running || drive->gone
            || h2x_session_get_state(drive->session) == H2X_SESSION_CLOSED) {
            apr_thread_cond_signal(drive->work);
        }
        return;
    }
    while (drive->offered < work) {
        ++drive->offered;
        h2x_workers_offer(engine->workers, &drive->source);
    }
}

/* Hands the connection over, if its thread is busy with a request. */
static void hand_over_locked(h2x_drive *drive)
{
    if (drive->driver == DRIVER_CONN && drive->is_busy) {
        drive->driver = DRIVER_WATCH;
        h2x_watch_tick(engine->watch, &drive->watch, 0);
        send_locked(drive);
        delegate_locked(drive);
    }
}

/* Takes the connection back. Its own thread. */
static void take_back_locked(h2x_drive *drive)
{
    if (drive->driver != DRIVER_CONN) {
        if (drive->driver == DRIVER_WATCH) {
            h2x_watch_disarm(engine->watch, &drive->watch);
        }
        if (drive->offered) {
            drive->offered -= h2x_workers_withdraw(engine->workers,
                                                   &drive->source);
        }
        drive->driver = DRIVER_CONN;
        h2x_watch_tick(engine->watch, &drive->watch, 1);
    }
}

/* What the requests ask for: see h2x_stream_owner. */

static void on_may_wait_locked(void *baton)
{
    hand_over_locked(baton);
}

static void on_may_wait(void *baton)
{
    h2x_drive *drive = baton;

    h2x_lock_acquire(&drive->lock);
    hand_over_locked(drive);
    h2x_lock_release(&drive->lock);
}

static void on_output_locked(void *baton, h2x_stream *stream, int flush)
{
    h2x_drive *drive = baton;
    int is_inline = (stream == drive->inline_stream
                     && drive->driver == DRIVER_CONN);

    h2x_session_output(drive->session, stream);
    if (flush || stream->out.memory >= stream->max_memory
        || (!is_inline && (stream->out_ended
                           || stream->out.bytes >= SEND_AT))) {
        send_locked(drive);
        delegate_locked(drive);
    }
    else if (!is_inline && !apr_atomic_read32(&drive->unsent)) {
        /* more may follow at once; if not, the next tick sends it */
        apr_atomic_set32(&drive->unsent, 1);
        h2x_watch_tick(engine->watch, &drive->watch, 1);
    }
}

static void on_consumed_locked(void *baton, h2x_stream *stream,
                               apr_size_t len)
{
    h2x_drive *drive = baton;

    h2x_session_consumed(drive->session, stream, len);
    if (drive->driver == DRIVER_WATCH) {
        send_locked(drive);
        delegate_locked(drive);
    }
}

static const h2x_stream_owner stream_owner = {
    on_may_wait, on_may_wait_locked, on_output_locked, on_consumed_locked
};

/* ---- streams that make no progress ---- */

/*
 * Asks to look after streams whose client takes nothing (H2StreamTimeout).
 * One deadline is enough: when it has come, the next one is found.
 */
static void set_deadline(h2x_drive *drive, apr_time_t deadline)
{
    if (!drive->has_deadline && deadline) {
        drive->has_deadline = 1;
        h2x_watch_deadline(engine->watch, &drive->watch, deadline);
    }
}

typedef struct {
    h2x_drive *drive;
    apr_time_t now;
    apr_time_t next; /* the earliest deadline left */
} late_search;

static void cancel_if_late(void *baton, h2x_stream *stream)
{
    late_search *search = baton;
    apr_time_t deadline = stream->progress + stream->timeout;

    if (stream->state != H2X_STREAM_DRAINING) {
        return;
    }
    if (deadline <= search->now) {
        ap_log_cerror(APLOG_MARK, APLOG_INFO, 0, search->drive->c1,
                      "h2x(%s-%d): client takes no data, timeout",
                      search->drive->c1->log_id, stream->id);
        h2x_session_cancel(search->drive->session, stream);
    }
    else if (!search->next || deadline < search->next) {
        search->next = deadline;
    }
}

/*
 * The deadline has come. The connection may be with the MPM: as long as it
 * has streams, that only waits for its socket, and h2x_drive_enter() keeps
 * us out when it is ready.
 */
static void on_deadline(void *baton)
{
    h2x_drive *drive = baton;
    late_search search = { drive, apr_time_now(), 0 };

    h2x_lock_acquire(&drive->lock);
    drive->has_deadline = 0;
    if (drive->driver == DRIVER_CONN && !drive->is_busy) {
        set_deadline(drive, search.now + APR_USEC_PER_SEC);
    }
    else if (!drive->gone && h2x_session_stream_count(drive->session)) {
        h2x_session_each(drive->session, cancel_if_late, &search);
        set_deadline(drive, search.next);
        send_locked(drive);
        delegate_locked(drive);
    }
    h2x_lock_release(&drive->lock);
}

/* ---- running ---- */

/* Runs a request. The lock is held before and after, not during that. */
static void run_stream(h2x_drive *drive, h2x_stream *stream,
                       const h2x_runner *runner)
{
    h2x_lock_release(&drive->lock);
    h2x_request_run(stream, drive->c1, runner);
    h2x_lock_acquire(&drive->lock);
    --drive->running;
    if (!stream->out_ended) {
        stream->out_ended = 1;
        stream->out_failed = 1;
    }
    if (stream->is_closed) {
        push_ended(drive, stream);
    }
    else {
        h2x_stream_advance_locked(stream, H2X_STREAM_DRAINING);
        stream->progress = apr_time_now();
        set_deadline(drive, stream->progress + stream->timeout);
        h2x_session_output(drive->session, stream);
    }
}

/* Logs a request, and frees all that was its. As above. */
static void end_stream(h2x_drive *drive, h2x_stream *stream,
                       const h2x_runner *runner)
{
    if (stream->eor) {
        h2x_lock_release(&drive->lock);
        h2x_request_end(stream, runner);
        h2x_lock_acquire(&drive->lock);
    }
    --drive->running;
    h2x_session_release(drive->session, stream);
}

/*
 * The place of a worker in the scoreboard. A child has ThreadLimit slots, of
 * which its own threads use ThreadsPerChild; workers show in the others, and
 * when those are all taken, in that of the connection's thread.
 */
static int worker_slot(int number)
{
    int slot = engine->threads + number;

    return slot < engine->thread_limit ? slot : -1;
}

/* Runs or ends a request on a worker. */
static void do_on_worker(h2x_drive *drive, h2x_stream *stream,
                         apr_thread_t *thread, int slot)
{
    int child = (int)(drive->c1->id / engine->thread_limit);
    h2x_runner runner = { thread, drive->c1->sbh };

    if (slot >= 0) {
        ap_create_sb_handle(&runner.sbh, stream->pool, child, slot);
    }
    if (stream->state == H2X_STREAM_RUNNING) {
        run_stream(drive, stream, &runner);
        send_locked(drive);
    }
    else {
        end_stream(drive, stream, &runner);
    }
    if (slot >= 0) {
        ap_update_child_status_from_indexes(child, slot, SERVER_DEAD, NULL);
    }
}

/* Does one piece of work, if there is any, on a worker. */
static void work(void *baton, apr_thread_t *thread, int number)
{
    h2x_drive *drive = baton;
    h2x_stream *stream;

    h2x_lock_acquire(&drive->lock);
    --drive->offered;
    stream = pop_ended(drive);
    if (!stream) {
        stream = pop_ready(drive);
    }
    if (stream) {
        do_on_worker(drive, stream, thread, worker_slot(number));
        delegate_locked(drive);
    }
    h2x_lock_release(&drive->lock);
}

static void set_busy(h2x_drive *drive, h2x_stream *stream, apr_time_t since)
{
    drive->inline_stream = stream;
    drive->is_busy = (since != 0);
    apr_atomic_set64(&drive->busy_since, (apr_uint64_t)since);
}

/* Runs or ends a request on the connection thread. */
static void do_inline(h2x_drive *drive, h2x_stream *stream, apr_time_t now)
{
    h2x_runner runner = { drive->c1->current_thread, drive->c1->sbh };

    set_busy(drive, stream, now);
    if (stream->state == H2X_STREAM_RUNNING) {
        run_stream(drive, stream, &runner);
    }
    else {
        end_stream(drive, stream, &runner);
    }
    set_busy(drive, NULL, 0);
    take_back_locked(drive);
}

/* Runs what is ready, for a while. Returns how many requests ran. */
static int run_batch(h2x_drive *drive)
{
    apr_time_t now = apr_time_now(), end = now + BATCH_MAX;
    h2x_stream *stream;
    int count = 0;

    while (now < end && (stream = pop_ready(drive))) {
        do_inline(drive, stream, now);
        now = apr_time_now();
        ++count;
    }
    return count;
}

static int end_all(h2x_drive *drive)
{
    h2x_stream *stream;
    int count = 0;

    while ((stream = pop_ended(drive))) {
        do_inline(drive, stream, apr_time_now());
        ++count;
    }
    return count;
}

/* Does what a stopping child should: ask clients to go, or let them down. */
static void check_stopping(h2x_drive *drive)
{
    switch (apr_atomic_read32(&engine->stopping)) {
    case STOP_GRACEFUL:
        h2x_session_drain(drive->session);
        break;
    case STOP_NOW:
        lose(drive);
        break;
    }
}

/* ---- the watch ---- */

/* The socket of a session that was handed over is ready. */
static void on_socket_ready(void *baton)
{
    h2x_drive *drive = baton;

    h2x_lock_acquire(&drive->lock);
    if (drive->driver == DRIVER_WATCH) {
        if (drive->is_waiting) {
            apr_thread_cond_signal(drive->work);
        }
        else {
            check_stopping(drive);
            receive_locked(drive);
            send_locked(drive);
            if (h2x_session_get_state(drive->session)
                == H2X_SESSION_CLOSED) {
                lose(drive);
            }
            delegate_locked(drive);
        }
    }
    h2x_lock_release(&drive->lock);
}

/*
 * Sends what a request has written that says no more, and looks whether the
 * connection thread has been in one request for long.
 */
static void on_tick(void *baton)
{
    h2x_drive *drive = baton;
    apr_uint64_t since = apr_atomic_read64(&drive->busy_since);
    int is_late = since && (apr_uint64_t)apr_time_now() > since + RUN_MAX;

    if (!is_late && !apr_atomic_read32(&drive->unsent)) {
        return;
    }
    h2x_lock_acquire(&drive->lock);
    if (is_late && apr_atomic_read64(&drive->busy_since) == since) {
        hand_over_locked(drive);
    }
    if (apr_atomic_read32(&drive->unsent)) {
        send_locked(drive);
        delegate_locked(drive);
    }
    if (drive->driver != DRIVER_CONN) {
        h2x_watch_tick(engine->watch, &drive->watch, 0);
    }
    h2x_lock_release(&drive->lock);
}

/* ---- the connection thread ---- */

/* Waits until there is something to do for the connection thread. */
static apr_status_t wait_locked(h2x_drive *drive, apr_interval_time_t timeout)
{
    apr_status_t rv;

    drive->driver = DRIVER_WATCH;
    drive->is_waiting = 1;
    h2x_watch_tick(engine->watch, &drive->watch, 0);
    arm(drive);
    rv = h2x_lock_wait(&drive->lock, drive->work, timeout);
    drive->is_waiting = 0;
    take_back_locked(drive);
    return rv;
}

/* How long to wait for the client where the MPM does not. */
static apr_interval_time_t client_timeout(const h2x_drive *drive)
{
    server_rec *s = h2x_conn_get(drive->c1)->server;

    return h2x_session_stream_count(drive->session)
           || h2x_session_is_fresh(drive->session)
           ? s->timeout : s->keep_alive_timeout;
}

/* Nothing runs, and there is nothing to run. Returns 1 to go on anyway. */
static int rest_locked(h2x_drive *drive)
{
    if (engine->can_wait
        || (engine->is_async && !h2x_session_stream_count(drive->session)
            && !h2x_session_is_fresh(drive->session))) {
        return 0;
    }
    if (apr_atomic_read32(&engine->stopping)
        && !h2x_session_stream_count(drive->session)) {
        h2x_session_goaway(drive->session);
        send_locked(drive);
        return 0;
    }
    if (wait_locked(drive, client_timeout(drive)) != APR_SUCCESS) {
        h2x_session_goaway(drive->session);
        send_locked(drive);
        lose(drive);
    }
    return 1;
}

/* Tells the MPM what to do with the connection. */
static void leave_locked(h2x_drive *drive)
{
    conn_rec *c1 = drive->c1;
    int is_over = drive->gone || c1->aborted
        || h2x_session_get_state(drive->session) == H2X_SESSION_CLOSED;

    drive->driver = DRIVER_MPM;
    h2x_watch_tick(engine->watch, &drive->watch, 0);
    free(drive->buffer.data);
    drive->buffer.data = NULL;
    c1->keepalive = is_over ? AP_CONN_CLOSE : AP_CONN_KEEPALIVE;
    if (!c1->cs) {
        return;
    }
    c1->cs->sense = CONN_SENSE_DEFAULT;
    if (is_over) {
        c1->cs->state = CONN_STATE_LINGER;
    }
    else if (!h2x_session_stream_count(drive->session)
             && !h2x_session_is_fresh(drive->session)) {
        c1->cs->state = CONN_STATE_WRITE_COMPLETION;
    }
    else {
        c1->cs->sense = c1->data_in_output_filters ? CONN_SENSE_WANT_WRITE
                                                   : CONN_SENSE_WANT_READ;
#ifdef AP_MPMQ_CAN_WAITIO
        c1->cs->state = CONN_STATE_ASYNC_WAITIO;
#endif
    }
}

/* Is there nothing more that this thread could do now? */
static int is_idle(const h2x_drive *drive)
{
    return !drive->ready_count && !drive->ended_count
           && !drive->pending_input;
}

void h2x_drive_enter(h2x_drive *drive)
{
    h2x_lock_acquire(&drive->lock);
    take_back_locked(drive);
    h2x_lock_release(&drive->lock);
}

/* Reads, runs, writes and ends what there is; returns whether that was any. */
static int step_locked(h2x_drive *drive)
{
    int did_something;

    check_stopping(drive);
    did_something = receive_locked(drive) > 0;
    did_something |= run_batch(drive) > 0;
    send_locked(drive);
    if (h2x_session_get_state(drive->session) == H2X_SESSION_CLOSED) {
        lose(drive);
    }
    did_something |= end_all(drive) > 0;
    return did_something;
}

void h2x_drive_run(h2x_drive *drive)
{
    conn_rec *c1 = drive->c1;
    int idle_steps = 0;

    ap_update_child_status_from_conn(c1->sbh, SERVER_BUSY_READ, c1);
    h2x_lock_acquire(&drive->lock);
    for (;;) {
        idle_steps = step_locked(drive) ? 0 : idle_steps + 1;
        if (drive->running && (is_idle(drive) || !startable(drive))) {
            wait_locked(drive, -1);
            idle_steps = 0;
        }
        else if (is_idle(drive)) {
            if (drive->gone || !rest_locked(drive)) {
                break;
            }
            idle_steps = 0;
        }
        else if (idle_steps > 1) {
            /* better to lose one connection than a processor */
            ap_log_cerror(APLOG_MARK, APLOG_ERR, 0, c1,
                          "h2x(%s): no progress, closing: please report",
                          c1->log_id);
            lose(drive);
        }
    }
    leave_locked(drive);
    h2x_lock_release(&drive->lock);
}

/* ---- life ---- */

static apr_status_t close_on_cleanup(void *baton)
{
    h2x_drive_close(baton);
    return APR_SUCCESS;
}

apr_status_t h2x_drive_create(h2x_drive **pdrive, conn_rec *c1)
{
    apr_pool_t *p = c1->pool;
    server_rec *s = h2x_conn_get(c1)->server;
    h2x_drive *drive = apr_pcalloc(p, sizeof(*drive));
    h2x_session_params params = {
        c1, s, &drive->lock, engine->stores[c1->id % STORES], &session_owner,
        &stream_owner, drive
    };
    apr_status_t rv;

    drive->c1 = c1;
    drive->driver = DRIVER_MPM;
    APR_RING_INIT(&drive->ready, h2x_stream, link);
    APR_RING_INIT(&drive->ended, h2x_stream, link);
    drive->running_max = (int)h2x_conf_get(s, H2X_MAX_SESSION_STREAMS);
    drive->in = apr_brigade_create(p, c1->bucket_alloc);
    drive->out = apr_brigade_create(p, c1->bucket_alloc);
    if (h2x_conn_get(c1)->ssl) {
        drive->tls_warm_up = h2x_conf_get(s, H2X_TLS_WARM_UP_SIZE);
        drive->tls_cool_down
            = apr_time_from_sec(h2x_conf_get(s, H2X_TLS_COOL_DOWN_SECS));
    }
    rv = apr_thread_mutex_create(&drive->lock.mutex,
                                 APR_THREAD_MUTEX_DEFAULT, p);
    if (rv == APR_SUCCESS) {
        rv = apr_thread_cond_create(&drive->work, p);
    }
    if (rv == APR_SUCCESS) {
        rv = h2x_session_create(&drive->session, &params, p);
    }
    if (rv != APR_SUCCESS) {
        return rv;
    }
    drive->source.run = work;
    drive->source.baton = drive;
    drive->watch.on_ready = on_socket_ready;
    drive->watch.on_tick = on_tick;
    drive->watch.on_deadline = on_deadline;
    drive->watch.baton = drive;
    h2x_watch_add(engine->watch, &drive->watch, ap_get_conn_socket(c1), p);
    h2x_drive_enter(drive);
    apr_pool_pre_cleanup_register(p, drive, close_on_cleanup);
    *pdrive = drive;
    return APR_SUCCESS;
}

void h2x_drive_close(h2x_drive *drive)
{
    h2x_runner runner = { drive->c1->current_thread, drive->c1->sbh };
    h2x_stream *stream;

    if (!engine || !drive->session) {
        return;
    }
    h2x_watch_forget(engine->watch, &drive->watch);
    h2x_workers_forget(engine->workers, &drive->source);
    h2x_lock_acquire(&drive->lock);
    if (!drive->gone && !drive->c1->aborted) {
        h2x_session_goaway(drive->session);
        send_locked(drive);
    }
    lose(drive);
    while ((stream = pop_ended(drive))) {
        end_stream(drive, stream, &runner);
    }
    ap_assert(!drive->running && !drive->ready_count && !drive->ended_count);
    h2x_session_destroy(drive->session);
    drive->session = NULL;
    free(drive->buffer.data);
    drive->buffer.data = NULL;
    h2x_lock_release(&drive->lock);
    h2x_conn_get(drive->c1)->drive = NULL;
}

void h2x_drive_hand_over(conn_rec *c2)
{
    on_may_wait(h2x_conn_get(c2->master)->drive);
}

void h2x_drive_count_workers(server_rec *s, int *min, int *max)
{
    int threads = 1;

    ap_mpm_query(AP_MPMQ_MAX_THREADS, &threads);
    *min = (int)h2x_conf_get(s, H2X_MIN_WORKERS);
    *max = (int)h2x_conf_get(s, H2X_MAX_WORKERS);
    *min = *min > 0 ? *min : 0;
    if (*max < 0) {
        *max = 4 * threads;
    }
    if (*max < *min) {
        *max = *min;
    }
}

static apr_status_t forget_engine(void *baton)
{
    (void)baton;
    engine = NULL;
    return APR_SUCCESS;
}

apr_status_t h2x_drive_child_init(apr_pool_t *p, server_rec *s)
{
    child_engine *e = apr_pcalloc(p, sizeof(*e));
    int min, max, i;
    apr_status_t rv = APR_SUCCESS;

    ap_mpm_query(AP_MPMQ_MAX_THREADS, &e->threads);
    ap_mpm_query(AP_MPMQ_HARD_LIMIT_THREADS, &e->thread_limit);
    if (ap_mpm_query(AP_MPMQ_IS_ASYNC, &e->is_async) != APR_SUCCESS) {
        e->is_async = 0;
    }
#ifdef AP_MPMQ_CAN_WAITIO
    if (!e->is_async
        || ap_mpm_query(AP_MPMQ_CAN_WAITIO, &e->can_wait) != APR_SUCCESS) {
        e->can_wait = 0;
    }
#endif
    h2x_drive_count_workers(s, &min, &max);
    for (i = 0; i < STORES && rv == APR_SUCCESS; ++i) {
        rv = h2x_stream_store_create(&e->stores[i], p);
    }
    if (rv == APR_SUCCESS) {
        rv = h2x_workers_create(&e->workers, min, max,
                                h2x_conf_get(s, H2X_MAX_WORKER_IDLE), p);
    }
    if (rv == APR_SUCCESS) {
        rv = h2x_watch_create(&e->watch, (apr_uint32_t)e->threads + 16, p);
    }
    if (rv == APR_SUCCESS) {
        apr_pool_cleanup_register(p, e, forget_engine, apr_pool_cleanup_null);
        engine = e;
    }
    return rv;
}

void h2x_drive_child_stopping(int graceful)
{
    if (engine) {
        apr_atomic_set32(&engine->stopping,
                         graceful ? STOP_GRACEFUL : STOP_NOW);
        h2x_watch_poke(engine->watch);
    }
}
