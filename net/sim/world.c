/* The simulated world: virtual time and one heap of events ordered by (time, sequence).
 *
 * Normal course
 *  - whatever will happen is an entry of the heap; sim_step takes the first, sets the time and delivers it.
 *  - equal times run in order of insertion: the sequence number makes every key unique.
 *  - of a lane only the first message has an entry (sim/link.c), of a node one deadline and one job.
 * Failure courses
 *  - what is no longer wanted stays in the heap with an old generation and is dropped when it comes up.
 *  - entries for a paused node are put aside in order and come back when it goes on (sim/fault.c).
 */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/check.h"
#include "net/sim/internal.h"

#define HEAP_ARITY 4u /* flatter than binary: fewer cache lines per removal */
#define OBSERVED_SIZE 56u

static bool event_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->time_us != b->time_us ? a->time_us < b->time_us : a->order < b->order;
}

void sim_push(struct sim_world *w, struct sim_event event)
{
    if (w->heap_count == w->heap_capacity) {
        w->heap_capacity = w->heap_capacity == 0 ? 256 : w->heap_capacity * 2;
        w->heap = mem_resize(w->heap, w->heap_capacity, sizeof *w->heap);
    }
    size_t at = w->heap_count++;
    while (at > 0) {
        size_t above = (at - 1) / HEAP_ARITY;
        if (!event_before(&event, &w->heap[above])) break;
        w->heap[at] = w->heap[above];
        at = above;
    }
    w->heap[at] = event;
}

static struct sim_event heap_pop(struct sim_world *w)
{
    CHECK(w->heap_count > 0);
    struct sim_event first = w->heap[0];
    struct sim_event last = w->heap[--w->heap_count];
    size_t count = w->heap_count, at = 0;
    for (;;) {
        size_t child = at * HEAP_ARITY + 1;
        if (child >= count) break;
        size_t end = child + HEAP_ARITY < count ? child + HEAP_ARITY : count;
        size_t least = child;
        for (size_t c = child + 1; c < end; c++)
            if (event_before(&w->heap[c], &w->heap[least])) least = c;
        if (!event_before(&w->heap[least], &last)) break;
        w->heap[at] = w->heap[least];
        at = least;
    }
    if (count > 0) w->heap[at] = last;
    return first;
}

uint64_t sim_take_order(struct sim_world *w, enum sim_event_kind kind, enum lane lane, uint32_t side)
{
    return w->next_sequence++ << 8 | (uint64_t)kind << 2 | (uint64_t)lane << 1 | side;
}

void sim_schedule(struct sim_world *w, uint64_t at_us, enum sim_event_kind kind, uint32_t index,
                  uint32_t side, uint32_t generation)
{
    CHECK(at_us >= w->now_us);
    sim_push(w, (struct sim_event){.time_us = at_us,
                                   .order = sim_take_order(w, kind, LANE_CONTROL, side),
                                   .index = index,
                                   .generation = generation});
}

/* -- delivery ---------------------------------------------------------------------------------- */

static enum sim_event_kind event_kind(const struct sim_event *e)
{
    return (enum sim_event_kind)(e->order >> 2 & 63);
}

static uint32_t event_node(const struct sim_world *w, const struct sim_event *e)
{
    switch (event_kind(e)) {
    case SIM_DEADLINE:
    case SIM_JOB_DONE:
    case SIM_CLOSED:
    case SIM_SELF:
    case SIM_FAULT:
        return e->index;
    case SIM_MESSAGE:
    case SIM_UP:
    case SIM_DOWN:
    case SIM_WRITABLE:
    case SIM_REFUSED:
    case SIM_UNREACHABLE:
    case SIM_SILENCE:
    case SIM_DIAL:
    case SIM_CONNECT:
        return w->pair[e->index]->node[e->order & 1];
    }
    UNREACHABLE();
}

static void node_hold(struct sim_node *node, struct sim_event event)
{
    if (node->held_count == node->held_capacity) {
        node->held_capacity = node->held_capacity == 0 ? 16 : node->held_capacity * 2;
        node->held = mem_resize(node->held, node->held_capacity, sizeof *node->held);
    }
    node->held[node->held_count++] = event;
}

/* Returns false when the event was stale and nothing happened. */
static bool event_deliver(struct sim_world *w, const struct sim_event *e)
{
    uint32_t side = (uint32_t)(e->order & 1), generation = e->generation;
    switch (event_kind(e)) {
    case SIM_DEADLINE:
        return sim_deadline_event(w, e->index, generation);
    case SIM_JOB_DONE:
        return sim_job_event(w, e->index, generation);
    case SIM_CLOSED:
        return sim_closed_event(w, e->index, generation);
    case SIM_SELF:
        return sim_self_event(w, e->index, generation);
    case SIM_MESSAGE:
        return sim_message_event(w, w->pair[e->index], e);
    case SIM_UP:
        return sim_up_event(w, w->pair[e->index], side, generation);
    case SIM_DOWN:
        return sim_down_event(w, w->pair[e->index], side, generation);
    case SIM_WRITABLE:
        return sim_writable_event(w, w->pair[e->index], side, generation);
    case SIM_SILENCE:
        return sim_silence_event(w, w->pair[e->index], side, generation);
    case SIM_DIAL:
        return sim_dial_event(w, w->pair[e->index], side, generation);
    case SIM_CONNECT:
        return sim_connect_event(w, w->pair[e->index], side, generation);
    case SIM_FAULT:
        return sim_inject_event(w, e->index);
    case SIM_REFUSED:
    case SIM_UNREACHABLE:
        break; /* never in the heap */
    }
    UNREACHABLE();
}

