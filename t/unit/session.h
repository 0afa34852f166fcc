/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* A session that is driven by bytes in memory, with a client session of
 * nghttp2 on the other side: what the tests of it share. */
#ifndef H2X_UNIT_SESSION_H
#define H2X_UNIT_SESSION_H

#include "unit.h"

#include <nghttp2/nghttp2.h>

#include "h2x_field.h"
#include "h2x_session.h"
#include "h2x_stream.h"

#define MAX_STREAMS 64
#define MAX_FRAMES 4096

/** What a client has seen of a stream. */
typedef struct {
    int32_t promised_on; /* the stream that promised it, or 0 */
    char request[512];   /* the fields of that promise */
    int status;
    int interim;
    char head[256];      /* its fields but the status */
    char trailers[256];
    char *body;
    size_t body_len;
    size_t frame_max;    /* longest DATA frame */
    int ended;
    int reset;           /* -1: it was not */
} answer;

/** A frame that a client has got. */
typedef struct {
    int type;
    int32_t id;
    int32_t promised;    /* the stream that a PUSH_PROMISE names */
    size_t len;          /* of DATA: of what it carries */
    size_t padding;      /* with the byte that tells its length */
} seen_frame;

/** What a client sends as a body. */
typedef struct {
    const char *data;
    size_t len;
    int ended;
} upload;

/* The server's side, and what it was told. */
extern server_rec server;
extern h2x_lock *lock;
extern h2x_session *session;
extern h2x_buffer buffer;
extern h2x_stream *ready[MAX_STREAMS];
extern h2x_stream *closed[MAX_STREAMS];
extern int ready_count;
extern int closed_count;
extern int reprioritized_count;

/* The client's side; streams are at id / 2, those of the server apart. */
extern nghttp2_session *client;
extern answer answers[MAX_STREAMS];
extern upload uploads[MAX_STREAMS];
extern seen_frame seen[MAX_FRAMES];
extern int seen_count;
extern int32_t goaways[4];
extern int goaway_count;
extern uint32_t goaway_code;

/** A field for nghttp2, its name a literal. */
#define FIELD(name, value) \
    { (uint8_t *)(name), (uint8_t *)(value), sizeof(name) - 1, \
      strlen(value), NGHTTP2_NV_FLAG_NONE }

/** Makes both sides and lets them exchange their SETTINGS. */
void begin(void);
void begin_with(int windows, const nghttp2_settings_entry *settings,
                size_t count);

/** Changes a setting of the client, and waits until that is known. */
void change(int32_t setting, uint32_t value);
void make_session(void);
void make_client(int windows);
void make_client_with(int windows, const nghttp2_settings_entry *settings,
                      size_t count);
void set_buffer(size_t size);

/** Submits a request, with one more field or NULL, and a body or NULL. */
int32_t ask_for(const char *path, const char *name, const char *value,
                upload *body);
int32_t ask(void);
int32_t send_body(const char *data, size_t len, int ended);

answer *answer_of(int32_t id);
void check_answer(int32_t id, int status, const char *data, size_t len);

/** Gives the server what the client has to say; the other way, one buffer of
 * it; both, until nobody has anything to say. */
int pump_in(void);
int pump_out(void);
void pump(void);

/** Gives the server a frame that is no client's of nghttp2. */
void send_frame(int type, int flags, int32_t id, const void *payload,
                size_t len);

/** A stream's request begins to run, says things, and ends. */
h2x_stream *run(int at);
void say_head(h2x_stream *stream, const char *text);
void say(h2x_stream *stream, const char *data, size_t len);
void end_with(h2x_stream *stream, h2x_output_end how);
void end(h2x_stream *stream, int failed);
void respond(h2x_stream *stream, const char *data, size_t len);

/** Starts anew, within one test. */
void again(void);

#define OK_HEAD "HTTP/1.1 200 OK\r\nServer: x\r\n\r\n"

/** Takes what has come of a request's body. */
size_t taken(h2x_stream *stream, char *to);

/** Releases the streams that are closed. */
void reap(void);

/** Bytes that tell their place. */
char *pattern(size_t len);

int setup(void **state);
int teardown(void **state);

#define SESSION_TEST(name) \
    cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif /* H2X_UNIT_SESSION_H */
