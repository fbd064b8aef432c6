/* The rows of the place that the node has claimed, and with them its trainer.
 *
 * Normal course
 *  - the node asks whether we are ready for a place: the compute thread begins to load its rows, while the loop
 *    answers peers as ever. When they are there the node is told to look again, and takes the trainer.
 *  - an agent of `up` has loaded before it listens: nobody waits for it yet.
 *  - the node gets another place: the former rows are kept until those of the new one are there, so that what was
 *    learnt can still be saved.
 * Failure courses
 *  - the rows cannot be read: on_ranked says so, and the node stops with that.
 *  - the host is busy (with an evaluation): loading begins when that is done.
 *  - the node has claimed another place meanwhile: what was loaded is dropped, and the right rows follow.
 *  - the agent is stopped while it loads: the end waits for the thread, and what came is dropped.
 *  - after its last step a node trains no more: it mixes in any place with the rows that it has. */
#include <math.h>
#include <string.h>

#include "agent/daemon/daemon.h"
#include "base/check.h"

static bool has_rows(const struct agent *a, rank_t rank)
{
    return a->worker != NULL && (a->place == rank || a->finished);
}

static void drop_load(struct agent *a)
{
    if (a->load == NULL) return;
    worker_load_end(a->load, NULL, &(struct err_text){""});
    a->load = NULL;
    a->loaded = false;
}

bool agent_place_ready(void *ctx, rank_t rank)
{
    struct agent *a = ctx;
    if (a->config->launched || has_rows(a, rank)) return true;
    if (a->loaded && a->load_place != rank) drop_load(a);
    if (a->load != NULL) return a->loaded;
    struct worker_load *load = worker_load_new(&a->experiment, rank);
    if (a->host->ops->start_job(a->host, worker_load_job(load)) != 0) {
        worker_load_end(load, NULL, &(struct err_text){""});
        return false;
    }
    a->load = load;
    a->load_place = rank;
    return false;
}

bool agent_place_job_done(struct agent *a, const struct job *j)
{
    if (a->load == NULL || j != worker_load_job(a->load)) return false;
    a->loaded = true;
    return true;
}

void agent_place_close(struct agent *a)
{
    drop_load(a);
}

static int take_rows(struct agent *a, rank_t rank, struct err_text *why)
{
    if (has_rows(a, rank)) return 0;
    CHECK(a->loaded && a->load_place == rank); /* agent_place_ready has said so */
    struct worker *worker = NULL;
    int err = worker_load_end(a->load, &worker, why);
    a->load = NULL;
    a->loaded = false;
    if (err != 0) return err;
    worker_free(a->worker);
    a->worker = worker;
    agent_state_restore_trainer(a);
    return 0;
}

int agent_place_take(void *ctx, rank_t rank, struct trainer **trainer, double *weight, struct err_text *why)
{
    struct agent *a = ctx;
    if (a->config->launched && rank != a->config->id) /* `up` numbers its agents by rank */
        return err_set(why, ERR_CLUSTER, "another agent has the place of agent %llu",
                       (unsigned long long)a->config->id);
    int err = take_rows(a, rank, why);
    if (err != 0) return err;
    a->place = rank;
    *trainer = worker_trainer(a->worker);
    memcpy(weight, a->experiment.weight, a->config->nodes * sizeof *weight);
    agent_loop_ranked(a);
    agent_say_ranked(a, rank);
    return 0;
}
