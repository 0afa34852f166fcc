/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <apr_atomic.h>
#include <apr_hash.h>
#include <apr_portable.h>
#include <apr_thread_cond.h>
#include <apr_thread_mutex.h>

#include <httpd.h>
#include <http_log.h>
#include <http_main.h>

#include "h2x.h"
#include "h2x_clock.h"
#include "h2x_poll.h"
#include "h2x_shares.h"
#include "h2x_thread.h"
#include "h2x_times.h"

/* The number of threads that wait for events, at most. */
#define WAITING_MAX 2

/* The interval of the watchdog's looks while no thread waits, in microseconds.
 * It doubles after each look that changes nothing, up to LOOK_MAX: all
 * processors are busy then, and looks delay those that compute. */
#define LOOK_EVERY 1000
#define LOOK_MAX (4 * 1000)

/* The number of looks that it goes on for when a thread waits again: to wake it
 * costs a system call as well. */
#define QUIET_LOOKS 20

typedef struct member {
    h2x_member face;      /* what callbacks see */
    APR_RING_ENTRY(member) link; /* in `unused`, `asleep` or `waiting` */
    APR_RING_ENTRY(member) counted; /* in `at_work` */
    h2x_threads *threads;
    apr_pool_t *pool;     /* holds the thread; NULL: no thread */
    h2x_thread self;
    apr_thread_cond_t *wake; /* is_asleep has become 0 */
    int is_asleep;        /* in `asleep`; wake_last_locked() clears it */
    int is_counted;       /* in `at_work` */
    int is_working;       /* it counts among those that work for its entry */
    int has_worked;       /* the last thing it did was a piece of work */
    apr_time_t until;     /* when its wait for events ends; 0: no limit */
    apr_uint32_t calls;   /* callbacks that it has begun */
    apr_uint32_t seen;    /* `calls` at the watchdog's last look */
    int is_looked_at;     /* `first` was taken in the current callback */
    h2x_thread_look first;
} member;

APR_RING_HEAD(member_ring, member);

struct h2x_threads {
    apr_pool_t *pool;
    h2x_threads_limits limits;
    h2x_poll *poll;
    apr_thread_mutex_t *lock; /* for all below, and the fields of entries */
    apr_thread_cond_t *left;  /* a callback has returned, or a thread ended */

    struct member_ring unused;  /* never started, or ended */
    struct member_ring asleep;  /* idle ones, the last one first: it is woken
                                 * first, so that those that are not needed
                                 * sleep until they end */
    struct member_ring waiting; /* those that wait for events */
    struct member_ring at_work; /* those in a callback, except those that wait
                                 * in it or have computed for long */
    int waiting_count;
    int at_work_count;
    int made;     /* member structs that exist */
    int started;  /* threads that run */
    int coming;   /* those among them that were started or woken and have not
                   * taken anything to do yet */
    apr_uint32_t cannot_start; /* the last start failed and was logged; atomic
                                */
    int stopping;

    apr_hash_t *known; /* entries by their id */
    apr_uint32_t last_id;
    h2x_shares shares;
    h2x_times times;

    apr_thread_t *watchdog;
    apr_thread_cond_t *watch; /* is_watching has become 1 */
    int is_watching;
    apr_interval_time_t look_every;
    int quiet_looks;          /* with somebody waiting */
    apr_array_header_t *looked_at; /* scratch */
};

/* ---- starting and waking threads ---- */

static void *APR_THREAD_FUNC run(apr_thread_t *thread, void *baton);

/* Joins the thread of a member that has ended, and frees it. */
static void join(member *ended)
{
    apr_status_t ignored;

    if (ended->pool) {
        apr_thread_join(&ignored, ended->face.thread);
        apr_pool_destroy(ended->pool);
        ended->pool = NULL;
    }
}

