/* Goal: DIGEST's acceptance list: one node is plain SGD; without delays it is close to local SGD; tours have the
 * length of a depth-first search; each hop is one transfer; a token killed after any hop costs nothing but what
 * nodes that died with it gave last. (Conservation and refused streams: test_digest.c, test_streams.c. Split
 * sizes: test_split.c. Orderings: test_orderings.py. Tour times: tests/acceptance.)
 * Method: the harness, with trainers that count (digest_fixture.h) or that follow a gradient. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/prng.h"
#include "tests/unit/digest_fixture.h"

/* -- SGD --------------------------------------------------------------------------------------- */

enum { DIM = 8, PERIOD = 10, NODES = 8 };

/* Node v's loss is |x - c_v|^2 / 2; its gradient comes with noise of the given size. */
struct descent {
    double step_size, noise;
    double centre[NODES][DIM];
    struct prng prng[NODES];
};

static void descent_init(struct descent *d, double step_size, double noise)
{
    struct prng p;
    prng_split(&p, 7, "centres", 0);
    d->step_size = step_size;
    d->noise = noise;
    for (rank_t v = 0; v < NODES; v++) {
        prng_split(&d->prng[v], 7, "noise", v);
        for (int j = 0; j < DIM; j++) d->centre[v][j] = prng_uniform(&p, -1, 1);
    }
}

static void descend(struct descent *d, rank_t v, float *x)
{
    for (int j = 0; j < DIM; j++) {
        double gradient = (double)x[j] - d->centre[v][j] + d->noise * prng_uniform(&d->prng[v], -1, 1);
        x[j] -= (float)(d->step_size * gradient);
    }
}

static uint32_t train_one_step(void *ctx, rank_t v, const float *x, uint32_t max_steps, float *delta)
{
    float after[DIM];
    (void)max_steps;
    memcpy(after, x, sizeof after);
    descend(ctx, v, after);
    for (int j = 0; j < DIM; j++) delta[j] = after[j] - x[j];
    return 1;
}

static void one_node_is_plain_sgd(void **state)
{
    (void)state;
    struct cluster c;
    struct descent by_digest, plain;
    float x[DIM] = {0}, x0[DIM] = {0};
    descent_init(&by_digest, 0.05, 1);
    descent_init(&plain, 0.05, 1);
    cluster_open(&c, "complete", 1, "digest:streams=single,sync_every=4", NULL, 1);
    harness_free(c.h);
    c.h = harness_new(&digest_type, "digest:streams=single,sync_every=4", &c.graph, c.weight, DIM, x0, 1,
                      PATIENCE);
    harness_set_trainer(c.h, train_one_step, &by_digest);
    for (uint64_t steps = 0; steps < 1000; steps++) {
        harness_run_until(c.h, 1 + steps * 5000);
        assert_int_equal(harness_steps(c.h, 0), steps);
        for (int j = 0; j < DIM; j++) assert_float_equal(harness_model(c.h, 0)[j], x[j], 1e-5);
        descend(&plain, 0, x);
    }
    assert_int_equal(harness_sent_vectors(c.h), 0);
    cluster_close(&c);
}

/* Equal data, no delays: all nodes are visited at one moment, every H steps. Two things differ from local SGD: the
 * visit comes in the midst of a step, which began from the model before it, and each node gets the sum as far as
 * it has been made, so that only the last one has all of it. */
static void without_delays_it_is_close_to_local_sgd(void **state)
{
    (void)state;
    struct graph g;
    struct choice choice;
    struct descent d;
    float x0[DIM] = {0}, local[DIM] = {0};
    CHECK(choice_parse(topology_table, topology_table_count, "--topology", "complete", &choice, NULL) == 0);
    CHECK(topology_build(&choice, NODES, 1, &g, NULL) == 0);
    descent_init(&d, 0.01, 0);
    struct harness *h =
        harness_new(&digest_type, "digest:streams=single,sync_every=10", &g, NULL, DIM, x0, 1, PATIENCE);
    harness_set_delay(h, 0, 0);
    harness_set_trainer(h, train_one_step, &d);
    double way = 0, worst = 0;
    for (uint64_t round = 1; round <= 40; round++) {
        float sum[DIM] = {0}, mean[DIM] = {0};
        for (rank_t v = 0; v < NODES; v++) {
            float x[DIM];
            memcpy(x, local, sizeof x);
            for (int k = 0; k < PERIOD; k++) descend(&d, v, x);
            for (int j = 0; j < DIM; j++) sum[j] += x[j] / NODES;
        }
        memcpy(local, sum, sizeof local);
        harness_run_until(h, round * PERIOD * 5000);
        for (rank_t v = 0; v < NODES; v++)
            for (int j = 0; j < DIM; j++) mean[j] += harness_model(h, v)[j] / NODES;
        for (int j = 0; j < DIM; j++) {
            way = fmax(way, fabs((double)local[j]));
            worst = fmax(worst, fabs((double)mean[j] - (double)local[j]));
        }
    }
    printf("local SGD goes %.3f, DIGEST is at most %.4f apart from it\n", way, worst);
    assert_true(way > 0.1);
    assert_true(worst < 0.1 * way);
    harness_free(h);
    graph_deinit(&g);
}

