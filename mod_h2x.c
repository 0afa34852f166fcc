/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * mod_h2x: HTTP/2 for Apache httpd.
 *
 * This file is where httpd meets the engine: the hooks that find out which
 * connections speak HTTP/2 and take them over. How they are then served is
 * told in h2x_drive.c.
 */

#include <string.h>

#include <apr_hooks.h>
#include <apr_optional_hooks.h>
#include <apr_strings.h>

#include <openssl/ssl.h>
#include <nghttp2/nghttp2.h>

#include <httpd.h>
#include <ap_mpm.h>
#include <http_config.h>
#include <http_connection.h>
#include <http_log.h>
#include <http_protocol.h>
#include <http_request.h>
#include <http_ssl.h>
#include <mod_http2.h>
#include <mpm_common.h>
#include <util_filter.h>

#include "h2x.h"
#include "h2x_child.h"
#include "h2x_clock.h"
#include "h2x_conf.h"
#include "h2x_drive.h"
#include "h2x_filter.h"
#include "h2x_io.h"
#include "h2x_memory.h"
#include "h2x_origin.h"
#include "h2x_request.h"
#include "h2x_session.h"
#include "h2x_upgrade.h"

/* What a client says first (RFC 9113, section 3.4). */
static const char preface[] = NGHTTP2_CLIENT_MAGIC;
#define PREFACE_LEN (sizeof(preface) - 1)

/* How long to wait for the rest of it, before looking again. */
#define PEEK_STEP (500 * 1000)

/* mod_ssl's hook, which its installed headers do not declare. */
typedef int ssl_HOOK_pre_handshake_t(conn_rec *c, SSL *ssl, int is_proxy);

/* Can this MPM serve more than one request at a time? */
static int is_threaded;

/* ---- start-up ---- */

/* Both modules would take the same connections. */
static int pre_config(apr_pool_t *p, apr_pool_t *plog, apr_pool_t *ptemp)
{
    (void)p;
    (void)plog;
    (void)ptemp;
    if (ap_find_linked_module("mod_http2.c")) {
        ap_log_error(APLOG_MARK, APLOG_STARTUP | APLOG_EMERG, 0, NULL,
                     "mod_h2x and mod_http2 cannot both be loaded: remove "
                     "the line 'LoadModule http2_module ...'%s",
                     " (on Debian: a2dismod http2)");
        return !OK;
    }
    return OK;
}

static int post_config(apr_pool_t *p, apr_pool_t *plog, apr_pool_t *ptemp,
                       server_rec *s)
{
    (void)plog;
    (void)ptemp;
    if (ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG) {
        return OK;
    }
    if (ap_mpm_query(AP_MPMQ_IS_THREADED, &is_threaded) != APR_SUCCESS) {
        is_threaded = AP_MPMQ_NOT_SUPPORTED;
    }
    if (is_threaded == AP_MPMQ_NOT_SUPPORTED) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                     "h2x: this MPM has no threads, HTTP/2 is off: use "
                     "mpm_event or mpm_worker");
    }
    ap_log_error(APLOG_MARK, APLOG_INFO, 0, s,
                 "mod_h2x/%s with nghttp2/%s", H2X_VERSION,
                 nghttp2_version(0)->version_str);
    h2x_origin_init(s, p);
    return h2x_session_init(p) == APR_SUCCESS ? OK : !OK;
}

static void child_init(apr_pool_t *p, server_rec *s)
{
    apr_status_t rv = h2x_request_child_init(p);

    if (rv == APR_SUCCESS && is_threaded != AP_MPMQ_NOT_SUPPORTED) {
        rv = h2x_child_init(p, s);
    }
    if (rv != APR_SUCCESS) {
        is_threaded = AP_MPMQ_NOT_SUPPORTED;
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, s,
                     "h2x: cannot start, HTTP/2 is off in this child");
    }
}

static void child_stopping(apr_pool_t *p, int graceful)
{
    (void)p;
    h2x_child_stopping(graceful);
}

/* ---- which connections speak HTTP/2 ---- */

/* Remembers the SSL of a connection, to ask it for its cipher. */
static int pre_handshake(conn_rec *c, SSL *ssl, int is_proxy)
{
    if (!is_proxy && !c->master) {
        h2x_conn_make(c)->ssl = ssl;
    }
    return OK;
}

/* The cipher that was chosen; in the handshake it is not yet in use. */
static const SSL_CIPHER *chosen_cipher(const SSL *ssl)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);

    return cipher ? cipher : SSL_get_pending_cipher(ssl);
}

/*
 * RFC 9113, section 9.2, wants TLS 1.2 or later and, in 1.2, none of the
 * ciphers of its appendix A: those are the ones whose key exchange is not
 * ephemeral or that are not AEAD, which is how they are told here, and the
 * anonymous ones, which mod_ssl never takes.
 */
