/* Goal: every malformed or missing input ends in the right code and one line that names the file and the
 * place, without a large allocation and without a leak.
 * Method: a table of damaged files (each differs in one thing from a good one, which the first tests open),
 * truncated and corrupted packings, headers that lie, bad selections. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/check.h"
#include "dataset_fixture.h"

static long resident_max_kib(void)
{
    struct rusage usage;
    assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
    return usage.ru_maxrss;
}

/* -- text ------------------------------------------------------------------------------------------- */

struct text_case {
    const char *name, *text;
    int code; /* 0 = opens */
    const char *says;
};

static const struct text_case text_cases[] = {
    {"good.svm", "+1 1:1 3:2\n-1 2:1\n", 0, ""},
    {"zero.svm", "+1 1:1\n-1 0:1\n", ERR_FORMAT, "zero.svm:2: index 0"},
    {"down.svm", "+1 1:1\n-1 3:1 2:1\n", ERR_FORMAT, "down.svm:2: index 2 after 3"},
    {"twice.svm", "+1 3:1 3:1\n-1 2:1\n", ERR_FORMAT, "twice.svm:1: index 3 after 3"},
    {"huge.svm", "+1 1:1\n-1 99999999999999999999:1\n", ERR_FORMAT, "huge.svm:2: index"},
    {"nan.svm", "+1 1:nan\n-1 2:1\n", ERR_FORMAT, "nan.svm:1: expected"},
    {"inf.svm", "+1 1:1e39\n-1 2:1\n", ERR_FORMAT, "inf.svm:1: expected"},
    {"hex.svm", "+1 1:0x10\n-1 2:1\n", ERR_FORMAT, "hex.svm:1: expected"},
    {"colon.svm", "+1 1:1\n-1 2\n", ERR_FORMAT, "colon.svm:2: expected"},
    {"empty value.svm", "+1 1:\n-1 2:1\n", ERR_FORMAT, "empty value.svm:1: expected"},
    {"negative.svm", "+1 -1:4\n-1 2:1\n", ERR_FORMAT, "negative.svm:1: expected"},
    {"word.svm", "+1 1:1\nspam 2:1\n", ERR_FORMAT, "word.svm:2: expected"},
    {"glued.svm", "+1 1:1\n-1 2:13:1\n", ERR_FORMAT, "glued.svm:2: expected"},
    {"bare.svm", "+1\n-1\n", ERR_FORMAT, "bare.svm: no row has a feature"},
    {"one.svm", "+1 1:1\n+1 2:1\n", ERR_FORMAT, "all 2 training rows have the same label"},
    {"good.csv", "a,b,y\n1,2,0\n3,4,1\n", 0, ""},
    {"nan.csv", "a,b,y\n1,2,0\n3,NaN,1\n", ERR_FORMAT, "nan.csv:3: column 2 is 'NaN'"},
    {"first.csv", "nan,2,0\n3,4,1\n", ERR_FORMAT, "first.csv:1: column 1 is 'nan'"},
    {"inf.csv", "1,2,0\ninf,4,1\n", ERR_FORMAT, "inf.csv:2: column 1 is 'inf'"},
    {"large.csv", "1,2,0\n1e40,4,1\n", ERR_FORMAT, "large.csv:2: column 1"},
    {"empty.csv", "1,2,0\n3,,1\n", ERR_FORMAT, "empty.csv:2: column 2 is ''"},
    {"empty first.csv", ",2,0\n3,4,1\n", ERR_FORMAT, "empty first.csv:1: column 1 is ''"},
    {"empty last.csv", "1,2,0\n3,4,\n", ERR_FORMAT, "empty last.csv:2: column 3 is ''"},
    {"word.csv", "1,2,0\n3,x,1\n", ERR_FORMAT, "word.csv:2: column 2 is 'x'"},
    {"short.csv", "1,2,0\n3,4\n", ERR_FORMAT, "short.csv:2: fewer than the 3 fields"},
    {"long.csv", "1,2,0\n3,4,1,5\n", ERR_FORMAT, "long.csv:2: more than the 3 fields"},
    {"header.csv", "a,b\n1,2,0\n", ERR_FORMAT, "header.csv:2: more than the 2 fields"},
    {"count.csv", "3,2,no,yes\n1,2,0\n3,4,1\n", ERR_FORMAT, "count.csv:1: header promises 3 rows"},
    {"width.csv", "2,3,no,yes\n1,2,0\n3,4,1\n", ERR_FORMAT, "width.csv:2: fewer than the 4 fields"},
    {"single.csv", "1\n2\n", ERR_FORMAT, "single.csv:1: one column"},
    {"nothing.csv", "", ERR_FORMAT, "nothing.csv: has no rows"},
    {"only.csv", "a,b,y\n", ERR_FORMAT, "only.csv: has no rows"},
    {"prose.txt", "once upon a time\n", ERR_FORMAT, "prose.txt is neither idx images, libsvm text nor CSV"},
    {"fake.csv.gz", "1,2,0\n3,4,1\n", ERR_FORMAT, "fake.csv.gz: is not a gzip file"},
    {"fake.csv.xz", "1,2,0\n3,4,1\n", ERR_FORMAT, "fake.csv.xz: is not an xz file"},
};

