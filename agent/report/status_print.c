/* The table of `gadabout status`. What an agent does not know is "-". */
#include "agent/report/status_print.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/report/member_words.h"
#include "base/check.h"

#define ID_TEXT_MAX 24
#define DIGITS_MIN 4u
#define DIGITS_MAX 20u
#define MEMBER_FIXED 72 /* columns of a member's line without id and address */

/* -- figures ----------------------------------------------------------------------------------- */

void status_seconds(double s, char out[STATUS_FIGURE_MAX])
{
    static const struct {
        double below, unit;
        const char *name;
    } units[] = {{0.00095, 1e-6, "us"}, {0.995, 1e-3, "ms"}, {100, 1, "s"},
                 {6000, 60, "min"},     {360000, 3600, "h"}, {1e300, 86400, "d"}};
    if (!(s >= 0) || s >= 1e12) {
        snprintf(out, STATUS_FIGURE_MAX, "-");
        return;
    }
    size_t u = 0;
    while (s >= units[u].below) u++;
    double number = s / units[u].unit;
    snprintf(out, STATUS_FIGURE_MAX, "%.*f %s", number < 9.95 && u > 0 ? 1 : 0, number, units[u].name);
}

void status_bytes(double bytes, char out[STATUS_FIGURE_MAX])
{
    static const char *const names[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    if (!(bytes >= 0)) {
        snprintf(out, STATUS_FIGURE_MAX, "-");
        return;
    }
    size_t u = 0;
    while (bytes >= 999.5 && u + 1 < sizeof names / sizeof names[0]) {
        bytes /= 1000;
        u++;
    }
    if (bytes >= 999.5) {
        snprintf(out, STATUS_FIGURE_MAX, "> 999 EB");
        return;
    }
    int decimals = u == 0 || bytes >= 99.5 ? 0 : bytes >= 9.95 ? 1 : 2;
    snprintf(out, STATUS_FIGURE_MAX, "%.*f %s", decimals, bytes, names[u]);
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(a, b);
}

static unsigned common_digits(const char *a, const char *b)
{
    unsigned n = 0;
    while (a[n] != '\0' && a[n] == b[n]) n++;
    return n;
}

unsigned status_id_digits(const uint64_t *id, size_t count)
{
    unsigned digits = DIGITS_MIN;
    char(*text)[ID_TEXT_MAX] = mem_new(count, sizeof *text);
    for (size_t i = 0; i < count; i++) snprintf(text[i], sizeof text[i], "%" PRIu64, id[i]);
    if (count > 1) qsort(text, count, sizeof *text, compare_texts);
    for (size_t i = 1; i < count; i++) { /* in order, the nearest ones are neighbours */
        unsigned common = common_digits(text[i - 1], text[i]);
        if (strcmp(text[i - 1], text[i]) != 0 && common + 1 > digits) digits = common + 1;
    }
    free(text);
    return digits;
}

/* -- fields of an answer ----------------------------------------------------------------------- */

/* NAN when it is no number. */
static double number_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

static uint64_t count_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_integer(value) ? (uint64_t)json_integer_value(value) : 0;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL && text[0] != '\0' ? text : "-";
}

static void whole_of(const json_t *object, const char *key, char out[STATUS_FIGURE_MAX])
{
    double number = number_of(object, key);
    if (isnan(number))
        snprintf(out, STATUS_FIGURE_MAX, "-");
    else
        snprintf(out, STATUS_FIGURE_MAX, "%.0f", number);
}

static void number_cut(uint64_t number, unsigned digits, char out[ID_TEXT_MAX])
{
    snprintf(out, ID_TEXT_MAX, "%" PRIu64, number);
    if (strlen(out) > digits) out[digits] = '\0';
}

static void id_of(const json_t *object, unsigned digits, char out[ID_TEXT_MAX])
{
    number_cut(count_of(object, "id"), digits, out);
}

static const json_t *members_of(const struct status_answer *a)
{
    return json_object_get(a->reply, "members");
}

/* -- lines ------------------------------------------------------------------------------------- */

/* Cuts the host, keeps the port. */
static void fit_address(const char *address, size_t width, char *out)
{
    size_t length = strlen(address);
    const char *colon = strrchr(address, ':');
    if (length <= width || colon == NULL || strlen(colon) + 4 > width) {
        snprintf(out, width + 1, "%s", address);
        return;
    }
    size_t head = width - strlen(colon) - 2;
    memcpy(out, address, head);
    snprintf(out + head, width + 1 - head, "..%s", colon);
}

/* Where the part of `line` ends that fits: before the last two spaces, which stand between figures. */
static size_t fit_figures(const char *line, size_t length, size_t width)
{
    for (size_t end = length > width ? width : 0; end > 2; end--)
        if (line[end] == ' ' && line[end + 1] == ' ') return end;
    return length > width ? width : length;
}

