/* Goal: a name is dialled as what it is: a set of addresses that changes (contract clause 9). All of them are
 * tried, whoever is behind them; one that is ourselves ends nothing; it is resolved again; no more than a few
 * calls and resolutions are under way at once; and the loop goes on while a resolver hangs. Method: this
 * program has its own getaddrinfo, which the resolver's threads call: names and their addresses are a table of the
 * test, all of them on loopback (127.0.0.0/8 needs no set-up). A resolver can be made to hang until it is
 * told otherwise. Several transports share one loop. Waits are bounded and on the loop, which must close with
 * 0. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/uv/resolve.h"
#include "net/uv/uv.h"
#include "tests/contract/loop_fixture.h"

#define REDIAL_MAX_US 20000u
#define PEER_MAX 10u
#define NAME_ADDRESS_MAX 64u

/* -- the resolver ----------------------------------------------------------------------------------- */

static struct resolver {
    pthread_mutex_t lock;
    pthread_cond_t released;
    uint32_t address[NAME_ADDRESS_MAX]; /* of peers.test, 127.x.y.z */
    uint32_t count;
    /* How the names begin that are counted, and with `hangs` not answered. Each test has its own: threads of a former
     * one may still be under way. */
    const char *slow;
    bool hangs;
    unsigned calls, inside, inside_most;
} resolver = {.lock = PTHREAD_MUTEX_INITIALIZER, .released = PTHREAD_COND_INITIALIZER};

static struct addrinfo *answer_of(uint32_t address, uint16_t port, struct addrinfo *next)
{
    struct addrinfo *a = calloc(1, sizeof *a + sizeof(struct sockaddr_in));
    struct sockaddr_in *in = (struct sockaddr_in *)(void *)(a + 1);
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    in->sin_addr.s_addr = htonl(address);
    *a = (struct addrinfo){
        .ai_family = AF_INET, .ai_socktype = SOCK_STREAM, .ai_addrlen = sizeof *in, .ai_next = next};
    a->ai_addr = (struct sockaddr *)(void *)in;
    return a;
}

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
    (void)hints;
    struct addrinfo *list = NULL;
    pthread_mutex_lock(&resolver.lock);
    resolver.calls++;
    const char *named = resolver.slow;
    bool slow = named != NULL && strncmp(host, named, strlen(named)) == 0;
    if (slow && ++resolver.inside > resolver.inside_most) resolver.inside_most = resolver.inside;
    while (slow && resolver.hangs) pthread_cond_wait(&resolver.released, &resolver.lock);
    if (strcmp(host, "peers.test") == 0)
        for (uint32_t i = 0; i < resolver.count; i++)
            list = answer_of(resolver.address[i], (uint16_t)strtol(service, NULL, 10), list);
    if (slow && named == resolver.slow) resolver.inside--;
    pthread_mutex_unlock(&resolver.lock);
    *out = list;
    return list != NULL ? 0 : EAI_NONAME;
}

void freeaddrinfo(struct addrinfo *list)
{
    while (list != NULL) {
        struct addrinfo *next = list->ai_next;
        free(list);
        list = next;
    }
}

static void name_is(uint32_t first, uint32_t count)
{
    pthread_mutex_lock(&resolver.lock);
    for (uint32_t i = 0; i < count; i++) resolver.address[i] = first + i;
    resolver.count = count;
    resolver.calls = 0;
    pthread_mutex_unlock(&resolver.lock);
}

static unsigned resolver_count(unsigned *field)
{
    pthread_mutex_lock(&resolver.lock);
    unsigned count = *field;
    pthread_mutex_unlock(&resolver.lock);
    return count;
}

/* From now on, names that begin so. */
static void hang(const char *slow)
{
    pthread_mutex_lock(&resolver.lock);
    resolver.slow = slow;
    resolver.hangs = true;
    resolver.inside = resolver.inside_most = 0;
    pthread_mutex_unlock(&resolver.lock);
}

