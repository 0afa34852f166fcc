/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "unit.h"

#include <string.h>

#include "../../engine/h2x_shares.h"

#define ENTRIES 4

static h2x_shares shares;
static h2x_entry entries[ENTRIES];

static void begin(int max, int spare)
{
    h2x_threads_limits limits = { 0, max, spare, 1, 0 };

    memset(entries, 0, sizeof(entries));
    h2x_shares_init(&shares, &limits);
}

static void offer(int entry, int count)
{
    while (count--) {
        h2x_shares_offer(&shares, &entries[entry]);
    }
}

/* Which entry is next; -1: none. */
static int next(void)
{
    const h2x_entry *entry = h2x_shares_next(&shares, 0);

    return entry ? (int)(entry - entries) : -1;
}

static int take(void)
{
    int entry = next();

    if (entry >= 0) {
        h2x_shares_take(&shares, &entries[entry]);
    }
    return entry;
}

TEST(entries_take_turns)
{
    begin(100, 0);
    offer(0, 3);
    offer(1, 2);
    offer(2, 1);
    assert_int_equal(take(), 0);
    assert_int_equal(take(), 1);
    assert_int_equal(take(), 2);
    assert_int_equal(take(), 0);
    assert_int_equal(take(), 1);
    assert_int_equal(take(), 0);
    assert_int_equal(take(), -1);
    assert_int_equal(shares.busy, 6);
}

TEST(one_without_a_thread_goes_first)
{
    begin(100, 0);
    offer(0, 5);
    assert_int_equal(take(), 0);
    offer(1, 1);
    assert_int_equal(next(), 1);
    h2x_shares_enter(&shares, &entries[1]);
    assert_int_equal(next(), 0);
    h2x_shares_leave(&shares, &entries[1]);
    assert_int_equal(next(), 1);
}

TEST(no_more_than_max)
{
    begin(2, 0);
    offer(0, 3);
    assert_int_equal(take(), 0);
    assert_int_equal(take(), 0);
    assert_int_equal(take(), -1);
    h2x_shares_leave(&shares, &entries[0]);
    assert_int_equal(take(), 0);
    assert_int_equal(shares.busy, 2);
}

TEST(those_that_come_count)
{
    begin(2, 0);
    offer(0, 3);
    assert_ptr_equal(h2x_shares_next(&shares, 1), &entries[0]);
    assert_null(h2x_shares_next(&shares, 2));
}

TEST(spare_is_for_entries_without_a_thread)
{
    begin(2, 2);
    offer(0, 9);
    assert_int_equal(take(), 0);
    assert_int_equal(take(), 0);
    assert_int_equal(take(), -1);
    offer(1, 2);
    offer(2, 1);
    offer(3, 1);
    assert_int_equal(take(), 1);
    assert_int_equal(take(), 2);
    assert_int_equal(take(), -1);
    assert_int_equal(shares.busy, 4);
}

TEST(half_of_spare_is_for_less_than_half_of_a_share)
{
    begin(20, 4);
    offer(0, 40);
    while (take() == 0 && shares.busy < 20) {
        continue;
    }
    offer(1, 9);
    assert_int_equal(take(), 1);    /* it had none */
    assert_int_equal(take(), 1);    /* one of its ten */
    assert_int_equal(shares.busy, 22);
    assert_int_equal(take(), -1);   /* the rest of spare is for others */
    offer(2, 1);
    assert_int_equal(take(), 2);
}

TEST(one_with_its_share_may_enter)
{
    begin(2, 0);
    assert_true(h2x_shares_may_enter(&shares, &entries[0]));
    offer(1, 1);
    assert_false(h2x_shares_may_enter(&shares, &entries[0]));
    assert_true(h2x_shares_may_enter(&shares, &entries[1]));
    assert_int_equal(take(), 1);
    assert_true(h2x_shares_may_enter(&shares, &entries[0]));
    h2x_shares_enter(&shares, &entries[0]);
    assert_false(h2x_shares_may_enter(&shares, &entries[0]));
}

TEST(withdrawn_offers_are_gone)
{
    begin(9, 0);
    offer(0, 3);
    offer(1, 1);
    assert_int_equal(take(), 0);
    assert_int_equal(h2x_shares_withdraw(&shares, &entries[0]), 2);
    assert_int_equal(h2x_shares_withdraw(&shares, &entries[0]), 0);
    assert_int_equal(take(), 1);
    assert_int_equal(take(), -1);
    assert_int_equal(shares.busy, 2);
    assert_int_equal(shares.sharing, 2);
    h2x_shares_leave(&shares, &entries[0]);
    assert_int_equal(shares.sharing, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT_TEST(entries_take_turns),
        UNIT_TEST(one_without_a_thread_goes_first),
        UNIT_TEST(no_more_than_max),
        UNIT_TEST(those_that_come_count),
        UNIT_TEST(spare_is_for_entries_without_a_thread),
        UNIT_TEST(half_of_spare_is_for_less_than_half_of_a_share),
        UNIT_TEST(one_with_its_share_may_enter),
        UNIT_TEST(withdrawn_offers_are_gone),
    };

    return UNIT_RUN(tests);
}
