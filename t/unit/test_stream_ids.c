/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "unit.h"

#include "../../session/h2x_stream_ids.h"

static h2x_stream_ids ids;

static void check(int32_t id, h2x_id_kind kind)
{
    assert_int_equal(h2x_stream_ids_note(&ids, id), kind);
}

TEST(in_a_row)
{
    h2x_stream_ids_init(&ids);
    check(1, H2X_ID_NEW);
    check(3, H2X_ID_NEW);
    check(3, H2X_ID_USED);          /* trailers */
    check(1, H2X_ID_USED);
    check(5, H2X_ID_NEW);
}

TEST(with_gaps)
{
    h2x_stream_ids_init(&ids);
    check(5, H2X_ID_NEW);
    check(11, H2X_ID_NEW);
    check(1, H2X_ID_SKIPPED);
    check(3, H2X_ID_SKIPPED);
    check(5, H2X_ID_USED);
    check(7, H2X_ID_SKIPPED);
    check(9, H2X_ID_SKIPPED);
    check(11, H2X_ID_USED);
    check(13, H2X_ID_NEW);
}

TEST(up_to_the_highest)
{
    h2x_stream_ids_init(&ids);
    check(INT32_MAX, H2X_ID_NEW);
    check(INT32_MAX, H2X_ID_USED);
    check(INT32_MAX - 2, H2X_ID_SKIPPED);
    check(1, H2X_ID_SKIPPED);
}

/* Only the last gaps are known; of others it is taken that there was a
 * stream. */
TEST(more_gaps_than_are_kept)
{
    int i;

    h2x_stream_ids_init(&ids);
    for (i = 1; i <= H2X_ID_GAPS + 1; ++i) {
        check(4 * i - 1, H2X_ID_NEW);
    }
    check(1, H2X_ID_USED);
    for (i = 2; i <= H2X_ID_GAPS + 1; ++i) {
        check(4 * i - 3, H2X_ID_SKIPPED);
        check(4 * i - 1, H2X_ID_USED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT_TEST(in_a_row),
        UNIT_TEST(with_gaps),
        UNIT_TEST(up_to_the_highest),
        UNIT_TEST(more_gaps_than_are_kept),
    };

    return UNIT_RUN(tests);
}
