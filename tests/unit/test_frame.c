/* Goal: the frame and hello codecs give back what they were given, and refuse everything else before its
 * payload matters.
 * Method: round trips; every single bit of a frame flipped; limits at, and one over, the edge. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "net/link/frame.h"
#include "net/link/hello.h"

static void a_frame_comes_back(void **state)
{
    (void)state;
    static uint8_t payload[FRAME_CHUNK_MAX];
    for (size_t i = 0; i < sizeof payload; i++) payload[i] = (uint8_t)(i * 13);
    static const uint32_t lengths[] = {0, 1, 16, 17, 240, 241, 65535, FRAME_CHUNK_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct frame_header h = {lengths[i], FRAME_HEAD_BULK, FRAME_WITH_BODY, UINT64_MAX - i}, back;
        uint8_t header[FRAME_HEADER_SIZE];
        frame_encode(&h, payload, header);
        assert_int_equal(frame_decode(header, &back), 0);
        assert_int_equal(back.length, h.length);
        assert_int_equal(back.type, h.type);
        assert_int_equal(back.flags, h.flags);
        assert_true(back.value == h.value);
        assert_int_equal(frame_verify(header, payload), 0);
    }
}

static void the_layout_is_little_endian(void **state)
{
    (void)state;
    struct frame_header h = {0x1234, FRAME_PING, FRAME_IGNORABLE, 0x0807060504030201u};
    static const uint8_t payload[0x1234];
    uint8_t header[FRAME_HEADER_SIZE];
    static const uint8_t expected[16] = {0x34, 0x12, 0, 0, FRAME_PING, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8};
    frame_encode(&h, payload, header);
    assert_memory_equal(header, expected, sizeof expected);
}

static void every_flipped_bit_is_found(void **state)
{
    (void)state;
    enum { LENGTH = 100 };
    uint8_t frame[FRAME_HEADER_SIZE + LENGTH + 65536] = {0};
    for (size_t i = 0; i < LENGTH; i++) frame[FRAME_HEADER_SIZE + i] = (uint8_t)i;
    struct frame_header h = {LENGTH, FRAME_HEAD_CONTROL, 0, 7}, back;
    frame_encode(&h, frame + FRAME_HEADER_SIZE, frame);
    for (unsigned bit = 0; bit < 8 * (FRAME_HEADER_SIZE + LENGTH); bit++) {
        frame[bit / 8] ^= (uint8_t)(1u << bit % 8);
        bool found = frame_decode(frame, &back) != 0 || frame_verify(frame, frame + FRAME_HEADER_SIZE) != 0;
        assert_true(found);
        frame[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_int_equal(frame_verify(frame, frame + FRAME_HEADER_SIZE), 0);
}

static void limits_are_in_the_header(void **state)
{
    (void)state;
    static const struct {
        uint32_t length;
        uint8_t type, flags, reserved;
        int err;
    } cases[] = {
        {FRAME_CHUNK_MAX, FRAME_PING, 0, 0, 0},
        {FRAME_CHUNK_MAX + 1, FRAME_PING, 0, 0, ERR_LIMIT},
        {0x80000000u, FRAME_PING, 0, 0, ERR_LIMIT},
        {UINT32_MAX, FRAME_PING, 0, 0, ERR_LIMIT},
        {0, 0, 0, 0, ERR_PROTO},
        {0, 200, FRAME_IGNORABLE, 0, 0},
        {0, FRAME_PING, 4, 0, ERR_PROTO},
        {0, FRAME_PING, 0, 1, ERR_PROTO},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t header[FRAME_HEADER_SIZE] = {0};
        struct frame_header h;
        le_put(header, cases[i].length, 4);
        header[4] = cases[i].type;
        header[5] = cases[i].flags;
        header[7] = cases[i].reserved;
        assert_int_equal(frame_decode(header, &h), cases[i].err);
    }
}

static struct hello sample_hello(void)
{
    struct hello h = {
        .version = PROTOCOL_VERSION, .dialler = true, .port = 7946, .id = UINT64_MAX - 1, .boot = 3};
    memset(h.cluster, 9, sizeof h.cluster);
    h.name = 0x0123456789abcdefu;
    strcpy(h.address, "node-1.example:7946");
    return h;
}

static void a_hello_comes_back(void **state)
{
    (void)state;
    struct hello h = sample_hello(), back;
    uint8_t bytes[HELLO_SIZE_MAX];
    assert_int_equal(hello_decode(bytes, hello_encode(&h, bytes), &back), 0);
    assert_memory_equal(&back, &h, sizeof h);
    h.address[0] = '\0';
    h.dialler = false;
    assert_int_equal(hello_decode(bytes, hello_encode(&h, bytes), &back), 0);
    assert_string_equal(back.address, "");
    assert_false(back.dialler || back.visitor);
    h.visitor = true;
    assert_int_equal(hello_decode(bytes, hello_encode(&h, bytes), &back), 0);
    assert_true(back.visitor && !back.dialler);
}

static void a_goodbye_comes_back_and_may_be_short(void **state)
{
    (void)state;
    struct goodbye g = {.id = 77, .name = 88, .version = 2}, back;
    strcpy(g.seen, "203.0.113.7:40000");
    uint8_t bytes[GOODBYE_SIZE_MAX + 1];
    size_t size = goodbye_encode(&g, bytes);
    assert_true(goodbye_decode(bytes, size, &back));
    assert_memory_equal(&back, &g, sizeof g);
    assert_true(goodbye_decode(bytes, 8, &back)); /* what version 1 says */
    assert_true(back.id == 77 && back.name == 0 && back.version == 0);
    assert_true(goodbye_decode(bytes, GOODBYE_FIXED_SIZE - 1, &back));
    assert_true(back.version == 0);
    for (size_t cut = 0; cut < 8; cut++) assert_false(goodbye_decode(bytes, cut, &back));
    bytes[GOODBYE_FIXED_SIZE + 2] = '\n';
    assert_true(goodbye_decode(bytes, size, &back));
    assert_string_equal(back.seen, "");
    memset(bytes + GOODBYE_FIXED_SIZE, 'a', ADDRESS_TEXT_MAX);
    assert_true(
        goodbye_decode(bytes, GOODBYE_FIXED_SIZE + ADDRESS_TEXT_MAX, &back)); /* no room for its end */
    assert_string_equal(back.seen, "");
}

