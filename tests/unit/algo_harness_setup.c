/* Making, setting and looking at a harness. */
#include <stdlib.h>
#include <string.h>

#include "algo/compress/compress.h"
#include "base/check.h"
#include "tests/unit/algo_harness_internal.h"

/* Gives both directions of each edge the edge's index. */
static void edges_index(struct harness *h)
{
    const struct graph *g = h->graph;
    uint32_t count = 0;
    for (rank_t a = 0; a < g->node_count; a++)
        for (uint32_t i = g->offset[a]; i < g->offset[a + 1]; i++) {
            rank_t b = g->neighbour[i];
            if (b < a) continue;
            for (uint32_t k = g->offset[b]; k < g->offset[b + 1]; k++)
                if (g->neighbour[k] == a) h->direction[k].edge = count;
            h->direction[i].edge = count;
            h->edge[count++].wanted = true;
        }
    CHECK(count == g->edge_count);
}

struct harness *harness_new(const struct algo_type *type, const char *params_text, const struct graph *graph,
                            const double *weight, size_t dim, const float *x0, uint64_t seed,
                            uint64_t patience_us)
{
    struct harness *h = mem_new_zero(1, sizeof *h);
    uint32_t n = graph->node_count;
    struct err_text why = {""};
    if (choice_parse(&type->spec, 1, "--algorithm", params_text, &h->params, &why) != 0)
        check_failed(why.text, __FILE__, __LINE__);
    h->type = type;
    h->graph = graph;
    h->dim = dim;
    h->seed = seed;
    h->patience_us = patience_us;
    h->job_steps_max = UINT32_MAX;
    h->hash = 0xcbf29ce484222325u; /* FNV-1a's start */
    h->delay_low_us = 1000;
    h->delay_high_us = 10000;
    prng_split(&h->random, seed, "harness", 0);
    h->weight = mem_new(n, sizeof *h->weight);
    for (uint32_t r = 0; r < n; r++) h->weight[r] = weight != NULL ? weight[r] : 1.0 / n;
    h->x0 = mem_new(dim, sizeof *h->x0);
    memcpy(h->x0, x0, dim * sizeof *x0);
    h->direction = mem_new_zero(2 * (size_t)graph->edge_count, sizeof *h->direction);
    h->edge = mem_new_zero(graph->edge_count, sizeof *h->edge);
    edges_index(h);
    h->instance = mem_new_zero(n, sizeof *h->instance);
    for (uint32_t r = 0; r < n; r++) {
        h->instance[r].step_us = 5000;
        h->instance[r].last_deadline_us = TIME_NEVER;
        h->instance[r].job_x = mem_new(dim, sizeof(float));
        h->instance[r].job_delta = mem_new(dim, sizeof(float));
    }
    return h;
}

void harness_free(struct harness *h)
{
    if (h == NULL) return;
    for (rank_t r = 0; r < h->graph->node_count; r++) {
        struct instance *in = &h->instance[r];
        h->type->destroy(in->algo);
        for (size_t i = 0; i < in->held_count; i++) harness_item_release(&in->held[i]);
        free(in->held);
        free(in->saved_x);
        blob_unref(in->saved);
        free(in->job_x);
        free(in->job_delta);
    }
    harness_queue_deinit(&h->queue);
    algo_actions_deinit(&h->acts);
    free(h->instance);
    free(h->direction);
    free(h->edge);
    free(h->weight);
    free(h->x0);
    free(h);
}

/* -- settings ---------------------------------------------------------------------------------- */

void harness_set_delay(struct harness *h, uint64_t low_us, uint64_t high_us)
{
    CHECK(low_us <= high_us && high_us - low_us < UINT32_MAX);
    h->delay_low_us = low_us;
    h->delay_high_us = high_us;
}

void harness_set_step_time(struct harness *h, rank_t r, uint64_t step_us)
{
    CHECK(r == RANK_NONE || r < h->graph->node_count);
    CHECK(step_us > 0); /* or an algorithm that trains on would never let time pass */
    for (rank_t k = 0; k < h->graph->node_count; k++)
        if (r == RANK_NONE || k == r) h->instance[k].step_us = step_us;
}

void harness_set_job_steps(struct harness *h, uint32_t steps_max)
{
    CHECK(steps_max > 0);
    h->job_steps_max = steps_max;
}

void harness_set_trainer(struct harness *h, harness_train_fn train, void *ctx)
{
    h->train = train;
    h->train_ctx = ctx;
}

void harness_set_site(struct harness *h, const uint32_t *site)
{
    CHECK(!h->started);
    h->site = site;
}

void harness_set_hook(struct harness *h, harness_hook_fn hook, void *ctx)
{
    h->hook = hook;
    h->hook_ctx = ctx;
}

void harness_set_trace(struct harness *h, FILE *out)
{
    h->trace = out;
}

void harness_set_compress(struct harness *h, const char *text)
{
    CHECK(!h->started);
    struct err_text why = {""};
    if (choice_parse(compress_table, compress_table_count, "--compress", text, &h->compress, &why) != 0)
        check_failed(why.text, __FILE__, __LINE__);
    h->compressed = true;
}

void harness_set_tensors(struct harness *h, const struct tensor *tensor, uint32_t count)
{
    CHECK(!h->started);
    h->tensor = tensor;
    h->tensor_count = count;
}

/* -- looking ----------------------------------------------------------------------------------- */

uint64_t harness_now(const struct harness *h)
{
    return h->now_us;
}

struct algo *harness_algo(const struct harness *h, rank_t r)
{
    CHECK(r < h->graph->node_count);
    return h->instance[r].algo;
}

const float *harness_model(const struct harness *h, rank_t r)
{
    struct algo *a = harness_algo(h, r);
    return a != NULL ? h->type->model(a) : NULL;
}

void harness_report(const struct harness *h, rank_t r, struct algo_report *out)
{
    memset(out, 0, sizeof *out);
    struct algo *a = harness_algo(h, r);
    if (a != NULL) h->type->report(a, out);
}

uint64_t harness_sent(const struct harness *h, uint8_t kind)
{
    return h->sent[kind];
}

uint64_t harness_sent_vectors(const struct harness *h)
{
    return h->sent_vectors;
}

uint64_t harness_lost(const struct harness *h)
{
    return h->lost;
}

uint64_t harness_in_flight(const struct harness *h)
{
    return h->in_flight;
}

uint64_t harness_steps(const struct harness *h, rank_t r)
{
    CHECK(r < h->graph->node_count);
    return h->instance[r].steps;
}

uint64_t harness_trace_hash(const struct harness *h)
{
    return h->hash;
}
