/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <apr_poll.h>
#include <apr_portable.h>

#include <http_core.h>

#include "h2x_io.h"
#include "memory.h"
#include "../../engine/h2x_poll.h"

/* What may be written at once, as h2x_io.c has it. */
#define WRITE_SIZE (48 * 1024)

typedef struct {
    char *data;
    apr_size_t at;
    apr_size_t len;     /* up to here */
    apr_size_t size;
} bytes;

#define SOCKETS_MAX 64 /* bits */

struct apr_socket_t {
    int fd;             /* its place among these: */
    bytes in;           /* to the server */
    bytes out;          /* to the client */
    apr_size_t capacity; /* of that */
    bytes held;         /* by the filters of the connection */
    int is_shut;        /* the client says no more, */
    int is_end_read;    /* which the server knows */
    int is_left;        /* it has closed */
    int is_lost;        /* it cannot be waited for */
    int is_closed;      /* the server has, */
    int is_finished;    /* or says no more */
    apr_socket_t *peer; /* of a pair */
};

static apr_socket_t *sockets[SOCKETS_MAX]; /* that are not closed */

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
        b->data = memory_resize(b->data, b->size);
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

    memory_free(s->in.data);
    memory_free(s->out.data);
    memory_free(s->held.data);
    return APR_SUCCESS;
}

apr_socket_t *net_socket(apr_pool_t *p, apr_size_t capacity)
{
    apr_socket_t *s = apr_pcalloc(p, sizeof(*s));

    s->capacity = capacity;
    while (sockets[s->fd]) {
        ++s->fd;
        SIM_CHECK(s->fd < SOCKETS_MAX, "too many sockets");
    }
    sockets[s->fd] = s;
    apr_pool_cleanup_register(p, s, free_bytes, apr_pool_cleanup_null);
    return s;
}

/* ---- pairs, by which requests are told that there is something ---- */

static apr_socket_t *one_of_pair(int fd)
{
    SIM_CHECK(fd >= 0 && fd < SOCKETS_MAX && sockets[fd] && sockets[fd]->peer,
              "descriptor %d is no socket of a pair", fd);
    return sockets[fd];
}

int __wrap_socketpair(int domain, int type, int protocol, int fds[2]);
ssize_t __wrap_write(int fd, const void *data, size_t len);
ssize_t __wrap_read(int fd, void *to, size_t len);
ssize_t __wrap_recv(int fd, void *to, size_t len, int flags);
int __wrap_close(int fd);

int __wrap_socketpair(int domain UNUSED, int type UNUSED,
                      int protocol UNUSED, int fds[2])
{
    apr_socket_t *one, *other;

    if (sim.may_fail && sim_one_in(8)) {
        errno = EMFILE;
        return -1;
    }
    one = net_socket(sim.pool, 1);
    other = net_socket(sim.pool, 1);
    one->peer = other;
    other->peer = one;
    fds[0] = one->fd;
    fds[1] = other->fd;
    return 0;
}

ssize_t __wrap_write(int fd, const void *data, size_t len)
{
    apr_socket_t *s = one_of_pair(fd);

    SIM_CHECK(!s->peer->is_shut, "is written to a socket that is shut");
    put(&s->peer->in, data, len);
    sim_point();
    return (ssize_t)len;
}

ssize_t __wrap_read(int fd, void *to, size_t len)
{
    apr_socket_t *s = one_of_pair(fd);
    apr_size_t n = get(&s->in, to, len);

    sim_point();
    if (!n && !s->is_shut) {
        errno = EAGAIN;
        return -1;
    }
    return (ssize_t)n;
}

ssize_t __wrap_recv(int fd, void *to, size_t len, int flags UNUSED)
{
    return __wrap_read(fd, to, len);
}

int __wrap_close(int fd)
{
    apr_socket_t *s = one_of_pair(fd);

    s->peer->is_shut = s->peer->is_left = 1;
    net_close(s);
    return 0;
}

int net_is_signalled(int fd)
{
    return left(&one_of_pair(fd)->in) > 0;
}

void net_shut_signal(int fd)
{
    one_of_pair(fd)->peer->is_shut = 1;
    sim_point();
}

