/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The fields of requests, as HPACK decodes them: those of a session.
 */
#ifndef H2X_SESSION_FIELDS_H
#define H2X_SESSION_FIELDS_H

#include <nghttp2/nghttp2.h>

#include "h2x_session.h"

/** Returns nonzero if the connection may keep another head. */
int h2x_session_may_keep(h2x_session *session);

/** nghttp2's callback for a field. */
int h2x_session_on_header(nghttp2_session *ng, const nghttp2_frame *frame,
                          const uint8_t *name, size_t name_len,
                          const uint8_t *value, size_t value_len,
                          uint8_t flags, void *baton);

/** nghttp2's callback for a field that is malformed. */
int h2x_session_on_invalid_header(nghttp2_session *ng,
                                  const nghttp2_frame *frame,
                                  const uint8_t *name, size_t name_len,
                                  const uint8_t *value, size_t value_len,
                                  uint8_t flags, void *baton);

#endif /* H2X_SESSION_FIELDS_H */
