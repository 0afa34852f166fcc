/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The priorities of a session (RFC 9218). Whose DATA is sent when, nghttp2
 * decides by what it is told here: the most urgent first, of those the
 * incremental ones in turn. Which request runs when, the owner decides.
 */

#include <string.h>

#include <apr_tables.h>

#include "h2x_conf.h"
#include "h2x_session_core.h"
#include "h2x_session_priority.h"

static const h2x_priority defaults = { H2X_URGENCY_DEFAULT, 0 };

/* Does what a stream's new priority asks for. */
static void prioritize(h2x_session *session, h2x_stream *stream)
{
    nghttp2_extpri priority;

    priority.urgency = stream->priority.urgency;
    priority.inc = stream->priority.is_incremental;
    /* 1: nghttp2 need not read the client's signals too */
    nghttp2_session_change_extpri_stream_priority(session->ng, stream->id,
                                                  &priority, 1);
    if (stream->state == H2X_STREAM_QUEUED) {
        session->params.owner->reprioritized(session->params.baton, stream);
    }
}

/* ---- signals for streams that are not yet open ---- */

/*
 * Streams that are open, or have such a signal, are together no more than may
 * be open (RFC 9218, section 7.1), once the client knows how many that are.
 */
static int has_room(const h2x_session *session)
{
    uint32_t count = (uint32_t)h2x_early_count(&session->early);
    const h2x_stream *stream;

    APR_RING_FOREACH(stream, &session->all, h2x_stream, all) {
        count += !stream->is_closed && !stream->promised_on;
    }
    return count < nghttp2_session_get_local_settings(
                       session->ng, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

static void keep_early(h2x_session *session, int32_t id,
                       const h2x_priority *priority)
{
    if (!h2x_early_has(&session->early, id) && !has_room(session)) {
        h2x_session_condemn(session, NGHTTP2_PROTOCOL_ERROR,
                            "PRIORITY_UPDATE is for too many streams");
        return;
    }
    h2x_early_keep(&session->early, id, priority);
}

/* ---- what client and handler say ---- */

/*
 * A client that says nothing of priorities gets all that it asked for in
 * turn: RFC 9218, section 4.2, would have it one after the other.
 */
void h2x_session_read_priority(h2x_session *session, h2x_stream *stream)
{
    const char *value = apr_table_getm(stream->pool, stream->request.fields,
                                       "Priority");

    stream->priority = defaults;
    if (h2x_early_take(&session->early, stream->id, &stream->priority)) {
        stream->is_prioritized = 1;
    }
    else if (value) {
        stream->is_prioritized = 1;
        h2x_priority_parse(&stream->priority, value, strlen(value));
    }
    else {
        stream->priority.is_incremental = 1;
    }
    prioritize(session, stream);
}

/*
 * The payload of PRIORITY_UPDATE is read here: nghttp2 would keep a stream for
 * each that is not open yet, and 1.52 uses it after it was freed.
 */
int h2x_session_on_priority_chunk(nghttp2_session *ng,
                                  const nghttp2_frame_hd *hd,
                                  const uint8_t *data, size_t len,
                                  void *baton)
{
    h2x_session *session = baton;

    h2x_priority_update_add(&session->update, data, len);
    return 0;
}

int h2x_session_on_priority_end(nghttp2_session *ng, void **payload,
                                const nghttp2_frame_hd *hd, void *baton)
{
    *payload = NULL;
    return 0;
}

/* The stream that a PRIORITY_UPDATE names, or 0 when it may not. */
static int32_t updated_id(h2x_session *session, int32_t frame_id)
{
    int32_t id = h2x_priority_update_id(&session->update);

    if (id < 0) {
        h2x_session_condemn(session, NGHTTP2_FRAME_SIZE_ERROR,
                            "PRIORITY_UPDATE is too short");
        return 0;
    }
    if (frame_id || !id
        || (id % 2 == 0
            && (uint32_t)id >= nghttp2_session_get_next_stream_id(
                                   session->ng))) {
        h2x_session_condemn(session, NGHTTP2_PROTOCOL_ERROR,
                            "PRIORITY_UPDATE is on a stream, or for one that "
                            "it cannot be for");
        return 0;
    }
    return id;
}

void h2x_session_update_priority(h2x_session *session, int32_t frame_id)
{
    int32_t id = updated_id(session, frame_id);
    h2x_stream *stream = h2x_session_stream(session, id);
    h2x_priority priority;

    if (!id || !h2x_priority_update_read(&session->update, &priority)) {
        return;
    }
    if (stream) {
        stream->priority = priority;
        stream->is_prioritized = 1;
        prioritize(session, stream);
    }
    else if (id % 2
             && id > nghttp2_session_get_last_proc_stream_id(session->ng)) {
        keep_early(session, id, &priority);
    }
}

/*
 * Puts a push before a response that nothing is more urgent than: of one
 * urgency, what is not incremental goes before what is.
 */
static void pass_by(h2x_session *session, h2x_stream *stream)
{
    h2x_stream *other = h2x_session_stream(session, stream->promised_on);

    stream->priority.is_incremental = 0;
    if (other) {
        other->priority.is_incremental = 1;
        prioritize(session, other);
    }
}

/* Puts a push before or after the response that promised it. */
static void apply_order(h2x_session *session, h2x_stream *stream,
                        const h2x_head *head)
{
    const h2x_field *type = h2x_field_find(head, "content-type");
    h2x_push_order order = stream->is_critical ? H2X_PUSH_BEFORE
        : h2x_conf_push_order(session->params.server, type ? type->value : "");
    int *urgency = &stream->priority.urgency;

    stream->priority.is_incremental = 1;
    if (order == H2X_PUSH_AFTER && *urgency < H2X_URGENCY_LOWEST) {
        ++*urgency;
    }
    if (order == H2X_PUSH_BEFORE && *urgency > H2X_URGENCY_HIGHEST) {
        --*urgency;
    }
    else if (order == H2X_PUSH_BEFORE) {
        pass_by(session, stream);
    }
}

void h2x_session_merge_priority(h2x_session *session, h2x_stream *stream,
                                const h2x_head *head)
{
    int is_new = stream->promised_on && !stream->is_prioritized;
    int i;

    if (is_new) {
        apply_order(session, stream, head);
    }
    for (i = 0; i < head->count; ++i) {
        const h2x_field *field = &head->fields[i];

        if (field->name_len == 8 && !memcmp(field->name, "priority", 8)) {
            h2x_priority_parse(&stream->priority, field->value,
                               field->value_len);
            is_new = 1;
        }
    }
    if (is_new) {
        prioritize(session, stream);
    }
}
