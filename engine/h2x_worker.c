/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <apr_atomic.h>
#include <apr_thread_cond.h>
#include <apr_thread_mutex.h>

#include <httpd.h>
#include <http_log.h>
#include <http_main.h>

#include "h2x.h"
#include "h2x_clock.h"
#include "h2x_worker.h"

APR_RING_HEAD(source_ring, h2x_worker_source);

typedef struct worker {
    APR_RING_ENTRY(worker) link; /* among those unused, or those asleep */
    h2x_workers *workers;
    apr_thread_cond_t *wake; /* is_asleep has become 0 */
    int is_asleep;        /* among those: wake_last_locked() takes it out */
    apr_pool_t *pool;     /* holds the thread; NULL: no thread */
    apr_thread_t *thread;
    int number;
} worker;

APR_RING_HEAD(worker_ring, worker);

struct h2x_workers {
    apr_pool_t *pool;
    apr_thread_mutex_t *lock;  /* for all below */
    apr_thread_cond_t *left;   /* a worker left run(), or ended */
    struct source_ring first;  /* those with offers and nobody inside */
    struct source_ring others; /* those with offers and somebody inside */
    struct worker_ring unused;  /* never started, or ended */
    struct worker_ring asleep;  /* those that wait for work: the last that
                                 * came is woken first, so that those beyond
                                 * what is needed sleep for long, and end */
    apr_interval_time_t idle_time;
    int min;
    int max;
    int spare;    /* beyond that, for sources with nobody inside */
    int made;     /* worker structs that exist */
    int started;  /* threads that run */
    int idle;     /* threads that wait for work, or were just woken */
    int busy;     /* threads within run() */
    int offers;   /* of all sources */
    apr_uint32_t cannot_start; /* the last try failed, which was logged;
                                * atomic */
    int stopping;
};

static void enqueue_locked(h2x_workers *workers, h2x_worker_source *source)
{
    struct source_ring *ring = source->inside ? &workers->others
                                              : &workers->first;

    APR_RING_ELEM_INIT(source, link);
    APR_RING_INSERT_TAIL(ring, source, h2x_worker_source, link);
}

/* Whose turn is it? NULL: nobody's. */
static h2x_worker_source *next_locked(const h2x_workers *workers)
{
    if (!APR_RING_EMPTY(&workers->first, h2x_worker_source, link)) {
        return APR_RING_FIRST(&workers->first);
    }
    if (workers->busy < workers->max
        && !APR_RING_EMPTY(&workers->others, h2x_worker_source, link)) {
        return APR_RING_FIRST(&workers->others);
    }
    return NULL;
}

static void start_spare_locked(h2x_workers *workers);

/* Takes the next piece of work: its source goes to the end. */
static h2x_worker_source *take_locked(h2x_workers *workers)
{
    h2x_worker_source *source = next_locked(workers);

    if (source) {
        APR_RING_REMOVE(source, link);
        --workers->offers;
        --source->offers;
        ++source->inside;
        ++workers->busy;
        if (source->offers) {
            enqueue_locked(workers, source);
        }
        start_spare_locked(workers);
    }
    return source;
}

static void leave_locked(h2x_workers *workers, h2x_worker_source *source)
{
    --workers->busy;
    if (--source->inside == 0 && source->offers) {
        APR_RING_REMOVE(source, link);
        enqueue_locked(workers, source);
    }
    apr_thread_cond_broadcast(workers->left);
}

static void wake_last_locked(h2x_workers *workers)
{
    if (!APR_RING_EMPTY(&workers->asleep, worker, link)) {
        worker *last = APR_RING_FIRST(&workers->asleep);

        APR_RING_REMOVE(last, link);
        last->is_asleep = 0;
        apr_thread_cond_signal(last->wake);
    }
}

