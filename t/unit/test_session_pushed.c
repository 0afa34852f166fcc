/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* What becomes of promised streams: their responses, how they end early, and
 * when their DATA is sent. */

#include "session_more.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <apr_strings.h>

#include "../../session/h2x_session_core.h"

/* ---- responses ---- */

static void check_status(int status, int wanted)
{
    begin();
    promise_a_style();
    say_head(run(1), apr_psprintf(unit_pool, "HTTP/1.1 %d X\r\n\r\n",
                                  status));
    say(ready[1], "body", 4);
    end(ready[1], 0);
    end(ready[0], 0);
    pump();
    assert_int_equal(closed_count, 2);
    check_answer(1, 200, "", 0);
    if (wanted) {
        check_answer(2, status, "body", 4);
    }
    else {
        assert_int_equal(answer_of(2)->status, 0);
        assert_int_equal(answer_of(2)->reset, NGHTTP2_CANCEL);
    }
    assert_int_equal(goaway_count, 0);
}

/* A response that answers nothing that the client asked for is of no use to
 * it, unless it is a success. */
TEST(only_success_is_sent)
{
    static const int good[] = { 200, 203, 206, 299 };
    static const int bad[] = { 300, 301, 304, 307, 400, 404, 500, 503 };
    size_t i;

    for (i = 0; i < sizeof(good) / sizeof(good[0]); ++i) {
        check_status(good[i], 1);
        again();
    }
    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); ++i) {
        check_status(bad[i], 0);
        again();
    }
    begin();                                /* for teardown() */
}

TEST(interim_response_is_dropped)
{
    begin();
    promise_a_style();
    say_head(run(1), "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n");
    say_head(ready[1], "HTTP/1.1 102 Processing\r\n\r\n");
    respond(ready[1], "style", 5);
    pump();
    check_answer(2, 200, "style", 5);
    assert_int_equal(answer_of(2)->interim, 0);
    assert_string_equal(answer_of(2)->head, "server=x;");
}

/* It alone says nothing, and the stream goes on. */
TEST(interim_response_alone)
{
    begin();
    promise_a_style();
    say_head(run(1), "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n");
    h2x_lock_acquire(lock);
    h2x_session_output(session, ready[1]);
    h2x_lock_release(lock);
    pump();
    assert_int_equal(answer_of(2)->status, 0);
    assert_int_equal(closed_count, 0);
    respond(ready[1], NULL, 0);
    pump();
    check_answer(2, 200, "", 0);
}

TEST(trailers)
{
    apr_table_t *trailers = apr_table_make(unit_pool, 1);

    begin();
    promise_a_style();
    say_head(run(1), OK_HEAD);
    say(ready[1], "style", 5);
    apr_table_setn(trailers, "X-Sum", "1");
    ready[1]->out.trailers = h2x_field_trailers(ready[1]->pool, trailers);
    end(ready[1], 0);
    pump();
    check_answer(2, 200, "style", 5);
    assert_string_equal(answer_of(2)->trailers, "x-sum=1;");
}

/* A request that wants HTTP/1.1 cannot be repeated: nobody made it. */
TEST(needs_http11)
{
    begin();
    promise_a_style();
    end_with(run(1), H2X_OUTPUT_NEEDS_HTTP11);
    pump();
    assert_int_equal(answer_of(2)->status, 0);
    assert_int_equal(answer_of(2)->reset, NGHTTP2_CANCEL);
    assert_int_equal(closed_count, 1);
}

TEST(failed)
{
    begin();
    open_page();
    promise_many(ready[0], 1, 2, OK_HEAD);
    pump();
    end(run(1), 1);
    say_head(run(2), OK_HEAD);
    say(ready[2], "half", 4);
    end(ready[2], 1);
    pump();
    assert_int_equal(answer_of(2)->status, 0);
    assert_int_equal(answer_of(2)->reset, NGHTTP2_INTERNAL_ERROR);
    assert_int_equal(answer_of(4)->body_len, 4);
    assert_false(answer_of(4)->ended);
    assert_int_equal(answer_of(4)->reset, NGHTTP2_INTERNAL_ERROR);
    assert_int_equal(closed_count, 2);
}

/* ---- reset by the client ---- */

/* What becomes of promised streams by the time they are reset. */
enum { IS_QUEUED, IS_RUNNING, HAS_HEAD, HAS_DATA, HAS_NEWS, IS_STUCK, KINDS };

