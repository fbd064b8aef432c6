/* Injected faults of one node's transport in the simulated world (transport.h, clauses 12 to 15).
 *
 * Normal course
 *  - inject puts a rule into the node's set; the shapes of the directions it concerns are made anew, and its
 *    end is an event. heal, that event, a crash and a closed transport end rules the same way.
 *  - delay and jitter add to the drawn delay of each message that is sent meanwhile, of both ends' rules; limit
 *    lowers the bandwidth. Lanes stay in order as ever (sim/link.c).
 *  - drop: the direction is cut, as by sim_cut.
 * Failure courses, which are what this is for
 *  - half_open: the direction is cut and what comes to its end there is lost; the link is reset at the end.
 *  - reset: both ends go down now, and every try to make a link fails.
 *  - corrupt: the message with the next corrupt byte ends the link at its receiver, as its checksum would.
 *
 * What is simplified: making a link takes no longer under delay; delay and limit are those of the moment a
 * message is sent, and end for what is sent later. */
#include <stdlib.h>

#include "base/check.h"
#include "net/sim/internal.h"

/* -- shapes ------------------------------------------------------------------------------------ */

static const struct fault_set *faults_of(const struct sim_world *w, uint32_t v)
{
    static const struct fault_set none = {0};
    return w->node[v].transport != NULL ? &w->node[v].transport->faults : &none;
}

static node_id id_of(const struct sim_world *w, uint32_t v)
{
    return w->node[v].transport != NULL ? w->node[v].transport->config.id : v;
}

/* What the rules of both ends do to the direction that leaves `side`. */
static void shape_make(const struct sim_world *w, struct sim_pair *p, uint32_t side)
{
    struct sim_end *e = &p->end[side];
    uint32_t from = p->node[side], to = p->node[1 - side];
    node_id sender = id_of(w, from), receiver = id_of(w, to);
    struct fault_effect of_sender, of_receiver;
    fault_set_match(faults_of(w, from), &receiver, FAULT_OUT, &of_sender);
    fault_set_match(faults_of(w, to), &sender, FAULT_IN, &of_receiver);
    if (fault_effect_none(&of_sender) && fault_effect_none(&of_receiver)) {
        free(e->shape);
        e->shape = NULL;
        return;
    }
    if (e->shape == NULL) e->shape = mem_new_zero(1, sizeof *e->shape);
    struct sim_shape *s = e->shape;
    s->of_sender = of_sender;
    s->of_receiver = of_receiver;
    s->blocked = fault_effect_block(&of_sender) != NULL || fault_effect_block(&of_receiver) != NULL;
    bool drop = of_sender.by[FAULT_DROP] != NULL || of_receiver.by[FAULT_DROP] != NULL;
    s->swallower = drop ? NULL : of_sender.by[FAULT_HALF_OPEN];
}

static struct fault_status *reset_rule(const struct sim_pair *p)
{
    for (uint32_t side = 0; side < 2; side++) {
        const struct sim_shape *s = p->end[side].shape;
        if (s == NULL) continue;
        if (s->of_sender.by[FAULT_RESET] != NULL) return s->of_sender.by[FAULT_RESET];
        if (s->of_receiver.by[FAULT_RESET] != NULL) return s->of_receiver.by[FAULT_RESET];
    }
    return NULL;
}

void sim_shape_held(struct sim_end *from)
{
    const struct sim_shape *s = from->shape;
    struct fault_status *f = fault_effect_block(&s->of_sender);
    if (f == NULL) f = fault_effect_block(&s->of_receiver);
    if (f != NULL) f->counts.bytes_held += from->queue_bytes;
}

