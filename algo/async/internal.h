/* Shared by the files of async and their tests. async.c says what the method is and how the protocol goes. */
#ifndef GADABOUT_ALGO_ASYNC_INTERNAL_H
#define GADABOUT_ALGO_ASYNC_INTERNAL_H

#include "algo/compress/compress.h"
#include "algo/compress/feedback.h"
#include "algo/state.h"

/* -- assignment rules, the table of jobs, the order log (rule.c, ledger.c) ------------------------ */

enum async_rule_kind { ASYNC_PURE, ASYNC_RANDOM, ASYNC_SHUFFLED, ASYNC_ONCE, ASYNC_CYCLIC };

/* Who gets the job: a pure function of seed, counters and member list. The cache holds one permutation. */
struct async_rule {
    enum async_rule_kind kind;
    uint64_t seed;
    uint32_t node_count;
    uint32_t concurrency; /* jobs outstanding; 0 = as many as members */
    uint32_t batch;       /* b */
    uint32_t *given;      /* (node_count) order asked for; NULL = none; owned */
    uint32_t *order;      /* (node_count) permutation of block `block`; owned */
    uint64_t block;
    bool filled;
};

struct async_job {
    uint64_t q, alpha; /* job number; model version at assignment */
    rank_t worker;
    bool arrived;       /* holder only: its gradient waits to be applied */
    struct blob *model; /* holder only: x_alpha, (dim), until the JOB was sent; owned */
};

/* All that follows from the order log: everybody who replays it from the start has the same. */
struct async_ledger {
    uint64_t index;  /* entries of the log in it */
    uint64_t t;      /* updates */
    uint64_t next_q; /* number of the next job */
    uint64_t draws;  /* assignments by rule so far */
    uint64_t block;  /* of the permutation; a change of the list starts a new one */
    uint32_t place;  /* in the block */
    uint32_t node_count, member_count;
    uint8_t *member;       /* (node_count) 1 = on the list; owned */
    struct async_job *job; /* ascending q; owned */
    uint32_t job_count, job_capacity;
};

enum async_op_kind {
    ASYNC_OP_UPDATE = 1, /* name[0..b): the gradients, ascending q */
    ASYNC_OP_OFF,        /* name[0].worker leaves the list, its jobs are cancelled */
    ASYNC_OP_ON,         /* name[0].worker comes on the list */
    ASYNC_OP_REDO,       /* name[0]: this job got lost; a new one for the same worker */
    ASYNC_OP_TERM,       /* name[0].q: a new term; job numbers go on in its range */
};

struct async_name {
    uint64_t q;
    rank_t worker;
};

struct async_op {
    uint8_t kind;
    uint32_t count;
    struct async_name *name; /* owned */
};

struct async_ops {
    struct async_op *item;
    uint32_t count, capacity;
};

#define ASYNC_NAME_BYTES 10u /* in a message: number 8, worker 2 */
#define ASYNC_OP_HEAD 3u     /* kind 1, count 2 */
#define ASYNC_JOB_BYTES 14u  /* number 8, worker 2, age in updates 4 */
#define ASYNC_BATCH_MAX ((ALGO_BITS_MAX - ASYNC_OP_HEAD) / ASYNC_NAME_BYTES)

void async_rule_init(struct async_rule *r, enum async_rule_kind kind, uint64_t seed, uint32_t node_count,
                     uint32_t concurrency, uint32_t batch);
void async_rule_deinit(struct async_rule *r);
/* "3-1-2": ranks from 1. false = not a permutation of 1..node_count. */
bool async_rule_set_order(struct async_rule *r, const char *text);
/* The worker of the next job; advances the ledger's counters. sender is whose gradient made the place free,
 * RANK_NONE when none did. */
rank_t async_rule_next(struct async_rule *r, struct async_ledger *l, rank_t sender);
uint32_t async_rule_target(const struct async_rule *r, const struct async_ledger *l); /* jobs outstanding */

/* All members, the first jobs assigned at version t with numbers from next_q on. */
void async_ledger_init(struct async_ledger *l, struct async_rule *r, uint64_t next_q, uint64_t t);
void async_ledger_deinit(struct async_ledger *l);
void async_ledger_copy(struct async_ledger *to,
                       const struct async_ledger *from);                       /* to: deinited; no models */
