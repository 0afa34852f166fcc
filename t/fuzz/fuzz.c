/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "fuzz.h"

#include <stdlib.h>

/* A piece of memory; what it was made for follows. */
typedef union piece {
    union piece *next;
    long double aligned;
} piece;

/* The pieces of a pool. */
typedef struct owner {
    struct owner *next;
    apr_pool_t *pool;
    piece *pieces;
} owner;

static owner *owners[256];

static owner **find(const apr_pool_t *pool)
{
    owner **at = &owners[((uintptr_t)pool >> 8) % 256];

    while (*at && (*at)->pool != pool) {
        at = &(*at)->next;
    }
    return at;
}

static void *allocate(size_t size)
{
    void *memory = malloc(size);

    if (!memory) {
        abort();
    }
    return memory;
}

/* Being the first one of its pool, this cleanup is the last to run. */
static apr_status_t free_pieces(void *pool)
{
    owner **at = find(pool), *gone = *at;

    *at = gone->next;
    while (gone->pieces) {
        piece *one = gone->pieces;

        gone->pieces = one->next;
        free(one);
    }
    free(gone);
    return APR_SUCCESS;
}

static owner *add_owner(owner **at, apr_pool_t *pool)
{
    owner *added = allocate(sizeof(*added));

    added->next = NULL;
    added->pool = pool;
    added->pieces = NULL;
    *at = added;
    apr_pool_cleanup_register(pool, pool, free_pieces, apr_pool_cleanup_null);
    return added;
}

/* This takes the place of APR's, in APR itself too. */
void *apr_palloc(apr_pool_t *p, apr_size_t size)
{
    owner **at = find(p), *mine = *at ? *at : add_owner(at, p);
    piece *one = allocate(sizeof(*one) + size);

    one->next = mine->pieces;
    mine->pieces = one;
    return one + 1;
}

int LLVMFuzzerInitialize(int *argc UNUSED, char ***argv UNUSED)
{
    unit_begin();
    return 0;
}

void fuzz_begin(const uint8_t *data, size_t size)
{
    fuzz_set_input(data, size);
    if (unit_setup(NULL)) {
        abort();
    }
}

void fuzz_end(void)
{
    unit_teardown(NULL);
}
