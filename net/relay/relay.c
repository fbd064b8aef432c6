/* The relay between its owner and the inner transport: what passes through, what is its own.
 *
 * Normal course
 *  - calls and callbacks of real links go through as they are; a message whose head begins with RELAY_MARK is a relay
 *    frame and stays here.
 *  - one deadline at the inner host serves the owner's and ours.
 *  - close(): relayed links say CLOSED, then the inner transport closes; their on_downs come before on_closed.
 * Failure courses
 *  - a malformed relay frame: its link is closed with DOWN_PROTOCOL.
 *  - a real link goes down: so do the relayed links over it, and the pairs we relay for.
 *  - a real link to the peer of a relayed one comes up: the relayed one goes down first. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "net/relay/internal.h"

uint64_t relay_now_us(const struct relay *r)
{
    return r->host->ops->now_us(r->host);
}

int relay_say(struct relay *r, struct link_id to, const struct relay_frame *f)
{
    struct blob *head = relay_frame_encode(f);
    int err = r->inner->ops->send(r->inner, to, LANE_CONTROL, head, NULL);
    blob_unref(head);
    return err;
}

/* -- real links -------------------------------------------------------------------------------- */

struct relay_real *relay_real_of(const struct relay *r, struct link_id id)
{
    for (uint32_t i = 0; i < r->real_count; i++)
        if (relay_same(r->real[i].id, id)) return &r->real[i];
    return NULL;
}

struct relay_real *relay_real_peer(const struct relay *r, node_id peer)
{
    for (uint32_t i = 0; i < r->real_count; i++)
        if (r->real[i].peer == peer) return &r->real[i];
    return NULL;
}

static void inner_up(void *ctx, struct link_id link, const struct peer_info *peer)
{
    struct relay *r = ctx;
    CHECK(link.slot < RELAY_SLOT && relay_real_of(r, link) == NULL);
    if (r->real_count == r->real_capacity) {
        r->real_capacity = r->real_capacity == 0 ? 8 : 2 * r->real_capacity;
        r->real = mem_resize(r->real, r->real_capacity, sizeof *r->real);
    }
    r->real[r->real_count++] = (struct relay_real){.id = link, .peer = peer->id, .boot = peer->boot};
    relay_dials_direct(r, peer->id);
    relay_dials_more(r);
    struct relay_link *l = relay_link_peer(r, peer->id);
    if (l != NULL) {
        relay_link_end(r, l, DOWN_REPLACED, DOWN_REPLACED);
        relay_links_tick(r, relay_now_us(r));
    }
    r->sink.on_up(r->sink.ctx, link, peer);
    relay_settle(r);
}

/* What the relayer's goodbye says is not the peer's. */
static enum down_reason end_reason(enum down_reason why)
{
    return why == DOWN_CLOSED || why == DOWN_REPLACED ? DOWN_RESET : why;
}

static void inner_down(void *ctx, struct link_id link, enum down_reason why)
{
    struct relay *r = ctx;
    struct relay_real *real = relay_real_of(r, link);
    CHECK(real != NULL);
    node_id peer = real->peer;
    *real = r->real[--r->real_count];
    relay_pairs_real_down(r, link, why);
    relay_dials_real_down(r, link);
    relay_links_real_down(r, link, end_reason(why));
    relay_dials_again(r, peer);
    r->sink.on_down(r->sink.ctx, link, why);
    relay_settle(r);
}

static void inner_writable(void *ctx, struct link_id link)
{
    struct relay *r = ctx;
    struct relay_real *real = relay_real_of(r, link);
    CHECK(real != NULL);
    bool owner_waits = real->owner_waits;
    real->owner_waits = false;
    relay_pairs_pump(r, relay_now_us(r));
    relay_links_writable(r, link);
    if (owner_waits && relay_real_of(r, link) != NULL) r->sink.on_writable(r->sink.ctx, link);
    relay_settle(r);
}

/* -- frames ------------------------------------------------------------------------------------ */

static int end_heard(struct relay *r, const struct relay_real *real, enum lane lane,
                     const struct relay_frame *f, struct blob *body)
{
    if (f->kind == RELAY_ACCEPT) relay_accept_heard(r, real->id, f);
    if (f->kind == RELAY_REFUSE) relay_refuse_heard(r, real->id, f);
    if (f->kind == RELAY_ACCEPT || f->kind == RELAY_REFUSE) return 0;
    int err = relay_link_heard(r, real->id, lane, f, body);
    return err == ERR_NOT_FOUND ? 0 : err; /* late: the call is over */
}

static int frame_heard(struct relay *r, struct link_id link, enum lane lane, const uint8_t *head, size_t size,
                       struct blob *body)
{
    struct relay_frame f;
    uint32_t side;
    int err = relay_frame_parse(head, size, lane, body, &f);
    if (err != 0) return err;
    const struct relay_real *real = relay_real_of(r, link);
    CHECK(real != NULL);
    struct relay_pair *p = relay_pair_of(r, link, f.call, &side);
    if (p != NULL) return relay_pair_heard(r, p, side, lane, &f, head, size, body);
    if (f.kind != RELAY_OPEN) return end_heard(r, real, lane, &f, body);
    if (f.target != r->config.id) return relay_pair_open(r, real, &f);
    err = relay_link_heard(r, link, lane, &f, body); /* a call that is known is not opened again */
    return err == ERR_NOT_FOUND ? relay_open_heard(r, real, &f) : err;
}

