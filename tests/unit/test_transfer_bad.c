/* Goal: a message that breaks the protocol is answered with ERR_PROTO and leaves no trace.
 * Method: each kind with each field wrong against machines in the midst of a transfer, which then goes on to its
 * end. Messages with fields of all sizes: test_transfer_odd.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>
#include <xxhash.h>

#include "base/check.h"
#include "base/limits.h"
#include "tests/unit/transfer_fixture.h"

#define CHUNKS 24u
#define FLOATS (CHUNKS * RIG_CHUNK / sizeof(float) - 7)

/* -- the newcomer ------------------------------------------------------------------------------ */

/* A fetch with one donor (7) that has offered snapshot 50 and was asked for chunks 0..3. */
struct scene {
    struct fetch *f;
    float x[FLOATS];
    struct transfer_actions acts;
};

static const struct state_msg good_offer = {.kind = STATE_OFFER,
                                            .snapshot = 50,
                                            .size = FLOATS * sizeof(float),
                                            .chunk_size = RIG_CHUNK,
                                            .progress = 3};

static void scene_open_as(struct scene *s, bool again)
{
    memset(s, 0, sizeof *s);
    s->f = fetch_new(&(struct fetch_config){.x = s->x,
                                            .dim = FLOATS,
                                            .donor_max = 3,
                                            .window = 4,
                                            .silence_us = RIG_SILENCE_US,
                                            .seed = 1,
                                            .again = again});
    fetch_donor_up(s->f, 7, 3, 0, &s->acts);
    assert_int_equal(fetch_message(s->f, 7, &good_offer, 10, &s->acts), 0);
    assert_int_equal(s->acts.count, 2);
    assert_int_equal(s->acts.item[1].msg.kind, STATE_GET);
    assert_int_equal(s->acts.item[1].msg.count, 4);
    transfer_actions_clear(&s->acts);
}

static void scene_open(struct scene *s)
{
    scene_open_as(s, false);
}

static void scene_close(struct scene *s)
{
    transfer_actions_deinit(&s->acts);
    fetch_free(s->f);
}

/* A chunk of ones with the right hash; the caller drops the body. */
static struct state_msg chunk_msg(uint64_t snapshot, uint64_t first, size_t bytes)
{
    struct state_msg m = {.kind = STATE_CHUNK, .snapshot = snapshot, .first = first, .body = blob_new(bytes)};
    for (size_t i = 0; i < bytes / sizeof(float); i++) blob_floats_own(m.body)[i] = 1.0f;
    m.hash = XXH3_64bits_withSeed(m.body->data, m.body->size, snapshot + first);
    return m;
}

/* The message is refused, and the fetch is as it was. */
static void expect_refused(struct scene *s, node_id from, const struct state_msg *m, const char *what)
{
    float before[FLOATS];
    uint64_t chunks, of, chunks_after, of_after;
    uint32_t donors, donors_after;
    memcpy(before, s->x, sizeof before);
    uint64_t deadline_us = fetch_deadline_us(s->f);
    fetch_progress(s->f, &chunks, &of, &donors);
    if (fetch_message(s->f, from, m, 20, &s->acts) != ERR_PROTO) fail_msg("taken: %s", what);
    fetch_progress(s->f, &chunks_after, &of_after, &donors_after);
    if (memcmp(before, s->x, sizeof before) != 0 || s->acts.count != 0 || chunks != chunks_after ||
        of != of_after || donors != donors_after || fetch_deadline_us(s->f) != deadline_us)
        fail_msg("it left a trace: %s", what);
}

