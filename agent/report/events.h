/* What happens to an agent, for programs (events.jsonl in the run directory, a JSON object a line, flushed) and, of
 * members, in words for people (the log). "t" is seconds since 1970 with fractions; ids are numbers.
 *
 *   member   id, address, from ("" = was not known), to, keeper (true, or absent), accuser and evidence (of suspect and
 *            dead), incarnation, confirmations. At most EVENTS_MEMBER_BURST at once and EVENTS_MEMBER_RATE a second on
 *            and on, in words likewise; "hidden" as below
 *   link     to (up, down), id; address and dialled, or why. At most EVENTS_LINK_MAX a second; "hidden" tells how
 *            many were left out before
 *   place    place; null = it was lost to another
 *   phase    to (joining, fetching, training, finished; keeping), members known, steps
 *   kept     steps: a keeper has a newer model
 *   saved    ok, generation; or why not
 *   fault    to (begun, ended), text
 *   left     why: what the run was stopped by
 */
#ifndef GADABOUT_AGENT_REPORT_EVENTS_H
#define GADABOUT_AGENT_REPORT_EVENTS_H

#include "agent/node/node.h"
#include "net/fault/fault.h"
#include "net/membership/membership.h"

#define EVENTS_LINK_MAX 20u
#define EVENTS_MEMBER_BURST 1024u /* half of a large cluster may go at once */
#define EVENTS_MEMBER_RATE 20u

struct events;

struct events_config {
    const char *folder; /* the run directory; borrowed during events_open */
    node_id id;         /* ours */
    const struct trace *trace;
    double (*now_s)(void *ctx); /* NULL = the clock */
    void *ctx;
};

/* Errors: ERR_IO naming the file. Returns owned in *out. All others do nothing when e is NULL. */
int events_open(const struct events_config *config, struct events **out, struct err_text *why);
void events_close(struct events *e);

/* As node_sink.on_member. A change that leaves the state as it was is no event. */
void events_member(struct events *e, const struct member *m, bool is_new, enum member_state before,
                   uint32_t confirmations);

void events_link_up(struct events *e, struct link_id link, const struct peer_info *peer);
void events_link_down(struct events *e, struct link_id link, enum down_reason why);

/* Compares with the last report: phase, place. */
void events_report(struct events *e, const struct node_report *r);

void events_saved(struct events *e, uint64_t generation, const char *error); /* error NULL: it went well */
/* Compares with the last call: injected faults that have begun or ended, of those that the transport tells of. */
void events_faults(struct events *e, const struct fault_status *all, uint32_t count);
void events_left(struct events *e, const char *why);

#endif
