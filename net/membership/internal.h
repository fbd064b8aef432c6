/* The inside of net/membership*.c; tests that plant bugs include it too. */
#ifndef GADABOUT_NET_MEMBERSHIP_INTERNAL_H
#define GADABOUT_NET_MEMBERSHIP_INTERNAL_H

#include "base/prng.h"
#include "net/membership/membership.h"

enum {
    CONFIRMATION_MAX = 8,    /* accusers remembered of one suspicion */
    HEALTH_MAX = 7,          /* the score; intervals are multiplied by it and one */
    RELAY_MAX = 64,          /* PING_REQs of others under way at once; more are answered NACK at once */
    TOMB_MAX = 1024,         /* forgotten members whose old records are still refused */
    GOSSIP_UPDATE_MAX = 64,  /* news in one message */
    DIAL_GAP_US = 1000000,   /* one CONNECT in this time at most */
    DIAL_WAIT_US = 10000000, /* a dial of which nothing is heard counts as failed after this */
    RIVAL_CLAIM_MAX = 5,     /* of another process with our id, each above our answer to the one before, .. */
    RIVAL_US = 60000000      /* .. in this time: it is alive */
};

#define NOBODY UINT64_MAX /* 0 may be somebody's id */
#define DAY_BOOT_UNITS (24ull * 3600u * 1000000u * BOOT_UNITS_PER_US)

/* Lifeguard's timer. by[0] is the first accuser, the others confirm. */
struct suspicion {
    uint64_t start_us, min_us, max_us;
    uint32_t wanted, count; /* confirmations wanted; accusers known */
    node_id by[CONFIRMATION_MAX + 1];
};

struct record {
    struct member m;
    struct suspicion suspicion; /* SUSPECT; its accusers stay for DEAD */
    uint64_t ended_us;          /* DEAD, LEFT: since when */
    uint64_t news_us;           /* when it last was known to live: a new word of its own, its link, an ACK */
    uint64_t redial_at_us, redial_wait_us;
    uint64_t dialling_us; /* a CONNECT is under way, and believed in until then; 0 = none */
    uint32_t sent;        /* as a rumour, so many times */
    uint32_t turn;        /* lists that it went out in: picks the accuser */
    bool is_rumour;
    bool missed;   /* we lost its link, or it was not ALIVE: what it has heard since is not known */
    uint64_t told; /* serial of the link whose peer knows this record; 0 = of none */
};

struct member_link {
    node_id id;
    uint64_t serial;
    uint64_t last_us, round_trip_us;
    char address[ADDRESS_TEXT_MAX];
};

enum probe_stage { PROBE_WAIT, PROBE_DIRECT, PROBE_INDIRECT };
enum probe_dial { PROBE_DIAL_NONE, PROBE_DIAL_WANTED, PROBE_DIAL_UNDER_WAY, PROBE_DIAL_FAILED };

struct probe {
    node_id target;
    uint64_t number;
    enum probe_stage stage;
    enum probe_dial dial;
    enum member_evidence evidence; /* what made us ask; NONE in the round */
    bool round, pinged;
    uint32_t asked, nacked;
    uint64_t ping_us, ack_at_us, end_at_us;
    bool waited; /* longer than an interval, for the dial */
};

/* A PING_REQ that we serve. */
struct relay {
    node_id asker, target;
    uint64_t asker_number, number;
    uint64_t nack_at_us;
};

struct tomb {
    node_id id;
    uint64_t incarnation, until_us;
};

/* Another process that speaks under our id. */
struct rival {
    uint64_t boot; /* 0 = none was heard of */
    uint64_t since_us;
    uint32_t claims; /* since then */
    uint64_t say_us; /* the owner is not told again before, whatever boot comes next */
    char address[ADDRESS_TEXT_MAX];
};

/* Memory of the updates that one step's messages carry. Blocks never move. */
struct update_store {
    struct member **block; /* of SWIM_UPDATE_MAX each */
    uint32_t block_count, block_now, used;
};

struct membership {
    struct membership_config config;
    struct prng prng;
    bool started, left;
    uint64_t now_us, start_us;

    struct record **record; /* ascending by id; ourselves too */
    uint32_t record_count, record_capacity;
    struct record *self;
    uint32_t live;             /* ALIVE and SUSPECT */
    struct member_link **link; /* ascending by id */
    uint32_t link_count, link_capacity;
    uint64_t link_serial;
    struct tomb tomb[TOMB_MAX];
    uint32_t tomb_count;

    struct record **rumour;
    uint32_t rumour_count, rumour_capacity;
    uint64_t gossip_at_us, gossiped_us;
    uint64_t sync_at_us;

    struct probe *probe;
    uint32_t probe_count, probe_capacity;
    uint64_t probe_number, probe_at_us;
    node_id *round; /* what is left of it: [round_next, round_count) */
    uint32_t round_next, round_count, round_capacity;
    struct rival rival;
    struct relay relay[RELAY_MAX];
    uint32_t relay_count;

    uint64_t dial_at_us; /* the next CONNECT not before */
    uint32_t dials_since_redial;
    bool redials_due;         /* some DEAD member waits for the budget */
    uint64_t record_timer_us; /* no suspicion, redial or forgetting is due before */
    bool held;                /* an event came late: verdicts wait until held_us, once */
    uint64_t held_us;
    uint64_t deadline_us; /* as armed at the end of the last step */
    struct membership_totals totals;
    struct trace_limit refuted; /* lines of what was said of us */

    uint32_t *scratch; /* of link_capacity */
    struct update_store store;
    char seen[ADDRESS_TEXT_MAX];     /* what SEEN_AS points to */
    struct membership_actions *acts; /* of the step that runs */
};

