/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * One stream: what came in, what is to go out, and how far its request is.
 *
 * The driver (whoever reads and sends frames at the moment) feeds its input
 * and drains its output; the request's thread, or runner, takes the input and
 * adds the output; both hold the session's lock for that. Its data are four
 * groups, by who writes them: `in`, `out`, `limits` and `job`.
 *
 * A stream comes from a store and goes back there with its pool, because
 * making pools would be a large part of the cost of a small request.
 */
#ifndef H2X_STREAM_H
#define H2X_STREAM_H

#include <apr_buckets.h>
#include <apr_pools.h>
#include <apr_ring.h>
#include <apr_tables.h>

#include "h2x_c2_pool.h"
#include "h2x_field.h"
#include "h2x_lock.h"
#include "h2x_priority.h"
#include "h2x_push.h"

/**
 * How far the work on a stream is; it only ever goes forward. The states
 * of the protocol (RFC 9113, section 5.1) are nghttp2's business.
 */
typedef enum {
    H2X_STREAM_RECEIVING, /* its request head is not complete */
    H2X_STREAM_QUEUED,    /* waits for a thread */
    H2X_STREAM_RUNNING,   /* its request runs */
    H2X_STREAM_DRAINING,  /* the handler is done, output is left to be sent */
    H2X_STREAM_CLOSED     /* all is sent, or nobody wants it any more */
} h2x_stream_state;

/**
 * What the client asks for. The strings and the table are in the pool. A
 * CONNECT has neither scheme nor path (RFC 9113, section 8.5), another request
 * may come without authority (section 8.3.1): those are NULL.
 */
typedef struct h2x_request_head {
    const char *method;
    const char *scheme;
    const char *authority;
    const char *path;
    const char *protocol; /* of an extended CONNECT (RFC 8441) */
    apr_table_t *fields;
    apr_time_t received; /* when the head was complete */
    int field_count;     /* fields so far; crumbs of Cookie are one */
    apr_size_t cookie_len; /* of all crumbs */
    int status;          /* to be refused with this status, or 0 */
    int has_body;        /* END_STREAM was not on the head */
} h2x_request_head;

/** What a stream carries in place of bodies. */
typedef enum {
    H2X_TUNNEL_NONE,
    H2X_TUNNEL_CONNECT,
    H2X_TUNNEL_WEBSOCKET
} h2x_tunnel;

/** Bytes of a request body, of malloc(). */
typedef struct h2x_chunk {
    struct h2x_chunk *next;
    char *data;
    apr_size_t len;
    apr_size_t size;
} h2x_chunk;

/**
 * Bytes of a response body: in memory of its own, behind this; in memory that
 * is borrowed; or a part of a file.
 */
typedef struct h2x_segment {
    struct h2x_segment *next;
    const char *memory; /* NULL: this is a part of a file */
    apr_off_t offset;  /* of the next byte, in memory or in the file */
    apr_size_t len;    /* bytes left */
    apr_size_t size;   /* of its own memory */
    apr_os_file_t fd;  /* open until its request has ended */
} h2x_segment;

/** A row of segments. */
typedef struct h2x_segments {
    h2x_segment *first;
    h2x_segment *last;
    apr_off_t bytes;    /* in all */
    apr_size_t memory;  /* of these, in memory */
    apr_size_t returned; /* borrowed segments that were dropped so far */
} h2x_segments;

/** A resource of the same origin that a response announces. */
typedef struct h2x_promise {
    struct h2x_promise *next;
    const char *path;
    int is_critical;   /* wanted before the response itself */
} h2x_promise;

/** What the promises of a stream have in common. */
typedef struct h2x_promising {
    const char *method;
    h2x_resource base; /* what the client asked for */
    int count;
    h2x_field fields[1]; /* as many as fit: those that select a response */
} h2x_promising;

/** What waits to be sent before the body. */
typedef struct h2x_pending {
    struct h2x_pending *next;
    h2x_promise *promises; /* these first */
    h2x_head *head;        /* NULL when there are just promises */
} h2x_pending;

/** How far a body has come; it only ever goes forward. */
typedef enum {
    H2X_INPUT_OPEN,
    H2X_INPUT_CUT,   /* what is missing is not waited for: it ends here */
    H2X_INPUT_ENDED, /* END_STREAM has come */
    H2X_INPUT_LOST   /* the stream was closed before all of it was taken */
} h2x_input_state;

/** How output ends, as far as that is known; of two ends the later counts. */
typedef enum {
    H2X_OUTPUT_GOES_ON,
    H2X_OUTPUT_ENDS,
    H2X_OUTPUT_FAILS, /* half-way: the stream will be reset */
    H2X_OUTPUT_NEEDS_HTTP11 /* so that the request is repeated over that */
} h2x_output_end;