static int is_modern(const SSL *ssl)
{
    const SSL_CIPHER *cipher;
    int kx;

    if (SSL_version(ssl) != TLS1_2_VERSION) {
        return SSL_version(ssl) > TLS1_2_VERSION;
    }
    cipher = chosen_cipher(ssl);
    if (!cipher || !SSL_CIPHER_is_aead(cipher)) {
        return 0;
    }
    kx = SSL_CIPHER_get_kx_nid(cipher);
    return kx == NID_kx_ecdhe || kx == NID_kx_dhe || kx == NID_kx_ecdhe_psk
           || kx == NID_kx_dhe_psk || kx == NID_kx_any;
}

/* Is what was negotiated good enough for HTTP/2? */
static int is_acceptable(conn_rec *c, const server_rec *s)
{
    h2x_conn *conn = h2x_conn_get(c);

    if (!ap_ssl_conn_is_ssl(c)
        || !h2x_conf_get(s, H2X_MODERN_TLS_ONLY)) {
        return 1;
    }
    if (!conn || !conn->ssl || is_modern(conn->ssl)) {
        return 1;
    }
    h2x_drive_make_log_id(c);
    ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, c,
                  "h2x(%s): no HTTP/2 with %s and %s, see H2ModernTLSOnly",
                  c->log_id, SSL_get_version(conn->ssl),
                  SSL_CIPHER_get_name(chosen_cipher(conn->ssl)));
    return 0;
}

static const char *protocol_for(conn_rec *c)
{
    return ap_ssl_conn_is_ssl(c) ? "h2" : "h2c";
}

static int protocol_propose(conn_rec *c, request_rec *r, server_rec *s,
                            const apr_array_header_t *offers,
                            apr_array_header_t *proposals)
{
    const char *protocol = protocol_for(c);

    if (is_threaded == AP_MPMQ_NOT_SUPPORTED || c->master
        || (r && !h2x_upgrade_is_possible(r))
        || strcmp(ap_get_protocol(c), AP_PROTOCOL_HTTP1)
        || (offers && !ap_array_str_contains(offers, protocol))
        || !is_acceptable(c, s ? s : c->base_server)) {
        return DECLINED;
    }
    APR_ARRAY_PUSH(proposals, const char *) = protocol;
    return OK;
}

/* ALPN has chosen, within the TLS handshake; or Upgrade, within a request; or
 * the client has begun with the preface. */
static int protocol_switch(conn_rec *c, request_rec *r, server_rec *s,
                           const char *protocol)
{
    h2x_conn *conn;

    if (c->master || strcmp(protocol, protocol_for(c))) {
        return DECLINED;
    }
    conn = h2x_conn_make(c);
    conn->protocol = protocol_for(c);
    conn->server = s ? s : c->base_server;
    if (r) {
        h2x_upgrade_run(r);
    }
    return OK;
}

static const char *protocol_get(const conn_rec *c)
{
    const h2x_conn *conn = h2x_conn_get(c->master ? c->master : c);

    return conn ? conn->protocol : NULL;
}

/*
 * Looks at what the client says first, without taking it.
 * @return 1 when it is the preface of HTTP/2
 */
static int peek_preface(conn_rec *c)
{
    apr_bucket_brigade *bb = apr_brigade_create(c->pool, c->bucket_alloc);
    apr_time_t deadline = h2x_clock_now() + c->base_server->timeout;
    char said[PREFACE_LEN];
    apr_size_t len = 0, had;
    apr_status_t rv;
    int has_more = 1;

    do {
        had = len;
        len = sizeof(said);
        rv = ap_get_brigade(c->input_filters, bb, AP_MODE_SPECULATIVE,
                            APR_BLOCK_READ, sizeof(said));
        if (rv == APR_SUCCESS) {
            rv = apr_brigade_flatten(bb, said, &len);
        }
        apr_brigade_cleanup(bb);
        if (rv != APR_SUCCESS || memcmp(said, preface, len)
            || (has_more && len == had)) {
            break; /* it is something else, or there is no more of it */
        }
        /* not for long: others may have a say in how long that takes, such as
         * mod_reqtimeout, when they are asked again */
        has_more = len < PREFACE_LEN && h2x_io_await(c, PEEK_STEP);
    } while (len < PREFACE_LEN && h2x_clock_now() < deadline);
    apr_brigade_destroy(bb);
    return rv == APR_SUCCESS && len == PREFACE_LEN
           && !memcmp(said, preface, len);
}

/* May a client begin with HTTP/2 on this connection (H2Direct)? */
static int allows_direct(conn_rec *c)
{
    apr_int64_t direct = h2x_conf_get(c->base_server, H2X_DIRECT);

    if (direct < 0) {
        direct = !ap_ssl_conn_is_ssl(c);
    }
    return direct
           && ap_is_allowed_protocol(c, NULL, NULL, protocol_for(c))
           && is_acceptable(c, c->base_server);
}

