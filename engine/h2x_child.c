/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <apr_atomic.h>

#include <httpd.h>
#include <ap_mpm.h>

#include "h2x_child.h"
#include "h2x_clock.h"
#include "h2x_conf.h"
#include "h2x_thread.h"

/* Workers cost little, a page that waits much. */
#define WORKERS_PER_THREAD 4

/* How often memory is given back, in microseconds. */
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
    ap_mpm_query(AP_MPMQ_MAX_THREADS, &child->threads);
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

/* ---- the memory of streams and requests ---- */

/* Much is kept: it is trimmed until it is not. Any thread. */
static void on_wide(void *baton)
{
    h2x_child *child = baton;

    h2x_watch_deadline(child->watch, &child->trim_time,
                       h2x_clock_now() + TRIM_EVERY);
}

/* The watch has no time for that, as others wait for it: a worker does it. */
static void on_trim_time(void *baton)
{
    h2x_child *child = baton;

    h2x_workers_offer(child->workers, &child->trimming);
}

static void trim(void *baton, apr_thread_t *thread, int number)
{
    h2x_child *child = baton;
    int is_wide = h2x_c2_pools_trim(child->c2_pools);

    (void)thread;
    (void)number;
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
    int min, max, i;
    apr_status_t rv = APR_SUCCESS;

    query_mpm(child);
    child->processors = (apr_uint32_t)h2x_thread_processors();
    h2x_child_count_workers(s, &min, &max);
    for (i = 0; i < H2X_CHILD_STORES && rv == APR_SUCCESS; ++i) {
        rv = h2x_stream_store_create(&child->stores[i], on_wide, child, p);
    }
    if (rv == APR_SUCCESS) {
        rv = h2x_c2_pools_create(&child->c2_pools, child->threads, on_wide,
                                 child, p);
    }
    if (rv == APR_SUCCESS) {
        /* that many connections may have a request that runs */
        rv = h2x_workers_create(&child->workers, min, max, child->threads,
                                h2x_conf_get(s, H2X_MAX_WORKER_IDLE), p);
    }
    if (rv == APR_SUCCESS) {
        rv = h2x_watch_create(&child->watch,
                              (apr_uint32_t)child->threads + 16, p);
    }
    if (rv == APR_SUCCESS) {
        child->trimming.run = trim;
        child->trim_time.on_deadline = on_trim_time;
        child->trimming.baton = child->trim_time.baton = child;
        h2x_watch_add(child->watch, &child->trim_time, NULL, p);
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
        h2x_watch_poke(h2x_child_self->watch);
    }
}

h2x_child_stop h2x_child_is_stopping(void)
{
    return apr_atomic_read32(&h2x_child_self->stopping);
}

int h2x_child_worker_slot(int number)
{
    int slot = h2x_child_self->threads + number;

    return slot < h2x_child_self->thread_limit ? slot : -1;
}
