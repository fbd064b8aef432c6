/* Goal: a keeper asks only who has more than it holds, no more often than it may, never goes back, and gives what it
 * has; a founder waits for a keeper's model, but not for ever.
 * Method: the fakes of node_fake.h around a node with id 20; the test plays the peer with id 10, word by word. */
#include "tests/unit/node_fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <xxhash.h>

#include "agent/node/places.h"

#define BOOT (1ull << 50)
#define SECOND 1000000u
#define SNAPSHOT 7u

struct scene {
    struct fake f;
    uint64_t control, bulk; /* the peer's next words */
    uint64_t incarnation;
};

/* The peer tells of itself. */
static void peer_is(struct scene *s, enum node_phase phase, uint64_t progress)
{
    struct member m = fake_member(0);
    m.boot = BOOT;
    m.incarnation = s->incarnation++;
    m.meta[META_PHASE] = (uint64_t)phase + 1;
    m.meta[META_PROGRESS] = progress;
    if (phase == NODE_TRAINING) {
        m.meta[META_PLACE] = 1;
        m.meta[META_CLAIMED] = BOOT + 1;
    }
    const struct swim_msg msg = {.kind = SWIM_GOSSIP, .update = &m, .update_count = 1};
    fake_peer_says(&s->f, 0, LANE_CONTROL, wire_encode_swim(s->control++, &msg), NULL);
}

static void peer_says(struct scene *s, const struct state_msg *msg)
{
    enum lane lane = msg->kind == STATE_CHUNK ? LANE_BULK : LANE_CONTROL;
    uint64_t *sequence = lane == LANE_BULK ? &s->bulk : &s->control;
    fake_peer_says(&s->f, 0, lane, wire_encode_state((*sequence)++, msg), msg->body);
}

static void peer_offers(struct scene *s, uint64_t progress)
{
    peer_says(s, &(struct state_msg){.kind = STATE_OFFER,
                                     .snapshot = SNAPSHOT,
                                     .size = FAKE_DIM * sizeof(float),
                                     .chunk_size = STATE_CHUNK_SIZE,
                                     .progress = progress});
}

static void peer_gives(struct scene *s, float value)
{
    struct blob *body = fake_vector(value, value, value);
    peer_says(s, &(struct state_msg){.kind = STATE_CHUNK,
                                     .snapshot = SNAPSHOT,
                                     .hash = XXH3_64bits_withSeed(body->data, body->size, SNAPSHOT),
                                     .body = body});
    blob_unref(body);
}

/* Words about the model that went to the peer since the last call, as kinds of transfer.h. */
static const char *said(struct scene *s, char out[256])
{
    char all[256];
    fake_sent_to(&s->f, 0, all);
    out[0] = '\0';
    for (char *word = strstr(all, "state:"); word != NULL; word = strstr(word + 1, "state:")) {
        size_t used = strlen(out);
        snprintf(out + used, 256 - used, "%c", word[6]);
    }
    fake_forget(&s->f);
    return out;
}

static void scene_open_with(struct scene *s, bool keeper, uint64_t steps, struct blob *method,
                            const struct trace *trace)
{
    struct node_config config = fake_config();
    config.method = method;
    if (trace != NULL) config.trace = trace;
    config.members = NULL;
    config.min_nodes = 1;
    config.boot = BOOT + 1;
    config.keeper = keeper;
    config.keep_every_us = 10 * SECOND;
    config.listen_us = SECOND / 2;
    config.steps_done = steps;
    *s = (struct scene){.control = 1, .bulk = 1, .incarnation = BOOT};
    fake_open(&s->f, &config);
    assert_int_equal(node_start(s->f.node, NULL), 0);
    fake_peer_up(&s->f, 0, 1, BOOT, false);
    fake_forget(&s->f);
}

static void scene_open(struct scene *s, bool keeper, uint64_t steps)
{
    scene_open_with(s, keeper, steps, NULL, NULL);
}

static struct node_report report_of(const struct scene *s)
{
    struct node_report r;
    node_report(s->f.node, &r);
    return r;
}

