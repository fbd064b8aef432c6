/* What the files of DIGEST share: digest.c (events, training), token.c (sync and tour), line.c
 * (compressed tokens), ledger.c (what is handed over once more), search.c (loss of a token), plan.c (parts,
 * streams), rebase.c (new plans). Nobody else includes this. */
#ifndef GADABOUT_ALGO_DIGEST_INTERNAL_H
#define GADABOUT_ALGO_DIGEST_INTERNAL_H

#include "algo/bitmap.h"
#include "algo/compress/mirror.h"
#include "algo/state.h"
#include "algo/streams/streams.h"
#include "algo/token.h"
#include "base/prng.h"

enum digest_message {
    DIGEST_TOKEN = 1,
    DIGEST_ACK,
    DIGEST_SEEK,
    DIGEST_STATUS,
    DIGEST_PLAN,
    DIGEST_OFFER,
    DIGEST_AGAIN
};

/* Fields of every message that belongs to a plan begin with these. */
enum { FIELD_EPOCH = 0, FIELD_PROPOSER = 1, FIELD_STREAM = 2 };
enum { FIELD_GENERATION = 3, FIELD_MAKER = 4, FIELD_SEQUENCE = 5 };
enum { FIELD_ROUND = 6, FIELD_HOPS = 7, FIELD_NUMBER = 8, FIELD_BASE = 9 };
enum { FIELD_FORK_GENERATION = 10, FIELD_FORK_MAKER = 11, FIELD_FORK_SEQUENCE = 12, TOKEN_FIELDS = 13 };
enum { ACK_FIELDS = 6 }; /* AGAIN too */
enum { FIELD_CLAIMANT = 6, FIELD_LIVING = 7, FIELD_AGE = 8, SEEK_FIELDS = 9 };
enum { FIELD_WANTED = 2, FIELD_LATE = 3, STATUS_FIELDS = 4 };
enum { FIELD_WEIGHT = 2, OFFER_FIELDS = 3 };
enum { FIELD_EDGES = 2, PLAN_FIELDS = 3 };

enum { HANDOVERS_MAX = 12, TAGS_MAX = 8, ANCESTORS_MAX = 16, FORKS_MAX = 8 };

enum hop_policy { HOP_DFS, HOP_WALK };

/* The version of the plan all nodes follow; the greater one wins. */
struct epoch {
    uint32_t number;
    rank_t proposer;
};

/* An edge of the topology that the plan leaves out, a < b. */
struct edge {
    uint32_t a, b;
};

struct plan {
    struct epoch epoch;
    struct edge *down; /* (down_count) ascending, then the lineage; owned */
    uint32_t down_count, lineage_words;
    uint32_t *part;            /* (n) component of each node in the graph without `down`: its lowest rank */
    struct stream_set streams; /* of our own component; owned unless given by the user (digest.given) */
    struct blob *base;         /* the model all streams of this plan began with; owned; NULL = x0 (epoch 0) */
};

/* What the base of a plan came from: for each of its last ancestors, oldest first, the words number, proposer,
 * count of streams, and for each stream the greatest stamp that the base of the next one has heard of. */
static inline const uint32_t *plan_lineage(const struct plan *p)
{
    return p->down != NULL ? (const uint32_t *)(p->down + p->down_count) : NULL;
}

/* Where a hand-over went. */
struct tag {
    struct epoch epoch;
    uint32_t stream;
    struct token_stamp stamp; /* of the token as it left */
};

/* Progress that was handed over, at once or in a row; see ledger.c. */
struct handover {
    float *progress;          /* (dim) owned; NULL before first use */
    struct tag tag[TAGS_MAX]; /* the first in each stream of each plan */
    uint32_t tag_count;
    uint32_t size; /* how many hand-overs; a power of two */
    bool open;     /* goes with the sync that is under way */
    bool owed;     /* goes with the next one */
};

/* What this node and one neighbour know of a stream's token in common; see line.c. */
struct line {
    struct mirror mirror;     /* of both directions: the value that crossed last */
    uint64_t sent;            /* messages of ours since the link is up */
    uint64_t number;          /* which message of its sender the value came with ... */
    bool mine;                /* ... and whether that was us */
    struct token_stamp stamp; /* mine: which token it was ... */
    bool confirmed;           /* ... and whether its arrival is known */
    bool in_tree;             /* compressed tours go by here */
};

