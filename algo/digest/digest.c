/* DIGEST, single- and multi-stream.
 *
 * Source: P. Gholami, H. Seferoglu, "DIGEST: Fast and Communication Efficient Decentralized Learning with
 * Local Updates", arXiv 2307.07652; the rules follow the authors' released simulator.
 *
 * Method: every node runs local SGD without ever pausing. One global model g per stream travels as a token.
 * At node v:   g <- g + w_v (x_v - r_v) + (r_v - q_v[s]);   q_v[s], x_v, r_v <- g
 * (w_v = D_v / D; r_v: x_v after its last sync with any stream; q_v[s]: the token of s as it last left v.)
 * Streams are node subsets glued by shared nodes; their incidence graph must be connected and acyclic
 * (streams.h). Conservation: once drift stops, every model and token ends at x0 + sum_v w_v (progress of v).
 *
 * State: x; one reference-counted vector per stream of this node, shared with the message in flight.
 * Files: token.c (sync, tour), line.c (compressed tokens), ledger.c (what is handed over once more),
 * search.c (lost tokens), plan.c (streams), judge.c and rebase.c (new plans), state.c (over a restart).
 *
 * Normal course
 *  - START trains; TRAINED adds the progress to x, trains on, and starts the tours that are due.
 *  - a TOKEN is synced, acknowledged and sent on (token.c).
 * Failure courses
 *  - PEER_DOWN / PEER_UP: hand-overs are repeated or given up (token.h), plans reconsidered (rebase.c).
 *  - a message that is malformed or from outside the stream: ERR_PROTO, nothing changed.
 */
#include <stdlib.h>

#include "algo/digest/internal.h"
#include "algo/vec.h"
#include "base/check.h"

extern const struct algo_type digest_type;

size_t digest_slot(const struct digest *d, rank_t peer)
{
    uint32_t index = graph_edge_index(d->graph, d->rank, peer);
    return index == UINT32_MAX ? SIZE_MAX : index - d->graph->offset[d->rank];
}

struct stream_seat *digest_seat(struct digest *d, uint64_t stream)
{
    for (uint32_t i = 0; i < d->own_count; i++)
        if (d->own[i].stream == stream) return &d->own[i];
    return NULL;
}

bool seat_has(const struct stream_seat *m, rank_t v)
{
    uint32_t low = 0, high = m->member_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (m->member[middle] < v)
            low = middle + 1;
        else
            high = middle;
    }
    return low < m->member_count && m->member[low] == v;
}

/* -- life -------------------------------------------------------------------------------------- */

static void destroy(struct algo *a)
{
    struct digest *d = (struct digest *)a;
    if (d == NULL) return;
    digest_plan_free(d);
    pack_free(d->pack);
    streams_deinit(&d->given);
    free(d->x);
    free(d->up);
    free(d->boot);
    free(d->down_us);
    free(d->judged);
    free(d->guessed);
    free(d->known);
    free(d);
}

/* Who begins anew with a model of a former life begins with stamps that are greater than all of that one: more syncs
 * than 2^32 between two steps of its own are not possible. Claims (32 bits) are saturated by them, as they should: what
 * a node has handed over in the former life may be in the model. */
static uint64_t stamps_behind(const struct algo_config *config)
{
    static const uint64_t steps_max = (UINT64_C(1) << 30) - 2;
    return ((config->steps < steps_max ? config->steps : steps_max) + 1) << 32;
}

/* Streams: built from the graph, or read from a file and then checked against it. */
static int streams_choose(struct digest *d, const struct choice *params, struct err_text *why)
{
    static const enum stream_kind kinds[] = {STREAMS_PATH, STREAMS_SINGLE, STREAMS_STAR, STREAMS_BRANCH,
                                             STREAMS_EDGE};
    d->kind = kinds[choice_integer(params, "streams")];
    const char *path = choice_text(params, "file");
    if (path[0] == '\0') return 0;
    d->kind = STREAMS_PATH; /* how a later plan would cut its streams */
    struct err_text inner = {""};
    int err = streams_read(path, d->node_count, &d->given, &inner);
    if (err == 0) err = streams_check(&d->given, d->graph, NULL, &inner);
    return err == 0 ? 0 : err_set(why, err, "--algorithm: digest:file=%s: %.400s", path, inner.text);
}

