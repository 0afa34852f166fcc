/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The part of the engine that reads and writes. */

#include <apr_atomic.h>

#include <httpd.h>
#include <http_core.h>
#include <http_log.h>

#include "h2x.h"
#include "h2x_clock.h"
#include "h2x_drive_impl.h"
#include "h2x_memory.h"
#include "h2x_pages.h"

/* What is read before requests are run. */
#define READ_MAX (256 * 1024)

/* Requests that are ready, before they are run: what more of them hold of
 * memory is no longer in the processor's cache when they are. */
#define AHEAD_MAX 100

/* What is written before reading again: a client that takes all at once may
 * have something more urgent to ask for. */
#define WRITE_MAX (256 * 1024)

/* The buffer is written when there is no room in it for a frame. */
#define FRAME_ROOM (17 * 1024)

/* Frames that may wait to be sent, before reading stops. */
#define QUEUE_MAX 1000

/* How long a request waits for its body itself. */
#define FETCH_MAX (20 * 1000)

/* ---- writing ---- */

/* The client is gone: all of its streams are closed. */
void h2x_drive_lose(h2x_drive *drive)
{
    if (!drive->gone) {
        drive->gone = 1;
        h2x_session_abort(drive->session);
    }
}

/*
 * Does the client take nothing while there is much to answer? Then nothing
 * more is read, so that what it says cannot fill the memory.
 */
static int is_stuck(const h2x_drive *drive)
{
    return drive->c1->data_in_output_filters
           && (h2x_session_is_condemned(drive->session)
               || h2x_session_queue_size(drive->session) > QUEUE_MAX);
}

static apr_int16_t events_to_wait_for(const h2x_drive *drive)
{
    if (is_stuck(drive)) {
        return APR_POLLOUT;
    }
    /* of what was read and not taken yet, poll() does not know; but that the
     * socket is writable, it finds at once */
    return drive->c1->data_in_output_filters || drive->pending_input
           || drive->pending_output
           ? APR_POLLIN | APR_POLLOUT : APR_POLLIN;
}

static void arm(h2x_drive *drive, apr_int16_t events)
{
    apr_status_t rv = h2x_watch_arm(h2x_child_self->watch, &drive->watch,
                                    events);

    if (rv != APR_SUCCESS) {
        ap_log_cerror(APLOG_MARK, APLOG_INFO, rv, drive->c1,
                      "h2x(%s): cannot wait for the client, closing",
                      drive->c1->log_id);
        h2x_drive_lose(drive);
    }
}

/*
 * Asks the watch for what the session waits for, if the watch drives. If the
 * MPM has the connection, it may wait for the client to send something: what
 * was written since, and did not fit into the socket, is then the watch's to
 * send.
 */
void h2x_drive_arm(h2x_drive *drive)
{
    if (drive->is_closing || drive->c1->aborted) {
        return;
    }
    if (drive->driver == H2X_DRIVER_MPM) {
        if (drive->c1->data_in_output_filters) {
            drive->is_flushing = 1;
            arm(drive, APR_POLLOUT);
        }
    }
    else if (drive->driver == H2X_DRIVER_WATCH && !drive->gone
             && h2x_session_get_state(drive->session)
                != H2X_SESSION_CLOSED) {
        arm(drive, events_to_wait_for(drive));
    }
}

/* Makes the buffer, which is there only while the connection is active. */
static int has_buffer(h2x_drive *drive)
{
    if (!drive->buffer.data) {
        drive->buffer.data = h2x_pages_get(drive->io.size);
        drive->buffer.size = drive->io.size;
    }
    if (!drive->buffer.data) {
        h2x_memory_missing();
    }
    return drive->buffer.data != NULL;
}

void h2x_drive_free_buffer(h2x_drive *drive)
{
    h2x_io_rest(&drive->io);
    h2x_pages_put(drive->buffer.data, drive->buffer.size);
    drive->buffer.data = NULL;
    drive->buffer.len = 0;
}

void h2x_drive_rest_locked(h2x_drive *drive)
{
    h2x_drive_free_buffer(drive);
    h2x_session_rest(drive->session);
}

/*
 * Lets the client see that there will be no more: after an error (RFC 9113,
 * section 5.4.1) when the connection thread is busy and cannot close the
 * connection yet, and when the MPM has the connection, which will close it when
 * the client has. Otherwise httpd does that next, and says it in TLS first.
 */
static void say_goodbye(h2x_drive *drive)
{
    if (((h2x_drive_is_shared(drive) && h2x_session_has_failed(drive->session))
         || drive->driver == H2X_DRIVER_MPM)
        && h2x_io_is_writable(&drive->io)) {
        h2x_io_shut(&drive->io);
    }
}

/* Adds frames to the buffer, behind those that are there. */
static void fill_buffer(h2x_drive *drive)
{
    if (!has_buffer(drive)
        || h2x_session_send(drive->session, &drive->buffer) != APR_SUCCESS) {
        h2x_drive_lose(drive);
    }
}

