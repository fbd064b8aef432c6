/* Goal: the sets that ship (and, where $GADABOUT_DATA points at them, the large public ones) are read with
 * the counts their sources state.
 * Method: known numbers of rows, classes, entries; pixel sums of Fashion-MNIST; run from the source folder.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dataset_fixture.h"

struct known_set {
    const char *path;
    uint32_t rows, test_rows, features, classes;
    bool sparse;
    uint32_t of_last_class, entries; /* training rows; entries 0 = dense */
    uint32_t test_of_last_class;
};

static uint32_t count_target(const float *target, uint32_t rows, uint32_t wanted)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < rows; i++) count += target[i] == (float)wanted;
    return count;
}

static void check_set(const struct known_set *k)
{
    struct dataset_source *s = fixture_open(&(struct dataset_options){.path = k->path});
    const struct dataset_info *info = dataset_source_info(s);
    assert_int_equal(info->rows, k->rows);
    assert_int_equal(info->test_rows, k->test_rows);
    assert_int_equal(info->features, k->features);
    assert_int_equal(info->classes, k->classes);
    assert_int_equal(info->sparse, k->sparse);
    assert_int_equal(count_target(info->target, info->rows, k->classes - 1), k->of_last_class);
    struct err_text why = {""};
    struct dataset d;
    if (dataset_load(s, DATASET_TRAIN, NULL, 0, &d, &why) != 0) fail_msg("%s", why.text);
    assert_memory_equal(d.target, info->target, d.rows * sizeof *d.target);
    if (k->entries > 0) assert_int_equal(d.row_start[d.rows], k->entries);
    dataset_deinit(&d);
    if (k->test_rows > 0) {
        if (dataset_load(s, DATASET_TEST, NULL, 0, &d, &why) != 0) fail_msg("%s", why.text);
        assert_int_equal(d.rows, k->test_rows);
        assert_int_equal(count_target(d.target, d.rows, k->classes - 1), k->test_of_last_class);
        dataset_deinit(&d);
    }
    dataset_source_free(s);
}

static void test_shipped_sets_have_their_counts(void **state)
{
    (void)state;
    static const struct known_set sets[] = {
        {"data/w8a", 49749, 0, 300, 2, true, 1479, 579586, 0},
        {"data/a9a", 32561, 16281, 123, 2, true, 7841, 451592, 3846},
        {"data/fashion-mnist", 8000, 2000, 784, 10, false, 800, 0, 200},
        {"data/mnist-4-9", 11791, 1991, 784, 2, false, 5949, 0, 1009},
        {"data/phishing", 11055, 0, 68, 2, true, 6157, 331650, 0},
        {"data/w7a-t", 24600, 0, 300, 2, true, 739, 284415, 0},
    };
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) check_set(&sets[i]);
}

static void test_shipped_images_are_balanced_and_whole(void **state)
{
    (void)state;
    struct dataset_source *s = fixture_open(&(struct dataset_options){.path = "data/fashion-mnist"});
    struct err_text why = {""};
    struct dataset train, test;
    assert_int_equal(dataset_load(s, DATASET_TRAIN, NULL, 0, &train, &why), 0);
    assert_int_equal(dataset_load(s, DATASET_TEST, NULL, 0, &test, &why), 0);
    for (uint32_t c = 0; c < 10; c++) {
        assert_int_equal(count_target(train.target, train.rows, c), 800);
        assert_int_equal(count_target(test.target, test.rows, c), 200);
    }
    uint64_t sum = 0;
    for (size_t i = 0; i < 8000u * 784u; i++) sum += train.bytes[i];
    for (size_t i = 0; i < 2000u * 784u; i++) sum += test.bytes[i];
    assert_int_equal(sum, 573469082); /* all pixels of the original 10,000 test images */
    dataset_deinit(&train);
    dataset_deinit(&test);
    dataset_source_free(s);
}

/* In the file's order all positive rows of w7a-t come first: ten shards of 2,460 hold them in one. */
static void test_first_shard_of_w7a_t_holds_every_positive_row(void **state)
{
    (void)state;
    struct dataset_source *s = fixture_open(&(struct dataset_options){.path = "data/w7a-t"});
    assert_int_equal(count_target(dataset_source_info(s)->target, 2460, 1), 739);
    dataset_source_free(s);
}

