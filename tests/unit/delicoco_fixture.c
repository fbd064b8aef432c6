/* See delicoco_fixture.h. */
#include "tests/unit/delicoco_fixture.h"

#include <math.h>
#include <string.h>

const char *const compressors[] = {"none",
                                   "topk:fraction=0.1",
                                   "randk:fraction=0.2",
                                   "block:fraction=0.2",
                                   "bernoulli:p=0.3",
                                   "sign",
                                   "qsgd:bits=2",
                                   "int8:block=16",
                                   "fp16"};
const size_t compressor_count = sizeof compressors / sizeof compressors[0];

struct delicoco *state_of(const struct harness *h, rank_t r)
{
    return (struct delicoco *)harness_algo(h, r);
}

struct harness *wide(const struct algo_type *type, const char *params, const char *compress,
                     const struct graph *g, uint64_t seed)
{
    float start[DIM];
    for (uint32_t i = 0; i < DIM; i++) start[i] = (float)i / 8;
    struct harness *h = harness_new(type, params, g, NULL, DIM, start, seed, PATIENCE);
    if (compress != NULL) harness_set_compress(h, compress);
    return h;
}

uint32_t train_randomly(void *ctx, rank_t r, const float *x, uint32_t max_steps, float *delta)
{
    struct prng *random = ctx;
    (void)x;
    for (uint32_t i = 0; i < DIM; i++) delta[i] = (float)(prng_unit(&random[r]) - 0.5);
    return max_steps;
}

uint32_t train_once(void *ctx, rank_t r, const float *x, uint32_t max_steps, float *delta)
{
    struct prng *random = ctx;
    (void)x;
    if (random[NODE_MAX + r].word[0] != 0) return max_steps;
    random[NODE_MAX + r].word[0] = 1;
    for (uint32_t i = 0; i < DIM; i++) delta[i] = (float)(prng_unit(&random[r]) - 0.5);
    return max_steps;
}

void seed_all(struct prng random[2 * NODE_MAX], uint64_t seed)
{
    memset(random, 0, 2 * NODE_MAX * sizeof *random);
    for (uint64_t r = 0; r < NODE_MAX; r++) prng_split(&random[r], seed, "walk", r);
}

/* Whether r's copy of its neighbour is what the neighbour holds; counted when both speak of one version. */
static void compare_copies(struct agreement *a, struct harness *h, rank_t r)
{
    const struct delicoco *d = state_of(h, r);
    for (uint32_t i = 0; i < d->degree; i++) {
        const struct delicoco_peer *p = &d->peer[i];
        const struct delicoco *other = state_of(h, d->neighbour[i]);
        if (other == NULL || !p->up || !p->known || p->early != NULL || p->version != other->version)
            continue;
        a->compared++;
        a->unequal += memcmp(p->hat, other->hat, DIM * sizeof *p->hat) != 0;
    }
}

void check_agreement(void *ctx, struct harness *h, rank_t rank, const struct algo_event *e)
{
    struct agreement *a = ctx;
    struct delicoco *d = state_of(h, rank);
    (void)e;
    if (a->plant && rank == 0 && d->waiting && d->version > a->planted) {
        a->planted = d->version;
        memcpy(d->hat, d->x, DIM * sizeof *d->hat);
    }
    if (harness_algo(h, rank) != NULL) compare_copies(a, h, rank);
}

double spread(const struct harness *h, uint32_t n, double mean[DIM], double *moved)
{
    double sum = 0;
    *moved = 0;
    for (uint32_t i = 0; i < DIM; i++) {
        double now = 0;
        for (rank_t v = 0; v < n; v++) now += (double)harness_model(h, v)[i] / n;
        *moved = fmax(*moved, fabs(now - mean[i]));
        mean[i] = now;
        for (rank_t v = 0; v < n; v++) {
            double x = (double)harness_model(h, v)[i];
            sum += (x - now) * (x - now) +
                   (x - (double)state_of(h, v)->hat[i]) * (x - (double)state_of(h, v)->hat[i]);
        }
    }
    return sum;
}