static void malformed_words_to_a_newcomer_leave_no_trace(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        node_id from;
        struct state_msg msg;
    } cases[] = {
        {"kind 0", 7, {.kind = (enum state_kind)0}},
        {"kind 8", 7, {.kind = (enum state_kind)8}},
        {"kind 1000", 7, {.kind = (enum state_kind)1000}},
        {"a newcomer's ASK", 7, {.kind = STATE_ASK}},
        {"a newcomer's GET", 7, {.kind = STATE_GET, .snapshot = 50, .count = 1}},
        {"a newcomer's DONE", 7, {.kind = STATE_DONE, .snapshot = 50}},
        {"an offer of a stranger", 8, good_offer},
        {"a second offer", 7, good_offer},
        {"busy without an ask", 7, {.kind = STATE_BUSY, .wait_us = 1}},
        {"busy with a snapshot", 7, {.kind = STATE_BUSY, .wait_us = 1, .snapshot = 50}},
        {"gone without a snapshot", 7, {.kind = STATE_GONE}},
        {"gone with another snapshot", 7, {.kind = STATE_GONE, .snapshot = 51}},
        {"gone with a size", 7, {.kind = STATE_GONE, .snapshot = 50, .size = 4}},
        {"a chunk without a body", 7, {.kind = STATE_CHUNK, .snapshot = 50}},
    };
    struct scene s;
    scene_open(&s);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refused(&s, cases[i].from, &cases[i].msg, cases[i].what);
    scene_close(&s);
}

static void malformed_offers_leave_no_trace(void **state)
{
    (void)state;
    struct scene s = {0};
    s.f = fetch_new(&(struct fetch_config){
        .x = s.x, .dim = FLOATS, .donor_max = 3, .window = 4, .silence_us = RIG_SILENCE_US, .seed = 1});
    fetch_donor_up(s.f, 7, 3, 0, &s.acts);
    transfer_actions_clear(&s.acts);
    struct blob *body = blob_new(4);
    static const uint64_t bad_chunk[] = {
        0, 1, 2, RIG_CHUNK + 2, TRANSFER_CHUNK_MAX + 4, UINT64_MAX - 3, 1ull << 63};
    static const uint64_t bad_size[] = {0, 4, FLOATS * 4 - 4, FLOATS * 4 + 4, UINT64_MAX, 1ull << 63};
    for (size_t i = 0; i < sizeof bad_chunk / sizeof *bad_chunk; i++) {
        struct state_msg m = good_offer;
        m.chunk_size = bad_chunk[i];
        expect_refused(&s, 7, &m, "an offer with a bad chunk size");
    }
    for (size_t i = 0; i < sizeof bad_size / sizeof *bad_size; i++) {
        struct state_msg m = good_offer;
        m.size = bad_size[i];
        expect_refused(&s, 7, &m, "an offer of another model");
    }
    struct state_msg m = good_offer;
    m.snapshot = 0;
    expect_refused(&s, 7, &m, "an offer without a snapshot");
    m = good_offer;
    m.body = body;
    expect_refused(&s, 7, &m, "an offer with a body");
    m = good_offer;
    m.first = 1;
    expect_refused(&s, 7, &m, "an offer with an index");
    assert_int_equal(fetch_message(s.f, 7, &good_offer, 30, &s.acts), 0);
    blob_unref(body);
    scene_close(&s);
}

static void wrong_chunks_leave_no_trace(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        uint64_t snapshot, first;
        size_t bytes;
    } cases[] = {
        {"not asked for", 50, 4, RIG_CHUNK},
        {"beyond the model", 50, CHUNKS, RIG_CHUNK},
        {"far beyond the model", 50, UINT64_MAX, RIG_CHUNK},
        {"index 2^32", 50, 1ull << 32, RIG_CHUNK},
        {"another snapshot", 51, 0, RIG_CHUNK},
        {"no snapshot", 0, 0, RIG_CHUNK},
        {"too short", 50, 0, RIG_CHUNK - 4},
        {"too long", 50, 0, RIG_CHUNK + 4},
        {"empty", 50, 0, 0},
    };
    struct scene s;
    scene_open(&s);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct state_msg m = chunk_msg(cases[i].snapshot, cases[i].first, cases[i].bytes);
        expect_refused(&s, 7, &m, cases[i].what);
        blob_unref(m.body);
    }
    for (unsigned bit = 0; bit < 8 * RIG_CHUNK; bit += 37) {
        struct state_msg m = chunk_msg(50, 0, RIG_CHUNK);
        m.body->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        expect_refused(&s, 7, &m, "one bit is wrong");
        blob_unref(m.body);
    }
    struct state_msg m = chunk_msg(50, 0, RIG_CHUNK);
    m.first = 1;
    expect_refused(&s, 7, &m, "in the place of another that was asked for");
    m.first = 0;
    assert_int_equal(fetch_message(s.f, 7, &m, 30, &s.acts), 0);
    transfer_actions_clear(&s.acts);
    expect_refused(&s, 7, &m, "a second time, asked for once");
    blob_unref(m.body);
    scene_close(&s);
}

