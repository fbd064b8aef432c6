/* Goal: every kind of split is a partition (each row at most once, ascending within a node, no node empty),
 * a pure function of its arguments, and has the shape it promises; DIGEST's sizes are the listed ones.
 * Method: one check run over all kinds and a check of the check with planted faults; tables of sizes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/dataset/split.h"
#include "base/check.h"
#include "dataset_fixture.h"

static int try_build(const char *text, const float *target, uint32_t rows, uint32_t classes, uint32_t nodes,
                     uint64_t seed, struct split *out, struct err_text *why)
{
    struct choice choice;
    int err = choice_parse(split_table, split_table_count, "--split", text, &choice, why);
    if (err != 0) return err;
    return split_build(&choice, target, rows, classes, nodes, seed, out, why);
}

static void build(const char *text, const float *target, uint32_t rows, uint32_t classes, uint32_t nodes,
                  uint64_t seed, struct split *out)
{
    struct err_text why = {""};
    if (try_build(text, target, rows, classes, nodes, seed, out, &why) != 0)
        fail_msg("%s: %s", text, why.text);
}

/* Returns owned targets: class i mod classes. */
static float *cycle_targets(uint32_t rows, uint32_t classes)
{
    float *target = mem_new(rows, sizeof *target);
    for (uint32_t i = 0; i < rows; i++) target[i] = (float)(i % classes);
    return target;
}

/* Returns NULL, or what is wrong with a split of `rows` rows of which `unused` belong to nobody. */
static const char *fault_of(const struct split *s, uint32_t rows, uint32_t nodes, uint32_t unused)
{
    if (s->node_count != nodes || s->offset[0] != 0) return "shape";
    if (s->offset[nodes] != rows - unused) return "rows left out";
    bool *seen = mem_new_zero(rows, sizeof *seen);
    const char *fault = NULL;
    for (uint32_t v = 0; v < nodes; v++) {
        if (s->offset[v + 1] <= s->offset[v]) fault = "empty node";
        for (uint32_t i = s->offset[v]; i < s->offset[v + 1]; i++) {
            if (s->row[i] >= rows || seen[s->row[i]]) fault = "row twice";
            if (i > s->offset[v] && s->row[i] <= s->row[i - 1]) fault = "not ascending";
            if (s->row[i] < rows) seen[s->row[i]] = true;
        }
    }
    free(seen);
    return fault;
}

static uint32_t kinds_of(const struct split *s, uint32_t node, const float *target, uint32_t classes)
{
    uint32_t count = 0;
    for (uint32_t c = 0; c < classes; c++)
        for (uint32_t i = s->offset[node]; i < s->offset[node + 1]; i++)
            if (target[s->row[i]] == (float)c) {
                count++;
                break;
            }
    return count;
}

static uint32_t rows_of_kind(const struct split *s, uint32_t node, const float *target, uint32_t kind)
{
    uint32_t count = 0;
    for (uint32_t i = s->offset[node]; i < s->offset[node + 1]; i++)
        count += target[s->row[i]] == (float)kind;
    return count;
}

/* -- all kinds -------------------------------------------------------------------------------------- */

static void test_every_kind_is_a_partition_and_repeats_from_its_seed(void **state)
{
    (void)state;
    static const char *const kinds[] = {"iid",
                                        "sorted",
                                        "label:k=1",
                                        "label:k=2",
                                        "label:k=3",
                                        "label:k=10",
                                        "dirichlet:alpha=0.001",
                                        "dirichlet:alpha=0.1",
                                        "dirichlet:alpha=100",
                                        "sizes:ratio=1.3",
                                        "sizes:ratio=1.3,sorted=no",
                                        "blocks"};
    static const uint32_t nodes[] = {1, 2, 7, 10};
    float *target = cycle_targets(1003, 10);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        for (size_t j = 0; j < sizeof nodes / sizeof nodes[0]; j++) {
            struct split first, again;
            build(kinds[i], target, 1003, 10, nodes[j], 3, &first);
            build(kinds[i], target, 1003, 10, nodes[j], 3, &again);
            const char *fault = fault_of(&first, 1003, nodes[j], 0);
            if (fault != NULL) fail_msg("%s with %u nodes: %s", kinds[i], nodes[j], fault);
            assert_memory_equal(first.offset, again.offset, (nodes[j] + 1) * sizeof *first.offset);
            assert_memory_equal(first.row, again.row, 1003 * sizeof *first.row);
            split_deinit(&first);
            split_deinit(&again);
        }
    free(target);
}

