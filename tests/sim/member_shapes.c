/* Partitions and swizzles of a storm of members: as in storm_shapes.c, over all pairs of slots, for up to 40 seconds, so
 * that members are declared dead and places are given away meanwhile. */
#include <stdlib.h>

#include "base/check.h"
#include "net/sim/sim.h"
#include "tests/sim/member_storm.h"

enum { MAJORITY_SHARE = 3 }; /* ring: a node sees slots / 3 to either side */

static const char *const shape_name[MEMBER_SHAPE_COUNT] = {"halves", "coin",    "one alone",
                                                           "ring",   "one way", "swizzle"};

static int task_compare(const void *a, const void *b)
{
    const struct member_task *x = a, *y = b;
    if (x->at_us != y->at_us) return x->at_us < y->at_us ? -1 : 1;
    if (x->a != y->a) return x->a < y->a ? -1 : 1;
    if (x->b != y->b) return x->b < y->b ? -1 : 1;
    return (int)x->heal - (int)y->heal;
}

static uint32_t draw_side(struct member_storm *s, enum member_shape shape)
{
    struct prng *p = &s->shapes.prng;
    if (shape == MEMBER_SHAPE_ALONE) return 1u << prng_below(p, s->slots);
    if (shape == MEMBER_SHAPE_COIN || shape == MEMBER_SHAPE_SWIZZLE)
        return (uint32_t)prng_next(p) & ((1u << s->slots) - 1);
    uint32_t side = 0;
    for (uint32_t size = 1 + prng_below(p, s->slots - 1); size > 0; size--) {
        uint32_t v = prng_below(p, s->slots);
        while ((side >> v & 1) != 0) v = (v + 1) % s->slots;
        side |= 1u << v;
    }
    return side;
}

static bool is_hit(const struct member_storm *s, enum member_shape shape, uint32_t side, uint32_t a,
                   uint32_t b)
{
    uint32_t d = b - a, round = d < s->slots - d ? d : s->slots - d;
    if (shape == MEMBER_SHAPE_RING) return round > s->slots / MAJORITY_SHARE;
    bool far_a = (side >> a & 1) != 0, far_b = (side >> b & 1) != 0;
    return shape == MEMBER_SHAPE_SWIZZLE ? far_a || far_b : far_a != far_b;
}

static void begin_shape(struct member_storm *s)
{
    struct member_shapes *h = &s->shapes;
    struct prng *p = &h->prng;
    enum member_shape shape = (enum member_shape)prng_below(p, MEMBER_SHAPE_COUNT);
    uint64_t now_us = member_storm_now_us(s);
    uint64_t until_us = now_us + (uint64_t)(prng_uniform(p, 0.2, 40) * MEMBER_SECOND);
    uint32_t side = draw_side(s, shape);
    h->count = h->done = 0;
    for (uint32_t a = 0; a < s->slots; a++) {
        for (uint32_t b = a + 1; b < s->slots; b++) {
            if (!is_hit(s, shape, side, a, b)) continue;
            bool swizzled = shape == MEMBER_SHAPE_SWIZZLE, one_way = shape == MEMBER_SHAPE_ONE_WAY;
            uint64_t cut_us = now_us + (swizzled ? prng_below(p, 3 * MEMBER_SECOND) : 0);
            uint64_t heal_us =
                until_us + (swizzled ? 3 * MEMBER_SECOND + prng_below(p, 3 * MEMBER_SECOND) : 0);
            bool turned = one_way && (side >> a & 1) == 0;
            h->task[h->count++] =
                (struct member_task){cut_us, turned ? b : a, turned ? a : b, false, one_way};
            h->task[h->count++] = (struct member_task){heal_us, a, b, true, false};
        }
    }
    qsort(h->task, h->count, sizeof h->task[0], task_compare);
    s->tally->shape[shape]++;
    member_faults_say(s, shape_name[shape], side, h->count);
}

void member_shapes_act(struct member_storm *s)
{
    struct member_shapes *h = &s->shapes;
    struct sim_world *w = simulation_world(s->sim);
    if (h->done == h->count) begin_shape(s);
    if (h->done < h->count) {
        const struct member_task *t = &h->task[h->done++];
        member_faults_disturbed(s, t->a);
        member_faults_disturbed(s, t->b);
        if (t->heal)
            sim_heal(w, t->a, t->b);
        else if (t->one_way)
            sim_cut_one_way(w, t->a, t->b);
        else
            sim_cut(w, t->a, t->b);
    }
    if (h->done == h->count)
        h->next_us = member_storm_now_us(s) + 1 + (uint64_t)prng_exponential(&h->prng, h->gap_us);
}

uint64_t member_shapes_due_us(const struct member_storm *s)
{
    const struct member_shapes *h = &s->shapes;
    return h->done < h->count ? h->task[h->done].at_us : h->next_us;
}

void member_shapes_init(struct member_storm *s)
{
    prng_split(&s->shapes.prng, s->seed, "member storm shapes", 0);
    s->shapes.next_us = TIME_NEVER;
    if (prng_below(&s->shapes.prng, 3) == 0) return;
    s->shapes.gap_us = prng_uniform(&s->shapes.prng, 2, 30) * MEMBER_SECOND;
    s->shapes.next_us = (uint64_t)prng_exponential(&s->shapes.prng, s->shapes.gap_us);
}
