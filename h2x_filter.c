/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <stdlib.h>
#include <string.h>

#include <apr_strings.h>

#include <httpd.h>
#include <http_connection.h>
#include <http_log.h>
#include <http_protocol.h>
#include <http_request.h>
#include <util_filter.h>
#include <util_varbuf.h>

#include "h2x.h"
#include "h2x_field.h"
#include "h2x_filter.h"
#include "h2x_stream.h"

/* Parts of files up to this size are read at once: an open descriptor costs
 * more. Larger ones are read when they are sent. */
#define READ_AT_ONCE (16 * 1024)

/* Memory goes to the stream in pieces of at most this size; */
#define PIECE_MAX (16 * 1024)

/* or is lent, if it is at least this much and stays where it is. */
#define LEND_MIN (4 * 1024)

/* A response head that is longer than this is none. */
#define HEAD_MAX (1024 * 1024)

static ap_filter_rec_t *in_filter;
static ap_filter_rec_t *out_filter;

/* ---- input ---- */

typedef struct {
    h2x_stream *stream;
    apr_bucket_brigade *body; /* taken from the stream, not yet asked for */
    int framed;  /* the body comes in chunks, as its length is unknown */
    int ended;   /* all of it is in the brigade */
} in_ctx;

/* Turns what was taken from the stream into buckets that own its memory. */
static void add_chunks(in_ctx *ctx, h2x_chunk *chunk)
{
    apr_bucket_alloc_t *list = ctx->body->bucket_alloc;

    while (chunk) {
        h2x_chunk *next = chunk->next;

        APR_BRIGADE_INSERT_TAIL(ctx->body,
            apr_bucket_heap_create(chunk->data, chunk->len, free, list));
        free(chunk);
        chunk = next;
    }
}

/*
 * Ends the body. HTTP_IN reads trailers behind the last chunk; behind a body
 * of known length it does not look for any, so they are handed to it.
 */
static void end_body(in_ctx *ctx, const apr_table_t *trailers)
{
    h2x_stream *stream = ctx->stream;
    const apr_array_header_t *all = trailers ? apr_table_elts(trailers) : NULL;
    const apr_table_entry_t *entry = all ? (void *)all->elts : NULL;
    int i;

    if (ctx->framed) {
        apr_brigade_puts(ctx->body, NULL, NULL, "0\r\n");
    }
    for (i = 0; all && i < all->nelts; ++i) {
        if (ctx->framed) {
            apr_brigade_putstrs(ctx->body, NULL, NULL, entry[i].key, ": ",
                                entry[i].val, "\r\n", NULL);
        }
        else if (stream->r) {
            apr_table_add(stream->r->trailers_in, entry[i].key, entry[i].val);
        }
    }
    if (ctx->framed) {
        apr_brigade_puts(ctx->body, NULL, NULL, "\r\n");
    }
    ctx->ended = 1;
}

/* Waits until the stream has input, or its end, or is gone. */
static apr_status_t await_input_locked(h2x_stream *stream,
                                       apr_read_type_e block)
{
    apr_time_t deadline = 0;

    while (!stream->in_first && !stream->in_ended) {
        if (stream->is_closed) {
            return APR_ECONNABORTED;
        }
        if (block == APR_NONBLOCK_READ) {
            return APR_EAGAIN;
        }
        if (!deadline) {
            deadline = apr_time_now() + stream->timeout;
            stream->owner->may_wait_locked(stream->owner_baton);
        }
        else if (h2x_stream_wait_locked(stream, deadline) != APR_SUCCESS) {
            return APR_TIMEUP;
        }
    }
    return APR_SUCCESS;
}

/* Moves what the stream has into the brigade. */
static apr_status_t fill(in_ctx *ctx, apr_read_type_e block)
{
    h2x_stream *stream = ctx->stream;
    h2x_chunk *chunks = NULL;
    apr_size_t len = 0;
    int ended = 0;
    apr_status_t rv;

    if (ctx->ended) {
        return APR_EOF;
    }
    h2x_lock_acquire(stream->lock);
    rv = await_input_locked(stream, block);
    if (rv == APR_SUCCESS) {
        len = h2x_stream_take_locked(stream, &chunks);
        ended = stream->in_ended;
        stream->owner->consumed_locked(stream->owner_baton, stream, len);
    }
    h2x_lock_release(stream->lock);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (len && ctx->framed) {
        apr_brigade_printf(ctx->body, NULL, NULL, "%" APR_UINT64_T_HEX_FMT
                           "\r\n", (apr_uint64_t)len);
    }
    add_chunks(ctx, chunks);
    if (len && ctx->framed) {
        apr_brigade_puts(ctx->body, NULL, NULL, "\r\n");
    }
    if (ended) {
        end_body(ctx, stream->in_trailers);
    }
    return APR_SUCCESS;
}

