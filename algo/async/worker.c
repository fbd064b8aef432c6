/* The worker's half: a queue of jobs, first in first out, each with the model of its assignment; gradients
 * sent and kept until a durable snapshot covers them.
 *
 * Normal course
 *  - JOB: queued. The oldest is trained from x_alpha; an answer of fewer steps is continued from where it
 *    ended.
 *  - TRAINED: the difference is compressed (with error feedback), kept, and sent as GRAD. On the holder's own
 *    node it goes to the holder without a message.
 * Failure courses
 *  - a new holder, or a new link to the holder: TERM. Everything kept that it may lack is sent again, then
 *    HAVE with the queue. It drops what it has already, and answers CANCEL for jobs that are none any more.
 *  - no holder: the queue is worked off; the gradients wait.
 *  - a job is cancelled while it is trained: its result is thrown away.
 *  - a message of an older term: dropped, counted, and its sender told.
 *  - the compressor refuses a gradient (beyond its range): it is sent whole. */
#include <string.h>

#include "algo/async/internal.h"
#include "base/check.h"

/* -- training ---------------------------------------------------------------------------------- */

static void train_next(struct async *a, struct algo_actions *acts)
{
    if (a->training || a->queue_count == 0) return;
    a->training = true;
    if (a->progress == NULL) {
        algo_train(acts, blob_floats(a->queue[0].model), a->steps);
        return;
    }
    const float *x = blob_floats(a->queue[0].model), *progress = blob_floats(a->progress);
    if (a->start == NULL) a->start = mem_new(a->dim, sizeof *a->start);
    for (size_t i = 0; i < a->dim; i++) a->start[i] = x[i] + progress[i];
    algo_train(acts, a->start, a->steps - a->progress_steps);
}

static void queue_remove(struct async *a, uint32_t i)
{
    async_bury(a, a->queue[i].model); /* a TRAIN of this step may point into it */
    memmove(a->queue + i, a->queue + i + 1, (a->queue_count - i - 1) * sizeof *a->queue);
    a->queue_count--;
    if (i > 0) return;
    blob_unref(a->progress);
    a->progress = NULL;
    a->progress_steps = 0;
}

static void progress_add(struct async *a, const struct algo_event *e)
{
    a->progress_steps += e->trained.steps;
    if (a->progress == NULL) {
        a->progress = blob_copy(e->trained.delta, a->dim * sizeof *e->trained.delta);
        return;
    }
    float *progress = blob_floats_own(a->progress); /* ours alone until it is sent */
    for (size_t i = 0; i < a->dim; i++) progress[i] += e->trained.delta[i];
}

/* Moves the finished progress into *g, packed if it can be. */
static void gradient_make(struct async *a, struct async_grad *g)
{
    *g = (struct async_grad){.q = a->queue[0].q, .worker = a->rank, .steps = a->progress_steps};
    if (a->compressor != NULL) {
        struct compress_context context = {.seed = a->seed + a->rank, .round = g->q, .dither = a->rank};
        g->packed = blob_new(compressor_size_max(a->compressor, a->dim));
        size_t size = 0;
        const float *delta = blob_floats(a->progress);
        int err =
            a->use_feedback
                ? feedback_encode(&a->feedback, &context, delta, g->packed->data, &size, NULL)
                : compressor_encode(a->compressor, &context, a->dim, delta, g->packed->data, &size, NULL);
        if (err == 0) {
            g->packed->size = size;
            return;
        }
        blob_unref(g->packed);
        g->packed = NULL;
    }
    g->vec = blob_ref(a->progress);
}

static void gradient_send(struct async *a, const struct async_grad *g, struct algo_actions *acts)
{
    rank_t holder = (rank_t)(a->term % a->node_count);
    struct algo_msg *m = async_send(a, acts, holder, ASYNC_GRAD, a->term, 2);
    m->field[1] = g->q;
    m->vec = blob_ref(g->vec);
    m->packed = blob_ref(g->packed);
    a->report.model_transfers++;
    a->report.steps_handed_over = a->report.steps;
}

void async_worker_trained(struct async *a, const struct algo_event *e, struct algo_actions *acts)
{
    CHECK(a->training);
    a->training = false;
    if (a->discard) {
        a->discard = false;
        train_next(a, acts);
        return;
    }
    CHECK(e->trained.steps >= 1 && e->trained.steps <= a->steps - a->progress_steps);
    progress_add(a, e);
    if (a->progress_steps < a->steps) {
        train_next(a, acts);
        return;
    }
    struct async_grad g;
    gradient_make(a, &g);
    queue_remove(a, 0);
    async_grads_add(&a->kept, &g);
    struct async_grad *kept = &a->kept.item[a->kept.count - 1];
    a->report.steps += g.steps;
    if (a->role == ASYNC_HOLDER) {
        async_holder_own(a, kept, acts);
    } else if (a->greeted) {
        gradient_send(a, kept, acts);
    }
    blob_unref(g.vec);
    blob_unref(g.packed);
    train_next(a, acts);
}

