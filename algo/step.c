/* The list of actions an algorithm fills. Its memory is reused from step to step, so that a running node
 * allocates nothing here once the list has reached its usual length. */
#include "algo/step.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* Makes room for one more action and returns it, zeroed. */
static struct algo_action *action_append(struct algo_actions *acts, enum algo_action_kind kind)
{
    CHECK(acts->count <= acts->capacity);
    if (acts->count == acts->capacity) {
        acts->capacity = acts->capacity > 0 ? 2 * acts->capacity : 8;
        acts->item = mem_resize(acts->item, acts->capacity, sizeof *acts->item);
    }
    struct algo_action *action = &acts->item[acts->count++];
    memset(action, 0, sizeof *action);
    action->kind = kind;
    return action;
}

struct algo_msg *algo_send(struct algo_actions *acts, rank_t to, uint8_t kind)
{
    CHECK(to != RANK_NONE);
    struct algo_action *action = action_append(acts, ALGO_SEND);
    action->to = to;
    action->msg.kind = kind;
    return &action->msg;
}

void algo_send_durably(struct algo_actions *acts)
{
    CHECK(acts->count > 0 && acts->item[acts->count - 1].kind == ALGO_SEND);
    acts->item[acts->count - 1].durable = true;
}

void algo_train(struct algo_actions *acts, const float *x, uint32_t max_steps)
{
    CHECK(x != NULL);
    CHECK(max_steps > 0);
    struct algo_action *action = action_append(acts, ALGO_TRAIN);
    action->to = RANK_NONE;
    action->x = x;
    action->max_steps = max_steps;
}

void algo_actions_clear(struct algo_actions *acts)
{
    for (size_t i = 0; i < acts->count; i++) {
        blob_unref(acts->item[i].msg.vec);
        blob_unref(acts->item[i].msg.packed);
    }
    acts->count = 0;
}

void algo_actions_deinit(struct algo_actions *acts)
{
    algo_actions_clear(acts);
    free(acts->item);
    memset(acts, 0, sizeof *acts);
}

void algo_report_add(struct algo_report *sum, const struct algo_report *r)
{
    sum->steps += r->steps;
    sum->steps_handed_over += r->steps_handed_over;
    sum->model_transfers += r->model_transfers;
    sum->mixes += r->mixes;
    sum->tokens_regenerated += r->tokens_regenerated;
    sum->rebases += r->rebases;
    sum->duplicates_dropped += r->duplicates_dropped;
    sum->exchanges_torn += r->exchanges_torn;
    if (r->version > sum->version) sum->version = r->version;
    sum->rounds += r->rounds;
    sum->left_out += r->left_out;
    sum->terms += r->terms;
    sum->delay_sum += r->delay_sum;
    if (r->delay_max > sum->delay_max) sum->delay_max = r->delay_max;
    sum->bytes_across += r->bytes_across;
    sum->divergence_up += r->divergence_up;
    sum->divergence_down += r->divergence_down;
}
