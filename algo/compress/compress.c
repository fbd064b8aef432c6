/* The table of compressors (--compress) and what they have in common: creation, the checks before encoding
 * and decoding, streams of draws, runs of floats. */
#include <stdlib.h>

#include "algo/compress/internal.h"
#include "base/check.h"
#include "base/limits.h"

static_assert(MODEL_DIM_MAX <= (uint64_t)1 << 31, "a position is below 2^31: prng_below takes 32 bits");

#define FRACTION_MIN 1e-9
enum { INT8_BLOCK_MAX = 4096, QSGD_BITS_MAX = 16, RANK_MAX = 1024 };

static const struct param_spec int8_params[] = {
    {"block", PARAM_INTEGER, "256", 1, INT8_BLOCK_MAX, NULL, "entries that share a scale"},
};
static const struct param_spec topk_params[] = {
    {"fraction", PARAM_REAL, "0.01", FRACTION_MIN, 1, NULL, "part of the entries that is sent"},
};
static const struct param_spec randk_params[] = {
    {"fraction", PARAM_REAL, "0.01", FRACTION_MIN, 1, NULL, "part of the entries that is sent"},
    {"variant", PARAM_WORD, "plain", 0, 0, "plain|unbiased", "as they are, or times 1/fraction"},
};
static const struct param_spec block_params[] = {
    {"fraction", PARAM_REAL, "0.015625", FRACTION_MIN, 1, NULL, "part of the entries that is sent"},
};
static const struct param_spec bernoulli_params[] = {
    {"p", PARAM_REAL, "0.01", FRACTION_MIN, 1, NULL, "probability of each entry"},
};
static const struct param_spec qsgd_params[] = {
    {"bits", PARAM_INTEGER, "4", 1, QSGD_BITS_MAX, NULL, "bits of an entry beside its sign"},
    {"variant", PARAM_WORD, "scaled", 0, 0, "scaled|unbiased", "divided by tau so that it contracts, or not"},
    {"levels", PARAM_WORD, "fit", 0, 0, "fit|power",
     "2^bits - 1 levels, or 2^bits for one bit more an entry"},
};
static const struct param_spec powersgd_params[] = {
    {"rank", PARAM_INTEGER, "2", 1, RANK_MAX, NULL, "columns of the two factors"},
};

enum {
    COMPRESS_NONE,
    COMPRESS_FP16,
    COMPRESS_BF16,
    COMPRESS_INT8,
    COMPRESS_TOPK,
    COMPRESS_RANDK,
    COMPRESS_BLOCK,
    COMPRESS_BERNOULLI,
    COMPRESS_SIGN,
    COMPRESS_QSGD,
    COMPRESS_POWERSGD
};

const struct choice_spec compress_table[] = {
    [COMPRESS_NONE] = {"none", "every entry as it is", "", NULL, 0},
    [COMPRESS_FP16] = {"fp16", "entries in half precision", "", NULL, 0},
    [COMPRESS_BF16] = {"bf16", "entries cut to 8 bits of mantissa", "", NULL, 0},
    [COMPRESS_INT8] = {"int8", "entries in 8 bits, a scale per block", "", int8_params, 1},
    [COMPRESS_TOPK] = {"topk", "the entries of greatest absolute value", "Stich et al. 2018", topk_params, 1},
    [COMPRESS_RANDK] = {"randk", "random entries, the same at both ends", "Stich et al. 2018", randk_params,
                        2},
    [COMPRESS_BLOCK] = {"block", "a random run of entries, the same at all nodes", "Xu, Huang 2022",
                        block_params, 1},
    [COMPRESS_BERNOULLI] = {"bernoulli", "each entry with probability p, the same at both ends",
                            "Koloskova et al. 2019", bernoulli_params, 1},
    [COMPRESS_SIGN] = {"sign", "signs and the mean absolute value", "Karimireddy et al. 2019", NULL, 0},
    [COMPRESS_QSGD] = {"qsgd", "randomly rounded to levels of the norm", "Alistarh et al. 2017", qsgd_params,
                       3},
    [COMPRESS_POWERSGD] = {"powersgd", "two factors of low rank, where there is a matrix",
                           "Vogels et al. 2019", powersgd_params, 1},
};
const size_t compress_table_count = sizeof compress_table / sizeof compress_table[0];

