/* Runs n instances of one algorithm over a graph in one process, in virtual time: no network code, no
 * threads, no clock. Everything is a function of the arguments and the seed.
 *
 * What it promises to the algorithm is what agent/node/node.c promises:
 *  - START first; PEER_UP and PEER_DOWN alternate per neighbour, starting with PEER_UP.
 *  - Messages with a vector (bulk) arrive in order per ordered pair, messages without (control) likewise;
 *    a control message may overtake a bulk one, never the reverse.
 *  - When a link goes down, everything in flight on it is lost. Each end hears of it after a delay of its
 *    own, drawn like a message's; what it sends until then is lost as well.
 *  - A deadline comes at its time or, if that has passed, at once.
 * What it demands (CHECK): messages go to neighbours only and keep to the limits, a vec has dim floats,
 * one TRAIN at a time, step() returns 0 for what the harness itself delivers, a deadline that came makes
 * progress.
 *
 * The algorithm starts at the first call that runs or disturbs it, so settings come before that. */
#ifndef GADABOUT_TESTS_UNIT_ALGO_HARNESS_H
#define GADABOUT_TESTS_UNIT_ALGO_HARNESS_H

#include <stdbool.h>
#include <stdio.h>

#include "algo/step.h"

struct harness;

/* Trains: writes delta (dim, zeroed before the call), returns the number of steps, 1..max_steps. */
typedef uint32_t (*harness_train_fn)(void *ctx, rank_t rank, const float *x, uint32_t max_steps,
                                     float *delta);

/* Called after each event an instance has taken (and after its actions went out). */
typedef void (*harness_hook_fn)(void *ctx, struct harness *h, rank_t rank, const struct algo_event *event);

/* params_text is the whole choice ("gossip:mode=sync"). graph is borrowed for life, weight (node_count;
 * NULL = all equal) and x0 (dim) are copied. Aborts when the type refuses the parameters: tests of
 * create() call it themselves. Returns owned. */
struct harness *harness_new(const struct algo_type *type, const char *params_text, const struct graph *graph,
                            const double *weight, size_t dim, const float *x0, uint64_t seed,
                            uint64_t patience_us);
void harness_free(struct harness *h); /* NULL is allowed */

/* -- settings ---------------------------------------------------------------------------------- */

void harness_set_delay(struct harness *h, uint64_t low_us, uint64_t high_us); /* per message; 1..10 ms */
void harness_set_step_time(struct harness *h, rank_t r, uint64_t step_us);    /* RANK_NONE = all; 5 ms */
void harness_set_job_steps(struct harness *h, uint32_t steps_max); /* counting trainer stops early */
/* Default: the counting trainer adds 1 to coordinate (rank % dim) per step. */
void harness_set_trainer(struct harness *h, harness_train_fn train, void *ctx);
void harness_set_compress(struct harness *h, const char *text); /* as --compress; before the start; none */
void harness_set_site(struct harness *h,
                      const uint32_t *site); /* algo_config.site, borrowed; before the start */
void harness_set_tensors(struct harness *h, const struct tensor *tensor,
                         uint32_t count); /* borrowed for life */
void harness_set_hook(struct harness *h, harness_hook_fn hook, void *ctx);
void harness_set_trace(struct harness *h, FILE *out); /* a line per event and send; NULL = none */

/* -- running ----------------------------------------------------------------------------------- */

void harness_run_until(struct harness *h, uint64_t time_us);
/* Runs until no message is in flight, at most until limit_us. Returns whether that was reached. */
bool harness_run_until_quiet(struct harness *h, uint64_t limit_us);
uint64_t harness_now(const struct harness *h);

/* Jobs that would end from now on are kept back / delivered after all. */
void harness_stop_training(struct harness *h);
void harness_resume_training(struct harness *h);

/* -- disturbances ------------------------------------------------------------------------------ */

void harness_link_down(struct harness *h, rank_t a, rank_t b); /* stays down until link_up; no-op if down */
void harness_link_up(struct harness *h, rank_t a, rank_t b);
void harness_crash(struct harness *h, rank_t r); /* state, job and messages to it are gone */
void harness_restart(struct harness *h, rank_t r, bool rejoining); /* fresh state, new boot, links come up */
/* Likewise, with a model (dim) of its own, fetched or kept, instead of the common start. */
void harness_restart_at(struct harness *h, rank_t r, bool rejoining, const float *x);
/* What an instance has on disk: its model and its method's state (algo/state.h), of one moment. A durable message
 * leaves with such a save. The next save replaces it. */
void harness_save(struct harness *h, rank_t r, bool last);                 /* last: a crash follows at once */
void harness_forget_state(struct harness *h, rank_t r);                    /* ... but the model */
void harness_restart_saved(struct harness *h, rank_t r, bool rejoining);   /* from what was saved (checked) */
const struct blob *harness_saved_state(const struct harness *h, rank_t r); /* borrowed; NULL = none */
void harness_pause(struct harness *h, rank_t r); /* a stopped process: its events wait, its links stay up */
void harness_unpause(struct harness *h, rank_t r);
/* The next message of this kind from a to b never arrives (a fault the transport does not allow). */
void harness_drop_next(struct harness *h, rank_t a, rank_t b, uint8_t kind);

/* Gives an instance an event at the present time / a message from a neighbour, as a lying peer or a
 * spurious timer would. Returns what step() returned; after an error the actions must be empty. */
int harness_event(struct harness *h, rank_t r, const struct algo_event *event);
int harness_inject(struct harness *h, rank_t from, rank_t to, const struct algo_msg *msg);

/* -- looking ----------------------------------------------------------------------------------- */

const float *harness_model(const struct harness *h, rank_t r); /* (dim) borrowed; NULL while crashed */
struct algo *harness_algo(const struct harness *h, rank_t r);  /* borrowed; NULL while crashed */
void harness_report(const struct harness *h, rank_t r, struct algo_report *out); /* zeros while crashed */
uint64_t harness_sent(const struct harness *h, uint8_t kind); /* messages handed over by algorithms so far */
uint64_t harness_sent_vectors(const struct harness *h);
uint64_t harness_lost(const struct harness *h); /* of these: lost with a link, a crash or a drop */
uint64_t harness_in_flight(const struct harness *h);
uint64_t harness_steps(const struct harness *h, rank_t r); /* local steps delivered by TRAINED, all boots */
/* Changes with every event and send in order, time and content: equal runs have equal values. */
uint64_t harness_trace_hash(const struct harness *h);

#endif
