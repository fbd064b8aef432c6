/* DEF: an all-reduce of shared random entries with error feedback, the gradient taken ahead of the residual. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "agent/reproduce/list.h"

#define LARGE "step 0.03"
#define SMALL "step 0.002"
#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

#define BLOCK " --compress block:fraction=0.015625"
#define LARGE_STEP "--step-size cosine:value=0.03,steps=3000 "
#define SMALL_STEP "--step-size cosine:value=0.002,steps=3000 "
#define LARGE_QUICK "--step-size cosine:value=0.03,steps=2000"
#define SMALL_QUICK "--step-size cosine:value=0.002,steps=2000"

/* the same methods with both steps */
#define METHODS(panel, step, quick)                                                                          \
    {panel, "uncompressed", step "--algorithm allreduce", quick},                                            \
        {panel, "EF (lam=0)", step "--algorithm ef-sgd" BLOCK, quick},                                       \
        {panel, "DEF (lam=0.3)", step "--algorithm def:lam=0.3" BLOCK, quick},                               \
        {panel, "DEF-A (lam=0.3)", step "--algorithm def-a:lam=0.3" BLOCK, quick},                           \
    {                                                                                                        \
        panel, "step-ahead (lam=1)", step "--algorithm step-ahead" BLOCK, quick                              \
    }

static const struct study_run runs[] = {
    METHODS(LARGE, LARGE_STEP, LARGE_QUICK),
    METHODS(SMALL, SMALL_STEP, SMALL_QUICK),
};

/* -- claims ------------------------------------------------------------------------------------ */

static double loss_of(const struct study_results *r, const char *panel, const char *name)
{
    return curve_last(study_find(r, panel, name), COLUMN_LOSS);
}

static double loss_at_300(const struct study_results *r, size_t run)
{
    return curve_at_time(&r->curve[run], 300, COLUMN_LOSS);
}

static bool feedback_alone_is_worse(const struct study_results *r, char *measured, size_t size)
{
    double ef = loss_of(r, LARGE, "EF (lam=0)"), def = loss_of(r, LARGE, "DEF (lam=0.3)");
    snprintf(measured, size, "loss %.4f (EF) against %.4f (DEF): %.2f times", ef, def, ef / def);
    return ef > 1.2 * def;
}

static bool average_leads_early(const struct study_results *r, char *measured, size_t size)
{
    double x[2], y[2];
    static const char *const panels[] = {LARGE, SMALL};
    for (size_t k = 0; k < 2; k++) {
        x[k] = curve_at_time(study_find(r, panels[k], "DEF (lam=0.3)"), 300, COLUMN_LOSS);
        y[k] = curve_at_time(study_find(r, panels[k], "DEF-A (lam=0.3)"), 300, COLUMN_LOSS);
    }
    snprintf(measured, size, "after 300 rounds %.4f against %.4f (step 0.03), %.4f against %.4f (step 0.002)",
             y[0], x[0], y[1], x[1]);
    return y[0] < x[0] && y[1] < x[1];
}

static bool average_agrees_late(const struct study_results *r, char *measured, size_t size)
{
    double x = loss_of(r, LARGE, "DEF (lam=0.3)"), y = loss_of(r, LARGE, "DEF-A (lam=0.3)");
    snprintf(measured, size, "loss %.5f (DEF) and %.5f (DEF-A)", x, y);
    return fabs(y / x - 1) < 1e-3;
}

static bool lam_does_not_matter(const struct study_results *r, char *measured, size_t size)
{
    double ef = loss_of(r, SMALL, "EF (lam=0)"), def = loss_of(r, SMALL, "DEF (lam=0.3)");
    double ahead = loss_of(r, SMALL, "step-ahead (lam=1)");
    snprintf(measured, size, "loss %.4f, %.4f, %.4f with lam = 0, 0.3, 1", ef, def, ahead);
    return fmax(ef, fmax(def, ahead)) / fmin(ef, fmin(def, ahead)) < 1.01;
}

static bool bytes_are_saved(const struct study_results *r, char *measured, size_t size)
{
    const struct study_curve *whole = study_find(r, LARGE, "uncompressed"),
                             *def = study_find(r, LARGE, "DEF (lam=0.3)");
    double factor = curve_last(whole, COLUMN_BYTES) / curve_last(def, COLUMN_BYTES);
    double loss = curve_last(def, COLUMN_LOSS), loss_whole = curve_last(whole, COLUMN_LOSS);
    snprintf(measured, size, "loss %.4f against %.4f (%+.2f %%); %.1f times fewer bytes", loss, loss_whole,
             100 * (loss / loss_whole - 1), factor);
    return loss < 1.01 * loss_whole && factor > 2;
}

#define TOY "; a logistic toy problem of ours, step 0.1"

static const struct study_claim claims[] = {
    {"a look-ahead saves error feedback at a large step", "0.284 (EF) against 0.2156 (DEF)" TOY,
     feedback_alone_is_worse},
    {"DEF-A leads early", "after 301 rounds 0.307 at x - mean e against 0.351 at x" TOY, average_leads_early},
    {"DEF and DEF-A end alike", "they agree to 3 digits" TOY, average_agrees_late},
    {"at a small step lam does not matter", "all lam agree within 1 % (step 0.01)", lam_does_not_matter},
    {"DEF is as good as sending everything", "1/64 of the entries; no loss of accuracy (the paper's aim)",
     bytes_are_saved},
};

static const struct study_plot plots[] = {
    {LARGE, "step 0.03: which compressed method keeps up?", COLUMN_VIRTUAL_S, COLUMN_LOSS, 0, NULL, false,
     true},
    {SMALL, "step 0.002", COLUMN_VIRTUAL_S, COLUMN_LOSS, 0, NULL, false, true},
    {LARGE, "step 0.03: bytes", COLUMN_BYTES, COLUMN_LOSS, 0, NULL, true, true},
    {SMALL, "step 0.002: bytes", COLUMN_BYTES, COLUMN_LOSS, 0, NULL, true, true},
};

const struct study study_def = {
    .name = "def",
    .title = "DEF: a look-ahead of 0.3 of the residual saves error feedback at a large step",
    .source = "Xu, Huang: Detached Error Feedback, arXiv:2004.05298; figures of a toy problem of ours",
    .setting =
        "logistic regression on a9a, 8 nodes, batch 16, momentum 0.9, l2 = 5e-4, 1/64 of the entries, step\n"
        "falling by half a cosine over 3000 rounds; one round a (virtual) second. That lam = 0.3 beats\n"
        "lam = 1 is said of deep networks; here lam = 1 is at least as good.\n",
    .common = "-n 8 --topology complete --task logistic:l2=0.0005 --data @a9a --batch 16 --momentum 0.9 "
              "--latency fixed:delay=0 --steps 3000 --report-every 25",
    .quick = "--steps 2000",
    .run = runs,
    .run_count = COUNT_OF(runs),
    .claim = claims,
    .claim_count = COUNT_OF(claims),
    .plot = plots,
    .plot_count = COUNT_OF(plots),
    .measure = {{"loss at 300", loss_at_300}},
};
