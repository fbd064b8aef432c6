/* Goal: stops, splits, one-way cuts, restarts and leaves are weathered as promised.
 * Method: clusters of membership machines in virtual time (swim_cluster.h), several seeds each, with links to all
 * and with links to 5 random others; what is counted as a false death is any machine that says DEAD of one that is
 * well. The control runs show that what is tested for is needed.
 *   test_swim_faults [times]     so many times more seeds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/sim/swim_cluster.h"

static uint32_t times = 1; /* from the command line */

static bool agree(const struct swim_cluster *c, uint32_t alive)
{
    return swim_agree(c, alive);
}

static bool all_say_left(const struct swim_cluster *c, uint32_t node)
{
    return swim_all_say(c, node, MEMBER_LEFT);
}

static bool all_say_alive(const struct swim_cluster *c, uint32_t node)
{
    return swim_all_say(c, node, MEMBER_ALIVE);
}

static struct swim_cluster *settled(const struct swim_options *o)
{
    struct swim_cluster *c = swim_cluster_new(o);
    for (uint32_t v = 0; v < o->count; v++) swim_start(c, v);
    assert_true(swim_until(c, 20 * SWIM_SECOND, agree, o->count) != TIME_NEVER);
    swim_run(c, c->now_us + 5 * SWIM_SECOND + prng_below(&c->prng, 5 * SWIM_SECOND));
    return c;
}

static const char *links(uint32_t degree)
{
    return degree == 0 ? "links to all" : "links to 5";
}

/* The worst of several runs. */
struct worst {
    uint64_t us, false_deaths, false_accusations;
    uint32_t runs;
};

static void worst_add(struct worst *w, const struct swim_cluster *c, uint64_t us)
{
    struct swim_tally t;
    swim_sum(c, &t);
    assert_int_equal(t.errors, 0);
    if (us > w->us) w->us = us;
    w->false_deaths += t.false_deaths;
    w->false_accusations += t.false_accusations;
    w->runs++;
}

static double seconds(uint64_t us)
{
    return us == TIME_NEVER ? -1 : (double)us / 1e6;
}

/* -- M-5: some are stopped again and again ------------------------------------------------------ */

enum { GRAY = 4, GRAY_SECONDS = 120 };

struct gray_plan {
    const char *name;
    uint64_t stop_us, go_us;
    uint32_t line_us; /* the longest latency */
};

/* The bar's, and one in which a machine goes for a shorter time than one answer takes. */
static const struct gray_plan bar = {"2 s / 0.2 s", 2 * SWIM_SECOND, SWIM_SECOND / 5, 2000};
static const struct gray_plan hard = {"12 s / 0.05 s, long lines", 12 * SWIM_SECOND, SWIM_SECOND / 20,
                                      256000};

/* Each gray machine stops and goes, not in step. Returns when all were seen alive again. */
static uint64_t stop_and_go(struct swim_cluster *c, const struct gray_plan *plan)
{
    uint64_t next_us[GRAY], end_us = c->now_us + (uint64_t)GRAY_SECONDS * SWIM_SECOND, slowest_us = 0;
    bool frozen[GRAY] = {false};
    for (uint32_t g = 0; g < GRAY; g++) {
        next_us[g] = c->now_us + prng_below(&c->prng, (uint32_t)plan->stop_us);
        c->node[g].excused = true;
    }
    for (;;) {
        uint32_t g = 0;
        for (uint32_t k = 1; k < GRAY; k++)
            if (next_us[k] < next_us[g]) g = k;
        if (next_us[g] == TIME_NEVER) break;
        swim_run(c, next_us[g]);
        if (frozen[g])
            swim_thaw(c, g);
        else
            swim_freeze(c, g);
        frozen[g] = !frozen[g];
        next_us[g] = c->now_us + (frozen[g] ? plan->stop_us : plan->go_us);
        if (!frozen[g] && c->now_us >= end_us) next_us[g] = TIME_NEVER;
    }
    for (uint32_t g = 0; g < GRAY; g++) {
        uint64_t us = swim_until(c, 30 * SWIM_SECOND, all_say_alive, g);
        if (us > slowest_us) slowest_us = us;
    }
    return slowest_us;
}

