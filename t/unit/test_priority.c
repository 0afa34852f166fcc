/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The value of a Priority field: RFC 9218, sections 4 and 5, RFC 8941,
 * section 4.2. */

#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "h2x_priority.h"

#define KEEP (-1)

/* Reads a value that lies in memory which ends just where it does. */
static int parse(h2x_priority *priority, const char *value, size_t len)
{
    char *tight = malloc(len ? len : 1);
    int rv;

    memcpy(tight, value, len);
    rv = h2x_priority_parse(priority, tight, len);
    free(tight);
    return rv;
}

/* Reads it with one priority to begin with. */
static void check_from(int urgency, int is_incremental, const char *value,
                       size_t len, int wanted, int wanted_urgency,
                       int wanted_incremental)
{
    h2x_priority priority = { urgency, is_incremental };

    if (wanted_urgency == KEEP) {
        wanted_urgency = urgency;
    }
    if (wanted_incremental == KEEP) {
        wanted_incremental = is_incremental;
    }
    if (parse(&priority, value, len) != wanted
        || priority.urgency != wanted_urgency
        || priority.is_incremental != wanted_incremental) {
        fail_msg("'%s', from u=%d i=%d: u=%d i=%d", value, urgency,
                 is_incremental, priority.urgency, priority.is_incremental);
    }
}

static void check(const char *value, size_t len, int wanted, int urgency,
                  int is_incremental)
{
    check_from(3, 0, value, len, wanted, urgency, is_incremental);
    check_from(6, 1, value, len, wanted, urgency, is_incremental);
}

/* It says this. */
static void says(const char *value, int urgency, int is_incremental)
{
    check(value, strlen(value), 1, urgency, is_incremental);
}

/* It is right, and says nothing of importance. */
static void says_nothing(const char *const *values)
{
    for (; *values; ++values) {
        says(*values, KEEP, KEEP);
    }
}

static void are_malformed(const char *const *values)
{
    for (; *values; ++values) {
        check(*values, strlen(*values), 0, KEEP, KEEP);
    }
}

/* ---- urgency and incremental ---- */

TEST(urgency)
{
    char value[] = "u=0";
    int i;

    for (i = 0; i <= 7; ++i) {
        value[2] = (char)('0' + i);
        says(value, i, KEEP);
    }
    says("u=-0", 0, KEEP);
    says("u=007", 7, KEEP);
    says("u=000000000000005", 5, KEEP);
}

TEST(incremental)
{
    says("i", KEEP, 1);
    says("i=?1", KEEP, 1);
    says("i=?0", KEEP, 0);
    says("i;a", KEEP, 1);
    says("i;a=?0", KEEP, 1);
    says("i=?0;i", KEEP, 0);
}

TEST(both)
{
    says("u=5, i", 5, 1);
    says("i,u=5", 5, 1);
    says("u=0,i=?0", 0, 0);
    says("u=1;x=2;y=\"a,u=7\", i;q=0.5", 1, 1);
    says("a, u=2, b=(1 2), i, c=?0", 2, 1);
}

/* RFC 9218, section 4: out of range, or of an unexpected type. */
TEST(ignored_values)
{
    static const char *const values[] = {
        "", "u=8", "u=10", "u=-1", "u=-7", "u=99", "u=256", "u=4294967297",
        "u=999999999999999", "u=-999999999999999", "u=3.0", "u=1.5", "u=0.0",
        "u", "u=?1", "u=?0", "u;u=1", "u=\"1\"", "u=one", "u=*", "u=:MQ==:",
        "u=(1)", "u=(1 2)", "u=()", "u=(1);u=1",
        "i=1", "i=0", "i=-1", "i=0.5", "i=\"?1\"", "i=true", "i=(?1)", "i=()",
        "i=:Pw==:", "u=8, i=1", NULL
    };

    says_nothing(values);
    says("u=9, i", KEEP, 1);
    says("u=1, i=1", 1, KEEP);
}

