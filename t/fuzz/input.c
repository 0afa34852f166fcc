/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* What a fuzzer reads of its input. */

#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t *in;
static size_t in_left;

void fuzz_set_input(const uint8_t *data, size_t size)
{
    in = data;
    in_left = size;
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

char *fuzz_frame(unsigned type, unsigned flags, unsigned id,
                 const char *payload, size_t len)
{
    char *frame = apr_pcalloc(unit_pool, FUZZ_FRAME_HEAD + len);

    frame[1] = (char)(len >> 8);
    frame[2] = (char)len;
    frame[3] = (char)type;
    frame[4] = (char)flags;
    frame[8] = (char)id;
    memcpy(frame + FUZZ_FRAME_HEAD, payload, len);
    return frame;
}
