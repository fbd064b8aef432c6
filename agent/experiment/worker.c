/* Training and evaluation on the compute thread.
 *
 * Normal course
 *  - the rows of a place are loaded by the compute thread too: worker_load is that as a job.
 *  - the trainer given to the node runs the local trainer until JOB_US have passed: what a peer sent is mixed
 *    in soon, however many steps the algorithm asked for.
 *  - with a pace, a job is one step and ends when that step is due.
 *  - a request moves IDLE -> ASKED (loop) -> ANSWERED (compute thread) -> IDLE (loop). Only the side whose
 *    turn it is touches the result.
 *  - the trainer's state is copied by the loop when no job is in the trainer, else by the thread at the end of the
 *    job: the lock is held for a copy, never for a job.
 *  - frozen, the thread holds the job that it has done: an algorithm that waits for TRAINED asks for nothing.
 *  - stopped, it waits for nothing any more: neither the pace nor a frozen job holds up the end.
 * Failure courses
 *  - evaluation fails (it cannot once the sample is loaded): the answer is NAN. */
#include "agent/experiment/worker.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "algo/vec.h"
#include "base/check.h"

#define JOB_US 5000u
#define WAIT_MAX_US 1e15
#define SAMPLE_MIN 20u
#define SAMPLE_WORK_MAX 200000000u /* rows times parameters of one evaluation: some 20 ms */

enum request { REQUEST_IDLE, REQUEST_ASKED, REQUEST_ANSWERED };

struct worker {
    struct trainer timed; /* what the node sees */
    struct job evaluation;
    struct experiment *experiment; /* borrowed */
    struct dataset shard;
    struct trainer *local; /* owned: does the steps */
    uint64_t end_us;       /* of the running job */
    double pace;           /* steps per second at most; 0 = no limit */
    uint64_t due_us;       /* when the steps done so far are due at that pace */
    float *copy;           /* (dim) model being evaluated by a job of its own; NULL = none */
    atomic_int request;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    bool frozen, stopping;
    bool in_trainer;          /* a job is: nobody else may touch `local` */
    enum request state_asked; /* for the trainer's state */
    struct blob *state;       /* REQUEST_ANSWERED: owned, NULL = it has none */
    double loss, accuracy;
};

/* -- data -------------------------------------------------------------------------------------- */

static uint32_t sample_size(const struct experiment *e, uint32_t rows)
{
    uint64_t size = SAMPLE_WORK_MAX / e->dim;
    if (size < SAMPLE_MIN) size = SAMPLE_MIN;
    if (size > WORKER_SAMPLE_MAX) size = WORKER_SAMPLE_MAX;
    return size < rows ? (uint32_t)size : rows;
}

int worker_load_sample(struct experiment *e, struct err_text *why)
{
    CHECK(e->test.rows == 0);
    bool held_out = e->info.test_rows > 0;
    uint32_t rows = held_out ? e->info.test_rows : e->info.rows;
    uint32_t count = sample_size(e, rows);
    uint32_t *index = mem_new(count, sizeof *index);
    for (uint32_t i = 0; i < count; i++)
        index[i] = (uint32_t)((uint64_t)i * rows / count); /* evenly spread */
    int err = dataset_load(e->source, held_out ? DATASET_TEST : DATASET_TRAIN, index, count, &e->test, why);
    if (err != 0) e->test = (struct dataset){0};
    free(index);
    return err;
}

/* -- jobs -------------------------------------------------------------------------------------- */

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static bool time_is_over(void *ctx)
{
    const struct worker *w = ctx;
    return now_us() >= w->end_us;
}

uint64_t worker_pace_due_us(uint64_t due_us, uint64_t at_us, uint32_t steps, double pace)
{
    double wait_us = steps * 1e6 / pace;
    due_us += (uint64_t)(wait_us < WAIT_MAX_US ? wait_us : WAIT_MAX_US); /* a pace may be as good as 0 */
    return due_us + WORKER_PACE_DEBT_US < at_us ? at_us : due_us;
}

static void wait_until_due(struct worker *w)
{
    struct timespec until = {.tv_sec = (time_t)(w->due_us / 1000000u),
                             .tv_nsec = (long)(w->due_us % 1000000u) * 1000};
    while (!w->stopping && now_us() < w->due_us) (void)pthread_cond_timedwait(&w->changed, &w->lock, &until);
}

/* Holds the job that is done until its steps fit the pace and nobody wants it frozen, or until the end. */
static void hold(struct worker *w, uint32_t steps)
{
    pthread_mutex_lock(&w->lock);
    if (w->pace > 0) {
        w->due_us = worker_pace_due_us(w->due_us, now_us(), steps, w->pace);
        wait_until_due(w);
    }
    while (w->frozen && !w->stopping) pthread_cond_wait(&w->changed, &w->lock);
    pthread_mutex_unlock(&w->lock);
}

/* The lock is held, and no job is in the trainer. */
static void copy_state(struct worker *w)
{
    w->state = w->local->save != NULL ? w->local->save(w->local) : NULL;
    w->state_asked = REQUEST_ANSWERED;
}

static void enter_trainer(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    w->in_trainer = true;
    pthread_mutex_unlock(&w->lock);
}

static void leave_trainer(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    w->in_trainer = false;
    if (w->state_asked == REQUEST_ASKED) copy_state(w);
    pthread_mutex_unlock(&w->lock);
}

static void evaluate(struct worker *w, const float *x)
{
    if (experiment_evaluate(w->experiment, x, &w->loss, &w->accuracy, NULL) != 0)
        w->loss = w->accuracy = (double)NAN;
    atomic_store_explicit(&w->request, REQUEST_ANSWERED, memory_order_release);
}

static struct worker *worker_of(struct trainer *timed)
{
    return (struct worker *)timed; /* timed is the first field */
}

