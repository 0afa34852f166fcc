/*
 * Preloaded into httpd: lets the system fail as t/lib/faults.py asks, while
 * the server runs. The file that H2X_FAULTS names is mapped by all processes.
 *
 * Sockets are those that were accepted; of backends and logs nothing is
 * changed, and of files only those whose name says that they are slow.
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define FDS 4096

#define SLOW "slow"

/* In milliseconds. */
#define TRIM_MAX (60 * 1000)

/* In nanoseconds; how exact waiting is. */
#define SECOND 1000000000
#define STEP (100 * 1000 * 1000)

/* In the order of the fields in faults.py. */
static struct {
    _Atomic int64_t piece;    /* most bytes of a read or write; 0: any */
    _Atomic int64_t again;    /* this many calls of each that moves bytes get
                               * EAGAIN before it */
    _Atomic int64_t threads;  /* threads that cannot be started; -1: all */
    _Atomic int64_t seconds;  /* that clocks on the wall are ahead */
    _Atomic int64_t memory;   /* calls for memory, of the engine alone, until
                               * one fails; 0: none does */
    _Atomic int64_t size;     /* bytes that those calls ask for; 0: any */
    _Atomic int64_t trim;     /* it takes as long to give memory back */
    _Atomic int64_t slow;     /* milliseconds that each read of a file takes
                               * whose name has SLOW in it; it ends when this
                               * is 0 */
    _Atomic int64_t nowait;   /* what preadv2() with RWF_NOWAIT answers for any
                               * file: an errno. 0: EAGAIN for slow files */
    _Atomic int64_t failed;   /* how often something was made to fail */
} none, *faults = &none;

static _Atomic char is_accepted[FDS];
static _Atomic int reads_refused[FDS], writes_refused[FDS];

/* The function that `name` would be without this library. */
#define REAL(name)                                                        \
    ({                                                                    \
        static _Atomic(void *) real;                                      \
        if (!real) {                                                      \
            real = dlsym(RTLD_NEXT, #name);                               \
        }                                                                 \
        (__typeof__(&name))(void *)real;                                  \
    })

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("H2X_FAULTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *memory;

    if (fd < 0) {
        return;
    }
    memory = mmap(NULL, sizeof(*faults), PROT_READ | PROT_WRITE, MAP_SHARED,
                  fd, 0);
    if (memory != MAP_FAILED) {
        faults = memory;
    }
    close(fd);
}

/* ---- sockets ---- */

static int note(int fd)
{
    if (fd >= 0 && fd < FDS) {
        is_accepted[fd] = 1;
        reads_refused[fd] = writes_refused[fd] = 0;
    }
    return fd;
}

int accept(int fd, struct sockaddr *address, socklen_t *len)
{
    return note(REAL(accept)(fd, address, len));
}

int accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)
{
    return note(REAL(accept4)(fd, address, len, flags));
}

int close(int fd)
{
    if (fd >= 0 && fd < FDS) {
        is_accepted[fd] = 0;
    }
    return REAL(close)(fd);
}

/* Is this call to be refused? Those that move bytes are let through when so
 * many before them were not. */
static int refuse(int fd, _Atomic int *refused)
{
    if (fd < 0 || fd >= FDS || !is_accepted[fd] || !faults->again) {
        return 0;
    }
    if (refused[fd] >= faults->again) {
        refused[fd] = 0;
        return 0;
    }
    ++refused[fd];
    ++faults->failed;
    errno = EAGAIN;
    return 1;
}

static size_t shorten(int fd, size_t len)
{
    size_t most = (size_t)faults->piece;

    if (fd < 0 || fd >= FDS || !is_accepted[fd] || !most || len <= most) {
        return len;
    }
    ++faults->failed;
    return most;
}

static int is_slow(int fd)
{
    char name[64], path[4096];
    ssize_t len;

    if (!faults->slow) {
        return 0;
    }
    snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
    len = readlink(name, path, sizeof(path) - 1);
    path[len > 0 ? len : 0] = '\0';
    return strrchr(path, '/') && strstr(strrchr(path, '/'), SLOW);
}

static void wait_for_disk(int fd)
{
    int64_t left;

    if (is_slow(fd)) {
        ++faults->failed;
        for (left = faults->slow; left > 0 && faults->slow; --left) {
            usleep(1000);
        }
    }
}

ssize_t read(int fd, void *to, size_t len)
{
    wait_for_disk(fd);
    return refuse(fd, reads_refused) ? -1
                                     : REAL(read)(fd, to, shorten(fd, len));
}

ssize_t recv(int fd, void *to, size_t len, int flags)
{
    return refuse(fd, reads_refused)
        ? -1 : REAL(recv)(fd, to, shorten(fd, len), flags);
}

ssize_t write(int fd, const void *from, size_t len)
{
    return refuse(fd, writes_refused)
        ? -1 : REAL(write)(fd, from, shorten(fd, len));
}

ssize_t send(int fd, const void *from, size_t len, int flags)
{
    return refuse(fd, writes_refused)
        ? -1 : REAL(send)(fd, from, shorten(fd, len), flags);
}

ssize_t writev(int fd, const struct iovec *row, int count)
{
    struct iovec first;
    int i;

    if (refuse(fd, writes_refused)) {
        return -1;
    }
    for (i = 0; i < count && !row[i].iov_len; ++i) {
        continue;
    }
    if (i < count && (count - i > 1 || row[i].iov_len > 1)
        && shorten(fd, SIZE_MAX) != SIZE_MAX) {
        first.iov_base = row[i].iov_base;
        first.iov_len = shorten(fd, row[i].iov_len);
        return REAL(writev)(fd, &first, 1);
    }
    return REAL(writev)(fd, row, count);
}