static void promise_each_kind(void)
{
    open_page();
    promise_many(ready[0], 1, KINDS, OK_HEAD);
    pump();
    assert_int_equal(ready_count, 1 + KINDS);
    run(1 + IS_RUNNING);
    say_head(run(1 + HAS_HEAD), OK_HEAD);
    say(ready[1 + HAS_HEAD], "", 0);
    say_head(run(1 + HAS_DATA), OK_HEAD);
    say(ready[1 + HAS_DATA], "some", 4);
    respond(run(1 + IS_STUCK), pattern(100000), 100000);
    pump();
    assert_int_equal(answer_of(2 + 2 * HAS_HEAD)->status, 200);
    assert_int_equal(answer_of(2 + 2 * HAS_DATA)->body_len, 4);
    assert_true(ready[1 + IS_STUCK]->out.row.bytes > 0);
    say_head(run(1 + HAS_NEWS), OK_HEAD);
    say(ready[1 + HAS_NEWS], "unsent", 6);
}

TEST(reset_by_the_client)
{
    int i, frames;

    make_session();
    make_client(0);
    pump();
    promise_each_kind();
    for (i = 0; i < KINDS; ++i) {
        nghttp2_submit_rst_stream(client, NGHTTP2_FLAG_NONE, 2 + 2 * i,
                                  NGHTTP2_CANCEL);
    }
    nghttp2_session_consume_connection(client, 65535);
    pump_in();
    assert_int_equal(closed_count, KINDS);
    frames = seen_count;
    say(ready[1 + HAS_DATA], "more", 4);    /* it does not know yet */
    end(ready[1 + HAS_HEAD], 0);
    respond(ready[1 + IS_RUNNING], "x", 1);
    end(ready[1 + HAS_NEWS], 1);
    pump();
    assert_int_equal(seen_count, frames);
    assert_int_equal(closed_count, KINDS);
    reap();
    assert_int_equal(h2x_session_stream_count(session), 1);
    end(ready[0], 0);
    pump();
    check_answer(1, 200, "", 0);
    assert_int_equal(goaway_count, 0);
}

/* It and the end of the response pass each other. */
TEST(reset_by_the_client_late)
{
    static const char cancel[] = { 0, 0, 0, NGHTTP2_CANCEL };

    begin();
    promise_a_style();
    respond(run(1), "style", 5);
    pump();
    check_answer(2, 200, "style", 5);
    send_frame(NGHTTP2_RST_STREAM, 0, 2, cancel, 4);
    reap();
    send_frame(NGHTTP2_RST_STREAM, 0, 2, cancel, 4);
    end(ready[0], 0);
    pump();
    check_answer(1, 200, "", 0);
    assert_int_equal(goaway_count, 0);
}

/* The owner gives up on it. */
TEST(cancelled)
{
    begin();
    open_page();
    promise_many(ready[0], 1, 2, OK_HEAD);
    pump();
    say_head(run(2), OK_HEAD);
    h2x_lock_acquire(lock);
    h2x_session_cancel(session, ready[1]);
    h2x_session_cancel(session, ready[2]);
    h2x_lock_release(lock);
    pump();
    assert_int_equal(answer_of(2)->reset, NGHTTP2_CANCEL);
    assert_int_equal(answer_of(4)->reset, NGHTTP2_CANCEL);
    assert_int_equal(closed_count, 2);
}

/* ---- when DATA is sent ---- */

/* A page of a priority and one promise, both with all of their DATA ready. */
static void fill_page(const char *priority, int is_critical,
                      const char *push_head)
{
    h2x_promise *list = NULL;
    h2x_stream *page;

    ask_for("/", priority ? "priority" : NULL, priority, NULL);
    pump();
    page = run(ready_count - 1);
    add_promise(page, &list, "/style.css")->is_critical = is_critical;
    say_promises(page, list, NULL);
    pump();
    say_head(run(ready_count - 1), push_head);
    say(ready[ready_count - 1], pattern(LEN), LEN);
    end(ready[ready_count - 1], 0);
    respond(page, pattern(LEN), LEN);
}

/* How many bytes of two streams had come when the first of them was whole,
 * of the other one. */
static size_t bytes_behind(void)
{
    size_t got[2] = { 0, 0 };
    int i;

    for (i = 0; i < seen_count && got[0] < LEN && got[1] < LEN; ++i) {
        if (seen[i].type == NGHTTP2_DATA) {
            got[seen[i].id % 2] += seen[i].len;
        }
    }
    assert_true(got[0] == LEN || got[1] == LEN);
    return got[0] < got[1] ? got[0] : got[1];
}

static int32_t first_whole(void)
{
    size_t got[2] = { 0, 0 };
    int i;

    for (i = 0; i < seen_count; ++i) {
        if (seen[i].type == NGHTTP2_DATA
            && (got[seen[i].id % 2] += seen[i].len) == LEN) {
            return seen[i].id;
        }
    }
    return 0;
}

