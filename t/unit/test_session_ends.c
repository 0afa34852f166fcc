/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Limits, what goes wrong, and how a session ends. */

#include "session.h"

#include <stdlib.h>
#include <string.h>

#include <apr_strings.h>

#include "../../session/h2x_session_core.h"

/* ---- limits ---- */

static void check_status(const char *path, const char *name,
                         const char *value, int status)
{
    int at = ready_count;

    ask_for(path, name, value, NULL);
    pump();
    assert_int_equal(ready_count, at + 1);
    assert_int_equal(ready[at]->request.status, status);
}

TEST(limits_of_fields)
{
    char *most = apr_palloc(unit_pool, 400);

    begin();
    memset(most, 'v', 399);
    most[200 - 2 - 4] = '\0';       /* "name" and ": " */
    check_status("/", "name", most, 0);
    assert_int_equal(unit_log_count, 0);
    most[200 - 2 - 4] = 'v';
    most[200 - 2 - 3] = '\0';
    check_status("/", "name", most, 431);
    assert_int_equal(unit_log_count, 1);
    assert_non_null(strstr(unit_log_line, "LimitRequestFieldSize"));
    assert_non_null(strstr(unit_log_line, "(id-3)"));
}

TEST(limit_of_the_number_of_fields)
{
    nghttp2_nv fields[16] = {
        FIELD(":method", "GET"), FIELD(":scheme", "https"),
        FIELD(":authority", "example.org"), FIELD(":path", "/"),
    };
    nghttp2_nv field = FIELD("x", "y"), crumb = FIELD("cookie", "a=b");
    int i;

    begin();
    for (i = 4; i < 16; ++i) {
        fields[i] = field;
    }
    nghttp2_submit_request(client, NULL, fields, 14, NULL, NULL);
    nghttp2_submit_request(client, NULL, fields, 15, NULL, NULL);
    for (i = 5; i < 16; ++i) {
        fields[i] = crumb;          /* count as one */
    }
    nghttp2_submit_request(client, NULL, fields, 16, NULL, NULL);
    pump();
    assert_int_equal(ready_count, 3);
    assert_int_equal(ready[0]->request.status, 0);
    assert_int_equal(ready[1]->request.status, 431);
    assert_int_equal(ready[2]->request.status, 0);
    assert_int_equal(unit_log_count, 1);
    assert_non_null(strstr(unit_log_line, "LimitRequestFields"));
}

/* Kept, for the log, as far as it may be. */
TEST(limit_of_the_path)
{
    char *path = apr_palloc(unit_pool, 5001);

    begin();
    memset(path, '/', 5000);
    path[5000] = '\0';
    check_status(path, "name", "v", 414);
    assert_int_equal(strlen(ready[0]->request.path), 100);
    path[100] = '\0';
    check_status(path, NULL, NULL, 0);
    assert_string_equal(ready[1]->request.path, path);
    assert_int_equal(unit_log_count, 1);
    assert_non_null(strstr(unit_log_line, ":path exceeds LimitRequestLine"));
}

TEST(more_streams_than_allowed)
{
    int i;

    unit_conf[H2X_MAX_SESSION_STREAMS] = 3;
    make_session();
    make_client(1);
    for (i = 0; i < 5; ++i) {       /* before it knows of the limit */
        ask();
    }
    pump();
    assert_int_equal(ready_count, 3);
    assert_int_equal(h2x_session_stream_count(session), 3);
    assert_int_equal(answers[3].reset, NGHTTP2_REFUSED_STREAM);
    assert_int_equal(answers[4].reset, NGHTTP2_REFUSED_STREAM);
    for (i = 0; i < 3; ++i) {
        respond(run(i), "x", 1);
    }
    pump();
    reap();
    ask();
    pump();
    assert_int_equal(ready_count, 4);
    assert_int_equal(goaway_count, 0);
}

TEST(head_too_large_to_send)
{
    char *text = apr_palloc(unit_pool, 5000);
    int32_t id;

    unit_conf[H2X_MAX_HEADER_BLOCK_LEN] = 1000;
    begin();
    id = ask();
    ask();
    pump();
    memset(text, 'v', 5000);
    memcpy(text, "HTTP/1.1 200 OK\r\nX: ", 20);
    strcpy(text + 4000, "\r\n\r\n");
    say_head(run(0), text);
    say(ready[0], "body", 4);
    unit_log_count = 0;
    end(ready[0], 0);
    pump();
    assert_int_equal(answer_of(id)->status, 0);
    assert_int_equal(answer_of(id)->reset, NGHTTP2_INTERNAL_ERROR);
    assert_int_equal(unit_log_count, 1);
    assert_int_equal(closed_count, 1);
    respond(run(1), "fine", 4);
    pump();
    check_answer(3, 200, "fine", 4);
}