/* -- tours and transfers ----------------------------------------------------------------------- */

/* Hops of a depth-first search from v that ends with the last new node, backtracking counted. */
static void search_from(const struct graph *g, rank_t v, bool *seen, uint32_t *left, uint32_t *hops)
{
    seen[v] = true;
    (*left)--;
    for (uint32_t i = g->offset[v]; i < g->offset[v + 1] && *left > 0; i++) {
        if (seen[g->neighbour[i]]) continue;
        ++*hops;
        search_from(g, g->neighbour[i], seen, left, hops);
        *hops += *left > 0;
    }
}

static void a_tour_is_a_depth_first_search(void **state)
{
    (void)state;
    static const char *const topologies[] = {"er:p=0.3", "ring", "star", "regular:d=4", "complete"};
    for (size_t t = 0; t < 5; t++)
        for (uint64_t seed = 1; seed <= 5; seed++) {
            struct cluster c;
            bool seen[10] = {false};
            uint32_t left = 10, hops = 0;
            struct algo_report r;
            uint64_t transfers = 0;
            cluster_open(&c, topologies[t], 10, "digest:streams=single,sync_every=200", NULL, seed);
            harness_run_until(c.h, SECOND + SECOND / 2); /* step 200 is at 1 s; a hop takes 10 ms at most */
            search_from(&c.graph, 0, seen, &left, &hops);
            assert_true(hops >= 9 && hops <= 18);
            assert_int_equal(harness_sent(c.h, DIGEST_TOKEN), hops);
            for (rank_t v = 0; v < c.n; v++) {
                harness_report(c.h, v, &r);
                transfers += r.model_transfers;
            }
            assert_int_equal(transfers, hops);
            cluster_close(&c);
        }
}

/* The transfers that methods to compare with report: one per move of a walking model, two per pairwise exchange,
 * one per direction of a link and round. */
static void other_methods_count_transfers_alike(void **state)
{
    (void)state;
    extern const struct algo_type walk_type, gossip_type;
    const struct {
        const struct algo_type *type;
        const char *params;
        uint8_t kind;  /* of the messages that carry models */
        uint64_t unit; /* transfers of an exchange; 0 = rounds, in which every link carries one each way */
    } method[] = {{&walk_type, "walk", 1, 1},
                  {&gossip_type, "gossip:mode=async", 4, 2},
                  {&gossip_type, "gossip:mode=sync,every=2", 6, 0}};
    for (size_t i = 0; i < 3; i++) {
        struct graph g;
        struct choice choice;
        float x0[10] = {0};
        uint64_t transfers = 0, mixes = 0;
        CHECK(choice_parse(topology_table, topology_table_count, "--topology", "ring", &choice, NULL) == 0);
        CHECK(topology_build(&choice, 10, 1, &g, NULL) == 0);
        struct harness *h = harness_new(method[i].type, method[i].params, &g, NULL, 10, x0, 1, PATIENCE);
        harness_run_until(h, SECOND);
        harness_stop_training(h);
        harness_run_until(h, 2 * SECOND);
        for (rank_t v = 0; v < 10; v++) {
            struct algo_report r;
            harness_report(h, v, &r);
            transfers += r.model_transfers;
            mixes += r.mixes;
            if (method[i].unit == 0) assert_int_equal(r.model_transfers % graph_degree(&g, v), 0);
        }
        assert_true(transfers > 20);
        assert_int_equal(transfers, harness_sent(h, method[i].kind));
        if (method[i].unit == 2) assert_int_equal(transfers % 2, 0);
        if (method[i].unit == 2) assert_int_equal(transfers, mixes); /* both sides mix */
        harness_free(h);
        graph_deinit(&g);
    }
}

/* -- a killed token ---------------------------------------------------------------------------- */

struct ledger {
    uint64_t given[16][3]; /* steps handed over with the last sync, and with those before */
    uint64_t sequence[16]; /* of that sync */
};