void sim_inject_look(struct sim_world *w, struct sim_pair *p)
{
    bool torn = false, freed = false;
    for (uint32_t side = 0; side < 2; side++) {
        struct sim_end *from = &p->end[side];
        bool was_blocked = from->shape != NULL && from->shape->blocked;
        bool was_torn = from->shape != NULL && from->shape->torn;
        if (was_blocked) sim_shape_held(from);
        shape_make(w, p, side);
        bool is_blocked = from->shape != NULL && from->shape->blocked;
        bool swallows = from->shape != NULL && from->shape->swallower != NULL;
        torn = torn || (was_torn && !swallows);
        freed = freed || (was_blocked && !is_blocked);
        bool cut = is_blocked || p->end[1 - side].cut_asked;
        if (cut != p->end[1 - side].cut) sim_direction_cut(w, p, 1 - side, cut);
    }
    struct fault_status *reset = reset_rule(p);
    bool linked = p->end[0].state == END_UP || p->end[1].state == END_UP || p->live;
    if (linked && reset != NULL) reset->counts.links_reset++;
    if (linked && (reset != NULL || torn)) sim_pair_reset(w, p, DOWN_RESET);
    if (freed) sim_pair_resume(w, p);
}

/* -- what they do ------------------------------------------------------------------------------ */

static uint64_t draw_us(struct sim_end *from, const struct fault_status *f)
{
    if (f == NULL) return 0;
    double delay_us = (double)f->rule.delay_us;
    if (f->rule.jitter_us > 0) delay_us += (double)f->rule.jitter_us * prng_uniform(&from->chance, -1, 1);
    return delay_us > 0 ? (uint64_t)delay_us : 0;
}

uint64_t sim_shape_delay_us(struct sim_end *from, uint64_t bytes)
{
    const struct sim_shape *s = from->shape;
    const struct fault_effect *both[2] = {&s->of_sender, &s->of_receiver};
    uint64_t delay_us = 0;
    for (unsigned i = 0; i < 2; i++) {
        struct fault_status *delay = both[i]->by[FAULT_DELAY], *limit = both[i]->by[FAULT_LIMIT];
        if (delay != NULL) delay->counts.bytes_slowed += bytes;
        if (limit != NULL) limit->counts.bytes_slowed += bytes;
        delay_us += draw_us(from, delay);
    }
    return delay_us;
}

uint64_t sim_shape_rate(const struct sim_end *from, uint64_t rate)
{
    const struct fault_effect *both[2] = {&from->shape->of_sender, &from->shape->of_receiver};
    for (unsigned i = 0; i < 2; i++) {
        const struct fault_status *limit = both[i]->by[FAULT_LIMIT];
        if (limit != NULL && (rate == 0 || limit->rule.bytes_s < rate)) rate = limit->rule.bytes_s;
    }
    return rate;
}

static uint64_t draw_noise(struct sim_end *from, const struct fault_status *f)
{
    uint64_t span = f->rule.one_in < UINT32_MAX / 2 ? 2 * f->rule.one_in - 1 : UINT32_MAX;
    return 1 + prng_below(&from->chance, (uint32_t)span);
}

bool sim_shape_corrupts(struct sim_end *from, uint64_t bytes)
{
    struct sim_shape *s = from->shape;
    struct fault_status *both[2] = {s->of_sender.by[FAULT_CORRUPT], s->of_receiver.by[FAULT_CORRUPT]};
    bool corrupt = false;
    for (unsigned i = 0; i < 2; i++) {
        if (both[i] == NULL) continue;
        if (s->noise[i] != both[i] || s->noise_in[i] == 0) s->noise_in[i] = draw_noise(from, both[i]);
        s->noise[i] = both[i];
        if (s->noise_in[i] > bytes) {
            s->noise_in[i] -= bytes;
            continue;
        }
        s->noise_in[i] = 0;
        both[i]->counts.bytes_corrupted++;
        corrupt = true;
    }
    return corrupt;
}

void sim_shape_swallow(struct sim_end *from, uint64_t bytes)
{
    from->shape->torn = true;
    from->shape->swallower->counts.bytes_swallowed += bytes;
}

