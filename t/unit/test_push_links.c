/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <apr_file_io.h>
#include <apr_strings.h>

#include "h2x_link.h"
#include "h2x_push.h"

/* Text in memory that ends just where it does. To be freed. */
static char *tighten(const char *text, apr_size_t len)
{
    char *tight = malloc(len ? len : 1);

    memcpy(tight, text, len);
    return tight;
}

/* Is a part of the field that lies within from and to? */
static int is_within(const char *part, apr_size_t len, const char *from,
                     const char *to)
{
    return part >= from && part <= to && len <= (apr_size_t)(to - part);
}

/* Reads the next link, and checks what holds for all of them. */
static h2x_link_result next(const char **value, h2x_link *link)
{
    const char *before = *value, *end = before + strlen(before);
    h2x_link_result result = h2x_link_next(value, link);

    assert_true(*value >= before && *value <= end);
    if (result == H2X_LINK_END) {
        assert_ptr_equal(*value, end);
        return result;
    }
    assert_true(*value > before);
    assert_true(link->text_len > 0);
    assert_true(is_within(link->text, link->text_len, before, *value));
    if (result == H2X_LINK_FOUND) {
        assert_int_equal(link->text[0], '<');
        assert_ptr_equal(link->target, link->text + 1);
        assert_true(is_within(link->target, link->target_len, link->text,
                              link->text + link->text_len));
        assert_int_equal(link->target[link->target_len], '>');
    }
    return result;
}

/*
 * What a field says: targets, with +p for a preload and +n for nopush, and
 * what is malformed behind a !, all with " | " between.
 */
static const char *describe(const char *field)
{
    char *tight = tighten(field, strlen(field) + 1);
    const char *value = tight, *all = "", *one;
    h2x_link_result result;
    h2x_link link;

    while ((result = next(&value, &link)) != H2X_LINK_END) {
        if (result == H2X_LINK_MALFORMED) {
            one = apr_pstrcat(unit_pool, "!",
                              apr_pstrmemdup(unit_pool, link.text,
                                             link.text_len), NULL);
        }
        else {
            one = apr_pstrcat(unit_pool,
                              apr_pstrmemdup(unit_pool, link.target,
                                             link.target_len),
                              link.is_preload ? "+p" : "",
                              link.is_nopush ? "+n" : "", NULL);
        }
        all = apr_pstrcat(unit_pool, all, *all ? " | " : "", one, NULL);
    }
    free(tight);
    return all;
}

static void check(const char *field, const char *description)
{
    const char *seen = describe(field);

    if (strcmp(seen, description)) {
        fail_msg("%s\n  is read as  %s\n  instead of  %s", field, seen,
                 description);
    }
}

/* A field, and what it says. */
typedef struct {
    const char *given;
    const char *wanted;
} pair;

static void check_all(const pair *pairs)
{
    for (; pairs->given; ++pairs) {
        check(pairs->given, pairs->wanted);
    }
}

/* ---- links ---- */

TEST(names_the_parts)
{
    const char *field = " , </a.css> ; rel=preload; as=style \t, <b>;x";
    const char *value = field;
    h2x_link link;

    assert_int_equal(next(&value, &link), H2X_LINK_FOUND);
    assert_ptr_equal(link.text, field + 3);
    assert_int_equal(link.text_len,
                     strlen("</a.css> ; rel=preload; as=style"));
    assert_ptr_equal(link.target, field + 4);
    assert_int_equal(link.target_len, strlen("/a.css"));
    assert_true(link.is_preload);
    assert_false(link.is_nopush);
    assert_int_equal(next(&value, &link), H2X_LINK_FOUND);
    assert_ptr_equal(link.text, strstr(field, "<b>"));
    assert_int_equal(link.text_len, strlen("<b>;x"));
    assert_false(link.is_preload);
    assert_int_equal(next(&value, &link), H2X_LINK_END);
    assert_int_equal(next(&value, &link), H2X_LINK_END);
}