/* ---- what goes wrong ---- */

TEST(malformed_requests)
{
    static const char *const bad[][2] = {
        { "x-bad", "line\nbreak" }, { "x-bad", "nul\x01" },
        { "connection", "close" }, { "te", "gzip" },
        { "transfer-encoding", "chunked" }, { "bad name", "x" },
        { ":late", "x" }, { "content-length", "5" }, { NULL, NULL }
    };
    int i;

    begin();
    for (i = 0; bad[i][0]; ++i) {
        int32_t id = ask_for("/", bad[i][0], bad[i][1], NULL);

        pump();
        assert_int_equal(ready_count, 0);
        assert_int_equal(answer_of(id)->reset, NGHTTP2_PROTOCOL_ERROR);
        reap();
        assert_int_equal(h2x_session_stream_count(session), 0);
    }
    ask();
    pump();
    assert_int_equal(ready_count, 1);
    assert_int_equal(goaway_count, 0);
}

TEST(reset_by_the_client)
{
    int at;

    begin();
    for (at = 0; at < 4; ++at) {
        ask();
    }
    pump();
    say_head(run(1), OK_HEAD);
    say(ready[1], "some", 4);
    say_head(run(2), OK_HEAD);
    pump();
    say(ready[2], "other", 5);      /* which is on its way */
    for (at = 0; at < 3; ++at) {
        nghttp2_submit_rst_stream(client, NGHTTP2_FLAG_NONE, 2 * at + 1,
                                  NGHTTP2_CANCEL);
    }
    pump();
    assert_int_equal(closed_count, 3);
    for (at = 0; at < 3; ++at) {
        assert_true(ready[at]->is_closed);
    }
    say(ready[1], "more", 4);       /* its runner did not know yet */
    h2x_lock_acquire(lock);
    h2x_session_consumed(session, ready[1], 10);
    h2x_session_cancel(session, ready[1]);
    h2x_lock_release(lock);
    end(ready[2], 1);
    pump();
    reap();
    assert_int_equal(h2x_session_stream_count(session), 1);
    respond(run(3), "fine", 4);
    pump();
    check_answer(7, 200, "fine", 4);
}

TEST(cancelled)
{
    begin();
    ask();
    ask();
    pump();
    h2x_lock_acquire(lock);
    h2x_session_cancel(session, ready[0]);
    h2x_lock_release(lock);
    pump();
    assert_int_equal(answers[0].reset, NGHTTP2_CANCEL);
    assert_int_equal(closed_count, 1);
    assert_ptr_equal(closed[0], ready[0]);
}

TEST(failed_before_the_head)
{
    begin();
    ask();
    pump();
    run(0);
    end(ready[0], 1);
    pump();
    assert_int_equal(answers[0].reset, NGHTTP2_INTERNAL_ERROR);
    assert_int_equal(answers[0].status, 0);
    assert_int_equal(closed_count, 1);
}

/* What was written before is sent; then it is no short success. */
TEST(failed_half_way)
{
    begin();
    ask();
    ask();
    pump();
    say_head(run(0), OK_HEAD);
    say(ready[0], "half", 4);
    end(ready[0], 1);
    say_head(run(1), OK_HEAD);
    say(ready[1], "half", 4);
    pump();
    end(ready[1], 1);
    pump();
    assert_int_equal(answers[0].status, 200);
    assert_int_equal(answers[0].body_len, 4);
    assert_int_equal(answers[1].body_len, 4);
    assert_false(answers[0].ended || answers[1].ended);
    assert_int_equal(answers[0].reset, NGHTTP2_INTERNAL_ERROR);
    assert_int_equal(answers[1].reset, NGHTTP2_INTERNAL_ERROR);
    assert_int_equal(closed_count, 2);
}

/* What is left of a body is lost, when there is no memory to keep it: also
 * while a frame of it waits for room. */
