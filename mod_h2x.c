/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * mod_h2x: HTTP/2 for Apache httpd.
 *
 * This file has the module's hooks and optional functions: which connections
 * use HTTP/2, and what is to be done for their requests. How connections are
 * served is described in h2x_drive.c.
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

/* The client's connection preface (RFC 9113, section 3.4). */
static const char preface[] = NGHTTP2_CLIENT_MAGIC;
#define PREFACE_LEN (sizeof(preface) - 1)

/* How long one wait for more of the preface is, at most, in microseconds. */
#define PEEK_STEP (500 * 1000)

/* mod_ssl's hook, which its installed headers do not declare. */
typedef int ssl_HOOK_pre_handshake_t(conn_rec *c, SSL *ssl, int is_proxy);

/* AP_MPMQ_IS_THREADED. Without threads, HTTP/2 is off. */
static int is_threaded;

/* ---- start-up ---- */

/* Refuses to start with mod_http2, which would serve the same connections. */
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

/* Keeps the SSL of a connection, for is_acceptable(). */
static int pre_handshake(conn_rec *c, SSL *ssl, int is_proxy)
{
    if (!is_proxy && !c->master) {
        h2x_conn_make(c)->ssl = ssl;
    }
    return OK;
}

/* Returns the negotiated cipher, which during the handshake is pending. */
static const SSL_CIPHER *chosen_cipher(const SSL *ssl)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);

    return cipher ? cipher : SSL_get_pending_cipher(ssl);
}

/*
 * Returns nonzero for TLS as of RFC 9113, section 9.2: version 1.2 or later
 * and, in 1.2, no cipher of appendix A. These are all ciphers without ephemeral
 * key exchange or AEAD, and the anonymous ones, which mod_ssl does not allow.
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

/* Returns nonzero if H2ModernTLSOnly allows HTTP/2 on a connection. */
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

/* Called for HTTP/2 in three cases: by ALPN, within the TLS handshake; by
 * Upgrade, within a request (r); by process_connection(), for the preface. */
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
 * Reads the client's first bytes speculatively. Waits until they differ from
 * the preface of HTTP/2, or for the server's Timeout.
 * @return nonzero if they are the preface
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
            break; /* another protocol, or the end of the input */
        }
        /* in short steps, as mod_reqtimeout and others apply their limits when
         * the filters are read again */
        has_more = len < PREFACE_LEN && h2x_io_await(c, PEEK_STEP);
    } while (len < PREFACE_LEN && h2x_clock_now() < deadline);
    apr_brigade_destroy(bb);
    return rv == APR_SUCCESS && len == PREFACE_LEN
           && !memcmp(said, preface, len);
}

/* Returns nonzero if H2Direct allows prior knowledge on a connection. */
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
 * Continues with a connection that the MPM returns. The other hooks do not run:
 * mod_ssl's would read from it, and allocate from its pool each time.
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
        /* earlier hooks may prepare a c2; the core's must not read it */
        return conn && conn->stream ? OK : DECLINED;
    }
    if (is_threaded == AP_MPMQ_NOT_SUPPORTED) {
        return DECLINED;
    }
    if ((!conn || !conn->protocol) && c->keepalives == 0
        && !strcmp(ap_get_protocol(c), AP_PROTOCOL_HTTP1)
        && allows_direct(c) && peek_preface(c)
        /* also for the MPM, which takes its timeouts from the server */
        && ap_switch_protocol(c, NULL, c->base_server, protocol_for(c))
               == APR_SUCCESS) {
        conn = h2x_conn_get(c);
    }
    /* if the handshake failed after ALPN, mod_ssl has freed the SSL */
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
                      "h2x(%s): closing: cannot start HTTP/2", c->log_id);
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

/* Keeps a request with Upgrade from being logged here: stream 1 logs it. */
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
 * Removes HTTP/2 from the Upgrade field in which the core offers all Protocols
 * to clients of HTTP/1.1: some browsers and proxies fail on that offer.
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

/* For OPTIONS *, which is answered without a handler. */
static int map_to_storage(request_rec *r)
{
    if (!r->connection->master) {
        withdraw_upgrade(r);
    }
    return DECLINED;
}

static int before_handler(request_rec *r);

/*
 * Runs the handler hooks that come after ours. While they run, the connection's
 * keepalive is as over HTTP/1.1; before and after, it is AP_CONN_CLOSE, so that
 * httpd does not wait for the rest of a body that no handler has read.
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

/* The first handler hook. Runs the others itself if they may wait. */
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
/* For handlers that poll a connection and others at a time. */
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
