/* Asynchronous SGD with a movable holder: AsGrad (Islamov, Safaryan, Alistarh, arXiv 2310.20452) without a
 * server.
 *
 * Job q = (worker k, version alpha): train `steps` local steps from x_alpha and return the difference (minus
 * the step size times the gradient, for one step). The holder has x_t, t counting updates. `concurrency` jobs
 * are always outstanding. When b differences have arrived:
 *     x_{t+1} = x_t + 1/b sum of the differences, in order of job numbers; then b new jobs at version t + 1
 * to workers chosen by the rule (rule.c). A worker queues its jobs, first in first out, each with the model
 * of its assignment; no job is ever dropped while its worker lives. Update before assignment, within one
 * event.
 *
 * The update is a function of the ordered list of gradients, and the assignments are functions of that order.
 * So the order log says all, and the holder's role can move without loss.
 *
 * Normal course (each file has its own part)
 *  - holder: the live node first in hash order at the start; it stays until it fails.
 *  - JOB to the workers, GRAD back (worker.c); buffer, update, assignment (holder.c).
 *  - log entries to `successors` nodes before they are applied, a snapshot every `snapshot` updates, copies
 *    of the gradients of the holder's own node (log.c). Workers keep what they sent until a durable snapshot
 *    covers it.
 *  - every message of the holder carries its term; nodes obey the greatest (election.c).
 *  - each node's model is the newest it has seen: jobs and snapshots bring them.
 * Failure courses
 *  - the holder fails: the next in hash order is elected by a majority of all nodes, gathers log, snapshot
 *    and gradients, and replays them to the same x_t (election.c, recover.c).
 *  - a worker fails: its jobs are cancelled after the patience and it is off the list; the objective is then
 *    the mean over the live ones. It comes on again when it is back (holder.c).
 *  - a minority pauses: it neither logs nor elects. A holder that is cut off finds out when its links go;
 *    what it applied with successors of its own side alone meanwhile, if the links go far apart in time
 *    (log.c), gives way to the majority's log. Terms keep the two apart: nothing forks.
 *  - with any single crash after another is over, at n >= 3: nothing logged is lost, nothing applied twice.
 *    With holder and all successors gone at once the run goes on from the newest model that a voter has
 *    seen; what was not in it is lost, and nothing is counted twice (recover.c).
 *  - a malformed message: ERR_PROTO, nothing changed. */
#include <stdlib.h>

#include "algo/async/internal.h"
#include "algo/vec.h"
#include "base/check.h"
#include "base/prng.h"

extern const struct algo_type async_type;

enum { TICKS_IN_PATIENCE = 16 };

/* -- messages out ---------------------------------------------------------------------------------- */

void async_bury(struct async *a, struct blob *b)
{
    if (a->buried_count == a->buried_capacity) {
        a->buried_capacity = a->buried_capacity > 0 ? 2 * a->buried_capacity : 16;
        a->buried = mem_resize(a->buried, a->buried_capacity, sizeof(struct blob *));
    }
    a->buried[a->buried_count++] = b;
}

static void buried_drop(struct async *a)
{
    for (uint32_t i = 0; i < a->buried_count; i++) blob_unref(a->buried[i]);
    a->buried_count = 0;
}

uint8_t *async_bits(struct async *a, struct algo_msg *m, uint32_t size)
{
    CHECK(size <= ALGO_BITS_MAX);
    struct blob *bits = blob_new(size);
    async_bury(a, bits);
    m->bits_size = size;
    m->bits = size > 0 ? bits->data : NULL;
    return bits->data;
}

struct algo_msg *async_send(struct async *a, struct algo_actions *acts, rank_t to, enum async_kind kind,
                            uint64_t term, uint8_t field_count)
{
    CHECK(to != a->rank && to < a->node_count);
    struct algo_msg *m = algo_send(acts, to, (uint8_t)kind);
    m->field_count = field_count;
    m->field[0] = term;
    return m;
}

void async_send_numbers(struct async *a, struct algo_msg *m, const uint64_t *q, uint32_t count)
{
    uint8_t *bits = async_bits(a, m, count * 8);
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t k = 0; k < 8; k++) bits[i * 8 + k] = (uint8_t)(q[i] >> (8 * k));
}

uint64_t async_number_at(const struct algo_msg *m, uint32_t i)
{
    uint64_t value = 0;
    for (uint32_t k = 0; k < 8; k++) value |= (uint64_t)m->bits[i * 8 + k] << (8 * k);
    return value;
}

/* -- what all parts ask ------------------------------------------------------------------------------ */

