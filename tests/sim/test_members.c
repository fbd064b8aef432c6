/* Goal: whole nodes with real membership (SWIM in virtual time) found an experiment, come late, fetch the model, take
 * the places of the dead, come back to their own, survive a partition; and in the end everybody knows the same
 * members, holds a place of its own and trains (node.h, places.h).
 * Method: clusters of the plain algorithm whose nodes know only whom to dial; the same few questions are asked after
 * each event. A planted bug, two members of one place, shows that the questions find what they look for. */
#include "tests/sim/plain_cluster.h"

#include "agent/node/places.h"
#include "net/membership/membership.h"

/* -- a cluster of come and go ---------------------------------------------------------------------- */

static void members_init(struct fixture *f, uint32_t nodes, uint64_t seed)
{
    fixture_init(f, nodes, seed);
    assert_int_equal(
        choice_parse(latency_table, latency_table_count, "--latency", "exp:mean=5ms", &f->latency, NULL), 0);
    assert_int_equal(choice_parse(step_time_table, step_time_table_count, "--step-time",
                                  "uniform:low=20ms,high=60ms", &f->step_time, NULL),
                     0);
    f->setup.dynamic = true;
    f->setup.patience_us = 6 * SECOND; /* links: silent after a second */
}

static const struct membership *members_of(const struct simulation *s, uint32_t v)
{
    return node_membership(simulation_node(s, v));
}

static struct node_report report_of(const struct simulation *s, uint32_t v)
{
    struct node_report r;
    node_report(simulation_node(s, v), &r);
    return r;
}

/* "" when all living nodes have one view, places of their own, and have trained since `steps` was taken. */
static const char *trouble(const struct simulation *s, const uint64_t *steps, char text[160])
{
    bool taken[NODES_MAX] = {false};
    uint64_t hash = 0;
    bool any = false;
    for (uint32_t v = 0; v < simulation_node_count(s); v++) {
        if (simulation_node(s, v) == NULL) continue;
        struct node_report r = report_of(s, v);
        uint64_t mine = membership_view_hash(members_of(s, v));
        snprintf(text, 160, "node %u: phase %d, rank %u, %u known", v, (int)r.phase, r.rank, r.members_known);
        if (r.rank == RANK_NONE || r.rank >= NODES_MAX || taken[r.rank]) return text;
        if (any && mine != hash) return text;
        if (steps != NULL && r.progress <= steps[v]) return text;
        taken[r.rank] = any = true;
        hash = mine;
    }
    text[0] = '\0';
    return text;
}

/* Lets the cluster go on until nothing is wrong; fails after `seconds`. Returns the virtual time it took. */
static double settle(struct simulation *s, double seconds, const char *what)
{
    char text[160];
    uint64_t began_us = simulation_now_us(s), steps[NODES_MAX] = {0};
    for (uint32_t v = 0; v < simulation_node_count(s); v++)
        if (simulation_node(s, v) != NULL) steps[v] = report_of(s, v).progress;
    for (double waited = 0; waited < seconds; waited += 0.1) {
        let_go_on(s, 0.1);
        if (trouble(s, steps, text)[0] == '\0') {
            assert_int_equal(refused(s), 0);
            return (double)(simulation_now_us(s) - began_us) / SECOND;
        }
    }
    fail_msg("%s: %s", what, text);
    return 0;
}

/* -- founding -------------------------------------------------------------------------------------- */

static void all_founders_take_the_place_of_their_rank(void **state)
{
    (void)state;
    double slowest = 0;
    for (uint64_t seed = 0; seed < 10; seed++)
        for (uint32_t nodes = 1; nodes <= NODES_MAX; nodes += nodes < 4 ? 1 : 10) {
            struct fixture f;
            members_init(&f, nodes, seed);
            struct simulation *s = open_simulation(&f);
            double took = settle(s, 20, "founding");
            if (took > slowest) slowest = took;
            for (uint32_t v = 0; v < nodes; v++) assert_int_equal(report_of(s, v).rank, v);
            for (uint32_t v = 0; v < nodes; v++)
                assert_false(node_algo(simulation_node(s, v))->config.rejoining);
            let_go_on(s, 2);
            assert_int_equal(nodes_with_every_link(s), nodes > 1 ? nodes : 0);
            simulation_free(s);
        }
    printf("founded in at most %.1f s\n", slowest);
}

