/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "unit.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <apr_atomic.h>
#include <apr_portable.h>
#include <apr_thread_proc.h>

#include "h2x_clock.h"
#include "h2x_threads.h"
#include "../../engine/h2x_poll.h"

#define FOREVER apr_time_from_sec(600)
#define MAX_LOG 64

/* Threads that are kept beside the idle ones: two that may wait for events,
 * and the watchdog. */
#define KEPT 3

/* Counters */
enum { READY, TICKS, LATE, POKED, BEGUN, ENDED, GATE, OTHER, FENCE };

static h2x_threads *threads;

/* The names of those for which work was done, in order; the numbers of the
 * threads that are in callbacks. Guarded by the lock. */
static apr_thread_mutex_t *log_lock;
static char log_text[MAX_LOG];
static int numbers[MAX_LOG];
static int number_max;
static int number_clashes;

/* How many threads wait for events, and the most that did. */
static apr_uint32_t waiting, waiting_most;

/* An entry, mostly with a socket, and the other end of that. */
typedef struct {
    h2x_entry entry;
    char name;
    int ready;      /* the counters it raises */
    int ticks;
    int late;
    int poked;
    int gate;       /* on_ready waits until GATE is that high */
    int work_gate;  /* on_work does */
    int due_gate;   /* the others do */
    int rearm;      /* so many times, on_ready arms again */
    int retick;     /* so many times, on_tick asks for one more */
    int asks;       /* on_ready asks for everything */
    int says;       /* on_ready says that it waits */
    int computes;   /* on_ready computes while it waits */
    int works;      /* on_ready asks whether it may: */
    int may_work;   /* the answer */
    apr_uint32_t storms; /* on_storm was called, atomic */
    apr_socket_t *socket;
    int fd;
    int peer;
} thing;

/* The linker has h2x_threads.c call this (see Makefile.am). */
apr_uint32_t __real_h2x_poll_wait(h2x_poll *poll, apr_interval_time_t timeout);
apr_uint32_t __wrap_h2x_poll_wait(h2x_poll *poll, apr_interval_time_t timeout);
apr_uint32_t __wrap_h2x_poll_wait(h2x_poll *poll, apr_interval_time_t timeout)
{
    apr_uint32_t count, most, id;

    if (!timeout) {
        return __real_h2x_poll_wait(poll, 0);
    }
    count = apr_atomic_inc32(&waiting) + 1;
    while ((most = apr_atomic_read32(&waiting_most)) < count) {
        apr_atomic_cas32(&waiting_most, count, most);
    }
    id = __real_h2x_poll_wait(poll, timeout);
    apr_atomic_dec32(&waiting);
    return id;
}

/* ---- callbacks ---- */

static void note_number(const h2x_member *me, int by)
{
    apr_thread_mutex_lock(log_lock);
    if (by > 0) {
        number_max = me->number > number_max ? me->number : number_max;
        number_clashes += (numbers[me->number] != 0);
    }
    numbers[me->number] += by;
    apr_thread_mutex_unlock(log_lock);
}

static void compute_until(int high)
{
    apr_time_t end = h2x_clock_now() + apr_time_from_sec(30);

    while (unit_value(GATE) < high && h2x_clock_now() < end) {
        continue;
    }
}

static void on_ready(void *baton, h2x_member *me)
{
    thing *it = baton;
    char c;

    note_number(me, 1);
    if (it->works) {
        it->may_work = h2x_threads_may_work(threads, &it->entry, me);
    }
    unit_raise(it->ready);
    if (it->says) {
        h2x_threads_will_wait(threads, me);
    }
    if (it->computes) {
        compute_until(it->gate);
    }
    unit_await(GATE, it->gate);
    note_number(me, -1);
    if (it->rearm && it->rearm-- > 0) {
        assert_int_equal(read(it->fd, &c, 1), 1);
        h2x_threads_arm(threads, &it->entry, APR_POLLIN);
    }
    if (it->asks) {
        h2x_threads_arm(threads, &it->entry, APR_POLLIN);
        h2x_threads_tick(threads, &it->entry, 1);
        h2x_threads_deadline(threads, &it->entry, 1);
        h2x_threads_offer(threads, &it->entry, 1);
    }
}

static void on_work(void *baton, h2x_member *me)
{
    thing *it = baton;
    size_t len;

    assert_non_null(me->thread);
    note_number(me, 1);
    apr_thread_mutex_lock(log_lock);
    len = strlen(log_text);
    if (len + 1 < sizeof(log_text)) {
        log_text[len] = it->name;
    }
    apr_thread_mutex_unlock(log_lock);
    unit_raise(BEGUN);
    unit_await(GATE, it->work_gate);
    note_number(me, -1);
    unit_raise(ENDED);
}

static void be_due(thing *it, int counter)
{
    unit_raise(counter);
    unit_await(GATE, it->due_gate);
}

static void on_tick(void *baton)
{
    thing *it = baton;

    if (it->retick-- > 0) {
        h2x_threads_tick(threads, &it->entry, 1);
    }
    be_due(it, it->ticks);
}

static void on_deadline(void *baton)
{
    be_due(baton, ((thing *)baton)->late);
}

static void on_poke(void *baton)
{
    be_due(baton, ((thing *)baton)->poked);
}

/* ---- helpers ---- */

static apr_status_t close_both(void *baton)
{
    thing *it = baton;

    close(it->fd);
    close(it->peer);
    return APR_SUCCESS;
}

static void start_limited(int min, int max, int spare, int processors,
                          apr_interval_time_t idle)
{
    const h2x_threads_limits limits = { min, max, spare, processors, idle };

    apr_thread_mutex_create(&log_lock, APR_THREAD_MUTEX_DEFAULT, unit_pool);
    memset(log_text, 0, sizeof(log_text));
    memset(numbers, 0, sizeof(numbers));
    number_max = number_clashes = 0;
    apr_atomic_set32(&waiting_most, 0);
    assert_int_equal(h2x_threads_create(&threads, &limits, unit_pool),
                     APR_SUCCESS);
}

static void start(int min, int max, apr_interval_time_t idle)
{
    start_limited(min, max, 0, 2, idle);
}

