/* Whom to dial and which links to keep, when members come and go.
 *
 * Each review says anew who is wanted; what is dialled follows:
 *  - the holders of neighbouring places (with an overlay those of its active view dial each other by its CONNECT). At
 *    first the smaller place dials; after a second both do: either may be behind a NAT.
 *    A member without an address is dialled through another member (node/homes.c), and one that has not been
 *    reached for RELAY_AFTER_US so as well; it is dialled on, and a direct link that comes later replaces that one.
 *  - whom a machine asked for (CONNECT), until the link is up, for PROBE_US, or until the dial fails.
 *  - before training: the seeds; up to DONOR_MAX of those who train, or keep the model; and of the known members those
 *    1, 2, 4, ... places further in the ring of ids, RING_REACH at most, so that what one knows is soon known to all.
 *  - without any link: the seeds. Always: what the owner seeks (node_seek).
 * The dial that brought a link is kept for KEEP_US, so that the transport's back-off governs a link that breaks
 * again and again; without it each new dial would begin at once.
 * A dial is kept for DIAL_LEAST_US though the peer's own has come through meanwhile: the transport decides between
 * the two, in the same way at both ends. If each end gave up its own for the other's, no link would stay.
 * A link that nobody needs (to fetch or to give the model, say) is closed by the side that dialled it after
 * IDLE_US, but never the last LINK_LEAST.
 * Failure courses
 *  - an address fails: whoever asked for a probe there hears it. It is dialled on as long as it is wanted.
 *  - an address belongs to somebody else now: the member that was sought there is told unreachable.
 *  - an address that cannot be dialled: as one that fails. One that the transport gave up for good (ourselves,
 *    another cluster) is tried again after REFUSED_US, if somebody still names it. */
#include <stdlib.h>
#include <string.h>

#include "agent/node/internal.h"
#include "base/check.h"
#include "net/relay/relay.h"

#define PROBE_US 10000000u
#define IDLE_US 6000000u
#define REFUSED_US 30000000u
#define DIAL_BOTH_US 1000000u
#define KEEP_US 5000000u /* less than IDLE_US: a link that we close is not dialled again */
#define DIAL_LEAST_US 3000000u
#define RELAY_AFTER_US 3000000u
#define LINK_LEAST 3u
#define RING_REACH 8u
#define DONOR_MAX 3u

/* -- dials ------------------------------------------------------------------------------------- */

static struct contact *contact_find(const struct node *n, const char *address)
{
    for (uint32_t i = 0; i < n->contact_count; i++)
        if (strcmp(n->contact[i].address, address) == 0) return &n->contact[i];
    return NULL;
}

static bool contact_dial(struct node *n, const char *address)
{
    return n->transport->ops->dial(n->transport, address) == 0;
}

/* False when it is no address, was refused a moment ago, or the transport does not take it. */
static bool contact_want(struct node *n, const char *address)
{
    if (address[0] == '\0') return false;
    struct contact *c = contact_find(n, address);
    if (c != NULL) {
        c->wanted = true;
        if (c->refused_us == 0) return true;
        if (node_now_us(n) - c->refused_us < REFUSED_US || !contact_dial(n, address)) return false;
        c->refused_us = 0;
        return true;
    }
    if (!contact_dial(n, address)) return false;
    if (n->contact_count == n->contact_capacity) {
        n->contact_capacity = n->contact_capacity == 0 ? 8 : 2 * n->contact_capacity;
        n->contact = mem_resize(n->contact, n->contact_capacity, sizeof *n->contact);
    }
    n->contact[n->contact_count++] = (struct contact){
        .address = mem_copy_text(address), .wanted = true, .keep_us = node_now_us(n) + DIAL_LEAST_US};
    return true;
}

bool node_contact_want(struct node *n, const char *address)
{
    return contact_want(n, address);
}

bool node_contact_is_new(const struct node *n, const char *address)
{
    const struct contact *c = contact_find(n, address);
    return c != NULL && c->refused_us == 0 && node_now_us(n) < c->keep_us;
}

static void contact_remove(struct node *n, struct contact *c)
{
    free(c->address);
    *c = n->contact[--n->contact_count];
}

static void contacts_sweep(struct node *n, uint64_t now_us)
{
    for (uint32_t i = 0; i < n->contact_count;) {
        struct contact *c = &n->contact[i];
        if (c->wanted || now_us < c->keep_us) {
            c->wanted = false;
            i++;
            continue;
        }
        if (c->refused_us == 0) n->transport->ops->undial(n->transport, c->address);
        contact_remove(n, c);
    }
}

