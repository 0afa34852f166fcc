/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The clock for deadlines and durations: nobody sets it. Its times mean
 * nothing to httpd, which has those of the wall.
 */
#ifndef H2X_CLOCK_H
#define H2X_CLOCK_H

#include <time.h>

#include <apr_time.h>

/** The time since some moment in the past, in microseconds; above 0. */
static APR_INLINE apr_time_t h2x_clock_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return apr_time_make(now.tv_sec, now.tv_nsec / 1000);
}

#endif /* H2X_CLOCK_H */
