/* The picture of a study: a script for gnuplot that reads curves.csv beside it, and the run of gnuplot.
 *
 * Normal course
 *  - one panel per question, at most two in a row; runs of one name have one colour in all panels; the legend
 *    stands below all panels; the title says what the study shows and how many claims hold.
 *  - `gnuplot plot.gp` in the run directory draws plot.svg, `gnuplot -e png=1 plot.gp` plot.png.
 * Failure courses
 *  - gnuplot is not installed or fails: the study is complete without the picture. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/reproduce/study.h"
#include "base/check.h"

enum { NOT_INSTALLED = 127, STYLE_COUNT = 10 };

#define PANEL_HEIGHT 360
#define WIDTH 1120
#define TITLE_HEIGHT 80
#define LEGEND_LINE 24
#define LEGEND_SAMPLE 70 /* of a line, with space around it */
#define LEGEND_LETTER 8

static const char *const axis_texts[COLUMN_COUNT] = {
    [COLUMN_VIRTUAL_S] = "virtual time (s)",
    [COLUMN_STEPS] = "local steps, all nodes",
    [COLUMN_ROUNDS] = "rounds or updates, sum over nodes",
    [COLUMN_TRANSFERS] = "models sent, all nodes",
    [COLUMN_BYTES] = "bytes sent, all nodes",
    [COLUMN_LOSS] = "training loss",
    [COLUMN_ACCURACY] = "training accuracy",
    [COLUMN_DISTANCE] = "consensus distance",
    [COLUMN_GRADIENT] = "norm of the full gradient",
    [COLUMN_DELAY_SUM] = "delays, sum (updates)",
    [COLUMN_DELAY_MAX] = "greatest delay (updates)",
    [COLUMN_DIVERGENCE_UP] = "divergence of groups",
    [COLUMN_DIVERGENCE_DOWN] = "divergence within groups",
    [COLUMN_BYTES_ACROSS] = "bytes sent between groups",
};

/* Colours that also those tell apart who do not see red and green (Okabe and Ito 2008); then dashed. */
static const char *const colours[STYLE_COUNT] = {
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000",
    "#E69F00", "#56B4E9", "#882255", "#999933", "#777777",
};

/* -- styles ------------------------------------------------------------------------------------ */

static bool is_first_of_name(const struct study *s, size_t run)
{
    for (size_t i = 0; i < run; i++)
        if (strcmp(s->run[i].name, s->run[run].name) == 0) return false;
    return true;
}

/* Number of the run's name among the different names of the study, from 1. */
static size_t style_of(const struct study *s, size_t run)
{
    size_t style = 0, i = 0;
    for (; strcmp(s->run[i].name, s->run[run].name) != 0; i++) style += is_first_of_name(s, i);
    return style + 1;
}

/* What a run without any transfer needs of them is no question. */
static bool has_line(const struct study_curve *c, const struct study_plot *p)
{
    bool traffic = p->x == COLUMN_BYTES || p->x == COLUMN_TRANSFERS;
    if (p->x == COLUMN_BYTES_ACROSS && !(curve_last(c, p->x) > 0)) return false;
    return c->count > 0 && (!traffic || curve_last(c, COLUMN_TRANSFERS) > 0);
}

static bool is_drawn(const struct study *s, size_t run)
{
    for (size_t k = 0; k < s->plot_count; k++)
        if (strcmp(s->plot[k].panel, s->run[run].panel) == 0) return true;
    return false;
}

/* A gnuplot text in single quotes. */
static void write_quoted(const char *text, FILE *to)
{
    fputc('\'', to);
    for (; *text != '\0'; text++) {
        if (*text == '\'') fputc('\'', to);
        fputc(*text, to);
    }
    fputc('\'', to);
}

/* -- the script -------------------------------------------------------------------------------- */

/* Lines that the legend needs: its columns are as wide as the longest name. */
static size_t legend_lines(const struct study *s)
{
    size_t count = 0, longest = 0;
    for (size_t i = 0; i < s->run_count; i++) {
        if (!is_first_of_name(s, i) || !is_drawn(s, i)) continue;
        count++;
        if (strlen(s->run[i].name) > longest) longest = strlen(s->run[i].name);
    }
    size_t columns = WIDTH / (LEGEND_SAMPLE + LEGEND_LETTER * longest);
    if (columns == 0) columns = 1;
    return (count + columns - 1) / columns;
}

