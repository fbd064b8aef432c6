/* Spectral gap and beta of the Metropolis-Hastings matrix W, by the Lanczos process: W is projected on the space
 * of v, W v, W^2 v, ... with v orthogonal to the constant vector; the extreme eigenvalues of the
 * tridiagonal projection approach lambda_2 and lambda_n from inside (Golub, Van Loan, ch. 10). No
 * reorthogonalisation: it would only keep copies of converged eigenvalues out (Paige 1971). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "algo/topology/topology.h"
#include "base/check.h"
#include "base/prng.h"

enum { LANCZOS_STEP_MAX = 8192, LANCZOS_STEP_FIRST = 32 };

struct lanczos {
    const struct graph *graph;
    double *self;           /* (n) W_aa */
    double *v, *before, *w; /* (n) */
    double *alpha, *beta;   /* diagonal and subdiagonal of the projection */
    uint32_t count;         /* rows of the projection */
};

/* out = W x */
static void apply(const struct lanczos *l, const double *x, double *out)
{
    const struct graph *g = l->graph;
    for (uint32_t a = 0; a < g->node_count; a++) {
        double sum = l->self[a] * x[a];
        uint32_t da = graph_degree(g, a);
        for (uint32_t i = g->offset[a]; i < g->offset[a + 1]; i++) {
            uint32_t b = g->neighbour[i], db = graph_degree(g, b);
            sum += x[b] / (1.0 + (da > db ? da : db));
        }
        out[a] = sum;
    }
}

static void remove_mean(double *x, uint32_t n)
{
    double mean = 0;
    for (uint32_t i = 0; i < n; i++) mean += x[i];
    mean /= n;
    for (uint32_t i = 0; i < n; i++) x[i] -= mean;
}

static double dot(const double *x, const double *y, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += x[i] * y[i];
    return sum;
}

static void scale(double *x, double factor, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) x[i] *= factor;
}

/* One more row. Returns false when the space is exhausted: the projection is then exact. */
static bool lanczos_step(struct lanczos *l)
{
    uint32_t n = l->graph->node_count, k = l->count++;
    apply(l, l->v, l->w);
    l->alpha[k] = dot(l->v, l->w, n);
    double previous = k > 0 ? l->beta[k - 1] : 0;
    for (uint32_t i = 0; i < n; i++) l->w[i] -= l->alpha[k] * l->v[i] + previous * l->before[i];
    remove_mean(l->w, n);
    l->beta[k] = sqrt(dot(l->w, l->w, n));
    if (l->beta[k] < 1e-10) return false;
    double *free_one = l->before;
    l->before = l->v;
    l->v = l->w;
    l->w = free_one;
    scale(l->v, 1 / l->beta[k], n);
    return true;
}

/* How many eigenvalues of the projection are below x (Sturm sequence). */
static uint32_t count_below(const struct lanczos *l, double x)
{
    uint32_t below = 0;
    double pivot = 1;
    for (uint32_t k = 0; k < l->count; k++) {
        double coupled = k > 0 ? l->beta[k - 1] * l->beta[k - 1] / pivot : 0;
        pivot = l->alpha[k] - x - coupled;
        if (pivot == 0) pivot = 1e-300;
        below += pivot < 0;
    }
    return below;
}

/* Largest magnitude among the projection's eigenvalues, all of which are in [-1, 1]. */
static double greatest_magnitude(const struct lanczos *l)
{
    double low = 0, high = 1 + 1e-9;
    for (int i = 0; i < 60; i++) {
        double middle = (low + high) / 2;
        bool all_inside = count_below(l, middle) == l->count && count_below(l, -middle) == 0;
        if (all_inside)
            high = middle;
        else
            low = middle;
    }
    return (low + high) / 2;
}

/* Least of the projection's eigenvalues, all of which are in [-1, 1]. */
static double least(const struct lanczos *l)
{
    double low = -1 - 1e-9, high = 1 + 1e-9;
    for (int i = 0; i < 60; i++) {
        double middle = (low + high) / 2;
        if (count_below(l, middle) == 0)
            low = middle;
        else
            high = middle;
    }
    return (low + high) / 2;
}

/* Doubles the rows until the answer stands still. The error shrinks at least like 1 / rows^2, so a change
 * below 1e-8 over a doubling bounds it. */
static double lanczos_run(struct lanczos *l, double (*measure)(const struct lanczos *))
{
    double last = 2;
    for (uint32_t target = LANCZOS_STEP_FIRST; target <= LANCZOS_STEP_MAX; target *= 2) {
        bool going = true;
        while (going && l->count < target) going = lanczos_step(l);
        double found = measure(l);
        if (!going || fabs(found - last) < 1e-8) return found;
        last = found;
    }
    return last;
}

static double measure_graph(const struct graph *g, double (*measure)(const struct lanczos *))
{
    uint32_t n = g->node_count;
    double *memory = mem_new_zero((size_t)n * 4 + 2 * LANCZOS_STEP_MAX, sizeof *memory);
    struct lanczos l = {.graph = g,
                        .self = memory,
                        .v = memory + n,
                        .before = memory + 2 * (size_t)n,
                        .w = memory + 3 * (size_t)n,
                        .alpha = memory + 4 * (size_t)n};
    l.beta = l.alpha + LANCZOS_STEP_MAX;
    struct prng p;
    prng_seed(&p, n);
    for (uint32_t i = 0; i < n; i++) {
        l.self[i] = metropolis_weight(g, i, i);
        l.v[i] = prng_uniform(&p, -1, 1);
    }
    remove_mean(l.v, n);
    scale(l.v, 1 / sqrt(dot(l.v, l.v, n)), n);
    double found = lanczos_run(&l, measure);
    free(memory);
    return found;
}

double spectral_gap(const struct graph *g)
{
    if (g->node_count < 2) return 1;
    double magnitude = measure_graph(g, greatest_magnitude);
    return magnitude < 1 ? 1 - magnitude : 0;
}

double spectral_beta(const struct graph *g)
{
    return g->node_count < 2 ? 0 : 1 - measure_graph(g, least);
}
