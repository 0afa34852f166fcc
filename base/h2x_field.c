/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <string.h>

#include <apr_cstr.h>
#include <apr_lib.h>
#include <apr_strings.h>

#include "h2x_field.h"

typedef struct {
    const char *name;
    apr_size_t len;
} known_name;

#define NAME(name) { name, sizeof(name) - 1 }

static int is_one_of(const known_name *names, const char *name,
                     apr_size_t len)
{
    for (; names->name; ++names) {
        if (names->len == len && !strncasecmp(names->name, name, len)) {
            return 1;
        }
    }
    return 0;
}

int h2x_field_equals(const char *token, apr_size_t len, const char *other)
{
    return len == strlen(other) && !apr_cstr_casecmpn(token, other, len);
}

int h2x_field_is_hop_by_hop(const char *name, apr_size_t len)
{
    static const known_name names[] = {
        NAME("connection"), NAME("keep-alive"), NAME("proxy-connection"),
        NAME("transfer-encoding"), NAME("upgrade"), { NULL, 0 }
    };

    return is_one_of(names, name, len);
}

int h2x_field_is_bad_trailer(const char *name, apr_size_t len)
{
    static const known_name names[] = {
        NAME("age"), NAME("authorization"), NAME("cache-control"),
        NAME("content-encoding"), NAME("content-length"),
        NAME("content-range"), NAME("content-type"), NAME("cookie"),
        NAME("date"), NAME("expect"), NAME("expires"), NAME("host"),
        NAME("http2-settings"), NAME("if-match"), NAME("if-modified-since"),
        NAME("if-none-match"), NAME("if-range"), NAME("if-unmodified-since"),
        NAME("location"), NAME("max-forwards"), NAME("pragma"),
        NAME("proxy-authenticate"), NAME("proxy-authorization"),
        NAME("range"), NAME("retry-after"), NAME("set-cookie"), NAME("te"),
        NAME("trailer"), NAME("vary"), NAME("warning"),
        NAME("www-authenticate"), { NULL, 0 }
    };

    return !len || *name == ':' || h2x_field_is_hop_by_hop(name, len)
           || is_one_of(names, name, len);
}

char *h2x_field_name(apr_pool_t *p, const char *name, apr_size_t len)
{
    char *copy = apr_pstrmemdup(p, name, len);
    char *c;
    int first = 1;

    for (c = copy; *c; ++c) {
        if (first) {
            *c = (char)apr_toupper(*c);
        }
        first = (*c == '-');
    }
    return copy;
}

/* Joins all values of Cookie with "; ", in one pass. */
static void join_cookies(apr_pool_t *p, apr_table_t *fields)
{
    const apr_array_header_t *all = apr_table_elts(fields);
    const apr_table_entry_t *entry = (const apr_table_entry_t *)all->elts;
    apr_array_header_t *crumbs = NULL;
    int i, count = 0;

    for (i = 0; i < all->nelts; ++i) {
        count += !strcasecmp(entry[i].key, "Cookie");
    }
    if (count < 2) {
        return;
    }
    crumbs = apr_array_make(p, 2 * count, sizeof(const char *));
    for (i = 0; i < all->nelts; ++i) {
        if (!strcasecmp(entry[i].key, "Cookie")) {
            if (crumbs->nelts) {
                APR_ARRAY_PUSH(crumbs, const char *) = "; ";
            }
            APR_ARRAY_PUSH(crumbs, const char *) = entry[i].val;
        }
    }
    apr_table_setn(fields, "Cookie", apr_array_pstrcat(p, crumbs, 0));
}

void h2x_field_join(apr_pool_t *p, apr_table_t *fields)
{
    join_cookies(p, fields);
    apr_table_compress(fields, APR_OVERLAP_TABLES_MERGE);
}

/* Returns the next line, with 0 in place of CRLF; NULL: no line is complete. */
static char *next_line(char **text, char *end)
{
    char *line = *text;
    char *eol = memchr(line, '\n', end - line);

    if (!eol) {
        return NULL;
    }
    *text = eol + 1;
    if (eol > line && eol[-1] == '\r') {
        --eol;
    }
    *eol = '\0';
    return line;
}

/* Returns the code of a status line, or 0 if it is malformed. */
static int parse_status_line(const char *line)
{
    const char *s;
    int status;

    if (!line || strncmp(line, "HTTP/", 5) || !(s = strchr(line, ' '))
        || !apr_isdigit(s[1]) || !apr_isdigit(s[2]) || !apr_isdigit(s[3])) {
        return 0;
    }
    status = (s[1] - '0') * 100 + (s[2] - '0') * 10 + (s[3] - '0');
    return (status >= 100) ? status : 0;
}

