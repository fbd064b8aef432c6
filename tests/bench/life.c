/* The process of life.h: carries actions to the transport and events to the machine. Heads are a plain row of numbers.
 *
 * Failures
 *  - the link refuses a chunk: the donor hears of it and goes on when the link is writable.
 *  - anything that breaks the protocol: give_up, since here all ends are our own. */
#include "tests/bench/life.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "net/link/frame.h"
#include "net/uv/uv.h"

#define HEAD_SIZE (1 + 8 * 8)

uint64_t now_us(void)
{
    return uv_hrtime() / 1000;
}

_Noreturn void give_up(const char *what)
{
    fprintf(stderr, "bench_transfer: %s\n", what);
    exit(1);
}

/* -- heads ------------------------------------------------------------------------------------- */

static struct blob *head_encode(const struct state_msg *m)
{
    const uint64_t field[8] = {m->snapshot, m->size,  m->chunk_size, m->progress,
                               m->first,    m->count, m->hash,       m->wait_us};
    struct blob *b = blob_new(HEAD_SIZE);
    b->data[0] = (uint8_t)m->kind;
    for (size_t i = 0; i < 8; i++) le_put(b->data + 1 + 8 * i, field[i], 8);
    return b;
}

static void head_decode(const uint8_t *head, size_t size, struct blob *body, struct state_msg *m)
{
    if (size != HEAD_SIZE) give_up("a head of another size");
    uint64_t field[8];
    for (size_t i = 0; i < 8; i++) field[i] = le_get(head + 1 + 8 * i, 8);
    *m = (struct state_msg){(enum state_kind)head[0],
                            field[0],
                            field[1],
                            field[2],
                            field[3],
                            field[4],
                            field[5],
                            field[6],
                            field[7],
                            body};
}

/* -- a life: what both kinds of process share --------------------------------------------------- */

static unsigned link_index(const struct life *l, node_id id)
{
    return l->fetch != NULL ? (unsigned)(id - DONOR_ID) : 0;
}

static node_id link_peer(const struct life *l, struct link_id link, unsigned *index)
{
    for (unsigned i = 0; i <= DONOR_MAX; i++) {
        if (!l->linked[i] || l->link[i].slot != link.slot || l->link[i].generation != link.generation)
            continue;
        *index = i;
        return l->fetch != NULL ? DONOR_ID + i : NEWCOMER_ID;
    }
    give_up("a callback of an unknown link");
}

static void life_carry(struct life *l)
{
    for (size_t i = 0; i < l->acts.count; i++) {
        const struct transfer_action *a = &l->acts.item[i];
        if (a->kind == TRANSFER_DONE) {
            l->done_us = now_us();
            uv_stop(&l->loop);
            continue;
        }
        unsigned at = link_index(l, a->to);
        if (!l->linked[at]) continue;
        struct blob *head = head_encode(&a->msg);
        enum lane lane = a->msg.body != NULL ? LANE_BULK : LANE_CONTROL;
        int err = l->transport->ops->send(l->transport, l->link[at], lane, head, a->msg.body);
        if (err == ERR_FULL && a->msg.kind == STATE_CHUNK)
            donor_full(l->donor, a->to, a->msg.first);
        else if (err != 0 && err != ERR_NO_LINK)
            give_up("a control message was refused");
        blob_unref(head);
    }
    transfer_actions_clear(&l->acts);
}

static void life_timer_cb(uv_timer_t *timer);

static void life_rest(struct life *l)
{
    life_carry(l);
    uint64_t at_us = l->fetch != NULL ? fetch_deadline_us(l->fetch) : donor_deadline_us(l->donor);
    if (at_us == TIME_NEVER)
        uv_timer_stop(&l->timer);
    else
        uv_timer_start(&l->timer, life_timer_cb, at_us > now_us() ? (at_us - now_us()) / 1000 + 1 : 0, 0);
}

static void life_timer_cb(uv_timer_t *timer)
{
    struct life *l = timer->data;
    if (l->fetch != NULL)
        fetch_deadline(l->fetch, now_us(), &l->acts);
    else
        donor_deadline(l->donor, l->x, now_us(), &l->acts);
    life_rest(l);
}

static void life_up(void *ctx, struct link_id link, const struct peer_info *peer)
{
    struct life *l = ctx;
    unsigned at = link_index(l, peer->id);
    l->link[at] = link;
    l->linked[at] = true;
    if (l->fetch != NULL) fetch_donor_up(l->fetch, peer->id, 1, now_us(), &l->acts);
    life_rest(l);
}

static void life_down(void *ctx, struct link_id link, enum down_reason why)
{
    struct life *l = ctx;
    unsigned at;
    node_id peer = link_peer(l, link, &at);
    (void)why;
    l->linked[at] = false;
    if (l->fetch != NULL)
        fetch_donor_down(l->fetch, peer, now_us(), &l->acts);
    else
        donor_link_down(l->donor, peer);
    life_rest(l);
}

static void kill_at_half_way(struct life *l)
{
    uint64_t chunks, of;
    uint32_t donors;
    fetch_progress(l->fetch, &chunks, &of, &donors);
    if (l->victim == 0 || 2 * chunks < of || of == 0) return;
    kill(l->victim, SIGKILL);
    l->victim = 0;
}

static void life_message(void *ctx, struct link_id link, enum lane lane, const uint8_t *head, size_t size,
                         struct blob *body)
{
    struct life *l = ctx;
    struct state_msg m;
    unsigned at;
    node_id peer = link_peer(l, link, &at);
    (void)lane;
    head_decode(head, size, body, &m);
    int err = l->fetch != NULL ? fetch_message(l->fetch, peer, &m, now_us(), &l->acts)
                               : donor_message(l->donor, peer, &m, l->x, 1, now_us(), &l->acts);
    if (err != 0) give_up("a message was refused");
    if (l->fetch != NULL) kill_at_half_way(l);
    life_rest(l);
}

static void life_writable(void *ctx, struct link_id link)
{
    struct life *l = ctx;
    unsigned at;
    node_id peer = link_peer(l, link, &at);
    if (l->donor != NULL) donor_writable(l->donor, peer, l->x, now_us(), &l->acts);
    life_rest(l);
}

static void life_refused(void *ctx, const char *address, int err, const char *reason)
{
    (void)ctx;
    (void)err;
    (void)address;
    give_up(reason);
}

static void life_closed(void *ctx)
{
    (void)ctx;
}

void life_init(struct life *l, const struct options *o, node_id id)
{
    struct transport_sink sink = {.ctx = l,
                                  .on_up = life_up,
                                  .on_down = life_down,
                                  .on_message = life_message,
                                  .on_writable = life_writable,
                                  .on_refused = life_refused,
                                  .on_closed = life_closed};
    *l = (struct life){.options = o, .dim = (size_t)o->mib * 1024 * 1024 / sizeof(float)};
    struct transport_config config = {.id = id,
                                      .boot = 1,
                                      .body_size_max = l->dim * sizeof(float) + 64,
                                      .heartbeat_us = 500000,
                                      .silence_us = 2000000,
                                      .hello_us = 5000000,
                                      .redial_min_us = 25000,
                                      .redial_max_us = 1000000,
                                      .seed = id};
    struct err_text why;
    if (uv_loop_init(&l->loop) != 0 || uv_timer_init(&l->loop, &l->timer) != 0) give_up("no event loop");
    l->timer.data = l;
    if (uv_tcp_new(&l->loop, "127.0.0.1:0", &config, &sink, &l->transport, l->address, &why) != 0)
        give_up(why.text);
    l->x = mem_new(l->dim, sizeof *l->x);
}
