/* The list of studies and the questions that claims ask of curves. */
#include "agent/reproduce/study.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/reproduce/list.h"
#include "base/check.h"

const struct study *const studies[] = {
    &study_digest, &study_delicoco, &study_def, &study_hsgd, &study_async, &study_bytes,
};
const size_t study_count = sizeof studies / sizeof studies[0];

const struct study *study_by_name(const char *name)
{
    for (size_t i = 0; i < study_count; i++)
        if (strcmp(studies[i]->name, name) == 0) return studies[i];
    return NULL;
}

void study_widths(const struct study *s, int *panel, int *run)
{
    size_t widest_panel = 0, widest_run = 0;
    for (size_t i = 0; i < s->run_count; i++) {
        size_t p = strlen(s->run[i].panel), r = strlen(s->run[i].name);
        if (p > widest_panel) widest_panel = p;
        if (r > widest_run) widest_run = r;
    }
    *panel = (int)widest_panel;
    *run = (int)widest_run;
}

const char *const study_column_names[COLUMN_COUNT] = {
    [COLUMN_VIRTUAL_S] = "virtual_s",
    [COLUMN_STEPS] = "steps",
    [COLUMN_ROUNDS] = "rounds",
    [COLUMN_TRANSFERS] = "transfers",
    [COLUMN_BYTES] = "bytes",
    [COLUMN_LOSS] = "loss",
    [COLUMN_ACCURACY] = "accuracy",
    [COLUMN_DISTANCE] = "consensus_distance",
    [COLUMN_GRADIENT] = "gradient_norm",
    [COLUMN_DELAY_SUM] = "delay_sum",
    [COLUMN_DELAY_MAX] = "delay_max",
    [COLUMN_DIVERGENCE_UP] = "divergence_up",
    [COLUMN_DIVERGENCE_DOWN] = "divergence_down",
    [COLUMN_BYTES_ACROSS] = "bytes_across",
};

/* -- results ----------------------------------------------------------------------------------- */

void study_results_init(struct study_results *r, const struct study *study, bool quick)
{
    *r = (struct study_results){.study = study, .quick = quick};
    r->curve = mem_new_zero(study->run_count, sizeof *r->curve);
}

void study_results_deinit(struct study_results *r)
{
    for (size_t i = 0; i < r->study->run_count; i++) free(r->curve[i].point);
    free(r->curve);
    *r = (struct study_results){0};
}

void study_curve_add(struct study_curve *c, const struct study_point *p)
{
    if (c->count == c->capacity) {
        c->capacity = c->capacity > 0 ? 2 * c->capacity : 64;
        c->point = mem_resize(c->point, c->capacity, sizeof *c->point);
    }
    c->point[c->count++] = *p;
}

/* -- questions --------------------------------------------------------------------------------- */

const struct study_curve *study_find(const struct study_results *r, const char *panel, const char *name)
{
    const struct study *s = r->study;
    size_t i = 0;
    while (i < s->run_count && (strcmp(s->run[i].panel, panel) != 0 || strcmp(s->run[i].name, name) != 0))
        i++;
    CHECK(i < s->run_count);
    return &r->curve[i];
}

double curve_last(const struct study_curve *c, enum study_column column)
{
    return c->count > 0 ? c->point[c->count - 1].value[column] : (double)NAN;
}

double curve_at_loss(const struct study_curve *c, double loss, enum study_column column)
{
    for (uint32_t i = 0; i < c->count; i++)
        if (c->point[i].value[COLUMN_LOSS] <= loss) return c->point[i].value[column];
    return (double)NAN;
}

double curve_at_time(const struct study_curve *c, double virtual_s, enum study_column column)
{
    for (uint32_t i = 0; i < c->count; i++)
        if (c->point[i].value[COLUMN_VIRTUAL_S] >= virtual_s) return c->point[i].value[column];
    return curve_last(c, column);
}

double curve_tail(const struct study_curve *c, double share, enum study_column column)
{
    uint32_t points = (uint32_t)(share * c->count);
    if (points == 0) points = 1;
    if (c->count == 0) return (double)NAN;
    double sum = 0;
    for (uint32_t i = c->count - points; i < c->count; i++) sum += c->point[i].value[column];
    return sum / points;
}
