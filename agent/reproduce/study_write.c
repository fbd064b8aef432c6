/* The files that a study leaves: runs.csv, curves.csv, claims.json, plot.gp.
 *
 * Failure courses
 *  - a file cannot be written: ERR_IO naming it; each file is whole or not there. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/files/atomic_file.h"
#include "agent/files/json.h"
#include "agent/reproduce/study.h"
#include "base/check.h"

/* -- CSV --------------------------------------------------------------------------------------- */

/* A field in quotes where it needs them (RFC 4180). */
static void write_text(const char *text, FILE *to)
{
    if (strpbrk(text, ",\"\n") == NULL) {
        fputs(text, to);
        return;
    }
    fputc('"', to);
    for (; *text != '\0'; text++) {
        if (*text == '"') fputc('"', to);
        fputc(*text, to);
    }
    fputc('"', to);
}

/* What is not known is an empty field. */
static void write_number(double value, FILE *to)
{
    fputc(',', to);
    if (isfinite(value)) fprintf(to, "%.10g", value);
}

static const char *state_word(enum run_state state)
{
    switch (state) {
    case RUN_WAITING:
        return "not run";
    case RUN_GOING:
    case RUN_CUT:
        return "cut short";
    case RUN_DONE:
        return "done";
    case RUN_FAILED:
        return "failed";
    }
    UNREACHABLE();
}

int study_write_runs(const struct study_results *r, FILE *to)
{
    const struct study *s = r->study;
    fprintf(to, "panel,run,state,wall_s");
    for (int c = 0; c < COLUMN_COUNT; c++) fprintf(to, ",%s", study_column_names[c]);
    for (size_t m = 0; m < STUDY_MEASURE_MAX && s->measure[m].title != NULL; m++) {
        fputc(',', to);
        write_text(s->measure[m].title, to);
    }
    fprintf(to, ",options\n");
    for (size_t i = 0; i < s->run_count; i++) {
        const struct study_curve *curve = &r->curve[i];
        write_text(s->run[i].panel, to);
        fputc(',', to);
        write_text(s->run[i].name, to);
        fprintf(to, ",%s", state_word(curve->state));
        write_number(curve->wall_s, to);
        for (int c = 0; c < COLUMN_COUNT; c++) write_number(curve_last(curve, (enum study_column)c), to);
        for (size_t m = 0; m < STUDY_MEASURE_MAX && s->measure[m].title != NULL; m++)
            write_number(curve->state == RUN_DONE ? s->measure[m].of(r, i) : (double)NAN, to);
        fputc(',', to);
        write_text(s->run[i].options, to);
        fputc('\n', to);
    }
    return fflush(to) == 0 && ferror(to) == 0 ? 0 : ERR_IO;
}

int study_write_curves(const struct study_results *r, FILE *to)
{
    fprintf(to, "panel,run");
    for (int c = 0; c < COLUMN_COUNT; c++) fprintf(to, ",%s", study_column_names[c]);
    fputc('\n', to);
    for (size_t i = 0; i < r->study->run_count; i++)
        for (uint32_t k = 0; k < r->curve[i].count; k++) {
            write_text(r->study->run[i].panel, to);
            fputc(',', to);
            write_text(r->study->run[i].name, to);
            for (int c = 0; c < COLUMN_COUNT; c++) write_number(r->curve[i].point[k].value[c], to);
            fputc('\n', to);
        }
    return fflush(to) == 0 && ferror(to) == 0 ? 0 : ERR_IO;
}

/* -- claims ------------------------------------------------------------------------------------ */

int study_write_claims(const struct study_results *r, const struct study_verdict *verdict, FILE *to)
{
    static const char *const words[] = {"holds", "does not hold", "unknown"};
    const struct study *s = r->study;
    json_t *o = json_object(), *claims = json_array();
    json_object_set_new(o, "version", json_string(GADABOUT_VERSION));
    json_object_set_new(o, "study", json_string(s->name));
    json_object_set_new(o, "source", json_text_or_null(s->source));
    json_object_set_new(o, "quick", json_boolean(r->quick));
    for (size_t i = 0; i < s->claim_count; i++) {
        json_t *c = json_object();
        json_object_set_new(c, "claim", json_text_or_null(s->claim[i].name));
        json_object_set_new(c, "verdict", json_string(words[verdict[i].verdict]));
        json_object_set_new(c, "measured", json_text_or_null(verdict[i].measured));
        json_object_set_new(c, "published", json_text_or_null(s->claim[i].published));
        json_array_append_new(claims, c);
    }
    json_object_set_new(o, "claims", claims);
    int failed = json_dumpf(o, to, JSON_INDENT(2));
    json_decref(o);
    return failed == 0 && fputc('\n', to) != EOF && fflush(to) == 0 ? 0 : ERR_IO;
}

/* -- all --------------------------------------------------------------------------------------- */

static int write_runs(const struct study_results *r, const struct study_verdict *verdict, FILE *to)
{
    (void)verdict;
    return study_write_runs(r, to);
}

static int write_curves(const struct study_results *r, const struct study_verdict *verdict, FILE *to)
{
    (void)verdict;
    return study_write_curves(r, to);
}

int study_write_all(const struct study_results *r, const struct study_verdict *verdict, const char *path,
                    struct err_text *why)
{
    static const struct {
        const char *name;
        int (*write)(const struct study_results *r, const struct study_verdict *verdict, FILE *to);
    } files[] = {
        {"runs.csv", write_runs},
        {"curves.csv", write_curves},
        {"plot.gp", study_write_plot},
        {"claims.json", study_write_claims}, /* the last: where it is, the study is complete */
    };
    int err = 0;
    for (size_t i = 0; i < sizeof files / sizeof files[0] && err == 0; i++) {
        size_t size = strlen(path) + strlen(files[i].name) + 2;
        char *name = mem_new(size, 1);
        snprintf(name, size, "%s/%s", path, files[i].name);
        struct atomic_file f;
        err = atomic_file_open(name, &f, why);
        if (err == 0 && files[i].write(r, verdict, f.stream) != 0) {
            atomic_file_abandon(&f);
            err = err_set(why, ERR_IO, "cannot write %s; is the disk full?", name);
        } else if (err == 0) {
            err = atomic_file_commit(&f, why);
        }
        free(name);
    }
    return err;
}
