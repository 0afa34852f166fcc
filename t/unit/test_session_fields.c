/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* What request heads decode to and keep. */

#include "session.h"

#include <string.h>

#include <apr_strings.h>

#include "../../session/h2x_session_core.h"

#define ENTRY 4000
#define HARD (4 * 64 * 1024)

static char block[9000];
static size_t block_len;

/* A head that names one entry of the dynamic table some times; the first one
 * puts it there. */
static void make_block(int is_first, int times)
{
    static const char pseudo[] = "\x82\x87\x84\x01\x01x";
    static const char literal[] = "\x40\x01x\x7f\xa1\x1e"; /* 4000 bytes */

    memcpy(block, pseudo, sizeof(pseudo) - 1);
    block_len = sizeof(pseudo) - 1;
    if (is_first) {
        memcpy(block + block_len, literal, sizeof(literal) - 1);
        block_len += sizeof(literal) - 1;
        memset(block + block_len, 'v', ENTRY);
        block_len += ENTRY;
        --times;
    }
    memset(block + block_len, 0xbe, (size_t)times);
    block_len += (size_t)times;
}

static void send_head(int32_t id, int times)
{
    make_block(id == 1, times);
    send_frame(NGHTTP2_HEADERS,
               NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, id, block,
               block_len);
}

static void begin_with_defaults(void)
{
    server.limit_req_line = 8190;
    server.limit_req_fieldsize = 8190;
    server.limit_req_fields = 0;
    begin();
    reap();
}

/* Sends, without a client that would wonder. */
static void send_out(void)
{
    h2x_lock_acquire(lock);
    do {
        buffer.len = 0;
        assert_int_equal(h2x_session_send(session, &buffer), APR_SUCCESS);
    } while (buffer.len);
    h2x_lock_release(lock);
}

TEST(heads_up_to_the_limit)
{
    begin_with_defaults();
    send_head(1, 16);
    assert_int_equal(ready_count, 1);
    assert_int_equal(ready[0]->request.status, 0);
    assert_in_range(session->fields.kept, 16 * ENTRY, 64 * 1024);
    send_head(3, 17);
    assert_int_equal(ready_count, 2);
    assert_int_equal(ready[1]->request.status, 431);
    assert_in_range(session->fields.kept, 32 * ENTRY, 128 * 1024);
    assert_int_equal(unit_log_count, 1);
    assert_non_null(strstr(unit_log_line, "64 KB in one head"));
}

/* Its stream is reset; nothing more is counted, since nothing is shown. */
TEST(heads_far_beyond_it)
{
    begin_with_defaults();
    send_head(1, 1);
    send_head(3, 900);
    assert_int_equal(ready_count, 1);
    assert_in_range(session->fields.block_len, HARD, HARD + 2 * ENTRY);
    send_out();
    assert_int_equal(closed_count, 1);
    reap();
    assert_in_range(session->fields.kept, ENTRY, ENTRY + 200);
    send_head(5, 2);
    assert_int_equal(ready_count, 2);
    assert_int_equal(ready[1]->request.status, 0);
}

/* 192 KB of each are beyond the limit, of which there may be 8 MB. */
TEST(many_of_them)
{
    int n = 0;

    unit_conf[H2X_GUARD] = 100;
    begin_with_defaults();
    send_head(1, 1);
    while (n < 100 && !h2x_session_is_condemned(session)) {
        send_head(2 * ++n + 1, 900);
        send_out();
        reap();
    }
    assert_in_range(n, 40, 90);  /* time gives some back */
    assert_non_null(strstr(unit_log_line, "too many bytes in heads"));
}

TEST(trailers_count_as_well)
{
    h2x_stream *stream;

    begin_with_defaults();
    make_block(1, 1);
    send_frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 1, block, block_len);
    stream = run(0);
    memset(block, 0xbe, 900);
    send_frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS
               | NGHTTP2_FLAG_END_STREAM, 1, block, 900);
    assert_in_range(session->fields.block_len, HARD, HARD + 2 * ENTRY);
    assert_in_range(session->fields.kept, 16 * ENTRY, 64 * 1024 + 2 * ENTRY);
    send_out();
    assert_true(stream->is_closed);
}

/* 2 MB, and the head that goes beyond; room comes back. */
TEST(kept_heads)
{
    int i, count;

    begin_with_defaults();
    for (i = 0; i < 50; ++i) {
        send_head(2 * i + 1, 15);
    }
    count = ready_count;
    assert_in_range(count, 2 * 1024 * 1024 / (15 * (ENTRY + 50)),
                    2 * 1024 * 1024 / (15 * ENTRY) + 1);
    assert_int_equal(unit_log_count, 1);
    assert_non_null(strstr(unit_log_line, "refusing streams"));
    h2x_lock_acquire(lock);
    h2x_stream_advance_locked(ready[0], H2X_STREAM_RUNNING);
    h2x_session_abort(session);
    h2x_lock_release(lock);
    reap();
    assert_int_equal(session->fields.kept, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SESSION_TEST(heads_up_to_the_limit),
        SESSION_TEST(heads_far_beyond_it),
        SESSION_TEST(many_of_them),
        SESSION_TEST(trailers_count_as_well),
        SESSION_TEST(kept_heads),
    };

    return UNIT_RUN(tests);
}
