/* Goal: the node carries events and actions faithfully, and answers every fault of a peer, a link or a
 * trainer as node.h says. Method: a transport, a host and an algorithm that record what they are asked; the
 * test plays the peers. Node 1 of a path 0 - 1 - 2, with node 3 beyond (edges 0-1, 1-2, 2-3). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/node.h"
#include "agent/roster.h"
#include "agent/wire.h"
#include "base/check.h"

#define DIM 3u
#define NODES 4u

/* -- fakes ------------------------------------------------------------------------------------- */

struct sent {
    struct link_id link;
    enum lane lane;
    struct blob *head, *body;
};

struct fake {
    struct transport transport; /* first of three faces of one object */
    struct host host;
    struct trainer trainer;
    struct sent sent[64];
    size_t sent_count;
    int send_answer;
    char calls[1024]; /* dials, undials, disconnects */
    uint64_t now_us, deadline_us;
    struct job *job;
    char events[1024]; /* what the algorithm saw */
    /* the script of the algorithm: what it answers to the next event */
    int answer;
    uint32_t train;
    rank_t send_to;
    struct blob *send_vec; /* borrowed */
    uint64_t wants_us;
    float delta;          /* of the trainer */
    uint32_t trained_max; /* max_steps of its last run */
    float seen_x, seen_vec;
    int ranked_answer;
    uint32_t finished, failed, destroyed, trainers_freed;
    struct err_text failure;
    struct node *node;
};

static struct fake *fake_now; /* algo_type has no context: the algorithm finds its test here */

static void say(char *log, size_t size, const char *format, ...)
{
    size_t used = strlen(log);
    va_list args;
    va_start(args, format);
    vsnprintf(log + used, size - used, format, args);
    va_end(args);
}

#define CALL(f, ...) say((f)->calls, sizeof(f)->calls, __VA_ARGS__)
#define EVENT(f, ...) say((f)->events, sizeof(f)->events, __VA_ARGS__)

static struct fake *of_transport(const struct transport *t)
{
    return (struct fake *)(uintptr_t)t;
}

static struct fake *of_host(const struct host *h)
{
    return (struct fake *)((uintptr_t)h - offsetof(struct fake, host));
}

static int fake_send(struct transport *t, struct link_id to, enum lane lane, struct blob *head,
                     struct blob *body)
{
    struct fake *f = of_transport(t);
    if (f->send_answer != 0) return f->send_answer;
    assert_true(f->sent_count < 64);
    f->sent[f->sent_count++] = (struct sent){to, lane, blob_ref(head), blob_ref(body)};
    return 0;
}

static int fake_dial(struct transport *t, const char *address)
{
    CALL(of_transport(t), "dial %s;", address);
    return strcmp(address, "nonsense") == 0 ? ERR_USAGE : 0;
}

static void fake_undial(struct transport *t, const char *address)
{
    CALL(of_transport(t), "undial %s;", address);
}

static void fake_disconnect(struct transport *t, struct link_id link, enum down_reason why)
{
    CALL(of_transport(t), "disconnect %u %d;", link.slot, (int)why);
}

static void fake_totals(const struct transport *t, struct transport_totals *out)
{
    (void)t;
    *out = (struct transport_totals){.bytes_sent = 77};
}

static const struct transport_ops fake_transport_ops = {.send = fake_send,
                                                        .dial = fake_dial,
                                                        .undial = fake_undial,
                                                        .disconnect = fake_disconnect,
                                                        .totals = fake_totals};

static uint64_t fake_host_now(const struct host *h)
{
    return of_host(h)->now_us;
}

static void fake_deadline(struct host *h, uint64_t at_us)
{
    of_host(h)->deadline_us = at_us;
}

static int fake_start_job(struct host *h, struct job *j)
{
    assert_null(of_host(h)->job);
    of_host(h)->job = j;
    return 0;
}

static const struct host_ops fake_host_ops = {
    .now_us = fake_host_now, .set_deadline = fake_deadline, .start_job = fake_start_job};

static uint32_t fake_train(struct trainer *t, const float *x, uint32_t max_steps, float *delta, double *loss)
{
    struct fake *f = (struct fake *)((uintptr_t)t - offsetof(struct fake, trainer));
    f->seen_x = x[0];
    f->trained_max = max_steps;
    for (size_t i = 0; i < DIM; i++) delta[i] = f->delta;
    *loss = 0.5;
    return max_steps;
}

static void fake_trainer_free(struct trainer *t)
{
    ((struct fake *)((uintptr_t)t - offsetof(struct fake, trainer)))->trainers_freed++;
}

struct algo {
    struct fake *f;
    float x[DIM];
    struct algo_config config;
};

