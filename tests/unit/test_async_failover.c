/* Goal: the holder may die at any moment, and any other node: nothing that was logged is lost, no gradient is
 * applied twice, the model comes back bit for bit, and a part of the cluster without a majority changes
 * nothing. Method: clusters in virtual time (algo_harness.h), watched after every event (async_watch.h). The
 * holder is killed at every event time of short runs, one by one, and what was replayed compared with the run
 * without failure; random kills and restarts from 200 seeds; partitions. Planted faults at the end. */
#include "tests/unit/async_watch.h"

/* -- the holder dies --------------------------------------------------------------------------------- */

struct kill_case {
    const char *params, *compress;
    uint32_t n, batch;
    uint64_t until_us;
};

static const struct kill_case kills[] = {
    {"async:rule=shuffled,snapshot=5", NULL, 4, 1, 160000},
    {"async:rule=pure,b=2,snapshot=3", NULL, 3, 2, 150000},
    {"async:rule=random,snapshot=4,successors=1", "topk:fraction=0.1", 5, 1, 120000},
};

/* Runs to kill_us, kills the holder, and runs on. Returns how many versions came back by replay and were
 * compared. */
static uint32_t kill_once(const struct kill_case *c, const struct graph *g, uint64_t kill_us,
                          uint64_t *expected)
{
    struct watch w = {.batch = c->batch, .expected = expected};
    struct harness *h = cluster(&w, c->params, g, 11);
    if (c->compress != NULL) harness_set_compress(h, c->compress);
    harness_run_until(h, kill_us);
    rank_t victim = holder_of(h, c->n);
    assert_int_not_equal(victim, RANK_NONE);
    uint64_t before = inside_of(h, victim)->ledger.t;
    harness_crash(h, victim);
    harness_run_until(h, kill_us + 2 * PATIENCE);
    if (w.elected < 1 || w.replayed < before || w.reached <= before + 5)
        fail_msg("killed at %llu us: elected %u, replayed to %llu of %llu, reached %llu",
                 (unsigned long long)kill_us, w.elected, (unsigned long long)w.replayed,
                 (unsigned long long)before, (unsigned long long)w.reached);
    assert_clean(&w);
    for (rank_t r = 0; r < c->n && c->compress == NULL; r++) /* the living lose nothing */
        if (r != victim) assert_true(w.made[r] - applied(h, &w, r) <= 2 * c->n);
    harness_free(h);
    return w.compared;
}

static void the_holder_may_die_at_any_moment(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof kills / sizeof kills[0]; i++) {
        const struct kill_case *c = &kills[i];
        struct graph g = graph_make("complete", c->n);
        uint64_t *expected = mem_new_zero(VERSION_MAX, sizeof *expected);
        uint64_t *time = mem_new(KILL_MAX, sizeof *time);
        struct watch w = {.batch = c->batch, .written = expected, .time = time};
        struct harness *h = cluster(&w, c->params, &g, 11);
        if (c->compress != NULL) harness_set_compress(h, c->compress);
        harness_run_until(h, c->until_us);
        uint32_t count = w.time_count;
        harness_run_until(h, c->until_us + 100000); /* logged ones may be a little ahead */
        assert_clean(&w);
        assert_int_equal(w.elected, 0);
        harness_free(h);
        uint32_t compared = 0;
        for (uint32_t k = 0; k < count; k++) compared += kill_once(c, &g, time[k], expected);
        printf("%s: killed at %u times, %u states compared\n", c->params, count, compared);
        assert_true(compared > count / 2);
        graph_deinit(&g);
        free(expected);
        free(time);
    }
}

/* -- anybody dies ------------------------------------------------------------------------------------ */

/* One crash after another, each with time to settle; who was down comes back. */
static void random_kills(uint64_t seed, uint32_t n, const char *params, uint32_t batch)
{
    struct graph g = graph_make("complete", n);
    struct watch w = {.batch = batch};
    struct harness *h = cluster(&w, params, &g, seed);
    struct prng random;
    prng_split(&random, seed, "kills", 0);
    for (int round = 0; round < 5; round++) {
        harness_run_until(h, harness_now(h) + 20000 + prng_below(&random, 200000));
        rank_t holder = holder_of(h, n);
        assert_int_not_equal(holder, RANK_NONE);
        rank_t victim = prng_below(&random, 2) == 0 ? holder : prng_below(&random, n);
        uint64_t before = inside_of(h, holder)->ledger.t;
        harness_crash(h, victim);
        uint64_t down_us = prng_below(&random, 3) == 0 ? PATIENCE / 20 : 2 * PATIENCE;
        harness_run_until(h, harness_now(h) + down_us);
        harness_restart(h, victim, true);
        harness_run_until(h, harness_now(h) + 3 * PATIENCE);
        assert_int_not_equal(holder_of(h, n), RANK_NONE);
        if (w.reached <= before || w.rolled + w.twice + w.rivals > 0)
            fail_msg(
                "seed %llu round %d: victim %u of holder %u, t %llu -> %llu; rolled %u twice %u rivals %u",
                (unsigned long long)seed, round, victim, holder, (unsigned long long)before,
                (unsigned long long)w.reached, w.rolled, w.twice, w.rivals);
    }
    const struct async *a = inside_of(h, holder_of(h, n));
    assert_int_equal(a->ledger.member_count, n); /* all are back and have jobs */
    assert_int_equal(a->ledger.job_count, n > batch ? n : batch);
    harness_free(h);
    graph_deinit(&g);
}