/* Sleeps until woken. Returns an error if it was not for idle_time. */
static apr_status_t sleep_locked(worker *me)
{
    h2x_workers *workers = me->workers;
    apr_time_t end = h2x_clock_now() + workers->idle_time;
    apr_status_t rv = APR_SUCCESS;

    APR_RING_INSERT_HEAD(&workers->asleep, me, worker, link);
    me->is_asleep = 1;
    while (me->is_asleep && rv == APR_SUCCESS) {
        apr_interval_time_t left = end - h2x_clock_now();

        if (workers->started <= workers->min) {
            rv = apr_thread_cond_wait(me->wake, workers->lock);
        }
        else {
            rv = (left > 0) ? apr_thread_cond_timedwait(me->wake,
                                                        workers->lock, left)
                            : APR_TIMEUP;
        }
    }
    if (me->is_asleep) {
        APR_RING_REMOVE(me, link);
        me->is_asleep = 0;
        return rv;
    }
    return APR_SUCCESS;
}

/* Waits for work. Returns 0 when this thread should end. */
static int wait_locked(worker *me)
{
    h2x_workers *workers = me->workers;
    apr_status_t rv = APR_SUCCESS;

    ++workers->idle;
    while (!next_locked(workers) && !workers->stopping
           && (rv == APR_SUCCESS || workers->started <= workers->min)) {
        rv = sleep_locked(me);
    }
    --workers->idle;
    return next_locked(workers) && !workers->stopping;
}

static void *APR_THREAD_FUNC run(apr_thread_t *thread, void *baton)
{
    worker *me = baton;
    h2x_workers *workers = me->workers;
    h2x_worker_source *source;

    apr_thread_mutex_lock(workers->lock);
    do {
        while (!workers->stopping && (source = take_locked(workers))) {
            apr_thread_mutex_unlock(workers->lock);
            source->run(source->baton, thread, me->number);
            apr_thread_mutex_lock(workers->lock);
            leave_locked(workers, source);
        }
    } while (wait_locked(me));
    --workers->started;
    APR_RING_INSERT_HEAD(&workers->unused, me, worker, link);
    apr_thread_cond_broadcast(workers->left);
    apr_thread_mutex_unlock(workers->lock);
    return NULL;
}

/* Frees the thread of a worker that has ended. */
static void join(worker *ended)
{
    apr_status_t ignored;

    if (ended->pool) {
        apr_thread_join(&ignored, ended->thread);
        apr_pool_destroy(ended->pool);
        ended->pool = NULL;
    }
}

static worker *unused_locked(h2x_workers *workers)
{
    worker *me;

    if (!APR_RING_EMPTY(&workers->unused, worker, link)) {
        me = APR_RING_FIRST(&workers->unused);
        APR_RING_REMOVE(me, link);
        join(me);
        return me;
    }
    me = apr_pcalloc(workers->pool, sizeof(*me));
    APR_RING_ELEM_INIT(me, link);
    me->workers = workers;
    me->number = workers->made++;
    return me;
}

static void start_locked(h2x_workers *workers)
{
    worker *me = unused_locked(workers);
    apr_status_t rv;

    apr_pool_create(&me->pool, workers->pool);
    apr_pool_tag(me->pool, "h2x_worker");
    rv = apr_thread_cond_create(&me->wake, me->pool);
    if (rv == APR_SUCCESS) {
        rv = ap_thread_create(&me->thread, NULL, run, me, me->pool);
    }
    if (rv == APR_SUCCESS) {
        ++workers->started;
        apr_atomic_set32(&workers->cannot_start, 0);
        return;
    }
    apr_pool_destroy(me->pool);
    me->pool = NULL;
    APR_RING_INSERT_HEAD(&workers->unused, me, worker, link);
    if (!apr_atomic_xchg32(&workers->cannot_start, 1)) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, ap_server_conf,
                     "h2x: cannot start a worker thread, %d are running",
                     workers->started);
    }
}

/* Starts one more thread for a source that has none, when all are at work. */
static void start_spare_locked(h2x_workers *workers)
{
    if (!APR_RING_EMPTY(&workers->first, h2x_worker_source, link)
        && workers->started == workers->busy && !workers->stopping
        && workers->started < workers->max + workers->spare) {
        start_locked(workers);
    }
}

