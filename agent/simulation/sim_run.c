/* The run loop of a simulated experiment.
 *
 * Normal course
 *  - data, split and model are opened once; every simulated node trains on its rows of the one data set.
 *  - events are delivered up to the next report; there the result so far is evaluated and the owner called.
 *  - for a walking model `steps` counts all nodes together (steps times nodes): only the node that has the
 *    model trains, and where it goes is chance.
 * Failure courses
 *  - data, topology or algorithm do not fit: sim_run_open says so, nothing is left open.
 *  - --faults: between events, at the times of the scenario; its file does not fit: as data that do not.
 *  - a node fails (training diverged): ERR_LIMIT with the node's reason.
 *  - Ctrl-C: the run ends at the next event, stopped by "interrupt". */
#include "agent/simulation/sim_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/files/interrupt.h"
#include "agent/report/progress.h"
#include "base/check.h"

#define EVENTS_BETWEEN_LOOKS 256u /* at the wall clock and the walking model's steps */

double sim_run_wall_s(const struct sim_run *r)
{
    return wall_clock_s() - r->began_s;
}

double sim_run_virtual_s(const struct sim_run *r)
{
    return (double)simulation_now_us(r->simulation) * 1e-6;
}

bool sim_run_target_asked(const struct config *c)
{
    return !isnan(c->target_loss) || !isnan(c->target_accuracy);
}

bool sim_run_steps_are_shared(const struct config *c)
{
    return c->algorithm->eval == ALGO_EVAL_NEWEST;
}

/* -- opening ----------------------------------------------------------------------------------- */

static int make_trainer(void *ctx, uint32_t v, struct trainer **out, struct err_text *why)
{
    (void)why;
    const struct sim_run *r = ctx;
    const struct split *split = &r->experiment.split;
    *out = local_trainer_new(&r->experiment, &r->data, split->row + split->offset[v], split_size(split, v),
                             "node", v);
    return 0;
}

static int make_cluster(struct sim_run *r, struct err_text *why)
{
    const struct config *c = r->config;
    bool overlay = strcmp(c->topology.spec->name, "overlay") == 0;
    struct simulation_setup setup = {
        .dynamic = overlay, /* its members find each other */
        .overlay = overlay,
        .node_count = c->nodes,
        .algo = c->algorithm,
        .algo_params = &c->algorithm_params,
        .compress = &c->compress,
        .tensor = r->experiment.tensor,
        .tensor_count = r->experiment.tensor_count,
        .topology = &c->topology,
        .latency = &c->latency,
        .step_time = &c->step_time,
        .speeds = &c->speeds,
        .seed = c->seed,
        .dim = r->experiment.dim,
        .x0 = r->experiment.x0,
        .weight = r->experiment.weight,
        .site = r->experiment.site,
        .steps_max = sim_run_steps_are_shared(c) ? 0 : c->steps,
        .patience_us = (uint64_t)(c->patience_s * 1e6),
        .bandwidth_bytes_s = c->bandwidth,
        .trainer_new = make_trainer,
        .ctx = r,
    };
    int err = simulation_new(&setup, &r->simulation, why);
    if (err != 0) r->simulation = NULL;
    return err;
}

int sim_run_open(const struct config *config, struct sim_run *out, struct err_text *why)
{
    *out = (struct sim_run){
        .config = config,
        .loss = (double)NAN,
        .accuracy = (double)NAN,
        .began_s = wall_clock_s(),
    };
    int err = experiment_open(config, &vec_ref, &out->experiment, why);
    if (err != 0) return err;
    out->x = mem_new_zero(out->experiment.dim, sizeof *out->x);
    err = experiment_load_all(&out->experiment, &out->data, why);
    if (err == 0 && config->faults != NULL)
        err = sim_faults_open(config->faults, config->nodes, &out->faults, why);
    if (err == 0) err = make_cluster(out, why);
    if (err != 0) sim_run_close(out);
    return err;
}

void sim_run_close(struct sim_run *r)
{
    sim_faults_close(r->faults);
    simulation_free(r->simulation);
    dataset_deinit(&r->data);
    experiment_close(&r->experiment);
    free(r->x);
    *r = (struct sim_run){0};
}

