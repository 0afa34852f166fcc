/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <limits.h>
#include <stddef.h>
#include <string.h>

#include <apr_lib.h>
#include <apr_strings.h>

#include "h2x.h"
#include "h2x_conf.h"
#include "h2x_field.h"
#include "h2x_link.h"

#define UNSET APR_INT64_MIN

/* What the argument of a directive of one value is. */
typedef enum { KIND_FLAG, KIND_NUMBER, KIND_TIME } value_kind;

/* The rule of a value: the cmd_data of its directive. */
typedef struct {
    value_kind kind;
    apr_int64_t min;    /* times are in microseconds */
    apr_int64_t max;
    const char *unit;   /* of a number; NULL: none */
    apr_int64_t preset; /* without the directive */
} rule;

/* The rows of the table of directives, which is at the end: those of the
 * server's values by their keys, then those of the directory's, then the
 * directives that are lists. */
#define DIR_ROW(key) (H2X_CONF_COUNT + (key))
#define LISTS_ROW (H2X_CONF_COUNT + H2X_DIR_CONF_COUNT)

/* A configuration: values, UNSET without their directives, and lists, NULL
 * while they are empty. */

typedef struct {
    apr_int64_t values[H2X_CONF_COUNT];
    apr_array_header_t *orders; /* push_rule; a later one overrides */
    apr_array_header_t *origins; /* char *; names in H2Origin */
} server_conf;

typedef struct {
    apr_int64_t values[H2X_DIR_CONF_COUNT];
    apr_array_header_t *resources; /* h2x_push_resource */
    apr_array_header_t *hints;  /* h2x_hint */
} dir_conf;

typedef struct {
    const char *type;
    h2x_push_order order;
} push_rule;

static void clear(apr_int64_t *values, int count)
{
    int i;

    for (i = 0; i < count; ++i) {
        values[i] = UNSET;
    }
}

static void merge(apr_int64_t *values, const apr_int64_t *base,
                  const apr_int64_t *add, int count)
{
    int i;

    for (i = 0; i < count; ++i) {
        values[i] = (add[i] != UNSET) ? add[i] : base[i];
    }
}

static apr_array_header_t *merge_lists(apr_pool_t *p,
                                       apr_array_header_t *base,
                                       apr_array_header_t *add)
{
    return (base && add) ? apr_array_append(p, base, add)
                         : (add ? add : base);
}

void *h2x_conf_create_server(apr_pool_t *p, server_rec *s)
{
    server_conf *conf = apr_pcalloc(p, sizeof(*conf));

    (void)s;
    clear(conf->values, H2X_CONF_COUNT);
    return conf;
}

void *h2x_conf_merge_server(apr_pool_t *p, void *base, void *add)
{
    server_conf *conf = apr_pcalloc(p, sizeof(*conf));
    server_conf *outer = base, *inner = add;

    merge(conf->values, outer->values, inner->values, H2X_CONF_COUNT);
    conf->orders = merge_lists(p, outer->orders, inner->orders);
    conf->origins = (inner->values[H2X_ORIGIN] != UNSET) ? inner->origins
                                                         : outer->origins;
    return conf;
}

void *h2x_conf_create_dir(apr_pool_t *p, char *dir)
{
    dir_conf *conf = apr_pcalloc(p, sizeof(*conf));

    (void)dir;
    clear(conf->values, H2X_DIR_CONF_COUNT);
    return conf;
}

void *h2x_conf_merge_dir(apr_pool_t *p, void *base, void *add)
{
    dir_conf *conf = apr_pcalloc(p, sizeof(*conf));
    dir_conf *outer = base, *inner = add;

    merge(conf->values, outer->values, inner->values, H2X_DIR_CONF_COUNT);
    conf->resources = merge_lists(p, outer->resources, inner->resources);
    conf->hints = merge_lists(p, outer->hints, inner->hints);
    return conf;
}

static server_conf *server_of(const server_rec *s)
{
    return ap_get_module_config(s->module_config, &h2x_module);
}

static dir_conf *dir_of(const request_rec *r)
{
    return ap_get_module_config(r->per_dir_config, &h2x_module);
}

/* Returns a value, or what it is without its directive. */
static apr_int64_t value_or_preset(apr_int64_t value, int row)
{
    const rule *rule = h2x_conf_directives[row].cmd_data;

    return (value != UNSET) ? value : rule->preset;
}

