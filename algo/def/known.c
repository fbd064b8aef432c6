/* EF21 over the all-reduce: instead of its progress a worker sends how it differs from what all know of it.
 * Source: Richtarik, Sokolov, Fatkhullin 2021 (arXiv 2106.05203), algorithm 2; without a server: all keep g.
 *
 * x is the same on all workers, g_k each worker's own, g = mean g_k. One round of worker k:
 *     H steps from x move it by delta;  p = -delta;  c_k = C(p - g_k)
 *     g_k += c_k;  g += mean c_k;  x -= g
 * With full gradients and a constant step g_k tends to p_k entry by entry, hence g to the mean gradient: the
 * optimum is exact, though the workers' own gradients do not vanish there. g is in units of a step: after a
 * change of the step size it takes until an entry is sent again that it counts by the new one.
 *
 * Failure courses
 *  - g = mean g_k holds for the members among whom both grew, so they belong to the view of the rounds that
 *    built them. A round that ends in another view is void on all alike: x stays, g = g_k = 0, which belong to
 *    that view. One round is lost for each change of the members.
 *  - ALLREDUCE_COPY: g = g_k = 0. A copy comes at the beginning of a view, and nobody's g is of a view in which no
 *    round has ended yet: the round that follows is void, here and for those copied from. A node that starts
 *    anew is never in the first view, to which its zeros belong.
 *  - p is not finite or far out: zeros are sent, g_k stays.
 *  - the mean does not decode: x, g and g_k stay, on all alike. */
#include <stdlib.h>

#include "algo/def/internal.h"
#include "base/check.h"

struct known *known_new(size_t dim)
{
    struct known *k = mem_new_zero(1, sizeof *k);
    k->own = mem_new_zero(dim, sizeof *k->own);
    k->mean = mem_new_zero(dim, sizeof *k->mean);
    return k;
}

void known_free(struct known *k)
{
    if (k == NULL) return;
    free(k->own);
    free(k->mean);
    free(k);
}

void known_forget(struct def *d)
{
    for (size_t i = 0; i < d->dim; i++) d->known->own[i] = d->known->mean[i] = d->e[i] = 0;
}

/* w holds the mean of the differences, c the own one. */
static void take(struct def *d)
{
    struct known *k = d->known;
    for (size_t i = 0; i < d->dim; i++) {
        k->mean[i] += d->w[i];
        k->own[i] += d->c[i];
        d->x[i] -= k->mean[i];
    }
    d->report.steps_handed_over = d->report.steps;
    d->report.mixes += allreduce_contributors(d->ring) > 1;
}

void known_sum(struct def *d)
{
    struct known *k = d->known;
    struct view_id view = allreduce_view(d->ring);
    if (k->view.number != view.number || k->view.proposer != view.proposer) {
        known_forget(d);
        k->view = view;
        return;
    }
    if (def_mean_decode(d)) take(d);
    for (size_t i = 0; i < d->dim; i++) d->e[i] = -k->own[i];
}
