/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * key_updates PORT COUNT: a client over TLS 1.3 that asks for what makes the
 * server's connection wait for a handler and have much to send, reads some of
 * it, says "asked", and waits for a line. Then it asks for new keys COUNT
 * times (RFC 8446, section 4.6.3), with a PING now and then, and reads nothing
 * at all; it says "done" when it is through or cannot go on, and waits for the
 * end of its input.
 */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <openssl/ssl.h>

enum { SETTINGS = 4, PING = 6, WINDOW_UPDATE = 8, HEADERS = 1 };

static unsigned char out[4096];
static int len;

static void put(const void *data, int n)
{
    memcpy(out + len, data, n);
    len += n;
}

static void put_frame(int type, int flags, int id, const void *data, int n)
{
    unsigned char head[9] = { 0, 0, (unsigned char)n, (unsigned char)type,
                              (unsigned char)flags, 0, 0, 0,
                              (unsigned char)id };

    put(head, 9);
    put(data, n);
}

/* GET of a path, https, localhost. */
static void put_request(int id, const char *path)
{
    unsigned char block[100] = { 0x82, 0x87, 0x04 };
    int n = (int)strlen(path);

    block[3] = (unsigned char)n;
    memcpy(block + 4, path, n);
    memcpy(block + 4 + n, "\x01\x09localhost", 11);
    put_frame(HEADERS, 5, id, block, 4 + n + 11);
}

static SSL *start(int port)
{
    struct sockaddr_in to = { 0 };
    struct timeval patience = { 20, 0 };
    int fd = socket(AF_INET, SOCK_STREAM, 0), small = 2048, on = 1;
    SSL *ssl = SSL_new(SSL_CTX_new(TLS_client_method()));

    to.sin_family = AF_INET;
    to.sin_port = htons((uint16_t)port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    SSL_set_min_proto_version(ssl, TLS1_3_VERSION);
    SSL_set_fd(ssl, fd);
    SSL_set_alpn_protos(ssl, (const unsigned char *)"\2h2", 3);
    SSL_set_tlsext_host_name(ssl, "localhost");
    if (connect(fd, (struct sockaddr *)&to, sizeof(to))
        || SSL_connect(ssl) != 1) {
        fprintf(stderr, "no connection\n");
        exit(1);
    }
    return ssl;
}

int main(int argc, char **argv)
{
    SSL *ssl;
    int i;
    char line[10];

    if (argc != 3) {
        return 1;
    }
    ssl = start(atoi(argv[1]));
    put("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    put_frame(SETTINGS, 0, 0, "\0\4\x7f\xff\xff\xff", 6);
    put_frame(WINDOW_UPDATE, 0, 0, "\x7f\0\0\0", 4);
    put_request(1, "/t/wait?gate=7");
    SSL_write(ssl, out, len);
    len = 0;
    for (i = 3; i <= 7; i += 2) {
        put_request(i, "/big.bin");
    }
    SSL_write(ssl, out, len);
    for (i = 0; i < 20000; i += len) {  /* until they come */
        len = SSL_read(ssl, out, sizeof(out));
        if (len <= 0) {
            return 1;
        }
    }
    puts("asked");
    fflush(stdout);
    if (!fgets(line, sizeof(line), stdin)) {
        return 1;
    }
    len = 0;
    put_frame(PING, 0, 0, "12345678", 8);
    for (i = 0; i < atoi(argv[2]); ++i) {
        if (SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED) != 1
            || SSL_do_handshake(ssl) != 1
            || (i % 16 == 15 && SSL_write(ssl, out, len) != len)) {
            break;
        }
    }
    puts("done");
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin)) {
        continue;
    }
    return 0;
}
