/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Clients: sessions of nghttp2 that ask, stall, cancel and leave. */

#include "memory.h"
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <nghttp2/nghttp2.h>

#define OPEN_MAX 20
#define PIECE_MAX 5000
#define LINK_SPEED 100 /* bytes in a microsecond */

/* How long a client waits that has nothing else to do. */
#define PATIENCE apr_time_from_sec(120)

typedef struct {
    connection *conn;
    nghttp2_session *ng;
    request *asked[REQUESTS_MAX];
    int asked_count;
    int open_count;
    int actions;         /* left */
    int keeps_window;    /* it opens windows when it likes to */
    apr_size_t unread;   /* bytes for which they were not opened */
    int stalls;          /* and does not like to any more */
    int is_told_to_go;   /* GOAWAY */
    int is_over;
    apr_time_t uploads_at; /* when a paused upload goes on */
    request *promised;   /* whose promise is being read */
} client;

/* ---- nghttp2's callbacks ---- */

static int on_header(nghttp2_session *ng, const nghttp2_frame *frame,
                     const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len UNUSED,
                     uint8_t flags UNUSED, void *baton)
{
    request *q = nghttp2_session_get_stream_user_data(ng,
                                                      frame->hd.stream_id);

    if (frame->hd.type == NGHTTP2_PUSH_PROMISE) {
        if (name_len == 5 && !memcmp(name, ":path", 5)) {
            ((client *)baton)->promised = &requests[atoi((const char *)value
                                                         + 1)];
        }
    }
    else if (q && name_len == 7 && !memcmp(name, ":status", 7)) {
        q->status = atoi((const char *)value);
    }
    return 0;
}

static int on_data(nghttp2_session *ng, uint8_t flags UNUSED, int32_t id,
                   const uint8_t *data, size_t len, void *baton)
{
    request *q = nghttp2_session_get_stream_user_data(ng, id);
    client *me = baton;

    if (q) {
        int same = (int)body_same(q->is_file ? 0 : q->number, q->received,
                                  data, len);

        SIM_CHECK(same == (int)len, "request %d: byte %d of the response is "
                  "wrong", q->number, (int)q->received + same);
        q->received += len;
    }
    if (me->keeps_window) {
        me->unread += len;
        /* the window of the stream; that of the connection, later */
        nghttp2_session_consume_stream(ng, id, len);
    }
    return 0;
}

static void refuse(client *me, request *q)
{
    q->was_cancelled = 1;
    nghttp2_submit_rst_stream(me->ng, 0, q->id, NGHTTP2_CANCEL);
}

static void on_promise(client *me, int32_t id)
{
    request *q = me->promised;

    SIM_CHECK(q->is_promised && !q->is_announced, "request %d is promised "
              "twice", q->number);
    nghttp2_session_set_stream_user_data(me->ng, id, q);
    q->conn = me->conn;
    q->id = id;
    q->is_announced = 1;
    me->asked[me->asked_count++] = q;
    ++me->open_count;
    if (sim_one_in(6)) {
        refuse(me, q);
    }
}

static int on_frame(nghttp2_session *ng, const nghttp2_frame *frame,
                    void *baton)
{
    client *me = baton;
    request *q = frame->hd.stream_id
        ? nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id) : NULL;

    sim_say("gets a frame of type %d, flags %x, on stream %d",
            frame->hd.type, frame->hd.flags, (int)frame->hd.stream_id);
    if (frame->hd.type == NGHTTP2_GOAWAY) {
        me->is_told_to_go = 1;
        SIM_CHECK(frame->goaway.error_code == NGHTTP2_NO_ERROR
                  || memory_has_failed(),
                  "GOAWAY with code %u", frame->goaway.error_code);
    }
    else if (frame->hd.type == NGHTTP2_PUSH_PROMISE) {
        on_promise(me, frame->push_promise.promised_stream_id);
    }
    else if (q && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
             && (frame->hd.type == NGHTTP2_DATA
                 || frame->hd.type == NGHTTP2_HEADERS)) {
        q->has_ended = 1;
        if (q->ends_last) {
            nghttp2_session_resume_data(ng, q->id);
        }
    }
    return 0;
}

