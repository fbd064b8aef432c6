/* See fuzz_algo.h. The cluster itself works: messages go over links in order, training jobs come back, links
 * and nodes come and go, time passes. In between
 *  - messages on their way are changed: kind, fields, bits, body, or they come twice, or late once more;
 *  - messages that nobody sent arrive, put together from numbers that were seen before.
 * A refused message closes its link, as the node would. */
#include "tests/fuzz/fuzz_algo.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "algo/compress/compress.h"
#include "algo/vec.h"
#include "base/check.h"
#include "base/prng.h"

enum { QUEUE_MAX = 64, SEEN_MAX = 64, PATIENCE_US = 1000000, TRAIN_STEPS_MAX = 1000 };

/* A message with bits of its own. */
struct parcel {
    struct algo_msg msg;
    uint8_t *bits; /* owned */
};

struct wire {
    bool up;
    struct parcel queue[QUEUE_MAX]; /* oldest first */
    uint32_t count;
};

struct member {
    struct algo *algo;
    uint64_t boot, steps;
    bool training;
    uint32_t max_steps;
};

struct cluster {
    const struct fuzz_plan *plan;
    struct fuzz_tally *tally;
    struct err_text *why;
    struct graph graph;
    struct prng prng;
    struct member member[FUZZ_NODES];
    struct wire wire[FUZZ_NODES][FUZZ_NODES]; /* from, to */
    struct algo_actions acts;
    uint64_t now_us;
    size_t packed_max;
    uint64_t seen[SEEN_MAX]; /* fields of earlier messages */
    uint32_t seen_count;
    struct parcel kept[SEEN_MAX]; /* earlier messages */
    uint32_t kept_count;
    bool failed;
};

static void fail(struct cluster *c, const char *what)
{
    if (!c->failed)
        err_set(c->why, ERR_PROTO, "%s, %s, seed %llu, after %llu steps: %s", c->plan->type->spec.name,
                c->plan->compress != NULL ? c->plan->compress->spec->name : "none",
                (unsigned long long)c->plan->seed, (unsigned long long)c->tally->steps, what);
    c->failed = true;
}

static uint32_t below(struct cluster *c, uint32_t limit)
{
    return prng_below(&c->prng, limit);
}

static bool one_in(struct cluster *c, uint32_t n)
{
    return below(c, n) == 0;
}

/* -- parcels ----------------------------------------------------------------------------------- */

static struct parcel parcel_of(const struct algo_msg *m)
{
    struct parcel p = {.msg = *m};
    if (m->vec != NULL) blob_ref(m->vec);
    if (m->packed != NULL) blob_ref(m->packed);
    if (m->bits_size > 0) {
        p.bits = mem_new(m->bits_size, 1);
        memcpy(p.bits, m->bits, m->bits_size);
    }
    p.msg.bits = p.bits;
    return p;
}

static void parcel_drop(struct parcel *p)
{
    blob_unref(p->msg.vec);
    blob_unref(p->msg.packed);
    free(p->bits);
    *p = (struct parcel){.bits = NULL};
}

static void wire_clear(struct wire *w)
{
    for (uint32_t i = 0; i < w->count; i++) parcel_drop(&w->queue[i]);
    w->count = 0;
}

/* -- strange messages -------------------------------------------------------------------------- */

/* Numbers that mean something to somebody, and some that should not. */
static uint64_t strange_number(struct cluster *c)
{
    static const uint64_t edges[] = {0,
                                     1,
                                     2,
                                     3,
                                     7,
                                     8,
                                     255,
                                     65535,
                                     65536,
                                     UINT32_MAX,
                                     UINT64_C(1) << 53,
                                     UINT64_MAX / 2,
                                     UINT64_MAX - 1,
                                     UINT64_MAX};
    uint64_t known = c->seen_count > 0 ? c->seen[below(c, c->seen_count)] : 1;
    switch (below(c, 6)) {
    case 0:
        return edges[below(c, sizeof edges / sizeof edges[0])];
    case 1:
        return prng_next(&c->prng);
    case 2:
        return below(c, 2 * FUZZ_NODES);
    case 3:
        return known + 1;
    case 4:
        return known - 1;
    }
    return known;
}

