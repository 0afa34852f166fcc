/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What fuzzers share. Each is a fuzz_NAME.c with LLVMFuzzerTestOneInput(),
 * built by run.sh with all rooms and the helpers of the unit tests.
 */
#ifndef H2X_FUZZ_H
#define H2X_FUZZ_H

#include "../unit/unit.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/**
 * Begins and ends one input. Between them there is a unit_pool. What it gives
 * out is of malloc(), each piece on its own, so that AddressSanitizer sees
 * where it ends.
 */
void fuzz_begin(void);
void fuzz_end(void);

/**
 * Copies that end just where they should, the text with a 0 at its end. They
 * are freed by fuzz_end().
 */
char *fuzz_copy(const void *data, size_t size);
char *fuzz_text(const void *data, size_t size);

/** Ends the run when something does not hold that always has to. */
#define FUZZ_CHECK(holds) \
    ((holds) ? (void)0 : fuzz_fail(__FILE__, __LINE__, #holds))
void fuzz_fail(const char *file, int line, const char *what)
    __attribute__((noreturn));

#endif /* H2X_FUZZ_H */