static void hang_no_more(void)
{
    pthread_mutex_lock(&resolver.lock);
    resolver.hangs = false;
    pthread_cond_broadcast(&resolver.released);
    pthread_mutex_unlock(&resolver.lock);
}

/* -- peers ------------------------------------------------------------------------------------------- */

struct peer {
    struct transport *transport;
    char address[ADDRESS_TEXT_MAX];
    unsigned ups, downs, refusals;
    int refused_err;
    char refused[ADDRESS_TEXT_MAX];
    bool closed;
};

struct world {
    uv_loop_t loop;
    struct peer peer[PEER_MAX];
    uint32_t count;
    uint16_t port;
};

static void on_up(void *ctx, struct link_id link, const struct peer_info *info)
{
    struct peer *p = ctx;
    (void)link;
    (void)info;
    p->ups++;
}

static void on_down(void *ctx, struct link_id link, enum down_reason why)
{
    struct peer *p = ctx;
    (void)link;
    (void)why;
    p->downs++;
}

static void on_refused(void *ctx, const char *address, int err, const char *reason)
{
    struct peer *p = ctx;
    (void)reason;
    p->refusals++;
    p->refused_err = err;
    snprintf(p->refused, sizeof p->refused, "%s", address);
}

static void on_closed(void *ctx)
{
    struct peer *p = ctx;
    p->closed = true;
}

/* Peer i listens on 127.0.4.(i+1) at the port of all. */
static void peer_start(struct world *w, uint32_t i)
{
    struct peer *p = &w->peer[i];
    struct err_text why = {""};
    char listen[64];
    struct transport_config config = {.id = 100 + i,
                                      .boot = 1,
                                      .body_size_max = 1u << 20,
                                      .heartbeat_us = 100000,
                                      .silence_us = 2000000,
                                      .hello_us = 2000000,
                                      .redial_min_us = 2000,
                                      .redial_max_us = REDIAL_MAX_US,
                                      .seed = 5};
    struct transport_sink sink = {.ctx = p,
                                  .on_up = on_up,
                                  .on_down = on_down,
                                  .on_message = ignore_message,
                                  .on_writable = ignore_writable,
                                  .on_refused = on_refused,
                                  .on_closed = on_closed};
    snprintf(listen, sizeof listen, "127.0.4.%u:%u", i + 1, w->port);
    if (uv_tcp_new(&w->loop, listen, &config, &sink, &p->transport, p->address, &why) != 0)
        fail_msg("%s", why.text);
    w->port = (uint16_t)strtol(strrchr(p->address, ':') + 1, NULL, 10);
}

static void world_open(struct world *w, uint32_t count)
{
    memset(w, 0, sizeof *w);
    assert_int_equal(uv_loop_init(&w->loop), 0);
    w->count = count;
    for (uint32_t i = 0; i < count; i++) peer_start(w, i);
}

static bool all_closed(const struct world *w)
{
    for (uint32_t i = 0; i < w->count; i++)
        if (!w->peer[i].closed) return false;
    return true;
}

static void world_close(struct world *w)
{
    for (uint32_t i = 0; i < w->count; i++) w->peer[i].transport->ops->close(w->peer[i].transport);
    RUN_UNTIL(w, all_closed(w));
    for (uint32_t i = 0; i < w->count; i++) uv_tcp_free(w->peer[i].transport);
    uv_run(&w->loop, UV_RUN_NOWAIT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
}

static uint32_t links_of(const struct peer *p)
{
    return p->ups - p->downs;
}

static void dial(struct peer *p, const char *name, uint16_t port)
{
    char address[ADDRESS_TEXT_MAX];
    snprintf(address, sizeof address, "%s:%u", name, port);
    assert_int_equal(p->transport->ops->dial(p->transport, address), 0);
}

#define LOOPBACK_4 0x7f000400u /* 127.0.4.0 */

/* -- tests ------------------------------------------------------------------------------------------- */

static bool everybody_has(const struct world *w, uint32_t links)
{
    for (uint32_t i = 0; i < w->count; i++)
        if (links_of(&w->peer[i]) != links) return false;
    return true;
}

/* A service scaled to ten: one name, ten addresses, one of them our own. */
static void ten_behind_one_name_all_meet(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, PEER_MAX);
    name_is(LOOPBACK_4 + 1, PEER_MAX);
    for (uint32_t i = 0; i < w.count; i++) dial(&w.peer[i], "peers.test", w.port);
    RUN_UNTIL(&w, everybody_has(&w, PEER_MAX - 1));
    for (uint32_t i = 0; i < w.count; i++) {
        RUN_UNTIL(&w, w.peer[i].refusals > 0);
        assert_int_equal(w.peer[i].refusals, 1);
        assert_int_equal(w.peer[i].refused_err, ERR_SELF);
        assert_string_equal(w.peer[i].refused, w.peer[i].address); /* that one, not the name */
    }
    world_close(&w);
}

