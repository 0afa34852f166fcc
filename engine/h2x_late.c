/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The part of the engine that looks after streams which make no progress. */

#include <httpd.h>
#include <http_log.h>

#include "h2x.h"
#include "h2x_clock.h"
#include "h2x_drive_impl.h"

/*
 * Asks to look after streams whose client takes nothing (H2StreamTimeout), and
 * after a client that was asked to go (h2x_drive_drain()). One deadline is
 * enough: when it has come, the next one is found.
 */
void h2x_drive_set_deadline(h2x_drive *drive, apr_time_t deadline)
{
    if (deadline && (!drive->deadline || deadline < drive->deadline)) {
        drive->deadline = deadline;
        h2x_watch_deadline(h2x_child_self->watch, &drive->watch, deadline);
    }
}

typedef struct {
    h2x_drive *drive;
    apr_time_t now;
    apr_time_t next; /* the earliest deadline left */
    int late;        /* how many were late */
} late_search;

static void cancel_if_late(void *baton, h2x_stream *stream)
{
    late_search *search = baton;
    apr_time_t deadline = stream->progress + stream->timeout;

    if (stream->state != H2X_STREAM_DRAINING) {
        return;
    }
    if (deadline <= search->now
        && !h2x_session_waits_for_client(search->drive->session, stream,
                                         search->now - stream->timeout)) {
        /* it is others' turn: look again when it may be this one's fault */
        deadline = search->now + stream->timeout;
    }
    if (deadline <= search->now) {
        ++search->late;
        h2x_session_cancel(search->drive->session, stream);
    }
    else if (!search->next || deadline < search->next) {
        search->next = deadline;
    }
}

/*
 * The deadline has come. The connection may be with the MPM: as long as it
 * is not between requests, that only waits for its socket, and
 * h2x_drive_run() takes the connection before anything else happens to it.
 * If the connection thread drives, it is in a request, or waits a moment for
 * more, and looks afterwards for streams that are to be ended.
 */
void h2x_drive_on_deadline(void *baton)
{
    h2x_drive *drive = baton;
    late_search search = { drive, h2x_clock_now(), 0, 0 };

    h2x_lock_acquire(&drive->lock);
    drive->deadline = 0;
    if (drive->driver == H2X_DRIVER_MPM
        && !drive->c1->data_in_output_filters) {
        /* or the MPM might use the filters now */
        h2x_drive_rest_locked(drive);
    }
    /* also without streams, as there may be some by then */
    search.next = (drive->drain_until > search.now) ? drive->drain_until : 0;
    if (!drive->gone && h2x_session_stream_count(drive->session)) {
        if (drive->drain_until) {
            h2x_drive_drain(drive);
        }
        h2x_session_each(drive->session, cancel_if_late, &search);
        if (search.late) {
            ap_log_cerror(APLOG_MARK, APLOG_INFO, 0, drive->c1,
                          "h2x(%s): client takes no data or little of it, "
                          "%d streams reset", drive->c1->log_id, search.late);
        }
        h2x_drive_send_locked(drive);
        h2x_drive_delegate_locked(drive);
    }
    h2x_drive_set_deadline(drive, search.next);
    h2x_lock_release(&drive->lock);
}
