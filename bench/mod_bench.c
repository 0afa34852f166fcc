/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* SetHandler bench-discard: reads a request's body and forgets it. Answers
 * 204 when all of Content-Length came, else 400.
 * SetHandler bench-slow: answers after two seconds. */

#include "httpd.h"
#include "http_config.h"
#include "http_protocol.h"
#include "apr_strings.h"

/* Adds the bytes of bb to *total and empties it; 1 at the body's end. */
static int count(apr_bucket_brigade *bb, apr_off_t *total)
{
    apr_bucket *b;
    int ended = 0;

    for (b = APR_BRIGADE_FIRST(bb); b != APR_BRIGADE_SENTINEL(bb);
         b = APR_BUCKET_NEXT(b)) {
        const char *data;
        apr_size_t len = 0;

        if (APR_BUCKET_IS_EOS(b)) {
            ended = 1;
        }
        else if (!APR_BUCKET_IS_METADATA(b)) {
            apr_bucket_read(b, &data, &len, APR_BLOCK_READ);
            *total += len;
        }
    }
    apr_brigade_cleanup(bb);
    return ended;
}

static int discard(request_rec *r)
{
    const char *length = apr_table_get(r->headers_in, "Content-Length");
    apr_bucket_brigade *bb;
    apr_off_t total = 0;

    if (!r->handler || strcmp(r->handler, "bench-discard")) {
        return DECLINED;
    }
    bb = apr_brigade_create(r->pool, r->connection->bucket_alloc);
    do {
        if (ap_get_brigade(r->input_filters, bb, AP_MODE_READBYTES,
                           APR_BLOCK_READ, 64 * 1024) != APR_SUCCESS) {
            return HTTP_BAD_REQUEST;
        }
    } while (!count(bb, &total));
    if (!length || total != apr_atoi64(length)) {
        return HTTP_BAD_REQUEST;
    }
    return HTTP_NO_CONTENT;
}

static int answer_late(request_rec *r)
{
    if (!r->handler || strcmp(r->handler, "bench-slow")) {
        return DECLINED;
    }
    apr_sleep(apr_time_from_sec(2));
    ap_set_content_type(r, "text/plain");
    ap_rputs("ok\n", r);
    return OK;
}

static void register_hooks(apr_pool_t *pool)
{
    ap_hook_handler(discard, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_handler(answer_late, NULL, NULL, APR_HOOK_MIDDLE);
}

AP_DECLARE_MODULE(bench) = {
    STANDARD20_MODULE_STUFF,
    NULL, NULL, NULL, NULL, NULL,
    register_hooks
};