static int fake_create(const struct algo_config *config, const struct choice *params, struct algo **out,
                       struct err_text *why)
{
    (void)params;
    (void)why;
    *out = mem_new_zero(1, sizeof **out);
    (*out)->f = fake_now;
    (*out)->config = *config;
    memcpy((*out)->x, config->x0, sizeof(*out)->x);
    return 0;
}

static void fake_destroy(struct algo *a)
{
    a->f->destroyed++;
    free(a);
}

static int fake_step(struct algo *a, const struct algo_event *e, struct algo_actions *acts)
{
    struct fake *f = a->f;
    assert_true(e->now_us == f->now_us);
    switch (e->kind) {
    case ALGO_START:
        EVENT(f, "start;");
        break;
    case ALGO_PEER_UP:
        EVENT(f, "up %u %llu;", e->peer, (unsigned long long)e->boot);
        break;
    case ALGO_PEER_DOWN:
        EVENT(f, "down %u;", e->peer);
        break;
    case ALGO_MESSAGE:
        EVENT(f, "message %u %u;", e->peer, e->msg->kind);
        if (e->msg->vec != NULL) memcpy(&f->seen_vec, e->msg->vec->data, sizeof f->seen_vec);
        break;
    case ALGO_TRAINED:
        EVENT(f, "trained %u;", e->trained.steps);
        a->x[0] += e->trained.delta[0];
        break;
    case ALGO_DEADLINE:
        EVENT(f, "deadline;");
        break;
    }
    if (f->train > 0) {
        algo_train(acts, a->x, f->train);
        f->train = 0;
    }
    if (f->send_to != RANK_NONE) algo_send(acts, f->send_to, 9)->vec = blob_ref(f->send_vec);
    f->send_to = RANK_NONE;
    int answer = f->answer;
    f->answer = 0;
    return answer;
}

static uint64_t fake_wants(const struct algo *a)
{
    return a->f->wants_us;
}

static const float *fake_model(const struct algo *a)
{
    return a->x;
}

static void fake_report(const struct algo *a, struct algo_report *out)
{
    (void)a;
    *out = (struct algo_report){.version = 5};
}

static const struct algo_type fake_algo = {.create = fake_create,
                                           .destroy = fake_destroy,
                                           .step = fake_step,
                                           .deadline_us = fake_wants,
                                           .model = fake_model,
                                           .report = fake_report};

static int fake_ranked(void *ctx, rank_t rank, struct trainer **trainer, double *weight, struct err_text *why)
{
    struct fake *f = ctx;
    EVENT(f, "ranked %u;", rank);
    *trainer = &f->trainer;
    for (uint32_t v = 0; v < NODES; v++) weight[v] = 0.25;
    return f->ranked_answer == 0 ? 0 : err_set(why, f->ranked_answer, "no data");
}

static void fake_failed(void *ctx, const struct err_text *why)
{
    ((struct fake *)ctx)->failed++;
    ((struct fake *)ctx)->failure = *why;
}

static void fake_finished(void *ctx)
{
    ((struct fake *)ctx)->finished++;
}

/* -- a node and its peers ---------------------------------------------------------------------- */

static uint32_t path_offset[] = {0, 1, 3, 5, 6};
static uint32_t path_neighbour[] = {1, 0, 2, 1, 3, 2};
static double path_delay[] = {1, 1, 1, 1, 1, 1};
static const struct graph path = {NODES, 3, path_offset, path_neighbour, path_delay};

static const node_id ids[NODES] = {10, 20, 30, 40}; /* of ranks 0..3; ours is 20 */

static struct wire_member member_of(rank_t rank)
{
    struct wire_member m = {.id = ids[rank], .boot = 100 + rank};
    snprintf(m.address, sizeof m.address, "host:%u", rank);
    return m;
}

static struct node_config config_now(void)
{
    static const float x0[DIM] = {1, 2, 3};
    return (struct node_config){.id = 20,
                                .node_count = NODES,
                                .algo = &fake_algo,
                                .seed = 1,
                                .dim = DIM,
                                .x0 = x0,
                                .patience_us = 1000,
                                .graph = &path};
}

static void fake_open(struct fake *f, const struct node_config *config)
{
    memset(f, 0, sizeof *f);
    f->transport.ops = &fake_transport_ops;
    f->host.ops = &fake_host_ops;
    f->trainer = (struct trainer){.run = fake_train, .free = fake_trainer_free};
    f->now_us = 50;
    f->deadline_us = TIME_NEVER;
    f->wants_us = TIME_NEVER;
    f->send_to = RANK_NONE;
    fake_now = f;
    struct node_sink sink = {f, fake_ranked, fake_failed, fake_finished};
    f->node = node_new(config, &sink);
    node_attach(f->node, &f->transport, &f->host);
}

