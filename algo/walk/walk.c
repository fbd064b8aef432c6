/* Random-walk SGD: a model walks over the nodes by Metropolis-Hastings and is trained where it is. With
 * walks=R, R models do so at once (Multi-Walk), and rank 0 aggregates them.
 *
 * Source: the URW baseline of Gholami, Seferoglu, and their Multi-Walk (docs/algorithms.md): the holder does
 * `steps` SGD steps on the model, proposes a uniform neighbour j and moves with probability min(1, deg_i /
 * deg_j), else stays and trains again. The stationary law is uniform over the nodes. Walk r begins at rank r.
 * Neighbours are the peers that are up, whichever places they have, and degrees count them: each node tells its
 * peers its own (DEGREE), whenever it changes. P(i to j) = min(1 / deg_i, 1 / deg_j) = P(j to i) then holds for the
 * graph as it is, also when it changes (--topology overlay, a graph that heals): the law stays uniform but for the
 * time that a word takes.
 * At the aggregator, after its steps: x_r <- u_l + (x_r - u_r) / R; u_r <- x_r; l <- r, with u_r what x_r was
 * when it last left there. The result of a run is the newest of them.
 *
 * --compress: a model is handed over through the mirror of the link (compress/mirror.h). What that drops of
 * walk r stays at the sender and is added when walk r comes by again. That is many hops later, and the model
 * is trained meanwhile as if it had never learnt it: a compressor that drops much makes the model swing
 * further and further. Hence the omega that the type asks for.
 *
 * Normal course
 *  - START: rank r < R holds model r and trains; the others wait.
 *  - TRAINED: the progress is added; the model is handed over, or waits to be trained again.
 *  - PEER_UP, PEER_DOWN: all peers are told our new degree; who has not told its own is not moved to yet.
 *  - MODEL: stored, acknowledged, trained. Several models at one node are trained in the order they came.
 * Failure courses (custody of each model: token.h)
 *  - all neighbours are down: the model stays and is trained here.
 *  - the link of a hand-over goes for good, because the peer is no neighbour any more: as if the peer had died. The
 *    search finds the model if it has arrived, else it goes on from the copy here.
 *  - the holder dies: the node with the newest copy goes on from it with a new generation; what compression
 *    had dropped of that copy is still in it. The dead node's residuals are lost.
 *  - a model made anew from an older copy than the one handed over here comes: it lacks nothing of ours that the
 *    residual could make good, and gets none. Sequences grow along a model's way, also over generations.
 *  - the same or an older model comes again: acknowledged, dropped, counted.
 *  - a hand-over is sent again over a new link: whole, bit for bit as it was told first.
 *  - rank 0 is gone: the walks go on without each other. When it is back it knows no u_r: each walk that
 *    comes for the first time is averaged with those that came before it, and that is its base.
 *  - a malformed message: ERR_PROTO, nothing changed (message.c).
 *  - over a restart a node keeps the residuals of the walks that it handed over (state.c).
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "algo/vec.h"
#include "algo/walk/internal.h"
#include "base/check.h"
#include "base/limits.h"

extern const struct algo_type walk_type;

enum { AGGREGATOR = 0 }; /* rank */

static_assert(NODE_COUNT_MAX <= 1u << 16, "the maker of a stamp fits its place in a version");

/* -- life -------------------------------------------------------------------------------------- */

static void destroy(struct algo *a)
{
    struct walk *w = (struct walk *)a;
    if (w == NULL) return;
    for (uint32_t t = 0; t < w->walk_count; t++) {
        blob_unref(w->walk[t].copy);
        free(w->walk[t].x);
        free(w->walk[t].residual);
        free(w->walk[t].base);
    }
    while (w->peer_count > 0) walk_peer_remove(w, w->peer[0].rank);
    pack_free(w->pack);
    free(w->peer);
    free(w->walk);
    free(w->queue);
    free(w);
}

static void make_walks(struct walk *w, const struct algo_config *config)
{
    bool aggregates = w->rank == AGGREGATOR && w->walk_count > 1 && !config->rejoining;
    /* We are the first to train again after all have stopped: no walk is anywhere. */
    bool restored = config->start != NULL && !config->rejoining;
    w->walk = mem_new_zero(w->walk_count, sizeof *w->walk);
    w->queue = mem_new(w->walk_count, sizeof *w->queue);
    w->trainee = WALK_NONE;
    w->joined = aggregates ? w->walk_count : 0;
    for (uint32_t t = 0; t < w->walk_count; t++) {
        struct walking *k = &w->walk[t];
        k->x = vec_duplicate(w->dim, config->x0);
        if (aggregates) k->base = vec_duplicate(w->dim, config->x0);
        if (w->pack != NULL) k->residual = mem_new(w->dim, sizeof *k->residual);
        /* A node that comes back must not start a second walk: it waits, and the search finds the first. */
        bool here = restored || (t == w->rank && !config->rejoining);
        custody_init(&k->custody, w->rank, here, config->patience_us, 0);
    }
}

