/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * Which resources may be pushed (RFC 9113, section 8.4), and the diary of those
 * that were. Pure.
 */
#ifndef H2X_PUSH_H
#define H2X_PUSH_H

#include <apr_pools.h>

/** The parts of a resource's URI, as in the pseudo-header fields. */
typedef struct h2x_resource {
    const char *scheme;
    const char *authority;
    const char *path;      /* with the query */
} h2x_resource;

/** Digests of the resources pushed on a connection, in a ring. */
typedef struct h2x_diary {
    apr_uint64_t *digests; /* allocated with the first one, by malloc() */
    int size;              /* of the ring (H2PushDiarySize); 0: no diary */
    int count;
    int next;              /* index of the next one */
} h2x_diary;

/**
 * Resolves a URI reference against a resource (RFC 3986, section 5), without
 * its fragment.
 * @return path and query; NULL when the origin differs or the resource is the
 *         same
 */
const char *h2x_push_resolve(apr_pool_t *p, const h2x_resource *base,
                             const char *target, apr_size_t target_len);

/**
 * Returns nonzero if two authorities are equivalent: the port may be omitted if
 * it is the scheme's default (RFC 3986, section 6.2.3).
 * @param scheme NULL: there is none, as in a CONNECT, and no default port
 */
int h2x_push_is_authority(const char *scheme, const char *authority,
                          const char *other, apr_size_t other_len);

/**
 * Returns the method of pushed requests that a client's Accept-Push-Policy
 * asks for.
 * @param policy the field's value; NULL: there is none
 * @return "GET" or "HEAD"; NULL: the client wants no pushes
 */
const char *h2x_push_method(const char *policy);

/**
 * Adds a resource to the diary, in place of the oldest if that is full.
 * @return 0 when it is in the diary already
 */
int h2x_diary_add(h2x_diary *diary, const h2x_resource *resource);

/** Empties the diary and frees its memory. */
void h2x_diary_clear(h2x_diary *diary);

#endif /* H2X_PUSH_H */
