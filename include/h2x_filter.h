/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The network filters of a secondary connection: where the request's body
 * comes from and where its response goes. Above them httpd is at home, with
 * its own HTTP_IN and HTTP_HEADER filters; so what they are given and what
 * they give is HTTP/1.1. Bytes pass between httpd and the stream here; no
 * bucket does.
 */
#ifndef H2X_FILTER_H
#define H2X_FILTER_H

#include <httpd.h>

#include "h2x_stream.h"

/** Registers the filters; at start-up. */
void h2x_filter_in_register(void);
void h2x_filter_out_register(void);

/** Puts the filters on the secondary connection of a stream; its runner. */
void h2x_filter_in_add(conn_rec *c2, h2x_stream *stream);
void h2x_filter_out_add(conn_rec *c2, h2x_stream *stream);

#endif /* H2X_FILTER_H */
