/* Goal: the relay does to frames what it was told, no more and no less, and the same for one seed.
 * Method: many frames at made-up times; shares against bounds of five standard deviations, times against their
 * limits; damaged frames against a checksum summed anew; a second seed shows that draws depend on it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "tests/chaos/impair.h"

enum { FRAMES = 20000, GAP_US = 1000 };

static void start(struct impair *p, uint64_t seed, const char *words)
{
    struct impair_config c;
    const char *bad;
    assert_int_equal(impair_parse(&c, words, &bad), 0);
    impair_init(p, seed, 3);
    impair_set(p, &c, 0);
}

struct seen {
    uint64_t copies, overtakes, least_us, most_us, at_hash;
};

static struct seen judge_many(struct impair *p)
{
    struct seen s = {.least_us = UINT64_MAX};
    uint64_t last = 0;
    for (uint64_t i = 0; i < FRAMES; i++) {
        struct impair_verdict v;
        impair_judge(p, i * GAP_US, 1000, &v);
        for (uint32_t k = 0; k < v.copies; k++) {
            uint64_t waited = v.at_us[k] - i * GAP_US;
            s.copies++;
            if (waited < s.least_us) s.least_us = waited;
            if (waited > s.most_us) s.most_us = waited;
            if (v.at_us[k] < last) s.overtakes++;
            last = v.at_us[k];
            s.at_hash = s.at_hash * 31 + v.at_us[k];
        }
    }
    return s;
}

static void nothing_set_changes_nothing(void **state)
{
    (void)state;
    struct impair p;
    start(&p, 1, "");
    struct seen s = judge_many(&p);
    assert_int_equal(s.copies, FRAMES);
    assert_int_equal(s.most_us, 0);
    assert_int_equal(p.counts.frames, FRAMES);
    assert_int_equal(p.counts.lost + p.counts.burst_lost + p.counts.overflowed + p.counts.duplicated, 0);
}

static void shares_are_met(void **state)
{
    (void)state;
    static const struct {
        const char *words;
        size_t counter;
        double share;
    } cases[] = {
        {"loss=0.05", offsetof(struct impair_counts, lost), 0.05},
        {"loss=0.2", offsetof(struct impair_counts, lost), 0.2},
        {"duplicate=0.02", offsetof(struct impair_counts, duplicated), 0.02},
        {"delay=20ms reorder=0.25", offsetof(struct impair_counts, reordered), 0.25},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct impair p;
        start(&p, 7, cases[i].words);
        struct seen s = judge_many(&p);
        double count = (double)*(uint64_t *)(void *)((char *)&p.counts + cases[i].counter);
        double off = count - cases[i].share * FRAMES;
        assert_true(off * off <= 25 * cases[i].share * (1 - cases[i].share) * FRAMES);
        assert_int_equal(s.copies, FRAMES - p.counts.lost + p.counts.duplicated);
    }
}

static void delay_and_jitter_keep_their_limits(void **state)
{
    (void)state;
    struct impair p;
    start(&p, 1, "delay=50ms jitter=50ms");
    struct seen s = judge_many(&p);
    assert_true(s.least_us < 500 && s.most_us > 99500 && s.most_us <= 100000);
    assert_true(s.overtakes > FRAMES / 4);
    start(&p, 1, "delay=200ms");
    s = judge_many(&p);
    assert_true(s.least_us == 200000 && s.most_us == 200000 && s.overtakes == 0);
}

static void bursts_lose_runs_of_frames(void **state)
{
    (void)state;
    struct impair p;
    start(&p, 1, "burst=200ms/800ms/1");
    uint64_t run = 0, runs = 0, lost = 0;
    for (uint64_t i = 0; i < 20 * FRAMES; i++) {
        struct impair_verdict v;
        impair_judge(&p, i * GAP_US, 100, &v);
        if (v.copies == 0) {
            lost++;
            run++;
        } else {
            if (run > 0) runs++;
            run = 0;
        }
    }
    assert_int_equal(lost, p.counts.burst_lost);
    double share = (double)lost / (20.0 * FRAMES), length = (double)lost / (double)runs;
    assert_true(share > 0.15 && share < 0.25); /* about 400 bad times of 200 ms in 400 s */
    assert_true(length > 150 && length < 250);
}

static void rate_spaces_frames_and_loses_the_overflow(void **state)
{
    (void)state;
    struct impair p;
    start(&p, 1, "rate=4m queue=10k"); /* 1000 bytes take 2 ms and come every 1 ms */
    struct seen s = judge_many(&p);
    assert_true(s.most_us <= 20000 && s.least_us >= 2000);
    assert_true(p.counts.overflowed > FRAMES / 2 - 20 && p.counts.overflowed < FRAMES / 2 + 20);
}

