/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * Priorities of streams that are not yet open (RFC 9218, section 7.1). Pure.
 */
#ifndef H2X_EARLY_H
#define H2X_EARLY_H

#include <stdint.h>

#include "h2x_priority.h"

/** The priority of a stream that is not yet open. */
typedef struct h2x_early_priority {
    int32_t id;
    h2x_priority priority;
} h2x_early_priority;

/** Those of a connection. Its members are h2x_early.c's. */
typedef struct h2x_early {
    h2x_early_priority *list; /* of malloc(), the oldest first; NULL: none */
    int count;
    int max;                /* how many are kept; more than 0 */
} h2x_early;

/** Begins without any, to keep so many: more than 0. */
void h2x_early_init(h2x_early *early, int max);

/** Frees them. */
void h2x_early_clear(h2x_early *early);

/** How many there are. */
int h2x_early_count(const h2x_early *early);

/** Returns nonzero if there is one for a stream. */
int h2x_early_has(const h2x_early *early, int32_t id);

/** Keeps one, in place of the same stream's or, when there are too many, of
 * the oldest; without memory, it is lost. */
void h2x_early_keep(h2x_early *early, int32_t id,
                    const h2x_priority *priority);

/**
 * Takes that of a stream that is opened, and drops those for lower
 * identifiers, which will never be.
 * @return nonzero if there is one
 */
int h2x_early_take(h2x_early *early, int32_t id, h2x_priority *priority);

#endif /* H2X_EARLY_H */
