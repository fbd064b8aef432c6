/* A cluster of 16 simulated nodes in a storm: everything about it follows from one seed. First faults of all
 * kinds for a while (safety), then everything is healed and the cluster must come to rest, go on, and agree
 * once there is no more drift (liveness), twice: after the storm, and after a burst of further steps. checkers.h looks on after every event.
 *
 * The trainers count: one local step of node v adds 1 to coordinate v, so that coordinate v of a model tells how
 * much of v's work it holds. */
#ifndef GADABOUT_TESTS_SIM_STORM_H
#define GADABOUT_TESTS_SIM_STORM_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/simulation/simulation.h"
#include "algo/digest/internal.h"
#include "base/prng.h"
#include "tests/sim/checkers.h"

enum { STORM_NODES = 16, STORM_SECOND = 1000000, STORM_TEXT = 128 };

/* Where what it hands over is watched in detail, a step counts once more in a coordinate of its node and its time:
 * what is lost of other times cannot hide there what comes twice. */
enum { STORM_SLICES = 15, STORM_SLICE_US = 8 * STORM_SECOND, STORM_DIM = STORM_NODES * (1 + STORM_SLICES) };

enum storm_fault {
    STORM_CRASH,
    STORM_RESTART,
    STORM_PAUSE,
    STORM_RESUME,
    STORM_CUT,
    STORM_CUT_ONE_WAY,
    STORM_HEAL,
    STORM_RESET,
    STORM_FAULT_COUNT
};

/* Faults that take many links: storm_shapes.c. */
enum storm_shape {
    STORM_SHAPE_HALVES,
    STORM_SHAPE_COIN,
    STORM_SHAPE_ALONE,
    STORM_SHAPE_RING,
    STORM_SHAPE_ONE_WAY,
    STORM_SHAPE_SWIZZLE,
    STORM_SHAPE_COUNT
};

enum storm_task_kind { STORM_TASK_CUT, STORM_TASK_CUT_ONE_WAY, STORM_TASK_HEAL };

enum { STORM_TASK_MAX = STORM_NODES * (STORM_NODES - 1) };

struct storm_task {
    uint64_t at_us;
    enum storm_task_kind kind;
    rank_t a, b;
};

struct storm_shapes {
    struct prng prng;
    double gap_us;
    uint64_t next_us;                       /* when the next shape begins; TIME_NEVER */
    struct storm_task task[STORM_TASK_MAX]; /* (count) of the present one, in order of time */
    uint32_t count, done;
};

struct storm;

/* What a test changes in a storm, above all a bug planted from outside: state of the nodes is tampered with
 * between events. */
struct mutant {
    const char *name;
    const char *algorithm;           /* NULL = as the seed has it */
    const char *compress;            /* NULL = none */
    void (*tamper)(struct storm *s); /* NULL, or called after each event, before the checkers look */
    bool forgets_a_link;             /* one cut link is not healed */
    bool pillars;                    /* as storm_plan.pillars */
};

/* Instead of random faults, after 30 seconds: */
enum storm_scene {
    STORM_SCENE_NONE,
    STORM_SCENE_CRASH, /* one node is away for ten seconds */
    STORM_SCENE_SPLIT, /* two halves are apart for a minute */
};

/* What is not drawn from the seed. */
struct storm_plan {
    const char *algorithm;       /* NULL = drawn from the seed */
    const char *compress;        /* NULL = none */
    const struct mutant *mutant; /* NULL = none */
    bool loud;                   /* faults and log lines go to stderr */
    bool pillars; /* no random faults: again and again the node whose loss hurts most is killed */
    bool plain;   /* single faults only: no partitions and swizzles */
    enum storm_scene scene;
};

struct storm_tally {
    uint64_t fault[STORM_FAULT_COUNT], shape[STORM_SHAPE_COUNT];
    uint64_t events, regenerated, rebases, refused;
    uint64_t quiet_us_max, agreed_us_max; /* until rest after healing; until agreement without drift */
    double handed, missing;               /* steps with DIGEST, sums over nodes and seeds */
    double missing_share_max;             /* of one storm */
    double lost[DIGEST_LOSS_COUNT];       /* by cause; sums to about `missing` */
};

struct storm {
    /* from the seed */
    uint64_t seed;
    char algorithm[STORM_TEXT], compress[STORM_TEXT], topology[STORM_TEXT], latency[STORM_TEXT],
        step_time[STORM_TEXT];
    const struct law *law; /* what must hold for the algorithm */
    bool digest;
    bool lossy;   /* messages lose part of what they carry ... */
    bool rounded; /* ... and what they carry is not exact */
    bool slices;  /* models have STORM_DIM coordinates, otherwise STORM_NODES */
    double weight[STORM_NODES];
    double fault_weight[STORM_FAULT_COUNT], fault_gap_us;
    struct prng prng;
    struct storm_shapes shapes;
    /* the cluster */
    struct choice topology_choice, latency_choice, step_time_choice, algorithm_choice, compress_choice;
    struct simulation_setup setup;
    struct simulation *sim;
    bool paused[STORM_NODES];
    bool drifting;
    uint64_t counted[STORM_NODES];      /* steps that v's trainers counted, in all its lives */
    uint64_t counted_life[STORM_NODES]; /* ... in the present one */
    uint64_t
        sliced[STORM_DIM - STORM_NODES]; /* ... in each slice of time, of the first node, then the next */
    uint64_t under_way[STORM_NODES];     /* ... in a job whose result has not come yet */
    uint64_t handed_gone[STORM_NODES];   /* counted steps handed over in lives that are gone */
    uint32_t touched;                    /* bit v: the event ran node v */
    uint64_t healed_us;                  /* TIME_NEVER before */
    bool training_ended;                 /* an event ended a training job */
    struct storm_plan plan;
    /* the watch */
    struct checkers checkers;
    struct err_text problem; /* the first one; "" = none */
    const struct mutant *mutant;
    uint64_t mutant_memory[4]; /* of the mutant */
    bool loud;
    struct trace trace;
    struct storm_tally *tally; /* borrowed */
};

/* Returns true when the storm was weathered, else false and the first problem in *why. tally may be NULL. */
bool storm_run(uint64_t seed, const struct storm_plan *plan, struct storm_tally *tally, struct err_text *why);

/* storm_draw.c: everything that follows from the seed alone; algorithm NULL = drawn too, compress NULL = none. */
void storm_draw(struct storm *s, const char *algorithm, const char *compress);

/* storm_shapes.c */
void storm_shapes_init(struct storm *s);
uint64_t storm_shapes_due_us(const struct storm *s); /* when to call the next; TIME_NEVER */
void storm_shapes_act(struct storm *s);              /* begins a shape, or cuts or heals one link */

/* For checkers and mutants. */
void storm_fail(struct storm *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
struct digest *storm_digest(const struct storm *s, rank_t v); /* NULL: dead, joining, or another algorithm */
uint64_t storm_handed_over(const struct storm *s, rank_t v);  /* counted steps, in all lives */

#endif
