/* Compression of the collective's sums and averages, with error feedback: what a message drops is kept in
 * units of the sum, w x, by who packed it, and added to its next sum. */
#include <string.h>

#include "algo/collective/parts.h"
#include "base/check.h"

static struct compress_context context_of(const struct collective *c, uint64_t round)
{
    return (struct compress_context){.seed = c->config.seed, .round = round, .dither = c->config.rank};
}

static struct blob *pack(struct collective *c, const struct blob *vec)
{
    if (c->pack == NULL) return NULL;
    struct blob *packed = blob_new(pack_size_max(c->pack));
    struct compress_context context = context_of(c, c->round);
    size_t size = 0;
    if (pack_encode(c->pack, &context, blob_floats(vec), packed->data, &size, c->left) != 0) {
        memset(c->left, 0, c->config.dim * sizeof *c->left); /* it goes whole, and nothing is lacking */
        blob_unref(packed);
        return NULL;
    }
    packed->size = size;
    return packed;
}

struct blob *collective_pack_sum(struct collective *c, const struct blob *sum)
{
    struct blob *packed = pack(c, sum);
    if (packed == NULL) return NULL;
    const float *whole = blob_floats(sum);
    for (size_t i = 0; i < c->config.dim; i++) c->left[i] = whole[i] - c->left[i];
    return packed;
}

struct blob *collective_pack_average(struct collective *c, struct blob **average, double weight)
{
    struct blob *packed = pack(c, *average);
    if (packed == NULL) return NULL;
    const float *whole = blob_floats(*average);
    struct blob *told = blob_copy(c->left, c->config.dim * sizeof *c->left);
    for (size_t i = 0; i < c->config.dim; i++)
        c->left[i] = (float)(weight * ((double)whole[i] - (double)c->left[i]));
    blob_unref(*average);
    *average = told;
    return packed;
}

int collective_unpack(struct collective *c, const struct algo_msg *m, struct blob **vec)
{
    if (m->packed == NULL) {
        *vec = blob_ref(m->vec);
        return 0;
    }
    if (c->pack == NULL) return ERR_PROTO;
    struct compress_context context = context_of(c, m->field[0]);
    struct blob *whole = blob_new(c->config.dim * sizeof(float));
    if (pack_decode(c->pack, &context, m->packed->data, m->packed->size, blob_floats_own(whole)) != 0) {
        blob_unref(whole);
        return ERR_PROTO;
    }
    *vec = whole;
    return 0;
}
