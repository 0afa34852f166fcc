/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <limits.h>
#include <stddef.h>
#include <string.h>

#include <apr_lib.h>
#include <apr_strings.h>

#include "h2x.h"
#include "h2x_conf.h"

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
                               0, APR_INT64_MAX, 1024 * 1024 },
    [H2X_TLS_COOL_DOWN_SECS] = { "H2TLSCoolDownSecs", KIND_NUMBER,
                                 0, INT_MAX, 1 },
    [H2X_MAX_DATA_FRAME_LEN] = { "H2MaxDataFrameLen", KIND_NUMBER,
                                 0, INT_MAX, 0 },
    [H2X_MAX_HEADER_BLOCK_LEN] = { "H2MaxHeaderBlockLen", KIND_NUMBER,
                                   0, INT_MAX, 0 },
    [H2X_OUTPUT_BUFFERING] = { "H2OutputBuffering", KIND_FLAG, 0, 1, 1 },
};

static const rule dir_rules[H2X_DIR_CONF_COUNT] = {
    [H2X_STREAM_TIMEOUT] = { "H2StreamTimeout", KIND_SECONDS, 0, INT_MAX, -1 },
    [H2X_COPY_FILES] = { "H2CopyFiles", KIND_FLAG, 0, 1, 0 },
};

/* A configuration is just its values, in the order of the rules. */

static apr_int64_t *create(apr_pool_t *p, int count)
{
    apr_int64_t *values = apr_palloc(p, count * sizeof(*values));
    int i;

    for (i = 0; i < count; ++i) {
        values[i] = UNSET;
    }
    return values;
}

static apr_int64_t *merge(apr_pool_t *p, const apr_int64_t *base,
                          const apr_int64_t *add, int count)
{
    apr_int64_t *values = apr_palloc(p, count * sizeof(*values));
    int i;

    for (i = 0; i < count; ++i) {
        values[i] = (add[i] != UNSET) ? add[i] : base[i];
    }
    return values;
}

void *h2x_conf_create_server(apr_pool_t *p, server_rec *s)
{
    (void)s;
    return create(p, H2X_CONF_COUNT);
}

void *h2x_conf_merge_server(apr_pool_t *p, void *base, void *add)
{
    return merge(p, base, add, H2X_CONF_COUNT);
}

void *h2x_conf_create_dir(apr_pool_t *p, char *dir)
{
    (void)dir;
    return create(p, H2X_DIR_CONF_COUNT);
}

void *h2x_conf_merge_dir(apr_pool_t *p, void *base, void *add)
{
    return merge(p, base, add, H2X_DIR_CONF_COUNT);
}

static apr_int64_t value_of(const ap_conf_vector_t *config, const rule *rules,
                            int key)
{
    const apr_int64_t *values = ap_get_module_config(config, &h2x_module);

    return (values[key] != UNSET) ? values[key] : rules[key].preset;
}

apr_int64_t h2x_conf_get(const server_rec *s, h2x_conf_key key)
{
    return value_of(s->module_config, rules, key);
}

apr_int64_t h2x_conf_get_dir(const request_rec *r, h2x_dir_conf_key key)
{
    return value_of(r->per_dir_config, dir_rules, key);
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
        *value = apr_strtoi64(arg, &end, 10);
        if (!errno && end != arg && !*end && apr_isdigit(*arg)
            && *value >= rule->min && *value <= rule->max) {
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
    apr_int64_t *values = ap_get_module_config(cmd->server->module_config,
                                               &h2x_module);
    const rule *rule = cmd->info;

    (void)dir;
    return parse(cmd, rule, arg, &values[rule - rules]);
}

static const char *set_dir(cmd_parms *cmd, void *dir, const char *arg)
{
    apr_int64_t *values = dir;
    const rule *rule = cmd->info;

    return parse(cmd, rule, arg, &values[rule - dir_rules]);
}

#define SERVER(name, key, help) \
    AP_INIT_TAKE1(name, set_server, (void *)&rules[key], RSRC_CONF, help)

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
    AP_INIT_TAKE1("H2StreamTimeout", set_dir,
                  (void *)&dir_rules[H2X_STREAM_TIMEOUT],
                  RSRC_CONF | ACCESS_CONF,
                  "time to wait for a client to send or take a part of a "
                  "body"),
    AP_INIT_TAKE1("H2CopyFiles", set_dir, (void *)&dir_rules[H2X_COPY_FILES],
                  OR_FILEINFO,
                  "on to read files at once instead of keeping them open"),
    { NULL, { NULL }, NULL, 0, RAW_ARGS, NULL }
};
