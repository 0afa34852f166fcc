/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <apr_strings.h>

#include "h2x_link.h"
#include "h2x_push.h"

static const h2x_resource rfc_base = { "http", "a", "/b/c/d;p?q" };

/* Text in memory that ends just where it does. To be freed. */
static char *tighten(const char *text, apr_size_t len)
{
    char *tight = malloc(len ? len : 1);

    memcpy(tight, text, len);
    return tight;
}

/* A target, and the path that it is, or NULL. */
typedef struct {
    const char *given;
    const char *wanted;
} pair;

/* ---- targets ---- */

static const char *resolve(const h2x_resource *base, const char *target)
{
    apr_size_t len = strlen(target);
    char *tight = tighten(target, len);
    const char *path = h2x_push_resolve(unit_pool, base, tight, len);

    assert_memory_equal(tight, target, len);
    free(tight); /* the path is a copy */
    return path;
}

/* Wants a path, or NULL. */
static void check_target(const h2x_resource *base, const char *target,
                         const char *wanted)
{
    const char *path = resolve(base, target);

    if ((path || wanted) && (!path || !wanted || strcmp(path, wanted))) {
        fail_msg("%s://%s%s: <%s> is %s instead of %s", base->scheme,
                 base->authority, base->path, target, path ? path : "NULL",
                 wanted ? wanted : "NULL");
    }
}

static void check_targets(const h2x_resource *base, const pair *pairs)
{
    for (; pairs->given; ++pairs) {
        check_target(base, pairs->given, pairs->wanted);
    }
}

/* RFC 3986, section 5.4.1. */
TEST(resolves_normal_examples)
{
    static const pair pairs[] = {
        { "g:h", NULL }, { "g", "/b/c/g" }, { "./g", "/b/c/g" },
        { "g/", "/b/c/g/" }, { "/g", "/g" }, { "//g", NULL },
        { "?y", "/b/c/d;p?y" }, { "g?y", "/b/c/g?y" }, { "#s", NULL },
        { "g#s", "/b/c/g" }, { "g?y#s", "/b/c/g?y" }, { ";x", "/b/c/;x" },
        { "g;x", "/b/c/g;x" }, { "g;x?y#s", "/b/c/g;x?y" }, { "", NULL },
        { ".", "/b/c/" }, { "./", "/b/c/" }, { "..", "/b/" },
        { "../", "/b/" }, { "../g", "/b/g" }, { "../..", "/" },
        { "../../", "/" }, { "../../g", "/g" }, { NULL, NULL }
    };

    check_targets(&rfc_base, pairs);
}

/* RFC 3986, section 5.4.2. */
TEST(resolves_abnormal_examples)
{
    static const pair pairs[] = {
        { "../../../g", "/g" }, { "../../../../g", "/g" }, { "/./g", "/g" },
        { "/../g", "/g" }, { "g.", "/b/c/g." }, { ".g", "/b/c/.g" },
        { "g..", "/b/c/g.." }, { "..g", "/b/c/..g" }, { "./../g", "/b/g" },
        { "./g/.", "/b/c/g/" }, { "g/./h", "/b/c/g/h" },
        { "g/../h", "/b/c/h" }, { "g;x=1/./y", "/b/c/g;x=1/y" },
        { "g;x=1/../y", "/b/c/y" }, { "g?y/./x", "/b/c/g?y/./x" },
        { "g?y/../x", "/b/c/g?y/../x" }, { "g#s/./x", "/b/c/g" },
        { "g#s/../x", "/b/c/g" }, { "http:g", NULL }, { NULL, NULL }
    };

    check_targets(&rfc_base, pairs);
}

/* RFC 3986, section 5.2.4. */
TEST(resolves_dot_segments)
{
    static const pair pairs[] = {
        { "/a/b/c/./../../g", "/a/g" }, { "mid/content=5/../6", "/b/c/mid/6" },
        { "/..", "/" }, { "/.", "/" }, { "/../", "/" }, { "/./", "/" },
        { "/a/..", "/" }, { "/a/.", "/a/" }, { "/a/../", "/" },
        { "/a/../..", "/" }, { "/a/../../../b", "/b" },
        { "/...", "/..." }, { "/.../a", "/.../a" }, { "/..a/b", "/..a/b" },
        { "/a../b", "/a../b" }, { "/.a/./b", "/.a/b" },
        { "/a//../b", "/a/b" }, { "/a//b/", "/a//b/" },
        { "..?x/../y", "/b/?x/../y" }, { ".?", "/b/c/?" },
        { "/a/%2e%2e/b", "/a/%2e%2e/b" }, { NULL, NULL }
    };

    check_targets(&rfc_base, pairs);
}

