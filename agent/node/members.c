/* The node's side of membership and overlay: events in, actions out, what we say of ourselves.
 *
 * Normal course
 *  - links, messages and time go to the machines; SEND goes over the link, CONNECT becomes a probe, CHANGED goes to
 *    the table of places, the overlay and the owner.
 *  - our own record is told when our place, phase or address changes, progress at most every PROGRESS_US.
 *  - under which address others see us is believed only when none was given: a global address rather than a private
 *    one, that rather than a loopback one.
 *  - we were here before: others tell us our former record; its place is the one we want.
 * Failure courses
 *  - a message of a machine that its link cannot take is dropped: the machines repeat what matters.
 *  - another process has our id: both say so, at most once a minute, and go on.
 *  - a message that makes no sense: ERR_PROTO, the link is closed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/node/internal.h"
#include "base/check.h"
#include "net/relay/relay.h"

#define PROGRESS_US 5000000u
#define RIVAL_SHOWN_US 120000000u  /* it is told of once a minute as long as it is there */
#define PROGRESS_FIRST_US 1000000u /* after training began: from then on the start is no longer common */

/* -- carrying out ------------------------------------------------------------------------------ */

/* Who has no address is reached through another member; a link through one does not tell the address. */
static void overlay_connect_to(struct node *n, node_id id, const char *address)
{
    char relayed[ADDRESS_TEXT_MAX];
    const struct member *m = address[0] == '\0' ? membership_find(n->membership, id) : NULL;
    if (m != NULL) address = m->address;
    relay_address(id, relayed);
    node_probe(n, id, address[0] != '\0' ? address : relayed, false, true);
}

static void overlay_apply(struct node *n)
{
    for (size_t i = 0; i < n->overlay_actions.count; i++) {
        const struct overlay_action *a = &n->overlay_actions.item[i];
        struct link *l = NULL;
        switch (a->kind) {
        case OVERLAY_SEND:
            l = node_link_of(n, a->id);
            if (l != NULL) node_send_overlay(n, l, &a->msg);
            break;
        case OVERLAY_CONNECT:
            overlay_connect_to(n, a->id, a->address);
            break;
        case OVERLAY_ADDED:
        case OVERLAY_REMOVED:
            n->dirty = true;
            break;
        }
    }
    overlay_actions_clear(&n->overlay_actions);
}

static int overlay_feed(struct node *n, enum overlay_event_kind kind, node_id id, const char *address,
                        const struct overlay_msg *msg)
{
    if (n->overlay == NULL) return 0;
    struct overlay_event event = {.kind = kind, .now_us = node_now_us(n), .peer = {.id = id}, .msg = msg};
    snprintf(event.peer.address, sizeof event.peer.address, "%s", address);
    int err = overlay_step(n->overlay, &event, &n->overlay_actions);
    overlay_apply(n);
    return err;
}

static void member_changed(struct node *n, const struct membership_action *a)
{
    const struct member *m = membership_find(n->membership, a->id);
    if (m == NULL) {
        n->dirty |= places_forget(&n->places, a->id);
        return;
    }
    bool living = m->state == MEMBER_ALIVE || m->state == MEMBER_SUSPECT;
    n->dirty |= places_learn(&n->places, m, node_now_boot(n));
    if (a->is_new || m->state != a->before || n->algo == NULL) n->dirty = true;
    bool keeps = node_member_keeps(n, m); /* of no use to the overlay */
    if (keeps) overlay_feed(n, OVERLAY_LINK_DOWN, m->id, "", NULL);
    if (m->id != n->config.id)
        overlay_feed(n, living && !keeps ? OVERLAY_KNOWN : OVERLAY_FORGET, m->id, m->address, NULL);
    if (n->sink.on_member != NULL) n->sink.on_member(n->sink.ctx, m, a->is_new, a->before, a->confirmations);
}

