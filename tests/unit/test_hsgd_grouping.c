/* Goal: everybody computes the same nested groups; a random partition is uniform; what does not fit is
 * refused with a line that says what would. Method: the pure functions of algo/hsgd/grouping.h, against
 * counts and against the laws of sampling without replacement. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "algo/step.h"
#include "tests/unit/hsgd_fixture.h"

extern const struct algo_type hsgd_type;

enum { NODE_MAX = 24 };

static struct hsgd_plan plan_of(const char *text, uint32_t n, const uint32_t *site)
{
    struct choice choice;
    struct hsgd_plan plan;
    struct err_text why = {""};
    if (choice_parse(&hsgd_type.spec, 1, "--algorithm", text, &choice, &why) != 0) fail_msg("%s", why.text);
    if (hsgd_plan_read(&choice, n, &plan, &why) != 0) fail_msg("%s", why.text);
    plan.seed = 7;
    plan.site = site;
    if (hsgd_plan_check(&plan, &why) != 0) fail_msg("%s", why.text);
    return plan;
}

/* -- the cut ------------------------------------------------------------------------------------ */

static void contiguous_groups_are_blocks_that_nest(void **state)
{
    (void)state;
    struct hsgd_plan plan = plan_of("hsgd:periods=32-8-2,groups=2-2", 8, NULL);
    uint32_t group[3 * 8];
    hsgd_groups_draw(&plan, 5, group);
    static const uint32_t expected[3 * 8] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                             1, 1, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3};
    assert_memory_equal(group, expected, sizeof expected);
}

static void random_groups_are_equal_nested_and_a_function_of_seed_and_epoch(void **state)
{
    (void)state;
    struct hsgd_plan plan = plan_of("hsgd:periods=32-8-2,groups=3-4,grouping=random,redraw=yes", 24, NULL);
    uint32_t group[3 * NODE_MAX], again[3 * NODE_MAX], changed = 0;
    for (uint64_t epoch = 0; epoch < 20; epoch++) {
        uint32_t size[2][NODE_MAX] = {{0}}, parent[NODE_MAX];
        hsgd_groups_draw(&plan, epoch, group);
        hsgd_groups_draw(&plan, epoch, again);
        assert_memory_equal(group, again, sizeof group);
        for (rank_t r = 0; r < 24; r++) {
            size[0][group[24 + r]]++;
            if (size[1][group[48 + r]]++ == 0) parent[group[48 + r]] = group[24 + r];
            assert_int_equal(parent[group[48 + r]], group[24 + r]);
        }
        for (uint32_t g = 0; g < 3; g++) assert_int_equal(size[0][g], 8);
        for (uint32_t g = 0; g < 12; g++) assert_int_equal(size[1][g], 2);
        hsgd_groups_draw(&plan, epoch + 1, again);
        changed += memcmp(group, again, sizeof group) != 0;
    }
    assert_int_equal(changed, 20);
    plan.redraw = false;
    hsgd_groups_draw(&plan, 0, group);
    hsgd_groups_draw(&plan, 17, again);
    assert_memory_equal(group, again, sizeof group);
    plan.seed++;
    hsgd_groups_draw(&plan, 0, again);
    assert_memory_not_equal(group, again, sizeof group);
}

/* Any two nodes share a group with probability (m - 1) / (n - 1). */
static void random_groups_are_uniform(void **state)
{
    (void)state;
    enum { N = 12, DRAWS = 20000 };
    struct hsgd_plan plan = plan_of("hsgd:groups=3,grouping=random,redraw=yes", N, NULL);
    uint32_t group[2 * N], together[N][N] = {{0}};
    for (uint64_t epoch = 0; epoch < DRAWS; epoch++) {
        hsgd_groups_draw(&plan, epoch, group);
        for (rank_t a = 0; a < N; a++)
            for (rank_t b = 0; b < a; b++) together[a][b] += group[N + a] == group[N + b];
    }
    double p = 3.0 / 11, deviation = sqrt(DRAWS * p * (1 - p));
    for (rank_t a = 0; a < N; a++)
        for (rank_t b = 0; b < a; b++) assert_true(fabs(together[a][b] - DRAWS * p) < 4.5 * deviation);
}

