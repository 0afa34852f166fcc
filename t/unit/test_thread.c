/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "unit.h"

#include <apr_thread_proc.h>

#include "h2x_clock.h"
#include "h2x_thread.h"

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
    apr_int64_t used;
    int i;

    assert_int_equal(apr_thread_create(&thread, NULL, wait_for_end, NULL,
                                       unit_pool), APR_SUCCESS);
    unit_await(DESCRIBED, 1);
    for (i = 0; i < TRIES && h2x_thread_is_runnable(&described); ++i) {
        apr_sleep(1000);
    }
    assert_false(h2x_thread_is_runnable(&described));
    used = h2x_thread_used(&described);
    apr_sleep(1000);
    assert_int_equal(h2x_thread_used(&described), used);
    unit_raise(END);
    apr_thread_join(&ignored, thread);
}

#ifdef __linux__
TEST(sees_that_a_thread_computes)
{
    h2x_thread self;
    apr_int64_t used;
    apr_time_t end = h2x_clock_now() + apr_time_from_sec(10);

    h2x_thread_self(&self);
    assert_true(h2x_thread_is_runnable(&self));
    used = h2x_thread_used(&self);
    assert_true(used > 0);
    while (h2x_thread_used(&self) - used < 1000000 && h2x_clock_now() < end) {
        continue;
    }
    assert_true(h2x_thread_used(&self) - used >= 1000000);
}
#endif

/* Where the system does not say, nothing is known of it. */
TEST(knows_nothing_of_no_thread)
{
    h2x_thread none = { 0 };

    assert_false(h2x_thread_is_runnable(&none));
    assert_int_equal(h2x_thread_used(&none), 0);
    none.id = 0x7fffffff;
    assert_false(h2x_thread_is_runnable(&none));
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
        UNIT_TEST(knows_nothing_of_no_thread),
        UNIT_TEST(there_is_a_processor),
    };

    return UNIT_RUN(tests);
}
