/* Hierarchical SGD: its parameters, making, ending and reporting; hsgd.c is the method, plan.c says what does
 * not fit. */
#include <stdlib.h>
#include <string.h>

#include "algo/hsgd/internal.h"
#include "algo/vec.h"
#include "base/check.h"

extern const struct algo_type hsgd_type;

static_assert(HSGD_LEVEL_MAX * ALLREDUCE_KIND_COUNT <= UINT8_MAX, "each level has kinds of its own");

static const struct param_spec params_of_hsgd[] = {
    {"periods", PARAM_TEXT, "50-5", 0, 0, NULL,
     "steps between averages, of everybody first; 50-10/5: by group"},
    {"groups", PARAM_TEXT, "auto", 0, 0, NULL, "2, or 2-4: two groups, each cut in four; auto = 2 each"},
    {"grouping", PARAM_WORD, "contiguous", 0, 0, "contiguous|random|balanced|tags",
     "by rank, by chance, alike in labels, or by --tag"},
    {"redraw", PARAM_WORD, "no", 0, 0, "no|yes", "random groups anew at each average of everybody"},
    {"weights", PARAM_WORD, "uniform", 0, 0, "uniform|data", "of the models in averages"},
};

static int plan_make(const struct algo_config *config, const struct choice *params, struct hsgd *h,
                     struct err_text *why)
{
    int err = hsgd_plan_read(params, config->node_count, &h->plan, why);
    if (err != 0) return err;
    h->plan.seed = config->seed;
    if (config->site != NULL) {
        h->site = mem_new(config->node_count, sizeof *h->site);
        memcpy(h->site, config->site, config->node_count * sizeof *h->site);
    }
    h->plan.site = h->site;
    return hsgd_plan_check(&h->plan, why);
}

/* Uniform weights are 1, so that sums over a power of two lose no bit. */
static void weights_set(const struct algo_config *config, const struct choice *params, struct hsgd *h)
{
    bool by_data = choice_integer(params, "weights") == 1;
    double total = 0;
    for (rank_t r = 0; r < config->node_count; r++) total += by_data ? config->weight[r] : 1.0;
    h->weight = by_data ? config->weight[config->rank] : 1.0;
    h->share = h->weight / total;
}

static void hsgd_destroy(struct algo *a)
{
    if (a == NULL) return;
    struct hsgd *h = (struct hsgd *)a;
    for (uint32_t l = 0; l < HSGD_LEVEL_MAX; l++) {
        hsgd_slot_end(h, &h->level[l].now);
        hsgd_next_end(h, l);
        free(h->level[l].held);
        free(h->level[l].state);
    }
    hsgd_slots_free_ended(h);
    free(h->ended);
    free(h->group);
    free(h->link);
    free(h->site);
    free(h->x);
    free(h);
}

static int hsgd_create(const struct algo_config *config, const struct choice *params, struct algo **out,
                       struct err_text *why)
{
    struct hsgd *h = mem_new_zero(1, sizeof *h);
    h->rank = config->rank;
    h->graph = config->graph;
    h->dim = config->dim;
    h->patience_us = config->patience_us;
    h->rejoining = config->rejoining;
    h->life = config->life;
    h->trace = config->trace;
    h->joining_until_us = TIME_NEVER;
    int err = plan_make(config, params, h, why);
    if (err != 0) {
        hsgd_destroy((struct algo *)h);
        return err;
    }
    weights_set(config, params, h);
    h->x = vec_duplicate(h->dim, config->x0);
    h->link = mem_new_zero(config->node_count, sizeof *h->link);
    h->group = mem_new((size_t)h->plan.level_count * config->node_count, sizeof *h->group);
    hsgd_groups_draw(&h->plan, 0, h->group);
    for (uint32_t l = 0; l < h->plan.level_count; l++)
        h->level[l].state = mem_new(h->dim, sizeof *h->level[l].state);
    *out = (struct algo *)h;
    return 0;
}

static const float *hsgd_model(const struct algo *a)
{
    return ((const struct hsgd *)a)->x;
}

static void hsgd_report(const struct algo *a, struct algo_report *out)
{
    const struct hsgd *h = (const struct hsgd *)a;
    struct allreduce_counts counts;
    hsgd_slots_count(h, &counts);
    *out = h->report;
    out->model_transfers = counts.vectors;
    out->duplicates_dropped = counts.dropped + h->late_dropped;
    out->left_out = counts.left_out;
    out->terms = counts.views;
    out->version = h->step;
    out->bytes_across = counts.floats_sent_across * sizeof(float);
}

const struct algo_type hsgd_type = {
    .spec = {"hsgd", "hierarchical SGD: averages in groups often, over everybody seldom",
             "Wang et al. 2020, arXiv 2010.12998", params_of_hsgd,
             sizeof params_of_hsgd / sizeof params_of_hsgd[0]},
    .eval = ALGO_EVAL_AVERAGE,
    .links = ALGO_LINKS_ALL,
    .packs = true,
    .create = hsgd_create,
    .destroy = hsgd_destroy,
    .step = hsgd_step,
    .deadline_us = hsgd_deadline_us,
    .model = hsgd_model,
    .report = hsgd_report,
};
