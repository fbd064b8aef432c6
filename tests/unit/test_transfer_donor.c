/* Goal: a donor gives what it froze, to as many and as fast as its caps allow, and forgets in time.
 * Method: one donor driven by hand in virtual time, its actions read back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/transfer/transfer.h"
#include "base/ids.h"

#define CHUNK 64u
#define CHUNKS 20u
#define DIM (CHUNKS * CHUNK / sizeof(float) - 3) /* the last chunk is smaller */
#define SNAPSHOT_US 1000000u

struct bench {
    struct donor *d;
    float x[DIM];
    struct transfer_actions acts;
};

static void bench_open(struct bench *b, uint32_t newcomer_max, uint64_t rate)
{
    memset(b, 0, sizeof *b);
    for (size_t i = 0; i < DIM; i++) b->x[i] = (float)i;
    b->d = donor_new(&(struct donor_config){.dim = DIM,
                                            .chunk_size = CHUNK,
                                            .newcomer_max = newcomer_max,
                                            .rate_bytes_s = rate,
                                            .snapshot_us = SNAPSHOT_US,
                                            .queue_max = 8,
                                            .seed = 7});
}

static void bench_close(struct bench *b)
{
    transfer_actions_deinit(&b->acts);
    donor_free(b->d);
}

static void tell(struct bench *b, node_id from, struct state_msg msg, uint64_t now_us)
{
    transfer_actions_clear(&b->acts);
    assert_int_equal(donor_message(b->d, from, &msg, b->x, 5, now_us, &b->acts), 0);
}

/* What the donor answers to an ASK; 0 = BUSY. */
static uint64_t ask(struct bench *b, node_id from, uint64_t now_us)
{
    tell(b, from, (struct state_msg){.kind = STATE_ASK}, now_us);
    assert_int_equal(b->acts.count, 1);
    const struct transfer_action *a = &b->acts.item[0];
    assert_int_equal(a->kind, TRANSFER_SEND);
    assert_int_equal(a->to, from);
    if (a->msg.kind == STATE_BUSY) {
        assert_int_not_equal(a->msg.wait_us, 0);
        return 0;
    }
    assert_int_equal(a->msg.kind, STATE_OFFER);
    assert_int_equal(a->msg.size, DIM * sizeof(float));
    assert_int_equal(a->msg.chunk_size, CHUNK);
    assert_int_equal(a->msg.progress, 5);
    assert_true(a->msg.snapshot != 0);
    return a->msg.snapshot;
}

static void get(struct bench *b, node_id from, uint64_t snapshot, uint64_t first, uint64_t count,
                uint64_t now_us)
{
    tell(b, from, (struct state_msg){.kind = STATE_GET, .snapshot = snapshot, .first = first, .count = count},
         now_us);
}

/* The first action: chunk `index` to `to`, with what x was. */
static void expect_chunk(const struct bench *b, size_t action, node_id to, uint64_t index, const float *x)
{
    assert_true(action < b->acts.count);
    const struct transfer_action *a = &b->acts.item[action];
    assert_int_equal(a->msg.kind, STATE_CHUNK);
    assert_int_equal(a->to, to);
    assert_int_equal(a->msg.first, index);
    size_t bytes = index == CHUNKS - 1 ? CHUNK - 3 * sizeof(float) : CHUNK;
    assert_int_equal(a->msg.body->size, bytes);
    assert_memory_equal(a->msg.body->data, x + index * CHUNK / sizeof(float), bytes);
}

