/* The harness at work: sending, training, stepping, links, delivery, disturbances. */
#include <string.h>

#include "base/check.h"
#include "tests/unit/algo_harness_internal.h"

/* -- graph ------------------------------------------------------------------------------------- */

/* Position of `peer` among the neighbours of v, or UINT32_MAX. */
static uint32_t position_of(const struct graph *g, rank_t v, rank_t peer)
{
    for (uint32_t i = g->offset[v]; i < g->offset[v + 1]; i++)
        if (g->neighbour[i] == peer) return i;
    return UINT32_MAX;
}

/* What `receiver` gets from, and knows about, its neighbour `peer`. */
static struct direction *direction_of(struct harness *h, rank_t receiver, rank_t peer)
{
    CHECK(receiver < h->graph->node_count && peer < h->graph->node_count);
    uint32_t i = position_of(h->graph, receiver, peer);
    CHECK(i != UINT32_MAX); /* neighbours only */
    return &h->direction[i];
}

static struct edge *edge_of(struct harness *h, rank_t a, rank_t b)
{
    return &h->edge[direction_of(h, a, b)->edge];
}

/* -- sending ----------------------------------------------------------------------------------- */

static void push(struct harness *h, struct harness_item *item)
{
    item->sequence = h->sequence++;
    item->incarnation = h->instance[item->rank].incarnation;
    harness_queue_push(&h->queue, item);
}

/* Time at which something sent now arrives, behind what its lane (both: a link event) already carries. */
static uint64_t arrival(struct harness *h, struct direction *d, bool control, bool bulk)
{
    uint32_t span = (uint32_t)(h->delay_high_us - h->delay_low_us + 1);
    uint64_t time = h->now_us + h->delay_low_us + prng_below(&h->random, span);
    if (time < d->control_us) time = d->control_us; /* bulk never overtakes control */
    if (bulk && time < d->bulk_us) time = d->bulk_us;
    if (control) d->control_us = time;
    if (bulk) d->bulk_us = time;
    return time;
}

static bool drop_wanted(struct harness *h, rank_t from, rank_t to, uint8_t kind)
{
    for (size_t i = 0; i < h->drop_count; i++) {
        if (h->drop[i].from != from || h->drop[i].to != to || h->drop[i].kind != kind) continue;
        h->drop[i] = h->drop[--h->drop_count];
        return true;
    }
    return false;
}

static void send_out(struct harness *h, rank_t from, rank_t to, const struct algo_msg *m)
{
    struct direction *seen = direction_of(h, from, to), *way = direction_of(h, to, from);
    struct edge *edge = &h->edge[seen->edge];
    CHECK(m->field_count <= ALGO_FIELD_MAX && m->bits_size <= ALGO_BITS_MAX);
    CHECK(m->vec == NULL || m->vec->size == h->dim * sizeof(float));
    CHECK_IMPLIES(m->bits_size > 0, m->bits != NULL);
    CHECK(m->vec == NULL || m->packed == NULL);
    h->sent[m->kind]++;
    h->sent_vectors += m->vec != NULL;
    bool dropped = drop_wanted(h, from, to, m->kind);
    bool lost = dropped || !seen->up || !edge->up || seen->epoch != edge->epoch;
    harness_trace_msg(h, lost ? "loses to" : "to", from, to, m);
    if (lost) {
        h->lost++;
        return;
    }
    struct harness_item item = {.kind = ALGO_MESSAGE, .rank = to, .peer = from, .msg = *m};
    item.epoch = edge->epoch;
    bool bulk = m->vec != NULL || m->packed != NULL;
    item.time_us = arrival(h, way, !bulk, bulk);
    item.msg.bits = NULL;
    if (m->bits_size > 0) {
        uint8_t *bits = mem_new(m->bits_size, 1);
        memcpy(bits, m->bits, m->bits_size);
        item.msg.bits = bits;
    }
    blob_ref(item.msg.vec);
    blob_ref(item.msg.packed);
    push(h, &item);
    h->in_flight++;
}

/* -- training ---------------------------------------------------------------------------------- */

static uint32_t train_counting(struct harness *h, rank_t r, uint32_t max_steps, float *delta)
{
    uint32_t steps = max_steps < h->job_steps_max ? max_steps : h->job_steps_max;
    delta[r % h->dim] += (float)steps;
    return steps;
}