/* RFC 3986, section 4.2: a colon in the first segment ends a scheme. */
TEST(resolves_colons)
{
    static const pair pairs[] = {
        { "/g:h", "/g:h" }, { "./g:h", "/b/c/g:h" }, { "i/g:h", "/b/c/i/g:h" },
        { "?y:z", "/b/c/d;p?y:z" }, { "g?y:z", "/b/c/g?y:z" },
        { "?u=http://a/g", "/b/c/d;p?u=http://a/g" }, { "g#s:t", "/b/c/g" },
        { NULL, NULL }
    };

    check_targets(&rfc_base, pairs);
}

TEST(resolves_other_bases)
{
    static const h2x_resource root = { "https", "a", "/" };
    static const h2x_resource file = { "https", "a", "/x" };
    static const h2x_resource query = { "https", "a", "/x/y?u=/v/../w" };
    static const h2x_resource dots = { "https", "a", "/x/../y/./z" };

    check_target(&root, "g", "/g");
    check_target(&root, "..", NULL);
    check_target(&root, "?y", "/?y");
    check_target(&root, "//a", NULL);
    check_target(&file, "g", "/g");
    check_target(&file, ".", "/");
    check_target(&query, "g", "/x/g");
    check_target(&query, "?z", "/x/y?z");
    check_target(&query, "y", "/x/y");
    check_target(&query, "?u=/v/../w", NULL);
    check_target(&dots, "g", "/y/g");
    check_target(&dots, "../../../g", "/g");
}

TEST(same_resource_is_none)
{
    static const char *const targets[] = {
        "", "#", "#s", "#s?x", "##", "d;p?q", "d;p?q#s", "/b/c/d;p?q",
        "./d;p?q", "../c/d;p?q", "?q", "?q#s", "//a/b/c/d;p?q",
        "http://a/b/c/d;p?q", "HTTP://A:80/b/c/d;p?q#s", NULL
    };
    int i;

    for (i = 0; targets[i]; ++i) {
        check_target(&rfc_base, targets[i], NULL);
    }
    check_target(&rfc_base, "d;p", "/b/c/d;p");
    check_target(&rfc_base, "?", "/b/c/d;p?");
    check_target(&rfc_base, "?Q", "/b/c/d;p?Q");
}

/* RFC 9110, section 4.3.1. */
TEST(same_origin)
{
    static const h2x_resource http = { "http", "a.example", "/b" };
    static const h2x_resource https = { "https", "A.Example:443", "/b" };
    static const h2x_resource port = { "https", "a.example:8443", "/b" };
    static const h2x_resource ip6 = { "https", "[2001:db8::1]", "/b" };
    static const pair of_http[] = {
        { "http://a.example/g", "/g" }, { "HTTP://A.EXAMPLE/g", "/g" },
        { "http://a.example:80/g", "/g" }, { "http://a.example:/g", "/g" },
        { "//a.example/g", "/g" }, { "//A.example:80/g?y", "/g?y" },
        { "http://a.example", "/" }, { "//a.example", "/" },
        { "http://a.example?y", "/?y" }, { "//a.example#s", "/" },
        { "http://a.example/../g", "/g" }, { "//a.example//g", "//g" },
        { NULL, NULL }
    };
    static const pair of_https[] = {
        { "https://a.example/g", "/g" }, { "https://a.example:443/g", "/g" },
        { "https://a.example:/g", "/g" }, { "//a.example:443", "/" },
        { NULL, NULL }
    };

    check_targets(&http, of_http);
    check_targets(&https, of_https);
    check_target(&port, "https://a.example:8443/g", "/g");
    check_target(&port, "//A.EXAMPLE:8443/g", "/g");
    check_target(&ip6, "https://[2001:DB8::1]/g", "/g");
    check_target(&ip6, "https://[2001:db8::1]:443/g", "/g");
}

