/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <limits.h>
#include <string.h>

#include "h2x_guard.h"

/* More than any limit. An event that costs -ALL resets its budget. */
#define ALL (INT_MAX / 4)

/* The budgets: how much may be spent, how much is refilled each second, and how
 * much below 0 it may go, as a client may answer many frames at once that were
 * sent to it before. */
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
 * The prices. A field block may have 7 CONTINUATION frames: 8 frames have
 * space for more fields than the limits allow. A client may reset 1000 requests
 * before their response, 33 more each second, and one more for every two
 * responses. It may reset ten times as many after their response has begun, as
 * pages do with event streams. For each DATA frame it may send four control
 * frames: two WINDOW_UPDATE, a PING to measure the round trip, and one more.
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

/* Refills the budgets by the time that has passed. */
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
        guard->spent[budget] = ALL; /* this budget has no limit */
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
