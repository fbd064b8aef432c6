/* Random-walk SGD: one model walks over the nodes by Metropolis-Hastings and is trained where it is.
 *
 * Source: the URW baseline of Gholami, Seferoglu (docs/algorithms.md): the holder does `steps` SGD steps on the
 * model, proposes a uniform neighbour j and moves with probability min(1, deg_i / deg_j), else stays and
 * trains again. The stationary law is uniform over the nodes. The result of a run is the walking model.
 *
 * Normal course
 *  - START: rank 0 holds the model and trains; the others wait.
 *  - TRAINED: the progress is added; the model is handed over, or trained again.
 *  - MODEL: stored, acknowledged, trained.
 * Failure courses (custody of the model: token.h)
 *  - all neighbours are down: the model stays and is trained here.
 *  - the holder dies: the node with the newest copy goes on from it with a new generation.
 *  - the same or an older model comes again: acknowledged, dropped, counted.
 *  - a malformed message: ERR_PROTO, nothing changed.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "algo/step.h"
#include "algo/token.h"
#include "base/check.h"
#include "base/limits.h"
#include "base/prng.h"

extern const struct algo_type walk_type;

static_assert(NODE_COUNT_MAX <= 1u << 16, "the maker of a stamp fits its place in a version");

enum walk_message { WALK_MODEL = 1, WALK_ACK, WALK_SEEK };
enum { FIELD_GENERATION, FIELD_MAKER, FIELD_SEQUENCE, STAMP_FIELDS };
enum { FIELD_CLAIMANT = STAMP_FIELDS, FIELD_LIVING, FIELD_AGE, SEEK_FIELDS };

struct walk {
    rank_t rank;
    uint32_t node_count;
    const struct graph *graph;
    const struct trace *trace;
    size_t dim;
    uint32_t steps_per_visit;
    float *x;          /* (dim) the model, while held; the newest copy seen otherwise */
    struct blob *copy; /* the model as it was handed over; owned; NULL when x is newer */
    struct custody custody;
    bool training; /* a TRAIN is outstanding */
    bool *up;      /* by position among our neighbours */
    uint64_t *boot;
    struct prng prng;
    uint64_t now_us;
    struct algo_report counters;
};

static size_t neighbour_count(const struct walk *w)
{
    return graph_degree(w->graph, w->rank);
}

static rank_t neighbour_at(const struct walk *w, size_t i)
{
    return w->graph->neighbour[w->graph->offset[w->rank] + i];
}

static size_t slot_of(const struct walk *w, rank_t peer)
{
    return graph_edge_index(w->graph, w->rank, peer) - w->graph->offset[w->rank];
}

/* -- life -------------------------------------------------------------------------------------- */

static void destroy(struct algo *a)
{
    struct walk *w = (struct walk *)a;
    if (w == NULL) return;
    blob_unref(w->copy);
    free(w->x);
    free(w->up);
    free(w->boot);
    free(w);
}

static int create(const struct algo_config *config, const struct choice *params, struct algo **out,
                  struct err_text *why)
{
    (void)why;
    struct walk *w = mem_new_zero(1, sizeof *w);
    w->rank = config->rank;
    w->node_count = config->node_count;
    w->graph = config->graph;
    w->trace = config->trace;
    w->dim = config->dim;
    w->steps_per_visit = choice_integer(params, "steps");
    w->x = mem_new(w->dim, sizeof *w->x);
    memcpy(w->x, config->x0, w->dim * sizeof *w->x);
    w->up = mem_new_zero(neighbour_count(w), sizeof *w->up);
    w->boot = mem_new_zero(neighbour_count(w), sizeof *w->boot);
    prng_split(&w->prng, config->seed, "walk", config->rank);
    /* A node that comes back must not start a second walk: it waits, and the search finds the first one. */
    custody_init(&w->custody, w->rank, w->rank == 0 && !config->rejoining, config->patience_us, 0);
    *out = (struct algo *)w;
    return 0;
}

/* -- messages ---------------------------------------------------------------------------------- */

static void stamp_write(struct algo_msg *msg, const struct token_stamp *stamp)
{
    msg->field_count = STAMP_FIELDS;
    msg->field[FIELD_GENERATION] = stamp->generation;
    msg->field[FIELD_MAKER] = stamp->maker;
    msg->field[FIELD_SEQUENCE] = stamp->sequence;
}

static bool stamp_read(const struct walk *w, const struct algo_msg *msg, struct token_stamp *stamp)
{
    if (msg->field_count < STAMP_FIELDS || msg->field[FIELD_GENERATION] > UINT32_MAX ||
        msg->field[FIELD_MAKER] >= w->node_count || msg->field[FIELD_SEQUENCE] >= UINT64_MAX / 2)
        return false;
    stamp->generation = (uint32_t)msg->field[FIELD_GENERATION];
    stamp->maker = (rank_t)msg->field[FIELD_MAKER];
    stamp->sequence = msg->field[FIELD_SEQUENCE];
    return true;
}

