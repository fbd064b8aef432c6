/* The fakes of node_fake.h: each face logs what the node asks of it and answers by the script in the fake. */
#include "tests/unit/node_fake_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"

/* -- transport, host, trainer, owner --------------------------------------------------------------- */

void fake_log(char *log, size_t size, const char *format, ...)
{
    size_t used = strlen(log);
    va_list args;
    va_start(args, format);
    vsnprintf(log + used, size - used, format, args);
    va_end(args);
}

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
    assert_true(f->sent_count < FAKE_SENT_MAX);
    f->sent[f->sent_count++] = (struct fake_sent){to, lane, blob_ref(head), blob_ref(body)};
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
    for (size_t i = 0; i < FAKE_DIM; i++) delta[i] = f->delta;
    *loss = 0.5;
    return max_steps;
}

static void fake_trainer_free(struct trainer *t)
{
    ((struct fake *)((uintptr_t)t - offsetof(struct fake, trainer)))->trainers_freed++;
}

static int fake_ranked(void *ctx, rank_t rank, struct trainer **trainer, double *weight, struct err_text *why)
{
    struct fake *f = ctx;
    EVENT(f, "ranked %u;", rank);
    f->ranked++;
    *trainer = &f->trainer;
    for (uint32_t v = 0; v < f->node_count; v++) weight[v] = 1.0 / f->node_count;
    return f->ranked_answer == 0 ? 0 : err_set(why, f->ranked_answer, "no data");
}

static bool fake_is_ready(void *ctx, rank_t rank)
{
    struct fake *f = ctx;
    if (f->unready) EVENT(f, "get ready %u;", rank);
    return !f->unready;
}

static void fake_failed(void *ctx, const struct err_text *why)
{
    ((struct fake *)ctx)->failed++;
    ((struct fake *)ctx)->failure = *why;
}

static void fake_member_changed(void *ctx, const struct member *m, bool is_new, enum member_state before,
                                uint32_t confirmations)
{
    struct fake *f = ctx;
    (void)before;
    (void)confirmations;
    if (is_new || m->state != before)
        fake_log(f->members, sizeof f->members, "%llu %s;", (unsigned long long)m->id,
                 member_state_name(m->state));
}

static void fake_wants_save(void *ctx)
{
    ((struct fake *)ctx)->saves_wanted++;
}

static void fake_still(void *ctx)
{
    struct fake *f = ctx;
    f->still++;
    f->still_x = node_model(f->node)[0];
    assert_false(node_job_runs(f->node));
}

static void fake_finished(void *ctx)
{
    ((struct fake *)ctx)->finished++;
}

/* -- a node and its peers ------------------------------------------------------------------------- */

static uint32_t path_offset[] = {0, 1, 3, 5, 6};
static uint32_t path_neighbour[] = {1, 0, 2, 1, 3, 2};
static double path_delay[] = {1, 1, 1, 1, 1, 1};
static const struct graph path = {FAKE_NODES, 3, path_offset, path_neighbour, path_delay};

static const node_id ids[FAKE_NODES] = {10, 20, 30, 40}; /* of ranks 0..3; ours is 20 */

struct member fake_member(rank_t rank)
{
    struct member m = {.id = ids[rank], .boot = 100 + rank};
    snprintf(m.address, sizeof m.address, "host:%u", rank);
    return m;
}

struct node_config fake_config(void)
{
    static const float x0[FAKE_DIM] = {1, 2, 3};
    static struct member all[FAKE_NODES];
    for (rank_t r = 0; r < FAKE_NODES; r++) all[r] = fake_member(r);
    return (struct node_config){.id = 20,
                                .node_count = FAKE_NODES,
                                .algo = &fake_algo,
                                .seed = 1,
                                .dim = FAKE_DIM,
                                .x0 = x0,
                                .patience_us = 1000,
                                .members = all,
                                .graph = &path};
}

static void open_fake(struct fake *f, const struct node_config *config, bool keeps)
{
    memset(f, 0, sizeof *f);
    f->transport.ops = &fake_transport_ops;
    f->host.ops = &fake_host_ops;
    f->trainer = (struct trainer){.run = fake_train, .free = fake_trainer_free};
    f->now_us = 50;
    f->deadline_us = TIME_NEVER;
    f->wants_us = TIME_NEVER;
    f->send_to = RANK_NONE;
    f->node_count = config->node_count;
    fake_algo_belongs_to(f);
    struct node_sink sink = {.ctx = f,
                             .on_ranked = fake_ranked,
                             .is_ready = fake_is_ready,
                             .on_failed = fake_failed,
                             .on_finished = fake_finished,
                             .on_still = fake_still,
                             .on_save = keeps ? fake_wants_save : NULL,
                             .on_member = fake_member_changed};
    f->node = node_new(config, &sink);
    node_attach(f->node, &f->transport, &f->host);
}

void fake_open(struct fake *f, const struct node_config *config)
{
    open_fake(f, config, false);
}

void fake_open_keeping(struct fake *f, const struct node_config *config)
{
    open_fake(f, config, true);
}

