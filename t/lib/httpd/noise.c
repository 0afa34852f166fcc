/*
 * Preloaded into httpd by test_thread_delays.py: a thread that was woken comes
 * late to what it does next, as on a busy machine, and writes take a while.
 * What only works because threads are quick, fails; that two threads write to
 * one socket ends the process.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define LATE_MAX 800 /* microseconds */

#define FD_MAX 4096

static int writers[FD_MAX]; /* by descriptor */

static __thread int was_woken = 1; /* it has been started */

static void *next_one(const char *name)
{
    void *found = dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2");

    return found ? found : dlsym(RTLD_NEXT, name);
}

int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    static int (*next)(pthread_cond_t *, pthread_mutex_t *);

    if (!next) {
        *(void **)&next = next_one("pthread_cond_wait");
    }
    was_woken = 1;
    return next(cond, mutex);
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                           const struct timespec *until)
{
    static int (*next)(pthread_cond_t *, pthread_mutex_t *,
                       const struct timespec *);

    if (!next) {
        *(void **)&next = next_one("pthread_cond_timedwait");
    }
    was_woken = 1;
    return next(cond, mutex, until);
}

int pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    static int (*next)(pthread_mutex_t *);
    struct timespec now;
    int rv;

    if (!next) {
        *(void **)&next = dlsym(RTLD_NEXT, "pthread_mutex_unlock");
    }
    rv = next(mutex);
    if (was_woken) {
        was_woken = 0;
        clock_gettime(CLOCK_MONOTONIC, &now);
        usleep(now.tv_nsec / 1000 % LATE_MAX);
    }
    return rv;
}

ssize_t writev(int fd, const struct iovec *pieces, int count)
{
    static ssize_t (*next)(int, const struct iovec *, int);
    ssize_t rv;

    if (!next) {
        *(void **)&next = dlsym(RTLD_NEXT, "writev");
    }
    if (fd >= FD_MAX) {
        return next(fd, pieces, count);
    }
    if (__sync_fetch_and_add(&writers[fd], 1)) {
        abort();
    }
    usleep(100);
    rv = next(fd, pieces, count);
    __sync_fetch_and_sub(&writers[fd], 1);
    return rv;
}
