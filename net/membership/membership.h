/* Who is alive: SWIM over the standing links, with Lifeguard's local health and suspicion with confirmations.
 * A pure state machine: events in, actions out; time is a field of the event, randomness seeded.
 *
 * Sources: Das, Gupta, Motivala, "SWIM", DSN 2002; Dadgar, Phillips, Currey, "Lifeguard", arXiv:1707.00788. What
 * TCP changes: a probe goes over a standing link, or asks for one (CONNECT); only an agent's own ACK is life, a
 * connect or a kernel's answer is none; a reset or refused connection is fresh evidence, and starts a suspicion,
 * never a death.
 *
 * Every member carries an incarnation, raised by the member alone: it begins at the member's start time (as boot
 * ids do), so that a new process out-votes what was said of the old one, and grows when the member refutes.
 * Of two records of one member the greater incarnation is newer; at equal incarnation DEAD and LEFT beat SUSPECT,
 * which beats ALIVE. A record with an incarnation that lies a day and more ahead of our own time is dropped.
 * (Start times are in units of BOOT_UNITS_PER_US per microsecond: boot ids.)
 * DEAD, heard in a SYNC or of a member whose link to us lives, is taken as SUSPECT, so that it may answer.
 *
 * Normal course
 *  - LINK_UP: both ends say who they are and a hash of whom they know. Where the hashes differ, or the link before
 *    was lost, SYNC: all they know, their own record first; the answer, what the asker does not know, is merged.
 *  - each interval: PING to the next member of a shuffled round over all; its ACK in time lowers our health score.
 *  - what is new is passed on with each message and, every gossip_us, to `gossip_fanout` random linked members,
 *    4 * ceil(log10(n + 1)) times each.
 *  - every sync_us (stretched above 32 members): SYNC with one random linked member.
 *  - LEAVE: everybody linked hears LEFT; the owner then closes its links.
 * Failure courses
 *  - no ACK within ack_us * (health + 1): PING_REQ to `indirect` random linked members, which answer ACK or, in
 *    time, NACK; none by the end of the interval: SUSPECT, with us as the accuser; missing NACKs raise our score.
 *  - LINK_DOWN by reset or silence, or CONNECT refused: the member is probed at once in other ways; SUSPECT when
 *    these fail too, or at once when its link broke and the host itself refused (its process is gone).
 *  - a suspicion ends in DEAD after max - ln(c + 1) / ln(k + 1) * (max - min), c confirmations by others of k
 *    wanted, never under min = mult * max(1, log10 n) * interval.
 *  - we are called SUSPECT or DEAD: we raise our incarnation above it and say ALIVE; health score + 1.
 *  - we were stopped ourselves (a DEADLINE that comes late by more than an interval): nobody is judged by what
 *    we did not hear meanwhile; running suspicions are put off by as much, the health score rises.
 *  - a member that cannot be dialled and whose link nobody has any more: it is SUSPECT when it has said nothing new
 *    for long.
 *  - DEAD members are kept and dialled (CONNECT) for ever with jittered back-off up to redial_max_us, so that
 *    healed halves meet; they are forgotten after forget_us.
 *  - a malformed or impossible record, or one more than MEMBER_COUNT_MAX: dropped and counted; the others of the
 *    message count.
 */
#ifndef GADABOUT_NET_MEMBERSHIP_MEMBERSHIP_H
#define GADABOUT_NET_MEMBERSHIP_MEMBERSHIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/ids.h"
#include "base/limits.h"
#include "base/trace.h"

#define MEMBER_META_MAX 8u

enum member_state { MEMBER_ALIVE, MEMBER_SUSPECT, MEMBER_DEAD, MEMBER_LEFT };

enum member_evidence {
    EVIDENCE_NONE,
    EVIDENCE_TIMEOUT, /* no answer, neither to us nor to those we asked */
    EVIDENCE_RESET,   /* its link was reset, or ended without a goodbye */
    EVIDENCE_SILENT,  /* its link said nothing for too long */
    EVIDENCE_REFUSED, /* its host refuses connections: the process is gone */
};

/* What is known, and passed on, about a member. */
struct member {
    node_id id;
    uint64_t boot; /* of its process, as in its hello */
    uint64_t incarnation;
    enum member_state state;
    node_id accuser; /* who said SUSPECT or DEAD first, as far as we know; 0 otherwise */
    enum member_evidence evidence;
    uint64_t meta[MEMBER_META_MAX]; /* the member's own words about itself; net/ does not look at them */
    char address[ADDRESS_TEXT_MAX]; /* "" = not dialable */
    char tag[TAG_TEXT_MAX];
};

enum swim_kind { SWIM_PING = 1, SWIM_ACK, SWIM_PING_REQ, SWIM_NACK, SWIM_SYNC, SWIM_SYNC_REPLY, SWIM_GOSSIP };

/* One message. `update` is borrowed by whoever gets it: from the machine until its next step, from a decoder until
 * its deinit. */
struct swim_msg {
    enum swim_kind kind;
    uint64_t number; /* PING, ACK, PING_REQ, NACK: of the probe, drawn by who asks; SYNC: 0, or the hash */
    node_id target;  /* PING_REQ, NACK, and an ACK that answers a PING_REQ: whom it is about; else 0 */
    char seen
        [ADDRESS_TEXT_MAX]; /* SYNC, SYNC_REPLY: the address under which the sender sees the receiver; "" */
    const struct member *update;
    uint32_t update_count; /* at most SWIM_UPDATE_MAX; a longer SYNC is several messages */
};

#define SWIM_UPDATE_MAX 128u

