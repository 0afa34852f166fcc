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
    H2X_PUSH_DIARY_SIZE,
    H2X_EARLY_HINTS,        /* -1: those that handlers make pass */
    H2X_PADDING,            /* bits of the greatest length */
    H2X_MAX_STREAM_ERRORS,  /* 0: any number */
    H2X_GUARD,              /* percent; 0: off */
    H2X_MIN_RATE,           /* bytes a second; 0: any */
    H2X_WEBSOCKETS,
    H2X_ORIGIN,             /* -1: off, but others may list this host */
    H2X_SERIALIZE_HEADERS,  /* this and the next have no meaning here */
    H2X_SESSION_EXTRA_FILES,
    H2X_CONF_COUNT
} h2x_conf_key;

/** The values of directives that may also stand in a directory. */
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
    H2X_PUSH_AFTER,         /* when the response that promised it has none */
    H2X_PUSH_BEFORE,        /* that waits for the push */
    H2X_PUSH_INTERLEAVED    /* both in turn */
} h2x_push_order;

/** A resource to be announced (H2PushResource). */
typedef struct h2x_push_resource {
    const char *target;     /* URI reference */
    const char *link;       /* the value of a Link field for it */
    int is_critical;
} h2x_push_resource;

/** A field of early hints (H2EarlyHint). */
typedef struct h2x_hint {
    const char *name;
    const char *value;
} h2x_hint;

/** Reads a value of a server or virtual host. */
apr_int64_t h2x_conf_get(const server_rec *s, h2x_conf_key key);

/** Reads a value that holds for a request, where it is mapped to. */
apr_int64_t h2x_conf_get_dir(const request_rec *r, h2x_dir_conf_key key);

/** The order for pushes of a content type, which may have parameters. */
h2x_push_order h2x_conf_push_order(const server_rec *s, const char *type);

/**
 * The names that H2Origin gives, as char *, in lower case; NULL: it gives none.
 */
const apr_array_header_t *h2x_conf_origins(const server_rec *s);

/** What to announce for a request, as h2x_push_resource; or NULL. */
const apr_array_header_t *h2x_conf_resources(const request_rec *r);

/** The fields of early hints for a request, as h2x_hint; or NULL. */
const apr_array_header_t *h2x_conf_hints(const request_rec *r);

/** For the module's record: creating, merging, and the table of directives. */
void *h2x_conf_create_server(apr_pool_t *p, server_rec *s);
void *h2x_conf_merge_server(apr_pool_t *p, void *base, void *add);
void *h2x_conf_create_dir(apr_pool_t *p, char *dir);
void *h2x_conf_merge_dir(apr_pool_t *p, void *base, void *add);
extern const command_rec h2x_conf_directives[];

#endif /* H2X_CONF_H */
