/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * Waits for descriptors: epoll, or kqueue where there is none. Several threads
 * may wait in one set; each event goes to one of them, once: to hear of a
 * descriptor again, it is asked for again. It knows only numbers; who asks
 * chooses them so that it notices events of what is no longer.
 */
#ifndef H2X_POLL_H
#define H2X_POLL_H

#include <apr_poll.h>
#include <apr_pools.h>

typedef struct h2x_poll h2x_poll;

/** Makes an empty set, which goes with the pool. */
apr_status_t h2x_poll_create(h2x_poll **poll, apr_pool_t *p);

/**
 * Asks for one event of a descriptor: when it is ready for any of those
 * given, or has failed. Replaces what was asked for before. Any thread.
 * @param events APR_POLLIN, APR_POLLOUT; 0 takes it back, but an event may be
 *        under way, and one of failure may follow
 * @param id     what h2x_poll_wait() returns for it; above 0
 */
apr_status_t h2x_poll_set(h2x_poll *poll, int fd, apr_int16_t events,
                          apr_uint32_t id);

/** Takes a descriptor out; it need not be in. Before it is closed. */
void h2x_poll_remove(h2x_poll *poll, int fd);

/**
 * Waits for an event. Of those that wait, the last that came gets it.
 * @param timeout in microseconds; 0 only looks, below that for ever
 * @return its id, or 0: none came in time, or h2x_poll_wake() was called
 */
apr_uint32_t h2x_poll_wait(h2x_poll *poll, apr_interval_time_t timeout);

/**
 * Has one thread that waits, or the next one that will, return. Any thread.
 */
void h2x_poll_wake(h2x_poll *poll);

#endif /* H2X_POLL_H */
