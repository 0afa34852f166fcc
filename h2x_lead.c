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
 * A lead that is late was stuck in something that nobody told us of, and was
 * in the way of the others for that time. They may be stuck in the same: when
 * one of the next leads is late too, all that is ready then goes on at once. On
 * a busy machine a lead is late as well, because it got no processor; then most
 * are not, and more threads would make it worse.
 */

#include <apr_atomic.h>

#include <httpd.h>
#include <scoreboard.h>

#include "h2x.h"
#include "h2x_clock.h"
#include "h2x_drive_impl.h"

/* How long requests run, one after the other, before output is sent. */
#define BATCH_MAX 1000

/* A request that takes longer than this is in the way of the others. */
#define RUN_MAX (8 * 1000)

/* After so many that were not, one that was is forgotten. */
#define ON_TIME_MIN 16

/* So many go on beside the next lead, when a handler may wait. */
#define SPARE 3

/* ---- queues ---- */

void h2x_drive_push_ended(h2x_drive *drive, h2x_stream *stream)
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

void h2x_drive_handler_waits_locked(h2x_drive *drive, const h2x_stream *stream)
{
    if (drive->lead == stream) {
        add_spare(drive, SPARE);
    }
    h2x_drive_hand_over_locked(drive, stream);
}

/* Takes the connection back. Its own thread. */
void h2x_drive_take_back_locked(h2x_drive *drive)
{
    if (drive->driver != H2X_DRIVER_CONN) {
        if (drive->driver == H2X_DRIVER_WATCH) {
            h2x_watch_disarm(h2x_child_self->watch, &drive->watch);
        }
        if (drive->offered) {
            drive->offered -= h2x_workers_withdraw(h2x_child_self->workers,
                                                   &drive->source);
        }
        drive->spare = 0;
        drive->driver = H2X_DRIVER_CONN;
    }
}

void h2x_drive_replace_lead_locked(h2x_drive *drive)
{
    if (h2x_drive_startable(drive)) {
        if (drive->was_late) {
            add_spare(drive, drive->ready_count);
        }
        drive->was_late = 1;
        drive->on_time = 0;
    }
    h2x_drive_hand_over_locked(drive, drive->lead);
}

/* ---- running ---- */

/* Runs a request. The lock is held before and after, not during that. */
static void run_stream(h2x_drive *drive, h2x_stream *stream,
                       const h2x_runner *runner)
{
    h2x_lock_release(&drive->lock);
    h2x_request_run(stream, drive->c1, runner);
    h2x_drive_forget_tunnel(stream);
    h2x_stream_close_signal(stream);
    h2x_lock_acquire(&drive->lock);
    --drive->running;
    if (!stream->out_ended) {
        stream->out_ended = 1;
        stream->out_failed = 1;
    }
    if (stream->is_closed) {
        h2x_drive_push_ended(drive, stream);
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

/* The place of a thread in the scoreboard; -1: the connection's is used. */
static int slot_of(int number)
{
    return (number == H2X_CONN_THREAD) ? -1 : h2x_child_worker_slot(number);
}

/* Runs or ends a request, which leads, if there is no lead, until it may
 * wait. */
static void do_stream(h2x_drive *drive, h2x_stream *stream,
                      apr_thread_t *thread, int number, apr_time_t now)
{
    int child = (int)(drive->c1->id / h2x_child_self->thread_limit);
    int slot = slot_of(number);
    h2x_runner runner = { thread, drive->c1->sbh };

    if (slot >= 0) {
        ap_create_sb_handle(&runner.sbh, stream->pool, child, slot);
    }
    if (!drive->lead) {
        h2x_drive_set_lead_locked(drive, stream, now);
    }
    if (stream->state == H2X_STREAM_RUNNING) {
        run_stream(drive, stream, &runner);
    }
    else {
        end_stream(drive, stream, &runner);
    }
    if (drive->lead == stream) {
        h2x_drive_set_lead_locked(drive, NULL, 0);
        if (++drive->on_time >= ON_TIME_MIN && drive->was_late) {
            drive->was_late = 0;
            drive->spare = 0;
        }
    }
    drive->has_run = 1;
    if (number == H2X_CONN_THREAD) {
        h2x_drive_take_back_locked(drive);
    }
}

int h2x_drive_work_locked(h2x_drive *drive, apr_thread_t *thread, int number)
{
    apr_time_t now = h2x_clock_now(), end = now + BATCH_MAX;
    int has_run = 0, has_ended = 0, has_sent;
    h2x_stream *stream;

    while (!drive->lead && now < end && (stream = pop_ready(drive))) {
        do_stream(drive, stream, thread, number, now);
        now = h2x_clock_now();
        has_run = 1;
    }
    has_sent = h2x_drive_send_locked(drive) > 0;
    while (!drive->lead && (stream = pop_ended(drive))) {
        do_stream(drive, stream, thread, number, h2x_clock_now());
        has_ended = 1;
    }
    if (has_ended) {
        /* others may have left something to be sent, while that went on */
        h2x_drive_send_locked(drive);
    }
    return has_run || has_sent || has_ended;
}

void h2x_drive_end_all_locked(h2x_drive *drive)
{
    h2x_runner runner = { drive->c1->current_thread, drive->c1->sbh };
    h2x_stream *stream;

    while ((stream = pop_ended(drive))) {
        end_stream(drive, stream, &runner);
    }
}

/* Works for a while, or runs one request beside the lead. On a worker. */
void h2x_drive_work(void *baton, apr_thread_t *thread, int number)
{
    h2x_drive *drive = baton;
    int child = (int)(drive->c1->id / h2x_child_self->thread_limit);
    int slot = slot_of(number);
    h2x_stream *stream = NULL;

    h2x_lock_acquire(&drive->lock);
    --drive->offered;
    if (drive->lead && drive->spare) {
        --drive->spare;
        stream = pop_ready(drive);
    }
    if (stream) {
        do_stream(drive, stream, thread, number, 0);
    }
    if (stream || h2x_drive_has_work(drive)) {
        /* not else: the connection may be with the MPM, which uses its filters
         * between requests */
        h2x_drive_work_locked(drive, thread, number);
    }
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
