/* Goal: a model file reads back bit for bit, and a file that is truncated, lies about itself or is garbage is
 * refused with one line that names it, without a large allocation.
 * Method: write, read, compare; then a table of planted headers, every truncation of a small file, every
 * single byte of its header flipped, and random garbage. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/files/safetensors.h"
#include "base/prng.h"

enum { FILE_MAX = 4096 };

struct fixture {
    char folder[64];
    char path[96];
};

static int make_folder(void **state)
{
    struct fixture *f = test_calloc(1, sizeof *f);
    snprintf(f->folder, sizeof f->folder, "/tmp/gadabout-model-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->path, sizeof f->path, "%s/model.safetensors", f->folder);
    *state = f;
    return 0;
}

static int remove_folder(void **state)
{
    struct fixture *f = *state;
    unlink(f->path);
    assert_int_equal(rmdir(f->folder), 0); /* fails when a temporary file stayed behind */
    test_free(f);
    return 0;
}

static void write_bytes(const char *path, const void *bytes, size_t size)
{
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes, 1, size, out), size);
    assert_int_equal(fclose(out), 0);
}

static size_t read_bytes(const char *path, uint8_t *bytes, size_t size)
{
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    size_t got = fread(bytes, 1, size, in);
    assert_int_equal(fclose(in), 0);
    return got;
}

static void assert_refused(const char *path, int expected, const char *word, const char *what)
{
    float *x = NULL;
    size_t dim = 0;
    struct err_text why = {""};
    int err = safetensors_read(path, &x, &dim, &why);
    if (err == 0) free(x);
    if (err != expected) fail_msg("%s: got %s (%s)", what, err_name(err), why.text);
    if (strstr(why.text, path) == NULL || strstr(why.text, word) == NULL || strchr(why.text, '\n') != NULL)
        fail_msg("%s: line lacks the file or \"%s\": %s", what, word, why.text);
}

static void write_sample(const char *path, const float *x, size_t dim)
{
    const struct metadata meta[] = {{"task", "softmax:l2=0"}, {"note", "quotes \" and \\ and \n"}};
    struct err_text why = {""};
    int err = safetensors_write(path, x, dim, meta, 2, &why);
    if (err != 0) fail_msg("%s", why.text);
}

static void a_model_reads_back_bit_for_bit(void **state)
{
    struct fixture *f = *state;
    static const size_t dims[] = {1, 2, 3, 1000};
    for (size_t k = 0; k < sizeof dims / sizeof dims[0]; k++) {
        float x[1000];
        struct prng random;
        prng_seed(&random, k);
        for (size_t i = 0; i < dims[k]; i++) x[i] = (float)prng_normal(&random);
        x[0] = -0.0f;
        write_sample(f->path, x, dims[k]); /* replaces the file before it */
        float *back;
        size_t dim;
        struct err_text why;
        assert_int_equal(safetensors_read(f->path, &back, &dim, &why), 0);
        assert_int_equal(dim, dims[k]);
        assert_memory_equal(back, x, dim * sizeof *x);
        free(back);
    }
}

static void other_tools_find_the_documented_layout(void **state)
{
    struct fixture *f = *state;
    const float x[3] = {1, 2, 3};
    uint8_t bytes[FILE_MAX];
    write_sample(f->path, x, 3);
    size_t size = read_bytes(f->path, bytes, sizeof bytes - 1);
    uint64_t length;
    memcpy(&length, bytes, sizeof length);
    assert_int_equal(length % 8, 0);
    assert_int_equal(size, 8 + length + sizeof x);
    assert_memory_equal(bytes + 8 + length, x, sizeof x);
    bytes[8 + length] = '\0';
    assert_non_null(
        strstr((char *)bytes + 8, "\"x\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}"));
    assert_non_null(strstr((char *)bytes + 8, "\"__metadata__\":{\"task\":\"softmax:l2=0\""));
}

/* Writes a file with this header (and its true length, or `length` when it is not 0) and data bytes. */
static void write_planted(const char *path, const char *header, uint64_t length, size_t data_size)
{
    uint8_t bytes[FILE_MAX] = {0};
    uint64_t stated = length != 0 ? length : strlen(header);
    memcpy(bytes, &stated, sizeof stated);
    memcpy(bytes + 8, header, strlen(header));
    write_bytes(path, bytes, 8 + strlen(header) + data_size);
}

