/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <apr_atomic.h>
#include <apr_portable.h>
#include <apr_thread_cond.h>
#include <apr_thread_mutex.h>

#include <httpd.h>

#include "h2x.h"
#include "h2x_clock.h"
#include "h2x_guard.h"
#include "h2x_memory.h"
#include "h2x_stream.h"

/* How many streams a store keeps, how many of these after a while, how many it
 * gives away at a time, and how much free memory each of them keeps. */
#define STORE_MAX 1024
#define STORE_REST 128
#define TRIM_MAX 256

/* Bodies that nobody took are given back when they were so many bytes. */
#define WASTE_MAX (4 * 1024 * 1024)
#define POOL_MAX_FREE (32 * 1024)

/* More streams than this have no number of their own. */
#define NUMBER_MAX (64 * 1024)

/* A chunk takes in what follows while it has room. */
#define CHUNK_MIN 4096
#define CHUNK_MAX (16 * 1024)

APR_RING_HEAD(stream_ring, h2x_stream);

struct h2x_stream_store {
    apr_pool_t *pool;  /* parent of all streams' */
    apr_thread_mutex_t *lock;
    struct stream_ring unused; /* the last used first */
    int count;
    int least;         /* of that, since the store was trimmed */
    int destroyed;     /* since memory was given back */
    apr_size_t wasted; /* likewise: bytes of bodies that nobody took */
    int is_wide;       /* it is to be trimmed, and has said so */
    void (*on_wide)(void *baton);
    void *baton;
};

/*
 * The numbers of streams are given out again when a stream is destroyed, so
 * that they stay few: mod_cgid keeps something for each, for ever. They are
 * a child's, and there may be several stores.
 */
static apr_uint32_t numbers_used[NUMBER_MAX / 32];

static apr_uint32_t take_number(void)
{
    apr_uint32_t i, bit, used;

    for (i = 0; i < NUMBER_MAX / 32; ++i) {
        while ((used = apr_atomic_read32(&numbers_used[i])) != 0xffffffffu) {
            for (bit = 0; used & (1u << bit); ++bit) {
                continue;
            }
            if (apr_atomic_cas32(&numbers_used[i], used | (1u << bit), used)
                == used) {
                return i * 32 + bit;
            }
        }
    }
    return NUMBER_MAX;
}

static void return_number(apr_uint32_t number)
{
    apr_uint32_t i = number / 32, bit = 1u << number % 32, used;

    if (number < NUMBER_MAX) {
        do {
            used = apr_atomic_read32(&numbers_used[i]);
        } while (apr_atomic_cas32(&numbers_used[i], used & ~bit, used)
                 != used);
    }
}

/* A stream and what is kept with it. The pool must not hold the stream: it
 * is cleared when the stream goes back. */
typedef struct {
    h2x_stream stream;
    apr_pool_t *home;  /* holds this, and lives as long */
} kept_stream;

/* The lock is for the parent of its pools. */
static void destroy(h2x_stream_store *store, h2x_stream *stream)
{
    apr_pool_t *home = ((kept_stream *)stream)->home;

    return_number(stream->number);
    apr_pool_destroy(stream->pool);
    apr_thread_mutex_lock(store->lock);
    apr_pool_destroy(home);
    ++store->destroyed;
    apr_thread_mutex_unlock(store->lock);
}

/* Takes, if a store keeps more than `rest` streams, the one that was not used
 * for longest. */
static h2x_stream *take_surplus(h2x_stream_store *store, int rest)
{
    h2x_stream *stream = NULL;

    apr_thread_mutex_lock(store->lock);
    if (store->count > rest) {
        stream = APR_RING_LAST(&store->unused);
        APR_RING_REMOVE(stream, link);
        if (--store->count < store->least) {
            store->least = store->count;
        }
    }
    apr_thread_mutex_unlock(store->lock);
    return stream;
}

/*
 * Has a crowd of streams gone, or much that they held? Its memory is free
 * then, but in pieces that the C library keeps; the longer, the more of them
 * are joined to what it never gives back, the free ends of its arenas.
 */
