/* Goal: the lens delays, limits, holds, swallows and corrupts exactly as fault.h says, in virtual time, and never
 * changes the order of bytes. What the rules themselves do is test_fault_rules.c's.
 * Method: a stream of numbered bytes is put in whole, in pieces and byte by byte, and pulled out at the times that
 * the lens itself names; what comes out is compared with what went in. The check of the stream is itself tried on
 * streams with a swapped, a missing and a changed byte, which it must find. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/check.h"
#include "base/prng.h"
#include "net/fault/fault.h"

#define MS 1000u
#define STREAM_MAX (4u * FAULT_LINE_MAX)

static uint8_t stream_byte(size_t i)
{
    return (uint8_t)((i * 2654435761u) >> 13);
}

/* Counts bytes that are not what stands at their place; SIZE_MAX when there are too many or too few. */
static size_t stream_faults(const uint8_t *bytes, size_t size, size_t expected)
{
    size_t wrong = 0;
    if (size != expected) return SIZE_MAX;
    for (size_t i = 0; i < size; i++) wrong += bytes[i] != stream_byte(i);
    return wrong;
}

struct bench {
    struct fault_set set;
    struct fault_lens *lens;
    struct fault_status *rule; /* the first */
    uint8_t *in, *out;         /* (STREAM_MAX) */
    size_t put, got;
    uint64_t first_us, last_us; /* of what came out */
};

static void bench_open(struct bench *b, enum fault_direction direction, const struct fault_rule *rule)
{
    memset(b, 0, sizeof *b);
    b->lens = fault_lens_new(direction, 1, 2);
    b->in = mem_new(STREAM_MAX, 1);
    b->out = mem_new(STREAM_MAX, 1);
    for (size_t i = 0; i < STREAM_MAX; i++) b->in[i] = stream_byte(i);
    if (rule == NULL) return;
    assert_true(fault_set_add(&b->set, rule, 0) > 0);
    b->rule = b->set.each[0];
    struct fault_effect e;
    fault_set_match(&b->set, NULL, direction, &e);
    fault_lens_set(b->lens, &e);
}

static void bench_close(struct bench *b)
{
    fault_lens_free(b->lens);
    fault_set_deinit(&b->set);
    free(b->in);
    free(b->out);
}

static void put(struct bench *b, size_t size, uint64_t now_us)
{
    fault_lens_put(b->lens, b->in + b->put, size, now_us);
    b->put += size;
}

static void pull(struct bench *b, uint64_t now_us)
{
    const uint8_t *bytes;
    size_t size;
    while ((size = fault_lens_peek(b->lens, now_us, &bytes)) > 0) {
        if (b->got == 0) b->first_us = now_us;
        b->last_us = now_us;
        memcpy(b->out + b->got, bytes, size);
        b->got += size;
        fault_lens_take(b->lens, size);
    }
}

/* Up to now_us, at the times that the lens names. */
static void run(struct bench *b, uint64_t now_us)
{
    for (uint64_t at_us; (at_us = fault_lens_next_us(b->lens)) <= now_us;) {
        size_t before = b->got;
        pull(b, at_us);
        assert_true(b->got > before); /* something is due when it says so */
    }
}

static void expect_whole(const struct bench *b)
{
    assert_int_equal(stream_faults(b->out, b->got, b->put), 0);
    assert_int_equal(fault_lens_held(b->lens), 0);
    assert_int_equal(fault_lens_next_us(b->lens), TIME_NEVER);
}

static struct fault_rule rule_of(enum fault_kind kind)
{
    return (struct fault_rule){.kind = kind, .direction = FAULT_BOTH, .any = true};
}

static void without_a_rule_bytes_are_due_at_once(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, FAULT_IN, NULL);
    put(&b, 1000, 77);
    pull(&b, 77);
    expect_whole(&b);
    bench_close(&b);
}

