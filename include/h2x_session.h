/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * A session: HTTP/2 as spoken on one connection, by nghttp2. It knows no
 * threads and no sockets: bytes are given to it and taken from it. All of
 * its functions want the session's lock held; nghttp2 is called from nowhere
 * else, and its callbacks only note what is to be done: see
 * h2x_session_check_outside().
 */
#ifndef H2X_SESSION_H
#define H2X_SESSION_H

#include <apr_pools.h>
#include <httpd.h>

#include "h2x_head.h"
#include "h2x_lock.h"
#include "h2x_stream.h"

typedef struct h2x_session h2x_session;

/** How far a session is; it only ever goes forward. */
typedef enum {
    H2X_SESSION_OPEN,
    H2X_SESSION_DRAINING, /* the client was asked to go elsewhere */
    H2X_SESSION_CLOSED    /* nothing is to be read or written any more */
} h2x_session_state;

/** What a session tells its owner; the lock is held. */
typedef struct h2x_session_owner {
    /** A request head is complete: the stream is QUEUED, the owner's. */
    void (*ready)(void *baton, h2x_stream *stream);
    /** The priority of a stream that is QUEUED may have changed. */
    void (*reprioritized)(void *baton, h2x_stream *stream);
    /**
     * A stream is closed, for the client: `is_closed` is set. Its request may
     * be anywhere; the owner sees to it that it is ended and released.
     */
    void (*closed)(void *baton, h2x_stream *stream);
} h2x_session_owner;

/** Where a session writes its frames: at least 17 KB, to hold any of them. */
typedef struct h2x_buffer {
    char *data;
    apr_size_t len;
    apr_size_t size;
} h2x_buffer;

/** What a session is made from. */
typedef struct h2x_session_params {
    conn_rec *c1;  /* for logging only */
    const server_rec *server; /* whose limits hold */
    h2x_lock *lock;
    h2x_stream_store *store;
    const h2x_session_owner *owner;
    const h2x_stream_owner *stream_owner;
    void *baton;   /* of both */
    const apr_array_header_t *origins; /* char *, to be told; or NULL */
} h2x_session_params;

/** Prepares what all sessions share; when the server starts. */
apr_status_t h2x_session_init(apr_pool_t *p);

/**
 * Makes a session, whose first SETTINGS are ready to be sent.
 * @param p outlives it
 */
apr_status_t h2x_session_create(h2x_session **session,
                                const h2x_session_params *params,
                                apr_pool_t *p);

/**
 * Begins with a request that came as HTTP/1.1, as stream 1 (RFC 7540,
 * section 3.2). Before anything else. Lock held. Of settings with values that
 * are not valid, the client learns by GOAWAY, and the request is not run.
 * @return APR_SUCCESS, APR_ENOMEM, APR_EINVAL when the settings are no such
 *         thing; then the session is of no more use
 */
apr_status_t h2x_session_upgrade(h2x_session *session,
                                 const h2x_first_request *first);

/** Gives memory back that is not needed while the connection is idle. */
void h2x_session_rest(h2x_session *session);

/** Frees a session. All of its streams must have been released. */
void h2x_session_destroy(h2x_session *session);

/** How far the session is. Lock held. */
h2x_session_state h2x_session_get_state(const h2x_session *session);

/** Tells whether the session was ended by an error. Lock held. */
int h2x_session_has_failed(const h2x_session *session);

/** Tells whether the session is being ended by an error. Lock held. */
int h2x_session_is_condemned(const h2x_session *session);

/** How many streams there are that were not released. */
int h2x_session_stream_count(const h2x_session *session);

/** Tells whether there ever was a stream. */
int h2x_session_is_fresh(const h2x_session *session);

/**
 * Tells until when the client may be without a request, whatever else it
 * says: Timeout to the first one; after that, or when the client was asked to
 * go, KeepAliveTimeout of the last one's host. There must be no stream. Lock
 * held.
 */
apr_time_t h2x_session_idle_until(const h2x_session *session);

/**
 * Reads bytes from the client.
 * @return APR_SUCCESS, also when they were wrong (the answer to that is then
 *         ready to be sent); APR_EAGAIN when the session is being ended and
 *         reads no more; APR_EGENERAL when it cannot go on
 */
apr_status_t h2x_session_receive(h2x_session *session, const char *data,
                                 apr_size_t len);

/**
 * Writes the frames that are to be sent, until the buffer is full.
 * @return APR_SUCCESS, also when there was nothing; APR_EGENERAL as above
 */
apr_status_t h2x_session_send(h2x_session *session, h2x_buffer *buffer);

/** Notes that a stream has output, or that its output ended. */
void h2x_session_output(h2x_session *session, h2x_stream *stream);

/** Notes that bytes of a body were taken, so that the client may send more. */
void h2x_session_consumed(h2x_session *session, h2x_stream *stream,
                          apr_size_t len);

/**
 * The size of the frames that a stream has still to send, as far as that can be
 * known: how HPACK will compress a head cannot. Lock held.
 */
apr_off_t h2x_session_unsent(const h2x_session *session,
                             const h2x_stream *stream);

/** How many frames wait to be sent. Lock held. */
apr_size_t h2x_session_queue_size(const h2x_session *session);

/**
 * Tells whether it is the client for which a stream with output has to wait:
 * its window is closed, or all streams together have sent next to nothing
 * since a time.
 */
int h2x_session_waits_for_client(const h2x_session *session,
                                 const h2x_stream *stream, apr_time_t since);

/** Is a stream's own window closed? */
int h2x_session_is_window_shut(const h2x_session *session,
                               const h2x_stream *stream);

/** How many bytes of bodies were sent, in all. */
apr_off_t h2x_session_taken(const h2x_session *session);

/** Resets a stream that makes no progress, with CANCEL. */
void h2x_session_cancel(h2x_session *session, h2x_stream *stream);

/**
 * Asks the client, in two steps, to go elsewhere (RFC 9113, section 6.8):
 * first with a GOAWAY that cuts nothing off, then, when the client must have
 * seen that, with one that names the last stream. Streams go on.
 */
void h2x_session_drain(h2x_session *session);

/**
 * Says the last GOAWAY, which names the last stream that was begun, without
 * an error. Streams go on; the session is CLOSED when none is left.
 */
void h2x_session_goaway(h2x_session *session);

/**
 * Ends a session whose client is gone: closes all of its streams.
 */
void h2x_session_abort(h2x_session *session);

/** Calls back for each stream. It may release the one it is called for. */
void h2x_session_each(h2x_session *session,
                      void (*callback)(void *baton, h2x_stream *stream),
                      void *baton);

/** Releases a stream, closed or not; it is no more. */
void h2x_session_release(h2x_session *session, h2x_stream *stream);

#endif /* H2X_SESSION_H */
