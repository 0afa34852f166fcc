/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The change from HTTP/1.1 to h2c by Upgrade (RFC 7540, section 3.2). RFC 9113
 * has removed it; some clients still use it. The connection's thread.
 */
#ifndef H2X_UPGRADE_H
#define H2X_UPGRADE_H

#include <httpd.h>

/**
 * Keeps a copy of the head of a request that asks for h2c. To be called before
 * other modules change it.
 */
void h2x_upgrade_keep(request_rec *r);

/** Returns nonzero if a request may become stream 1 of an HTTP/2 connection. */
int h2x_upgrade_is_possible(request_rec *r);

/** Registers a filter; at start-up. */
void h2x_upgrade_register(void);

/**
 * Starts HTTP/2 after the 101 response to a request, which is answered on
 * stream 1. Serves the connection until it ends; or, if the MPM can wait for
 * it, lets the MPM call process_connection, for h2x_drive_run(), after the
 * request.
 */
void h2x_upgrade_run(request_rec *r);

/** Returns nonzero if a request went on as stream 1, which logs it. */
int h2x_upgrade_was(const request_rec *r);

#endif /* H2X_UPGRADE_H */