TEST(other_origins_are_none)
{
    static const h2x_resource http = { "http", "a.example", "/b" };
    static const h2x_resource https = { "https", "a.example", "/b" };
    static const h2x_resource port = { "https", "a.example:8443", "/b" };
    static const h2x_resource ip6 = { "https", "[2001:db8::1]", "/b" };
    static const char *const of_any[] = {
        "ftp://a.example/g", "wss://a.example/g", "data:,x", "about:blank",
        "https:", "http:", "https:g", "https:/g", "http:/g", "httpss://a/g",
        "//b.example/g", "//example/g", "//a.example.b/g", "//xa.example/g",
        "//a.example:81/g", "//a.example:444/g", "//x@a.example/g",
        "//a.example@b/g", "//:443/g", "//:80/g", "//", "///g", "////g",
        "//[2001:db8::2]/g", "//[2001:db8::1]:444/g", "://a.example/g",
        ":g", "1a:b", "a.example:443", NULL
    };
    int i;

    for (i = 0; of_any[i]; ++i) {
        check_target(&http, of_any[i], NULL);
        check_target(&https, of_any[i], NULL);
        check_target(&port, of_any[i], NULL);
        check_target(&ip6, of_any[i], NULL);
    }
    check_target(&http, "https://a.example/g", NULL);
    check_target(&http, "//a.example:443/g", NULL);
    check_target(&https, "http://a.example/g", NULL);
    check_target(&https, "//a.example:80/g", NULL);
    check_target(&port, "https://a.example/g", NULL);
    check_target(&port, "//a.example:443/g", NULL);
}

/* RFC 3986, section 6.2.3: ports that are left out. */
TEST(compares_authorities)
{
    static const struct {
        const char *scheme, *one, *other;
        int same;
    } cases[] = {
        { "https", "a", "a:443", 1 }, { "https", "a:", "A:0443", 1 },
        { "https", "a", "a:80", 0 }, { "http", "a:80", "a", 1 },
        { "http", "a", "b", 0 }, { "http", "[::1]:80", "[::1]", 1 },
        { NULL, "a:443", "a:443", 1 }, { NULL, "a:443", "A:0443", 1 },
        { NULL, "a:443", "a", 0 }, { NULL, "a:80", "a", 0 },
        { NULL, "a", "a:443", 0 }, { NULL, "a", "a:", 1 },
    };
    apr_size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); ++i) {
        assert_int_equal(
            h2x_push_is_authority(cases[i].scheme, cases[i].one,
                                  cases[i].other, strlen(cases[i].other)),
            cases[i].same);
    }
}

/* Whatever it is, what comes out is a path. */
TEST(never_leaves_the_root)
{
    static const char *const bases[] = { "/", "/b/c", "*", "", "?x" };
    static const char *const targets[] = {
        "g", "?y", "/g", "..", "../g", "./../../../../g", "//a", "//a?y", ";",
        "/..", "/../..", "g/../../..", "./.", "@", "g/..//../..//h"
    };
    unsigned int i, j;

    for (i = 0; i < sizeof(bases) / sizeof(bases[0]); ++i) {
        h2x_resource base = { "https", "a", bases[i] };

        for (j = 0; j < sizeof(targets) / sizeof(targets[0]); ++j) {
            const char *path = resolve(&base, targets[j]);

            assert_true(!path || (path[0] == '/' && !strchr(path, '#')));
            assert_true(!path || !strstr(path, "/../"));
        }
    }
}

/* ---- links that are made ---- */

TEST(makes_links)
{
    static const pair pairs[] = {
        { "/a.css", "</a.css>; rel=preload; as=style" },
        { "/a.js", "</a.js>; rel=preload; as=script" },
        { "/a.mjs", "</a.mjs>; rel=preload; as=script" },
        { "/a.woff2", "</a.woff2>; rel=preload; as=font; crossorigin" },
        { "/a.woff", "</a.woff>; rel=preload; as=font; crossorigin" },
        { "/a.ttf", "</a.ttf>; rel=preload; as=font; crossorigin" },
        { "/a.png", "</a.png>; rel=preload; as=image" },
        { "/a.jpeg", "</a.jpeg>; rel=preload; as=image" },
        { "/a.svg", "</a.svg>; rel=preload; as=image" },
        { "/a.webp", "</a.webp>; rel=preload; as=image" },
        { "/a.vtt", "</a.vtt>; rel=preload; as=track" },
        { "/a.json", "</a.json>; rel=preload; as=fetch; crossorigin" },
        { "/A.CSS", "</A.CSS>; rel=preload; as=style" },
        { "/a.min.js", "</a.min.js>; rel=preload; as=script" },
        { "/a.css?v=1.js", "</a.css?v=1.js>; rel=preload; as=style" },
        { "/a.css#b.js", "</a.css#b.js>; rel=preload; as=style" },
        { "/a?b.css", "</a?b.css>; rel=preload" },
        { "/a.css/", "</a.css/>; rel=preload" },
        { "/a.css/b", "</a.css/b>; rel=preload" },
        { "/a.scss", "</a.scss>; rel=preload" },
        { "/a.jss", "</a.jss>; rel=preload" },
        { "/css", "</css>; rel=preload" },
        { "css", "<css>; rel=preload" },
        { "/a.", "</a.>; rel=preload" },
        { "/", "</>; rel=preload" },
        { "../a.css", "<../a.css>; rel=preload; as=style" },
        { "//b.example/a.js", "<//b.example/a.js>; rel=preload; as=script" },
        { NULL, NULL }
    };
    int i;

    for (i = 0; pairs[i].given; ++i) {
        assert_string_equal(h2x_link_make(unit_pool, pairs[i].given),
                            pairs[i].wanted);
    }
}