static void test_bad_text_names_file_and_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof text_cases / sizeof text_cases[0]; i++) {
        const struct text_case *c = &text_cases[i];
        struct fixture f;
        fixture_init(&f);
        fixture_write_text(&f, c->name, FIXTURE_PLAIN, c->text);
        const struct dataset_options options = {.path = fixture_path(&f, c->name)};
        if (c->code == 0)
            dataset_source_free(fixture_open(&options));
        else
            fixture_open_fails(&options, c->code, c->says);
        fixture_deinit(&f);
    }
}

static void test_nul_bytes_in_text_are_refused(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_write(&f, "x.svm", FIXTURE_PLAIN, "+1 1:1\n-1 2:1\0 3:1\n", 19);
    fixture_open_fails(&(struct dataset_options){.path = fixture_path(&f, "x.svm")}, ERR_FORMAT, "x.svm:2:");
    fixture_write(&f, "x.csv", FIXTURE_PLAIN, "1,0\n2,1\0\n", 9);
    fixture_open_fails(&(struct dataset_options){.path = fixture_path(&f, "x.csv")}, ERR_FORMAT, "x.csv:2:");
    fixture_deinit(&f);
}

/* -- packings --------------------------------------------------------------------------------------- */

/* Writes rows that do not compress well, so that a cut falls into data. */
static char *make_rows(size_t rows)
{
    size_t size = rows * 32, used = 0;
    char *text = mem_new(size, 1);
    struct prng p;
    prng_seed(&p, 1);
    for (size_t i = 0; i < rows; i++)
        used += (size_t)snprintf(text + used, size - used, "%u,%u,%zu\n", prng_below(&p, 1000000),
                                 prng_below(&p, 1000000), i % 2);
    return text;
}

static void test_truncated_packing_is_never_a_short_read(void **state)
{
    (void)state;
    char *text = make_rows(3000);
    static const char *const names[] = {"", "x.csv.gz", "x.csv.xz"};
    static const size_t cuts[] = {1, 4, 8, 12, 1000, 12000};
    for (int packing = FIXTURE_GZ; packing <= FIXTURE_XZ; packing++)
        for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
            struct fixture f;
            fixture_init(&f);
            fixture_write_text(&f, "x.csv", (enum fixture_packing)packing, text);
            const char *path = fixture_path(&f, names[packing]);
            dataset_source_free(fixture_open(&(struct dataset_options){.path = path}));
            fixture_cut(&f, names[packing], cuts[i]);
            char says[64];
            snprintf(says, sizeof says, "%s: truncated", names[packing]);
            fixture_open_fails(&(struct dataset_options){.path = fixture_path(&f, names[packing])}, ERR_IO,
                               says);
            fixture_deinit(&f);
        }
    free(text);
}