/* What does not fit goes on in the next line: no figure is lost or cut through, unless it is as wide itself. */
static void print_figures(const char *line, FILE *to)
{
    size_t length = strlen(line), end = fit_figures(line, length, STATUS_COLUMNS);
    fprintf(to, "%.*s\n", (int)end, line);
    while (line[end] == ' ') {
        line += end + strspn(line + end, " ");
        length = strlen(line);
        end = fit_figures(line, length, STATUS_COLUMNS - 2);
        fprintf(to, "  %.*s\n", (int)end, line);
    }
}

static void print_agent(const json_t *r, unsigned digits, FILE *to)
{
    char line[512], id[ID_TEXT_MAX], place[STATUS_FIGURE_MAX], places[STATUS_FIGURE_MAX];
    char health[STATUS_FIGURE_MAX], loss[32] = "-", accuracy[32] = "", model[64] = "";
    uint64_t steps = count_of(r, "steps"), model_steps = count_of(r, "model_steps");
    id_of(r, digits, id);
    whole_of(r, "place", place);
    whole_of(r, "places", places);
    whole_of(r, "health", health);
    if (!isnan(number_of(r, "loss"))) snprintf(loss, sizeof loss, "%.4g", number_of(r, "loss"));
    if (!isnan(number_of(r, "accuracy")))
        snprintf(accuracy, sizeof accuracy, "  accuracy %.1f %%", 100 * number_of(r, "accuracy"));
    if (model_steps > steps) snprintf(model, sizeof model, " (its model %" PRIu64 ")", model_steps);
    snprintf(line, sizeof line,
             "agent %s  place %s of %s  %s  %" PRIu64 " steps%s  loss %s%s  health %s  %" PRIu64
             " links  %.*s",
             id, place, places, text_of(r, "phase"), steps, model, loss, accuracy, health,
             count_of(r, "links"), (int)strcspn(text_of(r, "algorithm"), ":"), text_of(r, "algorithm"));
    print_figures(line, to);
    const char *waits = json_string_value(json_object_get(r, "waits_for"));
    if (waits != NULL && waits[0] != '\0') fprintf(to, "  %.*s\n", STATUS_COLUMNS - 2, waits);
    if (!isnan(number_of(r, "fetched")))
        fprintf(to, "  %.0f %% of the model has come\n", 100 * number_of(r, "fetched"));
}

static void print_process(const json_t *r, FILE *to)
{
    char line[512], up[STATUS_FIGURE_MAX], sent[STATUS_FIGURE_MAX], received[STATUS_FIGURE_MAX];
    char memory[STATUS_FIGURE_MAX], saved[STATUS_FIGURE_MAX], address[STATUS_COLUMNS + 1];
    fit_address(text_of(r, "address"), 28, address);
    status_seconds(number_of(r, "uptime_s"), up);
    status_bytes(number_of(r, "bytes_sent"), sent);
    status_bytes(number_of(r, "bytes_received"), received);
    status_bytes(number_of(r, "memory_bytes"), memory);
    status_seconds(number_of(r, "checkpoint_age_s"), saved);
    snprintf(line, sizeof line, "  at %s  up %s  memory %s  saved %s%s  sent %s  received %s  pid %" PRIu64,
             address, up, memory, saved, saved[0] != '-' ? " ago" : "", sent, received, count_of(r, "pid"));
    print_figures(line, to);
}

/* Another process uses its id; nothing when none does. */
static void print_rival(const json_t *r, FILE *to)
{
    char line[512], address[STATUS_COLUMNS + 1];
    const char *at = json_string_value(json_object_get(r, "id_also_at"));
    if (at == NULL) return;
    fit_address(at, 24, address);
    snprintf(line, sizeof line, "  its id is used by another process%s%s: stop one, or give it another --id",
             at[0] != '\0' ? " at " : "", address);
    print_figures(line, to);
}

/* What it passes on for others; nothing when it has not. */
static void print_relays(const json_t *r, FILE *to)
{
    char line[512], bytes[STATUS_FIGURE_MAX];
    uint64_t relays = count_of(r, "relays"), refused = count_of(r, "relays_refused");
    if (relays == 0 && count_of(r, "relayed_messages") == 0 && refused == 0) return;
    status_bytes(number_of(r, "relayed_bytes"), bytes);
    int size = snprintf(line, sizeof line, "  relays for %" PRIu64 " pairs, %s so far", relays, bytes);
    if (refused > 0)
        snprintf(line + size, sizeof line - (size_t)size,
                 "; refused %" PRIu64 " calls: it has no room for more pairs", refused);
    print_figures(line, to);
}

