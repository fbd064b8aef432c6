/* The exact test of hierarchical SGD : eight nodes in one dimension,
 * F_j(w) = a_j/2 (w - c_j)^2, step size 0.05, start 0, no chance anywhere; and the same computed by hand in
 * double.
 *
 * The scalar is carried by limbs (limbs.h): the trainer puts them back on their grids at every job, so that
 * the means over 1, 2, 4 and 8 nodes are exact and results can be compared to 1e-10. */
#ifndef GADABOUT_TESTS_UNIT_HSGD_FIXTURE_H
#define GADABOUT_TESTS_UNIT_HSGD_FIXTURE_H

#include <string.h>

#include "algo/hsgd/grouping.h"
#include "base/check.h"
#include "tests/unit/algo_harness.h"
#include "tests/unit/limbs.h"

enum { EXACT_NODES = 8, EXACT_TRACE_MAX = 4096 };

static const double exact_a[EXACT_NODES] = {1, 2, 0.5, 1.5, 3, 0.8, 2.5, 1.2};
static const double exact_c[EXACT_NODES] = {-3, 1, 4, 0, 2, -1, 5, -2};
static const double exact_gamma = 0.05, exact_optimum = 1.304;

static inline double exact_step(rank_t j, double w)
{
    return w - exact_gamma * exact_a[j] * (w - exact_c[j]);
}

/* What each node started its jobs from: after its t-th step, if a job began there (else NAN). */
struct exact_record {
    uint32_t job_max; /* steps of one job at most; 0 = as many as asked for */
    uint64_t step[EXACT_NODES];
    double start[EXACT_NODES][EXACT_TRACE_MAX];
    float limb[EXACT_NODES][EXACT_TRACE_MAX][LIMB_COUNT];
};

static inline struct exact_record *exact_record_new(void)
{
    struct exact_record *record = mem_new_zero(1, sizeof *record);
    for (int j = 0; j < EXACT_NODES; j++)
        for (int t = 0; t < EXACT_TRACE_MAX; t++) record->start[j][t] = (double)NAN;
    return record;
}

static inline uint32_t exact_train(void *ctx, rank_t j, const float *x, uint32_t max_steps, float *delta)
{
    struct exact_record *record = ctx;
    double w = limb_value(x);
    if (record != NULL && record->job_max > 0 && record->job_max < max_steps) max_steps = record->job_max;
    if (record != NULL && record->step[j] < EXACT_TRACE_MAX) {
        record->start[j][record->step[j]] = w;
        memcpy(record->limb[j][record->step[j]], x, LIMB_COUNT * sizeof *x);
    }
    for (uint32_t i = 0; i < max_steps; i++) w = exact_step(j, w);
    float limb[LIMB_COUNT];
    limb_split(w, limb);
    for (int i = 0; i < LIMB_COUNT; i++) delta[i] = limb[i] - x[i];
    if (record != NULL) record->step[j] += max_steps;
    return max_steps;
}

/* By hand: runs the plan for `steps` steps with these weights (NULL = equal); w (EXACT_NODES) is the models.
 */
static inline void exact_by_hand(const struct hsgd_plan *plan, const double *weight, uint64_t steps,
                                 double *w)
{
    uint32_t group[HSGD_LEVEL_MAX * EXACT_NODES];
    memset(w, 0, EXACT_NODES * sizeof *w);
    for (uint64_t t = 1; t <= steps; t++) {
        double mean[EXACT_NODES];
        hsgd_groups_draw(plan, (t - 1) / plan->period[0][0], group);
        for (rank_t j = 0; j < EXACT_NODES; j++) mean[j] = w[j] = exact_step(j, w[j]);
        for (rank_t j = 0; j < EXACT_NODES; j++) {
            uint32_t own[HSGD_LEVEL_MAX];
            for (uint32_t l = 0; l < plan->level_count; l++) own[l] = group[l * EXACT_NODES + j];
            uint32_t due = hsgd_due_level(plan, own, t);
            if (due == plan->level_count) continue;
            double sum = 0, total = 0;
            for (rank_t k = 0; k < EXACT_NODES; k++) {
                if (group[due * EXACT_NODES + k] != own[due]) continue;
                sum += (weight != NULL ? weight[k] : 1) * w[k];
                total += weight != NULL ? weight[k] : 1;
            }
            mean[j] = sum / total;
        }
        memcpy(w, mean, EXACT_NODES * sizeof *w);
    }
}

#endif