/* -- jobs -------------------------------------------------------------------------------------- */

void async_worker_job(struct async *a, uint64_t q, uint64_t alpha, struct blob *x, struct algo_actions *acts)
{
    if (a->queue_count == a->queue_capacity) {
        a->queue_capacity = a->queue_capacity > 0 ? 2 * a->queue_capacity : 8;
        a->queue = mem_resize(a->queue, a->queue_capacity, sizeof *a->queue);
    }
    a->queue[a->queue_count++] = (struct async_queued){q, alpha, blob_ref(x)};
    train_next(a, acts);
}

static uint32_t queue_find(const struct async *a, uint64_t q)
{
    uint32_t i = 0;
    while (i < a->queue_count && a->queue[i].q != q) i++;
    return i;
}

bool async_worker_has(const struct async *a, uint64_t q)
{
    return queue_find(a, q) < a->queue_count || async_grads_find(&a->kept, q) != NULL;
}

void async_worker_cancel(struct async *a, uint64_t q, struct algo_actions *acts)
{
    uint32_t i = queue_find(a, q);
    if (i < a->queue_count) {
        a->discard = a->discard || (i == 0 && a->training);
        queue_remove(a, i);
        train_next(a, acts);
    }
    for (uint32_t k = 0; k < a->kept.count; k++) {
        if (a->kept.item[k].q != q) continue;
        async_grads_remove(&a->kept, k);
        return;
    }
}

void async_worker_covered(struct async *a, uint64_t low)
{
    for (uint32_t i = a->kept.count; i-- > 0;)
        if (a->kept.item[i].q < low) async_grads_remove(&a->kept, i);
}

/* -- messages ---------------------------------------------------------------------------------- */

int async_on_term(struct async *a, rank_t from, const struct algo_msg *m, struct algo_actions *acts)
{
    if (m->field_count != 2 || m->bits_size != 0 || m->vec != NULL || m->packed != NULL) return ERR_PROTO;
    uint64_t term = m->field[0], low = m->field[1];
    if (!async_term_valid(a, term) || term % a->node_count != from) return ERR_PROTO;
    if (term < a->promised) {
        async_send(a, acts, from, ASYNC_STALE, a->promised, 1);
        a->report.duplicates_dropped++;
        return 0;
    }
    async_adopt(a, term);
    uint64_t again = 0;
    a->greeted = true;
    for (uint32_t i = 0; i < a->kept.count; i++) {
        if (a->kept.item[i].q < low) continue;
        gradient_send(a, &a->kept.item[i], acts);
        again++;
    }
    uint32_t count = a->queue_count < ALGO_BITS_MAX / 8 ? a->queue_count : ALGO_BITS_MAX / 8;
    struct algo_msg *have = async_send(a, acts, from, ASYNC_HAVE, term, 2);
    have->field[1] = again;
    uint8_t *bits = async_bits(a, have, count * 8);
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t k = 0; k < 8; k++) bits[i * 8 + k] = (uint8_t)(a->queue[i].q >> (8 * k));
    return 0;
}

int async_on_job(struct async *a, rank_t from, const struct algo_msg *m, struct algo_actions *acts)
{
    if (m->field_count != 4 || m->bits_size != 0 || m->vec == NULL) return ERR_PROTO;
    uint64_t q = m->field[1], alpha = m->field[2];
    if (!async_term_valid(a, m->field[0]) || alpha >= q || q > UINT64_MAX / 2) return ERR_PROTO;
    if (!async_heeds(a, from, m->field[0], acts)) return 0;
    if (async_worker_has(a, q)) {
        a->report.duplicates_dropped++;
        return 0;
    }
    if (a->queue_count >= ALGO_BITS_MAX / 8) return ERR_PROTO; /* more than any table holds */
    async_worker_covered(a, m->field[3]);
    async_see(a, m->vec, m->field[0], alpha);
    async_worker_job(a, q, alpha, m->vec, acts);
    return 0;
}

int async_on_cancel(struct async *a, rank_t from, const struct algo_msg *m, struct algo_actions *acts)
{
    if (m->field_count != 1 || m->bits_size == 0 || m->bits_size % 8 != 0) return ERR_PROTO;
    if (m->vec != NULL || m->packed != NULL || !async_term_valid(a, m->field[0])) return ERR_PROTO;
    if (!async_heeds(a, from, m->field[0], acts)) return 0;
    for (uint32_t i = 0; i < m->bits_size / 8; i++) async_worker_cancel(a, async_number_at(m, i), acts);
    return 0;
}
