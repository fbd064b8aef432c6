/* Goal: what happens is one JSON line each, with what the chaos suite judges by, and words for people; nothing is
 * written that is no change, and a link that flaps cannot fill the disk. Method: events into a temporary folder with
 * a clock that the test sets; the lines are parsed back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "agent/node/places.h"
#include "agent/report/events.h"
#include "agent/report/member_words.h"
#include "base/check.h"

struct diary {
    char folder[64], path[96];
    double now_s;
    char said[8192]; /* trace lines */
    struct trace trace;
    struct events *events;
};

static double diary_clock(void *ctx)
{
    return ((struct diary *)ctx)->now_s;
}

static void diary_line(void *ctx, enum trace_level level, const char *text)
{
    struct diary *d = ctx;
    (void)level;
    size_t used = strlen(d->said);
    snprintf(d->said + used, sizeof d->said - used, "%s\n", text);
}

static void diary_open(struct diary *d)
{
    *d = (struct diary){.folder = "/tmp/gadabout-events-XXXXXX", .now_s = 1000.25};
    assert_non_null(mkdtemp(d->folder));
    snprintf(d->path, sizeof d->path, "%s/events.jsonl", d->folder);
    d->trace = (struct trace){.level = TRACE_DEBUG, .line = diary_line, .ctx = d};
    struct events_config config = {
        .folder = d->folder, .id = 7, .trace = &d->trace, .now_s = diary_clock, .ctx = d};
    assert_int_equal(events_open(&config, &d->events, NULL), 0);
}

static void diary_close(struct diary *d)
{
    events_close(d->events);
    unlink(d->path);
    rmdir(d->folder);
}

/* All lines so far, as an array: read while the file is open, as one who follows it does. */
static json_t *diary_read(const struct diary *d)
{
    char line[2048];
    json_t *all = json_array();
    FILE *f = fopen(d->path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL) {
        json_t *one = json_loads(line, 0, NULL);
        assert_non_null(one);
        json_array_append_new(all, one);
    }
    fclose(f);
    return all;
}

static const char *text_at(const json_t *all, size_t at, const char *key)
{
    const char *text = json_string_value(json_object_get(json_array_get(all, at), key));
    return text != NULL ? text : "(none)";
}

static json_int_t number_at(const json_t *all, size_t at, const char *key)
{
    const json_t *value = json_object_get(json_array_get(all, at), key);
    return json_is_integer(value) ? json_integer_value(value) : -1;
}

static void members_leave_a_line_for_each_change(void **state)
{
    (void)state;
    static const struct {
        bool is_new;
        enum member_state from, to;
        node_id accuser;
        enum member_evidence evidence;
        uint32_t confirmations;
        const char *words;
    } cases[] = {
        {true, MEMBER_ALIVE, MEMBER_ALIVE, 0, EVIDENCE_NONE, 0, "node 42 has joined, at 10.0.0.5:7946"},
        {false, MEMBER_ALIVE, MEMBER_SUSPECT, 7, EVIDENCE_TIMEOUT, 0,
         "node 42 is suspected: no answer to us and those we asked"},
        {false, MEMBER_SUSPECT, MEMBER_ALIVE, 0, EVIDENCE_NONE, 0, "node 42 is alive after all"},
        {false, MEMBER_ALIVE, MEMBER_SUSPECT, 91, EVIDENCE_RESET, 0,
         "node 42 is suspected: its link with 91 was cut off"},
        {false, MEMBER_SUSPECT, MEMBER_DEAD, 91, EVIDENCE_RESET, 2,
         "node 42 is taken for dead: its link with 91 was cut off; 2 others say so too"},
        {false, MEMBER_SUSPECT, MEMBER_DEAD, 91, EVIDENCE_RESET, 1,
         "node 42 is taken for dead: its link with 91 was cut off; 1 other says so too"},
        {false, MEMBER_DEAD, MEMBER_ALIVE, 0, EVIDENCE_NONE, 0, "node 42 is back"},
        {false, MEMBER_ALIVE, MEMBER_DEAD, 91, EVIDENCE_REFUSED, 0,
         "its host refuses 91: the process is gone"},
        {false, MEMBER_DEAD, MEMBER_LEFT, 0, EVIDENCE_NONE, 0, "node 42 has left"},
        {true, MEMBER_ALIVE, MEMBER_DEAD, 91, EVIDENCE_SILENT, 0, "its link with 91 fell silent"},
    };
    enum { CASES = sizeof cases / sizeof cases[0] };
    struct diary d;
    diary_open(&d);
    for (size_t i = 0; i < CASES; i++) {
        struct member m = {.id = 42,
                           .incarnation = 100 + i,
                           .state = cases[i].to,
                           .accuser = cases[i].accuser,
                           .evidence = cases[i].evidence,
                           .address = "10.0.0.5:7946"};
        d.said[0] = '\0';
        events_member(d.events, &m, cases[i].is_new, cases[i].from, cases[i].confirmations);
        if (strstr(d.said, cases[i].words) == NULL)
            fail_msg("'%s' does not say '%s'", d.said, cases[i].words);
    }
    json_t *all = diary_read(&d);
    assert_int_equal(json_array_size(all), CASES);
    for (size_t i = 0; i < CASES; i++) {
        bool accused = cases[i].to == MEMBER_SUSPECT || cases[i].to == MEMBER_DEAD;
        assert_string_equal(text_at(all, i, "event"), "member");
        assert_string_equal(text_at(all, i, "from"), cases[i].is_new ? "" : member_state_name(cases[i].from));
        assert_string_equal(text_at(all, i, "to"), member_state_name(cases[i].to));
        assert_string_equal(text_at(all, i, "evidence"),
                            accused ? member_evidence_name(cases[i].evidence) : "");
        assert_int_equal(number_at(all, i, "accuser"), accused ? (json_int_t)cases[i].accuser : -1);
        assert_int_equal(number_at(all, i, "id"), 42);
        assert_int_equal(number_at(all, i, "incarnation"), 100 + (json_int_t)i);
        assert_int_equal(number_at(all, i, "confirmations"), cases[i].confirmations);
        assert_true(json_real_value(json_object_get(json_array_get(all, i), "t")) == 1000.25);
    }
    json_decref(all);
    diary_close(&d);
}

