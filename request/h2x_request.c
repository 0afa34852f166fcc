/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <string.h>
#include <unistd.h>

#include <apr_atomic.h>
#include <apr_optional.h>
#include <apr_portable.h>
#include <apr_strings.h>

#include <httpd.h>
#include <http_connection.h>
#include <http_core.h>
#include <http_log.h>
#include <http_protocol.h>
#include <http_request.h>
#include <http_vhost.h>
#include <ap_mpm.h>
#include <mod_core.h>
#include <scoreboard.h>
#include <util_filter.h>

#include "h2x.h"
#include "h2x_announce.h"
#include "h2x_clock.h"
#include "h2x_conf.h"
#include "h2x_field.h"
#include "h2x_filter.h"
#include "h2x_origin.h"
#include "h2x_push.h"
#include "h2x_request.h"
#include "h2x_tunnel.h"

APR_DECLARE_OPTIONAL_FN(void, ap_logio_add_bytes_in,
                        (conn_rec *c, apr_off_t bytes));
APR_DECLARE_OPTIONAL_FN(void, ap_logio_add_bytes_out,
                        (conn_rec *c, apr_off_t bytes));
APR_DECLARE_OPTIONAL_FN(apr_off_t, ap_logio_get_last_bytes, (conn_rec *c));
static APR_OPTIONAL_FN_TYPE(ap_logio_add_bytes_in) *logio_in;
static APR_OPTIONAL_FN_TYPE(ap_logio_add_bytes_out) *logio_out;
static APR_OPTIONAL_FN_TYPE(ap_logio_get_last_bytes) *logio_last;

/* How often the state of a suspended request is polled, in microseconds. */
#define SUSPENDED_STEP (20 * 1000)

/* The age of a child's processor times in mod_status, at most; microseconds. */
#define TIMES_MAX_AGE (100 * 1000)

/* Atomic, as workers without a scoreboard slot use that of their connection. */
#define ADD(counter, n) __atomic_fetch_add(&(counter), (n), __ATOMIC_RELAXED)

/* The socket of requests without body: it is never read. */
static apr_socket_t *dummy_socket;

/* Nonzero if a module is loaded that closes sockets of master connections. */
static int has_droppers;

/* The MPM, which expects its conn_config on all connections. */
static module *mpm;

/* ThreadLimit. The id of a connection is this times the child's slot, plus that
 * of the thread. */
static int thread_limit = 1;

apr_status_t h2x_request_child_init(apr_pool_t *p)
{
    static const char *const mpms[] = {
        "event.c", "worker.c", "prefork.c", "motorz.c", "simple_api.c",
        "mpm_winnt.c", "mpm_netware.c", NULL
    };
    int i;

    for (i = 0; mpms[i] && !mpm; ++i) {
        mpm = ap_find_linked_module(mpms[i]);
    }
    ap_mpm_query(AP_MPMQ_HARD_LIMIT_THREADS, &thread_limit);
    has_droppers = (ap_find_linked_module("mod_security2.c") != NULL);
    logio_in = APR_RETRIEVE_OPTIONAL_FN(ap_logio_add_bytes_in);
    logio_out = APR_RETRIEVE_OPTIONAL_FN(ap_logio_add_bytes_out);
    logio_last = APR_RETRIEVE_OPTIONAL_FN(ap_logio_get_last_bytes);
    return apr_socket_create(&dummy_socket, APR_INET, SOCK_STREAM,
                             APR_PROTO_TCP, p);
}

/* ---- the secondary connection ---- */

/*
 * Returns an id for a c2 that no other connection of the server has now. Bits:
 * mod_unique_id distinguishes concurrent requests by the low 32, so all are in
 * these; mod_cgid keeps memory for each id that it has ever seen, so they are
 * used again. The MPM's ids are below 2^31.
 */
static long make_id(const h2x_stream *stream, const conn_rec *c1)
{
    apr_uint32_t child = (apr_uint32_t)(c1->id / thread_limit);

    return (long)(0x80000000u | (child & 0x3fff) << 17
                  | (stream->number & 0x1ffff));
}

