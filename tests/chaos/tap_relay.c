/* A switch between network namespaces that loses, delays, repeats and damages what it forwards: netem for kernels
 * that have none, and with a seed.
 *
 *     tap_relay [--seed N] [--set "WORDS"] NAMESPACE:DEVICE NAMESPACE:DEVICE ...
 *
 * Normal course
 *  - opens one TAP per argument, each in its namespace (as `ip netns` names them), prints {"ready": PORTS}.
 *  - a frame goes to the port where its destination was seen last, to all others when that is not known or is a
 *    group; each ordered pair of ports has its own impairment (impair.h) and draws.
 *  - ARP passes untouched: what is imitated is a path with routers, which asks nobody for addresses.
 *  - a line on stdin is answered by one line on stdout:
 *      set FROM TO WORDS   ports by number, * = all; replaces what was set; no words = no impairment
 *      stats               {"now": totals, "pairs": [...]}: those pairs that have seen frames
 * Failure courses
 *  - a word that makes no sense: {"error": ...}, nothing has changed.
 *  - end of stdin, SIGTERM: the end; the TAPs go with it.
 *  - more than QUEUE_MAX frames wait: the next are lost and counted as overflowed.
 *  - a device refuses a frame (it is down): lost and counted as refused. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "tests/chaos/impair.h"

enum { PORT_MAX = 32, MAC_MAX = 256, QUEUE_MAX = 65536, FRAME_MAX = 2048, LINE_MAX_BYTES = 512 };

struct frame {
    uint64_t at_us, order; /* the heap's key: frames due at one time keep their order */
    uint32_t to;
    uint32_t size;
    uint8_t bytes[];
};

struct place { /* where a station was seen */
    uint8_t mac[6];
    uint32_t port;
};

struct relay {
    uint32_t port_count;
    int fd[PORT_MAX];
    struct impair pair[PORT_MAX][PORT_MAX];
    struct place place[MAC_MAX];
    uint32_t place_count;
    struct frame *heap[QUEUE_MAX];
    size_t waiting;
    uint64_t order, overflowed, refused, delivered;
    char line[LINE_MAX_BYTES];
    size_t line_size;
};

static uint64_t now_us(void)
{
    struct timespec t;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

_Noreturn static void give_up(const char *what, const char *name)
{
    fprintf(stderr, "tap_relay: %s %s: %s\n", what, name, strerror(errno));
    exit(1);
}

/* -- ports ------------------------------------------------------------------------------------- */

static int open_tap(char *name)
{
    char path[256];
    char *device = strchr(name, ':');
    if (device == NULL || strlen(device + 1) >= IFNAMSIZ) {
        errno = EINVAL;
        give_up("NAMESPACE:DEVICE expected, not", name);
    }
    *device++ = '\0';
    snprintf(path, sizeof path, "/var/run/netns/%s", name);
    int ns = open(path, O_RDONLY | O_CLOEXEC);
    if (ns < 0 || setns(ns, CLONE_NEWNET) != 0) give_up("cannot enter", path);
    close(ns);
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) give_up("cannot open", "/dev/net/tun");
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", device);
    if (ioctl(fd, TUNSETIFF, &request) != 0) give_up("cannot make TAP", device);
    return fd;
}

/* -- frames that wait --------------------------------------------------------------------------- */

static bool earlier(const struct frame *a, const struct frame *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void heap_swap(struct relay *r, size_t a, size_t b)
{
    struct frame *f = r->heap[a];
    r->heap[a] = r->heap[b];
    r->heap[b] = f;
}

static void heap_push(struct relay *r, struct frame *f)
{
    size_t i = r->waiting++;
    r->heap[i] = f;
    for (; i > 0 && earlier(r->heap[i], r->heap[(i - 1) / 2]); i = (i - 1) / 2) heap_swap(r, i, (i - 1) / 2);
}

static struct frame *heap_pop(struct relay *r)
{
    struct frame *first = r->heap[0];
    r->heap[0] = r->heap[--r->waiting];
    for (size_t i = 0;;) {
        size_t least = i;
        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < r->waiting; child++)
            if (earlier(r->heap[child], r->heap[least])) least = child;
        if (least == i) return first;
        heap_swap(r, i, least);
        i = least;
    }
}

static void write_frame(struct relay *r, uint32_t to, const uint8_t *bytes, size_t size)
{
    if (write(r->fd[to], bytes, size) == (ssize_t)size)
        r->delivered++;
    else
        r->refused++;
}

static void deliver_due(struct relay *r, uint64_t now)
{
    while (r->waiting > 0 && r->heap[0]->at_us <= now) {
        struct frame *f = heap_pop(r);
        write_frame(r, f->to, f->bytes, f->size);
        free(f);
    }
}