/*
 * A connection is back from the MPM. No other module's hook has anything to
 * do: mod_ssl's would read from it, and take some of its pool each time.
 */
static int resume_connection(conn_rec *c)
{
    h2x_conn *conn = h2x_conn_get(c);

    if (c->master || !conn || !conn->drive) {
        return DECLINED;
    }
    h2x_drive_run(conn->drive);
    return OK;
}

static int process_connection(conn_rec *c)
{
    h2x_conn *conn = h2x_conn_get(c);
    apr_status_t rv;

    if (c->master) {
        /* other hooks were asked to prepare a c2; the core's is not to read */
        return conn && conn->stream ? OK : DECLINED;
    }
    if (is_threaded == AP_MPMQ_NOT_SUPPORTED) {
        return DECLINED;
    }
    if ((!conn || !conn->protocol) && c->keepalives == 0
        && !strcmp(ap_get_protocol(c), AP_PROTOCOL_HTTP1)
        && allows_direct(c) && peek_preface(c)
        /* the MPM's hook too: it takes its timeouts from that server */
        && ap_switch_protocol(c, NULL, c->base_server, protocol_for(c))
               == APR_SUCCESS) {
        conn = h2x_conn_get(c);
    }
    /* a handshake may fail after ALPN; then mod_ssl has freed its SSL */
    if (!conn || !conn->protocol || c->aborted) {
        return DECLINED;
    }
    rv = h2x_drive_create(&conn->drive, c, NULL);
    if (APR_STATUS_IS_ENOMEM(rv)) {
        h2x_memory_missing();
        return !OK;
    }
    if (rv != APR_SUCCESS) {
        ap_log_cerror(APLOG_MARK, APLOG_ERR, rv, c,
                      "h2x(%s): cannot start a session", c->log_id);
        return !OK;
    }
    h2x_drive_run(conn->drive);
    return OK;
}

static int pre_close_connection(conn_rec *c)
{
    h2x_conn *conn = h2x_conn_get(c);

    if (c->master || !conn || !conn->drive) {
        return DECLINED;
    }
    h2x_drive_close(conn->drive);
    return OK;
}

/* ---- requests ---- */

static h2x_conn *stream_conn(const request_rec *r)
{
    h2x_conn *conn = h2x_conn_get(r->connection);

    return conn && conn->stream ? conn : NULL;
}

static int post_read_request(request_rec *r)
{
    h2x_upgrade_keep(r);
    return DECLINED;
}

/* A request is logged once: where it was answered. */
static int log_transaction(request_rec *r)
{
    return h2x_upgrade_was(r) ? DONE : DECLINED;
}

static int after_log(request_rec *r)
{
    if (stream_conn(r)) {
        h2x_request_count(r);
    }
    return DECLINED;
}

static int fixups(request_rec *r)
{
    if (stream_conn(r)) {
        h2x_request_fixup(r);
    }
    return DECLINED;
}

/*
 * The core offers all Protocols to clients of HTTP/1.1 in an Upgrade field.
 * HTTP/2 is not to be had by upgrading: browsers and proxies have broken on
 * that offer.
 */
static void withdraw_upgrade(request_rec *r)
{
    const char *offer = apr_table_get(r->headers_out, "Upgrade");
    apr_array_header_t *kept;
    char *name;

    if (!offer) {
        return;
    }
    kept = apr_array_make(r->pool, 2, sizeof(char *));
    while (*(name = ap_getword(r->pool, &offer, ','))) {
        if (strcmp(name, "h2") && strcmp(name, "h2c")) {
            APR_ARRAY_PUSH(kept, char *) = name;
        }
    }
    if (kept->nelts) {
        apr_table_setn(r->headers_out, "Upgrade",
                       apr_array_pstrcat(r->pool, kept, ','));
    }
    else {
        apr_table_unset(r->headers_out, "Upgrade");
        apr_table_unset(r->headers_out, "Connection");
    }
}

/* For OPTIONS *, whose answer needs no handler. */
static int map_to_storage(request_rec *r)
{
    if (!r->connection->master) {
        withdraw_upgrade(r);
    }
    return DECLINED;
}

static int before_handler(request_rec *r);

/*
 * Runs the handler hooks that come after ours, which see the connection as
 * over HTTP/1.1. For all others it does not go on: else httpd would wait for
 * the rest of a body that no handler has read.
 */
static int run_handlers(request_rec *r)
{
    const apr_array_header_t *hooks = ap_hook_get_handler();
    int i = 0, status = DECLINED;

    while (APR_ARRAY_IDX(hooks, i, ap_LINK_handler_t).pFunc
           != before_handler) {
        ++i;
    }
    r->connection->keepalive = AP_CONN_UNKNOWN;
    while (status == DECLINED && ++i < hooks->nelts) {
        status = APR_ARRAY_IDX(hooks, i, ap_LINK_handler_t).pFunc(r);
    }
    r->connection->keepalive = AP_CONN_CLOSE;
    return status;
}