bool sim_inject_refuses(struct sim_pair *p)
{
    struct fault_status *f = reset_rule(p);
    if (f != NULL) f->counts.links_reset++;
    return f != NULL;
}

/* -- rules ------------------------------------------------------------------------------------- */

static void look_all(struct sim_world *w, uint32_t v)
{
    const struct sim_node *node = &w->node[v];
    for (uint32_t i = 0; i < node->pair_count; i++) sim_inject_look(w, w->pair[node->pair[i]]);
}

/* The pairs that a rule concerns, when that is one known node; else all. */
static void look_for(struct sim_world *w, uint32_t v, const struct fault_rule *r)
{
    bool one =
        !r->any && r->peer < w->options.node_count && r->peer != v && id_of(w, (uint32_t)r->peer) == r->peer;
    if (one)
        sim_inject_look(w, sim_pair_get(w, v, (uint32_t)r->peer));
    else
        look_all(w, v);
}

static void say_ended(const struct sim_world *w, uint32_t v, const struct fault_status *f)
{
    char text[FAULT_TEXT_MAX], did[FAULT_TEXT_MAX];
    fault_rule_print(&f->rule, text);
    fault_counts_print(&f->counts, did);
    trace_line(w->options.trace, TRACE_DEBUG, "sim: node %u: fault %d ends: %s; %s", v, f->id, text, did);
}

int sim_inject(struct sim_transport *t, const struct fault_rule *rule)
{
    struct sim_world *w = t->world;
    char text[FAULT_TEXT_MAX];
    if (fault_rule_check(rule, NULL) != 0) return ERR_USAGE;
    int id = fault_set_add(&t->faults, rule, w->now_us);
    if (id < 0) return id;
    fault_rule_print(rule, text);
    trace_line(w->options.trace, TRACE_DEBUG, "sim: node %u: fault %d begins: %s", t->node, id, text);
    uint64_t until_us = t->faults.each[t->faults.count - 1]->until_us;
    if (until_us != TIME_NEVER) sim_schedule(w, until_us, SIM_FAULT, t->node, 0, 0);
    look_for(w, t->node, rule);
    return id;
}

int sim_inject_heal(struct sim_transport *t, int id)
{
    int healed = 0;
    for (const struct fault_status *f; (f = fault_set_heal(&t->faults, id)) != NULL; healed++) {
        look_for(t->world, t->node, &f->rule);
        say_ended(t->world, t->node, f);
    }
    return healed;
}

bool sim_inject_event(struct sim_world *w, uint32_t v)
{
    struct sim_transport *t = w->node[v].transport;
    if (t == NULL) return false;
    for (const struct fault_status *f; (f = fault_set_expire(&t->faults, w->now_us)) != NULL;) {
        look_for(w, v, &f->rule);
        say_ended(w, v, f);
    }
    return false; /* nobody is called */
}

void sim_inject_end(struct sim_world *w, uint32_t v)
{
    struct sim_transport *t = w->node[v].transport;
    if (t == NULL || t->faults.live == 0) return;
    while (fault_set_heal(&t->faults, 0) != NULL) continue;
    look_all(w, v);
}

uint32_t sim_inject_list(const struct sim_transport *t, struct fault_status *out, uint32_t max)
{
    const struct sim_world *w = t->world;
    const struct sim_node *node = &w->node[t->node];
    uint32_t count = fault_set_list(&t->faults, out, max);
    for (uint32_t i = 0; i < node->pair_count; i++)
        for (uint32_t side = 0; side < 2; side++) {
            const struct sim_end *from = &w->pair[node->pair[i]]->end[side];
            bool own = w->pair[node->pair[i]]->node[side] == t->node;
            if (from->shape == NULL) continue;
            const struct fault_status *f =
                fault_effect_block(own ? &from->shape->of_sender : &from->shape->of_receiver);
            for (uint32_t k = 0; k < count && f != NULL; k++)
                if (out[k].id == f->id) out[k].counts.bytes_held += from->queue_bytes;
        }
    return count;
}
