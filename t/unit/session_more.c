/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "session_more.h"

#include <stdlib.h>
#include <string.h>

#include <apr_strings.h>

/* ---- promises ---- */

/* What a stream's promises have in common. */
void set_promising(h2x_stream *stream)
{
    static const h2x_resource base = { "https", "example.org", "/" };
    h2x_promising *promising = apr_pcalloc(stream->pool,
                                           sizeof(*promising));

    promising->method = "GET";
    promising->base = base;
    promising->count = 1;
    promising->fields[0].name = "accept-language";
    promising->fields[0].name_len = 15;
    promising->fields[0].value = "en";
    promising->fields[0].value_len = 2;
    stream->out.promising = promising;
}

/* Appends a promise; returns it. */
h2x_promise *add_promise(h2x_stream *stream, h2x_promise **list,
                         const char *path)
{
    h2x_promise **at = list;

    while (*at) {
        at = &(*at)->next;
    }
    *at = apr_pcalloc(stream->pool, sizeof(**at));
    (*at)->path = apr_pstrdup(stream->pool, path);
    return *at;
}

/* A stream says promises, and a head or NULL. */
void say_promises(h2x_stream *stream, h2x_promise *promises,
                  const char *text)
{
    h2x_pending *pending = apr_pcalloc(stream->pool, sizeof(*pending));

    pending->promises = promises;
    if (text) {
        pending->head = h2x_field_parse_head(stream->pool, text,
                                             strlen(text));
        assert_non_null(pending->head);
    }
    if (!stream->out.promising) {
        set_promising(stream);
    }
    h2x_lock_acquire(lock);
    h2x_stream_append_locked(stream, pending);
    h2x_session_output(session, stream);
    h2x_lock_release(lock);
}

/* Promises `count` resources, whose paths are /FIRST and so on. */
void promise_many(h2x_stream *stream, int first, int count, const char *text)
{
    h2x_promise *list = NULL;
    int i;

    for (i = first; i < first + count; ++i) {
        add_promise(stream, &list, apr_psprintf(stream->pool, "/%d", i));
    }
    say_promises(stream, list, text);
}

void promise_one(h2x_stream *stream, const char *path, const char *text)
{
    h2x_promise *list = NULL;

    add_promise(stream, &list, path);
    say_promises(stream, list, text);
}

/* Asks for a page, which runs. */
h2x_stream *open_page(void)
{
    int at = ready_count;

    ask();
    pump();
    assert_int_equal(ready_count, at + 1);
    return run(at);
}

/* A page with one promise, whose request is ready: ready[1]. */
h2x_stream *promise_a_style(void)
{
    h2x_stream *page = open_page();

    promise_one(page, "/style.css", OK_HEAD);
    pump();
    assert_int_equal(ready_count, 2);
    return page;
}

/* The place of a stream's first frame of a type, or -1. */
int place(int type, int32_t id)
{
    int i;

    for (i = 0; i < seen_count; ++i) {
        if (seen[i].type == type && seen[i].id == id) {
            return i;
        }
    }
    return -1;
}

int count_frames(int type)
{
    int i, count = 0;

    for (i = 0; i < seen_count; ++i) {
        count += (seen[i].type == type);
    }
    return count;
}

int was_closed(const h2x_stream *stream)
{
    int i;

    for (i = 0; i < closed_count; ++i) {
        if (closed[i] == stream) {
            return 1;
        }
    }
    return 0;
}

/* ---- priorities ---- */

/* Begins with windows that are in nobody's way. */
void begin_wide(void)
{
    nghttp2_settings_entry wide
        = { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 24 };

    begin_with(1, &wide, 1);
    nghttp2_session_set_local_window_size(client, NGHTTP2_FLAG_NONE, 0,
                                          1 << 26);
    pump();
}

/* PRIORITY_UPDATE */
void update(int32_t id, const char *value)
{
    size_t len = strlen(value);
    char *payload = malloc(4 + len);

    payload[0] = (char)(id >> 24);
    payload[1] = (char)(id >> 16);
    payload[2] = (char)(id >> 8);
    payload[3] = (char)id;
    memcpy(payload + 4, value, len);
    send_frame(NGHTTP2_PRIORITY_UPDATE, 0, 0, payload, 4 + len);
    free(payload);
}

/* Asks with a Priority field, or none. */
int32_t ask_with(const char *priority)
{
    int32_t id = ask_for("/", priority ? "priority" : NULL, priority, NULL);

    pump();
    return id;
}

void check_priority(const h2x_stream *stream, int urgency,
                    int is_incremental)
{
    assert_int_equal(stream->priority.urgency, urgency);
    assert_int_equal(stream->priority.is_incremental, is_incremental);
}

void check_newest(int urgency, int is_incremental)
{
    check_priority(ready[ready_count - 1], urgency, is_incremental);
}

/* All requests that are ready get the same response, all at once. */
void respond_to_all(void)
{
    int i;

    for (i = 0; i < ready_count; ++i) {
        respond(run(i), pattern(LEN), LEN);
    }
}

/* The ids of streams in the order in which they became whole. */
const char *order(void)
{
    size_t got[2 * MAX_STREAMS] = { 0 };
    const char *text = "";
    int i;

    for (i = 0; i < seen_count; ++i) {
        if (seen[i].type == NGHTTP2_DATA
            && (got[seen[i].id] += seen[i].len) == LEN) {
            text = apr_psprintf(unit_pool, "%s%s%d", text, *text ? " " : "",
                                (int)seen[i].id);
        }
    }
    return text;
}

/* How many streams had begun but were not whole at any one time. */
int at_a_time(void)
{
    size_t got[2 * MAX_STREAMS] = { 0 };
    int i, now = 0, most = 0;

    for (i = 0; i < seen_count; ++i) {
        if (seen[i].type == NGHTTP2_DATA) {
            now += (got[seen[i].id] == 0);
            most = now > most ? now : most;
            got[seen[i].id] += seen[i].len;
            now -= (got[seen[i].id] == LEN);
        }
    }
    assert_int_equal(now, 0);
    return most;
}