TEST(made_links_are_read_back)
{
    static const char *const targets[] = {
        "/a.css", "/a.woff2?x", "/a,b;c.js", "https://b.example:8443/x?y#z",
        "?y", "/%20", "/a'b(c)*!$&+=@:[].png", "/;rel=x;nopush", NULL
    };
    int i;

    for (i = 0; targets[i]; ++i) {
        const char *value = h2x_link_make(unit_pool, targets[i]);
        h2x_link link;

        assert_non_null(value);
        assert_int_equal(h2x_link_next(&value, &link), H2X_LINK_FOUND);
        assert_true(link.is_preload && !link.is_nopush);
        assert_int_equal(link.target_len, strlen(targets[i]));
        assert_memory_equal(link.target, targets[i], link.target_len);
        assert_int_equal(h2x_link_next(&value, &link), H2X_LINK_END);
    }
}

TEST(makes_no_link_of_other_text)
{
    static const char *const targets[] = {
        " ", "/a b", "/a.css ", " /a.css", "/a\tb", "/a\r\nb", "/a\x7f",
        "/caf\xc3\xa9", "/a\"b", "/a<b", "/a>b", "</a>", "/a>; nopush",
        "/a\\b", "/a^b", "/a`b", "/{a}", "/a|b", "/%", "/%2", "/%zz", NULL
    };
    int i;

    for (i = 0; targets[i]; ++i) {
        if (h2x_link_make(unit_pool, targets[i])) {
            fail_msg("made of %s", targets[i]);
        }
    }
}

/* ---- Accept-Push-Policy ---- */

TEST(methods)
{
    static const char *const get[] = {
        "default", "fast-load", "Fast-Load", "unknown", "", " ", "non",
        "nonesuch", "heads", "\"none\"", ";", "default; none", NULL
    };
    static const char *const head[] = {
        "head", "HEAD", " head", "\thead\t", "head ", "head;x", "head; x=none",
        "head ;x", NULL
    };
    static const char *const none[] = {
        "none", "None", "NONE", "  none  ", "none;x=y", "none; head", NULL
    };
    int i;

    assert_string_equal(h2x_push_method(NULL), "GET");
    for (i = 0; get[i]; ++i) {
        assert_string_equal(h2x_push_method(get[i]), "GET");
    }
    for (i = 0; head[i]; ++i) {
        assert_string_equal(h2x_push_method(head[i]), "HEAD");
    }
    for (i = 0; none[i]; ++i) {
        assert_null(h2x_push_method(none[i]));
    }
}

/* ---- the diary ---- */

static int add(h2x_diary *diary, const char *scheme, const char *authority,
               const char *path)
{
    h2x_resource resource = { scheme, authority, path };

    return h2x_diary_add(diary, &resource);
}

static int add_path(h2x_diary *diary, const char *path)
{
    return add(diary, "https", "a", path);
}

TEST(diary_of_no_size)
{
    h2x_diary diary = { 0 };

    assert_int_equal(add_path(&diary, "/"), 1);
    assert_int_equal(add_path(&diary, "/"), 1);
    assert_null(diary.digests);
    assert_int_equal(diary.count, 0);
    h2x_diary_clear(&diary);
}