static void a_chunk_is_the_same_for_all_from_its_first_sending_on(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, 4, 0);
    uint64_t first = ask(&b, 1, 0);
    for (size_t i = 0; i < DIM; i++) b.x[i] += 1; /* offering has copied nothing */
    get(&b, 1, first, CHUNKS - 2, 1, 1);
    expect_chunk(&b, 0, 1, CHUNKS - 2, b.x);
    const struct blob *shared = b.acts.item[0].msg.body;
    uint64_t hash = b.acts.item[0].msg.hash;
    float frozen[DIM];
    memcpy(frozen, b.x, sizeof frozen);
    for (size_t i = 0; i < DIM; i++) b.x[i] += 1;
    assert_true(ask(&b, 2, SNAPSHOT_US - 1) == first); /* shared */
    get(&b, 2, first, CHUNKS - 2, 2, SNAPSHOT_US - 1);
    assert_int_equal(b.acts.count, 2);
    expect_chunk(&b, 0, 2, CHUNKS - 2, frozen);
    expect_chunk(&b, 1, 2, CHUNKS - 1, b.x);           /* nobody has had it: as it is now */
    assert_ptr_equal(b.acts.item[0].msg.body, shared); /* no copy for the second one */
    assert_true(b.acts.item[0].msg.hash == hash);
    assert_int_equal(donor_bytes_given(b.d), 3 * CHUNK - 3 * sizeof(float));
    bench_close(&b);
}

static void there_are_never_more_than_two_snapshots(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, 4, 0);
    uint64_t first = ask(&b, 1, 0);
    get(&b, 1, first, 0, 1, SNAPSHOT_US - 1);
    b.x[0] = 77;
    uint64_t second = ask(&b, 2, SNAPSHOT_US);
    assert_true(second != 0 && second != first);
    get(&b, 2, second, 0, 1, SNAPSHOT_US);
    expect_chunk(&b, 0, 2, 0, b.x);
    get(&b, 1, first, 2, 1, 2 * SNAPSHOT_US - 2);
    get(&b, 2, second, 2, 1, 2 * SNAPSHOT_US - 2);
    assert_true(ask(&b, 3, 2 * SNAPSHOT_US) == 0);
    tell(&b, 1, (struct state_msg){.kind = STATE_DONE, .snapshot = first}, 2 * SNAPSHOT_US);
    uint64_t third = ask(&b, 3, 2 * SNAPSHOT_US);
    assert_true(third != 0 && third != first && third != second);
    bench_close(&b);
}

static void an_unused_snapshot_is_dropped_and_its_chunks_are_gone(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, 4, 0);
    assert_true(donor_deadline_us(b.d) == TIME_NEVER);
    uint64_t snapshot = ask(&b, 1, 10);
    assert_int_equal(donor_deadline_us(b.d), 10 + SNAPSHOT_US); /* of the newcomer that says nothing */
    donor_deadline(b.d, b.x, 10 + SNAPSHOT_US, &b.acts);
    assert_int_equal(donor_deadline_us(b.d), 10 + 2 * SNAPSHOT_US); /* of the snapshot that nobody uses */
    donor_deadline(b.d, b.x, 10 + 2 * SNAPSHOT_US, &b.acts);
    assert_true(donor_deadline_us(b.d) == TIME_NEVER);
    get(&b, 1, snapshot, 3, 2, 20 + 2 * SNAPSHOT_US);
    assert_int_equal(b.acts.count, 1);
    assert_int_equal(b.acts.item[0].msg.kind, STATE_GONE);
    assert_true(b.acts.item[0].msg.snapshot == snapshot);
    bench_close(&b);
}

static void newcomers_over_the_cap_are_told_to_come_again(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, 2, 0);
    assert_true(ask(&b, 1, 0) != 0);
    uint64_t snapshot = ask(&b, 2, 0);
    assert_true(ask(&b, 3, 0) == 0);
    assert_in_range(b.acts.item[0].msg.wait_us, 250000, 500000);
    assert_true(ask(&b, 2, 0) == snapshot); /* who has a place keeps it */
    donor_link_down(b.d, 1);
    assert_true(ask(&b, 3, 1) == snapshot);
    tell(&b, 2, (struct state_msg){.kind = STATE_DONE, .snapshot = snapshot}, 2);
    assert_true(ask(&b, 4, 2) == snapshot);
    assert_true(ask(&b, 5, 2) == 0);
    assert_true(ask(&b, 5, SNAPSHOT_US + 2) != 0); /* the others said nothing for so long */
    bench_close(&b);
}

