/* Files for the tests of data sets; see dataset_fixture.h. Anything that goes wrong here fails the test. */
#include "dataset_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <lzma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/check.h"

void fixture_init(struct fixture *f)
{
    snprintf(f->dir, sizeof f->dir, "/tmp/gadabout-data-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
}

void fixture_deinit(struct fixture *f)
{
    DIR *d = opendir(f->dir);
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d))
        if (e->d_name[0] != '.') assert_int_equal(unlink(fixture_path(f, e->d_name)), 0);
    closedir(d);
    assert_int_equal(rmdir(f->dir), 0);
}

const char *fixture_path(struct fixture *f, const char *name)
{
    snprintf(f->path, sizeof f->path, "%s/%.250s", f->dir, name);
    return f->path;
}

static void write_plain(const char *path, const void *data, size_t size)
{
    FILE *to = fopen(path, "wb");
    assert_non_null(to);
    assert_int_equal(fwrite(data, 1, size, to), size);
    assert_int_equal(fclose(to), 0);
}

void fixture_write(struct fixture *f, const char *name, enum fixture_packing packing, const void *data,
                   size_t size)
{
    char packed_name[256];
    static const char *const suffix[] = {"", ".gz", ".xz"};
    snprintf(packed_name, sizeof packed_name, "%s%s", name, suffix[packing]);
    const char *path = fixture_path(f, packed_name);
    if (packing == FIXTURE_PLAIN) {
        write_plain(path, data, size);
    } else if (packing == FIXTURE_GZ) {
        gzFile to = gzopen(path, "wb9");
        assert_non_null(to);
        if (size > 0) assert_int_equal(gzwrite(to, data, (unsigned)size), size);
        assert_int_equal(gzclose(to), Z_OK);
    } else {
        size_t bound = lzma_stream_buffer_bound(size), used = 0;
        uint8_t *packed = mem_new(bound, 1);
        assert_int_equal(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC32, NULL, data, size, packed, &used, bound),
                         LZMA_OK);
        write_plain(path, packed, used);
        free(packed);
    }
}

void fixture_write_text(struct fixture *f, const char *name, enum fixture_packing packing, const char *text)
{
    fixture_write(f, name, packing, text, strlen(text));
}

void fixture_cut(struct fixture *f, const char *name, size_t bytes)
{
    struct stat info;
    const char *path = fixture_path(f, name);
    assert_int_equal(stat(path, &info), 0);
    assert_true((size_t)info.st_size > bytes);
    assert_int_equal(truncate(path, info.st_size - (off_t)bytes), 0);
}

uint8_t fixture_pixel(uint32_t row, uint32_t column)
{
    return (uint8_t)(row * 7 + column);
}

static uint8_t *put_u32(uint8_t *to, uint32_t value)
{
    for (int i = 0; i < 4; i++) to[i] = (uint8_t)(value >> (24 - 8 * i));
    return to + 4;
}

void fixture_write_idx(struct fixture *f, const char *part, enum fixture_packing packing,
                       const uint8_t *label, uint32_t count)
{
    uint8_t *data = mem_new(16 + (size_t)count * FIXTURE_PIXELS, 1);
    uint8_t *to = put_u32(put_u32(put_u32(put_u32(data, 2051), count), 2), 3);
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t j = 0; j < FIXTURE_PIXELS; j++) *to++ = fixture_pixel(i, j);
    char name[64];
    snprintf(name, sizeof name, "%s-images-idx3-ubyte", part);
    fixture_write(f, name, packing, data, (size_t)(to - data));
    to = put_u32(put_u32(data, 2049), count);
    memcpy(to, label, count);
    snprintf(name, sizeof name, "%s-labels-idx1-ubyte", part);
    fixture_write(f, name, packing, data, 8 + (size_t)count);
    free(data);
}

struct dataset_source *fixture_open(const struct dataset_options *options)
{
    struct dataset_source *s = NULL;
    struct err_text why = {""};
    int err = dataset_open(options, &s, &why);
    if (err != 0) fail_msg("%s", why.text);
    return s;
}

void fixture_open_fails(const struct dataset_options *options, int code, const char *says)
{
    struct dataset_source *s = NULL;
    struct err_text why = {""};
    int err = dataset_open(options, &s, &why);
    if (err == 0) dataset_source_free(s);
    if (err != code || strstr(why.text, says) == NULL)
        fail_msg("%s: expected %d with '%s', got %d '%s'", options->path, code, says, err, why.text);
}

void fixture_load_all(const struct dataset_source *s, enum dataset_part part, struct dataset *out)
{
    struct err_text why = {""};
    int err = dataset_load(s, part, NULL, 0, out, &why);
    if (err != 0) fail_msg("%s", why.text);
}

void fixture_load_rows(const struct dataset_source *s, enum dataset_part part, const uint32_t *row,
                       uint32_t count, struct dataset *out)
{
    struct err_text why = {""};
    int err = dataset_load(s, part, row, count, out, &why);
    if (err != 0) fail_msg("%s", why.text);
    assert_int_equal(out->rows, count);
}
