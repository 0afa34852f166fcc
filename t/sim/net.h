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
int net_is_lost(const apr_socket_t *s);  /* and is closed some time */
void net_shut(apr_socket_t *s);          /* says no more */
void net_leave(apr_socket_t *s);         /* closes it */

/* The MPM's side. */
int net_is_readable(const apr_socket_t *s);
int net_is_unread(const apr_socket_t *s); /* bytes, or the end */
int net_is_writable(const apr_socket_t *s);
void net_close(apr_socket_t *s);

/** A pair of sockets that the engine has made: is there a byte for one of them?
 * And the end of it says no more. */
int net_is_signalled(int fd);
void net_shut_signal(int fd);

/** Offers the socket what the filters of a connection hold. */
void net_flush(conn_rec *c1);

/** Is there an event that no thread has taken, or does none wait for any? */
int net_is_behind(void);

/**
 * Time passes: for how long now has the oldest event waited for a thread, in
 * time in which no processor was used? Time in which one was counts little.
 */
apr_interval_time_t net_oldest_event(apr_interval_time_t time, int is_busy);

#endif /* NET_H */
