/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The promises of a session (RFC 9113, section 8.4).
 */
#ifndef H2X_SESSION_PUSH_H
#define H2X_SESSION_PUSH_H

#include "h2x_session.h"

/** Returns nonzero if a promise may be sent now. */
int h2x_session_takes_push(const h2x_session *session);

/** Sends promises that a stream makes. Returns an error of nghttp2. */
int h2x_session_promise(h2x_session *session, h2x_stream *parent,
                        const h2x_promise *promises);

/** A promise was sent. */
void h2x_session_promised(h2x_session *session, int32_t id);

#endif /* H2X_SESSION_PUSH_H */