static void a_delay_is_exact_back_to_back_and_byte_by_byte(void **state)
{
    (void)state;
    struct fault_rule r = rule_of(FAULT_DELAY);
    r.delay_us = 50 * MS;
    struct bench b;
    bench_open(&b, FAULT_OUT, &r);
    for (unsigned i = 0; i < 10; i++) put(&b, 1000, 5 * MS); /* at one time: one piece */
    assert_int_equal(fault_lens_next_us(b.lens), 55 * MS);
    pull(&b, 55 * MS - 1);
    assert_int_equal(b.got, 0);
    pull(&b, 55 * MS);
    assert_int_equal(b.got, 10000);
    for (unsigned i = 0; i < 3000; i++) {
        put(&b, 1, 100 * MS + i);
        run(&b, 100 * MS + i);
    }
    assert_int_equal(b.got, 10000);
    for (unsigned i = 0; i < 3000; i++) {
        run(&b, 150 * MS + i);
        assert_int_equal(b.got, 10001 + i);
        assert_int_equal(b.last_us, 150 * MS + i);
    }
    expect_whole(&b);
    assert_int_equal(b.rule->counts.bytes_slowed, 13000);
    bench_close(&b);
}

static void jitter_stays_in_its_bounds_and_never_reorders(void **state)
{
    (void)state;
    struct fault_rule r = rule_of(FAULT_DELAY);
    r.delay_us = 20 * MS;
    r.jitter_us = 15 * MS;
    struct bench b;
    bench_open(&b, FAULT_IN, &r);
    uint64_t least_us = TIME_NEVER, most_us = 0;
    for (unsigned i = 0; i < 2000; i++) { /* far apart: each has its own delay */
        uint64_t at_us = (uint64_t)i * 100 * MS;
        put(&b, 7, at_us);
        uint64_t delay_us = fault_lens_next_us(b.lens) - at_us;
        if (delay_us < least_us) least_us = delay_us;
        if (delay_us > most_us) most_us = delay_us;
        run(&b, at_us + 99 * MS);
    }
    assert_true(least_us >= 5 * MS && least_us < 6 * MS);
    assert_true(most_us <= 35 * MS && most_us > 34 * MS);
    for (unsigned i = 0; i < 2000; i++) { /* close together */
        put(&b, 3, 300000 * MS + i * 100);
        run(&b, 300000 * MS + i * 100);
    }
    run(&b, TIME_NEVER - 1);
    expect_whole(&b);
    bench_close(&b);
}

static void the_line_is_bounded_and_goes_on_when_there_is_room(void **state)
{
    (void)state;
    struct fault_rule r = rule_of(FAULT_DELAY);
    r.delay_us = 50 * MS;
    struct bench b;
    bench_open(&b, FAULT_IN, &r);
    for (unsigned round = 0; round < 3; round++) { /* the ring goes round */
        uint64_t at_us = round * 100 * MS;
        put(&b, FAULT_LINE_MAX - 100, at_us);
        assert_int_equal(fault_lens_room(b.lens), 100);
        put(&b, 100, at_us + 1);
        assert_int_equal(fault_lens_room(b.lens), 0);
        run(&b, at_us + 50 * MS);
        assert_int_equal(fault_lens_room(b.lens), FAULT_LINE_MAX - 100);
        run(&b, at_us + 50 * MS + 1);
    }
    unsigned pieces = 0;
    for (; fault_lens_room(b.lens) > 0 && pieces < 100000; pieces++) put(&b, 1, 1000 * MS + pieces);
    assert_true(pieces >= 1000 && pieces < 100000); /* the list of pieces is bounded too */
    run(&b, TIME_NEVER - 1);
    expect_whole(&b);
    bench_close(&b);
}

