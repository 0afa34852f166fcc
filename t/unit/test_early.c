/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Priorities of streams to come, and the frames that bring them. */

#include "unit.h"

#include <string.h>

#include "../../session/h2x_early.h"
#include "../../session/h2x_priority_update.h"

static h2x_early early;
static h2x_priority_update update;

static void keep(int32_t id, int urgency)
{
    h2x_priority priority = { 0, 1 };

    priority.urgency = urgency;
    h2x_early_keep(&early, id, &priority);
}

static void check_taken(int32_t id, int urgency)
{
    h2x_priority priority = { -1, -1 };

    assert_int_equal(h2x_early_take(&early, id, &priority), urgency >= 0);
    assert_int_equal(priority.urgency, urgency);
    assert_int_equal(priority.is_incremental, urgency >= 0 ? 1 : -1);
}

TEST(kept_and_taken)
{
    h2x_early_init(&early, 10);
    assert_false(h2x_early_has(&early, 1));
    check_taken(1, -1);
    keep(5, 2);
    keep(3, 1);
    keep(7, 4);
    keep(5, 6);                     /* the last one counts */
    assert_int_equal(h2x_early_count(&early), 3);
    assert_true(h2x_early_has(&early, 5));
    assert_false(h2x_early_has(&early, 9));
    check_taken(5, 6);
    assert_false(h2x_early_has(&early, 3)); /* it will never be */
    assert_int_equal(h2x_early_count(&early), 1);
    check_taken(7, 4);
    check_taken(7, -1);
    h2x_early_clear(&early);
}

TEST(the_oldest_goes)
{
    int32_t id;

    h2x_early_init(&early, 3);
    for (id = 1; id <= 9; id += 2) {
        keep(id, id % 8);
    }
    assert_int_equal(h2x_early_count(&early), 3);
    assert_false(h2x_early_has(&early, 3));
    keep(5, 0);                     /* there is room for it */
    assert_int_equal(h2x_early_count(&early), 3);
    check_taken(5, 0);
    check_taken(7, 7);
    check_taken(9, 1);
    h2x_early_clear(&early);
    assert_int_equal(h2x_early_count(&early), 0);
    keep(1, 2);                     /* it can be used again */
    check_taken(1, 2);
    h2x_early_clear(&early);
}

static void add(const char *data, size_t len)
{
    h2x_priority_update_add(&update, data, len);
}

TEST(update_in_pieces)
{
    static const char payload[] = "\xff\2\3\4u=1, i";
    h2x_priority priority;
    size_t i;

    h2x_priority_update_begin(&update);
    for (i = 0; i < sizeof(payload) - 1; ++i) {
        assert_int_equal(h2x_priority_update_id(&update),
                         i < 4 ? -1 : 0x7f020304);
        add(payload + i, 1);
    }
    assert_true(h2x_priority_update_read(&update, &priority));
    assert_int_equal(priority.urgency, 1);
    assert_int_equal(priority.is_incremental, 1);
    h2x_priority_update_begin(&update);
    assert_int_equal(h2x_priority_update_id(&update), -1);
    add("\0\0\0\5", 4);
    assert_int_equal(h2x_priority_update_id(&update), 5);
    assert_true(h2x_priority_update_read(&update, &priority));
    assert_int_equal(priority.urgency, H2X_URGENCY_DEFAULT);
    assert_int_equal(priority.is_incremental, 0);
}

TEST(update_that_cannot_be_read)
{
    h2x_priority priority;

    h2x_priority_update_begin(&update);
    add("\0\0\0", 3);
    assert_false(h2x_priority_update_read(&update, &priority));
    add("\5u=", 3);
    assert_int_equal(h2x_priority_update_id(&update), 5);
    assert_false(h2x_priority_update_read(&update, &priority));
}

/* The length at which it is not kept any more. */
TEST(update_that_is_long)
{
    char field[H2X_UPDATE_MAX];
    h2x_priority priority;

    memset(field, ' ', sizeof(field));
    memcpy(field, "u=1", 3);
    h2x_priority_update_begin(&update);
    add("\0\0\0\5", 4);
    add(field, H2X_UPDATE_MAX - 5);
    add(";", 0);
    assert_true(h2x_priority_update_read(&update, &priority));
    assert_int_equal(priority.urgency, 1);
    add("  ", 2);
    assert_int_equal(h2x_priority_update_id(&update), 5);
    assert_false(h2x_priority_update_read(&update, &priority));
    add(field, sizeof(field));      /* it stays so */
    assert_false(h2x_priority_update_read(&update, &priority));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT_TEST(kept_and_taken),
        UNIT_TEST(the_oldest_goes),
        UNIT_TEST(update_in_pieces),
        UNIT_TEST(update_that_cannot_be_read),
        UNIT_TEST(update_that_is_long),
    };

    return UNIT_RUN(tests);
}
