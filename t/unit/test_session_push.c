/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Promises (RFC 9113, section 8.4), at the level of the session. */

#include "session_more.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <apr_strings.h>

#define MAX_PROMISED 32

/* ---- what is promised ---- */

TEST(promise_comes_before_the_head)
{
    h2x_stream *page;
    int i;

    begin();
    page = open_page();
    promise_many(page, 1, 2, OK_HEAD);
    say(page, "page", 4);
    end(page, 0);
    pump();
    check_answer(1, 200, "page", 4);
    for (i = 0; i < seen_count && !seen[i].id; ++i) {
        continue;           /* SETTINGS and the like */
    }
    assert_int_equal(seen[i].type, NGHTTP2_PUSH_PROMISE);
    assert_int_equal(seen[i].promised, 2);
    assert_int_equal(seen[i + 1].type, NGHTTP2_PUSH_PROMISE);
    assert_int_equal(seen[i + 1].promised, 4);
    assert_int_equal(seen[i + 2].type, NGHTTP2_HEADERS);
    assert_int_equal(seen[i + 2].id, 1);
    assert_int_equal(answer_of(2)->promised_on, 1);
    assert_int_equal(answer_of(4)->promised_on, 1);
}

TEST(promise_is_a_request)
{
    h2x_request_head *head;
    h2x_stream *pushed;

    begin();
    promise_a_style();
    assert_string_equal(answer_of(2)->request,
                        ":method=GET;:scheme=https;:authority=example.org;"
                        ":path=/style.css;accept-language=en;");
    pushed = ready[1];
    head = &pushed->request;
    assert_int_equal(pushed->id, 2);
    assert_int_equal(pushed->promised_on, 1);
    assert_int_equal(pushed->in.state, H2X_INPUT_ENDED);
    assert_false(pushed->limits.takes_push);
    assert_string_equal(head->method, "GET");
    assert_string_equal(head->scheme, "https");
    assert_string_equal(head->authority, "example.org");
    assert_string_equal(head->path, "/style.css");
    assert_string_equal(apr_table_get(head->fields, "Accept-Language"), "en");
    assert_int_equal(apr_table_elts(head->fields)->nelts, 1);
    assert_false(head->has_body || head->status);
    assert_true(head->received > 0);
}

TEST(promise_is_kept)
{
    h2x_stream *page;

    begin();
    page = promise_a_style();
    respond(run(1), "style", 5);
    pump();
    check_answer(2, 200, "style", 5);
    assert_true(was_closed(ready[1]));
    end(page, 0);
    pump();
    check_answer(1, 200, "", 0);
    assert_int_equal(closed_count, 2);
    reap();
    assert_int_equal(h2x_session_stream_count(session), 0);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_OPEN);
}

/* It goes on when the page is over and forgotten. */
TEST(promise_outlives_its_page)
{
    h2x_stream *page, *pushed;

    begin();
    page = promise_a_style();
    end(page, 0);
    pump();
    reap();
    assert_int_equal(h2x_session_stream_count(session), 1);
    pushed = run(1);
    assert_string_equal(pushed->request.path, "/style.css");
    respond(pushed, pattern(200000), 200000);
    pump();
    check_answer(2, 200, pattern(200000), 200000);
}

TEST(promise_with_head)
{
    begin();
    open_page();
    set_promising(ready[0]);
    ready[0]->out.promising->method = "HEAD";
    promise_one(ready[0], "/style.css", OK_HEAD);
    pump();
    assert_non_null(strstr(answer_of(2)->request, ":method=HEAD;"));
    assert_string_equal(ready[1]->request.method, "HEAD");
    respond(run(1), NULL, 0);
    pump();
    check_answer(2, 200, "", 0);
}