static void job_schedule(struct harness *h, rank_t r)
{
    struct instance *in = &h->instance[r];
    struct harness_item item = {.kind = ALGO_TRAINED, .rank = r, .number = in->job_steps};
    item.time_us = h->now_us + in->step_us * in->job_steps;
    push(h, &item);
}

static void job_start(struct harness *h, rank_t r, const struct algo_action *a)
{
    struct instance *in = &h->instance[r];
    CHECK(!in->job_open); /* at most one TRAIN is outstanding */
    CHECK(a->max_steps > 0);
    in->job_open = true;
    memcpy(in->job_x, a->x, h->dim * sizeof *in->job_x);
    memset(in->job_delta, 0, h->dim * sizeof *in->job_delta);
    in->job_steps = h->train != NULL ? h->train(h->train_ctx, r, in->job_x, a->max_steps, in->job_delta)
                                     : train_counting(h, r, a->max_steps, in->job_delta);
    CHECK(in->job_steps >= 1 && in->job_steps <= a->max_steps);
    job_schedule(h, r);
}

/* -- stepping ---------------------------------------------------------------------------------- */

static void deadline_schedule(struct harness *h, rank_t r)
{
    struct instance *in = &h->instance[r];
    uint64_t wanted = h->type->deadline_us(in->algo);
    if (wanted == in->deadline_us) return;
    in->deadline_us = wanted;
    in->deadline_generation++;
    if (wanted == TIME_NEVER) return;
    struct harness_item item = {.kind = ALGO_DEADLINE, .rank = r, .number = in->deadline_generation};
    item.time_us = wanted > h->now_us ? wanted : h->now_us;
    push(h, &item);
}

static int step_instance(struct harness *h, rank_t r, const struct algo_event *event)
{
    struct instance *in = &h->instance[r];
    harness_trace_event(h, r, event);
    int err = h->type->step(in->algo, event, &h->acts);
    CHECK_IMPLIES(err != 0, err == ERR_PROTO && h->acts.count == 0);
    for (size_t i = 0; i < h->acts.count; i++) {
        const struct algo_action *a = &h->acts.item[i];
        switch (a->kind) {
        case ALGO_SEND:
            if (a->durable) harness_save(h, r, false);
            send_out(h, r, a->to, &a->msg);
            break;
        case ALGO_TRAIN:
            job_start(h, r, a);
            break;
        }
    }
    algo_actions_clear(&h->acts);
    deadline_schedule(h, r);
    if (h->hook != NULL) h->hook(h->hook_ctx, h, r, event);
    return err;
}

static void instance_start(struct harness *h, rank_t r, bool rejoining, const float *own,
                           const struct blob *state)
{
    struct instance *in = &h->instance[r];
    CHECK(in->algo == NULL);
    struct algo_config config = {.rank = r,
                                 .node_count = h->graph->node_count,
                                 .graph = h->graph,
                                 .weight = h->weight,
                                 .dim = h->dim,
                                 .x0 = own != NULL ? own : h->x0,
                                 .start = own != NULL ? h->x0 : NULL,
                                 .seed = h->seed,
                                 .patience_us = h->patience_us,
                                 .compress = h->compressed ? &h->compress : NULL,
                                 .site = h->site,
                                 .tensor = h->tensor,
                                 .tensor_count = h->tensor_count,
                                 .rejoining = rejoining,
                                 .life = in->incarnation + 1};
    struct err_text why = {""};
    int err = algo_create(h->type, &config, &h->params, &in->algo, &why);
    if (err != 0) check_failed(why.text, __FILE__, __LINE__);
    if (state != NULL) err = algo_state_restore(h->type, in->algo, h->dim, state->data, state->size, &why);
    if (err != 0) check_failed(why.text, __FILE__, __LINE__);
    in->incarnation++;
    in->deadline_us = TIME_NEVER;
    struct algo_event start = {.kind = ALGO_START, .now_us = h->now_us, .peer = RANK_NONE};
    CHECK(step_instance(h, r, &start) == 0);
}

/* -- links ------------------------------------------------------------------------------------- */