/* One stream of which this node is a member. */
struct stream_seat {
    uint32_t stream; /* number within the plan */
    uint32_t member_count;
    rank_t *member; /* ascending; owned */
    struct custody custody;
    /* q_v[s]: the token as it last left v; owned reference. A parked token equals it */
    struct blob *snapshot;
    uint64_t round;    /* of the last token seen; tours are numbered */
    uint64_t hops;     /* of the token held */
    rank_t parent;     /* who delivered the token first in this round; RANK_NONE at the root */
    uint8_t *visited;  /* (bits_size) of the token held or sent, then what it may hold (digest_claims_size) */
    bool parked;       /* HELD between two tours */
    struct line *line; /* (neighbours) owned; NULL without a compressor */
    struct token_stamp fork; /* of the token held or sent: which snapshot its generation was made from ... */
    struct token_stamp older_fork[FORKS_MAX]; /* ... and that one's, and so on; generations fall */
    uint32_t older_count;
    bool along;         /* the token's tour keeps to the lines; else by any edge and whole */
    bool fresh;         /* we came late: what this stream knows already is not known here until its
                                * token has come, so that no news may be counted from q_v[s] */
    uint64_t tour_step; /* parked: next tour starts when our local steps reach it ... */
    uint64_t tour_us;   /* ... or at this time, should our training have stopped */
};

struct digest {
    /* configuration */
    rank_t rank;
    uint32_t node_count;
    const struct graph *graph;
    const double *weight; /* (n) w_v */
    size_t dim;
    uint64_t patience_us;
    const struct trace *trace;
    enum stream_kind kind;
    enum hop_policy hop;
    uint64_t sync_every; /* H */
    bool reweigh;        /* divide weights by their sum over the living part */
    bool rejoining;
    bool restored;           /* we are the first to train again after all have stopped: nobody has a token */
    uint32_t former_plan;    /* the greatest number of a plan in a former life */
    uint64_t stamps_behind;  /* restored: the sequence that our tokens of plan 0 begin behind; else 0 */
    bool late;               /* rejoining, and not known yet whether our plan is the present one */
    uint64_t blank_until_us; /* a node without a sync in a running plan proposes nothing before */
    struct stream_set given; /* streams read from a file; count 0 = built from the graph */

    /* model */
    float *x;               /* (dim) x_v */
    bool owes;              /* x - r holds progress of a former life, which is still to be handed over */
    struct blob *reference; /* r_v: x_v right after its last sync with any stream; owned reference */
    double share;           /* w_v of this plan */
    uint64_t steps, steps_handed_over;
    uint32_t *heard; /* (streams of the plan) greatest stamp of each whose hand-overs r_v may hold */
    bool unsure;     /* r_v was not made by syncs and plans: heard is not known */
    struct handover handover[HANDOVERS_MAX]; /* oldest first; vectors behind the count are spare */
    uint32_t handover_count, handovers_kept;
    uint64_t step_us;    /* recent duration of a local step */
    uint64_t trained_us; /* when training last answered */

    /* neighbours, by position in the graph's list */
    bool *up;
    uint64_t *boot;    /* last seen; 0 = never */
    uint64_t *down_us; /* since when the link is down; TIME_NEVER while up */
    bool *judged;      /* this loss has been weighed against the present plan */
    bool *guessed;     /* since the link broke, the peer has once been proposed as dead */

    struct epoch *known; /* the epoch each neighbour last named */

    /* plan */
    struct plan plan;
    struct stream_seat *own; /* streams of this node */
    uint32_t own_count;
    size_t bits_size;
    void **spent; /* replaced in this step, but its actions may point there; freed by the next one */
    size_t spent_count;
    uint64_t propose_us;                  /* when to propose the wanted plan; TIME_NEVER = nothing wanted */
    struct blob *offer;                   /* aggregate of a part that is back; owned; NULL = none */
    size_t offer_slot;                    /* who offered it */
    double offer_weight;                  /* the part's share of all data, as it says */
    uint32_t *offer_lineage, offer_words; /* what it came from (plan_lineage); owned */
    bool forced; /* ... even when it leaves out the same edges: a glue node restarted */
    struct prng prng;

    struct pack *pack; /* owned; NULL = tokens travel whole */
    uint64_t seed;     /* of the experiment */