/*
 * Returns the socket of a c2, on which modules set timeouts and wait for input.
 * Its descriptor becomes readable when a part of the body has come.
 */
static apr_socket_t *make_socket(h2x_stream *stream)
{
    apr_socket_t *socket = NULL;

    if (!stream->request.has_body
        || h2x_stream_open_signal(stream) != APR_SUCCESS
        || apr_os_sock_put(&socket, &stream->signal[0],
                           stream->job.c2_pool->pool) != APR_SUCCESS) {
        return dummy_socket;
    }
    return socket;
}

/*
 * Returns the master of a c2, which is the c1. With mod_security, which drops
 * clients by closing the master's socket, it is a copy of the c1 with a socket
 * of its own: to close that ends the stream, and not all of the connection.
 */
static conn_rec *make_master(h2x_stream *stream, conn_rec *c1)
{
    apr_pool_t *p = stream->job.c2_pool->pool;
    conn_rec *master;
    apr_os_sock_t fd;
    const module *m;

    if (!has_droppers || apr_os_sock_get(&fd, dummy_socket) != APR_SUCCESS) {
        return c1;
    }
    fd = dup(fd);
    if (fd < 0
        || apr_os_sock_put(&stream->job.drop_socket, &fd, p) != APR_SUCCESS) {
        return c1;
    }
    master = apr_pmemdup(p, c1, sizeof(*c1));
    master->conn_config = ap_create_conn_config(p);
    for (m = ap_top_module; m; m = m->next) {
        ap_set_module_config(master->conn_config, m,
                             ap_get_module_config(c1->conn_config, m));
    }
    ap_set_core_module_config(master->conn_config, stream->job.drop_socket);
    return master;
}

/*
 * Makes the c2: a complete conn_rec, as modules use all of its parts. What it
 * shares with c1 does not change while requests run.
 */
static conn_rec *make_c2(h2x_stream *stream, conn_rec *c1,
                         const h2x_runner *runner)
{
    apr_pool_t *p = stream->job.c2_pool->pool;
    conn_rec *c2 = apr_palloc(p, sizeof(*c2));

    h2x_lock_acquire(stream->lock);
    *c2 = *c1;
    c2->master = make_master(stream, c1);
    h2x_lock_release(stream->lock);
    c2->pool = p;
    c2->bucket_alloc = apr_bucket_alloc_create(p);
    c2->id = make_id(stream, c1);
    c2->log = NULL;
    c2->log_id = apr_pstrcat(p, c1->log_id, "-", apr_itoa(p, stream->id),
                             NULL);
    c2->conn_config = ap_create_conn_config(p);
    c2->notes = apr_table_make(p, 5);
    c2->input_filters = NULL;
    c2->output_filters = NULL;
    c2->data_in_input_filters = 0;
    c2->data_in_output_filters = 0;
    c2->clogging_input_filters = 1; /* c2 is not for the MPM */
    c2->aborted = 0;
    c2->keepalive = AP_CONN_CLOSE;  /* see run_handlers() */
    c2->keepalives = 0;
    c2->cs = apr_pcalloc(p, sizeof(*c2->cs));
    c2->cs->state = CONN_STATE_HANDLER;
    c2->sbh = runner->sbh;
    c2->current_thread = runner->thread;
    ap_set_core_module_config(c2->conn_config,
                              make_socket(stream));
    if (mpm) {
        ap_set_module_config(c2->conn_config, mpm,
                             ap_get_module_config(c1->conn_config, mpm));
    }
    h2x_conn_make(c2)->stream = stream;
    stream->job.c2 = c2;
    return c2;
}

/* ---- the request ---- */

/*
 * Checks :authority (RFC 9113, section 8.3.1): it must not have user
 * information, nor differ from Host.
 */