static void tags_make_groups_of_any_size_and_are_cut_further(void **state)
{
    (void)state;
    static const uint32_t site[8] = {9, 4, 9, 4, 9, 4, 9, 9 - 5};
    struct hsgd_plan plan = plan_of("hsgd:periods=32-8-2,groups=auto,grouping=tags", 8, site);
    assert_int_equal(plan.part[1], 2);
    uint32_t group[3 * 8];
    hsgd_groups_draw(&plan, 0, group);
    static const uint32_t expected[2 * 8] = {1, 0, 1, 0, 1, 0, 1, 0, 2, 0, 2, 0, 3, 1, 3, 1};
    assert_memory_equal(group + 8, expected, sizeof expected);
    static const uint32_t uneven[5] = {1, 1, 2, 2, 2};
    plan = plan_of("hsgd:grouping=tags", 5, uneven);
    hsgd_groups_draw(&plan, 0, group);
    static const uint32_t parts[5] = {0, 0, 1, 1, 1};
    assert_memory_equal(group + 5, parts, sizeof parts);
}

static void groups_may_have_periods_of_their_own(void **state)
{
    (void)state;
    struct hsgd_plan plan = plan_of("hsgd:periods=24-4/8,groups=2", 8, NULL);
    static const uint32_t first[2] = {0, 0}, second[2] = {0, 1};
    assert_int_equal(hsgd_due_level(&plan, first, 4), 1);
    assert_int_equal(hsgd_due_level(&plan, second, 4), 2);
    assert_int_equal(hsgd_due_level(&plan, second, 8), 1);
    assert_int_equal(hsgd_due_level(&plan, second, 24), 0);
    assert_int_equal(hsgd_due_level(&plan, first, 23), 2);
}

/* -- divergences of gradients ------------------------------------------------------------------- */

struct divergence {
    double up, down, total;
};

/* At w = 0 the gradients are -a_j c_j. */
static struct divergence divergence_of(const uint32_t *group)
{
    struct divergence d = {0, 0, 0};
    double mean = 0, group_mean[EXACT_NODES] = {0}, size[EXACT_NODES] = {0};
    for (int j = 0; j < EXACT_NODES; j++) {
        double g = -exact_a[j] * exact_c[j];
        mean += g / EXACT_NODES;
        group_mean[group[j]] += g;
        size[group[j]]++;
    }
    for (int j = 0; j < EXACT_NODES; j++) {
        double g = -exact_a[j] * exact_c[j], of_group = group_mean[group[j]] / size[group[j]];
        d.up += (of_group - mean) * (of_group - mean) / EXACT_NODES;
        d.down += (g - of_group) * (g - of_group) / EXACT_NODES;
        d.total += (g - mean) * (g - mean) / EXACT_NODES;
    }
    return d;
}

static void divergences_add_up_and_their_means_follow_the_law(void **state)
{
    (void)state;
    double up = 0, down = 0;
    uint32_t count = 0;
    for (uint32_t set = 0; set < 256; set++) {
        if ((set & 1) == 0 || __builtin_popcount(set) != 4) continue;
        uint32_t site[EXACT_NODES], group[2 * EXACT_NODES];
        for (uint32_t j = 0; j < EXACT_NODES; j++) site[j] = (set >> j & 1) == 0;
        struct hsgd_plan plan = plan_of("hsgd:grouping=balanced,groups=2", EXACT_NODES, site);
        hsgd_groups_draw(&plan, 0, group);
        assert_memory_equal(group + EXACT_NODES, site, sizeof site);
        struct divergence d = divergence_of(group + EXACT_NODES);
        assert_true(fabs(d.up + d.down - d.total) < 1e-12 * d.total);
        assert_true(fabs(d.total - 22.804844) < 5e-7);
        up += d.up;
        down += d.down;
        count++;
    }
    assert_int_equal(count, 35);
    assert_true(fabs(up / 35 - 3.257835) < 5e-7);
    assert_true(fabs(down / 35 - 19.547009) < 5e-7);
    assert_true(fabs(up / (up + down) - 1.0 / 7) < 1e-12);
}

/* The same law for any plan: drawn groups, unequal divergences, three sizes. */
static void divergences_of_drawn_groups_follow_the_law(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double ratio;
    } rows[] = {{"hsgd:grouping=random,redraw=yes,groups=2", 1.0 / 7},
                {"hsgd:grouping=random,redraw=yes,groups=4", 3.0 / 7},
                {"hsgd:grouping=random,redraw=yes,groups=8", 1}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        enum { DRAWS = 20000 };
        struct hsgd_plan plan = plan_of(rows[i].text, EXACT_NODES, NULL);
        double up = 0, total = 0;
        for (uint64_t epoch = 0; epoch < DRAWS; epoch++) {
            uint32_t group[2 * EXACT_NODES];
            hsgd_groups_draw(&plan, epoch, group);
            struct divergence d = divergence_of(group + EXACT_NODES);
            assert_true(fabs(d.up + d.down - d.total) < 1e-12 * d.total);
            up += d.up;
            total += d.total;
        }
        assert_true(fabs(up / total - rows[i].ratio) < 0.01);
    }
}

