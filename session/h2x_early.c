/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <stdlib.h>
#include <string.h>

#include "h2x_early.h"

void h2x_early_init(h2x_early *early, int max)
{
    early->list = NULL;
    early->count = 0;
    early->max = max;
}

void h2x_early_clear(h2x_early *early)
{
    free(early->list);
    h2x_early_init(early, early->max);
}

int h2x_early_count(const h2x_early *early)
{
    return early->count;
}

/* Where that of a stream is; at the end: there is none. */
static int find(const h2x_early *early, int32_t id)
{
    int i;

    for (i = 0; i < early->count && early->list[i].id != id; ++i) {
        continue;
    }
    return i;
}

int h2x_early_has(const h2x_early *early, int32_t id)
{
    return find(early, id) < early->count;
}

void h2x_early_keep(h2x_early *early, int32_t id, const h2x_priority *priority)
{
    h2x_early_priority *list = early->list;
    int i = find(early, id);

    if (i == early->max) {
        memmove(list, list + 1, --i * sizeof(*list));
    }
    else if (i == early->count) {
        list = realloc(list, (i + 1) * sizeof(*list));
        if (!list) {
            return;
        }
        early->list = list;
        early->count = i + 1;
    }
    list[i].id = id;
    list[i].priority = *priority;
}

int h2x_early_take(h2x_early *early, int32_t id, h2x_priority *priority)
{
    int i, kept = 0, found = 0;

    for (i = 0; i < early->count; ++i) {
        if (early->list[i].id == id) {
            *priority = early->list[i].priority;
            found = 1;
        }
        else if (early->list[i].id > id) {
            early->list[kept++] = early->list[i];
        }
    }
    early->count = kept;
    return found;
}
