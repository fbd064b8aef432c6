/* What tests ask a cluster: do all agree, what do they say, how often did they accuse. */
#include "tests/sim/swim_internal.h"

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
