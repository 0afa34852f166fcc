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
#include "h2x_thread.h"
#include "h2x_threads.h"

/* So many wait for events at most. */
#define WAITING_MAX 2

/* How often ticks come, in microseconds, and for how many ticks they are
 * counted on after the last entry wants none: to start again costs a system
 * call, and a busy server would make one a request. */
#define TICK (4 * 1000)
#define IDLE_TICKS 250

/* How exact deadlines are. */
#define DEADLINE_STEP (200 * 1000)

/* How often the watchdog looks while nobody waits: twice as seldom after each
 * look that changes nothing, as all processors are busy then and its looks hold
 * up who computes. For how many looks it goes on when somebody waits again: to
 * wake it costs a system call as well. */
#define LOOK_EVERY 1000
#define LOOK_MAX (4 * 1000)
#define QUIET_LOOKS 20

/* What is due for an entry. */
enum { DUE_TICK = 1, DUE_DEADLINE = 2, DUE_POKE = 4 };

typedef struct member {
    h2x_member face;      /* what callbacks see */
    APR_RING_ENTRY(member) link; /* among those unused, asleep or waiting */
    APR_RING_ENTRY(member) counted; /* among those at work */
    h2x_threads *threads;
    apr_pool_t *pool;     /* holds the thread; NULL: no thread */
    h2x_thread self;
    apr_thread_cond_t *wake; /* is_asleep has become 0 */
    int is_asleep;        /* among those: wake_last_locked() takes it out */
    int is_counted;       /* among those at work */
    int is_working;       /* h2x_threads_may_work() has said so */
    int has_worked;       /* what it did last was a piece of work */
    apr_time_t until;     /* waits for events until then; 0: for ever */
    apr_uint32_t calls;   /* callbacks that it has begun */
    apr_uint32_t seen;    /* how many when the watchdog looked last, */
    int is_looked_at;     /* and whether that has looked at this one: */
    h2x_thread_look first;
} member;

APR_RING_HEAD(member_ring, member);
APR_RING_HEAD(link_ring, h2x_entry);
APR_RING_HEAD(due_ring, h2x_entry);
APR_RING_HEAD(turn_ring, h2x_entry);
APR_RING_HEAD(all_ring, h2x_entry);

struct h2x_threads {
    apr_pool_t *pool;
    h2x_threads_limits limits;
    h2x_poll *poll;
    apr_thread_mutex_t *lock; /* for all below, and the fields of entries */
    apr_thread_cond_t *left;  /* a callback has returned, or a thread ended */

    struct member_ring unused;  /* never started, or ended */
    struct member_ring asleep;  /* those with nothing to do: the last that came
                                 * is woken first, so that those beyond what is
                                 * needed sleep for long, and end */
    struct member_ring waiting; /* those that wait for events */
    struct member_ring at_work; /* those in a callback, but for those that wait
                                 * in it or have computed for long */
    int waiting_count;
    int at_work_count;
    int made;     /* member structs that exist */
    int started;  /* threads that run */
    int coming;   /* those among them that were started or woken, and have not
                   * looked yet for what to do */
    int busy;     /* those among them that work */
    apr_uint32_t cannot_start; /* the last try failed, which was logged;
                                * atomic */
    int stopping;

    struct all_ring all;      /* entries, in the order they came, */
    apr_hash_t *known;        /* and by their id */
    apr_uint32_t last_id;
    struct turn_ring first;   /* those with offers and nobody inside */
    struct turn_ring others;  /* those with offers and somebody inside */
    int sharing;              /* how many have either */
    struct due_ring due;      /* those to be called for a time or a poke */
    struct link_ring ticking;
    int idle_ticks;           /* ticks left until there are none */
    apr_time_t next_tick;
    int timed;                /* entries with a deadline */
    apr_time_t next_step;     /* when deadlines are looked at */

    apr_thread_t *watchdog;
    apr_thread_cond_t *watch; /* is_watching has become 1 */
    int is_watching;
    apr_interval_time_t look_every;
    int quiet_looks;          /* with somebody waiting */
    apr_array_header_t *looked_at; /* scratch */
};

