/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* What request fields decode to and take. */

#include "unit.h"

#include "../../session/h2x_field_account.h"

#define KB 1024
#define MB (1024 * KB)
#define OVERHEAD 32

static h2x_field_account account;

static void begin(void)
{
    h2x_field_account_init(&account, 8190, 8190);
    h2x_field_account_begin(&account);
}

/* Counts a field that is so large with its overhead. */
static int count(apr_size_t size)
{
    return h2x_field_account_count(&account, size - OVERHEAD);
}

/* 64 KB, and four times that. */
TEST(limits_of_a_block)
{
    begin();
    assert_int_equal(count(64 * KB), 0);
    assert_false(h2x_field_account_is_over(&account));
    count(OVERHEAD);
    assert_true(h2x_field_account_is_over(&account));
    count(192 * KB - OVERHEAD);
    assert_false(h2x_field_account_is_cut(&account));
    count(OVERHEAD);
    assert_true(h2x_field_account_is_cut(&account));
    h2x_field_account_begin(&account);
    assert_false(h2x_field_account_is_over(&account));
    assert_false(h2x_field_account_is_cut(&account));
}

/* Where httpd takes more, a request line and four fields. */
TEST(limits_by_directives)
{
    h2x_field_account_init(&account, 100 * KB, 50 * KB);
    h2x_field_account_begin(&account);
    assert_int_equal(count(300 * KB), 0);
    assert_false(h2x_field_account_is_over(&account));
    count(OVERHEAD);
    assert_true(h2x_field_account_is_over(&account));
    assert_false(h2x_field_account_is_cut(&account));
}

/* In pieces of 16 KB, by steps of any size; only what is beyond. */
TEST(pieces_beyond_the_limit)
{
    apr_size_t step;

    for (step = OVERHEAD; step <= 256 * KB; step *= 2) {
        apr_size_t n;
        int pieces = 0;

        begin();
        for (n = 0; n < 256 * KB; n += step) {
            pieces += count(step);
        }
        assert_int_equal(pieces, 12);
    }
}

TEST(more_than_a_share_is_kept)
{
    int n = 0;

    begin();
    assert_true(h2x_field_account_may_keep(&account));
    while (n < 1000 && h2x_field_account_may_keep(&account)) {
        h2x_field_account_keep(&account, 16 * KB);
        ++n;
    }
    assert_int_equal(n, 2 * MB / (16 * KB));    /* 32 heads of 64 KB */
    assert_true(h2x_field_account_tell(&account));
    assert_false(h2x_field_account_tell(&account));
    h2x_field_account_release(&account, 16 * KB);
    assert_true(h2x_field_account_may_keep(&account));
    expect_assert_failure(h2x_field_account_end(&account));
    h2x_field_account_release(&account, (apr_size_t)(n - 1) * 16 * KB);
    h2x_field_account_end(&account);
}

#define CONNECTIONS 100

/* Keeps as much as it may. Returns how much that is. */
static apr_size_t fill(h2x_field_account *one)
{
    apr_size_t kept = 0;

    h2x_field_account_init(one, 8190, 8190);
    while (h2x_field_account_may_keep(one)) {
        h2x_field_account_keep(one, KB);
        kept += KB;
    }
    return kept;
}

/* All of a child keep no more than 32 MB together, but for 64 KB each; and
 * what they give back, others may have. */
TEST(share_of_the_child)
{
    static h2x_field_account many[CONNECTIONS];
    apr_size_t kept[CONNECTIONS], all = 0;
    int i;

    for (i = 0; i < CONNECTIONS; ++i) {
        kept[i] = fill(&many[i]);
        assert_in_range(kept[i], 64 * KB, 2 * MB);
        assert_true(i == 0 || kept[i] <= kept[i - 1]);
        all += kept[i] - 64 * KB;
    }
    assert_int_equal(kept[0], 2 * MB);
    assert_true(kept[20] > 64 * KB);    /* none takes all that is left */
    assert_int_equal(kept[CONNECTIONS - 1], 64 * KB);
    assert_in_range(all, 31 * MB, 32 * MB);
    for (i = 0; i < CONNECTIONS; ++i) {
        h2x_field_account_release(&many[i], kept[i]);
        h2x_field_account_end(&many[i]);
    }
    assert_int_equal(fill(&account), 2 * MB);
    h2x_field_account_release(&account, 2 * MB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT_TEST(limits_of_a_block),
        UNIT_TEST(limits_by_directives),
        UNIT_TEST(pieces_beyond_the_limit),
        UNIT_TEST(more_than_a_share_is_kept),
        UNIT_TEST(share_of_the_child),
    };

    return UNIT_RUN(tests);
}
