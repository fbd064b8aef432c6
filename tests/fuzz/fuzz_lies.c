/* See fuzz_lies.h. Numbers come from small pools of those that matter, so that lies hit something. */
#include "tests/fuzz/fuzz_lies.h"

#include <stdio.h>

#include "agent/node/node.h"
#include "agent/node/places.h"
#include "agent/transfer/transfer.h"
#include "agent/wire/wire.h"
#include "base/check.h"
#include "tests/fuzz/fuzz_nodes.h"

struct liar {
    struct prng *p;
    uint32_t nodes;
    uint64_t now;
};

static uint64_t number(const struct liar *a)
{
    static const uint64_t pool[] = {0, 1, 2, 3, 4, 7, 24, 96, 1u << 20, 1ull << 40, 1ull << 62, UINT64_MAX};
    return pool[prng_below(a->p, sizeof pool / sizeof pool[0])];
}

static node_id somebody(const struct liar *a)
{
    uint32_t roll = prng_below(a->p, 10);
    if (roll < 6) return 10 * ((node_id)prng_below(a->p, a->nodes) + 1);
    return roll < 9 ? 1000 + prng_below(a->p, FUZZ_GHOSTS) : number(a);
}

/* About now, a former life, a day ahead, or nonsense. */
static uint64_t moment(const struct liar *a)
{
    const uint64_t second = 1000000ull * BOOT_UNITS_PER_US;
    switch (prng_below(a->p, 6)) {
    case 0:
        return a->now - prng_below(a->p, 100) * second;
    case 1:
        return a->now + prng_below(a->p, 100) * second;
    case 2:
        return a->now + (86300u + prng_below(a->p, 200)) * second;
    case 3:
        return number(a);
    }
    return a->now;
}

static void address(const struct liar *a, char out[ADDRESS_TEXT_MAX])
{
    static const char *const pool[] = {"",         "127.0.0.1:1", "0.0.0.0:0", "h0:1",
                                       "nonsense", "[::]:9",      "h1:1",      "h2:1",
                                       ":",        "224.0.0.1:5", "10.0.0.9:1"};
    snprintf(out, ADDRESS_TEXT_MAX, "%s", pool[prng_below(a->p, sizeof pool / sizeof pool[0])]);
}

static void record(const struct liar *a, struct member *m)
{
    *m = (struct member){.id = somebody(a),
                         .boot = moment(a),
                         .incarnation = moment(a),
                         .state = (enum member_state)prng_below(a->p, 4),
                         .accuser = somebody(a),
                         .evidence = (enum member_evidence)prng_below(a->p, 5)};
    address(a, m->address);
    if (prng_below(a->p, 8) == 0) snprintf(m->tag, sizeof m->tag, "rack=%u", prng_below(a->p, 3));
    m->meta[META_PLACE] = prng_below(a->p, 4) > 0 ? prng_below(a->p, a->nodes + 2) : number(a);
    m->meta[META_CLAIMED] = moment(a);
    m->meta[META_PHASE] = prng_below(a->p, NODE_FINISHED + 3);
    m->meta[META_PROGRESS] = prng_below(a->p, 2) == 0 ? 0 : number(a);
}

static struct blob *lie_of_members(const struct liar *a, uint64_t sequence)
{
    struct member update[8];
    struct swim_msg m = {.kind = (enum swim_kind)(1 + prng_below(a->p, 7)), .update = update};
    if (prng_below(a->p, 2) == 0) m.number = number(a);
    if (prng_below(a->p, 3) == 0) m.target = somebody(a);
    if (prng_below(a->p, 3) == 0) address(a, m.seen);
    m.update_count = prng_below(a->p, 9);
    for (uint32_t i = 0; i < m.update_count; i++) record(a, &update[i]);
    return wire_encode_swim(sequence, &m);
}

