/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Runs schedules: each is one child with some connections, clients and
 * requests, and all that happens in it follows from one number. See schedule.h.
 *
 *     sim                            runs the first 2,000, until one fails
 *     sim --from 1 --count 100000    runs these
 *     sim --seed 17 -v               runs one, and tells what happens
 *     sim --seed 17 --clients 2 --actions 5     the same, with less in it
 */

#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <apr_general.h>

#include "h2x.h"
#include <http_main.h>

#include "h2x_session.h"
#include "memory.h"

static int clients_max = CLIENTS_MAX;
static int actions_max = 20;
static int open_connections;

connection *connections[CLIENTS_MAX];
int connection_count;

void connection_pass(connection *conn, apr_interval_time_t time, int is_busy)
{
    ++conn->reasons;
    sim_pass(time, is_busy);
    --conn->reasons;
}

static void *run_client(void *baton)
{
    client_run(baton);
    return NULL;
}

static void *run_mpm(void *baton)
{
    connection *conn = baton;

    mpm_serve(conn);
    net_close(conn->socket);
    conn->is_over = 1;
    --open_connections;
    return NULL;
}

static void connect_client(int number)
{
    static const apr_size_t capacities[] = { 10, 500, 5000, 100000, 1000000 };
    connection *conn = apr_pcalloc(sim.pool, sizeof(*conn));
    conn_rec *c1 = &conn->c1;
    static char names[CLIENTS_MAX][2][20];

    conn->number = number;
    conn->socket = net_socket(sim.pool, world.is_wild
                              ? capacities[sim_random(5)]
                              : capacities[1 + sim_random(4)]);
    apr_pool_create(&c1->pool, sim.pool);
    c1->id = number;
    c1->conn_config = (ap_conf_vector_t *)conn->config;
    c1->cs = &conn->cs;
    c1->base_server = ap_server_conf;
    h2x_conn_make(c1)->server = ap_server_conf;
    connections[connection_count++] = conn;
    ++open_connections;
    snprintf(names[number][0], sizeof(names[0][0]), "mpm %d", number);
    snprintf(names[number][1], sizeof(names[0][0]), "client %d", number);
    sim_start(run_mpm, conn, names[number][0]);
    sim_start(run_client, conn, names[number][1]);
}

static int are_all_closed(const void *baton UNUSED)
{
    return !open_connections;
}

static void *stop_some_time(void *baton UNUSED)
{
    sim_pass(sim_random(2000000), 0);
    if (!mpm_is_stopping()) {
        mpm_stop(sim_one_in(2));
    }
    return NULL;
}

static void choose_world(void)
{
    memset(&world, 0, sizeof(world));
    world.clients = 1 + (int)sim_random((unsigned)clients_max);
    world.actions = actions_max;
    world.is_wild = sim_one_in(2);
    world.mpm_threads = 1 + (int)sim_random(4);
    world.workers = 1 + (int)sim_random(8);
    world.processors = 1 + (int)sim_random(4);
    world.keeps_idle = !sim_one_in(4);
    if (!world.keeps_idle) {
        world.mpm_threads = world.clients; /* worker keeps a thread each */
    }
    world.waits_for_io = world.keeps_idle && !sim_one_in(4);
    world.is_late = sim_one_in(4);
    world.is_slow = sim_one_in(3);
    world.stream_timeout = world.is_wild && sim_one_in(2)
        ? apr_time_from_sec(1) : apr_time_from_sec(30);
    sim.may_fail = world.is_wild && sim_one_in(4);
}

/* A child without connections does nothing at all, after a while, and keeps no
 * threads but those that wait for events, and the watchdog. */
static void check_rest(void)
{
    long times;

    sim_pass(apr_time_from_sec(60), 0);
    SIM_CHECK(sim_count("thread") <= 3, "%d threads are kept",
              sim_count("thread"));
    times = sim.times;
    sim_pass(apr_time_from_sec(60), 0);
    SIM_CHECK(sim.times == times + 1, "the child does not rest");
}

