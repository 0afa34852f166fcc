/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "schedule.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#ifndef __x86_64__
#include <ucontext.h>
#endif

#include <apr_atomic.h>
#include <apr_portable.h>
#include <apr_thread_cond.h>
#include <apr_thread_mutex.h>
#include <apr_thread_proc.h>

#include <httpd.h>
#include <http_main.h>

#include "memory.h"

#define FIBERS_MAX 64 /* bits of fiber_set */
#define STACK_SIZE (256 * 1024)
#define HELD_MAX 8
#define MUTEXES_MAX 512

/* More steps than this without any time passing are a spin. */
#define STEPS_MAX 300000

/* A thread that was chosen for its rank goes on for so long at most. */
#define TURN_MAX 5000

/* The clock at the beginning, so that no time is 0. */
#define BEGINNING apr_time_from_sec(1000)

struct fiber {
    /* what pick() looks at */
    int is_over;
    int is_signalled;    /* it was woken from what it waits for */
    int (*is_ready)(const void *baton); /* NULL: it does not wait */
    const void *ready_baton;
    apr_time_t until;    /* waits until then; 0: for ever */
    int waits_for_events;
    unsigned rank;

    int number;
    const char *name;
    char *stack;
#ifdef __x86_64__
    void *sp;
#else
    ucontext_t context;
#endif
    void *(*run)(void *baton);
    void *baton;
    int has_reason;      /* to let time pass: it works, or takes its time */
    int is_busy;
    apr_time_t used;     /* of its processor's time, before that: */
    apr_time_t busy_since;
    const char *what;    /* it waits for */
    const void *condition; /* it waits for that one */
    int is_probed;       /* woken for nothing, to see whether it waits again */
    int held_count;
    apr_thread_mutex_t *held[HELD_MAX];
};

struct apr_thread_mutex_t {
    fiber *owner;
    int number;          /* in order of creation, in this schedule */
    int is_gone;         /* with its pool */
};

struct apr_thread_cond_t {
    char unused;         /* its address is all there is to it */
};

struct apr_thread_t {
    int is_over;
    apr_thread_start_t start;
    void *data;
};

sim_schedule sim;
int sim_is_verbose;

/* Fibers, as the bits of their numbers. */
typedef uint64_t fiber_set;

#define BIT(f) ((fiber_set)1 << (f)->number)
#define FIRST(set) __builtin_ctzll(set)
#define COUNT(set) __builtin_popcountll(set)

static fiber fibers[FIBERS_MAX];
static fiber_set able;   /* those that do not wait, or whose waiting is over */
static fiber_set asking; /* those whose is_ready() tells that it is */
static int fiber_count;
static char *stacks[FIBERS_MAX];
static fiber *current;
static apr_time_t now;
static uint64_t random_state;
static unsigned stickiness; /* it goes on with the same one so often */
static int by_rank;
static long steps_at_this_time;
static long turn;
static int mutex_count;
static int is_probing;  /* those who wait were woken for nothing */
static apr_thread_mutex_t mutexes[MUTEXES_MAX];
/* was the second mutex ever taken with the first one held? */
static unsigned char was_nested[MUTEXES_MAX][MUTEXES_MAX];

/* ---- numbers ---- */