/* Why it is doubted; false when it is not. */
static bool doubt_of(const json_t *m, unsigned digits, char out[MEMBER_WORDS_MAX])
{
    const json_t *doubt = json_object_get(m, "doubt");
    const char *named = json_string_value(json_object_get(doubt, "evidence"));
    char accuser[ID_TEXT_MAX] = "us";
    if (!json_is_object(doubt)) return false;
    enum member_evidence evidence = EVIDENCE_REFUSED;
    while (evidence > EVIDENCE_NONE && (named == NULL || strcmp(named, member_evidence_name(evidence)) != 0))
        evidence--;
    if (!json_is_true(json_object_get(doubt, "by_us")))
        number_cut(count_of(doubt, "accuser"), digits, accuser);
    if (isnan(number_of(doubt, "since_s"))) { /* it is over: dead */
        char what[MEMBER_WORDS_MAX];
        member_evidence_words(evidence, accuser, what);
        snprintf(out, MEMBER_WORDS_MAX, "taken for dead%s%.120s", what[0] != '\0' ? ": " : "", what);
        return true;
    }
    member_doubt_words(evidence, accuser, number_of(doubt, "since_s"),
                       (uint32_t)count_of(doubt, "confirmations"), (uint32_t)count_of(doubt, "wanted"), out);
    return true;
}

static void print_member(const json_t *m, unsigned digits, unsigned id_width, FILE *to)
{
    char id[ID_TEXT_MAX], place[STATUS_FIGURE_MAX], heard[STATUS_FIGURE_MAX], trip[STATUS_FIGURE_MAX];
    char queue[STATUS_FIGURE_MAX], in[STATUS_FIGURE_MAX], out[STATUS_FIGURE_MAX], address[STATUS_COLUMNS + 1];
    int address_width = STATUS_COLUMNS - MEMBER_FIXED - (int)id_width;
    id_of(m, digits, id);
    whole_of(m, "place", place);
    if (json_is_true(json_object_get(m, "keeper"))) snprintf(place, sizeof place, "keeps");
    status_seconds(number_of(m, "heard_s"), heard);
    status_seconds(number_of(m, "round_trip_s"), trip);
    status_bytes(number_of(m, "queue_bytes"), queue);
    status_bytes(number_of(m, "bytes_received"), in);
    status_bytes(number_of(m, "bytes_sent"), out);
    fit_address(text_of(m, "address"), (size_t)address_width, address);
    if (json_object_get(m, "relayed_by") != NULL) {
        char relayer[ID_TEXT_MAX];
        number_cut(count_of(m, "relayed_by"), digits, relayer);
        snprintf(address, sizeof address, "relayed by %s", relayer);
    }
    fprintf(to, "  %-*s %5s %-9.9s %-*s %7s %10s %8s %9s %9s\n", (int)id_width, id, place,
            text_of(m, "state"), address_width, address, heard, trip, queue, in, out);
    char why[MEMBER_WORDS_MAX];
    if (doubt_of(m, digits, why))
        fprintf(to, "  %*s  %.*s\n", (int)id_width, "", STATUS_COLUMNS - 4 - (int)id_width, why);
}

static void print_members(const json_t *members, unsigned digits, FILE *to)
{
    size_t i;
    const json_t *m;
    if (json_array_size(members) == 0) return;
    unsigned id_width = digits > 6 ? digits : 6;
    int address_width = STATUS_COLUMNS - MEMBER_FIXED - (int)id_width;
    fprintf(to, "  %-*s %5s %-9s %-*s %7s %10s %8s %9s %9s\n", (int)id_width, "member", "place", "state",
            address_width, "address", "heard", "round trip", "queue", "received", "sent");
    json_array_foreach((json_t *)(uintptr_t)members, i, m) print_member(m, digits, id_width, to);
}

static unsigned digits_of_all(const struct status_answer *answer, size_t count)
{
    size_t total = 0, used = 0, at;
    const json_t *m;
    for (size_t i = 0; i < count; i++) total += 1 + json_array_size(members_of(&answer[i]));
    uint64_t *id = mem_new(total, sizeof *id);
    for (size_t i = 0; i < count; i++) {
        if (answer[i].reply == NULL) continue;
        id[used++] = count_of(answer[i].reply, "id");
        json_array_foreach((json_t *)(uintptr_t)members_of(&answer[i]), at, m) id[used++] = count_of(m, "id");
    }
    unsigned digits = status_id_digits(id, used);
    free(id);
    return digits < DIGITS_MAX ? digits : DIGITS_MAX;
}

void status_print(const struct status_answer *answer, size_t count, FILE *to)
{
    unsigned digits = digits_of_all(answer, count);
    for (size_t i = 0; i < count; i++) {
        if (i > 0) fputc('\n', to);
        if (answer[i].reply == NULL) {
            fprintf(to, "%.*s\n", STATUS_COLUMNS, answer[i].why.text);
            continue;
        }
        print_agent(answer[i].reply, digits, to);
        print_process(answer[i].reply, to);
        print_rival(answer[i].reply, to);
        print_relays(answer[i].reply, to);
        print_members(members_of(&answer[i]), digits, to);
    }
}