static int check_authority(request_rec *r, const h2x_request_head *head)
{
    const char *host = apr_table_get(r->headers_in, "Host");

    if (!head->authority) {
        return OK;
    }
    if (ap_strchr_c(head->authority, '@')) {
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r,
                      "h2x(%s): user information in :authority '%s'",
                      r->connection->log_id, head->authority);
        return HTTP_BAD_REQUEST;
    }
    if (host && !h2x_push_is_authority(head->scheme, head->authority, host,
                                       strlen(host))) {
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r,
                      "h2x(%s): :authority '%s' and Host '%s' differ",
                      r->connection->log_id, head->authority, host);
        return HTTP_BAD_REQUEST;
    }
    apr_table_setn(r->headers_in, "Host", head->authority);
    return OK;
}

/*
 * Checks the size of joined fields, by the limit of the connection's server, as
 * for HTTP/1.1. Other limits were checked when the fields came, see h2x_head.c.
 */
static int check_limits(request_rec *r, const h2x_request_head *head)
{
    const apr_array_header_t *all;
    const apr_table_entry_t *entry;
    int i;

    all = apr_table_elts(r->headers_in);
    entry = (const apr_table_entry_t *)all->elts;
    for (i = 0; i < all->nelts && !head->status; ++i) {
        if (strlen(entry[i].key) + strlen(entry[i].val) + 2
            > (apr_size_t)r->server->limit_req_fieldsize) {
            ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r,
                          "h2x(%s): field %.64s exceeds LimitRequestFieldSize "
                          "(%d)", r->connection->log_id, entry[i].key,
                          r->server->limit_req_fieldsize);
            return HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE;
        }
    }
    return head->status;
}

/* Checks :scheme: httpd serves http and https. */
static int check_scheme(request_rec *r, const h2x_request_head *head)
{
    if (head->scheme && ap_cstr_casecmp(head->scheme, "https")
        && ap_cstr_casecmp(head->scheme, "http")) {
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r,
                      "h2x(%s): :scheme '%s' is not served, only http and "
                      "https", r->connection->log_id, head->scheme);
        return HTTP_BAD_REQUEST;
    }
    return OK;
}

/* Checks that Protocols of the virtual host have HTTP/2; if not, the answer is
 * 421 (RFC 9110, section 15.5.20). */
static int check_vhost(request_rec *r)
{
    conn_rec *c1 = r->connection->master;
    const h2x_conn *conn = h2x_conn_get(c1);
    const char *protocol = conn->protocol;

    if (r->server != conn->server
        && !ap_is_allowed_protocol(c1, NULL, r->server, protocol)) {
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r,
                      "h2x(%s): Protocols of host %s does not have %s",
                      r->connection->log_id, r->server->server_hostname,
                      protocol);
        return HTTP_MISDIRECTED_REQUEST;
    }
    return OK;
}

/*
 * Logs the first difference of the TLS configurations for which mod_ssl
 * answered with 421.
 */
static void log_misdirected(request_rec *r)
{
    const server_rec *server = h2x_conn_get(r->connection->master)->server;
    const char *what = h2x_origin_difference(server, r->server);

    if (what) {
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r,
                      "h2x(%s): connection for %s used for %s, whose %s "
                      "differs", r->connection->log_id,
                      server->server_hostname, r->server->server_hostname,
                      what);
    }
}

/*
 * Makes the request line, as of HTTP/1.1, for logs and for httpd. With
 * H2ProxyRequests it has the absolute URI, as mod_proxy expects of requests for
 * a forward proxy.
 */
static char *request_line(request_rec *r, const h2x_request_head *head)
{
    const char *target = head->path ? head->path : head->authority;

    if (h2x_conf_get_dir(r, H2X_PROXY_REQUESTS) && head->scheme
        && head->authority && head->path && *head->path == '/') {
        target = apr_pstrcat(r->pool, head->scheme, "://", head->authority,
                             head->path, NULL);
    }
    return apr_pstrcat(r->pool, head->method, " ", target ? target : "/",
                       " HTTP/2.0", NULL);
}

/*
 * Fills a request_rec from the head, as ap_read_request() does from text.
 * @param body_filter the one that the body will be read from
 * @return OK, or the status to refuse it with
 */