static int has_much_gone_locked(h2x_stream_store *store)
{
    if (store->destroyed < STORE_REST && store->wasted < WASTE_MAX) {
        return 0;
    }
    store->destroyed = 0;
    store->wasted = 0;
    return 1;
}

/* Destroys some of those streams that nobody had need of lately. */
static void destroy_some(h2x_stream_store *store)
{
    h2x_stream *stream;
    int count;

    apr_thread_mutex_lock(store->lock);
    count = (store->least < TRIM_MAX) ? store->least : TRIM_MAX;
    apr_thread_mutex_unlock(store->lock);
    for (; count > 0 && (stream = take_surplus(store, STORE_REST)); --count) {
        destroy(store, stream);
    }
}

int h2x_stream_trim(h2x_stream_store **stores, int count)
{
    int i, has_gone = 0, is_wide = 0;

    for (i = 0; i < count; ++i) {
        h2x_stream_store *store = stores[i];

        destroy_some(store);
        apr_thread_mutex_lock(store->lock);
        store->least = store->count;
        store->is_wide = (store->count > STORE_REST);
        is_wide |= store->is_wide;
        has_gone |= has_much_gone_locked(store);
        apr_thread_mutex_unlock(store->lock);
    }
#ifdef __GLIBC__
    if (has_gone) {
        malloc_trim(0);
    }
#endif
    return is_wide;
}

static apr_status_t empty_store(void *baton)
{
    h2x_stream_store *store = baton;
    h2x_stream *stream;

    while ((stream = take_surplus(store, 0))) {
        destroy(store, stream);
    }
    return APR_SUCCESS;
}

apr_status_t h2x_stream_store_create(h2x_stream_store **pstore,
                                     void (*on_wide)(void *baton), void *baton,
                                     apr_pool_t *p)
{
    h2x_stream_store *store = apr_pcalloc(p, sizeof(*store));
    apr_status_t rv;

    store->on_wide = on_wide;
    store->baton = baton;
    APR_RING_INIT(&store->unused, h2x_stream, link);
    apr_pool_create(&store->pool, p);
    apr_pool_tag(store->pool, "h2x_streams");
    rv = apr_thread_mutex_create(&store->lock, APR_THREAD_MUTEX_DEFAULT, p);
    if (rv == APR_SUCCESS) {
        apr_pool_pre_cleanup_register(p, store, empty_store);
        *pstore = store;
    }
    return rv;
}

/*
 * Makes a stream with a pool that shares nothing with others but its parent,
 * which the store's lock guards. It needs one: code in APR-util goes up to
 * the topmost pool to keep there what shall live as long as the process.
 */
static h2x_stream *make_stream_locked(h2x_stream_store *store)
{
    apr_allocator_t *allocator;
    apr_pool_t *home;
    kept_stream *kept;

    if (apr_allocator_create(&allocator) != APR_SUCCESS) {
        return NULL;
    }
    apr_allocator_max_free_set(allocator, POOL_MAX_FREE);
    if (apr_pool_create_ex(&home, store->pool, NULL, allocator)
        != APR_SUCCESS) {
        apr_allocator_destroy(allocator);
        return NULL;
    }
    apr_allocator_owner_set(allocator, home);
    kept = apr_pcalloc(home, sizeof(*kept));
    kept->home = home;
    if (apr_pool_create(&kept->stream.pool, home) != APR_SUCCESS
        || apr_thread_cond_create(&kept->stream.changed, home)
            != APR_SUCCESS) {
        apr_pool_destroy(home);
        return NULL;
    }
    apr_pool_tag(kept->stream.pool, "h2x_stream");
    kept->stream.number = take_number();
    return &kept->stream;
}

