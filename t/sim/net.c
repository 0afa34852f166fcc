/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "net.h"
#include "schedule.h"

#include <stdlib.h>
#include <string.h>

#include <apr_poll.h>

#include <http_core.h>

#include "h2x_io.h"

/* What may be written at once, as h2x_io.c has it. */
#define WRITE_SIZE (48 * 1024)

typedef struct {
    char *data;
    apr_size_t at;
    apr_size_t len;     /* up to here */
    apr_size_t size;
} bytes;

struct apr_socket_t {
    bytes in;           /* to the server */
    bytes out;          /* to the client */
    apr_size_t capacity; /* of that */
    bytes held;         /* by the filters of the connection */
    int is_shut;        /* the client says no more */
    int is_left;        /* it has closed */
    int is_closed;      /* the server has, */
    int is_finished;    /* or says no more */
};

/* ---- bytes ---- */

static apr_size_t left(const bytes *b)
{
    return b->len - b->at;
}

static void put(bytes *b, const void *data, apr_size_t len)
{
    if (b->at == b->len) {
        b->at = b->len = 0;
    }
    if (b->len + len > b->size) {
        b->size = 2 * (b->len + len);
        b->data = realloc(b->data, b->size);
    }
    memcpy(b->data + b->len, data, len);
    b->len += len;
}

static apr_size_t get(bytes *b, void *to, apr_size_t len)
{
    len = len < left(b) ? len : left(b);
    memcpy(to, b->data + b->at, len);
    b->at += len;
    return len;
}

static apr_status_t free_bytes(void *baton)
{
    apr_socket_t *s = baton;

    free(s->in.data);
    free(s->out.data);
    free(s->held.data);
    return APR_SUCCESS;
}

apr_socket_t *net_socket(apr_pool_t *p, apr_size_t capacity)
{
    apr_socket_t *s = apr_pcalloc(p, sizeof(*s));

    s->capacity = capacity;
    apr_pool_cleanup_register(p, s, free_bytes, apr_pool_cleanup_null);
    return s;
}

/* ---- the client's side ---- */

void net_send(apr_socket_t *s, const void *data, apr_size_t len)
{
    if (!s->is_closed && !s->is_shut) {
        put(&s->in, data, len);
    }
    sim_point();
}

apr_size_t net_receive(apr_socket_t *s, void *to, apr_size_t len)
{
    apr_size_t n = get(&s->out, to, len);

    sim_point();
    return n;
}

int net_is_ended(const apr_socket_t *s)
{
    return !left(&s->out) && (s->is_closed || s->is_finished);
}

int net_has_news(const apr_socket_t *s)
{
    return left(&s->out) || s->is_closed || s->is_finished;
}

void net_shut(apr_socket_t *s)
{
    s->is_shut = 1;
    sim_point();
}

void net_leave(apr_socket_t *s)
{
    s->is_shut = s->is_left = 1;
    s->out.at = s->out.len = 0;
    sim_point();
}

/* ---- the server's side ---- */

int net_is_readable(const apr_socket_t *s)
{
    return left(&s->in) || s->is_shut || s->is_closed;
}

int net_is_writable(const apr_socket_t *s)
{
    return left(&s->out) < s->capacity || s->is_left || s->is_closed;
}

void net_close(apr_socket_t *s)
{
    s->is_closed = 1;
    sim_point();
}

/* ---- polling ---- */

#define DESCRIPTORS_MAX 64

struct apr_pollset_t {
    apr_pollfd_t pfds[DESCRIPTORS_MAX];
    int count;
    apr_pollfd_t found[DESCRIPTORS_MAX];
    int is_woken;
};

static apr_int16_t events(const apr_pollfd_t *pfd)
{
    const apr_socket_t *s = pfd->desc.s;
    apr_int16_t found = 0;

    if (net_is_readable(s)) {
        found |= pfd->reqevents & APR_POLLIN;
    }
    if (net_is_writable(s)) {
        found |= pfd->reqevents & APR_POLLOUT;
    }
    if (s->is_left || s->is_closed) {
        found |= APR_POLLHUP;
    }
    return found;
}

APR_DECLARE(apr_status_t) apr_pollset_create(apr_pollset_t **pollset,
                                             apr_uint32_t size UNUSED,
                                             apr_pool_t *p,
                                             apr_uint32_t flags UNUSED)
{
    *pollset = apr_pcalloc(p, sizeof(**pollset));
    return APR_SUCCESS;
}

APR_DECLARE(apr_status_t) apr_pollset_add(apr_pollset_t *pollset,
                                          const apr_pollfd_t *pfd)
{
    SIM_CHECK(pollset->count < DESCRIPTORS_MAX, "too many descriptors");
    pollset->pfds[pollset->count++] = *pfd;
    sim_point();
    return APR_SUCCESS;
}

