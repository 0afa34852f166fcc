/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The head of a request, and its trailers, as they come field by field: kept
 * within the limits that httpd has for HTTP/1.1. The driver, lock held.
 */
#ifndef H2X_HEAD_H
#define H2X_HEAD_H

#include <httpd.h>

#include "h2x_stream.h"

/** A first request that came as HTTP/1.1, for stream 1. */
typedef struct h2x_first_request {
    const char *settings;  /* the client's, as of a SETTINGS frame */
    apr_size_t settings_len;
    const char *method;
    const char *path;
    const apr_table_t *fields;
    char *body;            /* all of it */
    apr_size_t body_len;
} h2x_first_request;

/**
 * Keeps a pseudo-header field of a request (RFC 9113, section 8.3.1). One that
 * is longer than LimitRequestLine is cut off there, for the log, and the
 * request will be refused with 414.
 * @return NULL, or the name of the directive when the limit was exceeded
 */
const char *h2x_head_add_pseudo(h2x_stream *stream, const server_rec *s,
                                const char *name, const char *value,
                                apr_size_t value_len);

/**
 * Refuses a request with 431, if it was not refused before.
 * @return NULL, or the limit that is given, when it was not
 */
const char *h2x_head_refuse(h2x_stream *stream, const char *limit);

/**
 * Keeps a field of a request. Past LimitRequestFields (the crumbs of Cookie
 * are one) or LimitRequestFieldSize, nothing more is kept, and the request
 * will be refused with 431.
 * @return NULL, or the name of the directive when a limit is exceeded first
 */
const char *h2x_head_add_field(h2x_stream *stream, const server_rec *s,
                               const char *name, apr_size_t name_len,
                               const char *value, apr_size_t value_len);

/** Takes a head over from HTTP/1.1. */
void h2x_head_set(h2x_stream *stream, const h2x_first_request *first);

/**
 * Makes the head of a promised request (RFC 9113, section 8.4.1).
 * @return the same, as it is sent
 */
const h2x_head *h2x_head_promise(h2x_stream *stream,
                                 const h2x_promising *promising,
                                 const h2x_promise *promise);

/**
 * Keeps a trailer, in a pool of its own as the runner may use the stream's.
 * What may not come as a trailer is dropped, and so is what exceeds httpd's
 * limits, or nobody will read.
 * @return APR_SUCCESS or APR_ENOMEM
 */
apr_status_t h2x_head_add_trailer(h2x_stream *stream, const server_rec *s,
                                  const char *name, apr_size_t name_len,
                                  const char *value, apr_size_t value_len);

#endif /* H2X_HEAD_H */