/* nghttp2 refuses what is promised beyond a limit that was just lowered. */
static int on_sent(nghttp2_session *ng, const nghttp2_frame *frame,
                   void *baton UNUSED)
{
    request *q = frame->hd.type == NGHTTP2_RST_STREAM
        ? nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id) : NULL;

    if (q) {
        q->was_cancelled = 1;
    }
    return 0;
}

static int on_close(nghttp2_session *ng, int32_t id, uint32_t code,
                    void *baton)
{
    request *q = nghttp2_session_get_stream_user_data(ng, id);
    client *me = baton;

    if (q) {
        q->is_over = 1;
        q->code = code;
        --me->open_count;
    }
    return 0;
}

static ssize_t read_upload(nghttp2_session *ng UNUSED, int32_t id UNUSED,
                           uint8_t *to, size_t len, uint32_t *flags,
                           nghttp2_data_source *source, void *baton)
{
    client *me = baton;
    request *q = source->ptr;
    apr_size_t left = q->upload - q->sent;

    if (left && q->pauses_upload && sim_one_in(3)) {
        me->uploads_at = sim_now() + sim_random(50000);
        return NGHTTP2_ERR_DEFERRED;
    }
    len = left < len ? left : len;
    memcpy(to, body_at(q->number, q->sent), len);
    q->sent += len;
    if (q->sent == q->upload
        && (q->ends_never || (q->ends_last && !q->has_ended))) {
        if (!len) {
            return NGHTTP2_ERR_DEFERRED;
        }
    }
    else if (q->sent == q->upload) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)len;
}

/* ---- what a client does ---- */

#define FIELD(name, value) \
    { (uint8_t *)(name), (uint8_t *)(value), sizeof(name) - 1, \
      strlen(value), NGHTTP2_NV_FLAG_NONE }

/* Text of the calling client's, until it is submitted. */
static char *print(char *to, size_t size, const char *format, int number)
{
    snprintf(to, size, format, number);
    return to;
}

static void ask(client *me)
{
    request *q = request_make(0);
    char path_text[16], priority_text[16];
    const char *path = print(path_text, sizeof(path_text), "/%d",
                             q ? q->number : 0);
    const char *priority = print(priority_text, sizeof(priority_text), "u=%d",
                                 (int)sim_random(8));
    const char *method = !q ? NULL : q->tunnel ? "CONNECT"
        : q->is_upload ? "POST" : "GET";
    const nghttp2_nv fields[] = {
        FIELD(":protocol", "websocket"), FIELD(":scheme", "http"),
        FIELD(":path", path), FIELD(":authority", path + 1),
        FIELD(":method", method), FIELD("priority", priority)
    };
    /* RFC 8441, section 4; RFC 9113, section 8.5; all others */
    int skips = !q || q->tunnel == H2X_TUNNEL_WEBSOCKET ? 0
        : q->tunnel == H2X_TUNNEL_CONNECT ? 3 : 1;
    nghttp2_data_provider body = { { .ptr = q }, read_upload };
    int32_t id;

    if (!q) {
        me->actions = 0;
        return;
    }
    id = nghttp2_submit_request(me->ng, NULL, fields + skips,
                                (size_t)(6 - skips),
                                q->is_upload ? &body : NULL, q);
    q->conn = me->conn;
    q->id = id;
    SIM_CHECK(id > 0, "a client cannot ask: %s", nghttp2_strerror(id));
    me->asked[me->asked_count++] = q;
    ++me->open_count;
}

