/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "unit.h"

#include <limits.h>

#include "h2x_guard.h"

#define START ((apr_time_t)1000000 * APR_USEC_PER_SEC)

static h2x_guard guard;

static void begin(int percent, int errors_max)
{
    h2x_guard_init(&guard, percent, errors_max, START);
}

/* Notes an event some seconds after the start, as a session does. */
static int is_stopped_at(h2x_event event, double seconds)
{
    return h2x_guard_note(&guard, event, 1)
           && h2x_guard_is_spent(&guard, h2x_guard_prices[event].budget,
                                 START + (apr_time_t)(seconds * 1000000));
}

static int is_stopped(h2x_event event)
{
    return is_stopped_at(event, 0);
}

/* How many of an event are let pass, at once; at most `max`. */
static int count_allowed(h2x_event event, int max)
{
    int n = 0;

    while (n < max && !is_stopped(event)) {
        ++n;
    }
    return n;
}

static void check_allowed(h2x_event event, int wanted)
{
    begin(100, 8);
    assert_int_equal(count_allowed(event, 100000), wanted);
    assert_true(is_stopped(event));
}

TEST(limits_by_default)
{
    check_allowed(H2X_EVENT_FIELD, 1000);
    check_allowed(H2X_EVENT_OVERSIZE, 512);
    check_allowed(H2X_EVENT_CONTINUATION, 7);
    check_allowed(H2X_EVENT_RESET_EARLY, 1000);
    check_allowed(H2X_EVENT_RESET_LATE, 10000);
    check_allowed(H2X_EVENT_RESET_MADE, 1000);
    check_allowed(H2X_EVENT_REFUSED, 100);
    check_allowed(H2X_EVENT_PING, 1000);
    check_allowed(H2X_EVENT_SETTINGS, 100);
    check_allowed(H2X_EVENT_PRIORITY, 1000);
    check_allowed(H2X_EVENT_WINDOW_UPDATE, 1000);
    check_allowed(H2X_EVENT_UNKNOWN, 1000);
    check_allowed(H2X_EVENT_EMPTY_DATA, 100);
    check_allowed(H2X_EVENT_DRIBBLE, 1000);
    check_allowed(H2X_EVENT_ERROR, 8);
}

TEST(what_stops_has_a_name)
{
    int event;

    for (event = 0; event < H2X_EVENTS; ++event) {
        assert_int_equal(h2x_guard_prices[event].cost > 0,
                         h2x_guard_prices[event].name != NULL);
    }
}

TEST(a_head_begins_anew)
{
    int i;

    begin(100, 8);
    for (i = 0; i < 10; ++i) {
        assert_false(is_stopped(H2X_EVENT_HEAD));
        assert_int_equal(count_allowed(H2X_EVENT_FIELD, 1000), 1000);
    }
    assert_false(is_stopped(H2X_EVENT_HEAD));
    assert_int_equal(count_allowed(H2X_EVENT_CONTINUATION, 9), 7);
    assert_false(is_stopped(H2X_EVENT_HEADERS));
    assert_int_equal(count_allowed(H2X_EVENT_CONTINUATION, 9), 7);
}

TEST(responses_earn_resets)
{
    int i;

    begin(100, 8);
    assert_int_equal(count_allowed(H2X_EVENT_RESET_EARLY, 1000), 1000);
    for (i = 0; i < 100; ++i) {
        assert_false(is_stopped(H2X_EVENT_RESPONSE));
        assert_false(is_stopped(H2X_EVENT_RESPONSE));
        assert_false(is_stopped(H2X_EVENT_RESET_EARLY));
    }
    assert_true(is_stopped(H2X_EVENT_RESET_EARLY));
}

TEST(resets_are_not_saved_up)
{
    begin(100, 8);
    count_allowed(H2X_EVENT_RESPONSE, 100000);
    assert_int_equal(count_allowed(H2X_EVENT_RESET_EARLY, 5000), 1000);
}

/* Many frames may be on their way when the client answers the first of them;
 * what it saves lasts, but is limited. */
TEST(data_may_come_long_before)
{
    begin(100, 8);
    count_allowed(H2X_EVENT_DATA, 2000);
    assert_false(is_stopped_at(H2X_EVENT_DATA, 1000));
    assert_int_equal(count_allowed(H2X_EVENT_WINDOW_UPDATE, 20000), 9004);
    begin(100, 8);
    count_allowed(H2X_EVENT_DATA, 100000);
    assert_int_equal(count_allowed(H2X_EVENT_PING, 20000), 11000);
}

/* As clients do that give credit for each frame, and measure the line. */
TEST(data_earns_control)
{
    int i;

    begin(100, 8);
    for (i = 0; i < 100000; ++i) {
        assert_false(is_stopped(H2X_EVENT_DATA));
        assert_false(is_stopped(H2X_EVENT_WINDOW_UPDATE));
        assert_false(is_stopped(H2X_EVENT_WINDOW_UPDATE));
        assert_false(is_stopped(H2X_EVENT_PING));
    }
}

