/* Goal: agents find each other over real links by each of the ways there are: an address, the local network,
 * the book of a former life when the address given is gone; they look again when they are alone again, and
 * know when it is hopeless. Method: a search and a transport each, in one loop, on loopback; the transport's
 * calls go to the search as an agent passes them on. Waits are bounded and on the loop, which must close with
 * 0. */
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

#include "agent/daemon/search.h"
#include "net/uv/uv.h"
#include "tests/contract/loop_fixture.h"

#define AGENT_MAX 6u

struct agent {
    struct world *world;
    struct transport *transport;
    struct search *search;
    char address[ADDRESS_TEXT_MAX];
    unsigned ups, downs, dials, undials;
    struct link_id link;
    bool closed, searching;
};

struct world {
    uv_loop_t loop;
    struct agent agent[AGENT_MAX];
    uint32_t count;
};

static void on_up(void *ctx, struct link_id link, const struct peer_info *peer)
{
    struct agent *a = ctx;
    a->ups++;
    a->link = link;
    if (a->searching) search_up(a->search, peer);
}

static void on_down(void *ctx, struct link_id link, enum down_reason why)
{
    struct agent *a = ctx;
    (void)link;
    (void)why;
    a->downs++;
    if (a->searching) search_down(a->search);
}

static void on_refused(void *ctx, const char *address, int err, const char *reason)
{
    struct agent *a = ctx;
    (void)reason;
    if (a->searching) search_refused(a->search, address, err);
}

static void on_closed(void *ctx)
{
    struct agent *a = ctx;
    a->closed = true;
}

static void dial(void *ctx, const char *address)
{
    struct agent *a = ctx;
    assert_string_not_equal(address, a->address);
    assert_int_equal(a->transport->ops->dial(a->transport, address), 0);
    a->dials++;
}

static void undial(void *ctx, const char *address)
{
    struct agent *a = ctx;
    a->transport->ops->undial(a->transport, address);
    a->undials++;
}

struct start {
    const char *listen; /* NULL = any port of loopback */
    const char *join;   /* NULL = nobody */
    const char *multicast;
    const char (*saved)[ADDRESS_TEXT_MAX];
    uint32_t saved_count;
    uint8_t cluster;
};

static struct agent *agent_start(struct world *w, const struct start *how)
{
    struct agent *a = &w->agent[w->count++];
    struct err_text why = {""};
    struct discovery_config times;
    struct transport_config config = {.id = 100 + w->count,
                                      .boot = 1,
                                      .cluster = {how->cluster},
                                      .body_size_max = 1u << 20,
                                      .heartbeat_us = 100000,
                                      .silence_us = 2000000,
                                      .hello_us = 2000000,
                                      .redial_min_us = 2000,
                                      .redial_max_us = 20000};
    struct transport_sink sink = {.ctx = a,
                                  .on_up = on_up,
                                  .on_down = on_down,
                                  .on_message = ignore_message,
                                  .on_writable = ignore_writable,
                                  .on_refused = on_refused,
                                  .on_closed = on_closed};
    a->world = w;
    const char *listen = how->listen != NULL ? how->listen : "127.0.0.1:0";
    if (uv_tcp_new(&w->loop, listen, &config, &sink, &a->transport, a->address, &why) != 0)
        fail_msg("%s", why.text);
    discovery_defaults(&times);
    times.try_us = 200000; /* short: the tests wait for it */
    times.backoff_min_us = 5000;
    times.backoff_max_us = 50000;
    struct search_config search = {.loop = &w->loop,
                                   .join = &how->join,
                                   .join_count = how->join != NULL,
                                   .saved = how->saved,
                                   .saved_count = how->saved_count,
                                   .bound = a->address,
                                   .multicast = how->multicast,
                                   .cluster = {how->cluster},
                                   .id = config.id,
                                   .discovery = &times,
                                   .seed = w->count,
                                   .dial = dial,
                                   .undial = undial,
                                   .ctx = a};
    if (search_open(&search, &a->search, &why) != 0) fail_msg("%s", why.text);
    a->searching = true;
    search_start(a->search);
    return a;
}

static void agent_stop(struct agent *a)
{
    if (!a->searching) return;
    a->searching = false;
    search_close(a->search);
    a->transport->ops->close(a->transport);
    RUN_UNTIL(a->world, a->closed);
    uv_tcp_free(a->transport);
}

static void world_open(struct world *w)
{
    memset(w, 0, sizeof *w);
    assert_int_equal(uv_loop_init(&w->loop), 0);
}