apr_int64_t h2x_conf_get(const server_rec *s, h2x_conf_key key)
{
    return value_or_preset(server_of(s)->values[key], key);
}

apr_int64_t h2x_conf_get_dir(const request_rec *r, h2x_dir_conf_key key)
{
    return value_or_preset(dir_of(r)->values[key], DIR_ROW(key));
}

const apr_array_header_t *h2x_conf_origins(const server_rec *s)
{
    return server_of(s)->origins;
}

const apr_array_header_t *h2x_conf_resources(const request_rec *r)
{
    return dir_of(r)->resources;
}

const apr_array_header_t *h2x_conf_hints(const request_rec *r)
{
    return dir_of(r)->hints;
}

h2x_push_order h2x_conf_push_order(const server_rec *s, const char *type)
{
    const apr_array_header_t *orders = server_of(s)->orders;
    apr_size_t len = strcspn(type, "; \t");
    const push_rule *any = NULL;
    int i;

    for (i = orders ? orders->nelts - 1 : -1; i >= 0; --i) {
        const push_rule *rule = &APR_ARRAY_IDX(orders, i, push_rule);

        if (h2x_field_equals(type, len, rule->type)) {
            return rule->order;
        }
        if (!any && !strcmp(rule->type, "*")) {
            any = rule;
        }
    }
    return any ? any->order : H2X_PUSH_AFTER;
}

/* Returns an error that names directive, value, and what is allowed. */
static const char *refuse(cmd_parms *cmd, const char *arg,
                          const char *allowed)
{
    return apr_psprintf(cmd->pool, "%s '%s': must be %s", cmd->cmd->name, arg,
                        allowed);
}

/* Says what a rule allows. */
static const char *allowed_by(apr_pool_t *p, const rule *rule)
{
    const char *range;

    switch (rule->kind) {
    case KIND_FLAG:
        return "on or off";
    case KIND_NUMBER:
        range = (rule->max == APR_INT64_MAX)
            ? apr_psprintf(p, "of %" APR_INT64_T_FMT " or more", rule->min)
            : apr_psprintf(p, "from %" APR_INT64_T_FMT " to %"
                           APR_INT64_T_FMT, rule->min, rule->max);
        return rule->unit
            ? apr_pstrcat(p, "a number ", range, " (", rule->unit, ")", NULL)
            : apr_pstrcat(p, "a number ", range, NULL);
    default:
        return rule->min ? "a positive time such as 30, 30s, 500ms or 2min"
                         : "a time such as 30, 30s, 500ms or 2min";
    }
}

/* Returns nonzero for a time with a unit that httpd documents. Its parser
 * accepts any text that begins with one. */
static int is_time(const char *arg)
{
    static const char *const units[] = { "", "ms", "s", "mi", "min", "h" };
    apr_size_t i, digits = strspn(arg, "0123456789");

    for (i = 0; digits && i < sizeof(units) / sizeof(units[0]); ++i) {
        if (!ap_cstr_casecmp(arg + digits, units[i])) {
            return 1;
        }
    }
    return 0;
}

/* Reads the argument of a directive by its rule. */
static const char *parse(cmd_parms *cmd, const rule *rule, const char *arg,
                         apr_int64_t *value)
{
    char *end = NULL;
    apr_int64_t number;
    apr_interval_time_t t;

    switch (rule->kind) {
    case KIND_FLAG:
        if (!ap_cstr_casecmp(arg, "on") || !ap_cstr_casecmp(arg, "off")) {
            *value = !ap_cstr_casecmp(arg, "on");
            return NULL;
        }
        break;
    case KIND_NUMBER:
        errno = 0;
        number = apr_strtoi64(arg, &end, 10);
        if (!errno && end != arg && !*end && apr_isdigit(*arg)
            && number >= rule->min && number <= rule->max) {
            *value = number;
            return NULL;
        }
        break;
    case KIND_TIME:
        errno = 0; /* the parser checks it, but does not clear it */
        if (is_time(arg)
            && ap_timeout_parameter_parse(arg, &t, "s") == APR_SUCCESS
            && t >= rule->min && t <= rule->max) {
            *value = t;
            return NULL;
        }
        break;
    }
    return refuse(cmd, arg, allowed_by(cmd->pool, rule));
}

