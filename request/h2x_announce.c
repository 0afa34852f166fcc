/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <string.h>

#include <apr_strings.h>

#include <httpd.h>
#include <http_log.h>
#include <http_protocol.h>

#include "h2x.h"
#include "h2x_announce.h"
#include "h2x_conf.h"
#include "h2x_link.h"

/* What is announced: a list of promises, and the fields of a 103 response. */
typedef struct {
    h2x_stream *stream;
    request_rec *r;
    h2x_promise *promises;
    h2x_promise **next;
    apr_table_t *hints;
    int can_promise;
    int links_left;    /* of LINKS_MAX */
} announcement;

/* Links of a response that are read; those after them are ignored. */
#define LINKS_MAX 256

static void begin(announcement *a, h2x_stream *stream, request_rec *r)
{
    a->stream = stream;
    a->r = r;
    a->promises = NULL;
    a->next = &a->promises;
    a->hints = NULL;
    a->links_left = LINKS_MAX;
    a->can_promise = stream->out.promising && h2x_conf_get_dir(r, H2X_PUSH);
}

/* ---- promises ---- */

/*
 * Fields of a request that select a representation (RFC 9110, section 12.5) or
 * identify the user. A promised request has the client's values, so that its
 * response is the one that the client would get.
 */
static const struct {
    const char *name;
    const char *key;   /* in lower case, as in HTTP/2 */
} selecting[] = {
    { "Accept", "accept" },
    { "Accept-Encoding", "accept-encoding" },
    { "Accept-Language", "accept-language" },
    { "Authorization", "authorization" },
    { "Cookie", "cookie" },
    { "User-Agent", "user-agent" },
};
#define SELECTING_COUNT (sizeof(selecting) / sizeof(selecting[0]))

void h2x_announce_begin(h2x_stream *stream, const request_rec *r)
{
    const h2x_request_head *head = &stream->request;
    const char *method, *authority = apr_table_get(r->headers_in, "Host");
    h2x_promising *promising;
    apr_size_t i;

    if (!stream->limits.takes_push || stream->job.tunnel || !authority
        || !head->scheme || !head->path
        || *head->path != '/'
        || (strcmp(head->method, "GET") && strcmp(head->method, "HEAD"))) {
        return;
    }
    method = h2x_push_method(apr_table_get(r->headers_in,
                                           "Accept-Push-Policy"));
    if (!method) {
        return;
    }
    promising = apr_palloc(stream->pool, sizeof(*promising)
                           + SELECTING_COUNT * sizeof(h2x_field));
    promising->method = method;
    promising->base.scheme = head->scheme;
    promising->base.authority = authority;
    promising->base.path = head->path;
    promising->count = 0;
    for (i = 0; i < SELECTING_COUNT; ++i) {
        const char *value = apr_table_get(r->headers_in, selecting[i].name);
        h2x_field *field = &promising->fields[promising->count];

        if (value) {
            field->name = selecting[i].key;
            field->name_len = strlen(field->name);
            field->value = value;
            field->value_len = strlen(value);
            ++promising->count;
        }
    }
    stream->out.promising = promising;
}

/* Promises a resource. Returns 0 if it must not be pushed. */
static int promise(announcement *a, const char *target, apr_size_t len,
                   int is_critical)
{
    h2x_promise *promise;
    const char *path;

    if (!a->can_promise) {
        return 0;
    }
    path = h2x_push_resolve(a->stream->pool, &a->stream->out.promising->base,
                            target, len);
    if (!path) {
        return 0;
    }
    promise = apr_palloc(a->stream->pool, sizeof(*promise));
    promise->next = NULL;
    promise->path = path;
    promise->is_critical = is_critical;
    *a->next = promise;
    a->next = &promise->next;
    return 1;
}

/*
 * Promises the links of a field that may be pushed.
 * @param rest if not NULL, gets the text of the other links
 */
static void promise_links(announcement *a, const char *value,
                          apr_array_header_t *rest)
{
    h2x_link_result result;
    h2x_link link;
    int is_logged = 0;

    while (a->links_left-- > 0
           && (result = h2x_link_next(&value, &link)) != H2X_LINK_END) {
        if (result == H2X_LINK_MALFORMED && !is_logged) {
            is_logged = 1;
            ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, a->r,
                          "h2x(%s): ignoring malformed Link '%.*s'",
                          a->stream->job.c2->log_id,
                          (int)(link.text_len < 200 ? link.text_len : 200),
                          link.text);
        }
        if (result == H2X_LINK_FOUND
            && !(link.is_preload && !link.is_nopush
                 && promise(a, link.target, link.target_len, 0)) && rest) {
            APR_ARRAY_PUSH(rest, const char *) =
                apr_pstrmemdup(a->r->pool, link.text, link.text_len);
        }
    }
}

