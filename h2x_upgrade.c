/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <string.h>

#include <apr_base64.h>
#include <apr_strings.h>

#include <httpd.h>
#include <http_log.h>
#include <http_protocol.h>
#include <http_ssl.h>
#include <util_filter.h>

#include "h2x.h"
#include "h2x_child.h"
#include "h2x_conf.h"
#include "h2x_drive.h"
#include "h2x_upgrade.h"

#define SETTINGS_FIELD "HTTP2-Settings"

/* Bytes of a setting (RFC 9113, section 6.5.1), and how many are accepted. */
#define SETTING_LEN 6
#define SETTINGS_MAX 32

/* A request that asks for h2c, as the client sent it. */
typedef struct {
    apr_table_t *fields;
    apr_off_t length;        /* of its body, by Content-Length */
    h2x_first_request first;
} kept_request;

void h2x_upgrade_keep(request_rec *r)
{
    kept_request *kept;

    if (!r->connection->master && !r->main && !r->prev
        && apr_table_get(r->headers_in, SETTINGS_FIELD)
        && apr_table_get(r->headers_in, "Upgrade")) {
        kept = apr_pcalloc(r->pool, sizeof(*kept));
        kept->fields = apr_table_copy(r->pool, r->headers_in);
        ap_set_module_config(r->request_config, &h2x_module, kept);
    }
}

static kept_request *kept_of(const request_rec *r)
{
    return ap_get_module_config(r->request_config, &h2x_module);
}

/*
 * Returns nonzero if the body, which the client sends by HTTP/1.1, is small
 * enough to be read before the change: by LimitRequestBody and
 * H2StreamMaxMemSize.
 */
static int is_body_small(request_rec *r, apr_off_t *len)
{
    const char *length = apr_table_get(r->headers_in, "Content-Length");
    apr_off_t limit = ap_get_limit_req_body(r);

    *len = 0;
    if (apr_table_get(r->headers_in, "Transfer-Encoding")
        || apr_table_get(r->headers_in, "Expect")) {
        return 0;
    }
    return !length
           || (ap_parse_strict_length(len, length) && (!limit || *len <= limit)
               && *len <= h2x_conf_get(r->server, H2X_STREAM_MAX_MEM_SIZE));
}

/*
 * Decodes the client's settings: base64url without padding (RFC 7540, section
 * 3.2.1), of exactly one field. httpd joins two with a comma, which is invalid.
 */
static int read_settings(apr_pool_t *p, const char *text,
                         h2x_first_request *first)
{
    apr_size_t len = strlen(text), i;
    char *copy = apr_pstrcat(p, text, "===", NULL);
    char *data = apr_palloc(p, len + 4);

    if (strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                     "0123456789-_") != len || len % 4 == 1) {
        return 0;
    }
    for (i = 0; i < len; ++i) {
        copy[i] = (copy[i] == '-') ? '+' : (copy[i] == '_') ? '/' : copy[i];
    }
    copy[(len + 3) / 4 * 4] = '\0';
    first->settings_len = apr_base64_decode(data, copy);
    first->settings = data;
    return first->settings_len % SETTING_LEN == 0
           && first->settings_len <= SETTINGS_MAX * SETTING_LEN;
}

int h2x_upgrade_is_possible(request_rec *r)
{
    conn_rec *c = r->connection;
    kept_request *kept = kept_of(r);
    const char *listed = apr_table_get(r->headers_in, "Connection");

    return kept && c->keepalives == 0 && !ap_ssl_conn_is_ssl(c)
           && !c->clogging_input_filters
           && r->proto_num >= HTTP_VERSION(1, 1)
           && (*r->unparsed_uri == '/' || !strcmp(r->unparsed_uri, "*"))
           && is_body_small(r, &kept->length)
           && listed && ap_find_token(r->pool, listed, SETTINGS_FIELD)
           && h2x_conf_get_dir(r, H2X_UPGRADE)
           && read_settings(r->pool, apr_table_get(kept->fields,
                                                   SETTINGS_FIELD),
                            &kept->first);
}