static const char *set_server(cmd_parms *cmd, void *dir, const char *arg)
{
    apr_int64_t *values = server_of(cmd->server)->values;

    (void)dir;
    return parse(cmd, cmd->info, arg,
                 &values[cmd->cmd - h2x_conf_directives]);
}

static const char *set_dir(cmd_parms *cmd, void *dir, const char *arg)
{
    apr_int64_t *values = ((dir_conf *)dir)->values;

    return parse(cmd, cmd->info, arg,
                 &values[cmd->cmd - &h2x_conf_directives[DIR_ROW(0)]]);
}

/* For directives of mod_http2 that have no effect in this module. */
static const char *set_unused(cmd_parms *cmd, void *dir, const char *arg)
{
    static int is_logged[H2X_CONF_COUNT];
    int *mine = &is_logged[cmd->cmd - h2x_conf_directives];

    if (!*mine) {
        *mine = 1;
        ap_log_error(APLOG_MARK, APLOG_INFO, 0, cmd->server,
                     "%s has no effect in mod_h2x", cmd->cmd->name);
    }
    return set_server(cmd, dir, arg);
}

/* Adds an element to a list, which is made if it is NULL. */
static void *add_to(cmd_parms *cmd, apr_array_header_t **list, int size)
{
    if (!*list) {
        *list = apr_array_make(cmd->pool, 2, size);
    }
    return apr_array_push(*list);
}

static const char *set_push_priority(cmd_parms *cmd, void *dir,
                                     const char *type, const char *order,
                                     const char *weight)
{
    static const char *const names[] = { "after", "before", "interleaved" };
    const char *complaint = NULL;
    apr_int64_t value;
    push_rule *added;
    int i;

    (void)dir;
    if (!weight && apr_isdigit(*order)) {
        weight = order;
        order = names[H2X_PUSH_AFTER];
    }
    for (i = 0; i < 3 && ap_cstr_casecmp(order, names[i]); ++i) {
        continue;
    }
    if (i == 3) {
        return refuse(cmd, order, "after, before or interleaved");
    }
    if (weight && i == H2X_PUSH_BEFORE) {
        return refuse(cmd, weight, "left out, as before is without a "
                      "weight");
    }
    if (weight && (complaint = parse(cmd, cmd->info, weight, &value))) {
        return complaint;
    }
    if (weight) {
        ap_log_error(APLOG_MARK, APLOG_INFO, 0, cmd->server,
                     "H2PushPriority: weight %s has no effect, pushes of the "
                     "same priority are sent in turn", weight);
    }
    added = add_to(cmd, &server_of(cmd->server)->orders, sizeof(*added));
    added->type = type;
    added->order = i;
    return NULL;
}

/* Returns nonzero for the name of a host, without wildcard. */
static int is_host_name(const char *name)
{
    apr_size_t len = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "abcdefghijklmnopqrstuvwxyz0123456789-_.");

    return len && !name[len] && *name != '-' && *name != '.'
           && name[len - 1] != '.' && !strstr(name, "..");
}

/* Takes any number of names; TAKE_ARGV would drop those past the 64th. */
static const char *set_origin(cmd_parms *cmd, void *dir, const char *args)
{
    server_conf *conf = server_of(cmd->server);
    apr_int64_t *value = &conf->values[H2X_ORIGIN], flag;
    char *name = ap_getword_conf(cmd->pool, &args);

    (void)dir;
    conf->origins = NULL; /* the directive replaces an earlier one */
    if (!*args && !parse(cmd, cmd->info, name, value)) {
        return NULL;
    }
    *value = 1;
    do {
        if (!is_host_name(name) || !parse(cmd, cmd->info, name, &flag)) {
            return refuse(cmd, name, "on, off, or names of hosts");
        }
        ap_str_tolower(name);
        *(char **)add_to(cmd, &conf->origins, sizeof(char *)) = name;
        name = ap_getword_conf(cmd->pool, &args);
    } while (*name);
    return NULL;
}

