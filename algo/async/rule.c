/* Who gets the next job. A pure function of (seed, counters, list), so that whoever replays the order log
 * assigns alike and a successor needs no further state (AsGrad, arXiv 2310.20452; B7.1 of its mapping).
 *
 *  pure      the sender of the gradient in this place; the member with the fewest jobs if the sender is off
 *            the list, or would have more than one job more than that one (which has come back to the list)
 *  random    uniform over the list, draw number `draws`
 *  shuffled  each block takes the members in a fresh uniform permutation
 *  once      the same permutation in every block
 *  cyclic    the identity, or the order given
 * Permutations are of all ranks; those off the list are passed over, so what is left is uniform as well. */
#include <stdlib.h>
#include <string.h>

#include "algo/async/internal.h"
#include "base/check.h"
#include "base/prng.h"

void async_rule_init(struct async_rule *r, enum async_rule_kind kind, uint64_t seed, uint32_t node_count,
                     uint32_t concurrency, uint32_t batch)
{
    *r = (struct async_rule){
        .kind = kind,
        .seed = seed,
        .node_count = node_count,
        .concurrency = concurrency,
        .batch = batch,
        .order = mem_new(node_count, sizeof(uint32_t)),
    };
}

void async_rule_deinit(struct async_rule *r)
{
    free(r->given);
    free(r->order);
    memset(r, 0, sizeof *r);
}

bool async_rule_set_order(struct async_rule *r, const char *text)
{
    uint32_t *given = mem_new(r->node_count, sizeof *given);
    bool *taken = mem_new_zero(r->node_count, sizeof *taken);
    uint32_t count = 0;
    bool good = true;
    while (good) {
        char *end;
        unsigned long value = *text >= '0' && *text <= '9' ? strtoul(text, &end, 10) : 0;
        good = value >= 1 && value <= r->node_count && count < r->node_count && !taken[value - 1];
        if (!good) break;
        taken[value - 1] = true;
        given[count++] = (uint32_t)value - 1;
        if (*end == '\0') break;
        good = *end == '-';
        text = end + 1;
    }
    good = good && count == r->node_count;
    free(taken);
    if (!good) {
        free(given);
        return false;
    }
    free(r->given);
    r->given = given;
    r->filled = false;
    return true;
}

/* Puts the permutation of the ledger's block into the cache. */
static void order_fill(struct async_rule *r, uint64_t block)
{
    if (r->kind != ASYNC_SHUFFLED) block = 0;
    if (r->filled && r->block == block) return;
    for (uint32_t i = 0; i < r->node_count; i++) r->order[i] = r->given != NULL ? r->given[i] : i;
    if (r->given == NULL && r->kind != ASYNC_CYCLIC) {
        struct prng random;
        prng_split(&random, r->seed, "async order", block);
        prng_shuffle(&random, r->order, r->node_count);
    }
    r->block = block;
    r->filled = true;
}

/* The next member in the permutation; beyond its end a new block begins. */
static rank_t next_in_order(struct async_rule *r, struct async_ledger *l)
{
    for (;;) {
        order_fill(r, l->block);
        while (l->place < r->node_count) {
            rank_t worker = r->order[l->place++];
            if (l->member[worker]) return worker;
        }
        l->block++;
        l->place = 0;
    }
}

static rank_t next_at_random(const struct async_rule *r, const struct async_ledger *l)
{
    struct prng random;
    prng_split(&random, r->seed, "async draw", l->draws);
    uint32_t left = prng_below(&random, l->member_count);
    for (rank_t k = 0;; k++) {
        if (!l->member[k]) continue;
        if (left-- == 0) return k;
    }
}

static uint32_t jobs_of(const struct async_ledger *l, rank_t k)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < l->job_count; i++) count += l->job[i].worker == k;
    return count;
}

static rank_t least_busy(const struct async_ledger *l)
{
    rank_t best = RANK_NONE;
    uint32_t best_count = 0;
    for (rank_t k = 0; k < l->node_count; k++) {
        if (!l->member[k]) continue;
        uint32_t count = jobs_of(l, k);
        if (best != RANK_NONE && count >= best_count) continue;
        best = k;
        best_count = count;
    }
    return best;
}

/* Back to the sender, whose job is out of the table by now. At the start no two members differ by more than
 * one job, and going back keeps that; only a change of the list upsets it, and then a job moves. */
static rank_t next_pure(const struct async_ledger *l, rank_t sender)
{
    rank_t idle = least_busy(l);
    return sender != RANK_NONE && l->member[sender] && jobs_of(l, sender) <= jobs_of(l, idle) ? sender : idle;
}

rank_t async_rule_next(struct async_rule *r, struct async_ledger *l, rank_t sender)
{
    CHECK(l->member_count > 0);
    rank_t worker = RANK_NONE;
    switch (r->kind) {
    case ASYNC_PURE:
        worker = next_pure(l, sender);
        break;
    case ASYNC_RANDOM:
        worker = next_at_random(r, l);
        break;
    case ASYNC_SHUFFLED:
    case ASYNC_ONCE:
    case ASYNC_CYCLIC:
        worker = next_in_order(r, l);
        break;
    }
    l->draws++;
    return worker;
}

uint32_t async_rule_target(const struct async_rule *r, const struct async_ledger *l)
{
    uint32_t target = r->concurrency > 0 ? r->concurrency : l->member_count;
    return target > r->batch ? target : r->batch; /* fewer would never fill a batch */
}
