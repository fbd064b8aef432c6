/* Goal: members on one network find each other without an address, say little, and swallow no foreign
 * datagram. Method: beacons by hand and at random through the decoder; several searchers in one loop on the
 * loopback interface, which takes part in multicast once asked for; a plain socket throws in what does not
 * belong. Waits are bounded and on the loop, which must close with 0. Skipped, with the reason, where
 * loopback takes no multicast. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/prng.h"
#include "net/discovery/beacon.h"
#include "net/uv/multicast.h"
#include "tests/contract/loop_fixture.h"

#define MEMBER_MAX 12u

/* -- the datagram ------------------------------------------------------------------------------------ */

static struct beacon sample(void)
{
    struct beacon b = {.kind = BEACON_HERE, .id = 0x0123456789abcdefu, .port = 7946};
    for (unsigned i = 0; i < 16; i++) b.cluster[i] = (uint8_t)(i + 1);
    return b;
}

static void a_beacon_is_read_as_written(void **state)
{
    (void)state;
    struct beacon b = sample(), out;
    uint8_t data[BEACON_SIZE];
    beacon_encode(&b, data);
    assert_int_equal(beacon_decode(data, sizeof data, &out), 0);
    assert_int_equal(out.kind, b.kind);
    assert_true(out.id == b.id && out.port == b.port);
    assert_memory_equal(out.cluster, b.cluster, 16);
}

static void whatever_is_not_exactly_one_is_refused(void **state)
{
    (void)state;
    struct beacon b = sample(), out;
    uint8_t data[BEACON_SIZE + 8] = {0}, bad[BEACON_SIZE + 8];
    beacon_encode(&b, data);
    for (size_t size = 0; size <= sizeof data; size++)
        assert_int_equal(beacon_decode(data, size, &out) == 0, size == BEACON_SIZE);
    for (size_t at = 0; at < BEACON_SIZE; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            memcpy(bad, data, sizeof bad);
            bad[at] ^= (uint8_t)(1u << bit);
            assert_true(beacon_decode(bad, BEACON_SIZE, &out) < 0);
        }
    struct beacon wrong[3] = {b, b, b};
    wrong[0].port = 0;
    wrong[1].kind = (enum beacon_kind)0;
    wrong[2].kind = (enum beacon_kind)3;
    for (size_t i = 0; i < 3; i++) {
        beacon_encode(&wrong[i], bad); /* the checksum is good */
        assert_true(beacon_decode(bad, BEACON_SIZE, &out) < 0);
    }
}

/* -- on the wire --------------------------------------------------------------------------------------- */

struct member {
    struct uv_multicast *m;
    node_id id;
    unsigned found;
    node_id last_id;
    char last[ADDRESS_TEXT_MAX];
};

struct world {
    uv_loop_t loop;
    struct member member[MEMBER_MAX];
    uint32_t count;
    char group[64];
};

static void on_found(void *ctx, node_id id, const char *address)
{
    struct member *m = ctx;
    assert_true(id != m->id);
    m->found++;
    m->last_id = id;
    snprintf(m->last, sizeof m->last, "%s", address);
}

static struct uv_multicast_config config_of(struct world *w, struct member *m, uint8_t cluster)
{
    struct uv_multicast_config c;
    uv_multicast_defaults(&c);
    c.group = w->group;
    c.interface = "127.0.0.1";
    memset(c.cluster, cluster, sizeof c.cluster);
    c.id = m->id;
    c.port = (uint16_t)(1000 + m->id);
    c.announce_us = 20000;
    c.answer_us = 5000;
    c.on_found = on_found;
    c.ctx = m;
    return c;
}

static struct member *member_add(struct world *w, uint8_t cluster)
{
    struct err_text why = {""};
    struct member *m = &w->member[w->count];
    m->id = w->count++; /* 0 is one as well */
    struct uv_multicast_config c = config_of(w, m, cluster);
    if (uv_multicast_open(&w->loop, &c, &m->m, &why) != 0) fail_msg("%s", why.text);
    return m;
}

/* A port of our own, so that runs at the same time do not hear each other. */
static void world_open(struct world *w)
{
    memset(w, 0, sizeof *w);
    assert_int_equal(uv_loop_init(&w->loop), 0);
    snprintf(w->group, sizeof w->group, "239.192.71.67:%u", 20000 + (unsigned)getpid() % 30000);
}

static void world_close(struct world *w)
{
    for (uint32_t i = 0; i < w->count; i++) uv_multicast_close(w->member[i].m);
    while (uv_run(&w->loop, UV_RUN_NOWAIT) != 0) continue;
    assert_int_equal(uv_loop_close(&w->loop), 0);
}

static struct uv_multicast_totals totals_of(const struct member *m)
{
    struct uv_multicast_totals t;
    uv_multicast_totals(m->m, &t);
    return t;
}

/* A plain sender to the group; returns false when the machine does not take multicast on loopback. */
static bool throw_in(struct world *w, const void *data, size_t size)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    struct in_addr loopback = {.s_addr = htonl(INADDR_LOOPBACK)};
    char host[64];
    snprintf(host, sizeof host, "%s", w->group);
    *strrchr(host, ':') = '\0';
    to.sin_port = htons((uint16_t)strtol(strrchr(w->group, ':') + 1, NULL, 10));
    assert_int_equal(inet_pton(AF_INET, host, &to.sin_addr), 1);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    bool sent = setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &loopback, sizeof loopback) == 0 &&
                sendto(fd, data, size, 0, (struct sockaddr *)&to, sizeof to) == (ssize_t)size;
    close(fd);
    return sent;
}

