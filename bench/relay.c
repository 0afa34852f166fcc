/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* relay PORT MS: a loopback port, which it prints, leads to PORT; each byte
 * takes MS milliseconds either way. One thread for each connection. Reading
 * never waits for writing while less than RING bytes are under way. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define RING ((size_t)64 << 20)
#define PIECES 4096
#define PIECE ((size_t)256 << 10)

/* One direction. Counters of bytes only grow; positions are modulo RING. */
struct way {
    int from, to;
    char *ring;
    size_t taken, given;        /* bytes read, bytes written */
    struct {
        int64_t due;            /* when they may leave, ns */
        size_t end;             /* up to here, as of taken */
    } pieces[PIECES];
    size_t first, last;         /* pieces under way; modulo PIECES */
    int ended, done;            /* read an end; passed it on */
};

static int64_t delay;
static struct sockaddr_in target;

static int64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int has_room(const struct way *w)
{
    return !w->ended && w->taken - w->given < RING
           && w->last - w->first < PIECES;
}

static int is_due(const struct way *w, int64_t t)
{
    return w->first < w->last && w->pieces[w->first % PIECES].due <= t;
}

/* Reads what is there. The end is a piece without bytes. */
static void take(struct way *w, int64_t t)
{
    size_t at = w->taken % RING;
    size_t room = RING - (w->taken - w->given);
    ssize_t n;

    if (!has_room(w)) {
        return;
    }
    if (room > RING - at) {
        room = RING - at;
    }
    n = recv(w->from, w->ring + at, room < PIECE ? room : PIECE,
             MSG_DONTWAIT);
    if (n < 0) {
        return;
    }
    w->ended = n == 0;
    w->taken += n;
    w->pieces[w->last % PIECES].due = t + delay;
    w->pieces[w->last % PIECES].end = w->taken;
    w->last++;
}

/* Writes what is due. */
static void give(struct way *w, int64_t t)
{
    while (is_due(w, t)) {
        size_t at = w->given % RING;
        size_t size = w->pieces[w->first % PIECES].end - w->given;
        ssize_t n;

        n = size ? send(w->to, w->ring + at, size,
                        MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
        if (n < 0) {
            return;
        }
        w->given += n;
        if ((size_t)n == size) {
            w->first++;
        }
    }
    if (w->ended && w->first == w->last && !w->done) {
        shutdown(w->to, SHUT_WR);
        w->done = 1;
    }
}

/* What to poll of a's source, which is b's target. */
static struct pollfd interest(const struct way *a, const struct way *b,
                              int64_t t)
{
    struct pollfd p = {a->from, 0, 0};

    p.events = (has_room(a) ? POLLIN : 0) | (is_due(b, t) ? POLLOUT : 0);
    if (!p.events) {
        p.fd = -1;
    }
    return p;
}

static int64_t next_due(const struct way *w, int64_t t, int64_t until)
{
    int64_t due = w->pieces[w->first % PIECES].due;

    return w->first < w->last && due > t && due < until ? due : until;
}

/* Returns 0 when nothing can be done any more: a socket is broken. */
static int carry(struct way *up, struct way *down)
{
    int64_t t = now(), until = t + INT64_C(60000000000);
    struct pollfd fds[2] = {interest(up, down, t), interest(down, up, t)};
    struct timespec wait;

    until = next_due(down, t, next_due(up, t, until)) - t;
    wait.tv_sec = until / 1000000000;
    wait.tv_nsec = until % 1000000000;
    if (ppoll(fds, 2, &wait, NULL) < 0
        || (fds[0].revents | fds[1].revents) & POLLERR) {
        return 0;
    }
    t = now();
    take(up, t);
    take(down, t);
    give(up, t);
    give(down, t);
    return 1;
}

static void *serve(void *arg)
{
    int one = 1, client = (int)(intptr_t)arg;
    int server = socket(AF_INET, SOCK_STREAM, 0);
    struct way *ways = calloc(2, sizeof *ways);
    struct way *up = ways, *down = ways + 1;

    if (ways && !connect(server, (struct sockaddr *)&target, sizeof target)) {
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        up->from = down->to = client;
        up->to = down->from = server;
        up->ring = malloc(RING);
        down->ring = malloc(RING);
        while (up->ring && down->ring && !(up->done && down->done)
               && carry(up, down)) {
        }
        free(up->ring);
        free(down->ring);
    }
    free(ways);
    close(server);
    close(client);
    return NULL;
}

int main(int argc, char **argv)
{
    struct sockaddr_in own = {.sin_family = AF_INET};
    socklen_t size = sizeof own;
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    if (argc != 3) {
        return 2;
    }
    own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    target = own;
    target.sin_port = htons((uint16_t)atoi(argv[1]));
    delay = atoi(argv[2]) * INT64_C(1000000);
    if (bind(listener, (struct sockaddr *)&own, size)
        || listen(listener, 128)
        || getsockname(listener, (struct sockaddr *)&own, &size)) {
        perror("relay");
        return 1;
    }
    printf("%d\n", ntohs(own.sin_port));
    fflush(stdout);
    for (;;) {
        pthread_t thread;
        int client = accept(listener, NULL, NULL);

        if (client >= 0 && !pthread_create(&thread, NULL, serve,
                                           (void *)(intptr_t)client)) {
            pthread_detach(thread);
        }
    }
}
