/* The table of outstanding jobs, the entries of the order log and what one does to the table. No clock, no
 * messages: replaying the log gives the same table everywhere.
 *
 * Numbers: jobs are numbered in order of assignment; a TERM entry moves the numbers on to (round << 32), so
 * that no number ever means two jobs, also when the end of a log was lost. */
#include <stdlib.h>
#include <string.h>

#include "algo/async/internal.h"
#include "base/check.h"

/* -- bytes ------------------------------------------------------------------------------------- */

static void put(uint8_t *out, uint64_t value, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++) out[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get(const uint8_t *in, uint32_t bytes)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < bytes; i++) value |= (uint64_t)in[i] << (8 * i);
    return value;
}

/* -- jobs -------------------------------------------------------------------------------------- */

static void job_append(struct async_ledger *l, uint64_t q, rank_t worker, uint64_t alpha)
{
    if (l->job_count == l->job_capacity) {
        l->job_capacity = l->job_capacity > 0 ? 2 * l->job_capacity : 16;
        l->job = mem_resize(l->job, l->job_capacity, sizeof *l->job);
    }
    l->job[l->job_count++] = (struct async_job){.q = q, .worker = worker, .alpha = alpha};
}

static void assign(struct async_ledger *l, rank_t worker)
{
    job_append(l, l->next_q++, worker, l->t);
}

static void job_remove(struct async_ledger *l, struct async_job *job)
{
    blob_unref(job->model);
    size_t after = (size_t)(l->job + l->job_count - (job + 1));
    memmove(job, job + 1, after * sizeof *job);
    l->job_count--;
}

struct async_job *async_ledger_find(const struct async_ledger *l, uint64_t q)
{
    uint32_t low = 0, high = l->job_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (l->job[middle].q < q) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < l->job_count && l->job[low].q == q ? &l->job[low] : NULL;
}

uint64_t async_ledger_low(const struct async_ledger *l, rank_t worker)
{
    for (uint32_t i = 0; i < l->job_count; i++)
        if (l->job[i].worker == worker) return l->job[i].q;
    return l->next_q;
}

/* -- life -------------------------------------------------------------------------------------- */

void async_ledger_init(struct async_ledger *l, struct async_rule *r, uint64_t next_q, uint64_t t)
{
    CHECK(next_q > t); /* 0 stands for none */
    *l = (struct async_ledger){
        .t = t, .next_q = next_q, .node_count = r->node_count, .member_count = r->node_count};
    l->member = mem_new(l->node_count, sizeof *l->member);
    memset(l->member, 1, l->node_count);
    uint32_t target = async_rule_target(r, l);
    for (uint32_t i = 0; i < target; i++) {
        bool each = target >= l->node_count ? i < l->node_count : r->kind == ASYNC_PURE;
        assign(l, each ? i : async_rule_next(r, l, RANK_NONE));
    }
}

void async_ledger_deinit(struct async_ledger *l)
{
    for (uint32_t i = 0; i < l->job_count; i++) blob_unref(l->job[i].model);
    free(l->member);
    free(l->job);
    memset(l, 0, sizeof *l);
}

void async_ledger_copy(struct async_ledger *to, const struct async_ledger *from)
{
    *to = *from;
    to->member = mem_new(from->node_count, sizeof *to->member);
    memcpy(to->member, from->member, from->node_count);
    to->job_capacity = from->job_count > 0 ? from->job_count : 1;
    to->job = mem_new(to->job_capacity, sizeof *to->job);
    for (uint32_t i = 0; i < from->job_count; i++) {
        to->job[i] = from->job[i];
        to->job[i].arrived = false;
        to->job[i].model = NULL;
    }
}

/* -- entries ----------------------------------------------------------------------------------- */

static bool is_outstanding(const struct async_ledger *l, const struct async_name *name)
{
    const struct async_job *job = async_ledger_find(l, name->q);
    return job != NULL && job->worker == name->worker;
}

bool async_ledger_allows(const struct async_ledger *l, const struct async_op *op)
{
    rank_t worker = op->name[0].worker;
    switch ((enum async_op_kind)op->kind) {
    case ASYNC_OP_UPDATE:
        for (uint32_t i = 0; i < op->count; i++)
            if (!is_outstanding(l, &op->name[i])) return false;
        return true;
    case ASYNC_OP_OFF:
        return l->member[worker] && l->member_count > 1;
    case ASYNC_OP_ON:
        return !l->member[worker];
    case ASYNC_OP_REDO:
        return is_outstanding(l, &op->name[0]);
    case ASYNC_OP_TERM:
        return true;
    }
    UNREACHABLE();
}

static void list_change(struct async_ledger *l, rank_t worker, bool on)
{
    l->member[worker] = on;
    l->member_count += on ? 1u : UINT32_MAX;
    l->block++;
    l->place = 0;
}