static void write_head(const struct study_results *r, const struct study_verdict *verdict, int height,
                       FILE *to)
{
    const struct study *s = r->study;
    size_t held = 0;
    for (size_t i = 0; i < s->claim_count; i++) held += verdict[i].verdict == VERDICT_HOLDS;
    fprintf(to,
            "# gnuplot plot.gp draws plot.svg; gnuplot -e png=1 plot.gp draws plot.png\n"
            "if (exists('png')) {\n"
            "    set terminal pngcairo size %d,%d font 'sans,11' noenhanced background 'white'\n"
            "    set output 'plot.png'\n"
            "} else {\n"
            "    set terminal svg size %d,%d font 'sans,13' noenhanced background 'white'\n"
            "    set output 'plot.svg'\n"
            "}\n"
            "set datafile separator ','\n"
            "set border 3 lc rgb '#444444'\n"
            "set tics nomirror out\n"
            "set grid lc rgb '#dddddd' lt 1 lw 0.7\n",
            WIDTH, height, WIDTH, height);
    for (size_t i = 0; i < STYLE_COUNT * 2; i++)
        fprintf(to, "set linetype %zu lc rgb '%s' lw 2 dt %d\n", i + 1, colours[i % STYLE_COUNT],
                i < STYLE_COUNT ? 1 : 2);
    char title[512];
    snprintf(title, sizeof title, "%s\n%zu of %zu claims hold%s", s->title, held, s->claim_count,
             r->quick ? " (quick: a smaller study)" : "");
    fprintf(to, "set multiplot title \"");
    for (const char *t = title; *t != '\0'; t++) {
        if (*t == '\n')
            fputs("\\n", to);
        else if (*t == '"' || *t == '\\')
            fprintf(to, "\\%c", *t);
        else
            fputc(*t, to);
    }
    fprintf(to, "\" font ',15'\n");
}

static double y_less_of(const struct study_results *r, const struct study_plot *p)
{
    return p->y_less_of != NULL ? p->y_less_of(r) : p->y_less;
}

/* Rows of a run in curves.csv: they stand together, in the order of the table. */
static uint32_t first_row(const struct study_results *r, size_t run)
{
    uint32_t row = 0;
    for (size_t i = 0; i < run; i++) row += r->curve[i].count;
    return row;
}

/* On a logarithmic axis of less than two decades gnuplot would label one value or none. */
static void write_log_tics(double low, double high, FILE *to)
{
    static const double fine[] = {1, 1.1, 1.2, 1.3, 1.5, 1.7, 2, 2.5, 3, 4, 5, 7}, coarse[] = {1, 2, 5};
    bool narrow = high / low < 4;
    const double *mantissa = narrow ? fine : coarse;
    size_t count = narrow ? sizeof fine / sizeof fine[0] : sizeof coarse / sizeof coarse[0];
    const char *comma = "set ytics (";
    for (double decade = pow(10, floor(log10(low))); decade <= high; decade *= 10)
        for (size_t i = 0; i < count; i++) {
            if (mantissa[i] * decade < low || mantissa[i] * decade > high) continue;
            fprintf(to, "%s%.6g", comma, mantissa[i] * decade);
            comma = ", ";
        }
    fprintf(to, strcmp(comma, ", ") == 0 ? ")\n" : "set ytics auto\n");
}

/* 5k, 10k where the labels are whole thousands. */
static const char *x_format(const struct study_results *r, const struct study_plot *p)
{
    double high = 0;
    for (size_t i = 0; i < r->study->run_count; i++)
        if (strcmp(r->study->run[i].panel, p->panel) == 0) high = fmax(high, curve_last(&r->curve[i], p->x));
    return p->log_x || high >= 1e4 ? "%.0s%c" : "%g";
}

static void write_range(const struct study_results *r, const struct study_plot *p, FILE *to)
{
    double low = INFINITY, high = -INFINITY, less = y_less_of(r, p);
    fprintf(to, "set yrange [*:*]\nset ytics auto\n");
    for (size_t i = 0; i < r->study->run_count; i++) {
        if (strcmp(r->study->run[i].panel, p->panel) != 0) continue;
        for (uint32_t k = 0; k < r->curve[i].count; k++) {
            double y = r->curve[i].point[k].value[p->y] - less;
            if (!isfinite(y) || y <= 0) continue;
            if (y < low) low = y;
            if (y > high) high = y;
        }
    }
    if (!p->log_y || !(low < high)) return;
    fprintf(to, "set yrange [%.6g:%.6g]\n", low * 0.98, high * 1.02);
    if (high / low < 100) write_log_tics(low, high, to);
}

static void write_curves_of(const struct study_results *r, const struct study_plot *p, FILE *to)
{
    const struct study *s = r->study;
    double less = y_less_of(r, p);
    const char *comma = "plot ";
    for (size_t i = 0; i < s->run_count; i++) {
        if (strcmp(s->run[i].panel, p->panel) != 0 || !has_line(&r->curve[i], p)) continue;
        uint32_t row = first_row(r, i);
        fprintf(to, "%s'curves.csv' skip 1 every ::%u::%u using %d:", comma, row, row + r->curve[i].count - 1,
                (int)p->x + 3);
        if (less != 0 && isfinite(less))
            fprintf(to, "($%d-(%.10g))", (int)p->y + 3, less);
        else
            fprintf(to, "%d", (int)p->y + 3);
        fprintf(to, " with lines lt %zu notitle", style_of(s, i));
        comma = ", \\\n     ";
    }
    fprintf(to, strcmp(comma, "plot ") == 0 ? "plot [0:1] [0:1] NaN notitle\n" : "\n");
}

