/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * A stream's request as httpd knows it: a secondary connection (c2) with one
 * request_rec, which is run, and ended when all that is left to be sent is the
 * stream's own: mostly at once, see own_output() in h2x_runner.c.
 */
#ifndef H2X_REQUEST_H
#define H2X_REQUEST_H

#include <httpd.h>
#include <scoreboard.h>

#include "h2x_stream.h"

/**
 * The thread that runs or ends requests, its place in server-status, and the
 * pool for the next request that it runs.
 */
typedef struct h2x_runner {
    apr_thread_t *thread;
    ap_sb_handle_t *sbh;
    h2x_c2_pool *c2_pool; /* empty; NULL: to be got */
} h2x_runner;

/** What the log says of a stream (mod_logio, %X). */
typedef struct h2x_request_sum {
    apr_off_t bytes_in;  /* of frames that came */
    apr_off_t bytes_out; /* of frames that were sent, or are still to be */
    int is_aborted;      /* the client has not got all of it, nor will it */
} h2x_request_sum;

/** Gets hold of what is needed in each child; from the child_init hook. */
apr_status_t h2x_request_child_init(apr_pool_t *p);

/**
 * Runs the request of a stream: all of httpd's phases but logging. Blocks as
 * long as the handler does. The stream has the runner's pool from then on,
 * until the request was ended. The runner; no lock held.
 */
void h2x_request_run(h2x_stream *stream, conn_rec *c1, h2x_runner *runner);

/** Sets the variables of a request that has been mapped: the fixups hook. */
void h2x_request_fixup(request_rec *r);

/**
 * Does what the configuration says of the directory that a request was mapped
 * to: notes its values for the stream, unless it is a subrequest, and
 * announces what it names, see h2x_announce.h. The first of the handler hooks.
 */
void h2x_request_before_handler(request_rec *r);

/**
 * Counts a request that was logged for mod_status, in place of httpd, which
 * asks for the processor times of the child each time: a system call that
 * looks at all of its threads. Ten times a second is enough. The last of the
 * log_transaction hooks.
 */
void h2x_request_count(request_rec *r);

/**
 * Ends a request: logs it and frees all that was its and its secondary
 * connection's. May block, on a slow log. Any thread, when nobody runs the
 * stream and no file or memory of the request is still to be sent; no lock
 * held. The stream has its pool no longer, which is empty then: the caller's.
 */
void h2x_request_end(h2x_stream *stream, const h2x_request_sum *sum,
                     const h2x_runner *runner);

/**
 * Tells whether the handler that is about to run may wait for something. The
 * core's own serving of files does not, nor do some of httpd's modules.
 */
int h2x_request_may_wait(const request_rec *r);

/**
 * Gives a descriptor that is readable when a secondary connection has input.
 * The runner. See h2x_tunnel.h.
 */
apr_status_t h2x_request_pollfd(const conn_rec *c2, apr_pollfd_t *pfd,
                                apr_interval_time_t *timeout);

/**
 * Looks up a variable of a request, by the names that mod_http2 gave them.
 * @param r the request as it is mapped, or NULL
 * @return made from the pool; NULL when it has no value
 */
const char *h2x_request_variable(apr_pool_t *p, const conn_rec *c2,
                                 const request_rec *r, const char *name);

#endif /* H2X_REQUEST_H */
