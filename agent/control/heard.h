/* When members last spoke to us, also of those whose links are gone: samples of what links say, kept by id. */
#ifndef GADABOUT_AGENT_CONTROL_HEARD_H
#define GADABOUT_AGENT_CONTROL_HEARD_H

#include <stdint.h>

#include "base/ids.h"

#define HEARD_MAX 4096u /* nodes remembered; the longest silent one makes room */

struct heard_entry {
    node_id id;
    uint64_t at_us;
};

struct heard {
    struct heard_entry *entry; /* (count) ascending by id; owned */
    uint32_t count, room;
};

void heard_note(struct heard *h, node_id id, uint64_t at_us); /* never goes back in time */
uint64_t heard_at_us(const struct heard *h, node_id id);      /* 0 = never */
void heard_deinit(struct heard *h);

#endif
