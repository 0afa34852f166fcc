/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <string.h>

#include "h2x_priority_update.h"

#define ID_LEN 4

void h2x_priority_update_begin(h2x_priority_update *update)
{
    update->len = 0;
}

void h2x_priority_update_add(h2x_priority_update *update, const void *data,
                             size_t len)
{
    if (update->len + len <= sizeof(update->payload)) {
        memcpy(update->payload + update->len, data, len);
    }
    update->len += len;
}

int32_t h2x_priority_update_id(const h2x_priority_update *update)
{
    const unsigned char *id = (const unsigned char *)update->payload;

    return (update->len < ID_LEN) ? -1
        : (int32_t)((id[0] & 0x7fu) << 24 | (uint32_t)id[1] << 16
                    | (uint32_t)id[2] << 8 | id[3]);
}

int h2x_priority_update_read(const h2x_priority_update *update,
                             h2x_priority *priority)
{
    priority->urgency = H2X_URGENCY_DEFAULT;
    priority->is_incremental = 0;
    return update->len >= ID_LEN && update->len <= sizeof(update->payload)
           && h2x_priority_parse(priority, update->payload + ID_LEN,
                                 update->len - ID_LEN);
}