static void run_schedule(uint64_t seed)
{
    int i, may_fail, lacks_memory;

    sim_begin(seed);
    memory_begin();
    apr_pool_create(&sim.pool, NULL);
    request_count = 0;
    open_connections = 0;
    connection_count = 0;
    choose_world();
    may_fail = sim.may_fail;
    lacks_memory = world.is_wild && sim_one_in(4);
    sim.may_fail = 0;   /* httpd's own threads do start */
    mpm_begin();
    sim.may_fail = may_fail;
    if (lacks_memory) {
        memory_refuse_one();
    }
    sim.on_time = request_on_time;
    sim.is_behind = net_is_behind;
    for (i = 0; i < world.clients; ++i) {
        connect_client(i);
        if (world.is_late) {
            sim_pass(sim_random(500000), 0);
        }
    }
    if (world.is_wild && sim_one_in(2)) {
        sim_start(stop_some_time, NULL, "stopper");
    }
    sim_wait(are_all_closed, NULL, sim_now() + apr_time_from_sec(3600),
             "all connections to end");
    SIM_CHECK(!open_connections, "connections do not end");
    sim_say("all connections have ended");
    if (sim_one_in(4)) {
        check_rest();
    }
    mpm_end();
    sim_pass(apr_time_from_sec(10), 0);
    request_check_all();
    sim_end();
    apr_pool_destroy(sim.pool);
    memory_end();
}

/* ---- the command line ---- */

typedef struct {
    uint64_t from;
    uint64_t count;
    int is_each_told;
} options;

static uint64_t number(const char *text)
{
    return strtoull(text, NULL, 10);
}

/* Returns 0 when it is not understood. */
static int read_options(options *to, int argc, char **argv)
{
    int i;

    for (i = 1; i < argc; ++i) {
        const char *name = argv[i];

        if (!strcmp(name, "-v")) {
            sim_is_verbose = 1;
        }
        else if (!strcmp(name, "-l")) {
            to->is_each_told = 1;
        }
        else if (++i == argc) {
            return 0;
        }
        else if (!strcmp(name, "--seed")) {
            to->from = number(argv[i]);
            to->count = 1;
        }
        else if (!strcmp(name, "--from")) {
            to->from = number(argv[i]);
        }
        else if (!strcmp(name, "--count")) {
            to->count = number(argv[i]);
        }
        else if (!strcmp(name, "--clients")) {
            clients_max = (int)number(argv[i]);
        }
        else if (!strcmp(name, "--actions")) {
            actions_max = (int)number(argv[i]);
        }
        else {
            return 0;
        }
    }
    return clients_max >= 1 && clients_max <= CLIENTS_MAX && actions_max >= 1;
}

int main(int argc, char **argv)
{
    options wanted = { 1, 2000, 0 };
    unsigned long long requests_all = 0, steps = 0, switches = 0;
    apr_pool_t *pool;
    uint64_t seed;

#ifdef __SANITIZE_ADDRESS__
    puts("sim: not with AddressSanitizer, which does not know its threads");
    return 77;
#endif
    if (!read_options(&wanted, argc, argv)) {
        fprintf(stderr, "usage: sim [--from N] [--count N] [--seed N] "
                "[--clients 1-%d] [--actions N] [-l] [-v]\n", CLIENTS_MAX);
        return 2;
    }
    sim_init();
    memory_init();
    apr_initialize();
    apr_pool_create(&pool, NULL);
    h2x_session_init(pool);
    request_init();
    for (seed = wanted.from; seed < wanted.from + wanted.count; ++seed) {
        run_schedule(seed);
        if (wanted.is_each_told) {
            printf("seed %llu: %d requests, %ld steps, trace %016llx\n",
                   (unsigned long long)seed, request_count, sim.steps,
                   (unsigned long long)sim.trace);
        }
        requests_all += (unsigned)request_count;
        steps += (unsigned long)sim.steps;
        switches += (unsigned long)sim.switches;
    }
    printf("%llu schedules: %llu requests, %llu steps, %llu switches\n",
           (unsigned long long)wanted.count, requests_all, steps, switches);
    return 0;
}
