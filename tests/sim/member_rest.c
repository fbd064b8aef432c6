/* What must hold in a storm of members (member_storm.h) at rest after healing:
 *  - every living node that can have a place has one, no two the same; all train, are linked to the holders of
 *    neighbouring places (those of the healed graph, where the method takes any peers), step and mix; over the links
 *    that their algorithms have, all are connected, if the graph is; all have one view, in which exactly the living are ALIVE.
 *  - a keeper's model has the steps that the best one had some seconds ago.
 *  - without drift the models agree, when the holders' graph is connected. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "agent/node/internal.h"
#include "algo/topology/living.h"
#include "base/check.h"
#include "tests/sim/member_storm.h"

static struct node *node_of(const struct member_storm *s, uint32_t v)
{
    return simulation_node(s->sim, v);
}

void member_rest_begin(struct member_storm *s)
{
    for (uint32_t v = 0; v < s->slots; v++) {
        s->at_heal_progress[v] = s->at_heal_mixes[v] = 0;
        if (node_of(s, v) == NULL) continue;
        struct node_report r;
        node_report(node_of(s, v), &r);
        s->at_heal_progress[v] = r.progress;
        s->at_heal_mixes[v] = r.algo.mixes;
    }
}

static uint32_t slot_of(const struct member_storm *s, node_id id)
{
    for (uint32_t v = 0; v < s->slots; v++)
        if (node_of(s, v) != NULL && s->slot[v].id == id) return v;
    return UINT32_MAX;
}

/* What v knows is what is. */
static const char *view_unrest(const struct member_storm *s, uint32_t v)
{
    const struct membership *m = node_membership(node_of(s, v));
    uint32_t alive = 0, living = 0;
    for (uint32_t i = 0; i < membership_count(m); i++) {
        const struct member *other = membership_at(m, i);
        bool there = slot_of(s, other->id) != UINT32_MAX;
        if (there && other->state != MEMBER_ALIVE) return "somebody living is not alive for all";
        if (!there && other->state != MEMBER_DEAD && other->state != MEMBER_LEFT)
            return "somebody who is gone is alive for one";
        alive += there;
    }
    for (uint32_t u = 0; u < s->slots; u++) living += node_of(s, u) != NULL;
    return alive < living ? "somebody living is not known to all" : NULL;
}

static const char *views_unrest(const struct member_storm *s)
{
    uint64_t hash = 0;
    bool any = false;
    for (uint32_t v = 0; v < s->slots; v++) {
        if (node_of(s, v) == NULL) continue;
        const char *unrest = view_unrest(s, v);
        if (unrest != NULL) return unrest;
        uint64_t mine = membership_view_hash(node_membership(node_of(s, v)));
        if (any && mine != hash) return "views differ";
        hash = mine;
        any = true;
    }
    return NULL;
}

/* holder[r]: slot that trains at place r; UINT32_MAX. */
static const char *find_holders(const struct member_storm *s, uint32_t holder[MEMBER_DIM])
{
    uint32_t living = 0, held = 0;
    for (uint32_t r = 0; r < MEMBER_DIM; r++) holder[r] = UINT32_MAX;
    for (uint32_t v = 0; v < s->slots; v++) {
        if (node_of(s, v) == NULL || member_storm_keeps(s, v)) continue;
        living++;
        struct node_report r;
        node_report(node_of(s, v), &r);
        if (r.rank == RANK_NONE) continue;
        if (r.phase != NODE_TRAINING) return "a node with a place does not train";
        if (holder[r.rank] != UINT32_MAX) return "two train at one place";
        holder[r.rank] = v;
        held++;
    }
    uint32_t can = living < s->places ? living : s->places;
    return held == can ? NULL : "somebody who could have a place has none";
}

/* The graph that the nodes should have: of places, and for methods that take any peers healed around vacant ones; an
 * overlay's says only who can be a neighbour. */
static void graph_expected(const struct member_storm *s, const uint32_t *holder, struct graph *out)
{
    uint8_t vacant[MEMBER_DIM] = {0};
    static const uint8_t nobody[MEMBER_DIM];
    for (uint32_t r = 0; r < s->places; r++) vacant[r] = holder[r] == UINT32_MAX;
    if (!s->setup.overlay) {
        living_graph(simulation_graph(s->sim), s->any_peers ? vacant : nobody, out);
        return;
    }
    struct graph complete;
    struct choice choice;
    CHECK(choice_parse(topology_table, topology_table_count, "", "complete", &choice, NULL) == 0);
    CHECK(topology_build(&choice, s->places, 1, &complete, NULL) == 0);
    living_graph(&complete, vacant, out);
    graph_deinit(&complete);
}

static uint32_t held_neighbours(const struct graph *g, const uint32_t *holder, uint32_t place)
{
    uint32_t held = 0;
    for (uint32_t i = g->offset[place]; i < g->offset[place + 1]; i++)
        held += holder[g->neighbour[i]] != UINT32_MAX;
    return held;
}

/* bit r: place r is reached from the first place that is held, over edges from `row` */
static bool rows_connect(const struct member_storm *s, const uint32_t *holder, const uint32_t *row)
{
    uint32_t reached, all = 0, before;
    for (uint32_t r = 0; r < s->places; r++) all |= holder[r] != UINT32_MAX ? 1u << r : 0;
    reached = all & -all;
    do {
        before = reached;
        for (uint32_t r = 0; r < s->places; r++)
            if ((reached >> r & 1) != 0) reached |= row[r] & all;
    } while (reached != before);
    return reached == all;
}