TEST(dribbling_earns_nothing)
{
    int i = 0;

    begin(100, 8);
    while (i < 10000 && !is_stopped(H2X_EVENT_WINDOW_UPDATE)
           && !is_stopped(H2X_EVENT_DRIBBLE)) {
        ++i;
    }
    assert_int_equal(i, 500);
}

TEST(time_gives_back)
{
    begin(100, 8);
    assert_int_equal(count_allowed(H2X_EVENT_RESET_EARLY, 5000), 1000);
    assert_true(is_stopped_at(H2X_EVENT_RESET_EARLY, 0.01));
    assert_false(is_stopped_at(H2X_EVENT_RESET_EARLY, 1.0));

    begin(100, 8);
    assert_int_equal(count_allowed(H2X_EVENT_PING, 5000), 1000);
    assert_false(is_stopped_at(H2X_EVENT_PING, 5.0));
    assert_int_equal(count_allowed(H2X_EVENT_PING, 498), 498);
    assert_true(is_stopped_at(H2X_EVENT_PING, 5.0));
}

TEST(a_steady_rate_is_allowed)
{
    int i;

    begin(100, 8);
    for (i = 0; i < 100000; ++i) {
        assert_false(is_stopped_at(H2X_EVENT_PING, i / 100.0));
        assert_false(is_stopped_at(H2X_EVENT_RESET_EARLY, i / 33.0));
    }
}

TEST(time_forgives_no_errors)
{
    begin(100, 8);
    assert_int_equal(count_allowed(H2X_EVENT_ERROR, 100), 8);
    assert_true(is_stopped_at(H2X_EVENT_ERROR, 1000000.0));
}

TEST(time_may_go_far)
{
    begin(100, 8);
    assert_int_equal(count_allowed(H2X_EVENT_PING, 5000), 1000);
    assert_false(is_stopped_at(H2X_EVENT_PING, 3e9));
    assert_false(is_stopped_at(H2X_EVENT_RESET_EARLY, 3e9));
}

TEST(percent_of_the_limits)
{
    begin(50, 8);
    assert_int_equal(count_allowed(H2X_EVENT_PING, 5000), 500);
    assert_int_equal(count_allowed(H2X_EVENT_ERROR, 100), 8);
    begin(1000, 3);
    assert_int_equal(count_allowed(H2X_EVENT_PING, 50000), 10000);
    assert_int_equal(count_allowed(H2X_EVENT_ERROR, 100), 3);
    begin(INT_MAX, 8);
    assert_int_equal(count_allowed(H2X_EVENT_PING, 50000), 50000);
}

TEST(no_limits)
{
    int event, i;

    begin(0, 0);
    for (event = 0; event < H2X_EVENTS; ++event) {
        assert_int_equal(count_allowed((h2x_event)event, 100000), 100000);
    }
    /* and none when the account is full to the brim */
    for (i = 0; i < 10000000; ++i) {
        assert_false(is_stopped(H2X_EVENT_REFUSED));
    }
}

/* Since when a client is waited for, after some seconds and bytes. */
static int advance(int seconds, int bytes, int rate)
{
    apr_time_t now = START + apr_time_from_sec(seconds);

    return (int)apr_time_sec(h2x_guard_advance(START, now, bytes, rate)
                             - START);
}

TEST(bytes_buy_time)
{
    assert_int_equal(advance(60, 0, 100), 0);
    assert_int_equal(advance(60, 99, 100), 0);
    assert_int_equal(advance(60, 100, 100), 1);
    assert_int_equal(advance(60, 5000, 100), 50);
    assert_int_equal(advance(60, 6000, 100), 60);
    assert_int_equal(advance(60, 6000000, 100), 60);
    assert_int_equal(advance(60, 1, 0), 60);
    assert_int_equal(advance(0, 5000, 100), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT_TEST(limits_by_default),
        UNIT_TEST(what_stops_has_a_name),
        UNIT_TEST(a_head_begins_anew),
        UNIT_TEST(responses_earn_resets),
        UNIT_TEST(resets_are_not_saved_up),
        UNIT_TEST(data_may_come_long_before),
        UNIT_TEST(data_earns_control),
        UNIT_TEST(dribbling_earns_nothing),
        UNIT_TEST(time_gives_back),
        UNIT_TEST(a_steady_rate_is_allowed),
        UNIT_TEST(time_forgives_no_errors),
        UNIT_TEST(time_may_go_far),
        UNIT_TEST(percent_of_the_limits),
        UNIT_TEST(no_limits),
        UNIT_TEST(bytes_buy_time),
    };

    return UNIT_RUN(tests);
}