static void what_is_no_change_leaves_none(void **state)
{
    (void)state;
    struct diary d;
    diary_open(&d);
    struct member other = {.id = 42, .state = MEMBER_ALIVE}, us = {.id = 7, .state = MEMBER_ALIVE};
    events_member(d.events, &other, false, MEMBER_ALIVE, 0); /* its numbers have changed */
    events_member(d.events, &us, true, MEMBER_ALIVE, 0);
    events_member(NULL, &other, true, MEMBER_ALIVE, 0); /* before the run directory is there */
    struct node_report r = {.phase = NODE_JOINING, .place = RANK_NONE, .members_known = 1};
    events_report(d.events, &r);
    r.members_known = 2;
    events_report(d.events, &r);
    json_t *all = diary_read(&d);
    assert_int_equal(json_array_size(all), 1);
    assert_string_equal(text_at(all, 0, "to"), "joining");
    json_decref(all);
    assert_string_equal(d.said, "");
    diary_close(&d);
}

static void faults_that_begin_and_end_are_told_once(void **state)
{
    (void)state;
    static const struct {
        const char *to;
        int fault;
    } told[] = {{"begun", 1}, {"begun", 2}, {"ended", 1}, {"begun", 3}, {"ended", 3}, {"ended", 2}};
    struct diary d;
    diary_open(&d);
    struct fault_status all[3] = {{.id = 1, .rule = {.kind = FAULT_DROP, .peer = 91}},
                                  {.id = 2, .rule = {.kind = FAULT_RESET, .any = true}},
                                  {.id = 3, .rule = {.kind = FAULT_DROP, .peer = 92}, .ended = true}};
    events_faults(d.events, all, 2);
    events_faults(d.events, all, 2);
    all[0].ended = true;
    events_faults(d.events, all, 2);
    events_faults(d.events, all, 3);
    events_faults(d.events, &all[2], 1); /* 2 has ended, and made room */
    json_t *lines = diary_read(&d);
    assert_int_equal(json_array_size(lines), sizeof told / sizeof told[0]);
    for (size_t i = 0; i < sizeof told / sizeof told[0]; i++) {
        assert_string_equal(text_at(lines, i, "event"), "fault");
        assert_string_equal(text_at(lines, i, "to"), told[i].to);
        assert_int_equal(number_at(lines, i, "fault"), told[i].fault);
    }
    assert_non_null(strstr(text_at(lines, 0, "text"), "drop"));
    json_decref(lines);
    diary_close(&d);
}

