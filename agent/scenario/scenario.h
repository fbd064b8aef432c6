/* Scenario files: which faults happen when to which nodes of a cluster. The same file drives real agents
 * (`up --faults`) and simulated ones (`sim --faults`). YAML, a list:
 *
 *   - {at: 10s, for: 30s, fault: partition, groups: [[0-7], [8-15]]}
 *   - {at: 20s, for: 5s, fault: delay, links: [[0-3], [4-7]], delay: 50ms, jitter: 10ms, one_way: true}
 *   - {at: 5s, for: 2s, fault: stop, nodes: [3, 5-6], repeat: 10, every: 20s}
 *   - {at: 60s, fault: kill, nodes: 2}
 *
 * Times count from the start of training. Keys:
 *   at, fault    always; fault is drop, delay, limit, half_open, reset, corrupt (net/fault/fault.h), partition, kill,
 *                stop (SIGSTOP) or restart (killed, and started again after `for`)
 *   for          how long; without it to the end of the run; kill has none, restart starts again at once
 *   nodes        whom it concerns: process faults, or all links of these nodes; numbers, ranges, or `all`
 *   links        [A, B]: each link between a node of A and one of B; instead of nodes
 *   groups       partition: lists of nodes that do not hear each other
 *   one_way      only what goes from A to B, or what goes out of `nodes`
 *   delay, jitter, rate (bytes per second), one_in: as the fault needs
 *   repeat, every  it happens so many times, this far apart */
#ifndef GADABOUT_AGENT_SCENARIO_SCENARIO_H
#define GADABOUT_AGENT_SCENARIO_SCENARIO_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "net/fault/fault.h"

#define SCENARIO_TEXT_MAX 256u

enum scenario_kind { SCENARIO_LINKS, SCENARIO_PARTITION, SCENARIO_KILL, SCENARIO_STOP, SCENARIO_RESTART };

/* Nodes in ascending order, none twice. */
struct node_list {
    uint32_t *node; /* (count) owned */
    uint32_t count;
};

struct scenario_fault {
    unsigned long line;
    enum scenario_kind kind;
    struct fault_rule rule; /* LINKS: without peer and time */
    uint64_t at_us, for_us; /* for_us 0: to the end of the run */
    uint64_t every_us;
    uint32_t repeat;         /* >= 1 */
    struct node_list *group; /* (group_count) owned: `nodes` is one, `links` two, `groups` two or more */
    uint32_t group_count;
    bool one_way;
    char what[SCENARIO_TEXT_MAX]; /* "drop between 0-3 and 4-7, both ways" */
};

struct scenario {
    struct scenario_fault *fault; /* (count) owned, in order of the file */
    uint32_t count;
};

/* Reads a file for a cluster of node_count nodes. Returns 0 with *out owned, or ERR_IO, ERR_LIMIT, ERR_FORMAT,
 * ERR_USAGE with "file:line: key: what is allowed". */
int scenario_read(const char *path, uint32_t node_count, struct scenario *out, struct err_text *why);
void scenario_deinit(struct scenario *s);

void scenario_say(struct scenario_fault *f);                    /* fills what, when all else is set */
const char *scenario_kind_name(const struct scenario_fault *f); /* as in the file */

/* The rule that one entry stands for at its i-th place: at which node, and with whom. Returns false past the
 * last one. Partitions and drops between groups are at both ends, so that the restart of one does not end them. */
bool scenario_rule_at(const struct scenario_fault *f, uint32_t i, uint32_t *node, struct fault_rule *out);

#endif
