/* Walks (algo/walk) of eight nodes under the algorithm harness, with its counting trainer. */
#ifndef GADABOUT_TESTS_UNIT_WALK_FIXTURE_H
#define GADABOUT_TESTS_UNIT_WALK_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "algo/compress/compress.h"
#include "algo/walk/internal.h"
#include "tests/unit/algo_harness.h"

extern const struct algo_type walk_type;

enum { NODES = 8, DIM = 8 };
#define PATIENCE UINT64_C(1000000)
#define SECOND UINT64_C(1000000)

static const char *const compressors[] = {"none",
                                          "fp16",
                                          "bf16",
                                          "int8:block=4",
                                          "topk:fraction=1",
                                          "randk:fraction=0.95",
                                          "bernoulli:p=0.95",
                                          "qsgd:bits=5"};
enum { COMPRESSOR_COUNT = sizeof compressors / sizeof compressors[0] };

static inline struct walk *inside(const struct harness *h, rank_t r)
{
    return (struct walk *)harness_algo(h, r);
}

static inline void build_graph(const char *text, struct graph *g)
{
    struct choice choice;
    assert_int_equal(choice_parse(topology_table, topology_table_count, "", text, &choice, NULL), 0);
    assert_int_equal(topology_build(&choice, NODES, 3, g, NULL), 0);
}

static inline struct harness *start(const struct algo_type *type, const char *params, const char *compress,
                                    const struct graph *g, uint64_t seed)
{
    static const float origin[DIM];
    struct harness *h = harness_new(type, params, g, NULL, DIM, origin, seed, PATIENCE);
    harness_set_compress(h, compress);
    return h;
}

/* The node that holds walk t; RANK_NONE = nobody. More than one fails the test. */
static inline rank_t holder_of(const struct harness *h, uint32_t t)
{
    rank_t holder = RANK_NONE;
    for (rank_t v = 0; v < NODES; v++) {
        if (inside(h, v) == NULL || inside(h, v)->walk[t].custody.place != CUSTODY_HELD) continue;
        assert_int_equal(holder, RANK_NONE);
        holder = v;
    }
    return holder;
}

static inline struct algo_report report_of(const struct harness *h, rank_t v)
{
    struct algo_report report;
    harness_report(h, v, &report);
    return report;
}

#endif
