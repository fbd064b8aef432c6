/* Goal: what is written in each format and packing comes back, row for row.
 * Method: small files in a temporary directory, every format plain, .gz and .xz. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "dataset_fixture.h"

/* -- formats ---------------------------------------------------------------------------------------- */

static void test_idx_comes_back_in_every_packing(void **state)
{
    (void)state;
    const uint8_t train[5] = {0, 2, 1, 2, 0}, test[2] = {2, 1};
    for (int packing = 0; packing < FIXTURE_PACKING_COUNT; packing++) {
        struct fixture f;
        fixture_init(&f);
        fixture_write_idx(&f, "train", (enum fixture_packing)packing, train, 5);
        fixture_write_idx(&f, "t10k", (enum fixture_packing)packing, test, 2);
        struct dataset_source *s = fixture_open(&(struct dataset_options){.path = f.dir});
        const struct dataset_info *info = dataset_source_info(s);
        assert_int_equal(info->rows, 5);
        assert_int_equal(info->test_rows, 2);
        assert_int_equal(info->features, FIXTURE_PIXELS);
        assert_int_equal(info->classes, 3);
        assert_false(info->sparse);
        for (int i = 0; i < 5; i++) assert_true(info->target[i] == (float)train[i]);
        struct dataset d;
        const uint32_t chosen[] = {1, 2, 4};
        fixture_load_rows(s, DATASET_TRAIN, chosen, 3, &d);
        for (uint32_t i = 0; i < 3; i++) {
            assert_true(d.target[i] == (float)train[chosen[i]]);
            for (uint32_t j = 0; j < FIXTURE_PIXELS; j++)
                assert_int_equal(d.bytes[i * FIXTURE_PIXELS + j], fixture_pixel(chosen[i], j));
        }
        dataset_deinit(&d);
        fixture_load_all(s, DATASET_TEST, &d);
        assert_int_equal(d.rows, 2);
        assert_true(d.target[0] == 2 && d.target[1] == 1);
        dataset_deinit(&d);
        dataset_source_free(s);
        fixture_deinit(&f);
    }
}

static void write_cifar(struct fixture *f, const char *name, enum fixture_packing packing, uint32_t first,
                        uint32_t count)
{
    uint8_t *data = mem_new(count, 3073);
    for (uint32_t i = 0; i < count; i++) {
        data[i * 3073] = (uint8_t)((first + i) % 10);
        for (uint32_t j = 0; j < 3072; j++) data[i * 3073 + 1 + j] = (uint8_t)((first + i) * 31 + j);
    }
    fixture_write(f, name, packing, data, (size_t)count * 3073);
    free(data);
}

static void test_cifar_batches_are_one_part(void **state)
{
    (void)state;
    for (int packing = 0; packing < FIXTURE_PACKING_COUNT; packing++) {
        struct fixture f;
        fixture_init(&f);
        write_cifar(&f, "data_batch_1.bin", (enum fixture_packing)packing, 0, 7);
        write_cifar(&f, "data_batch_2.bin", (enum fixture_packing)packing, 7, 5);
        write_cifar(&f, "test_batch.bin", (enum fixture_packing)packing, 100, 3);
        struct dataset_source *s = fixture_open(&(struct dataset_options){.path = f.dir});
        const struct dataset_info *info = dataset_source_info(s);
        assert_int_equal(info->rows, 12);
        assert_int_equal(info->test_rows, 3);
        assert_int_equal(info->features, 3072);
        assert_int_equal(info->classes, 10);
        struct dataset d;
        const uint32_t chosen[] = {0, 6, 7, 11};
        fixture_load_rows(s, DATASET_TRAIN, chosen, 4, &d);
        for (uint32_t i = 0; i < 4; i++) {
            assert_true(d.target[i] == (float)(chosen[i] % 10));
            for (uint32_t j = 0; j < 3072; j += 511)
                assert_int_equal(d.bytes[i * 3072 + j], (uint8_t)(chosen[i] * 31 + j));
        }
        dataset_deinit(&d);
        dataset_source_free(s);
        fixture_deinit(&f);
    }
}

static const char libsvm_text[] = "+1 1:0.5 3:-2e-1\n-1\n\n# a comment\n+1 5:7 # and here\r\n-1 2:1 5:0.25";

