/* Goal: the action list keeps what is put there, the registry finds algorithms and explains what it does not
 * find, and the harness the other tests rest on keeps its promises.
 * Method: direct calls; for the harness a toy algorithm whose every message carries a number per receiver
 * and lane, so that a wrong order, a hole, or a message over a dead link shows at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "algo/step.h"
#include "base/check.h"
#include "tests/unit/algo_harness.h"

/* -- the list of actions --------------------------------------------------------------------------- */

static void actions_come_out_as_they_went_in(void **state)
{
    (void)state;
    struct algo_actions acts = {0};
    const float x[2] = {1, 2};
    for (uint32_t i = 0; i < 100; i++) {
        struct algo_msg *m = algo_send(&acts, i, (uint8_t)(i + 1));
        assert_int_equal(m->kind, i + 1);
        assert_int_equal(m->field_count, 0);
        assert_null(m->vec);
        m->field_count = 1;
        m->field[0] = i * 10;
    }
    algo_train(&acts, x, 7);
    assert_int_equal(acts.count, 101);
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(acts.item[i].kind, ALGO_SEND);
        assert_int_equal(acts.item[i].to, i);
        assert_int_equal(acts.item[i].msg.field[0], i * 10);
    }
    assert_int_equal(acts.item[100].kind, ALGO_TRAIN);
    assert_ptr_equal(acts.item[100].x, x);
    assert_int_equal(acts.item[100].max_steps, 7);
    algo_actions_deinit(&acts);
}

static void clearing_drops_references_and_leaves_no_trace(void **state)
{
    (void)state;
    struct algo_actions acts = {0};
    struct blob *vec = blob_new(8);
    for (int i = 0; i < 3; i++) algo_send(&acts, 0, 1)->vec = blob_ref(vec);
    assert_int_equal(vec->references, 4);
    algo_actions_clear(&acts);
    assert_int_equal(vec->references, 1);
    assert_int_equal(acts.count, 0);
    size_t capacity = acts.capacity;
    struct algo_msg *m = algo_send(&acts, 1, 2); /* reused memory is zeroed */
    assert_null(m->vec);
    assert_int_equal(m->field[0], 0);
    assert_int_equal(acts.capacity, capacity);
    algo_actions_deinit(&acts);
    assert_null(acts.item);
    blob_unref(vec);
}

/* -- the registry ---------------------------------------------------------------------------------- */

static void every_algorithm_is_found_by_its_name(void **state)
{
    (void)state;
    assert_true(algo_type_count >= 4);
    for (size_t i = 0; i < algo_type_count; i++) {
        struct choice params;
        const struct algo_type *type = NULL;
        struct err_text why = {""};
        if (algo_choose(algo_types[i]->spec.name, &params, &type, &why) != 0) fail_msg("%s", why.text);
        assert_ptr_equal(type, algo_types[i]);
        assert_ptr_equal(params.spec, &type->spec);
        assert_int_equal(params.index, i);
        assert_true(type->create && type->destroy && type->step && type->deadline_us && type->model);
        assert_non_null(type->report);
        for (size_t k = 0; k < i; k++) assert_string_not_equal(type->spec.name, algo_types[k]->spec.name);
    }
}

static void wrong_choices_are_explained(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"gosip", "did you mean 'gossip'"}, {"", "known: digest, gossip"},
        {"goss", "unknown 'goss'"}, /* a prefix is not a name */
        {"gossipx", "unknown 'gossipx'"},   {"gossip:evry=3", "did you mean 'every'"},
        {"gossip:every=0", "every=0"},      {"gossip:mode=serial", "async|sync"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct choice params;
        const struct algo_type *type;
        struct err_text why = {""};
        assert_int_equal(algo_choose(cases[i].text, &params, &type, &why), ERR_USAGE);
        assert_non_null(strstr(why.text, "--algorithm"));
        if (strstr(why.text, cases[i].says) == NULL) fail_msg("%s: %s", cases[i].text, why.text);
    }
}

/* -- the harness ----------------------------------------------------------------------------------- */

enum { TOY_NODES = 3, TOY_CONTROL = 1, TOY_BULK = 2 };

