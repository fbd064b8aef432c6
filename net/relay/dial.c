/* Looking for a relayer, and being found through one.
 *
 * Normal course
 *  - dial(): OPEN goes to one linked neighbour after the other, in relay_order(), until one relays and the target
 *    accepts; both ends come up. At most RELAY_ASK_MAX are asked in one try, the next try goes on behind them.
 *  - a link to one more neighbour comes up: dials that rest begin anew.
 *  - a linked target is not dialled; when its link goes down the next try follows after a back-off.
 * Failure courses
 *  - refused, no answer in time, its link lost, its lane full: the next neighbour. All of them: on_unreachable(), and
 *    the next try after a jittered back-off that doubles.
 *  - both ends dial: the call of the smaller id stays (clause 8), the other one is refused or taken back.
 *  - the caller has a link to us already, of an older life or one that it has lost: that one is replaced first.
 *  - a direct link to the target comes up: the call is taken back.
 *  - an injected fault keeps us apart: the try fails; its call is not answered, or refused (relay/fault.c).
 *  - oneself: on_refused(), and the dial ends. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "net/relay/internal.h"

#define ADDRESS_PREFIX "relay:node-"

void relay_address(node_id id, char out[ADDRESS_TEXT_MAX])
{
    snprintf(out, ADDRESS_TEXT_MAX, ADDRESS_PREFIX "%llu", (unsigned long long)id);
}

bool relay_address_parse(const char *address, node_id *out)
{
    if (strncmp(address, ADDRESS_PREFIX, sizeof ADDRESS_PREFIX - 1) != 0) return false;
    char again[ADDRESS_TEXT_MAX];
    *out = strtoull(address + sizeof ADDRESS_PREFIX - 1, NULL, 10);
    relay_address(*out, again);
    return strcmp(address, again) == 0; /* the one way to write it */
}

uint64_t relay_order(node_id target, node_id neighbour)
{
    uint64_t order = (target + 1) * 0x9e3779b97f4a7c15u ^ neighbour * 0xd6e8feb86659fd93u;
    order = (order ^ order >> 32) * 0xd6e8feb86659fd93u;
    return order ^ order >> 32;
}

/* -- the list ---------------------------------------------------------------------------------- */

static struct relay_dial *dial_of(struct relay *r, node_id target)
{
    for (uint32_t i = 0; i < r->dial_count; i++)
        if (r->dial[i].target == target) return &r->dial[i];
    return NULL;
}

static struct relay_dial *dial_of_call(struct relay *r, struct link_id real, uint64_t call)
{
    for (uint32_t i = 0; i < r->dial_count; i++) {
        struct relay_dial *d = &r->dial[i];
        if (d->asking && d->call == call && relay_same(d->asked, real)) return d;
    }
    return NULL;
}

static bool is_linked(struct relay *r, node_id peer)
{
    return relay_real_peer(r, peer) != NULL || relay_link_peer(r, peer) != NULL;
}

void relay_dial_add(struct relay *r, node_id target)
{
    if (dial_of(r, target) != NULL) return;
    if (r->dial_count == r->dial_capacity) {
        r->dial_capacity = r->dial_capacity == 0 ? 8 : 2 * r->dial_capacity;
        r->dial = mem_resize(r->dial, r->dial_capacity, sizeof *r->dial);
    }
    r->dial[r->dial_count++] =
        (struct relay_dial){.target = target,
                            .at_us = is_linked(r, target) ? TIME_NEVER : relay_now_us(r),
                            .backoff_us = r->config.redial_min_us};
}

/* The call that is under way is taken back. If the word is lost the target gives up without CONFIRM. */
static void dial_cancel(struct relay *r, struct relay_dial *d)
{
    struct relay_frame f = {.kind = RELAY_CLOSED, .call = d->call, .why = DOWN_CLOSED};
    if (d->asking) relay_say(r, d->asked, &f);
    d->asking = d->trying = false;
}

void relay_dial_remove(struct relay *r, node_id target)
{
    struct relay_dial *d = dial_of(r, target);
    if (d == NULL) return;
    dial_cancel(r, d);
    *d = r->dial[--r->dial_count];
}

void relay_dials_forget(struct relay *r)
{
    while (r->dial_count > 0) relay_dial_remove(r, r->dial[0].target);
    free(r->dial);
    r->dial = NULL;
    r->dial_capacity = 0;
}

/* -- tries ------------------------------------------------------------------------------------- */