static void a_limit_is_exact_over_time(void **state)
{
    (void)state;
    struct fault_rule r = rule_of(FAULT_LIMIT);
    r.bytes_s = 3000; /* bursts of 30, and a third of a millisecond a byte: rests must not be lost */
    struct bench b;
    bench_open(&b, FAULT_OUT, &r);
    assert_true(fault_lens_room(b.lens) < 5000); /* what is more urgent shall not wait behind much */
    put(&b, 1, 10 * MS);
    for (uint64_t at_us = 10 * MS; at_us < 3010 * MS; at_us += 1 * MS) {
        size_t room = fault_lens_room(b.lens), left = 9001 - b.put;
        put(&b, room < left ? room : left, at_us);
        run(&b, at_us);
    }
    run(&b, 3010 * MS - 1);
    assert_int_equal(b.got, 9000); /* nothing is saved up */
    run(&b, TIME_NEVER - 1);
    assert_int_equal(b.last_us, 3010 * MS);
    expect_whole(&b);
    bench_close(&b);
    bench_open(&b, FAULT_OUT, &r); /* who comes late finds what was earned meanwhile, and not more */
    put(&b, 4000, 0);
    pull(&b, 1000 * MS);
    assert_int_equal(b.got, 3030);
    pull(&b, 1000 * MS + 9 * MS);
    assert_int_equal(b.got, 3030);
    run(&b, TIME_NEVER - 1);
    assert_true(b.last_us >= 1320 * MS && b.last_us <= 1334 * MS);
    bench_close(&b);
    r.bytes_s = 3; /* a third of a second each: the rests of microseconds add up */
    bench_open(&b, FAULT_OUT, &r);
    put(&b, 31, 0);
    run(&b, TIME_NEVER - 1);
    assert_int_equal(b.last_us, 10000 * MS);
    bench_close(&b);
    r.bytes_s = 1;
    bench_open(&b, FAULT_IN, &r);
    put(&b, 3, 0);
    run(&b, 1500 * MS);
    assert_int_equal(b.got, 2);
    assert_int_equal(b.last_us, 1000 * MS);
    bench_close(&b);
}

static void a_drop_holds_what_is_there_and_takes_nothing(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, FAULT_IN, NULL);
    put(&b, 500, 0);
    struct fault_rule r = rule_of(FAULT_DROP);
    fault_set_add(&b.set, &r, 0);
    struct fault_effect e;
    fault_set_match(&b.set, NULL, FAULT_IN, &e);
    fault_lens_set(b.lens, &e);
    assert_int_equal(fault_lens_room(b.lens), 0);
    pull(&b, 1000 * MS);
    assert_int_equal(b.got, 0);
    assert_int_equal(fault_lens_next_us(b.lens), TIME_NEVER);
    assert_non_null(fault_set_heal(&b.set, 0));
    fault_set_match(&b.set, NULL, FAULT_IN, &e);
    assert_true(fault_effect_none(&e));
    fault_lens_set(b.lens, &e);
    pull(&b, 1000 * MS);
    expect_whole(&b);
    assert_false(fault_lens_torn(b.lens));
    bench_close(&b);
}

static void half_open_swallows_what_goes_out_and_reads_nothing(void **state)
{
    (void)state;
    struct fault_rule r = rule_of(FAULT_HALF_OPEN);
    struct bench b;
    bench_open(&b, FAULT_OUT, &r);
    assert_true(fault_lens_room(b.lens) > 0);
    assert_false(fault_lens_torn(b.lens));
    put(&b, 1234, 0);
    pull(&b, 1000 * MS);
    assert_int_equal(b.got, 0);
    assert_int_equal(b.rule->counts.bytes_swallowed, 1234);
    assert_true(fault_lens_torn(b.lens));
    bench_close(&b);
    bench_open(&b, FAULT_IN, &r);
    assert_int_equal(fault_lens_room(b.lens), 0);
    bench_close(&b);
}

static void corruption_flips_one_bit_in_about_one_byte_of_n(void **state)
{
    (void)state;
    static const size_t parts[] = {1, 17, 4096, 1u << 20};
    uint64_t first_count = 0;
    for (size_t p = 0; p < sizeof parts / sizeof parts[0]; p++) {
        struct fault_rule r = rule_of(FAULT_CORRUPT);
        r.one_in = 100;
        struct bench b;
        bench_open(&b, FAULT_IN, &r);
        while (b.put < 1u << 20) {
            size_t left = (1u << 20) - b.put;
            put(&b, parts[p] < left ? parts[p] : left, 0);
            pull(&b, 0);
        }
        size_t wrong = stream_faults(b.out, b.got, b.put);
        assert_int_equal(wrong, b.rule->counts.bytes_corrupted); /* no byte twice */
        assert_true(wrong > 9500 && wrong < 11500);
        if (p == 0) first_count = wrong;
        assert_int_equal(wrong, first_count); /* how the bytes come makes no difference */
        bench_close(&b);
    }
}

static void every_byte_is_corrupted_with_one_in_one(void **state)
{
    (void)state;
    struct fault_rule r = rule_of(FAULT_CORRUPT);
    r.one_in = 1;
    struct bench b;
    bench_open(&b, FAULT_IN, &r);
    put(&b, 1000, 0);
    pull(&b, 0);
    assert_int_equal(stream_faults(b.out, b.got, b.put), 1000);
    bench_close(&b);
}

