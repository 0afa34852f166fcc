/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* What the engine wants of httpd and of h2x_conf.c. */

#include "world.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <http_connection.h>
#include <http_log.h>
#include <mpm_common.h>
#include <scoreboard.h>

#include "h2x.h"
#include "h2x_conf.h"
#include "h2x_origin.h"
#include "../../engine/h2x_thread.h"

module AP_MODULE_DECLARE_DATA h2x_module;
static server_rec server = {
    .log = { .level = APLOG_DEBUG },
    .timeout = apr_time_from_sec(60),
    .keep_alive_timeout = apr_time_from_sec(5),
    .limit_req_line = 8190,
    .limit_req_fieldsize = 8190,
    .limit_req_fields = 100
};
server_rec *ap_server_conf = &server;
apr_uint32_t ap_max_mem_free = 1024 * 1024;

AP_DECLARE(void) ap_log_assert(const char *exp, const char *file, int line)
{
    sim_fail("%s:%d: %s", file, line, exp);
}

static void say(const char *format, va_list args)
{
    char line[512];

    vsnprintf(line, sizeof(line), format, args);
    sim_say("logs: %s", line);
    sim_did_something(NULL); /* likewise: a deadline has come */
    SIM_CHECK(!strstr(line, "no progress"), "%s", line);
}

AP_DECLARE(void) ap_log_error_(const char *file UNUSED, int line UNUSED,
                               int module_index UNUSED, int level UNUSED,
                               apr_status_t status UNUSED,
                               const server_rec *s UNUSED,
                               const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say(format, args);
    va_end(args);
}

/* It may wait: for a pipe that nobody reads, for instance. */
AP_DECLARE(void) ap_log_cerror_(const char *file UNUSED, int line UNUSED,
                                int module_index UNUSED, int level UNUSED,
                                apr_status_t status UNUSED,
                                const conn_rec *c, const char *format, ...)
{
    connection *conn = (connection *)c;
    va_list args;

    SIM_CHECK(!sim_locks_held(), "something is logged with a lock held");
    SIM_CHECK(c->pool, "something is logged of a connection that is over");
    va_start(args, format);
    say(format, args);
    va_end(args);
    if (sim_one_in(8)) {
        ++conn->logs;
        connection_pass(conn, sim_random(300 * 1000), 0);
        --conn->logs;
    }
}

AP_DECLARE(apr_socket_t *) ap_get_conn_socket(conn_rec *c)
{
    return ((connection *)c)->socket;
}

AP_DECLARE(apr_status_t) ap_remove_input_filter_byhandle(
    ap_filter_t *next UNUSED, const char *handle UNUSED)
{
    return APR_SUCCESS;
}

AP_DECLARE(int) ap_run_generate_log_id(const conn_rec *c UNUSED,
                                       const request_rec *r UNUSED,
                                       const char **id)
{
    *id = "sim";
    return OK;
}

AP_DECLARE(int) ap_update_child_status_from_conn(ap_sb_handle_t *sbh UNUSED,
                                                 int status UNUSED,
                                                 conn_rec *c UNUSED)
{
    return 0;
}

AP_DECLARE(int) ap_update_child_status_from_indexes(int child UNUSED,
                                                    int thread UNUSED,
                                                    int status UNUSED,
                                                    request_rec *r UNUSED)
{
    return 0;
}

AP_DECLARE(void) ap_create_sb_handle(ap_sb_handle_t **sbh, apr_pool_t *p,
                                     int child UNUSED, int thread UNUSED)
{
    *sbh = apr_pcalloc(p, 64);
}

AP_DECLARE(apr_uint32_t) ap_random_pick(apr_uint32_t min, apr_uint32_t max)
{
    return min + sim_random(max - min + 1);
}

/* ---- h2x_conf.h, h2x_origin.h ---- */

apr_int64_t h2x_conf_get(const server_rec *s UNUSED, h2x_conf_key key)
{
    switch (key) {
    case H2X_MAX_SESSION_STREAMS:
        return 100;
    case H2X_WINDOW_SIZE:
        return 65536;
    case H2X_MIN_WORKERS:
        return 0;
    case H2X_MAX_WORKERS:
        return world.workers;
    case H2X_WEBSOCKETS:
        return 1;
    case H2X_MAX_WORKER_IDLE:
        return apr_time_from_sec(5);
    default:
        return 0;
    }
}

h2x_push_order h2x_conf_push_order(const server_rec *s UNUSED,
                                   const char *type UNUSED)
{
    return (h2x_push_order)(H2X_PUSH_AFTER + (int)sim_random(3));
}

const apr_array_header_t *h2x_origin_list(conn_rec *c UNUSED,
                                          server_rec *s UNUSED,
                                          void *ssl UNUSED)
{
    return NULL;
}

/* ---- h2x_thread.h ---- */

void h2x_thread_self(h2x_thread *self)
{
    self->id = sim_number();
    self->has_clock = 1;
}

void h2x_thread_look_at(const h2x_thread *thread, h2x_thread_look *look)
{
    sim_did_something(NULL); /* it was time to: ticks may be late by one */
    look->at = sim_now();
    look->state = sim_is_busy(thread->id) ? 'R' : 'S';
    look->used = sim_used(thread->id) * 1000;
    look->delayed = 0;
}

int h2x_thread_waits(const h2x_thread_look *first UNUSED,
                     const h2x_thread_look *last, const h2x_thread_look *now)
{
    return now->state != 'R' && now->used == last->used;
}

int h2x_thread_processors(void)
{
    return world.processors;
}