/** How much of a response went to nghttp2; it only ever goes forward. */
typedef enum {
    H2X_SENT_NOTHING,  /* but interim heads */
    H2X_SENT_HEAD,     /* the final one was submitted */
    H2X_SENT_BODY,     /* all of the body was sent; the trailers are due */
    H2X_SENT_TRAILERS, /* they were submitted */
    H2X_SENT_END       /* END_STREAM went out */
} h2x_sent;

/** A pair of sockets that tells of news. */
typedef enum {
    H2X_SIGNAL_NONE, /* there is none */
    H2X_SIGNAL_IDLE,
    H2X_SIGNAL_GIVEN /* there is a byte to be read */
} h2x_signal_state;

typedef struct h2x_stream h2x_stream;

/** What a stream asks of those who drive its session. */
typedef struct h2x_stream_owner {
    /** The runner may wait: others must go on without it. No lock held. */
    void (*may_wait)(void *baton, h2x_stream *stream);
    /** The same, by a runner that holds the lock. */
    void (*may_wait_locked)(void *baton, h2x_stream *stream);
    /**
     * The runner needs more of the body than has come. Gets some, if that is
     * there soon; if not, others go on without the runner, which may wait.
     */
    void (*need_input_locked)(void *baton, h2x_stream *stream);
    /** The stream has output, which with `flush` shall go out at once. */
    void (*output_locked)(void *baton, h2x_stream *stream, int flush);
    /** The runner has taken bytes of the body: the client may send more. */
    void (*consumed_locked)(void *baton, h2x_stream *stream, apr_size_t len);
    /** Has the stream more output than it may, before some of it is sent? */
    int (*is_full_locked)(void *baton, const h2x_stream *stream);
    /**
     * May the stream keep the descriptor of one more file, until its request
     * ends? Then it is counted in `job.open_files`. No lock held.
     */
    int (*keeps_file)(void *baton, h2x_stream *stream, apr_os_file_t fd);
    /** The runner begins to wait for room in its output; or ends that. */
    void (*blocks_locked)(void *baton, h2x_stream *stream, int blocks);
    /**
     * It has done so for its timeout. Is it for the client, not for other
     * streams? If not, that is measured anew from now on.
     */
    int (*waits_for_client_locked)(void *baton, h2x_stream *stream);
    /**
     * The runner serves a tunnel from now on, whose output may end first: it
     * shuts its socket of the signal down for writing then. No lock held.
     */
    void (*tunnel_begins)(void *baton, h2x_stream *stream);
} h2x_stream_owner;

/**
 * The body that comes in. The driver adds bytes and says how it ends, the
 * request's thread takes them; both hold the session's lock.
 */
typedef struct h2x_stream_in {
    h2x_chunk *first;
    h2x_chunk *last;
    apr_off_t bytes;      /* in these */
    apr_off_t received;   /* in all, as long as the request ran */
    h2x_input_state state;
    apr_table_t *trailers; /* what came as such, in their own pool */
    apr_interval_time_t debt; /* how long the request's thread has waited for
                               * the client, that it has not yet made up for */
} h2x_stream_in;

/**
 * What goes out. The request's thread adds to it and says how it ends (`end`),
 * the driver takes from it and says how far that is (`sent`): a response may
 * have ended, or failed, before anything was sent. Both hold the session's
 * lock.
 */
typedef struct h2x_stream_out {
    h2x_promising *promising; /* NULL: nothing is to be promised. The request's
                               * thread sets it before it has output */
    h2x_pending *pending; /* not yet sent: interim heads, the final one */
    h2x_segments row;     /* the body, as far as it is there */
    h2x_head *trailers;
    h2x_output_end end;
    h2x_sent sent;
    int was_reset;        /* RST_STREAM was submitted, whatever was sent: also
                           * after the end, when nobody reads the rest of the
                           * request (RFC 9113, section 8.1) */
    apr_time_t progress;  /* when enough of it was sent, or it was DRAINING,
                           * or the request's thread began to wait in vain */
    apr_time_t measured_at; /* since when it is measured what the client takes
                             * while the request's thread waits, */
    apr_off_t taken_before; /* and what it had taken by then, of all */
} h2x_stream_out;

/**
 * What bounds the request. The driver sets that for the connection's server
 * before the request is QUEUED, the request's thread for its virtual host and
 * its directory; the driver then reads it, with the lock held.
 */
typedef struct h2x_stream_limits {
    apr_size_t max_memory;
    apr_interval_time_t timeout;
    apr_interval_time_t keep_alive; /* KeepAliveTimeout; 0: no host is known */
    int min_rate;         /* what a client has to take, or to send, in bytes a
                           * second (H2MinRate) */
    int unbuffered;
    int copy_files;
    int takes_push;       /* the client may be promised resources */
} h2x_stream_limits;

