/* The pump: carries events of the transport and the host to the algorithm and its actions back. See node.h
 * for the normal course and the failure courses; links are in node_links.c, the job in node_train.c. */
#include "agent/node.h"

#include <stdlib.h>
#include <string.h>

#include "agent/node_internal.h"
#include "algo/compress/pack.h"
#include "base/check.h"

/* -- making and ending ------------------------------------------------------------------------- */

struct node *node_new(const struct node_config *config, const struct node_sink *sink)
{
    CHECK(config->node_count >= 1 && config->node_count <= NODE_COUNT_MAX);
    CHECK(config->dim >= 1 && config->dim <= MODEL_DIM_MAX);
    struct node *n = mem_new_zero(1, sizeof *n);
    n->config = *config;
    n->sink = *sink;
    n->phase = NODE_JOINING;
    n->steps = config->steps_done;
    n->rank = RANK_NONE;
    n->begin_at_us = TIME_NEVER;
    n->redial_at_us = TIME_NEVER;
    n->finish_at_us = n->hold_until_us = TIME_NEVER;
    n->armed_us = TIME_NEVER;
    n->packed_size_max = pack_bound(config->compress, config->dim, config->tensor, config->tensor_count);
    n->x0 = mem_new(config->dim, sizeof *n->x0);
    memcpy(n->x0, config->x0, config->dim * sizeof *n->x0);
    roster_init(&n->roster, config->node_count, config->members, config->member_count);
    struct wire_member self = {.id = config->id};
    roster_learn(&n->roster, &self);
    if (config->tag != NULL) roster_tag(&n->roster, config->id, config->tag);
    n->config.tag = NULL; /* the roster has it */
    node_train_init(n);
    return n;
}

void node_free(struct node *n)
{
    if (n == NULL) return;
    CHECK(!n->stepping);
    n->host = NULL;
    if (n->algo != NULL) n->config.algo->destroy(n->algo);
    algo_actions_deinit(&n->actions);
    node_train_deinit(n);
    node_links_deinit(n);
    for (size_t i = 0; i < n->seed_count; i++) free(n->seed[i]);
    free(n->seed);
    graph_deinit(&n->own_graph);
    roster_deinit(&n->roster);
    free(n->weight);
    free(n->site);
    free(n->x0);
    free(n);
}

void node_attach(struct node *n, struct transport *transport, struct host *host)
{
    n->transport = transport;
    n->host = host;
}

int node_start(struct node *n, struct err_text *why)
{
    CHECK(n->transport != NULL && n->host != NULL && n->seed == NULL);
    if (roster_find(&n->roster, n->config.id) == NULL)
        return err_set(why, ERR_USAGE, "--id: %llu is not among the %u members",
                       (unsigned long long)n->config.id, n->config.node_count);
    n->seed = mem_new_zero(n->config.seed_count, sizeof *n->seed);
    for (size_t i = 0; i < n->config.seed_count; i++) {
        const char *address = n->config.seeds[i];
        if (n->transport->ops->dial(n->transport, address) != 0)
            return err_set(why, ERR_USAGE, "--join: '%s' is not an address: give HOST:PORT", address);
        n->seed[n->seed_count++] = mem_copy_text(address);
    }
    n->config.seeds = NULL;
    node_try_begin(n);
    return 0;
}

void node_fail(struct node *n, const struct err_text *why)
{
    if (n->failed) return;
    n->failed = true;
    trace_line(n->config.trace, TRACE_ERROR, "%s", why->text);
    n->host->ops->set_deadline(n->host, TIME_NEVER);
    n->sink.on_failed(n->sink.ctx, why);
}

/* -- ranks ------------------------------------------------------------------------------------- */

const struct wire_member *node_member(const struct node *n, rank_t rank)
{
    return roster_at(&n->roster, rank);
}

static int node_build_graph(struct node *n, struct err_text *why)
{
    if (n->config.graph != NULL) {
        n->graph = n->config.graph;
        return 0;
    }
    struct graph *g = &n->own_graph;
    int err = topology_build(n->config.topology, n->config.node_count, n->config.seed, g, why);
    if (err != 0) return err;
    if (n->config.link_delay != NULL)
        memcpy(g->delay, n->config.link_delay, 2u * (size_t)g->edge_count * sizeof *g->delay);
    n->graph = g;
    return 0;
}

