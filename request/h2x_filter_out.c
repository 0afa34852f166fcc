/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The network output filter of secondary connections, which passes responses
 * to their streams. */

#include <string.h>

#include <apr_portable.h>
#include <apr_strings.h>

#include <httpd.h>
#include <http_connection.h>
#include <http_log.h>
#include <http_protocol.h>
#include <http_request.h>
#include <util_filter.h>
#include <util_varbuf.h>

#include "h2x.h"
#include "h2x_announce.h"
#include "h2x_field.h"
#include "h2x_filter.h"
#include "h2x_stream.h"
#include "h2x_tunnel.h"

/* Parts of files up to this size, in bytes, are read at once: to keep a
 * descriptor open costs more. Larger ones are read when they are sent. */
#define READ_AT_ONCE (16 * 1024)

/* Descriptors that a response may keep; further files are read at once. */
#define OPEN_FILES_MAX 4

/* Body bytes are copied to the stream in pieces of at most this size; */
#define PIECE_MAX (16 * 1024)

/* or lent, if a heap bucket has at least this many. */
#define LEND_MIN (4 * 1024)

/* The limit of a response head, in bytes. */
#define HEAD_MAX (1024 * 1024)

static ap_filter_rec_t *out_filter;

typedef struct {
    h2x_stream *stream;
    struct ap_varbuf text;  /* the beginning of a head */
    h2x_segments row;       /* of the body, not yet published */
    apr_bucket_brigade *lent; /* buckets whose memory the stream uses */
    apr_size_t reclaimed;   /* number of these that were deleted again */
    apr_bucket_brigade *files; /* copies, so that shared files stay */
    apr_bucket *shared;     /* the last of these, */
    apr_os_file_t shared_fd; /* and its descriptor */
    h2x_pending *pending;   /* heads and promises, not yet published */
    h2x_pending **next_pending;
    h2x_pending *final;     /* of these, the one with the final head */
    apr_off_t body_left;    /* bytes left of Content-Length; -1: none */
    int status;             /* of the final head; 0: it was not read yet */
    int request_status;     /* of the request, at that time */
    request_rec *chunked;   /* the request, if it was r->chunked then */
    h2x_output_end end;
    int refused;            /* an error was sent in place of the response */
} out_ctx;

/* Deletes the buckets whose memory the stream has returned. */
static void reclaim(out_ctx *ctx, apr_size_t returned)
{
    for (; ctx->reclaimed < returned; ++ctx->reclaimed) {
        apr_bucket_delete(APR_BRIGADE_FIRST(ctx->lent));
    }
}

/* Publishes what was collected to the stream, and waits while that is full. */
static apr_status_t publish(out_ctx *ctx, int flush)
{
    h2x_stream *stream = ctx->stream;
    apr_size_t returned;
    apr_status_t rv;

    rv = h2x_stream_publish(stream, ctx->pending, &ctx->row, ctx->end,
                            flush || stream->limits.unbuffered, &returned);
    ctx->pending = NULL;
    ctx->next_pending = &ctx->pending;
    ctx->final = NULL;
    reclaim(ctx, returned);
    return rv;
}

/* Ends the response here; as it is incomplete, the stream will be reset. */
static void fail(out_ctx *ctx, const char *why)
{
    if (ctx->end == H2X_OUTPUT_GOES_ON) {
        ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, ctx->stream->job.c2,
                      "h2x(%s): resetting the stream, response incomplete: %s",
                      ctx->stream->job.c2->log_id, why);
        ctx->end = H2X_OUTPUT_FAILS;
    }
}

/* Returns nonzero if mod_ssl needs a renegotiation, which RFC 9113, section
 * 9.2.1, forbids. */
static int wants_renegotiation(const request_rec *r)
{
    for (; r; r = r->next) {
        if (apr_table_get(r->notes, "ssl-renegotiate-forbidden")) {
            return 1;
        }
    }
    return 0;
}

/* Returns the request that is answered, after internal redirects; or NULL. */
static request_rec *current_request(const h2x_stream *stream)
{
    request_rec *r = stream->job.r;

    while (r && r->next) {
        r = r->next;
    }
    return r;
}