TEST(reads_several)
{
    static const pair pairs[] = {
        { "</a>", "/a" },
        { "</a>, </b>", "/a | /b" },
        { "</a>,</b>,</c>", "/a | /b | /c" },
        { "</a>; rel=preload, </b>, </c>; rel=preload; nopush",
          "/a+p | /b | /c+p+n" },
        { "<>", "" },
        { "<>; rel=preload, <#x>", "+p | #x" },
        { "<https://x.example/?a=b&c=d#e>; rel=preload",
          "https://x.example/?a=b&c=d#e+p" },
        { NULL, NULL }
    };

    check_all(pairs);
}

/* RFC 9110, section 5.6.1.2: empty elements of lists. */
TEST(reads_past_empty_elements)
{
    static const pair pairs[] = {
        { "", "" },
        { " \t ", "" },
        { ",", "" },
        { ", ,\t,", "" },
        { ",</a>", "/a" },
        { "</a>,", "/a" },
        { "</a> , ", "/a" },
        { " , ,</a>; rel=preload, ,, \t, </b>,,", "/a+p | /b" },
        { NULL, NULL }
    };

    check_all(pairs);
}

TEST(reads_past_space)
{
    static const pair pairs[] = {
        { "   </a>", "/a" },
        { "\t</a>\t", "/a" },
        { "</a>;rel=preload", "/a+p" },
        { "</a>   ;   rel=preload   ,   </b>", "/a+p | /b" },
        { "</a>\t;\trel\t=\tpreload\t;\tnopush\t,</b>", "/a+p+n | /b" },
        { "</a>; rel =\"preload\"", "/a+p" },
        { "</a>; rel= \"preload\"", "/a+p" },
        { "</a>; rel = preload ;as=style", "/a+p" },
        { "</a>; nopush ; rel=preload", "/a+p+n" },
        { NULL, NULL }
    };

    check_all(pairs);
}

TEST(sees_through_quotes)
{
    static const pair pairs[] = {
        { "</a>; rel=\"preload\"", "/a+p" },
        { "</a>; as=\"style\"; rel=\"preload\"; nopush", "/a+p+n" },
        { "</a>; rel=\"pre\\load\"", "/a+p" },
        { "</a>; rel=\"\\p\\r\\e\\l\\o\\a\\d\"", "/a+p" },
        { "</a>; rel=\"x\\\" preload\"", "/a+p" },
        { "</a>; rel=\"\\\"preload\\\"\"", "/a" },
        { "</a>; rel=\"preload\\\\\"", "/a" },
        { "</a>; title=\"\"; rel=preload", "/a+p" },
        { "</a>; title=\"\\\"\"; rel=preload", "/a+p" },
        { "</a>; title=\"\\\\\"; rel=preload", "/a+p" },
        { "</a>; title=\"\\\", </b>; rel=preload\", </c>", "/a | /c" },
        { "</a>; title=\"caf\xc3\xa9\"; rel=preload", "/a+p" },
        { NULL, NULL }
    };

    check_all(pairs);
}

/* RFC 8288, appendix B.2: relation types are split after unquoting. */
TEST(escaped_space_is_space)
{
    check("</a>; rel=\"x\\ preload\"", "/a+p");
    check("</a>; rel=\"preload\\ x\"", "/a+p");
    check("</a>; rel=\"x\\\tpreload\"", "/a+p");
    check("</a>; rel=\"pre\\ load\"", "/a");
}

TEST(separators_may_be_in_quotes_and_brackets)
{
    static const pair pairs[] = {
        { "</a,b;c>; rel=preload, </d>", "/a,b;c+p | /d" },
        { "</a;rel=preload>", "/a;rel=preload" },
        { "</a>; title=\"x, y\"; rel=preload, </b>", "/a+p | /b" },
        { "</a>; title=\"x; rel=preload\"", "/a" },
        { "</a>; title=\"x, </z>; rel=preload\", </b>", "/a | /b" },
        { "</a>; title=\"nopush\"; rel=preload", "/a+p" },
        { "</a>; title=\"; nopush\"; rel=preload", "/a+p" },
        { "</a>; imagesrcset=\"/x?w=1 1x, /x?w=2 2x\"; rel=preload", "/a+p" },
        { NULL, NULL }
    };

    check_all(pairs);
}

