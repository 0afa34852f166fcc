/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Requests that come in, and answers that go out. */

#include "session.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- answers ---- */

TEST(begins_with_settings)
{
    unit_conf[H2X_MAX_SESSION_STREAMS] = 17;
    unit_conf[H2X_WINDOW_SIZE] = 5000;
    begin();
    assert_int_equal(nghttp2_session_get_remote_settings(
        client, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS), 17);
    assert_int_equal(nghttp2_session_get_remote_settings(
        client, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE), 5000);
    assert_true(nghttp2_session_get_remote_window_size(client) > 65535);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_OPEN);
    assert_int_equal(h2x_session_stream_count(session), 0);
    assert_true(h2x_session_is_fresh(session));
}

TEST(reads_a_request)
{
    h2x_request_head *head;

    begin();
    ask_for("/a?b=c", "x-note", "some value", NULL);
    pump();
    assert_int_equal(ready_count, 1);
    assert_int_equal(h2x_session_stream_count(session), 1);
    assert_false(h2x_session_is_fresh(session));
    head = &ready[0]->request;
    assert_int_equal(ready[0]->id, 1);
    assert_string_equal(head->method, "GET");
    assert_string_equal(head->scheme, "https");
    assert_string_equal(head->authority, "example.org");
    assert_string_equal(head->path, "/a?b=c");
    assert_string_equal(apr_table_get(head->fields, "x-note"), "some value");
    assert_int_equal(apr_table_elts(head->fields)->nelts, 1);
    assert_int_equal(head->status, 0);
    assert_false(head->has_body);
    assert_int_equal(ready[0]->in.state, H2X_INPUT_ENDED);
    assert_true(head->received > 0);
    assert_true(ready[0]->bytes_in > 9);
}

TEST(answers_with_a_body)
{
    int32_t id;

    begin();
    id = ask();
    pump();
    respond(run(0), "hello world", 11);
    pump();
    check_answer(id, 200, "hello world", 11);
    assert_string_equal(answer_of(id)->head, "server=x;");
    assert_int_equal(closed_count, 1);
    assert_int_equal(closed[0]->out.row.bytes, 0);
    assert_true(closed[0]->bytes_out > 11 + 9 + 9);
    reap();
    assert_int_equal(h2x_session_stream_count(session), 0);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_OPEN);
}

TEST(answers_without_a_body)
{
    int32_t id;

    begin();
    id = ask();
    pump();
    respond(run(0), NULL, 0);
    pump();
    check_answer(id, 200, "", 0);
    assert_int_equal(closed_count, 1);
}

TEST(answers_many)
{
    int i, round;

    begin();
    for (round = 0; round < 3; ++round) {
        for (i = 0; i < 20; ++i) {
            ask();
        }
        pump();
        assert_int_equal(ready_count, 20);
        assert_int_equal(h2x_session_stream_count(session), 20);
        for (i = 19; i >= 0; --i) {
            respond(run(i), "body", 4);
        }
        pump();
        for (i = 0; i < 20; ++i) {
            check_answer(40 * round + 2 * i + 1, 200, "body", 4);
        }
        assert_int_equal(closed_count, 20);
        reap();
        ready_count = 0;
        assert_int_equal(h2x_session_stream_count(session), 0);
    }
}

/* The client gets each piece at once, and the end when it is known. */
TEST(answers_piece_by_piece)
{
    h2x_stream *stream;
    answer *a;

    begin();
    a = answer_of(ask());
    pump();
    stream = run(0);
    say_head(stream, OK_HEAD);
    h2x_lock_acquire(lock);
    h2x_session_output(session, stream);
    h2x_lock_release(lock);
    pump();
    assert_int_equal(a->status, 200);
    say(stream, "one", 3);
    pump();
    assert_int_equal(a->body_len, 3);
    say(stream, "two", 3);
    pump();
    assert_int_equal(a->body_len, 6);
    assert_false(a->ended);
    end(stream, 0);
    pump();
    check_answer(1, 200, "onetwo", 6);
}

