/* The course of a scenario. See scenario/run.h.
 *
 * Normal course
 *  - each entry happens `repeat` times, one after the other: it begins at its time, is done to its nodes, and ends
 *    `for` later, or with the run.
 *  - a link fault is a rule at each node it names; ending it asks each for its counters, and the end is told when
 *    the last has answered.
 * Failure courses
 *  - a node is dead when its rule begins, or dies later: it gets the rule again when it has started.
 *  - a node does not answer (dead, stopped, too slow): the end is told without it, at the end of the run at last.
 *  - a fault meets nothing (the nodes are dead already): it is told as such, and does not count as having bitten. */
#include "agent/scenario/run.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "agent/files/json.h"
#include "base/check.h"

enum stage { STAGE_WAITS, STAGE_ON, STAGE_ENDING, STAGE_OVER };

/* One rule at one node. */
struct placed {
    uint32_t node, tag;
    struct fault_rule rule;
    bool told; /* the node has it */
    bool owed; /* an answer to heal */
};

/* One entry; its repetitions take turns. */
struct course {
    const struct scenario_fault *fault;
    enum stage stage;
    uint32_t happened; /* times it has begun */
    uint64_t next_us;  /* when it begins, or ends; TIME_NEVER */
    uint64_t ended_us;
    struct placed *placed; /* (placed_count) owned */
    uint32_t placed_count, owed;
    bool asking;  /* answers may come from inside: the end is told when all are asked */
    uint32_t hit; /* nodes, or rules that were placed */
    struct fault_counts counts;
};

struct scenario_run {
    struct scenario_ops ops;
    FILE *log;
    struct course *course; /* (course_count) */
    uint32_t course_count;
    uint32_t next_tag;
    struct scenario_totals totals;
};

struct scenario_run *scenario_run_new(const struct scenario *s, const struct scenario_ops *ops, FILE *log)
{
    struct scenario_run *r = mem_new_zero(1, sizeof *r);
    r->ops = *ops;
    r->log = log;
    r->course = mem_new_zero(s->count, sizeof *r->course);
    r->course_count = s->count;
    for (uint32_t i = 0; i < s->count; i++) {
        r->course[i].fault = &s->fault[i];
        r->course[i].next_us = s->fault[i].at_us;
    }
    return r;
}

void scenario_run_free(struct scenario_run *r)
{
    if (r == NULL) return;
    for (uint32_t i = 0; i < r->course_count; i++) free(r->course[i].placed);
    free(r->course);
    free(r);
}

/* -- telling ----------------------------------------------------------------------------------- */

static bool is_of_links(const struct course *c)
{
    return c->fault->kind == SCENARIO_LINKS || c->fault->kind == SCENARIO_PARTITION;
}

static bool has_bitten(const struct course *c)
{
    return is_of_links(c) ? fault_has_bitten(&c->counts) : c->hit > 0;
}

static void write_line(const struct scenario_run *r, const struct course *c, const char *event,
                       uint64_t now_us)
{
    if (r->log == NULL) return;
    const struct fault_counts *n = &c->counts;
    json_t *o = json_object();
    json_object_set_new(o, "time_s", json_real((double)now_us * 1e-6));
    json_object_set_new(o, "event", json_string(event));
    json_object_set_new(o, "fault", json_string(scenario_kind_name(c->fault)));
    json_object_set_new(o, "line", json_integer((json_int_t)c->fault->line));
    json_object_set_new(o, "time", json_integer(c->happened));
    json_object_set_new(o, "what", json_text_or_null(c->fault->what));
    if (strcmp(event, "ends") == 0) {
        json_object_set_new(o, is_of_links(c) ? "rules" : "nodes_hit", json_integer(c->hit));
        json_object_set_new(o, "bit", json_boolean(has_bitten(c)));
        if (is_of_links(c)) {
            json_object_set_new(o, "bytes_held", json_count_or_null(n->bytes_held));
            json_object_set_new(o, "bytes_slowed", json_count_or_null(n->bytes_slowed));
            json_object_set_new(o, "bytes_swallowed", json_count_or_null(n->bytes_swallowed));
            json_object_set_new(o, "bytes_corrupted", json_count_or_null(n->bytes_corrupted));
            json_object_set_new(o, "links_reset", json_count_or_null(n->links_reset));
            json_object_set_new(o, "links_refused", json_count_or_null(n->links_refused));
        }
    }
    char *text = json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(12));
    fprintf(r->log, "%s\n", text);
    fflush(r->log);
    free(text);
    json_decref(o);
}

