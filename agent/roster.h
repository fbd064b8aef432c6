/* Who belongs to the experiment: ids, boots and addresses, learnt from hellos and from members' lists.
 * Pure. Ranks are positions in ascending order of id, defined once the roster is complete. Membership
 * with failure detection (SWIM) will live in net/; this is only the list.
 *
 * Lists from third parties may be old, and they cross each other: were every difference news, two lists could
 * chase each other for ever. So hearsay only ever moves forward: a greater boot replaces a smaller one, an
 * address fills a gap. What a peer says of itself in its hello stands whatever was known. */
#ifndef GADABOUT_AGENT_ROSTER_H
#define GADABOUT_AGENT_ROSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/wire.h"
#include "base/ids.h"

struct roster {
    struct wire_member *member; /* ascending by id; only what differs from known[] */
    uint32_t count, capacity;
    uint32_t expected;               /* node_count of the experiment */
    const struct wire_member *known; /* borrowed, ascending by id: members known from the start; may be NULL.
                                      * All nodes of a simulation share one list */
    uint32_t known_count;
    uint32_t total; /* distinct members */
};

/* known[0..known_count) ascending by id, at most `expected`; borrowed for the roster's life. */
void roster_init(struct roster *r, uint32_t expected, const struct wire_member *known, uint32_t known_count);
void roster_deinit(struct roster *r);

/* Adds or updates from hearsay; returns true when something new was learnt (to be passed on). A new id beyond
 * `expected` is refused (false). */
bool roster_learn(struct roster *r, const struct wire_member *m);

/* A tag that was not known fills the gap, whatever the boot: true when it did. A known one stays. */
bool roster_tag(struct roster *r, node_id id, const char *tag);
bool roster_tagged(const struct roster *r); /* complete, and every member has a tag */

/* The same from the member's own hello: its boot and a non-empty address replace what was known. */
bool roster_meet(struct roster *r, const struct wire_member *m);

bool roster_complete(const struct roster *r);
rank_t roster_rank(const struct roster *r, node_id id); /* RANK_NONE when unknown or incomplete */
const struct wire_member *roster_find(const struct roster *r, node_id id); /* NULL when unknown */

/* The member at position `at` < total, ascending by id: its rank when the roster is complete. Cost is
 * logarithmic when known[] holds everybody or nobody was known, else linear. */
const struct wire_member *roster_at(const struct roster *r, uint32_t at);

/* Hash of all ids and tags: two nodes with the same fingerprint give everybody the same rank. */
uint64_t roster_fingerprint(const struct roster *r);

#endif