h2x_stream *h2x_stream_acquire(h2x_stream_store *store, apr_int32_t id,
                               h2x_lock *lock)
{
    h2x_stream *stream = NULL;

    apr_thread_mutex_lock(store->lock);
    if (!APR_RING_EMPTY(&store->unused, h2x_stream, link)) {
        stream = APR_RING_FIRST(&store->unused);
        APR_RING_REMOVE(stream, link);
        if (--store->count < store->least) {
            store->least = store->count;
        }
    }
    else {
        stream = make_stream_locked(store);
    }
    apr_thread_mutex_unlock(store->lock);
    if (!stream) {
        h2x_memory_missing();
        return NULL;
    }
    APR_RING_ELEM_INIT(stream, link);
    APR_RING_ELEM_INIT(stream, news);
    stream->id = id;
    stream->lock = lock;
    stream->request.fields = apr_table_make(stream->pool, 16);
    return stream;
}

static void free_chunks(h2x_chunk *chunk)
{
    while (chunk) {
        h2x_chunk *next = chunk->next;

        free(chunk->data);
        free(chunk);
        chunk = next;
    }
}

void h2x_stream_release(h2x_stream_store *store, h2x_stream *stream)
{
    apr_pool_t *pool = stream->pool;
    apr_thread_cond_t *changed = stream->changed;
    apr_uint32_t number = stream->number;
    apr_size_t wasted = stream->wasted + stream->in.bytes
                        + stream->out.row.memory;
    int is_over, has_widened;

    ap_assert(!stream->job.c2_pool && stream->state != H2X_STREAM_RUNNING);
    free_chunks(stream->in.first);
    h2x_segments_clear(&stream->out.row);
    if (stream->in.trailers) {
        apr_pool_destroy(apr_table_elts(stream->in.trailers)->pool);
    }
    apr_pool_clear(pool);
    memset(stream, 0, sizeof(*stream));
    stream->pool = pool;
    stream->changed = changed;
    stream->number = number;

    apr_thread_mutex_lock(store->lock);
    APR_RING_INSERT_HEAD(&store->unused, stream, h2x_stream, link);
    is_over = (++store->count > STORE_MAX);
    store->wasted += wasted;
    has_widened = (!store->is_wide && (store->count > STORE_REST
                                       || store->wasted >= WASTE_MAX));
    store->is_wide |= has_widened;
    apr_thread_mutex_unlock(store->lock);
    if (is_over && (stream = take_surplus(store, STORE_MAX))) {
        destroy(store, stream);
    }
    if (has_widened) {
        store->on_wide(store->baton);
    }
}

void h2x_stream_advance_locked(h2x_stream *stream, h2x_stream_state state)
{
    h2x_lock_check(stream->lock);
    ap_assert(state > stream->state);
    stream->state = state;
}

void h2x_stream_advance_in_locked(h2x_stream *stream, h2x_input_state state)
{
    h2x_lock_check(stream->lock);
    ap_assert(state > stream->in.state);
    stream->in.state = state;
}

void h2x_stream_advance_sent_locked(h2x_stream *stream, h2x_sent sent)
{
    h2x_lock_check(stream->lock);
    ap_assert(sent > stream->out.sent);
    stream->out.sent = sent;
}

void h2x_stream_end_output_locked(h2x_stream *stream, h2x_output_end end)
{
    h2x_lock_check(stream->lock);
    if (end > stream->out.end) {
        stream->out.end = end;
    }
}

apr_status_t h2x_stream_wait_locked(h2x_stream *stream, apr_time_t deadline)
{
    apr_time_t left = deadline - h2x_clock_now();

    return (left > 0) ? h2x_lock_wait(stream->lock, stream->changed, left)
                      : APR_TIMEUP;
}

void h2x_stream_wake_locked(h2x_stream *stream)
{
    h2x_lock_check(stream->lock);
    apr_thread_cond_signal(stream->changed);
    if (stream->signal_state == H2X_SIGNAL_IDLE
        && write(stream->signal[1], "!", 1) == 1) {
        stream->signal_state = H2X_SIGNAL_GIVEN;
    }
}

void h2x_stream_room_locked(h2x_stream *stream)
{
    h2x_lock_check(stream->lock);
    apr_thread_cond_signal(stream->changed);
}

