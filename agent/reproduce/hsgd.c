/* Hierarchical SGD: averages within groups often and over everybody seldom lie between local SGD with the short
 * and with the long period; how much is lost depends on who is with whom. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "agent/reproduce/list.h"

#define LOCAL "one level"
#define GROUPS "groups, G=50, I=5"
#define SELDOM "groups, G=100, I=5"
/* Local SGD whose averages go through the same two groups: what crosses these is counted, and is the least. */
#define FLAT "--algorithm hsgd:periods="
#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

static const struct study_run runs[] = {
    {LOCAL, "P=1", "--algorithm local:every=1", NULL},
    {LOCAL, "P=5", "--algorithm local:every=5", NULL},
    {LOCAL, "P=10", "--algorithm local:every=10", NULL},
    {LOCAL, "P=50", "--algorithm local:every=50", NULL},
    {LOCAL, "P=100", "--algorithm local:every=100", NULL},
    {GROUPS, "P=5", FLAT "5-5,groups=2", NULL},
    {GROUPS, "groups alike", "--algorithm hsgd:periods=50-5,groups=2,grouping=balanced", NULL},
    {GROUPS, "groups by chance", "--algorithm hsgd:periods=50-5,groups=2,grouping=random,redraw=yes", NULL},
    {GROUPS, "groups by label", "--algorithm hsgd:periods=50-5,groups=2,grouping=contiguous", NULL},
    {GROUPS, "P=50", FLAT "50-50,groups=2", NULL},
    {SELDOM, "P=5", FLAT "5-5,groups=2", NULL},
    {SELDOM, "groups alike", "--algorithm hsgd:periods=100-5,groups=2,grouping=balanced", NULL},
    {SELDOM, "groups by chance", "--algorithm hsgd:periods=100-5,groups=2,grouping=random,redraw=yes", NULL},
    {SELDOM, "groups by label", "--algorithm hsgd:periods=100-5,groups=2,grouping=contiguous", NULL},
    {SELDOM, "P=100", FLAT "100-100,groups=2", NULL},
};

/* Loss after 2000 steps in a re-implementation, mean of 20 seeds. */
static const double reference[COUNT_OF(runs)] = {
    0.2202, 0.2242, 0.2293, 0.2648, 0.2975, 0.2242, 0.2244, 0.2272,
    0.2563, 0.2648, 0.2242, 0.2245, 0.2285, 0.2809, 0.2975,
};

static double reference_loss(const struct study_results *r, size_t run)
{
    (void)r;
    return reference[run];
}

static double difference_percent(const struct study_results *r, size_t run)
{
    return 100 * (curve_last(&r->curve[run], COLUMN_LOSS) / reference_loss(r, run) - 1);
}

/* How far groups, and the nodes of a group, were apart just before an average; mean of the second half. */
static double divergence_up(const struct study_results *r, size_t run)
{
    double up = curve_tail(&r->curve[run], 0.5, COLUMN_DIVERGENCE_UP);
    return up > 0 ? up : (double)NAN; /* not measured for groups drawn anew */
}

static double divergence_down(const struct study_results *r, size_t run)
{
    double down = curve_tail(&r->curve[run], 0.5, COLUMN_DIVERGENCE_DOWN);
    return strncmp(r->study->run[run].name, "groups", 6) == 0 ? down : (double)NAN;
}

/* -- claims ------------------------------------------------------------------------------------ */

static double loss_of(const struct study_results *r, const char *panel, const char *name)
{
    return curve_last(study_find(r, panel, name), COLUMN_LOSS);
}

static bool agrees_with_reference(const struct study_results *r, char *measured, size_t size)
{
    double worst = 0;
    const char *name = "", *panel = "";
    for (size_t i = 0; i < COUNT_OF(runs); i++) {
        if (fabs(difference_percent(r, i)) <= fabs(worst)) continue;
        worst = difference_percent(r, i);
        name = runs[i].name;
        panel = runs[i].panel;
    }
    snprintf(measured, size, "the greatest difference is %+.2f %% (%s, %s)", worst, panel, name);
    return fabs(worst) <= 3;
}