static int current_status(const h2x_stream *stream)
{
    const request_rec *r = current_request(stream);

    return r ? r->status : 0;
}

/* Adds a head, or NULL for promises alone. */
static h2x_pending *add_pending(out_ctx *ctx, h2x_head *head)
{
    h2x_pending *pending = apr_pcalloc(ctx->stream->pool, sizeof(*pending));

    pending->head = head;
    *ctx->next_pending = pending;
    ctx->next_pending = &pending->next;
    return pending;
}

/*
 * Answers with an error without body, in place of a response that cannot be
 * sent. Only while no final head was published.
 */
static void refuse(out_ctx *ctx, int level, int status, const char *why)
{
    h2x_stream *stream = ctx->stream;
    request_rec *r = current_request(stream);
    h2x_pending *pending = ctx->final ? ctx->final : add_pending(ctx, NULL);

    ap_log_cerror(APLOG_MARK, level, 0, stream->job.c2,
                  "h2x(%s): answered with %d: %s", stream->job.c2->log_id,
                  status, why);
    pending->head = h2x_field_empty_response(stream->pool, status);
    pending->promises = NULL;
    ctx->status = status;
    ctx->end = H2X_OUTPUT_ENDS;
    ctx->refused = 1;
    if (r) {
        r->status = status; /* these two are for the access log */
        r->bytes_sent = 0;
    }
}

/* Answers in place of a response that does not begin with a valid head. */
static void refuse_headless(out_ctx *ctx)
{
    int status = current_status(ctx->stream);

    refuse(ctx, APLOG_DEBUG,
           status >= HTTP_BAD_REQUEST ? status : HTTP_INTERNAL_SERVER_ERROR,
           "the response does not begin with a valid head");
}

/* Adds a head that was read, and notes what it says of the body. */
static void add_head(out_ctx *ctx, h2x_head *head)
{
    h2x_stream *stream = ctx->stream;
    h2x_pending *pending;
    request_rec *r = current_request(stream);
    const h2x_field *length;

    if (head->status == HTTP_SWITCHING_PROTOCOLS
        ? !h2x_tunnel_switch(stream, head)
        : stream->job.tunnel == H2X_TUNNEL_WEBSOCKET
          && ap_is_HTTP_SUCCESS(head->status)) {
        /* to the client, 2xx would mean that the WebSocket is open (RFC 8441,
         * section 5) */
        refuse(ctx, APLOG_DEBUG, HTTP_BAD_GATEWAY,
               "the response is no answer to a WebSocket handshake");
        return;
    }
    h2x_field_check_length(head, stream->job.tunnel != H2X_TUNNEL_NONE);
    pending = add_pending(ctx, h2x_announce_is_held_back(r, head) ? NULL
                                                                  : head);
    pending->promises = h2x_announce_links(stream, r, head);
    if (head->status < 200) {
        return;
    }
    ctx->final = pending;
    ctx->status = head->status;
    ctx->request_status = current_status(stream);
    if (r && r->chunked) {
        /* HTTP_HEADER, which wrote the head, would add CHUNK */
        r->chunked = 0;
        ctx->chunked = r;
    }
    if (head->status == HTTP_FORBIDDEN && wants_renegotiation(stream->job.r)) {
        fail(ctx, "TLS renegotiation needs HTTP/1.1");
        ctx->end = H2X_OUTPUT_NEEDS_HTTP11;
    }
    length = h2x_field_find(head, "content-length");
    if (length && !stream->job.r->header_only
        && !AP_STATUS_IS_HEADER_ONLY(head->status)) {
        ap_parse_strict_length(&ctx->body_left, length->value);
    }
}

/* Returns the length up to the end of the empty line; 0: there is none. */
static apr_size_t find_end(const char *data, apr_size_t len)
{
    const char *end = data + len, *eol = data;

    while ((eol = memchr(eol, '\n', end - eol)) != NULL) {
        ++eol;
        if (end - eol >= 2 && eol[0] == '\r' && eol[1] == '\n') {
            return (apr_size_t)(eol + 2 - data);
        }
    }
    return 0;
}