/* Some request that is open; NULL: there is none. */
static request *some_request(const client *me)
{
    int i, at = me->asked_count
        ? (int)sim_random((unsigned)me->asked_count) : 0;

    for (i = 0; i < me->asked_count; ++i, ++at) {
        if (!me->asked[at % me->asked_count]->is_over) {
            return me->asked[at % me->asked_count];
        }
    }
    return NULL;
}

static void cancel(client *me)
{
    request *q = some_request(me);

    if (q && world.is_wild) {
        refuse(me, q);
    }
}

static void reprioritize(client *me)
{
    request *q = some_request(me);
    uint8_t frame[] = { 0, 0, 7, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 'u', '=',
                        '0' };

    if (q) {
        frame[12] = (uint8_t)q->id;
        frame[15] = (uint8_t)('0' + sim_random(8));
        net_send(me->conn->socket, frame, sizeof(frame));
    }
}

static void open_window(client *me)
{
    if (me->stalls) {
        return;
    }
    nghttp2_session_consume_connection(me->ng, me->unread);
    me->unread = 0;
}

/* Wants promises, or does not any more. With room for none, what was promised
 * waits as with a closed window. */
static void choose_pushes(client *me)
{
    unsigned least = world.is_wild ? 0 : 1;
    nghttp2_settings_entry settings[] = {
        { NGHTTP2_SETTINGS_ENABLE_PUSH, !sim_one_in(3) },
        { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, least + sim_random(20) }
    };

    sim_say("sets pushes to %d, at most %d", (int)settings[0].value,
            (int)settings[1].value);
    nghttp2_submit_settings(me->ng, NGHTTP2_FLAG_NONE, settings, 2);
}

static void act(client *me)
{
    --me->actions;
    switch (sim_random(11)) {
    case 0: case 1: case 2: case 3:
        if (me->open_count < OPEN_MAX && !me->is_told_to_go) {
            ask(me);
        }
        break;
    case 4:
        connection_pass(me->conn, sim_random(3000), 0);
        break;
    case 5:
        connection_pass(me->conn,
                        sim_random(world.is_wild ? 3000000 : 500000), 0);
        break;
    case 6:
        nghttp2_submit_ping(me->ng, NGHTTP2_FLAG_NONE, NULL);
        break;
    case 7:
        cancel(me);
        break;
    case 8:
        reprioritize(me);
        break;
    case 9:
        open_window(me);
        break;
    case 10:
        choose_pushes(me);
        break;
    }
}

static void say(client *me)
{
    const uint8_t *data;
    ssize_t len;

    while ((len = nghttp2_session_mem_send(me->ng, &data)) > 0) {
        while (len > 0) {
            apr_size_t n = sim_one_in(4) ? 1 + sim_random(64) : PIECE_MAX;

            n = (apr_size_t)len < n ? (apr_size_t)len : n;
            net_send(me->conn->socket, data, n);
            data += n;
            len -= (ssize_t)n;
        }
    }
}

static void hear(client *me)
{
    uint8_t piece[PIECE_MAX];
    apr_size_t n;
    ssize_t used;

    while ((n = net_receive(me->conn->socket, piece,
                            1 + sim_random(PIECE_MAX))) > 0) {
        used = nghttp2_session_mem_recv(me->ng, piece, n);
        SIM_CHECK(used == (ssize_t)n, "a client does not understand: %s",
                  nghttp2_strerror((int)used));
        connection_pass(me->conn,
                        1 + (apr_interval_time_t)(n / LINK_SPEED), 0);
        if (sim_one_in(4)) {
            break;
        }
    }
    me->is_over |= net_is_ended(me->conn->socket);
}

static int has_news(const void *socket)
{
    return net_has_news(socket);
}

/* Waits for the server, or until an upload is to go on. Returns 0 when the
 * server has nothing to say. */
static int await(client *me, apr_time_t until)
{
    apr_time_t paused = me->uploads_at;

    if (paused) {
        while (sim_now() < paused && !net_has_news(me->conn->socket)) {
            connection_pass(me->conn, paused - sim_now() < 1000
                                      ? paused - sim_now() : 1000, 0);
        }
        return 1;
    }
    return sim_wait(has_news, me->conn->socket, until, "the server");
}

