/* Goal: a node of async votes once in a round, also when it restarts within the election: its promise is on disk before
 * the vote leaves. Method: clusters in virtual time (algo_harness.h), whose durable messages leave with a save. One
 * voter is killed right after its vote and asked again; then elections in which voters and candidates die and come
 * back at random and a link is down, and every vote is noted. Planted: the saved promise is lost with the restart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "algo/async/internal.h"
#include "base/check.h"
#include "base/prng.h"
#include "tests/unit/gossip_fixture.h"

extern const struct algo_type async_type;

enum { NODES = 5, ROUNDS_MAX = 4096 };

static const float origin[NODES];

static const struct async *node_of(const struct harness *h, rank_t r)
{
    return (const struct async *)harness_algo(h, r);
}

static rank_t holder_of(const struct harness *h)
{
    for (rank_t r = 0; r < NODES; r++)
        if (harness_algo(h, r) != NULL && node_of(h, r)->role == ASYNC_HOLDER) return r;
    return RANK_NONE;
}

/* -- one voter --------------------------------------------------------------------------------- */

/* Somebody has promised a term that nobody holds yet. */
static rank_t voter_of(const struct harness *h)
{
    for (rank_t r = 0; r < NODES; r++) {
        const struct async *a = harness_algo(h, r) != NULL ? node_of(h, r) : NULL;
        if (a != NULL && a->role == ASYNC_FOLLOWER && a->promised > a->term) return r;
    }
    return RANK_NONE;
}

/* Kills a voter within an election and asks it for the same round, as another candidate. Returns whether it votes. */
static bool votes_again(uint64_t seed, bool plant)
{
    struct graph g = graph_make("complete", NODES);
    struct harness *h = harness_new(&async_type, "async", &g, NULL, NODES, origin, seed, PATIENCE);
    harness_run_until(h, PATIENCE);
    harness_crash(h, holder_of(h));
    while (voter_of(h) == RANK_NONE) harness_run_until(h, harness_now(h) + 500);
    rank_t voter = voter_of(h);
    uint64_t round = node_of(h, voter)->promised / NODES;
    rank_t rival = (rank_t)(node_of(h, voter)->promised % NODES);
    do rival = (rival + 1) % NODES;
    while (rival == voter || harness_algo(h, rival) == NULL);
    harness_crash(h, voter);
    if (plant) harness_forget_state(h, voter);
    harness_restart_saved(h, voter, true);
    while (!node_of(h, voter)->peer[rival].up) harness_run_until(h, harness_now(h) + 500);
    uint64_t votes = harness_sent(h, ASYNC_VOTE), refusals = harness_sent(h, ASYNC_STALE);
    uint64_t later = round * NODES + rival;
    struct algo_msg ask = {.kind = ASYNC_ASK, .field_count = 1, .field = {later}};
    assert_int_equal(harness_inject(h, rival, voter, &ask), 0);
    bool voted = harness_sent(h, ASYNC_VOTE) > votes;
    assert_true(voted || harness_sent(h, ASYNC_STALE) > refusals);
    harness_free(h);
    graph_deinit(&g);
    return voted;
}

static void a_voter_that_restarts_does_not_vote_again(void **state)
{
    (void)state;
    uint32_t planted = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        assert_false(votes_again(seed, false));
        planted += votes_again(seed, true);
    }
    assert_true(planted > 15); /* without its promise it would */
}

/* -- elections in which everybody comes and goes ----------------------------------------------- */

struct ballot {
    uint64_t promised[NODES];              /* as last seen in this life */
    uint64_t voted_for[NODES][ROUNDS_MAX]; /* term, by round less `first`; 0 = none */
    uint64_t first;                        /* round */
    uint32_t votes, twice, elections;
};

/* A vote was given where an ASK has moved the promise to its term. */
static void note(void *ctx, struct harness *h, rank_t r, const struct algo_event *e)
{
    struct ballot *b = ctx;
    const struct async *a = node_of(h, r);
    uint64_t before = b->promised[r];
    b->promised[r] = a->promised;
    if (e->kind != ALGO_MESSAGE || e->msg->kind != ASYNC_ASK) return;
    uint64_t term = e->msg->field[0], round = term / NODES;
    if (a->promised != term || before == term) return;
    b->votes++;
    if (b->first == 0) b->first = round;
    if (round < b->first || round - b->first >= ROUNDS_MAX) return;
    uint64_t *for_term = &b->voted_for[r][round - b->first];
    b->twice += *for_term != 0 && *for_term != term;
    *for_term = term;
}

static void come_back(struct harness *h, struct ballot *b, rank_t r, bool plant)
{
    if (plant) harness_forget_state(h, r);
    harness_restart_saved(h, r, true);
    b->promised[r] = node_of(h, r)->promised;
}

/* The holder dies; while the others elect, some of them do, and all are back soon. Two of them do not hear each other
 * meanwhile: so that they ask for terms of one round. */
static void elections(uint64_t seed, bool plant, struct ballot *b)
{
    struct graph g = graph_make("complete", NODES);
    struct prng random;
    prng_split(&random, seed, "elections", 0);
    struct harness *h = harness_new(&async_type, "async", &g, NULL, NODES, origin, seed, PATIENCE);
    harness_set_hook(h, note, b);
    harness_run_until(h, PATIENCE);
    for (int i = 0; i < 12; i++) {
        rank_t holder = holder_of(h);
        if (holder == RANK_NONE) break;
        harness_save(h, holder, false);
        harness_crash(h, holder);
        rank_t one = (holder + 1 + prng_below(&random, NODES - 1)) % NODES, other = one;
        while (other == one || other == holder) other = prng_below(&random, NODES);
        harness_link_down(h, one, other);
        harness_run_until(h, harness_now(h) + PATIENCE / 4 + prng_below(&random, PATIENCE / 4));
        for (int k = 0; k < 6; k++) {
            harness_run_until(h, harness_now(h) + prng_below(&random, 20000));
            rank_t r = voter_of(h);
            if (r == RANK_NONE || !harness_saved_state(h, r)) continue;
            harness_crash(h, r);
            come_back(h, b, r, plant);
        }
        harness_link_up(h, one, other);
        come_back(h, b, holder, plant);
        harness_run_until(h, harness_now(h) + 6 * PATIENCE);
        b->elections += holder_of(h) != RANK_NONE;
    }
    harness_free(h);
    graph_deinit(&g);
}

static void nobody_votes_twice_in_a_round(void **state)
{
    (void)state;
    struct ballot *b = mem_new_zero(1, sizeof *b);
    uint32_t votes = 0, planted = 0;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        *b = (struct ballot){.first = 0};
        elections(seed, false, b);
        if (b->twice > 0) fail_msg("seed %d: %u votes were given twice", (int)seed, b->twice);
        votes += b->votes;
        assert_true(b->elections >= 6);
        *b = (struct ballot){.first = 0};
        elections(seed, true, b);
        planted += b->twice;
    }
    printf("%u votes; without what was saved %u a second time\n", votes, planted);
    assert_true(votes > 100);
    assert_true(planted > 0);
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_voter_that_restarts_does_not_vote_again),
        cmocka_unit_test(nobody_votes_twice_in_a_round),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
