/* The simulated transport (transport.h): addresses "sim:<v>", dialling, and the operations of a node.
 *
 * Normal course
 *  - dial() makes a try at once; it arrives after a control delay and, if the other node can be reached,
 *    both ends come up, the dialled one first.
 *  - as long as the address is wanted, an end that goes down tries again, at redial_us on average.
 * Failure courses
 *  - the other is crashed, paused, closed, not attached or cut off, or can only dial: on_unreachable(), the next try
 *    follows.
 *  - both dial: the try of the larger id yields while one of the smaller id is under way.
 *  - the other end still holds an older link (half-open): it goes down as replaced, then both come up.
 *  - other cluster or oneself: on_refused(), and the tries end.
 *  - an injected reset: the try is taken as a link that was reset at once.
 *  - close(): every end goes down as DOWN_LOCAL, the peers hear goodbye, on_closed() is the last event.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "net/sim/internal.h"

static struct sim_transport *transport_of(struct transport *t)
{
    return (struct sim_transport *)t;
}

/* Returns the node of "sim:<v>" written without sign, spaces or leading zeros, or SIM_NONE. */
static uint32_t address_node(const struct sim_world *w, const char *address)
{
    if (strncmp(address, "sim:", 4) != 0) return SIM_NONE;
    const char *digits = address + 4;
    size_t length = strlen(digits);
    if (length == 0 || length > 9 || (digits[0] == '0' && length > 1)) return SIM_NONE;
    if (strspn(digits, "0123456789") != length) return SIM_NONE;
    unsigned long v = strtoul(digits, NULL, 10);
    return v < w->options.node_count ? (uint32_t)v : SIM_NONE;
}

/* -- dialling ---------------------------------------------------------------------------------- */

/* Forgets the tries under way from this end. */
static void dial_cancel(struct sim_end *e)
{
    e->dial_generation++;
    e->connecting = false;
}

void sim_end_redial(struct sim_world *w, struct sim_pair *p, uint32_t side)
{
    struct sim_end *e = &p->end[side];
    if (!e->wanted) return;
    dial_cancel(e);
    uint64_t delay_us = (uint64_t)((double)w->options.redial_us * prng_uniform(&e->trouble, 0.5, 1.5));
    sim_schedule(w, w->now_us + delay_us, SIM_DIAL, p->index, side, e->dial_generation);
}

static bool peer_reachable(const struct sim_world *w, const struct sim_pair *p, uint32_t side)
{
    const struct sim_node *other = &w->node[p->node[1 - side]];
    if (!other->alive || other->paused || other->transport == NULL || other->transport->closing) return false;
    if (other->dial_only) return false;
    return !p->end[0].cut && !p->end[1].cut;
}

static void count_refused(const struct sim_pair *p)
{
    for (uint32_t side = 0; side < 2; side++) {
        const struct sim_shape *shape = p->end[side].shape;
        if (shape == NULL || !shape->blocked) continue;
        struct fault_status *mine = fault_effect_block(&shape->of_sender);
        (mine != NULL ? mine : fault_effect_block(&shape->of_receiver))->counts.links_refused++;
        return;
    }
}

/* Inside dial() nobody is called back. */
static void dial_later(struct sim_world *w, struct sim_pair *p, uint32_t side)
{
    count_refused(p);
    sim_end_redial(w, p, side);
}

static void dial_try(struct sim_world *w, struct sim_pair *p, uint32_t side)
{
    struct sim_end *e = &p->end[side];
    dial_cancel(e);
    e->connecting = true;
    uint64_t delay_us = sim_latency_draw_us(&w->latency, &e->trouble, p->mean_s, false);
    sim_schedule(w, w->now_us + delay_us, SIM_CONNECT, p->index, side, e->dial_generation);
}

