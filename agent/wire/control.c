/* Heads of the node's own messages: READY, SWIM, OVERLAY, STATE. See wire.h for their fields.
 *
 * Normal course
 *  - numbers and texts in the order of wire.h; lists of records are flat arrays.
 * Failure courses
 *  - another number of fields, an enumeration out of range, a place no experiment has, more records or peers than
 *    one message may hold: ERR_FORMAT or ERR_LIMIT naming the field. What the values mean is for the machines. */
#include <string.h>

#include <msgpack.h>

#include "agent/wire/internal.h"
#include "base/check.h"

enum { READY_FIELDS = 3, SWIM_FIELDS = 4, OVERLAY_FIELDS = 3, STATE_FIELDS = 9 };

#define TEXT_OVERHEAD 3u /* bytes of a string's header */
#define RECORD_SIZE_MAX                                                                                      \
    ((4u + MEMBER_META_MAX) * INTEGER_MAX + 2u + 2u * TEXT_OVERHEAD + ADDRESS_TEXT_MAX + TAG_TEXT_MAX)

static_assert(HEAD_OVERHEAD + 2u * INTEGER_MAX + ADDRESS_TEXT_MAX + SWIM_UPDATE_MAX * RECORD_SIZE_MAX <=
                  MESSAGE_HEAD_MAX,
              "a full SWIM message fits");
static_assert(2u * KEY_COUNT + SWIM_FIELDS + 4u + SWIM_UPDATE_MAX * WIRE_RECORD_FIELDS <= WIRE_OBJECT_MAX,
              "a full SWIM message passes the scan");

/* -- writing ----------------------------------------------------------------------------------- */

struct blob *wire_encode_ready(uint64_t sequence, const struct wire_ready *ready)
{
    struct msgpack_packer packer;
    struct head_writer w;
    head_begin(&w, &packer, HEAD_OVERHEAD + READY_FIELDS * INTEGER_MAX, 1, WIRE_READY, sequence);
    head_key(&w, KEY_READY);
    head_array(&w, READY_FIELDS);
    head_number(&w, ready->place);
    head_number(&w, ready->claimed);
    head_number(&w, ready->your_place);
    return head_end(&w);
}

static void write_record(struct head_writer *w, const struct member *m)
{
    head_number(w, m->id);
    head_number(w, m->boot);
    head_number(w, m->incarnation);
    head_number(w, m->state);
    head_number(w, m->accuser);
    head_number(w, m->evidence);
    head_text(w, m->address);
    head_text(w, m->tag);
    for (uint32_t i = 0; i < MEMBER_META_MAX; i++) head_number(w, m->meta[i]);
}

struct blob *wire_encode_swim(uint64_t sequence, const struct swim_msg *msg)
{
    CHECK(msg->update_count <= SWIM_UPDATE_MAX);
    struct msgpack_packer packer;
    struct head_writer w;
    size_t capacity = HEAD_OVERHEAD + 3u * INTEGER_MAX + TEXT_OVERHEAD + strlen(msg->seen);
    for (uint32_t i = 0; i < msg->update_count; i++)
        capacity += RECORD_SIZE_MAX - ADDRESS_TEXT_MAX - TAG_TEXT_MAX + strlen(msg->update[i].address) +
                    strlen(msg->update[i].tag);
    head_begin(&w, &packer, capacity, msg->update_count > 0 ? 2 : 1, WIRE_SWIM, sequence);
    head_key(&w, KEY_SWIM);
    head_array(&w, SWIM_FIELDS);
    head_number(&w, msg->kind);
    head_number(&w, msg->number);
    head_number(&w, msg->target);
    head_text(&w, msg->seen);
    if (msg->update_count == 0) return head_end(&w);
    head_key(&w, KEY_RECORDS);
    head_array(&w, (size_t)msg->update_count * WIRE_RECORD_FIELDS);
    for (uint32_t i = 0; i < msg->update_count; i++) write_record(&w, &msg->update[i]);
    return head_end(&w);
}

