/* The storm of members: what is drawn from the seed, the cluster, and the two phases; see member_storm.h.
 *
 * Normal course
 *  - everything is drawn from the seed: places, slots, method, delays, how often which fault comes (some not at all).
 *  - faults for a while; then all is healed, the dead come back in one way or another, and the cluster has LIVENESS_US
 *    to come to rest, then, once the trainers no longer drift, to agree; then it must stay at rest.
 * Failure courses
 *  - a checker finds a problem: the storm ends at that event with the problem and its virtual time. */
#include "tests/sim/member_storm.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "net/sim/internal.h"
#include "tests/sim/counter.h"

enum {
    LIVENESS_US = 120 * MEMBER_SECOND,
    UNHEARD_US =
        180 * MEMBER_SECOND, /* more, until one is missed that nobody can dial and nobody had a link with */
    AGREE_US = 300 * MEMBER_SECOND, /* random pairs mix slowly over few edges */
    POLL_US = MEMBER_SECOND / 2,
    STAY_US = 6 * MEMBER_SECOND,
    RELAYS_PART = 5,
    KEEPER_PART = 7,
    KEEP_US = 3 * MEMBER_SECOND,
    PATIENCE_US = 6 * MEMBER_SECOND, /* links: silent after a second */
};

void member_storm_fail(struct member_storm *s, const char *format, ...)
{
    if (s->problem.text[0] != '\0') return;
    char line[ERR_TEXT_MAX - 40];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    snprintf(s->problem.text, sizeof s->problem.text, "at %.3f s: %s", (double)member_storm_now_us(s) / 1e6,
             line);
}

uint64_t member_storm_now_us(const struct member_storm *s)
{
    return s->sim == NULL ? 0 : simulation_now_us(s->sim);
}

bool member_storm_lives(const struct member_storm *s, uint32_t v)
{
    return simulation_node(s->sim, v) != NULL && !s->slot[v].leaving;
}

bool member_storm_keeps(const struct member_storm *s, uint32_t v)
{
    return v >= s->slots - s->keepers;
}

static void print_line(void *ctx, enum trace_level level, const char *text)
{
    struct member_storm *s = ctx;
    if (level == TRACE_WARN && strstr(text, "; link closed") != NULL)
        snprintf(s->refusal, sizeof s->refusal, "%s", text);
    if (level == TRACE_WARN && strstr(text, "malformed relay frame") != NULL)
        member_storm_fail(s, "%s", text);
    if (s->loud) fprintf(stderr, "%9.3f  %s\n", (double)member_storm_now_us(s) / 1e6, text);
}

/* -- trainers that count ----------------------------------------------------------------------- */

static uint32_t counter_run(struct trainer *t, const float *x, uint32_t max_steps, float *delta, double *loss)
{
    const struct counter *c = (const struct counter *)t;
    struct member_storm *s = c->owner;
    (void)x;
    memset(delta, 0, MEMBER_DIM * sizeof *delta);
    *loss = 1;
    if (!s->drifting) return max_steps;
    delta[c->place] = (float)max_steps;
    s->counted[c->place] += max_steps;
    return max_steps;
}

static int counter_new(void *ctx, uint32_t place, struct trainer **out, struct err_text *why)
{
    (void)why;
    return counter_make(counter_run, ctx, place, out);
}

/* -- what the seed says ------------------------------------------------------------------------ */

static void draw_algorithm(struct member_storm *s, const char *given)
{
    static const char *const methods[] = {
        "gossip:mode=async",
        "digest:streams=single,sync_every=10,reweigh=no",
        "gossip:mode=async",
        "digest:streams=path,sync_every=10,reweigh=no",
        "choco:gamma=0.3",
        "delicoco:q=3,gamma=0.3",
        "walk:steps=3",
        "local:every=7",
        "allreduce:every=3",
        "hsgd:periods=10-5",
        "async",
    };
    uint64_t kind = s->seed % (sizeof methods / sizeof methods[0]);
    snprintf(s->algorithm, sizeof s->algorithm, "%s", given != NULL ? given : methods[kind]);
    CHECK(algo_choose(s->algorithm, &s->algorithm_choice, &s->setup.algo, NULL) == 0);
    s->law = law_of(s->setup.algo->spec.name);
    CHECK(s->law != NULL);
    s->any_peers = algo_takes_any_peers(s->setup.algo, &s->algorithm_choice);
    s->setup.overlay = s->any_peers && s->seed % 2 == 0;
}