/* RFC 8288, sections 2.1 and 3.3. */
TEST(knows_relation_types)
{
    static const pair pairs[] = {
        { "</a>; rel=preload", "/a+p" },
        { "</a>; REL=PRELOAD", "/a+p" },
        { "</a>; Rel=\"pReLoAd\"", "/a+p" },
        { "</a>; rel=\"preload prefetch\"", "/a+p" },
        { "</a>; rel=\"prefetch preload\"", "/a+p" },
        { "</a>; rel=\"x preload y\"", "/a+p" },
        { "</a>; rel=\"  x   preload  \"", "/a+p" },
        { "</a>; rel=\"x\tpreload\ty\"", "/a+p" },
        { "</a>; rel=\"preloa preload\"", "/a+p" },
        { "</a>; rel=\"preloadx preload\"", "/a+p" },
        { "</a>", "/a" },
        { "</a>; rel", "/a" },
        { "</a>; rel=", "/a" },
        { "</a>; rel=\"\"", "/a" },
        { "</a>; rel=\" \"", "/a" },
        { "</a>; rel=prefetch", "/a" },
        { "</a>; rel=preloa", "/a" },
        { "</a>; rel=preloads", "/a" },
        { "</a>; rel=modulepreload", "/a" },
        { "</a>; rel=\"pre load\"", "/a" },
        { "</a>; rel=\"preload,x\"", "/a" },
        { "</a>; rel=\"preload;\"", "/a" },
        { "</a>; rel='preload'", "/a" },
        { "</a>; rel=\"http://x.example/preload\"", "/a" },
        { "</a>; rev=preload", "/a" },
        { "</a>; rel*=preload", "/a" },
        { "</a>; xrel=preload", "/a" },
        { "</a>; relx=preload", "/a" },
        { "</a>; preload", "/a" },
        { "</a>; as=preload", "/a" },
        { NULL, NULL }
    };

    check_all(pairs);
}

/* RFC 8288, section 3.3: later ones are ignored. */
TEST(first_rel_counts)
{
    static const pair pairs[] = {
        { "</a>; rel=preload; rel=prefetch", "/a+p" },
        { "</a>; rel=prefetch; rel=preload", "/a" },
        { "</a>; rel=\"\"; rel=preload", "/a" },
        { "</a>; rel; rel=preload", "/a" },
        { "</a>; rel=prefetch; REL=preload", "/a" },
        { "</a>; rel=prefetch, </b>; rel=preload", "/a | /b+p" },
        { NULL, NULL }
    };

    check_all(pairs);
}

TEST(knows_nopush)
{
    static const pair pairs[] = {
        { "</a>; rel=preload; nopush", "/a+p+n" },
        { "</a>; nopush; rel=preload", "/a+p+n" },
        { "</a>;nopush;rel=preload", "/a+p+n" },
        { "</a>; rel=preload; NoPush", "/a+p+n" },
        { "</a>; rel=preload; nopush=1", "/a+p+n" },
        { "</a>; rel=preload; nopush=\"\"", "/a+p+n" },
        { "</a>; nopush", "/a+n" },
        { "</a>; rel=preload; nopus", "/a+p" },
        { "</a>; rel=preload; nopushx", "/a+p" },
        { "</a>; rel=preload; x-nopush", "/a+p" },
        { "</a>; rel=preload; as=nopush", "/a+p" },
        { "</a>; rel=\"preload nopush\"", "/a+p" },
        { "</a>; nopush, </b>; rel=preload", "/a+n | /b+p" },
        { NULL, NULL }
    };

    check_all(pairs);
}

/* Such a link is of another resource than that which carries it. */
TEST(knows_anchors)
{
    static const pair pairs[] = {
        { "</a>; rel=preload; anchor=\"/b\"", "/a" },
        { "</a>; anchor=\"/b\"; rel=preload", "/a" },
        { "</a>; rel=preload; ANCHOR=x", "/a" },
        { "</a>; rel=preload; anchor=\"#part\"", "/a" },
        { "</a>; rel=preload; anchor*=x; anchors=x; title=anchor", "/a+p" },
        { "</a>; anchor=x, </b>; rel=preload", "/a | /b+p" },
        { NULL, NULL }
    };

    check_all(pairs);
}