static void a_goodbye_answers_whether_an_id_is_used(void **state)
{
    (void)state;
    static const char *const seen[] = {"", "203.0.113.7:40000"}, *const user[] = {"", "10.0.0.5:7946"};
    for (unsigned i = 0; i < 8; i++) {
        struct goodbye g = {.id = 77, .version = 2, .answers = true, .used = (i & 4) != 0}, back;
        strcpy(g.seen, seen[i & 1]);
        strcpy(g.user, user[i >> 1 & 1]);
        uint8_t bytes[GOODBYE_SIZE_MAX];
        size_t size = goodbye_encode(&g, bytes);
        assert_true(goodbye_decode(bytes, size, &back));
        assert_memory_equal(&back, &g, sizeof g);
        size_t flag = GOODBYE_FIXED_SIZE + strlen(g.seen) + 1;
        assert_true(goodbye_decode(bytes, flag, &back)); /* cut behind the 0: no answer */
        assert_false(back.answers || back.used);
        assert_string_equal(back.seen, g.seen);
        bytes[flag] = 2;
        assert_true(goodbye_decode(bytes, size, &back));
        assert_false(back.answers || back.used);
        bytes[flag] = 1;
        bytes[size - 1] = i >> 1 & 1 ? '\n' : 1;
        assert_true(goodbye_decode(bytes, size, &back));
        assert_string_equal(back.user, "");
    }
}

static void a_wrong_hello_is_refused(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint8_t value;
        int err;
    } cases[] = {
        {0, 'G', ERR_PROTO},
        {8, PROTOCOL_VERSION + 1, ERR_VERSION},
        {9, 1, ERR_VERSION},
        {10, 0, ERR_PROTO},
        {10, 4, ERR_PROTO},
        {11, 1, ERR_PROTO},
        {14, 18, ERR_PROTO},
        {14, 20, ERR_PROTO},
        {15, 255, ERR_PROTO},
        {HELLO_FIXED_SIZE, '\n', ERR_PROTO},
        {HELLO_FIXED_SIZE, 0x80, ERR_PROTO},
    };
    struct hello h = sample_hello(), back;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t bytes[HELLO_SIZE_MAX];
        size_t size = hello_encode(&h, bytes);
        bytes[cases[i].at] = cases[i].value;
        assert_int_equal(hello_decode(bytes, size, &back), cases[i].err);
    }
    uint8_t bytes[HELLO_SIZE_MAX];
    size_t size = hello_encode(&h, bytes);
    for (size_t cut = 0; cut < size; cut++) assert_int_equal(hello_decode(bytes, cut, &back), ERR_PROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_comes_back),
        cmocka_unit_test(the_layout_is_little_endian),
        cmocka_unit_test(every_flipped_bit_is_found),
        cmocka_unit_test(limits_are_in_the_header),
        cmocka_unit_test(a_hello_comes_back),
        cmocka_unit_test(a_wrong_hello_is_refused),
        cmocka_unit_test(a_goodbye_answers_whether_an_id_is_used),
        cmocka_unit_test(a_goodbye_comes_back_and_may_be_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
