/* The algorithm of node_fake.h: logs what it hears and answers by the script in the fake. */
#include "tests/unit/node_fake_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "algo/state.h"
#include "base/check.h"

static struct fake *fake_now; /* algo_type has no context: the algorithm finds its test here */

void fake_algo_belongs_to(struct fake *f)
{
    fake_now = f;
}

struct algo {
    struct fake *f;
    float x[FAKE_DIM];
    struct algo_config config;
};

static int fake_create(const struct algo_config *config, const struct choice *params, struct algo **out,
                       struct err_text *why)
{
    (void)params;
    (void)why;
    *out = mem_new_zero(1, sizeof **out);
    fake_now->created++;
    (*out)->f = fake_now;
    (*out)->config = *config;
    memcpy((*out)->x, config->x0, sizeof(*out)->x);
    return 0;
}

static void fake_destroy(struct algo *a)
{
    a->f->destroyed++;
    free(a);
}

static int fake_step(struct algo *a, const struct algo_event *e, struct algo_actions *acts)
{
    struct fake *f = a->f;
    assert_true(e->now_us == f->now_us);
    switch (e->kind) {
    case ALGO_START:
        EVENT(f, "start;");
        break;
    case ALGO_PEER_UP:
        EVENT(f, "up %u %llu;", e->peer, (unsigned long long)e->boot);
        break;
    case ALGO_PEER_DOWN:
        EVENT(f, "down %u;", e->peer);
        break;
    case ALGO_MESSAGE:
        EVENT(f, "message %u %u;", e->peer, e->msg->kind);
        if (e->msg->vec != NULL) memcpy(&f->seen_vec, e->msg->vec->data, sizeof f->seen_vec);
        if (e->msg->packed != NULL) f->seen_packed = e->msg->packed->size;
        break;
    case ALGO_TRAINED:
        EVENT(f, "trained %u;", e->trained.steps);
        a->x[0] += e->trained.delta[0];
        break;
    case ALGO_DEADLINE:
        EVENT(f, "deadline;");
        break;
    }
    if (f->train > 0) {
        algo_train(acts, a->x, f->train);
        f->train = 0;
    }
    if (f->send_to != RANK_NONE) algo_send(acts, f->send_to, 9)->vec = blob_ref(f->send_vec);
    if (f->send_to != RANK_NONE && f->durable) algo_send_durably(acts);
    f->send_to = RANK_NONE;
    int answer = f->answer;
    f->answer = 0;
    return answer;
}

static uint64_t fake_wants(const struct algo *a)
{
    return a->f->wants_us;
}

static const float *fake_model(const struct algo *a)
{
    return a->x;
}

static void fake_report(const struct algo *a, struct algo_report *out)
{
    (void)a;
    *out = (struct algo_report){.version = 5};
}

static void fake_state_save(const struct algo *a, struct state_writer *out)
{
    if (a->f->owes != 0) state_put64(out, a->f->owes);
}

static int fake_state_restore(struct algo *a, struct state_reader *in, struct err_text *why)
{
    uint64_t owes = state_get64(in);
    int err = state_end(in, why);
    if (err == 0) a->f->owes = owes;
    EVENT(a->f, "restore %d;", err);
    return err;
}

const struct algo_type fake_algo = {.spec = {.name = "fake"},
                                    .packs = true,
                                    .state_version = 3,
                                    .state_save = fake_state_save,
                                    .state_restore = fake_state_restore,
                                    .create = fake_create,
                                    .destroy = fake_destroy,
                                    .step = fake_step,
                                    .deadline_us = fake_wants,
                                    .model = fake_model,
                                    .report = fake_report};
