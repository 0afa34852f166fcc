/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Request heads: the input says which pseudo-fields and fields each of some
 * requests has, and their values, of the tables here or of its own. Whatever
 * they are, each gets an answer.
 */

#include "client.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

#include <sys/socket.h>

#include <httpd.h>
#include <http_config.h>
#include <http_protocol.h>
#include <util_script.h>

const int fuzz_is_in_child = 1;

#define HEADS_MAX 16
#define HEAD_SIZE (60 * 1024)
#define FRAME_MAX (16 * 1024)
#define PIECE_MAX 126
#define VALUE_MAX 20000 /* more than LimitRequestLine and
                         * LimitRequestFieldSize allow */

/* ---- the server's part ---- */

/* Looks at what other handlers look at. */
static int handle(request_rec *r)
{
    if (!strcmp(r->uri, "/s")) {
        return DECLINED;
    }
    ap_add_common_vars(r);
    ap_add_cgi_vars(r);
    if (ap_discard_request_body(r) != OK) {
        return HTTP_BAD_REQUEST;
    }
    ap_set_content_type(r, "text/plain");
    apr_table_setn(r->headers_out, "Link", "</s>; rel=preload");
    ap_rputs(ap_escape_html(r->pool, r->the_request), r);
    return OK;
}

static void register_hooks(apr_pool_t *p UNUSED)
{
    client_register_hooks();
    ap_hook_handler(handle, NULL, NULL, APR_HOOK_FIRST);
}

module AP_MODULE_DECLARE_DATA fuzz_heads_module = {
    STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, register_hooks
};

/* ---- heads ---- */

#define VALUES 12 /* of each kind; those that are missing are "" */

static const char *const methods[VALUES] = {
    "GET", "CONNECT", "HEAD", "POST", "OPTIONS", "PUT", "TRACE", "DELETE",
    "PROPFIND", "get", "PRI"
};
static const char *const schemes[VALUES] = {
    "http", "https", "HTTP", "ftp", "a b", "http:"
};
static const char *const authorities[VALUES] = {
    "localhost", "localhost:80", "localhost:443", "other.example", "LOCALHOST",
    "localhost:", ":80", "[::1]:80", "a@localhost", "localhost:99999", "*"
};
static const char *const paths[VALUES] = {
    "/", "/s", "*", "/a/../s?b=c", "http://localhost/", "//s", "s",
    "localhost:443", "/%2e%2e/%00", "/s?http://a/", "/s#a"
};
static const char *const protocols[VALUES] = {
    "websocket", "connect-udp", "WebSocket", "HTTP/1.1"
};
static const char *const names[VALUES] = {
    "content-length", "cookie", "expect", "upgrade", "te", "transfer-encoding",
    "accept-push-policy", "sec-websocket-version", "trailer", "range",
    "priority"
};
static const char *const values[VALUES] = {
    "3", "0", "100-continue", "websocket", "trailers", "chunked", "none",
    "bytes=0-1", "u=1", "a=b", "13"
};

/* The pseudo-fields, by the bit that says that there is one, and Host. */
static const struct {
    const char *name;
    const char *const *values;
} parts[] = {
    { ":method", methods }, { ":scheme", schemes },
    { ":authority", authorities }, { ":path", paths },
    { ":protocol", protocols }, { "host", authorities },
};
#define PARTS (sizeof(parts) / sizeof(parts[0]))

#define IS_ENDED 0x40 /* there is no body */
#define HAS_MORE 0x80 /* other fields follow: their number, names, values */

static char block[HEAD_SIZE];
static size_t block_len;

/* A text again and again. */
static const char *repeat(const char *text, size_t size)
{
    size_t len = strlen(text), i;
    char *made = apr_palloc(unit_pool, size + 1);

    for (i = 0; i < size; ++i) {
        made[i] = len ? text[i % len] : 'a';
    }
    made[size] = 0;
    return made;
}

/* A byte says which of a table, or that a text follows, with its length. */
static const char *choose(const char *const *table)
{
    unsigned which = fuzz_byte();
    const char *text;

    if (which < 0xc0) {
        return table[which % VALUES] ? table[which % VALUES] : "";
    }
    text = fuzz_piece(fuzz_piece_size(fuzz_byte() % (PIECE_MAX + 1)));
    return which < 0xf0 ? text : repeat(text, fuzz_size() % (VALUE_MAX + 1));
}