TEST(failed_in_a_frame)
{
    begin();
    ask();
    pump();
    set_buffer(6000);
    say_head(run(0), OK_HEAD);
    say(ready[0], pattern(10000), 10000);
    pump_out();
    h2x_lock_acquire(lock);
    h2x_stream_drop_output_locked(ready[0]);
    h2x_lock_release(lock);
    end(ready[0], 1);
    pump();
    assert_int_equal(answers[0].status, 200);
    assert_false(answers[0].ended);
    assert_int_equal(answers[0].reset, NGHTTP2_INTERNAL_ERROR);
    assert_int_equal(closed_count, 1);
}

TEST(needs_http11)
{
    begin();
    ask();
    pump();
    end_with(run(0), H2X_OUTPUT_NEEDS_HTTP11);
    pump();
    assert_int_equal(answers[0].reset, NGHTTP2_HTTP_1_1_REQUIRED);
    assert_int_equal(closed_count, 1);
}

TEST(no_preface)
{
    static const char other[] = "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n";

    begin();
    h2x_session_destroy(session);
    make_session();
    h2x_lock_acquire(lock);
    h2x_session_receive(session, other, sizeof(other) - 1);
    h2x_lock_release(lock);
    pump_out();
    assert_int_equal(goaway_count, 1);
    assert_int_equal(goaway_code, NGHTTP2_PROTOCOL_ERROR);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_CLOSED);
    h2x_lock_acquire(lock);
    assert_int_equal(h2x_session_receive(session, "x", 1), APR_EGENERAL);
    h2x_lock_release(lock);
}

/* An error of the connection: GOAWAY says so, and that is the end. */
TEST(connection_error)
{
    static const char data_on_0[] = { 0, 0, 1, 0, 0, 0, 0, 0, 0, 'x' };

    begin();
    ask();
    pump();
    h2x_lock_acquire(lock);
    assert_int_equal(h2x_session_receive(session, data_on_0,
                                         sizeof(data_on_0)), APR_SUCCESS);
    h2x_lock_release(lock);
    pump_out();
    assert_int_equal(goaway_code, NGHTTP2_PROTOCOL_ERROR);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_CLOSED);
    h2x_lock_acquire(lock);
    h2x_session_abort(session);
    h2x_lock_release(lock);
    assert_int_equal(closed_count, 1);
}

/* Any cut in what comes is the same to a session. */
TEST(bytes_one_by_one)
{
    const uint8_t *data;
    ssize_t n, i;
    char to[5];

    make_session();
    make_client(1);
    send_body("hello", 5, 1);
    while ((n = nghttp2_session_mem_send(client, &data)) > 0) {
        for (i = 0; i < n; ++i) {
            char *one = malloc(1);

            *one = (char)data[i];
            h2x_lock_acquire(lock);
            assert_int_equal(h2x_session_receive(session, one, 1),
                             APR_SUCCESS);
            h2x_lock_release(lock);
            free(one);
        }
    }
    assert_int_equal(ready_count, 1);
    assert_int_equal(taken(run(0), to), 5);
    respond(ready[0], "fine", 4);
    pump();
    check_answer(1, 200, "fine", 4);
}

/* ---- ends ---- */

TEST(drains_in_two_steps)
{
    begin();
    ask();
    pump();
    ask();      /* is on its way when the session begins to drain */
    h2x_lock_acquire(lock);
    h2x_session_drain(session);
    h2x_session_drain(session);
    h2x_lock_release(lock);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_DRAINING);
    pump_in();
    pump_out();
    assert_int_equal(goaway_count, 1);
    assert_int_equal(goaways[0], 0x7fffffff);
    pump();
    assert_int_equal(ready_count, 2);
    assert_int_equal(goaway_count, 2);
    assert_int_equal(goaways[1], 3);
    assert_int_equal(goaway_code, NGHTTP2_NO_ERROR);
    respond(run(0), "one", 3);
    pump();
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_DRAINING);
    respond(run(1), "two", 3);
    pump();
    check_answer(1, 200, "one", 3);
    check_answer(3, 200, "two", 3);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_CLOSED);
    assert_int_equal(goaway_count, 2);
}

/* A GOAWAY that is not out yet has said already which streams count. */
TEST(asked_behind_a_goaway)
{
    begin();
    ask();
    pump();
    h2x_lock_acquire(lock);
    h2x_session_goaway(session);
    h2x_lock_release(lock);
    ask();
    pump_in();
    assert_int_equal(ready_count, 1);
    run(0);
    respond(ready[0], "x", 1);
    pump();
    assert_int_equal(goaways[0], 1);
    check_answer(1, 200, "x", 1);
    assert_int_equal(answer_of(3)->status, 0);
}