static void enter(void *ctx, struct harness *h, rank_t v, const struct algo_event *event)
{
    struct ledger *l = ctx;
    const struct digest *d = (const struct digest *)harness_algo(h, v);
    (void)event;
    if (d->own[0].custody.last.sequence == l->sequence[v]) return;
    l->sequence[v] = d->own[0].custody.last.sequence;
    memmove(&l->given[v][1], &l->given[v][0], 2 * sizeof l->given[v][0]);
    l->given[v][0] = d->steps_handed_over;
}

/* Runs until hop k of some tour after the second is under way; returns its sender and in *to its receiver. */
static rank_t catch_hop(struct cluster *c, uint64_t k, rank_t *to)
{
    for (;;) {
        rank_t from = cluster_catch_in_flight(c, to);
        const struct stream_seat *m = &cluster_node(c, from)->own[0];
        if (m->round > 2 && m->hops == k) return from;
    }
}

/* The receiver never gets it; when `dies`, the sender is gone as well. */
static void kill_after_hop(const char *params, const char *topology, uint64_t k, bool dies)
{
    struct cluster c;
    struct ledger ledger = {.sequence = {0}};
    cluster_open(&c, topology, 8, params, NULL, 20 + k);
    harness_set_hook(c.h, enter, &ledger);
    rank_t to, from = catch_hop(&c, k, &to);
    harness_link_down(c.h, from, to);
    if (dies) harness_crash(c.h, from);
    uint64_t given = ledger.given[from][k == 1 ? 2 : 1]; /* a tour's root synced as the token came, too */
    harness_run_until(c.h, harness_now(c.h) + 8 * PATIENCE);
    if (!dies) harness_link_up(c.h, from, to);
    cluster_settle(&c, 3 * SECOND, 20 * SECOND);
    assert_int_equal(cluster_regenerated(&c), 1);
    for (rank_t v = 0; v < c.n; v++) {
        if (dies && v == from) continue;
        for (rank_t u = 0; u < c.n; u++) {
            uint64_t steps = dies && u == from ? given : harness_steps(c.h, u);
            double truth = c.weight[u] * (double)steps;
            if (fabs((double)harness_model(c.h, v)[u] - truth) > 1e-3 * (1 + truth))
                fail_msg("%s on %s, hop %d, node %u %s: node %u holds %g of node %u instead of %g", params,
                         topology, (int)k, from, dies ? "died" : "lives", v, (double)harness_model(c.h, v)[u],
                         u, truth);
        }
    }
    cluster_close(&c);
}

static void a_token_killed_after_any_hop_costs_what_the_dead_gave_last(void **state)
{
    (void)state;
    for (uint64_t k = 1; k <= 7; k++)
        for (int dies = 0; dies < 2; dies++) {
            kill_after_hop("digest:streams=single,sync_every=5,reweigh=no", "complete", k, dies == 1);
            kill_after_hop("digest:streams=single,sync_every=5,reweigh=no", "regular:d=4", k, dies == 1);
            kill_after_hop("digest:streams=single,sync_every=5,hop=walk,reweigh=no", "complete", k,
                           dies == 1);
        }
}

/* With several streams a token made anew takes a new plan, which costs news on its way (docs/algorithms.md). While
 * the sender lives and the link comes back in time, no hop of any stream can cost anything. */
static void many_streams_repeat_any_hop_exactly(void **state)
{
    (void)state;
    static const char *const params[] = {
        "digest:streams=path,sync_every=5", "digest:streams=star,sync_every=5",
        "digest:streams=edge,sync_every=5", "digest:streams=path,sync_every=5,hop=walk"};
    for (size_t i = 0; i < 4; i++) {
        struct cluster c;
        cluster_open(&c, "er:p=0.4", 8, params[i], NULL, 5 + i);
        for (int hop = 0; hop < 25; hop++) {
            harness_run_until(c.h, harness_now(c.h) + 37000);
            rank_t to, from = cluster_catch_in_flight(&c, &to);
            harness_link_down(c.h, from, to);
            harness_run_until(c.h, harness_now(c.h) + PATIENCE / 3);
            harness_link_up(c.h, from, to);
        }
        cluster_settle(&c, 2 * SECOND, 20 * SECOND);
        if (cluster_mistakes(&c) != 0) fail_msg("%s: %u mistakes", params[i], cluster_mistakes(&c));
        assert_int_equal(cluster_regenerated(&c), 0);
        cluster_close(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_node_is_plain_sgd),
        cmocka_unit_test(without_delays_it_is_close_to_local_sgd),
        cmocka_unit_test(a_tour_is_a_depth_first_search),
        cmocka_unit_test(other_methods_count_transfers_alike),
        cmocka_unit_test(a_token_killed_after_any_hop_costs_what_the_dead_gave_last),
        cmocka_unit_test(many_streams_repeat_any_hop_exactly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
