/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "unit.h"

#include <httpd.h>

#include "h2x_c2_pool.h"

#define KEPT 4
#define MANY 20

static h2x_c2_pools *pools;
static int widened; /* how often the pools were to be trimmed */

static void on_wide(void *baton)
{
    assert_ptr_equal(baton, &widened);
    ++widened;
}

static int make_pools(void **state)
{
    int rv = unit_setup(state);

    widened = 0;
    return rv || h2x_c2_pools_create(&pools, KEPT, on_wide, &widened,
                                     unit_pool) != APR_SUCCESS;
}

/* Takes some, and gives them back; returns the last one. */
static h2x_c2_pool *use(int count)
{
    h2x_c2_pool *taken[MANY];
    int i;

    for (i = 0; i < count; ++i) {
        taken[i] = h2x_c2_pools_get(pools);
        assert_non_null(taken[i]);
        apr_palloc(taken[i]->pool, 10);
    }
    for (i = 0; i < count; ++i) {
        apr_pool_clear(taken[i]->pool);
        h2x_c2_pools_put(pools, taken[i]);
    }
    return taken[count - 1];
}

TEST(last_one_is_used_first)
{
    h2x_c2_pool *last = use(3), *taken = h2x_c2_pools_get(pools);

    assert_ptr_equal(taken, last);
    h2x_c2_pools_put(pools, taken);
    assert_ptr_equal(use(1), last);
}

/* APR needs the first, threads the second. */
TEST(each_has_a_parent_and_an_allocator)
{
    h2x_c2_pool *one = h2x_c2_pools_get(pools);
    h2x_c2_pool *other = h2x_c2_pools_get(pools);

    assert_non_null(apr_pool_parent_get(one->pool));
    assert_ptr_not_equal(apr_pool_allocator_get(one->pool),
                         apr_pool_allocator_get(other->pool));
    assert_ptr_equal(apr_allocator_owner_get(
                         apr_pool_allocator_get(one->pool)), one->pool);
    h2x_c2_pools_put(pools, one);
    h2x_c2_pools_put(pools, other);
}

/* As many may keep much memory as twice the threads, in use or not. */
TEST(few_keep_much)
{
    h2x_c2_pool *taken[MANY];
    int i, counted = 0;

    for (i = 0; i < MANY; ++i) {
        taken[i] = h2x_c2_pools_get(pools);
        counted += taken[i]->is_counted;
    }
    assert_int_equal(counted, 2 * KEPT);
    for (i = MANY - 1; i >= 0; --i) {
        h2x_c2_pools_put(pools, taken[i]);
    }
    /* with those gone, others may */
    for (i = 0; i < 2 * KEPT; ++i) {
        taken[i] = h2x_c2_pools_get(pools);
        assert_true(taken[i]->is_counted);
    }
    taken[i] = h2x_c2_pools_get(pools);
    assert_false(taken[i]->is_counted);
    for (; i >= 0; --i) {
        h2x_c2_pools_put(pools, taken[i]);
    }
}

/* Slow clients may have all that may keep much, for long. */
TEST(others_are_kept_too)
{
    h2x_c2_pool *slow[2 * KEPT], *taken;
    void *mark = NULL;
    int i;

    for (i = 0; i < 2 * KEPT; ++i) {
        slow[i] = h2x_c2_pools_get(pools);
    }
    taken = h2x_c2_pools_get(pools);
    assert_false(taken->is_counted);
    apr_pool_userdata_setn("mark", "mark", NULL, taken->pool);
    h2x_c2_pools_put(pools, taken);
    taken = h2x_c2_pools_get(pools);
    assert_false(taken->is_counted);
    apr_pool_userdata_get(&mark, "mark", taken->pool);
    assert_non_null(mark);
    h2x_c2_pools_put(pools, taken);
    for (i = 0; i < 2 * KEPT; ++i) {
        h2x_c2_pools_put(pools, slow[i]);
    }
    for (i = 0; i < 2 * KEPT; ++i) {
        slow[i] = h2x_c2_pools_get(pools);
        assert_true(slow[i]->is_counted);
    }
    for (i = 0; i < 2 * KEPT; ++i) {
        h2x_c2_pools_put(pools, slow[i]);
    }
}

TEST(what_was_not_needed_is_trimmed)
{
    h2x_c2_pool *last;

    use(1);
    assert_int_equal(widened, 0);
    assert_false(h2x_c2_pools_trim(pools));
    last = use(3);
    assert_int_equal(widened, 1);
    assert_true(h2x_c2_pools_trim(pools)); /* they were all needed */
    use(2);
    assert_int_equal(widened, 1);          /* that is known */
    assert_true(h2x_c2_pools_trim(pools)); /* one was not */
    assert_false(h2x_c2_pools_trim(pools));
    assert_non_null(last);
    use(2);
    assert_int_equal(widened, 2);
}

#define POOL_TEST(name) \
    cmocka_unit_test_setup_teardown(name, make_pools, unit_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(last_one_is_used_first),
        POOL_TEST(each_has_a_parent_and_an_allocator),
        POOL_TEST(few_keep_much),
        POOL_TEST(others_are_kept_too),
        POOL_TEST(what_was_not_needed_is_trimmed),
    };

    return UNIT_RUN(tests);
}
