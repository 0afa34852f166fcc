/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * What a response announces before it comes: promises (RFC 9113, section 8.4)
 * to the clients that take pushes, early hints (RFC 8297) to the others. The
 * runner; no lock held.
 */
#ifndef H2X_ANNOUNCE_H
#define H2X_ANNOUNCE_H

#include <httpd.h>

#include "h2x_stream.h"

/**
 * Finds out what a request's promises would be like. To be called when the
 * request is as the client sent it.
 */
void h2x_announce_begin(h2x_stream *stream, const request_rec *r);

/**
 * Collects what the Link fields of a response head announce. What is
 * malformed is skipped, with one line in the log.
 * @param r the request that answers
 * @return in the stream's pool; NULL when there is nothing to promise
 */
h2x_promise *h2x_announce_links(h2x_stream *stream, request_rec *r,
                                const h2x_head *head);

/** Tells whether H2EarlyHints keeps a head from the client. */
int h2x_announce_is_held_back(const request_rec *r, const h2x_head *head);

/**
 * Announces what H2PushResource and H2EarlyHint name for a request. To be
 * called when its handler is about to run.
 */
void h2x_announce_resources(h2x_stream *stream, request_rec *r);

#endif /* H2X_ANNOUNCE_H */
