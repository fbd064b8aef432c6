/* See swim_cluster.h. Events are a heap by (time, sequence). */
#include "tests/sim/swim_cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "net/membership_internal.h"

enum {
    SILENCE_US = 2000000,
    HEARTBEAT_US = 500000,
    HELLO_US = 5000000,
    RETRY_US = 200000, /* of TCP, on a link */
    SYN_US = 1000000,  /* of TCP, of a dial */
    LOOK_US = 20000,
    LATENCY_MIN_US = 200,
    LATENCY_MAX_US = 2000
};

enum swim_event_kind {
    EVENT_TIMER,   /* at `node`; serial */
    EVENT_MESSAGE, /* from peer to node, over the link of `generation` */
    EVENT_DOWN,    /* node's end of its link to peer; evidence */
    EVENT_SILENT,  /* node's end has heard nothing, if the cut `serial` still stands */
    EVENT_DIAL,    /* node tries to reach peer; until serial (time) */
    EVENT_SEED,    /* node looks for the seed */
    EVENT_SPARE,   /* the link of `generation` has had its time */
    EVENT_EXIT,    /* the process `serial` of node ends */
};

/* Updates that several messages share. */
struct swim_parcel {
    uint32_t references, count;
    struct member update[];
};

struct swim_event {
    uint64_t at_us, sequence;
    enum swim_event_kind kind;
    uint32_t node, peer, generation;
    uint64_t serial;
    enum member_evidence evidence;
    bool for_machine; /* DIAL: the machine asked */
    struct swim_msg *msg;
    struct swim_parcel *parcel;
};

/* What a frozen machine will get. */
struct swim_waiting {
    struct swim_waiting *next;
    struct swim_event event;
    bool up; /* LINK_UP rather than event */
};

node_id swim_id(uint32_t node)
{
    return node + 1;
}

static uint32_t node_of(node_id id)
{
    return (uint32_t)id - 1;
}

static struct swim_end *end_at(const struct swim_cluster *c, uint32_t at, uint32_t from)
{
    return &c->end[(size_t)at * c->options.count + from];
}

static uint64_t between(struct swim_cluster *c, uint64_t low, uint64_t high)
{
    return low + prng_below(&c->prng, (uint32_t)(high - low + 1));
}

static uint64_t latency_us(struct swim_cluster *c)
{
    return between(c, c->options.latency_min_us, c->options.latency_max_us);
}

/* -- heap -------------------------------------------------------------------------------------- */

static bool is_earlier(const struct swim_event *a, const struct swim_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->sequence < b->sequence;
}

static void push(struct swim_cluster *c, struct swim_event e)
{
    if (c->heap_count == c->heap_capacity) {
        c->heap_capacity = c->heap_capacity == 0 ? 256 : c->heap_capacity * 2;
        c->heap = mem_resize(c->heap, c->heap_capacity, sizeof *c->heap);
    }
    e.sequence = ++c->sequence;
    if (e.at_us < c->now_us) e.at_us = c->now_us;
    uint32_t at = c->heap_count++;
    for (; at > 0 && is_earlier(&e, &c->heap[(at - 1) / 2]); at = (at - 1) / 2)
        c->heap[at] = c->heap[(at - 1) / 2];
    c->heap[at] = e;
}

static struct swim_event pop(struct swim_cluster *c)
{
    struct swim_event top = c->heap[0], last = c->heap[--c->heap_count];
    uint32_t at = 0;
    for (uint32_t child; (child = 2 * at + 1) < c->heap_count; at = child) {
        if (child + 1 < c->heap_count && is_earlier(&c->heap[child + 1], &c->heap[child])) child++;
        if (!is_earlier(&c->heap[child], &last)) break;
        c->heap[at] = c->heap[child];
    }
    c->heap[at] = last;
    return top;
}

static void event_free(struct swim_event *e)
{
    if (e->parcel != NULL && --e->parcel->references == 0) free(e->parcel);
    free(e->msg);
    e->parcel = NULL;
    e->msg = NULL;
}

