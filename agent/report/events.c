/* events.jsonl.
 *
 * Normal course
 *  - each call is at most one line, written at once: who follows the file sees it as it happens.
 * Failure courses
 *  - the disk is full: one line in the log, the rest of the events are lost, the agent goes on.
 *  - a link that comes and goes all the time: what is beyond EVENTS_LINK_MAX a second is counted, not written. The same
 *    of members that change all the time, as a peer may tell of ones that there are not. */
#include "agent/report/events.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/files/json.h"
#include "agent/node/places.h"
#include "agent/report/member_words.h"
#include "base/check.h"
#include "net/relay/relay.h"

#define ID_TEXT_MAX 24u

struct events {
    FILE *file;
    node_id id;
    const struct trace *trace;
    double (*now_s)(void *ctx);
    void *ctx;
    bool failed;

    node_id *peer; /* (peer_room) by slot of the link */
    uint32_t peer_room;
    double link_second; /* since when link_lines counts */
    uint32_t link_lines;
    uint64_t link_hidden;
    double member_lines, member_s; /* lines that may be written at once, by then */
    uint64_t member_hidden;

    bool reported; /* what follows is known */
    enum node_phase phase;
    rank_t place;
    uint64_t kept; /* steps behind the model */

    int fault_told;             /* greatest id of a fault whose begin is written */
    struct fault_status *fault; /* (fault_count) owned: begun and not ended, as last seen */
    uint32_t fault_count;
};

