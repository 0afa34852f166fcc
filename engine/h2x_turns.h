/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * Who drives a connection, who leads, and when it is looked after: all of its
 * transitions. See h2x_core.h.
 */
#ifndef H2X_TURNS_H
#define H2X_TURNS_H

#include "h2x_core.h"

/** What happens to a connection. */
typedef enum {
    H2X_TURN_TAKEN,   /* its own thread has it, from now on or again */
    H2X_TURN_WAITS,   /* its own thread waits until there is work for it */
    H2X_TURN_LEFT,    /* its own thread has given it to the MPM */
    H2X_TURN_READY,   /* one of the child's threads found its socket ready */
    H2X_TURN_FETCHES, /* the thread of a request reads its body itself */
    H2X_TURN_WORKED,  /* a thread has run requests, and goes on */
    H2X_TURN_DONE,    /* one of the child's threads goes away */
    H2X_TURN_BUSY,    /* the lead waits or takes long, or the connection thread
                        * writes to the log: there is no lead any more, and if
                        * the connection thread drives, it is handed over */
    H2X_TURN_SHARES,  /* some of what is ready may go on beside the lead */
    H2X_TURN_MISSED,  /* an event has come, and found the lock held */
    H2X_TURN_OUTPUT,  /* there is something to be sent, or room for it */
    H2X_TURN_POKED    /* the child has begun to stop */
} h2x_turn;

/**
 * Makes the transition that an event asks for, all of them: who drives from
 * then on, and, in this order: what a stopping child does, sending, what the
 * socket is watched for, and who is woken or asked to come.
 * @return how many bytes were sent
 */
apr_size_t h2x_drive_advance_locked(h2x_drive *drive, h2x_turn event);

/**
 * Lets a request lead, if its thread did not already, or none.
 * @param since when it began with what it does in code of httpd; 0: nothing
 */
void h2x_drive_set_lead(h2x_drive *drive, h2x_stream *stream,
                        apr_time_t since);

/** Looks at the thread of the lead some time from now on again. */
void h2x_drive_set_late(h2x_drive *drive, apr_time_t at);

/** Is there a request to run or to end, and nobody who will? */
int h2x_drive_has_work(const h2x_drive *drive);

/**
 * Is there no request, but was there one? The MPM has KeepAliveTimeout for
 * that state, and its own ways with the connection.
 */
int h2x_drive_is_between_requests(const h2x_drive *drive);

/** Asks for a tick for what is to be sent, or for who is to be looked at. */
void h2x_drive_set_tick(h2x_drive *drive);

/**
 * Asks to look after streams at a time, if not earlier; 0 asks for nothing.
 */
void h2x_drive_set_deadline(h2x_drive *drive, apr_time_t deadline);

/**
 * Asks the client to go elsewhere (RFC 9113, section 6.8). The final GOAWAY
 * comes when the client has answered the PING of the first, or, if this is
 * called again after Timeout, without that.
 */
void h2x_drive_drain(h2x_drive *drive);

/** Does what a stopping child should. The driver. */
void h2x_drive_check_stopping(h2x_drive *drive);

#endif /* H2X_TURNS_H */