/* What the configuration names is promised before there is any head. */
TEST(promises_without_a_head)
{
    h2x_stream *page;

    begin();
    page = open_page();
    promise_one(page, "/early.css", NULL);
    pump();
    assert_int_equal(answer_of(1)->status, 0);
    assert_int_equal(ready_count, 2);
    promise_one(page, "/hint.css", "HTTP/1.1 103 Early Hints\r\n\r\n");
    pump();
    assert_int_equal(answer_of(1)->status, 103);
    assert_int_equal(ready_count, 3);
    promise_one(page, "/late.css", OK_HEAD);
    end(page, 0);
    pump();
    assert_int_equal(ready_count, 4);
    assert_int_equal(answer_of(1)->status, 200);
    assert_true(place(NGHTTP2_PUSH_PROMISE, 1) < place(NGHTTP2_HEADERS, 1));
    assert_true(answer_of(1)->ended);
    assert_int_equal(count_frames(NGHTTP2_PUSH_PROMISE), 3);
}

/* Its request begins when nothing can come before the promise any more. */
TEST(request_begins_when_the_promise_was_made)
{
    h2x_stream *page;

    begin();
    page = open_page();
    promise_many(page, 1, 3, OK_HEAD);
    assert_int_equal(ready_count, 1);
    set_buffer(1);                  /* no frame has room; one is made */
    assert_false(pump_out());
    assert_in_range(ready_count, 1, 2);
    assert_int_equal(h2x_session_stream_count(session), 4);
    set_buffer(32768);
    pump();
    assert_int_equal(ready_count, 4);
}

/* Only who was asked may promise. */
TEST(promise_of_a_promise)
{
    begin();
    promise_a_style();
    promise_one(run(1), "/font", OK_HEAD);
    say(ready[1], "style", 5);
    end(ready[1], 0);
    pump();
    check_answer(2, 200, "style", 5);
    assert_int_equal(count_frames(NGHTTP2_PUSH_PROMISE), 1);
    assert_int_equal(ready_count, 2);
    assert_int_equal(h2x_session_stream_count(session), 2);
}

/* ---- who takes how many ---- */

static void check_no_promise(void)
{
    h2x_stream *page = open_page();
    int was_ready = ready_count;

    promise_many(page, 1, 3, OK_HEAD);
    end(page, 0);
    pump();
    check_answer(page->id, 200, "", 0);
    assert_int_equal(ready_count, was_ready);
    assert_int_equal(count_frames(NGHTTP2_PUSH_PROMISE), 0);
    assert_int_equal(goaway_count, 0);
}

TEST(enable_push_0)
{
    nghttp2_settings_entry off = { NGHTTP2_SETTINGS_ENABLE_PUSH, 0 };

    begin_with(1, &off, 1);
    check_no_promise();
    assert_false(ready[0]->limits.takes_push);
    reap();
    change(NGHTTP2_SETTINGS_ENABLE_PUSH, 1);
    open_page();
    assert_true(ready[1]->limits.takes_push);
}

/* The client changes its mind while the page is made. */
TEST(enable_push_0_later)
{
    h2x_stream *page;

    begin();
    page = open_page();
    assert_true(page->limits.takes_push);
    change(NGHTTP2_SETTINGS_ENABLE_PUSH, 0);
    promise_one(page, "/style.css", OK_HEAD);
    pump();
    assert_int_equal(answer_of(1)->status, 200);
    assert_int_equal(ready_count, 1);
    assert_int_equal(count_frames(NGHTTP2_PUSH_PROMISE), 0);
    assert_int_equal(h2x_session_stream_count(session), 1);
}

TEST(max_concurrent_streams_0)
{
    nghttp2_settings_entry none
        = { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 0 };

    begin_with(1, &none, 1);
    check_no_promise();
    assert_false(ready[0]->limits.takes_push);
}

