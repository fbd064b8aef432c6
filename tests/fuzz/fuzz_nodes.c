/* See fuzz_nodes.h. What the nodes ask of transport and host is noted (fuzz_nodes_transport.c) and carried out by the
 * loop here. */
#include "tests/fuzz/fuzz_nodes_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/node/places.h"
#include "base/check.h"
#include "tests/fuzz/fuzz_lies.h"

static node_id id_of(uint32_t number)
{
    return 10 * ((node_id)number + 1);
}

static uint64_t now_boot(const struct net *w)
{
    return (1ull << 50) + w->now_us * BOOT_UNITS_PER_US;
}

/* -- what the node asks its owner -------------------------------------------------------------- */

static uint32_t train(struct trainer *t, const float *x, uint32_t max_steps, float *delta, double *loss)
{
    (void)t;
    for (uint32_t i = 0; i < DIM; i++) delta[i] = -0.01f * x[i];
    *loss = 1;
    return max_steps;
}

static void trainer_free(struct trainer *t)
{
    free(t);
}

static int on_ranked(void *ctx, rank_t rank, struct trainer **trainer, double *weight, struct err_text *why)
{
    struct life *l = ctx;
    (void)why;
    CHECK(rank < l->net->plan->nodes);
    *trainer = mem_new_zero(1, sizeof **trainer);
    **trainer = (struct trainer){.run = train, .free = trainer_free};
    for (uint32_t v = 0; v < l->net->plan->nodes; v++) weight[v] = 1.0 / l->net->plan->nodes;
    return 0;
}

static void on_failed(void *ctx, const struct err_text *why)
{
    (void)ctx;
    CHECK(why->text[0] == '\0'); /* nothing that a peer says makes a node give up */
}

static void life_begin(struct net *w, uint32_t number)
{
    struct life *l = &w->life[number];
    uint64_t steps = l->steps;
    l->boot = now_boot(w) + ++l->lives;
    l->deadline_us = TIME_NEVER;
    l->wanted_count = 0;
    char address[32], seed[32];
    const char *seeds[] = {seed};
    snprintf(address, sizeof address, "h%u:1", number);
    snprintf(seed, sizeof seed, "h%u:1", (number + 1) % w->plan->nodes);
    struct node_config c = {.id = id_of(number),
                            .node_count = w->plan->nodes,
                            .min_nodes = w->plan->min_nodes,
                            .boot = l->boot,
                            .address = prng_below(&w->prng, 4) > 0 ? address : NULL,
                            .steps_done = steps,
                            .overlay = strcmp(w->plan->topology, "overlay") == 0,
                            .algo = w->algo,
                            .algo_params = &w->algo_params,
                            .topology = &w->topology,
                            .seed = 1,
                            .dim = DIM,
                            .x0 = w->x0,
                            .patience_us = SECOND_US,
                            .seeds = seeds,
                            .seed_count = 1};
    struct node_sink sink = {.ctx = l, .on_ranked = on_ranked, .on_failed = on_failed};
    l->node = node_new(&c, &sink);
    node_attach(l->node, &l->transport, &l->host);
    CHECK(node_start(l->node, NULL) == 0);
}

/* -- links ------------------------------------------------------------------------------------- */

static void pipe_clear(struct pipe *q)
{
    for (uint32_t i = 0; i < q->count; i++) {
        blob_unref(q->parcel[i].head);
        blob_unref(q->parcel[i].body);
    }
    *q = (struct pipe){.count = 0};
}

/* One end hears of it; who has no node any more does not. */
static void hear_down(struct net *w, uint32_t at, uint32_t other, uint32_t generation, enum down_reason why)
{
    if (w->life[at].node == NULL) return;
    struct transport_sink s = node_transport_sink(w->life[at].node);
    s.on_down(s.ctx, (struct link_id){other, generation}, why);
}

static void link_end(struct net *w, uint32_t a, uint32_t b, enum down_reason why_a, enum down_reason why_b)
{
    struct pair *p = pair_of(w, a, b);
    uint32_t generation = p->generation;
    p->up = p->ending = false;
    pipe_clear(&w->pipe[a][b]);
    pipe_clear(&w->pipe[b][a]);
    hear_down(w, a, b, generation, why_a);
    hear_down(w, b, a, generation, why_b);
}