static member *unused_locked(h2x_threads *threads)
{
    member *me;

    if (!APR_RING_EMPTY(&threads->unused, member, link)) {
        me = APR_RING_FIRST(&threads->unused);
        APR_RING_REMOVE(me, link);
        join(me);
        return me;
    }
    me = apr_pcalloc(threads->pool, sizeof(*me));
    APR_RING_ELEM_INIT(me, link);
    me->threads = threads;
    me->face.number = threads->made++;
    return me;
}

static apr_status_t create_thread(member *me)
{
    apr_status_t rv;

    apr_pool_create(&me->pool, me->threads->pool);
    apr_pool_tag(me->pool, "h2x_threads");
    rv = apr_thread_cond_create(&me->wake, me->pool);
    if (rv == APR_SUCCESS) {
        rv = ap_thread_create(&me->face.thread, NULL, run, me, me->pool);
    }
    if (rv != APR_SUCCESS) {
        apr_pool_destroy(me->pool);
        me->pool = NULL;
    }
    return rv;
}

/* Starts a thread, if there may be one more. Returns 0 if none was started. */
static int start_locked(h2x_threads *threads)
{
    const h2x_threads_limits *limits = &threads->limits;
    member *me;
    apr_status_t rv;

    if (threads->stopping
        || threads->started >= limits->max + limits->spare + WAITING_MAX) {
        return 0;
    }
    me = unused_locked(threads);
    rv = create_thread(me);
    if (rv == APR_SUCCESS) {
        ++threads->started;
        ++threads->coming;
        apr_atomic_set32(&threads->cannot_start, 0);
        return 1;
    }
    APR_RING_INSERT_HEAD(&threads->unused, me, member, link);
    if (!apr_atomic_xchg32(&threads->cannot_start, 1)) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, ap_server_conf,
                     "h2x: cannot start a worker thread, %d are running",
                     threads->started);
    }
    return 0;
}

/* Wakes the thread that fell asleep last. Returns 0 if none is asleep. */
static int wake_last_locked(h2x_threads *threads)
{
    member *last;

    if (APR_RING_EMPTY(&threads->asleep, member, link)) {
        return 0;
    }
    last = APR_RING_FIRST(&threads->asleep);
    APR_RING_REMOVE(last, link);
    last->is_asleep = 0;
    ++threads->coming;
    apr_thread_cond_signal(last->wake);
    return 1;
}

static void watch_locked(h2x_threads *threads)
{
    threads->quiet_looks = 0;
    if (!threads->is_watching) {
        threads->is_watching = 1;
        threads->look_every = LOOK_EVERY;
        apr_thread_cond_signal(threads->watch);
    }
}

/* Has a thread come to wait for events if none waits: a sleeping or new one if
 * a processor is free for it, else the watchdog brings one. */
static void keep_waiting_locked(h2x_threads *threads)
{
    if (threads->waiting_count || threads->coming || threads->stopping) {
        return;
    }
    if (threads->at_work_count >= threads->limits.processors
        || !(wake_last_locked(threads) || start_locked(threads))) {
        watch_locked(threads);
    }
}

/* Returns nonzero if another thread can wait for events. */
static int has_other_locked(h2x_threads *threads)
{
    return threads->waiting_count || threads->coming
           || !APR_RING_EMPTY(&threads->asleep, member, link)
           || start_locked(threads);
}

/* ---- who is at work ---- */

static void uncount_locked(member *me)
{
    if (me->is_counted) {
        me->is_counted = 0;
        APR_RING_REMOVE(me, counted);
        --me->threads->at_work_count;
    }
}

static void bring_locked(h2x_threads *threads);
static void keep_time_locked(h2x_threads *threads);

/* A thread that was woken for an offer may find something else first, and two
 * wake-ups may have become one: so each callback that begins brings a thread
 * for the offers that are left. */
