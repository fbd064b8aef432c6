/* Heads of messages between nodes, written and read with msgpack-c: the frame of a head and the algorithm's
 * messages; the node's own kinds are in wire/control.c.
 *
 * Normal course
 *  - encoding packs straight into a blob of the largest size the message can take: one allocation.
 *  - decoding: wire_scan, then msgpack_unpack_next on the whole head, then each field's type and range.
 * Failure courses
 *  - anything the scan refuses never reaches msgpack-c.
 *  - a duplicate or missing key, a wrong type, a negative or too large integer, an address with characters
 *    that do not belong in one, members out of order: ERR_FORMAT or ERR_LIMIT naming the field.
 *  - an unknown key is skipped, so that a later version may add fields. */
#include "agent/wire/internal.h"

#include <stdlib.h>
#include <string.h>

#include <msgpack.h>

#include "base/check.h"

static const char *const key_names[KEY_COUNT] = {
    [KEY_KIND] = "kind",       [KEY_SEQUENCE] = "sequence",
    [KEY_SWIM] = "swim",       [KEY_ALGO_KIND] = "algorithm kind",
    [KEY_FIELDS] = "fields",   [KEY_BITS] = "bits",
    [KEY_READY] = "ready",     [KEY_PACKED] = "packed",
    [KEY_RECORDS] = "records", [KEY_OVERLAY] = "overlay",
    [KEY_STATE] = "state",
};

static_assert(2u * KEY_COUNT + 2u + ALGO_FIELD_MAX <= WIRE_OBJECT_MAX,
              "a full algorithm head passes the scan");
static_assert(ADDRESS_TEXT_MAX <= WIRE_STRING_MAX, "an address passes the scan");

/* -- writing ----------------------------------------------------------------------------------- */

static int head_append(void *ctx, const char *bytes, size_t size)
{
    struct head_writer *w = ctx;
    CHECK(size <= w->capacity - w->blob->size);
    memcpy(w->blob->data + w->blob->size, bytes, size);
    w->blob->size += size;
    return 0;
}

void head_begin(struct head_writer *w, struct msgpack_packer *packer, size_t capacity, size_t keys,
                enum wire_kind kind, uint64_t sequence)
{
    CHECK(capacity <= MESSAGE_HEAD_MAX);
    w->blob = blob_new(capacity);
    w->capacity = capacity;
    w->blob->size = 0;
    w->packer = packer;
    msgpack_packer_init(packer, w, head_append);
    msgpack_pack_map(w->packer, 2 + keys);
    head_key(w, KEY_KIND);
    head_number(w, kind);
    head_key(w, KEY_SEQUENCE);
    head_number(w, sequence);
}

void head_key(struct head_writer *w, enum wire_key key)
{
    msgpack_pack_uint8(w->packer, (uint8_t)key);
}

void head_number(struct head_writer *w, uint64_t number)
{
    msgpack_pack_uint64(w->packer, number);
}

void head_array(struct head_writer *w, size_t count)
{
    msgpack_pack_array(w->packer, count);
}

void head_text(struct head_writer *w, const char *text)
{
    size_t length = strlen(text);
    msgpack_pack_str(w->packer, length);
    msgpack_pack_str_body(w->packer, text, length);
}

struct blob *head_end(const struct head_writer *w)
{
    return w->blob;
}

