/* Relaying for others: pairs of members, each with a link to us, whose messages we pass on.
 *
 * Normal course
 *  - OPEN from one goes on to the other, if we have a link to it and room; ACCEPT and CONFIRM open the pair.
 *  - DATA is queued and goes on as the other link and the rate allow; credit for it goes back when half a window has
 *    gone on, or nothing is left.
 *  - turns: one message of each pair and direction, control before bulk.
 * Failure courses
 *  - no link to the target, no room, we do not relay: REFUSE. That there is no room is said in the log now and then.
 *  - one link is lost, or one side closes: CLOSED goes to the other, what waits is dropped.
 *  - the link that a word has to go over is full: CREDIT and CLOSED are said later, an OPEN, ACCEPT or CONFIRM that
 *    cannot go on ends the pair.
 *  - no ACCEPT or CONFIRM in time: CLOSED goes to both.
 *  - another's id, a message over the window or out of sequence, a word that is not its sender's to say: ERR_PROTO,
 *    nothing changed. */
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "net/relay/internal.h"

#define BURST_US 50000u        /* of the rate, after a pause */
#define FULL_SAID_US 10000000u /* between two lines that say that we are full */

struct relay_pair *relay_pair_of(struct relay *r, struct link_id real, uint64_t call, uint32_t *side)
{
    for (uint32_t i = 0; i < RELAY_PAIR_MAX; i++) {
        struct relay_pair *p = &r->pair[i];
        if (p->state == PAIR_FREE || p->call != call) continue;
        for (*side = 0; *side < 2; ++*side)
            if (relay_same(p->side[*side].real, real)) return p;
    }
    return NULL;
}

void relay_totals(const struct relay *r, struct relay_totals *out)
{
    *out = r->totals;
    for (uint32_t i = 0; i < RELAY_PAIR_MAX; i++)
        out->pairs += r->pair[i].state == PAIR_ACCEPTED || r->pair[i].state == PAIR_OPEN;
}

/* -- ending ------------------------------------------------------------------------------------ */

static void pair_drop(struct relay_pair *p)
{
    for (int side = 0; side < 2; side++)
        for (int lane = 0; lane < 2; lane++) relay_queue_deinit(&p->side[side].queue[lane]);
}

static void pair_say_closed(struct relay *r, struct relay_pair *p)
{
    struct relay_frame f = {.kind = RELAY_CLOSED, .call = p->call, .why = p->why};
    bool owes = false;
    for (int i = 0; i < 2; i++) {
        struct relay_side *s = &p->side[i];
        if (s->owes_closed && !s->gone) s->owes_closed = relay_say(r, s->real, &f) == ERR_FULL;
        owes |= s->owes_closed && !s->gone;
    }
    if (!owes) p->state = PAIR_FREE;
}

static void pair_end(struct relay *r, struct relay_pair *p, enum down_reason why)
{
    p->state = PAIR_ENDING;
    p->why = why;
    pair_drop(p);
    p->side[0].owes_closed = p->side[1].owes_closed = true;
    pair_say_closed(r, p);
}

/* That we have ended a link is no word of its peer's. */
static enum down_reason told_reason(enum down_reason why)
{
    return why == DOWN_LOCAL || why == DOWN_PROTOCOL ? DOWN_RESET : why;
}

static void side_gone(struct relay *r, struct relay_pair *p, uint32_t side, enum down_reason why)
{
    p->side[side].gone = true;
    if (p->state == PAIR_ENDING)
        pair_say_closed(r, p);
    else
        pair_end(r, p, why);
}

void relay_pairs_real_down(struct relay *r, struct link_id real, enum down_reason why)
{
    for (uint32_t i = 0; i < RELAY_PAIR_MAX; i++)
        for (uint32_t side = 0; side < 2; side++) {
            struct relay_pair *p = &r->pair[i];
            if (p->state != PAIR_FREE && relay_same(p->side[side].real, real))
                side_gone(r, p, side, told_reason(why));
        }
}

void relay_pairs_end(struct relay *r)
{
    for (uint32_t i = 0; i < RELAY_PAIR_MAX; i++) {
        enum pair_state state = r->pair[i].state;
        if (state != PAIR_FREE && state != PAIR_ENDING) pair_end(r, &r->pair[i], DOWN_RESET);
    }
}

void relay_pairs_deinit(struct relay *r)
{
    for (uint32_t i = 0; i < RELAY_PAIR_MAX; i++) pair_drop(&r->pair[i]);
}

/* -- beginning --------------------------------------------------------------------------------- */