static struct worst gray(const struct gray_plan *plan, uint32_t degree, bool no_local_health, uint32_t seeds)
{
    struct worst w = {0};
    for (uint64_t seed = 1; seed <= (uint64_t)seeds * times; seed++) {
        const struct swim_options o = {.count = 16,
                                       .degree = degree,
                                       .seed = seed,
                                       .latency_min_us = plan->line_us / 2,
                                       .latency_max_us = plan->line_us,
                                       .no_local_health = no_local_health};
        struct swim_cluster *c = settled(&o);
        worst_add(&w, c, stop_and_go(c, plan));
        swim_cluster_free(c);
    }
    printf(
        "M-5 4 of 16 stop and go (%s) for 120 s, %s%s: %llu false deaths, %llu false accusations in %u runs; "
        "alive again for all after %.2f s\n",
        plan->name, links(degree), no_local_health ? ", control run" : "", (unsigned long long)w.false_deaths,
        (unsigned long long)w.false_accusations, w.runs, seconds(w.us));
    return w;
}

static void who_is_stopped_again_and_again_accuses_nobody(void **state)
{
    (void)state;
    for (uint32_t degree = 0; degree <= 5; degree += 5) {
        struct worst ours = gray(&bar, degree, false, 10), control = gray(&bar, degree, true, 10);
        assert_int_equal(ours.false_deaths, 0);
        assert_true(ours.us <= 6 * SWIM_SECOND);
        assert_true(control.false_accusations > 10 * ours.false_accusations);
    }
}

static void nor_over_long_lines_where_it_would_without_local_health(void **state)
{
    (void)state;
    uint64_t control_deaths = 0;
    for (uint32_t degree = 0; degree <= 5; degree += 5) {
        struct worst ours = gray(&hard, degree, false, 10), control = gray(&hard, degree, true, 20);
        assert_int_equal(ours.false_deaths, 0);
        assert_true(ours.us <= 6 * SWIM_SECOND);
        control_deaths += control.false_deaths;
    }
    assert_true(control_deaths >= 1);
}

/* -- M-7: one way is cut ------------------------------------------------------------------------ */

static void a_one_way_cut_kills_nobody(void **state)
{
    (void)state;
    for (uint32_t degree = 0; degree <= 5; degree += 5) {
        struct worst w = {0};
        for (uint64_t seed = 1; seed <= 20 * (uint64_t)times; seed++) {
            const struct swim_options o = {.count = 16, .degree = degree, .seed = seed};
            struct swim_cluster *c = settled(&o);
            uint32_t a = prng_below(&c->prng, 16), b = (a + 1 + prng_below(&c->prng, 15)) % 16;
            swim_drop(c, a, b, true);
            swim_run(c, c->now_us + 60 * SWIM_SECOND);
            swim_drop(c, a, b, false);
            worst_add(&w, c, swim_until(c, 60 * SWIM_SECOND, agree, 16));
            swim_cluster_free(c);
        }
        printf("M-7 one way between two of 16 cut for 60 s, %s: %llu false deaths in %u runs\n",
               links(degree), (unsigned long long)w.false_deaths, w.runs);
        assert_int_equal(w.false_deaths, 0);
        assert_true(w.us <= 35 * SWIM_SECOND);
    }
}

/* -- M-8: halves --------------------------------------------------------------------------------- */

/* v holds its own half alive and the other dead. */
static bool sees_half(const struct swim_cluster *c, uint32_t v)
{
    for (uint32_t w = 0; w < 16; w++) {
        enum member_state said = membership_find(c->node[v].machine, swim_id(w))->state;
        if (said != ((v < 8) == (w < 8) ? MEMBER_ALIVE : MEMBER_DEAD)) return false;
    }
    return true;
}