static void inner_message(void *ctx, struct link_id link, enum lane lane, const uint8_t *head, size_t size,
                          struct blob *body)
{
    struct relay *r = ctx;
    if (head[0] != RELAY_MARK) {
        r->sink.on_message(r->sink.ctx, link, lane, head, size, body);
        return;
    }
    if (frame_heard(r, link, lane, head, size, body) != 0) {
        const struct relay_real *real = relay_real_of(r, link);
        trace_line(r->config.trace, TRACE_WARN, "node %llu sent a malformed relay frame; its link is closed",
                   real != NULL ? (unsigned long long)real->peer : 0);
        r->inner->ops->disconnect(r->inner, link, DOWN_PROTOCOL);
    }
    relay_settle(r);
}

/* -- what passes through ----------------------------------------------------------------------- */

static void inner_refused(void *ctx, const char *address, int err, const char *reason)
{
    struct relay *r = ctx;
    r->sink.on_refused(r->sink.ctx, address, err, reason);
}

static void inner_unreachable(void *ctx, const char *address, int err)
{
    struct relay *r = ctx;
    if (r->sink.on_unreachable != NULL) r->sink.on_unreachable(r->sink.ctx, address, err);
}

static void inner_closed(void *ctx)
{
    struct relay *r = ctx;
    r->closed = true;
    relay_links_tick(r, TIME_NEVER);
    relay_settle(r);
    r->sink.on_closed(r->sink.ctx); /* r may be freed now */
}

struct transport_sink relay_inner_sink(struct relay *r)
{
    return (struct transport_sink){.ctx = r,
                                   .on_up = inner_up,
                                   .on_down = inner_down,
                                   .on_message = inner_message,
                                   .on_writable = inner_writable,
                                   .on_refused = inner_refused,
                                   .on_unreachable = inner_unreachable,
                                   .on_closed = inner_closed};
}

/* -- the owner's calls ------------------------------------------------------------------------- */

static int outer_send(struct transport *t, struct link_id to, enum lane lane, struct blob *head,
                      struct blob *body)
{
    struct relay *r = relay_of(t);
    if (to.slot >= RELAY_SLOT) {
        struct relay_link *l = relay_link_of(r, to);
        return l != NULL ? relay_link_send(r, l, lane, head, body) : ERR_NO_LINK;
    }
    CHECK(head->size > 0 && head->data[0] != RELAY_MARK);
    int err = r->inner->ops->send(r->inner, to, lane, head, body);
    if (err != ERR_FULL) return err;
    struct relay_real *real = relay_real_of(r, to);
    if (real != NULL) real->owner_waits = true;
    return err;
}

static int outer_dial(struct transport *t, const char *address)
{
    struct relay *r = relay_of(t);
    node_id target;
    if (!relay_address_parse(address, &target)) return r->inner->ops->dial(r->inner, address);
    if (r->closing) return ERR_CLOSED;
    relay_dial_add(r, target);
    relay_settle(r);
    return 0;
}

static void outer_undial(struct transport *t, const char *address)
{
    struct relay *r = relay_of(t);
    node_id target;
    if (!relay_address_parse(address, &target)) {
        r->inner->ops->undial(r->inner, address);
        return;
    }
    relay_dial_remove(r, target);
    relay_settle(r);
}

static void outer_disconnect(struct transport *t, struct link_id link, enum down_reason why)
{
    struct relay *r = relay_of(t);
    if (link.slot < RELAY_SLOT) {
        r->inner->ops->disconnect(r->inner, link, why);
        return;
    }
    struct relay_link *l = relay_link_of(r, link);
    if (l != NULL) relay_link_end(r, l, why, DOWN_CLOSED);
    relay_settle(r);
}

static int outer_stats(const struct transport *t, struct link_id link, struct link_stats *out)
{
    struct relay *r = relay_of(t);
    if (link.slot < RELAY_SLOT) return r->inner->ops->stats(r->inner, link, out);
    const struct relay_link *l = relay_link_of(r, link);
    if (l == NULL) return ERR_NO_LINK;
    *out = l->stats;
    for (int i = 0; i < 2; i++) out->queue_bytes += l->lane[i].queue.bytes + l->lane[i].flying_bytes;
    return 0;
}

static void outer_totals(const struct transport *t, struct transport_totals *out)
{
    const struct relay *r = relay_of(t);
    r->inner->ops->totals(r->inner, out);
    out->links += r->links_up;
    out->links_lost += r->links_lost;
}

