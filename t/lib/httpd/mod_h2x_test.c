/* mod_h2x_test: handlers and hooks that the functional tests ask for.
 *
 *     SetHandler h2x-test
 *
 * makes the last segment of a URI choose a handler from the table at the end,
 * and its query give that handler's numbers (/t/trickle?n=5&ms=20).
 *
 * Tests order events by gates, not by time.  A gate is a shared counter:
 * /t/open?g=3 raises gate 3 by one (by=n: by n), and whatever was told gate=3
 * waits until it is high enough.
 *
 *     TestFixupsSleep on
 *
 * makes the fixups hook sleep for fixms= of the query, wait at fixgate=, or
 * compute for fixcpu= milliseconds of processor time.
 */

#include "httpd.h"
#include "http_config.h"
#include "http_core.h"
#include "http_log.h"
#include "http_protocol.h"
#include "http_request.h"
#include "ap_mpm.h"
#include "mod_http2.h"
#include "util_md5.h"
#include "util_script.h"
#include "apr_atomic.h"
#include "apr_md5.h"
#include "apr_optional.h"
#include "apr_shm.h"
#include "apr_strings.h"

#include <time.h>

module AP_MODULE_DECLARE_DATA h2x_test_module;
APLOG_USE_MODULE(h2x_test);

#define GATES 256
#define THREADS 4096
#define GATE_PATIENCE (60 * 1000) /* in milliseconds, or more */

/* Shared by all children and kept over restarts. */
typedef struct {
    apr_uint32_t read;          /* requests whose head was read */
    apr_uint32_t handled;       /* requests that reached the handler phase */
    apr_uint32_t logged;        /* runs of log_transaction */
    apr_uint32_t ended;         /* request pools destroyed */
    apr_uint32_t written;       /* bytes that handlers have produced */
    apr_uint32_t held;          /* most pools that a thread had when it began
                                 * another request */
    apr_uint32_t elsewhere;     /* pools that another thread destroyed */
    apr_uint32_t gate[GATES];
} shared_t;

static shared_t *shared;

typedef struct {
    int sleep;
} dir_conf;

/* --- the query ------------------------------------------------------- */

static const char *text(request_rec *r, const char *name, const char *absent)
{
    const char *at = r->args;
    apr_size_t len = strlen(name);

    while (at && *at) {
        if (!strncmp(at, name, len) && at[len] == '=') {
            const char *from = at + len + 1;
            char *value = apr_pstrmemdup(r->pool, from, strcspn(from, "&"));
            ap_unescape_url(value);
            return value;
        }
        at = strchr(at, '&');
        at = at ? at + 1 : NULL;
    }
    return absent;
}

static apr_int64_t number(request_rec *r, const char *name, apr_int64_t absent)
{
    const char *value = text(r, name, NULL);
    return value ? apr_atoi64(value) : absent;
}

static apr_int64_t used_ms(void)
{
    struct timespec used;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return used.tv_sec * 1000 + used.tv_nsec / 1000000;
}

static void compute_ms(apr_int64_t ms)
{
    apr_int64_t end = ms > 0 ? used_ms() + ms : 0;

    while (end && used_ms() < end) {
        continue;
    }
}

static void pause_ms(apr_int64_t ms)
{
    if (ms > 0) {
        apr_sleep(ms * 1000);
    }
}

/* Waits until the gate has been raised `high` times; gate < 0: not at all. */
static void wait_gate(apr_int64_t gate, apr_uint32_t high)
{
    int left = GATE_PATIENCE; /* whatever clocks do */

    if (gate < 0 || gate >= GATES) {
        return;
    }
    while (apr_atomic_read32(&shared->gate[gate]) < high && left--) {
        apr_sleep(1000);
    }
}

/* --- bodies ---------------------------------------------------------- */

typedef apr_status_t piece_fn(request_rec *r, void *baton, const char *data,
                              apr_size_t len);

