/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <apr_atomic.h>

#include "h2x_clock.h"
#include "h2x_times.h"

/* How many ticks go on after the last entry asked for one: to start again costs
 * a system call, and a busy server would make one a request. */
#define IDLE_TICKS 250

/* The interval at which deadlines are looked at, in microseconds. */
#define DEADLINE_STEP (200 * 1000)

void h2x_times_init(h2x_times *times)
{
    APR_RING_INIT(&times->all, h2x_entry, all);
    APR_RING_INIT(&times->ticking, h2x_entry, link);
    APR_RING_INIT(&times->due, h2x_entry, due_link);
    times->idle_ticks = times->timed = 0;
}

void h2x_times_add(h2x_times *times, h2x_entry *entry)
{
    APR_RING_INSERT_TAIL(&times->all, entry, h2x_entry, all);
}

void h2x_times_remove(h2x_entry *entry)
{
    APR_RING_REMOVE(entry, all);
}

/* ---- what is due ---- */

static void add_due(h2x_times *times, h2x_entry *entry, int what)
{
    if (!entry->due) {
        APR_RING_ELEM_INIT(entry, due_link);
        APR_RING_INSERT_TAIL(&times->due, entry, h2x_entry, due_link);
    }
    entry->due |= what;
}

static void remove_due(h2x_entry *entry)
{
    if (entry->due) {
        APR_RING_REMOVE(entry, due_link);
    }
    entry->due = 0;
}

int h2x_times_has_due(const h2x_times *times)
{
    return !APR_RING_EMPTY(&times->due, h2x_entry, due_link);
}

h2x_entry *h2x_times_take(h2x_times *times, int *due)
{
    h2x_entry *entry = APR_RING_FIRST(&times->due);

    *due = entry->due;
    remove_due(entry);
    return entry;
}

void h2x_times_poke(h2x_times *times)
{
    h2x_entry *entry;

    APR_RING_FOREACH(entry, &times->all, h2x_entry, all) {
        add_due(times, entry, H2X_DUE_POKE);
    }
}

/* ---- ticks ---- */

static void link_entry(h2x_times *times, h2x_entry *entry)
{
    APR_RING_INSERT_TAIL(&times->ticking, entry, h2x_entry, link);
    apr_atomic_xchg32(&entry->is_linked, 1);
}

static void unlink_entry(h2x_entry *entry)
{
    if (apr_atomic_xchg32(&entry->is_linked, 0)) {
        APR_RING_REMOVE(entry, link);
    }
}

int h2x_times_set_tick(h2x_entry *entry, apr_time_t at)
{
    apr_atomic_set64(&entry->tick_at, (apr_uint64_t)at);
    /* to add 0 is a barrier, which reading is not */
    return at && !apr_atomic_add32(&entry->is_linked, 0);
}

int h2x_times_link(h2x_times *times, h2x_entry *entry)
{
    if (apr_atomic_read32(&entry->is_linked)) {
        return 0;
    }
    link_entry(times, entry);
    if (!times->idle_ticks) {
        times->next_tick = h2x_clock_now() + H2X_TIMES_TICK;
    }
    times->idle_ticks = IDLE_TICKS;
    return 1;
}

/*
 * Collects those whose tick has come. An entry that has asked for none stays
 * linked until the next tick, since it mostly asks again soon.
 * h2x_times_set_tick() sets the time and then reads the link; this clears the
 * link and then reads the time again, so that one of them sees the other's
 * change.
 */
static void collect_ticking(h2x_times *times, apr_time_t now)
{
    apr_uint64_t at;
    h2x_entry *entry, *next;

    for (entry = APR_RING_FIRST(&times->ticking);
         entry != APR_RING_SENTINEL(&times->ticking, h2x_entry, link);
         entry = next) {
        next = APR_RING_NEXT(entry, link);
        at = apr_atomic_read64(&entry->tick_at);
        if (!at) {
            unlink_entry(entry);
            if (apr_atomic_read64(&entry->tick_at)) {
                link_entry(times, entry);
            }
        }
        else if (at <= (apr_uint64_t)now
                 && apr_atomic_cas64(&entry->tick_at, 0, at) == at) {
            add_due(times, entry, H2X_DUE_TICK);
        }
    }
}

static void tick(h2x_times *times, apr_time_t now)
{
    times->next_tick = now + H2X_TIMES_TICK;
    if (APR_RING_EMPTY(&times->ticking, h2x_entry, link)) {
        --times->idle_ticks;
        return;
    }
    times->idle_ticks = IDLE_TICKS;
    collect_ticking(times, now);
}

/* ---- deadlines ---- */

void h2x_times_set_deadline(h2x_times *times, h2x_entry *entry,
                            apr_time_t deadline)
{
    if (deadline && !times->timed) {
        times->next_step = h2x_clock_now() + DEADLINE_STEP;
    }
    times->timed += (deadline != 0) - (entry->deadline != 0);
    entry->deadline = deadline;
}

static void step(h2x_times *times, apr_time_t now)
{
    h2x_entry *entry;

    times->next_step = now + DEADLINE_STEP;
    APR_RING_FOREACH(entry, &times->all, h2x_entry, all) {
        if (entry->deadline && entry->deadline <= now) {
            h2x_times_set_deadline(times, entry, 0);
            add_due(times, entry, H2X_DUE_DEADLINE);
        }
    }
}

/* ---- both ---- */

void h2x_times_drop(h2x_times *times, h2x_entry *entry)
{
    remove_due(entry);
    unlink_entry(entry);
    h2x_times_set_deadline(times, entry, 0);
}

apr_time_t h2x_times_next(const h2x_times *times)
{
    if (times->idle_ticks && times->timed) {
        return times->next_tick < times->next_step ? times->next_tick
                                                   : times->next_step;
    }
    return times->idle_ticks ? times->next_tick
                             : times->timed ? times->next_step : 0;
}

void h2x_times_collect(h2x_times *times)
{
    apr_time_t now;

    if (!times->idle_ticks && !times->timed) {
        return;
    }
    now = h2x_clock_now();
    if (times->idle_ticks && now >= times->next_tick) {
        tick(times, now);
    }
    if (times->timed && now >= times->next_step) {
        step(times, now);
    }
}
