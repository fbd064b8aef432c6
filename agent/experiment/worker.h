/* The work of an agent's compute thread: training on the node's shard in short jobs, and now and then the
 * evaluation of the node's own model on a sample of the held-out rows. Only that thread does arithmetic on
 * models, so the loop is never held up and OpenBLAS is never called by two threads at once.
 *
 * Memory: the rows of one rank and at most WORKER_SAMPLE_MAX rows to evaluate on. */
#ifndef GADABOUT_AGENT_EXPERIMENT_WORKER_H
#define GADABOUT_AGENT_EXPERIMENT_WORKER_H

#include <stdbool.h>

#include "agent/experiment/experiment.h"
#include "net/host.h"

#define WORKER_SAMPLE_MAX 500u

struct worker;

/* Loads the sample into e->test (experiment_evaluate then uses it). Errors: as dataset_load. */
int worker_load_sample(struct experiment *e, struct err_text *why);

/* Loads the shard of `rank`. e is borrowed for life; its evaluator is the worker's while a job may run.
 * Returns owned in *out; free it after the node that has its trainer. Errors: as dataset_load. */
int worker_new(struct experiment *e, rank_t rank, struct worker **out, struct err_text *why);
void worker_free(struct worker *w);

/* The same as a job, so that the loop goes on while the compute thread loads. Once the job is done, or was never
 * begun, worker_load_end frees the loading (takes l) and gives what worker_new would have given; out may be NULL:
 * what has come is freed. Errors: as dataset_load; ERR_NOT_FOUND when the job has not been done. */
struct worker_load;
struct worker_load *worker_load_new(struct experiment *e, rank_t rank); /* e as above; returns owned */
struct job *worker_load_job(struct worker_load *l);                     /* borrowed, for a host */
int worker_load_end(struct worker_load *l, struct worker **out, struct err_text *why);

/* The trainer, to be given to a node: a job ends after some milliseconds. Its free() ends nothing but the
 * node's use of it. */
struct trainer *worker_trainer(struct worker *w);

/* The training job that runs, or the next one, does not end until worker_stop: the node trains no more but
 * mixes on. */
void worker_freeze(struct worker *w);

/* From now on no job waits, neither for its pace nor while frozen. To be called before the host is closed,
 * which waits for the running job. */
void worker_stop(struct worker *w);

/* When `steps` more steps, done at at_us, are due at `pace` steps per second, if those before were due at
 * due_us. Time lost to a busy machine is made up for, but not what is more than the debt allowed: a node that
 * slept does not race afterwards. */
#define WORKER_PACE_DEBT_US 200000u
uint64_t worker_pace_due_us(uint64_t due_us, uint64_t at_us, uint32_t steps, double pace);

/* Asks for the trainer's state; it is copied as soon as no job is in the trainer. Nothing happens while an earlier
 * request is open. */
void worker_ask_state(struct worker *w);

/* True once after each request that was met: *state is the caller's, NULL for a trainer without state. */
bool worker_take_state(struct worker *w, struct blob **state);

/* Before the first job: the trainer goes on from what worker_take_state gave. Errors: ERR_FORMAT, nothing changed. */
int worker_restore(struct worker *w, const struct blob *state);

/* Asks for an evaluation: the next training job does it first, on the model that it starts from. Nothing
 * happens while an earlier request is open. */
void worker_ask(struct worker *w);

/* True once after each evaluation, with its result; accuracy is NAN for a model that does not classify. */
bool worker_answer(struct worker *w, double *loss, double *accuracy);

/* For a node that trains no more: the request as a job of its own on a copy of x. NULL while one is open.
 * The answer is there when the job is done; worker_job_done releases the copy. */
struct job *worker_evaluation(struct worker *w, const float *x);
bool worker_job_done(struct worker *w, const struct job *j); /* false: not a job of ours */

#endif
