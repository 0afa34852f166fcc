/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <string.h>

#include <apr_base64.h>
#include <apr_general.h>
#include <apr_portable.h>
#include <apr_sha1.h>
#include <apr_strings.h>

#include <httpd.h>
#include <http_log.h>

#include "h2x.h"
#include "h2x_conf.h"
#include "h2x_field.h"
#include "h2x_tunnel.h"

/* Bytes of a Sec-WebSocket-Key (RFC 6455, section 4.1). */
#define KEY_LEN 16

/* The GUID of Sec-WebSocket-Accept (RFC 6455, section 1.3). */
#define WEBSOCKET_GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

static char *base64(apr_pool_t *p, const unsigned char *data, int len)
{
    char *text = apr_palloc(p, apr_base64_encode_len(len));

    apr_base64_encode_binary(text, data, len);
    return text;
}

/* Returns the Sec-WebSocket-Accept for a key. */
static const char *expected_accept(apr_pool_t *p, const char *key)
{
    unsigned char digest[APR_SHA1_DIGESTSIZE];
    apr_sha1_ctx_t sha1;

    apr_sha1_init(&sha1);
    apr_sha1_update(&sha1, key, (unsigned)strlen(key));
    apr_sha1_update(&sha1, WEBSOCKET_GUID, sizeof(WEBSOCKET_GUID) - 1);
    apr_sha1_final(digest, &sha1);
    return base64(p, digest, sizeof(digest));
}

/*
 * Makes the handshake of HTTP/1.1 (RFC 6455, section 4.1). That of HTTP/2 has
 * no key (RFC 8441, section 5), so one is made for the backend.
 */
static int begin_websocket(h2x_stream *stream)
{
    h2x_request_head *head = &stream->request;
    unsigned char random[KEY_LEN];
    const char *key;

    if (apr_generate_random_bytes(random, sizeof(random)) != APR_SUCCESS) {
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    key = base64(stream->pool, random, sizeof(random));
    head->method = "GET";
    apr_table_setn(head->fields, "Upgrade", "websocket");
    apr_table_setn(head->fields, "Connection", "Upgrade");
    apr_table_setn(head->fields, "Sec-WebSocket-Key", key);
    stream->job.tunnel = H2X_TUNNEL_WEBSOCKET;
    stream->job.websocket_accept = expected_accept(stream->pool, key);
    return OK;
}

int h2x_tunnel_begin(h2x_stream *stream)
{
    const h2x_request_head *head = &stream->request;

    if (head->protocol && !strcmp(head->protocol, "websocket")) {
        return begin_websocket(stream);
    }
    if (!strcmp(head->method, "CONNECT")) {
        stream->job.tunnel = H2X_TUNNEL_CONNECT;
    }
    return OK;
}

int h2x_tunnel_check(const h2x_stream *stream, request_rec *r)
{
    const h2x_request_head *head = &stream->request;

    if (!stream->job.tunnel) {
        return OK;
    }
    if (!head->protocol) {
        if (h2x_conf_get_dir(r, H2X_PROXY_REQUESTS)) {
            return OK;
        }
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r, "h2x(%s): CONNECT "
                      "needs H2ProxyRequests on", r->connection->log_id);
        return HTTP_NOT_IMPLEMENTED;
    }
    if (stream->job.tunnel != H2X_TUNNEL_WEBSOCKET
        || !h2x_conf_get(r->server, H2X_WEBSOCKETS)) {
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r, "h2x(%s): CONNECT "
                      "with :protocol '%s' is not served, see H2WebSockets",
                      r->connection->log_id, head->protocol);
        return HTTP_NOT_IMPLEMENTED;
    }
    return OK;
}

int h2x_tunnel_switch(h2x_stream *stream, h2x_head *head)
{
    const h2x_field *accept = h2x_field_find(head, "sec-websocket-accept");

    if (!accept || !stream->job.websocket_accept
        || strcmp(accept->value, stream->job.websocket_accept)) {
        return 0;
    }
    h2x_field_remove(head, "sec-websocket-accept");
    head->status = HTTP_OK;
    return 1;
}

apr_status_t h2x_tunnel_pollfd(h2x_stream *stream, apr_pollfd_t *pfd,
                               apr_interval_time_t *timeout)
{
    apr_status_t rv = h2x_stream_open_signal(stream);

    if (rv == APR_SUCCESS) {
        rv = apr_os_sock_put(&pfd->desc.s, &stream->signal[0], stream->pool);
    }
    if (rv == APR_SUCCESS && stream->job.tunnel) {
        stream->owner->tunnel_begins(stream->owner_baton, stream);
    }
    if (rv == APR_SUCCESS) {
        pfd->desc_type = APR_POLL_SOCKET;
        if (timeout) {
            *timeout = stream->limits.timeout;
        }
    }
    return rv;
}
