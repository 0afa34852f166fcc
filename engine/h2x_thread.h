/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * Tells whether a thread that has been in one request for long waits or
 * computes. Elapsed time does not tell, since on a busy machine a thread that
 * computes also waits for a processor.
 */
#ifndef H2X_THREAD_H
#define H2X_THREAD_H

#include <time.h>

#include <apr_time.h>

/** Processor time, in nanoseconds, after which a request or a callback counts
 * as one that computes for long. */
#define H2X_THREAD_LONG (10 * 1000 * 1000)

typedef struct h2x_thread {
    int id;          /* of the system (gettid()); 0: not known */
    int has_clock;
    clockid_t clock; /* of the processor time that it has used */
} h2x_thread;

/** Describes the calling thread. */
void h2x_thread_self(h2x_thread *self);

/** A sample of a thread's state. */
typedef struct h2x_thread_look {
    apr_time_t at;       /* when, by h2x_clock_now() */
    apr_int64_t used;    /* processor time so far, in nanoseconds; 0 where the
                          * system does not say */
    apr_int64_t delayed; /* time spent runnable without a processor so far, in
                          * nanoseconds; -1 where the system does not say */
    char state;          /* of proc(5): 'R' runnable, 'D' waiting for a disk or
                          * for a lock of the kernel; 0 where the system does
                          * not say */
} h2x_thread_look;

/**
 * Samples a thread, which must not have ended. Reads two files of /proc. Any
 * thread.
 */
void h2x_thread_look_at(const h2x_thread *thread, h2x_thread_look *look);

/**
 * Returns nonzero if a thread waits, by samples of it: it is not runnable, and
 * has not run since the last one; or it was neither running nor runnable for
 * most of the time since the first one, like a thread that polls. In state 'D'
 * that has to last longer, since threads that map memory on a busy machine wait
 * for each other in that state. Pure.
 */
int h2x_thread_waits(const h2x_thread_look *first,
                     const h2x_thread_look *last, const h2x_thread_look *now);

/** The number of processors that this process may use, at least 1. */
int h2x_thread_processors(void);

#endif /* H2X_THREAD_H */
