/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * Memory for the buffers that a connection has while it is active: pages of
 * its own, which the system has back at once. From malloc() they would lie
 * between what the connection keeps, and count as long as that.
 */
#ifndef H2X_PAGES_H
#define H2X_PAGES_H

#include <stddef.h>
#include <sys/mman.h>

#include <apr.h>

/** Gets pages, all zero. @return NULL when there are none. Any thread. */
static APR_INLINE void *h2x_pages_get(size_t size)
{
    void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return (pages == MAP_FAILED) ? NULL : pages;
}

/** Gives pages back that were got with this size; NULL is no pages. */
static APR_INLINE void h2x_pages_put(void *pages, size_t size)
{
    if (pages) {
        munmap(pages, size);
    }
}

#endif /* H2X_PAGES_H */
