/* Goal: whatever peers say of members, neighbours, places and models, a node neither stops nor grows without bound;
 * and once the lies are over, the cluster finds together again and trains.
 * Method: clusters of real nodes behind a network that lies (fuzz_nodes.h), seeded, so that a failure repeats; the
 * nodes' own checks and sanitizers watch. More: test_fuzz_nodes SEEDS [FIRST]. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/fuzz/fuzz_nodes.h"

static uint64_t seeds = 2, first_seed = 1;

static void lies_cost_links_and_nothing_else(void **state)
{
    (void)state;
    static const char *const shape[][2] = {
        {"gossip", "overlay"}, {"gossip", "ring"}, {"delicoco", "complete"}};
    uint32_t broken = 0;
    for (uint64_t seed = first_seed; seed < first_seed + seeds; seed++)
        for (size_t k = 0; k < sizeof shape / sizeof shape[0]; k++) {
            struct fuzz_nodes_plan plan = {.algorithm = shape[k][0],
                                           .topology = shape[k][1],
                                           .nodes = 3 + (uint32_t)(seed % 4),
                                           .min_nodes = 2,
                                           .seed = seed,
                                           .evil_events = 20000,
                                           .honest_us = 400000000};
            struct fuzz_nodes_tally t = {0};
            struct err_text why = {""};
            if (fuzz_nodes_run(&plan, &t, &why) != 0) {
                printf("%s, %s: %s\n", shape[k][0], shape[k][1], why.text);
                broken++;
            }
            printf("seed %llu %s: %llu delivered, %llu lies, %llu refused, %llu restarts, %llu jobs, %u "
                   "members\n",
                   (unsigned long long)seed, shape[k][0], (unsigned long long)t.delivered,
                   (unsigned long long)t.lies, (unsigned long long)t.refused, (unsigned long long)t.restarts,
                   (unsigned long long)t.trained, t.members_most);
            assert_true(t.lies > 100 && t.refused > 0 && t.restarts > 0 && t.trained > 0); /* it was tried */
        }
    assert_int_equal(broken, 0);
}

int main(int argc, char **argv)
{
    if (argc > 1) seeds = strtoull(argv[1], NULL, 10);
    if (argc > 2) first_seed = strtoull(argv[2], NULL, 10);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lies_cost_links_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