TEST(takes_parameters_as_they_come)
{
    static const pair pairs[] = {
        { "</a>; rel=preload; as=font; crossorigin", "/a+p" },
        { "</a>; rel=preload; as=font; crossorigin=anonymous", "/a+p" },
        { "</a>; crossorigin=\"\"; rel=preload", "/a+p" },
        { "</a>; crossorigin; as; rel=preload", "/a+p" },
        { "</a>; as=; rel=preload", "/a+p" },
        { "</a>; title*=UTF-8''x%20y; rel=preload", "/a+p" },
        { "</a>; type=font/woff2; rel=preload", "/a+p" },
        { "</a>; x==y; rel=preload", "/a+p" },
        { "</a>; =x; rel=preload", "/a+p" },
        { "</a>; media=(min-width:1px); rel=preload", "/a+p" },
        { "</a>;; rel=preload", "/a+p" },
        { "</a>; ; ;rel=preload; ;", "/a+p" },
        { "</a>;", "/a" },
        { "</a>;, </b>; rel=preload", "/a | /b+p" },
        { "</a>; rel=preload; rel", "/a+p" },
        { NULL, NULL }
    };

    check_all(pairs);
}

TEST(skips_malformed)
{
    static const pair pairs[] = {
        { "/a", "!/a" },
        { "/a; rel=preload, </b>; rel=preload", "!/a; rel=preload | /b+p" },
        { "</b>, /a>; rel=preload", "/b | !/a>; rel=preload" },
        { "a</b>", "!a</b>" },
        { "<", "!<" },
        { "</a", "!</a" },
        { "</b>, </a; rel=preload", "/b | !</a; rel=preload" },
        { "</a>x, </b>", "!</a>x | /b" },
        { "</a> x; rel=preload, </b>", "!</a> x; rel=preload | /b" },
        { "</a>rel=preload , </b>", "!</a>rel=preload | /b" },
        { "</a></b>, </c>", "!</a></b> | /c" },
        { "</a>>, </b>", "!</a>> | /b" },
        { "</a>; rel=\"preload\"x, </b>", "!</a>; rel=\"preload\"x | /b" },
        { "</a>; rel=\"preload\" \"x, y\", </b>",
          "!</a>; rel=\"preload\" \"x, y\" | /b" },
        { "x \"y, z\" w, </b>", "!x \"y, z\" w | /b" },
        { "x \"y\\\", z\" w, </b>", "!x \"y\\\", z\" w | /b" },
        { "x </y,z> w, </b>", "!x </y,z> w | /b" },
        { "x, y, </b>, z", "!x | !y | /b | !z" },
        { "=", "!=" },
        { ";", "!;" },
        { NULL, NULL }
    };

    check_all(pairs);
}

/* A quote or bracket that is not closed: none of what it is in is a preload,
 * and what was read before stays. */
TEST(skips_what_is_not_closed)
{
    static const char *const fields[] = {
        "</b>; rel=preload, </a>; rel=\"preload",
        "</b>; rel=preload, </a>; rel=preload; title=\"",
        "</b>; rel=preload, </a>; rel=preload; title=\"x\\\"",
        "</b>; rel=preload, </a>; rel=preload; title=\"x\\",
        "</b>; rel=preload, </a; rel=preload",
        "</b>; rel=preload, x\"y", NULL
    };
    int i;

    for (i = 0; fields[i]; ++i) {
        const char *seen = describe(fields[i]);

        if (strncmp(seen, "/b+p | !", 8) || strstr(seen + 8, "+p")) {
            fail_msg("%s\n  is read as  %s", fields[i], seen);
        }
    }
}

/* RFC 3986, section 2: reserved and unreserved characters. */
TEST(knows_characters_of_targets)
{
    static const char punctuation[] = ":/?#[]@!$&'()*+,;=-._~";
    int c;

    for (c = 1; c < 256; ++c) {
        const char *field = apr_psprintf(unit_pool,
                                         "</a%cz>; rel=preload, </b>", c);
        int is_good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
                      || (c >= '0' && c <= '9') || strchr(punctuation, c);
        const char *seen = describe(field);

        if (is_good) {
            assert_string_equal(seen, apr_psprintf(unit_pool,
                                                   "/a%cz+p | /b", c));
        }
        else if (seen[0] != '!' || strstr(seen, "+p")
                 || !strstr(seen, " | /b")) {
            fail_msg("character %d: %s", c, seen);
        }
    }
}