struct async_job *async_ledger_find(const struct async_ledger *l, uint64_t q); /* NULL = not outstanding */
/* Least outstanding number of the worker, or the next number: whatever is below is applied or cancelled. */
uint64_t async_ledger_low(const struct async_ledger *l, rank_t worker);
/* Whether the entry can follow: its jobs are outstanding with these workers, ... */
bool async_ledger_allows(const struct async_ledger *l, const struct async_op *op);
/* Applies an entry that is allowed (checked). New jobs are at the end: returns how many. */
uint32_t async_ledger_apply(struct async_ledger *l, struct async_rule *r, const struct async_op *op);
/* Members and jobs as bytes, at most ALGO_BITS_MAX; the counters travel as fields. */
uint32_t async_ledger_size(const struct async_ledger *l);
void async_ledger_write(const struct async_ledger *l, uint8_t *out);
/* Fills members and jobs; counters of l are set. ERR_PROTO: l is to be deinited. */
int async_ledger_read(struct async_ledger *l, const uint8_t *bytes, uint32_t size);

void async_op_append(struct async_ops *ops, uint8_t kind, const struct async_name *name, uint32_t count);
void async_ops_drop(struct async_ops *ops, uint32_t count); /* the first ones */
void async_ops_deinit(struct async_ops *ops);
uint32_t async_op_size(const struct async_op *op);
uint32_t async_op_write(const struct async_op *op, uint8_t *out);
/* Parses a whole message. ERR_PROTO: ops is unchanged. */
int async_ops_read(struct async_ops *ops, uint32_t node_count, const uint8_t *bytes, uint32_t size);

/* -- gradients ----------------------------------------------------------------------------------- */

struct async_grad {
    uint64_t q;
    rank_t worker;
    uint32_t steps;
    uint64_t sequence;         /* of the holder's own: order in which its successors get copies */
    struct blob *vec, *packed; /* one of them; owned references */
};

struct async_grads {
    struct async_grad *item;
    uint32_t count, capacity;
};

void async_grads_add(struct async_grads *g, const struct async_grad *grad); /* takes new references */
const struct async_grad *async_grads_find(const struct async_grads *g, uint64_t q);
void async_grads_remove(struct async_grads *g, uint32_t i);
void async_grads_deinit(struct async_grads *g);

/* -- messages ------------------------------------------------------------------------------------ */

enum async_kind {
    ASYNC_TERM = 1, /* holder: term, least number of yours it may lack. At each new link, and at its start */
    ASYNC_HAVE,     /* answer: term, gradients sent again; bits = numbers of the queued jobs */
    ASYNC_JOB,      /* term, q, alpha, numbers below which nothing need be kept; vec = x_alpha */
    ASYNC_GRAD,     /* term, q; vec or packed */
    ASYNC_CANCEL,   /* term; bits = numbers of jobs not to be done */
    ASYNC_LOG,      /* term, index of the first entry, counted from 1; bits = entries */
    ASYNC_SNAPSHOT, /* term, of the log; index, t, next q, draws, block, place; bits = table; vec = x_t */
    ASYNC_OWN,      /* term, q, worker, sequence; vec or packed: a copy of a gradient of the holder's own */
    ASYNC_ACK,   /* term, index of the snapshot held + 1, of the last entry held, greatest sequence of OWN */
    ASYNC_ALIVE, /* term, t */
    ASYNC_STALE, /* a later term promised */
    ASYNC_ASK,   /* term asked for */
    ASYNC_VOTE, /* that term; term of the log, index of its last entry, of its snapshot + 1 (0 = none), t at its
                    end; of the newest model seen: term, t */
    ASYNC_FETCH,   /* that term: send what you hold; 1 = the newest model seen, and no log */
    ASYNC_FETCHED, /* that term, index of the last entry, copies of own gradients sent */
};

enum async_role {
    ASYNC_FOLLOWER,
    ASYNC_CANDIDATE,  /* asks for votes */
    ASYNC_FETCHING,   /* has them; a voter holds a longer log */
    ASYNC_RECOVERING, /* is the holder; gathers the gradients that the log names */
    ASYNC_HOLDER,
};

enum async_greeting { ASYNC_GREET_NONE, ASYNC_GREET_ASKED, ASYNC_GREET_HAVE, ASYNC_GREET_DONE };
enum async_standby { ASYNC_STANDBY_NONE, ASYNC_STANDBY_JOINING, ASYNC_STANDBY_MEMBER };

