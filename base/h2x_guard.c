/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <limits.h>
#include <string.h>

#include "h2x_guard.h"

/* More than any limit: begins anew. */
#define ALL (INT_MAX / 4)

/* The budgets: how much may be spent, what a second gives back, and how much
 * may be saved: what a client answers to was sent before, and may be much. */
static const struct {
    int limit;
    int refill;
    int saved;
} budgets[H2X_BUDGETS] = {
    [H2X_BUDGET_BLOCK] = { 7, 0, 0 },
    [H2X_BUDGET_HEAD] = { 1000, 0, 0 },
    [H2X_BUDGET_OVERSIZE] = { 512, 512, 0 }, /* 8 MB */
    [H2X_BUDGET_RESETS] = { 10000, 330, 0 },
    [H2X_BUDGET_NOISE] = { 1000, 100, 10000 },
    [H2X_BUDGET_ERRORS] = { 0, 0, 0 }, /* H2MaxStreamErrors */
};

/*
 * The prices. 8 frames hold more than the fields of a head may take. A client
 * may reset 1000 requests before it gets a response, and 33 each second, and
 * half of what it has had responses for; 10,000 afterwards, as pages do with
 * event streams. It has four frames of control for each DATA frame that it
 * gets, which is two WINDOW_UPDATE, a PING to measure the line, and one to
 * spare.
 */
const h2x_price h2x_guard_prices[H2X_EVENTS] = {
    [H2X_EVENT_NONE] = { NULL, H2X_BUDGET_HEAD, 0 },
    [H2X_EVENT_HEADERS] = { NULL, H2X_BUDGET_BLOCK, -ALL },
    [H2X_EVENT_CONTINUATION] = { "CONTINUATION frames of one head",
                                 H2X_BUDGET_BLOCK, 1 },
    [H2X_EVENT_HEAD] = { NULL, H2X_BUDGET_HEAD, -ALL },
    [H2X_EVENT_FIELD] = { "fields of one head", H2X_BUDGET_HEAD, 1 },
    [H2X_EVENT_OVERSIZE] = { "bytes in heads that are too large",
                             H2X_BUDGET_OVERSIZE, 1 },
    [H2X_EVENT_RESET_EARLY] = { "requests reset before their response",
                                H2X_BUDGET_RESETS, 10 },
    [H2X_EVENT_RESET_LATE] = { "responses reset", H2X_BUDGET_RESETS, 1 },
    [H2X_EVENT_RESET_MADE] = { "streams that had to be reset",
                               H2X_BUDGET_RESETS, 10 },
    [H2X_EVENT_REFUSED] = { "streams that had to be refused",
                            H2X_BUDGET_RESETS, 100 },
    [H2X_EVENT_RESPONSE] = { NULL, H2X_BUDGET_RESETS, -5 },
    [H2X_EVENT_PING] = { "PING frames", H2X_BUDGET_NOISE, 1 },
    [H2X_EVENT_SETTINGS] = { "SETTINGS frames", H2X_BUDGET_NOISE, 10 },
    [H2X_EVENT_PRIORITY] = { "priority signals", H2X_BUDGET_NOISE, 1 },
    [H2X_EVENT_WINDOW_UPDATE] = { "WINDOW_UPDATE frames",
                                  H2X_BUDGET_NOISE, 1 },
    [H2X_EVENT_STRAY_HEAD] = { "heads for closed streams",
                               H2X_BUDGET_NOISE, 1 },
    [H2X_EVENT_UNKNOWN] = { "frames of unknown types", H2X_BUDGET_NOISE, 1 },
    [H2X_EVENT_EMPTY_DATA] = { "empty DATA frames", H2X_BUDGET_NOISE, 10 },
    [H2X_EVENT_DRIBBLE] = { "windows of a few bytes", H2X_BUDGET_NOISE, 1 },
    [H2X_EVENT_DATA] = { NULL, H2X_BUDGET_NOISE, -4 },
    [H2X_EVENT_ERROR] = { "stream errors", H2X_BUDGET_ERRORS, 1 },
};

void h2x_guard_init(h2x_guard *guard, int percent, int errors_max,
                    apr_time_t now)
{
    int i;

    memset(guard, 0, sizeof(*guard));
    guard->since = now;
    for (i = 0; i < H2X_BUDGETS; ++i) {
        apr_int64_t limit = (apr_int64_t)budgets[i].limit * percent / 100;

        guard->limit[i] = (percent && limit < ALL) ? (int)limit : ALL;
        guard->least[i] = -budgets[i].saved;
    }
    guard->limit[H2X_BUDGET_ERRORS]
        = (errors_max && errors_max < ALL) ? errors_max : ALL;
}

/* Subtracts what time has given back. */
static void refill(h2x_guard *guard, apr_time_t now)
{
    apr_interval_time_t passed = now - guard->since;
    int i;

    guard->since = now;
    for (i = 0; i < H2X_BUDGETS; ++i) {
        apr_int64_t back = apr_time_sec(passed * budgets[i].refill);

        if (guard->spent[i] > 0) {
            guard->spent[i] = (back < guard->spent[i])
                ? guard->spent[i] - (int)back : 0;
        }
    }
}

int h2x_guard_is_spent(h2x_guard *guard, h2x_budget budget, apr_time_t now)
{
    refill(guard, now);
    if (guard->spent[budget] > ALL) {
        guard->spent[budget] = ALL; /* there is no limit to this one */
    }
    return guard->spent[budget] > guard->limit[budget];
}

apr_time_t h2x_guard_advance(apr_time_t since, apr_time_t now, apr_size_t bytes,
                             int rate)
{
    if (rate) {
        since += (apr_time_t)bytes * APR_USEC_PER_SEC / rate;
    }
    return (rate && since < now) ? since : now;
}
