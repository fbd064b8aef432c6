/* What a storm draws from its seed: algorithm, graph, delays, step times, and how often which fault comes (some
 * kinds not at all: a storm of resets alone finds what a mixture hides). */
#include <stdio.h>

#include "algo/compress/compress.h"
#include "base/check.h"
#include "tests/sim/storm.h"

extern const struct algo_type digest_type;

static void draw_algorithm(struct storm *s, const char *given)
{
    static const char *const streams[10] = {"single", "path",   "single", "path", "star",
                                            "branch", "single", "path",   NULL,   NULL};
    const char *kind = streams[s->seed % 10];
    uint32_t sync_every = 5 + prng_below(&s->prng, 20);
    const char *hop = prng_below(&s->prng, 6) == 0 ? "walk" : "dfs";
    if (given != NULL)
        snprintf(s->algorithm, sizeof s->algorithm, "%s", given);
    else if (kind != NULL)
        snprintf(s->algorithm, sizeof s->algorithm, "digest:streams=%s,sync_every=%u,hop=%s,reweigh=no", kind,
                 sync_every, hop);
    else
        snprintf(s->algorithm, sizeof s->algorithm, "%s",
                 s->seed % 10 == 8 ? "walk:steps=3" : "gossip:mode=async");
    CHECK(algo_choose(s->algorithm, &s->algorithm_choice, &s->setup.algo, NULL) == 0);
    s->digest = s->setup.algo == &digest_type;
    s->law = law_of(s->setup.algo->spec.name);
    if (s->law == NULL)
        check_failed("nobody has said what must hold for this method: tests/sim/laws.c", __FILE__, __LINE__);
}

static void take_compressor(struct storm *s, const char *given)
{
    struct err_text why = {""};
    snprintf(s->compress, sizeof s->compress, "%s", given != NULL ? given : "none");
    if (choice_parse(compress_table, compress_table_count, "--compress", s->compress, &s->compress_choice,
                     &why) != 0)
        check_failed(why.text, __FILE__, __LINE__);
    s->lossy = !compress_is_none(&s->compress_choice);
    struct compressor *c = compressor_new(&s->compress_choice);
    s->rounded = !compressor_copies_values(c);
    compressor_free(c);
    s->setup.compress = s->setup.algo->compresses ? &s->compress_choice : NULL;
}

/* Powers of two that sum to at most 1, as sums of them times whole numbers are exact. */
static void draw_weights(struct storm *s)
{
    for (uint32_t v = 0; v < STORM_NODES; v++)
        s->weight[v] = s->digest ? 1.0 / (STORM_NODES << prng_below(&s->prng, 3)) : 1.0 / STORM_NODES;
}

static void draw_world(struct storm *s)
{
    static const char *const topologies[] = {"ring",      "torus",    "regular:d=4",
                                             "er:p=0.25", "er:p=0.4", "complete"};
    struct prng *p = &s->prng;
    const char *drawn = topologies[prng_below(p, 6)];
    bool all = s->setup.algo->links == ALGO_LINKS_ALL;
    snprintf(s->topology, sizeof s->topology, "%s", all ? "complete" : drawn);
    snprintf(s->latency, sizeof s->latency, "exp:mean=%ums", 2 + prng_below(p, 19));
    uint32_t step_ms = 20 + prng_below(p, 31);
    if (prng_below(p, 2) == 0)
        snprintf(s->step_time, sizeof s->step_time, "exp:mean=%ums", step_ms);
    else
        snprintf(s->step_time, sizeof s->step_time, "uniform:low=%ums,high=%ums", step_ms / 2, 2 * step_ms);
    CHECK(choice_parse(topology_table, topology_table_count, "--topology", s->topology, &s->topology_choice,
                       NULL) == 0);
    CHECK(choice_parse(latency_table, latency_table_count, "--latency", s->latency, &s->latency_choice,
                       NULL) == 0);
    CHECK(choice_parse(step_time_table, step_time_table_count, "--step-time", s->step_time,
                       &s->step_time_choice, NULL) == 0);
    s->setup.patience_us = 1000000 + prng_below(p, 1400000); /* links: silence is a sixth of it */
    prng_below(p, 4);
}

static void draw_faults(struct storm *s)
{
    for (int k = 0; k < STORM_FAULT_COUNT; k++)
        s->fault_weight[k] = prng_below(&s->prng, 4) == 0 ? 0 : 0.2 + prng_unit(&s->prng);
    s->fault_weight[STORM_RESTART] = 0.3 + prng_unit(&s->prng);
    s->fault_weight[STORM_RESUME] = 0.3 + prng_unit(&s->prng);
    s->fault_weight[STORM_HEAL] = 0.5 + 2 * prng_unit(&s->prng);
    s->fault_gap_us = prng_uniform(&s->prng, 0.1, 2.0) * STORM_SECOND;
}

void storm_draw(struct storm *s, const char *algorithm, const char *compress)
{
    draw_algorithm(s, algorithm);
    take_compressor(s, compress);
    draw_weights(s);
    draw_world(s);
    draw_faults(s);
}