void h2x_drive_frame_locked(h2x_drive *drive)
{
    h2x_lock_check(&drive->lock);
    if (!drive->gone && h2x_io_is_writable(&drive->io)) {
        fill_buffer(drive);
        if (drive->buffer.size - drive->buffer.len < FRAME_ROOM) {
            h2x_drive_send_locked(drive); /* there may be more */
        }
    }
}

/* Sends frames, as far as the socket takes them. Any thread. */
apr_size_t h2x_drive_send_locked(h2x_drive *drive)
{
    apr_size_t total = 0;

    h2x_lock_check(&drive->lock);
    apr_atomic_set32(&drive->unsent, 0);
    drive->pending_output = 0;
    while (!drive->gone && h2x_io_is_writable(&drive->io)) {
        if (total >= WRITE_MAX && drive->driver != H2X_DRIVER_MPM) {
            drive->pending_output = 1;
            break;
        }
        fill_buffer(drive);
        if (!drive->buffer.len) {
            break;
        }
        h2x_io_write(&drive->io, drive->buffer.data, drive->buffer.len);
        total += drive->buffer.len;
        drive->buffer.len = 0;
    }
    if (drive->c1->aborted
        || h2x_session_get_state(drive->session) == H2X_SESSION_CLOSED) {
        h2x_drive_lose(drive);
        say_goodbye(drive);
    }
    if (drive->driver == H2X_DRIVER_MPM) {
        h2x_drive_free_buffer(drive);
    }
    h2x_drive_arm(drive);
    return total;
}

/* ---- reading ---- */

static apr_status_t receive(void *baton, const char *data, apr_size_t len)
{
    h2x_drive *drive = baton;

    return h2x_session_receive(drive->session, data, len);
}

/* Has this thread enough requests to run? If others run them, all is read. */
static int is_ahead(const h2x_drive *drive)
{
    return drive->driver == H2X_DRIVER_CONN && !drive->lead
           && h2x_drive_startable(drive) >= AHEAD_MAX;
}

/*
 * Reads what has come, but no more than is good for the other requests.
 * @return how many bytes
 */
apr_size_t h2x_drive_receive_locked(h2x_drive *drive)
{
    apr_size_t total = 0, len;
    apr_status_t rv = APR_SUCCESS;

    h2x_lock_check(&drive->lock);
    drive->pending_input = is_ahead(drive);
    h2x_io_renew(&drive->io);
    while (rv == APR_SUCCESS && !drive->gone && !drive->pending_input
           && h2x_session_get_state(drive->session) != H2X_SESSION_CLOSED) {
        if (is_stuck(drive)) {
            /* but not what is read already, of which no socket tells again */
            h2x_io_hold(&drive->io);
        }
        rv = h2x_io_read(&drive->io, receive, drive, &len);
        total += len;
        drive->pending_input = (rv == APR_SUCCESS
                                && (total >= READ_MAX || is_ahead(drive)));
    }
    if (rv != APR_SUCCESS && !APR_STATUS_IS_EAGAIN(rv)) {
        h2x_drive_lose(drive);
    }
    return total;
}

/*
 * May a request read for itself? Not when there are others: nobody would read
 * for them while it is busy with what has come.
 */
static int may_fetch(const h2x_drive *drive)
{
    return drive->driver != H2X_DRIVER_MPM
           && drive->running == 1 && !drive->ended_count
           && !h2x_drive_startable(drive) && !drive->gone
           && !drive->is_closing && !drive->pending_output
           && !drive->c1->data_in_output_filters;
}

/* Lets a request lead, and read. Returns 0 when that cannot be. */
static int begin_fetch(h2x_drive *drive, h2x_stream *stream)
{
    h2x_drive_check_stopping(drive);
    if (!may_fetch(drive)) {
        return 0;
    }
    if (drive->driver == H2X_DRIVER_WATCH) {
        h2x_watch_disarm(h2x_child_self->watch, &drive->watch);
    }
    drive->driver = H2X_DRIVER_LEAD;
    h2x_drive_set_lead_locked(drive, stream, 0);
    return 1;
}

void h2x_drive_fetch_locked(h2x_drive *drive, h2x_stream *stream)
{
    apr_time_t end = h2x_clock_now() + FETCH_MAX;
    apr_interval_time_t left = FETCH_MAX;
    apr_off_t had = stream->body_in;
    int has_more = begin_fetch(drive, stream);

    while (has_more && left > 0) {
        h2x_drive_receive_locked(drive);
        h2x_drive_send_locked(drive);
        h2x_drive_delegate_locked(drive);
        if (!may_fetch(drive)) {
            break;
        }
        if (stream->body_in > had || stream->in_ended || stream->is_closed) {
            /* if the request is busy with that for long, the watch drives */
            h2x_drive_set_lead_locked(drive, stream, h2x_clock_now());
            return;
        }
        /* whatever else the client says does not make it longer */
        left = end - h2x_clock_now();
        if (left > 0 && !drive->pending_input) {
            h2x_lock_release(&drive->lock);
            has_more = h2x_io_await(drive->c1, left);
            h2x_lock_acquire(&drive->lock);
        }
        has_more = has_more && drive->driver == H2X_DRIVER_LEAD;
    }
    h2x_drive_hand_over_locked(drive, stream);
}