/**
 * The request as it runs. It is the driver's until the stream is RUNNING, and
 * then its thread's alone until it is DRAINING or CLOSED; then it belongs to
 * the thread that ends the request. No lock, but for what says so.
 */
typedef struct h2x_stream_job {
    request_rec *r;       /* the initial request; NULL once it was logged */
    conn_rec *c2;         /* NULL once its pool was cleared */
    h2x_c2_pool *c2_pool; /* of that; kept with `eor` */
    apr_bucket *eor;      /* its end-of-request bucket, kept until it ends */
    apr_socket_t *drop_socket; /* NULL, or what modules close to drop it */
    apr_off_t bytes_read; /* of the body, as HTTP/1.1 frames it; mod_logio */
    int open_files;       /* descriptors that it keeps; the engine's, lock
                           * held */
    int is_announced;     /* what the configuration names was sent */
    h2x_tunnel tunnel;
    const char *websocket_accept; /* what a handshake ends with */
    void *tunnel_end;     /* the engine's, to see the end of its output */
    struct h2x_member *member; /* of the child's threads, that runs it; NULL:
                                * the connection's does. The engine's */
    int is_computing;     /* it counts among the child's that compute; lock
                           * held */
} h2x_stream_job;

/**
 * A stream. What is outside the four groups is the driver's, with the lock
 * held, but `pool` and `request`, which go to the request's thread as `job`
 * does, and what is said to be another's.
 */
struct h2x_stream {
    APR_RING_ENTRY(h2x_stream) link; /* in a queue of the engine */
    APR_RING_ENTRY(h2x_stream) all;  /* among all of the session */
    APR_RING_ENTRY(h2x_stream) news; /* among those with new output; by
                                      * itself when it has none */
    apr_int32_t id;
    apr_uint32_t number;  /* tells it from all that the child has now */
    h2x_stream_state state;
    int is_closed;        /* for the client, which may close it in any state
                           * of work, input or output */
    h2x_lock *lock;       /* the session's */
    const h2x_stream_owner *owner;
    void *owner_baton;
    apr_pool_t *pool;
    h2x_request_head request;
    apr_size_t kept;      /* bytes of it, and of trailers, that are kept */
    apr_int32_t promised_on; /* the stream that promised it; 0: none did */
    int is_critical;      /* of a promise */
    h2x_priority priority;
    int is_prioritized;   /* the client has said that */
    apr_int32_t wider_by; /* its receive window, than H2WindowSize */
    apr_off_t bytes_in;   /* of frames that came; mod_logio */
    apr_off_t bytes_out;  /* of frames that were sent; mod_logio */
    apr_size_t wasted;    /* bytes of body, of both, that nobody took */

    /* what the request's thread waits for has come: any thread, lock held */
    apr_thread_cond_t *changed;
    int signal[2];        /* sockets: the request's and the driver's */
    h2x_signal_state signal_state;

    h2x_stream_in in;
    h2x_stream_out out;
    h2x_stream_limits limits;
    h2x_stream_job job;
};

typedef struct h2x_stream_store h2x_stream_store;

/**
 * Makes a store of this child, emptied when the pool goes.
 * @param on_wide called when it keeps so much, or so much was freed, that it
 *                is to be trimmed; any thread, with a session's lock
 */
apr_status_t h2x_stream_store_create(h2x_stream_store **store,
                                     void (*on_wide)(void *baton), void *baton,
                                     apr_pool_t *p);

/**
 * Gets a stream, which is RECEIVING. Any thread.
 * @return NULL when there is no memory
 */
h2x_stream *h2x_stream_acquire(h2x_stream_store *store, apr_int32_t id,
                               h2x_lock *lock);

/** Gives a stream back that nobody uses any more. Any thread. */
void h2x_stream_release(h2x_stream_store *store, h2x_stream *stream);

/**
 * Gives memory back to the system: of some streams, if the stores keep many of
 * which nobody had need since this was called last, and what was freed when
 * many, or much that they held, had gone. That may take long. Any
 * thread that nobody waits for, without a lock.
 * @return whether to call again, in some tenths of a second
 */
int h2x_stream_trim(h2x_stream_store **stores, int count);

/** Changes the state, which must be a later one. Lock held. */
void h2x_stream_advance_locked(h2x_stream *stream, h2x_stream_state state);

/** The same for what came in, and for what was sent. Lock held. */
void h2x_stream_advance_in_locked(h2x_stream *stream, h2x_input_state state);
void h2x_stream_advance_sent_locked(h2x_stream *stream, h2x_sent sent);

/** Says how the output ends, unless a later end is known. Lock held. */
void h2x_stream_end_output_locked(h2x_stream *stream, h2x_output_end end);

/**
 * Lets a runner wait until something has changed. Lock held.
 * @param deadline when it has waited long enough; a time in the past is
 *        only found after having looked
 * @return APR_SUCCESS, APR_TIMEUP
 */
