/* The paths of an all-reduce as trees, one for each slice, seen from one member: its parent, towards the
 * slice's owner, and its children. Sums go up, the result comes down the same tree.
 *   flat:    slice k of K: the chain k+1, k+2, .., k (mod K).
 *   groups:  owner k stands at index r of its group; in every group the member at index r mod (group size)
 *            stands for the slice and ends a chain over its group; these form a chain over the groups
 *            that ends at k. */
#include "algo/allreduce/internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

enum { CHUNK_DEFAULT = 16384, FLOATS_IN_FLIGHT = 1 << 20, WINDOW_MAX = 64 };

/* Members of the view, group by group. */
struct order {
    uint32_t *place;              /* (count) members, ascending group, then rank */
    uint32_t *first;              /* (groups + 1) into place */
    uint32_t groups, mine, index; /* our group, our index in it */
};

static void order_make(const struct allreduce *a, struct order *o)
{
    o->place = mem_new(a->view_count, sizeof *o->place);
    o->first = mem_new_zero(a->view_count + 1, sizeof *o->first);
    o->groups = o->mine = o->index = 0;
    uint32_t done = 0;
    for (bool any = true; done < a->view_count; any = true) {
        uint32_t next = 0;
        for (uint32_t i = 0; i < a->count; i++) {
            const struct participant *p = &a->member[i];
            if (!p->in_view || (o->groups > 0 && p->group <= a->member[o->place[done - 1]].group)) continue;
            if (any || p->group < next) next = p->group;
            any = false;
        }
        CHECK(!any);
        for (uint32_t i = 0; i < a->count; i++) {
            if (!a->member[i].in_view || a->member[i].group != next) continue;
            if (i == a->self) {
                o->mine = o->groups;
                o->index = done - o->first[o->groups];
            }
            o->place[done++] = i;
        }
        o->first[++o->groups] = done;
    }
}

static uint32_t group_size(const struct order *o, uint32_t g)
{
    return o->first[g + 1] - o->first[g];
}

/* Who stands in group g for slices owned at index r of a group. */
static int32_t standing(const struct order *o, uint32_t g, uint32_t r)
{
    return (int32_t)o->place[o->first[g] + r % group_size(o, g)];
}

/* The tree of the slice whose owner has index r in group `home`. */
static void slice_plan(const struct order *o, uint32_t home, uint32_t r, struct slice *s)
{
    uint32_t m = group_size(o, o->mine), q = r % m;
    uint32_t at = (o->index + m - q - 1 + m) % m; /* place in the group's chain, 0 = its beginning */
    s->parent = s->child[0] = s->child[1] = NO_MEMBER;
    if (at > 0) s->child[0] = (int32_t)o->place[o->first[o->mine] + (o->index + m - 1) % m];
    if (at < m - 1) {
        s->parent = (int32_t)o->place[o->first[o->mine] + (o->index + 1) % m];
        return;
    }
    uint32_t turn = (o->mine + o->groups - home - 1 + o->groups) % o->groups;
    if (turn > 0) s->child[1] = standing(o, (o->mine + o->groups - 1) % o->groups, r);
    if (turn < o->groups - 1) s->parent = standing(o, (o->mine + 1) % o->groups, r);
}

static void sizes_choose(struct allreduce *a)
{
    a->chunk_size = a->config.chunk_max > 0 ? a->config.chunk_max : CHUNK_DEFAULT;
    uint64_t window = FLOATS_IN_FLIGHT / ((uint64_t)a->chunk_size * a->view_count);
    a->window = window < 1 ? 1 : window > WINDOW_MAX ? WINDOW_MAX : (uint32_t)window;
}

void plan_clear(struct allreduce *a)
{
    for (uint32_t k = 0; a->slice != NULL && k < a->view_count; k++) {
        CHECK(a->slice[k].wait == NULL);
    }
    free(a->slice);
    a->slice = NULL;
}

void plan_make(struct allreduce *a)
{
    CHECK(a->slice == NULL);
    struct order o;
    order_make(a, &o);
    sizes_choose(a);
    a->slice = mem_new_zero(a->view_count, sizeof *a->slice);
    for (uint32_t i = 0; i < a->count; i++) a->member[i].adjacent = false;
    uint32_t k = 0;
    for (uint32_t g = 0; g < o.groups; g++)
        for (uint32_t r = 0; r < group_size(&o, g); r++, k++) {
            struct slice *s = &a->slice[k];
            slice_plan(&o, g, r, s);
            if (s->parent != NO_MEMBER) a->member[s->parent].adjacent = true;
            for (int c = 0; c < 2; c++)
                if (s->child[c] != NO_MEMBER) a->member[s->child[c]].adjacent = true;
        }
    free(o.place);
    free(o.first);
}