TEST(interim_responses_and_trailers)
{
    h2x_stream *stream;
    apr_table_t *trailers = apr_table_make(unit_pool, 1);
    int32_t id;

    begin();
    id = ask();
    pump();
    stream = run(0);
    say_head(stream, "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n");
    say_head(stream, "HTTP/1.1 103 Early Hints\r\nLink: b\r\n\r\n");
    say_head(stream, OK_HEAD);
    say(stream, "body", 4);
    apr_table_setn(trailers, "X-Sum", "1");
    stream->out.trailers = h2x_field_trailers(stream->pool, trailers);
    end(stream, 0);
    pump();
    check_answer(id, 200, "body", 4);
    assert_int_equal(answer_of(id)->interim, 2);
    assert_string_equal(answer_of(id)->head, "link=a;link=b;server=x;");
    assert_string_equal(answer_of(id)->trailers, "x-sum=1;");
}

static void check_large(size_t buffer_size, apr_int64_t data_max)
{
    size_t len = 300000;
    char *data = pattern(len);
    int32_t one, two;

    unit_conf[H2X_MAX_DATA_FRAME_LEN] = data_max;
    begin();
    set_buffer(buffer_size);
    one = ask();
    two = ask();
    pump();
    respond(run(0), data, len);
    respond(run(1), data + 1, len - 1);
    pump();
    check_answer(one, 200, data, len);
    check_answer(two, 200, data + 1, len - 1);
    assert_true(answer_of(one)->frame_max
                <= (size_t)(data_max ? data_max : 16384));
}

TEST(large_answers)
{
    check_large(32768, 0);
}

TEST(large_answers_in_an_odd_buffer)
{
    check_large(17001, 0);
}

TEST(large_answers_in_a_buffer_of_one_frame)
{
    check_large(16384 + 9, 0);
}

TEST(large_answers_in_small_frames)
{
    check_large(32768, 777);
}

/* The bytes of a stream stay where they are until the client has room. */
TEST(client_without_window)
{
    h2x_stream *stream;

    make_session();
    make_client(0);
    ask();
    pump();
    stream = run(0);
    say_head(stream, OK_HEAD);
    say(stream, pattern(100000), 100000);
    end(stream, 0);
    pump();
    assert_int_equal(answers[0].body_len, 65535);
    assert_int_equal(stream->out.row.bytes, 100000 - 65535);
    assert_int_equal(closed_count, 0);
    nghttp2_session_consume(client, 1, 65535);
    pump();
    check_answer(1, 200, pattern(100000), 100000);
}

TEST(parts_of_files)
{
    char path[] = "/tmp/h2x-test-session-XXXXXX";
    int fd = mkstemp(path);
    char *data = pattern(50000);
    h2x_stream *stream;

    unlink(path);
    assert_int_equal(write(fd, data, 50000), 50000);
    begin();
    ask();
    ask();
    pump();
    stream = run(0);
    say_head(stream, OK_HEAD);
    assert_int_equal(h2x_segments_add_file(&stream->out.row, fd, 100, 40000, 0),
                     APR_SUCCESS);
    end(stream, 0);
    pump();
    check_answer(1, 200, data + 100, 40000);

    stream = run(1);    /* whose file is not what it was */
    say_head(stream, OK_HEAD);
    assert_int_equal(h2x_segments_add_file(&stream->out.row, fd, 0, 50000, 0),
                     APR_SUCCESS);
    assert_int_equal(ftruncate(fd, 20000), 0);
    unit_log_count = 0;
    end(stream, 0);
    pump();
    assert_true(answers[1].reset > 0);
    assert_false(answers[1].ended);
    assert_true(answers[1].body_len < 20001);
    assert_int_equal(unit_log_count, 1);
    assert_int_equal(closed_count, 2);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_OPEN);
    close(fd);
}

/* ---- bodies of requests ---- */

TEST(reads_a_body)
{
    char to[10];

    begin();
    send_body("hello", 5, 1);
    pump();
    assert_int_equal(ready_count, 1);
    assert_true(ready[0]->request.has_body);
    assert_int_equal(ready[0]->in.state, H2X_INPUT_ENDED);
    assert_int_equal(taken(run(0), to), 5);
    assert_memory_equal(to, "hello", 5);
}

