/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The HTTP working group's tests of structured fields
 * (github.com/httpwg/structured-field-tests), as far as dictionaries and items
 * go: an item can be a member. H2X_SF_TESTS names the directory that they are
 * in; without it there is nothing to do.
 */

#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <apr_file_io.h>
#include <apr_lib.h>
#include <apr_strings.h>

#include "h2x_priority.h"

/* ---- JSON, as much as there is in those files ---- */

static const char *at; /* what is left of a file */

static void skip_space(void)
{
    while (apr_isspace(*at)) {
        ++at;
    }
}

static int next_is(char c)
{
    skip_space();
    if (*at != c) {
        return 0;
    }
    ++at;
    return 1;
}

static void expect(char c)
{
    if (!next_is(c)) {
        fail_msg("no %c at: %.40s", c, at);
    }
}

static char *read_string(void)
{
    char *text = apr_palloc(unit_pool, strlen(at)), *to = text;

    expect('"');
    while (*at != '"') {
        char c = *at++;

        assert_true(c != '\0');
        if (c == '\\') {
            c = *at++;
            assert_non_null(strchr("\"\\/tn", c));
            c = (char)(c == 't' ? '\t' : c == 'n' ? '\n' : c);
        }
        *to++ = c;
    }
    ++at;
    *to = '\0';
    return text;
}

static void skip_value(void)
{
    int depth = 0;

    do {
        skip_space();
        if (*at == '"') {
            read_string();
        }
        else {
            depth += (*at == '[' || *at == '{') - (*at == ']' || *at == '}');
            assert_true(*at != '\0');
            ++at;
        }
        skip_space();
    } while (depth > 0 || !strchr(",]}", *at));
}

/* The field lines, combined as RFC 8941, section 4.2, has it. */
static char *read_lines(void)
{
    char *all = NULL;

    expect('[');
    do {
        char *line = read_string();

        all = all ? apr_pstrcat(unit_pool, all, ", ", line, NULL) : line;
    } while (next_is(','));
    expect(']');
    return all;
}

/* ---- tests ---- */

/* One of theirs. */
typedef struct {
    char *name;
    char *raw;
    char *type;
    int must_fail;
    int can_fail;
    char *expected; /* [value, parameters] of an item, as JSON */
} vector;

static int read_boolean(void)
{
    skip_space();
    return *at == 't';
}

static void read_vector(vector *v)
{
    memset(v, 0, sizeof(*v));
    expect('{');
    do {
        char *key = read_string();
        const char *from;

        expect(':');
        skip_space();
        from = at;
        if (!strcmp(key, "name")) {
            v->name = read_string();
        }
        else if (!strcmp(key, "header_type")) {
            v->type = read_string();
        }
        else if (!strcmp(key, "raw")) {
            v->raw = read_lines();
        }
        else {
            v->must_fail |= !strcmp(key, "must_fail") && read_boolean();
            v->can_fail |= !strcmp(key, "can_fail") && read_boolean();
            skip_value();
            if (!strcmp(key, "expected")) {
                v->expected = apr_pstrmemdup(unit_pool, from, at - from);
            }
        }
    } while (next_is(','));
    expect('}');
    assert_true(v->name && v->type && v->raw);
}

static int parse(const char *value, h2x_priority *priority)
{
    priority->urgency = 9;          /* what no value can say */
    priority->is_incremental = 9;
    return h2x_priority_parse(priority, value, strlen(value));
}

static int check_accepted(const vector *v, const char *value,
                          h2x_priority *priority)
{
    int rv = parse(value, priority);

    if (rv == v->must_fail && !v->can_fail) {
        fail_msg("%s: '%s' is %s", v->name, value, rv ? "accepted"
                                                      : "refused");
    }
    return rv;
}

/* A dictionary, alone and between other members. */
static void check_dictionary(const vector *v)
{
    h2x_priority priority;

    check_accepted(v, v->raw, &priority);
    if (strspn(v->raw, " ") == strlen(v->raw)) {
        return;
    }
    if (check_accepted(v, apr_pstrcat(unit_pool, "u=5, ",
                                      v->raw + strspn(v->raw, " "), ", i",
                                      NULL), &priority)) {
        assert_int_equal(priority.urgency, 5);
        assert_int_equal(priority.is_incremental, 1);
    }
}

static void check_values(const vector *v, const char *value)
{
    const char *expected = v->expected + 1;
    int urgency = 9, is_incremental = 9;
    h2x_priority priority;

    if (!strncmp(expected, "true", 4) || !strncmp(expected, "false", 5)) {
        is_incremental = (*expected == 't');
    }
    if (expected[strspn(expected, "0123456789")] == ','
        && strtoll(expected, NULL, 10) <= 7) {
        urgency = (int)strtoll(expected, NULL, 10);
    }
    assert_true(parse(apr_pstrcat(unit_pool, "u=", value, NULL), &priority));
    assert_int_equal(priority.urgency, urgency);
    assert_int_equal(priority.is_incremental, 9);
    assert_true(parse(apr_pstrcat(unit_pool, "x=1,i=", value, " ,y", NULL),
                      &priority));
    assert_int_equal(priority.urgency, 9);
    assert_int_equal(priority.is_incremental, is_incremental);
}

/* An item is the value of a member; but what may stand around it differs. */
static void check_item(const vector *v)
{
    char *value = v->raw + strspn(v->raw, " ");
    size_t len = strlen(value);
    h2x_priority priority;

    while (!v->must_fail && len && value[len - 1] == ' ') {
        value[--len] = '\0';
    }
    if (check_accepted(v, apr_pstrcat(unit_pool, "u=", value, ";a", NULL),
                       &priority)) {
        check_values(v, value);
    }
}

static int check_file(const char *path)
{
    apr_file_t *file;
    apr_finfo_t info;
    char *text;
    int count = 0;
    vector v;

    if (apr_file_open(&file, path, APR_READ, 0, unit_pool) != APR_SUCCESS) {
        fail_msg("%s: cannot be read", path);
    }
    assert_int_equal(apr_file_info_get(&info, APR_FINFO_SIZE, file),
                     APR_SUCCESS);
    text = apr_pcalloc(unit_pool, (apr_size_t)info.size + 1);
    assert_int_equal(apr_file_read_full(file, text, (apr_size_t)info.size,
                                        NULL), APR_SUCCESS);
    apr_file_close(file);
    at = text;
    expect('[');
    do {
        read_vector(&v);
        if (!strcmp(v.type, "dictionary")) {
            check_dictionary(&v);
            ++count;
        }
        else if (!strcmp(v.type, "item")) {
            check_item(&v);
            ++count;
        }
    } while (next_is(','));
    expect(']');
    return count;
}

TEST(vectors)
{
    static const char *const names[] = {
        "boolean", "dictionary", "examples", "item", "number", "param-dict"
    };
    const char *dir = getenv("H2X_SF_TESTS");
    size_t i;

    if (!dir || !*dir) {
        print_message("H2X_SF_TESTS is not set\n");
        skip();
    }
    for (i = 0; i < sizeof(names) / sizeof(names[0]); ++i) {
        assert_true(check_file(apr_psprintf(unit_pool, "%s/%s.json", dir,
                                            names[i])) >= 5);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT_TEST(vectors),
    };

    return UNIT_RUN(tests);
}
