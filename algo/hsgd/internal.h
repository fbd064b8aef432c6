/* Shared by the files of hierarchical SGD: hsgd.c (steps, averages, copies), slot.c (the all-reduce of
 * each level's group), next.c (messages that come early), make.c (parameters, making, reporting).
 * Not for others. */
#ifndef GADABOUT_ALGO_HSGD_INTERNAL_H
#define GADABOUT_ALGO_HSGD_INTERNAL_H

#include "algo/allreduce/allreduce.h"
#include "algo/hsgd/grouping.h"
#include "algo/step.h"

/* The all-reduce of one group between two averages of the level above; that of level 0 lives for ever. Its
 * round 0 is over when the slot starts: who comes afresh copies the model of the start like that of any
 * average. Round k is the average at start + k period. */
struct hsgd_slot {
    struct allreduce *sum; /* NULL = none */
    uint64_t start;        /* local steps at the average above */
    uint32_t period;       /* local steps between its rounds */
    uint64_t end;          /* local steps at the next average above */
    bool fresh;  /* this node may have been in it before and remembers nothing of that: it asks for a copy */
    bool known;  /* the level's state is the model of the start: round 0 is over for this node too */
    float *copy; /* (dim) owned: the group's average of `copy_step`, to be taken over; NULL = none */
    uint64_t copy_step;
    rank_t *member; /* (member_count) ascending, owned */
    uint32_t member_count;
};

/* A message of a start that this node has not reached. */
struct hsgd_held {
    rank_t from;
    struct algo_msg msg; /* owns its bits and a reference on its body */
};

struct hsgd_level {
    struct hsgd_slot now;
    /* Of a later start. member is NULL: there is none. sum is NULL: its messages wait in held[] until this
     * node gets there; only one that is fresh has an all-reduce, which asks for a copy meanwhile. */
    struct hsgd_slot next;
    struct hsgd_held *held; /* (held_count) */
    size_t held_count, held_capacity, held_bytes;
    float *state; /* (dim) the latest average of `now`, or the model it began with, for laggards */
};

/* What is known of a link: a new all-reduce is told, so that it waits for nobody who is long gone. */
struct hsgd_link {
    bool up;
    uint64_t boot;
    uint64_t changed_us; /* of up; before its first coming: when this node started */
    uint64_t start;      /* latest average that it is known to have had, on this link */
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
    uint64_t life;             /* algo_config.life */
    const struct trace *trace; /* borrowed */
    uint32_t *site;            /* own copy of config.site; NULL = none */

    uint64_t now_us;
    float *x;      /* (dim) */
    uint64_t step; /* t: local steps on the common count */
    bool training; /* a job is out */
    bool stale;    /* a copy came while it was: t may not pass the next average */
    bool resting;  /* this node waits for the average of level `due` */
    uint32_t due;
    /* While a node that rejoins waits for a copy: until when; else TIME_NEVER. */
    uint64_t joining_until_us;
    /* In its former life it may have been in all-reduces of starts up to this; settled with the first average
     * of everybody that it takes part in or copies. */
    uint64_t fresh_until;
    bool fresh_settled;

    struct hsgd_level level[HSGD_LEVEL_MAX];
    uint32_t *group; /* (level_count, node_count) of epoch group_epoch */
    uint64_t group_epoch;
    struct hsgd_link *link; /* (node_count) */

    struct hsgd_bits *bits;
    struct allreduce **ended; /* freed at the next step: actions may point into them */
    size_t ended_count, ended_capacity;
    struct allreduce_counts gone; /* of the freed ones */
    uint64_t across_gone;         /* floats that ended all-reduces of everybody sent across groups */
    uint64_t late_dropped;        /* messages of averages that are over */
    struct algo_report report;
};

/* -- slot.c */

/* The groups of this node at every level in the epoch that holds local step `start`: group[l]. */
void hsgd_groups_of(struct hsgd *h, uint64_t start, uint32_t group_of[HSGD_LEVEL_MAX]);

/* Fills in what a slot of `level` that starts at `start` is, without its all-reduce. ERR_PROTO when the start
 * is no multiple of the period above. */
int hsgd_slot_frame(struct hsgd *h, uint32_t level, uint64_t start, struct hsgd_slot *out);

/* Makes its all-reduce and tells it of the links. If it is fresh it asks for a copy; if it is known the
 * level's state is what it gives laggards. */
void hsgd_slot_open(struct hsgd *h, uint32_t level, struct hsgd_slot *s, struct algo_actions *acts);

void hsgd_slot_end(struct hsgd *h, struct hsgd_slot *s); /* its all-reduce is freed at the next step */
void hsgd_slots_free_ended(struct hsgd *h);
bool hsgd_slot_has(const struct hsgd_slot *s, rank_t r);
/* The node has had the average above at which the slot ends: to its all-reduce its link is down. */
bool hsgd_slot_is_behind(const struct hsgd *h, const struct hsgd_slot *s, rank_t r);

/* The last field of every message: the slot's start, and whether its sender has not got there yet. */
#define HSGD_IN_ADVANCE (UINT64_C(1) << 63)

/* Keeps the bits of messages from action `first` on beyond the all-reduce's next event, which here comes
 * within the same step. */
void hsgd_bits_keep(struct hsgd *h, struct algo_actions *acts, size_t first);

/* Gives the present slot of `level` the number of its next round, which follows from the local steps, unless
 * it has heard of later ones. */
void hsgd_slot_keep_step(struct hsgd *h, uint32_t level, struct hsgd_slot *s);

/* allreduce_begin, allreduce_set_ready and allreduce_step; what they send is marked with the slot's start. A
 * copy is kept in the slot. */
enum allreduce_outcome hsgd_slot_begin(struct hsgd *h, struct hsgd_slot *s, struct algo_actions *acts);
void hsgd_slot_ready(struct hsgd *h, struct hsgd_slot *s, bool ready, struct algo_actions *acts);
int hsgd_slot_step(struct hsgd *h, struct hsgd_slot *s, const struct algo_event *event,
                   struct algo_actions *acts, enum allreduce_outcome *outcome);

/* Ends what is in advance at `level`, with the messages held. */
void hsgd_next_end(struct hsgd *h, uint32_t level);

/* A message of `level` for a start after the present one; its last field, the start, is taken off. Returns 0
 * or ERR_PROTO, when nothing was changed. */
int hsgd_next_take(struct hsgd *h, uint32_t level, uint64_t start, const struct algo_event *e,
                   struct algo_actions *acts);
void hsgd_next_peer_down(struct hsgd *h, rank_t peer); /* what it sent before is void */

/* Makes the slot in advance the present one, and gives it what was held. */
void hsgd_next_reach(struct hsgd *h, uint32_t level, struct algo_actions *acts);

/* Gives an event to a slot in which nothing was begun, one of several in a step. */
int hsgd_slot_tell(struct hsgd *h, struct hsgd_slot *s, const struct algo_event *event,
                   struct algo_actions *acts);

/* Sums the counts of all slots that are or were. What was sent across groups counts for those of level 1:
 * only averages of everybody cross them. */
void hsgd_slots_count(const struct hsgd *h, struct allreduce_counts *out);

/* -- hsgd.c: struct algo_type's functions */
int hsgd_step(struct algo *a, const struct algo_event *event, struct algo_actions *acts);
uint64_t hsgd_deadline_us(const struct algo *a);

#endif
