/* Goal: who gets the next job is a pure function of seed, counters and list, and has the law that each rule
 * promises; the table of jobs survives bytes; bytes that are wrong are refused.
 * Method: rules and tables by themselves. Laws are counted; a table is written, read and continued beside the
 * original; every byte of a good message is damaged in turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "algo/async/internal.h"
#include "base/check.h"
#include "base/prng.h"

enum { N = 7, BLOCKS = 2000, JOBS_MAX = 24 };

static void begin(struct async_rule *r, struct async_ledger *l, enum async_rule_kind kind,
                  uint32_t concurrency, uint32_t batch)
{
    async_rule_init(r, kind, 99, N, concurrency, batch);
    async_ledger_init(l, r, 1, 0);
}

static void end(struct async_rule *r, struct async_ledger *l)
{
    async_rule_deinit(r);
    async_ledger_deinit(l);
}

static void change(struct async_ledger *l, struct async_rule *r, enum async_op_kind kind, rank_t worker)
{
    struct async_name name = {0, worker};
    struct async_op op = {.kind = (uint8_t)kind, .count = 1, .name = &name};
    async_ledger_apply(l, r, &op);
}

/* The oldest `batch` jobs come back. */
static void update(struct async_ledger *l, struct async_rule *r)
{
    struct async_name name[N];
    for (uint32_t i = 0; i < r->batch; i++) name[i] = (struct async_name){l->job[i].q, l->job[i].worker};
    struct async_op op = {.kind = ASYNC_OP_UPDATE, .count = r->batch, .name = name};
    async_ledger_apply(l, r, &op);
}

/* -- laws ---------------------------------------------------------------------------------------- */

static void every_block_holds_every_worker_once(void **state)
{
    (void)state;
    static const enum async_rule_kind kinds[] = {ASYNC_SHUFFLED, ASYNC_ONCE, ASYNC_CYCLIC};
    for (int k = 0; k < 3; k++) {
        struct async_rule r;
        struct async_ledger l;
        begin(&r, &l, kinds[k], 0, 1);
        uint32_t first_count[N] = {0}, changes = 0;
        rank_t before[N], now[N];
        for (int block = 0; block < BLOCKS; block++) {
            uint32_t seen = 0;
            for (int i = 0; i < N; i++) {
                now[i] = async_rule_next(&r, &l, 3);
                seen |= 1u << now[i];
            }
            assert_int_equal(seen, (1u << N) - 1);
            first_count[now[0]]++;
            changes += block > 0 && memcmp(before, now, sizeof now) != 0;
            memcpy(before, now, sizeof now);
        }
        if (kinds[k] == ASYNC_SHUFFLED) { /* uniform: 2000 / 7 = 286, sd 16 */
            assert_true(changes > BLOCKS * 9 / 10);
            for (int i = 0; i < N; i++) assert_in_range(first_count[i], 286 - 80, 286 + 80);
        } else {
            assert_int_equal(changes, 0);
        }
        if (kinds[k] == ASYNC_CYCLIC)
            for (rank_t i = 0; i < N; i++) assert_int_equal(now[i], i);
        end(&r, &l);
    }
}

static void random_draws_are_uniform_over_the_list(void **state)
{
    (void)state;
    struct async_rule r;
    struct async_ledger l;
    begin(&r, &l, ASYNC_RANDOM, 0, 1);
    change(&l, &r, ASYNC_OP_OFF, 2);
    uint32_t count[N] = {0}, repeats = 0, last = N;
    for (int i = 0; i < 6000; i++) {
        rank_t k = async_rule_next(&r, &l, 3);
        count[k]++;
        repeats += k == last;
        last = k;
    }
    assert_int_equal(count[2], 0);
    for (int i = 0; i < N; i++)
        if (i != 2) assert_in_range(count[i], 1000 - 150, 1000 + 150);
    assert_in_range(repeats, 1000 - 150, 1000 + 150); /* independent of the one before */
    end(&r, &l);
}

