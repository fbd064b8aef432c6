/* Dialling when all members are given: neighbours, and nobody else once the node has begun.
 *
 *  - at first only the lower rank dials, so that two dials rarely cross. After a loss both sides dial: either
 *    may have restarted. A side whose peer got through first stops; the side that dialled keeps its dial, so that the
 *    transport's back-off governs a link that breaks again and again.
 *  - the side that was dialled waits for a second before it dials: it has undialled, so the transport has no
 *    back-off for it.
 *  - a neighbour never met within the patience is dialled from our side too: it may be behind a NAT. */
#include <stdlib.h>
#include <string.h>

#include "agent/node/internal.h"
#include "base/check.h"

#define REDIAL_AFTER_US 1000000u

static void neighbour_undial(struct node *n, struct neighbour *nb)
{
    if (nb->dialling == NULL) return;
    n->transport->ops->undial(n->transport, nb->dialling);
    free(nb->dialling);
    nb->dialling = NULL;
}

static void redial_soon(struct node *n)
{
    uint64_t at_us = node_now_us(n) + REDIAL_AFTER_US;
    if (at_us >= n->redial_at_us) return;
    n->redial_at_us = at_us;
    node_arm(n);
}

/* An address that cannot be dialled is said once and tried again. */
static void neighbour_dial(struct node *n, struct neighbour *nb)
{
    const struct member *m = &n->places.fixed[nb->rank];
    if (nb->dialling != NULL || m->address[0] == '\0') return;
    int err = n->transport->ops->dial(n->transport, m->address);
    if (err == 0) {
        nb->dialling = mem_copy_text(m->address);
        nb->dial_warned = false;
        return;
    }
    if (!nb->dial_warned)
        trace_line(n->config.trace, TRACE_WARN, "node %llu: cannot dial '%s': %s; trying again",
                   (unsigned long long)m->id, m->address, err_name(err));
    nb->dial_warned = true;
    redial_soon(n);
}

void node_redial_begin(struct node *n)
{
    for (size_t i = 0; i < n->seed_count; i++) n->transport->ops->undial(n->transport, n->seed[i]);
    n->redial_at_us = node_now_us(n) + n->config.patience_us;
    node_neighbours_review(n);
    for (uint32_t i = 0; i < n->neighbour_count; i++) {
        struct neighbour *nb = &n->neighbour[i];
        if (nb->link == NULL && n->rank < nb->rank) neighbour_dial(n, nb);
    }
}

void node_redial_all(struct node *n)
{
    for (uint32_t i = 0; i < n->neighbour_count; i++)
        if (n->neighbour[i].link == NULL) neighbour_dial(n, &n->neighbour[i]);
}

void node_redial_up(struct node *n, struct neighbour *nb, const struct link *l)
{
    if (!l->dialled) neighbour_undial(n, nb);
}

void node_redial_down(struct node *n, struct neighbour *nb, bool dialled)
{
    if (dialled)
        neighbour_dial(n, nb);
    else
        redial_soon(n);
}

void node_redial_refused(struct node *n, const char *address)
{
    for (uint32_t i = 0; i < n->neighbour_count; i++) {
        struct neighbour *nb = &n->neighbour[i];
        if (nb->dialling == NULL || strcmp(nb->dialling, address) != 0) continue;
        free(nb->dialling); /* the transport has given this address up */
        nb->dialling = NULL;
    }
}