static void schedule(struct relay *r, uint32_t to, uint64_t at_us, const uint8_t *bytes, size_t size)
{
    if (r->waiting == QUEUE_MAX) {
        r->overflowed++;
        return;
    }
    struct frame *f = mem_new(1, sizeof *f + size);
    *f = (struct frame){.at_us = at_us, .order = r->order++, .to = to, .size = (uint32_t)size};
    memcpy(f->bytes, bytes, size);
    heap_push(r, f);
}

static void forward(struct relay *r, uint32_t from, uint32_t to, const uint8_t *bytes, size_t size,
                    uint64_t now)
{
    uint8_t damaged[FRAME_MAX];
    struct impair_verdict v;
    impair_judge(&r->pair[from][to], now, size, &v);
    if (v.corrupt) {
        memcpy(damaged, bytes, size);
        impair_corrupt(&r->pair[from][to], damaged, size);
        bytes = damaged;
    }
    for (uint32_t i = 0; i < v.copies; i++) schedule(r, to, v.at_us[i], bytes, size);
}

/* -- the switch -------------------------------------------------------------------------------- */

static struct place *find_place(struct relay *r, const uint8_t *mac)
{
    for (uint32_t i = 0; i < r->place_count; i++)
        if (memcmp(r->place[i].mac, mac, 6) == 0) return &r->place[i];
    return NULL;
}

static void learn(struct relay *r, const uint8_t *mac, uint32_t port)
{
    struct place *p = find_place(r, mac);
    if (p == NULL && r->place_count < MAC_MAX) {
        p = &r->place[r->place_count++];
        memcpy(p->mac, mac, 6);
    }
    if (p != NULL) p->port = port;
}

static void switch_frame(struct relay *r, uint32_t from, const uint8_t *bytes, size_t size, uint64_t now)
{
    if (size < 14) return;
    learn(r, bytes + 6, from);
    bool group = (bytes[0] & 1) != 0;
    const struct place *p = group ? NULL : find_place(r, bytes);
    if (p != NULL) {
        if (p->port != from) forward(r, from, p->port, bytes, size, now);
        return;
    }
    for (uint32_t to = 0; to < r->port_count; to++)
        if (to != from) forward(r, from, to, bytes, size, now);
}

static void read_port(struct relay *r, uint32_t port)
{
    uint8_t bytes[FRAME_MAX];
    for (int budget = 64; budget > 0; budget--) {
        ssize_t size = read(r->fd[port], bytes, sizeof bytes);
        if (size <= 0) return;
        switch_frame(r, port, bytes, (size_t)size, now_us());
    }
}

/* -- commands ---------------------------------------------------------------------------------- */

static void print_counts(const char *name, const struct impair_counts *c)
{
    printf("\"%s\": {\"frames\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"lost\": %" PRIu64
           ", \"burst_lost\": %" PRIu64 ", \"overflowed\": %" PRIu64 ", \"delayed\": %" PRIu64
           ", \"duplicated\": %" PRIu64 ", \"reordered\": %" PRIu64 ", \"corrupted\": %" PRIu64 "}",
           name, c->frames, c->bytes, c->lost, c->burst_lost, c->overflowed, c->delayed, c->duplicated,
           c->reordered, c->corrupted);
}

static void add_counts(struct impair_counts *to, const struct impair_counts *c)
{
    to->frames += c->frames;
    to->bytes += c->bytes;
    to->lost += c->lost;
    to->burst_lost += c->burst_lost;
    to->overflowed += c->overflowed;
    to->delayed += c->delayed;
    to->duplicated += c->duplicated;
    to->reordered += c->reordered;
    to->corrupted += c->corrupted;
}

static void print_stats(const struct relay *r)
{
    struct impair_counts total = {.overflowed = r->overflowed};
    const char *comma = "";
    printf("{\"pairs\": [");
    for (uint32_t from = 0; from < r->port_count; from++)
        for (uint32_t to = 0; to < r->port_count; to++) {
            const struct impair_counts *c = &r->pair[from][to].counts;
            if (c->frames == 0) continue;
            add_counts(&total, c);
            printf("%s{\"from\": %" PRIu32 ", \"to\": %" PRIu32 ", ", comma, from, to);
            print_counts("counts", c);
            printf("}");
            comma = ", ";
        }
    printf("], ");
    print_counts("total", &total);
    printf(", \"waiting\": %zu, \"delivered\": %" PRIu64 ", \"refused\": %" PRIu64 "}\n", r->waiting,
           r->delivered, r->refused);
}

/* "*" or a number below port_count: the ports from *low up to below *high. */
static const char *read_ports(const struct relay *r, const char *text, uint32_t *low, uint32_t *high)
{
    char *after;
    text += strspn(text, " ");
    if (*text == '*') {
        *low = 0;
        *high = r->port_count;
        return text + 1;
    }
    unsigned long port = strtoul(text, &after, 10);
    if (after == text || port >= r->port_count) return NULL;
    *low = (uint32_t)port;
    *high = *low + 1;
    return after;
}

