/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The promises of a session (RFC 9113, section 8.4). */

#include "h2x_head.h"
#include "h2x_session_core.h"
#include "h2x_session_push.h"

/* So many promised streams may be unfinished, on one connection: a page that
 * wants more at a time is better asked for its parts. */
#define PROMISED_MAX 32

int h2x_session_takes_push(const h2x_session *session)
{
    return session->end == H2X_END_OPEN
           && nghttp2_session_get_remote_settings(
                  session->ng, NGHTTP2_SETTINGS_ENABLE_PUSH)
           && nghttp2_session_get_remote_settings(
                  session->ng, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

/* Is there room for another promised stream? */
static int has_room(const h2x_session *session)
{
    return session->promised_count < PROMISED_MAX
           && (uint32_t)session->promised_count
                  < nghttp2_session_get_remote_settings(
                        session->ng, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

/*
 * Promises a resource. The stream is RECEIVING until the promise was sent:
 * then its request begins.
 */
static int promise(h2x_session *session, h2x_stream *parent,
                   const h2x_promise *promise)
{
    h2x_stream *stream = h2x_session_add(session, 0);
    int n, rv = NGHTTP2_ERR_NOMEM;

    if (!stream) {
        return rv;
    }
    stream->promised_on = parent->id;
    stream->is_critical = promise->is_critical;
    stream->priority = parent->priority;
    h2x_stream_advance_in_locked(stream, H2X_INPUT_ENDED);
    ++session->promised_count;
    n = h2x_nva_make(&session->nva,
                     h2x_head_promise(stream, parent->out.promising, promise),
                     NULL);
    if (n >= 0) {
        rv = nghttp2_submit_push_promise(session->ng, NGHTTP2_FLAG_NONE,
                                         parent->id, session->nva.fields, n,
                                         stream);
    }
    if (rv < 0) {
        h2x_session_release(session, stream);
        return rv;
    }
    stream->id = rv;
    LOG(session, APLOG_DEBUG, "h2x(%s-%d): promise of %s is stream %d",
        LOG_ID(session), parent->id, promise->path, stream->id);
    return 0;
}

int h2x_session_promise(h2x_session *session, h2x_stream *parent,
                        const h2x_promise *promises)
{
    int rv = 0;

    for (; promises && rv == 0; promises = promises->next) {
        h2x_resource resource = parent->out.promising->base;

        resource.path = promises->path;
        if (!h2x_session_takes_push(session) || !has_room(session)) {
            break;
        }
        if (h2x_diary_add(&session->diary, &resource)) {
            rv = promise(session, parent, promises);
        }
    }
    return nghttp2_is_fatal(rv) ? rv : 0;
}

void h2x_session_promised(h2x_session *session, int32_t id)
{
    h2x_stream *stream = h2x_session_stream(session, id);

    if (stream && !stream->is_closed) {
        h2x_session_enqueue(session, stream);
    }
}
