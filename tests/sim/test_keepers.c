/* Goal: a keeper is a member without a place that follows the model of those who train and hands it on: to new ones
 * when all trainers are gone, to another keeper, never over a model that is ahead, and never trains itself.
 * Method: clusters of the plain algorithm with real membership in virtual time (plain_cluster.h), whose last nodes are
 * keepers; deaths, returns and new members between questions. */
#include "tests/sim/plain_cluster.h"

#include "agent/node/places.h"
#include "net/membership/membership.h"

#define KEEP_US (2u * SECOND)

static void keepers_init(struct fixture *f, uint32_t trainers, uint32_t keepers, uint64_t seed)
{
    fixture_init(f, trainers + keepers, seed);
    assert_int_equal(
        choice_parse(latency_table, latency_table_count, "--latency", "exp:mean=5ms", &f->latency, NULL), 0);
    assert_int_equal(choice_parse(step_time_table, step_time_table_count, "--step-time",
                                  "uniform:low=20ms,high=60ms", &f->step_time, NULL),
                     0);
    f->setup.dynamic = true;
    f->setup.keepers = keepers;
    f->setup.keep_every_us = KEEP_US;
    f->setup.places = trainers;
    f->setup.patience_us = 6 * SECOND;
}

static struct node_report report_of(const struct simulation *s, uint32_t v)
{
    struct node_report r;
    node_report(simulation_node(s, v), &r);
    return r;
}

static uint64_t progress_of(const struct simulation *s, uint32_t v)
{
    return report_of(s, v).progress;
}

/* Lets it go on until nodes first..last train; fails after 60 s. */
static void wait_for_training(struct simulation *s, uint32_t first, uint32_t last)
{
    for (uint32_t round = 0; round < 600; round++) {
        uint32_t there = 0;
        for (uint32_t v = first; v <= last; v++) there += report_of(s, v).phase == NODE_TRAINING;
        if (there == last - first + 1) return;
        let_go_on(s, 0.1);
    }
    for (uint32_t v = first; v <= last; v++)
        print_message("node %u: phase %d\n", v, (int)report_of(s, v).phase);
    fail_msg("not all of %u to %u train", first, last);
}

static void assert_keeps(const struct simulation *s, uint32_t v)
{
    const struct node_report r = report_of(s, v);
    assert_int_equal(r.phase, NODE_KEEPING);
    assert_int_equal(r.place, RANK_NONE);
    assert_null(node_algo(simulation_node(s, v)));
    assert_int_equal(membership_self(node_membership(simulation_node(s, v)))->meta[META_PLACE], 0);
}

static void crash(struct simulation *s, uint32_t first, uint32_t last)
{
    for (uint32_t v = first; v <= last; v++) simulation_crash(s, v, true);
}

static void join(struct simulation *s, uint32_t v, node_id id, uint32_t seed)
{
    const struct simulation_life life = {.id = id, .seed = seed};
    assert_int_equal(simulation_join(s, v, &life, NULL), 0);
}

/* -- following --------------------------------------------------------------------------------- */

static void a_keeper_founds_nothing_takes_no_place_and_follows(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 6; seed++) {
        struct fixture f;
        char text[NODE_WAIT_MAX];
        keepers_init(&f, 3, 1, seed);
        f.setup.start_count = 2;
        struct simulation *s = open_simulation(&f);
        join(s, 3, 2, (uint32_t)(seed % 2)); /* its id comes before those of trainers to come */
        let_go_on(s, 5);
        assert_string_equal(node_waits_for(simulation_node(s, 0), text), "waiting for members: 2 of 3 known");
        assert_string_equal(node_waits_for(simulation_node(s, 3), text),
                            "waiting for a model to keep: nobody trains");
        join(s, 2, 5, 3); /* the keeper is as good as anybody to ask for the others */
        wait_for_training(s, 0, 2);
        assert_int_equal(report_of(s, 2).rank, 2);
        assert_false(node_algo(simulation_node(s, 2))->config.rejoining);
        let_go_on(s, 20);
        assert_keeps(s, 3);
        uint64_t before = progress_of(s, 3);
        assert_true(before > 100);
        let_go_on(s, 10);
        assert_true(progress_of(s, 3) > before + 50);
        uint64_t best = 0;
        for (uint32_t v = 0; v < 3; v++) best = progress_of(s, v) > best ? progress_of(s, v) : best;
        assert_true(progress_of(s, 3) <= best);
        assert_non_null(strstr(node_waits_for(simulation_node(s, 3), text), "keeping a model of "));
        assert_int_equal(refused(s), 0);
        simulation_free(s);
    }
}