static thing *make(char name, int work_gate)
{
    thing *it = apr_pcalloc(unit_pool, sizeof(*it));

    it->name = name;
    it->work_gate = work_gate;
    it->ready = READY;
    it->ticks = TICKS;
    it->late = LATE;
    it->poked = POKED;
    it->entry.on_ready = on_ready;
    it->entry.on_work = on_work;
    it->entry.on_tick = on_tick;
    it->entry.on_deadline = on_deadline;
    it->entry.on_poke = on_poke;
    it->entry.baton = it;
    return it;
}

/* One that is known, with a socket. */
static thing *add(void)
{
    thing *it = make('-', 0);
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    it->fd = fds[0];
    it->peer = fds[1];
    apr_pool_pre_cleanup_register(unit_pool, it, close_both);
    apr_os_sock_put(&it->socket, &it->fd, unit_pool);
    h2x_threads_add(threads, &it->entry, it->socket);
    return it;
}

static thing *add_raising(int counter)
{
    thing *it = add();

    it->ready = it->ticks = it->late = it->poked = counter;
    return it;
}

/* One without. */
static thing *add_source(char name, int work_gate)
{
    thing *it = make(name, work_gate);

    h2x_threads_add(threads, &it->entry, NULL);
    return it;
}

static void say(thing *it)
{
    assert_int_equal(write(it->peer, "x", 1), 1);
}

static void arm(thing *it, int events)
{
    assert_int_equal(h2x_threads_arm(threads, &it->entry, (apr_int16_t)events),
                     APR_SUCCESS);
}

static void offer(thing *it, int times)
{
    while (times-- > 0) {
        h2x_threads_offer(threads, &it->entry, 1);
    }
}

/* When this returns, threads have taken the events that were there before. */
static void pass_fence(void)
{
    thing *fence = add_raising(FENCE);
    int before = unit_value(FENCE), i;

    for (i = 1; i <= 2; ++i) {
        arm(fence, APR_POLLOUT);
        assert_true(unit_await(FENCE, before + i));
    }
    h2x_threads_forget(threads, &fence->entry);
}

static int start_some(void **state)
{
    if (unit_setup_alone(state)) {
        return 1;
    }
    start_limited(0, 4, 0, 2, FOREVER);
    return 0;
}

static int start_one_processor(void **state)
{
    if (unit_setup_alone(state)) {
        return 1;
    }
    start_limited(0, 4, 0, 1, FOREVER);
    return 0;
}

/* No callback is under way when sockets are closed. */
static int stop(void **state)
{
    int clashes = number_clashes;

    unit_raise(GATE);
    h2x_threads_stop(threads);
    return clashes || apr_atomic_read32(&waiting_most) > 2
           || unit_teardown(state);
}

/* ---- sockets ---- */

TEST(ready_to_read)
{
    thing *it = add();

    arm(it, APR_POLLIN);
    pass_fence();
    assert_int_equal(unit_value(READY), 0);
    say(it);
    assert_true(unit_await(READY, 1));
    pass_fence();       /* there still is input, but nobody asks */
    assert_int_equal(unit_value(READY), 1);
    arm(it, APR_POLLIN);
    assert_true(unit_await(READY, 2));
}

TEST(ready_to_write)
{
    thing *it = add();
    char buffer[4096] = { 0 };

    arm(it, APR_POLLIN | APR_POLLOUT);
    assert_true(unit_await(READY, 1));
    while (send(it->fd, buffer, sizeof(buffer), MSG_DONTWAIT) > 0) {
        /* until it is full */
    }
    arm(it, APR_POLLOUT);
    pass_fence();
    assert_int_equal(unit_value(READY), 1);
    while (recv(it->peer, buffer, sizeof(buffer), MSG_DONTWAIT) > 0) {
        /* until it is empty */
    }
    assert_true(unit_await(READY, 2));
}

TEST(ready_when_peer_is_gone)
{
    thing *it = add();

    arm(it, APR_POLLIN);
    assert_int_equal(shutdown(it->peer, SHUT_RDWR), 0);
    assert_true(unit_await(READY, 1));
}

TEST(armed_anew)
{
    thing *it = add();

    arm(it, APR_POLLIN);
    arm(it, APR_POLLIN);
    pass_fence();
    assert_int_equal(unit_value(READY), 0);
    arm(it, APR_POLLIN | APR_POLLOUT);
    assert_true(unit_await(READY, 1));
    arm(it, APR_POLLOUT);
    assert_true(unit_await(READY, 2));
    arm(it, APR_POLLIN);
    pass_fence();
    assert_int_equal(unit_value(READY), 2);
}

TEST(disarmed)
{
    thing *it = add();

    h2x_threads_disarm(threads, &it->entry);
    arm(it, APR_POLLIN);
    h2x_threads_disarm(threads, &it->entry);
    h2x_threads_disarm(threads, &it->entry);
    say(it);
    pass_fence();
    assert_int_equal(unit_value(READY), 0);
    arm(it, APR_POLLIN);
    assert_true(unit_await(READY, 1));
}

TEST(armed_by_its_callback)
{
    thing *it = add();
    int i;

    it->rearm = 50;
    arm(it, APR_POLLIN);
    for (i = 1; i <= 50; ++i) {
        say(it);
        assert_true(unit_await(READY, i));
    }
}

TEST(many_sockets)
{
    thing *all[200];
    int i;

    for (i = 0; i < 200; ++i) {
        all[i] = add();
        arm(all[i], APR_POLLIN);
    }
    for (i = 0; i < 200; i += 2) {
        say(all[i]);
    }
    assert_true(unit_await(READY, 100));
    for (i = 1; i < 200; i += 2) {
        h2x_threads_forget(threads, &all[i]->entry);
        say(all[i]);
    }
    pass_fence();
    assert_int_equal(unit_value(READY), 100);
}

/* Two wait at most, however many have nothing to do. */
TEST(no_more_than_two_wait)
{
    thing *all[4];
    int i;

    for (i = 0; i < 4; ++i) {
        all[i] = add();
        all[i]->gate = 1;
        all[i]->says = 1;
        arm(all[i], APR_POLLOUT);
    }
    assert_true(unit_await(READY, 4));
    unit_raise(GATE);
    for (i = 0; i < 4; ++i) {
        h2x_threads_forget(threads, &all[i]->entry);
    }
    pass_fence();
    assert_in_range(apr_atomic_read32(&waiting_most), 1, 2);
}