/* Equal tags are one site; sites are numbered in the order of their first members. */
static void node_build_sites(struct node *n)
{
    uint32_t count = n->config.node_count, sites = 0;
    if (n->config.site != NULL || !roster_tagged(&n->roster)) return;
    n->site = mem_new(count, sizeof *n->site);
    for (uint32_t r = 0; r < count; r++) {
        uint32_t first = 0;
        while (strcmp(node_member(n, first)->tag, node_member(n, r)->tag) != 0) first++;
        n->site[r] = first < r ? n->site[first] : sites++;
    }
}

static void node_build_neighbours(struct node *n)
{
    n->neighbour_count = graph_degree(n->graph, n->rank);
    n->neighbour = mem_new_zero(n->neighbour_count, sizeof *n->neighbour);
    for (uint32_t i = 0; i < n->neighbour_count; i++)
        n->neighbour[i].rank = n->graph->neighbour[n->graph->offset[n->rank] + i];
}

/* Everything that the algorithm is made from; nothing is dialled or sent yet. */
static int node_build_algo(struct node *n, struct err_text *why)
{
    n->rank = roster_rank(&n->roster, n->config.id);
    CHECK(n->rank != RANK_NONE);
    n->fingerprint = roster_fingerprint(&n->roster);
    int err = node_build_graph(n, why);
    if (err != 0) return err;
    n->weight = mem_new_zero(n->config.node_count, sizeof *n->weight);
    err = n->sink.on_ranked(n->sink.ctx, n->rank, &n->job.trainer, n->weight, why);
    if (err != 0) return err;
    CHECK(n->job.trainer != NULL);
    node_build_sites(n);
    struct algo_config config = {
        .rank = n->rank,
        .node_count = n->config.node_count,
        .graph = n->graph,
        .weight = n->weight,
        .dim = n->config.dim,
        .x0 = n->x0,
        .seed = n->config.seed,
        .patience_us = n->config.patience_us,
        .site = n->config.site != NULL ? n->config.site : n->site,
        .compress = n->config.algo->compresses ? n->config.compress : NULL,
        .tensor = n->config.tensor,
        .tensor_count = n->config.tensor_count,
        .rejoining = n->config.rejoining,
        .trace = n->config.trace,
    };
    err = algo_create(n->config.algo, &config, n->config.algo_params, &n->algo, why);
    if (err != 0) return err;
    free(n->x0);
    n->x0 = NULL;
    return 0;
}

static void node_undial_seeds(struct node *n)
{
    for (size_t i = 0; i < n->seed_count; i++) n->transport->ops->undial(n->transport, n->seed[i]);
}

static void node_begin(struct node *n)
{
    struct err_text why = {""};
    if (node_build_algo(n, &why) != 0) {
        node_fail(n, &why);
        return;
    }
    n->phase = NODE_TRAINING;
    n->begin_at_us = TIME_NEVER;
    trace_line(n->config.trace, TRACE_DEBUG, "all %u members known, this is node %u with %u neighbours",
               n->config.node_count, n->rank, graph_degree(n->graph, n->rank));
    node_undial_seeds(n);
    node_build_neighbours(n);
    uint64_t now_us = n->host->ops->now_us(n->host);
    n->redial_at_us = now_us + n->config.patience_us;
    if (!n->config.rejoining && n->neighbour_count > 0) n->hold_until_us = now_us + n->config.patience_us / 2;
    node_links_begin(n);
    struct algo_event event = {.kind = ALGO_START};
    CHECK(node_feed(n, &event) == 0);
    node_links_present(n);
}

void node_try_begin(struct node *n)
{
    if (n->failed || n->phase != NODE_JOINING || !roster_complete(&n->roster)) return;
    const struct wire_member *self = roster_find(&n->roster, n->config.id);
    bool tagged = self != NULL && self->tag[0] != '\0';
    if (tagged && !roster_tagged(&n->roster)) return; /* the others' are still on the way */
    uint64_t now_us = n->host->ops->now_us(n->host);
    if (n->begin_at_us == TIME_NEVER) n->begin_at_us = now_us + n->config.start_after_us;
    if (now_us >= n->begin_at_us)
        node_begin(n);
    else
        node_arm(n);
}

/* -- events and actions ------------------------------------------------------------------------ */

void node_arm(struct node *n)
{
    if (n->failed) return;
    uint64_t at_us = n->algo != NULL ? n->config.algo->deadline_us(n->algo) : n->begin_at_us;
    if (n->redial_at_us < at_us) at_us = n->redial_at_us;
    if (n->finish_at_us < at_us) at_us = n->finish_at_us;
    if (n->job.held && n->hold_until_us < at_us) at_us = n->hold_until_us;
    if (at_us == n->armed_us) return;
    n->armed_us = at_us;
    n->host->ops->set_deadline(n->host, at_us);
}

