/* mod_h2x_http1: handlers that were made for HTTP/1.1, and look at what a
 * request and its connection are there.
 *
 *     SetHandler h2x-http1
 *
 * The query says which: see handlers[] at the end.
 */

#include "httpd.h"
#include "http_config.h"
#include "http_core.h"
#include "http_protocol.h"
#include "http_request.h"
#include "util_filter.h"

static void print_phase(request_rec *r, const char *phase)
{
    ap_rprintf(r, "%s: keepalive %d proto_num %d chunked %d\n", phase,
               (int)r->connection->keepalive, r->proto_num, r->chunked);
}

/* Asks for chunked coding itself. */
static int do_chunked(request_rec *r)
{
    r->chunked = 1;
    apr_table_unset(r->headers_out, "Content-Length");
    ap_rputs("hello, ", r);
    ap_rflush(r);
    ap_rputs("world", r);
    return OK;
}

/* What a handler sees before and behind the head: AP_CONN_UNKNOWN, which is 0,
 * and AP_CONN_KEEPALIVE, 2. */
static int do_phases(request_rec *r)
{
    print_phase(r, "handler");
    ap_rflush(r);
    print_phase(r, "body");
    return OK;
}

/* The same with a length. */
static int do_length(request_rec *r)
{
    ap_set_content_length(r, 46 + 43);
    return do_phases(r);
}

/* Fails in the middle, and shows it as mod_wsgi does: without EOS, where the
 * framing then tells the client. */
static int do_cut(request_rec *r)
{
    ap_rputs("half", r);
    ap_rflush(r);
    if (r->chunked) {
        r->eos_sent = 1;
    }
    return OK;
}

/* The same at the beginning: nothing is missing then. */
static int do_cut_early(request_rec *r)
{
    if (r->chunked) {
        r->eos_sent = 1;
    }
    ap_rputs("whole", r);
    return OK;
}

static void remove_header_filter(request_rec *r)
{
    ap_filter_t *f, *next;

    for (f = r->output_filters; f; f = next) {
        next = f->next;
        if (!ap_cstr_casecmp(f->frec->name, "HTTP_HEADER")) {
            ap_remove_output_filter(f);
        }
    }
}

/* Wants to write the head itself, and fails before that. */
static int do_headless(request_rec *r)
{
    remove_header_filter(r);
    return HTTP_FORBIDDEN;
}

/* The same, and says it otherwise. */
static int do_headless_silent(request_rec *r)
{
    remove_header_filter(r);
    return OK;
}

/* Writes what is no head. */
static int do_headless_text(request_rec *r)
{
    remove_header_filter(r);
    ap_rputs("no head\r\n\r\n", r);
    return OK;
}

/* An interim response with the fields of the final one. */
static int do_interim(request_rec *r)
{
    ap_set_content_length(r, 5);
    r->status = 103;
    apr_table_setn(r->headers_out, "Link", "</a.css>; rel=preload");
    ap_send_interim_response(r, 1);
    r->status = HTTP_OK;
    ap_set_content_length(r, 5);
    ap_rputs("final", r);
    return OK;
}

/* Discards the body, as handlers do that want none, and says what that gave. */
static int do_discard(request_rec *r)
{
    ap_rprintf(r, "discarded: %d\n", ap_discard_request_body(r));
    return OK;
}

static int do_nothing(request_rec *r)
{
    (void)r;
    return OK;
}

static const struct {
    const char *name;
    int (*handle)(request_rec *r);
} handlers[] = {
    { "chunked", do_chunked },
    { "phases", do_phases },
    { "length", do_length },
    { "cut", do_cut },
    { "cut-early", do_cut_early },
    { "headless", do_headless },
    { "headless-silent", do_headless_silent },
    { "headless-text", do_headless_text },
    { "interim", do_interim },
    { "discard", do_discard },
    { "nothing", do_nothing },
};

static int handler(request_rec *r)
{
    apr_size_t i;

    if (!r->handler || strcmp(r->handler, "h2x-http1") || !r->args) {
        return DECLINED;
    }
    ap_set_content_type(r, "text/plain");
    for (i = 0; i < sizeof(handlers) / sizeof(handlers[0]); ++i) {
        if (!strcmp(handlers[i].name, r->args)) {
            return handlers[i].handle(r);
        }
    }
    return HTTP_NOT_FOUND;
}

static void register_hooks(apr_pool_t *p)
{
    (void)p;
    ap_hook_handler(handler, NULL, NULL, APR_HOOK_MIDDLE);
}

module AP_MODULE_DECLARE_DATA h2x_http1_module = {
    STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, register_hooks
};