TEST(max_concurrent_streams)
{
    nghttp2_settings_entry two
        = { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 2 };
    h2x_stream *page;

    begin_with(1, &two, 1);
    page = open_page();
    promise_many(page, 1, 5, NULL);
    pump();
    assert_int_equal(ready_count, 3);
    promise_many(page, 6, 1, NULL);
    pump();
    assert_int_equal(ready_count, 3);
    respond(run(1), "x", 1);
    pump();
    reap();                                 /* room for one */
    promise_many(page, 11, 2, NULL);
    pump();
    assert_int_equal(ready_count, 4);
    assert_string_equal(ready[3]->request.path, "/11");
    change(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 1);
    respond(run(2), "x", 1);
    pump();
    reap();                                 /* still none */
    promise_many(page, 21, 1, NULL);
    pump();
    assert_int_equal(ready_count, 4);
    change(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 3);
    promise_many(page, 31, 5, OK_HEAD);
    pump();
    assert_int_equal(ready_count, 6);
    assert_int_equal(goaway_count, 0);
}

TEST(cap_of_promises)
{
    h2x_stream *page;

    begin();
    page = open_page();
    promise_many(page, 1, MAX_PROMISED - 2, OK_HEAD);
    pump();
    assert_int_equal(ready_count, MAX_PROMISED - 1);
    page = open_page();                     /* the bound is for all pages */
    promise_many(page, 101, 10, OK_HEAD);
    pump();
    assert_int_equal(ready_count, MAX_PROMISED + 2);
    nghttp2_submit_rst_stream(client, NGHTTP2_FLAG_NONE, 2, NGHTTP2_CANCEL);
    respond(run(2), "x", 1);
    pump();
    assert_int_equal(closed_count, 2);
    reap();                                 /* room for two */
    promise_many(page, 201, 10, NULL);
    pump();
    assert_int_equal(ready_count, MAX_PROMISED + 4);
    assert_string_equal(ready[ready_count - 1]->request.path, "/202");
    assert_int_equal(h2x_session_stream_count(session), MAX_PROMISED + 2);
}

/* ---- the diary ---- */

static void check_promised(h2x_stream *page, const char *path, int promised)
{
    int at = ready_count;

    promise_one(page, path, NULL);
    pump();
    assert_int_equal(ready_count, at + promised);
    if (promised) {
        assert_string_equal(ready[at]->request.path, path);
    }
}

TEST(diary)
{
    h2x_stream *page;

    unit_conf[H2X_PUSH_DIARY_SIZE] = 2;
    begin();
    page = open_page();
    check_promised(page, "/a", 1);
    check_promised(page, "/a", 0);
    check_promised(page, "/b", 1);
    page = open_page();
    check_promised(page, "/a", 0);
    set_promising(page);
    page->out.promising->base.authority = "www.example.org";
    check_promised(page, "/a", 1);          /* and the first one goes */
    page->out.promising->base.authority = "example.org";
    check_promised(page, "/b", 0);
    check_promised(page, "/a", 1);
    check_promised(page, "/b", 1);
}

TEST(no_diary)
{
    h2x_stream *page;

    begin();
    page = open_page();
    check_promised(page, "/a", 1);
    check_promised(page, "/a", 1);
}

/* What there was no room for is not in the diary. */
TEST(diary_without_room)
{
    nghttp2_settings_entry one
        = { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 1 };
    h2x_stream *page;

    unit_conf[H2X_PUSH_DIARY_SIZE] = 10;
    begin_with(1, &one, 1);
    page = open_page();
    check_promised(page, "/a", 1);
    check_promised(page, "/b", 0);
    respond(run(1), "x", 1);
    pump();
    reap();
    check_promised(page, "/b", 1);
}

/* ---- promises that cannot be sent ---- */

/* The page is reset before anything of it went out. */
TEST(page_is_reset_before)
{
    h2x_stream *page;

    begin();
    page = open_page();
    promise_many(page, 1, 3, OK_HEAD);
    nghttp2_submit_rst_stream(client, NGHTTP2_FLAG_NONE, 1, NGHTTP2_CANCEL);
    pump_in();
    pump();
    assert_int_equal(ready_count, 1);
    assert_int_equal(count_frames(NGHTTP2_PUSH_PROMISE), 0);
    assert_int_equal(closed_count, 1);
    reap();
    assert_int_equal(h2x_session_stream_count(session), 0);
}

