/* Shared by the files of the simulator: sim/world.c (heap, step), sim/host.c (jobs, deadlines), sim/link.c
 * (pairs, lanes, ends), sim/net.c (transport, dialling), sim/fault.c (of the world), sim/inject.c (of one node's
 * transport), sim/delay.c. Not for others. */
#ifndef GADABOUT_NET_SIM_INTERNAL_H
#define GADABOUT_NET_SIM_INTERNAL_H

#include "base/prng.h"
#include "net/fault/fault.h"
#include "net/sim/sim.h"

#define SIM_NONE UINT32_MAX /* no message, no pair */

/* -- delays (sim/delay.c, sim/step_time.c) ----------------------------------------------------- */

struct sim_latency { /* the choice, looked up once */
    size_t kind;     /* index in latency_table */
    double shift_s, low_s, high_s, control_s, mean_s;
};

struct sim_step_time {
    size_t kind; /* index in step_time_table */
    double low_s, high_s, mean_s, unit_s;
};

void sim_latency_init(struct sim_latency *l, const struct choice *c);
double sim_latency_mean_s(const struct sim_latency *l, uint64_t seed, uint64_t link); /* of (seed, link) */
uint64_t sim_latency_draw_us(const struct sim_latency *l, struct prng *p, double mean_s, bool body);
void sim_step_time_init(struct sim_step_time *s, const struct choice *c);
/* The parameter of one node, `slowness` (> 0) times that of the choice; drawn, if at all, once per node. */
double sim_step_time_node_s(const struct sim_step_time *s, struct prng *p, double slowness);
uint64_t sim_step_time_draw_us(const struct sim_step_time *s, struct prng *p, double node_s, uint32_t steps);

/* -- events (sim/world.c) ---------------------------------------------------------------------- */

enum sim_event_kind {                   /* the values are part of the observed bytes */
                      SIM_DEADLINE = 1, /* index: node */
                      SIM_JOB_DONE,     /* index: node */
                      SIM_MESSAGE,      /* index: pair; side: the receiver */
                      SIM_UP,           /* index: pair; side */
                      SIM_DOWN,         /* index: pair; side */
                      SIM_WRITABLE,     /* index: pair; side */
                      SIM_REFUSED, /* index: pair; side; only observed, a SIM_CONNECT that failed for good */
                      SIM_CLOSED,  /* index: node */
                      SIM_SELF,    /* index: node: it dialled itself */
                      SIM_SILENCE, /* index: pair; side: perhaps it has heard nothing for too long */
                      SIM_DIAL,    /* index: pair; side: a try begins */
                      SIM_CONNECT, /* index: pair; side: its try arrives */
                      SIM_FAULT,   /* index: node: an injected fault ends; a pause does not hold it up */
                      SIM_UNREACHABLE, /* only observed: a try that failed for now */
};

struct sim_event {
    uint64_t time_us;
    uint64_t order; /* sequence << 8 | kind << 2 | lane << 1 | side: unique, so the order is total */
    uint32_t index;
    uint32_t generation; /* of what it is for: a stale event is dropped when it comes up */
};

struct sim_message {
    uint64_t time_us, order; /* of its delivery, unless the one ahead of it is later */
    struct blob *head, *body;
    uint64_t bytes; /* on the wire */
    uint32_t next;  /* in its lane, or in the free list */
};

/* -- links (sim/link.c) ------------------------------------------------------------------------ */

struct sim_lane {
    uint32_t first, last; /* messages accepted and not delivered; SIM_NONE when empty */
    uint64_t free_us;     /* when the bandwidth is free for this lane */
    bool held;            /* the first one came to its time while the direction was cut */
};

enum sim_end_state { END_DOWN, END_COMING, END_UP, END_CLOSING };

/* What injected faults do to one direction: of the sender's own transport, and of the receiver's. */
struct sim_shape {
    struct fault_effect of_sender, of_receiver;
    bool blocked;                   /* nothing gets through ... */
    struct fault_status *swallower; /* ... and is lost, this rule says; NULL = it waits */
    bool torn;                      /* something was lost: the link is reset at the end */
    uint64_t noise_in[2]; /* bytes up to the next corrupt one, for each side's rule; 0 = not drawn */
    const struct fault_status *noise[2]; /* for which it was drawn */
};

