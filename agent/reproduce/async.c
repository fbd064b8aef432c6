/* AsGrad: asynchronous SGD with nodes of unequal speed and unequal data. Who gets the next job decides where it
 * ends: the node that is done (pure), a random one, each once in a random order (shuffled). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "agent/reproduce/list.h"

#define FIXED "step 1/8"
#define SMALL "step 1/32"
#define POISSON "Poisson delays"
#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

#define EIGHTH "--virtual-time 3000 --report-every 25 --step-size constant:value=0.125 --algorithm async:"
#define SMALL_STEP                                                                                           \
    "--virtual-time 12000 --report-every 100 --step-size constant:value=0.03125 --algorithm async:"
#define SHORT "--virtual-time 1000 --report-every 10"
#define SHORT_SMALL "--virtual-time 4000 --report-every 40"

static const struct study_run runs[] = {
    {FIXED, "pure", EIGHTH "rule=pure", SHORT},
    {FIXED, "random", EIGHTH "rule=random", SHORT},
    {FIXED, "shuffled", EIGHTH "rule=shuffled", SHORT},
    {FIXED, "shuffled once", EIGHTH "rule=once", SHORT},
    {FIXED, "pure, 5 gradients an update", EIGHTH "rule=pure,b=5", SHORT},
    {FIXED, "random, 5 gradients an update", EIGHTH "rule=random,b=5", SHORT},
    {FIXED, "shuffled, 5 gradients an update", EIGHTH "rule=shuffled,b=5", SHORT},
    {FIXED, "synchronous", EIGHTH "rule=pure,b=10", SHORT},
    {SMALL, "pure", SMALL_STEP "rule=pure", SHORT_SMALL},
    {SMALL, "random", SMALL_STEP "rule=random", SHORT_SMALL},
    {SMALL, "shuffled", SMALL_STEP "rule=shuffled", SHORT_SMALL},
    {POISSON, "pure", EIGHTH "rule=pure --step-time poisson", SHORT},
    {POISSON, "random", EIGHTH "rule=random --step-time poisson", SHORT},
    {POISSON, "shuffled", EIGHTH "rule=shuffled --step-time poisson", SHORT},
};

/* -- claims ------------------------------------------------------------------------------------ */

/* Where it ends: mean gradient norm over the second half. */
static double plateau(const struct study_results *r, const char *panel, const char *name)
{
    return curve_tail(study_find(r, panel, name), 0.5, COLUMN_GRADIENT);
}

static double plateau_of_run(const struct study_results *r, size_t run)
{
    return curve_tail(&r->curve[run], 0.5, COLUMN_GRADIENT);
}

static double mean_delay(const struct study_results *r, size_t run)
{
    return curve_last(&r->curve[run], COLUMN_DELAY_SUM) / curve_last(&r->curve[run], COLUMN_STEPS);
}

static double steps_a_second(const struct study_results *r, size_t run)
{
    return curve_last(&r->curve[run], COLUMN_STEPS) / curve_last(&r->curve[run], COLUMN_VIRTUAL_S);
}

static bool in_order(const struct study_results *r, const char *panel, char *measured, size_t size)
{
    double pure = plateau(r, panel, "pure"), random = plateau(r, panel, "random");
    double shuffled = plateau(r, panel, "shuffled");
    snprintf(measured, size, "gradient norm at the end %.3g (shuffled), %.3g (random), %.3g (pure)", shuffled,
             random, pure);
    return shuffled < random && random < pure;
}

static bool shuffled_wins(const struct study_results *r, char *measured, size_t size)
{
    return in_order(r, FIXED, measured, size);
}

static bool shuffled_wins_poisson(const struct study_results *r, char *measured, size_t size)
{
    return in_order(r, POISSON, measured, size);
}

static bool pure_is_biased(const struct study_results *r, char *measured, size_t size)
{
    double large = plateau(r, FIXED, "pure"), small = plateau(r, SMALL, "pure");
    snprintf(measured, size, "gradient norm %.4e at step 1/8, %.4e at 1/32", large, small);
    return fabs(small / 5.868751e-2 - 1) < 0.05 && fabs(large / small - 1) < 0.05;
}

static bool noise_falls(const struct study_results *r, char *measured, size_t size)
{
    double random = plateau(r, FIXED, "random") / plateau(r, SMALL, "random");
    double shuffled = plateau(r, FIXED, "shuffled") / plateau(r, SMALL, "shuffled");
    snprintf(measured, size, "from step 1/8 to 1/32: %.2f times less (random), %.2f times less (shuffled)",
             random, shuffled);
    return random > 1.4 && random < 2.9 && shuffled > 2.9 && shuffled < 5.5;
}

/* Outstanding jobs are conserved: n/b - 1 updates pass on average, whatever the speeds. */
static bool delays_are_conserved(const struct study_results *r, char *measured, size_t size)
{
    double least = INFINITY, most = 0, least_5 = INFINITY, most_5 = 0;
    for (size_t i = 0; i < COUNT_OF(runs); i++) {
        double delay = mean_delay(r, i);
        if (strcmp(runs[i].name, "synchronous") == 0) continue;
        bool five = strstr(runs[i].name, "5 gradients") != NULL;
        if (delay < (five ? least_5 : least)) *(five ? &least_5 : &least) = delay;
        if (delay > (five ? most_5 : most)) *(five ? &most_5 : &most) = delay;
    }
    snprintf(measured, size, "mean delay %.2f to %.2f updates (b=1), %.2f to %.2f (b=5)", least, most,
             least_5, most_5);
    return least > 8.5 && most < 9.1 && least_5 > 0.9 && most_5 < 1.1;
}