/*
 * Reads a head from what HTTP_HEADER and ap_send_interim_response() write.
 * @return the number of bytes that belong to it, or -1 if it is invalid
 */
static apr_ssize_t read_head(out_ctx *ctx, const char *data, apr_size_t len)
{
    apr_size_t had = ctx->text.strlen, from = (had > 3) ? had - 3 : 0, used;
    h2x_head *head;

    if (had + len > HEAD_MAX) {
        return -1;
    }
    if (had) {
        ap_varbuf_strmemcat(&ctx->text, data, len);
        data = ctx->text.buf;
    }
    used = find_end(data + from, had + len - from);
    if (!used) {
        if (!had) {
            ap_varbuf_init(ctx->stream->job.c2->pool, &ctx->text, 0);
            ap_varbuf_strmemcat(&ctx->text, data, len);
        }
        return (apr_ssize_t)len;
    }
    used += from;
    head = h2x_field_parse_head(ctx->stream->pool, data, used);
    if (had) {
        ap_varbuf_free(&ctx->text);
        ctx->text.strlen = 0;
    }
    if (!head) {
        return -1;
    }
    add_head(ctx, head);
    return (apr_ssize_t)(used - had);
}

/* Subtracts bytes of the body from Content-Length. Returns 0 if there are too
 * many. */
static int count_body(out_ctx *ctx, apr_off_t len)
{
    if (ctx->body_left >= 0 && (ctx->body_left -= len) < 0) {
        fail(ctx, "the body is longer than its Content-Length");
        return 0;
    }
    return 1;
}

/* Copies bytes of the body, and waits while the stream is full. */
static apr_status_t add_memory(out_ctx *ctx, const char *data, apr_size_t len)
{
    apr_status_t rv = APR_SUCCESS;

    while (len && rv == APR_SUCCESS && ctx->end == H2X_OUTPUT_GOES_ON) {
        apr_size_t n = (len < PIECE_MAX) ? len : PIECE_MAX;

        if (!count_body(ctx, n)) {
            break;
        }
        rv = h2x_segments_add(&ctx->row, data, n);
        data += n;
        len -= n;
        if (rv == APR_SUCCESS && ctx->row.memory >= PIECE_MAX) {
            rv = publish(ctx, 0);
        }
    }
    return rv;
}

/*
 * Lends the memory of a heap bucket to the stream, and keeps the bucket until
 * it is returned. That of others is copied: a mapped file may shrink, and
 * memory that a bucket does not own may be freed with the request.
 * @return APR_ENOTIMPL when it has to be copied
 */
static apr_status_t lend(out_ctx *ctx, apr_bucket *b, const char *data,
                         apr_size_t len)
{
    apr_status_t rv;

    if (!ctx->status || len < LEND_MIN || !APR_BUCKET_IS_HEAP(b)) {
        return APR_ENOTIMPL;
    }
    if (!count_body(ctx, len)) {
        return APR_SUCCESS;
    }
    rv = h2x_segments_borrow(&ctx->row, data, len);
    if (rv == APR_SUCCESS) {
        APR_BUCKET_REMOVE(b);
        APR_BRIGADE_INSERT_TAIL(ctx->lent, b);
        rv = publish(ctx, 0);
    }
    return rv;
}

/* Adds bytes, which begin with heads until the final one was read. */
static apr_status_t add_bytes(out_ctx *ctx, const char *data, apr_size_t len)
{
    while (len && !ctx->status && ctx->end == H2X_OUTPUT_GOES_ON) {
        apr_ssize_t used = read_head(ctx, data, len);

        if (used < 0) {
            refuse_headless(ctx);
            return APR_SUCCESS;
        }
        data += used;
        len -= used;
    }
    return add_memory(ctx, data, len);
}

/* Returns nonzero for the file whose descriptor the stream has already. */
static int is_shared(const out_ctx *ctx, const apr_bucket *b)
{
    return ctx->shared && ctx->shared->data == b->data;
}

