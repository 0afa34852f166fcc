/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <stdlib.h>
#include <string.h>

#include <apr_cstr.h>
#include <apr_lib.h>
#include <apr_strings.h>

#include <openssl/sha.h>

#include "h2x_field.h"
#include "h2x_push.h"

#define OWS " \t"

/* ---- targets ---- */

/*
 * Removes the port from an authority. Returns it, or the scheme's default; ""
 * if there is no scheme.
 */
static const char *split_port(const char *scheme, const char *authority,
                              apr_size_t *len)
{
    apr_size_t i = *len;

    while (i && apr_isdigit(authority[i - 1])) {
        --i;
    }
    if (i && authority[i - 1] == ':') {
        const char *port = authority + i;
        int has_port = (i < *len);

        *len = i - 1;
        if (has_port) {
            return port;
        }
    }
    if (!scheme) {
        return "";
    }
    return apr_cstr_casecmp(scheme, "https") ? "80" : "443";
}

int h2x_push_is_authority(const char *scheme, const char *authority,
                          const char *other, apr_size_t other_len)
{
    apr_size_t len = strlen(authority);
    const char *port = split_port(scheme, authority, &len);
    const char *other_port = split_port(scheme, other, &other_len);

    return len == other_len && !apr_cstr_casecmpn(authority, other, len)
           && strtoul(port, NULL, 10) == strtoul(other_port, NULL, 10);
}

/*
 * Removes scheme and authority from a reference. Returns the rest of it, or
 * NULL if the origin is not that of the base.
 */
static const char *strip_origin(apr_pool_t *p, const h2x_resource *base,
                                const char *ref)
{
    apr_size_t len = strcspn(ref, ":/?");

    if (ref[len] == ':') {
        if (!h2x_field_equals(ref, len, base->scheme)
            || strncmp(ref + len + 1, "//", 2)) {
            return NULL;
        }
        ref += len + 1;
    }
    if (strncmp(ref, "//", 2)) {
        return ref;
    }
    ref += 2;
    len = strcspn(ref, "/?");
    if (!h2x_push_is_authority(base->scheme, base->authority, ref, len)) {
        return NULL;
    }
    ref += len;
    return (*ref == '/') ? ref : apr_pstrcat(p, "/", ref, NULL);
}

/* Removes dot segments from a path (RFC 3986, section 5.2.4). */
static void remove_dots(char *path)
{
    char *from = path, *to = path;

    while (*from) {
        apr_size_t len = 1 + strcspn(from + 1, "/");
        int is_up = (len == 3 && from[1] == '.' && from[2] == '.');
        int is_dot = is_up || (len == 2 && from[1] == '.');

        while (is_up && to > path && *--to != '/') {
            continue;
        }
        if (is_dot && !from[len]) {
            *to++ = '/';
        }
        else if (!is_dot) {
            memmove(to, from, len);
            to += len;
        }
        from += len;
    }
    *to = '\0';
}

const char *h2x_push_resolve(apr_pool_t *p, const h2x_resource *base,
                             const char *target, apr_size_t target_len)
{
    const char *ref = apr_pstrmemdup(p, target, target_len);
    apr_size_t base_len = strcspn(base->path, "?"), path_len;
    const char *query;
    char *path;

    *(char *)(ref + strcspn(ref, "#")) = '\0';
    if (!*ref || !(ref = strip_origin(p, base, ref))) {
        return NULL;
    }
    path_len = strcspn(ref, "?");
    query = ref + path_len;
    if (*ref == '/') {
        base_len = 0;
    }
    else if (path_len) {
        /* relative to the base path up to its last slash */
        while (base_len && base->path[base_len - 1] != '/') {
            --base_len;
        }
    }
    path = apr_pstrcat(p, apr_pstrmemdup(p, base->path, base_len),
                       apr_pstrmemdup(p, ref, path_len), NULL);
    if (*path != '/') {
        return NULL;
    }
    remove_dots(path);
    path = apr_pstrcat(p, path, query, NULL);
    return strcmp(path, base->path) ? path : NULL;
}

/* ---- Accept-Push-Policy ---- */

const char *h2x_push_method(const char *policy)
{
    apr_size_t len;

    if (!policy) {
        return "GET";
    }
    policy += strspn(policy, OWS);
    len = strcspn(policy, OWS ";");
    if (h2x_field_equals(policy, len, "none")) {
        return NULL;
    }
    return h2x_field_equals(policy, len, "head") ? "HEAD" : "GET";
}

/* ---- the diary ---- */

static apr_uint64_t digest_of(const h2x_resource *resource)
{
    const char *parts[] = {
        resource->scheme, resource->authority, resource->path
    };
    unsigned char hashes[3][SHA256_DIGEST_LENGTH];
    unsigned char hash[SHA256_DIGEST_LENGTH];
    apr_uint64_t digest;
    int i;

    /* each part by itself: joined, different parts might be the same text */
    for (i = 0; i < 3; ++i) {
        SHA256((const unsigned char *)parts[i], strlen(parts[i]), hashes[i]);
    }
    SHA256(hashes[0], sizeof(hashes), hash);
    memcpy(&digest, hash, sizeof(digest));
    return digest;
}

int h2x_diary_add(h2x_diary *diary, const h2x_resource *resource)
{
    apr_uint64_t digest;
    int i;

    if (!diary->size) {
        return 1;
    }
    digest = digest_of(resource);
    for (i = 0; i < diary->count; ++i) {
        if (diary->digests[i] == digest) {
            return 0;
        }
    }
    if (!diary->digests) {
        diary->digests = calloc(diary->size, sizeof(*diary->digests));
        if (!diary->digests) {
            return 1;
        }
    }
    diary->digests[diary->next] = digest;
    diary->next = (diary->next + 1) % diary->size;
    if (diary->count < diary->size) {
        ++diary->count;
    }
    return 1;
}

void h2x_diary_clear(h2x_diary *diary)
{
    free(diary->digests);
    diary->digests = NULL;
    diary->count = 0;
    diary->next = 0;
}
