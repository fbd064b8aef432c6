/* Planted bugs of relays: member_mutants.h. */
#include "base/check.h"
#include "net/relay/internal.h"
#include "tests/sim/member_mutants.h"

/* NULL: the event was not v's. */
static struct relay *relay_that_ran(const struct member_storm *s, uint32_t v)
{
    return (s->touched >> v & 1) != 0 ? simulation_relay(s->sim, v) : NULL;
}

/* What waits at a relayer goes on twice. */
void member_relay_a_message_twice(struct member_storm *s)
{
    for (uint32_t v = 0; v < s->slots; v++) {
        struct relay *r = relay_that_ran(s, v);
        for (uint32_t i = 0; r != NULL && i < RELAY_PAIR_MAX; i++) {
            struct relay_queue *q = &r->pair[i].side[0].queue[LANE_CONTROL];
            if (r->pair[i].state != PAIR_OPEN || q->count != 1) continue;
            const struct relay_message m = *relay_queue_first(q);
            relay_queue_put(q, blob_ref(m.head), m.body, m.cost, 0);
        }
    }
}

/* A relayer forgets what it has no room for. */
void member_relay_with_a_hole(struct member_storm *s)
{
    for (uint32_t v = 0; v < s->slots; v++) {
        struct relay *r = relay_that_ran(s, v);
        for (uint32_t i = 0; r != NULL && i < RELAY_PAIR_MAX; i++) {
            struct relay_queue *q = &r->pair[i].side[1].queue[LANE_CONTROL];
            if (r->pair[i].state == PAIR_OPEN && q->count > 2) relay_queue_pop(q);
        }
    }
}

/* A sender forgets what is on its way: it sends over the window. */
void member_relay_over_the_window(struct member_storm *s)
{
    for (uint32_t v = 0; v < s->slots; v++) {
        struct relay *r = relay_that_ran(s, v);
        for (uint32_t i = 0; r != NULL && i < RELAY_LINK_MAX; i++)
            for (int lane = 0; lane < 2; lane++)
                if (r->link[i].lane[lane].flying > RELAY_WINDOW_MESSAGES / 2)
                    r->link[i].lane[lane].flying_bytes = r->link[i].lane[lane].flying = 0;
    }
}

/* A relayer forgets a pair, and tells nobody. */
void member_relay_forget_a_pair(struct member_storm *s)
{
    for (uint32_t v = 0; v < s->slots; v++) {
        struct relay *r = relay_that_ran(s, v);
        for (uint32_t i = 0; r != NULL && i < RELAY_PAIR_MAX; i++) {
            struct relay_pair *p = &r->pair[i];
            if (p->state != PAIR_OPEN || p->call % 4 != 0) continue;
            for (int k = 0; k < 4; k++) relay_queue_deinit(&p->side[k / 2].queue[k % 2]);
            p->state = PAIR_FREE;
        }
    }
}

/* A relayed link does not hear that the link under it has gone. */
void member_relay_outlive_the_relayer(struct member_storm *s)
{
    for (uint32_t v = 0; v < s->slots; v++) {
        struct relay *r = relay_that_ran(s, v);
        for (uint32_t i = 0; r != NULL && i < RELAY_LINK_MAX; i++)
            if (r->link[i].used && r->link[i].up && r->link[i].call % 4 == 0)
                r->link[i].real.generation |= 1u << 31;
    }
}
