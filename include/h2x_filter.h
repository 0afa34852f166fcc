/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The network filters of a secondary connection, which pass the request's body
 * and its response between httpd and the stream. Above them are httpd's own
 * HTTP_IN and HTTP_HEADER filters, which read and write HTTP/1.1. Only bytes
 * are passed: buckets stay in the request's thread.
 */
#ifndef H2X_FILTER_H
#define H2X_FILTER_H

#include <httpd.h>
#include <util_filter.h>

#include "h2x_stream.h"

/** Registers the filters; at start-up. */
void h2x_filter_in_register(void);
void h2x_filter_out_register(void);

/** Adds the filters to the secondary connection of a stream; its runner. */
ap_filter_t *h2x_filter_in_add(conn_rec *c2, h2x_stream *stream);
void h2x_filter_out_add(conn_rec *c2, h2x_stream *stream);

/**
 * Decides how the body of a stream's request is framed, for the input filter
 * that gives it and for httpd's HTTP_IN, which reads it as headers_in says:
 * - a tunnel has no content (RFC 9110, section 9.3.6): its Content-Length, if
 *   any, is removed;
 * - a body with Content-Length stays as it is;
 * - any other gets "Transfer-Encoding: chunked".
 * The stream's runner, once, when h2x_tunnel_begin() was called and headers_in
 * is complete; before anything is read.
 * @param f what h2x_filter_in_add() returned
 */
void h2x_filter_in_frame(ap_filter_t *f, request_rec *r);

#endif /* H2X_FILTER_H */
