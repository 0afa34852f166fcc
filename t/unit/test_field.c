/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include <apr_strings.h>

#include "h2x_field.h"

/* ---- names ---- */

static void check_name(const char *given, const char *made)
{
    assert_string_equal(h2x_field_name(unit_pool, given, strlen(given)), made);
}

TEST(names_as_in_http1)
{
    check_name("content-type", "Content-Type");
    check_name("te", "Te");
    check_name("x-a-b", "X-A-B");
    check_name("x--y", "X--Y");
    check_name("-x", "-X");
    check_name("x-", "X-");
    check_name("1-2z", "1-2z");
    check_name("sec-ch-ua", "Sec-Ch-Ua");
    check_name("", "");
}

TEST(name_ends_where_told)
{
    assert_string_equal(h2x_field_name(unit_pool, "accept-xyz", 6), "Accept");
}

TEST(hop_by_hop)
{
    static const char *const yes[] = {
        "connection", "Connection", "KEEP-ALIVE", "proxy-connection",
        "transfer-encoding", "upgrade", NULL
    };
    static const char *const no[] = {
        "connectio", "connections", "te", "trailer", "host", "",
        "upgrade-insecure-requests", "proxy-authorization", NULL
    };
    int i;

    for (i = 0; yes[i]; ++i) {
        assert_true(h2x_field_is_hop_by_hop(yes[i], strlen(yes[i])));
    }
    for (i = 0; no[i]; ++i) {
        assert_false(h2x_field_is_hop_by_hop(no[i], strlen(no[i])));
    }
    assert_true(h2x_field_is_hop_by_hop("upgrade-insecure", 7));
}

TEST(bad_trailers)
{
    static const char *const yes[] = {
        "content-length", "Content-Type", "host", "HOST", "authorization",
        "set-cookie", "cookie", "trailer", "te", "cache-control", "connection",
        "transfer-encoding", ":status", ":path", ":", "", "range", NULL
    };
    static const char *const no[] = {
        "x-sum", "grpc-status", "digest", "server-timing", "hostname",
        "content", NULL
    };
    int i;

    for (i = 0; yes[i]; ++i) {
        assert_true(h2x_field_is_bad_trailer(yes[i], strlen(yes[i])));
    }
    for (i = 0; no[i]; ++i) {
        assert_false(h2x_field_is_bad_trailer(no[i], strlen(no[i])));
    }
}

/* ---- joining ---- */

TEST(joins_cookies)
{
    apr_table_t *t = apr_table_make(unit_pool, 4);

    apr_table_addn(t, "Cookie", "a=1");
    apr_table_addn(t, "Accept", "x");
    apr_table_addn(t, "cookie", "b=2");
    apr_table_addn(t, "COOKIE", "c=3");
    h2x_field_join(unit_pool, t);
    assert_string_equal(apr_table_get(t, "Cookie"), "a=1; b=2; c=3");
    assert_int_equal(apr_table_elts(t)->nelts, 2);
}

TEST(joins_others)
{
    apr_table_t *t = apr_table_make(unit_pool, 4);

    apr_table_addn(t, "Accept", "a");
    apr_table_addn(t, "X-One", "1");
    apr_table_addn(t, "Accept", "b");
    apr_table_addn(t, "accept", "c");
    h2x_field_join(unit_pool, t);
    assert_string_equal(apr_table_get(t, "Accept"), "a, b, c");
    assert_string_equal(apr_table_get(t, "X-One"), "1");
    assert_int_equal(apr_table_elts(t)->nelts, 2);
}

TEST(joins_nothing)
{
    apr_table_t *t = apr_table_make(unit_pool, 4);

    h2x_field_join(unit_pool, t);
    assert_true(apr_is_empty_table(t));
    apr_table_addn(t, "Cookie", "alone");
    h2x_field_join(unit_pool, t);
    assert_string_equal(apr_table_get(t, "Cookie"), "alone");
}

/* Were it done one by one, this would copy 5 GB. */
TEST(joins_many_crumbs)
{
    apr_table_t *t = apr_table_make(unit_pool, 4);
    int i;

    for (i = 0; i < 50000; ++i) {
        apr_table_addn(t, "Cookie", "ab");
    }
    h2x_field_join(unit_pool, t);
    assert_int_equal(strlen(apr_table_get(t, "Cookie")), 50000 * 4 - 2);
}

/* ---- heads ---- */

/* Parses what ends just where its memory does. */
static h2x_head *parse(const char *text)
{
    apr_size_t len = strlen(text);
    char *tight = malloc(len ? len : 1);
    h2x_head *head;

    memcpy(tight, text, len);
    head = h2x_field_parse_head(unit_pool, tight, len);
    assert_memory_equal(tight, text, len);
    free(tight); /* the head has a copy of its own */
    return head;
}

