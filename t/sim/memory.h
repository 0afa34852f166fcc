/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The memory of the engine and of its session of nghttp2, as the linker's
 * --wrap gives it: each block is known, and may be refused.
 */
#ifndef MEMORY_H
#define MEMORY_H

#include <stddef.h>

/** Once, before the first schedule. */
void memory_init(void);

/** Begins a schedule. */
void memory_begin(void);

/** One of those blocks that are asked for from now on is refused. */
void memory_refuse_one(void);

/** Was one refused? */
int memory_has_failed(void);

/** Checks that all blocks of the schedule were given back. */
void memory_end(void);

/** As realloc() and free(), for the simulation itself. Never NULL. */
void *memory_resize(void *block, size_t size);
void memory_free(void *block);

/** Makes a stack for a thread, which is never given back. */
char *memory_stack(size_t size);

#endif /* MEMORY_H */