TEST(reads_a_body_as_it_comes)
{
    h2x_stream *stream;
    char to[10];

    begin();
    send_body("one", 3, 0);
    pump();
    stream = run(0);
    assert_int_equal(taken(stream, to), 3);
    assert_int_equal(stream->in.state, H2X_INPUT_OPEN);
    uploads[0].data = "four";
    uploads[0].len = 4;
    uploads[0].ended = 1;
    nghttp2_session_resume_data(client, 1);
    pump();
    assert_int_equal(taken(stream, to), 4);
    assert_memory_equal(to, "four", 4);
    assert_int_equal(stream->in.state, H2X_INPUT_ENDED);
    assert_int_equal(ready_count, 1);
}

/* What the runner does not take, the client may not follow up. */
TEST(body_is_held_back)
{
    size_t len = 200000, at = 0;
    char *data = pattern(len), *to = malloc(len);
    h2x_stream *stream;
    int rounds = 0;

    unit_conf[H2X_WINDOW_SIZE] = 10000;
    begin();
    send_body(data, len, 1);
    pump();
    stream = run(0);
    assert_int_equal(len - uploads[0].len, 10000);
    for (; at < len; ++rounds) {
        size_t n = taken(stream, to + at);

        /* once it takes some, windows grow: see t/engine/test_windows.py */
        assert_true(n > 0 && (rounds || n == 10000));
        at += n;
        pump();
    }
    assert_memory_equal(data, to, len);
    assert_int_equal(stream->in.state, H2X_INPUT_ENDED);
    free(to);
}

/* A stream whose body nobody takes leaves the others their room. */
TEST(connection_window_is_given_back)
{
    char *data = pattern(60000), *to = malloc(60000);
    int i;

    begin();
    for (i = 0; i < 40; ++i) {      /* 2.4 MB */
        send_body(data, 60000, 1);
        pump();
        assert_int_equal(uploads[i].len, 0);
    }
    assert_int_equal(ready_count, 40);
    for (i = 0; i < 40; ++i) {
        assert_int_equal(taken(run(i), to), 60000);
        assert_memory_equal(data, to, 60000);
    }
    free(to);
}

TEST(trailers_of_requests)
{
    nghttp2_nv fields[] = { FIELD("x-sum", "1"), FIELD("cookie", "no") };
    char to[10];

    begin();
    send_body("body", 4, 0);
    pump();
    run(0);
    nghttp2_submit_trailer(client, 1, fields, 2);
    pump();
    assert_int_equal(ready[0]->in.state, H2X_INPUT_ENDED);
    assert_int_equal(taken(ready[0], to), 4);
    assert_non_null(ready[0]->in.trailers);
    assert_string_equal(apr_table_get(ready[0]->in.trailers, "X-Sum"), "1");
    assert_int_equal(apr_table_elts(ready[0]->in.trailers)->nelts, 1);
}

/* RFC 9113, section 8.1: the answer is complete, no more body is wanted. */
TEST(answered_before_the_body_came)
{
    begin();
    send_body("some", 4, 0);
    pump();
    respond(run(0), "no", 2);
    pump();
    assert_int_equal(answers[0].status, 200);
    assert_true(answers[0].ended);
    assert_int_equal(answers[0].reset, NGHTTP2_NO_ERROR);
    assert_int_equal(closed_count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SESSION_TEST(begins_with_settings),
        SESSION_TEST(reads_a_request),
        SESSION_TEST(answers_with_a_body),
        SESSION_TEST(answers_without_a_body),
        SESSION_TEST(answers_many),
        SESSION_TEST(answers_piece_by_piece),
        SESSION_TEST(interim_responses_and_trailers),
        SESSION_TEST(large_answers),
        SESSION_TEST(large_answers_in_an_odd_buffer),
        SESSION_TEST(large_answers_in_a_buffer_of_one_frame),
        SESSION_TEST(large_answers_in_small_frames),
        SESSION_TEST(client_without_window),
        SESSION_TEST(parts_of_files),
        SESSION_TEST(reads_a_body),
        SESSION_TEST(reads_a_body_as_it_comes),
        SESSION_TEST(body_is_held_back),
        SESSION_TEST(connection_window_is_given_back),
        SESSION_TEST(trailers_of_requests),
        SESSION_TEST(answered_before_the_body_came),
    };

    return UNIT_RUN(tests);
}
