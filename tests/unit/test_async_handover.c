/* Goal: with `term` the holder's role goes round all members, and nothing shows in the result: no gradient
 * is lost or applied twice, the table of jobs stays full, and where arrival cannot change the order the
 * model is bit for bit that of a run without hand-over. It holds when the old holder or the next one dies
 * in the midst of it, and whichever of two messages comes first. Method: clusters in virtual time
 * (algo_harness.h), watched after every event (async_watch.h); messages put in by hand for the order. A
 * planted fault at the end. */
#include "tests/unit/async_watch.h"

enum { HOLDERS_MAX = 400, SLICE_US = 200 };

struct round_watch {
    struct watch w;
    rank_t holder[HOLDERS_MAX]; /* in order */
    uint32_t count;
    uint64_t term;  /* of the last of them */
    uint64_t *hash; /* of x_t of the other run; NULL = none */
    uint32_t unequal, compared;
};

static void look(void *ctx, struct harness *h, rank_t rank, const struct algo_event *e)
{
    struct round_watch *o = ctx;
    watch_event(&o->w, h, rank, e);
    const struct async *a = inside_of(h, rank);
    if (a->role != ASYNC_HOLDER) return;
    if (a->term > o->term && o->count < HOLDERS_MAX) {
        o->term = a->term;
        o->holder[o->count++] = rank;
    }
    if (o->hash == NULL || a->ledger.t >= VERSION_MAX || o->hash[a->ledger.t] == 0) return;
    o->compared++;
    o->unequal += o->hash[a->ledger.t] != hash_of(a->x, o->w.dim);
}

static struct harness *round_cluster(struct round_watch *o, const char *params, const struct graph *g,
                                     uint64_t seed)
{
    struct harness *h = cluster(&o->w, params, g, seed);
    harness_set_hook(h, look, o);
    return h;
}

/* All that was made is in the model, but for what is on its way. */
static void assert_nothing_lost(const struct harness *h, const struct watch *w, rank_t dead)
{
    for (rank_t r = 0; r < w->n; r++)
        if (r != dead) assert_true(w->made[r] - applied(h, w, r) <= 2 * w->n);
}

/* At a moment between two terms: the next one. */
static rank_t holder_soon(struct harness *h, uint32_t n)
{
    for (uint64_t end_us = harness_now(h) + PATIENCE; holder_of(h, n) == RANK_NONE;) {
        assert_true(harness_now(h) < end_us);
        harness_run_until(h, harness_now(h) + SLICE_US);
    }
    return holder_of(h, n);
}

static uint32_t place_of(const struct async *a, rank_t r)
{
    uint32_t place = 0;
    while (a->hash_order[place] != r) place++;
    return place;
}

/* -- normal course ------------------------------------------------------------------------------------- */

static void the_role_goes_round_all_members(void **state)
{
    (void)state;
    static const char *const params[] = {"async:term=25", "async:term=1,rule=random,successors=1",
                                         "async:term=10,rule=pure,snapshot=3",
                                         "async:term=5,rule=once,b=2,concurrency=9"};
    for (uint64_t seed = 0; seed < 20; seed++) {
        uint32_t n = 3 + (uint32_t)(seed % 3);
        struct graph g = graph_make("complete", n);
        struct round_watch o = {.w = {.batch = seed % 4 == 3 ? 2 : 1}};
        struct harness *h = round_cluster(&o, params[seed % 4], &g, seed);
        harness_run_until(h, 4 * PATIENCE);
        harness_stop_training(h);
        harness_run_until(h, 5 * PATIENCE);
        assert_true(o.count > 2 * n);
        assert_int_equal(o.count, o.w.elected + 1);
        const struct async *a = inside_of(h, holder_soon(h, n));
        for (uint32_t i = 0; i < o.count; i++) assert_int_equal(o.holder[i], a->hash_order[i % n]);
        for (rank_t r = 0; r < n; r++) assert_int_equal(inside_of(h, r)->planned, report_of(h, r).terms);
        assert_int_equal(a->ledger.job_count, seed % 4 == 3 ? 9 : n);
        assert_int_equal(a->ledger.member_count, n);
        assert_int_equal(a->report.left_out, 0);
        assert_clean(&o.w);
        assert_nothing_lost(h, &o.w, RANK_NONE);
        harness_free(h);
        graph_deinit(&g);
    }
}