static void link_begin(struct net *w, uint32_t dialler, uint32_t other)
{
    struct pair *p = pair_of(w, dialler, other);
    *p = (struct pair){.up = true, .generation = p->generation + 1, .dialler = dialler};
    for (uint32_t end = 0; end < 2; end++) {
        uint32_t at = end == 0 ? dialler : other, peer = end == 0 ? other : dialler;
        struct peer_info info = {.id = id_of(peer), .boot = w->life[peer].boot, .dialled = end == 0};
        if (peer % 3 != 2)
            snprintf(info.address, sizeof info.address, "h%u:1", peer); /* else it only dials */
        struct transport_sink s = node_transport_sink(w->life[at].node);
        s.on_up(s.ctx, (struct link_id){peer, p->generation}, &info);
    }
}

static void end_links(struct net *w)
{
    for (uint32_t a = 0; a < w->plan->nodes; a++)
        for (uint32_t b = a + 1; b < w->plan->nodes; b++) {
            const struct pair *p = &w->pair[a][b];
            if (!p->up || !p->ending) continue;
            uint32_t other = p->ended_by == a ? b : a;
            link_end(w, p->ended_by, other, p->why, p->why == DOWN_PROTOCOL ? DOWN_PROTOCOL : DOWN_CLOSED);
        }
}

static void dial_one(struct net *w, struct life *l, const char *address)
{
    char text[ADDRESS_TEXT_MAX];
    unsigned number = FUZZ_CLUSTER_MAX;
    snprintf(text, sizeof text, "%s", address);
    bool known = sscanf(text, "h%u:1", &number) == 1 && number < w->plan->nodes && number % 3 != 2;
    struct transport_sink s = node_transport_sink(l->node);
    if (known && number == l->number) {
        fuzz_undial(&l->transport, text);
        s.on_refused(s.ctx, text, ERR_SELF, "it has our own node id");
    } else if (known) {
        if (!pair_of(w, l->number, number)->up) link_begin(w, l->number, number);
    } else if (w->evil && text[0] != 'h' && prng_below(&w->prng, 8) == 0) { /* no seed */
        fuzz_undial(&l->transport, text);
        s.on_refused(s.ctx, text, ERR_CLUSTER, "it belongs to another cluster");
    } else if (prng_below(&w->prng, 4) == 0) {
        s.on_unreachable(s.ctx, text, prng_below(&w->prng, 2) == 0 ? ERR_CLOSED : ERR_TIMEOUT);
    }
}

/* -- what happens ------------------------------------------------------------------------------ */

static bool deliver(struct net *w, uint32_t from, uint32_t to)
{
    struct pipe *q = &w->pipe[from][to];
    struct pair *p = pair_of(w, from, to);
    if (q->count == 0 || p->ending) return false;
    struct parcel one = q->parcel[0];
    memmove(q->parcel, q->parcel + 1, --q->count * sizeof q->parcel[0]);
    if (w->evil && prng_below(&w->prng, 3) == 0) {
        w->tally->lies++;
        fuzz_lie(&w->prng, w->plan->nodes, now_boot(w), one.lane, &one.head, &one.body);
    }
    struct transport_sink s = node_transport_sink(w->life[to].node);
    w->tally->delivered++;
    s.on_message(s.ctx, (struct link_id){from, p->generation}, one.lane, one.head->data, one.head->size,
                 one.body);
    blob_unref(one.head);
    blob_unref(one.body);
    if (!q->full || q->count > QUEUE_MAX / 2 || p->ending || !p->up) return true;
    q->full = false;
    s = node_transport_sink(w->life[from].node);
    s.on_writable(s.ctx, (struct link_id){to, p->generation});
    return true;
}

static void finish_job(struct net *w, struct life *l)
{
    struct job *j = l->job;
    if (j == NULL) return;
    l->job = NULL;
    j->run(j);
    struct host_sink s = node_host_sink(l->node);
    s.on_job_done(s.ctx, j);
    w->tally->trained++;
}

static void restart(struct net *w, uint32_t number, bool kindly)
{
    struct life *l = &w->life[number];
    finish_job(w, l);
    if (kindly) node_leave(l->node);
    struct node_report r;
    node_report(l->node, &r);
    l->steps = r.progress < 1000000 ? r.progress : 1;
    l->job = NULL;
    node_free(l->node);
    l->node = NULL;
    for (uint32_t v = 0; v < w->plan->nodes; v++)
        if (v != number && pair_of(w, number, v)->up) link_end(w, number, v, DOWN_LOCAL, DOWN_RESET);
    life_begin(w, number);
    w->tally->restarts++;
}

