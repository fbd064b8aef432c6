/* Goal (bar M-12): 200 nodes that know a few others each stay one graph. Half of them are killed at once: the
 * active views of the survivors form one component within 30 s; four fifths: within 60 s; in 99 of 100 seeds.
 * Before and after, degrees are bounded and, once quiet, views are symmetric. Method: overlay machines alone,
 * no membership beside them, in virtual time over links of this file's own: each link delays and keeps order;
 * whoever dialled closes a link that neither end counts as neighbour after 15 s. Half of the killed hosts
 * refuse connections and reset links, half are silent: a dial is not answered, a link ends after 6 s. Healed
 * halves: a cut of a minute, then the share of neighbours across it. Planted bugs, one per checker: removals
 * that nobody is told of, repairs that never dial, no bound, no exchanges.
 *
 * --seeds N: more of them (100). Prints the worst and the distribution. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/prng.h"
#include "net/overlay/overlay.h"

#define NODES 200u
#define ACTIVE_MAX 5u
#define SECOND_US 1000000ull
#define JOIN_GAP_US 20000u
#define WARM_US (30 * SECOND_US)
#define SILENT_LINK_US (6 * SECOND_US)
#define UNUSED_LINK_US (15 * SECOND_US)
#define CHECK_US (SECOND_US / 2)
#define PATIENCE_US (2 * SECOND_US)

enum planted {
    PLANTED_NONE,
    PLANTED_NO_EXCHANGE,
    PLANTED_NO_DISCONNECT,
    PLANTED_NO_REPAIR,
    PLANTED_NO_BOUND
};

enum happening {
    HAPPEN_NONE,
    HAPPEN_MESSAGE,
    HAPPEN_DIAL,
    HAPPEN_DOWN,
    HAPPEN_UNREACHABLE,
    HAPPEN_WAKE,
    HAPPEN_UNUSED
};

struct event {
    uint64_t at_us, sequence;
    enum happening what;
    uint32_t node,
        other; /* MESSAGE, DOWN, UNREACHABLE: node hears it of other; DIAL, UNUSED: node dialled other */
    uint32_t generation; /* of the link */
    struct overlay_msg msg;
    struct overlay_peer *list; /* owned */
};

struct line {            /* between two nodes; indexed by the smaller one first */
    uint32_t generation; /* odd = up */
    uint32_t delay_us;
    bool dialling;
};

struct cluster {
    struct prng prng;
    enum planted planted;
    struct overlay *node[NODES];
    bool dead[NODES], silent[NODES];
    bool cut;                /* between even and odd nodes: no link, no dial */
    uint64_t wake_us[NODES]; /* the earliest wake that is queued */
    struct line line[NODES][NODES];
    struct overlay_actions acts;
    struct event *heap;
    size_t count, capacity;
    uint64_t now_us, sequence;
    uint64_t events, messages;
};

/* -- the queue of events ------------------------------------------------------------------------------ */

static bool event_before(const struct event *a, const struct event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->sequence < b->sequence;
}

static void queue_add(struct cluster *c, struct event e)
{
    e.sequence = c->sequence++;
    if (c->count == c->capacity) {
        c->capacity = c->capacity > 0 ? 2 * c->capacity : 1024;
        c->heap = mem_resize(c->heap, c->capacity, sizeof *c->heap);
    }
    size_t at = c->count++;
    while (at > 0 && event_before(&e, &c->heap[(at - 1) / 2])) {
        c->heap[at] = c->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    c->heap[at] = e;
}

static struct event queue_take(struct cluster *c)
{
    struct event first = c->heap[0], last = c->heap[--c->count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= c->count) break;
        if (child + 1 < c->count && event_before(&c->heap[child + 1], &c->heap[child])) child++;
        if (!event_before(&c->heap[child], &last)) break;
        c->heap[at] = c->heap[child];
        at = child;
    }
    if (c->count > 0) c->heap[at] = last;
    return first;
}

/* -- links -------------------------------------------------------------------------------------------- */

static node_id id_of(uint32_t node)
{
    return node; /* 0 is one as well */
}

static struct overlay_peer peer_of(uint32_t node)
{
    struct overlay_peer p = {.id = id_of(node)};
    snprintf(p.address, sizeof p.address, "h%u:1", node);
    return p;
}

static struct line *line_of(struct cluster *c, uint32_t a, uint32_t b)
{
    return a < b ? &c->line[a][b] : &c->line[b][a];
}

static bool line_is_up(struct cluster *c, uint32_t a, uint32_t b)
{
    return line_of(c, a, b)->generation % 2 == 1;
}

