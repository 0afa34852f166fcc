/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The mutex of a session. In debug builds it records the thread that holds it,
 * and functions whose names end in _locked check that this is the caller.
 *
 * Threads that come for an event do not wait for it (h2x_lock_try()): the one
 * that holds it calls on_missed before it releases it.
 *
 * Log lines that are made with it held are written after it was released, since
 * a log may be a pipe that blocks: by the thread that releases it, or by
 * another one that is writing such lines already.
 */
#ifndef H2X_LOCK_H
#define H2X_LOCK_H

#include <apr_atomic.h>
#include <apr_thread_cond.h>
#include <apr_thread_mutex.h>
#include <apr_portable.h>
#include <httpd.h>
#include <http_log.h>

#include "h2x_clock.h"

enum {
    H2X_LOCK_FREE,  /* or about to be released, or just acquired */
    H2X_LOCK_HELD,
    H2X_LOCK_MISSED /* it is held, and h2x_lock_try() has failed since */
};

/** The number of lines that are kept; more are only counted. */
#define H2X_LINES_MAX 64

/** Lines for the log, allocated by malloc(). Private to h2x_lock.c. */
typedef struct h2x_lines {
    const conn_rec *c1; /* the connection; NULL: there are no lines */
    struct h2x_line *first;
    struct h2x_line *last;
    int count;
    int dropped;        /* lines that were not kept */
} h2x_lines;

typedef struct h2x_lock {
    apr_thread_mutex_t *mutex;
    apr_uint32_t state; /* atomic */
    void (*on_missed)(void *baton); /* called with the lock held, before it is
                                     * released, if h2x_lock_try() has failed
                                     * meanwhile */
    void *baton;
    h2x_lines lines;
    int is_writing;     /* a thread writes lines, and those added meanwhile */
#ifdef H2X_DEBUG
    apr_os_thread_t owner;
    int held;
#endif
} h2x_lock;

/** Notes that the calling thread has acquired the lock. For this file only. */
static APR_INLINE void h2x_lock_note_taken(h2x_lock *lock)
{
    apr_atomic_set32(&lock->state, H2X_LOCK_HELD);
#ifdef H2X_DEBUG
    lock->owner = apr_os_thread_current();
    lock->held = 1;
#endif
}

/**
 * Calls on_missed if h2x_lock_try() has failed since the lock was acquired. For
 * this file only, by the thread that is about to release it.
 * @return nonzero if it has
 */
static APR_INLINE int h2x_lock_tell_missed(h2x_lock *lock)
{
    if (apr_atomic_xchg32(&lock->state, H2X_LOCK_FREE) != H2X_LOCK_MISSED) {
        return 0;
    }
    lock->on_missed(lock->baton);
    return 1;
}

/** Acquires the lock, and waits for it. It is not recursive. */
static APR_INLINE void h2x_lock_acquire(h2x_lock *lock)
{
    apr_thread_mutex_lock(lock->mutex);
    h2x_lock_note_taken(lock);
}

/**
 * Acquires the lock if it is free, or about to be released.
 * @return 0 if it is held: the thread that holds it calls on_missed before it
 *         releases it
 */
static APR_INLINE int h2x_lock_try(h2x_lock *lock)
{
    if (apr_thread_mutex_trylock(lock->mutex) == APR_SUCCESS) {
        h2x_lock_note_taken(lock);
        return 1;
    }
    if (apr_atomic_cas32(&lock->state, H2X_LOCK_MISSED, H2X_LOCK_HELD)
        != H2X_LOCK_FREE) {
        return 0;
    }
    h2x_lock_acquire(lock);
    return 1;
}

/** Returns nonzero if a thread that releases the lock has to write lines. */
static APR_INLINE int h2x_lock_has_lines(const h2x_lock *lock)
{
    return lock->lines.c1 && !lock->is_writing;
}

/**
 * Writes the lines, and those that are added meanwhile. The lock is held by the
 * caller, and released while it writes, which may block.
 */
void h2x_lock_write_lines(h2x_lock *lock);

/**
 * Releases the lock, after having written the lines. The thread that holds it.
 * The connection must not end before this returns.
 */
static APR_INLINE void h2x_lock_release(h2x_lock *lock)
{
    h2x_lock_tell_missed(lock);
    while (h2x_lock_has_lines(lock)) {
        h2x_lock_write_lines(lock);
        h2x_lock_tell_missed(lock);
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
 * Logs a line of a connection, as ap_log_cerror() does. The lock is held; the
 * line is written when it is released.
 */
#define h2x_log_locked(lock, level, status, c1, ...) \
    do { \
        if (APLOG_C_IS_LEVEL(c1, level)) { \
            h2x_lines_add_locked(lock, APLOG_MARK, level, status, c1, \
                                 __VA_ARGS__); \
        } \
    } while (0)

/** The same for any level. For h2x_log_locked(). */
void h2x_lines_add_locked(h2x_lock *lock, const char *file, int line,
                          int module_index, int level, apr_status_t status,
                          const conn_rec *c1, const char *format, ...)
    __attribute__((format(printf, 8, 9)));

/**
 * Waits on a condition. The lock is held by the caller, and released while it
 * waits. If there are lines to be written, writes them instead.
 * @param timeout in microseconds, or negative: no timeout. The wait is longer
 *        if the system's time is set back meanwhile
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
    if (h2x_lock_tell_missed(lock)) {
        h2x_lock_note_taken(lock);
        return APR_SUCCESS; /* that may be what is waited for */
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
            rv = APR_SUCCESS; /* the system's time was set forward */
        }
    }
    h2x_lock_note_taken(lock);
    return rv;
}

#endif /* H2X_LOCK_H */
