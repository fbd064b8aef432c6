/* Shared by the files of the relay: relay.c (between owner and inner transport), relay/dial.c (looking for a
 * relayer), relay/link.c (the ends of relayed links), relay/fault.c (injected faults of these), relay/pair.c (relaying
 * for others), relay/frame.c. Not for others.
 *
 * On the wire a relay frame is a message whose head begins with RELAY_MARK, which no msgpack head does:
 *   mark 1, kind 1, call 8, then by kind (integers little-endian):
 *   OPEN     target 8, from 8, boot of from 8   the end that dials -> relayer -> target
 *   ACCEPT   boot of the target 8               back; the dialling end is up when it comes
 *   CONFIRM                                     the dialling end is up: the target may send
 *   REFUSE   reason 1                           of an OPEN, by the relayer or the target
 *   CLOSED   down reason 1                      the call is over, said by any of the three
 *   CREDIT   lane 1, messages 4, bytes 8        relayer -> sender: these have gone on
 *   DATA     sequence 8, the head; the body is the message's   in its own lane; all others in the control lane
 * A call is a random number drawn by the end that dials; it names the relayed link on both legs. Frames of a call
 * that is not known are late, and dropped. */
#ifndef GADABOUT_NET_RELAY_INTERNAL_H
#define GADABOUT_NET_RELAY_INTERNAL_H

#include "base/prng.h"
#include "net/fault/fault.h"
#include "net/relay/relay.h"

#define RELAY_MARK 0xc1u
#define RELAY_DATA_SIZE 18u /* bytes of DATA ahead of the head */

enum relay_kind {
    RELAY_OPEN = 1,
    RELAY_ACCEPT,
    RELAY_CONFIRM,
    RELAY_REFUSE,
    RELAY_CLOSED,
    RELAY_CREDIT,
    RELAY_DATA,
};

enum relay_refusal { REFUSAL_NO_LINK = 1, REFUSAL_BUSY, REFUSAL_NOT_NEEDED };

struct relay_frame {
    enum relay_kind kind;
    uint64_t call;
    node_id target, from;
    uint64_t boot;
    enum relay_refusal refusal;
    enum down_reason why;
    enum lane lane; /* of CREDIT */
    uint32_t messages;
    uint64_t bytes;
    uint64_t sequence;
    const uint8_t *head; /* of DATA, borrowed */
    size_t head_size;
};

/* -- relay/frame.c */
int relay_frame_parse(const uint8_t *head, size_t size, enum lane lane, const struct blob *body,
                      struct relay_frame *out);               /* 0 or ERR_PROTO */
struct blob *relay_frame_encode(const struct relay_frame *f); /* owned */

/* Messages that wait, oldest first. */
struct relay_message {
    struct blob *head, *body; /* owned references; body may be NULL */
    size_t cost;
    uint64_t due_us; /* an injected delay */
};

struct relay_queue {
    struct relay_message *item; /* ring of capacity (a power of two) */
    uint32_t capacity, first, count;
    size_t bytes; /* cost of all */
};

size_t relay_message_cost(size_t head_size, const struct blob *body);
void relay_queue_put(struct relay_queue *q, struct blob *head, struct blob *body, size_t cost,
                     uint64_t due_us); /* takes head, refs body */
const struct relay_message *relay_queue_first(const struct relay_queue *q);
void relay_queue_pop(struct relay_queue *q);
void relay_queue_deinit(struct relay_queue *q);
bool relay_window_takes(uint32_t messages, size_t bytes, size_t cost);

/* A link of the inner transport. */
struct relay_real {
    struct link_id id;
    node_id peer;
    uint64_t boot;
    bool owner_waits; /* it has had ERR_FULL, and on_writable has not come */
};

/* What goes over a relayed link in one lane. */
struct relay_lane {
    struct relay_queue queue; /* out */
    struct relay_queue in;    /* has come, and an injected fault holds it */
    uint32_t flying;          /* given to the relayer, no credit for it yet */
    size_t flying_bytes;
    uint64_t sent, received; /* sequences */
    size_t refused;          /* cost of the cheapest refused message since the last on_writable; 0 = none */
};

/* What injected faults do to one direction of a relayed link. */
struct relay_shape {
    uint64_t free_us;           /* limit: the bytes of the last message are through */
    struct fault_status *noise; /* the rule that the next is drawn by */
    uint64_t noise_in;          /* corrupt: bytes until the next one */
};

