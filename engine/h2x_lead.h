/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * What is done about requests that wait or compute for long while others of
 * their connection could run. See h2x_runner.h.
 */
#ifndef H2X_LEAD_H
#define H2X_LEAD_H

#include "h2x_turns.h"

/** Counts a request as one that computes, of the child's, until it waits. */
void h2x_lead_begin_computing(h2x_stream *stream);
void h2x_lead_end_computing(h2x_stream *stream);

/**
 * Goes on without a request, as it may wait: it counts as computing no longer,
 * and if it leads, the connection is handed over.
 */
void h2x_lead_wait_locked(h2x_drive *drive, h2x_stream *stream);

/** The same, if its handler is about to wait: others' may be, too. */
void h2x_lead_handler_waits_locked(h2x_drive *drive, h2x_stream *stream);

/**
 * Has another thread run the next request too, if one has taken long and there
 * is a processor for that. The lock is held, by the thread that goes on.
 */
void h2x_lead_share_locked(h2x_drive *drive, apr_interval_time_t taken);

/** The request that leads has ended. */
void h2x_lead_is_over(h2x_drive *drive);

/**
 * Looks at the thread of a lead that takes long: goes on without it if it
 * waits, or if there is a processor for another one.
 */
void h2x_lead_check_locked(h2x_drive *drive);

#endif /* H2X_LEAD_H */
