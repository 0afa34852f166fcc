/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <apr_atomic.h>
#include <apr_hash.h>
#include <apr_thread_cond.h>
#include <apr_thread_mutex.h>
#include <apr_thread_proc.h>

#include <httpd.h>
#include <http_log.h>

#include "h2x.h"
#include "h2x_clock.h"
#include "h2x_watch.h"

/* How often threads are looked after, in microseconds, and for how many
 * ticks the watch goes on after the last of them has finished: to start
 * again costs a system call, and a busy server would make one a request. */
#define TICK (4 * 1000)
#define IDLE_TICKS 250

/* How exact deadlines are. */
#define DEADLINE_STEP (200 * 1000)

APR_RING_HEAD(entry_ring, h2x_watch_entry);
APR_RING_HEAD(known_ring, h2x_watch_entry);

struct h2x_watch {
    apr_pool_t *pool;
    apr_pollset_t *pollset;
    apr_thread_t *thread;
    apr_thread_mutex_t *lock; /* for all below, and the fields of entries */
    apr_thread_cond_t *called; /* a callback has returned */
    struct known_ring all;    /* the entries, in the order they came, */
    apr_hash_t *known;        /* and by their address */
    struct entry_ring ticking;
    apr_array_header_t *due;  /* scratch: the entries to be called */
    h2x_watch_entry *calling; /* whose callback is under way */
    int timed;                /* entries with a deadline */
    int idle_ticks;           /* ticks left until it sleeps */
    int asleep;               /* does not tick */
    int poked;
    int stopping;
};

/* Calls an entry back, unless it has been forgotten by now. */
static void call(h2x_watch *watch, h2x_watch_entry *entry,
                 void (*callback)(void *baton))
{
    watch->calling = entry;
    apr_thread_mutex_unlock(watch->lock);
    callback(entry->baton);
    apr_thread_mutex_lock(watch->lock);
    watch->calling = NULL;
    apr_thread_cond_broadcast(watch->called);
}

static int is_known(h2x_watch *watch, h2x_watch_entry *entry)
{
    return apr_hash_get(watch->known, &entry, sizeof(entry)) != NULL;
}

static void disarm(h2x_watch *watch, h2x_watch_entry *entry)
{
    if (entry->armed && !watch->stopping) {
        apr_pollset_remove(watch->pollset, &entry->pfd);
        entry->armed = 0;
    }
}

static void call_ready(h2x_watch *watch, h2x_watch_entry *entry)
{
    if (is_known(watch, entry) && entry->armed) {
        disarm(watch, entry);
        call(watch, entry, entry->on_ready);
    }
}

static void link_entry(h2x_watch *watch, h2x_watch_entry *entry)
{
    APR_RING_INSERT_TAIL(&watch->ticking, entry, h2x_watch_entry, link);
    apr_atomic_xchg32(&entry->is_linked, 1);
}

static void unlink_entry(h2x_watch_entry *entry)
{
    if (apr_atomic_xchg32(&entry->is_linked, 0)) {
        APR_RING_REMOVE(entry, link);
    }
}

/*
 * Collects those that want ticks. An entry stays linked for a while when it
 * wants no more, as it mostly soon does again: see h2x_watch_tick(), which
 * first wants and then looks at the link, while this does it the other way
 * round, so that one of them sees what the other does.
 */
static void collect_ticking(h2x_watch *watch)
{
    h2x_watch_entry *entry, *next;

    apr_array_clear(watch->due);
    for (entry = APR_RING_FIRST(&watch->ticking);
         entry != APR_RING_SENTINEL(&watch->ticking, h2x_watch_entry, link);
         entry = next) {
        next = APR_RING_NEXT(entry, link);
        if (!apr_atomic_read32(&entry->wants_tick)) {
            unlink_entry(entry);
            if (apr_atomic_add32(&entry->wants_tick, 0)) {
                link_entry(watch, entry);
            }
        }
        else {
            APR_ARRAY_PUSH(watch->due, h2x_watch_entry *) = entry;
        }
    }
}

static void call_ticking(h2x_watch *watch)
{
    int i;

    if (APR_RING_EMPTY(&watch->ticking, h2x_watch_entry, link)) {
        watch->idle_ticks -= (watch->idle_ticks > 0);
        return;
    }
    watch->idle_ticks = IDLE_TICKS;
    collect_ticking(watch);
    for (i = 0; i < watch->due->nelts; ++i) {
        h2x_watch_entry *entry = APR_ARRAY_IDX(watch->due, i,
                                               h2x_watch_entry *);

        if (is_known(watch, entry) && apr_atomic_read32(&entry->wants_tick)) {
            call(watch, entry, entry->on_tick);
        }
    }
}

