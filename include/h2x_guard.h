/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * Budgets against abuse: what a client may do, what it costs it, and what work
 * earns it back. Pure; the caller has a lock, and ends the connection when a
 * budget is spent.
 *
 * Each event belongs to one budget. To note one is an addition and a
 * comparison: that time, too, lowers what was spent is found only when a
 * budget seems to be exceeded.
 */
#ifndef H2X_GUARD_H
#define H2X_GUARD_H

#include <apr.h>
#include <apr_time.h>

/** What is limited. */
typedef enum {
    H2X_BUDGET_BLOCK,   /* frames of one request head */
    H2X_BUDGET_HEAD,    /* fields of one request head */
    H2X_BUDGET_OVERSIZE, /* bytes that heads have more than they may */
    H2X_BUDGET_RESETS,  /* streams that end before their response */
    H2X_BUDGET_NOISE,   /* frames that carry no request and no body */
    H2X_BUDGET_ERRORS,  /* streams lost by errors (H2MaxStreamErrors) */
    H2X_BUDGETS
} h2x_budget;

/** What is counted. */
typedef enum {
    H2X_EVENT_NONE,
    H2X_EVENT_HEADERS,
    H2X_EVENT_CONTINUATION,
    H2X_EVENT_HEAD,          /* a head begins */
    H2X_EVENT_FIELD,
    H2X_EVENT_OVERSIZE,      /* 16 KB more than a head may have */
    H2X_EVENT_RESET_EARLY,   /* by the client, before there is a response */
    H2X_EVENT_RESET_LATE,    /* by the client, afterwards */
    H2X_EVENT_RESET_MADE,    /* by the server, which had to */
    H2X_EVENT_REFUSED,       /* a stream, before anything was done for it */
    H2X_EVENT_RESPONSE,      /* one was sent to its end */
    H2X_EVENT_PING,
    H2X_EVENT_SETTINGS,
    H2X_EVENT_PRIORITY,
    H2X_EVENT_WINDOW_UPDATE,
    H2X_EVENT_STRAY_HEAD,    /* for a stream that is closed */
    H2X_EVENT_UNKNOWN,       /* a frame of any other type */
    H2X_EVENT_EMPTY_DATA,
    H2X_EVENT_DRIBBLE,       /* a DATA frame that a small window cut short */
    H2X_EVENT_DATA,          /* any other DATA frame sent */
    H2X_EVENT_ERROR,         /* an error that cost the client a stream */
    H2X_EVENTS
} h2x_event;

/** What an event costs; less than 0: what it gives back. */
typedef struct h2x_price {
    const char *name;   /* of the events, for the log; NULL: is no offence */
    h2x_budget budget;
    int cost;
} h2x_price;

extern const h2x_price h2x_guard_prices[H2X_EVENTS];

/** The account of one connection. */
typedef struct h2x_guard {
    int spent[H2X_BUDGETS];
    int limit[H2X_BUDGETS];
    int least[H2X_BUDGETS]; /* below 0: what may be saved */
    apr_time_t since;   /* what time has given back is subtracted up to here */
} h2x_guard;

/**
 * Opens an account.
 * @param percent of the limits that hold by default, but for errors; 0: none
 * @param errors_max that limit; 0: none
 */
void h2x_guard_init(h2x_guard *guard, int percent, int errors_max,
                    apr_time_t now);

/**
 * Notes so many of an event.
 * @return whether its budget is exceeded, if time has given back nothing:
 *         h2x_guard_is_spent() knows
 */
static APR_INLINE int h2x_guard_note(h2x_guard *guard, h2x_event event,
                                     int count)
{
    const h2x_price *price = &h2x_guard_prices[event];
    int spent = guard->spent[price->budget] + count * price->cost;

    guard->spent[price->budget] = (spent > guard->least[price->budget])
                                  ? spent : guard->least[price->budget];
    return spent > guard->limit[price->budget];
}

/** Tells whether a budget is exceeded. */
int h2x_guard_is_spent(h2x_guard *guard, h2x_budget budget, apr_time_t now);

/**
 * Moves on the time since which a client has been waited for that has to send
 * or take a body, by as much as some bytes are worth.
 * @param rate bytes a second that are expected; 0: any
 * @return the new time, at most now
 */
apr_time_t h2x_guard_advance(apr_time_t since, apr_time_t now, apr_size_t bytes,
                             int rate);

#endif /* H2X_GUARD_H */