static void a_newcomer_that_is_gone_is_sent_nothing_more(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, 4, 1000 * CHUNK); /* a chunk each ms */
    uint64_t snapshot = ask(&b, 1, 0);
    assert_true(ask(&b, 2, 0) == snapshot);
    get(&b, 1, snapshot, 0, 8, 0);
    assert_int_equal(b.acts.count, 1);
    get(&b, 2, snapshot, 0, 3, 0);
    assert_int_equal(b.acts.count, 0);
    donor_link_down(b.d, 1);
    donor_full(b.d, 1, 0); /* comes late */
    uint32_t sent = 0;
    for (uint64_t now_us = 1; now_us < 20000; now_us++) {
        if (donor_deadline_us(b.d) > now_us) continue;
        transfer_actions_clear(&b.acts);
        donor_deadline(b.d, b.x, now_us, &b.acts);
        for (size_t i = 0; i < b.acts.count; i++) assert_int_equal(b.acts.item[i].to, 2);
        sent += (uint32_t)b.acts.count;
    }
    assert_int_equal(sent, 3);
    bench_close(&b);
}

static void the_rate_is_kept_and_shared_in_turn(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, 4, 1000 * CHUNK);
    uint64_t snapshot = ask(&b, 1, 0), next[3] = {0};
    uint32_t got[3] = {0};
    assert_true(ask(&b, 2, 0) == snapshot);
    for (uint64_t now_us = 0; now_us < 30000; now_us += 100) {
        for (node_id who = 1; who <= 2; who++) {
            if (next[who] >= got[who] + (who == 1 ? 8 : 2)) continue; /* one asks far ahead, one does not */
            get(&b, who, snapshot, next[who]++ % CHUNKS, 1, now_us);
            for (size_t i = 0; i < b.acts.count; i++) got[b.acts.item[i].to]++;
        }
        transfer_actions_clear(&b.acts);
        if (donor_deadline_us(b.d) <= now_us) donor_deadline(b.d, b.x, now_us, &b.acts);
        for (size_t i = 0; i < b.acts.count; i++) got[b.acts.item[i].to]++;
        assert_true((got[1] + got[2]) * 1000 <= now_us + 1000);
    }
    assert_in_range(got[1] + got[2], 25, 30);
    assert_in_range(got[2], got[1] - 2, got[1] + 2);
    bench_close(&b);
}

/* -- whole fetches from a donor with a cap ------------------------------------------------------------------------ */

#define FETCHERS 5u

/* Several newcomers and one donor, whose words take no time. */
struct crowd {
    struct bench b;
    struct fetch *fetch[FETCHERS];
    float x[FETCHERS][DIM];
    struct transfer_actions acts[FETCHERS + 1]; /* of the donor: the last */
    uint64_t now_us, given, rate;
};

static void crowd_open(struct crowd *c, uint64_t rate, uint32_t newcomer_max, uint64_t donor_rate)
{
    memset(c, 0, sizeof *c);
    bench_open(&c->b, newcomer_max, donor_rate);
    c->rate = rate;
    for (uint32_t i = 0; i < FETCHERS; i++) {
        struct fetch_config config = {
            .x = c->x[i], .dim = DIM, .donor_max = 3, .window = 4, .silence_us = 2 * SNAPSHOT_US, .seed = i};
        c->fetch[i] = fetch_new(&config);
        fetch_donor_up(c->fetch[i], 100, 5, 0, &c->acts[i]);
    }
}

static void crowd_close(struct crowd *c)
{
    for (uint32_t i = 0; i < FETCHERS; i++) fetch_free(c->fetch[i]);
    for (uint32_t i = 0; i <= FETCHERS; i++) transfer_actions_deinit(&c->acts[i]);
    bench_close(&c->b);
}

