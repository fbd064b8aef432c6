/* Custody of one travelling token at one node: hand-over, fencing, loss and regeneration (docs/algorithms.md).
 * Shared by every method whose model travels (digest, walk). Pure bookkeeping: the owner sends messages.
 *
 * Normal course
 *  - the holder sends the token and keeps it (SENT) until the receiver's acknowledgement, which is given
 *    only after the receiver has stored it; then the place is AWAY. The last value seen stays as snapshot.
 * Failure courses
 *  - the same token comes again (its acknowledgement was lost with a link): acknowledged again, dropped. An
 *    acknowledgement of a stamp older than the newest heard of ends the hand-over, but is no sign of life.
 *  - a token of an older generation comes: fenced, acknowledged (so that its holder lets go), dropped. Whoever
 *    holds one and hears of a newer generation lets go as well.
 *  - the link of an unacknowledged hand-over breaks: sent again when the same process is back; when another
 *    process is back, or nobody within `patience`, a search starts.
 *  - no visit for four times the longest recent absence: a search starts. No visit at all: for eight times patience,
 *    or for twice, when the node where the token begins is missing.
 *  - a search floods the newest (generation, maker, sequence) known; whoever has the token answers that it
 *    lives, which ends the search. Otherwise, after `patience`, the node with the newest snapshot makes the
 *    token anew with generation + 1. Two halves of a partition may both do so: the greater stamp wins later.
 *  - a search meets a node that knows of life after the search's stamp: it is answered, not carried on. Life
 *    is news only with a greater stamp than any heard of, or much later: stamps only grow, so a search and
 *    its answers cannot chase each other round a cycle, and a rumour of life cannot keep itself alive.
 */
#ifndef GADABOUT_ALGO_TOKEN_H
#define GADABOUT_ALGO_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/ids.h"

/* The fence. Ordered by generation, then maker, then sequence; +1 sequence at each stop. */
struct token_stamp {
    uint32_t generation;
    rank_t maker; /* who made this generation; 0 in generation 0 */
    uint64_t sequence;
};

/* How far a generation may be ahead for who knows of one: searches that found nothing. */
#define TOKEN_GENERATION_AHEAD_MAX (UINT32_C(1) << 20)

int token_stamp_compare(const struct token_stamp *a, const struct token_stamp *b); /* <0, 0, >0 */

enum custody_place { CUSTODY_AWAY, CUSTODY_HELD, CUSTODY_SENT };

struct custody {
    enum custody_place place;
    rank_t self;
    struct token_stamp last;  /* newest stamp accepted or made here; the owner's snapshot belongs to it */
    struct token_stamp known; /* newest stamp heard of: of a token, a snapshot, or a claim. The fence */
    rank_t sent_to;           /* SENT: to whom */
    bool link_lost;           /* SENT: the link of the hand-over broke before the acknowledgement */
    uint64_t give_up_us;      /* SENT and link_lost: when to start a search */
    uint64_t patience_us;
    uint64_t seen_us;    /* when the token was last here */
    uint64_t alive_us;   /* when the token was alive with the stamp `known`; TIME_NEVER = not heard */
    uint64_t absence_us; /* longest recent absence; decays by an eighth per visit */
    uint64_t lost_us;    /* AWAY: when to start a search */
    bool seeking;
    struct token_stamp best; /* newest snapshot heard of in this search ... */
    rank_t best_at;          /* ... and where */
    uint64_t decide_us;
    uint32_t fruitless; /* searches in a row without a sign of life; each doubles the wait */
};

/* `here`: this node begins as the holder of generation 0. */
void custody_init(struct custody *c, rank_t self, bool here, uint64_t patience_us, uint64_t now_us);

/* HELD, and new: the stamps of generation 0 go on behind `sequence`, which those of a former life have not reached. */
void custody_begin_behind(struct custody *c, uint64_t sequence);

/* The token has not been heard of yet and begins at another node. That one is `missing`, or has begun without it:
 * a search starts after twice `patience`. It is there: after eight times, as how long a tour takes is not known. */
void custody_await_first(struct custody *c, bool missing, uint64_t now_us);

/* Whether a peer that says so may be honest; else it is ERR_PROTO: it would use up the generations there are. */
bool custody_stamp_fits(const struct custody *c, const struct token_stamp *stamp);

enum custody_verdict {
    CUSTODY_ACCEPT, /* new: store, then acknowledge; place is HELD */
    CUSTODY_REPEAT, /* already had: acknowledge, drop, count */
};
/* A token with `stamp` has arrived. */
enum custody_verdict custody_receive(struct custody *c, const struct token_stamp *stamp, uint64_t now_us);

/* The held token got its next stamp (at each sync). */
void custody_advance(struct custody *c);

void custody_send(struct custody *c, rank_t to); /* HELD -> SENT */
/* Acknowledgement from `from`; true when it ended the hand-over (place AWAY). Others are ignored. */
bool custody_acknowledged(struct custody *c, rank_t from, const struct token_stamp *stamp, uint64_t now_us);

void custody_peer_down(struct custody *c, rank_t peer, uint64_t now_us);
/* True: send the token to `peer` again. A restarted process has lost what we sent: the hand-over's fate is
 * unknown and a search starts at the next tick. */
bool custody_peer_up(struct custody *c, rank_t peer, bool restarted, uint64_t now_us);

enum custody_seek {
    CUSTODY_QUIET,       /* nothing to send */
    CUSTODY_FLOOD,       /* tell all neighbours in the stream: best, best_at, not living */
    CUSTODY_FLOOD_LIVE,  /* tell all neighbours that it lives */
    CUSTODY_ANSWER_LIVE, /* tell the sender that it lives */
};
/* A search message was heard: `claimant` has the snapshot `stamp`; when `living`, the token was seen alive
 * age_us ago. What is told on about life: `known`, self and custody_age_us(). */
enum custody_seek custody_heard(struct custody *c, const struct token_stamp *stamp, rank_t claimant,
                                bool living, uint64_t age_us, uint64_t now_us);
uint64_t custody_age_us(const struct custody *c, uint64_t now_us);

enum custody_due {
    CUSTODY_NOT_DUE,
    CUSTODY_SEARCH,     /* a search began: flood best */
    CUSTODY_REGENERATE, /* we won: token is HELD with a new generation; make it from the snapshot */
};
enum custody_due custody_tick(struct custody *c, uint64_t now_us);
uint64_t custody_deadline_us(const struct custody *c);

/* The token is here, or on its way from here over a link that stands. */
bool custody_living(const struct custody *c);

#endif
