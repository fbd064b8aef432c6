/* A node's links, and which of them the algorithm gets. See node.h for the normal course and the failure courses.
 *
 * READY is said on a link once, when its peer holds a neighbouring place undisputed and is a neighbour (neighbours.c);
 * from then on the link belongs to these two places. What would change that (another holder, a peer declared dead, a
 * neighbour no more) ends the link: a fresh one begins with nothing left over, at both ends alike.
 *
 * Failure courses
 *  - the peer's READY names another place for us, or comes from another than we think it has: one of us is behind;
 *    the link is closed, and a fresh one comes when both know.
 *  - given members: a stranger is closed, with one line a second. */
#include <stdlib.h>
#include <string.h>

#include "agent/node/internal.h"
#include "base/check.h"
#include "net/relay/relay.h"

/* -- the table of links ------------------------------------------------------------------------ */

static struct link **link_bucket(struct node *n, struct link_id id)
{
    return &n->bucket[id.slot % LINK_BUCKET_COUNT];
}

static struct link *link_find_any(const struct node *n, struct link_id id)
{
    struct link *l = n->bucket[id.slot % LINK_BUCKET_COUNT];
    while (l != NULL && (l->id.slot != id.slot || l->id.generation != id.generation)) l = l->chained;
    return l;
}

struct link *node_link_find(const struct node *n, struct link_id id)
{
    struct link *l = link_find_any(n, id);
    return l != NULL && !l->closing ? l : NULL;
}

struct link *node_link_of(const struct node *n, node_id peer)
{
    for (struct link *l = n->oldest; l != NULL; l = l->newer)
        if (l->peer == peer && !l->closing) return l;
    return NULL;
}

static struct link *link_add(struct node *n, struct link_id id, const struct peer_info *peer)
{
    CHECK(link_find_any(n, id) == NULL);
    struct link *l = mem_new_zero(1, sizeof *l);
    l->id = id;
    l->peer = peer->id;
    l->boot = peer->boot;
    l->address = mem_copy_text(peer->address);
    l->dialled = peer->dialled;
    l->relayed = peer->relayed;
    l->relayer = peer->relayer;
    l->place = RANK_NONE;
    l->up_us = l->needed_us = node_now_us(n);
    l->chained = *link_bucket(n, id);
    *link_bucket(n, id) = l;
    l->older = n->newest;
    *(n->newest != NULL ? &n->newest->newer : &n->oldest) = l;
    n->newest = l;
    n->link_count++;
    return l;
}

static void link_remove(struct node *n, struct link *l)
{
    struct link **at = link_bucket(n, l->id);
    while (*at != l) at = &(*at)->chained;
    *at = l->chained;
    *(l->older != NULL ? &l->older->newer : &n->oldest) = l->newer;
    *(l->newer != NULL ? &l->newer->older : &n->newest) = l->older;
    n->link_count--;
    node_link_forget(l);
    free(l->address);
    free(l);
}

void node_links_deinit(struct node *n)
{
    while (n->oldest != NULL) link_remove(n, n->oldest);
    node_neighbours_free(n);
}

/* -- neighbours -------------------------------------------------------------------------------- */

/* The peer as a neighbour; NULL. */
static struct neighbour *neighbour_of(const struct node *n, node_id peer)
{
    rank_t rank = places_of(&n->places, peer);
    return rank == RANK_NONE || n->algo == NULL ? NULL : node_neighbour_find(n, rank);
}

/* A process that gave a place up and took it again has a new algorithm there; and so has another process. */
uint64_t node_life(node_id id, uint64_t boot, uint64_t claimed)
{
    if (claimed == 0) return boot; /* given members: a place has one holder */
    uint64_t life = boot;
    life = (life ^ id) * UINT64_C(0x9e3779b97f4a7c15);
    life = (life ^ life >> 29 ^ claimed) * UINT64_C(0xbf58476d1ce4e5b9);
    life ^= life >> 32;
    return life != 0 ? life : 1;
}

/* True when both READYs fit together. */
static bool link_agrees(struct node *n, struct link *l)
{
    if (l->ready.your_place == n->rank && l->ready.place == l->place) return true;
    trace_line(n->config.trace, TRACE_DEBUG,
               "node %llu takes us for place %u and itself for %u: a fresh link", (unsigned long long)l->peer,
               l->ready.your_place, l->ready.place);
    node_link_close(n, l, DOWN_LOCAL);
    return false;
}

void node_link_present(struct node *n, struct link *l)
{
    if (l->presented || l->closing || l->place == RANK_NONE) return;
    if (l->ready_received && !link_agrees(n, l)) return;
    l->presented = true;
    n->presented_count++;
    struct algo_event event = {.kind = ALGO_PEER_UP,
                               .peer = l->place,
                               .boot = node_life(l->peer, l->boot, l->ready_received ? l->ready.claimed : 0)};
    CHECK(node_feed(n, &event) == 0);
    if (n->presented_count == n->neighbour_count) node_train_release(n);
    node_link_early(n, l);
}

void node_ready_heard(struct node *n, struct link *from, const struct wire_ready *ready)
{
    if (ready->place >= n->config.node_count || from->ready_received) {
        node_link_refuse(n, from, "sent READY twice, or for a place that there is not");
        return;
    }
    from->ready_received = true;
    from->ready = *ready;
    if (from->ready_sent) node_link_present(n, from);
}

