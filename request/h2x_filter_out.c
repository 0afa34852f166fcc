/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Where the responses of a secondary connection go. */

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

/* Parts of files up to this size are read at once: an open descriptor costs
 * more. Larger ones are read when they are sent. */
#define READ_AT_ONCE (16 * 1024)

/* So many descriptors a response may keep, then it reads as it goes. */
#define OPEN_FILES_MAX 4

/* Memory goes to the stream in pieces of at most this size; */
#define PIECE_MAX (16 * 1024)

/* or is lent, if it is at least this much and stays where it is. */
#define LEND_MIN (4 * 1024)

/* A response head that is longer than this is none. */
#define HEAD_MAX (1024 * 1024)

static ap_filter_rec_t *out_filter;

typedef struct {
    h2x_stream *stream;
    struct ap_varbuf text;  /* the beginning of a head */
    h2x_segments row;       /* of the body, not yet given to the stream */
    apr_bucket_brigade *lent; /* buckets whose memory the stream uses */
    apr_size_t reclaimed;   /* how many of them were deleted again */
    apr_bucket_brigade *files; /* what keeps shared files from going */
    apr_bucket *shared;     /* the last of them, */
    apr_os_file_t shared_fd; /* and its descriptor */
    h2x_pending *pending;   /* likewise not yet given */
    h2x_pending **next_pending;
    h2x_pending *final;     /* of these, the one with the final head */
    apr_off_t body_left;    /* of the announced length; -1: none was */
    int status;             /* of the final head; 0: it was not read yet */
    int request_status;     /* of the request, at that time */
    request_rec *chunked;   /* the request, if it was r->chunked then */
    h2x_output_end end;
    int refused;            /* an error was sent in place of it */
} out_ctx;

/* Deletes the buckets whose memory the stream has done with. */
static void reclaim(out_ctx *ctx, apr_size_t returned)
{
    for (; ctx->reclaimed < returned; ++ctx->reclaimed) {
        apr_bucket_delete(APR_BRIGADE_FIRST(ctx->lent));
    }
}

/* Gives the stream what has been collected, and waits while it is full. */
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

/* Notes that the response ends here, half-way; the stream will be reset. */
static void fail(out_ctx *ctx, const char *why)
{
    if (ctx->end == H2X_OUTPUT_GOES_ON) {
        ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, ctx->stream->job.c2,
                      "h2x(%s): response not complete: %s",
                      ctx->stream->job.c2->log_id, why);
        ctx->end = H2X_OUTPUT_FAILS;
    }
}

/* Did mod_ssl want a renegotiation, which RFC 9113, section 9.2.1, forbids? */
static int wants_renegotiation(const request_rec *r)
{
    for (; r; r = r->next) {
        if (apr_table_get(r->notes, "ssl-renegotiate-forbidden")) {
            return 1;
        }
    }
    return 0;
}

/* The request that answers, after internal redirects; or NULL. */
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

/* Adds what goes before the body. */
static h2x_pending *add_pending(out_ctx *ctx, h2x_head *head)
{
    h2x_pending *pending = apr_pcalloc(ctx->stream->pool, sizeof(*pending));

    pending->head = head;
    *ctx->next_pending = pending;
    ctx->next_pending = &pending->next;
    return pending;
}

/*
 * Answers with an error, and no more, in place of what cannot be sent: there
 * was no final head yet, or it was not given to the stream.
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
        r->status = status; /* for the log, */
        r->bytes_sent = 0;  /* likewise */
    }
}

/* Answers in place of a handler that has taken the head on itself. */
static void refuse_headless(out_ctx *ctx)
{
    int status = current_status(ctx->stream);

    refuse(ctx, APLOG_DEBUG,
           status >= HTTP_BAD_REQUEST ? status : HTTP_INTERNAL_SERVER_ERROR,
           "the response does not begin with a head");
}

/* Takes note of a head that was read. */
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
        /* whoever answers like that knows nothing of WebSockets, and to the
         * client it would mean that there is one (RFC 8441, section 5) */
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

