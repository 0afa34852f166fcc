/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <string.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <apr_buckets.h>
#include <apr_poll.h>
#include <apr_portable.h>

#include <httpd.h>
#include <http_connection.h>
#include <http_core.h>
#include <util_filter.h>

#include "h2x.h"
#include "h2x_clock.h"
#include "h2x_conf.h"
#include "h2x_io.h"
#include "h2x_memory.h"
#include "h2x_pages.h"

/* Bytes read at a time from the filters, and from the socket. */
#define READ_SIZE (16 * 1024)
#define SOCKET_READ_SIZE (64 * 1024)

/* Limits of h2x_io.size: some full TLS records; at least one frame. */
#define SIZE_MAX_AT_ONCE (48 * 1024)
#define SIZE_MIN_AT_ONCE (17 * 1024)

/* What TLS may add to h2x_io.size bytes, in records of full size. */
#define TLS_OVERHEAD 1024

/* Size of the buffer of TLS records that are written together. */
#define GATHERED_MAX (SIZE_MAX_AT_ONCE + 4 * 1024)

/* The largest payload of a TLS record. */
#define TLS_LARGE (16 * 1024)

/* The payload of a TLS record that fits into one packet. */
#define TLS_SMALL 1300

/* The unsent bytes that the kernel may hold: enough until a thread has written
 * more. Data of a higher priority cannot overtake them. */
#define UNSENT_MAX (128 * 1024)

/* Bytes of OpenSSL's own records, such as for KeyUpdate, that may be held while
 * the socket is not writable. */
#define TLS_OWN_MAX (8 * 1024)

static ap_filter_rec_t *below_filter;
static ap_filter_rec_t *below_in_filter;

/* A metadata bucket at which mod_ssl passes on its buffer, and at which the
 * core does not block, as it would at a FLUSH bucket. */
static apr_status_t nudge_read(apr_bucket *b, const char **str,
                               apr_size_t *len, apr_read_type_e block)
{
    (void)b;
    (void)block;
    *str = NULL;
    *len = 0;
    return APR_SUCCESS;
}

static const apr_bucket_type_t nudge_type = {
    "H2X_NUDGE", 5, APR_BUCKET_METADATA, apr_bucket_destroy_noop, nudge_read,
    apr_bucket_setaside_noop, apr_bucket_split_notimpl,
    apr_bucket_simple_copy
};

static apr_bucket *nudge_create(apr_bucket_alloc_t *list)
{
    apr_bucket *b = apr_bucket_alloc(sizeof(*b), list);

    APR_BUCKET_INIT(b);
    b->free = apr_bucket_free;
    b->list = list;
    b->type = &nudge_type;
    b->data = NULL;
    b->length = 0;
    b->start = 0;
    return b;
}

/* Returns nonzero for TLS, if there is memory to gather its records. */
static int may_gather(h2x_io *io)
{
    if (io->is_tls && !io->gathered) {
        io->gathered = h2x_pages_get(GATHERED_MAX);
    }
    return io->gathered != NULL;
}

/* Moves the gathered records to the beginning of a brigade. */
static void ungather(h2x_io *io, apr_bucket_brigade *bb)
{
    if (io->gathered_len) {
        APR_BRIGADE_INSERT_HEAD(
            bb, apr_bucket_transient_create(io->gathered, io->gathered_len,
                                            bb->bucket_alloc));
        io->gathered_len = 0;
    }
}

/* Moves records from a brigade into the buffer, as far as they fit. */
static void gather(h2x_io *io, apr_bucket_brigade *bb)
{
    while (!APR_BRIGADE_EMPTY(bb)) {
        apr_bucket *b = APR_BRIGADE_FIRST(bb);
        const char *data;
        apr_size_t len;

        if (apr_bucket_read(b, &data, &len, APR_BLOCK_READ) != APR_SUCCESS
            || len > GATHERED_MAX - io->gathered_len) {
            break;
        }
        if (len) {
            memcpy(io->gathered + io->gathered_len, data, len);
            io->gathered_len += len;
        }
        apr_bucket_delete(b);
    }
}

