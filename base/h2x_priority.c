/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <string.h>

#include <apr_lib.h>

#include "h2x_priority.h"

/* The input that is not parsed yet. Each parser moves `at` behind what it has
 * parsed, and returns 0 when that is malformed (RFC 8941, section 4.2). */
typedef struct {
    const char *at;
    const char *end;
} input;

/* A bare item. The parameters of Priority are integers and booleans. */
typedef struct {
    enum { ITEM_OTHER, ITEM_INTEGER, ITEM_BOOLEAN } kind;
    int number;        /* of an integer, at most 999, or a boolean */
} item;

static int peek(const input *in)
{
    return (in->at < in->end) ? (unsigned char)*in->at : -1;
}

static int take(input *in, char c)
{
    if (peek(in) != c) {
        return 0;
    }
    ++in->at;
    return 1;
}

static void skip(input *in, const char *set)
{
    while (in->at < in->end && *in->at && strchr(set, *in->at)) {
        ++in->at;
    }
}

/* Skips characters of a set or a class. Returns their number. */
static int take_all(input *in, const char *set, int (*is_member)(int c))
{
    const char *from = in->at;
    int c;

    while ((c = peek(in)) > 0 && c < 128
           && (is_member(c) || strchr(set, c))) {
        ++in->at;
    }
    return (int)(in->at - from);
}

static int is_digit(int c)
{
    return apr_isdigit(c);
}

static int is_alnum(int c)
{
    return apr_isalnum(c);
}

static int is_key_char(int c)
{
    return apr_islower(c) || apr_isdigit(c);
}

static int read_key(input *in, const char **key, int *len)
{
    int c = peek(in);

    *key = in->at;
    if (c < 0 || c > 127 || (!apr_islower(c) && c != '*')) {
        return 0;
    }
    *len = take_all(in, "_-.*", is_key_char);
    return 1;
}

/* Parses an integer of up to 15 digits, or a decimal of up to 12 and 3. */
static int read_number(input *in, item *value)
{
    int is_negative = take(in, '-');
    const char *digits = in->at;
    int i, len = take_all(in, "", is_digit), fraction;

    value->kind = ITEM_INTEGER;
    for (i = 0, value->number = 0; i < len; ++i) {
        value->number = (value->number > 99)
            ? 999 : value->number * 10 + digits[i] - '0';
    }
    if (is_negative) {
        value->number = -value->number;
    }
    if (!len || len > 15 || !take(in, '.')) {
        return len > 0 && len <= 15;
    }
    value->kind = ITEM_OTHER;
    fraction = take_all(in, "", is_digit);
    return len <= 12 && fraction > 0 && fraction <= 3;
}

static int read_string(input *in)
{
    int c;

    while ((c = peek(in)) >= 0x20 && c < 0x7f) {
        ++in->at;
        if (c == '"') {
            return 1;
        }
        if (c == '\\' && !take(in, '"') && !take(in, '\\')) {
            return 0;
        }
    }
    return 0;
}

static int read_bare_item(input *in, item *value)
{
    int c = peek(in);

    value->kind = ITEM_OTHER;
    if (c == '-' || (c >= 0 && apr_isdigit(c))) {
        return read_number(in, value);
    }
    if (take(in, '"')) {
        return read_string(in);
    }
    if (take(in, '?')) {
        value->kind = ITEM_BOOLEAN;
        value->number = (peek(in) == '1');
        return take(in, '0') || take(in, '1');
    }
    if (take(in, ':')) {
        take_all(in, "+/=", is_alnum);
        return take(in, ':');
    }
    if (c == '*' || (c > 0 && c < 128 && apr_isalpha(c))) {
        take_all(in, "!#$%&'*+-.^_`|~:/", is_alnum);
        return 1;
    }
    return 0;
}

static int read_params(input *in)
{
    const char *key;
    item value;
    int len;

    while (take(in, ';')) {
        skip(in, " ");
        if (!read_key(in, &key, &len)
            || (take(in, '=') && !read_bare_item(in, &value))) {
            return 0;
        }
    }
    return 1;
}

static int read_inner_list(input *in, item *value)
{
    for (;;) {
        skip(in, " ");
        if (take(in, ')')) {
            value->kind = ITEM_OTHER;
            return read_params(in);
        }
        if (!read_bare_item(in, value) || !read_params(in)
            || (peek(in) != ' ' && peek(in) != ')')) {
            return 0;
        }
    }
}

static int read_member(input *in, item *value)
{
    if (!take(in, '=')) {
        value->kind = ITEM_BOOLEAN;
        value->number = 1;
        return read_params(in);
    }
    if (take(in, '(')) {
        return read_inner_list(in, value);
    }
    return read_bare_item(in, value) && read_params(in);
}

int h2x_priority_parse(h2x_priority *priority, const char *value,
                       apr_size_t len)
{
    input in = { value, len ? value + len : value };
    h2x_priority found = *priority;
    const char *key;
    item member;
    int key_len;

    skip(&in, " ");
    while (in.at < in.end) {
        if (!read_key(&in, &key, &key_len) || !read_member(&in, &member)) {
            return 0;
        }
        /* of members with the same key, the last one is used */
        if (key_len == 1 && *key == 'u') {
            found.urgency = (member.kind == ITEM_INTEGER
                             && member.number >= H2X_URGENCY_HIGHEST
                             && member.number <= H2X_URGENCY_LOWEST)
                ? member.number : priority->urgency;
        }
        if (key_len == 1 && *key == 'i') {
            found.is_incremental = (member.kind == ITEM_BOOLEAN)
                ? member.number : priority->is_incremental;
        }
        skip(&in, " \t");
        if (in.at == in.end) {
            break;
        }
        if (!take(&in, ',')) {
            return 0;
        }
        skip(&in, " \t");
        if (in.at == in.end) {
            return 0; /* trailing comma */
        }
    }
    *priority = found;
    return 1;
}
