/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * Announces resources before the response: by promises (RFC 9113, section 8.4)
 * if the client accepts pushes, by early hints (RFC 8297) otherwise. The
 * runner; no lock held.
 */
#ifndef H2X_ANNOUNCE_H
#define H2X_ANNOUNCE_H

#include <httpd.h>

#include "h2x_stream.h"

/**
 * Prepares what the promises of a request have in common. To be called while
 * headers_in is as the client sent it.
 */
void h2x_announce_begin(h2x_stream *stream, const request_rec *r);

/**
 * Collects the promises that the Link fields of a response ask for. Malformed
 * links are skipped, and the first of a field is logged.
 * @param r the request that is answered, after internal redirects
 * @return list in the stream's pool; NULL: nothing is promised
 */
h2x_promise *h2x_announce_links(h2x_stream *stream, request_rec *r,
                                const h2x_head *head);

/** Returns nonzero for a 103 response that "H2EarlyHints off" withholds. */
int h2x_announce_is_held_back(const request_rec *r, const h2x_head *head);

/**
 * Announces H2PushResource and H2EarlyHint of a request. To be called before
 * its handler runs.
 */
void h2x_announce_resources(h2x_stream *stream, request_rec *r);

#endif /* H2X_ANNOUNCE_H */