static int create(const struct algo_config *config, const struct choice *params, struct algo **out,
                  struct err_text *why)
{
    struct digest *d = mem_new_zero(1, sizeof *d);
    d->rank = config->rank;
    d->node_count = config->node_count;
    d->graph = config->graph;
    d->weight = config->weight;
    d->dim = config->dim;
    d->patience_us = config->patience_us;
    d->trace = config->trace;
    d->rejoining = d->late = config->rejoining;
    d->restored = config->start != NULL && !config->rejoining;
    if (d->restored) d->stamps_behind = stamps_behind(config);
    d->unsure = config->start != NULL || config->rejoining;
    d->hop = choice_integer(params, "hop") == 0 ? HOP_DFS : HOP_WALK;
    d->sync_every = choice_integer(params, "sync_every");
    d->reweigh = choice_integer(params, "reweigh") == 0;
    d->bits_size = (config->node_count + 7) / 8;
    size_t degree = neighbour_count(d);
    d->up = mem_new_zero(degree, sizeof *d->up);
    d->boot = mem_new_zero(degree, sizeof *d->boot);
    d->down_us = mem_new_zero(degree, sizeof *d->down_us);
    d->judged = mem_new_zero(degree, sizeof *d->judged);
    d->guessed = mem_new_zero(degree, sizeof *d->guessed);
    d->known = mem_new_zero(degree, sizeof *d->known);
    d->x = vec_duplicate(d->dim, config->x0);
    prng_split(&d->prng, config->seed, "digest", config->rank);
    d->seed = config->seed;
    digest_ledger_init(d);
    int err = digest_compressor_choose(d, config, why);
    if (err == 0) err = streams_choose(d, params, why);
    if (err != 0) {
        destroy((struct algo *)d);
        return err;
    }
    digest_plan_init(d, config->x0);
    *out = (struct algo *)d;
    return 0;
}

/* -- events ------------------------------------------------------------------------------------ */

static void train(const struct digest *d, struct algo_actions *acts)
{
    uint64_t until_tour = d->sync_every - d->steps % d->sync_every;
    algo_train(acts, d->x, (uint32_t)until_tour);
}

static void on_start(struct digest *d, struct algo_actions *acts)
{
    d->trained_us = d->now_us;
    d->blank_until_us += d->now_us;
    for (size_t i = 0; i < neighbour_count(d); i++) d->down_us[i] = d->now_us;
    for (uint32_t i = 0; i < d->own_count; i++) { /* clocks of absence begin now, not at creation */
        struct stream_seat *m = &d->own[i];
        bool here = m->custody.place == CUSTODY_HELD;
        custody_init(&m->custody, d->rank, here, d->patience_us, d->now_us);
        if (here) custody_begin_behind(&m->custody, d->stamps_behind);
        if (here) digest_token_park(d, m);
        digest_await_first(d, m);
    }
    train(d, acts);
}

static void on_trained(struct digest *d, const struct algo_event *event, struct algo_actions *acts)
{
    for (size_t j = 0; j < d->dim; j++) d->x[j] += event->trained.delta[j];
    d->steps += event->trained.steps;
    uint64_t per_step = (d->now_us - d->trained_us) / event->trained.steps;
    d->step_us = d->step_us == 0 ? per_step : (7 * d->step_us + per_step) / 8;
    d->trained_us = d->now_us;
    digest_start_due_tours(d, acts);
    train(d, acts);
}

static void on_peer_up(struct digest *d, size_t slot, uint64_t boot, struct algo_actions *acts)
{
    rank_t peer = neighbour_at(d, slot);
    bool restarted = d->boot[slot] != 0 && d->boot[slot] != boot;
    d->up[slot] = true;
    d->boot[slot] = boot;
    d->down_us[slot] = TIME_NEVER;
    d->known[slot] = (struct epoch){UINT32_MAX, 0}; /* until its STATUS is here */
    digest_status_send(d, peer, false, acts);
    for (uint32_t i = 0; i < d->own_count; i++) {
        digest_line_restart(&d->own[i], slot);
        if (d->own[i].member[0] == peer) digest_await_first(d, &d->own[i]);
        if (custody_peer_up(&d->own[i].custody, peer, restarted, d->now_us))
            digest_token_repeat(d, &d->own[i], acts);
    }
    digest_rebase_peer_up(d, slot, restarted);
}

