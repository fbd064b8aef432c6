/* What must hold in a storm (storm.h). Always, after every event:
 *  - no node failed, nothing was refused as malformed, and messages do not beget messages without end;
 *  - all parameters are finite, queues are short, counters never go back;
 *  - no model holds more of a node's work than the node has done, unless messages lose part of what they carry;
 *  - what the method's law asks (laws.c).
 * Once the cluster is at rest after healing, until the end: what the law asks then.
 * At the end: all agree; then every node does a burst of steps, and once all agree again the models have grown
 * by each node's share of it: nothing was lost, nothing came twice. */
#ifndef GADABOUT_TESTS_SIM_CHECKERS_H
#define GADABOUT_TESTS_SIM_CHECKERS_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/node/node.h"
#include "algo/digest/internal.h"

struct storm;

enum { CHECKERS_NODES = 16, CHECKERS_DIM = 256, CHECKERS_STREAMS = 16, CHECKERS_PLANS = 256 };

/* Why DIGEST's work got lost (digest_losses.c). */
enum digest_loss {
    DIGEST_LOSS_PLAN_LOSS,
    DIGEST_LOSS_PLAN_RESTART,
    DIGEST_LOSS_PLAN_TOKEN,
    DIGEST_LOSS_MERGE,
    DIGEST_LOSS_ANEW,
    DIGEST_LOSS_DIED,
    DIGEST_LOSS_AWAY,
    DIGEST_LOSS_COUNT
};

/* One node's work as the cluster holds it, in steps; of all its lives. */
struct digest_account {
    double held, handed;
    struct epoch epoch; /* what the node was seen with last */
    bool offered, forced, away;
    uint64_t anew;
};

/* What a step of node u adds to coordinate u of the models, at rest, once all agree. */
enum law_share {
    LAW_SHARE_EQUAL,  /* 1/n: a mean of all nodes */
    LAW_SHARE_WEIGHT, /* w_u */
    LAW_SHARE_ONE,    /* 1: there is one model, and the newest copy of it counts */
    LAW_SHARE_BATCH,  /* 1/b: updates are means of b gradients */
};

/* What must hold for one method, beside what holds for all. */
struct law {
    const char *method;
    enum law_share share;
    bool one_trains; /* not every node steps and mixes all the time */
    bool same_bits;  /* models that agree are equal bit for bit */
    bool
        kept_back; /* lossy messages keep back what they do not send, and send it as it is: models stay averages */
    bool estimates; /* lossy messages tell how an update differs from what was told last: amounts are right on
                     * average only */
    /* Each may be NULL. After an event of node v, which lives; after one at rest. */
    void (*look)(struct storm *s, rank_t v);
    void (*look_at_rest)(struct storm *s, rank_t v);
    const char *(*unrest)(struct storm *s);       /* NULL when at rest, else what is not as it should be */
    const char *(*disagreement)(struct storm *s); /* the same, once there is no more drift */
    void (*quiet)(struct storm *s);               /* at rest from now on */
    void (*end)(struct storm *s);                 /* after the agreement */
    rank_t (*pillar)(const struct storm *s);      /* whose loss hurts most just now; RANK_NONE = nobody's */
};

const struct law *law_of(const char *method); /* NULL: nobody has said what must hold for it */

/* What a node was seen with last in its present life. */
struct checkers_node {
    struct epoch epoch;
    struct token_stamp known[CHECKERS_STREAMS], last[CHECKERS_STREAMS];
    uint64_t steps, mixes, term;
};

struct checkers {
    struct checkers_node node[CHECKERS_NODES];
    uint64_t second, events; /* of the present virtual second */
    bool quiet;
    double missing[CHECKERS_NODES]; /* steps of each node's work, when quiet began */
    struct digest_account account[CHECKERS_NODES];
    uint8_t plan_cause[CHECKERS_PLANS][CHECKERS_NODES]; /* enum digest_loss, by number and proposer */
    uint64_t at_heal_steps[CHECKERS_NODES], at_heal_mixes[CHECKERS_NODES];
    uint64_t marks, marks_since_us; /* regenerations and re-bases counted: no change for a while is rest */
    uint64_t holder_term;           /* async: greatest term of a holder seen, and the greatest x_t of any */
    double applied[CHECKERS_NODES];
    /* When the burst began. */
    uint64_t burst_counted[CHECKERS_NODES];
    float burst_model[CHECKERS_DIM];
};

void checkers_event(struct storm *s);             /* what must hold always; problems go to storm_fail */
void checkers_crashed(struct storm *s, rank_t v); /* its next life has no past */

void checkers_healed(struct storm *s); /* progress counts from here */

/* NULL when the cluster is at rest: all links are up, all nodes go on, and what the law asks. Otherwise what is
 * not as it should be. */
const char *checkers_unrest(struct storm *s);
void checkers_quiet(struct storm *s); /* at rest from now on */

/* NULL when all models are the same; otherwise what differs. */
const char *checkers_disagreement(struct storm *s);
void checkers_burst_begin(struct storm *s); /* all agree and nothing drifts */
void checkers_burst_end(struct storm *s);   /* all agree again */
void checkers_end(struct storm *s);

/* -- for the laws ------------------------------------------------------------------------------ */

double checkers_slack(double steps); /* rounding, in steps, of what holds so many */
void checkers_vector(struct storm *s, rank_t v, const char *what, const float *x);
bool checkers_differ(const struct storm *s, const float *x, const float *y); /* by more than rounding */

#endif