static void a_name_of_ourselves_alone_goes_on_until_another_is_there(void **state)
{
    (void)state;
    struct world w;
    char name[64];
    world_open(&w, 2);
    name_is(LOOPBACK_4 + 1, 1);
    dial(&w.peer[0], "peers.test", w.port);
    RUN_UNTIL(&w, w.peer[0].refusals > 0);
    snprintf(name, sizeof name, "peers.test:%u", w.port);
    assert_string_equal(w.peer[0].refused, name); /* nobody else is behind it */
    unsigned calls = resolver_count(&resolver.calls);
    RUN_UNTIL(&w, resolver_count(&resolver.calls) > calls + 2); /* asked again and again */
    assert_int_equal(w.peer[0].refusals, 1);                    /* but not told again */
    name_is(LOOPBACK_4 + 1, 2);
    RUN_UNTIL(&w, everybody_has(&w, 1));
    world_close(&w);
}

static void a_name_that_moves_is_followed(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 3);
    name_is(LOOPBACK_4 + 77, 1); /* nobody is there */
    dial(&w.peer[0], "peers.test", w.port);
    RUN_UNTIL(&w, resolver_count(&resolver.calls) >= 2);
    name_is(LOOPBACK_4 + 2, 1);
    RUN_UNTIL(&w, links_of(&w.peer[0]) == 1 && links_of(&w.peer[1]) == 1);
    name_is(LOOPBACK_4 + 3, 1);
    w.peer[1].transport->ops->close(w.peer[1].transport); /* its host has gone; the name stands for another */
    RUN_UNTIL(&w, w.peer[1].closed);
    RUN_UNTIL(&w, links_of(&w.peer[0]) == 1 && links_of(&w.peer[2]) == 1);
    w.count = 3;
    w.peer[0].transport->ops->close(w.peer[0].transport);
    w.peer[2].transport->ops->close(w.peer[2].transport);
    RUN_UNTIL(&w, all_closed(&w));
    for (uint32_t i = 0; i < w.count; i++) uv_tcp_free(w.peer[i].transport);
    uv_run(&w.loop, UV_RUN_NOWAIT);
    assert_int_equal(uv_loop_close(&w.loop), 0);
}

/* The resolver hangs for eight names: RESOLVE_AT_ONCE_MAX of them are asked for at once. Meanwhile two peers meet
 * by numbers; and a name that resolves has its turn later. */
static void the_loop_goes_on_while_resolvers_hang(void **state)
{
    (void)state;
    struct world w;
    char name[64];
    world_open(&w, 3);
    name_is(LOOPBACK_4 + 3, 1);
    hang("slow-");
    for (unsigned i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "slow-%u.test", i);
        dial(&w.peer[0], name, w.port);
    }
    RUN_UNTIL(&w, resolver_count(&resolver.inside) == RESOLVE_AT_ONCE_MAX);
    w.peer[0].transport->ops->dial(w.peer[0].transport, w.peer[1].address);
    RUN_UNTIL(&w, links_of(&w.peer[0]) == 1 && links_of(&w.peer[1]) == 1);
    dial(&w.peer[0], "peers.test", w.port);
    for (int i = 0; i < 20; i++) loop_turn(&w.loop);
    assert_int_equal(resolver_count(&resolver.inside), RESOLVE_AT_ONCE_MAX);
    hang_no_more();
    RUN_UNTIL(&w, links_of(&w.peer[0]) == 2);
    assert_int_equal(resolver_count(&resolver.inside_most), RESOLVE_AT_ONCE_MAX);
    world_close(&w);
}

