/* Goal: class selection, holdout, the lookup of --data, the synthetic set and batches do what dataset.h says.
 * Method: small files whose rows carry their own number, so that every row can be recognised. */
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

/* -- selections ------------------------------------------------------------------------------------- */

static void test_classes_keep_and_renumber_in_their_order(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    const uint8_t train[6] = {9, 1, 4, 9, 3, 4}, test[3] = {4, 0, 9};
    fixture_write_idx(&f, "train", FIXTURE_GZ, train, 6);
    fixture_write_idx(&f, "t10k", FIXTURE_GZ, test, 3);
    struct dataset_source *s = fixture_open(&(struct dataset_options){.path = f.dir, .classes = "9,4"});
    assert_int_equal(dataset_source_info(s)->rows, 4);
    assert_int_equal(dataset_source_info(s)->test_rows, 2);
    assert_int_equal(dataset_source_info(s)->classes, 2);
    struct dataset d;
    fixture_load_all(s, DATASET_TRAIN, &d);
    const uint32_t file_row[] = {0, 2, 3, 5};
    const float target[] = {0, 1, 0, 1};
    for (uint32_t i = 0; i < 4; i++) {
        assert_true(d.target[i] == target[i]);
        assert_int_equal(d.bytes[i * FIXTURE_PIXELS + 5], fixture_pixel(file_row[i], 5));
    }
    dataset_deinit(&d);
    fixture_load_all(s, DATASET_TEST, &d);
    assert_true(d.target[0] == 1 && d.target[1] == 0);
    assert_int_equal(d.bytes[FIXTURE_PIXELS], fixture_pixel(2, 0));
    dataset_deinit(&d);
    dataset_source_free(s);
    fixture_deinit(&f);
}

static void test_classes_apply_to_text_labels(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_write_text(&f, "x.svm", FIXTURE_PLAIN, "-1 1:1\n+1 1:2\n3 1:3\n-1 1:4\n");
    struct dataset_source *s =
        fixture_open(&(struct dataset_options){.path = fixture_path(&f, "x.svm"), .classes = "3,-1"});
    struct dataset d;
    fixture_load_all(s, DATASET_TRAIN, &d);
    assert_int_equal(d.rows, 3);
    assert_true(d.target[0] == 1 && d.target[1] == 0 && d.target[2] == 1);
    assert_true(d.value[0] == 1 && d.value[1] == 3 && d.value[2] == 4);
    dataset_deinit(&d);
    dataset_source_free(s);
    fixture_deinit(&f);
}