static void phases_places_and_saves_are_told(void **state)
{
    (void)state;
    struct diary d;
    diary_open(&d);
    struct node_report r = {.phase = NODE_JOINING, .place = RANK_NONE};
    events_report(d.events, &r);
    r.phase = NODE_TRAINING;
    r.place = 3;
    r.members_known = 8;
    events_report(d.events, &r);
    events_saved(d.events, 12, NULL);
    events_saved(d.events, 12, "disk full");
    r.place = RANK_NONE;
    events_report(d.events, &r);
    events_left(d.events, "leave");
    json_t *all = diary_read(&d);
    static const char *const kinds[] = {"phase", "place", "phase", "saved", "saved", "place", "left"};
    assert_int_equal(json_array_size(all), sizeof kinds / sizeof kinds[0]);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        assert_string_equal(text_at(all, i, "event"), kinds[i]);
    assert_int_equal(number_at(all, 1, "place"), 3);
    assert_string_equal(text_at(all, 2, "to"), "training");
    assert_int_equal(number_at(all, 2, "members"), 8);
    assert_int_equal(number_at(all, 3, "generation"), 12);
    assert_true(json_is_true(json_object_get(json_array_get(all, 3), "ok")));
    assert_true(json_is_false(json_object_get(json_array_get(all, 4), "ok")));
    assert_string_equal(text_at(all, 4, "why"), "disk full");
    assert_true(json_is_null(json_object_get(json_array_get(all, 5), "place")));
    assert_string_equal(text_at(all, 6, "why"), "leave");
    json_decref(all);
    diary_close(&d);
}

static void keepers_are_called_so_and_their_models_are_told(void **state)
{
    (void)state;
    struct diary d;
    diary_open(&d);
    struct member m = {.id = 42, .meta[META_PHASE] = NODE_KEEPING + 1, .address = "10.0.0.5:7946"};
    events_member(d.events, &m, true, MEMBER_ALIVE, 0);
    assert_non_null(strstr(d.said, "node 42 has joined as a keeper, at 10.0.0.5:7946"));
    struct node_report r = {.phase = NODE_KEEPING, .place = RANK_NONE};
    static const uint64_t steps[] = {0, 70, 70, 90};
    for (size_t i = 0; i < 4; i++) {
        r.progress = steps[i];
        events_report(d.events, &r);
    }
    json_t *all = diary_read(&d);
    static const char *const kinds[] = {"member", "phase", "kept", "kept"};
    assert_int_equal(json_array_size(all), sizeof kinds / sizeof kinds[0]);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        assert_string_equal(text_at(all, i, "event"), kinds[i]);
    assert_true(json_is_true(json_object_get(json_array_get(all, 0), "keeper")));
    assert_string_equal(text_at(all, 1, "to"), "keeping");
    assert_int_equal(number_at(all, 2, "steps"), 70);
    assert_int_equal(number_at(all, 3, "steps"), 90);
    json_decref(all);
    diary_close(&d);
}

static void a_flapping_link_is_counted_not_written(void **state)
{
    (void)state;
    struct diary d;
    diary_open(&d);
    struct peer_info peer = {.id = 42, .address = "10.0.0.5:7946", .dialled = true};
    struct link_id link = {.slot = 40, .generation = 1};
    for (int i = 0; i < 500; i++, link.generation++) {
        events_link_up(d.events, link, &peer);
        events_link_down(d.events, link, DOWN_RESET);
    }
    json_t *all = diary_read(&d);
    assert_int_equal(json_array_size(all), EVENTS_LINK_MAX);
    assert_string_equal(text_at(all, 0, "to"), "up");
    assert_string_equal(text_at(all, 1, "to"), "down");
    assert_string_equal(text_at(all, 1, "why"), down_reason_name(DOWN_RESET));
    assert_int_equal(number_at(all, 1, "id"), 42);
    assert_int_equal(number_at(all, 0, "hidden"), -1);
    json_decref(all);
    d.now_s += 1;
    events_link_up(d.events, link, &peer);
    events_link_down(d.events, link, DOWN_CLOSED);
    all = diary_read(&d);
    assert_int_equal(json_array_size(all), EVENTS_LINK_MAX + 2);
    assert_int_equal(number_at(all, EVENTS_LINK_MAX, "hidden"), 1000 - (json_int_t)EVENTS_LINK_MAX);
    assert_int_equal(number_at(all, EVENTS_LINK_MAX + 1, "hidden"), -1);
    json_decref(all);
    d.now_s -= 100; /* the clock was set back: not a reason to be silent for long */
    events_link_up(d.events, link, &peer);
    all = diary_read(&d);
    assert_int_equal(json_array_size(all), EVENTS_LINK_MAX + 3);
    json_decref(all);
    diary_close(&d);
}

