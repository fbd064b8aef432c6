/* A checker that looks at async's holder after every event, for test_async_failover.c and test_async_storm.c.
 *
 * Its trainer makes gradient j of worker r recognisable: it adds 1 to a coordinate of its own (after MARKS
 * gradients they come round), which must never exceed what was made over b, and small random numbers to
 * others, so that the order of sums shows in the last bits. The state of the holder can be compared at every
 * version with that of another run, as far as the log reached. */
#ifndef GADABOUT_TESTS_UNIT_ASYNC_WATCH_H
#define GADABOUT_TESTS_UNIT_ASYNC_WATCH_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "algo/async/internal.h"
#include "base/check.h"
#include "base/prng.h"
#include "tests/unit/gossip_fixture.h"

extern const struct algo_type async_type;

enum { MARKS = 400, NOISE = 8, VERSION_MAX = 4000, KILL_MAX = 4000 };

struct watch {
    uint32_t n, batch;
    size_t dim;
    uint32_t made[NODE_MAX]; /* gradients each worker has made, over all its lives */
    uint64_t seed;
    /* what is found */
    uint32_t twice;   /* coordinates above 1 / b */
    uint32_t rolled;  /* an elected holder knows less than was applied */
    uint32_t unequal; /* x_t differs from that of the other run */
    uint32_t compared;
    uint32_t rivals;   /* two holders of one term */
    uint32_t elected;  /* holders after the first */
    uint64_t reached;  /* greatest t applied by a holder that counts */
    uint64_t replayed; /* t of the last elected holder when it began */
    uint64_t term;     /* of the last holder */
    /* the other run: hash of x_t by t; 0 = not reached */
    uint64_t *written, *expected;
    uint64_t *time; /* events of the run, to choose times to kill at */
    uint32_t time_count;
};

static inline uint64_t hash_of(const float *x, size_t dim)
{
    uint64_t hash = 0xcbf29ce484222325u;
    const uint8_t *byte = (const uint8_t *)x;
    for (size_t i = 0; i < dim * sizeof *x; i++) hash = (hash ^ byte[i]) * 0x100000001b3u;
    return hash;
}

static inline uint32_t train_marked(void *ctx, rank_t r, const float *x, uint32_t max_steps, float *delta)
{
    struct watch *w = ctx;
    uint32_t j = w->made[r]++;
    struct prng random;
    prng_split(&random, w->seed, "noise", (uint64_t)r << 32 | j);
    size_t marks = (size_t)w->n * MARKS;
    delta[r * MARKS + j % MARKS] = 1;
    for (uint32_t i = 0; i < NOISE; i++)
        delta[marks + i] = (float)(prng_unit(&random) - 0.5) - 0.1f * x[marks + i];
    return max_steps;
}

static inline const struct async *inside_of(const struct harness *h, rank_t r)
{
    return (const struct async *)harness_algo(h, r);
}

/* Each mark at most as often as its gradients were made. */
static inline void check_marks(struct watch *w, const struct async *a)
{
    for (rank_t r = 0; r < w->n; r++)
        for (uint32_t j = 0; j < MARKS && j < w->made[r]; j++) {
            uint32_t made = w->made[r] / MARKS + (j < w->made[r] % MARKS);
            w->twice += a->x[r * MARKS + j] > (float)made / (float)w->batch;
        }
}

static inline void check_holder(struct watch *w, struct harness *h, rank_t r)
{
    const struct async *a = inside_of(h, r);
    if (a->role != ASYNC_HOLDER) return;
    for (rank_t k = 0; k < w->n; k++)
        w->rivals += k != r && harness_algo(h, k) != NULL && inside_of(h, k)->role == ASYNC_HOLDER &&
                     inside_of(h, k)->term == a->term;
    if (a->term > w->term) {
        w->elected += w->term != 0;
        if (w->term != 0) w->rolled += a->ledger.t < w->reached;
        w->replayed = a->ledger.t;
        w->term = a->term;
        w->reached = 0;
    }
    if (a->term < w->term || a->ledger.t <= w->reached) return;
    w->reached = a->ledger.t;
    check_marks(w, a);
    if (a->ledger.t >= VERSION_MAX) return;
    uint64_t hash = hash_of(a->x, w->dim);
    if (w->written != NULL) w->written[a->ledger.t] = hash;
    if (w->expected == NULL || a->ledger.t > w->replayed || w->expected[a->ledger.t] == 0) return;
    w->compared++;
    w->unequal += w->expected[a->ledger.t] != hash;
}

static inline void watch_event(void *ctx, struct harness *h, rank_t rank, const struct algo_event *e)
{
    struct watch *w = ctx;
    (void)e;
    if (w->time != NULL && w->time_count < KILL_MAX &&
        (w->time_count == 0 || w->time[w->time_count - 1] < harness_now(h)))
        w->time[w->time_count++] = harness_now(h);
    check_holder(w, h, rank);
}

static inline struct harness *cluster(struct watch *w, const char *params, const struct graph *g,
                                      uint64_t seed)
{
    w->n = g->node_count;
    w->dim = (size_t)w->n * MARKS + NOISE;
    w->seed = seed;
    float *zero = mem_new_zero(w->dim, sizeof *zero);
    struct harness *h = harness_new(&async_type, params, g, NULL, w->dim, zero, seed, PATIENCE);
    free(zero);
    harness_set_trainer(h, train_marked, w);
    harness_set_hook(h, watch_event, w);
    for (rank_t r = 0; r < w->n; r++) harness_set_step_time(h, r, 5000 + 3000 * r);
    return h;
}

/* The holder of the greatest term, or RANK_NONE. */
static inline rank_t holder_of(const struct harness *h, uint32_t n)
{
    rank_t holder = RANK_NONE;
    for (rank_t r = 0; r < n; r++) {
        if (harness_algo(h, r) == NULL || inside_of(h, r)->role != ASYNC_HOLDER) continue;
        if (holder == RANK_NONE || inside_of(h, r)->term > inside_of(h, holder)->term) holder = r;
    }
    return holder;
}

/* Gradients of r in the holder's model. */
static inline double applied(const struct harness *h, const struct watch *w, rank_t r)
{
    const float *x = harness_model(h, holder_of(h, w->n));
    double sum = 0;
    for (uint32_t j = 0; j < MARKS; j++) sum += (double)x[r * MARKS + j];
    return sum * w->batch;
}

static inline void assert_clean(const struct watch *w)
{
    assert_int_equal(w->twice, 0);
    assert_int_equal(w->rolled, 0);
    assert_int_equal(w->unequal, 0);
    assert_int_equal(w->rivals, 0);
}

#endif
