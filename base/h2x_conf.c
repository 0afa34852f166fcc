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

/* One kind of value for each way in which directives are written. */
typedef enum { KIND_FLAG, KIND_NUMBER, KIND_SECONDS } value_kind;

typedef struct {
    const char *name;
    value_kind kind;
    apr_int64_t min;
    apr_int64_t max;
    apr_int64_t preset;
} rule;

/* The rules of all values, and what holds where no directive is given. */
static const rule rules[H2X_CONF_COUNT] = {
    [H2X_DIRECT] = { "H2Direct", KIND_FLAG, 0, 1, -1 },
    [H2X_MODERN_TLS_ONLY] = { "H2ModernTLSOnly", KIND_FLAG, 0, 1, 1 },
    [H2X_MAX_SESSION_STREAMS] = { "H2MaxSessionStreams", KIND_NUMBER,
                                  1, INT_MAX, 100 },
    [H2X_WINDOW_SIZE] = { "H2WindowSize", KIND_NUMBER, 1024, INT_MAX, 65535 },
    [H2X_STREAM_MAX_MEM_SIZE] = { "H2StreamMaxMemSize", KIND_NUMBER,
                                  1024, INT_MAX, 65536 },
    [H2X_MIN_WORKERS] = { "H2MinWorkers", KIND_NUMBER, 1, INT_MAX, -1 },
    [H2X_MAX_WORKERS] = { "H2MaxWorkers", KIND_NUMBER, 1, INT_MAX, -1 },
    [H2X_MAX_WORKER_IDLE] = { "H2MaxWorkerIdleSeconds", KIND_SECONDS,
                              1, INT_MAX, 600 * APR_USEC_PER_SEC },
    [H2X_TLS_WARM_UP_SIZE] = { "H2TLSWarmUpSize", KIND_NUMBER,
                               0, APR_INT64_MAX, 64 * 1024 },
    [H2X_TLS_COOL_DOWN_SECS] = { "H2TLSCoolDownSecs", KIND_NUMBER,
                                 0, INT_MAX, 1 },
    [H2X_MAX_DATA_FRAME_LEN] = { "H2MaxDataFrameLen", KIND_NUMBER,
                                 0, INT_MAX, 0 },
    [H2X_MAX_HEADER_BLOCK_LEN] = { "H2MaxHeaderBlockLen", KIND_NUMBER,
                                   0, INT_MAX, 0 },
    [H2X_OUTPUT_BUFFERING] = { "H2OutputBuffering", KIND_FLAG, 0, 1, 1 },
    [H2X_PUSH_DIARY_SIZE] = { "H2PushDiarySize", KIND_NUMBER, 0, 65536, 256 },
    [H2X_EARLY_HINTS] = { "H2EarlyHints", KIND_FLAG, 0, 1, -1 },
    [H2X_PADDING] = { "H2Padding", KIND_NUMBER, 0, 8, 0 },
    [H2X_MAX_STREAM_ERRORS] = { "H2MaxStreamErrors", KIND_NUMBER,
                                0, INT_MAX, 8 },
    [H2X_GUARD] = { "H2Guard", KIND_NUMBER, 0, INT_MAX, 100 },
    [H2X_MIN_RATE] = { "H2MinRate", KIND_NUMBER, 0, INT_MAX, 100 },
    [H2X_WEBSOCKETS] = { "H2WebSockets", KIND_FLAG, 0, 1, 0 },
    [H2X_ORIGIN] = { "H2Origin", KIND_FLAG, 0, 1, -1 },
    [H2X_SERIALIZE_HEADERS] = { "H2SerializeHeaders", KIND_FLAG, 0, 1, 0 },
    [H2X_SESSION_EXTRA_FILES] = { "H2SessionExtraFiles", KIND_NUMBER,
                                  0, INT_MAX, 0 },
};

