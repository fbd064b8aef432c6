/* Compression of the collective's sums and averages, with error feedback: what a message drops is kept in
 * units of the sum, w x, by who packed it, and added to its next sum.
 *
 * Over a restart that residual is kept. A sum that was out then may be in its round's result or not: both residuals
 * are saved, before and after it, and the first result that comes says which one holds.
 *  - it is of that round and names this node as left out, or of an earlier one: the sum came to nothing.
 *  - it is of that round with this node, or of a later one: the sum counts as held, rather lost than twice.
 *  - this node has sent another in the same round, or all began anew and their rounds too: it came to nothing. */
#include <stdlib.h>
#include <string.h>

#include "algo/vec.h"

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

/* -- over a restart ---------------------------------------------------------------------------- */

void collective_state_save(const struct collective *c, struct state_writer *out)
{
    if (c->pack == NULL) return;
    bool sum_out = c->phase != PHASE_IDLE && c->sent_up;
    const float *former = sum_out ? c->left : NULL;
    state_put64(out, sum_out);
    state_put64(out, c->round);
    state_put_floats(out, c->config.dim, c->residual);
    if (former != NULL) state_put_floats(out, c->config.dim, former);
}

int collective_state_restore(struct collective *c, struct state_reader *in, struct err_text *why)
{
    bool sum_out = state_get64(in) == 1;
    uint64_t round = state_get64(in);
    float *residual = state_get_floats(in, c->config.dim);
    float *left = sum_out ? state_get_floats(in, c->config.dim) : NULL;
    int err = state_end(in, why);
    if (err == 0 && c->pack == NULL) err = err_set(why, ERR_FORMAT, "nothing is compressed here");
    if (err != 0) {
        free(residual);
        free(left);
        return err;
    }
    vec_copy(c->config.dim, residual, c->residual);
    c->former = left;
    c->former_round = round;
    free(residual);
    return 0;
}

void collective_settle_former(struct collective *c, uint64_t round, const uint8_t *out, bool again)
{
    if (c->former == NULL) return;
    bool held = round > c->former_round || (round == c->former_round && !bit_get(out, c->config.rank));
    if (held && !again) vec_copy(c->config.dim, c->former, c->residual);
    free(c->former);
    c->former = NULL;
}
