/* Keepers: members without a place, that hold the model for the others; and founders that begin with a keeper's.
 *
 * Normal course
 *  - a keeper tells NODE_KEEPING as its phase, whatever it does; for places.h it is nobody.
 *  - somebody who trains tells of more steps than our model has behind it: it is fetched as a late comer does
 *    (node/state.c), at most every keep_every_us. Nobody trains: from a keeper that has more.
 *  - what has come is given to whoever asks, a newer one from the next snapshot on.
 *  - founders without steps listen for listen_us once enough are known: of a keeper one may hear a little later.
 *  - founders that know a keeper with more steps than they have fetch its model first: each that has none of its own,
 *    or, with a method that needs a common start, the one that begins; the others then fetch from it.
 * Failure courses
 *  - founders hear of a keeper only after they have begun: they go on; it keeps its model until they have more steps.
 *  - what was fetched has no more steps behind it than what we hold: it is dropped (node/state.c). A keeper never
 *    goes back.
 *  - whoever gives is gone before all has come: the fetch ends, the next one follows when somebody is ahead.
 *  - no keeper gives anything for FOUNDER_WAIT_US, or no more after its first chunks: the founder begins without, and
 *    says so. */
#include <stdio.h>

#include "agent/node/internal.h"
#include "base/check.h"

#define KEEP_EVERY_US 30000000u
#define FOUNDER_WAIT_US 30000000u

bool node_member_keeps(const struct node *n, const struct member *m)
{
    bool living = m->state == MEMBER_ALIVE || m->state == MEMBER_SUSPECT;
    return m->id != n->config.id && living && m->meta[META_PHASE] == NODE_KEEPING + 1;
}

uint64_t node_kept_best(const struct node *n)
{
    uint64_t best = 0;
    for (uint32_t i = 0; i < membership_count(n->membership); i++) {
        const struct member *m = membership_at(n->membership, i);
        if (node_member_keeps(n, m) && m->meta[META_PROGRESS] > best) best = m->meta[META_PROGRESS];
    }
    return best;
}

/* -- founders ---------------------------------------------------------------------------------- */

bool node_founder_listens(struct node *n)
{
    uint64_t now_us = node_now_us(n);
    if (n->config.listen_us == 0 || n->steps > 0 || n->rank != RANK_NONE) return false;
    if (n->listen_until_us == 0) n->listen_until_us = now_us + n->config.listen_us;
    if (now_us >= n->listen_until_us) return false;
    if (n->listen_until_us < n->review_at_us) n->review_at_us = n->listen_until_us;
    return true;
}

bool node_keeper_is_ahead(const struct node *n)
{
    if (n->config.algo->own_start && n->steps > 0) return false;
    return node_kept_best(n) > n->steps && node_now_us(n) < n->keepers_until_us;
}

void node_keeper_await(struct node *n)
{
    if (n->keepers_until_us == TIME_NEVER) n->keepers_until_us = time_after(node_now_us(n), FOUNDER_WAIT_US);
}

void node_keeper_gives(struct node *n)
{
    if (n->keepers_until_us != TIME_NEVER) n->keepers_until_us = time_after(node_now_us(n), FOUNDER_WAIT_US);
}

/* -- a keeper ---------------------------------------------------------------------------------- */

/* Somebody has a model that is worth fetching. */
static bool somebody_gives(const struct node *n)
{
    uint64_t best = node_progress_best(n);
    for (uint32_t i = 0; i < membership_count(n->membership); i++)
        if (node_member_gives(n, membership_at(n->membership, i), best)) return true;
    return false;
}

void node_keep_review(struct node *n)
{
    uint64_t now_us = node_now_us(n), every_us = n->config.keep_every_us;
    if (n->fetch != NULL && (fetch_done(n->fetch) || !somebody_gives(n))) node_fetch_end(n);
    if (n->donor == NULL && n->steps > 0) node_donor_begin(n);
    if (n->fetch != NULL || now_us < n->keep_at_us || !somebody_gives(n)) return;
    n->keep_at_us = time_after(now_us, every_us > 0 ? every_us : KEEP_EVERY_US);
    node_fetch_begin(n);
    n->dirty = true;
}

void node_keep_text(const struct node *n, char out[NODE_WAIT_MAX])
{
    if (n->steps == 0 && node_trainers(n) == 0)
        snprintf(out, NODE_WAIT_MAX, "waiting for a model to keep: nobody trains");
    else if (n->steps == 0)
        snprintf(out, NODE_WAIT_MAX, "waiting for a model to keep: %u train", node_trainers(n));
    else
        snprintf(out, NODE_WAIT_MAX, "keeping a model of %llu steps", (unsigned long long)n->steps);
}