/* Newcomers are ids 0 .. FETCHERS - 1. Returns whether anything was said. */
static bool words_of_newcomer(struct crowd *c, uint32_t i)
{
    struct transfer_actions said = c->acts[i];
    c->acts[i] = (struct transfer_actions){0};
    for (size_t k = 0; k < said.count; k++)
        if (said.item[k].kind == TRANSFER_SEND)
            assert_int_equal(
                donor_message(c->b.d, i, &said.item[k].msg, c->b.x, 5, c->now_us, &c->acts[FETCHERS]), 0);
    bool any = said.count > 0;
    transfer_actions_deinit(&said);
    return any;
}

static bool words_of_donor(struct crowd *c)
{
    struct transfer_actions said = c->acts[FETCHERS];
    c->acts[FETCHERS] = (struct transfer_actions){0};
    for (size_t k = 0; k < said.count; k++) {
        const struct transfer_action *a = &said.item[k];
        if (a->msg.body != NULL) c->given += a->msg.body->size;
        assert_int_equal(fetch_message(c->fetch[a->to], 100, &a->msg, c->now_us, &c->acts[a->to]), 0);
    }
    bool any = said.count > 0;
    transfer_actions_deinit(&said);
    return any;
}

/* To the next time at which somebody wants to be woken. */
static bool crowd_go_on(struct crowd *c)
{
    uint64_t next_us = donor_deadline_us(c->b.d);
    for (uint32_t i = 0; i < FETCHERS; i++)
        if (fetch_deadline_us(c->fetch[i]) < next_us) next_us = fetch_deadline_us(c->fetch[i]);
    if (next_us == TIME_NEVER) return false;
    if (next_us > c->now_us) c->now_us = next_us;
    if (donor_deadline_us(c->b.d) <= c->now_us) donor_deadline(c->b.d, c->b.x, c->now_us, &c->acts[FETCHERS]);
    for (uint32_t i = 0; i < FETCHERS; i++)
        if (fetch_deadline_us(c->fetch[i]) <= c->now_us) fetch_deadline(c->fetch[i], c->now_us, &c->acts[i]);
    return true;
}

/* All have the model; false when ever more was given than the rate and a chunk allow. */
static bool crowd_keeps_the_cap(struct crowd *c)
{
    bool kept = true, all = false;
    while (!all && c->now_us < 600 * (uint64_t)SNAPSHOT_US) {
        bool any = true;
        while (any) {
            any = false;
            for (uint32_t i = 0; i < FETCHERS; i++) any |= words_of_newcomer(c, i);
            any |= words_of_donor(c);
            kept = kept && (double)c->given <= (double)c->rate * (double)c->now_us / 1e6 + CHUNK;
        }
        all = true;
        for (uint32_t i = 0; i < FETCHERS; i++) all = all && fetch_done(c->fetch[i]);
        if (!all && !crowd_go_on(c)) break;
    }
    assert_true(all);
    for (uint32_t i = 0; i < FETCHERS; i++) assert_memory_equal(c->x[i], c->b.x, sizeof c->x[i]);
    return kept;
}

static void the_cap_holds_over_all_newcomers_and_all_complete(void **state)
{
    (void)state;
    static const uint64_t rates[] = {4 * CHUNK, 20 * CHUNK, 1000 * CHUNK}; /* a second */
    for (size_t r = 0; r < sizeof rates / sizeof rates[0]; r++)
        for (uint32_t newcomer_max = 1; newcomer_max <= 4; newcomer_max++) {
            struct crowd c;
            crowd_open(&c, rates[r], newcomer_max, rates[r]);
            assert_true(crowd_keeps_the_cap(&c));
            assert_true(c.given >= FETCHERS * sizeof c.b.x);
            crowd_close(&c);
        }
    struct crowd c; /* planted: a cap that is not heeded */
    crowd_open(&c, rates[0], 4, 0);
    assert_false(crowd_keeps_the_cap(&c));
    crowd_close(&c);
}

