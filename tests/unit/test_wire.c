/* Goal: what a node writes, a node reads; whatever else arrives is refused with a code and a reason, without
 * a crash and without memory in proportion to what the bytes claim (docs/protocol.md, rows 15-25, 42).
 * Method: round trips at the limits; a table of hand-made bad heads; every truncation and every single-byte
 * change of good heads, and random bytes, under the sanitizers; memory measured around the bombs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <malloc.h>

#include "agent/wire/wire.h"
#include "base/prng.h"

static void algo_head_survives_round_trip(void **state)
{
    (void)state;
    static uint8_t bits[ALGO_BITS_MAX];
    for (size_t i = 0; i < sizeof bits; i++) bits[i] = (uint8_t)(i * 7);
    for (uint32_t fields = 0; fields <= ALGO_FIELD_MAX; fields += 6) {
        struct algo_msg msg = {.kind = 255, .field_count = (uint8_t)fields};
        for (uint32_t i = 0; i < fields; i++) msg.field[i] = i % 2 == 0 ? UINT64_MAX - i : i;
        msg.bits_size = fields * (ALGO_BITS_MAX / ALGO_FIELD_MAX);
        msg.bits = msg.bits_size > 0 ? bits : NULL;
        struct blob *head = wire_encode_algo(UINT64_MAX - fields, &msg);
        struct wire_message out;
        struct err_text why = {""};
        assert_int_equal(wire_decode(head->data, head->size, &out, &why), 0);
        assert_int_equal(out.kind, WIRE_ALGO);
        assert_true(out.sequence == UINT64_MAX - fields);
        assert_int_equal(out.msg.kind, 255);
        assert_int_equal(out.msg.field_count, fields);
        assert_memory_equal(out.msg.field, msg.field, sizeof msg.field);
        assert_int_equal(out.msg.bits_size, msg.bits_size);
        if (msg.bits_size > 0) assert_memory_equal(out.msg.bits, bits, msg.bits_size);
        assert_null(out.msg.vec);
        assert_false(out.packed);
        wire_message_deinit(&out);
        blob_unref(head);
    }
}

static void a_head_says_whether_its_body_is_packed(void **state)
{
    (void)state;
    struct algo_msg msg = {.kind = 1, .field_count = 1, .field = {9}, .packed = blob_copy("abc", 3)};
    struct blob *head = wire_encode_algo(3, &msg);
    struct wire_message out;
    assert_int_equal(wire_decode(head->data, head->size, &out, NULL), 0);
    assert_true(out.packed);
    assert_null(out.msg.packed); /* the body comes beside the head */
    assert_true(out.msg.field[0] == 9);
    wire_message_deinit(&out);
    blob_unref(head);
    blob_unref(msg.packed);
}

static void fill_members(struct member *m, uint32_t count, size_t address_length, size_t tag_length)
{
    for (uint32_t i = 0; i < count; i++) {
        m[i] = (struct member){.id = UINT64_MAX - i,
                               .boot = UINT64_MAX - 2 * i,
                               .incarnation = UINT64_MAX - 3 * i,
                               .state = (enum member_state)(i % 4),
                               .accuser = UINT64_MAX - 4 * i,
                               .evidence = (enum member_evidence)(i % 5)};
        memset(m[i].address, 'a' + (int)(i % 26), address_length);
        memset(m[i].tag, 't', tag_length);
        for (uint32_t k = 0; k < MEMBER_META_MAX; k++) m[i].meta[k] = UINT64_MAX - i - k;
    }
}

