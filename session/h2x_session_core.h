/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * What the parts of a session share: its struct, its streams and its end. For
 * h2x_session.c and session/ only.
 */
#ifndef H2X_SESSION_CORE_H
#define H2X_SESSION_CORE_H

#include <apr_ring.h>

#include <nghttp2/nghttp2.h>

#include <httpd.h>
#include <http_log.h>

#include "h2x.h"
#include "h2x_early.h"
#include "h2x_field_account.h"
#include "h2x_frame_scan.h"
#include "h2x_guard.h"
#include "h2x_nva.h"
#include "h2x_priority_update.h"
#include "h2x_session.h"
#include "h2x_stream_ids.h"
#include "h2x_windows.h"

APR_RING_HEAD(h2x_stream_ring, h2x_stream);

/**
 * How far a connection is to its end (RFC 9113, sections 5.4.1 and 6.8): it
 * only ever goes forward, by h2x_session_advance(). h2x_session_state is what
 * the engine needs of it.
 */
typedef enum {
    H2X_END_OPEN,
    H2X_END_NOTICE,     /* submitted: a GOAWAY that cuts nothing off, a PING */
    H2X_END_ANSWERED,   /* the client has answered it: the last GOAWAY is due */
    H2X_END_GOAWAY,     /* that is submitted; streams go on */
    H2X_END_CONDEMNED,  /* an error was found: a GOAWAY with it is due */
    H2X_END_TERMINATED, /* that is submitted, and logged; no more is read */
    H2X_END_FAILED,     /* that was given out, perhaps not all of it */
    H2X_END_CLOSED,     /* nothing is to be read or written any more */
    H2X_END_CLOSED_FAILED /* the same, after FAILED */
} h2x_session_end;

struct h2x_session {
    h2x_session_params params;
    nghttp2_session *ng;
    h2x_session_end end;
    int32_t goaway_id;      /* the last stream that the last GOAWAY names, from
                             * when it is submitted; before that, the highest
                             * of all */
    uint32_t error;         /* with which it is ended, from CONDEMNED on, */
    const char *error_reason; /* and why; NULL: because of the excess */
    h2x_event excess;       /* what was too much for the guard first, or NONE;
                             * known also when the end has another reason */
    struct h2x_stream_ring all;  /* streams that were not released */
    struct h2x_stream_ring news; /* those with new output */
    int stream_count;
    int promised_count;     /* of these, those that were promised */
    int is_fresh;           /* there was no stream yet */
    apr_time_t idle_since;  /* while there is no stream */
    apr_interval_time_t keep_alive; /* KeepAliveTimeout of the last one */

    /* what comes */
    size_t received;        /* bytes of bodies, to be credited */
    h2x_guard guard;
    h2x_frame_scan scan;
    h2x_stream_ids ids;
    h2x_field_account fields;
    h2x_windows windows;
    h2x_early early;
    h2x_priority_update update;
    uint32_t window_before; /* SETTINGS_INITIAL_WINDOW_SIZE, and */
    int32_t widest;         /* the widest window, before a SETTINGS frame */

    /* what is sent */
    h2x_diary diary;
    h2x_nva nva;
    int pings_sent;         /* and not answered */
    int min_rate;           /* H2MinRate */
    apr_off_t taken;        /* bytes of all bodies that were written */
    apr_time_t progress;    /* when bytes of any body were written, or before
                             * that if they were few */
    apr_size_t data_max;    /* H2MaxDataFrameLen */
    int padding_max;        /* H2Padding, in bytes */
    h2x_buffer *buffer;     /* that is being written */
    int buffer_full;
    const uint8_t *left;    /* of a frame that found no room */
    size_t left_len;
    void *large;            /* pages for nghttp2's buffer of a frame */
    size_t large_size;
#ifdef H2X_DEBUG
    int in_nghttp2;         /* it may be calling back */
#endif
};

/* The parameters of callbacks are nghttp2's choice; few need all of them. */
#pragma GCC diagnostic ignored "-Wunused-parameter"

#define LOG(session, level, ...) \
    h2x_log_locked((session)->params.lock, level, 0, (session)->params.c1, \
                   __VA_ARGS__)
#define LOG_ID(session) (session)->params.c1->log_id

/* ---- nghttp2 ---- */

/**
 * Nothing may be called in nghttp2's callbacks but getters, submit functions,
 * nghttp2_session_set_stream_user_data() and
 * nghttp2_session_change_extpri_stream_priority(); releases without the fix
 * of CVE-2026-27135 abort when a session is terminated there. In debug builds
 * this asserts, before each call of another function, that no callback runs.
 */
