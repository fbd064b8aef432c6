/* How a node comes to train: founding the experiment or joining it, its place, the start of its algorithm. See
 * node.h for the normal course and the failure courses.
 *
 * Whether others train, who is known and who holds which place is asked anew at each review, so that each wait ends
 * by itself when its reason goes:
 *  - nobody trains: until min_nodes members are known; for a vacant place; with tags for those of all places; for
 *    the member with most progress, when the method needs a common start and steps were done before; for the model of
 *    a keeper that is ahead.
 *  - others train: for one of them to tell all it knows, for a vacant place, for the model. If the last of them goes
 *    meanwhile, the experiment is founded anew.
 *  - others train but have no progress yet and are not under way for long, and min_nodes members are known: this is
 *    still the founding, somebody was quicker; the start is common, nothing is fetched.
 *    The same with steps of former lives, when the method needs no common start and all were started together.
 *  - the owner makes ready for the place (loads its rows) from the claim on, while all of this is waited for. Who was
 *    to found when only that was missing begins as a founder, however far the others have come.
 *  - a place that was claimed by two: the later claim looks for another, whatever its phase. */
#include <stdlib.h>
#include <string.h>

#include "agent/node/internal.h"
#include "base/check.h"

#define INFORMED_US 500000u
#define FOUNDING_US 2000000u
#define TOGETHER                                                                                             \
    (60ull * 1000000u * BOOT_UNITS_PER_US) /* apart at most, nodes that start again as one cluster */

/* -- who trains -------------------------------------------------------------------------------- */

static bool is_living(const struct member *m)
{
    return m->state == MEMBER_ALIVE || m->state == MEMBER_SUSPECT;
}

bool node_member_trains(const struct node *n, const struct member *m)
{
    uint64_t phase = m->meta[META_PHASE];
    return m->id != n->config.id && is_living(m) &&
           (phase == NODE_TRAINING + 1 || phase == NODE_FINISHED + 1);
}

uint32_t node_trainers(const struct node *n)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < membership_count(n->membership); i++)
        count += node_member_trains(n, membership_at(n->membership, i));
    return count;
}

static bool somebody_progressed(const struct node *n)
{
    for (uint32_t i = 0; i < membership_count(n->membership); i++) {
        const struct member *m = membership_at(n->membership, i);
        if (is_living(m) && m->meta[META_PROGRESS] > 0) return true;
    }
    return n->steps > 0;
}

/* Steps may be slow: who has trained for a while need not have told of one. */
static bool somebody_is_under_way(const struct node *n)
{
    for (uint32_t i = 0; i < membership_count(n->membership); i++) {
        const struct member *m = membership_at(n->membership, i);
        if (node_member_trains(n, m) && m->meta[META_UNDER_WAY] != 0) return true;
    }
    return false;
}

/* Those who train were started about when we were. */
static bool started_together(const struct node *n)
{
    for (uint32_t i = 0; i < membership_count(n->membership); i++) {
        const struct member *m = membership_at(n->membership, i);
        if (node_member_trains(n, m) && m->boot + TOGETHER < n->config.boot) return false;
    }
    return true;
}

/* The experiment began a moment ago: nobody has published progress or is under way; or all have saved steps, and
 * need no common start. */
static bool just_founded(const struct node *n)
{
    if (n->places.living < n->config.min_nodes) return false;
    bool own = n->config.algo->own_start && n->config.steps_done > 0;
    return own ? started_together(n) : !somebody_progressed(n) && !somebody_is_under_way(n);
}

/* Of the living members with a place, the one with most progress; ties: the smaller id. NULL: nobody has any, and
 * there is no keeper's model that one of them should fetch for all. */
static const struct member *best_of_all(const struct node *n)
{
    const struct member *best = NULL;
    bool kept = node_kept_best(n) > 0;
    for (uint32_t i = 0; i < membership_count(n->membership); i++) {
        const struct member *m = membership_at(n->membership, i);
        if (!is_living(m) || places_of(&n->places, m->id) == RANK_NONE) continue;
        uint64_t progress = m->meta[META_PROGRESS];
        if (best == NULL ? progress > 0 || kept : progress > best->meta[META_PROGRESS]) best = m;
    }
    return best;
}

