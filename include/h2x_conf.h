/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The directives: created, merged and read. Any thread may read them; they
 * do not change while the server runs.
 */
#ifndef H2X_CONF_H
#define H2X_CONF_H

#include <httpd.h>
#include <http_config.h>

/**
 * The values of a server's or virtual host's directives. Sizes are bytes,
 * times microseconds (but see H2X_TLS_COOL_DOWN_SECS), flags 0 or 1.
 */
typedef enum {
    H2X_DIRECT,             /* -1: on cleartext connections only */
    H2X_MODERN_TLS_ONLY,
    H2X_MAX_SESSION_STREAMS,
    H2X_WINDOW_SIZE,
    H2X_STREAM_MAX_MEM_SIZE,
    H2X_MIN_WORKERS,        /* -1: none are kept */
    H2X_MAX_WORKERS,        /* -1: four times ThreadsPerChild */
    H2X_MAX_WORKER_IDLE,
    H2X_TLS_WARM_UP_SIZE,
    H2X_TLS_COOL_DOWN_SECS, /* seconds; 0: never */
    H2X_MAX_DATA_FRAME_LEN, /* 0: as the peer allows */
    H2X_MAX_HEADER_BLOCK_LEN, /* 0: nghttp2's own limit */
    H2X_OUTPUT_BUFFERING,
    H2X_CONF_COUNT
} h2x_conf_key;

/** The values of directives that may also stand in a directory. */
typedef enum {
    H2X_STREAM_TIMEOUT,     /* -1: the server's Timeout */
    H2X_COPY_FILES,
    H2X_DIR_CONF_COUNT
} h2x_dir_conf_key;

/** Reads a value of a server or virtual host. */
apr_int64_t h2x_conf_get(const server_rec *s, h2x_conf_key key);

/** Reads a value that holds for a request, where it is mapped to. */
apr_int64_t h2x_conf_get_dir(const request_rec *r, h2x_dir_conf_key key);

/** For the module's record: creating, merging, and the table of directives. */
void *h2x_conf_create_server(apr_pool_t *p, server_rec *s);
void *h2x_conf_merge_server(apr_pool_t *p, void *base, void *add);
void *h2x_conf_create_dir(apr_pool_t *p, char *dir);
void *h2x_conf_merge_dir(apr_pool_t *p, void *base, void *add);
extern const command_rec h2x_conf_directives[];

#endif /* H2X_CONF_H */