static uint64_t jittered(struct relay *r, uint64_t us)
{
    return (uint64_t)((double)us * prng_uniform(&r->prng, 0.5, 1.5));
}

static void dial_rest(struct relay *r, struct relay_dial *d, uint64_t now_us)
{
    if (d->busy && !d->busy_said)
        trace_line(r->config.trace, TRACE_INFO,
                   "node %llu: no link through others yet: who could relay has no room for another pair",
                   (unsigned long long)d->target);
    d->busy_said |= d->busy;
    d->trying = d->asking = d->busy = false;
    d->at_us = time_after(now_us, jittered(r, d->backoff_us));
    d->backoff_us = 2 * d->backoff_us < r->config.redial_max_us ? 2 * d->backoff_us : r->config.redial_max_us;
}

static bool dial_ask(struct relay *r, struct relay_dial *d, const struct relay_real *real, uint64_t now_us)
{
    struct relay_frame f = {.kind = RELAY_OPEN,
                            .call = prng_next(&r->prng),
                            .target = d->target,
                            .from = r->config.id,
                            .boot = r->config.boot};
    if (relay_say(r, real->id, &f) != 0) return false;
    d->asking = true;
    d->asked = real->id;
    d->call = f.call;
    d->at_us = time_after(now_us, r->config.answer_us);
    return true;
}

/* The next one to ask in this round; NULL when all have been. */
static const struct relay_real *dial_next(const struct relay *r, struct relay_dial *d)
{
    const struct relay_real *next = NULL;
    uint64_t first = 0;
    for (uint32_t i = 0; i < r->real_count; i++) {
        uint64_t order = relay_order(d->target, r->real[i].peer);
        if ((d->any_asked && order <= d->order_asked) || (next != NULL && order >= first)) continue;
        next = &r->real[i];
        first = order;
    }
    d->any_asked = next != NULL;
    d->order_asked = first;
    return next;
}

/* Begins a try or goes on with it; false: it has failed, and the next one is set. */
static bool dial_step(struct relay *r, struct relay_dial *d, uint64_t now_us)
{
    if (!d->trying) d->left = RELAY_ASK_MAX;
    d->trying = true;
    const struct relay_real *real;
    bool silently;
    if (relay_fault_refuses(r, d->target, &silently)) d->left = 0;
    while (d->left > 0 && (real = dial_next(r, d)) != NULL) {
        d->left--;
        if (dial_ask(r, d, real, now_us)) return true;
    }
    dial_rest(r, d, now_us);
    return false;
}

/* The owner may change the list when it is told. */
static void dial_go_on(struct relay *r, struct relay_dial *d)
{
    char address[ADDRESS_TEXT_MAX];
    relay_address(d->target, address);
    if (dial_step(r, d, relay_now_us(r)) || r->sink.on_unreachable == NULL) return;
    r->sink.on_unreachable(r->sink.ctx, address, ERR_TIMEOUT);
}

static void dial_due(struct relay *r, struct relay_dial *d)
{
    if (d->target == r->config.id) {
        char address[ADDRESS_TEXT_MAX];
        relay_address(d->target, address);
        relay_dial_remove(r, d->target);
        r->sink.on_refused(r->sink.ctx, address, ERR_SELF, "the address is this node itself");
        return;
    }
    bool trying = d->trying;
    if (d->asking) dial_cancel(r, d); /* no answer in time */
    d->trying = trying;
    dial_go_on(r, d);
}

void relay_dials_tick(struct relay *r, uint64_t now_us)
{
    for (uint32_t i = 0; i < r->dial_count; i++)
        if (r->dial[i].at_us <= now_us) dial_due(r, &r->dial[i]);
}

uint64_t relay_dials_deadline_us(const struct relay *r)
{
    uint64_t at_us = TIME_NEVER;
    for (uint32_t i = 0; i < r->dial_count; i++)
        if (r->dial[i].at_us < at_us) at_us = r->dial[i].at_us;
    return at_us;
}

/* -- what changes around them ------------------------------------------------------------------ */

void relay_dials_direct(struct relay *r, node_id peer)
{
    struct relay_dial *d = dial_of(r, peer);
    if (d == NULL) return;
    dial_cancel(r, d);
    d->at_us = TIME_NEVER;
}

void relay_dials_more(struct relay *r)
{
    uint64_t now_us = relay_now_us(r);
    for (uint32_t i = 0; i < r->dial_count; i++) {
        struct relay_dial *d = &r->dial[i];
        if (d->trying || d->at_us == TIME_NEVER) continue;
        d->any_asked = false;
        d->at_us = now_us;
    }
}