/* ---- one that is stuck, and the others ---- */

/* Those of some entries are in their callbacks; the others' come. */
static void check_others(void)
{
    thing *other = add_raising(OTHER), *worker = add_source('w', 0);

    arm(other, APR_POLLOUT);
    assert_true(unit_await(OTHER, 1));
    other->retick = 1;
    h2x_threads_tick(threads, &other->entry, 1);
    assert_true(unit_await(OTHER, 3));
    h2x_threads_deadline(threads, &worker->entry, 1);
    assert_true(unit_await(LATE, 1));
    offer(worker, 1);
    assert_true(unit_await(ENDED, 1));
    assert_int_equal(unit_value(GATE), 0);
}

static void stick(int count, int says, int computes)
{
    int i;

    for (i = 0; i < count; ++i) {
        thing *it = add();

        it->gate = 1;
        it->says = says;
        it->computes = computes;
        arm(it, APR_POLLOUT);
    }
    assert_true(unit_await(READY, count));
}

TEST(one_waits_in_its_callback)
{
    stick(1, 0, 0);
    check_others();
}

TEST(four_wait_in_their_callbacks)
{
    stick(4, 0, 0);
    check_others();
}

TEST(they_say_that_they_wait)
{
    stick(4, 1, 0);
    check_others();
}

TEST(one_computes_in_its_callback)
{
    stick(1, 0, 1);
    check_others();
}

TEST(due_ones_wait_in_their_callbacks)
{
    thing *a = add_source('a', 0), *b = add_source('b', 0);

    a->due_gate = b->due_gate = 1;
    h2x_threads_tick(threads, &a->entry, 1);
    assert_true(unit_await(TICKS, 1));
    h2x_threads_tick(threads, &b->entry, 1);
    assert_true(unit_await(TICKS, 2));
    check_others();
    assert_int_equal(unit_value(TICKS), 2);
}

/* ---- pokes ---- */

TEST(poke_calls_all)
{
    thing *a = add(), *b = add(), *c = add();

    arm(a, APR_POLLIN);
    h2x_threads_forget(threads, &c->entry);
    h2x_threads_poke(threads);
    assert_true(unit_await(POKED, 2));
    h2x_threads_forget(threads, &b->entry);
    h2x_threads_poke(threads);
    assert_true(unit_await(POKED, 3));
    pass_fence();
    assert_int_equal(unit_value(POKED), 3);
    /* who was armed still is */
    say(a);
    assert_true(unit_await(READY, 1));
}

TEST(what_is_due_does_not_wait_for_a_callback)
{
    thing *it = add();

    it->due_gate = 1;
    h2x_threads_poke(threads);
    assert_true(unit_await(POKED, 1));
    h2x_threads_poke(threads);
    assert_true(unit_await(POKED, 2));
    h2x_threads_deadline(threads, &it->entry, 1);
    assert_true(unit_await(LATE, 1));
    unit_raise(GATE);
    pass_fence();
    assert_int_equal(unit_value(POKED), 2);
    assert_int_equal(unit_value(LATE), 1);
}

/* ---- ticks ---- */

TEST(tick_comes_once)
{
    thing *it = add(), *other = add_raising(OTHER);
    apr_time_t at = h2x_clock_now() + 20000;

    h2x_threads_tick(threads, &it->entry, at);
    assert_true(unit_await(TICKS, 1));
    assert_true(h2x_clock_now() >= at);
    other->retick = 4;
    h2x_threads_tick(threads, &other->entry, 1);    /* long ago */
    assert_true(unit_await(OTHER, 5));
    assert_int_equal(unit_value(TICKS), 1);
    assert_int_equal(unit_value(READY), 0);
    h2x_threads_tick(threads, &it->entry, 1);
    assert_true(unit_await(TICKS, 2));
}

TEST(tick_is_replaced)
{
    thing *it = add(), *gone = add(), *other = add_raising(OTHER);
    apr_time_t later = h2x_clock_now() + apr_time_from_sec(600);

    h2x_threads_tick(threads, &gone->entry, h2x_clock_now() + 400000);
    h2x_threads_tick(threads, &gone->entry, 0);
    h2x_threads_tick(threads, &it->entry, h2x_clock_now() + 400000);
    h2x_threads_tick(threads, &it->entry, later);
    h2x_threads_tick(threads, &other->entry, h2x_clock_now() + 450000);
    assert_true(unit_await(OTHER, 1));
    pass_fence();
    assert_int_equal(unit_value(TICKS), 0);
    h2x_threads_tick(threads, &it->entry, 1);
    assert_true(unit_await(TICKS, 1));
}

TEST(ticks_are_milliseconds)
{
    thing *it = add();
    apr_time_t begun = h2x_clock_now();

    it->retick = 19;
    h2x_threads_tick(threads, &it->entry, 1);
    assert_true(unit_await(TICKS, 20));
    assert_true(h2x_clock_now() - begun > 40000);
}

/* Counts how often threads were given a processor, but for the calling one. */
static long count_switches(void)
{
    DIR *tasks = opendir("/proc/self/task");
    const struct dirent *task;
    char path[300], line[128];
    long sum = 0;
    FILE *status;

    while (tasks && (task = readdir(tasks))) {
        int id = atoi(task->d_name);

        snprintf(path, sizeof(path), "/proc/self/task/%d/status", id);
        status = (id && id != (int)getpid()) ? fopen(path, "r") : NULL;
        while (status && fgets(line, sizeof(line), status)) {
            const char *number = strstr(line, "ctxt_switches:");

            sum += number ? atol(number + sizeof("ctxt_switches:") - 1) : 0;
        }
        if (status) {
            fclose(status);
        }
    }
    if (tasks) {
        closedir(tasks);
    }
    return sum;
}

/* After a while no thread runs any more, and no watchdog looks. */
static int is_quiet(void)
{
    int tries = 100;
    long before;

    do {
        before = count_switches();
        apr_sleep(100000);
    } while (count_switches() != before && --tries);
    return tries > 0 && before > 0;
}