static void forget(struct fake *f)
{
    for (size_t i = 0; i < f->sent_count; i++) {
        blob_unref(f->sent[i].head);
        blob_unref(f->sent[i].body);
    }
    f->sent_count = 0;
    f->calls[0] = '\0';
    f->events[0] = '\0';
}

static void fake_close(struct fake *f)
{
    bool had_algo = node_algo(f->node) != NULL;
    node_free(f->node);
    forget(f);
    assert_int_equal(f->destroyed, had_algo);
    assert_int_equal(f->trainers_freed, had_algo || f->ranked_answer != 0);
}

/* Link ids: slot = rank, generation counts up by hand. */
static void peer_up(struct fake *f, rank_t rank, uint32_t generation, uint64_t boot, bool dialled)
{
    struct peer_info info = {.id = ids[rank], .boot = boot, .dialled = dialled};
    struct wire_member m = member_of(rank);
    memcpy(info.address, m.address, sizeof info.address);
    struct transport_sink sink = node_transport_sink(f->node);
    sink.on_up(sink.ctx, (struct link_id){rank, generation}, &info);
}

static void peer_down(struct fake *f, rank_t rank, uint32_t generation)
{
    struct transport_sink sink = node_transport_sink(f->node);
    sink.on_down(sink.ctx, (struct link_id){rank, generation}, DOWN_RESET);
}

/* Takes head. */
static void peer_says(struct fake *f, rank_t rank, enum lane lane, struct blob *head, struct blob *body)
{
    struct transport_sink sink = node_transport_sink(f->node);
    sink.on_message(sink.ctx, (struct link_id){rank, 1}, lane, head->data, head->size, body);
    blob_unref(head);
}

static uint64_t fingerprint_of_all(void)
{
    struct wire_member all[NODES];
    for (rank_t r = 0; r < NODES; r++) all[r] = member_of(r);
    struct roster r;
    roster_init(&r, NODES, all, NODES);
    uint64_t fingerprint = roster_fingerprint(&r);
    roster_deinit(&r);
    return fingerprint;
}

/* What the node sent to a link: kinds in order, as in "members:2 ready algo:9 ". */
static const char *sent_to(struct fake *f, rank_t rank, char out[256])
{
    out[0] = '\0';
    uint64_t sequence[2] = {0, 0};
    for (size_t i = 0; i < f->sent_count; i++) {
        struct wire_message m;
        assert_int_equal(wire_decode(f->sent[i].head->data, f->sent[i].head->size, &m, NULL), 0);
        if (f->sent[i].link.slot == rank) {
            assert_true(sequence[f->sent[i].lane] == 0 || m.sequence == sequence[f->sent[i].lane] + 1);
            sequence[f->sent[i].lane] = m.sequence;
            if (m.kind == WIRE_MEMBERS)
                say(out, 256, "members:%u ", m.member_count);
            else if (m.kind == WIRE_READY)
                say(out, 256, "ready ");
            else
                say(out, 256, "algo:%u%s ", m.msg.kind, f->sent[i].body != NULL ? "+vec" : "");
        }
        wire_message_deinit(&m);
    }
    return out;
}

/* A node that knows everybody, linked to 0 and 2, both presented. */
static void fake_open_running(struct fake *f, uint64_t steps_max)
{
    static struct wire_member all[NODES];
    for (rank_t r = 0; r < NODES; r++) all[r] = member_of(r);
    struct node_config config = config_now();
    config.members = all;
    config.member_count = NODES;
    config.steps_max = steps_max;
    fake_open(f, &config);
    assert_int_equal(node_start(f->node, NULL), 0);
    for (rank_t r = 0; r <= 2; r += 2) {
        peer_up(f, r, 1, 100 + r, r > 1);
        peer_says(f, r, LANE_CONTROL, wire_encode_ready(1, fingerprint_of_all()), NULL);
    }
    assert_string_equal(f->events, "ranked 1;start;up 0 100;up 2 102;");
    forget(f);
}

static struct blob *vector_of(float a, float b, float c)
{
    float x[DIM] = {a, b, c};
    return blob_copy(x, sizeof x);
}

static void peer_sends_algo(struct fake *f, rank_t rank, enum lane lane, uint64_t sequence, struct blob *body)
{
    struct algo_msg msg = {.kind = 4};
    peer_says(f, rank, lane, wire_encode_algo(sequence, &msg), body);
}

static void job_done(struct fake *f)
{
    struct job *j = f->job;
    f->job = NULL;
    j->run(j);
    struct host_sink sink = node_host_sink(f->node);
    sink.on_job_done(sink.ctx, j);
}

