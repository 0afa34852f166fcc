/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "unit.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>


#include "h2x_stream.h"

static h2x_segments row;

static void add(const char *text)
{
    assert_int_equal(h2x_segments_add(&row, text, strlen(text)), APR_SUCCESS);
}

static void check_read(const char *text)
{
    apr_size_t len = strlen(text);
    char *to = malloc(len + 1);

    assert_int_equal(h2x_segments_read(&row, to, len), APR_SUCCESS);
    assert_memory_equal(to, text, len);
    free(to);
}

static void check_size(apr_off_t bytes, apr_size_t memory)
{
    assert_int_equal(row.bytes, bytes);
    assert_int_equal(row.memory, memory);
}

static void check_empty(void)
{
    check_size(0, 0);
    assert_null(row.first);
    assert_null(row.last);
}

TEST(adds_and_reads)
{
    add("hello ");
    add("world");
    check_size(11, 11);
    check_read("hel");
    check_size(8, 8);
    check_read("lo wor");
    check_read("ld");
    check_empty();
}

TEST(small_pieces_share_a_segment)
{
    int i;

    for (i = 0; i < 50; ++i) {
        add("0123456789");
    }
    assert_ptr_equal(row.first, row.last);
    check_size(500, 500);
    for (i = 0; i < 50; ++i) {
        check_read("0123456789");
    }
    check_empty();
}

TEST(segments_are_filled_behind_what_was_read)
{
    add("abc");
    check_read("ab");
    add("def");
    assert_ptr_equal(row.first, row.last);
    check_read("cdef");
    check_empty();
}

TEST(many_pieces_of_all_sizes)
{
    char *all = malloc(1 << 20), *got = malloc(1 << 20);
    apr_size_t i, n, at = 0;

    for (i = 0; i < (1 << 20); ++i) {
        all[i] = (char)(i * 7 + i / 251);
    }
    for (i = 0; at < (1 << 20); ++i, at += n) {
        n = (i * 37) % 5000;
        n = at + n > (1 << 20) ? (1 << 20) - at : n;
        assert_int_equal(h2x_segments_add(&row, all + at, n), APR_SUCCESS);
        check_size(at + n, at + n);
    }
    for (i = 0, at = 0; at < (1 << 20); ++i, at += n) {
        n = (i * 53) % 7000;
        n = at + n > (1 << 20) ? (1 << 20) - at : n;
        assert_int_equal(h2x_segments_read(&row, got + at, n), APR_SUCCESS);
    }
    assert_memory_equal(all, got, 1 << 20);
    check_size(0, 0);
    h2x_segments_clear(&row);
    check_empty();
    free(all);
    free(got);
}

TEST(small_rows_are_moved_into_one_segment)
{
    h2x_segments other = { 0 };
    int i;

    for (i = 0; i < 900; ++i) {
        add("x");
        h2x_segments_move(&other, &row);
        check_empty();
    }
    assert_ptr_equal(other.first, other.last);
    assert_int_equal(other.bytes, 900);
    assert_int_equal(other.memory, 900);
    other.returned = 0;
    /* what was lent has no room */
    assert_int_equal(h2x_segments_borrow(&other, "lent", 4), APR_SUCCESS);
    add("y");
    h2x_segments_move(&other, &row);
    assert_ptr_not_equal(other.first->next, other.last);
    /* and a row that has more is moved as it is */
    add("z");
    assert_int_equal(h2x_segments_borrow(&row, "lent", 4), APR_SUCCESS);
    h2x_segments_move(&other, &row);
    row = other;
    check_size(910, 910);
    for (i = 0; i < 900; ++i) {
        check_read("x");
    }
    check_read("lentyzlent");
    check_size(0, 0);
    assert_int_equal(row.returned, 2);
    row.returned = 0;
}

TEST(moves_rows)
{
    h2x_segments other = { 0 };

    h2x_segments_move(&row, &other);        /* nothing to nothing */
    check_empty();
    add("one");
    h2x_segments_move(&row, &other);        /* nothing to something */
    check_size(3, 3);
    h2x_segments_move(&other, &row);        /* something to nothing */
    check_empty();
    assert_int_equal(other.bytes, 3);
    add("two");
    h2x_segments_move(&other, &row);        /* something to something */
    check_empty();
    add("three");
    h2x_segments_move(&other, &row);
    h2x_segments_move(&row, &other);
    check_size(11, 11);
    check_read("onetwothree");
    check_empty();
}