/* -- what the algorithm is made from ----------------------------------------------------------- */

static int node_build_graph(struct node *n, struct err_text *why)
{
    if (n->config.graph != NULL) {
        n->graph = n->config.graph;
        return 0;
    }
    struct graph *g = &n->own_graph;
    graph_deinit(g); /* of a former place */
    int err = topology_build(n->config.topology, n->config.node_count, n->config.seed, g, why);
    if (err != 0) return err;
    if (n->config.link_delay != NULL)
        memcpy(g->delay, n->config.link_delay, 2u * (size_t)g->edge_count * sizeof *g->delay);
    n->graph = g;
    return 0;
}

/* The tag of who holds or last held the place; "" when that is not known. */
const char *node_place_tag(const struct node *n, rank_t place)
{
    if (n->places.fixed != NULL) return n->places.fixed[place].tag;
    const struct place *p = &n->places.place[place];
    const struct member *m = p->state == PLACE_VACANT ? NULL : membership_find(n->membership, p->holder);
    return m != NULL ? m->tag : "";
}

static bool all_tagged(const struct node *n)
{
    for (rank_t r = 0; r < n->config.node_count; r++)
        if (node_place_tag(n, r)[0] == '\0') return false;
    return true;
}

/* Equal tags are one site; sites are numbered in the order of their first members. */
static void node_build_sites(struct node *n)
{
    uint32_t count = n->config.node_count, sites = 0;
    if (n->config.site != NULL || n->site != NULL || !all_tagged(n)) return;
    n->site = mem_new(count, sizeof *n->site);
    for (uint32_t r = 0; r < count; r++) {
        uint32_t first = 0;
        while (strcmp(node_place_tag(n, first), node_place_tag(n, r)) != 0) first++;
        n->site[r] = first < r ? n->site[first] : sites++;
    }
}

/* Everything that the algorithm is made from; nothing is dialled or sent yet. */
static int node_build_algo(struct node *n, bool rejoining, struct err_text *why)
{
    int err = node_build_graph(n, why);
    if (err != 0) return err;
    free(n->weight);
    n->weight = mem_new_zero(n->config.node_count, sizeof *n->weight);
    err = n->sink.on_ranked(n->sink.ctx, n->rank, &n->job.trainer, n->weight, why);
    if (err != 0) return err;
    CHECK(n->job.trainer != NULL);
    node_build_sites(n);
    const float *start = n->config.start;
    bool moved = start != NULL && memcmp(start, n->x0, n->config.dim * sizeof *start) != 0;
    struct algo_config config = {
        .rank = n->rank,
        .node_count = n->config.node_count,
        .graph = n->graph,
        .weight = n->weight,
        .dim = n->config.dim,
        .x0 = n->x0,
        .start = moved ? start : NULL,
        .seed = n->config.seed,
        .patience_us = n->config.patience_us,
        .site = n->config.site != NULL ? n->config.site : n->site,
        .compress = n->config.algo->compresses ? n->config.compress : NULL,
        .tensor = n->config.tensor,
        .tensor_count = n->config.tensor_count,
        .rejoining = rejoining,
        .life = node_life(n->config.id, n->config.boot, n->claimed),
        .steps = n->steps,
        .trace = n->config.trace,
    };
    err = algo_create(n->config.algo, &config, n->config.algo_params, &n->algo, why);
    if (err != 0) return err;
    node_method_restore(n);
    free(n->x0);
    n->x0 = NULL;
    return 0;
}

static void node_begin(struct node *n, bool rejoining)
{
    struct err_text why = {""};
    if (node_build_algo(n, rejoining, &why) != 0) {
        node_fail(n, &why);
        return;
    }
    n->phase = NODE_TRAINING;
    n->wait = WAIT_NONE;
    n->founding = false;
    n->begin_at_us = n->keepers_until_us = TIME_NEVER; /* another founding waits as long */
    n->asked_in_vain = false;
    node_neighbours_build(n);
    trace_line(n->config.trace, TRACE_DEBUG, "training begins at place %u of %u with %u neighbours", n->rank,
               n->config.node_count, n->neighbour_count);
    uint64_t now_us = node_now_us(n);
    if (!rejoining && n->neighbour_count > 0) n->hold_until_us = now_us + n->config.patience_us / 2;
    if (n->membership == NULL)
        node_redial_begin(n);
    else
        node_donor_begin(n);
    struct algo_event event = {.kind = ALGO_START};
    CHECK(node_feed(n, &event) == 0);
    n->begun = true;
    n->dirty = true;
    for (struct link *l = n->oldest; l != NULL; l = l->newer)
        if (l->ready_sent && l->ready_received && !l->closing) node_link_present(n, l);
}