/* Whatever is due at this moment; true when there was anything. */
static bool turn(struct net *w)
{
    bool any = false;
    end_links(w);
    for (uint32_t v = 0; v < w->plan->nodes; v++) {
        struct life *l = &w->life[v];
        uint32_t to = prng_below(&w->prng, w->plan->nodes);
        if (to != v && deliver(w, v, to)) any = true;
        if (prng_below(&w->prng, 2) == 0) finish_job(w, l);
        if (l->wanted_count > 0 && prng_below(&w->prng, 8) == 0)
            dial_one(w, l, l->wanted[prng_below(&w->prng, l->wanted_count)]);
        if (l->deadline_us > w->now_us) continue;
        l->deadline_us = TIME_NEVER;
        struct host_sink s = node_host_sink(l->node);
        s.on_deadline(s.ctx);
        any = true;
    }
    return any;
}

static void misfortune(struct net *w)
{
    uint32_t a = prng_below(&w->prng, w->plan->nodes), b = prng_below(&w->prng, w->plan->nodes);
    switch (prng_below(&w->prng, 400)) {
    case 0:
        restart(w, a, prng_below(&w->prng, 2) == 0);
        break;
    case 1:
        w->now_us += prng_below(&w->prng, 90 * SECOND_US);
        break;
    case 2:
    case 3:
    case 4:
        if (a != b && pair_of(w, a, b)->up) link_end(w, a, b, DOWN_RESET, DOWN_SILENT);
        break;
    }
}

static void watch(struct net *w)
{
    for (uint32_t v = 0; v < w->plan->nodes; v++) {
        uint32_t known = membership_count(node_membership(w->life[v].node));
        if (known > w->tally->members_most) w->tally->members_most = known;
    }
}

static void run(struct net *w, uint64_t until_us, uint32_t events)
{
    for (uint32_t i = 0; i < events && w->now_us < until_us; i++) {
        if (w->evil) misfortune(w);
        bool any = turn(w);
        w->now_us += any ? 100 : 5000;
        if (i % 256 == 0) watch(w);
    }
}

static int judge(const struct net *w, struct err_text *why)
{
    for (uint32_t v = 0; v < w->plan->nodes; v++) {
        const struct membership *m = node_membership(w->life[v].node);
        char waits[NODE_WAIT_MAX];
        struct node_report r;
        node_report(w->life[v].node, &r);
        for (uint32_t u = 0; u < w->plan->nodes; u++) {
            const struct member *other = membership_find(m, id_of(u));
            if (other == NULL || other->state != MEMBER_ALIVE)
                return err_set(why, ERR_PROTO, "seed %llu: node %u takes node %u for %s",
                               (unsigned long long)w->plan->seed, v, u,
                               other != NULL ? member_state_name(other->state) : "a stranger");
        }
        if (r.phase != NODE_TRAINING)
            return err_set(why, ERR_PROTO, "seed %llu: node %u does not train: %s",
                           (unsigned long long)w->plan->seed, v, node_waits_for(w->life[v].node, waits));
    }
    return 0;
}

int fuzz_nodes_run(const struct fuzz_nodes_plan *plan, struct fuzz_nodes_tally *tally, struct err_text *why)
{
    struct net *w = mem_new_zero(1, sizeof *w);
    CHECK(plan->nodes >= 2 && plan->nodes <= FUZZ_CLUSTER_MAX);
    w->plan = plan;
    w->tally = tally;
    w->now_us = SECOND_US;
    prng_split(&w->prng, plan->seed, "nodes", 0);
    CHECK(algo_choose(plan->algorithm, &w->algo_params, &w->algo, NULL) == 0);
    CHECK(choice_parse(topology_table, topology_table_count, "--topology", plan->topology, &w->topology,
                       NULL) == 0);
    for (uint32_t i = 0; i < DIM; i++) w->x0[i] = 1;
    for (uint32_t v = 0; v < plan->nodes; v++) {
        struct life *l = &w->life[v];
        *l = (struct life){.net = w, .number = v};
        l->transport.ops = &fuzz_transport_ops;
        l->host.ops = &fuzz_host_ops;
    }
    for (uint32_t v = 0; v < plan->nodes; v++) life_begin(w, v);
    w->evil = true;
    run(w, UINT64_MAX, plan->evil_events);
    w->evil = false;
    run(w, w->now_us + plan->honest_us, UINT32_MAX);
    int err = judge(w, why);
    for (uint32_t v = 0; v < plan->nodes; v++) {
        for (uint32_t u = 0; u < plan->nodes; u++) pipe_clear(&w->pipe[v][u]);
        node_free(w->life[v].node);
    }
    free(w);
    return err;
}
