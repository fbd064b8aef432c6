/* Shared by gossip.c (parameters, dispatch), pairwise.c (mode=async) and rounds.c
 * (mode=sync). Private to these files and their tests. */
#ifndef GADABOUT_ALGO_GOSSIP_INTERNAL_H
#define GADABOUT_ALGO_GOSSIP_INTERNAL_H

#include "algo/compress/mirror.h"
#include "algo/step.h"
#include "base/prng.h"

/* Kinds on the wire. A kind of the other mode is a protocol error. Each has one field. */
enum gossip_kind {
    GOSSIP_REQUEST = 1, /* async: exchange id */
    GOSSIP_ACCEPT = 2,  /* async: exchange id */
    GOSSIP_BUSY = 3,    /* async: exchange id */
    GOSSIP_MODEL = 4,   /* async: exchange id, the model */
    GOSSIP_STATUS = 5,  /* sync: round the sender works on */
    GOSSIP_ROUND = 6,   /* sync: round, the model */
};

enum exchange_state {
    EXCHANGE_NONE,
    EXCHANGE_REQUESTED, /* our REQUEST is out; nothing of ours is at stake yet */
    EXCHANGE_OPEN,      /* our MODEL is out; the peer's is not here yet */
};

struct exchange {
    enum exchange_state state;
    rank_t peer;         /* state != NONE */
    uint64_t id;         /* counter * node_count + rank of the initiator */
    uint64_t expires_us; /* when it is given up; state != NONE */
    struct blob *own;    /* OPEN: x as the peer got it, one reference; else NULL */
    uint64_t steps_sent; /* OPEN: report.steps as it was sent */
};

/* Never both with the same peer. */
struct pairwise {
    struct exchange asked; /* that we began */
    struct exchange given; /* that another began */
    uint64_t counter;      /* of exchanges we asked for */
    uint32_t steps;   /* local steps since the last attempt; `every` or more: one is due as soon as idle */
    uint64_t rest_us; /* when to start an exchange although the trainer is silent */
    struct trace_limit torn_said;
};

struct rounds {
    uint64_t round;      /* the round being worked on */
    uint32_t steps;      /* local steps done in it */
    bool waiting;        /* our model of this round is out; training rests */
    uint64_t expires_us; /* waiting: when those still missing are left out */
    double *weight;      /* (peer_count) mixing weight of each neighbour */
    struct round_part {
        const float *theirs, *ours;
        float weight;
    } * part; /* (peer_count) scratch: what takes part in a mix */
    struct round_peer {
        uint64_t told;       /* greatest round it spoke of on this link */
        bool absent;         /* missed a round: not waited for until it speaks of ours or a later one */
        struct blob *sent;   /* waiting: our model as it got it on this link; else NULL */
        struct blob *vec[2]; /* its models of our round and of the next; NULL = not here */
    } * peer;                /* (peer_count) */
};

/* mode=sync: a neighbour in the graph. mode=async: whoever is up. */
struct gossip_peer {
    rank_t rank;
    bool up;
    uint64_t request_seen; /* async: greatest id that it asked with on this link */
    struct mirror in, out; /* what we know of its model, and it of ours */
};

struct gossip {
    bool sync;
    rank_t rank;
    uint32_t node_count;
    struct gossip_peer *peer; /* (peer_count) in ascending rank */
    uint32_t peer_count, peer_capacity;
    size_t dim;
    uint64_t seed;
    uint64_t patience_us;
    uint32_t every;
    float step_scale;  /* multiplies each delta: 1, or n * w_v */
    float gamma;       /* multiplies each mixing step */
    struct pack *pack; /* NULL = none */
    const struct trace *trace;
    struct prng random;
    float *x; /* (dim) */
    struct algo_report report;
    struct pairwise pairwise; /* !sync */
    struct rounds rounds;     /* sync */
};

#define GOSSIP_NOBODY UINT32_MAX

/* Place of a rank among the peers, or GOSSIP_NOBODY. Good until the next PEER_UP or PEER_DOWN. */
uint32_t gossip_place(const struct gossip *g, rank_t peer);

/* x += step_scale * delta, counted. delta is (dim). */
void gossip_fold(struct gossip *g, const float *delta, uint32_t steps);

/* Appends a message with one field and no body; returns it, to be changed before the next append. */
struct algo_msg *gossip_send(struct gossip *g, struct algo_actions *acts, uint32_t place,
                             enum gossip_kind kind, uint64_t field);

/* The same with our model, compressed if possible. Returns the model as the neighbour will know it, one
 * reference owned by the caller. `whole`: as mirror_send. */
struct blob *gossip_send_model(struct gossip *g, struct algo_actions *acts, uint32_t place,
                               enum gossip_kind kind, uint64_t field, struct blob *whole);

/* The two modes. init runs after the common part is set, with peers and x ready; deinit frees what is theirs. peer_up
 * and peer_down are called while the peer is in the list, after `up` changed. message is called for neighbours that are
 * up; it returns 0 or ERR_PROTO, then with nothing changed. */
void pairwise_deinit(struct gossip *g);
void pairwise_start(struct gossip *g, uint64_t now_us, struct algo_actions *acts);
void pairwise_peer_down(struct gossip *g, uint64_t now_us, rank_t peer);
int pairwise_message(struct gossip *g, uint64_t now_us, uint32_t place, const struct algo_msg *m,
                     struct algo_actions *acts);
void pairwise_trained(struct gossip *g, const struct algo_event *e, struct algo_actions *acts);
void pairwise_deadline(struct gossip *g, uint64_t now_us, struct algo_actions *acts);
uint64_t pairwise_deadline_us(const struct gossip *g);

void rounds_init(struct gossip *g, const struct graph *graph, bool uniform);
void rounds_deinit(struct gossip *g);
void rounds_start(struct gossip *g, struct algo_actions *acts);
void rounds_peer_up(struct gossip *g, uint32_t place, struct algo_actions *acts);
void rounds_peer_down(struct gossip *g, uint32_t place, struct algo_actions *acts);
int rounds_message(struct gossip *g, uint64_t now_us, uint32_t place, const struct algo_msg *m,
                   struct algo_actions *acts);
void rounds_trained(struct gossip *g, const struct algo_event *e, struct algo_actions *acts);
void rounds_deadline(struct gossip *g, uint64_t now_us, struct algo_actions *acts);
uint64_t rounds_deadline_us(const struct gossip *g);

#endif