bool sim_step(struct sim_world *w, uint64_t limit_us)
{
    CHECK(!w->delivering);
    while (w->heap_count > 0 && w->heap[0].time_us <= limit_us) {
        struct sim_event event = heap_pop(w);
        CHECK(event.time_us >= w->now_us);
        w->now_us = event.time_us;
        struct sim_node *node = &w->node[event_node(w, &event)];
        if (node->paused && event_kind(&event) != SIM_FAULT) {
            node_hold(node, event);
            continue;
        }
        w->delivering = true;
        bool happened = event_deliver(w, &event);
        w->delivering = false;
        if (happened) {
            w->totals.events++;
            return true;
        }
    }
    if (limit_us != TIME_NEVER && limit_us > w->now_us) w->now_us = limit_us;
    return false;
}

/* -- observation ------------------------------------------------------------------------------- */

static void put_word(uint8_t *at, uint64_t value)
{
    for (unsigned i = 0; i < 8; i++) at[i] = (uint8_t)(value >> (8 * i));
}

void sim_tell(struct sim_world *w, enum sim_event_kind kind, uint32_t node, uint32_t peer, uint32_t detail,
              const struct blob *head, const struct blob *body)
{
    if (w->observe == NULL) return;
    size_t head_size = head == NULL ? 0 : head->size, body_size = body == NULL ? 0 : body->size;
    uint64_t hash = head == NULL ? 0 : XXH3_64bits(head->data, head_size);
    if (body != NULL) hash = XXH3_64bits_withSeed(body->data, body_size, hash);
    const uint64_t word[OBSERVED_SIZE / 8] = {
        w->now_us, kind, (uint64_t)node << 32 | peer, detail, head_size, body_size, hash,
    };
    uint8_t bytes[OBSERVED_SIZE];
    for (unsigned i = 0; i < OBSERVED_SIZE / 8; i++) put_word(bytes + 8 * i, word[i]);
    w->observe(w->observe_ctx, bytes, sizeof bytes);
}

void sim_observe(struct sim_world *w, void (*event)(void *ctx, const void *bytes, size_t size), void *ctx)
{
    w->observe = event;
    w->observe_ctx = ctx;
}

void sim_totals(const struct sim_world *w, struct sim_totals *out)
{
    *out = w->totals;
}

uint64_t sim_now_us(const struct sim_world *w)
{
    return w->now_us;
}

bool sim_alive(const struct sim_world *w, uint32_t v)
{
    CHECK(v < w->options.node_count);
    return w->node[v].alive;
}

double sim_link_mean_s(const struct sim_world *w, uint32_t a, uint32_t b)
{
    CHECK(a < w->options.node_count && b < w->options.node_count);
    uint64_t link = sim_ordered_index(w, a < b ? a : b, a < b ? b : a);
    return sim_latency_mean_s(&w->latency, w->options.seed, link);
}

/* -- life -------------------------------------------------------------------------------------- */

struct sim_world *sim_world_new(const struct sim_options *options)
{
    CHECK(options->node_count > 0 && options->node_count <= NODE_COUNT_MAX);
    CHECK(options->redial_us > 0);
    struct sim_world *w = mem_new_zero(1, sizeof *w);
    w->options = *options;
    w->options.slowness = NULL; /* borrowed for this call only */
    sim_latency_init(&w->latency, options->latency);
    sim_step_time_init(&w->step_time, options->step_time);
    w->message_free = SIM_NONE;
    w->node = mem_new_zero(options->node_count, sizeof *w->node);
    for (uint32_t v = 0; v < options->node_count; v++) {
        struct sim_node *node = &w->node[v];
        node->alive = true;
        prng_split(&node->step_time, options->seed, "sim step time", v);
        node->step_s = sim_step_time_node_s(&w->step_time, &node->step_time,
                                            options->slowness != NULL ? options->slowness[v] : 1.0);
    }
    return w;
}

void sim_world_free(struct sim_world *w)
{
    if (w == NULL) return;
    CHECK(!w->delivering);
    for (uint32_t i = 0; i < w->pair_count; i++)
        sim_pair_free(w, w->pair[i]); /* shapes borrow from the rules */
    for (uint32_t v = 0; v < w->options.node_count; v++) {
        struct sim_node *node = &w->node[v];
        sim_transport_free(node->transport);
        free(node->host);
        free(node->pair);
        free(node->held);
    }
    free(w->node);
    free(w->pair);
    free(w->pair_table);
    free(w->message);
    free(w->heap);
    free(w);
}
