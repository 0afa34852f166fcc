/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The change from HTTP/1.1 to h2c by Upgrade (RFC 7540, section 3.2), which
 * RFC 9113 has dropped and some clients still ask for. The connection thread.
 */
#ifndef H2X_UPGRADE_H
#define H2X_UPGRADE_H

#include <httpd.h>

/**
 * Keeps the head of a request that asks for h2c, as the client sent it. To be
 * called before other modules change it.
 */
void h2x_upgrade_keep(request_rec *r);

/** Tells whether a request may become the first of an HTTP/2 connection. */
int h2x_upgrade_is_possible(request_rec *r);

/** Registers a filter; from the module's own registration. */
void h2x_upgrade_register(void);

/**
 * Begins with HTTP/2 on a connection whose client has been told so in answer
 * to a request, which is answered on stream 1. Serves it until it ends, or, if
 * the MPM can wait for it, has it come to h2x_drive_run() after the request.
 */
void h2x_upgrade_run(request_rec *r);

/** Tells whether a request went on over HTTP/2, and is logged there. */
int h2x_upgrade_was(const request_rec *r);

#endif /* H2X_UPGRADE_H */
