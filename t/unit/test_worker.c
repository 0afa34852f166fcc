/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "unit.h"

#include <stdio.h>
#include <string.h>

#include <apr_thread_proc.h>

#include "h2x_worker.h"

#define FOREVER apr_time_from_sec(600)
#define MAX_LOG 64

/* Counters */
enum { BEGUN, ENDED, GATE, OTHER };

static h2x_workers *workers;

/* What ran, in order: the names of sources. Guarded by the lock. */
static apr_thread_mutex_t *log_lock;
static char log_text[MAX_LOG];
static int numbers[MAX_LOG]; /* of workers, how many are inside */
static int number_max;
static int number_clashes;

typedef struct {
    h2x_worker_source source;
    char name;
    int gate;  /* runs wait until GATE is that high */
} work_source;

static void run(void *baton, apr_thread_t *thread, int number)
{
    work_source *work = baton;
    size_t len;

    assert_non_null(thread);
    apr_thread_mutex_lock(log_lock);
    len = strlen(log_text);
    if (len + 1 < sizeof(log_text)) {
        log_text[len] = work->name;
    }
    number_max = number > number_max ? number : number_max;
    number_clashes += (numbers[number]++ != 0);
    apr_thread_mutex_unlock(log_lock);
    unit_raise(BEGUN);
    unit_await(GATE, work->gate);
    apr_thread_mutex_lock(log_lock);
    --numbers[number];
    apr_thread_mutex_unlock(log_lock);
    unit_raise(ENDED);
}

static void start_spare(int min, int max, int spare, apr_interval_time_t idle)
{
    apr_thread_mutex_create(&log_lock, APR_THREAD_MUTEX_DEFAULT, unit_pool);
    memset(log_text, 0, sizeof(log_text));
    memset(numbers, 0, sizeof(numbers));
    number_max = number_clashes = 0;
    assert_int_equal(h2x_workers_create(&workers, min, max, spare, idle,
                                        unit_pool),
                     APR_SUCCESS);
}

static void start(int min, int max, apr_interval_time_t idle)
{
    start_spare(min, max, 0, idle);
}

static work_source *make_source(char name, int gate)
{
    work_source *work = apr_pcalloc(unit_pool, sizeof(*work));

    work->name = name;
    work->gate = gate;
    work->source.run = run;
    work->source.baton = work;
    return work;
}

static void offer(work_source *work, int times)
{
    while (times-- > 0) {
        h2x_workers_offer(workers, &work->source);
    }
}

/* ---- */

TEST(no_work_no_threads)
{
    int before = unit_threads();

    start(3, 5, FOREVER);
    assert_int_equal(unit_threads(), before);
}

TEST(offers_run)
{
    work_source *work = make_source('a', 0);

    start(0, 4, FOREVER);
    offer(work, 50);
    assert_true(unit_await(ENDED, 50));
    h2x_workers_forget(workers, &work->source);
    assert_int_equal(unit_value(ENDED), 50);
    assert_int_equal(work->source.offers, 0);
    assert_int_equal(work->source.inside, 0);
    assert_int_equal(number_clashes, 0);
    assert_true(number_max < 4);
}

/* Why this room exists: no piece of work waits for another one while there
 * may be more threads. */
TEST(second_does_not_wait_for_first)
{
    work_source *work = make_source('a', 1);

    start(0, 2, FOREVER);
    offer(work, 1);
    assert_true(unit_await(BEGUN, 1));
    offer(work, 1);
    assert_true(unit_await(BEGUN, 2));
    assert_int_equal(unit_value(ENDED), 0);
    unit_raise(GATE);
    assert_true(unit_await(ENDED, 2));
}

/* The same where one thread is idle, and has perhaps been woken for the first
 * but not come to it. */
TEST(idle_thread_is_counted_once)
{
    work_source *work = make_source('a', 0);
    int i, n;

    for (i = 1, n = 1; i <= 50; ++i) {
        start(0, 3, FOREVER);
        work->gate = 0;
        offer(work, 1);
        assert_true(unit_await(ENDED, n));
        work->gate = i;
        offer(work, 3);
        assert_true(unit_await(BEGUN, n + 3));
        assert_int_equal(unit_value(ENDED), n);
        unit_raise(GATE);
        assert_true(unit_await(ENDED, n + 3));
        n += 4;
        h2x_workers_stop(workers);
    }
}