apr_status_t h2x_stream_wait_locked(h2x_stream *stream, apr_time_t deadline);

/** Ends the waiting of a runner. Lock held. */
void h2x_stream_wake_locked(h2x_stream *stream);

/**
 * Opens a pair of sockets, the first of which is readable when the runner has
 * been woken: for those who wait with poll(). The runner; no lock held.
 */
apr_status_t h2x_stream_open_signal(h2x_stream *stream);

/** Takes note that the runner has seen all that it was woken for. Lock held.*/
void h2x_stream_seen_locked(h2x_stream *stream);

/** Closes them, if they are there. The runner, at its end; no lock held. */
void h2x_stream_close_signal(h2x_stream *stream);

/** Tells a runner that waits that there is room for output. Lock held. */
void h2x_stream_room_locked(h2x_stream *stream);

/** Adds what is to be sent before the body. Lock held. */
void h2x_stream_append_locked(h2x_stream *stream, h2x_pending *pending);

/** Adds bytes of the request's body; driver. APR_SUCCESS or APR_ENOMEM. */
apr_status_t h2x_stream_feed_locked(h2x_stream *stream, const void *data,
                                    apr_size_t len);

/**
 * Waits until there is something to take: bytes of the body, or its end. The
 * runner; lock held, which is free meanwhile.
 * @param whole so many bytes are the rest of the body, and are not taken before
 *        its end has come; -1: any may be taken
 * @param block APR_NONBLOCK_READ: does not wait
 * @param timeout how long, in microseconds, if that is less than the client has
 *        left; negative: it has all that
 * @return APR_SUCCESS, APR_EAGAIN, APR_TIMEUP; APR_ECONNABORTED when the stream
 *         is closed
 */
apr_status_t h2x_stream_await_input_locked(h2x_stream *stream,
                                           apr_off_t whole,
                                           apr_read_type_e block,
                                           apr_interval_time_t timeout);

/**
 * Takes all bytes of the body that are there; runner. The caller frees the
 * data and the chunks with free().
 * @return how many
 */
apr_size_t h2x_stream_take_locked(h2x_stream *stream, h2x_chunk **chunks);

/**
 * Gives the stream what goes out next, and waits while it has more than it may
 * and the client takes some. The runner; no lock held.
 * @param pending goes before the body; NULL: nothing does
 * @param row  of the body, is empty afterwards
 * @param end  what this ends with
 * @param flush it shall go out at once
 * @param returned is set to how many borrowed segments were done with, as
 *        h2x_segments counts them
 * @return APR_SUCCESS, APR_TIMEUP; APR_ECONNABORTED when the stream is closed,
 *         and not because all was sent
 */
apr_status_t h2x_stream_publish(h2x_stream *stream, h2x_pending *pending,
                                h2x_segments *row, h2x_output_end end,
                                int flush, apr_size_t *returned);

/** Drops what the runner has not taken; the body is lost, unless it was over
 * and all taken. Lock held. */
void h2x_stream_drop_input_locked(h2x_stream *stream);

/** Drops what was not sent. Lock held. */
void h2x_stream_drop_output_locked(h2x_stream *stream);

/** Adds memory to a row: copies the bytes. APR_SUCCESS or APR_ENOMEM. */
apr_status_t h2x_segments_add(h2x_segments *row, const void *data,
                              apr_size_t len);

/**
 * Adds memory to a row without copying it. The owner keeps it until
 * `returned` has counted it, or the row was cleared; first in, first out.
 */
apr_status_t h2x_segments_borrow(h2x_segments *row, const char *data,
                                 apr_size_t len);

/**
 * Adds a part of a file to a row: reads it when that is wanted, keeps the
 * descriptor otherwise.
 * @return also APR_EOF when the file is shorter
 */
apr_status_t h2x_segments_add_file(h2x_segments *row, apr_os_file_t fd,
                                   apr_off_t offset, apr_size_t len,
                                   int read);

/** Moves all of a row to the end of another. */
void h2x_segments_move(h2x_segments *to, h2x_segments *from);

/**
 * Copies the first bytes of a row, and drops them from it.
 * @return also APR_EOF when there is less, as the row was cleared after its
 *         length was told, or when a file has become shorter
 */
apr_status_t h2x_segments_read(h2x_segments *row, char *to, apr_size_t len);

/** Is all of a row in memory, and is any of that borrowed? */
int h2x_segments_is_in_memory(const h2x_segments *row);
int h2x_segments_is_borrowed(const h2x_segments *row);

/** Copies what is borrowed, which then is not. APR_SUCCESS or APR_ENOMEM. */
apr_status_t h2x_segments_own(h2x_segments *row);

/** Frees all of a row. */
void h2x_segments_clear(h2x_segments *row);

#endif /* H2X_STREAM_H */