/* A number whose first byte has room for 127 (RFC 7541, section 5.1). */
static void add_length(size_t len)
{
    if (len < 127) {
        block[block_len++] = (char)len;
        return;
    }
    block[block_len++] = 127;
    for (len -= 127; len >= 128; len /= 128) {
        block[block_len++] = (char)(len % 128 | 128);
    }
    block[block_len++] = (char)len;
}

static void add_text(const char *text)
{
    size_t len = strlen(text);

    add_length(len);
    memcpy(block + block_len, text, len);
    block_len += len;
}

/* A literal, in the way that the first byte says (RFC 7541, section 6.2). */
static void add_field(int how, const char *name, const char *value)
{
    if (block_len + strlen(name) + strlen(value) + 9 <= HEAD_SIZE) {
        block[block_len++] = (char)how;
        add_text(name);
        add_text(value);
    }
}

/* Some more of the last one in the table, a byte each. */
static void add_again(void)
{
    unsigned count = fuzz_size() % 4096;

    for (; count && block_len < HEAD_SIZE; --count) {
        block[block_len++] = (char)0xbe;
    }
}

static void make_block(unsigned has)
{
    unsigned i;

    block_len = 0;
    for (i = 0; i < PARTS; ++i) {
        if (has & 1u << i) {
            add_field(0, parts[i].name, choose(parts[i].values));
        }
    }
    for (i = (has & HAS_MORE) ? fuzz_byte() % 8 : 0; i; --i) {
        const char *name = choose(names);
        int how = (fuzz_byte() & 3) ? 0 : 0x40; /* added to the table */

        add_field(how, name, choose(values));
        if (how) {
            add_again();
        }
    }
}

/* ---- a client ---- */

static void say_frame(int fd, unsigned type, unsigned flags, unsigned id,
                      const char *payload, size_t len)
{
    send(fd, fuzz_frame(type, flags, id, payload, len), FUZZ_FRAME_HEAD + len,
         MSG_NOSIGNAL);
}

static void say_head(int fd, unsigned id)
{
    unsigned has = fuzz_byte();
    size_t done = 0, len;

    make_block(has);
    do {
        len = block_len - done < FRAME_MAX ? block_len - done : FRAME_MAX;
        say_frame(fd, done ? 9 : 1,
                  (done + len == block_len ? 4 : 0)
                  | (!done && (has & IS_ENDED) ? 1 : 0), id, block + done,
                  len);
        done += len;
    } while (done < block_len);
    if (!(has & IS_ENDED)) {
        say_frame(fd, 0, 1, id, "abc", 3);
    }
}

/* Reads bytes. Returns 0 when the connection has ended. */
static int hear(int fd, char *to, size_t len)
{
    while (len) {
        struct pollfd wanted = { fd, POLLIN, 0 };
        ssize_t n;

        FUZZ_CHECK(poll(&wanted, 1, CLIENT_PATIENCE_MS) > 0);
        n = recv(fd, to, len, 0);
        if (n <= 0) {
            return 0;
        }
        to += n;
        len -= (size_t)n;
    }
    return 1;
}

/* Reads frames until each request has an answer, or there is no connection. */
static void hear_answers(int fd, unsigned count)
{
    static char payload[1 << 14];
    char has_ended[HEADS_MAX] = { 0 };
    unsigned char head[FUZZ_FRAME_HEAD];

    while (count && hear(fd, (char *)head, sizeof(head))) {
        size_t len = (size_t)head[1] << 8 | head[2];
        unsigned type = head[3], id = head[8];
        int is_end = type == 3 || (type <= 1 && (head[4] & 1));

        FUZZ_CHECK(!head[0] && len <= sizeof(payload));
        if (!hear(fd, payload, len)) {
            return;
        }
        if (is_end && id % 2 && !has_ended[id / 2]) {
            has_ended[id / 2] = 1;
            --count;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned count = 0;
    int fd;

    fuzz_begin(data, size);
    fd = client_join((fuzz_byte() & 1) ? "FUZZ_PORT_2" : "FUZZ_PORT");
    client_greet(fd);
    say_frame(fd, 8, 0, 0, "\0\x0f\0\0", 4);
    while (fuzz_left() && count < HEADS_MAX) {
        say_head(fd, 2 * count++ + 1);
    }
    hear_answers(fd, count);
    close(fd);
    client_await_end();
    fuzz_end();
    return 0;
}
