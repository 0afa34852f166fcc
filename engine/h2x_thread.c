/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif

#include "h2x_clock.h"
#include "h2x_thread.h"

#define NS_PER_SEC 1000000000

/* A thread waits if it was busy for less than a quarter of the time between two
 * samples, which are at least so far apart, in microseconds: in state 'S', and
 * in state 'D'. */
#define IDLE_MIN (8 * 1000)
#define BLOCKED_MIN (50 * 1000)
#define IDLE_SHARE 4

/* Cached, since it is a system call. */
static int own_id(void)
{
    static __thread int id;

#ifdef __linux__
    if (!id) {
        id = (int)syscall(SYS_gettid);
    }
#endif
    return id;
}

void h2x_thread_self(h2x_thread *self)
{
    self->id = own_id();
#if defined(_POSIX_THREAD_CPUTIME) && _POSIX_THREAD_CPUTIME >= 0
    self->has_clock = !pthread_getcpuclockid(pthread_self(), &self->clock);
#else
    self->has_clock = 0;
#endif
}

static apr_int64_t used_by(const h2x_thread *thread)
{
    struct timespec used;

    if (!thread->has_clock || clock_gettime(thread->clock, &used)) {
        return 0;
    }
    return (apr_int64_t)used.tv_sec * NS_PER_SEC + used.tv_nsec;
}

/* Reads a file of /proc/self/task. Returns 0 on failure. */
static int read_file(const h2x_thread *thread, const char *name, char *text,
                     size_t size)
{
    char path[64];
    ssize_t len = -1;
    int fd;

    if (!thread->id) {
        return 0;
    }
    snprintf(path, sizeof(path), "/proc/self/task/%d/%s", thread->id, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        len = read(fd, text, size - 1);
        close(fd);
    }
    text[len > 0 ? len : 0] = '\0';
    return len > 0;
}

/* The state is the letter behind the name, which is in parentheses and may hold
 * any characters (proc(5)). */
static char state_of(const h2x_thread *thread)
{
    char stat[256];
    const char *state = NULL;

    if (read_file(thread, "stat", stat, sizeof(stat))) {
        state = strrchr(stat, ')');
    }
    return state && state[1] == ' ' ? state[2] : '\0';
}

/* The second number of schedstat. */
static apr_int64_t delay_of(const h2x_thread *thread)
{
    char schedstat[128];
    unsigned long long used, delayed;

    return read_file(thread, "schedstat", schedstat, sizeof(schedstat))
           && sscanf(schedstat, "%llu %llu", &used, &delayed) == 2
           ? (apr_int64_t)delayed : -1;
}

void h2x_thread_look_at(const h2x_thread *thread, h2x_thread_look *look)
{
    look->at = h2x_clock_now();
    look->used = used_by(thread);
    look->delayed = delay_of(thread);
    look->state = state_of(thread);
}

/* Returns nonzero if a thread neither ran nor was runnable for most of the time
 * between two samples that are at least so far apart. */
static int was_idle(const h2x_thread_look *first, const h2x_thread_look *now,
                    apr_interval_time_t least)
{
    apr_interval_time_t passed = now->at - first->at;
    apr_int64_t busy = now->used - first->used + now->delayed - first->delayed;

    return now->delayed >= 0 && first->delayed >= 0
           && passed >= least && busy < passed * 1000 / IDLE_SHARE;
}

int h2x_thread_waits(const h2x_thread_look *first,
                     const h2x_thread_look *last, const h2x_thread_look *now)
{
    if (now->state == 'R') {
        return 0;
    }
    if (now->state == 'D') {
        return was_idle(first, now, BLOCKED_MIN);
    }
    return now->used == last->used || was_idle(first, now, IDLE_MIN);
}

int h2x_thread_processors(void)
{
    int count = 0;
#ifdef CPU_COUNT
    cpu_set_t set;

    if (!sched_getaffinity(0, sizeof(set), &set)) {
        count = CPU_COUNT(&set);
    }
#endif
    if (count < 1) {
        count = (int)sysconf(_SC_NPROCESSORS_ONLN);
    }
    return count > 0 ? count : 1;
}
