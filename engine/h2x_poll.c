/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <errno.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/epoll.h>
#include <sys/eventfd.h>
#else
#include <sys/types.h>
#include <sys/event.h>
#endif

#include <apr_errno.h>

#include "h2x_poll.h"

struct h2x_poll {
    int fd;
    int wake; /* the eventfd that wakes a thread; kqueue needs none */
};

static apr_status_t close_on_cleanup(void *baton)
{
    h2x_poll *poll = baton;

    close(poll->fd);
    if (poll->wake >= 0) {
        close(poll->wake);
    }
    return APR_SUCCESS;
}

#ifdef __linux__

/* Edge-triggered: each write wakes one thread; the counter is never read. */
static int add_wake(h2x_poll *poll)
{
    struct epoll_event event = { EPOLLIN | EPOLLET, { NULL } };

    poll->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    event.data.u32 = 0;
    return poll->wake >= 0
           && !epoll_ctl(poll->fd, EPOLL_CTL_ADD, poll->wake, &event);
}

static int open_poll(h2x_poll *poll)
{
    poll->fd = epoll_create1(EPOLL_CLOEXEC);
    return poll->fd >= 0 && add_wake(poll);
}

apr_status_t h2x_poll_set(h2x_poll *poll, int fd, apr_int16_t events,
                          apr_uint32_t id)
{
    struct epoll_event event = { EPOLLONESHOT, { NULL } };

    event.events |= (events & APR_POLLIN) ? EPOLLIN : 0;
    event.events |= (events & APR_POLLOUT) ? EPOLLOUT : 0;
    event.data.u32 = id;
    if (!epoll_ctl(poll->fd, EPOLL_CTL_MOD, fd, &event)
        || (errno == ENOENT
            && (!events
                || !epoll_ctl(poll->fd, EPOLL_CTL_ADD, fd, &event)))) {
        return APR_SUCCESS;
    }
    return errno;
}

void h2x_poll_remove(h2x_poll *poll, int fd)
{
    struct epoll_event unused;

    epoll_ctl(poll->fd, EPOLL_CTL_DEL, fd, &unused);
}

/* Converts to milliseconds, rounding up. */
static int milliseconds(apr_interval_time_t timeout)
{
    return timeout < 0 ? -1 : (int)((timeout + 999) / 1000);
}

apr_uint32_t h2x_poll_wait(h2x_poll *poll, apr_interval_time_t timeout)
{
    struct epoll_event event;

    return epoll_wait(poll->fd, &event, 1, milliseconds(timeout)) == 1
           ? event.data.u32 : 0;
}

void h2x_poll_wake(h2x_poll *poll)
{
    static const apr_uint64_t one = 1;
    ssize_t ignored = write(poll->wake, &one, sizeof(one));

    (void)ignored;
}

#else

static int open_poll(h2x_poll *poll)
{
    struct kevent event;

    poll->wake = -1;
    poll->fd = kqueue();
    EV_SET(&event, 0, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, NULL);
    return poll->fd >= 0 && kevent(poll->fd, &event, 1, NULL, 0, NULL) >= 0;
}

/* kqueue reports each direction by an event of its own: both may be delivered
 * for one call. Callers ignore the second one. */
apr_status_t h2x_poll_set(h2x_poll *poll, int fd, apr_int16_t events,
                          apr_uint32_t id)
{
    void *baton = (void *)(apr_uintptr_t)id;
    struct kevent both[2];

    EV_SET(&both[0], fd, EVFILT_READ,
           EV_ADD | EV_DISPATCH
           | ((events & APR_POLLIN) ? EV_ENABLE : EV_DISABLE), 0, 0, baton);
    EV_SET(&both[1], fd, EVFILT_WRITE,
           EV_ADD | EV_DISPATCH
           | ((events & APR_POLLOUT) ? EV_ENABLE : EV_DISABLE), 0, 0, baton);
    return kevent(poll->fd, both, 2, NULL, 0, NULL) < 0 ? errno : APR_SUCCESS;
}

void h2x_poll_remove(h2x_poll *poll, int fd)
{
    struct kevent event;

    EV_SET(&event, fd, EVFILT_READ, EV_DELETE, 0, 0, NULL);
    kevent(poll->fd, &event, 1, NULL, 0, NULL);
    EV_SET(&event, fd, EVFILT_WRITE, EV_DELETE, 0, 0, NULL);
    kevent(poll->fd, &event, 1, NULL, 0, NULL);
}

apr_uint32_t h2x_poll_wait(h2x_poll *poll, apr_interval_time_t timeout)
{
    struct timespec limit = { timeout / 1000000, (timeout % 1000000) * 1000 };
    struct kevent event;

    return kevent(poll->fd, NULL, 0, &event, 1,
                  timeout < 0 ? NULL : &limit) == 1
           && event.filter != EVFILT_USER
           ? (apr_uint32_t)(apr_uintptr_t)event.udata : 0;
}

void h2x_poll_wake(h2x_poll *poll)
{
    struct kevent event;

    EV_SET(&event, 0, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
    kevent(poll->fd, &event, 1, NULL, 0, NULL);
}

#endif

apr_status_t h2x_poll_create(h2x_poll **ppoll, apr_pool_t *p)
{
    h2x_poll *poll = apr_palloc(p, sizeof(*poll));

    poll->fd = poll->wake = -1;
    if (!open_poll(poll)) {
        apr_status_t rv = errno;

        if (poll->fd >= 0) {
            close_on_cleanup(poll);
        }
        return rv;
    }
    apr_pool_cleanup_register(p, poll, close_on_cleanup,
                              apr_pool_cleanup_null);
    *ppoll = poll;
    return APR_SUCCESS;
}
