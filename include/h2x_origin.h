/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The virtual hosts that a TLS connection may serve (RFC 9110, section 7.4;
 * RFC 8336): those at its address whose names are in its certificate and whose
 * TLS configuration is that of the host it was opened for. mod_ssl answers
 * requests for others with 421.
 */
#ifndef H2X_ORIGIN_H
#define H2X_ORIGIN_H

#include <httpd.h>

/**
 * Reads the TLS configuration of all hosts, and logs names in H2Origin that
 * certificates lack; from the post_config hook.
 */
void h2x_origin_init(server_rec *s, apr_pool_t *p);

/**
 * Returns the name of a directive of mod_ssl whose value differs between two
 * virtual hosts, so that a connection for one cannot serve the other. Any
 * thread.
 * @return NULL: none differs
 */
const char *h2x_origin_difference(const server_rec *a, const server_rec *b);

/**
 * Lists the origins for the ORIGIN frame, as "https://host:port": those of
 * H2Origin that are in the certificate. Any thread.
 * @param server the virtual host that the connection was opened for
 * @param ssl    its SSL, with the certificate that the client has seen
 * @return array of char *, which lives as long as the connection; NULL: there
 *         is none but that of the client's SNI
 */
const apr_array_header_t *h2x_origin_list(conn_rec *c1, server_rec *server,
                                          void *ssl);

#endif /* H2X_ORIGIN_H */
