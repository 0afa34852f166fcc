/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <stdlib.h>

#include <apr_allocator.h>
#include <apr_thread_mutex.h>

#include <httpd.h>
#include <mpm_common.h>

#include "h2x_c2_pool.h"

/* Free memory, in bytes, that a pool keeps when FREE_MAX is not granted. */
#define FREE_MIN (32 * 1024)

/* The most free memory, in bytes, that a pool keeps; less if MaxMemFree is. */
#define FREE_MAX (2 * 1024 * 1024)

APR_RING_HEAD(c2_pool_ring, h2x_c2_pool);

struct h2x_c2_pools {
    apr_pool_t *pool;         /* parent of all */
    apr_thread_mutex_t *lock; /* for the parent and all fields below */
    struct c2_pool_ring unused; /* the most recently used one first */
    int count;     /* number of pools in `unused` */
    int least;     /* lowest `count` since h2x_c2_pools_trim() */
    int kept_max;  /* limit of `count` */
    int counted;   /* pools, in use or not, that may keep free_max() bytes */
    int is_wide;   /* on_wide() was called, and trimming is not complete */
    void (*on_wide)(void *baton);
    void *baton;
};

static apr_size_t free_max(void)
{
    return (ap_max_mem_free == APR_ALLOCATOR_MAX_FREE_UNLIMITED
            || ap_max_mem_free > FREE_MAX) ? FREE_MAX : ap_max_mem_free;
}

/*
 * Makes a pool with an allocator of its own. It has a parent, which our lock
 * guards, as APR-util searches for the topmost pool, to allocate there what
 * lives as long as the process.
 */
static h2x_c2_pool *make_locked(h2x_c2_pools *pools)
{
    h2x_c2_pool *made = malloc(sizeof(*made));
    apr_allocator_t *allocator;

    if (!made || apr_allocator_create(&allocator) != APR_SUCCESS) {
        free(made);
        return NULL;
    }
    if (apr_pool_create_ex(&made->pool, pools->pool, NULL, allocator)
        != APR_SUCCESS) {
        apr_allocator_destroy(allocator);
        free(made);
        return NULL;
    }
    apr_allocator_owner_set(allocator, made->pool);
    apr_pool_tag(made->pool, "h2x_c2");
    APR_RING_ELEM_INIT(made, link);
    made->is_counted = 0;
    return made;
}

/* Lets a pool keep free_max() bytes, unless 2 * kept_max pools do already. */
static void count_locked(h2x_c2_pools *pools, h2x_c2_pool *c2_pool)
{
    c2_pool->is_counted = (pools->counted < 2 * pools->kept_max);
    pools->counted += c2_pool->is_counted;
    apr_allocator_max_free_set(apr_pool_allocator_get(c2_pool->pool),
                               c2_pool->is_counted ? free_max() : FREE_MIN);
}

static void destroy_locked(h2x_c2_pools *pools, h2x_c2_pool *c2_pool)
{
    pools->counted -= c2_pool->is_counted;
    apr_pool_destroy(c2_pool->pool);
    free(c2_pool);
}

/* Removes a pool from those that are not in use. */
static h2x_c2_pool *take_locked(h2x_c2_pools *pools, h2x_c2_pool *c2_pool)
{
    APR_RING_REMOVE(c2_pool, link);
    if (--pools->count < pools->least) {
        pools->least = pools->count;
    }
    return c2_pool;
}

static h2x_c2_pool *take_last_locked(h2x_c2_pools *pools)
{
    return take_locked(pools, APR_RING_LAST(&pools->unused));
}

static apr_status_t destroy_all(void *baton)
{
    h2x_c2_pools *pools = baton;

    apr_thread_mutex_lock(pools->lock);
    while (pools->count) {
        destroy_locked(pools, take_last_locked(pools));
    }
    apr_thread_mutex_unlock(pools->lock);
    return APR_SUCCESS;
}

apr_status_t h2x_c2_pools_create(h2x_c2_pools **ppools, int threads,
                                 void (*on_wide)(void *baton), void *baton,
                                 apr_pool_t *p)
{
    h2x_c2_pools *pools = apr_pcalloc(p, sizeof(*pools));
    apr_status_t rv;

    pools->kept_max = threads;
    pools->on_wide = on_wide;
    pools->baton = baton;
    APR_RING_INIT(&pools->unused, h2x_c2_pool, link);
    apr_pool_create(&pools->pool, p);
    apr_pool_tag(pools->pool, "h2x_c2_pools");
    rv = apr_thread_mutex_create(&pools->lock, APR_THREAD_MUTEX_DEFAULT, p);
    if (rv == APR_SUCCESS) {
        apr_pool_pre_cleanup_register(p, pools, destroy_all);
        *ppools = pools;
    }
    return rv;
}

h2x_c2_pool *h2x_c2_pools_get(h2x_c2_pools *pools)
{
    h2x_c2_pool *c2_pool;

    apr_thread_mutex_lock(pools->lock);
    c2_pool = APR_RING_EMPTY(&pools->unused, h2x_c2_pool, link)
        ? make_locked(pools)
        : take_locked(pools, APR_RING_FIRST(&pools->unused));
    if (c2_pool && !c2_pool->is_counted) {
        count_locked(pools, c2_pool);
    }
    apr_thread_mutex_unlock(pools->lock);
    return c2_pool;
}

void h2x_c2_pools_put(h2x_c2_pools *pools, h2x_c2_pool *c2_pool)
{
    int has_widened;

    apr_thread_mutex_lock(pools->lock);
    if (pools->count >= pools->kept_max) {
        destroy_locked(pools, c2_pool);
    }
    else {
        APR_RING_INSERT_HEAD(&pools->unused, c2_pool, h2x_c2_pool, link);
        ++pools->count;
    }
    has_widened = (!pools->is_wide && pools->count > 1);
    pools->is_wide |= has_widened;
    apr_thread_mutex_unlock(pools->lock);
    if (has_widened) {
        pools->on_wide(pools->baton);
    }
}

int h2x_c2_pools_trim(h2x_c2_pools *pools)
{
    int is_wide, surplus;

    apr_thread_mutex_lock(pools->lock);
    for (surplus = pools->least; surplus > 0 && pools->count > 1; --surplus) {
        destroy_locked(pools, take_last_locked(pools));
        /* let waiting threads get a pool: destroying one takes time */
        apr_thread_mutex_unlock(pools->lock);
        apr_thread_mutex_lock(pools->lock);
    }
    pools->least = pools->count;
    is_wide = pools->is_wide = (pools->count > 1);
    apr_thread_mutex_unlock(pools->lock);
    return is_wide;
}