/* With b = n under `pure` the order of sums is always the same. */
static void models_are_those_of_a_run_without(void **state)
{
    (void)state;
    uint32_t n = 4, compared = 0;
    struct graph g = graph_make("complete", n);
    for (uint64_t seed = 0; seed < 5; seed++) {
        uint64_t *hash = mem_new_zero(VERSION_MAX, sizeof *hash);
        struct watch plain = {.batch = n, .written = hash};
        struct harness *h = cluster(&plain, "async:rule=pure,b=4", &g, seed);
        harness_run_until(h, 4 * PATIENCE);
        harness_free(h);
        struct round_watch o = {.w = {.batch = n}, .hash = hash};
        h = round_cluster(&o, "async:rule=pure,b=4,term=7", &g, seed);
        harness_run_until(h, 4 * PATIENCE);
        assert_true(o.count > n);
        assert_int_equal(o.unequal, 0);
        assert_clean(&o.w);
        compared += o.compared;
        harness_free(h);
        free(hash);
    }
    assert_true(compared > 500);
    graph_deinit(&g);
}

static void it_stays_without_a_term(void **state)
{
    (void)state;
    struct graph g = graph_make("complete", 3);
    struct watch w = {.batch = 1};
    struct harness *h = cluster(&w, "async", &g, 5);
    harness_run_until(h, 4 * PATIENCE);
    assert_int_equal(w.elected, 0);
    assert_int_equal(harness_sent(h, ASYNC_HANDOVER), 0);
    harness_free(h);
    graph_deinit(&g);
}

static void who_is_not_linked_is_passed_over(void **state)
{
    (void)state;
    struct graph g = graph_make("complete", 4);
    struct round_watch o = {.w = {.batch = 1}};
    struct harness *h = round_cluster(&o, "async:term=20", &g, 6);
    harness_run_until(h, 1000);
    const struct async *a = inside_of(h, 0);
    rank_t first = a->hash_order[0], second = a->hash_order[1];
    harness_link_down(h, first, second);
    harness_run_until(h, 6 * PATIENCE);
    assert_true(o.count > 8);
    for (uint32_t i = 1; i < o.count; i++) {
        if (o.holder[i - 1] == first) assert_int_equal(o.holder[i], a->hash_order[2]);
        if (o.holder[i - 1] == second) assert_int_equal(o.holder[i], a->hash_order[2]);
    }
    assert_clean(&o.w);
    harness_free(h);
    graph_deinit(&g);
}

/* -- deaths -------------------------------------------------------------------------------------------- */

/* Runs to the k-th HANDOVER, and delay_us on; then the old holder or the next one dies. */
static void kill_in_handover(uint64_t seed, uint64_t delay_us, bool old_dies)
{
    uint32_t n = 3 + (uint32_t)(seed % 3);
    struct graph g = graph_make("complete", n);
    struct watch w = {.batch = 1};
    struct harness *h = cluster(&w, "async:term=25,snapshot=50", &g, seed);
    uint64_t wanted = (1 + seed % 4) * (n - 1);
    rank_t old = RANK_NONE;
    while (harness_sent(h, ASYNC_HANDOVER) < wanted) {
        if (holder_of(h, n) != RANK_NONE) old = holder_of(h, n);
        harness_run_until(h, harness_now(h) + SLICE_US);
    }
    const struct async *a = inside_of(h, old);
    assert_int_equal(a->role, ASYNC_FOLLOWER);
    rank_t next = a->hash_order[(place_of(a, old) + 1) % n], victim = old_dies ? old : next;
    uint64_t before = a->replica.base.t, term = a->term;
    harness_run_until(h, harness_now(h) + delay_us);
    harness_crash(h, victim);
    harness_run_until(h, harness_now(h) + 4 * PATIENCE); /* who has voted is quiet for two */
    rank_t holder = holder_soon(h, n);
    assert_int_not_equal(holder, victim);
    assert_true(w.term > term && w.reached > before + 20);
    assert_int_equal(inside_of(h, holder)->ledger.job_count, n - 1);
    assert_int_equal(inside_of(h, holder)->ledger.member_count, n - 1);
    assert_clean(&w);
    assert_nothing_lost(h, &w, victim);
    uint32_t made = w.made[victim];
    harness_restart(h, victim, true);
    harness_run_until(h, harness_now(h) + 3 * PATIENCE);
    assert_true(w.made[victim] > made + 10); /* it is in again */
    assert_clean(&w);
    harness_free(h);
    graph_deinit(&g);
}

