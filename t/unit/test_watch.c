/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "unit.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <apr_portable.h>
#include <apr_thread_proc.h>

#include "h2x_clock.h"
#include "h2x_watch.h"

/* Counters */
enum { READY, TICKS, LATE, POKED, GATE, OTHER, FENCE };

static h2x_watch *watch;

/* An entry with its socket, and the other end of that. */
typedef struct {
    h2x_watch_entry entry;
    apr_socket_t *socket;
    int ready;      /* the counters it raises */
    int ticks;
    int late;
    int poked;
    int gate;       /* on_ready waits until GATE is that high */
    int rearm;      /* so many times, on_ready arms again */
    int asks;       /* on_ready asks for everything */
    int fd;
    int peer;
} watched;

static void on_ready(void *baton)
{
    watched *it = baton;
    char c;

    unit_raise(it->ready);
    unit_await(GATE, it->gate);
    if (it->rearm-- > 0) {
        assert_int_equal(read(it->fd, &c, 1), 1);
        h2x_watch_arm(watch, &it->entry, APR_POLLIN);
    }
    if (it->asks) {
        h2x_watch_arm(watch, &it->entry, APR_POLLIN);
        h2x_watch_tick(watch, &it->entry, 1);
        h2x_watch_deadline(watch, &it->entry, 1);
    }
}

static void on_tick(void *baton)
{
    unit_raise(((watched *)baton)->ticks);
}

static void on_deadline(void *baton)
{
    unit_raise(((watched *)baton)->late);
}

static void on_poke(void *baton)
{
    unit_raise(((watched *)baton)->poked);
}

static apr_status_t close_both(void *baton)
{
    watched *it = baton;

    close(it->fd);
    close(it->peer);
    return APR_SUCCESS;
}

static watched *make(int counter)
{
    watched *it = apr_pcalloc(unit_pool, sizeof(*it));
    apr_socket_t *socket = NULL;
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    it->fd = fds[0];
    it->peer = fds[1];
    apr_pool_pre_cleanup_register(unit_pool, it, close_both);
    apr_os_sock_put(&socket, &it->fd, unit_pool);
    it->ready = it->ticks = it->late = it->poked = counter;
    it->entry.on_ready = on_ready;
    it->entry.on_tick = on_tick;
    it->entry.on_deadline = on_deadline;
    it->entry.on_poke = on_poke;
    it->entry.baton = it;
    it->socket = socket;
    return it;
}

static watched *add_raising(int counter)
{
    watched *it = make(counter);

    h2x_watch_add(watch, &it->entry, it->socket, unit_pool);
    return it;
}

static watched *add(void)
{
    watched *it = make(READY);

    it->ticks = TICKS;
    it->late = LATE;
    it->poked = POKED;
    h2x_watch_add(watch, &it->entry, it->socket, unit_pool);
    return it;
}

static void say(watched *it)
{
    assert_int_equal(write(it->peer, "x", 1), 1);
}

static void arm(watched *it, int events)
{
    assert_int_equal(h2x_watch_arm(watch, &it->entry, (apr_int16_t)events),
                     APR_SUCCESS);
}

/* When this returns, the watch has seen all that was there before. */
static void pass_fence(void)
{
    watched *fence = add_raising(FENCE);
    int before = unit_value(FENCE), i;

    for (i = 1; i <= 2; ++i) {
        arm(fence, APR_POLLOUT);
        assert_true(unit_await(FENCE, before + i));
    }
    h2x_watch_forget(watch, &fence->entry);
}

static int start_watch(void **state)
{
    int failed = unit_setup(state);

    return failed || h2x_watch_create(&watch, 16, unit_pool) != APR_SUCCESS;
}

/* No callback is under way when sockets are closed. */
static int stop_watch(void **state)
{
    h2x_watch_stop(watch);
    return unit_teardown(state);
}

/* ---- sockets ---- */

TEST(ready_to_read)
{
    watched *it = add();

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
    watched *it = add();
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
    watched *it = add();

    arm(it, APR_POLLIN);
    assert_int_equal(shutdown(it->peer, SHUT_RDWR), 0);
    assert_true(unit_await(READY, 1));
}