/* Moves the first bytes of one brigade to the end of another. */
static apr_status_t move_bytes(apr_bucket_brigade *to,
                               apr_bucket_brigade *from, apr_off_t len,
                               int copy)
{
    apr_bucket *stop, *e, *twin;
    apr_status_t rv = apr_brigade_partition(from, len, &stop);

    if (rv != APR_SUCCESS && rv != APR_INCOMPLETE) {
        return rv;
    }
    for (e = APR_BRIGADE_FIRST(from); e != stop; e = APR_BRIGADE_FIRST(from)) {
        if (!copy) {
            APR_BUCKET_REMOVE(e);
            APR_BRIGADE_INSERT_TAIL(to, e);
            continue;
        }
        for (; e != stop; e = APR_BUCKET_NEXT(e)) {
            apr_bucket_copy(e, &twin);
            APR_BRIGADE_INSERT_TAIL(to, twin);
        }
        break;
    }
    return APR_SUCCESS;
}

/* Gives what was asked for, out of what is there. */
static apr_status_t give(in_ctx *ctx, apr_bucket_brigade *bb,
                         ap_input_mode_t mode, apr_read_type_e block,
                         apr_off_t readbytes)
{
    switch (mode) {
    case AP_MODE_GETLINE:
        return apr_brigade_split_line(bb, ctx->body, block, HUGE_STRING_LEN);
    case AP_MODE_READBYTES:
        return move_bytes(bb, ctx->body, readbytes, 0);
    case AP_MODE_SPECULATIVE:
        return move_bytes(bb, ctx->body, readbytes, 1);
    case AP_MODE_EXHAUSTIVE:
        APR_BRIGADE_CONCAT(bb, ctx->body);
        return APR_SUCCESS;
    default:
        return APR_ENOTIMPL;
    }
}

static apr_status_t read_body(ap_filter_t *f, apr_bucket_brigade *bb,
                              ap_input_mode_t mode, apr_read_type_e block,
                              apr_off_t readbytes)
{
    in_ctx *ctx = f->ctx;
    apr_off_t len = 0;
    apr_status_t rv;

    if (mode == AP_MODE_INIT) {
        return APR_SUCCESS;
    }
    while (APR_BRIGADE_EMPTY(ctx->body)) {
        rv = fill(ctx, block);
        if (rv != APR_SUCCESS) {
            f->c->aborted |= (rv == APR_ECONNABORTED);
            return rv;
        }
        if (ctx->ended && APR_BRIGADE_EMPTY(ctx->body)) {
            return APR_EOF;
        }
    }
    rv = give(ctx, bb, mode, block, readbytes);
    apr_brigade_length(bb, 0, &len);
    ctx->stream->bytes_read += len;
    return rv;
}

/* ---- output ---- */

typedef struct {
    h2x_stream *stream;
    struct ap_varbuf text;  /* the beginning of a head */
    h2x_segments row;       /* of the body, not yet given to the stream */
    apr_bucket_brigade *lent; /* buckets whose memory the stream uses */
    apr_size_t reclaimed;   /* how many of them were deleted again */
    h2x_pending_head *heads; /* likewise */
    h2x_pending_head **next_head;
    apr_off_t body_left;    /* of the announced length; -1: none was */
    int status;             /* of the final head; 0: it was not read yet */
    int ended;
    int failed;
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
    apr_time_t deadline = 0;
    apr_size_t returned;
    apr_status_t rv = APR_SUCCESS;

    h2x_lock_acquire(stream->lock);
    if (ctx->heads) {
        h2x_pending_head **last = &stream->heads;

        while (*last) {
            last = &(*last)->next;
        }
        *last = ctx->heads;
        ctx->heads = NULL;
        ctx->next_head = &ctx->heads;
    }
    h2x_segments_move(&stream->out, &ctx->row);
    stream->out_ended = ctx->ended;
    stream->out_failed = ctx->failed;
    if (!stream->is_closed) {
        stream->owner->output_locked(stream->owner_baton, stream,
                                     flush || stream->unbuffered);
    }
    while (rv == APR_SUCCESS && !stream->is_closed && !ctx->ended
           && stream->out.memory >= stream->max_memory) {
        if (!deadline) {
            deadline = apr_time_now() + stream->timeout;
            stream->owner->may_wait_locked(stream->owner_baton);
        }
        else {
            rv = h2x_stream_wait_locked(stream, deadline);
        }
    }
    if (stream->is_closed) {
        rv = APR_ECONNABORTED;
        h2x_segments_clear(&stream->out);
    }
    returned = stream->out.returned;
    h2x_lock_release(stream->lock);
    reclaim(ctx, returned);
    return rv;
}

