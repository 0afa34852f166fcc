/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * Rules of header fields, where HTTP/2 differs from httpd's tables: case,
 * connection-specific fields, split Cookie fields, trailers. Pure.
 */
#ifndef H2X_FIELD_H
#define H2X_FIELD_H

#include <apr_pools.h>
#include <apr_tables.h>

/** A field line of HTTP/2, whose name is in lower case. */
typedef struct h2x_field {
    const char *name;
    const char *value;
    apr_size_t name_len;
    apr_size_t value_len;
} h2x_field;

/** Status and header section of a response; or trailers, with status 0. */
typedef struct h2x_head {
    int status;
    int count;
    h2x_field *fields;
} h2x_head;

/**
 * Makes a name of the form that is usual in HTTP/1.1, as in Content-Type.
 * @return a copy in the pool, 0-terminated
 */
char *h2x_field_name(apr_pool_t *p, const char *name, apr_size_t len);

/**
 * Compares a token with a 0-terminated one, without regard to case.
 * @return nonzero when they are the same
 */
int h2x_field_equals(const char *token, apr_size_t len, const char *other);

/**
 * Returns nonzero for a connection-specific field, which HTTP/2 must not have
 * (RFC 9113, section 8.2.2).
 */
int h2x_field_is_hop_by_hop(const char *name, apr_size_t len);

/**
 * Returns nonzero for a field that is not allowed as a trailer: it is for
 * framing, routing, modifying or authenticating the message (RFC 9110, section
 * 6.5.1).
 */
int h2x_field_is_bad_trailer(const char *name, apr_size_t len);

/**
 * Joins fields of the same name, as httpd does for HTTP/1.1: with a comma;
 * those of Cookie with "; " (RFC 9113, section 8.2.3). Takes linear time.
 */
void h2x_field_join(apr_pool_t *p, apr_table_t *fields);

/**
 * Parses the head of a response as httpd's HTTP_HEADER filter, or
 * ap_send_interim_response(), writes it: status line, fields, empty line.
 * Leaves out connection-specific fields, and those that are malformed in
 * HTTP/2 (RFC 9113, sections 8.2.1 and 8.2.2).
 * @param p     for the copy that the fields point into
 * @param text  the head, including the empty line
 * @return NULL when it is malformed
 */
h2x_head *h2x_field_parse_head(apr_pool_t *p, const char *text,
                               apr_size_t len);

/** Makes the head of a response without body, with the current Date. */
h2x_head *h2x_field_empty_response(apr_pool_t *p, int status);

/**
 * Makes trailers from a table, without the fields that are malformed or not
 * allowed as trailers.
 * @return NULL when no field is left
 */
h2x_head *h2x_field_trailers(apr_pool_t *p, const apr_table_t *table);

/** Finds a field by its name, in lower case; NULL: there is none. */
const h2x_field *h2x_field_find(const h2x_head *head, const char *name);

/** Removes all fields of a name, in lower case. */
void h2x_field_remove(h2x_head *head, const char *name);

/**
 * Removes Content-Length from a response that must not have it (RFC 9110,
 * section 8.6).
 * @param is_tunnel nonzero for the response to a CONNECT
 */
void h2x_field_check_length(h2x_head *head, int is_tunnel);

#endif /* H2X_FIELD_H */
