/* The faults of a storm of members (member_storm.h): single ones, drawn by weights that the seed gives; who comes back
 * reads its disk (member_disk.c). Whom a node dials when it comes is somebody who knows others, if there is one: nobody
 * finds a cluster of which no address is left to him. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/node/internal.h"
#include "base/check.h"
#include "net/sim/internal.h"
#include "tests/sim/member_storm.h"

enum {
    LEAVE_US = MEMBER_SECOND, /* from the words to the end */
    SEEK_US = 5 * MEMBER_SECOND,
    HEALED_DEAD_MAX = 4,
};

static const char *const fault_name[MEMBER_FAULT_COUNT] = {
    "crash", "back, old disk", "back, no disk", "back, new id", "leave",  "pause", "resume",
    "cut",   "cut one way",    "heal",          "reset",        "inject", "power"};

void member_faults_say(const struct member_storm *s, const char *what, uint32_t a, uint32_t b)
{
    if (s->loud) fprintf(stderr, "%9.3f  -- %s %u %u\n", (double)member_storm_now_us(s) / 1e6, what, a, b);
}

/* What happens to the network of v may keep a leave from being heard. */
void member_faults_disturbed(struct member_storm *s, uint32_t v)
{
    s->slot[v].witnesses = 0;
    for (uint32_t u = 0; u < s->slots; u++) s->slot[u].witnesses &= ~(1u << v);
}

/* -- lives ------------------------------------------------------------------------------------- */

/* What the agent's discovery does (net/discovery/discovery.h): the address that a node was given is tried again and again while
 * whoever is there is no member for it. */
void member_faults_seek(struct member_storm *s)
{
    uint64_t now_us = member_storm_now_us(s);
    if (now_us < s->seek_us) return;
    s->seek_us = now_us + SEEK_US;
    for (uint32_t v = 0; v < s->slots; v++) {
        struct member_slot *slot = &s->slot[v];
        if (!member_storm_lives(s, v) || slot->paused || slot->seed == v) continue;
        struct node *n = simulation_node(s->sim, v);
        const struct member *m = membership_find(n->membership, s->slot[slot->seed].id);
        bool known = m != NULL && m->state != MEMBER_LEFT; /* the dead are membership's to dial */
        char address[32];
        snprintf(address, sizeof address, "sim:%u", slot->seed);
        if (known == slot->seeking) (known ? node_unseek : node_seek)(n, address);
        slot->seeking = !known;
    }
}

/* Of those who are there one that knows most; else anybody but v. */
static uint32_t draw_seed(struct member_storm *s, uint32_t v)
{
    uint32_t first = prng_below(&s->prng, s->slots), found = (v + 1) % s->slots, most = 0;
    while (s->dial_only[found] || found == v) found = (found + 1) % s->slots;
    for (uint32_t i = 0; i < s->slots; i++) {
        uint32_t u = (first + i) % s->slots;
        if (u == v || s->dial_only[u] || !member_storm_lives(s, u)) continue;
        uint32_t known = simulation_node(s->sim, u)->places.living;
        if (known <= most) continue;
        most = known;
        found = u;
    }
    return found;
}

static node_id draw_id(struct member_storm *s)
{
    CHECK(s->used_count < MEMBER_IDS_MAX);
    node_id id = 0;
    bool fresh = false;
    while (!fresh) {
        id = prng_below(&s->prng, 2) == 0 ? prng_below(&s->prng, 1000000) : prng_next(&s->prng) >> 8;
        fresh = true;
        for (uint32_t i = 0; i < s->used_count; i++) fresh &= s->used[i] != id;
    }
    s->used[s->used_count++] = id;
    return id;
}

