/* The storm: cluster, faults and the two phases; see storm.h.
 *
 * Normal course
 *  - everything is drawn from the seed: graph, algorithm, delays, step times, and how often which fault comes
 *    (some kinds not at all: a storm of resets alone finds what a mixture hides).
 *  - SAFETY_US of faults; then all is healed and restarted; the cluster has LIVENESS_US to come to rest and,
 *    once the trainers no longer drift, to agree.
 * Failure courses
 *  - a checker finds a problem: the storm ends at that event with the problem and its virtual time. */
#include "tests/sim/storm.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "net/sim/internal.h"
#include "tests/sim/counter.h"
#include "tests/sim/laws.h"

enum {
    SAFETY_US = 60 * STORM_SECOND,
    LIVENESS_US = 120 * STORM_SECOND,
    BURST_US = 4 * STORM_SECOND,
    POLL_US = STORM_SECOND / 2,
    DEAD_MAX = STORM_NODES / 2, /* at once */
    PILLAR_GAP_US = 8 * STORM_SECOND,
    PILLAR_TRIES = 100,
};

static const char *const fault_name[STORM_FAULT_COUNT] = {"crash", "restart",     "pause", "resume",
                                                          "cut",   "cut one way", "heal",  "reset"};

/* -- looking ----------------------------------------------------------------------------------- */

void storm_fail(struct storm *s, const char *format, ...)
{
    if (s->problem.text[0] != '\0') return;
    char line[ERR_TEXT_MAX - 40];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    snprintf(s->problem.text, sizeof s->problem.text, "at %.3f s: %s",
             (double)simulation_now_us(s->sim) / 1e6, line);
}

struct digest *storm_digest(const struct storm *s, rank_t v)
{
    struct node *n = simulation_node(s->sim, v);
    return s->digest && n != NULL ? (struct digest *)node_algo(n) : NULL;
}

/* Trainers stop to count before they stop to run, so in each life the counted steps come first. */
static uint64_t handed_in_this_life(const struct storm *s, rank_t v)
{
    const struct digest *d = storm_digest(s, v);
    if (d == NULL) return 0;
    return d->steps_handed_over < s->counted_life[v] ? d->steps_handed_over : s->counted_life[v];
}

uint64_t storm_handed_over(const struct storm *s, rank_t v)
{
    return s->handed_gone[v] + handed_in_this_life(s, v);
}

static void print_line(void *ctx, enum trace_level level, const char *text)
{
    const struct storm *s = ctx;
    (void)level;
    fprintf(stderr, "%9.3f  %s\n", s->sim == NULL ? 0.0 : (double)simulation_now_us(s->sim) / 1e6, text);
}

/* -- trainers that count ----------------------------------------------------------------------- */

static size_t slice_now(const struct storm *s, rank_t v)
{
    uint64_t slice = simulation_now_us(s->sim) / STORM_SLICE_US;
    return (size_t)v * STORM_SLICES + (slice < STORM_SLICES ? slice : STORM_SLICES - 1);
}

static uint32_t counter_run(struct trainer *t, const float *x, uint32_t max_steps, float *delta, double *loss)
{
    const struct counter *c = (const struct counter *)t;
    struct storm *s = c->owner;
    rank_t v = c->place;
    (void)x;
    memset(delta, 0, s->setup.dim * sizeof *delta);
    *loss = 1;
    s->under_way[v] = s->drifting ? max_steps : 0;
    if (!s->drifting) return max_steps;
    delta[v] = (float)max_steps;
    s->counted[v] += max_steps;
    s->counted_life[v] += max_steps;
    if (s->slices) {
        size_t i = slice_now(s, v);
        delta[STORM_NODES + i] = (float)max_steps;
        s->sliced[i] += max_steps;
    }
    return max_steps;
}

static int counter_new(void *ctx, uint32_t v, struct trainer **out, struct err_text *why)
{
    (void)why;
    return counter_make(counter_run, ctx, v, out);
}

/* -- the cluster ------------------------------------------------------------------------------- */

static void observe(void *ctx, const void *bytes, size_t size)
{
    struct storm *s = ctx;
    CHECK(size >= 24);
    rank_t v = (rank_t)(observed_word(bytes, 2) >> 32);
    bool done = observed_word(bytes, 1) == SIM_JOB_DONE;
    if (done) s->under_way[v] = 0;
    s->training_ended |= done;
    s->touched |= 1u << v;
}