static void begin_call_locked(member *me, h2x_entry *entry)
{
    h2x_threads *threads = me->threads;

    ++entry->users;
    ++me->calls;
    me->is_counted = 1;
    APR_RING_INSERT_TAIL(&threads->at_work, me, member, counted);
    ++threads->at_work_count;
    if (!threads->coming) {
        bring_locked(threads);
    }
    keep_waiting_locked(threads);
    keep_time_locked(threads); /* this thread may be busy for a while */
    apr_thread_mutex_unlock(threads->lock);
}

static void leave_locked(member *me, h2x_entry *entry);

static void end_call_locked(member *me, h2x_entry *entry)
{
    h2x_threads *threads = me->threads;

    apr_thread_mutex_lock(threads->lock);
    uncount_locked(me);
    if (me->is_working) {
        leave_locked(me, entry);
    }
    --entry->users;
    apr_thread_cond_broadcast(threads->left);
}

void h2x_threads_will_wait(h2x_threads *threads, h2x_member *face)
{
    member *me = (member *)face;

    apr_thread_mutex_lock(threads->lock);
    uncount_locked(me);
    keep_waiting_locked(threads);
    apr_thread_mutex_unlock(threads->lock);
}

/* ---- work ---- */

static void enter_locked(member *me, h2x_entry *entry)
{
    me->is_working = 1;
    h2x_shares_enter(&me->threads->shares, entry);
}

static void leave_locked(member *me, h2x_entry *entry)
{
    me->is_working = 0;
    h2x_shares_leave(&me->threads->shares, entry);
}

/* Takes the next piece of work. */
static h2x_entry *take_locked(member *me)
{
    h2x_threads *threads = me->threads;
    h2x_entry *entry = h2x_shares_next(&threads->shares, 0);

    if (!entry || !has_other_locked(threads)) {
        return NULL;
    }
    me->is_working = 1;
    h2x_shares_take(&threads->shares, entry);
    return entry;
}

static int work_locked(member *me)
{
    h2x_entry *entry = take_locked(me);

    if (entry) {
        begin_call_locked(me, entry);
        entry->on_work(entry->baton, &me->face);
        end_call_locked(me, entry);
    }
    return entry != NULL;
}

/* Brings one more thread for the offers that those that come will not take: one
 * that sleeps, one of two that wait, or a new one. Else the only one that waits
 * is woken and takes one if it may. */
static void bring_locked(h2x_threads *threads)
{
    if (h2x_shares_next(&threads->shares, threads->coming)
        && !wake_last_locked(threads)
        && (threads->waiting_count > 1 || !start_locked(threads))
        && threads->waiting_count) {
        h2x_poll_wake(threads->poll);
    }
}

void h2x_threads_offer(h2x_threads *threads, h2x_entry *entry, int wakes)
{
    apr_thread_mutex_lock(threads->lock);
    h2x_shares_offer(&threads->shares, entry);
    if (wakes) {
        bring_locked(threads);
    }
    apr_thread_mutex_unlock(threads->lock);
}

void h2x_threads_retry(h2x_threads *threads)
{
    if (apr_atomic_read32(&threads->cannot_start)) {
        apr_thread_mutex_lock(threads->lock);
        bring_locked(threads);
        apr_thread_mutex_unlock(threads->lock);
    }
}

int h2x_threads_withdraw(h2x_threads *threads, h2x_entry *entry)
{
    int offers;

    apr_thread_mutex_lock(threads->lock);
    offers = h2x_shares_withdraw(&threads->shares, entry);
    apr_thread_mutex_unlock(threads->lock);
    return offers;
}

int h2x_threads_may_work(h2x_threads *threads, h2x_entry *entry,
                         h2x_member *face)
{
    member *me = (member *)face;
    int may;

    apr_thread_mutex_lock(threads->lock);
    may = !threads->stopping && h2x_shares_may_enter(&threads->shares, entry)
          && has_other_locked(threads);
    if (may) {
        enter_locked(me, entry);
    }
    apr_thread_mutex_unlock(threads->lock);
    return may;
}

/* ---- times ---- */