static void check_field(const h2x_head *head, int at, const char *name,
                        const char *value)
{
    assert_true(at < head->count);
    assert_string_equal(head->fields[at].name, name);
    assert_string_equal(head->fields[at].value, value);
    assert_int_equal(head->fields[at].name_len, strlen(name));
    assert_int_equal(head->fields[at].value_len, strlen(value));
}

TEST(parses_head)
{
    h2x_head *head = parse("HTTP/1.1 200 OK\r\n"
                           "Date: today\r\n"
                           "Content-Type:text/plain\r\n"
                           "X-Spaces: \t inner  spaces \t \r\n"
                           "X-Empty:\r\n"
                           "X-Empty-2: \r\n"
                           "X-Colon: a:b\r\n"
                           "Set-Cookie: a\r\n"
                           "Set-Cookie: b\r\n"
                           "\r\n");

    assert_non_null(head);
    assert_int_equal(head->status, 200);
    assert_int_equal(head->count, 8);
    check_field(head, 0, "date", "today");
    check_field(head, 1, "content-type", "text/plain");
    check_field(head, 2, "x-spaces", "inner  spaces");
    check_field(head, 3, "x-empty", "");
    check_field(head, 4, "x-empty-2", "");
    check_field(head, 5, "x-colon", "a:b");
    check_field(head, 6, "set-cookie", "a");
    check_field(head, 7, "set-cookie", "b");
}

TEST(leaves_out_what_is_of_the_connection)
{
    h2x_head *head = parse("HTTP/1.1 200 OK\r\n"
                           "Connection: close\r\n"
                           "Server: x\r\n"
                           "Keep-Alive: timeout=5\r\n"
                           "TRANSFER-ENCODING: chunked\r\n"
                           "Upgrade: h2\r\n\r\n");

    assert_int_equal(head->count, 1);
    check_field(head, 0, "server", "x");
}

/* httpd does not look at interim responses and trailers (RFC 9113, 8.2.1). */
TEST(leaves_out_what_is_malformed)
{
    apr_table_t *t = apr_table_make(unit_pool, 4);
    h2x_head *head;

    head = parse("HTTP/1.1 103 Early Hints\r\nA: 1\r2\r\n"
                 "B c: 1\r\nD\x80: 1\r\nF:  g \t\r\n\r\n");
    assert_non_null(head);
    assert_int_equal(head->count, 1);
    check_field(head, 0, "f", "g");
    apr_table_setn(t, "A", "1\r2");
    apr_table_setn(t, "B", "1\nc: 2");
    apr_table_setn(t, "C:d", "1");
    apr_table_setn(t, "F", " g ");
    head = h2x_field_trailers(unit_pool, t);
    assert_non_null(head);
    assert_int_equal(head->count, 1);
    check_field(head, 0, "f", "g");
}

TEST(parses_status_lines)
{
    assert_int_equal(parse("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
                         ->status, 103);
    assert_int_equal(parse("HTTP/1.0 404\r\n\r\n")->status, 404);
    assert_int_equal(parse("HTTP/1.1 599 \r\n\r\n")->status, 599);
    assert_int_equal(parse("HTTP/1.1 200 OK\n\n")->status, 200);
    assert_int_equal(parse("HTTP/1.1 200 OK\r\n\r\n")->count, 0);
}

TEST(refuses_what_is_no_head)
{
    static const char *const bad[] = {
        "", "\r\n", "\n", "x", "HTTP/1.1 200 OK", "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n", "HTTP/1.1 200 OK\r\nA: b",
        "HTTP/1.1 20\r\n\r\n", "HTTP/1.1 2\r\n\r\n", "HTTP/1.1\r\n\r\n",
        "HTTP/1.1 \r\n\r\n", "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n", "HTTP/1.1 abc\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n", "<html>\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: no name\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\nno colon\r\n\r\n", NULL
    };
    int i;

    for (i = 0; bad[i]; ++i) {
        if (parse(bad[i])) {
            fail_msg("taken for a head: %s", bad[i]);
        }
    }
}

TEST(parses_only_up_to_the_length)
{
    const char *text = "HTTP/1.1 200 OK\r\nA: b\r\n\r\nC: d\r\n\r\n";

    assert_int_equal(h2x_field_parse_head(unit_pool, text, 25)->count, 1);
    assert_null(h2x_field_parse_head(unit_pool, text, 23));
}

/* RFC 9110, section 8.6. */
TEST(drops_lengths)
{
    static const struct {
        int status, is_tunnel, is_kept;
    } cases[] = {
        { 100, 0, 0 }, { 103, 0, 0 }, { 199, 1, 0 }, { 200, 0, 1 },
        { 200, 1, 0 }, { 204, 0, 0 }, { 204, 1, 0 }, { 206, 0, 1 },
        { 299, 1, 0 }, { 302, 1, 1 }, { 304, 0, 1 }, { 502, 1, 1 },
    };
    apr_size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); ++i) {
        h2x_head *head = parse(apr_psprintf(
            unit_pool, "HTTP/1.1 %d\r\nContent-Length: 0\r\nA: b\r\n"
            "content-length: 0\r\n\r\n", cases[i].status));

        h2x_field_check_length(head, cases[i].is_tunnel);
        assert_int_equal(head->count, cases[i].is_kept ? 3 : 1);
        check_field(head, cases[i].is_kept ? 1 : 0, "a", "b");
    }
}