static void step(struct cluster *c, uint32_t node, enum overlay_event_kind kind, uint32_t other,
                 const struct overlay_msg *msg);

static void dial(struct cluster *c, uint32_t from, uint32_t to)
{
    struct line *line = line_of(c, from, to);
    if (line->generation % 2 == 1 || line->dialling) return;
    line->dialling = true;
    line->delay_us = 1000 + prng_below(&c->prng, 40000);
    queue_add(c,
              (struct event){
                  .at_us = c->now_us + 2 * line->delay_us, .what = HAPPEN_DIAL, .node = from, .other = to});
}

static void line_end(struct cluster *c, uint32_t a, uint32_t b, uint64_t wait_us)
{
    struct line *line = line_of(c, a, b);
    CHECK(line->generation % 2 == 1);
    line->generation++;
    for (int side = 0; side < 2; side++)
        queue_add(c, (struct event){.at_us = c->now_us + wait_us,
                                    .what = HAPPEN_DOWN,
                                    .node = side == 0 ? a : b,
                                    .other = side == 0 ? b : a,
                                    .generation = line->generation});
}

static bool is_cut(const struct cluster *c, uint32_t a, uint32_t b)
{
    return c->cut && a % 2 != b % 2;
}

static void dial_ends(struct cluster *c, uint32_t from, uint32_t to)
{
    struct line *line = line_of(c, from, to);
    line->dialling = false;
    if (c->dead[from] || line->generation % 2 == 1) return;
    if (c->dead[to] || is_cut(c, from, to)) {
        if (!c->silent[to]) step(c, from, OVERLAY_UNREACHABLE, to, NULL);
        return; /* a silent host: the machine's own patience ends */
    }
    line->generation++;
    queue_add(c, (struct event){.at_us = c->now_us + UNUSED_LINK_US,
                                .what = HAPPEN_UNUSED,
                                .node = from,
                                .other = to,
                                .generation = line->generation});
    step(c, from, OVERLAY_LINK_UP, to, NULL);
    step(c, to, OVERLAY_LINK_UP, from, NULL);
}

/* A link that neither end needs is closed, as agents do. */
static void line_unused(struct cluster *c, const struct event *e)
{
    if (line_of(c, e->node, e->other)->generation != e->generation) return;
    if (c->dead[e->node] || c->dead[e->other]) return;
    if (!overlay_is_active(c->node[e->node], id_of(e->other)) &&
        !overlay_is_active(c->node[e->other], id_of(e->node))) {
        line_end(c, e->node, e->other, 0);
        return;
    }
    struct event again = *e;
    again.at_us = c->now_us + UNUSED_LINK_US;
    queue_add(c, again);
}

/* -- nodes -------------------------------------------------------------------------------------------- */

static void send(struct cluster *c, uint32_t from, const struct overlay_action *action)
{
    uint32_t to = (uint32_t)action->id;
    if (!line_is_up(c, from, to)) return;
    if (c->planted == PLANTED_NO_DISCONNECT && action->msg.kind == OVERLAY_DISCONNECT) return;
    const struct line *line = line_of(c, from, to);
    struct event e = {.at_us = c->now_us + line->delay_us,
                      .what = HAPPEN_MESSAGE,
                      .node = to,
                      .other = from,
                      .generation = line->generation,
                      .msg = action->msg};
    if (e.msg.peer_count > 0) {
        e.list = mem_new(e.msg.peer_count, sizeof *e.list);
        memcpy(e.list, e.msg.peer, e.msg.peer_count * sizeof *e.list);
        e.msg.peer = e.list;
    }
    queue_add(c, e);
    c->messages++;
}

static void wake_later(struct cluster *c, uint32_t node)
{
    uint64_t at_us = overlay_deadline_us(c->node[node]);
    if (at_us == TIME_NEVER || at_us >= c->wake_us[node]) return;
    if (at_us < c->now_us) at_us = c->now_us;
    c->wake_us[node] = at_us;
    queue_add(c, (struct event){.at_us = at_us, .what = HAPPEN_WAKE, .node = node});
}

static void step(struct cluster *c, uint32_t node, enum overlay_event_kind kind, uint32_t other,
                 const struct overlay_msg *msg)
{
    if (c->dead[node]) return;
    struct overlay_event e = {.kind = kind, .now_us = c->now_us, .msg = msg};
    if (kind != OVERLAY_DEADLINE) e.peer = peer_of(other);
    overlay_actions_clear(&c->acts);
    assert_int_equal(overlay_step(c->node[node], &e, &c->acts), 0);
    c->events++;
    for (size_t i = 0; i < c->acts.count; i++) {
        const struct overlay_action *action = &c->acts.item[i];
        if (action->kind == OVERLAY_SEND) send(c, node, action);
        if (action->kind == OVERLAY_CONNECT && c->planted != PLANTED_NO_REPAIR)
            dial(c, node, (uint32_t)action->id);
    }
    wake_later(c, node);
}