TEST(no_more_threads_than_max)
{
    work_source *work = make_source('a', 1), *more = make_source('b', 1);
    int before = unit_threads();

    start(0, 3, FOREVER);
    offer(work, 10);
    offer(more, 10);
    assert_true(unit_await(BEGUN, 3));
    assert_int_equal(unit_threads(), before + 3);
    assert_int_equal(work->source.inside + more->source.inside, 3);
    assert_int_equal(work->source.offers + more->source.offers, 17);
    assert_int_equal(unit_value(BEGUN), 3);
    unit_raise(GATE);
    assert_true(unit_await(ENDED, 20));
    assert_int_equal(number_clashes, 0);
    assert_int_equal(number_max, 2);
}

TEST(sources_take_turns)
{
    work_source *first = make_source('x', 1);
    work_source *a = make_source('a', 0), *b = make_source('b', 0);
    work_source *c = make_source('c', 0);

    start(0, 1, FOREVER);
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
    work_source *a = make_source('a', 1), *b = make_source('b', 0);

    start(0, 1, FOREVER);
    assert_int_equal(h2x_workers_withdraw(workers, &a->source), 0);
    offer(a, 1);
    assert_true(unit_await(BEGUN, 1));
    offer(a, 3);
    offer(b, 2);
    assert_int_equal(h2x_workers_withdraw(workers, &a->source), 3);
    assert_int_equal(h2x_workers_withdraw(workers, &a->source), 0);
    offer(a, 1);    /* behind b, now */
    unit_raise(GATE);
    assert_true(unit_await(ENDED, 4));
    h2x_workers_forget(workers, &a->source);
    h2x_workers_forget(workers, &b->source);
    assert_string_equal(log_text, "abab");
}

/* An offer without work is no harm; the next one is served. */
TEST(withdraws_all)
{
    work_source *a = make_source('a', 0);
    int i;

    start(0, 2, FOREVER);
    for (i = 0; i < 1000; ++i) {
        offer(a, 1);
        h2x_workers_withdraw(workers, &a->source);
    }
    offer(a, 1);
    assert_true(unit_await(ENDED, 1));
    h2x_workers_forget(workers, &a->source);
    assert_int_equal(a->source.inside, 0);
}

static void *APR_THREAD_FUNC forget(apr_thread_t *thread UNUSED, void *baton)
{
    work_source *work = baton;

    unit_raise(OTHER);
    h2x_workers_forget(workers, &work->source);
    assert_int_equal(work->source.inside, 0);
    unit_raise(OTHER);
    return NULL;
}

TEST(forget_waits_for_those_inside)
{
    work_source *a = make_source('a', 1), *b = make_source('b', 0);
    apr_thread_t *thread;
    apr_status_t rv;

    start(0, 2, FOREVER);
    offer(a, 2);
    assert_true(unit_await(BEGUN, 2));
    offer(a, 5);
    offer(b, 1);
    apr_thread_create(&thread, NULL, forget, a, unit_pool);
    assert_true(unit_await(OTHER, 1));
    apr_sleep(20000);
    assert_int_equal(unit_value(OTHER), 1);
    unit_raise(GATE);
    assert_true(unit_await(OTHER, 2));
    apr_thread_join(&rv, thread);
    assert_true(unit_await(ENDED, 3));
    assert_int_equal(unit_value(BEGUN), 3);
    assert_int_equal(a->source.offers, 0);
}

TEST(idle_threads_end)
{
    work_source *work = make_source('a', 1);
    int before = unit_threads();

    start(0, 5, 50000);
    offer(work, 5);
    assert_true(unit_await(BEGUN, 5));
    assert_int_equal(unit_threads(), before + 5);
    unit_raise(GATE);
    assert_true(unit_await_threads(before));
    h2x_workers_forget(workers, &work->source); /* nobody looks at it */
    /* and start again */
    work->gate = 2;
    offer(work, 4);
    assert_true(unit_await(BEGUN, 9));
    assert_int_equal(unit_threads(), before + 4);
    assert_true(number_max < 5);
    unit_raise(GATE);
    assert_true(unit_await(ENDED, 9));
    assert_true(unit_await_threads(before));
}

