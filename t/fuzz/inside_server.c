/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * A whole server: the input is what clients send on some connections, in
 * steps that begin with a letter (see steps[]), with pauses and resets. The
 * server answers by the first letter of a request's path (see handlers[]).
 * At the end all connections have to end.
 */

#include "client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sys/socket.h>

#include <httpd.h>
#include <http_config.h>
#include <http_connection.h>
#include <http_protocol.h>

const int fuzz_is_in_child = 1;

#define CLIENTS 3

/* ---- the server's part ---- */

static int do_echo(request_rec *r)
{
    char buffer[5000];
    long n;

    if (ap_setup_client_block(r, REQUEST_CHUNKED_DECHUNK) == OK
        && ap_should_client_block(r)) {
        while ((n = ap_get_client_block(r, buffer, sizeof(buffer))) > 0) {
            ap_rwrite(buffer, (int)n, r);
            ap_rflush(r);
        }
    }
    return OK;
}

static int do_large(request_rec *r)
{
    char buffer[7000];
    int i;

    memset(buffer, 'x', sizeof(buffer));
    for (i = 0; i < 40; ++i) {
        ap_rwrite(buffer, sizeof(buffer), r);
    }
    return OK;
}

static int do_links(request_rec *r)
{
    apr_table_setn(r->headers_out, "Link", "</s>; rel=preload, </l1>; "
                   "rel=preload, </e>; rel=preload; nopush");
    apr_table_setn(r->trailers_out, "X-Trailer", "1");
    ap_rputs("links", r);
    return OK;
}

static int do_interim(request_rec *r)
{
    r->status = 103;
    apr_table_setn(r->headers_out, "Link", "</s>; rel=preload");
    ap_send_interim_response(r, 1);
    r->status = 200;
    ap_rputs("interim", r);
    return OK;
}

/* Fails, with something sent before or not. */
static int do_fail(request_rec *r)
{
    if (r->args) {
        ap_rputs("half", r);
        ap_rflush(r);
    }
    return HTTP_INTERNAL_SERVER_ERROR;
}

static int do_slow(request_rec *r)
{
    ap_rputs("slow", r);
    ap_rflush(r);
    apr_sleep(3000);
    ap_rputs("ly", r);
    return OK;
}

static int (*const handlers[256])(request_rec *r) = {
    ['e'] = do_echo, ['b'] = do_large, ['l'] = do_links,
    ['i'] = do_interim, ['f'] = do_fail, ['w'] = do_slow,
};

/* Others are files. */
static int handle(request_rec *r)
{
    unsigned char letter = r->uri && *r->uri ? (unsigned char)r->uri[1] : 0;

    return handlers[letter] ? handlers[letter](r) : DECLINED;
}

static void register_hooks(apr_pool_t *p UNUSED)
{
    client_register_hooks();
    ap_hook_handler(handle, NULL, NULL, APR_HOOK_FIRST);
}

module AP_MODULE_DECLARE_DATA fuzz_server_module = {
    STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, register_hooks
};

/* ---- clients ---- */

static int sockets[CLIENTS]; /* -1: not connected */
static int at;               /* the one that steps are about */

/* The connection of the step, made when there is none. */
static int current(void)
{
    if (sockets[at] < 0) {
        sockets[at] = client_join("FUZZ_PORT");
        client_greet(sockets[at]);
    }
    return sockets[at];
}

/* Reads what has come, or comes within a time. Returns 0 at the end. */
static int hear(int fd, int ms)
{
    struct pollfd wanted = { fd, POLLIN, 0 };
    char buffer[65536];

    while (poll(&wanted, 1, ms) > 0) {
        if (recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT) <= 0) {
            return 0;
        }
    }
    return 1;
}

/* Sends, and reads when the server wants to be read first. */
static void say(const void *data, size_t len)
{
    int fd = current(), tries = 1000;
    const char *next = data;

    while (len && tries--) {
        ssize_t n = send(fd, next, len, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n > 0) {
            next += n;
            len -= (size_t)n;
        }
        else if (n < 0 && errno != EAGAIN) {
            return;
        }
        else if (!hear(fd, 1)) {
            return;
        }
    }
}

static void hang_up(int reset)
{
    struct linger now = { 1, 0 };

    if (sockets[at] >= 0) {
        if (reset) {
            setsockopt(sockets[at], SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        }
        close(sockets[at]);
        sockets[at] = -1;
    }
}

/* ---- steps ---- */

static void say_frame(unsigned type, unsigned flags, unsigned id,
                      const char *payload, size_t len)
{
    say(fuzz_frame(type, flags, id, payload, len), FUZZ_FRAME_HEAD + len);
}

/* A frame: type, flags, stream, length of the payload and that. */
static void step_frame(void)
{
    unsigned type = fuzz_byte(), flags = fuzz_byte(), id = fuzz_byte();
    size_t len = fuzz_piece_size(fuzz_byte());

    say_frame(type, flags, id, fuzz_piece(len), len);
}

/* DATA: flags, stream, length. */
static void step_data(void)
{
    unsigned flags = fuzz_byte(), id = fuzz_byte(), len = fuzz_size();

    say_frame(0, flags, id, apr_pcalloc(unit_pool, len), len);
}

/* Bytes, with their length. */
static void step_raw(void)
{
    size_t len = fuzz_piece_size(fuzz_byte());

    say(fuzz_piece(len), len);
}

/* Another connection is meant from now on: which. */
static void step_switch(void)
{
    at = (int)fuzz_byte() % CLIENTS;
}

/* A connection that does not begin with HTTP/2. */
static void step_plain(void)
{
    hang_up(0);
    sockets[at] = client_join("FUZZ_PORT");
}

static void step_reset(void)
{
    hang_up(1);
}

static void step_close(void)
{
    hang_up(0);
}

static void step_half_close(void)
{
    shutdown(current(), SHUT_WR);
}

static void step_pause(void)
{
    apr_sleep(fuzz_byte() * 20);
}

static void step_hear(void)
{
    hear(current(), 1);
}

static void (*const steps[256])(void) = {
    ['F'] = step_frame, ['D'] = step_data, ['R'] = step_raw,
    ['c'] = step_switch, ['H'] = step_plain, ['X'] = step_reset,
    ['C'] = step_close, ['h'] = step_half_close, ['p'] = step_pause,
    ['.'] = step_hear,
};

/* All clients go; the server notices that, whatever it does. */
static void finish(void)
{
    for (at = 0; at < CLIENTS; ++at) {
        if (sockets[at] >= 0) {
            hear(sockets[at], 1);
            hang_up(0);
        }
    }
    client_await_end();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_begin(data, size);
    for (at = 0; at < CLIENTS; ++at) {
        sockets[at] = -1;
    }
    at = 0;
    while (fuzz_left()) {
        unsigned letter = fuzz_byte();

        if (steps[letter]) {
            steps[letter]();
        }
    }
    finish();
    fuzz_end();
    return 0;
}
