/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/** Reads and writes the frames of a connection. */
#ifndef H2X_TRANSFER_H
#define H2X_TRANSFER_H

#include "h2x_core.h"

/** The client is gone: closes all of its streams. */
void h2x_transfer_lose(h2x_drive *drive);

/**
 * Does the client take nothing while there is much to answer? Then nothing
 * more is read, so that what it says cannot fill the memory.
 */
int h2x_transfer_is_stuck(const h2x_drive *drive);

/**
 * Makes frames of what there is to be sent, if the socket would take them.
 * What does not fill the buffer goes out when more is sent, which has to
 * follow.
 * @return 0 when there may be more
 */
int h2x_transfer_frame(h2x_drive *drive);

/**
 * Sends frames, as far as the socket takes them, but no more at a time than is
 * good for what may come. h2x_drive_advance_locked() calls it.
 * @return how many bytes
 */
apr_size_t h2x_transfer_send(h2x_drive *drive);

/**
 * Reads what has come, but no more than is good for the other requests. The
 * driver.
 * @return how many bytes
 */
apr_size_t h2x_transfer_receive(h2x_drive *drive);

/** Gives back what memory a connection needs only while it is active. */
void h2x_transfer_rest(h2x_drive *drive);

/** Frees the buffer, which is there only while the connection is active. */
void h2x_transfer_free_buffer(h2x_drive *drive);

#endif /* H2X_TRANSFER_H */
