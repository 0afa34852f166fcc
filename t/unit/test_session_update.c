/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* PRIORITY_UPDATE (RFC 9218, section 7), at the level of the session. */

#include "session_more.h"

#include <string.h>

#include <apr_strings.h>

#include "../../session/h2x_session_core.h"

/* ---- for streams that are there ---- */

TEST(update_while_queued)
{
    begin();
    ask_with("u=5");
    ask_with(NULL);
    assert_int_equal(reprioritized_count, 0);
    update(1, "u=1, i");
    check_priority(ready[0], 1, 1);
    assert_int_equal(reprioritized_count, 1);
    update(1, "");                  /* what it does not name is default */
    check_priority(ready[0], 3, 0);
    update(3, "u=6");
    check_priority(ready[1], 6, 0);
    assert_true(ready[1]->is_prioritized);
    assert_int_equal(reprioritized_count, 3);
    update(1, "u=0");
    run(0);
    update(1, "u=2");
    assert_int_equal(reprioritized_count, 4);
    check_priority(ready[0], 2, 0);
}

static void begin_two(const char *one, const char *other)
{
    begin_wide();
    set_buffer(20000);
    ask_with(one);
    ask_with(other);
    respond_to_all();
}

TEST(update_while_it_is_sent)
{
    int at;

    begin_two("u=2", "u=7");
    while (!answer_of(1)->body_len) {
        assert_true(pump_out());
    }
    assert_int_equal(answer_of(3)->body_len, 0);
    update(3, "u=0");
    at = seen_count;
    pump();
    assert_string_equal(order(), "3 1");
    assert_in_range(place(NGHTTP2_DATA, 3), at, at + 1);
}

TEST(update_to_less)
{
    begin_two("u=2", "u=3");
    while (!answer_of(1)->body_len) {
        assert_true(pump_out());
    }
    update(1, "u=7, i");
    pump();
    assert_string_equal(order(), "3 1");
}

TEST(update_makes_incremental)
{
    begin_two("u=2", "u=2");
    update(1, "u=2, i");
    update(3, "u=2, i");
    pump();
    assert_int_equal(at_a_time(), 2);
}

TEST(update_of_a_closed_stream)
{
    int32_t id;

    begin();
    ask_with("u=5");
    respond(run(0), "x", 1);
    pump();
    update(1, "u=1");
    reap();
    update(1, "u=2");
    assert_int_equal(session->early.count, 0);
    id = ask_with(NULL);
    check_priority(ready[1], 3, 1);
    respond(run(1), "x", 1);
    pump();
    check_answer(id, 200, "x", 1);
    assert_int_equal(goaway_count, 0);
}

/* ---- for streams to come ---- */

TEST(early)
{
    begin();
    update(1, "u=1");
    update(5, "u=5, i");
    update(5, "u=6");               /* the last one counts */
    assert_int_equal(session->early.count, 2);
    ask_with(NULL);
    check_newest(1, 0);
    assert_true(ready[0]->is_prioritized);
    ask_with(NULL);
    check_newest(3, 1);
    ask_with("u=0, i");             /* it counts more than the field */
    check_newest(6, 0);
    assert_int_equal(session->early.count, 0);
    assert_int_equal(reprioritized_count, 0);
    ask_with("u=4");
    check_newest(4, 0);
}

TEST(early_and_malformed)
{
    begin();
    update(1, "u=1");
    update(1, "u=");
    update(3, "u=2, ");
    ask_with(NULL);
    check_newest(1, 0);
    ask_with("u=5");
    check_newest(5, 0);
    assert_int_equal(goaway_count, 0);
}

/* It decides about DATA, too. */
TEST(early_and_data)
{
    begin_wide();
    update(3, "u=0");
    update(1, "u=7");
    ask_with(NULL);
    ask_with(NULL);
    ask_with(NULL);
    respond_to_all();
    pump();
    assert_string_equal(order(), "3 5 1");
}

/* Those that the client went past are forgotten. */
TEST(early_is_emptied)
{
    int i;

    begin();
    for (i = 1; i < 40; i += 2) {
        update(i, "u=1");
    }
    assert_int_equal(session->early.count, 20);
    nghttp2_session_set_next_stream_id(client, 31);
    ask_with(NULL);
    check_newest(1, 0);
    assert_int_equal(session->early.count, 4);
    nghttp2_session_set_next_stream_id(client, 91);
    ask_with(NULL);
    assert_int_equal(session->early.count, 0);
}