static bool lies_between(const struct study_results *r, char *measured, size_t size)
{
    double low = loss_of(r, GROUPS, "P=5"), mid = loss_of(r, GROUPS, "groups by chance");
    double high = loss_of(r, GROUPS, "P=50"), low_2 = loss_of(r, SELDOM, "P=5");
    double mid_2 = loss_of(r, SELDOM, "groups by chance"), high_2 = loss_of(r, SELDOM, "P=100");
    snprintf(measured, size, "loss %.4f <= %.4f <= %.4f (G=50), %.4f <= %.4f <= %.4f (G=100)", low, mid, high,
             low_2, mid_2, high_2);
    return low <= mid && mid <= high && low_2 <= mid_2 && mid_2 <= high_2;
}

static bool alike_is_as_good(const struct study_results *r, char *measured, size_t size)
{
    double often = loss_of(r, GROUPS, "P=5"), alike = loss_of(r, GROUPS, "groups alike");
    double seldom = loss_of(r, SELDOM, "groups alike");
    snprintf(measured, size, "loss %.4f (G=50) and %.4f (G=100) against %.4f", alike, seldom, often);
    return fabs(alike / often - 1) < 0.01 && fabs(seldom / often - 1) < 0.01;
}

static bool by_label_is_worst(const struct study_results *r, char *measured, size_t size)
{
    double label = loss_of(r, GROUPS, "groups by label"), chance = loss_of(r, GROUPS, "groups by chance");
    double label_2 = loss_of(r, SELDOM, "groups by label"), chance_2 = loss_of(r, SELDOM, "groups by chance");
    snprintf(measured, size, "loss %.4f against %.4f (G=50), %.4f against %.4f (G=100)", label, chance,
             label_2, chance_2);
    return label > chance && label_2 > chance_2;
}

static bool groups_save_steps(const struct study_results *r, char *measured, size_t size)
{
    double target = loss_of(r, GROUPS, "P=50");
    double often = curve_at_loss(study_find(r, GROUPS, "P=5"), target, COLUMN_VIRTUAL_S);
    double alike = curve_at_loss(study_find(r, GROUPS, "groups alike"), target, COLUMN_VIRTUAL_S);
    double seldom = curve_last(study_find(r, GROUPS, "P=50"), COLUMN_VIRTUAL_S);
    snprintf(measured, size, "loss %.4f after %.0f steps (groups alike), %.0f (P=5), %.0f (P=50)", target,
             alike, often, seldom);
    return alike <= 1.1 * often && alike < 0.75 * seldom;
}

/* U is compared for fixed groups: for groups drawn anew the method does not measure it. */
static bool divergence_is_ordered(const struct study_results *r, char *measured, size_t size)
{
    double down[3] = {0};
    static const char *const names[] = {"groups alike", "groups by chance", "groups by label"};
    for (size_t k = 0; k < 3; k++)
        down[k] = curve_tail(study_find(r, GROUPS, names[k]), 0.5, COLUMN_DIVERGENCE_DOWN);
    double alike = curve_tail(study_find(r, GROUPS, names[0]), 0.5, COLUMN_DIVERGENCE_UP);
    double label = curve_tail(study_find(r, GROUPS, names[2]), 0.5, COLUMN_DIVERGENCE_UP);
    snprintf(measured, size,
             "U = %.3g (alike), %.3g (by label); D = %.3g (alike), %.3g (by chance), %.3g (by label)", alike,
             label, down[0], down[1], down[2]);
    return 50 * alike < label && down[0] > down[1] && down[1] > 2 * down[2];
}

/* Over all steps, at a loss that is as low. Groups by chance are left out: they are drawn anew, averages of
 * everybody then go round one ring. */