static void draw_world(struct member_storm *s)
{
    static const char *const topologies[] = {"ring", "regular:d=4", "er:p=0.4", "complete"};
    struct prng *p = &s->prng;
    const char *drawn = topologies[prng_below(p, 4)];
    if (s->setup.algo->links == ALGO_LINKS_ALL) drawn = "complete";
    if (s->setup.overlay) drawn = "overlay";
    s->places = 8 + prng_below(p, 5);
    if (strcmp(s->setup.algo->spec.name, "hsgd") == 0) s->places &= ~1u; /* two groups */
    s->slots = s->places + prng_below(p, MEMBER_SPARES_MAX + 1);
    s->min_nodes = s->places / 3 + prng_below(p, s->places - s->places / 3) + 1;
    snprintf(s->topology, sizeof s->topology, "%s", drawn);
    snprintf(s->latency, sizeof s->latency, "exp:mean=%ums", 2 + prng_below(p, 19));
    uint32_t step_ms = 60 + prng_below(p, 60);
    snprintf(s->step_time, sizeof s->step_time, "uniform:low=%ums,high=%ums", step_ms / 2, 2 * step_ms);
    CHECK(choice_parse(topology_table, topology_table_count, "--topology", s->topology, &s->topology_choice,
                       NULL) == 0);
    CHECK(choice_parse(latency_table, latency_table_count, "--latency", s->latency, &s->latency_choice,
                       NULL) == 0);
    CHECK(choice_parse(step_time_table, step_time_table_count, "--step-time", s->step_time,
                       &s->step_time_choice, NULL) == 0);
    s->setup.start_count = prng_below(p, 2) == 0 ? 0 : 1 + prng_below(p, s->slots);
    s->safety_us = (uint64_t)(prng_uniform(p, 20, 70) * MEMBER_SECOND);
    s->save_gap_us = (uint64_t)(prng_uniform(p, 1, 12) * MEMBER_SECOND);
    s->keepers =
        s->seed % KEEPER_PART == 3; /* nothing is drawn for it: the other seeds are what they were before */
    s->slots += s->keepers;
}

/* From a stream of its own, so that storms without relays are what they were. Slots 0 and 1 can be dialled: the others
 * begin there. */
static void draw_relays(struct member_storm *s, const struct member_plan *plan)
{
    struct prng prng;
    s->relays = s->seed % RELAYS_PART == 3 || plan->relays || (s->mutant != NULL && s->mutant->relays);
    if (!s->relays) return;
    prng_split(&prng, s->seed, "member storm relays", 0);
    for (uint32_t i = 1 + prng_below(&prng, 3); i > 0; i--)
        s->dial_only[2 + prng_below(&prng, s->slots - 2)] = true;
    s->setup.relay_bytes_s = 20000 + prng_below(&prng, 500000);
    s->setup.dial_only = s->dial_only;
}

/* -- the cluster ------------------------------------------------------------------------------- */

static void observe(void *ctx, const void *bytes, size_t size)
{
    struct member_storm *s = ctx;
    CHECK(size >= 24 && size % 8 == 0);
    s->touched |= 1u << (observed_word(bytes, 2) >> 32);
    uint64_t print = s->tally->fingerprint;
    for (size_t i = 0; i < size / 8; i++) {
        print = (print ^ observed_word(bytes, i)) * 0x9e3779b97f4a7c15u;
        print ^= print >> 29;
    }
    s->tally->fingerprint = print;
}

static void save_wanted(void *ctx, uint32_t v)
{
    member_disk_wanted(ctx, v);
}

static void storm_open(struct member_storm *s, const struct member_plan *plan)
{
    static float x0[MEMBER_DIM];
    struct err_text why = {""};
    for (uint32_t i = 0; i < MEMBER_DIM; i++) x0[i] = 1; /* nobody's model is ever zero */
    prng_split(&s->prng, s->seed, "member storm", 0);
    s->drifting = true;
    s->healed_us = TIME_NEVER;
    const char *planted = s->mutant != NULL ? s->mutant->algorithm : NULL;
    draw_algorithm(s, plan->algorithm != NULL ? plan->algorithm : planted);
    draw_world(s);
    draw_relays(s, plan);
    member_faults_init(s);
    s->trace = (struct trace){s->loud ? TRACE_DEBUG : TRACE_WARN, print_line, s};
    s->setup.node_count = s->slots;
    s->setup.places = s->places;
    s->setup.min_nodes = s->min_nodes;
    s->setup.dynamic = true;
    s->setup.keepers = s->keepers;
    s->setup.keep_every_us = KEEP_US;
    s->setup.algo_params = &s->algorithm_choice;
    s->setup.topology = &s->topology_choice;
    s->setup.latency = &s->latency_choice;
    s->setup.step_time = &s->step_time_choice;
    s->setup.seed = s->seed;
    s->setup.dim = MEMBER_DIM;
    s->setup.x0 = x0;
    s->setup.patience_us = PATIENCE_US;
    s->setup.trainer_new = counter_new;
    s->setup.ctx = s;
    s->setup.on_save = save_wanted;
    s->setup.trace = &s->trace;
    if (simulation_new(&s->setup, &s->sim, &why) != 0) check_failed(why.text, __FILE__, __LINE__);
    sim_observe(simulation_world(s->sim), observe, s);
    for (uint32_t v = 0; v < s->slots; v++) {
        s->slot[v].id = s->used[s->used_count++] = v;
        s->slot[v].seed = v > 0 ? (v - 1) / 8 : 1; /* the first dials nobody at first */
        s->slot[v].save_us = s->save_gap_us;
        if (simulation_node(s->sim, v) != NULL)
            member_checkers_begun(s, v, &(struct member_disk){.any = false});
    }
}

