/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The rules of header fields, where HTTP/2 and httpd's tables differ: case,
 * fields of one connection only, crumbs of cookies, trailers. Pure.
 */
#ifndef H2X_FIELD_H
#define H2X_FIELD_H

#include <apr_pools.h>
#include <apr_tables.h>

/** A header field as HTTP/2 has it: the name is lower case. */
typedef struct h2x_field {
    const char *name;
    const char *value;
    apr_size_t name_len;
    apr_size_t value_len;
} h2x_field;

/** The head of a response, or its trailers (then status is 0). */
typedef struct h2x_head {
    int status;
    int count;
    h2x_field *fields;
} h2x_head;

/**
 * The name of a request field as HTTP/1.1 writes it: Content-Type.
 * @return a copy in the pool, 0-terminated
 */
char *h2x_field_name(apr_pool_t *p, const char *name, apr_size_t len);

/**
 * Compares a token with a 0-terminated one, without regard to case.
 * @return nonzero when they are the same
 */
int h2x_field_equals(const char *token, apr_size_t len, const char *other);

/**
 * Tells whether a field belongs to one connection only and has no place in
 * HTTP/2 (RFC 9113, section 8.2.2).
 */
int h2x_field_is_hop_by_hop(const char *name, apr_size_t len);

/**
 * Tells whether a field may not come as a trailer: it frames, routes,
 * modifies or authenticates the message (RFC 9110, section 6.5.1).
 */
int h2x_field_is_bad_trailer(const char *name, apr_size_t len);

/**
 * Joins fields of the same name, as httpd does for HTTP/1.1: with a comma,
 * and the crumbs of Cookie with "; " (RFC 9113, section 8.2.3). Linear.
 */
void h2x_field_join(apr_pool_t *p, apr_table_t *fields);

/**
 * Reads the head of a response as httpd's HTTP_HEADER filter, or
 * ap_send_interim_response(), writes it: status line, fields, empty line.
 * Leaves out what belongs to one connection only, and what is malformed in
 * HTTP/2 (RFC 9113, section 8.2.1).
 * @param p     holds the copy that the fields point into
 * @param text  the head, up to and with its empty line
 * @return NULL when this is no head
 */
h2x_head *h2x_field_parse_head(apr_pool_t *p, const char *text,
                               apr_size_t len);

/** Makes the head of a response that has no body, as of now. */
h2x_head *h2x_field_empty_response(apr_pool_t *p, int status);

/**
 * Makes trailers from a table, without what may not come as a trailer, or is
 * malformed.
 * @return NULL when none are left
 */
h2x_head *h2x_field_trailers(apr_pool_t *p, const apr_table_t *table);

/** Finds a field by its lower-case name, or NULL. */
const h2x_field *h2x_field_find(const h2x_head *head, const char *name);

/** Takes all fields of a lower-case name out of a head. */
void h2x_field_remove(h2x_head *head, const char *name);

/**
 * Takes Content-Length out of a response head that must not have it (RFC 9110,
 * section 8.6).
 * @param is_tunnel is it the answer to a CONNECT?
 */
void h2x_field_check_length(h2x_head *head, int is_tunnel);

#endif /* H2X_FIELD_H */