static int read_head(request_rec *r, h2x_stream *stream,
                     ap_filter_t *body_filter)
{
    h2x_request_head *head = &stream->request;
    int status = h2x_tunnel_begin(stream), refused;

    r->request_time = head->received;
    r->per_dir_config = h2x_conn_get(r->connection->master)->server
                            ->lookup_defaults;
    r->the_request = request_line(r, head);
    r->headers_in = head->fields;
    if (!head->status) {
        /* in the stream's pool, as promises outlive the request */
        h2x_field_join(stream->pool, r->headers_in);
    }
    if (!status) {
        status = check_limits(r, head);
    }
    if (!ap_parse_request_line(r) && !status) {
        status = r->status;
    }
    if (!status) {
        status = check_authority(r, head);
    }
    if (!status) {
        status = check_scheme(r, head);
    }
    if (!status) {
        h2x_announce_begin(stream, r);
    }
    r->status = HTTP_OK;
    h2x_filter_in_frame(body_filter, r);
    if (!ap_check_request_header(r) && !status) {
        status = r->status;
    }
    r->status = HTTP_OK;
    r->per_dir_config = r->server->lookup_defaults;
    refused = h2x_tunnel_check(stream, r);
    if (refused) {
        /* httpd has refused the path of an extended CONNECT as its target */
        status = refused;
    }
    return status ? status : check_vhost(r);
}

/* Logs a request that was refused before httpd's phases began. */
static void die(request_rec *r, int status)
{
    conn_rec *c2 = r->connection;
    apr_bucket_brigade *bb = apr_brigade_create(c2->pool, c2->bucket_alloc);

    ap_die(status, r);
    APR_BRIGADE_INSERT_TAIL(bb, ap_bucket_eor_create(c2->bucket_alloc, r));
    ap_pass_brigade(c2->output_filters, bb);
    apr_brigade_cleanup(bb);
}

/* Returns KeepAliveTimeout, as the MPMs do for HTTP/1.1. */
static apr_interval_time_t keep_alive_timeout(const request_rec *r)
{
    return (r->server->keep_alive_timeout_set
            ? r->server : r->connection->base_server)->keep_alive_timeout;
}

/*
 * Copies configuration to the stream: of the server, then of the virtual host,
 * then of the directory that the request is mapped to.
 */
static void apply_config(h2x_stream *stream, const request_rec *r)
{
    apr_interval_time_t timeout = h2x_conf_get_dir(r, H2X_STREAM_TIMEOUT);
    apr_interval_time_t keep_alive = keep_alive_timeout(r);
    apr_size_t max_memory
        = (apr_size_t)h2x_conf_get(r->server, H2X_STREAM_MAX_MEM_SIZE);

    if (timeout <= 0) {
        timeout = r->server->timeout;
    }
    /* other threads read these three; only this one reads those below */
    if (timeout != stream->limits.timeout
        || keep_alive != stream->limits.keep_alive
        || max_memory != stream->limits.max_memory) {
        h2x_lock_acquire(stream->lock);
        stream->limits.timeout = timeout;
        stream->limits.keep_alive = keep_alive;
        stream->limits.max_memory = max_memory;
        h2x_lock_release(stream->lock);
    }
    stream->limits.unbuffered = stream->job.tunnel
        || !h2x_conf_get(r->server, H2X_OUTPUT_BUFFERING);
    stream->limits.copy_files = (int)h2x_conf_get_dir(r, H2X_COPY_FILES);
    if (ap_get_conn_socket(r->connection) != dummy_socket) {
        /* modules may set a shorter one for a while */
        apr_socket_timeout_set(ap_get_conn_socket(r->connection),
                               stream->limits.timeout);
    }
}

/* ---- variables ---- */

/* "on" if the links of this request's response are pushed. */
static const char *get_push(apr_pool_t *p, const h2x_stream *stream,
                            const request_rec *r)
{
    (void)p;
    return (stream->limits.takes_push || stream->promised_on)
           && (!r || h2x_conf_get_dir(r, H2X_PUSH))
           ? "on" : "off";
}

static const char *get_http2(apr_pool_t *p, const h2x_stream *stream,
                             const request_rec *r)
{
    (void)p;
    (void)stream;
    (void)r;
    return "on";
}