static void say_begin(const struct scenario_run *r, const struct course *c, uint64_t now_us)
{
    char text[SCENARIO_TEXT_MAX + 64];
    const struct scenario_fault *f = c->fault;
    if (f->for_us > 0)
        snprintf(text, sizeof text, "fault begins: %s, for %g s", f->what, (double)f->for_us * 1e-6);
    else if (f->kind == SCENARIO_KILL || f->kind == SCENARIO_RESTART)
        snprintf(text, sizeof text, "fault: %s", f->what);
    else
        snprintf(text, sizeof text, "fault begins: %s, to the end of the run", f->what);
    r->ops.say(r->ops.ctx, text);
    write_line(r, c, "begins", now_us);
}

static void tell_end(struct scenario_run *r, struct course *c)
{
    char text[SCENARIO_TEXT_MAX + FAULT_TEXT_MAX + 64], did[FAULT_TEXT_MAX];
    fault_counts_print(&c->counts, did);
    if (!is_of_links(c)) snprintf(did, sizeof did, "%s", c->hit > 0 ? "done" : "it met nothing");
    snprintf(text, sizeof text, "fault ends: %s; %s", c->fault->what, did);
    bool momentary = c->fault->kind == SCENARIO_KILL;
    if (!momentary || !has_bitten(c)) r->ops.say(r->ops.ctx, text);
    write_line(r, c, "ends", c->ended_us);
    r->totals.bit += has_bitten(c);
    c->stage = STAGE_OVER;
}

/* -- beginning and ending ---------------------------------------------------------------------- */

static void place(struct scenario_run *r, struct course *c)
{
    struct placed p = {0};
    free(c->placed);
    c->placed = NULL;
    c->placed_count = 0;
    for (uint32_t i = 0; scenario_rule_at(c->fault, i, &p.node, &p.rule); i++) {
        if ((i & (i - 1)) == 0) c->placed = mem_resize(c->placed, i == 0 ? 1 : 2 * i, sizeof *c->placed);
        p.tag = ++r->next_tag;
        p.told = r->ops.inject(r->ops.ctx, p.node, &p.rule, p.tag);
        c->hit += p.told;
        c->placed[c->placed_count++] = p;
    }
}

static bool do_begin(struct scenario_run *r, const struct course *c, uint32_t v)
{
    switch (c->fault->kind) {
    case SCENARIO_KILL:
        return r->ops.kill(r->ops.ctx, v, false);
    case SCENARIO_RESTART:
        return r->ops.kill(r->ops.ctx, v, true);
    case SCENARIO_STOP:
        return r->ops.stop(r->ops.ctx, v);
    case SCENARIO_LINKS:
    case SCENARIO_PARTITION:
        break;
    }
    UNREACHABLE();
}

static void begin(struct scenario_run *r, struct course *c, uint64_t now_us)
{
    const struct scenario_fault *f = c->fault;
    c->happened++;
    c->hit = 0;
    c->counts = (struct fault_counts){0};
    c->stage = STAGE_ON;
    r->totals.begun++;
    say_begin(r, c, now_us);
    if (is_of_links(c))
        place(r, c);
    else
        for (uint32_t i = 0; i < f->group[0].count; i++) c->hit += do_begin(r, c, f->group[0].node[i]);
    bool at_once = f->kind == SCENARIO_KILL || f->kind == SCENARIO_RESTART;
    c->next_us = f->for_us > 0 || at_once ? now_us + f->for_us : TIME_NEVER;
}

static void heal_all(struct scenario_run *r, struct course *c)
{
    for (uint32_t i = 0; i < c->placed_count; i++) {
        struct placed *p = &c->placed[i];
        p->owed = p->told; /* before: the answer may come from inside */
        c->owed += p->owed;
    }
    for (uint32_t i = 0; i < c->placed_count; i++) {
        struct placed *p = &c->placed[i];
        if (!p->owed || r->ops.heal(r->ops.ctx, p->node, p->tag)) continue;
        p->owed = false;
        c->owed--;
    }
}

