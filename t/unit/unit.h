/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* What unit tests share. Include it first. */
#ifndef H2X_UNIT_H
#define H2X_UNIT_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <apr_pools.h>
#include <apr_thread_cond.h>
#include <apr_thread_mutex.h>
#include <apr_time.h>

#include "h2x_conf.h"
#include "h2x_lock.h"
#include "h2x_stream.h"

/** The head of a test function. */
#define TEST(name) static void name(void **unused __attribute__((unused)))

/** Says that a function's argument is not used. */
#define UNUSED __attribute__((unused))

/** cmocka 2 has deprecated its own, and what it has instead is not in 1. */
#undef assert_in_range
#define assert_in_range(value, least, most) \
    assert_true(unit_is_in_range(value, least, most))
static inline int unit_is_in_range(intmax_t value, intmax_t least,
                                   intmax_t most)
{
    return value >= least && value <= most;
}

/** Runs tests, each with a fresh unit_pool. For main(). */
#define UNIT_RUN(tests) \
    (unit_begin(), \
     unit_end(cmocka_run_group_tests(tests, NULL, NULL)))
#define UNIT_TEST(name) \
    cmocka_unit_test_setup_teardown(name, unit_setup_alone, unit_teardown)

/** A pool that is destroyed after the test. */
extern apr_pool_t *unit_pool;

/** What h2x_conf_get() returns; all 0 before each test. */
extern apr_int64_t unit_conf[H2X_CONF_COUNT];

/** What h2x_conf_push_order() returns. */
extern h2x_push_order unit_push_order;

/** What was logged in this test: how many lines, and the last of them. */
extern int unit_log_count;
extern char unit_log_line[512];

/** Called when a line of a connection was logged, if it is set. */
extern void (*unit_on_log)(void);

/** Lets the start of threads fail; atomic. */
extern apr_uint32_t unit_no_threads;

void unit_begin(void);
int unit_end(int failed);
int unit_setup(void **state);
int unit_setup_alone(void **state);
int unit_teardown(void **state);

/** A session's lock, made from unit_pool. */
h2x_lock *unit_lock(void);

/** A store that nobody trims, likewise; NULL when it cannot be made. */
h2x_stream_store *unit_store(void);

/*
 * Counters that threads raise and a test waits for, or lets threads wait for.
 * They are 0 before each test.
 */
#define UNIT_COUNTERS 16
void unit_raise(int counter);
int unit_value(int counter);

/** Waits until a counter is that high. Returns 0 when it takes too long. */
int unit_await(int counter, int high);

/** How many threads this process has. */
int unit_threads(void);

/** Waits until the process has just so many threads. */
int unit_await_threads(int count);

#endif /* H2X_UNIT_H */
