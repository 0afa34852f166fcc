/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * What the parts of a session share: h2x_session.c, which receives,
 * h2x_session_out.c, which sends, and those for promises and priorities. For
 * these only.
 */
#ifndef H2X_SESSION_IMPL_H
#define H2X_SESSION_IMPL_H

#include <apr_ring.h>

#include <nghttp2/nghttp2.h>

#include <httpd.h>
#include <http_log.h>

#include "h2x.h"
#include "h2x_guard.h"
#include "h2x_session.h"

#define H2X_FRAME_HEAD_LEN 9

APR_RING_HEAD(h2x_stream_ring, h2x_stream);

/* The priority of a stream that is not yet open. */
typedef struct {
    int32_t id;
    h2x_priority priority;
} h2x_early_priority;

/* Identifiers of streams that were skipped, and how many such are kept. */
typedef struct {
    int32_t first;
    int32_t last;
} h2x_id_gap;
#define H2X_GAPS 16

/* The payload of a PRIORITY_UPDATE: a stream, and a field not longer than
 * what makes sense. */
#define H2X_UPDATE_MAX 256

/* What receive windows are to be: see h2x_session_window.c. In bytes. */
typedef struct {
    int32_t initial;        /* H2WindowSize */
    int32_t wanted;         /* of a stream whose body is read */
    int32_t wider_by;       /* all streams' together */
    int is_guessed;         /* from the first round trip */
    int is_sampling;        /* a PING that measures was not answered yet */
    size_t sample;          /* what came since it was sent */
    apr_time_t sample_at;   /* when it was, or SETTINGS were; or may be next */
} h2x_windows;

/* What the fields of requests take: see h2x_session_fields.c. In bytes. */
typedef struct {
    apr_size_t block_len; /* what the head, or trailers, that come decode to */
    apr_size_t block_max; /* and may */
    apr_size_t kept;      /* of heads and trailers of all streams */
    apr_size_t share;     /* of the child's sum, for that */
    int is_told;          /* the log says that it is too little */
} h2x_fields;

struct h2x_session {
    h2x_session_params params;
    nghttp2_session *ng;
    h2x_session_state state;
    struct h2x_stream_ring all;  /* streams that were not released */
    struct h2x_stream_ring news; /* those with new output */
    int stream_count;
    int promised_count;     /* of these, those that were promised */
    h2x_diary diary;
    h2x_early_priority *early; /* of malloc() */
    int early_count;
    int early_max;
    char update[H2X_UPDATE_MAX]; /* of a PRIORITY_UPDATE that comes */
    size_t update_len;      /* of all of that, also what finds no room */
    int is_fresh;
    apr_time_t idle_since;  /* while there is no stream */
    apr_interval_time_t keep_alive; /* KeepAliveTimeout of the last one */
    int min_rate;           /* H2MinRate */
    apr_off_t taken;        /* bytes of all bodies that were written */
    apr_time_t progress;    /* when bytes of any body were written, or before
                             * that if they were few */
    int drained;            /* the client has answered the PING */
    int goaway_said;
    int32_t goaway_id;      /* the last stream that it names */
    int has_failed;         /* a GOAWAY with an error was sent */
    size_t received;        /* bytes of bodies, to be credited */
    h2x_windows windows;
    h2x_fields fields;
    nghttp2_frame_hd frame; /* the frame that comes; or, with a length of 0
                             * left, came last */
    size_t payload_left;    /* of it, or of the client's preface */
    uint8_t frame_head[H2X_FRAME_HEAD_LEN]; /* of the next one, so far */
    size_t frame_head_len;
    int pings_sent;         /* and not answered */
    apr_time_t frame_since; /* when reading first ended within it, or within
                             * the head that it is of; 0: it did not */
    apr_size_t data_max;    /* H2MaxDataFrameLen */
    int padding_max;        /* H2Padding, in bytes */
    int32_t last_id;        /* of the client's streams */
    h2x_id_gap gaps[H2X_GAPS]; /* identifiers it has skipped, the last ones */
    int gap_count;
    uint32_t window_before; /* SETTINGS_INITIAL_WINDOW_SIZE, and */
    int32_t widest;         /* the widest window, before a SETTINGS frame */
    h2x_guard guard;
    h2x_event excess;       /* what was too much for it, or NONE */
    uint32_t error;         /* with which to end the connection, and */
    const char *error_reason; /* why; NULL: it is not to be ended */
    int is_condemned;       /* the connection is being ended, and why logged */
#ifdef H2X_DEBUG
    int in_nghttp2;         /* it may be calling back */
#endif
    h2x_buffer *buffer;     /* that is being written */
    int buffer_full;
    const uint8_t *left;    /* of a frame that found no room */
    size_t left_len;
    void *large;            /* pages for nghttp2's buffer of a frame */
    size_t large_size;
    nghttp2_nv *nva;        /* scratch */
    int nva_size;
};

/* The parameters of callbacks are nghttp2's choice; few need all of them. */
#pragma GCC diagnostic ignored "-Wunused-parameter"

#define LOG(session, level, ...) \
    h2x_log_locked((session)->params.lock, level, 0, (session)->params.c1, \
                   __VA_ARGS__)
