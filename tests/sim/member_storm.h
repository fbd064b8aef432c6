/* A cluster that learns its members (SWIM, places, joining, fetching: agent/node/node.h) in a storm of comings and goings:
 * everything follows from one seed. First faults of all kinds for a while (safety); then everything is healed, the
 * dead come back, and the cluster must come to rest, go on and, once there is no more drift, agree (liveness).
 * member_checkers.c looks on after every event, member_rest.c when it is healed.
 *
 * In part of the storms up to three slots can only dial out, and all nodes have a relay under them, as agents have.
 *
 * Nodes have slots ("sim:v"), and in each life of a slot an id, a disk, a seed to dial and perhaps a place. The
 * trainer of place r adds 1 to coordinate r for each step, so that a model tells how much of whose work it holds. */
#ifndef GADABOUT_TESTS_SIM_MEMBER_STORM_H
#define GADABOUT_TESTS_SIM_MEMBER_STORM_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/simulation/simulation.h"
#include "base/prng.h"
#include "net/fault/fault.h"
#include "tests/sim/checkers.h"

enum {
    MEMBER_DIM = 12, /* places at most */
    MEMBER_SPARES_MAX = 2,
    MEMBER_SLOTS_MAX = MEMBER_DIM + MEMBER_SPARES_MAX + 1, /* and a keeper */
    MEMBER_SECOND = 1000000,
    MEMBER_TEXT = 96,
    MEMBER_TASK_MAX = MEMBER_SLOTS_MAX * MEMBER_SLOTS_MAX,
    MEMBER_IDS_MAX = 512,
    MEMBER_RECENT = 20, /* seconds that a keeper's model may be old */
};

enum member_fault {
    MEMBER_CRASH,
    MEMBER_BACK_OLD_DISK, /* same id, and what was saved some seconds before */
    MEMBER_BACK_NO_DISK,  /* same id, nothing else */
    MEMBER_BACK_NEW_ID,   /* somebody else at the same address */
    MEMBER_LEAVE,
    MEMBER_PAUSE,
    MEMBER_RESUME,
    MEMBER_CUT,
    MEMBER_CUT_ONE_WAY,
    MEMBER_HEAL,
    MEMBER_RESET,
    MEMBER_INJECT, /* a rule of net/fault/fault.h in one transport, for a while */
    MEMBER_POWER, /* all at once go, and come back in random order with their disks; with a keeper: the others go, and
                    * come back with or without disks */
    MEMBER_FAULT_COUNT
};

enum member_shape {
    MEMBER_SHAPE_HALVES,
    MEMBER_SHAPE_COIN,
    MEMBER_SHAPE_ALONE,
    MEMBER_SHAPE_RING,
    MEMBER_SHAPE_ONE_WAY,
    MEMBER_SHAPE_SWIZZLE,
    MEMBER_SHAPE_COUNT
};

struct member_task {
    uint64_t at_us;
    uint32_t a, b;
    bool heal, one_way;
};

struct member_shapes {
    struct prng prng;
    double gap_us;
    uint64_t next_us;
    struct member_task task[MEMBER_TASK_MAX];
    uint32_t count, done;
};

struct member_storm;

/* A bug planted from outside: state is tampered with between events, or a fault is done wrongly. */
struct member_mutant {
    const char *name;
    const char *algorithm;                  /* NULL = as the seed has it */
    void (*tamper)(struct member_storm *s); /* NULL, or called after each event, before the checkers look */
    bool leaves_in_silence, forgets_claim, forgets_steps;
    bool relays; /* it needs some */
};

struct member_plan {
    const char *algorithm; /* NULL = drawn from the seed */
    bool relays;           /* in any case; else the seed says so */
    const struct member_mutant *mutant;
    bool loud;
};

struct member_tally {
    uint64_t fault[MEMBER_FAULT_COUNT], shape[MEMBER_SHAPE_COUNT], injected[FAULT_KIND_COUNT];
    uint64_t events, fetches, foundings, evictions, refutations, deaths;
    uint64_t kept, founded_from_kept; /* fetches of keepers; foundings that began with the model of one */
    uint64_t relayed_pairs_seen, relayed_links_at_rest; /* that there were some */
    uint64_t refused;                                   /* by honest nodes; none is right */
    uint64_t dispute_us_max;                            /* two that know of each other at one place */
    uint64_t quiet_us_max, agreed_us_max; /* until rest after healing; until agreement without drift */
    uint64_t quiet_seed, agreed_seed;     /* of these */
    double virtual_s;
    uint64_t fingerprint; /* of all events, of the last storm */
};

/* What is on a slot's disk, and belongs to one id. */
struct member_disk {
    bool any;
    node_id id;
    float x[MEMBER_DIM];
    struct blob *method; /* the method's state, of the same moment; the slot's is owned */
    uint64_t steps, claimed, incarnation;
    bool had_place;
    rank_t place;
};

/* What was seen of a slot in its present life. */
struct member_seen {
    bool alive, trained, fetching, evicted;
    bool claim_seen;      /* a place was claimed in this life */
    uint64_t began_steps; /* the life began with so many */
    struct member_disk from;
    rank_t place;
    uint64_t claimed, progress, refused;
    uint64_t model;       /* hash of the model held */
    uint64_t fetch_us;    /* when the last fetch began; 0 = none did */
    uint64_t disputed_us; /* since when it knows of an earlier claim; 0 = does not */
};

struct member_slot {
    node_id id;
    uint32_t seed;
    bool seeking; /* the seed's address is sought: discovery */
    bool paused, leaving;
    bool stays_dead;    /* after healing */
    uint64_t gone_us;   /* leaving: when it goes */
    uint32_t witnesses; /* bit u: nothing kept the leave from u */
    struct member_disk disk;
    uint64_t save_us; /* next */
    bool save_now;    /* a message waits for one */
};

