/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The memory that nghttp2 uses. It keeps a buffer for a whole frame with each
 * session, of which an idle one has used but a page, for some response head.
 * So that buffer gets pages of its own, and gives them back when the session
 * rests: from malloc(), all of it would have been in use before, and count:
 * an idle TLS connection takes 51 KB with this and 63 KB without. All else is
 * malloc()'s.
 */

#include <stdlib.h>
#include <sys/mman.h>

#include "h2x_pages.h"
#include "h2x_session_core.h"
#include "h2x_session_memory.h"

/* What is large enough to be that buffer. */
#define LARGE (16 * 1024)

static void *get(size_t size, void *baton)
{
    h2x_session *session = baton;

    /* that buffer is made with the session */
    if (size >= LARGE && !session->ng && !session->large) {
        session->large = h2x_pages_get(size);
        session->large_size = size;
        if (session->large) {
            return session->large;
        }
    }
    return malloc(size);
}

static void put(void *memory, void *baton)
{
    h2x_session *session = baton;

    if (memory && memory == session->large) {
        h2x_pages_put(session->large, session->large_size);
        session->large = NULL;
    }
    else {
        free(memory);
    }
}

static void *get_zeroed(size_t count, size_t size, void *baton)
{
    return calloc(count, size);
}

/* The buffer for a frame is never resized. */
static void *resize(void *memory, size_t size, void *baton)
{
    const h2x_session *session = baton;

    return !memory ? get(size, baton)
         : (memory == session->large) ? NULL : realloc(memory, size);
}

void h2x_session_rest(h2x_session *session)
{
    /* when there is nothing to write, nothing in it will be read again */
    if (session->large && !session->left
        && !nghttp2_session_want_write(session->ng)) {
        madvise(session->large, session->large_size, MADV_DONTNEED);
    }
}

void h2x_session_init_memory(h2x_session *session, nghttp2_mem *mem)
{
    mem->mem_user_data = session;
    mem->malloc = get;
    mem->free = put;
    mem->calloc = get_zeroed;
    mem->realloc = resize;
}