static void node_apply(struct node *n)
{
    for (size_t i = 0; i < n->actions.count; i++) {
        const struct algo_action *action = &n->actions.item[i];
        switch (action->kind) {
        case ALGO_SEND:
            node_send(n, action->to, &action->msg);
            break;
        case ALGO_TRAIN:
            node_train_start(n, action->x, action->max_steps);
            break;
        }
    }
    algo_actions_clear(&n->actions);
}

int node_feed(struct node *n, const struct algo_event *event)
{
    CHECK(!n->stepping); /* callbacks never nest: transport.h clause 6 */
    if (n->failed) return 0;
    struct algo_event timed = *event;
    timed.now_us = n->host->ops->now_us(n->host);
    n->stepping = true;
    int err = n->config.algo->step(n->algo, &timed, &n->actions);
    n->stepping = false;
    CHECK_IMPLIES(err != 0, err == ERR_PROTO && event->kind == ALGO_MESSAGE);
    node_apply(n);
    if (n->asked_in_vain) node_train_finish(n);
    node_arm(n);
    return err;
}

static void node_on_deadline(void *ctx)
{
    struct node *n = ctx;
    n->armed_us = TIME_NEVER;
    if (n->failed) return;
    if (n->phase == NODE_JOINING) {
        node_try_begin(n);
        return;
    }
    uint64_t now_us = n->host->ops->now_us(n->host);
    if (n->redial_at_us <= now_us) {
        n->redial_at_us = TIME_NEVER;
        node_links_redial(n);
    }
    if (n->finish_at_us <= now_us) node_train_finish(n);
    if (n->hold_until_us <= now_us) node_train_release(n);
    if (n->config.algo->deadline_us(n->algo) <= now_us) {
        struct algo_event event = {.kind = ALGO_DEADLINE};
        CHECK(node_feed(n, &event) == 0);
    } else {
        node_arm(n);
    }
}

static void node_on_job_done(void *ctx, struct job *j)
{
    struct node *n = ctx;
    CHECK(j == &n->job.base);
    node_train_done(n);
}

/* -- sinks ------------------------------------------------------------------------------------- */

static void node_on_up(void *ctx, struct link_id link, const struct peer_info *peer)
{
    node_link_up(ctx, link, peer);
}

static void node_on_down(void *ctx, struct link_id link, enum down_reason why)
{
    node_link_down(ctx, link, why);
}

static void node_on_message(void *ctx, struct link_id link, enum lane lane, const uint8_t *head,
                            size_t head_size, struct blob *body)
{
    node_link_message(ctx, link, lane, head, head_size, body);
}

static void node_on_writable(void *ctx, struct link_id link)
{
    node_link_writable(ctx, link);
}

static void node_on_refused(void *ctx, const char *address, int err, const char *reason)
{
    node_links_refused(ctx, address, err, reason);
}

static void node_on_closed(void *ctx)
{
    (void)ctx; /* the owner frees the node when it sees fit */
}

struct transport_sink node_transport_sink(struct node *n)
{
    return (struct transport_sink){.ctx = n,
                                   .on_up = node_on_up,
                                   .on_down = node_on_down,
                                   .on_message = node_on_message,
                                   .on_writable = node_on_writable,
                                   .on_refused = node_on_refused,
                                   .on_closed = node_on_closed};
}

struct host_sink node_host_sink(struct node *n)
{
    return (struct host_sink){.ctx = n, .on_deadline = node_on_deadline, .on_job_done = node_on_job_done};
}

/* -- looking ----------------------------------------------------------------------------------- */

void node_report(const struct node *n, struct node_report *out)
{
    *out = (struct node_report){
        .phase = n->phase,
        .rank = n->phase == NODE_JOINING ? RANK_NONE : n->rank,
        .members_known = n->roster.total,
        .progress = n->steps,
        .neighbours = n->neighbour_count,
        .neighbours_up = n->presented_count,
        .loss = n->loss,
        .messages_refused = n->refused,
    };
    if (n->algo != NULL) {
        out->weight = n->weight[n->rank];
        n->config.algo->report(n->algo, &out->algo);
    }
    if (n->transport != NULL) n->transport->ops->totals(n->transport, &out->net);
}

const float *node_model(const struct node *n)
{
    return n->algo != NULL ? n->config.algo->model(n->algo) : n->x0;
}

const struct graph *node_graph(const struct node *n)
{
    return n->phase == NODE_JOINING ? NULL : n->graph;
}

struct algo *node_algo(const struct node *n)
{
    return n->algo;
}