/* Models lately held by somebody: 8 entries per bucket, the oldest goes. */
enum { MEMBER_MODEL_BUCKETS = 4096, MEMBER_MODEL_WAYS = 8 };
struct member_model {
    uint64_t hash, last_us;
};

struct member_storm {
    /* from the seed */
    uint64_t seed;
    char algorithm[MEMBER_TEXT], topology[MEMBER_TEXT], latency[MEMBER_TEXT], step_time[MEMBER_TEXT];
    uint32_t slots, places, min_nodes;
    uint32_t keepers; /* of the slots, the last ones: 0 or 1 */
    const struct law *law;
    bool any_peers; /* the method takes them: its graph heals, or is an overlay */
    struct prng prng;
    double fault_weight[MEMBER_FAULT_COUNT], fault_gap_us;
    uint64_t safety_us, save_gap_us, seek_us;
    bool relays;                      /* under the nodes, of which some .. */
    bool dial_only[MEMBER_SLOTS_MAX]; /* .. can only dial out */
    struct member_shapes shapes;
    /* the cluster */
    struct choice topology_choice, latency_choice, step_time_choice, algorithm_choice;
    struct simulation_setup setup;
    struct simulation *sim;
    struct member_slot slot[MEMBER_SLOTS_MAX];
    node_id used[MEMBER_IDS_MAX];
    uint32_t used_count;
    bool drifting;
    bool save_now;                /* some slot's */
    uint64_t counted[MEMBER_DIM]; /* steps that trainers of the place did, in all lives */
    uint32_t touched;             /* bit v: the event ran slot v */
    uint64_t healed_us;           /* TIME_NEVER before */
    /* the watch */
    struct member_seen seen[MEMBER_SLOTS_MAX];
    struct member_model model[MEMBER_MODEL_BUCKETS][MEMBER_MODEL_WAYS];
    uint64_t best_progress[MEMBER_RECENT], best_s; /* of trainers, at the end of each of the last seconds */
    uint64_t at_heal_progress[MEMBER_SLOTS_MAX], at_heal_mixes[MEMBER_SLOTS_MAX];
    uint64_t second, events_second;
    uint64_t orphaned_us[MEMBER_SLOTS_MAX]
                        [RELAY_LINK_MAX]; /* since when a relayed link is not whole; 0 = it is */
    struct err_text problem;              /* the first one; "" = none */
    const struct member_mutant *mutant;
    uint64_t mutant_memory[MEMBER_SLOTS_MAX];
    bool loud;
    char refusal[MEMBER_TEXT]; /* what a node said of one in this event; "" = nothing */
    struct trace trace;
    struct member_tally *tally; /* borrowed */
};

/* Returns true when the storm was weathered, else false and the first problem in *why. tally may be NULL. */
bool member_storm_run(uint64_t seed, const struct member_plan *plan, struct member_tally *tally,
                      struct err_text *why);

void member_storm_fail(struct member_storm *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool member_storm_lives(const struct member_storm *s, uint32_t v); /* it is there, and is not leaving */
bool member_storm_keeps(const struct member_storm *s, uint32_t v); /* the slot is a keeper's */
uint64_t member_storm_now_us(const struct member_storm *s);
bool member_storm_go_on(struct member_storm *s, uint64_t until_us); /* false when there is a problem */

/* member_faults.c */
void member_faults_init(struct member_storm *s);
bool member_faults_blow(struct member_storm *s, uint64_t until_us); /* false when there is a problem */
void member_faults_heal(struct member_storm *s);
void member_faults_seek(struct member_storm *s);
void member_faults_say(const struct member_storm *s, const char *what, uint32_t a,
                       uint32_t b);                               /* when loud */
void member_faults_disturbed(struct member_storm *s, uint32_t v); /* v may not hear that somebody leaves */

/* member_disk.c */
void member_disk_save(struct member_storm *s);               /* disks whose time has come */
void member_disk_wanted(struct member_storm *s, uint32_t v); /* node_sink.on_save of v */
void member_disk_save_wanted(struct member_storm *s);        /* what those ask for */

/* member_shapes.c */
void member_shapes_init(struct member_storm *s);
uint64_t member_shapes_due_us(const struct member_storm *s);
void member_shapes_act(struct member_storm *s); /* begins a shape, or cuts or heals one link */

/* member_checkers.c */
void member_checkers_begun(struct member_storm *s, uint32_t v, const struct member_disk *from); /* a life */
void member_checkers_ended(struct member_storm *s, uint32_t v);
void member_checkers_resumed(struct member_storm *s, uint32_t v);
void member_checkers_event(struct member_storm *s);
void member_checkers_left(struct member_storm *s, uint32_t v);     /* before it goes */
double member_slack(const struct member_storm *s, uint32_t place); /* of its steps, in float sums */

/* member_rest.c */
void member_rest_begin(struct member_storm *s);               /* all is healed */
const char *member_rest_unrest(struct member_storm *s);       /* NULL when at rest */
const char *member_rest_disagreement(struct member_storm *s); /* NULL when all agree */
void member_rest_print(const struct member_storm *s);         /* who is where, and knows whom */

/* relay_checkers.c */
void relay_checkers_event(struct member_storm *s, uint32_t v);
void relay_checkers_begin(struct member_storm *s, uint32_t v); /* a life, or after a stop */
const char *relay_checkers_unrest(struct member_storm *s);     /* NULL when at rest */

#endif
