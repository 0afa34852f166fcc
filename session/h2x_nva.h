/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * Heads and trailers in the form in which nghttp2 takes them. Pure.
 */
#ifndef H2X_NVA_H
#define H2X_NVA_H

#include <nghttp2/nghttp2.h>

#include "h2x_field.h"

/** The fields of one head at a time; its memory serves the next one. Begins
 * with zeros. */
typedef struct h2x_nva {
    nghttp2_nv *fields;     /* of malloc() */
    int size;               /* how many there is memory for */
} h2x_nva;

/**
 * Makes the fields of a head, whose names and values stay where they are.
 * @param status as text, if it has one
 * @return how many they are, or -1 when there is no memory
 */
int h2x_nva_make(h2x_nva *nva, const h2x_head *head, const char *status);

/** Frees its memory. */
void h2x_nva_clear(h2x_nva *nva);

#endif /* H2X_NVA_H */