/* Fixed topologies and overlays alike: nobody has the keeper for a neighbour. */
static void a_keeper_is_nobodys_neighbour(void **state)
{
    (void)state;
    for (int overlay = 0; overlay <= 1; overlay++) {
        struct fixture f;
        keepers_init(&f, 5, 2, 11);
        f.setup.overlay = overlay;
        if (overlay) assert_int_equal(algo_choose("gossip:mode=async", &f.params, &f.setup.algo, NULL), 0);
        assert_int_equal(choice_parse(topology_table, topology_table_count, "--topology",
                                      overlay ? "overlay" : "ring", &f.topology, NULL),
                         0);
        struct simulation *s = open_simulation(&f);
        wait_for_training(s, 0, 4);
        let_go_on(s, 40);
        for (uint32_t v = 0; v < 5; v++) {
            assert_int_equal(report_of(s, v).neighbours_up, overlay ? 4 : 2);
            for (uint32_t k = 5; k < 7; k++) assert_false(node_overlay_has(simulation_node(s, v), k));
        }
        for (uint32_t k = 5; k < 7; k++) assert_keeps(s, k);
        assert_int_equal(refused(s), 0);
        simulation_free(s);
    }
}

/* -- giving ------------------------------------------------------------------------------------ */

/* Who begins without a model has seen none, one that has moved from the common start has been given one. */
static void when_all_trainers_are_gone_new_ones_begin_where_the_keeper_is(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 8; seed++) {
        struct fixture f;
        keepers_init(&f, 4, 1, 20 + seed);
        struct algo_type type = plain;
        type.own_start = seed % 2 != 0;
        f.setup.algo = &type;
        struct simulation *s = open_simulation(&f);
        wait_for_training(s, 0, 3);
        let_go_on(s, 15);
        crash(s, 0, 3);
        uint64_t kept = progress_of(s, 4);
        assert_true(kept > 100);
        let_go_on(s, seed < 4 ? 60 : 0.5); /* long after they were declared dead, or before */
        for (uint32_t v = 0; v < 4; v++) join(s, v, 100 + v, v == 0 ? 4 : v - 1);
        uint32_t founders = 0;
        wait_for_training(s, 0, 3);
        for (uint32_t v = 0; v < 4; v++) {
            const struct algo_config *config = &node_algo(simulation_node(s, v))->config;
            assert_true(progress_of(s, v) >= kept);
            assert_non_null(config->start); /* x0 has left the common start */
            founders += !config->rejoining;
        }
        if (!type.own_start) assert_int_equal(founders, 1);
        let_go_on(s, 15);
        assert_true(progress_of(s, 4) > kept);
        assert_keeps(s, 4);
        assert_int_equal(refused(s), 0);
        simulation_free(s);
    }
}

static void a_keeper_gets_the_model_from_a_keeper_when_nobody_trains(void **state)
{
    (void)state;
    struct fixture f;
    keepers_init(&f, 2, 2, 31);
    f.setup.start_count = 3;
    struct simulation *s = open_simulation(&f);
    wait_for_training(s, 0, 1);
    let_go_on(s, 15);
    crash(s, 0, 1);
    let_go_on(s, 60);
    join(s, 3, 77, 2);
    let_go_on(s, 5);
    assert_true(progress_of(s, 2) > 100);
    assert_int_equal(progress_of(s, 3), progress_of(s, 2));
    assert_memory_equal(node_model(simulation_node(s, 3)), node_model(simulation_node(s, 2)),
                        DIM * sizeof(float));
    simulation_free(s);
}

/* -- old and new models ------------------------------------------------------------------------ */

