/* A node among members: the fakes of node_fake.h around a node with id 20 and four places on a path 0 - 1 - 2 - 3; the
 * test plays the peers with ids 10, 30 and 40, word by word. */
#ifndef GADABOUT_TESTS_UNIT_NODE_MEMBERS_FIXTURE_H
#define GADABOUT_TESTS_UNIT_NODE_MEMBERS_FIXTURE_H

#include "tests/unit/node_fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "agent/node/internal.h"

#define BOOT (1ull << 50)
#define HALF_SECOND 500000u

/* A record of the peer that is node_fake's member of `rank`: place RANK_NONE = none. */
static inline struct member record_of(rank_t rank, rank_t place, uint64_t claimed, enum node_phase phase)
{
    struct member m = fake_member(rank);
    m.boot = m.incarnation = BOOT + rank;
    m.meta[META_PLACE] = place == RANK_NONE ? 0 : (uint64_t)place + 1;
    m.meta[META_CLAIMED] = claimed;
    m.meta[META_PHASE] = (uint64_t)phase + 1;
    return m;
}

static inline void says_swim(struct fake *f, rank_t rank, uint64_t sequence, enum swim_kind kind,
                             const struct member *update, uint32_t count)
{
    struct swim_msg msg = {.kind = kind, .update = update, .update_count = count};
    if (kind == SWIM_SYNC) snprintf(msg.seen, sizeof msg.seen, "127.0.0.1:5");
    fake_peer_says(f, rank, LANE_CONTROL, wire_encode_swim(sequence, &msg), NULL);
}

static inline void says_ready(struct fake *f, rank_t rank, uint64_t sequence, rank_t place, rank_t your_place)
{
    const struct wire_ready ready = {.place = place, .claimed = BOOT, .your_place = your_place};
    fake_peer_says(f, rank, LANE_CONTROL, wire_encode_ready(sequence, &ready), NULL);
}

static inline void open_members(struct fake *f, uint32_t min_nodes)
{
    struct node_config config = fake_config();
    config.members = NULL;
    config.min_nodes = min_nodes;
    config.boot = BOOT + 1;
    config.patience_us = 2 * HALF_SECOND;
    fake_open(f, &config);
    assert_int_equal(node_start(f->node, NULL), 0);
}

static inline rank_t place_of(const struct fake *f)
{
    struct node_report r;
    node_report(f->node, &r);
    return r.place;
}

/* PEER_UP of node 0, which says that it took its place at BOOT, between others. */
static const char *up_text(const char *before, const char *after, char out[128])
{
    unsigned long long life = (unsigned long long)node_life(10, BOOT, BOOT);
    snprintf(out, 128, "%sup 0 %llu;%s", before, life, after);
    return out;
}

/* Ours has place 1; node 0 (id 10) place 0; both train and are presented. sequence: of node 0's next control word. */
static inline uint64_t open_training(struct fake *f)
{
    char text[128];
    open_members(f, 2);
    fake_peer_up(f, 0, 1, BOOT, false);
    struct member m = record_of(0, 0, BOOT + 1, NODE_TRAINING);
    says_swim(f, 0, 1, SWIM_SYNC, &m, 1);
    says_ready(f, 0, 2, 0, 1);
    assert_string_equal(f->events, up_text("ranked 1;start;", "", text));
    fake_forget(f);
    return 3;
}

#endif