apr_status_t h2x_stream_open_signal(h2x_stream *stream)
{
    int fds[2];

    if (stream->signal_state != H2X_SIGNAL_NONE) {
        return APR_SUCCESS;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds)
        < 0) {
        return errno;
    }
    h2x_lock_acquire(stream->lock);
    stream->signal[0] = fds[0];
    stream->signal[1] = fds[1];
    stream->signal_state = H2X_SIGNAL_IDLE;
    /* what is there already has been told to nobody */
    h2x_stream_wake_locked(stream);
    h2x_lock_release(stream->lock);
    return APR_SUCCESS;
}

void h2x_stream_close_signal(h2x_stream *stream)
{
    if (stream->signal_state != H2X_SIGNAL_NONE) {
        h2x_lock_acquire(stream->lock);
        stream->signal_state = H2X_SIGNAL_NONE;
        h2x_lock_release(stream->lock);
        close(stream->signal[0]);
        close(stream->signal[1]);
    }
}

void h2x_stream_seen_locked(h2x_stream *stream)
{
    char c;

    h2x_lock_check(stream->lock);
    if (stream->signal_state == H2X_SIGNAL_GIVEN
        && (read(stream->signal[0], &c, 1) >= 0 || errno != EINTR)) {
        stream->signal_state = H2X_SIGNAL_IDLE;
    }
}

void h2x_stream_append_locked(h2x_stream *stream, h2x_pending *pending)
{
    h2x_pending **last = &stream->out.pending;

    h2x_lock_check(stream->lock);
    while (*last) {
        last = &(*last)->next;
    }
    *last = pending;
}

/* Adds a chunk: the more is waiting, the larger. */
static h2x_chunk *add_chunk(h2x_stream *stream)
{
    apr_size_t size = (stream->in.bytes > CHUNK_MAX) ? CHUNK_MAX
        : (stream->in.bytes > CHUNK_MIN) ? stream->in.bytes : CHUNK_MIN;
    h2x_chunk *chunk = malloc(sizeof(*chunk));

    if (!chunk || !(chunk->data = malloc(size))) {
        free(chunk);
        h2x_memory_missing();
        return NULL;
    }
    chunk->next = NULL;
    chunk->len = 0;
    chunk->size = size;
    if (stream->in.last) {
        stream->in.last->next = chunk;
    }
    else {
        stream->in.first = chunk;
    }
    stream->in.last = chunk;
    return chunk;
}

apr_status_t h2x_stream_feed_locked(h2x_stream *stream, const void *data,
                                    apr_size_t len)
{
    h2x_chunk *chunk = stream->in.last;
    apr_size_t part;

    h2x_lock_check(stream->lock);
    for (; len; data = (const char *)data + part, len -= part) {
        if ((!chunk || chunk->len == chunk->size)
            && !(chunk = add_chunk(stream))) {
            return APR_ENOMEM;
        }
        part = chunk->size - chunk->len;
        part = (len < part) ? len : part;
        memcpy(chunk->data + chunk->len, data, part);
        chunk->len += part;
        stream->in.bytes += part;
    }
    h2x_stream_wake_locked(stream);
    return APR_SUCCESS;
}

/* Is there something to take? */
static int has_input(const h2x_stream *stream, apr_off_t whole)
{
    return stream->in.state == H2X_INPUT_CUT
           || stream->in.state == H2X_INPUT_ENDED
           || (stream->in.first && (whole < 0 || stream->in.bytes < whole));
}

apr_status_t h2x_stream_await_input_locked(h2x_stream *stream,
                                           apr_off_t whole,
                                           apr_read_type_e block,
                                           apr_interval_time_t timeout)
{
    apr_interval_time_t left = stream->limits.timeout - stream->in.debt;
    apr_time_t deadline = 0, since = 0;
    apr_status_t rv = APR_SUCCESS;

    while (rv == APR_SUCCESS && !has_input(stream, whole)) {
        if (stream->in.state == H2X_INPUT_LOST) {
            return APR_ECONNABORTED;
        }
        if (block == APR_NONBLOCK_READ) {
            h2x_stream_seen_locked(stream);
            return APR_EAGAIN;
        }
        if (!since) {
            since = h2x_clock_now();
            deadline = since
                + (timeout >= 0 && timeout < left ? timeout : left);
            stream->owner->need_input_locked(stream->owner_baton, stream);
            continue;
        }
        stream->owner->may_wait_locked(stream->owner_baton, stream);
        rv = h2x_stream_wait_locked(stream, deadline);
    }
    if (since) {
        stream->in.debt += h2x_clock_now() - since;
    }
    return rv;
}

