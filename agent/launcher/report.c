/* Sums over all agents, the progress line, memory, and what was lost. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "agent/launcher/internal.h"
#include "base/check.h"

/* Longer than any method takes to go on without a dead node. */
#define STANDSTILL_MIN_S 10.0
#define STANDSTILL_PATIENCES 10.0

bool launcher_newest_counts(const struct config *c)
{
    return c->algorithm->eval == ALGO_EVAL_NEWEST;
}

bool launcher_target_met(const struct config *c, double loss, double accuracy)
{
    if (isnan(c->target_loss) && isnan(c->target_accuracy)) return false;
    return (isnan(c->target_loss) || loss <= c->target_loss) &&
           (isnan(c->target_accuracy) || accuracy >= c->target_accuracy);
}

static void sum_newest(const struct child *c, const struct child **newest, struct launcher_sums *out)
{
    if (*newest != NULL && c->last.version <= (*newest)->last.version) return;
    *newest = c;
    out->loss = c->loss;
    out->accuracy = c->last.accuracy;
}

void launcher_sum(const struct launcher *l, struct launcher_sums *out)
{
    *out = (struct launcher_sums){0};
    const struct child *newest = NULL;
    for (uint32_t v = 0; v < l->config->nodes; v++) {
        const struct child *c = &l->child[v];
        out->steps += c->steps;
        if (c->last.node == RANK_NONE) {
            out->alive += child_alive(c);
            continue;
        }
        out->bytes_sent += c->last.bytes_sent;
        if (!child_alive(c)) continue;
        out->alive++;
        out->links += c->last.links;
        if (isnan(c->loss)) continue;
        out->evaluated++;
        if (launcher_newest_counts(l->config)) {
            sum_newest(c, &newest, out);
        } else {
            out->loss += c->loss;
            out->accuracy += c->last.accuracy;
        }
    }
    double share = out->evaluated > 0 ? 1.0 / out->evaluated : (double)NAN;
    if (launcher_newest_counts(l->config) && newest != NULL) share = 1;
    out->loss *= share;
    out->accuracy *= share;
}

void launcher_show(struct launcher *l)
{
    struct launcher_sums s;
    launcher_sum(l, &s);
    uint32_t nodes = l->config->nodes;
    if (l->stage == STAGE_STARTING) {
        uint32_t ranked = 0;
        for (uint32_t v = 0; v < nodes; v++) ranked += l->child[v].phase >= CHILD_RANKED;
        progress_show(l->progress, "starting: %" PRIu32 " of %" PRIu32 " agents are ready", ranked, nodes);
        return;
    }
    char result[96] = "";
    if (!isnan(s.loss)) snprintf(result, sizeof result, "  loss %.4g", s.loss);
    size_t used = strlen(result);
    if (!isnan(s.accuracy))
        snprintf(result + used, sizeof result - used, "  accuracy %.2f %%", 100 * s.accuracy);
    char lost[48] = "";
    if (s.alive < nodes) snprintf(lost, sizeof lost, "  %" PRIu32 " of %" PRIu32 " agents", s.alive, nodes);
    progress_show(l->progress,
                  "%.0f s  %" PRIu64 " steps per node (%" PRIu64 ")%s  %" PRIu32 " links  %.1f MB sent%s",
                  wall_clock_s() - l->began_s, s.steps / nodes, s.steps, result, s.links / 2,
                  (double)s.bytes_sent * 1e-6, lost);
}

void launcher_watch(struct launcher *l)
{
    struct launcher_sums s;
    launcher_sum(l, &s);
    double now_s = wall_clock_s(),
           limit_s = fmax(STANDSTILL_MIN_S, STANDSTILL_PATIENCES * l->config->patience_s);
    if (l->stage != STAGE_TRAINING) return;
    if (s.steps != l->standstill.steps || l->standstill.since_s <= 0) {
        l->standstill.steps = s.steps;
        l->standstill.since_s = now_s;
        l->standstill.told = false;
    } else if (!l->standstill.told && now_s - l->standstill.since_s >= limit_s) {
        l->standstill.told = true;
        progress_note(l->progress,
                      "nobody has made a step for %.0f s, %" PRIu32 " of %" PRIu32
                      " agents are left; Ctrl-C ends the run and keeps the model",
                      limit_s, s.alive, l->config->nodes);
    }
}

void launcher_sample_memory(struct launcher *l)
{
    for (uint32_t v = 0; v < l->config->nodes; v++) {
        uint64_t bytes = child_memory(&l->child[v]);
        if (bytes > l->result->memory_max) l->result->memory_max = bytes;
    }
}

void launcher_note_lost(struct launcher *l, const struct child *c)
{
    struct launcher_result *r = l->result;
    char how[ERR_TEXT_MAX];
    child_how(c, how, sizeof how);
    r->lost = mem_resize(r->lost, r->lost_count + 1, sizeof *r->lost);
    r->lost[r->lost_count++] = (struct lost_node){
        .node = c->rank,
        .how = mem_copy_text(how),
        .time_s = wall_clock_s() - l->began_s,
        .steps = c->steps,
        .steps_handed_over = c->steps_handed_over,
    };
    r->node[c->rank].lost = true;
    if (l->failure.text[0] != '\0') return; /* one line is enough */
    progress_note(l->progress,
                  "agent %" PRIu32 " is lost: %s; it had told of %" PRIu64 " steps; %" PRIu32 " go on",
                  c->rank, how, c->steps, l->alive);
}