/* Gives the request body, as it arrives, to `use`.  Returns OK or a status. */
static int each_piece(request_rec *r, apr_read_type_e block, piece_fn *use,
                      void *baton)
{
    apr_bucket_brigade *bb;
    int eos = 0;

    bb = apr_brigade_create(r->pool, r->connection->bucket_alloc);
    while (!eos) {
        apr_bucket *b;
        apr_status_t rv = ap_get_brigade(r->input_filters, bb,
                                         AP_MODE_READBYTES, block,
                                         HUGE_STRING_LEN);
        if (rv != APR_SUCCESS) {
            return ap_map_http_request_error(rv, HTTP_BAD_REQUEST);
        }
        for (b = APR_BRIGADE_FIRST(bb); b != APR_BRIGADE_SENTINEL(bb);
             b = APR_BUCKET_NEXT(b)) {
            const char *data;
            apr_size_t len;

            if (APR_BUCKET_IS_EOS(b)) {
                eos = 1;
            }
            if (APR_BUCKET_IS_METADATA(b)) {
                continue;
            }
            rv = apr_bucket_read(b, &data, &len, APR_BLOCK_READ);
            if (rv == APR_SUCCESS && len) {
                rv = use(r, baton, data, len);
            }
            if (rv != APR_SUCCESS) {
                return HTTP_INTERNAL_SERVER_ERROR;
            }
        }
        apr_brigade_cleanup(bb);
    }
    return OK;
}

static apr_status_t echo_piece(request_rec *r, void *baton, const char *data,
                               apr_size_t len)
{
    if (ap_rwrite(data, (int)len, r) < 0 || ap_rflush(r) < 0) {
        return APR_EGENERAL;
    }
    return APR_SUCCESS;
}

/* The body back, each piece flushed as it arrives. */
static int do_echo(request_rec *r)
{
    ap_set_content_type(r, "application/octet-stream");
    ap_rflush(r);
    return each_piece(r, APR_BLOCK_READ, echo_piece, NULL);
}

typedef struct {
    apr_md5_ctx_t md5;
    apr_off_t length;
    apr_uint32_t pieces;
    apr_int64_t ms;
    apr_int64_t gate;
} digest_t;

static apr_status_t digest_piece(request_rec *r, void *baton, const char *data,
                                 apr_size_t len)
{
    digest_t *d = baton;

    apr_md5_update(&d->md5, data, len);
    d->length += len;
    wait_gate(d->gate, ++d->pieces);
    pause_ms(d->ms);
    return APR_SUCCESS;
}

/* Length and MD5 of the body.  ms=, gate=: wait after each piece. */
static int do_upload(request_rec *r)
{
    digest_t d;
    unsigned char sum[APR_MD5_DIGESTSIZE];
    char hex[2 * APR_MD5_DIGESTSIZE + 1];
    int rc;

    memset(&d, 0, sizeof(d));
    d.ms = number(r, "ms", 0);
    d.gate = number(r, "gate", -1);
    apr_md5_init(&d.md5);
    rc = each_piece(r, APR_BLOCK_READ, digest_piece, &d);
    if (rc != OK) {
        return rc;
    }
    apr_md5_final(sum, &d.md5);
    ap_bin2hex(sum, sizeof(sum), hex);
    ap_set_content_type(r, "text/plain");
    ap_rprintf(r, "length %" APR_OFF_T_FMT "\nmd5 %s\n", d.length, hex);
    return OK;
}

/* An answer that leaves the request body unread. */
static int do_ignore(request_rec *r)
{
    ap_set_content_type(r, "text/plain");
    ap_rputs("ignored\n", r);
    return OK;
}

static apr_status_t no_piece(request_rec *r, void *baton, const char *data,
                             apr_size_t len)
{
    return APR_SUCCESS;
}

static int print_field(void *baton, const char *name, const char *value)
{
    ap_rprintf(baton, "%s: %s\n", name, value);
    return 1;
}