/* -- who reaches whom -------------------------------------------------------------------------- */

static bool passes(const struct swim_cluster *c, uint32_t from, uint32_t to)
{
    return !c->dropped[(size_t)from * c->options.count + to] && !c->node[from].vanished &&
           !c->node[to].vanished;
}

/* Something changed between the two: silence begins or ends at the end of `at`. */
static void watch(struct swim_cluster *c, uint32_t at, uint32_t from)
{
    struct swim_end *e = end_at(c, at, from);
    const struct swim_end *other = end_at(c, from, at);
    bool hears = passes(c, from, at) && c->node[from].life == SWIM_RUNNING && other->up &&
                 other->generation == e->generation;
    if (!e->up || hears) {
        e->blocked = 0;
        return;
    }
    if (e->blocked != 0) return;
    e->blocked = ++c->serial;
    push(c, (struct swim_event){.at_us = c->now_us + SILENCE_US - between(c, 0, HEARTBEAT_US),
                                .kind = EVENT_SILENT,
                                .node = at,
                                .peer = from,
                                .generation = e->generation,
                                .serial = e->blocked});
}

/* One end is up and the other is not: the first is told so when that gets through. */
static void reset_if_half(struct swim_cluster *c, uint32_t at, uint32_t from, enum member_evidence evidence)
{
    const struct swim_end *e = end_at(c, at, from), *other = end_at(c, from, at);
    if (!e->up || (other->up && other->generation == e->generation)) return;
    if (!passes(c, from, at)) return;
    push(c, (struct swim_event){.at_us = c->now_us + latency_us(c),
                                .kind = EVENT_DOWN,
                                .node = at,
                                .peer = from,
                                .generation = e->generation,
                                .evidence = evidence});
}

static void watch_all(struct swim_cluster *c, uint32_t v)
{
    for (uint32_t w = 0; w < c->options.count; w++) {
        if (w == v) continue;
        watch(c, v, w);
        watch(c, w, v);
        reset_if_half(c, v, w, EVIDENCE_RESET);
        reset_if_half(c, w, v, EVIDENCE_RESET);
    }
}

/* -- a machine's step -------------------------------------------------------------------------- */

static void dial(struct swim_cluster *c, uint32_t v, uint32_t w, bool for_machine)
{
    push(c, (struct swim_event){.at_us = c->now_us + 2 * latency_us(c),
                                .kind = EVENT_DIAL,
                                .node = v,
                                .peer = w,
                                .generation = c->node[v].run,
                                .serial = c->now_us + HELLO_US,
                                .for_machine = for_machine});
}

static struct swim_parcel *parcel_new(const struct swim_msg *msg)
{
    struct swim_parcel *p = mem_new(1, sizeof *p + msg->update_count * sizeof *msg->update);
    p->references = 0;
    p->count = msg->update_count;
    if (msg->update_count > 0) memcpy(p->update, msg->update, msg->update_count * sizeof *msg->update);
    return p;
}

static void post(struct swim_cluster *c, uint32_t v, const struct membership_action *a, struct swim_parcel *p)
{
    uint32_t w = node_of(a->id);
    struct swim_end *here = end_at(c, v, w), *there = end_at(c, w, v);
    c->tally.message[a->msg.kind]++;
    c->tally.updates += a->msg.update_count;
    if (!here->up) return;
    uint64_t at_us = c->now_us + latency_us(c);
    if (at_us < there->arrival_us) at_us = there->arrival_us;
    there->arrival_us = at_us;
    struct swim_msg *msg = mem_new(1, sizeof *msg);
    *msg = a->msg;
    msg->update = p->update;
    p->references++;
    push(c, (struct swim_event){.at_us = at_us,
                                .kind = EVENT_MESSAGE,
                                .node = w,
                                .peer = v,
                                .generation = here->generation,
                                .msg = msg,
                                .parcel = p});
}

