/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * What a thread does that has been in one request for long: does it wait, or
 * does it compute? Time alone does not tell, since on a busy machine a thread
 * that computes waits for a processor too.
 */
#ifndef H2X_THREAD_H
#define H2X_THREAD_H

#include <time.h>

#include <apr_time.h>

typedef struct h2x_thread {
    int id;          /* the system's; 0: not known */
    int has_clock;
    clockid_t clock; /* of the processor time that it has used */
} h2x_thread;

/** Describes the calling thread. */
void h2x_thread_self(h2x_thread *self);

/**
 * The processor time that a thread has used, in nanoseconds. Any thread, while
 * that one has not ended.
 * @return 0 where the system does not say
 */
apr_int64_t h2x_thread_used(const h2x_thread *thread);

/**
 * Tells whether a thread runs or would if there were a processor for it. Any
 * thread, while that one has not ended. Reads a file of /proc.
 * @return 0 where the system does not say
 */
int h2x_thread_is_runnable(const h2x_thread *thread);

/** The number of processors that this process may use, at least 1. */
int h2x_thread_processors(void);

#endif /* H2X_THREAD_H */