static struct blob *strange_vector(struct cluster *c)
{
    static const double scales[] = {0, 1e-30, 1, 1e3, 1e30};
    struct blob *b = blob_new(FUZZ_DIM * sizeof(float));
    double scale = scales[below(c, 5)];
    for (size_t i = 0; i < FUZZ_DIM; i++)
        ((float *)(void *)b->data)[i] = (float)(scale * prng_normal(&c->prng));
    return b;
}

static struct blob *strange_bytes(struct cluster *c)
{
    size_t size = below(c, (uint32_t)c->packed_max + 1);
    struct blob *b = blob_new(size > 0 ? size : 1);
    for (size_t i = 0; i < b->size; i++) b->data[i] = (uint8_t)prng_next(&c->prng);
    return b;
}

static void body_change(struct cluster *c, struct algo_msg *m)
{
    blob_unref(m->vec);
    blob_unref(m->packed);
    m->vec = m->packed = NULL;
    if (one_in(c, 3)) return;
    if (c->plan->type->packs && one_in(c, 2))
        m->packed = strange_bytes(c);
    else
        m->vec = strange_vector(c);
}

/* One byte of a packed body, which others may hold too. */
static void packed_flip(struct cluster *c, struct algo_msg *m)
{
    if (m->packed == NULL || m->packed->size == 0) return;
    struct blob *copy = blob_copy(m->packed->data, m->packed->size);
    copy->data[below(c, (uint32_t)copy->size)] ^= (uint8_t)(1u << below(c, 8));
    if (one_in(c, 4) && copy->size > 1) copy->size--;
    blob_unref(m->packed);
    m->packed = copy;
}

static void bits_change(struct cluster *c, struct parcel *p)
{
    uint32_t size = one_in(c, 2) ? 1 : below(c, 20);
    free(p->bits);
    p->bits = size > 0 ? mem_new(size, 1) : NULL;
    for (uint32_t i = 0; i < size; i++) p->bits[i] = (uint8_t)prng_next(&c->prng);
    if (size > 0 && one_in(c, 2)) p->bits[size - 1] &= (1u << FUZZ_NODES) - 1;
    p->msg.bits = p->bits;
    p->msg.bits_size = size;
}

static void parcel_change(struct cluster *c, struct parcel *p)
{
    struct algo_msg *m = &p->msg;
    switch (below(c, 7)) {
    case 0:
        m->kind = (uint8_t)below(c, one_in(c, 4) ? 256 : 16);
        break;
    case 1:
        m->field_count = (uint8_t)below(c, ALGO_FIELD_MAX + 1);
        break;
    case 2:
        body_change(c, m);
        break;
    case 3:
        packed_flip(c, m);
        break;
    case 4:
        bits_change(c, p);
        break;
    default:
        if (m->field_count > 0) m->field[below(c, m->field_count)] = strange_number(c);
        break;
    }
}

static struct parcel parcel_invent(struct cluster *c)
{
    struct algo_msg m = {.kind = (uint8_t)below(c, 12), .field_count = (uint8_t)below(c, 10)};
    for (uint32_t i = 0; i < m.field_count; i++) m.field[i] = strange_number(c);
    struct parcel p = parcel_of(&m);
    if (one_in(c, 2)) body_change(c, &p.msg);
    if (one_in(c, 3)) bits_change(c, &p);
    return p;
}

static void remember(struct cluster *c, const struct algo_msg *m)
{
    for (uint32_t i = 0; i < m->field_count; i++) {
        if (c->seen_count < SEEN_MAX) c->seen_count++;
        c->seen[c->seen_count < SEEN_MAX ? c->seen_count - 1 : below(c, SEEN_MAX)] = m->field[i];
    }
    uint32_t at = c->kept_count < SEEN_MAX ? c->kept_count++ : below(c, SEEN_MAX);
    parcel_drop(&c->kept[at]);
    c->kept[at] = parcel_of(m);
}

/* -- the machines ------------------------------------------------------------------------------ */

static void take_action(struct cluster *c, rank_t v, const struct algo_action *act)
{
    struct member *m = &c->member[v];
    if (act->kind == ALGO_TRAIN) {
        if (m->training || act->max_steps == 0) fail(c, "two TRAINs at once, or one of no steps");
        m->training = true;
        m->max_steps = act->max_steps < TRAIN_STEPS_MAX ? act->max_steps : TRAIN_STEPS_MAX;
        return;
    }
    if (act->to >= FUZZ_NODES || graph_edge_index(&c->graph, v, act->to) == UINT32_MAX) {
        fail(c, "a message to somebody who is no neighbour");
        return;
    }
    if (act->msg.field_count > ALGO_FIELD_MAX || act->msg.bits_size > ALGO_BITS_MAX)
        fail(c, "a message beyond the limits");
    struct wire *w = &c->wire[v][act->to];
    remember(c, &act->msg);
    if (w->up && w->count < QUEUE_MAX) w->queue[w->count++] = parcel_of(&act->msg);
}

