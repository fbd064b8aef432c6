/* Injected faults of relayed links (transport.h, clauses 12 to 15). A rule that names a peer concerns the relayed link
 * to it too, and is applied to its messages here, at our end; the inner transport has the same rule for a real link.
 * Rules for every peer bite on the real links that relayed ones go over, and are not applied twice.
 *
 * Normal course
 *  - inject: the inner transport takes the rule, and we keep a copy under the same id; its end, by heal or by time, is
 *    ours too. faults() adds what both counted.
 *  - delay: a message is due so much later, both those that go out and those that have come; limit: the next one
 *    waits until the bytes of the last are through. Lanes stay in order.
 * Failure courses, which are what this is for
 *  - drop: what goes out and what has come waits; a link that is blocked for answer_us is given up as silent, at both
 *    ends, and earlier when more than a link's queue has come. No call to or from the peer is made or taken.
 *  - half_open: the same, but what goes out is lost, and the link is reset when the fault ends.
 *  - reset: links end now, calls are refused.
 *  - corrupt: a message with a corrupt byte ends the link, at its receiver as a broken protocol.
 * Nobody is called back from inject and heal: what may go on goes on from the next tick. */
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "net/relay/internal.h"

/* -- what concerns a link ---------------------------------------------------------------------- */

static void effect_of(const struct relay *r, node_id peer, enum fault_direction direction,
                      struct fault_effect *out)
{
    *out = (struct fault_effect){{NULL}};
    if (r->faults.live > 0) fault_set_match(&r->faults, &peer, direction, out);
}

static struct fault_status *block_of(const struct relay *r, node_id peer)
{
    struct fault_effect out, in;
    effect_of(r, peer, FAULT_OUT, &out);
    effect_of(r, peer, FAULT_IN, &in);
    struct fault_status *f = fault_effect_block(&out);
    return f != NULL ? f : fault_effect_block(&in);
}

static struct fault_status *reset_of(const struct relay *r, node_id peer)
{
    struct fault_effect out;
    effect_of(r, peer, FAULT_OUT, &out);
    return out.by[FAULT_RESET];
}

bool relay_fault_refuses(const struct relay *r, node_id peer, bool *silently)
{
    struct fault_status *block = block_of(r, peer), *reset = reset_of(r, peer);
    *silently = block != NULL;
    if (block != NULL)
        block->counts.links_refused++;
    else if (reset != NULL)
        reset->counts.links_reset++;
    return block != NULL || reset != NULL;
}

/* -- messages ---------------------------------------------------------------------------------- */

uint64_t relay_fault_due_us(struct relay *r, node_id peer, enum fault_direction direction, size_t bytes)
{
    struct fault_effect e;
    effect_of(r, peer, direction, &e);
    struct fault_status *f = e.by[FAULT_DELAY];
    if (f == NULL) return 0;
    f->counts.bytes_slowed += bytes;
    double jitter_us = f->rule.jitter_us > 0 ? (double)f->rule.jitter_us * prng_uniform(&r->prng, -1, 1) : 0;
    double delay_us = (double)f->rule.delay_us + jitter_us;
    return time_after(relay_now_us(r), delay_us > 0 ? (uint64_t)delay_us : 0);
}

static bool corrupts(struct relay *r, struct relay_shape *s, struct fault_status *f, size_t bytes)
{
    if (f == NULL) return false;
    if (s->noise != f || s->noise_in == 0) {
        uint64_t span = f->rule.one_in < UINT32_MAX / 2 ? 2 * f->rule.one_in - 1 : UINT32_MAX;
        s->noise = f;
        s->noise_in = 1 + prng_below(&r->prng, (uint32_t)span);
    }
    if (s->noise_in > bytes) {
        s->noise_in -= bytes;
        return false;
    }
    s->noise_in = 0;
    f->counts.bytes_corrupted++;
    return true;
}

