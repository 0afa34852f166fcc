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
 * over*: from that moment on any thread of the child (h2x_threads.c) that finds
 * its socket ready reads its frames, and runs its other requests in the same
 * way. The request that waits knows nothing of it and runs on where it is; no
 * thread is woken for it. When it is done, the connection thread takes its
 * connection back.
 *
 * Three things hand a connection over:
 * - a handler is about to run that may wait (see h2x_request_may_wait());
 * - a request waits for a part of its body, or for room in its output;
 * - the thread has been in one request for some milliseconds, and waits there,
 *   or computes while others could: see h2x_lead.c.
 *
 * A request that waits for its body, and has the connection for itself, reads
 * frames on its own thread meanwhile, so that an upload costs no wake-up for
 * each of its pieces.
 *
 * Any thread sends, as far as the socket takes it: a request's own when it has
 * written enough or is done, the lead for others while there is one.
 *
 * When nothing runs, the connection goes back to the MPM, which waits for the
 * client without a thread. That is also where a download rests whose client
 * does not read: what is left of a file is a descriptor and an offset.
 *
 * One lock a session protects all of this. It is held while frames are read
 * and written, never while code of a request runs. What is done with it held
 * does not wait for the client: see h2x_io.c for how that is with c1's filters.
 * It may wait for a disk, when a file is read to be sent; that holds up this
 * connection alone. Lines for the log are written after it was released.
 *
 * Order of locks: the session's, then the threads', the store's or that of the
 * pools. Nobody takes the locks of two sessions.
 */

#include <httpd.h>
#include <http_log.h>

#include "h2x.h"
#include "h2x_clock.h"
#include "h2x_conf.h"
#include "h2x_transfer.h"
#include "h2x_turns.h"

/* A request that takes longer than this may be in the way of the others. */
#define LATE_AFTER (8 * 1000)

/* A client has Timeout to answer the first GOAWAY, but no more than this. */
#define DRAIN_MAX apr_time_from_sec(20)

/* ---- times ---- */

void h2x_drive_set_tick(h2x_drive *drive)
{
    if (drive->unsent || drive->late_at) {
        h2x_threads_tick(h2x_child_self->threads, &drive->entry,
                         drive->unsent ? 1 : drive->late_at);
    }
}

/* One deadline is enough: when it has come, the next one is found. */
void h2x_drive_set_deadline(h2x_drive *drive, apr_time_t deadline)
{
    if (deadline && (!drive->deadline || deadline < drive->deadline)) {
        drive->deadline = deadline;
        h2x_threads_deadline(h2x_child_self->threads, &drive->entry,
                             deadline);
    }
}

/* ---- the lead ---- */

void h2x_drive_set_late(h2x_drive *drive, apr_time_t at)
{
    drive->late_at = at;
    h2x_drive_set_tick(drive);
}

void h2x_drive_set_lead(h2x_drive *drive, h2x_stream *stream,
                        apr_time_t since)
{
    drive->lead = stream;
    drive->lead_since = since;
    drive->late_at = since ? since + LATE_AFTER : 0;
    if (stream) {
        drive->lead_looked = 0;
        h2x_thread_self(&drive->lead_thread);
        h2x_drive_set_tick(drive);
    }
}

int h2x_drive_has_work(const h2x_drive *drive)
{
    return !drive->lead && (drive->queue.ended_count
                            || h2x_queue_startable(&drive->queue));
}

int h2x_drive_is_between_requests(const h2x_drive *drive)
{
    return !h2x_session_stream_count(drive->session)
           && !h2x_session_is_fresh(drive->session);
}

/* ---- stopping ---- */

void h2x_drive_drain(h2x_drive *drive)
{
    apr_time_t now = h2x_clock_now();
    apr_interval_time_t timeout = h2x_conn_get(drive->c1)->server->timeout;

    if (!drive->drain_until) {
        drive->drain_until = now + (timeout < DRAIN_MAX ? timeout : DRAIN_MAX);
        h2x_drive_set_deadline(drive, drive->drain_until);
        h2x_session_drain(drive->session);
    }
    else if (now >= drive->drain_until) {
        h2x_session_goaway(drive->session);
    }
}

void h2x_drive_check_stopping(h2x_drive *drive)
{
    switch (h2x_child_is_stopping()) {
    case H2X_STOP_GRACEFUL:
        h2x_drive_drain(drive);
        break;
    case H2X_STOP_NOW:
        h2x_transfer_lose(drive);
        break;
    case H2X_STOP_NOT:
        break;
    }
}

/* ---- transitions ---- */

/* The one place that assigns it. */
static void set_driver(h2x_drive *drive, h2x_driver driver)
{
    if (drive->driver == driver) {
        return;
    }
    if (drive->driver == H2X_DRIVER_THREADS || drive->is_flushing) {
        h2x_threads_disarm(h2x_child_self->threads, &drive->entry);
    }
    drive->is_flushing = 0;
    if (driver == H2X_DRIVER_CONN) {
        if (drive->offered) {
            drive->offered -= h2x_threads_withdraw(h2x_child_self->threads,
                                                   &drive->entry);
        }
        drive->queue.beside = 0;
    }
    drive->driver = driver;
}

