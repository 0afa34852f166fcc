/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * CONNECT requests, whose stream becomes a tunnel: to another host
 * (RFC 9113, section 8.5), or for a WebSocket (RFC 8441). httpd's modules see
 * both as in HTTP/1.1. The runner; no lock held.
 */
#ifndef H2X_TUNNEL_H
#define H2X_TUNNEL_H

#include <httpd.h>

#include "h2x_field.h"
#include "h2x_stream.h"

/**
 * Sets the kind of tunnel of a stream, if its request is a CONNECT. One for a
 * WebSocket is changed to the GET with Upgrade of HTTP/1.1.
 * @return OK, or the status to refuse it with
 */
int h2x_tunnel_begin(h2x_stream *stream);

/**
 * Checks whether the configuration allows a CONNECT, when the virtual host is
 * known.
 * @return OK, or the status to refuse it with
 */
int h2x_tunnel_check(const h2x_stream *stream, request_rec *r);

/**
 * Changes the 101 response of a WebSocket handshake to 200 (RFC 8441, section
 * 5).
 * @return 0 when it does not belong to the handshake of this stream
 */
int h2x_tunnel_switch(h2x_stream *stream, h2x_head *head);

/**
 * Gets a socket that is readable while the stream has input, for handlers that
 * poll several descriptors. It becomes unreadable when a read from the
 * connection without blocking returns APR_EAGAIN. Shutting it down for writing
 * ends the output of a tunnel.
 * @param pfd     gets the socket, which belongs to the stream
 * @param timeout gets that of the stream, in microseconds; may be NULL
 */
apr_status_t h2x_tunnel_pollfd(h2x_stream *stream, apr_pollfd_t *pfd,
                               apr_interval_time_t *timeout);

#endif /* H2X_TUNNEL_H */