struct grid {
    double left, width, top, height; /* of a panel, in shares of the screen */
};

static struct grid grid_of(const struct study *s, size_t k, double top, double bottom)
{
    size_t columns = s->plot_count > 1 ? 2 : 1, rows = (s->plot_count + columns - 1) / columns;
    double width = 1.0 / (double)columns, height = (top - bottom) / (double)rows;
    return (struct grid){
        .left = (double)(k % columns) * width,
        .width = width,
        .top = top - (double)(k / columns) * height,
        .height = height,
    };
}

static void write_panel(const struct study_results *r, size_t k, double top, double bottom, FILE *to)
{
    const struct study_plot *p = &r->study->plot[k];
    struct grid g = grid_of(r->study, k, top, bottom);
    fprintf(to, "\nset lmargin at screen %.4f\nset rmargin at screen %.4f\n", g.left + 0.085,
            g.left + g.width - 0.02);
    fprintf(to, "set tmargin at screen %.4f\nset bmargin at screen %.4f\n", g.top - 0.12 * g.height,
            g.top - g.height + 0.17 * g.height);
    fprintf(to, "set title ");
    write_quoted(p->title, to);
    fprintf(to, " font ',13' offset 0,-0.5\nset xlabel ");
    write_quoted(axis_texts[p->x], to);
    fprintf(to, " offset 0,0.4\nset ylabel ");
    char label[128];
    snprintf(label, sizeof label, "%s%s", axis_texts[p->y], y_less_of(r, p) != 0 ? " above the optimum" : "");
    write_quoted(label, to);
    fprintf(to, " offset 0,0\n%s logscale x\n%s logscale y\n", p->log_x ? "set" : "unset",
            p->log_y ? "set" : "unset");
    fprintf(to, "set format x '%s'\n", x_format(r, p));
    fprintf(to, "set format y '%s'\n", p->log_y && y_less_of(r, p) != 0 ? "%.0e" : "%g");
    write_range(r, p, to);
    write_curves_of(r, p, to);
}

/* An empty panel whose only content is the key. */
static void write_legend(const struct study *s, size_t lines, FILE *to)
{
    fprintf(to,
            "\nset lmargin at screen 0.02\nset rmargin at screen 0.98\nset tmargin at screen 0.1\n"
            "set bmargin at screen 0.01\nunset title\nunset xlabel\nunset ylabel\nunset border\nunset tics\n"
            "unset grid\nunset logscale\n"
            "set key at screen 0.5,screen 0.01 bottom center horizontal maxrows %zu width 1 samplen 2.5 Left "
            "reverse "
            "noenhanced "
            "font ',12'\n",
            lines);
    const char *comma = "plot [0:1] [0:1] ";
    for (size_t i = 0; i < s->run_count; i++) {
        if (!is_first_of_name(s, i) || !is_drawn(s, i)) continue;
        fprintf(to, "%sNaN with lines lt %zu lw 3 title ", comma, style_of(s, i));
        write_quoted(s->run[i].name, to);
        comma = ", \\\n     ";
    }
    fprintf(to, "\nunset multiplot\n");
}

int study_write_plot(const struct study_results *r, const struct study_verdict *verdict, FILE *to)
{
    const struct study *s = r->study;
    size_t rows = s->plot_count > 1 ? (s->plot_count + 1) / 2 : 1;
    size_t lines = legend_lines(s);
    int legend = (int)lines * LEGEND_LINE + 20, height = TITLE_HEIGHT + (int)rows * PANEL_HEIGHT + legend;
    write_head(r, verdict, height, to);
    double top = 1 - (double)TITLE_HEIGHT / height, bottom = (double)legend / height;
    for (size_t k = 0; k < s->plot_count; k++) write_panel(r, k, top, bottom, to);
    write_legend(s, lines, to);
    return fflush(to) == 0 && ferror(to) == 0 ? 0 : ERR_IO;
}

/* -- drawing ----------------------------------------------------------------------------------- */

_Noreturn static void become_gnuplot(const char *path)
{
    int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (nowhere >= 0) {
        dup2(nowhere, STDIN_FILENO);
        dup2(nowhere, STDOUT_FILENO);
        dup2(nowhere, STDERR_FILENO);
    }
    if (chdir(path) != 0) _exit(1);
    execlp("gnuplot", "gnuplot", "plot.gp", (char *)NULL);
    _exit(errno == ENOENT ? NOT_INSTALLED : 1);
}

int study_draw(const char *path)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) return ERR_IO;
    if (pid == 0) become_gnuplot(path);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_INSTALLED) return ERR_NOT_FOUND;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : ERR_IO;
}