static void top_up(struct async_ledger *l, struct async_rule *r)
{
    uint32_t target = async_rule_target(r, l);
    while (l->job_count < target) assign(l, async_rule_next(r, l, RANK_NONE));
}

static void apply_off(struct async_ledger *l, struct async_rule *r, rank_t worker)
{
    for (uint32_t i = l->job_count; i-- > 0;)
        if (l->job[i].worker == worker) job_remove(l, &l->job[i]);
    list_change(l, worker, false);
    top_up(l, r);
}

/* Place by place, so that a rule that counts jobs still sees those whose place comes later. With fewer
 * members than at assignment the surplus is not given out again. */
static void apply_update(struct async_ledger *l, struct async_rule *r, const struct async_op *op)
{
    for (uint32_t i = 0; i < op->count; i++) {
        job_remove(l, async_ledger_find(l, op->name[i].q));
        if (l->job_count < async_rule_target(r, l)) assign(l, async_rule_next(r, l, op->name[i].worker));
    }
}

uint32_t async_ledger_apply(struct async_ledger *l, struct async_rule *r, const struct async_op *op)
{
    CHECK(async_ledger_allows(l, op));
    uint64_t first = l->next_q;
    l->index++;
    switch ((enum async_op_kind)op->kind) {
    case ASYNC_OP_UPDATE:
        l->t++;
        apply_update(l, r, op);
        break;
    case ASYNC_OP_OFF:
        apply_off(l, r, op->name[0].worker);
        break;
    case ASYNC_OP_ON:
        list_change(l, op->name[0].worker, true);
        if (l->job_count < async_rule_target(r, l)) assign(l, op->name[0].worker);
        top_up(l, r);
        break;
    case ASYNC_OP_REDO:
        job_remove(l, async_ledger_find(l, op->name[0].q));
        assign(l, op->name[0].worker);
        break;
    case ASYNC_OP_TERM:
        if (l->next_q < op->name[0].q) l->next_q = op->name[0].q;
        return 0;
    }
    return (uint32_t)(l->next_q - first);
}

/* -- the table in a message ---------------------------------------------------------------------- */

uint32_t async_ledger_size(const struct async_ledger *l)
{
    return (l->node_count + 7) / 8 + l->job_count * ASYNC_JOB_BYTES;
}

void async_ledger_write(const struct async_ledger *l, uint8_t *out)
{
    uint32_t map = (l->node_count + 7) / 8;
    memset(out, 0, map);
    for (uint32_t k = 0; k < l->node_count; k++)
        if (l->member[k]) out[k / 8] = (uint8_t)(out[k / 8] | 1u << k % 8);
    for (uint32_t i = 0; i < l->job_count; i++) {
        uint8_t *at = out + map + i * ASYNC_JOB_BYTES;
        put(at, l->job[i].q, 8);
        put(at + 8, l->job[i].worker, 2);
        put(at + 10, l->t - l->job[i].alpha, 4);
    }
}

int async_ledger_read(struct async_ledger *l, const uint8_t *bytes, uint32_t size)
{
    uint32_t map = (l->node_count + 7) / 8;
    if (size < map || (size - map) % ASYNC_JOB_BYTES != 0) return ERR_PROTO;
    if (l->node_count % 8 != 0 && bytes[map - 1] >> l->node_count % 8 != 0) return ERR_PROTO;
    l->member = mem_new(l->node_count, sizeof *l->member);
    for (uint32_t k = 0; k < l->node_count; k++) {
        l->member[k] = bytes[k / 8] >> k % 8 & 1;
        l->member_count += l->member[k];
    }
    if (l->member_count == 0) return ERR_PROTO;
    for (uint32_t at = map; at < size; at += ASYNC_JOB_BYTES) {
        uint64_t q = get(bytes + at, 8), age = get(bytes + at + 10, 4);
        rank_t worker = (rank_t)get(bytes + at + 8, 2);
        bool ascends = l->job_count == 0 || q > l->job[l->job_count - 1].q;
        if (!ascends || q >= l->next_q || age > l->t || worker >= l->node_count) return ERR_PROTO;
        job_append(l, q, worker, l->t - age);
    }
    return 0;
}

/* -- lists of entries ------------------------------------------------------------------------------ */

void async_op_append(struct async_ops *ops, uint8_t kind, const struct async_name *name, uint32_t count)
{
    CHECK(count > 0 && count <= ASYNC_BATCH_MAX);
    if (ops->count == ops->capacity) {
        ops->capacity = ops->capacity > 0 ? 2 * ops->capacity : 8;
        ops->item = mem_resize(ops->item, ops->capacity, sizeof *ops->item);
    }
    struct async_op *op = &ops->item[ops->count++];
    *op = (struct async_op){.kind = kind, .count = count, .name = mem_new(count, sizeof *name)};
    memcpy(op->name, name, count * sizeof *name);
}