static void test_blocks_keep_the_order_of_the_file(void **state)
{
    (void)state;
    float *target = cycle_targets(1003, 10);
    struct split s;
    build("blocks", target, 1003, 10, 7, 5, &s);
    for (uint32_t i = 0; i < 1003; i++) assert_int_equal(s.row[i], i);
    assert_int_equal(s.offset[1], 143);
    split_deinit(&s);
    free(target);
}

static void test_the_check_catches_planted_faults(void **state)
{
    (void)state;
    float *target = cycle_targets(40, 4);
    struct split s;
    build("iid", target, 40, 4, 4, 1, &s);
    assert_null(fault_of(&s, 40, 4, 0));
    assert_string_equal(fault_of(&s, 41, 4, 0), "rows left out");
    uint32_t saved = s.row[0];
    s.row[0] = s.row[39];
    assert_non_null(fault_of(&s, 40, 4, 0));
    s.row[0] = s.row[1];
    s.row[1] = saved;
    assert_string_equal(fault_of(&s, 40, 4, 0), "not ascending");
    s.row[1] = s.row[0];
    s.row[0] = saved;
    s.offset[1] = 0;
    assert_non_null(fault_of(&s, 40, 4, 0));
    split_deinit(&s);
    free(target);
}

static void test_iid_shuffles_by_seed_into_equal_blocks(void **state)
{
    (void)state;
    float *target = cycle_targets(103, 10);
    struct split a, b;
    build("iid", target, 103, 10, 4, 1, &a);
    build("iid", target, 103, 10, 4, 2, &b);
    for (uint32_t v = 0; v < 4; v++) assert_true(split_size(&a, v) == 25 || split_size(&a, v) == 26);
    assert_memory_not_equal(a.row, b.row, 103 * sizeof *a.row);
    split_deinit(&a);
    split_deinit(&b);
    free(target);
}

static void test_sorted_is_stable_by_target(void **state)
{
    (void)state;
    const float target[6] = {2.5f, -1, 2.5f, 0, -1, 7};
    const uint32_t expected[6] = {1, 4, 0, 3, 2, 5}; /* by target: 1 4 | 3 0 | 2 5; ascending within a node */
    struct split s;
    build("sorted", target, 6, 1, 3, 1, &s);
    assert_memory_equal(s.row, expected, sizeof expected);
    split_deinit(&s);
}

/* -- label ------------------------------------------------------------------------------------------ */

static void test_label_gives_equal_shares_where_classes_divide(void **state)
{
    (void)state;
    float *target = cycle_targets(6000, 10);
    for (uint32_t k = 1; k <= 5; k++) {
        char text[32];
        snprintf(text, sizeof text, "label:k=%u", k);
        struct split s;
        build(text, target, 6000, 10, 10, k, &s);
        for (uint32_t v = 0; v < 10; v++) {
            assert_int_equal(split_size(&s, v), 600);
            assert_int_equal(kinds_of(&s, v, target, 10), k);
            for (uint32_t c = 0; c < 10; c++) {
                uint32_t share = rows_of_kind(&s, v, target, c);
                assert_true(share == 0 || share == 600 / k);
            }
        }
        split_deinit(&s);
    }
    free(target);
}

static void check_shipped_label_split(const float *target, uint32_t rows, uint64_t seed)
{
    struct split s;
    build("label:k=2", target, rows, 10, 8, seed, &s);
    assert_null(fault_of(&s, rows, 8, 0)); /* so every class is used */
    for (uint32_t v = 0; v < 8; v++) {
        assert_int_equal(kinds_of(&s, v, target, 10), 2);
        assert_int_equal(split_size(&s, v), 1000);
    }
    split_deinit(&s);
}

static void test_label_on_shipped_images_gives_1000_of_two_kinds(void **state)
{
    (void)state;
    struct dataset_source *s = fixture_open(&(struct dataset_options){.path = "data/fashion-mnist"});
    const struct dataset_info *info = dataset_source_info(s);
    for (uint64_t seed = 0; seed < 20; seed++) check_shipped_label_split(info->target, info->rows, seed);
    dataset_source_free(s);
}

