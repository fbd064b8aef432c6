/* Gossip: every node trains its own model and averages it with its neighbours'.
 *
 * mode=async  pairwise averaging beside training (pairwise.c): AD-PSGD, Lian et al. 2018.
 * mode=sync   averaging over the neighbourhood in rounds (rounds.c): D-PSGD, Lian et al. 2017.
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

uint32_t gossip_place(const struct gossip *g, rank_t peer)
{
    uint32_t low = 0, high = g->degree;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (g->neighbour[middle] < peer)
            low = middle + 1;
        else
            high = middle;
    }
    return low < g->degree && g->neighbour[low] == peer ? low : GOSSIP_NOBODY;
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
    CHECK(place < g->degree);
    struct algo_msg *m = algo_send(acts, g->neighbour[place], (uint8_t)kind);
    m->field_count = 1;
    m->field[0] = field;
    return m;
}

struct blob *gossip_send_model(struct gossip *g, struct algo_actions *acts, uint32_t place,
                               enum gossip_kind kind, uint64_t field, struct blob *whole)
{
    g->report.model_transfers++;
    return mirror_send(&g->out[place], g->x, whole, gossip_send(g, acts, place, kind, field));
}

/* -- the type ---------------------------------------------------------------------------------- */

static void make_mirrors(struct gossip *g, const struct algo_config *config)
{
    g->in = mem_new(g->degree, sizeof *g->in);
    g->out = mem_new(g->degree, sizeof *g->out);
    for (uint32_t i = 0; i < g->degree; i++) {
        rank_t peer = g->neighbour[i];
        mirror_init(&g->in[i], g->pack, g->dim, config->seed, peer, g->rank, 0);
        mirror_init(&g->out[i], g->pack, g->dim, config->seed, g->rank, peer, 0);
    }
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
    CHECK(config->graph->node_count == config->node_count);
    CHECK(config->dim > 0);
    struct gossip *g = mem_new_zero(1, sizeof *g);
    g->sync = choice_number(params, "mode") == MODE_SYNC;
    g->rank = config->rank;
    g->node_count = config->node_count;
    g->degree = graph_degree(config->graph, g->rank);
    g->neighbour = config->graph->neighbour + config->graph->offset[g->rank];
    g->up = mem_new_zero(g->degree, 1);
    g->dim = config->dim;
    g->patience_us = config->patience_us > 0 ? config->patience_us : 1;
    g->every = choice_integer(params, "every");
    g->step_scale = 1.0f;
    if (choice_number(params, "reweight") != 0)
        g->step_scale = (float)(config->node_count * config->weight[config->rank]);
    g->trace = config->trace;
    prng_split(&g->random, config->seed, "gossip", g->rank);
    g->gamma = (float)gamma;
    g->pack = pack;
    make_mirrors(g, config);
    g->x = vec_duplicate(g->dim, config->x0);
    if (g->sync)
        rounds_init(g, config->graph, choice_number(params, "weights") == WEIGHTS_UNIFORM);
    else
        pairwise_init(g);
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
    for (uint32_t i = 0; i < g->degree; i++) {
        mirror_forget(&g->in[i]);
        mirror_forget(&g->out[i]);
    }
    free(g->in);
    free(g->out);
    pack_free(g->pack);
    free(g->up);
    free(g->x);
    free(g);
}

static void gossip_peer_up(struct gossip *g, uint32_t place, struct algo_actions *acts)
{
    CHECK(place != GOSSIP_NOBODY);
    CHECK(!g->up[place]);
    g->up[place] = 1;
    g->up_count++;
    if (g->sync)
        rounds_peer_up(g, place, acts);
    else
        pairwise_peer_up(g, place);
}

static void gossip_peer_down(struct gossip *g, uint32_t place, struct algo_actions *acts)
{
    CHECK(place != GOSSIP_NOBODY);
    CHECK(g->up[place]);
    g->up[place] = 0;
    g->up_count--;
    mirror_forget(&g->in[place]);
    mirror_forget(&g->out[place]);
    if (g->sync)
        rounds_peer_down(g, place, acts);
    else
        pairwise_peer_down(g, place);
}

static int gossip_message(struct gossip *g, const struct algo_event *e, struct algo_actions *acts)
{
    uint32_t place = gossip_place(g, e->peer);
    if (place == GOSSIP_NOBODY || !g->up[place]) return ERR_PROTO;
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
        gossip_peer_up(g, gossip_place(g, e->peer), acts);
        return 0;
    case ALGO_PEER_DOWN:
        gossip_peer_down(g, gossip_place(g, e->peer), acts);
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

const struct algo_type gossip_type = {
    .spec = {.name = "gossip",
             .help = "average models with neighbours, in pairs beside training or in rounds",
             .source = "Lian et al. 2018 (AD-PSGD, arXiv 1710.06952), 2017 (D-PSGD, arXiv 1705.09056)",
             .params = gossip_params,
             .param_count = sizeof gossip_params / sizeof gossip_params[0]},
    .eval = ALGO_EVAL_AVERAGE,
    .any_peers = true,
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