static void storm_open(struct storm *s, const struct storm_plan *plan)
{
    static const struct mutant nothing = {.name = NULL};
    const struct mutant *planted = plan->mutant != NULL ? plan->mutant : &nothing;
    static const float x0[STORM_DIM] = {0};
    struct err_text why = {""};
    prng_split(&s->prng, s->seed, "storm", 0);
    s->drifting = true;
    s->healed_us = TIME_NEVER;
    storm_draw(s, plan->algorithm != NULL ? plan->algorithm : planted->algorithm,
               plan->compress != NULL ? plan->compress : planted->compress);
    s->trace = (struct trace){s->loud ? TRACE_DEBUG : TRACE_ERROR, print_line, s};
    s->setup.node_count = STORM_NODES;
    s->setup.algo_params = &s->algorithm_choice;
    s->setup.topology = &s->topology_choice;
    s->setup.latency = &s->latency_choice;
    s->setup.step_time = &s->step_time_choice;
    s->setup.seed = s->seed;
    s->slices = s->digest && !s->lossy;
    s->setup.dim = s->slices ? STORM_DIM : STORM_NODES;
    s->setup.x0 = x0;
    s->setup.weight = s->weight;
    s->setup.trainer_new = counter_new;
    s->setup.ctx = s;
    s->setup.trace = s->loud ? &s->trace : NULL;
    if (simulation_new(&s->setup, &s->sim, &why) != 0) check_failed(why.text, __FILE__, __LINE__);
    sim_observe(simulation_world(s->sim), observe, s);
    storm_shapes_init(s);
}

/* All events up to then; false when there is a problem. */
static bool storm_go_on(struct storm *s, uint64_t until_us)
{
    while (s->problem.text[0] == '\0') {
        s->touched = 0;
        s->training_ended = false;
        if (!simulation_step(s->sim, until_us)) break;
        s->tally->events++;
        if (s->mutant != NULL && s->mutant->tamper != NULL) s->mutant->tamper(s);
        checkers_event(s);
    }
    if (simulation_failure(s->sim)[0] != '\0') storm_fail(s, "%s", simulation_failure(s->sim));
    return s->problem.text[0] == '\0';
}

/* -- faults ------------------------------------------------------------------------------------ */

static void crash(struct storm *s, rank_t v)
{
    uint32_t dead = 0;
    for (rank_t u = 0; u < STORM_NODES; u++) dead += simulation_node(s->sim, u) == NULL;
    if (simulation_node(s->sim, v) == NULL || dead >= DEAD_MAX) return;
    if (s->digest && storm_digest(s, v) != NULL) digest_losses_crash(s, v);
    s->handed_gone[v] += handed_in_this_life(s, v);
    s->counted_life[v] = s->under_way[v] = 0;
    s->paused[v] = false;
    checkers_crashed(s, v);
    simulation_crash(s->sim, v, prng_below(&s->prng, 2) == 0);
}

static void restart(struct storm *s, rank_t v)
{
    struct err_text why = {""};
    if (simulation_node(s->sim, v) != NULL) return;
    if (simulation_restart(s->sim, v, &why) != 0) storm_fail(s, "node %u cannot restart: %s", v, why.text);
}

static void pause_or_resume(struct storm *s, rank_t v, bool pause)
{
    if (simulation_node(s->sim, v) == NULL || s->paused[v] == pause) return;
    s->paused[v] = pause;
    if (pause)
        sim_pause(simulation_world(s->sim), v);
    else
        sim_resume(simulation_world(s->sim), v);
}

static void inflict(struct storm *s, enum storm_fault fault, rank_t a, rank_t b)
{
    struct sim_world *w = simulation_world(s->sim);
    if (s->loud)
        fprintf(stderr, "%9.3f  -- %s %u %u\n", (double)simulation_now_us(s->sim) / 1e6, fault_name[fault], a,
                b);
    s->tally->fault[fault]++;
    switch (fault) {
    case STORM_CRASH:
        crash(s, a);
        break;
    case STORM_RESTART:
        restart(s, a);
        break;
    case STORM_PAUSE:
        pause_or_resume(s, a, true);
        break;
    case STORM_RESUME:
        pause_or_resume(s, a, false);
        break;
    case STORM_CUT:
        sim_cut(w, a, b);
        break;
    case STORM_CUT_ONE_WAY:
        sim_cut_one_way(w, a, b);
        break;
    case STORM_HEAL:
        sim_heal(w, a, b);
        break;
    case STORM_RESET:
        sim_reset_link(w, a, b);
        break;
    case STORM_FAULT_COUNT:
        UNREACHABLE();
    }
}

