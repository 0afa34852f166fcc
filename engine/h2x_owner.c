/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What others call of the engine: the session, requests, the child's threads;
 * and the beginning and the end of a connection.
 */

#include <unistd.h>

#include <apr_atomic.h>
#include <apr_strings.h>

#include <httpd.h>
#include <http_connection.h>
#include <http_log.h>

#include "h2x.h"
#include "h2x_clock.h"
#include "h2x_conf.h"
#include "h2x_files.h"
#include "h2x_lead.h"
#include "h2x_origin.h"
#include "h2x_runner.h"
#include "h2x_transfer.h"
#include "h2x_tunnel_end.h"

/* Output that is kept for a client that takes none. */
#define HELD_MAX ((apr_size_t) 512 * 1024)

/* Output of a request beside the lead that is not kept to be sent with more. */
#define SEND_AT (16 * 1024)

/* ---- what the session says ---- */

static void on_ready_stream(void *baton, h2x_stream *stream)
{
    h2x_drive *drive = baton;

    h2x_queue_add(&drive->queue, stream);
}

static void on_reprioritized_stream(void *baton, h2x_stream *stream)
{
    h2x_drive *drive = baton;

    h2x_queue_move(&drive->queue, stream);
}

static void on_closed_stream(void *baton, h2x_stream *stream)
{
    h2x_drive *drive = baton;

    if (stream->state == H2X_STREAM_QUEUED) {
        h2x_queue_remove(&drive->queue, stream);
    }
    if (stream->state != H2X_STREAM_RUNNING) {
        h2x_runner_over_locked(drive, stream);
    }
}

static const h2x_session_owner session_owner = {
    on_ready_stream, on_reprioritized_stream, on_closed_stream
};

/* ---- what the requests ask for: see h2x_stream_owner ---- */

static void on_may_wait_locked(void *baton, h2x_stream *stream)
{
    h2x_lead_wait_locked(baton, stream);
}

static void on_may_wait(void *baton, h2x_stream *stream)
{
    h2x_drive *drive = baton;

    h2x_lock_acquire(&drive->lock);
    h2x_lead_wait_locked(drive, stream);
    h2x_lock_release(&drive->lock);
}

static void on_need_input_locked(void *baton, h2x_stream *stream)
{
    h2x_runner_fetch_locked(baton, stream);
}

static void on_output_locked(void *baton, h2x_stream *stream, int flush)
{
    h2x_drive *drive = baton;

    h2x_session_output(drive->session, stream);
    if (flush || stream->out.row.memory >= stream->limits.max_memory
        || (!drive->lead && (stream->out.end != H2X_OUTPUT_GOES_ON
                             || stream->out.row.bytes >= SEND_AT))) {
        h2x_drive_advance_locked(drive, H2X_TURN_OUTPUT);
    }
    else if (stream != drive->lead && !drive->unsent) {
        /* the lead will send it soon, or more may follow at once; if not, the
         * next tick sends it */
        drive->unsent = 1;
        h2x_drive_set_tick(drive);
    }
}

static void on_consumed_locked(void *baton, h2x_stream *stream,
                               apr_size_t len)
{
    h2x_drive *drive = baton;

    h2x_session_consumed(drive->session, stream, len);
    if (drive->driver == H2X_DRIVER_THREADS
        || (drive->driver == H2X_DRIVER_LEAD && drive->lead != stream)) {
        h2x_drive_advance_locked(drive, H2X_TURN_OUTPUT);
    }
}

/*
 * While the socket takes nothing, the streams share what may be kept, so that
 * many of them do not make it much; one always has its part.
 */
static int is_full_locked(void *baton, const h2x_stream *stream)
{
    const h2x_drive *drive = baton;

    return stream->out.row.memory >= stream->limits.max_memory
           || (drive->c1->data_in_output_filters
               && stream->out.row.memory
                  >= HELD_MAX / h2x_session_stream_count(drive->session));
}

static int on_keeps_file(void *baton, h2x_stream *stream, apr_os_file_t fd)
{
    h2x_drive *drive = baton;
    int keeps;

    h2x_lock_acquire(&drive->lock);
    keeps = h2x_files_keep_locked(drive, stream, fd);
    h2x_lock_release(&drive->lock);
    return keeps;
}

static void measure_anew(h2x_drive *drive, h2x_stream *stream)
{
    stream->out.measured_at = h2x_clock_now();
    stream->out.taken_before = h2x_session_taken(drive->session);
}

static void blocks_locked(void *baton, h2x_stream *stream, int blocks)
{
    h2x_drive *drive = baton;

    drive->blocked += blocks ? 1 : -1;
    if (blocks) {
        measure_anew(drive, stream);
    }
}

/*
 * For each thread that waits for it, the client has to take as much as one
 * response should bring. The first to ask has waited longest; when it gives up,
 * less is asked for.
 */
