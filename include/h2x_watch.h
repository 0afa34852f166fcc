/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The watch: one thread of a child that waits for sockets whose own thread
 * is busy, and that looks after threads which are busy for too long. It knows
 * neither HTTP/2 nor sessions.
 *
 * Lock order: callers may hold their own lock when they call in here; the
 * watch holds none of its own when it calls out.
 */
#ifndef H2X_WATCH_H
#define H2X_WATCH_H

#include <apr_network_io.h>
#include <apr_poll.h>
#include <apr_pools.h>
#include <apr_ring.h>

typedef struct h2x_watch h2x_watch;

/**
 * One that is watched. To be zeroed, then only used by h2x_watch.c, but for the
 * callbacks, of which only those are needed that are asked for, and the baton.
 */
typedef struct h2x_watch_entry {
    APR_RING_ENTRY(h2x_watch_entry) all;  /* among those that are known */
    APR_RING_ENTRY(h2x_watch_entry) link; /* among those that are ticked */
    void (*on_ready)(void *baton);  /* the socket is ready */
    void (*on_tick)(void *baton);   /* some milliseconds have passed */
    void (*on_deadline)(void *baton); /* the deadline has, which is unset */
    void (*on_poke)(void *baton);   /* somebody has poked */
    void *baton;
    apr_pollfd_t pfd;
    apr_time_t deadline; /* 0: none */
    int armed;     /* the socket is in the pollset */
    apr_uint32_t wants_tick; /* atomic */
    apr_uint32_t is_linked;  /* atomic; changed with the watch's lock */
} h2x_watch_entry;

/**
 * Starts the watch of this child.
 * @param size a hint: how many sockets it may have to watch
 * @param p    the child's pool; the thread ends when it is destroyed
 */
apr_status_t h2x_watch_create(h2x_watch **watch, apr_uint32_t size,
                              apr_pool_t *p);

/** Ends the thread. No callback comes any more after this returns. */
void h2x_watch_stop(h2x_watch *watch);

/**
 * Makes an entry known. Its callbacks come from the watch's thread, with no
 * lock held, until h2x_watch_forget() returns.
 * @param socket NULL for one that is never armed
 * @param p      outlives the entry
 */
void h2x_watch_add(h2x_watch *watch, h2x_watch_entry *entry,
                   apr_socket_t *socket, apr_pool_t *p);

/**
 * Forgets an entry, after waiting for a callback that is under way. The
 * caller must hold no lock that the callback takes.
 */
void h2x_watch_forget(h2x_watch *watch, h2x_watch_entry *entry);

/**
 * Asks for one on_ready when the socket is ready for any of the events
 * (APR_POLLIN, APR_POLLOUT), or has failed. Replaces what was asked before.
 */
apr_status_t h2x_watch_arm(h2x_watch *watch, h2x_watch_entry *entry,
                           apr_int16_t events);

/** Takes back h2x_watch_arm(). A callback may still be under way. */
void h2x_watch_disarm(h2x_watch *watch, h2x_watch_entry *entry);

/**
 * Starts and ends on_tick for an entry. A tick may still be under way.
 * Costs no lock when it is done again and again.
 */
void h2x_watch_tick(h2x_watch *watch, h2x_watch_entry *entry, int on);

/**
 * Asks for one on_deadline at a time, or some tenths of a second later.
 * Replaces what was asked before; 0 takes it back.
 */
void h2x_watch_deadline(h2x_watch *watch, h2x_watch_entry *entry,
                        apr_time_t deadline);

/** Calls on_poke of all entries that have it. */
void h2x_watch_poke(h2x_watch *watch);

#endif /* H2X_WATCH_H */