/* Then it has to be woken for everything. */
TEST(rests_and_is_woken)
{
    thing *it = add(), *stuck = add();

    assert_true(is_quiet());
    h2x_threads_tick(threads, &it->entry, 1);
    assert_true(unit_await(TICKS, 1));
    assert_true(is_quiet());
    it->retick = 5;
    h2x_threads_tick(threads, &it->entry, 1);
    assert_true(unit_await(TICKS, 7));
    assert_true(is_quiet());
    h2x_threads_deadline(threads, &it->entry, 1);
    assert_true(unit_await(LATE, 1));
    assert_true(is_quiet());
    h2x_threads_poke(threads);
    assert_true(unit_await(POKED, 2));
    assert_true(is_quiet());
    offer(it, 2);
    assert_true(unit_await(ENDED, 2));
    assert_true(is_quiet());
    stuck->gate = 1;
    arm(stuck, APR_POLLOUT);
    assert_true(unit_await(READY, 1));
    assert_true(is_quiet());
    arm(it, APR_POLLOUT);
    assert_true(unit_await(READY, 2));
}

TEST(many_ticking)
{
    thing *all[50];
    int i;

    for (i = 0; i < 50; ++i) {
        all[i] = add();
        all[i]->retick = 100000;
        h2x_threads_tick(threads, &all[i]->entry, 1);
    }
    assert_true(unit_await(TICKS, 500));
    for (i = 0; i < 50; ++i) {
        h2x_threads_forget(threads, &all[i]->entry);
    }
    i = unit_value(TICKS);
    apr_sleep(20000);
    assert_int_equal(unit_value(TICKS), i);
}

/* ---- deadlines ---- */

TEST(deadline_comes_once)
{
    thing *it = add(), *other = add_raising(OTHER);
    apr_time_t deadline = h2x_clock_now() + 100000;

    h2x_threads_deadline(threads, &it->entry, deadline);
    assert_true(unit_await(LATE, 1));
    assert_true(h2x_clock_now() >= deadline);
    h2x_threads_deadline(threads, &other->entry, h2x_clock_now() + 100000);
    assert_true(unit_await(OTHER, 1));
    assert_int_equal(unit_value(LATE), 1);
    h2x_threads_deadline(threads, &it->entry, 1);   /* long ago */
    assert_true(unit_await(LATE, 2));
}

TEST(deadline_is_replaced)
{
    thing *it = add(), *other = add_raising(OTHER);
    apr_time_t now = h2x_clock_now();

    h2x_threads_deadline(threads, &it->entry, now + 50000);
    h2x_threads_deadline(threads, &it->entry, now + apr_time_from_sec(600));
    h2x_threads_deadline(threads, &other->entry, now + 100000);
    assert_true(unit_await(OTHER, 1));
    assert_int_equal(unit_value(LATE), 0);
    h2x_threads_deadline(threads, &it->entry, now + 200000);
    assert_true(unit_await(LATE, 1));
}

TEST(deadline_is_taken_back)
{
    thing *it = add(), *gone = add(), *other = add_raising(OTHER);
    apr_time_t later = h2x_clock_now() + apr_time_from_sec(2);

    h2x_threads_deadline(threads, &it->entry, 0);
    h2x_threads_deadline(threads, &it->entry, later);
    h2x_threads_deadline(threads, &gone->entry, later);
    h2x_threads_deadline(threads, &other->entry, later);
    h2x_threads_deadline(threads, &it->entry, 0);
    h2x_threads_forget(threads, &gone->entry);
    assert_true(unit_await(OTHER, 1));
    pass_fence();
    assert_int_equal(unit_value(LATE), 0);
}

/* ---- forgetting ---- */

TEST(forgotten)
{
    thing *it = add();

    arm(it, APR_POLLIN);
    h2x_threads_tick(threads, &it->entry, 1);
    h2x_threads_deadline(threads, &it->entry, h2x_clock_now() + 10000);
    h2x_threads_forget(threads, &it->entry);
    memset(&it->entry, 0xff, sizeof(it->entry));    /* nobody looks at it */
    say(it);
    apr_sleep(300000);
    pass_fence();
    assert_int_equal(unit_value(READY), 0);
    assert_int_equal(unit_value(LATE), 0);
}

static void *APR_THREAD_FUNC forget(apr_thread_t *thread UNUSED, void *baton)
{
    thing *it = baton;

    unit_raise(OTHER);
    h2x_threads_forget(threads, &it->entry);
    assert_int_equal(it->entry.users, 0);
    assert_int_equal(it->entry.inside, 0);
    unit_raise(OTHER);
    return NULL;
}

/* Forgets one in a thread of its own, which has to wait until GATE is raised,
 * for all that was begun. */
static void check_forget_waits(thing *it)
{
    apr_thread_t *thread;
    apr_status_t rv;

    apr_thread_create(&thread, NULL, forget, it, unit_pool);
    assert_true(unit_await(OTHER, 1));
    apr_sleep(20000);
    assert_int_equal(unit_value(OTHER), 1);
    unit_raise(GATE);
    assert_true(unit_await(OTHER, 2));
    apr_thread_join(&rv, thread);
}

TEST(forget_waits_for_callback)
{
    thing *it = add(), *free_one = add();

    it->gate = 1;
    arm(it, APR_POLLOUT);
    assert_true(unit_await(READY, 1));
    h2x_threads_forget(threads, &free_one->entry);  /* waits for no other */
    check_forget_waits(it);
}

TEST(forget_waits_for_a_due_callback)
{
    thing *it = add();

    it->due_gate = 1;
    h2x_threads_poke(threads);
    assert_true(unit_await(POKED, 1));
    check_forget_waits(it);
    pass_fence();
    assert_int_equal(unit_value(POKED), 1);
}

TEST(forget_waits_for_those_inside)
{
    thing *a = add_source('a', 1), *b = add_source('b', 0);

    offer(a, 4);
    assert_true(unit_await(BEGUN, 4));
    offer(a, 5);
    offer(b, 1);
    check_forget_waits(a);
    assert_true(unit_await(ENDED, 5));
    assert_int_equal(unit_value(BEGUN), 5);
    assert_int_equal(a->entry.offers, 0);
}

/* What a callback asks for while that waits is forgotten too. */
TEST(forgets_all_that_a_callback_asks)
{
    thing *it = add();

    it->gate = it->asks = 1;
    arm(it, APR_POLLOUT);
    assert_true(unit_await(READY, 1));
    check_forget_waits(it);
    assert_int_equal(it->entry.events, 0);
    assert_int_equal(it->entry.is_linked, 0);
    assert_int_equal(it->entry.deadline, 0);
    assert_int_equal(it->entry.offers, 0);
    assert_int_equal(it->entry.due, 0);
}

