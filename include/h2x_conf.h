/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * The directives. Their values do not change while the server runs, and any
 * thread may read them.
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
    H2X_MIN_WORKERS,        /* -1: no thread is kept */
    H2X_MAX_WORKERS,        /* -1: four times ThreadsPerChild */
    H2X_MAX_WORKER_IDLE,
    H2X_TLS_WARM_UP_SIZE,
    H2X_TLS_COOL_DOWN_SECS, /* seconds; 0: never */
    H2X_MAX_DATA_FRAME_LEN, /* 0: the peer's SETTINGS_MAX_FRAME_SIZE */
    H2X_MAX_HEADER_BLOCK_LEN, /* 0: nghttp2's limit */
    H2X_OUTPUT_BUFFERING,
    H2X_PUSH_DIARY_SIZE,
    H2X_EARLY_HINTS,        /* -1: only those that handlers send */
    H2X_PADDING,            /* n: up to 2^n - 1 bytes */
    H2X_MAX_STREAM_ERRORS,  /* 0: any number */
    H2X_GUARD,              /* percent; 0: off */
    H2X_MIN_RATE,           /* bytes a second; 0: any */
    H2X_WEBSOCKETS,
    H2X_ORIGIN,             /* -1: off, but other hosts may list this one */
    H2X_SERIALIZE_HEADERS,  /* this and the next have no effect */
    H2X_SESSION_EXTRA_FILES,
    H2X_CONF_COUNT
} h2x_conf_key;

/** The values of directives that are also allowed in directories. */
typedef enum {
    H2X_STREAM_TIMEOUT,     /* -1: the server's Timeout */
    H2X_COPY_FILES,
    H2X_PUSH,
    H2X_UPGRADE,
    H2X_PROXY_REQUESTS,
    H2X_DIR_CONF_COUNT
} h2x_dir_conf_key;

/** When the data of a push is sent (H2PushPriority). */
typedef enum {
    H2X_PUSH_AFTER,         /* while its parent's response has none to send */
    H2X_PUSH_BEFORE,        /* before the data of its parent's response */
    H2X_PUSH_INTERLEAVED    /* in turn with the data of that */
} h2x_push_order;

/** A resource to push, or to hint at (H2PushResource). */
typedef struct h2x_push_resource {
    const char *target;     /* URI reference */
    const char *link;       /* the value of a Link field for it */
    int is_critical;
} h2x_push_resource;

/** A field of 103 responses (H2EarlyHint). */
typedef struct h2x_hint {
    const char *name;
    const char *value;
} h2x_hint;

/** Returns a value of a server or virtual host, or its default. */
apr_int64_t h2x_conf_get(const server_rec *s, h2x_conf_key key);

/** Returns a value of the directory that a request is mapped to so far. */
apr_int64_t h2x_conf_get_dir(const request_rec *r, h2x_dir_conf_key key);

/**
 * Returns the order for pushes of a content type (H2PushPriority).
 * @param type may have parameters, which are ignored
 */
h2x_push_order h2x_conf_push_order(const server_rec *s, const char *type);

/**
 * Returns the names in H2Origin, as char *, in lower case; NULL: none.
 */
const apr_array_header_t *h2x_conf_origins(const server_rec *s);

/** Returns H2PushResource for a request, as h2x_push_resource; or NULL. */
const apr_array_header_t *h2x_conf_resources(const request_rec *r);

/** Returns H2EarlyHint for a request, as h2x_hint; or NULL. */
const apr_array_header_t *h2x_conf_hints(const request_rec *r);

/** The members of the module record: create, merge, and the directives. */
void *h2x_conf_create_server(apr_pool_t *p, server_rec *s);
void *h2x_conf_merge_server(apr_pool_t *p, void *base, void *add);
void *h2x_conf_create_dir(apr_pool_t *p, char *dir);
void *h2x_conf_merge_dir(apr_pool_t *p, void *base, void *add);
extern const command_rec h2x_conf_directives[];

#endif /* H2X_CONF_H */