TEST(ignored_keys)
{
    static const char *const values[] = {
        "x=1", "ui", "iu", "uu=1", "u1=1", "u-=1", "u_=1", "u.=1", "u*=1",
        "i2", "*u=1", "*", "*i", "a;u=1;i", "a=(u i);u=1", "a=u;i",
        "urgency=1", "incremental", "a=\"u=1, i\"", "a=:uu==:", NULL
    };

    says_nothing(values);
}

/* RFC 8941, section 4.2.2: of members with the same key, the last counts,
 * also when it is one that is ignored. */
TEST(repeated)
{
    says("u=1, u=2", 2, KEEP);
    says("i, i=?0", KEEP, 0);
    says("i=?0, i", KEEP, 1);
    says("u=1, i, u=4, i=?0, u=6", 6, 0);
    says("u=9, u=1", 1, KEEP);
}

TEST(repeated_and_ignored)
{
    says("u=1, u=9", KEEP, KEEP);
    says("u=1, u", KEEP, KEEP);
    says("u=1, u=2.0", KEEP, KEEP);
    says("u=1, i, u=(2)", KEEP, 1);
    says("i, i=1", KEEP, KEEP);
    says("i=?0, i=a, u=1", 1, KEEP);
}

/* ---- structured fields ---- */

TEST(space)
{
    static const char *const malformed[] = {
        "\tu=1", "u =1", "u= 1", "u=\t1", "u=1 ;a", "u=1\t;a", "u=1;\ta",
        "u=1;a =1", "u=1;a= 1", "u=1 i", "u=1\n", "\nu=1", "u=1\r", "u=1\v",
        "\t", " \t", "u=1\xa0", NULL
    };

    says(" ", KEEP, KEEP);
    says("   ", KEEP, KEEP);
    says("  u=1", 1, KEEP);
    says("u=1  ", 1, KEEP);
    says("u=1\t", 1, KEEP);
    says("u=1 \t ", 1, KEEP);
    says("u=1 , i", 1, 1);
    says("u=1\t,\ti", 1, 1);
    says("u=1 \t, \t i \t", 1, 1);
    says("u=1; a;  b=2", 1, KEEP);
    are_malformed(malformed);
}

TEST(commas)
{
    static const char *const malformed[] = {
        ",", ",u=1", "u=1,", "u=1, ", "u=1,\t", "u=1,,i", "u=1, ,i", " ,u=1",
        "u=1;,i", "u=1,i,", NULL
    };

    are_malformed(malformed);
}

TEST(keys)
{
    static const char *const good[] = {
        "a", "*", "z9", "a-b_c.d*e=1", "a1234567890", "*-", NULL
    };
    static const char *const malformed[] = {
        "U=1", "I", "A", "aB=1", "1=1", "-a", "_a", ".a", "=1", "u:1", "a/b",
        "a;B", "a;=1", "a;1", "a;;b", "a;", "\"a\"=1", "a@", "a!", "?1",
        "\xc3\xa9", "u\x80=1", "1", "(a)", NULL
    };

    says_nothing(good);
    are_malformed(malformed);
}

TEST(numbers)
{
    static const char *const good[] = {
        "x=0", "x=-0", "x=123456789012345", "x=-123456789012345", "x=0.1",
        "x=-0.123", "x=123456789012.123", "x=-123456789012.1", "x=00.0",
        "x=1.100;y=-2.5", NULL
    };
    static const char *const malformed[] = {
        "x=", "x=-", "x=--1", "x=-a", "x=+1", "x=1a", "x=1-", "x=1e3",
        "x=0x1", "x=.5", "x=-.5", "x=1.", "x=-1.", "x=1.a", "x=1.2.3",
        "x=1.1234", "x=1234567890123456", "x=-1234567890123456",
        "x=1234567890123.1", "x=12345678901234.1", "x=123456789012345.1",
        "x=1234567890123.", "x=1234567890123456.1", "u=1.", "u=1.2345", "u=-",
        "u=1000000000000000000000000000000000000000", NULL
    };

    says_nothing(good);
    are_malformed(malformed);
}

