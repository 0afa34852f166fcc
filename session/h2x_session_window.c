/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Receive windows that follow the bandwidth-delay product. A window that is
 * smaller makes an upload wait: no more than it holds can come in a round
 * trip. How long that is, is known when the client has acknowledged SETTINGS;
 * before that, it may be long. And so is how much may come in it, if the link
 * takes a gigabit a second. Where that was too little, PINGs show it: while
 * bodies come, they measure how much comes in a round trip, and windows grow
 * to twice as much.
 *
 * What a request does not read has to be kept: a window of it, and as much
 * again that its filters have taken. So only windows of streams whose bodies
 * are read are wider than H2WindowSize, and all of a connection, and of a
 * child, by a limited sum.
 */

#include <string.h>

#include <apr_atomic.h>

#include "h2x_clock.h"
#include "h2x_conf.h"
#include "h2x_session_impl.h"

/* Bytes in a microsecond that clients are thought to be able to send. */
#define RATE 125

/* No window is wider than this. */
#define WINDOW_MAX (16 * 1024 * 1024)

/* All of a connection together are wider than H2WindowSize by at most this,
 * and all of the child (or a little more, when threads take at once). */
#define WIDER_MAX WINDOW_MAX
#define CHILD_WIDER_MAX (128 * 1024 * 1024)
static apr_uint32_t child_wider_by;

/* When windows did not grow, so many round trips, and at least so long, pass
 * until that is measured again. */
#define PAUSE_TRIPS 8
#define PAUSE_MIN (100 * 1000)

/* Marks the PINGs that measure. */
static const uint8_t mark[8] = { 'h', '2', 'x', 'w', 'i', 'n', 'd', 'o' };

void h2x_session_init_windows(h2x_session *session, const server_rec *s)
{
    session->windows.initial = (int32_t)h2x_conf_get(s, H2X_WINDOW_SIZE);
    session->windows.wanted = WINDOW_MAX;
    session->windows.sample_at = h2x_clock_now();
}

/* Wants a window, within what is allowed. */
static void want(h2x_windows *windows, apr_int64_t size)
{
    windows->wanted = (size < windows->initial) ? windows->initial
        : (size < WINDOW_MAX) ? (int32_t)size : WINDOW_MAX;
}

void h2x_session_guess_window(h2x_session *session)
{
    h2x_windows *windows = &session->windows;

    if (!windows->is_guessed) {
        windows->is_guessed = 1;
        want(windows, (h2x_clock_now() - windows->sample_at) * RATE);
    }
}

void h2x_session_sample(h2x_session *session, h2x_stream *stream, size_t len)
{
    h2x_windows *windows = &session->windows;
    apr_time_t now;

    stream->in.received += len;
    windows->sample += len;
    if (windows->is_sampling || windows->wanted >= WINDOW_MAX
        || stream->in.received < windows->initial / 4
        || (now = h2x_clock_now()) < windows->sample_at) {
        return;
    }
    if (nghttp2_submit_ping(session->ng, NGHTTP2_FLAG_NONE, mark) == 0) {
        windows->is_sampling = 1;
        windows->sample_at = now;
        windows->sample = len;
    }
}

void h2x_session_end_sample(h2x_session *session, const uint8_t *data)
{
    h2x_windows *windows = &session->windows;
    apr_time_t now, trip, pause;

    if (!windows->is_sampling || memcmp(data, mark, sizeof(mark))) {
        return;
    }
    windows->is_sampling = 0;
    now = h2x_clock_now();
    trip = now - windows->sample_at;
    if (windows->sample >= (size_t)windows->wanted / 2) {
        want(windows, 2 * (apr_int64_t)windows->sample);
        pause = trip; /* until the client has used it */
    }
    else {
        pause = PAUSE_TRIPS * trip;
        pause = (pause > PAUSE_MIN) ? pause : PAUSE_MIN;
    }
    windows->sample_at = now + pause;
}

static void give_back(h2x_session *session, h2x_stream *stream, int32_t less)
{
    stream->wider_by -= less;
    session->windows.wider_by -= less;
    apr_atomic_sub32(&child_wider_by, less);
}

/*
 * Takes of the connection's share what is left, and of the child's an eighth
 * of that, so that others get some too. Returns how much that is.
 */
static int32_t take(h2x_session *session, h2x_stream *stream, int32_t more)
{
    int32_t left = WIDER_MAX - session->windows.wider_by;
    int32_t left_of_child
        = CHILD_WIDER_MAX - (int32_t)apr_atomic_read32(&child_wider_by);

    more = (more < left) ? more : left;
    more = (more < left_of_child / 8) ? more : left_of_child / 8;
    if (more <= 0) {
        return 0;
    }
    stream->wider_by += more;
    session->windows.wider_by += more;
    apr_atomic_add32(&child_wider_by, more);
    return more;
}

void h2x_session_forget_window(h2x_session *session, h2x_stream *stream)
{
    give_back(session, stream, stream->wider_by);
}

void h2x_session_widen(h2x_session *session, h2x_stream *stream)
{
    const h2x_windows *windows = &session->windows;
    int32_t more;

    if (stream->in.state == H2X_INPUT_ENDED) {
        h2x_session_forget_window(session, stream);
        return;
    }
    more = take(session, stream, windows->wanted - windows->initial
                                 - stream->wider_by);
    h2x_session_check_outside(session);
    if (more && nghttp2_session_set_local_window_size(
                    session->ng, NGHTTP2_FLAG_NONE, stream->id,
                    windows->initial + stream->wider_by) != 0) {
        give_back(session, stream, more);
    }
}