/* Which one is whole first, and how much of the other may come before. */
static void check_order(int32_t first, size_t before)
{
    pump();
    check_answer(1, 200, pattern(LEN), LEN);
    check_answer(2, 200, pattern(LEN), LEN);
    assert_in_range(bytes_behind(), 0, before);
    assert_int_equal(first_whole(), first);
}

TEST(push_after)
{
    begin_wide();
    fill_page(NULL, 0, OK_HEAD);
    check_order(1, 0);
}

TEST(push_before)
{
    unit_push_order = H2X_PUSH_BEFORE;
    begin_wide();
    fill_page(NULL, 0, OK_HEAD);
    check_order(2, 0);
}

TEST(push_interleaved)
{
    unit_push_order = H2X_PUSH_INTERLEAVED;
    begin_wide();
    fill_page(NULL, 0, OK_HEAD);
    pump();
    check_answer(1, 200, pattern(LEN), LEN);
    check_answer(2, 200, pattern(LEN), LEN);
    assert_in_range(bytes_behind(), LEN - 2 * FRAME, LEN);
}

/* What is critical comes first, whatever its type. */
TEST(push_critical)
{
    begin_wide();
    fill_page(NULL, 1, OK_HEAD);
    check_order(2, 0);
}

/* After the response, and not after its end: while that has nothing. */
TEST(push_while_the_page_waits)
{
    h2x_stream *page;

    begin_wide();
    page = promise_a_style();
    say(page, "some", 4);
    respond(run(1), pattern(LEN), LEN);
    pump();
    check_answer(2, 200, pattern(LEN), LEN);
    assert_int_equal(answer_of(1)->body_len, 4);
}

/* It takes turns with others of its own urgency, whatever the page does. */
static void check_urgency(const char *page, h2x_push_order order_of_type,
                          int urgency)
{
    unit_push_order = order_of_type;
    fill_page(page, 0, OK_HEAD);
    pump();
    assert_int_equal(ready[ready_count - 1]->priority.urgency, urgency);
    assert_int_equal(ready[ready_count - 1]->priority.is_incremental,
                     urgency > 0);
}

TEST(push_urgency)
{
    begin_wide();
    check_urgency("u=4", H2X_PUSH_BEFORE, 3);
    check_urgency("u=4", H2X_PUSH_INTERLEAVED, 4);
    check_urgency("u=4", H2X_PUSH_AFTER, 5);
    check_urgency("u=7", H2X_PUSH_AFTER, 7);
    check_urgency("u=0", H2X_PUSH_BEFORE, 0);
    check_urgency(NULL, H2X_PUSH_AFTER, 4);
}

/* There is nothing less urgent than 7, and nothing more than 0. */
TEST(push_at_the_ends_of_the_scale)
{
    begin_wide();
    fill_page("u=7", 0, OK_HEAD);
    check_order(1, 0);
    again();
    unit_push_order = H2X_PUSH_BEFORE;
    begin_wide();
    fill_page("u=0", 0, OK_HEAD);
    check_order(2, FRAME);
    again();
    unit_push_order = H2X_PUSH_BEFORE;
    begin_wide();
    fill_page("u=0, i", 0, OK_HEAD);
    check_order(2, FRAME);
}

/* RFC 9218, section 10: what the response says counts. */
TEST(push_with_priority_field)
{
    begin_wide();
    fill_page("u=4", 0, "HTTP/1.1 200 OK\r\nPriority: u=1\r\n\r\n");
    check_order(2, 0);
    again();
    unit_push_order = H2X_PUSH_BEFORE;
    begin_wide();
    fill_page("u=4", 0, "HTTP/1.1 200 OK\r\nPriority: u=6\r\n\r\n");
    check_order(1, 0);
}

/* And what the client says counts more than H2PushPriority. */
TEST(push_with_priority_update)
{
    begin_wide();
    promise_a_style();
    update(2, "u=1");
    say(ready[0], pattern(LEN), LEN);
    end(ready[0], 0);
    respond(run(1), pattern(LEN), LEN);
    assert_int_equal(ready[1]->priority.urgency, 1);
    check_order(2, 0);
    assert_int_equal(ready[1]->priority.urgency, 1);
}

TEST(push_with_priority_update_while_it_is_sent)
{
    int at;

    begin_wide();
    fill_page(NULL, 0, OK_HEAD);
    set_buffer(20000);
    while (!answer_of(1)->body_len) {
        assert_true(pump_out());
    }
    update(2, "u=0");
    at = seen_count;
    pump();
    check_answer(1, 200, pattern(LEN), LEN);
    check_answer(2, 200, pattern(LEN), LEN);
    assert_int_equal(first_whole(), 2);
    assert_in_range(place(NGHTTP2_DATA, 2), at, at + 2);
}