TEST(diary_keeps)
{
    h2x_diary diary = { .size = 3 };
    char path[] = "/a";

    assert_null(diary.digests); /* until there is something */
    assert_int_equal(add_path(&diary, path), 1);
    path[1] = 'x'; /* the diary has no part of it */
    assert_int_equal(add_path(&diary, "/a"), 0);
    assert_int_equal(add_path(&diary, path), 1);
    assert_int_equal(add_path(&diary, "/a"), 0);
    assert_int_equal(add_path(&diary, "/x"), 0);
    assert_int_equal(diary.count, 2);
    h2x_diary_clear(&diary);
}

TEST(diary_forgets_the_oldest)
{
    h2x_diary diary = { .size = 3 };
    int i;

    for (i = 0; i < 100; ++i) {
        const char *path = apr_psprintf(unit_pool, "/%d", i);

        assert_int_equal(add_path(&diary, path), 1);
        assert_int_equal(add_path(&diary, path), 0);
        assert_true(diary.count <= 3);
    }
    assert_int_equal(add_path(&diary, "/97"), 0);
    assert_int_equal(add_path(&diary, "/98"), 0);
    assert_int_equal(add_path(&diary, "/99"), 0);
    assert_int_equal(add_path(&diary, "/96"), 1); /* 97 goes */
    assert_int_equal(add_path(&diary, "/98"), 0);
    assert_int_equal(add_path(&diary, "/99"), 0);
    assert_int_equal(add_path(&diary, "/97"), 1);
    h2x_diary_clear(&diary);
}

TEST(diary_of_one)
{
    h2x_diary diary = { .size = 1 };

    assert_int_equal(add_path(&diary, "/a"), 1);
    assert_int_equal(add_path(&diary, "/a"), 0);
    assert_int_equal(add_path(&diary, "/b"), 1);
    assert_int_equal(add_path(&diary, "/b"), 0);
    assert_int_equal(add_path(&diary, "/a"), 1);
    h2x_diary_clear(&diary);
}

/* Any part makes another resource, and none runs into the next. */
TEST(diary_tells_resources_apart)
{
    static const h2x_resource resources[] = {
        { "https", "a", "/b" }, { "http", "a", "/b" }, { "https", "b", "/b" },
        { "https", "a", "/c" }, { "https", "a", "/B" }, { "https", "a", "/b?" },
        { "https", "a", "/b/" }, { "https", "a", "/" }, { "https", "", "a/b" },
        { "https", "a/b", "" }, { "httpsa", "", "/b" }, { "http", "sa", "/b" },
        { "", "https", "a/b" }, { "", "", "httpsa/b" }, { "", "", "" },
        { "https", "/b", "a" }, { "a", "https", "/b" },
        { "https", "a:443", "/b" }
    };
    int i, count = sizeof(resources) / sizeof(resources[0]);
    h2x_diary diary = { .size = 64 };

    for (i = 0; i < count; ++i) {
        assert_int_equal(h2x_diary_add(&diary, &resources[i]), 1);
    }
    for (i = 0; i < count; ++i) {
        assert_int_equal(h2x_diary_add(&diary, &resources[i]), 0);
    }
    h2x_diary_clear(&diary);
}

TEST(diary_is_cleared)
{
    h2x_diary diary = { .size = 2 };
    int i;

    for (i = 0; i < 3; ++i) {
        assert_int_equal(add_path(&diary, "/a"), 1);
        assert_int_equal(add_path(&diary, "/a"), 0);
        h2x_diary_clear(&diary);
        assert_null(diary.digests);
        assert_int_equal(diary.count, 0);
        assert_int_equal(diary.size, 2);
        h2x_diary_clear(&diary); /* once more does no harm */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT_TEST(resolves_normal_examples),
        UNIT_TEST(resolves_abnormal_examples),
        UNIT_TEST(resolves_dot_segments),
        UNIT_TEST(resolves_colons),
        UNIT_TEST(resolves_other_bases),
        UNIT_TEST(same_resource_is_none),
        UNIT_TEST(same_origin),
        UNIT_TEST(other_origins_are_none),
        UNIT_TEST(compares_authorities),
        UNIT_TEST(never_leaves_the_root),
        UNIT_TEST(makes_links),
        UNIT_TEST(made_links_are_read_back),
        UNIT_TEST(makes_no_link_of_other_text),
        UNIT_TEST(methods),
        UNIT_TEST(diary_of_no_size),
        UNIT_TEST(diary_keeps),
        UNIT_TEST(diary_forgets_the_oldest),
        UNIT_TEST(diary_of_one),
        UNIT_TEST(diary_tells_resources_apart),
        UNIT_TEST(diary_is_cleared),
    };

    return UNIT_RUN(tests);
}
