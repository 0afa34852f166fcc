/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A piece of memory; what it was made for follows. */
typedef union piece {
    struct {
        union piece *next;
    } of;
    long double aligned;
} piece;

static piece *pieces, *pieces_of_start;

static void *get(size_t size)
{
    piece *one = malloc(sizeof(*one) + size);

    if (!one) {
        abort();
    }
    one->of.next = pieces;
    pieces = one;
    return one + 1;
}

/* This takes the place of APR's, in APR itself too. */
void *apr_palloc(apr_pool_t *p UNUSED, apr_size_t size)
{
    return get(size);
}

int LLVMFuzzerInitialize(int *argc UNUSED, char ***argv UNUSED)
{
    unit_begin();
    pieces_of_start = pieces; /* they stay */
    pieces = NULL;
    return 0;
}

void fuzz_begin(void)
{
    if (unit_setup(NULL)) {
        abort();
    }
}

void fuzz_end(void)
{
    unit_teardown(NULL);
    while (pieces) {
        piece *one = pieces;

        pieces = one->of.next;
        free(one);
    }
}

char *fuzz_copy(const void *data, size_t size)
{
    char *copy = get(size);

    if (size) {
        memcpy(copy, data, size);
    }
    return copy;
}

char *fuzz_text(const void *data, size_t size)
{
    char *text = get(size + 1);

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
