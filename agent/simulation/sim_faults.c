/* Faults of a scenario in virtual time.
 *
 * Normal course
 *  - kill and restart are crashes whose links are reset, as a kernel does for a process that is gone; stop is a
 *    pause; link faults go to the nodes' transports, and their counters come back when they are healed.
 * Failure courses
 *  - a node is dead already, or still alive: nothing happens, and the fault has not met it.
 *  - a node cannot be started again: the run ends with its reason. */
#include "agent/simulation/sim_faults.h"

#include <stdlib.h>

#include "base/check.h"

struct sim_faults {
    struct scenario scenario;
    struct scenario_run *run;
    struct simulation *simulation;
    int *id; /* (id_count) by tag: the fault in the node's transport; 0 = none */
    uint32_t id_count;
    bool *paused;                /* (node_count) */
    struct fault_status *status; /* (FAULT_RULE_MAX) scratch */
    uint32_t node_count;
    void (*say)(void *ctx, const char *text);
    void *ctx;
    struct err_text failure;
};

/* -- what is done ------------------------------------------------------------------------------ */

static bool alive(const struct sim_faults *f, uint32_t v)
{
    return simulation_node(f->simulation, v) != NULL;
}

static bool do_kill(void *ctx, uint32_t v, bool comes_back)
{
    struct sim_faults *f = ctx;
    (void)comes_back;
    if (!alive(f, v)) return false;
    simulation_crash(f->simulation, v, true);
    f->paused[v] = false;
    return true;
}

static bool do_start(void *ctx, uint32_t v)
{
    struct sim_faults *f = ctx;
    if (alive(f, v) || f->failure.text[0] != '\0') return false;
    if (simulation_restart(f->simulation, v, &f->failure) != 0) return false;
    scenario_run_started(f->run, v);
    return true;
}

static bool do_stop(void *ctx, uint32_t v)
{
    struct sim_faults *f = ctx;
    if (!alive(f, v) || f->paused[v]) return false;
    f->paused[v] = true;
    sim_pause(simulation_world(f->simulation), v);
    return true;
}

static bool do_go_on(void *ctx, uint32_t v)
{
    struct sim_faults *f = ctx;
    if (!f->paused[v]) return false;
    f->paused[v] = false;
    sim_resume(simulation_world(f->simulation), v);
    return true;
}

static bool do_inject(void *ctx, uint32_t v, const struct fault_rule *rule, uint32_t tag)
{
    struct sim_faults *f = ctx;
    struct transport *t = simulation_transport(f->simulation, v);
    for (; f->id_count <= tag; f->id_count++) {
        f->id = mem_resize(f->id, f->id_count + 1, sizeof *f->id);
        f->id[f->id_count] = 0;
    }
    int id = t != NULL ? t->ops->inject(t, rule) : 0;
    f->id[tag] = id > 0 ? id : 0;
    return id > 0;
}

static bool do_heal(void *ctx, uint32_t v, uint32_t tag)
{
    struct sim_faults *f = ctx;
    struct transport *t = simulation_transport(f->simulation, v);
    int id = f->id[tag];
    if (t == NULL || id == 0) return false;
    t->ops->heal(t, id);
    uint32_t count = t->ops->faults(t, f->status, FAULT_RULE_MAX);
    for (uint32_t i = 0; i < count; i++) {
        if (f->status[i].id != id) continue;
        scenario_run_healed(f->run, tag, &f->status[i].counts);
        return true;
    }
    return false;
}

static void do_say(void *ctx, const char *text)
{
    const struct sim_faults *f = ctx;
    if (f->say != NULL) f->say(f->ctx, text);
}

/* -- the whole --------------------------------------------------------------------------------- */

int sim_faults_open(const char *path, uint32_t node_count, struct sim_faults **out, struct err_text *why)
{
    struct sim_faults *f = mem_new_zero(1, sizeof *f);
    int err = scenario_read(path, node_count, &f->scenario, why);
    if (err != 0) {
        free(f);
        return err;
    }
    f->node_count = node_count;
    f->paused = mem_new_zero(node_count, sizeof *f->paused);
    f->status = mem_new(FAULT_RULE_MAX, sizeof *f->status);
    *out = f;
    return 0;
}

void sim_faults_close(struct sim_faults *f)
{
    if (f == NULL) return;
    scenario_run_free(f->run);
    scenario_deinit(&f->scenario);
    free(f->id);
    free(f->paused);
    free(f->status);
    free(f);
}

void sim_faults_begin(struct sim_faults *f, struct simulation *s, FILE *log,
                      void (*say)(void *ctx, const char *text), void *ctx)
{
    CHECK(f->run == NULL);
    CHECK(simulation_node_count(s) == f->node_count);
    f->simulation = s;
    f->say = say;
    f->ctx = ctx;
    const struct scenario_ops ops = {.ctx = f,
                                     .kill = do_kill,
                                     .start = do_start,
                                     .stop = do_stop,
                                     .go_on = do_go_on,
                                     .inject = do_inject,
                                     .heal = do_heal,
                                     .say = do_say};
    f->run = scenario_run_new(&f->scenario, &ops, log);
}

uint64_t sim_faults_next_us(const struct sim_faults *f)
{
    return scenario_run_next_us(f->run);
}

int sim_faults_advance(struct sim_faults *f, struct err_text *why)
{
    scenario_run_advance(f->run, simulation_now_us(f->simulation));
    if (f->failure.text[0] == '\0') return 0;
    return err_set(why, ERR_LIMIT, "%s", f->failure.text);
}

void sim_faults_finish(struct sim_faults *f)
{
    scenario_run_finish(f->run, simulation_now_us(f->simulation));
    scenario_run_close(f->run);
}

void sim_faults_totals(const struct sim_faults *f, struct scenario_totals *out)
{
    scenario_run_totals(f->run, out);
}