/*
 * Makes a field of a name and a value, in place. Case is changed in ASCII
 * only, whatever the locale is.
 * @return 0 when the field is malformed in HTTP/2 (RFC 9113, section 8.2.1);
 *         httpd checks the heads of final responses only
 */
static int set_field(h2x_field *field, char *name, char *value)
{
    char *c, *end;

    for (c = name; *c > ' ' && *c < 0x7f && *c != ':'; ++c) {
        *c += (*c >= 'A' && *c <= 'Z') ? 'a' - 'A' : 0;
    }
    while (*value == ' ' || *value == '\t') {
        ++value;
    }
    end = value + strlen(value);
    if (c == name || *c || memchr(value, '\r', end - value)
        || memchr(value, '\n', end - value)) {
        return 0;
    }
    while (end > value && (end[-1] == ' ' || end[-1] == '\t')) {
        --end;
    }
    *end = '\0';
    field->name = name;
    field->name_len = (apr_size_t)(c - name);
    field->value = value;
    field->value_len = (apr_size_t)(end - value);
    return 1;
}

h2x_head *h2x_field_parse_head(apr_pool_t *p, const char *text,
                               apr_size_t len)
{
    char *copy = apr_pstrmemdup(p, text, len);
    char *end = copy + len;
    const char *c;
    char *line;
    h2x_head *head;
    int status = parse_status_line(next_line(&copy, end));
    int lines = 0;

    if (!status) {
        return NULL;
    }
    for (c = copy; (c = memchr(c, '\n', end - c)) != NULL; ++c) {
        ++lines;
    }
    head = apr_palloc(p, sizeof(*head));
    head->status = status;
    head->count = 0;
    head->fields = apr_palloc(p, lines * sizeof(h2x_field));
    while ((line = next_line(&copy, end)) && *line) {
        h2x_field *field = &head->fields[head->count];
        char *colon = strchr(line, ':');

        if (!colon || colon == line) {
            return NULL;
        }
        *colon = '\0';
        if (set_field(field, line, colon + 1)
            && !h2x_field_is_hop_by_hop(field->name, field->name_len)) {
            ++head->count;
        }
    }
    return line ? head : NULL;
}

h2x_head *h2x_field_empty_response(apr_pool_t *p, int status)
{
    char date[APR_RFC822_DATE_LEN];
    const char *text;

    apr_rfc822_date(date, apr_time_now());
    text = apr_psprintf(p, "HTTP/1.1 %d\r\nDate: %s\r\n"
                        "Content-Length: 0\r\n\r\n", status, date);
    return h2x_field_parse_head(p, text, strlen(text));
}

h2x_head *h2x_field_trailers(apr_pool_t *p, const apr_table_t *table)
{
    const apr_array_header_t *all = apr_table_elts(table);
    const apr_table_entry_t *entry = (const apr_table_entry_t *)all->elts;
    h2x_head *head = apr_pcalloc(p, sizeof(*head));
    int i;

    head->fields = apr_palloc(p, all->nelts * sizeof(h2x_field));
    for (i = 0; i < all->nelts; ++i) {
        if (!h2x_field_is_bad_trailer(entry[i].key, strlen(entry[i].key))
            && set_field(&head->fields[head->count],
                         apr_pstrdup(p, entry[i].key),
                         apr_pstrdup(p, entry[i].val))) {
            ++head->count;
        }
    }
    return head->count ? head : NULL;
}

const h2x_field *h2x_field_find(const h2x_head *head, const char *name)
{
    apr_size_t len = strlen(name);
    int i;

    for (i = 0; i < head->count; ++i) {
        if (head->fields[i].name_len == len
            && !memcmp(head->fields[i].name, name, len)) {
            return &head->fields[i];
        }
    }
    return NULL;
}

void h2x_field_remove(h2x_head *head, const char *name)
{
    apr_size_t len = strlen(name);
    int i, kept = 0;

    for (i = 0; i < head->count; ++i) {
        if (head->fields[i].name_len != len
            || memcmp(head->fields[i].name, name, len)) {
            head->fields[kept++] = head->fields[i];
        }
    }
    head->count = kept;
}

void h2x_field_check_length(h2x_head *head, int is_tunnel)
{
    int is_success = (head->status >= 200 && head->status < 300);

    if (head->status < 200 || head->status == 204
        || (is_tunnel && is_success)) {
        h2x_field_remove(head, "content-length");
    }
}