/* -- refusals ----------------------------------------------------------------------------------- */

static void what_does_not_fit_is_refused_with_a_remedy(void **state)
{
    (void)state;
    static const uint32_t three[8] = {0, 1, 2, 0, 1, 2, 0, 1};
    static const struct {
        const char *text;
        const uint32_t *site;
        const char *says[3];
    } rows[] = {
        {"hsgd:periods=50-7", NULL, {"hsgd:periods", "50", "5 would fit"}},
        {"hsgd:periods=5-50", NULL, {"hsgd:periods", "no multiple", "5 would fit"}},
        {"hsgd:periods=50-0", NULL, {"periods=50-0", "1 to 1000000000", "periods=50-5"}},
        {"hsgd:periods=50-", NULL, {"periods=50-", "not a list", "50-5"}},
        {"hsgd:periods=", NULL, {"periods=", "not a list", "50-5"}},
        {"hsgd:periods=99999999999", NULL, {"periods=99999999999", "not a list", "50-5"}},
        {"hsgd:periods=512-256-128-64-32-16-8-4-2", NULL, {"periods=512", "more than 8 levels", ""}},
        {"hsgd:periods=24-4/8/12", NULL, {"3 periods", "2 groups", "one for each"}},
        {"hsgd:periods=24-4/9", NULL, {"24", "9", "8 would fit"}},
        {"hsgd:groups=3", NULL, {"groups=3", "3 does not divide 8", "1, 2, 4 or 8 would"}},
        {"hsgd:groups=9", NULL, {"groups=9", "9 groups of 8 nodes", "1, 2, 4 or 8"}},
        {"hsgd:groups=x", NULL, {"groups=x", "not a list", "groups=2"}},
        {"hsgd:groups=2-2", NULL, {"groups=2-2", "2 levels", "groups=auto"}},
        {"hsgd:periods=8,groups=2", NULL, {"groups=2", "1 level", "groups=auto"}},
        {"hsgd:periods=32-8-2,groups=4-3", NULL, {"groups=4-3", "level 3 would be 3 groups of 2", "1 or 2"}},
        {"hsgd:redraw=yes", NULL, {"redraw=yes", "contiguous", "grouping=random"}},
        {"hsgd:grouping=tags", NULL, {"grouping=tags", "--tag", "--tags"}},
        {"hsgd:grouping=balanced", NULL, {"grouping=balanced", "data", "grouping=random"}},
        {"hsgd:grouping=tags,groups=2", three, {"groups=2", "3 different tags", "groups=3"}},
        {"hsgd:grouping=tags,periods=32-8-2,groups=3-2", three, {"2 does not divide 3", "1 or 3", ""}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct choice choice;
        struct hsgd_plan plan;
        struct err_text why = {""};
        assert_int_equal(choice_parse(&hsgd_type.spec, 1, "--algorithm", rows[i].text, &choice, &why), 0);
        int err = hsgd_plan_read(&choice, 8, &plan, &why);
        plan.site = rows[i].site;
        if (err == 0) err = hsgd_plan_check(&plan, &why);
        assert_int_equal(err, ERR_USAGE);
        for (int k = 0; k < 3; k++)
            if (strstr(why.text, rows[i].says[k]) == NULL)
                fail_msg("%s: '%s' lacks '%s'", rows[i].text, why.text, rows[i].says[k]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contiguous_groups_are_blocks_that_nest),
        cmocka_unit_test(random_groups_are_equal_nested_and_a_function_of_seed_and_epoch),
        cmocka_unit_test(random_groups_are_uniform),
        cmocka_unit_test(tags_make_groups_of_any_size_and_are_cut_further),
        cmocka_unit_test(groups_may_have_periods_of_their_own),
        cmocka_unit_test(divergences_add_up_and_their_means_follow_the_law),
        cmocka_unit_test(divergences_of_drawn_groups_follow_the_law),
        cmocka_unit_test(what_does_not_fit_is_refused_with_a_remedy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
