/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * What the connections of a child process share, and what it knows of its
 * MPM.
 */
#ifndef H2X_CHILD_H
#define H2X_CHILD_H

#include <httpd.h>

#include "h2x_c2_pool.h"
#include "h2x_stream.h"
#include "h2x_threads.h"

/** Connections use different stores, so as not to wait for each other. */
#define H2X_CHILD_STORES 4

/** How the child is stopping, if it is. */
typedef enum {
    H2X_STOP_NOT,
    H2X_STOP_GRACEFUL,
    H2X_STOP_NOW
} h2x_child_stop;

typedef struct h2x_child {
    h2x_threads *threads;
    h2x_stream_store *stores[H2X_CHILD_STORES];
    h2x_c2_pools *c2_pools;
    h2x_entry trimming; /* of stores and pools */
    int keeps_idle;     /* the MPM keeps idle connections without a thread, */
    int waits_for_io;   /* and others too */
    int mpm_threads;    /* ThreadsPerChild */
    int thread_limit;   /* slots of a child in the scoreboard */
    apr_uint32_t stopping; /* an h2x_child_stop; atomic */
    apr_uint32_t driving;  /* connection threads with a connection; atomic */
    apr_uint32_t computing; /* requests that run, and have not said that they
                             * wait; atomic */
    apr_uint32_t processors;
    int descriptors;       /* that it may have */
    apr_uint32_t with_files; /* connections that keep files open; atomic */
} h2x_child;

/**
 * The child that this is. NULL before h2x_child_init() has succeeded, and
 * after the child's pool is gone. Any thread. Connections need not check: there
 * are none before, and event and worker join all their threads first. Only
 * with -X are connections closed after that, by h2x_drive_close().
 */
extern h2x_child *h2x_child_self;

/** Sets up the child; from the child_init hook. */
apr_status_t h2x_child_init(apr_pool_t *p, server_rec *s);

/** Notes that the child stops, tells connections; the child_stopping hook. */
void h2x_child_stopping(int graceful);

/** Tells whether and how the child stops. Any thread. */
h2x_child_stop h2x_child_is_stopping(void);

/**
 * The place of one of our threads in the scoreboard. A child has ThreadLimit
 * slots, of which the MPM uses ThreadsPerChild; ours show in the others.
 * @return -1 when those are all taken
 */
int h2x_child_slot(int number);

/** How many of our threads there are, H2MinWorkers and H2MaxWorkers. */
void h2x_child_count_workers(server_rec *s, int *min, int *max);

#endif /* H2X_CHILD_H */
