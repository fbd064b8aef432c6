/* Goal (bar M-12): 200 nodes that know a few others each stay one graph. Half of them are killed at once: the
 * active views of the survivors form one component within 30 s; four fifths: within 60 s; in 99 of 100 seeds.
 * Before and after, degrees are bounded and, once quiet, views are symmetric. Method: overlay_net.h. Healed halves: a
 * cut of a minute, then the share of neighbours across it. A planted bug for each checker.
 *
 * --seeds N: more of them (100). Prints the worst and the distribution. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/overlay_net.h"

#define CHECK_US (SECOND_US / 2)
#define PATIENCE_US (2 * SECOND_US)

/* -- checkers ----------------------------------------------------------------------------------------- */

/* Components of the living, by active views; *isolated: nodes without a living neighbour. */
static uint32_t components(const struct overlay_net *c)
{
    uint32_t root[NODES], count = 0;
    for (uint32_t i = 0; i < NODES; i++) root[i] = i;
    for (uint32_t i = 0; i < NODES; i++) {
        if (c->dead[i]) continue;
        count++;
        const node_id *id;
        uint32_t degree = overlay_active(c->node[i], &id);
        for (uint32_t k = 0; k < degree; k++) {
            uint32_t a = i, b = (uint32_t)id[k];
            if (c->dead[b]) continue;
            while (root[a] != a) a = root[a] = root[root[a]];
            while (root[b] != b) b = root[b] = root[root[b]];
            if (a != b) count--;
            root[a] = b;
        }
    }
    return count;
}

static uint32_t degree_worst(const struct overlay_net *c)
{
    uint32_t worst = 0;
    for (uint32_t i = 0; i < NODES; i++) {
        const node_id *id;
        uint32_t degree = overlay_active(c->node[i], &id);
        if (!c->dead[i] && degree > worst) worst = degree;
    }
    return worst;
}

static double degree_mean(const struct overlay_net *c)
{
    uint32_t sum = 0, alive = 0;
    for (uint32_t i = 0; i < NODES; i++) {
        const node_id *id;
        if (c->dead[i]) continue;
        sum += overlay_active(c->node[i], &id);
        alive++;
    }
    return (double)sum / alive;
}

/* Pairs of which one counts the other as neighbour, and the other does not, or is dead; and did PATIENCE_US
 * ago too: what is under way at one moment is no contradiction. */
static void one_sided_look(const struct overlay_net *c, bool now[NODES][NODES])
{
    for (uint32_t i = 0; i < NODES; i++) {
        const node_id *id;
        memset(now[i], 0, NODES * sizeof **now);
        if (c->dead[i]) continue;
        uint32_t degree = overlay_active(c->node[i], &id);
        for (uint32_t k = 0; k < degree; k++) {
            uint32_t other = (uint32_t)id[k];
            now[i][other] = c->dead[other] || !overlay_is_active(c->node[other], overlay_net_id(i));
        }
    }
}

static uint32_t one_sided(struct overlay_net *c)
{
    static bool before[NODES][NODES], now[NODES][NODES];
    one_sided_look(c, before);
    overlay_net_run_until(c, c->now_us + PATIENCE_US);
    one_sided_look(c, now);
    uint32_t count = 0;
    for (uint32_t i = 0; i < NODES; i++)
        for (uint32_t k = 0; k < NODES; k++) count += before[i][k] && now[i][k];
    return count;
}

struct verdict {
    bool whole_before;
    uint32_t degree_worst; /* at any look */
    uint64_t healed_us;    /* from the kill until one component, for good; TIME_NEVER */
    uint32_t one_sided;    /* at the end */
    double degree_mean;
    uint64_t events, messages;
};

static struct verdict judge(uint64_t seed, enum planted planted, uint32_t killed, uint64_t after_us)
{
    struct overlay_net *c = overlay_net_new(seed, planted);
    struct verdict v = {.whole_before = components(c) == 1, .degree_worst = degree_worst(c)};
    uint64_t start_us = c->now_us;
    overlay_net_kill(c, killed);
    v.healed_us = TIME_NEVER;
    while (c->now_us < start_us + after_us) {
        overlay_net_run_until(c, c->now_us + CHECK_US);
        if (components(c) != 1)
            v.healed_us = TIME_NEVER;
        else if (v.healed_us == TIME_NEVER)
            v.healed_us = c->now_us - start_us;
        uint32_t worst = degree_worst(c);
        if (worst > v.degree_worst) v.degree_worst = worst;
    }
    v.one_sided = one_sided(c);
    v.degree_mean = degree_mean(c);
    v.events = c->events;
    v.messages = c->messages;
    overlay_net_free(c);
    return v;
}

/* Pairs of neighbours across the cut, of all pairs. */
static double share_across(const struct overlay_net *c)
{
    uint32_t across = 0, all = 0;
    for (uint32_t i = 0; i < NODES; i++) {
        const node_id *id;
        uint32_t degree = overlay_active(c->node[i], &id);
        for (uint32_t k = 0; k < degree; k++) across += id[k] % 2 != i % 2;
        all += degree;
    }
    return (double)across / all;
}