static void tell_open(const client *me)
{
    int i;

    for (i = 0; i < me->asked_count; ++i) {
        const request *q = me->asked[i];

        if (!q->is_over) {
            printf("  request %d: status %d, %d of %d bytes, %s%s%s, upload "
                   "%d of %d, reads %d, %s\n", q->number, q->status,
                   (int)q->received, (int)q->size, q->is_file ? "file, " : "",
                   q->fails ? "to fail, " : "",
                   q->has_ended ? "complete" : "not complete", (int)q->taken,
                   (int)q->upload, (int)q->reads,
                   q->is_ended ? "ended" : q->is_done ? "done" : q->runner
                   ? "runs" : "not begun");
        }
    }
}

/* Uploads that were paused go on. */
static void resume(client *me)
{
    int i;

    me->uploads_at = 0;
    for (i = 0; i < me->asked_count; ++i) {
        if (!me->asked[i]->is_over) {
            nghttp2_session_resume_data(me->ng, me->asked[i]->id);
        }
    }
}

static void begin(client *me)
{
    nghttp2_settings_entry windows = { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE,
                                       1000 + sim_random(100000) };
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;

    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks,
                                                              on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks,
                                                           on_close);
    nghttp2_option_new(&option);
    nghttp2_option_set_no_auto_window_update(option, me->keeps_window);
    nghttp2_session_client_new2(&me->ng, callbacks, me, option);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_submit_settings(me->ng, NGHTTP2_FLAG_NONE, &windows,
                            sim_one_in(2));
}

/* A connection is closed when it has had no requests for KeepAliveTimeout.
 * Before its first one, it may keep a thread of the MPM. */
static void stay(client *me)
{
    apr_time_t until = sim_now() + apr_time_from_sec(30);

    me->uploads_at = 0; /* of a stream that has ended early */
    while (!me->is_over) {
        say(me);
        hear(me);
        SIM_CHECK(me->is_over || await(me, until) || me->conn->waits_for_thread,
                  "client %d has no requests, and is kept", me->conn->number);
    }
}

void client_run(connection *conn)
{
    client me;
    int leaves = world.is_wild && sim_one_in(3);

    memset(&me, 0, sizeof(me));
    me.conn = conn;
    me.actions = 1 + (int)sim_random((unsigned)world.actions);
    me.keeps_window = sim_one_in(2);
    me.stalls = me.keeps_window && world.is_wild && sim_one_in(2);
    begin(&me);
    while (!me.is_over && (me.actions || me.open_count)) {
        apr_time_t until = sim_now()
            + (me.stalls ? 3 * world.stream_timeout : PATIENCE);
        apr_interval_time_t waited = conn->waited;

        if (me.actions) {
            act(&me);
            if (leaves && sim_one_in(20)) {
                break;
            }
        }
        if (me.uploads_at && me.uploads_at <= sim_now()) {
            resume(&me);
        }
        say(&me);
        hear(&me);
        if (!me.actions && me.open_count && !me.is_over) {
            open_window(&me);
            say(&me);
            if (!me.open_count) {
                break; /* the last was reset just now */
            }
            await(&me, until);
            if (sim_now() >= until + conn->waited - waited
                && !conn->waits_for_thread && !net_is_lost(conn->socket)) {
                tell_open(&me);
                sim_fail("client %d waits for ever: %d streams are open",
                         conn->number, me.open_count);
            }
        }
    }
    if (!world.is_wild && me.asked_count && sim_one_in(8)) {
        stay(&me);
    }
    sim_say("client %d leaves, %d streams open", conn->number, me.open_count);
    if (sim_one_in(2)) {
        net_shut(conn->socket);
        connection_pass(conn, sim_random(1000), 0);
    }
    net_leave(conn->socket);
    nghttp2_session_del(me.ng);
}