static enum storm_fault draw_fault(struct storm *s)
{
    double sum = 0;
    for (int k = 0; k < STORM_FAULT_COUNT; k++) sum += s->fault_weight[k];
    double at = prng_unit(&s->prng) * sum;
    int kind = 0;
    while (kind < STORM_FAULT_COUNT - 1 && at >= s->fault_weight[kind]) at -= s->fault_weight[kind++];
    return (enum storm_fault)kind;
}

/* Any node, most often; half the restarts and resumes go to a node that needs one. */
static rank_t draw_victim(struct storm *s, enum storm_fault fault)
{
    rank_t v = prng_below(&s->prng, STORM_NODES);
    bool wants = fault == STORM_RESTART || fault == STORM_RESUME;
    for (uint32_t i = 0; wants && i < STORM_NODES; i++) {
        rank_t u = (v + i) % STORM_NODES;
        if (fault == STORM_RESTART ? simulation_node(s->sim, u) == NULL : s->paused[u]) return u;
    }
    return v;
}

/* With the cuts and heals of partitions on the way. */
static bool disturb_until(struct storm *s, uint64_t until_us)
{
    while (storm_shapes_due_us(s) <= until_us) {
        uint64_t due_us = storm_shapes_due_us(s), now_us = simulation_now_us(s->sim);
        if (due_us > now_us && !storm_go_on(s, due_us)) return false;
        storm_shapes_act(s);
    }
    return storm_go_on(s, until_us);
}

static bool disturb(struct storm *s)
{
    const struct graph *g = simulation_graph(s->sim);
    uint64_t at_us = (uint64_t)STORM_SECOND;
    while (at_us < SAFETY_US) {
        if (!disturb_until(s, at_us)) return false;
        enum storm_fault fault = draw_fault(s);
        rank_t a = draw_victim(s, fault);
        rank_t b = g->neighbour[g->offset[a] + prng_below(&s->prng, graph_degree(g, a))];
        inflict(s, fault, a, b);
        at_us += 1 + (uint64_t)prng_exponential(&s->prng, s->fault_gap_us);
    }
    return true;
}

static void split(struct storm *s)
{
    const struct graph *g = simulation_graph(s->sim);
    for (rank_t a = 0; a < STORM_NODES / 2; a++)
        for (uint32_t i = g->offset[a]; i < g->offset[a + 1]; i++)
            if (g->neighbour[i] >= STORM_NODES / 2) inflict(s, STORM_CUT, a, g->neighbour[i]);
}

static bool disturb_once(struct storm *s)
{
    rank_t v = (rank_t)(s->seed % STORM_NODES);
    bool crashes = s->plan.scene == STORM_SCENE_CRASH;
    if (!storm_go_on(s, SAFETY_US / 2)) return false;
    if (crashes)
        inflict(s, STORM_CRASH, v, v);
    else
        split(s);
    return storm_go_on(s, SAFETY_US / 2 + (crashes ? 10 : 60) * (uint64_t)STORM_SECOND);
}

/* Waits, not for long, until somebody stands for something. */
static rank_t await_pillar(struct storm *s)
{
    rank_t v = RANK_NONE;
    for (int i = 0; v == RANK_NONE && i < PILLAR_TRIES; i++) {
        if (!storm_go_on(s, simulation_now_us(s->sim) + 1 + prng_below(&s->prng, STORM_SECOND / 10))) break;
        v = s->law->pillar(s);
    }
    return v;
}

/* One node at a time is killed, at a random moment at which it stands for something, and comes back after a
 * while; the others then have time to take it in before the next one goes. */
