/* Error feedback over an all-reduce: DEF, and with other lam EF-SGD (0) and step-ahead (1).
 * Sources: Xu, Huang 2022 (arXiv 2004.05298); Xu et al. 2020 (arXiv 2008.05823).
 *
 * x is the same on all workers, the residual e_k each worker's own. One round of worker k (delicoco_def.md,
 * section 6.2):
 *     w = x - lam e_k;  H local steps from w move it by delta = -sum eta m
 *     p = e_k - delta;  c = mean over workers of C(p);  e_k = p - C(p);  x -= c
 * C keeps entries that all workers draw alike from (seed, round, tensor): the kept entries are summed as they
 * are, no index travels, and mean C(p_k) = C(mean p_k). y = x - mean e_k moves by mean delta exactly, for
 * every lam and C; DEF-A shows x - e_k, whose average over the workers is y.
 * EF21 shares the course and keeps no residual: known.c says what it does with the mean.
 * Over a restart (state.c): the node's own e_k, with the progress of the round it is in; x is the others'.
 *
 * Normal course
 *  - TRAIN from w, until H steps are done; allreduce_begin with the kept entries of p; ALLREDUCE_SUM; again.
 * Failure courses
 *  - who dies, is silent or comes back: allreduce/allreduce.c. The mean is over those who contributed.
 *  - ALLREDUCE_COPY: x is that of the others; the own kept entries leave p if they are in it, else all of p
 *    rides on.
 *  - p is not finite or far out: zeros are sent for it, p rides on, and the trainer says what is wrong.
 *  - the mean does not decode (a worker sent what no worker sends): the round changes nothing, on all alike.
 */
#include "algo/def/internal.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "algo/vec.h"
#include "base/check.h"

static struct compress_context context_of(const struct def *d, uint32_t tensor, uint64_t round)
{
    return (struct compress_context){.seed = d->seed, .round = round, .tensor = tensor};
}

static size_t tensor_size(const struct tensor *t)
{
    return t->rows * t->columns;
}

/* -- one round --------------------------------------------------------------------------------- */

static void round_train(struct def *d, struct algo_actions *acts)
{
    d->steps = 0;
    for (size_t i = 0; i < d->dim; i++) d->w[i] = d->x[i] - d->lam * d->e[i];
    algo_train(acts, d->w, d->every);
}

void def_entries_keep(struct def *d, const float *p, uint64_t round)
{
    d->body_size = 0;
    for (uint32_t t = 0; t < d->tensor_count; t++) {
        const struct tensor *at = &d->tensor[t];
        struct compress_context context = context_of(d, t, round);
        uint8_t *out = (uint8_t *)(void *)(d->body + d->body_size);
        float *c = d->c + at->offset;
        size_t size = 0, dim = tensor_size(at);
        if (compressor_encode(d->compressor, &context, dim, p + at->offset, out, &size, c) != 0) {
            trace_line(d->trace, TRACE_WARN,
                       "the residual grows without bound in round %llu; try a smaller step size",
                       (unsigned long long)round);
            memset(c, 0, dim * sizeof *c);
            CHECK(compressor_encode(d->compressor, &context, dim, c, out, &size, NULL) == 0);
        }
        CHECK(size % sizeof(float) == 0);
        d->part[t] = size / sizeof(float);
        d->body_size += d->part[t];
    }
    CHECK(d->body_size <= d->body_max);
}

static void body_fill(struct def *d)
{
    d->began_round = allreduce_round(d->ring);
    def_entries_keep(d, d->e, d->began_round);
    if (d->body_size == 0)
        d->body[d->body_size++] = 0; /* a mask may be empty: the round is run all the same */
}

/* Divides the sum into body and decodes that into w. */
static bool body_decode(struct def *d)
{
    double weight = allreduce_weight(d->ring);
    const float *sum = allreduce_sum(d->ring);
    if (!(weight > 0)) return false;
    for (size_t i = 0; i < d->body_size; i++) {
        float mean = (float)((double)sum[i] / weight);
        d->body[i] = fabsf(mean) < FLT_MIN ? 0 : mean; /* no encoder sends subnormal numbers */
    }
    size_t from = 0;
    for (uint32_t t = 0; t < d->tensor_count; t++) {
        const struct tensor *at = &d->tensor[t];
        struct compress_context context = context_of(d, t, d->began_round);
        const uint8_t *bytes = (const uint8_t *)(const void *)(d->body + from);
        size_t size = d->part[t] * sizeof(float);
        if (compressor_decode(d->compressor, &context, tensor_size(at), bytes, size, d->w + at->offset) != 0)
            return false;
        from += d->part[t];
    }
    return true;
}