/* The request's trailers. */
static int do_show_trailers(request_rec *r)
{
    int rc = each_piece(r, APR_BLOCK_READ, no_piece, NULL);

    if (rc != OK) {
        return rc;
    }
    ap_set_content_type(r, "text/plain");
    ap_rprintf(r, "trailers\n");
    apr_table_do(print_field, r, r->trailers_in, NULL);
    return OK;
}

/* --- output ---------------------------------------------------------- */

/* What a handler returns when its output is refused: as the core's own does,
 * OK where the client has gone. */
static int refused(request_rec *r)
{
    return r->connection->aborted ? OK : HTTP_INTERNAL_SERVER_ERROR;
}

/* Writes `n` bytes of the alphabet, going on where `at` stopped. */
static apr_status_t write_bytes(request_rec *r, apr_int64_t n, apr_int64_t *at)
{
    static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz";
    char chunk[26 * 256];
    apr_size_t i;

    for (i = 0; i < sizeof(chunk); ++i) {
        chunk[i] = alphabet[(*at + i) % 26];
    }
    while (n > 0) {
        int len = n < (apr_int64_t)sizeof(chunk) ? (int)n : (int)sizeof(chunk);
        apr_atomic_add32(&shared->written, (apr_uint32_t)len);
        if (ap_rwrite(chunk, len, r) < 0) {
            return APR_EGENERAL;
        }
        n -= len;
        *at += len;
    }
    return APR_SUCCESS;
}

/* Hands a piece straight to the output filters, with no flush. */
static apr_status_t pass_bytes(request_rec *r, apr_int64_t n, apr_int64_t *at)
{
    apr_bucket_alloc_t *ba = r->connection->bucket_alloc;
    apr_bucket_brigade *bb = apr_brigade_create(r->pool, ba);
    char *piece = apr_palloc(r->pool, (apr_size_t)n);
    apr_int64_t i;

    for (i = 0; i < n; ++i) {
        piece[i] = (char)('a' + (*at)++ % 26);
    }
    APR_BRIGADE_INSERT_TAIL(bb, apr_bucket_transient_create(
                                    piece, (apr_size_t)n, ba));
    return ap_pass_brigade(r->output_filters, bb);
}

/* n pieces of `size` bytes; before each but the first: ms= sleep, gate= wait
 * for one more opening.  flush=0: no flush; pass=1: past httpd's own buffer. */
static int do_trickle(request_rec *r)
{
    apr_int64_t n = number(r, "n", 5), size = number(r, "size", 10);
    apr_int64_t ms = number(r, "ms", 0), gate = number(r, "gate", -1);
    apr_int64_t i, at = 0;
    int flush = (int)number(r, "flush", 1);
    apr_status_t (*write)(request_rec *, apr_int64_t, apr_int64_t *);

    write = number(r, "pass", 0) ? pass_bytes : write_bytes;
    ap_set_content_type(r, text(r, "type", "text/event-stream"));
    for (i = 0; i < n; ++i) {
        if (i) {
            pause_ms(ms);
            wait_gate(gate, (apr_uint32_t)i);
        }
        if (write(r, size, &at) != APR_SUCCESS
            || (flush && ap_rflush(r) < 0)) {
            return refused(r);
        }
    }
    return OK;
}

/* n bytes from memory; length=1 announces them. */
static int do_big(request_rec *r)
{
    apr_int64_t n = number(r, "n", 1000000), at = 0;

    ap_set_content_type(r, "application/octet-stream");
    if (number(r, "length", 0)) {
        ap_set_content_length(r, n);
    }
    return write_bytes(r, n, &at) == APR_SUCCESS ? OK : refused(r);
}

/* The file at path=, whose descriptor is the handler's own and closed when the
 * handler is done with it (keep=1: kept); then gate raise= is raised. */
