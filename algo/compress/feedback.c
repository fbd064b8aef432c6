/* Error feedback and EF21 over any compressor. The sum or difference that is compressed is formed beside the
 * state, which takes it over only when encoding succeeded: a refused vector leaves no trace. */
#include "algo/compress/feedback.h"

#include <stdlib.h>
#include <string.h>

#include "algo/vec.h"
#include "base/check.h"
#include "base/limits.h"

static float *vector_new(size_t dim)
{
    CHECK(dim > 0);
    CHECK(dim <= MODEL_DIM_MAX);
    return mem_new_zero(dim, sizeof(float));
}

static void vector_add(size_t dim, const float *x, float *y)
{
    for (size_t i = 0; i < dim; i++) y[i] += x[i];
}

/* -- error feedback ---------------------------------------------------------------------------- */

void feedback_init(struct feedback *f, struct compressor *compressor, size_t dim)
{
    *f = (struct feedback){compressor, dim, vector_new(dim), vector_new(dim), vector_new(dim)};
}

void feedback_deinit(struct feedback *f)
{
    free(f->residual);
    free(f->work);
    free(f->decoded);
    memset(f, 0, sizeof *f);
}

int feedback_encode(struct feedback *f, const struct compress_context *context, const float *x, uint8_t *out,
                    size_t *size, const float **decoded)
{
    for (size_t i = 0; i < f->dim; i++) f->work[i] = f->residual[i] + x[i];
    int err = compressor_encode(f->compressor, context, f->dim, f->work, out, size, f->decoded);
    if (err != 0) return err;
    vec_sub(f->dim, f->work, f->decoded, f->residual);
    if (decoded != NULL) *decoded = f->decoded;
    return 0;
}

void feedback_return(struct feedback *f, const float *decoded)
{
    vector_add(f->dim, decoded, f->residual);
}

/* -- EF21 -------------------------------------------------------------------------------------- */

void ef21_init(struct ef21 *e, struct compressor *compressor, size_t dim, const float *known)
{
    *e = (struct ef21){compressor, dim, vector_new(dim), vector_new(dim), vector_new(dim)};
    if (known != NULL) vec_copy(dim, known, e->known);
}

void ef21_deinit(struct ef21 *e)
{
    free(e->known);
    free(e->work);
    free(e->decoded);
    memset(e, 0, sizeof *e);
}

int ef21_encode(struct ef21 *e, const struct compress_context *context, const float *x, uint8_t *out,
                size_t *size, const float **decoded)
{
    vec_sub(e->dim, x, e->known, e->work);
    int err = compressor_encode(e->compressor, context, e->dim, e->work, out, size, e->decoded);
    if (err != 0) return err;
    vector_add(e->dim, e->decoded, e->known);
    if (decoded != NULL) *decoded = e->decoded;
    return 0;
}

int ef21_receive(struct ef21 *e, const struct compress_context *context, const uint8_t *bytes, size_t size)
{
    return compressor_decode_add(e->compressor, context, e->dim, bytes, size, 1, e->known);
}