static void begin_life(struct member_storm *s, uint32_t v, enum member_fault how)
{
    struct member_slot *slot = &s->slot[v];
    struct err_text why = {""};
    if (how == MEMBER_BACK_NEW_ID && s->used_count < MEMBER_IDS_MAX) slot->id = draw_id(s);
    struct member_disk from = {.any = false};
    if (how == MEMBER_BACK_OLD_DISK && slot->disk.any && slot->disk.id == slot->id) from = slot->disk;
    slot->disk.any = from.any;
    if (!from.any) {
        blob_unref(slot->disk.method);
        slot->disk.method = NULL;
    }
    slot->seed = draw_seed(s, v);
    slot->seeking = false;
    struct simulation_life life = {.id = slot->id, .seed = slot->seed};
    bool wrong_claim = s->mutant != NULL && s->mutant->forgets_claim;
    bool wrong_steps = s->mutant != NULL && s->mutant->forgets_steps;
    if (from.any) {
        life.x0 = from.x;
        life.method = from.method;
        life.steps = wrong_steps ? 0 : from.steps;
        life.incarnation = from.incarnation;
        life.had_place = from.had_place;
        life.place = from.place;
        life.claimed = wrong_claim ? 0 : from.claimed;
    }
    member_checkers_begun(s, v, &from);
    slot->save_us = member_storm_now_us(s) + s->save_gap_us;
    if (simulation_join(s->sim, v, &life, &why) != 0)
        member_storm_fail(s, "slot %u cannot start: %s", v, why.text);
}

static void end_life(struct member_storm *s, uint32_t v, bool reset)
{
    struct member_slot *slot = &s->slot[v];
    if (simulation_node(s->sim, v) == NULL) return;
    if (slot->leaving && member_storm_now_us(s) >= slot->gone_us) member_checkers_left(s, v);
    member_faults_disturbed(s, v);
    member_checkers_ended(s, v);
    slot->paused = slot->leaving = slot->save_now = false;
    simulation_crash(s->sim, v, reset);
}

static uint32_t count_living(const struct member_storm *s)
{
    uint32_t living = 0;
    for (uint32_t v = 0; v < s->slots; v++) living += member_storm_lives(s, v);
    return living;
}

static bool may_go(const struct member_storm *s, uint32_t v)
{
    return member_storm_lives(s, v) && count_living(s) > s->slots / 3 + 1;
}

/* Whom the words of v should reach: linked both ways, directly (what is on its way when such a link replaces a relayed
 * one is lost), over a network without faults. */
static uint32_t find_witnesses(const struct member_storm *s, uint32_t v)
{
    struct sim_world *w = simulation_world(s->sim);
    const struct node *n = simulation_node(s->sim, v);
    uint32_t witnesses = 0;
    for (uint32_t u = 0; u < s->slots; u++) {
        if (u == v || !member_storm_lives(s, u) || s->slot[u].paused) continue;
        const struct sim_pair *p = sim_pair_get(w, v, u);
        bool clean =
            p->live && !p->end[0].cut && !p->end[1].cut && p->end[0].shape == NULL && p->end[1].shape == NULL;
        const struct node *other = simulation_node(s->sim, u);
        const struct link *to = node_link_of(n, s->slot[u].id), *from = node_link_of(other, s->slot[v].id);
        bool direct = to != NULL && from != NULL && !to->relayed && !from->relayed;
        if (clean && direct && membership_find(other->membership, s->slot[v].id) != NULL)
            witnesses |= 1u << u;
    }
    return witnesses;
}

static void leave(struct member_storm *s, uint32_t v)
{
    struct member_slot *slot = &s->slot[v];
    if (!may_go(s, v) || slot->paused) return;
    slot->witnesses = find_witnesses(s, v);
    slot->leaving = true;
    slot->gone_us = member_storm_now_us(s) + LEAVE_US;
    if (s->mutant == NULL || !s->mutant->leaves_in_silence) simulation_leave(s->sim, v);
}

static void leavers_go(struct member_storm *s)
{
    for (uint32_t v = 0; v < s->slots; v++)
        if (s->slot[v].leaving && s->slot[v].gone_us <= member_storm_now_us(s)) end_life(s, v, true);
}