TEST(armed_anew)
{
    watched *it = add();

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
    watched *it = add();

    h2x_watch_disarm(watch, &it->entry);
    arm(it, APR_POLLIN);
    h2x_watch_disarm(watch, &it->entry);
    h2x_watch_disarm(watch, &it->entry);
    say(it);
    pass_fence();
    assert_int_equal(unit_value(READY), 0);
    arm(it, APR_POLLIN);
    assert_true(unit_await(READY, 1));
}

TEST(armed_by_its_callback)
{
    watched *it = add();
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
    watched *all[200];
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
        h2x_watch_forget(watch, &all[i]->entry);
        say(all[i]);
    }
    pass_fence();
    assert_int_equal(unit_value(READY), 100);
}

TEST(poke_calls_all)
{
    watched *a = add(), *b = add(), *c = add();

    arm(a, APR_POLLIN);
    h2x_watch_forget(watch, &c->entry);
    h2x_watch_poke(watch);
    assert_true(unit_await(POKED, 2));
    h2x_watch_forget(watch, &b->entry);
    h2x_watch_poke(watch);
    assert_true(unit_await(POKED, 3));
    pass_fence();
    assert_int_equal(unit_value(POKED), 3);
    /* who was armed still is */
    say(a);
    assert_true(unit_await(READY, 1));
}

/* ---- ticks ---- */

TEST(ticks_while_wanted)
{
    watched *it = add();
    int ticks;

    h2x_watch_tick(watch, &it->entry, 1);
    h2x_watch_tick(watch, &it->entry, 1);
    assert_true(unit_await(TICKS, 10));
    h2x_watch_tick(watch, &it->entry, 0);
    h2x_watch_tick(watch, &it->entry, 0);
    pass_fence();               /* one may have been under way */
    ticks = unit_value(TICKS);
    apr_sleep(50000);
    assert_int_equal(unit_value(TICKS), ticks);
    assert_int_equal(unit_value(READY), 0);
}

TEST(ticks_are_milliseconds)
{
    watched *it = add();
    apr_time_t begun = h2x_clock_now();

    h2x_watch_tick(watch, &it->entry, 1);
    assert_true(unit_await(TICKS, 20));
    assert_true(h2x_clock_now() - begun > 40000);
    h2x_watch_tick(watch, &it->entry, 0);
}

/* Long without work, the watch sleeps: it must be woken. */
TEST(ticks_after_sleep)
{
    watched *it = add();

    h2x_watch_tick(watch, &it->entry, 1);
    assert_true(unit_await(TICKS, 1));
    h2x_watch_tick(watch, &it->entry, 0);
    apr_sleep(1500000);
    h2x_watch_tick(watch, &it->entry, 1);
    assert_true(unit_await(TICKS, 5));
    arm(it, APR_POLLOUT);
    assert_true(unit_await(READY, 1));
}

TEST(many_ticking)
{
    watched *all[50];
    int i;

    for (i = 0; i < 50; ++i) {
        all[i] = add();
        h2x_watch_tick(watch, &all[i]->entry, 1);
    }
    assert_true(unit_await(TICKS, 500));
    for (i = 0; i < 50; ++i) {
        h2x_watch_forget(watch, &all[i]->entry);
    }
    i = unit_value(TICKS);
    apr_sleep(20000);
    assert_int_equal(unit_value(TICKS), i);
}

/* ---- deadlines ---- */

TEST(deadline_comes_once)
{
    watched *it = add();
    apr_time_t deadline = h2x_clock_now() + 100000;

    h2x_watch_deadline(watch, &it->entry, deadline);
    assert_true(unit_await(LATE, 1));
    assert_true(h2x_clock_now() >= deadline);
    apr_sleep(500000);
    assert_int_equal(unit_value(LATE), 1);
    h2x_watch_deadline(watch, &it->entry, 1);   /* long ago */
    assert_true(unit_await(LATE, 2));
}

