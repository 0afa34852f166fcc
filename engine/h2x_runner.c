/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <httpd.h>
#include <scoreboard.h>

#include "h2x.h"
#include "h2x_clock.h"
#include "h2x_files.h"
#include "h2x_lead.h"
#include "h2x_memory.h"
#include "h2x_request.h"
#include "h2x_runner.h"
#include "h2x_transfer.h"
#include "h2x_tunnel_end.h"

/* How long requests run, one after the other, before output is sent. */
#define BATCH_MAX 1000

/* How long a request waits for its body itself. */
#define FETCH_MAX (20 * 1000)

void h2x_runner_over_locked(h2x_drive *drive, h2x_stream *stream)
{
    h2x_stream_advance_locked(stream, H2X_STREAM_CLOSED);
    if (stream->job.c2_pool) {
        h2x_queue_add_ended(&drive->queue, stream);
    }
    else {
        h2x_session_release(drive->session, stream);
    }
}

/* The thread that runs requests of a connection for a while. */
typedef struct {
    h2x_runner runner;
    h2x_member *member; /* of the child's threads; NULL: the connection's */
} work_thread;

static void begin_work(work_thread *me, const h2x_drive *drive,
                       h2x_member *member)
{
    me->runner.thread = member ? member->thread : drive->c1->current_thread;
    me->runner.sbh = drive->c1->sbh;
    me->runner.c2_pool = NULL;
    me->member = member;
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
        stream->out.sent != H2X_SENT_END
            && (stream->is_closed || stream->out.end >= H2X_OUTPUT_FAILS)
    };
    h2x_c2_pool *c2_pool = stream->job.c2_pool;

    h2x_lock_release(&drive->lock);
    h2x_request_end(stream, &sum, runner);
    if (runner->c2_pool) {
        h2x_c2_pools_put(h2x_child_self->c2_pools, c2_pool);
    }
    else {
        runner->c2_pool = c2_pool;
    }
    h2x_lock_acquire(&drive->lock);
    h2x_files_closed_locked(drive, stream);
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
    if (!h2x_segments_is_in_memory(&stream->out.row)) {
        return stream->is_closed;
    }
    if (!h2x_transfer_frame(drive)
        || !h2x_queue_startable(&drive->queue)
        || h2x_segments_is_borrowed(&stream->out.row)) {
        /* this thread may be some time in the end of the request */
        h2x_drive_advance_locked(drive, stream == drive->lead
                                        ? H2X_TURN_WORKED
                                        : H2X_TURN_OUTPUT);
    }
    if (h2x_segments_own(&stream->out.row) != APR_SUCCESS) {
        h2x_stream_drop_output_locked(stream);
        h2x_stream_end_output_locked(stream, H2X_OUTPUT_FAILS);
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
        stream->job.member = me->member;
        h2x_lead_begin_computing(stream);
        h2x_lock_release(&drive->lock);
        h2x_request_run(stream, drive->c1, &me->runner);
        h2x_tunnel_end_forget(stream);
        h2x_stream_close_signal(stream);
        h2x_lock_acquire(&drive->lock);
    }
    if (stream->out.end == H2X_OUTPUT_GOES_ON) {
        h2x_stream_end_output_locked(stream, H2X_OUTPUT_FAILS);
        h2x_session_output(drive->session, stream);
    }
    if (own_output(drive, stream) && stream->job.c2_pool) {
        end_request(drive, stream, &me->runner);
    }
    h2x_lead_end_computing(stream);
    stream->job.member = NULL;
    --drive->queue.running;
    if (stream->is_closed) {
        h2x_runner_over_locked(drive, stream);
    }
    else {
        h2x_stream_advance_locked(stream, H2X_STREAM_DRAINING);
        if (stream->out.end < H2X_OUTPUT_FAILS || !stream->out.progress) {
            stream->out.progress = h2x_clock_now();
        }
        h2x_drive_set_deadline(drive, stream->out.progress
                                      + stream->limits.timeout);
        h2x_session_output(drive->session, stream);
    }
}

