/* What tests do to the machines of a cluster: start, kill, leave, freeze, cut off. */
#include "tests/sim/swim_internal.h"

#include <stdlib.h>

#include "base/check.h"

void swim_start_at(struct swim_cluster *c, uint32_t v, uint64_t boot)
{
    struct swim_node *n = &c->node[v];
    CHECK(n->life == SWIM_OFF);
    struct membership_config config;
    membership_defaults(&config);
    config.self.id = swim_id(v);
    config.self.boot = boot;
    swim_address(v, config.self.address);
    config.local_health = !c->options.no_local_health;
    config.seed = c->options.seed + n->run;
    n->machine = membership_new(&config);
    n->life = SWIM_RUNNING;
    n->run++;
    n->vanished = n->excused = false;
    n->connect_us = 0;
    swim_step(c, v, (struct membership_event){.kind = MEMBERSHIP_START});
    if (v != c->seed_node)
        swim_push(c, (struct swim_event){.at_us = c->now_us + swim_latency_us(c),
                                         .kind = EVENT_SEED,
                                         .node = v,
                                         .generation = n->run});
}

/* Start times as clocks have them that differ by up to 2 s. */
void swim_start(struct swim_cluster *c, uint32_t v)
{
    uint64_t clock_us = 1000000000000000ull + c->now_us + swim_between(c, 0, 2 * SWIM_SECOND);
    swim_start_at(c, v, clock_us * BOOT_UNITS_PER_US);
}

void swim_kill(struct swim_cluster *c, uint32_t v)
{
    c->node[v].excused = true;
    swim_off(c, v, EVIDENCE_RESET);
}

void swim_leave(struct swim_cluster *c, uint32_t v)
{
    swim_step(c, v, (struct membership_event){.kind = MEMBERSHIP_LEAVE});
    swim_push(c, (struct swim_event){.at_us = c->now_us + SWIM_SECOND / 2,
                                     .kind = EVENT_EXIT,
                                     .node = v,
                                     .serial = c->node[v].run});
}

void swim_freeze(struct swim_cluster *c, uint32_t v)
{
    CHECK(c->node[v].life == SWIM_RUNNING);
    c->node[v].life = SWIM_FROZEN;
    swim_watch_all(c, v);
}

void swim_thaw(struct swim_cluster *c, uint32_t v)
{
    struct swim_node *n = &c->node[v];
    CHECK(n->life == SWIM_FROZEN);
    n->life = SWIM_RUNNING;
    if (membership_deadline_us(n->machine) <= c->now_us)
        swim_step(c, v, (struct membership_event){.kind = MEMBERSHIP_DEADLINE});
    else
        swim_arm(c, v);
    struct swim_waiting *first = n->first;
    n->first = n->last = NULL;
    while (first != NULL) {
        struct swim_waiting *w = first;
        first = w->next;
        if (w->event.kind == EVENT_MESSAGE)
            swim_take_message(c, &w->event);
        else
            swim_dispatch(c, &w->event);
        free(w);
    }
    swim_watch_all(c, v);
}

void swim_drop(struct swim_cluster *c, uint32_t from, uint32_t to, bool drop)
{
    c->dropped[(size_t)from * c->options.count + to] = drop;
    swim_watch(c, to, from);
    swim_watch(c, from, to);
    swim_reset_if_half(c, to, from, EVIDENCE_RESET);
    swim_reset_if_half(c, from, to, EVIDENCE_RESET);
}

void swim_vanish(struct swim_cluster *c, uint32_t v)
{
    c->node[v].vanished = c->node[v].excused = true;
    swim_watch_all(c, v);
}

void swim_split(struct swim_cluster *c, uint32_t first)
{
    for (uint32_t a = 0; a < c->options.count; a++)
        for (uint32_t b = 0; b < c->options.count; b++)
            if (a != b) swim_drop(c, a, b, (a < first) != (b < first));
}