/* After each training job, sends a control and a bulk message to every other rank of a triangle. */
struct toy {
    rank_t rank;
    float x[TOY_NODES];
    bool up[TOY_NODES];
    uint64_t boot[TOY_NODES];
    uint64_t sent[TOY_NODES][3];
    uint64_t got[TOY_NODES][3];
    uint64_t wrong; /* broken promises */
    uint64_t received, overtaken;
    uint64_t last_us, wake_us, woken;
};

static int toy_create(const struct algo_config *config, const struct choice *params, struct algo **out,
                      struct err_text *why)
{
    (void)params;
    (void)why;
    struct toy *t = mem_new_zero(1, sizeof *t);
    t->rank = config->rank;
    t->wake_us = TIME_NEVER;
    *out = (struct algo *)t;
    return 0;
}

static void toy_destroy(struct algo *a)
{
    free(a);
}

static void toy_message(struct toy *t, rank_t from, const struct algo_msg *m)
{
    uint64_t *got = t->got[from];
    t->wrong += !t->up[from] || m->field[0] != got[m->kind] + 1; /* order, no hole while the link is up */
    t->wrong += m->bits_size != 1 || m->bits[0] != (uint8_t)m->field[0]; /* bits are those of the send */
    got[m->kind] = m->field[0];
    t->wrong += got[TOY_BULK] > got[TOY_CONTROL]; /* bulk is sent behind control */
    t->overtaken += got[TOY_CONTROL] > got[TOY_BULK] + 1;
    t->received++;
}

static void toy_send(struct toy *t, struct algo_actions *acts)
{
    static uint8_t bits[TOY_NODES][3]; /* must be copied at send: they change at the next step */
    for (rank_t to = 0; to < TOY_NODES; to++)
        for (uint8_t kind = TOY_CONTROL; to != t->rank && kind <= TOY_BULK; kind++) {
            struct algo_msg *m = algo_send(acts, to, kind);
            m->field_count = 1;
            m->field[0] = t->up[to] ? ++t->sent[to][kind] : 0;
            m->bits_size = 1;
            bits[to][kind] = (uint8_t)m->field[0];
            m->bits = &bits[to][kind];
            m->vec = kind == TOY_BULK ? blob_copy(t->x, sizeof t->x) : NULL;
        }
}

static int toy_step(struct algo *a, const struct algo_event *e, struct algo_actions *acts)
{
    struct toy *t = (struct toy *)a;
    t->wrong += e->now_us < t->last_us;
    t->last_us = e->now_us;
    switch (e->kind) {
    case ALGO_START:
        algo_train(acts, t->x, 3);
        return 0;
    case ALGO_PEER_UP:
    case ALGO_PEER_DOWN:
        t->wrong += t->up[e->peer] == (e->kind == ALGO_PEER_UP);
        t->wrong += e->kind == ALGO_PEER_UP && e->boot < t->boot[e->peer];
        t->up[e->peer] = e->kind == ALGO_PEER_UP;
        if (t->up[e->peer]) t->boot[e->peer] = e->boot;
        memset(t->sent[e->peer], 0, sizeof t->sent[0]);
        memset(t->got[e->peer], 0, sizeof t->got[0]);
        return 0;
    case ALGO_MESSAGE:
        if (e->msg->kind > TOY_BULK) return ERR_PROTO;
        toy_message(t, e->peer, e->msg);
        return 0;
    case ALGO_TRAINED:
        for (size_t i = 0; i < TOY_NODES; i++) t->x[i] += e->trained.delta[i];
        toy_send(t, acts);
        t->wake_us = e->now_us + 1234;
        algo_train(acts, t->x, 3);
        return 0;
    case ALGO_DEADLINE:
        t->wrong += e->now_us < t->wake_us;
        t->wake_us = TIME_NEVER;
        t->woken++;
        return 0;
    }
    UNREACHABLE();
}

static uint64_t toy_deadline_us(const struct algo *a)
{
    return ((const struct toy *)a)->wake_us;
}

static const float *toy_model(const struct algo *a)
{
    return ((const struct toy *)a)->x;
}

static void toy_report(const struct algo *a, struct algo_report *out)
{
    memset(out, 0, sizeof *out);
    out->mixes = ((const struct toy *)a)->received;
}

static const struct algo_type toy_type = {
    .spec = {.name = "toy", .help = "", .source = ""},
    .create = toy_create,
    .destroy = toy_destroy,
    .step = toy_step,
    .deadline_us = toy_deadline_us,
    .model = toy_model,
    .report = toy_report,
};

