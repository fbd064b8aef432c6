/* What a node of walk keeps over a restart: for each walk it handed over, what compression kept back of that, to be
 * added when the walk comes by again. Custody, copies and the aggregator's bases are found or made anew (walk.c).
 *
 * Failure courses
 *  - the walk was made anew from an older copy than the one handed over: as in walk.c, it gets nothing.
 *  - the walk came by again between the save and the end: the residual of the save serves for that of the end.
 *  - the cluster begins anew and the walks are here: their models hold the residual, nothing is taken up. */
#include <stdlib.h>

#include "algo/vec.h"
#include "algo/walk/internal.h"
#include "base/check.h"

void walk_state_save(const struct algo *a, struct state_writer *out)
{
    const struct walk *w = (const struct walk *)a;
    uint32_t count = 0;
    for (uint32_t t = 0; t < w->walk_count; t++) count += w->walk[t].owed;
    if (count == 0) return;
    state_put64(out, count);
    for (uint32_t t = 0; t < w->walk_count; t++) {
        const struct walking *k = &w->walk[t];
        if (!k->owed) continue;
        state_put64(out, t);
        state_put64(out, k->owed_at > k->custody.last.sequence ? k->owed_at : k->custody.last.sequence);
        state_put_floats(out, w->dim, k->residual);
    }
}

struct owed {
    uint64_t walk, left_at;
    float *residual; /* (dim) owned */
};

static void take_up(struct walk *w, const struct owed *o)
{
    struct walking *k = &w->walk[o->walk];
    if (k->custody.place == CUSTODY_HELD) return;
    vec_copy(w->dim, o->residual, k->residual);
    k->owed = true;
    k->owed_at = o->left_at;
}

int walk_state_restore(struct algo *a, struct state_reader *in, struct err_text *why)
{
    struct walk *w = (struct walk *)a;
    struct owed *owed = mem_new_zero(w->walk_count, sizeof *owed);
    uint64_t told = state_get64(in);
    uint32_t count = 0;
    int err = 0;
    if (w->pack == NULL || told > w->walk_count) err = err_set(why, ERR_FORMAT, "it is of other walks");
    while (err == 0 && !in->failed && count < told) {
        uint64_t t = state_get64(in);
        if (t >= w->walk_count || (count > 0 && owed[count - 1].walk >= t)) {
            err = err_set(why, ERR_FORMAT, "it has a walk that cannot be");
            break;
        }
        struct owed *o = &owed[count++];
        o->walk = t;
        o->left_at = state_get64(in);
        o->residual = state_get_floats(in, w->dim);
    }
    if (err == 0) err = state_end(in, why);
    for (uint32_t i = 0; i < count; i++) {
        if (err == 0) take_up(w, &owed[i]);
        free(owed[i].residual);
    }
    free(owed);
    return err;
}