/* While a callback is under way, all else may be called, also for its entry;
 * events come to it at once. */
TEST(callback_holds_up_no_caller)
{
    thing *it = add(), *other = add();

    it->gate = 1;
    arm(it, APR_POLLOUT);
    assert_true(unit_await(READY, 1));
    arm(it, APR_POLLIN);
    say(it);
    assert_true(unit_await(READY, 2));
    arm(other, APR_POLLOUT);
    h2x_threads_tick(threads, &other->entry, 1);
    h2x_threads_deadline(threads, &other->entry, 1);
    h2x_threads_disarm(threads, &it->entry);
    h2x_threads_poke(threads);
    assert_true(unit_await(READY, 3));
    assert_true(unit_await(TICKS, 1));
    assert_true(unit_await(LATE, 1));
    assert_true(unit_await(POKED, 2));
}

/* ---- work ---- */

TEST(first_threads)
{
    int before = unit_threads();

    start(3, 5, FOREVER);
    assert_int_equal(unit_threads(), before + 2); /* and the watchdog */
}

TEST(no_thread_at_all)
{
    const h2x_threads_limits limits = { 0, 1, 0, 1, FOREVER };
    int before = unit_threads();

    apr_atomic_set32(&unit_no_threads, 1);
    assert_int_not_equal(h2x_threads_create(&threads, &limits, unit_pool),
                         APR_SUCCESS);
    assert_int_equal(unit_threads(), before);
}

TEST(offers_run)
{
    thing *it;

    start(0, 4, FOREVER);
    it = add_source('a', 0);
    offer(it, 50);
    assert_true(unit_await(ENDED, 50));
    h2x_threads_forget(threads, &it->entry);
    assert_int_equal(unit_value(ENDED), 50);
    assert_int_equal(it->entry.offers, 0);
    assert_int_equal(it->entry.inside, 0);
    assert_true(number_max < 4 + 2);
}

/* No piece of work waits for another one while there may be more threads. */
TEST(second_does_not_wait_for_first)
{
    thing *it;

    start(0, 2, FOREVER);
    it = add_source('a', 1);
    offer(it, 1);
    assert_true(unit_await(BEGUN, 1));
    offer(it, 1);
    assert_true(unit_await(BEGUN, 2));
    assert_int_equal(unit_value(ENDED), 0);
    unit_raise(GATE);
    assert_true(unit_await(ENDED, 2));
}

/* The same where one thread is idle, and has perhaps been woken for the first
 * but not come to it. */
TEST(idle_thread_is_counted_once)
{
    thing *it;
    int i, n;

    for (i = 1, n = 1; i <= 50; ++i) {
        start(0, 3, FOREVER);
        it = add_source('a', 0);
        offer(it, 1);
        assert_true(unit_await(ENDED, n));
        it->work_gate = i;
        offer(it, 3);
        assert_true(unit_await(BEGUN, n + 3));
        assert_int_equal(unit_value(ENDED), n);
        unit_raise(GATE);
        assert_true(unit_await(ENDED, n + 3));
        n += 4;
        h2x_threads_stop(threads);
    }
}

/* Those that wait are not counted, but no more than these are added. */
TEST(no_more_threads_than_max)
{
    thing *it, *more;
    int before = unit_threads();

    start(0, 3, FOREVER);
    it = add_source('a', 1);
    more = add_source('b', 1);
    offer(it, 10);
    offer(more, 10);
    assert_true(unit_await(BEGUN, 3));
    pass_fence();
    assert_in_range(unit_threads(), before + 3 + 2, before + 3 + KEPT);
    assert_int_equal(it->entry.inside + more->entry.inside, 3);
    assert_int_equal(it->entry.offers + more->entry.offers, 17);
    assert_int_equal(unit_value(BEGUN), 3);
    unit_raise(GATE);
    assert_true(unit_await(ENDED, 20));
    assert_true(number_max < 3 + 2);
}

TEST(sources_take_turns)
{
    thing *first, *a, *b, *c;

    start(0, 1, FOREVER);
    first = add_source('x', 1);
    a = add_source('a', 0);
    b = add_source('b', 0);
    c = add_source('c', 0);
    offer(first, 1);
    assert_true(unit_await(BEGUN, 1));
    offer(a, 5);
    offer(b, 2);
    offer(a, 1);
    offer(c, 3);
    unit_raise(GATE);
    assert_true(unit_await(ENDED, 12));
    assert_string_equal(log_text, "xabcabcacaaa");
}

TEST(withdraws_what_was_not_begun)
{
    thing *a, *b;

    start(0, 1, FOREVER);
    a = add_source('a', 1);
    b = add_source('b', 0);
    assert_int_equal(h2x_threads_withdraw(threads, &a->entry), 0);
    offer(a, 1);
    assert_true(unit_await(BEGUN, 1));
    offer(a, 3);
    offer(b, 2);
    assert_int_equal(h2x_threads_withdraw(threads, &a->entry), 3);
    assert_int_equal(h2x_threads_withdraw(threads, &a->entry), 0);
    offer(a, 1);    /* behind b, now */
    unit_raise(GATE);
    assert_true(unit_await(ENDED, 4));
    h2x_threads_forget(threads, &a->entry);
    h2x_threads_forget(threads, &b->entry);
    assert_string_equal(log_text, "abab");
}

/* An offer without work is no harm; the next one is served. */
TEST(withdraws_all)
{
    thing *a;
    int i;

    start(0, 2, FOREVER);
    a = add_source('a', 0);
    for (i = 0; i < 1000; ++i) {
        offer(a, 1);
        h2x_threads_withdraw(threads, &a->entry);
    }
    offer(a, 1);
    assert_true(unit_await(ENDED, 1));
    h2x_threads_forget(threads, &a->entry);
    assert_int_equal(a->entry.inside, 0);
}