void node_contacts_refused(struct node *n, const char *address)
{
    struct contact *c = contact_find(n, address);
    uint64_t now_us = node_now_us(n);
    if (c != NULL) c->refused_us = now_us > 0 ? now_us : 1; /* the transport has given it up */
    node_contacts_unreachable(n, address, ERR_CLOSED);
}

/* -- probes ------------------------------------------------------------------------------------ */

static void probe_remove(struct node *n, uint32_t at)
{
    free(n->probe[at].address);
    n->probe[at] = n->probe[--n->probe_count];
}

void node_probe(struct node *n, node_id id, const char *address, bool members, bool overlay)
{
    uint64_t until_us = node_now_us(n) + PROBE_US;
    n->dirty = true;
    for (uint32_t i = 0; i < n->probe_count; i++) {
        struct probe *p = &n->probe[i];
        if (p->id != id || strcmp(p->address, address) != 0) continue;
        p->until_us = until_us;
        p->members |= members;
        p->overlay |= overlay;
        return;
    }
    if (n->probe_count == n->probe_capacity) {
        n->probe_capacity = n->probe_capacity == 0 ? 8 : 2 * n->probe_capacity;
        n->probe = mem_resize(n->probe, n->probe_capacity, sizeof *n->probe);
    }
    n->probe[n->probe_count++] = (struct probe){.id = id,
                                                .address = mem_copy_text(address),
                                                .until_us = until_us,
                                                .members = members,
                                                .overlay = overlay};
}

/* Nobody answered there: the machines hear it, and may ask again at once. */
static void probe_fail(struct node *n, uint32_t at, enum member_evidence evidence)
{
    struct probe p = n->probe[at];
    p.address = NULL;
    probe_remove(n, at);
    node_members_unreachable(n, p.id, evidence, p.members, p.overlay);
}

void node_contacts_unreachable(struct node *n, const char *address, int err)
{
    enum member_evidence evidence = err == ERR_CLOSED ? EVIDENCE_REFUSED : EVIDENCE_TIMEOUT;
    n->dirty = true;
    for (uint32_t i = n->probe_count; i-- > 0;) { /* what the machines ask for meanwhile comes behind */
        if (i >= n->probe_count || strcmp(n->probe[i].address, address) != 0) continue;
        if (node_link_of(n, n->probe[i].id) == NULL) probe_fail(n, i, evidence);
    }
}

void node_contacts_up(struct node *n, const struct link *l)
{
    if (!l->dialled) return;
    char relayed[ADDRESS_TEXT_MAX];
    relay_address(l->peer, relayed);
    struct contact *c = contact_find(n, l->id.slot < RELAY_SLOT ? l->address : relayed);
    if (c != NULL) c->keep_us = node_now_us(n) + KEEP_US;
    if (l->id.slot >= RELAY_SLOT) return; /* nobody else can be there */
    for (uint32_t i = n->probe_count; i-- > 0;) {
        if (i >= n->probe_count || n->probe[i].id == l->peer) continue;
        if (strcmp(n->probe[i].address, l->address) == 0 && node_link_of(n, n->probe[i].id) == NULL)
            probe_fail(n, i, EVIDENCE_REFUSED);
    }
}

static void probes_review(struct node *n, uint64_t now_us)
{
    for (uint32_t i = n->probe_count; i-- > 0;) {
        if (i >= n->probe_count) continue;
        const struct probe *p = &n->probe[i];
        if (node_link_of(n, p->id) != NULL)
            probe_remove(n, i);
        else if (now_us >= p->until_us || !node_address_want(n, p->address, now_us))
            probe_fail(n, i, EVIDENCE_TIMEOUT);
    }
}

/* -- who is wanted ----------------------------------------------------------------------------- */

/* Returns true when the member is linked, or being dialled. */
static bool member_want(struct node *n, const struct member *m, uint64_t now_us)
{
    struct link *l = node_link_of(n, m->id);
    if (l != NULL) {
        l->needed_us = now_us;
        if (l->relayed && m->address[0] != '\0') contact_want(n, m->address); /* a direct one is better */
        return true;
    }
    return m->address[0] != '\0' ? contact_want(n, m->address) : node_homes_reach(n, m->id, now_us);
}