struct membership_config {
    struct member self;        /* state and accusation are ignored; incarnation: boot, if that is greater */
    uint64_t probe_us;         /* 1 s */
    uint64_t ack_us;           /* 500 ms */
    uint64_t gossip_us;        /* 200 ms */
    uint64_t sync_us;          /* 30 s */
    uint64_t redial_max_us;    /* 30 s */
    uint64_t forget_us;        /* 24 h: DEAD and LEFT members */
    uint32_t indirect;         /* 3 */
    uint32_t gossip_fanout;    /* 3 */
    uint32_t suspicion_mult;   /* 4: min suspicion */
    uint32_t suspicion_spread; /* 6: max = spread * min */
    bool local_health;         /* off only to show what it is for */
    uint64_t seed;
    const struct trace *trace; /* may be NULL; borrowed for life */
};

/* The defaults above; self is zero. */
void membership_defaults(struct membership_config *c);

enum membership_event_kind {
    MEMBERSHIP_START,
    MEMBERSHIP_LINK_UP,     /* peer, address: as the transport sees it */
    MEMBERSHIP_LINK_DOWN,   /* peer, evidence (NONE: it said goodbye or we closed it) */
    MEMBERSHIP_UNREACHABLE, /* peer, evidence REFUSED or TIMEOUT: the dial that a CONNECT asked for failed */
    MEMBERSHIP_MESSAGE,     /* peer, msg */
    MEMBERSHIP_SELF,        /* self: address, tag or meta of our own have changed */
    MEMBERSHIP_LEAVE,
    MEMBERSHIP_DEADLINE,
};

struct membership_event {
    enum membership_event_kind kind;
    uint64_t now_us;
    node_id peer;
    const char *address;
    enum member_evidence evidence;
    const struct swim_msg *msg;
    const struct member *self;
};

enum membership_action_kind {
    MEMBERSHIP_SEND, /* to a linked member; dropped when its link has just gone */
    MEMBERSHIP_CONNECT, /* dial `id` at `address` if there is no link; the owner keeps such a link for some seconds */
    MEMBERSHIP_CHANGED, /* a member's record changed in a way the owner may care for: new, state, address, meta, boot;
                         * or it was forgotten: membership_find has none */
    MEMBERSHIP_SEEN_AS, /* a peer sees us under `address`: the owner may make it ours with SELF */
    MEMBERSHIP_RIVAL,   /* peers tell that another process with our id is alive: it takes back what we say of
                         * ourselves, again and again. At most once a minute */
};

struct membership_action {
    enum membership_action_kind kind;
    node_id id;               /* SEND: to; CONNECT, CHANGED: whom; SEEN_AS: by whom; RIVAL: who told */
    struct swim_msg msg;      /* SEND */
    const char *address;      /* CONNECT, SEEN_AS, RIVAL (its own): borrowed until the next step */
    uint64_t boot;            /* RIVAL: its boot id */
    bool is_new;              /* CHANGED: was not known */
    enum member_state before; /* CHANGED: the state before */
    uint32_t confirmations;   /* CHANGED to DEAD by our own timer: how many others had said so */
};

struct membership_actions {
    struct membership_action *item;
    size_t count, capacity;
};

struct membership_totals {
    uint64_t suspicions, deaths; /* declared by us, not heard */
    uint64_t refutations;        /* of our own */
    uint64_t records_dropped;    /* impossible ones, and those for which there was no room */
    uint64_t stops;              /* times we noticed that we had been stopped */
    uint32_t health;             /* 0 = well .. 7 */
};

struct membership;

struct membership *membership_new(const struct membership_config *config); /* returns owned */
void membership_free(struct membership *m);

/* Runs to completion; appends to acts. Returns 0, or ERR_PROTO when the peer's message makes no sense (the owner
 * closes the link; nothing has changed). */
int membership_step(struct membership *m, const struct membership_event *event,
                    struct membership_actions *acts);
uint64_t membership_deadline_us(const struct membership *m);

void membership_actions_clear(struct membership_actions *acts); /* keeps memory */
void membership_actions_deinit(struct membership_actions *acts);

/* All known members but those forgotten, ourselves among them, ascending by id. Borrowed until the next step. */
uint32_t membership_count(const struct membership *m);
const struct member *membership_at(const struct membership *m, uint32_t at);
const struct member *membership_find(const struct membership *m, node_id id); /* NULL */
const struct member *membership_self(const struct membership *m);

/* Of a linked member: when it last spoke to us by itself, the round trip of its last probe; 0 = not yet. */
void membership_heard(const struct membership *m, node_id id, uint64_t *last_us, uint64_t *round_trip_us);

/* Why a member is SUSPECT, as far as we know. Times are those of events. */
#define MEMBERSHIP_DOUBTER_MAX 9u
struct membership_doubt {
    uint64_t since_us; /* when we heard of it */
    uint64_t ends_us;  /* when it is DEAD for us, if no word comes */
    uint32_t wanted;   /* confirmations that make it the shortest */
    uint32_t by_count; /* accusers known: the first, and those who confirm */
    node_id by[MEMBERSHIP_DOUBTER_MAX];
};
bool membership_doubt(const struct membership *m, node_id id,
                      struct membership_doubt *out); /* false: it is not */

/* Hash of (id, incarnation, state) of all ALIVE members: equal views have equal hashes. */
uint64_t membership_view_hash(const struct membership *m);
void membership_totals(const struct membership *m, struct membership_totals *out);
const char *member_state_name(enum member_state state);
const char *member_evidence_name(enum member_evidence evidence);

#endif
