/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The streams of a connection that wait for a thread: requests that are ready
 * to run, the most urgent first (RFC 9218), and those that are over and whose
 * request is to be ended. It counts those that run, and decides how many of
 * the ready ones may start. Pure; the session's lock held.
 */
#ifndef H2X_QUEUE_H
#define H2X_QUEUE_H

#include <apr_ring.h>

#include "h2x_stream.h"

APR_RING_HEAD(h2x_queue_ring, h2x_stream);

typedef struct h2x_queue {
    struct h2x_queue_ring ready; /* QUEUED */
    struct h2x_queue_ring ended; /* CLOSED */
    int ready_count;
    int ended_count;
    int running;     /* requests that run or end, on any thread */
    int running_max;
    int beside;      /* so many may go on beside the lead */
} h2x_queue;

/** Makes an empty one. @param running_max of requests at a time */
void h2x_queue_init(h2x_queue *queue, int running_max);

/** Adds a stream whose request is ready; behind those that are as urgent. */
void h2x_queue_add(h2x_queue *queue, h2x_stream *stream);

/** Finds the place of a ready stream anew: its priority has changed. */
void h2x_queue_move(h2x_queue *queue, h2x_stream *stream);

/** Takes a ready stream out, which is not to run any more. */
void h2x_queue_remove(h2x_queue *queue, h2x_stream *stream);

/** Adds a stream whose request is to be ended. */
void h2x_queue_add_ended(h2x_queue *queue, h2x_stream *stream);

/** How many of the requests that are ready may start. */
int h2x_queue_startable(const h2x_queue *queue);

/** Lets some of those go on beside the lead, if fewer may now. */
void h2x_queue_allow_beside(h2x_queue *queue, int count);

/**
 * Takes the next request that may start, which counts as running and becomes
 * RUNNING; NULL: there is none.
 */
h2x_stream *h2x_queue_pop(h2x_queue *queue);

/** Takes the next one to be ended, which counts as running. NULL: none. */
h2x_stream *h2x_queue_pop_ended(h2x_queue *queue);

#endif /* H2X_QUEUE_H */