void fake_forget(struct fake *f)
{
    for (size_t i = 0; i < f->sent_count; i++) {
        blob_unref(f->sent[i].head);
        blob_unref(f->sent[i].body);
    }
    f->sent_count = 0;
    f->calls[0] = '\0';
    f->members[0] = '\0';
    f->events[0] = '\0';
}

void fake_close(struct fake *f)
{
    node_free(f->node);
    fake_forget(f);
    assert_int_equal(f->destroyed, f->created);
    assert_int_equal(f->trainers_freed, f->ranked);
}

void fake_peer_up(struct fake *f, rank_t rank, uint32_t generation, uint64_t boot, bool dialled)
{
    struct peer_info info = {.id = ids[rank], .boot = boot, .dialled = dialled};
    struct member m = fake_member(rank);
    memcpy(info.address, m.address, sizeof info.address);
    struct transport_sink sink = node_transport_sink(f->node);
    sink.on_up(sink.ctx, (struct link_id){rank, generation}, &info);
}

void fake_peer_down(struct fake *f, rank_t rank, uint32_t generation)
{
    struct transport_sink sink = node_transport_sink(f->node);
    sink.on_down(sink.ctx, (struct link_id){rank, generation}, DOWN_RESET);
}

void fake_peer_says(struct fake *f, rank_t rank, enum lane lane, struct blob *head, struct blob *body)
{
    struct transport_sink sink = node_transport_sink(f->node);
    sink.on_message(sink.ctx, (struct link_id){rank, 1}, lane, head->data, head->size, body);
    blob_unref(head);
}

struct blob *fake_ready(rank_t rank)
{
    const struct wire_ready ready = {.place = rank, .your_place = 1};
    return wire_encode_ready(1, &ready);
}

const char *fake_sent_to(struct fake *f, rank_t rank, char out[256])
{
    out[0] = '\0';
    uint64_t sequence[2] = {0, 0};
    for (size_t i = 0; i < f->sent_count; i++) {
        struct wire_message m;
        assert_int_equal(wire_decode(f->sent[i].head->data, f->sent[i].head->size, &m, NULL), 0);
        if (f->sent[i].link.slot == rank) {
            assert_true(sequence[f->sent[i].lane] == 0 || m.sequence == sequence[f->sent[i].lane] + 1);
            sequence[f->sent[i].lane] = m.sequence;
            switch (m.kind) {
            case WIRE_SWIM:
                fake_log(out, 256, "swim:%d ", (int)m.swim.kind);
                break;
            case WIRE_ALGO:
                fake_log(out, 256, "algo:%u%s ", m.msg.kind, f->sent[i].body != NULL ? "+vec" : "");
                break;
            case WIRE_READY:
                fake_log(out, 256, "ready ");
                break;
            case WIRE_OVERLAY:
                fake_log(out, 256, "overlay:%d ", (int)m.overlay.kind);
                break;
            case WIRE_STATE:
                fake_log(out, 256, "state:%d ", (int)m.state.kind);
                break;
            }
        }
        wire_message_deinit(&m);
    }
    return out;
}

void fake_open_running(struct fake *f, uint64_t steps_max)
{
    struct node_config config = fake_config();
    config.steps_max = steps_max;
    fake_open(f, &config);
    assert_int_equal(node_start(f->node, NULL), 0);
    for (rank_t r = 0; r <= 2; r += 2) {
        fake_peer_up(f, r, 1, 100 + r, r > 1);
        fake_peer_says(f, r, LANE_CONTROL, fake_ready(r), NULL);
    }
    assert_string_equal(f->events, "ranked 1;start;up 0 100;up 2 102;");
    fake_forget(f);
}

struct blob *fake_vector(float a, float b, float c)
{
    float x[FAKE_DIM] = {a, b, c};
    return blob_copy(x, sizeof x);
}

void fake_peer_sends_algo(struct fake *f, rank_t rank, enum lane lane, uint64_t sequence, struct blob *body)
{
    struct algo_msg msg = {.kind = 4};
    fake_peer_says(f, rank, lane, wire_encode_algo(sequence, &msg), body);
}

void fake_peer_sends_packed(struct fake *f, rank_t rank, uint64_t sequence, struct blob *body)
{
    struct blob *some = blob_new(0);
    struct algo_msg msg = {.kind = 4, .packed = some};
    fake_peer_says(f, rank, LANE_BULK, wire_encode_algo(sequence, &msg), body);
    blob_unref(some);
}

void fake_job_done(struct fake *f)
{
    struct job *j = f->job;
    f->job = NULL;
    j->run(j);
    struct host_sink sink = node_host_sink(f->node);
    sink.on_job_done(sink.ctx, j);
}

void fake_deadline_comes(struct fake *f, uint64_t now_us)
{
    f->now_us = now_us;
    f->deadline_us = TIME_NEVER; /* it comes once */
    struct host_sink sink = node_host_sink(f->node);
    sink.on_deadline(sink.ctx);
}