static void swim_messages_survive_round_trip_up_to_the_largest(void **state)
{
    (void)state;
    static struct member member[SWIM_UPDATE_MAX];
    for (uint32_t count = 0; count <= SWIM_UPDATE_MAX; count += SWIM_UPDATE_MAX / 4) {
        fill_members(member, count, ADDRESS_TEXT_MAX - 1, TAG_TEXT_MAX - 1);
        struct swim_msg msg = {.kind = SWIM_SYNC,
                               .number = UINT64_MAX,
                               .target = 5,
                               .seen = "10.0.0.5:7946",
                               .update = member,
                               .update_count = count};
        struct blob *head = wire_encode_swim(7, &msg);
        assert_true(head->size <= MESSAGE_HEAD_MAX);
        struct wire_message out;
        struct err_text why = {""};
        assert_int_equal(wire_decode(head->data, head->size, &out, &why), 0);
        assert_int_equal(out.kind, WIRE_SWIM);
        assert_int_equal(out.swim.kind, SWIM_SYNC);
        assert_true(out.swim.number == UINT64_MAX && out.swim.target == 5);
        assert_string_equal(out.swim.seen, "10.0.0.5:7946");
        assert_int_equal(out.swim.update_count, count);
        for (uint32_t i = 0; i < count; i++) {
            const struct member *m = &out.swim.update[i];
            assert_true(m->id == member[i].id && m->boot == member[i].boot);
            assert_true(m->incarnation == member[i].incarnation && m->accuser == member[i].accuser);
            assert_true(m->state == member[i].state && m->evidence == member[i].evidence);
            assert_string_equal(m->address, member[i].address);
            assert_string_equal(m->tag, member[i].tag);
            assert_memory_equal(m->meta, member[i].meta, sizeof m->meta);
        }
        wire_message_deinit(&out);
        blob_unref(head);
    }
}

static void overlay_messages_survive_round_trip(void **state)
{
    (void)state;
    struct overlay_peer peer[OVERLAY_PEER_MAX] = {{0, ""}};
    for (uint32_t i = 0; i < OVERLAY_PEER_MAX; i++) {
        peer[i].id = UINT64_MAX - i;
        if (i % 2 == 0) memset(peer[i].address, 'x', ADDRESS_TEXT_MAX - 1);
    }
    for (uint32_t count = 0; count <= OVERLAY_PEER_MAX; count += OVERLAY_PEER_MAX) {
        struct overlay_msg msg = {
            .kind = OVERLAY_SHUFFLE, .ttl = 6, .urgent = count > 0, .peer = peer, .peer_count = count};
        struct blob *head = wire_encode_overlay(8, &msg);
        struct wire_message out;
        assert_int_equal(wire_decode(head->data, head->size, &out, NULL), 0);
        assert_int_equal(out.kind, WIRE_OVERLAY);
        assert_int_equal(out.overlay.kind, OVERLAY_SHUFFLE);
        assert_int_equal(out.overlay.ttl, 6);
        assert_int_equal(out.overlay.urgent, count > 0);
        assert_int_equal(out.overlay.peer_count, count);
        for (uint32_t i = 0; i < count; i++) {
            assert_true(out.overlay.peer[i].id == peer[i].id);
            assert_string_equal(out.overlay.peer[i].address, peer[i].address);
        }
        wire_message_deinit(&out);
        blob_unref(head);
    }
}

static void ready_and_state_survive_round_trip(void **state)
{
    (void)state;
    const struct wire_ready ready = {.place = 65535, .claimed = UINT64_MAX, .your_place = 3};
    struct blob *head = wire_encode_ready(1, &ready);
    struct wire_message out;
    assert_int_equal(wire_decode(head->data, head->size, &out, NULL), 0);
    assert_int_equal(out.kind, WIRE_READY);
    assert_int_equal(out.ready.place, 65535);
    assert_true(out.ready.claimed == UINT64_MAX);
    assert_int_equal(out.ready.your_place, 3);
    wire_message_deinit(&out);
    blob_unref(head);
    const struct state_msg msg = {.kind = STATE_CHUNK,
                                  .snapshot = UINT64_MAX,
                                  .size = 2,
                                  .chunk_size = 3,
                                  .progress = 4,
                                  .first = 5,
                                  .count = 6,
                                  .hash = UINT64_MAX - 1,
                                  .wait_us = 7};
    head = wire_encode_state(2, &msg);
    assert_int_equal(wire_decode(head->data, head->size, &out, NULL), 0);
    assert_int_equal(out.kind, WIRE_STATE);
    assert_memory_equal(&out.state, &msg, sizeof msg);
    wire_message_deinit(&out);
    blob_unref(head);
}