static uint32_t timed_run(struct trainer *timed, const float *x, uint32_t max_steps, float *delta,
                          double *loss_mean)
{
    struct worker *w = worker_of(timed);
    if (atomic_load_explicit(&w->request, memory_order_acquire) == REQUEST_ASKED) evaluate(w, x);
    w->end_us = now_us() + JOB_US;
    enter_trainer(w);
    uint32_t steps = w->local->run(w->local, x, w->pace > 0 ? 1 : max_steps, delta, loss_mean);
    leave_trainer(w);
    hold(w, steps);
    (void)sched_yield(); /* on a crowded machine: short turns for all, not long ones in which nobody mixes */
    return steps;
}

static void timed_free(struct trainer *timed)
{
    (void)timed; /* worker_free does it */
}

static void evaluation_run(struct job *j)
{
    struct worker *w = (struct worker *)((char *)j - offsetof(struct worker, evaluation));
    evaluate(w, w->copy);
    j->cost = 0;
}

/* -- making ------------------------------------------------------------------------------------ */

/* The wait of a pace is by the clock of its due times, which nobody sets. */
static void init_lock(struct worker *w)
{
    pthread_condattr_t clock;
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &clock);
    pthread_condattr_destroy(&clock);
}

int worker_new(struct experiment *e, rank_t rank, struct worker **out, struct err_text *why)
{
    struct worker *w = mem_new_zero(1, sizeof *w);
    w->experiment = e;
    w->pace = e->config->pace;
    int err = experiment_load_shard(e, rank, &w->shard, why);
    if (err != 0) {
        free(w);
        return err;
    }
    w->local = local_trainer_new(e, &w->shard, NULL, 0, "node", rank);
    w->local->stop = time_is_over;
    w->local->stop_ctx = w;
    w->timed.run = timed_run;
    w->timed.free = timed_free;
    w->evaluation.run = evaluation_run;
    atomic_init(&w->request, REQUEST_IDLE);
    init_lock(w);
    *out = w;
    return 0;
}

void worker_free(struct worker *w)
{
    if (w == NULL) return;
    w->local->free(w->local);
    blob_unref(w->state);
    dataset_deinit(&w->shard);
    free(w->copy);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

/* -- loading as a job -------------------------------------------------------------------------- */

struct worker_load {
    struct job base; /* first: the host's pointer is ours */
    struct experiment *experiment;
    rank_t rank;
    struct worker *worker; /* owned; NULL before the end, and after an error */
    int err;
    struct err_text why;
};

static void load_run(struct job *j)
{
    struct worker_load *l = (struct worker_load *)j;
    l->err = worker_new(l->experiment, l->rank, &l->worker, &l->why);
    j->cost = 0;
}

struct worker_load *worker_load_new(struct experiment *e, rank_t rank)
{
    struct worker_load *l = mem_new_zero(1, sizeof *l);
    l->base.run = load_run;
    l->experiment = e;
    l->rank = rank;
    l->err = ERR_NOT_FOUND;
    return l;
}

struct job *worker_load_job(struct worker_load *l)
{
    return &l->base;
}

int worker_load_end(struct worker_load *l, struct worker **out, struct err_text *why)
{
    int err = l->err;
    if (err != 0) *why = l->why;
    if (err == 0 && out != NULL)
        *out = l->worker;
    else
        worker_free(l->worker);
    free(l);
    return err;
}

/* -- the loop's side --------------------------------------------------------------------------- */

void worker_freeze(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    w->frozen = true;
    pthread_mutex_unlock(&w->lock);
}

void worker_stop(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    w->stopping = true;
    pthread_cond_signal(&w->changed); /* only the compute thread waits */
    pthread_mutex_unlock(&w->lock);
}

struct trainer *worker_trainer(struct worker *w)
{
    return &w->timed;
}

void worker_ask_state(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    if (w->state_asked == REQUEST_IDLE) {
        w->state_asked = REQUEST_ASKED;
        if (!w->in_trainer) copy_state(w);
    }
    pthread_mutex_unlock(&w->lock);
}

bool worker_take_state(struct worker *w, struct blob **state)
{
    pthread_mutex_lock(&w->lock);
    bool answered = w->state_asked == REQUEST_ANSWERED;
    if (answered) {
        *state = w->state;
        w->state = NULL;
        w->state_asked = REQUEST_IDLE;
    }
    pthread_mutex_unlock(&w->lock);
    return answered;
}

int worker_restore(struct worker *w, const struct blob *state)
{
    if (w->local->restore == NULL) return ERR_FORMAT;
    return w->local->restore(w->local, state->data, state->size);
}

void worker_ask(struct worker *w)
{
    int idle = REQUEST_IDLE;
    atomic_compare_exchange_strong(&w->request, &idle, REQUEST_ASKED);
}

bool worker_answer(struct worker *w, double *loss, double *accuracy)
{
    if (atomic_load_explicit(&w->request, memory_order_acquire) != REQUEST_ANSWERED) return false;
    *loss = w->loss;
    *accuracy = w->accuracy;
    atomic_store(&w->request, REQUEST_IDLE);
    return true;
}

struct job *worker_evaluation(struct worker *w, const float *x)
{
    if (w->copy != NULL || atomic_load(&w->request) == REQUEST_ANSWERED) return NULL;
    size_t dim = w->experiment->dim;
    w->copy = mem_new(dim, sizeof *w->copy);
    vec_copy(dim, x, w->copy);
    atomic_store(&w->request, REQUEST_ASKED);
    return &w->evaluation;
}

bool worker_job_done(struct worker *w, const struct job *j)
{
    if (j != &w->evaluation) return false;
    free(w->copy);
    w->copy = NULL;
    return true;
}