/* The last that is asked before a handler runs, which it runs itself. */
static int before_handler(request_rec *r)
{
    if (!r->connection->master) {
        withdraw_upgrade(r);
    }
    if (!stream_conn(r)) {
        return DECLINED;
    }
    h2x_request_before_handler(r);
    if (!h2x_request_may_wait(r)) {
        return DECLINED;
    }
    h2x_drive_hand_over(r->connection);
    return r->main ? DECLINED : run_handlers(r);
}

/* ---- optional functions, as of mod_http2 ---- */

static int http2_is_h2(conn_rec *c)
{
    return protocol_get(c) != NULL;
}

static char *http2_var_lookup(apr_pool_t *p, server_rec *s, conn_rec *c,
                              request_rec *r, char *name)
{
    h2x_conn *conn = c ? h2x_conn_get(c) : NULL;
    const char *value = NULL;

    (void)s;
    if (conn && conn->stream) {
        value = h2x_request_variable(p, c, r, name);
    }
    else if (!strcmp(name, "HTTP2")) {
        value = c && protocol_get(c) ? "on" : "off";
    }
    else if (!strcmp(name, "H2PUSH") || !strcmp(name, "H2_PUSH")) {
        value = "off";
    }
    return (char *)(value ? value : "");
}

#if H2X_HAS_POLLFD
/* For those who wait for a connection and others at a time. */
static apr_status_t http2_get_pollfd_from_conn(conn_rec *c,
                                               struct apr_pollfd_t *pfd,
                                               apr_interval_time_t *timeout)
{
    h2x_conn *conn = h2x_conn_get(c);

    return conn && conn->stream ? h2x_request_pollfd(c, pfd, timeout)
                                : APR_ENOTIMPL;
}
#endif

static void http2_get_num_workers(server_rec *s, int *min, int *max)
{
    h2x_child_count_workers(s, min, max);
}

static void register_hooks(apr_pool_t *p)
{
    static const char *const mod_ssl[] = { "mod_ssl.c", NULL };
    static const char *const core[] = { "core.c", NULL };
    static const char *const before[] = {
        "mod_ssl.c", "mod_reqtimeout.c", NULL
    };

    (void)p;
    h2x_filter_in_register();
    h2x_filter_out_register();
    h2x_io_register();
    h2x_upgrade_register();
    ap_hook_pre_config(pre_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_config(post_config, mod_ssl, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_init(child_init, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_stopping(child_stopping, NULL, NULL, APR_HOOK_MIDDLE);

    APR_OPTIONAL_HOOK(ssl, pre_handshake, pre_handshake, NULL, NULL,
                      APR_HOOK_MIDDLE);
    ap_hook_protocol_propose(protocol_propose, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_protocol_switch(protocol_switch, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_protocol_get(protocol_get, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_process_connection(resume_connection, NULL, NULL,
                               APR_HOOK_REALLY_FIRST);
    ap_hook_process_connection(process_connection, before, NULL,
                               APR_HOOK_LAST);
    ap_hook_pre_close_connection(pre_close_connection, NULL, NULL,
                                 APR_HOOK_LAST);

    ap_hook_map_to_storage(map_to_storage, core, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_post_read_request(post_read_request, NULL, NULL,
                              APR_HOOK_REALLY_FIRST);
    ap_hook_log_transaction(log_transaction, NULL, NULL,
                            APR_HOOK_REALLY_FIRST);
    ap_hook_log_transaction(after_log, NULL, NULL, APR_HOOK_REALLY_LAST);
    ap_hook_fixups(fixups, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_handler(before_handler, core, NULL, APR_HOOK_REALLY_FIRST);

#if H2X_HAS_POLLFD
    ap_hook_get_pollfd_from_conn(http2_get_pollfd_from_conn, NULL, NULL,
                                 APR_HOOK_MIDDLE);
    APR_REGISTER_OPTIONAL_FN(http2_get_pollfd_from_conn);
#endif

    APR_REGISTER_OPTIONAL_FN(http2_is_h2);
    APR_REGISTER_OPTIONAL_FN(http2_var_lookup);
    APR_REGISTER_OPTIONAL_FN(http2_get_num_workers);
}

module AP_MODULE_DECLARE_DATA h2x_module = {
    STANDARD20_MODULE_STUFF,
    h2x_conf_create_dir,
    h2x_conf_merge_dir,
    h2x_conf_create_server,
    h2x_conf_merge_server,
    h2x_conf_directives,
    register_hooks,
#if defined(AP_MODULE_FLAG_NONE)
    AP_MODULE_FLAG_NONE
#endif
};
