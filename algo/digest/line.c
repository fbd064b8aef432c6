/* DIGEST's lines: how compressed tokens cross a link, and the tree they keep to.
 *
 * A line is what two neighbours know of one stream's token in common: the value that crossed their link last,
 * in either direction. A token crosses as C(g - line); both ends then hold line + C(g - line), which is the
 * token as it left (q[s]). What was dropped, g - q[s], stays in r - q[s] and rides the token's next visit: the
 * sum of what the token holds and what the nodes keep back does not change.
 *
 * Why a tree: on a tree the token comes back over the link it left by, so T - q[s] is exactly what the far side
 * has added, and each direction of each link is a queue of its own that drains, since C contracts. Along a cycle
 * the token comes back without what the others keep back, each node takes that for a loss and corrects it, and
 * the corrections grow without bound: a ring of 16 runs away even when half of the entries, drawn at random, are
 * sent. The line must be one for both directions for the same reason.
 *
 * Normal course
 *  - tours keep to the breadth-first tree of the stream's members from the lowest rank, in the plan's edges.
 *  - the first message on a line is whole; each names the value it builds on by sender and number.
 * Failure courses
 *  - the link goes down, or the plan changes: both ends forget the line.
 *  - the last message on the line is ours and not acknowledged: the next is whole. So is a repetition, with the
 *    value that was sent first.
 *  - a message builds on a value that is not the line's (two tokens of one stream crossed): the receiver asks
 *    for it AGAIN, which is whole.
 *  - a token made anew comes: lines may hold what was lost with the old one, and are forgotten. If it does not
 *    descend from q[s] (it names the snapshot it was made from), what is kept back here may be in it already,
 *    and is dropped.
 *  - a tour did not reach everybody (a link of the tree is down), or a token was made anew: the next tour goes by
 *    any edge and whole, keeps nothing back and forgets the lines it comes across.
 */
#include <stdlib.h>

#include "algo/digest/internal.h"
#include "base/check.h"

int digest_compressor_choose(struct digest *d, const struct algo_config *config, struct err_text *why)
{
    if (compress_is_none(config->compress)) return 0;
    if (d->hop != HOP_DFS)
        return err_set(
            why, ERR_USAGE,
            "--algorithm: a compressed token tours a tree; give digest:hop=dfs, or --compress none");
    d->pack = pack_new(config->compress, config->dim, config->tensor, config->tensor_count);
    return 0;
}

/* -- the tree ------------------------------------------------------------------------------------- */

/* (node_count) who is above each member in the tree; RANK_NONE for the root and all others. Owned. */
static rank_t *tree_of(const struct digest *d, const struct stream_seat *m)
{
    rank_t *above = mem_new(d->node_count, sizeof *above);
    rank_t *queue = mem_new(m->member_count, sizeof *queue);
    uint32_t head = 0, tail = 0;
    for (rank_t v = 0; v < d->node_count; v++) above[v] = RANK_NONE;
    queue[tail++] = m->member[0];
    while (head < tail) {
        rank_t v = queue[head++];
        for (uint32_t i = d->graph->offset[v]; i < d->graph->offset[v + 1]; i++) {
            rank_t w = d->graph->neighbour[i];
            if (w == m->member[0] || above[w] != RANK_NONE || !seat_has(m, w)) continue;
            if (edge_listed(d->plan.down, d->plan.down_count, edge_of(v, w))) continue;
            above[w] = v;
            queue[tail++] = w;
        }
    }
    free(queue);
    return above;
}

void digest_lines_open(struct digest *d, struct stream_seat *m)
{
    if (d->pack == NULL) return;
    m->line = mem_new_zero(neighbour_count(d), sizeof *m->line);
    rank_t *above = tree_of(d, m);
    for (size_t i = 0; i < neighbour_count(d); i++) {
        rank_t peer = neighbour_at(d, i), low = peer < d->rank ? peer : d->rank;
        struct line *l = &m->line[i];
        l->in_tree = above[peer] == d->rank || above[d->rank] == peer;
        mirror_init(&l->mirror, d->pack, d->dim, d->seed, low, low == peer ? d->rank : peer, m->stream);
        l->mirror.dither = d->rank;
    }
    free(above);
}