static void lying_headers_are_refused(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *header;
        uint64_t length;
        size_t data_size;
        int err;
        const char *word;
    } cases[] = {
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 100000, 8, ERR_FORMAT,
         "longer than"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", UINT64_MAX, 8, ERR_FORMAT,
         "longer than"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 5, 8, ERR_FORMAT, "not JSON"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 0, 7, ERR_FORMAT, "truncated"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 0, 9, ERR_FORMAT, "longer"},
        {"{\"x\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]}}", 0, 8, ERR_FORMAT, "F32"},
        {"{\"x\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}}", 0, 4, ERR_FORMAT, "F32"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]}}", 0, 8, ERR_FORMAT, "shape"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, 0, ERR_FORMAT, "shape"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 0, 8, ERR_FORMAT, "shape"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}", 0, 8, ERR_FORMAT, "shape"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}}", 0, 8, ERR_FORMAT, "shape"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,8]}}", 0, 8, ERR_FORMAT, "offsets"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,9]}}", 0, 9, ERR_FORMAT, "offsets"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2]}}", 0, 8, ERR_FORMAT, "offsets"},
        /* 2^62 floats: four times that would overflow; and just over the limit */
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}}", 0, 0,
         ERR_LIMIT, "4611686018427387904"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2147483649],\"data_offsets\":[0,8589934596]}}", 0, 4,
         ERR_LIMIT, "2147483648"},
        /* within the limit, but the file is small: 8 GB must not be asked for */
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2147483648],\"data_offsets\":[0,8589934592]}}", 0, 4,
         ERR_FORMAT, "truncated"},
        {"{\"y\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 0, 8, ERR_FORMAT, "\"x\""},
        {"{\"x\":5}", 0, 0, ERR_FORMAT, "\"x\""},
        {"{\"x\":{},\"x\":{}}", 0, 0, ERR_FORMAT, "JSON"},
        {"[1,2]", 0, 0, ERR_FORMAT, "\"x\""},
        {"", 0, 0, ERR_FORMAT, "JSON"},
        {"{\"x\"", 0, 0, ERR_FORMAT, "JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_planted(f->path, cases[i].header, cases[i].length, cases[i].data_size);
        assert_refused(f->path, cases[i].err, cases[i].word, cases[i].header);
    }
    /* the planted form is good when nothing lies: the table above tests what it seems to test */
    write_planted(f->path, "{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 0, 8);
    float *x;
    size_t dim;
    assert_int_equal(safetensors_read(f->path, &x, &dim, NULL), 0);
    free(x);
}

static void every_truncation_is_refused(void **state)
{
    struct fixture *f = *state;
    const float x[4] = {1, 2, 3, 4};
    uint8_t bytes[FILE_MAX];
    write_sample(f->path, x, 4);
    size_t size = read_bytes(f->path, bytes, sizeof bytes);
    for (size_t i = 0; i < size; i++) {
        write_bytes(f->path, bytes, i);
        assert_refused(f->path, ERR_FORMAT, "", "truncated");
    }
    bytes[size] = 0;
    write_bytes(f->path, bytes, size + 1);
    assert_refused(f->path, ERR_FORMAT, "longer", "one byte more");
}

/* A flipped bit of the header may go unnoticed only where it changes no meaning (metadata, blanks, keys that
 * are not read); it never yields another vector. */
static void flipped_header_bytes_never_change_the_vector(void **state)
{
    struct fixture *f = *state;
    const float x[4] = {1, 2, 3, 4};
    uint8_t bytes[FILE_MAX];
    write_sample(f->path, x, 4);
    size_t size = read_bytes(f->path, bytes, sizeof bytes);
    size_t refused = 0;
    for (size_t bit = 0; bit < (size - sizeof x) * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        write_bytes(f->path, bytes, size);
        float *back;
        size_t dim;
        struct err_text why;
        if (safetensors_read(f->path, &back, &dim, &why) == 0) {
            assert_int_equal(dim, 4);
            assert_memory_equal(back, x, sizeof x);
            free(back);
        } else {
            refused++;
        }
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_true(refused > 64 * 7); /* at least the length field and the tensor's description */
}

static void garbage_is_refused(void **state)
{
    struct fixture *f = *state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        uint8_t bytes[FILE_MAX];
        struct prng random;
        prng_seed(&random, seed);
        size_t size = prng_below(&random, sizeof bytes);
        for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)prng_next(&random);
        if (seed % 2 == 0 && size > 8) { /* every other one with a length that is believed */
            uint64_t length = prng_below(&random, (uint32_t)size - 8);
            memcpy(bytes, &length, sizeof length);
        }
        write_bytes(f->path, bytes, size);
        assert_refused(f->path, ERR_FORMAT, "", "garbage");
    }
}

static void what_is_no_file_is_refused(void **state)
{
    struct fixture *f = *state;
    assert_refused("/nowhere/model.safetensors", ERR_IO, "No such file", "missing");
    assert_refused(f->folder, ERR_IO, "not a regular file", "folder");
    assert_int_equal(mkfifo(f->path, 0600), 0);
    assert_refused(f->path, ERR_IO, "not a regular file", "named pipe without a writer");
}

static void a_file_that_cannot_be_written_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    const float x[1] = {1};
    struct err_text why = {""};
    const struct metadata latin[] = {{"task", "caf\xe9"}};
    assert_int_equal(safetensors_write("/nowhere/model.safetensors", x, 1, NULL, 0, &why), ERR_IO);
    assert_non_null(strstr(why.text, "/nowhere/model.safetensors"));
    assert_int_equal(safetensors_write(f->path, x, 1, latin, 1, &why), ERR_FORMAT);
    assert_int_equal(access(f->path, F_OK), -1);
    assert_int_equal(mkdir(f->path, 0700), 0); /* the target is a folder: the rename fails */
    assert_int_equal(safetensors_write(f->path, x, 1, NULL, 0, &why), ERR_IO);
    assert_int_equal(rmdir(f->path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_model_reads_back_bit_for_bit, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(other_tools_find_the_documented_layout, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(lying_headers_are_refused, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(every_truncation_is_refused, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(flipped_header_bytes_never_change_the_vector, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(garbage_is_refused, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(what_is_no_file_is_refused, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_file_that_cannot_be_written_leaves_nothing, make_folder,
                                        remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