static void test_damaged_packing_is_refused(void **state)
{
    (void)state;
    char *text = make_rows(3000);
    static const char *const names[] = {"", "x.csv.gz", "x.csv.xz"};
    for (int packing = FIXTURE_GZ; packing <= FIXTURE_XZ; packing++) {
        struct fixture f;
        fixture_init(&f);
        fixture_write_text(&f, "x.csv", (enum fixture_packing)packing, text);
        FILE *file = fopen(fixture_path(&f, names[packing]), "r+b");
        assert_non_null(file);
        assert_int_equal(fseek(file, packing == FIXTURE_GZ ? -6 : -40, SEEK_END),
                         0); /* checksum, block or index */
        int byte = fgetc(file);
        assert_int_equal(fseek(file, -1, SEEK_CUR), 0);
        assert_int_equal(fputc(byte ^ 0x55, file), byte ^ 0x55);
        assert_int_equal(fclose(file), 0);
        fixture_open_fails(&(struct dataset_options){.path = fixture_path(&f, names[packing])}, ERR_FORMAT,
                           packing == FIXTURE_GZ ? "x.csv.gz: damaged gzip data"
                                                 : "x.csv.xz: damaged xz data");
        fixture_deinit(&f);
    }
    free(text);
}

static void test_truncated_images_are_found_when_they_are_read(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    uint8_t *label = mem_new_zero(200000, 1); /* large enough that the header is read without the end */
    label[1] = 1;
    fixture_write_idx(&f, "train", FIXTURE_GZ, label, 200000);
    free(label);
    fixture_cut(&f, "train-images-idx3-ubyte.gz", 9);
    struct dataset_source *s = fixture_open(&(struct dataset_options){.path = f.dir});
    struct dataset d;
    struct err_text why;
    assert_int_equal(dataset_load(s, DATASET_TRAIN, NULL, 0, &d, &why), ERR_IO);
    assert_non_null(strstr(why.text, "train-images-idx3-ubyte.gz: truncated"));
    assert_null(d.target);
    dataset_source_free(s);
    fixture_deinit(&f);
}

/* -- idx and CIFAR ---------------------------------------------------------------------------------- */

struct idx_case {
    const char *file; /* rewritten with bytes after a good pair was written */
    uint8_t bytes[24];
    size_t size;
    int code;
    const char *says;
};

#define IMAGES "train-images-idx3-ubyte"
#define LABELS "train-labels-idx1-ubyte"

static const struct idx_case idx_cases[] = {
    {IMAGES, {0, 0, 8, 1, 0, 0, 0, 3}, 24, ERR_FORMAT, IMAGES ": starts with magic number 2049, not 2051"},
    {LABELS, {0, 0, 8, 3, 0, 0, 0, 3}, 11, ERR_FORMAT, LABELS ": starts with magic number 2051, not 2049"},
    {LABELS,
     {0, 0, 8, 1, 0, 0},
     6,
     ERR_FORMAT,
     LABELS ": ends after 6 bytes, in the middle of the idx header"},
    {LABELS,
     {0, 0, 8, 1, 0, 0, 0, 4, 0, 1, 2},
     11,
     ERR_FORMAT,
     LABELS ": header asks for 12 bytes, but the file has 11"},
    {LABELS,
     {0, 0, 8, 1, 0, 0, 0, 2, 0, 1, 2},
     11,
     ERR_FORMAT,
     LABELS ": header asks for 10 bytes, but the file has 11"},
    {LABELS, {0, 0, 8, 1, 0, 0, 0, 2, 0, 1}, 10, ERR_FORMAT, IMAGES ": holds 3 images, but"},
    {LABELS, {0, 0, 8, 1, 0, 0, 0, 0}, 8, ERR_FORMAT, "images, but"},
    {LABELS, {0, 0, 8, 1, 0x80, 0, 0, 0, 0, 1}, 10, ERR_LIMIT, LABELS ": header claims 2147483648 rows"},
    {IMAGES,
     {0, 0, 8, 3, 0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3},
     24,
     ERR_LIMIT,
     IMAGES ": header claims 2147483648"},
    {IMAGES,
     {0, 0, 8, 3, 0, 0, 0, 3, 255, 255, 255, 255, 255, 255, 255, 255},
     24,
     ERR_LIMIT,
     IMAGES ": header claims"},
    {IMAGES, {0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 3}, 24, ERR_LIMIT, "claims 0 pixels"},
    {IMAGES,
     {0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 16, 0, 0, 0, 16, 0},
     24,
     ERR_FORMAT,
     "header asks for 50331664 bytes"},
};

