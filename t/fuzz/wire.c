/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "wire.h"

#include <stdlib.h>
#include <string.h>

#include <nghttp2/nghttp2.h>

#define HEAD_LEN 9
#define FRAME_MAX (1 << 24)
#define LINES 64

/* What is known of a stream. */
typedef struct seen {
    struct seen *next;
    int32_t id;
    int status;      /* 0: it has no final head yet */
    int is_promised; /* of those with even numbers */
    int has_ended;   /* END_STREAM was sent */
    int was_reset;
    size_t body_len;
    size_t made_len;
    int is_whole;    /* no more will be made */
} seen;

static char pattern[WIRE_PIECE];
static seen *lines[LINES];
static nghttp2_hd_inflater *inflater;
static uint8_t *partial; /* a frame that has not come completely */
static size_t partial_len, partial_size;
static int has_settings;
static int32_t last_goaway;   /* the last stream that a GOAWAY named */
static int32_t last_begun;    /* the client's last stream that was begun */
static int has_failed;   /* by a GOAWAY with an error */
static uint32_t last_promised;
static seen *block_of;   /* the stream whose field block goes on */
static int block_ends, block_is_promise, block_status;

/* ---- streams ---- */

static seen *stream_of(int32_t id)
{
    seen **at = &lines[id / 2 % LINES];

    while (*at && (*at)->id != id) {
        at = &(*at)->next;
    }
    if (!*at) {
        *at = calloc(1, sizeof(**at));
        FUZZ_CHECK(*at);
        (*at)->id = id;
    }
    return *at;
}

void wire_begin(void)
{
    size_t i;

    for (i = 0; !pattern[1] && i < WIRE_PIECE; ++i) {
        pattern[WIRE_PIECE - 1 - i] = (char)(i * 7 + i / 251);
    }
    FUZZ_CHECK(!nghttp2_hd_inflate_new(&inflater));
    has_settings = has_failed = 0;
    last_goaway = INT32_MAX;
    last_promised = 0;
    last_begun = 0;
    block_of = NULL;
    partial_len = 0;
}

void wire_end(void)
{
    int i;

    for (i = 0; i < LINES; ++i) {
        while (lines[i]) {
            seen *one = lines[i];

            lines[i] = one->next;
            free(one);
        }
    }
    nghttp2_hd_inflate_del(inflater);
    free(partial);
    partial = NULL;
    partial_size = 0;
}

const char *wire_pattern(size_t at)
{
    return pattern + at % WIRE_PIECE;
}

size_t wire_pattern_left(size_t at)
{
    return WIRE_PIECE - at % WIRE_PIECE;
}

void wire_expect(int32_t id, size_t len, int is_whole)
{
    seen *stream = stream_of(id);

    stream->made_len += len;
    stream->is_whole = is_whole;
}

void wire_begun(int32_t id)
{
    if (id % 2) {
        FUZZ_CHECK(id <= last_goaway);
        last_begun = id > last_begun ? id : last_begun;
    }
}

int wire_status(int32_t id)
{
    return stream_of(id)->status;
}

int wire_is_reset(int32_t id)
{
    return stream_of(id)->was_reset;
}

/* ---- frames ---- */

static uint32_t number(const uint8_t *at)
{
    return ((uint32_t)at[0] << 24) | (uint32_t)at[1] << 16
           | (uint32_t)at[2] << 8 | at[3];
}

/* Drops padding, if there is any. */
static void unpad(const nghttp2_frame_hd *hd, const uint8_t **at, size_t *len)
{
    if (hd->flags & NGHTTP2_FLAG_PADDED) {
        FUZZ_CHECK(*len > 0 && *len > **at);
        *len -= **at + 1u;
        ++*at;
    }
}

/* The end of the stream's half (RFC 9113, section 5.1). */
static void end(seen *stream)
{
    FUZZ_CHECK(stream->status >= 200);
    FUZZ_CHECK(stream->is_whole && stream->body_len == stream->made_len);
    stream->has_ended = 1;
}

