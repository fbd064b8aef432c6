/* Goal: whatever donors and links do, the model comes whole or waits, no chunk is copied twice, and nothing that is
 * wrong gets into it. Method: transfer_fixture.h with one fault at every place it can strike, then storms of all
 * faults drawn from seeds; planted bugs show that the laws have power. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/transfer_fixture.h"

#define MINUTE_US 60000000u
#define CHUNKS 24u
#define FLOATS (CHUNKS * RIG_CHUNK / sizeof(float))

static void expect_whole(struct rig *r, uint64_t limit_us)
{
    if (!rig_run(r, limit_us)) fail_msg("not done: %s", r->wrong[0] != '\0' ? r->wrong : "out of time");
    const char *wrong = rig_verdict(r);
    if (wrong != NULL) fail_msg("%s", wrong);
}

static struct rig *rig_of_three(uint64_t seed)
{
    struct rig *r = rig_new(FLOATS - 5, 3, seed);
    for (uint32_t i = 0; i < 3; i++) {
        r->donor[i].chunk_us = 1000 + 300 * i;
        rig_up(r, i);
    }
    return r;
}

static void a_donor_that_dies_at_any_chunk_costs_only_what_it_had_under_way(void **state)
{
    (void)state;
    struct rig *calm = rig_of_three(1);
    expect_whole(calm, MINUTE_US);
    uint64_t calm_us = calm->now_us;
    rig_free(calm);
    for (uint32_t kill = 1; kill < CHUNKS; kill++) {
        struct rig *r = rig_of_three(1);
        r->kill_at = kill;
        expect_whole(r, MINUTE_US);
        assert_int_equal(rig_arrived_twice(r), 0); /* what came from the dead one is not fetched again */
        uint32_t linked = 0, sent = 0;
        for (uint32_t i = 0; i < 3; i++) {
            linked += r->donor[i].linked;
            sent += r->donor[i].sent;
        }
        assert_int_equal(linked, 2);
        assert_true(sent <= CHUNKS + 4); /* at most a window is lost */
        assert_true(r->now_us <= calm_us * 3 / 2 + 6000);
        rig_free(r);
    }
}

static void all_donors_die_and_a_new_one_goes_on_from_there(void **state)
{
    (void)state;
    struct rig *r = rig_new(FLOATS, 4, 2);
    for (uint32_t i = 0; i < 3; i++) rig_up(r, i);
    assert_false(rig_run(r, 4000));
    for (uint32_t i = 0; i < 3; i++) rig_down(r, i);
    uint32_t there = r->delivered;
    assert_in_range(there, 3, CHUNKS - 1);
    assert_true(fetch_deadline_us(r->fetch) == TIME_NEVER);
    assert_false(rig_run(r, 5000000));
    rig_up(r, 3);
    expect_whole(r, MINUTE_US);
    assert_int_equal(r->donor[3].sent, CHUNKS - there);
    rig_free(r);
}

static void a_damaged_chunk_ends_that_link_and_is_fetched_again(void **state)
{
    (void)state;
    for (uint32_t at = 1; at <= CHUNKS; at++) {
        struct rig *r = rig_of_three(3);
        r->corrupt_at = at;
        expect_whole(r, MINUTE_US);
        assert_int_equal(r->proto_errors, 1);
        rig_free(r);
    }
}

static void a_silent_donor_loses_its_chunks_and_is_welcome_when_it_speaks(void **state)
{
    (void)state;
    struct rig *r = rig_of_three(4);
    r->donor[1].mute_from_us = 500;
    r->donor[1].mute_until_us = 3 * RIG_SILENCE_US;
    expect_whole(r, MINUTE_US);
    assert_true(r->now_us < RIG_SILENCE_US + 50000);
    assert_int_equal(r->proto_errors, 0);
    rig_free(r);
}

static void one_silent_donor_alone_is_waited_for_and_its_late_chunks_count(void **state)
{
    (void)state;
    struct rig *r = rig_new(FLOATS, 1, 5);
    r->donor[0].mute_from_us = 1500;
    r->donor[0].mute_until_us = 5 * RIG_SILENCE_US;
    rig_up(r, 0);
    expect_whole(r, MINUTE_US);
    assert_int_equal(r->proto_errors, 0);
    assert_true(r->now_us < 6 * RIG_SILENCE_US);
    rig_free(r);
}

static void a_donor_slower_than_the_patience_brings_the_model_all_the_same(void **state)
{
    (void)state;
    struct rig *r = rig_new(8 * RIG_CHUNK / sizeof(float), 1, 6);
    r->donor[0].chunk_us = RIG_SILENCE_US * 5 / 4;
    rig_up(r, 0);
    expect_whole(r, 4 * MINUTE_US);
    assert_int_equal(r->proto_errors, 0);
    rig_free(r);
}

/* -- storms ------------------------------------------------------------------------------------ */

