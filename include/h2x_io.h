/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * Reads from and writes to the filters of a client's connection (c1) without
 * blocking. All functions but h2x_io_register() and h2x_io_await() need the
 * session's lock, which guards c1's filters, pool and bucket allocator.
 */
#ifndef H2X_IO_H
#define H2X_IO_H

#include <apr_buckets.h>
#include <httpd.h>
#include <util_filter.h>

/** Zeroed by its owner; then used by h2x_io.c only. */
typedef struct h2x_io {
    conn_rec *c1;
    int may_block;          /* after h2x_io_end(): httpd may flush */
    int is_shut;            /* after h2x_io_shut(): output is dropped */
    apr_size_t size;        /* limit of one h2x_io_write(), in bytes */
    char *read;             /* buffer of h2x_pages_get(), or NULL: */
    apr_size_t read_at;     /* bytes of it that were passed on, */
    apr_size_t read_len;    /* and that were read from the socket */
    int core_is_empty;      /* the core's input filter holds no bytes */
    int is_drained;         /* the socket has no more, since h2x_io_renew() */
    ap_filter_t *below;     /* our output filter between mod_ssl and the core */
    int is_tls;
    int is_writing;         /* h2x_io_write() runs; all else that mod_ssl */
    apr_off_t tls_own;      /* writes is OpenSSL's own: its unsent bytes */
    int gathers;            /* TLS records are kept, to be written together: */
    char *gathered;         /* buffer of h2x_pages_get(), or NULL */
    apr_size_t gathered_len;
    apr_bucket_brigade *in;
    apr_bucket_brigade *out;
    apr_off_t tls_warm_up;  /* bytes sent in small records at first */
    apr_interval_time_t tls_cool_down;
    apr_off_t tls_sent;     /* bytes sent since records were small */
    apr_time_t tls_last;    /* of the last h2x_io_write(), by h2x_clock_now() */
} h2x_io;

/** Registers the filters; at start-up. */
void h2x_io_register(void);

/** Initializes I/O on a connection: adds filters and sets socket options. */
void h2x_io_init(h2x_io *io, conn_rec *c1, const server_rec *s);

/** Ends I/O: from now on, httpd may flush the connection, and block. */
void h2x_io_end(h2x_io *io);

/**
 * Shuts down the socket for writing; the connection is not closed yet. Only
 * when h2x_io_is_writable(). Later output is dropped.
 */
void h2x_io_shut(h2x_io *io);

/**
 * Writes what the filters hold, as far as the socket accepts it.
 * @return nonzero if they hold no output, so that h2x_io_write() may be called
 */
int h2x_io_is_writable(h2x_io *io);

/**
 * Writes bytes, as far as the socket accepts them; the filters hold the rest.
 * Only when h2x_io_is_writable(). The bytes are not used after this returns.
 * Errors are seen by c1->aborted.
 * @param len at most io->size
 */
void h2x_io_write(h2x_io *io, const char *data, apr_size_t len);

/** Lets h2x_io_read() read from the socket again, which may have input. */
void h2x_io_renew(h2x_io *io);

/** Keeps h2x_io_read() from reading the socket until h2x_io_renew(). */
void h2x_io_hold(h2x_io *io);

/** Frees the buffers; they are allocated again when needed. */
void h2x_io_rest(h2x_io *io);

/**
 * Reads at most 16 KB of input.
 * @param receive is called with the bytes, perhaps in several parts; an error
 *        that it returns ends the reading and is returned
 * @param len     is set to the number of bytes read
 * @return APR_SUCCESS; APR_EAGAIN: there is no input; APR_EOF: the client has
 *         closed the connection; or another error
 */
apr_status_t h2x_io_read(h2x_io *io,
                         apr_status_t (*receive)(void *baton,
                                                 const char *data,
                                                 apr_size_t len),
                         void *baton, apr_size_t *len);

/**
 * Waits for input from a client. Blocks: no lock held. The thread that owns the
 * connection.
 * @param timeout in microseconds
 * @return nonzero if there is input, or the connection is closed
 */
int h2x_io_await(conn_rec *c1, apr_interval_time_t timeout);

#endif /* H2X_IO_H */
