/* DeLi-CoCo on MNIST 4 against 9: several compressed gossip steps a round. The runs are those of the authors'
 * result files, whose training losses after 100 and 1000 rounds stand beside ours. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "agent/reproduce/list.h"

#define PANEL "MNIST 4 or 9"
#define TOPK " --compress topk:fraction=0.5"
#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

static const struct study_run runs[] = {
    {PANEL, "Q=1, gamma=0.1", "--algorithm delicoco:q=1,gamma=0.1" TOPK, NULL},
    {PANEL, "Q=1, gamma=0.5", "--algorithm delicoco:q=1,gamma=0.5" TOPK, NULL},
    {PANEL, "Q=1, gamma=0.9", "--algorithm delicoco:q=1,gamma=0.9" TOPK, NULL},
    {PANEL, "Q=5, gamma=0.1", "--algorithm delicoco:q=5,gamma=0.1" TOPK, NULL},
    {PANEL, "Q=5, gamma=0.5", "--algorithm delicoco:q=5,gamma=0.5" TOPK, NULL},
    {PANEL, "Q=10, gamma=0.1", "--algorithm delicoco:q=10,gamma=0.1" TOPK, NULL},
    {PANEL, "Q=10, gamma=0.9", "--algorithm delicoco:q=10,gamma=0.9" TOPK, NULL},
    {PANEL, "uncompressed, Q=1", "--algorithm dgd", NULL},
    {PANEL, "one node, all rows", "-n 1 --topology complete --algorithm local", NULL},
    {PANEL, "no communication", "--algorithm local", NULL},
};

/* Training loss in the authors' files, in the order of the runs. */
static const struct {
    double after_100, after_1000;
} published[COUNT_OF(runs)] = {
    {0.31615, 0.13334}, {0.21609, 0.10774}, {0.18166, 0.10128}, {0.22509, 0.10968},
    {0.16551, 0.09859}, {0.19462, 0.10321}, {0.15786, 0.09763}, {(double)NAN, (double)NAN},
    {0.15882, 0.09790}, {0.47960, 0.38968},
};

static double published_loss(const struct study_results *r, size_t run)
{
    return r->quick ? published[run].after_100 : published[run].after_1000;
}

static double loss_of(const struct study_results *r, const char *name)
{
    return curve_last(study_find(r, PANEL, name), COLUMN_LOSS);
}

static double bytes_of(const struct study_results *r, const char *name)
{
    return curve_last(study_find(r, PANEL, name), COLUMN_BYTES);
}

static double difference_percent(const struct study_results *r, size_t run)
{
    double theirs = published_loss(r, run);
    return 100 * (curve_last(&r->curve[run], COLUMN_LOSS) - theirs) / theirs;
}

/* -- claims ------------------------------------------------------------------------------------ */

static bool agrees_with_published(const struct study_results *r, char *measured, size_t size)
{
    double worst = 0;
    const char *name = "";
    for (size_t i = 0; i < COUNT_OF(runs); i++) {
        double difference = difference_percent(r, i);
        if (strncmp(runs[i].name, "Q=", 2) != 0 || fabs(difference) <= fabs(worst)) continue;
        worst = difference;
        name = runs[i].name;
    }
    snprintf(measured, size, "the greatest difference of 7 runs is %+.2f %% (%s)", worst, name);
    return fabs(worst) <= 1;
}

static bool more_steps_help(const struct study_results *r, char *measured, size_t size)
{
    double one = loss_of(r, "Q=1, gamma=0.1"), five = loss_of(r, "Q=5, gamma=0.1"),
           ten = loss_of(r, "Q=10, gamma=0.1");
    snprintf(measured, size, "gamma=0.1: loss %.5f, %.5f, %.5f with Q = 1, 5, 10", one, five, ten);
    return one > five && five > ten;
}