/* Ends a stream whose file was sent, or will not be. As above. */
static void end_stream(h2x_drive *drive, h2x_stream *stream,
                       h2x_runner *runner)
{
    end_request(drive, stream, runner);
    --drive->queue.running;
    h2x_session_release(drive->session, stream);
}

/* The place of a thread in the scoreboard; -1: the connection's is used. */
static int slot_of(const h2x_member *member)
{
    return member ? h2x_child_slot(member->number) : -1;
}

/* Runs or ends a request, which leads, if there is no lead, until it may
 * wait. */
static void do_stream(h2x_drive *drive, h2x_stream *stream, work_thread *me,
                      apr_time_t now)
{
    int child = (int)(drive->c1->id / h2x_child_self->thread_limit);
    int slot = slot_of(me->member);

    if (slot >= 0) {
        ap_create_sb_handle(&me->runner.sbh, stream->pool, child, slot);
    }
    if (!drive->lead) {
        h2x_drive_set_lead(drive, stream, now);
    }
    if (stream->state == H2X_STREAM_RUNNING) {
        run_stream(drive, stream, me);
    }
    else {
        end_stream(drive, stream, &me->runner);
    }
    if (drive->lead == stream) {
        h2x_lead_is_over(drive);
    }
    drive->has_run = 1;
    if (!me->member) {
        h2x_drive_advance_locked(drive, H2X_TURN_TAKEN);
    }
}

/* Returns nonzero if a request may begin or end on this thread: none leads, and
 * there is nothing to be logged, which the request would have to wait for. */
static int may_begin(const h2x_drive *drive)
{
    return !drive->lead && !h2x_lock_has_lines(&drive->lock);
}

static int work_locked(h2x_drive *drive, work_thread *me)
{
    apr_time_t now = h2x_clock_now(), end = now + BATCH_MAX;
    int has_run = 0, has_ended = 0, has_sent;
    h2x_stream *stream;

    while (may_begin(drive) && now < end
           && (stream = h2x_queue_pop(&drive->queue))) {
        apr_time_t begun = now;

        do_stream(drive, stream, me, now);
        now = h2x_clock_now();
        has_run = 1;
        if (!drive->lead) {
            h2x_lead_share_locked(drive, now - begun);
        }
    }
    has_sent = h2x_drive_advance_locked(drive, H2X_TURN_WORKED) > 0;
    while (may_begin(drive)
           && (stream = h2x_queue_pop_ended(&drive->queue))) {
        do_stream(drive, stream, me, h2x_clock_now());
        has_ended = 1;
    }
    if (has_ended) {
        /* others may have left something to be sent, while that went on */
        h2x_drive_advance_locked(drive, H2X_TURN_WORKED);
    }
    return has_run || has_sent || has_ended;
}

int h2x_runner_work_locked(h2x_drive *drive)
{
    work_thread me;
    int did_something;

    begin_work(&me, drive, NULL);
    did_something = work_locked(drive, &me);
    release_pool(&me.runner);
    return did_something;
}

void h2x_runner_end_all_locked(h2x_drive *drive)
{
    h2x_runner runner = { drive->c1->current_thread, drive->c1->sbh, NULL };
    h2x_stream *stream;

    while ((stream = h2x_queue_pop_ended(&drive->queue))) {
        end_stream(drive, stream, &runner);
    }
    release_pool(&runner);
}

/* Shows that one of the child's threads runs no request any more. */
static void end_work(h2x_drive *drive, work_thread *me)
{
    int child = (int)(drive->c1->id / h2x_child_self->thread_limit);
    int slot = slot_of(me->member);

    release_pool(&me->runner);
    if (slot >= 0) {
        ap_update_child_status_from_indexes(child, slot, SERVER_DEAD, NULL);
    }
}