static void numbers_that_are_none_are_refused(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s);
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < 3; i++) {
        struct state_msg m = chunk_msg(50, 2, RIG_CHUNK);
        blob_floats_own(m.body)[RIG_CHUNK / sizeof(float) - 1] = bad[i];
        m.hash = XXH3_64bits_withSeed(m.body->data, m.body->size, 52);
        expect_refused(&s, 7, &m, "not finite");
        blob_unref(m.body);
    }
    scene_close(&s);
}

/* -- words that are right but come late or twice ----------------------------------------------- */

/* A fetch that follows another hears what that one was still owed: dropped, unless nobody honest could have said it. */
static void answers_to_an_earlier_fetch_are_dropped(void **state)
{
    (void)state;
    for (int again = 0; again <= 1; again++) {
        struct scene s;
        scene_open_as(&s, again);
        struct state_msg offer = good_offer, busy = {.kind = STATE_BUSY, .wait_us = 5};
        struct state_msg gone = {.kind = STATE_GONE, .snapshot = 40}, old = chunk_msg(40, 1, RIG_CHUNK);
        struct state_msg far = chunk_msg(50, 9, RIG_CHUNK); /* of this snapshot, and not asked for yet */
        offer.snapshot = 41;
        const struct state_msg *late[] = {&offer, &busy, &gone, &old, &far};
        for (size_t i = 0; i < sizeof late / sizeof late[0]; i++) {
            int err = fetch_message(s.f, 7, late[i], 20, &s.acts);
            assert_int_equal(err, again ? 0 : ERR_PROTO);
            assert_int_equal(fetch_message(s.f, 99, late[i], 20, &s.acts), again ? 0 : ERR_PROTO);
            assert_int_equal(s.acts.count, 0);
        }
        struct state_msg wrong = chunk_msg(50, 1, RIG_CHUNK);
        wrong.hash++;
        expect_refused(&s, 7, &wrong, "a wrong hash");
        wrong.hash--;
        assert_int_equal(fetch_message(s.f, 7, &wrong, 21, &s.acts), 0);
        uint64_t chunks, of;
        uint32_t donors;
        fetch_progress(s.f, &chunks, &of, &donors);
        assert_int_equal(chunks, 1);
        blob_unref(old.body);
        blob_unref(far.body);
        blob_unref(wrong.body);
        scene_close(&s);
    }
}

static void gone_makes_the_newcomer_ask_again_and_late_chunks_count(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s);
    const struct state_msg gone = {.kind = STATE_GONE, .snapshot = 50};
    assert_int_equal(fetch_message(s.f, 7, &gone, 20, &s.acts), 0);
    assert_int_equal(s.acts.count, 1);
    assert_int_equal(s.acts.item[0].msg.kind, STATE_ASK);
    transfer_actions_clear(&s.acts);
    assert_int_equal(fetch_message(s.f, 7, &gone, 21, &s.acts), 0); /* of a second GET */
    assert_int_equal(s.acts.count, 0);
    struct state_msg offer = good_offer;
    offer.snapshot = 60;
    assert_int_equal(fetch_message(s.f, 7, &offer, 30, &s.acts), 0);
    assert_int_equal(s.acts.item[0].msg.kind, STATE_GET);
    assert_int_equal(s.acts.item[0].msg.snapshot, 60);
    assert_int_equal(s.acts.item[0].msg.first, 0);
    struct state_msg late = chunk_msg(50, 1, RIG_CHUNK);
    assert_int_equal(fetch_message(s.f, 7, &late, 31, &s.acts), 0);
    blob_unref(late.body);
    uint64_t chunks, of;
    uint32_t donors;
    fetch_progress(s.f, &chunks, &of, &donors);
    assert_int_equal(chunks, 1);
    scene_close(&s);
}