static void nothing_begins_before_enough_are_known(void **state)
{
    (void)state;
    struct fixture f;
    char text[NODE_WAIT_MAX];
    members_init(&f, 4, 5);
    f.setup.start_count = 2;
    f.setup.min_nodes = 3;
    struct simulation *s = open_simulation(&f);
    let_go_on(s, 10);
    assert_int_equal(report_of(s, 0).phase, NODE_JOINING);
    assert_string_equal(node_waits_for(simulation_node(s, 0), text), "waiting for members: 2 of 3 known");
    const struct simulation_life third = {.id = 2, .seed = 1};
    assert_int_equal(simulation_join(s, 2, &third, NULL), 0);
    settle(s, 10, "founding by three");
    assert_string_equal(node_waits_for(simulation_node(s, 0), text), "");
    simulation_free(s);
}

/* -- coming late ----------------------------------------------------------------------------------- */

static void a_late_comer_fetches_the_model_and_trains(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 10; seed++) {
        struct fixture f;
        members_init(&f, 4, seed);
        f.setup.start_count = 3;
        f.setup.min_nodes = 3;
        struct simulation *s = open_simulation(&f);
        settle(s, 10, "founding");
        let_go_on(s, 20);
        assert_true(report_of(s, 0).progress > 100);
        const struct simulation_life late = {.id = 77, .seed = (uint32_t)(seed % 3)};
        assert_int_equal(simulation_join(s, 3, &late, NULL), 0);
        settle(s, 10, "the late comer");
        assert_true(node_algo(simulation_node(s, 3))->config.rejoining);
        assert_int_equal(report_of(s, 3).rank, 3);
        assert_true(report_of(s, 3).progress > 100); /* what it fetched has steps behind it */
        simulation_free(s);
    }
}

/* Three come at once, and the one who trains may give a model in five seconds: at any time it has given no more than
 * that and one ahead, and in the end all have theirs. Without the cap they have it at once. */
static void a_cap_holds_over_all_newcomers_and_all_complete(void **state)
{
    (void)state;
    enum { MODEL = DIM * sizeof(float), MODEL_S = 5 };
    for (uint64_t seed = 0; seed < 4; seed++)
        for (int capped = 0; capped < 2; capped++) {
            struct fixture f;
            members_init(&f, 4, seed);
            f.setup.start_count = f.setup.min_nodes = 1;
            f.setup.give_bytes_s = capped ? MODEL / MODEL_S : 0;
            struct simulation *s = open_simulation(&f);
            let_go_on(s, 20);
            for (uint32_t v = 1; v < 4; v++) {
                const struct simulation_life late = {.id = 70 + v, .seed = 0};
                assert_int_equal(simulation_join(s, v, &late, NULL), 0);
            }
            uint64_t began_us = simulation_now_us(s), all_us = 0;
            while (all_us == 0 && simulation_now_us(s) < began_us + 60 * SECOND) {
                let_go_on(s, 0.1);
                uint64_t took_us = simulation_now_us(s) - began_us, given = report_of(s, 0).bytes_given;
                if (capped) assert_true(given * MODEL_S * SECOND <= MODEL * (took_us + MODEL_S * SECOND));
                bool all = true;
                for (uint32_t v = 1; v < 4; v++) all = all && report_of(s, v).phase == NODE_TRAINING;
                if (all) all_us = took_us;
            }
            assert_true(all_us > 0);
            if (!capped) assert_true(all_us < 5 * SECOND);
            settle(s, 10, "all with a model");
            simulation_free(s);
        }
}

static void a_fifth_of_four_waits_until_a_place_is_vacant(void **state)
{
    (void)state;
    struct fixture f;
    char text[NODE_WAIT_MAX];
    members_init(&f, 5, 3);
    f.setup.places = 4;
    f.setup.start_count = 4;
    struct simulation *s = open_simulation(&f);
    settle(s, 10, "founding");
    const struct simulation_life fifth = {.id = 50, .seed = 2};
    assert_int_equal(simulation_join(s, 4, &fifth, NULL), 0);
    let_go_on(s, 10);
    assert_int_equal(report_of(s, 4).phase, NODE_JOINING);
    assert_string_equal(node_waits_for(simulation_node(s, 4), text),
                        "all 4 places are taken: waiting for one");
    simulation_crash(s, 1, true);
    settle(s, 40, "the heir");
    assert_int_equal(report_of(s, 4).rank, 1);
    simulation_free(s);
}

