/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static const uint8_t *in;
static size_t in_left;

void fuzz_begin(const uint8_t *data, size_t size)
{
    in = data;
    in_left = size;
    if (unit_setup(NULL)) {
        abort();
    }
}

void fuzz_end(void)
{
    unit_teardown(NULL);
}

size_t fuzz_left(void)
{
    return in_left;
}

unsigned fuzz_byte(void)
{
    unsigned byte = in_left ? *in : 0;

    in += in_left != 0;
    in_left -= in_left != 0;
    return byte;
}

unsigned fuzz_size(void)
{
    unsigned high = fuzz_byte();

    return high << 8 | fuzz_byte();
}

size_t fuzz_piece_size(size_t wanted)
{
    return wanted < in_left ? wanted : in_left;
}

const char *fuzz_piece(size_t size)
{
    const char *piece = fuzz_text(in, size);

    in += size;
    in_left -= size;
    return piece;
}

char *fuzz_copy(const void *data, size_t size)
{
    char *copy = apr_palloc(unit_pool, size);

    if (size) {
        memcpy(copy, data, size);
    }
    return copy;
}

char *fuzz_text(const void *data, size_t size)
{
    char *text = apr_palloc(unit_pool, size + 1);

    if (size) {
        memcpy(text, data, size);
    }
    text[size] = '\0';
    return text;
}

void fuzz_fail(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
    abort();
}