/* Our end of a relayed link. */
struct relay_link {
    struct link_id id;
    uint64_t call;
    struct link_id real; /* to the relayer */
    struct peer_info peer;
    bool used;
    bool up;                /* to the owner */
    bool down_owed;         /* the owner ended it: on_down is due */
    bool confirmed;         /* we may send */
    bool owes_word;         /* CONFIRM, while up, or CLOSED: the relayer's lane was full */
    uint64_t confirm_by_us; /* until it is confirmed */
    enum down_reason why, said_why;
    struct relay_lane lane[2];
    struct relay_shape shape[2]; /* out, in */
    bool torn;                   /* half_open: something is lost */
    uint64_t blocked_us;         /* drop, half_open: since when; 0 = it is not */
    struct link_stats stats;
};

/* A member that the owner wants to have linked through somebody. */
struct relay_dial {
    node_id target;
    bool trying, asking;
    bool busy, busy_said; /* one that has a link to it has no room; so it was in a try that failed */
    struct link_id asked;
    uint64_t call;
    uint32_t left;        /* how many more are asked in this try */
    bool any_asked;       /* of this round, which may take several tries: .. */
    uint64_t order_asked; /* .. those up to here by relay_order */
    uint64_t at_us;       /* next try, or end of the wait for an answer; TIME_NEVER: linked */
    uint64_t backoff_us;
};

struct relay_side {
    struct link_id real;
    node_id peer;
    struct relay_queue queue[2]; /* from this side */
    uint64_t received[2];
    uint32_t owed_messages[2]; /* credit */
    uint64_t owed_bytes[2];
    bool gone;        /* its link is down, or it has closed: no word to it */
    bool owes_closed; /* .. of which it could not be told yet */
};

enum pair_state { PAIR_FREE, PAIR_ASKED, PAIR_ACCEPTED, PAIR_OPEN, PAIR_ENDING };

/* Two members that we relay for; side 0 has dialled. */
struct relay_pair {
    enum pair_state state;
    uint64_t call;
    enum down_reason why; /* while it ends */
    uint64_t open_by_us;  /* until it is open */
    struct relay_side side[2];
};

struct relay {
    struct transport outer; /* first: the owner's pointer is ours */
    struct host outer_host;
    struct relay_config config;
    struct transport_sink sink;
    struct host_sink host_sink;
    struct transport *inner;
    struct host *host;
    struct prng prng;
    bool closing, closed;
    uint64_t owner_at_us, own_at_us; /* deadlines: the owner's, ours */
    struct relay_real *real;         /* (real_count) */
    uint32_t real_count, real_capacity;
    struct relay_link link[RELAY_LINK_MAX];
    uint32_t links_up;
    uint64_t links_lost;
    struct relay_dial *dial; /* (dial_count) */
    uint32_t dial_count, dial_capacity;
    struct relay_pair pair[RELAY_PAIR_MAX];
    uint32_t pair_next;         /* whose turn it is */
    uint64_t pace_us;           /* the rate allows the next message from then on */
    struct relay_totals totals; /* pairs is 0 */
    uint64_t full_said_us;      /* when it may be said again that there is no room for a pair */
    bool pace_holds;            /* something waits for that */
    struct fault_set faults;    /* those that name a peer, under the inner transport's ids */
    bool faults_changed;        /* links may go on from the next tick */
};

static inline bool relay_same(struct link_id a, struct link_id b)
{
    return a.slot == b.slot && a.generation == b.generation;
}

static inline struct relay *relay_of(const struct transport *t)
{
    return (struct relay *)(uintptr_t)t; /* outer is the first field */
}

/* -- relay.c */
uint64_t relay_now_us(const struct relay *r);
struct relay_real *relay_real_of(const struct relay *r, struct link_id id);     /* NULL */
struct relay_real *relay_real_peer(const struct relay *r, node_id peer);        /* NULL */
int relay_say(struct relay *r, struct link_id to, const struct relay_frame *f); /* as send */
void relay_settle(struct relay *r); /* sets the deadline anew; at the end of what may have changed it */

/* -- relay/link.c */
struct relay_link *relay_link_of(struct relay *r, struct link_id id); /* up, by the owner's id; NULL */
struct relay_link *relay_link_peer(struct relay *r, node_id peer);    /* up; NULL */
struct relay_link *relay_link_begin(struct relay *r, struct link_id real, uint64_t call, node_id peer,
                                    uint64_t boot, bool dialled); /* NULL when there are too many */
