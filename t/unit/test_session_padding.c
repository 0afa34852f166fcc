/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* H2Padding, and H2MaxStreamErrors. What is random is at its most here. */

#include "session_more.h"

#include <string.h>

#include <apr_strings.h>

/* ---- padding ---- */

/* A page with a promise, both of some length. */
static void load_page(size_t len)
{
    h2x_stream *page = open_page();

    promise_one(page, "/style.css", NULL);
    pump();
    respond(run(ready_count - 1), pattern(len), len);
    respond(page, pattern(len), len);
    pump();
    check_answer(1, 200, pattern(len), len);
    check_answer(2, 200, pattern(len), len);
}

static void check_padding(int type, size_t padding)
{
    int i, count = 0;

    for (i = 0; i < seen_count; ++i) {
        /* the last frame of a body has what the longest one leaves */
        if (seen[i].type == type && seen[i].len < 16000) {
            assert_int_equal(seen[i].padding, padding);
            ++count;
        }
        assert_true(seen[i].len + seen[i].padding <= FRAME);
    }
    assert_true(count > 0);
}

TEST(no_padding)
{
    begin();
    load_page(20000);
    check_padding(NGHTTP2_DATA, 0);
    check_padding(NGHTTP2_HEADERS, 0);
    check_padding(NGHTTP2_PUSH_PROMISE, 0);
}

TEST(padding)
{
    int bits;

    for (bits = 1; bits <= 8; ++bits) {
        size_t most = ((size_t)1 << bits) - 1;

        unit_conf[H2X_PADDING] = bits;
        begin();
        load_page(20000);
        check_padding(NGHTTP2_DATA, most);
        check_padding(NGHTTP2_HEADERS, most);
        check_padding(NGHTTP2_PUSH_PROMISE, most);
        again();
    }
    begin();                                /* for teardown() */
}

static void check_size(size_t buffer_size, apr_int64_t data_max)
{
    static const size_t lengths[] = { 0, 1, 1000, 16127, 16128, 16129, 16383,
                                      16384, 16385, 60000 };
    size_t i;

    for (i = 0; i < sizeof(lengths) / sizeof(lengths[0]); ++i) {
        unit_conf[H2X_PADDING] = 8;
        unit_conf[H2X_MAX_DATA_FRAME_LEN] = data_max;
        begin();
        set_buffer(buffer_size);
        load_page(lengths[i]);
        if (data_max) {
            assert_true(answer_of(1)->frame_max <= (size_t)data_max + 255);
        }
        again();
    }
}

/* Bodies of any length, by buffers that are hardly longer than a frame. */
TEST(padding_and_buffers)
{
    size_t size;

    for (size = 17 * 1024; size < 17 * 1024 + 300; size += 13) {
        check_size(size, 0);
    }
    check_size(32768, 0);
    check_size(17 * 1024, 777);
    check_size(17 * 1024, 16384);
    begin();                                /* for teardown() */
}

/* Several streams share a buffer, whose rest gets less and less. */
TEST(padding_of_many)
{
    int i;

    unit_conf[H2X_PADDING] = 8;
    begin();
    set_buffer(17 * 1024);
    for (i = 0; i < 30; ++i) {
        ask();
    }
    pump();
    for (i = 0; i < 30; ++i) {
        respond(run(i), pattern((size_t)i * 1111), (size_t)i * 1111);
    }
    pump();
    for (i = 0; i < 30; ++i) {
        check_answer(2 * i + 1, 200, pattern((size_t)i * 1111),
                     (size_t)i * 1111);
    }
}

/* RFC 9113, section 6.9.1: padding counts. The client would complain. */
TEST(padding_and_windows)
{
    static const uint32_t windows[] = { 1, 2, 10, 255, 256, 257, 1000 };
    size_t i;

    for (i = 0; i < sizeof(windows) / sizeof(windows[0]); ++i) {
        nghttp2_settings_entry window
            = { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, windows[i] };

        unit_conf[H2X_PADDING] = 8;
        begin_with(1, &window, 1);
        load_page(700);
        assert_int_equal(goaway_count, 0);
        again();
    }
    begin();                                /* for teardown() */
}