static void test_bad_idx_headers_are_refused_before_memory_is_taken(void **state)
{
    (void)state;
    long before = resident_max_kib();
    const uint8_t label[3] = {0, 1, 2};
    for (size_t i = 0; i < sizeof idx_cases / sizeof idx_cases[0]; i++) {
        const struct idx_case *c = &idx_cases[i];
        struct fixture f;
        fixture_init(&f);
        fixture_write_idx(&f, "train", FIXTURE_PLAIN, label, 3);
        dataset_source_free(fixture_open(&(struct dataset_options){.path = f.dir}));
        fixture_write(&f, c->file, FIXTURE_PLAIN, c->bytes, c->size);
        fixture_open_fails(&(struct dataset_options){.path = f.dir}, c->code, c->says);
        fixture_deinit(&f);
    }
    assert_true(resident_max_kib() - before < 64 * 1024);
}

/* Packed files cannot be compared with their size, so memory must follow what really comes out. */
static void test_lying_packed_headers_take_no_memory(void **state)
{
    (void)state;
    long before = resident_max_kib();
    struct fixture f;
    fixture_init(&f);
    static const uint8_t labels[] = {0, 0, 8, 1, 5, 0, 0, 0, 0, 1}; /* 83,886,080 rows in 2 bytes */
    static const uint8_t images[] = {0, 0, 8, 3, 5, 0, 0, 0, 0, 0, 16, 0, 0, 0, 16, 0, 1, 2, 3};
    fixture_write(&f, IMAGES, FIXTURE_GZ, images, sizeof images);
    fixture_write(&f, LABELS, FIXTURE_GZ, labels, sizeof labels);
    fixture_open_fails(&(struct dataset_options){.path = f.dir}, ERR_FORMAT,
                       LABELS ".gz: ends after 10 bytes, in the middle of the labels its header counts");
    static const uint8_t true_labels[] = {0, 0, 8, 1, 0, 0, 0, 2, 0, 1};
    static const uint8_t big_images[] = {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 16, 0, 0, 0, 16, 0, 1, 2, 3};
    fixture_write(&f, IMAGES, FIXTURE_GZ, big_images, sizeof big_images); /* 2 x 16 MiB in 3 bytes */
    fixture_write(&f, LABELS, FIXTURE_GZ, true_labels, sizeof true_labels);
    struct dataset_source *s = fixture_open(&(struct dataset_options){.path = f.dir});
    struct dataset d;
    struct err_text why;
    assert_int_equal(dataset_load(s, DATASET_TRAIN, NULL, 0, &d, &why), ERR_FORMAT);
    assert_non_null(strstr(why.text, IMAGES ".gz: ends after 19 bytes"));
    dataset_source_free(s);
    fixture_deinit(&f);
    assert_true(resident_max_kib() - before < 64 * 1024);
}

static void test_images_without_labels_are_named(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_write(&f, IMAGES, FIXTURE_PLAIN, "\0\0\10\3", 4);
    fixture_open_fails(&(struct dataset_options){.path = f.dir}, ERR_IO, "has no labels beside it; " LABELS);
    fixture_open_fails(&(struct dataset_options){.path = fixture_path(&f, IMAGES)}, ERR_IO,
                       "--data: no labels beside");
    fixture_deinit(&f);
}

static void test_test_label_that_training_rows_lack_is_out_of_range(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    const uint8_t train[3] = {0, 1, 2}, test[2] = {1, 3};
    fixture_write_idx(&f, "train", FIXTURE_PLAIN, train, 3);
    fixture_write_idx(&f, "t10k", FIXTURE_PLAIN, test, 2);
    fixture_open_fails(&(struct dataset_options){.path = f.dir}, ERR_FORMAT,
                       "t10k-labels-idx1-ubyte: row 2 has label 3, which no training row has");
    fixture_deinit(&f);
}

static void test_bad_cifar_records_are_named(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    uint8_t *data = mem_new_zero(3, 3073);
    data[2 * 3073] = 10;
    fixture_write(&f, "train.bin", FIXTURE_PLAIN, data, 3 * 3073);
    fixture_open_fails(&(struct dataset_options){.path = f.dir}, ERR_FORMAT,
                       "train.bin: record 3 has label 10");
    fixture_write(&f, "train.bin", FIXTURE_PLAIN, data, 2 * 3073 - 1);
    fixture_open_fails(&(struct dataset_options){.path = f.dir}, ERR_FORMAT,
                       "train.bin: ends in the middle of record 2");
    free(data);
    fixture_deinit(&f);
}