static const struct compress_family *const families[] = {
    [COMPRESS_NONE] = &compress_none,         [COMPRESS_FP16] = &compress_fp16,
    [COMPRESS_BF16] = &compress_bf16,         [COMPRESS_INT8] = &compress_int8,
    [COMPRESS_TOPK] = &compress_topk,         [COMPRESS_RANDK] = &compress_randk,
    [COMPRESS_BLOCK] = &compress_block,       [COMPRESS_BERNOULLI] = &compress_bernoulli,
    [COMPRESS_SIGN] = &compress_sign,         [COMPRESS_QSGD] = &compress_qsgd,
    [COMPRESS_POWERSGD] = &compress_powersgd,
};

static_assert(sizeof families / sizeof families[0] == sizeof compress_table / sizeof compress_table[0],
              "a family for each name");

/* -- creation ---------------------------------------------------------------------------------- */

static bool word_is(const struct choice *choice, const char *key, const char *word)
{
    return strcmp(choice_text(choice, key), word) == 0;
}

static void take_params(struct compressor *c, const struct choice *choice)
{
    switch (choice->index) {
    case COMPRESS_NONE:
        c->copies = c->unbiased = c->shared = true;
        return;
    case COMPRESS_FP16:
    case COMPRESS_BF16:
    case COMPRESS_SIGN:
        return;
    case COMPRESS_INT8:
        c->block = choice_integer(choice, "block");
        return;
    case COMPRESS_TOPK:
        c->fraction = choice_number(choice, "fraction");
        c->copies = true;
        return;
    case COMPRESS_RANDK:
        c->fraction = choice_number(choice, "fraction");
        c->unbiased = word_is(choice, "variant", "unbiased");
        c->copies = !c->unbiased;
        c->shared = true;
        return;
    case COMPRESS_BLOCK:
        c->fraction = choice_number(choice, "fraction");
        c->copies = c->shared = true;
        return;
    case COMPRESS_BERNOULLI:
        c->fraction = choice_number(choice, "p");
        c->copies = c->shared = true;
        return;
    case COMPRESS_QSGD:
        c->levels = (1u << choice_integer(choice, "bits")) - (word_is(choice, "levels", "fit") ? 1 : 0);
        c->code_width = 1 + index_width((size_t)c->levels + 1);
        c->unbiased = word_is(choice, "variant", "unbiased");
        return;
    case COMPRESS_POWERSGD:
        c->rank = choice_integer(choice, "rank");
        return;
    }
    UNREACHABLE();
}

struct compressor *compressor_new(const struct choice *choice)
{
    CHECK(choice->index < compress_table_count);
    CHECK(choice->spec == &compress_table[choice->index]);
    struct compressor *c = mem_new_zero(1, sizeof *c);
    c->family = families[choice->index];
    take_params(c, choice);
    return c;
}

void compressor_free(struct compressor *c)
{
    if (c == NULL) return;
    free(c->mask);
    free(c->scratch);
    free(c);
}

static void check_dim(size_t dim)
{
    CHECK(dim > 0);
    CHECK(dim <= MODEL_DIM_MAX);
}

size_t compress_size_max(const struct choice *choice, size_t dim)
{
    check_dim(dim);
    if (choice == NULL) return dim * sizeof(float);
    struct compressor *c = compressor_new(choice);
    size_t size = compressor_size_max(c, dim);
    compressor_free(c);
    return size;
}

size_t compressor_size_max(const struct compressor *c, size_t dim)
{
    check_dim(dim);
    return c->family->size_max(c, dim);
}

double compressor_omega(const struct compressor *c, size_t dim)
{
    check_dim(dim);
    return c->family->omega(c, dim);
}

bool compressor_is_unbiased(const struct compressor *c)
{
    return c->unbiased;
}

bool compressor_is_shared(const struct compressor *c)
{
    return c->shared;
}

bool compressor_copies_values(const struct compressor *c)
{
    return c->copies;
}

/* -- encoding and decoding --------------------------------------------------------------------- */