static struct relay_pair *pair_free(struct relay *r, uint64_t call)
{
    struct relay_pair *found = NULL;
    for (uint32_t i = 0; i < RELAY_PAIR_MAX; i++) {
        struct relay_pair *p = &r->pair[i];
        if (p->state == PAIR_FREE)
            found = p;
        else if (p->call == call)
            return NULL; /* of others: the caller draws another one */
    }
    return found;
}

static bool all_in_use(const struct relay *r)
{
    for (uint32_t i = 0; i < RELAY_PAIR_MAX; i++)
        if (r->pair[i].state == PAIR_FREE) return false;
    return true;
}

static void say_full(struct relay *r, const struct relay_frame *f)
{
    uint64_t now_us = relay_now_us(r);
    r->totals.refused++;
    if (now_us < r->full_said_us) return;
    r->full_said_us = time_after(now_us, FULL_SAID_US);
    trace_line(
        r->config.trace, TRACE_INFO,
        "not relaying between node %llu and node %llu: %u pairs are relayed already, and that is the limit",
        (unsigned long long)f->from, (unsigned long long)f->target, RELAY_PAIR_MAX);
}

int relay_pair_open(struct relay *r, const struct relay_real *from, const struct relay_frame *f)
{
    if (f->from != from->peer || f->boot != from->boot) return ERR_PROTO;
    const struct relay_real *to = relay_real_peer(r, f->target);
    struct relay_pair *p = pair_free(r, f->call);
    bool can = r->config.bytes_s > 0 && !r->closing && p != NULL;
    if (r->config.bytes_s > 0 && to != NULL && all_in_use(r)) say_full(r, f);
    if (!can || to == NULL || relay_say(r, to->id, f) != 0) { /* the last: its link is going down */
        struct relay_frame answer = {.kind = RELAY_REFUSE,
                                     .call = f->call,
                                     .refusal = can || to == NULL ? REFUSAL_NO_LINK : REFUSAL_BUSY};
        relay_say(r, from->id, &answer); /* unheard, the caller waits for its time */
        return 0;
    }
    *p = (struct relay_pair){
        .state = PAIR_ASKED,
        .call = f->call,
        .open_by_us = time_after(relay_now_us(r), 4 * r->config.answer_us),
        .side = {{.real = from->id, .peer = from->peer}, {.real = to->id, .peer = to->peer}}};
    return 0;
}

/* ACCEPT or CONFIRM. */
static int pair_go_on(struct relay *r, struct relay_pair *p, uint32_t side, const struct relay_frame *f)
{
    bool accept = f->kind == RELAY_ACCEPT;
    if (accept ? side != 1 || p->state != PAIR_ASKED : side != 0 || p->state != PAIR_ACCEPTED)
        return ERR_PROTO;
    if (accept && f->boot != relay_real_of(r, p->side[1].real)->boot) return ERR_PROTO;
    p->state = accept ? PAIR_ACCEPTED : PAIR_OPEN;
    if (relay_say(r, p->side[1 - side].real, f) != 0) {
        pair_end(r, p, DOWN_RESET);
        return 0;
    }
    if (!accept)
        trace_line(r->config.trace, TRACE_INFO, "relaying between node %llu and node %llu",
                   (unsigned long long)p->side[0].peer, (unsigned long long)p->side[1].peer);
    return 0;
}

static int pair_refused(struct relay *r, struct relay_pair *p, uint32_t side, const struct relay_frame *f)
{
    if (side != 1 || p->state != PAIR_ASKED) return ERR_PROTO;
    relay_say(r, p->side[0].real, f); /* as above */
    p->state = PAIR_FREE;
    return 0;
}

/* -- messages ---------------------------------------------------------------------------------- */

static int pair_data(struct relay *r, struct relay_pair *p, uint32_t side, enum lane lane,
                     const struct relay_frame *f, const uint8_t *head, size_t size, struct blob *body)
{
    struct relay_side *s = &p->side[side];
    struct relay_queue *q = &s->queue[lane];
    size_t cost = relay_message_cost(size, body);
    bool may =
        p->state == PAIR_OPEN || (side == 0 && p->state == PAIR_ACCEPTED); /* it may overtake CONFIRM */
    if (!may || f->sequence != s->received[lane] + 1) return ERR_PROTO;
    if (!relay_window_takes(q->count + s->owed_messages[lane], q->bytes + s->owed_bytes[lane], cost))
        return ERR_PROTO;
    s->received[lane]++;
    relay_queue_put(q, blob_copy(head, size), body, cost, 0);
    relay_pairs_pump(r, relay_now_us(r));
    return 0;
}

