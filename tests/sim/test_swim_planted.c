/* Goal: the checks on membership have power: each planted bug is found, and without it nothing is.
 * Method: one examination of 16 machines (peace, a stop, a loss while somebody sleeps, a one-way cut, halves) with
 * the promises of test_swim and test_swim_faults; the bugs tamper with the machines' state after each step, or with
 * the messages they get, as the bug would have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "net/membership/internal.h"
#include "tests/sim/swim_cluster.h"

enum { COUNT = 16, SEEDS_MAX = 50 };

static struct membership *machine(const struct swim_cluster *c, uint32_t node)
{
    return c->node[node].machine;
}

/* -- bugs -------------------------------------------------------------------------------------- */

/* `<=` instead of `<`: what is said of us at our own incarnation counts as old. */
static void not_refute_the_equal(struct swim_cluster *c, uint32_t node, struct swim_msg *msg)
{
    static struct member kept[SWIM_UPDATE_MAX];
    const struct member *self = membership_self(machine(c, node));
    uint32_t count = 0;
    for (uint32_t i = 0; i < msg->update_count; i++)
        if (msg->update[i].id != self->id || msg->update[i].incarnation > self->incarnation)
            kept[count++] = msg->update[i];
    msg->update = kept;
    msg->update_count = count;
}

/* `<=` instead of `<`: ALIVE at the same incarnation ends DEAD and SUSPECT. */
static void believe_the_equal(struct swim_cluster *c, uint32_t node, struct swim_msg *msg)
{
    static struct member kept[SWIM_UPDATE_MAX];
    for (uint32_t i = 0; i < msg->update_count; i++) {
        kept[i] = msg->update[i];
        const struct record *r = membership_record(machine(c, node), kept[i].id);
        if (r == NULL || kept[i].state != MEMBER_ALIVE || r->m.state == MEMBER_ALIVE) continue;
        if (kept[i].incarnation == r->m.incarnation) kept[i].incarnation++;
    }
    msg->update = kept;
}

/* A suspicion that was refuted goes on to its end. */
static void not_cancel_a_suspicion(struct swim_cluster *c, uint32_t node, const struct membership_event *e)
{
    struct membership *m = machine(c, node);
    for (uint32_t i = 0; i < m->record_count && e->kind == MEMBERSHIP_DEADLINE; i++) {
        struct record *r = m->record[i];
        if (r->m.state != MEMBER_ALIVE || r->suspicion.count == 0) continue;
        if (m->now_us < membership_suspicion_end_us(&r->suspicion)) continue;
        r->m.state = MEMBER_SUSPECT;
        membership_timer_lower(m, m->now_us);
    }
}

static void not_redial_the_dead(struct swim_cluster *c, uint32_t node, const struct membership_event *e)
{
    struct membership *m = machine(c, node);
    (void)e;
    for (uint32_t i = 0; i < m->record_count; i++) m->record[i]->redial_at_us = TIME_NEVER;
    m->redials_due = false;
}

static void tell_for_ever(struct swim_cluster *c, uint32_t node, const struct membership_event *e)
{
    struct membership *m = machine(c, node);
    (void)e;
    for (uint32_t i = 0; i < m->rumour_count; i++) m->rumour[i]->sent = 0;
}

static void not_count_confirmations(struct swim_cluster *c, uint32_t node, const struct membership_event *e)
{
    struct membership *m = machine(c, node);
    (void)e;
    for (uint32_t i = 0; i < m->record_count; i++)
        if (m->record[i]->suspicion.count > 1) m->record[i]->suspicion.count = 1;
}

/* Whoever helps with a probe is not listened to. */
static void not_hear_helpers(struct swim_cluster *c, uint32_t node, struct swim_msg *msg)
{
    (void)c;
    (void)node;
    if (msg->kind == SWIM_ACK && msg->target != 0) msg->number ^= 1ull << 63;
}

/* A round never comes to the last in the list. */
static void never_probe(struct swim_cluster *c, uint32_t node, const struct membership_event *e)
{
    (void)e;
    machine(c, node)->probe_at_us = TIME_NEVER;
}

/* A dial a step: as often as anybody wants one. */
static void not_keep_the_budget(struct swim_cluster *c, uint32_t node, const struct membership_event *e)
{
    (void)e;
    machine(c, node)->dial_at_us = 0;
}

/* -- the examination --------------------------------------------------------------------------- */

static bool agree(const struct swim_cluster *c, uint32_t alive)
{
    return swim_agree(c, alive);
}

static bool all_say_dead(const struct swim_cluster *c, uint32_t node)
{
    return swim_all_say(c, node, MEMBER_DEAD);
}

static bool all_say_suspect(const struct swim_cluster *c, uint32_t node)
{
    return swim_all_say(c, node, MEMBER_SUSPECT);
}

static const char *peace(struct swim_cluster *c)
{
    if (swim_until(c, 3 * SWIM_SECOND, agree, COUNT) == TIME_NEVER)
        return "they do not find each other in 3 s";
    swim_run(c, c->now_us + 10 * SWIM_SECOND);
    struct swim_tally before, after;
    swim_sum(c, &before);
    swim_run(c, c->now_us + 60 * SWIM_SECOND);
    swim_sum(c, &after);
    if (after.suspicions > before.suspicions) return "suspicions in peace";
    if (after.message[SWIM_GOSSIP] - before.message[SWIM_GOSSIP] > COUNT) return "gossip in peace";
    if (after.message[SWIM_PING] - before.message[SWIM_PING] < 50 * COUNT) return "hardly any probes";
    return NULL;
}