static void random_single_crashes_lose_nothing(void **state)
{
    (void)state;
    static const char *const params[] = {"async:rule=shuffled,snapshot=7", "async:rule=random,snapshot=20",
                                         "async:rule=pure,snapshot=4,successors=1",
                                         "async:rule=once,b=2,snapshot=5"};
    for (uint64_t seed = 0; seed < 80; seed++)
        random_kills(seed, 3 + (uint32_t)(seed % 3), params[seed % 4], seed % 4 == 3 ? 2 : 1);
}

/* -- partitions -------------------------------------------------------------------------------------- */

static void cut(struct harness *h, uint32_t n, uint32_t side, bool up)
{
    for (rank_t a = 0; a < n; a++)
        for (rank_t b = a + 1; b < n; b++) {
            if ((side >> a & 1) == (side >> b & 1)) continue;
            if (up) {
                harness_link_up(h, a, b);
            } else {
                harness_link_down(h, a, b);
            }
        }
}

/* The holder and one more of five are cut off: they stop, the three go on, and all agree again. */
static void a_minority_pauses_and_rejoins(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 12; seed++) {
        struct graph g = graph_make("complete", 5);
        struct watch w = {.batch = 1};
        struct harness *h = cluster(&w, "async:snapshot=10", &g, seed);
        harness_run_until(h, 300000);
        rank_t old = holder_of(h, 5), mate = inside_of(h, old)->hash_order[1 + seed % 4];
        cut(h, 5, 1u << old | 1u << mate, false);
        harness_run_until(h, harness_now(h) + 50000);
        uint64_t paused = inside_of(h, old)->ledger.t;
        harness_run_until(h, harness_now(h) + 3 * PATIENCE);
        assert_int_equal(inside_of(h, old)->ledger.t, paused);
        rank_t new = holder_of(h, 5);
        assert_true(new != old &&new != mate);
        uint64_t healed = inside_of(h, new)->ledger.t;
        assert_true(healed > paused);
        cut(h, 5, 1u << old | 1u << mate, true);
        harness_run_until(h, harness_now(h) + 2 * PATIENCE);
        assert_int_equal(inside_of(h, old)->role, ASYNC_FOLLOWER);
        assert_int_equal(holder_of(h, 5), new);
        assert_int_equal(inside_of(h, new)->ledger.member_count, 5);
        assert_true(inside_of(h, new)->ledger.t > healed);
        /* Two are gone at once: the log may name gradients that nobody has, and is cut there. */
        assert_true(w.rolled <= (inside_of(h, new)->report.left_out > 2));
        w.rolled = 0;
        assert_clean(&w);
        harness_free(h);
        graph_deinit(&g);
    }
}

/* Two of four are no majority: neither half elects or goes on. */
static void halves_both_pause(void **state)
{
    (void)state;
    struct graph g = graph_make("complete", 4);
    struct watch w = {.batch = 1};
    struct harness *h = cluster(&w, "async", &g, 3);
    harness_run_until(h, 300000);
    cut(h, 4, 3, false);
    harness_run_until(h, harness_now(h) + 50000);
    uint64_t paused = w.reached;
    harness_run_until(h, harness_now(h) + 4 * PATIENCE);
    assert_int_equal(w.reached, paused);
    assert_int_equal(w.elected, 0);
    cut(h, 4, 3, true);
    harness_run_until(h, harness_now(h) + 2 * PATIENCE);
    assert_true(w.reached > paused);
    assert_clean(&w);
    harness_free(h);
    graph_deinit(&g);
}

/* A stopped process keeps its links: silence deposes it, and it obeys when it wakes. */
static void a_stopped_holder_is_replaced_and_fenced(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 10; seed++) {
        struct graph g = graph_make("complete", 4);
        struct watch w = {.batch = 1};
        struct harness *h = cluster(&w, "async:snapshot=6", &g, seed);
        harness_run_until(h, 200000 + seed * 777);
        rank_t old = holder_of(h, 4);
        uint64_t before = inside_of(h, old)->ledger.t;
        harness_pause(h, old);
        harness_run_until(h, harness_now(h) + 2 * PATIENCE);
        rank_t new = holder_of(h, 4);
        assert_int_not_equal(new, old);
        harness_unpause(h, old);
        harness_run_until(h, harness_now(h) + 2 * PATIENCE);
        assert_int_equal(holder_of(h, 4), new);
        assert_int_equal(inside_of(h, old)->role, ASYNC_FOLLOWER);
        assert_true(inside_of(h, new)->ledger.t > before + 20);
        assert_clean(&w);
        harness_free(h);
        graph_deinit(&g);
    }
}

