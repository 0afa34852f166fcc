/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The payload of a PRIORITY_UPDATE frame, piece by piece (RFC 9218, section
 * 7.1). Pure.
 */
#ifndef H2X_PRIORITY_UPDATE_H
#define H2X_PRIORITY_UPDATE_H

#include <stddef.h>
#include <stdint.h>

#include "h2x_priority.h"

/** A stream, and a field that is not longer than what makes sense. */
#define H2X_UPDATE_MAX 256

/** The frame that comes, or came last. Its members are
 * h2x_priority_update.c's. */
typedef struct h2x_priority_update {
    char payload[H2X_UPDATE_MAX];
    size_t len;             /* of all of it, also of what is not kept */
} h2x_priority_update;

/** Begins with another frame. */
void h2x_priority_update_begin(h2x_priority_update *update);

/** Adds a piece of its payload; what is longer than H2X_UPDATE_MAX is only
 * counted. */
void h2x_priority_update_add(h2x_priority_update *update, const void *data,
                             size_t len);

/** The stream that it is for; -1: the frame is too short to name one. */
int32_t h2x_priority_update_id(const h2x_priority_update *update);

/**
 * Reads the priority; what it does not name is as by default.
 * @return 0 when that cannot be read, and is to be ignored
 */
int h2x_priority_update_read(const h2x_priority_update *update,
                             h2x_priority *priority);

#endif /* H2X_PRIORITY_UPDATE_H */
