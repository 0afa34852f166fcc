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

#include "h2x_thread.h"

#define NS_PER_SEC 1000000000

/* Asks the system once. */
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

apr_int64_t h2x_thread_used(const h2x_thread *thread)
{
    struct timespec used;

    if (!thread->has_clock || clock_gettime(thread->clock, &used)) {
        return 0;
    }
    return (apr_int64_t)used.tv_sec * NS_PER_SEC + used.tv_nsec;
}

/* The state is a letter behind the name, which may have any characters but is
 * the only thing in parentheses (proc(5)). */
int h2x_thread_is_runnable(const h2x_thread *thread)
{
    char path[64], stat[256];
    const char *state = NULL;
    ssize_t len;
    int fd;

    if (!thread->id) {
        return 0;
    }
    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", thread->id);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    len = read(fd, stat, sizeof(stat) - 1);
    close(fd);
    if (len > 0) {
        stat[len] = '\0';
        state = strrchr(stat, ')');
    }
    return state && state[1] == ' ' && state[2] == 'R';
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