static void model_send(struct walk *w, struct algo_actions *acts)
{
    struct algo_msg *msg = algo_send(acts, w->custody.sent_to, WALK_MODEL);
    stamp_write(msg, &w->custody.last);
    msg->vec = blob_ref(w->copy);
    w->counters.model_transfers++;
}

static void seek_send(const struct walk *w, rank_t to, const struct token_stamp *stamp, rank_t claimant,
                      bool living, struct algo_actions *acts)
{
    struct algo_msg *msg = algo_send(acts, to, WALK_SEEK);
    stamp_write(msg, stamp);
    msg->field_count = SEEK_FIELDS;
    msg->field[FIELD_CLAIMANT] = claimant;
    msg->field[FIELD_LIVING] = living;
    msg->field[FIELD_AGE] = living ? custody_age_us(&w->custody, w->now_us) : 0;
}

static void seek_flood(const struct walk *w, const struct token_stamp *stamp, rank_t claimant, bool living,
                       struct algo_actions *acts)
{
    for (size_t i = 0; i < neighbour_count(w); i++)
        if (w->up[i]) seek_send(w, neighbour_at(w, i), stamp, claimant, living, acts);
}

/* Orders models as their stamps do: a part of the cluster that was cut off may have gone on with an older
 * generation for longer, and its model is not the walking one. */
static uint64_t version_of(const struct token_stamp *s)
{
    uint64_t generation = s->generation < 0x7fff ? s->generation : 0x7fff;
    uint64_t sequence = s->sequence < UINT32_MAX ? s->sequence : UINT32_MAX;
    return generation << 48 | (uint64_t)s->maker << 32 | sequence;
}

/* -- walking ----------------------------------------------------------------------------------- */

static void train(struct walk *w, struct algo_actions *acts)
{
    if (w->training) return;
    w->training = true;
    algo_train(acts, w->x, w->steps_per_visit);
}

/* One Metropolis-Hastings step; RANK_NONE = stay. A neighbour that is down counts as a refusal. */
static rank_t choose_hop(struct walk *w)
{
    uint32_t degree = (uint32_t)neighbour_count(w);
    if (degree == 0) return RANK_NONE;
    uint32_t pick = prng_below(&w->prng, degree);
    double accept = prng_unit(&w->prng);
    rank_t to = neighbour_at(w, pick);
    if (!w->up[pick] || accept * graph_degree(w->graph, to) >= degree) return RANK_NONE;
    return to;
}

static void move_on(struct walk *w, struct algo_actions *acts)
{
    rank_t to = choose_hop(w);
    if (to == RANK_NONE) {
        train(w, acts);
        return;
    }
    blob_unref(w->copy);
    w->copy = blob_copy(w->x, w->dim * sizeof *w->x);
    w->counters.steps_handed_over = w->counters.steps;
    custody_send(&w->custody, to);
    model_send(w, acts);
}

static void on_trained(struct walk *w, const struct algo_event *event, struct algo_actions *acts)
{
    w->training = false;
    w->counters.steps += event->trained.steps;
    if (w->custody.place != CUSTODY_HELD) return; /* fenced meanwhile: this progress belongs to no model */
    for (size_t j = 0; j < w->dim; j++) w->x[j] += event->trained.delta[j];
    custody_advance(&w->custody);
    w->counters.version = version_of(&w->custody.last);
    move_on(w, acts);
}

static int on_model(struct walk *w, rank_t from, const struct algo_msg *msg, struct algo_actions *acts)
{
    struct token_stamp stamp;
    if (msg->field_count != STAMP_FIELDS || msg->vec == NULL || !stamp_read(w, msg, &stamp)) return ERR_PROTO;
    if (custody_receive(&w->custody, &stamp, w->now_us) == CUSTODY_REPEAT) {
        w->counters.duplicates_dropped++;
    } else {
        memcpy(w->x, msg->vec->data, w->dim * sizeof *w->x);
        w->counters.mixes++;
        w->counters.version = version_of(&stamp);
        train(w, acts);
    }
    stamp_write(algo_send(acts, from, WALK_ACK), &stamp);
    return 0;
}