static int waits_for_client_locked(void *baton, h2x_stream *stream)
{
    h2x_drive *drive = baton;
    apr_off_t taken = h2x_session_taken(drive->session)
                      - stream->out.taken_before;
    double passed = (double)(h2x_clock_now() - stream->out.measured_at);

    if (!taken || h2x_session_is_window_shut(drive->session, stream)
        || (double)taken * APR_USEC_PER_SEC
           < passed * stream->limits.min_rate * drive->blocked) {
        return 1;
    }
    measure_anew(drive, stream);
    return 0;
}

static const h2x_stream_owner stream_owner = {
    on_may_wait, on_may_wait_locked, on_need_input_locked, on_output_locked,
    on_consumed_locked, is_full_locked, on_keeps_file, blocks_locked,
    waits_for_client_locked, h2x_tunnel_end_watch
};

/*
 * ---- what the threads of the child call ----
 *
 * Callbacks for events of a connection do not wait for its lock, since the
 * thread that holds it may be reading a slow file: that thread asks for the
 * event again, in on_missed_locked(). Callbacks for work wait for it
 * (h2x_runner_work()): if they returned, other threads would be started for the
 * same offers.
 */

/* The socket of a session that was handed over is ready. */
static void on_socket_ready(void *baton, h2x_member *member)
{
    h2x_drive *drive = baton;

    if (!h2x_lock_try(&drive->lock)) {
        return;
    }
    if (drive->driver == H2X_DRIVER_THREADS) {
        if (drive->is_waiting) {
            apr_thread_cond_signal(drive->work);
        }
        else {
            h2x_runner_serve_locked(drive, member);
        }
    }
    else if (drive->driver == H2X_DRIVER_MPM && drive->is_flushing) {
        drive->is_flushing = 0;
        h2x_io_is_writable(&drive->io); /* also when the session is over */
        h2x_drive_advance_locked(drive, H2X_TURN_OUTPUT);
    }
    h2x_lock_release(&drive->lock);
}

/*
 * The child has begun to stop. The MPM may wait for the socket of a connection
 * that has requests: clients learn of it now. What it does between requests is
 * its own; and a connection thread that drives looks itself.
 */
static void look_whether_stopping_locked(h2x_drive *drive)
{
    if (h2x_drive_is_shared(drive)
        || (drive->driver == H2X_DRIVER_MPM && !drive->gone
            && !h2x_drive_is_between_requests(drive)
            && h2x_child_is_stopping() == H2X_STOP_GRACEFUL)) {
        h2x_drive_advance_locked(drive, H2X_TURN_POKED);
    }
}

static void on_poke(void *baton)
{
    h2x_drive *drive = baton;

    if (h2x_lock_try(&drive->lock)) {
        look_whether_stopping_locked(drive);
        h2x_lock_release(&drive->lock);
    }
}

/*
 * Sends what a request has written that says no more, and looks whether the
 * lead has been in one request for long.
 */
