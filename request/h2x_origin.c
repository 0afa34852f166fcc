/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <string.h>

#include <netinet/in.h>

#include <apr_atomic.h>
#include <apr_hash.h>
#include <apr_strings.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <httpd.h>
#include <http_config.h>
#include <http_main.h>
#include <http_protocol.h>

#include "h2x.h"
#include "h2x_conf.h"
#include "h2x_origin.h"

/* The limit of an ORIGIN frame's payload, and the size of the length that each
 * origin has before it (RFC 8336, section 2.1). */
#define PAYLOAD_MAX 4096
#define LENGTH_LEN 2

#define CERTIFICATE_FILE 0

/* Directives that mod_ssl compares (its SSLVHostSNIPolicy "secure"). */
static const char *const compared[] = {
    [CERTIFICATE_FILE] = "SSLCertificateFile", "SSLCertificateKeyFile",
    "SSLProtocol", "SSLCipherSuite", "SSLVerifyClient", "SSLVerifyDepth",
    "SSLCACertificateFile", "SSLCACertificatePath", "SSLCADNRequestFile",
    "SSLCADNRequestPath", "SSLCARevocationFile", "SSLCARevocationPath",
    "SSLCARevocationCheck", "SSLOCSPEnable", "SSLOCSPDefaultResponder",
    "SSLOCSPOverrideResponder", "SSLSRPVerifierFile", "SSLOpenSSLConfCmd",
};
#define COMPARED_COUNT ((int)(sizeof(compared) / sizeof(compared[0])))

/* How TLS is configured for a virtual host. */
typedef struct {
    const char *values[COMPARED_COUNT]; /* arguments; NULL: no directive */
    const char *engine; /* of SSLEngine, likewise */
    const char *kind; /* the same pointer in equal profiles */
    volatile void *known; /* known_origins, after the first connection */
} tls_profile;

/* The origins of connections with the same certificate and address; kept until
 * the child ends. */
typedef struct {
    X509 *certificate;
    apr_port_t port;
    int ip_len;
    char ip[sizeof(struct in6_addr)];
    apr_array_header_t *origins;
} known_origins;

/* server_rec to tls_profile; read-only while the server runs. */
static apr_hash_t *profiles;

static tls_profile *profile_of(const server_rec *s)
{
    return apr_hash_get(profiles, &s, sizeof(s));
}

/* ---- reading the configuration ---- */

static void read_directives(apr_pool_t *p, tls_profile *profile,
                            const ap_directive_t *first)
{
    const ap_directive_t *d;
    int i;

    for (d = first; d; d = d->next) {
        if (!ap_cstr_casecmp(d->directive, "SSLEngine")) {
            profile->engine = d->args;
        }
        for (i = 0; i < COMPARED_COUNT; ++i) {
            if (!ap_cstr_casecmp(d->directive, compared[i])) {
                const char *before = profile->values[i];

                profile->values[i] = apr_pstrcat(p, before ? before : "",
                                                 before ? "\n" : "",
                                                 d->args, NULL);
            }
        }
    }
}

/* Finds the <VirtualHost> section of a server. */
static const ap_directive_t *find_section(const server_rec *s)
{
    const ap_directive_t *d;

    for (d = ap_conftree; d; d = d->next) {
        if (!ap_cstr_casecmp(d->directive, "<VirtualHost") && s->defn_name
            && !strcmp(d->filename, s->defn_name)
            && d->line_num == (int)s->defn_line_number) {
            return d;
        }
    }
    return NULL;
}

static tls_profile *make_profile(apr_pool_t *p, const server_rec *s,
                                 const tls_profile *outer, apr_hash_t *kinds)
{
    const ap_directive_t *section = find_section(s);
    tls_profile *profile = apr_pcalloc(p, sizeof(*profile));
    const char *kind = "";
    int i;

    if (section) {
        read_directives(p, profile, section->first_child);
    }
    if (!profile->engine) {
        profile->engine = outer->engine;
    }
    for (i = 0; i < COMPARED_COUNT; ++i) {
        if (!profile->values[i]) {
            profile->values[i] = outer->values[i];
        }
        kind = apr_pstrcat(p, kind, compared[i], " ",
                           profile->values[i] ? profile->values[i] : "", "\n",
                           NULL);
    }
    profile->kind = apr_hash_get(kinds, kind, APR_HASH_KEY_STRING);
    if (!profile->kind) {
        profile->kind = kind;
        apr_hash_set(kinds, kind, APR_HASH_KEY_STRING, kind);
    }
    return profile;
}

/* ---- names that certificates lack ---- */

static X509 *read_certificate(const char *path)
{
    BIO *bio = path ? BIO_new_file(path, "r") : NULL;
    X509 *certificate = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;

    BIO_free(bio);
    ERR_clear_error(); /* mod_ssl would log the error with its next one */
    return certificate;
}