/* Who drives after an event? */
static h2x_driver driver_after(const h2x_drive *drive, h2x_turn event)
{
    switch (event) {
    case H2X_TURN_TAKEN:
        return H2X_DRIVER_CONN;
    case H2X_TURN_LEFT:
        return H2X_DRIVER_MPM;
    case H2X_TURN_WAITS:
        return H2X_DRIVER_THREADS;
    case H2X_TURN_READY:
        return drive->lead ? drive->driver : H2X_DRIVER_LEAD;
    case H2X_TURN_FETCHES:
        return H2X_DRIVER_LEAD;
    case H2X_TURN_DONE:
        return drive->driver == H2X_DRIVER_LEAD && !drive->lead
               ? H2X_DRIVER_THREADS : drive->driver;
    case H2X_TURN_BUSY:
        return drive->driver == H2X_DRIVER_MPM ? H2X_DRIVER_MPM
                                               : H2X_DRIVER_THREADS;
    default:
        return drive->driver;
    }
}

static void stop(h2x_drive *drive, h2x_turn event, int has_changed)
{
    if (event == H2X_TURN_READY || event == H2X_TURN_FETCHES
        || event == H2X_TURN_POKED
        || (event == H2X_TURN_BUSY && has_changed)) {
        h2x_drive_check_stopping(drive);
    }
}

static int is_to_send(h2x_turn event)
{
    return event == H2X_TURN_WORKED || event == H2X_TURN_BUSY
           || event == H2X_TURN_OUTPUT || event == H2X_TURN_POKED;
}

static apr_int16_t events_to_wait_for(const h2x_drive *drive)
{
    if (h2x_transfer_is_stuck(drive)) {
        return APR_POLLOUT;
    }
    /* of what was read and not taken yet, poll() does not know; but that the
     * socket is writable, it finds at once */
    return drive->c1->data_in_output_filters || drive->pending_input
           || drive->pending_output
           ? APR_POLLIN | APR_POLLOUT : APR_POLLIN;
}

static void arm_for(h2x_drive *drive, apr_int16_t events)
{
    apr_status_t rv = h2x_threads_arm(h2x_child_self->threads, &drive->entry,
                                      events);

    if (rv != APR_SUCCESS) {
        h2x_log_locked(&drive->lock, APLOG_INFO, rv, drive->c1,
                       "h2x(%s): cannot wait for the client, closing",
                       drive->c1->log_id);
        h2x_transfer_lose(drive);
    }
}

/*
 * Asks for an event of the socket, if the child's threads drive. If the MPM has
 * the connection, it may wait for the client to send something: what was
 * written now, and did not fit into the socket, is then theirs to send. What
 * was there before is the MPM's.
 */
static void arm(h2x_drive *drive, h2x_turn event)
{
    if (drive->is_closing || drive->c1->aborted) {
        return;
    }
    if (drive->driver == H2X_DRIVER_MPM) {
        if (drive->is_flushing
            || (is_to_send(event) && drive->c1->data_in_output_filters)) {
            drive->is_flushing = 1;
            arm_for(drive, APR_POLLOUT);
        }
    }
    else if (drive->driver == H2X_DRIVER_THREADS
             && !h2x_drive_is_over(drive)) {
        arm_for(drive, events_to_wait_for(drive));
    }
}

/* How many threads should come: one that leads, if nobody will, and those
 * beside it, which end no requests. */
static int wanted(const h2x_drive *drive, int has_lead)
{
    const h2x_queue *queue = &drive->queue;
    int startable = h2x_queue_startable(queue);
    int beside = (queue->beside < startable) ? queue->beside : startable;

    return (!has_lead && (queue->ended_count || beside < startable))
           ? beside + 1 : beside;
}

/* Is there a lead, or will the thread that drives, or that makes this
 * transition, see itself what is to be done? */
static int has_lead(const h2x_drive *drive, h2x_turn event)
{
    return drive->lead || drive->driver == H2X_DRIVER_CONN
           || drive->driver == H2X_DRIVER_LEAD
           || event == H2X_TURN_WORKED || event == H2X_TURN_SHARES;
}

/*
 * Sees to it that somebody does what is to be done, if nobody will: the
 * connection thread when it waits, or others.
 */
static void delegate(h2x_drive *drive, h2x_turn event)
{
    int count = wanted(drive, has_lead(drive, event));

    if (drive->is_closing || event == H2X_TURN_WAITS) {
        return;
    }
    if (drive->is_waiting && event != H2X_TURN_SHARES) {
        if (event == H2X_TURN_POKED || h2x_drive_has_work(drive)
            || !drive->queue.running || h2x_drive_is_over(drive)) {
            apr_thread_cond_signal(drive->work);
        }
        return;
    }
    while (drive->offered < count) {
        /* the thread that goes away looks itself for what is next, unless it
         * may wait for the log */
        int wakes = (event != H2X_TURN_DONE || drive->offered
                     || h2x_lock_has_lines(&drive->lock));

        ++drive->offered;
        h2x_threads_offer(h2x_child_self->threads, &drive->entry, wakes);
    }
    if (drive->offered) {
        h2x_threads_retry(h2x_child_self->threads);
    }
}

apr_size_t h2x_drive_advance_locked(h2x_drive *drive, h2x_turn event)
{
    h2x_driver driver = driver_after(drive, event);
    int has_changed = (driver != drive->driver);
    apr_size_t sent = 0;

    h2x_lock_check(&drive->lock);
    if (event == H2X_TURN_BUSY) {
        h2x_drive_set_lead(drive, NULL, 0);
    }
    set_driver(drive, driver);
    stop(drive, event, has_changed);
    if (is_to_send(event)) {
        sent = h2x_transfer_send(drive);
    }
    if (event != H2X_TURN_LEFT && event != H2X_TURN_READY) {
        /* the MPM waits for the socket itself; who found it ready arms it last,
         * by H2X_TURN_DONE */
        arm(drive, event);
        delegate(drive, event);
    }
    return sent;
}