/* One side of a pair. */
struct sim_end {
    enum sim_end_state state;
    bool dialled;
    /* what goes out from here */
    struct sim_lane lane[2];
    uint64_t waiting_bytes;     /* behind the first message of each lane: what LINK_QUEUE_MAX bounds */
    uint64_t queue_bytes;       /* accepted and not delivered */
    uint64_t control_delay_us;  /* of the latest control message */
    bool full, writable_coming; /* ERR_FULL was given; its on_writable is under way */
    struct prng latency;        /* stream of this direction: delays of messages */
    struct prng trouble;        /* stream of this direction: dial tries, resets */
    struct prng quiet;          /* stream of this direction: slack of the silence timer at this side */
    struct prng chance;         /* stream of this direction: injected jitter and noise */
    struct sim_shape *shape;    /* NULL = no injected fault */
    /* what comes in */
    bool cut;            /* nothing gets through to this side: asked for, or by an injected fault */
    bool cut_asked;      /* by sim_cut */
    bool starved;        /* not even heartbeats get through */
    bool silence_coming; /* a SIM_SILENCE is in the heap */
    uint64_t starved_us; /* since when */
    uint64_t silence_slack_us;
    uint64_t word_us; /* last delivery */
    /* going down */
    bool down_coming, down_forced; /* a SIM_DOWN is in the heap; even across a cut */
    enum down_reason down_why;
    /* dialling from here */
    bool wanted, connecting;
    uint32_t dial_generation;
    struct link_stats stats;
};

/* Two nodes that ever had to do with each other. Slot and generation of a link_id are its index and
 * generation. live: both ends belong to one connection; an end may be up without (half-open). */
struct sim_pair {
    uint32_t index;
    uint32_t node[2]; /* smaller first */
    uint32_t generation;
    bool live;
    uint64_t up_us;
    double mean_s;
    struct sim_end end[2];
};

/* -- nodes ------------------------------------------------------------------------------------- */

struct sim_transport {
    struct transport base; /* first: the interface's pointer is ours */
    struct sim_world *world;
    uint32_t node;
    bool closing, closed;
    struct transport_config config;
    struct transport_sink sink;
    struct transport_totals totals;
    struct fault_set faults;
};

struct sim_host {
    struct host base; /* first */
    struct sim_world *world;
    uint32_t node;
    struct host_sink sink;
    struct job *job; /* running, or NULL */
    uint64_t deadline_us;
    uint64_t armed_us; /* time of the heap entry that stands for the deadline */
};

struct sim_node {
    bool alive, paused;
    bool dial_only;                  /* nobody can dial it */
    bool reset;                      /* crashed so that its host refuses connections */
    struct sim_transport *transport; /* NULL: not attached */
    struct sim_host *host;
    uint32_t life; /* generation of transport and host events */
    uint32_t deadline_generation;
    double step_s;         /* step time drawn for this node */
    struct prng step_time; /* stream */
    uint32_t *pair;        /* indices of its pairs, in order of creation */
    uint32_t pair_count, pair_capacity;
    struct sim_event *held; /* what came up during a pause, in order */
    uint32_t held_count, held_capacity;
};

struct sim_world {
    struct sim_options options;
    struct sim_latency latency;
    struct sim_step_time step_time;
    uint64_t now_us;
    uint64_t next_sequence;
    bool delivering; /* a callback is running */
    struct sim_event *heap;
    size_t heap_count, heap_capacity;
    struct sim_message *message; /* pool */
    uint32_t message_count, message_capacity, message_free;
    struct sim_node *node; /* (node_count) */
    struct sim_pair **pair;
    uint32_t pair_count, pair_capacity;
    uint32_t *pair_table;     /* open addressing: index of pair, or SIM_NONE */
    uint32_t pair_table_size; /* power of two */
    void (*observe)(void *ctx, const void *bytes, size_t size);
    void *observe_ctx;
    struct sim_totals totals;
};

/* -- sim/world.c */
void sim_schedule(struct sim_world *w, uint64_t at_us, enum sim_event_kind kind, uint32_t index,
                  uint32_t side, uint32_t generation);
uint64_t sim_take_order(struct sim_world *w, enum sim_event_kind kind, enum lane lane, uint32_t side);
void sim_push(struct sim_world *w, struct sim_event event);
/* Tells the observer of an event that is about to be delivered to node; detail: lane, reason, code. */
void sim_tell(struct sim_world *w, enum sim_event_kind kind, uint32_t node, uint32_t peer, uint32_t detail,
              const struct blob *head, const struct blob *body);