/* -- running ----------------------------------------------------------------------------------- */

static bool target_met(const struct sim_run *r)
{
    const struct config *c = r->config;
    return sim_run_target_asked(c) && (isnan(c->target_loss) || r->loss <= c->target_loss) &&
           (isnan(c->target_accuracy) || r->accuracy >= c->target_accuracy);
}

int sim_run_evaluate(struct sim_run *r, struct err_text *why)
{
    simulation_model(r->simulation, r->x);
    simulation_fold(r->simulation, r->x);
    int err = experiment_evaluate(&r->experiment, r->x, &r->loss, &r->accuracy, why);
    if (err == 0) r->reached = target_met(r);
    return err;
}

/* What is looked at now and then only. */
static void look_around(struct sim_run *r)
{
    const struct config *c = r->config;
    if (c->time_s > 0 && sim_run_wall_s(r) >= c->time_s) r->stopped_by = "time";
    if (c->steps > 0 && sim_run_steps_are_shared(c)) {
        struct simulation_totals t;
        simulation_totals(r->simulation, &t);
        if (t.algo.steps >= c->steps * c->nodes) r->stopped_by = "steps";
    }
    if (r->on_look != NULL) r->on_look(r->ctx);
}

/* Events up to limit_us. Sets stopped_by when the run is over before. */
static int run_until(struct sim_run *r, uint64_t limit_us, struct err_text *why)
{
    const struct config *c = r->config;
    bool counted = c->steps > 0 && !sim_run_steps_are_shared(c);
    for (uint32_t events = 1; simulation_step(r->simulation, limit_us); events++) {
        if (interrupted()) {
            r->stopped_by = "interrupt";
        } else if (counted && simulation_finished(r->simulation)) {
            r->stopped_by = "steps";
        } else if (events % EVENTS_BETWEEN_LOOKS == 0) {
            look_around(r);
        }
        if (r->stopped_by != NULL) return 0;
    }
    const char *failure = simulation_failure(r->simulation);
    if (failure[0] != '\0') return err_set(why, ERR_LIMIT, "%s", failure);
    look_around(r);
    if (interrupted()) r->stopped_by = "interrupt";
    return 0;
}

static int report(struct sim_run *r, struct err_text *why)
{
    int err = sim_run_evaluate(r, why);
    if (err == 0 && r->on_report != NULL) r->on_report(r->ctx);
    return err;
}

/* Events up to limit_us, with the faults that are due before. */
static int run_with_faults(struct sim_run *r, uint64_t limit_us, struct err_text *why)
{
    int err = 0;
    while (r->faults != NULL && err == 0 && r->stopped_by == NULL) {
        uint64_t at_us = sim_faults_next_us(r->faults);
        if (at_us > limit_us) break;
        err = run_until(r, at_us, why);
        if (err == 0 && r->stopped_by == NULL) err = sim_faults_advance(r->faults, why);
    }
    return err == 0 && r->stopped_by == NULL ? run_until(r, limit_us, why) : err;
}

int sim_run_to_the_end(struct sim_run *r, struct err_text *why)
{
    const struct config *c = r->config;
    uint64_t interval_us = (uint64_t)(c->report_every_s * 1e6);
    if (interval_us == 0) interval_us = 1;
    uint64_t end_us = c->virtual_time_s > 0 ? (uint64_t)(c->virtual_time_s * 1e6) : TIME_NEVER - 1;
    uint64_t next_us = interval_us;
    int err = 0;
    if (r->faults != NULL) sim_faults_begin(r->faults, r->simulation, r->faults_log, r->on_fault, r->ctx);
    while (r->stopped_by == NULL && err == 0) {
        uint64_t limit_us = next_us < end_us ? next_us : end_us;
        err = run_with_faults(r, limit_us, why);
        if (err != 0 || r->stopped_by != NULL) break;
        err = report(r, why);
        if (r->reached)
            r->stopped_by = "target";
        else if (limit_us == end_us)
            r->stopped_by = "time";
        next_us += interval_us;
    }
    if (r->faults != NULL) sim_faults_finish(r->faults);
    return err;
}
