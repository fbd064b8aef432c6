#include "tests/unit/gossip_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

struct graph graph_make(const char *text, uint32_t n)
{
    struct choice c;
    struct err_text why = {""};
    struct graph g;
    if (choice_parse(topology_table, topology_table_count, "--topology", text, &c, &why) != 0 ||
        topology_build(&c, n, 7, &g, &why) != 0)
        fail_msg("%s", why.text);
    return g;
}

struct harness *harness_make(const struct algo_type *type, const char *params, const struct graph *g,
                             uint64_t seed)
{
    float zero[NODE_MAX] = {0};
    assert_true(g->node_count <= NODE_MAX);
    return harness_new(type, params, g, NULL, g->node_count, zero, seed, PATIENCE);
}

const struct gossip *inside(const struct harness *h, rank_t r)
{
    return (const struct gossip *)harness_algo(h, r);
}

double conservation_error(const struct harness *h, uint32_t n)
{
    double worst = 0;
    for (rank_t r = 0; r < n; r++) {
        double sum = 0;
        for (rank_t v = 0; v < n; v++) sum += (double)harness_model(h, v)[r];
        worst = fmax(worst, fabs(sum - (double)harness_steps(h, r)));
    }
    return worst;
}

double consensus_error(const struct harness *h, uint32_t n)
{
    double worst = 0;
    for (rank_t r = 0; r < n; r++) {
        double sum = 0;
        for (rank_t v = 0; v < n; v++) sum += (double)harness_model(h, v)[r];
        for (rank_t v = 0; v < n; v++) worst = fmax(worst, fabs((double)harness_model(h, v)[r] - sum / n));
    }
    return worst;
}

struct algo_report report_of(const struct harness *h, rank_t r)
{
    struct algo_report report;
    harness_report(h, r, &report);
    return report;
}
