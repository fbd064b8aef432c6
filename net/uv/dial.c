/* Whom the libuv transport calls: names, the addresses they stand for, and when to try again.
 *
 * Normal course
 *  - dial_add takes "host:port". Numbers are one target; a name is resolved, again and again while it is
 *    dialled, and every address it stands for is a target (a service name of several containers).
 *  - a target without a link is dialled when its time has come, in an order of our own, so that not all the
 *    members of a large service call the same few first; at most DIAL_AT_ONCE_MAX of one name are being
 *    called. Once a link has lasted, the back-off starts anew.
 *
 * Failures
 *  - the name does not resolve, the target refuses or is silent: exponential back-off with seeded jitter.
 *  - the target greets and hangs up: the same; only a link that lived for redial_max_us ends the back-off.
 *  - an injected fault lets nothing through to who was there last: as if the target were silent.
 *  - the target is ourselves, in another cluster or of another version: on_refused, never dialled again. The
 *    other targets of its name are, and the name goes on being resolved: who it stands for may change.
 *  - the target's peer is linked already (it dialled us): the target waits until that link is lost.
 *  - the target's peer has another link with our id while we have none with it, again and again: one line, that a
 *    later process uses our id.
 *  - the name's server is slow: threads of their own ask for a few names at once (uv/resolve.h); more wait for their
 *    turn, while all else goes on. The end waits for none of them.
 *  - the name no longer stands for an address: its target goes when it has no link. */
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "net/uv/internal.h"

#define DIAL_AT_ONCE_MAX 16u
#define USURPED_QUIET 2u  /* of silence_us: by then a link of ours that it has not yet seen end has ended */
#define RESOLVE_QUIET 30u /* of redial_max_us: between two resolutions while all targets have links */

static uint64_t backoff_us(struct uv_tcp *t, uint32_t failures)
{
    uint64_t most_us = t->config.redial_min_us;
    for (uint32_t i = 0; i < failures && most_us < t->config.redial_max_us; i++) most_us *= 2;
    if (most_us > t->config.redial_max_us) most_us = t->config.redial_max_us;
    return 1 + (uint64_t)((double)most_us * prng_uniform(&t->jitter, 0.5, 1.0));
}

static void target_retry(struct dial_target *target)
{
    struct uv_tcp *t = target->name->owner;
    target->next_us = tcp_now_us() + backoff_us(t, target->failures);
    if (target->failures < UINT32_MAX) target->failures++;
    tcp_wake_at(t, target->next_us);
}

/* -- names and targets ------------------------------------------------------------------------- */

static void target_add(struct dial_name *n, const struct sockaddr_storage *address, uint64_t now_us)
{
    uint32_t count = 0;
    for (struct dial_target *old = n->targets; old != NULL; old = old->next, count++)
        if (address_equal(&old->address, address)) {
            old->stale = false;
            return;
        }
    if (count == DIAL_TARGET_MAX) return;
    struct dial_target **place = &n->targets;
    for (uint32_t skip = prng_below(&n->owner->jitter, count + 1); skip > 0; skip--) place = &(*place)->next;
    struct dial_target *target = mem_new_zero(1, sizeof *target);
    target->name = n;
    target->address = *address;
    target->next_us = now_us;
    address_print((const struct sockaddr *)address, true, target->text);
    target->next = *place;
    *place = target;
}

static void target_free(struct dial_target *target)
{
    struct link *l = target->link;
    if (l != NULL) {
        l->target = NULL;
        if (l->state != LINK_UP) link_end(l, DOWN_LOCAL, ERR_CLOSED, false);
    }
    free(target);
}

static void name_remove(struct uv_tcp *t, struct dial_name **place)
{
    struct dial_name *n = *place;
    *place = n->next;
    t->name_count--;
    while (n->targets != NULL) {
        struct dial_target *target = n->targets;
        n->targets = target->next;
        target_free(target);
    }
    if (n->question != NULL) resolver_drop(t->resolver, n->question);
    free(n);
}

static struct dial_name **name_place(struct uv_tcp *t, const char *text)
{
    struct dial_name **place = &t->names;
    while (*place != NULL && strcmp((*place)->text, text) != 0) place = &(*place)->next;
    return place;
}

/* Dialled again by the owner: who refused us may be another by now. */
static void name_revive(struct dial_name *n)
{
    uint64_t now_us = tcp_now_us();
    for (struct dial_target *target = n->targets; target != NULL; target = target->next) {
        if (!target->refused) continue;
        target->refused = false;
        target->next_us = now_us;
        tcp_wake_at(n->owner, now_us);
    }
}

