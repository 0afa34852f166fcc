/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "h2x_shares.h"

void h2x_shares_init(h2x_shares *shares, const h2x_threads_limits *limits)
{
    APR_RING_INIT(&shares->first, h2x_entry, turn);
    APR_RING_INIT(&shares->others, h2x_entry, turn);
    shares->max = limits->max;
    shares->spare = limits->spare;
    shares->busy = 0;
    shares->sharing = 0;
}

static void enqueue(h2x_shares *shares, h2x_entry *entry)
{
    struct h2x_turn_ring *ring = entry->inside ? &shares->others
                                               : &shares->first;

    APR_RING_ELEM_INIT(entry, turn);
    APR_RING_INSERT_TAIL(ring, entry, h2x_entry, turn);
}

/* Sets how many offers and threads an entry has. It moves to the other ring
 * when the first thread begins or the last one leaves, and to the end of its
 * ring when an offer was taken. */
static void set_work(h2x_shares *shares, h2x_entry *entry, int offers,
                     int inside)
{
    int moves = offers < entry->offers || !inside != !entry->inside;
    int is_in = (entry->offers != 0);

    shares->sharing += (offers || inside) - (entry->offers || entry->inside);
    shares->busy += inside - entry->inside;
    if (is_in && (moves || !offers)) {
        APR_RING_REMOVE(entry, turn);
        is_in = 0;
    }
    entry->offers = offers;
    entry->inside = inside;
    if (offers && !is_in) {
        enqueue(shares, entry);
    }
}

/*
 * Returns nonzero if one more thread may work for an entry while so many work
 * for all. Up to `max`, any entry may have it; half of `spare` beyond that is
 * for entries with less than half of their share, and all of it for those
 * that have none.
 */
static int has_share(const h2x_shares *shares, const h2x_entry *entry,
                     int busy)
{
    if (!entry->inside) {
        return busy < shares->max + shares->spare;
    }
    return busy < shares->max
           || (busy < shares->max + shares->spare / 2
               && 2 * entry->inside < shares->max / shares->sharing);
}

h2x_entry *h2x_shares_next(const h2x_shares *shares, int coming)
{
    int busy = shares->busy + coming;
    h2x_entry *entry = APR_RING_FIRST(&shares->first);

    if (entry != APR_RING_SENTINEL(&shares->first, h2x_entry, turn)
        && has_share(shares, entry, busy)) {
        return entry;
    }
    APR_RING_FOREACH(entry, &shares->others, h2x_entry, turn) {
        if (has_share(shares, entry, busy)) {
            return entry;
        }
    }
    return NULL;
}

int h2x_shares_may_enter(const h2x_shares *shares, const h2x_entry *entry)
{
    const h2x_entry *next = h2x_shares_next(shares, 0);

    return (!next || next == entry) && has_share(shares, entry, shares->busy);
}

void h2x_shares_offer(h2x_shares *shares, h2x_entry *entry)
{
    set_work(shares, entry, entry->offers + 1, entry->inside);
}

int h2x_shares_withdraw(h2x_shares *shares, h2x_entry *entry)
{
    int offers = entry->offers;

    set_work(shares, entry, 0, entry->inside);
    return offers;
}

void h2x_shares_take(h2x_shares *shares, h2x_entry *entry)
{
    set_work(shares, entry, entry->offers - 1, entry->inside + 1);
}

void h2x_shares_enter(h2x_shares *shares, h2x_entry *entry)
{
    set_work(shares, entry, entry->offers, entry->inside + 1);
}

void h2x_shares_leave(h2x_shares *shares, h2x_entry *entry)
{
    set_work(shares, entry, entry->offers, entry->inside - 1);
}
