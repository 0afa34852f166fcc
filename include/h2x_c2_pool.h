/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The pools of secondary connections, from which a request and all that
 * modules keep for it is allocated.
 *
 * A thread takes one before it runs requests, uses it for one after the other
 * and gives it back. So there are about as many as threads that run requests,
 * and each keeps the memory that requests need, as httpd's own connections do
 * (MaxMemFree): APR would otherwise map and unmap it each time. Only a request
 * whose file is still to be sent keeps its pool until then.
 */
#ifndef H2X_C2_POOL_H
#define H2X_C2_POOL_H

#include <apr_pools.h>
#include <apr_ring.h>

typedef struct h2x_c2_pool {
    APR_RING_ENTRY(h2x_c2_pool) link; /* among those that are not in use */
    apr_pool_t *pool; /* of the thread that took it: empty when given back */
    int is_counted;   /* it may keep as much as MaxMemFree says */
} h2x_c2_pool;

typedef struct h2x_c2_pools h2x_c2_pools;

/**
 * Prepares the pools of a child.
 * @param threads how many are kept, and how many may keep much memory: twice
 *                as many
 * @param on_wide called when more are kept than one, to be trimmed soon; by
 *                any thread, which may hold a session's lock
 * @param p the child's pool
 */
apr_status_t h2x_c2_pools_create(h2x_c2_pools **pools, int threads,
                                 void (*on_wide)(void *baton), void *baton,
                                 apr_pool_t *p);

/**
 * Gets an empty pool. Any thread, which may hold a session's lock.
 * @return NULL when there is no memory
 */
h2x_c2_pool *h2x_c2_pools_get(h2x_c2_pools *pools);

/** Gives back a pool that was cleared. Any thread, as above. */
void h2x_c2_pools_put(h2x_c2_pools *pools, h2x_c2_pool *c2_pool);

/**
 * Destroys those that nobody needed since this was called last. Any thread,
 * one at a time, without a lock.
 * @return whether to call again, in some tenths of a second
 */
int h2x_c2_pools_trim(h2x_c2_pools *pools);

#endif /* H2X_C2_POOL_H */
