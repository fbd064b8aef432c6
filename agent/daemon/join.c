/* How an agent finds the others: the search of daemon/search.h between its transport and its node. The search
 * decides which addresses are worth a try; the node dials them, since it alone knows which links it needs.
 *
 * Normal course: --join, the book of the former life, the local network; see net/discovery/discovery.h.
 * Failure course: every address given belongs to another cluster or speaks another version, and no link ever came: the
 * agent ends with that. */
#include <stdlib.h>
#include <string.h>

#include "agent/daemon/daemon.h"
#include "agent/daemon/search.h"
#include "base/check.h"

static void dial(void *ctx, const char *address)
{
    struct agent *a = ctx;
    if (a->stopped_by == NULL) node_seek(a->node, address);
}

static void undial(void *ctx, const char *address)
{
    struct agent *a = ctx;
    if (a->stopped_by == NULL) node_unseek(a->node, address);
}

static bool is_member(void *ctx, const char *address)
{
    const struct agent *a = ctx;
    const struct membership *m = node_membership(a->node);
    for (uint32_t i = 0; i < membership_count(m); i++) {
        const struct member *one = membership_at(m, i);
        if (one->state == MEMBER_ALIVE && strcmp(one->address, address) == 0) return true;
    }
    return false;
}

int agent_join_open(struct agent *a, struct err_text *why)
{
    const struct config *c = a->config;
    const struct checkpoint *resumed = agent_state_resumed(a);
    struct search_config config = {
        .loop = &a->loop,
        .join = (const char *const *)c->join,
        .join_count = c->join_count,
        .saved = resumed != NULL ? (const char(*)[ADDRESS_TEXT_MAX])resumed->address : NULL,
        .saved_count = resumed != NULL ? resumed->address_count : 0,
        .bound = a->address,
        .advertise = c->advertise,
        .multicast = c->multicast,
        .id = a->id,
        .seed = a->boot,
        .trace = &a->trace,
        .dial = dial,
        .undial = undial,
        .is_member = is_member,
        .ctx = a,
    };
    experiment_cluster_id(&a->experiment, config.cluster);
    return search_open(&config, &a->search, why);
}

void agent_join_start(struct agent *a)
{
    search_start(a->search);
}

void agent_join_close(struct agent *a)
{
    if (a->search == NULL) return;
    a->known = mem_new(BOOK_ENTRY_MAX, sizeof *a->known);
    a->known_count = search_addresses(a->search, a->known, BOOK_ENTRY_MAX);
    search_close(a->search);
    a->search = NULL;
}

static bool looks(const struct agent *a)
{
    return a->search != NULL && a->stopped_by == NULL;
}

void agent_join_up(struct agent *a, const struct peer_info *peer)
{
    if (looks(a)) search_up(a->search, peer);
}

void agent_join_down(struct agent *a)
{
    if (looks(a)) search_down(a->search);
}

bool agent_join_refused(struct agent *a, const char *address, int err, const char *reason)
{
    struct err_text why;
    if (!looks(a)) return false;
    search_refused(a->search, address, err);
    if (search_verdict(a->search, NULL) == 0) return false;
    err_set(&why, err, "--join: %s refused us: %s", address, reason);
    agent_fail(a, &why);
    return true;
}

void agent_join_unreachable(struct agent *a, const char *address, int err)
{
    if (looks(a)) search_unreachable(a->search, address, err);
}

void agent_join_member(struct agent *a, const struct member *m)
{
    if (!looks(a) || m->id == a->id) return;
    if (m->state == MEMBER_LEFT)
        search_forget(a->search, m->id);
    else if (m->state == MEMBER_ALIVE)
        search_heard(a->search, m->id, m->address);
}

uint32_t agent_join_book(const struct agent *a, char out[][ADDRESS_TEXT_MAX], uint32_t max)
{
    if (a->search != NULL) return search_addresses(a->search, out, max);
    uint32_t count = a->known_count < max ? a->known_count : max;
    if (count > 0) memcpy(out, a->known, count * sizeof *out);
    return count;
}