/* Even and odd nodes are cut off from each other for a minute. Afterwards each hears of ten of the others, as
 * membership tells those that are alive again. Returns the share of neighbours across
 * it after another minute. */
static double part_and_heal(uint64_t seed, enum planted planted)
{
    struct overlay_net *c = overlay_net_new(seed, planted);
    assert_true(share_across(c) > 0.4);
    overlay_net_cut(c);
    overlay_net_run_until(c, c->now_us + 60 * SECOND_US);
    assert_int_equal(components(c), 2);
    c->cut = false;
    for (uint32_t i = 0; i < NODES; i++)
        for (uint32_t k = 0; k < 10; k++) {
            uint32_t other = prng_below(&c->prng, NODES / 2) * 2 + (i + 1) % 2;
            overlay_net_hear_of(c, i, other);
        }
    overlay_net_run_until(c, c->now_us + 60 * SECOND_US);
    double share = share_across(c);
    if (planted == PLANTED_NONE) assert_int_equal(components(c), 1);
    overlay_net_free(c);
    return share;
}

/* -- tests -------------------------------------------------------------------------------------------- */

static uint32_t seed_count = 100;

static void heals(uint32_t killed, uint64_t within_us)
{
    uint64_t worst_us = 0, sum_us = 0, worst_seed = 0;
    uint32_t late = 0, never = 0, sided = 0;
    double degree = 0;
    for (uint64_t seed = 1; seed <= seed_count; seed++) {
        struct verdict v = judge(seed, PLANTED_NONE, killed, within_us);
        assert_true(v.whole_before);
        assert_in_range(v.degree_worst, 1, ACTIVE_MAX);
        if (v.healed_us == TIME_NEVER) {
            late++;
            never++;
        } else {
            sum_us += v.healed_us;
        }
        if (v.healed_us > worst_us) {
            worst_us = v.healed_us;
            worst_seed = seed;
        }
        sided += v.one_sided > 0;
        degree += v.degree_mean / seed_count;
    }
    printf("killed %u of %u: not one component within %llu s in %u of %u seeds; worst %.1f s (seed %llu), "
           "mean %.1f s; "
           "mean degree at the end %.2f; one-sided neighbours at the end in %u seeds\n",
           killed, NODES, (unsigned long long)(within_us / SECOND_US), late, seed_count,
           worst_us == TIME_NEVER ? -1.0 : (double)worst_us / SECOND_US, (unsigned long long)worst_seed,
           never < seed_count ? (double)sum_us / SECOND_US / (seed_count - never) : -1.0, degree, sided);
    assert_true(late * 100 <= seed_count);
    assert_int_equal(sided, 0);
}

static void half_killed_at_once_the_rest_is_one_component_in_30_s(void **state)
{
    (void)state;
    heals(NODES / 2, 30 * SECOND_US);
}

static void four_fifths_killed_at_once_the_rest_is_one_component_in_60_s(void **state)
{
    (void)state;
    heals(NODES * 4 / 5, 60 * SECOND_US);
}

static void healed_halves_mix_again_within_a_minute(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        double with = part_and_heal(seed, PLANTED_NONE), without = part_and_heal(seed, PLANTED_NO_EXCHANGE);
        printf("seed %u: neighbours across a healed cut after 60 s: %.0f %%; without exchanges %.0f %%\n",
               (unsigned)seed, 100 * with, 100 * without);
        assert_true(with > 0.2);
        assert_true(with > 2 * without);
    }
}

static void the_same_seed_gives_the_same_course(void **state)
{
    (void)state;
    struct verdict a = judge(3, PLANTED_NONE, NODES / 2, 10 * SECOND_US);
    struct verdict b = judge(3, PLANTED_NONE, NODES / 2, 10 * SECOND_US);
    struct verdict other = judge(4, PLANTED_NONE, NODES / 2, 10 * SECOND_US);
    assert_true(a.events == b.events && a.messages == b.messages && a.healed_us == b.healed_us);
    assert_true(a.messages != other.messages);
}

static void planted_bugs_are_found(void **state)
{
    (void)state;
    struct verdict v = judge(1, PLANTED_NO_DISCONNECT, NODES / 2, 30 * SECOND_US);
    assert_true(v.one_sided > 0);
    v = judge(1, PLANTED_NO_REPAIR, NODES * 4 / 5, 60 * SECOND_US);
    assert_true(v.healed_us == TIME_NEVER);
    v = judge(1, PLANTED_NO_BOUND, 1, SECOND_US);
    assert_true(v.degree_worst > ACTIVE_MAX);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--seeds") == 0) seed_count = (uint32_t)strtoul(argv[2], NULL, 10);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_killed_at_once_the_rest_is_one_component_in_30_s),
        cmocka_unit_test(four_fifths_killed_at_once_the_rest_is_one_component_in_60_s),
        cmocka_unit_test(healed_halves_mix_again_within_a_minute),
        cmocka_unit_test(the_same_seed_gives_the_same_course),
        cmocka_unit_test(planted_bugs_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