static void one_seed_one_course(void **state)
{
    (void)state;
    const char *words = "delay=30ms jitter=10ms loss=0.1 duplicate=0.1 burst=1s/5s/0.9";
    struct impair a, b, c;
    start(&a, 5, words);
    start(&b, 5, words);
    start(&c, 6, words);
    uint64_t hash = judge_many(&a).at_hash;
    assert_true(hash == judge_many(&b).at_hash);
    assert_true(hash != judge_many(&c).at_hash);
}

static void words_without_sense_are_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "loss=1.5", "loss=x",      "delay=5",   "delay",    "delay=1ms jitter=2ms",
        "speed=3",  "burst=1s/2s", "loss=-0.1", "loss=nan", "delay=1e99s"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct impair_config c = {.loss = 0.5};
        const char *bad = NULL;
        assert_int_equal(impair_parse(&c, wrong[i], &bad), -1);
        assert_true(c.loss == 0.5 && bad != NULL);
    }
}

/* -- damage ------------------------------------------------------------------------------------ */

static uint32_t sum_words(const uint8_t *at, size_t size, uint32_t sum)
{
    for (size_t i = 0; i < size; i++) sum += (uint32_t)at[i] << (i % 2 == 0 ? 8 : 0);
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

/* Sum of pseudo header and segment: 0xffff when the checksum fits. */
static uint32_t segment_sum(const uint8_t *frame, size_t size)
{
    size_t length = size - 34;
    uint32_t sum = sum_words(frame + 26, 8, (uint32_t)frame[23] + (uint32_t)length);
    return sum_words(frame + 34, length, sum);
}

/* A frame with TCP over IPv4 and `payload` bytes; returns its size. */
static size_t make_frame(uint8_t *frame, size_t payload)
{
    size_t size = 14 + 20 + 20 + payload;
    for (size_t i = 0; i < size; i++) frame[i] = (uint8_t)(i * 7 + 3);
    frame[12] = 8;
    frame[13] = 0;
    frame[14] = 0x45;
    frame[16] = (uint8_t)((size - 14) >> 8);
    frame[17] = (uint8_t)(size - 14);
    frame[20] = 0x40; /* do not fragment */
    frame[21] = 0;
    frame[23] = 6;
    frame[34 + 12] = 0x50;
    frame[34 + 16] = frame[34 + 17] = 0;
    uint32_t sum = ~segment_sum(frame, size) & 0xffff;
    frame[34 + 16] = (uint8_t)(sum >> 8);
    frame[34 + 17] = (uint8_t)sum;
    assert_int_equal(segment_sum(frame, size), 0xffff);
    return size;
}

static void damage_is_one_bit_and_the_checksum_fits(void **state)
{
    (void)state;
    struct impair p;
    start(&p, 1, "corrupt=1");
    for (size_t payload = 1; payload < 60; payload++) {
        uint8_t before[200], after[200];
        size_t size = make_frame(before, payload);
        memcpy(after, before, size);
        assert_true(impair_corrupt(&p, after, size));
        uint32_t bits = 0;
        for (size_t i = 0; i < size; i++)
            if (i != 34 + 16 && i != 34 + 17) bits += (uint32_t)__builtin_popcount(before[i] ^ after[i]);
        assert_int_equal(bits, 1);
        assert_memory_equal(before, after, 34 + 16);
        assert_int_equal(segment_sum(after, size), 0xffff);
    }
}

static void frames_without_payload_stay_whole(void **state)
{
    (void)state;
    struct impair p;
    start(&p, 1, "corrupt=1");
    uint8_t frame[200], copy[200];
    size_t size = make_frame(frame, 0);
    memcpy(copy, frame, size);
    assert_false(impair_corrupt(&p, frame, size));
    size = make_frame(frame, 10);
    frame[12] = 0x86; /* another protocol */
    assert_false(impair_corrupt(&p, frame, size));
    size = make_frame(frame, 10);
    frame[17] = 200; /* says that it is longer than it is */
    assert_false(impair_corrupt(&p, frame, size));
    assert_int_equal(p.counts.corrupted, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_set_changes_nothing),
        cmocka_unit_test(shares_are_met),
        cmocka_unit_test(delay_and_jitter_keep_their_limits),
        cmocka_unit_test(bursts_lose_runs_of_frames),
        cmocka_unit_test(rate_spaces_frames_and_loses_the_overflow),
        cmocka_unit_test(one_seed_one_course),
        cmocka_unit_test(words_without_sense_are_refused),
        cmocka_unit_test(damage_is_one_bit_and_the_checksum_fits),
        cmocka_unit_test(frames_without_payload_stay_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
