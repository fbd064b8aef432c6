/* Faults of a storm that take many links at once, beside the single ones: partitions of five shapes (two halves
 * by size, by the toss of a coin, one node alone, a ring in which everybody sees a majority and no two the same
 * one, and one way only), and swizzles (the links of some nodes are stopped one after the other and let go in
 * another order). They come from a random stream of their own and one at a time: their cuts and heals are a list
 * of tasks in order of time. */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "tests/sim/storm.h"

enum { MAJORITY_REACH = 5 }; /* in the ring of 16: a node sees 5 to either side */

static const char *const shape_name[STORM_SHAPE_COUNT] = {"halves", "coin",    "one alone",
                                                          "ring",   "one way", "swizzle"};

static void task_add(struct storm *s, uint64_t at_us, enum storm_task_kind kind, rank_t a, rank_t b)
{
    CHECK(s->shapes.count < STORM_TASK_MAX);
    s->shapes.task[s->shapes.count++] = (struct storm_task){at_us, kind, a, b};
}

static int task_compare(const void *a, const void *b)
{
    const struct storm_task *x = a, *y = b;
    if (x->at_us != y->at_us) return x->at_us < y->at_us ? -1 : 1;
    if (x->a != y->a) return x->a < y->a ? -1 : 1;
    if (x->b != y->b) return x->b < y->b ? -1 : 1;
    return (int)x->kind - (int)y->kind;
}

static uint32_t ring_distance(rank_t a, rank_t b)
{
    uint32_t d = a > b ? a - b : b - a;
    return d < STORM_NODES - d ? d : STORM_NODES - d;
}

/* Which nodes are on the far side; of a ring none: there the pair decides. */
static uint32_t draw_side(struct storm *s, enum storm_shape shape)
{
    struct prng *p = &s->shapes.prng;
    if (shape == STORM_SHAPE_ALONE) return 1u << prng_below(p, STORM_NODES);
    if (shape == STORM_SHAPE_COIN || shape == STORM_SHAPE_SWIZZLE)
        return (uint32_t)prng_next(p) & ((1u << STORM_NODES) - 1);
    uint32_t side = 0;
    for (uint32_t size = 1 + prng_below(p, STORM_NODES - 1); size > 0; size--) {
        rank_t v = prng_below(p, STORM_NODES);
        while ((side >> v & 1) != 0) v = (v + 1) % STORM_NODES;
        side |= 1u << v;
    }
    return side;
}

static bool is_hit(enum storm_shape shape, uint32_t side, rank_t a, rank_t b)
{
    if (shape == STORM_SHAPE_RING) return ring_distance(a, b) > MAJORITY_REACH;
    bool far_a = (side >> a & 1) != 0, far_b = (side >> b & 1) != 0;
    return shape == STORM_SHAPE_SWIZZLE ? far_a || far_b : far_a != far_b;
}

/* Cuts and heals of one shape, from now on. */
static void plan_shape(struct storm *s, enum storm_shape shape)
{
    const struct graph *g = simulation_graph(s->sim);
    struct prng *p = &s->shapes.prng;
    uint64_t now_us = simulation_now_us(s->sim);
    uint64_t until_us = now_us + (uint64_t)(prng_uniform(p, 0.2, 12) * STORM_SECOND);
    uint32_t side = draw_side(s, shape);
    for (rank_t a = 0; a < STORM_NODES; a++) {
        for (uint32_t i = g->offset[a]; i < g->offset[a + 1]; i++) {
            rank_t b = g->neighbour[i];
            if (a >= b || !is_hit(shape, side, a, b)) continue;
            bool swizzled = shape == STORM_SHAPE_SWIZZLE;
            uint64_t cut_us = now_us + (swizzled ? prng_below(p, 3 * STORM_SECOND) : 0);
            uint64_t heal_us = until_us + (swizzled ? 3 * STORM_SECOND + prng_below(p, 3 * STORM_SECOND) : 0);
            bool from_far = (side >> a & 1) != 0;
            if (shape == STORM_SHAPE_ONE_WAY)
                task_add(s, cut_us, STORM_TASK_CUT_ONE_WAY, from_far ? a : b, from_far ? b : a);
            else
                task_add(s, cut_us, STORM_TASK_CUT, a, b);
            task_add(s, heal_us, STORM_TASK_HEAL, a, b);
        }
    }
    qsort(s->shapes.task, s->shapes.count, sizeof s->shapes.task[0], task_compare);
}

static void begin_shape(struct storm *s)
{
    enum storm_shape shape = (enum storm_shape)prng_below(&s->shapes.prng, STORM_SHAPE_COUNT);
    s->shapes.count = s->shapes.done = 0;
    plan_shape(s, shape);
    s->tally->shape[shape]++;
    if (s->loud)
        fprintf(stderr, "%9.3f  -- partition: %s, %u cuts and heals\n",
                (double)simulation_now_us(s->sim) / 1e6, shape_name[shape], s->shapes.count);
}

static void do_task(struct storm *s, const struct storm_task *t)
{
    struct sim_world *w = simulation_world(s->sim);
    switch (t->kind) {
    case STORM_TASK_CUT:
        sim_cut(w, t->a, t->b);
        break;
    case STORM_TASK_CUT_ONE_WAY:
        sim_cut_one_way(w, t->a, t->b);
        break;
    case STORM_TASK_HEAL:
        sim_heal(w, t->a, t->b);
        break;
    }
}

void storm_shapes_init(struct storm *s)
{
    prng_split(&s->shapes.prng, s->seed, "storm shapes", 0);
    s->shapes.next_us = TIME_NEVER;
    if (s->plan.plain || prng_below(&s->shapes.prng, 3) == 0) return; /* a third of the storms have none */
    s->shapes.gap_us = prng_uniform(&s->shapes.prng, 1, 15) * STORM_SECOND;
    s->shapes.next_us = (uint64_t)prng_exponential(&s->shapes.prng, s->shapes.gap_us);
}

uint64_t storm_shapes_due_us(const struct storm *s)
{
    if (s->shapes.done < s->shapes.count) return s->shapes.task[s->shapes.done].at_us;
    return s->shapes.next_us;
}

void storm_shapes_act(struct storm *s)
{
    if (s->shapes.done == s->shapes.count) begin_shape(s);
    if (s->shapes.done < s->shapes.count) do_task(s, &s->shapes.task[s->shapes.done++]);
    if (s->shapes.done == s->shapes.count)
        s->shapes.next_us =
            simulation_now_us(s->sim) + 1 + (uint64_t)prng_exponential(&s->shapes.prng, s->shapes.gap_us);
}