#define HEX(text) (const uint8_t *)(text), sizeof(text) - 1

/* A minimal good ALGO head is 83 00 02 01 01 03 07: {kind: ALGO, sequence: 1, algorithm kind: 7}. */
static const struct {
    const char *what;
    const uint8_t *bytes;
    size_t size;
    int err;
    const char *says; /* part of the reason */
} bad_heads[] = {
    {"no bytes", HEX(""), ERR_FORMAT, "cut short"},
    {"array32 of 2^28 in 5 bytes", HEX("\xdd\x0f\x00\x00\x00"), ERR_FORMAT, "announces more"},
    {"map32 of 2^28 in 5 bytes", HEX("\xdf\x0f\x00\x00\x00"), ERR_FORMAT, "announces more"},
    {"array32 of 2^32-1", HEX("\xdd\xff\xff\xff\xff"), ERR_FORMAT, "announces more"},
    {"map32 of 2^32-1", HEX("\xdf\xff\xff\xff\xff"), ERR_FORMAT, "announces more"},
    {"nested 9 deep", HEX("\x91\x91\x91\x91\x91\x91\x91\x91\x91\x00"), ERR_LIMIT, "nested deeper than 8"},
    {"nested 9 deep, the last empty", HEX("\x91\x91\x91\x91\x91\x91\x91\x91\x90"), ERR_LIMIT, "nested"},
    {"string beyond the head", HEX("\xd9\x05\x61"), ERR_FORMAT, "beyond its end"},
    {"binary beyond the head", HEX("\xc5\x10\x00\x61"), ERR_FORMAT, "beyond its end"},
    {"string over the limit", HEX("\xda\x04\x01\x61"), ERR_LIMIT, "string over 1024"},
    {"str32 of 2^32-1", HEX("\xdb\xff\xff\xff\xff\x61"), ERR_LIMIT, "string over"},
    {"bin32 of 2^32-1", HEX("\xc6\xff\xff\xff\xff\x61"), ERR_LIMIT, "binary over"},
    {"fixext1", HEX("\xd4\x01\x00"), ERR_FORMAT, "ext type"},
    {"ext8 of length 0", HEX("\xc7\x00\x01"), ERR_FORMAT, "ext type"},
    {"timestamp", HEX("\xd6\xff\x00\x00\x00\x00"), ERR_FORMAT, "ext type"},
    {"ext inside an unknown key", HEX("\x84\x00\x02\x01\x01\x03\x07\x10\xd4\x01\x00"), ERR_FORMAT,
     "ext type"},
    {"reserved byte", HEX("\xc1"), ERR_FORMAT, "0xc1"},
    {"trailing byte", HEX("\x83\x00\x02\x01\x01\x03\x07\x00"), ERR_FORMAT, "1 bytes after"},
    {"length field cut", HEX("\xdd\x00\x00"), ERR_FORMAT, "cut short"},
    {"not a map", HEX("\x93\x02\x01\x07"), ERR_FORMAT, "not a map"},
    {"text key", HEX("\x83\x00\x02\x01\x01\xa1\x33\x07"), ERR_FORMAT, "key is not"},
    {"negative key", HEX("\x83\x00\x02\x01\x01\xff\x07"), ERR_FORMAT, "key is not"},
    {"duplicate sequence", HEX("\x84\x00\x02\x01\x01\x01\x01\x03\x07"), ERR_FORMAT,
     "sequence is there twice"},
    {"no kind", HEX("\x82\x01\x01\x03\x07"), ERR_FORMAT, "kind is missing"},
    {"no sequence", HEX("\x82\x00\x02\x03\x07"), ERR_FORMAT, "sequence is missing"},
    {"ALGO without its kind", HEX("\x82\x00\x02\x01\x01"), ERR_FORMAT, "algorithm kind is missing"},
    {"SWIM without its fields", HEX("\x82\x00\x01\x01\x01"), ERR_FORMAT, "swim is missing"},
    {"READY without its fields", HEX("\x82\x00\x03\x01\x01"), ERR_FORMAT, "ready is missing"},
    {"OVERLAY without its fields", HEX("\x82\x00\x04\x01\x01"), ERR_FORMAT, "overlay is missing"},
    {"STATE without its fields", HEX("\x82\x00\x05\x01\x01"), ERR_FORMAT, "state is missing"},
    {"READY with two fields", HEX("\x83\x00\x03\x01\x01\x06\x92\x01\x01"), ERR_FORMAT, "ready with 2"},
    {"READY with four fields", HEX("\x83\x00\x03\x01\x01\x06\x94\x01\x01\x01\x01"), ERR_LIMIT,
     "ready with 4"},
    {"READY as a number", HEX("\x83\x00\x03\x01\x01\x06\x07"), ERR_FORMAT, "ready is not an array"},
    {"place 65536", HEX("\x83\x00\x03\x01\x01\x06\x93\xce\x00\x01\x00\x00\x01\x01"), ERR_FORMAT,
     "ready 65536"},
    {"kind 0", HEX("\x83\x00\x00\x01\x01\x03\x07"), ERR_FORMAT, "kind 0"},
    {"kind 6", HEX("\x83\x00\x06\x01\x01\x03\x07"), ERR_FORMAT, "kind 6"},
    {"sequence 0", HEX("\x83\x00\x02\x01\x00\x03\x07"), ERR_FORMAT, "sequence 0"},
    {"negative sequence", HEX("\x83\x00\x02\x01\xff\x03\x07"), ERR_FORMAT, "sequence is not"},
    {"float sequence", HEX("\x83\x00\x02\x01\xca\x3f\x80\x00\x00\x03\x07"), ERR_FORMAT, "sequence is not"},
    {"algorithm kind 256", HEX("\x83\x00\x02\x01\x01\x03\xcd\x01\x00"), ERR_FORMAT, "kind 256"},
    {"fields no array", HEX("\x84\x00\x02\x01\x01\x03\x07\x04\x05"), ERR_FORMAT, "fields is not an array"},
    {"negative field", HEX("\x84\x00\x02\x01\x01\x03\x07\x04\x91\xd0\x80"), ERR_FORMAT,
     "fields is not an unsigned"},
    {"25 fields",
     HEX("\x84\x00\x02\x01\x01\x03\x07\x04\xdc\x00\x19\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
     ERR_LIMIT, "25 fields"},
    {"bits as text", HEX("\x84\x00\x02\x01\x01\x03\x07\x05\xa1\x61"), ERR_FORMAT, "bits is not binary"},
    {"packed 0", HEX("\x84\x00\x02\x01\x01\x03\x07\x07\x00"), ERR_FORMAT, "packed 0"},
    {"packed 2", HEX("\x84\x00\x02\x01\x01\x03\x07\x07\x02"), ERR_FORMAT, "packed 2"},
    {"packed twice", HEX("\x85\x00\x02\x01\x01\x03\x07\x07\x01\x07\x01"), ERR_FORMAT,
     "packed is there twice"},
    {"SWIM of kind 0", HEX("\x83\x00\x01\x01\x01\x02\x94\x00\x00\x00\xa0"), ERR_FORMAT, "swim 0"},
    {"SWIM of kind 8", HEX("\x83\x00\x01\x01\x01\x02\x94\x08\x00\x00\xa0"), ERR_FORMAT, "swim 8"},
    {"SWIM seen as a number", HEX("\x83\x00\x01\x01\x01\x02\x94\x01\x00\x00\x01"), ERR_FORMAT,
     "address is not"},
    {"records no array", HEX("\x84\x00\x01\x01\x01\x02\x94\x01\x00\x00\xa0\x08\x01"), ERR_FORMAT,
     "records is not"},
    {"records empty", HEX("\x84\x00\x01\x01\x01\x02\x94\x01\x00\x00\xa0\x08\x90"), ERR_FORMAT,
     "records with 0"},
    {"record cut",
     HEX("\x84\x00\x01\x01\x01\x02\x94\x01\x00\x00\xa0\x08\xdc\x00\x11\x01\x01\x01\x00\x00\x00\xa1\x61\xa0\0"
         "\0\0\0\0\0\0\0\x01"),
     ERR_FORMAT, "cut short"},
    {"record id float",
     HEX("\x84\x00\x01\x01\x01\x02\x94\x01\x00\x00\xa0\x08\xdc\x00\x10\xca\x00\x00\x00\x00\x01\x01\x00\x00"
         "\x00\xa1\x61\xa0\0\0\0\0\0\0\0\0"),
     ERR_FORMAT, "records is not an unsig"},
    {"record of state 4",
     HEX("\x84\x00\x01\x01\x01\x02\x94\x01\x00\x00\xa0\x08\xdc\x00\x10\x01\x01\x01\x04\x00\x00\xa1\x61\xa0\0"
         "\0\0\0\0\0\0\0"),
     ERR_FORMAT, "records 4"},
    {"record of evidence 5",
     HEX("\x84\x00\x01\x01\x01\x02\x94\x01\x00\x00\xa0\x08\xdc\x00\x10\x01\x01\x01\x00\x00\x05\xa1\x61\xa0\0"
         "\0\0\0\0\0\0\0"),
     ERR_FORMAT, "records 5"},
    {"address a number",
     HEX("\x84\x00\x01\x01\x01\x02\x94\x01\x00\x00\xa0\x08\xdc\x00\x10\x01\x01\x01\x00\x00\x00\x01\xa0\0\0\0"
         "\0\0\0\0\0"),
     ERR_FORMAT, "address is not"},
    {"address with newline",
     HEX("\x84\x00\x01\x01\x01\x02\x94\x01\x00\x00\xa0\x08\xdc\x00\x10\x01\x01\x01\x00\x00\x00\xa2\x61\x0a"
         "\xa0\0\0\0\0\0\0\0\0"),
     ERR_FORMAT, "printable"},
    {"address with NUL",
     HEX("\x84\x00\x01\x01\x01\x02\x94\x01\x00\x00\xa0\x08\xdc\x00\x10\x01\x01\x01\x00\x00\x00\xa2\x61\x00"
         "\xa0\0\0\0\0\0\0\0\0"),
     ERR_FORMAT, "printable"},
    {"address not ASCII",
     HEX("\x84\x00\x01\x01\x01\x02\x94\x01\x00\x00\xa0\x08\xdc\x00\x10\x01\x01\x01\x00\x00\x00\xa2\xc3\xa4"
         "\xa0\0\0\0\0\0\0\0\0"),
     ERR_FORMAT, "printable"},
    {"tag with a blank",
     HEX("\x84\x00\x01\x01\x01\x02\x94\x01\x00\x00\xa0\x08\xdc\x00\x10\x01\x01\x01\x00\x00\x00\xa1\x61\xa1"
         "\x20\0\0\0\0\0\0\0\0"),
     ERR_FORMAT, "printable"},
    {"tag too long",
     HEX("\x84\x00\x01\x01\x01\x02\x94\x01\x00\x00\xa0\x08\xdc\x00\x10\x01\x01\x01\x00\x00\x00\xa1\x61\xd9"
         "\x40"
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
         "\0\0\0\0\0\0\0\0"),
     ERR_LIMIT, "a tag over 63 bytes"},
    {"OVERLAY of kind 9", HEX("\x83\x00\x04\x01\x01\x09\x93\x09\x00\x00"), ERR_FORMAT, "overlay 9"},
    {"OVERLAY half urgent", HEX("\x83\x00\x04\x01\x01\x09\x93\x01\x00\x02"), ERR_FORMAT, "overlay 2"},
    {"OVERLAY id without address", HEX("\x83\x00\x04\x01\x01\x09\x94\x01\x00\x00\x05"), ERR_FORMAT,
     "without an address"},
    {"STATE of kind 8", HEX("\x83\x00\x05\x01\x01\x0a\x99\x08\0\0\0\0\0\0\0\0"), ERR_FORMAT, "state 8"},
    {"STATE with eight fields", HEX("\x83\x00\x05\x01\x01\x0a\x98\0\0\0\0\0\0\0\0"), ERR_FORMAT,
     "state with 8"},
};

static void bad_heads_are_refused_with_a_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_heads / sizeof bad_heads[0]; i++) {
        struct wire_message out;
        struct err_text why = {""};
        int err = wire_decode(bad_heads[i].bytes, bad_heads[i].size, &out, &why);
        if (err != bad_heads[i].err || strstr(why.text, bad_heads[i].says) == NULL)
            fail_msg("%s: %d \"%s\"", bad_heads[i].what, err, why.text);
        assert_null(out.member);
        assert_null(out.peer);
    }
}

