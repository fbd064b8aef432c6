/* One visit: connect, a visitor's hello, and what comes back. No link comes of it (net/link/hello.h).
 *
 * Normal course
 *  - connected; our hello; the member's hello; its goodbye, with where it sees us.
 * Failure courses: enum visit_end. A member that says hello and then nothing counts as met. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/doctor/doctor.h"
#include "net/link/frame.h"

#define ANSWER_MAX (2 * FRAME_HEADER_SIZE + HELLO_SIZE_MAX + GOODBYE_SIZE_MAX)

struct answer {
    int fd;
    uint8_t in[ANSWER_MAX];
    size_t used;
    bool greeted, done;
    uint64_t began_us, deadline_us;
};

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

/* Waits for the socket; false when the time is over. */
static bool wait_for(int fd, short events, uint64_t deadline_us)
{
    for (;;) {
        uint64_t now = now_us();
        int left_ms = deadline_us > now ? (int)((deadline_us - now + 999) / 1000) : 0;
        struct pollfd p = {.fd = fd, .events = events};
        int ready = poll(&p, 1, left_ms);
        if (ready > 0) return true;
        if (ready == 0 || errno != EINTR) return false;
    }
}

/* -- connecting -------------------------------------------------------------------------------- */

static int connect_within(int fd, const struct doctor_target *to)
{
    if (connect(fd, (const struct sockaddr *)&to->address, to->size) == 0) return 0;
    if (errno != EINPROGRESS) return errno;
    if (!wait_for(fd, POLLOUT, now_us() + DOCTOR_PATIENCE_MS * 1000u)) return ETIMEDOUT;
    int failed = 0;
    socklen_t size = sizeof failed;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &size) == 0 ? failed : errno;
}

/* Returns a descriptor, or -1 with v filled. */
static int visit_connect(const struct doctor_target *to, struct visit *v)
{
    int fd = socket(to->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    v->reason = fd < 0 ? errno : connect_within(fd, to);
    if (v->reason == 0) {
        socklen_t size = sizeof v->from;
        (void)getsockname(fd, (struct sockaddr *)&v->from, &size);
        return fd;
    }
    v->end = v->reason == ECONNREFUSED ? VISIT_REFUSED : VISIT_UNREACHABLE;
    if (fd >= 0) close(fd);
    return -1;
}

/* -- talking ----------------------------------------------------------------------------------- */

static bool say_hello(int fd, const struct hello *mine)
{
    uint8_t bytes[FRAME_HEADER_SIZE + HELLO_SIZE_MAX];
    size_t size = hello_encode(mine, bytes + FRAME_HEADER_SIZE);
    struct frame_header h = {.length = (uint32_t)size, .type = FRAME_HELLO};
    frame_encode(&h, bytes + FRAME_HEADER_SIZE, bytes);
    return send(fd, bytes, FRAME_HEADER_SIZE + size, MSG_NOSIGNAL) == (ssize_t)(FRAME_HEADER_SIZE + size);
}

static void end_as(struct answer *a, struct visit *v, enum visit_end end)
{
    v->end = end;
    a->done = true;
}

static void take_hello(struct answer *a, const uint8_t *payload, size_t size, struct visit *v)
{
    int err = hello_decode(payload, size, &v->hello);
    v->version = v->hello.version;
    if (err != 0) {
        end_as(a, v, err == ERR_VERSION ? VISIT_VERSION : VISIT_STRANGE);
        return;
    }
    a->greeted = true;
    v->end = VISIT_MET;
    v->answer_s = (double)(now_us() - a->began_us) / 1e6;
}

static void take_goodbye(struct answer *a, uint64_t reason, const uint8_t *payload, size_t size,
                         struct visit *v)
{
    struct goodbye word;
    bool known = goodbye_decode(payload, size, &word);
    if (a->greeted && known) {
        memcpy(v->seen, word.seen, sizeof v->seen);
        memcpy(v->user, word.user, sizeof v->user);
        v->used = word.used;
    }
    v->version = word.version;
    if (a->greeted)
        a->done = true;
    else
        end_as(a, v, reason == -(int64_t)ERR_VERSION ? VISIT_VERSION : VISIT_STRANGE);
}

/* Takes the frame at the front, if it is whole. Returns false when there is none. */
static bool take_frame(struct answer *a, struct visit *v)
{
    struct frame_header h;
    if (a->used < FRAME_HEADER_SIZE || a->done) return false;
    bool ours = frame_decode(a->in, &h) == 0 && (h.type == FRAME_HELLO || h.type == FRAME_GOODBYE) &&
                FRAME_HEADER_SIZE + h.length <= sizeof a->in;
    if (ours && a->used < FRAME_HEADER_SIZE + h.length) return false;
    const uint8_t *payload = a->in + FRAME_HEADER_SIZE;
    if (!ours || frame_verify(a->in, payload) != 0)
        end_as(a, v, VISIT_STRANGE);
    else if (h.type == FRAME_HELLO)
        take_hello(a, payload, h.length, v);
    else
        take_goodbye(a, h.value, payload, h.length, v);
    if (a->done) return false;
    a->used -= FRAME_HEADER_SIZE + h.length;
    memmove(a->in, payload + h.length, a->used);
    return true;
}

static void listen_to(struct answer *a, struct visit *v)
{
    while (!a->done) {
        if (!wait_for(a->fd, POLLIN, a->deadline_us)) {
            if (!a->greeted) v->end = a->used > 0 ? VISIT_STRANGE : VISIT_SILENT;
            return;
        }
        ssize_t got = recv(a->fd, a->in + a->used, sizeof a->in - a->used, 0);
        if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (got <= 0) {
            if (!a->greeted) v->end = a->used > 0 ? VISIT_STRANGE : VISIT_HUNG_UP;
            return;
        }
        a->used += (size_t)got;
        while (take_frame(a, v)) continue;
        if (a->used == sizeof a->in) a->done = true; /* more than a member says */
    }
}

void visit_make(const struct doctor_target *to, const struct hello *mine, struct visit *out)
{
    *out = (struct visit){.end = VISIT_HUNG_UP};
    uint64_t began_us = now_us();
    int fd = visit_connect(to, out);
    if (fd < 0) return;
    struct answer a = {.fd = fd, .began_us = began_us, .deadline_us = now_us() + DOCTOR_PATIENCE_MS * 1000u};
    if (say_hello(fd, mine)) listen_to(&a, out);
    close(fd);
}