static void draw_donor(struct rig *r, uint32_t i)
{
    struct rig_donor *d = &r->donor[i];
    d->chunk_us = 200 + prng_below(&r->p, prng_below(&r->p, 4) == 0 ? 900000 : 5000);
    d->delay_us = prng_below(&r->p, 2000);
    d->capacity = prng_below(&r->p, 4);
    if (prng_below(&r->p, 3) > 0) return;
    d->mute_from_us = r->now_us + prng_below(&r->p, 100000);
    d->mute_until_us = d->mute_from_us + prng_below(&r->p, 5000000);
}

/* Links go and come while the model is under way. Afterwards all donors are well, if not all fast. */
static bool storm(struct rig *r)
{
    if (prng_below(&r->p, 2) == 0) r->corrupt_at = 1 + prng_below(&r->p, 2 * CHUNKS);
    if (prng_below(&r->p, 2) == 0) r->kill_at = 1 + prng_below(&r->p, CHUNKS);
    for (uint32_t i = 0; i < r->donor_count; i++) {
        draw_donor(r, i);
        if (prng_below(&r->p, 4) > 0) rig_up(r, i);
    }
    for (uint32_t k = 0; k < 12; k++) {
        uint32_t pause_us = prng_below(&r->p, 3) == 0 ? 2000000 : 30000;
        if (rig_run(r, r->now_us + 1000 + prng_below(&r->p, pause_us))) return true;
        uint32_t i = prng_below(&r->p, r->donor_count);
        if (r->donor[i].linked)
            rig_down(r, i);
        else
            rig_up(r, i);
        if (prng_below(&r->p, 4) == 0) draw_donor(r, i);
    }
    r->kill_at = 0;
    for (uint32_t i = 0; i < r->donor_count; i++) {
        if (!r->donor[i].linked) rig_up(r, i);
        r->donor[i].chunk_us = prng_below(&r->p, 2) == 0 ? 1000 : 300000;
    }
    return rig_run(r, r->now_us + 2 * MINUTE_US);
}

static struct rig *rig_of_storm(uint64_t seed)
{
    struct prng p;
    prng_split(&p, seed, "storm", 0);
    struct rig *r = rig_new(1 + prng_below(&p, (uint32_t)FLOATS), 1 + prng_below(&p, RIG_DONOR_MAX), seed);
    return r;
}

static void storms_of_all_faults_end_with_a_whole_model(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 5000; seed++) {
        struct rig *r = rig_of_storm(seed);
        bool done = storm(r);
        const char *wrong = done ? rig_verdict(r) : r->wrong[0] != '\0' ? r->wrong : "out of time";
        if (wrong != NULL) fail_msg("seed %u: %s", (unsigned)seed, wrong);
        assert_true(r->proto_errors <= 1); /* the planned damage */
        rig_free(r);
    }
}

/* -- planted bugs ------------------------------------------------------------------------------ */

static uint32_t seeds_until_found(enum rig_bug bug, uint32_t limit)
{
    for (uint32_t seed = 0; seed < limit; seed++) {
        struct rig *r = rig_of_storm(seed);
        r->bug = bug;
        bool found = !storm(r) || rig_verdict(r) != NULL;
        rig_free(r);
        if (found) return seed + 1;
    }
    return limit + 1;
}

static void every_planted_bug_is_found_within_a_few_storms(void **state)
{
    (void)state;
    static const struct {
        enum rig_bug bug;
        const char *name;
    } bugs[] = {{BUG_HASH_NOT_CHECKED, "hash not checked"},
                {BUG_COUNTED_TWICE, "chunk counted twice"},
                {BUG_DEATH_IGNORED, "donor's death ignored"},
                {BUG_OVERWRITTEN, "second copy written over the first"},
                {BUG_SNAPSHOT_SHARED, "donor sends what it has now"}};
    for (size_t i = 0; i < sizeof bugs / sizeof *bugs; i++) {
        uint32_t seeds = seeds_until_found(bugs[i].bug, 100);
        print_message("%s: storm %u\n", bugs[i].name, seeds);
        if (seeds > 100) fail_msg("%s: not found", bugs[i].name);
    }
    assert_int_equal(seeds_until_found(BUG_NONE, 100), 101);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_donor_that_dies_at_any_chunk_costs_only_what_it_had_under_way),
        cmocka_unit_test(all_donors_die_and_a_new_one_goes_on_from_there),
        cmocka_unit_test(a_damaged_chunk_ends_that_link_and_is_fetched_again),
        cmocka_unit_test(a_silent_donor_loses_its_chunks_and_is_welcome_when_it_speaks),
        cmocka_unit_test(one_silent_donor_alone_is_waited_for_and_its_late_chunks_count),
        cmocka_unit_test(a_donor_slower_than_the_patience_brings_the_model_all_the_same),
        cmocka_unit_test(storms_of_all_faults_end_with_a_whole_model),
        cmocka_unit_test(every_planted_bug_is_found_within_a_few_storms),
    };
    return cmocka_run_group_tests_name("transfer faults", tests, NULL, NULL);
}