/* Collects the entries for which something is to be done. */
static void collect(h2x_watch *watch, apr_time_t now)
{
    h2x_watch_entry *entry;

    apr_array_clear(watch->due);
    APR_RING_FOREACH(entry, &watch->all, h2x_watch_entry, all) {
        if (!now || (entry->deadline && entry->deadline <= now)) {
            APR_ARRAY_PUSH(watch->due, h2x_watch_entry *) = entry;
        }
    }
}

static void set_deadline(h2x_watch *watch, h2x_watch_entry *entry,
                         apr_time_t deadline)
{
    watch->timed += (deadline != 0) - (entry->deadline != 0);
    entry->deadline = deadline;
}

static void call_late(h2x_watch *watch, apr_time_t now)
{
    int i;

    collect(watch, now);
    for (i = 0; i < watch->due->nelts; ++i) {
        h2x_watch_entry *entry = APR_ARRAY_IDX(watch->due, i,
                                               h2x_watch_entry *);

        if (is_known(watch, entry) && entry->deadline) {
            set_deadline(watch, entry, 0);
            call(watch, entry, entry->on_deadline);
        }
    }
}

static void call_poked(h2x_watch *watch)
{
    int i;

    watch->poked = 0;
    collect(watch, 0);
    for (i = 0; i < watch->due->nelts; ++i) {
        h2x_watch_entry *entry = APR_ARRAY_IDX(watch->due, i,
                                               h2x_watch_entry *);

        if (is_known(watch, entry) && entry->on_poke) {
            call(watch, entry, entry->on_poke);
        }
    }
}

static void *APR_THREAD_FUNC run(apr_thread_t *thread, void *baton)
{
    h2x_watch *watch = baton;
    const apr_pollfd_t *ready;
    apr_int32_t i, count;
    apr_interval_time_t timeout;
    apr_time_t now, next_tick = 0, next_step = 0;

    (void)thread;
    apr_thread_mutex_lock(watch->lock);
    while (!watch->stopping) {
        watch->asleep = !watch->idle_ticks;
        timeout = !watch->asleep ? TICK : watch->timed ? DEADLINE_STEP : -1;
        apr_thread_mutex_unlock(watch->lock);
        if (apr_pollset_poll(watch->pollset, timeout, &count, &ready)
            != APR_SUCCESS) {
            count = 0;
        }
        apr_thread_mutex_lock(watch->lock);
        for (i = 0; i < count && !watch->stopping; ++i) {
            call_ready(watch, ready[i].client_data);
        }
        now = h2x_clock_now();
        if (now >= next_tick) {
            next_tick = now + TICK;
            call_ticking(watch);
        }
        if (watch->timed && now >= next_step) {
            next_step = now + DEADLINE_STEP;
            call_late(watch, now);
        }
        if (watch->poked) {
            call_poked(watch);
        }
    }
    apr_thread_mutex_unlock(watch->lock);
    return NULL;
}

static apr_status_t stop_on_cleanup(void *baton)
{
    h2x_watch_stop(baton);
    return APR_SUCCESS;
}

apr_status_t h2x_watch_create(h2x_watch **pwatch, apr_uint32_t size,
                              apr_pool_t *p)
{
    h2x_watch *watch = apr_pcalloc(p, sizeof(*watch));
    apr_status_t rv;

    apr_pool_create(&watch->pool, p);
    apr_pool_tag(watch->pool, "h2x_watch");
    APR_RING_INIT(&watch->ticking, h2x_watch_entry, link);
    APR_RING_INIT(&watch->all, h2x_watch_entry, all);
    watch->known = apr_hash_make(watch->pool);
    watch->due = apr_array_make(watch->pool, 64, sizeof(h2x_watch_entry *));
    /* what is used after the end is the child's: it goes last */
    rv = apr_thread_mutex_create(&watch->lock, APR_THREAD_MUTEX_DEFAULT, p);
    if (rv == APR_SUCCESS) {
        rv = apr_thread_cond_create(&watch->called, p);
    }
    if (rv == APR_SUCCESS) {
        rv = apr_pollset_create(&watch->pollset, size, watch->pool,
                                APR_POLLSET_THREADSAFE | APR_POLLSET_WAKEABLE);
    }
    if (rv == APR_SUCCESS) {
        rv = ap_thread_create(&watch->thread, NULL, run, watch, watch->pool);
    }
    if (rv == APR_SUCCESS) {
        apr_pool_pre_cleanup_register(p, watch, stop_on_cleanup);
        *pwatch = watch;
    }
    return rv;
}

