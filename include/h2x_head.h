/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * Keeps the header section and trailers of a request, field by field, within
 * the limits that httpd has for HTTP/1.1. The driver, lock held.
 */
#ifndef H2X_HEAD_H
#define H2X_HEAD_H

#include <httpd.h>

#include "h2x_stream.h"

/** A request that came over HTTP/1.1 with Upgrade, for stream 1. */
typedef struct h2x_first_request {
    const char *settings;  /* payload of a SETTINGS frame, from the client */
    apr_size_t settings_len;
    const char *method;
    const char *path;
    const apr_table_t *fields;
    char *body;            /* complete */
    apr_size_t body_len;
} h2x_first_request;

/**
 * Keeps a pseudo-header field of a request (RFC 9113, section 8.3.1). A value
 * that exceeds LimitRequestLine is truncated, for the log, and the request will
 * be answered with 414.
 * @return the name of the directive if its limit is exceeded, or NULL
 */
const char *h2x_head_add_pseudo(h2x_stream *stream, const server_rec *s,
                                const char *name, const char *value,
                                apr_size_t value_len);

/**
 * Notes that a request will be answered with 431, unless it has an error
 * already.
 * @param limit name of the directive whose limit is exceeded
 * @return limit, or NULL if the request had an error already
 */
const char *h2x_head_refuse(h2x_stream *stream, const char *limit);

/**
 * Keeps a field of a request. When LimitRequestFields (all Cookie fields count
 * as one) or LimitRequestFieldSize is exceeded, no further field is kept, and
 * the request will be answered with 431.
 * @return the name of the directive if its limit is the first one exceeded, or
 *         NULL
 */
const char *h2x_head_add_field(h2x_stream *stream, const server_rec *s,
                               const char *name, apr_size_t name_len,
                               const char *value, apr_size_t value_len);

/** Copies the head of a request that came over HTTP/1.1. */
void h2x_head_set(h2x_stream *stream, const h2x_first_request *first);

/**
 * Makes the head of a promised request (RFC 9113, section 8.4.1).
 * @return its fields as the PUSH_PROMISE frame has them
 */
const h2x_head *h2x_head_promise(h2x_stream *stream,
                                 const h2x_promising *promising,
                                 const h2x_promise *promise);

/**
 * Keeps a trailer, in a pool of its own, as the runner may use the stream's.
 * Drops a field that is not allowed as a trailer or exceeds httpd's limits, and
 * all fields once the request has ended.
 * @return APR_SUCCESS or APR_ENOMEM
 */
apr_status_t h2x_head_add_trailer(h2x_stream *stream, const server_rec *s,
                                  const char *name, apr_size_t name_len,
                                  const char *value, apr_size_t value_len);

#endif /* H2X_HEAD_H */
