/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The entries that the threads of a child know, their ticks, deadlines and
 * pokes, and which of them are to be called back for these. All functions want
 * the lock of the threads held, but for h2x_times_set_tick().
 */
#ifndef H2X_TIMES_H
#define H2X_TIMES_H

#include "h2x_threads.h"

/** The interval of ticks, in microseconds. */
#define H2X_TIMES_TICK (4 * 1000)

/** What an entry is to be called back for. */
enum { H2X_DUE_TICK = 1, H2X_DUE_DEADLINE = 2, H2X_DUE_POKE = 4 };

APR_RING_HEAD(h2x_all_ring, h2x_entry);
APR_RING_HEAD(h2x_tick_ring, h2x_entry);
APR_RING_HEAD(h2x_due_ring, h2x_entry);

/** Private to h2x_times.c. */
typedef struct h2x_times {
    struct h2x_all_ring all;      /* in the order in which they were added */
    struct h2x_tick_ring ticking; /* those that have asked for a tick */
    struct h2x_due_ring due;      /* those to be called back */
    int idle_ticks;         /* ticks left until there are none */
    apr_time_t next_tick;
    int timed;              /* entries with a deadline */
    apr_time_t next_step;   /* when deadlines are looked at */
} h2x_times;

/** Begins without entries. */
void h2x_times_init(h2x_times *times);

/** Adds an entry, or removes it. */
void h2x_times_add(h2x_times *times, h2x_entry *entry);
void h2x_times_remove(h2x_entry *entry);

/**
 * Sets when an entry is to be ticked; 0: not at all. Atomic: any thread, no
 * lock needed.
 * @return nonzero if h2x_times_link() is to be called, with the lock
 */
int h2x_times_set_tick(h2x_entry *entry, apr_time_t at);

/** Lets an entry be ticked. Returns nonzero if it was not yet. */
int h2x_times_link(h2x_times *times, h2x_entry *entry);

/** Sets the deadline of an entry; 0: it has none. */
void h2x_times_set_deadline(h2x_times *times, h2x_entry *entry,
                            apr_time_t deadline);

/** Notes that all entries are to be poked. */
void h2x_times_poke(h2x_times *times);

/** Drops all that an entry has asked for. */
void h2x_times_drop(h2x_times *times, h2x_entry *entry);

/** Returns the next time at which h2x_times_collect() is to be called; 0:
 * there is none. */
apr_time_t h2x_times_next(const h2x_times *times);

/** Notes which entries are due by now. */
void h2x_times_collect(h2x_times *times);

/** Returns nonzero if entries are to be called back. */
int h2x_times_has_due(const h2x_times *times);

/**
 * Takes the next entry that is to be called back.
 * @param due is set to what for
 */
h2x_entry *h2x_times_take(h2x_times *times, int *due);

#endif /* H2X_TIMES_H */
