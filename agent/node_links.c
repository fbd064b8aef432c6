/* A node's links and what it knows of its members. See node.h for the normal course and the failure courses.
 *
 * Dialling
 *  - before ranks are known: the seeds. Afterwards: neighbours, by the address the roster has.
 *  - at first only the lower rank dials, so that two dials rarely cross. After a loss both sides dial: either
 *    may have restarted and know nobody. A side whose peer got through first stops; the side that dialled
 *    keeps its dial, so that the transport's back-off governs a link that breaks again and again.
 *  - the side that was dialled waits for a second before it dials: it has undialled, so the transport has no
 *    back-off for it.
 *  - a neighbour never met within the patience is dialled from our side too: it may be behind a NAT.
 *
 * Hearsay
 *  - a member that we hold a link to has told us all about itself: lists do not change its entry.
 *  - one link may change HEARSAY_MAX entries a second; what is beyond is neither kept nor passed on. A member
 *    that is known and did not change costs nothing.
 *
 * Strangers: nodes that find no place in a complete list are told so and closed a second later. */
#include <stdlib.h>
#include <string.h>

#include "agent/node_internal.h"
#include "base/check.h"

#define REDIAL_AFTER_US 1000000u
#define HEARSAY_INTERVAL_US 1000000u
#define HEARSAY_MAX 256u

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

static struct link *link_add(struct node *n, struct link_id id, const struct peer_info *peer)
{
    CHECK(link_find_any(n, id) == NULL);
    struct link *l = mem_new_zero(1, sizeof *l);
    l->id = id;
    l->peer = peer->id;
    l->boot = peer->boot;
    l->dialled = peer->dialled;
    l->rank = RANK_NONE;
    l->place = PLACE_NONE;
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
    blob_unref(l->box_head);
    blob_unref(l->box_body);
    free(l);
}

void node_links_deinit(struct node *n)
{
    while (n->oldest != NULL) link_remove(n, n->oldest);
    for (uint32_t i = 0; i < n->neighbour_count; i++) free(n->neighbour[i].dialling);
    free(n->neighbour);
}

/* -- dialling ---------------------------------------------------------------------------------- */

static void neighbour_undial(struct node *n, struct neighbour *nb)
{
    if (nb->dialling == NULL) return;
    n->transport->ops->undial(n->transport, nb->dialling);
    free(nb->dialling);
    nb->dialling = NULL;
}

static void redial_soon(struct node *n)
{
    if (n->phase == NODE_JOINING) return; /* node_begin sets the time */
    uint64_t at_us = n->host->ops->now_us(n->host) + REDIAL_AFTER_US;
    if (at_us >= n->redial_at_us) return;
    n->redial_at_us = at_us;
    node_arm(n);
}

/* The address is of the peer's making: one that cannot be dialled is said once and tried again. */
static void neighbour_dial(struct node *n, struct neighbour *nb)
{
    const struct wire_member *m = node_member(n, nb->rank);
    if (nb->dialling != NULL && strcmp(nb->dialling, m->address) == 0) return;
    neighbour_undial(n, nb);
    if (m->address[0] == '\0') return;
    int err = n->transport->ops->dial(n->transport, m->address);
    if (err == 0) {
        nb->dialling = mem_copy_text(m->address);
        nb->dial_warned = false;
        return;
    }
    if (!nb->dial_warned)
        trace_line(n->config.trace, TRACE_WARN, "node %llu: cannot dial '%s': %s; trying again",
                   (unsigned long long)m->id, m->address, err_name(err));
    nb->dial_warned = true;
    redial_soon(n);
}

void node_links_redial(struct node *n)
{
    for (uint32_t i = 0; i < n->neighbour_count; i++) {
        if (n->neighbour[i].link == NULL) neighbour_dial(n, &n->neighbour[i]);
    }
    for (struct link *l = n->oldest; l != NULL; l = l->newer) {
        if (l->rank == RANK_NONE) node_link_close(n, l, DOWN_LOCAL);
    }
}

/* -- members ----------------------------------------------------------------------------------- */

/* The peer has our own entry (but for the tag) and its own; what everybody was given at the start need not be
 * said. */
static void link_send_roster(struct node *n, struct link *l)
{
    struct wire_member *list = mem_new(n->roster.count, sizeof *list);
    uint32_t count = 0;
    for (uint32_t i = 0; i < n->roster.count; i++) {
        const struct wire_member *m = &n->roster.member[i];
        bool told = m->id == n->config.id && m->tag[0] == '\0';
        if (!told && m->id != l->peer) list[count++] = *m;
    }
    node_send_members(n, l, list, count);
    free(list);
}

static void members_pass_on(struct node *n, const struct link *from, const struct wire_member *news,
                            uint32_t count)
{
    for (struct link *l = n->oldest; l != NULL; l = l->newer) {
        if (l != from && !l->closing) node_send_members(n, l, news, count);
    }
}