/* Starts a thread, if there is more to do than those idle will. They may all
 * have been woken for earlier offers. */
static void start_if_needed_locked(h2x_workers *workers)
{
    if (workers->offers > workers->idle && workers->started < workers->max
        && !workers->stopping) {
        start_locked(workers);
    }
    else {
        start_spare_locked(workers);
    }
}

static apr_status_t stop_on_cleanup(void *baton)
{
    h2x_workers_stop(baton);
    return APR_SUCCESS;
}

apr_status_t h2x_workers_create(h2x_workers **pworkers, int min, int max,
                                int spare, apr_interval_time_t idle,
                                apr_pool_t *p)
{
    h2x_workers *workers = apr_pcalloc(p, sizeof(*workers));
    apr_status_t rv;

    apr_pool_create(&workers->pool, p);
    apr_pool_tag(workers->pool, "h2x_workers");
    APR_RING_INIT(&workers->first, h2x_worker_source, link);
    APR_RING_INIT(&workers->others, h2x_worker_source, link);
    APR_RING_INIT(&workers->unused, worker, link);
    APR_RING_INIT(&workers->asleep, worker, link);
    workers->min = min;
    workers->max = max;
    workers->spare = spare;
    workers->idle_time = idle;
    /* what is used after the end is the child's: it goes last */
    rv = apr_thread_mutex_create(&workers->lock, APR_THREAD_MUTEX_DEFAULT, p);
    if (rv == APR_SUCCESS) {
        rv = apr_thread_cond_create(&workers->left, p);
    }
    if (rv == APR_SUCCESS) {
        apr_pool_pre_cleanup_register(p, workers, stop_on_cleanup);
        *pworkers = workers;
    }
    return rv;
}

void h2x_workers_stop(h2x_workers *workers)
{
    apr_thread_mutex_lock(workers->lock);
    workers->stopping = 1;
    while (!APR_RING_EMPTY(&workers->asleep, worker, link)) {
        wake_last_locked(workers);
    }
    while (workers->started) {
        apr_thread_cond_wait(workers->left, workers->lock);
    }
    while (!APR_RING_EMPTY(&workers->unused, worker, link)) {
        worker *ended = APR_RING_FIRST(&workers->unused);

        APR_RING_REMOVE(ended, link);
        apr_thread_mutex_unlock(workers->lock);
        join(ended);
        apr_thread_mutex_lock(workers->lock);
    }
    apr_thread_mutex_unlock(workers->lock);
}

void h2x_workers_offer(h2x_workers *workers, h2x_worker_source *source)
{
    apr_thread_mutex_lock(workers->lock);
    if (source->offers++ == 0) {
        enqueue_locked(workers, source);
    }
    ++workers->offers;
    start_if_needed_locked(workers);
    wake_last_locked(workers);
    apr_thread_mutex_unlock(workers->lock);
}

void h2x_workers_retry(h2x_workers *workers)
{
    if (apr_atomic_read32(&workers->cannot_start)) {
        apr_thread_mutex_lock(workers->lock);
        start_if_needed_locked(workers);
        apr_thread_mutex_unlock(workers->lock);
    }
}

static int withdraw_locked(h2x_workers *workers, h2x_worker_source *source)
{
    int offers = source->offers;

    if (offers) {
        workers->offers -= offers;
        source->offers = 0;
        APR_RING_REMOVE(source, link);
    }
    return offers;
}

int h2x_workers_withdraw(h2x_workers *workers, h2x_worker_source *source)
{
    int offers;

    apr_thread_mutex_lock(workers->lock);
    offers = withdraw_locked(workers, source);
    apr_thread_mutex_unlock(workers->lock);
    return offers;
}

void h2x_workers_forget(h2x_workers *workers, h2x_worker_source *source)
{
    apr_thread_mutex_lock(workers->lock);
    withdraw_locked(workers, source);
    while (source->inside) {
        apr_thread_cond_wait(workers->left, workers->lock);
    }
    apr_thread_mutex_unlock(workers->lock);
}