/*
 * Gets a descriptor of a file that stays open as long as the c2's pool; that of
 * a subrequest's pool may be closed earlier. Buckets of one file, as of several
 * ranges, have one descriptor in common.
 */
static apr_status_t get_fd(out_ctx *ctx, apr_bucket *b, apr_os_file_t *fd)
{
    apr_bucket_file *file = b->data;
    apr_bucket *pin = NULL;
    apr_status_t rv;

    if (is_shared(ctx, b)) {
        *fd = ctx->shared_fd;
        return APR_SUCCESS;
    }
    if (file->refcount.refcount > 1) {
        apr_bucket_copy(b, &pin);
    }
    rv = apr_bucket_setaside(b, ctx->stream->job.c2->pool);
    if (rv == APR_SUCCESS) {
        file = b->data;
        rv = apr_os_file_get(fd, file->fd);
    }
    if (pin) {
        /* keeps its data, so that no other file gets the same address */
        APR_BRIGADE_INSERT_TAIL(ctx->files, pin);
    }
    if (rv == APR_SUCCESS) {
        ctx->shared = pin;
        ctx->shared_fd = *fd;
    }
    return rv;
}

/* Adds a part of a file that is sent from its descriptor. */
static apr_status_t keep_file(out_ctx *ctx, apr_bucket *b)
{
    apr_os_file_t fd;
    apr_status_t rv = get_fd(ctx, b, &fd);

    return rv == APR_SUCCESS
           ? h2x_segments_add_file(&ctx->row, fd, b->start, b->length, 0) : rv;
}

/*
 * Adds a part of a file that is read now.
 * @param waits nonzero to wait while the stream is full; 0 to read all of it
 */
static apr_status_t read_file(out_ctx *ctx, apr_bucket *b, int waits)
{
    apr_bucket_file *file = b->data;
    apr_off_t offset = b->start;
    apr_size_t left = b->length;
    apr_os_file_t fd;
    apr_status_t rv = apr_os_file_get(&fd, file->fd);

    while (left && rv == APR_SUCCESS) {
        apr_size_t n = (left < PIECE_MAX) ? left : PIECE_MAX;

        rv = h2x_segments_add_file(&ctx->row, fd, offset, n, 1);
        offset += n;
        left -= n;
        if (rv == APR_SUCCESS && waits && ctx->row.memory >= PIECE_MAX) {
            rv = publish(ctx, 0);
        }
    }
    return rv;
}

/* Reads a part of a file, and closes it if no other bucket uses it. */
static apr_status_t read_and_close(out_ctx *ctx, apr_bucket *b)
{
    const apr_bucket_file *file = b->data;
    apr_pool_t *p;
    apr_status_t rv;

    if (file->refcount.refcount > 1) {
        return read_file(ctx, b, 0);
    }
    rv = apr_pool_create(&p, ctx->stream->job.c2->pool);
    if (rv == APR_SUCCESS) {
        rv = apr_bucket_setaside(b, p);
        if (rv == APR_SUCCESS) {
            rv = read_file(ctx, b, 0);
        }
        apr_pool_destroy(p);
    }
    return rv;
}

/* Returns nonzero if the stream may keep the descriptor of a file. */
static int may_keep(const out_ctx *ctx, const apr_bucket *b)
{
    const h2x_stream *stream = ctx->stream;
    const apr_bucket_file *file = b->data;
    apr_os_file_t fd;

    return is_shared(ctx, b)
           || (apr_os_file_get(&fd, file->fd) == APR_SUCCESS
               && stream->owner->keeps_file(stream->owner_baton,
                                            ctx->stream, fd));
}

/*
 * Reads a part of a file at once, if it fits into H2StreamMaxMemSize; otherwise
 * answers with 503. So clients that do not read cannot use up the descriptors.
 * @param rest bytes left of the body, as far as that is known
 */
