/* See swim_cluster.h. Here: links, and what comes to the machines. */
#include "tests/sim/swim_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "net/membership/internal.h"

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

uint64_t swim_between(struct swim_cluster *c, uint64_t low, uint64_t high)
{
    return low + prng_below(&c->prng, (uint32_t)(high - low + 1));
}

uint64_t swim_latency_us(struct swim_cluster *c)
{
    return swim_between(c, c->options.latency_min_us, c->options.latency_max_us);
}

/* -- who reaches whom -------------------------------------------------------------------------- */

static bool passes(const struct swim_cluster *c, uint32_t from, uint32_t to)
{
    return !c->dropped[(size_t)from * c->options.count + to] && !c->node[from].vanished &&
           !c->node[to].vanished;
}

/* Something changed between the two: silence begins or ends at the end of `at`. */
void swim_watch(struct swim_cluster *c, uint32_t at, uint32_t from)
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
    swim_push(c, (struct swim_event){.at_us = c->now_us + SILENCE_US - swim_between(c, 0, HEARTBEAT_US),
                                     .kind = EVENT_SILENT,
                                     .node = at,
                                     .peer = from,
                                     .generation = e->generation,
                                     .serial = e->blocked});
}

/* One end is up and the other is not: the first is told so when that gets through. */
void swim_reset_if_half(struct swim_cluster *c, uint32_t at, uint32_t from, enum member_evidence evidence)
{
    const struct swim_end *e = end_at(c, at, from), *other = end_at(c, from, at);
    if (!e->up || (other->up && other->generation == e->generation)) return;
    if (!passes(c, from, at)) return;
    swim_push(c, (struct swim_event){.at_us = c->now_us + swim_latency_us(c),
                                     .kind = EVENT_DOWN,
                                     .node = at,
                                     .peer = from,
                                     .generation = e->generation,
                                     .evidence = evidence});
}

void swim_watch_all(struct swim_cluster *c, uint32_t v)
{
    for (uint32_t w = 0; w < c->options.count; w++) {
        if (w == v) continue;
        swim_watch(c, v, w);
        swim_watch(c, w, v);
        swim_reset_if_half(c, v, w, EVIDENCE_RESET);
        swim_reset_if_half(c, w, v, EVIDENCE_RESET);
    }
}

/* -- a machine's step -------------------------------------------------------------------------- */