/* The next try follows. A pause, a cut, a crash, a NAT: silence; a process that is gone: refused. */
static void dial_failed(struct sim_world *w, struct sim_pair *p, uint32_t side)
{
    const struct sim_node *other = &w->node[p->node[1 - side]];
    const struct sim_transport *t = w->node[p->node[side]].transport;
    bool cut = p->end[0].cut || p->end[1].cut;
    bool refused = !cut && !other->paused && !other->dial_only && (other->alive || other->reset);
    int err = refused ? ERR_CLOSED : ERR_TIMEOUT;
    dial_later(w, p, side);
    if (t->sink.on_unreachable == NULL) return;
    char address[ADDRESS_TEXT_MAX];
    snprintf(address, sizeof address, "sim:%u", p->node[1 - side]);
    sim_tell(w, SIM_UNREACHABLE, p->node[side], p->node[1 - side], (uint32_t)-err, NULL, NULL);
    t->sink.on_unreachable(t->sink.ctx, address, err);
}

bool sim_dial_event(struct sim_world *w, struct sim_pair *p, uint32_t side, uint32_t generation)
{
    struct sim_end *e = &p->end[side];
    if (generation != e->dial_generation || !e->wanted || e->state != END_DOWN) return false;
    if (peer_reachable(w, p, side))
        dial_try(w, p, side);
    else
        dial_failed(w, p, side);
    return true;
}

static void end_begin(struct sim_world *w, struct sim_end *e, bool dialled)
{
    sim_end_clear(w, e);
    dial_cancel(e);
    e->state = END_COMING;
    e->dialled = dialled;
    e->full = e->writable_coming = false;
    e->starved = e->silence_coming = false;
    e->down_coming = e->down_forced = false;
    e->control_delay_us = 0;
    e->stats = (struct link_stats){0};
    for (int lane = 0; lane < 2; lane++) e->lane[lane].free_us = w->now_us;
}

static void link_begin(struct sim_world *w, struct sim_pair *p, uint32_t dialler)
{
    CHECK(!p->live);
    p->generation++;
    p->live = true;
    p->up_us = w->now_us;
    end_begin(w, &p->end[dialler], true);
    end_begin(w, &p->end[1 - dialler], false);
    sim_schedule(w, w->now_us, SIM_UP, p->index, 1 - dialler, p->generation);
    sim_schedule(w, w->now_us, SIM_UP, p->index, dialler, p->generation);
}

static void dial_refuse(struct sim_world *w, struct sim_pair *p, uint32_t side, int err, const char *reason)
{
    struct sim_end *e = &p->end[side];
    struct sim_transport *t = w->node[p->node[side]].transport;
    e->wanted = false;
    char address[ADDRESS_TEXT_MAX];
    snprintf(address, sizeof address, "sim:%u", p->node[1 - side]);
    sim_tell(w, SIM_REFUSED, p->node[side], p->node[1 - side], (uint32_t)-err, NULL, NULL);
    t->sink.on_refused(t->sink.ctx, address, err, reason);
}

/* The old end makes room first; the try comes up again right behind it. */
static void link_replace(struct sim_world *w, struct sim_pair *p, uint32_t dialler)
{
    struct sim_end *e = &p->end[dialler];
    e->connecting = true;
    if (p->end[1 - dialler].state == END_UP) {
        sim_schedule(w, w->now_us, SIM_CONNECT, p->index, dialler, e->dial_generation);
        sim_end_down(w, p, 1 - dialler, DOWN_REPLACED);
        return;
    }
    CHECK(p->end[1 - dialler].state == END_CLOSING); /* its on_down is ahead of us in the heap */
    sim_schedule(w, w->now_us, SIM_CONNECT, p->index, dialler, e->dial_generation);
}

bool sim_connect_event(struct sim_world *w, struct sim_pair *p, uint32_t side, uint32_t generation)
{
    struct sim_end *e = &p->end[side], *other = &p->end[1 - side];
    if (generation != e->dial_generation || !e->wanted || e->state != END_DOWN) return false;
    e->connecting = false;
    if (!peer_reachable(w, p, side) || sim_inject_refuses(p)) {
        dial_failed(w, p, side);
        return true;
    }
    const struct transport_config *mine = &w->node[p->node[side]].transport->config;
    const struct transport_config *theirs = &w->node[p->node[1 - side]].transport->config;
    if (mine->id == theirs->id) {
        dial_refuse(w, p, side, ERR_SELF, "the address is this node itself");
    } else if (mine->cluster_name != theirs->cluster_name ||
               memcmp(mine->cluster, theirs->cluster, sizeof mine->cluster) != 0) {
        dial_refuse(w, p, side, ERR_CLUSTER, "the peer belongs to another cluster");
    } else if (other->state != END_DOWN) {
        link_replace(w, p, side);
    } else if (other->connecting && theirs->id < mine->id) {
        sim_end_redial(w, p, side); /* the other try makes the link, or this one comes again */
    } else {
        link_begin(w, p, side);
    }
    return true;
}