/*
 * Counts the bytes of OpenSSL's own records that the core holds while the
 * socket is not writable. Returns nonzero if they exceed TLS_OWN_MAX. A client
 * can cause such records without limit (KeyUpdate, RFC 8446, section 4.6.3);
 * past its threshold, the core would block the thread that reads.
 */
static int says_too_much(h2x_io *io, apr_bucket_brigade *bb)
{
    apr_off_t len = 0;

    if (io->may_block || io->is_writing) {
        return 0;
    }
    if (!io->c1->data_in_output_filters) {
        io->tls_own = 0;
    }
    apr_brigade_length(bb, 0, &len);
    io->tls_own += (len > 0) ? len : 0;
    return io->tls_own > TLS_OWN_MAX;
}

/*
 * The output filter between mod_ssl and the core:
 * - It removes FLUSH buckets, at which the core would block. OpenSSL flushes
 *   after records of its own, such as an alert, also while a thread reads.
 *   These are sent with the next output, or when the socket is writable.
 * - It gathers the records of one h2x_io_write(). The core would make a system
 *   call for each, which costs more than a copy.
 * - After h2x_io_shut() it drops what mod_ssl writes at the end. The core would
 *   fail to write it, and httpd would close the socket at once. If data of the
 *   client came after that, the kernel would send a reset, and the client would
 *   lose what it has not read.
 */
static apr_status_t below_tls(ap_filter_t *f, apr_bucket_brigade *bb)
{
    h2x_io *io = f->ctx;
    apr_bucket *b, *next;

    if (io->is_shut) {
        apr_brigade_cleanup(bb);
        return APR_SUCCESS;
    }
    for (b = APR_BRIGADE_FIRST(bb);
         !io->may_block && b != APR_BRIGADE_SENTINEL(bb); b = next) {
        next = APR_BUCKET_NEXT(b);
        if (APR_BUCKET_IS_FLUSH(b)) {
            apr_bucket_delete(b);
        }
    }
    if (says_too_much(io, bb)) {
        ap_log_cerror(APLOG_MARK, APLOG_INFO, 0, io->c1, "h2x(%s): closing: "
                      "too many TLS control records (as for KeyUpdate) while "
                      "the client does not read", io->c1->log_id);
        apr_brigade_cleanup(bb);
        io->c1->aborted = 1;
        return APR_ECONNABORTED;
    }
    if (io->gathers) {
        gather(io, bb);
    }
    if (APR_BRIGADE_EMPTY(bb)) {
        return APR_SUCCESS;
    }
    ungather(io, bb);
    return ap_pass_brigade(f->next, bb);
}

/* Reads from the socket into the buffer, which is empty. */
static apr_status_t read_socket(h2x_io *io, apr_read_type_e block)
{
    apr_socket_t *socket = ap_get_conn_socket(io->c1);
    apr_size_t len = SOCKET_READ_SIZE;
    apr_interval_time_t timeout = 0;
    apr_status_t rv;

    if (io->is_drained && block == APR_NONBLOCK_READ) {
        return APR_EAGAIN;
    }
    if (!io->read && !(io->read = h2x_pages_get(SOCKET_READ_SIZE))) {
        h2x_memory_missing();
        return APR_ENOMEM;
    }
    if (block == APR_NONBLOCK_READ) {
        apr_socket_timeout_get(socket, &timeout);
        apr_socket_timeout_set(socket, 0);
    }
    rv = apr_socket_recv(socket, io->read, &len);
    if (block == APR_NONBLOCK_READ) {
        apr_socket_timeout_set(socket, timeout);
    }
    io->is_drained = (len < SOCKET_READ_SIZE);
    io->read_at = 0;
    io->read_len = len;
    return len ? APR_SUCCESS : rv;
}

/*
 * The input filter between the core and mod_ssl. It reads from the socket in
 * place of the core, which reads 8000 bytes at a time, and does not show when
 * the socket is empty: that would take one more system call each time.
 */