static uint64_t leavers_due_us(const struct member_storm *s)
{
    uint64_t at_us = TIME_NEVER;
    for (uint32_t v = 0; v < s->slots; v++)
        if (s->slot[v].leaving && s->slot[v].gone_us < at_us) at_us = s->slot[v].gone_us;
    return at_us;
}

/* The power goes and comes back: everybody with what was saved, in random order, all dialling the first. A keeper that
 * is there stays, and in half the cases is all that is left of the model. */
static void power(struct member_storm *s)
{
    bool kept = s->keepers > 0 && member_storm_lives(s, s->slots - 1);
    uint32_t go = kept ? s->slots - 1 : s->slots;
    for (uint32_t v = 0; v < go; v++) s->slot[v].witnesses = 0; /* who leaves has no time to say so */
    for (uint32_t v = 0; v < go; v++) end_life(s, v, prng_below(&s->prng, 2) == 0);
    uint32_t first = prng_below(&s->prng, go);
    bool disks = !kept || prng_below(&s->prng, 2) == 0;
    for (uint32_t i = 0; i < go; i++)
        begin_life(s, (first + i) % go, disks ? MEMBER_BACK_OLD_DISK : MEMBER_BACK_NO_DISK);
}

/* -- single faults ----------------------------------------------------------------------------- */

static void pause_or_resume(struct member_storm *s, uint32_t v, bool pause)
{
    struct member_slot *slot = &s->slot[v];
    if (!member_storm_lives(s, v) || slot->paused == pause) return;
    slot->paused = pause;
    member_faults_disturbed(s, v);
    if (pause) {
        sim_pause(simulation_world(s->sim), v);
    } else {
        sim_resume(simulation_world(s->sim), v);
        member_checkers_resumed(s, v);
    }
}

static void inject(struct member_storm *s, uint32_t a, uint32_t b)
{
    struct prng *p = &s->prng;
    struct fault_rule r = {.kind = (enum fault_kind)prng_below(p, FAULT_KIND_COUNT),
                           .direction = (enum fault_direction)(1 + prng_below(p, 3)),
                           .any = prng_below(p, 3) == 0,
                           .peer = s->slot[b].id,
                           .for_us = (uint64_t)(prng_uniform(p, 0.2, 15) * MEMBER_SECOND)};
    if (r.kind == FAULT_DELAY) {
        r.delay_us = 1000 + prng_below(p, 700000);
        r.jitter_us = prng_below(p, (uint32_t)r.delay_us);
    }
    if (r.kind == FAULT_LIMIT) r.bytes_s = 2000 + prng_below(p, 100000);
    if (r.kind == FAULT_CORRUPT) r.one_in = 2000 + prng_below(p, 200000);
    if (r.kind == FAULT_RESET) r.direction = FAULT_BOTH;
    if (r.any) r.peer = 0;
    if (!member_storm_lives(s, a)) return;
    struct transport *t = simulation_transport(s->sim, a);
    if (t->ops->inject(t, &r) < 0) return;
    s->tally->injected[r.kind]++;
    for (uint32_t v = 0; v < s->slots; v++) member_faults_disturbed(s, v);
    if (s->loud) {
        char text[FAULT_TEXT_MAX];
        fault_rule_print(&r, text);
        fprintf(stderr, "              %s\n", text);
    }
}