/* One bad link does not depose the holder: who cannot hear it finds no votes. */
static void one_bad_link_deposes_nobody(void **state)
{
    (void)state;
    struct graph g = graph_make("complete", 4);
    struct watch w = {.batch = 1};
    struct harness *h = cluster(&w, "async", &g, 9);
    harness_run_until(h, 200000);
    rank_t holder = holder_of(h, 4), far = (holder + 1) % 4;
    harness_link_down(h, holder, far);
    harness_run_until(h, harness_now(h) + 4 * PATIENCE);
    assert_int_equal(holder_of(h, 4), holder);
    assert_int_equal(w.elected, 0);
    assert_int_equal(inside_of(h, holder)->ledger.member_count, 3);
    uint64_t before = w.reached;
    harness_link_up(h, holder, far);
    harness_run_until(h, harness_now(h) + 2 * PATIENCE);
    assert_int_equal(inside_of(h, holder)->ledger.member_count, 4);
    assert_true(w.reached > before);
    assert_int_equal(w.elected, 0);
    assert_clean(&w);
    harness_free(h);
    graph_deinit(&g);
}

/* A copy of the new holder's gradient, in the other lane, comes before its TERM: dropped, it would be missing
 * for good, and the holder's own gradients with it. */
static void a_copy_before_the_term_is_kept(void **state)
{
    (void)state;
    struct graph g = graph_make("complete", 3);
    struct watch w = {.batch = 1};
    struct harness *h = cluster(&w, "async", &g, 4);
    harness_run_until(h, 200000);
    rank_t holder = holder_of(h, 3), next = (holder + 1) % 3, third = (holder + 2) % 3;
    const struct async *a = inside_of(h, third);
    float *zero = mem_new_zero(w.dim, sizeof *zero);
    struct blob *delta = blob_copy(zero, w.dim * sizeof *zero);
    free(zero);
    uint64_t term = (async_round(a, a->term) + 1) * 3 + next, q = UINT64_C(7) << 32;
    struct algo_msg own = {.kind = ASYNC_OWN, .field_count = 4, .vec = delta};
    own.field[0] = term;
    own.field[1] = q;
    own.field[2] = next;
    own.field[3] = 1;
    assert_int_equal(harness_inject(h, next, third, &own), 0);
    assert_int_equal(a->term, term);
    assert_non_null(async_grads_find(&a->replica.own, q));
    struct algo_msg told = {.kind = ASYNC_TERM, .field_count = 2};
    told.field[0] = term;
    assert_int_equal(harness_inject(h, next, third, &told), 0);
    assert_int_equal(a->own_last, 1); /* as it is acknowledged */
    assert_true(a->greeted);
    own.field[0] = term - 3; /* an older one of the same node */
    own.field[1] = q + 1;
    assert_int_equal(harness_inject(h, next, third, &own), 0);
    assert_null(async_grads_find(&a->replica.own, q + 1));
    blob_unref(delta);
    harness_free(h);
    graph_deinit(&g);
}

/* -- who answers late ---------------------------------------------------------------------------------- */

/* Its first gradient waits for a batch, its second is long in coming: what it is told to drop is not the job
 * it is at, so that the answer brings it back. */
static void a_slow_worker_keeps_the_job_it_is_at(void **state)
{
    (void)state;
    struct graph g = graph_make("complete", 3);
    struct watch w = {.batch = 6};
    struct harness *h = cluster(&w, "async:rule=pure,concurrency=6,b=6", &g, 6);
    harness_run_until(h, 1);
    rank_t holder = holder_of(h, 3), slow = (holder + 1) % 3;
    harness_set_step_time(h, slow, PATIENCE);
    harness_run_until(h, PATIENCE / 2);
    harness_set_step_time(h, slow, 20 * PATIENCE);
    harness_run_until(h, 4 * PATIENCE);
    const struct async *a = inside_of(h, holder);
    assert_int_equal(a->ledger.t, 0);
    assert_int_equal(a->arrivals.count, 5);
    assert_true(a->ledger.member[slow]);
    harness_run_until(h, 15 * PATIENCE);
    assert_false(a->ledger.member[slow]);
    harness_set_step_time(h, slow, 5000);
    harness_run_until(h, 23 * PATIENCE);
    assert_true(a->ledger.member[slow]);
    assert_int_equal(a->ledger.job_count, 6);
    assert_int_equal(w.elected, 0);
    assert_clean(&w);
    harness_free(h);
    graph_deinit(&g);
}