static bool are_connected(const struct member_storm *s, const uint32_t *holder, const struct graph *g)
{
    uint32_t row[MEMBER_DIM] = {0};
    for (uint32_t r = 0; r < s->places; r++)
        for (uint32_t i = g->offset[r]; i < g->offset[r + 1]; i++) row[r] |= 1u << g->neighbour[i];
    return rows_connect(s, holder, row);
}

/* The links that the algorithms have connect all who train, when the graph does. */
static const char *links_unrest(const struct member_storm *s, const uint32_t *holder, const struct graph *g)
{
    uint32_t row[MEMBER_DIM] = {0};
    for (uint32_t r = 0; r < s->places; r++) {
        if (holder[r] == UINT32_MAX) continue;
        for (const struct link *l = node_of(s, holder[r])->oldest; l != NULL; l = l->newer)
            if (l->presented && !l->closing) row[r] |= 1u << l->place;
    }
    CHECK_IMPLIES(s->any_peers, are_connected(s, holder, g));
    if (!are_connected(s, holder, g) || rows_connect(s, holder, row)) return NULL;
    return "links with READY do not connect all";
}

static const char *progress_unrest(const struct member_storm *s, const uint32_t *holder,
                                   const struct graph *g)
{
    uint32_t moved = 0;
    for (uint32_t place = 0; place < s->places; place++) {
        uint32_t v = holder[place];
        if (v == UINT32_MAX) continue;
        struct node_report r;
        node_report(node_of(s, v), &r);
        uint32_t around = held_neighbours(g, holder, place);
        if (s->setup.overlay ? r.neighbours_up == 0 && around > 0 : r.neighbours_up != around)
            return "a neighbour is not linked";
        bool steps = r.progress > s->at_heal_progress[v] + 5;
        bool mixes = r.algo.mixes != s->at_heal_mixes[v] || around == 0;
        moved += steps && mixes;
        if (!s->law->one_trains && !steps) return "a node does not step";
        if (!s->law->one_trains && !mixes) return "a node is not mixed with others";
    }
    return moved == 0 ? "the walking model does not move" : NULL;
}

/* The oldest of the seconds noted is the next one to be overwritten. */
static const char *keeper_unrest(const struct member_storm *s)
{
    if (s->keepers == 0) return NULL;
    uint64_t once = s->best_progress[(s->best_s + 1) % MEMBER_RECENT];
    return node_of(s, s->slots - 1)->steps < once ? "a keeper's model is old" : NULL;
}

const char *member_rest_unrest(struct member_storm *s)
{
    uint32_t holder[MEMBER_DIM];
    const char *unrest = find_holders(s, holder);
    if (unrest == NULL) unrest = keeper_unrest(s);
    if (unrest == NULL) unrest = views_unrest(s);
    if (unrest == NULL) unrest = relay_checkers_unrest(s);
    if (unrest != NULL) return unrest;
    struct graph g;
    graph_expected(s, holder, &g);
    unrest = links_unrest(s, holder, &g);
    if (unrest == NULL) unrest = progress_unrest(s, holder, &g);
    graph_deinit(&g);
    return unrest;
}

void member_rest_print(const struct member_storm *s)
{
    for (uint32_t v = 0; v < s->slots; v++) {
        const struct node *n = node_of(s, v);
        if (n == NULL) continue;
        fprintf(stderr, "slot %u: id %llu, phase %d, place %d of %llu, %u links, view %llx; knows", v,
                (unsigned long long)s->slot[v].id, (int)n->phase, (int)n->rank,
                (unsigned long long)n->claimed, n->link_count,
                (unsigned long long)membership_view_hash(n->membership));
        for (uint32_t i = 0; i < membership_count(n->membership); i++) {
            const struct member *m = membership_at(n->membership, i);
            fprintf(stderr, " %llu(%s, place %d, %llu)", (unsigned long long)m->id,
                    member_state_name(m->state), (int)m->meta[META_PLACE] - 1,
                    (unsigned long long)m->meta[META_CLAIMED]);
        }
        fprintf(stderr, "\n");
    }
}

/* -- agreement --------------------------------------------------------------------------------- */

const char *member_rest_disagreement(struct member_storm *s)
{
    uint32_t holder[MEMBER_DIM];
    const char *unrest = find_holders(s, holder);
    if (unrest != NULL) return unrest;
    struct graph g;
    graph_expected(s, holder, &g);
    bool connected = are_connected(s, holder, &g);
    graph_deinit(&g);
    if (s->law->share == LAW_SHARE_ONE || !connected) return NULL;
    const float *first = NULL;
    for (uint32_t place = 0; place < s->places; place++) {
        if (holder[place] == UINT32_MAX) continue;
        const float *x = node_model(node_of(s, holder[place]));
        if (first == NULL) first = x;
        for (uint32_t r = 0; r < MEMBER_DIM; r++) {
            double apart = fabs((double)x[r] - (double)first[r]) * s->places;
            if (apart > member_slack(s, r)) return "models differ";
        }
    }
    return NULL;
}
