/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What fuzzers share. Each is a fuzz_NAME.c with LLVMFuzzerTestOneInput(),
 * built by run.sh with all sources and the helpers of the unit tests (fuzz.c);
 * or an inside_NAME.c, with the whole module and run within httpd (inside.c).
 */
#ifndef H2X_FUZZ_H
#define H2X_FUZZ_H

#include "../unit/unit.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/**
 * Begins and ends one input. Between them there is a unit_pool. Outside of
 * httpd, what it and all other pools give out is of malloc(), each piece on
 * its own, until the pool is cleared: AddressSanitizer sees where it ends, and
 * when.
 */
void fuzz_begin(const uint8_t *data, size_t size);
void fuzz_end(void);

/**
 * What a fuzzer that takes its input bit by bit reads next: a byte, or two, of
 * which those that are missing are 0; or a piece, as fuzz_text(), which may be
 * as long as fuzz_piece_size() says.
 */
void fuzz_set_input(const uint8_t *data, size_t size);
size_t fuzz_left(void);
unsigned fuzz_byte(void);
unsigned fuzz_size(void);
size_t fuzz_piece_size(size_t wanted);
const char *fuzz_piece(size_t size);

/**
 * Copies in unit_pool that end just where they should, the text with a 0 at
 * its end.
 */
char *fuzz_copy(const void *data, size_t size);
char *fuzz_text(const void *data, size_t size);

/**
 * A frame in unit_pool, FUZZ_FRAME_HEAD bytes longer than its payload. Type,
 * flags and stream are bytes.
 */
char *fuzz_frame(unsigned type, unsigned flags, unsigned id,
                 const char *payload, size_t len);
#define FUZZ_FRAME_HEAD 9

/** For an inside_NAME.c: does it run in a thread of a child, which serves? If
 * not, it runs in the parent before that. */
extern const int fuzz_is_in_child;

/** Ends the run when something does not hold that always has to. */
#define FUZZ_CHECK(holds) \
    ((holds) ? (void)0 : fuzz_fail(__FILE__, __LINE__, #holds))
void fuzz_fail(const char *file, int line, const char *what)
    __attribute__((noreturn));

#endif /* H2X_FUZZ_H */