uint32_t async_up_count(const struct async *a)
{
    uint32_t count = 1;
    for (rank_t k = 0; k < a->node_count; k++) count += k != a->rank && a->peer[k].up;
    return count;
}

bool async_majority(const struct async *a, uint32_t count)
{
    return count > a->node_count / 2;
}

void async_see(struct async *a, struct blob *x, uint64_t term, uint64_t t)
{
    if (a->seen_term != 0 && t <= a->seen_t) return;
    blob_ref(x);
    async_bury(a, a->seen); /* the node may look at it */
    a->seen = x;
    a->seen_t = t;
    a->seen_term = term;
    a->report.mixes++;
    if (t > a->report.version) a->report.version = t;
}

const uint64_t *async_shares(const struct algo *a)
{
    return ((const struct async *)a)->share;
}

/* -- life -------------------------------------------------------------------------------------- */

static void destroy(struct algo *algo)
{
    struct async *a = (struct async *)algo;
    if (a == NULL) return;
    async_holder_clear(a);
    async_replica_clear(&a->replica);
    async_replica_clear(&a->fetched);
    async_ops_deinit(&a->early);
    async_grads_deinit(&a->kept);
    for (uint32_t i = 0; i < a->queue_count; i++) blob_unref(a->queue[i].model);
    buried_drop(a);
    blob_unref(a->progress);
    blob_unref(a->seen);
    async_rule_deinit(&a->rule);
    if (a->use_feedback) feedback_deinit(&a->feedback);
    compressor_free(a->compressor);
    free(a->buried);
    free(a->queue);
    free(a->hash_order);
    free(a->peer);
    free(a->scratch);
    free(a->start);
    free(a->x);
    free(a->share);
    free(a);
}

struct ranked {
    uint64_t hash;
    rank_t rank;
};

static int by_hash(const void *left, const void *right)
{
    const struct ranked *l = left, *r = right;
    if (l->hash != r->hash) return l->hash > r->hash ? -1 : 1;
    return l->rank < r->rank ? -1 : l->rank > r->rank;
}

/* Rendezvous hashing: the holder is the first that lives. */
static rank_t *hash_order_new(uint64_t seed, uint32_t n)
{
    struct ranked *ranked = mem_new(n, sizeof *ranked);
    rank_t *order = mem_new(n, sizeof *order);
    for (rank_t k = 0; k < n; k++) {
        struct prng random;
        prng_split(&random, seed, "holder", k);
        ranked[k] = (struct ranked){prng_next(&random), k};
    }
    qsort(ranked, n, sizeof *ranked, by_hash);
    for (uint32_t i = 0; i < n; i++) order[i] = ranked[i].rank;
    free(ranked);
    return order;
}

static int check_sizes(uint32_t n, uint32_t batch, uint32_t concurrency, struct err_text *why)
{
    uint32_t jobs = concurrency > 0 ? concurrency : n, map = (n + 7) / 8;
    if (map + ASYNC_JOB_BYTES > ALGO_BITS_MAX)
        return err_set(why, ERR_USAGE, "--algorithm: async runs with at most %u nodes, not %u",
                       (ALGO_BITS_MAX - ASYNC_JOB_BYTES) * 8, n);
    uint32_t room = (ALGO_BITS_MAX - map) / ASYNC_JOB_BYTES;
    if (jobs > room)
        return err_set(why, ERR_USAGE,
                       "--algorithm: the table of %u outstanding jobs does not fit a message; "
                       "give concurrency=%u or less",
                       jobs, room);
    if (batch > jobs)
        return err_set(why, ERR_USAGE,
                       "--algorithm: b=%u gradients per update never arrive with %u jobs outstanding; "
                       "give b=%u or less, or a greater concurrency",
                       batch, jobs, jobs);
    return 0;
}

static int set_order(struct async_rule *rule, const char *text, struct err_text *why)
{
    if (*text == '\0') return 0;
    if (rule->kind != ASYNC_ONCE && rule->kind != ASYNC_CYCLIC)
        return err_set(why, ERR_USAGE, "--algorithm: order=%s goes with rule=once or rule=cyclic only", text);
    if (async_rule_set_order(rule, text)) return 0;
    return err_set(why, ERR_USAGE, "--algorithm: order=%s is not a permutation of 1..%u, as in 3-1-2", text,
                   rule->node_count);
}

/* Those who begin have the common start, with no gradient in it. Who comes later has a model that others have worked
 * on: not the start, and their gradients, which they may send once more, are partly in it. */