static void a_keeper_fetches_what_is_ahead_and_gives_it(void **state)
{
    (void)state;
    static struct scene s;
    char out[256];
    scene_open(&s, true, 0);
    peer_is(&s, NODE_TRAINING, 0);
    peer_says(&s, &(struct state_msg){.kind = STATE_ASK});
    assert_string_equal(said(&s, out), "5"); /* BUSY: it has none; and it asks for none yet */
    peer_is(&s, NODE_TRAINING, 50);
    assert_string_equal(said(&s, out), "1"); /* ASK */
    peer_offers(&s, 60);
    assert_string_equal(said(&s, out), "3"); /* GET */
    peer_gives(&s, 5);
    assert_string_equal(said(&s, out), "7"); /* DONE */
    assert_true(node_model(s.f.node)[0] == 5.0f);
    struct node_report r = report_of(&s);
    assert_int_equal(r.progress, 60);
    assert_int_equal(r.phase, NODE_KEEPING);
    assert_int_equal(r.place, RANK_NONE);
    peer_says(&s, &(struct state_msg){.kind = STATE_ASK});
    assert_string_equal(said(&s, out), "2"); /* OFFER */
    peer_is(&s, NODE_TRAINING, 1000);
    assert_string_equal(said(&s, out), ""); /* it has asked a moment ago */
    fake_deadline_comes(&s.f, s.f.now_us + 10 * SECOND);
    assert_string_equal(said(&s, out), "1");
    fake_close(&s.f);
}

static void a_keeper_does_not_go_back(void **state)
{
    (void)state;
    for (int told = 0; told <= 1; told++) {
        static struct scene s;
        char out[256];
        scene_open(&s, true, 100);
        peer_is(&s, NODE_TRAINING, told ? 200 : 100);
        assert_string_equal(said(&s, out), told ? "1" : "");
        if (told) { /* it was another life that told so: what comes is older */
            peer_offers(&s, 90);
            peer_gives(&s, 5);
        }
        assert_true(node_model(s.f.node)[0] == 1.0f);
        assert_int_equal(report_of(&s).progress, 100);
        fake_close(&s.f);
    }
}

/* The peer does not know yet that it speaks to a keeper. */
static void words_of_the_overlay_mean_nothing_to_a_keeper(void **state)
{
    (void)state;
    static struct scene s;
    const struct overlay_msg join = {.kind = OVERLAY_JOIN};
    scene_open(&s, true, 0);
    fake_peer_says(&s.f, 0, LANE_CONTROL, wire_encode_overlay(s.control++, &join), NULL);
    assert_string_equal(s.f.calls, "");
    assert_int_equal(report_of(&s).messages_refused, 0);
    fake_close(&s.f);
}

static void a_founder_begins_with_the_keepers_model(void **state)
{
    (void)state;
    static struct scene s;
    char out[256];
    scene_open(&s, false, 0);
    peer_is(&s, NODE_KEEPING, 500);
    assert_string_equal(said(&s, out), "");
    assert_int_equal(report_of(&s).members_known, 1); /* the keeper does not count */
    fake_deadline_comes(&s.f, s.f.now_us + SECOND / 2);
    assert_string_equal(said(&s, out), "1");
    peer_offers(&s, 510);
    peer_gives(&s, 4);
    assert_string_equal(s.f.events, "ranked 0;start;");
    assert_true(node_model(s.f.node)[0] == 4.0f);
    assert_int_equal(report_of(&s).progress, 510);
    fake_close(&s.f);
}

static void count_refusals(void *ctx, enum trace_level level, const char *text)
{
    (void)level;
    *(uint32_t *)ctx += strstr(text, "is not used") != NULL;
}