void h2x_runner_serve_locked(h2x_drive *drive, h2x_member *member)
{
    work_thread me;

    begin_work(&me, drive, member);
    h2x_drive_advance_locked(drive, H2X_TURN_READY);
    h2x_transfer_receive(drive);
    if (drive->driver == H2X_DRIVER_LEAD && h2x_drive_has_work(drive)
        && h2x_threads_may_work(h2x_child_self->threads, &drive->entry,
                                member)) {
        work_locked(drive, &me);
        end_work(drive, &me);
    }
    else {
        h2x_drive_advance_locked(drive, H2X_TURN_WORKED);
    }
    h2x_drive_advance_locked(drive, H2X_TURN_DONE);
}

/* Works for a while, or runs one request beside the lead. */
void h2x_runner_work(void *baton, h2x_member *member)
{
    h2x_drive *drive = baton;
    h2x_stream *stream = NULL;
    work_thread me;

    begin_work(&me, drive, member);
    h2x_lock_acquire(&drive->lock);
    --drive->offered;
    if (drive->lead && drive->queue.beside
        && !h2x_lock_has_lines(&drive->lock)) {
        --drive->queue.beside;
        stream = h2x_queue_pop(&drive->queue);
    }
    if (stream) {
        do_stream(drive, stream, &me, 0);
    }
    if (stream || h2x_drive_has_work(drive)) {
        /* not else: the connection may be with the MPM, which uses its filters
         * between requests */
        work_locked(drive, &me);
    }
    end_work(drive, &me);
    h2x_drive_advance_locked(drive, H2X_TURN_DONE);
    h2x_lock_release(&drive->lock);
}

/* ---- reading for a request ---- */

/*
 * May a request read for itself? Not when there are others: nobody would read
 * for them while it is busy with what has come. Nor when it may wait for a log.
 */
static int may_fetch(const h2x_drive *drive)
{
    return drive->driver != H2X_DRIVER_MPM
           && drive->queue.running == 1 && !drive->queue.ended_count
           && !h2x_queue_startable(&drive->queue) && !drive->gone
           && !drive->is_closing && !drive->pending_output
           && !drive->c1->data_in_output_filters
           && !h2x_lock_has_lines(&drive->lock);
}

/* Lets a request lead, and read. Returns 0 when that cannot be. */
static int begin_fetch(h2x_drive *drive, h2x_stream *stream)
{
    if (!may_fetch(drive)) {
        return 0;
    }
    h2x_drive_set_lead(drive, stream, 0);
    h2x_drive_advance_locked(drive, H2X_TURN_FETCHES);
    return 1;
}

void h2x_runner_fetch_locked(h2x_drive *drive, h2x_stream *stream)
{
    apr_time_t end = h2x_clock_now() + FETCH_MAX;
    apr_interval_time_t left = FETCH_MAX;
    apr_off_t had = stream->in.received;
    int has_more = begin_fetch(drive, stream);

    while (has_more && left > 0) {
        h2x_transfer_receive(drive);
        h2x_drive_advance_locked(drive, H2X_TURN_OUTPUT);
        if (!may_fetch(drive)) {
            break;
        }
        if (stream->in.received > had || stream->in.state != H2X_INPUT_OPEN) {
            /* if it is busy with that for long, it is looked at */
            h2x_drive_set_lead(drive, stream, h2x_clock_now());
            return;
        }
        /* whatever else the client says does not make it longer */
        left = end - h2x_clock_now();
        if (left > 0 && !drive->pending_input) {
            if (stream->job.member) {
                h2x_threads_will_wait(h2x_child_self->threads,
                                      stream->job.member);
            }
            h2x_lock_release(&drive->lock);
            has_more = h2x_io_await(drive->c1, left);
            h2x_lock_acquire(&drive->lock);
        }
        has_more = has_more && drive->driver == H2X_DRIVER_LEAD;
    }
    h2x_lead_wait_locked(drive, stream);
}