static void start_take(struct async *a, const float *x0)
{
    struct blob *x = blob_copy(x0, a->dim * sizeof *x0);
    if (a->holder == RANK_NONE) {
        a->seen = x;
        return;
    }
    async_ledger_init(&a->replica.base, &a->rule, 1, 0);
    a->replica.x = x;
}

static int create(const struct algo_config *config, const struct choice *params, struct algo **out,
                  struct err_text *why)
{
    uint32_t n = config->node_count, batch = choice_integer(params, "b");
    uint32_t concurrency = choice_integer(params, "concurrency");
    bool feedback = choice_integer(params, "feedback") == 0;
    int err = check_sizes(n, batch, concurrency, why);
    if (err != 0) return err;
    struct async *a = mem_new_zero(1, sizeof *a);
    a->rank = config->rank;
    a->node_count = n;
    a->dim = config->dim;
    a->seed = config->seed;
    a->patience_us = config->patience_us > 0 ? config->patience_us : 1;
    a->tick_span_us = a->patience_us >= TICKS_IN_PATIENCE ? a->patience_us / TICKS_IN_PATIENCE : 1;
    a->trace = config->trace;
    a->steps = choice_integer(params, "steps");
    a->snapshot_every = choice_integer(params, "snapshot");
    a->successor_count = choice_integer(params, "successors");
    enum async_rule_kind kind = (enum async_rule_kind)choice_integer(params, "rule");
    async_rule_init(&a->rule, kind, a->seed, n, concurrency, batch);
    a->hash_order = hash_order_new(a->seed, n);
    a->peer = mem_new_zero(n, sizeof *a->peer);
    a->scratch = mem_new(a->dim, sizeof *a->scratch);
    a->x = vec_duplicate(a->dim, config->x0);
    a->share = mem_new_zero(n, sizeof *a->share);
    if (!compress_is_none(config->compress)) {
        a->compressor = compressor_new(config->compress);
        a->use_feedback = feedback;
        if (feedback) feedback_init(&a->feedback, a->compressor, a->dim);
    }
    a->holder = RANK_NONE;
    if (!config->rejoining || n == 1) { /* known to all without a word */
        a->holder = a->hash_order[0];
        a->term = a->promised = n + a->holder;
    }
    err = set_order(&a->rule, choice_text(params, "order"), why);
    async_replica_init(&a->replica);
    start_take(a, config->x0);
    if (err != 0) {
        destroy((struct algo *)a);
        return err;
    }
    *out = (struct algo *)a;
    return 0;
}

/* -- events ------------------------------------------------------------------------------------ */

static void on_start(struct async *a, struct algo_actions *acts)
{
    for (rank_t k = 0; k < a->node_count; k++) a->peer[k].since_us = a->now_us;
    a->heard_us = a->lost_us = a->now_us;
    a->tick_us = a->now_us + a->tick_span_us;
    if (a->holder == a->rank) {
        async_ledger_copy(&a->ledger, &a->replica.base);
        for (uint32_t i = 0; i < a->ledger.job_count; i++) a->ledger.job[i].model = blob_ref(a->replica.x);
        async_holder_begin(a, acts);
    }
}

static void on_peer_up(struct async *a, rank_t peer, uint64_t boot, struct algo_actions *acts)
{
    struct async_peer *p = &a->peer[peer];
    CHECK(!p->up);
    p->up = true;
    p->since_us = a->now_us;
    async_election_peer_up(a, peer, boot);
    if (a->role >= ASYNC_RECOVERING) async_members_greet(a, peer, acts);
    if (a->role == ASYNC_CANDIDATE) async_ask_send(a, peer, acts);
}

static void on_peer_down(struct async *a, rank_t peer, struct algo_actions *acts)
{
    struct async_peer *p = &a->peer[peer];
    CHECK(p->up);
    p->up = false;
    p->since_us = a->now_us;
    if (peer == a->term % a->node_count) a->greeted = false;
    if (a->role >= ASYNC_RECOVERING) async_members_peer_down(a, peer, acts);
    async_election_peer_down(a, peer);
}

static int on_alive(struct async *a, rank_t from, const struct algo_msg *m, struct algo_actions *acts)
{
    if (m->field_count != 2 || m->bits_size != 0 || m->vec != NULL || m->packed != NULL) return ERR_PROTO;
    if (!async_term_valid(a, m->field[0])) return ERR_PROTO;
    (void)async_heeds(a, from, m->field[0], acts);
    return 0;
}