/* Tells r, if it lives, that its link to peer came or went. */
static void link_tell(struct harness *h, rank_t r, rank_t peer, enum algo_event_kind kind)
{
    struct direction *d = direction_of(h, r, peer);
    if (h->instance[r].algo == NULL) return;
    struct harness_item item = {.kind = kind, .rank = r, .peer = peer, .epoch = h->edge[d->edge].epoch};
    item.number = h->instance[peer].incarnation;
    item.time_us = arrival(h, d, true, true);
    push(h, &item);
}

/* Brings the link to the state that the wishes and the living ask for. */
static void link_settle(struct harness *h, rank_t a, rank_t b)
{
    struct edge *edge = edge_of(h, a, b);
    bool up = edge->wanted && h->instance[a].algo != NULL && h->instance[b].algo != NULL;
    if (up == edge->up) return;
    edge->up = up;
    if (up) edge->epoch++;
    link_tell(h, a, b, up ? ALGO_PEER_UP : ALGO_PEER_DOWN);
    link_tell(h, b, a, up ? ALGO_PEER_UP : ALGO_PEER_DOWN);
}

static void links_settle(struct harness *h, rank_t r)
{
    const struct graph *g = h->graph;
    for (uint32_t i = g->offset[r]; i < g->offset[r + 1]; i++) link_settle(h, r, g->neighbour[i]);
}

static void start(struct harness *h)
{
    if (h->started) return;
    h->started = true;
    for (rank_t r = 0; r < h->graph->node_count; r++) instance_start(h, r, false, NULL, NULL);
    for (rank_t r = 0; r < h->graph->node_count; r++) links_settle(h, r);
}

/* -- delivering -------------------------------------------------------------------------------- */

static void held_push(struct instance *in, const struct harness_item *item)
{
    if (in->held_count == in->held_capacity) {
        in->held_capacity = in->held_capacity > 0 ? 2 * in->held_capacity : 16;
        in->held = mem_resize(in->held, in->held_capacity, sizeof *in->held);
    }
    in->held[in->held_count++] = *item;
}

/* Whether the item still means something; takes note of what its arrival changes. */
static bool item_live(struct harness *h, const struct harness_item *item)
{
    struct instance *in = &h->instance[item->rank];
    if (in->algo == NULL || item->incarnation != in->incarnation) return false;
    switch (item->kind) {
    case ALGO_START:
        UNREACHABLE();
    case ALGO_PEER_UP:
    case ALGO_PEER_DOWN: {
        struct direction *d = direction_of(h, item->rank, item->peer);
        CHECK(d->up == (item->kind == ALGO_PEER_DOWN));
        d->up = !d->up;
        d->epoch = item->epoch;
        return true;
    }
    case ALGO_MESSAGE: {
        const struct edge *edge = edge_of(h, item->rank, item->peer);
        return edge->up && edge->epoch == item->epoch;
    }
    case ALGO_TRAINED:
        in->job_held = h->stopped;
        if (h->stopped) return false;
        in->job_open = false;
        in->steps += item->number;
        return true;
    case ALGO_DEADLINE:
        if (item->number != in->deadline_generation) return false;
        in->deadline_us = TIME_NEVER; /* so that the same answer is asked for again */
        in->stuck = in->last_deadline_us == h->now_us ? in->stuck + 1 : 0;
        in->last_deadline_us = h->now_us;
        CHECK(in->stuck < STUCK_MAX); /* a deadline that stays in the past: a real node would spin */
        return true;
    }
    UNREACHABLE();
}

static void item_deliver(struct harness *h, struct harness_item *item)
{
    struct instance *in = &h->instance[item->rank];
    if (in->paused && in->algo != NULL && item->incarnation == in->incarnation) {
        held_push(in, item);
        return;
    }
    if (item->time_us > h->now_us) h->now_us = item->time_us;
    bool message = item->kind == ALGO_MESSAGE;
    h->in_flight -= message;
    if (item_live(h, item)) {
        struct algo_event event = {.kind = item->kind,
                                   .now_us = h->now_us,
                                   .peer = item->peer,
                                   .boot = item->number,
                                   .msg = message ? &item->msg : NULL};
        if (item->kind == ALGO_TRAINED) {
            event.trained.steps = (uint32_t)item->number;
            event.trained.loss = 1.0;
            event.trained.delta = in->job_delta;
        }
        CHECK(step_instance(h, item->rank, &event) == 0);
    } else {
        h->lost += message;
    }
    harness_item_release(item);
}