static void on_peer_down(struct digest *d, size_t slot)
{
    d->up[slot] = false;
    d->down_us[slot] = d->now_us;
    for (uint32_t i = 0; i < d->own_count; i++) {
        digest_line_forget(&d->own[i], slot);
        if (d->own[i].member[0] == neighbour_at(d, slot)) digest_await_first(d, &d->own[i]);
        custody_peer_down(&d->own[i].custody, neighbour_at(d, slot), d->now_us);
    }
    digest_rebase_peer_down(d, slot);
}

static int on_message(struct digest *d, rank_t from, const struct algo_msg *msg, struct algo_actions *acts)
{
    switch (msg->kind) {
    case DIGEST_TOKEN:
        return digest_token_message(d, from, msg, acts);
    case DIGEST_ACK:
        return digest_ack_message(d, from, msg);
    case DIGEST_SEEK:
        return digest_seek_message(d, from, msg, acts);
    case DIGEST_STATUS:
        return digest_status_message(d, from, msg, acts);
    case DIGEST_PLAN:
        return digest_plan_message(d, from, msg, acts);
    case DIGEST_OFFER:
        return digest_offer_message(d, from, msg);
    case DIGEST_AGAIN:
        return digest_again_message(d, from, msg, acts);
    default: /* a peer's number, not an enumeration of ours */
        return ERR_PROTO;
    }
}

static int step(struct algo *a, const struct algo_event *event, struct algo_actions *acts)
{
    struct digest *d = (struct digest *)a;
    CHECK(event->now_us >= d->now_us);
    d->now_us = event->now_us;
    digest_spent_free(d);
    int err = 0;
    switch (event->kind) {
    case ALGO_START:
        on_start(d, acts);
        break;
    case ALGO_PEER_UP:
        on_peer_up(d, digest_slot(d, event->peer), event->boot, acts);
        break;
    case ALGO_PEER_DOWN:
        on_peer_down(d, digest_slot(d, event->peer));
        break;
    case ALGO_MESSAGE:
        err = on_message(d, event->peer, event->msg, acts);
        break;
    case ALGO_TRAINED:
        on_trained(d, event, acts);
        break;
    case ALGO_DEADLINE:
        digest_start_due_tours(d, acts);
        break;
    }
    if (err != 0) return err;
    digest_search_tick(d, acts);
    digest_rebase_tick(d, acts);
    return 0;
}

/* -- questions --------------------------------------------------------------------------------- */

static uint64_t deadline_us(const struct algo *a)
{
    const struct digest *d = (const struct digest *)a;
    uint64_t next = digest_rebase_deadline_us(d);
    for (uint32_t i = 0; i < d->own_count; i++) {
        const struct stream_seat *m = &d->own[i];
        uint64_t at = m->member_count > 1 ? custody_deadline_us(&m->custody) : TIME_NEVER;
        if (m->custody.place == CUSTODY_HELD && m->parked && m->tour_us < at) at = m->tour_us;
        if (at < next) next = at;
    }
    return next;
}

static const float *model(const struct algo *a)
{
    return ((const struct digest *)a)->x;
}

static void report(const struct algo *a, struct algo_report *out)
{
    const struct digest *d = (const struct digest *)a;
    *out = d->counters;
    out->steps = d->steps;
    out->steps_handed_over = d->steps_handed_over;
}

static const struct param_spec params[] = {
    {"streams", PARAM_WORD, "path", 0, 0, "path|single|star|branch|edge",
     "how the shortest-path tree is cut"},
    {"sync_every", PARAM_INTEGER, "100", 1, 1e9, NULL, "H: local steps between the starts of two tours"},
    {"hop", PARAM_WORD, "dfs", 0, 0, "dfs|walk", "next hop: depth first, or Metropolis-Hastings"},
    {"reweigh", PARAM_WORD, "yes", 0, 0, "yes|no", "divide weights by their sum over the living part"},
    {"file", PARAM_TEXT, "", 0, 0, NULL, "streams from a file, a line of ranks each"},
};

const struct algo_type digest_type = {
    .spec = {"digest",
             "local SGD everywhere; tokens tour the nodes, take their progress, leave the aggregate",
             "Gholami, Seferoglu: DIGEST, arXiv 2307.07652", params, sizeof params / sizeof params[0]},
    .eval = ALGO_EVAL_AVERAGE,
    .packs = true,
    .compresses = true,
    .by_tensor = true,
    .create = create,
    .destroy = destroy,
    .step = step,
    .deadline_us = deadline_us,
    .model = model,
    .report = report,
    .state_version = 2, /* 1 had no number of a plan */
    .state_save = digest_state_save,
    .state_restore = digest_state_restore,
};