enum relay_fate relay_fault_fate(struct relay *r, struct relay_link *l, enum fault_direction direction,
                                 const struct relay_message *m)
{
    struct fault_effect e;
    struct relay_shape *s = &l->shape[direction == FAULT_IN];
    if (r->faults.live == 0) return RELAY_GOES;
    effect_of(r, l->peer.id, direction, &e);
    uint64_t now_us = relay_now_us(r);
    if (e.by[FAULT_DROP] != NULL || (direction == FAULT_IN && e.by[FAULT_HALF_OPEN] != NULL))
        return RELAY_HELD;
    if (e.by[FAULT_HALF_OPEN] != NULL) {
        e.by[FAULT_HALF_OPEN]->counts.bytes_swallowed += m->cost;
        l->torn = true;
        return RELAY_SWALLOWED;
    }
    if (e.by[FAULT_DELAY] != NULL && m->due_us > now_us) return RELAY_LATER;
    if (e.by[FAULT_LIMIT] != NULL && s->free_us > now_us) return RELAY_HELD;
    return corrupts(r, s, e.by[FAULT_CORRUPT], m->cost) ? RELAY_CORRUPT : RELAY_GOES;
}

void relay_fault_gone(struct relay *r, struct relay_link *l, enum fault_direction direction, size_t bytes)
{
    struct fault_effect e;
    if (r->faults.live == 0) return;
    effect_of(r, l->peer.id, direction, &e);
    struct fault_status *f = e.by[FAULT_LIMIT];
    if (f == NULL) return;
    uint64_t *free_us = &l->shape[direction == FAULT_IN].free_us, now_us = relay_now_us(r);
    f->counts.bytes_slowed += bytes;
    if (*free_us < now_us) *free_us = now_us;
    *free_us = time_after(*free_us, (uint64_t)bytes * 1000000u / f->rule.bytes_s);
}

/* When the first message of the queues of one direction may go on. */
static uint64_t next_us(const struct relay *r, const struct relay_link *l, enum fault_direction direction)
{
    struct fault_effect e;
    uint64_t at_us = TIME_NEVER, now_us = relay_now_us(r);
    effect_of(r, l->peer.id, direction, &e);
    bool waits = e.by[FAULT_DELAY] != NULL || e.by[FAULT_LIMIT] != NULL;
    if (direction == FAULT_OUT && !waits) return TIME_NEVER; /* for credit or its link */
    for (int lane = 0; lane < 2 && fault_effect_block(&e) == NULL; lane++) {
        const struct relay_lane *side = &l->lane[lane];
        const struct relay_message *m = relay_queue_first(direction == FAULT_IN ? &side->in : &side->queue);
        if (m == NULL) continue;
        if (direction == FAULT_OUT && !relay_window_takes(side->flying, side->flying_bytes, m->cost))
            continue;
        uint64_t due_us = e.by[FAULT_DELAY] != NULL ? m->due_us : 0;
        uint64_t free_us = e.by[FAULT_LIMIT] != NULL ? l->shape[direction == FAULT_IN].free_us : 0;
        if (free_us > due_us) due_us = free_us;
        if (direction == FAULT_OUT && due_us <= now_us)
            continue; /* it waits for its link, or to be confirmed */
        if (due_us < at_us) at_us = due_us;
    }
    return at_us;
}

uint64_t relay_fault_deadline_us(const struct relay *r, const struct relay_link *l)
{
    uint64_t in_us = next_us(r, l, FAULT_IN), out_us = next_us(r, l, FAULT_OUT);
    uint64_t at_us = in_us < out_us ? in_us : out_us;
    uint64_t given_up_us = l->blocked_us > 0 ? time_after(l->blocked_us, r->config.answer_us) : TIME_NEVER;
    return given_up_us < at_us ? given_up_us : at_us;
}

/* -- links ------------------------------------------------------------------------------------- */

static size_t held_bytes(const struct relay_link *l)
{
    size_t bytes = 0;
    for (int lane = 0; lane < 2; lane++) bytes += l->lane[lane].queue.bytes + l->lane[lane].in.bytes;
    return bytes;
}

static void link_look(struct relay *r, struct relay_link *l)
{
    struct fault_effect out;
    effect_of(r, l->peer.id, FAULT_OUT, &out);
    struct fault_status *block = block_of(r, l->peer.id), *reset = reset_of(r, l->peer.id);
    uint64_t now_us = relay_now_us(r);
    if (block == NULL)
        l->blocked_us = 0;
    else if (l->blocked_us == 0)
        l->blocked_us = now_us > 0 ? now_us : 1;
    if (reset != NULL) reset->counts.links_reset++;
    if (reset != NULL || (l->torn && out.by[FAULT_HALF_OPEN] == NULL))
        relay_link_end(r, l, DOWN_RESET, DOWN_RESET);
}