static void changed(struct swim_cluster *c, uint32_t v, const struct membership_action *a)
{
    const struct member *u = membership_find(c->node[v].machine, a->id);
    uint32_t w = node_of(a->id);
    CHECK(u != NULL);
    bool news = a->is_new || a->before != u->state;
    if (news && u->state == MEMBER_DEAD && !c->node[w].excused) c->tally.false_deaths++;
    if (!a->is_new && a->before == MEMBER_DEAD && u->state == MEMBER_ALIVE &&
        (c->node[w].life == SWIM_OFF || c->node[w].vanished))
        c->tally.resurrections++;
    if (news && u->state == MEMBER_SUSPECT && u->accuser == swim_id(v) && !c->node[w].excused)
        c->tally.false_accusations++;
    if (news && c->options.loud)
        fprintf(stderr, "%10.3f s  %3u: %3u %s -> %s (accuser %3u, %s, %u confirmations)%s\n",
                (double)c->now_us / 1e6, v, w, a->is_new ? "new" : member_state_name(a->before),
                member_state_name(u->state), node_of(u->accuser), member_evidence_name(u->evidence),
                a->confirmations, c->node[w].excused ? "" : " *");
    if (news && u->state == MEMBER_ALIVE && c->wanted[(size_t)v * c->options.count + w] &&
        !end_at(c, v, w)->up)
        dial(c, v, w, false);
}

static void arm(struct swim_cluster *c, uint32_t v)
{
    uint64_t at_us = membership_deadline_us(c->node[v].machine);
    c->node[v].timer_serial = ++c->serial;
    if (at_us == TIME_NEVER) return;
    push(c, (struct swim_event){.at_us = at_us, .kind = EVENT_TIMER, .node = v, .serial = c->serial});
}

static void step(struct swim_cluster *c, uint32_t v, struct membership_event e)
{
    struct swim_node *n = &c->node[v];
    CHECK(n->life == SWIM_RUNNING && n->machine != NULL);
    e.now_us = c->now_us;
    membership_actions_clear(&n->acts);
    if (membership_step(n->machine, &e, &n->acts) != 0) c->tally.errors++;
    struct swim_parcel *parcel = NULL;
    const struct member *packed = NULL;
    for (size_t i = 0; i < n->acts.count; i++) {
        const struct membership_action *a = &n->acts.item[i];
        switch (a->kind) {
        case MEMBERSHIP_SEND:
            if (parcel == NULL || a->msg.update != packed || parcel->count != a->msg.update_count) {
                if (parcel != NULL && parcel->references == 0) free(parcel);
                parcel = parcel_new(&a->msg);
                packed = a->msg.update;
            }
            post(c, v, a, parcel);
            break;
        case MEMBERSHIP_CONNECT:
            c->tally.connects++;
            if (n->connect_us != 0 && c->now_us < n->connect_us + SWIM_SECOND) c->tally.hasty_connects++;
            n->connect_us = c->now_us;
            dial(c, v, node_of(a->id), true);
            break;
        case MEMBERSHIP_CHANGED:
            changed(c, v, a);
            break;
        case MEMBERSHIP_SEEN_AS:
            break;
        }
    }
    if (parcel != NULL && parcel->references == 0) free(parcel);
    bool planted = c->options.tamper != NULL || c->options.spoil != NULL;
    if (!planted && c->sequence % 32 == 0) membership_check_invariants(n->machine);
    if (c->options.tamper != NULL) c->options.tamper(c, v, &e);
    arm(c, v);
}

/* -- input of a machine ------------------------------------------------------------------------ */

static void wait_for_thaw(struct swim_node *n, const struct swim_event *e)
{
    struct swim_waiting *w = mem_new_zero(1, sizeof *w);
    w->event = *e;
    if (n->last == NULL)
        n->first = w;
    else
        n->last->next = w;
    n->last = w;
}

