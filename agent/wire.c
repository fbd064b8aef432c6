/* Heads of messages between nodes, written and read with msgpack-c (the only file that knows it).
 *
 * Normal course
 *  - encoding packs straight into a blob of the largest size the message can take: one allocation.
 *  - decoding: wire_scan, then msgpack_unpack_next on the whole head, then each field's type and range.
 * Failure courses
 *  - anything the scan refuses never reaches msgpack-c.
 *  - a duplicate or missing key, a wrong type, a negative or too large integer, an address with characters
 *    that do not belong in one, members out of order: ERR_FORMAT or ERR_LIMIT naming the field.
 *  - an unknown key is skipped, so that a later version may add fields. */
#include "agent/wire.h"

#include <stdlib.h>
#include <string.h>

#include <msgpack.h>

#include "base/check.h"

enum wire_key {
    KEY_KIND,
    KEY_SEQUENCE,
    KEY_MEMBERS,
    KEY_ALGO_KIND,
    KEY_FIELDS,
    KEY_BITS,
    KEY_FINGERPRINT,
    KEY_PACKED,
    KEY_TAGS,
    KEY_COUNT
};

static const char *const key_names[KEY_COUNT] = {
    [KEY_KIND] = "kind",
    [KEY_SEQUENCE] = "sequence",
    [KEY_MEMBERS] = "members",
    [KEY_ALGO_KIND] = "algorithm kind",
    [KEY_FIELDS] = "fields",
    [KEY_BITS] = "bits",
    [KEY_FINGERPRINT] = "fingerprint",
    [KEY_PACKED] = "packed",
    [KEY_TAGS] = "tags",
};

#define HEAD_OVERHEAD 64u /* bytes: map, keys, kind, sequence, container headers */
#define INTEGER_MAX 9u    /* bytes of one packed integer */
#define TAG_SIZE_MAX (3u + 2u + TAG_TEXT_MAX)

static_assert(2u * KEY_COUNT + 2u + 3u * ROSTER_ENTRY_MAX <= WIRE_OBJECT_MAX,
              "a full member list passes the scan");
static_assert(2u * KEY_COUNT + 2u + ALGO_FIELD_MAX <= WIRE_OBJECT_MAX,
              "a full algorithm head passes the scan");
static_assert(ADDRESS_TEXT_MAX <= WIRE_STRING_MAX, "an address passes the scan");
static_assert(HEAD_OVERHEAD + 2u * INTEGER_MAX + 3u + ADDRESS_TEXT_MAX + TAG_SIZE_MAX <= MESSAGE_HEAD_MAX,
              "one member fits");

/* -- writing ----------------------------------------------------------------------------------- */

struct head_writer {
    struct blob *blob;
    size_t capacity;
    msgpack_packer packer;
};

static int head_append(void *ctx, const char *bytes, size_t size)
{
    struct head_writer *w = ctx;
    CHECK(size <= w->capacity - w->blob->size);
    memcpy(w->blob->data + w->blob->size, bytes, size);
    w->blob->size += size;
    return 0;
}

static void head_begin(struct head_writer *w, size_t capacity, size_t keys, enum wire_kind kind,
                       uint64_t sequence)
{
    CHECK(capacity <= MESSAGE_HEAD_MAX);
    w->blob = blob_new(capacity);
    w->capacity = capacity;
    w->blob->size = 0;
    msgpack_packer_init(&w->packer, w, head_append);
    msgpack_pack_map(&w->packer, 2 + keys);
    msgpack_pack_uint8(&w->packer, KEY_KIND);
    msgpack_pack_uint8(&w->packer, (uint8_t)kind);
    msgpack_pack_uint8(&w->packer, KEY_SEQUENCE);
    msgpack_pack_uint64(&w->packer, sequence);
}