/* Returns nonzero if the wait of a thread ends at `then` or before. */
static int waits_until_locked(const h2x_threads *threads, apr_time_t then)
{
    const member *other;

    APR_RING_FOREACH(other, &threads->waiting, member, link) {
        if (other->until && other->until <= then) {
            return 1;
        }
    }
    return 0;
}

/* Has a thread that waits wake up for the next time, at most a tick late. */
static void keep_time_locked(h2x_threads *threads)
{
    apr_time_t next = h2x_times_next(&threads->times);

    if (next && threads->waiting_count && !threads->stopping
        && !waits_until_locked(threads, next + H2X_TIMES_TICK)) {
        h2x_poll_wake(threads->poll);
    }
}

static void call_due(h2x_entry *entry, int due)
{
    if (due & H2X_DUE_TICK) {
        entry->on_tick(entry->baton);
    }
    if (due & H2X_DUE_DEADLINE) {
        entry->on_deadline(entry->baton);
    }
    if ((due & H2X_DUE_POKE) && entry->on_poke) {
        entry->on_poke(entry->baton);
    }
}

static int call_due_locked(member *me)
{
    h2x_threads *threads = me->threads;
    h2x_entry *entry;
    int due;

    h2x_times_collect(&threads->times);
    if (!h2x_times_has_due(&threads->times)) {
        return 0;
    }
    entry = h2x_times_take(&threads->times, &due);
    if (h2x_times_has_due(&threads->times) && threads->waiting_count) {
        h2x_poll_wake(threads->poll); /* this callback may take long */
    }
    begin_call_locked(me, entry);
    call_due(entry, due);
    end_call_locked(me, entry);
    return 1;
}

void h2x_threads_tick(h2x_threads *threads, h2x_entry *entry, apr_time_t at)
{
    if (!h2x_times_set_tick(entry, at)) {
        return;
    }
    apr_thread_mutex_lock(threads->lock);
    if (h2x_times_link(&threads->times, entry)) {
        keep_time_locked(threads);
    }
    apr_thread_mutex_unlock(threads->lock);
}

void h2x_threads_deadline(h2x_threads *threads, h2x_entry *entry,
                          apr_time_t deadline)
{
    apr_thread_mutex_lock(threads->lock);
    h2x_times_set_deadline(&threads->times, entry, deadline);
    keep_time_locked(threads);
    apr_thread_mutex_unlock(threads->lock);
}

void h2x_threads_poke(h2x_threads *threads)
{
    apr_thread_mutex_lock(threads->lock);
    h2x_times_poke(&threads->times);
    if (threads->waiting_count) {
        h2x_poll_wake(threads->poll);
    }
    apr_thread_mutex_unlock(threads->lock);
}

/* ---- events ---- */

static int call_ready_locked(member *me, apr_uint32_t id)
{
    h2x_entry *entry = apr_hash_get(me->threads->known, &id, sizeof(id));

    if (!entry || !entry->events) {
        return 0;
    }
    entry->events = 0;
    begin_call_locked(me, entry);
    entry->on_ready(entry->baton, &me->face);
    end_call_locked(me, entry);
    return 1;
}

/* Handles an event that is there already, if any. */
static int look_locked(member *me)
{
    apr_uint32_t id = h2x_poll_wait(me->threads->poll, 0);

    return id && call_ready_locked(me, id);
}

/* Returns the time until the next tick or deadline; a tick more if another
 * thread waits for that. */
static apr_interval_time_t time_to_wait_locked(member *me)
{
    apr_time_t now = h2x_clock_now();

    me->until = h2x_times_next(&me->threads->times);
    if (me->until && waits_until_locked(me->threads, me->until)) {
        me->until += H2X_TIMES_TICK;
    }
    return !me->until ? -1 : me->until > now ? me->until - now : 0;
}

/* Waits for an event and handles it. Returns 0 if enough threads wait or are at
 * work. */