static void inflict(struct member_storm *s, enum member_fault fault, uint32_t a, uint32_t b)
{
    struct sim_world *w = simulation_world(s->sim);
    bool of_link = fault >= MEMBER_CUT && fault <= MEMBER_RESET;
    member_faults_say(s, fault_name[fault], a, b);
    s->tally->fault[fault]++;
    if (of_link) {
        member_faults_disturbed(s, a);
        member_faults_disturbed(s, b);
    }
    switch (fault) {
    case MEMBER_CRASH:
        if (may_go(s, a)) end_life(s, a, prng_below(&s->prng, 2) == 0);
        break;
    case MEMBER_BACK_OLD_DISK:
    case MEMBER_BACK_NO_DISK:
    case MEMBER_BACK_NEW_ID:
        if (simulation_node(s->sim, a) == NULL) begin_life(s, a, fault);
        break;
    case MEMBER_LEAVE:
        leave(s, a);
        break;
    case MEMBER_PAUSE:
    case MEMBER_RESUME:
        pause_or_resume(s, a, fault == MEMBER_PAUSE);
        break;
    case MEMBER_CUT:
        sim_cut(w, a, b);
        break;
    case MEMBER_CUT_ONE_WAY:
        sim_cut_one_way(w, a, b);
        break;
    case MEMBER_HEAL:
        sim_heal(w, a, b);
        break;
    case MEMBER_RESET:
        sim_reset_link(w, a, b);
        break;
    case MEMBER_INJECT:
        inject(s, a, b);
        break;
    case MEMBER_POWER:
        power(s);
        break;
    case MEMBER_FAULT_COUNT:
        UNREACHABLE();
    }
}

static enum member_fault draw_fault(struct member_storm *s)
{
    double sum = 0;
    for (int k = 0; k < MEMBER_FAULT_COUNT; k++) sum += s->fault_weight[k];
    double at = prng_unit(&s->prng) * sum;
    int kind = 0;
    while (kind < MEMBER_FAULT_COUNT - 1 && at >= s->fault_weight[kind]) at -= s->fault_weight[kind++];
    return (enum member_fault)kind;
}

static uint32_t draw_victim(struct member_storm *s, enum member_fault fault)
{
    uint32_t v = prng_below(&s->prng, s->slots);
    bool back = fault >= MEMBER_BACK_OLD_DISK && fault <= MEMBER_BACK_NEW_ID;
    for (uint32_t i = 0; (back || fault == MEMBER_RESUME) && i < s->slots; i++) {
        uint32_t u = (v + i) % s->slots;
        if (back ? simulation_node(s->sim, u) == NULL : s->slot[u].paused) return u;
    }
    return v;
}

/* -- the whole --------------------------------------------------------------------------------- */

void member_faults_init(struct member_storm *s)
{
    struct prng *p = &s->prng;
    for (int k = 0; k < MEMBER_FAULT_COUNT; k++)
        s->fault_weight[k] = prng_below(p, 4) == 0 ? 0 : 0.2 + prng_unit(p);
    for (int k = MEMBER_BACK_OLD_DISK; k <= MEMBER_BACK_NEW_ID; k++)
        s->fault_weight[k] = 0.1 + 0.6 * prng_unit(p);
    s->fault_weight[MEMBER_RESUME] = 0.3 + prng_unit(p);
    s->fault_weight[MEMBER_HEAL] = 0.5 + 2 * prng_unit(p);
    s->fault_weight[MEMBER_POWER] = prng_below(p, 3) == 0 ? 0.1 : 0;
    if (s->keepers > 0) s->fault_weight[MEMBER_POWER] = 0.3; /* what keepers are for */
    s->fault_gap_us = prng_uniform(p, 0.2, 4.0) * MEMBER_SECOND;
    member_shapes_init(s);
}

static bool go_on_to(struct member_storm *s, uint64_t at_us)
{
    for (;;) {
        uint64_t shape_us = member_shapes_due_us(s), leave_us = leavers_due_us(s);
        uint64_t next_us = shape_us < leave_us ? shape_us : leave_us;
        if (next_us > at_us) return member_storm_go_on(s, at_us);
        if (!member_storm_go_on(s, next_us)) return false;
        leavers_go(s);
        if (shape_us <= leave_us) member_shapes_act(s);
    }
}

bool member_faults_blow(struct member_storm *s, uint64_t until_us)
{
    uint64_t at_us = (uint64_t)MEMBER_SECOND;
    while (at_us < until_us) {
        if (!go_on_to(s, at_us)) return false;
        enum member_fault fault = draw_fault(s);
        uint32_t a = draw_victim(s, fault);
        inflict(s, fault, a, (a + 1 + prng_below(&s->prng, s->slots - 1)) % s->slots);
        at_us += 1 + (uint64_t)prng_exponential(&s->prng, s->fault_gap_us);
    }
    return go_on_to(s, until_us);
}