static void deadline_comes(struct fake *f, uint64_t now_us)
{
    f->now_us = now_us;
    f->deadline_us = TIME_NEVER; /* it comes once */
    struct host_sink sink = node_host_sink(f->node);
    sink.on_deadline(sink.ctx);
}

/* -- joining ----------------------------------------------------------------------------------- */

static void joining_node_learns_members_passes_them_on_and_starts(void **state)
{
    (void)state;
    struct fake f;
    struct node_config config = config_now();
    const char *const seeds[] = {"host:3"};
    config.seeds = seeds;
    config.seed_count = 1;
    fake_open(&f, &config);
    char out[256];
    assert_int_equal(node_start(f.node, NULL), 0);
    assert_string_equal(f.calls, "dial host:3;");
    peer_up(&f, 3, 1, 103, true);
    peer_up(&f, 0, 1, 100, false);
    assert_string_equal(sent_to(&f, 3, out), "members:1 "); /* node 0, when it came */
    assert_string_equal(sent_to(&f, 0, out), "members:1 "); /* node 3 */
    assert_string_equal(f.events, "");
    assert_null(node_graph(f.node));
    struct wire_member late = member_of(2);
    peer_says(&f, 3, LANE_CONTROL, wire_encode_members(1, &late, 1), NULL);
    assert_string_equal(f.events, "ranked 1;start;");
    assert_string_equal(sent_to(&f, 3, out), "members:1 ready "); /* not told what it told us */
    assert_string_equal(sent_to(&f, 0, out), "members:1 members:1 ready ");
    assert_string_equal(f.calls, "dial host:3;undial host:3;dial host:2;"); /* the lower rank dials */
    struct node_report report;
    node_report(f.node, &report);
    assert_int_equal(report.phase, NODE_TRAINING);
    assert_int_equal(report.rank, 1);
    assert_int_equal(report.neighbours, 2);
    assert_int_equal(report.neighbours_up, 0);
    peer_says(&f, 0, LANE_CONTROL, wire_encode_ready(1, fingerprint_of_all()), NULL);
    assert_string_equal(f.events, "ranked 1;start;up 0 100;");
    peer_says(&f, 3, LANE_CONTROL, wire_encode_ready(2, fingerprint_of_all()), NULL);
    assert_string_equal(f.events, "ranked 1;start;up 0 100;"); /* linked, but no neighbour */
    fake_close(&f);
}

static void peer_that_was_ready_first_is_presented_at_the_start(void **state)
{
    (void)state;
    struct fake f;
    struct node_config config = config_now();
    fake_open(&f, &config);
    assert_int_equal(node_start(f.node, NULL), 0);
    peer_up(&f, 0, 1, 100, false);
    peer_says(&f, 0, LANE_CONTROL, wire_encode_ready(1, fingerprint_of_all()), NULL);
    struct wire_member rest[2] = {member_of(2), member_of(3)};
    peer_says(&f, 0, LANE_CONTROL, wire_encode_members(2, rest, 2), NULL);
    assert_string_equal(f.events, "ranked 1;start;up 0 100;");
    fake_close(&f);
}

static void start_waits_when_asked_to(void **state)
{
    (void)state;
    struct fake f;
    struct node_config config = config_now();
    config.start_after_us = 500;
    fake_open(&f, &config);
    assert_int_equal(node_start(f.node, NULL), 0);
    struct wire_member rest[2] = {member_of(2), member_of(3)};
    peer_up(&f, 0, 1, 100, false);
    peer_says(&f, 0, LANE_CONTROL, wire_encode_members(1, rest, 2), NULL);
    assert_string_equal(f.events, "");
    assert_int_equal(f.deadline_us, 550);
    deadline_comes(&f, 550);
    assert_string_equal(f.events, "ranked 1;start;");
    fake_close(&f);
}

static void stranger_is_not_a_peer(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    struct peer_info info = {.id = 99, .boot = 1};
    struct transport_sink sink = node_transport_sink(f.node);
    sink.on_up(sink.ctx, (struct link_id){9, 1}, &info);
    assert_string_equal(f.calls, "");
    sink.on_down(sink.ctx, (struct link_id){9, 1}, DOWN_LOCAL);
    assert_string_equal(f.events, "");
    fake_close(&f);
}

static void a_complete_list_without_us_ends_the_node(void **state)
{
    (void)state;
    struct fake f;
    struct node_config config = config_now();
    config.id = 77;
    fake_open(&f, &config);
    assert_int_equal(node_start(f.node, NULL), 0);
    struct wire_member all[NODES];
    for (uint32_t v = 0; v < NODES; v++) all[v] = member_of(v);
    peer_up(&f, 0, 1, 100, false);
    peer_says(&f, 0, LANE_CONTROL, wire_encode_members(1, all + 1, NODES - 2), NULL);
    assert_int_equal(f.failed, 0); /* it may not know all yet */
    peer_says(&f, 0, LANE_CONTROL, wire_encode_members(2, all + 1, NODES - 1), NULL);
    assert_int_equal(f.failed, 1);
    fake_close(&f);
}