/* Logs names that are not in the certificate of a file. */
static void check_certificate(const server_rec *s, const char *file,
                              const apr_array_header_t *names)
{
    X509 *certificate = read_certificate(file);
    int i;

    if (!certificate) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                     "h2x: H2Origin of host %s: cannot read its certificate "
                     "%s: names that it does not have are left out without "
                     "a warning", s->server_hostname,
                     file ? file : "(there is no SSLCertificateFile)");
        return;
    }
    for (i = 0; i < names->nelts; ++i) {
        const char *name = APR_ARRAY_IDX(names, i, const char *);

        if (X509_check_host(certificate, name, 0, 0, NULL) != 1) {
            ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                         "h2x: H2Origin of host %s: %s is left out, "
                         "certificate %s does not have it",
                         s->server_hostname, name, file);
        }
    }
    X509_free(certificate);
}

/* Checks the certificates of a virtual host: arguments of SSLCertificateFile,
 * one a line. */
static void check_certificates(const server_rec *s, apr_pool_t *p,
                               const char *lines,
                               const apr_array_header_t *names)
{
    if (!lines) {
        check_certificate(s, NULL, names);
    }
    while (lines && *lines) {
        const char *line = ap_getword(p, &lines, '\n');
        const char *file = ap_getword_conf(p, &line);
        const char *path = ap_server_root_relative(p, file);

        check_certificate(s, path ? path : file, names);
    }
}

/* Checks names once for hosts that have names and certificates in common. */
static void check_names(const server_rec *s, apr_pool_t *p)
{
    apr_hash_t *checked = apr_hash_make(p);

    for (; s; s = s->next) {
        const apr_array_header_t *names = h2x_conf_origins(s);
        const tls_profile *profile = profile_of(s);
        const char *files = profile->values[CERTIFICATE_FILE], *key;

        if (!names || !profile->engine
            || !ap_cstr_casecmp(profile->engine, "off")) {
            continue;
        }
        key = apr_psprintf(p, "%pp %s", (const void *)names,
                           files ? files : "");
        if (!apr_hash_get(checked, key, APR_HASH_KEY_STRING)) {
            apr_hash_set(checked, key, APR_HASH_KEY_STRING, key);
            check_certificates(s, p, files, names);
        }
    }
}

static apr_status_t forget(void *unused)
{
    (void)unused;
    profiles = NULL;
    return APR_SUCCESS;
}

void h2x_origin_init(server_rec *s, apr_pool_t *p)
{
    apr_hash_t *kinds = apr_hash_make(p);
    tls_profile outer = { { NULL }, NULL, NULL, NULL };
    server_rec *first = s;

    profiles = apr_hash_make(p);
    apr_pool_cleanup_register(p, NULL, forget, apr_pool_cleanup_null);
    read_directives(p, &outer, ap_conftree);
    for (; s; s = s->next) {
        apr_hash_set(profiles, apr_pmemdup(p, &s, sizeof(s)), sizeof(s),
                     make_profile(p, s, &outer, kinds));
    }
    check_names(first, p);
}

const char *h2x_origin_difference(const server_rec *a, const server_rec *b)
{
    const tls_profile *one = profile_of(a), *other = profile_of(b);
    int i;

    for (i = 0; one->kind != other->kind && i < COMPARED_COUNT; ++i) {
        const char *value = one->values[i], *its = other->values[i];

        if (value != its && (!value || !its || strcmp(value, its))) {
            return compared[i];
        }
    }
    return NULL;
}

/* ---- listing ---- */

static apr_status_t destroy_pool(void *p)
{
    apr_pool_destroy(p);
    return APR_SUCCESS;
}

/*
 * How a virtual host has the local address of a connection: not at all, by a
 * wildcard, or exactly. Wildcards count if no host has the address exactly.
 */
enum place { NOWHERE, ANYWHERE, HERE };

static enum place place_of(const server_rec *s, const apr_sockaddr_t *local)
{
    const server_addr_rec *addr;
    enum place place = NOWHERE;

    for (addr = s->addrs; addr; addr = addr->next) {
        const apr_sockaddr_t *its = addr->host_addr;

        if (addr->host_port && addr->host_port != local->port) {
            continue;
        }
        if (apr_sockaddr_equal(its, local)) {
            return HERE;
        }
        if (apr_sockaddr_is_wildcard(its)) {
            place = ANYWHERE;
        }
    }
    return place;
}

