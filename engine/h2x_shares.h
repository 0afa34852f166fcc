/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * Which entry the next thread works for: entries have offers, pieces of work
 * that no thread has taken yet, and take turns. Entries for which no thread
 * works go first. Pure. All functions want the lock of the threads held.
 */
#ifndef H2X_SHARES_H
#define H2X_SHARES_H

#include "h2x_threads.h"

APR_RING_HEAD(h2x_turn_ring, h2x_entry);

/** Fields are private to h2x_shares.c, but for `busy`, to be read. */
typedef struct h2x_shares {
    struct h2x_turn_ring first;  /* entries with offers and no thread */
    struct h2x_turn_ring others; /* entries with offers and threads */
    int max;     /* as in h2x_threads_limits */
    int spare;
    int busy;    /* threads that work */
    int sharing; /* entries that have offers or threads */
} h2x_shares;

/** Begins without entries. */
void h2x_shares_init(h2x_shares *shares, const h2x_threads_limits *limits);

/** Adds an offer of an entry. */
void h2x_shares_offer(h2x_shares *shares, h2x_entry *entry);

/** Removes all offers of an entry; returns how many there were. */
int h2x_shares_withdraw(h2x_shares *shares, h2x_entry *entry);

/**
 * Returns the entry whose offer is to be taken next, or NULL if there is none,
 * or if as many threads work as may.
 * @param coming threads that are about to take offers, counted as working
 */
h2x_entry *h2x_shares_next(const h2x_shares *shares, int coming);

/** Returns nonzero if a thread may work for an entry that offered nothing: it
 * has its share, and no other entry's turn comes first. */
int h2x_shares_may_enter(const h2x_shares *shares, const h2x_entry *entry);

/** Notes that a thread takes an offer of an entry, which goes to the end. */
void h2x_shares_take(h2x_shares *shares, h2x_entry *entry);

/** Notes that a thread works for an entry, without an offer of it. */
void h2x_shares_enter(h2x_shares *shares, h2x_entry *entry);

/** Notes that a thread works for an entry no longer. */
void h2x_shares_leave(h2x_shares *shares, h2x_entry *entry);

#endif /* H2X_SHARES_H */
