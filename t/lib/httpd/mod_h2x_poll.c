/* mod_h2x_poll: a handler that waits for its client as those do who wait for
 * several things: by http2_get_pollfd_from_conn().
 *
 *     SetHandler h2x-poll
 */

#include "httpd.h"
#include "http_config.h"
#include "http_protocol.h"
#include "util_filter.h"
#include "apr_optional.h"
#include "apr_poll.h"
#include "mod_http2.h"

#define PIECE 1000

/* Echoes what is there, without waiting.  Returns EAGAIN, or the end. */
static apr_status_t echo_available(request_rec *r, apr_bucket_brigade *bb)
{
    apr_status_t rv = APR_SUCCESS;

    while (rv == APR_SUCCESS) {
        char data[PIECE];
        apr_size_t len = sizeof(data);
        int is_end;

        rv = ap_get_brigade(r->input_filters, bb, AP_MODE_READBYTES,
                            APR_NONBLOCK_READ, PIECE);
        if (rv == APR_SUCCESS && APR_BRIGADE_EMPTY(bb)) {
            rv = APR_EAGAIN;
        }
        if (rv == APR_SUCCESS) {
            is_end = APR_BUCKET_IS_EOS(APR_BRIGADE_LAST(bb));
            rv = apr_brigade_flatten(bb, data, &len);
            if (ap_rwrite(data, (int)len, r) < 0 || ap_rflush(r) < 0) {
                rv = APR_EGENERAL;
            }
            rv = (rv == APR_SUCCESS && is_end) ? APR_EOF : rv;
        }
        apr_brigade_cleanup(bb);
    }
    return rv;
}

/* The body back, as it comes; then how often there was something. */
static int handler(request_rec *r)
{
    APR_OPTIONAL_FN_TYPE(http2_get_pollfd_from_conn) *get;
    apr_bucket_brigade *bb;
    apr_pollfd_t pfd = { 0 };
    apr_interval_time_t timeout = -1;
    apr_status_t rv = APR_EAGAIN;
    apr_int32_t ready, count = 0;

    if (!r->handler || strcmp(r->handler, "h2x-poll")) {
        return DECLINED;
    }
    bb = apr_brigade_create(r->pool, r->connection->bucket_alloc);
    pfd.p = r->pool;
    ap_set_content_type(r, "text/plain");
    get = APR_RETRIEVE_OPTIONAL_FN(http2_get_pollfd_from_conn);
    if (!get || get(r->connection, &pfd, &timeout) != APR_SUCCESS) {
        ap_rputs("no descriptor\n", r);
        return OK;
    }
    pfd.reqevents = APR_POLLIN;
    while (APR_STATUS_IS_EAGAIN(rv)) {
        rv = apr_poll(&pfd, 1, &ready, timeout);
        if (rv == APR_SUCCESS) {
            rv = echo_available(r, bb);
            ++count;
        }
    }
    if (rv != APR_EOF) {
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    ap_rprintf(r, "\nready %d timeout %d\n", (int)count,
               (int)apr_time_sec(timeout));
    return OK;
}

static void register_hooks(apr_pool_t *p)
{
    ap_hook_handler(handler, NULL, NULL, APR_HOOK_MIDDLE);
}

module AP_MODULE_DECLARE_DATA h2x_poll_module = {
    STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, register_hooks
};
