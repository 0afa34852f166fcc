/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * What the parts of the engine share: h2x_drive.c, which drives from any
 * thread, h2x_lead.c, which runs requests, h2x_transfer.c, which reads and
 * writes, h2x_conn.c, which is the connection thread, and h2x_late.c, which
 * looks after stalled streams. For these only. All functions want the lock
 * held, but the callbacks of the watch.
 */
#ifndef H2X_DRIVE_IMPL_H
#define H2X_DRIVE_IMPL_H

#include <apr_ring.h>

#include <httpd.h>

#include "h2x_child.h"
#include "h2x_drive.h"
#include "h2x_io.h"
#include "h2x_request.h"
#include "h2x_session.h"
#include "h2x_thread.h"

APR_RING_HEAD(h2x_drive_ring, h2x_stream);

/** Who reads and writes the frames of a connection. */
typedef enum {
    H2X_DRIVER_MPM,   /* nobody: the MPM has the connection */
    H2X_DRIVER_CONN,  /* the connection thread */
    H2X_DRIVER_WATCH, /* the watch; and, for what it writes, any thread */
    H2X_DRIVER_LEAD   /* a request that reads its body, likewise, or, until it
                       * is late, one that its thread runs after that */
} h2x_driver;

struct h2x_drive {
    conn_rec *c1;
    h2x_lock lock;
    h2x_session *session;
    h2x_driver driver;
    struct h2x_drive_ring ready; /* QUEUED, the most urgent first */
    struct h2x_drive_ring ended; /* CLOSED, to be ended and released */
    int ready_count;
    int ended_count;
    int running;       /* requests that run or end, on any thread */
    int running_max;
    apr_time_t deadline; /* for streams that make no progress, and for: */
    apr_time_t drain_until; /* the final GOAWAY; 0: the child does not stop */
    int offered;       /* workers that were asked for and have not come */
    int spare;         /* workers that may run a request beside the lead */
    int was_late;      /* a lead was in the way, lately: */
    int on_time;       /* so many were not, since then */
    apr_uint32_t unsent; /* a request wrote a little, to be sent soon; atomic */
    int gone;          /* the client is; nothing is read or written */
    int is_closing;    /* no work is given away any more */
    int pending_input; /* reading stopped before all was read */
    int pending_output; /* writing did, likewise */
    int is_flushing; /* the watch flushes what c1's filters hold, while the MPM
                      * waits for the client to say more */

    h2x_stream *lead;  /* the request whose thread runs the next ones; NULL */
    apr_uint64_t late_at; /* when to look at the lead's thread; 0: there is
                           * none, or it is not in code of httpd. Read without
                           * the lock */
    h2x_thread lead_thread;
    int lead_looked;      /* its thread was looked at: */
    h2x_thread_look lead_first; /* the first time, */
    h2x_thread_look lead_last;  /* and the last */

    /* the connection thread */
    apr_thread_cond_t *work; /* there is something to do for it */
    int is_waiting;    /* it waits for that */
    int has_run;       /* requests have, on any thread, since it last waited */
    apr_time_t paused_at; /* there were no more requests, last; 0: never */
    apr_interval_time_t pause; /* how long, when it was with the MPM last */
    int was_with_mpm;  /* it has given the connection to the MPM before */

    h2x_watch_entry watch;
    h2x_worker_source source;

    h2x_io io;
    h2x_buffer buffer;
};

/** Is the connection handed over: may any thread read and write? */
static APR_INLINE int h2x_drive_is_shared(const h2x_drive *drive)
{
    return drive->driver == H2X_DRIVER_WATCH
           || drive->driver == H2X_DRIVER_LEAD;
}

/** The client is gone: closes all of its streams. */
void h2x_drive_lose(h2x_drive *drive);

/** Asks the watch for what the session waits for, if the watch drives. */
void h2x_drive_arm(h2x_drive *drive);

/**
 * Sends frames, as far as the socket takes them, but no more at a time than is
 * good for what may come. Any thread.
 * @return how many bytes
 */
apr_size_t h2x_drive_send_locked(h2x_drive *drive);

