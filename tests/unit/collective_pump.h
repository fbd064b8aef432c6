/* Eight collectives in one process: one queue, whose next delivery a seed chooses (in order within a lane of a
 * direction, as the transport promises), links that go and come, nodes that die. For test_collective*.c only. */
#ifndef GADABOUT_TESTS_UNIT_COLLECTIVE_PUMP_H
#define GADABOUT_TESTS_UNIT_COLLECTIVE_PUMP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "algo/collective/collective.h"
#include "base/prng.h"

enum { NODES = 8, DIM = 5, QUEUE_MAX = 4096, STATE = 10, SUM, RESULT, ASK };
#define PATIENCE UINT64_C(1000000)

struct letter {
    rank_t from, to;
    struct algo_msg msg;
    uint8_t bits[1];
};

struct pump {
    struct graph graph;
    struct collective *node[NODES];
    float x[NODES][DIM];
    double weight[NODES];
    bool dead[NODES], cut[NODES][NODES];
    uint64_t averages[NODES], alones[NODES];
    struct letter queue[QUEUE_MAX];
    size_t count;
    uint64_t now, delivered;
    struct prng prng;
    struct letter old_sum; /* first sum of round 0 that was delivered */
    bool plant;            /* deliver it stamped as round 1 over that child's true sum */
    bool replay;           /* deliver it again as it was, before that child's true sum */
};

static inline void drop_bodies(struct algo_msg *m)
{
    blob_unref(m->vec);
    blob_unref(m->packed);
}

static inline void take_actions(struct pump *p, rank_t v, struct algo_actions *acts)
{
    for (size_t i = 0; i < acts->count; i++) {
        const struct algo_action *a = &acts->item[i];
        assert_int_equal(a->kind, ALGO_SEND);
        assert_false(p->cut[v][a->to]);
        assert_true(p->count < QUEUE_MAX);
        struct letter *l = &p->queue[p->count++];
        *l = (struct letter){.from = v, .to = a->to, .msg = a->msg};
        blob_ref(l->msg.vec);
        blob_ref(l->msg.packed);
        if (l->msg.bits_size > 0) l->bits[0] = l->msg.bits[0];
    }
    algo_actions_deinit(acts);
}

static inline void note(struct pump *p, rank_t v, enum collective_outcome outcome)
{
    p->averages[v] += outcome == COLLECTIVE_AVERAGE;
    p->alones[v] += outcome == COLLECTIVE_ALONE;
}

static inline int give(struct pump *p, rank_t v, const struct algo_event *event)
{
    struct algo_actions acts = {0};
    enum collective_outcome outcome;
    int err = collective_step(p->node[v], event, &acts, &outcome);
    note(p, v, outcome);
    if (err != 0) assert_int_equal(acts.count, 0);
    take_actions(p, v, &acts);
    return err;
}

static inline void begin(struct pump *p, rank_t v)
{
    struct algo_actions acts = {0};
    note(p, v, collective_begin(p->node[v], p->now, p->x[v], &acts));
    take_actions(p, v, &acts);
}

static inline void link_event(struct pump *p, rank_t v, rank_t peer, bool up)
{
    if (p->dead[v]) return;
    struct algo_event e = {
        .kind = up ? ALGO_PEER_UP : ALGO_PEER_DOWN, .now_us = p->now, .peer = peer, .boot = 1};
    give(p, v, &e);
}

static inline void drop_letters(struct pump *p, rank_t a, rank_t b)
{
    size_t kept = 0;
    for (size_t i = 0; i < p->count; i++) {
        struct letter *l = &p->queue[i];
        if ((l->from == a && l->to == b) || (l->from == b && l->to == a))
            drop_bodies(&l->msg);
        else
            p->queue[kept++] = *l;
    }
    p->count = kept;
}

static inline void set_link(struct pump *p, rank_t a, rank_t b, bool up)
{
    if (!up) drop_letters(p, a, b);
    p->cut[a][b] = p->cut[b][a] = !up;
    link_event(p, a, b, up);
    link_event(p, b, a, up);
}

static inline void kill_node(struct pump *p, rank_t v)
{
    p->dead[v] = true;
    for (uint32_t i = p->graph.offset[v]; i < p->graph.offset[v + 1]; i++)
        if (!p->cut[v][p->graph.neighbour[i]]) set_link(p, v, p->graph.neighbour[i], false);
}

