/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Link fields: the input is the value of one. */

#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include <apr_cstr.h>
#include <apr_strings.h>

#include "h2x_link.h"
#include "h2x_push.h"

static const h2x_resource bases[] = {
    { "https", "www.example.com", "/blog/hello/?p=1" },
    { "http", "a:8080", "/" },
    { "https", "[::1]", "/a/../b?x=/../y" },
    { "https", "a", "*" },
};

/* ---- targets ---- */

static int has_dot_segment(const char *path)
{
    size_t len = strcspn(path, "?"), i, end;

    for (i = 0; i < len; i = end) {
        end = i + 1 + strcspn(path + i + 1, "/?");
        if ((end - i == 2 && path[i + 1] == '.')
            || (end - i == 3 && path[i + 1] == '.' && path[i + 2] == '.')) {
            return 1;
        }
    }
    return 0;
}

static void check_path(const h2x_resource *base, const char *path,
                       size_t target_len)
{
    h2x_resource other = *base;
    const char *c, *again;

    FUZZ_CHECK(path[0] == '/');
    FUZZ_CHECK(strlen(path) <= strlen(base->path) + target_len + 1);
    FUZZ_CHECK(strcmp(path, base->path));
    FUZZ_CHECK(!has_dot_segment(path));
    for (c = path; *c; ++c) {
        FUZZ_CHECK(*c > ' ' && *c < 0x7f && *c != '#');
    }
    /* it is a reference to itself, unless it begins as an authority does */
    other.path = "/other";
    again = h2x_push_resolve(unit_pool, &other, path, strlen(path));
    FUZZ_CHECK(path[1] == '/' || (again ? !strcmp(again, path)
                                        : !strcmp(path, other.path)));
}

static void check_target(const char *target, size_t len, h2x_diary *diary)
{
    size_t i;

    for (i = 0; i < sizeof(bases) / sizeof(bases[0]); ++i) {
        h2x_resource resource = bases[i];

        resource.path = h2x_push_resolve(unit_pool, &bases[i], target, len);
        if (resource.path) {
            check_path(&bases[i], resource.path, len);
            h2x_diary_add(diary, &resource);
            FUZZ_CHECK(!h2x_diary_add(diary, &resource));
            FUZZ_CHECK(diary->count <= diary->size);
        }
    }
}

/* Makes a link, and reads it. Returns 0 when the text is no reference. */
static int check_make(const char *text)
{
    const char *made = h2x_link_make(unit_pool, text);
    h2x_link link;

    if (!made) {
        return 0;
    }
    made = fuzz_text(made, strlen(made));
    FUZZ_CHECK(h2x_link_next(&made, &link) == H2X_LINK_FOUND);
    FUZZ_CHECK(link.is_preload && !link.is_nopush);
    FUZZ_CHECK(link.target_len == strlen(text));
    FUZZ_CHECK(!memcmp(link.target, text, link.target_len));
    FUZZ_CHECK(!*made && h2x_link_next(&made, &link) == H2X_LINK_END);
    return 1;
}

/* ---- fields ---- */

/* A link or what is malformed is the same when it is alone. */
static void check_alone(const h2x_link *link, h2x_link_result result)
{
    const char *text = fuzz_text(link->text, link->text_len), *value = text;
    h2x_link alone;

    FUZZ_CHECK(h2x_link_next(&value, &alone) == result);
    FUZZ_CHECK(alone.text == text && alone.text_len == link->text_len);
    FUZZ_CHECK(!*value);
    if (result == H2X_LINK_FOUND) {
        FUZZ_CHECK(alone.target_len == link->target_len);
        FUZZ_CHECK(alone.is_preload == link->is_preload);
        FUZZ_CHECK(alone.is_nopush == link->is_nopush);
    }
}

/* Nothing is passed over but space and commas. */
static void check_text(const h2x_link *link, const char *before,
                       const char *after)
{
    const char *end;

    FUZZ_CHECK(link->text_len && link->text >= before);
    FUZZ_CHECK(link->text_len <= (size_t)(after - link->text));
    FUZZ_CHECK(before + strspn(before, " \t,") == link->text);
    end = link->text + link->text_len;
    FUZZ_CHECK(!strchr(" \t", end[-1]));
    FUZZ_CHECK(end + strspn(end, " \t") == after);
    FUZZ_CHECK(!*after || *after == ',');
}

static void check_found(const h2x_link *link, h2x_diary *diary)
{
    FUZZ_CHECK(link->text[0] == '<' && link->target == link->text + 1);
    FUZZ_CHECK(link->target_len + 2 <= link->text_len);
    FUZZ_CHECK(link->target[link->target_len] == '>');
    FUZZ_CHECK(check_make(fuzz_text(link->target, link->target_len)));
    check_target(fuzz_copy(link->target, link->target_len), link->target_len,
                 diary);
}

static void check_field(const char *value)
{
    h2x_diary diary = { .size = 4 };
    const char *end = value + strlen(value), *before = value;
    h2x_link_result result;
    h2x_link link;

    while ((result = h2x_link_next(&value, &link)) != H2X_LINK_END) {
        FUZZ_CHECK(value > before && value <= end);
        check_text(&link, before, value);
        check_alone(&link, result);
        if (result == H2X_LINK_FOUND) {
            check_found(&link, &diary);
        }
        before = value;
    }
    FUZZ_CHECK(value == end);
    h2x_diary_clear(&diary);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const void *nul = size ? memchr(data, 0, size) : NULL;
    size_t len = nul ? (size_t)((const uint8_t *)nul - data) : size;
    h2x_diary diary = { .size = 1 };
    const char *value, *method;

    fuzz_begin(data, size);
    value = fuzz_text(data, len);
    check_field(value);
    if (check_make(value)) {
        check_target(fuzz_copy(value, len), len, &diary);
    }
    else {
        /* no reference: anything but a wrong access will do */
        h2x_push_resolve(unit_pool, &bases[0], fuzz_copy(data, size), size);
    }
    method = h2x_push_method(value);
    FUZZ_CHECK(!method || !strcmp(method, "GET") || !strcmp(method, "HEAD"));
    h2x_diary_clear(&diary);
    fuzz_end();
    return 0;
}
