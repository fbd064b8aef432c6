#include "tests/unit/allreduce_fixture.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "tests/unit/gossip_fixture.h"

static const struct param_spec params[] = {
    {.key = "every", .kind = PARAM_INTEGER, .initial = "1", .low = 1, .high = 1000, .help = "steps a round"},
    {.key = "groups", .kind = PARAM_WORD, .initial = "flat", .words = "flat|unequal|pairs", .help = "plan"},
    {.key = "chunk", .kind = PARAM_INTEGER, .initial = "2", .low = 1, .high = 1000, .help = "floats"},
    {.key = "bug", .kind = PARAM_WORD, .initial = "none", .words = "none|twice|restamp", .help = "planted"},
};

/* unequal: 1, 3, 5, .. members. */
static uint32_t group_of(rank_t r, double kind)
{
    uint32_t g = 0;
    if (kind == 2) return r / 2;
    while ((g + 1) * (g + 1) <= r) g++;
    return g;
}

static int create(const struct algo_config *config, const struct choice *choice, struct algo **out,
                  struct err_text *why)
{
    (void)why;
    struct counter *c = mem_new_zero(1, sizeof *c);
    rank_t member[COUNTER_NODES_MAX];
    uint32_t group[COUNTER_NODES_MAX];
    CHECK(config->node_count <= COUNTER_NODES_MAX);
    for (rank_t r = 0; r < config->node_count; r++) {
        member[r] = r;
        group[r] = group_of(r, choice_number(choice, "groups"));
    }
    c->dim = config->dim;
    c->every = choice_integer(choice, "every");
    c->bug = (enum counter_bug)choice_number(choice, "bug");
    c->x = mem_new(c->dim, sizeof *c->x);
    memcpy(c->x, config->x0, c->dim * sizeof *c->x);
    c->pending = mem_new_zero(c->dim, sizeof *c->pending);
    struct allreduce_config ring = {.rank = config->rank,
                                    .node_count = config->node_count,
                                    .graph = config->graph,
                                    .member = member,
                                    .member_count = config->node_count,
                                    .group = choice_number(choice, "groups") > 0 ? group : NULL,
                                    .size_max = c->dim,
                                    .state_dim = c->dim,
                                    .patience_us = config->patience_us,
                                    .first_kind = KIND_FIRST,
                                    .chunk_max = choice_integer(choice, "chunk"),
                                    .rejoining = config->rejoining,
                                    .trace = config->trace};
    c->ring = allreduce_new(&ring);
    allreduce_set_state(c->ring, c->x);
    *out = (struct algo *)c;
    return 0;
}

static void destroy(struct algo *a)
{
    struct counter *c = (struct counter *)a;
    if (c == NULL) return;
    allreduce_free(c->ring);
    free(c->x);
    free(c->pending);
    free(c);
}

static void take(struct counter *c, enum allreduce_outcome outcome, bool waited, struct algo_actions *acts)
{
    bool counted = true;
    switch (outcome) {
    case ALLREDUCE_NONE:
        return;
    case ALLREDUCE_SUM:
        for (size_t i = 0; i < c->dim; i++) c->x[i] += allreduce_sum(c->ring)[i];
        c->sums++;
        break;
    case ALLREDUCE_COPY:
        memcpy(c->x, allreduce_copy(c->ring), c->dim * sizeof *c->x);
        counted = allreduce_contributed(c->ring) && c->bug != BUG_TWICE;
        c->copies++;
        break;
    }
    if (counted) memset(c->pending, 0, c->dim * sizeof *c->pending);
    allreduce_set_state(c->ring, c->x);
    if (waited) algo_train(acts, c->x, c->every);
}