static const char *any_update(int32_t id)
{
    static const char *const values[] = { "u=0", "u=7, i", "i", "u=" };

    return values[id / 2 % 4];
}

/* RFC 9218, section 7.1: no more than there may be streams. */
TEST(early_is_bounded)
{
    int i;

    unit_conf[H2X_MAX_SESSION_STREAMS] = 20;
    begin();
    for (i = 1; i < 40; i += 2) {
        update(i, "u=1");
    }
    assert_false(pump_out());
    assert_int_equal(session->early.count, 20);
    update(41, "u=1");
    pump();
    assert_int_equal(goaway_code, NGHTTP2_PROTOCOL_ERROR);
    assert_int_equal(session->early.count, 20);
}

/* What is kept for a stream ends with it: 1.52 of nghttp2 went on to use it. */
TEST(early_and_over)
{
    int i;

    begin();
    for (i = 1; i < 2 * MAX_STREAMS; i += 2) {
        update(i, "u=1");
        ask();
        pump();
        assert_int_equal(ready[0]->priority.urgency, 1);
        run(0);
        respond(ready[0], "", 0);
        pump();
        reap();
        ready_count = 0;
    }
    assert_int_equal(session->early.count, 0);
    assert_int_equal(goaway_count, 0);
}

/* A client that never acknowledges our SETTINGS is not bound by them. */
TEST(early_is_bounded_before_settings)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    int i;

    unit_conf[H2X_MAX_SESSION_STREAMS] = 20;
    make_session();
    h2x_lock_acquire(lock);
    h2x_session_receive(session, preface, sizeof(preface) - 1);
    h2x_lock_release(lock);
    send_frame(NGHTTP2_SETTINGS, 0, 0, NULL, 0);
    for (i = 1; i < 20000; i += 2) {
        update(i, any_update(i));
    }
    assert_in_range(session->early.count, 0, 1000);
}

/* Ids of streams that were refused are no streams to come. */
TEST(early_is_bounded_when_streams_are_refused)
{
    int i;

    unit_conf[H2X_MAX_SESSION_STREAMS] = 2;
    make_session();
    make_client(1);
    ask();
    ask();
    pump_in();                      /* it does not know the limit yet */
    nghttp2_session_set_next_stream_id(client, 101);
    ask();
    pump_in();
    assert_int_equal(ready_count, 2);
    for (i = 5; i <= 101; i += 2) {
        update(i, any_update(i));
    }
    assert_in_range(session->early.count, 0, 2);
    assert_int_equal(goaway_count, 0);
    pump();
    assert_int_equal(answer_of(101)->reset, NGHTTP2_REFUSED_STREAM);
}

/* ---- frames that are wrong ---- */

static void check_error(uint32_t code)
{
    pump();
    assert_int_equal(goaway_count, 1);
    assert_int_equal(goaway_code, code);
    again();
}

static const char u1[] = { 0, 0, 0, 1, 'u', '=', '1' };

TEST(update_on_a_stream)
{
    begin();
    ask();
    pump();
    send_frame(NGHTTP2_PRIORITY_UPDATE, 0, 1, u1, sizeof(u1));
    assert_int_equal(ready[0]->priority.urgency, 3);
    check_error(NGHTTP2_PROTOCOL_ERROR);
    begin();
    send_frame(NGHTTP2_PRIORITY_UPDATE, 0, 1, u1, sizeof(u1));
    check_error(NGHTTP2_PROTOCOL_ERROR);
    begin();                        /* for teardown() */
}

/*
 * What follows is not read, not even what has come with it: releases of
 * nghttp2 without the fix of CVE-2026-27135 abort there. With assertions, a
 * session that is terminated in a callback aborts with any release.
 */
TEST(update_on_a_stream_then_settings)
{
    static const char frames[] =
        "\0\0\7\x10\0\0\0\0\1" "\0\0\0\1u=1" "\0\0\1\4\0\0\0\0\0" "x";

    begin();
    ask();
    pump();
    h2x_lock_acquire(lock);
    assert_int_equal(h2x_session_receive(session, frames, sizeof(frames) - 1),
                     APR_SUCCESS);
    assert_int_equal(h2x_session_receive(session, "x", 1), APR_EAGAIN);
    h2x_lock_release(lock);
    assert_int_equal(unit_log_count, 1);
    assert_non_null(strstr(unit_log_line, "PROTOCOL_ERROR: PRIORITY_UPDATE"));
    check_error(NGHTTP2_PROTOCOL_ERROR);
    begin();
}