/* Reads the request's body, for stream 1. */
static apr_status_t read_body(request_rec *r, kept_request *kept)
{
    h2x_first_request *first = &kept->first;
    apr_size_t max = (apr_size_t)kept->length;
    apr_bucket_brigade *bb = apr_brigade_create(r->pool,
                                                r->connection->bucket_alloc);
    apr_status_t rv;
    apr_size_t len;
    int is_end;

    first->body = apr_palloc(r->pool, max + 1);
    do {
        rv = ap_get_brigade(r->input_filters, bb, AP_MODE_READBYTES,
                            APR_BLOCK_READ, HUGE_STRING_LEN);
        len = max - first->body_len;
        if (rv == APR_SUCCESS) {
            rv = apr_brigade_flatten(bb, first->body + first->body_len, &len);
        }
        first->body_len += (rv == APR_SUCCESS) ? len : 0;
        is_end = !APR_BRIGADE_EMPTY(bb)
            && APR_BUCKET_IS_EOS(APR_BRIGADE_LAST(bb));
        apr_brigade_cleanup(bb);
    } while (rv == APR_SUCCESS && !is_end);
    if (rv == APR_SUCCESS && first->body_len < max) {
        rv = APR_INCOMPLETE;
    }
    return rv;
}

/* Removes the connection-specific fields, which HTTP/2 does not have. */
static void drop_hop_by_hop(request_rec *r, apr_table_t *fields)
{
    const char *listed = apr_table_get(fields, "Connection");
    char *name;

    while (listed && *(name = ap_get_token(r->pool, &listed, 0))) {
        apr_table_unset(fields, name);
        listed += (*listed == ',');
    }
    apr_table_unset(fields, "Connection");
    apr_table_unset(fields, "Upgrade");
    apr_table_unset(fields, SETTINGS_FIELD);
}

/* ---- leaving HTTP/1.1 ----
 *
 * httpd expects that a connection whose protocol was changed within a request
 * is served within that request, and closes it afterwards. With an MPM that
 * keeps connections without a thread, this one goes on as if it had changed
 * between requests: the request ends, and the MPM calls process_connection at
 * once, which calls h2x_drive_run(). For that,
 * - c->keepalive is AP_CONN_KEEPALIVE: set by a cleanup of the request's pool,
 *   as httpd resets it after the handler;
 * - a filter shows httpd more input, when it looks for another request. */

static ap_filter_rec_t *peek_filter;

/* Answers a speculative read of httpd, which looks for another request, with
 * the first byte of the preface. */
static apr_status_t answer_peek(ap_filter_t *f, apr_bucket_brigade *bb,
                                ap_input_mode_t mode, apr_read_type_e block,
                                apr_off_t readbytes)
{
    static const char preface[] = "P";
    ap_filter_t *next = f->next;

    ap_remove_input_filter(f);
    if (mode != AP_MODE_SPECULATIVE) {
        return ap_get_brigade(next, bb, mode, block, readbytes);
    }
    APR_BRIGADE_INSERT_TAIL(bb, apr_bucket_immortal_create(
                                    preface, sizeof(preface) - 1,
                                    bb->bucket_alloc));
    return APR_SUCCESS;
}

static apr_status_t keep_alive(void *c)
{
    ((conn_rec *)c)->keepalive = AP_CONN_KEEPALIVE;
    return APR_SUCCESS;
}

void h2x_upgrade_register(void)
{
    peek_filter = ap_register_input_filter("H2X_UPGRADED", answer_peek, NULL,
                                           AP_FTYPE_CONNECTION);
}

void h2x_upgrade_run(request_rec *r)
{
    conn_rec *c = r->connection;
    h2x_conn *conn = h2x_conn_make(c);
    kept_request *kept = kept_of(r);
    apr_status_t rv;

    r->eos_sent = 1; /* it has no response over HTTP/1.1 */
    rv = read_body(r, kept);
    drop_hop_by_hop(r, kept->fields);
    kept->first.method = r->method;
    kept->first.path = r->unparsed_uri;
    kept->first.fields = kept->fields;
    if (rv == APR_SUCCESS) {
        rv = h2x_drive_create(&conn->drive, c, &kept->first);
    }
    if (rv != APR_SUCCESS) {
        h2x_drive_make_log_id(c);
        ap_log_rerror(APLOG_MARK, APLOG_INFO, rv, r,
                      "h2x(%s): closing: Upgrade to h2c has failed",
                      c->log_id);
        c->aborted = 1;
        return;
    }
    conn->upgraded = r;
    if (!h2x_child_self->keeps_idle) {
        h2x_drive_run(conn->drive);
        return;
    }
    apr_pool_cleanup_register(r->pool, c, keep_alive, apr_pool_cleanup_null);
    ap_add_input_filter_handle(peek_filter, NULL, NULL, c);
}

int h2x_upgrade_was(const request_rec *r)
{
    const h2x_conn *conn = h2x_conn_get(r->connection);

    return conn && conn->upgraded == r;
}
