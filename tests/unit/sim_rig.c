#include "tests/unit/sim_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

static void note(struct rig_seat *s, enum rig_what what, uint32_t value, enum lane lane, struct link_id link)
{
    struct rig *r = s->rig;
    assert_true(r->count < RIG_RECORD_MAX);
    r->record[r->count++] = (struct rig_record){what, s->v, value, lane, sim_now_us(r->w), link};
}

static void on_up(void *ctx, struct link_id link, const struct peer_info *peer)
{
    struct rig_seat *s = ctx;
    s->link = link;
    s->peer_boot = peer->boot;
    char address[32];
    snprintf(address, sizeof address, "sim:%u", (unsigned)peer->id);
    assert_string_equal(peer->address, address);
    note(s, RIG_UP, peer->dialled, LANE_CONTROL, link);
}

static void on_down(void *ctx, struct link_id link, enum down_reason why)
{
    note(ctx, RIG_DOWN, why, LANE_CONTROL, link);
}

static void on_message(void *ctx, struct link_id link, enum lane lane, const uint8_t *head, size_t head_size,
                       struct blob *body)
{
    (void)body;
    uint32_t value;
    assert_int_equal(head_size, sizeof value);
    memcpy(&value, head, sizeof value);
    note(ctx, RIG_MESSAGE, value, lane, link);
}

static void on_writable(void *ctx, struct link_id link)
{
    note(ctx, RIG_WRITABLE, 0, LANE_CONTROL, link);
}

static void on_refused(void *ctx, const char *address, int err, const char *reason)
{
    (void)address;
    assert_true(strlen(reason) > 0);
    note(ctx, RIG_REFUSED, (uint32_t)-err, LANE_CONTROL, (struct link_id){0});
}

static void on_closed(void *ctx)
{
    note(ctx, RIG_CLOSED, 0, LANE_CONTROL, (struct link_id){0});
}

static void on_deadline(void *ctx)
{
    note(ctx, RIG_DEADLINE, 0, LANE_CONTROL, (struct link_id){0});
}

static void on_job_done(void *ctx, struct job *j)
{
    note(ctx, RIG_JOB, j->cost, LANE_CONTROL, (struct link_id){0});
}

static void observe(void *ctx, const void *bytes, size_t size)
{
    struct rig *r = ctx;
    for (size_t i = 0; i < size; i++) r->hash = (r->hash ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3u;
}

void rig_take(struct rig *r, uint32_t v, uint64_t boot, uint8_t cluster)
{
    struct rig_seat *s = &r->seat[v];
    struct transport_config config = {.id = v, .boot = boot};
    config.body_size_max = s->body_size_max > 0 ? s->body_size_max : 64u << 20;
    config.heartbeat_us = 100 * MS;
    config.cluster[0] = cluster;
    struct transport_sink sink = {.ctx = s,
                                  .on_up = on_up,
                                  .on_down = on_down,
                                  .on_message = on_message,
                                  .on_writable = on_writable,
                                  .on_refused = on_refused,
                                  .on_closed = on_closed};
    struct host_sink host_sink = {s, on_deadline, on_job_done};
    s->rig = r;
    s->v = v;
    s->t = sim_transport(r->w, v, &config, &sink);
    s->h = sim_host(r->w, v, &host_sink);
}

struct rig *rig_open(uint64_t seed, const char *latency, const char *step_time, uint64_t bandwidth)
{
    struct rig *r = mem_new_zero(1, sizeof *r);
    int err = choice_parse(latency_table, latency_table_count, "--latency", latency, &r->latency, NULL);
    assert_int_equal(err, 0);
    err = choice_parse(step_time_table, step_time_table_count, "--step-time", step_time, &r->step_time, NULL);
    assert_int_equal(err, 0);
    struct sim_options options = {.seed = seed,
                                  .node_count = RIG_NODES,
                                  .latency = &r->latency,
                                  .step_time = &r->step_time,
                                  .bandwidth_bytes_s = bandwidth,
                                  .link_silence_us = SILENCE,
                                  .redial_us = 300 * MS};
    r->w = sim_world_new(&options);
    r->hash = 0xcbf29ce484222325u;
    sim_observe(r->w, observe, r);
    for (uint32_t v = 0; v < RIG_NODES; v++) rig_take(r, v, 100 + v, 0);
    return r;
}

void rig_close(struct rig *r)
{
    sim_world_free(r->w);
    free(r);
}

void rig_run_until(struct rig *r, uint64_t limit_us)
{
    while (sim_step(r->w, limit_us)) continue;
    assert_int_equal(sim_now_us(r->w), limit_us);
}

void rig_run_for(struct rig *r, uint64_t span_us)
{
    rig_run_until(r, sim_now_us(r->w) + span_us);
}

void rig_dial(struct rig *r, uint32_t from, uint32_t to)
{
    char address[32];
    snprintf(address, sizeof address, "sim:%u", to);
    assert_int_equal(r->seat[from].t->ops->dial(r->seat[from].t, address), 0);
}

/* A link from `from` to `to`, up at both. */
void rig_join(struct rig *r, uint32_t from, uint32_t to)
{
    rig_dial(r, from, to);
    rig_run_for(r, SECOND);
    struct link_stats stats;
    assert_int_equal(r->seat[from].t->ops->stats(r->seat[from].t, r->seat[from].link, &stats), 0);
    assert_int_equal(r->seat[to].t->ops->stats(r->seat[to].t, r->seat[to].link, &stats), 0);
}

int rig_send(struct rig *r, uint32_t from, enum lane lane, uint32_t value, size_t body_size)
{
    struct rig_seat *s = &r->seat[from];
    struct blob *head = blob_copy(&value, sizeof value);
    struct blob *body = body_size == 0 ? NULL : blob_new(body_size);
    if (body != NULL) memset(body->data, (int)(value & 255), body_size);
    int err = s->t->ops->send(s->t, s->link, lane, head, body);
    blob_unref(head);
    blob_unref(body);
    return err;
}

void rig_send_run(struct rig *r, uint32_t from, enum lane lane, uint32_t first, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(rig_send(r, from, lane, first + i, lane == LANE_BULK ? 64 : 0), 0);
}

uint32_t rig_count(const struct rig *r, uint32_t node, enum rig_what what)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < r->count; i++) count += r->record[i].node == node && r->record[i].what == what;
    return count;
}

/* The n-th record of that kind at node. */
const struct rig_record *rig_find(const struct rig *r, uint32_t node, enum rig_what what, uint32_t n)
{
    for (uint32_t i = 0; i < r->count; i++)
        if (r->record[i].node == node && r->record[i].what == what && n-- == 0) return &r->record[i];
    fail_msg("no such record at node %u", node);
    return NULL;
}

/* Checker: the messages of one lane at node are first, first + 1, ...; returns how many, or -1. */
int rig_lane_run(const struct rig_record *record, uint32_t count, uint32_t node, enum lane lane,
                 uint32_t first)
{
    int found = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct rig_record *m = &record[i];
        if (m->what != RIG_MESSAGE || m->node != node || m->lane != lane) continue;
        if (m->value != first + (uint32_t)found) return -1;
        found++;
    }
    return found;
}

void rig_assert_lane(const struct rig *r, uint32_t node, enum lane lane, int expected)
{
    assert_int_equal(rig_lane_run(r->record, r->count, node, lane, 0), expected);
}

void rig_job_run(struct job *j)
{
    struct rig_job *c = (struct rig_job *)j;
    c->runs++;
    j->cost = c->cost;
}
