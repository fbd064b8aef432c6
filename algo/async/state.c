/* What a node keeps over a restart: what it has promised in elections, and what compression kept back of its
 * gradients. All else is of the holder's term: the ledger knows the jobs, the log the order, and a worker that comes
 * back gets jobs again.
 *
 * Normal course
 *  - save: the greatest term promised, its own candidature among them; the greatest seen; the residual.
 *  - restore, in a cluster that runs: no round up to the promised one is voted in again (election.c).
 * Failure courses
 *  - a gradient that was sent and not covered by a snapshot yet counts as sent: the holder has it, or assigns its
 *    job anew.
 *  - the save is older than the last gradient: the residual of then serves for that of the end, which is lost with the
 *    steps since.
 *  - the model beside it is newer or older than the others' log (a holder that saved and died before it told, or a
 *    while after): it is no common start and no log, and what was applied is asked of the others (recover.c).
 *  - everybody began anew: the first term is known to all without a word, and the promises of former terms are void. */
#include <stdlib.h>

#include "algo/async/internal.h"
#include "algo/vec.h"

static uint64_t promise_of(const struct async *a)
{
    bool asks = a->role == ASYNC_CANDIDATE || a->role == ASYNC_FETCHING;
    return asks && a->asked > a->promised ? a->asked : a->promised;
}

void async_state_save(const struct algo *algo, struct state_writer *out)
{
    const struct async *a = (const struct async *)algo;
    state_put64(out, promise_of(a));
    state_put64(out, a->asked);
    state_put64(out, a->use_feedback);
    if (a->use_feedback) state_put_floats(out, a->dim, a->feedback.residual);
}

static bool term_is_possible(const struct async *a, uint64_t term)
{
    return term == 0 || async_term_valid(a, term);
}

int async_state_restore(struct algo *algo, struct state_reader *in, struct err_text *why)
{
    struct async *a = (struct async *)algo;
    uint64_t promised = state_get64(in), asked = state_get64(in);
    bool has_residual = state_get64(in) == 1;
    float *residual = has_residual ? state_get_floats(in, a->dim) : NULL;
    int err = state_end(in, why);
    if (err == 0 && (!term_is_possible(a, promised) || !term_is_possible(a, asked)))
        err = err_set(why, ERR_FORMAT, "it has a term that cannot be");
    if (err == 0 && has_residual != a->use_feedback)
        err = err_set(why, ERR_FORMAT, "it is of a run that compressed in another way");
    if (err == 0) {
        if (a->holder == RANK_NONE && promised > a->promised) a->promised = promised;
        if (a->holder == RANK_NONE && asked > a->asked) a->asked = asked;
        if (has_residual) vec_copy(a->dim, residual, a->feedback.residual);
    }
    free(residual);
    return err;
}
