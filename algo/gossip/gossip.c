/* Gossip: every node trains its own model and averages it with its neighbours'.
 *
 * mode=async  pairwise averaging beside training (pairwise.c): AD-PSGD, Lian et al. 2018.
 * mode=sync   averaging over the neighbourhood in rounds (rounds.c): D-PSGD, Lian et al. 2017.
 *
 * Peers: mode=sync has the neighbours of the graph, since its weights do not change; those that are down have no
 * part. mode=async takes whoever is up and holds nothing of others: memory goes by the degree, and any places may be
 * neighbours for a while (--topology overlay, or a graph that heals around vacant places).
 *
 * Both weight nodes equally. reweight=yes scales node v's local steps by n * w_v, so that the same fixed
 * point as with data-weighted averaging is aimed at.
 *
 * --compress: models travel through a mirror per direction of a link (compress/mirror.h). Mixing is between
 * the two models as both ends of the link know them, never with the own x: so both ends add opposite amounts
 * and the sum over nodes stays, however much is dropped; what was dropped is part of the next difference.
 * gamma scales each mixing step, as copies that lag behind overshoot with a full one.
 *
 * This file: parameters, what both modes share, and dispatch.
 *
 * steps_handed_over counts the steps in a model we sent, once the peer's model of the same exchange or
 * round has come: the peer was alive and in step then, though only its own report says that it mixed. */
#include <stdlib.h>
#include <string.h>

#include "algo/compress/gamma.h"
#include "algo/gossip/internal.h"
#include "algo/vec.h"
#include "base/check.h"

extern const struct algo_type gossip_type;

enum { MODE_ASYNC, MODE_SYNC }; /* order of the words below */
enum { WEIGHTS_METROPOLIS, WEIGHTS_UNIFORM };

static const struct param_spec gossip_params[] = {
    {.key = "mode",
     .kind = PARAM_WORD,
     .initial = "async",
     .words = "async|sync",
     .help = "pairs beside training, or rounds"},
    {.key = "every",
     .kind = PARAM_INTEGER,
     .initial = "1",
     .low = 1,
     .high = 1e6,
     .help = "local steps between exchanges or rounds"},
    {.key = "weights",
     .kind = PARAM_WORD,
     .initial = "metropolis",
     .words = "metropolis|uniform",
     .help = "mixing weights of mode=sync"},
    {.key = "reweight",
     .kind = PARAM_WORD,
     .initial = "no",
     .words = "no|yes",
     .help = "scale local steps by n times the node's share of the data"},
    {.key = "gamma",
     .kind = PARAM_REAL,
     .initial = "0",
     .low = 0,
     .high = 1,
     .help = "share of a mixing step that is taken; 0 = the omega of the compressor"},
};

/* -- shared by the modes ----------------------------------------------------------------------- */

