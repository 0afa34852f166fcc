/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * Reading from and writing to the filters of a client's connection (c1),
 * without ever blocking. All functions want the session's lock held, as c1's
 * filters, pool and bucket allocator are nobody's in particular.
 */
#ifndef H2X_IO_H
#define H2X_IO_H

#include <apr_buckets.h>
#include <httpd.h>
#include <util_filter.h>

/** To be zeroed, then used by h2x_io.c only. */
typedef struct h2x_io {
    conn_rec *c1;
    int may_block;          /* the connection ends, and may be flushed */
    int is_shut;            /* the client was told that no more comes */
    apr_size_t size;        /* what may be written at once */
    char *read;             /* what came from the socket; of malloc(), NULL
                               when there is none */
    apr_size_t read_at;     /* of that, what was taken, */
    apr_size_t read_len;    /* and all */
    int core_is_empty;      /* the core has given all that it had read */
    int is_drained;         /* so is the socket, since it was last waited for */
    ap_filter_t *below;     /* our filter between mod_ssl and the core */
    int is_tls;
    int is_writing;         /* h2x_io_write() is under way; if not, what is */
    apr_off_t tls_own;      /* written is OpenSSL's own: so much is unsent */
    int gathers;            /* TLS records are kept, to be written as one: */
    char *gathered;         /* here; of malloc(), NULL when there are none */
    apr_size_t gathered_len;
    apr_bucket_brigade *in;
    apr_bucket_brigade *out;
    apr_off_t tls_warm_up;  /* bytes that go out in small records */
    apr_interval_time_t tls_cool_down;
    apr_off_t tls_sent;     /* since the connection was cold */
    apr_time_t tls_last;
} h2x_io;

/** Registers a filter; at start-up. */
void h2x_io_register(void);

/** Prepares I/O on a connection, which stays the caller's. */
void h2x_io_init(h2x_io *io, conn_rec *c1, const server_rec *s);

/** Lets others flush the connection, which may block, as it ends. */
void h2x_io_end(h2x_io *io);

/**
 * Lets the client see that no more comes, though the connection is not closed
 * yet. Only when h2x_io_is_writable(). What others write later is dropped.
 */
void h2x_io_shut(h2x_io *io);

/**
 * Offers the socket again what the filters hold.
 * @return whether they hold nothing (any more), so that more can be written
 */
int h2x_io_is_writable(h2x_io *io);

/**
 * Writes bytes, as far as the socket takes them; the filters hold the rest.
 * Only when h2x_io_is_writable(). The bytes are not used after this returns.
 * @param len at most io->size
 */
void h2x_io_write(h2x_io *io, const char *data, apr_size_t len);

/** Looks at the socket again: something may have come. Before reading. */
void h2x_io_renew(h2x_io *io);

/** Lets the socket be, until h2x_io_renew(). */
void h2x_io_hold(h2x_io *io);

/** Frees what is not needed while nobody reads. */
void h2x_io_rest(h2x_io *io);

/**
 * Reads what is there, some of it at a time.
 * @param receive takes the bytes; what it returns other than APR_SUCCESS
 *        ends the reading and is returned
 * @param len     is set to how many bytes were read
 * @return APR_SUCCESS, APR_EAGAIN when nothing is there, or an error, which
 *         is APR_EOF at the end
 */
apr_status_t h2x_io_read(h2x_io *io,
                         apr_status_t (*receive)(void *baton,
                                                 const char *data,
                                                 apr_size_t len),
                         void *baton, apr_size_t *len);

/**
 * Waits for a client to say more, no longer than some time. Any thread that
 * has the connection; blocks, so without the session's lock.
 * @return whether it has, or is gone
 */
int h2x_io_await(conn_rec *c1, apr_interval_time_t timeout);

#endif /* H2X_IO_H */