/* What a voter holds. A model alone does not say which gradients are in it. */
struct async_extent {
    uint64_t log_term, log_last, log_snapshot, log_t; /* log_snapshot: index + 1; 0 = there is no log */
    uint64_t seen_term, seen_t;                       /* newest model seen */
};

/* What a node knows of another one. */
struct async_peer {
    bool up;
    uint64_t since_us; /* up or down since */
    uint64_t boot;     /* of its last coming; 0 = none */
    /* as its holder */
    enum async_greeting greeting;
    uint64_t grads_expected, grads_got;
    uint64_t *queued; /* (queued_count) from its HAVE, until reconciled; owned */
    uint32_t queued_count;
    bool silent;          /* taken off the list with its link up: it answers no jobs */
    uint64_t progress_us; /* last gradient, or first job of an idle worker */
    enum async_standby standby;
    bool lame; /* missed the patience as a successor; until its next link */
    uint64_t acked_snapshot, acked_log, acked_own;
    uint64_t acked_us; /* last answer, or first question since */
    uint64_t join_index;
    uint64_t low, low_pending; /* numbers below are covered by a durable snapshot / by the one on its way */
    /* as a candidate */
    bool voted;
    struct async_extent extent;
};

struct async_queued {
    uint64_t q, alpha;
    struct blob *model; /* x_alpha, owned reference */
};

/* What is left of a holder that fails: kept by its successors and by a former holder itself. Who came into a running
 * cluster has none at first: which gradients are in the model it came with nobody has told it. */
struct async_replica {
    uint64_t term; /* whose log it is; 0 = the common start */
    struct async_ledger base;
    struct blob *x;         /* (dim) at base; NULL = nothing is known */
    struct async_ops ops;   /* entries after base */
    struct async_grads own; /* copies of holders' own gradients */
};

struct async {
    /* the experiment */
    rank_t rank;
    uint32_t node_count;
    size_t dim;
    uint64_t seed, patience_us, tick_span_us;
    const struct trace *trace;
    struct async_rule rule;
    uint32_t steps, snapshot_every, successor_count;
    struct compressor *compressor; /* NULL = none */
    bool use_feedback;
    struct feedback feedback;
    rank_t *hash_order; /* (node_count) ranks by descending hash: holder, successors */
    struct async_peer *peer;
    float *scratch; /* (dim) */
    float *start;   /* (dim) where a job goes on that the trainer stopped early; NULL until needed */

    /* now */
    uint64_t now_us, tick_us;
    struct blob **buried; /* what actions of this step point into; dropped at the next */
    uint32_t buried_count, buried_capacity;
    struct algo_report report;

    /* terms */
    enum async_role role;
    uint64_t term;           /* obeyed: of an elected holder; term mod n is its rank; 0 = none yet */
    uint64_t promised;       /* greatest term voted for or obeyed: nothing older is answered */
    uint64_t asked;          /* as a candidate: the term asked for; later: the greatest seen */
    rank_t holder;           /* RANK_NONE = not known */
    uint64_t heard_us;       /* last word of the holder */
    uint64_t lost_us;        /* no holder known since */
    uint64_t quiet_until_us; /* no candidature before: another one is under way */
    uint64_t stage_us;       /* candidate: asked at; fetching, recovering: since */
    uint64_t won_us;         /* candidate: has had a majority since; TIME_NEVER */
    rank_t source;           /* fetching: from whom */
    uint64_t fetch_first, fetch_last, fetch_own;
    bool fetch_told;
    bool from_seen; /* elected: goes on from the newest model that a voter has seen, no log is as far */

    /* worker */
    struct async_queued *queue;
    uint32_t queue_count, queue_capacity;
    bool training, discard; /* a TRAIN is out; its job has been cancelled */
    struct blob *progress;  /* (dim) of the job at the head, when the trainer stopped early; NULL = none */
    uint32_t progress_steps;
    struct async_grads kept;    /* sent, or to be sent; until covered */
    bool greeted;               /* HAVE went out on this link to the holder of this term */
    struct blob *seen;          /* (dim) newest model seen; NULL = x0 in x */
    uint64_t seen_t, seen_term; /* term 0: brought along */

