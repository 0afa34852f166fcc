/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#ifndef H2X_MEMORY_H
#define H2X_MEMORY_H

/**
 * Tells an administrator that there was no memory, which costs streams or
 * connections: in one line for all of the child's within some seconds. Any
 * thread, any lock held.
 */
void h2x_memory_missing(void);

#endif /* H2X_MEMORY_H */