static void take_message(struct swim_cluster *c, struct swim_event *e)
{
    struct swim_end *end = end_at(c, e->node, e->peer);
    if (end->up && end->generation == e->generation) {
        if (c->options.spoil != NULL) c->options.spoil(c, e->node, e->msg);
        step(c, e->node,
             (struct membership_event){.kind = MEMBERSHIP_MESSAGE, .peer = swim_id(e->peer), .msg = e->msg});
    }
    event_free(e);
}

static void take_down(struct swim_cluster *c, const struct swim_event *e)
{
    struct swim_end *end = end_at(c, e->node, e->peer);
    if (!end->up || end->generation != e->generation) return;
    end->up = false;
    end->blocked = 0;
    watch(c, e->peer, e->node);
    reset_if_half(c, e->peer, e->node, e->evidence == EVIDENCE_NONE ? EVIDENCE_NONE : EVIDENCE_RESET);
    step(c, e->node,
         (struct membership_event){
             .kind = MEMBERSHIP_LINK_DOWN, .peer = swim_id(e->peer), .evidence = e->evidence});
}

static void address_of(uint32_t v, char *text)
{
    snprintf(text, ADDRESS_TEXT_MAX, "n%u:1", v);
}

static void rise(struct swim_cluster *c, uint32_t v, uint32_t w, uint32_t generation)
{
    struct swim_end *end = end_at(c, v, w);
    const struct swim_event replaced = {.node = v, .peer = w, .generation = end->generation};
    if (end->up) take_down(c, &replaced);
    *end = (struct swim_end){.up = true, .generation = generation};
}

static void link_up(struct swim_cluster *c, uint32_t v, uint32_t w)
{
    uint32_t generation = ++c->generation;
    char address[2][ADDRESS_TEXT_MAX];
    address_of(v, address[0]);
    address_of(w, address[1]);
    rise(c, v, w, generation);
    rise(c, w, v, generation);
    step(c, v,
         (struct membership_event){.kind = MEMBERSHIP_LINK_UP, .peer = swim_id(w), .address = address[1]});
    step(c, w,
         (struct membership_event){.kind = MEMBERSHIP_LINK_UP, .peer = swim_id(v), .address = address[0]});
    bool kept = c->wanted[(size_t)v * c->options.count + w] || c->wanted[(size_t)w * c->options.count + v];
    if (kept) return;
    push(c, (struct swim_event){.at_us = c->now_us + between(c, 10 * SWIM_SECOND, 15 * SWIM_SECOND),
                                .kind = EVENT_SPARE,
                                .node = v,
                                .peer = w,
                                .generation = generation});
}

static void dial_failed(struct swim_cluster *c, const struct swim_event *e, enum member_evidence evidence)
{
    if (!e->for_machine) return;
    step(c, e->node,
         (struct membership_event){
             .kind = MEMBERSHIP_UNREACHABLE, .peer = swim_id(e->peer), .evidence = evidence});
}

static void take_dial(struct swim_cluster *c, struct swim_event e)
{
    uint32_t v = e.node, w = e.peer;
    const struct swim_end *here = end_at(c, v, w), *there = end_at(c, w, v);
    if (c->node[v].run != e.generation) return;
    if (here->up && there->up && here->generation == there->generation) return; /* meanwhile */
    bool reaches = passes(c, v, w) && passes(c, w, v);
    if (reaches && c->node[w].life == SWIM_RUNNING) {
        link_up(c, v, w);
    } else if (reaches && c->node[w].life == SWIM_OFF) {
        dial_failed(c, &e, EVIDENCE_REFUSED);
    } else if (c->now_us >= e.serial) {
        dial_failed(c, &e, EVIDENCE_TIMEOUT);
    } else {
        /* a frozen host's kernel has the connection and waits for the hello; else TCP tries again after 1, 3, .. s */
        uint64_t gone_us = c->now_us + HELLO_US - e.serial;
        e.at_us = c->now_us + (reaches ? LOOK_US : gone_us < SYN_US ? SYN_US : 2 * gone_us);
        push(c, e);
    }
}

/* -- events ------------------------------------------------------------------------------------ */