static void members_that_change_all_the_time_are_counted_not_written(void **state)
{
    (void)state;
    struct diary d;
    diary_open(&d);
    struct member m = {.id = 9, .state = MEMBER_SUSPECT};
    for (int i = 0; i < 2000; i++) events_member(d.events, &m, false, MEMBER_ALIVE, 0);
    json_t *all = diary_read(&d);
    assert_int_equal(json_array_size(all), EVENTS_MEMBER_BURST);
    json_decref(all);
    d.now_s += 1;
    for (int i = 0; i < 2000; i++) events_member(d.events, &m, false, MEMBER_ALIVE, 0);
    all = diary_read(&d);
    assert_int_equal(json_array_size(all), EVENTS_MEMBER_BURST + EVENTS_MEMBER_RATE);
    assert_int_equal(number_at(all, EVENTS_MEMBER_BURST, "hidden"), 2000 - (json_int_t)EVENTS_MEMBER_BURST);
    assert_int_equal(number_at(all, EVENTS_MEMBER_BURST + 1, "hidden"), -1);
    json_decref(all);
    d.now_s -= 100; /* the clock was set back: it goes on from there */
    events_member(d.events, &m, false, MEMBER_ALIVE, 0);
    d.now_s += 1;
    events_member(d.events, &m, false, MEMBER_ALIVE, 0);
    all = diary_read(&d);
    assert_int_equal(json_array_size(all), EVENTS_MEMBER_BURST + EVENTS_MEMBER_RATE + 1);
    json_decref(all);
    diary_close(&d);
}

static void doubts_have_words(void **state)
{
    (void)state;
    char words[MEMBER_WORDS_MAX];
    member_doubt_words(EVIDENCE_TIMEOUT, "91", 3.21, 1, 2, words);
    assert_string_equal(words, "suspect 3.2 s: no answer to 91 and those it asked, 1 of 2 confirmations");
    member_doubt_words(EVIDENCE_TIMEOUT, "us", 3.21, 0, 0, words);
    assert_string_equal(words, "suspect 3.2 s: no answer to us and those we asked");
    member_doubt_words(EVIDENCE_NONE, "91", 0, 0, 2, words);
    assert_string_equal(words, "suspect 0.0 s: accused by 91, 0 of 2 confirmations");
}

static void a_folder_that_is_not_there_is_an_error(void **state)
{
    (void)state;
    struct events_config config = {.folder = "/no/such/folder"};
    struct events *e;
    struct err_text why;
    assert_int_equal(events_open(&config, &e, &why), ERR_IO);
    assert_non_null(strstr(why.text, "/no/such/folder/events.jsonl"));
}

static void a_full_disk_is_said_once(void **state)
{
    (void)state;
    if (access("/dev/full", W_OK) != 0) skip();
    struct diary d;
    diary_open(&d);
    events_close(d.events);
    unlink(d.path);
    assert_int_equal(symlink("/dev/full", d.path), 0);
    struct events_config config = {.folder = d.folder, .id = 7, .trace = &d.trace};
    assert_int_equal(events_open(&config, &d.events, NULL), 0);
    for (int i = 0; i < 3; i++) events_left(d.events, "leave");
    assert_string_equal(d.said, "events.jsonl: lines are lost; is the disk full?\n");
    diary_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_leave_a_line_for_each_change),
        cmocka_unit_test(what_is_no_change_leaves_none),
        cmocka_unit_test(faults_that_begin_and_end_are_told_once),
        cmocka_unit_test(phases_places_and_saves_are_told),
        cmocka_unit_test(keepers_are_called_so_and_their_models_are_told),
        cmocka_unit_test(a_flapping_link_is_counted_not_written),
        cmocka_unit_test(members_that_change_all_the_time_are_counted_not_written),
        cmocka_unit_test(doubts_have_words),
        cmocka_unit_test(a_folder_that_is_not_there_is_an_error),
        cmocka_unit_test(a_full_disk_is_said_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