static void pure_gives_the_job_to_the_sender(void **state)
{
    (void)state;
    struct async_rule r;
    struct async_ledger l;
    begin(&r, &l, ASYNC_PURE, 0, 1);
    for (rank_t k = 0; k < N; k++) assert_int_equal(async_rule_next(&r, &l, k), k);
    change(&l, &r, ASYNC_OP_OFF, 0);
    assert_int_equal(async_rule_next(&r, &l, 0), 1); /* all have one job: the lowest rank */
    end(&r, &l);
}

/* `batch` jobs drawn from the table come back. Returns how many places went to another than the sender. */
static uint32_t drawn_update(struct async_ledger *l, struct async_rule *r, struct prng *random)
{
    struct async_name name[JOBS_MAX];
    uint32_t count = 0, moved = 0;
    for (uint32_t i = 0; i < l->job_count; i++) /* each subset alike, ascending */
        if (prng_below(random, l->job_count - i) < r->batch - count)
            name[count++] = (struct async_name){l->job[i].q, l->job[i].worker};
    struct async_op op = {.kind = ASYNC_OP_UPDATE, .count = count, .name = name};
    assert_int_equal(async_ledger_apply(l, r, &op), count);
    for (uint32_t i = 0; i < count; i++) moved += l->job[l->job_count - count + i].worker != name[i].worker;
    return moved;
}

/* Also with several jobs each and several places in an update; again, some time after a worker was away. */
static void pure_moves_no_job_while_all_live(void **state)
{
    (void)state;
    static const struct {
        uint32_t concurrency, batch, jobs;
    } cases[] = {{0, 1, N}, {0, 3, N}, {0, N, N},   {3, 2, 3},   {9, 1, 9},
                 {9, 2, 9}, {9, 9, 9}, {17, 5, 17}, {20, 4, 20}, {JOBS_MAX, 7, JOBS_MAX}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct async_rule r;
        struct async_ledger l;
        struct prng random;
        prng_split(&random, 5, "pure", c);
        begin(&r, &l, ASYNC_PURE, cases[c].concurrency, cases[c].batch);
        for (rank_t away = 0; away < N; away++) {
            for (int i = 0; i < 300; i++) {
                assert_int_equal(drawn_update(&l, &r, &random), 0);
                assert_int_equal(l.job_count, cases[c].jobs);
            }
            change(&l, &r, ASYNC_OP_OFF, away);
            for (int i = 0; i < 5; i++) drawn_update(&l, &r, &random);
            change(&l, &r, ASYNC_OP_ON, away);
            for (int i = 0; i < 300; i++) drawn_update(&l, &r, &random);
            uint32_t jobs = 0;
            for (uint32_t i = 0; i < l.job_count; i++) jobs += l.job[i].worker == away;
            assert_in_range(jobs, cases[c].jobs / N, (cases[c].jobs + N - 1) / N);
        }
        end(&r, &l);
    }
}

static void an_order_is_a_permutation_from_one(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool good;
    } cases[] = {{"7-6-5-4-3-2-1", true},    {"1-2-3-4-5-6-7", true},  {"1-2-3-4-5-6", false},
                 {"1-2-3-4-5-6-6", false},   {"0-1-2-3-4-5-6", false}, {"1-2-3-4-5-6-8", false},
                 {"1-2-3-4-5-6-7-", false},  {"1,2", false},           {"", false},
                 {"1-2-3-4-5-6-7-1", false}, {"-1-2-3-4-5-6-7", false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct async_rule r;
        async_rule_init(&r, ASYNC_CYCLIC, 1, N, 0, 1);
        assert_int_equal(async_rule_set_order(&r, cases[i].text), cases[i].good);
        async_rule_deinit(&r);
    }
    struct async_rule r;
    struct async_ledger l;
    begin(&r, &l, ASYNC_CYCLIC, 0, 1);
    assert_true(async_rule_set_order(&r, "7-6-5-4-3-2-1"));
    for (rank_t i = 0; i < 2 * N; i++) assert_int_equal(async_rule_next(&r, &l, 0), N - 1 - i % N);
    end(&r, &l);
}