TEST(deadline_is_replaced)
{
    watched *it = add(), *other = add_raising(OTHER);
    apr_time_t now = h2x_clock_now();

    h2x_watch_deadline(watch, &it->entry, now + 50000);
    h2x_watch_deadline(watch, &it->entry, now + apr_time_from_sec(600));
    h2x_watch_deadline(watch, &other->entry, now + 100000);
    assert_true(unit_await(OTHER, 1));
    assert_int_equal(unit_value(LATE), 0);
    h2x_watch_deadline(watch, &it->entry, now + 200000);
    assert_true(unit_await(LATE, 1));
}

TEST(deadline_is_taken_back)
{
    watched *it = add(), *gone = add(), *other = add_raising(OTHER);
    apr_time_t now = h2x_clock_now();

    h2x_watch_deadline(watch, &it->entry, 0);
    h2x_watch_deadline(watch, &it->entry, now + 50000);
    h2x_watch_deadline(watch, &gone->entry, now + 50000);
    h2x_watch_deadline(watch, &other->entry, now + 100000);
    h2x_watch_deadline(watch, &it->entry, 0);
    h2x_watch_forget(watch, &gone->entry);
    assert_true(unit_await(OTHER, 1));
    assert_int_equal(unit_value(LATE), 0);
}

/* ---- forgetting ---- */

TEST(forgotten)
{
    watched *it = add();

    arm(it, APR_POLLIN);
    h2x_watch_tick(watch, &it->entry, 1);
    h2x_watch_deadline(watch, &it->entry, h2x_clock_now() + 10000);
    h2x_watch_forget(watch, &it->entry);
    memset(&it->entry, 0xff, sizeof(it->entry));    /* nobody looks at it */
    say(it);
    apr_sleep(300000);
    pass_fence();
    assert_int_equal(unit_value(READY), 0);
    assert_int_equal(unit_value(LATE), 0);
}

static void *APR_THREAD_FUNC forget(apr_thread_t *thread UNUSED, void *baton)
{
    unit_raise(OTHER);
    h2x_watch_forget(watch, &((watched *)baton)->entry);
    unit_raise(OTHER);
    return NULL;
}

TEST(forget_waits_for_callback)
{
    watched *it = add(), *free_one = add();
    apr_thread_t *thread;
    apr_status_t rv;

    it->gate = 1;
    arm(it, APR_POLLOUT);
    assert_true(unit_await(READY, 1));
    h2x_watch_forget(watch, &free_one->entry);  /* waits for no other */
    apr_thread_create(&thread, NULL, forget, it, unit_pool);
    assert_true(unit_await(OTHER, 1));
    apr_sleep(20000);
    assert_int_equal(unit_value(OTHER), 1);
    unit_raise(GATE);
    assert_true(unit_await(OTHER, 2));
    apr_thread_join(&rv, thread);
}

/* What a callback asks for while that waits is forgotten too. */
TEST(forgets_all_that_a_callback_asks)
{
    watched *it = add();
    apr_thread_t *thread;
    apr_status_t rv;

    it->gate = it->asks = 1;
    arm(it, APR_POLLOUT);
    assert_true(unit_await(READY, 1));
    apr_thread_create(&thread, NULL, forget, it, unit_pool);
    assert_true(unit_await(OTHER, 1));
    apr_sleep(20000);
    unit_raise(GATE);
    apr_thread_join(&rv, thread);
    assert_int_equal(it->entry.armed, 0);
    assert_int_equal(it->entry.is_linked, 0);
    assert_int_equal(it->entry.deadline, 0);
}

/* While a callback is under way, all else may be called. */
TEST(callback_holds_up_no_caller)
{
    watched *it = add(), *other = add();

    it->gate = 1;
    arm(it, APR_POLLOUT);
    assert_true(unit_await(READY, 1));
    arm(it, APR_POLLIN);
    arm(other, APR_POLLOUT);
    h2x_watch_tick(watch, &other->entry, 1);
    h2x_watch_deadline(watch, &other->entry, 1);
    h2x_watch_disarm(watch, &it->entry);
    h2x_watch_poke(watch);
    assert_int_equal(unit_value(READY), 1);
    unit_raise(GATE);
    assert_true(unit_await(READY, 2));
    assert_true(unit_await(TICKS, 1));
    assert_true(unit_await(LATE, 1));
}