/* A keeper comes back with a model of `steps`: behind those who train, or ahead of them. */
static void a_keepers_model_never_replaces_that_of_trainers(void **state)
{
    (void)state;
    static const uint64_t steps[] = {5, 1000000};
    for (size_t i = 0; i < 2; i++) {
        struct fixture f;
        const float saved[DIM] = {900, 900, 900, 900};
        keepers_init(&f, 4, 1, 41);
        f.setup.start_count = 3;
        f.setup.min_nodes = 3;
        struct simulation *s = open_simulation(&f);
        wait_for_training(s, 0, 2);
        let_go_on(s, 15);
        const struct simulation_life life = {.id = 50, .seed = 0, .x0 = saved, .steps = steps[i]};
        assert_int_equal(simulation_join(s, 4, &life, NULL), 0);
        let_go_on(s, 15);
        join(s, 3, 60, 4);
        wait_for_training(s, 3, 3);
        assert_true(progress_of(s, 3) > 100 && progress_of(s, 3) < 5000); /* from those who train */
        for (uint32_t v = 0; v < 4; v++) assert_true(node_model(simulation_node(s, v))[0] < 10);
        assert_true(i == 0 ? progress_of(s, 4) > 100 : progress_of(s, 4) == steps[1]);
        assert_int_equal(node_model(simulation_node(s, 4))[0] < 10, i == 0);
        simulation_free(s);
    }
}

/* All start again with what they saved: of the members with a place and the keepers the one with most progress counts,
 * and with a method without a common start nobody gives up steps of its own. */
static void founders_with_steps_of_their_own_take_the_keepers_only_when_it_has_more(void **state)
{
    (void)state;
    for (int own_start = 0; own_start <= 1; own_start++)
        for (int ahead = 0; ahead <= 1; ahead++) {
            struct fixture f;
            float saved[4][DIM] = {{1}, {2}, {3}, {4}};
            keepers_init(&f, 3, 1, 51);
            f.setup.start_count = 1;
            struct algo_type type = plain;
            type.own_start = own_start != 0;
            f.setup.algo = &type;
            struct simulation *s = open_simulation(&f);
            simulation_crash(s, 0, true);
            for (uint32_t i = 0; i < 4; i++) {
                uint32_t v = 3 - i; /* the keeper first */
                const struct simulation_life life = {.id = 100 + v,
                                                     .seed = 3,
                                                     .x0 = saved[v],
                                                     .steps = v == 3 ? (ahead ? 5000 : 500) : 1000 + v};
                assert_int_equal(simulation_join(s, v, &life, NULL), 0);
            }
            wait_for_training(s, 0, 2);
            bool taken = ahead && !own_start;
            for (uint32_t v = 0; v < 3; v++) assert_int_equal(progress_of(s, v) >= 5000, taken);
            simulation_free(s);
        }
}

/* Founders wait for its model when it goes. */
static void a_keeper_that_goes_meanwhile_holds_nobody_up(void **state)
{
    (void)state;
    struct fixture f;
    const float saved[DIM] = {7, 7, 7, 7};
    keepers_init(&f, 2, 1, 61);
    f.setup.start_count = 1;
    struct simulation *s = open_simulation(&f);
    const struct simulation_life life = {.id = 9, .seed = 0, .x0 = saved, .steps = 4000};
    assert_int_equal(simulation_join(s, 2, &life, NULL), 0);
    let_go_on(s, 3);
    sim_cut(simulation_world(s), 1, 2); /* node 0 alone keeps it alive for the second */
    join(s, 1, 8, 0);
    let_go_on(s, 0.3);
    sim_cut(simulation_world(s), 0, 2);
    wait_for_training(s, 0, 1);
    simulation_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_keeper_founds_nothing_takes_no_place_and_follows),
        cmocka_unit_test(a_keeper_is_nobodys_neighbour),
        cmocka_unit_test(when_all_trainers_are_gone_new_ones_begin_where_the_keeper_is),
        cmocka_unit_test(a_keeper_gets_the_model_from_a_keeper_when_nobody_trains),
        cmocka_unit_test(a_keepers_model_never_replaces_that_of_trainers),
        cmocka_unit_test(founders_with_steps_of_their_own_take_the_keepers_only_when_it_has_more),
        cmocka_unit_test(a_keeper_that_goes_meanwhile_holds_nobody_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
