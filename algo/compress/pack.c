/* Whole models through a compressor, tensor by tensor; see pack.h.
 *
 * Sizes come from the tensors alone, but for the lengths of a compressor that draws how much it sends.
 * Refused, with nothing changed: a vector that is not finite or too long (checked over all tensors before the
 * first is encoded); a message that is too short, has bytes left over or a tensor that does not decode (checked
 * over all tensors before the first is applied). */
#include "algo/compress/pack.h"

#include <stdlib.h>

#include "algo/compress/internal.h"
#include "base/check.h"
#include "base/limits.h"

enum { LENGTH_BYTES = 4 };

const struct choice_spec compress_by_table[] = {
    {"model", "one vector of all parameters", "", NULL, 0},
    {"tensor", "each parameter tensor by itself", "", NULL, 0},
};
const size_t compress_by_table_count = sizeof compress_by_table / sizeof compress_by_table[0];

/* What is compressed by itself. */
struct part {
    size_t offset, dim, rows;
    size_t size; /* of its message; 0 = as its length says */
    double norm; /* while encoding */
};

struct pack {
    struct compressor *compressor;
    size_t dim;
    uint32_t count;
    bool lengths; /* parts begin with their lengths */
    struct part part[];
};

bool compress_is_by_tensor(const struct choice *compress, const struct choice *by)
{
    if (compress_is_none(compress)) return false;
    if (strcmp(compress->spec->name, "powersgd") == 0) return true;
    return by->spec != NULL && strcmp(by->spec->name, "tensor") == 0;
}

/* -- making ------------------------------------------------------------------------------------ */

static struct compressor *make_compressor(const struct choice *choice)
{
    struct choice none;
    if (choice == NULL) {
        int err = choice_parse(compress_table, compress_table_count, "--compress", "none", &none, NULL);
        CHECK(err == 0);
    }
    return compressor_new(choice != NULL ? choice : &none);
}

struct pack *pack_new(const struct choice *choice, size_t dim, const struct tensor *tensor, uint32_t count)
{
    CHECK(dim > 0 && dim <= MODEL_DIM_MAX);
    struct tensor whole = {0, 1, dim};
    if (tensor == NULL) {
        tensor = &whole;
        count = 1;
    }
    CHECK(count > 0);
    struct pack *p = mem_new_zero(1, sizeof *p + count * sizeof p->part[0]);
    p->compressor = make_compressor(choice);
    p->dim = dim;
    p->count = count;
    size_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        CHECK(tensor[i].offset == at && tensor[i].rows > 0 && tensor[i].columns > 0);
        CHECK(tensor[i].columns <= (dim - at) / tensor[i].rows);
        struct part *t = &p->part[i];
        *t = (struct part){.offset = at, .dim = tensor[i].rows * tensor[i].columns, .rows = tensor[i].rows};
        const struct compress_family *f = p->compressor->family;
        t->size =
            f->size != NULL ? f->size(p->compressor, t->rows, t->dim) : f->size_max(p->compressor, t->dim);
        p->lengths |= t->size == 0;
        at += t->dim;
    }
    CHECK(at == dim);
    p->lengths &= count > 1; /* else the message's own size says it */
    return p;
}

void pack_free(struct pack *p)
{
    if (p == NULL) return;
    compressor_free(p->compressor);
    free(p);
}

size_t pack_dim(const struct pack *p)
{
    return p->dim;
}

size_t pack_size_max(const struct pack *p)
{
    size_t size = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        const struct part *t = &p->part[i];
        size += t->size > 0 ? t->size : p->compressor->family->size_max(p->compressor, t->dim);
        size += p->lengths ? LENGTH_BYTES : 0;
    }
    return size;
}

size_t pack_bound(const struct choice *choice, size_t dim, const struct tensor *tensor, uint32_t count)
{
    struct pack *p = pack_new(choice, dim, tensor, count);
    size_t size = pack_size_max(p);
    pack_free(p);
    return size;
}

double pack_omega(const struct pack *p)
{
    const struct compress_family *f = p->compressor->family;
    double least = 1;
    for (uint32_t i = 0; i < p->count; i++) {
        const struct part *t = &p->part[i];
        double omega = f->matrix_omega != NULL ? f->matrix_omega(p->compressor, t->rows, t->dim)
                                               : f->omega(p->compressor, t->dim);
        least = omega < least ? omega : least;
    }
    return least;
}

