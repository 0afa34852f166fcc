/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <string.h>

#include <apr_atomic.h>

#include <httpd.h>

#include "h2x_field_account.h"

#define FIELD_OVERHEAD 32

#define BLOCK_MIN (64 * 1024)
#define BLOCK_SIZE_FIELDS 4
#define BLOCK_CUT 4

/* The unit of the budget, in bytes. */
#define PIECE (16 * 1024)

/* So many heads of the greatest size may be kept for a connection's streams:
 * 2 MB, mostly. */
#define KEPT_HEADS 32

/*
 * A connection takes shares of the child's sum for what it keeps. The first it
 * has for nothing, so that there is always room for some requests; of more, a
 * quarter of what is left, so that it cannot take all.
 */
#define SHARE (64 * 1024)
#define CHILD_KEPT_MAX (32 * 1024 * 1024)
static apr_uint32_t child_shares; /* bytes */

void h2x_field_account_init(h2x_field_account *account, apr_size_t line_max,
                            apr_size_t field_max)
{
    memset(account, 0, sizeof(*account));
    account->block_max = line_max + BLOCK_SIZE_FIELDS * field_max;
    if (account->block_max < BLOCK_MIN) {
        account->block_max = BLOCK_MIN;
    }
    account->share = SHARE;
}

void h2x_field_account_end(const h2x_field_account *account)
{
    ap_assert(account->kept == 0);
}

/* ---- what comes ---- */

void h2x_field_account_begin(h2x_field_account *account)
{
    account->block_len = 0;
}

int h2x_field_account_count(h2x_field_account *account, apr_size_t len)
{
    apr_size_t max = account->block_max, before = account->block_len;

    account->block_len += len + FIELD_OVERHEAD;
    if (account->block_len <= max) {
        return 0;
    }
    before = (before > max) ? before : max;
    return (int)(account->block_len / PIECE - before / PIECE);
}

int h2x_field_account_is_over(const h2x_field_account *account)
{
    return account->block_len > account->block_max;
}

int h2x_field_account_is_cut(const h2x_field_account *account)
{
    return account->block_len > BLOCK_CUT * account->block_max;
}

/* ---- what is kept ---- */

void h2x_field_account_keep(h2x_field_account *account, apr_size_t len)
{
    account->kept += len;
}

void h2x_field_account_release(h2x_field_account *account, apr_size_t len)
{
    account->kept -= len;
    if (account->kept < SHARE && account->share > SHARE) {
        apr_atomic_sub32(&child_shares,
                         (apr_uint32_t)(account->share - SHARE));
        account->share = SHARE;
    }
}

apr_size_t h2x_field_account_kept(const h2x_field_account *account)
{
    return account->kept;
}

/* Takes one more share, if that is allowed. */
static int take_share(h2x_field_account *account)
{
    apr_int64_t left = CHILD_KEPT_MAX
                       - (apr_int64_t)apr_atomic_read32(&child_shares);

    if (account->share >= KEPT_HEADS * account->block_max
        || (apr_int64_t)account->share > left / 4) {
        return 0;
    }
    account->share += SHARE;
    apr_atomic_add32(&child_shares, SHARE);
    return 1;
}

int h2x_field_account_may_keep(h2x_field_account *account)
{
    while (account->kept >= account->share) {
        if (!take_share(account)) {
            return 0;
        }
    }
    return 1;
}

int h2x_field_account_tell(h2x_field_account *account)
{
    int is_first = !account->is_told;

    account->is_told = 1;
    return is_first;
}