static void a_delay_that_ends_lets_all_go_in_order(void **state)
{
    (void)state;
    struct fault_rule r = rule_of(FAULT_DELAY);
    r.delay_us = 5000 * MS;
    r.for_us = 100 * MS;
    struct bench b;
    bench_open(&b, FAULT_IN, &r);
    put(&b, 100, 0);
    put(&b, 100, 50 * MS);
    assert_int_equal(fault_set_next_us(&b.set), 100 * MS);
    assert_null(fault_set_expire(&b.set, 100 * MS - 1));
    assert_ptr_equal(fault_set_expire(&b.set, 100 * MS), b.rule);
    assert_null(fault_set_expire(&b.set, 100 * MS));
    struct fault_effect e;
    fault_set_match(&b.set, NULL, FAULT_IN, &e);
    fault_lens_set(b.lens, &e);
    put(&b, 50, 100 * MS);
    pull(&b, 100 * MS);
    expect_whole(&b);
    bench_close(&b);
}

static void random_work_keeps_the_stream(void **state)
{
    (void)state;
    struct prng p;
    prng_seed(&p, 3);
    struct fault_rule delay = rule_of(FAULT_DELAY), limit = rule_of(FAULT_LIMIT), drop = rule_of(FAULT_DROP);
    delay.delay_us = 3 * MS;
    delay.jitter_us = 3 * MS;
    limit.bytes_s = 40 * 1000 * 1000;
    const struct fault_rule *rules[] = {&delay, &limit, &drop};
    struct bench b;
    bench_open(&b, FAULT_OUT, NULL);
    for (uint64_t now_us = 0; b.put < STREAM_MAX - 70000; now_us += prng_below(&p, 2 * MS)) {
        if (prng_below(&p, 20) == 0) {
            while (fault_set_heal(&b.set, 0) != NULL) continue;
            for (unsigned i = 0; i < 3; i++)
                if (prng_below(&p, 2) == 0) fault_set_add(&b.set, rules[i], now_us);
            struct fault_effect e;
            fault_set_match(&b.set, NULL, FAULT_OUT, &e);
            fault_lens_set(b.lens, &e);
        }
        size_t size = prng_below(&p, 65536), room = fault_lens_room(b.lens);
        put(&b, size < room ? size : room, now_us);
        run(&b, now_us);
    }
    struct fault_effect none = {{NULL}};
    fault_lens_set(b.lens, &none);
    pull(&b, TIME_NEVER - 1);
    expect_whole(&b);
    bench_close(&b);
}

static void the_check_of_the_stream_finds_planted_faults(void **state)
{
    (void)state;
    uint8_t bytes[1000];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = stream_byte(i);
    assert_int_equal(stream_faults(bytes, 1000, 1000), 0);
    assert_true(stream_faults(bytes, 999, 1000) > 0); /* one is missing */
    bytes[500] ^= 1;
    assert_int_equal(stream_faults(bytes, 1000, 1000), 1);
    bytes[500] ^= 1;
    size_t at = 10;
    while (bytes[at] == bytes[at + 1]) at++;
    uint8_t swap = bytes[at];
    bytes[at] = bytes[at + 1];
    bytes[at + 1] = swap;
    assert_int_equal(stream_faults(bytes, 1000, 1000), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_rule_bytes_are_due_at_once),
        cmocka_unit_test(a_delay_is_exact_back_to_back_and_byte_by_byte),
        cmocka_unit_test(jitter_stays_in_its_bounds_and_never_reorders),
        cmocka_unit_test(the_line_is_bounded_and_goes_on_when_there_is_room),
        cmocka_unit_test(a_limit_is_exact_over_time),
        cmocka_unit_test(a_drop_holds_what_is_there_and_takes_nothing),
        cmocka_unit_test(half_open_swallows_what_goes_out_and_reads_nothing),
        cmocka_unit_test(corruption_flips_one_bit_in_about_one_byte_of_n),
        cmocka_unit_test(every_byte_is_corrupted_with_one_in_one),
        cmocka_unit_test(a_delay_that_ends_lets_all_go_in_order),
        cmocka_unit_test(random_work_keeps_the_stream),
        cmocka_unit_test(the_check_of_the_stream_finds_planted_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
