/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Directives: the input has one a line, its arguments after tabs. What is
 * accepted has to be what it says, and what is refused is told why. */

#include "fuzz.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <apr_strings.h>

#include <httpd.h>
#include <http_config.h>

#include "h2x.h"
#include "h2x_conf.h"

const int fuzz_is_in_child = 0;

#define ARGS_MAX 4

/* A configuration, and all of its values. */
typedef struct {
    server_rec server;
    request_rec request;
    void *dir;
    apr_int64_t values[H2X_CONF_COUNT + H2X_DIR_CONF_COUNT];
} conf;

typedef struct {
    const char *name;
    const char *args[ARGS_MAX];
    int count;
} line;

static void read_values(conf *c)
{
    int i;

    for (i = 0; i < H2X_CONF_COUNT; ++i) {
        c->values[i] = h2x_conf_get(&c->server, i);
    }
    for (i = 0; i < H2X_DIR_CONF_COUNT; ++i) {
        c->values[H2X_CONF_COUNT + i] = h2x_conf_get_dir(&c->request, i);
    }
}

static void make(conf *c)
{
    ap_conf_vector_t *of_server = ap_create_request_config(unit_pool);
    ap_conf_vector_t *of_dir = ap_create_request_config(unit_pool);

    memset(c, 0, sizeof(*c));
    c->dir = h2x_conf_create_dir(unit_pool, NULL);
    ap_set_module_config(of_server, &h2x_module,
                         h2x_conf_create_server(unit_pool, &c->server));
    ap_set_module_config(of_dir, &h2x_module, c->dir);
    c->server.module_config = of_server;
    c->server.log.level = APLOG_EMERG;
    c->request.server = &c->server;
    c->request.per_dir_config = of_dir;
    read_values(c);
}

/* ---- one directive ---- */

static const command_rec *find(const char *name)
{
    const command_rec *command = h2x_conf_directives;

    while (command->name && strcasecmp(command->name, name)) {
        ++command;
    }
    return command->name ? command : NULL;
}

/* Calls it as httpd does, if the number of arguments is one that it takes. */
static int call(const command_rec *command, conf *c, const line *l,
                const char **complaint)
{
    cmd_parms parms = { 0 };

    parms.info = command->cmd_data;
    parms.cmd = command;
    parms.pool = parms.temp_pool = unit_pool;
    parms.server = &c->server;
    if (command->args_how == TAKE1 && l->count == 1) {
        *complaint = command->AP_TAKE1(&parms, c->dir, l->args[0]);
    }
    else if (command->args_how == TAKE2 && l->count == 2) {
        *complaint = command->AP_TAKE2(&parms, c->dir, l->args[0],
                                       l->args[1]);
    }
    else if ((command->args_how == TAKE23 && l->count >= 2 && l->count < 4)
             || (command->args_how == TAKE123 && l->count && l->count < 4)) {
        *complaint = command->AP_TAKE3(&parms, c->dir, l->args[0], l->args[1],
                                       l->args[2]);
    }
    else {
        return 0;
    }
    return 1;
}

/* ---- what it must have done ---- */

/* Digits, and nothing but a unit after them. */
static int is_count(const char *arg, const char *const *units)
{
    size_t digits = strspn(arg, "0123456789");

    for (; digits && *units; ++units) {
        if (!strcasecmp(arg + digits, *units)) {
            return 1;
        }
    }
    return 0;
}

/* What a value is in microseconds, or as it stands. */
static double scale(const char *arg)
{
    arg += strspn(arg, "0123456789");
    return !strcasecmp(arg, "ms") ? 1e3
         : !strncasecmp(arg, "mi", 2) ? 60e6 : !strcasecmp(arg, "h") ? 3600e6
         : 1e6;
}

/* Is a directive's only argument what a value now is? */
static int is_value(const char *arg, apr_int64_t value)
{
    static const char *const none[] = { "", NULL };
    static const char *const units[] = {
        "", "ms", "s", "mi", "min", "h", NULL
    };
    double number = strtod(arg, NULL);

    if (!strcasecmp(arg, "on") || !strcasecmp(arg, "off")) {
        return value == !strcasecmp(arg, "on");
    }
    if (is_count(arg, none) && (double)value == number) {
        return 1;
    }
    return is_count(arg, units) && (double)value == number * scale(arg);
}

/* A number is within the range that is told to those who give none. */
static void check_range(const command_rec *command, conf *c,
                        const char *arg)
{
    const line wrong = { .name = command->name, .args = { "?" }, .count = 1 };
    const char *complaint = NULL, *range;
    char *end;

    call(command, c, &wrong, &complaint);
    FUZZ_CHECK(complaint);
    range = strstr(complaint, "a number ");
    if (range) {
        range += strcspn(range, "0123456789");
        FUZZ_CHECK(strtod(arg, NULL) >= strtod(range, &end));
        FUZZ_CHECK(strncmp(end, " to ", 4)
                   || strtod(arg, NULL) <= strtod(end + 4, NULL));
    }
}

/* A single value was set: it is there, and no other has changed. */
static void check_value(conf *c, const char *arg)
{
    conf before = *c;
    int i, found = 0, changed = 0;

    read_values(c);
    for (i = 0; i < H2X_CONF_COUNT + H2X_DIR_CONF_COUNT; ++i) {
        found |= is_value(arg, c->values[i]);
        if (c->values[i] != before.values[i]) {
            ++changed;
            FUZZ_CHECK(is_value(arg, c->values[i]));
            FUZZ_CHECK(c->values[i] >= 0);
        }
    }
    FUZZ_CHECK(found && changed <= 1);
}

