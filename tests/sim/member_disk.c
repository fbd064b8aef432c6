/* The disks of a storm of members (member_storm.h), which are written every now and then, and when a node asks for it;
 * member_faults.c reads them when one comes back. */
#include <string.h>

#include "agent/node/internal.h"
#include "tests/sim/member_storm.h"

/* It trains, or is a keeper that has fetched a model. */
static bool anything_to_save(const struct member_storm *s, uint32_t v, const struct node *n)
{
    struct node_report r;
    node_report(n, &r);
    return node_algo(n) != NULL || (member_storm_keeps(s, v) && r.progress > 0);
}

static void disk_write(struct member_slot *slot, struct node *n)
{
    struct node_report r;
    node_report(n, &r);
    uint64_t mark = node_saving(n);
    blob_unref(slot->disk.method);
    slot->disk = (struct member_disk){.any = true,
                                      .id = slot->id,
                                      .method = node_method_state(n, false),
                                      .steps = r.progress,
                                      .claimed = r.claimed,
                                      .incarnation = r.incarnation,
                                      .had_place = r.place != RANK_NONE,
                                      .place = r.place};
    memcpy(slot->disk.x, node_model(n), sizeof slot->disk.x);
    node_saved(n, mark);
}

void member_disk_save(struct member_storm *s)
{
    uint64_t now_us = member_storm_now_us(s);
    for (uint32_t v = 0; v < s->slots; v++) {
        struct member_slot *slot = &s->slot[v];
        struct node *n = simulation_node(s->sim, v);
        if (n == NULL || now_us < slot->save_us || slot->paused) continue;
        slot->save_us = now_us + s->save_gap_us;
        if (anything_to_save(s, v, n)) disk_write(slot, n);
    }
}

void member_disk_wanted(struct member_storm *s, uint32_t v)
{
    s->slot[v].save_now = s->save_now = true;
}

void member_disk_save_wanted(struct member_storm *s)
{
    if (!s->save_now) return;
    s->save_now = false;
    for (uint32_t v = 0; v < s->slots; v++) {
        struct member_slot *slot = &s->slot[v];
        struct node *n = simulation_node(s->sim, v);
        if (slot->save_now && n != NULL && anything_to_save(s, v, n)) disk_write(slot, n);
        slot->save_now = false;
    }
}