/*
 * What a client sends makes up for what it was waited for. When it has a
 * response already, both sides may take their time between what they say.
 */
static void pay_debt(h2x_stream *stream, apr_size_t len)
{
    if (stream->in.debt) {
        stream->in.debt = stream->out.sent != H2X_SENT_NOTHING ? 0
            : -h2x_guard_advance(-stream->in.debt, 0, len,
                                 stream->limits.min_rate);
    }
}

apr_size_t h2x_stream_take_locked(h2x_stream *stream, h2x_chunk **chunks)
{
    h2x_chunk *chunk;
    apr_size_t len = 0;

    h2x_lock_check(stream->lock);
    *chunks = stream->in.first;
    stream->in.first = stream->in.last = NULL;
    stream->in.bytes = 0;
    for (chunk = *chunks; chunk; chunk = chunk->next) {
        len += chunk->len;
    }
    pay_debt(stream, len);
    return len;
}

void h2x_stream_drop_input_locked(h2x_stream *stream)
{
    h2x_chunk *chunks;
    apr_size_t len = h2x_stream_take_locked(stream, &chunks);

    if (len || stream->in.state == H2X_INPUT_OPEN) {
        h2x_stream_advance_in_locked(stream, H2X_INPUT_LOST);
    }
    stream->wasted += len;
    free_chunks(chunks);
}

void h2x_stream_drop_output_locked(h2x_stream *stream)
{
    h2x_lock_check(stream->lock);
    stream->wasted += stream->out.row.memory;
    h2x_segments_clear(&stream->out.row);
}

/* Waits while the stream has more than it may, and the client takes some. */
static apr_status_t await_room_locked(h2x_stream *stream)
{
    apr_time_t since = 0;
    apr_status_t rv = APR_SUCCESS;

    while (rv == APR_SUCCESS && !stream->is_closed
           && stream->out.end == H2X_OUTPUT_GOES_ON
           && stream->owner->is_full_locked(stream->owner_baton, stream)) {
        if (!since) {
            since = h2x_clock_now();
            stream->owner->blocks_locked(stream->owner_baton, stream, 1);
            stream->owner->may_wait_locked(stream->owner_baton, stream);
            continue;
        }
        rv = h2x_stream_wait_locked(stream, since + stream->limits.timeout);
        if (rv != APR_SUCCESS
            && !stream->owner->waits_for_client_locked(stream->owner_baton,
                                                       stream)) {
            since = h2x_clock_now(); /* it is others' turn */
            rv = APR_SUCCESS;
        }
        if (stream->out.progress > since) {
            since = stream->out.progress;
            rv = APR_SUCCESS;
        }
    }
    if (since) {
        stream->owner->blocks_locked(stream->owner_baton, stream, 0);
    }
    if (rv != APR_SUCCESS) {
        stream->out.progress = since;
    }
    /* closed because all was sent is as good as sent */
    return stream->is_closed && stream->out.sent != H2X_SENT_END
           ? APR_ECONNABORTED : rv;
}

apr_status_t h2x_stream_publish(h2x_stream *stream, h2x_pending *pending,
                                h2x_segments *row, h2x_output_end end,
                                int flush, apr_size_t *returned)
{
    apr_status_t rv;

    h2x_lock_acquire(stream->lock);
    h2x_stream_append_locked(stream, pending);
    h2x_segments_move(&stream->out.row, row);
    h2x_stream_end_output_locked(stream, end);
    if (!stream->is_closed) {
        stream->owner->output_locked(stream->owner_baton, stream, flush);
    }
    rv = await_room_locked(stream);
    if (stream->is_closed) {
        h2x_stream_drop_output_locked(stream);
    }
    *returned = stream->out.row.returned;
    h2x_lock_release(stream->lock);
    return rv;
}
