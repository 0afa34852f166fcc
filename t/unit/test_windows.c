/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* How wide receive windows become. */

#include "unit.h"

#include "../../session/h2x_windows.h"

#define KB 1024
#define MB (1024 * KB)
#define INITIAL (256 * KB)
#define WIDEST (16 * MB)
#define START apr_time_from_sec(1000)
#define MS 1000

static h2x_windows windows;

static void begin(void)
{
    h2x_windows_init(&windows, INITIAL, START);
}

/* The width that the window of a first stream gets. */
static int32_t width(void)
{
    int32_t wider_by = 0, size;

    h2x_windows_take(&windows, &wider_by);
    size = h2x_windows_size(&windows, wider_by);
    h2x_windows_give_back(&windows, &wider_by, wider_by);
    assert_int_equal(wider_by, 0);
    h2x_windows_end(&windows);
    return size;
}

/* A gigabit a second for the first round trip, at most 16 MB. */
TEST(guessed_by_the_first_round_trip)
{
    begin();
    assert_int_equal(width(), WIDEST);  /* it may take long */
    h2x_windows_guess(&windows, START + 10 * MS);
    assert_int_equal(width(), 10 * MS * 125);
    h2x_windows_guess(&windows, START + 50 * MS); /* the first one counts */
    assert_int_equal(width(), 10 * MS * 125);
    begin();
    h2x_windows_guess(&windows, START + 1 * MS);
    assert_int_equal(width(), INITIAL);
    begin();
    h2x_windows_guess(&windows, START + apr_time_from_sec(1000));
    assert_int_equal(width(), WIDEST);
}

/* A body of less than a quarter of the window is no reason to measure, nor is
 * a window that cannot become wider. */
TEST(when_it_measures)
{
    begin();
    assert_false(h2x_windows_count(&windows, INITIAL, KB));
    h2x_windows_guess(&windows, START);
    assert_false(h2x_windows_count(&windows, INITIAL / 4 - 1, KB));
    assert_true(h2x_windows_count(&windows, INITIAL / 4, KB));
    assert_false(h2x_windows_is_due(&windows, START - 1));
    assert_true(h2x_windows_is_due(&windows, START));
    h2x_windows_begin_sample(&windows, START, KB);
    assert_false(h2x_windows_count(&windows, INITIAL, KB));
}

/* Measures a round trip of so many bytes, from `at` on. */
static void measure(apr_time_t at, apr_time_t trip, size_t len)
{
    h2x_windows_begin_sample(&windows, at, len / 2);
    assert_false(h2x_windows_count(&windows, INITIAL, len - len / 2));
    h2x_windows_end_sample(&windows, at + trip);
}

/* Twice what came, when that filled at least half of the window; then it is
 * measured again after a round trip. */
TEST(grows_by_what_came)
{
    begin();
    h2x_windows_guess(&windows, START);
    measure(START, 20 * MS, INITIAL / 2);
    assert_int_equal(width(), INITIAL);
    measure(START, 20 * MS, INITIAL);
    assert_int_equal(width(), 2 * INITIAL);
    assert_false(h2x_windows_is_due(&windows, START + 40 * MS - 1));
    assert_true(h2x_windows_is_due(&windows, START + 40 * MS));
    measure(START, 20 * MS, 100 * MB);
    assert_int_equal(width(), WIDEST);
}

/* Otherwise it stays, and after 8 round trips or 0.1 s, whichever is later, it
 * is measured again. */
TEST(stays_when_less_came)
{
    begin();
    h2x_windows_guess(&windows, START);
    measure(START, 20 * MS, INITIAL / 2 - 1);
    assert_int_equal(width(), INITIAL);
    assert_false(h2x_windows_is_due(&windows, START + 180 * MS - 1));
    assert_true(h2x_windows_is_due(&windows, START + 180 * MS));
    measure(START, 1 * MS, INITIAL / 2 - 1);
    assert_false(h2x_windows_is_due(&windows, START + 101 * MS - 1));
    assert_true(h2x_windows_is_due(&windows, START + 101 * MS));
}

/* An answer to what was not asked means nothing. */
TEST(unasked_answer)
{
    begin();
    h2x_windows_guess(&windows, START);
    assert_true(h2x_windows_count(&windows, INITIAL, 10 * MB));
    h2x_windows_end_sample(&windows, START + 1 * MS);
    assert_int_equal(width(), INITIAL);
    assert_true(h2x_windows_is_due(&windows, START));
}

/* All streams of a connection are wider by no more than 16 MB. */
TEST(share_of_a_connection)
{
    int32_t wider_by[4] = { 0, 0, 0, 0 }, all = 0;
    int i;

    begin();
    for (i = 0; i < 4; ++i) {
        all += h2x_windows_take(&windows, &wider_by[i]);
    }
    assert_int_equal(wider_by[0], WIDEST - INITIAL);
    assert_int_equal(wider_by[1], INITIAL);
    assert_int_equal(wider_by[2], 0);
    assert_int_equal(all, WIDEST);
    assert_int_equal(h2x_windows_take(&windows, &wider_by[0]), 0);
    h2x_windows_give_back(&windows, &wider_by[0], MB);
    assert_int_equal(wider_by[0], WIDEST - INITIAL - MB);
    assert_int_equal(h2x_windows_take(&windows, &wider_by[2]), MB);
    expect_assert_failure(h2x_windows_end(&windows));
    for (i = 0; i < 4; ++i) {
        h2x_windows_give_back(&windows, &wider_by[i], wider_by[i]);
    }
    h2x_windows_end(&windows);
}

#define CONNECTIONS 100

/* All of a child by no more than 128 MB, and the next one gets an eighth of
 * what is left. */
TEST(share_of_the_child)
{
    static h2x_windows many[CONNECTIONS];
    int32_t wider_by[CONNECTIONS] = { 0 }, left = 128 * MB;
    int i;

    for (i = 0; i < CONNECTIONS; ++i) {
        int32_t wanted = left / 8 < WIDEST - INITIAL ? left / 8
                                                     : WIDEST - INITIAL;

        h2x_windows_init(&many[i], INITIAL, START);
        assert_int_equal(h2x_windows_take(&many[i], &wider_by[i]), wanted);
        left -= wanted;
    }
    assert_in_range(left, 0, MB);
    for (i = 0; i < CONNECTIONS; ++i) {
        h2x_windows_give_back(&many[i], &wider_by[i], wider_by[i]);
        h2x_windows_end(&many[i]);
    }
    begin();
    assert_int_equal(width(), WIDEST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT_TEST(guessed_by_the_first_round_trip),
        UNIT_TEST(when_it_measures),
        UNIT_TEST(grows_by_what_came),
        UNIT_TEST(stays_when_less_came),
        UNIT_TEST(unasked_answer),
        UNIT_TEST(share_of_a_connection),
        UNIT_TEST(share_of_the_child),
    };

    return UNIT_RUN(tests);
}
