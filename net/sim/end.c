/* The ends of a simulated link: up, starving, silent, down. The head comment of sim/link.c says when. */
#include <stdio.h>

#include "base/check.h"
#include "net/sim/internal.h"

#define SILENCE_SLACK_PART 16u /* the two sides' timers differ by up to this part of the limit */

bool sim_up_event(struct sim_world *w, struct sim_pair *p, uint32_t side, uint32_t generation)
{
    struct sim_end *e = &p->end[side];
    if (generation != p->generation || e->state != END_COMING) return false;
    CHECK(p->live);
    struct sim_transport *t = w->node[p->node[side]].transport;
    const struct sim_transport *other = w->node[p->node[1 - side]].transport;
    CHECK(t != NULL && other != NULL);
    e->state = END_UP;
    e->word_us = w->now_us;
    t->totals.links++;
    sim_end_starve(w, p, side);
    struct peer_info peer = {.id = other->config.id, .boot = other->config.boot, .dialled = e->dialled};
    if (!w->node[p->node[1 - side]].dial_only)
        snprintf(peer.address, sizeof peer.address, "sim:%u", p->node[1 - side]);
    sim_tell(w, SIM_UP, p->node[side], p->node[1 - side], e->dialled, NULL, NULL);
    t->sink.on_up(t->sink.ctx, sim_link_id(p), &peer);
    return true;
}

void sim_end_starve(struct sim_world *w, struct sim_pair *p, uint32_t side)
{
    struct sim_end *e = &p->end[side];
    const struct sim_node *other = &w->node[p->node[1 - side]];
    bool starved = e->state == END_UP && (!p->live || e->cut || other->paused);
    if (starved && !e->starved) {
        uint64_t limit_us = w->options.link_silence_us;
        e->starved_us = w->now_us;
        e->silence_slack_us = (uint64_t)(prng_unit(&e->quiet) * (double)(limit_us / SILENCE_SLACK_PART));
        if (!e->silence_coming)
            sim_schedule(w, w->now_us + limit_us + e->silence_slack_us, SIM_SILENCE, p->index, side,
                         p->generation);
        e->silence_coming = true;
    }
    e->starved = starved;
}

bool sim_silence_event(struct sim_world *w, struct sim_pair *p, uint32_t side, uint32_t generation)
{
    struct sim_end *e = &p->end[side];
    if (generation != p->generation || e->state != END_UP) return false;
    e->silence_coming = false;
    if (!e->starved) return false;
    uint64_t since_us = e->word_us > e->starved_us ? e->word_us : e->starved_us;
    uint64_t due_us = since_us + w->options.link_silence_us + e->silence_slack_us;
    if (due_us > w->now_us) {
        e->silence_coming = true;
        sim_schedule(w, due_us, SIM_SILENCE, p->index, side, generation);
        return false;
    }
    sim_end_down(w, p, side, DOWN_SILENT);
    return true;
}

void sim_link_break(struct sim_world *w, struct sim_pair *p)
{
    if (!p->live) return;
    p->live = false;
    for (uint32_t side = 0; side < 2; side++) {
        struct sim_end *e = &p->end[side];
        sim_end_clear(w, e);
        if (e->state == END_COMING) { /* it never knew */
            e->state = END_DOWN;
            sim_end_redial(w, p, side);
        }
    }
    sim_end_starve(w, p, 0);
    sim_end_starve(w, p, 1);
}

void sim_end_notify(struct sim_world *w, struct sim_pair *p, uint32_t side, enum down_reason why)
{
    struct sim_end *e = &p->end[side], *from = &p->end[1 - side];
    if (e->state != END_UP || p->live || e->cut || e->down_coming) return;
    if (!w->node[p->node[1 - side]].alive) return;
    e->down_coming = true;
    e->down_why = why;
    uint64_t delay_us = sim_latency_draw_us(&w->latency, &from->trouble, p->mean_s, false);
    sim_schedule(w, w->now_us + delay_us, SIM_DOWN, p->index, side, p->generation);
}

void sim_end_force_down(struct sim_world *w, struct sim_pair *p, uint32_t side, enum down_reason why)
{
    struct sim_end *e = &p->end[side];
    CHECK(e->state == END_UP || e->state == END_CLOSING);
    CHECK(!p->live);
    e->down_coming = true;
    e->down_forced = true;
    e->down_why = why;
    sim_schedule(w, w->now_us, SIM_DOWN, p->index, side, p->generation);
}

bool sim_down_event(struct sim_world *w, struct sim_pair *p, uint32_t side, uint32_t generation)
{
    struct sim_end *e = &p->end[side];
    if (generation != p->generation || !e->down_coming) return false;
    if (e->state != END_UP && e->state != END_CLOSING) return false;
    if (e->cut && !e->down_forced) { /* the word of it is lost: silence, or a heal, will tell */
        e->down_coming = false;
        return false;
    }
    sim_end_down(w, p, side, e->down_why);
    return true;
}

void sim_end_down(struct sim_world *w, struct sim_pair *p, uint32_t side, enum down_reason why)
{
    struct sim_end *e = &p->end[side];
    struct sim_transport *t = w->node[p->node[side]].transport;
    CHECK(e->state == END_UP || e->state == END_CLOSING);
    CHECK(t != NULL && t->totals.links > 0);
    e->state = END_DOWN;
    e->starved = false;
    sim_link_break(w, p);
    sim_end_clear(w, e);
    sim_end_notify(w, p, 1 - side, DOWN_RESET);
    t->totals.links--;
    t->totals.links_lost += why != DOWN_LOCAL;
    sim_end_redial(w, p, side);
    sim_tell(w, SIM_DOWN, p->node[side], p->node[1 - side], why, NULL, NULL);
    t->sink.on_down(t->sink.ctx, sim_link_id(p), why);
}