/* A neighbour that is being dialled may have moved. */
static void members_follow(struct node *n, const struct wire_member *news, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        rank_t rank = roster_rank(&n->roster, news[i].id);
        uint32_t edge = graph_edge_index(n->graph, n->rank, rank);
        if (edge == UINT32_MAX) continue;
        struct neighbour *nb = &n->neighbour[edge - n->graph->offset[n->rank]];
        if (nb->link == NULL) neighbour_dial(n, nb);
    }
}

/* A list names all members its sender knows but itself and us, by ascending id and in as many messages as it
 * takes: if with the sender it is complete, we are one too many, or it is. */
static bool members_exclude_us(const struct node *n, struct link *from, const struct wire_member *member,
                               uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (member[i].id == n->config.id) from->names_us = true;
        if (member[i].id == n->config.id || member[i].id == from->peer) continue;
        bool goes_on = from->listed_count > 0 && member[i].id > from->listed_id;
        from->listed_count = goes_on ? from->listed_count + 1 : 1;
        from->listed_id = member[i].id;
    }
    return !from->names_us && from->listed_count + 1 >= n->config.node_count;
}

/* We asked to join there and have nobody else: the end. Whoever else says so may be wrong or lie, and loses
 * its link. */
static void excluded_by(struct node *n, struct link *from)
{
    if (!from->dialled || n->ever_presented) {
        node_link_refuse(n, from, "has a complete list of members without us");
        return;
    }
    struct err_text why;
    err_set(&why, ERR_CLUSTER,
            "--join: the experiment has its %u members and node %llu is none of them; to take the place "
            "of one that is gone, give its --id",
            n->config.node_count, (unsigned long long)n->config.id);
    node_fail(n, &why);
}

/* Why the list is not looked at, or NULL. */
static const char *members_refusal(const struct node *n, const struct link *from,
                                   const struct wire_member *member, uint32_t count)
{
    if (roster_find(&n->roster, from->peer) == NULL) return "sent a list of members and is none";
    for (uint32_t i = 0; i < count; i++)
        if (member[i].boot > BOOT_MAX) return "sent a member with a boot number that cannot be";
    return NULL;
}

static bool member_is_linked(const struct node *n, node_id id)
{
    for (const struct link *l = n->oldest; l != NULL; l = l->newer)
        if (l->peer == id && !l->closing) return true;
    return false;
}

/* Takes one entry of a list into the roster; returns true when it is worth passing on. */
static bool hearsay_take(struct node *n, struct link *from, const struct wire_member *m)
{
    const struct wire_member *old = roster_find(&n->roster, m->id);
    if (old == NULL) return roster_learn(&n->roster, m); /* at most node_count times */
    if (m->id != n->config.id && roster_tag(&n->roster, m->id, m->tag)) {
        roster_learn(&n->roster, m);
        return true; /* at most node_count times */
    }
    if (m->boot < old->boot || (m->boot == old->boot && old->address[0] != '\0')) return false;
    if (m->id == n->config.id || from->hearsay_count >= HEARSAY_MAX || member_is_linked(n, m->id))
        return false;
    if (!roster_learn(&n->roster, m)) return false;
    from->hearsay_count++;
    return true;
}

void node_members_heard(struct node *n, struct link *from, const struct wire_member *member, uint32_t count)
{
    if (members_exclude_us(n, from, member, count)) {
        excluded_by(n, from);
        return;
    }
    const char *refusal = members_refusal(n, from, member, count);
    if (refusal != NULL) {
        node_link_refuse(n, from, refusal);
        return;
    }
    uint64_t now_us = n->host->ops->now_us(n->host);
    if (now_us - from->hearsay_us >= HEARSAY_INTERVAL_US) {
        from->hearsay_us = now_us;
        from->hearsay_count = 0;
    }
    struct wire_member *news = mem_new(count, sizeof *news);
    uint32_t news_count = 0;
    for (uint32_t i = 0; i < count; i++)
        if (hearsay_take(n, from, &member[i])) news[news_count++] = *roster_find(&n->roster, member[i].id);
    if (news_count > 0) {
        members_pass_on(n, from, news, news_count);
        if (n->phase == NODE_JOINING)
            node_try_begin(n);
        else
            members_follow(n, news, news_count);
    }
    free(news);
}

/* -- readiness --------------------------------------------------------------------------------- */

static bool link_agrees(struct node *n, struct link *l)
{
    if (!l->ready_received || n->algo == NULL) return true;
    if (l->fingerprint == n->fingerprint) return true;
    node_link_refuse(n, l,
                     "has another list of members: is an id used twice, or a node too many in the cluster?");
    return false;
}

void node_link_present(struct node *n, struct link *l)
{
    if (l->presented || l->closing || l->place == PLACE_NONE) return;
    l->presented = true;
    n->presented_count++;
    n->ever_presented = true;
    struct algo_event event = {.kind = ALGO_PEER_UP, .peer = l->rank, .boot = l->boot};
    CHECK(node_feed(n, &event) == 0);
    if (n->presented_count == n->neighbour_count) node_train_release(n);
}

