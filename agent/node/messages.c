/* What goes over a node's links: heads are encoded and decoded here, sequences kept, bodies checked.
 *
 * Normal course
 *  - a message of the algorithm goes out in the bulk lane when it has a body, else in the control lane, as
 *    all else does; each lane of each direction counts its messages from 1.
 *  - what comes in is decoded, its sequence and body are checked, and it goes to a machine or the algorithm.
 * Failure courses
 *  - the link is down or closing: the message is dropped; the algorithm has heard PEER_DOWN, or will.
 *  - ERR_FULL: one bulk message of the algorithm waits in the link's box for on_writable; a second one, or a control
 *    message, closes the link: the peer is too slow, and the algorithm's fencing repairs what is lost. Messages of
 *    membership, overlay and transfer are dropped: their machines repeat what matters.
 *  - lanes overtake each other: a message of the algorithm that comes before READY waits for it, EARLY_MAX of them.
 *  - a head that does not parse, a gap or repeat in the sequence, a vector of the wrong length or with values
 *    that are not finite, a packed body above the compressor's bound, an algorithm's message from a node that
 *    we did not say READY to, or one that the algorithm itself refuses: one log line, the link is
 *    closed, nothing has changed. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/node/internal.h"
#include "algo/vec.h"
#include "base/check.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "vectors travel as they are in memory, little-endian");

void node_link_forget(struct link *l)
{
    blob_unref(l->box_head);
    blob_unref(l->box_body);
    l->box_head = NULL;
    l->box_body = NULL;
    for (uint32_t i = 0; i < l->early_count; i++) {
        blob_unref(l->early[i].head);
        blob_unref(l->early[i].body);
    }
    l->early_count = 0;
}

void node_link_close(struct node *n, struct link *l, enum down_reason why)
{
    if (l->closing) return;
    l->closing = true;
    node_link_forget(l);
    n->transport->ops->disconnect(n->transport, l->id, why);
}

void node_warn(struct node *n, enum node_warning kind, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    trace_limited_list(&n->warned[kind], node_now_us(n), n->config.trace, TRACE_WARN, format, args);
    va_end(args);
}

void node_link_refuse(struct node *n, struct link *l, const char *why)
{
    if (l->closing) return;
    node_warn(n, NODE_WARN_REFUSED, "node %llu: %s; link closed", (unsigned long long)l->peer, why);
    n->refused++;
    node_link_close(n, l, DOWN_PROTOCOL);
}

/* -- out --------------------------------------------------------------------------------------- */

static void link_overflow(struct node *n, struct link *l)
{
    node_warn(n, NODE_WARN_REFUSED, "node %llu: takes messages too slowly; link closed",
              (unsigned long long)l->peer);
    node_link_close(n, l, DOWN_LOCAL);
}

/* Takes head; body is borrowed. */
static void link_send(struct node *n, struct link *l, enum lane lane, struct blob *head, struct blob *body)
{
    CHECK(!l->closing);
    int err = l->box_head != NULL && lane == LANE_BULK
                  ? ERR_FULL
                  : n->transport->ops->send(n->transport, l->id, lane, head, body);
    bool boxed = err == ERR_FULL && lane == LANE_BULK && l->box_head == NULL;
    if (boxed) {
        l->box_head = blob_ref(head);
        l->box_body = blob_ref(body);
    } else if (err == ERR_FULL) {
        link_overflow(n, l);
    } else {
        CHECK(err == 0 || err == ERR_NO_LINK); /* gone already: on_down is on its way */
    }
    blob_unref(head);
}

void node_send(struct node *n, rank_t to, const struct algo_msg *msg)
{
    const struct neighbour *nb = node_neighbour_find(n, to);
    CHECK(nb != NULL);
    CHECK_IMPLIES(msg->vec != NULL, msg->vec->size == n->config.dim * sizeof(float));
    CHECK_IMPLIES(msg->packed != NULL, msg->packed->size <= n->packed_size_max);
    struct link *l = nb->link;
    if (l == NULL || l->closing || !l->presented) return;
    struct blob *body = msg->vec != NULL ? msg->vec : msg->packed;
    enum lane lane = body != NULL ? LANE_BULK : LANE_CONTROL;
    link_send(n, l, lane, wire_encode_algo(++l->sent[lane], msg), body);
}

void node_send_ready(struct node *n, struct link *l, rank_t to)
{
    CHECK(!l->ready_sent);
    l->ready_sent = true;
    const struct wire_ready ready = {.place = n->rank, .claimed = n->claimed, .your_place = to};
    link_send(n, l, LANE_CONTROL, wire_encode_ready(++l->sent[LANE_CONTROL], &ready), NULL);
}

/* What the link does not take is dropped, and has no number. Takes head; returns 0 or ERR_FULL. */
static int link_offer(struct node *n, struct link *l, enum lane lane, struct blob *head, struct blob *body)
{
    int err = lane == LANE_BULK && l->box_head != NULL
                  ? ERR_FULL
                  : n->transport->ops->send(n->transport, l->id, lane, head, body);
    if (err == 0) l->sent[lane]++;
    blob_unref(head);
    return err == ERR_FULL ? err : 0;
}

void node_send_swim(struct node *n, struct link *l, const struct swim_msg *msg)
{
    link_offer(n, l, LANE_CONTROL, wire_encode_swim(l->sent[LANE_CONTROL] + 1, msg), NULL);
}

void node_send_overlay(struct node *n, struct link *l, const struct overlay_msg *msg)
{
    link_offer(n, l, LANE_CONTROL, wire_encode_overlay(l->sent[LANE_CONTROL] + 1, msg), NULL);
}

