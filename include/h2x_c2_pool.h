/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The pools of secondary connections, from which a request and all that
 * modules keep for it is allocated.
 *
 * A thread takes a pool before it runs requests, uses it for one after the
 * other, and gives it back. So there are about as many pools as threads that
 * run requests. Each keeps its free memory, as httpd's own connections do
 * (MaxMemFree); otherwise APR would map and unmap it for each request. Only a
 * request whose file is still to be sent keeps its pool until that is sent.
 */
#ifndef H2X_C2_POOL_H
#define H2X_C2_POOL_H

#include <apr_pools.h>
#include <apr_ring.h>

typedef struct h2x_c2_pool {
    APR_RING_ENTRY(h2x_c2_pool) link; /* among those that are not in use */
    apr_pool_t *pool; /* the thread's that took it; empty when given back */
    int is_counted;   /* it may keep MaxMemFree, at most 2 MB */
} h2x_c2_pool;

typedef struct h2x_c2_pools h2x_c2_pools;

/**
 * Prepares the pools of a child.
 * @param threads how many unused pools are kept; twice as many, in use or
 *                not, may keep MaxMemFree
 * @param on_wide called when more than one unused pool is kept, so that
 *                h2x_c2_pools_trim() is called soon; by any thread, which may
 *                hold a session's lock
 * @param p the child's pool
 */
apr_status_t h2x_c2_pools_create(h2x_c2_pools **pools, int threads,
                                 void (*on_wide)(void *baton), void *baton,
                                 apr_pool_t *p);

/**
 * Gets an empty pool. Any thread, which may hold a session's lock.
 * @return NULL when out of memory
 */
h2x_c2_pool *h2x_c2_pools_get(h2x_c2_pools *pools);

/** Gives back a pool that was cleared. Any thread, as above. */
void h2x_c2_pools_put(h2x_c2_pools *pools, h2x_c2_pool *c2_pool);

/**
 * Destroys the pools that were not used since the last call. Any thread, one
 * at a time; no lock held.
 * @return nonzero to call again, in some tenths of a second
 */
int h2x_c2_pools_trim(h2x_c2_pools *pools);

#endif /* H2X_C2_POOL_H */
