/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The threads of a child, beside those of its MPM. They wait for the sockets
 * of connections whose own thread is busy, and call their entries back when
 * one is ready, when a time has come, and when work was offered; what a
 * callback does keeps only the thread that it runs on. They know neither HTTP/2
 * nor sessions.
 *
 * One of them waits for events, or two. The thread that gets an event handles
 * it: nobody hands it on. While it does, another one waits, as long as fewer
 * threads are at work than there are processors; beyond that, nobody does for a
 * moment, since one would only take turns with those. So that this stays a
 * moment, a watchdog looks each 1 to 4 ms, while nobody waits: a thread that
 * is in the same callback as at its last look, and waits there or has computed
 * for long, is counted as at work no longer.
 *
 * Work is taken from entries in turn, one piece each, and from those first for
 * which nobody works yet. A piece may take minutes: if all that there may be
 * are at work, such an entry gets one more, and one that has less than others
 * some, so that a few connections cannot keep all from the others.
 *
 * Lock order: callers may hold a lock of their own when they call in here; no
 * lock is held when an entry is called back.
 *
 * Why not apr_thread_pool: it starts a thread only when none is idle, and
 * counts as idle a thread that was woken for the task before. The second of
 * two tasks then waits until the first is done. It also serves its tasks in one
 * row, in which a connection with a hundred requests bars the others.
 */
#ifndef H2X_THREADS_H
#define H2X_THREADS_H

#include <apr_network_io.h>
#include <apr_poll.h>
#include <apr_pools.h>
#include <apr_ring.h>
#include <apr_thread_proc.h>

typedef struct h2x_threads h2x_threads;

/** One of the threads. For callbacks, which run on it; only to be read. */
typedef struct h2x_member {
    apr_thread_t *thread;
    int number; /* from 0; none of those that are there share one */
} h2x_member;

/**
 * One that is called back. To be zeroed, then only used by h2x_threads.c, but
 * for the callbacks, of which only those are needed that are asked for, and
 * the baton. Callbacks may overlap, but those for times and pokes not with each
 * other.
 */
typedef struct h2x_entry {
    APR_RING_ENTRY(h2x_entry) all;  /* among those that are known */
    APR_RING_ENTRY(h2x_entry) link; /* among those that are ticked */
    APR_RING_ENTRY(h2x_entry) due_link; /* among those to be called */
    APR_RING_ENTRY(h2x_entry) turn; /* among those with offers */
    void (*on_ready)(void *baton, h2x_member *me); /* the socket is ready */
    void (*on_work)(void *baton, h2x_member *me);  /* an offer is taken */
    void (*on_tick)(void *baton);   /* the time has come that was asked for */
    void (*on_deadline)(void *baton); /* the deadline has, which is unset */
    void (*on_poke)(void *baton);   /* somebody has poked */
    void *baton;
    int fd;              /* -1: none */
    apr_uint32_t id;     /* 0: it is not known */
    apr_int16_t events;  /* that were asked for; 0: none */
    apr_time_t deadline; /* 0: none */
    apr_uint64_t tick_at;   /* 0: not asked for; atomic */
    apr_uint32_t is_linked; /* atomic; changed with the lock held */
    int due;       /* callbacks for times and pokes that are to come */
    int is_called; /* one of these is under way */
    int users;     /* callbacks that are under way */
    int inside;    /* those among them that work */
    int offers;    /* pieces of work that nobody took yet */
} h2x_entry;

/** How many threads there are. */
typedef struct h2x_threads_limits {
    int min;        /* idle ones that are kept, beside those that wait */
    int max;        /* that work at a time, at least 1 */
    int spare;      /* how many more, for entries for which nobody works; half
                     * of them also for those with less than half of their
                     * share: the part of max that is as large for all that
                     * have some */
    int processors; /* at least 1 */
    apr_interval_time_t idle; /* after which an idle one ends */
} h2x_threads_limits;

/**
 * Starts the first thread of this child, and the watchdog.
 * @param p the child's pool; the threads end before it is destroyed
 */
apr_status_t h2x_threads_create(h2x_threads **threads,
                                const h2x_threads_limits *limits,
                                apr_pool_t *p);

/**
 * Ends the threads, once they have done what they are at. No callback comes
 * any more after this returns.
 */
void h2x_threads_stop(h2x_threads *threads);

/**
 * Makes an entry known. Its callbacks may come until h2x_threads_forget()
 * returns.
 * @param socket NULL for one that is never armed
 */
void h2x_threads_add(h2x_threads *threads, h2x_entry *entry,
                     apr_socket_t *socket);

/**
 * Forgets an entry, its offers too, after waiting for the callbacks that are
 * under way. The caller must hold no lock that these take.
 */
void h2x_threads_forget(h2x_threads *threads, h2x_entry *entry);

/**
 * Asks for one on_ready when the socket is ready for any of the events
 * (APR_POLLIN, APR_POLLOUT), or has failed. Replaces what was asked before.
 */
apr_status_t h2x_threads_arm(h2x_threads *threads, h2x_entry *entry,
                             apr_int16_t events);

/** Takes back h2x_threads_arm(). A callback may still be under way. */
void h2x_threads_disarm(h2x_threads *threads, h2x_entry *entry);

/**
 * Asks for one on_tick at a time, or a few milliseconds later. Replaces what
 * was asked before; 0 takes it back, but a call may be under way. Costs no lock
 * when it is done again and again.
 */
void h2x_threads_tick(h2x_threads *threads, h2x_entry *entry, apr_time_t at);

/**
 * Asks for one on_deadline at a time, or some tenths of a second later.
 * Replaces what was asked before; 0 takes it back.
 */
void h2x_threads_deadline(h2x_threads *threads, h2x_entry *entry,
                          apr_time_t deadline);

/** Calls on_poke of all entries that have it. */
void h2x_threads_poke(h2x_threads *threads);

/**
 * Offers one piece of work: some thread calls on_work() soon. Any thread, which
 * may hold the lock of the entry.
 * @param wakes 0: nobody is woken for it, as the caller is one of the threads
 *        and about to return from its callback
 */
void h2x_threads_offer(h2x_threads *threads, h2x_entry *entry, int wakes);

/**
 * Tries again to start a thread, if that has failed for what was offered. Any
 * thread, as above.
 */
void h2x_threads_retry(h2x_threads *threads);

/**
 * Takes back what was offered and not begun. Any thread, as above.
 * @return how many pieces of work that were
 */
int h2x_threads_withdraw(h2x_threads *threads, h2x_entry *entry);

/**
 * Asks whether a thread that was called back may go on with work for the
 * entry, as if it had been offered, until the callback returns: not if others'
 * turn comes first, nor when nobody would be left to wait for events.
 * @return 0 when it is to be offered instead
 */
int h2x_threads_may_work(h2x_threads *threads, h2x_entry *entry,
                         h2x_member *me);

/**
 * Tells that a thread is about to wait in its callback, not for a processor:
 * it does not count as at work until the callback returns, whatever it does
 * then. By any thread.
 */
void h2x_threads_will_wait(h2x_threads *threads, h2x_member *member);

#endif /* H2X_THREADS_H */