static int create(const struct algo_config *config, const struct choice *params, struct algo **out,
                  struct err_text *why)
{
    uint32_t walk_count = choice_integer(params, "walks");
    if (walk_count > config->node_count)
        return err_set(why, ERR_USAGE,
                       "--algorithm: walks=%u needs as many nodes, to begin at, and there are %u; "
                       "give walks=%u or less",
                       walk_count, config->node_count, config->node_count);
    struct walk *w = mem_new_zero(1, sizeof *w);
    w->rank = config->rank;
    w->node_count = config->node_count;
    w->seed = config->seed;
    w->trace = config->trace;
    w->dim = config->dim;
    w->steps_per_visit = choice_integer(params, "steps");
    w->walk_count = walk_count;
    if (!compress_is_none(config->compress))
        w->pack = pack_new(config->compress, config->dim, config->tensor, config->tensor_count);
    make_walks(w, config);
    prng_split(&w->prng, config->seed, "walk", config->rank);
    *out = (struct algo *)w;
    return 0;
}

/* -- training ---------------------------------------------------------------------------------- */

/* Orders models as their stamps do: a part of the cluster that was cut off may have gone on with an older
 * generation for longer, and its model is not the walking one. */
static uint64_t version_of(const struct token_stamp *s)
{
    uint64_t generation = s->generation < 0x7fff ? s->generation : 0x7fff;
    uint64_t sequence = s->sequence < UINT32_MAX ? s->sequence : UINT32_MAX;
    return generation << 48 | (uint64_t)s->maker << 32 | sequence;
}

void walk_note_version(struct walk *w, uint32_t t)
{
    uint64_t version = version_of(&w->walk[t].custody.last);
    if (t != w->newest && version <= w->counters.version) return;
    w->newest = t;
    w->counters.version = version;
}

/* Trains the next walk that is still here, if the trainer is free. */
static void train_next(struct walk *w, struct algo_actions *acts)
{
    while (w->trainee == WALK_NONE && w->queue_count > 0) {
        uint32_t t = w->queue[w->queue_at];
        w->queue_at = (w->queue_at + 1) % w->walk_count;
        w->queue_count--;
        w->walk[t].queued = false;
        if (w->walk[t].custody.place != CUSTODY_HELD) continue; /* fenced while it waited */
        w->trainee = t;
        algo_train(acts, w->walk[t].x, w->steps_per_visit);
    }
}

void walk_train(struct walk *w, uint32_t t, struct algo_actions *acts)
{
    if (!w->walk[t].queued && w->trainee != t) {
        w->queue[(w->queue_at + w->queue_count++) % w->walk_count] = t;
        w->walk[t].queued = true;
    }
    train_next(w, acts);
}

/* x_t = base + (x_t - from) * share; base and from may be one. */
static void move_to(const struct walk *w, struct walking *k, const float *base, const float *from,
                    float share)
{
    for (size_t i = 0; i < w->dim; i++) k->x[i] = base[i] + (k->x[i] - from[i]) * share;
}

/* Walk t has trained at the aggregator. */
static void aggregate(struct walk *w, uint32_t t)
{
    struct walking *k = &w->walk[t];
    const float *last = w->walk[w->aggregated].base;
    if (k->base != NULL) {
        move_to(w, k, last, k->base, 1.0f / (float)w->walk_count);
    } else {
        w->joined++;
        if (last != NULL) move_to(w, k, last, last, 1.0f / (float)w->joined);
        k->base = mem_new(w->dim, sizeof *k->base);
    }
    memcpy(k->base, k->x, w->dim * sizeof *k->base);
    w->aggregated = t;
}

/* -- walking ----------------------------------------------------------------------------------- */

/* One Metropolis-Hastings step; RANK_NONE = stay. A peer that has not told its degree counts as a refusal. */
static rank_t choose_hop(struct walk *w)
{
    if (w->peer_count == 0) return RANK_NONE;
    const struct walk_peer *to = &w->peer[prng_below(&w->prng, w->peer_count)];
    double accept = prng_unit(&w->prng);
    return to->degree > 0 && accept * to->degree < w->peer_count ? to->rank : RANK_NONE;
}

static void move_on(struct walk *w, uint32_t t, struct algo_actions *acts)
{
    struct walking *k = &w->walk[t];
    rank_t to = choose_hop(w);
    if (to == RANK_NONE) {
        walk_train(w, t, acts);
        return;
    }
    w->counters.steps_handed_over += k->steps;
    k->steps = 0;
    custody_send(&k->custody, to);
    walk_hand_over(w, t, acts);
}

