/* What error feedback keeps over a restart: the residual. It is this worker's own debt: e_k and the progress of the
 * round it is in, that is p = e_k - (progress so far), with nothing of x, which is the same on all workers and comes
 * from them. EF21 keeps nothing: g and g_k belong to a view, and no view outlives a restart.
 *
 * Normal course
 *  - save: the rounds over, p, and what was handed over in the last of them. A round that is begun may end with or
 *    without us: p still holds what is sent in it.
 *  - restore: e = p; training goes on from x - lam p. What is of the former life is kept apart as `owed` until it is
 *    known how much of it got out before the end.
 *  - ALLREDUCE_COPY tells up to which round the others have our vectors. All workers draw the entries of a round
 *    alike, so the entries of `owed` that those rounds sent are known, whatever has been learnt since the save: they
 *    leave e, once, and no entry is in a sum twice.
 *  - they have not got our vector of the last round that was over here: they lacked a part of its sum, which was on
 *    its way when we ended, and ran it again without us. What was handed over in it is owed again. It cannot be so for
 *    two rounds: nobody begins one before the sum of the one before.
 * Failure courses
 *  - no copy, ALLREDUCE_SUM at once: all began anew, and their rounds too; p stays as it is.
 *  - so many rounds since the save that counting them takes long: all of `owed` counts as sent.
 *  - the state is of another place: what the others say of this place is not about us; p stays as it is.
 *  - DEF-A and step-ahead show x - e, and that is the model saved. Where the cluster begins anew with it, e is in
 *    it: nothing is taken up. Where others train, x is theirs and e is owed as ever.
 *  - what the former life learnt after its last save and did not send is lost with it, as its steps are. */
#include <stdlib.h>

#include "algo/def/internal.h"
#include "algo/vec.h"
#include "base/check.h"

enum { COUNTED_ROUNDS_MAX = 1024 };

void def_state_save(const struct algo *a, struct state_writer *out)
{
    const struct def *d = (const struct def *)a;
    uint64_t round = allreduce_round(d->ring);
    bool handed = d->handed_round == round && round > 0;
    state_put64(out, round);
    state_put64(out, handed);
    state_put_floats(out, d->dim, d->e);
    if (handed) state_put_floats(out, d->dim, d->handed);
}

int def_state_restore(struct algo *a, struct state_reader *in, struct err_text *why)
{
    struct def *d = (struct def *)a;
    uint64_t round = state_get64(in);
    bool has_handed = state_get64(in) == 1;
    float *e = state_get_floats(in, d->dim);
    float *handed = has_handed ? state_get_floats(in, d->dim) : NULL;
    int err = state_end(in, why);
    CHECK(d->owed == NULL && d->steps == 0);
    bool taken = err == 0 && (d->shown == NULL || d->rejoining);
    if (taken) vec_copy(d->dim, e, d->e);
    if (taken && in->rank == d->rank) {
        d->owed = e;
        d->owed_round = round;
        d->unsure = handed;
        return 0;
    }
    free(e);
    free(handed);
    return err;
}

static void owed_sent(struct def *d, const float *sent)
{
    vec_sub(d->dim, d->e, sent, d->e);
    vec_sub(d->dim, d->owed, sent, d->owed);
}

void def_owed_settle(struct def *d, uint64_t counted)
{
    if (d->owed == NULL) return;
    if (d->unsure != NULL && counted + 1 == d->owed_round) {
        for (size_t i = 0; i < d->dim; i++) d->e[i] += d->unsure[i];
    } else if (counted > d->owed_round && counted - d->owed_round > COUNTED_ROUNDS_MAX) {
        vec_sub(d->dim, d->e, d->owed, d->e);
    } else {
        for (uint64_t round = d->owed_round; round < counted; round++) {
            def_entries_keep(d, d->owed, round);
            owed_sent(d, d->c);
        }
    }
    free(d->owed);
    free(d->unsure);
    d->owed = d->unsure = NULL;
}