void node_ready_heard(struct node *n, struct link *from, uint64_t fingerprint)
{
    from->ready_received = true;
    from->fingerprint = fingerprint;
    if (n->algo != NULL && link_agrees(n, from)) node_link_present(n, from);
}

/* The link's rank and place among the neighbours; the neighbour is no longer dialled if it dialled us. */
static void link_place(struct node *n, struct link *l)
{
    l->rank = roster_rank(&n->roster, l->peer);
    if (l->rank == RANK_NONE) return; /* a stranger: it goes at the next redial */
    uint32_t edge = graph_edge_index(n->graph, n->rank, l->rank);
    if (edge == UINT32_MAX) return;
    l->place = edge - n->graph->offset[n->rank];
    struct neighbour *nb = &n->neighbour[l->place];
    CHECK(nb->link == NULL);
    nb->link = l;
    if (!l->dialled) neighbour_undial(n, nb);
}

void node_links_begin(struct node *n)
{
    for (struct link *l = n->oldest; l != NULL; l = l->newer) {
        if (l->closing) continue;
        link_place(n, l);
        if (l->rank != RANK_NONE) node_send_ready(n, l);
    }
    for (uint32_t i = 0; i < n->neighbour_count; i++) {
        struct neighbour *nb = &n->neighbour[i];
        if (nb->link == NULL && n->rank < nb->rank) neighbour_dial(n, nb);
    }
}

void node_links_present(struct node *n)
{
    for (struct link *l = n->oldest; l != NULL; l = l->newer) {
        if (l->ready_received && link_agrees(n, l)) node_link_present(n, l);
    }
}

/* The complete list without it ends a newcomer. Its link stays for a moment: the simulated transport loses
 * what is under way when an end closes, and the peer's own list may tell us that the stranger is us. Alone in
 * an experiment of one there is no list to send. */
static void stranger_came(struct node *n, struct link *l, const char *address)
{
    node_warn(n, NODE_WARN_STRANGER, "node %llu at %s is not one of the %u members; it is told so",
              (unsigned long long)l->peer, address, n->config.node_count);
    if (n->config.node_count == 1) {
        if (l->dialled && n->phase == NODE_JOINING)
            excluded_by(n, l);
        else
            node_link_close(n, l, DOWN_LOCAL);
        return;
    }
    link_send_roster(n, l);
    redial_soon(n);
}

/* -- up, down, refused ------------------------------------------------------------------------- */

void node_link_up(struct node *n, struct link_id id, const struct peer_info *peer)
{
    struct link *l = link_add(n, id, peer);
    struct wire_member member = {.id = peer->id, .boot = peer->boot};
    memcpy(member.address, peer->address, sizeof member.address);
    bool news = roster_meet(&n->roster, &member);
    if (roster_find(&n->roster, peer->id) == NULL) {
        stranger_came(n, l, peer->address);
        return;
    }
    link_send_roster(n, l);
    if (news) members_pass_on(n, l, &member, 1);
    if (n->phase == NODE_JOINING) {
        node_try_begin(n);
    } else if (!n->failed) {
        link_place(n, l);
        node_send_ready(n, l);
    }
}

void node_link_down(struct node *n, struct link_id id, enum down_reason why)
{
    struct link *l = link_find_any(n, id);
    CHECK(l != NULL); /* exactly one on_down per on_up */
    struct neighbour *nb = l->place != PLACE_NONE ? &n->neighbour[l->place] : NULL;
    rank_t rank = l->rank;
    bool presented = l->presented, dialled = l->dialled;
    trace_line(n->config.trace, TRACE_DEBUG, "node %llu: link down: %s", (unsigned long long)l->peer,
               down_reason_name(why));
    link_remove(n, l);
    if (n->failed || nb == NULL) return;
    nb->link = NULL;
    if (dialled)
        neighbour_dial(n, nb);
    else
        redial_soon(n);
    if (presented) {
        n->presented_count--;
        struct algo_event event = {.kind = ALGO_PEER_DOWN, .peer = rank};
        CHECK(node_feed(n, &event) == 0);
    }
}

void node_links_refused(struct node *n, const char *address, int err, const char *reason)
{
    trace_line(n->config.trace, TRACE_WARN, "%s: %s: %s", address, err_name(err), reason);
    for (uint32_t i = 0; i < n->neighbour_count; i++) {
        struct neighbour *nb = &n->neighbour[i];
        if (nb->dialling != NULL && strcmp(nb->dialling, address) == 0) {
            free(nb->dialling); /* the transport has given this address up */
            nb->dialling = NULL;
        }
    }
    if (n->phase != NODE_JOINING || n->failed) return;
    *(err == ERR_SELF ? &n->seeds_self : &n->seeds_refused) += 1;
    if (n->seeds_refused == 0 || n->seeds_refused + n->seeds_self < n->seed_count || n->link_count > 0)
        return;
    struct err_text why;
    err_set(&why, err, "--join: %s refused us: %s", address, reason);
    node_fail(n, &why);
}
