/* See swim_cluster.h. Here: making a cluster, and its end. */
#include "tests/sim/swim_internal.h"

#include <stdlib.h>

#include "base/check.h"

static void want_links(struct swim_cluster *c)
{
    uint32_t count = c->options.count, all[SWIM_NODE_MAX];
    for (uint32_t v = 0; v < count; v++) {
        for (uint32_t w = 0; w < count; w++) all[w] = w;
        prng_shuffle(&c->prng, all, count);
        uint32_t wanted = 0, most = c->options.degree == 0 ? count : c->options.degree;
        for (uint32_t i = 0; i < count && wanted < most; i++) {
            if (all[i] == v) continue;
            c->wanted[(size_t)v * count + all[i]] = true;
            wanted++;
        }
    }
}

struct swim_cluster *swim_cluster_new(const struct swim_options *options)
{
    CHECK(options->count > 1 && options->count <= SWIM_NODE_MAX);
    struct swim_cluster *c = mem_new_zero(1, sizeof *c);
    size_t pairs = (size_t)options->count * options->count;
    c->options = *options;
    if (options->latency_max_us == 0) {
        c->options.latency_min_us = LATENCY_MIN_US;
        c->options.latency_max_us = LATENCY_MAX_US;
    }
    prng_split(&c->prng, options->seed, "swim cluster", options->count);
    c->node = mem_new_zero(options->count, sizeof *c->node);
    c->end = mem_new_zero(pairs, sizeof *c->end);
    c->dropped = mem_new_zero(pairs, sizeof *c->dropped);
    c->wanted = mem_new_zero(pairs, sizeof *c->wanted);
    want_links(c);
    return c;
}

void swim_cluster_free(struct swim_cluster *c)
{
    for (uint32_t v = 0; v < c->options.count; v++) {
        swim_off(c, v, EVIDENCE_NONE);
        membership_actions_deinit(&c->node[v].acts);
    }
    for (uint32_t i = 0; i < c->heap_count; i++) swim_event_free(&c->heap[i]);
    free(c->heap);
    free(c->wanted);
    free(c->dropped);
    free(c->end);
    free(c->node);
    free(c);
}