/* Position of the first peer whose rank is not below `rank`. */
static uint32_t peer_position(const struct gossip *g, rank_t rank)
{
    uint32_t low = 0, high = g->peer_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (g->peer[middle].rank < rank)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint32_t gossip_place(const struct gossip *g, rank_t peer)
{
    uint32_t at = peer_position(g, peer);
    return at < g->peer_count && g->peer[at].rank == peer ? at : GOSSIP_NOBODY;
}

static void peer_insert(struct gossip *g, rank_t rank)
{
    CHECK(rank < g->node_count && rank != g->rank);
    uint32_t at = peer_position(g, rank);
    if (g->peer_count == g->peer_capacity) {
        g->peer_capacity = g->peer_capacity > 0 ? 2 * g->peer_capacity : 8;
        g->peer = mem_resize(g->peer, g->peer_capacity, sizeof *g->peer);
    }
    struct gossip_peer *p = &g->peer[at];
    memmove(p + 1, p, (g->peer_count - at) * sizeof *p);
    g->peer_count++;
    *p = (struct gossip_peer){.rank = rank};
    mirror_init(&p->in, g->pack, g->dim, g->seed, rank, g->rank, 0);
    mirror_init(&p->out, g->pack, g->dim, g->seed, g->rank, rank, 0);
}

static void peer_remove(struct gossip *g, uint32_t at)
{
    struct gossip_peer *p = &g->peer[at];
    mirror_forget(&p->in);
    mirror_forget(&p->out);
    g->peer_count--;
    memmove(p, p + 1, (g->peer_count - at) * sizeof *p);
}

void gossip_fold(struct gossip *g, const float *delta, uint32_t steps)
{
    CHECK(steps > 0);
    float scale = g->step_scale;
    if (scale == 1.0f)
        for (size_t i = 0; i < g->dim; i++) g->x[i] += delta[i];
    else
        for (size_t i = 0; i < g->dim; i++) g->x[i] += scale * delta[i];
    g->report.steps += steps;
}

struct algo_msg *gossip_send(struct gossip *g, struct algo_actions *acts, uint32_t place,
                             enum gossip_kind kind, uint64_t field)
{
    CHECK(place < g->peer_count);
    struct algo_msg *m = algo_send(acts, g->peer[place].rank, (uint8_t)kind);
    m->field_count = 1;
    m->field[0] = field;
    return m;
}

struct blob *gossip_send_model(struct gossip *g, struct algo_actions *acts, uint32_t place,
                               enum gossip_kind kind, uint64_t field, struct blob *whole)
{
    g->report.model_transfers++;
    return mirror_send(&g->peer[place].out, g->x, whole, gossip_send(g, acts, place, kind, field));
}

/* -- the type ---------------------------------------------------------------------------------- */

static void make_rounds(struct gossip *g, const struct graph *graph, bool uniform)
{
    CHECK(graph->node_count == g->node_count);
    for (uint32_t i = graph->offset[g->rank]; i < graph->offset[g->rank + 1]; i++)
        peer_insert(g, graph->neighbour[i]);
    rounds_init(g, graph, uniform);
}

static int gossip_create(const struct algo_config *config, const struct choice *params, struct algo **out,
                         struct err_text *why)
{
    double gamma = choice_number(params, "gamma");
    struct pack *pack = NULL;
    if (!compress_is_none(config->compress))
        pack = pack_new(config->compress, config->dim, config->tensor, config->tensor_count);
    int err = compress_settle_gamma(pack, pack != NULL ? config->compress->spec->name : "none", &gamma, why);
    if (err != 0) {
        pack_free(pack);
        return err;
    }
    CHECK(config->rank < config->node_count);
    CHECK(config->dim > 0);
    struct gossip *g = mem_new_zero(1, sizeof *g);
    g->sync = choice_number(params, "mode") == MODE_SYNC;
    g->rank = config->rank;
    g->node_count = config->node_count;
    g->dim = config->dim;
    g->seed = config->seed;
    g->patience_us = config->patience_us > 0 ? config->patience_us : 1;
    g->every = choice_integer(params, "every");
    g->step_scale = 1.0f;
    if (choice_number(params, "reweight") != 0)
        g->step_scale = (float)(config->node_count * config->weight[config->rank]);
    g->trace = config->trace;
    prng_split(&g->random, config->seed, "gossip", g->rank);
    g->gamma = (float)gamma;
    g->pack = pack;
    g->x = vec_duplicate(g->dim, config->x0);
    if (g->sync) make_rounds(g, config->graph, choice_number(params, "weights") == WEIGHTS_UNIFORM);
    *out = (struct algo *)g;
    return 0;
}

static void gossip_destroy(struct algo *a)
{
    if (a == NULL) return;
    struct gossip *g = (struct gossip *)a;
    if (g->sync)
        rounds_deinit(g);
    else
        pairwise_deinit(g);
    while (g->peer_count > 0) peer_remove(g, g->peer_count - 1);
    free(g->peer);
    pack_free(g->pack);
    free(g->x);
    free(g);
}

static void gossip_peer_up(struct gossip *g, rank_t peer, struct algo_actions *acts)
{
    if (!g->sync) peer_insert(g, peer);
    uint32_t place = gossip_place(g, peer);
    CHECK(place != GOSSIP_NOBODY && !g->peer[place].up);
    g->peer[place].up = true;
    if (g->sync) rounds_peer_up(g, place, acts);
}

static void gossip_peer_down(struct gossip *g, uint64_t now_us, rank_t peer, struct algo_actions *acts)
{
    uint32_t place = gossip_place(g, peer);
    CHECK(place != GOSSIP_NOBODY && g->peer[place].up);
    g->peer[place].up = false;
    mirror_forget(&g->peer[place].in);
    mirror_forget(&g->peer[place].out);
    if (g->sync) {
        rounds_peer_down(g, place, acts);
    } else {
        pairwise_peer_down(g, now_us, peer);
        peer_remove(g, place);
    }
}

static int gossip_message(struct gossip *g, const struct algo_event *e, struct algo_actions *acts)
{
    uint32_t place = gossip_place(g, e->peer);
    if (place == GOSSIP_NOBODY || !g->peer[place].up) return ERR_PROTO;
    if (e->msg->field_count != 1 || e->msg->bits_size != 0) return ERR_PROTO;
    return g->sync ? rounds_message(g, e->now_us, place, e->msg, acts)
                   : pairwise_message(g, e->now_us, place, e->msg, acts);
}

static int gossip_step(struct algo *a, const struct algo_event *e, struct algo_actions *acts)
{
    struct gossip *g = (struct gossip *)a;
    switch (e->kind) {
    case ALGO_START:
        if (g->sync)
            rounds_start(g, acts);
        else
            pairwise_start(g, e->now_us, acts);
        return 0;
    case ALGO_PEER_UP:
        gossip_peer_up(g, e->peer, acts);
        return 0;
    case ALGO_PEER_DOWN:
        gossip_peer_down(g, e->now_us, e->peer, acts);
        return 0;
    case ALGO_MESSAGE:
        return gossip_message(g, e, acts);
    case ALGO_TRAINED:
        gossip_fold(g, e->trained.delta, e->trained.steps);
        if (g->sync)
            rounds_trained(g, e, acts);
        else
            pairwise_trained(g, e, acts);
        return 0;
    case ALGO_DEADLINE:
        if (g->sync)
            rounds_deadline(g, e->now_us, acts);
        else
            pairwise_deadline(g, e->now_us, acts);
        return 0;
    }
    UNREACHABLE();
}

static uint64_t gossip_deadline_us(const struct algo *a)
{
    const struct gossip *g = (const struct gossip *)a;
    return g->sync ? rounds_deadline_us(g) : pairwise_deadline_us(g);
}

static const float *gossip_model(const struct algo *a)
{
    return ((const struct gossip *)a)->x;
}

static void gossip_report(const struct algo *a, struct algo_report *out)
{
    *out = ((const struct gossip *)a)->report;
}

static bool gossip_any_peers(const struct choice *params)
{
    return choice_number(params, "mode") == MODE_ASYNC;
}

const struct algo_type gossip_type = {
    .spec = {.name = "gossip",
             .help = "average models with neighbours, in pairs beside training or in rounds",
             .source = "Lian et al. 2018 (AD-PSGD, arXiv 1710.06952), 2017 (D-PSGD, arXiv 1705.09056)",
             .params = gossip_params,
             .param_count = sizeof gossip_params / sizeof gossip_params[0]},
    .eval = ALGO_EVAL_AVERAGE,
    .any_peers = gossip_any_peers,
    .own_start = true,
    .packs = true,
    .compresses = true,
    .by_tensor = true,
    .create = gossip_create,
    .destroy = gossip_destroy,
    .step = gossip_step,
    .deadline_us = gossip_deadline_us,
    .model = gossip_model,
    .report = gossip_report,
};
