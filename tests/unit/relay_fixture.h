/* Nodes of the simulator, members with a relay or raw ones that speak its frames by hand, and what each has seen. */
#ifndef GADABOUT_TESTS_UNIT_RELAY_FIXTURE_H
#define GADABOUT_TESTS_UNIT_RELAY_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "net/relay/internal.h"
#include "net/sim/sim.h"

#define NODE_MAX 40u
#define SECOND_US 1000000u
#define HEARD_MAX 64u

struct world;

struct member {
    struct world *world;
    uint32_t v;
    bool raw;
    struct relay *relay; /* NULL when raw */
    struct transport *inner, *transport;
    struct link_id link[NODE_MAX]; /* by peer, the latest */
    bool up[NODE_MAX];
    enum down_reason why[NODE_MAX]; /* of the last on_down */
    uint32_t ups, downs, messages, writables, unreachables;
    uint64_t bytes, last_us;
    struct relay_frame heard[HEARD_MAX]; /* raw: without heads */
    uint32_t heard_count;
};

struct world {
    struct sim_world *sim;
    struct choice latency, step_time;
    struct member member[NODE_MAX];
    uint32_t count;
};

/* Members 0..count-1, those in raws raw; rate of all. */
void world_open(struct world *w, uint32_t count, uint64_t raws, uint64_t rate);
void world_close(struct world *w);
void world_run_for(struct world *w, uint64_t us);

#define RUN_UNTIL(w, condition)                                                                              \
    do {                                                                                                     \
        uint64_t run_limit_us = sim_now_us((w)->sim) + 30 * SECOND_US;                                       \
        while (!(condition) && sim_step((w)->sim, run_limit_us)) continue;                                   \
        if (!(condition)) fail_msg("not in time: %s", #condition);                                           \
    } while (0)

void world_dial(struct world *w, uint32_t from, uint32_t to);
void world_link_up(struct world *w, uint32_t from, uint32_t to);
void world_dial_relayed(struct world *w, uint32_t from, uint32_t to);
bool world_is_relayed(const struct world *w, uint32_t a, uint32_t b);
int world_send(struct world *w, uint32_t from, uint32_t to, enum lane lane, size_t size);
struct relay_totals member_totals(const struct member *m);
/* 0 and 1 are linked to 2, and by it to each other. */
void world_open_triangle(struct world *w, uint32_t count, uint64_t rate);
/* From the raw node 0 to `to`. */
void world_say(struct world *w, uint32_t to, const struct relay_frame *f, enum lane lane, struct blob *body);

#endif
