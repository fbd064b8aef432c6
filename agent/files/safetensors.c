/* Model files: eight bytes header length (little-endian), a JSON header, then the floats.
 *
 * Normal course
 *  - writing: header padded with blanks to a multiple of eight, so that the floats are aligned when mapped;
 *    temporary name, sync, rename.
 *  - reading: length, header and offsets are compared with the size of the file; only then memory for the
 *    floats is taken.
 * Failure courses of reading, each one line that names the file
 *  - not a regular file, shorter than a header, a header length beyond the file or over HEADER_MAX.
 *  - a header that is not JSON, has no tensor "x", or another type than F32, another shape than [dim].
 *  - offsets that disagree with the shape or with the file's size (truncated, trailing bytes, other tensors).
 *  - more than MODEL_DIM_MAX floats.
 */
#include "agent/files/safetensors.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/files/atomic_file.h"
#include "base/check.h"
#include "base/limits.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "floats are written as they are in memory");
_Static_assert(sizeof(float) == 4, "F32");

enum { LENGTH_SIZE = 8, HEADER_MAX = 1024 * 1024 };

/* -- writing ----------------------------------------------------------------------------------- */

/* Returns the header as owned text; NULL when metadata is not UTF-8. */
static char *make_header(size_t dim, const struct metadata *meta, size_t meta_count)
{
    json_t *strings = json_object();
    bool good = true;
    for (size_t i = 0; i < meta_count; i++)
        good = json_object_set_new(strings, meta[i].key, json_string(meta[i].value)) == 0 && good;
    json_int_t count = (json_int_t)dim;
    json_t *header = json_pack("{s:o, s:{s:s, s:[I], s:[I,I]}}", "__metadata__", strings, "x", "dtype", "F32",
                               "shape", count, "data_offsets", (json_int_t)0, count * 4);
    char *text = good ? json_dumps(header, JSON_COMPACT) : NULL;
    json_decref(header);
    return text;
}

int safetensors_write(const char *path, const float *x, size_t dim, const struct metadata *meta,
                      size_t meta_count, struct err_text *why)
{
    CHECK(dim <= MODEL_DIM_MAX);
    char *header = make_header(dim, meta, meta_count);
    if (header == NULL) return err_set(why, ERR_FORMAT, "cannot write %s: its metadata is not UTF-8", path);
    struct atomic_file f;
    int err = atomic_file_open(path, &f, why);
    if (err == 0) {
        uint64_t used = strlen(header);
        uint64_t length = (used + 7) / 8 * 8;
        fwrite(&length, LENGTH_SIZE, 1, f.stream);
        fprintf(f.stream, "%s%*s", header, (int)(length - used), "");
        fwrite(x, sizeof *x, dim, f.stream);
        err = atomic_file_commit(&f, why); /* notices errors of all writes */
    }
    free(header);
    return err;
}

/* -- reading ----------------------------------------------------------------------------------- */

struct reading {
    FILE *stream;
    const char *path;
    uint64_t size; /* bytes of the file */
    uint64_t dim;
};

static int malformed(const struct reading *r, struct err_text *why, const char *what)
{
    return err_set(why, ERR_FORMAT, "%s: not a model file of gadabout: %s", r->path, what);
}

static int open_file(struct reading *r, struct err_text *why)
{
    struct stat status;
    /* asked by name first: opening a named pipe would wait for a writer */
    if (stat(r->path, &status) != 0)
        return err_set(why, ERR_IO, "cannot open %s: %s", r->path, strerror(errno));
    if (!S_ISREG(status.st_mode)) return err_set(why, ERR_IO, "cannot open %s: not a regular file", r->path);
    r->stream = fopen(r->path, "rb");
    if (r->stream == NULL) return err_set(why, ERR_IO, "cannot open %s: %s", r->path, strerror(errno));
    r->size = (uint64_t)status.st_size;
    return 0;
}

static int read_bytes(struct reading *r, void *out, size_t size, struct err_text *why)
{
    if (fread(out, 1, size, r->stream) == size) return 0;
    return err_set(why, ERR_IO, "cannot read %s: it ends early", r->path);
}

/* Returns a whole number >= 0 of a JSON value in *out, or false. */
static bool whole(const json_t *value, uint64_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

static int check_tensor(struct reading *r, const json_t *x, uint64_t data_size, struct err_text *why)
{
    if (!json_is_object(x)) return malformed(r, why, "no tensor \"x\"");
    const char *dtype = json_string_value(json_object_get(x, "dtype"));
    if (dtype == NULL || strcmp(dtype, "F32") != 0) return malformed(r, why, "its tensor is not F32");
    const json_t *shape = json_object_get(x, "shape");
    if (json_array_size(shape) != 1 || !whole(json_array_get(shape, 0), &r->dim) || r->dim == 0)
        return malformed(r, why, "its shape is not [dim]");
    if (r->dim > MODEL_DIM_MAX)
        return err_set(why, ERR_LIMIT, "%s: has %llu parameters, at most %llu are allowed", r->path,
                       (unsigned long long)r->dim, (unsigned long long)MODEL_DIM_MAX);
    const json_t *offsets = json_object_get(x, "data_offsets");
    uint64_t begin, end;
    if (json_array_size(offsets) != 2 || !whole(json_array_get(offsets, 0), &begin) ||
        !whole(json_array_get(offsets, 1), &end) || begin != 0 || end != r->dim * 4)
        return malformed(r, why, "its offsets disagree with its shape");
    if (end == data_size) return 0;
    return err_set(why, ERR_FORMAT, "%s: holds %llu bytes of parameters, but its header says %llu; it is %s",
                   r->path, (unsigned long long)data_size, (unsigned long long)end,
                   data_size < end ? "truncated" : "longer than that");
}

static int check_header(struct reading *r, const char *text, size_t size, struct err_text *why)
{
    json_error_t error;
    json_t *header = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    int err = header == NULL
                  ? malformed(r, why, "its header is not JSON")
                  : check_tensor(r, json_object_get(header, "x"), r->size - LENGTH_SIZE - size, why);
    json_decref(header);
    return err;
}

static int read_header(struct reading *r, struct err_text *why)
{
    uint64_t length;
    if (r->size < LENGTH_SIZE) return malformed(r, why, "shorter than a header");
    int err = read_bytes(r, &length, LENGTH_SIZE, why);
    if (err != 0) return err;
    if (length > r->size - LENGTH_SIZE) return malformed(r, why, "its header is longer than the file");
    if (length > HEADER_MAX) return malformed(r, why, "its header is over 1 MiB");
    char *text = mem_new((size_t)length, 1);
    err = read_bytes(r, text, (size_t)length, why);
    if (err == 0) err = check_header(r, text, (size_t)length, why);
    free(text);
    return err;
}

int safetensors_read(const char *path, float **x, size_t *dim, struct err_text *why)
{
    struct reading r = {.path = path};
    int err = open_file(&r, why);
    if (err != 0) return err;
    err = read_header(&r, why);
    if (err == 0) {
        float *values = mem_new((size_t)r.dim, sizeof *values);
        err = read_bytes(&r, values, (size_t)r.dim * sizeof *values, why);
        if (err == 0) {
            *x = values;
            *dim = (size_t)r.dim;
        } else {
            free(values);
        }
    }
    fclose(r.stream);
    return err;
}
