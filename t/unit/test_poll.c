/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "unit.h"

#include <sys/socket.h>
#include <unistd.h>

#include <apr_thread_proc.h>

#include "h2x_clock.h"
#include "../../engine/h2x_poll.h"

#define FOREVER (-1)
#define LONG apr_time_from_sec(20)
#define WAITERS 4

/* Counters; those after FOUND are for an id each. */
enum { BEGUN, NONE, FOUND };

static h2x_poll *poll;
static int fds[2];

static int make_set(void **state)
{
    return unit_setup_alone(state)
           || h2x_poll_create(&poll, unit_pool) != APR_SUCCESS
           || socketpair(AF_UNIX, SOCK_STREAM, 0, fds);
}

static int close_all(void **state)
{
    close(fds[0]);
    close(fds[1]);
    return unit_teardown(state);
}

static void set(int events, apr_uint32_t id)
{
    assert_int_equal(h2x_poll_set(poll, fds[0], (apr_int16_t)events, id),
                     APR_SUCCESS);
}

static void say(void)
{
    assert_int_equal(write(fds[1], "x", 1), 1);
}

static apr_uint32_t look(void)
{
    return h2x_poll_wait(poll, 0);
}

/* ---- threads that wait ---- */

static void *APR_THREAD_FUNC wait_once(apr_thread_t *thread UNUSED,
                                       void *baton UNUSED)
{
    apr_uint32_t id;

    unit_raise(BEGUN);
    id = h2x_poll_wait(poll, FOREVER);
    unit_raise(id ? FOUND + (int)id : NONE);
    return NULL;
}

static void start_waiters(apr_thread_t **waiters)
{
    int i;

    for (i = 0; i < WAITERS; ++i) {
        assert_int_equal(apr_thread_create(&waiters[i], NULL, wait_once, NULL,
                                           unit_pool), APR_SUCCESS);
    }
    assert_true(unit_await(BEGUN, WAITERS));
}

/* Two wakes may be one, if nobody has come between. */
static void end_waiters(apr_thread_t **waiters, int left)
{
    int none = unit_value(NONE), i;
    apr_status_t ignored;

    for (i = 1; i <= left; ++i) {
        h2x_poll_wake(poll);
        assert_true(unit_await(NONE, none + i));
    }
    assert_int_equal(unit_value(NONE), none + left);
    for (i = 0; i < WAITERS; ++i) {
        apr_thread_join(&ignored, waiters[i]);
    }
}

/* ---- events ---- */

TEST(one_event_once)
{
    assert_int_equal(look(), 0);
    set(APR_POLLIN, 7);
    assert_int_equal(look(), 0);
    say();
    assert_int_equal(look(), 7);
    assert_int_equal(look(), 0);
    say();
    assert_int_equal(look(), 0);
    set(APR_POLLIN, 8);
    assert_int_equal(h2x_poll_wait(poll, LONG), 8);
    assert_int_equal(look(), 0);
}

TEST(events_that_are_asked_for)
{
    set(APR_POLLOUT, 1);
    assert_int_equal(look(), 1);
    say();
    set(APR_POLLOUT, 2);
    assert_int_equal(look(), 2);
    set(APR_POLLIN, 3);
    assert_int_equal(look(), 3);
    set(APR_POLLIN | APR_POLLOUT, 4);
    assert_int_equal(look(), 4);
}

TEST(replaced)
{
    set(APR_POLLIN, 1);
    set(APR_POLLOUT, 2);
    assert_int_equal(look(), 2);
    set(APR_POLLOUT, 3);
    set(APR_POLLIN, 4);
    assert_int_equal(look(), 0);
    say();
    assert_int_equal(look(), 4);
    set(APR_POLLIN, 5);     /* it is known to be ready */
    set(APR_POLLIN, 6);
    assert_int_equal(look(), 6);
    assert_int_equal(look(), 0);
}

TEST(taken_back)
{
    set(0, 1);              /* it is not in */
    say();
    set(APR_POLLIN, 2);
    set(0, 2);
    assert_int_equal(look(), 0);
    set(0, 2);
    set(APR_POLLIN, 3);
    assert_int_equal(look(), 3);
    set(0, 3);
    assert_int_equal(look(), 0);
}

TEST(failure)
{
    set(APR_POLLIN, 1);
    assert_int_equal(shutdown(fds[1], SHUT_RDWR), 0);
    assert_int_equal(h2x_poll_wait(poll, LONG), 1);
    assert_int_equal(look(), 0);
}

TEST(removed)
{
    int other;

    h2x_poll_remove(poll, fds[0]);      /* it is not in */
    say();
    set(APR_POLLIN, 1);
    h2x_poll_remove(poll, fds[0]);
    assert_int_equal(look(), 0);
    h2x_poll_remove(poll, fds[0]);
    set(APR_POLLIN, 2);
    assert_int_equal(look(), 2);
    /* another one of the same number */
    h2x_poll_remove(poll, fds[0]);
    other = dup(fds[1]);
    assert_int_equal(dup2(other, fds[0]), fds[0]);
    close(other);
    assert_int_equal(look(), 0);
    set(APR_POLLOUT, 3);
    assert_int_equal(look(), 3);
}