int relay_link_send(struct relay *r, struct relay_link *l, enum lane lane, struct blob *head,
                    struct blob *body);
void relay_link_end(struct relay *r, struct relay_link *l, enum down_reason why, enum down_reason said_why);
void relay_link_lost(struct relay *r, struct relay_link *l, enum down_reason why); /* calls on_down */
int relay_link_heard(struct relay *r, struct link_id real, enum lane lane, const struct relay_frame *f,
                     struct blob *body); /* ERR_NOT_FOUND: not ours; ERR_PROTO */
void relay_links_real_down(struct relay *r, struct link_id real, enum down_reason why);
void relay_links_writable(struct relay *r, struct link_id real);
void relay_links_tick(struct relay *r, uint64_t now_us);
uint64_t relay_links_deadline_us(const struct relay *r);
void relay_links_end(struct relay *r); /* all, by the owner */
bool relay_links_room(const struct relay *r);
void relay_links_deinit(struct relay *r);

/* -- relay/fault.c */
enum relay_fate {
    RELAY_GOES,
    RELAY_LATER,     /* it is not due; the other lane may be */
    RELAY_HELD,      /* so is the other lane */
    RELAY_SWALLOWED, /* gone: drop it */
    RELAY_CORRUPT,   /* the link ends */
};
/* Of the first message of a lane, before it goes on. */
enum relay_fate relay_fault_fate(struct relay *r, struct relay_link *l, enum fault_direction direction,
                                 const struct relay_message *m);
void relay_fault_gone(struct relay *r, struct relay_link *l, enum fault_direction direction,
                      size_t bytes); /* it went on */
uint64_t relay_fault_due_us(struct relay *r, node_id peer, enum fault_direction direction,
                            size_t bytes); /* of a new message */
bool relay_fault_refuses(const struct relay *r, node_id peer,
                         bool *silently);                            /* no call to or from it; counted */
void relay_fault_drops(struct relay *r, const struct relay_link *l); /* what waits is about to be dropped */
uint64_t relay_fault_deadline_us(const struct relay *r, const struct relay_link *l);
void relay_faults_tick(struct relay *r, uint64_t now_us);
uint64_t relay_faults_deadline_us(const struct relay *r);
int relay_inject(struct transport *t, const struct fault_rule *rule);
int relay_heal(struct transport *t, int id);
uint32_t relay_faults(const struct transport *t, struct fault_status *out, uint32_t max);

/* -- relay/dial.c */
void relay_dial_add(struct relay *r, node_id target);
void relay_dial_remove(struct relay *r, node_id target);
void relay_dials_forget(struct relay *r);               /* all */
void relay_dials_direct(struct relay *r, node_id peer); /* it has a real link now */
void relay_dials_more(struct relay *r);                 /* there is one more to ask */
void relay_dials_again(struct relay *r, node_id peer);  /* its link is down */
void relay_dials_real_down(struct relay *r, struct link_id real);
void relay_dials_tick(struct relay *r, uint64_t now_us);
uint64_t relay_dials_deadline_us(const struct relay *r);
int relay_open_heard(struct relay *r, const struct relay_real *from,
                     const struct relay_frame *f); /* we are the target */
void relay_accept_heard(struct relay *r, struct link_id real, const struct relay_frame *f);
void relay_refuse_heard(struct relay *r, struct link_id real, const struct relay_frame *f);

/* -- relay/pair.c */
struct relay_pair *relay_pair_of(struct relay *r, struct link_id real, uint64_t call,
                                 uint32_t *side); /* NULL */
int relay_pair_open(struct relay *r, const struct relay_real *from, const struct relay_frame *f);
int relay_pair_heard(struct relay *r, struct relay_pair *p, uint32_t side, enum lane lane,
                     const struct relay_frame *f, const uint8_t *head, size_t size, struct blob *body);
void relay_pairs_real_down(struct relay *r, struct link_id real, enum down_reason why);
void relay_pairs_pump(struct relay *r, uint64_t now_us);
uint64_t relay_pairs_deadline_us(const struct relay *r);
void relay_pairs_end(struct relay *r); /* all: we close */
void relay_pairs_deinit(struct relay *r);

#endif
