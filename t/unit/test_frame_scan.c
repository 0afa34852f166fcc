/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "unit.h"

#include <string.h>

#include "../../session/h2x_frame_scan.h"

#define PREFACE NGHTTP2_CLIENT_MAGIC
#define TIMEOUT apr_time_from_sec(60)
#define START apr_time_from_sec(1000)

static h2x_frame_scan scan;

/* What came, in order: the types of frames, and the length of the last. */
static char seen[64];
static size_t seen_count;
static size_t last_length;

static void read_some(const char *data, apr_size_t len)
{
    const nghttp2_frame_hd *hd;

    while ((hd = h2x_frame_scan_next(&scan, &data, &len))) {
        assert_true(seen_count < sizeof(seen));
        seen[seen_count++] = (char)hd->type;
        last_length = hd->length;
    }
    assert_int_equal(len, 0);
}

/* A frame of zeros, of which some is left out at the end. */
static size_t make(char *to, size_t length, int type, int flags)
{
    memset(to, 0, H2X_FRAME_HEAD_LEN + length);
    to[0] = (char)(length >> 16);
    to[1] = (char)(length >> 8);
    to[2] = (char)length;
    to[3] = (char)type;
    to[4] = (char)flags;
    return H2X_FRAME_HEAD_LEN + length;
}

static void read_frame(size_t length, int type, int flags, size_t less)
{
    static char frame[H2X_FRAME_HEAD_LEN + 70000];

    read_some(frame, make(frame, length, type, flags) - less);
}

static void begin(void)
{
    h2x_frame_scan_init(&scan);
    seen_count = 0;
    read_some(PREFACE, sizeof(PREFACE) - 1);
}

TEST(heads_are_read)
{
    const nghttp2_frame_hd *hd;
    char frame[H2X_FRAME_HEAD_LEN + 0x0203];
    const char *data = frame;
    apr_size_t len = make(frame, 0x0203, NGHTTP2_PING, NGHTTP2_FLAG_ACK);

    begin();
    hd = h2x_frame_scan_next(&scan, &data, &len);
    assert_non_null(hd);
    assert_int_equal(hd->length, 0x0203);
    assert_int_equal(hd->type, NGHTTP2_PING);
    assert_int_equal(hd->flags, NGHTTP2_FLAG_ACK);
    assert_ptr_equal(data, frame + H2X_FRAME_HEAD_LEN);
    assert_int_equal(len, 0x0203);
    assert_null(h2x_frame_scan_next(&scan, &data, &len));
    assert_int_equal(len, 0);
    read_frame(70000, 0xff, 0, 0);      /* all three bytes of the length */
    assert_int_equal(last_length, 70000);
    assert_int_equal((unsigned char)seen[0], 0xff);
    assert_int_equal(seen_count, 1);
}

/* Whatever the pieces are, the frames are the same. */
TEST(any_pieces)
{
    static const int types[] = { NGHTTP2_SETTINGS, NGHTTP2_HEADERS,
                                 NGHTTP2_DATA, NGHTTP2_PING, 0x77 };
    char all[1000] = PREFACE;
    size_t len = sizeof(PREFACE) - 1, piece, at, i;

    for (i = 0; i < 5; ++i) {
        len += make(all + len, i * 20, types[i], 0);
    }
    for (piece = 1; piece <= len; ++piece) {
        h2x_frame_scan_init(&scan);
        seen_count = 0;
        for (at = 0; at < len; at += piece) {
            read_some(all + at, piece < len - at ? piece : len - at);
        }
        assert_int_equal(seen_count, 5);
        for (i = 0; i < 5; ++i) {
            assert_int_equal(seen[i], types[i]);
        }
        assert_int_equal(last_length, 80);
    }
}

TEST(the_preface_is_a_frame)
{
    h2x_frame_scan_init(&scan);
    seen_count = 0;
    assert_true(h2x_frame_scan_is_within(&scan));
    read_some(PREFACE, sizeof(PREFACE) - 2);
    assert_true(h2x_frame_scan_is_within(&scan));
    read_some("\n", 1);
    assert_false(h2x_frame_scan_is_within(&scan));
    assert_int_equal(seen_count, 0);
}

TEST(where_it_is_within_a_frame)
{
    begin();
    read_some("\0\0\1", 3);
    assert_true(h2x_frame_scan_is_within(&scan));
    begin();
    read_frame(8, NGHTTP2_PING, 0, 1);
    assert_true(h2x_frame_scan_is_within(&scan));
    read_some("x", 1);
    assert_false(h2x_frame_scan_is_within(&scan));
    read_frame(8, NGHTTP2_DATA, 0, 1);      /* its request has time */
    assert_false(h2x_frame_scan_is_within(&scan));
}

TEST(a_field_block_goes_on)
{
    begin();
    read_frame(5, NGHTTP2_HEADERS, 0, 0);
    assert_true(h2x_frame_scan_is_within(&scan));
    read_frame(5, NGHTTP2_CONTINUATION, 0, 0);
    assert_true(h2x_frame_scan_is_within(&scan));
    read_frame(5, NGHTTP2_CONTINUATION, NGHTTP2_FLAG_END_HEADERS, 0);
    assert_false(h2x_frame_scan_is_within(&scan));
}

static int is_late_at(int seconds)
{
    return h2x_frame_scan_is_late(&scan, START + apr_time_from_sec(seconds),
                                  TIMEOUT);
}

TEST(a_frame_has_the_timeout)
{
    begin();
    read_frame(8, NGHTTP2_PING, 0, 3);
    assert_false(is_late_at(0));
    read_some("x", 1);
    assert_false(is_late_at(60));
    read_some("x", 1);
    assert_true(is_late_at(61));
}

/* A head in many frames is one; what comes after it has its own time. */
TEST(a_field_block_has_the_timeout)
{
    begin();
    read_frame(5, NGHTTP2_HEADERS, 0, 0);
    assert_false(is_late_at(0));
    read_frame(5, NGHTTP2_CONTINUATION, 0, 0);
    assert_false(is_late_at(50));
    read_frame(5, NGHTTP2_CONTINUATION, 0, 2);
    assert_true(is_late_at(61));
    read_some("xx", 2);
    read_frame(5, NGHTTP2_CONTINUATION, NGHTTP2_FLAG_END_HEADERS, 0);
    read_frame(8, NGHTTP2_PING, 0, 1);
    assert_false(is_late_at(62));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT_TEST(heads_are_read),
        UNIT_TEST(any_pieces),
        UNIT_TEST(the_preface_is_a_frame),
        UNIT_TEST(where_it_is_within_a_frame),
        UNIT_TEST(a_field_block_goes_on),
        UNIT_TEST(a_frame_has_the_timeout),
        UNIT_TEST(a_field_block_has_the_timeout),
    };

    return UNIT_RUN(tests);
}