/* With given members: there is nothing to wait for but start_after_us. */
void node_try_begin(struct node *n)
{
    if (n->failed || n->phase != NODE_JOINING) return;
    uint64_t now_us = node_now_us(n);
    if (n->begin_at_us == TIME_NEVER) n->begin_at_us = now_us + n->config.start_after_us;
    if (now_us < n->begin_at_us) {
        node_arm(n);
        return;
    }
    n->rank = places_of(&n->places, n->config.id);
    CHECK(n->rank != RANK_NONE);
    node_begin(n, n->config.rejoining);
}

/* -- places ------------------------------------------------------------------------------------ */

/* True when the node has a place, or has just claimed one. */
static bool place_claim(struct node *n)
{
    if (n->rank != RANK_NONE) return true;
    rank_t place = places_choose(&n->places, n->config.id, n->wanted_place);
    if (place == RANK_NONE) return false;
    bool before = place == n->wanted_place && n->wanted_claimed != 0;
    n->rank = place;
    n->claimed = before ? n->wanted_claimed : node_now_boot(n);
    trace_line(n->config.trace, TRACE_INFO, "this node takes place %u of %u", place, n->config.node_count);
    node_self_tell(n);
    return true;
}

/* False when somebody else holds our place. */
static bool place_is_ours(const struct node *n)
{
    return n->rank == RANK_NONE || places_of(&n->places, n->config.id) == n->rank;
}

static void place_forget(struct node *n)
{
    node_id holder = 0;
    places_holder(&n->places, n->rank, &holder);
    trace_line(n->config.trace, TRACE_INFO, "place %u was claimed by node %llu before: looking for another",
               n->rank, (unsigned long long)holder);
    n->rank = RANK_NONE;
    n->wanted_place = RANK_NONE;
    n->wanted_claimed = 0;
    n->founding = false;
    n->dirty = true;
}

static bool owner_is_ready(const struct node *n)
{
    return n->sink.is_ready == NULL || n->sink.is_ready(n->sink.ctx, n->rank);
}

void node_place_end(struct node *n)
{
    CHECK(n->algo != NULL);
    n->evicted = false;
    n->x0 = mem_new(n->config.dim, sizeof *n->x0);
    memcpy(n->x0, n->config.algo->model(n->algo), n->config.dim * sizeof *n->x0);
    n->has_model = true;
    node_donor_end(n);
    node_neighbours_free(n);
    node_method_keep(n);
    node_durable_drop(n);
    n->config.algo->destroy(n->algo);
    n->algo = NULL;
    n->graph = NULL;
    n->begun = false;
    node_train_drop(n);
    n->phase = NODE_JOINING;
    n->finish_at_us = n->hold_until_us = n->redial_at_us = TIME_NEVER;
    place_forget(n);
}

static void place_lost(struct node *n)
{
    if (n->evicted) return;
    n->evicted = n->job.running && !n->job.held;
    if (!n->evicted) node_place_end(n);
}

/* -- waiting and beginning --------------------------------------------------------------------- */

static bool wait_for(struct node *n, enum node_wait wait)
{
    if (n->wait == wait) return false;
    n->wait = wait;
    char text[NODE_WAIT_MAX];
    if (wait != WAIT_NONE && wait != WAIT_KNOWLEDGE)
        trace_line(n->config.trace, TRACE_INFO, "%s", node_waits_for(n, text));
    return false;
}

/* Somebody who trains has told us all that we did not know; or has had time to. While there is no progress, we may
 * yet be one of the founders. */
