/* The multicast search over libuv: one UDP socket bound to the group, one timer.
 *
 * Normal course
 *  - alone: a question (BEACON_ASK) to the group every announce_us, the first at once; it says where we
 *    accept links.
 *  - somebody else's question: those who are alone too take it for an answer; those who are not answer
 *    (BEACON_HERE) to the group, each after a random part of answer_us, unless ENOUGH others have answered
 *    meanwhile: a thousand members make a handful of datagrams.
 *  - an answer, while alone: on_found with the sender's address and the port it named.
 * Failure courses
 *  - a datagram that is none of ours, of another version or cluster: dropped and counted. Our own come back:
 *    ignored.
 *  - more than FOUND_PER_SECOND_MAX in a second: the rest is dropped; more than one answer a second: not
 *    given.
 *  - sending fails (no route just now): said once a minute, tried again.
 *  - no multicast on this machine or interface: an error at the start, naming --multicast. */
#include "net/uv/multicast.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/check.h"
#include "base/prng.h"
#include "net/discovery/beacon.h"
#include "net/uv/internal.h"

#define ENOUGH 3u
#define FOUND_PER_SECOND_MAX 32u
#define SECOND_US 1000000u
#define COMPLAINT_US 60000000u

struct uv_multicast {
    uv_udp_t udp;
    uv_timer_t timer;
    uint32_t open_handles;
    struct uv_multicast_config config; /* the borrowed texts are not used after open */
    struct prng prng;
    struct sockaddr_in group;
    struct uv_multicast_totals totals;
    bool alone;
    uint64_t ask_us;      /* when the next question is due; TIME_NEVER */
    uint64_t answer_us;   /* when an answer is due; TIME_NEVER */
    uint64_t answered_us; /* the last one of ours; 0 = none */
    uint32_t heard;       /* answers of others since the question that we are to answer */
    uint64_t second_us;   /* since when found_count counts */
    uint32_t found_count;
    uint64_t complained_us; /* 0 = never */
    uint8_t in[BEACON_SIZE + 1];
};

void uv_multicast_defaults(struct uv_multicast_config *c)
{
    *c = (struct uv_multicast_config){.group = MULTICAST_GROUP, .announce_us = 2000000, .answer_us = 500000};
}

static void timer_cb(uv_timer_t *timer);

static void arm(struct uv_multicast *m)
{
    uint64_t at_us = m->ask_us < m->answer_us ? m->ask_us : m->answer_us, now_us = tcp_now_us();
    if (at_us == TIME_NEVER)
        uv_timer_stop(&m->timer);
    else
        uv_timer_start(&m->timer, timer_cb, at_us > now_us ? (at_us - now_us + 999) / 1000 : 0, 0);
}

static void complain(struct uv_multicast *m, int err)
{
    uint64_t now_us = tcp_now_us();
    if (m->complained_us != 0 && now_us - m->complained_us < COMPLAINT_US) return;
    m->complained_us = now_us;
    trace_line(m->config.trace, TRACE_WARN, "--multicast: cannot send to the group: %s; trying again",
               uv_strerror(err));
}

static void say(struct uv_multicast *m, enum beacon_kind kind)
{
    struct beacon b = {.kind = kind, .id = m->config.id, .port = m->config.port};
    uint8_t data[BEACON_SIZE];
    memcpy(b.cluster, m->config.cluster, sizeof b.cluster);
    beacon_encode(&b, data);
    uv_buf_t buf = uv_buf_init((char *)data, sizeof data);
    int err = uv_udp_try_send(&m->udp, &buf, 1, (const struct sockaddr *)&m->group);
    if (err < 0 && err != UV_EAGAIN) complain(m, err);
}

static void timer_cb(uv_timer_t *timer)
{
    struct uv_multicast *m = timer->data;
    uint64_t now_us = tcp_now_us();
    if (now_us >= m->answer_us) {
        m->answer_us = TIME_NEVER;
        if (m->heard < ENOUGH && !m->alone) {
            m->answered_us = now_us;
            m->totals.answered++;
            say(m, BEACON_HERE);
        }
    }
    if (now_us >= m->ask_us) {
        m->ask_us = now_us + m->config.announce_us;
        m->totals.asked++;
        say(m, BEACON_ASK);
    }
    arm(m);
}

/* -- what comes ------------------------------------------------------------------------------------ */

static void answer_later(struct uv_multicast *m)
{
    uint64_t now_us = tcp_now_us();
    bool lately = m->answered_us != 0 && now_us - m->answered_us < SECOND_US;
    if (m->answer_us != TIME_NEVER || lately) return;
    m->heard = 0;
    m->answer_us = now_us + (uint64_t)((double)m->config.answer_us * prng_unit(&m->prng));
    arm(m);
}

/* The upcall is last: it may close us. */
static void found(struct uv_multicast *m, const struct beacon *b, const struct sockaddr *from)
{
    uint64_t now_us = tcp_now_us();
    if (now_us - m->second_us >= SECOND_US) {
        m->second_us = now_us;
        m->found_count = 0;
    }
    if (m->found_count++ >= FOUND_PER_SECOND_MAX) return;
    struct sockaddr_in at;
    memcpy(&at, from, sizeof at);
    at.sin_port = htons(b->port);
    char address[ADDRESS_TEXT_MAX];
    address_print((const struct sockaddr *)&at, true, address);
    m->totals.found++;
    m->config.on_found(m->config.ctx, b->id, address);
}