static int do_lend(request_rec *r)
{
    apr_bucket_alloc_t *ba = r->connection->bucket_alloc;
    apr_bucket_brigade *bb = apr_brigade_create(r->pool, ba);
    apr_int64_t raise = number(r, "raise", 0);
    apr_file_t *file;
    apr_finfo_t info;
    apr_pool_t *own;
    apr_status_t rv;

    apr_pool_create(&own, r->pool);
    if (apr_file_open(&file, text(r, "path", ""), APR_READ | APR_BINARY,
                      APR_OS_DEFAULT, own) != APR_SUCCESS
        || apr_file_info_get(&info, APR_FINFO_SIZE, file) != APR_SUCCESS) {
        return HTTP_NOT_FOUND;
    }
    ap_set_content_type(r, "application/octet-stream");
    apr_brigade_insert_file(bb, file, 0, info.size, r->pool);
    rv = ap_pass_brigade(r->output_filters, bb);
    if (!number(r, "keep", 0)) {
        apr_pool_destroy(own);
    }
    apr_atomic_inc32(&shared->gate[raise % GATES]);
    return rv == APR_SUCCESS ? OK : refused(r);
}

static apr_status_t scramble(void *text)
{
    memset(text, '!', strlen(text));
    return APR_SUCCESS;
}

/* n= bytes in a bucket that does not own them: they are the request's, whose
 * end changes them.  how=heap: in one that does. */
static int do_own(request_rec *r)
{
    apr_bucket_alloc_t *ba = r->connection->bucket_alloc;
    apr_bucket_brigade *bb = apr_brigade_create(r->pool, ba);
    apr_size_t n = (apr_size_t)number(r, "n", 1000);
    char *text_of_r = apr_palloc(r->pool, n + 1);

    memset(text_of_r, 'o', n);
    text_of_r[n] = '\0';
    apr_pool_cleanup_register(r->pool, text_of_r, scramble,
                              apr_pool_cleanup_null);
    ap_set_content_type(r, "text/plain");
    APR_BRIGADE_INSERT_TAIL(bb, strcmp(text(r, "how", ""), "heap")
        ? apr_bucket_immortal_create(text_of_r, n, ba)
        : apr_bucket_heap_create(text_of_r, n, NULL, ba));
    return ap_pass_brigade(r->output_filters, bb) == APR_SUCCESS
           ? OK : refused(r);
}

/* Some bytes, then failure.  how=status: a handler that returns an error;
 * bucket: an error bucket as mod_proxy sends one; aborted: the connection
 * marked as aborted; length: more announced than written. */
static int do_fail(request_rec *r)
{
    const char *how = text(r, "how", "status");
    apr_int64_t at = 0, after = number(r, "after", 1000);

    ap_set_content_type(r, "application/octet-stream");
    if (!strcmp(how, "length")) {
        ap_set_content_length(r, after + 1000);
    }
    write_bytes(r, after, &at);
    if (number(r, "flush", 1)) {
        ap_rflush(r);
    }
    if (!strcmp(how, "bucket")) {
        apr_bucket_alloc_t *ba = r->connection->bucket_alloc;
        apr_bucket_brigade *bb = apr_brigade_create(r->pool, ba);

        APR_BRIGADE_INSERT_TAIL(bb, ap_bucket_error_create(HTTP_BAD_GATEWAY,
                                                           NULL, r->pool, ba));
        APR_BRIGADE_INSERT_TAIL(bb, apr_bucket_eos_create(ba));
        ap_pass_brigade(r->output_filters, bb);
        return DONE;
    }
    if (!strcmp(how, "aborted")) {
        r->connection->aborted = 1;
        return DONE;
    }
    return !strcmp(how, "length") ? OK : HTTP_INTERNAL_SERVER_ERROR;
}

/* A body and trailers; body=0: trailers alone. */
static int do_trailers(request_rec *r)
{
    apr_int64_t at = 0;

    ap_set_content_type(r, "text/plain");
    apr_table_setn(r->headers_out, "Trailer", "x-sum, x-note");
    apr_table_setn(r->trailers_out, "X-Sum", "abc123");
    apr_table_setn(r->trailers_out, "x-note", "after the body");
    write_bytes(r, number(r, "body", 100), &at);
    return OK;
}

