/* A small network of membership machines in virtual time: everything follows from one seed.
 *
 * A machine that runs sends and is sent to over links. A link delivers in order after 0.2 to 2 ms. What is dropped
 * is sent again every 200 ms, as TCP does, until the link goes down: an end that hears nothing for 2 s (less what
 * went by since the last heartbeat, which is not simulated) goes down as silent, the other end is reset when that
 * gets through. The owner is as simple as can be: it dials the seed until it has a link, dials once whom it wants a
 * link with when it hears that it lives, dials what the machine asks it to dial, and closes a link that nobody
 * wants after 10 to 15 s.
 *
 * A frozen machine does nothing; what comes for it waits. When it thaws its deadline is served first and then what
 * waits, as a loop does that runs timers before input. */
#ifndef GADABOUT_TESTS_SIM_SWIM_CLUSTER_H
#define GADABOUT_TESTS_SIM_SWIM_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/prng.h"
#include "net/membership/membership.h"

enum { SWIM_SECOND = 1000000, SWIM_NODE_MAX = 256, SWIM_KIND_COUNT = SWIM_GOSSIP + 1 };

struct swim_cluster;

struct swim_options {
    uint32_t count;  /* machines; none runs at first */
    uint32_t degree; /* links each machine wants, to random others; 0 = to all */
    uint64_t seed;
    uint32_t latency_min_us, latency_max_us; /* 0 = 0.2 and 2 ms */
    bool no_local_health;
    bool loud; /* changes of state go to stderr */
    /* Planted bugs: NULL, or called before a machine gets a message, and after each of its steps. */
    void (*spoil)(struct swim_cluster *c, uint32_t node, struct swim_msg *msg);
    void (*tamper)(struct swim_cluster *c, uint32_t node, const struct membership_event *e);
};

enum swim_life { SWIM_OFF, SWIM_RUNNING, SWIM_FROZEN };

struct swim_end {
    bool up;
    uint32_t generation;
    uint64_t arrival_us, stalled_us; /* of the last message towards this end; nothing comes in before */
    uint64_t blocked;                /* serial of the cut that keeps this end from hearing; 0 = none */
};

struct swim_waiting;

struct swim_node {
    struct membership *machine; /* NULL: off */
    struct membership_actions acts;
    enum swim_life life;
    uint32_t run; /* counts processes */
    uint64_t timer_serial, seed_retry_us;
    bool vanished;                     /* its host answers nobody */
    bool excused;                      /* whatever is said of it is no mistake */
    uint64_t connect_us;               /* of the last CONNECT; 0 = none */
    struct swim_waiting *first, *last; /* FROZEN */
};

struct swim_tally {
    uint64_t message[SWIM_KIND_COUNT], updates, connects,
        hasty_connects;                       /* hasty: less than a second after another */
    uint64_t suspicions, deaths, refutations; /* of machines that are gone */
    uint64_t false_accusations;               /* a machine itself suspects a member that is not excused */
    uint64_t false_deaths;  /* CHANGED to DEAD about a member that is not excused, at any machine */
    uint64_t resurrections; /* DEAD to ALIVE of a process that has gone */
    uint64_t errors;        /* messages that made no sense */
};

struct swim_event;

struct swim_cluster {
    struct swim_options options;
    struct swim_node *node;
    struct swim_end *end;   /* [at * count + from] */
    bool *dropped, *wanted; /* [from * count + to] */
    uint32_t seed_node;
    uint64_t now_us, sequence, serial;
    uint32_t generation;
    struct prng prng;
    struct swim_event *heap;
    uint32_t heap_count, heap_capacity;
    struct swim_tally tally;
};

struct swim_cluster *swim_cluster_new(const struct swim_options *options); /* returns owned */
void swim_cluster_free(struct swim_cluster *c);
void swim_run(struct swim_cluster *c, uint64_t until_us);

node_id swim_id(uint32_t node);
void swim_start(struct swim_cluster *c, uint32_t node); /* a new process; it finds the cluster by the seed */
void swim_start_at(struct swim_cluster *c, uint32_t node, uint64_t boot);
void swim_kill(struct swim_cluster *c, uint32_t node);  /* its host resets its links and refuses new ones */
void swim_leave(struct swim_cluster *c, uint32_t node); /* says so, and ends half a second later */
void swim_freeze(struct swim_cluster *c, uint32_t node);
void swim_thaw(struct swim_cluster *c, uint32_t node);
void swim_drop(struct swim_cluster *c, uint32_t from, uint32_t to, bool drop); /* one way */
void swim_vanish(struct swim_cluster *c, uint32_t node);                       /* dropped from and to all */
void swim_split(struct swim_cluster *c,
                uint32_t first); /* nodes below `first` from the others; 0 = heal all */

/* Of the machines that run (not frozen): all have the same view, and it has `alive` members. */
bool swim_agree(const struct swim_cluster *c, uint32_t alive);
bool swim_all_say(const struct swim_cluster *c, uint32_t node, enum member_state state); /* but it itself */
void swim_sum(const struct swim_cluster *c, struct swim_tally *out); /* machines that run included */
/* Runs until done(c, arg) holds, looked at every 20 ms, or the time is up; returns how long it took, or TIME_NEVER. */
uint64_t swim_until(struct swim_cluster *c, uint64_t at_most_us,
                    bool (*done)(const struct swim_cluster *c, uint32_t arg), uint32_t arg);

#endif