static int step(struct cluster *c, rank_t v, const struct algo_event *event)
{
    struct member *m = &c->member[v];
    float before[FUZZ_DIM];
    memcpy(before, c->plan->type->model(m->algo), sizeof before);
    int err = c->plan->type->step(m->algo, event, &c->acts);
    c->tally->steps++;
    if (err != 0 && (err != ERR_PROTO || event->kind != ALGO_MESSAGE)) fail(c, "a strange answer");
    const float *x = c->plan->type->model(m->algo);
    if (err != 0 && memcmp(before, x, sizeof before) != 0) fail(c, "a refused message changed the model");
    if (!vec_finite(FUZZ_DIM, x)) fail(c, "a model is not finite");
    for (size_t i = 0; i < c->acts.count; i++) take_action(c, v, &c->acts.item[i]);
    algo_actions_clear(&c->acts);
    (void)c->plan->type->deadline_us(m->algo);
    return err;
}

static void tell(struct cluster *c, rank_t v, rank_t peer, enum algo_event_kind kind)
{
    struct algo_event e = {.kind = kind, .now_us = c->now_us, .peer = peer, .boot = c->member[peer].boot};
    step(c, v, &e);
}

static void link_set(struct cluster *c, rank_t a, rank_t b, bool up)
{
    if (c->wire[a][b].up == up || c->member[a].algo == NULL || c->member[b].algo == NULL) return;
    c->wire[a][b].up = c->wire[b][a].up = up;
    wire_clear(&c->wire[a][b]);
    wire_clear(&c->wire[b][a]);
    tell(c, a, b, up ? ALGO_PEER_UP : ALGO_PEER_DOWN);
    tell(c, b, a, up ? ALGO_PEER_UP : ALGO_PEER_DOWN);
}

static bool member_start(struct cluster *c, rank_t v, bool rejoining)
{
    static const float x0[FUZZ_DIM] = {1, -1, 2, -2};
    static const double weight[FUZZ_NODES] = {0.25, 0.25, 0.25, 0.25};
    static const struct tensor tensor[] = {{0, 4, 2}, {8, 1, 4}};
    const struct fuzz_plan *p = c->plan;
    bool shaped = p->seed % 2 == 0;
    struct algo_config config = {.rank = v,
                                 .node_count = FUZZ_NODES,
                                 .graph = &c->graph,
                                 .weight = weight,
                                 .dim = FUZZ_DIM,
                                 .x0 = x0,
                                 .seed = p->seed,
                                 .patience_us = PATIENCE_US,
                                 .compress = p->type->compresses ? p->compress : NULL,
                                 .tensor = shaped ? tensor : NULL,
                                 .tensor_count = shaped ? 2 : 0,
                                 .rejoining = rejoining};
    struct err_text why = {""};
    c->member[v] = (struct member){.boot = c->member[v].boot + 1 + v};
    if (algo_create(p->type, &config, p->params, &c->member[v].algo, &why) != 0) {
        fail(c, why.text);
        return false;
    }
    struct algo_event start = {.kind = ALGO_START, .now_us = c->now_us, .peer = RANK_NONE};
    step(c, v, &start);
    return true;
}

static void member_stop(struct cluster *c, rank_t v)
{
    if (c->member[v].algo == NULL) return;
    struct algo_report report;
    c->plan->type->report(c->member[v].algo, &report);
    c->tally->mixed += report.mixes;
    c->plan->type->destroy(c->member[v].algo);
    c->member[v].algo = NULL;
}

/* -- what happens ------------------------------------------------------------------------------ */

static void arrive(struct cluster *c, rank_t from, rank_t to, const struct parcel *p)
{
    struct algo_event e = {.kind = ALGO_MESSAGE, .now_us = c->now_us, .peer = from, .msg = &p->msg};
    c->tally->messages++;
    if (step(c, to, &e) == 0) return;
    c->tally->refused++;
    link_set(c, from, to, false);
}