static void peer_with_another_member_list_is_refused(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    peer_down(&f, 2, 1);
    peer_up(&f, 2, 1, 102, true);
    forget(&f);
    peer_says(&f, 2, LANE_CONTROL, wire_encode_ready(1, 12345), NULL);
    assert_string_equal(f.calls, "disconnect 2 3;");
    assert_string_equal(f.events, "");
    fake_close(&f);
}

static void refusal_by_every_seed_ends_the_node(void **state)
{
    (void)state;
    struct fake f;
    struct node_config config = config_now();
    const char *const seeds[] = {"host:1", "host:2", "host:3"};
    config.seeds = seeds;
    config.seed_count = 3;
    fake_open(&f, &config);
    assert_int_equal(node_start(f.node, NULL), 0);
    struct transport_sink sink = node_transport_sink(f.node);
    sink.on_refused(sink.ctx, "host:1", ERR_SELF, "that is us");
    sink.on_refused(sink.ctx, "host:2", ERR_CLUSTER, "theirs is another");
    assert_int_equal(f.failed, 0);
    sink.on_refused(sink.ctx, "host:3", ERR_CLUSTER, "theirs is another");
    assert_int_equal(f.failed, 1);
    assert_string_equal(f.failure.text, "--join: host:3 refused us: theirs is another");
    peer_up(&f, 3, 1, 1, true); /* whatever comes now changes nothing */
    assert_string_equal(f.events, "");
    fake_close(&f);
}

static void impossible_seed_or_data_is_reported(void **state)
{
    (void)state;
    struct fake f;
    struct node_config config = config_now();
    const char *const seeds[] = {"nonsense"};
    config.seeds = seeds;
    config.seed_count = 1;
    fake_open(&f, &config);
    struct err_text why = {""};
    assert_int_equal(node_start(f.node, &why), ERR_USAGE);
    assert_non_null(strstr(why.text, "--join: 'nonsense'"));
    fake_close(&f);

    struct wire_member all[NODES] = {member_of(0), member_of(1), member_of(2), member_of(3)};
    config = config_now();
    config.members = all;
    config.member_count = NODES;
    fake_open(&f, &config);
    f.ranked_answer = ERR_IO;
    assert_int_equal(node_start(f.node, &why), 0);
    assert_int_equal(f.failed, 1);
    assert_string_equal(f.failure.text, "no data");
    fake_close(&f);
}

/* -- links ------------------------------------------------------------------------------------- */

static void lost_neighbour_is_dialled_and_comes_back_with_its_boot(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    peer_down(&f, 0, 1);
    assert_string_equal(f.events, "down 0;");
    assert_string_equal(f.calls, "dial host:0;"); /* after a loss the higher rank dials too */
    peer_up(&f, 0, 2, 555, false);
    assert_string_equal(f.calls, "dial host:0;undial host:0;"); /* it got through first */
    struct transport_sink sink = node_transport_sink(f.node);
    struct blob *head = wire_encode_ready(1, fingerprint_of_all());
    sink.on_message(sink.ctx, (struct link_id){0, 2}, LANE_CONTROL, head->data, head->size, NULL);
    blob_unref(head);
    assert_string_equal(f.events, "down 0;up 0 555;");
    char out[256];
    assert_string_equal(sent_to(&f, 0, out), "ready ");
    /* its new boot is news for the others */
    assert_string_equal(sent_to(&f, 2, out), "members:1 ");
    peer_says(&f, 0, LANE_CONTROL, wire_encode_ready(1, 0), NULL); /* from the link that is gone: ignored */
    assert_string_equal(f.events, "down 0;up 0 555;");
    fake_close(&f);
}

static void our_own_dial_is_kept_while_the_link_is_up(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0); /* link 2 was dialled by us in node_start */
    peer_down(&f, 2, 1);
    peer_up(&f, 2, 2, 102, true);
    assert_string_equal(f.calls, "");
    fake_close(&f);
}

static void neighbour_that_moved_is_dialled_where_it_is_now(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    peer_down(&f, 2, 1);
    forget(&f);
    struct wire_member moved = member_of(2);
    moved.boot++;
    strcpy(moved.address, "elsewhere:2");
    peer_says(&f, 0, LANE_CONTROL, wire_encode_members(2, &moved, 1), NULL);
    assert_string_equal(f.calls, "undial host:2;dial elsewhere:2;");
    fake_close(&f);
}