static int net_dial(struct transport *t, const char *address)
{
    struct sim_transport *s = transport_of(t);
    struct sim_world *w = s->world;
    uint32_t v = address_node(w, address);
    if (v == SIM_NONE) return ERR_USAGE;
    if (s->closing) return ERR_CLOSED;
    if (v == s->node) {
        sim_schedule(w, w->now_us, SIM_SELF, s->node, 0, w->node[s->node].life);
        return 0;
    }
    struct sim_pair *p = sim_pair_get(w, s->node, v);
    uint32_t side = sim_side_of(p, s->node);
    struct sim_end *e = &p->end[side];
    if (e->wanted) return 0;
    e->wanted = true;
    if (e->state != END_DOWN) return 0;
    if (peer_reachable(w, p, side))
        dial_try(w, p, side);
    else
        dial_later(w, p, side);
    return 0;
}

static void net_undial(struct transport *t, const char *address)
{
    struct sim_transport *s = transport_of(t);
    uint32_t v = address_node(s->world, address);
    if (v == SIM_NONE || v == s->node) return;
    struct sim_pair *p = sim_pair_get(s->world, s->node, v);
    struct sim_end *e = &p->end[sim_side_of(p, s->node)];
    e->wanted = false;
    dial_cancel(e);
}

bool sim_self_event(struct sim_world *w, uint32_t v, uint32_t life)
{
    struct sim_transport *t = w->node[v].transport;
    if (life != w->node[v].life || t == NULL || t->closing) return false;
    char address[ADDRESS_TEXT_MAX];
    snprintf(address, sizeof address, "sim:%u", v);
    sim_tell(w, SIM_REFUSED, v, v, (uint32_t)-ERR_SELF, NULL, NULL);
    t->sink.on_refused(t->sink.ctx, address, ERR_SELF, "the address is this node itself");
    return true;
}

/* -- operations on links ----------------------------------------------------------------------- */

/* Returns the pair of a link id that is up for this node, and the node's side; NULL for a stale id. */
static struct sim_pair *link_find(const struct sim_transport *s, struct link_id link, uint32_t *side)
{
    const struct sim_world *w = s->world;
    if (link.slot >= w->pair_count) return NULL;
    struct sim_pair *p = w->pair[link.slot];
    if (p->generation != link.generation) return NULL;
    if (p->node[0] != s->node && p->node[1] != s->node) return NULL;
    *side = sim_side_of(p, s->node);
    return p->end[*side].state == END_UP ? p : NULL;
}

static int net_send(struct transport *t, struct link_id to, enum lane lane, struct blob *head,
                    struct blob *body)
{
    struct sim_transport *s = transport_of(t);
    CHECK(head->size >= 1 && head->size <= MESSAGE_HEAD_MAX);
    CHECK_IMPLIES(body != NULL, body->size <= s->config.body_size_max);
    uint32_t side;
    struct sim_pair *p = link_find(s, to, &side);
    if (p == NULL) return ERR_NO_LINK;
    return sim_link_send(s->world, p, side, lane, head, body);
}

static void end_leave(struct sim_world *w, struct sim_pair *p, uint32_t side, enum down_reason why)
{
    p->end[side].state = END_CLOSING;
    sim_link_break(w, p);
    sim_end_clear(w, &p->end[side]);
    sim_end_force_down(w, p, side, why);
    sim_end_notify(w, p, 1 - side, DOWN_CLOSED);
}

static void net_disconnect(struct transport *t, struct link_id link, enum down_reason why)
{
    struct sim_transport *s = transport_of(t);
    uint32_t side;
    struct sim_pair *p = link_find(s, link, &side);
    if (p != NULL) end_leave(s->world, p, side, why);
}