static bool groups_save_slow_links(const struct study_results *r, char *measured, size_t size)
{
    double often = curve_last(study_find(r, GROUPS, "P=5"), COLUMN_BYTES_ACROSS);
    double alike = curve_last(study_find(r, GROUPS, "groups alike"), COLUMN_BYTES_ACROSS);
    double seldom = curve_last(study_find(r, SELDOM, "groups alike"), COLUMN_BYTES_ACROSS);
    double loss = loss_of(r, GROUPS, "groups alike") / loss_of(r, GROUPS, "P=5");
    snprintf(measured, size,
             "%.4g kB (G=50), %.4g kB (G=100) against %.4g kB (P=5): %.3g and %.3g times fewer, "
             "loss %+.2f %%",
             alike / 1e3, seldom / 1e3, often / 1e3, often / alike, often / seldom, 100 * (loss - 1));
    return fabs(often / alike - 10) < 0.1 && fabs(often / seldom - 20) < 0.2 && loss < 1.01;
}

#define REFERENCE "; re-implementation, 20 seeds"

static const struct study_claim claims[] = {
    {"losses are those of a re-implementation", "after 2000 steps, to 3 %" REFERENCE, agrees_with_reference},
    {"random groups lie between the two local SGDs",
     "0.2242 <= 0.2272 <= 0.2648, 0.2242 <= 0.2285 <= 0.2975" REFERENCE, lies_between},
    {"groups that are alike are as good as averaging everybody every 5 steps",
     "0.2244, 0.2245 against 0.2242" REFERENCE, alike_is_as_good},
    {"groups by label are worse than groups by chance",
     "0.2563 against 0.2272, 0.2809 against 0.2285" REFERENCE, by_label_is_worst},
    {"groups need as many steps as P=5, far fewer than P=50",
     "steps of (G, I) are close to P=I (CIFAR, MNIST, FEMNIST)", groups_save_steps},
    {"groups send G/I times fewer bytes between groups than local SGD with P=5, at the same loss",
     "10, 20 times: 2 (N-1)/N size/m floats a node and average of everybody, every P steps or every G",
     groups_save_slow_links},
    {"groups by label are far from each other, and alike within",
     "U = 0.0155 (alike), 2.10 (by label); D = 0.0782, 0.0721, 0.0165; means over time" REFERENCE,
     divergence_is_ordered},
};

static const struct study_plot plots[] = {
    {LOCAL, "one level: average everybody every P steps", COLUMN_STEPS, COLUMN_LOSS, 0, NULL, false, true},
    {GROUPS, "two groups, G=50: bytes on all links", COLUMN_BYTES, COLUMN_LOSS, 0, NULL, true, true},
    {GROUPS, "two groups: everybody every 50, groups every 5", COLUMN_STEPS, COLUMN_LOSS, 0, NULL, false,
     true},
    {GROUPS, "the same: bytes on links between groups", COLUMN_BYTES_ACROSS, COLUMN_LOSS, 0, NULL, true,
     true},
    {SELDOM, "two groups: everybody every 100, groups every 5", COLUMN_STEPS, COLUMN_LOSS, 0, NULL, false,
     true},
    {SELDOM, "the same: bytes on links between groups", COLUMN_BYTES_ACROSS, COLUMN_LOSS, 0, NULL, true,
     true},
};

const struct study study_hsgd = {
    .name = "hsgd",
    .title = "Hierarchical SGD: rare global averages suffice when groups are alike",
    .source = "Wang et al.: Demystifying Why Local Aggregation Helps, arXiv:2010.12998; figures of a "
              "re-implementation",
    .setting = "logistic regression with 0.001 sum w^2/(1 + w^2) on phishing, sorted by label over 10 nodes, "
               "two groups\n"
               "of five; batch 20, step 0.5, 2000 steps; one step a (virtual) second.\n"
               "A model is 68 floats: bytes on all links are framing for the most part, those between groups "
               "bodies alone\n",
    .common =
        "-n 10 --topology complete --task logistic:bias=no,l2=0,nonconvex=0.001 --data @phishing --split "
        "sorted "
        "--batch 20 --step-size constant:value=0.5 --latency fixed:delay=0 --steps 2000 --report-every 20",
    .run = runs,
    .run_count = COUNT_OF(runs),
    .claim = claims,
    .claim_count = COUNT_OF(claims),
    .plot = plots,
    .plot_count = COUNT_OF(plots),
    .measure = {{"reference", reference_loss},
                {"difference %", difference_percent},
                {"U", divergence_up},
                {"D", divergence_down}},
};
