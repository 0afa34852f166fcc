/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* What a server sends, read frame by frame: each has to be one that a client
 * must accept, wherever it comes, and bodies are as they were made. */
#ifndef H2X_FUZZ_WIRE_H
#define H2X_FUZZ_WIRE_H

#include "fuzz.h"

/** Begins and ends reading. */
void wire_begin(void);
void wire_end(void);

/** Reads what was sent. */
void wire_read(const char *data, size_t len);

/** The frames of a connection may end anywhere no more: it was cut. */
int wire_is_whole(void);

/**
 * The bytes of all bodies tell their place: that of a body's next bytes is
 * found by how many there were. At most WIRE_PIECE.
 */
#define WIRE_PIECE 65536
const char *wire_pattern(size_t at);
size_t wire_pattern_left(size_t at);

/** Says that a stream's request begins to run. */
void wire_begun(int32_t id);

/** Says that so many bytes of a stream's body are made, and whether this is
 * all that there will be. */
void wire_expect(int32_t id, size_t len, int is_whole);

/** The status that was sent of a stream, 0 when it has none yet; and was it
 * reset? */
int wire_status(int32_t id);
int wire_is_reset(int32_t id);

#endif /* H2X_FUZZ_WIRE_H */
