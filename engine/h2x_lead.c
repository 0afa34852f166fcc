/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The part of the engine that runs requests.
 *
 * One request of a connection *leads*: when it is done, its thread runs the
 * next one that is ready, so that no thread is woken for that. Mostly this is
 * the connection thread. When the lead may wait, or has been at it for some
 * milliseconds, the others go on without it: another thread, a worker if the
 * connection's own is not free, runs the next request, which leads from then
 * on. So there are as many threads with a connection as requests that wait,
 * and one; or a few more, beside the lead, when it is a handler that may wait:
 * then those of the next requests often do too, and would start in a long row.
 *
 * A lead that takes long has not said that it waits, but may. If so, it was in
 * the way of the others, and they may be stuck in the same: when one of the
 * next leads waits too, all that is ready then goes on at once. It may also
 * compute: then more threads help only while there is a processor for them.
 * Time alone does not tell: on a busy machine all take long, since they wait
 * for a processor, and more threads make that worse. So the watch looks at the
 * thread: see h2x_thread_waits(). A lead that computes is left alone while as
 * many requests compute as there are processors, up to 10 ms of processor time.
 */

#include <apr_atomic.h>

#include <httpd.h>
#include <scoreboard.h>

#include "h2x.h"
#include "h2x_clock.h"
#include "h2x_drive_impl.h"
#include "h2x_memory.h"
#include "h2x_thread.h"

/* How long requests run, one after the other, before output is sent. */
#define BATCH_MAX 1000

/* A request that takes longer than this may be in the way of the others: its
 * thread is looked at, and again some time later. */
#define RUN_MAX (8 * 1000)
#define LOOK_AGAIN (3 * 1000)

/* One that uses more processor time than this after the first look is, in
 * nanoseconds. */
#define COMPUTE_MAX (10 * 1000 * 1000)

/* After so many that were not, one that was is forgotten. */
#define ON_TIME_MIN 16

/* In place of a worker's number. */
#define CONN_THREAD -1

/* So many go on beside the next lead, when a handler may wait. */
#define SPARE 3

/* ---- queues ---- */