/* 3 global, 2 private or a name, 1 loopback, 0 none. */
static int address_reach(const char *address)
{
    unsigned a = 0, b = 0;
    if (address[0] == '\0') return 0;
    if (strncmp(address, "127.", 4) == 0 || strncmp(address, "[::1]", 5) == 0) return 1;
    if (address[0] == '[') return strncmp(address, "[f", 2) == 0 ? 2 : 3;
    if (sscanf(address, "%u.%u.", &a, &b) != 2) return 2;
    bool shared = a == 100 && b >= 64 && b < 128, own = a == 169 && b == 254;
    bool private = a == 10 || (a == 172 && b >= 16 && b < 32) || (a == 192 && b == 168);
    return private || shared || own ? 2 : 3;
}

static void seen_as(struct node *n, const char *address)
{
    if (n->address_given || address_reach(address) <= address_reach(n->self.address)) return;
    snprintf(n->self.address, sizeof n->self.address, "%s", address);
    trace_line(n->config.trace, TRACE_DEBUG, "others see us at %s", address);
    if (n->overlay != NULL) overlay_set_address(n->overlay, address);
    n->self_changed = n->dirty = true;
}

/* Neither ever gives in; but all that we know of the other is what peers say, and that stops nobody. */
static void rival_found(struct node *n, const struct membership_action *a)
{
    n->rival_until_us = time_after(node_now_us(n), RIVAL_SHOWN_US);
    memcpy(n->rival, a->address, strlen(a->address) + 1);
    trace_line(
        n->config.trace, TRACE_WARN,
        "--id: %llu is used by another process too, at %s, which was started %s this one: stop one of the "
        "two, or start it again with another --id (a copied --state directory copies the id)",
        (unsigned long long)n->config.id, a->address[0] != '\0' ? a->address : "an address not known",
        a->boot > n->config.boot ? "after" : "before");
}

static void members_apply(struct node *n)
{
    for (size_t i = 0; i < n->member_actions.count; i++) {
        const struct membership_action *a = &n->member_actions.item[i];
        struct link *l = NULL;
        switch (a->kind) {
        case MEMBERSHIP_SEND:
            l = node_link_of(n, a->id);
            if (l != NULL) node_send_swim(n, l, &a->msg);
            break;
        case MEMBERSHIP_CONNECT:
            node_probe(n, a->id, a->address, true, false);
            break;
        case MEMBERSHIP_CHANGED:
            member_changed(n, a);
            break;
        case MEMBERSHIP_SEEN_AS:
            seen_as(n, a->address);
            break;
        case MEMBERSHIP_RIVAL:
            rival_found(n, a);
            break;
        }
    }
    membership_actions_clear(&n->member_actions);
}

static int members_feed(struct node *n, struct membership_event *event)
{
    event->now_us = node_now_us(n);
    int err = membership_step(n->membership, event, &n->member_actions);
    members_apply(n);
    return err;
}

/* -- events ------------------------------------------------------------------------------------ */

/* What we knew of the peer's former life: its own record replaces it everywhere, but it wants its place again. */
static void recall(struct node *n, struct link *l)
{
    const struct member *old = membership_find(n->membership, l->peer);
    if (old == NULL || old->boot >= l->boot || old->meta[META_PLACE] == 0) return;
    const struct swim_msg msg = {.kind = SWIM_GOSSIP, .update = old, .update_count = 1};
    node_send_swim(n, l, &msg);
}

void node_members_up(struct node *n, struct link *l)
{
    recall(n, l);
    struct membership_event event = {.kind = MEMBERSHIP_LINK_UP, .peer = l->peer, .address = l->address};
    members_feed(n, &event);
    const struct member *m = membership_find(n->membership, l->peer);
    bool keeps = m != NULL && m->boot == l->boot && node_member_keeps(n, m);
    const char *address = l->relayed && m != NULL ? m->address : l->address;
    if (!keeps) overlay_feed(n, OVERLAY_LINK_UP, l->peer, address, NULL);
}

static enum member_evidence evidence_of(enum down_reason why)
{
    switch (why) {
    case DOWN_RESET:
        return EVIDENCE_RESET;
    case DOWN_SILENT:
        return EVIDENCE_SILENT;
    case DOWN_CLOSED:
    case DOWN_PROTOCOL:
    case DOWN_REPLACED:
    case DOWN_LOCAL:
        return EVIDENCE_NONE;
    }
    UNREACHABLE();
}

