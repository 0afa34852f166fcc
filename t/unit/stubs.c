/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* What the rooms of the engine want of httpd, and of h2x_conf.c, as little as
 * they need; and helpers for tests. */

#include "unit.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <apr_atomic.h>
#include <apr_general.h>
#include <apr_thread_proc.h>

#include <httpd.h>
#include <http_log.h>
#include <http_main.h>
#include <mpm_common.h>

#include "h2x.h"

#define PATIENCE apr_time_from_sec(30)

module AP_MODULE_DECLARE_DATA h2x_module;
server_rec *ap_server_conf;
apr_uint32_t ap_max_mem_free = 1024 * 1024;

apr_pool_t *unit_pool;
apr_int64_t unit_conf[H2X_CONF_COUNT];
h2x_push_order unit_push_order;
int unit_log_count;
char unit_log_line[512];
void (*unit_on_log)(void);
apr_uint32_t unit_no_threads;

static apr_pool_t *top;
static apr_thread_mutex_t *mutex;
static apr_thread_cond_t *raised;
static int counters[UNIT_COUNTERS];
static int threads_at_first;

/* ---- httpd ---- */

/* A failed assertion fails the test, unless it expects just that. */
AP_DECLARE(void) ap_log_assert(const char *exp, const char *file, int line)
{
    mock_assert(0, exp, file, line);
    abort();
}

static void keep_line(const char *format, va_list args)
{
    apr_thread_mutex_lock(mutex);
    ++unit_log_count;
    vsnprintf(unit_log_line, sizeof(unit_log_line), format, args);
    apr_thread_mutex_unlock(mutex);
}

AP_DECLARE(void) ap_log_error_(const char *file UNUSED, int line UNUSED,
                               int module_index UNUSED, int level UNUSED,
                               apr_status_t status UNUSED,
                               const server_rec *s UNUSED,
                               const char *format, ...)
{
    va_list args;

    va_start(args, format);
    keep_line(format, args);
    va_end(args);
}

AP_DECLARE(void) ap_log_cerror_(const char *file UNUSED, int line UNUSED,
                                int module_index UNUSED, int level UNUSED,
                                apr_status_t status UNUSED,
                                const conn_rec *c UNUSED,
                                const char *format, ...)
{
    va_list args;

    va_start(args, format);
    keep_line(format, args);
    va_end(args);
    if (unit_on_log) {
        unit_on_log();
    }
}

#undef ap_thread_create
AP_DECLARE(apr_status_t) ap_thread_create(apr_thread_t **thread,
                                          apr_threadattr_t *attr,
                                          apr_thread_start_t run, void *baton,
                                          apr_pool_t *p)
{
    return apr_atomic_read32(&unit_no_threads)
           ? APR_EAGAIN : apr_thread_create(thread, attr, run, baton, p);
}

apr_int64_t h2x_conf_get(const server_rec *s UNUSED, h2x_conf_key key)
{
    return unit_conf[key];
}

h2x_push_order h2x_conf_push_order(const server_rec *s UNUSED,
                                   const char *type UNUSED)
{
    return unit_push_order;
}

AP_DECLARE(apr_uint32_t) ap_random_pick(apr_uint32_t min UNUSED,
                                        apr_uint32_t max)
{
    return max;
}

/* ---- helpers ---- */

void unit_begin(void)
{
    apr_initialize();
    apr_pool_create(&top, NULL);
    apr_thread_mutex_create(&mutex, APR_THREAD_MUTEX_DEFAULT, top);
    apr_thread_cond_create(&raised, top);
    threads_at_first = unit_threads();
}

int unit_end(int failed)
{
    apr_pool_destroy(top);
    apr_terminate();
    return failed;
}

int unit_setup(void **state UNUSED)
{
    memset(unit_conf, 0, sizeof(unit_conf));
    unit_push_order = H2X_PUSH_AFTER;
    memset(counters, 0, sizeof(counters));
    unit_log_count = 0;
    unit_log_line[0] = '\0';
    apr_atomic_set32(&unit_no_threads, 0);
    return apr_pool_create(&unit_pool, top) != APR_SUCCESS;
}

/* The system shows a thread for a moment after it was joined: this test would
 * count one of the test before. */
int unit_setup_alone(void **state)
{
    return !unit_await_threads(threads_at_first) || unit_setup(state);
}

int unit_teardown(void **state UNUSED)
{
    apr_pool_destroy(unit_pool);
    return 0;
}

h2x_lock *unit_lock(void)
{
    h2x_lock *lock = apr_pcalloc(unit_pool, sizeof(*lock));

    apr_thread_mutex_create(&lock->mutex, APR_THREAD_MUTEX_DEFAULT, unit_pool);
    return lock;
}

static void leave_wide(void *baton)
{
    (void)baton;
}

h2x_stream_store *unit_store(void)
{
    h2x_stream_store *store = NULL;

    h2x_stream_store_create(&store, leave_wide, NULL, unit_pool);
    return store;
}

void unit_raise(int counter)
{
    apr_thread_mutex_lock(mutex);
    ++counters[counter];
    apr_thread_cond_broadcast(raised);
    apr_thread_mutex_unlock(mutex);
}

int unit_value(int counter)
{
    int value;

    apr_thread_mutex_lock(mutex);
    value = counters[counter];
    apr_thread_mutex_unlock(mutex);
    return value;
}

int unit_await(int counter, int high)
{
    apr_time_t deadline = apr_time_now() + PATIENCE, now;
    int reached;

    apr_thread_mutex_lock(mutex);
    while (counters[counter] < high && (now = apr_time_now()) < deadline) {
        apr_thread_cond_timedwait(raised, mutex, deadline - now);
    }
    reached = counters[counter] >= high;
    apr_thread_mutex_unlock(mutex);
    return reached;
}

int unit_threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    int count = -2; /* for . and .. */

    while (tasks && readdir(tasks)) {
        ++count;
    }
    if (tasks) {
        closedir(tasks);
    }
    return count;
}

int unit_await_threads(int count)
{
    apr_time_t deadline = apr_time_now() + PATIENCE;

    while (unit_threads() != count && apr_time_now() < deadline) {
        apr_sleep(1000);
    }
    return unit_threads() == count;
}