void harness_run_until(struct harness *h, uint64_t time_us)
{
    start(h);
    while (h->queue.count > 0 && h->queue.item[0].time_us <= time_us) {
        struct harness_item item = harness_queue_pop(&h->queue);
        item_deliver(h, &item);
    }
    if (time_us > h->now_us) h->now_us = time_us;
}

bool harness_run_until_quiet(struct harness *h, uint64_t limit_us)
{
    start(h);
    while (h->in_flight > 0 && h->queue.count > 0 && h->queue.item[0].time_us <= limit_us) {
        struct harness_item item = harness_queue_pop(&h->queue);
        item_deliver(h, &item);
    }
    return h->in_flight == 0;
}

/* -- disturbances ------------------------------------------------------------------------------ */

void harness_stop_training(struct harness *h)
{
    h->stopped = true;
}

void harness_resume_training(struct harness *h)
{
    h->stopped = false;
    for (rank_t r = 0; r < h->graph->node_count; r++) {
        if (h->instance[r].job_held) job_schedule(h, r);
        h->instance[r].job_held = false;
    }
}

void harness_link_down(struct harness *h, rank_t a, rank_t b)
{
    start(h);
    edge_of(h, a, b)->wanted = false;
    link_settle(h, a, b);
}

void harness_link_up(struct harness *h, rank_t a, rank_t b)
{
    start(h);
    edge_of(h, a, b)->wanted = true;
    link_settle(h, a, b);
}

static void held_release(struct harness *h, struct instance *in, bool again)
{
    for (size_t i = 0; i < in->held_count; i++) {
        if (again) {
            harness_queue_push(&h->queue, &in->held[i]); /* old time and sequence: the order stays */
            continue;
        }
        h->in_flight -= in->held[i].kind == ALGO_MESSAGE;
        h->lost += in->held[i].kind == ALGO_MESSAGE;
        harness_item_release(&in->held[i]);
    }
    in->held_count = 0;
}

void harness_crash(struct harness *h, rank_t r)
{
    start(h);
    struct instance *in = &h->instance[r];
    CHECK(in->algo != NULL);
    h->type->destroy(in->algo);
    in->algo = NULL;
    in->job_open = in->job_held = in->paused = false;
    held_release(h, in, false);
    links_settle(h, r);
    for (uint32_t i = h->graph->offset[r]; i < h->graph->offset[r + 1]; i++) h->direction[i].up = false;
}

void harness_restart(struct harness *h, rank_t r, bool rejoining)
{
    instance_start(h, r, rejoining, NULL, NULL);
    links_settle(h, r);
}

void harness_restart_at(struct harness *h, rank_t r, bool rejoining, const float *x)
{
    instance_start(h, r, rejoining, x, NULL);
    links_settle(h, r);
}

void harness_restart_saved(struct harness *h, rank_t r, bool rejoining)
{
    CHECK(h->instance[r].saved_x != NULL);
    instance_start(h, r, rejoining, h->instance[r].saved_x, h->instance[r].saved);
    links_settle(h, r);
}

void harness_pause(struct harness *h, rank_t r)
{
    start(h);
    CHECK(h->instance[r].algo != NULL);
    h->instance[r].paused = true;
}

void harness_unpause(struct harness *h, rank_t r)
{
    h->instance[r].paused = false;
    held_release(h, &h->instance[r], true);
}

void harness_drop_next(struct harness *h, rank_t a, rank_t b, uint8_t kind)
{
    CHECK(h->drop_count < DROP_MAX);
    h->drop[h->drop_count++] = (struct drop){a, b, kind};
}

int harness_event(struct harness *h, rank_t r, const struct algo_event *event)
{
    start(h);
    CHECK(h->instance[r].algo != NULL);
    struct algo_event now = *event;
    now.now_us = h->now_us;
    return step_instance(h, r, &now);
}

int harness_inject(struct harness *h, rank_t from, rank_t to, const struct algo_msg *msg)
{
    struct algo_event event = {.kind = ALGO_MESSAGE, .peer = from, .msg = msg};
    return harness_event(h, to, &event);
}
