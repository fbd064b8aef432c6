/* What goes over a node's links: heads are encoded and decoded here, sequences kept, bodies checked.
 *
 * Normal course
 *  - a message of the algorithm goes out in the bulk lane when it has a body, else in the control lane;
 *    each lane of each direction counts its messages from 1.
 *  - what comes in is decoded, its sequence and body are checked, and it goes to the roster or the algorithm.
 * Failure courses
 *  - the link is down or closing: the message is dropped; the algorithm has heard PEER_DOWN, or will.
 *  - ERR_FULL: one bulk message waits in the link's box for on_writable; a second one, or a control message,
 *    closes the link: the peer is too slow, and the algorithm's fencing repairs what is lost.
 *  - a head that does not parse, a gap or repeat in the sequence, a vector of the wrong length or with values
 *    that are not finite, a packed body above the compressor's bound, an algorithm's message from a node that
 *    is no neighbour or before READY, or one that the algorithm itself refuses: one log line, the link is
 *    closed, nothing has changed. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/node_internal.h"
#include "algo/vec.h"
#include "base/check.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "vectors travel as they are in memory, little-endian");

#define WARN_INTERVAL_US 1000000u

void node_link_close(struct node *n, struct link *l, enum down_reason why)
{
    if (l->closing) return;
    l->closing = true;
    blob_unref(l->box_head);
    blob_unref(l->box_body);
    l->box_head = NULL;
    l->box_body = NULL;
    n->transport->ops->disconnect(n->transport, l->id, why);
}

void node_warn(struct node *n, enum node_warning kind, const char *format, ...)
{
    struct node_warned *w = &n->warned[kind];
    uint64_t now_us = n->host->ops->now_us(n->host);
    if (w->any && now_us - w->at_us < WARN_INTERVAL_US) {
        w->hidden++;
        return;
    }
    char text[640], more[48] = "";
    if (w->hidden > 0) snprintf(more, sizeof more, " (and %llu more)", (unsigned long long)w->hidden);
    *w = (struct node_warned){.at_us = now_us, .any = true};
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    trace_line(n->config.trace, TRACE_WARN, "%s%s", text, more);
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
    uint32_t edge = graph_edge_index(n->graph, n->rank, to);
    CHECK(edge != UINT32_MAX);
    CHECK_IMPLIES(msg->vec != NULL, msg->vec->size == n->config.dim * sizeof(float));
    CHECK_IMPLIES(msg->packed != NULL, msg->packed->size <= n->packed_size_max);
    struct link *l = n->neighbour[edge - n->graph->offset[n->rank]].link;
    if (l == NULL || l->closing || !l->presented) return;
    struct blob *body = msg->vec != NULL ? msg->vec : msg->packed;
    enum lane lane = body != NULL ? LANE_BULK : LANE_CONTROL;
    link_send(n, l, lane, wire_encode_algo(++l->sent[lane], msg), body);
}

void node_send_members(struct node *n, struct link *l, const struct wire_member *member, uint32_t count)
{
    while (count > 0 && !l->closing) {
        uint32_t fit = wire_members_fit(member, count);
        link_send(n, l, LANE_CONTROL, wire_encode_members(++l->sent[LANE_CONTROL], member, fit), NULL);
        member += fit;
        count -= fit;
    }
}

void node_send_ready(struct node *n, struct link *l)
{
    if (l->closing || l->ready_sent) return;
    l->ready_sent = true;
    link_send(n, l, LANE_CONTROL, wire_encode_ready(++l->sent[LANE_CONTROL], n->fingerprint), NULL);
}

void node_link_writable(struct node *n, struct link_id id)
{
    struct link *l = node_link_find(n, id);
    if (l == NULL || l->box_head == NULL) return;
    int err = n->transport->ops->send(n->transport, id, LANE_BULK, l->box_head, l->box_body);
    if (err == ERR_FULL) return; /* another on_writable follows */
    CHECK(err == 0 || err == ERR_NO_LINK);
    blob_unref(l->box_head);
    blob_unref(l->box_body);
    l->box_head = NULL;
    l->box_body = NULL;
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
    if (!vec_finite(n->config.dim, blob_floats(body)))
        return "sent a vector with values that are not finite";
    return NULL;
}

/* The algorithm's part of a message that was decoded; returns NULL or why it is refused. */
static const char *receive_algo(struct node *n, struct link *l, struct wire_message *m, struct blob *body)
{
    if (n->algo == NULL || !l->ready_sent) return "sent a message of the algorithm before we were ready";
    if (l->place == PLACE_NONE) return "sent a message of the algorithm without being a neighbour";
    const char *fault = body_fault(n, m->packed, body);
    if (fault != NULL) return fault;
    /* Lanes overtake each other: its READY may still be on the way. It is ready, or it would not have sent.
     */
    node_link_present(n, l);
    if (m->packed)
        m->msg.packed = body;
    else
        m->msg.vec = body;
    struct algo_event event = {.kind = ALGO_MESSAGE, .peer = l->rank, .msg = &m->msg};
    return node_feed(n, &event) == 0 ? NULL : "sent a message that the algorithm refuses";
}

static const char *receive(struct node *n, struct link *l, struct wire_message *m, struct blob *body)
{
    switch (m->kind) {
    case WIRE_ALGO:
        return receive_algo(n, l, m, body);
    case WIRE_MEMBERS:
        if (body != NULL) return "sent a member list with a body";
        node_members_heard(n, l, m->member, m->member_count);
        return NULL;
    case WIRE_READY:
        if (body != NULL) return "sent READY with a body";
        node_ready_heard(n, l, m->fingerprint);
        return NULL;
    }
    UNREACHABLE();
}

void node_link_message(struct node *n, struct link_id id, enum lane lane, const uint8_t *head, size_t size,
                       struct blob *body)
{
    struct link *l = node_link_find(n, id);
    if (l == NULL || n->failed) return;
    struct wire_message m;
    struct err_text why = {""};
    if (wire_decode(head, size, &m, &why) != 0) {
        node_link_refuse(n, l, why.text);
        return;
    }
    if (m.sequence != l->received[lane] + 1) {
        char text[128];
        snprintf(text, sizeof text, "sent message %llu of its %s lane after %llu",
                 (unsigned long long)m.sequence, lane == LANE_BULK ? "bulk" : "control",
                 (unsigned long long)l->received[lane]);
        node_link_refuse(n, l, text);
    } else {
        l->received[lane]++;
        const char *refusal = receive(n, l, &m, body);
        if (refusal != NULL) node_link_refuse(n, l, refusal);
    }
    wire_message_deinit(&m);
}
