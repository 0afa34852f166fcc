/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * A connection as the engine knows it. The files of this folder have it from
 * here, in this order: what a file uses is of those before it.
 *
 *     h2x_queue.c     which stream is next
 *     h2x_files.c     what it may have of the child's descriptors
 *     h2x_transfer.c  reads and writes
 *     h2x_drive.c     who drives, who leads; deadlines; the end
 *     h2x_tunnel_end.c  sees that the request of a tunnel has no more to send
 *     h2x_lead.c      requests that wait, or take long
 *     h2x_runner.c    runs and ends requests
 *     h2x_owner.c     what the session, requests and threads call
 *     h2x_conn.c      the connection thread
 *
 * All functions want the session's lock held, if they do not say otherwise.
 */
#ifndef H2X_CORE_H
#define H2X_CORE_H

#include <httpd.h>

#include "h2x_child.h"
#include "h2x_drive.h"
#include "h2x_io.h"
#include "h2x_queue.h"
#include "h2x_session.h"
#include "h2x_thread.h"

/** Who reads and writes the frames of a connection. */
typedef enum {
    H2X_DRIVER_MPM,   /* nobody: the MPM has the connection */
    H2X_DRIVER_CONN,  /* the connection thread */
    H2X_DRIVER_THREADS, /* the one of the child's threads that finds an event;
                       * and, for what it writes, any thread */
    H2X_DRIVER_LEAD   /* likewise, the thread that has found one, and runs what
                       * is ready, until that waits or is late; or a request
                       * that reads its body */
} h2x_driver;

struct h2x_drive {
    conn_rec *c1;
    h2x_lock lock;
    h2x_session *session;
    h2x_driver driver; /* only h2x_drive.c assigns it */
    h2x_queue queue;
    h2x_entry entry;   /* among the child's threads */
    int offered;       /* how often they were asked to come, and have not */
    int gone;          /* the client is; nothing is read or written */
    int blocked;       /* threads that wait for room in their output */
    int open_files;    /* descriptors that streams keep */
    int is_closing;    /* no work is given away any more */

    /* times */
    apr_time_t deadline; /* for streams that make no progress, and for: */
    apr_time_t drain_until; /* the final GOAWAY; 0: the child does not stop */
    int unsent;        /* a request wrote a little, to be sent soon */

    /* bytes */
    h2x_io io;
    h2x_buffer buffer;
    int pending_input; /* reading stopped before all was read */
    int pending_output; /* writing did, likewise */
    int is_flushing;   /* what c1's filters hold is flushed by any thread, while
                        * the MPM waits for the client to say more */

    /* the lead */
    h2x_stream *lead;  /* the request whose thread runs the next ones; NULL */
    apr_time_t late_at; /* when to look at its thread; 0: there is none, or it
                         * is not in code of httpd */
    apr_time_t lead_since; /* when it began with that; 0: it did not */
    h2x_thread lead_thread;
    int lead_looked;      /* its thread was looked at: */
    h2x_thread_look lead_first; /* the first time, */
    h2x_thread_look lead_last;  /* and the last */
    int was_late;      /* a lead was in the way, lately: */
    int on_time;       /* so many were not, since then */

    /* the connection thread */
    apr_thread_cond_t *work; /* there is something to do for it */
    int is_waiting;    /* it waits for that */
    int has_run;       /* requests have, on any thread, since it last waited */
    apr_time_t paused_at; /* there were no more requests, last; 0: never */
    apr_interval_time_t pause; /* how long, when it was with the MPM last */
    int was_with_mpm;  /* it has given the connection to the MPM before */
};

/** Is the connection handed over: may any thread read and write? */
static APR_INLINE int h2x_drive_is_shared(const h2x_drive *drive)
{
    return drive->driver == H2X_DRIVER_THREADS
           || drive->driver == H2X_DRIVER_LEAD;
}

/** Is nothing more to be read and written? */
static APR_INLINE int h2x_drive_is_over(const h2x_drive *drive)
{
    return drive->gone || drive->c1->aborted
        || h2x_session_get_state(drive->session) == H2X_SESSION_CLOSED;
}

#endif /* H2X_CORE_H */