/* The holder's own gradients arrive when the successors have copies. They answer for the rest, but are long
 * over a copy: its node is off the list until they have it, with no job at hand. */
static void the_holders_node_is_back_when_its_gradients_are(void **state)
{
    (void)state;
    struct graph g = graph_make("complete", 3);
    struct watch w = {.batch = 1};
    struct harness *h = cluster(&w, "async:rule=pure", &g, 8);
    harness_run_until(h, PATIENCE);
    rank_t holder = holder_of(h, 3);
    const struct async *a = inside_of(h, holder);
    for (rank_t k = 0; k < 3; k++)
        if (k != holder) harness_drop_next(h, holder, k, ASYNC_OWN);
    harness_run_until(h, 12 * PATIENCE);
    assert_false(a->ledger.member[holder]);
    for (rank_t k = 0; k < 3; k++) {
        if (k == holder) continue;
        assert_int_equal(a->peer[k].acked_own, a->own_sequence - 1);
        struct algo_msg ack = {.kind = ASYNC_ACK, .field_count = 4};
        ack.field[0] = a->term;
        ack.field[3] = a->own_sequence;
        assert_int_equal(harness_inject(h, k, holder, &ack), 0);
    }
    uint32_t made = w.made[holder];
    harness_run_until(h, 13 * PATIENCE);
    assert_true(a->ledger.member[holder]);
    assert_true(w.made[holder] > made + 10);
    assert_int_equal(w.elected, 0);
    assert_clean(&w);
    harness_free(h);
    graph_deinit(&g);
}

/* -- planted faults ---------------------------------------------------------------------------------- */

/* A gradient that comes again under another number is found in the marks. */
static void a_gradient_applied_twice_is_caught(void **state)
{
    (void)state;
    struct graph g = graph_make("complete", 3);
    struct watch w = {.batch = 1};
    struct harness *h = cluster(&w, "async:rule=pure", &g, 2);
    harness_run_until(h, 200000);
    rank_t holder = holder_of(h, 3), liar = (holder + 1) % 3;
    const struct async *a = inside_of(h, holder), *b = inside_of(h, liar);
    assert_clean(&w);
    while (async_ledger_find(&a->ledger, async_ledger_low(&a->ledger, liar))->arrived)
        harness_run_until(h, harness_now(h) + 100);
    assert_true(b->kept.count > 0 && b->kept.item[0].q < async_ledger_low(&a->ledger, liar)); /* applied */
    struct algo_msg again = {.kind = ASYNC_GRAD, .field_count = 2, .vec = b->kept.item[0].vec};
    again.field[0] = a->term;
    again.field[1] = async_ledger_low(&a->ledger, liar);
    assert_int_equal(harness_inject(h, liar, holder, &again), 0);
    harness_run_until(h, harness_now(h) + 50000);
    assert_true(w.twice > 0);
    harness_free(h);
    graph_deinit(&g);
}

/* Successors that lose the end of the log: the new holder knows less than was applied. */
static void a_lost_end_of_the_log_is_caught(void **state)
{
    (void)state;
    struct graph g = graph_make("complete", 4);
    struct watch w = {.batch = 1};
    struct harness *h = cluster(&w, "async", &g, 2);
    harness_run_until(h, 400000);
    rank_t holder = holder_of(h, 4);
    harness_crash(h, holder);
    for (rank_t r = 0; r < 4; r++) {
        if (r == holder) continue;
        struct async *a = (struct async *)harness_algo(h, r);
        struct async_ops *ops = &a->replica.ops;
        if (ops->count < 3) continue;
        for (uint32_t i = ops->count - 3; i < ops->count; i++) free(ops->item[i].name);
        ops->count -= 3;
    }
    harness_run_until(h, harness_now(h) + 2 * PATIENCE);
    assert_int_equal(w.elected, 1);
    assert_int_equal(w.rolled, 1);
    harness_free(h);
    graph_deinit(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_holder_may_die_at_any_moment),
        cmocka_unit_test(random_single_crashes_lose_nothing),
        cmocka_unit_test(a_minority_pauses_and_rejoins),
        cmocka_unit_test(halves_both_pause),
        cmocka_unit_test(a_stopped_holder_is_replaced_and_fenced),
        cmocka_unit_test(one_bad_link_deposes_nobody),
        cmocka_unit_test(a_copy_before_the_term_is_kept),
        cmocka_unit_test(a_slow_worker_keeps_the_job_it_is_at),
        cmocka_unit_test(the_holders_node_is_back_when_its_gradients_are),
        cmocka_unit_test(a_gradient_applied_twice_is_caught),
        cmocka_unit_test(a_lost_end_of_the_log_is_caught),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