static void test_libsvm_comes_back_in_every_packing(void **state)
{
    (void)state;
    const uint32_t row_start[] = {0, 2, 2, 3, 5}, column[] = {0, 2, 4, 1, 4};
    const float value[] = {0.5f, -0.2f, 7, 1, 0.25f}, target[] = {1, 0, 1, 0};
    for (int packing = 0; packing < FIXTURE_PACKING_COUNT; packing++) {
        struct fixture f;
        fixture_init(&f);
        fixture_write_text(&f, "small.libsvm", (enum fixture_packing)packing, libsvm_text);
        struct dataset_source *s =
            fixture_open(&(struct dataset_options){.path = fixture_path(&f, "small.libsvm")});
        const struct dataset_info *info = dataset_source_info(s);
        assert_int_equal(info->rows, 4);
        assert_int_equal(info->test_rows, 0);
        assert_int_equal(info->features, 5);
        assert_int_equal(info->classes, 2);
        assert_true(info->sparse);
        struct dataset d;
        fixture_load_all(s, DATASET_TRAIN, &d);
        assert_memory_equal(d.row_start, row_start, sizeof row_start);
        assert_memory_equal(d.column, column, sizeof column);
        assert_memory_equal(d.value, value, sizeof value);
        assert_memory_equal(d.target, target, sizeof target);
        dataset_deinit(&d);
        const uint32_t chosen[] = {1, 3};
        fixture_load_rows(s, DATASET_TRAIN, chosen, 2, &d);
        assert_int_equal(d.row_start[1], 0);
        assert_int_equal(d.row_start[2], 2);
        assert_int_equal(d.column[1], 4);
        dataset_deinit(&d);
        dataset_source_free(s);
        fixture_deinit(&f);
    }
}

static void test_libsvm_features_are_given_known_or_found(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_write_text(&f, "a9a", FIXTURE_PLAIN, "-1 3:1\n+1 4:1\n");
    struct dataset_source *s = fixture_open(&(struct dataset_options){.path = fixture_path(&f, "a9a")});
    assert_int_equal(dataset_source_info(s)->features, 123);
    dataset_source_free(s);
    s = fixture_open(&(struct dataset_options){.path = fixture_path(&f, "a9a"), .features = 9});
    assert_int_equal(dataset_source_info(s)->features, 9);
    dataset_source_free(s);
    fixture_open_fails(&(struct dataset_options){.path = fixture_path(&f, "a9a"), .features = 3}, ERR_FORMAT,
                       "a9a:2: index 4 is above the 3 features");
    fixture_deinit(&f);
}

static void test_libsvm_train_and_test_files_of_a_directory(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_write_text(&f, "toy.txt.train", FIXTURE_GZ, "1 1:1\n2 2:1\n3 7:1\n");
    fixture_write_text(&f, "toy.txt.test", FIXTURE_XZ, "3 2:5\n1\n");
    struct dataset_source *s = fixture_open(&(struct dataset_options){.path = f.dir});
    assert_int_equal(dataset_source_info(s)->classes, 3);
    assert_int_equal(dataset_source_info(s)->features, 7);
    struct dataset d;
    fixture_load_all(s, DATASET_TEST, &d);
    assert_int_equal(d.rows, 2);
    assert_true(d.target[0] == 2 && d.target[1] == 0);
    dataset_deinit(&d);
    dataset_source_free(s);
    fixture_deinit(&f);
}

struct csv_case {
    const char *text;
    uint32_t rows, features, classes;
    float first, target; /* of row 0 */
};

static const struct csv_case csv_cases[] = {
    {"1,2,0\n3,4,1\n", 2, 2, 2, 1, 0},
    {"a,b,c\n1,2,5\n3,4,3\n", 2, 2, 2, 1, 1},
    {"\"a b\",\"c\",\"d\"\r\n1,2,5\r\n3,4,3\r\n", 2, 2, 2, 1, 1},
    {"3,2,malignant,benign\r\n-1.5e1, 2 ,0\r\n3,4,1\r\n5,6,1", 3, 2, 2, -15, 0},
    {"1,2,0.5\n3,4,1\n", 2, 2, 1, 1, 0.5f},
    {",x,y\n1,2,7\n\n3,4,9\n", 2, 2, 2, 1, 0},
};

