/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * What may be pushed (RFC 9113, section 8.4), and the diary of what was.
 * Pure: no threads, no connections.
 */
#ifndef H2X_PUSH_H
#define H2X_PUSH_H

#include <apr_pools.h>

/** A resource as HTTP/2 names it. */
typedef struct h2x_resource {
    const char *scheme;
    const char *authority;
    const char *path;      /* with the query */
} h2x_resource;

/** Digests of what was pushed on a connection; the oldest goes first. */
typedef struct h2x_diary {
    apr_uint64_t *digests; /* of malloc(), made when the first one comes */
    int size;              /* how many it may keep; 0: it keeps none */
    int count;
    int next;              /* where the next one goes */
} h2x_diary;

/**
 * Resolves a URI reference against the resource that it was found in
 * (RFC 3986, section 5), and drops its fragment.
 * @return its path with the query; NULL when that is of another origin, or
 *         the same resource
 */
const char *h2x_push_resolve(apr_pool_t *p, const h2x_resource *base,
                             const char *target, apr_size_t target_len);

/**
 * Is an authority another name for one, with or without the default port of
 * the scheme (RFC 3986, section 6.2.3)?
 * @param scheme NULL when there is none, as in a CONNECT: no port is the
 *        default then
 */
int h2x_push_is_authority(const char *scheme, const char *authority,
                          const char *other, apr_size_t other_len);

/**
 * The method of pushed requests by a client's Accept-Push-Policy.
 * @param policy the field's value, or NULL when there is none
 * @return "GET" or "HEAD"; NULL when nothing is to be pushed
 */
const char *h2x_push_method(const char *policy);

/**
 * Adds a resource to the diary.
 * @return 0 when it is there already
 */
int h2x_diary_add(h2x_diary *diary, const h2x_resource *resource);

/** Frees what the diary holds. */
void h2x_diary_clear(h2x_diary *diary);

#endif /* H2X_PUSH_H */