static void arrive(struct swim_cluster *c, struct swim_event *e)
{
    struct swim_end *end = end_at(c, e->node, e->peer);
    struct swim_node *n = &c->node[e->node];
    if (n->life == SWIM_OFF || !end->up || end->generation != e->generation) {
        event_free(e);
        return;
    }
    bool stuck = !passes(c, e->peer, e->node);
    if (stuck || c->now_us < end->stalled_us) {
        if (stuck) end->stalled_us = c->now_us + RETRY_US;
        e->at_us = end->stalled_us;
        push(c, *e);
        return;
    }
    if (n->life == SWIM_FROZEN)
        wait_for_thaw(n, e);
    else
        take_message(c, e);
}

static bool has_link(const struct swim_cluster *c, uint32_t v)
{
    for (uint32_t w = 0; w < c->options.count; w++)
        if (w != v && end_at(c, v, w)->up) return true;
    return false;
}

static void look_for_seed(struct swim_cluster *c, struct swim_event e)
{
    if (c->node[e.node].run != e.generation || c->node[e.node].life != SWIM_RUNNING || has_link(c, e.node))
        return;
    dial(c, e.node, c->seed_node, false);
    e.at_us = c->now_us + between(c, SWIM_SECOND / 2, SWIM_SECOND);
    push(c, e);
}

static void take_spare(struct swim_cluster *c, const struct swim_event *e)
{
    struct swim_event bye = *e;
    bye.kind = EVENT_DOWN;
    bye.evidence = EVIDENCE_NONE;
    if (c->node[e->node].life == SWIM_RUNNING) take_down(c, &bye);
}

static void off(struct swim_cluster *c, uint32_t v, enum member_evidence evidence)
{
    struct swim_node *n = &c->node[v];
    if (n->life == SWIM_OFF) return;
    struct membership_totals t;
    membership_totals(n->machine, &t);
    c->tally.suspicions += t.suspicions;
    c->tally.deaths += t.deaths;
    c->tally.refutations += t.refutations;
    membership_free(n->machine);
    n->machine = NULL;
    n->life = SWIM_OFF;
    n->timer_serial = 0;
    while (n->first != NULL) {
        struct swim_waiting *w = n->first;
        n->first = w->next;
        event_free(&w->event);
        free(w);
    }
    n->last = NULL;
    for (uint32_t w = 0; w < c->options.count; w++) {
        end_at(c, v, w)->up = false;
        end_at(c, v, w)->blocked = 0;
        if (w == v) continue;
        watch(c, w, v);
        reset_if_half(c, w, v, evidence);
    }
}

static void dispatch(struct swim_cluster *c, struct swim_event *e)
{
    struct swim_node *n = &c->node[e->node];
    bool frozen = n->life == SWIM_FROZEN;
    switch (e->kind) {
    case EVENT_TIMER:
        if (n->timer_serial == e->serial && !frozen)
            step(c, e->node, (struct membership_event){.kind = MEMBERSHIP_DEADLINE});
        break;
    case EVENT_MESSAGE:
        arrive(c, e);
        break;
    case EVENT_SILENT:
        if (end_at(c, e->node, e->peer)->blocked != e->serial) break;
        e->evidence = EVIDENCE_SILENT;
        e->kind = EVENT_DOWN; /* as any other end of a link */
        if (frozen)
            wait_for_thaw(n, e);
        else
            take_down(c, e);
        break;
    case EVENT_DOWN:
        if (frozen)
            wait_for_thaw(n, e);
        else if (n->life == SWIM_RUNNING)
            take_down(c, e);
        break;
    case EVENT_DIAL:
        if (frozen)
            wait_for_thaw(n, e);
        else if (n->life == SWIM_RUNNING)
            take_dial(c, *e);
        break;
    case EVENT_SEED:
        if (frozen)
            wait_for_thaw(n, e);
        else
            look_for_seed(c, *e);
        break;
    case EVENT_SPARE:
        take_spare(c, e);
        break;
    case EVENT_EXIT:
        if (n->run == e->serial) off(c, e->node, EVIDENCE_NONE);
        break;
    }
}