/*
 * It is reset, or the client says GOAWAY, when its promises are made, and as
 * many of its frames are written as there is room for. Each promise is sent,
 * and has a request, or is none. Returns how many have one.
 */
static int check_cut(size_t size, int by_goaway)
{
    int alive = 0, i;

    begin();
    open_page();
    promise_many(ready[0], 1, 4, OK_HEAD);
    set_buffer(size);
    pump_out();
    assert_int_equal(h2x_session_stream_count(session), 5);
    if (by_goaway) {
        nghttp2_submit_goaway(client, NGHTTP2_FLAG_NONE, 1 << 30,
                              NGHTTP2_NO_ERROR, NULL, 0);
    }
    else {
        nghttp2_submit_rst_stream(client, NGHTTP2_FLAG_NONE, 1,
                                  NGHTTP2_CANCEL);
    }
    pump_in();
    set_buffer(32768);
    pump();
    for (i = 1; i < ready_count; ++i) {
        assert_int_equal(ready[i]->id, 2 * i);
        alive += !ready[i]->is_closed;      /* the client may cancel it */
    }
    assert_int_equal(was_closed(ready[0]), !by_goaway);
    assert_int_equal(closed_count, 4 - alive + !by_goaway);
    assert_true(!by_goaway || answer_of(1)->status == 200);
    return ready_count - 1;
}

/* What is left of that can be answered; nothing is released twice. */
static void check_rest(int by_goaway)
{
    int asked = ready_count, i;

    for (i = 1; i < asked; ++i) {
        if (!ready[i]->is_closed) {
            respond(run(i), "x", 1);
        }
    }
    if (by_goaway) {
        end(ready[0], 0);
    }
    pump();
    assert_int_equal(closed_count, 5);
    reap();
    assert_int_equal(h2x_session_stream_count(session), 0);
}

static void check_cuts(int by_goaway)
{
    int least = 4, most = 0, size;

    for (size = 1; size < 300; size += 3) {
        int promised = check_cut(size, by_goaway);

        least = promised < least ? promised : least;
        most = promised > most ? promised : most;
        check_rest(by_goaway);
        again();
    }
    begin();                                /* for teardown() */
    assert_in_range(least, 0, 1);           /* both ways were seen */
    assert_int_equal(most, 4);
}

TEST(page_is_reset_between)
{
    check_cuts(0);
}

TEST(goaway_between)
{
    check_cuts(1);
}

/* The table of HPACK has nothing of it yet: it is as long as can be. */
TEST(promise_too_large_to_send)
{
    h2x_stream *page;
    char *path = apr_palloc(unit_pool, 2000);

    unit_conf[H2X_MAX_HEADER_BLOCK_LEN] = 1000;
    begin();
    memset(path, 'p', 2000);
    path[0] = '/';
    path[1999] = '\0';
    page = open_page();
    promise_one(page, path, NULL);
    promise_one(page, "/short", OK_HEAD);
    end(page, 0);
    pump();
    check_answer(1, 200, "", 0);
    assert_int_equal(ready_count, 2);
    assert_string_equal(ready[1]->request.path, "/short");
    assert_int_equal(closed_count, 2);      /* the long one, and the page */
    reap();
    assert_int_equal(h2x_session_stream_count(session), 1);
    respond(run(1), "x", 1);
    pump();
    check_answer(ready[1]->id, 200, "x", 1);
}