static void the_old_holder_may_die_at_once(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 40; seed++) kill_in_handover(seed, seed * 1000, true);
}

static void the_next_holder_may_die_before_it_starts(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 40; seed++) kill_in_handover(seed, seed * 1000, false);
}

/* -- order of messages --------------------------------------------------------------------------------- */

struct trio {
    struct graph g;
    struct watch w;
    struct harness *h;
    rank_t holder, next, third;
    uint64_t term;
};

/* Three in full work, and none of them about to hand over. */
static void trio_init(struct trio *t)
{
    *t = (struct trio){.g = graph_make("complete", 3), .w = {.batch = 1}};
    t->h = cluster(&t->w, "async", &t->g, 4);
    harness_run_until(t->h, 200000);
    t->holder = holder_of(t->h, 3);
    const struct async *a = inside_of(t->h, t->holder);
    t->next = async_after(a, 0);
    t->third = async_after(a, 1);
    t->term = a->term;
}

static void trio_deinit(struct trio *t)
{
    assert_clean(&t->w);
    harness_free(t->h);
    graph_deinit(&t->g);
}

static void say(struct trio *t, rank_t from, rank_t to, uint8_t kind, uint64_t term, uint64_t more)
{
    struct algo_msg m = {.kind = kind, .field_count = kind == ASYNC_ASK ? 1 : 2};
    m.field[0] = term;
    m.field[1] = more;
    assert_int_equal(harness_inject(t->h, from, to, &m), 0);
}

static void send_job(struct trio *t, rank_t to, uint64_t q)
{
    float *zero = mem_new_zero(t->w.dim, sizeof *zero);
    struct algo_msg m = {.kind = ASYNC_JOB, .field_count = 4};
    m.vec = blob_copy(zero, t->w.dim * sizeof *zero);
    m.field[0] = t->term;
    m.field[1] = q;
    m.field[2] = 1;
    assert_int_equal(harness_inject(t->h, t->holder, to, &m), 0);
    blob_unref(m.vec);
    free(zero);
}

/* A job, in the other lane, comes after HANDOVER: it is taken, and the candidature goes on. */
static void a_job_behind_the_handover_is_taken(void **state)
{
    (void)state;
    struct trio t;
    trio_init(&t);
    const struct async *next = inside_of(t.h, t.next), *third = inside_of(t.h, t.third);
    say(&t, t.holder, t.next, ASYNC_HANDOVER, t.term, t.next);
    say(&t, t.holder, t.third, ASYNC_HANDOVER, t.term, t.next);
    assert_int_equal(next->role, ASYNC_CANDIDATE);
    uint64_t asked = next->asked, q = UINT64_C(7) << 32;
    send_job(&t, t.next, q);
    send_job(&t, t.third, q + 1);
    assert_true(async_worker_has(next, q) && async_worker_has(third, q + 1));
    assert_true(next->role == ASYNC_CANDIDATE && next->asked == asked);
    assert_int_equal(third->holder, RANK_NONE);
    say(&t, t.next, t.third, ASYNC_ASK, asked, 0);
    assert_int_equal(third->promised, asked);
    send_job(&t, t.third, q + 2); /* its log is closed: the vote is as true as before */
    assert_true(async_worker_has(third, q + 2));
    say(&t, t.next, t.third, ASYNC_TERM, asked, 1);
    send_job(&t, t.third, q + 3); /* of an older term now */
    assert_false(async_worker_has(third, q + 3));
    assert_int_equal(third->term, asked);
    trio_deinit(&t);
}

