/* Which nodes may stand for which: the order in which nodes are dealt to groups so that groups hold alike data.
 *
 * Nodes are sorted by the mean of their rows' targets and numbered in bit-reversed order of their places: the
 * first half of the numbers has every second place, the first quarter every fourth. Cut into 2, 4, 8 groups of
 * one size, each group reaches over all targets. */
#include <stdlib.h>

#include "agent/experiment.h"
#include "base/check.h"

struct place {
    double mean;
    uint32_t node, turned; /* its place in the order of the means, bits reversed */
};

static int compare_means(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->mean != y->mean) return x->mean < y->mean ? -1 : 1;
    return x->node < y->node ? -1 : 1;
}

static int compare_turned(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    return x->turned < y->turned ? -1 : 1;
}

static uint32_t turn(uint32_t place, uint32_t count)
{
    uint32_t turned = 0;
    for (uint32_t bit = 1; bit < count; bit <<= 1, place >>= 1) turned = turned << 1 | (place & 1);
    return turned;
}

uint32_t *experiment_sites(const struct experiment *e)
{
    uint32_t nodes = e->config->nodes, *site = mem_new(nodes, sizeof *site);
    struct place *place = mem_new(nodes, sizeof *place);
    for (uint32_t v = 0; v < nodes; v++) {
        double sum = 0;
        for (uint32_t i = e->split.offset[v]; i < e->split.offset[v + 1]; i++)
            sum += (double)e->info.target[e->split.row[i]];
        place[v] = (struct place){sum / split_size(&e->split, v), v, 0};
    }
    qsort(place, nodes, sizeof *place, compare_means);
    for (uint32_t i = 0; i < nodes; i++) place[i].turned = turn(i, nodes);
    qsort(place, nodes, sizeof *place, compare_turned);
    for (uint32_t i = 0; i < nodes; i++) site[place[i].node] = i;
    free(place);
    return site;
}
