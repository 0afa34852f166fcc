/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The scheduler of the simulation: threads are fibers of one real thread, of
 * which a seed decides which one runs next; time passes only when none can.
 *
 * The engine is linked as it is. What it calls of APR, of httpd and of libc to
 * lock, to wait, to start threads, to tell the time and to poll is defined in
 * the simulation's own object files, which the linker takes first.
 */
#ifndef SCHEDULE_H
#define SCHEDULE_H

#include <stdint.h>

#include <apr_pools.h>
#include <apr_time.h>

#define UNUSED __attribute__((unused))

/** A thread of the simulation. */
typedef struct fiber fiber;

/** What one schedule is made from, and what it has seen. */
typedef struct sim_schedule {
    uint64_t seed;
    apr_pool_t *pool;
    int may_fail;        /* threads may not start */
    uint64_t trace;      /* a sum of all decisions: the same seed, the same */
    long steps;          /* places where another thread could have run */
    long switches;
    long times;          /* how often time had to pass */
    /**
     * Called when time passes, since nobody can go on: how much; whether a
     * thread works or takes its time, by sim_pass(); whether one uses a
     * processor.
     */
    void (*on_time)(apr_interval_time_t time, int has_reason, int is_busy);
    /** Is something left to be done that is known to nobody, as all threads are
     * at work? Then a thread may find it that is woken for nothing. */
    int (*is_behind)(void);
} sim_schedule;

extern sim_schedule sim;

/** Once, before the first schedule. */
void sim_init(void);

/** Begins a schedule; the caller is its first thread. */
void sim_begin(uint64_t seed);

/** Ends it: all other threads must be over. */
void sim_end(void);

/** A number below n, of the schedule's. */
unsigned sim_random(unsigned n);

/** Is it so, once in n? */
int sim_one_in(unsigned n);

/** The time of the simulation, in microseconds. */
apr_time_t sim_now(void);

/** A place where another thread may go on. */
void sim_point(void);

/**
 * Notes that something was done. A thread that was woken for nothing, while
 * nobody could go on, must not do it: whoever made it possible has forgotten
 * to wake the thread. NULL: it may.
 */
void sim_did_something(const char *what);

/**
 * Lets the calling thread wait until a function says that it may go on, or
 * until a time (0: for ever).
 * @param what for reports: what it waits for
 * @return 0 when the time has come
 */
int sim_wait(int (*is_ready)(const void *baton), const void *baton,
             apr_time_t until, const char *what);

/** The same, by a thread that has a reason to let time pass: something outside
 * of the simulation is to come at that time. */
int sim_wait_outside(int (*is_ready)(const void *baton), const void *baton,
                     apr_time_t until, const char *what);

/**
 * The same as sim_wait(), for what h2x_poll_wait() waits for: it may also be
 * woken for nothing.
 */
void sim_wait_for_events(int (*is_ready)(const void *baton),
                         const void *baton, apr_time_t until);

/** Lets time pass for the calling thread; is_busy: it uses its processor. */
void sim_pass(apr_interval_time_t time, int is_busy);

/** Starts a thread. */
fiber *sim_start(void *(*run)(void *baton), void *baton, const char *name);

/** The calling thread, its name and its number. */
fiber *sim_self(void);
const char *sim_name(const fiber *f);
int sim_number(void);

/** How many threads wait for a mutex, and how many there are of a name. */
int sim_waiting_for_mutexes(void);
int sim_count(const char *name);

/** Does the thread of a number use a processor, or would it if it had one? And
 * for how long did it, in microseconds? */
int sim_is_busy(int number);
apr_time_t sim_used(int number);

/** How many mutexes the calling thread holds. */
int sim_locks_held(void);

/** Ends the run: something does not hold that always has to. */
void sim_fail(const char *format, ...)
    __attribute__((noreturn, format(printf, 1, 2)));

#define SIM_CHECK(holds, ...) ((holds) ? (void)0 : sim_fail(__VA_ARGS__))

/** Prints a line about what happens, when that was asked for. */
void sim_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern int sim_is_verbose;

#endif /* SCHEDULE_H */