static APR_INLINE void h2x_session_check_outside(const h2x_session *session)
{
#ifdef H2X_DEBUG
    ap_assert(!session->in_nghttp2);
#else
    (void)session;
#endif
}

/** Notes, in debug builds, that a function is called that calls back, */
static APR_INLINE void h2x_session_enter(h2x_session *session)
{
    h2x_session_check_outside(session);
#ifdef H2X_DEBUG
    session->in_nghttp2 = 1;
#endif
}

/** and that it has returned. */
static APR_INLINE void h2x_session_leave(h2x_session *session)
{
#ifdef H2X_DEBUG
    session->in_nghttp2 = 0;
#else
    (void)session;
#endif
}

/**
 * Resets a stream in a callback for its head or trailers, of which nghttp2
 * then shows no more.
 * @return what the callback has to
 */
static APR_INLINE int h2x_session_reject(h2x_session *session, int32_t id,
                                         uint32_t code)
{
    int rv = nghttp2_submit_rst_stream(session->ng, NGHTTP2_FLAG_NONE, id,
                                       code);

    return rv ? NGHTTP2_ERR_CALLBACK_FAILURE
              : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

/* ---- streams ---- */

/** Finds a stream, or NULL when it is none of ours any more. */
static APR_INLINE h2x_stream *h2x_session_stream(h2x_session *session,
                                                 int32_t id)
{
    return id ? nghttp2_session_get_stream_user_data(session->ng, id) : NULL;
}

/** Notes that a stream has something to be sent. */
static APR_INLINE void h2x_session_add_news(h2x_session *session,
                                            h2x_stream *stream)
{
    if (APR_RING_NEXT(stream, news) == stream) { /* not among them yet */
        APR_RING_INSERT_TAIL(&session->news, stream, h2x_stream, news);
    }
}

/** Takes that back. */
static APR_INLINE void h2x_session_remove_news(h2x_stream *stream)
{
    APR_RING_REMOVE(stream, news); /* nothing, when it is not among them */
    APR_RING_ELEM_INIT(stream, news);
}

/** Adds a stream. Returns NULL when there is no memory. */
h2x_stream *h2x_session_add(h2x_session *session, int32_t id);

/** The head of a stream's request is complete. */
void h2x_session_enqueue(h2x_session *session, h2x_stream *stream);

/** Gives back what a stream's window is wider: its body has come, or the stream
 * is closed. */
void h2x_session_forget_window(h2x_session *session, h2x_stream *stream);

/** A stream is closed, for the client. */
void h2x_session_close_stream(h2x_session *session, h2x_stream *stream);

/* ---- the end ---- */

/** Goes on towards the end: the new state is a later one. */
void h2x_session_advance(h2x_session *session, h2x_session_end end);

/** A PING was answered: it may be that with the first GOAWAY. */
void h2x_session_check_drained(h2x_session *session, const uint8_t *data);

/**
 * Ends the connection with an error, and one line in the log: in
 * h2x_session_settle(), since callbacks of nghttp2 must not. The first error
 * counts.
 * @param why lives as long as the process
 */
void h2x_session_condemn(h2x_session *session, uint32_t code,
                         const char *why);

/**
 * Tells nghttp2, as the result of a callback, to stop receiving if the
 * connection is to be ended.
 */
static APR_INLINE int h2x_session_go_on(const h2x_session *session)
{
    return (session->end >= H2X_END_CONDEMNED)
           ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

/** Does what callbacks asked for, and sees whether the session is over. */
void h2x_session_settle(h2x_session *session);

/** Nothing is to be read or written any more. */
void h2x_session_close(h2x_session *session);

/** Closes a session that cannot go on: no memory, or a flood. */
apr_status_t h2x_session_give_up(h2x_session *session, ssize_t error);

/** Looks closer at an event that seems to be too much. */
void h2x_session_suspect(h2x_session *session, h2x_event event);

/** Notes several events that the guard counts, all at once. */
static APR_INLINE void h2x_session_note_some(h2x_session *session,
                                             h2x_event event, int count)
{
    if (h2x_guard_note(&session->guard, event, count)) {
        h2x_session_suspect(session, event);
    }
}

/** Notes an event that the guard counts. */
static APR_INLINE void h2x_session_note(h2x_session *session, h2x_event event)
{
    h2x_session_note_some(session, event, 1);
}

#endif /* H2X_SESSION_CORE_H */