static void happen(struct cluster *c, struct event *e)
{
    switch (e->what) {
    case HAPPEN_NONE:
        break;
    case HAPPEN_MESSAGE: /* still the same link, or it is lost with it */
        if (line_of(c, e->node, e->other)->generation == e->generation)
            step(c, e->node, OVERLAY_MESSAGE, e->other, &e->msg);
        free(e->list);
        break;
    case HAPPEN_DIAL:
        dial_ends(c, e->node, e->other);
        break;
    case HAPPEN_DOWN:
        step(c, e->node, OVERLAY_LINK_DOWN, e->other, NULL);
        break;
    case HAPPEN_UNREACHABLE:
        step(c, e->node, OVERLAY_UNREACHABLE, e->other, NULL);
        break;
    case HAPPEN_WAKE:
        if (c->wake_us[e->node] != e->at_us) break;
        c->wake_us[e->node] = TIME_NEVER;
        step(c, e->node, OVERLAY_DEADLINE, 0, NULL);
        break;
    case HAPPEN_UNUSED:
        line_unused(c, e);
        break;
    }
}

static void run_until(struct cluster *c, uint64_t until_us)
{
    while (c->count > 0 && c->heap[0].at_us <= until_us) {
        struct event e = queue_take(c);
        c->now_us = e.at_us;
        happen(c, &e);
    }
    c->now_us = until_us;
}

static struct cluster *cluster_new(uint64_t seed, enum planted planted)
{
    struct cluster *c = mem_new_zero(1, sizeof *c);
    prng_split(&c->prng, seed, "overlay network", 0);
    struct overlay_config config;
    overlay_defaults(&config);
    config.seed = seed;
    config.active_max = planted == PLANTED_NO_BOUND ? 4 * ACTIVE_MAX : ACTIVE_MAX;
    if (planted == PLANTED_NO_EXCHANGE) config.exchange_us = TIME_NEVER;
    for (uint32_t i = 0; i < NODES; i++) {
        config.id = id_of(i);
        struct overlay_peer self = peer_of(i);
        memcpy(config.address, self.address, sizeof self.address);
        c->node[i] = overlay_new(&config);
        c->wake_us[i] = TIME_NEVER;
    }
    for (uint32_t i = 1; i < NODES; i++) { /* each through somebody who is in already */
        run_until(c, i * JOIN_GAP_US);
        dial(c, i, prng_below(&c->prng, i));
    }
    run_until(c, NODES * JOIN_GAP_US + WARM_US);
    c->planted = planted; /* what fails is the healing */
    return c;
}

static void cluster_free(struct cluster *c)
{
    while (c->count > 0) {
        struct event e = queue_take(c);
        free(e.list);
    }
    free(c->heap);
    for (uint32_t i = 0; i < NODES; i++) overlay_free(c->node[i]);
    overlay_actions_deinit(&c->acts);
    free(c);
}

static void kill(struct cluster *c, uint32_t count)
{
    uint32_t order[NODES];
    for (uint32_t i = 0; i < NODES; i++) order[i] = i;
    prng_shuffle(&c->prng, order, NODES);
    for (uint32_t i = 0; i < count; i++) {
        c->dead[order[i]] = true;
        c->silent[order[i]] = i % 2 == 0;
    }
    for (uint32_t a = 0; a < NODES; a++)
        for (uint32_t b = a + 1; b < NODES; b++) {
            if (!line_is_up(c, a, b) || (!c->dead[a] && !c->dead[b])) continue;
            bool silent = (c->dead[a] && c->silent[a]) || (c->dead[b] && c->silent[b]);
            line_end(c, a, b, silent ? SILENT_LINK_US : line_of(c, a, b)->delay_us);
        }
}

/* -- checkers ----------------------------------------------------------------------------------------- */

