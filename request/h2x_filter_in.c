/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The network input filter of secondary connections, which gives the request's
 * body. */

#include <stdlib.h>
#include <string.h>

#include <apr_strings.h>

#include <httpd.h>
#include <http_core.h>
#include <util_filter.h>

#include "h2x.h"
#include "h2x_filter.h"
#include "h2x_stream.h"

static ap_filter_rec_t *in_filter;

typedef struct {
    h2x_stream *stream;
    apr_bucket_brigade *body; /* taken from the stream, not yet read */
    int is_chunked; /* HTTP_IN reads chunks; see h2x_filter_in_frame() */
    int awaits_end; /* Content-Length and Trailer are given: */
    apr_off_t left; /* bytes of that length that were not taken yet */
    int ended;   /* the whole body was taken from the stream */
} in_ctx;

/*
 * Makes buckets of chunks. They own the chunk's memory, or copy the data if it
 * fills less than half of that: filters may keep many buckets.
 */
static void add_chunks(in_ctx *ctx, h2x_chunk *chunk)
{
    apr_bucket_alloc_t *list = ctx->body->bucket_alloc;

    while (chunk) {
        h2x_chunk *next = chunk->next;
        int is_full = (chunk->len >= chunk->size / 2);

        APR_BRIGADE_INSERT_TAIL(ctx->body,
            apr_bucket_heap_create(chunk->data, chunk->len,
                                   is_full ? free : NULL, list));
        if (!is_full) {
            free(chunk->data);
        }
        free(chunk);
        chunk = next;
    }
}

/* Adds a line of the chunked coding, in a bucket of its own. */
static void add_line(in_ctx *ctx, const char *line)
{
    APR_BRIGADE_INSERT_TAIL(ctx->body,
        apr_bucket_heap_create(line, strlen(line), NULL,
                               ctx->body->bucket_alloc));
}

/*
 * Ends the body. HTTP_IN reads trailers after the last chunk, but none after a
 * body with Content-Length; these are added to trailers_in here.
 */
static void end_body(in_ctx *ctx, const apr_table_t *trailers)
{
    h2x_stream *stream = ctx->stream;
    const apr_array_header_t *all = trailers ? apr_table_elts(trailers) : NULL;
    const apr_table_entry_t *entry = all ? (void *)all->elts : NULL;
    int i;

    if (ctx->is_chunked) {
        apr_brigade_puts(ctx->body, NULL, NULL, "0\r\n");
    }
    for (i = 0; all && i < all->nelts; ++i) {
        if (ctx->is_chunked) {
            apr_brigade_putstrs(ctx->body, NULL, NULL, entry[i].key, ": ",
                                entry[i].val, "\r\n", NULL);
        }
        else if (stream->job.r) {
            apr_table_add(stream->job.r->trailers_in, entry[i].key,
                          entry[i].val);
        }
    }
    if (ctx->is_chunked) {
        apr_brigade_puts(ctx->body, NULL, NULL, "\r\n");
    }
    ctx->ended = 1;
}

/* Returns the timeout that modules have set on the c2's socket. */
static apr_interval_time_t socket_timeout(const h2x_stream *stream)
{
    apr_interval_time_t timeout = -1;

    apr_socket_timeout_get(ap_get_conn_socket(stream->job.c2), &timeout);
    return timeout;
}

/* Moves the input of the stream into the brigade. */
static apr_status_t fill(in_ctx *ctx, apr_read_type_e block)
{
    h2x_stream *stream = ctx->stream;
    const apr_table_t *trailers = NULL;
    h2x_chunk *chunks = NULL;
    char line[24];
    apr_size_t len = 0;
    int ended = 0;
    apr_status_t rv;

    if (ctx->ended) {
        return APR_EOF;
    }
    h2x_lock_acquire(stream->lock);
    /* HTTP_IN does not read past Content-Length: to have the trailers in time,
     * the last bytes wait for them */
    rv = h2x_stream_await_input_locked(stream,
                                       ctx->awaits_end ? ctx->left : -1,
                                       block, socket_timeout(stream));
    if (rv == APR_SUCCESS) {
        len = h2x_stream_take_locked(stream, &chunks);
        ctx->left -= len;
        ended = (stream->in.state != H2X_INPUT_OPEN);
        /* more trailers may come until it has ended */
        trailers = ended ? stream->in.trailers : NULL;
        stream->owner->consumed_locked(stream->owner_baton, stream, len);
    }
    h2x_lock_release(stream->lock);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (len && ctx->is_chunked) {
        apr_snprintf(line, sizeof(line), "%" APR_UINT64_T_HEX_FMT "\r\n",
                     (apr_uint64_t)len);
        add_line(ctx, line);
    }
    add_chunks(ctx, chunks);
    if (len && ctx->is_chunked) {
        add_line(ctx, "\r\n");
    }
    if (ended) {
        end_body(ctx, trailers);
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

/* Moves a line. Deletes an empty rest of its bucket, which would otherwise be
 * read next. */
static apr_status_t move_line(apr_bucket_brigade *to, apr_bucket_brigade *from,
                              apr_read_type_e block)
{
    apr_status_t rv = apr_brigade_split_line(to, from, block, HUGE_STRING_LEN);
    apr_bucket *first = APR_BRIGADE_FIRST(from);

    if (first != APR_BRIGADE_SENTINEL(from) && APR_BUCKET_IS_HEAP(first)
        && !first->length) {
        apr_bucket_delete(first);
    }
    return rv;
}

/* Moves what a mode asks for from the brigade. */
static apr_status_t give(in_ctx *ctx, apr_bucket_brigade *bb,
                         ap_input_mode_t mode, apr_read_type_e block,
                         apr_off_t readbytes)
{
    switch (mode) {
    case AP_MODE_GETLINE:
        return move_line(bb, ctx->body, block);
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
    ctx->stream->job.bytes_read += len;
    return rv;
}

void h2x_filter_in_register(void)
{
    in_filter = ap_register_input_filter("H2X_IN", read_body, NULL,
                                         AP_FTYPE_NETWORK);
}

ap_filter_t *h2x_filter_in_add(conn_rec *c2, h2x_stream *stream)
{
    in_ctx *ctx = apr_pcalloc(c2->pool, sizeof(*ctx));

    ctx->stream = stream;
    ctx->body = apr_brigade_create(c2->pool, c2->bucket_alloc);
    return ap_add_input_filter_handle(in_filter, ctx, NULL, c2);
}

void h2x_filter_in_frame(ap_filter_t *f, request_rec *r)
{
    in_ctx *ctx = f->ctx;
    const char *length = apr_table_get(r->headers_in, "Content-Length");

    if (ctx->stream->job.tunnel) {
        apr_table_unset(r->headers_in, "Content-Length");
    }
    else if (length) {
        ctx->awaits_end = apr_table_get(r->headers_in, "Trailer")
            && ap_parse_strict_length(&ctx->left, length);
    }
    else if (ctx->stream->request.has_body) {
        ctx->is_chunked = 1;
        apr_table_setn(r->headers_in, "Transfer-Encoding", "chunked");
    }
}
