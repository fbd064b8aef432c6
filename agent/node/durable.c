/* What a node keeps of its algorithm for a life to come, and the messages that wait until it is kept.
 *
 * Normal course
 *  - a former life's state is taken up by the first algorithm, before START.
 *  - a durable message is held and the owner asked for a save; once one that began later is on disk, it goes. Neither
 *    the loop nor training waits.
 * Failure courses
 *  - the state does not fit (damaged, of another method): one line; the algorithm goes on from its model alone.
 *  - the save fails: the message waits for the next one.
 *  - its link goes meanwhile, or another comes in its place: it is lost with it, as any message.
 *  - more wait than HELD_MAX: the oldest is dropped; whoever it was for has given up long since.
 *  - the place is lost: what waits is dropped; the state goes to the algorithm at the next place. */
#include <stdlib.h>
#include <string.h>

#include "agent/node/internal.h"
#include "algo/state.h"
#include "base/check.h"

/* -- the state --------------------------------------------------------------------------------- */

struct blob *node_method_state(const struct node *n, bool last)
{
    if (n->algo == NULL) return blob_ref(n->method);
    return algo_state_save(n->config.algo, n->algo, n->rank, n->config.dim, last);
}

void node_method_keep(struct node *n)
{
    struct blob *state = node_method_state(n, true);
    blob_unref(n->method);
    n->method = state;
}

void node_method_restore(struct node *n)
{
    struct err_text why = {""};
    if (n->method == NULL) return;
    if (algo_state_restore(n->config.algo, n->algo, n->config.dim, n->method->data, n->method->size, &why) !=
        0)
        trace_line(n->config.trace, TRACE_WARN, "the saved state of %s is not used: %s; its model is",
                   n->config.algo->spec.name, why.text);
    blob_unref(n->method);
    n->method = NULL;
}

/* -- messages ---------------------------------------------------------------------------------- */

static struct link *link_to(const struct node *n, rank_t to)
{
    const struct neighbour *nb = node_neighbour_find(n, to);
    struct link *l = nb != NULL ? nb->link : NULL;
    return l == NULL || l->closing || !l->presented ? NULL : l;
}

/* The first `count` are gone. */
static void remove_first(struct node *n, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        blob_unref(n->held[i].msg.vec);
        blob_unref(n->held[i].msg.packed);
        free((void *)(uintptr_t)n->held[i].msg.bits);
    }
    n->held_count -= count;
    memmove(n->held, n->held + count, n->held_count * sizeof *n->held);
}

void node_durable_drop(struct node *n)
{
    remove_first(n, n->held_count);
}

static const uint8_t *copy_bits(const struct algo_msg *msg)
{
    if (msg->bits_size == 0) return NULL;
    uint8_t *bits = mem_new(msg->bits_size, 1);
    memcpy(bits, msg->bits, msg->bits_size);
    return bits;
}

void node_durable_hold(struct node *n, rank_t to, const struct algo_msg *msg)
{
    const struct link *l = link_to(n, to);
    if (l == NULL) return;
    if (n->held_count == HELD_MAX) remove_first(n, 1);
    struct held *h = &n->held[n->held_count++];
    *h = (struct held){.to = to, .link = l->id, .number = ++n->held_last, .msg = *msg};
    blob_ref(h->msg.vec);
    blob_ref(h->msg.packed);
    h->msg.bits = copy_bits(msg);
    n->sink.on_save(n->sink.ctx);
}

uint64_t node_saving(const struct node *n)
{
    return n->held_last;
}

void node_saved(struct node *n, uint64_t mark)
{
    uint32_t count = 0;
    while (count < n->held_count && n->held[count].number <= mark) count++;
    for (uint32_t i = 0; i < count && !n->failed; i++) {
        const struct held *h = &n->held[i];
        const struct link *l = link_to(n, h->to);
        bool same = l != NULL && l->id.slot == h->link.slot && l->id.generation == h->link.generation;
        if (same) node_send(n, h->to, &h->msg);
    }
    remove_first(n, count);
}
