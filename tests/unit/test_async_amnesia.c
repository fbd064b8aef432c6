/* Goal: the holder and all its successors die at once, so that nobody has the log: the run goes on from the newest
 * model that a voter has seen, no gradient is applied twice, whoever sends it again, and little is lost. Also where a
 * voter came into the running cluster with a fetched model, which is no common start, and where the dead come back,
 * before the election or after it, with what they saved when they died or a while before. The holder alone likewise:
 * then nothing is lost at all. Method: clusters in virtual time (algo_harness.h) whose gradients are marked
 * (async_watch.h); times from seeds. Planted: the model of a newcomer taken for the common start; nobody looks at the
 * models, so that an older log is taken. */
#include "tests/unit/async_watch.h"

enum { NODES = 7, SEEDS = 8 };

enum plant { PLANT_NONE, PLANT_COMMON_START, PLANT_OLD_LOG };

struct course {
    enum plant plant;
    bool holder_alone; /* dies */
    bool back_before;  /* the dead come back before anybody is elected, with their disks */
    uint32_t foundings, twice;
    uint64_t lost_max; /* versions */
};

/* Who comes into a running cluster gets a model, but not what is in it. */
static void newcomer(struct harness *h, rank_t r, enum plant plant)
{
    float *x = mem_new(inside_of(h, r)->dim, sizeof *x);
    memcpy(x, harness_model(h, holder_of(h, NODES)), inside_of(h, r)->dim * sizeof *x);
    harness_crash(h, r);
    harness_restart_at(h, r, true, x);
    struct async *a = (struct async *)harness_algo(h, r);
    if (plant == PLANT_COMMON_START) {
        async_ledger_init(&a->replica.base, &a->rule, 1, 0);
        a->replica.x = blob_copy(x, a->dim * sizeof *x);
    }
    free(x);
}

/* Everybody's models are as old as their logs: what a voter says when it does not look at its model. */
static void models_forget(struct harness *h)
{
    for (rank_t r = 0; r < NODES; r++) {
        struct async *a = (struct async *)harness_algo(h, r);
        if (a != NULL) a->seen_t = 0;
    }
}

static uint32_t kill_those_with_the_log(struct harness *h, bool holder_alone, rank_t *victim)
{
    const struct async *a = inside_of(h, holder_of(h, NODES));
    uint32_t count = 0;
    victim[count++] = a->rank;
    for (rank_t r = 0; r < NODES && !holder_alone; r++)
        if (r != a->rank && a->peer[r].standby != ASYNC_STANDBY_NONE) victim[count++] = r;
    for (uint32_t i = 0; i < count; i++) harness_crash(h, victim[i]);
    return count;
}

static void run_course(uint64_t seed, struct course *c)
{
    struct graph g = graph_make("complete", NODES);
    struct watch w = {.batch = 1};
    struct harness *h = cluster(&w, "async:rule=pure,snapshot=200,successors=1", &g, seed);
    struct prng random;
    prng_split(&random, seed, "amnesia", 0);
    harness_run_until(h, 30000 + prng_below(&random, 100000));
    rank_t guest = holder_of(h, NODES);
    while (guest == holder_of(h, NODES) || inside_of(h, holder_of(h, NODES))->peer[guest].standby != 0)
        guest = prng_below(&random, NODES);
    newcomer(h, guest, c->plant);
    uint64_t settle_us = c->holder_alone ? PATIENCE : 0; /* one crash after the other is over */
    harness_run_until(h, harness_now(h) + settle_us + prng_below(&random, 60000));
    bool now = prng_below(&random, 2) == 0;
    for (rank_t r = 0; r < NODES; r++) harness_save(h, r, false);
    if (!now) harness_run_until(h, harness_now(h) + prng_below(&random, 60000));
    uint64_t reached = w.reached;
    rank_t victim[NODES];
    uint32_t count = kill_those_with_the_log(h, c->holder_alone, victim);
    if (c->plant != PLANT_NONE) models_forget(h);
    if (!c->back_before) harness_run_until(h, harness_now(h) + 3 * PATIENCE);
    for (uint32_t i = 0; i < count; i++) harness_restart_saved(h, victim[i], true);
    harness_run_until(h, harness_now(h) + 3 * PATIENCE);
    const struct async *a = inside_of(h, holder_of(h, NODES));
    if (w.elected < 1 || w.reached <= reached + 20 || w.rivals > 0 || a->ledger.member_count != NODES)
        fail_msg("seed %llu: elected %u, from %llu to %llu, rivals %u, %u members", (unsigned long long)seed,
                 w.elected, (unsigned long long)reached, (unsigned long long)w.reached, w.rivals,
                 a->ledger.member_count);
    c->foundings += a->from_seen;
    c->twice += w.twice;
    if (reached > w.replayed && reached - w.replayed > c->lost_max) c->lost_max = reached - w.replayed;
    harness_free(h);
    graph_deinit(&g);
}

static void nothing_counts_twice_when_the_log_is_gone(void **state)
{
    (void)state;
    for (int back = 0; back <= 1; back++) {
        struct course c = {.back_before = back == 1};
        for (uint64_t seed = 1; seed <= SEEDS; seed++) run_course(seed, &c);
        printf("%u of %d elections went on from a model; at most %llu versions were lost\n", c.foundings,
               SEEDS, (unsigned long long)c.lost_max);
        assert_int_equal(c.twice, 0);
        assert_true(c.foundings > SEEDS / 2);
        assert_true(c.lost_max <= NODES);
    }
}

/* With its model, newer or older than the log, it is a newcomer: the successor has the log, and nothing is lost. */
static void a_holder_that_saved_and_died_counts_once(void **state)
{
    (void)state;
    for (int back = 0; back <= 1; back++) {
        struct course c = {.holder_alone = true, .back_before = back == 1};
        for (uint64_t seed = 1; seed <= SEEDS; seed++) run_course(seed, &c);
        assert_int_equal(c.twice, 0);
        assert_int_equal(c.lost_max, 0);
        assert_int_equal(c.foundings, 0);
    }
}

static void a_fetched_model_taken_for_the_start_is_caught(void **state)
{
    (void)state;
    struct course start = {.plant = PLANT_COMMON_START}, old = {.plant = PLANT_OLD_LOG};
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        run_course(seed, &start);
        run_course(seed, &old);
    }
    printf("planted: %u twice; %llu versions lost\n", start.twice, (unsigned long long)old.lost_max);
    assert_true(start.twice > 0);
    assert_true(old.lost_max > 2 * NODES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_counts_twice_when_the_log_is_gone),
        cmocka_unit_test(a_holder_that_saved_and_died_counts_once),
        cmocka_unit_test(a_fetched_model_taken_for_the_start_is_caught),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