static void outer_close(struct transport *t)
{
    struct relay *r = relay_of(t);
    if (r->closing) return;
    r->closing = true;
    if (r->host != NULL) {
        relay_dials_forget(r);
        relay_links_end(r);
        relay_pairs_end(r);
    }
    relay_settle(r);
    r->inner->ops->close(r->inner);
}

static const struct transport_ops outer_ops = {
    .send = outer_send,
    .dial = outer_dial,
    .undial = outer_undial,
    .disconnect = outer_disconnect,
    .stats = outer_stats,
    .totals = outer_totals,
    .close = outer_close,
    .inject = relay_inject,
    .heal = relay_heal,
    .faults = relay_faults,
};

bool relay_through(const struct relay *r, struct link_id link, node_id *relayer)
{
    if (link.slot < RELAY_SLOT) return false;
    const struct relay_link *l = relay_link_of((struct relay *)(uintptr_t)r, link);
    const struct relay_real *real = l != NULL ? relay_real_of(r, l->real) : NULL;
    if (real != NULL) *relayer = real->peer;
    return real != NULL;
}

/* -- time -------------------------------------------------------------------------------------- */

static struct relay *relay_of_host(const struct host *h)
{
    return (struct relay *)((uintptr_t)h - offsetof(struct relay, outer_host));
}

static void arm(struct relay *r)
{
    uint64_t at_us = r->owner_at_us < r->own_at_us ? r->owner_at_us : r->own_at_us;
    r->host->ops->set_deadline(r->host, at_us);
}

static uint64_t own_deadline_us(const struct relay *r)
{
    if (r->closed) return TIME_NEVER;
    const uint64_t each[] = {relay_links_deadline_us(r), relay_dials_deadline_us(r),
                             relay_pairs_deadline_us(r), relay_faults_deadline_us(r)};
    uint64_t at_us = each[0];
    for (size_t i = 1; i < sizeof each / sizeof each[0]; i++)
        if (each[i] < at_us) at_us = each[i];
    return at_us;
}

void relay_settle(struct relay *r)
{
    if (r->host == NULL) return;
    uint64_t at_us = own_deadline_us(r);
    if (at_us == r->own_at_us) return;
    r->own_at_us = at_us;
    arm(r);
}

static void inner_deadline(void *ctx)
{
    struct relay *r = ctx;
    uint64_t now_us = relay_now_us(r);
    if (r->own_at_us <= now_us && !r->closed) {
        relay_faults_tick(r, now_us);
        relay_links_tick(r, now_us);
        relay_dials_tick(r, now_us);
        relay_pairs_pump(r, now_us);
    }
    if (r->owner_at_us <= now_us) {
        r->owner_at_us = TIME_NEVER;
        r->host_sink.on_deadline(r->host_sink.ctx);
    }
    r->own_at_us = own_deadline_us(r);
    arm(r); /* the one that came is used up */
}

static void inner_job_done(void *ctx, struct job *j)
{
    const struct relay *r = ctx;
    r->host_sink.on_job_done(r->host_sink.ctx, j);
}

struct host_sink relay_inner_host_sink(struct relay *r)
{
    return (struct host_sink){.ctx = r, .on_deadline = inner_deadline, .on_job_done = inner_job_done};
}

static uint64_t outer_now_us(const struct host *h)
{
    return relay_now_us(relay_of_host(h));
}

static void outer_set_deadline(struct host *h, uint64_t at_us)
{
    struct relay *r = relay_of_host(h);
    r->owner_at_us = at_us;
    arm(r);
}

static int outer_start_job(struct host *h, struct job *j)
{
    const struct relay *r = relay_of_host(h);
    return r->host->ops->start_job(r->host, j);
}

static const struct host_ops outer_host_ops = {
    .now_us = outer_now_us,
    .set_deadline = outer_set_deadline,
    .start_job = outer_start_job,
};

/* -- life -------------------------------------------------------------------------------------- */

struct relay *relay_new(const struct relay_config *config, const struct transport_sink *sink,
                        const struct host_sink *host_sink)
{
    CHECK(config->bytes_s <= RELAY_RATE_MAX && config->redial_min_us > 0 && config->answer_us > 0);
    struct relay *r = mem_new_zero(1, sizeof *r);
    r->outer.ops = &outer_ops;
    r->outer_host.ops = &outer_host_ops;
    r->config = *config;
    r->sink = *sink;
    r->host_sink = *host_sink;
    r->owner_at_us = r->own_at_us = TIME_NEVER;
    prng_split(&r->prng, config->seed ^ config->id, "relay", config->boot);
    return r;
}

void relay_attach_transport(struct relay *r, struct transport *inner)
{
    r->inner = inner;
}

void relay_attach_host(struct relay *r, struct host *inner)
{
    r->host = inner;
}

struct transport *relay_transport(struct relay *r)
{
    return &r->outer;
}

struct host *relay_host(struct relay *r)
{
    return &r->outer_host;
}

void relay_free(struct relay *r)
{
    if (r == NULL) return;
    relay_links_deinit(r);
    relay_pairs_deinit(r);
    fault_set_deinit(&r->faults);
    free(r->dial);
    free(r->real);
    free(r);
}
