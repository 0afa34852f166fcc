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
 * over*: from that moment on the watch (h2x_watch.c, one thread a child)
 * reads and writes its frames, and a worker (h2x_worker.c) runs its other
 * requests in the same way: see h2x_lead.c. The request that waits knows
 * nothing of it and runs on where it is; no thread is woken for it. When it is
 * done, the connection thread takes its connection back.
 *
 * Three things hand a connection over:
 * - a handler is about to run that may wait (see h2x_request_may_wait());
 * - a request waits for a part of its body, or for room in its output;
 * - the thread has been in one request for some milliseconds, and waits there,
 *   or computes while others could: the watch looks at that.
 *
 * A request that waits for its body, and has the connection for itself, reads
 * frames on its own thread meanwhile (h2x_drive_fetch_locked()), so that an
 * upload costs no wake-up for each of its pieces.
 *
 * Any thread sends, as far as the socket takes it: a request's own when it has
 * written enough or is done, the lead for others while there is one. Only the
 * rest is left to the watch.
 *
 * When nothing runs, the connection goes back to the MPM, which waits for the
 * client without a thread. That is also where a download rests whose client
 * does not read: what is left of a file is a descriptor and an offset.
 *
 * One lock a session protects all of this. It is held while frames are read
 * and written, never while code of a request runs. What is done with it held
 * does not wait for the client: see h2x_io.c for how that is with c1's filters.
 * It may wait for a disk, when a file is read to be sent.
 *
 * Order of locks: the session's, then one of the watch's, the workers', the
 * store's or that of the pools. Nobody takes the locks of two sessions.
 */

#include <sys/socket.h>
#include <unistd.h>

#include <apr_atomic.h>
#include <apr_portable.h>
#include <apr_strings.h>

#include <httpd.h>
#include <http_connection.h>
#include <http_log.h>

#include "h2x.h"
#include "h2x_clock.h"
#include "h2x_conf.h"
#include "h2x_drive_impl.h"
#include "h2x_origin.h"

/* Output that is kept for a client that takes none. */
#define HELD_MAX ((apr_size_t) 512 * 1024)

/* Output of a request on a worker that is not kept to be sent with more. */
#define SEND_AT (16 * 1024)

int h2x_drive_is_between_requests(const h2x_drive *drive)
{
    return !h2x_session_stream_count(drive->session)
           && !h2x_session_is_fresh(drive->session);
}

/* ---- what the session says ---- */

/* Does a request go before another? */
static int is_before(const h2x_stream *one, const h2x_stream *other)
{
    return one->priority.urgency < other->priority.urgency
           || (one->priority.urgency == other->priority.urgency
               && one->request.received < other->request.received);
}

/* Puts a stream behind those that are as urgent and came earlier. */
static void insert_ready(h2x_drive *drive, h2x_stream *stream)
{
    h2x_stream *last = APR_RING_LAST(&drive->ready);

    while (last != APR_RING_SENTINEL(&drive->ready, h2x_stream, link)
           && is_before(stream, last)) {
        last = APR_RING_PREV(last, link);
    }
    APR_RING_INSERT_AFTER(last, stream, link);
}

static void on_ready_stream(void *baton, h2x_stream *stream)
{
    h2x_drive *drive = baton;

    insert_ready(drive, stream);
    ++drive->ready_count;
}

static void on_reprioritized_stream(void *baton, h2x_stream *stream)
{
    APR_RING_REMOVE(stream, link);
    insert_ready(baton, stream);
}

static void on_closed_stream(void *baton, h2x_stream *stream)
{
    h2x_drive *drive = baton;

    if (stream->state == H2X_STREAM_QUEUED) {
        APR_RING_REMOVE(stream, link);
        --drive->ready_count;
    }
    if (stream->state != H2X_STREAM_RUNNING) {
        h2x_drive_over_locked(drive, stream);
    }
}

static const h2x_session_owner session_owner = {
    on_ready_stream, on_reprioritized_stream, on_closed_stream
};

/* ---- what the requests ask for: see h2x_stream_owner ---- */

static void on_may_wait_locked(void *baton, h2x_stream *stream)
{
    h2x_drive_wait_locked(baton, stream);
}

static void on_may_wait(void *baton, h2x_stream *stream)
{
    h2x_drive *drive = baton;

    h2x_lock_acquire(&drive->lock);
    h2x_drive_wait_locked(drive, stream);
    h2x_lock_release(&drive->lock);
}

static void on_need_input_locked(void *baton, h2x_stream *stream)
{
    h2x_drive_fetch_locked(baton, stream);
}