static const char *add_resource(cmd_parms *cmd, void *dir, const char *arg1,
                                const char *arg2, const char *arg3)
{
    int has_add = !ap_cstr_casecmp(arg1, "add") && arg2;
    const char *target = has_add ? arg2 : arg1;
    const char *critical = has_add ? arg3 : arg2;
    const char *link = h2x_link_make(cmd->pool, target);
    h2x_push_resource *added;

    if (!link) {
        return refuse(cmd, target, "a URL or path");
    }
    if ((critical && ap_cstr_casecmp(critical, "critical"))
        || (arg3 && !has_add)) {
        return refuse(cmd, arg3 ? arg3 : critical, "critical, or nothing");
    }
    added = add_to(cmd, &((dir_conf *)dir)->resources, sizeof(*added));
    added->target = target;
    added->link = link;
    added->is_critical = (critical != NULL);
    return NULL;
}

static const char *add_hint(cmd_parms *cmd, void *dir, const char *name,
                            const char *value)
{
    h2x_hint *added;

    if (!*name || *ap_scan_http_token(name)) {
        return refuse(cmd, name, "the name of a header field");
    }
    if (*ap_scan_http_field_content(value)) {
        return refuse(cmd, value, "the value of a header field, without "
                      "control characters");
    }
    added = add_to(cmd, &((dir_conf *)dir)->hints, sizeof(*added));
    added->name = name;
    added->value = value;
    return NULL;
}

/*
 * ---- the table of directives ----
 *
 * A row has all of a directive: its name, its rule (kind of value, limits,
 * unit, default), where it is allowed, and its help text.
 */

#define RULE(...) ((void *)&(const rule){ __VA_ARGS__ })
#define ON_OFF(preset) RULE(KIND_FLAG, 0, 1, NULL, preset)
#define NUMBER(min, max, unit, preset) \
    RULE(KIND_NUMBER, min, max, unit, preset)
#define TIME(min, preset) \
    RULE(KIND_TIME, min, apr_time_from_sec(INT_MAX), NULL, preset)

#define SERVER(name, rule, help) \
    AP_INIT_TAKE1(name, set_server, rule, RSRC_CONF, help)
#define UNUSED(name, rule) \
    AP_INIT_TAKE1(name, set_unused, rule, RSRC_CONF, \
                  "of mod_http2: accepted, without effect")
#define DIRECTORY(name, rule, where, help) \
    AP_INIT_TAKE1(name, set_dir, rule, where, help)