static int on_seek(struct walk *w, rank_t from, const struct algo_msg *msg, struct algo_actions *acts)
{
    struct token_stamp stamp;
    if (msg->field_count != SEEK_FIELDS || !stamp_read(w, msg, &stamp) ||
        msg->field[FIELD_CLAIMANT] >= w->node_count || msg->field[FIELD_LIVING] > 1)
        return ERR_PROTO;
    rank_t claimant = (rank_t)msg->field[FIELD_CLAIMANT];
    struct custody *c = &w->custody;
    switch (
        custody_heard(c, &stamp, claimant, msg->field[FIELD_LIVING] == 1, msg->field[FIELD_AGE], w->now_us)) {
    case CUSTODY_QUIET:
        break;
    case CUSTODY_FLOOD:
        seek_flood(w, &c->best, c->best_at, false, acts);
        break;
    case CUSTODY_FLOOD_LIVE:
        seek_flood(w, &c->known, w->rank, true, acts);
        break;
    case CUSTODY_ANSWER_LIVE:
        seek_send(w, from, &c->known, w->rank, true, acts);
        break;
    }
    return 0;
}

static int on_message(struct walk *w, rank_t from, const struct algo_msg *msg, struct algo_actions *acts)
{
    struct token_stamp stamp;
    switch (msg->kind) {
    case WALK_MODEL:
        return on_model(w, from, msg, acts);
    case WALK_ACK:
        if (msg->field_count != STAMP_FIELDS || !stamp_read(w, msg, &stamp)) return ERR_PROTO;
        custody_acknowledged(&w->custody, from, &stamp, w->now_us);
        return 0;
    case WALK_SEEK:
        return on_seek(w, from, msg, acts);
    default: /* a peer's number, not an enumeration of ours */
        return ERR_PROTO;
    }
}

static void on_peer_up(struct walk *w, rank_t peer, uint64_t boot, struct algo_actions *acts)
{
    size_t slot = slot_of(w, peer);
    bool restarted = w->boot[slot] != 0 && w->boot[slot] != boot;
    w->up[slot] = true;
    w->boot[slot] = boot;
    if (custody_peer_up(&w->custody, peer, restarted, w->now_us)) model_send(w, acts);
}

static void search_tick(struct walk *w, struct algo_actions *acts)
{
    switch (custody_tick(&w->custody, w->now_us)) {
    case CUSTODY_NOT_DUE:
        return;
    case CUSTODY_SEARCH:
        seek_flood(w, &w->custody.best, w->custody.best_at, false, acts);
        return;
    case CUSTODY_REGENERATE:
        w->counters.tokens_regenerated++;
        trace_line(w->trace, TRACE_WARN,
                   "the walking model was lost; going on from the newest copy, generation %u",
                   w->custody.last.generation);
        train(w, acts);
        return;
    }
}

static int step(struct algo *a, const struct algo_event *event, struct algo_actions *acts)
{
    struct walk *w = (struct walk *)a;
    w->now_us = event->now_us;
    int err = 0;
    switch (event->kind) {
    case ALGO_START:
        custody_init(&w->custody, w->rank, w->custody.place == CUSTODY_HELD, w->custody.patience_us,
                     w->now_us);
        if (w->custody.place == CUSTODY_HELD) train(w, acts);
        break;
    case ALGO_PEER_UP:
        on_peer_up(w, event->peer, event->boot, acts);
        break;
    case ALGO_PEER_DOWN:
        w->up[slot_of(w, event->peer)] = false;
        custody_peer_down(&w->custody, event->peer, w->now_us);
        break;
    case ALGO_MESSAGE:
        err = on_message(w, event->peer, event->msg, acts);
        break;
    case ALGO_TRAINED:
        on_trained(w, event, acts);
        break;
    case ALGO_DEADLINE:
        break;
    }
    if (err == 0) search_tick(w, acts);
    return err;
}

/* -- questions --------------------------------------------------------------------------------- */

static uint64_t deadline_us(const struct algo *a)
{
    const struct walk *w = (const struct walk *)a;
    return w->node_count > 1 ? custody_deadline_us(&w->custody) : TIME_NEVER;
}

static const float *model(const struct algo *a)
{
    return ((const struct walk *)a)->x;
}

static void report(const struct algo *a, struct algo_report *out)
{
    *out = ((const struct walk *)a)->counters;
}

static const struct param_spec params[] = {
    {"steps", PARAM_INTEGER, "1", 1, 1e6, NULL, "local steps per visit"},
};

const struct algo_type walk_type = {
    .spec = {"walk", "one model walks by Metropolis-Hastings and is trained where it is",
             "random-walk SGD, baseline of arXiv 2307.07652", params, sizeof params / sizeof params[0]},
    .eval = ALGO_EVAL_NEWEST,
    .create = create,
    .destroy = destroy,
    .step = step,
    .deadline_us = deadline_us,
    .model = model,
    .report = report,
};