struct blob *wire_encode_algo(uint64_t sequence, const struct algo_msg *msg)
{
    CHECK(msg->field_count <= ALGO_FIELD_MAX);
    CHECK(msg->bits_size <= ALGO_BITS_MAX);
    struct head_writer w;
    CHECK(msg->vec == NULL || msg->packed == NULL);
    size_t keys = 1u + (msg->field_count > 0) + (msg->bits_size > 0) + (msg->packed != NULL);
    head_begin(&w, HEAD_OVERHEAD + msg->field_count * (size_t)INTEGER_MAX + msg->bits_size, keys, WIRE_ALGO,
               sequence);
    msgpack_pack_uint8(&w.packer, KEY_ALGO_KIND);
    msgpack_pack_uint8(&w.packer, msg->kind);
    if (msg->field_count > 0) {
        msgpack_pack_uint8(&w.packer, KEY_FIELDS);
        msgpack_pack_array(&w.packer, msg->field_count);
        for (uint32_t i = 0; i < msg->field_count; i++) msgpack_pack_uint64(&w.packer, msg->field[i]);
    }
    if (msg->bits_size > 0) {
        msgpack_pack_uint8(&w.packer, KEY_BITS);
        msgpack_pack_bin(&w.packer, msg->bits_size);
        msgpack_pack_bin_body(&w.packer, msg->bits, msg->bits_size);
    }
    if (msg->packed != NULL) {
        msgpack_pack_uint8(&w.packer, KEY_PACKED);
        msgpack_pack_uint8(&w.packer, 1);
    }
    return w.blob;
}

struct blob *wire_encode_ready(uint64_t sequence, uint64_t fingerprint)
{
    struct head_writer w;
    head_begin(&w, HEAD_OVERHEAD, 1, WIRE_READY, sequence);
    msgpack_pack_uint8(&w.packer, KEY_FINGERPRINT);
    msgpack_pack_uint64(&w.packer, fingerprint);
    return w.blob;
}

static size_t member_size_max(const struct wire_member *m)
{
    size_t tag = m->tag[0] != '\0' ? 3u + 2u + strlen(m->tag) : 0;
    return 2u * INTEGER_MAX + 3u + strlen(m->address) + tag;
}

uint32_t wire_members_fit(const struct wire_member *member, uint32_t count)
{
    size_t size = HEAD_OVERHEAD;
    uint32_t fit = 0, objects = 2u * KEY_COUNT + 2u;
    while (fit < count && fit < ROSTER_ENTRY_MAX) {
        size += member_size_max(&member[fit]);
        objects += member[fit].tag[0] != '\0' ? 5 : 3;
        if (size > MESSAGE_HEAD_MAX || objects > WIRE_OBJECT_MAX) break;
        fit++;
    }
    return fit;
}

static void encode_tags(struct head_writer *w, const struct wire_member *member, uint32_t count,
                        uint32_t tagged)
{
    msgpack_pack_uint8(&w->packer, KEY_TAGS);
    msgpack_pack_array(&w->packer, 2u * (size_t)tagged);
    for (uint32_t i = 0; i < count; i++) {
        size_t length = strlen(member[i].tag);
        if (length == 0) continue;
        msgpack_pack_uint32(&w->packer, i);
        msgpack_pack_str(&w->packer, length);
        msgpack_pack_str_body(&w->packer, member[i].tag, length);
    }
}

struct blob *wire_encode_members(uint64_t sequence, const struct wire_member *member, uint32_t count)
{
    CHECK(count <= ROSTER_ENTRY_MAX);
    struct head_writer w;
    size_t capacity = HEAD_OVERHEAD;
    uint32_t tagged = 0;
    for (uint32_t i = 0; i < count; i++) {
        capacity += member_size_max(&member[i]);
        tagged += member[i].tag[0] != '\0';
    }
    head_begin(&w, capacity, tagged > 0 ? 2 : 1, WIRE_MEMBERS, sequence);
    msgpack_pack_uint8(&w.packer, KEY_MEMBERS);
    msgpack_pack_array(&w.packer, 3u * (size_t)count);
    for (uint32_t i = 0; i < count; i++) {
        CHECK_IMPLIES(i > 0, member[i - 1].id < member[i].id);
        size_t length = strlen(member[i].address);
        msgpack_pack_uint64(&w.packer, member[i].id);
        msgpack_pack_uint64(&w.packer, member[i].boot);
        msgpack_pack_str(&w.packer, length);
        msgpack_pack_str_body(&w.packer, member[i].address, length);
    }
    if (tagged > 0) encode_tags(&w, member, count, tagged);
    return w.blob;
}

/* -- reading ----------------------------------------------------------------------------------- */