void node_members_down(struct node *n, node_id peer, enum down_reason why)
{
    struct membership_event event = {
        .kind = MEMBERSHIP_LINK_DOWN, .peer = peer, .evidence = evidence_of(why)};
    members_feed(n, &event);
    overlay_feed(n, OVERLAY_LINK_DOWN, peer, "", NULL);
}

void node_members_unreachable(struct node *n, node_id id, enum member_evidence evidence, bool members,
                              bool overlay)
{
    struct membership_event event = {.kind = MEMBERSHIP_UNREACHABLE, .peer = id, .evidence = evidence};
    if (members) members_feed(n, &event);
    if (overlay) overlay_feed(n, OVERLAY_UNREACHABLE, id, "", NULL);
}

/* What others remember of our former life. */
static void remember_place(struct node *n, const struct member *old)
{
    if (n->wanted_place != RANK_NONE || n->rank != RANK_NONE || old->boot >= n->config.boot) return;
    uint64_t place = old->meta[META_PLACE];
    if (place == 0 || place > n->config.node_count) return;
    n->wanted_place = (rank_t)(place - 1);
    n->wanted_claimed = old->meta[META_CLAIMED] <= node_now_boot(n) ? old->meta[META_CLAIMED] : 0;
    n->dirty = true;
}

int node_swim_heard(struct node *n, struct link *from, const struct swim_msg *msg)
{
    struct membership_event event = {.kind = MEMBERSHIP_MESSAGE, .peer = from->peer, .msg = msg};
    for (uint32_t i = 0; i < msg->update_count; i++)
        if (msg->update[i].id == n->config.id) remember_place(n, &msg->update[i]);
    int err = members_feed(n, &event);
    if (err != 0) return err;
    bool all = (msg->kind == SWIM_SYNC && msg->number == 0) || msg->kind == SWIM_SYNC_REPLY;
    const struct member *m = all && !from->synced ? membership_find(n->membership, from->peer) : NULL;
    if (m != NULL && node_member_trains(n, m)) from->synced = n->dirty = true;
    return 0;
}

int node_overlay_heard(struct node *n, struct link *from, const struct overlay_msg *msg)
{
    if (n->config.keeper) return 0;           /* it comes from one who does not know yet */
    if (n->overlay == NULL) return ERR_PROTO; /* all members have the same --topology */
    return overlay_feed(n, OVERLAY_MESSAGE, from->peer, from->address, msg);
}

void node_members_tick(struct node *n, uint64_t now_us)
{
    struct membership_event event = {.kind = MEMBERSHIP_DEADLINE};
    if (membership_deadline_us(n->membership) <= now_us) members_feed(n, &event);
    if (n->overlay != NULL && overlay_deadline_us(n->overlay) <= now_us)
        overlay_feed(n, OVERLAY_DEADLINE, 0, "", NULL);
}

uint64_t node_members_deadline_us(const struct node *n)
{
    uint64_t at_us = membership_deadline_us(n->membership);
    if (n->overlay == NULL || overlay_deadline_us(n->overlay) >= at_us) return at_us;
    return overlay_deadline_us(n->overlay);
}

void node_members_leave(struct node *n)
{
    struct membership_event event = {.kind = MEMBERSHIP_LEAVE};
    members_feed(n, &event);
}

/* -- ourselves --------------------------------------------------------------------------------- */

/* Returns true when something that cannot wait has changed. */
static bool self_refresh(struct node *n)
{
    uint64_t *meta = n->self.meta;
    uint64_t place = n->rank == RANK_NONE ? 0 : (uint64_t)n->rank + 1, claimed = place > 0 ? n->claimed : 0;
    uint64_t phase = (uint64_t)n->phase + 1;
    bool changed = meta[META_PLACE] != place || meta[META_CLAIMED] != claimed || meta[META_PHASE] != phase;
    if (meta[META_PHASE] != NODE_TRAINING + 1 && phase == NODE_TRAINING + 1)
        n->progress_at_us = node_now_us(n) + PROGRESS_FIRST_US;
    meta[META_PLACE] = place;
    meta[META_CLAIMED] = claimed;
    meta[META_PHASE] = phase;
    if (phase < NODE_TRAINING + 1) meta[META_UNDER_WAY] = 0;
    return changed;
}