    uint64_t now_us; /* of the event being handled */
    struct algo_report counters;
};

static inline size_t neighbour_count(const struct digest *d)
{
    return graph_degree(d->graph, d->rank);
}

static inline rank_t neighbour_at(const struct digest *d, size_t i)
{
    return d->graph->neighbour[d->graph->offset[d->rank] + i];
}

/* Position of `peer` among our neighbours; SIZE_MAX when it is none. */
size_t digest_slot(const struct digest *d, rank_t peer);
struct stream_seat *digest_seat(struct digest *d, uint64_t stream); /* NULL when not ours */
bool seat_has(const struct stream_seat *m, rank_t v);
int epoch_compare(const struct epoch *a, const struct epoch *b);

/* token.c */
int digest_token_message(struct digest *d, rank_t from, const struct algo_msg *msg,
                         struct algo_actions *acts);
int digest_ack_message(struct digest *d, rank_t from, const struct algo_msg *msg);
int digest_again_message(struct digest *d, rank_t from, const struct algo_msg *msg,
                         struct algo_actions *acts);
/* whole: by any edge although there are lines. */
void digest_tour_begin(struct digest *d, struct stream_seat *m, bool whole, struct algo_actions *acts);
void digest_token_park(struct digest *d, struct stream_seat *m);
/* To custody.sent_to once more: the same value, whole. */
void digest_token_repeat(struct digest *d, struct stream_seat *m, struct algo_actions *acts);
void digest_start_due_tours(struct digest *d, struct algo_actions *acts);

/* line.c */
/* Sets d->pack. ERR_USAGE with why when the hop policy does not fit one. */
int digest_compressor_choose(struct digest *d, const struct algo_config *config, struct err_text *why);
void digest_lines_open(struct digest *d, struct stream_seat *m); /* nothing without a compressor */
void digest_lines_close(const struct digest *d, struct stream_seat *m);
void digest_line_forget(struct stream_seat *m, size_t slot); /* the next message there is whole */
void digest_lines_forget(const struct digest *d, struct stream_seat *m);
void digest_line_restart(struct stream_seat *m, size_t slot); /* the link is another one */
/* Puts the token that leaves (m->snapshot, to custody.sent_to) into msg; the snapshot becomes what arrives. */
void digest_line_send(const struct digest *d, struct stream_seat *m, struct algo_msg *msg);
/* A token was accepted from `from` (custody.last, fork), after one with `last`: has it lost what that one had? */
void digest_line_heed_fork(const struct digest *d, struct stream_seat *m, rank_t from,
                           const struct token_stamp *last);
void digest_line_acknowledged(const struct digest *d, struct stream_seat *m, rank_t from,
                              const struct token_stamp *stamp);
/* 0 and one reference in *token; 0 and NULL when the message builds on a value that we do not have: ask for it
 * again; ERR_PROTO, nothing changed. */
int digest_line_receive(const struct digest *d, struct stream_seat *m, rank_t from,
                        const struct algo_msg *msg, struct blob **token);

/* ledger.c */
void digest_ledger_init(struct digest *d); /* with dim */
/* Bytes that a token carries behind its map: of several streams what it may hold of each, else its forks. */
uint32_t digest_claims_size(const struct digest *d, const struct stream_seat *m);
uint32_t digest_claims_size_max(const struct digest *d);
bool digest_claims_are_sound(const struct digest *d, const struct algo_msg *token);
/* m's token as it was accepted (its generation in custody.last): the forks that it tells of. */
void digest_claims_read(struct digest *d, struct stream_seat *m, const struct algo_msg *token);
/* m's token was made anew from a snapshot with this stamp. */
void digest_claims_fork(struct digest *d, struct stream_seat *m, const struct token_stamp *snapshot);
/* After a sync with m's token (its stamp is the new one): the token and r_v may hold what either might before. */
void digest_heard_merge(struct digest *d, struct stream_seat *m);
bool digest_lineage_is_sound(const struct digest *d, const uint32_t *lineage, uint32_t words,
                             const struct epoch *epoch);
/* The lineage of a plan whose base is our reference, in *words words; owned; no longer than fits beside that many
 * edges. No words when we do not know (unsure). */
