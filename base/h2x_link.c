/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <string.h>

#include <apr_lib.h>
#include <apr_strings.h>

#include "h2x_field.h"
#include "h2x_link.h"

#define OWS " \t"

/* Returns nonzero if all characters are allowed in URIs (RFC 3986, section 2)
 * and each % begins a valid percent-encoding. */
static int is_reference(const char *s, apr_size_t len)
{
    apr_size_t i;

    for (i = 0; i < len; ++i) {
        if (s[i] == '%') {
            if (len - i < 3 || !apr_isxdigit(s[i + 1])
                || !apr_isxdigit(s[i + 2])) {
                return 0;
            }
        }
        else if (!s[i] || (s[i] & 0x80) || (!apr_isalnum(s[i])
                           && !strchr("-._~:/?#[]@!$&'()*+,;=", s[i]))) {
            return 0;
        }
    }
    return 1;
}

/* Returns the end of the quoted string that begins here, or NULL. */
static const char *end_of_quoted(const char *s)
{
    for (++s; *s && *s != '"'; ++s) {
        if (*s == '\\' && s[1]) {
            ++s;
        }
    }
    return *s ? s + 1 : NULL;
}

/*
 * Returns the comma that ends a malformed link, or the end of the value. One
 * within <> or quotes is skipped; a < that is not closed is ignored, and a
 * quote that is not closed extends to the end.
 */
static const char *skip_malformed(const char *s)
{
    while (*s && *s != ',') {
        const char *end = NULL;

        if (*s == '<') {
            end = s + 1 + strcspn(s + 1, "<>");
            end = (*end == '>') ? end + 1 : NULL;
        }
        else if (*s == '"') {
            end = end_of_quoted(s);
            if (!end) {
                return s + strlen(s);
            }
        }
        s = end ? end : s + 1;
    }
    return s;
}

/* Returns nonzero if a word is in a list that is separated by spaces. */
static int has_word(const char *list, apr_size_t len, int is_quoted,
                    const char *word)
{
    apr_size_t i, at = 0;
    int is_same = 1;

    for (i = 0; i < len; ++i) {
        if (is_quoted && list[i] == '\\' && i + 1 < len) {
            ++i;
        }
        if (apr_isspace(list[i])) {
            if (is_same && at && !word[at]) {
                return 1;
            }
            at = 0;
            is_same = 1;
            continue;
        }
        if (is_same) {
            is_same = (word[at] && apr_tolower(list[i]) == word[at]);
            at += is_same;
        }
    }
    return is_same && at && !word[at];
}

/*
 * Reads the parameters of a link (RFC 8288, appendix B.3). Values without
 * quotes may have characters that are not allowed in a token, as in practice.
 * @return the end of the parameters, or NULL when a quote is not closed
 */
static const char *read_params(const char *s, h2x_link *link)
{
    int has_rel = 0, has_anchor = 0, is_quoted;

    for (s += strspn(s, OWS); *s == ';'; s += strspn(s, OWS)) {
        const char *name, *value = "";
        apr_size_t name_len, value_len = 0;

        name = s + 1 + strspn(s + 1, OWS);
        name_len = strcspn(name, OWS "=;,");
        s = name + name_len + strspn(name + name_len, OWS);
        is_quoted = 0;
        if (*s == '=') {
            value = s + 1 + strspn(s + 1, OWS);
            is_quoted = (*value == '"');
            if (is_quoted) {
                s = end_of_quoted(value++);
                if (!s) {
                    return NULL;
                }
                value_len = (apr_size_t)(s - 1 - value);
            }
            else {
                value_len = strcspn(value, ";,");
                s = value + value_len;
            }
        }
        if (h2x_field_equals(name, name_len, "rel") && !has_rel) {
            has_rel = 1;
            link->is_preload = has_word(value, value_len, is_quoted,
                                        "preload");
        }
        else if (h2x_field_equals(name, name_len, "anchor")) {
            has_anchor = 1;
        }
        else if (h2x_field_equals(name, name_len, "nopush")) {
            link->is_nopush = 1;
        }
    }
    if (has_anchor) {
        link->is_preload = 0;
    }
    return s;
}

/* Reads a link. Returns its end, or NULL when it is malformed. */
static const char *read_link(const char *s, h2x_link *link)
{
    if (*s != '<') {
        return NULL;
    }
    link->target = s + 1;
    link->target_len = strcspn(link->target, "<>");
    s = link->target + link->target_len;
    if (*s != '>' || !is_reference(link->target, link->target_len)) {
        return NULL;
    }
    s = read_params(s + 1, link);
    return (s && (!*s || *s == ',')) ? s : NULL;
}

h2x_link_result h2x_link_next(const char **value, h2x_link *link)
{
    const char *end;

    memset(link, 0, sizeof(*link));
    *value += strspn(*value, OWS ",");
    if (!**value) {
        return H2X_LINK_END;
    }
    link->text = *value;
    end = read_link(*value, link);
    *value = end ? end : skip_malformed(*value);
    link->text_len = (apr_size_t)(*value - link->text);
    while (link->text_len && strchr(OWS, link->text[link->text_len - 1])) {
        --link->text_len;
    }
    return end ? H2X_LINK_FOUND : H2X_LINK_MALFORMED;
}

/* Returns the destination of the Fetch standard for a target, by the extension
 * of its path; NULL: unknown. */
static const char *destination(const char *target)
{
    static const struct {
        const char *ending;
        const char *as;
    } known[] = {
        { "css", "style" }, { "js", "script" }, { "mjs", "script" },
        { "woff2", "font" }, { "woff", "font" }, { "ttf", "font" },
        { "otf", "font" }, { "avif", "image" }, { "gif", "image" },
        { "ico", "image" }, { "jpeg", "image" }, { "jpg", "image" },
        { "png", "image" }, { "svg", "image" }, { "webp", "image" },
        { "vtt", "track" }, { "json", "fetch" }, { "wasm", "fetch" },
    };
    apr_size_t i, len = strcspn(target, "?#"), from = len;

    while (from && apr_isalnum(target[from - 1])) {
        --from;
    }
    for (i = 0; from && target[from - 1] == '.'
                && i < sizeof(known) / sizeof(known[0]); ++i) {
        if (h2x_field_equals(target + from, len - from, known[i].ending)) {
            return known[i].as;
        }
    }
    return NULL;
}

const char *h2x_link_make(apr_pool_t *p, const char *target)
{
    const char *as = destination(target);

    if (!is_reference(target, strlen(target))) {
        return NULL;
    }
    if (!as) {
        return apr_pstrcat(p, "<", target, ">; rel=preload", NULL);
    }
    /* browsers use a preload of these two only if it is anonymous */
    return apr_pstrcat(p, "<", target, ">; rel=preload; as=", as,
                       !strcmp(as, "font") || !strcmp(as, "fetch")
                       ? "; crossorigin" : NULL, NULL);
}