struct blob *wire_encode_overlay(uint64_t sequence, const struct overlay_msg *msg)
{
    CHECK(msg->peer_count <= OVERLAY_PEER_MAX);
    struct msgpack_packer packer;
    struct head_writer w;
    size_t capacity = HEAD_OVERHEAD + 3u * INTEGER_MAX;
    for (uint32_t i = 0; i < msg->peer_count; i++)
        capacity += INTEGER_MAX + TEXT_OVERHEAD + strlen(msg->peer[i].address);
    head_begin(&w, &packer, capacity, 1, WIRE_OVERLAY, sequence);
    head_key(&w, KEY_OVERLAY);
    head_array(&w, OVERLAY_FIELDS + 2u * (size_t)msg->peer_count);
    head_number(&w, msg->kind);
    head_number(&w, msg->ttl);
    head_number(&w, msg->urgent);
    for (uint32_t i = 0; i < msg->peer_count; i++) {
        head_number(&w, msg->peer[i].id);
        head_text(&w, msg->peer[i].address);
    }
    return head_end(&w);
}

struct blob *wire_encode_state(uint64_t sequence, const struct state_msg *msg)
{
    struct msgpack_packer packer;
    struct head_writer w;
    const uint64_t number[STATE_FIELDS] = {msg->kind,       msg->snapshot, msg->size,
                                           msg->chunk_size, msg->progress, msg->first,
                                           msg->count,      msg->hash,     msg->wait_us};
    head_begin(&w, &packer, HEAD_OVERHEAD + STATE_FIELDS * INTEGER_MAX, 1, WIRE_STATE, sequence);
    head_key(&w, KEY_STATE);
    head_array(&w, STATE_FIELDS);
    for (uint32_t i = 0; i < STATE_FIELDS; i++) head_number(&w, number[i]);
    return head_end(&w);
}

/* -- reading ----------------------------------------------------------------------------------- */

static int read_array(const struct msgpack_object *o, const char *what, uint32_t least, uint32_t most,
                      struct err_text *why)
{
    if (o->type != MSGPACK_OBJECT_ARRAY) return err_set(why, ERR_FORMAT, "head: %s is not an array", what);
    if (o->via.array.size < least)
        return err_set(why, ERR_FORMAT, "head: %s with %u of %u fields", what, o->via.array.size, least);
    if (o->via.array.size > most)
        return err_set(why, ERR_LIMIT, "head: %s with %u fields, at most %u", what, o->via.array.size, most);
    return 0;
}

int read_ready(const struct msgpack_object *o, struct wire_message *m, struct err_text *why)
{
    int err = read_array(o, "ready", READY_FIELDS, READY_FIELDS, why);
    if (err != 0) return err;
    const struct msgpack_object *field = o->via.array.ptr;
    uint64_t place = 0, your_place = 0;
    err = read_unsigned(&field[0], KEY_READY, 0, NODE_COUNT_MAX - 1, &place, why);
    if (err == 0) err = read_unsigned(&field[1], KEY_READY, 0, UINT64_MAX, &m->ready.claimed, why);
    if (err == 0) err = read_unsigned(&field[2], KEY_READY, 0, NODE_COUNT_MAX - 1, &your_place, why);
    m->ready.place = (rank_t)place;
    m->ready.your_place = (rank_t)your_place;
    return err;
}

int read_swim(const struct msgpack_object *o, struct wire_message *m, struct err_text *why)
{
    int err = read_array(o, "swim", SWIM_FIELDS, SWIM_FIELDS, why);
    if (err != 0) return err;
    const struct msgpack_object *field = o->via.array.ptr;
    uint64_t kind = 0;
    err = read_unsigned(&field[0], KEY_SWIM, SWIM_PING, SWIM_GOSSIP, &kind, why);
    if (err == 0) err = read_unsigned(&field[1], KEY_SWIM, 0, UINT64_MAX, &m->swim.number, why);
    if (err == 0) err = read_unsigned(&field[2], KEY_SWIM, 0, UINT64_MAX, &m->swim.target, why);
    if (err == 0) err = read_text(&field[3], "an address", m->swim.seen, sizeof m->swim.seen, why);
    m->swim.kind = (enum swim_kind)kind;
    return err;
}