TEST(idle_threads_end)
{
    thing *it;
    int before = unit_threads();

    start(0, 5, 50000);
    it = add_source('a', 1);
    offer(it, 5);
    assert_true(unit_await(BEGUN, 5));
    assert_in_range(unit_threads(), before + 5 + 2, before + 5 + KEPT);
    unit_raise(GATE);
    assert_true(unit_await_threads(before + KEPT));
    h2x_threads_forget(threads, &it->entry); /* nobody looks at it */
    /* and start again */
    it = add_source('a', 2);
    offer(it, 4);
    assert_true(unit_await(BEGUN, 9));
    assert_in_range(unit_threads(), before + 4 + 2, before + 4 + KEPT);
    assert_true(number_max < 5 + 2);
    unit_raise(GATE);
    assert_true(unit_await(ENDED, 9));
    assert_true(unit_await_threads(before + KEPT));
}

/* A little to do, again and again, keeps one of many. */
TEST(idle_threads_end_while_others_work)
{
    thing *it;
    int before = unit_threads(), done = 5;

    start(0, 5, 100000);
    it = add_source('a', 1);
    offer(it, 5);
    assert_true(unit_await(BEGUN, 5));
    unit_raise(GATE);
    assert_true(unit_await(ENDED, 5));
    while (unit_threads() > before + KEPT + 1 && done < 500) {
        offer(it, 1);
        assert_true(unit_await(ENDED, ++done));
        apr_sleep(10000);
    }
    assert_int_equal(unit_threads(), before + KEPT + 1);
}

TEST(minimum_is_kept)
{
    thing *it;
    int before = unit_threads();

    start(2, 6, 50000);
    it = add_source('a', 1);
    offer(it, 6);
    assert_true(unit_await(BEGUN, 6));
    unit_raise(GATE);
    assert_true(unit_await(ENDED, 6));
    assert_true(unit_await_threads(before + KEPT + 2));
    apr_sleep(300000);
    assert_int_equal(unit_threads(), before + KEPT + 2);
    offer(it, 3);
    assert_true(unit_await(ENDED, 9));
}

/* What takes minutes keeps all threads, and others still get one. */
TEST(sources_with_nobody_inside_get_one_more)
{
    thing *many, *one, *late;

    start_limited(0, 2, 2, 2, FOREVER);
    many = add_source('a', 1);
    one = add_source('b', 1);
    late = add_source('c', 1);
    offer(many, 5);
    assert_true(unit_await(BEGUN, 2));
    offer(one, 2);
    assert_true(unit_await(BEGUN, 3));
    offer(late, 1);
    assert_true(unit_await(BEGUN, 4));
    apr_sleep(20000);
    assert_string_equal(log_text, "aabc"); /* and nobody a third one */
    unit_raise(GATE);
    assert_true(unit_await(ENDED, 8));
    assert_true(number_max < 4 + 2);
}

/* One has all there may be: another gets as many as it would have if both had
 * as many, of half of those beyond. */
TEST(sources_with_less_than_others_get_more)
{
    thing *many, *some;

    start_limited(0, 6, 4, 2, FOREVER);
    many = add_source('a', 1);
    some = add_source('b', 1);
    offer(many, 9);
    assert_true(unit_await(BEGUN, 6));
    offer(some, 5);
    assert_true(unit_await(BEGUN, 8));
    pass_fence();
    assert_int_equal(many->entry.inside, 6);
    assert_int_equal(some->entry.inside, 2);
    unit_raise(GATE);
    assert_true(unit_await(ENDED, 14));
}

/* Whoever comes free goes to the one that has nobody. */
TEST(sources_with_nobody_inside_go_first)
{
    thing *many, *one;

    start(0, 1, FOREVER);
    many = add_source('a', 1);
    one = add_source('b', 2);
    offer(many, 3);
    assert_true(unit_await(BEGUN, 1));
    offer(one, 2);
    unit_raise(GATE);
    assert_true(unit_await(BEGUN, 2));
    unit_raise(GATE);
    assert_true(unit_await(ENDED, 5));
    h2x_threads_forget(threads, &many->entry);
    h2x_threads_forget(threads, &one->entry);
    assert_string_equal(log_text, "ababa");
}

/* Much work does not keep threads from events. */
TEST(events_come_beside_work)
{
    thing *a, *it;

    start(0, 2, FOREVER);
    a = add_source('a', 1);
    it = add();
    offer(a, 10);
    assert_true(unit_await(BEGUN, 2));
    arm(it, APR_POLLOUT);
    assert_true(unit_await(READY, 1));
    unit_raise(GATE);
    arm(it, APR_POLLOUT);
    assert_true(unit_await(READY, 2));
    assert_true(unit_await(ENDED, 10));
}

/* ---- work in the callback for an event ---- */

static int ask_whether_it_may_work(thing *it)
{
    int before = unit_value(READY);

    it->works = 1;
    arm(it, APR_POLLOUT);
    assert_true(unit_await(READY, before + 1));
    return it->may_work;
}

TEST(may_work_as_if_it_was_offered)
{
    thing *a, *b;

    start(0, 2, FOREVER);
    a = add();
    b = add();
    a->gate = b->gate = 1;
    assert_true(ask_whether_it_may_work(a));
    assert_int_equal(a->entry.inside, 1);
    assert_true(ask_whether_it_may_work(b));
    assert_int_equal(b->entry.inside, 1);
    /* two are at work */
    assert_false(ask_whether_it_may_work(add()));
    offer(a, 1);
    pass_fence();
    assert_int_equal(unit_value(BEGUN), 0);
    unit_raise(GATE);
    assert_true(unit_await(ENDED, 1));
    h2x_threads_forget(threads, &a->entry);
    assert_int_equal(a->entry.inside, 0);
}

TEST(one_with_nobody_inside_may_work_beyond_max)
{
    thing *a;

    start_limited(0, 1, 1, 2, FOREVER);
    a = add();
    a->gate = 1;
    assert_true(ask_whether_it_may_work(a));
    assert_false(ask_whether_it_may_work(a));
    assert_true(ask_whether_it_may_work(add()));
}

TEST(may_not_work_when_it_is_others_turn)
{
    thing *first, *it;

    start(0, 2, FOREVER);
    first = add_source('a', 0);
    it = add();
    /* nobody comes for what is offered: then it is the offer's turn */
    apr_atomic_set32(&unit_no_threads, 1);
    offer(first, 1);
    pass_fence();
    assert_int_equal(unit_value(BEGUN), 0);
    assert_false(ask_whether_it_may_work(it));
    apr_atomic_set32(&unit_no_threads, 0);
    h2x_threads_retry(threads);
    assert_true(unit_await(ENDED, 1));
    assert_true(ask_whether_it_may_work(it));
}

