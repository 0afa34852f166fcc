/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * Runs and ends requests, on any thread.
 *
 * One request of a connection *leads*: when it is done, its thread runs the
 * next one that is ready, so that no thread is woken for that. Mostly this is
 * the connection thread. When the lead may wait, or has been at it for some
 * milliseconds, the others go on without it: another thread, one of the child's
 * if the connection's own is not free, runs the next request, which leads from
 * then on. So there are as many threads with a connection as requests that
 * wait, and one; or a few more, beside the lead, when it is a handler that may
 * wait: then those of the next requests often do too, and would start in a long
 * row.
 *
 * A lead that takes long has not said that it waits, but may. If so, it was in
 * the way of the others, and they may be stuck in the same: when one of the
 * next leads waits too, all that is ready then goes on at once. It may also
 * compute: then more threads help only while there is a processor for them.
 * Time alone does not tell: on a busy machine all take long, since they wait
 * for a processor, and more threads make that worse. So its thread is looked
 * at: see h2x_thread_waits(). A lead that computes is left alone while as
 * many requests compute as there are processors, up to 10 ms of processor time.
 */
#ifndef H2X_RUNNER_H
#define H2X_RUNNER_H

#include "h2x_core.h"

/**
 * Releases a stream that is over; one whose request was not ended yet is kept
 * until it is.
 */
void h2x_runner_over_locked(h2x_drive *drive, h2x_stream *stream);

/**
 * Runs requests that are ready, one after the other, for a while; sends; ends
 * those that are over. Nothing, if there is a lead. The lock is free while a
 * request runs. The connection thread, which drives afterwards.
 * @return whether it did something
 */
int h2x_runner_work_locked(h2x_drive *drive);

/**
 * Reads what has come for a connection that was handed over, and runs what is
 * ready, for a while. One of the child's threads, which got the event.
 */
void h2x_runner_serve_locked(h2x_drive *drive, h2x_member *member);

/** The same, when one of them took an offer. No lock held. */
void h2x_runner_work(void *baton, h2x_member *member);

/**
 * Reads for a request until more of its body has come, if nothing else runs:
 * to be woken for each piece of an upload would cost more. The runner. Gives
 * up when nothing comes for a while, and hands the connection over.
 */
void h2x_runner_fetch_locked(h2x_drive *drive, h2x_stream *stream);

/** Ends all streams that are over. The connection's thread, at its end. */
void h2x_runner_end_all_locked(h2x_drive *drive);

#endif /* H2X_RUNNER_H */