static bool is_informed(struct node *n)
{
    uint64_t now_us = node_now_us(n), wait_us = somebody_progressed(n) ? INFORMED_US : FOUNDING_US;
    bool informed = false;
    for (struct link *l = n->oldest; l != NULL; l = l->newer) {
        const struct member *m = membership_find(n->membership, l->peer);
        if (m == NULL || !node_member_trains(n, m)) continue;
        if (l->trains_us == 0) l->trains_us = now_us;
        bool told = l->synced && wait_us == INFORMED_US;
        if (told || now_us - l->trains_us >= wait_us) informed = true;
    }
    return informed;
}

/* With a method that needs a common start, and steps done before, the member with most of them begins. */
static bool start_is_ours(struct node *n)
{
    if (n->config.algo->own_start || !somebody_progressed(n)) return true;
    uint32_t places = n->config.node_count, living = n->places.living;
    if (places_held(&n->places) < (living < places ? living : places)) return wait_for(n, WAIT_BEST);
    const struct member *best = best_of_all(n);
    return best == NULL || best->id == n->config.id || wait_for(n, WAIT_BEST);
}

static void fetch_start(struct node *n)
{
    n->phase = NODE_FETCHING;
    node_fetch_begin(n);
    wait_for(n, WAIT_MODEL);
    n->dirty = true;
}

/* Nobody trains, or has only just begun. Returns true when it is time to begin. */
static bool found(struct node *n)
{
    if (n->places.living < n->config.min_nodes && n->rank == RANK_NONE) return wait_for(n, WAIT_MEMBERS);
    uint64_t now_us = node_now_us(n);
    if (n->begin_at_us == TIME_NEVER) n->begin_at_us = now_us + n->config.start_after_us;
    if (now_us < n->begin_at_us) return false;
    if (node_trainers(n) == 0 && node_founder_listens(n)) return wait_for(n, WAIT_NONE);
    if (!place_claim(n)) return wait_for(n, WAIT_PLACE);
    bool ready = owner_is_ready(n);
    if (n->self.tag[0] != '\0' && !all_tagged(n)) return wait_for(n, WAIT_TAGS);
    if (!n->founding && !start_is_ours(n)) return false;
    if (!n->founding && node_keeper_is_ahead(n)) {
        node_keeper_await(n);
        fetch_start(n);
        return false;
    }
    n->founding = true;
    return ready || wait_for(n, WAIT_ROWS);
}

static void join_step(struct node *n)
{
    if (n->founding || node_trainers(n) == 0 || just_founded(n)) {
        if (found(n)) node_begin(n, false);
        return;
    }
    if (n->rank == RANK_NONE && !is_informed(n)) {
        wait_for(n, WAIT_KNOWLEDGE);
    } else if (!place_claim(n)) {
        wait_for(n, WAIT_PLACE);
    } else if (!owner_is_ready(n) && n->has_model) {
        wait_for(n, WAIT_ROWS);
    } else if (n->self.tag[0] != '\0' && !all_tagged(n)) {
        wait_for(n, WAIT_TAGS);
    } else if (n->has_model) {
        node_begin(n, true);
    } else {
        fetch_start(n);
    }
}

static void fetch_step(struct node *n)
{
    bool done = fetch_done(n->fetch), founding = node_trainers(n) == 0;
    if (!done && (!founding || node_keeper_is_ahead(n))) return;
    node_fetch_end(n);
    n->phase = NODE_JOINING;
    n->dirty = true;
    if (!done) trace_line(n->config.trace, TRACE_INFO, "nobody is left who gives the model: the fetch ends");
    if (!done || n->rank == RANK_NONE || founding) return; /* join_step sees who begins */
    if (owner_is_ready(n)) node_begin(n, true);
}

void node_join_review(struct node *n)
{
    if (!place_is_ours(n)) {
        if (n->algo != NULL)
            place_lost(n);
        else
            place_forget(n);
    } else {
        n->evicted = false; /* who claimed it has let go of it while our job ran */
    }
    switch (n->phase) {
    case NODE_JOINING:
        join_step(n);
        break;
    case NODE_FETCHING:
        if (n->rank == RANK_NONE) place_claim(n);
        fetch_step(n);
        break;
    case NODE_KEEPING:
        node_keep_review(n);
        break;
    case NODE_TRAINING:
    case NODE_FINISHED:
        break;
    }
}