/* A head that takes several frames. */
TEST(padding_of_a_long_head)
{
    static const char start[] = "HTTP/1.1 200 OK\r\n", ending[] = "\r\n\r\n";
    char *text = apr_palloc(unit_pool, 40000);
    size_t len;

    for (len = 16000; len < 40000; len += 601) {
        unit_conf[H2X_PADDING] = 8;
        begin();
        set_buffer(17 * 1024);
        memset(text, '~', len);             /* no shorter in Huffman's code */
        memcpy(text, start, sizeof(start) - 1);
        memcpy(text + sizeof(start) - 1, "X: ", 3);
        memcpy(text + len - sizeof(ending), ending, sizeof(ending));
        say_head(open_page(), text);
        say(ready[0], "body", 4);
        end(ready[0], 0);
        pump();
        check_answer(1, 200, "body", 4);
        again();
        text = apr_palloc(unit_pool, 40000);
    }
    begin();                                /* for teardown() */
}

TEST(padding_and_trailers)
{
    apr_table_t *trailers = apr_table_make(unit_pool, 1);

    unit_conf[H2X_PADDING] = 8;
    begin();
    say_head(open_page(), OK_HEAD);
    say(ready[0], "body", 4);
    apr_table_setn(trailers, "X-Sum", "1");
    ready[0]->out.trailers = h2x_field_trailers(ready[0]->pool, trailers);
    pump();
    end(ready[0], 0);
    pump();
    check_answer(1, 200, "body", 4);
    assert_string_equal(answer_of(1)->trailers, "x-sum=1;");
    check_padding(NGHTTP2_HEADERS, 255);
}

/* ---- errors of the client ---- */

static void make_errors(int count)
{
    for (; count; --count) {
        int32_t id = ask_for("/", "connection", "close", NULL);

        pump();
        assert_int_equal(answer_of(id)->reset, NGHTTP2_PROTOCOL_ERROR);
        reap();
    }
}

TEST(too_many_errors)
{
    int32_t id;

    unit_conf[H2X_MAX_STREAM_ERRORS] = 3;
    begin();
    open_page();
    make_errors(3);
    id = ask();
    pump();
    respond(run(1), "x", 1);
    pump();
    check_answer(id, 200, "x", 1);
    assert_int_equal(goaway_count, 0);
    unit_log_count = 0;
    ask_for("/", "connection", "close", NULL);
    pump();
    assert_int_equal(goaway_count, 1);
    assert_int_equal(goaway_code, NGHTTP2_ENHANCE_YOUR_CALM);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_CLOSED);
    assert_true(unit_log_count > 0);
    assert_false(was_closed(ready[0]));     /* that is for its owner to do */
}

TEST(any_number_of_errors)
{
    begin();
    make_errors(50);
    assert_int_equal(goaway_count, 0);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_OPEN);
}

/* What comes to an end for other reasons is no error of the client. */
TEST(no_errors_of_the_client)
{
    int i;

    unit_conf[H2X_MAX_STREAM_ERRORS] = 1;
    begin();
    for (i = 0; i < 10; ++i) {
        h2x_stream *page = open_page();

        switch (i % 5) {
        case 0:
            end(page, 1);                   /* INTERNAL_ERROR */
            break;
        case 1:
            end_with(page, H2X_OUTPUT_NEEDS_HTTP11);
            break;
        case 2:
            promise_one(page, "/style.css", OK_HEAD);
            end(page, 0);
            pump();
            say_head(run(ready_count - 1), "HTTP/1.1 404 No\r\n\r\n");
            end(ready[ready_count - 1], 0); /* CANCEL */
            break;
        case 3:
            nghttp2_submit_rst_stream(client, NGHTTP2_FLAG_NONE, page->id,
                                      NGHTTP2_PROTOCOL_ERROR);
            break;
        default:
            h2x_lock_acquire(lock);
            h2x_session_cancel(session, page);
            h2x_lock_release(lock);
        }
        pump();
        assert_true(was_closed(page));
    }
    assert_int_equal(goaway_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SESSION_TEST(no_padding),
        SESSION_TEST(padding),
        SESSION_TEST(padding_and_buffers),
        SESSION_TEST(padding_of_many),
        SESSION_TEST(padding_and_windows),
        SESSION_TEST(padding_of_a_long_head),
        SESSION_TEST(padding_and_trailers),
        SESSION_TEST(too_many_errors),
        SESSION_TEST(any_number_of_errors),
        SESSION_TEST(no_errors_of_the_client),
    };

    return UNIT_RUN(tests);
}