TEST(strings)
{
    static const char *const good[] = {
        "x=\"\"", "x=\" \"", "x=\"a\\\"b\\\\c\"", "x=\"\\\\\"", "x=\",u=1\"",
        "x=\"~!#[]'\"", "x=\"a\";y=\"b\"", NULL
    };
    static const char *const malformed[] = {
        "x=\"", "x=\"a", "x=\"\\", "x=\"\\\"", "x=\"\\a\"", "x=\"a\\", "x=a\"",
        "x=\"a\"b", "x=\"\t\"", "x=\"\x7f\"", "x=\"\x80\"", "x=\"\xc3\xa9\"",
        "x=\"\n\"", "x=\"\x1f\"", "x='a'", "x=\"a\"\"b\"", NULL
    };

    says_nothing(good);
    are_malformed(malformed);
}

TEST(tokens)
{
    static const char *const good[] = {
        "x=a", "x=*", "x=Z", "x=a!#$%&'*+-.^_`|~:/9Z", "x=**",
        "x=text/html;q=a:b", NULL
    };
    static const char *const malformed[] = {
        "x=/a", "x=!", "x=_a", "x=~a", "x=a b", "x=a\"", "x=a(", "x=a{",
        "x=a@b", "x=a[", "x=a\\b", "x=a?", "x=a=b", "x=a\x80", "x=a\x7f",
        NULL
    };

    says_nothing(good);
    are_malformed(malformed);
}

TEST(byte_sequences)
{
    static const char *const good[] = {
        "x=::", "x=:YQ==:", "x=:YWJj:", "x=:+/+/:", "x=:YQ==:;y=::", NULL
    };
    static const char *const malformed[] = {
        "x=:", "x=:YQ==", "x=:Y Q:", "x=:Y_Q:", "x=:Y-Q:",
        "x=:YQ\n:", "x=:YQ==:a", "x=:::", "x=:Y,u=1:", "x=:\x80:", NULL
    };

    says_nothing(good);
    are_malformed(malformed);
}

TEST(booleans)
{
    static const char *const good[] = { "x=?0", "x=?1", "x;y=?0", NULL };
    static const char *const malformed[] = {
        "x=?", "x=?2", "x=?10", "x=?t", "x=?-1", "x=??1", "x=? 1", "x=?1?",
        "x=!1", "i=?", "i=?2", "i=?11", "i?1", NULL
    };

    says_nothing(good);
    are_malformed(malformed);
}

TEST(inner_lists)
{
    static const char *const good[] = {
        "x=()", "x=( )", "x=(   )", "x=(1)", "x=( 1 )", "x=(1 2)",
        "x=(  1   2  )", "x=(\"a\" b;q=1;r :YQ==: ?0 -1.5)", "x=(a;b c);d;e=f",
        "x=(\")\")", "x=(a);b=1, y=(c)", NULL
    };
    static const char *const malformed[] = {
        "x=(", "x=(1", "x=(1 ", "x=(1 2", "x=)", "x=(1))", "x=((1))",
        "x=(1,2)", "x=(1\t2)", "x=(\t)", "x=(1)2", "x=(1)a", "x=(1;)",
        "x=(1\"a\")", "x=(1;a=)", "x=(a=1)", "x=(?)", "x=(;a)", "x=(1);",
        "x;y=(1)", "x=1;y=(1)", "(1)", NULL
    };

    says_nothing(good);
    are_malformed(malformed);
}

/* Nothing of a value that is malformed at its end counts. */
TEST(all_or_nothing)
{
    static const char *const malformed[] = {
        "u=1, i, ", "u=1, i, x=", "u=1, i, \"", "u=1, i;", "u=1, i, X",
        "u=1, i, x=(", "u=1, i, x=\"\\", "u=1, i\x01", NULL
    };

    are_malformed(malformed);
}