ssize_t sendfile(int out, int in, off_t *at, size_t len)
{
    return refuse(out, writes_refused)
        ? -1 : REAL(sendfile)(out, in, at, shorten(out, len));
}

/* ---- files ---- */

ssize_t pread(int fd, void *to, size_t len, off_t at)
{
    wait_for_disk(fd);
    return REAL(pread)(fd, to, len, at);
}

ssize_t pread64(int fd, void *to, size_t len, off64_t at)
{
    wait_for_disk(fd);
    return REAL(pread64)(fd, to, len, at);
}

ssize_t readv(int fd, const struct iovec *row, int count)
{
    wait_for_disk(fd);
    return REAL(readv)(fd, row, count);
}

ssize_t preadv(int fd, const struct iovec *row, int count, off_t at)
{
    wait_for_disk(fd);
    return REAL(preadv)(fd, row, count, at);
}

ssize_t preadv64(int fd, const struct iovec *row, int count, off64_t at)
{
    wait_for_disk(fd);
    return REAL(preadv64)(fd, row, count, at);
}

/* What a read that must not wait gets; 0: it may be done. */
static int cannot_wait(int fd, int flags)
{
    if (!(flags & RWF_NOWAIT)) {
        wait_for_disk(fd);
        return 0;
    }
    return faults->nowait ? (int)faults->nowait : is_slow(fd) ? EAGAIN : 0;
}

ssize_t preadv2(int fd, const struct iovec *row, int count, off_t at,
                int flags)
{
    int error = cannot_wait(fd, flags);

    return error ? (errno = error, -1)
                 : REAL(preadv2)(fd, row, count, at, flags);
}

ssize_t preadv64v2(int fd, const struct iovec *row, int count, off64_t at,
                   int flags)
{
    int error = cannot_wait(fd, flags);

    return error ? (errno = error, -1)
                 : REAL(preadv64v2)(fd, row, count, at, flags);
}

/* ---- threads ---- */

int pthread_create(pthread_t *thread, const pthread_attr_t *attr,
                   void *(*run)(void *), void *baton)
{
    int64_t left = faults->threads;

    while (left > 0
           && !atomic_compare_exchange_weak(&faults->threads, &left,
                                            left - 1)) {
        continue;
    }
    if (left) {
        ++faults->failed;
        return EAGAIN;
    }
    return REAL(pthread_create)(thread, attr, run, baton);
}

/* ---- memory ---- */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);

/* Is it the one to fail? APR and nghttp2 (1.52) may end the process when they
 * do not get what they ask for. */
static int is_short(const void *caller, size_t size)
{
    Dl_info info;

    if (!faults->memory || (faults->size && (int64_t)size != faults->size)
        || !dladdr(caller, &info)
        || !strstr(info.dli_fname, "/mod_h2x.so") || --faults->memory) {
        return 0;
    }
    ++faults->failed;
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size)
{
    return is_short(__builtin_return_address(0), size)
        ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return is_short(__builtin_return_address(0), count * size)
        ? NULL : __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    return is_short(__builtin_return_address(0), size)
        ? NULL : __libc_realloc(memory, size);
}

void *mmap(void *at, size_t size, int what, int how, int fd, off_t offset)
{
    return is_short(__builtin_return_address(0), size)
        ? MAP_FAILED : REAL(mmap)(at, size, what, how, fd, offset);
}

int malloc_trim(size_t keep)
{
    int left = TRIM_MAX;

    faults->failed += (faults->trim != 0);
    while (faults->trim && left--) {
        usleep(1000);
    }
    return REAL(malloc_trim)(keep);
}

/* ---- clocks ---- */

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    int rv = REAL(gettimeofday)(now, zone);

    now->tv_sec += faults->seconds;
    return rv;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int rv = REAL(clock_gettime)(clock, now);

    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) {
        now->tv_sec += faults->seconds;
    }
    return rv;
}

time_t time(time_t *now)
{
    time_t seconds = REAL(time)(NULL) + faults->seconds;

    if (now) {
        *now = seconds;
    }
    return seconds;
}

/* Has the clock on the wall, which the faults may have set, come so far? */
static int has_come(const struct timespec *until)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec > until->tv_sec
           || (now.tv_sec == until->tv_sec && now.tv_nsec >= until->tv_nsec);
}

/* The clock that this waits for is the kernel's, so that who waits is woken
 * from time to time, for no other reason, and waits again. */
int pthread_cond_timedwait(pthread_cond_t *restrict cond,
                           pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until)
{
    static __typeof__(&pthread_cond_timedwait) real;
    struct timespec soon;
    int rv;

    if (!real) {
        real = (__typeof__(real))dlvsym(RTLD_NEXT, "pthread_cond_timedwait",
                                        "GLIBC_2.3.2");
        if (!real) {
            real = (__typeof__(real))dlsym(RTLD_NEXT,
                                           "pthread_cond_timedwait");
        }
    }
    if (has_come(until)) {
        return ETIMEDOUT;
    }
    REAL(clock_gettime)(CLOCK_REALTIME, &soon);
    soon.tv_nsec += STEP;
    soon.tv_sec += soon.tv_nsec / SECOND;
    soon.tv_nsec %= SECOND;
    rv = real(cond, mutex, &soon);
    return (rv == ETIMEDOUT && !has_come(until)) ? 0 : rv;
}
