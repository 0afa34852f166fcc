/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The fields of requests, as HPACK decodes them: a byte that a client sends
 * may become 4 KB, which take time to decode and memory to keep. So there are
 * limits to what a head, or the trailers, decode to, a budget for what is
 * decoded beyond them, and accounts of what is kept.
 *
 * Past BLOCK_MIN (or what httpd's limits for a request line and four fields
 * make) a head is refused with 431 and no more of its fields is kept. Past
 * BLOCK_CUT times as much its stream is reset: from then on nghttp2 decodes
 * fields, as it must for the sake of its table, but does not look at them.
 * That matters: nghttp2 checks each byte of each value, and parses the value
 * of each field `priority`.
 *
 * Sizes are as RFC 9113, section 6.5.2, has them.
 */

#include <apr_atomic.h>

#include "h2x_head.h"
#include "h2x_session_impl.h"

#define FIELD_OVERHEAD 32

#define BLOCK_MIN (64 * 1024)
#define BLOCK_SIZE_FIELDS 4
#define BLOCK_CUT 4

/* The unit of the budget, in bytes. */
#define PIECE (16 * 1024)

/* So many heads of the greatest size may be kept for a connection's streams:
 * 2 MB, mostly. */
#define KEPT_HEADS 32

/*
 * A connection takes shares of the child's sum for what it keeps. The first it
 * has for nothing, so that there is always room for some requests; of more, a
 * quarter of what is left, so that it cannot take all.
 */
#define SHARE (64 * 1024)
#define CHILD_KEPT_MAX (32 * 1024 * 1024)
static apr_uint32_t child_shares; /* bytes */

void h2x_session_init_fields(h2x_session *session, const server_rec *s)
{
    h2x_fields *fields = &session->fields;

    fields->block_max = (apr_size_t)s->limit_req_line
        + BLOCK_SIZE_FIELDS * (apr_size_t)s->limit_req_fieldsize;
    if (fields->block_max < BLOCK_MIN) {
        fields->block_max = BLOCK_MIN;
    }
    fields->share = SHARE;
}

/* ---- what is kept ---- */

/* Takes one more share, if that is allowed. */
static int take_share(h2x_fields *fields)
{
    apr_int64_t left = CHILD_KEPT_MAX
                       - (apr_int64_t)apr_atomic_read32(&child_shares);

    if (fields->share >= KEPT_HEADS * fields->block_max
        || (apr_int64_t)fields->share > left / 4) {
        return 0;
    }
    fields->share += SHARE;
    apr_atomic_add32(&child_shares, SHARE);
    return 1;
}

int h2x_session_may_keep(h2x_session *session)
{
    h2x_fields *fields = &session->fields;

    while (fields->kept >= fields->share) {
        if (!take_share(fields)) {
            if (!fields->is_told) {
                LOG(session, APLOG_INFO, "h2x(%s): refusing streams: the "
                    "connection keeps %" APR_SIZE_T_FMT " bytes of request "
                    "heads", LOG_ID(session), fields->kept);
                fields->is_told = 1;
            }
            return 0;
        }
    }
    return 1;
}

void h2x_session_forget_fields(h2x_session *session, h2x_stream *stream)
{
    h2x_fields *fields = &session->fields;

    fields->kept -= stream->kept;
    stream->kept = 0;
    if (fields->kept < SHARE && fields->share > SHARE) {
        apr_atomic_sub32(&child_shares,
                         (apr_uint32_t)(fields->share - SHARE));
        fields->share = SHARE;
    }
}

/* ---- what comes ---- */

/* Counts a field. Returns whether its block may go on. */
static int count(h2x_session *session, size_t len)
{
    h2x_fields *fields = &session->fields;
    size_t max = fields->block_max, before = fields->block_len;

    fields->block_len += len + FIELD_OVERHEAD;
    if (fields->block_len > max) {
        before = (before > max) ? before : max;
        h2x_session_note_some(session, H2X_EVENT_OVERSIZE,
                              (int)(fields->block_len / PIECE
                                    - before / PIECE));
    }
    return fields->block_len <= BLOCK_CUT * max;
}