static const char *get_pushed(apr_pool_t *p, const h2x_stream *stream,
                              const request_rec *r)
{
    (void)p;
    (void)r;
    return stream->promised_on ? "PUSHED" : "";
}

static const char *get_pushed_on(apr_pool_t *p, const h2x_stream *stream,
                                 const request_rec *r)
{
    (void)r;
    return stream->promised_on ? apr_itoa(p, stream->promised_on) : "";
}

static const char *get_id(apr_pool_t *p, const h2x_stream *stream,
                          const request_rec *r)
{
    (void)r;
    return apr_itoa(p, stream->id);
}

static const char *get_tag(apr_pool_t *p, const h2x_stream *stream,
                           const request_rec *r)
{
    (void)p;
    (void)r;
    return stream->job.c2->log_id;
}

static const struct {
    const char *name;
    const char *(*get)(apr_pool_t *p, const h2x_stream *stream,
                       const request_rec *r);
} variables[] = {
    { "HTTP2", get_http2 },
    { "H2PUSH", get_push },
    { "H2_PUSH", get_push },
    { "H2_PUSHED", get_pushed },
    { "H2_PUSHED_ON", get_pushed_on },
    { "H2_STREAM_ID", get_id },
    { "H2_STREAM_TAG", get_tag },
};
#define VARIABLE_COUNT (sizeof(variables) / sizeof(variables[0]))

const char *h2x_request_variable(apr_pool_t *p, const conn_rec *c2,
                                 const request_rec *r, const char *name)
{
    apr_size_t i;

    for (i = 0; i < VARIABLE_COUNT; ++i) {
        if (!strcmp(variables[i].name, name)) {
            return variables[i].get(p, h2x_conn_get(c2)->stream, r);
        }
    }
    return NULL;
}

/* Sets the variables of a request. */
static void set_variables(request_rec *r)
{
    const h2x_stream *stream = h2x_conn_get(r->connection)->stream;
    apr_size_t i;

    for (i = 0; i < VARIABLE_COUNT; ++i) {
        apr_table_setn(r->subprocess_env, variables[i].name,
                       variables[i].get(r->pool, stream, r));
    }
}

void h2x_request_fixup(request_rec *r)
{
    h2x_stream *stream = h2x_conn_get(r->connection)->stream;

    if (r->prev) {
        set_variables(r);
    }
    else if (stream->limits.takes_push && !h2x_conf_get_dir(r, H2X_PUSH)) {
        apr_table_setn(r->subprocess_env, "H2PUSH", "off");
        apr_table_setn(r->subprocess_env, "H2_PUSH", "off");
    }
}

void h2x_request_before_handler(request_rec *r)
{
    h2x_stream *stream = h2x_conn_get(r->connection)->stream;

    if (!r->main) {
        apply_config(stream, r);
    }
    h2x_announce_resources(stream, r);
}

/* ---- running ---- */

/*
 * Waits for a request whose handler has returned SUSPENDED and goes on in
 * another thread. The state is the last thing that
 * ap_process_request_after_handler() sets. There is no event for it, so it is
 * polled, without a time limit.
 */
static void await_end(h2x_stream *stream)
{
    volatile conn_state_t *cs = stream->job.c2->cs;

    h2x_lock_acquire(stream->lock);
    stream->owner->may_wait_locked(stream->owner_baton, stream);
    while (cs->state == CONN_STATE_SUSPENDED) {
        h2x_stream_wait_locked(stream, h2x_clock_now() + SUSPENDED_STEP);
    }
    h2x_lock_release(stream->lock);
}