/* The slot may stay dead: nobody who is alone knows only it, and there are enough for all places; of a graph that
 * heals, enough to found the experiment. */
static bool may_stay_dead(struct member_storm *s, uint32_t v, uint32_t dead)
{
    bool heals = s->any_peers && !s->setup.overlay;
    uint32_t least = heals ? s->min_nodes : s->places;
    for (uint32_t u = 0; u < s->slots; u++)
        if (s->slot[u].seed == v && u != v) return false;
    if (member_storm_keeps(s, v)) return false;
    return dead < (heals ? HEALED_DEAD_MAX : 1) && s->slots - s->keepers - dead - 1 >= least &&
           prng_below(&s->prng, 2) == 0;
}

/* A graph that heals is to have something to heal: some die with the last fault. */
static uint32_t last_deaths(struct member_storm *s)
{
    uint32_t dead = 0;
    for (uint32_t i = 0; s->any_peers && !s->setup.overlay && i < 2; i++) {
        uint32_t v = prng_below(&s->prng, s->slots);
        if (simulation_node(s->sim, v) == NULL || !may_stay_dead(s, v, dead)) continue;
        end_life(s, v, true);
        s->slot[v].stays_dead = true;
        dead++;
    }
    return dead;
}

static bool knows_of(const struct member_storm *s, uint32_t v, uint32_t u)
{
    const struct member *m = membership_find(node_membership(simulation_node(s->sim, v)), s->slot[u].id);
    return s->slot[v].seed == u || (m != NULL && m->state != MEMBER_LEFT);
}

/* Bit u: whom v comes to know of through those that it knows of, and that know of it. */
static uint32_t find_island(const struct member_storm *s, uint32_t v)
{
    uint32_t island = 1u << v, before = 0;
    while (island != before) {
        before = island;
        for (uint32_t a = 0; a < s->slots; a++)
            for (uint32_t b = 0; b < s->slots; b++) {
                bool both = a != b && member_storm_lives(s, a) && member_storm_lives(s, b);
                if (both && (island >> a & 1) != 0 && (knows_of(s, a, b) || knows_of(s, b, a)))
                    island |= 1u << b;
            }
    }
    return island;
}

/* Islands that have lost all that knew of both are told of each other, as by who runs them. */
static void join_islands(struct member_storm *s)
{
    uint32_t first = 0;
    while (s->dial_only[first] || !member_storm_lives(s, first)) first++;
    for (uint32_t v = 0; v < s->slots; v++) {
        if (!member_storm_lives(s, v) || (find_island(s, first) >> v & 1) != 0) continue;
        char address[32];
        snprintf(address, sizeof address, "sim:%u", s->slot[v].seed);
        if (s->slot[v].seeking) node_unseek(simulation_node(s->sim, v), address);
        s->slot[v].seeking = false; /* until the next look */
        s->slot[v].seed = first;
    }
}

void member_faults_heal(struct member_storm *s)
{
    for (uint32_t v = 0; v < s->slots; v++) {
        s->slot[v].witnesses = 0; /* too soon to say */
        if (s->slot[v].leaving) end_life(s, v, true);
        pause_or_resume(s, v, false);
        struct transport *t = simulation_transport(s->sim, v);
        if (t != NULL) t->ops->heal(t, 0);
    }
    sim_heal_all(simulation_world(s->sim));
    uint32_t dead = last_deaths(s);
    for (uint32_t v = 0; v < s->slots; v++) {
        if (simulation_node(s->sim, v) != NULL || s->slot[v].stays_dead) continue;
        if (may_stay_dead(s, v, dead))
            dead++;
        else
            begin_life(s, v, (enum member_fault)(MEMBER_BACK_OLD_DISK + prng_below(&s->prng, 3)));
    }
    join_islands(s);
    member_faults_say(s, "all healed", count_living(s), s->places);
}