static void world_close(struct world *w)
{
    for (uint32_t i = 0; i < w->count; i++) agent_stop(&w->agent[i]);
    for (int i = 0; i < 10; i++) uv_run(&w->loop, UV_RUN_NOWAIT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
}

static uint32_t links_of(const struct agent *a)
{
    return a->ups - a->downs;
}

/* -- tests ------------------------------------------------------------------------------------------- */

static void an_address_is_dialled_until_there_is_a_link(void **state)
{
    (void)state;
    struct world w;
    char why[DISCOVERY_WHY_MAX];
    world_open(&w);
    struct agent *a = agent_start(&w, &(struct start){.join = "127.0.0.1:9"}); /* nobody is there */
    RUN_UNTIL(&w, a->undials >= 2);                                            /* tried, left, tried again */
    assert_non_null(strstr(search_why(a->search, why), "127.0.0.1:9"));
    struct agent *b = agent_start(&w, &(struct start){.join = a->address});
    RUN_UNTIL(&w, links_of(a) == 1 && links_of(b) == 1);
    assert_int_equal(a->dials, a->undials); /* no tries are left open */
    assert_int_equal(b->dials, b->undials);
    assert_string_equal(search_why(a->search, why), "");
    char book[4][ADDRESS_TEXT_MAX];
    assert_int_equal(search_addresses(b->search, book, 4), 1);
    assert_string_equal(book[0], a->address);
    world_close(&w);
}

static void who_is_alone_again_looks_again(void **state)
{
    (void)state;
    struct world w;
    char address[ADDRESS_TEXT_MAX];
    world_open(&w);
    struct agent *seed = agent_start(&w, &(struct start){.cluster = 1});
    snprintf(address, sizeof address, "%s", seed->address);
    struct agent *a = agent_start(&w, &(struct start){.join = address, .cluster = 1});
    RUN_UNTIL(&w, links_of(a) == 1);
    agent_stop(seed);
    RUN_UNTIL(&w, links_of(a) == 0);
    unsigned dials = a->dials;
    RUN_UNTIL(&w, a->dials > dials);
    agent_start(&w, &(struct start){.listen = address, .cluster = 1}); /* another process, at the old place */
    RUN_UNTIL(&w, links_of(a) == 1);
    world_close(&w);
}

static void the_book_finds_the_cluster_when_the_seed_is_gone(void **state)
{
    (void)state;
    struct world w;
    char seed_address[ADDRESS_TEXT_MAX], book[8][ADDRESS_TEXT_MAX];
    world_open(&w);
    struct agent *seed = agent_start(&w, &(struct start){.cluster = 1});
    snprintf(seed_address, sizeof seed_address, "%s", seed->address);
    struct agent *b = agent_start(&w, &(struct start){.join = seed_address, .cluster = 1});
    struct agent *c = agent_start(&w, &(struct start){.join = seed_address, .cluster = 1});
    RUN_UNTIL(&w, links_of(seed) == 2 && links_of(c) == 1);
    search_heard(c->search, 102, b->address); /* membership told */
    uint32_t count = search_addresses(c->search, book, 8);
    assert_int_equal(count, 2);
    agent_stop(seed);
    agent_stop(c);
    struct agent *again = agent_start(&w, &(struct start){.join = seed_address,
                                                          .saved = (const char(*)[ADDRESS_TEXT_MAX])book,
                                                          .saved_count = count,
                                                          .cluster = 1});
    RUN_UNTIL(&w, links_of(again) == 1 && links_of(b) == 1);
    assert_int_equal(search_addresses(again->search, book, 8), 2);
    assert_string_equal(book[0], b->address); /* it is the better one now */
    world_close(&w);
}

static bool loopback_takes_multicast(void)
{
    struct ip_mreq request = {.imr_interface.s_addr = htonl(INADDR_LOOPBACK)};
    inet_pton(AF_INET, "239.192.71.68", &request.imr_multiaddr);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    bool joined = setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &request, sizeof request) == 0;
    close(fd);
    return joined;
}

static void the_local_network_is_enough(void **state)
{
    (void)state;
    struct world w;
    char group[64];
    if (!loopback_takes_multicast()) {
        printf("SKIP: the loopback interface takes no multicast here\n");
        skip();
    }
    world_open(&w);
    snprintf(group, sizeof group, "239.192.71.68:%u", 20000 + (unsigned)getpid() % 30000);
    struct agent *a = agent_start(&w, &(struct start){.multicast = group, .cluster = 1});
    struct agent *b = agent_start(&w, &(struct start){.multicast = group, .cluster = 1});
    RUN_UNTIL(&w, links_of(a) == 1 && links_of(b) == 1);
    struct agent *late = agent_start(&w, &(struct start){.multicast = group, .cluster = 1});
    struct agent *other = agent_start(&w, &(struct start){.multicast = group, .cluster = 2});
    RUN_UNTIL(&w, links_of(late) >= 1); /* those in company answer */
    assert_int_equal(other->ups, 0);
    assert_int_equal(other->dials, 0);
    world_close(&w);
}

static void all_of_another_cluster_is_a_verdict(void **state)
{
    (void)state;
    struct world w;
    struct err_text why = {""};
    world_open(&w);
    struct agent *a = agent_start(&w, &(struct start){.cluster = 1});
    struct agent *b = agent_start(&w, &(struct start){.join = a->address, .cluster = 2});
    assert_int_equal(search_verdict(b->search, &why), 0);
    RUN_UNTIL(&w, search_verdict(b->search, &why) != 0);
    assert_int_equal(search_verdict(b->search, &why), ERR_CLUSTER);
    assert_non_null(strstr(why.text, a->address));
    world_close(&w);
}

static void a_group_that_is_none_is_an_error(void **state)
{
    (void)state;
    struct world w;
    struct err_text why = {""};
    struct search *s;
    world_open(&w);
    struct search_config config = {.loop = &w.loop,
                                   .bound = "127.0.0.1:5",
                                   .multicast = "10.0.0.1:1",
                                   .id = 3,
                                   .dial = dial,
                                   .undial = undial};
    assert_int_equal(search_open(&config, &s, &why), ERR_USAGE);
    assert_non_null(strstr(why.text, "--multicast"));
    config.multicast = "off";
    assert_int_equal(search_open(&config, &s, &why), 0);
    search_close(s); /* never started */
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_is_dialled_until_there_is_a_link),
        cmocka_unit_test(who_is_alone_again_looks_again),
        cmocka_unit_test(the_book_finds_the_cluster_when_the_seed_is_gone),
        cmocka_unit_test(the_local_network_is_enough),
        cmocka_unit_test(all_of_another_cluster_is_a_verdict),
        cmocka_unit_test(a_group_that_is_none_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