bool member_storm_go_on(struct member_storm *s, uint64_t until_us)
{
    while (s->problem.text[0] == '\0') {
        s->touched = 0;
        s->refusal[0] = '\0';
        if (!simulation_step(s->sim, until_us)) break;
        s->tally->events++;
        if (s->mutant != NULL && s->mutant->tamper != NULL) s->mutant->tamper(s);
        member_checkers_event(s);
        if (s->healed_us == TIME_NEVER) member_disk_save(s);
        member_disk_save_wanted(s);
        member_faults_seek(s);
    }
    if (simulation_failure(s->sim)[0] != '\0') member_storm_fail(s, "%s", simulation_failure(s->sim));
    return s->problem.text[0] == '\0';
}

/* -- phases ------------------------------------------------------------------------------------ */

/* Goes on until `unlike` answers NULL; fails with its answer when the time is up. */
static bool settle(struct member_storm *s, const char *(*unlike)(struct member_storm *s), uint64_t within_us,
                   uint64_t *took_us_max, uint64_t *seed)
{
    uint64_t since_us = member_storm_now_us(s), limit_us = since_us + within_us;
    const char *what = "";
    while (what != NULL && member_storm_now_us(s) < limit_us) {
        if (!member_storm_go_on(s, member_storm_now_us(s) + POLL_US)) return false;
        what = unlike(s);
    }
    if (what != NULL) {
        member_storm_fail(s, "for %.0f s: %s", (double)within_us / 1e6, what);
        if (s->loud) member_rest_print(s);
        return false;
    }
    uint64_t took_us = member_storm_now_us(s) - since_us;
    if (took_us > *took_us_max) {
        *took_us_max = took_us;
        *seed = s->seed;
    }
    return true;
}

static void weather(struct member_storm *s)
{
    if (!member_faults_blow(s, s->safety_us)) return;
    member_faults_heal(s);
    s->healed_us = member_storm_now_us(s);
    member_rest_begin(s);
    uint64_t within_us = LIVENESS_US + (s->relays ? UNHEARD_US : 0);
    if (!settle(s, member_rest_unrest, within_us, &s->tally->quiet_us_max, &s->tally->quiet_seed)) return;
    s->drifting = false;
    if (!settle(s, member_rest_disagreement, AGREE_US, &s->tally->agreed_us_max, &s->tally->agreed_seed))
        return;
    if (!member_storm_go_on(s, member_storm_now_us(s) + STAY_US)) return;
    uint64_t took_us = 0, seed = 0; /* who has just told of its progress is known to all in a moment */
    settle(s, member_rest_unrest, LIVENESS_US, &took_us, &seed);
}

bool member_storm_run(uint64_t seed, const struct member_plan *plan, struct member_tally *tally,
                      struct err_text *why)
{
    struct member_tally own = {.events = 0};
    struct member_storm *s = mem_new_zero(1, sizeof *s);
    s->seed = seed;
    s->mutant = plan->mutant;
    s->loud = plan->loud;
    s->tally = tally != NULL ? tally : &own;
    s->tally->fingerprint = seed;
    storm_open(s, plan);
    weather(s);
    s->tally->virtual_s += (double)member_storm_now_us(s) / 1e6;
    bool fine = s->problem.text[0] == '\0';
    if (!fine)
        err_set(why, ERR_LIMIT, "seed %llu (%s on %s%s, %u places, %u slots%s, from %u on): %.250s",
                (unsigned long long)seed, s->algorithm, s->topology, s->relays ? ", relays" : "", s->places,
                s->slots, s->keepers > 0 ? " (the last a keeper's)" : "", s->min_nodes, s->problem.text);
    simulation_free(s->sim);
    for (uint32_t v = 0; v < s->slots; v++) blob_unref(s->slot[v].disk.method);
    free(s);
    return fine;
}