int node_send_state(struct node *n, struct link *l, const struct state_msg *msg)
{
    enum lane lane = msg->body != NULL ? LANE_BULK : LANE_CONTROL;
    return link_offer(n, l, lane, wire_encode_state(l->sent[lane] + 1, msg), msg->body);
}

void node_link_writable(struct node *n, struct link_id id)
{
    struct link *l = node_link_find(n, id);
    if (l == NULL) return;
    if (l->box_head != NULL) {
        int err = n->transport->ops->send(n->transport, id, LANE_BULK, l->box_head, l->box_body);
        if (err == ERR_FULL) return; /* another on_writable follows */
        CHECK(err == 0 || err == ERR_NO_LINK);
        blob_unref(l->box_head);
        blob_unref(l->box_body);
        l->box_head = NULL;
        l->box_body = NULL;
    }
    node_state_writable(n, l);
}

/* -- in ---------------------------------------------------------------------------------------- */

/* NULL, or what is wrong with the body of an algorithm's message. */
static const char *body_fault(const struct node *n, bool packed, const struct blob *body)
{
    if (packed) {
        if (body == NULL) return "sent a packed message without a body";
        if (!n->config.algo->packs) return "sent a packed body to an algorithm that sends none";
        return body->size <= n->packed_size_max ? NULL : "sent a packed body that is too long";
    }
    if (body == NULL) return NULL;
    if (body->size != n->config.dim * sizeof(float)) return "sent a vector of the wrong length";
    if (!vec_finite(n->config.dim, blob_floats(body))) return "sent a vector with values that are not finite";
    return NULL;
}

static const char *early_keep(struct link *l, const uint8_t *head, size_t size, struct blob *body)
{
    if (l->early_count == EARLY_MAX) return "sent messages of the algorithm and no READY";
    l->early[l->early_count++] = (struct early){blob_copy(head, size), blob_ref(body)};
    return NULL;
}

/* The algorithm's part of a message that was decoded; returns NULL or why it is refused. */
static const char *receive_algo(struct node *n, struct link *l, struct wire_message *m, struct blob *body)
{
    if (n->algo == NULL || !l->ready_sent || l->place == RANK_NONE)
        return "sent a message of the algorithm before we were ready";
    const char *fault = body_fault(n, m->packed, body);
    if (fault != NULL) return fault;
    node_link_present(n, l); /* with given members it may be that its READY is still on the way */
    if (!l->presented) return NULL;
    if (m->packed)
        m->msg.packed = body;
    else
        m->msg.vec = body;
    struct algo_event event = {.kind = ALGO_MESSAGE, .peer = l->place, .msg = &m->msg};
    return node_feed(n, &event) == 0 ? NULL : "sent a message that the algorithm refuses";
}

static const char *receive(struct node *n, struct link *l, struct wire_message *m, const uint8_t *head,
                           size_t size, struct blob *body)
{
    static const char nonsense[] = "sent a message of membership that makes no sense";
    bool alone = m->kind != WIRE_ALGO && m->kind != WIRE_STATE;
    if (alone && body != NULL) return "sent a body with a message that has none";
    if (m->kind != WIRE_ALGO && m->kind != WIRE_READY && n->membership == NULL)
        return "speaks of members, but all are given here";
    switch (m->kind) {
    case WIRE_ALGO:
        if (n->membership != NULL && l->ready_sent && !l->ready_received)
            return early_keep(l, head, size, body);
        return receive_algo(n, l, m, body);
    case WIRE_SWIM:
        return node_swim_heard(n, l, &m->swim) == 0 ? NULL : nonsense;
    case WIRE_READY:
        node_ready_heard(n, l, &m->ready);
        return NULL;
    case WIRE_OVERLAY:
        return node_overlay_heard(n, l, &m->overlay) == 0 ? NULL : nonsense;
    case WIRE_STATE:
        return node_state_heard(n, l, &m->state, body);
    }
    UNREACHABLE();
}

/* NULL when the number is the next one. */
static const char *sequence_fault(const struct link *l, enum lane lane, uint64_t sequence, char text[128])
{
    if (sequence == l->received[lane] + 1) return NULL;
    snprintf(text, 128, "sent message %llu of its %s lane after %llu", (unsigned long long)sequence,
             lane == LANE_BULK ? "bulk" : "control", (unsigned long long)l->received[lane]);
    return text;
}

void node_link_message(struct node *n, struct link_id id, enum lane lane, const uint8_t *head, size_t size,
                       struct blob *body)
{
    struct link *l = node_link_find(n, id);
    if (l == NULL || n->failed || n->leaving) return;
    struct wire_message m;
    struct err_text why = {""};
    char text[128];
    if (wire_decode(head, size, &m, &why) != 0) {
        node_link_refuse(n, l, why.text);
        return;
    }
    const char *refusal = sequence_fault(l, lane, m.sequence, text);
    if (refusal == NULL) {
        l->received[lane]++;
        refusal = receive(n, l, &m, head, size, body);
    }
    if (refusal != NULL) node_link_refuse(n, l, refusal);
    wire_message_deinit(&m);
}

void node_link_early(struct node *n, struct link *l)
{
    struct early early[EARLY_MAX];
    uint32_t count = l->early_count;
    memcpy(early, l->early, sizeof early);
    l->early_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct wire_message m;
        CHECK(wire_decode(early[i].head->data, early[i].head->size, &m, NULL) ==
              0); /* as it did when it came */
        const char *refusal = l->closing ? NULL : receive_algo(n, l, &m, early[i].body);
        if (refusal != NULL) node_link_refuse(n, l, refusal);
        wire_message_deinit(&m);
        blob_unref(early[i].head);
        blob_unref(early[i].body);
    }
}
