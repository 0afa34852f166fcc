/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <apr_atomic.h>

#include <httpd.h>

#include "h2x.h"
#include "h2x_lead.h"
#include "h2x_thread.h"

/* The thread of a lead that takes long is looked at again when it has taken a
 * part of that more. In microseconds. */
#define LOOK_AGAIN(passed) ((passed) / 4 + 1000)

/* One that took longer than this computes enough for the next one to be worth
 * the waking of a thread, if there is a processor for it: with 2 of them, one
 * of 0.57 ms loses 7 % of its throughput, and one of 1.9 ms gains 56 %. In
 * microseconds. */
#define SHARE_MIN 800

/* After so many that were not, one that was is forgotten. */
#define ON_TIME_MIN 16

/* So many go on beside the next lead, when a handler may wait. */
#define BESIDE 3

void h2x_lead_begin_computing(h2x_stream *stream)
{
    stream->job.is_computing = 1;
    apr_atomic_inc32(&h2x_child_self->computing);
}

void h2x_lead_end_computing(h2x_stream *stream)
{
    if (stream->job.is_computing) {
        stream->job.is_computing = 0;
        apr_atomic_dec32(&h2x_child_self->computing);
    }
}

static void hand_over(h2x_drive *drive, const h2x_stream *stream)
{
    if (stream && drive->lead == stream) {
        h2x_drive_advance_locked(drive, H2X_TURN_BUSY);
    }
}

void h2x_lead_wait_locked(h2x_drive *drive, h2x_stream *stream)
{
    h2x_lead_end_computing(stream);
    if (stream->job.member) {
        h2x_threads_will_wait(h2x_child_self->threads, stream->job.member);
    }
    hand_over(drive, stream);
}

void h2x_lead_handler_waits_locked(h2x_drive *drive, h2x_stream *stream)
{
    if (drive->lead == stream) {
        h2x_queue_allow_beside(&drive->queue, BESIDE);
    }
    h2x_lead_wait_locked(drive, stream);
}

void h2x_lead_share_locked(h2x_drive *drive, apr_interval_time_t taken)
{
    /* one more is for this thread, and counts as computing from then on */
    if (taken > SHARE_MIN && h2x_queue_startable(&drive->queue) > 1
        && apr_atomic_read32(&h2x_child_self->computing) + 1
           < h2x_child_self->processors) {
        h2x_queue_allow_beside(&drive->queue, 1);
        h2x_drive_advance_locked(drive, H2X_TURN_SHARES);
    }
}

void h2x_lead_is_over(h2x_drive *drive)
{
    h2x_drive_set_lead(drive, NULL, 0);
    if (++drive->on_time >= ON_TIME_MIN && drive->was_late) {
        drive->was_late = 0;
        drive->queue.beside = 0;
    }
}

/* Goes on without a lead that waits, and that did not say so. */
static void replace_waiting(h2x_drive *drive)
{
    if (h2x_queue_startable(&drive->queue)) {
        if (drive->was_late) {
            h2x_queue_allow_beside(&drive->queue, drive->queue.ready_count);
        }
        drive->was_late = 1;
        drive->on_time = 0;
    }
    h2x_lead_wait_locked(drive, drive->lead);
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

void h2x_lead_check_locked(h2x_drive *drive)
{
    h2x_thread_look look;

    h2x_thread_look_at(&drive->lead_thread, &look);
    if (lead_waits(drive, &look)) {
        replace_waiting(drive);
    }
    else if (is_processor_free()
             || (drive->lead_looked
                 && look.used - drive->lead_first.used > H2X_THREAD_LONG)) {
        hand_over(drive, drive->lead);
    }
    else {
        if (!drive->lead_looked) {
            drive->lead_looked = 1;
            drive->lead_first = look;
        }
        drive->lead_last = look;
        h2x_drive_set_late(drive, look.at
                           + LOOK_AGAIN(look.at - drive->lead_since));
    }
}