static struct graph triangle(void)
{
    static const uint32_t pair[3][2] = {{0, 1}, {1, 2}, {0, 2}};
    struct graph g;
    assert_int_equal(graph_from_edges(TOY_NODES, pair, NULL, 3, &g, NULL), 0);
    return g;
}

static struct harness *toys(const struct graph *g, uint64_t seed)
{
    const float zero[TOY_NODES] = {0};
    struct harness *h = harness_new(&toy_type, "toy", g, NULL, TOY_NODES, zero, seed, 1000000);
    harness_set_step_time(h, RANK_NONE, 300); /* many messages in flight at once */
    return h;
}

static const struct toy *toy_of(const struct harness *h, rank_t r)
{
    return (const struct toy *)harness_algo(h, r);
}

static void the_harness_keeps_order_through_faults(void **state)
{
    (void)state;
    struct graph g = triangle();
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct harness *h = toys(&g, seed);
        uint64_t overtaken = 0;
        for (uint64_t t = 0; t < 10; t++) {
            rank_t r = (rank_t)(t % TOY_NODES), next = (r + 1) % TOY_NODES;
            harness_run_until(h, 100000 * t + 20000);
            harness_link_down(h, r, next);
            harness_run_until(h, 100000 * t + 22000); /* up again before everybody heard it was down */
            harness_link_up(h, r, next);
            harness_run_until(h, 100000 * t + 40000);
            harness_pause(h, r);
            harness_crash(h, next);
            harness_run_until(h, 100000 * t + 60000);
            harness_restart(h, next, true);
            harness_run_until(h, 100000 * t + 80000);
            harness_unpause(h, r);
            for (rank_t v = 0; v < TOY_NODES; v++) {
                assert_int_equal(toy_of(h, v)->wrong, 0);
                overtaken += toy_of(h, v)->overtaken;
            }
        }
        harness_run_until(h, 1200000);
        for (rank_t v = 0; v < TOY_NODES; v++) assert_true(toy_of(h, v)->received > 100);
        assert_true(harness_lost(h) > 0);
        assert_true(overtaken > 0); /* control does overtake bulk */
        harness_free(h);
    }
    graph_deinit(&g);
}

/* The planted fault: a lost message must show as a hole. */
static void a_dropped_message_is_noticed(void **state)
{
    (void)state;
    struct graph g = triangle();
    struct harness *h = toys(&g, 1);
    harness_run_until(h, 30000);
    harness_drop_next(h, 0, 1, TOY_BULK);
    harness_run_until(h, 60000);
    assert_int_equal(toy_of(h, 1)->wrong, 1);
    assert_int_equal(toy_of(h, 0)->wrong + toy_of(h, 2)->wrong, 0);
    harness_free(h);
    graph_deinit(&g);
}

static void the_harness_counts_training(void **state)
{
    (void)state;
    struct graph g = triangle();
    struct harness *h = toys(&g, 1);
    harness_run_until(h, 30000);
    assert_int_equal(harness_steps(h, 1), 99); /* 33 jobs of 3 steps of 300 us */
    assert_true(harness_model(h, 1)[1] == 99.0f);
    assert_true(toy_of(h, 1)->woken == 0); /* each job sets the deadline anew, before it comes */
    harness_stop_training(h);
    harness_run_until(h, 60000);
    assert_int_equal(harness_steps(h, 1), 99);
    assert_int_equal(toy_of(h, 1)->woken, 1);
    assert_int_equal(harness_in_flight(h), 0);
    harness_resume_training(h);
    harness_run_until(h, 61000);
    assert_int_equal(harness_steps(h, 1), 102);
    struct algo_msg strange = {.kind = 9};
    assert_int_equal(harness_inject(h, 0, 1, &strange), ERR_PROTO);
    harness_free(h);
    graph_deinit(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(actions_come_out_as_they_went_in),
        cmocka_unit_test(clearing_drops_references_and_leaves_no_trace),
        cmocka_unit_test(every_algorithm_is_found_by_its_name),
        cmocka_unit_test(wrong_choices_are_explained),
        cmocka_unit_test(the_harness_keeps_order_through_faults),
        cmocka_unit_test(a_dropped_message_is_noticed),
        cmocka_unit_test(the_harness_counts_training),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