/* -- coming back ----------------------------------------------------------------------------------- */

static void a_node_that_comes_back_has_its_old_place(void **state)
{
    (void)state;
    for (uint32_t victim = 0; victim < 6; victim++) {
        struct fixture f;
        members_init(&f, 6, 20 + victim);
        struct simulation *s = open_simulation(&f);
        settle(s, 10, "founding");
        let_go_on(s, 5);
        simulation_crash(s, victim, victim % 2 == 0);
        let_go_on(s, victim < 3 ? 0.2 : 30); /* before anybody knows, or long after it was declared dead */
        assert_int_equal(simulation_restart(s, victim, NULL), 0);
        settle(s, 30, "the return");
        assert_int_equal(report_of(s, victim).rank, victim);
        assert_true(node_algo(simulation_node(s, victim))->config.rejoining);
        simulation_free(s);
    }
}

static void a_new_node_takes_the_place_of_a_dead_one(void **state)
{
    (void)state;
    struct fixture f;
    members_init(&f, 6, 31);
    struct simulation *s = open_simulation(&f);
    settle(s, 10, "founding");
    simulation_crash(s, 2, true);
    const struct simulation_life heir = {.id = 1000, .seed = 4};
    assert_int_equal(simulation_join(s, 2, &heir, NULL), 0);
    settle(s, 60, "the heir");
    assert_int_equal(report_of(s, 2).rank, 2);
    simulation_free(s);
}

static void who_leaves_is_known_to_have_left_at_once(void **state)
{
    (void)state;
    struct fixture f;
    members_init(&f, 8, 41);
    struct simulation *s = open_simulation(&f);
    settle(s, 10, "founding");
    let_go_on(s, 5);
    simulation_leave(s, 3);
    let_go_on(s, 0.2);
    simulation_crash(s, 3, true);
    let_go_on(s, 1.8);
    for (uint32_t v = 0; v < 8; v++) {
        if (v == 3) continue;
        assert_int_equal(membership_find(members_of(s, v), 3)->state, MEMBER_LEFT);
    }
    settle(s, 10, "the rest");
    simulation_free(s);
}

/* All at once, each with what it saved: own steps and place. */
static void a_cluster_that_starts_again_goes_on_from_what_was_saved(void **state)
{
    (void)state;
    for (int own_start = 0; own_start <= 1; own_start++) {
        struct fixture f;
        members_init(&f, 5, 61);
        f.setup.start_count = 1; /* the others come at once */
        struct algo_type type = plain;
        type.own_start = own_start != 0;
        f.setup.algo = &type;
        struct simulation *s = open_simulation(&f);
        simulation_crash(s, 0, true);
        float saved[5][DIM];
        for (uint32_t v = 0; v < 5; v++) {
            for (size_t i = 0; i < DIM; i++) saved[v][i] = (float)(v + 1);
            const struct simulation_life life = {.id = 100 + v,
                                                 .seed = v == 0 ? 0 : v - 1,
                                                 .x0 = saved[v],
                                                 .steps = 1000 + (v == 3 ? 500 : v),
                                                 .had_place = true,
                                                 .place = 4 - v,
                                                 .claimed = 10 + v};
            assert_int_equal(simulation_join(s, v, &life, NULL), 0);
        }
        settle(s, 20, "the second founding");
        for (uint32_t v = 0; v < 5; v++) {
            assert_int_equal(report_of(s, v).rank, 4 - v);
            assert_true(report_of(s, v).progress > (own_start ? 1000u : 1500u)); /* of the one with most */
            assert_int_equal(node_algo(simulation_node(s, v))->config.rejoining, !own_start && v != 3);
        }
        simulation_free(s);
    }
}

/* -- partitions ------------------------------------------------------------------------------------ */

static void cut_in_two(struct simulation *s, uint32_t nodes, bool heal)
{
    for (uint32_t a = 0; a < nodes / 2; a++)
        for (uint32_t b = nodes / 2; b < nodes; b++) {
            if (heal)
                sim_heal(simulation_world(s), a, b);
            else
                sim_cut(simulation_world(s), a, b);
        }
}