struct blob *wire_encode_algo(uint64_t sequence, const struct algo_msg *msg)
{
    CHECK(msg->field_count <= ALGO_FIELD_MAX);
    CHECK(msg->bits_size <= ALGO_BITS_MAX);
    struct msgpack_packer packer;
    struct head_writer w;
    CHECK(msg->vec == NULL || msg->packed == NULL);
    size_t keys = 1u + (msg->field_count > 0) + (msg->bits_size > 0) + (msg->packed != NULL);
    head_begin(&w, &packer, HEAD_OVERHEAD + msg->field_count * (size_t)INTEGER_MAX + msg->bits_size, keys,
               WIRE_ALGO, sequence);
    head_key(&w, KEY_ALGO_KIND);
    head_number(&w, msg->kind);
    if (msg->field_count > 0) {
        head_key(&w, KEY_FIELDS);
        head_array(&w, msg->field_count);
        for (uint32_t i = 0; i < msg->field_count; i++) head_number(&w, msg->field[i]);
    }
    if (msg->bits_size > 0) {
        head_key(&w, KEY_BITS);
        msgpack_pack_bin(w.packer, msg->bits_size);
        msgpack_pack_bin_body(w.packer, msg->bits, msg->bits_size);
    }
    if (msg->packed != NULL) {
        head_key(&w, KEY_PACKED);
        head_number(&w, 1);
    }
    return head_end(&w);
}

/* -- reading ----------------------------------------------------------------------------------- */

int read_unsigned(const struct msgpack_object *o, enum wire_key key, uint64_t low, uint64_t high,
                  uint64_t *out, struct err_text *why)
{
    if (o->type != MSGPACK_OBJECT_POSITIVE_INTEGER)
        return err_set(why, ERR_FORMAT, "head: %s is not an unsigned integer", key_names[key]);
    if (o->via.u64 < low || o->via.u64 > high)
        return err_set(why, ERR_FORMAT, "head: %s %llu is out of range", key_names[key],
                       (unsigned long long)o->via.u64);
    *out = o->via.u64;
    return 0;
}

static int read_fields(const msgpack_object *o, struct algo_msg *msg, struct err_text *why)
{
    if (o->type != MSGPACK_OBJECT_ARRAY) return err_set(why, ERR_FORMAT, "head: fields is not an array");
    if (o->via.array.size > ALGO_FIELD_MAX)
        return err_set(why, ERR_LIMIT, "head: %u fields, at most %u", o->via.array.size, ALGO_FIELD_MAX);
    for (uint32_t i = 0; i < o->via.array.size; i++) {
        int err = read_unsigned(&o->via.array.ptr[i], KEY_FIELDS, 0, UINT64_MAX, &msg->field[i], why);
        if (err != 0) return err;
    }
    msg->field_count = (uint8_t)o->via.array.size;
    return 0;
}

static int read_bits(const msgpack_object *o, struct algo_msg *msg, struct err_text *why)
{
    if (o->type != MSGPACK_OBJECT_BIN) return err_set(why, ERR_FORMAT, "head: bits is not binary");
    if (o->via.bin.size > ALGO_BITS_MAX)
        return err_set(why, ERR_LIMIT, "head: bits over %u bytes", ALGO_BITS_MAX);
    msg->bits_size = o->via.bin.size;
    /* msgpack-c leaves strings where they are: in the head the caller holds. */
    msg->bits = o->via.bin.size > 0 ? (const uint8_t *)o->via.bin.ptr : NULL;
    return 0;
}

int read_text(const struct msgpack_object *o, const char *what, char *out, size_t room, struct err_text *why)
{
    if (o->type != MSGPACK_OBJECT_STR) return err_set(why, ERR_FORMAT, "head: %s is not a string", what);
    if (o->via.str.size >= room) return err_set(why, ERR_LIMIT, "head: %s over %zu bytes", what, room - 1);
    for (uint32_t i = 0; i < o->via.str.size; i++) {
        if (o->via.str.ptr[i] <= ' ' || o->via.str.ptr[i] > '~')
            return err_set(why, ERR_FORMAT, "head: %s with a character that is not printable ASCII", what);
        out[i] = o->via.str.ptr[i];
    }
    out[o->via.str.size] = '\0';
    return 0;
}