static void a_donor_whose_rate_is_spoken_for_says_when_to_come_again(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, 4, 4 * CHUNK); /* four chunks a second */
    uint64_t snapshot = ask(&b, 1, 0);
    get(&b, 1, snapshot, 0, 8, 0);
    assert_true(ask(&b, 2, 0) == 0);
    assert_in_range(b.acts.item[0].msg.wait_us, 2000000, 2250010); /* eight chunks, one of them sent */
    donor_link_down(b.d, 1);
    assert_true(ask(&b, 2, 0) != 0);
    bench_close(&b);
}

static void a_full_link_waits_while_others_go_on(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, 4, 0);
    uint64_t snapshot = ask(&b, 1, 0);
    assert_true(ask(&b, 2, 0) == snapshot);
    get(&b, 1, snapshot, 0, 2, 0);
    expect_chunk(&b, 1, 1, 1, b.x);
    donor_full(b.d, 1, 1);
    assert_int_equal(donor_bytes_given(b.d), CHUNK);
    get(&b, 1, snapshot, 2, 1, 1);
    assert_int_equal(b.acts.count, 0);
    get(&b, 2, snapshot, 5, 1, 1);
    expect_chunk(&b, 0, 2, 5, b.x);
    transfer_actions_clear(&b.acts);
    donor_writable(b.d, 2, b.x, 2, &b.acts);
    assert_int_equal(b.acts.count, 0);
    donor_writable(b.d, 9, b.x, 2, &b.acts); /* a stranger */
    donor_writable(b.d, 1, b.x, 2, &b.acts);
    assert_int_equal(b.acts.count, 2);
    expect_chunk(&b, 0, 1, 1, b.x);
    expect_chunk(&b, 1, 1, 2, b.x);
    donor_full(b.d, 1, 2);
    assert_int_equal(donor_deadline_us(b.d), 1 + SNAPSHOT_US); /* not at once: it waits for the link */
    donor_deadline(b.d, b.x, 2 + SNAPSHOT_US, &b.acts);
    get(&b, 1, snapshot, 3, 1, 2 + SNAPSHOT_US); /* the link took nothing for too long */
    assert_int_equal(b.acts.item[0].msg.kind, STATE_GONE);
    bench_close(&b);
}

static void a_second_ask_begins_anew(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, 4, 1000 * CHUNK);
    uint64_t snapshot = ask(&b, 1, 0);
    get(&b, 1, snapshot, 0, 8, 0);
    assert_true(ask(&b, 1, 1) == snapshot);
    transfer_actions_clear(&b.acts);
    donor_deadline(b.d, b.x, 5000, &b.acts);
    assert_int_equal(b.acts.count, 0);
    get(&b, 1, snapshot, 0, 8, 5000);
    assert_int_equal(b.acts.count, 1);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chunk_is_the_same_for_all_from_its_first_sending_on),
        cmocka_unit_test(there_are_never_more_than_two_snapshots),
        cmocka_unit_test(an_unused_snapshot_is_dropped_and_its_chunks_are_gone),
        cmocka_unit_test(newcomers_over_the_cap_are_told_to_come_again),
        cmocka_unit_test(a_newcomer_that_is_gone_is_sent_nothing_more),
        cmocka_unit_test(the_rate_is_kept_and_shared_in_turn),
        cmocka_unit_test(the_cap_holds_over_all_newcomers_and_all_complete),
        cmocka_unit_test(a_donor_whose_rate_is_spoken_for_says_when_to_come_again),
        cmocka_unit_test(a_full_link_waits_while_others_go_on),
        cmocka_unit_test(a_second_ask_begins_anew),
    };
    return cmocka_run_group_tests_name("transfer donor", tests, NULL, NULL);
}