bool def_mean_decode(struct def *d)
{
    if (body_decode(d)) return true;
    trace_line(d->trace, TRACE_WARN, "the mean of round %llu does not decode; the round changes nothing",
               (unsigned long long)d->began_round);
    return false;
}

static void sent_forget(struct def *d)
{
    vec_sub(d->dim, d->e, d->c, d->e);
    d->report.steps_handed_over = d->report.steps;
}

static void residual_sum(struct def *d)
{
    if (!def_mean_decode(d)) return;
    vec_sub(d->dim, d->x, d->w, d->x);
    sent_forget(d);
    float *before = d->handed;
    d->handed = d->c;
    d->c = before;
    d->handed_round = d->began_round + 1;
    d->report.mixes += allreduce_contributors(d->ring) > 1;
}

/* waited: a round was begun here, and training rests. */
static void take(struct def *d, enum allreduce_outcome outcome, bool waited, struct algo_actions *acts)
{
    switch (outcome) {
    case ALLREDUCE_NONE:
        return;
    case ALLREDUCE_SUM:
        if (d->known != NULL)
            known_sum(d);
        else
            residual_sum(d);
        def_owed_settle(d, 0);
        break;
    case ALLREDUCE_COPY:
        vec_copy(d->dim, allreduce_copy(d->ring), d->x);
        if (d->known != NULL)
            known_forget(d);
        else if (allreduce_contributed(d->ring))
            sent_forget(d);
        def_owed_settle(d, allreduce_counted(d->ring));
        d->report.mixes++;
        break;
    }
    allreduce_set_state(d->ring, d->x);
    if (d->shown != NULL) vec_sub(d->dim, d->x, d->e, d->shown);
    if (waited) round_train(d, acts);
}

/* -- events ------------------------------------------------------------------------------------ */

static void trained(struct def *d, const struct algo_event *e, struct algo_actions *acts)
{
    CHECK(e->trained.steps >= 1 && e->trained.steps <= d->every - d->steps);
    vec_sub(d->dim, d->e, e->trained.delta, d->e);
    d->steps += e->trained.steps;
    d->report.steps += e->trained.steps;
    if (d->steps < d->every) {
        for (size_t i = 0; i < d->dim; i++) d->w[i] += e->trained.delta[i];
        algo_train(acts, d->w, d->every - d->steps);
        return;
    }
    body_fill(d);
    take(d, allreduce_begin(d->ring, e->now_us, d->body, d->body_size, d->weight, acts), true, acts);
}

int def_step(struct algo *a, const struct algo_event *e, struct algo_actions *acts)
{
    struct def *d = (struct def *)a;
    switch (e->kind) {
    case ALGO_START:
        round_train(d, acts);
        return 0;
    case ALGO_TRAINED:
        trained(d, e, acts);
        return 0;
    case ALGO_PEER_UP:
    case ALGO_PEER_DOWN:
    case ALGO_MESSAGE:
    case ALGO_DEADLINE: {
        bool waited = allreduce_waiting(d->ring);
        enum allreduce_outcome outcome;
        int err = allreduce_step(d->ring, e, acts, &outcome);
        if (err == 0) take(d, outcome, waited, acts);
        return err;
    }
    }
    UNREACHABLE();
}

uint64_t def_deadline_us(const struct algo *a)
{
    return allreduce_deadline_us(((const struct def *)a)->ring);
}

const float *def_model(const struct algo *a)
{
    const struct def *d = (const struct def *)a;
    return d->shown != NULL ? d->shown : d->x;
}

void def_report(const struct algo *a, struct algo_report *out)
{
    const struct def *d = (const struct def *)a;
    struct allreduce_counts counts;
    allreduce_counts(d->ring, &counts);
    *out = d->report;
    out->rounds = counts.contributed;
    out->left_out = counts.left_out;
    out->terms = counts.views;
    out->model_transfers = counts.vectors;
    out->duplicates_dropped = counts.dropped;
}
