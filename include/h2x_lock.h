/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The mutex of a session, which in debug builds knows who holds it.
 * Functions whose name ends in _locked want it held and check that here.
 */
#ifndef H2X_LOCK_H
#define H2X_LOCK_H

#include <apr_thread_cond.h>
#include <apr_thread_mutex.h>
#include <apr_portable.h>
#include <httpd.h>

#include "h2x_clock.h"

typedef struct h2x_lock {
    apr_thread_mutex_t *mutex;
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

/** Frees the lock, by the thread that holds it. */
static APR_INLINE void h2x_lock_release(h2x_lock *lock)
{
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
 * Waits on a condition with the lock held, which is free meanwhile.
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