static void on_output_locked(void *baton, h2x_stream *stream, int flush)
{
    h2x_drive *drive = baton;

    h2x_session_output(drive->session, stream);
    if (flush || stream->out.memory >= stream->max_memory
        || (!drive->lead && (stream->out_ended
                             || stream->out.bytes >= SEND_AT))) {
        h2x_drive_send_locked(drive);
        h2x_drive_delegate_locked(drive);
    }
    else if (stream != drive->lead && !apr_atomic_read32(&drive->unsent)) {
        /* the lead will send it soon, or more may follow at once; if not, the
         * next tick sends it */
        apr_atomic_set32(&drive->unsent, 1);
        h2x_watch_tick(h2x_child_self->watch, &drive->watch, 1);
    }
}

static void on_consumed_locked(void *baton, h2x_stream *stream,
                               apr_size_t len)
{
    h2x_drive *drive = baton;

    h2x_session_consumed(drive->session, stream, len);
    if (drive->driver == H2X_DRIVER_WATCH) {
        h2x_drive_send_locked(drive);
        h2x_drive_delegate_locked(drive);
    }
}

/*
 * While the socket takes nothing, the streams share what may be kept, so that
 * many of them do not make it much; one always has its part.
 */
static int is_full_locked(void *baton, const h2x_stream *stream)
{
    const h2x_drive *drive = baton;

    return stream->out.memory >= stream->max_memory
           || (drive->c1->data_in_output_filters
               && stream->out.memory
                  >= HELD_MAX / h2x_session_stream_count(drive->session));
}

static int waits_for_client_locked(void *baton, h2x_stream *stream,
                                   apr_time_t since)
{
    h2x_drive *drive = baton;

    return h2x_session_waits_for_client(drive->session, stream, since);
}

/* ---- the end of a tunnel's output ---- */

/* mod_proxy ends the two directions of a tunnel one by one, this one by
 * shutting down a socket. */
typedef struct {
    h2x_watch_entry watch;
    h2x_drive *drive;
    h2x_stream *stream;
} tunnel_end;

static void on_tunnel_end(void *baton)
{
    tunnel_end *end = baton;
    h2x_drive *drive = end->drive;
    h2x_stream *stream = end->stream;
    char c;

    h2x_lock_acquire(&drive->lock);
    if (!stream->is_closed && recv(stream->signal[1], &c, 1, 0) == 0) {
        stream->out_ended = 1;
        if (stream->tunnel == H2X_TUNNEL_WEBSOCKET) {
            /* both sides have said goodbye in it before (RFC 6455, 7.1.1) */
            stream->in_cut = 1;
            h2x_stream_wake_locked(stream);
        }
        h2x_session_output(drive->session, stream);
        h2x_drive_send_locked(drive);
        h2x_drive_delegate_locked(drive);
    }
    h2x_lock_release(&drive->lock);
}

static void on_tunnel_begins(void *baton, h2x_stream *stream)
{
    tunnel_end *end = apr_pcalloc(stream->pool, sizeof(*end));
    apr_socket_t *socket = NULL;

    if (stream->tunnel_end
        || apr_os_sock_put(&socket, &stream->signal[1], stream->pool)
               != APR_SUCCESS) {
        return;
    }
    end->drive = baton;
    end->stream = stream;
    end->watch.on_ready = on_tunnel_end;
    end->watch.baton = end;
    stream->tunnel_end = end;
    h2x_watch_add(h2x_child_self->watch, &end->watch, socket, stream->pool);
    h2x_watch_arm(h2x_child_self->watch, &end->watch, APR_POLLIN);
}

void h2x_drive_forget_tunnel(h2x_stream *stream)
{
    if (stream->tunnel_end) {
        h2x_watch_forget(h2x_child_self->watch,
                         &((tunnel_end *)stream->tunnel_end)->watch);
    }
}

static const h2x_stream_owner stream_owner = {
    on_may_wait, on_may_wait_locked, on_need_input_locked, on_output_locked,
    on_consumed_locked, is_full_locked, waits_for_client_locked,
    on_tunnel_begins
};

/* ---- stopping ---- */

/* A client has Timeout to answer the first GOAWAY, but no more than this. */
#define DRAIN_MAX apr_time_from_sec(20)

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

/* Does what a stopping child should: ask clients to go, or let them down. */
void h2x_drive_check_stopping(h2x_drive *drive)
{
    switch (h2x_child_is_stopping()) {
    case H2X_STOP_GRACEFUL:
        h2x_drive_drain(drive);
        break;
    case H2X_STOP_NOW:
        h2x_drive_lose(drive);
        break;
    case H2X_STOP_NOT:
        break;
    }
}

/* ---- the watch ---- */

/* The socket of a session that was handed over is ready. */
static void on_socket_ready(void *baton)
{
    h2x_drive *drive = baton;

    h2x_lock_acquire(&drive->lock);
    if (drive->driver == H2X_DRIVER_WATCH) {
        if (drive->is_waiting) {
            apr_thread_cond_signal(drive->work);
        }
        else {
            h2x_drive_check_stopping(drive);
            h2x_drive_receive_locked(drive);
            h2x_drive_send_locked(drive);
            h2x_drive_delegate_locked(drive);
        }
    }
    else if (drive->driver == H2X_DRIVER_MPM && drive->is_flushing) {
        drive->is_flushing = 0;
        h2x_io_is_writable(&drive->io); /* also when the session is over */
        h2x_drive_send_locked(drive);
    }
    h2x_lock_release(&drive->lock);
}

