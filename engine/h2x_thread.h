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

/** A thread that uses more processor time than this at a stretch computes for
 * long: it is in the way of others. In nanoseconds. */
#define H2X_THREAD_LONG (10 * 1000 * 1000)

typedef struct h2x_thread {
    int id;          /* the system's; 0: not known */
    int has_clock;
    clockid_t clock; /* of the processor time that it has used */
} h2x_thread;

/** Describes the calling thread. */
void h2x_thread_self(h2x_thread *self);

/** What was seen of a thread. */
typedef struct h2x_thread_look {
    apr_time_t at;       /* when, by h2x_clock_now() */
    apr_int64_t used;    /* processor time so far, in nanoseconds; 0 where the
                          * system does not say */
    apr_int64_t delayed; /* time in line for a processor so far, likewise; -1
                          * where the system does not say */
    char state;          /* as of proc(5): 'R' when it runs, or would if there
                          * were a processor for it; 'D' when it waits for a
                          * disk, or for a lock of the kernel; 0 where the
                          * system does not say */
} h2x_thread_look;

/**
 * Looks at a thread. Any thread, while that one has not ended. Reads two files
 * of /proc.
 */
void h2x_thread_look_at(const h2x_thread *thread, h2x_thread_look *look);

/**
 * Tells whether a thread waits, by what was seen of it: it is not runnable, and
 * has not run since the last look; or it has run for little of the time since
 * the first, as one does that looks again and again whether something has
 * come, and not for want of a processor. In state 'D' that has to last longer:
 * threads that map memory on a busy machine wait for each other there. Pure.
 */
int h2x_thread_waits(const h2x_thread_look *first,
                     const h2x_thread_look *last, const h2x_thread_look *now);

/** The number of processors that this process may use, at least 1. */
int h2x_thread_processors(void);

#endif /* H2X_THREAD_H */