static apr_status_t do_without_descriptor(out_ctx *ctx, apr_bucket *b,
                                          apr_off_t rest)
{
    const char *why = "no descriptor is left for a file larger than "
                      "H2StreamMaxMemSize, see ulimit -n";

    if (rest <= (apr_off_t)(ctx->stream->limits.max_memory - ctx->row.memory)) {
        return read_and_close(ctx, b);
    }
    if (ctx->final) {
        refuse(ctx, APLOG_INFO, HTTP_SERVICE_UNAVAILABLE, why);
    }
    else {
        fail(ctx, why);
    }
    return APR_SUCCESS;
}

/* Adds a part of a file. */
static apr_status_t add_file(out_ctx *ctx, apr_bucket *b)
{
    apr_off_t rest = (ctx->body_left >= 0) ? ctx->body_left
                                           : (apr_off_t)b->length;
    apr_status_t rv;

    if (!count_body(ctx, b->length)) {
        return APR_SUCCESS;
    }
    if (b->length <= READ_AT_ONCE || ctx->stream->limits.copy_files
        || ctx->stream->job.open_files >= OPEN_FILES_MAX) {
        rv = read_file(ctx, b, 1);
    }
    else if (may_keep(ctx, b)) {
        rv = keep_file(ctx, b);
    }
    else {
        rv = do_without_descriptor(ctx, b, rest);
    }
    if (rv == APR_EOF) {
        fail(ctx, "a file became shorter");
        rv = APR_SUCCESS;
    }
    return rv;
}

/* Adds a bucket with data. */
static apr_status_t add_data(out_ctx *ctx, apr_bucket *b)
{
    const char *data;
    apr_size_t len;
    apr_status_t rv;

    if (APR_BUCKET_IS_FILE(b) && ctx->status) {
        return add_file(ctx, b);
    }
    rv = apr_bucket_read(b, &data, &len, APR_NONBLOCK_READ);
    if (APR_STATUS_IS_EAGAIN(rv)) {
        /* no data yet, as from a script: send what there is, then wait */
        rv = publish(ctx, 1);
        if (rv != APR_SUCCESS) {
            return rv;
        }
        ctx->stream->owner->may_wait(ctx->stream->owner_baton, ctx->stream);
        rv = apr_bucket_read(b, &data, &len, APR_BLOCK_READ);
    }
    if (rv == APR_SUCCESS) {
        rv = lend(ctx, b, data, len);
        if (rv == APR_ENOTIMPL) {
            rv = add_bytes(ctx, data, len);
        }
    }
    return rv;
}

/* Ends the response, which fails if its head or part of its body is missing. */
static void end_response(out_ctx *ctx)
{
    h2x_stream *stream = ctx->stream;
    request_rec *r = current_request(stream);

    if (!ctx->status) {
        refuse_headless(ctx);
    }
    else if (ctx->body_left > 0) {
        fail(ctx, "the body is shorter than its Content-Length");
    }
    else if (r && !apr_is_empty_table(r->trailers_out) && !r->header_only) {
        stream->out.trailers = h2x_field_trailers(stream->pool,
                                                  r->trailers_out);
    }
    if (ctx->end == H2X_OUTPUT_GOES_ON) {
        ctx->end = H2X_OUTPUT_ENDS;
    }
}

/*
 * Keeps the end-of-request bucket, for h2x_request_end(). To destroy it here
 * would log and free the request before the size of its frames is known, and
 * while its file is still to be sent.
 */
static void keep_eor(out_ctx *ctx, apr_bucket *b)
{
    APR_BUCKET_REMOVE(b);
    ctx->stream->job.eor = b;
    if (ctx->end == H2X_OUTPUT_GOES_ON) {
        if (ctx->status) {
            fail(ctx, "the handler ended without an end of stream");
        }
        else {
            end_response(ctx);
        }
    }
}

/*
 * Detects a handler that fails after its response has begun. It returns an
 * error, which becomes r->status, or marks the connection as aborted, as
 * modules do to drop a client.
 */