static void a_busy_donor_is_asked_again_after_the_time_it_names_but_not_never(void **state)
{
    (void)state;
    static const struct {
        uint64_t wait_us, until_us;
    } cases[] = {{1000000, 1000000}, {0, 10000}, {UINT64_MAX, TRANSFER_WAIT_MAX_US}};
    struct scene s = {0};
    s.f = fetch_new(&(struct fetch_config){
        .x = s.x, .dim = FLOATS, .donor_max = 3, .window = 4, .silence_us = RIG_SILENCE_US, .seed = 1});
    uint64_t now_us = 0;
    fetch_donor_up(s.f, 7, 3, now_us, &s.acts);
    for (size_t i = 0; i < 3; i++) {
        transfer_actions_clear(&s.acts);
        const struct state_msg busy = {.kind = STATE_BUSY, .wait_us = cases[i].wait_us};
        assert_int_equal(fetch_message(s.f, 7, &busy, now_us, &s.acts), 0);
        assert_int_equal(s.acts.count, 0);
        assert_int_equal(fetch_deadline_us(s.f), now_us + cases[i].until_us);
        now_us += cases[i].until_us;
        fetch_deadline(s.f, now_us, &s.acts);
        assert_int_equal(s.acts.count, 1);
        assert_int_equal(s.acts.item[0].msg.kind, STATE_ASK);
    }
    scene_close(&s);
}

static void a_donor_that_cuts_otherwise_is_let_go_until_it_is_alone(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s);
    fetch_donor_up(s.f, 9, 3, 20, &s.acts);
    transfer_actions_clear(&s.acts);
    struct state_msg offer = good_offer;
    offer.chunk_size = 2 * RIG_CHUNK;
    assert_int_equal(fetch_message(s.f, 9, &offer, 21, &s.acts), 0);
    assert_int_equal(s.acts.count, 1);
    assert_int_equal(s.acts.item[0].msg.kind, STATE_DONE);
    assert_int_equal(s.acts.item[0].to, 9);
    transfer_actions_clear(&s.acts);
    fetch_donor_down(s.f, 7, 22, &s.acts);
    assert_int_equal(s.acts.count, 1);
    assert_int_equal(s.acts.item[0].msg.kind, STATE_ASK);
    transfer_actions_clear(&s.acts);
    assert_int_equal(fetch_message(s.f, 9, &offer, 23, &s.acts), 0);
    assert_int_equal(s.acts.item[0].msg.kind, STATE_GET);
    uint64_t chunks, of;
    uint32_t donors;
    fetch_progress(s.f, &chunks, &of, &donors);
    assert_int_equal(of, CHUNKS / 2);
    scene_close(&s);
}

/* -- the donor --------------------------------------------------------------------------------- */

