/* Verdicts, and what is printed: a table of runs, one line per claim. */
#include <math.h>
#include <string.h>

#include "agent/command/commands.h"
#include "agent/reproduce/study.h"

/* -- verdicts ---------------------------------------------------------------------------------- */

static bool is_complete(const struct study_results *r)
{
    for (size_t i = 0; i < r->study->run_count; i++)
        if (r->curve[i].state != RUN_DONE) return false;
    return true;
}

void study_judge(const struct study_results *r, struct study_verdict *verdict)
{
    bool complete = is_complete(r);
    for (size_t i = 0; i < r->study->claim_count; i++) {
        struct study_verdict *v = &verdict[i];
        *v = (struct study_verdict){.verdict = VERDICT_UNKNOWN};
        if (!complete) {
            snprintf(v->measured, sizeof v->measured, "not judged: a run is not complete");
            continue;
        }
        v->verdict =
            r->study->claim[i].holds(r, v->measured, sizeof v->measured) ? VERDICT_HOLDS : VERDICT_FAILS;
    }
}

int study_exit_status(const struct study_results *r, const struct study_verdict *verdict)
{
    int status = EXIT_DONE;
    for (size_t i = 0; i < r->study->claim_count; i++)
        if (verdict[i].verdict == VERDICT_FAILS) status = EXIT_NOT_REACHED;
    for (size_t i = 0; i < r->study->run_count; i++) {
        if (r->curve[i].state == RUN_FAILED) return EXIT_FAILED;
        if (r->curve[i].state != RUN_DONE) status = EXIT_INTERRUPTED;
    }
    return status;
}

/* -- for people -------------------------------------------------------------------------------- */

/* A count in four digits and a letter: 24.71 k, 1.098 M. */
static const char *short_count(double count, char out[16])
{
    static const char letters[] = " kMGT";
    size_t i = 0;
    if (isnan(count)) return "-";
    while (count >= 1000 && letters[i + 1] != '\0') {
        count /= 1000;
        i++;
    }
    snprintf(out, 16, i == 0 ? "%.0f " : "%.4g %c", count, letters[i]);
    return out;
}

static const char *state_text(const struct study_curve *c)
{
    switch (c->state) {
    case RUN_DONE:
        return "";
    case RUN_CUT:
    case RUN_GOING:
        return "  cut short";
    case RUN_FAILED:
        return "  failed";
    case RUN_WAITING:
        return "  not run";
    }
    return "";
}

static void print_row(const struct study_results *r, size_t i, FILE *to)
{
    const struct study_run *row = &r->study->run[i];
    const struct study_curve *c = &r->curve[i];
    char time[16], bytes[16], transfers[16], loss[24] = "-";
    int panel, name;
    study_widths(r->study, &panel, &name);
    if (c->count > 0) snprintf(loss, sizeof loss, "%.5f", curve_last(c, COLUMN_LOSS));
    fprintf(to, "%-*s  %-*s %9s %9s %9s %9s", panel, row->panel, name, row->name, loss,
            short_count(curve_last(c, COLUMN_VIRTUAL_S), time),
            short_count(curve_last(c, COLUMN_BYTES), bytes),
            short_count(curve_last(c, COLUMN_TRANSFERS), transfers));
    double accuracy = curve_last(c, COLUMN_ACCURACY);
    if (isnan(accuracy))
        fprintf(to, " %9s", "-");
    else
        fprintf(to, " %7.2f %%", 100 * accuracy);
    for (size_t m = 0; m < STUDY_MEASURE_MAX && r->study->measure[m].title != NULL; m++) {
        double value = c->state == RUN_DONE ? r->study->measure[m].of(r, i) : (double)NAN;
        char text[24] = "-";
        if (!isnan(value)) snprintf(text, sizeof text, "%.5g", value);
        fprintf(to, " %14s", text);
    }
    fprintf(to, "%s\n", state_text(c));
}

void study_print_runs(const struct study_results *r, FILE *to)
{
    int panel, name;
    study_widths(r->study, &panel, &name);
    fprintf(to, "%-*s  %-*s %9s %9s %9s %9s %9s", panel, "", name, "", "loss", "virtual s", "bytes",
            "transfers", "accuracy");
    for (size_t m = 0; m < STUDY_MEASURE_MAX && r->study->measure[m].title != NULL; m++)
        fprintf(to, " %14s", r->study->measure[m].title);
    fprintf(to, "\n");
    for (size_t i = 0; i < r->study->run_count; i++) print_row(r, i, to);
}

void study_print_verdicts(const struct study_results *r, const struct study_verdict *verdict, FILE *to)
{
    static const char *const words[] = {"holds", "does not hold", "unknown"};
    for (size_t i = 0; i < r->study->claim_count; i++) {
        const struct study_claim *c = &r->study->claim[i];
        fprintf(to, "%-13s  %s: %s\n               published: %s\n", words[verdict[i].verdict], c->name,
                verdict[i].measured, c->published);
    }
}
