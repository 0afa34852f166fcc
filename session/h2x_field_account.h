/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * What the fields of requests decode to and take, of one connection: a byte
 * that a client sends may become 4 KB, which take time to decode and memory to
 * keep. So there are limits to what a head, or the trailers, decode to, a
 * budget for what is decoded beyond them, and accounts of what is kept.
 *
 * Past 64 KB (or what httpd's limits for a request line and four fields make)
 * a head is refused with 431 and no more of its fields is kept. Past four times
 * as much its stream is reset: from then on nghttp2 decodes fields, as it must
 * for the sake of its table, but does not look at them. That matters: nghttp2
 * checks each byte of each value, and parses the value of each field
 * `priority`.
 *
 * Pure, but for the child's sum. All sizes are in bytes; those of fields are as
 * RFC 9113, section 6.5.2, has them.
 */
#ifndef H2X_FIELD_ACCOUNT_H
#define H2X_FIELD_ACCOUNT_H

#include <apr.h>

/** The account of a connection. Its members are h2x_field_account.c's. */
typedef struct h2x_field_account {
    apr_size_t block_len;   /* what the head or trailers that come decode to */
    apr_size_t block_max;   /* and may */
    apr_size_t kept;        /* of heads and trailers of all streams */
    apr_size_t share;       /* of the child's sum, for that */
    int is_told;            /* the log says that it is too little */
} h2x_field_account;

/**
 * Opens an account.
 * @param line_max LimitRequestLine
 * @param field_max LimitRequestFieldSize
 */
void h2x_field_account_init(h2x_field_account *account, apr_size_t line_max,
                            apr_size_t field_max);

/** Closes it; nothing is kept any more. */
void h2x_field_account_end(const h2x_field_account *account);

/** A head begins, or trailers do. */
void h2x_field_account_begin(h2x_field_account *account);

/**
 * Counts one of its fields.
 * @param len of name and value
 * @return what its block has with it beyond its limit, in pieces of 16 KB; no
 *         piece is told twice
 */
int h2x_field_account_count(h2x_field_account *account, apr_size_t len);

/** Returns nonzero if the block is beyond its limit: to be refused. */
int h2x_field_account_is_over(const h2x_field_account *account);

/** Returns nonzero if it is so far beyond that its stream is to be reset. */
int h2x_field_account_is_cut(const h2x_field_account *account);

/** Keeps some bytes more. */
void h2x_field_account_keep(h2x_field_account *account, apr_size_t len);

/** Keeps them no longer. */
void h2x_field_account_release(h2x_field_account *account, apr_size_t len);

/** How many bytes are kept. */
apr_size_t h2x_field_account_kept(const h2x_field_account *account);

/** Returns nonzero if the connection may keep more, and takes another share
 * of the child's sum for that where it must. */
int h2x_field_account_may_keep(h2x_field_account *account);

/** Returns nonzero the first time, when the log is to say that it may not. */
int h2x_field_account_tell(h2x_field_account *account);

#endif /* H2X_FIELD_ACCOUNT_H */
