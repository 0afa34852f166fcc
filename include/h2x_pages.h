/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * Memory for buffers that a connection has only while it is active: mapped
 * pages, which are returned to the system at once. malloc() would place them
 * between memory that the connection keeps longer, and could not return them.
 */
#ifndef H2X_PAGES_H
#define H2X_PAGES_H

#include <stddef.h>
#include <sys/mman.h>

#include <apr.h>

/** Maps zeroed pages. Any thread. @return NULL when out of memory */
static APR_INLINE void *h2x_pages_get(size_t size)
{
    void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return (pages == MAP_FAILED) ? NULL : pages;
}

/** Unmaps pages that were got with this size; NULL does nothing. Any thread. */
static APR_INLINE void h2x_pages_put(void *pages, size_t size)
{
    if (pages) {
        munmap(pages, size);
    }
}

#endif /* H2X_PAGES_H */