static int wait_locked(member *me)
{
    h2x_threads *threads = me->threads;
    apr_interval_time_t timeout;
    apr_uint32_t id;

    if (threads->waiting_count >= WAITING_MAX
        || threads->waiting_count + threads->at_work_count
           >= threads->limits.processors) {
        keep_waiting_locked(threads);
        return 0;
    }
    timeout = time_to_wait_locked(me);
    APR_RING_INSERT_HEAD(&threads->waiting, me, member, link);
    ++threads->waiting_count;
    apr_thread_mutex_unlock(threads->lock);
    id = h2x_poll_wait(threads->poll, timeout);
    apr_thread_mutex_lock(threads->lock);
    APR_RING_REMOVE(me, link);
    --threads->waiting_count;
    if (id && !threads->stopping) {
        call_ready_locked(me, id);
    }
    return 1;
}

/* Sleeps until woken. Returns 0 if the thread was idle for too long. */
static int sleep_locked(member *me)
{
    h2x_threads *threads = me->threads;
    apr_time_t end = h2x_clock_now() + threads->limits.idle;
    apr_interval_time_t left = threads->limits.idle;

    APR_RING_INSERT_HEAD(&threads->asleep, me, member, link);
    me->is_asleep = 1;
    while (me->is_asleep) {
        if (threads->started <= threads->limits.min + WAITING_MAX) {
            apr_thread_cond_wait(me->wake, threads->lock);
        }
        else if (left > 0) {
            apr_thread_cond_timedwait(me->wake, threads->lock, left);
        }
        else {
            APR_RING_REMOVE(me, link);
            me->is_asleep = 0;
            return 0;
        }
        left = end - h2x_clock_now();
    }
    --threads->coming;
    return 1;
}

/* Calls back an entry whose time has come, or takes work. Returns 0 if there is
 * neither. */
static int do_next_locked(member *me)
{
    int has_worked = me->has_worked;

    me->has_worked = 0;
    if (call_due_locked(me)) {
        return 1;
    }
    /* work must not starve events while no thread waits for them */
    if (has_worked && !me->threads->waiting_count && look_locked(me)) {
        return 1;
    }
    me->has_worked = work_locked(me);
    return me->has_worked;
}

static void *APR_THREAD_FUNC run(apr_thread_t *thread, void *baton)
{
    member *me = baton;
    h2x_threads *threads = me->threads;

    (void)thread;
    apr_thread_mutex_lock(threads->lock);
    h2x_thread_self(&me->self);
    --threads->coming;
    while (!threads->stopping
           && (do_next_locked(me) || wait_locked(me) || sleep_locked(me))) {
        continue;
    }
    --threads->started;
    APR_RING_INSERT_HEAD(&threads->unused, me, member, link);
    if (threads->stopping && threads->waiting_count) {
        h2x_poll_wake(threads->poll); /* the next one */
    }
    apr_thread_cond_broadcast(threads->left);
    apr_thread_mutex_unlock(threads->lock);
    return NULL;
}

/* ---- the watchdog ---- */

/* Returns nonzero if a thread waits in its callback or has computed for long.
 * Where the system does not tell its state, it waits if it has not run. */
static int is_slow(const h2x_thread_look *first, const h2x_thread_look *now)
{
    return (now->state ? now->state != 'R' : now->used == first->used)
           || now->used - first->used > H2X_THREAD_LONG;
}

/* Looks at a thread that was in the same callback at the last look. Releases
 * the lock for that. */
static void look_at_locked(member *other)
{
    h2x_threads *threads = other->threads;
    h2x_thread self = other->self;
    h2x_thread_look look;

    apr_thread_mutex_unlock(threads->lock);
    h2x_thread_look_at(&self, &look);
    apr_thread_mutex_lock(threads->lock);
    if (!other->is_counted || other->calls != other->seen) {
        return;
    }
    if (!other->is_looked_at) {
        other->is_looked_at = 1;
        other->first = look;
        if (!look.state) {
            return;
        }
    }
    if (is_slow(&other->first, &look)) {
        uncount_locked(other);
        threads->look_every = 0;
    }
}