h2x_promise *h2x_announce_links(h2x_stream *stream, request_rec *r,
                                const h2x_head *head)
{
    announcement a;
    int i;

    if (!stream->out.promising || head->status >= HTTP_BAD_REQUEST) {
        return NULL;
    }
    begin(&a, stream, r);
    for (i = 0; i < head->count && a.can_promise; ++i) {
        if (!strcmp(head->fields[i].name, "link")) {
            promise_links(&a, head->fields[i].value, NULL);
        }
    }
    return a.promises;
}

/* ---- hints ---- */

int h2x_announce_is_held_back(const request_rec *r, const h2x_head *head)
{
    return head->status == HTTP_EARLY_HINTS
           && !h2x_conf_get(r->server, H2X_EARLY_HINTS);
}

/* Adds a field to the 103 response, with H2EarlyHints on. */
static void hint(announcement *a, const char *name, const char *value)
{
    if (h2x_conf_get(a->r->server, H2X_EARLY_HINTS) > 0) {
        if (!a->hints) {
            a->hints = apr_table_make(a->r->pool, 4);
        }
        apr_table_addn(a->hints, name, value);
    }
}

/* Sends the 103 response as httpd sends any interim response. */
static void send_hints(announcement *a)
{
    request_rec *r = a->r;
    apr_table_t *headers_out = r->headers_out;
    const char *line = r->status_line;
    int status = r->status;

    r->headers_out = a->hints;
    r->status_line = NULL;
    r->status = HTTP_EARLY_HINTS;
    ap_send_interim_response(r, 1);
    r->headers_out = headers_out;
    r->status_line = line;
    r->status = status;
}

/* Sends promises without the head of a response. */
static void send_promises(announcement *a)
{
    h2x_stream *stream = a->stream;
    h2x_pending *pending = apr_pcalloc(stream->pool, sizeof(*pending));

    pending->promises = a->promises;
    h2x_lock_acquire(stream->lock);
    h2x_stream_append_locked(stream, pending);
    if (!stream->is_closed) {
        stream->owner->output_locked(stream->owner_baton, stream, 1);
    }
    h2x_lock_release(stream->lock);
}

/* Returns nonzero if a resource is in the list at an earlier place, as that of
 * an outer section. */
static int is_repeated(const apr_array_header_t *all, int at)
{
    int i;

    for (i = 0; i < at; ++i) {
        if (!strcmp(APR_ARRAY_IDX(all, i, h2x_push_resource).target,
                    APR_ARRAY_IDX(all, at, h2x_push_resource).target)) {
            return 1;
        }
    }
    return 0;
}

/* Announces H2PushResource: each once, as a promise or a hint. */
static void add_resources(announcement *a, const apr_array_header_t *all)
{
    int i;

    for (i = 0; i < all->nelts; ++i) {
        const h2x_push_resource *resource =
            &APR_ARRAY_IDX(all, i, h2x_push_resource);

        if (strcmp(resource->target, a->stream->request.path)
            && !is_repeated(all, i)
            && !promise(a, resource->target, strlen(resource->target),
                        resource->is_critical)) {
            hint(a, "Link", resource->link);
        }
    }
}

/* Announces H2EarlyHint; links are promised if they may be pushed. */
static void add_hints(announcement *a, const apr_array_header_t *all)
{
    int i;

    for (i = 0; i < all->nelts; ++i) {
        const h2x_hint *field = &APR_ARRAY_IDX(all, i, h2x_hint);
        const char *value = field->value;

        if (a->can_promise && !ap_cstr_casecmp(field->name, "Link")) {
            apr_array_header_t *rest = apr_array_make(a->r->pool, 2,
                                                      sizeof(char *));

            promise_links(a, value, rest);
            if (!rest->nelts) {
                continue;
            }
            value = apr_array_pstrcat(a->r->pool, rest, ',');
        }
        hint(a, field->name, value);
    }
}

void h2x_announce_resources(h2x_stream *stream, request_rec *r)
{
    const apr_array_header_t *resources = h2x_conf_resources(r);
    const apr_array_header_t *hints = h2x_conf_hints(r);
    announcement a;

    if ((!resources && !hints) || r->main || stream->job.is_announced
        || stream->promised_on || stream->job.tunnel
        || r->method_number != M_GET
        || (r->prev && ap_is_HTTP_ERROR(r->prev->status))) {
        return;
    }
    stream->job.is_announced = 1;
    begin(&a, stream, r);
    if (resources) {
        add_resources(&a, resources);
    }
    if (hints) {
        add_hints(&a, hints);
    }
    if (a.promises) {
        send_promises(&a);
    }
    if (a.hints) {
        send_hints(&a);
    }
}
