/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "unit.h"

#include <httpd.h>
#include <http_log.h>

#include "h2x.h"
#include "h2x_lock.h"

static server_rec server = { .log = { .level = APLOG_INFO } };
static conn_rec c1 = { .base_server = &server, .log_id = "id" };
static h2x_lock *lock;

/* Takes the lock, and logs so many lines. */
static void begin(int count)
{
    int i;

    if (!lock) {
        lock = unit_lock();
    }
    h2x_lock_acquire(lock);
    for (i = 0; i < count; ++i) {
        h2x_log_locked(lock, APLOG_INFO, 0, &c1, "line %d", i);
    }
}

static int forget_lock(void **state)
{
    lock = NULL;
    unit_on_log = NULL;
    return unit_teardown(state);
}

TEST(lines_are_written_when_the_lock_is_freed)
{
    begin(2);
    assert_int_equal(unit_log_count, 0);
    h2x_lock_release(lock);
    assert_int_equal(unit_log_count, 2);
    assert_string_equal(unit_log_line, "line 1");
    h2x_lock_acquire(lock);
    h2x_lock_release(lock);
    assert_int_equal(unit_log_count, 2);
}

TEST(what_the_level_leaves_out_is_not_kept)
{
    begin(0);
    h2x_log_locked(lock, APLOG_DEBUG, 0, &c1, "line");
    assert_false(h2x_lock_has_lines(lock));
    h2x_lock_release(lock);
    assert_int_equal(unit_log_count, 0);
}

TEST(too_many_lines_are_counted)
{
    begin(H2X_LINES_MAX);
    h2x_lock_release(lock);
    assert_int_equal(unit_log_count, H2X_LINES_MAX);
    assert_string_equal(unit_log_line, "line 63");
    begin(H2X_LINES_MAX + 7);
    h2x_lock_release(lock);
    assert_int_equal(unit_log_count, 2 * H2X_LINES_MAX + 1);
    assert_string_equal(unit_log_line,
                        "h2x(id): 7 more lines, which are not logged");
    begin(1);
    h2x_lock_release(lock);
    assert_string_equal(unit_log_line, "line 0");
}

TEST(who_waits_writes_lines_first)
{
    apr_thread_cond_t *cond;

    apr_thread_cond_create(&cond, unit_pool);
    begin(1);
    assert_int_equal(h2x_lock_wait(lock, cond, -1), APR_SUCCESS);
    assert_int_equal(unit_log_count, 1);
    h2x_lock_check(lock);
    assert_int_equal(h2x_lock_wait(lock, cond, 1000), APR_TIMEUP);
    h2x_lock_release(lock);
    assert_int_equal(unit_log_count, 1);
}

/* Another thread comes while a line is written. */
static void come(void)
{
    assert_true(h2x_lock_try(lock));
    if (unit_log_count == 1) {
        h2x_log_locked(lock, APLOG_INFO, 0, &c1, "another line");
        assert_false(h2x_lock_has_lines(lock));
    }
    h2x_lock_release(lock);
}

TEST(the_lock_is_free_while_one_thread_writes)
{
    unit_on_log = come;
    begin(1);
    h2x_lock_release(lock);
    assert_int_equal(unit_log_count, 2);
    assert_string_equal(unit_log_line, "another line");
}

#define WITH_LOCK(name) \
    cmocka_unit_test_setup_teardown(name, unit_setup, forget_lock)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_LOCK(lines_are_written_when_the_lock_is_freed),
        WITH_LOCK(what_the_level_leaves_out_is_not_kept),
        WITH_LOCK(too_many_lines_are_counted),
        WITH_LOCK(who_waits_writes_lines_first),
        WITH_LOCK(the_lock_is_free_while_one_thread_writes),
    };

    return UNIT_RUN(tests);
}