static void test_two_digits_are_the_original_ones(void **state)
{
    (void)state;
    struct dataset_source *s = fixture_open(&(struct dataset_options){.path = "data/mnist-4-9"});
    struct dataset train, test;
    fixture_load_all(s, DATASET_TRAIN, &train);
    fixture_load_all(s, DATASET_TEST, &test);
    uint64_t sum[2] = {0, 0};
    for (uint32_t i = 0; i < train.rows; i++)
        for (uint32_t j = 0; j < train.features; j++)
            sum[(int)train.target[i]] += train.bytes[(size_t)i * train.features + j];
    assert_int_equal(sum[0], 141746835); /* all pixels of the 5,842 fours */
    assert_int_equal(sum[1], 145799171);
    assert_true(train.target[0] == 0.0f && train.target[1] == 1.0f); /* the third image of MNIST is a 4 */
    dataset_deinit(&train);
    dataset_deinit(&test);
    dataset_source_free(s);
}

static void test_rows_chosen_from_a_packed_set_are_the_same_rows(void **state)
{
    (void)state;
    struct dataset_source *s =
        fixture_open(&(struct dataset_options){.path = "data/w8a", .holdout = 0.2, .seed = 5});
    assert_int_equal(dataset_source_info(s)->rows + dataset_source_info(s)->test_rows, 49749);
    struct err_text why = {""};
    struct dataset all, few;
    uint32_t row[1000];
    for (uint32_t i = 0; i < 1000; i++) row[i] = i * 39;
    assert_int_equal(dataset_load(s, DATASET_TRAIN, NULL, 0, &all, &why), 0);
    assert_int_equal(dataset_load(s, DATASET_TRAIN, row, 1000, &few, &why), 0);
    for (uint32_t i = 0; i < 1000; i++) {
        uint32_t from = all.row_start[row[i]], count = all.row_start[row[i] + 1] - from;
        assert_int_equal(few.row_start[i + 1] - few.row_start[i], count);
        assert_memory_equal(few.column + few.row_start[i], all.column + from, count * sizeof *all.column);
        assert_true(few.target[i] == all.target[row[i]]);
    }
    dataset_deinit(&all);
    dataset_deinit(&few);
    dataset_source_free(s);
}

static bool is_there(const char *path)
{
    static const char *const packings[] = {"", ".gz", ".xz"};
    bool found = false;
    for (int i = 0; i < 3 && !found; i++) {
        char packed[528];
        snprintf(packed, sizeof packed, "%.510s%s", path, packings[i]);
        found = access(packed, R_OK) == 0;
    }
    return found;
}

static void test_large_sets_have_their_counts(void **state)
{
    (void)state;
    const char *root = getenv("GADABOUT_DATA");
    if (root == NULL) {
        printf("SKIP the large sets: $GADABOUT_DATA is not set\n");
        skip();
    }
    static const struct known_set sets[] = {
        {"mnist", 60000, 10000, 784, 10, false, 5949, 0, 1009},
        {"cifar10-jpeg", 20000, 5000, 3072, 10, false, 2000, 0, 500},
        {"w7a", 24692, 25057, 300, 2, true, 740, 288148, 739},
        {"phishing", 11055, 0, 68, 2, true, 6157, 0, 0},
        {"mushrooms", 6513, 1611, 126, 2, true, 3140, 0, 776},
        {"tabular/heart_scale", 270, 0, 13, 2, true, 120, 0, 0},
        {"tabular/australian_scale", 690, 0, 14, 2, true, 307, 0, 0},
        {"tabular/digits.csv", 1797, 0, 64, 10, false, 180, 0, 0},
        {"tabular/breast_cancer.csv", 569, 0, 30, 2, false, 357, 0, 0},
        {"tabular/winequality-red.csv", 1599, 0, 11, 6, false, 18, 0, 0},
        {"tabular/iris.csv", 150, 0, 4, 3, false, 50, 0, 0},
    };
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        char path[512];
        snprintf(path, sizeof path, "%.400s/%s", root, sets[i].path);
        if (!is_there(path)) {
            printf("SKIP %s: not under $GADABOUT_DATA\n", sets[i].path);
            continue;
        }
        struct known_set set = sets[i];
        set.path = path;
        check_set(&set);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shipped_sets_have_their_counts),
        cmocka_unit_test(test_shipped_images_are_balanced_and_whole),
        cmocka_unit_test(test_first_shard_of_w7a_t_holds_every_positive_row),
        cmocka_unit_test(test_two_digits_are_the_original_ones),
        cmocka_unit_test(test_rows_chosen_from_a_packed_set_are_the_same_rows),
        cmocka_unit_test(test_large_sets_have_their_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