/* Returns true when it is time to tell of progress, and there is some. */
static bool progress_refresh(struct node *n)
{
    uint64_t now_us = node_now_us(n), *meta = n->self.meta;
    if (now_us < n->progress_at_us) return false;
    uint64_t load =
        now_us > n->self_told_us ? (n->steps - n->steps_told) * 1000000u / (now_us - n->self_told_us) : 0;
    uint64_t under_way = n->phase == NODE_TRAINING || n->phase == NODE_FINISHED;
    bool changed = meta[META_PROGRESS] != n->steps || meta[META_LOAD] != load ||
                   meta[META_DEGREE] != n->presented_count || meta[META_UNDER_WAY] != under_way;
    meta[META_PROGRESS] = n->steps;
    meta[META_UNDER_WAY] = under_way;
    meta[META_LOAD] = load;
    meta[META_DEGREE] = n->presented_count;
    n->steps_told = n->steps;
    n->self_told_us = now_us;
    n->progress_at_us = now_us + PROGRESS_US;
    return changed;
}

/* Rumours reach everybody in time; a claim, a beginning or an address is waited for. */
static void self_announce(struct node *n)
{
    const struct swim_msg msg = {
        .kind = SWIM_GOSSIP, .update = membership_self(n->membership), .update_count = 1};
    for (struct link *l = n->oldest; l != NULL; l = l->newer)
        if (!l->closing) node_send_swim(n, l, &msg);
}

void node_self_tell(struct node *n)
{
    bool urgent = self_refresh(n) || n->self_changed;
    if (!progress_refresh(n) && !urgent) return;
    n->self_changed = false;
    n->dirty |= places_learn(&n->places, &n->self, node_now_boot(n));
    struct membership_event event = {.kind = MEMBERSHIP_SELF, .self = &n->self};
    members_feed(n, &event);
    if (urgent) self_announce(n);
}

/* -- making and ending ------------------------------------------------------------------------- */

static void copy_text(char *to, size_t room, const char *text)
{
    CHECK(text == NULL || strlen(text) < room); /* options are checked */
    snprintf(to, room, "%s", text != NULL ? text : "");
}

void node_members_init(struct node *n)
{
    struct membership_config config;
    membership_defaults(&config);
    if (n->config.membership != NULL) config = *n->config.membership;
    n->self = (struct member){.id = n->config.id, .boot = n->config.boot};
    uint64_t used = n->config.incarnation;
    n->self.incarnation = used >= n->config.boot ? used + 1 : 0;
    copy_text(n->self.address, sizeof n->self.address, n->config.address);
    copy_text(n->self.tag, sizeof n->self.tag, n->config.tag);
    n->address_given = n->self.address[0] != '\0';
    n->self.meta[META_PROGRESS] = n->steps_told = n->steps;
    n->self.meta[META_PHASE] = (uint64_t)n->phase + 1;
    n->self.meta[META_SAMPLES] = n->config.samples;
    config.self = n->self;
    config.seed = n->config.seed ^ n->config.id ^ n->config.boot;
    config.trace = n->config.trace;
    n->membership = membership_new(&config);
    if (!n->config.overlay || n->config.keeper) return;
    struct overlay_config overlay;
    overlay_defaults(&overlay);
    overlay.id = n->config.id;
    memcpy(overlay.address, n->self.address, sizeof overlay.address);
    overlay.relayed = true;
    overlay.seed = config.seed;
    overlay.trace = n->config.trace;
    n->overlay = overlay_new(&overlay);
}

void node_members_start(struct node *n)
{
    struct membership_event event = {.kind = MEMBERSHIP_START};
    n->self_told_us = n->started_us;
    places_learn(&n->places, &n->self, node_now_boot(n));
    members_feed(n, &event);
}

void node_members_deinit(struct node *n)
{
    membership_actions_deinit(&n->member_actions);
    overlay_actions_deinit(&n->overlay_actions);
    membership_free(n->membership);
    overlay_free(n->overlay);
}