/* A client that has said GOAWAY is opened no stream. */
TEST(goaway_before)
{
    h2x_stream *page;

    begin();
    page = open_page();
    nghttp2_submit_goaway(client, NGHTTP2_FLAG_NONE, 0, NGHTTP2_NO_ERROR,
                          NULL, 0);
    pump();
    promise_many(page, 1, 3, OK_HEAD);
    say(page, "page", 4);
    end(page, 0);
    pump();
    check_answer(1, 200, "page", 4);
    assert_int_equal(ready_count, 1);
    assert_int_equal(count_frames(NGHTTP2_PUSH_PROMISE), 0);
    assert_int_equal(closed_count, 4);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_CLOSED);
}

/* It names the last promise that it will take. Of those, nghttp2 sends what
 * was begun. */
TEST(goaway_names_a_promise)
{
    begin();
    open_page();
    promise_many(ready[0], 1, 4, OK_HEAD);
    pump();
    assert_int_equal(ready_count, 5);
    say_head(run(1), OK_HEAD);
    say(ready[1], "some", 4);
    pump();
    nghttp2_submit_goaway(client, NGHTTP2_FLAG_NONE, 4, NGHTTP2_NO_ERROR,
                          NULL, 0);
    pump();
    assert_int_equal(closed_count, 2);
    assert_true(was_closed(ready[3]) && was_closed(ready[4]));
    say(ready[1], "more", 4);
    end(ready[1], 0);
    respond(run(2), "x", 1);
    end(ready[0], 0);
    pump();
    check_answer(2, 200, "somemore", 8);
    check_answer(1, 200, "", 0);
    assert_int_equal(closed_count, 5);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_CLOSED);
}

TEST(draining)
{
    h2x_stream *page;

    begin();
    page = promise_a_style();
    h2x_lock_acquire(lock);
    h2x_session_drain(session);
    h2x_lock_release(lock);
    promise_many(page, 1, 3, NULL);
    pump();
    assert_int_equal(ready_count, 2);
    end(page, 0);
    respond(run(1), "style", 5);            /* what was promised is kept */
    pump();
    check_answer(1, 200, "", 0);
    check_answer(2, 200, "style", 5);
    assert_int_equal(count_frames(NGHTTP2_PUSH_PROMISE), 1);
    assert_int_equal(h2x_session_get_state(session), H2X_SESSION_CLOSED);
}

TEST(aborted_with_promises)
{
    begin();
    promise_a_style();
    promise_many(ready[0], 1, 3, NULL);
    set_buffer(10);                         /* one is on its way */
    pump_out();
    assert_in_range(ready_count, 2, 3);
    h2x_lock_acquire(lock);
    h2x_session_abort(session);
    h2x_lock_release(lock);
    assert_int_equal(closed_count, 5);
    reap();
    assert_int_equal(h2x_session_stream_count(session), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SESSION_TEST(promise_comes_before_the_head),
        SESSION_TEST(promise_is_a_request),
        SESSION_TEST(promise_is_kept),
        SESSION_TEST(promise_outlives_its_page),
        SESSION_TEST(promise_with_head),
        SESSION_TEST(promises_without_a_head),
        SESSION_TEST(request_begins_when_the_promise_was_made),
        SESSION_TEST(promise_of_a_promise),
        SESSION_TEST(enable_push_0),
        SESSION_TEST(enable_push_0_later),
        SESSION_TEST(max_concurrent_streams_0),
        SESSION_TEST(max_concurrent_streams),
        SESSION_TEST(cap_of_promises),
        SESSION_TEST(diary),
        SESSION_TEST(no_diary),
        SESSION_TEST(diary_without_room),
        SESSION_TEST(page_is_reset_before),
        SESSION_TEST(page_is_reset_between),
        SESSION_TEST(goaway_between),
        SESSION_TEST(promise_too_large_to_send),
        SESSION_TEST(goaway_before),
        SESSION_TEST(goaway_names_a_promise),
        SESSION_TEST(draining),
        SESSION_TEST(aborted_with_promises),
    };

    return UNIT_RUN(tests);
}
