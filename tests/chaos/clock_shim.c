/* Clocks that lie, for a program that cannot be asked: preloaded, it answers clock_gettime, gettimeofday and time.
 *
 *   CLOCK_SHIM=FILE   16 bytes, shared with who started us: i64 nanoseconds added to the wall clock, as they are at
 *                     each reading; u64 how many readings were changed, the proof that it bites
 *   CLOCK_RATE=R      the monotonic clock runs R times as fast, from the start on, and waits of epoll end when that
 *                     much of its time has passed */
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS 1000000000ll

struct shared {
    volatile int64_t wall_ns;
    volatile uint64_t changed;
};

static struct shared nothing;
static struct shared *shared = &nothing;
static double rate = 1;
static int64_t base_ns[16]; /* by clock: where the scaled ones begin */
static int (*real_gettime)(clockid_t, struct timespec *);

static int64_t ns_of(const struct timespec *t)
{
    return (int64_t)t->tv_sec * SECOND_NS + t->tv_nsec;
}

static struct timespec time_of(int64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / SECOND_NS), .tv_nsec = (long)(ns % SECOND_NS)};
}

static bool is_wall(clockid_t clock)
{
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
}

static bool is_steady(clockid_t clock)
{
    return clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE || clock == CLOCK_MONOTONIC_RAW ||
           clock == CLOCK_BOOTTIME;
}

static void find_real(void)
{
    real_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("CLOCK_SHIM"), *speed = getenv("CLOCK_RATE");
    find_real();
    int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *map = fd >= 0 ? mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (map != MAP_FAILED) shared = map;
    if (fd >= 0) close(fd);
    for (clockid_t clock = 0; clock < 16; clock++) {
        struct timespec t;
        if (is_steady(clock) && real_gettime(clock, &t) == 0) base_ns[clock] = ns_of(&t);
    }
    if (speed != NULL) rate = strtod(speed, NULL);
}

int clock_gettime(clockid_t clock, struct timespec *out)
{
    if (real_gettime == NULL) find_real();
    int err = real_gettime(clock, out);
    if (err != 0) return err;
    if (is_wall(clock) && shared->wall_ns != 0) {
        shared->changed++;
        *out = time_of(ns_of(out) + shared->wall_ns);
    }
    if (rate != 1 && is_steady(clock)) {
        shared->changed++;
        int64_t passed_ns = ns_of(out) - base_ns[clock];
        *out = time_of(base_ns[clock] + (int64_t)((double)passed_ns * rate));
    }
    return 0;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    struct timespec t;
    (void)zone;
    int err = clock_gettime(CLOCK_REALTIME, &t);
    *out = (struct timeval){.tv_sec = t.tv_sec, .tv_usec = t.tv_nsec / 1000};
    return err;
}

time_t time(time_t *out)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    if (out != NULL) *out = t.tv_sec;
    return t.tv_sec;
}

static int scaled_ms(int ms)
{
    return ms > 0 && rate != 1 ? (int)((double)ms / rate + 0.999) : ms;
}

int epoll_wait(int fd, struct epoll_event *events, int count, int ms)
{
    int (*real)(int, struct epoll_event *, int, int) =
        (int (*)(int, struct epoll_event *, int, int))dlsym(RTLD_NEXT, "epoll_wait");
    return real(fd, events, count, scaled_ms(ms));
}

int epoll_pwait(int fd, struct epoll_event *events, int count, int ms, const sigset_t *mask)
{
    int (*real)(int, struct epoll_event *, int, int, const sigset_t *) =
        (int (*)(int, struct epoll_event *, int, int, const sigset_t *))dlsym(RTLD_NEXT, "epoll_pwait");
    return real(fd, events, count, scaled_ms(ms), mask);
}
