/* Shared by the files of hierarchical SGD: hsgd.c (steps, averages, copies), hsgd_slot.c (the all-reduce of
 * each level's group), hsgd_make.c (parameters, making, reporting). Not for others. */
#ifndef GADABOUT_ALGO_HSGD_INTERNAL_H
#define GADABOUT_ALGO_HSGD_INTERNAL_H

#include "algo/allreduce/allreduce.h"
#include "algo/hsgd/grouping.h"
#include "algo/step.h"

/* The all-reduce of one group between two averages of the level above; that of level 0 lives for ever. Its
 * rounds are the averages at start + period, start + 2 period, ... */
struct hsgd_slot {
    struct allreduce *sum; /* NULL = none */
    uint64_t start;        /* local steps at the average above */
    uint32_t period;       /* local steps between its rounds */
    uint64_t end;          /* local steps at the next average above */
    float *copy; /* (dim) owned: the group's average of `copy_step`, to be taken over; NULL = none */
    uint64_t copy_step;
    rank_t *member; /* (member_count) ascending, owned */
    uint32_t member_count;
};

struct hsgd_level {
    struct hsgd_slot now;
    struct hsgd_slot next; /* of a later start, made when one of its messages comes early */
    float *state;          /* (dim) the latest average of `now`, for laggards */
};

/* What is known of a link: a new all-reduce is told, so that it waits for nobody who is long gone. */
struct hsgd_link {
    bool up;
    uint64_t boot;
    uint64_t changed_us; /* of up; before its first coming: when this node started */
};

/* What actions of this step point into. */
struct hsgd_bits {
    struct hsgd_bits *next;
    uint8_t byte[];
};

struct hsgd {
    struct hsgd_plan plan;
    rank_t rank;
    const struct graph *graph; /* borrowed */
    size_t dim;
    double weight; /* of this node's model in averages */
    double share;  /* weight over the sum of all nodes' */
    uint64_t patience_us;
    bool rejoining;
    const struct trace *trace; /* borrowed */
    uint32_t *site;            /* own copy of config.site; NULL = none */

    uint64_t now_us;
    float *x;      /* (dim) */
    uint64_t step; /* t: local steps on the common count */
    bool training; /* a job is out */
    bool stale;    /* a copy came while it was: t may not pass the next average */
    bool resting;  /* this node waits for the average of level `due` */
    uint32_t due;
    uint64_t
        joining_until_us; /* a node that rejoins waits so long for a copy; TIME_NEVER = it does not wait */

    struct hsgd_level level[HSGD_LEVEL_MAX];
    uint32_t *group; /* (level_count, node_count) of epoch group_epoch */
    uint64_t group_epoch;
    struct hsgd_link *link; /* (node_count) */

    struct hsgd_bits *bits;
    struct allreduce **ended; /* freed at the next step: actions may point into them */
    size_t ended_count, ended_capacity;
    struct allreduce_counts gone; /* of the freed ones */
    uint64_t late_dropped;        /* messages of averages that are over */
    struct algo_report report;
};

/* -- hsgd_slot.c */

/* The groups of this node at every level in the epoch that holds local step `start`: group[l]. */
void hsgd_groups_of(struct hsgd *h, uint64_t start, uint32_t group_of[HSGD_LEVEL_MAX]);

/* Makes the slot of `level` that starts at `start`, a multiple of the period above (else ERR_PROTO), and tells
 * it of the links. */
int hsgd_slot_make(struct hsgd *h, uint32_t level, uint64_t start, bool rejoining, struct hsgd_slot *out,
                   struct algo_actions *acts);
void hsgd_slot_end(struct hsgd *h, struct hsgd_slot *s); /* its all-reduce is freed at the next step */
/* Ends a slot just made, and takes back what was appended from acts->item[first] on. */
void hsgd_slot_undo(struct hsgd *h, struct hsgd_slot *s, struct algo_actions *acts, size_t first);
void hsgd_slots_free_ended(struct hsgd *h);
bool hsgd_slot_has(const struct hsgd_slot *s, rank_t r);

/* allreduce_begin and allreduce_step; what they send is marked with the slot's start. A copy is kept in the
 * slot. */
enum allreduce_outcome hsgd_slot_begin(struct hsgd *h, struct hsgd_slot *s, struct algo_actions *acts);
int hsgd_slot_step(struct hsgd *h, struct hsgd_slot *s, const struct algo_event *event,
                   struct algo_actions *acts, enum allreduce_outcome *outcome);

/* Sums the counts of all slots that are or were. */
void hsgd_slots_count(const struct hsgd *h, struct allreduce_counts *out);

/* -- hsgd.c: struct algo_type's functions */
int hsgd_step(struct algo *a, const struct algo_event *event, struct algo_actions *acts);
uint64_t hsgd_deadline_us(const struct algo *a);

#endif