static double clock_s(void *ctx)
{
    struct timespec t;
    (void)ctx;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int events_open(const struct events_config *config, struct events **out, struct err_text *why)
{
    size_t size = strlen(config->folder) + sizeof "/events.jsonl";
    char *path = mem_new(size, 1);
    snprintf(path, size, "%s/events.jsonl", config->folder);
    FILE *file = fopen(path, "ae"); /* e: not for processes that we start */
    int err = file != NULL ? 0 : err_set(why, ERR_IO, "--out: cannot write %s: %s", path, strerror(errno));
    free(path);
    if (err != 0) return err;
    struct events *e = mem_new_zero(1, sizeof *e);
    e->file = file;
    e->id = config->id;
    e->trace = config->trace;
    e->now_s = config->now_s != NULL ? config->now_s : clock_s;
    e->member_lines = EVENTS_MEMBER_BURST;
    e->ctx = config->ctx;
    *out = e;
    return 0;
}

void events_close(struct events *e)
{
    if (e == NULL) return;
    fclose(e->file);
    free(e->peer);
    free(e->fault);
    free(e);
}

/* -- lines ------------------------------------------------------------------------------------- */

static json_t *line_new(struct events *e, const char *event)
{
    json_t *line = json_object();
    json_object_set_new(line, "t", json_real(e->now_s(e->ctx)));
    json_object_set_new(line, "event", json_string(event));
    return line;
}

static void put(json_t *line, const char *key, json_t *value)
{
    json_object_set_new(line, key, value);
}

/* Takes line. */
static void line_write(struct events *e, json_t *line)
{
    char *text = json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(line);
    CHECK(text != NULL);
    bool lost = fprintf(e->file, "%s\n", text) < 0 || fflush(e->file) != 0;
    free(text);
    if (!lost || e->failed) return;
    e->failed = true;
    trace_line(e->trace, TRACE_WARN, "events.jsonl: lines are lost; is the disk full?");
}

/* -- members ----------------------------------------------------------------------------------- */

static void accuser_words(const struct events *e, const struct member *m, char out[MEMBER_WORDS_MAX])
{
    char accuser[ID_TEXT_MAX] = "us";
    if (m->accuser != e->id) snprintf(accuser, sizeof accuser, "%" PRIu64, m->accuser);
    member_evidence_words(m->evidence, accuser, out);
}

static bool is_keeper(const struct member *m)
{
    return m->meta[META_PHASE] == NODE_KEEPING + 1;
}

static void say_member(struct events *e, const struct member *m, bool is_new, enum member_state before,
                       uint32_t confirmations)
{
    unsigned long long id = m->id;
    char why[MEMBER_WORDS_MAX];
    accuser_words(e, m, why);
    const char *colon = why[0] != '\0' ? ": " : "";
    switch (m->state) {
    case MEMBER_ALIVE:
        if (is_new)
            trace_line(e->trace, TRACE_INFO, "node %llu has joined%s%s%s", id,
                       is_keeper(m) ? " as a keeper" : "", m->address[0] != '\0' ? ", at " : "", m->address);
        else
            trace_line(e->trace, TRACE_INFO, "node %llu is %s", id,
                       before == MEMBER_SUSPECT ? "alive after all" : "back");
        return;
    case MEMBER_SUSPECT:
        trace_line(e->trace, TRACE_INFO, "node %llu is suspected%s%s", id, colon, why);
        return;
    case MEMBER_DEAD:
        if (confirmations > 0)
            trace_line(e->trace, TRACE_INFO, "node %llu is taken for dead%s%s; %u %s so too", id, colon, why,
                       confirmations, confirmations == 1 ? "other says" : "others say");
        else
            trace_line(e->trace, TRACE_INFO, "node %llu is taken for dead%s%s", id, colon, why);
        return;
    case MEMBER_LEFT:
        trace_line(e->trace, TRACE_INFO, "node %llu has left", id);
        return;
    }
    UNREACHABLE();
}

static bool member_may_speak(struct events *e)
{
    double now_s = e->now_s(e->ctx), passed_s = now_s - e->member_s;
    e->member_s = now_s;
    if (passed_s > 0) e->member_lines += passed_s * EVENTS_MEMBER_RATE;
    if (e->member_lines > EVENTS_MEMBER_BURST) e->member_lines = EVENTS_MEMBER_BURST;
    if (e->member_lines < 1) {
        e->member_hidden++;
        return false;
    }
    e->member_lines--;
    return true;
}

void events_member(struct events *e, const struct member *m, bool is_new, enum member_state before,
                   uint32_t confirmations)
{
    if (e == NULL || m->id == e->id || (!is_new && m->state == before)) return;
    if (!member_may_speak(e)) return;
    bool accused = m->state == MEMBER_SUSPECT || m->state == MEMBER_DEAD;
    json_t *line = line_new(e, "member");
    put(line, "id", json_count_or_null(m->id));
    put(line, "address", json_text_or_null(m->address));
    put(line, "from", json_string(is_new ? "" : member_state_name(before)));
    put(line, "to", json_string(member_state_name(m->state)));
    if (is_keeper(m)) put(line, "keeper", json_true());
    put(line, "accuser", accused ? json_count_or_null(m->accuser) : json_null());
    put(line, "evidence", json_string(accused ? member_evidence_name(m->evidence) : ""));
    put(line, "incarnation", json_count_or_null(m->incarnation));
    put(line, "confirmations", json_integer(confirmations));
    if (e->member_hidden > 0) put(line, "hidden", json_count_or_null(e->member_hidden));
    e->member_hidden = 0;
    line_write(e, line);
    say_member(e, m, is_new, before, confirmations);
}

/* -- links ------------------------------------------------------------------------------------- */

/* Whether a line about a link may be written now. */
static bool link_may_speak(struct events *e)
{
    double now_s = e->now_s(e->ctx);
    if (now_s < e->link_second || now_s >= e->link_second + 1) {
        e->link_second = now_s;
        e->link_lines = 0;
    }
    if (e->link_lines < EVENTS_LINK_MAX) {
        e->link_lines++;
        return true;
    }
    e->link_hidden++;
    return false;
}

static json_t *link_line(struct events *e, const char *what, node_id peer)
{
    json_t *line = line_new(e, "link");
    put(line, "to", json_string(what));
    put(line, "id", json_count_or_null(peer));
    if (e->link_hidden > 0) put(line, "hidden", json_count_or_null(e->link_hidden));
    e->link_hidden = 0;
    return line;
}

/* Position in the table: real links at the even ones, relayed ones between them; both count their slots from 0. */
static uint32_t peer_at(struct link_id link)
{
    return link.slot < RELAY_SLOT ? 2 * link.slot : 2 * (link.slot - RELAY_SLOT) + 1;
}

void events_link_up(struct events *e, struct link_id link, const struct peer_info *peer)
{
    if (e == NULL) return;
    uint32_t at = peer_at(link);
    if (at >= e->peer_room) {
        uint32_t room = 2 * at + 16;
        e->peer = mem_resize(e->peer, room, sizeof *e->peer);
        e->peer_room = room;
    }
    e->peer[at] = peer->id;
    if (!link_may_speak(e)) return;
    json_t *line = link_line(e, "up", peer->id);
    put(line, "address", json_text_or_null(peer->address));
    put(line, "dialled", json_boolean(peer->dialled));
    line_write(e, line);
}

void events_link_down(struct events *e, struct link_id link, enum down_reason why)
{
    if (e == NULL) return;
    CHECK(peer_at(link) < e->peer_room); /* every down follows an up */
    if (!link_may_speak(e)) return;
    json_t *line = link_line(e, "down", e->peer[peer_at(link)]);
    put(line, "why", json_string(down_reason_name(why)));
    line_write(e, line);
}

/* -- ourselves --------------------------------------------------------------------------------- */

void events_report(struct events *e, const struct node_report *r)
{
    if (e == NULL) return;
    bool first = !e->reported;
    e->reported = true;
    if (first ? r->place != RANK_NONE : r->place != e->place) {
        json_t *line = line_new(e, "place");
        put(line, "place", r->place != RANK_NONE ? json_integer(r->place) : json_null());
        line_write(e, line);
    }
    if (first || r->phase != e->phase) {
        json_t *line = line_new(e, "phase");
        put(line, "to", json_string(node_phase_name(r->phase)));
        put(line, "members", json_integer(r->members_known));
        put(line, "steps", json_count_or_null(r->algo.steps));
        line_write(e, line);
    }
    if (r->phase == NODE_KEEPING && r->progress != e->kept) {
        json_t *line = line_new(e, "kept");
        put(line, "steps", json_count_or_null(r->progress));
        line_write(e, line);
    }
    e->place = r->place;
    e->phase = r->phase;
    e->kept = r->progress;
}

void events_saved(struct events *e, uint64_t generation, const char *error)
{
    if (e == NULL) return;
    json_t *line = line_new(e, "saved");
    put(line, "ok", json_boolean(error == NULL));
    put(line, "generation", error == NULL ? json_count_or_null(generation) : json_null());
    if (error != NULL) put(line, "why", json_text_or_null(error));
    line_write(e, line);
}

static void fault_line(struct events *e, const struct fault_status *f, bool begun)
{
    char text[FAULT_TEXT_MAX];
    fault_rule_print(&f->rule, text);
    json_t *line = line_new(e, "fault");
    put(line, "to", json_string(begun ? "begun" : "ended"));
    put(line, "fault", json_integer(f->id));
    put(line, "text", json_string(text));
    line_write(e, line);
}

/* Is it still in force? One that the transport tells of no more has ended, and made room. */
static bool fault_lasts(const struct fault_status *f, const struct fault_status *all, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (all[i].id == f->id) return !all[i].ended;
    return false;
}

void events_faults(struct events *e, const struct fault_status *all, uint32_t count)
{
    if (e == NULL) return;
    int told = e->fault_told;
    for (uint32_t i = 0; i < count; i++) {
        if (all[i].id <= told) continue;
        fault_line(e, &all[i], true);
        if (all[i].id > e->fault_told) e->fault_told = all[i].id;
        e->fault = mem_resize(e->fault, e->fault_count + 1, sizeof *e->fault);
        e->fault[e->fault_count++] = all[i];
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < e->fault_count; i++) {
        if (fault_lasts(&e->fault[i], all, count))
            e->fault[kept++] = e->fault[i];
        else
            fault_line(e, &e->fault[i], false);
    }
    e->fault_count = kept;
}

void events_left(struct events *e, const char *why)
{
    if (e == NULL) return;
    json_t *line = line_new(e, "left");
    put(line, "why", json_text_or_null(why));
    line_write(e, line);
}
