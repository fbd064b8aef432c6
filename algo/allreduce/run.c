/* One round in one view: chunks of partial sums go up the slices' trees, sums come down.
 *
 * A member without children begins a chunk when the sum of the one `window` chunks before has come back: so
 * many are on the way at most, and no link's queue overflows. A partial sum goes on as soon as the own
 * contribution was added; a member with two children adds in a fixed order: the own group's partial sum, own
 * vector, the other groups'. Sums go down as they came, without a copy. */
#include "algo/allreduce/internal.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "algo/vec.h"
#include "base/check.h"

/* -- slices ------------------------------------------------------------------------------------ */

static uint32_t slice_chunks(const struct allreduce *a, size_t size, uint32_t k)
{
    size_t count = size / a->view_count + (k < size % a->view_count);
    return (uint32_t)((count + a->chunk_size - 1) / a->chunk_size);
}

static size_t chunk_floats(const struct allreduce *a, size_t size, uint32_t k, uint32_t chunk)
{
    size_t count = size / a->view_count + (k < size % a->view_count);
    size_t left = count - (size_t)chunk * a->chunk_size;
    return left < a->chunk_size ? left : a->chunk_size;
}

void round_cut(struct allreduce *a, size_t size)
{
    size_t start = 0;
    a->missing = 0;
    for (uint32_t k = 0; k < a->view_count; k++) {
        struct slice *s = &a->slice[k];
        s->start = start;
        s->count = size / a->view_count + (k < size % a->view_count);
        s->chunks = slice_chunks(a, size, k);
        s->began = s->up_next[0] = s->up_next[1] = s->sums = 0;
        start += s->count;
        a->missing += s->chunks;
        bool joins = s->child[0] != NO_MEMBER && s->child[1] != NO_MEMBER;
        if (!joins) continue;
        s->wait = mem_new_zero(2 * (size_t)a->window, sizeof(struct blob *));
        s->wait_weight = mem_new_zero(2 * (size_t)a->window, sizeof *s->wait_weight);
    }
}

void run_stop(struct allreduce *a)
{
    for (uint32_t k = 0; a->running && k < a->view_count; k++) {
        struct slice *s = &a->slice[k];
        for (uint32_t i = 0; s->wait != NULL && i < 2 * a->window; i++) blob_unref(s->wait[i]);
        free(s->wait);
        free(s->wait_weight);
        s->wait = NULL;
        s->wait_weight = NULL;
    }
    a->running = false;
}

/* -- sending ----------------------------------------------------------------------------------- */

static void data_send(struct allreduce *a, int32_t to, uint32_t k, uint32_t chunk, uint64_t way,
                      struct blob *body, double weight, struct algo_actions *acts)
{
    if (to == NO_MEMBER) return;
    const struct participant *p = &a->member[to];
    if (!p->up || p->lost || p->replaced) return; /* a new view is to come */
    struct algo_msg *m = message_new(a, (uint32_t)to, MSG_DATA, acts);
    m->field_count = 8;
    m->field[2] = a->history.round;
    m->field[3] = k;
    m->field[4] = chunk;
    m->field[5] = way;
    m->field[6] = a->size;
    memcpy(&m->field[7], &weight, sizeof weight);
    m->packed = blob_ref(body);
    size_t count = body->size / sizeof(float);
    a->counts.floats_sent += count;
    crossing_count(a, (uint32_t)to, count);
}

/* A sum is here: kept, and passed on down. */
static void sum_take(struct allreduce *a, uint32_t k, uint32_t chunk, struct blob *body, double weight,
                     struct algo_actions *acts)
{
    struct slice *s = &a->slice[k];
    CHECK(chunk == s->sums);
    memcpy(a->sum + s->start + (size_t)chunk * a->chunk_size, body->data, body->size);
    if (k == 0 && chunk == 0) a->sum_weight = weight;
    for (int c = 0; c < 2; c++) data_send(a, s->child[c], k, chunk, WAY_DOWN, body, weight, acts);
    s->sums++;
    a->missing--;
}

/* A child's partial sum; body NULL and weight 0 = there is none. */
struct partial {
    const struct blob *body;
    double weight;
};

/* Adds the own part to the children's partial sums (NULL = there is none). Too great for a float: the
 * greatest one, as a body must be finite. */
static struct blob *partial_make(struct allreduce *a, uint32_t k, uint32_t chunk, const struct partial *first,
                                 const struct partial *second)
{
    size_t count = chunk_floats(a, a->size, k, chunk);
    size_t at = a->slice[k].start + (size_t)chunk * a->chunk_size;
    struct blob *body = blob_new(count * sizeof(float));
    float *out = blob_floats_own(body);
    const float *x = a->x + at;
    float weight = (float)a->weight;
    for (size_t i = 0; i < count; i++) out[i] = weight * x[i];
    for (size_t i = 0; first->body != NULL && i < count; i++) out[i] = blob_floats(first->body)[i] + out[i];
    if (a->group_sum != NULL && slice_leaves_group(a, &a->slice[k])) {
        memcpy(a->group_sum + at, out, count * sizeof *out);
        a->group_weight = first->weight + a->weight;
    }
    for (size_t i = 0; second->body != NULL && i < count; i++) out[i] += blob_floats(second->body)[i];
    for (size_t i = 0; i < count; i++)
        out[i] = out[i] > FLT_MAX ? FLT_MAX : out[i] < -FLT_MAX ? -FLT_MAX : out[i];
    return body;
}

