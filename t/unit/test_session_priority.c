/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Priorities (RFC 9218), at the level of the session: what requests and
 * responses say, and whose DATA is sent. */

#include "session_more.h"

#include <string.h>

#include <apr_strings.h>

/* ---- what a request says ---- */

TEST(announced)
{
    begin();
    assert_int_equal(nghttp2_session_get_remote_settings(
        client, NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES), 1);
}

TEST(nothing_said)
{
    begin();
    ask();
    pump();
    check_newest(3, 1);
    assert_false(ready[0]->is_prioritized);
}

TEST(field)
{
    static const struct {
        const char *value;
        int urgency, is_incremental;
    } fields[] = {
        { "u=0", 0, 0 }, { "u=7", 7, 0 }, { "u=5, i", 5, 1 }, { "i", 3, 1 },
        { "i=?0", 3, 0 }, { "", 3, 0 }, { "u=8", 3, 0 }, { "x=1, u=2", 2, 0 },
        { "u=1;a=b,i;c", 1, 1 }
    };
    size_t i;

    begin();
    for (i = 0; i < sizeof(fields) / sizeof(fields[0]); ++i) {
        ask_with(fields[i].value);
        check_newest(fields[i].urgency, fields[i].is_incremental);
        assert_true(ready[i]->is_prioritized);
    }
}

/* As if it were not there; but whether incremental, is open. */
TEST(malformed_field)
{
    static const char *const values[] = {
        "u=1,", "u=", "u=1 i", "U=1", "u=1, i=?2", "u=0, x=\"", "=1", "\x80"
    };
    size_t i;

    begin();
    for (i = 0; i < sizeof(values) / sizeof(values[0]); ++i) {
        ask_with(values[i]);
        assert_int_equal(ready_count, (int)i + 1);
        assert_int_equal(ready[i]->priority.urgency, 3);
    }
}

static void ask_with_two(const char *one, const char *other)
{
    nghttp2_nv fields[] = {
        FIELD(":method", "GET"), FIELD(":scheme", "https"),
        FIELD(":authority", "example.org"), FIELD(":path", "/"),
        FIELD("priority", one), FIELD("x", "y"), FIELD("priority", other)
    };

    nghttp2_submit_request(client, NULL, fields, 7, NULL, NULL);
    pump();
}

/* RFC 8941, section 4.2: field lines are combined. */
TEST(several_fields)
{
    begin();
    ask_with_two("u=1", "i");
    check_newest(1, 1);
    ask_with_two("u=1, i", "u=2, i=?0");
    check_newest(2, 0);
    ask_with_two("u=1", "u=");
    assert_int_equal(ready[2]->priority.urgency, 3);
    ask_with_two("x=(1", "2)");
    assert_int_equal(ready[3]->priority.urgency, 3);
}

/* ---- whose DATA is sent ---- */

TEST(fair_by_default)
{
    int i;

    begin_wide();
    for (i = 0; i < 4; ++i) {
        ask_with(NULL);
    }
    respond_to_all();
    pump();
    assert_int_equal(at_a_time(), 4);
    for (i = 1; i < 8; i += 2) {
        check_answer(i, 200, pattern(LEN), LEN);
    }
}

TEST(most_urgent_first)
{
    begin_wide();
    ask_with("u=7");
    ask_with("u=3");
    ask_with("u=0");
    ask_with("u=5, i");
    ask_with(NULL);
    ask_with("u=1");
    respond_to_all();
    pump();
    assert_string_equal(order(), "5 11 3 9 7 1");
}

/* RFC 9218, section 10: in ascending order of their ids, whatever the order
 * in which they are ready. */
TEST(one_after_the_other)
{
    int i;

    begin_wide();
    for (i = 0; i < 5; ++i) {
        ask_with("u=4");
    }
    for (i = 4; i >= 0; --i) {
        respond(run(i), pattern(LEN), LEN);
    }
    pump();
    assert_string_equal(order(), "1 3 5 7 9");
    assert_int_equal(at_a_time(), 1);
}

/* At each moment, no two of them are more than some frames apart. */
TEST(in_turn)
{
    size_t got[8] = { 0 };
    int i, a, b;

    begin_wide();
    for (i = 0; i < 4; ++i) {
        ask_with("u=6, i");
    }
    respond_to_all();
    pump();
    for (i = 0; i < seen_count; ++i) {
        if (seen[i].type == NGHTTP2_DATA) {
            got[seen[i].id] += seen[i].len;
        }
        for (a = 1; a < 8; a += 2) {
            for (b = 1; b < 8; b += 2) {
                assert_true(got[a] <= got[b] + 2 * FRAME);
            }
        }
    }
    assert_int_equal(got[7], LEN);
}

/* One that comes when others are under way gets its share, not more: it does
 * not catch up. */
