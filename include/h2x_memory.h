/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#ifndef H2X_MEMORY_H
#define H2X_MEMORY_H

/**
 * Logs that streams or connections are dropped for lack of memory: one line
 * for all of the child's in ten seconds. Any thread, any lock held.
 */
void h2x_memory_missing(void);

#endif /* H2X_MEMORY_H */