TEST(update_of_stream_0)
{
    begin();
    update(0, "u=1");
    check_error(NGHTTP2_PROTOCOL_ERROR);
    begin();
}

TEST(update_of_an_idle_push)
{
    begin();
    update(2, "u=1");
    check_error(NGHTTP2_PROTOCOL_ERROR);
    begin();
}

TEST(update_too_short)
{
    int len;

    for (len = 0; len < 4; ++len) {
        begin();
        send_frame(NGHTTP2_PRIORITY_UPDATE, 0, 0, u1, (size_t)len);
        check_error(NGHTTP2_FRAME_SIZE_ERROR);
    }
    begin();
}

/* Flags and the reserved bit mean nothing; nor does what cannot be read. */
TEST(update_that_is_odd)
{
    static const char reserved[] = { (char)0x80, 0, 0, 1, 'u', '=', '1' };
    static const char nul[] = { 0, 0, 0, 1, 'u', '=', '5', 0 };

    begin();
    ask();
    pump();
    send_frame(NGHTTP2_PRIORITY_UPDATE, 0, 0, reserved, sizeof(reserved));
    check_priority(ready[0], 1, 0);
    update(1, "u=2");
    send_frame(NGHTTP2_PRIORITY_UPDATE, 0xff, 0, u1, sizeof(u1));
    check_priority(ready[0], 1, 0);
    send_frame(NGHTTP2_PRIORITY_UPDATE, 0, 0, nul, sizeof(nul));
    update(1, "u=5 i");
    update(1, "\xff\xfe");
    check_priority(ready[0], 1, 0);
    update(1, "u=9");
    check_priority(ready[0], 3, 0);
    pump();
    assert_int_equal(goaway_count, 0);
}

/* A parameter that nobody knows makes a long one. */
TEST(update_that_is_long)
{
    begin();
    ask();
    pump();
    update(1, "x=12345678901234, u=1, i");
    check_priority(ready[0], 1, 1);
    update(1, apr_pstrcat(unit_pool, "u=2, x=", apr_pstrmemdup(unit_pool,
        "1234567890123456789012345678901234567890", 15), NULL));
    check_priority(ready[0], 2, 0);
    respond(run(0), "x", 1);
    pump();
    check_answer(1, 200, "x", 1);
}

/* RFC 7540's signals are read over. */
TEST(priority_frames)
{
    static const char on_3[] = { 0, 0, 0, 3, (char)255 };
    static const char on_itself[] = { 0, 0, 0, 1, 0 };

    begin_wide();
    send_frame(NGHTTP2_PRIORITY, 0, 9, on_3, 5);
    ask_with("u=1");
    ask_with("u=2");
    send_frame(NGHTTP2_PRIORITY, 0, 1, on_3, 5);
    send_frame(NGHTTP2_PRIORITY, 0, 1, on_itself, 5);
    check_priority(ready[0], 1, 0);
    respond_to_all();
    pump();
    assert_string_equal(order(), "1 3");
    send_frame(NGHTTP2_PRIORITY, 0, 1, on_3, 5);
    pump();
    assert_int_equal(goaway_count, 0);
    assert_int_equal(session->early.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SESSION_TEST(update_while_queued),
        SESSION_TEST(update_while_it_is_sent),
        SESSION_TEST(update_to_less),
        SESSION_TEST(update_makes_incremental),
        SESSION_TEST(update_of_a_closed_stream),
        SESSION_TEST(early),
        SESSION_TEST(early_and_malformed),
        SESSION_TEST(early_and_data),
        SESSION_TEST(early_is_emptied),
        SESSION_TEST(early_is_bounded),
        SESSION_TEST(early_and_over),
        SESSION_TEST(early_is_bounded_before_settings),
        SESSION_TEST(early_is_bounded_when_streams_are_refused),
        SESSION_TEST(update_on_a_stream),
        SESSION_TEST(update_on_a_stream_then_settings),
        SESSION_TEST(update_of_stream_0),
        SESSION_TEST(update_of_an_idle_push),
        SESSION_TEST(update_too_short),
        SESSION_TEST(update_that_is_odd),
        SESSION_TEST(update_that_is_long),
        SESSION_TEST(priority_frames),
    };

    return UNIT_RUN(tests);
}