static void halves_become_one_again(void **state)
{
    (void)state;
    for (uint32_t degree = 0; degree <= 5; degree += 5) {
        struct worst w = {0};
        uint64_t bumps_max = 0;
        for (uint64_t seed = 1; seed <= 20 * (uint64_t)times; seed++) {
            const struct swim_options o = {.count = 16, .degree = degree, .seed = seed};
            struct swim_cluster *c = settled(&o);
            uint64_t before[16];
            for (uint32_t v = 0; v < 16; v++) before[v] = membership_self(c->node[v].machine)->incarnation;
            for (uint32_t v = 0; v < 16; v++) c->node[v].excused = true;
            swim_split(c, 8);
            swim_run(c, c->now_us + 60 * SWIM_SECOND);
            for (uint32_t v = 0; v < 16; v++) assert_true(sees_half(c, v));
            swim_split(c, 0);
            for (uint32_t v = 0; v < 16; v++) c->node[v].excused = false;
            worst_add(&w, c, swim_until(c, 120 * SWIM_SECOND, agree, 16));
            for (uint32_t v = 0; v < 16; v++) {
                uint64_t bumps = membership_self(c->node[v].machine)->incarnation - before[v];
                if (bumps > bumps_max) bumps_max = bumps;
            }
            swim_cluster_free(c);
        }
        printf(
            "M-8 8 of 16 apart for 60 s, %s: one view at most %.2f s after healing, at most %llu bumps of an "
            "incarnation, %llu deaths after healing, %u runs\n",
            links(degree), seconds(w.us), (unsigned long long)bumps_max, (unsigned long long)w.false_deaths,
            w.runs);
        assert_true(w.us <= 40 * SWIM_SECOND);
        assert_true(bumps_max <= 2);
        assert_int_equal(w.false_deaths, 0);
    }
}

/* -- M-9: anything ------------------------------------------------------------------------------- */

static void storm_event(struct swim_cluster *c)
{
    uint32_t count = c->options.count, v = prng_below(&c->prng, count), w = prng_below(&c->prng, count);
    switch (prng_below(&c->prng, 8)) {
    case 0:
        if (c->node[v].life != SWIM_OFF) swim_kill(c, v);
        break;
    case 1:
    case 2:
        if (c->node[v].life == SWIM_OFF) swim_start(c, v);
        break;
    case 3:
        if (c->node[v].life == SWIM_RUNNING) swim_freeze(c, v);
        break;
    case 4:
        if (c->node[v].life == SWIM_FROZEN) swim_thaw(c, v);
        break;
    case 5:
        if (v != w) swim_drop(c, v, w, prng_below(&c->prng, 2) == 0);
        break;
    case 6:
        swim_split(c, prng_below(&c->prng, 4) == 0 ? prng_below(&c->prng, count) : 0);
        break;
    case 7:
        c->node[v].vanished = !c->node[v].vanished;
        swim_drop(c, v, w == v ? (v + 1) % count : w, false);
        break;
    }
}

static void calm(struct swim_cluster *c)
{
    for (uint32_t v = 0; v < c->options.count; v++) {
        c->node[v].vanished = false;
        if (c->node[v].life == SWIM_FROZEN) swim_thaw(c, v);
        if (c->node[v].life == SWIM_OFF) swim_start(c, v);
    }
    swim_split(c, 0);
}

static void after_any_storm_all_agree(void **state)
{
    (void)state;
    for (uint32_t degree = 0; degree <= 5; degree += 5) {
        struct worst w = {0};
        for (uint64_t seed = 1; seed <= 40 * (uint64_t)times; seed++) {
            const struct swim_options o = {.count = 16, .degree = degree, .seed = seed};
            struct swim_cluster *c = settled(&o);
            for (uint32_t v = 0; v < 16; v++) c->node[v].excused = true;
            for (uint64_t end_us = c->now_us + 60 * SWIM_SECOND; c->now_us < end_us;) {
                storm_event(c);
                swim_run(c, c->now_us + prng_below(&c->prng, 2 * SWIM_SECOND));
            }
            calm(c);
            uint64_t us = swim_until(c, 120 * SWIM_SECOND, agree, 16);
            if (us > 35 * SWIM_SECOND) printf("seed %llu: %.2f s\n", (unsigned long long)seed, seconds(us));
            worst_add(&w, c, us);
            swim_cluster_free(c);
        }
        printf("M-9 a minute of anything, %s: all agree at most %.2f s after, %u runs\n", links(degree),
               seconds(w.us), w.runs);
        assert_true(w.us <= 35 * SWIM_SECOND);
    }
}

/* -- M-14: leaves -------------------------------------------------------------------------------- */

