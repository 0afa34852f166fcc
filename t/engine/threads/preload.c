/*
 * Preloaded into httpd, tells ThreadSanitizer what it cannot know of libraries
 * that were compiled without it.
 *
 * APR's atomic operations: it would take memory that one thread gives to
 * another by them (the engine's flags, the pools that the MPMs use again) for
 * memory that two threads use at once. Those here take their place in all of
 * the process, and order memory no more than APR promises on any processor.
 *
 * Who uses what at a time only one thread may use: pools, bucket allocators,
 * the sessions of nghttp2 and of OpenSSL. Each use counts as a write to them,
 * so that two at once are reported, be it in the libraries' own memory.
 */

#include <dlfcn.h>
#include <stdarg.h>

#include <apr_allocator.h>
#include <apr_atomic.h>
#include <apr_buckets.h>
#include <apr_pools.h>
#include <apr_strings.h>
#include <nghttp2/nghttp2.h>
#include <openssl/ssl.h>

/* ---- atomic operations ---- */

#define FAMILY(bits)                                                          \
    apr_uint##bits##_t apr_atomic_read##bits(                                 \
        volatile apr_uint##bits##_t *mem)                                     \
    {                                                                         \
        return __atomic_load_n(mem, __ATOMIC_ACQUIRE);                        \
    }                                                                         \
    void apr_atomic_set##bits(volatile apr_uint##bits##_t *mem,               \
                              apr_uint##bits##_t val)                         \
    {                                                                         \
        __atomic_store_n(mem, val, __ATOMIC_RELEASE);                         \
    }                                                                         \
    apr_uint##bits##_t apr_atomic_add##bits(                                  \
        volatile apr_uint##bits##_t *mem, apr_uint##bits##_t val)             \
    {                                                                         \
        return __atomic_fetch_add(mem, val, __ATOMIC_ACQ_REL);                \
    }                                                                         \
    void apr_atomic_sub##bits(volatile apr_uint##bits##_t *mem,               \
                              apr_uint##bits##_t val)                         \
    {                                                                         \
        __atomic_fetch_sub(mem, val, __ATOMIC_ACQ_REL);                       \
    }                                                                         \
    apr_uint##bits##_t apr_atomic_inc##bits(                                  \
        volatile apr_uint##bits##_t *mem)                                     \
    {                                                                         \
        return __atomic_fetch_add(mem, 1, __ATOMIC_ACQ_REL);                  \
    }                                                                         \
    int apr_atomic_dec##bits(volatile apr_uint##bits##_t *mem)                \
    {                                                                         \
        return __atomic_sub_fetch(mem, 1, __ATOMIC_ACQ_REL) != 0;             \
    }                                                                         \
    apr_uint##bits##_t apr_atomic_cas##bits(                                  \
        volatile apr_uint##bits##_t *mem, apr_uint##bits##_t with,            \
        apr_uint##bits##_t cmp)                                               \
    {                                                                         \
        __atomic_compare_exchange_n(mem, &cmp, with, 0, __ATOMIC_ACQ_REL,     \
                                    __ATOMIC_ACQUIRE);                        \
        return cmp;                                                           \
    }                                                                         \
    apr_uint##bits##_t apr_atomic_xchg##bits(                                 \
        volatile apr_uint##bits##_t *mem, apr_uint##bits##_t val)             \
    {                                                                         \
        return __atomic_exchange_n(mem, val, __ATOMIC_ACQ_REL);               \
    }

FAMILY(32)
FAMILY(64)

void *apr_atomic_casptr(volatile void **mem, void *with, const void *cmp)
{
    void *was = (void *)cmp;

    __atomic_compare_exchange_n((void **)mem, &was, with, 0, __ATOMIC_ACQ_REL,
                                __ATOMIC_ACQUIRE);
    return was;
}

void *apr_atomic_xchgptr(volatile void **mem, void *with)
{
    return __atomic_exchange_n((void **)mem, with, __ATOMIC_ACQ_REL);
}

/* ---- one thread at a time ---- */

void __tsan_write8(void *address);

/* Says that the calling thread uses an object, without touching it. */
static void use(void *object)
{
    if (object) {
        __tsan_write8(object);
    }
}

