/* The search for others: discovery decides, this file carries out.
 *
 * Normal course
 *  - the addresses given, then those of the former life's book, then whoever answers on the local network.
 *  - a link is up: its address goes to the top of the book; the search rests.
 *  - the last link goes: the book's addresses are candidates again, the newest first.
 * Failure courses
 *  - an address fails: it falls in the book. discovery.h has the rest.
 *  - a multicast group that cannot be joined is an error at the start. */
#include "agent/daemon/search.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "net/uv/multicast.h"

struct search {
    struct search_config config; /* its borrowed texts are not used after open */
    struct discovery *discovery;
    struct book book;
    struct uv_multicast *multicast; /* NULL = off */
    uv_timer_t timer;
    char dialled[DISCOVERY_DIAL_MAX][ADDRESS_TEXT_MAX];
    uint32_t dialled_count;
    uint32_t links;
    bool started, closing;
};

static uint64_t now_us(void)
{
    return uv_hrtime() / 1000;
}

/* -- what is dialled ------------------------------------------------------------------------------- */

static bool list_has(const char *const *list, uint32_t count, const char *address)
{
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(list[i], address) == 0) return true;
    return false;
}

static void undial_unwanted(struct search *s, const char *const *wanted, uint32_t count)
{
    for (uint32_t i = s->dialled_count; i-- > 0;) {
        char address[ADDRESS_TEXT_MAX];
        if (list_has(wanted, count, s->dialled[i])) continue;
        memcpy(address, s->dialled[i], sizeof address);
        s->dialled_count--;
        memcpy(s->dialled[i], s->dialled[s->dialled_count], sizeof address);
        s->config.undial(s->config.ctx, address);
    }
}

static bool is_dialled(const struct search *s, const char *address)
{
    for (uint32_t i = 0; i < s->dialled_count; i++)
        if (strcmp(s->dialled[i], address) == 0) return true;
    return false;
}

static void timer_cb(uv_timer_t *timer);

/* Makes what is dialled what is wanted, and sets the timer. */
static void apply(struct search *s)
{
    const char *wanted[DISCOVERY_DIAL_MAX];
    if (!s->started || s->closing) return;
    uint32_t count = discovery_wanted(s->discovery, wanted);
    undial_unwanted(s, wanted, count);
    for (uint32_t i = 0; i < count; i++) {
        if (is_dialled(s, wanted[i])) continue;
        memcpy(s->dialled[s->dialled_count++], wanted[i], strlen(wanted[i]) + 1);
        s->config.dial(s->config.ctx, wanted[i]);
    }
    uint64_t at_us = discovery_deadline_us(s->discovery), time_us = now_us();
    if (at_us == TIME_NEVER)
        uv_timer_stop(&s->timer);
    else
        uv_timer_start(&s->timer, timer_cb, at_us > time_us ? (at_us - time_us + 999) / 1000 : 0, 0);
}

static void timer_cb(uv_timer_t *timer)
{
    struct search *s = timer->data;
    discovery_tick(s->discovery, now_us());
    apply(s);
}

static void found_cb(void *ctx, node_id id, const char *address)
{
    struct search *s = ctx;
    (void)id; /* a hint from whoever sent it: the hello tells who is there */
    if (!discovery_add(s->discovery, address, DISCOVERY_FOUND)) return;
    discovery_tick(s->discovery, now_us());
    apply(s);
}

/* -- open and close -------------------------------------------------------------------------------- */

/* The address of ours that --listen names, if it is one of IPv4. */
static const char *interface_of(const char *bound, char out[ADDRESS_TEXT_MAX])
{
    struct in_addr number;
    const char *colon = strrchr(bound, ':');
    CHECK(colon != NULL && (size_t)(colon - bound) < ADDRESS_TEXT_MAX);
    memcpy(out, bound, (size_t)(colon - bound));
    out[colon - bound] = '\0';
    return inet_pton(AF_INET, out, &number) == 1 && number.s_addr != INADDR_ANY ? out : NULL;
}