TEST(clears)
{
    h2x_segments_clear(&row);
    add("something");
    assert_int_equal(h2x_segments_add_file(&row, 0, 5, 100000, 0),
                     APR_SUCCESS);
    check_size(100009, 9);
    h2x_segments_clear(&row);
    check_empty();
    add("again");
    check_read("again");
    check_empty();
}

/* Borrowed memory is not copied, and is given back in order. */
TEST(borrows_memory)
{
    static char lent[] = "abcdef", last[] = "xyz";
    h2x_segments other = { 0 };

    add("one ");
    assert_int_equal(h2x_segments_borrow(&row, lent, 6), APR_SUCCESS);
    add(" two ");
    assert_int_equal(h2x_segments_borrow(&row, last, 3), APR_SUCCESS);
    check_size(18, 18);
    lent[5] = 'F';
    check_read("one abc");
    assert_int_equal(row.returned, 0);
    h2x_segments_move(&other, &row);
    check_empty();
    h2x_segments_move(&row, &other);
    check_read("deF");
    assert_int_equal(row.returned, 1);
    check_read(" two xy");
    assert_int_equal(row.returned, 1);
    check_size(1, 1);
    h2x_segments_clear(&row);
    assert_int_equal(row.returned, 2);
    check_empty();
    row.returned = 0;
}

/* What is borrowed is copied, in its place, and given back. */
TEST(owns_what_it_borrowed)
{
    static char lent[] = "abcdef", last[] = "xyz";

    assert_false(h2x_segments_is_borrowed(&row));
    assert_int_equal(h2x_segments_own(&row), APR_SUCCESS);
    add("one ");
    assert_int_equal(h2x_segments_own(&row), APR_SUCCESS);
    assert_int_equal(row.returned, 0);
    assert_int_equal(h2x_segments_borrow(&row, lent, 6), APR_SUCCESS);
    add(" two ");
    assert_int_equal(h2x_segments_borrow(&row, last, 3), APR_SUCCESS);
    check_read("one ab");
    assert_true(h2x_segments_is_borrowed(&row));
    assert_int_equal(h2x_segments_own(&row), APR_SUCCESS);
    assert_false(h2x_segments_is_borrowed(&row));
    assert_int_equal(row.returned, 2);
    row.returned = 0;
    memset(lent, '!', 6);
    memset(last, '!', 3);
    check_size(12, 12);
    add("end");
    check_read("cdef two xyzend");
    assert_int_equal(row.returned, 0);
    check_empty();
}

TEST(knows_whether_it_is_in_memory)
{
    assert_true(h2x_segments_is_in_memory(&row));
    add("something");
    assert_true(h2x_segments_is_in_memory(&row));
    assert_int_equal(h2x_segments_add_file(&row, 0, 5, 100000, 0),
                     APR_SUCCESS);
    assert_false(h2x_segments_is_in_memory(&row));
    h2x_segments_clear(&row);
    assert_true(h2x_segments_is_in_memory(&row));
}

/* A file with 0123456789 again and again. */
static int make_file(int size)
{
    char path[] = "/tmp/h2x-test-stream-XXXXXX";
    int fd = mkstemp(path), i;

    assert_true(fd >= 0);
    unlink(path);
    for (i = 0; i < size; ++i) {
        char c = (char)('0' + i % 10);
        assert_int_equal(write(fd, &c, 1), 1);
    }
    return fd;
}

TEST(parts_of_files)
{
    int fd = make_file(100);

    add("before ");
    assert_int_equal(h2x_segments_add_file(&row, fd, 5, 10, 0), APR_SUCCESS);
    check_size(17, 7);
    add(" after");      /* not into the file's segment */
    assert_int_equal(h2x_segments_add_file(&row, fd, 90, 10, 0), APR_SUCCESS);
    assert_int_equal(h2x_segments_add_file(&row, fd, 0, 10, 0), APR_SUCCESS);
    check_size(43, 13);
    check_read("before 56");
    check_size(34, 6);
    check_read("78901234 aft");
    check_read("er01234567890123456789");
    check_empty();
    close(fd);
}