/* The link is the neighbour's from now on. */
static void neighbour_bind(struct node *n, struct neighbour *nb, struct link *l)
{
    CHECK(nb->link == NULL && !l->ready_sent);
    nb->link = l;
    l->place = nb->rank;
    node_send_ready(n, l, nb->rank);
}

static void neighbour_review(struct node *n, struct neighbour *nb, uint64_t now_us)
{
    struct link *now = nb->present, *bound = nb->link;
    node_id holder = 0;
    bool wanted = nb->listed && places_holder(&n->places, nb->rank, &holder);
    if (now != NULL || !wanted) nb->missing_us = now_us;
    if (bound != NULL) { /* until its on_down the place is not free for another link */
        if (bound != now || !wanted) node_link_close(n, bound, DOWN_LOCAL);
        return;
    }
    if (now == NULL || !wanted || now->place != RANK_NONE) return;
    neighbour_bind(n, nb, now);
    if (now->ready_received && n->begun) node_link_present(n, now);
}

void node_neighbours_review(struct node *n)
{
    if (n->algo == NULL || n->evicted) return;
    uint64_t now_us = node_now_us(n);
    node_neighbours_list(n, now_us);
    for (uint32_t i = 0; i < n->neighbour_count; i++) n->neighbour[i].present = NULL;
    for (struct link *l = n->oldest; l != NULL; l = l->newer) {
        struct neighbour *nb = l->closing ? NULL : neighbour_of(n, l->peer);
        if (nb != NULL) nb->present = l;
    }
    for (uint32_t i = 0; i < n->neighbour_count && n->algo != NULL; i++)
        neighbour_review(n, &n->neighbour[i], now_us);
}

/* -- up, down, refused ------------------------------------------------------------------------- */

/* Given members: the peer's place is known, and stays. */
static void given_up(struct node *n, struct link *l)
{
    if (places_of(&n->places, l->peer) == RANK_NONE) {
        node_warn(n, NODE_WARN_STRANGER, "node %llu at %s is not one of the %u members",
                  (unsigned long long)l->peer, l->address, n->config.node_count);
        node_link_close(n, l, DOWN_LOCAL);
        return;
    }
    struct neighbour *nb = neighbour_of(n, l->peer);
    if (nb == NULL) return;
    neighbour_bind(n, nb, l);
    node_redial_up(n, nb, l);
}

void node_link_up(struct node *n, struct link_id id, const struct peer_info *peer)
{
    struct link *l = link_add(n, id, peer);
    if (n->failed) return;
    if (n->membership == NULL) {
        given_up(n, l);
        return;
    }
    if (n->leaving) return;
    n->dirty = true;
    node_contacts_up(n, l);
    node_members_up(n, l);
    node_state_up(n, l);
}

static void neighbour_down(struct node *n, struct neighbour *nb, bool presented, bool dialled)
{
    nb->link = NULL;
    nb->missing_us = node_now_us(n);
    if (n->membership == NULL) node_redial_down(n, nb, dialled);
    if (!presented) return;
    n->presented_count--;
    struct algo_event event = {.kind = ALGO_PEER_DOWN, .peer = nb->rank};
    CHECK(node_feed(n, &event) == 0);
}

void node_link_down(struct node *n, struct link_id id, enum down_reason why)
{
    struct link *l = link_find_any(n, id);
    CHECK(l != NULL); /* exactly one on_down per on_up */
    struct neighbour *nb = l->place != RANK_NONE ? node_neighbour_find(n, l->place) : NULL;
    CHECK_IMPLIES(l->place != RANK_NONE, nb != NULL);
    bool presented = l->presented, dialled = l->dialled;
    node_id peer = l->peer;
    trace_line(n->config.trace, TRACE_DEBUG, "node %llu: link down: %s", (unsigned long long)peer,
               down_reason_name(why));
    link_remove(n, l);
    if (n->failed) return;
    if (nb != NULL) neighbour_down(n, nb, presented, dialled);
    if (n->membership == NULL || n->leaving) return;
    n->dirty = true;
    node_members_down(n, peer,
                      id.slot < RELAY_SLOT ? why : DOWN_CLOSED); /* a relayer's loss accuses nobody else */
    node_state_down(n, peer);
}

/* True when that was the last of the seeds, and nobody can be reached any more. Addresses that peers have named, and
 * single ones of a name, are no seeds: they may be of anybody. */
static bool seeds_all_refuse(struct node *n, const char *address, int err)
{
    bool named = false, all = true, refused = false;
    for (size_t i = 0; i < n->seed_count; i++) {
        bool this = strcmp(n->seed[i], address) == 0;
        if (this) n->seed_err[i] = err;
        named |= this;
        all &= n->seed_err[i] != 0;
        refused |= n->seed_err[i] != 0 && n->seed_err[i] != ERR_SELF;
    }
    bool joining = n->phase == NODE_JOINING && !n->failed && !n->leaving;
    return joining && named && all && refused && n->link_count == 0;
}

void node_links_refused(struct node *n, const char *address, int err, const char *reason)
{
    bool last = seeds_all_refuse(n, address, err);
    if (!last) /* else the reason of our end says it */
        trace_line(n->config.trace, err == ERR_SELF ? TRACE_DEBUG : TRACE_WARN, "%s refuses us: %s", address,
                   reason);
    if (n->membership == NULL)
        node_redial_refused(n, address);
    else
        node_contacts_refused(n, address);
    if (!last) return;
    struct err_text why;
    err_set(&why, err, "--join: %s refused us: %s", address, reason);
    node_fail(n, &why);
}
