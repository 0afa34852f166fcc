/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The engine: which thread reads, runs and writes when. See h2x_drive.c.
 */
#ifndef H2X_DRIVE_H
#define H2X_DRIVE_H

#include <httpd.h>

#include "h2x_head.h"

typedef struct h2x_drive h2x_drive;

/**
 * Starts HTTP/2 on a connection whose client speaks it.
 * The connection's thread.
 * @param first NULL, or the first request, which is copied
 */
apr_status_t h2x_drive_create(h2x_drive **drive, conn_rec *c1,
                              const h2x_first_request *first);

/**
 * Drives a connection until it has nothing to do or has ended, and tells the
 * MPM through c1->cs what to wait for. Never returns while a request runs, so
 * that the MPM may end the connection at any time between two calls.
 * The connection's thread, within the process_connection hook, before any
 * other module touches the connection.
 */
void h2x_drive_run(h2x_drive *drive);

/**
 * Says goodbye to the client and ends what is left of a connection. May
 * block, on a slow log. The thread that ends the connection.
 */
void h2x_drive_close(h2x_drive *drive);

/**
 * Tells the engine that the request which the calling thread runs is about to
 * wait, so that nobody else has to. Cheap when there is nothing to do.
 * @param c2 the secondary connection of the request
 */
void h2x_drive_hand_over(conn_rec *c2);

/**
 * Makes the id that names a connection in logs, if it has none. httpd makes
 * one when it first logs something of a connection, which may be never. To be
 * called by the thread that owns the connection.
 */
void h2x_drive_make_log_id(conn_rec *c1);

#endif /* H2X_DRIVE_H */