/*
 * The child has begun to stop. The connection may be with the MPM: if that
 * waits for its socket, see h2x_drive_on_deadline(), clients learn of it now.
 */
static void on_poke(void *baton)
{
    h2x_drive *drive = baton;

    h2x_lock_acquire(&drive->lock);
    if (h2x_drive_is_shared(drive)) {
        h2x_drive_check_stopping(drive);
        h2x_drive_send_locked(drive);
        if (drive->is_waiting) {
            apr_thread_cond_signal(drive->work);
        }
        h2x_drive_delegate_locked(drive);
    }
    else if (drive->driver == H2X_DRIVER_MPM && !drive->gone
             && !h2x_drive_is_between_requests(drive)
             && h2x_child_is_stopping() == H2X_STOP_GRACEFUL) {
        h2x_drive_drain(drive);
        h2x_drive_send_locked(drive);
    }
    h2x_lock_release(&drive->lock);
}

static void stop_ticks(h2x_drive *drive)
{
    h2x_watch_tick(h2x_child_self->watch, &drive->watch, 0);
    if (apr_atomic_read64(&drive->late_at)
        || apr_atomic_read32(&drive->unsent)) {
        h2x_watch_tick(h2x_child_self->watch, &drive->watch, 1);
    }
}

/*
 * Sends what a request has written that says no more, and looks whether the
 * lead has been in one request for long.
 */
static void on_tick(void *baton)
{
    h2x_drive *drive = baton;
    apr_uint64_t late_at = apr_atomic_read64(&drive->late_at);
    int is_late = late_at && (apr_uint64_t)h2x_clock_now() > late_at;

    if (!is_late && !apr_atomic_read32(&drive->unsent)) {
        if (!late_at) {
            stop_ticks(drive);
        }
        return;
    }
    h2x_lock_acquire(&drive->lock);
    if (is_late && apr_atomic_read64(&drive->late_at) == late_at) {
        h2x_drive_check_lead_locked(drive);
    }
    if (apr_atomic_read32(&drive->unsent)) {
        h2x_drive_send_locked(drive);
        h2x_drive_delegate_locked(drive);
    }
    h2x_lock_release(&drive->lock);
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
    APR_RING_INIT(&drive->ready, h2x_stream, link);
    APR_RING_INIT(&drive->ended, h2x_stream, link);
    drive->running_max = (int)h2x_conf_get(s, H2X_MAX_SESSION_STREAMS);
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
    drive->source.run = h2x_drive_work;
    drive->source.baton = drive;
    drive->watch.on_ready = on_socket_ready;
    drive->watch.on_tick = on_tick;
    drive->watch.on_deadline = h2x_drive_on_deadline;
    drive->watch.on_poke = on_poke;
    drive->watch.baton = drive;
    h2x_watch_add(h2x_child_self->watch, &drive->watch,
                  ap_get_conn_socket(c1), p);
    apr_pool_pre_cleanup_register(p, drive, close_on_cleanup);
    *pdrive = drive;
    return first ? begin_upgraded(drive, first) : APR_SUCCESS;
}

/* The MPM closes a connection with requests when its Timeout is over. */
static void tell_of_timeout(const h2x_drive *drive)
{
    int streams = h2x_session_stream_count(drive->session);

    if (streams && !h2x_child_is_stopping()) {
        ap_log_cerror(APLOG_MARK, APLOG_INFO, 0, drive->c1,
                      "h2x(%s): closing: client takes no data, %d streams end",
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
    h2x_workers_forget(h2x_child_self->workers, &drive->source);
    /* after them, since they ask it for ticks */
    h2x_watch_forget(h2x_child_self->watch, &drive->watch);
    h2x_lock_acquire(&drive->lock);
    if (!drive->gone && !drive->c1->aborted) {
        tell_of_timeout(drive);
        h2x_session_goaway(drive->session);
        h2x_drive_send_locked(drive);
    }
    h2x_io_end(&drive->io);
    h2x_drive_lose(drive);
    h2x_drive_end_all_locked(drive);
    ap_assert(!drive->running && !drive->ready_count && !drive->ended_count);
    h2x_session_destroy(drive->session);
    drive->session = NULL;
    h2x_drive_free_buffer(drive);
    h2x_lock_release(&drive->lock);
    h2x_conn_get(drive->c1)->drive = NULL;
}

void h2x_drive_hand_over(conn_rec *c2)
{
    h2x_drive *drive = h2x_conn_get(c2->master)->drive;

    h2x_lock_acquire(&drive->lock);
    h2x_drive_handler_waits_locked(drive, h2x_conn_get(c2)->stream);
    h2x_lock_release(&drive->lock);
}
