/* Goal: whatever comes together, crashes, restarts, stopped processes, cut links, async applies nothing
 * twice, has no two holders of a term, refuses no honest message, and goes on when all is well again. Method:
 * random faults one upon the other from 50 seeds, in virtual time (algo_harness.h), watched after every
 * event (async_watch.h). Several losses at once may cost the end of the log, never more than that: the
 * checker's count of those is not looked at here. Compressed and not, all rules. */
#include "tests/unit/async_watch.h"

enum { SEEDS = 50, FAULTS = 40 };

struct storm {
    struct harness *h;
    struct prng random;
    uint32_t n;
    bool down[NODE_MAX], paused[NODE_MAX];
};

static void blow(struct storm *s)
{
    rank_t a = prng_below(&s->random, s->n), b = prng_below(&s->random, s->n);
    switch (prng_below(&s->random, 6)) {
    case 0:
        if (s->down[a]) break;
        harness_crash(s->h, a);
        s->down[a] = true;
        s->paused[a] = false;
        break;
    case 1:
    case 2:
        if (!s->down[a]) break;
        harness_restart(s->h, a, true);
        s->down[a] = false;
        break;
    case 3:
        if (s->down[a]) break;
        if (s->paused[a]) {
            harness_unpause(s->h, a);
        } else {
            harness_pause(s->h, a);
        }
        s->paused[a] = !s->paused[a];
        break;
    case 4:
        if (a != b) harness_link_down(s->h, a, b);
        break;
    case 5:
        for (rank_t r = 0; r < s->n; r++)
            if (r != a) harness_link_up(s->h, a, r);
        break;
    default:
        UNREACHABLE();
    }
}

static void heal(struct storm *s)
{
    for (rank_t a = 0; a < s->n; a++) {
        if (s->down[a]) harness_restart(s->h, a, true);
        if (s->paused[a]) harness_unpause(s->h, a);
        for (rank_t b = 0; b < a; b++) harness_link_up(s->h, a, b);
    }
}

static uint64_t end_of(const struct storm *s)
{
    rank_t holder = holder_of(s->h, s->n);
    return holder == RANK_NONE ? 0 : inside_of(s->h, holder)->ledger.t;
}

static void weather(uint64_t seed)
{
    static const char *const params[] = {"async:snapshot=7", "async:rule=random,snapshot=3,successors=1",
                                         "async:rule=pure,b=2", "async:rule=once,concurrency=9,snapshot=5"};
    static const char *const compress[] = {"none", "topk:fraction=0.1", "qsgd:bits=4"};
    struct storm s = {.n = 3 + (uint32_t)(seed % 4)};
    struct graph g = graph_make("complete", s.n);
    struct watch w = {.batch = seed % 4 == 2 ? 2 : 1};
    s.h = cluster(&w, params[seed % 4], &g, seed);
    bool packed = seed % 3 != 0;
    if (packed) harness_set_compress(s.h, compress[seed % 3]);
    prng_split(&s.random, seed, "storm", 0);
    for (int i = 0; i < FAULTS; i++) {
        harness_run_until(s.h, harness_now(s.h) + prng_below(&s.random, 400000));
        blow(&s);
    }
    heal(&s);
    harness_run_until(s.h, harness_now(s.h) + 12 * PATIENCE);
    uint64_t t = end_of(&s);
    harness_run_until(s.h, harness_now(s.h) + 2 * PATIENCE);
    const struct async *a = inside_of(s.h, holder_of(s.h, s.n));
    if (end_of(&s) <= t + 20 || w.rivals > 0 || (w.twice > 0 && !packed) || a->ledger.member_count != s.n)
        fail_msg("seed %llu: t %llu -> %llu, rivals %u, twice %u, members %u of %u", (unsigned long long)seed,
                 (unsigned long long)t, (unsigned long long)end_of(&s), w.rivals, w.twice,
                 a->ledger.member_count, s.n);
    uint32_t holders = 0;
    for (rank_t r = 0; r < s.n; r++) holders += inside_of(s.h, r)->role == ASYNC_HOLDER;
    assert_int_equal(holders, 1);
    harness_free(s.h);
    graph_deinit(&g);
}

static void storms_are_weathered(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) weather(seed);
}

/* A node that had held term 1 asked for it again, knowing nothing; one that gave up a candidature did not
 * heed its holder again. */
static void seeds_that_found_bugs_are_weathered(void **state)
{
    (void)state;
    weather(120);
    weather(125);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(storms_are_weathered),
        cmocka_unit_test(seeds_that_found_bugs_are_weathered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
