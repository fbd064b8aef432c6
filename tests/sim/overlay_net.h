/* Overlay machines alone, no membership beside them, in virtual time over links of this file's own:
 *  - each link delays and keeps order; whoever dialled closes a link that neither end counts as neighbour after 15 s.
 *  - half of the killed hosts refuse connections and reset links, half are silent: a dial is not answered, a link ends
 *    after 6 s. A cut is silent too.
 *  - planted bugs: removals that nobody is told of, repairs that never dial, no bound, no exchanges. */
#ifndef GADABOUT_TESTS_SIM_OVERLAY_NET_H
#define GADABOUT_TESTS_SIM_OVERLAY_NET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/prng.h"
#include "net/overlay/overlay.h"

#define NODES 200u
#define ACTIVE_MAX 5u
#define SECOND_US 1000000ull

enum planted {
    PLANTED_NONE,
    PLANTED_NO_EXCHANGE,
    PLANTED_NO_DISCONNECT,
    PLANTED_NO_REPAIR,
    PLANTED_NO_BOUND
};

struct overlay_net_line { /* between two nodes; indexed by the smaller one first */
    uint32_t generation;  /* odd = up */
    uint32_t delay_us;
    bool dialling;
};

struct overlay_net {
    struct prng prng;
    enum planted planted;
    struct overlay *node[NODES];
    bool dead[NODES], silent[NODES];
    bool cut;                /* between even and odd nodes: no link, no dial */
    uint64_t wake_us[NODES]; /* the earliest wake that is queued */
    struct overlay_net_line line[NODES][NODES];
    struct overlay_actions acts;
    struct overlay_net_event *heap;
    size_t count, capacity;
    uint64_t now_us, sequence;
    uint64_t events, messages;
};

/* From seed: everybody has joined through somebody who is in already, and time has passed. Returns owned. */
struct overlay_net *overlay_net_new(uint64_t seed, enum planted planted);
void overlay_net_free(struct overlay_net *c);
void overlay_net_run_until(struct overlay_net *c, uint64_t until_us);
/* At once, whoever is drawn; half of them are silent. */
void overlay_net_kill(struct overlay_net *c, uint32_t count);
void overlay_net_cut(struct overlay_net *c); /* even from odd nodes, in silence */
void overlay_net_hear_of(struct overlay_net *c, uint32_t node, uint32_t other); /* as membership tells it */
node_id overlay_net_id(uint32_t node);

#endif