static int multicast_open(struct search *s, const struct search_config *config, struct err_text *why)
{
    struct uv_multicast_config m;
    char host[ADDRESS_TEXT_MAX];
    if (config->multicast == NULL || strcmp(config->multicast, "off") == 0) return 0;
    if (config->bound[0] == '\0')
        return err_set(why, ERR_USAGE,
                       "--multicast: it tells others where to dial, and with --listen none nobody can; "
                       "give --join, or --listen H:PORT");
    uv_multicast_defaults(&m);
    if (strcmp(config->multicast, "on") != 0) m.group = config->multicast;
    m.interface = interface_of(config->bound, host);
    memcpy(m.cluster, config->cluster, sizeof m.cluster);
    m.id = config->id;
    m.port = (uint16_t)strtol(strrchr(config->bound, ':') + 1, NULL, 10);
    m.seed = config->seed;
    m.trace = config->trace;
    m.on_found = found_cb;
    m.ctx = s;
    return uv_multicast_open(config->loop, &m, &s->multicast, why);
}

static void discovery_open(struct search *s, const struct search_config *config)
{
    struct discovery_config d;
    discovery_defaults(&d);
    if (config->discovery != NULL) d = *config->discovery;
    d.seed = config->seed;
    d.trace = config->trace;
    d.is_member = config->is_member;
    d.ctx = config->ctx;
    s->discovery = discovery_new(&d);
    if (config->bound[0] != '\0') discovery_own(s->discovery, config->bound);
    if (config->advertise != NULL) discovery_own(s->discovery, config->advertise);
    for (uint32_t i = 0; i < config->join_count; i++)
        discovery_add(s->discovery, config->join[i], DISCOVERY_SEED);
    book_init(&s->book);
    if (config->saved != NULL) book_load(&s->book, config->saved, config->saved_count);
}

static void closed_cb(uv_handle_t *handle)
{
    struct search *s = handle->data;
    discovery_free(s->discovery);
    book_deinit(&s->book);
    free(s);
}

void search_close(struct search *s)
{
    if (s == NULL || s->closing) return;
    s->closing = true;
    uv_multicast_close(s->multicast);
    s->multicast = NULL;
    uv_close((uv_handle_t *)&s->timer, closed_cb);
}

int search_open(const struct search_config *config, struct search **out, struct err_text *why)
{
    struct search *s = mem_new_zero(1, sizeof *s);
    s->config = *config;
    int err = uv_timer_init(config->loop, &s->timer);
    CHECK(err == 0);
    s->timer.data = s;
    discovery_open(s, config);
    err = multicast_open(s, config, why);
    if (err != 0) {
        search_close(s);
        return err;
    }
    *out = s;
    return 0;
}

static void book_to_discovery(struct search *s)
{
    for (uint32_t i = 0; i < s->book.count; i++)
        discovery_add(s->discovery, s->book.entry[i].address, DISCOVERY_BOOK);
}

void search_start(struct search *s)
{
    s->started = true;
    book_to_discovery(s);
    discovery_links(s->discovery, now_us(), s->links);
    apply(s);
}

/* -- what happened --------------------------------------------------------------------------------- */

static void links_changed(struct search *s)
{
    if (s->multicast != NULL) uv_multicast_alone(s->multicast, s->links == 0);
    if (s->links == 0) book_to_discovery(s);
    discovery_links(s->discovery, now_us(), s->links);
    apply(s);
}

void search_up(struct search *s, const struct peer_info *peer)
{
    s->links++;
    book_answered(&s->book, peer->id, peer->address, now_us());
    links_changed(s);
}

void search_down(struct search *s)
{
    CHECK(s->links > 0);
    s->links--;
    links_changed(s);
}

void search_refused(struct search *s, const char *address, int err)
{
    discovery_refused(s->discovery, now_us(), address, err);
    apply(s);
}

void search_unreachable(struct search *s, const char *address, int err)
{
    book_failed(&s->book, address);
    discovery_unreachable(s->discovery, now_us(), address, err);
    apply(s);
}

void search_heard(struct search *s, node_id id, const char *address)
{
    book_heard(&s->book, id, address);
}

void search_forget(struct search *s, node_id id)
{
    book_forget(&s->book, id);
}

void search_own(struct search *s, const char *address)
{
    discovery_own(s->discovery, address);
    apply(s);
}

uint32_t search_addresses(const struct search *s, char out[][ADDRESS_TEXT_MAX], uint32_t max)
{
    return book_list(&s->book, out, max);
}

const char *search_why(const struct search *s, char out[DISCOVERY_WHY_MAX])
{
    return discovery_why(s->discovery, now_us(), out);
}

int search_verdict(const struct search *s, struct err_text *why)
{
    return discovery_verdict(s->discovery, why);
}