TEST(no_descriptor)
{
    int closed = dup(fds[0]);

    close(closed);
    assert_int_not_equal(h2x_poll_set(poll, closed, APR_POLLIN, 1),
                         APR_SUCCESS);
    assert_int_not_equal(h2x_poll_set(poll, -1, APR_POLLIN, 1), APR_SUCCESS);
    h2x_poll_remove(poll, closed);
    assert_int_equal(look(), 0);
}

TEST(many_descriptors)
{
    int all[200][2], seen[200] = { 0 }, i;
    apr_uint32_t id;

    for (i = 0; i < 200; ++i) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, all[i]), 0);
        assert_int_equal(h2x_poll_set(poll, all[i][0], APR_POLLIN,
                                      (apr_uint32_t)i + 1), APR_SUCCESS);
    }
    for (i = 0; i < 200; i += 2) {
        assert_int_equal(write(all[i][1], "x", 1), 1);
    }
    for (i = 0; i < 100; ++i) {
        id = look();
        assert_in_range(id, 1, 200);
        assert_int_equal(seen[id - 1]++, 0);
        assert_int_equal(id % 2, 1);
    }
    assert_int_equal(look(), 0);
    for (i = 0; i < 200; ++i) {
        h2x_poll_remove(poll, all[i][0]);
        close(all[i][0]);
        close(all[i][1]);
    }
}

/* ---- waiting ---- */

TEST(waits_for_so_long)
{
    apr_time_t begun = h2x_clock_now();

    assert_int_equal(h2x_poll_wait(poll, 20100), 0);
    assert_true(h2x_clock_now() - begun >= 20100);
    assert_int_equal(h2x_poll_wait(poll, 1), 0);
}

TEST(event_for_one_of_several)
{
    apr_thread_t *waiters[WAITERS];

    start_waiters(waiters);
    set(APR_POLLIN, 1);
    say();
    assert_true(unit_await(FOUND + 1, 1));
    say();
    apr_sleep(20000);
    assert_int_equal(unit_value(FOUND + 1), 1);
    assert_int_equal(unit_value(NONE), 0);
    set(APR_POLLIN, 2);
    assert_true(unit_await(FOUND + 2, 1));
    apr_sleep(20000);
    assert_int_equal(unit_value(FOUND + 1) + unit_value(FOUND + 2), 2);
    end_waiters(waiters, WAITERS - 2);
}

TEST(events_for_several)
{
    apr_thread_t *waiters[WAITERS];

    start_waiters(waiters);
    say();
    assert_int_equal(write(fds[0], "x", 1), 1);
    set(APR_POLLIN, 1);
    assert_int_equal(h2x_poll_set(poll, fds[1], APR_POLLIN, 2), APR_SUCCESS);
    assert_true(unit_await(FOUND + 1, 1));
    assert_true(unit_await(FOUND + 2, 1));
    end_waiters(waiters, WAITERS - 2);
}

/* ---- waking ---- */

TEST(woken_while_waiting)
{
    apr_thread_t *waiters[WAITERS];

    start_waiters(waiters);
    end_waiters(waiters, WAITERS);
    assert_int_equal(look(), 0);
}

TEST(woken_before)
{
    apr_time_t begun = h2x_clock_now();

    h2x_poll_wake(poll);
    assert_int_equal(h2x_poll_wait(poll, LONG), 0);
    assert_true(h2x_clock_now() - begun < LONG);
    /* once only */
    assert_int_equal(h2x_poll_wait(poll, 20000), 0);
    assert_true(h2x_clock_now() - begun >= 20000);
}

TEST(woken_more_than_once)
{
    apr_time_t begun = h2x_clock_now();
    int i;

    for (i = 0; i < 1000; ++i) {
        h2x_poll_wake(poll);
    }
    assert_int_equal(h2x_poll_wait(poll, LONG), 0);
    h2x_poll_wake(poll);
    assert_int_equal(h2x_poll_wait(poll, LONG), 0);
    assert_true(h2x_clock_now() - begun < LONG);
}

/* A wake-up takes no event away. */
TEST(woken_beside_an_event)
{
    apr_uint32_t first, second;

    set(APR_POLLOUT, 1);
    h2x_poll_wake(poll);
    first = h2x_poll_wait(poll, LONG);
    second = h2x_poll_wait(poll, LONG);
    assert_int_equal(first + second, 1);
}

#define POLL_TEST(name) \
    cmocka_unit_test_setup_teardown(name, make_set, close_all)

int main(void)
{
    const struct CMUnitTest tests[] = {
        POLL_TEST(one_event_once),
        POLL_TEST(events_that_are_asked_for),
        POLL_TEST(replaced),
        POLL_TEST(taken_back),
        POLL_TEST(failure),
        POLL_TEST(removed),
        POLL_TEST(no_descriptor),
        POLL_TEST(many_descriptors),
        POLL_TEST(waits_for_so_long),
        POLL_TEST(event_for_one_of_several),
        POLL_TEST(events_for_several),
        POLL_TEST(woken_while_waiting),
        POLL_TEST(woken_before),
        POLL_TEST(woken_more_than_once),
        POLL_TEST(woken_beside_an_event),
    };

    return UNIT_RUN(tests);
}