TEST(files_that_are_read_at_once)
{
    int fd = make_file(3000);

    add("x");
    assert_int_equal(h2x_segments_add_file(&row, fd, 3, 10, 1), APR_SUCCESS);
    assert_ptr_equal(row.first, row.last);  /* it found room there */
    check_size(11, 11);
    assert_int_equal(h2x_segments_add_file(&row, fd, 0, 3000, 1), APR_SUCCESS);
    check_size(3011, 3011);
    close(fd);                              /* which nobody needs any more */
    check_read("x34567890120123456789");
    h2x_segments_clear(&row);
}

TEST(file_is_too_short_when_added)
{
    int fd = make_file(100);

    add("x");
    assert_int_equal(h2x_segments_add_file(&row, fd, 95, 10, 1), APR_EOF);
    assert_int_equal(h2x_segments_add_file(&row, fd, 200, 5000, 1), APR_EOF);
    check_size(1, 1);
    add("y");
    check_read("xy");
    check_size(0, 0);
    assert_int_equal(h2x_segments_add_file(&row, fd, 0, 10, 0), APR_SUCCESS);
    add("z");
    check_read("0123456789z");
    check_size(0, 0);
    h2x_segments_clear(&row);
    check_empty();
    close(fd);
}

TEST(file_is_too_short_when_read)
{
    char to[200];
    int fd = make_file(100);

    assert_int_equal(h2x_segments_add_file(&row, fd, 0, 100, 0), APR_SUCCESS);
    check_read("01234");
    assert_int_equal(ftruncate(fd, 50), 0);
    assert_int_equal(h2x_segments_read(&row, to, 95), APR_EOF);
    h2x_segments_clear(&row);
    check_empty();
    close(fd);
}

TEST(file_cannot_be_read)
{
    char to[10];

    assert_int_equal(h2x_segments_add_file(&row, -1, 0, 10, 0), APR_SUCCESS);
    assert_int_equal(h2x_segments_read(&row, to, 10), APR_EBADF);
    assert_int_equal(h2x_segments_add_file(&row, -1, 0, 10, 1), APR_EBADF);
    h2x_segments_clear(&row);
    check_empty();
}

TEST(there_is_less_than_asked_for)
{
    char to[10];

    assert_int_equal(h2x_segments_read(&row, to, 1), APR_EOF);
    add("01234");
    assert_int_equal(h2x_segments_read(&row, to, 6), APR_EOF);
    check_empty();
}

TEST(nothing_is_something_too)
{
    h2x_segments other = { 0 };

    add("");
    check_size(0, 0);
    assert_int_equal(h2x_segments_read(&row, NULL, 0), APR_SUCCESS);
    h2x_segments_move(&other, &row);
    h2x_segments_move(&row, &other);
    add("x");
    check_read("x");
    h2x_segments_clear(&row);
    check_empty();
}

static int clear_row(void **state)
{
    h2x_segments_clear(&row);
    return unit_teardown(state);
}

#define SEGMENT_TEST(name) \
    cmocka_unit_test_setup_teardown(name, unit_setup, clear_row)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SEGMENT_TEST(adds_and_reads),
        SEGMENT_TEST(small_pieces_share_a_segment),
        SEGMENT_TEST(segments_are_filled_behind_what_was_read),
        SEGMENT_TEST(many_pieces_of_all_sizes),
        SEGMENT_TEST(small_rows_are_moved_into_one_segment),
        SEGMENT_TEST(moves_rows),
        SEGMENT_TEST(clears),
        SEGMENT_TEST(borrows_memory),
        SEGMENT_TEST(owns_what_it_borrowed),
        SEGMENT_TEST(knows_whether_it_is_in_memory),
        SEGMENT_TEST(parts_of_files),
        SEGMENT_TEST(files_that_are_read_at_once),
        SEGMENT_TEST(file_is_too_short_when_added),
        SEGMENT_TEST(file_is_too_short_when_read),
        SEGMENT_TEST(file_cannot_be_read),
        SEGMENT_TEST(there_is_less_than_asked_for),
        SEGMENT_TEST(nothing_is_something_too),
    };

    return UNIT_RUN(tests);
}
