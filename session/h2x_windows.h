/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * Receive windows that follow the bandwidth-delay product (RFC 9113, section
 * 6.9). A window that is smaller makes an upload wait: no more than it holds
 * can come in a round trip. How long that is, is known when the client has
 * acknowledged SETTINGS; before that, it may be long. And so is how much may
 * come in it, if the link takes a gigabit a second. Where that was too little,
 * PINGs show it: while bodies come, they measure how much comes in a round
 * trip, and windows grow to twice as much.
 *
 * What a request does not read has to be kept: a window of it, and as much
 * again that its filters have taken. So only windows of streams whose bodies
 * are read are wider than H2WindowSize, and all of a connection, and of a
 * child, by a limited sum.
 *
 * Pure, but for the child's sum. All sizes are in bytes.
 */
#ifndef H2X_WINDOWS_H
#define H2X_WINDOWS_H

#include <apr.h>
#include <apr_time.h>

/** The windows of a connection. Its members are h2x_windows.c's. */
typedef struct h2x_windows {
    int32_t initial;        /* H2WindowSize */
    int32_t wanted;         /* of a stream whose body is read */
    int32_t wider_by;       /* all streams' together */
    int is_guessed;         /* from the first round trip */
    int is_sampling;        /* a PING that measures was not answered yet */
    size_t sample;          /* what came since it was sent */
    apr_time_t sample_at;   /* when it was, or SETTINGS were; or may be next */
} h2x_windows;

/**
 * Begins, as SETTINGS are to be sent.
 * @param initial H2WindowSize
 */
void h2x_windows_init(h2x_windows *windows, int32_t initial, apr_time_t now);

/** Ends; all that streams had was given back. */
void h2x_windows_end(const h2x_windows *windows);

/** The client has acknowledged SETTINGS: a first guess at the window. */
void h2x_windows_guess(h2x_windows *windows, apr_time_t now);

/**
 * Counts bytes of a body that have come.
 * @param body_in how many of its stream have, in all
 * @return nonzero if it would help to measure
 */
int h2x_windows_count(h2x_windows *windows, apr_off_t body_in, size_t len);

/** Returns nonzero if it is time to measure. */
int h2x_windows_is_due(const h2x_windows *windows, apr_time_t now);

/**
 * A PING that measures was submitted.
 * @param len bytes that came just before
 */
void h2x_windows_begin_sample(h2x_windows *windows, apr_time_t now,
                              size_t len);

/** It was answered; or none was sent, and that means nothing. */
void h2x_windows_end_sample(h2x_windows *windows, apr_time_t now);

/**
 * Takes what the window of a stream may be wider, whose body was read: of the
 * connection's share what is left, and of the child's an eighth of that, so
 * that others get some too.
 * @param wider_by by how much the stream's is wider, and then is
 * @return how much that is more
 */
int32_t h2x_windows_take(h2x_windows *windows, int32_t *wider_by);

/**
 * Gives back what a stream has taken, or some of it.
 * @param wider_by of the stream, and what is left of that
 */
void h2x_windows_give_back(h2x_windows *windows, int32_t *wider_by,
                           int32_t less);

/** The size of a window that is wider than the initial one. */
int32_t h2x_windows_size(const h2x_windows *windows, int32_t wider_by);

#endif /* H2X_WINDOWS_H */