    /* replica; entries of a term whose snapshot has not come */
    struct async_replica replica, fetched;
    uint64_t early_term, early_first;
    struct async_ops early;
    uint64_t own_last; /* greatest sequence of OWN in this term */

    /* holder */
    struct async_ledger ledger;
    float *x;           /* (dim) x_t; others: the start */
    struct blob *model; /* copy of x for messages; NULL = not made yet */
    struct async_grads arrivals;
    struct async_ops control; /* entries wanted, not logged */
    struct async_ops flight;  /* entries logged, not applied */
    uint64_t own_sequence;    /* of the last own gradient sent to the successors */
    uint64_t hold_until_us;   /* nothing is applied before: a successor was lost */
    bool snapshot_wanted;
    uint64_t snapshot_t, snapshot_index; /* last one; index 0 = none on its way */
    uint64_t longest_us;                 /* longest time a gradient has taken */
    uint64_t *share;                     /* (node_count) gradients in x since this node's snapshot */
};

/* -- async.c ------------------------------------------------------------------------------------- */

uint8_t *async_bits(struct async *a, struct algo_msg *m,
                    uint32_t size); /* room for m's bits; size 0 = none */
struct algo_msg *async_send(struct async *a, struct algo_actions *acts, rank_t to, enum async_kind kind,
                            uint64_t term, uint8_t field_count);
void async_bury(struct async *a, struct blob *b); /* takes a reference; dropped at the next step */
void async_send_numbers(struct async *a, struct algo_msg *m, const uint64_t *q, uint32_t count);
uint64_t async_number_at(const struct algo_msg *m, uint32_t i);
uint32_t async_up_count(const struct async *a); /* this node among them */
bool async_majority(const struct async *a, uint32_t count);
void async_see(struct async *a, struct blob *x, uint64_t term, uint64_t t); /* newer or not; borrows */
const uint64_t *async_shares(const struct algo *a); /* (node_count) by worker; meaningful on the holder */

/* -- state.c ------------------------------------------------------------------------------------- */

void async_state_save(const struct algo *algo, struct state_writer *out);
int async_state_restore(struct algo *algo, struct state_reader *in, struct err_text *why);

/* -- worker.c ------------------------------------------------------------------------------------ */

void async_worker_job(struct async *a, uint64_t q, uint64_t alpha, struct blob *x, struct algo_actions *acts);
void async_worker_trained(struct async *a, const struct algo_event *e, struct algo_actions *acts);
void async_worker_cancel(struct async *a, uint64_t q, struct algo_actions *acts);
void async_worker_covered(struct async *a, uint64_t low);
bool async_worker_has(const struct async *a, uint64_t q); /* queued or kept */
int async_on_term(struct async *a, rank_t from, const struct algo_msg *m, struct algo_actions *acts);
int async_on_job(struct async *a, rank_t from, const struct algo_msg *m, struct algo_actions *acts);
int async_on_cancel(struct async *a, rank_t from, const struct algo_msg *m, struct algo_actions *acts);

/* -- holder.c ------------------------------------------------------------------------------------ */

struct blob *async_model_blob(struct async *a); /* x_t, borrowed */
/* Hands a job with a model to its worker, if that can take it now. */
void async_job_send(struct async *a, struct async_job *job, struct algo_actions *acts);
void async_jobs_cancel(struct async *a, rank_t worker, const uint64_t *q, uint32_t count,
                       struct algo_actions *acts);
void async_op_want(struct async *a, enum async_op_kind kind, uint64_t q, rank_t worker);
/* A gradient that its worker may not be there to send again, to all successors. */
void async_copies_send(struct async *a, const struct async_grad *g, struct algo_actions *acts);
void async_holder_begin(struct async *a, struct algo_actions *acts); /* ledger and x are set */
void async_holder_own(struct async *a, struct async_grad *g, struct algo_actions *acts);
void async_holder_pump(struct async *a, struct algo_actions *acts);
void async_holder_step_down(struct async *a);
void async_holder_clear(struct async *a);
/* x += mean of the gradients named, in this order; all are in `from` (checked). */
void async_apply_gradients(struct async *a, const struct async_op *op, const struct async_grads *from);

/* -- members.c ----------------------------------------------------------------------------------- */