void relay_dials_again(struct relay *r, node_id peer)
{
    struct relay_dial *d = dial_of(r, peer);
    if (d == NULL || d->trying || is_linked(r, peer)) return;
    d->backoff_us = r->config.redial_min_us;
    dial_rest(r, d, relay_now_us(r));
}

void relay_dials_real_down(struct relay *r, struct link_id real)
{
    for (uint32_t i = 0; i < r->dial_count; i++) {
        struct relay_dial *d = &r->dial[i];
        if (!d->asking || !relay_same(d->asked, real)) continue;
        d->asking = false;
        d->at_us = relay_now_us(r);
    }
}

/* -- answers ----------------------------------------------------------------------------------- */

static void come_up(struct relay *r, const struct relay_link *l)
{
    struct relay_dial *d = dial_of(r, l->peer.id);
    if (d != NULL) {
        d->asking = d->trying = d->any_asked = d->busy = d->busy_said = false;
        d->backoff_us = r->config.redial_min_us;
        d->at_us = TIME_NEVER;
    }
    trace_line(r->config.trace, TRACE_INFO, "node %llu: linked through node %llu",
               (unsigned long long)l->peer.id, (unsigned long long)relay_real_of(r, l->real)->peer);
    struct peer_info peer = l->peer;
    r->sink.on_up(r->sink.ctx, l->id, &peer);
}

void relay_accept_heard(struct relay *r, struct link_id real, const struct relay_frame *f)
{
    struct relay_dial *d = dial_of_call(r, real, f->call);
    if (d == NULL) return; /* taken back, and said so */
    bool silently, refused = relay_fault_refuses(r, d->target, &silently);
    struct relay_link *l = refused ? NULL : relay_link_begin(r, real, f->call, d->target, f->boot, true);
    if (l != NULL) {
        come_up(r, l);
        return;
    }
    dial_cancel(r, d);
    dial_rest(r, d, relay_now_us(r));
}

void relay_refuse_heard(struct relay *r, struct link_id real, const struct relay_frame *f)
{
    struct relay_dial *d = dial_of_call(r, real, f->call);
    if (d == NULL) return;
    d->asking = false;
    d->busy |= f->refusal == REFUSAL_BUSY;
    dial_go_on(r, d);
}

/* Whether the caller gets a link, beside the one that we may have with it. */
static bool open_is_good(struct relay *r, const struct relay_frame *f, enum relay_refusal *why)
{
    const struct relay_dial *d = dial_of(r, f->from);
    const struct relay_link *old = relay_link_peer(r, f->from);
    bool ours_stays = d != NULL && d->asking && r->config.id < f->from;
    *why = ours_stays || relay_real_peer(r, f->from) != NULL ? REFUSAL_NOT_NEEDED : REFUSAL_BUSY;
    if (*why == REFUSAL_NOT_NEEDED || r->closing) return false;
    if (old != NULL && f->boot < old->peer.boot) return false;
    return old != NULL || relay_links_room(r);
}

int relay_open_heard(struct relay *r, const struct relay_real *from, const struct relay_frame *f)
{
    struct link_id real = from->id; /* the table may move when the owner is told something */
    struct relay_frame answer = {.kind = RELAY_REFUSE, .call = f->call};
    struct relay_link *old = relay_link_peer(r, f->from);
    bool silently;
    if (relay_fault_refuses(r, f->from, &silently)) {
        answer.refusal = REFUSAL_BUSY;
        if (!silently) relay_say(r, real, &answer);
        return 0;
    }
    if (open_is_good(r, f, &answer.refusal) && old != NULL) {
        relay_link_end(r, old, DOWN_REPLACED, DOWN_REPLACED);
        relay_links_tick(r, relay_now_us(r));
    }
    if (!open_is_good(r, f, &answer.refusal)) {
        relay_say(r, real, &answer); /* unheard, the caller waits for its time */
        return 0;
    }
    struct relay_dial *d = dial_of(r, f->from);
    if (d != NULL) dial_cancel(r, d);
    answer.kind = RELAY_ACCEPT;
    answer.boot = r->config.boot;
    if (relay_say(r, real, &answer) != 0) {
        if (d != NULL) dial_rest(r, d, relay_now_us(r));
        return 0;
    }
    come_up(r, relay_link_begin(r, real, f->call, f->from, f->boot, false));
    return 0;
}
