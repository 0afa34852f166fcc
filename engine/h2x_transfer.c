/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The part of the engine that reads and writes. */

#include <httpd.h>
#include <http_core.h>

#include "h2x.h"
#include "h2x_clock.h"
#include "h2x_memory.h"
#include "h2x_pages.h"
#include "h2x_transfer.h"

/* What is read before requests are run, and for how long: in TLS, a byte may
 * cost as much as a full record. In microseconds. */
#define READ_MAX (256 * 1024)
#define READ_TIME 1000

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

/* ---- writing ---- */

void h2x_transfer_lose(h2x_drive *drive)
{
    if (!drive->gone) {
        drive->gone = 1;
        h2x_session_abort(drive->session);
    }
}

int h2x_transfer_is_stuck(const h2x_drive *drive)
{
    return drive->c1->data_in_output_filters
           && (h2x_session_is_condemned(drive->session)
               || h2x_session_queue_size(drive->session) > QUEUE_MAX);
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

void h2x_transfer_free_buffer(h2x_drive *drive)
{
    h2x_io_rest(&drive->io);
    h2x_pages_put(drive->buffer.data, drive->buffer.size);
    drive->buffer.data = NULL;
    drive->buffer.len = 0;
}

void h2x_transfer_rest(h2x_drive *drive)
{
    h2x_transfer_free_buffer(drive);
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
        h2x_transfer_lose(drive);
    }
}

int h2x_transfer_frame(h2x_drive *drive)
{
    h2x_lock_check(&drive->lock);
    if (drive->gone || !h2x_io_is_writable(&drive->io)) {
        return 1;
    }
    fill_buffer(drive);
    return drive->buffer.size - drive->buffer.len >= FRAME_ROOM;
}

apr_size_t h2x_transfer_send(h2x_drive *drive)
{
    apr_size_t total = 0;

    h2x_lock_check(&drive->lock);
    drive->unsent = 0;
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
        h2x_transfer_lose(drive);
        say_goodbye(drive);
    }
    if (drive->driver == H2X_DRIVER_MPM) {
        h2x_transfer_free_buffer(drive);
    }
    return total;
}

/* ---- reading ---- */

static apr_status_t receive(void *baton, const char *data, apr_size_t len)
{
    h2x_drive *drive = baton;

    return h2x_session_receive(drive->session, data, len);
}

/* Has the connection thread enough requests to run? Where others may have to
 * run them, all is read. */
static int is_ahead(const h2x_drive *drive)
{
    return drive->driver == H2X_DRIVER_CONN && !drive->lead
           && h2x_queue_startable(&drive->queue) >= AHEAD_MAX;
}

apr_size_t h2x_transfer_receive(h2x_drive *drive)
{
    apr_time_t end = h2x_clock_now() + READ_TIME;
    apr_size_t total = 0, len;
    apr_status_t rv = APR_SUCCESS;

    h2x_lock_check(&drive->lock);
    drive->pending_input = is_ahead(drive);
    h2x_io_renew(&drive->io);
    while (rv == APR_SUCCESS && !drive->gone && !drive->pending_input
           && h2x_session_get_state(drive->session) != H2X_SESSION_CLOSED) {
        if (h2x_transfer_is_stuck(drive)) {
            /* but not what is read already, of which no socket tells again */
            h2x_io_hold(&drive->io);
        }
        rv = h2x_io_read(&drive->io, receive, drive, &len);
        total += len;
        drive->pending_input = (rv == APR_SUCCESS
                                && (total >= READ_MAX || is_ahead(drive)
                                    || h2x_clock_now() >= end));
    }
    if (rv != APR_SUCCESS && !APR_STATUS_IS_EAGAIN(rv)) {
        h2x_transfer_lose(drive);
    }
    return total;
}
