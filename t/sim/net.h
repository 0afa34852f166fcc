/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Sockets, and what the engine reads and writes them with: h2x_io.h. */
#ifndef NET_H
#define NET_H

#include <apr_network_io.h>

#include <httpd.h>

/** A socket of the server's; its client is at the other end. */
apr_socket_t *net_socket(apr_pool_t *p, apr_size_t capacity);

/* The client's side. */
void net_send(apr_socket_t *s, const void *data, apr_size_t len);
apr_size_t net_receive(apr_socket_t *s, void *to, apr_size_t len);
int net_has_news(const apr_socket_t *s); /* bytes, or the end */
int net_is_ended(const apr_socket_t *s); /* and nothing is left */
void net_shut(apr_socket_t *s);          /* says no more */
void net_leave(apr_socket_t *s);         /* closes it */

/* The MPM's side. */
int net_is_readable(const apr_socket_t *s);
int net_is_writable(const apr_socket_t *s);
void net_close(apr_socket_t *s);

/** Offers the socket what the filters of a connection hold. */
void net_flush(conn_rec *c1);

#endif /* NET_H */
