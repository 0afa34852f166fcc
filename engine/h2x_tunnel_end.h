/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/** Looks for the end of what the request of a tunnel has to send. */
#ifndef H2X_TUNNEL_END_H
#define H2X_TUNNEL_END_H

#include "h2x_turns.h"

/**
 * Looks for it from now on. The runner; no lock held.
 * @param baton the drive
 */
void h2x_tunnel_end_watch(void *baton, h2x_stream *stream);

/** Looks for it no longer. The runner; no lock held. */
void h2x_tunnel_end_forget(h2x_stream *stream);

#endif /* H2X_TUNNEL_END_H */