/* The function that `name` would be without this library. */
#define REAL(name)                                                            \
    ({                                                                        \
        static __typeof__(&name) real;                                        \
        __typeof__(&name) found = __atomic_load_n(&real, __ATOMIC_ACQUIRE);   \
        if (!found) {                                                         \
            found = (__typeof__(&name))dlsym(RTLD_NEXT, #name);               \
            __atomic_store_n(&real, found, __ATOMIC_RELEASE);                 \
        }                                                                     \
        found;                                                                \
    })

/* A function whose first argument is the object. */
#define USES(result, name, params, args)                                      \
    result name params                                                        \
    {                                                                         \
        use((void *)it);                                                      \
        return REAL(name) args;                                               \
    }

/* Pools. Their lists of children have a lock of their own, if any. */

static void use_parent(apr_pool_t *parent)
{
    if (parent && !apr_allocator_mutex_get(apr_pool_allocator_get(parent))) {
        use(parent);
    }
}

apr_status_t apr_pool_create_ex(apr_pool_t **pool, apr_pool_t *parent,
                                apr_abortfunc_t abort_fn,
                                apr_allocator_t *allocator)
{
    use_parent(parent);
    return REAL(apr_pool_create_ex)(pool, parent, abort_fn, allocator);
}

void apr_pool_destroy(apr_pool_t *pool)
{
    use(pool);
    use_parent(apr_pool_parent_get(pool));
    REAL(apr_pool_destroy)(pool);
}

USES(void, apr_pool_clear, (apr_pool_t *it), (it))
#undef apr_pcalloc /* a macro and a function */
USES(void *, apr_pcalloc, (apr_pool_t *it, apr_size_t n), (it, n))
USES(void *, apr_palloc, (apr_pool_t *it, apr_size_t n), (it, n))
USES(char *, apr_pvsprintf, (apr_pool_t *it, const char *fmt, va_list ap),
     (it, fmt, ap))
USES(void, apr_pool_cleanup_register,
     (apr_pool_t *it, const void *data, apr_status_t (*plain)(void *),
      apr_status_t (*child)(void *)),
     (it, data, plain, child))
USES(void, apr_pool_pre_cleanup_register,
     (apr_pool_t *it, const void *data, apr_status_t (*plain)(void *)),
     (it, data, plain))
USES(void, apr_pool_cleanup_kill,
     (apr_pool_t *it, const void *data, apr_status_t (*plain)(void *)),
     (it, data, plain))

/* Bucket allocators. What is freed goes back to the one it came from, which
 * cannot be seen from outside. */

USES(void *, apr_bucket_alloc, (apr_size_t n, apr_bucket_alloc_t *it), (n, it))

/* nghttp2 */

USES(ssize_t, nghttp2_session_mem_recv,
     (nghttp2_session *it, const uint8_t *in, size_t len), (it, in, len))
USES(ssize_t, nghttp2_session_mem_send,
     (nghttp2_session *it, const uint8_t **out), (it, out))
USES(int, nghttp2_session_want_read, (nghttp2_session *it), (it))
USES(int, nghttp2_session_want_write, (nghttp2_session *it), (it))
USES(int, nghttp2_session_resume_data, (nghttp2_session *it, int32_t id),
     (it, id))
USES(int, nghttp2_session_consume_stream,
     (nghttp2_session *it, int32_t id, size_t len), (it, id, len))
USES(int, nghttp2_session_consume_connection,
     (nghttp2_session *it, size_t len), (it, len))
USES(int, nghttp2_submit_rst_stream,
     (nghttp2_session *it, uint8_t flags, int32_t id, uint32_t code),
     (it, flags, id, code))
USES(void, nghttp2_session_del, (nghttp2_session *it), (it))

/* OpenSSL. What a request asks of a connection (its protocol, its cipher) is
 * left out: mod_ssl answers from values that do not change. */

USES(int, SSL_read, (SSL *it, void *buf, int len), (it, buf, len))
USES(int, SSL_peek, (SSL *it, void *buf, int len), (it, buf, len))
USES(int, SSL_write, (SSL *it, const void *buf, int len), (it, buf, len))
USES(int, SSL_do_handshake, (SSL *it), (it))
USES(int, SSL_accept, (SSL *it), (it))
USES(int, SSL_shutdown, (SSL *it), (it))
USES(void, SSL_free, (SSL *it), (it))
USES(void, SSL_set_shutdown, (SSL *it, int mode), (it, mode))
USES(void, SSL_set_verify, (SSL *it, int mode, SSL_verify_cb cb),
     (it, mode, cb))