static bool greater_gamma_helps(const struct study_results *r, char *measured, size_t size)
{
    double low = loss_of(r, "Q=1, gamma=0.1"), mid = loss_of(r, "Q=1, gamma=0.5"),
           high = loss_of(r, "Q=1, gamma=0.9");
    snprintf(measured, size, "Q=1: loss %.5f, %.5f, %.5f with gamma = 0.1, 0.5, 0.9", low, mid, high);
    return low > mid && mid > high;
}

static bool as_good_as_central(const struct study_results *r, char *measured, size_t size)
{
    double several = loss_of(r, "Q=10, gamma=0.9"), central = loss_of(r, "one node, all rows");
    snprintf(measured, size, "loss %.5f against %.5f: %+.2f %%", several, central,
             100 * (several / central - 1));
    return fabs(several / central - 1) <= 0.01;
}

static bool alone_stalls(const struct study_results *r, char *measured, size_t size)
{
    double alone = loss_of(r, "no communication"), worst = loss_of(r, "Q=1, gamma=0.1");
    snprintf(measured, size, "loss %.5f; the worst of those that communicate has %.5f", alone, worst);
    return alone > 1.4 * worst;
}

static bool half_the_bytes(const struct study_results *r, char *measured, size_t size)
{
    double packed = bytes_of(r, "Q=1, gamma=0.9"), whole = bytes_of(r, "uncompressed, Q=1");
    double loss = loss_of(r, "Q=1, gamma=0.9"), loss_whole = loss_of(r, "uncompressed, Q=1");
    snprintf(measured, size, "loss %.5f with %.3g MB against %.5f with %.3g MB: %.0f %% of the bytes", loss,
             packed * 1e-6, loss_whole, whole * 1e-6, 100 * packed / whole);
    return packed < 0.6 * whole && loss <= 1.05 * loss_whole;
}

static const struct study_claim claims[] = {
    {"every run ends where the authors' did", "training losses in the authors' result files, to 1 %",
     agrees_with_published},
    {"more gossip steps a round reach a lower loss", "0.13334, 0.10968, 0.10321 (1000 rounds)",
     more_steps_help},
    {"a greater consensus step reaches a lower loss", "0.13334, 0.10774, 0.10128 (1000 rounds)",
     greater_gamma_helps},
    {"ten steps a round are as good as one node with all rows", "0.09763 against 0.09790 (1000 rounds)",
     as_good_as_central},
    {"nodes without links stall", "0.38968 (1000 rounds)", alone_stalls},
    {"half of the entries cost at most 5 % of loss",
     "top 50 % with Q=1 is used throughout; bits of positions are not counted", half_the_bytes},
};

static const struct study_plot plots[] = {
    {PANEL, "rounds needed", COLUMN_VIRTUAL_S, COLUMN_LOSS, 0, NULL, false, true},
    {PANEL, "bytes needed", COLUMN_BYTES, COLUMN_LOSS, 0, NULL, true, true},
};

const struct study study_delicoco = {
    .name = "delicoco",
    .title = "DeLi-CoCo: several compressed gossip steps a round replace a denser network",
    .source =
        "Hashemi et al.: On the Benefits of Multiple Gossip Steps, arXiv:2011.10643; figures of the authors' "
        "result files",
    .setting =
        "logistic regression on MNIST 4 against 9, sorted by label over a torus of 9 nodes, full local\n"
        "gradients, step 0.2, no regulariser, top 50 % of the entries; one round a (virtual) second\n",
    .common =
        "-n 9 --topology torus --task logistic:l2=0 --data @mnist-4-9|mnist --classes 4,9 --split sorted "
        "--batch 0 --step-size constant:value=0.2 --latency fixed:delay=0 --steps 1000 --report-every 20",
    .quick = "--steps 100 --report-every 4",
    .run = runs,
    .run_count = COUNT_OF(runs),
    .claim = claims,
    .claim_count = COUNT_OF(claims),
    .plot = plots,
    .plot_count = COUNT_OF(plots),
    .measure = {{"published", published_loss}, {"difference %", difference_percent}},
};