static int set_pairs(struct relay *r, const char *text)
{
    uint32_t from, from_end, to, to_end;
    struct impair_config config;
    const char *bad = text;
    text = read_ports(r, text, &from, &from_end);
    if (text != NULL) text = read_ports(r, text, &to, &to_end);
    if (text == NULL || impair_parse(&config, text, &bad) != 0) {
        printf("{\"error\": \"makes no sense: %.60s\"}\n", bad);
        return -1;
    }
    for (uint32_t a = from; a < from_end; a++)
        for (uint32_t b = to; b < to_end; b++)
            if (a != b) impair_set(&r->pair[a][b], &config, now_us());
    return 0;
}

static void obey(struct relay *r, const char *line)
{
    if (strcmp(line, "stats") == 0) {
        print_stats(r);
    } else if (strncmp(line, "set ", 4) == 0) {
        if (set_pairs(r, line + 4) == 0) printf("{\"ok\": true}\n");
    } else {
        printf("{\"error\": \"set FROM TO WORDS, or stats\"}\n");
    }
    fflush(stdout);
}

/* Returns false at the end of stdin. */
static bool read_commands(struct relay *r)
{
    ssize_t size = read(STDIN_FILENO, r->line + r->line_size, sizeof r->line - 1 - r->line_size);
    if (size <= 0) return false;
    r->line_size += (size_t)size;
    r->line[r->line_size] = '\0';
    char *end;
    while ((end = strchr(r->line, '\n')) != NULL) {
        *end = '\0';
        obey(r, r->line);
        r->line_size -= (size_t)(end + 1 - r->line);
        memmove(r->line, end + 1, r->line_size + 1);
    }
    return r->line_size < sizeof r->line - 1;
}

/* -- the whole --------------------------------------------------------------------------------- */

static void wait_for_work(const struct relay *r, struct pollfd *fds)
{
    struct timespec *limit = NULL, wait;
    if (r->waiting > 0) {
        uint64_t now = now_us(), at = r->heap[0]->at_us, us = at > now ? at - now : 0;
        wait = (struct timespec){.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000};
        limit = &wait;
    }
    for (uint32_t i = 0; i < r->port_count; i++) fds[i] = (struct pollfd){.fd = r->fd[i], .events = POLLIN};
    fds[r->port_count] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
    if (ppoll(fds, r->port_count + 1, limit, NULL) < 0 && errno != EINTR) give_up("cannot", "poll");
}

static void run(struct relay *r)
{
    struct pollfd fds[PORT_MAX + 1];
    printf("{\"ready\": %" PRIu32 "}\n", r->port_count);
    fflush(stdout);
    for (;;) {
        wait_for_work(r, fds);
        for (uint32_t i = 0; i < r->port_count; i++)
            if (fds[i].revents & POLLIN) read_port(r, i);
        deliver_due(r, now_us());
        if (fds[r->port_count].revents != 0 && !read_commands(r)) return;
    }
}

static void open_ports(struct relay *r, int count, char **names)
{
    int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (home < 0) give_up("cannot open", "/proc/self/ns/net");
    for (int i = 0; i < count; i++) r->fd[i] = open_tap(names[i]);
    if (setns(home, CLONE_NEWNET) != 0) give_up("cannot go back to", "the first namespace");
    close(home);
    r->port_count = (uint32_t)count;
}

static void close_all(struct relay *r)
{
    for (size_t i = 0; i < r->waiting; i++) free(r->heap[i]);
    for (uint32_t i = 0; i < r->port_count; i++) close(r->fd[i]);
    free(r);
}

int main(int argc, char **argv)
{
    uint64_t seed = 1;
    const char *initial = NULL;
    int at = 1;
    for (; at + 1 < argc && strncmp(argv[at], "--", 2) == 0; at += 2) {
        if (strcmp(argv[at], "--seed") == 0) seed = strtoull(argv[at + 1], NULL, 10);
        if (strcmp(argv[at], "--set") == 0) initial = argv[at + 1];
    }
    int count = argc - at;
    if (count < 2 || count > PORT_MAX) {
        fprintf(stderr, "usage: %s [--seed N] [--set \"WORDS\"] NAMESPACE:DEVICE ... (2 to %d)\n", argv[0],
                PORT_MAX);
        return 2;
    }
    struct relay *r = mem_new_zero(1, sizeof *r);
    open_ports(r, count, argv + at);
    for (uint32_t a = 0; a < PORT_MAX; a++)
        for (uint32_t b = 0; b < PORT_MAX; b++) {
            impair_init(&r->pair[a][b], seed, a * PORT_MAX + b);
            impair_set(&r->pair[a][b], &(struct impair_config){0}, 0);
        }
    char line[LINE_MAX_BYTES];
    snprintf(line, sizeof line, "* * %s", initial == NULL ? "" : initial);
    int err = set_pairs(r, line);
    if (err == 0) run(r);
    close_all(r);
    return err == 0 ? 0 : 2;
}