static void neighbour_never_met_is_dialled_from_both_sides_after_the_patience(void **state)
{
    (void)state;
    struct fake f;
    struct wire_member all[NODES] = {member_of(0), member_of(1), member_of(2), member_of(3)};
    struct node_config config = config_now();
    config.members = all;
    config.member_count = NODES;
    fake_open(&f, &config);
    assert_int_equal(node_start(f.node, NULL), 0);
    assert_string_equal(f.calls, "dial host:2;");
    assert_int_equal(f.deadline_us, 1050);
    deadline_comes(&f, 1050);
    assert_string_equal(f.calls, "dial host:2;dial host:0;");
    assert_string_equal(f.events, "ranked 1;start;"); /* the algorithm did not ask for this deadline */
    assert_true(f.deadline_us == TIME_NEVER);
    fake_close(&f);
}

/* -- messages ---------------------------------------------------------------------------------- */

static void messages_reach_the_algorithm_in_each_lane(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    struct blob *vec = vector_of(7, 8, 9);
    peer_sends_algo(&f, 0, LANE_BULK, 1, vec);
    peer_sends_algo(&f, 0, LANE_CONTROL, 2, NULL); /* 1 was READY */
    peer_sends_algo(&f, 0, LANE_BULK, 2, vec);
    blob_unref(vec);
    assert_string_equal(f.events, "message 0 4;message 0 4;message 0 4;");
    assert_true(f.seen_vec == 7.0f);
    fake_close(&f);
}

static void message_that_overtook_ready_is_taken(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    peer_down(&f, 2, 1);
    peer_up(&f, 2, 1, 102, true);
    forget(&f);
    struct blob *vec = vector_of(1, 1, 1);
    peer_sends_algo(&f, 2, LANE_BULK, 1, vec);
    blob_unref(vec);
    peer_says(&f, 2, LANE_CONTROL, wire_encode_ready(1, fingerprint_of_all()), NULL);
    assert_string_equal(f.events, "up 2 102;message 2 4;");
    fake_close(&f);
}

enum offence {
    HEAD_NONSENSE,
    BODY_SHORT,
    BODY_LONG,
    BODY_NAN,
    BODY_INFINITE,
    SEQUENCE_GAP,
    SEQUENCE_REPEAT,
    ALGORITHM_REFUSES,
    MEMBERS_WITH_BODY,
    READY_WITH_BODY,
    NOT_A_NEIGHBOUR,
    OFFENCE_COUNT
};

static void offend(struct fake *f, enum offence offence)
{
    struct blob *vec = vector_of(1, 2, offence == BODY_NAN ? NAN : offence == BODY_INFINITE ? INFINITY : 3);
    struct blob *other = blob_new(offence == BODY_SHORT ? 4 * DIM - 4 : 4 * DIM + 4);
    memset(other->data, 0, other->size);
    struct wire_member m = member_of(0);
    switch (offence) {
    case HEAD_NONSENSE:
        peer_says(f, 0, LANE_CONTROL, blob_copy("\xdd\x0f\x00\x00\x00", 5), NULL);
        break;
    case BODY_SHORT:
    case BODY_LONG:
        peer_sends_algo(f, 0, LANE_BULK, 1, other);
        break;
    case BODY_NAN:
    case BODY_INFINITE:
        peer_sends_algo(f, 0, LANE_BULK, 1, vec);
        break;
    case SEQUENCE_GAP:
        peer_sends_algo(f, 0, LANE_CONTROL, 3, NULL);
        break;
    case SEQUENCE_REPEAT:
        peer_sends_algo(f, 0, LANE_CONTROL, 1, NULL);
        break;
    case ALGORITHM_REFUSES:
        f->answer = ERR_PROTO;
        peer_sends_algo(f, 0, LANE_BULK, 1, vec);
        f->events[0] = '\0';
        break;
    case MEMBERS_WITH_BODY:
        peer_says(f, 0, LANE_BULK, wire_encode_members(1, &m, 1), vec);
        break;
    case READY_WITH_BODY:
        peer_says(f, 0, LANE_BULK, wire_encode_ready(1, fingerprint_of_all()), vec);
        break;
    case NOT_A_NEIGHBOUR:
        peer_up(f, 3, 1, 103, false);
        peer_sends_algo(f, 3, LANE_BULK, 1, vec);
        break;
    case OFFENCE_COUNT:
        break;
    }
    blob_unref(vec);
    blob_unref(other);
}