static void dial(struct swim_cluster *c, uint32_t v, uint32_t w, bool for_machine)
{
    swim_push(c, (struct swim_event){.at_us = c->now_us + 2 * swim_latency_us(c),
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
    uint64_t at_us = c->now_us + swim_latency_us(c);
    if (at_us < there->arrival_us) at_us = there->arrival_us;
    there->arrival_us = at_us;
    struct swim_msg *msg = mem_new(1, sizeof *msg);
    *msg = a->msg;
    msg->update = p->update;
    p->references++;
    swim_push(c, (struct swim_event){.at_us = at_us,
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

void swim_arm(struct swim_cluster *c, uint32_t v)
{
    uint64_t at_us = membership_deadline_us(c->node[v].machine);
    c->node[v].timer_serial = ++c->serial;
    if (at_us == TIME_NEVER) return;
    swim_push(c, (struct swim_event){.at_us = at_us, .kind = EVENT_TIMER, .node = v, .serial = c->serial});
}

void swim_step(struct swim_cluster *c, uint32_t v, struct membership_event e)
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
        case MEMBERSHIP_RIVAL:
            break;
        }
    }
    if (parcel != NULL && parcel->references == 0) free(parcel);
    bool planted = c->options.tamper != NULL || c->options.spoil != NULL;
    if (!planted && c->sequence % 32 == 0) membership_check_invariants(n->machine);
    if (c->options.tamper != NULL) c->options.tamper(c, v, &e);
    swim_arm(c, v);
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

void swim_take_message(struct swim_cluster *c, struct swim_event *e)
{
    struct swim_end *end = end_at(c, e->node, e->peer);
    if (end->up && end->generation == e->generation) {
        if (c->options.spoil != NULL) c->options.spoil(c, e->node, e->msg);
        swim_step(
            c, e->node,
            (struct membership_event){.kind = MEMBERSHIP_MESSAGE, .peer = swim_id(e->peer), .msg = e->msg});
    }
    swim_event_free(e);
}

static void take_down(struct swim_cluster *c, const struct swim_event *e)
{
    struct swim_end *end = end_at(c, e->node, e->peer);
    if (!end->up || end->generation != e->generation) return;
    end->up = false;
    end->blocked = 0;
    swim_watch(c, e->peer, e->node);
    swim_reset_if_half(c, e->peer, e->node, e->evidence == EVIDENCE_NONE ? EVIDENCE_NONE : EVIDENCE_RESET);
    swim_step(c, e->node,
              (struct membership_event){
                  .kind = MEMBERSHIP_LINK_DOWN, .peer = swim_id(e->peer), .evidence = e->evidence});
}

void swim_address(uint32_t v, char *text)
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
    swim_address(v, address[0]);
    swim_address(w, address[1]);
    rise(c, v, w, generation);
    rise(c, w, v, generation);
    swim_step(
        c, v,
        (struct membership_event){.kind = MEMBERSHIP_LINK_UP, .peer = swim_id(w), .address = address[1]});
    swim_step(
        c, w,
        (struct membership_event){.kind = MEMBERSHIP_LINK_UP, .peer = swim_id(v), .address = address[0]});
    bool kept = c->wanted[(size_t)v * c->options.count + w] || c->wanted[(size_t)w * c->options.count + v];
    if (kept) return;
    swim_push(c, (struct swim_event){.at_us = c->now_us + swim_between(c, 10 * SWIM_SECOND, 15 * SWIM_SECOND),
                                     .kind = EVENT_SPARE,
                                     .node = v,
                                     .peer = w,
                                     .generation = generation});
}

static void dial_failed(struct swim_cluster *c, const struct swim_event *e, enum member_evidence evidence)
{
    if (!e->for_machine) return;
    swim_step(c, e->node,
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
        swim_push(c, e);
    }
}

/* -- events ------------------------------------------------------------------------------------ */

static void arrive(struct swim_cluster *c, struct swim_event *e)
{
    struct swim_end *end = end_at(c, e->node, e->peer);
    struct swim_node *n = &c->node[e->node];
    if (n->life == SWIM_OFF || !end->up || end->generation != e->generation) {
        swim_event_free(e);
        return;
    }
    bool stuck = !passes(c, e->peer, e->node);
    if (stuck || c->now_us < end->stalled_us) {
        if (stuck) end->stalled_us = c->now_us + RETRY_US;
        e->at_us = end->stalled_us;
        swim_push(c, *e);
        return;
    }
    if (n->life == SWIM_FROZEN)
        wait_for_thaw(n, e);
    else
        swim_take_message(c, e);
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
    e.at_us = c->now_us + swim_between(c, SWIM_SECOND / 2, SWIM_SECOND);
    swim_push(c, e);
}

static void take_spare(struct swim_cluster *c, const struct swim_event *e)
{
    struct swim_event bye = *e;
    bye.kind = EVENT_DOWN;
    bye.evidence = EVIDENCE_NONE;
    if (c->node[e->node].life == SWIM_RUNNING) take_down(c, &bye);
}

void swim_off(struct swim_cluster *c, uint32_t v, enum member_evidence evidence)
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
        swim_event_free(&w->event);
        free(w);
    }
    n->last = NULL;
    for (uint32_t w = 0; w < c->options.count; w++) {
        end_at(c, v, w)->up = false;
        end_at(c, v, w)->blocked = 0;
        if (w == v) continue;
        swim_watch(c, w, v);
        swim_reset_if_half(c, w, v, evidence);
    }
}

void swim_dispatch(struct swim_cluster *c, struct swim_event *e)
{
    struct swim_node *n = &c->node[e->node];
    bool frozen = n->life == SWIM_FROZEN;
    switch (e->kind) {
    case EVENT_TIMER:
        if (n->timer_serial == e->serial && !frozen)
            swim_step(c, e->node, (struct membership_event){.kind = MEMBERSHIP_DEADLINE});
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
        if (n->run == e->serial) swim_off(c, e->node, EVIDENCE_NONE);
        break;
    }
}

void swim_run(struct swim_cluster *c, uint64_t until_us)
{
    while (c->heap_count > 0 && c->heap[0].at_us <= until_us) {
        struct swim_event e = swim_pop(c);
        c->now_us = e.at_us;
        swim_dispatch(c, &e);
    }
    c->now_us = until_us;
}