static const rule dir_rules[H2X_DIR_CONF_COUNT] = {
    [H2X_STREAM_TIMEOUT] = { "H2StreamTimeout", KIND_SECONDS, 0, INT_MAX, -1 },
    [H2X_COPY_FILES] = { "H2CopyFiles", KIND_FLAG, 0, 1, 0 },
    [H2X_PUSH] = { "H2Push", KIND_FLAG, 0, 1, 1 },
    [H2X_UPGRADE] = { "H2Upgrade", KIND_FLAG, 0, 1, 1 },
    [H2X_PROXY_REQUESTS] = { "H2ProxyRequests", KIND_FLAG, 0, 1, 0 },
};

/* A configuration: its values in the order of the rules, and its lists,
 * NULL as long as they are empty. */

typedef struct {
    apr_int64_t values[H2X_CONF_COUNT];
    apr_array_header_t *orders; /* push_rule; later ones win */
    apr_array_header_t *origins; /* char *; they belong to H2X_ORIGIN */
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

apr_int64_t h2x_conf_get(const server_rec *s, h2x_conf_key key)
{
    apr_int64_t value = server_of(s)->values[key];

    return (value != UNSET) ? value : rules[key].preset;
}

apr_int64_t h2x_conf_get_dir(const request_rec *r, h2x_dir_conf_key key)
{
    apr_int64_t value = dir_of(r)->values[key];

    return (value != UNSET) ? value : dir_rules[key].preset;
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

/* The complaint about a value, which names all that is needed to mend it. */
static const char *refuse(cmd_parms *cmd, const rule *rule, const char *arg)
{
    const char *allowed;

    switch (rule->kind) {
    case KIND_FLAG:
        allowed = "on or off";
        break;
    case KIND_NUMBER:
        allowed = (rule->max == APR_INT64_MAX)
            ? apr_psprintf(cmd->pool, "a number of %" APR_INT64_T_FMT
                           " or more", rule->min)
            : apr_psprintf(cmd->pool, "a number from %" APR_INT64_T_FMT
                           " to %" APR_INT64_T_FMT, rule->min, rule->max);
        break;
    default:
        allowed = apr_psprintf(cmd->pool, "%s time such as 30, 30s, 500ms "
                               "or 2min", rule->min ? "a positive" : "a");
        break;
    }
    return apr_psprintf(cmd->pool, "%s '%s': must be %s",
                        rule->name, arg, allowed);
}

/* Is this a time as httpd writes it? Its own parser takes any ending. */
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
    case KIND_SECONDS:
        errno = 0; /* it is looked at, but not set to begin with */
        if (is_time(arg)
            && ap_timeout_parameter_parse(arg, &t, "s") == APR_SUCCESS
            && t >= rule->min && t / APR_USEC_PER_SEC <= rule->max) {
            *value = t;
            return NULL;
        }
        break;
    }
    return refuse(cmd, rule, arg);
}

static const char *set_server(cmd_parms *cmd, void *dir, const char *arg)
{
    const rule *rule = cmd->info;

    (void)dir;
    return parse(cmd, rule, arg,
                 &server_of(cmd->server)->values[rule - rules]);
}

/* For directives of mod_http2 that this engine has no use for. */
static const char *set_idle(cmd_parms *cmd, void *dir, const char *arg)
{
    static int is_logged[H2X_CONF_COUNT];
    const rule *rule = cmd->info;

    if (!is_logged[rule - rules]) {
        is_logged[rule - rules] = 1;
        ap_log_error(APLOG_MARK, APLOG_INFO, 0, cmd->server,
                     "%s has no effect in mod_h2x", rule->name);
    }
    return set_server(cmd, dir, arg);
}

static const char *set_dir(cmd_parms *cmd, void *dir, const char *arg)
{
    const rule *rule = cmd->info;

    return parse(cmd, rule, arg,
                 &((dir_conf *)dir)->values[rule - dir_rules]);
}

