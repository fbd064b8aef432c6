/* The cut into nested groups: nodes are laid out in a row and the row is cut, level by level. See grouping.h.
 */
#include "algo/hsgd/grouping.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/prng.h"

struct keyed {
    uint64_t key;
    rank_t rank;
};

static int keyed_compare(const void *left, const void *right)
{
    const struct keyed *a = left, *b = right;
    if (a->key != b->key) return a->key < b->key ? -1 : 1;
    return a->rank < b->rank ? -1 : a->rank > b->rank;
}

static uint64_t key_of(const struct hsgd_plan *plan, uint64_t epoch_seed, rank_t r)
{
    struct prng random;
    switch (plan->order) {
    case HSGD_CONTIGUOUS:
        return r;
    case HSGD_RANDOM:
        prng_split(&random, epoch_seed, "hsgd.rank", r);
        return prng_next(&random);
    case HSGD_BALANCED:
    case HSGD_TAGS:
        return plan->site[r];
    }
    UNREACHABLE();
}

/* Returns the nodes in the order of the cut, owned. */
static struct keyed *row_make(const struct hsgd_plan *plan, uint64_t epoch)
{
    struct prng random;
    prng_split(&random, plan->seed, "hsgd.epoch", plan->redraw ? epoch : 0);
    uint64_t epoch_seed = prng_next(&random);
    struct keyed *row = mem_new(plan->node_count, sizeof *row);
    for (rank_t r = 0; r < plan->node_count; r++)
        row[r] = (struct keyed){.key = key_of(plan, epoch_seed, r), .rank = r};
    qsort(row, plan->node_count, sizeof *row, keyed_compare);
    return row;
}

/* Cuts the block row[begin..end) of group `parent` into the groups of the next level, from number `first` on;
 * returns the number of groups made. */
static uint32_t block_cut(const struct hsgd_plan *plan, uint32_t level, const struct keyed *row,
                          uint32_t begin, uint32_t end, uint32_t first, uint32_t *group)
{
    bool by_site = plan->order == HSGD_TAGS && level == 1;
    uint32_t piece = by_site ? 0 : (end - begin) / plan->part[level];
    uint32_t number = first;
    CHECK(by_site || piece * plan->part[level] == end - begin);
    for (uint32_t i = begin; i < end; i++) {
        bool cut = by_site ? row[i].key != row[i - (i > begin)].key : (i - begin) % piece == 0;
        if (cut && i > begin) number++;
        group[row[i].rank] = number;
    }
    return number - first + 1;
}

void hsgd_groups_draw(const struct hsgd_plan *plan, uint64_t epoch, uint32_t *group)
{
    uint32_t n = plan->node_count;
    struct keyed *row = row_make(plan, epoch);
    memset(group, 0, n * sizeof *group);
    for (uint32_t l = 1; l < plan->level_count; l++) {
        const uint32_t *above = group + (size_t)(l - 1) * n;
        uint32_t made = 0;
        for (uint32_t begin = 0, end; begin < n; begin = end) {
            for (end = begin + 1; end < n && above[row[end].rank] == above[row[begin].rank];) end++;
            made += block_cut(plan, l, row, begin, end, made, group + (size_t)l * n);
        }
    }
    free(row);
}

uint32_t hsgd_period(const struct hsgd_plan *plan, uint32_t level, uint32_t group)
{
    CHECK(level < plan->level_count);
    uint32_t at = plan->period_count[level] == 1 ? 0 : group;
    CHECK(at < plan->period_count[level]);
    return plan->period[level][at];
}

uint32_t hsgd_due_level(const struct hsgd_plan *plan, const uint32_t *group_of, uint64_t step)
{
    uint32_t l = 0;
    while (l < plan->level_count && step % hsgd_period(plan, l, group_of[l]) != 0) l++;
    return l;
}