static void partial_pass(struct allreduce *a, uint32_t k, uint32_t chunk, struct partial first,
                         struct partial second, struct algo_actions *acts)
{
    struct blob *body = partial_make(a, k, chunk, &first, &second);
    double weight = first.weight + second.weight + a->weight;
    int32_t parent = a->slice[k].parent;
    if (parent != NO_MEMBER)
        data_send(a, parent, k, chunk, WAY_UP, body, weight, acts);
    else
        sum_take(a, k, chunk, body, weight, acts);
    blob_unref(body);
}

/* Begins what chunks of the slice the window allows, if they begin here. */
static void slice_begin(struct allreduce *a, uint32_t k, struct algo_actions *acts)
{
    struct slice *s = &a->slice[k];
    if (s->child[0] != NO_MEMBER || s->child[1] != NO_MEMBER) return;
    while (s->began < s->chunks && s->began < s->sums + a->window)
        partial_pass(a, k, s->began++, (struct partial){0}, (struct partial){0}, acts);
}

/* -- receiving --------------------------------------------------------------------------------- */

/* A partial sum of child c is here. */
static void up_take(struct allreduce *a, uint32_t k, uint32_t chunk, int c, struct blob *body, double weight,
                    struct algo_actions *acts)
{
    struct slice *s = &a->slice[k];
    CHECK(chunk == s->up_next[c]);
    s->up_next[c]++;
    struct partial here = {body, weight}, none = {NULL, 0};
    if (s->wait == NULL) {
        partial_pass(a, k, chunk, c == 0 ? here : none, c == 0 ? none : here, acts);
        return;
    }
    size_t mine = (size_t)c * a->window + chunk % a->window;
    size_t other = (size_t)(1 - c) * a->window + chunk % a->window;
    if (s->up_next[1 - c] <= chunk) {
        CHECK(s->wait[mine] == NULL);
        s->wait[mine] = blob_ref(body);
        s->wait_weight[mine] = weight;
        return;
    }
    struct blob *there = s->wait[other];
    s->wait[other] = NULL;
    struct partial kept = {there, s->wait_weight[other]};
    partial_pass(a, k, chunk, c == 0 ? here : kept, c == 0 ? kept : here, acts);
    blob_unref(there);
}

static void round_finish(struct allreduce *a)
{
    CHECK(a->missing == 0);
    run_stop(a);
    a->history = (struct history){a->history.round + 1, a->view};
    for (uint32_t i = 0; i < a->count; i++) {
        struct participant *p = &a->member[i];
        if (p->in_view) p->contribution = history_mark(a->history);
        p->lost = false;
    }
    a->begun = false;
    a->asked_us = TIME_NEVER;
    a->contributed = true;
    a->counts.contributed++;
    a->sum_contributors = a->view_count;
    a->outcome = ALLREDUCE_SUM;
    a->merge_us = others_wait(a, 0) ? a->now_us : TIME_NEVER;
    kept_drop(a, false);
}

static void kept_take(struct allreduce *a, struct algo_actions *acts)
{
    size_t left = 0;
    for (size_t i = 0; i < a->kept_count; i++) {
        struct kept *e = &a->kept[i];
        if (e->round != a->history.round) {
            a->kept[left++] = *e;
            continue;
        }
        int c = a->slice[e->slice].child[0] == e->from ? 0 : 1;
        if (e->size == a->size && e->chunk == a->slice[e->slice].up_next[c])
            up_take(a, e->slice, e->chunk, c, e->body, e->weight, acts);
        else
            a->counts.dropped++; /* its sender refuses ours: the round ends without one of us */
        blob_unref(e->body);
    }
    a->kept_count = left;
}

void run_try(struct allreduce *a, struct algo_actions *acts)
{
    if (a->phase != PHASE_RUN || !a->begun || a->running) return;
    for (uint32_t i = 0; i < a->count; i++)
        if (a->member[i].adjacent && !a->member[i].up) return;
    a->running = true;
    round_cut(a, a->size);
    if (a->ran_count == a->ran_capacity) {
        a->ran_capacity = 2 * a->ran_capacity + 4;
        a->ran = mem_resize(a->ran, a->ran_capacity, sizeof *a->ran);
    }
    a->ran[a->ran_count++] = a->view;
    for (uint32_t k = 0; k < a->view_count; k++) slice_begin(a, k, acts);
    kept_take(a, acts);
    if (a->missing == 0) round_finish(a);
}