static bool pure_is_faster(const struct study_results *r, char *measured, size_t size)
{
    double pure = 0, shuffled = 0;
    for (size_t i = 0; i < COUNT_OF(runs); i++) {
        if (&r->curve[i] == study_find(r, FIXED, "pure")) pure = steps_a_second(r, i);
        if (&r->curve[i] == study_find(r, FIXED, "shuffled")) shuffled = steps_a_second(r, i);
    }
    snprintf(measured, size, "%.3f gradients a second (pure), %.3f (shuffled)", pure, shuffled);
    return fabs(pure / 2.929 - 1) < 0.02 && shuffled <= 1.05;
}

static bool waiting_helps(const struct study_results *r, char *measured, size_t size)
{
    double pure = plateau(r, FIXED, "pure"), pure_5 = plateau(r, FIXED, "pure, 5 gradients an update");
    double random = plateau(r, FIXED, "random"),
           random_5 = plateau(r, FIXED, "random, 5 gradients an update");
    double shuffled = plateau(r, FIXED, "shuffled"),
           shuffled_5 = plateau(r, FIXED, "shuffled, 5 gradients an update");
    snprintf(measured, size,
             "gradient norm %.3g to %.3g (pure), %.3g to %.3g (random), %.3g to %.3g (shuffled)", pure,
             pure_5, random, random_5, shuffled, shuffled_5);
    return pure_5 < pure && random_5 < random && shuffled_5 < shuffled;
}

static const struct study_claim claims[] = {
    {"shuffled beats random beats pure", "7.5e-3 < 2.32e-2 < 5.95e-2 after 500 updates; re-implementation",
     shuffled_wins},
    {"with Poisson delays, too", "1.17e-3 < 3.27e-3 < 1.36e-2 (phishing); re-implementation",
     shuffled_wins_poisson},
    {"pure ends at a wrong point, whatever the step",
     "sum p_i grad f_i = 0 with p_i by speed: norm 5.868751e-2, independent of the step", pure_is_biased},
    {"a four times smaller step: random 2 times, shuffled 4 times nearer",
     "plateau ~ sqrt(step) for random, ~ step for shuffled", noise_falls},
    {"the mean delay is n/b - 1 updates", "9 and 1: outstanding jobs are conserved", delays_are_conserved},
    {"pure computes faster", "sum 1/s_i = 2.929 gradients a second against at most n / max s_i = 1",
     pure_is_faster},
    {"waiting for five gradients helps all three",
     "3.02e-2, 6.7e-3, 1.54e-3 after 500 updates; re-implementation", waiting_helps},
};

static const struct study_plot plots[] = {
    {FIXED, "fixed delays, step 1/8: by time", COLUMN_VIRTUAL_S, COLUMN_GRADIENT, 0, NULL, false, true},
    {FIXED, "the same, by updates of the model", COLUMN_ROUNDS, COLUMN_GRADIENT, 0, NULL, true, true},
    {FIXED, "the same, by gradients computed", COLUMN_STEPS, COLUMN_GRADIENT, 0, NULL, true, true},
    {SMALL, "fixed delays, step 1/32", COLUMN_VIRTUAL_S, COLUMN_GRADIENT, 0, NULL, false, true},
    {POISSON, "Poisson delays, step 1/8: by time", COLUMN_VIRTUAL_S, COLUMN_GRADIENT, 0, NULL, false, true},
    {POISSON, "the same, by updates of the model", COLUMN_ROUNDS, COLUMN_GRADIENT, 0, NULL, true, true},
};

const struct study study_async = {
    .name = "async",
    .title = "Asynchronous SGD: shuffled jobs end nearest to the optimum, pure ones at a wrong point",
    .source =
        "Islamov, Safaryan, Alistarh: AsGrad, arXiv:2310.20452; figures of a re-implementation of its rules",
    .setting = "logistic regression with 0.1 sum w^2/(1 + w^2) on w7a (24,600 rows), 10 nodes, full local "
               "gradients;\n"
               "in the order of the file: all 739 positive rows are at the fastest node; node v takes v + 1 "
               "s a gradient\n",
    .common =
        "-n 10 --topology complete --task logistic:bias=no,l2=0,nonconvex=0.1 --data @w7a-t --split blocks "
        "--batch 0 --latency fixed:delay=0 --speeds linear",
    .gradient = true,
    .run = runs,
    .run_count = COUNT_OF(runs),
    .claim = claims,
    .claim_count = COUNT_OF(claims),
    .plot = plots,
    .plot_count = COUNT_OF(plots),
    .measure = {{"gradient norm", plateau_of_run},
                {"mean delay", mean_delay},
                {"gradients/s", steps_a_second}},
};
