/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * Reads and makes links of the header field Link (RFC 8288). Pure.
 */
#ifndef H2X_LINK_H
#define H2X_LINK_H

#include <apr_pools.h>

/** A link. Its texts are parts of the field's value. */
typedef struct h2x_link {
    const char *text;      /* target and parameters */
    apr_size_t text_len;
    const char *target;    /* the URI reference between < and > */
    apr_size_t target_len;
    int is_preload;        /* rel=preload, of the response itself */
    int is_nopush;
} h2x_link;

typedef enum {
    H2X_LINK_END,          /* no link is left */
    H2X_LINK_FOUND,
    H2X_LINK_MALFORMED     /* `text` is what was skipped */
} h2x_link_result;

/**
 * Reads the next link of a field's value (RFC 8288, appendix B.2). A malformed
 * one ends at the next comma that is neither quoted nor within < and >, or at
 * the end of the value if a quote is not closed.
 * @param value 0-terminated; is moved to the end of the link
 */
h2x_link_result h2x_link_next(const char **value, h2x_link *link);

/**
 * Makes a link with rel=preload from a URI reference. The parameter "as" is
 * derived from the extension of the path.
 * @return NULL when it has characters that are not allowed in URIs
 */
const char *h2x_link_make(apr_pool_t *p, const char *target);

#endif /* H2X_LINK_H */