int dial_add(struct uv_tcp *t, const char *address)
{
    char host[ADDRESS_TEXT_MAX], port[8];
    if (address_split(address, host, port) != 0 || strcmp(port, "0") == 0) return ERR_USAGE;
    if (t->closing) return 0;
    struct dial_name **place = name_place(t, address);
    if (*place != NULL) {
        name_revive(*place);
        return 0;
    }
    if (t->name_count >= DIAL_NAME_MAX) return ERR_LIMIT;
    struct dial_name *n = mem_new_zero(1, sizeof *n);
    n->owner = t;
    memcpy(n->text, address, strlen(address) + 1);
    memcpy(n->host, host, sizeof host);
    memcpy(n->port, port, sizeof port);
    uint64_t now_us = tcp_now_us();
    struct sockaddr_storage number;
    n->numeric = address_from_numbers(host, port, &number);
    n->next_us = n->numeric ? TIME_NEVER : now_us;
    if (n->numeric) target_add(n, &number, now_us);
    *place = n;
    t->name_count++;
    tcp_wake_at(t, now_us);
    return 0;
}

void dial_remove(struct uv_tcp *t, const char *address)
{
    struct dial_name **place = name_place(t, address);
    if (*place != NULL) name_remove(t, place);
}

void dial_remove_all(struct uv_tcp *t)
{
    while (t->names != NULL) name_remove(t, &t->names);
}

/* Several targets of one name: it is out of reach when none of them has a link. The upcall is last. */
static void tell_unreachable(const struct dial_name *n, int failed)
{
    const struct transport_sink *sink = &n->owner->sink;
    if (sink->on_unreachable == NULL) return;
    for (const struct dial_target *target = n->targets; target != NULL; target = target->next)
        if (target->link != NULL) return;
    char address[ADDRESS_TEXT_MAX];
    memcpy(address, n->text, sizeof address);
    sink->on_unreachable(sink->ctx, address, failed);
}

/* -- resolving --------------------------------------------------------------------------------- */

static void take_addresses(struct dial_name *n, const struct addrinfo *found, uint64_t now_us)
{
    for (struct dial_target *target = n->targets; target != NULL; target = target->next) target->stale = true;
    for (const struct addrinfo *a = found; a != NULL; a = a->ai_next) {
        struct sockaddr_storage address = {0};
        if (a->ai_addrlen > sizeof address || (a->ai_family != AF_INET && a->ai_family != AF_INET6)) continue;
        memcpy(&address, a->ai_addr, a->ai_addrlen);
        target_add(n, &address, now_us);
    }
}

static void resolved(void *ctx, int status, struct addrinfo *found)
{
    struct dial_name *n = ctx;
    struct uv_tcp *t = n->owner;
    n->question = NULL;
    uint64_t now_us = tcp_now_us();
    if (status == 0) {
        take_addresses(n, found, now_us);
        freeaddrinfo(found);
        n->failures = 0;
        n->resolved_us = now_us;
        n->next_us = now_us + backoff_us(t, UINT32_MAX); /* seldom: only to see what has changed */
        tcp_wake_at(t, now_us);
        return;
    }
    n->next_us = now_us + backoff_us(t, n->failures++);
    tcp_wake_at(t, n->next_us);
    if (n->failures == 1)
        trace_line(t->config.trace, TRACE_DEBUG, "cannot resolve %s: %s; trying again", n->host,
                   gai_strerror(status));
    else /* not after the line: its reader may close us and so free n */
        tell_unreachable(n, ERR_NOT_FOUND);
}

static void name_resolve(struct dial_name *n, uint64_t now_us)
{
    struct uv_tcp *t = n->owner;
    int err = 0;
    if (t->resolver == NULL) {
        t->resolver = resolver_new(t->loop, &err);
        t->open_handles += err == 0;
    }
    if (err != 0) {
        n->next_us = now_us + backoff_us(t, n->failures++);
        tcp_wake_at(t, n->next_us);
        return;
    }
    n->question = resolver_ask(t->resolver, n->host, n->port, resolved, n);
    n->next_us = TIME_NEVER;
}

/* -- trying ------------------------------------------------------------------------------------ */

static void target_try(struct dial_target *target)
{
    struct uv_tcp *t = target->name->owner;
    if (target->peer_known && link_of_peer(t, target->peer) != NULL) {
        target->next_us = TIME_NEVER; /* until dial_peer_lost */
        return;
    }
    bool stopped = t->faults.live > 0 && fault_stops_dial(target);
    if (stopped || t->link_count >= SLOT_COUNT_MAX || link_dial(t, target) != 0) target_retry(target);
}