/* Components of the living, by active views; *isolated: nodes without a living neighbour. */
static uint32_t components(const struct cluster *c)
{
    uint32_t root[NODES], count = 0;
    for (uint32_t i = 0; i < NODES; i++) root[i] = i;
    for (uint32_t i = 0; i < NODES; i++) {
        if (c->dead[i]) continue;
        count++;
        const node_id *id;
        uint32_t degree = overlay_active(c->node[i], &id);
        for (uint32_t k = 0; k < degree; k++) {
            uint32_t a = i, b = (uint32_t)id[k];
            if (c->dead[b]) continue;
            while (root[a] != a) a = root[a] = root[root[a]];
            while (root[b] != b) b = root[b] = root[root[b]];
            if (a != b) count--;
            root[a] = b;
        }
    }
    return count;
}

static uint32_t degree_worst(const struct cluster *c)
{
    uint32_t worst = 0;
    for (uint32_t i = 0; i < NODES; i++) {
        const node_id *id;
        uint32_t degree = overlay_active(c->node[i], &id);
        if (!c->dead[i] && degree > worst) worst = degree;
    }
    return worst;
}

static double degree_mean(const struct cluster *c)
{
    uint32_t sum = 0, alive = 0;
    for (uint32_t i = 0; i < NODES; i++) {
        const node_id *id;
        if (c->dead[i]) continue;
        sum += overlay_active(c->node[i], &id);
        alive++;
    }
    return (double)sum / alive;
}

/* Pairs of which one counts the other as neighbour, and the other does not, or is dead; and did PATIENCE_US
 * ago too: what is under way at one moment is no contradiction. */
static void one_sided_look(const struct cluster *c, bool now[NODES][NODES])
{
    for (uint32_t i = 0; i < NODES; i++) {
        const node_id *id;
        memset(now[i], 0, NODES * sizeof **now);
        if (c->dead[i]) continue;
        uint32_t degree = overlay_active(c->node[i], &id);
        for (uint32_t k = 0; k < degree; k++) {
            uint32_t other = (uint32_t)id[k];
            now[i][other] = c->dead[other] || !overlay_is_active(c->node[other], id_of(i));
        }
    }
}

static uint32_t one_sided(struct cluster *c)
{
    static bool before[NODES][NODES], now[NODES][NODES];
    one_sided_look(c, before);
    run_until(c, c->now_us + PATIENCE_US);
    one_sided_look(c, now);
    uint32_t count = 0;
    for (uint32_t i = 0; i < NODES; i++)
        for (uint32_t k = 0; k < NODES; k++) count += before[i][k] && now[i][k];
    return count;
}

struct verdict {
    bool whole_before;
    uint32_t degree_worst; /* at any look */
    uint64_t healed_us;    /* from the kill until one component, for good; TIME_NEVER */
    uint32_t one_sided;    /* at the end */
    double degree_mean;
    uint64_t events, messages;
};

static struct verdict judge(uint64_t seed, enum planted planted, uint32_t killed, uint64_t after_us)
{
    struct cluster *c = cluster_new(seed, planted);
    struct verdict v = {.whole_before = components(c) == 1, .degree_worst = degree_worst(c)};
    uint64_t start_us = c->now_us;
    kill(c, killed);
    v.healed_us = TIME_NEVER;
    while (c->now_us < start_us + after_us) {
        run_until(c, c->now_us + CHECK_US);
        if (components(c) != 1)
            v.healed_us = TIME_NEVER;
        else if (v.healed_us == TIME_NEVER)
            v.healed_us = c->now_us - start_us;
        uint32_t worst = degree_worst(c);
        if (worst > v.degree_worst) v.degree_worst = worst;
    }
    v.one_sided = one_sided(c);
    v.degree_mean = degree_mean(c);
    v.events = c->events;
    v.messages = c->messages;
    cluster_free(c);
    return v;
}

/* Pairs of neighbours across the cut, of all pairs. */
static double share_across(const struct cluster *c)
{
    uint32_t across = 0, all = 0;
    for (uint32_t i = 0; i < NODES; i++) {
        const node_id *id;
        uint32_t degree = overlay_active(c->node[i], &id);
        for (uint32_t k = 0; k < degree; k++) across += id[k] % 2 != i % 2;
        all += degree;
    }
    return (double)across / all;
}

/* Even and odd nodes are cut off from each other for a minute. Afterwards each hears of ten of the others, as
 * membership tells those that are alive again. Returns the share of neighbours across
 * it after another minute. */