/* Finds the empty line; returns the length up to its end, 0: there is none. */
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
 * @return how many of the bytes belonged to it, or -1 if it is none
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

/* Counts bytes of the body against its announced length. */
static int count_body(out_ctx *ctx, apr_off_t len)
{
    if (ctx->body_left >= 0 && (ctx->body_left -= len) < 0) {
        fail(ctx, "the body is longer than its Content-Length");
        return 0;
    }
    return 1;
}

/* Adds bytes of the body, in pieces that the stream has room for. */
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
 * Lends the stream the memory of a heap bucket, which is kept so long. Not
 * that of others: a mapped file may shrink, and what buckets do not own
 * themselves may be the request's, which ends before the stream does.
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

/* Adds bytes that may begin with heads. */
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

/* Is it the file whose descriptor the stream has already? */
static int is_shared(const out_ctx *ctx, const apr_bucket *b)
{
    return ctx->shared && ctx->shared->data == b->data;
}

/*
 * Gets a descriptor of a file that is good as long as the pool of the c2: a
 * subrequest's may be gone before. Buckets that were split from one file, for
 * a range each, get one descriptor for all.
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
        /* kept, so that nothing else comes to have its address */
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
 * @param waits as the stream has room for it; else all goes into the row, and
 *        does not wait for the client
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

/* Reads a part of a file, and closes that, if nobody has another part. */
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

/* May the stream keep the descriptor of a file? */
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
 * Descriptors run out: else clients that take nothing would keep those of all
 * that they ask for. What fits into the stream's memory is read at once.
 * @param rest of the body, as far as that is known
 */
static apr_status_t do_without_descriptor(out_ctx *ctx, apr_bucket *b,
                                          apr_off_t rest)
{
    const char *why = "no descriptor is left for a large file";

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
        /* a script that is thinking: the client gets what it has said */
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

/* The end of the response: what is missing makes it a failed one. */
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
 * Takes the end-of-request bucket out of the brigade: destroyed here, it would
 * log and free the request before the size of its frames is known, and while
 * its file is still to be sent.
 */
static void keep_eor(out_ctx *ctx, apr_bucket *b)
{
    APR_BUCKET_REMOVE(b);
    ctx->stream->job.eor = b;
    if (ctx->end == H2X_OUTPUT_GOES_ON) {
        if (ctx->status) {
            fail(ctx, "the handler gave up");
        }
        else {
            end_response(ctx);
        }
    }
}

/*
 * Notices a handler that fails when its response has begun: it returns an
 * error, which becomes the status, or marks the connection as aborted, as
 * modules do that want to drop a client.
 */
static void check_handler(out_ctx *ctx)
{
    int status = current_status(ctx->stream);
    apr_os_sock_t fd = 0;

    if (ctx->stream->job.drop_socket) {
        apr_os_sock_get(&fd, ctx->stream->job.drop_socket);
    }
    if (ctx->stream->job.c2->aborted || fd < 0) {
        fail(ctx, "a module has dropped the connection");
    }
    else if (ctx->status && status != ctx->request_status
             && status >= HTTP_BAD_REQUEST) {
        fail(ctx, "the handler failed");
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
        fail(ctx, "an error came in mid-response");
    }
    else if (APR_BUCKET_IS_FLUSH(b)) {
        *flush = 1;
    }
    else if (!APR_BUCKET_IS_METADATA(b) && ctx->end == H2X_OUTPUT_GOES_ON) {
        return add_data(ctx, b);
    }
    return APR_SUCCESS;
}

/* HTTP_HEADER writes a head by itself, and at once what comes after it, which
 * may show that it has to be another one. */
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
        /* handlers show by it that they failed: they send no EOS */
        ctx->chunked->chunked = 1;
        ctx->chunked = NULL;
    }
    check_handler(ctx);
    while (!APR_BRIGADE_EMPTY(bb)) {
        apr_bucket *b = APR_BRIGADE_FIRST(bb);

        /* after an error, the end of the request is still to be kept */
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
        fail(ctx, "it could not be passed on");
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