static int read_record(const struct msgpack_object *field, struct member *m, struct err_text *why)
{
    uint64_t state = 0, evidence = 0;
    int err = read_unsigned(&field[0], KEY_RECORDS, 0, UINT64_MAX, &m->id, why);
    if (err == 0) err = read_unsigned(&field[1], KEY_RECORDS, 0, UINT64_MAX, &m->boot, why);
    if (err == 0) err = read_unsigned(&field[2], KEY_RECORDS, 0, UINT64_MAX, &m->incarnation, why);
    if (err == 0) err = read_unsigned(&field[3], KEY_RECORDS, MEMBER_ALIVE, MEMBER_LEFT, &state, why);
    if (err == 0) err = read_unsigned(&field[4], KEY_RECORDS, 0, UINT64_MAX, &m->accuser, why);
    if (err == 0)
        err = read_unsigned(&field[5], KEY_RECORDS, EVIDENCE_NONE, EVIDENCE_REFUSED, &evidence, why);
    if (err == 0) err = read_text(&field[6], "an address", m->address, sizeof m->address, why);
    if (err == 0) err = read_text(&field[7], "a tag", m->tag, sizeof m->tag, why);
    for (uint32_t i = 0; i < MEMBER_META_MAX && err == 0; i++)
        err = read_unsigned(&field[8 + i], KEY_RECORDS, 0, UINT64_MAX, &m->meta[i], why);
    m->state = (enum member_state)state;
    m->evidence = (enum member_evidence)evidence;
    return err;
}

int read_records(const struct msgpack_object *o, struct wire_message *m, struct err_text *why)
{
    int err = read_array(o, "records", WIRE_RECORD_FIELDS, SWIM_UPDATE_MAX * WIRE_RECORD_FIELDS, why);
    if (err != 0) return err;
    if (o->via.array.size % WIRE_RECORD_FIELDS != 0)
        return err_set(why, ERR_FORMAT, "head: records: the last one is cut short");
    uint32_t count = o->via.array.size / WIRE_RECORD_FIELDS;
    m->member = mem_new_zero(count, sizeof *m->member);
    for (uint32_t i = 0; i < count && err == 0; i++)
        err = read_record(&o->via.array.ptr[i * WIRE_RECORD_FIELDS], &m->member[i], why);
    m->swim.update = m->member;
    m->swim.update_count = count;
    return err;
}

static int read_peers(const struct msgpack_object *field, struct wire_message *m, uint32_t count,
                      struct err_text *why)
{
    int err = 0;
    m->peer = mem_new_zero(count, sizeof *m->peer);
    m->overlay.peer = m->peer;
    m->overlay.peer_count = count;
    for (uint32_t i = 0; i < count && err == 0; i++) {
        struct overlay_peer *p = &m->peer[i];
        err = read_unsigned(&field[2 * i], KEY_OVERLAY, 0, UINT64_MAX, &p->id, why);
        if (err == 0) err = read_text(&field[2 * i + 1], "an address", p->address, sizeof p->address, why);
    }
    return err;
}

int read_overlay(const struct msgpack_object *o, struct wire_message *m, struct err_text *why)
{
    int err = read_array(o, "overlay", OVERLAY_FIELDS, OVERLAY_FIELDS + 2 * OVERLAY_PEER_MAX, why);
    if (err != 0) return err;
    const struct msgpack_object *field = o->via.array.ptr;
    uint32_t extra = o->via.array.size - OVERLAY_FIELDS;
    if (extra % 2 != 0) return err_set(why, ERR_FORMAT, "head: overlay: an id without an address");
    uint64_t kind = 0, ttl = 0, urgent = 0;
    err = read_unsigned(&field[0], KEY_OVERLAY, OVERLAY_JOIN, OVERLAY_SHUFFLE_REPLY, &kind, why);
    if (err == 0) err = read_unsigned(&field[1], KEY_OVERLAY, 0, UINT32_MAX, &ttl, why);
    if (err == 0) err = read_unsigned(&field[2], KEY_OVERLAY, 0, 1, &urgent, why);
    if (err != 0) return err;
    m->overlay.kind = (enum overlay_kind)kind;
    m->overlay.ttl = (uint32_t)ttl;
    m->overlay.urgent = urgent != 0;
    return read_peers(field + OVERLAY_FIELDS, m, extra / 2, why);
}

int read_state(const struct msgpack_object *o, struct wire_message *m, struct err_text *why)
{
    struct state_msg *s = &m->state;
    int err = read_array(o, "state", STATE_FIELDS, STATE_FIELDS, why);
    if (err != 0) return err;
    uint64_t kind = 0;
    uint64_t *const number[STATE_FIELDS] = {&kind,     &s->snapshot, &s->size, &s->chunk_size, &s->progress,
                                            &s->first, &s->count,    &s->hash, &s->wait_us};
    for (uint32_t i = 0; i < STATE_FIELDS && err == 0; i++)
        err = read_unsigned(&o->via.array.ptr[i], KEY_STATE, i == 0 ? STATE_ASK : 0,
                            i == 0 ? STATE_DONE : UINT64_MAX, number[i], why);
    s->kind = (enum state_kind)kind;
    return err;
}
