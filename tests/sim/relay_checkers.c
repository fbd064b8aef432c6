/* What must hold of relays in a storm of members (member_storm.h), beside what nodes check themselves: that each link
 * goes up and down once, and that messages come in order, none twice and none left out (a sequence per link).
 *
 * Always, after every event:
 *  - nobody finds a frame of another's malformed: sequences, windows, credit and who may say what are right.
 *  - a relayer holds no more than a window for each lane and direction of a pair, each end no more than a link may.
 *  - one link per peer; a relayed link has a real link under it, and soon after that is gone, or its relayer, or the other
 *    end, it is gone too.
 * At rest: each relayed link is one at both ends, through one that relays for them. */
#include <string.h>

#include "agent/node/internal.h"
#include "base/check.h"
#include "net/relay/internal.h"
#include "tests/sim/member_storm.h"

enum { ORPHAN_US_MAX = 20 * MEMBER_SECOND }; /* until a word has come over a link that is throttled */

static const struct relay *relay_of_life(const struct member_storm *s, node_id id, uint64_t boot)
{
    for (uint32_t v = 0; v < s->slots; v++) {
        const struct relay *r = simulation_relay(s->sim, v);
        if (r != NULL && r->config.id == id && r->config.boot == boot) return r;
    }
    return NULL;
}

static const struct relay_link *end_of_call(const struct relay *r, uint64_t call)
{
    for (uint32_t i = 0; i < RELAY_LINK_MAX; i++)
        if (r->link[i].used && r->link[i].up && r->link[i].call == call) return &r->link[i];
    return NULL;
}

static bool relays_call(const struct relay *r, uint64_t call)
{
    for (uint32_t i = 0; i < RELAY_PAIR_MAX; i++) {
        enum pair_state state = r->pair[i].state;
        if (r->pair[i].call == call && (state == PAIR_ACCEPTED || state == PAIR_OPEN)) return true;
    }
    return false;
}

/* NULL when the link is one from end to end. */
static const char *link_fault(const struct member_storm *s, const struct relay *r, const struct relay_link *l)
{
    const struct relay_real *real = relay_real_of(r, l->real);
    if (real == NULL || real->peer != l->peer.relayer) return "a relayed link has no link under it";
    const struct relay *relayer = relay_of_life(s, real->peer, real->boot);
    if (relayer == NULL) return "a relayed link has outlived its relayer";
    if (!relays_call(relayer, l->call)) return "a relayed link has no relayer any more";
    const struct relay *other = relay_of_life(s, l->peer.id, l->peer.boot);
    if (other == NULL || end_of_call(other, l->call) == NULL) return "a relayed link has one end";
    return NULL;
}

/* -- always ------------------------------------------------------------------------------------ */

static void window_check(struct member_storm *s, uint32_t v, const struct relay_side *side)
{
    for (int lane = 0; lane < 2; lane++) {
        const struct relay_queue *q = &side->queue[lane];
        uint64_t count = q->count + side->owed_messages[lane], bytes = q->bytes + side->owed_bytes[lane];
        if (count > 1 && (count > RELAY_WINDOW_MESSAGES || bytes > RELAY_WINDOW_BYTES))
            member_storm_fail(s, "slot %u holds %llu messages of %llu bytes for one lane of a pair", v,
                              (unsigned long long)count, (unsigned long long)bytes);
    }
}

static void pairs_check(struct member_storm *s, uint32_t v, const struct relay *r)
{
    for (uint32_t i = 0; i < RELAY_PAIR_MAX; i++) {
        if (r->pair[i].state == PAIR_FREE) continue;
        s->tally->relayed_pairs_seen++;
        for (uint32_t side = 0; side < 2; side++) window_check(s, v, &r->pair[i].side[side]);
    }
}

static void links_check(struct member_storm *s, uint32_t v, const struct relay *r)
{
    for (uint32_t i = 0; i < RELAY_LINK_MAX; i++) {
        const struct relay_link *l = &r->link[i];
        uint64_t *since_us = &s->orphaned_us[v][i], now_us = member_storm_now_us(s);
        if (!l->used || !l->up || s->slot[v].paused) {
            *since_us = 0;
            continue;
        }
        if (relay_real_peer(r, l->peer.id) != NULL)
            member_storm_fail(s, "slot %u has two links to node %llu", v, (unsigned long long)l->peer.id);
        const char *fault = link_fault(s, r, l);
        if (fault == NULL) *since_us = 0;
        if (fault != NULL && *since_us == 0) *since_us = now_us;
        if (fault != NULL && now_us - *since_us > ORPHAN_US_MAX)
            member_storm_fail(s, "slot %u: %s", v, fault);
    }
}

void relay_checkers_event(struct member_storm *s, uint32_t v)
{
    const struct relay *r = simulation_relay(s->sim, v);
    if (r == NULL) return;
    pairs_check(s, v, r);
    links_check(s, v, r);
}

void relay_checkers_begin(struct member_storm *s, uint32_t v)
{
    memset(s->orphaned_us[v], 0, sizeof s->orphaned_us[v]);
}

/* -- at rest ----------------------------------------------------------------------------------- */

const char *relay_checkers_unrest(struct member_storm *s)
{
    for (uint32_t v = 0; v < s->slots; v++) {
        const struct relay *r = simulation_relay(s->sim, v);
        for (uint32_t i = 0; r != NULL && i < RELAY_LINK_MAX; i++) {
            const char *fault = r->link[i].used && r->link[i].up ? link_fault(s, r, &r->link[i]) : NULL;
            if (fault != NULL) return fault;
            s->tally->relayed_links_at_rest += r->link[i].used && r->link[i].up;
        }
    }
    return NULL;
}