static int read_unsigned(const msgpack_object *o, enum wire_key key, uint64_t low, uint64_t high,
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

/* A string of printable ASCII without blanks, at most room - 1 bytes. */
static int read_text(const msgpack_object *o, const char *what, char *out, size_t room, struct err_text *why)
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

static int read_members(const msgpack_object *o, struct wire_message *m, struct err_text *why)
{
    if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size % 3 != 0)
        return err_set(why, ERR_FORMAT, "head: members is not an array of id, boot, address");
    uint32_t count = o->via.array.size / 3;
    if (count > ROSTER_ENTRY_MAX)
        return err_set(why, ERR_LIMIT, "head: %u members, at most %u", count, ROSTER_ENTRY_MAX);
    m->member = mem_new_zero(count, sizeof *m->member);
    m->member_count = count;
    for (uint32_t i = 0; i < count; i++) {
        const msgpack_object *item = &o->via.array.ptr[3 * i];
        struct wire_member *member = &m->member[i];
        int err =
            read_unsigned(&item[0], KEY_MEMBERS, i == 0 ? 0 : member[-1].id, UINT64_MAX, &member->id, why);
        if (err == 0 && i > 0 && member->id == member[-1].id)
            err = err_set(why, ERR_FORMAT, "head: members: one id twice");
        if (err == 0) err = read_unsigned(&item[1], KEY_MEMBERS, 0, UINT64_MAX, &member->boot, why);
        if (err == 0) err = read_text(&item[2], "an address", member->address, sizeof member->address, why);
        if (err != 0) return err;
    }
    return 0;
}

/* Tags of the members that were read before. */
static int read_tags(const msgpack_object *o, struct wire_message *m, struct err_text *why)
{
    if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size % 2 != 0)
        return err_set(why, ERR_FORMAT, "head: tags is not an array of position, tag");
    uint64_t low = 0;
    for (uint32_t i = 0; i < o->via.array.size; i += 2) {
        uint64_t at = 0;
        if (low >= m->member_count)
            return err_set(why, ERR_FORMAT, "head: tags: more than members before them");
        int err = read_unsigned(&o->via.array.ptr[i], KEY_TAGS, low, m->member_count - 1, &at, why);
        if (err != 0) return err;
        char *tag = m->member[at].tag;
        err = read_text(&o->via.array.ptr[i + 1], "a tag", tag, TAG_TEXT_MAX, why);
        if (err == 0 && tag[0] == '\0') err = err_set(why, ERR_FORMAT, "head: tags: an empty one");
        if (err != 0) return err;
        low = at + 1;
    }
    return 0;
}

static int read_key(struct wire_message *m, enum wire_key key, const msgpack_object *o, struct err_text *why)
{
    uint64_t value = 0;
    int err = 0;
    switch (key) {
    case KEY_KIND:
        err = read_unsigned(o, key, WIRE_MEMBERS, WIRE_READY, &value, why);
        m->kind = (enum wire_kind)value;
        return err;
    case KEY_SEQUENCE:
        return read_unsigned(o, key, 1, UINT64_MAX, &m->sequence, why);
    case KEY_MEMBERS:
        return read_members(o, m, why);
    case KEY_ALGO_KIND:
        err = read_unsigned(o, key, 0, UINT8_MAX, &value, why);
        m->msg.kind = (uint8_t)value;
        return err;
    case KEY_FIELDS:
        return read_fields(o, &m->msg, why);
    case KEY_BITS:
        return read_bits(o, &m->msg, why);
    case KEY_FINGERPRINT:
        return read_unsigned(o, key, 0, UINT64_MAX, &m->fingerprint, why);
    case KEY_PACKED:
        err = read_unsigned(o, key, 1, 1, &value, why);
        m->packed = err == 0;
        return err;
    case KEY_TAGS:
        return read_tags(o, m, why);
    case KEY_COUNT:
        break;
    }
    UNREACHABLE();
}

static int check_keys(const struct wire_message *m, uint32_t seen, struct err_text *why)
{
    static const uint8_t needed_by_kind[] = {
        [WIRE_MEMBERS] = KEY_MEMBERS, [WIRE_ALGO] = KEY_ALGO_KIND, [WIRE_READY] = KEY_FINGERPRINT};
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
    memset(m, 0, sizeof *m);
}