static void end(struct scenario_run *r, struct course *c, uint64_t now_us)
{
    const struct scenario_fault *f = c->fault;
    c->stage = STAGE_ENDING;
    c->ended_us = now_us;
    for (uint32_t i = 0; !is_of_links(c) && i < f->group[0].count; i++) {
        if (f->kind == SCENARIO_STOP) r->ops.go_on(r->ops.ctx, f->group[0].node[i]);
        if (f->kind == SCENARIO_RESTART) r->ops.start(r->ops.ctx, f->group[0].node[i]);
    }
    c->asking = true;
    heal_all(r, c);
    c->asking = false;
    bool again = c->happened < f->repeat;
    c->next_us = again ? f->at_us + c->happened * f->every_us : TIME_NEVER;
    if (c->owed == 0) tell_end(r, c);
}

void scenario_run_healed(struct scenario_run *r, uint32_t tag, const struct fault_counts *counts)
{
    for (uint32_t i = 0; i < r->course_count; i++) {
        struct course *c = &r->course[i];
        for (uint32_t k = 0; k < c->placed_count && c->owed > 0; k++) {
            struct placed *p = &c->placed[k];
            if (p->tag != tag || !p->owed) continue;
            p->owed = false;
            c->owed--;
            fault_counts_add(&c->counts, counts);
            if (c->owed == 0 && c->stage == STAGE_ENDING && !c->asking) tell_end(r, c);
            return;
        }
    }
}

static void replace(struct scenario_run *r, struct course *c, struct placed *p)
{
    bool first = !p->told;
    p->told = r->ops.inject(r->ops.ctx, p->node, &p->rule, p->tag);
    c->hit += first && p->told;
}

void scenario_run_started(struct scenario_run *r, uint32_t v)
{
    for (uint32_t i = 0; i < r->course_count; i++) {
        struct course *c = &r->course[i];
        for (uint32_t k = 0; k < c->placed_count && c->stage == STAGE_ON; k++)
            if (c->placed[k].node == v) replace(r, c, &c->placed[k]);
    }
}

/* -- time -------------------------------------------------------------------------------------- */

uint64_t scenario_run_next_us(const struct scenario_run *r)
{
    uint64_t next_us = TIME_NEVER;
    for (uint32_t i = 0; i < r->course_count; i++)
        if (r->course[i].next_us < next_us) next_us = r->course[i].next_us;
    return next_us;
}

/* The course whose turn is next, in order of time, then of ends before begins, then of the file. */
static struct course *course_due(struct scenario_run *r, uint64_t now_us)
{
    struct course *due = NULL;
    for (uint32_t i = 0; i < r->course_count; i++) {
        struct course *c = &r->course[i];
        if (c->next_us > now_us) continue;
        bool sooner = due == NULL || c->next_us < due->next_us ||
                      (c->next_us == due->next_us && c->stage == STAGE_ON && due->stage != STAGE_ON);
        if (sooner) due = c;
    }
    return due;
}

void scenario_run_advance(struct scenario_run *r, uint64_t now_us)
{
    for (struct course *c; (c = course_due(r, now_us)) != NULL;) {
        if (c->stage == STAGE_ON) {
            end(r, c, now_us);
            continue;
        }
        if (c->stage == STAGE_ENDING)
            tell_end(r, c); /* who has not answered until it begins again, never will */
        c->owed = 0;
        begin(r, c, now_us);
    }
}

void scenario_run_finish(struct scenario_run *r, uint64_t now_us)
{
    for (uint32_t i = 0; i < r->course_count; i++) {
        struct course *c = &r->course[i];
        if (c->stage == STAGE_ON) end(r, c, now_us);
        c->next_us = TIME_NEVER;
    }
}

void scenario_run_close(struct scenario_run *r)
{
    for (uint32_t i = 0; i < r->course_count; i++)
        if (r->course[i].stage == STAGE_ENDING) tell_end(r, &r->course[i]);
}

void scenario_run_totals(const struct scenario_run *r, struct scenario_totals *out)
{
    *out = r->totals;
}