static void deliver(struct cluster *c, rank_t from, rank_t to, bool tamper)
{
    struct wire *w = &c->wire[from][to];
    if (!w->up || w->count == 0) return;
    struct parcel p = w->queue[0];
    memmove(&w->queue[0], &w->queue[1], --w->count * sizeof w->queue[0]);
    bool twice = tamper && one_in(c, 4);
    if (tamper && !twice) parcel_change(c, &p);
    arrive(c, from, to, &p);
    if (twice && w->up) arrive(c, from, to, &p);
    parcel_drop(&p);
}

static void inject(struct cluster *c, rank_t from, rank_t to)
{
    if (!c->wire[from][to].up) return;
    struct parcel p = c->kept_count > 0 && one_in(c, 2) ? parcel_of(&c->kept[below(c, c->kept_count)].msg)
                                                        : parcel_invent(c);
    if (one_in(c, 2)) parcel_change(c, &p);
    arrive(c, from, to, &p);
    parcel_drop(&p);
}

static void train(struct cluster *c, rank_t v)
{
    struct member *m = &c->member[v];
    if (!m->training) return;
    float delta[FUZZ_DIM];
    for (size_t i = 0; i < FUZZ_DIM; i++) delta[i] = (float)prng_normal(&c->prng);
    m->training = false;
    struct algo_event e = {.kind = ALGO_TRAINED, .now_us = c->now_us, .peer = RANK_NONE};
    e.trained.steps = 1 + (one_in(c, 4) ? below(c, m->max_steps) : m->max_steps - 1);
    e.trained.loss = 1;
    e.trained.delta = delta;
    c->tally->trained++;
    step(c, v, &e);
}

static void pass_time(struct cluster *c)
{
    c->now_us += below(c, one_in(c, 8) ? 2 * PATIENCE_US : PATIENCE_US / 20);
    for (rank_t v = 0; v < FUZZ_NODES; v++) {
        struct algo_event e = {.kind = ALGO_DEADLINE, .now_us = c->now_us, .peer = RANK_NONE};
        if (c->plan->type->deadline_us(c->member[v].algo) <= c->now_us || one_in(c, 16)) step(c, v, &e);
    }
}

static void restart(struct cluster *c, rank_t v)
{
    for (rank_t u = 0; u < FUZZ_NODES; u++)
        if (u != v) link_set(c, v, u, false);
    member_stop(c, v);
    member_start(c, v, true);
}

static void happen(struct cluster *c)
{
    rank_t a = below(c, FUZZ_NODES);
    rank_t b = c->graph.neighbour[c->graph.offset[a] + below(c, graph_degree(&c->graph, a))];
    uint32_t what = below(c, 100);
    if (what < 50)
        deliver(c, a, b, one_in(c, 12));
    else if (what < 54)
        inject(c, a, b);
    else if (what < 75)
        train(c, a);
    else if (what < 90)
        link_set(c, a, b, true);
    else if (what < 91)
        link_set(c, a, b, false);
    else if (what < 99 || !one_in(c, 4))
        pass_time(c);
    else
        restart(c, a);
}

bool fuzz_algo_run(const struct fuzz_plan *plan, struct fuzz_tally *tally, struct err_text *why)
{
    struct cluster *c = mem_new_zero(1, sizeof *c);
    struct choice topology;
    c->plan = plan;
    c->tally = tally;
    c->why = why;
    c->packed_max = compress_size_max(plan->compress, FUZZ_DIM);
    prng_split(&c->prng, plan->seed, "fuzz", 0);
    CHECK(choice_parse(topology_table, topology_table_count, "--topology", plan->topology, &topology, NULL) ==
          0);
    CHECK(topology_build(&topology, FUZZ_NODES, 1, &c->graph, NULL) == 0);
    bool made = true;
    for (rank_t v = 0; v < FUZZ_NODES && made; v++) made = member_start(c, v, false);
    for (uint32_t i = 0; i < plan->events && !c->failed; i++) happen(c);
    for (rank_t v = 0; v < FUZZ_NODES; v++) {
        member_stop(c, v);
        for (rank_t u = 0; u < FUZZ_NODES; u++) wire_clear(&c->wire[v][u]);
    }
    for (uint32_t i = 0; i < c->kept_count; i++) parcel_drop(&c->kept[i]);
    algo_actions_deinit(&c->acts);
    graph_deinit(&c->graph);
    bool fine = !c->failed;
    free(c);
    return fine;
}