static int step_ring(struct counter *c, const struct algo_event *e, struct algo_actions *acts)
{
    bool waited = allreduce_waiting(c->ring);
    enum allreduce_outcome outcome;
    struct algo_event event = *e;
    struct algo_msg m;
    bool stamped = e->kind == ALGO_MESSAGE && e->msg->field_count >= 2;
    if (stamped && c->bug == BUG_RESTAMP) {
        m = *e->msg;
        event.msg = &m;
        if (m.kind == KIND_DATA && m.field[0] < c->view[0]) memcpy(m.field, c->view, sizeof c->view);
        if (m.kind == KIND_STATUS && m.field[0] > c->view[0]) memcpy(c->view, m.field, sizeof c->view);
    }
    int err = allreduce_step(c->ring, &event, acts, &outcome);
    if (err != 0) return c->bug == BUG_RESTAMP ? 0 : err;
    take(c, outcome, waited, acts);
    return 0;
}

static int step(struct algo *a, const struct algo_event *e, struct algo_actions *acts)
{
    struct counter *c = (struct counter *)a;
    switch (e->kind) {
    case ALGO_START:
        algo_train(acts, c->x, c->every);
        return 0;
    case ALGO_PEER_UP:
    case ALGO_PEER_DOWN:
    case ALGO_MESSAGE:
    case ALGO_DEADLINE:
        return step_ring(c, e, acts);
    case ALGO_TRAINED:
        for (size_t i = 0; i < c->dim; i++) c->pending[i] += e->trained.delta[i];
        take(c, allreduce_begin(c->ring, e->now_us, c->pending, c->dim, 1, acts), true, acts);
        return 0;
    }
    UNREACHABLE();
}

static uint64_t deadline_us(const struct algo *a)
{
    return allreduce_deadline_us(((const struct counter *)a)->ring);
}

static const float *model(const struct algo *a)
{
    return ((const struct counter *)a)->x;
}

static void report(const struct algo *a, struct algo_report *out)
{
    memset(out, 0, sizeof *out);
    out->rounds = allreduce_round(((const struct counter *)a)->ring);
}

const struct algo_type counter_type = {
    .spec = {"counter", "test", "", params, sizeof params / sizeof params[0]},
    .eval = ALGO_EVAL_AVERAGE,
    .links = ALGO_LINKS_ALL,
    .packs = true,
    .create = create,
    .destroy = destroy,
    .step = step,
    .deadline_us = deadline_us,
    .model = model,
    .report = report,
};

const struct counter *counter_at(const struct harness *h, rank_t r)
{
    return (const struct counter *)harness_algo(h, r);
}

struct allreduce_counts counts_at(const struct harness *h, rank_t r)
{
    struct allreduce_counts counts;
    allreduce_counts(counter_at(h, r)->ring, &counts);
    return counts;
}

struct harness *ring_make(const char *text, const struct graph *g, size_t dim, uint64_t seed)
{
    float zero[256] = {0};
    CHECK(dim <= 256);
    return harness_new(&counter_type, text, g, NULL, dim, zero, seed, PATIENCE);
}

uint64_t round_at(const struct harness *h, rank_t r)
{
    return allreduce_round(counter_at(h, r)->ring);
}

/* -- checks ------------------------------------------------------------------------------------ */

struct verdict judge(const struct harness *h, uint32_t n, size_t dim)
{
    struct verdict v = {true, true, true, UINT64_MAX};
    for (rank_t r = 0; r < n; r++) {
        const float *x = harness_model(h, r);
        if (x == NULL) continue;
        for (rank_t u = 0; u < r; u++) {
            if (harness_model(h, u) == NULL) continue;
            bool same = round_at(h, u) == round_at(h, r);
            v.level = v.level && same;
            v.agree = v.agree && (!same || memcmp(x, harness_model(h, u), dim * sizeof *x) == 0);
        }
        if (round_at(h, r) < v.rounds) v.rounds = round_at(h, r);
        for (rank_t u = 0; u < n; u++) v.honest = v.honest && (double)x[u] <= (double)harness_steps(h, u);
    }
    return v;
}

void settle(struct harness *h)
{
    harness_stop_training(h);
    harness_run_until(h, harness_now(h) + PATIENCE * 9 / 10);
}

bool is_complete(const struct harness *h, rank_t r)
{
    double missing = (double)harness_steps(h, r) - (double)harness_model(h, 0)[r];
    return missing == 0 || missing == 1;
}
