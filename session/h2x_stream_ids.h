/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The identifiers that a client has given its streams (RFC 9113, section
 * 5.1.1). Pure.
 */
#ifndef H2X_STREAM_IDS_H
#define H2X_STREAM_IDS_H

#include <stdint.h>

/** How many gaps are kept: the last ones. */
#define H2X_ID_GAPS 16

/** Identifiers that were skipped. */
typedef struct h2x_id_gap {
    int32_t first;
    int32_t last;
} h2x_id_gap;

/** What is known of identifiers. Its members are h2x_stream_ids.c's. */
typedef struct h2x_stream_ids {
    int32_t last;           /* the highest so far; -1: there was none */
    h2x_id_gap gaps[H2X_ID_GAPS]; /* below that; a ring */
    int gap_count;          /* all that ever were */
} h2x_stream_ids;

/** What an identifier is that comes with a field block. */
typedef enum {
    H2X_ID_NEW,             /* the highest so far */
    H2X_ID_USED,            /* that of a stream that was opened, open or not */
    H2X_ID_SKIPPED          /* one that was skipped, which is an error */
} h2x_id_kind;

/** Begins without any. */
void h2x_stream_ids_init(h2x_stream_ids *ids);

/** Notes the identifier of a client's stream: it is odd. */
h2x_id_kind h2x_stream_ids_note(h2x_stream_ids *ids, int32_t id);

#endif /* H2X_STREAM_IDS_H */