static void on_trained(struct walk *w, const struct algo_event *event, struct algo_actions *acts)
{
    uint32_t t = w->trainee;
    CHECK(t != WALK_NONE);
    struct walking *k = &w->walk[t];
    w->trainee = WALK_NONE;
    w->counters.steps += event->trained.steps;
    if (k->custody.place == CUSTODY_HELD) { /* else fenced meanwhile: this progress belongs to no model */
        for (size_t j = 0; j < w->dim; j++) k->x[j] += event->trained.delta[j];
        k->steps += event->trained.steps;
        if (w->rank == AGGREGATOR && w->walk_count > 1) aggregate(w, t);
        custody_advance(&k->custody);
        walk_note_version(w, t);
        move_on(w, t, acts);
    }
    train_next(w, acts);
}

static void on_peer_up(struct walk *w, rank_t peer, uint64_t boot, struct algo_actions *acts)
{
    walk_peer_add(w, peer, boot);
    walk_tell_degree(w, acts);
    for (uint32_t t = 0; t < w->walk_count; t++) {
        struct walking *k = &w->walk[t];
        if (custody_peer_up(&k->custody, peer, k->sent_boot != boot, w->now_us))
            walk_hand_over_again(w, t, acts);
    }
}

static void on_peer_down(struct walk *w, rank_t peer, struct algo_actions *acts)
{
    walk_peer_remove(w, peer);
    walk_tell_degree(w, acts);
    for (uint32_t t = 0; t < w->walk_count; t++) custody_peer_down(&w->walk[t].custody, peer, w->now_us);
}

static void search_tick(struct walk *w, uint32_t t, struct algo_actions *acts)
{
    struct walking *k = &w->walk[t];
    switch (custody_tick(&k->custody, w->now_us)) {
    case CUSTODY_NOT_DUE:
        return;
    case CUSTODY_SEARCH:
        walk_seek_flood(w, t, false, acts);
        return;
    case CUSTODY_REGENERATE:
        w->counters.tokens_regenerated++;
        trace_line(w->trace, TRACE_WARN,
                   "the walking model was lost; going on from the newest copy, generation %u",
                   k->custody.last.generation);
        k->owed = false; /* the copy here holds it */
        k->steps = 0;
        walk_note_version(w, t);
        walk_train(w, t, acts);
        return;
    }
}

static void on_start(struct walk *w, struct algo_actions *acts)
{
    for (uint32_t t = 0; t < w->walk_count; t++) {
        struct custody *c = &w->walk[t].custody;
        custody_init(c, w->rank, c->place == CUSTODY_HELD, c->patience_us, w->now_us);
        if (c->place == CUSTODY_HELD) walk_train(w, t, acts);
    }
}

static int step(struct algo *a, const struct algo_event *event, struct algo_actions *acts)
{
    struct walk *w = (struct walk *)a;
    w->now_us = event->now_us;
    int err = 0;
    switch (event->kind) {
    case ALGO_START:
        on_start(w, acts);
        break;
    case ALGO_PEER_UP:
        on_peer_up(w, event->peer, event->boot, acts);
        break;
    case ALGO_PEER_DOWN:
        on_peer_down(w, event->peer, acts);
        break;
    case ALGO_MESSAGE:
        err = walk_take_message(w, event->peer, event->msg, acts);
        break;
    case ALGO_TRAINED:
        on_trained(w, event, acts);
        break;
    case ALGO_DEADLINE:
        break;
    }
    for (uint32_t t = 0; err == 0 && t < w->walk_count; t++) search_tick(w, t, acts);
    return err;
}

/* -- questions --------------------------------------------------------------------------------- */

static uint64_t deadline_us(const struct algo *a)
{
    const struct walk *w = (const struct walk *)a;
    uint64_t first = TIME_NEVER;
    for (uint32_t t = 0; w->node_count > 1 && t < w->walk_count; t++) {
        uint64_t due = custody_deadline_us(&w->walk[t].custody);
        if (due < first) first = due;
    }
    return first;
}

static const float *model(const struct algo *a)
{
    const struct walk *w = (const struct walk *)a;
    return w->walk[w->newest].x;
}

static void report(const struct algo *a, struct algo_report *out)
{
    *out = ((const struct walk *)a)->counters;
}

static bool takes_any_peers(const struct choice *params)
{
    (void)params;
    return true;
}

static const struct param_spec params[] = {
    {"steps", PARAM_INTEGER, "1", 1, 1e6, NULL, "local steps per visit"},
    {"walks", PARAM_INTEGER, "1", 1, 1000, NULL, "models that walk; rank 0 aggregates several"},
};

const struct algo_type walk_type = {
    .spec = {"walk", "one model or several walk by Metropolis-Hastings and are trained where they are",
             "random-walk SGD, baseline of arXiv 2307.07652", params, sizeof params / sizeof params[0]},
    .eval = ALGO_EVAL_NEWEST,
    .any_peers = takes_any_peers,
    .packs = true,
    .compresses = true,
    .by_tensor = true,
    .omega_min = 0.9,
    .create = create,
    .destroy = destroy,
    .step = step,
    .deadline_us = deadline_us,
    .model = model,
    .report = report,
    .state_version = 1,
    .state_save = walk_state_save,
    .state_restore = walk_state_restore,
};
