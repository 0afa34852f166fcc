/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <string.h>

#include <apr_atomic.h>

#include <httpd.h>

#include "h2x_windows.h"

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

void h2x_windows_init(h2x_windows *windows, int32_t initial, apr_time_t now)
{
    memset(windows, 0, sizeof(*windows));
    windows->initial = initial;
    windows->wanted = WINDOW_MAX;
    windows->sample_at = now;
}

void h2x_windows_end(const h2x_windows *windows)
{
    ap_assert(windows->wider_by == 0);
}

/* Wants a window, within what is allowed. */
static void want(h2x_windows *windows, apr_int64_t size)
{
    windows->wanted = (size < windows->initial) ? windows->initial
        : (size < WINDOW_MAX) ? (int32_t)size : WINDOW_MAX;
}

void h2x_windows_guess(h2x_windows *windows, apr_time_t now)
{
    if (!windows->is_guessed) {
        windows->is_guessed = 1;
        want(windows, (now - windows->sample_at) * RATE);
    }
}

int h2x_windows_count(h2x_windows *windows, apr_off_t body_in, size_t len)
{
    windows->sample += len;
    return !windows->is_sampling && windows->wanted < WINDOW_MAX
           && body_in >= windows->initial / 4;
}

int h2x_windows_is_due(const h2x_windows *windows, apr_time_t now)
{
    return now >= windows->sample_at;
}

void h2x_windows_begin_sample(h2x_windows *windows, apr_time_t now, size_t len)
{
    windows->is_sampling = 1;
    windows->sample_at = now;
    windows->sample = len;
}

void h2x_windows_end_sample(h2x_windows *windows, apr_time_t now)
{
    apr_time_t trip = now - windows->sample_at, pause;

    if (!windows->is_sampling) {
        return;
    }
    windows->is_sampling = 0;
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

void h2x_windows_give_back(h2x_windows *windows, int32_t *wider_by,
                           int32_t less)
{
    *wider_by -= less;
    windows->wider_by -= less;
    apr_atomic_sub32(&child_wider_by, less);
}

int32_t h2x_windows_take(h2x_windows *windows, int32_t *wider_by)
{
    int32_t more = windows->wanted - windows->initial - *wider_by;
    int32_t left = WIDER_MAX - windows->wider_by;
    int32_t left_of_child
        = CHILD_WIDER_MAX - (int32_t)apr_atomic_read32(&child_wider_by);

    more = (more < left) ? more : left;
    more = (more < left_of_child / 8) ? more : left_of_child / 8;
    if (more <= 0) {
        return 0;
    }
    *wider_by += more;
    windows->wider_by += more;
    apr_atomic_add32(&child_wider_by, more);
    return more;
}

int32_t h2x_windows_size(const h2x_windows *windows, int32_t wider_by)
{
    return windows->initial + wider_by;
}