/* Names are asked for, wait for their turn, and are no longer wanted, when the transport is closed. The loop ends while
 * the resolver still hangs; its threads end by themselves afterwards. */
static void the_end_waits_for_no_resolver(void **state)
{
    (void)state;
    struct world w;
    char name[64];
    world_open(&w, 1);
    hang("stuck-");
    for (unsigned i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "stuck-%u.test", i);
        dial(&w.peer[0], name, w.port);
    }
    RUN_UNTIL(&w, resolver_count(&resolver.inside) == RESOLVE_AT_ONCE_MAX);
    snprintf(name, sizeof name, "stuck-0.test:%u", w.port);
    w.peer[0].transport->ops->undial(w.peer[0].transport, name);
    world_close(&w);
    assert_int_equal(resolver_count(&resolver.inside), RESOLVE_AT_ONCE_MAX);
    hang_no_more();
    while (resolver_count(&resolver.inside) > 0) usleep(1000);
}

/* Connections that wait in a listener's queue, taken one by one without a greeting. */
static uint32_t accept_all(int listener, int *fd, uint32_t count)
{
    while (count < NAME_ADDRESS_MAX && (fd[count] = accept(listener, NULL, NULL)) >= 0) count++;
    return count;
}

static void at_most_sixteen_of_a_name_are_called_at_once_and_all_in_turn(void **state)
{
    (void)state;
    struct world w;
    int fd[NAME_ADDRESS_MAX];
    struct sockaddr_in at = {.sin_family = AF_INET}; /* every address of loopback */
    socklen_t size = sizeof at;
    world_open(&w, 1);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(listener, 128), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &size), 0);
    name_is(LOOPBACK_4 + 101, 40);
    dial(&w.peer[0], "peers.test", ntohs(at.sin_port));
    uint32_t count = 0;
    RUN_UNTIL(&w, (count = accept_all(listener, fd, count)) >= 16);
    for (int i = 0; i < 20; i++) loop_turn(&w.loop); /* many back-offs long */
    assert_int_equal(accept_all(listener, fd, count), 16);
    for (uint32_t i = 0; i < 16; i++)
        close(fd[i]); /* they hang up: it is the turn of others, and theirs again */
    bool seen[40] = {false};
    uint32_t distinct = 0;
    uint64_t limit_us = uv_hrtime() / 1000 + WAIT_MAX_US;
    while (distinct < 40) {
        assert_true(uv_hrtime() / 1000 < limit_us);
        loop_turn(&w.loop);
        for (int one; (one = accept(listener, NULL, NULL)) >= 0; close(one)) {
            struct sockaddr_in local;
            size = sizeof local;
            if (getsockname(one, (struct sockaddr *)&local, &size) != 0) continue;
            uint32_t which = ntohl(local.sin_addr.s_addr) - (LOOPBACK_4 + 101);
            if (which < 40 && !seen[which]) distinct++;
            if (which < 40) seen[which] = true;
        }
    }
    close(listener);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_behind_one_name_all_meet),
        cmocka_unit_test(a_name_of_ourselves_alone_goes_on_until_another_is_there),
        cmocka_unit_test(a_name_that_moves_is_followed),
        cmocka_unit_test(the_loop_goes_on_while_resolvers_hang),
        cmocka_unit_test(the_end_waits_for_no_resolver),
        cmocka_unit_test(at_most_sixteen_of_a_name_are_called_at_once_and_all_in_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