/* -- the table ------------------------------------------------------------------------------------ */

static void the_number_of_outstanding_jobs_is_kept(void **state)
{
    (void)state;
    static const struct {
        uint32_t concurrency, batch, jobs, jobs_with_five;
    } cases[] = {{0, 1, N, 5}, {0, N, N, N}, {3, 2, 3, 3}, {20, 4, 20, 20}, {1, 1, 1, 1}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++)
        for (int kind = ASYNC_PURE; kind <= ASYNC_CYCLIC; kind++) {
            struct async_rule r;
            struct async_ledger l;
            begin(&r, &l, (enum async_rule_kind)kind, cases[c].concurrency, cases[c].batch);
            for (int i = 0; i < 30; i++, update(&l, &r)) assert_int_equal(l.job_count, cases[c].jobs);
            change(&l, &r, ASYNC_OP_OFF, 1);
            change(&l, &r, ASYNC_OP_OFF, 4);
            for (int i = 0; i < 30; i++, update(&l, &r)) {
                assert_int_equal(l.job_count, cases[c].jobs_with_five);
                for (uint32_t k = 0; k < l.job_count; k++) assert_true(l.member[l.job[k].worker]);
            }
            change(&l, &r, ASYNC_OP_ON, 4);
            change(&l, &r, ASYNC_OP_ON, 1);
            assert_int_equal(l.job_count, cases[c].jobs);
            end(&r, &l);
        }
}

static void a_new_list_starts_a_new_block(void **state)
{
    (void)state;
    struct async_rule r;
    struct async_ledger l;
    begin(&r, &l, ASYNC_SHUFFLED, 0, 1);
    for (int i = 0; i < 3; i++) update(&l, &r);
    change(&l, &r, ASYNC_OP_OFF, 6);
    for (int block = 0; block < 20; block++) {
        uint32_t seen = 0;
        for (int i = 0; i < N - 1; i++) seen |= 1u << async_rule_next(&r, &l, 0);
        assert_int_equal(seen, (1u << (N - 1)) - 1);
    }
    end(&r, &l);
}

static void entries_that_do_not_fit_are_not_allowed(void **state)
{
    (void)state;
    struct async_rule r;
    struct async_ledger l;
    begin(&r, &l, ASYNC_PURE, 0, 1);
    struct async_name mine = {l.job[2].q, l.job[2].worker};
    struct async_op op = {.kind = ASYNC_OP_UPDATE, .count = 1, .name = &mine};
    assert_true(async_ledger_allows(&l, &op));
    mine.worker = 5; /* not its worker */
    assert_false(async_ledger_allows(&l, &op));
    mine = (struct async_name){1000, 2}; /* never assigned */
    assert_false(async_ledger_allows(&l, &op));
    op.kind = ASYNC_OP_ON; /* is on */
    assert_false(async_ledger_allows(&l, &op));
    op.kind = ASYNC_OP_OFF;
    assert_true(async_ledger_allows(&l, &op));
    async_ledger_apply(&l, &r, &op);
    assert_false(async_ledger_allows(&l, &op));
    end(&r, &l);
}

