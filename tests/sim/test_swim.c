/* Goal: members are found, and missed, as fast as promised, and nobody is missed who is there.
 * Method: clusters of 16, 32 and 64 membership machines in virtual time (swim_cluster.h), many seeds; the slowest
 * but one in a hundred is compared with the bar. Links to all, or only to 5 random others, so that most members are
 * probed over links made for it.
 *   test_swim [times]     so many times more seeds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/sim/swim_cluster.h"

enum { SAMPLE_MAX = 10000 };

static uint32_t times = 1; /* from the command line */

static bool agree(const struct swim_cluster *c, uint32_t alive)
{
    return swim_agree(c, alive);
}

static bool all_say_dead(const struct swim_cluster *c, uint32_t node)
{
    return swim_all_say(c, node, MEMBER_DEAD);
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

struct sample {
    uint64_t us[SAMPLE_MAX];
    uint32_t count;
};

static void judge(struct sample *s, const char *what, double p50_max_s, double p99_max_s)
{
    qsort(s->us, s->count, sizeof s->us[0], by_size);
    double p50 = (double)s->us[s->count / 2] / 1e6, p99 = (double)s->us[(s->count * 99 - 1) / 100] / 1e6;
    printf("%-60s p50 %6.2f s  p99 %6.2f s  of %u\n", what, p50, p99, s->count);
    if (p50 > p50_max_s) fail_msg("%s: p50 %.2f s, promised %.2f s", what, p50, p50_max_s);
    if (p99 > p99_max_s) fail_msg("%s: p99 %.2f s, promised %.2f s", what, p99, p99_max_s);
}

/* The first `running` of them have been up for a while. */
static struct swim_cluster *settled(uint32_t count, uint32_t degree, uint64_t seed, uint32_t running)
{
    const struct swim_options o = {.count = count, .degree = degree, .seed = seed};
    struct swim_cluster *c = swim_cluster_new(&o);
    for (uint32_t v = 0; v < running; v++) swim_start(c, v);
    assert_true(swim_until(c, 20 * SWIM_SECOND, agree, running) != TIME_NEVER);
    swim_run(c, c->now_us + 5 * SWIM_SECOND + prng_below(&c->prng, 5 * SWIM_SECOND));
    return c;
}

/* -- M-1: joins -------------------------------------------------------------------------------- */

static void joins(uint32_t count, uint32_t degree, uint32_t seeds, double p99_max_s)
{
    static struct sample s;
    char what[80];
    s.count = 0;
    for (uint64_t seed = 1; seed <= (uint64_t)seeds * times; seed++) {
        struct swim_cluster *c = settled(count, degree, seed, count - 1);
        swim_start(c, count - 1);
        s.us[s.count++] = swim_until(c, 60 * SWIM_SECOND, agree, count);
        assert_int_equal(c->tally.false_deaths, 0);
        swim_cluster_free(c);
    }
    snprintf(what, sizeof what, "M-1 one more joins %u by one seed, %s", count - 1,
             degree == 0 ? "links to all" : "links to 5");
    judge(&s, what, p99_max_s, p99_max_s);
}

static void a_newcomer_is_known_to_all(void **state)
{
    (void)state;
    joins(16, 0, 50, 3);
    joins(16, 5, 50, 3);
    joins(64, 0, 4, 5);
    joins(64, 5, 10, 5);
}

static void cold_starts(uint32_t count, uint32_t degree, uint32_t seeds, double most_s)
{
    static struct sample s;
    char what[80];
    s.count = 0;
    for (uint64_t seed = 1; seed <= (uint64_t)seeds * times; seed++) {
        const struct swim_options o = {.count = count, .degree = degree, .seed = seed};
        struct swim_cluster *c = swim_cluster_new(&o);
        for (uint32_t v = 0; v < count; v++) swim_start(c, v);
        s.us[s.count++] = swim_until(c, 60 * SWIM_SECOND, agree, count);
        swim_cluster_free(c);
    }
    snprintf(what, sizeof what, "M-1 %u cold starts from one seed, %s", count,
             degree == 0 ? "links to all" : "links to 5");
    judge(&s, what, most_s, most_s);
}

static void all_that_start_at_once_find_each_other(void **state)
{
    (void)state;
    cold_starts(16, 0, 50, 3);
    cold_starts(16, 5, 50, 3);
    cold_starts(64, 0, 4, 20);
    cold_starts(64, 5, 10, 20);
}

/* -- M-2, M-3: deaths -------------------------------------------------------------------------- */

static void deaths(uint32_t count, uint32_t degree, uint32_t seeds, bool silent, double p50_max_s,
                   double p99_max_s)
{
    static struct sample s;
    char what[80];
    s.count = 0;
    for (uint64_t seed = 1; seed <= (uint64_t)seeds * times; seed++) {
        struct swim_cluster *c = settled(count, degree, seed, count);
        uint32_t victim = prng_below(&c->prng, count);
        if (silent)
            swim_vanish(c, victim);
        else
            swim_kill(c, victim);
        s.us[s.count++] = swim_until(c, 60 * SWIM_SECOND, all_say_dead, victim);
        assert_int_equal(c->tally.false_deaths, 0);
        swim_cluster_free(c);
    }
    snprintf(what, sizeof what, "%s, %u, %s", silent ? "M-3 dropped in silence" : "M-2 killed", count,
             degree == 0 ? "links to all" : "links to 5");
    judge(&s, what, p50_max_s, p99_max_s);
}

static void who_is_killed_is_dead_for_all(void **state)
{
    (void)state;
    deaths(16, 0, 50, false, 7, 7);
    deaths(16, 5, 50, false, 7, 7);
    deaths(64, 0, 4, false, 11, 11);
    deaths(64, 5, 10, false, 11, 11);
}

static void who_falls_silent_is_dead_for_all(void **state)
{
    (void)state;
    deaths(16, 0, 50, true, 9, 13);
    deaths(16, 5, 50, true, 9, 13);
    deaths(64, 0, 4, true, 12, 19);
    deaths(64, 5, 10, true, 12, 19);
}

/* -- M-4: peace -------------------------------------------------------------------------------- */

static void nobody_is_suspected_in_peace(void **state)
{
    (void)state;
    const uint32_t degrees[] = {0, 5};
    for (int i = 0; i < 2; i++) {
        struct swim_cluster *c = settled(32, degrees[i], 1, 32);
        struct swim_tally before, after;
        swim_sum(c, &before);
        swim_run(c, c->now_us + 30ull * 60 * SWIM_SECOND);
        swim_sum(c, &after);
        uint64_t gossip = after.message[SWIM_GOSSIP] - before.message[SWIM_GOSSIP];
        uint64_t messages = 0;
        for (int k = 0; k < SWIM_KIND_COUNT; k++) messages += after.message[k] - before.message[k];
        double node_seconds = 32.0 * 30 * 60;
        printf(
            "M-4 30 minutes of 32, %s: %llu false deaths, %llu suspicions, per node and second %.2f messages "
            "(%.3f gossip) with %.2f records, %.2f dials\n",
            degrees[i] == 0 ? "links to all" : "links to 5", (unsigned long long)after.false_deaths,
            (unsigned long long)(after.suspicions - before.suspicions), (double)messages / node_seconds,
            (double)gossip / node_seconds, (double)(after.updates - before.updates) / node_seconds,
            (double)(after.connects - before.connects) / node_seconds);
        assert_int_equal(after.false_deaths, 0);
        assert_true(after.suspicions - before.suspicions <= 2);
        assert_int_equal(after.errors, 0);
        assert_true((double)messages / node_seconds < 4);
        assert_true((double)gossip / node_seconds < 0.01); /* rumours end */
        swim_cluster_free(c);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1) times = (uint32_t)strtoul(argv[1], NULL, 10);
    if (times == 0 || times > 100) {
        fprintf(stderr, "test_swim: \"%s\" is not a number from 1 to 100\n", argv[1]);
        return 2;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_newcomer_is_known_to_all),
        cmocka_unit_test(all_that_start_at_once_find_each_other),
        cmocka_unit_test(who_is_killed_is_dead_for_all),
        cmocka_unit_test(who_falls_silent_is_dead_for_all),
        cmocka_unit_test(nobody_is_suspected_in_peace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