static int read_key(struct wire_message *m, enum wire_key key, const msgpack_object *o, struct err_text *why)
{
    uint64_t value = 0;
    int err = 0;
    switch (key) {
    case KEY_KIND:
        err = read_unsigned(o, key, WIRE_SWIM, WIRE_STATE, &value, why);
        m->kind = (enum wire_kind)value;
        return err;
    case KEY_SEQUENCE:
        return read_unsigned(o, key, 1, UINT64_MAX, &m->sequence, why);
    case KEY_SWIM:
        return read_swim(o, m, why);
    case KEY_ALGO_KIND:
        err = read_unsigned(o, key, 0, UINT8_MAX, &value, why);
        m->msg.kind = (uint8_t)value;
        return err;
    case KEY_FIELDS:
        return read_fields(o, &m->msg, why);
    case KEY_BITS:
        return read_bits(o, &m->msg, why);
    case KEY_READY:
        return read_ready(o, m, why);
    case KEY_PACKED:
        err = read_unsigned(o, key, 1, 1, &value, why);
        m->packed = err == 0;
        return err;
    case KEY_RECORDS:
        return read_records(o, m, why);
    case KEY_OVERLAY:
        return read_overlay(o, m, why);
    case KEY_STATE:
        return read_state(o, m, why);
    case KEY_COUNT:
        break;
    }
    UNREACHABLE();
}

static int check_keys(const struct wire_message *m, uint32_t seen, struct err_text *why)
{
    static const uint8_t needed_by_kind[] = {[WIRE_SWIM] = KEY_SWIM,
                                             [WIRE_ALGO] = KEY_ALGO_KIND,
                                             [WIRE_READY] = KEY_READY,
                                             [WIRE_OVERLAY] = KEY_OVERLAY,
                                             [WIRE_STATE] = KEY_STATE};
    for (unsigned key = KEY_KIND; key <= KEY_SEQUENCE; key++) {
        if ((seen & (1u << key)) == 0) return err_set(why, ERR_FORMAT, "head: %s is missing", key_names[key]);
    }
    unsigned needed = needed_by_kind[m->kind];
    if ((seen & (1u << needed)) == 0)
        return err_set(why, ERR_FORMAT, "head: %s is missing", key_names[needed]);
    return 0;
}

static int read_head(const msgpack_object *o, struct wire_message *m, struct err_text *why)
{
    if (o->type != MSGPACK_OBJECT_MAP) return err_set(why, ERR_FORMAT, "head: not a map");
    uint32_t seen = 0;
    for (uint32_t i = 0; i < o->via.map.size; i++) {
        const msgpack_object_kv *pair = &o->via.map.ptr[i];
        if (pair->key.type != MSGPACK_OBJECT_POSITIVE_INTEGER)
            return err_set(why, ERR_FORMAT, "head: a key is not an unsigned integer");
        if (pair->key.via.u64 >= KEY_COUNT) continue; /* of a later version */
        enum wire_key key = (enum wire_key)pair->key.via.u64;
        if ((seen & (1u << key)) != 0)
            return err_set(why, ERR_FORMAT, "head: %s is there twice", key_names[key]);
        seen |= 1u << key;
        int err = read_key(m, key, &pair->val, why);
        if (err != 0) return err;
    }
    return check_keys(m, seen, why);
}

int wire_decode(const uint8_t *head, size_t size, struct wire_message *out, struct err_text *why)
{
    memset(out, 0, sizeof *out);
    int err = wire_scan(head, size, why);
    if (err != 0) return err;
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    size_t at = 0;
    if (msgpack_unpack_next(&unpacked, (const char *)head, size, &at) != MSGPACK_UNPACK_SUCCESS || at != size)
        err = err_set(why, ERR_FORMAT, "head: not msgpack");
    else
        err = read_head(&unpacked.data, out, why);
    msgpack_unpacked_destroy(&unpacked);
    if (err != 0) wire_message_deinit(out);
    return err;
}

void wire_message_deinit(struct wire_message *m)
{
    free(m->member);
    free(m->peer);
    memset(m, 0, sizeof *m);
}
