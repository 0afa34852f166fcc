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
#include "h2x_conf.h"
#include "h2x_drive.h"
#include "h2x_upgrade.h"

#define SETTINGS_FIELD "HTTP2-Settings"

void h2x_upgrade_keep(request_rec *r)
{
    if (!r->connection->master && !r->main && !r->prev
        && apr_table_get(r->headers_in, SETTINGS_FIELD)
        && apr_table_get(r->headers_in, "Upgrade")) {
        ap_set_module_config(r->request_config, &h2x_module,
                             apr_table_copy(r->pool, r->headers_in));
    }
}

/* The head as the client sent it, or NULL. */
static apr_table_t *kept_head(const request_rec *r)
{
    return ap_get_module_config(r->request_config, &h2x_module);
}

/*
 * Is the body, if there is one, small enough to be read before the change?
 * The client sends all of it as HTTP/1.1.
 */
static int is_body_small(const request_rec *r)
{
    const char *length = apr_table_get(r->headers_in, "Content-Length");
    apr_off_t len;

    if (apr_table_get(r->headers_in, "Transfer-Encoding")
        || apr_table_get(r->headers_in, "Expect")) {
        return 0;
    }
    return !length || (ap_parse_strict_length(&len, length)
                       && len <= h2x_conf_get(r->server, H2X_WINDOW_SIZE));
}

int h2x_upgrade_is_possible(request_rec *r)
{
    conn_rec *c = r->connection;
    const char *listed = apr_table_get(r->headers_in, "Connection");

    return kept_head(r) && c->keepalives == 0 && !ap_ssl_conn_is_ssl(c)
           && r->proto_num >= HTTP_VERSION(1, 1)
           && *r->unparsed_uri == '/' && is_body_small(r)
           && listed && ap_find_token(r->pool, listed, SETTINGS_FIELD)
           && h2x_conf_get_dir(r, H2X_UPGRADE);
}

/* Reads a field in base64url without padding (RFC 7540, section 3.2.1). */
static apr_status_t read_settings(apr_pool_t *p, const char *text,
                                  h2x_drive_start *start)
{
    char *copy = apr_pstrcat(p, text, "===", NULL);
    apr_size_t len = strlen(text), i;
    char *data = apr_palloc(p, len + 4);

    for (i = 0; i < len; ++i) {
        copy[i] = (copy[i] == '-') ? '+' : (copy[i] == '_') ? '/' : copy[i];
    }
    copy[(len + 3) / 4 * 4] = '\0';
    if (strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                     "0123456789-_") != len) {
        return APR_EINVAL;
    }
    start->settings_len = apr_base64_decode(data, copy);
    start->settings = data;
    return APR_SUCCESS;
}

/* Reads the body, which goes with the request. */
static apr_status_t read_body(request_rec *r, h2x_drive_start *start)
{
    apr_bucket_brigade *bb = apr_brigade_create(r->pool,
                                                r->connection->bucket_alloc);
    apr_size_t max = (apr_size_t)h2x_conf_get(r->server, H2X_WINDOW_SIZE);
    apr_size_t len;
    apr_status_t rv;
    int is_end;

    start->body = apr_palloc(r->pool, max);
    do {
        rv = ap_get_brigade(r->input_filters, bb, AP_MODE_READBYTES,
                            APR_BLOCK_READ, HUGE_STRING_LEN);
        len = max - start->body_len;
        if (rv == APR_SUCCESS) {
            rv = apr_brigade_flatten(bb, start->body + start->body_len, &len);
        }
        start->body_len += (rv == APR_SUCCESS) ? len : 0;
        is_end = !APR_BRIGADE_EMPTY(bb)
            && APR_BUCKET_IS_EOS(APR_BRIGADE_LAST(bb));
        apr_brigade_cleanup(bb);
    } while (rv == APR_SUCCESS && !is_end);
    return rv;
}

/* What is left of a head without the Upgrade. */
static apr_table_t *plain_fields(const request_rec *r)
{
    apr_table_t *fields = kept_head(r);
    const char *listed = apr_table_get(fields, "Connection");
    char *name;

    while (listed && *(name = ap_get_token(r->pool, &listed, 0))) {
        apr_table_unset(fields, name);
        listed += (*listed == ',');
    }
    apr_table_unset(fields, "Connection");
    apr_table_unset(fields, "Upgrade");
    apr_table_unset(fields, SETTINGS_FIELD);
    return fields;
}

apr_status_t h2x_upgrade_run(request_rec *r)
{
    conn_rec *c = r->connection;
    h2x_conn *conn = h2x_conn_make(c);
    h2x_drive_start start = { 0 };
    apr_status_t rv;

    conn->upgraded = r;
    r->eos_sent = 1; /* there is no response to it in HTTP/1.1 */
    rv = read_settings(r->pool, apr_table_get(kept_head(r), SETTINGS_FIELD),
                       &start);
    if (rv == APR_SUCCESS) {
        rv = read_body(r, &start);
    }
    start.method = r->method;
    start.path = r->unparsed_uri;
    start.fields = plain_fields(r);
    if (rv == APR_SUCCESS) {
        rv = h2x_drive_create(&conn->drive, c, &start);
    }
    if (rv != APR_SUCCESS) {
        ap_log_rerror(APLOG_MARK, APLOG_INFO, rv, r,
                      "h2x: Upgrade to h2c has failed");
        c->aborted = 1;
        return rv;
    }
    h2x_drive_run(conn->drive);
    return APR_SUCCESS;
}

int h2x_upgrade_was(const request_rec *r)
{
    const h2x_conn *conn = h2x_conn_get(r->connection);

    return conn && conn->upgraded == r;
}
