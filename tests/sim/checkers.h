/* What must hold in a storm (storm.h). Always, after every event:
 *  - no node failed, nothing was refused as malformed, and messages do not beget messages without end;
 *  - no model holds more of a node's work than the node has done; with DIGEST no aggregate holds more than
 *    weight times what the node has handed over;
 *  - all parameters are finite, queues are short;
 *  - per node and life: epochs, and within one the fences and stamps of its streams, never go back.
 * Once the cluster is at rest after healing, until the end:
 *  - at most one place holds each stream's token, and one node trains the walking model;
 *  - no work is lost any more: what is missing of a node's work stays what it was. */
#ifndef GADABOUT_TESTS_SIM_CHECKERS_H
#define GADABOUT_TESTS_SIM_CHECKERS_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/node.h"
#include "algo/digest_internal.h"

struct storm;

enum { CHECKERS_NODES = 16, CHECKERS_STREAMS = 16 };

/* What a node was seen with last in its present life. */
struct checkers_node {
    struct epoch epoch;
    struct token_stamp known[CHECKERS_STREAMS], last[CHECKERS_STREAMS];
    uint64_t steps, mixes;
};

struct checkers {
    struct checkers_node node[CHECKERS_NODES];
    uint64_t second, events; /* of the present virtual second */
    bool quiet;
    double missing[CHECKERS_NODES]; /* steps of each node's work, when quiet began */
    uint64_t at_heal_steps[CHECKERS_NODES], at_heal_mixes[CHECKERS_NODES];
    uint64_t marks, marks_since_us; /* regenerations and re-bases counted: no change for a while is rest */
};

void checkers_event(struct storm *s);             /* what must hold always; problems go to storm_fail */
void checkers_crashed(struct storm *s, rank_t v); /* its next life has no past */

void checkers_healed(struct storm *s); /* progress counts from here */

/* NULL when the cluster is at rest: all links are up, all nodes go on, every token is alive once. Otherwise
 * what is not as it should be. */
const char *checkers_unrest(struct storm *s);
void checkers_quiet(struct storm *s); /* at rest from now on */

/* NULL when all models (and all aggregates) are the same; otherwise what differs. */
const char *checkers_disagreement(struct storm *s);
void checkers_end(struct storm *s); /* after the agreement */

#endif