void swim_run(struct swim_cluster *c, uint64_t until_us)
{
    while (c->heap_count > 0 && c->heap[0].at_us <= until_us) {
        struct swim_event e = pop(c);
        c->now_us = e.at_us;
        dispatch(c, &e);
    }
    c->now_us = until_us;
}

/* -- faults ------------------------------------------------------------------------------------ */

void swim_start_at(struct swim_cluster *c, uint32_t v, uint64_t boot)
{
    struct swim_node *n = &c->node[v];
    CHECK(n->life == SWIM_OFF);
    struct membership_config config;
    membership_defaults(&config);
    config.self.id = swim_id(v);
    config.self.boot = boot;
    address_of(v, config.self.address);
    config.local_health = !c->options.no_local_health;
    config.seed = c->options.seed + n->run;
    n->machine = membership_new(&config);
    n->life = SWIM_RUNNING;
    n->run++;
    n->vanished = n->excused = false;
    n->connect_us = 0;
    step(c, v, (struct membership_event){.kind = MEMBERSHIP_START});
    if (v != c->seed_node)
        push(c, (struct swim_event){
                    .at_us = c->now_us + latency_us(c), .kind = EVENT_SEED, .node = v, .generation = n->run});
}

/* Start times as clocks have them that differ by up to 2 s. */
void swim_start(struct swim_cluster *c, uint32_t v)
{
    uint64_t clock_us = 1000000000000000ull + c->now_us + between(c, 0, 2 * SWIM_SECOND);
    swim_start_at(c, v, clock_us * BOOT_UNITS_PER_US);
}

void swim_kill(struct swim_cluster *c, uint32_t v)
{
    c->node[v].excused = true;
    off(c, v, EVIDENCE_RESET);
}

void swim_leave(struct swim_cluster *c, uint32_t v)
{
    step(c, v, (struct membership_event){.kind = MEMBERSHIP_LEAVE});
    push(c,
         (struct swim_event){
             .at_us = c->now_us + SWIM_SECOND / 2, .kind = EVENT_EXIT, .node = v, .serial = c->node[v].run});
}

void swim_freeze(struct swim_cluster *c, uint32_t v)
{
    CHECK(c->node[v].life == SWIM_RUNNING);
    c->node[v].life = SWIM_FROZEN;
    watch_all(c, v);
}

void swim_thaw(struct swim_cluster *c, uint32_t v)
{
    struct swim_node *n = &c->node[v];
    CHECK(n->life == SWIM_FROZEN);
    n->life = SWIM_RUNNING;
    if (membership_deadline_us(n->machine) <= c->now_us)
        step(c, v, (struct membership_event){.kind = MEMBERSHIP_DEADLINE});
    else
        arm(c, v);
    struct swim_waiting *first = n->first;
    n->first = n->last = NULL;
    while (first != NULL) {
        struct swim_waiting *w = first;
        first = w->next;
        if (w->event.kind == EVENT_MESSAGE)
            take_message(c, &w->event);
        else
            dispatch(c, &w->event);
        free(w);
    }
    watch_all(c, v);
}

void swim_drop(struct swim_cluster *c, uint32_t from, uint32_t to, bool drop)
{
    c->dropped[(size_t)from * c->options.count + to] = drop;
    watch(c, to, from);
    watch(c, from, to);
    reset_if_half(c, to, from, EVIDENCE_RESET);
    reset_if_half(c, from, to, EVIDENCE_RESET);
}

void swim_vanish(struct swim_cluster *c, uint32_t v)
{
    c->node[v].vanished = c->node[v].excused = true;
    watch_all(c, v);
}

void swim_split(struct swim_cluster *c, uint32_t first)
{
    for (uint32_t a = 0; a < c->options.count; a++)
        for (uint32_t b = 0; b < c->options.count; b++)
            if (a != b) swim_drop(c, a, b, (a < first) != (b < first));
}

