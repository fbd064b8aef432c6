/* Transport and host of each node of the lying network only note what is asked; the loop (fuzz_nodes.c) carries it out,
 * so that no callback nests (net/transport.h, clause 6). */
#include "tests/fuzz/fuzz_nodes_internal.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

static struct life *of_transport(const struct transport *t)
{
    return (struct life *)(uintptr_t)t;
}

static struct life *of_host(const struct host *h)
{
    return (struct life *)((uintptr_t)h - offsetof(struct life, host));
}

static int net_send(struct transport *t, struct link_id to, enum lane lane, struct blob *head,
                    struct blob *body)
{
    struct life *l = of_transport(t);
    struct pair *p = pair_of(l->net, l->number, to.slot);
    struct pipe *q = &l->net->pipe[l->number][to.slot];
    if (!p->up || p->ending || p->generation != to.generation) return ERR_NO_LINK;
    if (q->count == QUEUE_MAX) {
        q->full = true;
        return ERR_FULL;
    }
    q->parcel[q->count++] = (struct parcel){lane, blob_ref(head), blob_ref(body)};
    return 0;
}

static int net_dial(struct transport *t, const char *address)
{
    struct life *l = of_transport(t);
    if (strchr(address, ':') == NULL || strstr(address, ":0") != NULL) return ERR_USAGE;
    for (uint32_t i = 0; i < l->wanted_count; i++)
        if (strcmp(l->wanted[i], address) == 0) return 0;
    if (l->wanted_count == WANTED_MAX) return ERR_LIMIT;
    snprintf(l->wanted[l->wanted_count++], ADDRESS_TEXT_MAX, "%s", address);
    return 0;
}

void fuzz_undial(struct transport *t, const char *address)
{
    struct life *l = of_transport(t);
    for (uint32_t i = 0; i < l->wanted_count; i++) {
        if (strcmp(l->wanted[i], address) != 0) continue;
        memmove(l->wanted[i], l->wanted[--l->wanted_count], ADDRESS_TEXT_MAX);
        return;
    }
}

static void net_disconnect(struct transport *t, struct link_id link, enum down_reason why)
{
    struct life *l = of_transport(t);
    struct pair *p = pair_of(l->net, l->number, link.slot);
    if (!p->up || p->ending || p->generation != link.generation) return;
    p->ending = true;
    p->ended_by = l->number;
    p->why = why;
    l->net->tally->refused += why == DOWN_PROTOCOL;
}

static void net_totals(const struct transport *t, struct transport_totals *out)
{
    (void)t;
    *out = (struct transport_totals){0};
}

const struct transport_ops fuzz_transport_ops = {.send = net_send,
                                                 .dial = net_dial,
                                                 .undial = fuzz_undial,
                                                 .disconnect = net_disconnect,
                                                 .totals = net_totals};

static uint64_t net_now_us(const struct host *h)
{
    return of_host(h)->net->now_us;
}

static void net_deadline(struct host *h, uint64_t at_us)
{
    of_host(h)->deadline_us = at_us;
}

static int net_start_job(struct host *h, struct job *j)
{
    CHECK(of_host(h)->job == NULL);
    of_host(h)->job = j;
    return 0;
}

const struct host_ops fuzz_host_ops = {
    .now_us = net_now_us, .set_deadline = net_deadline, .start_job = net_start_job};