static void check_body(seen *stream, const uint8_t *at, size_t len)
{
    FUZZ_CHECK(stream->status >= 200);
    FUZZ_CHECK(stream->body_len + len <= stream->made_len);
    while (len) {
        size_t n = wire_pattern_left(stream->body_len);

        n = n < len ? n : len;
        FUZZ_CHECK(!memcmp(at, wire_pattern(stream->body_len), n));
        stream->body_len += n;
        at += n;
        len -= n;
    }
}

/* The head of a message is complete. Trailers have no status, and end it. */
static void end_block(void)
{
    if (block_is_promise) {
        FUZZ_CHECK(!block_status);
    }
    else if (block_of->status) {
        FUZZ_CHECK(!block_status && block_ends);
    }
    else {
        FUZZ_CHECK(block_status >= 100 && block_status <= 999);
        FUZZ_CHECK(block_status >= 200 || !block_ends);
        block_of->status = block_status < 200 ? 0 : block_status;
    }
    if (block_ends) {
        end(block_of);
    }
    block_of = NULL;
}

/* Names and values as section 8.2.1 wants them. */
static void check_field(const nghttp2_nv *nv)
{
    size_t i;

    if (nv->namelen == 7 && !memcmp(nv->name, ":status", 7)) {
        FUZZ_CHECK(!block_status && nv->valuelen == 3);
        block_status = atoi(fuzz_text(nv->value, nv->valuelen));
        return;
    }
    FUZZ_CHECK(nv->namelen > 0);
    FUZZ_CHECK(nv->name[0] != ':' || block_is_promise);
    for (i = 0; i < nv->namelen; ++i) {
        FUZZ_CHECK(nv->name[i] > ' ' && nv->name[i] < 0x7f
                   && (nv->name[i] < 'A' || nv->name[i] > 'Z'));
    }
    FUZZ_CHECK(!nv->valuelen || !strchr(" \t", nv->value[0]));
    FUZZ_CHECK(!nv->valuelen || !strchr(" \t", nv->value[nv->valuelen - 1]));
    for (i = 0; i < nv->valuelen; ++i) {
        FUZZ_CHECK(nv->value[i] != '\r' && nv->value[i] != '\n');
    }
}

static void read_block(const nghttp2_frame_hd *hd, const uint8_t *at,
                       size_t len)
{
    int is_final = hd->flags & NGHTTP2_FLAG_END_HEADERS;

    while (len || is_final) {
        nghttp2_nv nv;
        int flags = 0;
        ssize_t n = nghttp2_hd_inflate_hd2(inflater, &nv, &flags, at, len,
                                           is_final);

        FUZZ_CHECK(n >= 0);
        at += n;
        len -= (size_t)n;
        if (flags & NGHTTP2_HD_INFLATE_EMIT) {
            check_field(&nv);
        }
        if (flags & NGHTTP2_HD_INFLATE_FINAL) {
            FUZZ_CHECK(!len);
            nghttp2_hd_inflate_end_headers(inflater);
            end_block();
            return;
        }
        if (!(flags & NGHTTP2_HD_INFLATE_EMIT) && !len) {
            FUZZ_CHECK(!is_final);
        }
    }
}

static void begin_block(seen *stream, const nghttp2_frame_hd *hd,
                        const uint8_t *at, size_t len)
{
    block_of = stream;
    block_ends = hd->type == NGHTTP2_HEADERS
                 && (hd->flags & NGHTTP2_FLAG_END_STREAM);
    block_is_promise = hd->type == NGHTTP2_PUSH_PROMISE;
    block_status = 0;
    read_block(hd, at, len);
}

static void read_promise(seen *stream, const nghttp2_frame_hd *hd,
                         const uint8_t *at, size_t len)
{
    uint32_t id;

    FUZZ_CHECK(stream->id % 2 && len >= 4);
    id = number(at);
    FUZZ_CHECK(id % 2 == 0 && id > last_promised && id < 0x80000000u);
    last_promised = id;
    stream_of((int32_t)id)->is_promised = 1;
    begin_block(stream, hd, at + 4, len - 4);
}

