/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The MPM: takes connections, gives them threads, waits for their sockets. */

#include "world.h"

#include <string.h>

#include <ap_mpm.h>
#include <http_main.h>

#include "h2x.h"
#include "h2x_child.h"
#include "memory.h"

world_settings world;

static apr_pool_t *pchild;
static int threads_free;
static int stopping;        /* 1: gracefully, 2: at once */

static int is_thread_free(const void *baton UNUSED)
{
    return threads_free > 0;
}

/* Takes one of the MPM's threads. */
static void take_thread(connection *conn)
{
    apr_time_t since = sim_now();

    conn->waits_for_thread = 1;
    while (!threads_free) {
        sim_wait(is_thread_free, NULL, 0, "a thread of the MPM");
    }
    conn->waits_for_thread = 0;
    conn->waited += sim_now() - since;
    --threads_free;
}

static void leave_thread(void)
{
    ++threads_free;
    sim_point();
}

typedef struct {
    const apr_socket_t *socket;
    int events; /* 1: to be read, 2: to be written */
    int gives_up; /* when it is stopped gracefully */
} waiting;

static int is_ready(const void *baton)
{
    const waiting *w = baton;

    return ((w->events & 1) && net_is_readable(w->socket))
           || ((w->events & 2) && net_is_writable(w->socket))
           || stopping == 2 || (w->gives_up && stopping);
}

/* Waits for the socket as a connection's state says. Returns 0 when the
 * connection is to be closed. */
static int await(connection *conn)
{
    waiting w = { conn->socket, 1, 0 };

    if (conn->cs.state == CONN_STATE_WRITE_COMPLETION) {
        w.events = 2;
        while (conn->c1.data_in_output_filters && !conn->c1.aborted) {
            if (stopping == 2
                || !sim_wait(is_ready, &w, sim_now() + apr_time_from_sec(60),
                             "the socket, to write")) {
                return 0;
            }
            net_flush(&conn->c1);
        }
        w.events = 1;
        w.gives_up = 1;
        return !conn->c1.aborted
               && sim_wait(is_ready, &w, sim_now() + apr_time_from_sec(5),
                           "the next request")
               && !stopping;
    }
    if (conn->cs.sense == CONN_SENSE_WANT_WRITE) {
        w.events = 2;
    }
    return sim_wait(is_ready, &w, sim_now() + apr_time_from_sec(60),
                    "the socket")
           && stopping != 2;
}

void mpm_serve(connection *conn)
{
    conn_rec *c1 = &conn->c1;
    h2x_drive *drive;
    int goes_on;

    take_thread(conn);
    goes_on = h2x_drive_create(&drive, c1, NULL) == APR_SUCCESS;
    SIM_CHECK(goes_on || memory_has_failed(), "no connection can be made");
    while (goes_on) {
        h2x_conn_get(c1)->drive = drive;
        h2x_drive_run(drive);
        goes_on = conn->cs.state != CONN_STATE_LINGER && !c1->aborted
                  && c1->keepalive != AP_CONN_CLOSE && world.keeps_idle;
        if (goes_on) {
            leave_thread();
            conn->mpm_has_filters =
                conn->cs.state == CONN_STATE_WRITE_COMPLETION;
            goes_on = await(conn);
            conn->mpm_has_filters = 0;
            take_thread(conn);
        }
    }
    apr_pool_destroy(c1->pool);
    c1->pool = NULL;
    leave_thread();
}

AP_DECLARE(apr_status_t) ap_mpm_query(int query, int *result)
{
    switch (query) {
    case AP_MPMQ_MAX_THREADS:
        *result = world.mpm_threads;
        return APR_SUCCESS;
    case AP_MPMQ_HARD_LIMIT_THREADS:
        *result = 64;
        return APR_SUCCESS;
    case AP_MPMQ_IS_ASYNC:
        *result = world.keeps_idle;
        return APR_SUCCESS;
#ifdef AP_MPMQ_CAN_WAITIO
    case AP_MPMQ_CAN_WAITIO:
        *result = world.waits_for_io;
        return APR_SUCCESS;
#endif
    default:
        return APR_ENOTIMPL;
    }
}

void mpm_begin(void)
{
    stopping = 0;
    threads_free = world.mpm_threads;
    apr_pool_create(&pchild, sim.pool);
    SIM_CHECK(h2x_child_init(pchild, ap_server_conf) == APR_SUCCESS,
              "no child can be made");
}

void mpm_stop(int graceful)
{
    sim_say("the child stops %s", graceful ? "gracefully" : "at once");
    h2x_child_stopping(graceful);
    stopping = graceful ? 1 : 2;
    sim_point();
}

int mpm_is_stopping(void)
{
    return stopping;
}

void mpm_end(void)
{
    apr_pool_destroy(pchild);
    SIM_CHECK(!h2x_child_self, "the child is still there");
}
