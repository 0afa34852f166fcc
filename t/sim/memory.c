/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "schedule.h"

/* What is before each block. */
typedef struct {
    size_t size;
    size_t mark;
} header;

#define IN_USE 0x75b10c4b10c4b10cu
#define GIVEN_BACK 0xdeadb10cdeadb10cu
#define POISON 0xdd

/* The size of such a queue, which is doubled when it has to be. */
#define QUEUE_MIN 32
#define QUEUE_MAX 1024

/* Below a stack, nothing is to be written. */
#define GUARD (64 * 1024)

/* The block that is refused is one of the first 64, 128 and so on, doubled less
 * often than this; */
#define BLOCKS_LOG 7

/* or the first after a time within this. */
#define FIRST_TIME apr_time_from_sec(3)

static long blocks;      /* in use */
static long until_failure; /* so many are not refused; < 0: all are not */
static apr_time_t fails_at; /* the next one after this time is; 0: see above */

void *__real_malloc(size_t size);
void *__real_realloc(void *block, size_t size);
void __real_free(void *block);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *block, size_t size);
void __wrap_free(void *block);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd,
                  off_t offset);
void *__wrap_mmap64(void *at, size_t size, int protection, int flags, int fd,
                    off_t offset);
int __wrap_munmap(void *pages, size_t size);
int __wrap_madvise(void *pages, size_t size, int advice);

void memory_init(void)
{
#ifdef __GLIBC__
    /* the system is asked for memory once, not in each schedule */
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
#endif
}

void memory_begin(void)
{
    blocks = 0;
    until_failure = -1;
    fails_at = 0;
}

void memory_refuse_one(void)
{
    if (sim_one_in(2)) {
        until_failure = (long)sim_random(1u << (6 + sim_random(BLOCKS_LOG)));
    }
    else {
        fails_at = sim_now() + sim_random(FIRST_TIME);
    }
}

int memory_has_failed(void)
{
    return until_failure == -2;
}

void memory_end(void)
{
    SIM_CHECK(!blocks, "%ld blocks of memory were not given back", blocks);
}

void *memory_resize(void *block, size_t size)
{
    return __real_realloc(block, size);
}

void memory_free(void *block)
{
    __real_free(block);
}

char *memory_stack(size_t size)
{
    char *stack = NULL;

    SIM_CHECK(!posix_memalign((void **)&stack, GUARD, size + GUARD),
              "no memory");
    mprotect(stack, GUARD, PROT_NONE);
    return stack + GUARD;
}

/*
 * Is this the block that is refused? Not one in which nghttp2 queues streams:
 * when it cannot (session_attach_stream_item() of 1.52), it frees a frame that
 * the stream keeps, and frees it again with the session.
 */
static int is_refused(size_t size)
{
    if (sim_locks_held() == 1 /* the session's */
        && size >= QUEUE_MIN && size <= QUEUE_MAX && !(size & (size - 1))) {
        return 0;
    }
    if (fails_at ? sim_now() < fails_at
                 : (until_failure < 0 || until_failure--)) {
        return 0;
    }
    until_failure = -2;
    fails_at = 0;
    sim_did_something(NULL); /* it may have been so before */
    sim_say("memory is refused");
    return 1;
}

static header *header_of(void *block)
{
    header *h = (header *)block - 1;

    SIM_CHECK(h->mark != GIVEN_BACK, "memory is given back twice");
    SIM_CHECK(h->mark == IN_USE, "memory is given back that was not given");
    return h;
}

void *__wrap_malloc(size_t size)
{
    header *h;

    if (is_refused(size)) {
        return NULL;
    }
    h = __real_malloc(sizeof(*h) + size);
    h->size = size;
    h->mark = IN_USE;
    ++blocks;
    return h + 1;
}

void *__wrap_calloc(size_t count, size_t size)
{
    void *block = __wrap_malloc(count * size);

    return block ? memset(block, 0, count * size) : NULL;
}

void __wrap_free(void *block)
{
    if (block) {
        header *h = header_of(block);

        h->mark = GIVEN_BACK;
        memset(block, POISON, h->size);
        --blocks;
        __real_free(h);
    }
}

void *__wrap_realloc(void *block, size_t size)
{
    void *larger = __wrap_malloc(size);

    if (larger && block) {
        const header *h = header_of(block);

        memcpy(larger, block, h->size < size ? h->size : size);
        __wrap_free(block);
    }
    return larger;
}

/* ---- pages: to ask the system would take longer than all the rest ---- */

void *__wrap_mmap(void *at UNUSED, size_t size, int protection UNUSED,
                  int flags UNUSED, int fd UNUSED, off_t offset UNUSED)
{
    void *pages = __wrap_calloc(1, size);

    return pages ? pages : MAP_FAILED;
}

void *__wrap_mmap64(void *at, size_t size, int protection, int flags, int fd,
                    off_t offset)
{
    return __wrap_mmap(at, size, protection, flags, fd, offset);
}

int __wrap_munmap(void *pages, size_t size)
{
    SIM_CHECK(header_of(pages)->size == size, "pages are given back in part");
    __wrap_free(pages);
    return 0;
}

int __wrap_madvise(void *pages, size_t size, int advice UNUSED)
{
    memset(pages, 0, size);
    return 0;
}

#if defined(__linux__) && defined(__x86_64__) \
    && !defined(__SANITIZE_ADDRESS__)

/* Those of APR's pools, which may use mmap(). It does not ask for zeros. */
#define PAGE 4096
#define KEPT_MAX 64 /* pages of an area that is kept */

static void *kept[KEPT_MAX + 1]; /* by size; each begins with the next one */

void *mmap(void *at, size_t size, int protection, int flags, int fd,
           off_t offset)
{
    size_t count = size / PAGE;
    void *area = NULL;

    if (fd == -1 && size == count * PAGE && count <= KEPT_MAX) {
        area = kept[count];
    }
    if (!area) {
        return (void *)syscall(SYS_mmap, at, size, protection, flags, fd,
                               offset);
    }
    kept[count] = *(void **)area;
    return area;
}

int munmap(void *area, size_t size)
{
    size_t count = size / PAGE;

    if (size != count * PAGE || count > KEPT_MAX) {
        return (int)syscall(SYS_munmap, area, size);
    }
    memset(area, POISON, size);
    *(void **)area = kept[count];
    kept[count] = area;
    return 0;
}

#endif
