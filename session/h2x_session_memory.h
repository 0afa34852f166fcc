/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The memory that nghttp2 uses for a session.
 */
#ifndef H2X_SESSION_MEMORY_H
#define H2X_SESSION_MEMORY_H

#include <nghttp2/nghttp2.h>

#include "h2x_session.h"

/** Gives what nghttp2 is to get its memory from. It lives in the session. */
void h2x_session_init_memory(h2x_session *session, nghttp2_mem *mem);

#endif /* H2X_SESSION_MEMORY_H */