static void neighbours_want(struct node *n, uint64_t now_us)
{
    for (uint32_t i = 0; i < n->neighbour_count; i++) {
        struct neighbour *nb = &n->neighbour[i];
        node_id holder = 0;
        if (!nb->listed || !places_holder(&n->places, nb->rank, &holder)) continue;
        const struct member *m = membership_find(n->membership, holder);
        bool turn = n->rank < nb->rank || now_us - nb->missing_us >= DIAL_BOTH_US;
        if (m == NULL || (!turn && node_link_of(n, holder) == NULL)) continue;
        member_want(n, m, now_us);
        bool absent = node_link_of(n, holder) == NULL && now_us - nb->missing_us >= RELAY_AFTER_US;
        if (absent && m->address[0] != '\0') node_homes_reach(n, holder, now_us);
    }
}

static bool is_dialable(const struct node *n, const struct member *m)
{
    return m->id != n->config.id && (m->state == MEMBER_ALIVE || m->state == MEMBER_SUSPECT);
}

/* Those 1, 2, 4, ... further among the living, by id and round. */
static void ring_want(struct node *n, uint64_t now_us)
{
    uint32_t count = membership_count(n->membership), self = 0;
    while (self < count && membership_at(n->membership, self)->id != n->config.id) self++;
    uint32_t living = 0, next = 1;
    for (uint32_t i = 1; i < count && next <= RING_REACH; i++) {
        const struct member *m = membership_at(n->membership, (self + i) % count);
        if (!is_dialable(n, m)) continue;
        if (++living != next) continue;
        next *= 2;
        member_want(n, m, now_us);
    }
}

/* Those who train before those who keep. */
static void donors_want(struct node *n, uint64_t now_us)
{
    uint32_t wanted = 0, count = membership_count(n->membership);
    uint64_t best = node_progress_best(n);
    for (uint32_t i = 0; i < 2 * count && wanted < DONOR_MAX; i++) {
        const struct member *m = membership_at(n->membership, i % count);
        bool turn = node_member_keeps(n, m) == (i >= count);
        if (turn && node_member_gives(n, m, best)) wanted += member_want(n, m, now_us);
    }
}

static void links_review(struct node *n, uint64_t now_us)
{
    uint32_t links = n->link_count;
    for (struct link *l = n->oldest; l != NULL; l = l->newer) {
        bool gives = n->donor != NULL && donor_serves(n->donor, l->peer);
        if (node_overlay_has(n, l->peer) || gives) l->needed_us = now_us;
        if (!l->dialled || l->closing || now_us < l->needed_us + IDLE_US || links <= LINK_LEAST) continue;
        links--;
        node_link_close(n, l, DOWN_LOCAL);
    }
}

void node_contacts_review(struct node *n)
{
    uint64_t now_us = node_now_us(n);
    probes_review(n, now_us);
    neighbours_want(n, now_us);
    if (n->algo == NULL) {
        donors_want(n, now_us);
        ring_want(n, now_us);
    }
    if (n->algo == NULL || n->link_count == 0)
        for (size_t i = 0; i < n->seed_count; i++) contact_want(n, n->seed[i]);
    for (uint32_t i = 0; i < n->sought_count; i++) contact_want(n, n->sought[i]);
    node_homes_keep(n, now_us);
    contacts_sweep(n, now_us);
    links_review(n, now_us);
}

void node_seek(struct node *n, const char *address)
{
    CHECK(n->membership != NULL && n->sought_count < NODE_SEEK_MAX);
    n->sought[n->sought_count++] = mem_copy_text(address);
    n->dirty = true;
    node_settle(n);
}

void node_unseek(struct node *n, const char *address)
{
    uint32_t at = 0;
    while (at < n->sought_count && strcmp(n->sought[at], address) != 0) at++;
    CHECK(at < n->sought_count);
    struct contact *c = contact_find(n, address);
    if (c != NULL && n->link_count == 0) c->keep_us = 0; /* no link that it could be about to become */
    free(n->sought[at]);
    n->sought[at] = n->sought[--n->sought_count];
    n->dirty = true;
    node_settle(n);
}

void node_contacts_deinit(struct node *n)
{
    while (n->contact_count > 0) contact_remove(n, &n->contact[n->contact_count - 1]);
    while (n->probe_count > 0) probe_remove(n, n->probe_count - 1);
    while (n->sought_count > 0) free(n->sought[--n->sought_count]);
    free(n->contact);
    free(n->probe);
}
