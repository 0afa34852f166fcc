/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The half of the engine that is the connection thread: the loop that runs
 * when the MPM has given us a connection. */

#include <apr_atomic.h>

#include <httpd.h>
#include <ap_mpm.h>
#include <http_log.h>
#include <scoreboard.h>

#include "h2x.h"
#include "h2x_clock.h"
#include "h2x_runner.h"
#include "h2x_transfer.h"
#include "h2x_turns.h"

/* How long the thread stays with a connection that had requests, if at least
 * half of the child's threads have none. */
#define LINGER (20 * 1000)

/* When a connection that is with the MPM gives memory back: not at once, since
 * to get it again for each request costs more than to keep it. */
#define REST_AFTER apr_time_from_sec(1)

/* Was there a poke while this thread drove, to which it was left? */
static int missed_poke(const h2x_drive *drive)
{
    switch (h2x_child_is_stopping()) {
    case H2X_STOP_GRACEFUL:
        return h2x_session_get_state(drive->session) == H2X_SESSION_OPEN;
    case H2X_STOP_NOW:
        return !drive->gone;
    default:
        return 0;
    }
}

/* Is there something that this thread could do now? */
static int has_work(const h2x_drive *drive)
{
    return drive->pending_input || drive->pending_output
           || h2x_drive_has_work(drive);
}

/* Waits until there is something to do for the connection thread. */
static apr_status_t wait_locked(h2x_drive *drive, apr_interval_time_t timeout)
{
    apr_status_t rv = APR_SUCCESS;

    drive->is_waiting = 1;
    h2x_drive_advance_locked(drive, H2X_TURN_WAITS);
    /* to arm may show that the client is gone */
    if (!h2x_drive_has_work(drive) && (drive->queue.running || !drive->gone)
        && !missed_poke(drive)) {
        rv = h2x_lock_wait(&drive->lock, drive->work, timeout);
    }
    drive->is_waiting = 0;
    h2x_drive_advance_locked(drive, H2X_TURN_TAKEN);
    return rv;
}

/* Writes the lines for the log. As that may block, the connection is handed
 * over meanwhile. */
static void write_lines_locked(h2x_drive *drive)
{
    h2x_drive_advance_locked(drive, H2X_TURN_BUSY);
    h2x_lock_write_lines(&drive->lock);
    h2x_drive_advance_locked(drive, H2X_TURN_TAKEN);
}

/*
 * Will the MPM wait for the client? When a child stops, event does not for a
 * connection that it has only just accepted: it may have counted none left.
 */
static int mpm_waits(const h2x_drive *drive)
{
    if (h2x_child_is_stopping() && !drive->was_with_mpm) {
        return 0;
    }
    if (drive->buffer.len) {
        /* frames that found the socket full with what TLS said of its own: the
         * MPM would not know of them */
        return 0;
    }
    return h2x_child_self->waits_for_io
           || (h2x_child_self->keeps_idle
               && h2x_drive_is_between_requests(drive));
}

/*
 * Waits a moment for the client's next requests: giving the connection to the
 * MPM and getting it back costs several system calls and thread switches.
 * Only after requests, so that nothing else holds the thread, and if there was
 * no longer pause before them.
 * @return whether the client has said more
 */
static int linger_locked(h2x_drive *drive)
{
    apr_uint32_t driving = apr_atomic_read32(&h2x_child_self->driving);
    int has_more;

    if (!drive->has_run || drive->c1->data_in_output_filters) {
        return 0;
    }
    drive->has_run = 0;
    drive->paused_at = h2x_clock_now();
    if (drive->pause > LINGER
        || 2 * driving > (apr_uint32_t)h2x_child_self->mpm_threads) {
        return 0;
    }
    h2x_lock_release(&drive->lock);
    has_more = h2x_io_await(drive->c1, LINGER);
    h2x_lock_acquire(&drive->lock);
    return has_more;
}

/*
 * How long to wait for the client. Without a stream, what else it says, such
 * as PING, does not make that longer: it would keep its place for ever.
 */
static apr_interval_time_t time_to_wait(const h2x_drive *drive)
{
    apr_interval_time_t left;

    if (h2x_session_stream_count(drive->session)) {
        return h2x_conn_get(drive->c1)->server->timeout;
    }
    left = h2x_session_idle_until(drive->session) - h2x_clock_now();
    return left > 0 ? left : 0;
}

/* Nothing runs, and there is nothing to run. Returns 1 to go on anyway. */
static int rest_locked(h2x_drive *drive)
{
    apr_interval_time_t left = time_to_wait(drive);

    if (left && mpm_waits(drive)) {
        /* meanwhile streams may have been reset, which are to be ended */
        return linger_locked(drive) || missed_poke(drive) || has_work(drive);
    }
    if (!left || wait_locked(drive, left) != APR_SUCCESS) {
        h2x_session_goaway(drive->session);
        h2x_drive_advance_locked(drive, H2X_TURN_OUTPUT);
        h2x_transfer_lose(drive);
    }
    return 1;
}

/* Tells the MPM what to do with the connection. */
static void leave_locked(h2x_drive *drive)
{
    conn_rec *c1 = drive->c1;
    int is_over = h2x_drive_is_over(drive);

    h2x_drive_advance_locked(drive, H2X_TURN_LEFT);
    drive->was_with_mpm = 1;
    if (c1->data_in_output_filters) {
        h2x_transfer_rest(drive);
    }
    else {
        h2x_drive_set_deadline(drive, h2x_clock_now() + REST_AFTER);
    }
    c1->keepalive = is_over ? AP_CONN_CLOSE : AP_CONN_KEEPALIVE;
    c1->data_in_input_filters = 0; /* all of it was read */
    if (!c1->cs) {
        return;
    }
    c1->cs->sense = CONN_SENSE_DEFAULT;
    if (is_over) {
        c1->cs->state = CONN_STATE_LINGER;
    }
    else if (h2x_drive_is_between_requests(drive)) {
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

/* Reads, runs, writes and ends what there is; returns whether that was any. */
static int step_locked(h2x_drive *drive)
{
    int did_something;

    h2x_drive_check_stopping(drive);
    did_something = h2x_transfer_receive(drive) > 0;
    if (h2x_runner_work_locked(drive)) {
        did_something = 1;
    }
    return did_something;
}

void h2x_drive_run(h2x_drive *drive)
{
    conn_rec *c1 = drive->c1;
    int idle_steps = 0;

    apr_atomic_inc32(&h2x_child_self->driving);
    ap_update_child_status_from_conn(c1->sbh, SERVER_BUSY_READ, c1);
    h2x_lock_acquire(&drive->lock);
    h2x_drive_advance_locked(drive, H2X_TURN_TAKEN);
    if (drive->paused_at) {
        drive->pause = h2x_clock_now() - drive->paused_at;
    }
    for (;;) {
        idle_steps = step_locked(drive) ? 0 : idle_steps + 1;
        if (h2x_lock_has_lines(&drive->lock)) {
            write_lines_locked(drive);
        }
        else if (has_work(drive)) {
            if (idle_steps > 1) {
                /* better to lose one connection than a processor */
                h2x_log_locked(&drive->lock, APLOG_ERR, 0, c1,
                               "h2x(%s): no progress, closing: please report",
                               c1->log_id);
                h2x_transfer_lose(drive);
            }
            continue;
        }
        else if (drive->queue.running) {
            wait_locked(drive, -1);
        }
        else if (drive->gone || !rest_locked(drive)) {
            break;
        }
        idle_steps = 0;
    }
    leave_locked(drive);
    h2x_lock_release(&drive->lock);
    apr_atomic_dec32(&h2x_child_self->driving);
}