/* Adds an element to a list that is made when it is needed. */
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
    static const rule weights = {
        "H2PushPriority", KIND_NUMBER, 1, INT_MAX, 16
    };
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
        return apr_psprintf(cmd->pool, "H2PushPriority '%s': must be after, "
                            "before or interleaved", order);
    }
    if (weight && i == H2X_PUSH_BEFORE) {
        return apr_psprintf(cmd->pool, "H2PushPriority '%s': before must be "
                            "without a weight", weight);
    }
    if (weight && (complaint = parse(cmd, &weights, weight, &value))) {
        return complaint;
    }
    if (weight) {
        ap_log_error(APLOG_MARK, APLOG_INFO, 0, cmd->server,
                     "H2PushPriority '%s': weights have no effect, what is "
                     "of one priority is sent in turn", weight);
    }
    added = add_to(cmd, &server_of(cmd->server)->orders, sizeof(*added));
    added->type = type;
    added->order = i;
    return NULL;
}

/* Is this the name of a host, without any wildcard? */
static int is_host_name(const char *name)
{
    apr_size_t len = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "abcdefghijklmnopqrstuvwxyz0123456789-_.");

    return len && !name[len] && *name != '-' && *name != '.'
           && name[len - 1] != '.' && !strstr(name, "..");
}

