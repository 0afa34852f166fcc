/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Receive windows that follow the bandwidth-delay product. A window that is
 * smaller makes an upload wait: no more than it holds can come in a round
 * trip. So while bodies come, PINGs measure how much comes in one; when that
 * was most of a window, windows grow to twice as much. They grow for streams
 * whose bodies are read, and together by no more than WIDER_MAX for a
 * connection, as what a request does not read has to be kept.
 */

#include <string.h>

#include "h2x_conf.h"
#include "h2x_session_impl.h"

/* No window grows beyond this; and all of a connection grow by this. */
#define WINDOW_MAX (4 * 1024 * 1024)
#define WIDER_MAX (16 * 1024 * 1024)

/* When they did not grow, so many round trips, and at least so long, pass
 * until that is measured again. */
#define PAUSE_TRIPS 8
#define PAUSE_MIN (100 * 1000)

/* Marks the PINGs that measure. */
static const uint8_t mark[8] = "h2xwindo";

void h2x_session_init_windows(h2x_session *session, const server_rec *s)
{
    session->windows.initial = (int32_t)h2x_conf_get(s, H2X_WINDOW_SIZE);
    session->windows.wanted = session->windows.initial;
}

void h2x_session_sample(h2x_session *session, h2x_stream *stream, size_t len)
{
    h2x_windows *windows = &session->windows;
    apr_time_t now;

    stream->body_in += len;
    windows->sample += len;
    if (windows->is_sampling || windows->wanted >= WINDOW_MAX
        || stream->body_in < windows->initial / 4
        || (now = apr_time_now()) < windows->sample_at) {
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
    apr_time_t now = apr_time_now(), trip = now - windows->sample_at, pause;

    if (!windows->is_sampling || memcmp(data, mark, sizeof(mark))) {
        return;
    }
    windows->is_sampling = 0;
    if (windows->sample / 2 >= (size_t)windows->wanted / 3) {
        windows->wanted = 2 * windows->sample < WINDOW_MAX
            ? 2 * (int32_t)windows->sample : WINDOW_MAX;
        pause = trip; /* until the client has used it */
    }
    else {
        pause = PAUSE_TRIPS * trip;
        pause = (pause > PAUSE_MIN) ? pause : PAUSE_MIN;
    }
    windows->sample_at = now + pause;
}

void h2x_session_widen(h2x_session *session, h2x_stream *stream)
{
    h2x_windows *windows = &session->windows;
    int32_t more = windows->wanted - windows->initial - stream->wider_by;

    if (more > WIDER_MAX - windows->wider_by) {
        more = WIDER_MAX - windows->wider_by;
    }
    if (more <= 0 || stream->in_ended) {
        return;
    }
    if (nghttp2_session_set_local_window_size(
            session->ng, NGHTTP2_FLAG_NONE, stream->id,
            windows->initial + stream->wider_by + more) == 0) {
        stream->wider_by += more;
        windows->wider_by += more;
    }
}

void h2x_session_forget_window(h2x_session *session, h2x_stream *stream)
{
    session->windows.wider_by -= stream->wider_by;
    stream->wider_by = 0;
}