static double part_and_heal(uint64_t seed, enum planted planted)
{
    struct cluster *c = cluster_new(seed, planted);
    assert_true(share_across(c) > 0.4);
    c->cut = true;
    for (uint32_t a = 0; a < NODES; a++)
        for (uint32_t b = a + 1; b < NODES; b++)
            if (line_is_up(c, a, b) && is_cut(c, a, b)) line_end(c, a, b, SILENT_LINK_US);
    run_until(c, c->now_us + 60 * SECOND_US);
    assert_int_equal(components(c), 2);
    c->cut = false;
    for (uint32_t i = 0; i < NODES; i++)
        for (uint32_t k = 0; k < 10; k++) {
            uint32_t other = prng_below(&c->prng, NODES / 2) * 2 + (i + 1) % 2;
            step(c, i, OVERLAY_KNOWN, other, NULL);
        }
    run_until(c, c->now_us + 60 * SECOND_US);
    double share = share_across(c);
    if (planted == PLANTED_NONE) assert_int_equal(components(c), 1);
    cluster_free(c);
    return share;
}

/* -- tests -------------------------------------------------------------------------------------------- */

static uint32_t seed_count = 100;

static void heals(uint32_t killed, uint64_t within_us)
{
    uint64_t worst_us = 0, sum_us = 0, worst_seed = 0;
    uint32_t late = 0, never = 0, sided = 0;
    double degree = 0;
    for (uint64_t seed = 1; seed <= seed_count; seed++) {
        struct verdict v = judge(seed, PLANTED_NONE, killed, within_us);
        assert_true(v.whole_before);
        assert_in_range(v.degree_worst, 1, ACTIVE_MAX);
        if (v.healed_us == TIME_NEVER) {
            late++;
            never++;
        } else {
            sum_us += v.healed_us;
        }
        if (v.healed_us > worst_us) {
            worst_us = v.healed_us;
            worst_seed = seed;
        }
        sided += v.one_sided > 0;
        degree += v.degree_mean / seed_count;
    }
    printf("killed %u of %u: not one component within %llu s in %u of %u seeds; worst %.1f s (seed %llu), "
           "mean %.1f s; "
           "mean degree at the end %.2f; one-sided neighbours at the end in %u seeds\n",
           killed, NODES, (unsigned long long)(within_us / SECOND_US), late, seed_count,
           worst_us == TIME_NEVER ? -1.0 : (double)worst_us / SECOND_US, (unsigned long long)worst_seed,
           never < seed_count ? (double)sum_us / SECOND_US / (seed_count - never) : -1.0, degree, sided);
    assert_true(late * 100 <= seed_count);
    assert_int_equal(sided, 0);
}

static void half_killed_at_once_the_rest_is_one_component_in_30_s(void **state)
{
    (void)state;
    heals(NODES / 2, 30 * SECOND_US);
}

static void four_fifths_killed_at_once_the_rest_is_one_component_in_60_s(void **state)
{
    (void)state;
    heals(NODES * 4 / 5, 60 * SECOND_US);
}

static void healed_halves_mix_again_within_a_minute(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        double with = part_and_heal(seed, PLANTED_NONE), without = part_and_heal(seed, PLANTED_NO_EXCHANGE);
        printf("seed %u: neighbours across a healed cut after 60 s: %.0f %%; without exchanges %.0f %%\n",
               (unsigned)seed, 100 * with, 100 * without);
        assert_true(with > 0.2);
        assert_true(with > 2 * without);
    }
}

static void the_same_seed_gives_the_same_course(void **state)
{
    (void)state;
    struct verdict a = judge(3, PLANTED_NONE, NODES / 2, 10 * SECOND_US);
    struct verdict b = judge(3, PLANTED_NONE, NODES / 2, 10 * SECOND_US);
    struct verdict other = judge(4, PLANTED_NONE, NODES / 2, 10 * SECOND_US);
    assert_true(a.events == b.events && a.messages == b.messages && a.healed_us == b.healed_us);
    assert_true(a.messages != other.messages);
}

static void planted_bugs_are_found(void **state)
{
    (void)state;
    struct verdict v = judge(1, PLANTED_NO_DISCONNECT, NODES / 2, 30 * SECOND_US);
    assert_true(v.one_sided > 0);
    v = judge(1, PLANTED_NO_REPAIR, NODES * 4 / 5, 60 * SECOND_US);
    assert_true(v.healed_us == TIME_NEVER);
    v = judge(1, PLANTED_NO_BOUND, 1, SECOND_US);
    assert_true(v.degree_worst > ACTIVE_MAX);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--seeds") == 0) seed_count = (uint32_t)strtoul(argv[2], NULL, 10);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_killed_at_once_the_rest_is_one_component_in_30_s),
        cmocka_unit_test(four_fifths_killed_at_once_the_rest_is_one_component_in_60_s),
        cmocka_unit_test(healed_halves_mix_again_within_a_minute),
        cmocka_unit_test(the_same_seed_gives_the_same_course),
        cmocka_unit_test(planted_bugs_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