/* Any number of names: httpd's own splitting drops those past the 64th. */
static const char *set_origin(cmd_parms *cmd, void *dir, const char *args)
{
    const rule *rule = &rules[H2X_ORIGIN];
    server_conf *conf = server_of(cmd->server);
    apr_int64_t *value = &conf->values[H2X_ORIGIN], flag;
    char *name = ap_getword_conf(cmd->pool, &args);

    (void)dir;
    conf->origins = NULL; /* what was said before is replaced */
    if (!*args && !parse(cmd, rule, name, value)) {
        return NULL;
    }
    *value = 1;
    do {
        if (!is_host_name(name) || !parse(cmd, rule, name, &flag)) {
            return apr_psprintf(cmd->pool, "H2Origin '%s': must be on, off, "
                                "or names of hosts", name);
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
        return apr_psprintf(cmd->pool, "H2PushResource '%s': must be a URL "
                            "or path", target);
    }
    if ((critical && ap_cstr_casecmp(critical, "critical"))
        || (arg3 && !has_add)) {
        return apr_psprintf(cmd->pool, "H2PushResource '%s': must be "
                            "critical, or nothing", arg3 ? arg3 : critical);
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
        return apr_psprintf(cmd->pool, "H2EarlyHint '%s': must be the name "
                            "of a header field", name);
    }
    if (*ap_scan_http_field_content(value)) {
        return apr_psprintf(cmd->pool, "H2EarlyHint '%s': must be the value "
                            "of a header field, without control characters",
                            value);
    }
    added = add_to(cmd, &((dir_conf *)dir)->hints, sizeof(*added));
    added->name = name;
    added->value = value;
    return NULL;
}

#define SERVER(name, key, help) \
    AP_INIT_TAKE1(name, set_server, (void *)&rules[key], RSRC_CONF, help)
#define IDLE(name, key) \
    AP_INIT_TAKE1(name, set_idle, (void *)&rules[key], RSRC_CONF, \
                  "accepted for mod_http2's sake, without effect")
#define DIRECTORY(name, key, where, help) \
    AP_INIT_TAKE1(name, set_dir, (void *)&dir_rules[key], where, help)

const command_rec h2x_conf_directives[] = {
    SERVER("H2Direct", H2X_DIRECT,
           "on to accept HTTP/2 by prior knowledge (the client's preface)"),
    SERVER("H2ModernTLSOnly", H2X_MODERN_TLS_ONLY,
           "off to allow TLS that RFC 9113, section 9.2, advises against"),
    SERVER("H2MaxSessionStreams", H2X_MAX_SESSION_STREAMS,
           "number of streams that a connection may have open at a time"),
    SERVER("H2WindowSize", H2X_WINDOW_SIZE,
           "bytes of request body that a client may send unasked"),
    SERVER("H2StreamMaxMemSize", H2X_STREAM_MAX_MEM_SIZE,
           "bytes of a response that are kept in memory for a slow client"),
    SERVER("H2MinWorkers", H2X_MIN_WORKERS,
           "number of worker threads that a child keeps"),
    SERVER("H2MaxWorkers", H2X_MAX_WORKERS,
           "number of worker threads that a child may have"),
    SERVER("H2MaxWorkerIdleSeconds", H2X_MAX_WORKER_IDLE,
           "time after which an idle worker thread ends"),
    SERVER("H2TLSWarmUpSize", H2X_TLS_WARM_UP_SIZE,
           "bytes sent in small TLS records on a new connection"),
    SERVER("H2TLSCoolDownSecs", H2X_TLS_COOL_DOWN_SECS,
           "seconds of silence after which TLS records are small again"),
    SERVER("H2MaxDataFrameLen", H2X_MAX_DATA_FRAME_LEN,
           "greatest payload of a DATA frame, 0 for the client's limit"),
    SERVER("H2MaxHeaderBlockLen", H2X_MAX_HEADER_BLOCK_LEN,
           "greatest size of a response's header block, 0 for the default"),
    SERVER("H2OutputBuffering", H2X_OUTPUT_BUFFERING,
           "off to send each write of a handler at once"),
    DIRECTORY("H2StreamTimeout", H2X_STREAM_TIMEOUT, RSRC_CONF | ACCESS_CONF,
              "time to wait for a client to send or take a part of a body"),
    DIRECTORY("H2CopyFiles", H2X_COPY_FILES, OR_FILEINFO,
              "on to read files at once instead of keeping them open"),
    DIRECTORY("H2Push", H2X_PUSH, RSRC_CONF | OR_AUTHCFG,
              "off to push nothing that responses announce"),
    DIRECTORY("H2Upgrade", H2X_UPGRADE, RSRC_CONF | OR_AUTHCFG,
              "off to refuse a change to h2c by Upgrade"),
    DIRECTORY("H2ProxyRequests", H2X_PROXY_REQUESTS, OR_FILEINFO,
              "on to take requests of a forward proxy, CONNECT among them"),
    SERVER("H2WebSockets", H2X_WEBSOCKETS,
           "on to accept WebSockets by extended CONNECT"),
    AP_INIT_RAW_ARGS("H2Origin", set_origin, NULL, RSRC_CONF,
                     "on, or names of hosts, to tell clients what else a "
                     "connection may be used for"),
    SERVER("H2Padding", H2X_PADDING,
           "0 to 8: bits of the greatest padding that frames get"),
    SERVER("H2MaxStreamErrors", H2X_MAX_STREAM_ERRORS,
           "errors of a client that cost streams, before its connection goes"),
    SERVER("H2Guard", H2X_GUARD,
           "percent of the budgets against abuse, 0 for none"),
    SERVER("H2MinRate", H2X_MIN_RATE,
           "bytes of a body that a client must send or take each second"),
    IDLE("H2SerializeHeaders", H2X_SERIALIZE_HEADERS),
    IDLE("H2SessionExtraFiles", H2X_SESSION_EXTRA_FILES),
    SERVER("H2PushDiarySize", H2X_PUSH_DIARY_SIZE,
           "number of pushes that a connection remembers, 0 for none"),
    AP_INIT_TAKE23("H2PushPriority", set_push_priority, NULL, RSRC_CONF,
                   "a content type or *, and after, before or interleaved"),
    AP_INIT_TAKE123("H2PushResource", add_resource, NULL,
                    OR_FILEINFO | OR_AUTHCFG,
                    "[add] URL [critical]: what to announce before a response"),
    SERVER("H2EarlyHints", H2X_EARLY_HINTS,
           "on to announce resources in 103 responses, off to send none"),
    AP_INIT_TAKE2("H2EarlyHint", add_hint, NULL, OR_FILEINFO | OR_AUTHCFG,
                  "name and value of a header field for 103 responses"),
    { NULL, { NULL }, NULL, 0, RAW_ARGS, NULL }
};