int relay_pair_heard(struct relay *r, struct relay_pair *p, uint32_t side, enum lane lane,
                     const struct relay_frame *f, const uint8_t *head, size_t size, struct blob *body)
{
    if (p->state == PAIR_ENDING && f->kind != RELAY_CLOSED) return 0; /* late */
    switch (f->kind) {
    case RELAY_ACCEPT:
    case RELAY_CONFIRM:
        return pair_go_on(r, p, side, f);
    case RELAY_REFUSE:
        return pair_refused(r, p, side, f);
    case RELAY_CLOSED:
        side_gone(r, p, side, f->why);
        return 0;
    case RELAY_DATA:
        return pair_data(r, p, side, lane, f, head, size, body);
    case RELAY_OPEN:
    case RELAY_CREDIT:
        return ERR_PROTO;
    }
    return ERR_PROTO;
}

/* -- passing on -------------------------------------------------------------------------------- */

static void pace(struct relay *r, size_t bytes, uint64_t now_us)
{
    uint64_t from_us = now_us > BURST_US ? now_us - BURST_US : 0;
    if (r->pace_us < from_us) r->pace_us = from_us;
    r->pace_us += (uint64_t)bytes * 1000000u / r->config.bytes_s + 1;
}

/* Passes on at most one message of a side. */
static bool side_pass(struct relay *r, struct relay_pair *p, uint32_t side, uint64_t now_us)
{
    struct relay_side *s = &p->side[side];
    for (int lane = 0; lane < 2; lane++) {
        const struct relay_message *m = relay_queue_first(&s->queue[lane]);
        if (m == NULL) continue;
        if (r->pace_us > now_us) {
            r->pace_holds = true;
            return false;
        }
        if (r->inner->ops->send(r->inner, p->side[1 - side].real, (enum lane)lane, m->head, m->body) != 0)
            continue;
        pace(r, m->cost, now_us);
        r->totals.messages++;
        r->totals.bytes += m->head->size + (m->body != NULL ? m->body->size : 0);
        s->owed_messages[lane]++;
        s->owed_bytes[lane] += m->cost;
        relay_queue_pop(&s->queue[lane]);
        return true;
    }
    return false;
}

static void side_credit(struct relay *r, const struct relay_pair *p, struct relay_side *s)
{
    for (int lane = 0; lane < 2; lane++) {
        bool half = s->owed_messages[lane] >= RELAY_WINDOW_MESSAGES / 2 ||
                    s->owed_bytes[lane] >= RELAY_WINDOW_BYTES / 2 || s->queue[lane].count == 0;
        if (s->owed_messages[lane] == 0 || !half) continue;
        struct relay_frame f = {.kind = RELAY_CREDIT,
                                .call = p->call,
                                .lane = (enum lane)lane,
                                .messages = s->owed_messages[lane],
                                .bytes = s->owed_bytes[lane]};
        if (relay_say(r, s->real, &f) != 0) continue;
        s->owed_messages[lane] = 0;
        s->owed_bytes[lane] = 0;
    }
}

void relay_pairs_pump(struct relay *r, uint64_t now_us)
{
    bool more = true;
    r->pace_holds = false;
    while (more) {
        more = false;
        for (uint32_t i = 0; i < RELAY_PAIR_MAX && !r->pace_holds; i++) {
            struct relay_pair *p = &r->pair[r->pair_next % RELAY_PAIR_MAX];
            if (p->state == PAIR_ACCEPTED || p->state == PAIR_OPEN)
                for (uint32_t side = 0; side < 2; side++) more |= side_pass(r, p, side, now_us);
            if (!r->pace_holds) r->pair_next++; /* who has to wait for the rate is the next one */
        }
        more &= !r->pace_holds;
    }
    for (uint32_t i = 0; i < RELAY_PAIR_MAX; i++) {
        struct relay_pair *p = &r->pair[i];
        bool opening = p->state == PAIR_ASKED || p->state == PAIR_ACCEPTED;
        if (opening && now_us >= p->open_by_us) pair_end(r, p, DOWN_SILENT);
        if (p->state == PAIR_ENDING) pair_say_closed(r, p);
        if (p->state != PAIR_ACCEPTED && p->state != PAIR_OPEN) continue;
        side_credit(r, p, &p->side[0]);
        side_credit(r, p, &p->side[1]);
    }
}

uint64_t relay_pairs_deadline_us(const struct relay *r)
{
    uint64_t at_us = r->pace_holds ? r->pace_us : TIME_NEVER;
    for (uint32_t i = 0; i < RELAY_PAIR_MAX; i++) {
        const struct relay_pair *p = &r->pair[i];
        bool opening = p->state == PAIR_ASKED || p->state == PAIR_ACCEPTED;
        if (opening && p->open_by_us < at_us) at_us = p->open_by_us;
    }
    return at_us;
}