/* A 0 is no end: the length tells it. */
TEST(bytes_that_are_no_text)
{
    static const char *const values[] = {
        "u=1", "u=1, i;a=\"b\", c=(d :ZQ==: ?1)"
    };
    char copy[64];
    size_t v, i;
    int c;

    check("u=1\0", 4, 0, KEEP, KEEP);
    check("\0u=1", 4, 0, KEEP, KEEP);
    check("u=1,\0i", 6, 0, KEEP, KEEP);
    check("x=\"a\0b\"", 7, 0, KEEP, KEEP);
    check("x=a\0", 4, 0, KEEP, KEEP);
    check("u=1, i", 3, 1, 1, KEEP);
    check("u=1, i", 0, 1, KEEP, KEEP);
    for (v = 0; v < 2; ++v) {
        size_t len = strlen(values[v]);

        for (i = 0; i < len; ++i) {
            for (c = 127; c < 289; ++c) {   /* 127 to 255, and 0 to 32 */
                memcpy(copy, values[v], len + 1);
                copy[i] = (char)c;
                if (c % 256 != ' ' && c % 256 != '\t') {
                    check(copy, len, 0, KEEP, KEEP);
                }
            }
        }
    }
}

/* However it is cut, nothing behind it is read. */
TEST(all_prefixes)
{
    static const char *const values[] = {
        "u=1, i, a=\"b\\\"c\\\\\";d=-12.345;e, f=( g:/ 1 :YWJj: ?0;h );j=?1",
        "  *a.b-c_d=tok*en/x , u=7;u=1  ,\ti=?0;x=\"y\"  "
    };
    size_t v, len;

    for (v = 0; v < 2; ++v) {
        for (len = 0; len <= strlen(values[v]); ++len) {
            h2x_priority one = { 3, 0 }, other = { 6, 1 };

            assert_int_equal(parse(&one, values[v], len),
                             parse(&other, values[v], len));
            assert_in_range(one.urgency, 0, 7);
            assert_in_range(other.is_incremental, 0, 1);
        }
    }
    says(values[0], 1, 1);
    says(values[1], 7, 0);
}

/* Time is linear: the longest field that httpd takes is nothing. */
TEST(long_value)
{
    size_t len = 1 << 20, i;
    char *value = malloc(len + 4);
    h2x_priority priority = { 3, 0 };

    for (i = 0; i < len; i += 4) {
        memcpy(value + i, "a;b,", 4);
    }
    memcpy(value + len, "u=1", 3);
    assert_true(h2x_priority_parse(&priority, value, len + 3));
    assert_int_equal(priority.urgency, 1);
    memset(value, '(', len);
    assert_false(h2x_priority_parse(&priority, value, len));
    memset(value, 'a', len);
    assert_true(h2x_priority_parse(&priority, value, len));
    memset(value, ';', len);
    assert_false(h2x_priority_parse(&priority, value, len));
    free(value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT_TEST(urgency),
        UNIT_TEST(incremental),
        UNIT_TEST(both),
        UNIT_TEST(ignored_values),
        UNIT_TEST(ignored_keys),
        UNIT_TEST(repeated),
        UNIT_TEST(repeated_and_ignored),
        UNIT_TEST(space),
        UNIT_TEST(commas),
        UNIT_TEST(keys),
        UNIT_TEST(numbers),
        UNIT_TEST(strings),
        UNIT_TEST(tokens),
        UNIT_TEST(byte_sequences),
        UNIT_TEST(booleans),
        UNIT_TEST(inner_lists),
        UNIT_TEST(all_or_nothing),
        UNIT_TEST(bytes_that_are_no_text),
        UNIT_TEST(all_prefixes),
        UNIT_TEST(long_value),
    };

    return UNIT_RUN(tests);
}
