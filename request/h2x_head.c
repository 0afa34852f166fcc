/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <string.h>

#include <apr_strings.h>

#include <httpd.h>

#include "h2x_field.h"
#include "h2x_head.h"

/* Memory of a field beside its name and value, in bytes; an estimate. */
#define FIELD_OVERHEAD 32

/* Copies a value, and counts the memory of its field. */
static char *keep(h2x_stream *stream, apr_pool_t *p, apr_size_t name_len,
                  const char *value, apr_size_t value_len)
{
    stream->kept += name_len + value_len + FIELD_OVERHEAD;
    return apr_pstrmemdup(p, value, value_len);
}

const char *h2x_head_add_pseudo(h2x_stream *stream, const server_rec *s,
                                const char *name, const char *value,
                                apr_size_t value_len)
{
    h2x_request_head *head = &stream->request;
    apr_size_t max = (apr_size_t)s->limit_req_line;
    int is_too_long = value_len > max;
    char *copy = keep(stream, stream->pool, 0, value,
                      is_too_long ? max : value_len);

    switch (name[1]) {
    case 'm':
        head->method = copy;
        break;
    case 's':
        head->scheme = copy;
        break;
    case 'a':
        head->authority = copy;
        break;
    case 'p':
        if (name[2] == 'a') {
            head->path = copy;
        }
        else {
            head->protocol = copy;
        }
        break;
    }
    if (is_too_long) {
        head->status = HTTP_REQUEST_URI_TOO_LARGE;
    }
    return is_too_long ? "LimitRequestLine" : NULL;
}

static char *copy(h2x_stream *stream, const char *text)
{
    return apr_pstrdup(stream->pool, text);
}

void h2x_head_set(h2x_stream *stream, const h2x_first_request *first)
{
    h2x_request_head *head = &stream->request;
    const char *host = apr_table_get(first->fields, "Host");

    head->method = copy(stream, first->method);
    head->scheme = "http";
    head->authority = host ? copy(stream, host) : NULL;
    head->path = copy(stream, first->path);
    head->has_body = (first->body_len > 0);
    /* apr_table_copy() would share the texts */
    head->fields = apr_table_clone(stream->pool, first->fields);
}

static void set_field(h2x_field *field, const char *name, const char *value)
{
    field->name = name;
    field->name_len = strlen(name);
    field->value = value;
    field->value_len = strlen(value);
}

const h2x_head *h2x_head_promise(h2x_stream *stream,
                                 const h2x_promising *promising,
                                 const h2x_promise *promise)
{
    h2x_request_head *request = &stream->request;
    h2x_head *head = apr_pcalloc(stream->pool, sizeof(*head));
    int i;

    request->method = promising->method;
    request->scheme = copy(stream, promising->base.scheme);
    request->authority = copy(stream, promising->base.authority);
    request->path = copy(stream, promise->path);
    head->fields = apr_palloc(stream->pool, (4 + promising->count)
                              * sizeof(*head->fields));
    set_field(&head->fields[0], ":method", request->method);
    set_field(&head->fields[1], ":scheme", request->scheme);
    set_field(&head->fields[2], ":authority", request->authority);
    set_field(&head->fields[3], ":path", request->path);
    head->count = 4;
    for (i = 0; i < promising->count; ++i) {
        const h2x_field *field = &promising->fields[i];
        const char *value = copy(stream, field->value);

        apr_table_addn(request->fields,
                       h2x_field_name(stream->pool, field->name,
                                      field->name_len), value);
        set_field(&head->fields[head->count++], field->name, value);
    }
    return head;
}

/* Counts a field. Returns the directive whose limit it exceeds, or NULL. */
static const char *count_field(h2x_request_head *head, const server_rec *s,
                               const char *name, apr_size_t name_len,
                               apr_size_t value_len)
{
    apr_size_t max = (apr_size_t)s->limit_req_fieldsize;

    if (name_len == 6 && !memcmp(name, "cookie", 6)) {
        head->field_count += (head->cookie_len == 0);
        head->cookie_len += value_len + 2;
    }
    else {
        ++head->field_count;
    }
    if (s->limit_req_fields && head->field_count > s->limit_req_fields) {
        return "LimitRequestFields";
    }
    if (name_len + value_len + 2 > max || head->cookie_len > max) {
        return "LimitRequestFieldSize";
    }
    return NULL;
}

const char *h2x_head_refuse(h2x_stream *stream, const char *limit)
{
    if (stream->request.status) {
        return NULL;
    }
    stream->request.status = HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE;
    return limit;
}

const char *h2x_head_add_field(h2x_stream *stream, const server_rec *s,
                               const char *name, apr_size_t name_len,
                               const char *value, apr_size_t value_len)
{
    h2x_request_head *head = &stream->request;
    const char *limit = count_field(head, s, name, name_len, value_len);

    if (limit) {
        return h2x_head_refuse(stream, limit);
    }
    if (!head->status) {
        apr_table_addn(head->fields,
                       h2x_field_name(stream->pool, name, name_len),
                       keep(stream, stream->pool, name_len, value,
                            value_len));
    }
    return NULL;
}

apr_status_t h2x_head_add_trailer(h2x_stream *stream, const server_rec *s,
                                  const char *name, apr_size_t name_len,
                                  const char *value, apr_size_t value_len)
{
    apr_pool_t *p;
    int count;

    if (stream->state >= H2X_STREAM_DRAINING
        || h2x_field_is_bad_trailer(name, name_len)) {
        return APR_SUCCESS;
    }
    if (!stream->in.trailers) {
        if (apr_pool_create_unmanaged_ex(&p, NULL, NULL) != APR_SUCCESS) {
            return APR_ENOMEM;
        }
        stream->in.trailers = apr_table_make(p, 4);
    }
    count = apr_table_elts(stream->in.trailers)->nelts;
    if ((s->limit_req_fields && count >= s->limit_req_fields)
        || name_len + value_len + 2 > (apr_size_t)s->limit_req_fieldsize) {
        return APR_SUCCESS;
    }
    p = apr_table_elts(stream->in.trailers)->pool;
    apr_table_addn(stream->in.trailers, h2x_field_name(p, name, name_len),
                   keep(stream, p, name_len, value, value_len));
    return APR_SUCCESS;
}
