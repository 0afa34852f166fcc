/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "h2x_stream_ids.h"

void h2x_stream_ids_init(h2x_stream_ids *ids)
{
    ids->last = -1;
    ids->gap_count = 0;
}

static int was_skipped(const h2x_stream_ids *ids, int32_t id)
{
    int i;

    for (i = 0; i < ids->gap_count && i < H2X_ID_GAPS; ++i) {
        if (id >= ids->gaps[i].first && id <= ids->gaps[i].last) {
            return 1;
        }
    }
    return 0;
}

h2x_id_kind h2x_stream_ids_note(h2x_stream_ids *ids, int32_t id)
{
    if (id <= ids->last) {
        return was_skipped(ids, id) ? H2X_ID_SKIPPED : H2X_ID_USED;
    }
    if (id > ids->last + 2) {
        h2x_id_gap *gap = &ids->gaps[ids->gap_count++ % H2X_ID_GAPS];

        gap->first = ids->last + 2;
        gap->last = id - 2;
    }
    ids->last = id;
    return H2X_ID_NEW;
}
