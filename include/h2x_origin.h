/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * Which virtual hosts a TLS connection may serve (RFC 9110, section 7.4;
 * RFC 8336): those at its address whose names are in its certificate, and
 * whose TLS is configured as that of the host it was opened for, since that
 * is what mod_ssl insists on.
 */
#ifndef H2X_ORIGIN_H
#define H2X_ORIGIN_H

#include <httpd.h>

/**
 * Finds out how TLS is configured, and warns of names in H2Origin that
 * certificates lack; from the post_config hook.
 */
void h2x_origin_init(server_rec *s, apr_pool_t *p);

/**
 * Names a directive of mod_ssl whose value differs between two virtual
 * hosts, so that a connection for one is not good for the other. Any thread.
 * @return NULL when there is none
 */
const char *h2x_origin_difference(const server_rec *a, const server_rec *b);

/**
 * Lists the origins that a client is told of, as "https://host:port": as
 * H2Origin wants it, and only what the certificate covers.
 * @param server the virtual host that the connection was opened for
 * @param ssl    its SSL, with the certificate that the client has seen
 * @return array of char *, as long as the connection; NULL: there is none but
 *         the one that the client has asked TLS for
 */
const apr_array_header_t *h2x_origin_list(conn_rec *c1, server_rec *server,
                                          void *ssl);

#endif /* H2X_ORIGIN_H */