void h2x_request_run(h2x_stream *stream, conn_rec *c1, h2x_runner *runner)
{
    ap_filter_t *body_filter;
    conn_rec *c2;
    request_rec *r;
    int status;

    stream->job.c2_pool = runner->c2_pool;
    runner->c2_pool = NULL;
    c2 = make_c2(stream, c1, runner);
    body_filter = h2x_filter_in_add(c2, stream);
    h2x_filter_out_add(c2, stream);
    ap_run_pre_connection(c2, ap_get_conn_socket(c2));
    if (stream->request.has_body) {
        /* mod_reqtimeout begins in this hook; ours, after it, returns OK */
        ap_run_process_connection(c2);
    }

    r = ap_create_request(c2);
    stream->job.r = r;
    apply_config(stream, r);
    ap_run_pre_read_request(r, c2);
    status = read_head(r, stream, body_filter);
    apply_config(stream, r);
    set_variables(r);
    ap_add_input_filter_handle(ap_http_input_filter_handle, NULL, r, c2);
    if (!status) {
        status = ap_post_read_request(r);
    }
    if (status == HTTP_MISDIRECTED_REQUEST) {
        log_misdirected(r);
    }
    if (status) {
        die(r, status);
    }
    else {
        ap_update_child_status(c2->sbh, SERVER_BUSY_WRITE, r);
        ap_process_async_request(r);
    }
    if (c2->cs->state == CONN_STATE_SUSPENDED) {
        await_end(stream);
    }
    ap_set_core_module_config(c2->conn_config, dummy_socket);
    if (stream->job.drop_socket) {
        apr_socket_close(stream->job.drop_socket);
    }
}

static void log_and_free(h2x_stream *stream, const h2x_request_sum *sum,
                         const h2x_runner *runner)
{
    conn_rec *c2 = stream->job.c2;
    apr_bucket *eor = stream->job.eor;

    c2->sbh = runner->sbh;
    c2->current_thread = runner->thread;
    c2->aborted = sum->is_aborted;
    if (logio_in) {
        /* mod_logio's filter on c2 has counted bytes_read already */
        logio_in(c2, sum->bytes_in - stream->job.bytes_read);
    }
    if (logio_out) {
        logio_out(c2, sum->bytes_out);
    }
    stream->job.eor = NULL;
    stream->job.r = NULL;
    apr_bucket_destroy(eor);
}

void h2x_request_end(h2x_stream *stream, const h2x_request_sum *sum,
                     const h2x_runner *runner)
{
    h2x_c2_pool *c2_pool = stream->job.c2_pool;

    if (stream->job.eor) {
        log_and_free(stream, sum, runner);
    }
    stream->job.c2 = NULL;
    stream->job.c2_pool = NULL;
    apr_pool_clear(c2_pool->pool);
}

void h2x_request_count(request_rec *r)
{
    static apr_uint64_t times_at;
    conn_rec *c2 = r->connection;
    worker_score *score;
    apr_off_t bytes;

    if (!ap_extended_status || !c2->sbh
        || h2x_clock_is_time(&times_at, TIMES_MAX_AGE)) {
        return; /* httpd counts it, and updates the processor times */
    }
    score = ap_get_scoreboard_worker(c2->sbh);
    bytes = logio_last ? logio_last(c2) : r->header_only ? 0 : r->bytes_sent;
    ADD(score->access_count, 1);
    ADD(score->my_access_count, 1);
    ADD(score->conn_count, 1);
    ADD(score->bytes_served, bytes);
    ADD(score->my_bytes_served, bytes);
    ADD(score->conn_bytes, bytes);
    c2->sbh = NULL; /* so that httpd does not count it again */
}

int h2x_request_may_wait(const request_rec *r)
{
    /* these only compute, and read files and directories */
    static const char *const quick[] = {
        "default-handler", DIR_MAGIC_TYPE, "server-status", "server-info",
        "type-map", "send-as-is", NULL
    };
    const char *handler = r->handler;
    int i;

    if (!handler || AP_IS_DEFAULT_HANDLER_NAME(handler)) {
        return 0;
    }
    for (i = 0; quick[i]; ++i) {
        if (!strcmp(handler, quick[i])) {
            return 0;
        }
    }
    return !r->content_type || ap_cstr_casecmpn(r->content_type, handler,
                                                strlen(handler));
}

apr_status_t h2x_request_pollfd(const conn_rec *c2, apr_pollfd_t *pfd,
                                apr_interval_time_t *timeout)
{
    return h2x_tunnel_pollfd(h2x_conn_get(c2)->stream, pfd, timeout);
}
