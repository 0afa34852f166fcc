/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* What a schedule is about: a child with connections, clients and requests. */
#ifndef WORLD_H
#define WORLD_H

#include <httpd.h>

#include "h2x_drive.h"
#include "h2x_stream.h"

#include "net.h"
#include "schedule.h"

#define CLIENTS_MAX 6
#define REQUESTS_MAX 128

/** When a handler reads its request's body. */
typedef enum {
    READS_NOTHING,
    READS_SOME,     /* before it answers */
    READS_ALL,      /* likewise */
    READS_LATE      /* all, when its head is out */
} reading;

/** A connection, as the MPM knows it. */
typedef struct {
    conn_rec c1;
    conn_state_t cs;
    apr_socket_t *socket;
    void *config[1];
    int number;
    int waits_for_thread; /* of the MPM's; and for how long it did, */
    apr_interval_time_t waited; /* in all */
    int mpm_has_filters;  /* it writes, and waits for the next request */
    int reasons;         /* why it may be slow: so many of those that have to
                          * do with it compute, or take their time, */
    int handlers;        /* so many among them are handlers, */
    int logs;            /* so many write lines for the log, */
    int stuck;           /* and so many hold its lock */
    apr_interval_time_t idle; /* how long nothing has come of its requests
                               * without a reason, while no processor was used,
                               */
    apr_interval_time_t waits; /* and at all */
    apr_interval_time_t unread; /* how long nobody has read what has come */
    int is_over;
} connection;

/** A request: what it is to do, and what became of it. */
typedef struct {
    int number;
    h2x_tunnel tunnel;        /* its bodies are what a tunnel carries */
    int ends_last;            /* of that, the client's side: after the other, */
    int ends_never;           /* or with the stream */
    int promises;             /* so many requests */
    int is_promised;          /* by a response: the client did not ask, */
    int is_announced;         /* and knows of it */
    apr_size_t upload;        /* bytes of its body */
    int is_upload;
    int pauses_upload;        /* the client takes its time */
    apr_size_t sent;          /* of it, by the client */
    reading reads;
    apr_interval_time_t computes;
    apr_interval_time_t waits;
    int says_it_waits;        /* as handlers do that may */
    apr_size_t size;          /* of the response's body */
    apr_size_t piece;         /* written at a time */
    apr_interval_time_t pause; /* after some pieces */
    int flushes;
    int is_file;
    int fails;                /* half-way */

    connection *conn;
    apr_interval_time_t held_up; /* how long it could have begun */
    fiber *runner;            /* began it; NULL: not begun */
    int is_done;              /* its handler has returned */
    int is_ended;
    int keeps_file;           /* it may end later, on any thread */
    apr_size_t taken;         /* bytes of the upload that the handler got */

    /* the client's */
    int id;                   /* of its stream */
    int status;
    apr_size_t received;
    int has_ended;            /* END_STREAM */
    int is_over;              /* the stream is closed */
    unsigned code;            /* of RST_STREAM, or 0 */
    int was_cancelled;        /* by the client */
} request;

/** What may happen in a schedule. */
typedef struct {
    int clients;
    int actions;        /* of each client, at most */
    int is_wild;        /* clients stall, cancel, leave; the child stops */
    int mpm_threads;
    int workers;
    int processors;
    int keeps_idle;     /* as MPM event does; else worker */
    int waits_for_io;
    int is_late;        /* clients come one after the other */
    int is_slow;        /* reading and writing sometimes takes long */
    apr_interval_time_t stream_timeout;
} world_settings;

extern world_settings world;
extern request requests[REQUESTS_MAX];
extern int request_count;

/** The most that a body has. */
#define BODY_MAX (120 * 1000)

/** The bytes of the body of a number, from an offset on. */
const char *body_at(int number, apr_size_t at);

/** How many of these are there? */
apr_size_t body_same(int number, apr_size_t at, const void *data,
                     apr_size_t len);

/** Those of the clients that have come. */
extern connection *connections[CLIENTS_MAX];
extern int connection_count;

/** Lets time pass in what the calling thread does for a connection. */
void connection_pass(connection *conn, apr_interval_time_t time, int is_busy);

/** Once, before the first schedule. */
void request_init(void);

/** Makes a request for a client, or one that is promised to it; NULL when there
 * are enough. */
request *request_make(int is_promised);

/** Time passes: is it for a reason? See sim_schedule. */
void request_on_time(apr_interval_time_t time, int has_reason, int is_busy);

/** Checks what became of all; when the child is gone. */
void request_check_all(void);

/** A client's part of a connection, until it has ended. In its thread. */
void client_run(connection *conn);

/** Serves a connection until it is over. In a thread of the MPM's. */
void mpm_serve(connection *conn);

/** Starts a child; lets it stop; waits until its threads are over. */
void mpm_begin(void);
void mpm_stop(int graceful);
int mpm_is_stopping(void);
void mpm_end(void);

#endif /* WORLD_H */
