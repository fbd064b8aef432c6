#include "tests/sim/overlay_net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"

#define JOIN_GAP_US 20000u
#define WARM_US (30 * SECOND_US)
#define SILENT_LINK_US (6 * SECOND_US)
#define UNUSED_LINK_US (15 * SECOND_US)

enum happening {
    HAPPEN_NONE,
    HAPPEN_MESSAGE,
    HAPPEN_DIAL,
    HAPPEN_DOWN,
    HAPPEN_UNREACHABLE,
    HAPPEN_WAKE,
    HAPPEN_UNUSED
};

struct overlay_net_event {
    uint64_t at_us, sequence;
    enum happening what;
    uint32_t node,
        other; /* MESSAGE, DOWN, UNREACHABLE: node hears it of other; DIAL, UNUSED: node dialled other */
    uint32_t generation; /* of the link */
    struct overlay_msg msg;
    struct overlay_peer *list; /* owned */
};

/* -- the queue of events ------------------------------------------------------------------------------ */

static bool event_before(const struct overlay_net_event *a, const struct overlay_net_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->sequence < b->sequence;
}

static void queue_add(struct overlay_net *c, struct overlay_net_event e)
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

static struct overlay_net_event queue_take(struct overlay_net *c)
{
    struct overlay_net_event first = c->heap[0], last = c->heap[--c->count];
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

node_id overlay_net_id(uint32_t node)
{
    return node; /* 0 is one as well */
}

static struct overlay_peer peer_of(uint32_t node)
{
    struct overlay_peer p = {.id = overlay_net_id(node)};
    snprintf(p.address, sizeof p.address, "h%u:1", node);
    return p;
}

static struct overlay_net_line *line_of(struct overlay_net *c, uint32_t a, uint32_t b)
{
    return a < b ? &c->line[a][b] : &c->line[b][a];
}

static bool line_is_up(struct overlay_net *c, uint32_t a, uint32_t b)
{
    return line_of(c, a, b)->generation % 2 == 1;
}

static void step(struct overlay_net *c, uint32_t node, enum overlay_event_kind kind, uint32_t other,
                 const struct overlay_msg *msg);

static void dial(struct overlay_net *c, uint32_t from, uint32_t to)
{
    struct overlay_net_line *line = line_of(c, from, to);
    if (line->generation % 2 == 1 || line->dialling) return;
    line->dialling = true;
    line->delay_us = 1000 + prng_below(&c->prng, 40000);
    queue_add(c,
              (struct overlay_net_event){
                  .at_us = c->now_us + 2 * line->delay_us, .what = HAPPEN_DIAL, .node = from, .other = to});
}

static void line_end(struct overlay_net *c, uint32_t a, uint32_t b, uint64_t wait_us)
{
    struct overlay_net_line *line = line_of(c, a, b);
    CHECK(line->generation % 2 == 1);
    line->generation++;
    for (int side = 0; side < 2; side++)
        queue_add(c, (struct overlay_net_event){.at_us = c->now_us + wait_us,
                                                .what = HAPPEN_DOWN,
                                                .node = side == 0 ? a : b,
                                                .other = side == 0 ? b : a,
                                                .generation = line->generation});
}

static bool is_cut(const struct overlay_net *c, uint32_t a, uint32_t b)
{
    return c->cut && a % 2 != b % 2;
}

static void dial_ends(struct overlay_net *c, uint32_t from, uint32_t to)
{
    struct overlay_net_line *line = line_of(c, from, to);
    line->dialling = false;
    if (c->dead[from] || line->generation % 2 == 1) return;
    if (c->dead[to] || is_cut(c, from, to)) {
        if (!c->silent[to]) step(c, from, OVERLAY_UNREACHABLE, to, NULL);
        return; /* a silent host: the machine's own patience ends */
    }
    line->generation++;
    queue_add(c, (struct overlay_net_event){.at_us = c->now_us + UNUSED_LINK_US,
                                            .what = HAPPEN_UNUSED,
                                            .node = from,
                                            .other = to,
                                            .generation = line->generation});
    step(c, from, OVERLAY_LINK_UP, to, NULL);
    step(c, to, OVERLAY_LINK_UP, from, NULL);
}

/* A link that neither end needs is closed, as agents do. */
static void line_unused(struct overlay_net *c, const struct overlay_net_event *e)
{
    if (line_of(c, e->node, e->other)->generation != e->generation) return;
    if (c->dead[e->node] || c->dead[e->other]) return;
    if (!overlay_is_active(c->node[e->node], overlay_net_id(e->other)) &&
        !overlay_is_active(c->node[e->other], overlay_net_id(e->node))) {
        line_end(c, e->node, e->other, 0);
        return;
    }
    struct overlay_net_event again = *e;
    again.at_us = c->now_us + UNUSED_LINK_US;
    queue_add(c, again);
}

/* -- nodes -------------------------------------------------------------------------------------------- */

static void send(struct overlay_net *c, uint32_t from, const struct overlay_action *action)
{
    uint32_t to = (uint32_t)action->id;
    if (!line_is_up(c, from, to)) return;
    if (c->planted == PLANTED_NO_DISCONNECT && action->msg.kind == OVERLAY_DISCONNECT) return;
    const struct overlay_net_line *line = line_of(c, from, to);
    struct overlay_net_event e = {.at_us = c->now_us + line->delay_us,
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

static void wake_later(struct overlay_net *c, uint32_t node)
{
    uint64_t at_us = overlay_deadline_us(c->node[node]);
    if (at_us == TIME_NEVER || at_us >= c->wake_us[node]) return;
    if (at_us < c->now_us) at_us = c->now_us;
    c->wake_us[node] = at_us;
    queue_add(c, (struct overlay_net_event){.at_us = at_us, .what = HAPPEN_WAKE, .node = node});
}

static void step(struct overlay_net *c, uint32_t node, enum overlay_event_kind kind, uint32_t other,
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

static void happen(struct overlay_net *c, struct overlay_net_event *e)
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

void overlay_net_run_until(struct overlay_net *c, uint64_t until_us)
{
    while (c->count > 0 && c->heap[0].at_us <= until_us) {
        struct overlay_net_event e = queue_take(c);
        c->now_us = e.at_us;
        happen(c, &e);
    }
    c->now_us = until_us;
}

struct overlay_net *overlay_net_new(uint64_t seed, enum planted planted)
{
    struct overlay_net *c = mem_new_zero(1, sizeof *c);
    prng_split(&c->prng, seed, "overlay network", 0);
    struct overlay_config config;
    overlay_defaults(&config);
    config.seed = seed;
    config.active_max = planted == PLANTED_NO_BOUND ? 4 * ACTIVE_MAX : ACTIVE_MAX;
    if (planted == PLANTED_NO_EXCHANGE) config.exchange_us = TIME_NEVER;
    for (uint32_t i = 0; i < NODES; i++) {
        config.id = overlay_net_id(i);
        struct overlay_peer self = peer_of(i);
        memcpy(config.address, self.address, sizeof self.address);
        c->node[i] = overlay_new(&config);
        c->wake_us[i] = TIME_NEVER;
    }
    for (uint32_t i = 1; i < NODES; i++) { /* each through somebody who is in already */
        overlay_net_run_until(c, i * JOIN_GAP_US);
        dial(c, i, prng_below(&c->prng, i));
    }
    overlay_net_run_until(c, NODES * JOIN_GAP_US + WARM_US);
    c->planted = planted; /* what fails is the healing */
    return c;
}

void overlay_net_free(struct overlay_net *c)
{
    while (c->count > 0) {
        struct overlay_net_event e = queue_take(c);
        free(e.list);
    }
    free(c->heap);
    for (uint32_t i = 0; i < NODES; i++) overlay_free(c->node[i]);
    overlay_actions_deinit(&c->acts);
    free(c);
}

void overlay_net_kill(struct overlay_net *c, uint32_t count)
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

void overlay_net_cut(struct overlay_net *c)
{
    c->cut = true;
    for (uint32_t a = 0; a < NODES; a++)
        for (uint32_t b = a + 1; b < NODES; b++)
            if (line_is_up(c, a, b) && is_cut(c, a, b)) line_end(c, a, b, SILENT_LINK_US);
}

void overlay_net_hear_of(struct overlay_net *c, uint32_t node, uint32_t other)
{
    step(c, node, OVERLAY_KNOWN, other, NULL);
}
