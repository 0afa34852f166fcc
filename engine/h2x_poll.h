/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * Waits for events of descriptors, with epoll or kqueue. Several threads may
 * wait in one set. An event is delivered to one of them, once; h2x_poll_set()
 * has to be called again for the next one. Events carry an id of the caller's
 * choice. Ids of descriptors that were removed must not be used again soon, as
 * an event may be under way.
 */
#ifndef H2X_POLL_H
#define H2X_POLL_H

#include <apr_poll.h>
#include <apr_pools.h>

typedef struct h2x_poll h2x_poll;

/** Creates an empty set, which is closed with the pool. */
apr_status_t h2x_poll_create(h2x_poll **poll, apr_pool_t *p);

/**
 * Enables one event of a descriptor: ready for any of `events`, or an error.
 * Replaces what was enabled before. Any thread.
 * @param events APR_POLLIN, APR_POLLOUT; 0 disables them, but an event may be
 *        under way, and an error may still be reported
 * @param id     what h2x_poll_wait() returns for it; above 0
 * @return an errno if the system refuses
 */
apr_status_t h2x_poll_set(h2x_poll *poll, int fd, apr_int16_t events,
                          apr_uint32_t id);

/**
 * Removes a descriptor from the set, if it is in. To be called before it is
 * closed. Any thread.
 */
void h2x_poll_remove(h2x_poll *poll, int fd);

/**
 * Waits for an event. If several threads wait, the last one to call gets it.
 * @param timeout in microseconds; 0: does not wait; negative: no limit
 * @return the id of the event; 0 at the timeout and after h2x_poll_wake()
 */
apr_uint32_t h2x_poll_wait(h2x_poll *poll, apr_interval_time_t timeout);

/**
 * Makes h2x_poll_wait() return in one thread: one that waits, else the next one
 * that calls it. Any thread.
 */
void h2x_poll_wake(h2x_poll *poll);

#endif /* H2X_POLL_H */