static uint64_t next_random(void)
{
    uint64_t z = (random_state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

unsigned sim_random(unsigned n)
{
    return n ? (unsigned)(next_random() >> 33) % n : 0;
}

int sim_one_in(unsigned n)
{
    return n && sim_random(n) == 0;
}

/* ---- reports ---- */

void sim_say(const char *format, ...)
{
    va_list args;

    if (!sim_is_verbose) {
        return;
    }
    printf("%10.6f %-12s ", (double)(now - BEGINNING) / 1e6,
           current ? current->name : "-");
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}

static void tell_fibers(void)
{
    int i, j;

    for (i = 0; i < fiber_count; ++i) {
        const fiber *f = &fibers[i];

        if (f->is_over) {
            continue;
        }
        printf("  %s%s: %s", f == current ? "*" : "", f->name,
               f->is_ready ? f->what : "could run");
        if (f->is_ready && f->until) {
            printf(", until %.6f", (double)(f->until - BEGINNING) / 1e6);
        }
        for (j = 0; j < f->held_count; ++j) {
            printf(", holds mutex %d", f->held[j]->number);
        }
        putchar('\n');
    }
}

void sim_fail(const char *format, ...)
{
    va_list args;

    printf("seed %llu, at %.6f, in %s: ", (unsigned long long)sim.seed,
           (double)(now - BEGINNING) / 1e6, current ? current->name : "-");
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    tell_fibers();
    fflush(stdout);
    if (getenv("SIM_ABORT")) {
        abort();
    }
    _exit(1);
}

/* A crash is a failure like any other, which names its seed. It may have come
 * of a stack that is too small: this one has its own. */
static void fail_by_signal(int number)
{
    signal(number, SIG_DFL);
    sim_fail("signal %d", number);
}

void sim_init(void)
{
    static const int crashes[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
    static char stack[64 * 1024];
    stack_t own = { .ss_sp = stack, .ss_size = sizeof(stack) };
    struct sigaction action = { .sa_handler = fail_by_signal,
                                .sa_flags = SA_ONSTACK };
    unsigned i;

    sigaltstack(&own, NULL);
    for (i = 0; i < sizeof(crashes) / sizeof(crashes[0]); ++i) {
        sigaction(crashes[i], &action, NULL);
    }
}

/* ---- fibers ---- */

#ifdef __x86_64__
void sim_swap(void **from, void *to);
__asm__(
    ".text\n"
    ".globl sim_swap\n"
    ".type sim_swap, @function\n"
    "sim_swap:\n"
    "    pushq %rbp\n"
    "    pushq %rbx\n"
    "    pushq %r12\n"
    "    pushq %r13\n"
    "    pushq %r14\n"
    "    pushq %r15\n"
    "    movq %rsp, (%rdi)\n"
    "    movq %rsi, %rsp\n"
    "    popq %r15\n"
    "    popq %r14\n"
    "    popq %r13\n"
    "    popq %r12\n"
    "    popq %rbx\n"
    "    popq %rbp\n"
    "    ret\n"
    ".size sim_swap, .-sim_swap\n");
#endif

static void choose_next(void);

static void enter(void)
{
    current->run(current->baton);
    current->is_over = 1;
    able &= ~BIT(current);
    choose_next();
    abort();
}

static void make_context(fiber *f)
{
#ifdef __x86_64__
    void **top = (void **)(f->stack + STACK_SIZE);

    *--top = NULL;              /* keeps what follows aligned */
    *--top = (void *)enter;
    top -= 6;
    memset(top, 0, 6 * sizeof(*top));
    f->sp = top;
#else
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK_SIZE;
    f->context.uc_link = NULL;
    makecontext(&f->context, enter, 0);
#endif
}

static void switch_to(fiber *f)
{
    fiber *from = current;

    sim.trace = (sim.trace ^ (uint64_t)f->number) * 0x100000001b3u;
    if (f == from) {
        return;
    }
    ++sim.switches;
    turn = 0;
    current = f;
#ifdef __x86_64__
    sim_swap(&from->sp, f->sp);
#else
    swapcontext(&from->context, &f->context);
#endif
}

fiber *sim_start(void *(*run)(void *baton), void *baton, const char *name)
{
    fiber *f = NULL;
    int i;

    for (i = 0; i < fiber_count && !f; ++i) {
        f = fibers[i].is_over && i ? &fibers[i] : NULL;
    }
    if (!f) {
        SIM_CHECK(fiber_count < FIBERS_MAX, "too many threads");
        f = &fibers[fiber_count++];
    }
    memset(f, 0, sizeof(*f));
    f->number = (int)(f - fibers);
    if (!stacks[f->number]) {
        stacks[f->number] = memory_stack(STACK_SIZE);
    }
    f->stack = stacks[f->number];
    f->name = name;
    f->run = run;
    f->baton = baton;
    f->rank = sim_random(1000);
    make_context(f);
    able |= BIT(f);
    return f;
}

fiber *sim_self(void)
{
    return current;
}

const char *sim_name(const fiber *f)
{
    return f ? f->name : "none";
}

int sim_count(const char *name)
{
    int count = 0, i;

    for (i = 0; i < fiber_count; ++i) {
        count += (!fibers[i].is_over && !strcmp(fibers[i].name, name));
    }
    return count;
}

int sim_number(void)
{
    return current->number;
}

apr_time_t sim_used(int number)
{
    const fiber *f = &fibers[number];

    return f->used + (f->is_busy ? now - f->busy_since : 0);
}

/* ---- who runs ---- */

static int is_free(const void *baton);
static int may_leave(const void *baton);
static int is_never(const void *baton);

static int can_run(const fiber *f)
{
    return (able & BIT(f))
           || ((asking & BIT(f)) && f->is_ready(f->ready_baton));
}

int sim_is_busy(int number)
{
    return fibers[number].is_busy || can_run(&fibers[number]);
}

/* The one of a set that comes after so many others. */
static fiber *nth(fiber_set set, unsigned n)
{
    while (n--) {
        set &= set - 1;
    }
    return &fibers[FIRST(set)];
}

static fiber *highest(fiber_set set)
{
    fiber *best = &fibers[FIRST(set)];

    while ((set &= set - 1)) {
        fiber *f = &fibers[FIRST(set)];

        best = f->rank > best->rank ? f : best;
    }
    return best;
}

static fiber *pick(void)
{
    fiber_set set = able, rest;

    for (rest = asking & ~able; rest; rest &= rest - 1) {
        const fiber *f = &fibers[FIRST(rest)];

        if (f->is_ready(f->ready_baton)) {
            set |= BIT(f);
        }
    }
    return !set ? NULL : by_rank ? highest(set)
        : nth(set, sim_random((unsigned)COUNT(set)));
}

/* Who looks again so soon needs nobody to wake it, in microseconds. */
#define SOON 4000

/*
 * Nobody can run. Who waits for a condition must find nothing to do when it is
 * woken for nothing, and so must who waits for events: else somebody has
 * forgotten to wake it.
 */
static int probe(void)
{
    int is_events_probe = sim_one_in(2), count = 0, i;

    for (i = 0; i < fiber_count; ++i) {
        fiber *f = &fibers[i];

        if (!f->is_over && f->is_ready
            && (is_events_probe ? f->waits_for_events : f->condition != NULL)
            && !(f->until && f->until <= now + SOON)) {
            f->is_signalled = 1;
            f->is_probed = 1;
            able |= BIT(f);
            ++count;
        }
    }
    return count;
}

void sim_did_something(const char *what)
{
    int i;

    if (!is_probing) {
        return;
    }
    SIM_CHECK(!what, "a thread was woken for nothing, and %s", what);
    for (i = 0; i < fiber_count; ++i) {
        fibers[i].is_probed = 0;
    }
    is_probing = 0; /* others may have something to do now */
}

static void check_probe(void)
{
    int i;

    for (i = 0; i < fiber_count; ++i) {
        fiber *f = &fibers[i];

        /* it cannot do either if somebody holds its lock */
        SIM_CHECK(f->is_over || !f->is_probed || f->is_ready == is_free,
                  "%s was woken for nothing, and went on", f->name);
        f->is_probed = 0;
    }
    is_probing = 0;
}

static void let_time_pass(void)
{
    apr_time_t next = 0;
    int has_reason = 0, is_busy = 0, i;

    for (i = 0; i < fiber_count; ++i) {
        const fiber *f = &fibers[i];

        if (!f->is_over && f->is_ready && f->until) {
            has_reason |= f->has_reason;
            is_busy |= f->is_busy;
            if (!next || f->until < next) {
                next = f->until;
            }
        }
    }
    SIM_CHECK(next, "nobody can go on");
    if (sim.on_time) {
        sim.on_time(next - now, has_reason, is_busy);
    }
    now = next;
    for (i = 0; i < fiber_count; ++i) {
        if (!fibers[i].is_over && fibers[i].is_ready && fibers[i].until
            && fibers[i].until <= now) {
            able |= BIT(&fibers[i]);
        }
    }
    ++sim.times;
    steps_at_this_time = 0;
}

static void choose_next(void)
{
    fiber *f;

    while (!(f = pick())) {
        if (is_probing) {
            check_probe();
            let_time_pass();
        }
        else if (sim_one_in(4) && !(sim.is_behind && sim.is_behind())
                 && probe()) {
            is_probing = 1;
        }
        else {
            let_time_pass();
        }
    }
    switch_to(f);
}

void sim_point(void)
{
    if (!current) {
        return;
    }
    ++sim.steps;
    SIM_CHECK(++steps_at_this_time < STEPS_MAX,
              "%d steps without any time passing", STEPS_MAX);
    if (++turn > TURN_MAX) {
        current->rank = 0;
        choose_next();
    }
    else if (sim_one_in(stickiness)) {
        if (by_rank) {
            current->rank = sim_random(1000);
        }
        choose_next();
    }
}


static int is_never(const void *baton UNUSED)
{
    return 0;
}

int sim_wait(int (*is_ready)(const void *baton), const void *baton,
             apr_time_t until, const char *what)
{
    int is_timed_out;

    current->is_ready = is_ready;
    current->ready_baton = baton;
    current->until = until;
    current->what = what;
    if ((!until || until > now)
        && !(is_ready == may_leave && current->is_signalled)) {
        able &= ~BIT(current);
    }
    if (is_ready != may_leave && is_ready != is_never) {
        asking |= BIT(current);
    }
    choose_next();
    able |= BIT(current);
    asking &= ~BIT(current);
    is_timed_out = !is_ready(baton);
    current->is_ready = NULL;
    current->until = 0;
    return !is_timed_out;
}

int sim_wait_outside(int (*is_ready)(const void *baton), const void *baton,
                     apr_time_t until, const char *what)
{
    int came;

    current->has_reason = 1;
    came = sim_wait(is_ready, baton, until, what);
    current->has_reason = 0;
    return came;
}

void sim_wait_for_events(int (*is_ready)(const void *baton),
                         const void *baton, apr_time_t until)
{
    current->is_probed = 0;
    current->is_signalled = 0;
    current->waits_for_events = 1;
    sim_wait(is_ready, baton, until, "events");
    current->waits_for_events = 0;
    if (until && until <= now) {
        current->is_probed = 0;
    }
}

void sim_pass(apr_interval_time_t time, int is_busy)
{
    current->is_busy = is_busy;
    current->busy_since = now;
    current->has_reason = 1;
    sim_wait(is_never, NULL, now + time, is_busy ? "its work" : "a while");
    current->is_busy = 0;
    current->has_reason = 0;
    current->used += is_busy ? time : 0;
}

/* ---- a schedule ---- */

void sim_begin(uint64_t seed)
{
    static const unsigned kinds[] = { 1, 2, 4, 16, 64, 400 };

    memset(&sim, 0, sizeof(sim));
    memset(was_nested, 0, sizeof(was_nested));
    sim.seed = seed;
    random_state = seed * 0x2545f4914f6cdd1du + 1;
    stickiness = kinds[sim_random(6)];
    by_rank = sim_one_in(3);
    now = BEGINNING;
    steps_at_this_time = turn = 0;
    mutex_count = 0;
    is_probing = 0;
    memset(&fibers[0], 0, sizeof(fibers[0]));
    fibers[0].name = "main";
    fiber_count = 1;
    able = 1;
    asking = 0;
    current = &fibers[0];
}

void sim_end(void)
{
    int i;

    for (i = 1; i < fiber_count; ++i) {
        SIM_CHECK(fibers[i].is_over, "%s has not ended", fibers[i].name);
    }
    current = NULL;
}

/* ---- time ---- */

apr_time_t sim_now(void)
{
    return now;
}

int clock_gettime(clockid_t which UNUSED, struct timespec *at)
{
    at->tv_sec = (time_t)apr_time_sec(now);
    at->tv_nsec = (long)apr_time_usec(now) * 1000;
    return 0;
}

APR_DECLARE(void) apr_sleep(apr_interval_time_t t)
{
    current->is_probed = 0; /* it looks, and goes on to do so */
    sim_wait(is_never, NULL, now + t, "a moment");
}

APR_DECLARE(apr_time_t) apr_time_now(void)
{
    return now;
}

/* ---- mutexes ---- */

static int is_free(const void *baton)
{
    return !((const apr_thread_mutex_t *)baton)->owner;
}

int sim_waiting_for_mutexes(void)
{
    int count = 0, i;

    for (i = 0; i < fiber_count; ++i) {
        count += (!fibers[i].is_over && fibers[i].is_ready == is_free);
    }
    return count;
}

int sim_locks_held(void)
{
    return current ? current->held_count : 0;
}

/* Two mutexes are taken in one order only. */
static void note_order(const apr_thread_mutex_t *mutex)
{
    int i;

    for (i = 0; i < current->held_count; ++i) {
        int held = current->held[i]->number;

        SIM_CHECK(!was_nested[mutex->number][held],
                  "mutex %d is taken with %d held, and was the other way "
                  "round", mutex->number, held);
        was_nested[held][mutex->number] = 1;
    }
}

/* Its pool is destroyed: nobody may use it any more. */
static apr_status_t let_go(void *baton)
{
    apr_thread_mutex_t *mutex = baton;
    int i;

    SIM_CHECK(!mutex->owner, "mutex %d goes, which is %s's", mutex->number,
              sim_name(mutex->owner));
    for (i = 0; i < fiber_count; ++i) {
        SIM_CHECK(fibers[i].is_over || fibers[i].is_ready != is_free
                  || fibers[i].ready_baton != mutex,
                  "mutex %d goes, for which %s waits", mutex->number,
                  fibers[i].name);
    }
    mutex->is_gone = 1;
    return APR_SUCCESS;
}

APR_DECLARE(apr_status_t) apr_thread_mutex_create(apr_thread_mutex_t **mutex,
                                                  unsigned int flags UNUSED,
                                                  apr_pool_t *pool)
{
    if (!current) {
        /* those that APR has made for its pools before have no number: how
         * often it takes them depends on what was freed before, and nothing
         * else */
        *mutex = apr_pcalloc(pool, sizeof(**mutex));
        return APR_SUCCESS;
    }
    SIM_CHECK(mutex_count + 1 < MUTEXES_MAX, "too many mutexes");
    *mutex = &mutexes[++mutex_count];
    memset(*mutex, 0, sizeof(**mutex));
    (*mutex)->number = mutex_count;
    apr_pool_cleanup_register(pool, *mutex, let_go, apr_pool_cleanup_null);
    return APR_SUCCESS;
}

static void take(apr_thread_mutex_t *mutex)
{
    mutex->owner = current;
    SIM_CHECK(current->held_count < HELD_MAX, "too many mutexes held");
    current->held[current->held_count++] = mutex;
}

APR_DECLARE(apr_status_t) apr_thread_mutex_lock(apr_thread_mutex_t *mutex)
{
    if (!mutex->number) {
        return APR_SUCCESS;
    }
    SIM_CHECK(!mutex->is_gone, "mutex %d is taken, which is gone",
              mutex->number);
    SIM_CHECK(mutex->owner != current, "mutex %d is taken twice",
              mutex->number);
    sim_point();
    note_order(mutex);
    if (mutex->owner) {
        sim_wait(is_free, mutex, 0, "a mutex");
    }
    take(mutex);
    return APR_SUCCESS;
}

APR_DECLARE(apr_status_t) apr_thread_mutex_trylock(apr_thread_mutex_t *mutex)
{
    SIM_CHECK(!mutex->is_gone, "mutex %d is tried, which is gone",
              mutex->number);
    sim_point();
    if (mutex->owner) {
        return APR_EBUSY;
    }
    take(mutex);
    return APR_SUCCESS;
}

APR_DECLARE(apr_status_t) apr_thread_mutex_unlock(apr_thread_mutex_t *mutex)
{
    int i = 0;

    if (!mutex->number) {
        return APR_SUCCESS;
    }
    SIM_CHECK(mutex->owner == current, "mutex %d is %s's", mutex->number,
              sim_name(mutex->owner));
    while (current->held[i] != mutex) {
        ++i;
    }
    current->held[i] = current->held[--current->held_count];
    mutex->owner = NULL;
    sim_point();
    return APR_SUCCESS;
}

APR_DECLARE(apr_status_t) apr_thread_mutex_destroy(
    apr_thread_mutex_t *mutex UNUSED)
{
    return APR_SUCCESS;
}

/* ---- conditions ---- */

static int may_leave(const void *baton)
{
    const fiber *f = baton;

    return f->is_signalled;
}

APR_DECLARE(apr_status_t) apr_thread_cond_create(apr_thread_cond_t **cond,
                                                 apr_pool_t *pool)
{
    *cond = apr_pcalloc(pool, sizeof(**cond));
    return APR_SUCCESS;
}

APR_DECLARE(apr_status_t) apr_thread_cond_timedwait(
    apr_thread_cond_t *cond, apr_thread_mutex_t *mutex,
    apr_interval_time_t timeout)
{
    apr_time_t until = timeout < 0 ? 0 : now + timeout;
    int is_timed_out;

    SIM_CHECK(mutex->owner == current, "waits without the mutex");
    current->is_probed = 0;
    current->condition = cond;
    current->is_signalled = 0;
    apr_thread_mutex_unlock(mutex);
    is_timed_out = !sim_wait(may_leave, current, until, "a condition");
    current->condition = NULL;
    if (is_timed_out) {
        current->is_probed = 0;
    }
    apr_thread_mutex_lock(mutex);
    return is_timed_out ? APR_TIMEUP : APR_SUCCESS;
}

APR_DECLARE(apr_status_t) apr_thread_cond_wait(apr_thread_cond_t *cond,
                                               apr_thread_mutex_t *mutex)
{
    return apr_thread_cond_timedwait(cond, mutex, -1);
}

/* Wakes those who wait, or one of them, whichever. */
static void wake(const apr_thread_cond_t *cond, int all)
{
    fiber *waiting[FIBERS_MAX];
    int count = 0, i;

    for (i = 0; i < fiber_count; ++i) {
        if (!fibers[i].is_over && fibers[i].condition == cond
            && !fibers[i].is_signalled) {
            waiting[count++] = &fibers[i];
        }
    }
    if (count && !all) {
        waiting[0] = waiting[sim_random((unsigned)count)];
        count = 1;
    }
    for (i = 0; i < count; ++i) {
        waiting[i]->is_signalled = 1;
        able |= BIT(waiting[i]);
        waiting[i]->is_probed = is_probing; /* it may do nothing either */
    }
    sim_point();
}

APR_DECLARE(apr_status_t) apr_thread_cond_signal(apr_thread_cond_t *cond)
{
    wake(cond, 0);
    return APR_SUCCESS;
}

APR_DECLARE(apr_status_t) apr_thread_cond_broadcast(apr_thread_cond_t *cond)
{
    wake(cond, 1);
    return APR_SUCCESS;
}

APR_DECLARE(apr_status_t) apr_thread_cond_destroy(
    apr_thread_cond_t *cond UNUSED)
{
    return APR_SUCCESS;
}

/* ---- threads ---- */

static void *run_thread(void *baton)
{
    apr_thread_t *thread = baton;

    thread->start(thread, thread->data);
    SIM_CHECK(!current->held_count, "a thread ends with a mutex held");
    thread->is_over = 1;
    return NULL;
}

APR_DECLARE(apr_status_t) apr_thread_create(apr_thread_t **thread,
                                            apr_threadattr_t *attr UNUSED,
                                            apr_thread_start_t start,
                                            void *data, apr_pool_t *pool)
{
    if (sim.may_fail && sim_one_in(3)) {
        return APR_EAGAIN;
    }
    if (sim.may_fail) {
        sim_did_something(NULL); /* it may have failed before */
    }
    *thread = apr_pcalloc(pool, sizeof(**thread));
    (*thread)->start = start;
    (*thread)->data = data;
    sim_start(run_thread, *thread, "thread");
    sim_point();
    return APR_SUCCESS;
}

#undef ap_thread_create
AP_DECLARE(apr_status_t) ap_thread_create(apr_thread_t **thread,
                                          apr_threadattr_t *attr,
                                          apr_thread_start_t start, void *data,
                                          apr_pool_t *pool)
{
    return apr_thread_create(thread, attr, start, data, pool);
}

static int has_ended(const void *baton)
{
    return ((const apr_thread_t *)baton)->is_over;
}

APR_DECLARE(apr_status_t) apr_thread_join(apr_status_t *result,
                                          apr_thread_t *thread)
{
    if (!thread->is_over) {
        sim_wait(has_ended, thread, 0, "the end of a thread");
    }
    *result = APR_SUCCESS;
    return APR_SUCCESS;
}

APR_DECLARE(apr_os_thread_t) apr_os_thread_current(void)
{
    return (apr_os_thread_t)(uintptr_t)current;
}

/* ---- atomics: points to switch at ---- */

APR_DECLARE(apr_uint32_t) apr_atomic_read32(volatile apr_uint32_t *mem)
{
    sim_point();
    return *mem;
}

APR_DECLARE(void) apr_atomic_set32(volatile apr_uint32_t *mem,
                                   apr_uint32_t val)
{
    sim_point();
    *mem = val;
}

APR_DECLARE(apr_uint32_t) apr_atomic_add32(volatile apr_uint32_t *mem,
                                           apr_uint32_t val)
{
    apr_uint32_t old;

    sim_point();
    old = *mem;
    *mem = old + val;
    return old;
}

APR_DECLARE(void) apr_atomic_sub32(volatile apr_uint32_t *mem,
                                   apr_uint32_t val)
{
    apr_atomic_add32(mem, 0 - val);
}

APR_DECLARE(apr_uint32_t) apr_atomic_inc32(volatile apr_uint32_t *mem)
{
    return apr_atomic_add32(mem, 1);
}

APR_DECLARE(int) apr_atomic_dec32(volatile apr_uint32_t *mem)
{
    return apr_atomic_add32(mem, (apr_uint32_t)-1) != 1;
}

APR_DECLARE(apr_uint32_t) apr_atomic_xchg32(volatile apr_uint32_t *mem,
                                            apr_uint32_t val)
{
    apr_uint32_t old;

    sim_point();
    old = *mem;
    *mem = val;
    return old;
}

APR_DECLARE(apr_uint32_t) apr_atomic_cas32(volatile apr_uint32_t *mem,
                                           apr_uint32_t with,
                                           apr_uint32_t cmp)
{
    apr_uint32_t old;

    sim_point();
    old = *mem;
    if (old == cmp) {
        *mem = with;
    }
    return old;
}

APR_DECLARE(apr_uint64_t) apr_atomic_read64(volatile apr_uint64_t *mem)
{
    sim_point();
    return *mem;
}

APR_DECLARE(void) apr_atomic_set64(volatile apr_uint64_t *mem,
                                   apr_uint64_t val)
{
    sim_point();
    *mem = val;
}

APR_DECLARE(apr_uint64_t) apr_atomic_cas64(volatile apr_uint64_t *mem,
                                           apr_uint64_t with,
                                           apr_uint64_t cmp)
{
    apr_uint64_t old;

    sim_point();
    old = *mem;
    if (old == cmp) {
        *mem = with;
    }
    return old;
}