static void check_handler(out_ctx *ctx)
{
    int status = current_status(ctx->stream);
    apr_os_sock_t fd = 0;

    if (ctx->stream->job.drop_socket) {
        apr_os_sock_get(&fd, ctx->stream->job.drop_socket);
    }
    if (ctx->stream->job.c2->aborted || fd < 0) {
        fail(ctx, "a module has aborted the connection");
    }
    else if (ctx->status && status != ctx->request_status
             && status >= HTTP_BAD_REQUEST) {
        fail(ctx, "the handler returned an error");
    }
}

static apr_status_t add_bucket(out_ctx *ctx, apr_bucket *b, int *flush)
{
    if (AP_BUCKET_IS_EOR(b)) {
        keep_eor(ctx, b);
    }
    else if (APR_BUCKET_IS_EOS(b)) {
        if (ctx->end == H2X_OUTPUT_GOES_ON) {
            end_response(ctx);
        }
    }
    else if (AP_BUCKET_IS_EOC(b) || AP_BUCKET_IS_ERROR(b)) {
        fail(ctx, "an error bucket was sent");
    }
    else if (APR_BUCKET_IS_FLUSH(b)) {
        *flush = 1;
    }
    else if (!APR_BUCKET_IS_METADATA(b) && ctx->end == H2X_OUTPUT_GOES_ON) {
        return add_data(ctx, b);
    }
    return APR_SUCCESS;
}

/* Returns nonzero if only a final head was written so far. HTTP_HEADER writes
 * the body at once after it; that may cause another head to be sent. */
static int is_final_head_alone(const out_ctx *ctx)
{
    return ctx->final && !ctx->row.first && ctx->end == H2X_OUTPUT_GOES_ON
           && !ctx->stream->limits.unbuffered;
}

static apr_status_t write_response(ap_filter_t *f, apr_bucket_brigade *bb)
{
    out_ctx *ctx = f->ctx;
    apr_status_t rv = APR_SUCCESS, published;
    int flush = 0, has_head = (ctx->status != 0);

    if (!bb) {
        return APR_SUCCESS;
    }
    if (ctx->chunked) {
        /* with it, handlers send no EOS when they fail */
        ctx->chunked->chunked = 1;
        ctx->chunked = NULL;
    }
    check_handler(ctx);
    while (!APR_BRIGADE_EMPTY(bb)) {
        apr_bucket *b = APR_BRIGADE_FIRST(bb);

        /* after an error, the end-of-request bucket is still to be kept */
        if (rv == APR_SUCCESS || AP_BUCKET_IS_EOR(b)) {
            apr_status_t added = add_bucket(ctx, b, &flush);

            if (rv == APR_SUCCESS) {
                rv = added;
            }
        }
        if (b == APR_BRIGADE_FIRST(bb)) {
            apr_bucket_delete(b);
        }
    }
    if (rv != APR_SUCCESS) {
        fail(ctx, "its data could not be read, or the stream is closed");
    }
    if (!has_head && is_final_head_alone(ctx) && !flush) {
        return APR_SUCCESS;
    }
    published = publish(ctx, flush);
    if (rv == APR_SUCCESS) {
        rv = ctx->refused ? APR_ECONNABORTED : published;
    }
    if (rv != APR_SUCCESS) {
        f->c->aborted = 1;
    }
    return rv;
}

void h2x_filter_out_register(void)
{
    out_filter = ap_register_output_filter("H2X_OUT", write_response, NULL,
                                           AP_FTYPE_NETWORK);
}

static apr_status_t clear_row(void *row)
{
    h2x_segments_clear(row);
    return APR_SUCCESS;
}

void h2x_filter_out_add(conn_rec *c2, h2x_stream *stream)
{
    out_ctx *ctx = apr_pcalloc(c2->pool, sizeof(*ctx));

    ctx->stream = stream;
    ctx->next_pending = &ctx->pending;
    ctx->body_left = -1;
    ctx->lent = apr_brigade_create(c2->pool, c2->bucket_alloc);
    ctx->files = apr_brigade_create(c2->pool, c2->bucket_alloc);
    apr_pool_cleanup_register(c2->pool, &ctx->row, clear_row,
                              apr_pool_cleanup_null);
    ap_add_output_filter_handle(out_filter, ctx, NULL, c2);
}
