/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * CONNECT requests, whose stream becomes a tunnel: to another host
 * (RFC 9113, section 8.5), or for WebSockets (RFC 8441). To httpd's modules
 * those look as in HTTP/1.1. The runner; no lock held.
 */
#ifndef H2X_TUNNEL_H
#define H2X_TUNNEL_H

#include <httpd.h>

#include "h2x_field.h"
#include "h2x_stream.h"

/**
 * Prepares a stream whose request is a CONNECT: one for a WebSocket becomes
 * the GET with Upgrade that asks for the same in HTTP/1.1.
 * @return OK, or the status to refuse it with
 */
int h2x_tunnel_begin(h2x_stream *stream);

/**
 * Asks the configuration, when the request's host is known, whether a CONNECT
 * is to be served.
 * @return OK, or the status to refuse it with
 */
int h2x_tunnel_check(const h2x_stream *stream, request_rec *r);

/**
 * Takes a 101 response for what it means: success.
 * @return 0 when it does not belong to the handshake
 */
int h2x_tunnel_switch(h2x_stream *stream, h2x_head *head);

/**
 * Gives a socket that is readable when there is input, for those who wait for
 * several things. Reading from the connection without blocking, until that
 * gives APR_EAGAIN, makes it unreadable again. To shut it down for writing
 * ends the output of a tunnel.
 * @param timeout may be NULL
 */
apr_status_t h2x_tunnel_pollfd(h2x_stream *stream, apr_pollfd_t *pfd,
                               apr_interval_time_t *timeout);

#endif /* H2X_TUNNEL_H */
