/* Faults of the simulated world. Each one changes flags and lets the ends of the links look again:
 *  - cut: a direction delivers nothing. Its lanes are held; the side it starves goes down by silence.
 *    Healed before that, everything comes late and in order; after that, what is half-open is reset.
 *  - pause: what comes up for the node is put aside, its peers starve. When it goes on, links that died
 *    meanwhile go down first, then all that was put aside comes in its order.
 *  - crash: the node's transport, host, job, deadline and messages are gone; its peers' ends are half-open
 *    until silence, a reset, or a new link to the same node.
 *  - reset: both ends go down now; what is under way is lost.
 */
#include <stdlib.h>

#include "base/check.h"
#include "net/sim/internal.h"

static struct sim_node *node_at(struct sim_world *w, uint32_t v)
{
    CHECK(v < w->options.node_count);
    return &w->node[v];
}

/* -- nodes ------------------------------------------------------------------------------------- */

static void end_vanish(struct sim_world *w, struct sim_pair *p, uint32_t side, bool reset)
{
    struct sim_end *e = &p->end[side];
    bool was_linked = p->live;
    e->wanted = false;
    e->connecting = false;
    e->dial_generation++;
    e->state = END_DOWN;
    e->starved = false;
    sim_link_break(w, p);
    sim_end_clear(w, e);
    if (was_linked && reset && p->end[1 - side].state == END_UP)
        sim_end_force_down(w, p, 1 - side, DOWN_RESET);
}

void sim_crash(struct sim_world *w, uint32_t v, bool reset)
{
    struct sim_node *node = node_at(w, v);
    CHECK(!w->delivering);
    CHECK(node->alive);
    trace_line(w->options.trace, TRACE_DEBUG, "sim: node %u crashes%s", v, reset ? ", links reset" : "");
    node->alive = false;
    node->reset = reset;
    node->paused = false;
    node->life++;
    node->deadline_generation++;
    node->held_count = 0;
    for (uint32_t i = 0; i < node->pair_count; i++) {
        struct sim_pair *p = w->pair[node->pair[i]];
        end_vanish(w, p, sim_side_of(p, v), reset);
    }
    sim_inject_end(w, v);
    sim_transport_free(node->transport);
    free(node->host);
    node->transport = NULL;
    node->host = NULL;
}

void sim_restart(struct sim_world *w, uint32_t v)
{
    struct sim_node *node = node_at(w, v);
    CHECK(!node->alive);
    trace_line(w->options.trace, TRACE_DEBUG, "sim: node %u restarts", v);
    node->alive = true;
}

/* The peers of v look again whether they hear of it. */
static void peers_starve(struct sim_world *w, uint32_t v)
{
    const struct sim_node *node = &w->node[v];
    for (uint32_t i = 0; i < node->pair_count; i++) {
        struct sim_pair *p = w->pair[node->pair[i]];
        sim_end_starve(w, p, 1 - sim_side_of(p, v));
    }
}

void sim_pause(struct sim_world *w, uint32_t v)
{
    struct sim_node *node = node_at(w, v);
    if (node->paused || !node->alive) return;
    trace_line(w->options.trace, TRACE_DEBUG, "sim: node %u pauses", v);
    node->paused = true;
    peers_starve(w, v);
}

void sim_resume(struct sim_world *w, uint32_t v)
{
    struct sim_node *node = node_at(w, v);
    if (!node->paused) return;
    trace_line(w->options.trace, TRACE_DEBUG, "sim: node %u goes on", v);
    node->paused = false;
    peers_starve(w, v);
    for (uint32_t i = 0; i < node->pair_count; i++) {
        struct sim_pair *p = w->pair[node->pair[i]];
        uint32_t side = sim_side_of(p, v);
        struct sim_end *e = &p->end[side];
        if (e->state != END_UP || p->live || e->cut || !w->node[p->node[1 - side]].alive) continue;
        sim_end_force_down(w, p, side, e->down_coming ? e->down_why : DOWN_RESET);
    }
    for (uint32_t i = 0; i < node->held_count; i++) {
        struct sim_event event = node->held[i];
        event.time_us = w->now_us;
        event.order = w->next_sequence++ << 8 | (event.order & 255);
        sim_push(w, event);
    }
    node->held_count = 0;
}

/* -- links ------------------------------------------------------------------------------------- */

void sim_direction_cut(struct sim_world *w, struct sim_pair *p, uint32_t to, bool cut)
{
    p->end[to].cut = cut;
    if (cut) sim_end_starve(w, p, to);
}

static void direction_cut(struct sim_world *w, struct sim_pair *p, uint32_t to)
{
    p->end[to].cut_asked = true;
    sim_direction_cut(w, p, to, true);
}

void sim_cut(struct sim_world *w, uint32_t a, uint32_t b)
{
    trace_line(w->options.trace, TRACE_DEBUG, "sim: link %u-%u is cut", a, b);
    struct sim_pair *p = sim_pair_get(w, a, b);
    direction_cut(w, p, 0);
    direction_cut(w, p, 1);
}

void sim_cut_one_way(struct sim_world *w, uint32_t from, uint32_t to)
{
    trace_line(w->options.trace, TRACE_DEBUG, "sim: link %u->%u is cut", from, to);
    struct sim_pair *p = sim_pair_get(w, from, to);
    direction_cut(w, p, sim_side_of(p, to));
}

void sim_pair_resume(struct sim_world *w, struct sim_pair *p)
{
    for (uint32_t side = 0; side < 2; side++) {
        sim_end_starve(w, p, side);
        sim_end_notify(w, p, side, DOWN_RESET);
    }
    sim_link_release(w, p);
}

/* An injected fault may go on cutting what is healed here. */
static void pair_heal(struct sim_world *w, struct sim_pair *p)
{
    if (!p->end[0].cut_asked && !p->end[1].cut_asked) return;
    trace_line(w->options.trace, TRACE_DEBUG, "sim: link %u-%u is healed", p->node[0], p->node[1]);
    for (uint32_t side = 0; side < 2; side++) {
        const struct sim_shape *shape = p->end[1 - side].shape;
        p->end[side].cut_asked = false;
        p->end[side].cut = shape != NULL && shape->blocked;
    }
    sim_pair_resume(w, p);
}

void sim_heal(struct sim_world *w, uint32_t a, uint32_t b)
{
    pair_heal(w, sim_pair_get(w, a, b));
}

void sim_heal_all(struct sim_world *w)
{
    for (uint32_t i = 0; i < w->pair_count; i++) pair_heal(w, w->pair[i]);
    for (uint32_t v = 0; v < w->options.node_count; v++) sim_resume(w, v);
}

void sim_reset_link(struct sim_world *w, uint32_t a, uint32_t b)
{
    struct sim_pair *p = sim_pair_get(w, a, b);
    trace_line(w->options.trace, TRACE_DEBUG, "sim: link %u-%u is reset", a, b);
    sim_pair_reset(w, p, DOWN_RESET);
}

void sim_pair_reset(struct sim_world *w, struct sim_pair *p, enum down_reason why)
{
    sim_link_break(w, p);
    for (uint32_t side = 0; side < 2; side++)
        if (p->end[side].state == END_UP) sim_end_force_down(w, p, side, why);
}