/* -- membership/record.c ------------------------------------------------------------------------ */

struct record *membership_record(const struct membership *m, node_id id); /* NULL */
/* Takes a valid record that is not known. The state is as in from; nothing is announced. */
struct record *membership_record_add(struct membership *m, const struct member *from);
void membership_record_forget(struct membership *m, uint32_t at); /* leaves a tomb */
/* For a stranger; forgets one that has ended if it must. False: there is none. */
bool membership_make_room(struct membership *m, const struct member *u);
bool membership_is_buried(const struct membership *m, const struct member *u);
struct member_link *membership_link(const struct membership *m, node_id id); /* NULL */
struct member_link *membership_link_add(struct membership *m, node_id id, const char *address);
void membership_link_remove(struct membership *m, node_id id);
void membership_records_free(struct membership *m);

/* -- membership/check.c ------------------------------------------------------------------------- */

void membership_check_invariants(const struct membership *m);

/* -- membership/merge.c ------------------------------------------------------------------------- */

/* Takes over what is news in a record heard from `from`; drops and counts what cannot be. */
void membership_hear(struct membership *m, node_id from, const struct member *u, bool sync);
/* It ends within size, and every character of it can be shown. */
bool membership_text_is_sound(const char *text, size_t size);
/* Raises our incarnation to at least `above` + 1 and says so. */
void membership_refute(struct membership *m, uint64_t above, node_id to);

/* -- membership/suspicion.c --------------------------------------------------------------------- */

void membership_suspicion_begin(struct membership *m, struct record *r, node_id accuser);
/* Counts an accuser. True when it was new. */
bool membership_suspicion_confirm(struct membership *m, struct record *r, node_id accuser);
uint64_t membership_suspicion_end_us(const struct suspicion *s);
/* We accuse. */
void membership_suspect(struct membership *m, struct record *r, enum member_evidence evidence);
/* Suspicions that end, DEAD members to dial, members to forget: whatever record_timer_us stands for. */
void membership_record_timers(struct membership *m);
void membership_timer_lower(struct membership *m, uint64_t at_us);

/* -- membership/rumour.c ------------------------------------------------------------------------ */

uint32_t membership_transmit_max(const struct membership *m);
void membership_rumour_start(struct membership *m, struct record *r); /* or once more from the beginning */
void membership_rumour_stop(struct membership *m, struct record *r);
void membership_gossip(struct membership *m);
/* Tells random members of the news at once, and `to` (or NOBODY). */
void membership_gossip_now(struct membership *m, node_id to);
void membership_tell(struct membership *m, node_id to, const struct record *r); /* of one record */
/* Sends msg with as many news as fit; about `to` itself when it is not ALIVE for us. */
void membership_send(struct membership *m, node_id to, struct swim_msg msg);
/* Hash of (id, boot, state) of all members; not 0. */
uint64_t membership_sync_hash(const struct membership *m);
void membership_sync(struct membership *m, const struct member_link *l);
void membership_sync_short(struct membership *m, const struct member_link *l); /* only the hash */
void membership_sync_reply(struct membership *m, const struct member_link *l);
void membership_sync_random(struct membership *m);
uint64_t membership_sync_interval_us(const struct membership *m);
uint64_t membership_unheard_us(const struct membership *m); /* how long who cannot be asked is believed in */
uint32_t membership_pick_links(struct membership *m, uint32_t wanted, node_id but);

/* -- membership/probe.c ------------------------------------------------------------------------- */

void membership_probe_round(struct membership *m);
void membership_probe_timers(struct membership *m);
void membership_probe_urgent(struct membership *m, struct record *r, enum member_evidence evidence);
void membership_probe_linked(struct membership *m, node_id id);
void membership_probe_unlinked(struct membership *m, node_id id);
void membership_probe_unreachable(struct membership *m, struct record *r, enum member_evidence evidence);
void membership_probe_acked(struct membership *m, node_id from, uint64_t number);
void membership_probe_nacked(struct membership *m, uint64_t number);
void membership_probe_drop(struct membership *m, node_id target);
void membership_round_insert(struct membership *m, node_id id);
uint64_t membership_probe_next_us(const struct membership *m);
uint64_t membership_scale(const struct membership *m); /* health + 1 */
void membership_health_add(struct membership *m, int32_t by);

/* -- membership/relay.c ------------------------------------------------------------------------- */

void membership_relay_asked(struct membership *m, node_id asker, const struct swim_msg *msg);
bool membership_relay_acked(struct membership *m, node_id from, uint64_t number);
void membership_relay_linked(struct membership *m, node_id id);
void membership_relay_unreachable(struct membership *m, node_id id);
void membership_relay_timers(struct membership *m);
uint64_t membership_relay_next_us(const struct membership *m);

/* -- membership/dial.c -------------------------------------------------------------------------- */

/* Dials for whoever waits, if the budget allows: probes before the dead, but not for ever. */
void membership_dial_pump(struct membership *m);
bool membership_dial_try(struct membership *m, struct record *r); /* for a relay: now or never */
bool membership_dial_wanted(const struct membership *m);
void membership_redial_schedule(struct membership *m, struct record *r);

/* -- membership/message.c ----------------------------------------------------------------------- */

int membership_message(struct membership *m, node_id peer, const struct swim_msg *msg); /* 0 or ERR_PROTO */

/* Adds a word to a hash. */
static inline uint64_t membership_mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 29;
}

/* -- membership.c ------------------------------------------------------------------------------- */

struct membership_action *membership_act(struct membership *m, enum membership_action_kind kind, node_id id);
void membership_changed(struct membership *m, const struct record *r, bool is_new, enum member_state before,
                        uint32_t confirmations);

#endif