static void test_label_tolerates_classes_of_almost_equal_size(void **state)
{
    (void)state;
    float *target = cycle_targets(8000, 10);
    for (uint32_t i = 0; i < 100; i += 10) target[i] = 5; /* 790 of class 0, 810 of class 5 */
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct split s;
        build("label:k=2", target, 8000, 10, 8, seed, &s);
        assert_null(fault_of(&s, 8000, 8, 0));
        for (uint32_t v = 0; v < 8; v++) {
            assert_int_equal(kinds_of(&s, v, target, 10), 2);
            assert_in_range(split_size(&s, v), 950, 1050);
        }
        split_deinit(&s);
    }
    free(target);
}

static void test_label_with_unequal_classes_still_gives_k_kinds(void **state)
{
    (void)state;
    float *target = mem_new(5000, sizeof *target);
    struct prng p;
    for (uint64_t seed = 0; seed < 50; seed++) {
        prng_seed(&p, seed);
        uint32_t classes = 2 + prng_below(&p, 12), nodes = 1 + prng_below(&p, 40),
                 k = 1 + prng_below(&p, classes);
        for (uint32_t i = 0; i < 5000; i++) {
            double u = prng_unit(&p);
            target[i] = (float)(uint32_t)(u * u * classes);
        }
        char text[32];
        snprintf(text, sizeof text, "label:k=%u", k);
        struct split s;
        build(text, target, 5000, classes, nodes, seed, &s);
        const char *fault = fault_of(&s, 5000, nodes, 0);
        if (fault != NULL) fail_msg("seed %u: %s", (unsigned)seed, fault);
        for (uint32_t v = 0; v < nodes; v++) {
            uint32_t kinds = kinds_of(&s, v, target, classes);
            if (nodes * k >= classes) assert_int_equal(kinds, k);
            if (nodes * k < classes) assert_in_range(kinds, classes / nodes, classes / nodes + 1);
        }
        split_deinit(&s);
    }
    free(target);
}

/* -- dirichlet -------------------------------------------------------------------------------------- */

/* Mean over nodes of the share that a node's largest class has. */
static double concentration(const char *text, const float *target)
{
    struct split s;
    build(text, target, 10000, 10, 20, 6, &s);
    double sum = 0;
    for (uint32_t v = 0; v < 20; v++) {
        assert_int_equal(split_size(&s, v), 500);
        uint32_t most = 0;
        for (uint32_t c = 0; c < 10; c++) {
            uint32_t rows = rows_of_kind(&s, v, target, c);
            most = rows > most ? rows : most;
        }
        sum += most / 500.0;
    }
    split_deinit(&s);
    return sum / 20;
}

static void test_dirichlet_concentrates_as_alpha_falls(void **state)
{
    (void)state;
    float *target = cycle_targets(10000, 10);
    double loose = concentration("dirichlet:alpha=1000", target);
    double middle = concentration("dirichlet:alpha=1", target);
    double tight = concentration("dirichlet:alpha=0.05", target);
    assert_true(loose > 0.1 && loose < 0.16);
    assert_true(middle > loose + 0.05 && middle < 0.5);
    assert_true(tight > middle + 0.15);
    free(target);
}

/* -- sizes ------------------------------------------------------------------------------------------ */

struct sizes_case {
    const char *text;
    uint32_t rows, nodes;
    uint32_t size[10]; /* of nodes 0..9; later groups repeat it */
    uint32_t unused;
};

/* The four lists of DIGEST's experiments (docs/algorithms.md). */
static const struct sizes_case sizes_cases[] = {
    {"sizes:ratio=2.04,first=10", 60000, 100, {10, 10, 21, 43, 89, 180, 367, 750, 1529, 3001}, 0},
    {"sizes:ratio=1.9936,first=10,sorted=no", 49749, 100, {10, 9, 20, 40, 78, 157, 313, 624, 1244, 2479}, 9},
    {"sizes:ratio=1.7,first=500", 60000, 10, {500, 350, 594, 1012, 1720, 2923, 4969, 8448, 14362, 25122}, 0},
    {"sizes:ratio=1.67,first=500,sorted=no",
     49749,
     10,
     {500, 335, 559, 934, 1560, 2606, 4351, 7267, 12136, 19501},
     0},
    {"sizes:ratio=2.04,first=10,groups=10", 60000, 100, {10, 10, 21, 43, 89, 180, 367, 750, 1529, 3001}, 0},
};