#define LOG_ID(session) (session)->params.c1->log_id

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
    return (session->excess || session->error_reason)
           ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

/** Ends the connection if that was asked for, or if there was too much of
 * something. */
void h2x_session_end_condemned(h2x_session *session);

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

/** Shows the guard what comes: all frames, as nghttp2 does not tell of those
 * that it ignores, and how long one takes to come. */
void h2x_session_scan(h2x_session *session, const char *data, apr_size_t len);

/** nghttp2's callback for the head of a frame. */
int h2x_session_on_begin_frame(nghttp2_session *ng,
                               const nghttp2_frame_hd *hd, void *baton);

/** Looks whether SETTINGS that have come make a window overflow. */
void h2x_session_check_windows(h2x_session *session);

/** Adds a stream. Returns NULL when there is no memory. */
h2x_stream *h2x_session_add(h2x_session *session, int32_t id);

/** The head of a stream's request is complete. */
void h2x_session_enqueue(h2x_session *session, h2x_stream *stream);

/** A stream is closed, for the client. */
void h2x_session_close_stream(h2x_session *session, h2x_stream *stream);

/** May a promise be sent now? */
int h2x_session_takes_push(const h2x_session *session);

/** Sends promises that a stream makes. Returns an error of nghttp2. */
int h2x_session_promise(h2x_session *session, h2x_stream *parent,
                        const h2x_promise *promises);

/** A promise was sent. */
void h2x_session_promised(h2x_session *session, int32_t id);

/** Does what a stream's new priority asks for. */
void h2x_session_prioritize(h2x_session *session, h2x_stream *stream);

/** Gives what nghttp2 is to get its memory from. It lives in the session. */
void h2x_session_init_memory(h2x_session *session, nghttp2_mem *mem);

/** Prepares the limits for fields. */
void h2x_session_init_fields(h2x_session *session, const server_rec *s);

/** Tells whether the connection may keep another head. */
int h2x_session_may_keep(h2x_session *session);

/** The fields of a stream are kept no longer. */
void h2x_session_forget_fields(h2x_session *session, h2x_stream *stream);

/** nghttp2's callback for a field. */
int h2x_session_on_header(nghttp2_session *ng, const nghttp2_frame *frame,
                          const uint8_t *name, size_t name_len,
                          const uint8_t *value, size_t value_len,
                          uint8_t flags, void *baton);

/** nghttp2's callback for a field that is malformed. */
int h2x_session_on_invalid_header(nghttp2_session *ng,
                                  const nghttp2_frame *frame,
                                  const uint8_t *name, size_t name_len,
                                  const uint8_t *value, size_t value_len,
                                  uint8_t flags, void *baton);

/** Prepares the receive windows of a session. */
void h2x_session_init_windows(h2x_session *session, const server_rec *s);

/** The client has acknowledged SETTINGS: a first guess at the window. */
void h2x_session_guess_window(h2x_session *session);

/** Counts bytes of a body that have come, and may ask for a measurement. */
void h2x_session_sample(h2x_session *session, h2x_stream *stream, size_t len);

/** Ends a measurement, if it is that which a client's PING ACK is about. */
void h2x_session_end_sample(h2x_session *session, const uint8_t *data);

/** Gives a stream the window that it needs, whose body was read. */
void h2x_session_widen(h2x_session *session, h2x_stream *stream);

/** A stream has got all of its body, or is closed: it needs no window. */
void h2x_session_forget_window(h2x_session *session, h2x_stream *stream);

/** Finds the priority of a request that has come. */
void h2x_session_read_priority(h2x_session *session, h2x_stream *stream);

/** nghttp2's callback for a piece of a PRIORITY_UPDATE frame. */
int h2x_session_on_priority_chunk(nghttp2_session *ng,
                                  const nghttp2_frame_hd *hd,
                                  const uint8_t *data, size_t len,
                                  void *baton);

/** nghttp2's callback for the end of one. */
int h2x_session_on_priority_end(nghttp2_session *ng, void **payload,
                                const nghttp2_frame_hd *hd, void *baton);

/** Takes note of a PRIORITY_UPDATE frame that has come, for stream 0 if it is
 * as it should be (RFC 9218, section 7.1). */
void h2x_session_update_priority(h2x_session *session, int32_t frame_id);

/**
 * Merges what a response says of its priority (RFC 9218, section 8); one that
 * was promised has H2PushPriority too.
 */
void h2x_session_merge_priority(h2x_session *session, h2x_stream *stream,
                                const h2x_head *head);

/** Gives nghttp2 the fields of a head, which stay where they are.
 * @param status as text, if it has one
 * @return how many are in session->nva, or -1 when there is no memory */
int h2x_session_make_nva(h2x_session *session, const h2x_head *head,
                         const char *status);

/** Registers the callbacks for sending. */
void h2x_session_out_init(nghttp2_session_callbacks *callbacks);

/** Does what callbacks asked for, and sees whether the session is over. */
void h2x_session_settle(h2x_session *session);

/** Closes a session that cannot go on: no memory, or a flood. */
apr_status_t h2x_session_give_up(h2x_session *session, ssize_t error);

#endif /* H2X_SESSION_IMPL_H */