static void look_at_all_locked(h2x_threads *threads)
{
    member *other;
    int i;

    apr_array_clear(threads->looked_at);
    APR_RING_FOREACH(other, &threads->at_work, member, counted) {
        if (other->seen == other->calls) {
            APR_ARRAY_PUSH(threads->looked_at, member *) = other;
        }
        else {
            other->seen = other->calls;
            other->is_looked_at = 0;
        }
    }
    for (i = 0; i < threads->looked_at->nelts; ++i) {
        look_at_locked(APR_ARRAY_IDX(threads->looked_at, i, member *));
    }
    keep_waiting_locked(threads);
    threads->look_every = !threads->look_every ? LOOK_EVERY
                          : threads->look_every < LOOK_MAX
                          ? threads->look_every * 2 : LOOK_MAX;
}

static void *APR_THREAD_FUNC watch(apr_thread_t *thread, void *baton)
{
    h2x_threads *threads = baton;
    apr_interval_time_t look_every;

    (void)thread;
    apr_thread_mutex_lock(threads->lock);
    while (!threads->stopping) {
        if (!threads->is_watching) {
            apr_thread_cond_wait(threads->watch, threads->lock);
            continue;
        }
        look_every = threads->look_every;
        apr_thread_mutex_unlock(threads->lock);
        apr_sleep(look_every); /* conditions use the wall clock */
        apr_thread_mutex_lock(threads->lock);
        if (!threads->waiting_count) {
            look_at_all_locked(threads);
            continue;
        }
        threads->look_every = LOOK_EVERY;
        if (++threads->quiet_looks >= QUIET_LOOKS) {
            threads->is_watching = 0;
        }
    }
    apr_thread_mutex_unlock(threads->lock);
    return NULL;
}

/* ---- life ---- */

static apr_status_t stop_on_cleanup(void *baton)
{
    h2x_threads_stop(baton);
    return APR_SUCCESS;
}

static apr_status_t start_first(h2x_threads *threads)
{
    apr_status_t rv = ap_thread_create(&threads->watchdog, NULL, watch,
                                       threads, threads->pool);
    int has_started;

    if (rv != APR_SUCCESS) {
        return rv;
    }
    apr_thread_mutex_lock(threads->lock);
    has_started = start_locked(threads);
    apr_thread_mutex_unlock(threads->lock);
    if (!has_started) {
        h2x_threads_stop(threads);
    }
    return has_started ? APR_SUCCESS : APR_EAGAIN;
}

apr_status_t h2x_threads_create(h2x_threads **pthreads,
                                const h2x_threads_limits *limits,
                                apr_pool_t *p)
{
    h2x_threads *threads = apr_pcalloc(p, sizeof(*threads));
    apr_status_t rv;

    apr_pool_create(&threads->pool, p);
    apr_pool_tag(threads->pool, "h2x_threads");
    threads->limits = *limits;
    APR_RING_INIT(&threads->unused, member, link);
    APR_RING_INIT(&threads->asleep, member, link);
    APR_RING_INIT(&threads->waiting, member, link);
    APR_RING_INIT(&threads->at_work, member, counted);
    h2x_shares_init(&threads->shares, limits);
    h2x_times_init(&threads->times);
    threads->known = apr_hash_make(threads->pool);
    threads->looked_at = apr_array_make(threads->pool, 16, sizeof(member *));
    /* used after threads->pool was destroyed */
    rv = apr_thread_mutex_create(&threads->lock, APR_THREAD_MUTEX_DEFAULT, p);
    if (rv == APR_SUCCESS) {
        rv = apr_thread_cond_create(&threads->left, p);
    }
    if (rv == APR_SUCCESS) {
        rv = apr_thread_cond_create(&threads->watch, p);
    }
    if (rv == APR_SUCCESS) {
        rv = h2x_poll_create(&threads->poll, threads->pool);
    }
    if (rv == APR_SUCCESS) {
        rv = start_first(threads);
    }
    if (rv == APR_SUCCESS) {
        apr_pool_pre_cleanup_register(p, threads, stop_on_cleanup);
        *pthreads = threads;
    }
    return rv;
}

