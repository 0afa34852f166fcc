/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <stdlib.h>
#include <string.h>

#include "h2x_nva.h"

/*
 * What guesses at the content of a compressed stream must not find out is not
 * kept in the dynamic table of HPACK (RFC 7541, section 7.1.3).
 */
static uint8_t secrecy(const h2x_field *field)
{
    int is_secret =
        (field->name_len == 6 && !memcmp(field->name, "cookie", 6))
        || (field->name_len == 10 && !memcmp(field->name, "set-cookie", 10))
        || (field->name_len == 13
            && !memcmp(field->name, "authorization", 13));

    return is_secret ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE;
}

static void set_nv(nghttp2_nv *nv, const char *name, apr_size_t name_len,
                   const char *value, apr_size_t value_len, uint8_t flags)
{
    nv->name = (uint8_t *)name;
    nv->namelen = name_len;
    nv->value = (uint8_t *)value;
    nv->valuelen = value_len;
    nv->flags = flags;
}

/* Names and values are in the stream's pool, which outlives the frame. */
int h2x_nva_make(h2x_nva *nva, const h2x_head *head, const char *status)
{
    int i, n = 0;

    if (nva->size < head->count + 1) {
        nghttp2_nv *fields = realloc(nva->fields,
                                     (head->count + 1) * sizeof(*fields));

        if (!fields) {
            return -1;
        }
        nva->fields = fields;
        nva->size = head->count + 1;
    }
    if (head->status) {
        set_nv(&nva->fields[n++], ":status", 7, status, 3,
               NGHTTP2_NV_FLAG_NONE);
    }
    for (i = 0; i < head->count; ++i) {
        const h2x_field *field = &head->fields[i];

        set_nv(&nva->fields[n++], field->name, field->name_len, field->value,
               field->value_len, NGHTTP2_NV_FLAG_NO_COPY_NAME
               | NGHTTP2_NV_FLAG_NO_COPY_VALUE | secrecy(field));
    }
    return n;
}

void h2x_nva_clear(h2x_nva *nva)
{
    free(nva->fields);
    nva->fields = NULL;
    nva->size = 0;
}
