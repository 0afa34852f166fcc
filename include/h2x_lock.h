/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The mutex of a session, which in debug builds knows who holds it.
 * Functions whose name ends in _locked want it held and check that here.
 *
 * What is logged with it held is written when it is freed, since a log may be a
 * pipe that nobody reads: by the thread that frees it, or, if another one
 * writes such lines already, by that.
 */
#ifndef H2X_LOCK_H
#define H2X_LOCK_H

#include <apr_thread_cond.h>
#include <apr_thread_mutex.h>
#include <apr_portable.h>
#include <httpd.h>
#include <http_log.h>

#include "h2x_clock.h"

/** So many lines are kept; more are only counted. */
#define H2X_LINES_MAX 64

/** Lines for the log, of malloc(). For h2x_lock.c. */
typedef struct h2x_lines {
    const conn_rec *c1; /* whose they are; NULL: there are none */
    struct h2x_line *first;
    struct h2x_line *last;
    int count;
    int dropped;        /* that there was no room or no memory for */
} h2x_lines;

typedef struct h2x_lock {
    apr_thread_mutex_t *mutex;
    h2x_lines lines;
    int is_writing;     /* a thread writes lines, and will write these */
#ifdef H2X_DEBUG
    apr_os_thread_t owner;
    int held;
#endif
} h2x_lock;

/** Takes the lock, waiting for it; it cannot be taken twice. */
static APR_INLINE void h2x_lock_acquire(h2x_lock *lock)
{
    apr_thread_mutex_lock(lock->mutex);
#ifdef H2X_DEBUG
    lock->owner = apr_os_thread_current();
    lock->held = 1;
#endif
}

/** Takes the lock if it is free, which is returned. */
static APR_INLINE int h2x_lock_try(h2x_lock *lock)
{
    if (apr_thread_mutex_trylock(lock->mutex) != APR_SUCCESS) {
        return 0;
    }
#ifdef H2X_DEBUG
    lock->owner = apr_os_thread_current();
    lock->held = 1;
#endif
    return 1;
}

/** Are there lines that whoever frees the lock, writes? */
static APR_INLINE int h2x_lock_has_lines(const h2x_lock *lock)
{
    return lock->lines.c1 && !lock->is_writing;
}

/**
 * Writes the lines, and those that come meanwhile; the lock is free for that,
 * and held before and after. May wait for the log.
 */
void h2x_lock_write_lines(h2x_lock *lock);

/**
 * Frees the lock, by the thread that holds it, once it has written the lines:
 * the connection must not end before this returns.
 */
static APR_INLINE void h2x_lock_release(h2x_lock *lock)
{
    if (h2x_lock_has_lines(lock)) {
        h2x_lock_write_lines(lock);
    }
#ifdef H2X_DEBUG
    lock->held = 0;
#endif
    apr_thread_mutex_unlock(lock->mutex);
}

/** Asserts, in debug builds, that the calling thread holds the lock. */
static APR_INLINE void h2x_lock_check(h2x_lock *lock)
{
#ifdef H2X_DEBUG
    ap_assert(lock->held
              && apr_os_thread_equal(lock->owner, apr_os_thread_current()));
#else
    (void)lock;
#endif
}

/**
 * Logs a line of a connection, as ap_log_cerror() does, with the lock held: it
 * is written when that is freed.
 */
#define h2x_log_locked(lock, level, status, c1, ...) \
    do { \
        if (APLOG_C_IS_LEVEL(c1, level)) { \
            h2x_lines_add_locked(lock, APLOG_MARK, level, status, c1, \
                                 __VA_ARGS__); \
        } \
    } while (0)

/** The same, whatever the level. Use h2x_log_locked(). */
void h2x_lines_add_locked(h2x_lock *lock, const char *file, int line,
                          int module_index, int level, apr_status_t status,
                          const conn_rec *c1, const char *format, ...)
    __attribute__((format(printf, 8, 9)));

/**
 * Waits on a condition with the lock held, which is free meanwhile. If there
 * are lines to be written, it writes them in place of that.
 * @param timeout microseconds, or a negative number to wait for ever; more if
 *        the clock on the wall is set back meanwhile
 * @return APR_SUCCESS (perhaps spuriously) or APR_TIMEUP
 */
static APR_INLINE apr_status_t h2x_lock_wait(h2x_lock *lock,
                                             apr_thread_cond_t *cond,
                                             apr_interval_time_t timeout)
{
    apr_time_t end = h2x_clock_now() + timeout;
    apr_status_t rv;

    h2x_lock_check(lock);
    if (h2x_lock_has_lines(lock)) {
        h2x_lock_write_lines(lock);
        return APR_SUCCESS; /* what is waited for may have come meanwhile */
    }
#ifdef H2X_DEBUG
    lock->held = 0;
#endif
    if (timeout < 0) {
        rv = apr_thread_cond_wait(cond, lock->mutex);
    }
    else {
        rv = apr_thread_cond_timedwait(cond, lock->mutex, timeout);
        if (rv == APR_TIMEUP && h2x_clock_now() < end) {
            rv = APR_SUCCESS; /* that waits for the clock on the wall */
        }
    }
#ifdef H2X_DEBUG
    lock->owner = apr_os_thread_current();
    lock->held = 1;
#endif
    return rv;
}

#endif /* H2X_LOCK_H */
