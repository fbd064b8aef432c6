/* The average of the agents' models, in two passes over their files: one model is in memory at a time. Sums are
 * in ascending rank and double precision. */
#include "agent/launcher/result.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/files/interrupt.h"
#include "agent/files/safetensors.h"
#include "algo/vec.h"
#include "base/check.h"

static char *model_path(const char *folder, rank_t rank)
{
    int size = snprintf(NULL, 0, "%s/nodes/%" PRIu32 "/model.safetensors", folder, rank) + 1;
    char *path = mem_new((size_t)size, 1);
    snprintf(path, (size_t)size, "%s/nodes/%" PRIu32 "/model.safetensors", folder, rank);
    return path;
}

/* An agent that was stopped while it opened its data has written none. Returns owned or NULL. */
static float *read_model(const char *path, size_t dim, struct err_text *why, int *err)
{
    float *x;
    size_t found;
    if (safetensors_read(path, &x, &found, NULL) != 0) return NULL;
    if (found == dim && vec_finite(dim, x)) return x;
    free(x);
    *err = err_set(why, ERR_FORMAT, "%s is not a model of this run", path);
    return NULL;
}

struct reading {
    double *sum; /* (dim) */
    double weight;
    uint64_t version; /* of the newest so far */
};

static void take_average(const struct experiment *e, rank_t v, const float *x, struct reading *r)
{
    r->weight += e->weight[v];
    for (size_t i = 0; i < e->dim; i++) r->sum[i] += e->weight[v] * (double)x[i];
}

static void take_newest(const struct experiment *e, uint64_t version, const float *x, struct result *out,
                        struct reading *r)
{
    if (out->models > 0 && version <= r->version) return;
    r->version = version;
    vec_copy(e->dim, x, out->x);
}

static void set_average(const struct experiment *e, const struct reading *r, struct result *out)
{
    if (r->weight <= 0) return;
    for (size_t i = 0; i < e->dim; i++) out->average[i] = (float)(r->sum[i] / r->weight);
    if (!out->newest) vec_copy(e->dim, out->average, out->x);
}

int result_read(const struct experiment *e, const char *folder, const bool *use,
                const struct launcher_node *node, struct result *out, struct err_text *why)
{
    uint32_t nodes = e->config->nodes;
    *out = (struct result){
        .x = mem_new(e->dim, sizeof *out->x),
        .average = mem_new_zero(e->dim, sizeof *out->average),
        .newest = e->config->algorithm->eval == ALGO_EVAL_NEWEST,
        .loss = (double)NAN,
        .accuracy = (double)NAN,
        .accuracy_min = (double)NAN,
        .consensus_distance = (double)NAN,
        .file = mem_new_zero(nodes, sizeof *out->file),
    };
    vec_copy(e->dim, e->x0, out->x);
    struct reading r = {.sum = mem_new_zero(e->dim, sizeof *r.sum)};
    int err = 0;
    for (rank_t v = 0; v < nodes && err == 0; v++) {
        if (!use[v]) continue;
        char *path = model_path(folder, v);
        float *x = read_model(path, e->dim, why, &err);
        if (x == NULL) {
            free(path);
            continue;
        }
        take_average(e, v, x, &r);
        if (out->newest)
            take_newest(e, node[v].last.node != RANK_NONE ? node[v].last.version : 0, x, out, &r);
        out->file[out->models++] = path;
        free(x);
    }
    set_average(e, &r, out);
    free(r.sum);
    return err;
}

static double distance_squared(size_t dim, const float *x, const float *y)
{
    double sum = 0;
    for (size_t i = 0; i < dim; i++) {
        double d = (double)x[i] - (double)y[i];
        sum += d * d;
    }
    return sum;
}

int result_evaluate(struct experiment *e, bool each, struct result *r, struct err_text *why)
{
    CHECK(r->models > 0);
    int err = experiment_evaluate(e, r->x, &r->loss, &r->accuracy, why);
    double squares = 0, norm = 0;
    for (size_t i = 0; i < e->dim; i++) norm += (double)r->average[i] * (double)r->average[i];
    for (uint32_t i = 0; i < r->models && err == 0; i++) {
        float *x = read_model(r->file[i], e->dim, why, &err);
        if (x == NULL) continue;
        squares += distance_squared(e->dim, x, r->average);
        double loss, accuracy = (double)NAN;
        if (each && !interrupted()) err = experiment_evaluate(e, x, &loss, &accuracy, why);
        if (!isnan(accuracy) && !(accuracy >= r->accuracy_min)) r->accuracy_min = accuracy;
        free(x);
    }
    if (norm > 0) r->consensus_distance = sqrt(squares / r->models / norm);
    return err;
}

bool result_meets_target(const struct config *c, const struct result *r)
{
    if (isnan(c->target_loss) && isnan(c->target_accuracy)) return false;
    return (isnan(c->target_loss) || r->loss <= c->target_loss) &&
           (isnan(c->target_accuracy) || r->accuracy >= c->target_accuracy);
}

void result_deinit(struct result *r)
{
    for (uint32_t i = 0; i < r->models; i++) free(r->file[i]);
    free(r->file);
    free(r->average);
    free(r->x);
    *r = (struct result){0};
}