static void offender_loses_its_link_and_nothing_else_happens(void **state)
{
    (void)state;
    for (enum offence offence = HEAD_NONSENSE; offence < OFFENCE_COUNT; offence++) {
        struct fake f;
        fake_open_running(&f, 0);
        offend(&f, offence);
        struct node_report report;
        node_report(f.node, &report);
        bool third = offence == NOT_A_NEIGHBOUR;
        if (strcmp(f.calls, third ? "disconnect 3 3;" : "disconnect 0 3;") != 0 || f.events[0] != '\0')
            fail_msg("offence %d: %s %s", (int)offence, f.calls, f.events);
        assert_int_equal(report.messages_refused, 1);
        /* What is still on the way from it is dropped without another count, and nothing goes out. */
        peer_sends_algo(&f, third ? 3 : 0, LANE_BULK, 1, NULL);
        f.send_to = 0;
        peer_sends_algo(&f, 2, LANE_CONTROL, 2, NULL);
        node_report(f.node, &report);
        assert_int_equal(report.messages_refused, 1);
        assert_string_equal(f.events, "message 2 4;");
        char out[256];
        assert_string_equal(sent_to(&f, 0, out), third ? "algo:9 " : "");
        peer_down(&f, third ? 3 : 0, 1);
        assert_string_equal(f.events, third ? "message 2 4;" : "message 2 4;down 0;");
        fake_close(&f);
    }
}

static void message_before_we_are_ready_is_refused(void **state)
{
    (void)state;
    struct fake f;
    struct node_config config = config_now();
    fake_open(&f, &config);
    assert_int_equal(node_start(f.node, NULL), 0);
    peer_up(&f, 0, 1, 100, false);
    peer_sends_algo(&f, 0, LANE_CONTROL, 1, NULL);
    assert_string_equal(f.calls, "disconnect 0 3;");
    fake_close(&f);
}

static void vector_is_sent_without_a_copy_and_to_presented_peers_only(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    struct blob *vec = vector_of(1, 2, 3);
    f.send_vec = vec;
    f.send_to = 2;
    peer_sends_algo(&f, 0, LANE_CONTROL, 2, NULL);
    assert_int_equal(f.sent_count, 1);
    assert_ptr_equal(f.sent[0].body, vec);
    assert_int_equal(f.sent[0].lane, LANE_BULK);
    peer_down(&f, 2, 1);
    peer_up(&f, 2, 2, 102, true); /* up, but it has not said READY */
    forget(&f);
    f.send_to = 2;
    peer_sends_algo(&f, 0, LANE_CONTROL, 3, NULL);
    assert_int_equal(f.sent_count, 0);
    assert_int_equal(vec->references, 1);
    blob_unref(vec);
    fake_close(&f);
}

static void one_bulk_message_waits_for_a_full_link(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    struct blob *vec = vector_of(1, 2, 3);
    f.send_vec = vec;
    f.send_answer = ERR_FULL;
    f.send_to = 2;
    peer_sends_algo(&f, 0, LANE_CONTROL, 2, NULL);
    assert_string_equal(f.calls, "");
    assert_int_equal(vec->references, 2);
    struct transport_sink sink = node_transport_sink(f.node);
    sink.on_writable(sink.ctx, (struct link_id){2, 1}); /* still full: waits on */
    f.send_answer = 0;
    sink.on_writable(sink.ctx, (struct link_id){2, 1});
    char out[256];
    assert_string_equal(sent_to(&f, 2, out), "algo:9+vec ");
    f.send_to = 2;
    peer_sends_algo(&f, 0, LANE_CONTROL, 3, NULL);
    assert_string_equal(sent_to(&f, 2, out), "algo:9+vec algo:9+vec ");
    forget(&f);
    assert_int_equal(vec->references, 1);
    blob_unref(vec);
    fake_close(&f);
}

static void second_bulk_message_closes_a_full_link(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    struct blob *vec = vector_of(1, 2, 3);
    f.send_vec = vec;
    f.send_answer = ERR_FULL;
    f.send_to = 2;
    peer_sends_algo(&f, 0, LANE_CONTROL, 2, NULL);
    f.send_answer = 0; /* room again, but the waiting one goes first */
    f.send_to = 2;
    peer_sends_algo(&f, 0, LANE_CONTROL, 3, NULL);
    assert_string_equal(f.calls, "disconnect 2 5;");
    assert_int_equal(vec->references, 1);
    struct transport_sink sink = node_transport_sink(f.node);
    sink.on_writable(sink.ctx, (struct link_id){2, 1});
    assert_int_equal(f.sent_count, 0);
    peer_down(&f, 2, 1);
    assert_non_null(strstr(f.events, "down 2;"));
    blob_unref(vec);
    fake_close(&f);
}

static void full_control_lane_closes_the_link(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    f.send_answer = ERR_FULL;
    f.send_to = 2;
    peer_sends_algo(&f, 0, LANE_CONTROL, 2, NULL);
    assert_string_equal(f.calls, "disconnect 2 5;");
    fake_close(&f);
}

/* -- training and time ------------------------------------------------------------------------- */