/* compress: as after --compress. */
static inline struct pump *pump_new_packed(const char *topology, const char *compress, uint64_t seed)
{
    struct pump *p = calloc(1, sizeof *p);
    struct choice choice, packing;
    assert_int_equal(choice_parse(compress_table, compress_table_count, "", compress, &packing, NULL), 0);
    assert_int_equal(choice_parse(topology_table, topology_table_count, "", topology, &choice, NULL), 0);
    assert_int_equal(topology_build(&choice, NODES, 1, &p->graph, NULL), 0);
    prng_seed(&p->prng, seed);
    struct prng values; /* the same for all seeds */
    prng_seed(&values, 99);
    for (rank_t v = 0; v < NODES; v++) {
        p->weight[v] = prng_uniform(&values, 0.5, 2);
        for (int i = 0; i < DIM; i++) p->x[v][i] = (float)prng_normal(&values);
        struct collective_config config = {.rank = v,
                                           .graph = &p->graph,
                                           .dim = DIM,
                                           .weight = p->weight[v],
                                           .patience_us = PATIENCE,
                                           .first_kind = STATE,
                                           .compress = &packing,
                                           .seed = 5};
        p->node[v] = collective_new(&config);
    }
    for (rank_t v = 0; v < NODES; v++)
        for (uint32_t i = p->graph.offset[v]; i < p->graph.offset[v + 1]; i++)
            link_event(p, v, p->graph.neighbour[i], true);
    return p;
}

static inline struct pump *pump_new(const char *topology, uint64_t seed)
{
    return pump_new_packed(topology, "none", seed);
}

static inline void pump_free(struct pump *p)
{
    for (size_t i = 0; i < p->count; i++) drop_bodies(&p->queue[i].msg);
    drop_bodies(&p->old_sum.msg);
    for (rank_t v = 0; v < NODES; v++) collective_free(p->node[v]);
    graph_deinit(&p->graph);
    free(p);
}

static inline int deliver(struct pump *p, const struct letter *l)
{
    struct algo_msg m = l->msg;
    m.bits = l->msg.bits_size > 0 ? l->bits : NULL;
    struct algo_event e = {.kind = ALGO_MESSAGE, .now_us = p->now, .peer = l->from, .msg = &m};
    return give(p, l->to, &e);
}

/* Returns whether the letter was replaced. */
static inline bool tamper(struct pump *p, const struct letter *l)
{
    if (l->msg.kind != SUM) return false;
    if (p->old_sum.msg.vec == NULL && p->old_sum.msg.packed == NULL && l->msg.field[0] == 0) {
        p->old_sum = *l;
        blob_ref(l->msg.vec);
        blob_ref(l->msg.packed);
    }
    if (l->msg.field[0] != 1 || l->from != p->old_sum.from || l->to != p->old_sum.to) return false;
    struct letter again = p->old_sum;
    if (p->plant) again.msg.field[0] = 1; /* what a machine without round numbers would do */
    if (p->plant || p->replay) assert_int_equal(deliver(p, &again), 0);
    return p->plant;
}

static inline bool is_bulk(const struct algo_msg *m)
{
    return m->vec != NULL || m->packed != NULL;
}

/* Delivers one letter that the seed picks, but never one before an earlier one of its lane. */
static inline bool pump_one(struct pump *p)
{
    if (p->count == 0) return false;
    size_t pick = prng_below(&p->prng, (uint32_t)p->count);
    for (size_t i = 0; i < pick; i++)
        if (p->queue[i].from == p->queue[pick].from && p->queue[i].to == p->queue[pick].to &&
            is_bulk(&p->queue[i].msg) == is_bulk(&p->queue[pick].msg))
            pick = i;
    struct letter l = p->queue[pick];
    memmove(&p->queue[pick], &p->queue[pick + 1], (p->count - pick - 1) * sizeof l);
    p->count--;
    p->delivered++;
    if (!tamper(p, &l)) assert_int_equal(deliver(p, &l), 0);
    drop_bodies(&l.msg);
    return true;
}

/* Runs until no letter is left and no deadline is due up to limit. */
static inline void pump_run(struct pump *p, uint64_t limit)
{
    for (uint32_t turns = 0;; turns++) {
        assert_true(turns < 100000);
        if (pump_one(p)) continue;
        uint64_t next = TIME_NEVER;
        for (rank_t v = 0; v < NODES; v++)
            if (!p->dead[v] && collective_deadline_us(p->node[v]) < next)
                next = collective_deadline_us(p->node[v]);
        if (next > limit) break;
        if (next > p->now) p->now = next;
        for (rank_t v = 0; v < NODES; v++) {
            struct algo_event e = {.kind = ALGO_DEADLINE, .now_us = p->now};
            if (!p->dead[v] && collective_deadline_us(p->node[v]) <= p->now) give(p, v, &e);
        }
    }
}

#endif
