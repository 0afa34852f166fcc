/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <limits.h>
#include <sys/resource.h>

#include <apr_atomic.h>

#include <httpd.h>
#include <ap_mpm.h>

#include "h2x_child.h"
#include "h2x_clock.h"
#include "h2x_conf.h"
#include "h2x_thread.h"

/* The default of H2MaxWorkers, per thread of ThreadsPerChild: most of them wait
 * in requests. */
#define WORKERS_PER_THREAD 4

/* The interval at which memory is given back, in microseconds. */
#define TRIM_EVERY (200 * 1000)

h2x_child *h2x_child_self;

void h2x_child_count_workers(server_rec *s, int *min, int *max)
{
    int threads = 1;

    ap_mpm_query(AP_MPMQ_MAX_THREADS, &threads);
    *min = (int)h2x_conf_get(s, H2X_MIN_WORKERS);
    *max = (int)h2x_conf_get(s, H2X_MAX_WORKERS);
    *min = *min > 0 ? *min : 0;
    if (*max < 0) {
        *max = WORKERS_PER_THREAD * threads;
    }
    if (*max < *min) {
        *max = *min;
    }
}

static void query_mpm(h2x_child *child)
{
    ap_mpm_query(AP_MPMQ_MAX_THREADS, &child->mpm_threads);
    ap_mpm_query(AP_MPMQ_HARD_LIMIT_THREADS, &child->thread_limit);
    if (ap_mpm_query(AP_MPMQ_IS_ASYNC, &child->keeps_idle) != APR_SUCCESS) {
        child->keeps_idle = 0;
    }
#ifdef AP_MPMQ_CAN_WAITIO
    if (!child->keeps_idle
        || ap_mpm_query(AP_MPMQ_CAN_WAITIO, &child->waits_for_io)
               != APR_SUCCESS) {
        child->waits_for_io = 0;
    }
#endif
}

static int count_descriptors(void)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < INT_MAX
           ? (int)limit.rlim_cur : INT_MAX;
}

/* ---- the memory of streams and requests ---- */

/* A store or the pools keep more than they need: trims them, until they do not.
 * Any thread. */
static void on_wide(void *baton)
{
    h2x_child *child = baton;

    h2x_threads_deadline(child->threads, &child->trimming,
                         h2x_clock_now() + TRIM_EVERY);
}

static void on_trim_time(void *baton)
{
    h2x_child *child = baton;
    int is_wide = h2x_c2_pools_trim(child->c2_pools);

    if (h2x_stream_trim(child->stores, H2X_CHILD_STORES) || is_wide) {
        on_wide(child);
    }
}

static apr_status_t forget_self(void *baton)
{
    (void)baton;
    h2x_child_self = NULL;
    return APR_SUCCESS;
}

apr_status_t h2x_child_init(apr_pool_t *p, server_rec *s)
{
    h2x_child *child = apr_pcalloc(p, sizeof(*child));
    h2x_threads_limits limits;
    int i;
    apr_status_t rv = APR_SUCCESS;

    query_mpm(child);
    limits.processors = h2x_thread_processors();
    limits.spare = child->mpm_threads; /* as many connections may have a request
                                        * running on their own thread */
    limits.idle = h2x_conf_get(s, H2X_MAX_WORKER_IDLE);
    h2x_child_count_workers(s, &limits.min, &limits.max);
    child->processors = (apr_uint32_t)limits.processors;
    child->descriptors = count_descriptors();
    for (i = 0; i < H2X_CHILD_STORES && rv == APR_SUCCESS; ++i) {
        rv = h2x_stream_store_create(&child->stores[i], on_wide, child, p);
    }
    if (rv == APR_SUCCESS) {
        rv = h2x_c2_pools_create(&child->c2_pools, child->mpm_threads, on_wide,
                                 child, p);
    }
    if (rv == APR_SUCCESS) {
        rv = h2x_threads_create(&child->threads, &limits, p);
    }
    if (rv == APR_SUCCESS) {
        child->trimming.on_deadline = on_trim_time;
        child->trimming.baton = child;
        h2x_threads_add(child->threads, &child->trimming, NULL);
        apr_pool_cleanup_register(p, child, forget_self,
                                  apr_pool_cleanup_null);
        h2x_child_self = child;
    }
    return rv;
}

void h2x_child_stopping(int graceful)
{
    if (h2x_child_self) {
        apr_atomic_set32(&h2x_child_self->stopping,
                         graceful ? H2X_STOP_GRACEFUL : H2X_STOP_NOW);
        h2x_threads_poke(h2x_child_self->threads);
    }
}

h2x_child_stop h2x_child_is_stopping(void)
{
    return apr_atomic_read32(&h2x_child_self->stopping);
}

int h2x_child_slot(int number)
{
    int slot = h2x_child_self->mpm_threads + number;

    return slot < h2x_child_self->thread_limit ? slot : -1;
}