/* Four sums, so that an addition need not wait for the one before; squares of floats cannot overflow a
 * double, so the sum is finite exactly when every entry is. */
double sum_of_squares(size_t dim, const float *x)
{
    double sum[4] = {0, 0, 0, 0};
    size_t i = 0;
    for (; i + 4 <= dim; i += 4)
        for (size_t l = 0; l < 4; l++) sum[l] += (double)x[i + l] * (double)x[i + l];
    for (; i < dim; i++) sum[i % 4] += (double)x[i] * (double)x[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

int compressor_encode(struct compressor *c, const struct compress_context *context, size_t dim,
                      const float *x, uint8_t *out, size_t *size, float *decoded)
{
    check_dim(dim);
    CHECK(decoded != x);
    CHECK_IMPLIES(context->rows > 1, dim % context->rows == 0);
    double norm2 = sum_of_squares(dim, x);
    if (!isfinite(norm2)) return ERR_FORMAT;
    if (norm2 > ENCODE_NORM_MAX * ENCODE_NORM_MAX) return ERR_LIMIT;
    *size = c->family->encode(c, context, dim, x, sqrt(norm2), out, decoded);
    CHECK(*size <= c->family->size_max(c, dim));
    return 0;
}

static int decode(struct compressor *c, const struct compress_context *context, size_t dim,
                  const uint8_t *bytes, size_t size, bool add, float scale, float *out)
{
    check_dim(dim);
    CHECK_IMPLIES(context->rows > 1, dim % context->rows == 0);
    double norm2 = 0;
    int err = c->family->validate(c, context, dim, bytes, size, &norm2);
    if (err != 0) return err;
    double norm_max = context->norm_max > 0 ? context->norm_max : DECODE_NORM_MAX;
    if (!(norm2 <= norm_max * norm_max)) return ERR_FORMAT;
    c->family->apply(c, context, dim, bytes, add, scale, out);
    return 0;
}

int compressor_decode(struct compressor *c, const struct compress_context *context, size_t dim,
                      const uint8_t *bytes, size_t size, float *out)
{
    return decode(c, context, dim, bytes, size, false, 1, out);
}

int compressor_decode_add(struct compressor *c, const struct compress_context *context, size_t dim,
                          const uint8_t *bytes, size_t size, float scale, float *out)
{
    CHECK(isfinite(scale));
    return decode(c, context, dim, bytes, size, true, scale, out);
}

/* -- shared by the families -------------------------------------------------------------------- */

float *compressor_scratch(struct compressor *c, size_t count)
{
    if (c->scratch_count < count) {
        c->scratch = mem_resize(c->scratch, count, sizeof *c->scratch);
        c->scratch_count = count;
    }
    return c->scratch;
}

void context_stream(const struct compress_context *context, const char *label, bool private_draw,
                    struct prng *out)
{
    prng_split(out, context->seed, label, context->tensor);
    prng_split(out, prng_next(out), "round", context->round);
    if (private_draw) prng_split(out, prng_next(out), "dither", context->dither);
}

size_t kept_count(double fraction, size_t dim)
{
    double k = nearbyint(fraction * (double)dim);
    return k < 1 ? 1 : k > (double)dim ? dim : (size_t)k;
}

unsigned index_width(size_t dim)
{
    unsigned width = 0;
    while (((size_t)1 << width) < dim) width++;
    return width;
}

bool floats_validate(const uint8_t *bytes, size_t count, double *norm2)
{
    double sum[2] = {0, 0};
    bool plain = true;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = load_u32(bytes + 4 * i);
        plain &= float_is_plain(bits);
        double v = (double)bits_float(bits);
        sum[i & 1] += v * v;
    }
    *norm2 += sum[0] + sum[1];
    return plain;
}

void floats_store(const float *x, size_t count, uint8_t *out, float *decoded)
{
    for (size_t i = 0; i < count; i++) {
        float v = flushed(x[i]);
        store_f32(out + 4 * i, v);
        if (decoded != NULL) decoded[i] = v;
    }
}

void floats_apply(const uint8_t *bytes, size_t count, bool add, float scale, float *out)
{
    for (size_t i = 0; i < count; i++) put_value(&out[i], load_f32(bytes + 4 * i), add, scale);
}
