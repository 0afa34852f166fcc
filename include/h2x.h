/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * What all parts of mod_h2x use: the module record, and its data of a conn_rec.
 */
#ifndef H2X_H
#define H2X_H

#include <httpd.h>
#include <http_config.h>
#include <http_core.h>
#include <http_log.h>

#if !AP_MODULE_MAGIC_AT_LEAST(20120211, 125)
#error "mod_h2x needs Apache httpd 2.4.55 or later"
#endif

/** Nonzero if modules can poll a secondary connection (httpd 2.4.58). */
#define H2X_HAS_POLLFD AP_MODULE_MAGIC_AT_LEAST(20120211, 129)

#ifndef HTTP_EARLY_HINTS
#define HTTP_EARLY_HINTS 103
#endif

extern module AP_MODULE_DECLARE_DATA h2x_module;
APLOG_USE_MODULE(h2x);

struct h2x_drive;
struct h2x_stream;

/**
 * The data of mod_h2x at a conn_rec. On a client's connection (c1) that uses
 * HTTP/2, `protocol` is set; on the secondary connection of a request (c2),
 * `stream` is.
 */
typedef struct h2x_conn {
    void *ssl;                /* c1: the SSL of mod_ssl, or NULL on cleartext */
    const char *protocol;     /* c1: "h2" or "h2c", after negotiation */
    server_rec *server;       /* c1: whose configuration applies, likewise */
    const request_rec *upgraded; /* c1: the request that asked for h2c */
    struct h2x_drive *drive;  /* c1: the engine, once the connection runs */
    struct h2x_stream *stream; /* c2: the stream that it serves */
} h2x_conn;

/**
 * Returns the data of a connection, or NULL if there is none. Any thread that
 * may use the connection.
 */
static APR_INLINE h2x_conn *h2x_conn_get(const conn_rec *c)
{
    return ap_get_module_config(c->conn_config, &h2x_module);
}

/**
 * Returns the data of a connection; allocates it from c->pool if there is none.
 * The thread that owns the connection.
 */
static APR_INLINE h2x_conn *h2x_conn_make(conn_rec *c)
{
    h2x_conn *conn = h2x_conn_get(c);

    if (!conn) {
        conn = apr_pcalloc(c->pool, sizeof(*conn));
        ap_set_module_config(c->conn_config, &h2x_module, conn);
    }
    return conn;
}

#endif /* H2X_H */