void async_members_greet(struct async *a, rank_t peer, struct algo_actions *acts);
void async_members_peer_down(struct async *a, rank_t peer, struct algo_actions *acts);
/* Brings table and queue into agreement; the worker's HAVE and what it sent again are here. */
void async_members_reconcile(struct async *a, rank_t worker, struct algo_actions *acts);
void async_members_tick(struct async *a, struct algo_actions *acts);
int async_on_have(struct async *a, rank_t from, const struct algo_msg *m, struct algo_actions *acts);
int async_on_grad(struct async *a, rank_t from, const struct algo_msg *m, struct algo_actions *acts);

/* -- log.c --------------------------------------------------------------------------------------- */

void async_log_send(struct async *a, rank_t to, const struct async_ops *ops, uint64_t first, uint64_t term,
                    struct algo_actions *acts);
void async_log_flight(struct async *a, struct algo_actions *acts); /* to all successors */
bool async_log_acked(const struct async *a);                       /* by all successors that count */
bool async_log_ready(const struct async *a);                       /* entries may be made and applied */
bool async_log_own_acked(const struct async *a, uint64_t sequence);
void async_own_send(struct async *a, rank_t to, const struct async_grad *g, uint64_t term,
                    struct algo_actions *acts);
void async_snapshot_send(struct async *a, rank_t to, const struct async_ledger *l, struct blob *x,
                         uint64_t term, uint64_t log_term, struct algo_actions *acts);
void async_snapshot_begin(struct async *a, struct algo_actions *acts); /* if one is due */
void async_standby_fill(struct async *a, struct algo_actions *acts);
void async_standby_lose(struct async *a, rank_t k);
void async_standby_tick(struct async *a);
void async_replica_init(struct async_replica *r);
void async_replica_clear(struct async_replica *r);
uint64_t async_replica_last(const struct async_replica *r);
uint64_t async_replica_t(const struct async_replica *r); /* at its end */
int async_on_log(struct async *a, rank_t from, const struct algo_msg *m, struct algo_actions *acts);
int async_on_snapshot(struct async *a, rank_t from, const struct algo_msg *m, struct algo_actions *acts);
int async_on_own(struct async *a, rank_t from, const struct algo_msg *m, struct algo_actions *acts);
int async_on_ack(struct async *a, rank_t from, const struct algo_msg *m);

/* -- election.c, recover.c ----------------------------------------------------------------------- */

#define ASYNC_ROUND_MAX (UINT64_C(1) << 30)
/* How far a term may be ahead for who knows of one: elections, and what a cluster without memory leaves out. */
#define ASYNC_ROUND_AHEAD_MAX (UINT64_C(1) << 20)

uint64_t async_round(const struct async *a, uint64_t term);
bool async_term_valid(const struct async *a, uint64_t term);
/* Whether a message of this term from this node is its holder's word, to be heeded (a later term is obeyed
 * from here on); an older term is told so. */
bool async_heeds(struct async *a, rank_t from, uint64_t term, struct algo_actions *acts);
void async_adopt(struct async *a, uint64_t term); /* obeys a holder elected elsewhere */
/* Asks a peer for its vote for a->asked. */
void async_ask_send(struct async *a, rank_t to, struct algo_actions *acts);
void async_lose_holder(struct async *a);
void async_election_tick(struct async *a, struct algo_actions *acts);
void async_election_peer_up(struct async *a, rank_t peer, uint64_t boot);
void async_election_peer_down(struct async *a, rank_t peer);
struct async_extent async_extent_of(const struct async *a);
void async_elected(struct async *a,
                   struct algo_actions *acts); /* a candidate whose wait is over: fetch or recover */
int async_on_stale(struct async *a, const struct algo_msg *m);
int async_on_ask(struct async *a, rank_t from, const struct algo_msg *m, struct algo_actions *acts);
int async_on_vote(struct async *a, rank_t from, const struct algo_msg *m, struct algo_actions *acts);
int async_on_fetch(struct async *a, rank_t from, const struct algo_msg *m, struct algo_actions *acts);
int async_on_fetched(struct async *a, rank_t from, const struct algo_msg *m, struct algo_actions *acts);
void async_fetch_progress(struct async *a, struct algo_actions *acts);
void async_recover_begin(struct async *a, struct algo_actions *acts);
void async_recover_progress(struct async *a, struct algo_actions *acts);

#endif