static void check_push_order(conf *c, const line *l)
{
    static const char *const names[] = { "after", "before", "interleaved" };
    size_t len = strcspn(l->args[0], "; \t");
    h2x_push_order order = h2x_conf_push_order(&c->server, l->args[0]);

    /* a type with parameters is that of no response */
    if (len == strlen(l->args[0])) {
        FUZZ_CHECK(isdigit((unsigned char)*l->args[1])
                       ? order == H2X_PUSH_AFTER
                       : !strcasecmp(l->args[1], names[order]));
    }
}

static void check_list(conf *c, const line *l)
{
    const apr_array_header_t *resources = h2x_conf_resources(&c->request);
    const apr_array_header_t *hints = h2x_conf_hints(&c->request);
    int has_add = l->count > 1 && !strcasecmp(l->args[0], "add");

    if (!strcasecmp(l->name, "H2PushPriority")) {
        check_push_order(c, l);
    }
    else if (!strcasecmp(l->name, "H2PushResource")) {
        const h2x_push_resource *last = &APR_ARRAY_IDX(
            resources, resources->nelts - 1, h2x_push_resource);

        FUZZ_CHECK(!strcmp(last->target, l->args[has_add]));
        FUZZ_CHECK(!strncmp(last->link + 1, last->target,
                            strlen(last->target)));
        FUZZ_CHECK(last->is_critical == (l->count > has_add + 1));
    }
    else {
        const h2x_hint *last = &APR_ARRAY_IDX(hints, hints->nelts - 1,
                                              h2x_hint);

        FUZZ_CHECK(*last->name && !strcmp(last->name, l->args[0]));
        FUZZ_CHECK(!strpbrk(last->name, " \t:\r\n"));
        FUZZ_CHECK(!strcmp(last->value, l->args[1]));
        FUZZ_CHECK(!strpbrk(last->value, "\r\n"));
    }
}

/* What was refused has changed nothing. */
static void check_unchanged(conf *c)
{
    conf before = *c;

    read_values(c);
    FUZZ_CHECK(!memcmp(before.values, c->values, sizeof(c->values)));
}

/* A complaint names directive and value, and says what would do. A number
 * within the range that it names is not refused. */
static void check_complaint(const line *l, const char *complaint)
{
    const char *range = strstr(complaint, "a number from ");
    int i, named = 0;

    FUZZ_CHECK(!strncasecmp(complaint, l->name, strlen(l->name)));
    FUZZ_CHECK(strstr(complaint, " must be "));
    for (i = 0; i < l->count; ++i) {
        named |= (strstr(complaint, apr_pstrcat(unit_pool, " '", l->args[i],
                                                "'", NULL)) != NULL);
    }
    FUZZ_CHECK(named);
    if (range && l->count == 1
        && strspn(l->args[0], "0123456789") == strlen(l->args[0])
        && *l->args[0]) {
        double value = strtod(l->args[0], NULL), least, most;
        char *end;

        least = strtod(range + 14, &end);
        most = strtod(end + 4, NULL);
        FUZZ_CHECK(value < least || value > most);
    }
}

static void check(conf *c, const line *l)
{
    const command_rec *command = find(l->name);
    const char *complaint = NULL;

    if (!command || !call(command, c, l, &complaint)) {
        return;
    }
    if (complaint) {
        check_complaint(l, complaint);
        check_unchanged(c);
    }
    else if (command->args_how == TAKE1) {
        check_value(c, l->args[0]);
        check_range(command, c, l->args[0]);
    }
    else {
        check_list(c, l);
    }
}

/* ---- all of them ---- */

/* Merged with one that says nothing, a configuration stays what it is. */
static void check_merge(conf *c, int is_inner)
{
    conf none, both;
    void *mine = ap_get_module_config(c->server.module_config, &h2x_module);
    void *other;

    make(&none);
    make(&both);
    other = ap_get_module_config(none.server.module_config, &h2x_module);
    ap_set_module_config(both.server.module_config, &h2x_module,
                         h2x_conf_merge_server(unit_pool,
                                               is_inner ? other : mine,
                                               is_inner ? mine : other));
    both.dir = h2x_conf_merge_dir(unit_pool, is_inner ? none.dir : c->dir,
                                  is_inner ? c->dir : none.dir);
    ap_set_module_config(both.request.per_dir_config, &h2x_module, both.dir);
    read_values(&both);
    read_values(c);
    FUZZ_CHECK(!memcmp(both.values, c->values, sizeof(c->values)));
    FUZZ_CHECK(h2x_conf_resources(&both.request)
               == h2x_conf_resources(&c->request));
    FUZZ_CHECK(h2x_conf_hints(&both.request) == h2x_conf_hints(&c->request));
}

static void read_line(conf *c, char *text)
{
    line l = { .count = 0 };
    char *arg = strchr(text, '\t');

    l.name = text;
    while (arg && l.count < ARGS_MAX) {
        *arg++ = '\0';
        l.args[l.count++] = arg;
        arg = strchr(arg, '\t');
    }
    check(c, &l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    conf c;
    char *text, *end;

    fuzz_begin(data, size);
    make(&c);
    for (text = fuzz_text(data, size); text; text = end) {
        end = strchr(text, '\n');
        if (end) {
            *end++ = '\0';
        }
        read_line(&c, text);
    }
    check_merge(&c, 0);
    check_merge(&c, 1);
    fuzz_end();
    return 0;
}