static void test_csv_kinds_come_back_in_every_packing(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof csv_cases / sizeof csv_cases[0] * FIXTURE_PACKING_COUNT; i++) {
        const struct csv_case *c = &csv_cases[i / FIXTURE_PACKING_COUNT];
        struct fixture f;
        fixture_init(&f);
        fixture_write_text(&f, "x.csv", (enum fixture_packing)(i % FIXTURE_PACKING_COUNT), c->text);
        struct dataset_source *s = fixture_open(&(struct dataset_options){.path = fixture_path(&f, "x.csv")});
        const struct dataset_info *info = dataset_source_info(s);
        assert_int_equal(info->rows, c->rows);
        assert_int_equal(info->features, c->features);
        assert_int_equal(info->classes, c->classes);
        struct dataset d;
        fixture_load_all(s, DATASET_TRAIN, &d);
        assert_true(d.dense[0] == c->first && d.target[0] == c->target);
        assert_true(d.dense[2] == 3 && d.dense[3] == 4);
        dataset_deinit(&d);
        dataset_source_free(s);
        fixture_deinit(&f);
    }
}

static void test_more_than_100_whole_targets_are_a_regression(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    char text[4096] = "";
    for (int i = 0; i < 101; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%d,%d\n", i, 3 * i);
    fixture_write_text(&f, "x.csv", FIXTURE_PLAIN, text);
    struct dataset_source *s = fixture_open(&(struct dataset_options){.path = f.dir});
    assert_int_equal(dataset_source_info(s)->classes, 1);
    assert_true(dataset_source_info(s)->target[100] == 300);
    dataset_source_free(s);
    memcpy(strrchr(text, '3'), "0\n", 3); /* the last target, 300, becomes 0: a hundred values are left */
    fixture_write_text(&f, "x.csv", FIXTURE_PLAIN, text);
    s = fixture_open(&(struct dataset_options){.path = f.dir});
    assert_int_equal(dataset_source_info(s)->classes, 100);
    dataset_source_free(s);
    fixture_deinit(&f);
}

/* A line longer than the reader's buffer, and lines that straddle its edge. */
static void test_long_lines_and_many_lines_survive_the_buffer(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    size_t size = 2u << 20, used = 0;
    char *text = mem_new(size, 1);
    used += (size_t)snprintf(text, size, "1");
    for (int j = 1; j <= 60000; j++)
        used += (size_t)snprintf(text + used, size - used, " %d:%d", j, j % 9 + 1);
    for (int i = 0; i < 50000; i++)
        used += (size_t)snprintf(text + used, size - used, "\n%d %d:1", i % 2, i % 60000 + 1);
    assert_true(used < size - 1);
    for (int packing = 0; packing < FIXTURE_PACKING_COUNT; packing++)
        fixture_write(&f, "big", (enum fixture_packing)packing, text, used);
    static const char *const names[] = {"big", "big.gz", "big.xz"};
    for (int packing = 0; packing < FIXTURE_PACKING_COUNT; packing++) {
        struct dataset_source *s =
            fixture_open(&(struct dataset_options){.path = fixture_path(&f, names[packing])});
        assert_int_equal(dataset_source_info(s)->rows, 50001);
        struct dataset d;
        fixture_load_all(s, DATASET_TRAIN, &d);
        assert_int_equal(d.row_start[50001], 110000);
        for (uint32_t j = 0; j < 60000; j++)
            assert_true(d.column[j] == j && d.value[j] == (float)((j + 1) % 9 + 1));
        for (uint32_t i = 0; i < 50000; i++) {
            assert_int_equal(d.column[60000 + i], i);
            assert_true(d.target[i + 1] == (float)(i % 2));
        }
        dataset_deinit(&d);
        dataset_source_free(s);
    }
    free(text);
    fixture_deinit(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_idx_comes_back_in_every_packing),
        cmocka_unit_test(test_cifar_batches_are_one_part),
        cmocka_unit_test(test_libsvm_comes_back_in_every_packing),
        cmocka_unit_test(test_libsvm_features_are_given_known_or_found),
        cmocka_unit_test(test_libsvm_train_and_test_files_of_a_directory),
        cmocka_unit_test(test_csv_kinds_come_back_in_every_packing),
        cmocka_unit_test(test_more_than_100_whole_targets_are_a_regression),
        cmocka_unit_test(test_long_lines_and_many_lines_survive_the_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