/* The table above would also pass with a decoder that refuses everything. */
static void unknown_key_is_skipped(void **state)
{
    (void)state;
    static const uint8_t head[] = "\x84\x00\x02\x01\x01\x03\x07\x20\x92\xa1\x61\xc3";
    struct wire_message out;
    struct err_text why = {""};
    assert_int_equal(wire_decode(head, sizeof head - 1, &out, &why), 0);
    assert_int_equal(out.msg.kind, 7);
}

static void depth_and_objects_are_accepted_up_to_their_limits(void **state)
{
    (void)state;
    static uint8_t head[2 * MESSAGE_HEAD_MAX];
    memset(head, 0x91, WIRE_DEPTH_MAX);
    head[WIRE_DEPTH_MAX] = 0x00;
    assert_int_equal(wire_scan(head, WIRE_DEPTH_MAX + 1, NULL), 0);
    memset(head, 0x91, 10000);
    assert_int_equal(wire_scan(head, 10001, NULL), ERR_LIMIT);
    memset(head, 0xc0, sizeof head);
    memcpy(head, "\xdc\x0f\xff", 3); /* 4095 values and the array itself */
    assert_int_equal(wire_scan(head, 3 + WIRE_OBJECT_MAX - 1, NULL), 0);
    memcpy(head, "\xdc\x10\x00", 3);
    assert_int_equal(wire_scan(head, 3 + WIRE_OBJECT_MAX, NULL), ERR_LIMIT);
    assert_int_equal(wire_scan(head, MESSAGE_HEAD_MAX + 1, NULL), ERR_LIMIT);
}