/* ---- starting and waking threads ---- */

static void *APR_THREAD_FUNC run(apr_thread_t *thread, void *baton);

/* Frees the thread of a member that has ended. */
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

/* Starts a thread, if there may be one more. Returns 0 when there is none. */
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

/* Wakes one that is asleep. Returns 0 when there is none. */
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

/* Sees to it that somebody will wait for events, if nobody does. */
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

/* Will there be somebody to wait for events, if this thread does not? */
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

/* What a thread was woken for, it may find behind something else, and two
 * wake-ups may have been one: so whoever is to be called looks what is left. */
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
    keep_time_locked(threads); /* this thread does not, for a while */
    apr_thread_mutex_unlock(threads->lock);
}

static void leave_work_locked(member *me, h2x_entry *entry);

static void end_call_locked(member *me, h2x_entry *entry)
{
    h2x_threads *threads = me->threads;

    apr_thread_mutex_lock(threads->lock);
    uncount_locked(me);
    if (me->is_working) {
        leave_work_locked(me, entry);
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

static void enqueue_locked(h2x_threads *threads, h2x_entry *entry)
{
    struct turn_ring *ring = entry->inside ? &threads->others
                                           : &threads->first;

    APR_RING_ELEM_INIT(entry, turn);
    APR_RING_INSERT_TAIL(ring, entry, h2x_entry, turn);
}

/* Notes how many offers an entry has, and how many work for it. Its offers go
 * to another ring when somebody begins to do so, or nobody does any more; and
 * to the end of that, when one was taken. */
static void set_work_locked(h2x_threads *threads, h2x_entry *entry, int offers,
                            int inside)
{
    int moves = offers < entry->offers || !inside != !entry->inside;
    int is_in = (entry->offers != 0);

    threads->sharing += (offers || inside) - (entry->offers || entry->inside);
    if (is_in && (moves || !offers)) {
        APR_RING_REMOVE(entry, turn);
        is_in = 0;
    }
    entry->offers = offers;
    entry->inside = inside;
    if (offers && !is_in) {
        enqueue_locked(threads, entry);
    }
}

/*
 * May one more thread work for an entry, if so many do for all? When that are
 * as many as there may be, those with less than half of their share get some
 * more, and those for which nobody works the last ones.
 */
static int has_turn_locked(const h2x_threads *threads, const h2x_entry *entry,
                           int busy)
{
    const h2x_threads_limits *limits = &threads->limits;

    if (!entry->inside) {
        return busy < limits->max + limits->spare;
    }
    return busy < limits->max
           || (busy < limits->max + limits->spare / 2
               && 2 * entry->inside < limits->max / threads->sharing);
}

/* Whose turn is it, if so many work? NULL: nobody's. */
static h2x_entry *next_locked(const h2x_threads *threads, int busy)
{
    h2x_entry *entry = APR_RING_FIRST(&threads->first);

    if (entry != APR_RING_SENTINEL(&threads->first, h2x_entry, turn)
        && has_turn_locked(threads, entry, busy)) {
        return entry;
    }
    APR_RING_FOREACH(entry, &threads->others, h2x_entry, turn) {
        if (has_turn_locked(threads, entry, busy)) {
            return entry;
        }
    }
    return NULL;
}

static void enter_work_locked(member *me, h2x_entry *entry)
{
    me->is_working = 1;
    ++me->threads->busy;
    set_work_locked(me->threads, entry, entry->offers, entry->inside + 1);
}

static void leave_work_locked(member *me, h2x_entry *entry)
{
    me->is_working = 0;
    --me->threads->busy;
    set_work_locked(me->threads, entry, entry->offers, entry->inside - 1);
}

/* Takes the next piece of work: its entry goes to the end. */
static h2x_entry *take_locked(member *me)
{
    h2x_threads *threads = me->threads;
    h2x_entry *entry = next_locked(threads, threads->busy);

    if (!entry || !has_other_locked(threads)) {
        return NULL;
    }
    set_work_locked(threads, entry, entry->offers - 1, entry->inside);
    enter_work_locked(me, entry);
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

/* Brings one more thread for what was offered: one that sleeps, one of two
 * that wait, or a new one; else the one that waits sees whether it may. Those
 * that come already may work too. */
static void bring_locked(h2x_threads *threads)
{
    if (next_locked(threads, threads->busy + threads->coming)
        && !wake_last_locked(threads)
        && (threads->waiting_count > 1 || !start_locked(threads))
        && threads->waiting_count) {
        h2x_poll_wake(threads->poll);
    }
}

void h2x_threads_offer(h2x_threads *threads, h2x_entry *entry, int wakes)
{
    apr_thread_mutex_lock(threads->lock);
    set_work_locked(threads, entry, entry->offers + 1, entry->inside);
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

static int withdraw_locked(h2x_threads *threads, h2x_entry *entry)
{
    int offers = entry->offers;

    set_work_locked(threads, entry, 0, entry->inside);
    return offers;
}

int h2x_threads_withdraw(h2x_threads *threads, h2x_entry *entry)
{
    int offers;

    apr_thread_mutex_lock(threads->lock);
    offers = withdraw_locked(threads, entry);
    apr_thread_mutex_unlock(threads->lock);
    return offers;
}

int h2x_threads_may_work(h2x_threads *threads, h2x_entry *entry,
                         h2x_member *face)
{
    member *me = (member *)face;
    const h2x_entry *next;
    int may;

    apr_thread_mutex_lock(threads->lock);
    next = next_locked(threads, threads->busy);
    may = (!next || next == entry) && !threads->stopping
          && has_turn_locked(threads, entry, threads->busy)
          && has_other_locked(threads);
    if (may) {
        enter_work_locked(me, entry);
    }
    apr_thread_mutex_unlock(threads->lock);
    return may;
}

/* ---- times ---- */

static void link_entry(h2x_threads *threads, h2x_entry *entry)
{
    APR_RING_INSERT_TAIL(&threads->ticking, entry, h2x_entry, link);
    apr_atomic_xchg32(&entry->is_linked, 1);
}

static void unlink_entry(h2x_entry *entry)
{
    if (apr_atomic_xchg32(&entry->is_linked, 0)) {
        APR_RING_REMOVE(entry, link);
    }
}

static void enqueue_due_locked(h2x_threads *threads, h2x_entry *entry)
{
    APR_RING_ELEM_INIT(entry, due_link);
    APR_RING_INSERT_TAIL(&threads->due, entry, h2x_entry, due_link);
}

/* Notes that an entry is to be called. What comes while it is called already
 * is kept until that has returned. */
static void add_due_locked(h2x_threads *threads, h2x_entry *entry, int what)
{
    if (!entry->due && !entry->is_called) {
        enqueue_due_locked(threads, entry);
    }
    entry->due |= what;
}

static void remove_due_locked(h2x_entry *entry)
{
    if (entry->due && !entry->is_called) {
        APR_RING_REMOVE(entry, due_link);
    }
    entry->due = 0;
}

/*
 * Collects those whose time has come. An entry stays linked until the next tick
 * when it has asked for none, as it mostly soon does again: see
 * h2x_threads_tick(), which first asks and then looks at the link, while this
 * does it the other way round, so that one of them sees what the other does.
 */
static void collect_ticking_locked(h2x_threads *threads, apr_time_t now)
{
    apr_uint64_t at;
    h2x_entry *entry, *next;

    for (entry = APR_RING_FIRST(&threads->ticking);
         entry != APR_RING_SENTINEL(&threads->ticking, h2x_entry, link);
         entry = next) {
        next = APR_RING_NEXT(entry, link);
        at = apr_atomic_read64(&entry->tick_at);
        if (!at) {
            unlink_entry(entry);
            if (apr_atomic_read64(&entry->tick_at)) {
                link_entry(threads, entry);
            }
        }
        else if (at <= (apr_uint64_t)now
                 && apr_atomic_cas64(&entry->tick_at, 0, at) == at) {
            add_due_locked(threads, entry, DUE_TICK);
        }
    }
}

static void tick_locked(h2x_threads *threads, apr_time_t now)
{
    threads->next_tick = now + TICK;
    if (APR_RING_EMPTY(&threads->ticking, h2x_entry, link)) {
        --threads->idle_ticks;
        return;
    }
    threads->idle_ticks = IDLE_TICKS;
    collect_ticking_locked(threads, now);
}

static void set_deadline_locked(h2x_threads *threads, h2x_entry *entry,
                                apr_time_t deadline)
{
    threads->timed += (deadline != 0) - (entry->deadline != 0);
    entry->deadline = deadline;
}

static void step_locked(h2x_threads *threads, apr_time_t now)
{
    h2x_entry *entry;

    threads->next_step = now + DEADLINE_STEP;
    APR_RING_FOREACH(entry, &threads->all, h2x_entry, all) {
        if (entry->deadline && entry->deadline <= now) {
            set_deadline_locked(threads, entry, 0);
            add_due_locked(threads, entry, DUE_DEADLINE);
        }
    }
}

/* Notes what has become due. */
static void collect_due_locked(h2x_threads *threads)
{
    apr_time_t now;

    if (!threads->idle_ticks && !threads->timed) {
        return;
    }
    now = h2x_clock_now();
    if (threads->idle_ticks && now >= threads->next_tick) {
        tick_locked(threads, now);
    }
    if (threads->timed && now >= threads->next_step) {
        step_locked(threads, now);
    }
}

/* When that is the next time; 0: never. */
static apr_time_t next_time_locked(const h2x_threads *threads)
{
    if (threads->idle_ticks && threads->timed) {
        return threads->next_tick < threads->next_step ? threads->next_tick
                                                       : threads->next_step;
    }
    return threads->idle_ticks ? threads->next_tick
                               : threads->timed ? threads->next_step : 0;
}

/* Does one of those that wait do so until then at most? */
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

/* Sees to it that one of those that wait returns for the next time, or a tick
 * later. */
static void keep_time_locked(h2x_threads *threads)
{
    apr_time_t next = next_time_locked(threads);

    if (next && threads->waiting_count && !threads->stopping
        && !waits_until_locked(threads, next + TICK)) {
        h2x_poll_wake(threads->poll);
    }
}

static void call_due(h2x_entry *entry, int due)
{
    if (due & DUE_TICK) {
        entry->on_tick(entry->baton);
    }
    if (due & DUE_DEADLINE) {
        entry->on_deadline(entry->baton);
    }
    if ((due & DUE_POKE) && entry->on_poke) {
        entry->on_poke(entry->baton);
    }
}

static int call_due_locked(member *me)
{
    h2x_threads *threads = me->threads;
    h2x_entry *entry;
    int due;

    collect_due_locked(threads);
    if (APR_RING_EMPTY(&threads->due, h2x_entry, due_link)) {
        return 0;
    }
    entry = APR_RING_FIRST(&threads->due);
    due = entry->due;
    remove_due_locked(entry);
    entry->is_called = 1;
    if (!APR_RING_EMPTY(&threads->due, h2x_entry, due_link)
        && threads->waiting_count) {
        h2x_poll_wake(threads->poll); /* this callback may take long */
    }
    begin_call_locked(me, entry);
    call_due(entry, due);
    end_call_locked(me, entry);
    entry->is_called = 0;
    if (entry->due) { /* kept until now */
        enqueue_due_locked(threads, entry);
    }
    return 1;
}

void h2x_threads_tick(h2x_threads *threads, h2x_entry *entry, apr_time_t at)
{
    apr_atomic_set64(&entry->tick_at, (apr_uint64_t)at);
    /* to add nothing is a barrier, and to read is none */
    if (!at || apr_atomic_add32(&entry->is_linked, 0)) {
        return;
    }
    apr_thread_mutex_lock(threads->lock);
    if (!apr_atomic_read32(&entry->is_linked)) {
        link_entry(threads, entry);
        if (!threads->idle_ticks) {
            threads->next_tick = h2x_clock_now() + TICK;
        }
        threads->idle_ticks = IDLE_TICKS;
        keep_time_locked(threads);
    }
    apr_thread_mutex_unlock(threads->lock);
}

void h2x_threads_deadline(h2x_threads *threads, h2x_entry *entry,
                          apr_time_t deadline)
{
    apr_thread_mutex_lock(threads->lock);
    if (deadline && !threads->timed) {
        threads->next_step = h2x_clock_now() + DEADLINE_STEP;
    }
    set_deadline_locked(threads, entry, deadline);
    keep_time_locked(threads);
    apr_thread_mutex_unlock(threads->lock);
}

void h2x_threads_poke(h2x_threads *threads)
{
    h2x_entry *entry;

    apr_thread_mutex_lock(threads->lock);
    APR_RING_FOREACH(entry, &threads->all, h2x_entry, all) {
        add_due_locked(threads, entry, DUE_POKE);
    }
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

/* Looks for an event without waiting. */
static int look_locked(member *me)
{
    apr_uint32_t id = h2x_poll_wait(me->threads->poll, 0);

    return id && call_ready_locked(me, id);
}

/* Until the next time; a tick longer, if another one waits until then. */
static apr_interval_time_t time_to_wait_locked(member *me)
{
    apr_time_t now = h2x_clock_now();

    me->until = next_time_locked(me->threads);
    if (me->until && waits_until_locked(me->threads, me->until)) {
        me->until += TICK;
    }
    return !me->until ? -1 : me->until > now ? me->until - now : 0;
}

/* Waits for an event, if one should, and handles it. Else returns 0. */
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

/* Sleeps until woken. Returns 0 if it was not for idle time. */
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

/* Does the next thing that is to be done. Returns 0 when there is none. */
static int do_next_locked(member *me)
{
    int has_worked = me->has_worked;

    me->has_worked = 0;
    if (call_due_locked(me)) {
        return 1;
    }
    /* work is not done while events are left that nobody waits for */
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

/* Does a thread wait in its callback, or has it computed for long? Where the
 * system does not tell the state, a thread waits that has not run. */
static int is_slow(const h2x_thread_look *first, const h2x_thread_look *now)
{
    return (now->state ? now->state != 'R' : now->used == first->used)
           || now->used - first->used > H2X_THREAD_LONG;
}

/* Looks at a thread that was in the same callback at the last look. The lock
 * is not held for that. */
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
        apr_sleep(look_every); /* a condition would wait by the wall's clock */
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
    APR_RING_INIT(&threads->all, h2x_entry, all);
    APR_RING_INIT(&threads->first, h2x_entry, turn);
    APR_RING_INIT(&threads->others, h2x_entry, turn);
    APR_RING_INIT(&threads->due, h2x_entry, due_link);
    APR_RING_INIT(&threads->ticking, h2x_entry, link);
    threads->known = apr_hash_make(threads->pool);
    threads->looked_at = apr_array_make(threads->pool, 16, sizeof(member *));
    /* what is used after the end is the child's: it goes last */
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
        APR_RING_INSERT_TAIL(&threads->all, entry, h2x_entry, all);
    }
    apr_thread_mutex_unlock(threads->lock);
}

/* What callbacks may have asked for until the last of them has returned. */
static void drop_requests_locked(h2x_threads *threads, h2x_entry *entry)
{
    withdraw_locked(threads, entry);
    remove_due_locked(entry);
    unlink_entry(entry);
    set_deadline_locked(threads, entry, 0);
    entry->events = 0;
}

void h2x_threads_forget(h2x_threads *threads, h2x_entry *entry)
{
    apr_thread_mutex_lock(threads->lock);
    if (entry->id && !threads->stopping) {
        apr_hash_set(threads->known, &entry->id, sizeof(entry->id), NULL);
        entry->id = 0;
        APR_RING_REMOVE(entry, all);
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