void h2x_drive_over_locked(h2x_drive *drive, h2x_stream *stream)
{
    h2x_stream_advance_locked(stream, H2X_STREAM_CLOSED);
    if (!stream->c2_pool) {
        h2x_session_release(drive->session, stream);
        return;
    }
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
int h2x_drive_startable(const h2x_drive *drive)
{
    int room = drive->running_max - drive->running;

    return room < drive->ready_count ? (room > 0 ? room : 0)
                                     : drive->ready_count;
}

static h2x_stream *pop_ready(h2x_drive *drive)
{
    h2x_stream *stream = NULL;

    if (h2x_drive_startable(drive)) {
        stream = APR_RING_FIRST(&drive->ready);
        APR_RING_REMOVE(stream, link);
        if (--drive->ready_count < drive->spare) {
            drive->spare = drive->ready_count; /* it is for these */
        }
        ++drive->running;
        h2x_stream_advance_locked(stream, H2X_STREAM_RUNNING);
    }
    return stream;
}

int h2x_drive_has_work(const h2x_drive *drive)
{
    return !drive->lead
           && (drive->ended_count || h2x_drive_startable(drive));
}

/* ---- requests that compute ---- */

static void begin_computing(h2x_stream *stream)
{
    stream->is_computing = 1;
    apr_atomic_inc32(&h2x_child_self->computing);
}

static void end_computing(h2x_stream *stream)
{
    if (stream->is_computing) {
        stream->is_computing = 0;
        apr_atomic_dec32(&h2x_child_self->computing);
    }
}

/* ---- giving work away ---- */

/* How many workers there should be: one that leads, and those beside it, which
 * end no requests. */
static int wanted(const h2x_drive *drive)
{
    int startable = h2x_drive_startable(drive);
    int beside = (drive->spare < startable) ? drive->spare : startable;

    return (!drive->lead && (drive->ended_count || beside < startable))
           ? beside + 1 : beside;
}

/*
 * Sees to it that somebody does what is to be done, if nobody will: the
 * connection thread when it waits, or a worker. When that thread drives, it
 * will look.
 */
void h2x_drive_delegate_locked(h2x_drive *drive)
{
    if (drive->driver == H2X_DRIVER_CONN || drive->is_closing) {
        return;
    }
    if (drive->is_waiting) {
        if (h2x_drive_has_work(drive) || !drive->running || drive->gone
            || h2x_session_get_state(drive->session) == H2X_SESSION_CLOSED) {
            apr_thread_cond_signal(drive->work);
        }
        return;
    }
    while (drive->offered < wanted(drive)) {
        ++drive->offered;
        h2x_workers_offer(h2x_child_self->workers, &drive->source);
    }
    if (drive->offered) {
        h2x_workers_retry(h2x_child_self->workers);
    }
}

void h2x_drive_set_lead_locked(h2x_drive *drive, h2x_stream *stream,
                               apr_time_t since)
{
    drive->lead = stream;
    apr_atomic_set64(&drive->late_at,
                     since ? (apr_uint64_t)since + RUN_MAX : 0);
    if (stream) {
        drive->lead_looked = 0;
        h2x_thread_self(&drive->lead_thread);
        h2x_watch_tick(h2x_child_self->watch, &drive->watch, 1);
    }
}

void h2x_drive_hand_over_locked(h2x_drive *drive, const h2x_stream *stream)
{
    if (!stream || drive->lead != stream) {
        return;
    }
    h2x_drive_set_lead_locked(drive, NULL, 0);
    if (drive->driver == H2X_DRIVER_CONN
        || drive->driver == H2X_DRIVER_LEAD) {
        drive->driver = H2X_DRIVER_WATCH;
        h2x_drive_check_stopping(drive);
    }
    h2x_drive_send_locked(drive);
    h2x_drive_delegate_locked(drive);
}

/* Lets some of the requests that are ready go on beside the next lead. */
static void add_spare(h2x_drive *drive, int count)
{
    int startable = h2x_drive_startable(drive);

    if (count > startable) {
        count = startable;
    }
    if (drive->spare < count) {
        drive->spare = count;
    }
}

void h2x_drive_wait_locked(h2x_drive *drive, h2x_stream *stream)
{
    end_computing(stream);
    h2x_drive_hand_over_locked(drive, stream);
}

void h2x_drive_handler_waits_locked(h2x_drive *drive, h2x_stream *stream)
{
    if (drive->lead == stream) {
        add_spare(drive, SPARE);
    }
    h2x_drive_wait_locked(drive, stream);
}

/* Takes the connection back. Its own thread. */
void h2x_drive_take_back_locked(h2x_drive *drive)
{
    if (drive->driver != H2X_DRIVER_CONN) {
        if (drive->driver == H2X_DRIVER_WATCH || drive->is_flushing) {
            h2x_watch_disarm(h2x_child_self->watch, &drive->watch);
        }
        drive->is_flushing = 0;
        if (drive->offered) {
            drive->offered -= h2x_workers_withdraw(h2x_child_self->workers,
                                                   &drive->source);
        }
        drive->spare = 0;
        drive->driver = H2X_DRIVER_CONN;
    }
}

/* Goes on without a lead that waits, and that did not say so. */
static void replace_waiting(h2x_drive *drive)
{
    if (h2x_drive_startable(drive)) {
        if (drive->was_late) {
            add_spare(drive, drive->ready_count);
        }
        drive->was_late = 1;
        drive->on_time = 0;
    }
    h2x_drive_wait_locked(drive, drive->lead);
}

static int is_processor_free(void)
{
    return apr_atomic_read32(&h2x_child_self->computing)
           < h2x_child_self->processors;
}

/*
 * Does the lead's thread wait? While processors are free, one look tells. While
 * they are not, it may sleep for a moment in locks that others contend for.
 */
static int lead_waits(const h2x_drive *drive, const h2x_thread_look *look)
{
    return is_processor_free()
           ? look->state != 'R'
           : drive->lead_looked
             && h2x_thread_waits(&drive->lead_first, &drive->lead_last, look);
}

void h2x_drive_check_lead_locked(h2x_drive *drive)
{
    h2x_thread_look look;

    h2x_thread_look_at(&drive->lead_thread, &look);
    if (lead_waits(drive, &look)) {
        replace_waiting(drive);
    }
    else if (is_processor_free()
             || (drive->lead_looked
                 && look.used - drive->lead_first.used > COMPUTE_MAX)) {
        h2x_drive_hand_over_locked(drive, drive->lead);
    }
    else {
        if (!drive->lead_looked) {
            drive->lead_looked = 1;
            drive->lead_first = look;
        }
        drive->lead_last = look;
        apr_atomic_set64(&drive->late_at, (apr_uint64_t)look.at + LOOK_AGAIN);
    }
}

/* ---- running ---- */

/* The thread that runs requests of a connection for a while. */
typedef struct {
    h2x_runner runner;
    int number;        /* of a worker, or CONN_THREAD */
} work_thread;

static void begin_work(work_thread *me, const h2x_drive *drive,
                       apr_thread_t *thread, int number)
{
    me->runner.thread = thread;
    me->runner.sbh = drive->c1->sbh;
    me->runner.c2_pool = NULL;
    me->number = number;
}

/* Is there a pool for the next request? */
static int has_pool(work_thread *me)
{
    if (!me->runner.c2_pool) {
        me->runner.c2_pool = h2x_c2_pools_get(h2x_child_self->c2_pools);
    }
    if (!me->runner.c2_pool) {
        h2x_memory_missing();
    }
    return me->runner.c2_pool != NULL;
}

/* Gives back the pool that a thread has for its next request. */
static void release_pool(h2x_runner *runner)
{
    if (runner->c2_pool) {
        h2x_c2_pools_put(h2x_child_self->c2_pools, runner->c2_pool);
        runner->c2_pool = NULL;
    }
}

/* Logs a request, and frees all that was its. Its pool is the thread's for the
 * next one, if that has none. The lock is held before and after, not during
 * that. */
static void end_request(h2x_drive *drive, h2x_stream *stream,
                        h2x_runner *runner)
{
    h2x_request_sum sum = {
        stream->bytes_in,
        stream->bytes_out + h2x_session_unsent(drive->session, stream),
        !stream->end_sent && (stream->is_closed || stream->out_failed)
    };
    h2x_c2_pool *c2_pool = stream->c2_pool;

    h2x_lock_release(&drive->lock);
    h2x_request_end(stream, &sum, runner);
    if (runner->c2_pool) {
        h2x_c2_pools_put(h2x_child_self->c2_pools, c2_pool);
    }
    else {
        runner->c2_pool = c2_pool;
    }
    h2x_lock_acquire(&drive->lock);
}

/*
 * Sees to it that what a request has left to be sent is the stream's own.
 * Frames are made of it first, so that the log can tell their size. They are
 * sent before the request ends, unless others follow, with which they go out;
 * what is lent is mostly much, and to copy it costs more than to send it.
 * @return 0 when it has a file, which is sent with what comes after it
 */
static int own_output(h2x_drive *drive, h2x_stream *stream)
{
    if (!h2x_segments_is_in_memory(&stream->out)) {
        return stream->is_closed;
    }
    h2x_drive_frame_locked(drive);
    if (!h2x_drive_startable(drive)
        || h2x_segments_is_borrowed(&stream->out)) {
        h2x_drive_send_locked(drive);
    }
    if (h2x_segments_own(&stream->out) != APR_SUCCESS) {
        h2x_stream_drop_output_locked(stream);
        stream->out_failed = 1;
    }
    return 1;
}

/*
 * Runs a request, and ends it before the thread runs another one, as modules
 * know it from HTTP/1.1: what they keep until a request's pool goes would be
 * missing else, and what they left on the stack overwritten. The lock is held
 * before and after, not during that.
 */
static void run_stream(h2x_drive *drive, h2x_stream *stream, work_thread *me)
{
    if (has_pool(me)) {
        begin_computing(stream);
        h2x_lock_release(&drive->lock);
        h2x_request_run(stream, drive->c1, &me->runner);
        h2x_drive_forget_tunnel(stream);
        h2x_stream_close_signal(stream);
        h2x_lock_acquire(&drive->lock);
    }
    if (!stream->out_ended) {
        stream->out_ended = 1;
        stream->out_failed = 1;
        h2x_session_output(drive->session, stream);
    }
    if (own_output(drive, stream) && stream->c2_pool) {
        end_request(drive, stream, &me->runner);
    }
    end_computing(stream);
    --drive->running;
    if (stream->is_closed) {
        h2x_drive_over_locked(drive, stream);
    }
    else {
        h2x_stream_advance_locked(stream, H2X_STREAM_DRAINING);
        if (!stream->out_failed || !stream->progress) {
            stream->progress = h2x_clock_now();
        }
        h2x_drive_set_deadline(drive, stream->progress + stream->timeout);
        h2x_session_output(drive->session, stream);
    }
}

/* Ends a stream whose file was sent, or will not be. As above. */
static void end_stream(h2x_drive *drive, h2x_stream *stream,
                       h2x_runner *runner)
{
    end_request(drive, stream, runner);
    --drive->running;
    h2x_session_release(drive->session, stream);
}

/* The place of a thread in the scoreboard; -1: the connection's is used. */
static int slot_of(int number)
{
    return (number == CONN_THREAD) ? -1 : h2x_child_worker_slot(number);
}

/* Runs or ends a request, which leads, if there is no lead, until it may
 * wait. */
static void do_stream(h2x_drive *drive, h2x_stream *stream, work_thread *me,
                      apr_time_t now)
{
    int child = (int)(drive->c1->id / h2x_child_self->thread_limit);
    int slot = slot_of(me->number);

    if (slot >= 0) {
        ap_create_sb_handle(&me->runner.sbh, stream->pool, child, slot);
    }
    if (!drive->lead) {
        h2x_drive_set_lead_locked(drive, stream, now);
    }
    if (stream->state == H2X_STREAM_RUNNING) {
        run_stream(drive, stream, me);
    }
    else {
        end_stream(drive, stream, &me->runner);
    }
    if (drive->lead == stream) {
        h2x_drive_set_lead_locked(drive, NULL, 0);
        if (++drive->on_time >= ON_TIME_MIN && drive->was_late) {
            drive->was_late = 0;
            drive->spare = 0;
        }
    }
    drive->has_run = 1;
    if (me->number == CONN_THREAD) {
        h2x_drive_take_back_locked(drive);
    }
}

static int work_locked(h2x_drive *drive, work_thread *me)
{
    apr_time_t now = h2x_clock_now(), end = now + BATCH_MAX;
    int has_run = 0, has_ended = 0, has_sent;
    h2x_stream *stream;

    while (!drive->lead && now < end && (stream = pop_ready(drive))) {
        do_stream(drive, stream, me, now);
        now = h2x_clock_now();
        has_run = 1;
    }
    has_sent = h2x_drive_send_locked(drive) > 0;
    while (!drive->lead && (stream = pop_ended(drive))) {
        do_stream(drive, stream, me, h2x_clock_now());
        has_ended = 1;
    }
    if (has_ended) {
        /* others may have left something to be sent, while that went on */
        h2x_drive_send_locked(drive);
    }
    return has_run || has_sent || has_ended;
}

int h2x_drive_work_locked(h2x_drive *drive)
{
    work_thread me;
    int did_something;

    begin_work(&me, drive, drive->c1->current_thread, CONN_THREAD);
    did_something = work_locked(drive, &me);
    release_pool(&me.runner);
    return did_something;
}

void h2x_drive_end_all_locked(h2x_drive *drive)
{
    h2x_runner runner = { drive->c1->current_thread, drive->c1->sbh, NULL };
    h2x_stream *stream;

    while ((stream = pop_ended(drive))) {
        end_stream(drive, stream, &runner);
    }
    release_pool(&runner);
}

/* Works for a while, or runs one request beside the lead. On a worker. */
void h2x_drive_work(void *baton, apr_thread_t *thread, int number)
{
    h2x_drive *drive = baton;
    int child = (int)(drive->c1->id / h2x_child_self->thread_limit);
    int slot = slot_of(number);
    h2x_stream *stream = NULL;
    work_thread me;

    begin_work(&me, drive, thread, number);
    h2x_lock_acquire(&drive->lock);
    --drive->offered;
    if (drive->lead && drive->spare) {
        --drive->spare;
        stream = pop_ready(drive);
    }
    if (stream) {
        do_stream(drive, stream, &me, 0);
    }
    if (stream || h2x_drive_has_work(drive)) {
        /* not else: the connection may be with the MPM, which uses its filters
         * between requests */
        work_locked(drive, &me);
    }
    release_pool(&me.runner);
    if (drive->driver == H2X_DRIVER_LEAD && !drive->lead) {
        drive->driver = H2X_DRIVER_WATCH;
        h2x_drive_arm(drive);
    }
    h2x_drive_delegate_locked(drive);
    h2x_lock_release(&drive->lock);
    if (slot >= 0) {
        ap_update_child_status_from_indexes(child, slot, SERVER_DEAD, NULL);
    }
}