APR_DECLARE(apr_status_t) apr_pollset_remove(apr_pollset_t *pollset,
                                             const apr_pollfd_t *pfd)
{
    int i;

    for (i = 0; i < pollset->count; ++i) {
        if (pollset->pfds[i].client_data == pfd->client_data) {
            pollset->pfds[i] = pollset->pfds[--pollset->count];
            sim_point();
            return APR_SUCCESS;
        }
    }
    sim_fail("a descriptor is taken off a pollset that has it not");
}

static int has_event(const void *baton)
{
    const apr_pollset_t *pollset = baton;
    int i;

    for (i = 0; i < pollset->count; ++i) {
        if (events(&pollset->pfds[i])) {
            return 1;
        }
    }
    return pollset->is_woken;
}

APR_DECLARE(apr_status_t) apr_pollset_poll(apr_pollset_t *pollset,
                                           apr_interval_time_t timeout,
                                           apr_int32_t *count,
                                           const apr_pollfd_t **found)
{
    int i;

    sim_point();
    sim_wait(has_event, pollset, timeout < 0 ? 0 : sim_now() + timeout,
             "events");
    *count = 0;
    *found = pollset->found;
    for (i = 0; i < pollset->count; ++i) {
        apr_int16_t rtnevents = events(&pollset->pfds[i]);

        if (rtnevents) {
            pollset->found[*count] = pollset->pfds[i];
            pollset->found[(*count)++].rtnevents = rtnevents;
        }
    }
    if (pollset->is_woken) {
        pollset->is_woken = 0;
        return APR_EINTR;
    }
    return *count ? APR_SUCCESS : APR_TIMEUP;
}

APR_DECLARE(apr_status_t) apr_pollset_wakeup(apr_pollset_t *pollset)
{
    pollset->is_woken = 1;
    sim_point();
    return APR_SUCCESS;
}

/* ---- h2x_io.h ---- */

static apr_socket_t *socket_of(const conn_rec *c1)
{
    return ap_get_conn_socket((conn_rec *)c1);
}

/* Who uses the filters of a connection holds its lock, and may wait for
 * nothing. */
static void check_locked(const h2x_io *io)
{
    SIM_CHECK(sim_locks_held() == 1 || io->may_block,
              "filters are used with %d locks held", sim_locks_held());
}

void h2x_io_init(h2x_io *io, conn_rec *c1, const server_rec *s UNUSED)
{
    io->c1 = c1;
    io->size = WRITE_SIZE;
}

void h2x_io_shut(h2x_io *io)
{
    socket_of(io->c1)->is_finished = 1;
}

void h2x_io_end(h2x_io *io)
{
    io->may_block = 1;
}

void net_flush(conn_rec *c1)
{
    apr_socket_t *s = socket_of(c1);
    apr_size_t room, n;

    if (s->is_left || s->is_closed) {
        c1->aborted |= (left(&s->held) > 0);
        s->held.at = s->held.len = 0;
    }
    room = left(&s->out) < s->capacity ? s->capacity - left(&s->out) : 0;
    n = left(&s->held) < room ? left(&s->held) : room;
    if (n) {
        sim_did_something(NULL); /* what waits for more may be written */
        put(&s->out, s->held.data + s->held.at, n);
        s->held.at += n;
    }
    c1->data_in_output_filters = (left(&s->held) > 0);
}

int h2x_io_is_writable(h2x_io *io)
{
    check_locked(io);
    net_flush(io->c1);
    return !io->c1->data_in_output_filters && !io->c1->aborted;
}

void h2x_io_write(h2x_io *io, const char *data, apr_size_t len)
{
    check_locked(io);
    SIM_CHECK(len <= io->size, "%d bytes are written at once", (int)len);
    put(&socket_of(io->c1)->held, data, len);
    net_flush(io->c1);
    sim_point();
}

void h2x_io_renew(h2x_io *io)
{
    io->is_drained = 0;
}

void h2x_io_hold(h2x_io *io)
{
    io->is_drained = 1;
}

void h2x_io_rest(h2x_io *io UNUSED)
{
}

apr_status_t h2x_io_read(h2x_io *io,
                         apr_status_t (*receive)(void *baton,
                                                 const char *data,
                                                 apr_size_t len),
                         void *baton, apr_size_t *len)
{
    apr_socket_t *s = socket_of(io->c1);
    char piece[16 * 1024];
    apr_size_t most = sim_one_in(8) ? 1 + sim_random(64) : sizeof(piece);

    check_locked(io);
    *len = 0;
    if (s->is_closed) {
        return APR_ECONNABORTED;
    }
    if (io->is_drained) {
        return APR_EAGAIN;
    }
    *len = get(&s->in, piece, most);
    if (!*len) {
        io->is_drained = !s->is_shut;
        return s->is_shut ? APR_EOF : APR_EAGAIN;
    }
    sim_did_something("reads");
    return receive(baton, piece, *len);
}

static int is_readable(const void *baton)
{
    return net_is_readable(baton);
}

int h2x_io_await(conn_rec *c1, apr_interval_time_t timeout)
{
    SIM_CHECK(!sim_locks_held(), "a lock is held for the client");
    return sim_wait(is_readable, socket_of(c1), sim_now() + timeout,
                    "the client");
}