/* Row 17: each container is within its limit and within the bytes left, their sum is not. */
static void containers_are_counted_together(void **state)
{
    (void)state;
    static uint8_t head[3 + 8 * (3 + 1000)];
    memcpy(head, "\xdc\x00\x08", 3);
    for (size_t i = 0; i < 8; i++) {
        uint8_t *inner = head + 3 + i * 1003;
        memset(inner, 0x00, 1003);
        memcpy(inner, "\xdc\x03\xe8", 3);
    }
    struct err_text why = {""};
    assert_int_equal(wire_scan(head, sizeof head, &why), ERR_LIMIT);
    assert_non_null(strstr(why.text, "more than 4096 values"));
    memcpy(head, "\xdc\x00\x04", 3); /* four of them pass */
    assert_int_equal(wire_scan(head, 3 + 4 * 1003, NULL), 0);
}

static void bombs_take_no_memory(void **state)
{
    (void)state;
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    for (int tag = 0xdc; tag <= 0xdf; tag++) {
        uint8_t bomb[5] = {(uint8_t)tag, 0x0f, 0xff, 0xff, 0xff};
        struct wire_message out;
        assert_int_not_equal(wire_decode(bomb, sizeof bomb, &out, NULL), 0);
    }
    assert_true(mallinfo2().uordblks + mallinfo2().hblkhd <= before);
}

