/* Clusters of DIGEST nodes; see digest_fixture.h. */
#include "tests/unit/digest_fixture.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"

void cluster_open(struct cluster *c, const char *topology, uint32_t n, const char *params,
                  const char *compress, uint64_t seed)
{
    struct choice choice;
    CHECK(choice_parse(topology_table, topology_table_count, "--topology", topology, &choice, NULL) == 0);
    CHECK(topology_build(&choice, n, seed, &c->graph, NULL) == 0);
    c->n = n;
    c->weight = mem_new(n, sizeof(double));
    double sum = 0;
    for (uint32_t v = 0; v < n; v++) sum += c->weight[v] = 1.0 + (double)((v * 7 + seed) % 4);
    double total = exp2(ceil(log2(sum))); /* powers of two keep the sums exact */
    c->weight[0] += total - sum;
    for (uint32_t v = 0; v < n; v++) c->weight[v] /= total;
    float *x0 = mem_new_zero(n, sizeof(float));
    c->h = harness_new(&digest_type, params, &c->graph, c->weight, n, x0, seed, PATIENCE);
    if (compress != NULL) harness_set_compress(c->h, compress);
    free(x0);
}

void cluster_close(struct cluster *c)
{
    harness_free(c->h);
    graph_deinit(&c->graph);
    free(c->weight);
}

struct digest *cluster_node(const struct cluster *c, rank_t v)
{
    return (struct digest *)harness_algo(c->h, v);
}

unsigned cluster_mistakes_at(const struct cluster *c, rank_t v, double tolerance)
{
    unsigned mistakes = 0;
    const float *x = harness_model(c->h, v);
    const struct digest *d = cluster_node(c, v);
    for (uint32_t u = 0; u < c->n; u++) {
        double truth = c->weight[u] * (double)harness_steps(c->h, u);
        mistakes += fabs(x[u] - truth) > tolerance * (1 + truth);
        for (uint32_t s = 0; s < d->own_count; s++)
            mistakes += fabs(blob_floats(d->own[s].snapshot)[u] - truth) > tolerance * (1 + truth);
    }
    return mistakes;
}

unsigned cluster_mistakes(const struct cluster *c)
{
    unsigned sum = 0;
    for (rank_t v = 0; v < c->n; v++)
        if (harness_model(c->h, v) != NULL) sum += cluster_mistakes_at(c, v, 1e-3);
    return sum;
}

double cluster_residual(const struct cluster *c)
{
    double greatest = 0;
    for (rank_t v = 0; v < c->n; v++) {
        const struct digest *d = cluster_node(c, v);
        if (d == NULL) continue;
        for (uint32_t s = 0; s < d->own_count; s++)
            for (uint32_t u = 0; u < c->n; u++)
                greatest = fmax(greatest, fabs((double)blob_floats(d->reference)[u] -
                                               (double)blob_floats(d->own[s].snapshot)[u]));
    }
    return greatest;
}

uint64_t cluster_regenerated(const struct cluster *c)
{
    uint64_t sum = 0;
    for (rank_t v = 0; v < c->n; v++) {
        struct algo_report r;
        harness_report(c->h, v, &r);
        sum += r.tokens_regenerated;
    }
    return sum;
}

void cluster_settle(struct cluster *c, uint64_t train_us, uint64_t settle_us)
{
    harness_run_until(c->h, harness_now(c->h) + train_us);
    harness_stop_training(c->h);
    harness_run_until(c->h, harness_now(c->h) + settle_us);
}

/* To whom v's token of its i-th stream is on the way; RANK_NONE = to nobody, or it is there already. */
static rank_t under_way(const struct cluster *c, rank_t v, uint32_t i)
{
    const struct stream_seat *m = &cluster_node(c, v)->own[i];
    if (m->custody.place != CUSTODY_SENT) return RANK_NONE;
    const struct stream_seat *there = digest_seat(cluster_node(c, m->custody.sent_to), m->stream);
    bool arrived = token_stamp_compare(&m->custody.last, &there->custody.last) <= 0;
    return arrived ? RANK_NONE : m->custody.sent_to;
}

rank_t cluster_catch_in_flight(struct cluster *c, rank_t *to)
{
    for (;;) {
        harness_run_until(c->h, harness_now(c->h) + 700);
        for (rank_t v = 0; v < c->n; v++)
            for (uint32_t i = 0; i < cluster_node(c, v)->own_count; i++) {
                *to = under_way(c, v, i);
                if (*to != RANK_NONE) return v;
            }
    }
}