/* The mark of the PING that goes with the first GOAWAY, unasked, and later
 * than the last one. */
TEST(answered_without_being_asked)
{
    begin();
    ask();
    pump();
    send_frame(NGHTTP2_PING, NGHTTP2_FLAG_ACK, 0, "h2xdrain", 8);
    pump();
    assert_int_equal(goaway_count, 0);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_OPEN);
    h2x_lock_acquire(lock);
    h2x_session_drain(session);
    h2x_session_goaway(session);
    h2x_lock_release(lock);
    pump();
    assert_int_equal(goaway_count, 2);
    respond(run(0), "one", 3);
    pump();
    check_answer(1, 200, "one", 3);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_CLOSED);
}

static void check_end(h2x_session_end wanted, int is_condemned,
                      int has_failed)
{
    assert_int_equal(session->end, wanted);
    assert_int_equal(h2x_session_is_condemned(session), is_condemned);
    assert_int_equal(h2x_session_has_failed(session), has_failed);
}

/* An error, as far as the client is told of it. */
TEST(ended_by_an_error)
{
    begin();
    check_end(H2X_END_OPEN, 0, 0);
    send_frame(NGHTTP2_PRIORITY, 0, 0, "\0\0\0\1\1", 5);
    check_end(H2X_END_TERMINATED, 1, 0);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_DRAINING);
    h2x_lock_acquire(lock);
    h2x_session_drain(session);
    h2x_session_goaway(session);
    h2x_session_condemn(session, NGHTTP2_INTERNAL_ERROR, "another one");
    h2x_lock_release(lock);
    check_end(H2X_END_TERMINATED, 1, 0);
    set_buffer(10);
    h2x_lock_acquire(lock);
    buffer.len = 0;
    h2x_session_send(session, &buffer);
    h2x_lock_release(lock);
    check_end(H2X_END_FAILED, 1, 1);    /* there is no room for the GOAWAY */
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_DRAINING);
    set_buffer(32768);
    pump_out();
    assert_int_equal(goaway_code, NGHTTP2_PROTOCOL_ERROR);
    check_end(H2X_END_CLOSED_FAILED, 1, 1);
    assert_int_equal(unit_log_count, 1);
    h2x_lock_acquire(lock);
    h2x_session_abort(session);
    h2x_lock_release(lock);
    check_end(H2X_END_CLOSED_FAILED, 1, 1);
}

/* The same, when the client is gone before. */
TEST(ended_by_an_error_and_aborted)
{
    begin();
    send_frame(NGHTTP2_PRIORITY, 0, 0, "\0\0\0\1\1", 5);
    h2x_lock_acquire(lock);
    h2x_session_abort(session);
    h2x_lock_release(lock);
    check_end(H2X_END_CLOSED, 1, 0);
}

TEST(only_goes_forward)
{
    begin();
    h2x_lock_acquire(lock);
    h2x_session_goaway(session);
    expect_assert_failure(h2x_session_advance(session, H2X_END_GOAWAY));
    expect_assert_failure(h2x_session_advance(session, H2X_END_OPEN));
    h2x_lock_release(lock);
    assert_int_equal(session->end, H2X_END_GOAWAY);
}

TEST(drains_without_streams)
{
    begin();
    h2x_lock_acquire(lock);
    h2x_session_drain(session);
    h2x_lock_release(lock);
    pump_out();
    assert_int_equal(goaways[0], 0x7fffffff);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_DRAINING);
    pump_in();
    pump_out();
    /* the client of nghttp2 is through and ignores it: read it here */
    assert_int_equal(buffer.len, 9 + 8);
    assert_int_equal(buffer.data[3], NGHTTP2_GOAWAY);
    assert_memory_equal(buffer.data + 9, "\0\0\0\0\0\0\0\0", 8);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_CLOSED);
}

TEST(says_goodbye)
{
    begin();
    ask();
    pump();
    h2x_lock_acquire(lock);
    h2x_session_goaway(session);
    h2x_session_goaway(session);
    h2x_session_drain(session);
    h2x_lock_release(lock);
    pump();
    assert_int_equal(goaway_count, 1);
    assert_int_equal(goaways[0], 1);
    respond(run(0), "one", 3);
    pump();
    check_answer(1, 200, "one", 3);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_CLOSED);
    assert_int_equal(goaway_count, 1);
}