/* It belongs to the model that the node came with. (The method of the fakes takes none, and would say so.) */
static void what_the_method_kept_goes_with_the_model_it_belongs_to(void **state)
{
    (void)state;
    for (int keeper = 0; keeper <= 2; keeper++) { /* ours; the peer's, ahead of us; none */
        static struct scene s;
        uint32_t refusals = 0;
        const struct trace trace = {TRACE_WARN, count_refusals, &refusals};
        struct blob *method = fake_vector(1, 2, 3);
        scene_open_with(&s, keeper == 0, 0, method, &trace);
        assert_int_equal(method->references, keeper == 0 ? 1 : 2);
        peer_is(&s, keeper == 1 ? NODE_KEEPING : NODE_JOINING, keeper == 1 ? 500 : 0);
        if (keeper > 0) fake_deadline_comes(&s.f, s.f.now_us + SECOND / 2);
        if (keeper == 1) {
            peer_offers(&s, 510);
            peer_gives(&s, 4);
        }
        assert_int_equal(method->references, 1);
        assert_int_equal(report_of(&s).phase, keeper == 0 ? NODE_KEEPING : NODE_TRAINING);
        assert_int_equal(refusals, keeper == 2);
        fake_close(&s.f);
        blob_unref(method);
    }
}

/* It says again and again that it lives, and gives nothing. */
static void a_founder_does_not_wait_for_a_keeper_for_ever(void **state)
{
    (void)state;
    static struct scene s;
    scene_open(&s, false, 0);
    peer_is(&s, NODE_KEEPING, 500);
    uint32_t seconds = 0;
    while (report_of(&s).phase != NODE_TRAINING) {
        assert_true(seconds++ < 60);
        fake_deadline_comes(&s.f, s.f.now_us + SECOND);
        peer_is(&s, NODE_KEEPING, 500);
        if (report_of(&s).phase != NODE_TRAINING) fake_forget(&s.f);
    }
    assert_in_range(seconds, 30, 33);
    assert_non_null(strstr(s.f.events, "ranked 0;start;"));
    assert_true(node_model(s.f.node)[0] == 1.0f);
    fake_close(&s.f);
}

/* One chunk of three: all of a model of one float. */
static void peer_gives_one_third(struct scene *s)
{
    struct blob *body = blob_new(sizeof(float));
    blob_floats_own(body)[0] = 4;
    peer_says(s, &(struct state_msg){.kind = STATE_OFFER,
                                     .snapshot = SNAPSHOT,
                                     .size = FAKE_DIM * sizeof(float),
                                     .chunk_size = sizeof(float),
                                     .progress = 500});
    peer_says(s, &(struct state_msg){.kind = STATE_CHUNK,
                                     .snapshot = SNAPSHOT,
                                     .hash = XXH3_64bits_withSeed(body->data, body->size, SNAPSHOT),
                                     .body = body});
    blob_unref(body);
}

/* It begins to give, and goes on to live. What came is dropped with the fetch. */
static void a_founder_does_not_wait_for_the_rest_of_a_model_for_ever(void **state)
{
    (void)state;
    static struct scene s;
    scene_open(&s, false, 0);
    peer_is(&s, NODE_KEEPING, 500);
    uint32_t seconds = 0;
    while (report_of(&s).phase != NODE_TRAINING) {
        assert_true(seconds++ < 90);
        fake_deadline_comes(&s.f, s.f.now_us + SECOND);
        peer_is(&s, NODE_KEEPING, 500);
        if (seconds == 20) peer_gives_one_third(&s);
        if (seconds == 20) assert_int_equal(report_of(&s).fetch_chunks, 1);
        if (report_of(&s).phase != NODE_TRAINING) fake_forget(&s.f);
    }
    assert_in_range(seconds, 50, 53); /* the chunk gave it as much time again */
    assert_true(node_model(s.f.node)[0] == 1.0f);
    fake_close(&s.f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_keeper_fetches_what_is_ahead_and_gives_it),
        cmocka_unit_test(a_keeper_does_not_go_back),
        cmocka_unit_test(words_of_the_overlay_mean_nothing_to_a_keeper),
        cmocka_unit_test(a_founder_begins_with_the_keepers_model),
        cmocka_unit_test(what_the_method_kept_goes_with_the_model_it_belongs_to),
        cmocka_unit_test(a_founder_does_not_wait_for_a_keeper_for_ever),
        cmocka_unit_test(a_founder_does_not_wait_for_the_rest_of_a_model_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