/* Notes that the response ends here, half-way; the stream will be reset. */
static void fail(out_ctx *ctx, const char *why)
{
    if (!ctx->failed && !ctx->ended) {
        ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, ctx->stream->c2,
                      "h2x(%s): response not complete: %s",
                      ctx->stream->c2->log_id, why);
        ctx->failed = 1;
        ctx->ended = 1;
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

/* Takes note of a head that was read. */
static void add_head(out_ctx *ctx, h2x_head *head)
{
    h2x_stream *stream = ctx->stream;
    h2x_pending_head *pending = apr_palloc(stream->pool, sizeof(*pending));
    const h2x_field *length;

    pending->head = head;
    pending->next = NULL;
    *ctx->next_head = pending;
    ctx->next_head = &pending->next;
    if (head->status < 200) {
        return;
    }
    ctx->status = head->status;
    if (head->status == HTTP_FORBIDDEN && wants_renegotiation(stream->r)) {
        stream->needs_http11 = 1;
        fail(ctx, "TLS renegotiation needs HTTP/1.1");
    }
    length = h2x_field_find(head, "content-length");
    if (length && !stream->r->header_only
        && !AP_STATUS_IS_HEADER_ONLY(head->status)) {
        ap_parse_strict_length(&ctx->body_left, length->value);
    }
}

/*
 * Reads a head from what HTTP_HEADER and ap_send_interim_response() write.
 * @return how many of the bytes belonged to it, or -1 if it is none
 */
static apr_ssize_t read_head(out_ctx *ctx, const char *data, apr_size_t len)
{
    const char *end = NULL;
    apr_size_t had = ctx->text.strlen, used, from;
    h2x_head *head;

    if (!ctx->text.buf) {
        ap_varbuf_init(ctx->stream->pool, &ctx->text, 0);
    }
    if (had + len > HEAD_MAX) {
        return -1;
    }
    ap_varbuf_strmemcat(&ctx->text, data, len);
    for (from = (had > 3) ? had - 3 : 0; ; from = (end - ctx->text.buf) + 1) {
        end = ap_strchr(ctx->text.buf + from, '\n');
        if (!end || !strncmp(end + 1, "\r\n", 2)) {
            break;
        }
    }
    if (!end) {
        return (apr_ssize_t)len;
    }
    used = (apr_size_t)(end - ctx->text.buf) + 3;
    head = h2x_field_parse_head(ctx->stream->pool, ctx->text.buf, used);
    ap_varbuf_free(&ctx->text);
    ctx->text.buf = NULL;
    ctx->text.strlen = 0;
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

    while (len && rv == APR_SUCCESS && !ctx->ended) {
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
 * Lends the stream the memory of a bucket, which is kept so long.
 * @return APR_ENOTIMPL when it has to be copied
 */
static apr_status_t lend(out_ctx *ctx, apr_bucket *b, const char *data,
                         apr_size_t len)
{
    apr_status_t rv;

    if (!ctx->status || len < LEND_MIN
        || !(APR_BUCKET_IS_HEAP(b) || APR_BUCKET_IS_IMMORTAL(b)
             || (APR_BUCKET_IS_MMAP(b) && !ctx->stream->copy_files))) {
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
    while (len && !ctx->status && !ctx->ended) {
        apr_ssize_t used = read_head(ctx, data, len);

        if (used < 0) {
            fail(ctx, "it does not begin with a response head");
            return APR_SUCCESS;
        }
        data += used;
        len -= used;
    }
    return add_memory(ctx, data, len);
}

/*
 * Adds a part of a file. Its descriptor moves to the stream's pool, as it may
 * be needed when the request and its pool are gone.
 */
static apr_status_t add_file(out_ctx *ctx, apr_bucket *b)
{
    h2x_stream *stream = ctx->stream;
    apr_bucket_file *file;
    apr_os_file_t fd;
    int read = b->length <= READ_AT_ONCE;
    apr_status_t rv = APR_SUCCESS;

    if (!count_body(ctx, b->length)) {
        return APR_SUCCESS;
    }
    if (!read) {
        rv = apr_bucket_setaside(b, stream->pool);
    }
    file = b->data;
    if (rv == APR_SUCCESS) {
        rv = apr_os_file_get(&fd, file->fd);
    }
    if (rv == APR_SUCCESS) {
        rv = h2x_segments_add_file(&ctx->row, fd, b->start, b->length, read);
    }
    if (rv == APR_EOF) {
        fail(ctx, "a file became shorter");
        return APR_SUCCESS;
    }
    if (rv == APR_SUCCESS && ctx->row.memory >= PIECE_MAX) {
        rv = publish(ctx, 0);
    }
    return rv;
}

/* Adds a bucket with data. */
static apr_status_t add_data(out_ctx *ctx, apr_bucket *b)
{
    const char *data;
    apr_size_t len;
    apr_status_t rv;

    if (APR_BUCKET_IS_FILE(b) && ctx->status
        && (b->length <= READ_AT_ONCE || !ctx->stream->copy_files)) {
        return add_file(ctx, b);
    }
    rv = apr_bucket_read(b, &data, &len, APR_NONBLOCK_READ);
    if (APR_STATUS_IS_EAGAIN(rv)) {
        /* a script that is thinking: the client gets what it has said */
        rv = publish(ctx, 1);
        if (rv != APR_SUCCESS) {
            return rv;
        }
        ctx->stream->owner->may_wait(ctx->stream->owner_baton);
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
    request_rec *r = stream->r;

    while (r && r->next) {
        r = r->next;
    }
    if (!ctx->status) {
        fail(ctx, "there is no head");
    }
    else if (ctx->body_left > 0) {
        fail(ctx, "the body is shorter than its Content-Length");
    }
    else if (r && !apr_is_empty_table(r->trailers_out) && !r->header_only) {
        stream->out_trailers = h2x_field_trailers(stream->pool,
                                                  r->trailers_out);
    }
    ctx->ended = 1;
}

/*
 * Takes the end-of-request bucket out of the brigade: it would log the
 * request, whose last byte may be far from being sent.
 */
static void keep_eor(out_ctx *ctx, apr_bucket *b)
{
    APR_BUCKET_REMOVE(b);
    ctx->stream->eor = b;
    if (!ctx->ended) {
        fail(ctx, "the handler gave up");
    }
}

/*
 * Tells whether a request, or one that it was redirected to, has the status
 * that its response began with. An error document can be any of them.
 */
static int has_status(const request_rec *r, int status)
{
    while (r && r->status != status) {
        r = r->next;
    }
    return r != NULL;
}

/*
 * Notices a handler that fails when its response has begun: it returns an
 * error, which becomes the status, or marks the connection as aborted, as
 * modules do that want to drop a client.
 */
static void check_handler(out_ctx *ctx)
{
    if (ctx->stream->c2->aborted) {
        fail(ctx, "the connection was marked as aborted");
    }
    else if (ctx->status && ctx->stream->r
             && !has_status(ctx->stream->r, ctx->status)) {
        fail(ctx, "the handler failed");
    }
}

static apr_status_t add_bucket(out_ctx *ctx, apr_bucket *b, int *flush)
{
    if (AP_BUCKET_IS_EOR(b)) {
        keep_eor(ctx, b);
    }
    else if (APR_BUCKET_IS_EOS(b)) {
        if (!ctx->ended) {
            end_response(ctx);
        }
    }
    else if (AP_BUCKET_IS_EOC(b) || AP_BUCKET_IS_ERROR(b)) {
        fail(ctx, "an error came in mid-response");
    }
    else if (APR_BUCKET_IS_FLUSH(b)) {
        *flush = 1;
    }
    else if (!APR_BUCKET_IS_METADATA(b) && !ctx->ended) {
        return add_data(ctx, b);
    }
    return APR_SUCCESS;
}

static apr_status_t write_response(ap_filter_t *f, apr_bucket_brigade *bb)
{
    out_ctx *ctx = f->ctx;
    apr_status_t rv = APR_SUCCESS, published;
    int flush = 0;

    if (!bb) {
        return APR_SUCCESS;
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
    published = publish(ctx, flush);
    if (rv == APR_SUCCESS) {
        rv = published;
    }
    if (rv != APR_SUCCESS) {
        f->c->aborted = 1;
    }
    return rv;
}

/* ---- both ---- */

void h2x_filter_register(void)
{
    in_filter = ap_register_input_filter("H2X_IN", read_body, NULL,
                                         AP_FTYPE_NETWORK);
    out_filter = ap_register_output_filter("H2X_OUT", write_response, NULL,
                                           AP_FTYPE_NETWORK);
}

static apr_status_t clear_row(void *row)
{
    h2x_segments_clear(row);
    return APR_SUCCESS;
}

void h2x_filter_add(conn_rec *c2, h2x_stream *stream)
{
    in_ctx *in = apr_pcalloc(c2->pool, sizeof(*in));
    out_ctx *out = apr_pcalloc(c2->pool, sizeof(*out));

    in->stream = stream;
    in->body = apr_brigade_create(c2->pool, c2->bucket_alloc);
    in->framed = stream->request.has_body
                 && !apr_table_get(stream->request.fields, "Content-Length");
    ap_add_input_filter_handle(in_filter, in, NULL, c2);

    out->stream = stream;
    out->next_head = &out->heads;
    out->body_left = -1;
    out->lent = apr_brigade_create(c2->pool, c2->bucket_alloc);
    apr_pool_cleanup_register(c2->pool, &out->row, clear_row,
                              apr_pool_cleanup_null);
    ap_add_output_filter_handle(out_filter, out, NULL, c2);
}
