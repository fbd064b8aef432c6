/* Goal: with any number of levels and after any faults, the nodes of a cluster that is whole again are
 * soon in step: every all-reduce of every level has all of its members, and nobody is an average behind.
 * Method: crashes, restarts, and links that go and come, at random in virtual time; then all is healed.
 * Two halves of a group that wait for each other in turn, or a node that counts as fresh for ever, would
 * never get there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "algo/allreduce/internal.h"
#include "algo/hsgd/internal.h"
#include "base/check.h"
#include "tests/unit/harness_faults.h"

extern const struct algo_type hsgd_type;

enum { NODES = 8, FAULTS = 40 };

static const uint64_t patience_us = 400000;

static void heal(struct harness *h)
{
    for (rank_t a = 0; a < NODES; a++) {
        if (harness_algo(h, a) == NULL) harness_restart(h, a, true);
        for (rank_t b = 0; b < a; b++) harness_link_up(h, a, b);
    }
}

static bool is_in_step(const struct harness *h)
{
    const struct hsgd *first = (const struct hsgd *)harness_algo(h, 0);
    uint64_t slack = hsgd_period(&first->plan, 0, 0);
    for (rank_t r = 0; r < NODES; r++) {
        const struct hsgd *s = (const struct hsgd *)harness_algo(h, r);
        for (uint32_t l = 0; l < s->plan.level_count; l++) {
            const struct hsgd_slot *slot = &s->level[l].now;
            if (slot->sum->phase != PHASE_RUN || slot->sum->view_count != slot->member_count) return false;
        }
        if (s->step + slack < first->step || first->step + slack < s->step) return false;
    }
    return true;
}

/* Whether they are in step after so many patiences, and stay so for ten. */
static bool storm(const char *params, uint64_t seed, uint32_t patience_max)
{
    struct graph g = {0};
    struct choice complete;
    static const float x0[NODES] = {0};
    CHECK(choice_parse(topology_table, topology_table_count, "--topology", "complete", &complete, NULL) == 0);
    CHECK(topology_build(&complete, NODES, 1, &g, NULL) == 0);
    struct harness *h = harness_new(&hsgd_type, params, &g, NULL, NODES, x0, seed, patience_us);
    struct prng random;
    prng_split(&random, seed, "storm", 0);
    for (int i = 0; i < FAULTS; i++) {
        harness_run_until(h, harness_now(h) + prng_below(&random, i % 7 == 0 ? 2000000 : 60000));
        harness_disturb(h, &random, NODES);
    }
    heal(h);
    uint32_t since = 0;
    for (uint32_t i = 1; i <= 4 * (patience_max + 10); i++) {
        harness_run_until(h, harness_now(h) + patience_us / 4);
        if (!is_in_step(h)) since = i;
    }
    harness_free(h);
    graph_deinit(&g);
    return since <= 4 * patience_max;
}

static void after_any_faults_all_levels_are_in_step_again(void **state)
{
    (void)state;
    static const struct {
        const char *params;
        uint32_t patience_max; /* thrice the greatest that was seen */
    } row[] = {
        {"hsgd:periods=8-4,groups=2", 6},
        {"hsgd:periods=8-4-2,groups=2-2", 9},
        {"hsgd:periods=16-8-4-2,groups=2-2-2", 15},
        {"hsgd:periods=8-4-4/2/4/2,groups=2-2", 9},
        {"hsgd:periods=8-4-2,groups=2-2,grouping=random,redraw=yes", 60},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        for (uint64_t seed = 0; seed < 20; seed++)
            if (!storm(row[i].params, seed, row[i].patience_max))
                fail_msg("%s, seed %u: not in step after %u patiences", row[i].params, (unsigned)seed,
                         row[i].patience_max);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(after_any_faults_all_levels_are_in_step_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