void relay_fault_drops(struct relay *r, const struct relay_link *l)
{
    struct fault_status *block = r->faults.live > 0 ? block_of(r, l->peer.id) : NULL;
    if (block != NULL) block->counts.bytes_held += held_bytes(l);
}

static void look_all(struct relay *r)
{
    for (uint32_t i = 0; i < RELAY_LINK_MAX; i++)
        if (r->link[i].used && r->link[i].up) link_look(r, &r->link[i]);
    r->faults_changed = true;
}

/* -- rules ------------------------------------------------------------------------------------- */

/* What a rule that ends has held until now is counted while it still is in force. */
static void count_held(struct relay *r, uint64_t now_us, int id)
{
    for (uint32_t i = 0; i < RELAY_LINK_MAX; i++) {
        const struct relay_link *l = &r->link[i];
        struct fault_status *f = l->used && l->up ? block_of(r, l->peer.id) : NULL;
        if (f != NULL && (f->until_us <= now_us || id == 0 || f->id == id))
            f->counts.bytes_held += held_bytes(l);
    }
}

static void say_ended(const struct relay *r, const struct fault_status *f)
{
    static const struct fault_counts none;
    char did[FAULT_TEXT_MAX];
    if (memcmp(&f->counts, &none, sizeof none) == 0) return;
    fault_counts_print(&f->counts, did);
    trace_line(r->config.trace, TRACE_INFO, "fault %d ends on links through other members: %s", f->id, did);
}

void relay_faults_tick(struct relay *r, uint64_t now_us)
{
    if (r->faults.live > 0 && fault_set_next_us(&r->faults) <= now_us) {
        count_held(r, now_us, -1);
        for (const struct fault_status *f; (f = fault_set_expire(&r->faults, now_us)) != NULL;)
            say_ended(r, f);
        look_all(r);
    }
    r->faults_changed = false;
}

uint64_t relay_faults_deadline_us(const struct relay *r)
{
    if (r->faults_changed) return 0;
    return r->faults.live > 0 ? fault_set_next_us(&r->faults) : TIME_NEVER;
}

int relay_inject(struct transport *t, const struct fault_rule *rule)
{
    struct relay *r = relay_of(t);
    int id = r->inner->ops->inject(r->inner, rule);
    if (id < 0 || rule->any) return id;
    relay_faults_tick(r, relay_now_us(r));
    r->faults.last_id = id - 1; /* ours has the same */
    int own = fault_set_add(&r->faults, rule, relay_now_us(r));
    if (own < 0) {
        r->inner->ops->heal(r->inner, id);
        return own;
    }
    CHECK(own == id);
    look_all(r);
    relay_settle(r);
    return id;
}

int relay_heal(struct transport *t, int id)
{
    struct relay *r = relay_of(t);
    int healed = r->inner->ops->heal(r->inner, id);
    if (r->faults.live == 0) return healed;
    count_held(r, 0, id);
    for (const struct fault_status *f; (f = fault_set_heal(&r->faults, id)) != NULL;) say_ended(r, f);
    look_all(r);
    relay_settle(r);
    return healed;
}

static const struct fault_status *own_rule(const struct relay *r, int id)
{
    for (uint32_t i = 0; i < r->faults.count; i++)
        if (r->faults.each[i]->id == id) return r->faults.each[i];
    return NULL;
}

uint32_t relay_faults(const struct transport *t, struct fault_status *out, uint32_t max)
{
    const struct relay *r = relay_of(t);
    uint32_t count = r->inner->ops->faults(r->inner, out, max);
    for (uint32_t k = 0; k < count; k++) {
        const struct fault_status *own = own_rule(r, out[k].id);
        if (own == NULL) continue;
        fault_counts_add(&out[k].counts, &own->counts);
        out[k].ended |= own->ended; /* the two look at the clock at different times */
        for (uint32_t i = 0; i < RELAY_LINK_MAX && !own->ended; i++) {
            const struct relay_link *l = &r->link[i];
            if (l->used && l->up && block_of(r, l->peer.id) == own) out[k].counts.bytes_held += held_bytes(l);
        }
    }
    return count;
}
