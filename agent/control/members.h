/* The part of a status that is about others. */
#ifndef GADABOUT_AGENT_CONTROL_MEMBERS_H
#define GADABOUT_AGENT_CONTROL_MEMBERS_H

#include <jansson.h>
#include <stdint.h>

struct agent;

/* Remembers when each linked node last spoke (a->heard). */
void control_members_listen(struct agent *a);

/* An array with an object for each; *links: how many are up. */
json_t *control_members(struct agent *a, uint32_t *links);

/* Counts by state, our health, the hash of the view (equal views have equal ones); null when all places are given. */
json_t *control_membership(const struct agent *a);

#endif
