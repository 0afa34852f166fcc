/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "unit.h"

#include <apr_thread_proc.h>

#include "h2x_clock.h"
#include "../../engine/h2x_thread.h"

/* Counters */
enum { DESCRIBED, END };

#define TRIES 1000

static h2x_thread described;

static void *APR_THREAD_FUNC wait_for_end(apr_thread_t *thread UNUSED,
                                          void *baton UNUSED)
{
    h2x_thread_self(&described);
    unit_raise(DESCRIBED);
    unit_await(END, 1);
    return NULL;
}

/* A thread that waits is found not to be runnable, and uses no processor. */
TEST(sees_that_a_thread_waits)
{
    apr_thread_t *thread;
    apr_status_t ignored;
    h2x_thread_look first, last, now;
    int i;

    assert_int_equal(apr_thread_create(&thread, NULL, wait_for_end, NULL,
                                       unit_pool), APR_SUCCESS);
    unit_await(DESCRIBED, 1);
    h2x_thread_look_at(&described, &first);
    last = first;
    for (i = 0; i < TRIES; ++i) {
        apr_sleep(1000);
        h2x_thread_look_at(&described, &now);
        if (h2x_thread_waits(&first, &last, &now)) {
            break;
        }
        last = now;
    }
    assert_true(i < TRIES);
    unit_raise(END);
    apr_thread_join(&ignored, thread);
}

#ifdef __linux__
TEST(sees_that_a_thread_computes)
{
    h2x_thread self;
    h2x_thread_look first, now;
    apr_time_t end = h2x_clock_now() + apr_time_from_sec(10);

    h2x_thread_self(&self);
    h2x_thread_look_at(&self, &first);
    assert_true(first.state == 'R' && first.used > 0 && first.delayed >= 0);
    do {
        h2x_thread_look_at(&self, &now);
    } while (now.used - first.used < 1000000 && now.at < end);
    assert_true(now.used - first.used >= 1000000);
    assert_true(now.at > first.at && now.delayed >= first.delayed);
    assert_false(h2x_thread_waits(&first, &first, &now));
}
#endif

static int waits(apr_interval_time_t passed, apr_int64_t used,
                 apr_int64_t delayed, char state)
{
    h2x_thread_look first = { 1000000, 5000000, 7000000, 'S' }, last = first;
    h2x_thread_look now = { 1000000 + passed, 5000000 + used,
                            7000000 + delayed, state };

    last.used += 1;
    return h2x_thread_waits(&first, &last, &now);
}

/* A thread that sleeps again and again waits too, but not one that is rarely
 * given a processor. */
TEST(little_of_the_time_is_waiting)
{
    assert_true(waits(20000, 1000, 1000, 'S'));
    assert_false(waits(20000, 1000, 1000, 'R'));      /* it runs now */
    assert_false(waits(20000, 1000, 10000000, 'S'));  /* it stood in line */
    assert_false(waits(20000, 10000000, 1000, 'S'));  /* it computed */
    assert_false(waits(3000, 1000, 1000, 'S'));       /* for a moment */
    assert_true(waits(3000, 1, 1000, 'S'));           /* it has not run */
    assert_false(waits(20000, 1000, -7000001, 'S'));  /* it is not known */
    assert_false(waits(20000, 1, 1000, 'D'));         /* for memory */
    assert_true(waits(60000, 1000, 1000, 'D'));       /* for a disk */
}

/* Where the system does not say, nothing is known of it. */
TEST(knows_nothing_of_no_thread)
{
    h2x_thread none = { 0 };
    h2x_thread_look look;

    h2x_thread_look_at(&none, &look);
    assert_true(!look.state && !look.used && look.delayed == -1);
    none.id = 0x7fffffff;
    h2x_thread_look_at(&none, &look);
    assert_true(!look.state && look.delayed == -1);
}

TEST(there_is_a_processor)
{
    assert_true(h2x_thread_processors() >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT_TEST(sees_that_a_thread_waits),
#ifdef __linux__
        UNIT_TEST(sees_that_a_thread_computes),
#endif
        UNIT_TEST(little_of_the_time_is_waiting),
        UNIT_TEST(knows_nothing_of_no_thread),
        UNIT_TEST(there_is_a_processor),
    };

    return UNIT_RUN(tests);
}