static void write_numbered_csv(struct fixture *f, int rows)
{
    char text[8192] = "";
    for (int i = 0; i < rows; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%d,%d\n", i, i % 2);
    fixture_write_text(f, "x.csv", FIXTURE_PLAIN, text);
}

static void test_holdout_draws_each_row_once_from_the_seed(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    write_numbered_csv(&f, 200);
    float held[2][50];
    for (uint64_t seed = 0; seed < 3; seed++) {
        struct dataset_source *s =
            fixture_open(&(struct dataset_options){.path = f.dir, .holdout = 0.25, .seed = seed / 2});
        assert_int_equal(dataset_source_info(s)->rows, 150);
        assert_int_equal(dataset_source_info(s)->test_rows, 50);
        struct dataset train, test;
        fixture_load_all(s, DATASET_TRAIN, &train);
        fixture_load_all(s, DATASET_TEST, &test);
        int seen[200] = {0};
        for (int i = 0; i < 150; i++) {
            seen[(int)train.dense[i]]++;
            assert_true(train.target[i] == (float)((int)train.dense[i] % 2));
        }
        for (int i = 0; i < 50; i++) {
            seen[(int)test.dense[i]]++;
            assert_true(test.target[i] == (float)((int)test.dense[i] % 2));
            if (seed == 1) assert_true(held[0][i] == test.dense[i]);
            held[seed / 2][i] = test.dense[i];
        }
        for (int i = 0; i < 200; i++) assert_int_equal(seen[i], 1);
        dataset_deinit(&train);
        dataset_deinit(&test);
        dataset_source_free(s);
    }
    assert_memory_not_equal(held[0], held[1], sizeof held[0]);
    fixture_deinit(&f);
}

static void test_holdout_is_not_drawn_when_a_test_file_is_there(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_write_text(&f, "train.csv", FIXTURE_PLAIN, "1,0\n2,1\n3,0\n4,1\n");
    fixture_write_text(&f, "test.csv", FIXTURE_PLAIN, "5,1\n");
    struct dataset_source *s = fixture_open(&(struct dataset_options){.path = f.dir, .holdout = 0.5});
    assert_int_equal(dataset_source_info(s)->rows, 4);
    assert_int_equal(dataset_source_info(s)->test_rows, 1);
    dataset_source_free(s);
    fixture_deinit(&f);
}

static void test_path_is_looked_up_under_the_data_variable(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    write_numbered_csv(&f, 10);
    const char *saved = getenv("GADABOUT_DATA");
    char *before = saved != NULL ? mem_copy_text(saved) : NULL;
    setenv("GADABOUT_DATA", f.dir, 1);
    static const char *const paths[] = {"x.csv", "nowhere/at/all/x.csv"};
    for (int i = 0; i < 2; i++) {
        struct dataset_source *s = fixture_open(&(struct dataset_options){.path = paths[i]});
        assert_int_equal(dataset_source_info(s)->rows, 10);
        dataset_source_free(s);
    }
    unsetenv("GADABOUT_DATA");
    fixture_open_fails(&(struct dataset_options){.path = "nowhere/at/all/x.csv"}, ERR_IO,
                       "--data: 'nowhere/at/all");
    if (before != NULL) setenv("GADABOUT_DATA", before, 1);
    free(before);
    fixture_deinit(&f);
}

/* -- mixture ---------------------------------------------------------------------------------------- */

#define MIXTURE "mixture:rows=300,features=5,classes=3,spread=0.1,test=60"

static void test_mixture_rows_do_not_depend_on_the_choice_of_rows(void **state)
{
    (void)state;
    struct dataset_source *s = fixture_open(&(struct dataset_options){.path = MIXTURE, .seed = 4});
    const struct dataset_info *info = dataset_source_info(s);
    assert_int_equal(info->rows, 300);
    assert_int_equal(info->test_rows, 60);
    assert_int_equal(info->features, 5);
    assert_int_equal(info->classes, 3);
    struct dataset all, few, test;
    fixture_load_all(s, DATASET_TRAIN, &all);
    fixture_load_all(s, DATASET_TEST, &test);
    const uint32_t chosen[] = {7, 123, 299};
    fixture_load_rows(s, DATASET_TRAIN, chosen, 3, &few);
    for (uint32_t i = 0; i < 3; i++) {
        assert_memory_equal(few.dense + i * 5, all.dense + chosen[i] * 5, 5 * sizeof *all.dense);
        assert_true(few.target[i] == all.target[chosen[i]]);
    }
    assert_memory_not_equal(test.dense, all.dense, 60 * 5 * sizeof *all.dense);
    dataset_deinit(&few);
    dataset_deinit(&all);
    dataset_deinit(&test);
    dataset_source_free(s);
}

static void test_mixture_rows_lie_around_the_mean_of_their_class(void **state)
{
    (void)state;
    struct dataset_source *s = fixture_open(&(struct dataset_options){.path = MIXTURE, .seed = 4});
    struct dataset d, test;
    fixture_load_all(s, DATASET_TRAIN, &d);
    fixture_load_all(s, DATASET_TEST, &test);
    double mean[3][5] = {{0}}, count[3] = {0}, squares = 0;
    for (uint32_t i = 0; i < 300; i++) {
        count[(int)d.target[i]]++;
        for (int j = 0; j < 5; j++) mean[(int)d.target[i]][j] += (double)d.dense[i * 5 + (uint32_t)j];
    }
    for (uint32_t i = 0; i < 60; i++)
        for (int j = 0; j < 5; j++) {
            int c = (int)test.target[i];
            double off = (double)test.dense[i * 5 + (uint32_t)j] - mean[c][j] / count[c];
            squares += off * off;
        }
    assert_true(squares / 300 > 0.007 &&
                squares / 300 < 0.014); /* spread^2 = 0.01; about 8 % standard error */
    dataset_deinit(&d);
    dataset_deinit(&test);
    dataset_source_free(s);
}

/* -- batches ---------------------------------------------------------------------------------------- */

static void test_batch_scales_pixels_and_repeats_rows(void **state)
{
    (void)state;
    uint8_t bytes[] = {0, 255, 51, 102};
    float target[] = {3, 8};
    struct dataset d = {.rows = 2, .features = 2, .classes = 10, .bytes = bytes, .target = target};
    struct batch_buffer buffer = {0};
    const uint32_t rows[] = {1, 0, 1};
    const struct batch *b = batch_gather(&buffer, &d, rows, 3);
    assert_int_equal(b->rows, 3);
    assert_int_equal(b->features, 2);
    assert_null(b->row_start);
    const float expected[] = {0.2f, 0.4f, 0, 1, 0.2f, 0.4f};
    for (int i = 0; i < 6; i++) assert_float_equal(b->dense[i], expected[i], 1e-7);
    assert_true(b->dense[3] == 1);
    assert_true(b->target[0] == 8 && b->target[1] == 3 && b->target[2] == 8);
    const float *memory = b->dense;
    b = batch_gather(&buffer, &d, rows, 2);
    assert_ptr_equal(b->dense, memory); /* a smaller batch reuses it */
    assert_int_equal(b->rows, 2);
    batch_buffer_deinit(&buffer);
}

static void test_batch_of_sparse_rows_keeps_bare_rows(void **state)
{
    (void)state;
    uint32_t row_start[] = {0, 2, 2, 3}, column[] = {1, 4, 0};
    float value[] = {5, 6, 7}, target[] = {0, 1, 1};
    struct dataset d = {.rows = 3,
                        .features = 5,
                        .classes = 2,
                        .row_start = row_start,
                        .column = column,
                        .value = value,
                        .target = target};
    struct batch_buffer buffer = {0};
    const uint32_t bare[] = {1}, rows[] = {2, 1, 0, 2};
    const struct batch *b = batch_gather(&buffer, &d, bare, 1);
    assert_null(b->dense);
    assert_int_equal(b->row_start[1], 0);
    b = batch_gather(&buffer, &d, rows, 4);
    const uint32_t starts[] = {0, 1, 1, 3, 4}, columns[] = {0, 1, 4, 0};
    const float values[] = {7, 5, 6, 7};
    assert_memory_equal(b->row_start, starts, sizeof starts);
    assert_memory_equal(b->column, columns, sizeof columns);
    assert_memory_equal(b->value, values, sizeof values);
    batch_buffer_deinit(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classes_keep_and_renumber_in_their_order),
        cmocka_unit_test(test_classes_apply_to_text_labels),
        cmocka_unit_test(test_holdout_draws_each_row_once_from_the_seed),
        cmocka_unit_test(test_holdout_is_not_drawn_when_a_test_file_is_there),
        cmocka_unit_test(test_path_is_looked_up_under_the_data_variable),
        cmocka_unit_test(test_mixture_rows_do_not_depend_on_the_choice_of_rows),
        cmocka_unit_test(test_mixture_rows_lie_around_the_mean_of_their_class),
        cmocka_unit_test(test_batch_scales_pixels_and_repeats_rows),
        cmocka_unit_test(test_batch_of_sparse_rows_keeps_bare_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
