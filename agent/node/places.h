/* Who holds which place. An experiment has `count` places (ranks, shards of the data, vertices of a fixed topology);
 * a member holds at most one of them, and a place that nobody holds is to an algorithm what a dead neighbour is.
 * Pure.
 *
 * Two modes. Fixed: the holders are given whole and never change (simulations, most tests). Otherwise the table is
 * fed with what membership knows: a member tells its place and when it claimed it in its numbers (enum place_meta).
 *
 * Rules
 *  - of two living members that claim one place the one that claimed it earlier holds it; ties: the smaller id.
 *  - members without a place take vacant ones in ascending order of id, so that all who know the same members
 *    choose apart from each other: first places that nobody claims, then those whose claimers are dead or have left.
 *  - a keeper (META_PHASE) is nobody here: it claims nothing, and is not counted among the living.
 *  - a claim without a time, of a place that there is not, or of a time more than a day ahead of ours is none. */
#ifndef GADABOUT_AGENT_NODE_PLACES_H
#define GADABOUT_AGENT_NODE_PLACES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/ids.h"
#include "net/membership/membership.h"

/* What the numbers of struct member mean. */
enum place_meta {
    META_PLACE,     /* place + 1; 0 = none */
    META_CLAIMED,   /* when it was claimed, in boot units */
    META_PHASE,     /* enum node_phase + 1; 0 = not told; of a keeper NODE_KEEPING + 1, always */
    META_PROGRESS,  /* local steps that its model has behind it */
    META_SAMPLES,   /* rows of its shard */
    META_LOAD,      /* local steps per second, lately */
    META_DEGREE,    /* neighbours that its algorithm has */
    META_UNDER_WAY, /* 1 = it has trained for a while: who comes now is late, whatever the progress told */
};

struct place_claim {
    node_id id;
    rank_t place; /* RANK_NONE */
    uint64_t claimed;
    bool living; /* ALIVE or SUSPECT, and no keeper */
};

enum place_state {
    PLACE_VACANT,   /* nobody claims it */
    PLACE_DESERTED, /* only members that are dead or have left */
    PLACE_HELD,
};

struct place {
    enum place_state state;
    node_id holder; /* HELD; DESERTED: who claimed it last */
};

struct places {
    uint32_t count;
    const struct member *fixed; /* (count) ascending by id: entry r holds place r; borrowed; NULL = fed */
    struct place *place;        /* (count) when fed */
    struct place_claim *claim;  /* (claim_count) all members, ascending by id */
    uint32_t claim_count, capacity, living;
};

/* fixed: NULL, or `count` members ascending by id, borrowed for life. */
void places_init(struct places *p, uint32_t count, const struct member *fixed);
void places_deinit(struct places *p);

/* Takes a record; now is in boot units. Returns true when some place has changed its state or holder. Fed mode. */
bool places_learn(struct places *p, const struct member *m, uint64_t now);

/* The member is forgotten. Returns as places_learn. */
bool places_forget(struct places *p, node_id id);

/* The place that id holds undisputed; RANK_NONE. */
rank_t places_of(const struct places *p, node_id id);

/* False when no living member holds the place. */
bool places_holder(const struct places *p, rank_t place, node_id *id);
enum place_state places_state(const struct places *p, rank_t place);

/* Which place the living member `id`, which has none, should claim: `wanted` (RANK_NONE = no matter which) unless
 * somebody living holds it, else by the rule above. RANK_NONE when all are taken. Fed mode. */
rank_t places_choose(const struct places *p, node_id id, rank_t wanted);

uint32_t places_held(const struct places *p);

#endif