static void who_leaves_has_left_and_is_not_dead(void **state)
{
    (void)state;
    for (uint32_t degree = 0; degree <= 5; degree += 5) {
        struct worst w = {0};
        for (uint64_t seed = 1; seed <= 20 * (uint64_t)times; seed++) {
            const struct swim_options o = {.count = 16, .degree = degree, .seed = seed};
            struct swim_cluster *c = settled(&o);
            uint32_t v = prng_below(&c->prng, 16);
            swim_leave(c, v);
            uint64_t us = swim_until(c, 10 * SWIM_SECOND, all_say_left, v);
            swim_run(c, c->now_us + 60 * SWIM_SECOND);
            assert_true(swim_all_say(c, v, MEMBER_LEFT)); /* and stays so */
            worst_add(&w, c, us);
            swim_cluster_free(c);
        }
        printf("M-14 a leave of one of 16, %s: known to all after at most %.2f s, %u runs\n", links(degree),
               seconds(w.us), w.runs);
        assert_int_equal(w.false_deaths, 0);
        assert_true(w.us <= 2 * SWIM_SECOND);
    }
}

/* -- restarts ------------------------------------------------------------------------------------ */

static void who_restarts_is_alive_again_whatever_its_clock_says(void **state)
{
    (void)state;
    for (uint32_t degree = 0; degree <= 5; degree += 5) {
        struct worst w = {0};
        for (uint64_t seed = 1; seed <= 20 * (uint64_t)times; seed++) {
            const struct swim_options o = {.count = 16, .degree = degree, .seed = seed};
            struct swim_cluster *c = settled(&o);
            uint32_t v = 1 + prng_below(&c->prng, 15);
            uint64_t boot = membership_self(c->node[v].machine)->boot;
            swim_kill(c, v);
            swim_run(c, c->now_us + prng_below(&c->prng, 20 * SWIM_SECOND)); /* suspect or dead by now */
            if (seed % 2 == 0)
                swim_start(c, v);
            else
                swim_start_at(c, v, boot - 3600ull * SWIM_SECOND * BOOT_UNITS_PER_US); /* an hour back */
            worst_add(&w, c, swim_until(c, 60 * SWIM_SECOND, agree, 16));
            swim_run(c, c->now_us + 60 * SWIM_SECOND);
            assert_true(swim_agree(c, 16));
            swim_cluster_free(c);
        }
        printf("restart of one of 16, clock going on or an hour back, %s: one view at most %.2f s after, %u "
               "runs\n",
               links(degree), seconds(w.us), w.runs);
        assert_int_equal(w.false_deaths, 0);
        assert_true(w.us <= 3 * SWIM_SECOND);
    }
}

/* All are stopped at once, as by a suspend of the machine that they run on. */
static void a_suspend_of_all_kills_nobody(void **state)
{
    (void)state;
    for (uint32_t degree = 0; degree <= 5; degree += 5) {
        struct worst w = {0};
        for (uint64_t seed = 1; seed <= 10 * (uint64_t)times; seed++) {
            const struct swim_options o = {.count = 16, .degree = degree, .seed = seed};
            struct swim_cluster *c = settled(&o);
            for (uint32_t v = 0; v < 16; v++) swim_freeze(c, v);
            swim_run(c, c->now_us + 60 * SWIM_SECOND);
            for (uint32_t v = 0; v < 16; v++) swim_thaw(c, v);
            swim_run(c, c->now_us + 10 * SWIM_SECOND);
            worst_add(&w, c, swim_until(c, 60 * SWIM_SECOND, agree, 16));
            swim_cluster_free(c);
        }
        printf("all 16 suspended for 60 s, %s: %llu false deaths in %u runs\n", links(degree),
               (unsigned long long)w.false_deaths, w.runs);
        assert_int_equal(w.false_deaths, 0);
        assert_true(w.us <= 35 * SWIM_SECOND);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1) times = (uint32_t)strtoul(argv[1], NULL, 10);
    if (times == 0 || times > 100) {
        fprintf(stderr, "test_swim_faults: \"%s\" is not a number from 1 to 100\n", argv[1]);
        return 2;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_is_stopped_again_and_again_accuses_nobody),
        cmocka_unit_test(nor_over_long_lines_where_it_would_without_local_health),
        cmocka_unit_test(a_one_way_cut_kills_nobody),
        cmocka_unit_test(halves_become_one_again),
        cmocka_unit_test(after_any_storm_all_agree),
        cmocka_unit_test(who_leaves_has_left_and_is_not_dead),
        cmocka_unit_test(who_restarts_is_alive_again_whatever_its_clock_says),
        cmocka_unit_test(a_suspend_of_all_kills_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
