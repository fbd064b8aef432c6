/* Messages: what cannot be, what is merged, what is answered.
 *
 * Normal course
 *  - the records of a message are merged, then its question is answered: PING with ACK, PING_REQ by a probe of our
 *    own, SYNC with what the asker does not know.
 * Failure courses
 *  - an unknown kind, a field where none belongs or none where one must be, too many records, unfinished text:
 *    ERR_PROTO before anything is looked at.
 *  - from somebody without a link (it has just gone), or after LEAVE: dropped. */
#include <stdio.h>
#include <string.h>

#include "net/membership/internal.h"

static bool message_is_sound(const struct swim_msg *msg)
{
    if (msg->update_count > SWIM_UPDATE_MAX || (msg->update_count > 0 && msg->update == NULL)) return false;
    if (!membership_text_is_sound(msg->seen, sizeof msg->seen)) return false;
    switch ((uint32_t)msg->kind) {
    case SWIM_PING:
        return msg->target == 0 && msg->seen[0] == '\0';
    case SWIM_ACK:
    case SWIM_PING_REQ:
    case SWIM_NACK:
        return msg->seen[0] == '\0';
    case SWIM_SYNC:
        return msg->target == 0;
    case SWIM_SYNC_REPLY:
        return msg->target == 0 && msg->number == 0;
    case SWIM_GOSSIP:
        return msg->target == 0 && msg->number == 0 && msg->seen[0] == '\0';
    default: /* a peer's number */
        return false;
    }
}

static void seen_as(struct membership *m, node_id peer, const char *seen)
{
    if (seen[0] == '\0' || strcmp(seen, m->self->m.address) == 0) return;
    snprintf(m->seen, sizeof m->seen, "%s", seen);
    membership_act(m, MEMBERSHIP_SEEN_AS, peer)->address = m->seen;
}

static void answer(struct membership *m, struct member_link *l, const struct swim_msg *msg)
{
    switch (msg->kind) {
    case SWIM_PING:
        membership_send(m, l->id, (struct swim_msg){.kind = SWIM_ACK, .number = msg->number});
        break;
    case SWIM_ACK:
        if (!membership_relay_acked(m, l->id, msg->number)) membership_probe_acked(m, l->id, msg->number);
        break;
    case SWIM_PING_REQ:
        membership_relay_asked(m, l->id, msg);
        break;
    case SWIM_NACK:
        membership_probe_nacked(m, msg->number);
        break;
    case SWIM_SYNC:
        if (msg->number == 0)
            membership_sync_reply(m, l);
        else if (msg->number != membership_sync_hash(m))
            membership_sync(m, l);
        break;
    case SWIM_SYNC_REPLY:
    case SWIM_GOSSIP:
        break;
    }
}

int membership_message(struct membership *m, node_id peer, const struct swim_msg *msg)
{
    if (!message_is_sound(msg)) return ERR_PROTO;
    struct member_link *l = membership_link(m, peer);
    if (l == NULL || m->left) return 0;
    l->last_us = m->now_us;
    bool sync = msg->kind == SWIM_SYNC || msg->kind == SWIM_SYNC_REPLY;
    for (uint32_t i = 0; i < msg->update_count; i++) membership_hear(m, peer, &msg->update[i], sync);
    if (sync) seen_as(m, peer, msg->seen);
    answer(m, l, msg);
    return 0;
}