/* -- a cluster --------------------------------------------------------------------------------- */

static void want_links(struct swim_cluster *c)
{
    uint32_t count = c->options.count, all[SWIM_NODE_MAX];
    for (uint32_t v = 0; v < count; v++) {
        for (uint32_t w = 0; w < count; w++) all[w] = w;
        prng_shuffle(&c->prng, all, count);
        uint32_t wanted = 0, most = c->options.degree == 0 ? count : c->options.degree;
        for (uint32_t i = 0; i < count && wanted < most; i++) {
            if (all[i] == v) continue;
            c->wanted[(size_t)v * count + all[i]] = true;
            wanted++;
        }
    }
}

struct swim_cluster *swim_cluster_new(const struct swim_options *options)
{
    CHECK(options->count > 1 && options->count <= SWIM_NODE_MAX);
    struct swim_cluster *c = mem_new_zero(1, sizeof *c);
    size_t pairs = (size_t)options->count * options->count;
    c->options = *options;
    if (options->latency_max_us == 0) {
        c->options.latency_min_us = LATENCY_MIN_US;
        c->options.latency_max_us = LATENCY_MAX_US;
    }
    prng_split(&c->prng, options->seed, "swim cluster", options->count);
    c->node = mem_new_zero(options->count, sizeof *c->node);
    c->end = mem_new_zero(pairs, sizeof *c->end);
    c->dropped = mem_new_zero(pairs, sizeof *c->dropped);
    c->wanted = mem_new_zero(pairs, sizeof *c->wanted);
    want_links(c);
    return c;
}

void swim_cluster_free(struct swim_cluster *c)
{
    for (uint32_t v = 0; v < c->options.count; v++) {
        off(c, v, EVIDENCE_NONE);
        membership_actions_deinit(&c->node[v].acts);
    }
    for (uint32_t i = 0; i < c->heap_count; i++) event_free(&c->heap[i]);
    free(c->heap);
    free(c->wanted);
    free(c->dropped);
    free(c->end);
    free(c->node);
    free(c);
}

bool swim_agree(const struct swim_cluster *c, uint32_t alive)
{
    const struct membership *first = NULL;
    for (uint32_t v = 0; v < c->options.count; v++) {
        const struct membership *m = c->node[v].machine;
        if (c->node[v].life != SWIM_RUNNING) continue;
        if (first == NULL) {
            uint32_t count = 0;
            for (uint32_t i = 0; i < membership_count(m); i++)
                if (membership_at(m, i)->state == MEMBER_ALIVE) count++;
            if (count != alive) return false;
            first = m;
        } else if (membership_view_hash(m) != membership_view_hash(first)) {
            return false;
        }
    }
    return first != NULL;
}

bool swim_all_say(const struct swim_cluster *c, uint32_t node, enum member_state state)
{
    for (uint32_t v = 0; v < c->options.count; v++) {
        if (v == node || c->node[v].life != SWIM_RUNNING || c->node[v].vanished) continue;
        const struct member *u = membership_find(c->node[v].machine, swim_id(node));
        if (u == NULL || u->state != state) return false;
    }
    return true;
}

void swim_sum(const struct swim_cluster *c, struct swim_tally *out)
{
    *out = c->tally;
    for (uint32_t v = 0; v < c->options.count; v++) {
        if (c->node[v].machine == NULL) continue;
        struct membership_totals t;
        membership_totals(c->node[v].machine, &t);
        out->suspicions += t.suspicions;
        out->deaths += t.deaths;
        out->refutations += t.refutations;
    }
}

uint64_t swim_until(struct swim_cluster *c, uint64_t at_most_us,
                    bool (*done)(const struct swim_cluster *c, uint32_t arg), uint32_t arg)
{
    const uint64_t from_us = c->now_us;
    for (;;) {
        if (done(c, arg)) return c->now_us - from_us;
        if (c->now_us - from_us >= at_most_us) return TIME_NEVER;
        swim_run(c, c->now_us + LOOK_US);
    }
}
