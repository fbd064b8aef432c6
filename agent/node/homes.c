/* Reaching members that can only dial out: through their homes.
 *
 * The homes of a member are the first HOME_COUNT of all other living members that can be dialled, in the order in
 * which the relay asks (relay_order). Who knows the same members knows the same homes: nobody has to be told.
 *
 * Normal course
 *  - who has no address keeps links to its homes.
 *  - who wants a link to such a member dials its homes, and once one of them is linked the member through it
 *    (net/relay/relay.h). The home that carries the link is needed as long as the link is.
 *  - two with addresses that do not reach each other do both: each has links to its own homes and the other's.
 * Failure courses
 *  - no home can be reached from here: after a moment whoever is linked is asked; so too when there is none.
 *  - views differ for a while: so do homes; a neighbour of both may do, or one is found when they agree again.
 *  - a home goes: the next one in the order takes its place, at the member and at those who want it. */
#include "agent/node/internal.h"
#include "net/relay/relay.h"

#define HOME_COUNT 2u

static bool is_home(const struct member *m, node_id of)
{
    bool living = m->state == MEMBER_ALIVE || m->state == MEMBER_SUSPECT;
    return living && m->id != of && m->address[0] != '\0';
}

/* Returns how many there are. */
static uint32_t homes_find(const struct node *n, node_id of, const struct member *home[HOME_COUNT])
{
    uint64_t order[HOME_COUNT];
    uint32_t found = 0, count = membership_count(n->membership);
    for (uint32_t i = 0; i < count; i++) {
        const struct member *m = membership_at(n->membership, i);
        if (!is_home(m, of)) continue;
        uint64_t mine = relay_order(of, m->id);
        uint32_t at = found < HOME_COUNT ? found++ : HOME_COUNT;
        for (; at > 0 && mine < order[at - 1]; at--) {
            if (at == HOME_COUNT) continue; /* the last one falls out */
            order[at] = order[at - 1];
            home[at] = home[at - 1];
        }
        if (at == HOME_COUNT) continue;
        order[at] = mine;
        home[at] = m;
    }
    return found;
}

struct homes {
    bool linked; /* with one of them */
    bool coming; /* one is being dialled, and may come up any moment */
};

static struct homes homes_want(struct node *n, node_id of, uint64_t now_us)
{
    const struct member *home[HOME_COUNT];
    struct homes are = {false, false};
    uint32_t count = homes_find(n, of, home);
    for (uint32_t i = 0; i < count; i++) {
        if (home[i]->id == n->config.id) continue; /* then it comes to us */
        struct link *l = node_link_of(n, home[i]->id);
        if (l != NULL) l->needed_us = now_us;
        if (l != NULL && !l->relayed)
            are.linked = true;
        else if (node_contact_want(n, home[i]->address))
            are.coming |= node_contact_is_new(n, home[i]->address);
    }
    return are;
}

bool node_homes_reach(struct node *n, node_id id, uint64_t now_us)
{
    const struct member *m = membership_find(n->membership, id);
    struct homes theirs = homes_want(n, id, now_us), ours = {false, false};
    char address[ADDRESS_TEXT_MAX];
    if (m != NULL && m->address[0] != '\0') ours = homes_want(n, n->config.id, now_us); /* it comes to them */
    if (!theirs.linked && !ours.linked && (theirs.coming || ours.coming)) return true;
    relay_address(id, address);
    return node_contact_want(n, address);
}

bool node_address_want(struct node *n, const char *address, uint64_t now_us)
{
    node_id id;
    return relay_address_parse(address, &id) ? node_homes_reach(n, id, now_us)
                                             : node_contact_want(n, address);
}

void node_homes_keep(struct node *n, uint64_t now_us)
{
    for (const struct link *l = n->oldest; l != NULL; l = l->newer) {
        struct link *under = l->relayed && !l->closing ? node_link_of(n, l->relayer) : NULL;
        if (under != NULL) under->needed_us = now_us;
    }
    if (n->self.address[0] == '\0') homes_want(n, n->config.id, now_us);
}