/* A little to do, again and again, keeps one of many. */
TEST(idle_threads_end_while_others_work)
{
    work_source *work = make_source('a', 1);
    int before = unit_threads(), done = 5;

    start(0, 5, 100000);
    offer(work, 5);
    assert_true(unit_await(BEGUN, 5));
    unit_raise(GATE);
    assert_true(unit_await(ENDED, 5));
    while (unit_threads() > before + 1 && done < 500) {
        offer(work, 1);
        assert_true(unit_await(ENDED, ++done));
        apr_sleep(10000);
    }
    assert_int_equal(unit_threads(), before + 1);
}

TEST(minimum_is_kept)
{
    work_source *work = make_source('a', 1);
    int before = unit_threads();

    start(2, 6, 50000);
    offer(work, 6);
    assert_true(unit_await(BEGUN, 6));
    unit_raise(GATE);
    assert_true(unit_await(ENDED, 6));
    assert_true(unit_await_threads(before + 2));
    apr_sleep(300000);
    assert_int_equal(unit_threads(), before + 2);
    offer(work, 3);
    assert_true(unit_await(ENDED, 9));
}

/* What takes minutes keeps all workers, and others still get one. */
TEST(sources_with_nobody_inside_get_one_more)
{
    work_source *many = make_source('a', 1), *one = make_source('b', 1),
        *late = make_source('c', 1);

    start_spare(0, 2, 2, FOREVER);
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
    assert_int_equal(number_clashes, 0);
    assert_true(number_max < 4);
}

/* Whoever comes free goes to the one that has nobody. */
TEST(sources_with_nobody_inside_go_first)
{
    work_source *many = make_source('a', 1), *one = make_source('b', 2);

    start(0, 1, FOREVER);
    offer(many, 3);
    assert_true(unit_await(BEGUN, 1));
    offer(one, 2);
    unit_raise(GATE);
    assert_true(unit_await(BEGUN, 2));
    unit_raise(GATE);
    assert_true(unit_await(ENDED, 5));
    h2x_workers_forget(workers, &many->source);
    h2x_workers_forget(workers, &one->source);
    assert_string_equal(log_text, "ababa");
}

TEST(stop_ends_threads)
{
    work_source *work = make_source('a', 0);
    int before = unit_threads();

    start(2, 4, FOREVER);
    offer(work, 10);
    assert_true(unit_await(ENDED, 10));
    h2x_workers_stop(workers);
    assert_int_equal(unit_threads(), before);
    h2x_workers_stop(workers);      /* once more */
    offer(work, 1);                 /* is not taken any more */
    apr_sleep(20000);
    assert_int_equal(unit_value(BEGUN), 10);
    assert_int_equal(unit_threads(), before);
    assert_int_equal(h2x_workers_withdraw(workers, &work->source), 1);
}

static void *APR_THREAD_FUNC stop_workers(apr_thread_t *thread UNUSED,
                                          void *baton UNUSED)
{
    unit_raise(OTHER);
    h2x_workers_stop(workers);
    unit_raise(OTHER);
    return NULL;
}

TEST(stop_waits_for_work_that_was_begun)
{
    work_source *work = make_source('a', 1);
    apr_thread_t *thread;
    apr_status_t rv;

    start(0, 2, FOREVER);
    offer(work, 5);
    assert_true(unit_await(BEGUN, 2));
    apr_thread_create(&thread, NULL, stop_workers, NULL, unit_pool);
    assert_true(unit_await(OTHER, 1));
    apr_sleep(20000);
    assert_int_equal(unit_value(OTHER), 1);
    unit_raise(GATE);
    assert_true(unit_await(OTHER, 2));
    apr_thread_join(&rv, thread);
    assert_int_equal(unit_value(ENDED), 2);
    assert_int_equal(unit_value(BEGUN), 2);
    h2x_workers_forget(workers, &work->source);
}

