/* What all commands share once the configuration stands: data, split, model, common start, weights,
 * trainers and evaluation. Everything is a function of the configuration alone, so every process of a
 * cluster computes the same. */
#ifndef GADABOUT_AGENT_EXPERIMENT_EXPERIMENT_H
#define GADABOUT_AGENT_EXPERIMENT_EXPERIMENT_H

#include "agent/config/config.h"
#include "agent/dataset/dataset.h"
#include "agent/dataset/split.h"
#include "algo/model/model.h"
#include "algo/trainer.h"

struct experiment {
    const struct config *config; /* borrowed */
    const struct vec_ops *vec;
    struct dataset_source *source;
    struct dataset_info info; /* copy; target borrowed from source */
    struct split split;
    size_t dim;
    float *x0; /* (dim) */
    /* (tensor_count) borrowed from evaluator when messages are compressed by tensor; NULL = as one vector */
    const struct tensor *tensor;
    uint32_t tensor_count;
    double *weight; /* (nodes) D_v / D */
    /* (nodes) where each rank belongs (site.h); NULL = not asked for, or told by the members */
    uint32_t *site;
    /* evaluate on the training rows, though there are held-out ones; set after opening */
    bool judge_training;
    struct dataset test; /* the rows to judge by, loaded on first evaluation */
    struct model *evaluator;
};

/* Opens data, builds the split and the start. Errors as dataset_open, split_build, model_new. */
int experiment_open(const struct config *config, const struct vec_ops *vec, struct experiment *out,
                    struct err_text *why);
void experiment_close(struct experiment *e);

/* What the data look like to a model; batch_rows_max is that of an evaluation. */
struct model_shape experiment_shape(const struct experiment *e);

/* Trains on rows of `data` (borrowed) given by row[0..count) (borrowed; NULL = all): SGD from the config's
 * step size, momentum and batch, samples drawn with replacement from a stream of (seed, label, index).
 * Returns owned. */
struct trainer *local_trainer_new(const struct experiment *e, const struct dataset *data, const uint32_t *row,
                                  uint32_t count, const char *label, uint64_t index);

/* The same for the task `average`, which local_trainer_new hands over to this: the first step goes from the
 * common start to the mean of the rows, later ones change nothing. */
struct trainer *average_trainer_new(const struct experiment *e, const struct dataset *data,
                                    const uint32_t *row, uint32_t count);

/* Makes the step-size schedule of a trainer from local_trainer_new last `stretch` (>= 1) times as long. */
void local_trainer_stretch(struct trainer *t, uint64_t stretch);

/* Loads the rows of one rank only (agent), or all training rows (sim, baselines). */
int experiment_load_shard(const struct experiment *e, rank_t rank, struct dataset *out, struct err_text *why);
int experiment_load_all(const struct experiment *e, struct dataset *out, struct err_text *why);

/* Loss and accuracy of x (dim) on the held-out rows, or on all training rows when there are none. accuracy is
 * NAN for a model that does not classify. */
int experiment_evaluate(struct experiment *e, const float *x, double *loss, double *accuracy,
                        struct err_text *why);

/* Euclidean norm of the full gradient at x over the rows that experiment_evaluate takes. Errors likewise. */
int experiment_gradient_norm(struct experiment *e, const float *x, double *norm, struct err_text *why);

/* Identity that all members must share: a hash of everything that shapes the experiment. */
void experiment_cluster_id(const struct experiment *e, uint8_t out[16]);

/* The same for the cluster's name, which keeps experiments with equal options apart. */
uint64_t cluster_name_hash(const char *name);

/* Baselines: every node on its own shard for `steps` steps; one node with all the data for pooled_steps
 * steps, its step-size schedule stretched by the number of nodes. progress (may be NULL) is called between
 * chunks; nonzero stops (ERR_CLOSED). */
struct baseline_result {
    double accuracy_alone, loss_alone; /* mean over nodes */
    double accuracy_pooled, loss_pooled;
};
int experiment_baselines(struct experiment *e, uint64_t steps, uint64_t pooled_steps,
                         int (*progress)(void *ctx, double share), void *ctx, struct baseline_result *out,
                         struct err_text *why);

#endif