const command_rec h2x_conf_directives[] = {
    [H2X_DIRECT] = SERVER(
        "H2Direct", ON_OFF(-1),
        "on to accept HTTP/2 by prior knowledge (the client's preface)"),
    [H2X_MODERN_TLS_ONLY] = SERVER(
        "H2ModernTLSOnly", ON_OFF(1),
        "off to allow TLS that RFC 9113, section 9.2, advises against"),
    [H2X_MAX_SESSION_STREAMS] = SERVER(
        "H2MaxSessionStreams", NUMBER(1, INT_MAX, "streams", 100),
        "number of streams that a connection may have open at a time"),
    [H2X_WINDOW_SIZE] = SERVER(
        "H2WindowSize", NUMBER(1024, INT_MAX, "bytes", 65535),
        "bytes of a request body that a client may send before it is read"),
    [H2X_STREAM_MAX_MEM_SIZE] = SERVER(
        "H2StreamMaxMemSize", NUMBER(1024, INT_MAX, "bytes", 65536),
        "bytes of a response that are kept in memory for a slow client"),
    [H2X_MIN_WORKERS] = SERVER(
        "H2MinWorkers", NUMBER(1, INT_MAX, "threads", -1),
        "number of worker threads that a child keeps"),
    [H2X_MAX_WORKERS] = SERVER(
        "H2MaxWorkers", NUMBER(1, INT_MAX, "threads", -1),
        "number of worker threads that a child may have"),
    [H2X_MAX_WORKER_IDLE] = SERVER(
        "H2MaxWorkerIdleSeconds", TIME(1, apr_time_from_sec(600)),
        "time after which an idle worker thread ends"),
    [H2X_TLS_WARM_UP_SIZE] = SERVER(
        "H2TLSWarmUpSize", NUMBER(0, APR_INT64_MAX, "bytes", 64 * 1024),
        "bytes sent in small TLS records on a new connection"),
    [H2X_TLS_COOL_DOWN_SECS] = SERVER(
        "H2TLSCoolDownSecs", NUMBER(0, INT_MAX, "seconds", 1),
        "seconds without output after which TLS records are small again"),
    [H2X_MAX_DATA_FRAME_LEN] = SERVER(
        "H2MaxDataFrameLen", NUMBER(0, INT_MAX, "bytes", 0),
        "greatest payload of a DATA frame, 0 for the client's limit"),
    [H2X_MAX_HEADER_BLOCK_LEN] = SERVER(
        "H2MaxHeaderBlockLen", NUMBER(0, INT_MAX, "bytes", 0),
        "greatest size of a response's header block, 0 for the default"),
    [H2X_OUTPUT_BUFFERING] = SERVER(
        "H2OutputBuffering", ON_OFF(1),
        "off to send each write of a handler at once"),
    [H2X_PUSH_DIARY_SIZE] = SERVER(
        "H2PushDiarySize", NUMBER(0, 65536, "pushes", 256),
        "number of pushes that a connection remembers, 0 for none"),
    [H2X_EARLY_HINTS] = SERVER(
        "H2EarlyHints", ON_OFF(-1),
        "on to announce resources in 103 responses, off to send none"),
    [H2X_PADDING] = SERVER(
        "H2Padding", NUMBER(0, 8, "bits", 0),
        "n from 0 to 8: frames are padded with up to 2^n - 1 bytes"),
    [H2X_MAX_STREAM_ERRORS] = SERVER(
        "H2MaxStreamErrors", NUMBER(0, INT_MAX, "errors", 8),
        "stream errors of a client after which its connection is closed"),
    [H2X_GUARD] = SERVER(
        "H2Guard", NUMBER(0, INT_MAX, "percent", 100),
        "percent of the budgets against abuse, 0 for none"),
    [H2X_MIN_RATE] = SERVER(
        "H2MinRate", NUMBER(0, INT_MAX, "bytes a second", 100),
        "bytes of a body that a client must send or read each second"),
    [H2X_WEBSOCKETS] = SERVER(
        "H2WebSockets", ON_OFF(0),
        "on to accept WebSockets by extended CONNECT"),
    [H2X_ORIGIN] = AP_INIT_RAW_ARGS(
        "H2Origin", set_origin, ON_OFF(-1), RSRC_CONF,
        "on, or names of hosts, to tell clients what else a connection may "
        "be used for"),
    [H2X_SERIALIZE_HEADERS] = UNUSED(
        "H2SerializeHeaders", ON_OFF(0)),
    [H2X_SESSION_EXTRA_FILES] = UNUSED(
        "H2SessionExtraFiles", NUMBER(0, INT_MAX, "files", 0)),

    [DIR_ROW(H2X_STREAM_TIMEOUT)] = DIRECTORY(
        "H2StreamTimeout", TIME(0, -1), RSRC_CONF | ACCESS_CONF,
        "time to wait for a client to send or read a part of a body"),
    [DIR_ROW(H2X_COPY_FILES)] = DIRECTORY(
        "H2CopyFiles", ON_OFF(0), OR_FILEINFO,
        "on to read files at once instead of keeping them open"),
    [DIR_ROW(H2X_PUSH)] = DIRECTORY(
        "H2Push", ON_OFF(1), RSRC_CONF | OR_AUTHCFG,
        "off to push nothing that responses announce"),
    [DIR_ROW(H2X_UPGRADE)] = DIRECTORY(
        "H2Upgrade", ON_OFF(1), RSRC_CONF | OR_AUTHCFG,
        "off to refuse a change to h2c by Upgrade"),
    [DIR_ROW(H2X_PROXY_REQUESTS)] = DIRECTORY(
        "H2ProxyRequests", ON_OFF(0), OR_FILEINFO,
        "on to accept requests of a forward proxy, CONNECT among them"),

    [LISTS_ROW] = AP_INIT_TAKE23(
        "H2PushPriority", set_push_priority,
        NUMBER(1, INT_MAX, NULL, 16), RSRC_CONF,
        "a content type or *, and after, before or interleaved"),
    AP_INIT_TAKE123(
        "H2PushResource", add_resource, NULL, OR_FILEINFO | OR_AUTHCFG,
        "[add] URL [critical]: what to announce before a response"),
    AP_INIT_TAKE2(
        "H2EarlyHint", add_hint, NULL, OR_FILEINFO | OR_AUTHCFG,
        "name and value of a header field for 103 responses"),
    { NULL, { NULL }, NULL, 0, RAW_ARGS, NULL }
};