/* Its request waits: who runs it is told. */
TEST(priority_update_for_a_queued_push)
{
    int before;

    begin();
    promise_a_style();
    before = reprioritized_count;
    update(2, "u=5, i");
    assert_int_equal(reprioritized_count, before + 1);
    assert_int_equal(ready[1]->priority.urgency, 5);
    update(4, "u=5");                       /* of which it was not told */
    pump();
    assert_int_equal(goaway_code, NGHTTP2_PROTOCOL_ERROR);
}

/* One that is over has no priority any more. */
TEST(priority_update_for_a_push_that_is_over)
{
    begin();
    promise_a_style();
    respond(run(1), "style", 5);
    pump();
    reap();
    update(2, "u=1");
    assert_int_equal(session->early.count, 0);
    end(ready[0], 0);
    pump();
    check_answer(1, 200, "", 0);
    assert_int_equal(goaway_count, 0);
}

/* ---- whatever happens ---- */

#define PAGES 30
#define PUSHES 31

static uint32_t random_state;

static int any(int below)
{
    random_state = random_state * 1103515245 + 12345;
    return (int)((random_state >> 16) % (uint32_t)below);
}

/* Its request runs, if it does not. */
static void start(h2x_stream *stream)
{
    if (stream->state == H2X_STREAM_QUEUED) {
        h2x_lock_acquire(lock);
        h2x_stream_advance_locked(stream, H2X_STREAM_RUNNING);
        h2x_lock_release(lock);
    }
}

/* Something happens to one stream. */
static void befall(h2x_stream *stream, int *promised)
{
    int first = *promised, id = stream->id, count = any(4);

    if (stream->is_closed || stream->state > H2X_STREAM_RUNNING) {
        return;
    }
    start(stream);
    switch (any(6)) {
    case 0:
        count = first + count > PUSHES ? PUSHES - first : count;
        *promised += count;
        promise_many(stream, first, count, NULL);
        break;
    case 1:
        end(stream, 1);
        break;
    case 2:
        nghttp2_submit_rst_stream(client, NGHTTP2_FLAG_NONE, id,
                                  NGHTTP2_CANCEL);
        break;
    case 3:
        update(id, any(2) ? "u=1" : "u=6, i");
        break;
    default:
        respond(stream, pattern((size_t)id * 1000), (size_t)id * 1000);
    }
}

static void live(uint32_t seed)
{
    int pages = 0, promised = 0, i, step;

    random_state = seed;
    begin();
    for (step = 0; step < 150; ++step) {
        if (pages < PAGES && any(3) == 0) {
            ++pages;
            ask();
        }
        if (ready_count) {
            befall(ready[any(ready_count)], &promised);
        }
        set_buffer(any(3) ? 32768 : 17000 + (size_t)any(500));
        any(2) ? pump_in() : pump_out();
    }
    pump();
    for (i = 0; i < ready_count; ++i) {
        if (!ready[i]->is_closed && ready[i]->state < H2X_STREAM_DRAINING) {
            start(ready[i]);
            respond(ready[i], NULL, 0);
        }
    }
    pump();
    assert_int_equal(closed_count, h2x_session_stream_count(session));
    assert_int_equal(goaway_count, 0);
}

TEST(any_life)
{
    uint32_t seed;
    int i;

    for (seed = 1; seed <= 150; ++seed) {
        live(seed);
        for (i = 1; i < 2 * MAX_STREAMS; ++i) {
            if (answer_of(i)->ended && answer_of(i)->reset < 0
                && answer_of(i)->body_len) {
                check_answer(i, 200, pattern((size_t)i * 1000),
                             (size_t)i * 1000);
            }
        }
        again();
    }
    begin();                                /* for teardown() */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SESSION_TEST(only_success_is_sent),
        SESSION_TEST(interim_response_is_dropped),
        SESSION_TEST(interim_response_alone),
        SESSION_TEST(trailers),
        SESSION_TEST(needs_http11),
        SESSION_TEST(failed),
        SESSION_TEST(reset_by_the_client),
        SESSION_TEST(reset_by_the_client_late),
        SESSION_TEST(cancelled),
        SESSION_TEST(push_after),
        SESSION_TEST(push_before),
        SESSION_TEST(push_interleaved),
        SESSION_TEST(push_critical),
        SESSION_TEST(push_while_the_page_waits),
        SESSION_TEST(push_urgency),
        SESSION_TEST(push_at_the_ends_of_the_scale),
        SESSION_TEST(push_with_priority_field),
        SESSION_TEST(push_with_priority_update),
        SESSION_TEST(push_with_priority_update_while_it_is_sent),
        SESSION_TEST(priority_update_for_a_queued_push),
        SESSION_TEST(priority_update_for_a_push_that_is_over),
        SESSION_TEST(any_life),
    };

    return UNIT_RUN(tests);
}
