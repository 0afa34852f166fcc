/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * Links of the header field Link (RFC 8288): read and made. Pure: no threads,
 * no connections.
 */
#ifndef H2X_LINK_H
#define H2X_LINK_H

#include <apr_pools.h>

/** One link of a field. Its texts are parts of the field. */
typedef struct h2x_link {
    const char *text;      /* all of it: target and parameters */
    apr_size_t text_len;
    const char *target;    /* the URI reference between < and > */
    apr_size_t target_len;
    int is_preload;        /* rel=preload, of the response itself */
    int is_nopush;
} h2x_link;

typedef enum {
    H2X_LINK_END,          /* there is none left */
    H2X_LINK_FOUND,
    H2X_LINK_MALFORMED     /* `text` is what was skipped */
} h2x_link_result;

/**
 * Reads the next link of a field's value (RFC 8288, appendix B.2), and moves
 * on behind it. One that is malformed ends at the next comma that is neither
 * quoted nor within < and >; a quote that is not closed takes in all the rest.
 * @param value 0-terminated
 */
h2x_link_result h2x_link_next(const char **value, h2x_link *link);

/**
 * Makes a link with rel=preload from a URI reference. Browsers want to know
 * what kind of thing it is: that is told by the ending of its path.
 * @return NULL when this is no URI reference
 */
const char *h2x_link_make(apr_pool_t *p, const char *target);

#endif /* H2X_LINK_H */