/* Eight start, the seed is killed, four more come through any survivor, then halves part and meet. */
static void comings_goings_and_a_partition_end_in_one_cluster(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 6; seed++) {
        struct fixture f;
        members_init(&f, 12, 100 + seed);
        f.setup.start_count = 8;
        f.setup.min_nodes = 8;
        struct simulation *s = open_simulation(&f);
        settle(s, 10, "founding");
        let_go_on(s, 5);
        simulation_crash(s, 0, true);
        for (uint32_t v = 8; v < 12; v++) {
            const struct simulation_life late = {.id = 500 + v, .seed = 1 + (uint32_t)((seed + v) % 7)};
            assert_int_equal(simulation_join(s, v, &late, NULL), 0);
        }
        settle(s, 60, "eleven");
        assert_int_equal(simulation_restart(s, 0, NULL), 0);
        settle(s, 30, "twelve");
        let_go_on(s, 5);
        cut_in_two(s, 12, false);
        let_go_on(s, 60);
        assert_int_equal(report_of(s, 0).members_known, 6);
        assert_int_equal(report_of(s, 11).members_known, 6);
        cut_in_two(s, 12, true);
        double took = settle(s, 60, "the healed halves");
        printf("seed %u: one view %.1f s after the heal\n", (unsigned)seed, took);
        simulation_free(s);
    }
}

/* Each half gives the same place away while they are apart. */
static void two_heirs_of_one_place_come_to_terms(void **state)
{
    (void)state;
    struct fixture f;
    members_init(&f, 8, 7);
    f.setup.places = 7;
    f.setup.start_count = 6;
    f.setup.min_nodes = 6;
    struct simulation *s = open_simulation(&f);
    settle(s, 10, "founding");
    for (uint32_t a = 0; a < 8; a++) /* 0 1 2 6 | 3 4 5 7 */
        for (uint32_t b = a + 1; b < 8; b++)
            if ((a < 3 || a == 6) != (b < 3 || b == 6)) sim_cut(simulation_world(s), a, b);
    const struct simulation_life left = {.id = 60, .seed = 1}, right = {.id = 70, .seed = 4};
    assert_int_equal(simulation_join(s, 6, &left, NULL), 0);
    let_go_on(s, 5);
    assert_int_equal(simulation_join(s, 7, &right, NULL), 0);
    let_go_on(s, 5);
    assert_int_equal(report_of(s, 6).rank, 6);
    assert_int_equal(report_of(s, 7).rank, 6);
    sim_heal_all(simulation_world(s));
    let_go_on(s, 60);
    assert_int_equal(report_of(s, 6).rank, 6); /* it came first */
    assert_int_equal(report_of(s, 7).phase, NODE_JOINING);
    simulation_crash(s, 2, true);
    settle(s, 60, "the loser's new place");
    assert_int_equal(report_of(s, 7).rank, 2);
    simulation_free(s);
}

/* -- what the questions are worth ------------------------------------------------------------------ */

static void the_questions_find_two_of_one_place_and_an_idle_node(void **state)
{
    (void)state;
    struct fixture f;
    char text[160];
    members_init(&f, 3, 1);
    f.setup.min_nodes = 1; /* planted: each founds alone, before it knows of the others */
    struct simulation *s = open_simulation(&f);
    assert_string_not_equal(trouble(s, NULL, text), "");
    settle(s, 60, "three that founded alone");
    uint64_t steps[NODES_MAX] = {0};
    assert_string_equal(trouble(s, steps, text), "");
    steps[2] = UINT64_MAX;
    assert_string_not_equal(trouble(s, steps, text), "");
    simulation_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_founders_take_the_place_of_their_rank),
        cmocka_unit_test(nothing_begins_before_enough_are_known),
        cmocka_unit_test(a_late_comer_fetches_the_model_and_trains),
        cmocka_unit_test(a_cap_holds_over_all_newcomers_and_all_complete),
        cmocka_unit_test(a_fifth_of_four_waits_until_a_place_is_vacant),
        cmocka_unit_test(a_node_that_comes_back_has_its_old_place),
        cmocka_unit_test(a_new_node_takes_the_place_of_a_dead_one),
        cmocka_unit_test(who_leaves_is_known_to_have_left_at_once),
        cmocka_unit_test(a_cluster_that_starts_again_goes_on_from_what_was_saved),
        cmocka_unit_test(comings_goings_and_a_partition_end_in_one_cluster),
        cmocka_unit_test(two_heirs_of_one_place_come_to_terms),
        cmocka_unit_test(the_questions_find_two_of_one_place_and_an_idle_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
