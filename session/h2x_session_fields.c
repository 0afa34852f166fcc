/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The fields of requests, as HPACK decodes them. */

#include "h2x_head.h"
#include "h2x_session_core.h"
#include "h2x_session_fields.h"

int h2x_session_may_keep(h2x_session *session)
{
    int may_keep = h2x_field_account_may_keep(&session->fields);

    if (!may_keep && h2x_field_account_tell(&session->fields)) {
        LOG(session, APLOG_INFO, "h2x(%s): refusing streams: the "
            "connection keeps %" APR_SIZE_T_FMT " bytes of request "
            "heads", LOG_ID(session),
            h2x_field_account_kept(&session->fields));
    }
    return may_keep;
}

/* Counts a field. Returns whether its block may go on. */
static int count(h2x_session *session, size_t len)
{
    int pieces = h2x_field_account_count(&session->fields, len);

    if (pieces) {
        h2x_session_note_some(session, H2X_EVENT_OVERSIZE, pieces);
    }
    return !h2x_field_account_is_cut(&session->fields);
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
    if (h2x_field_account_is_over(&session->fields)
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

    if (!limit && h2x_field_account_is_over(&session->fields)) {
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
    h2x_field_account_keep(&session->fields, stream->kept - kept);
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