TEST(in_turn_later)
{
    size_t before, share;

    begin_wide();
    set_buffer(20000);
    ask_with("i");
    respond(run(0), pattern(8 * LEN), 8 * LEN);
    while (answer_of(1)->body_len < 2 * LEN) {
        assert_true(pump_out());
    }
    ask_for("/", "priority", "i", NULL);
    pump_in();
    respond(run(1), pattern(4 * LEN), 4 * LEN);
    before = answer_of(1)->body_len;
    while (!answer_of(3)->ended) {
        assert_true(pump_out());
    }
    share = answer_of(1)->body_len - before;
    assert_in_range(share, 4 * LEN - 3 * FRAME, 4 * LEN + 3 * FRAME);
    pump();
    check_answer(1, 200, pattern(8 * LEN), 8 * LEN);
}

/* One that has nothing to send is in nobody's way. */
TEST(urgent_and_idle)
{
    begin_wide();
    ask_with("u=0");
    ask_with("u=7");
    say_head(run(0), OK_HEAD);
    say(ready[0], "some", 4);
    respond(run(1), pattern(LEN), LEN);
    pump();
    check_answer(3, 200, pattern(LEN), LEN);
    say(ready[0], "more", 4);
    end(ready[0], 0);
    pump();
    check_answer(1, 200, "somemore", 8);
}

/* So is one whose window is closed. */
TEST(urgent_and_stuck)
{
    make_session();
    make_client(0);
    ask_with("u=0");
    ask_with("u=7");
    respond(run(0), pattern(LEN), LEN);
    respond(run(1), "x", 1);
    pump();
    assert_int_equal(answer_of(1)->body_len, 65535);
    nghttp2_session_consume_connection(client, 65535);
    pump();
    check_answer(3, 200, "x", 1);
    assert_int_equal(answer_of(1)->body_len, 65535);
}

/* ---- what a response says ---- */

static void check_merge(const char *request, const char *response,
                        int urgency, int is_incremental)
{
    h2x_stream *stream;

    ask_with(request);
    stream = run(ready_count - 1);
    say_head(stream, apr_pstrcat(unit_pool, "HTTP/1.1 200 OK\r\n", response,
                                 "\r\n\r\n", NULL));
    say(stream, "x", 1);
    pump();
    check_priority(stream, urgency, is_incremental);
    assert_int_equal(answer_of(stream->id)->status, 200);
    assert_non_null(strstr(answer_of(stream->id)->head, "priority="));
}

/* RFC 9218, section 8: what it does not name stays the client's. */
TEST(merged)
{
    begin();
    check_merge("u=5, i", "Priority: u=1", 1, 1);
    check_merge("u=5", "Priority: i", 5, 1);
    check_merge("u=5, i", "Priority: u=1, i=?0", 1, 0);
    check_merge("u=5, i", "Priority: u=9, i=1", 5, 1);
    check_merge("u=5, i", "Priority: u=1,", 5, 1);
    check_merge("u=5, i", "Priority: x=1", 5, 1);
    check_merge(NULL, "Priority: u=1", 1, 1);
    check_merge(NULL, "Priority: u=1, i=?0", 1, 0);
}

TEST(merged_of_several_fields)
{
    begin();
    check_merge("u=5", "Priority: u=1\r\nServer: x\r\nPriority: i", 1, 1);
    check_merge("u=5", "Priority: u=1\r\nPriority: u=2", 2, 0);
}

/* The client may change its mind when it has seen that. */
TEST(merged_and_updated)
{
    begin();
    check_merge("u=5, i", "Priority: u=1", 1, 1);
    update(1, "u=6");
    check_priority(ready[0], 6, 0);
    end(ready[0], 0);
    pump();
    assert_true(answer_of(1)->ended);
}

TEST(merged_decides)
{
    int i;

    begin_wide();
    for (i = 0; i < 3; ++i) {
        ask_with("u=4");
    }
    for (i = 0; i < 3; ++i) {
        say_head(run(i), i == 1 ? "HTTP/1.1 200 OK\r\nPriority: u=3\r\n\r\n"
                         : i == 0 ? "HTTP/1.1 200 OK\r\nPriority: u=7\r\n\r\n"
                                  : OK_HEAD);
        say(ready[i], pattern(LEN), LEN);
        end(ready[i], 0);
    }
    pump();
    assert_string_equal(order(), "3 5 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SESSION_TEST(announced),
        SESSION_TEST(nothing_said),
        SESSION_TEST(field),
        SESSION_TEST(malformed_field),
        SESSION_TEST(several_fields),
        SESSION_TEST(fair_by_default),
        SESSION_TEST(most_urgent_first),
        SESSION_TEST(one_after_the_other),
        SESSION_TEST(in_turn),
        SESSION_TEST(in_turn_later),
        SESSION_TEST(urgent_and_idle),
        SESSION_TEST(urgent_and_stuck),
        SESSION_TEST(merged),
        SESSION_TEST(merged_of_several_fields),
        SESSION_TEST(merged_and_updated),
        SESSION_TEST(merged_decides),
    };

    return UNIT_RUN(tests);
}
