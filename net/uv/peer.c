/* A peer said hello on a connection of the libuv transport: is this the link to it?
 *
 * Normal course
 *  - no other link to that peer is up: the hello is answered, on_up.
 *
 * Two links to one peer (contract clause 8)
 *  - another boot id: the greater one stays, as of a process that was started again, unless the old link has
 *    been silent for two heartbeats. So two processes with one id do not replace each other for ever.
 *  - dialled by different ends: the one dialled by the smaller id stays, on both ends.
 *  - dialled by the same end: the acceptor decides, by answering the hello or not; it keeps the old link
 *    unless that has been silent for two heartbeats. The dialler follows.
 *
 * Failures
 *  - the link loses against another one: goodbye with ERR_DUPLICATE; a target that was dialled remembers who
 *    is there and waits as long as the other link is up.
 *  - an injected fault lets nothing through to that peer: no answer, and the link is given up (uv/fault.c).
 *  - too many links: goodbye with ERR_FULL, one line. */
#include <stdio.h>
#include <string.h>

#include "net/uv/internal.h"

static bool is_stale(const struct link *l)
{
    struct link_stats stats;
    conn_stats(l->conn, &stats);
    return tcp_now_us() - stats.last_word_us > 2 * l->owner->config.heartbeat_us;
}

static bool replaces(const struct link *l, const struct hello *peer, const struct link *old)
{
    if (peer->boot != old->peer.boot) return peer->boot > old->peer.boot || is_stale(old);
    if (l->dialled == old->dialled) return l->dialled || is_stale(old);
    bool dialled_by_smaller = l->dialled == (l->owner->config.id < peer->id);
    return dialled_by_smaller || (!l->dialled && is_stale(old));
}

/* Owes the owner no down any more, so that an up of the same peer comes after it. */
static void report_all_down(struct uv_tcp *t)
{
    for (uint32_t i = 0; i < t->slot_count; i++) {
        struct link *l = t->slots[i].link;
        if (l != NULL && l->announced && l->state > LINK_UP) link_report_down(l);
    }
}

static void fill_peer(struct link *l, const struct hello *hello)
{
    l->peer.id = hello->id;
    l->peer.boot = hello->boot;
    l->peer.dialled = l->dialled;
    char host[ADDRESS_TEXT_MAX];
    snprintf(host, sizeof host, "%s", l->remote);
    *strrchr(host, ':') = '\0';
    if (hello->address[0] != '\0')
        memcpy(l->peer.address, hello->address, sizeof l->peer.address);
    else if (hello->port == 0 ||
             snprintf(l->peer.address, sizeof l->peer.address, "%.264s:%u", host, hello->port) < 0)
        l->peer.address[0] = '\0';
}

/* A restart explains it; if not, an id is used twice, and this line says so. */
static void warn_of_replacement(const struct link *l, const struct link *old)
{
    struct uv_tcp *t = l->owner;
    if (conn_peer(l->conn)->boot == old->peer.boot) return;
    trace_limited(
        &t->replaced, tcp_now_us(), t->config.trace, TRACE_WARN,
        "node %llu at %s was started again and replaces its old link; if it was not, two nodes use that id",
        (unsigned long long)old->peer.id, l->remote);
}

/* The hello has come: decides whether this is the link to that peer. Upcalls on the way may end it. */
void link_greeted(struct link *l)
{
    struct uv_tcp *t = l->owner;
    const struct hello *hello = conn_peer(l->conn);
    if (l->target != NULL) dial_up(l->target, hello->id);
    if (t->faults.live > 0 && link_fault_greeted(l)) return;
    report_all_down(t);
    struct link *old = link_of_peer(t, hello->id);
    if (l->state == LINK_GREETING && old != NULL) {
        if (!replaces(l, hello, old)) {
            link_end(l, DOWN_REPLACED, ERR_DUPLICATE, false);
            return;
        }
        warn_of_replacement(l, old);
        link_end(old, DOWN_REPLACED, ERR_DUPLICATE, false);
        if (old->announced) link_report_down(old);
    }
    if (l->state != LINK_GREETING) return;
    if (t->totals.links >= LINK_COUNT_MAX) {
        trace_line(t->config.trace, TRACE_WARN, "link with %s refused: %u links are up", l->remote,
                   LINK_COUNT_MAX);
        link_end(l, DOWN_LOCAL, ERR_FULL, false);
        return;
    }
    conn_accept(l->conn);
    fill_peer(l, hello);
    l->state = LINK_UP;
    l->announced = true;
    l->up_us = tcp_now_us();
    t->totals.links++;
    if (l->stranger) t->stranger_count--;
    l->stranger = false;
    tcp_wake_at(t, conn_deadline_us(l->conn));
    tcp_want_turn(t);
    t->sink.on_up(t->sink.ctx, l->id, &l->peer);
}
