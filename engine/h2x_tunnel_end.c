/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <sys/socket.h>

#include <apr_portable.h>

#include "h2x.h"
#include "h2x_tunnel_end.h"

/* mod_proxy ends the direction to the client by shutting down its socket of the
 * pair for writing, while the other direction goes on. */
typedef struct {
    h2x_entry entry;
    h2x_drive *drive;
    h2x_stream *stream;
} tunnel_end;

static void on_tunnel_end(void *baton, h2x_member *member)
{
    tunnel_end *end = baton;
    h2x_drive *drive = end->drive;
    h2x_stream *stream = end->stream;
    char c;

    (void)member;
    h2x_lock_acquire(&drive->lock);
    if (!stream->is_closed && recv(stream->signal[1], &c, 1, 0) == 0) {
        h2x_stream_end_output_locked(stream, H2X_OUTPUT_ENDS);
        if (stream->job.tunnel == H2X_TUNNEL_WEBSOCKET
            && stream->in.state < H2X_INPUT_CUT) {
            /* the closing handshake is over (RFC 6455, section 7.1.1) */
            h2x_stream_advance_in_locked(stream, H2X_INPUT_CUT);
            h2x_stream_wake_locked(stream);
        }
        h2x_session_output(drive->session, stream);
        h2x_drive_advance_locked(drive, H2X_TURN_OUTPUT);
    }
    h2x_lock_release(&drive->lock);
}

void h2x_tunnel_end_watch(void *baton, h2x_stream *stream)
{
    tunnel_end *end = apr_pcalloc(stream->pool, sizeof(*end));
    apr_socket_t *socket = NULL;

    if (stream->job.tunnel_end
        || apr_os_sock_put(&socket, &stream->signal[1], stream->pool)
               != APR_SUCCESS) {
        return;
    }
    end->drive = baton;
    end->stream = stream;
    end->entry.on_ready = on_tunnel_end;
    end->entry.baton = end;
    stream->job.tunnel_end = end;
    h2x_threads_add(h2x_child_self->threads, &end->entry, socket);
    h2x_threads_arm(h2x_child_self->threads, &end->entry, APR_POLLIN);
}

void h2x_tunnel_end_forget(h2x_stream *stream)
{
    if (stream->job.tunnel_end) {
        h2x_threads_forget(h2x_child_self->threads,
                           &((tunnel_end *)stream->job.tunnel_end)->entry);
    }
}