/* -- options ---------------------------------------------------------------------------------------- */

struct option_case {
    const char *path; /* NULL = the good directory */
    const char *classes;
    uint32_t features;
    double holdout;
    int code;
    const char *says;
};

static const struct option_case option_cases[] = {
    {"/nowhere/at/all", NULL, 0, 0, ERR_IO, "--data: '/nowhere/at/all' is not there"},
    {"", NULL, 0, 0, ERR_USAGE, "--data: nothing given"},
    {"mixture:rows=0", NULL, 0, 0, ERR_USAGE, "--data: mixture:rows=0"},
    {"mixture:row=7", NULL, 0, 0, ERR_USAGE, "did you mean 'rows'"},
    {"mixture:rows=5,features=3", NULL, 4, 0, ERR_FORMAT, "has 3 features a row, but 4"},
    {NULL, "9,7", 0, 0, ERR_USAGE, "--classes: no training row of train-images"},
    {NULL, "1,1", 0, 0, ERR_USAGE, "--classes: label 1 is named twice"},
    {NULL, "1", 0, 0, ERR_USAGE, "--classes: '1' names one label"},
    {NULL, "1,", 0, 0, ERR_USAGE, "--classes: '1,' is not a list"},
    {NULL, "cat,dog", 0, 0, ERR_USAGE, "--classes: 'cat,dog' is not a list"},
    {NULL, NULL, 5, 0, ERR_FORMAT, "has 6 features a row, but 5 were expected"},
    {NULL, NULL, UINT32_MAX, 0, ERR_LIMIT, "--features: 4294967295"},
    {NULL, NULL, 0, 1, ERR_USAGE, "--holdout: 1 must be"},
    {NULL, NULL, 0, -0.5, ERR_USAGE, "--holdout: -0.5 must be"},
    {NULL, NULL, 0, 0.9, ERR_USAGE, "--holdout: 0.9 of 3 rows leaves none"},
};

static void test_bad_options_name_option_and_value(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    const uint8_t label[3] = {0, 1, 2};
    fixture_write_idx(&f, "train", FIXTURE_PLAIN, label, 3);
    char images[400];
    snprintf(images, sizeof images, "%s", fixture_path(&f, IMAGES));
    for (size_t i = 0; i < sizeof option_cases / sizeof option_cases[0]; i++) {
        const struct option_case *c = &option_cases[i];
        fixture_open_fails(&(struct dataset_options){.path = c->path != NULL ? c->path : images,
                                                     .classes = c->classes,
                                                     .features = c->features,
                                                     .holdout = c->holdout},
                           c->code, c->says);
    }
    fixture_deinit(&f);
}

static void test_directories_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_open_fails(&(struct dataset_options){.path = f.dir}, ERR_IO,
                       "holds no data set; give a directory");
    fixture_write_text(&f, "a.csv", FIXTURE_PLAIN, "1,0\n2,1\n");
    fixture_write_text(&f, "b.csv", FIXTURE_GZ, "1,0\n2,1\n");
    fixture_open_fails(&(struct dataset_options){.path = f.dir}, ERR_USAGE, "several .csv files; name one");
    fixture_deinit(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_idx_headers_are_refused_before_memory_is_taken),
        cmocka_unit_test(test_lying_packed_headers_take_no_memory),
        cmocka_unit_test(test_bad_text_names_file_and_line),
        cmocka_unit_test(test_nul_bytes_in_text_are_refused),
        cmocka_unit_test(test_truncated_packing_is_never_a_short_read),
        cmocka_unit_test(test_damaged_packing_is_refused),
        cmocka_unit_test(test_truncated_images_are_found_when_they_are_read),
        cmocka_unit_test(test_images_without_labels_are_named),
        cmocka_unit_test(test_test_label_that_training_rows_lack_is_out_of_range),
        cmocka_unit_test(test_bad_cifar_records_are_named),
        cmocka_unit_test(test_bad_options_name_option_and_value),
        cmocka_unit_test(test_directories_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