void digest_line_forget(struct stream_seat *m, size_t slot)
{
    if (m->line != NULL) mirror_forget(&m->line[slot].mirror);
}

void digest_lines_forget(const struct digest *d, struct stream_seat *m)
{
    for (size_t i = 0; i < neighbour_count(d); i++) digest_line_forget(m, i);
}

void digest_lines_close(const struct digest *d, struct stream_seat *m)
{
    digest_lines_forget(d, m);
    free(m->line);
    m->line = NULL;
}

/* A new link: both ends count from the beginning. */
void digest_line_restart(struct stream_seat *m, size_t slot)
{
    if (m->line == NULL) return;
    digest_line_forget(m, slot);
    m->line[slot].sent = 0;
}

/* -- crossing ------------------------------------------------------------------------------------- */

/* The value a message builds on, as its sender names it; 0 = none. */
static uint64_t base_named(uint64_t number, bool senders_own)
{
    return number << 1 | senders_own;
}

void digest_line_send(const struct digest *d, struct stream_seat *m, struct algo_msg *msg)
{
    if (!m->along) {
        msg->vec = blob_ref(m->snapshot);
        return;
    }
    struct line *l = &m->line[digest_slot(d, m->custody.sent_to)];
    if (l->mine && !l->confirmed) mirror_forget(&l->mirror);
    uint64_t base = base_named(l->number, l->mine);
    l->mirror.count = ++l->sent;
    struct blob *left = mirror_send(&l->mirror, blob_floats(m->snapshot), m->snapshot, msg);
    l->number = l->sent;
    l->mine = true;
    l->confirmed = false;
    l->stamp = m->custody.last;
    msg->field[FIELD_NUMBER] = l->number;
    msg->field[FIELD_BASE] = msg->packed != NULL ? base : 0;
    blob_unref(m->snapshot);
    m->snapshot = left;
}

void digest_line_acknowledged(const struct digest *d, struct stream_seat *m, rank_t from,
                              const struct token_stamp *stamp)
{
    if (m->line == NULL) return;
    struct line *l = &m->line[digest_slot(d, from)];
    if (l->mine && token_stamp_compare(&l->stamp, stamp) == 0) l->confirmed = true;
}

static bool same_generation(const struct token_stamp *a, const struct token_stamp *b)
{
    return a->generation == b->generation && a->maker == b->maker;
}

void digest_line_heed_fork(const struct digest *d, struct stream_seat *m, rank_t from,
                           const struct token_stamp *last)
{
    if (m->line == NULL || same_generation(last, &m->custody.last)) return;
    for (size_t i = 0; i < neighbour_count(d); i++)
        if (neighbour_at(d, i) != from) digest_line_forget(m, i);
    if (!same_generation(last, &m->fork) || token_stamp_compare(last, &m->fork) > 0) m->fresh = true;
}

/* Not on a line: a tour by any edge. */
static int receive_whole(const struct digest *d, struct stream_seat *m, const struct algo_msg *msg,
                         struct blob **token)
{
    if (msg->vec == NULL || msg->field[FIELD_BASE] != 0) return ERR_PROTO;
    if (m->line != NULL) digest_lines_forget(d, m);
    *token = blob_ref(msg->vec);
    return 0;
}

int digest_line_receive(const struct digest *d, struct stream_seat *m, rank_t from,
                        const struct algo_msg *msg, struct blob **token)
{
    uint64_t number = msg->field[FIELD_NUMBER], base = msg->field[FIELD_BASE];
    *token = NULL;
    if (number == 0) return receive_whole(d, m, msg, token);
    if (m->line == NULL || (base == 0) != (msg->vec != NULL)) return ERR_PROTO;
    struct line *l = &m->line[digest_slot(d, from)];
    if (base != 0 && (l->mirror.value == NULL || base != base_named(l->number, !l->mine))) return 0;
    l->mirror.count = number;
    int err = mirror_receive(&l->mirror, msg, token);
    if (err != 0) return err;
    l->number = number;
    l->mine = false;
    return 0;
}