static void two_alone_find_each_other(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    struct member *a = member_add(&w, 1), *b = member_add(&w, 1), *other = member_add(&w, 2);
    RUN_UNTIL(&w, a->found > 0 && b->found > 0);
    assert_true(a->last_id == b->id);
    assert_string_equal(a->last, "127.0.0.1:1001");
    assert_string_equal(b->last, "127.0.0.1:1000");
    RUN_UNTIL(&w, totals_of(other).dropped > 0);
    assert_int_equal(other->found, 0); /* another cluster */
    world_close(&w);
}

static void those_in_company_ask_nothing_and_answer_seldom(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    for (uint32_t i = 0; i < 10; i++) uv_multicast_alone(member_add(&w, 1)->m, false);
    struct member *newcomer = member_add(&w, 1);
    RUN_UNTIL(&w, newcomer->found > 0 && totals_of(newcomer).asked >= 5);
    uint64_t answers = 0;
    for (uint32_t i = 0; i < 10; i++) {
        struct uv_multicast_totals t = totals_of(&w.member[i]);
        assert_int_equal(t.asked, 0);
        assert_int_equal(w.member[i].found, 0);
        assert_true(t.answered <= 5);
        answers += t.answered;
    }
    assert_true(answers >= 1);
    uv_multicast_alone(newcomer->m, false); /* it has a link: it asks no more */
    uint64_t asked = totals_of(newcomer).asked;
    unsigned found = newcomer->found;
    for (int i = 0; i < 20; i++) loop_turn(&w.loop);
    assert_true(totals_of(newcomer).asked == asked);
    assert_int_equal(newcomer->found, found);
    world_close(&w);
}

static void foreign_datagrams_are_counted_and_nothing_else(void **state)
{
    (void)state;
    struct world w;
    struct prng prng;
    world_open(&w);
    prng_seed(&prng, 9);
    struct member *a = member_add(&w, 1);
    struct beacon b = sample();
    uint8_t data[2000];
    memset(b.cluster, 1, sizeof b.cluster);
    uint64_t expected = 0;
    for (uint32_t i = 0; i < 200; i++, expected++) {
        size_t size = i % 3 == 0 ? BEACON_SIZE : prng_below(&prng, sizeof data);
        for (size_t k = 0; k < size; k++) data[k] = (uint8_t)prng_next(&prng);
        if (i % 4 == 0) beacon_encode(&b, data), size = BEACON_SIZE + 1 + i; /* a good one with a tail */
        assert_true(throw_in(&w, data, size));
        if (i % 20 == 0) loop_turn(&w.loop);
    }
    RUN_UNTIL(&w, totals_of(a).dropped == expected);
    assert_int_equal(a->found, 0);
    beacon_encode(&b, data);
    assert_true(throw_in(&w, data, BEACON_SIZE));
    RUN_UNTIL(&w, a->found == 1);
    for (uint32_t i = 0; i < 100; i++) assert_true(throw_in(&w, data, BEACON_SIZE)); /* a flood */
    loop_turn(&w.loop);
    loop_turn(&w.loop);
    assert_in_range(a->found, 1, 64); /* 32 in a second */
    world_close(&w);
}

static void what_is_no_group_is_said_with_the_option(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    static const char *const wrong[] = {"",       "239.1.2.3",  "239.1.2.3:0", "10.0.0.1:7946",
                                        "host:1", "[ff02::1]:1"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct err_text why = {""};
        struct member m = {.id = 5};
        struct uv_multicast_config c = config_of(&w, &m, 1);
        c.group = wrong[i];
        assert_int_equal(uv_multicast_open(&w.loop, &c, &m.m, &why), ERR_USAGE);
        assert_non_null(strstr(why.text, "--multicast"));
    }
    struct err_text why = {""};
    struct member m = {.id = 5};
    struct uv_multicast_config c = config_of(&w, &m, 1);
    c.interface = "203.0.113.77"; /* not ours */
    assert_int_equal(uv_multicast_open(&w.loop, &c, &m.m, &why), ERR_IO);
    assert_non_null(strstr(why.text, "203.0.113.77"));
    world_close(&w);
}

static bool loopback_takes_multicast(void)
{
    struct ip_mreq request = {.imr_interface.s_addr = htonl(INADDR_LOOPBACK)};
    struct world w = {.group = "239.192.71.67:19999"};
    inet_pton(AF_INET, "239.192.71.67", &request.imr_multiaddr);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    bool joined = setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &request, sizeof request) == 0;
    close(fd);
    return joined && throw_in(&w, "x", 1);
}

int main(void)
{
    const struct CMUnitTest datagram[] = {
        cmocka_unit_test(a_beacon_is_read_as_written),
        cmocka_unit_test(whatever_is_not_exactly_one_is_refused),
    };
    const struct CMUnitTest wire[] = {
        cmocka_unit_test(two_alone_find_each_other),
        cmocka_unit_test(those_in_company_ask_nothing_and_answer_seldom),
        cmocka_unit_test(foreign_datagrams_are_counted_and_nothing_else),
        cmocka_unit_test(what_is_no_group_is_said_with_the_option),
    };
    int failed = cmocka_run_group_tests(datagram, NULL, NULL);
    if (loopback_takes_multicast()) return failed + cmocka_run_group_tests(wire, NULL, NULL);
    printf("SKIP: the loopback interface takes no multicast here\n");
    return failed;
}
