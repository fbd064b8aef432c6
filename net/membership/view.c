/* Looking at a membership: why somebody is doubted. */
#include <string.h>

#include "net/membership/internal.h"

_Static_assert(MEMBERSHIP_DOUBTER_MAX == CONFIRMATION_MAX + 1, "all accusers that are kept can be shown");

bool membership_doubt(const struct membership *m, node_id id, struct membership_doubt *out)
{
    const struct record *r = membership_record(m, id);
    if (r == NULL || r->m.state != MEMBER_SUSPECT) return false;
    const struct suspicion *s = &r->suspicion;
    *out = (struct membership_doubt){.since_us = s->start_us,
                                     .ends_us = membership_suspicion_end_us(s),
                                     .wanted = s->wanted,
                                     .by_count = s->count};
    memcpy(out->by, s->by, s->count * sizeof *s->by);
    return true;
}
