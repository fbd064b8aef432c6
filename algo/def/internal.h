/* Shared by the files of error feedback and EF21 over an all-reduce only. */
#ifndef GADABOUT_ALGO_DEF_INTERNAL_H
#define GADABOUT_ALGO_DEF_INTERNAL_H

#include "algo/allreduce/allreduce.h"
#include "algo/compress/compress.h"
#include "algo/state.h"

/* EF21: what the others know of a worker's progress. */
struct known {
    float *own;          /* (dim) g_k */
    float *mean;         /* (dim) g, the same bits on all workers of a view */
    struct view_id view; /* in which they were built */
};

struct def {
    size_t dim;
    uint64_t seed;
    float lam;                   /* how far ahead of the residual the gradient is taken */
    uint32_t every;              /* local steps of a round */
    double weight;               /* of this worker's progress in the mean */
    bool ahead;                  /* the model shown is x - e, not x */
    const struct tensor *tensor; /* (tensor_count) borrowed */
    uint32_t tensor_count;
    struct tensor whole; /* the one tensor when none were told */
    struct compressor *compressor;
    struct allreduce *ring;
    const struct trace *trace;

    float *x;            /* (dim) the same bits on all workers of a view */
    float *e;            /* (dim) residual (EF21: -g_k); while a round is trained p = e - (progress so far) */
    float *w;            /* (dim) where training stands */
    float *c;            /* (dim) C(p) of the round begun; scratch for what is decoded */
    float *shown;        /* (dim) x - e when ahead, else NULL */
    struct known *known; /* EF21, else NULL */
    float *handed;       /* (dim) C(p) of the last round over, if it is handed_round - 1 */
    uint64_t handed_round;
    float
        *owed; /* (dim) what of e is of a former life, until it is known how much of it got out; else NULL */
    uint64_t owed_round; /* rounds that were over by then */
    float *unsure;       /* (dim) that life had handed this over in the last of them; NULL = nothing */
    rank_t rank;
    bool rejoining;
    float *body;                       /* (body_max) the kept entries of p, tensor after tensor */
    size_t body_max, body_size, *part; /* part: (tensor_count) floats of each tensor */
    uint64_t began_round;
    uint32_t steps; /* done in this round */
    struct algo_report report;
};

/* def.c. The mean of the round that is over, decoded into w, which is free between training. False: it does not
 * decode. */
bool def_mean_decode(struct def *d);

/* def.c. body = the entries of p (dim) that are sent in `round`, c = C(p). Not while a round is begun. A tensor out of
 * the compressor's reach counts as zero. */
void def_entries_keep(struct def *d, const float *p, uint64_t round);

/* state.c */
void def_state_save(const struct algo *a, struct state_writer *out);
int def_state_restore(struct algo *a, struct state_reader *in, struct err_text *why);
/* The others know of sums up to round `counted` that hold ours: what they hold of `owed` leaves e. */
void def_owed_settle(struct def *d, uint64_t counted);

/* known.c */
struct known *known_new(size_t dim); /* returns owned */
void known_free(struct known *k);    /* NULL is allowed */
void known_sum(struct def *d);       /* instead of what error feedback does at ALLREDUCE_SUM */
void known_forget(struct def *d);    /* ... and with its residual at ALLREDUCE_COPY: nothing is known */

/* The type's functions, as in algo/step.h. */
int def_step(struct algo *a, const struct algo_event *e, struct algo_actions *acts);
uint64_t def_deadline_us(const struct algo *a);
const float *def_model(const struct algo *a);
void def_report(const struct algo *a, struct algo_report *out);

#endif