/* n interim responses (status=103), at once or at gates, then 200. */
static int do_interim(request_rec *r)
{
    int status = (int)number(r, "status", 103);
    apr_int64_t n = number(r, "n", 1), gate = number(r, "gate", -1), i;

    for (i = 0; i < n; ++i) {
        r->status = status;
        r->status_line = NULL;
        apr_table_set(r->headers_out, "Link",
                      apr_psprintf(r->pool, "</style%d.css>; rel=preload",
                                   (int)i));
        ap_send_interim_response(r, 1);
        wait_gate(gate, (apr_uint32_t)i + 1);
    }
    apr_table_unset(r->headers_out, "Link");
    r->status = HTTP_OK;
    r->status_line = NULL;
    ap_set_content_type(r, "text/plain");
    ap_rputs("final\n", r);
    return OK;
}

/* Header fields out of the ordinary, by kind=. */
static int do_fields(request_rec *r)
{
    const char *kind = text(r, "kind", "");
    apr_int64_t n = number(r, "n", 1), size = number(r, "size", 0), i;
    apr_table_t *out = r->headers_out;

    if (!strcmp(kind, "hop")) {
        apr_table_setn(out, "Connection", "close, X-Private");
        apr_table_setn(out, "Keep-Alive", "timeout=5");
        apr_table_setn(out, "Proxy-Connection", "close");
        apr_table_setn(out, "Upgrade", "other");
        apr_table_setn(out, "X-Kept", "yes");
    }
    else if (!strcmp(kind, "many")) {
        char *value = apr_palloc(r->pool, (apr_size_t)size + 1);
        memset(value, 'v', (apr_size_t)size);
        value[size] = '\0';
        for (i = 0; i < n; ++i) {
            apr_table_setn(out, apr_psprintf(r->pool, "X-Many-%d", (int)i),
                           value);
        }
    }
    else if (!strcmp(kind, "odd")) {
        apr_table_setn(out, "X-UPPER-Case", "Mixed Case Kept");
        apr_table_setn(out, "X-Empty", "");
        apr_table_setn(out, "X-Spaces", "  inner  spaces ");
        apr_table_setn(out, "X-Latin", "caf\xe9");
        apr_table_addn(out, "X-Twice", "one");
        apr_table_addn(out, "X-Twice", "two");
        apr_table_addn(out, "Set-Cookie", "a=1");
        apr_table_addn(out, "Set-Cookie", "b=2");
    }
    ap_set_content_type(r, "text/plain");
    ap_rputs("fields\n", r);
    return OK;
}

/* What the HTTP/2 module tells other modules. */
static void print_vars(request_rec *r)
{
    static const char *const names[] = {
        "HTTP2", "H2PUSH", "H2_PUSH", "H2_PUSHED", "H2_PUSHED_ON",
        "H2_STREAM_ID", "H2_STREAM_TAG"
    };
    APR_OPTIONAL_FN_TYPE(http2_var_lookup) *lookup;
    apr_size_t i;

    lookup = APR_RETRIEVE_OPTIONAL_FN(http2_var_lookup);
    for (i = 0; lookup && i < sizeof(names) / sizeof(names[0]); ++i) {
        const char *value = lookup(r->pool, r->server, r->connection, r,
                                   (char *)names[i]);
        ap_rprintf(r, "var %s: %s\n", names[i], value ? value : "");
    }
}