TEST(makes_empty_responses)
{
    h2x_head *head = h2x_field_empty_response(unit_pool, 502);

    assert_int_equal(head->status, 502);
    assert_int_equal(head->count, 2);
    assert_string_equal(head->fields[0].name, "date");
    check_field(head, 1, "content-length", "0");
}

TEST(parses_a_thousand_fields)
{
    apr_array_header_t *parts = apr_array_make(unit_pool, 1002, sizeof(char *));
    h2x_head *head;
    int i;

    APR_ARRAY_PUSH(parts, const char *) = "HTTP/1.1 200 OK\r\n";
    for (i = 0; i < 1000; ++i) {
        APR_ARRAY_PUSH(parts, const char *)
            = apr_psprintf(unit_pool, "X-%d: %d\r\n", i, i);
    }
    APR_ARRAY_PUSH(parts, const char *) = "\r\n";
    head = parse(apr_array_pstrcat(unit_pool, parts, 0));
    assert_int_equal(head->count, 1000);
    check_field(head, 999, "x-999", "999");
}

TEST(finds_fields)
{
    h2x_head *head = parse("HTTP/1.1 200 OK\r\nA: 1\r\nBc: 2\r\nA: 3\r\n\r\n");

    assert_string_equal(h2x_field_find(head, "a")->value, "1");
    assert_string_equal(h2x_field_find(head, "bc")->value, "2");
    assert_null(h2x_field_find(head, "b"));
    assert_null(h2x_field_find(head, "bcd"));
    assert_null(h2x_field_find(head, ""));
}

/* ---- trailers ---- */

TEST(makes_trailers)
{
    apr_table_t *t = apr_table_make(unit_pool, 4);
    h2x_head *head;

    apr_table_add(t, "X-Sum", "abc");
    apr_table_add(t, "Content-Length", "5");
    apr_table_add(t, "Connection", "close");
    apr_table_add(t, "x-note", "");
    head = h2x_field_trailers(unit_pool, t);
    assert_non_null(head);
    assert_int_equal(head->status, 0);
    assert_int_equal(head->count, 2);
    check_field(head, 0, "x-sum", "abc");
    check_field(head, 1, "x-note", "");
    apr_table_clear(t); /* the head has a copy of its own */
    check_field(head, 0, "x-sum", "abc");
}

TEST(makes_no_trailers_of_nothing)
{
    apr_table_t *t = apr_table_make(unit_pool, 4);

    assert_null(h2x_field_trailers(unit_pool, t));
    apr_table_add(t, "Host", "x");
    apr_table_add(t, "Trailer", "host");
    assert_null(h2x_field_trailers(unit_pool, t));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT_TEST(names_as_in_http1),
        UNIT_TEST(name_ends_where_told),
        UNIT_TEST(hop_by_hop),
        UNIT_TEST(bad_trailers),
        UNIT_TEST(joins_cookies),
        UNIT_TEST(joins_others),
        UNIT_TEST(joins_nothing),
        UNIT_TEST(joins_many_crumbs),
        UNIT_TEST(parses_head),
        UNIT_TEST(leaves_out_what_is_of_the_connection),
        UNIT_TEST(leaves_out_what_is_malformed),
        UNIT_TEST(parses_status_lines),
        UNIT_TEST(refuses_what_is_no_head),
        UNIT_TEST(parses_only_up_to_the_length),
        UNIT_TEST(drops_lengths),
        UNIT_TEST(makes_empty_responses),
        UNIT_TEST(parses_a_thousand_fields),
        UNIT_TEST(finds_fields),
        UNIT_TEST(makes_trailers),
        UNIT_TEST(makes_no_trailers_of_nothing),
    };

    return UNIT_RUN(tests);
}