static apr_status_t below_tls_in(ap_filter_t *f, apr_bucket_brigade *bb,
                                 ap_input_mode_t mode, apr_read_type_e block,
                                 apr_off_t readbytes)
{
    h2x_io *io = f->ctx;
    apr_size_t left = io->read_len - io->read_at;
    apr_status_t rv;

    if (io->may_block) {
        return ap_get_brigade(f->next, bb, mode, block, readbytes);
    }
    if (!left && (!io->core_is_empty || mode != AP_MODE_READBYTES)) {
        rv = ap_get_brigade(f->next, bb, mode, block, readbytes);
        io->core_is_empty
            = (APR_STATUS_IS_EAGAIN(rv)
               || (rv == APR_SUCCESS && APR_BRIGADE_EMPTY(bb)))
              && f->next->frec == ap_core_input_filter_handle;
        return rv;
    }
    if (!left) {
        rv = read_socket(io, block);
        if (rv != APR_SUCCESS) {
            return rv;
        }
        left = io->read_len;
    }
    if ((apr_off_t)left > readbytes) {
        left = (apr_size_t)readbytes;
    }
    APR_BRIGADE_INSERT_TAIL(bb, apr_bucket_transient_create(
                                    io->read + io->read_at, left,
                                    f->c->bucket_alloc));
    io->read_at += left;
    return APR_SUCCESS;
}

void h2x_io_renew(h2x_io *io)
{
    io->is_drained = 0;
}

void h2x_io_hold(h2x_io *io)
{
    io->is_drained = 1;
}

void h2x_io_rest(h2x_io *io)
{
    if (io->read_at == io->read_len) {
        h2x_pages_put(io->read, SOCKET_READ_SIZE);
        io->read = NULL;
    }
    h2x_pages_put(io->gathered, GATHERED_MAX);
    io->gathered = NULL;
}

void h2x_io_register(void)
{
    below_in_filter = ap_register_input_filter("H2X_BELOW_TLS", below_tls_in,
                                               NULL, AP_FTYPE_NETWORK - 1);
    below_filter = ap_register_output_filter("H2X_BELOW_TLS", below_tls, NULL,
                                             AP_FTYPE_NETWORK - 1);
}

void h2x_io_end(h2x_io *io)
{
    io->may_block = 1;
    io->read_at = io->read_len; /* this is not going to be read */
    h2x_io_rest(io);
}

void h2x_io_shut(h2x_io *io)
{
    io->is_shut = 1;
    apr_socket_shutdown(ap_get_conn_socket(io->c1), APR_SHUTDOWN_WRITE);
}

/* The core blocks when it holds more than FlushMaxThreshold (64 KB). */
static apr_size_t size_at_once(const server_rec *s)
{
    const core_server_config *conf
        = ap_get_core_module_config(s->module_config);
    apr_size_t max = conf->flush_max_threshold;

    max = (max > TLS_OVERHEAD) ? max - TLS_OVERHEAD : 0;
    return (max > SIZE_MAX_AT_ONCE) ? SIZE_MAX_AT_ONCE
         : (max < SIZE_MIN_AT_ONCE) ? SIZE_MIN_AT_ONCE : max;
}

/* Makes the socket writable only while the kernel holds few unsent bytes. */
static void bound_unsent(conn_rec *c1)
{
#ifdef TCP_NOTSENT_LOWAT
    int max = UNSENT_MAX;
    apr_os_sock_t fd;

    /* if this fails, priorities have less effect */
    if (apr_os_sock_get(&fd, ap_get_conn_socket(c1)) == APR_SUCCESS) {
        setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &max, sizeof(max));
    }
#else
    (void)c1;
#endif
}

void h2x_io_init(h2x_io *io, conn_rec *c1, const server_rec *s)
{
    io->c1 = c1;
    io->size = size_at_once(c1->base_server);
    io->below = ap_add_output_filter_handle(below_filter, io, NULL, c1);
    ap_add_input_filter_handle(below_in_filter, io, NULL, c1);
    bound_unsent(c1);
    io->in = apr_brigade_create(c1->pool, c1->bucket_alloc);
    io->out = apr_brigade_create(c1->pool, c1->bucket_alloc);
    io->is_tls = (h2x_conn_get(c1)->ssl != NULL);
    if (io->is_tls) {
        io->tls_warm_up = h2x_conf_get(s, H2X_TLS_WARM_UP_SIZE);
        io->tls_cool_down
            = apr_time_from_sec(h2x_conf_get(s, H2X_TLS_COOL_DOWN_SECS));
    }
}