/* Machine 3 stops until it is suspected, and lives on. */
static const char *stop(struct swim_cluster *c)
{
    swim_freeze(c, 3);
    if (swim_until(c, 10 * SWIM_SECOND, all_say_suspect, 3) == TIME_NEVER) return "a stop is not noticed";
    swim_thaw(c, 3);
    swim_run(c, c->now_us + 60 * SWIM_SECOND);
    if (c->tally.false_deaths > 0) return "one that was stopped for a moment is dead";
    return swim_agree(c, COUNT) ? NULL : "views differ a minute after a stop";
}

/* Machine 5 sleeps while 7 goes, and then still thinks that it is there. */
static const char *go_while_one_sleeps(struct swim_cluster *c)
{
    c->node[5].excused = true;
    swim_freeze(c, 5);
    swim_vanish(c, 7);
    if (swim_until(c, 13 * SWIM_SECOND, all_say_dead, 7) == TIME_NEVER) return "a death is not known in 13 s";
    swim_run(c, c->now_us + 10 * SWIM_SECOND);
    swim_thaw(c, 5);
    swim_run(c, c->now_us + 40 * SWIM_SECOND);
    if (c->tally.resurrections > 0) return "a dead process is alive again";
    c->node[5].excused = false;
    swim_kill(c, 7);
    if (!swim_agree(c, COUNT - 1)) return "views differ after a sleep";
    swim_start(c, 7);
    return swim_until(c, 3 * SWIM_SECOND, agree, COUNT) == TIME_NEVER ? "a restart is not known in 3 s"
                                                                      : NULL;
}

static const char *one_way_cut(struct swim_cluster *c)
{
    struct swim_tally before, after;
    swim_sum(c, &before);
    swim_drop(c, 1, 2, true);
    swim_run(c, c->now_us + 60 * SWIM_SECOND);
    swim_drop(c, 1, 2, false);
    swim_sum(c, &after);
    if (after.false_deaths > before.false_deaths) return "a one-way cut kills";
    return after.suspicions > before.suspicions
               ? "a one-way cut that others can reach across makes suspicious"
               : NULL;
}

static const char *halves(struct swim_cluster *c)
{
    struct swim_tally after;
    for (uint32_t v = 0; v < COUNT; v++) c->node[v].excused = true;
    swim_split(c, COUNT / 2);
    swim_run(c, c->now_us + 60 * SWIM_SECOND);
    swim_sum(c, &after);
    if (after.hasty_connects > 0) return "more than a dial a second";
    swim_split(c, 0);
    return swim_until(c, 40 * SWIM_SECOND, agree, COUNT) == TIME_NEVER ? "halves do not meet in 40 s" : NULL;
}

/* Returns the first promise that is broken, or NULL. */
static const char *examine(const struct swim_options *o)
{
    static const char *(*const part[])(struct swim_cluster * c) = {peace, stop, go_while_one_sleeps,
                                                                   one_way_cut, halves};
    struct swim_cluster *c = swim_cluster_new(o);
    for (uint32_t v = 0; v < o->count; v++) swim_start(c, v);
    const char *why = NULL;
    for (size_t i = 0; i < sizeof part / sizeof part[0] && why == NULL; i++) why = part[i](c);
    swim_cluster_free(c);
    return why;
}

static const struct {
    const char *name;
    struct swim_options options;
} bugs[] = {
    {"accusations at the same incarnation are old", {.spoil = not_refute_the_equal}},
    {"alive at the same incarnation is news", {.spoil = believe_the_equal}},
    {"a refuted suspicion goes on", {.tamper = not_cancel_a_suspicion}},
    {"the dead are not dialled", {.tamper = not_redial_the_dead}},
    {"rumours do not end", {.tamper = tell_for_ever}},
    {"confirmations do not count", {.tamper = not_count_confirmations}},
    {"helpers are not heard", {.spoil = not_hear_helpers}},
    {"nobody is probed", {.tamper = never_probe}},
    {"dials have no budget", {.tamper = not_keep_the_budget}},
};

static void every_planted_bug_is_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bugs / sizeof bugs[0]; i++) {
        const char *why = NULL;
        uint64_t seed = 0;
        while (why == NULL && seed < SEEDS_MAX) {
            struct swim_options o = bugs[i].options;
            o.count = COUNT;
            o.seed = ++seed;
            why = examine(&o);
        }
        if (why == NULL) fail_msg("\"%s\" lives through %d seeds", bugs[i].name, SEEDS_MAX);
        printf("%-45s seed %2llu: %s\n", bugs[i].name, (unsigned long long)seed, why);
    }
}

static void without_bugs_the_examination_is_passed(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        const struct swim_options o = {.count = COUNT, .seed = seed};
        const char *why = examine(&o);
        if (why != NULL) fail_msg("seed %llu: %s", (unsigned long long)seed, why);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_planted_bug_is_found),
        cmocka_unit_test(without_bugs_the_examination_is_passed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
