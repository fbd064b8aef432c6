/* When an agent's checkpoints are written, and what is said of errors. No clock, thread or loop here: the owner asks
 * whether one is due, gives it, has it written on some thread, and tells when that has ended. */
#ifndef GADABOUT_AGENT_STATE_SAVER_H
#define GADABOUT_AGENT_STATE_SAVER_H

#include <stdbool.h>

#include "agent/state/checkpoint.h"
#include "base/trace.h"

#define SAVER_RETRY_MIN_US 1000000u

struct saver {
    struct state_dir *dir;     /* borrowed */
    const struct trace *trace; /* borrowed */
    uint64_t every_us, due_us;
    uint64_t wait_us;       /* until the next attempt after an error; 0 = the last one went well */
    bool ok;                /* no save has failed since the last one that went well */
    uint64_t generation;    /* the last one that is durable; 0 = none in this life */
    uint64_t failed;        /* saves that failed */
    bool writing;           /* between begin and end: the thread's is what follows */
    struct checkpoint save; /* owned */
    int err;
    struct err_text why;
};

/* The first save is due after every_us. */
void saver_init(struct saver *s, struct state_dir *dir, uint64_t every_us, uint64_t now_us,
                const struct trace *trace);
void saver_deinit(struct saver *s); /* not while writing */

bool saver_is_due(const struct saver *s, uint64_t now_us); /* and nothing is being written */
void saver_put_off(struct saver *s, uint64_t now_us);      /* there was nothing to save */

/* Takes c. */
void saver_begin(struct saver *s, struct checkpoint *c);

/* Blocks for the disk; touches nothing that the loop touches meanwhile. Between begin and end, once, on any thread. */
void saver_write(struct saver *s);

/* On the owner's thread after saver_write has returned. An error is told once, and once that it is over; the next
 * attempt follows after 1 s, then after twice as long each time, at most every_us (or 1 s). */
void saver_end(struct saver *s, uint64_t now_us);

#endif
