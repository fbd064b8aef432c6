/* Planted bugs of nodes: member_mutants.h. */
#include "tests/sim/member_mutants.h"

#include <string.h>

#include "agent/node/internal.h"
#include "algo/allreduce/internal.h"
#include "algo/def/internal.h"

static bool touched(const struct member_storm *s, uint32_t v)
{
    return (s->touched >> v & 1) != 0 && member_storm_lives(s, v);
}

/* In its own table the node has claimed its place before everybody else. */
void member_keep_a_place_of_another(struct member_storm *s)
{
    for (uint32_t v = 0; v < s->slots; v++) {
        if (!touched(s, v)) continue;
        struct node *n = simulation_node(s->sim, v);
        if (n->rank == RANK_NONE) continue;
        for (uint32_t i = 0; i < n->places.claim_count; i++)
            if (n->places.claim[i].id == n->config.id) n->places.claim[i].claimed = 0;
        n->places.place[n->rank] = (struct place){PLACE_HELD, n->config.id};
    }
}

/* Who is dead or has left holds its place on. */
void member_keep_the_places_of_the_dead(struct member_storm *s)
{
    for (uint32_t v = 0; v < s->slots; v++) {
        if (!touched(s, v)) continue;
        struct places *p = &simulation_node(s->sim, v)->places;
        for (rank_t r = 0; r < p->count; r++)
            if (p->place[r].state == PLACE_DESERTED) p->place[r].state = PLACE_HELD;
    }
}

/* Who comes late begins with what it has. */
void member_skip_the_fetch(struct member_storm *s)
{
    for (uint32_t v = 0; v < s->slots; v++) {
        if (!touched(s, v)) continue;
        struct node *n = simulation_node(s->sim, v);
        if (n->phase == NODE_JOINING && node_trainers(n) > 0) n->has_model = true;
    }
}

/* The model is fetched, and not taken over. */
void member_drop_what_was_fetched(struct member_storm *s)
{
    for (uint32_t v = 0; v < s->slots; v++) {
        if (!touched(s, v)) continue;
        struct node *n = simulation_node(s->sim, v);
        bool fetched = s->seen[v].fetching && n->fetch == NULL && n->has_model;
        if (fetched) memset((float *)(uintptr_t)node_model(n), 0, MEMBER_DIM * sizeof(float));
    }
}

/* Who loses its place counts from the start again. */
void member_forget_steps_when_evicted(struct member_storm *s)
{
    for (uint32_t v = 0; v < s->slots; v++) {
        if (!touched(s, v)) continue;
        struct node *n = simulation_node(s->sim, v);
        if (s->seen[v].trained && n->algo == NULL) n->steps = 0;
    }
}

/* The graph does not heal around vacant places. */
void member_leave_bridges_out(struct member_storm *s)
{
    for (uint32_t v = 0; v < s->slots; v++)
        if (touched(s, v)) simulation_node(s->sim, v)->bridges_due_us = TIME_NEVER;
}

/* -- keepers ----------------------------------------------------------------------------------- */

/* A keeper takes a place as anybody does. */
void member_claim_a_place_as_keeper(struct member_storm *s)
{
    for (uint32_t v = 0; v < s->slots; v++) {
        if (!touched(s, v) || !member_storm_keeps(s, v)) continue;
        struct node *n = simulation_node(s->sim, v);
        if (n->rank != RANK_NONE) continue;
        n->rank = places_choose(&n->places, n->config.id, RANK_NONE);
        n->claimed = node_now_boot(n);
    }
}

/* A keeper counts as one who may take a place. */
void member_count_keepers(struct member_storm *s)
{
    for (uint32_t v = 0; v < s->slots; v++) {
        if (!touched(s, v)) continue;
        struct node *n = simulation_node(s->sim, v);
        for (uint32_t i = 0; i < n->places.claim_count; i++) {
            struct place_claim *c = &n->places.claim[i];
            const struct member *m = membership_find(n->membership, c->id);
            if (c->living || m == NULL || !node_member_keeps(n, m)) continue;
            c->living = true;
            n->places.living++;
        }
    }
}

/* What a keeper has fetched once is never fetched again. */
void member_keep_the_first_model(struct member_storm *s)
{
    for (uint32_t v = 0; v < s->slots; v++) {
        if (!touched(s, v) || !member_storm_keeps(s, v)) continue;
        struct node *n = simulation_node(s->sim, v);
        if (n->steps > 0) n->keep_at_us = TIME_NEVER;
    }
}

/* Founders do not ask the keeper. */
void member_found_without_the_keeper(struct member_storm *s)
{
    for (uint32_t v = 0; v < s->slots; v++)
        if (touched(s, v)) simulation_node(s->sim, v)->keepers_until_us = 0;
}

/* The sums remember of no member who held its place before. */
void member_take_two_holders_for_one(struct member_storm *s)
{
    for (uint32_t v = 0; v < s->slots; v++) {
        if (!touched(s, v)) continue;
        const struct def *d = (const struct def *)simulation_node(s->sim, v)->algo;
        for (uint32_t i = 0; d != NULL && i < d->ring->count; i++) d->ring->member[i].boot = 0;
    }
}
