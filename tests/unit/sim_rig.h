/* A rig for tests of the simulated world: a few nodes whose sinks record every callback in order. */
#ifndef GADABOUT_TESTS_SIM_RIG_H
#define GADABOUT_TESTS_SIM_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "net/sim/sim.h"

#define RIG_NODES 6u
#define RIG_RECORD_MAX 20000u
#define MS 1000ull
#define SECOND 1000000ull
#define SILENCE (2 * SECOND)

enum rig_what { RIG_UP, RIG_DOWN, RIG_MESSAGE, RIG_WRITABLE, RIG_REFUSED, RIG_CLOSED, RIG_DEADLINE, RIG_JOB };

struct rig_record {
    enum rig_what what;
    uint32_t node;
    uint32_t value; /* message: its number; down: reason; refused: -err; up: dialled */
    enum lane lane;
    uint64_t time_us;
    struct link_id link;
};

struct rig;
struct rig_seat {
    struct rig *rig;
    uint32_t v;
    struct transport *t;
    struct host *h;
    struct link_id link; /* latest that came up */
    uint64_t peer_boot;
    size_t body_size_max; /* for the next rig_take; 0 = 64 MiB */
};
struct rig {
    struct sim_world *w;
    struct choice latency, step_time;
    struct rig_seat seat[RIG_NODES];
    struct rig_record record[RIG_RECORD_MAX];
    uint32_t count;
    uint64_t hash; /* FNV-1a of the observed bytes */
};

/* A job that counts its runs and costs what it is told. */
struct rig_job {
    struct job base;
    uint32_t cost, runs;
};

void rig_job_run(struct job *j);

void rig_take(struct rig *r, uint32_t v, uint64_t boot, uint8_t cluster);
struct rig *rig_open(uint64_t seed, const char *latency, const char *step_time, uint64_t bandwidth);
void rig_close(struct rig *r);
void rig_run_until(struct rig *r, uint64_t limit_us);
void rig_run_for(struct rig *r, uint64_t span_us);
void rig_dial(struct rig *r, uint32_t from, uint32_t to);
void rig_join(struct rig *r, uint32_t from, uint32_t to);
int rig_send(struct rig *r, uint32_t from, enum lane lane, uint32_t value, size_t body_size);
void rig_send_run(struct rig *r, uint32_t from, enum lane lane, uint32_t first, uint32_t count);
uint32_t rig_count(const struct rig *r, uint32_t node, enum rig_what what);
const struct rig_record *rig_find(const struct rig *r, uint32_t node, enum rig_what what, uint32_t n);
int rig_lane_run(const struct rig_record *record, uint32_t count, uint32_t node, enum lane lane,
                 uint32_t first);
void rig_assert_lane(const struct rig *r, uint32_t node, enum lane lane, int expected);

#endif