void h2x_threads_stop(h2x_threads *threads)
{
    apr_status_t ignored;
    apr_thread_t *watchdog;

    apr_thread_mutex_lock(threads->lock);
    threads->stopping = 1;
    apr_thread_cond_signal(threads->watch);
    h2x_poll_wake(threads->poll);
    while (wake_last_locked(threads)) {
        continue;
    }
    while (threads->started) {
        apr_thread_cond_wait(threads->left, threads->lock);
    }
    while (!APR_RING_EMPTY(&threads->unused, member, link)) {
        member *ended = APR_RING_FIRST(&threads->unused);

        APR_RING_REMOVE(ended, link);
        apr_thread_mutex_unlock(threads->lock);
        join(ended);
        apr_thread_mutex_lock(threads->lock);
    }
    watchdog = threads->watchdog;
    threads->watchdog = NULL;
    apr_thread_mutex_unlock(threads->lock);
    if (watchdog) {
        apr_thread_join(&ignored, watchdog);
    }
}

void h2x_threads_add(h2x_threads *threads, h2x_entry *entry,
                     apr_socket_t *socket)
{
    entry->fd = -1;
    if (socket) {
        apr_os_sock_get(&entry->fd, socket);
    }
    APR_RING_ELEM_INIT(entry, link);
    apr_thread_mutex_lock(threads->lock);
    if (!threads->stopping) {
        do {
            entry->id = ++threads->last_id;
        } while (!entry->id || apr_hash_get(threads->known, &entry->id,
                                            sizeof(entry->id)));
        /* a hash does not copy its keys: this one lives in the entry */
        apr_hash_set(threads->known, &entry->id, sizeof(entry->id), entry);
        h2x_times_add(&threads->times, entry);
    }
    apr_thread_mutex_unlock(threads->lock);
}

/* Called again after each callback, which may ask for more. */
static void drop_requests_locked(h2x_threads *threads, h2x_entry *entry)
{
    h2x_shares_withdraw(&threads->shares, entry);
    h2x_times_drop(&threads->times, entry);
    entry->events = 0;
}

void h2x_threads_forget(h2x_threads *threads, h2x_entry *entry)
{
    apr_thread_mutex_lock(threads->lock);
    if (entry->id && !threads->stopping) {
        apr_hash_set(threads->known, &entry->id, sizeof(entry->id), NULL);
        entry->id = 0;
        h2x_times_remove(entry);
    }
    drop_requests_locked(threads, entry);
    while (entry->users) {
        apr_thread_cond_wait(threads->left, threads->lock);
        drop_requests_locked(threads, entry);
    }
    if (entry->fd >= 0 && !threads->stopping) {
        h2x_poll_remove(threads->poll, entry->fd);
    }
    entry->fd = -1;
    apr_thread_mutex_unlock(threads->lock);
}

apr_status_t h2x_threads_arm(h2x_threads *threads, h2x_entry *entry,
                             apr_int16_t events)
{
    apr_status_t rv = APR_SUCCESS;

    apr_thread_mutex_lock(threads->lock);
    if (!threads->stopping && entry->id && entry->events != events) {
        rv = h2x_poll_set(threads->poll, entry->fd, events, entry->id);
        entry->events = (rv == APR_SUCCESS) ? events : 0;
    }
    apr_thread_mutex_unlock(threads->lock);
    return rv;
}

void h2x_threads_disarm(h2x_threads *threads, h2x_entry *entry)
{
    h2x_threads_arm(threads, entry, 0);
}