APR_DECLARE(apr_status_t) apr_os_sock_put(apr_socket_t **s, apr_os_sock_t *fd,
                                          apr_pool_t *p UNUSED)
{
    *s = one_of_pair(*fd);
    return APR_SUCCESS;
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

int net_is_lost(const apr_socket_t *s)
{
    return s->is_lost;
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

int net_is_unread(const apr_socket_t *s)
{
    return net_is_readable(s) && !s->is_end_read;
}

int net_is_writable(const apr_socket_t *s)
{
    return left(&s->out) < s->capacity || s->is_left || s->is_closed;
}

/* ---- h2x_poll.h ---- */

#define WAITERS_MAX 16

/* A descriptor in the set, and what is asked for. */
typedef struct {
    int is_in;
    apr_int16_t armed;   /* one of these is told, once */
    apr_uint32_t id;
    apr_interval_time_t idle; /* since it could be told while no processor was
                               * used, and */
    apr_interval_time_t waits; /* since it could be told at all */
} watched;

struct h2x_poll {
    watched fds[SOCKETS_MAX];
    apr_uint64_t armed;  /* a bit for each of them that is armed */
    int wakes;
    int merges_wakes;    /* several are one, until a thread has come */
    int is_last_first;   /* only the last that came is told; else any */
    int is_split;        /* each direction is told for itself: kqueue */
    const fiber *waiters[WAITERS_MAX]; /* in the order they came */
    int waiter_count;
};

/* That of the child: there is one. */
static h2x_poll *child_poll;

apr_status_t h2x_poll_create(h2x_poll **poll, apr_pool_t *p)
{
    *poll = apr_pcalloc(p, sizeof(**poll));
    (*poll)->merges_wakes = !sim_one_in(4);
    (*poll)->is_last_first = sim_one_in(2);
    (*poll)->is_split = sim_one_in(4);
    child_poll = *poll;
    return APR_SUCCESS;
}

/* What is true of a socket. */
static apr_int16_t state_of(const apr_socket_t *s)
{
    return (net_is_readable(s) ? APR_POLLIN : 0)
           | (net_is_writable(s) ? APR_POLLOUT : 0)
           | (s->is_left ? APR_POLLHUP : 0);
}

static apr_int16_t events_of(const h2x_poll *poll, int fd)
{
    return poll->fds[fd].armed ? poll->fds[fd].armed & state_of(sockets[fd])
                               : 0;
}

static void arm(h2x_poll *poll, int fd, apr_int16_t events)
{
    apr_uint64_t bit = (apr_uint64_t)1 << fd;

    poll->fds[fd].armed = events;
    poll->armed = events ? poll->armed | bit : poll->armed & ~bit;
}

apr_status_t h2x_poll_set(h2x_poll *poll, int fd, apr_int16_t events,
                          apr_uint32_t id)
{
    watched *w;

    SIM_CHECK(fd >= 0 && fd < SOCKETS_MAX && sockets[fd],
              "descriptor %d is asked for, which is closed", fd);
    SIM_CHECK(id, "a descriptor is asked for without an id");
    SIM_CHECK(!(events & ~(APR_POLLIN | APR_POLLOUT)),
              "events %x are asked for", events);
    if (sim.may_fail && sim_one_in(200)) {
        sim_did_something(NULL);
        sockets[fd]->is_lost = 1;
        return APR_ENOMEM;
    }
    w = &poll->fds[fd];
    if (events || w->is_in) {
        w->is_in = 1;
        w->id = id;
        /* epoll tells of failure whether it is asked for or not */
        arm(poll, fd, events | (poll->is_split ? 0 : APR_POLLHUP));
        w->idle = w->waits = 0;
    }
    sim_point();
    return APR_SUCCESS;
}

void h2x_poll_remove(h2x_poll *poll, int fd)
{
    SIM_CHECK(fd >= 0 && fd < SOCKETS_MAX && sockets[fd],
              "descriptor %d is taken out after it was closed", fd);
    arm(poll, fd, 0);
    memset(&poll->fds[fd], 0, sizeof(poll->fds[fd]));
    sim_point();
}

static int has_event(const h2x_poll *poll)
{
    int fd, found = poll->wakes;

    for (fd = 0; fd < SOCKETS_MAX && poll->armed >> fd && !found; ++fd) {
        found = events_of(poll, fd);
    }
    return found;
}

typedef struct {
    const h2x_poll *poll;
    const fiber *self;
} waiter;

static int is_told(const void *baton)
{
    const waiter *me = baton;
    const h2x_poll *poll = me->poll;

    return (!poll->is_last_first
            || poll->waiters[poll->waiter_count - 1] == me->self)
           && has_event(poll);
}

/* Takes one of the events; 0: none, or one for which there was a wake. */
static apr_uint32_t take_event(h2x_poll *poll)
{
    int able[SOCKETS_MAX + 1], count = 0, fd;
    apr_int16_t events;

    for (fd = 0; fd < SOCKETS_MAX && poll->armed >> fd; ++fd) {
        if (events_of(poll, fd)) {
            able[count++] = fd;
        }
    }
    if (poll->wakes) {
        able[count++] = -1;
    }
    if (!count) {
        return 0;
    }
    fd = able[sim_random((unsigned)count)];
    if (fd < 0) {
        --poll->wakes;
        return 0;
    }
    events = events_of(poll, fd);
    if (poll->is_split && events == (APR_POLLIN | APR_POLLOUT)) {
        events = sim_one_in(2) ? APR_POLLIN : APR_POLLOUT;
    }
    arm(poll, fd, poll->is_split ? poll->fds[fd].armed & ~events : 0);
    sim_did_something("handles an event"); /* there was none */
    return poll->fds[fd].id;
}

static void leave_waiters(h2x_poll *poll)
{
    int i = 0;

    while (poll->waiters[i] != sim_self()) {
        ++i;
    }
    --poll->waiter_count;
    memmove(&poll->waiters[i], &poll->waiters[i + 1],
            (size_t)(poll->waiter_count - i) * sizeof(poll->waiters[0]));
}

apr_uint32_t h2x_poll_wait(h2x_poll *poll, apr_interval_time_t timeout)
{
    waiter me = { poll, sim_self() };
    apr_uint32_t id;

    SIM_CHECK(!timeout || !sim_locks_held(),
              "a thread waits for events with a lock held");
    sim_point();
    if (timeout) {
        SIM_CHECK(poll->waiter_count < WAITERS_MAX, "too many wait");
        poll->waiters[poll->waiter_count++] = me.self;
        sim_wait_for_events(is_told, &me,
                            timeout < 0 ? 0 : sim_now() + timeout);
        leave_waiters(poll);
    }
    id = take_event(poll);
    sim_point(); /* it may be of the past when it is looked at */
    return id;
}

void h2x_poll_wake(h2x_poll *poll)
{
    poll->wakes = poll->merges_wakes ? 1 : poll->wakes + 1;
    sim_point();
}

void net_close(apr_socket_t *s)
{
    SIM_CHECK(!child_poll->fds[s->fd].is_in,
              "a socket is closed that is still waited for");
    s->is_closed = 1;
    sockets[s->fd] = NULL;
    sim_point();
}

APR_DECLARE(apr_status_t) apr_os_sock_get(apr_os_sock_t *fd, apr_socket_t *s)
{
    *fd = s->fd;
    return APR_SUCCESS;
}

int net_is_behind(void)
{
    return has_event(child_poll) || !child_poll->waiter_count;
}

apr_interval_time_t net_oldest_event(apr_interval_time_t time, int is_busy)
{
    apr_interval_time_t oldest = 0;
    int fd;

    for (fd = 0; fd < SOCKETS_MAX; ++fd) {
        watched *w = &child_poll->fds[fd];

        if (!events_of(child_poll, fd)) {
            w->idle = w->waits = 0;
            continue;
        }
        w->waits += time;
        w->idle += is_busy ? 0 : time;
        /* one processor's worth of computing is a while each */
        oldest = w->idle > oldest ? w->idle : oldest;
        oldest = w->waits / 8 > oldest ? w->waits / 8 : oldest;
    }
    return oldest;
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
    SIM_CHECK(!((const connection *)io->c1)->mpm_has_filters,
              "filters are used that the MPM uses");
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

/* A disk, or records of TLS, that take long: with the lock held. */
static void be_slow(const h2x_io *io, apr_interval_time_t most, int is_busy)
{
    connection *conn = (connection *)io->c1;

    if (world.is_slow && sim_one_in(30)) {
        sim_did_something(NULL); /* the output of a request may be held back,
                                  * until the next tick */
        ++conn->stuck;
        connection_pass(conn, sim_random((unsigned)most), is_busy);
        --conn->stuck;
    }
}

void h2x_io_write(h2x_io *io, const char *data, apr_size_t len)
{
    check_locked(io);
    be_slow(io, 60 * 1000, 0);
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

/* A handler that has read its body itself may turn to something else, and a
 * thread that leads may wait for the log. */
static int is_noticed_later(const connection *conn)
{
    return conn->handlers || conn->logs;
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
        s->is_end_read = s->is_shut;
        return s->is_shut ? APR_EOF : APR_EAGAIN;
    }
    sim_did_something(is_noticed_later((connection *)io->c1) ? NULL : "reads");
    be_slow(io, 20 * 1000, 1);
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