void h2x_watch_stop(h2x_watch *watch)
{
    apr_status_t ignored;
    apr_thread_t *thread;

    apr_thread_mutex_lock(watch->lock);
    watch->stopping = 1;
    thread = watch->thread;
    watch->thread = NULL;
    apr_thread_mutex_unlock(watch->lock);
    if (thread) {
        apr_pollset_wakeup(watch->pollset);
        apr_thread_join(&ignored, thread);
    }
}

void h2x_watch_add(h2x_watch *watch, h2x_watch_entry *entry,
                   apr_socket_t *socket, apr_pool_t *p)
{
    entry->pfd.p = p;
    entry->pfd.desc_type = APR_POLL_SOCKET;
    entry->pfd.desc.s = socket;
    entry->pfd.client_data = entry;
    APR_RING_ELEM_INIT(entry, link);
    apr_thread_mutex_lock(watch->lock);
    if (!watch->stopping) {
        /* a hash does not copy its keys: this one lives in the entry */
        apr_hash_set(watch->known, &entry->pfd.client_data,
                     sizeof(entry->pfd.client_data), entry);
        APR_RING_INSERT_TAIL(&watch->all, entry, h2x_watch_entry, all);
    }
    apr_thread_mutex_unlock(watch->lock);
}

void h2x_watch_forget(h2x_watch *watch, h2x_watch_entry *entry)
{
    apr_thread_mutex_lock(watch->lock);
    if (!watch->stopping && is_known(watch, entry)) {
        apr_hash_set(watch->known, &entry->pfd.client_data,
                     sizeof(entry->pfd.client_data), NULL);
        APR_RING_REMOVE(entry, all);
    }
    while (watch->calling == entry) {
        apr_thread_cond_wait(watch->called, watch->lock);
    }
    /* also what that callback has asked for */
    disarm(watch, entry);
    unlink_entry(entry);
    set_deadline(watch, entry, 0);
    apr_thread_mutex_unlock(watch->lock);
}

apr_status_t h2x_watch_arm(h2x_watch *watch, h2x_watch_entry *entry,
                           apr_int16_t events)
{
    apr_status_t rv = APR_SUCCESS;

    events |= APR_POLLHUP | APR_POLLERR;
    apr_thread_mutex_lock(watch->lock);
    if (!watch->stopping
        && (!entry->armed || entry->pfd.reqevents != events)) {
        disarm(watch, entry);
        entry->pfd.reqevents = events;
        rv = apr_pollset_add(watch->pollset, &entry->pfd);
        entry->armed = (rv == APR_SUCCESS);
    }
    apr_thread_mutex_unlock(watch->lock);
    return rv;
}

void h2x_watch_disarm(h2x_watch *watch, h2x_watch_entry *entry)
{
    apr_thread_mutex_lock(watch->lock);
    disarm(watch, entry);
    apr_thread_mutex_unlock(watch->lock);
}

void h2x_watch_tick(h2x_watch *watch, h2x_watch_entry *entry, int on)
{
    int wake = 0;

    apr_atomic_xchg32(&entry->wants_tick, (apr_uint32_t)on);
    if (!on || apr_atomic_read32(&entry->is_linked)) {
        return;
    }
    apr_thread_mutex_lock(watch->lock);
    if (!apr_atomic_read32(&entry->is_linked)) {
        link_entry(watch, entry);
        watch->idle_ticks = IDLE_TICKS;
        wake = watch->asleep && !watch->stopping;
        watch->asleep = 0;
    }
    apr_thread_mutex_unlock(watch->lock);
    if (wake) {
        apr_pollset_wakeup(watch->pollset);
    }
}

void h2x_watch_deadline(h2x_watch *watch, h2x_watch_entry *entry,
                        apr_time_t deadline)
{
    int wake;

    apr_thread_mutex_lock(watch->lock);
    wake = deadline && watch->asleep && !watch->timed && !watch->stopping;
    set_deadline(watch, entry, deadline);
    apr_thread_mutex_unlock(watch->lock);
    if (wake) {
        apr_pollset_wakeup(watch->pollset);
    }
}

void h2x_watch_poke(h2x_watch *watch)
{
    apr_thread_mutex_lock(watch->lock);
    watch->poked = 1;
    apr_thread_mutex_unlock(watch->lock);
    apr_pollset_wakeup(watch->pollset);
}