TEST(may_not_work_as_the_last_thread)
{
    thing *it;

    start(0, 2, FOREVER);
    it = add();
    apr_atomic_set32(&unit_no_threads, 1);
    assert_false(ask_whether_it_may_work(it));
    apr_atomic_set32(&unit_no_threads, 0);
    assert_true(ask_whether_it_may_work(it));
}

/* ---- threads that cannot be started ---- */

TEST(the_last_thread_does_not_work)
{
    thing *it;

    start(0, 3, FOREVER);
    it = add_source('a', 1);
    apr_atomic_set32(&unit_no_threads, 1);
    offer(it, 5);
    pass_fence();           /* it waits for events */
    assert_int_equal(unit_value(BEGUN), 0);
    assert_int_equal(unit_log_count, 1);
    assert_non_null(strstr(unit_log_line, "cannot start a"));
    apr_atomic_set32(&unit_no_threads, 0);
    h2x_threads_retry(threads);
    assert_true(unit_await(BEGUN, 3));
    h2x_threads_retry(threads);     /* of no effect */
    pass_fence();
    assert_int_equal(unit_value(BEGUN), 3);
    unit_raise(GATE);
    assert_true(unit_await(ENDED, 5));
}

/* ---- the end ---- */

TEST(stop_ends_threads)
{
    thing *it = add(), *work = add_source('a', 0), *late = NULL;
    int before = unit_threads() - 2, ticks;

    offer(work, 10);
    assert_true(unit_await(ENDED, 10));
    it->retick = 100000;
    h2x_threads_tick(threads, &it->entry, 1);
    arm(it, APR_POLLIN);
    assert_true(unit_await(TICKS, 1));
    h2x_threads_stop(threads);
    assert_int_equal(unit_threads(), before);
    ticks = unit_value(TICKS);
    h2x_threads_stop(threads);
    /* all of it is of no effect, and no harm */
    say(it);
    late = add();
    arm(late, APR_POLLOUT);
    arm(it, APR_POLLOUT);
    h2x_threads_tick(threads, &late->entry, 1);
    h2x_threads_deadline(threads, &late->entry, 1);
    h2x_threads_poke(threads);
    h2x_threads_disarm(threads, &it->entry);
    offer(work, 1);
    h2x_threads_retry(threads);
    apr_sleep(20000);
    assert_int_equal(h2x_threads_withdraw(threads, &work->entry), 1);
    h2x_threads_forget(threads, &it->entry);
    h2x_threads_forget(threads, &late->entry);
    assert_int_equal(unit_value(TICKS), ticks);
    assert_int_equal(unit_value(READY) + unit_value(LATE), 0);
    assert_int_equal(unit_value(BEGUN), 10);
    assert_int_equal(unit_threads(), before);
}

static void *APR_THREAD_FUNC stop_threads(apr_thread_t *thread UNUSED,
                                          void *baton UNUSED)
{
    unit_raise(OTHER);
    h2x_threads_stop(threads);
    unit_raise(OTHER);
    return NULL;
}

/* Some wait for events, one is asleep, one is in each kind of callback. */
TEST(stop_waits_for_what_was_begun)
{
    int before = unit_threads();
    thing *it, *due, *work, *more;
    apr_thread_t *thread;
    apr_status_t rv;

    start(1, 3, FOREVER);
    it = add();
    due = add_source('d', 0);
    work = add_source('a', 1);
    more = add_source('b', 2);
    offer(work, 3);         /* three, of which two sleep or wait then */
    assert_true(unit_await(BEGUN, 3));
    unit_raise(GATE);
    assert_true(unit_await(ENDED, 3));
    due->due_gate = it->gate = 2;
    h2x_threads_deadline(threads, &due->entry, 1);
    assert_true(unit_await(LATE, 1));
    arm(it, APR_POLLOUT);
    assert_true(unit_await(READY, 1));
    offer(more, 1);
    assert_true(unit_await(BEGUN, 4));
    pass_fence();
    apr_thread_create(&thread, NULL, stop_threads, NULL, unit_pool);
    assert_true(unit_await(OTHER, 1));
    apr_sleep(20000);
    assert_int_equal(unit_value(OTHER), 1);
    offer(more, 1);
    unit_raise(GATE);
    assert_true(unit_await(OTHER, 2));
    apr_thread_join(&rv, thread);
    assert_int_equal(unit_value(ENDED), 4);
    assert_int_equal(unit_value(BEGUN), 4);
    assert_true(unit_await_threads(before));
    h2x_threads_forget(threads, &it->entry);
    h2x_threads_forget(threads, &more->entry);
}

TEST(stop_and_forget_at_once)
{
    thing *it = add();
    apr_thread_t *thread;
    apr_status_t rv;

    it->gate = 1;
    arm(it, APR_POLLOUT);
    assert_true(unit_await(READY, 1));
    apr_thread_create(&thread, NULL, forget, it, unit_pool);
    assert_true(unit_await(OTHER, 1));
    unit_raise(GATE);
    h2x_threads_stop(threads);
    assert_true(unit_await(OTHER, 2));
    apr_thread_join(&rv, thread);
}

/* The pool ends them, as at the end of a child. */
TEST(pool_ends_threads)
{
    apr_pool_t *pool, *kept = unit_pool;
    int before = unit_threads();
    thing *it;

    apr_pool_create(&pool, unit_pool);
    unit_pool = pool;
    start(4, 4, FOREVER);
    unit_pool = kept;
    it = add_source('a', 0);
    offer(it, 4);
    assert_true(unit_await(ENDED, 4));
    apr_pool_destroy(pool);
    assert_int_equal(unit_threads(), before);
}

/* ---- many at once ---- */

#define STORM_THREADS 4
#define STORM_ROUNDS 2000

/* Reads what has come, so that there is more to be asked for. */
static void on_storm(void *baton, h2x_member *me)
{
    thing *it = baton;
    char buffer[64];

    while (recv(it->fd, buffer, sizeof(buffer), MSG_DONTWAIT) > 0) {
        continue;
    }
    unit_raise(READY);
    if (apr_atomic_inc32(&it->storms) % 3 == 0) {
        h2x_threads_will_wait(threads, me);
    }
    if (h2x_threads_may_work(threads, &it->entry, me)) {
        h2x_threads_offer(threads, &it->entry, 1);
    }
    h2x_threads_arm(threads, &it->entry, APR_POLLIN);
}