static int is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

/*
 * Takes the blanks around a value away, as HTTP/1.1 does (RFC 9110, section
 * 5.5). RFC 9113, section 8.2.1, has none there, but clients send some.
 */
static void strip(const uint8_t **value, size_t *len)
{
    while (*len && is_blank((*value)[*len - 1])) {
        --*len;
    }
    while (*len && is_blank(**value)) {
        ++*value;
        --*len;
    }
}

static int add_trailer(h2x_session *session, h2x_stream *stream,
                       const char *name, size_t name_len,
                       const char *value, size_t value_len)
{
    if (session->fields.block_len > session->fields.block_max
        || !h2x_session_may_keep(session)) {
        return 0; /* it is dropped, as its request may run already */
    }
    return h2x_head_add_trailer(stream, session->params.server, name, name_len,
                                value, value_len)
           ? NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE : 0;
}

/*
 * Adds a field of a request. Pseudo-fields are kept in any head, each up to
 * LimitRequestLine, since no request can be without its method.
 * @return the limit that is exceeded first
 */
static const char *add(h2x_session *session, h2x_stream *stream,
                       const char *name, size_t name_len,
                       const char *value, size_t value_len)
{
    const server_rec *s = session->params.server;
    int is_pseudo = (name[0] == ':');
    const char *limit = is_pseudo
        ? h2x_head_add_pseudo(stream, s, name, value, value_len) : NULL;

    if (!limit && session->fields.block_len > session->fields.block_max) {
        return h2x_head_refuse(stream, "64 KB in one head, or what "
                               "LimitRequestLine and 4 times "
                               "LimitRequestFieldSize make");
    }
    return is_pseudo ? limit
        : h2x_head_add_field(stream, s, name, name_len, value, value_len);
}

int h2x_session_on_header(nghttp2_session *ng, const nghttp2_frame *frame,
                          const uint8_t *name, size_t name_len,
                          const uint8_t *value, size_t value_len,
                          uint8_t flags, void *baton)
{
    h2x_session *session = baton;
    h2x_stream *stream = h2x_session_stream(session, frame->hd.stream_id);
    int may_go_on = count(session, name_len + value_len);
    const char *limit = NULL;
    size_t kept;
    int rv = 0;

    h2x_session_note(session, H2X_EVENT_FIELD);
    if (h2x_session_go_on(session) || !stream) {
        return h2x_session_go_on(session);
    }
    if (!may_go_on) {
        return h2x_session_reject(session, stream->id,
                                  NGHTTP2_ENHANCE_YOUR_CALM);
    }
    if (name[0] == ':' && value_len
        && (is_blank(value[0]) || is_blank(value[value_len - 1]))) {
        return h2x_session_reject(session, stream->id,
                                  NGHTTP2_PROTOCOL_ERROR);
    }
    strip(&value, &value_len);
    kept = stream->kept;
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        limit = add(session, stream, (const char *)name, name_len,
                    (const char *)value, value_len);
    }
    else {
        rv = add_trailer(session, stream, (const char *)name, name_len,
                         (const char *)value, value_len);
    }
    session->fields.kept += stream->kept - kept;
    if (limit) {
        LOG(session, APLOG_INFO, "h2x(%s-%d): request field %.*s exceeds %s",
            LOG_ID(session), stream->id,
            (int)(name_len < 64 ? name_len : 64), name, limit);
    }
    return rv;
}

/* nghttp2 would drop a malformed field; RFC 9113, section 8.2.1, does not. */
int h2x_session_on_invalid_header(nghttp2_session *ng,
                                  const nghttp2_frame *frame,
                                  const uint8_t *name, size_t name_len,
                                  const uint8_t *value, size_t value_len,
                                  uint8_t flags, void *baton)
{
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}