static void malformed_words_to_a_donor_leave_no_trace(void **state)
{
    (void)state;
    float x[FLOATS] = {0};
    struct transfer_actions acts = {0};
    struct blob *body = blob_new(4);
    struct donor *d = donor_new(&(struct donor_config){.dim = FLOATS,
                                                       .chunk_size = RIG_CHUNK,
                                                       .newcomer_max = 4,
                                                       .rate_bytes_s = RIG_CHUNK,
                                                       .snapshot_us = RIG_SNAPSHOT_US,
                                                       .queue_max = 8});
    const struct state_msg ask = {.kind = STATE_ASK};
    assert_int_equal(donor_message(d, 1, &ask, x, 0, 0, &acts), 0);
    uint64_t snapshot = acts.item[0].msg.snapshot;
    const struct state_msg get = {.kind = STATE_GET, .snapshot = snapshot, .first = 10, .count = 4};
    assert_int_equal(donor_message(d, 1, &get, x, 0, 0, &acts), 0); /* 10 is sent, three wait */
    transfer_actions_clear(&acts);
    uint64_t deadline_us = donor_deadline_us(d), given = donor_bytes_given(d);
    const struct state_msg cases[] = {
        {.kind = (enum state_kind)0},
        {.kind = (enum state_kind)8},
        {.kind = STATE_ASK, .snapshot = 1},
        {.kind = STATE_ASK, .body = body},
        {.kind = STATE_OFFER, .snapshot = 1, .size = sizeof x, .chunk_size = RIG_CHUNK},
        {.kind = STATE_CHUNK, .snapshot = 1, .body = body},
        {.kind = STATE_BUSY},
        {.kind = STATE_GONE, .snapshot = snapshot},
        {.kind = STATE_GET, .first = 0, .count = 1},
        {.kind = STATE_GET, .snapshot = snapshot, .first = 0},
        {.kind = STATE_GET, .snapshot = snapshot, .first = CHUNKS, .count = 1},
        {.kind = STATE_GET, .snapshot = snapshot, .first = CHUNKS - 1, .count = 2},
        {.kind = STATE_GET, .snapshot = snapshot, .first = UINT64_MAX, .count = 2},
        {.kind = STATE_GET, .snapshot = snapshot, .first = 1, .count = UINT64_MAX},
        {.kind = STATE_GET, .snapshot = snapshot, .first = 0, .count = 9},
        {.kind = STATE_GET, .snapshot = snapshot, .first = 0, .count = 6}, /* with those that wait: 9 */
        {.kind = STATE_GET, .snapshot = snapshot, .first = 9, .count = 3}, /* 11 waits already */
        {.kind = STATE_GET, .snapshot = snapshot, .first = 0, .count = 1, .hash = 1},
        {.kind = STATE_DONE, .snapshot = snapshot, .count = 1},
        {.kind = STATE_DONE, .snapshot = snapshot, .body = body},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (donor_message(d, 1, &cases[i], x, 0, 0, &acts) != ERR_PROTO) fail_msg("case %zu is taken", i);
        if (acts.count != 0 || donor_deadline_us(d) != deadline_us || donor_bytes_given(d) != given)
            fail_msg("case %zu left a trace", i);
    }
    for (uint64_t i = 11; i <= 13; i++) {
        donor_deadline(d, x, donor_deadline_us(d), &acts);
        assert_int_equal(acts.count, i - 10);
        assert_int_equal(acts.item[i - 11].msg.first, i);
    }
    transfer_actions_deinit(&acts);
    blob_unref(body);
    donor_free(d);
}

/* Our own count of steps goes on from what the donor tells. */
static void an_offer_of_more_steps_than_can_be_is_refused(void **state)
{
    (void)state;
    static const uint64_t steps[] = {NUMBER_TOP, NUMBER_TOP + 1, UINT64_MAX};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        struct scene s;
        scene_open(&s);
        fetch_donor_up(s.f, 8, 3, 0, &s.acts);
        transfer_actions_clear(&s.acts);
        struct state_msg offer = good_offer;
        offer.progress = steps[i];
        if (i == 0)
            assert_int_equal(fetch_message(s.f, 8, &offer, 20, &s.acts), 0);
        else
            expect_refused(&s, 8, &offer, "an offer of too many steps");
        scene_close(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_words_to_a_newcomer_leave_no_trace),
        cmocka_unit_test(malformed_offers_leave_no_trace),
        cmocka_unit_test(wrong_chunks_leave_no_trace),
        cmocka_unit_test(numbers_that_are_none_are_refused),
        cmocka_unit_test(answers_to_an_earlier_fetch_are_dropped),
        cmocka_unit_test(gone_makes_the_newcomer_ask_again_and_late_chunks_count),
        cmocka_unit_test(a_busy_donor_is_asked_again_after_the_time_it_names_but_not_never),
        cmocka_unit_test(a_donor_that_cuts_otherwise_is_let_go_until_it_is_alone),
        cmocka_unit_test(malformed_words_to_a_donor_leave_no_trace),
        cmocka_unit_test(an_offer_of_more_steps_than_can_be_is_refused),
    };
    return cmocka_run_group_tests_name("transfer bad", tests, NULL, NULL);
}