void async_ops_drop(struct async_ops *ops, uint32_t count)
{
    CHECK(count <= ops->count);
    for (uint32_t i = 0; i < count; i++) free(ops->item[i].name);
    if (count < ops->count) memmove(ops->item, ops->item + count, (ops->count - count) * sizeof *ops->item);
    ops->count -= count;
}

void async_ops_deinit(struct async_ops *ops)
{
    async_ops_drop(ops, ops->count);
    free(ops->item);
    *ops = (struct async_ops){0};
}

uint32_t async_op_size(const struct async_op *op)
{
    return ASYNC_OP_HEAD + op->count * ASYNC_NAME_BYTES;
}

uint32_t async_op_write(const struct async_op *op, uint8_t *out)
{
    out[0] = op->kind;
    put(out + 1, op->count, 2);
    for (uint32_t i = 0; i < op->count; i++) {
        put(out + ASYNC_OP_HEAD + i * ASYNC_NAME_BYTES, op->name[i].q, 8);
        put(out + ASYNC_OP_HEAD + i * ASYNC_NAME_BYTES + 8, op->name[i].worker, 2);
    }
    return async_op_size(op);
}

/* Bytes of the entry at `bytes`, or 0 when it is malformed. name has room for ASYNC_BATCH_MAX. */
static uint32_t op_read(uint32_t node_count, const uint8_t *bytes, uint32_t size, struct async_name *name)
{
    if (size < ASYNC_OP_HEAD) return 0;
    uint8_t kind = bytes[0];
    uint32_t count = (uint32_t)get(bytes + 1, 2);
    if (kind < ASYNC_OP_UPDATE || kind > ASYNC_OP_TERM || count == 0 || count > ASYNC_BATCH_MAX) return 0;
    if ((kind != ASYNC_OP_UPDATE && count != 1) || (size - ASYNC_OP_HEAD) / ASYNC_NAME_BYTES < count)
        return 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *at = bytes + ASYNC_OP_HEAD + i * ASYNC_NAME_BYTES;
        name[i] = (struct async_name){get(at, 8), (rank_t)get(at + 8, 2)};
        if (name[i].worker >= node_count || (i > 0 && name[i].q <= name[i - 1].q)) return 0;
        if (kind == ASYNC_OP_TERM && name[i].q > ASYNC_ROUND_MAX << 32) return 0;
    }
    return ASYNC_OP_HEAD + count * ASYNC_NAME_BYTES;
}

int async_ops_read(struct async_ops *ops, uint32_t node_count, const uint8_t *bytes, uint32_t size)
{
    struct async_name *name = mem_new(ASYNC_BATCH_MAX, sizeof *name);
    struct async_ops found = {0};
    uint32_t at = 0;
    while (at < size) {
        uint32_t used = op_read(node_count, bytes + at, size - at, name);
        if (used == 0) break;
        async_op_append(&found, bytes[at], name, (used - ASYNC_OP_HEAD) / ASYNC_NAME_BYTES);
        at += used;
    }
    bool good = at == size && size > 0;
    for (uint32_t i = 0; good && i < found.count; i++)
        async_op_append(ops, found.item[i].kind, found.item[i].name, found.item[i].count);
    async_ops_deinit(&found);
    free(name);
    return good ? 0 : ERR_PROTO;
}

/* -- lists of gradients ---------------------------------------------------------------------------- */

void async_grads_add(struct async_grads *g, const struct async_grad *grad)
{
    if (g->count == g->capacity) {
        g->capacity = g->capacity > 0 ? 2 * g->capacity : 8;
        g->item = mem_resize(g->item, g->capacity, sizeof *g->item);
    }
    struct async_grad *to = &g->item[g->count++];
    *to = *grad;
    blob_ref(to->vec);
    blob_ref(to->packed);
}

const struct async_grad *async_grads_find(const struct async_grads *g, uint64_t q)
{
    for (uint32_t i = 0; i < g->count; i++)
        if (g->item[i].q == q) return &g->item[i];
    return NULL;
}

void async_grads_remove(struct async_grads *g, uint32_t i)
{
    CHECK(i < g->count);
    blob_unref(g->item[i].vec);
    blob_unref(g->item[i].packed);
    memmove(g->item + i, g->item + i + 1, (g->count - i - 1) * sizeof *g->item);
    g->count--;
}

void async_grads_deinit(struct async_grads *g)
{
    while (g->count > 0) async_grads_remove(g, g->count - 1);
    free(g->item);
    *g = (struct async_grads){0};
}
