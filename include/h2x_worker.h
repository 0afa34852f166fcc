/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The workers: the threads of a child that run requests while the thread of
 * their connection is busy. They take work from sources (one a connection, and
 * one that gives memory back) in turn, one piece each, and from those first
 * for which nobody works yet. A piece may take minutes: if all are at work,
 * such a source gets one more, so that a few connections cannot keep all from
 * the others.
 *
 * Why not apr_thread_pool: it starts a thread only when none is idle, and
 * counts as idle a thread that was woken for the task before. The second of
 * two tasks then waits until the first is done, which may take minutes, and
 * that is what this module exists to prevent. It also serves its tasks in one
 * row, in which a connection with a hundred requests bars the others.
 */
#ifndef H2X_WORKER_H
#define H2X_WORKER_H

#include <apr_pools.h>
#include <apr_ring.h>
#include <apr_thread_proc.h>

typedef struct h2x_workers h2x_workers;

/** One that has work for workers. To be zeroed, but for what run() needs. */
typedef struct h2x_worker_source {
    APR_RING_ENTRY(h2x_worker_source) link; /* in a row of those waiting */
    /**
     * Works for a moment, if there is still anything to do.
     * @param number of the worker, from 0; none of those at work share one
     */
    void (*run)(void *baton, apr_thread_t *thread, int number);
    void *baton;
    int offers;  /* pieces of work that no worker took yet */
    int inside;  /* workers within run() */
} h2x_worker_source;

/**
 * Prepares the workers of this child; threads start when there is work.
 * @param min  threads that are kept
 * @param max  threads that there may be, at least 1
 * @param spare how many more, for sources for which nobody works
 * @param idle time after which an idle thread ends, in microseconds
 * @param p    the child's pool
 */
apr_status_t h2x_workers_create(h2x_workers **workers, int min, int max,
                                int spare, apr_interval_time_t idle,
                                apr_pool_t *p);

/** Ends the workers once they have done what they are at. */
void h2x_workers_stop(h2x_workers *workers);

/**
 * Offers one piece of work: some worker calls source->run() soon.
 * Any thread, which may hold the lock of the source.
 */
void h2x_workers_offer(h2x_workers *workers, h2x_worker_source *source);

/**
 * Tries again to start a thread, if that has failed for what was offered. Any
 * thread, as above.
 */
void h2x_workers_retry(h2x_workers *workers);

/**
 * Takes back what was offered and not begun. Any thread, as above.
 * @return how many pieces of work that were
 */
int h2x_workers_withdraw(h2x_workers *workers, h2x_worker_source *source);

/** Takes back what was offered and waits until no worker is inside. */
void h2x_workers_forget(h2x_workers *workers, h2x_worker_source *source);

#endif /* H2X_WORKER_H */
