/* What a node of DIGEST keeps over a restart.
 *
 * The number of its plan: no plan to come shall be taken for one of the former life by somebody who remembers that
 * (ledger.c).
 *
 * The progress that no token has taken yet, x_v - r_v, and what compression kept back of the last token here,
 * r_v - q_v[s]. Both are added to the next token that comes, as a difference: it does not matter which model the node
 * begins with. Tokens, snapshots, lines and plans are the cluster's, and are found there or made anew.
 *
 * Normal course
 *  - save: p = x - r + (r - q[s]) / w, so that w p is what the token would have got.
 *  - restore: r = x - p. The first sync hands w p over. The next plan proposed here has a greater number.
 * Failure courses
 *  - the life went on after the save: tokens may have taken p since, and nobody can say whether. It is not added:
 *    rather lost than twice. What is lost is the node's part of one tour; its own model still has it, until the first
 *    sync.
 *  - a node of several streams: r - q[s] is also what it had not told s of the others. A new plan tells them
 *    (rebase.c), so only x - r is kept.
 *  - the token was parked here, or on its way from here: it is lost with the node, as in any crash (token.h). */
#include <stdlib.h>

#include "algo/digest/internal.h"
#include "algo/vec.h"
#include "base/check.h"

/* What compression kept back, (dim), to be added to the token; NULL = nothing that can be told. */
static const float *kept_back_from(const struct digest *d)
{
    const struct stream_seat *m = d->own;
    if (d->own_count != 1 || m->line == NULL || m->fresh || !(d->share > 0)) return NULL;
    return blob_floats(m->snapshot);
}

void digest_state_save(const struct algo *a, struct state_writer *out)
{
    const struct digest *d = (const struct digest *)a;
    const float *r = blob_floats(d->reference), *q = kept_back_from(d);
    float *owed = mem_new(d->dim, sizeof *owed);
    state_put64(out, d->plan.epoch.number > d->former_plan ? d->plan.epoch.number : d->former_plan);
    vec_sub(d->dim, d->x, r, owed);
    for (size_t j = 0; q != NULL && j < d->dim; j++) owed[j] += (float)((double)(r[j] - q[j]) / d->share);
    state_put_floats(out, d->dim, owed);
    free(owed);
}

int digest_state_restore(struct algo *a, struct state_reader *in, struct err_text *why)
{
    struct digest *d = (struct digest *)a;
    uint64_t plan = state_get64(in);
    float *owed = state_get_floats(in, d->dim);
    int err = state_end(in, why);
    if (err == 0 && plan >= UINT32_MAX) err = err_set(why, ERR_FORMAT, "it has a plan that cannot be");
    if (err == 0) d->former_plan = (uint32_t)plan;
    if (err == 0 && in->last) {
        struct blob *reference = blob_new(d->dim * sizeof *owed);
        vec_sub(d->dim, d->x, owed, blob_floats_own(reference));
        for (uint32_t i = 0; i < d->own_count; i++) { /* as they begin */
            blob_unref(d->own[i].snapshot);
            d->own[i].snapshot = blob_ref(reference);
        }
        blob_unref(d->reference);
        d->reference = reference;
        d->owes = true;
    }
    free(owed);
    return err;
}