/* Heartbeats are no events: on a link that gets through, the last one came at a multiple of the interval. */
static uint64_t last_word_us(const struct sim_world *w, const struct sim_transport *s,
                             const struct sim_pair *p, const struct sim_end *e)
{
    uint64_t heard_us = e->starved ? e->starved_us : w->now_us;
    uint64_t interval_us = s->config.heartbeat_us;
    if (interval_us > 0) heard_us -= (heard_us - p->up_us) % interval_us;
    return heard_us > e->word_us ? heard_us : e->word_us;
}

static int net_stats(const struct transport *t, struct link_id link, struct link_stats *out)
{
    const struct sim_transport *s = (const struct sim_transport *)t;
    uint32_t side;
    const struct sim_pair *p = link_find(s, link, &side);
    if (p == NULL) return ERR_NO_LINK;
    const struct sim_end *e = &p->end[side];
    *out = e->stats;
    out->round_trip_us = e->control_delay_us + p->end[1 - side].control_delay_us;
    out->last_word_us = last_word_us(s->world, s, p, e);
    out->queue_bytes = (size_t)e->queue_bytes;
    return 0;
}

static void net_totals(const struct transport *t, struct transport_totals *out)
{
    *out = ((const struct sim_transport *)t)->totals;
}

static void net_close(struct transport *t)
{
    struct sim_transport *s = transport_of(t);
    struct sim_world *w = s->world;
    const struct sim_node *node = &w->node[s->node];
    if (s->closing) return;
    s->closing = true;
    for (uint32_t i = 0; i < node->pair_count; i++) {
        struct sim_pair *p = w->pair[node->pair[i]];
        uint32_t side = sim_side_of(p, s->node);
        struct sim_end *e = &p->end[side];
        e->wanted = false;
        dial_cancel(e);
        if (e->state == END_UP) {
            end_leave(w, p, side, DOWN_LOCAL);
        } else if (e->state == END_COMING) {
            sim_link_break(w, p);
            sim_end_notify(w, p, 1 - side, DOWN_CLOSED);
        }
    }
    sim_schedule(w, w->now_us, SIM_CLOSED, s->node, 0, node->life);
}

bool sim_closed_event(struct sim_world *w, uint32_t v, uint32_t life)
{
    struct sim_transport *t = w->node[v].transport;
    if (life != w->node[v].life || t == NULL || t->closed) return false;
    CHECK(t->totals.links == 0);
    t->closed = true;
    sim_tell(w, SIM_CLOSED, v, v, 0, NULL, NULL);
    t->sink.on_closed(t->sink.ctx);
    return true;
}

static int net_inject(struct transport *t, const struct fault_rule *rule)
{
    return sim_inject(transport_of(t), rule);
}

static int net_heal(struct transport *t, int id)
{
    return sim_inject_heal(transport_of(t), id);
}

static uint32_t net_faults(const struct transport *t, struct fault_status *out, uint32_t max)
{
    return sim_inject_list((const struct sim_transport *)t, out, max);
}

static const struct transport_ops sim_transport_ops = {
    .send = net_send,
    .dial = net_dial,
    .undial = net_undial,
    .disconnect = net_disconnect,
    .stats = net_stats,
    .totals = net_totals,
    .close = net_close,
    .inject = net_inject,
    .heal = net_heal,
    .faults = net_faults,
};

struct transport *sim_transport(struct sim_world *w, uint32_t v, const struct transport_config *config,
                                const struct transport_sink *sink)
{
    CHECK(v < w->options.node_count);
    struct sim_node *node = &w->node[v];
    CHECK(node->alive);
    CHECK(node->transport == NULL || node->transport->closed);
    struct sim_transport *s = mem_new_zero(1, sizeof *s);
    s->base.ops = &sim_transport_ops;
    s->world = w;
    s->node = v;
    s->config = *config;
    s->sink = *sink;
    sim_inject_end(w, v);
    sim_transport_free(node->transport);
    node->transport = s;
    return &s->base;
}

void sim_dial_only(struct sim_world *w, uint32_t v)
{
    CHECK(v < w->options.node_count);
    w->node[v].dial_only = true;
}

void sim_transport_free(struct sim_transport *t)
{
    if (t == NULL) return;
    fault_set_deinit(&t->faults);
    free(t);
}
