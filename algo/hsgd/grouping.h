/* Who averages with whom, and when, in hierarchical SGD: a pure function of parameters, number of nodes, seed
 * and epoch, so that every node computes the same without asking.
 *
 * Level 0 is everybody; each group of level l is cut into the groups of level l + 1, so that groups are
 * nested. Groups of one level are numbered in the order of the cut. */
#ifndef GADABOUT_ALGO_HSGD_GROUPING_H
#define GADABOUT_ALGO_HSGD_GROUPING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/choice.h"
#include "base/err.h"
#include "base/ids.h"

enum {
    HSGD_LEVEL_MAX = 8,
    HSGD_PERIOD_MAX = 64, /* periods of one level, when its groups have their own */
};

/* The order in which nodes are laid out before they are cut. */
enum hsgd_order {
    HSGD_CONTIGUOUS, /* by rank */
    HSGD_RANDOM,     /* by a hash of seed, epoch and rank: a uniform partition */
    HSGD_BALANCED,   /* by site, the group that balances what the nodes' data hold */
    HSGD_TAGS,       /* by site; the groups of level 1 are the sites, whatever their sizes */
};

struct hsgd_plan {
    uint32_t node_count;
    uint32_t level_count;          /* of averages, >= 1 */
    uint32_t part[HSGD_LEVEL_MAX]; /* pieces that a group of level l - 1 is cut into; part[0] = 1; 0 = as many
                                    * as there are sites (level 1 of HSGD_TAGS) */
    uint32_t period_count[HSGD_LEVEL_MAX];            /* 1 = alike for all groups of the level */
    uint32_t period[HSGD_LEVEL_MAX][HSGD_PERIOD_MAX]; /* local steps between averages, by group */
    enum hsgd_order order;
    bool redraw;          /* RANDOM: anew at every average of level 0 */
    uint64_t seed;        /* RANDOM */
    const uint32_t *site; /* (node_count) BALANCED, TAGS; borrowed */
};

/* Reads the parameters `periods`, `groups`, `grouping`, `redraw` of the choice; seed and site are left 0.
 * Errors: ERR_USAGE for what is no list of numbers, too many levels, groups that do not divide the nodes (the
 * line says which would), more groups than nodes. */
int hsgd_plan_read(const struct choice *params, uint32_t node_count, struct hsgd_plan *out,
                   struct err_text *why);

/* Checks what depends on the sites and on how the levels fit each other: sites that are missing or do not fit
 * `groups`, periods that are not multiples of the ones below, periods by group of which there are not as
 * many as groups. ERR_USAGE. plan->part[1] of TAGS becomes the number of sites. */
int hsgd_plan_check(struct hsgd_plan *plan, struct err_text *why);

/* Draws the groups of an epoch (of the averages of level 0, from 0): group[l * node_count + r] is the group
 * of rank r at level l. Epochs matter with `redraw` alone. The plan must have passed the check. */
void hsgd_groups_draw(const struct hsgd_plan *plan, uint64_t epoch, uint32_t *group);

uint32_t hsgd_period(const struct hsgd_plan *plan, uint32_t level, uint32_t group);

/* The highest level whose average is due after `step` > 0 local steps for the node with these groups
 * (group_of[l] at level l); level_count when none is. */
uint32_t hsgd_due_level(const struct hsgd_plan *plan, const uint32_t *group_of, uint64_t step);

#endif