static void on_tick(void *baton)
{
    h2x_drive *drive = baton;

    if (!h2x_lock_try(&drive->lock)) {
        return;
    }
    if (drive->late_at && h2x_clock_now() > drive->late_at) {
        h2x_lead_check_locked(drive);
    }
    if (drive->unsent) {
        h2x_drive_advance_locked(drive, H2X_TURN_OUTPUT);
    }
    h2x_drive_set_tick(drive);
    h2x_lock_release(&drive->lock);
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
    apr_time_t deadline = stream->out.progress + stream->limits.timeout;

    if (stream->state != H2X_STREAM_DRAINING) {
        return;
    }
    if (deadline <= search->now && stream->out.end < H2X_OUTPUT_FAILS
        && !h2x_session_waits_for_client(
               search->drive->session, stream,
               search->now - stream->limits.timeout)) {
        /* it is others' turn: look again when it may be this one's fault */
        deadline = search->now + stream->limits.timeout;
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
static void on_deadline(void *baton)
{
    h2x_drive *drive = baton;
    late_search search = { drive, h2x_clock_now(), 0, 0 };

    if (!h2x_lock_try(&drive->lock)) {
        return;
    }
    drive->deadline = 0;
    if (drive->driver == H2X_DRIVER_MPM
        && !drive->c1->data_in_output_filters) {
        /* or the MPM might use the filters now */
        h2x_transfer_rest(drive);
    }
    /* also without streams, as there may be some by then */
    search.next = (drive->drain_until > search.now) ? drive->drain_until : 0;
    if (!drive->gone && h2x_session_stream_count(drive->session)) {
        if (drive->drain_until) {
            h2x_drive_drain(drive);
        }
        h2x_session_each(drive->session, cancel_if_late, &search);
        if (search.late) {
            h2x_log_locked(&drive->lock, APLOG_INFO, 0, drive->c1,
                           "h2x(%s): client takes no data or little of it, "
                           "%d streams reset", drive->c1->log_id, search.late);
        }
        h2x_drive_advance_locked(drive, H2X_TURN_OUTPUT);
    }
    h2x_drive_set_deadline(drive, search.next);
    h2x_lock_release(&drive->lock);
}

/*
 * Asks again for each event that a callback may have been for which found the
 * lock held. Called by the thread that is about to release it.
 */
static void on_missed_locked(void *baton)
{
    h2x_drive *drive = baton;

    h2x_drive_set_tick(drive);
    if (drive->deadline) {
        h2x_threads_deadline(h2x_child_self->threads, &drive->entry,
                             drive->deadline);
    }
    if (h2x_child_is_stopping()) {
        look_whether_stopping_locked(drive);
    }
    h2x_drive_advance_locked(drive, H2X_TURN_MISSED);
}

/* ---- life ---- */

static apr_status_t close_on_cleanup(void *baton)
{
    h2x_drive_close(baton);
    return APR_SUCCESS;
}

void h2x_drive_make_log_id(conn_rec *c1)
{
    static apr_uint32_t last;

    if (!c1->log_id
        && ap_run_generate_log_id(c1, NULL, &c1->log_id) != OK) {
        c1->log_id = apr_psprintf(c1->pool, "%" APR_PID_T_FMT "-%u", getpid(),
                                  apr_atomic_inc32(&last) + 1);
    }
}

/* The session's first request came as HTTP/1.1. */
static apr_status_t begin_upgraded(h2x_drive *drive,
                                   const h2x_first_request *first)
{
    apr_status_t rv;

    h2x_lock_acquire(&drive->lock);
    rv = h2x_session_upgrade(drive->session, first);
    h2x_lock_release(&drive->lock);
    return rv;
}

apr_status_t h2x_drive_create(h2x_drive **pdrive, conn_rec *c1,
                              const h2x_first_request *first)
{
    apr_pool_t *p = c1->pool;
    server_rec *s = h2x_conn_get(c1)->server;
    h2x_drive *drive = apr_pcalloc(p, sizeof(*drive));
    h2x_session_params params = {
        c1, s, &drive->lock,
        h2x_child_self->stores[c1->id % H2X_CHILD_STORES],
        &session_owner, &stream_owner, drive,
        h2x_conn_get(c1)->ssl
            ? h2x_origin_list(c1, s, h2x_conn_get(c1)->ssl) : NULL
    };
    apr_status_t rv;

    /* its timers are for HTTP/1.1, and ended live connections */
    ap_remove_input_filter_byhandle(c1->input_filters, "reqtimeout");
    h2x_drive_make_log_id(c1);
    drive->c1 = c1;
    /* HTTP/1.1 is not over after an Upgrade: until h2x_drive_run(), the
     * connection thread has the filters for itself */
    drive->driver = first ? H2X_DRIVER_CONN : H2X_DRIVER_MPM;
    h2x_queue_init(&drive->queue,
                   (int)h2x_conf_get(s, H2X_MAX_SESSION_STREAMS));
    h2x_io_init(&drive->io, c1, s);
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
    drive->lock.on_missed = on_missed_locked;
    drive->lock.baton = drive;
    drive->entry.on_ready = on_socket_ready;
    drive->entry.on_work = h2x_runner_work;
    drive->entry.on_tick = on_tick;
    drive->entry.on_deadline = on_deadline;
    drive->entry.on_poke = on_poke;
    drive->entry.baton = drive;
    h2x_threads_add(h2x_child_self->threads, &drive->entry,
                    ap_get_conn_socket(c1));
    apr_pool_pre_cleanup_register(p, drive, close_on_cleanup);
    *pdrive = drive;
    return first ? begin_upgraded(drive, first) : APR_SUCCESS;
}

/* The MPM closes a connection with requests when its Timeout is over. */
static void tell_of_timeout(h2x_drive *drive)
{
    int streams = h2x_session_stream_count(drive->session);

    if (streams && !h2x_child_is_stopping()) {
        h2x_log_locked(&drive->lock, APLOG_INFO, 0, drive->c1, "h2x(%s): "
                       "closing: client takes no data, %d streams end",
                       drive->c1->log_id, streams);
    }
}

void h2x_drive_close(h2x_drive *drive)
{
    if (!h2x_child_self || !drive->session) {
        return;
    }
    h2x_lock_acquire(&drive->lock);
    drive->is_closing = 1;
    h2x_lock_release(&drive->lock);
    h2x_threads_forget(h2x_child_self->threads, &drive->entry);
    h2x_lock_acquire(&drive->lock);
    if (!drive->gone && !drive->c1->aborted) {
        tell_of_timeout(drive);
        h2x_session_goaway(drive->session);
        h2x_drive_advance_locked(drive, H2X_TURN_OUTPUT);
    }
    h2x_io_end(&drive->io);
    h2x_transfer_lose(drive);
    h2x_runner_end_all_locked(drive);
    ap_assert(!drive->queue.running && !drive->queue.ready_count
              && !drive->queue.ended_count);
    h2x_session_destroy(drive->session);
    drive->session = NULL;
    h2x_transfer_free_buffer(drive);
    h2x_lock_release(&drive->lock);
    h2x_conn_get(drive->c1)->drive = NULL;
}

void h2x_drive_hand_over(conn_rec *c2)
{
    h2x_drive *drive = h2x_conn_get(c2->master)->drive;

    h2x_lock_acquire(&drive->lock);
    h2x_lead_handler_waits_locked(drive, h2x_conn_get(c2)->stream);
    h2x_lock_release(&drive->lock);
}
