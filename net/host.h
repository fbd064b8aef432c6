/* The rest of the world, as a node sees it: a clock, one deadline, and one training job at a time.
 * Implemented by uv/host.c (monotonic clock, timer, a compute thread of its own) and sim/world.c (virtual
 * time; the job runs at once and its result is delivered after the time it is modelled to take). */
#ifndef GADABOUT_NET_HOST_H
#define GADABOUT_NET_HOST_H

#include <stdint.h>

/* A job: run() is called once, perhaps on another thread, and must touch nothing but the job. It sets
 * `cost`, in units of work (local steps), from which the simulator derives the time taken. */
struct job {
    void (*run)(struct job *j);
    uint32_t cost;
};

struct host;

struct host_ops {
    uint64_t (*now_us)(const struct host *h);             /* monotonic */
    void (*set_deadline)(struct host *h, uint64_t at_us); /* replaces the previous one; TIME_NEVER = none */
    /* Starts j, which stays the caller's but must not be touched until on_job_done. Returns 0 or ERR_BUSY
     * (one job at a time). */
    int (*start_job)(struct host *h, struct job *j);
};

struct host {
    const struct host_ops *ops;
};

/* Implemented by the owner (agent/node/node.c). Never called from inside a host op. */
struct host_sink {
    void *ctx;
    void (*on_deadline)(void *ctx);
    void (*on_job_done)(void *ctx, struct job *j);
};

#endif