static bool all_linked(const struct dial_name *n)
{
    bool any = false;
    for (const struct dial_target *target = n->targets; target != NULL; target = target->next) {
        if (target->refused) continue;
        bool up = target->link != NULL && target->link->state == LINK_UP;
        bool waits = target->link == NULL && target->next_us == TIME_NEVER; /* its peer dialled us */
        if (!up && !waits) return false;
        any = true;
    }
    return any;
}

/* While nobody is missing the name's server is left in peace most of the time. */
static void name_refresh(struct dial_name *n, uint64_t now_us)
{
    if (n->numeric || n->question != NULL || now_us < n->next_us) return;
    struct uv_tcp *t = n->owner;
    bool fresh = n->resolved_us != 0 && now_us - n->resolved_us < RESOLVE_QUIET * t->config.redial_max_us;
    if (fresh && all_linked(n))
        n->next_us = now_us + backoff_us(t, UINT32_MAX);
    else
        name_resolve(n, now_us);
}

static uint32_t calls_under_way(const struct dial_name *n)
{
    uint32_t count = 0;
    for (const struct dial_target *target = n->targets; target != NULL; target = target->next)
        if (target->link != NULL && target->link->state < LINK_UP) count++;
    return count;
}

/* While all lines are taken nothing is due: whatever frees one wakes us. */
static uint64_t name_tick(struct dial_name *n, uint64_t now_us)
{
    name_refresh(n, now_us);
    uint64_t next_us = n->next_us;
    uint32_t calls = calls_under_way(n);
    struct dial_target **place = &n->targets;
    while (*place != NULL) {
        struct dial_target *target = *place;
        if (target->stale && target->link == NULL) {
            *place = target->next;
            target_free(target);
            continue;
        }
        if (target->link == NULL && !target->refused && calls < DIAL_AT_ONCE_MAX) {
            if (now_us >= target->next_us) target_try(target);
            calls += target->link != NULL;
            if (target->link == NULL && target->next_us < next_us) next_us = target->next_us;
        }
        place = &target->next;
    }
    return next_us;
}

uint64_t dial_tick(struct uv_tcp *t, uint64_t now_us)
{
    uint64_t next_us = TIME_NEVER;
    for (struct dial_name *n = t->names; n != NULL; n = n->next) {
        uint64_t at_us = name_tick(n, now_us);
        if (at_us < next_us) next_us = at_us;
    }
    return next_us;
}

/* One of its lines is free again. */
static void name_wake(const struct dial_name *n)
{
    tcp_wake_at(n->owner, tcp_now_us());
}

void dial_up(struct dial_target *target, node_id peer)
{
    name_wake(target->name);
    target->peer_known = true;
    target->peer = peer;
    target->usurped_us = 0;
}

/* It prefers another link with our id, and we have none: that is a process which began later than this one. */
static void heed_duplicate(struct dial_target *target)
{
    struct uv_tcp *t = target->name->owner;
    uint64_t now_us = tcp_now_us();
    if (!target->peer_known || link_of_peer(t, target->peer) != NULL) return;
    if (target->usurped_us == 0) target->usurped_us = now_us;
    if (target->usurped_told || now_us - target->usurped_us < USURPED_QUIET * t->config.silence_us) return;
    target->usurped_told = true;
    trace_line(
        t->config.trace, TRACE_WARN,
        "%s has a link with another process that uses our id %llu, started later; give each its own --id",
        target->text, (unsigned long long)t->config.id);
}

static bool all_refused(const struct dial_name *n)
{
    for (const struct dial_target *target = n->targets; target != NULL; target = target->next)
        if (!target->refused) return false;
    return true;
}

/* The upcall is last: it may undial and so free the target. */
void dial_down(struct dial_target *target, bool lasted, int err, const char *why, int failed)
{
    struct uv_tcp *t = target->name->owner;
    target->link = NULL;
    name_wake(target->name);
    if (lasted) target->failures = 0;
    if (err == ERR_DUPLICATE) heed_duplicate(target);
    if (err != ERR_SELF && err != ERR_CLUSTER && err != ERR_VERSION) {
        target_retry(target);
        if (failed != 0) tell_unreachable(target->name, failed);
        return;
    }
    target->refused = true;
    char address[ADDRESS_TEXT_MAX];
    memcpy(address, all_refused(target->name) ? target->name->text : target->text, sizeof address);
    t->sink.on_refused(t->sink.ctx, address, err, why);
}

void dial_peer_lost(struct uv_tcp *t, node_id peer)
{
    for (struct dial_name *n = t->names; n != NULL; n = n->next)
        for (struct dial_target *target = n->targets; target != NULL; target = target->next)
            if (target->link == NULL && !target->refused && target->peer_known && target->peer == peer &&
                target->next_us == TIME_NEVER)
                target_retry(target);
}