/* On another link ASK overtakes HANDOVER: not answered while the holder is heard, but then at once. */
static void a_question_before_the_handover_is_answered_after(void **state)
{
    (void)state;
    struct trio t;
    trio_init(&t);
    const struct async *third = inside_of(t.h, t.third);
    uint64_t asked = (async_round(third, t.term) + 1) * 3 + t.next, votes = harness_sent(t.h, ASYNC_VOTE);
    say(&t, t.next, t.third, ASYNC_ASK, asked, 0);
    assert_int_equal(third->promised, t.term);
    say(&t, t.holder, t.third, ASYNC_HANDOVER, t.term, t.next);
    assert_int_equal(third->promised, asked);
    assert_int_equal(harness_sent(t.h, ASYNC_VOTE), votes + 1);
    say(&t, t.holder, t.third, ASYNC_HANDOVER, t.term, t.next); /* again: dropped */
    assert_int_equal(harness_sent(t.h, ASYNC_VOTE), votes + 1);
    trio_deinit(&t);
}

/* Two of one round would number different jobs alike. */
static void a_node_votes_once_in_a_round(void **state)
{
    (void)state;
    struct trio t;
    trio_init(&t);
    rank_t low = t.next < t.third ? t.next : t.third, high = t.next < t.third ? t.third : t.next;
    const struct async *a = inside_of(t.h, t.holder);
    ((struct async *)harness_algo(t.h, t.holder))->term_updates = 1;
    while (a->role == ASYNC_HOLDER) harness_run_until(t.h, harness_now(t.h) + 100);
    uint64_t round = async_round(a, t.term) + 5;
    say(&t, low, t.holder, ASYNC_ASK, round * 3 + low, 0);
    assert_int_equal(a->promised, round * 3 + low);
    uint64_t stale = harness_sent(t.h, ASYNC_STALE);
    say(&t, high, t.holder, ASYNC_ASK, round * 3 + high, 0);
    assert_int_equal(a->promised, round * 3 + low);
    assert_int_equal(harness_sent(t.h, ASYNC_STALE), stale + 1);
    say(&t, high, t.holder, ASYNC_ASK, (round + 1) * 3 + high, 0);
    assert_int_equal(a->promised, (round + 1) * 3 + high);
    trio_deinit(&t);
}

/* -- planted fault ------------------------------------------------------------------------------------- */

/* A next holder with a model that is a little off. */
static void a_changed_model_is_caught(void **state)
{
    (void)state;
    uint32_t n = 4;
    struct graph g = graph_make("complete", n);
    uint64_t *hash = mem_new_zero(VERSION_MAX, sizeof *hash);
    struct watch plain = {.batch = n, .written = hash};
    struct harness *h = cluster(&plain, "async:rule=pure,b=4", &g, 1);
    harness_run_until(h, 2 * PATIENCE);
    harness_free(h);
    struct round_watch o = {.w = {.batch = n}, .hash = hash};
    h = round_cluster(&o, "async:rule=pure,b=4,term=7", &g, 1);
    while (o.count < 2) harness_run_until(h, harness_now(h) + 100);
    struct async *a = (struct async *)harness_algo(h, holder_of(h, n));
    assert_int_equal(o.unequal, 0);
    a->x[n * MARKS] += 1e-5f;
    harness_run_until(h, 2 * PATIENCE);
    assert_true(o.unequal > 0);
    harness_free(h);
    free(hash);
    graph_deinit(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_role_goes_round_all_members),
        cmocka_unit_test(models_are_those_of_a_run_without),
        cmocka_unit_test(it_stays_without_a_term),
        cmocka_unit_test(who_is_not_linked_is_passed_over),
        cmocka_unit_test(the_old_holder_may_die_at_once),
        cmocka_unit_test(the_next_holder_may_die_before_it_starts),
        cmocka_unit_test(a_job_behind_the_handover_is_taken),
        cmocka_unit_test(a_question_before_the_handover_is_answered_after),
        cmocka_unit_test(a_node_votes_once_in_a_round),
        cmocka_unit_test(a_changed_model_is_caught),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