static bool disturb_pillars(struct storm *s)
{
    CHECK(s->law->pillar != NULL);
    while (simulation_now_us(s->sim) < SAFETY_US) {
        uint64_t wait_us = PILLAR_GAP_US + (uint64_t)prng_exponential(&s->prng, PILLAR_GAP_US / 2);
        if (!storm_go_on(s, simulation_now_us(s->sim) + wait_us)) return false;
        rank_t v = await_pillar(s);
        if (v == RANK_NONE) continue;
        inflict(s, STORM_CRASH, v, v);
        wait_us = (uint64_t)prng_exponential(&s->prng, 2.0 * STORM_SECOND);
        if (!storm_go_on(s, simulation_now_us(s->sim) + wait_us)) return false;
        inflict(s, STORM_RESTART, v, v);
    }
    return true;
}

static bool disturb_as_planned(struct storm *s)
{
    if (s->plan.scene != STORM_SCENE_NONE) return disturb_once(s);
    return s->plan.pillars ? disturb_pillars(s) : disturb(s);
}

static void heal(struct storm *s)
{
    struct sim_world *w = simulation_world(s->sim);
    const struct graph *g = simulation_graph(s->sim);
    sim_heal_all(w);
    memset(s->paused, 0, sizeof s->paused);
    for (rank_t v = 0; v < STORM_NODES; v++) restart(s, v);
    if (s->mutant != NULL && s->mutant->forgets_a_link) sim_cut(w, 5, g->neighbour[g->offset[5]]);
    s->healed_us = simulation_now_us(s->sim);
    checkers_healed(s);
    if (s->loud) fprintf(stderr, "%9.3f  -- all healed\n", (double)s->healed_us / 1e6);
}

/* -- phases ------------------------------------------------------------------------------------ */

/* Goes on until `unlike` answers NULL; fails with its answer when the time is up. */
static bool storm_settle(struct storm *s, const char *(*unlike)(struct storm *s), uint64_t *took_us_max)
{
    uint64_t since_us = simulation_now_us(s->sim), limit_us = since_us + LIVENESS_US;
    const char *what = "";
    while (simulation_now_us(s->sim) < limit_us) {
        if (!storm_go_on(s, simulation_now_us(s->sim) + POLL_US)) return false;
        what = unlike(s);
        if (what == NULL) break;
    }
    if (what != NULL) {
        storm_fail(s, "for %d s: %s", LIVENESS_US / STORM_SECOND, what);
        return false;
    }
    uint64_t took_us = simulation_now_us(s->sim) - since_us;
    if (took_us > *took_us_max) *took_us_max = took_us;
    return true;
}

static bool drift_for(struct storm *s, uint64_t duration_us)
{
    s->drifting = true;
    bool fine = storm_go_on(s, simulation_now_us(s->sim) + duration_us);
    s->drifting = false;
    return fine;
}

static void storm_weather(struct storm *s, struct storm_tally *tally)
{
    if (!disturb_as_planned(s)) return;
    heal(s);
    if (!storm_settle(s, checkers_unrest, &tally->quiet_us_max)) return;
    checkers_quiet(s);
    if (!drift_for(s, 2 * STORM_SECOND)) return;
    if (!storm_settle(s, checkers_disagreement, &tally->agreed_us_max)) return;
    checkers_burst_begin(s);
    if (!drift_for(s, BURST_US)) return;
    if (!storm_settle(s, checkers_disagreement, &tally->agreed_us_max)) return;
    checkers_burst_end(s);
    checkers_end(s);
}

bool storm_run(uint64_t seed, const struct storm_plan *plan, struct storm_tally *tally, struct err_text *why)
{
    struct storm_tally own = {.events = 0};
    struct storm *s = mem_new_zero(1, sizeof *s);
    s->seed = seed;
    s->mutant = plan->mutant;
    s->loud = plan->loud;
    s->plan = *plan;
    s->tally = tally != NULL ? tally : &own;
    storm_open(s, plan);
    storm_weather(s, s->tally);
    bool fine = s->problem.text[0] == '\0';
    if (!fine)
        err_set(why, ERR_LIMIT, "seed %llu (%s, %s on %s): %.200s", (unsigned long long)seed, s->algorithm,
                s->compress, s->topology, s->problem.text);
    struct simulation_totals t;
    simulation_totals(s->sim, &t);
    s->tally->regenerated += t.algo.tokens_regenerated;
    s->tally->rebases += t.algo.rebases;
    simulation_free(s->sim);
    free(s);
    return fine;
}