static void test_sizes_are_those_of_the_published_code(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sizes_cases / sizeof sizes_cases[0]; i++) {
        const struct sizes_case *c = &sizes_cases[i];
        float *target = cycle_targets(c->rows, 10);
        struct split s;
        build(c->text, target, c->rows, 10, c->nodes, 1, &s);
        assert_null(fault_of(&s, c->rows, c->nodes, c->unused));
        for (uint32_t v = 0; v < c->nodes; v++) assert_int_equal(split_size(&s, v), c->size[v % 10]);
        split_deinit(&s);
        free(target);
    }
}

static void test_sizes_sorted_gives_one_or_two_digits_a_node(void **state)
{
    (void)state;
    float *target = cycle_targets(60000, 10);
    struct split s;
    build("sizes:ratio=2.04,first=10", target, 60000, 10, 100, 1, &s);
    for (uint32_t v = 0; v < 100; v++)
        assert_int_equal(rows_of_kind(&s, v, target, v / 10), split_size(&s, v));
    split_deinit(&s);
    build("sizes:ratio=2.04,first=10,sorted=no", target, 60000, 10, 100, 1, &s);
    assert_int_equal(kinds_of(&s, 9, target, 10), 10);
    split_deinit(&s);
    free(target);
}

static void test_sizes_derive_the_first_from_the_group(void **state)
{
    (void)state;
    float *target = cycle_targets(8000, 10);
    struct split s;
    build("sizes:ratio=2", target, 8000, 10, 5, 1, &s);
    const uint32_t size[5] = {500, 500, 1000, 2000, 4000}; /* 8000 / 2^4, then doubling boundaries */
    for (uint32_t v = 0; v < 5; v++) assert_int_equal(split_size(&s, v), size[v]);
    split_deinit(&s);
    free(target);
}

/* -- refusals --------------------------------------------------------------------------------------- */

struct refusal {
    const char *text;
    uint32_t rows, classes, nodes;
    const char *says;
};

static const struct refusal refusals[] = {
    {"iid", 5, 5, 6, "--nodes: 6 nodes cannot share 5 training rows"},
    {"label:k=6", 100, 5, 4, "--split: label:k=6, but the training rows have only 5 classes"},
    {"label:k=5", 12, 5, 4, "--split: label:k=5 with 4 nodes needs 20 shares"},
    {"label:k=2", 100, 1, 4, "label needs classes, but the data is a regression"},
    {"dirichlet", 100, 1, 4, "dirichlet needs classes"},
    {"sizes:groups=3", 100, 5, 10, "sizes:groups=3 does not divide 10 nodes"},
    {"sizes:first=500,ratio=2", 4000, 5, 8, "needs more than the 4000 rows"},
    {"sizes:first=10,ratio=1", 4000, 5, 8, "would get no rows"},
    {"sizes:ratio=100", 4000, 5, 8, "would get no rows"},
    {"sizes:ratio=0.5", 4000, 5, 8, "ratio=0.5 must be"},
    {"lable:k=2", 100, 5, 4, "did you mean 'label'"},
};

static void test_impossible_splits_are_refused_with_a_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        const struct refusal *r = &refusals[i];
        float *target = cycle_targets(r->rows, r->classes);
        struct split s;
        struct err_text why = {""};
        int err = try_build(r->text, target, r->rows, r->classes, r->nodes, 1, &s, &why);
        if (err != ERR_USAGE || strstr(why.text, r->says) == NULL)
            fail_msg("%s: expected '%s', got %d '%s'", r->text, r->says, err, why.text);
        free(target);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind_is_a_partition_and_repeats_from_its_seed),
        cmocka_unit_test(test_blocks_keep_the_order_of_the_file),
        cmocka_unit_test(test_the_check_catches_planted_faults),
        cmocka_unit_test(test_iid_shuffles_by_seed_into_equal_blocks),
        cmocka_unit_test(test_sorted_is_stable_by_target),
        cmocka_unit_test(test_label_gives_equal_shares_where_classes_divide),
        cmocka_unit_test(test_label_on_shipped_images_gives_1000_of_two_kinds),
        cmocka_unit_test(test_label_tolerates_classes_of_almost_equal_size),
        cmocka_unit_test(test_label_with_unequal_classes_still_gives_k_kinds),
        cmocka_unit_test(test_dirichlet_concentrates_as_alpha_falls),
        cmocka_unit_test(test_sizes_are_those_of_the_published_code),
        cmocka_unit_test(test_sizes_sorted_gives_one_or_two_digits_a_node),
        cmocka_unit_test(test_sizes_derive_the_first_from_the_group),
        cmocka_unit_test(test_impossible_splits_are_refused_with_a_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