static struct blob *lie_of_neighbours(const struct liar *a, uint64_t sequence)
{
    struct overlay_peer peer[OVERLAY_PEER_MAX];
    struct overlay_msg m = {.kind = (enum overlay_kind)(1 + prng_below(a->p, 8)),
                            .ttl = prng_below(a->p, 9),
                            .urgent = prng_below(a->p, 2) == 0,
                            .peer = peer};
    m.peer_count = prng_below(a->p, 3) == 0 ? prng_below(a->p, OVERLAY_PEER_MAX + 1) : prng_below(a->p, 2);
    for (uint32_t i = 0; i < m.peer_count; i++) {
        peer[i].id = somebody(a);
        address(a, peer[i].address);
    }
    return wire_encode_overlay(sequence, &m);
}

static struct blob *lie_of_the_model(const struct liar *a, uint64_t sequence)
{
    struct state_msg m = {.kind = (enum state_kind)(1 + prng_below(a->p, 7))};
    uint64_t *const field[] = {&m.snapshot, &m.size,  &m.chunk_size, &m.progress,
                               &m.first,    &m.count, &m.hash,       &m.wait_us};
    for (size_t i = 0; i < sizeof field / sizeof field[0]; i++)
        if (prng_below(a->p, 3) == 0) *field[i] = number(a);
    return wire_encode_state(sequence, &m);
}

/* What was said, with a few numbers changed. */
static struct blob *nearly(const struct liar *a, struct wire_message *m)
{
    switch (m->kind) {
    case WIRE_SWIM:
        if (m->swim.update_count > 0) {
            struct member *u = &m->member[prng_below(a->p, m->swim.update_count)];
            const struct member was = *u;
            record(a, u);
            if (prng_below(a->p, 2) == 0) u->id = was.id;
            if (prng_below(a->p, 2) == 0) u->incarnation = was.incarnation + prng_below(a->p, 2);
        } else {
            m->swim.number ^= prng_below(a->p, 4);
        }
        return wire_encode_swim(m->sequence, &m->swim);
    case WIRE_OVERLAY:
        if (m->overlay.peer_count > 0) m->peer[0].id = somebody(a);
        return wire_encode_overlay(m->sequence, &m->overlay);
    case WIRE_STATE:
        if (prng_below(a->p, 2) == 0) m->state.progress = number(a);
        if (prng_below(a->p, 2) == 0) m->state.wait_us = number(a);
        if (prng_below(a->p, 4) == 0) m->state.snapshot++;
        return wire_encode_state(m->sequence, &m->state);
    case WIRE_READY:
        m->ready.place = prng_below(a->p, a->nodes);
        return wire_encode_ready(m->sequence, &m->ready);
    case WIRE_ALGO:
        return wire_encode_algo(m->sequence, &m->msg);
    }
    UNREACHABLE();
}

void fuzz_lie(struct prng *p, uint32_t nodes, uint64_t now, enum lane lane, struct blob **head,
              struct blob **body)
{
    const struct liar a = {p, nodes, now};
    struct wire_message m;
    CHECK(wire_decode((*head)->data, (*head)->size, &m, NULL) == 0);
    struct blob *lie = NULL;
    switch (lane == LANE_BULK || *body != NULL ? 9u : prng_below(p, 6)) {
    case 0:
    case 1:
        lie = lie_of_members(&a, m.sequence);
        break;
    case 2:
        lie = lie_of_neighbours(&a, m.sequence);
        break;
    case 3:
        lie = lie_of_the_model(&a, m.sequence);
        break;
    default:
        lie = m.packed ? blob_ref(*head) : nearly(&a, &m);
        break;
    }
    if (*body != NULL && (*body)->size > 0 && prng_below(p, 2) == 0) {
        struct blob *other = blob_copy((*body)->data, (*body)->size - (prng_below(p, 4) == 0));
        if (other->size > 0)
            other->data[prng_below(p, (uint32_t)other->size)] ^= (uint8_t)(1 + prng_below(p, 255));
        blob_unref(*body);
        *body = other;
    }
    wire_message_deinit(&m);
    blob_unref(*head);
    *head = lie;
}