int h2x_io_is_writable(h2x_io *io)
{
    ap_filter_t *f = io->c1->output_filters;

    if (io->c1->data_in_output_filters) {
        while (f->next) {
            f = f->next;
        }
        /* with NULL, the core's filter writes what it can without blocking */
        f->frec->filter_func.out_func(f, NULL);
    }
    return !io->c1->data_in_output_filters && !io->c1->aborted;
}

/* Returns the largest payload of the next TLS record. */
static apr_size_t record_max(const h2x_io *io)
{
    return (io->tls_sent < io->tls_warm_up) ? TLS_SMALL : TLS_LARGE;
}

/* Starts with small records again after H2TLSCoolDownSecs without output. */
static void cool_down(h2x_io *io)
{
    apr_time_t now;

    if (io->tls_cool_down) {
        now = h2x_clock_now();
        if (now - io->tls_last > io->tls_cool_down) {
            io->tls_sent = 0;
        }
        io->tls_last = now;
    }
}

/*
 * Does not block: the core's filter does that only above a threshold, see
 * size_at_once(), and it holds no earlier output.
 */
void h2x_io_write(h2x_io *io, const char *data, apr_size_t len)
{
    apr_bucket_alloc_t *list = io->c1->bucket_alloc;
    apr_size_t n;

    cool_down(io);
    io->is_writing = 1;
    io->gathers = len > record_max(io) && may_gather(io);
    for (; len; data += n, len -= n) {
        n = record_max(io);
        n = (len < n) ? len : n;
        io->tls_sent += n;
        APR_BRIGADE_INSERT_TAIL(io->out,
                                apr_bucket_transient_create(data, n, list));
        APR_BRIGADE_INSERT_TAIL(io->out, nudge_create(list));
    }
    ap_pass_brigade(io->c1->output_filters, io->out);
    apr_brigade_cleanup(io->out);
    if (io->gathers) {
        io->gathers = 0;
        ungather(io, io->out);
        ap_pass_brigade(io->below->next, io->out);
        apr_brigade_cleanup(io->out);
    }
    io->is_writing = 0;
}

static apr_status_t receive_bucket(apr_bucket *b,
                                   apr_status_t (*receive)(void *,
                                                           const char *,
                                                           apr_size_t),
                                   void *baton, apr_size_t *total)
{
    const char *data;
    apr_size_t len;
    apr_status_t rv;

    if (APR_BUCKET_IS_EOS(b)) {
        return APR_EOF;
    }
    if (APR_BUCKET_IS_METADATA(b)) {
        return APR_SUCCESS;
    }
    rv = apr_bucket_read(b, &data, &len, APR_BLOCK_READ);
    if (rv == APR_SUCCESS) {
        *total += len;
        rv = receive(baton, data, len);
    }
    return rv;
}

apr_status_t h2x_io_read(h2x_io *io,
                         apr_status_t (*receive)(void *baton,
                                                 const char *data,
                                                 apr_size_t len),
                         void *baton, apr_size_t *len)
{
    apr_status_t rv;

    *len = 0;
    rv = ap_get_brigade(io->c1->input_filters, io->in, AP_MODE_READBYTES,
                        APR_NONBLOCK_READ, READ_SIZE);
    if (rv == APR_SUCCESS && APR_BRIGADE_EMPTY(io->in)) {
        rv = APR_EAGAIN;
    }
    while (rv == APR_SUCCESS && !APR_BRIGADE_EMPTY(io->in)) {
        apr_bucket *b = APR_BRIGADE_FIRST(io->in);

        rv = receive_bucket(b, receive, baton, len);
        apr_bucket_delete(b);
    }
    apr_brigade_cleanup(io->in);
    return rv;
}

int h2x_io_await(conn_rec *c1, apr_interval_time_t timeout)
{
    apr_pollfd_t pfd = { 0 };
    apr_int32_t count = 0;

    pfd.p = c1->pool;
    pfd.desc_type = APR_POLL_SOCKET;
    pfd.desc.s = ap_get_conn_socket(c1);
    pfd.reqevents = APR_POLLIN;
    apr_poll(&pfd, 1, &count, timeout);
    return count > 0;
}