/* The pool ends them, as at the end of a child. */
TEST(pool_ends_threads)
{
    work_source *work = make_source('a', 0);
    apr_pool_t *pool, *kept = unit_pool;
    int before = unit_threads();

    apr_pool_create(&pool, unit_pool);
    unit_pool = pool;
    start(4, 4, FOREVER);
    unit_pool = kept;
    offer(work, 4);
    assert_true(unit_await(ENDED, 4));
    apr_pool_destroy(pool);
    assert_int_equal(unit_threads(), before);
}

TEST(threads_that_cannot_be_started)
{
    work_source *work = make_source('a', 1);

    start(0, 3, FOREVER);
    unit_no_threads = 1;
    offer(work, 5);
    assert_int_equal(unit_log_count, 1);
    assert_non_null(strstr(unit_log_line, "cannot start a worker"));
    unit_no_threads = 0;
    offer(work, 1);     /* brings one, which does all in turn */
    assert_true(unit_await(BEGUN, 1));
    unit_no_threads = 1;
    offer(work, 5);
    assert_int_equal(unit_log_count, 2);
    unit_no_threads = 0;
    h2x_workers_retry(workers);
    assert_true(unit_await(BEGUN, 2));
    unit_raise(GATE);
    assert_true(unit_await(ENDED, 11));
    assert_int_equal(number_clashes, 0);
}

/* ---- many at once ---- */

#define STORM_THREADS 4
#define STORM_ROUNDS 500

static void *APR_THREAD_FUNC storm(apr_thread_t *thread UNUSED, void *baton)
{
    work_source *work = baton;
    int i;

    for (i = 0; i < STORM_ROUNDS; ++i) {
        h2x_workers_offer(workers, &work->source);
        if (i % 7 == 0) {
            h2x_workers_withdraw(workers, &work->source);
        }
        if (i % 50 == 0) {
            h2x_workers_forget(workers, &work->source);
        }
    }
    h2x_workers_forget(workers, &work->source);
    unit_raise(OTHER);
    return NULL;
}

TEST(many_sources_and_threads)
{
    work_source *sources[STORM_THREADS];
    apr_thread_t *threads[STORM_THREADS];
    apr_status_t rv;
    int i;

    start(1, 5, 1000);
    for (i = 0; i < STORM_THREADS; ++i) {
        sources[i] = make_source((char)('a' + i), 0);
        apr_thread_create(&threads[i], NULL, storm, sources[i], unit_pool);
    }
    for (i = 0; i < STORM_THREADS; ++i) {
        apr_thread_join(&rv, threads[i]);
        assert_int_equal(sources[i]->source.offers, 0);
        assert_int_equal(sources[i]->source.inside, 0);
    }
    h2x_workers_stop(workers);
    assert_int_equal(unit_value(BEGUN), unit_value(ENDED));
    assert_int_equal(number_clashes, 0);
    assert_true(number_max < 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT_TEST(no_work_no_threads),
        UNIT_TEST(offers_run),
        UNIT_TEST(second_does_not_wait_for_first),
        UNIT_TEST(idle_thread_is_counted_once),
        UNIT_TEST(no_more_threads_than_max),
        UNIT_TEST(sources_take_turns),
        UNIT_TEST(withdraws_what_was_not_begun),
        UNIT_TEST(withdraws_all),
        UNIT_TEST(forget_waits_for_those_inside),
        UNIT_TEST(idle_threads_end),
        UNIT_TEST(idle_threads_end_while_others_work),
        UNIT_TEST(minimum_is_kept),
        UNIT_TEST(sources_with_nobody_inside_get_one_more),
        UNIT_TEST(sources_with_nobody_inside_go_first),
        UNIT_TEST(stop_ends_threads),
        UNIT_TEST(stop_waits_for_work_that_was_begun),
        UNIT_TEST(pool_ends_threads),
        UNIT_TEST(threads_that_cannot_be_started),
        UNIT_TEST(many_sources_and_threads),
    };

    return UNIT_RUN(tests);
}