/* What it does not name was not begun, nor will it be (section 6.8). */
static void read_goaway(const uint8_t *at, size_t len)
{
    FUZZ_CHECK(len >= 8 && number(at) < 0x80000000u);
    last_goaway = (int32_t)number(at);
    has_failed |= (number(at + 4) != NGHTTP2_NO_ERROR);
    FUZZ_CHECK(last_begun <= last_goaway);
}

/* Frames of the connection. */
static void read_common(const nghttp2_frame_hd *hd, const uint8_t *at,
                        size_t len)
{
    switch (hd->type) {
    case NGHTTP2_SETTINGS:
        FUZZ_CHECK((hd->flags & NGHTTP2_FLAG_ACK) ? !len : len % 6 == 0);
        has_settings = 1;
        break;
    case NGHTTP2_PING:
        FUZZ_CHECK(len == 8);
        break;
    case NGHTTP2_GOAWAY:
        read_goaway(at, len);
        break;
    case NGHTTP2_WINDOW_UPDATE:
        FUZZ_CHECK(len == 4 && number(at));
        break;
    case NGHTTP2_ORIGIN:
        break;
    default:
        fuzz_fail(__FILE__, __LINE__, "a frame for stream 0");
    }
}

/* Frames of a stream. */
static void read_stream(const nghttp2_frame_hd *hd, const uint8_t *at,
                        size_t len)
{
    seen *stream = stream_of(hd->stream_id);

    FUZZ_CHECK(hd->stream_id % 2 || stream->is_promised);
    FUZZ_CHECK(!stream->was_reset);
    if (hd->type == NGHTTP2_WINDOW_UPDATE) {
        FUZZ_CHECK(len == 4 && number(at));
        return;
    }
    if (hd->type == NGHTTP2_RST_STREAM) {
        FUZZ_CHECK(len == 4);
        stream->was_reset = 1;
        return;
    }
    FUZZ_CHECK(!stream->has_ended && !has_failed);
    unpad(hd, &at, &len);
    switch (hd->type) {
    case NGHTTP2_HEADERS:
        begin_block(stream, hd, at, len);
        break;
    case NGHTTP2_PUSH_PROMISE:
        read_promise(stream, hd, at, len);
        break;
    case NGHTTP2_DATA:
        check_body(stream, at, len);
        if (hd->flags & NGHTTP2_FLAG_END_STREAM) {
            end(stream);
        }
        break;
    default:
        fuzz_fail(__FILE__, __LINE__, "a frame for a stream");
    }
}

static void read_frame(const nghttp2_frame_hd *hd, const uint8_t *at)
{
    FUZZ_CHECK(has_settings || hd->type == NGHTTP2_SETTINGS);
    FUZZ_CHECK(hd->length < FRAME_MAX && hd->stream_id >= 0);
    if (block_of) {
        FUZZ_CHECK(hd->type == NGHTTP2_CONTINUATION
                   && hd->stream_id == block_of->id);
        read_block(hd, at, hd->length);
    }
    else if (hd->stream_id) {
        read_stream(hd, at, hd->length);
    }
    else {
        read_common(hd, at, hd->length);
    }
}

void wire_read(const char *data, size_t len)
{
    size_t at = 0;

    if (partial_size < partial_len + len) {
        partial_size = partial_len + len;
        partial = realloc(partial, partial_size);
        FUZZ_CHECK(partial);
    }
    if (len) {
        memcpy(partial + partial_len, data, len);
    }
    partial_len += len;
    while (partial_len - at >= HEAD_LEN) {
        const uint8_t *head = partial + at;
        nghttp2_frame_hd hd = { number(head) >> 8,
                                (int32_t)number(head + 5), head[3], head[4],
                                0 };

        if (partial_len - at - HEAD_LEN < hd.length) {
            break;
        }
        read_frame(&hd, head + HEAD_LEN);
        at += HEAD_LEN + hd.length;
    }
    partial_len -= at;
    memmove(partial, partial + at, partial_len);
}

int wire_is_whole(void)
{
    return !partial_len && !block_of;
}
