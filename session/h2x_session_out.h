/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The half of a session that sends.
 */
#ifndef H2X_SESSION_OUT_H
#define H2X_SESSION_OUT_H

#include <nghttp2/nghttp2.h>

/** Registers the callbacks for sending. */
void h2x_session_out_init(nghttp2_session_callbacks *callbacks);

#endif /* H2X_SESSION_OUT_H */