TEST(client_says_goodbye)
{
    begin();
    ask();
    pump();
    nghttp2_submit_goaway(client, NGHTTP2_FLAG_NONE, 0, NGHTTP2_NO_ERROR,
                          NULL, 0);
    pump();
    respond(run(0), "one", 3);
    pump();
    check_answer(1, 200, "one", 3);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_CLOSED);
}

TEST(aborted)
{
    int i;

    begin();
    for (i = 0; i < 10; ++i) {
        ask();
    }
    send_body("half", 4, 0);
    pump();
    for (i = 3; i < 11; ++i) {
        run(i);
    }
    for (i = 6; i < 11; ++i) {
        say_head(ready[i], OK_HEAD);
        say(ready[i], "some", 4);
    }
    end(ready[9], 0);
    h2x_lock_acquire(lock);
    h2x_session_abort(session);
    h2x_session_abort(session);
    h2x_lock_release(lock);
    assert_int_equal(closed_count, 11);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_CLOSED);
    say(ready[8], "more", 4);
    assert_int_equal(h2x_session_stream_count(session), 11);
    assert_false(pump_out());
    reap();
    assert_int_equal(h2x_session_stream_count(session), 0);
}

/* A frame that found no room is no harm at the end. */
TEST(aborted_with_a_frame_left)
{
    begin();
    ask();
    pump();
    respond(run(0), pattern(1000), 1000);
    set_buffer(10);
    h2x_lock_acquire(lock);
    buffer.len = 0;
    assert_int_equal(h2x_session_send(session, &buffer), APR_SUCCESS);
    h2x_lock_release(lock);
    assert_int_equal(buffer.len, 0);
}

static void count(void *baton, h2x_stream *stream)
{
    assert_non_null(stream);
    ++*(int *)baton;
}

static void release(void *baton, h2x_stream *stream)
{
    h2x_stream_advance_locked(stream, H2X_STREAM_CLOSED);
    h2x_session_release(session, stream);
    ++*(int *)baton;
}

TEST(each_stream)
{
    int counted = 0, i;

    begin();
    for (i = 0; i < 5; ++i) {
        ask();
    }
    pump();
    h2x_lock_acquire(lock);
    h2x_session_each(session, count, &counted);
    assert_int_equal(counted, 5);
    h2x_session_abort(session);
    closed_count = 0;
    h2x_session_each(session, release, &counted);
    assert_int_equal(counted, 10);
    h2x_session_each(session, count, &counted);
    assert_int_equal(counted, 10);
    h2x_lock_release(lock);
    assert_int_equal(h2x_session_stream_count(session), 0);
}

TEST(not_destroyed_with_streams)
{
    begin();
    ask();
    pump();
    expect_assert_failure(h2x_session_destroy(session));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SESSION_TEST(limits_of_fields),
        SESSION_TEST(limit_of_the_number_of_fields),
        SESSION_TEST(limit_of_the_path),
        SESSION_TEST(more_streams_than_allowed),
        SESSION_TEST(head_too_large_to_send),
        SESSION_TEST(malformed_requests),
        SESSION_TEST(reset_by_the_client),
        SESSION_TEST(cancelled),
        SESSION_TEST(failed_before_the_head),
        SESSION_TEST(failed_half_way),
        SESSION_TEST(failed_in_a_frame),
        SESSION_TEST(needs_http11),
        SESSION_TEST(no_preface),
        SESSION_TEST(connection_error),
        SESSION_TEST(bytes_one_by_one),
        SESSION_TEST(drains_in_two_steps),
        SESSION_TEST(asked_behind_a_goaway),
        SESSION_TEST(answered_without_being_asked),
        SESSION_TEST(ended_by_an_error),
        SESSION_TEST(ended_by_an_error_and_aborted),
        SESSION_TEST(only_goes_forward),
        SESSION_TEST(drains_without_streams),
        SESSION_TEST(says_goodbye),
        SESSION_TEST(client_says_goodbye),
        SESSION_TEST(aborted),
        SESSION_TEST(aborted_with_a_frame_left),
        SESSION_TEST(each_stream),
        SESSION_TEST(not_destroyed_with_streams),
    };

    return UNIT_RUN(tests);
}