/* ---- the end ---- */

TEST(stop_ends_the_thread)
{
    watched *it = add(), *late = NULL;
    int threads = unit_threads();

    h2x_watch_tick(watch, &it->entry, 1);
    arm(it, APR_POLLIN);
    assert_true(unit_await(TICKS, 1));
    h2x_watch_stop(watch);
    assert_int_equal(unit_threads(), threads - 1);
    threads = unit_value(TICKS);
    h2x_watch_stop(watch);
    /* all of it is of no effect, and no harm */
    say(it);
    late = add();
    arm(late, APR_POLLOUT);
    arm(it, APR_POLLOUT);
    h2x_watch_tick(watch, &late->entry, 1);
    h2x_watch_deadline(watch, &late->entry, 1);
    h2x_watch_poke(watch);
    h2x_watch_disarm(watch, &it->entry);
    h2x_watch_forget(watch, &it->entry);
    h2x_watch_forget(watch, &late->entry);
    apr_sleep(20000);
    assert_int_equal(unit_value(TICKS), threads);
    assert_int_equal(unit_value(READY) + unit_value(LATE), 0);
}

TEST(stop_waits_for_callback)
{
    watched *it = add();
    apr_thread_t *thread;
    apr_status_t rv;

    it->gate = 1;
    arm(it, APR_POLLOUT);
    assert_true(unit_await(READY, 1));
    apr_thread_create(&thread, NULL, forget, it, unit_pool);
    assert_true(unit_await(OTHER, 1));
    unit_raise(GATE);
    h2x_watch_stop(watch);
    assert_true(unit_await(OTHER, 2));
    apr_thread_join(&rv, thread);
}

/* ---- many at once ---- */

static void *APR_THREAD_FUNC storm(apr_thread_t *thread UNUSED, void *baton)
{
    watched *it = baton;
    int i;

    for (i = 0; i < 2000; ++i) {
        h2x_watch_arm(watch, &it->entry, i % 3 ? APR_POLLIN : APR_POLLOUT);
        h2x_watch_tick(watch, &it->entry, i % 5 == 0);
        h2x_watch_deadline(watch, &it->entry, i % 11);
        if (i % 4 == 0) {
            h2x_watch_disarm(watch, &it->entry);
        }
        if (i % 100 == 0) {
            h2x_watch_poke(watch);
        }
    }
    h2x_watch_forget(watch, &it->entry);
    return NULL;
}

TEST(many_threads)
{
    apr_thread_t *threads[4];
    apr_status_t rv;
    int i;

    for (i = 0; i < 4; ++i) {
        apr_thread_create(&threads[i], NULL, storm, add(), unit_pool);
    }
    for (i = 0; i < 4; ++i) {
        apr_thread_join(&rv, threads[i]);
    }
    pass_fence();
}

#define WATCH_TEST(name) \
    cmocka_unit_test_setup_teardown(name, start_watch, stop_watch)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WATCH_TEST(ready_to_read),
        WATCH_TEST(ready_to_write),
        WATCH_TEST(ready_when_peer_is_gone),
        WATCH_TEST(armed_anew),
        WATCH_TEST(disarmed),
        WATCH_TEST(armed_by_its_callback),
        WATCH_TEST(many_sockets),
        WATCH_TEST(poke_calls_all),
        WATCH_TEST(ticks_while_wanted),
        WATCH_TEST(ticks_are_milliseconds),
        WATCH_TEST(ticks_after_sleep),
        WATCH_TEST(many_ticking),
        WATCH_TEST(deadline_comes_once),
        WATCH_TEST(deadline_is_replaced),
        WATCH_TEST(deadline_is_taken_back),
        WATCH_TEST(forgotten),
        WATCH_TEST(forget_waits_for_callback),
        WATCH_TEST(forgets_all_that_a_callback_asks),
        WATCH_TEST(callback_holds_up_no_caller),
        WATCH_TEST(stop_ends_the_thread),
        WATCH_TEST(stop_waits_for_callback),
        WATCH_TEST(many_threads),
    };

    return UNIT_RUN(tests);
}