static int on_message(struct async *a, rank_t from, const struct algo_msg *m, struct algo_actions *acts)
{
    if (!a->peer[from].up) return ERR_PROTO;
    switch (m->kind) {
    case ASYNC_TERM:
        return async_on_term(a, from, m, acts);
    case ASYNC_HAVE:
        return async_on_have(a, from, m, acts);
    case ASYNC_JOB:
        return async_on_job(a, from, m, acts);
    case ASYNC_GRAD:
        return async_on_grad(a, from, m, acts);
    case ASYNC_CANCEL:
        return async_on_cancel(a, from, m, acts);
    case ASYNC_LOG:
        return async_on_log(a, from, m, acts);
    case ASYNC_SNAPSHOT:
        return async_on_snapshot(a, from, m, acts);
    case ASYNC_OWN:
        return async_on_own(a, from, m, acts);
    case ASYNC_ACK:
        return async_on_ack(a, from, m);
    case ASYNC_ALIVE:
        return on_alive(a, from, m, acts);
    case ASYNC_STALE:
        return async_on_stale(a, m);
    case ASYNC_ASK:
        return async_on_ask(a, from, m, acts);
    case ASYNC_VOTE:
        return async_on_vote(a, from, m, acts);
    case ASYNC_FETCH:
        return async_on_fetch(a, from, m, acts);
    case ASYNC_FETCHED:
        return async_on_fetched(a, from, m, acts);
    default: /* a peer's number, not an enumeration of ours */
        return ERR_PROTO;
    }
}

static void tick(struct async *a, struct algo_actions *acts)
{
    if (a->now_us < a->tick_us) return;
    a->tick_us = a->now_us + a->tick_span_us;
    if (a->role >= ASYNC_RECOVERING) async_members_tick(a, acts);
    async_election_tick(a, acts);
}

static int step(struct algo *algo, const struct algo_event *e, struct algo_actions *acts)
{
    struct async *a = (struct async *)algo;
    a->now_us = e->now_us;
    buried_drop(a);
    int err = 0;
    switch (e->kind) {
    case ALGO_START:
        on_start(a, acts);
        break;
    case ALGO_PEER_UP:
        on_peer_up(a, e->peer, e->boot, acts);
        break;
    case ALGO_PEER_DOWN:
        on_peer_down(a, e->peer, acts);
        break;
    case ALGO_MESSAGE:
        err = on_message(a, e->peer, e->msg, acts);
        break;
    case ALGO_TRAINED:
        async_worker_trained(a, e, acts);
        break;
    case ALGO_DEADLINE:
        break;
    }
    if (err != 0) return err;
    tick(a, acts);
    async_holder_pump(a, acts);
    return 0;
}

static uint64_t deadline_us(const struct algo *algo)
{
    const struct async *a = (const struct async *)algo;
    return a->node_count > 1 ? a->tick_us : TIME_NEVER;
}

static const float *model(const struct algo *algo)
{
    const struct async *a = (const struct async *)algo;
    if (a->role == ASYNC_HOLDER || a->seen == NULL) return a->x;
    return blob_floats(a->seen);
}

static void report(const struct algo *algo, struct algo_report *out)
{
    *out = ((const struct async *)algo)->report;
}

static const struct param_spec params[] = {
    {"rule", PARAM_WORD, "shuffled", 0, 0, "pure|random|shuffled|once|cyclic", "who gets the next job"},
    {"b", PARAM_INTEGER, "1", 1, ASYNC_BATCH_MAX, NULL, "gradients per update"},
    {"steps", PARAM_INTEGER, "1", 1, 1e6, NULL, "local steps per job"},
    {"concurrency", PARAM_INTEGER, "0", 0, ALGO_BITS_MAX, NULL, "jobs outstanding; 0 = one per node"},
    {"order", PARAM_TEXT, "", 0, 0, NULL, "permutation for once and cyclic, as in 3-1-2"},
    {"snapshot", PARAM_INTEGER, "20", 1, 1e6, NULL, "updates between snapshots"},
    {"successors", PARAM_INTEGER, "2", 1, 16, NULL, "nodes that follow the order log"},
    {"feedback", PARAM_WORD, "ef", 0, 0, "ef|none", "what compression drops: kept for the next, or lost"},
};

const struct algo_type async_type = {
    .spec = {"async", "asynchronous SGD: stale gradients, one holder of the model that can move",
             "AsGrad, Islamov et al. 2023 (arXiv 2310.20452)", params, sizeof params / sizeof params[0]},
    .eval = ALGO_EVAL_NEWEST,
    .links = ALGO_LINKS_ALL,
    .packs = true,
    .compresses = true,
    .create = create,
    .destroy = destroy,
    .step = step,
    .deadline_us = deadline_us,
    .model = model,
    .report = report,
    .state_version = 1,
    .state_save = async_state_save,
    .state_restore = async_state_restore,
};
