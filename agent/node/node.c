/* The pump: carries events of the transport and the host to the machines and the algorithm, and their actions back.
 * See node.h for the normal course and the failure courses, node/internal.h for who does what. */
#include "agent/node/node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/node/internal.h"
#include "algo/compress/pack.h"
#include "base/check.h"

#define REVIEW_US 500000u /* what has no deadline of its own is looked at this often */
#define SETTLE_ROUND_MAX 16u

/* -- making and ending ------------------------------------------------------------------------- */

struct node *node_new(const struct node_config *config, const struct node_sink *sink)
{
    CHECK(config->node_count >= 1 && config->node_count <= NODE_COUNT_MAX);
    CHECK(config->dim >= 1 && config->dim <= MODEL_DIM_MAX);
    CHECK(config->min_nodes <= config->node_count);
    CHECK_IMPLIES(config->keeper, config->members == NULL);
    struct node *n = mem_new_zero(1, sizeof *n);
    n->config = *config;
    n->sink = *sink;
    if (n->config.min_nodes == 0) n->config.min_nodes = config->node_count;
    n->any_peers = algo_takes_any_peers(config->algo, config->algo_params);
    CHECK_IMPLIES(config->overlay, n->any_peers && config->members == NULL);
    n->phase = config->keeper ? NODE_KEEPING : NODE_JOINING;
    n->rank = RANK_NONE;
    n->wanted_place = config->had_place ? config->place : RANK_NONE;
    n->wanted_claimed = config->claimed;
    n->steps = config->steps_done;
    n->begin_at_us = n->redial_at_us = n->review_at_us = TIME_NEVER;
    n->finish_at_us = n->hold_until_us = n->keepers_until_us = TIME_NEVER;
    n->armed_us = TIME_NEVER;
    n->packed_size_max = pack_bound(config->compress, config->dim, config->tensor, config->tensor_count);
    n->x0 = mem_new(config->dim, sizeof *n->x0);
    memcpy(n->x0, config->x0, config->dim * sizeof *n->x0);
    n->method = config->keeper ? NULL : blob_ref(config->method);
    places_init(&n->places, config->node_count, config->members);
    if (config->members == NULL) node_members_init(n);
    n->config.tag = n->config.address = NULL; /* membership has them */
    n->config.membership = NULL;
    if (!config->keeper) node_train_init(n);
    return n;
}

void node_free(struct node *n)
{
    if (n == NULL) return;
    CHECK(!n->stepping);
    n->host = NULL;
    if (n->algo != NULL) n->config.algo->destroy(n->algo);
    node_durable_drop(n);
    blob_unref(n->method);
    algo_actions_deinit(&n->actions);
    node_train_deinit(n);
    node_state_deinit(n);
    node_links_deinit(n);
    node_contacts_deinit(n);
    node_members_deinit(n);
    for (size_t i = 0; i < n->seed_count; i++) free(n->seed[i]);
    free(n->seed);
    free(n->seed_err);
    graph_deinit(&n->own_graph);
    places_deinit(&n->places);
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
    bool given = n->membership == NULL;
    if (given && places_of(&n->places, n->config.id) == RANK_NONE)
        return err_set(why, ERR_USAGE, "--id: %llu is not among the %u members",
                       (unsigned long long)n->config.id, n->config.node_count);
    n->started_us = node_now_us(n);
    n->seed = mem_new_zero(n->config.seed_count, sizeof *n->seed);
    n->seed_err = mem_new_zero(n->config.seed_count, sizeof *n->seed_err);
    for (size_t i = 0; i < n->config.seed_count; i++) {
        const char *address = n->config.seeds[i];
        if (n->transport->ops->dial(n->transport, address) != 0)
            return err_set(why, ERR_USAGE, "--join: '%s' is not an address: give HOST:PORT", address);
        n->seed[n->seed_count++] = mem_copy_text(address);
    }
    n->config.seeds = NULL;
    if (given) {
        node_try_begin(n);
        return 0;
    }
    node_members_start(n);
    n->dirty = true;
    n->review_at_us = n->started_us + REVIEW_US;
    node_settle(n);
    return 0;
}

void node_leave(struct node *n)
{
    if (n->leaving || n->membership == NULL || n->failed || n->seed == NULL) return;
    node_members_leave(n);
    n->leaving = true;
}

void node_ready(struct node *n)
{
    n->dirty = true;
    node_settle(n);
}

void node_fail(struct node *n, const struct err_text *why)
{
    if (n->failed) return;
    n->failed = true;
    trace_line(n->config.trace, TRACE_ERROR, "%s", why->text);
    n->host->ops->set_deadline(n->host, TIME_NEVER);
    n->sink.on_failed(n->sink.ctx, why);
}

uint64_t node_now_us(const struct node *n)
{
    return n->host->ops->now_us(n->host);
}

uint64_t node_now_boot(const struct node *n)
{
    uint64_t since_us = n->host == NULL ? 0 : node_now_us(n) - n->started_us;
    return n->config.boot + since_us * BOOT_UNITS_PER_US;
}

