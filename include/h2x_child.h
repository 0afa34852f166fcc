/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * What the connections of a child process share, and the abilities of its MPM.
 */
#ifndef H2X_CHILD_H
#define H2X_CHILD_H

#include <httpd.h>

#include "h2x_c2_pool.h"
#include "h2x_stream.h"
#include "h2x_threads.h"

/** Connections are spread over several stores to reduce contention. */
#define H2X_CHILD_STORES 4

/** Whether and how the child is stopping. */
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
    int keeps_idle;     /* the MPM keeps idle connections without a thread */
    int waits_for_io;   /* it does so too for those that have streams */
    int mpm_threads;    /* ThreadsPerChild */
    int thread_limit;   /* slots of a child in the scoreboard */
    apr_uint32_t stopping; /* an h2x_child_stop; atomic */
    apr_uint32_t driving;  /* threads within h2x_drive_run(); atomic */
    apr_uint32_t computing; /* requests that run and are not known to wait;
                             * atomic */
    apr_uint32_t processors;
    int descriptors;       /* RLIMIT_NOFILE */
    apr_uint32_t with_files; /* connections that keep files open; atomic */
} h2x_child;

/**
 * This child process. NULL before h2x_child_init() has succeeded and after the
 * child's pool was destroyed. Any thread. Functions of a connection need not
 * check it: there are none before, and event and worker join all their threads
 * before the pool is destroyed. Only httpd -X closes connections after that,
 * which h2x_drive_close() checks for.
 */
extern h2x_child *h2x_child_self;

/** Sets up the child; from the child_init hook. */
apr_status_t h2x_child_init(apr_pool_t *p, server_rec *s);

/** Notes that the child stops, and notifies connections; from the
 * child_stopping hook. */
void h2x_child_stopping(int graceful);

/** Returns whether and how the child is stopping. Any thread. */
h2x_child_stop h2x_child_is_stopping(void);

/**
 * Returns the scoreboard slot of one of the module's threads. A child has
 * ThreadLimit slots, of which the MPM uses the first ThreadsPerChild.
 * @param number of the thread, from 0
 * @return -1 if ThreadLimit leaves no slot for it
 */
int h2x_child_slot(int number);

/** Computes the effective H2MinWorkers and H2MaxWorkers. */
void h2x_child_count_workers(server_rec *s, int *min, int *max);

#endif /* H2X_CHILD_H */