static void *APR_THREAD_FUNC storm(apr_thread_t *thread UNUSED, void *baton)
{
    thing *it = baton;
    int i;

    for (i = 0; i < STORM_ROUNDS; ++i) {
        h2x_threads_arm(threads, &it->entry, i % 3 ? APR_POLLIN : APR_POLLOUT);
        h2x_threads_tick(threads, &it->entry, i % 5 == 0);
        h2x_threads_deadline(threads, &it->entry, i % 11);
        h2x_threads_offer(threads, &it->entry, 1);
        say(it);
        if (i % 4 == 0) {
            h2x_threads_disarm(threads, &it->entry);
        }
        if (i % 7 == 0) {
            h2x_threads_withdraw(threads, &it->entry);
            h2x_threads_retry(threads);
        }
        if (i % 100 == 0) {
            h2x_threads_poke(threads);
        }
        if (i % 50 == 0) {
            h2x_threads_forget(threads, &it->entry);
            assert_int_equal(it->entry.offers + it->entry.inside
                             + it->entry.users + it->entry.due, 0);
            h2x_threads_add(threads, &it->entry, it->socket);
        }
    }
    h2x_threads_forget(threads, &it->entry);
    unit_raise(OTHER);
    return NULL;
}

static void storm_with(int processors)
{
    thing *all[STORM_THREADS];
    apr_thread_t *some[STORM_THREADS];
    apr_status_t rv;
    int i;

    start_limited(1, 5, 1, processors, 1000);
    for (i = 0; i < STORM_THREADS; ++i) {
        all[i] = add();
        all[i]->entry.on_ready = on_storm;
        apr_thread_create(&some[i], NULL, storm, all[i], unit_pool);
    }
    for (i = 0; i < STORM_THREADS; ++i) {
        apr_thread_join(&rv, some[i]);
        assert_int_equal(all[i]->entry.offers, 0);
        assert_int_equal(all[i]->entry.inside, 0);
    }
    assert_int_equal(unit_value(OTHER), STORM_THREADS);
    pass_fence();
    h2x_threads_stop(threads);
    assert_int_equal(unit_value(BEGUN), unit_value(ENDED));
    assert_true(number_max < 5 + 1 + 2);
}

TEST(storm_on_one_processor)
{
    storm_with(1);
}

TEST(storm_on_two_processors)
{
    storm_with(2);
}

TEST(storm_on_many_processors)
{
    storm_with(16);
}

#define WITH_SOME(name) \
    cmocka_unit_test_setup_teardown(name, start_some, stop)
#define ON_ONE(name) \
    { #name "_on_one_processor", name, start_one_processor, stop, NULL }
#define ALONE(name) \
    cmocka_unit_test_setup_teardown(name, unit_setup_alone, stop)

static const struct CMUnitTest tests[] = {
    WITH_SOME(ready_to_read),
    WITH_SOME(ready_to_write),
    WITH_SOME(ready_when_peer_is_gone),
    WITH_SOME(armed_anew),
    WITH_SOME(disarmed),
    WITH_SOME(armed_by_its_callback),
    WITH_SOME(many_sockets),
    WITH_SOME(no_more_than_two_wait),
    WITH_SOME(one_waits_in_its_callback),
    ON_ONE(one_waits_in_its_callback),
    WITH_SOME(four_wait_in_their_callbacks),
    ON_ONE(four_wait_in_their_callbacks),
    WITH_SOME(they_say_that_they_wait),
    ON_ONE(they_say_that_they_wait),
    WITH_SOME(one_computes_in_its_callback),
    ON_ONE(one_computes_in_its_callback),
    WITH_SOME(due_ones_wait_in_their_callbacks),
    ON_ONE(due_ones_wait_in_their_callbacks),
    WITH_SOME(poke_calls_all),
    WITH_SOME(what_is_due_does_not_wait_for_a_callback),
    WITH_SOME(tick_comes_once),
    WITH_SOME(tick_is_replaced),
    WITH_SOME(ticks_are_milliseconds),
    WITH_SOME(rests_and_is_woken),
    ON_ONE(rests_and_is_woken),
    WITH_SOME(many_ticking),
    WITH_SOME(deadline_comes_once),
    WITH_SOME(deadline_is_replaced),
    WITH_SOME(deadline_is_taken_back),
    WITH_SOME(forgotten),
    WITH_SOME(forget_waits_for_callback),
    WITH_SOME(forget_waits_for_a_due_callback),
    WITH_SOME(forget_waits_for_those_inside),
    WITH_SOME(forgets_all_that_a_callback_asks),
    WITH_SOME(callback_holds_up_no_caller),
    ON_ONE(callback_holds_up_no_caller),
    ALONE(first_threads),
    UNIT_TEST(no_thread_at_all),
    ALONE(offers_run),
    ALONE(second_does_not_wait_for_first),
    ALONE(idle_thread_is_counted_once),
    ALONE(no_more_threads_than_max),
    ALONE(sources_take_turns),
    ALONE(withdraws_what_was_not_begun),
    ALONE(withdraws_all),
    ALONE(idle_threads_end),
    ALONE(idle_threads_end_while_others_work),
    ALONE(minimum_is_kept),
    ALONE(sources_with_nobody_inside_get_one_more),
    ALONE(sources_with_less_than_others_get_more),
    ALONE(sources_with_nobody_inside_go_first),
    ALONE(events_come_beside_work),
    ALONE(may_work_as_if_it_was_offered),
    ALONE(one_with_nobody_inside_may_work_beyond_max),
    ALONE(may_not_work_when_it_is_others_turn),
    ALONE(may_not_work_as_the_last_thread),
    ALONE(the_last_thread_does_not_work),
    WITH_SOME(stop_ends_threads),
    ALONE(stop_waits_for_what_was_begun),
    WITH_SOME(stop_and_forget_at_once),
    UNIT_TEST(pool_ends_threads),
    ALONE(storm_on_one_processor),
    ALONE(storm_on_two_processors),
    ALONE(storm_on_many_processors),
};

int main(void)
{
    return UNIT_RUN(tests);
}