static void a_table_read_back_goes_on_alike(void **state)
{
    (void)state;
    for (int kind = ASYNC_PURE; kind <= ASYNC_CYCLIC; kind++) {
        struct async_rule r;
        struct async_ledger l;
        begin(&r, &l, (enum async_rule_kind)kind, 10, 3);
        for (int i = 0; i < 17; i++) update(&l, &r);
        change(&l, &r, ASYNC_OP_OFF, 5);
        uint8_t bytes[ALGO_BITS_MAX];
        uint32_t size = async_ledger_size(&l);
        async_ledger_write(&l, bytes);
        struct async_ledger back = {.index = l.index,
                                    .t = l.t,
                                    .next_q = l.next_q,
                                    .draws = l.draws,
                                    .block = l.block,
                                    .place = l.place,
                                    .node_count = N};
        assert_int_equal(async_ledger_read(&back, bytes, size), 0);
        for (int i = 0; i < 40; i++) {
            assert_int_equal(back.job_count, l.job_count);
            for (uint32_t k = 0; k < l.job_count; k++) {
                assert_int_equal(back.job[k].q, l.job[k].q);
                assert_int_equal(back.job[k].worker, l.job[k].worker);
                assert_int_equal(back.job[k].alpha, l.job[k].alpha);
            }
            update(&l, &r);
            update(&back, &r);
        }
        async_ledger_deinit(&back);
        end(&r, &l);
    }
}

static void damaged_tables_and_entries_are_refused(void **state)
{
    (void)state;
    struct async_rule r;
    struct async_ledger l;
    begin(&r, &l, ASYNC_PURE, 0, 1);
    uint8_t bytes[ALGO_BITS_MAX];
    uint32_t size = async_ledger_size(&l);
    static const struct {
        int at, value, shorter;
    } tables[] = {{0, 0, 0},     /* nobody is a member */
                  {0, 0xff, 0},  /* a rank too many */
                  {-1, 0, 1},    /* cut off */
                  {1 + 8, 9, 0}, /* no such worker */
                  {1, 200, 0},   /* a number not yet given out */
                  {15, 0, 0},    /* not ascending */
                  {1 + 10, 1, 0} /* older than the start */};
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        struct async_ledger back = {.next_q = l.next_q, .node_count = N};
        async_ledger_write(&l, bytes);
        if (tables[i].at >= 0) bytes[tables[i].at] = (uint8_t)tables[i].value;
        assert_int_equal(async_ledger_read(&back, bytes, size - (uint32_t)tables[i].shorter), ERR_PROTO);
        async_ledger_deinit(&back);
    }
    struct async_name name[2] = {{5, 1}, {9, 6}};
    struct async_op op = {.kind = ASYNC_OP_UPDATE, .count = 2, .name = name};
    size = async_op_write(&op, bytes);
    assert_int_equal(size, async_op_size(&op));
    struct async_ops ops = {0};
    assert_int_equal(async_ops_read(&ops, N, bytes, size), 0);
    assert_int_equal(ops.count, 1);
    assert_int_equal(ops.item[0].name[1].q, 9);
    for (uint32_t cut = 0; cut < size; cut++)
        assert_int_equal(async_ops_read(&ops, N, bytes, cut), ERR_PROTO);
    static const uint8_t entries[][2] = {{0, 0},     {0, 9}, {0, ASYNC_OP_OFF}, {1, 0}, {1, 3},
                                         {3 + 8, 7}, {13, 5}};
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++) {
        async_op_write(&op, bytes);
        bytes[entries[i][0]] = entries[i][1];
        assert_int_equal(async_ops_read(&ops, N, bytes, size), ERR_PROTO);
        assert_int_equal(ops.count, 1); /* unchanged */
    }
    async_ops_deinit(&ops);
    end(&r, &l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_block_holds_every_worker_once),
        cmocka_unit_test(random_draws_are_uniform_over_the_list),
        cmocka_unit_test(pure_gives_the_job_to_the_sender),
        cmocka_unit_test(pure_moves_no_job_while_all_live),
        cmocka_unit_test(an_order_is_a_permutation_from_one),
        cmocka_unit_test(the_number_of_outstanding_jobs_is_kept),
        cmocka_unit_test(a_new_list_starts_a_new_block),
        cmocka_unit_test(entries_that_do_not_fit_are_not_allowed),
        cmocka_unit_test(a_table_read_back_goes_on_alike),
        cmocka_unit_test(damaged_tables_and_entries_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
