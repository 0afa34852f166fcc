/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * Runs a stream's request in httpd: on a secondary connection (c2) with one
 * request_rec. The request is ended when the output that is left does not use
 * its memory or files; mostly at once, see own_output() in h2x_runner.c.
 */
#ifndef H2X_REQUEST_H
#define H2X_REQUEST_H

#include <httpd.h>
#include <scoreboard.h>

#include "h2x_stream.h"

/**
 * A thread that runs or ends requests, its scoreboard slot, and the pool for
 * the next request that it runs.
 */
typedef struct h2x_runner {
    apr_thread_t *thread;
    ap_sb_handle_t *sbh;
    h2x_c2_pool *c2_pool; /* empty; NULL: to be got from h2x_c2_pools_get() */
} h2x_runner;

/** What the access log has of a stream (mod_logio, %X). */
typedef struct h2x_request_sum {
    apr_off_t bytes_in;  /* of frames received */
    apr_off_t bytes_out; /* of frames that were or will be sent */
    int is_aborted;      /* the response is not sent completely */
} h2x_request_sum;

/** Initializes requests in a child; from the child_init hook. */
apr_status_t h2x_request_child_init(apr_pool_t *p);

/**
 * Runs the request of a stream: all of httpd's phases but logging. Blocks as
 * long as the handler does. Moves the runner's pool to the stream, until
 * h2x_request_end(). The runner; no lock held.
 */
void h2x_request_run(h2x_stream *stream, conn_rec *c1, h2x_runner *runner);

/** Sets the variables of a request that has been mapped: the fixups hook. */
void h2x_request_fixup(request_rec *r);

/**
 * Applies the configuration of the directory that a request was mapped to:
 * copies its values to the stream, unless this is a subrequest, and announces
 * its resources, see h2x_announce.h. The first handler hook.
 */
void h2x_request_before_handler(request_rec *r);

/**
 * Counts a request for mod_status, in place of httpd. httpd would get the
 * child's processor times each time, by a system call that reads those of all
 * threads; with this, it does so ten times a second. The last log_transaction
 * hook.
 */
void h2x_request_count(request_rec *r);

/**
 * Ends a request: logs it and frees it and its secondary connection. May block
 * on a slow log. Any thread, when no thread runs the stream and no file or
 * memory of the request is still to be sent; no lock held. The stream's pool is
 * empty then, and the caller's.
 */
void h2x_request_end(h2x_stream *stream, const h2x_request_sum *sum,
                     const h2x_runner *runner);

/**
 * Returns nonzero if the handler of a request may wait, as for a backend or a
 * script. The core's default handler does not, nor do some of httpd's modules.
 */
int h2x_request_may_wait(const request_rec *r);

/**
 * Gets a descriptor that is readable when a secondary connection has input, see
 * h2x_tunnel_pollfd(). The runner.
 */
apr_status_t h2x_request_pollfd(const conn_rec *c2, apr_pollfd_t *pfd,
                                apr_interval_time_t *timeout);

/**
 * Returns a variable of a request, by its name in mod_http2.
 * @param r for the configuration of its directory; may be NULL
 * @return from the pool; NULL: there is no such variable
 */
const char *h2x_request_variable(apr_pool_t *p, const conn_rec *c2,
                                 const request_rec *r, const char *name);

#endif /* H2X_REQUEST_H */