void kept_drop(struct allreduce *a, bool all)
{
    size_t left = 0;
    for (size_t i = 0; i < a->kept_count; i++) {
        if (!all && a->kept[i].round >= a->history.round) {
            a->kept[left++] = a->kept[i];
            continue;
        }
        blob_unref(a->kept[i].body);
        a->counts.dropped++;
    }
    a->kept_count = left;
}

/* Keeps a partial sum for a round that does not run here. In order: none is missing or twice; within the
 * window, as no sum has gone out; for two rounds at most, from two children. */
static int kept_add(struct allreduce *a, const struct kept *e)
{
    uint32_t before = 0;
    for (size_t i = 0; i < a->kept_count; i++)
        before += a->kept[i].round == e->round && a->kept[i].slice == e->slice && a->kept[i].from == e->from;
    if (e->chunk != before || e->chunk >= a->window) return ERR_PROTO;
    if (a->kept_count >= 4 * (size_t)a->window * a->view_count) return ERR_PROTO;
    if (a->kept_count == a->kept_capacity) {
        a->kept_capacity = 2 * a->kept_capacity + 16;
        a->kept = mem_resize(a->kept, a->kept_capacity, sizeof *a->kept);
    }
    a->kept[a->kept_count] = *e;
    blob_ref(a->kept[a->kept_count++].body);
    return 0;
}

/* Whether the message is one of this view's plan, wherever the round stands. */
static bool data_fits(const struct allreduce *a, int32_t from, const struct algo_msg *m, double weight)
{
    uint64_t k = m->field[3], chunk = m->field[4], size = m->field[6];
    if (m->field[5] > WAY_DOWN || size < 1 || size > a->config.size_max || k >= a->view_count) return false;
    if (chunk >= slice_chunks(a, size, (uint32_t)k)) return false;
    size_t count = chunk_floats(a, size, (uint32_t)k, (uint32_t)chunk);
    if (m->packed->size != count * sizeof(float) || !vec_finite(count, blob_floats(m->packed))) return false;
    const struct slice *s = &a->slice[k];
    bool known = m->field[5] == WAY_UP ? s->child[0] == from || s->child[1] == from : s->parent == from;
    return known && isfinite(weight) && weight >= 0;
}

/* A sum, or a partial sum of the round that runs. */
static int data_take(struct allreduce *a, int32_t from, const struct algo_msg *m, double weight,
                     struct algo_actions *acts)
{
    struct slice *s = &a->slice[m->field[3]];
    uint32_t k = (uint32_t)m->field[3], chunk = (uint32_t)m->field[4];
    if (m->field[6] != a->size) return ERR_PROTO;
    if (m->field[5] == WAY_DOWN) {
        bool ours_in = s->child[0] != NO_MEMBER || s->child[1] != NO_MEMBER || chunk < s->began;
        for (int c = 0; c < 2; c++) ours_in = ours_in && (s->child[c] == NO_MEMBER || chunk < s->up_next[c]);
        if (chunk != s->sums || !ours_in) return ERR_PROTO;
        sum_take(a, k, chunk, m->packed, weight, acts);
        slice_begin(a, k, acts);
    } else {
        int c = s->child[0] == from ? 0 : 1;
        if (chunk != s->up_next[c] || chunk >= s->sums + a->window) return ERR_PROTO;
        up_take(a, k, chunk, c, m->packed, weight, acts);
    }
    a->progress_us = a->now_us;
    a->asked_us = TIME_NEVER;
    if (a->missing == 0) round_finish(a);
    return 0;
}

int on_data(struct allreduce *a, uint32_t from, const struct algo_msg *m, struct algo_actions *acts)
{
    if (m->field_count != 8 || m->packed == NULL || m->bits_size != 0) return ERR_PROTO;
    struct view_id view = {m->field[0], m->field[1]};
    uint64_t round = m->field[2];
    double weight;
    memcpy(&weight, &m->field[7], sizeof weight);
    if (!view_fits(a, view) || !number_fits(round, a->history.round)) return ERR_PROTO;
    int order = view_compare(view, a->view);
    if (order != 0 || a->phase == PHASE_OUT || a->member[from].replaced) {
        a->counts.dropped++;
        if (order > 0) message_new(a, from, MSG_ASK, acts);
        return 0;
    }
    if (!data_fits(a, (int32_t)from, m, weight)) return ERR_PROTO;
    if (a->running && round == a->history.round) return data_take(a, (int32_t)from, m, weight, acts);
    bool settled = a->phase == PHASE_RUN;
    bool late = round < a->history.round || m->field[5] == WAY_DOWN;
    if (late && settled) return ERR_PROTO;
    if (late) { /* it agreed with another in the place of one of us: a new view is to come */
        a->counts.dropped++;
        return 0;
    }
    if (settled && round > a->history.round + 1) return ERR_PROTO;
    if (settled && a->begun && round == a->history.round && m->field[6] != a->size) return ERR_PROTO;
    struct kept e = {m->packed,   (int32_t)from, (uint32_t)m->field[3], (uint32_t)m->field[4], round,
                     m->field[6], weight};
    return kept_add(a, &e);
}