/* -- events and actions ------------------------------------------------------------------------ */

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void node_arm(struct node *n)
{
    if (n->failed) return;
    uint64_t at_us = n->algo != NULL ? n->config.algo->deadline_us(n->algo) : TIME_NEVER;
    if (n->algo == NULL && n->membership == NULL) at_us = n->begin_at_us; /* else it is a review's matter */
    at_us = earlier(at_us, earlier(n->redial_at_us, n->finish_at_us));
    if (n->job.held) at_us = earlier(at_us, n->hold_until_us);
    if (n->membership != NULL && !n->leaving) {
        at_us = earlier(at_us, n->review_at_us);
        at_us = earlier(at_us, earlier(node_members_deadline_us(n), node_state_deadline_us(n)));
    }
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
            if (action->durable && n->sink.on_save != NULL)
                node_durable_hold(n, action->to, &action->msg);
            else
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
    timed.now_us = node_now_us(n);
    n->stepping = true;
    int err = n->config.algo->step(n->algo, &timed, &n->actions);
    n->stepping = false;
    CHECK_IMPLIES(err != 0, err == ERR_PROTO && event->kind == ALGO_MESSAGE);
    node_apply(n);
    if (n->asked_in_vain) node_train_finish(n);
    node_arm(n);
    return err;
}

void node_settle(struct node *n)
{
    if (n->membership == NULL || n->failed || n->leaving) return;
    for (uint32_t round = 0; n->dirty && round < SETTLE_ROUND_MAX && !n->failed; round++) {
        n->dirty = false;
        node_join_review(n);
        if (n->failed) return;
        node_state_members(n);
        node_neighbours_review(n);
        node_contacts_review(n);
        node_self_tell(n);
    }
    node_arm(n);
}

static void machines_tick(struct node *n, uint64_t now_us)
{
    if (n->membership == NULL || n->leaving) return;
    node_members_tick(n, now_us);
    node_state_tick(n, now_us);
    if (n->review_at_us > now_us) return;
    n->review_at_us = now_us + REVIEW_US;
    n->dirty = true;
}

static void node_on_deadline(void *ctx)
{
    struct node *n = ctx;
    n->armed_us = TIME_NEVER;
    if (n->failed) return;
    uint64_t now_us = node_now_us(n);
    machines_tick(n, now_us);
    if (n->algo == NULL) {
        if (n->membership == NULL) node_try_begin(n);
        node_settle(n);
        return;
    }
    if (n->redial_at_us <= now_us) {
        n->redial_at_us = TIME_NEVER;
        node_redial_all(n);
    }
    if (n->finish_at_us <= now_us) node_train_finish(n);
    if (n->hold_until_us <= now_us) node_train_release(n);
    if (n->config.algo->deadline_us(n->algo) <= now_us) {
        struct algo_event event = {.kind = ALGO_DEADLINE};
        CHECK(node_feed(n, &event) == 0);
    } else {
        node_arm(n);
    }
    node_settle(n);
}

static void node_on_job_done(void *ctx, struct job *j)
{
    struct node *n = ctx;
    CHECK(j == &n->job.base);
    node_train_done(n);
    node_settle(n);
}

/* -- sinks ------------------------------------------------------------------------------------- */

static void node_on_up(void *ctx, struct link_id link, const struct peer_info *peer)
{
    node_link_up(ctx, link, peer);
    node_settle(ctx);
}

static void node_on_down(void *ctx, struct link_id link, enum down_reason why)
{
    node_link_down(ctx, link, why);
    node_settle(ctx);
}

static void node_on_message(void *ctx, struct link_id link, enum lane lane, const uint8_t *head,
                            size_t head_size, struct blob *body)
{
    node_link_message(ctx, link, lane, head, head_size, body);
    node_settle(ctx);
}

static void node_on_writable(void *ctx, struct link_id link)
{
    node_link_writable(ctx, link);
    node_settle(ctx);
}

static void node_on_refused(void *ctx, const char *address, int err, const char *reason)
{
    node_links_refused(ctx, address, err, reason);
    node_settle(ctx);
}

static void node_on_unreachable(void *ctx, const char *address, int err)
{
    struct node *n = ctx;
    if (n->membership == NULL || n->failed || n->leaving) return;
    node_contacts_unreachable(n, address, err);
    node_settle(n);
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
                                   .on_unreachable = n->membership != NULL ? node_on_unreachable : NULL,
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
        .rank = n->algo != NULL ? n->rank : RANK_NONE,
        .place = n->rank,
        .claimed = n->claimed,
        .incarnation = n->membership != NULL ? membership_self(n->membership)->incarnation : 0,
        .members_known = n->membership != NULL ? n->places.living : n->config.node_count,
        .members_wanted = n->config.min_nodes,
        .progress = n->steps,
        .neighbours = node_neighbour_count(n),
        .neighbours_up = n->presented_count,
        .loss = n->loss,
        .messages_refused = n->refused,
    };
    if (n->fetch != NULL)
        fetch_progress(n->fetch, &out->fetch_chunks, &out->fetch_chunks_total, &out->fetch_donors);
    if (n->donor != NULL) out->bytes_given = donor_bytes_given(n->donor);
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
    return n->algo != NULL ? n->graph : NULL;
}

struct algo *node_algo(const struct node *n)
{
    return n->algo;
}

const struct membership *node_membership(const struct node *n)
{
    return n->membership;
}

bool node_overlay_has(const struct node *n, node_id id)
{
    return n->overlay != NULL && overlay_is_active(n->overlay, id);
}