/* What the request looks like from inside. */
static int do_env(request_rec *r)
{
    ap_set_content_type(r, "text/plain");
    ap_rprintf(r, "method: %s\nprotocol: %s\nhostname: %s\nthe_request: %s\n"
               "uri: %s\nargs: %s\nscheme: %s\nserver: %s\nport: %d\n"
               "connection: %lx\n",
               r->method, r->protocol, r->hostname ? r->hostname : "-",
               r->the_request, r->unparsed_uri, r->args ? r->args : "-",
               ap_http_scheme(r), r->server->server_hostname,
               (int)ap_get_server_port(r), r->connection->id);
    print_vars(r);
    ap_rputs("-- in\n", r);
    apr_table_do(print_field, r, r->headers_in, NULL);
    ap_rputs("-- env\n", r);
    ap_add_common_vars(r);
    apr_table_do(print_field, r, r->subprocess_env, NULL);
    return OK;
}

/* code=: as the handler's return value, for ErrorDocument and the like. */
static int do_status(request_rec *r)
{
    return (int)number(r, "code", HTTP_FORBIDDEN);
}

/* Waits (ms=, or at gate=), then answers. */
static int do_wait(request_rec *r)
{
    pause_ms(number(r, "ms", 0));
    wait_gate(number(r, "gate", -1), 1);
    ap_set_content_type(r, "text/plain");
    ap_rputs("waited\n", r);
    return OK;
}

/* Raises a gate; reset=1 closes all. */
static int do_open(request_rec *r)
{
    apr_int64_t gate = number(r, "g", -1);

    if (number(r, "reset", 0)) {
        memset(shared->gate, 0, sizeof(shared->gate));
    }
    if (gate >= 0 && gate < GATES) {
        apr_atomic_add32(&shared->gate[gate],
                         (apr_uint32_t)number(r, "by", 1));
    }
    ap_set_content_type(r, "text/plain");
    ap_rputs("open\n", r);
    return OK;
}

/* The counters. */
static int do_count(request_rec *r)
{
    ap_set_content_type(r, "text/plain");
    ap_rprintf(r, "read %u\nhandled %u\nlogged %u\nended %u\nwritten %u\n"
               "held %u\nelsewhere %u\n",
               apr_atomic_read32(&shared->read),
               apr_atomic_read32(&shared->handled),
               apr_atomic_read32(&shared->logged),
               apr_atomic_read32(&shared->ended),
               apr_atomic_read32(&shared->written),
               apr_atomic_read32(&shared->held),
               apr_atomic_read32(&shared->elsewhere));
    return OK;
}

static const struct {
    const char *name;
    int (*run)(request_rec *r);
    int counted;
} handlers[] = {
    { "echo", do_echo, 1 },
    { "upload", do_upload, 1 },
    { "ignore", do_ignore, 1 },
    { "show-trailers", do_show_trailers, 1 },
    { "trickle", do_trickle, 1 },
    { "big", do_big, 1 },
    { "lend", do_lend, 1 },
    { "own", do_own, 1 },
    { "fail", do_fail, 1 },
    { "trailers", do_trailers, 1 },
    { "interim", do_interim, 1 },
    { "fields", do_fields, 1 },
    { "env", do_env, 1 },
    { "status", do_status, 1 },
    { "wait", do_wait, 1 },
    { "open", do_open, 0 },
    { "count", do_count, 0 },
    { NULL, NULL, 0 }
};

/* --- hooks ----------------------------------------------------------- */

/* The entry of `handlers` that the request asks for, or its last. */
static int find(request_rec *r)
{
    const char *slash = r->uri ? strrchr(r->uri, '/') : NULL;
    int i = 0;

    while (handlers[i].name
           && (!slash || strcmp(handlers[i].name, slash + 1))) {
        ++i;
    }
    return i;
}

/* /t/count and /t/open do not count themselves. */
static int counted(request_rec *r)
{
    int i = find(r);
    return !r->main && !r->prev && (!handlers[i].name || handlers[i].counted);
}

static int count_handled(request_rec *r)
{
    if (counted(r)) {
        apr_atomic_inc32(&shared->handled);
    }
    return DECLINED;
}

