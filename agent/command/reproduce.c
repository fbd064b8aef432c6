/* `gadabout reproduce STUDY`: repeats a published comparison in the simulator and judges its claims.
 *
 * Normal course
 *  - the study's runs go a few at a time, each in a process of its own; then the table of runs and one verdict
 *    per claim are printed, and runs.csv, curves.csv, claims.json, plot.gp written to the run directory.
 *  - gnuplot, if it is installed, draws plot.svg there.
 *  - exit 0 when all claims hold, 3 when one does not.
 * Failure courses
 *  - an unknown study, a data set that is missing, --out that cannot be written: one line, exit 2.
 *  - a run fails: one line, claims are not judged, what was measured is written, exit 1.
 *  - Ctrl-C: running ones come to an end, what was measured is written, exit 130; a second one kills.
 *  - gnuplot is not there: one line that says how to draw later; no other consequence. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/command/commands.h"
#include "agent/files/interrupt.h"
#include "agent/files/rundir.h"
#include "agent/report/progress.h"
#include "agent/reproduce/study.h"
#include "base/check.h"

static int complain(const char *text, int status)
{
    fprintf(stderr, "gadabout: %s\n", text);
    return status;
}

static int unknown_study(const char *word)
{
    const char **names = mem_new(study_count, sizeof *names);
    char text[512] = "";
    for (size_t i = 0; i < study_count; i++) {
        names[i] = studies[i]->name;
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "%s%s", i > 0 ? ", " : "", names[i]);
    }
    const char *near = nearest_word(word, names, study_count);
    char line[1024];
    if (near != NULL)
        snprintf(line, sizeof line, "'%.200s' is not a study, did you mean '%s'?", word, near);
    else
        snprintf(line, sizeof line, "'%.200s' is not a study; there are %s", word, text);
    free(names);
    return complain(line, EXIT_USAGE);
}

static void say_plot(const char *path)
{
    switch (study_draw(path)) {
    case 0:
        printf("drawn in %s/plot.svg\n", path);
        break;
    case ERR_NOT_FOUND:
        printf("plot not drawn: gnuplot is not installed; apt install gnuplot-nox, then in %s: gnuplot "
               "plot.gp\n",
               path);
        break;
    default:
        printf("plot not drawn: gnuplot failed; in %s: gnuplot plot.gp says why\n", path);
    }
}

static int finish(const struct study_results *r, const char *path)
{
    const struct study *s = r->study;
    struct study_verdict *verdict = mem_new_zero(s->claim_count + 1, sizeof *verdict);
    struct err_text why = {""};
    study_judge(r, verdict);
    int status = study_exit_status(r, verdict);
    study_print_runs(r, stdout);
    printf("\n");
    study_print_verdicts(r, verdict, stdout);
    int err = study_write_all(r, verdict, path, &why);
    free(verdict);
    if (err != 0) return complain(why.text, EXIT_FAILED);
    printf("\n");
    if (!interrupted()) say_plot(path);
    printf("results in %s\n", path);
    if (fflush(stdout) != 0) return complain("cannot write to stdout", EXIT_FAILED);
    return status;
}

int command_reproduce(struct config *config)
{
    const struct study *s = study_by_name(config->study);
    if (s == NULL) return unknown_study(config->study);
    struct study_results results;
    struct err_text why = {""};
    char stem[64], *path = NULL;
    snprintf(stem, sizeof stem, "reproduce-%s", s->name);
    study_results_init(&results, s, config->quick);
    int status = EXIT_USAGE, err = study_check(s, config, &why);
    if (err == 0) err = rundir_make(config->out, stem, &path, &why);
    if (err == 0) {
        printf("%s%s\n%s\n%s\n", s->title, config->quick ? " (quick)" : "", s->source, s->setting);
        interrupt_catch();
        err = study_run_all(&results, config, &why);
        if (err == 0 || err == ERR_CLOSED) {
            printf("\n");
            status = finish(&results, path);
        }
    }
    if (err != 0 && err != ERR_CLOSED) status = complain(why.text, EXIT_USAGE);
    free(path);
    study_results_deinit(&results);
    return status;
}
