/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The clock for deadlines and durations: nobody sets it. Its times mean
 * nothing to httpd, which has those of the wall.
 */
#ifndef H2X_CLOCK_H
#define H2X_CLOCK_H

#include <time.h>

#include <apr_atomic.h>
#include <apr_time.h>

/** The time since some moment in the past, in microseconds; above 0. */
static APR_INLINE apr_time_t h2x_clock_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return apr_time_make(now.tv_sec, now.tv_nsec / 1000);
}

/**
 * Is it time again for what is done at most once in an interval? One of the
 * threads that ask is told so.
 * @param last when it was time before; 0 at first; atomic
 */
static APR_INLINE int h2x_clock_is_time(apr_uint64_t *last,
                                        apr_interval_time_t interval)
{
    apr_uint64_t at = apr_atomic_read64(last);
    apr_uint64_t now = (apr_uint64_t)h2x_clock_now();

    return now - at > (apr_uint64_t)interval
           && apr_atomic_cas64(last, now, at) == at;
}

#endif /* H2X_CLOCK_H */
