/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The threads of a child, in addition to those of its MPM. They wait for the
 * sockets of connections that were handed over, and call an entry back when its
 * socket is ready, when a time that it asked for has come, and when it has
 * offered work. A callback that blocks keeps only its own thread. They know
 * neither HTTP/2 nor sessions.
 *
 * One or two threads wait for events. The thread that gets an event runs the
 * callback itself. Meanwhile another thread waits, if fewer threads are at work
 * than there are processors; otherwise none does, as it would only compete
 * with those. A watchdog runs each 1 to 4 ms while no thread waits: it stops
 * counting a thread as at work that has been in one callback since the last
 * look, and that waits there or has computed for long.
 *
 * Work is taken from entries in turn, one piece each, and first from those for
 * which no thread works yet. A piece may take minutes. So that a few
 * connections cannot keep all threads, there are some more beyond `max` for
 * entries without a thread, and for those with less than half of their share:
 * see h2x_shares.c.
 *
 * Lock order: callers may hold a lock of their own when they call these
 * functions; no lock is held when an entry is called back.
 *
 * apr_thread_pool is not used, because it starts a thread only if none is idle,
 * and counts one as idle that was woken for the task before: the second of two
 * tasks then waits until the first one has ended. It also has one queue for all
 * tasks, in which a connection with a hundred requests delays the others.
 */
#ifndef H2X_THREADS_H
#define H2X_THREADS_H

#include <apr_network_io.h>
#include <apr_poll.h>
#include <apr_pools.h>
#include <apr_ring.h>
#include <apr_thread_proc.h>

typedef struct h2x_threads h2x_threads;

/** One of the threads, as callbacks that run on it see it. Read-only. */
typedef struct h2x_member {
    apr_thread_t *thread;
    int number; /* from 0; unique among the threads that run */
} h2x_member;

/**
 * A user of the threads. The caller zeroes it and sets the baton and those
 * callbacks that it asks for; all other fields are private to h2x_threads.c,
 * h2x_shares.c and h2x_times.c. Callbacks of one entry may run at the same
 * time.
 */
typedef struct h2x_entry {
    APR_RING_ENTRY(h2x_entry) all;  /* all entries */
    APR_RING_ENTRY(h2x_entry) link; /* those that are ticked */
    APR_RING_ENTRY(h2x_entry) due_link; /* those to be called back */
    APR_RING_ENTRY(h2x_entry) turn; /* those with offers */
    void (*on_ready)(void *baton, h2x_member *me); /* the socket is ready */
    void (*on_work)(void *baton, h2x_member *me);  /* takes an offer */
    void (*on_tick)(void *baton);     /* after h2x_threads_tick() */
    void (*on_deadline)(void *baton); /* after h2x_threads_deadline() */
    void (*on_poke)(void *baton);     /* after h2x_threads_poke() */
    void *baton;
    int fd;              /* -1: none */
    apr_uint32_t id;     /* 0: it was not added, or was forgotten */
    apr_int16_t events;  /* the socket is armed for; 0: none */
    apr_time_t deadline; /* 0: none */
    apr_uint64_t tick_at;   /* 0: no tick was asked for; atomic */
    apr_uint32_t is_linked; /* atomic; changed with the lock held */
    int due;       /* what it is to be called back for: H2X_DUE_... */
    int users;     /* callbacks that run */
    int inside;    /* those among them that work */
    int offers;    /* pieces of work that no thread has taken yet */
} h2x_entry;

/** The limits of the number of threads. */
typedef struct h2x_threads_limits {
    int min;        /* idle threads that are kept, besides those that wait for
                     * events */
    int max;        /* that work at a time, at least 1 */
    int spare;      /* how many more may work, for entries that have no thread;
                     * half of them also for entries with less than half of
                     * their share, which is max divided by the entries that
                     * have work */
    int processors; /* at least 1 */
    apr_interval_time_t idle; /* microseconds until an idle one ends */
} h2x_threads_limits;

/**
 * Starts the first thread of this child, and the watchdog.
 * @param p the child's pool; the threads end before it is destroyed
 */
apr_status_t h2x_threads_create(h2x_threads **threads,
                                const h2x_threads_limits *limits,
                                apr_pool_t *p);

/**
 * Ends the threads; waits for callbacks that run. There are none after this
 * returns.
 */
void h2x_threads_stop(h2x_threads *threads);

/**
 * Adds an entry. Its callbacks may run until h2x_threads_forget() returns.
 * @param socket NULL for one that is never armed
 */
void h2x_threads_add(h2x_threads *threads, h2x_entry *entry,
                     apr_socket_t *socket);

/**
 * Removes an entry and its offers, and waits for its callbacks that run. The
 * caller must not hold a lock that these take.
 */
void h2x_threads_forget(h2x_threads *threads, h2x_entry *entry);

/**
 * Asks for one on_ready when the socket is ready for any of the events
 * (APR_POLLIN, APR_POLLOUT) or has an error. Replaces what was asked before.
 * Any thread.
 */
apr_status_t h2x_threads_arm(h2x_threads *threads, h2x_entry *entry,
                             apr_int16_t events);

/** Undoes h2x_threads_arm(). A callback may be about to run. Any thread. */
void h2x_threads_disarm(h2x_threads *threads, h2x_entry *entry);

/**
 * Asks for one on_tick at a time, or a few milliseconds later. Replaces what
 * was asked before; 0 cancels it, but a callback may be about to run. Takes no
 * lock if the entry was ticked lately. Any thread.
 */
void h2x_threads_tick(h2x_threads *threads, h2x_entry *entry, apr_time_t at);

/**
 * Asks for one on_deadline at a time, or up to 200 ms later. Replaces what was
 * asked before; 0 cancels it. Any thread.
 */
void h2x_threads_deadline(h2x_threads *threads, h2x_entry *entry,
                          apr_time_t deadline);

/** Asks for one on_poke of each entry that has that callback. Any thread. */
void h2x_threads_poke(h2x_threads *threads);

/**
 * Offers one piece of work: a thread calls on_work() as soon as one is free.
 * Any thread.
 * @param wakes 0: no thread is woken, since the caller is one of the threads
 *         and about to return from its callback
 */
void h2x_threads_offer(h2x_threads *threads, h2x_entry *entry, int wakes);

/**
 * Tries again to start a thread for what was offered, if that has failed. Any
 * thread.
 */
void h2x_threads_retry(h2x_threads *threads);

/**
 * Withdraws the offers of an entry that no thread has taken. Any thread.
 * @return how many there were
 */
int h2x_threads_withdraw(h2x_threads *threads, h2x_entry *entry);

/**
 * Asks whether a thread may work for the entry from within on_ready, as if it
 * had taken an offer: not if another entry's turn comes first, or if no thread
 * would be left to wait for events. If so, it counts as working until the
 * callback returns.
 * @return 0 if the work is to be offered instead
 */
int h2x_threads_may_work(h2x_threads *threads, h2x_entry *entry,
                         h2x_member *me);

/**
 * Notes that a thread is about to wait in its callback, for other than a
 * processor. It is not counted as at work until the callback returns. Any
 * thread.
 */
void h2x_threads_will_wait(h2x_threads *threads, h2x_member *member);

#endif /* H2X_THREADS_H */