/**
 * Makes frames of what there is to be sent, if the socket would take them.
 * What does not fill the buffer goes out with the next
 * h2x_drive_send_locked(), which has to follow. Any thread.
 */
void h2x_drive_frame_locked(h2x_drive *drive);

/** Frees the buffer, which is there only while the connection is active. */
void h2x_drive_free_buffer(h2x_drive *drive);

/** Gives back what memory a connection needs only while it is active. */
void h2x_drive_rest_locked(h2x_drive *drive);

/**
 * Reads what has come, but no more than is good for the other requests.
 * The driver.
 * @return how many bytes
 */
apr_size_t h2x_drive_receive_locked(h2x_drive *drive);

/**
 * Reads for a request until more of its body has come, if nothing else runs:
 * to be woken for each piece of an upload would cost more. The runner. Gives
 * up when nothing comes for a while, and hands the connection over.
 */
void h2x_drive_fetch_locked(h2x_drive *drive, h2x_stream *stream);

/**
 * Lets a request lead, if its thread did not already, or none.
 * @param since when it began with what it does in code of httpd; 0: nothing
 */
void h2x_drive_set_lead_locked(h2x_drive *drive, h2x_stream *stream,
                               apr_time_t since);

/**
 * Goes on without a request: if it leads, it does so no longer, and if its
 * thread drives, the connection is handed over.
 */
void h2x_drive_hand_over_locked(h2x_drive *drive, const h2x_stream *stream);

/** The same, as it may wait: it counts as computing no longer. */
void h2x_drive_wait_locked(h2x_drive *drive, h2x_stream *stream);

/** The same, if its handler is about to wait: others' may be, too. */
void h2x_drive_handler_waits_locked(h2x_drive *drive, h2x_stream *stream);

/**
 * Looks at the thread of a lead that takes long: goes on without it if it
 * waits, or if there is a processor for another one. The watch.
 */
void h2x_drive_check_lead_locked(h2x_drive *drive);

/**
 * Releases a stream that is over; one whose request was not ended yet is kept
 * until it is.
 */
void h2x_drive_over_locked(h2x_drive *drive, h2x_stream *stream);

/** How many of the requests that are ready may start. */
int h2x_drive_startable(const h2x_drive *drive);

/** Is there a request to run or to end, and nobody who will? */
int h2x_drive_has_work(const h2x_drive *drive);

/**
 * Runs requests that are ready, one after the other, for a while; sends; ends
 * those that are over. Nothing, if there is a lead. The lock is free while a
 * request runs. The connection thread, which drives afterwards.
 * @return whether it did something
 */
int h2x_drive_work_locked(h2x_drive *drive);

/** The same, on a worker: see h2x_worker_source. No lock held. */
void h2x_drive_work(void *baton, apr_thread_t *thread, int number);

/** Ends all streams that are over. The connection's thread, at its end. */
void h2x_drive_end_all_locked(h2x_drive *drive);

/** Looks no longer for the end of a tunnel's output. No lock held. */
void h2x_drive_forget_tunnel(h2x_stream *stream);

/**
 * Is there no request, but was there one? The MPM has KeepAliveTimeout for
 * that state, and its own ways with the connection.
 */
int h2x_drive_is_between_requests(const h2x_drive *drive);

/** Takes the connection (back). Its own thread. */
void h2x_drive_take_back_locked(h2x_drive *drive);

/** Gives away what is to be done, unless the connection thread drives. */
void h2x_drive_delegate_locked(h2x_drive *drive);

/**
 * Asks to look after streams at a time, if not earlier; 0 asks for nothing.
 */
void h2x_drive_set_deadline(h2x_drive *drive, apr_time_t deadline);

/** What the watch calls at that time. */
void h2x_drive_on_deadline(void *baton);

/**
 * Asks the client to go elsewhere (RFC 9113, section 6.8). The final GOAWAY
 * comes when the client has answered the PING of the first, or, if this is
 * called again after Timeout, without that.
 */
void h2x_drive_drain(h2x_drive *drive);

/** Does what a stopping child should. The driver. */
void h2x_drive_check_stopping(h2x_drive *drive);

#endif /* H2X_DRIVE_IMPL_H */