static void training_starts_from_a_copy_and_is_capped(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 10);
    f.delta = 0.5f;
    f.train = 7;
    peer_sends_algo(&f, 0, LANE_CONTROL, 2, NULL);
    assert_non_null(f.job);
    peer_sends_algo(&f, 0, LANE_CONTROL, 3, NULL); /* the algorithm goes on while it runs */
    forget(&f);
    f.train = 100;
    job_done(&f);
    assert_true(f.seen_x == 1.0f);
    assert_int_equal(f.trained_max, 7);
    assert_string_equal(f.events, "trained 7;");
    assert_int_equal(f.finished, 0);
    f.train = 100;
    job_done(&f);
    assert_int_equal(f.trained_max, 3); /* what steps_max leaves */
    assert_true(f.seen_x == 1.5f);
    assert_string_equal(f.events, "trained 7;trained 3;");
    assert_int_equal(f.finished, 1);
    assert_null(f.job); /* asked again, not answered */
    struct node_report report;
    node_report(f.node, &report);
    assert_int_equal(report.phase, NODE_FINISHED);
    assert_true(report.loss == 0.5);
    assert_int_equal(report.net.bytes_sent, 77);
    assert_int_equal(report.algo.version, 5);
    peer_sends_algo(&f, 0, LANE_CONTROL, 4, NULL); /* still mixing */
    assert_non_null(strstr(f.events, "message 0 4;"));
    fake_close(&f);
}

static void progress_that_is_not_finite_stops_the_node(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    f.delta = NAN;
    f.train = 1;
    peer_sends_algo(&f, 0, LANE_CONTROL, 2, NULL);
    forget(&f);
    job_done(&f);
    assert_int_equal(f.failed, 1);
    assert_non_null(strstr(f.failure.text, "--step-size"));
    assert_string_equal(f.events, "");
    assert_true(node_model(f.node)[0] == 1.0f);
    peer_sends_algo(&f, 0, LANE_CONTROL, 3, NULL);
    assert_string_equal(f.events, "");
    fake_close(&f);
}

static void deadline_follows_the_algorithm(void **state)
{
    (void)state;
    struct fake f;
    fake_open_running(&f, 0);
    deadline_comes(&f, 2000); /* the redial deadline is out of the way */
    f.wants_us = 9000;
    peer_sends_algo(&f, 0, LANE_CONTROL, 2, NULL);
    assert_int_equal(f.deadline_us, 9000);
    forget(&f);
    deadline_comes(&f, 8999); /* early: asked for again */
    assert_string_equal(f.events, "");
    assert_int_equal(f.deadline_us, 9000);
    deadline_comes(&f, 9000);
    assert_string_equal(f.events, "deadline;");
    assert_int_equal(f.deadline_us, 9000); /* the algorithm still wants it: at once again */
    f.wants_us = TIME_NEVER;
    deadline_comes(&f, 9000);
    assert_true(f.deadline_us == TIME_NEVER);
    fake_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(joining_node_learns_members_passes_them_on_and_starts),
        cmocka_unit_test(peer_that_was_ready_first_is_presented_at_the_start),
        cmocka_unit_test(start_waits_when_asked_to),
        cmocka_unit_test(stranger_is_not_a_peer),
        cmocka_unit_test(a_complete_list_without_us_ends_the_node),
        cmocka_unit_test(peer_with_another_member_list_is_refused),
        cmocka_unit_test(refusal_by_every_seed_ends_the_node),
        cmocka_unit_test(impossible_seed_or_data_is_reported),
        cmocka_unit_test(lost_neighbour_is_dialled_and_comes_back_with_its_boot),
        cmocka_unit_test(our_own_dial_is_kept_while_the_link_is_up),
        cmocka_unit_test(neighbour_that_moved_is_dialled_where_it_is_now),
        cmocka_unit_test(neighbour_never_met_is_dialled_from_both_sides_after_the_patience),
        cmocka_unit_test(messages_reach_the_algorithm_in_each_lane),
        cmocka_unit_test(message_that_overtook_ready_is_taken),
        cmocka_unit_test(offender_loses_its_link_and_nothing_else_happens),
        cmocka_unit_test(message_before_we_are_ready_is_refused),
        cmocka_unit_test(vector_is_sent_without_a_copy_and_to_presented_peers_only),
        cmocka_unit_test(one_bulk_message_waits_for_a_full_link),
        cmocka_unit_test(second_bulk_message_closes_a_full_link),
        cmocka_unit_test(full_control_lane_closes_the_link),
        cmocka_unit_test(training_starts_from_a_copy_and_is_capped),
        cmocka_unit_test(progress_that_is_not_finite_stops_the_node),
        cmocka_unit_test(deadline_follows_the_algorithm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