TEST(knows_percent_triplets)
{
    static const pair pairs[] = {
        { "</%20%2F%c3%A9>", "/%20%2F%c3%A9" },
        { "</%>, </b>", "!</%> | /b" },
        { "</%2>, </b>", "!</%2> | /b" },
        { "</%2g>, </b>", "!</%2g> | /b" },
        { "</%g2>, </b>", "!</%g2> | /b" },
        { "</%%20>, </b>", "!</%%20> | /b" },
        { NULL, NULL }
    };

    check_all(pairs);
}

static const char *repeated(const char *text, int times)
{
    apr_size_t len = strlen(text);
    char *all = apr_palloc(unit_pool, len * times + 1);
    int i;

    for (i = 0; i < times; ++i) {
        memcpy(all + len * i, text, len);
    }
    all[len * times] = '\0';
    return all;
}

TEST(reads_many)
{
    const char *value = repeated("</a>; rel=preload, x,", 10000);
    int found = 0, malformed = 0;
    h2x_link_result result;
    h2x_link link;

    while ((result = h2x_link_next(&value, &link)) != H2X_LINK_END) {
        ++*(result == H2X_LINK_FOUND ? &found : &malformed);
    }
    assert_int_equal(found, 10000);
    assert_int_equal(malformed, 10000);
}

/* ---- fields of real life ---- */

/* What may be pushed of a field's links, with spaces between. */
static const char *pushable(const char *field)
{
    static const h2x_resource base = {
        "https", "www.example.com", "/blog/hello/?p=1"
    };
    const char *all = "", *path;
    h2x_link_result result;
    h2x_link link;

    while ((result = next(&field, &link)) != H2X_LINK_END) {
        path = (result == H2X_LINK_FOUND && link.is_preload && !link.is_nopush)
               ? h2x_push_resolve(unit_pool, &base, link.target,
                                  link.target_len)
               : NULL;
        if (path) {
            all = apr_pstrcat(unit_pool, all, *all ? " " : "", path, NULL);
        }
    }
    return *all ? all : "-";
}

/* A line is a field, a tab, and what may be pushed of it. */
static void check_line(char *line)
{
    char *wanted = strrchr(line, '\t');
    const char *seen;

    if (!wanted) {
        fail_msg("no tab: %s", line);
    }
    *wanted++ = '\0';
    seen = pushable(line);
    if (strcmp(seen, wanted)) {
        fail_msg("%s\n  lets push   %s\n  instead of  %s", line, seen, wanted);
    }
}

TEST(fields_of_real_life)
{
    const char *path = UNIT_DATADIR "/link-fields.txt";
    char line[8192];
    apr_file_t *file;
    int count = 0;

    if (apr_file_open(&file, path, APR_FOPEN_READ | APR_FOPEN_BUFFERED,
                      APR_FPROT_OS_DEFAULT, unit_pool)) {
        fail_msg("cannot read %s", path);
    }
    while (apr_file_gets(line, sizeof(line), file) == APR_SUCCESS) {
        apr_size_t len = strlen(line);

        assert_true(len && line[len - 1] == '\n');
        line[len - 1] = '\0';
        if (line[0] && line[0] != '#') {
            check_line(line);
            ++count;
        }
    }
    assert_true(count >= 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT_TEST(names_the_parts),
        UNIT_TEST(reads_several),
        UNIT_TEST(reads_past_empty_elements),
        UNIT_TEST(reads_past_space),
        UNIT_TEST(sees_through_quotes),
        UNIT_TEST(escaped_space_is_space),
        UNIT_TEST(separators_may_be_in_quotes_and_brackets),
        UNIT_TEST(knows_relation_types),
        UNIT_TEST(first_rel_counts),
        UNIT_TEST(knows_nopush),
        UNIT_TEST(knows_anchors),
        UNIT_TEST(takes_parameters_as_they_come),
        UNIT_TEST(skips_malformed),
        UNIT_TEST(skips_what_is_not_closed),
        UNIT_TEST(knows_characters_of_targets),
        UNIT_TEST(knows_percent_triplets),
        UNIT_TEST(reads_many),
        UNIT_TEST(fields_of_real_life),
    };

    return UNIT_RUN(tests);
}
