/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * Budgets against abuse: the events that a client may cause, what each costs,
 * and what refills the budgets. Pure. The caller holds a lock, and closes the
 * connection when a budget is exceeded.
 *
 * Each event belongs to one budget. Noting one takes an addition and a
 * comparison. The refill by time is computed only when a budget would be
 * exceeded without it.
 */
#ifndef H2X_GUARD_H
#define H2X_GUARD_H

#include <apr.h>
#include <apr_time.h>

/** What is limited. */
typedef enum {
    H2X_BUDGET_BLOCK,   /* frames of one field block */
    H2X_BUDGET_HEAD,    /* fields of one field section */
    H2X_BUDGET_OVERSIZE, /* bytes of field sections beyond their limit */
    H2X_BUDGET_RESETS,  /* streams that end before their response */
    H2X_BUDGET_NOISE,   /* frames that carry no request and no body */
    H2X_BUDGET_ERRORS,  /* stream errors (H2MaxStreamErrors) */
    H2X_BUDGETS
} h2x_budget;

/** What is counted. */
typedef enum {
    H2X_EVENT_NONE,
    H2X_EVENT_HEADERS,
    H2X_EVENT_CONTINUATION,
    H2X_EVENT_HEAD,          /* a field section begins */
    H2X_EVENT_FIELD,
    H2X_EVENT_OVERSIZE,      /* 16 KB of a field section beyond its limit */
    H2X_EVENT_RESET_EARLY,   /* by the client, before there is a response */
    H2X_EVENT_RESET_LATE,    /* by the client, afterwards */
    H2X_EVENT_RESET_MADE,    /* by the server, for an error of the client */
    H2X_EVENT_REFUSED,       /* a stream, before its request was processed */
    H2X_EVENT_RESPONSE,      /* a response was sent completely */
    H2X_EVENT_PING,
    H2X_EVENT_SETTINGS,
    H2X_EVENT_PRIORITY,
    H2X_EVENT_WINDOW_UPDATE,
    H2X_EVENT_STRAY_HEAD,    /* HEADERS for a closed stream */
    H2X_EVENT_UNKNOWN,       /* a frame of any other type */
    H2X_EVENT_EMPTY_DATA,
    H2X_EVENT_DRIBBLE,       /* a DATA frame shortened by a small window */
    H2X_EVENT_DATA,          /* any other DATA frame sent */
    H2X_EVENT_ERROR,         /* a stream error (RFC 9113, section 5.4.2) */
    H2X_EVENTS
} h2x_event;

/** What an event costs; negative: how much it refills. */
typedef struct h2x_price {
    const char *name;   /* of the events, for the log; NULL: it never exceeds */
    h2x_budget budget;
    int cost;
} h2x_price;

extern const h2x_price h2x_guard_prices[H2X_EVENTS];

/** The account of one connection. */
typedef struct h2x_guard {
    int spent[H2X_BUDGETS];
    int limit[H2X_BUDGETS];
    int least[H2X_BUDGETS]; /* the least value of `spent`, 0 or negative */
    apr_time_t since;   /* the refill by time is applied up to here */
} h2x_guard;

/**
 * Initializes the account of a connection.
 * @param percent of the default limits (H2Guard), except that of errors; 0: no
 *        limits
 * @param errors_max the limit of errors (H2MaxStreamErrors); 0: no limit
 */
void h2x_guard_init(h2x_guard *guard, int percent, int errors_max,
                    apr_time_t now);

/**
 * Notes a number of events of one kind.
 * @return nonzero if the budget is exceeded without the refill by time; then
 *         h2x_guard_is_spent() decides
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

/** Applies the refill by time. Returns nonzero if a budget is exceeded. */
int h2x_guard_is_spent(h2x_guard *guard, h2x_budget budget, apr_time_t now);

/**
 * Credits a client for bytes of a body that it has sent or received.
 * @param since the time since which the server waits for the client
 * @param rate bytes a second that are required (H2MinRate); 0: any
 * @return `since`, advanced by the time that the bytes may take, at most to now
 */
apr_time_t h2x_guard_advance(apr_time_t since, apr_time_t now, apr_size_t bytes,
                             int rate);

#endif /* H2X_GUARD_H */