static void heard(struct uv_multicast *m, const struct beacon *b, const struct sockaddr *from)
{
    if (b->id == m->config.id) return; /* ourselves */
    if (b->kind == BEACON_HERE) m->heard++;
    if (!m->alone && b->kind == BEACON_ASK) answer_later(m);
    if (m->alone) found(m, b, from);
}

static void read_cb(uv_udp_t *udp, ssize_t size, const uv_buf_t *buf, const struct sockaddr *from,
                    unsigned flags)
{
    struct uv_multicast *m = udp->data;
    struct beacon b;
    if (size < 0 || from == NULL)
        return; /* nothing more for now, or an error that the next read shows again */
    bool whole = from->sa_family == AF_INET && (flags & UV_UDP_PARTIAL) == 0;
    if (!whole || beacon_decode((const uint8_t *)buf->base, (size_t)size, &b) != 0 ||
        memcmp(b.cluster, m->config.cluster, sizeof b.cluster) != 0) {
        m->totals.dropped++;
        return;
    }
    heard(m, &b, from);
}

static void alloc_cb(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct uv_multicast *m = handle->data;
    (void)suggested;
    *buf = uv_buf_init((char *)m->in, sizeof m->in);
}

/* -- open and close -------------------------------------------------------------------------------- */

static void closed_cb(uv_handle_t *handle)
{
    struct uv_multicast *m = handle->data;
    CHECK(m->open_handles > 0);
    if (--m->open_handles == 0) free(m);
}

void uv_multicast_close(struct uv_multicast *m)
{
    if (m == NULL) return;
    uv_close((uv_handle_t *)&m->udp, closed_cb);
    uv_close((uv_handle_t *)&m->timer, closed_cb);
}

static int group_parse(const char *text, struct sockaddr_in *out, char host[ADDRESS_TEXT_MAX],
                       struct err_text *why)
{
    char port[8];
    bool valid = address_split(text, host, port) == 0 && strcmp(port, "0") != 0 &&
                 uv_ip4_addr(host, (int)strtol(port, NULL, 10), out) == 0 &&
                 ntohl(out->sin_addr.s_addr) >> 28 == 0xe;
    if (valid) return 0;
    return err_set(why, ERR_USAGE,
                   "--multicast: '%s' must be a group from 224.0.0.0 to 239.255.255.255 and a port, as in %s",
                   text, MULTICAST_GROUP);
}

static int socket_start(struct uv_multicast *m, const char *host, const char *interface)
{
    int err = uv_udp_bind(&m->udp, (const struct sockaddr *)&m->group, UV_UDP_REUSEADDR);
    if (err == 0) err = uv_udp_set_membership(&m->udp, host, interface, UV_JOIN_GROUP);
    if (err == 0 && interface != NULL) err = uv_udp_set_multicast_interface(&m->udp, interface);
    if (err == 0) err = uv_udp_set_multicast_ttl(&m->udp, 1);
    if (err == 0) err = uv_udp_set_multicast_loop(&m->udp, 1);
    return err == 0 ? uv_udp_recv_start(&m->udp, alloc_cb, read_cb) : err;
}

int uv_multicast_open(uv_loop_t *loop, const struct uv_multicast_config *config, struct uv_multicast **out,
                      struct err_text *why)
{
    char host[ADDRESS_TEXT_MAX];
    struct sockaddr_in group;
    CHECK(config->port != 0 && config->announce_us > 0 && config->on_found != NULL);
    int err = group_parse(config->group, &group, host, why);
    if (err != 0) return err;
    struct uv_multicast *m = mem_new_zero(1, sizeof *m);
    m->config = *config;
    m->group = group;
    m->ask_us = m->answer_us = TIME_NEVER;
    prng_split(&m->prng, config->seed, "multicast", config->id);
    CHECK(uv_timer_init(loop, &m->timer) == 0);
    CHECK(uv_udp_init(loop, &m->udp) == 0);
    m->open_handles = 2;
    m->timer.data = m->udp.data = m;
    err = socket_start(m, host, config->interface);
    if (err != 0) {
        uv_multicast_close(m);
        return err_set(why, ERR_IO,
                       "--multicast: cannot join %s%s%s: %s; give another group, or leave it out",
                       config->group, config->interface != NULL ? " on " : "",
                       config->interface != NULL ? config->interface : "", uv_strerror(err));
    }
    uv_multicast_alone(m, true);
    *out = m;
    return 0;
}

void uv_multicast_alone(struct uv_multicast *m, bool alone)
{
    if (alone == m->alone) return;
    m->alone = alone;
    m->ask_us = alone ? tcp_now_us() : TIME_NEVER;
    arm(m);
}

void uv_multicast_totals(const struct uv_multicast *m, struct uv_multicast_totals *out)
{
    *out = m->totals;
}
