/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The monotonic clock, for deadlines and durations. Its times are not those of
 * apr_time_now(), which httpd uses.
 */
#ifndef H2X_CLOCK_H
#define H2X_CLOCK_H

#include <time.h>

#include <apr_atomic.h>
#include <apr_time.h>

/** Returns the monotonic time in microseconds, which is above 0. Any thread. */
static APR_INLINE apr_time_t h2x_clock_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return apr_time_make(now.tv_sec, now.tv_nsec / 1000);
}

/**
 * Limits something to once in an interval. Any thread.
 * @param last time of the last nonzero result; 0 at first; atomic
 * @return nonzero, for one of the threads, if the interval has passed
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