/* -- sim/host.c: handlers of its events; false: stale */
bool sim_deadline_event(struct sim_world *w, uint32_t v, uint32_t generation);
bool sim_job_event(struct sim_world *w, uint32_t v, uint32_t generation);

/* -- sim/link.c */
uint64_t sim_ordered_index(const struct sim_world *w, uint32_t from, uint32_t to);
struct sim_pair *sim_pair_get(struct sim_world *w, uint32_t a, uint32_t b); /* made when new */
void sim_pair_free(struct sim_world *w, struct sim_pair *p);
uint32_t sim_side_of(const struct sim_pair *p, uint32_t v);
int sim_link_send(struct sim_world *w, struct sim_pair *p, uint32_t side, enum lane lane, struct blob *head,
                  struct blob *body);
void sim_link_break(struct sim_world *w, struct sim_pair *p); /* no longer live; what is under way is lost */
void sim_link_release(struct sim_world *w, struct sim_pair *p); /* arms held lanes that are no longer cut */
void sim_end_clear(struct sim_world *w, struct sim_end *e);     /* drops its outgoing messages */
void sim_end_starve(struct sim_world *w, struct sim_pair *p, uint32_t side); /* looks whether it starves */
void sim_end_notify(struct sim_world *w, struct sim_pair *p, uint32_t side, enum down_reason why);
void sim_end_force_down(struct sim_world *w, struct sim_pair *p, uint32_t side, enum down_reason why);
void sim_end_down(struct sim_world *w, struct sim_pair *p, uint32_t side, enum down_reason why); /* on_down */
bool sim_message_event(struct sim_world *w, struct sim_pair *p, const struct sim_event *event);
bool sim_up_event(struct sim_world *w, struct sim_pair *p, uint32_t side, uint32_t generation);
bool sim_down_event(struct sim_world *w, struct sim_pair *p, uint32_t side, uint32_t generation);
bool sim_writable_event(struct sim_world *w, struct sim_pair *p, uint32_t side, uint32_t generation);
bool sim_silence_event(struct sim_world *w, struct sim_pair *p, uint32_t side, uint32_t generation);

/* -- sim/inject.c */
int sim_inject(struct sim_transport *t, const struct fault_rule *rule);
int sim_inject_heal(struct sim_transport *t, int id);
uint32_t sim_inject_list(const struct sim_transport *t, struct fault_status *out, uint32_t max);
void sim_inject_end(struct sim_world *w, uint32_t v);          /* v's transport goes: its faults end */
void sim_inject_look(struct sim_world *w, struct sim_pair *p); /* a new pair, or rules have changed */
bool sim_inject_event(struct sim_world *w, uint32_t v);
/* Of a direction with a shape, from the end `from`. */
uint64_t sim_shape_delay_us(struct sim_end *from, uint64_t bytes);
uint64_t sim_shape_rate(const struct sim_end *from, uint64_t rate); /* the smallest; 0 = no limit */
bool sim_shape_corrupts(struct sim_end *from, uint64_t bytes);
void sim_shape_held(struct sim_end *from); /* counts what a fault kept from going on until now */
void sim_shape_swallow(struct sim_end *from, uint64_t bytes);
bool sim_inject_refuses(struct sim_pair *p); /* a link is reset as soon as it is made */

/* -- sim/fault.c */
void sim_direction_cut(struct sim_world *w, struct sim_pair *p, uint32_t to, bool cut);
void sim_pair_resume(struct sim_world *w, struct sim_pair *p); /* something gets through again */
void sim_pair_reset(struct sim_world *w, struct sim_pair *p, enum down_reason why);

/* -- sim/net.c */
void sim_transport_free(struct sim_transport *t);
void sim_end_redial(struct sim_world *w, struct sim_pair *p, uint32_t side); /* if wanted, tries later */
bool sim_dial_event(struct sim_world *w, struct sim_pair *p, uint32_t side, uint32_t generation);
bool sim_connect_event(struct sim_world *w, struct sim_pair *p, uint32_t side, uint32_t generation);
bool sim_closed_event(struct sim_world *w, uint32_t v, uint32_t life);
bool sim_self_event(struct sim_world *w, uint32_t v, uint32_t life);

static inline struct link_id sim_link_id(const struct sim_pair *p)
{
    return (struct link_id){.slot = p->index, .generation = p->generation};
}

#endif