static int handler(request_rec *r)
{
    int i;

    if (!r->handler || strcmp(r->handler, "h2x-test")) {
        return DECLINED;
    }
    i = find(r);
    return handlers[i].name ? handlers[i].run(r) : HTTP_NOT_FOUND;
}

/* How many requests each thread has begun whose pools are still there. */
static apr_uint32_t begun[THREADS];

/* This thread's number there. */
static apr_uint32_t own_number(void)
{
    static apr_uint32_t last;
    static __thread apr_uint32_t number;

    if (!number) {
        number = apr_atomic_inc32(&last) + 1;
    }
    return number % THREADS;
}

static apr_status_t count_ended(void *counter)
{
    apr_atomic_dec32(counter);
    if (counter != &begun[own_number()]) {
        apr_atomic_inc32(&shared->elsewhere);
    }
    apr_atomic_inc32(&shared->ended);
    return APR_SUCCESS;
}

/* Notes how many a thread holds when it begins another one, if these are the
 * most. */
static void count_begun(apr_uint32_t *counter)
{
    apr_uint32_t held = apr_atomic_inc32(counter), most;

    do {
        most = apr_atomic_read32(&shared->held);
    } while (held > most
             && apr_atomic_cas32(&shared->held, held, most) != most);
}

static int count_read(request_rec *r)
{
    if (counted(r)) {
        apr_uint32_t *counter = &begun[own_number()];

        apr_atomic_inc32(&shared->read);
        count_begun(counter);
        apr_pool_cleanup_register(r->pool, counter, count_ended,
                                  apr_pool_cleanup_null);
    }
    return DECLINED;
}

static int count_logged(request_rec *r)
{
    while (r->prev) {
        r = r->prev;
    }
    if (counted(r)) {
        apr_atomic_inc32(&shared->logged);
    }
    return DECLINED;
}

static int fixups(request_rec *r)
{
    dir_conf *conf = ap_get_module_config(r->per_dir_config, &h2x_test_module);

    if (conf->sleep) {
        pause_ms(number(r, "fixms", 0));
        wait_gate(number(r, "fixgate", -1), 1);
        compute_ms(number(r, "fixcpu", 0));
    }
    return DECLINED;
}

static int post_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                       server_rec *s)
{
    static const char key[] = "h2x_test_shared";
    apr_shm_t **shm = ap_retained_data_get(key);
    apr_status_t rv;

    if (ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG) {
        return OK;
    }
    if (!shm) {
        shm = ap_retained_data_create(key, sizeof(*shm));
        rv = apr_shm_create(shm, sizeof(*shared), NULL, s->process->pool);
        if (rv != APR_SUCCESS) {
            ap_log_error(APLOG_MARK, APLOG_ERR, rv, s, "no shared memory");
            return HTTP_INTERNAL_SERVER_ERROR;
        }
        memset(apr_shm_baseaddr_get(*shm), 0, sizeof(*shared));
    }
    shared = apr_shm_baseaddr_get(*shm);
    return OK;
}

static void register_hooks(apr_pool_t *p)
{
    ap_hook_post_config(post_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_read_request(count_read, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_fixups(fixups, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_handler(count_handled, NULL, NULL, APR_HOOK_FIRST);
    ap_hook_handler(handler, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_log_transaction(count_logged, NULL, NULL, APR_HOOK_MIDDLE);
}

static void *create_dir(apr_pool_t *p, char *dir)
{
    return apr_pcalloc(p, sizeof(dir_conf));
}

static const command_rec commands[] = {
    AP_INIT_FLAG("TestFixupsSleep", ap_set_flag_slot,
                 (void *)APR_OFFSETOF(dir_conf, sleep), OR_ALL,
                 "on: the fixups hook obeys fixms=, fixgate= and fixcpu="),
    { NULL }
};

module AP_MODULE_DECLARE_DATA h2x_test_module = {
    STANDARD20_MODULE_STUFF, create_dir, NULL, NULL, NULL, commands,
    register_hooks
};