/* Adds a name that is in the certificate. Returns 0 if the frame is full. */
static int add_name(known_origins *known, const char *name, apr_size_t *room)
{
    apr_pool_t *p = known->origins->pool;
    char *origin;
    apr_size_t len;

    if (X509_check_host(known->certificate, name, 0, 0, NULL) != 1) {
        return 1;
    }
    origin = (known->port == 443)
        ? apr_pstrcat(p, "https://", name, NULL)
        : apr_psprintf(p, "https://%s:%d", name, (int)known->port);
    ap_str_tolower(origin);
    len = LENGTH_LEN + strlen(origin);
    if (ap_array_str_contains(known->origins, origin)) {
        return 1;
    }
    if (len > *room) {
        return 0;
    }
    *room -= len;
    APR_ARRAY_PUSH(known->origins, const char *) = origin;
    return 1;
}

static int add_server(known_origins *known, const server_rec *s,
                      apr_size_t *room)
{
    int i, has_room = 1;

    if (s->server_hostname) {
        has_room = add_name(known, s->server_hostname, room);
    }
    for (i = 0; has_room && s->names && i < s->names->nelts; ++i) {
        has_room = add_name(known, APR_ARRAY_IDX(s->names, i, const char *),
                            room);
    }
    return has_room;
}

static void add_names(known_origins *known, const apr_array_header_t *names)
{
    apr_size_t room = PAYLOAD_MAX;
    int i = 0;

    while (i < names->nelts
           && add_name(known, APR_ARRAY_IDX(names, i, const char *), &room)) {
        ++i;
    }
}

static void find_origins(known_origins *known, conn_rec *c1,
                         server_rec *server)
{
    const char *kind = profile_of(server)->kind;
    enum place place = place_of(server, c1->local_addr);
    apr_size_t room = PAYLOAD_MAX;
    server_rec *s;

    for (s = ap_server_conf; s; s = s->next) {
        if ((s == server
             || (profile_of(s)->kind == kind
                 && h2x_conf_get(s, H2X_ORIGIN)
                 && place_of(s, c1->local_addr) == place
                 && ap_is_allowed_protocol(c1, NULL, s, "h2")))
            && !add_server(known, s, &room)) {
            break;
        }
    }
}

/* Returns nonzero if these are the origins of a connection. */
static int is_good_for(const known_origins *known, const conn_rec *c1,
                       const X509 *certificate)
{
    const apr_sockaddr_t *local = c1->local_addr;

    return known->certificate == certificate && known->port == local->port
           && known->ip_len == local->ipaddr_len
           && !memcmp(known->ip, local->ipaddr_ptr, known->ip_len);
}

/* Lists the names of H2Origin, or all hosts that the connection may serve. */
static const apr_array_header_t *list(conn_rec *c1, server_rec *server,
                                      const SSL *ssl)
{
    const apr_array_header_t *names = h2x_conf_origins(server);
    X509 *certificate = SSL_get_certificate(ssl);
    const apr_sockaddr_t *local = c1->local_addr;
    tls_profile *profile = profile_of(server);
    known_origins *known = apr_atomic_casptr(&profile->known, NULL, NULL);
    apr_pool_t *p;

    if (known && is_good_for(known, c1, certificate)) {
        return known->origins;
    }
    if (!certificate || local->ipaddr_len > (int)sizeof(known->ip)
        || apr_pool_create_unmanaged_ex(&p, NULL, NULL) != APR_SUCCESS) {
        return NULL;
    }
    known = apr_pcalloc(p, sizeof(*known));
    known->certificate = certificate;
    known->port = local->port;
    known->ip_len = local->ipaddr_len;
    memcpy(known->ip, local->ipaddr_ptr, known->ip_len);
    known->origins = apr_array_make(p, 4, sizeof(char *));
    if (names) {
        add_names(known, names);
    }
    else {
        find_origins(known, c1, server);
    }
    if (apr_atomic_casptr(&profile->known, known, NULL) != NULL) {
        /* the profile has another list, for another address or certificate */
        apr_pool_cleanup_register(c1->pool, p, destroy_pool,
                                  apr_pool_cleanup_null);
    }
    return known->origins;
}

/* Returns nonzero for the origin that the client has by SNI (RFC 8336, section
 * 2.3). */
static int is_asked_for(const char *origin, const SSL *ssl)
{
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    const char *host = origin + strlen("https://");
    apr_size_t len = strcspn(host, ":");

    return name && strlen(name) == len && !ap_cstr_casecmpn(name, host, len);
}

const apr_array_header_t *h2x_origin_list(conn_rec *c1, server_rec *server,
                                          void *ssl)
{
    const apr_array_header_t *origins;

    if (h2x_conf_get(server, H2X_ORIGIN) <= 0) {
        return NULL;
    }
    origins = list(c1, server, ssl);
    return origins && (origins->nelts > 1
                       || (origins->nelts == 1
                           && !is_asked_for(APR_ARRAY_IDX(origins, 0, char *),
                                            ssl)))
           ? origins : NULL;
}