uint32_t *digest_lineage_own(const struct digest *d, uint32_t edges, uint32_t *words);
/* The same for one whose base is an average of ours and the offer. */
uint32_t *digest_lineage_merged(const struct digest *d, uint32_t edges, uint32_t *words);
/* Syncs that the offer's part has made since its plans and ours parted; UINT64_MAX = not known. */
uint64_t digest_offer_syncs(const struct digest *d);
void digest_ledger_heed_plan(struct digest *d); /* what our plan's base lacks is owed */
/* A token of another generation was accepted (m->fork): what it lacks is owed. */
void digest_ledger_heed_token(struct digest *d, const struct stream_seat *m);
/* Around a sync: enters x - r and adds what is owed to x; then tags both with the token's new stamp. */
void digest_ledger_open(struct digest *d);
void digest_ledger_close(struct digest *d, const struct stream_seat *m);
void digest_ledger_free(struct digest *d);

/* search.c */
int digest_seek_message(struct digest *d, rank_t from, const struct algo_msg *msg, struct algo_actions *acts);
void digest_search_tick(struct digest *d, struct algo_actions *acts);
/* How long to wait for a token that has never been here, by what we know of where it begins. */
void digest_await_first(struct digest *d, struct stream_seat *m);

/* plan.c */
struct edge edge_of(rank_t v, rank_t w);
int edge_compare(const void *left, const void *right); /* for qsort, bsearch */
bool edge_listed(const struct edge *list, uint32_t count, struct edge e);
/* Add one edge, or all of v's that are missing, to an ascending list with room; return the new count. */
uint32_t edge_add(struct edge *list, uint32_t count, struct edge e);
uint32_t edge_add_all_of(const struct graph *g, rank_t v, struct edge *list, uint32_t count);
void digest_plan_init(struct digest *d, const float *x0);
void digest_plan_free(struct digest *d);
/* Keeps memory that actions of this step may point into until the next step frees it. Takes it. */
void digest_spend(struct digest *d, void *memory);
void digest_spent_free(struct digest *d);
/* Computes everything that follows from (epoch, down, base); the reference must be the base already. */
void digest_plan_settle(struct digest *d);
void digest_streams_drop(struct digest *d);
/* Back after a restart and without a sync so far: our aggregate is as old as the plan, and everybody would lose
 * what has been learned since if we made a base of it. */
bool digest_plan_blank(const struct digest *d);
double digest_data_behind(
    const struct digest *d); /* share of all data that our aggregate speaks for; 0 when blank */
double digest_part_weight(const struct digest *d); /* sum of w over our part */

/* rebase.c: the number that our next plan has. Plans of a former life are older, so far as peers believe it. */
uint32_t digest_plan_number(const struct digest *d);

/* state.c */
void digest_state_save(const struct algo *a, struct state_writer *out);
int digest_state_restore(struct algo *a, struct state_reader *in, struct err_text *why);

/* judge.c */
bool digest_gone(const struct digest *d, size_t slot); /* its link is down, and has been for `patience` */
uint32_t digest_streams_of(const struct digest *d, rank_t v);
bool digest_loss_matters(const struct digest *d, size_t slot);

/* rebase.c */
int digest_plan_message(struct digest *d, rank_t from, const struct algo_msg *msg, struct algo_actions *acts);
int digest_status_message(struct digest *d, rank_t from, const struct algo_msg *msg,
                          struct algo_actions *acts);
int digest_offer_message(struct digest *d, rank_t from, const struct algo_msg *msg);
void digest_offer_drop(struct digest *d);
void digest_status_send(struct digest *d, rank_t to, bool wanted, struct algo_actions *acts);
void digest_plan_send(struct digest *d, rank_t to, struct algo_actions *acts);
void digest_rebase_peer_up(struct digest *d, size_t slot, bool restarted);
void digest_rebase_peer_down(struct digest *d, size_t slot);
void digest_rebase_tick(struct digest *d, struct algo_actions *acts);
void digest_rebase_force(struct digest *d,
                         struct algo_actions *acts); /* proposes at once, whatever has changed */
uint64_t digest_rebase_deadline_us(const struct digest *d);
/* Answers a message of another epoch: tells ours (lower) or helps the sender (higher). True when it is ours. */
bool digest_epoch_matches(struct digest *d, rank_t from, const struct algo_msg *msg,
                          struct algo_actions *acts);

#endif