static void decode_exact_copy(const uint8_t *bytes, size_t size)
{
    /* A copy of the exact size, so that the sanitizer sees a read past the end. */
    uint8_t *copy = malloc(size > 0 ? size : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, size);
    struct wire_message out;
    struct err_text why = {""};
    int err = wire_decode(copy, size, &out, &why);
    assert_true(err == 0 || err == ERR_FORMAT || err == ERR_LIMIT);
    assert_true((err == 0) == (why.text[0] == '\0'));
    if (err == 0) wire_message_deinit(&out);
    free(copy);
}

static void damaged_heads_never_crash(void **state)
{
    (void)state;
    struct member member[2];
    fill_members(member, 2, 9, 3);
    struct overlay_peer peer[2] = {{7, "host:1"}, {8, ""}};
    const struct swim_msg swim = {.kind = SWIM_GOSSIP, .update = member, .update_count = 2};
    const struct overlay_msg overlay = {.kind = OVERLAY_ACCEPT, .peer = peer, .peer_count = 2};
    const struct state_msg chunk = {.kind = STATE_GET, .snapshot = 1u << 20, .first = 300};
    const struct wire_ready ready = {.place = 12, .claimed = 1ull << 50, .your_place = 200};
    uint8_t bits[5] = {1, 2, 3, 4, 5};
    struct algo_msg msg = {
        .kind = 3, .field_count = 4, .field = {1, 300, 70000, UINT64_MAX}, .bits_size = 5, .bits = bits};
    struct blob *heads[] = {wire_encode_algo(9, &msg), wire_encode_swim(10, &swim),
                            wire_encode_ready(11, &ready), wire_encode_overlay(12, &overlay),
                            wire_encode_state(13, &chunk)};
    uint8_t damaged[512];
    for (size_t h = 0; h < sizeof heads / sizeof heads[0]; h++) {
        assert_true(heads[h]->size <= sizeof damaged);
        for (size_t size = 0; size < heads[h]->size; size++) {
            struct wire_message out;
            assert_int_not_equal(wire_decode(heads[h]->data, size, &out, NULL), 0);
            decode_exact_copy(heads[h]->data, size);
        }
        for (size_t at = 0; at < heads[h]->size; at++) {
            memcpy(damaged, heads[h]->data, heads[h]->size);
            for (unsigned byte = 0; byte < 256; byte++) {
                damaged[at] = (uint8_t)byte;
                decode_exact_copy(damaged, heads[h]->size);
            }
        }
        blob_unref(heads[h]);
    }
}

static void random_bytes_never_crash(void **state)
{
    (void)state;
    struct prng p;
    prng_seed(&p, 20251);
    uint8_t bytes[96];
    for (int round = 0; round < 50000; round++) {
        size_t size = prng_below(&p, sizeof bytes);
        for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)prng_next(&p);
        if (size > 0 && round % 2 == 0)
            bytes[0] = (uint8_t)(0x80 | prng_below(&p, 6)); /* a map: gets further */
        decode_exact_copy(bytes, size);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(algo_head_survives_round_trip),
        cmocka_unit_test(a_head_says_whether_its_body_is_packed),
        cmocka_unit_test(swim_messages_survive_round_trip_up_to_the_largest),
        cmocka_unit_test(overlay_messages_survive_round_trip),
        cmocka_unit_test(ready_and_state_survive_round_trip),
        cmocka_unit_test(bad_heads_are_refused_with_a_reason),
        cmocka_unit_test(unknown_key_is_skipped),
        cmocka_unit_test(depth_and_objects_are_accepted_up_to_their_limits),
        cmocka_unit_test(containers_are_counted_together),
        cmocka_unit_test(bombs_take_no_memory),
        cmocka_unit_test(damaged_heads_never_crash),
        cmocka_unit_test(random_bytes_never_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