/* -- encoding and decoding --------------------------------------------------------------------- */

static struct compress_context context_of(const struct pack *p, const struct compress_context *whole,
                                          uint32_t i)
{
    struct compress_context context = *whole;
    context.tensor = i;
    context.rows = p->part[i].rows;
    return context;
}

/* The norms of all parts; whether the whole may be encoded. */
static int measure(struct pack *p, const float *x)
{
    double norm2 = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        double part2 = sum_of_squares(p->part[i].dim, x + p->part[i].offset);
        p->part[i].norm = sqrt(part2);
        norm2 += part2;
    }
    if (!isfinite(norm2)) return ERR_FORMAT;
    return norm2 > ENCODE_NORM_MAX * ENCODE_NORM_MAX ? ERR_LIMIT : 0;
}

int pack_encode(struct pack *p, const struct compress_context *context, const float *x, uint8_t *out,
                size_t *size, float *decoded)
{
    CHECK(decoded != x);
    int err = measure(p, x);
    if (err != 0) return err;
    size_t at = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        const struct part *t = &p->part[i];
        struct compress_context own = context_of(p, context, i);
        uint8_t *length = out + at;
        if (p->lengths) at += LENGTH_BYTES;
        size_t bytes = p->compressor->family->encode(p->compressor, &own, t->dim, x + t->offset, t->norm,
                                                     out + at, decoded != NULL ? decoded + t->offset : NULL);
        CHECK_IMPLIES(t->size > 0, bytes == t->size);
        if (p->lengths) store_u32(length, (uint32_t)bytes);
        at += bytes;
    }
    *size = at;
    return 0;
}

/* Finds part i's message from *at on and moves *at behind it; false when the bytes end before. */
static bool part_find(const struct pack *p, uint32_t i, const uint8_t *bytes, size_t size, size_t *at,
                      const uint8_t **from, size_t *length)
{
    size_t left = size - *at;
    *length = p->part[i].size > 0 ? p->part[i].size : left;
    *from = bytes + *at;
    if (p->lengths) {
        if (left < LENGTH_BYTES) return false;
        *length = load_u32(*from);
        *from += LENGTH_BYTES;
        *at += LENGTH_BYTES;
        left -= LENGTH_BYTES;
    }
    if (*length > left) return false;
    *at += *length;
    return true;
}

int pack_check(struct pack *p, const struct compress_context *context, const uint8_t *bytes, size_t size)
{
    double norm2 = 0;
    size_t at = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        const uint8_t *from;
        size_t length;
        if (!part_find(p, i, bytes, size, &at, &from, &length)) return ERR_FORMAT;
        struct compress_context own = context_of(p, context, i);
        double part2 = 0;
        int err = p->compressor->family->validate(p->compressor, &own, p->part[i].dim, from, length, &part2);
        if (err != 0) return err;
        norm2 += part2;
    }
    double norm_max = context->norm_max > 0 ? context->norm_max : DECODE_NORM_MAX;
    return at == size && norm2 <= norm_max * norm_max ? 0 : ERR_FORMAT;
}

static int decode(struct pack *p, const struct compress_context *context, const uint8_t *bytes, size_t size,
                  bool add, float scale, float *out)
{
    CHECK(isfinite(scale));
    int err = pack_check(p, context, bytes, size);
    if (err != 0) return err;
    size_t at = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        const uint8_t *from;
        size_t length;
        bool found = part_find(p, i, bytes, size, &at, &from, &length);
        CHECK(found);
        struct compress_context own = context_of(p, context, i);
        p->compressor->family->apply(p->compressor, &own, p->part[i].dim, from, add, scale,
                                     out + p->part[i].offset);
    }
    return 0;
}

int pack_decode(struct pack *p, const struct compress_context *context, const uint8_t *bytes, size_t size,
                float *out)
{
    return decode(p, context, bytes, size, false, 1, out);
}

int pack_decode_add(struct pack *p, const struct compress_context *context, const uint8_t *bytes, size_t size,
                    float scale, float *out)
{
    return decode(p, context, bytes, size, true, scale, out);
}
