/* Who is a neighbour: the places that the algorithm may get links to.
 *
 *  - a method that counts on fixed neighbours, or given members: those in the graph, whoever holds the places.
 *  - a method that takes any peers (algo_type.any_peers), with an overlay: the places of its active view.
 *  - the same with a fixed topology: those in the graph, and for groups of vacant places the bridges over them
 *    (algo/topology/living.h). Nodes that know the same members find the same ones; a suspect still holds its place.
 * Failure courses
 *  - places are vacant for moments, while an experiment is founded or a member starts again: bridges are built, and
 *    taken down, BRIDGE_US after the first change that they do not know. Neighbours in the graph need not wait.
 *  - two nodes disagree about a bridge for a while: one says READY and is not answered until the other knows too.
 *  - who is no neighbour any more stays listed as long as a link is bound to it: its PEER_DOWN is still to come. */
#include <stdlib.h>
#include <string.h>

#include "agent/node/internal.h"
#include "algo/topology/living.h"
#include "base/check.h"

#define BRIDGE_US 1000000u

/* -- the list ---------------------------------------------------------------------------------- */

/* Position of the first neighbour whose rank is not below `rank`. */
static uint32_t position_of(const struct node *n, rank_t rank)
{
    uint32_t low = 0, high = n->neighbour_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (n->neighbour[middle].rank < rank)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct neighbour *node_neighbour_find(const struct node *n, rank_t rank)
{
    uint32_t at = position_of(n, rank);
    return at < n->neighbour_count && n->neighbour[at].rank == rank ? &n->neighbour[at] : NULL;
}

static void neighbour_list(struct node *n, rank_t rank)
{
    uint32_t at = position_of(n, rank);
    if (at < n->neighbour_count && n->neighbour[at].rank == rank) {
        n->neighbour[at].listed = true;
        return;
    }
    if (n->neighbour_count == n->neighbour_capacity) {
        n->neighbour_capacity = n->neighbour_capacity > 0 ? 2 * n->neighbour_capacity : 8;
        n->neighbour = mem_resize(n->neighbour, n->neighbour_capacity, sizeof *n->neighbour);
    }
    struct neighbour *nb = &n->neighbour[at];
    memmove(nb + 1, nb, (n->neighbour_count - at) * sizeof *nb);
    n->neighbour_count++;
    *nb = (struct neighbour){.rank = rank, .listed = true, .missing_us = node_now_us(n)};
}

static void graph_list(struct node *n)
{
    for (uint32_t i = n->graph->offset[n->rank]; i < n->graph->offset[n->rank + 1]; i++)
        neighbour_list(n, n->graph->neighbour[i]);
}

static void neighbours_sweep(struct node *n)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n->neighbour_count; i++) {
        const struct neighbour *nb = &n->neighbour[i];
        if (nb->listed || nb->link != NULL)
            n->neighbour[kept++] = *nb;
        else
            free(nb->dialling);
    }
    n->neighbour_count = kept;
}

/* -- bridges ----------------------------------------------------------------------------------- */

static bool is_vacant(const struct node *n, rank_t place)
{
    return place != n->rank && places_state(&n->places, place) != PLACE_HELD;
}

static bool vacancies_are_known(const struct node *n)
{
    for (rank_t r = 0; r < n->config.node_count; r++)
        if (is_vacant(n, r) != (n->vacant[r] != 0)) return false;
    return true;
}

static void bridges_build(struct node *n)
{
    struct living_edge *edge;
    for (rank_t r = 0; r < n->config.node_count; r++) n->vacant[r] = is_vacant(n, r);
    uint32_t count = living_edges(n->graph, n->vacant, &edge);
    n->bridge_count = 0;
    for (uint32_t i = 0; i < count; i++) n->bridge_count += edge[i].a == n->rank || edge[i].b == n->rank;
    n->bridge = mem_resize(n->bridge, n->bridge_count, sizeof *n->bridge);
    for (uint32_t i = 0, at = 0; i < count; i++)
        if (edge[i].a == n->rank || edge[i].b == n->rank)
            n->bridge[at++] = edge[i].a == n->rank ? edge[i].b : edge[i].a;
    free(edge);
}

static void bridges_review(struct node *n, uint64_t now_us)
{
    if (vacancies_are_known(n)) {
        n->bridges_due_us = TIME_NEVER;
        return;
    }
    if (n->bridges_due_us == TIME_NEVER) n->bridges_due_us = now_us + BRIDGE_US;
    if (now_us < n->bridges_due_us) return; /* a review comes every half second */
    n->bridges_due_us = TIME_NEVER;
    bridges_build(n);
}

/* -- from the beginning of the algorithm to its end --------------------------------------------- */

void node_neighbours_build(struct node *n)
{
    n->bridges_due_us = TIME_NEVER;
    if (n->any_peers) n->vacant = mem_new_zero(n->config.node_count, sizeof *n->vacant);
    graph_list(n);
}

static void active_list(struct node *n)
{
    const node_id *id;
    uint32_t count = overlay_active(n->overlay, &id);
    for (uint32_t i = 0; i < count; i++) {
        rank_t rank = places_of(&n->places, id[i]);
        if (rank != RANK_NONE && rank != n->rank) neighbour_list(n, rank);
    }
}

void node_neighbours_list(struct node *n, uint64_t now_us)
{
    if (!n->any_peers || n->membership == NULL) return; /* they are the same for life */
    for (uint32_t i = 0; i < n->neighbour_count; i++) n->neighbour[i].listed = false;
    if (n->overlay != NULL) {
        active_list(n);
    } else {
        bridges_review(n, now_us);
        graph_list(n);
        for (uint32_t i = 0; i < n->bridge_count; i++) neighbour_list(n, n->bridge[i]);
    }
    neighbours_sweep(n);
}

uint32_t node_neighbour_count(const struct node *n)
{
    if (!n->any_peers || n->membership == NULL) return n->neighbour_count;
    uint32_t held = 0;
    for (uint32_t i = 0; i < n->neighbour_count; i++)
        held += n->neighbour[i].listed && places_state(&n->places, n->neighbour[i].rank) == PLACE_HELD;
    return held;
}

/* The links end with the place they were for. */
void node_neighbours_free(struct node *n)
{
    for (struct link *l = n->oldest; l != NULL; l = l->newer) {
        if (l->place == RANK_NONE) continue;
        l->place = RANK_NONE;
        l->presented = false;
        node_link_close(n, l, DOWN_LOCAL);
    }
    for (uint32_t i = 0; i < n->neighbour_count; i++) free(n->neighbour[i].dialling);
    free(n->neighbour);
    free(n->vacant);
    free(n->bridge);
    n->neighbour = NULL;
    n->vacant = NULL;
    n->bridge = NULL;
    n->neighbour_count = n->neighbour_capacity = n->bridge_count = n->presented_count = 0;
}
