/* DIGEST's ledger: what this node has handed over of late, so that a token made anew or a new plan that begins
 * without some of it gets that once more, and nothing twice.
 *
 * A hand-over is tagged with where it went: plan, stream, stamp of the token as it left. Values tell what they
 * may hold: `heard`, by stream of the plan, the greatest stamp whose hand-overs may be in them. A token carries
 * it for all streams, a sync takes the greater of both sides, and a plan names for each of its last ancestors what
 * its base had heard (its lineage). Claims are never too small: what is claimed and missing is lost, what is not
 * claimed is not there.
 *
 * Normal course
 *  - a sync enters the progress that it hands over; the oldest entry makes room.
 * Failure courses
 *  - a new plan: an entry of which no tag is held by the plan's lineage is owed, and goes with the next sync, under one
 *    more tag. Of a plan that is not in the lineage, though no older than it, nothing is held (it lost against
 *    another one). What is older than the lineage is taken as held.
 *  - a token made anew from a snapshot: an entry handed to the token before it, later than that snapshot, is owed.
 *  - an average of two parts may hold what either does: its lineage is both of theirs.
 *  - a node whose start is another than the common one does not know what it holds (unsure) until its first sync;
 *    a plan that it proposes before has no lineage.
 *  - all stopped and began again, and somebody who was away has entries of the former life, with the same plans and
 *    stamps: stamps of plan 0 are greater then (digest.c) and say that anything may be held; a plan that is proposed
 *    after it has no lineage and a greater number than those of the former life (state.c).
 *  - compressed tokens: what they leave behind counts as handed over.
 *  - more streams than a token can tell of: plans have no lineage.
 */
#include <stdlib.h>
#include <string.h>

#include "algo/digest/internal.h"
#include "base/check.h"

enum { LEDGER_BYTES_MAX = 32 << 20 };
enum { FORK_BYTES = 16 };   /* u32 generation, u32 maker, u64 sequence */
enum { ANCESTOR_HEAD = 3 }; /* words: epoch, count of streams; what was heard of each follows */

static uint32_t claim_of(uint64_t sequence)
{
    return sequence < UINT32_MAX ? (uint32_t)sequence : UINT32_MAX;
}

static bool same_generation(const struct token_stamp *a, const struct token_stamp *b)
{
    return a->generation == b->generation && a->maker == b->maker;
}

/* -- what values hold -------------------------------------------------------------------------- */

static bool several(const struct digest *d)
{
    return d->plan.streams.count > 1;
}

uint32_t digest_claims_size_max(const struct digest *d)
{
    uint32_t size = several(d) ? 4 * d->plan.streams.count : FORK_BYTES * FORKS_MAX;
    return d->bits_size + size <= ALGO_BITS_MAX ? size : 0; /* 0: nothing is told */
}

uint32_t digest_claims_size(const struct digest *d, const struct stream_seat *m)
{
    return several(d) ? digest_claims_size_max(d) : FORK_BYTES * m->older_count;
}

static struct token_stamp fork_read(const uint8_t *at)
{
    uint32_t word[2];
    uint64_t sequence;
    memcpy(word, at, sizeof word);
    memcpy(&sequence, at + sizeof word, sizeof sequence);
    return (struct token_stamp){word[0], word[1], sequence};
}

static void fork_write(const struct token_stamp *fork, uint8_t *at)
{
    const uint32_t word[2] = {fork->generation, fork->maker};
    memcpy(at, word, sizeof word);
    memcpy(at + sizeof word, &fork->sequence, sizeof fork->sequence);
}

bool digest_claims_are_sound(const struct digest *d, const struct algo_msg *token)
{
    uint32_t size = token->bits_size - (uint32_t)d->bits_size;
    if (several(d)) return size == digest_claims_size_max(d);
    if (size % FORK_BYTES != 0 || size > digest_claims_size_max(d)) return false;
    uint64_t above = token->field[FIELD_FORK_GENERATION];
    for (uint32_t at = 0; at < size; at += FORK_BYTES) {
        struct token_stamp fork = fork_read(token->bits + d->bits_size + at);
        if (fork.generation >= above || fork.maker >= d->node_count) return false;
        above = fork.generation;
    }
    return true;
}

void digest_claims_read(struct digest *d, struct stream_seat *m, const struct algo_msg *token)
{
    m->older_count = several(d) ? 0 : (token->bits_size - (uint32_t)d->bits_size) / FORK_BYTES;
    for (uint32_t i = 0; i < m->older_count; i++)
        m->older_fork[i] = fork_read(token->bits + d->bits_size + i * FORK_BYTES);
}

void digest_claims_fork(struct digest *d, struct stream_seat *m, const struct token_stamp *snapshot)
{
    if (snapshot->generation > 0 && !several(d) && digest_claims_size_max(d) > 0) {
        if (m->older_count < FORKS_MAX) m->older_count++;
        memmove(m->older_fork + 1, m->older_fork, (m->older_count - 1) * sizeof m->fork);
        m->older_fork[0] = m->fork;
        for (uint32_t i = 0; i < m->older_count; i++)
            fork_write(&m->older_fork[i], m->visited + d->bits_size + i * FORK_BYTES);
    }
    m->fork = *snapshot;
}

void digest_heard_merge(struct digest *d, struct stream_seat *m)
{
    uint8_t *claims = m->visited + d->bits_size;
    if (d->unsure) memset(d->heard, 0, d->plan.streams.count * sizeof *d->heard);
    d->unsure = false;
    uint32_t own = claim_of(m->custody.last.sequence);
    if (!several(d) || own > d->heard[m->stream]) d->heard[m->stream] = own;
    if (!several(d) || digest_claims_size_max(d) == 0) return;
    for (uint32_t s = 0; s < d->plan.streams.count; s++) {
        uint32_t told;
        memcpy(&told, claims + 4 * s, sizeof told);
        if (told > d->heard[s]) d->heard[s] = told;
    }
    memcpy(claims, d->heard, d->plan.streams.count * sizeof *d->heard);
}

/* -- lineages of plans --------------------------------------------------------------------------  */

static uint32_t ancestor_words(const uint32_t *ancestor)
{
    return ANCESTOR_HEAD + ancestor[2];
}

static struct epoch ancestor_epoch(const uint32_t *ancestor)
{
    return (struct epoch){ancestor[0], ancestor[1]};
}

bool digest_lineage_is_sound(const struct digest *d, const uint32_t *lineage, uint32_t words,
                             const struct epoch *epoch)
{
    struct epoch before = {0, 0};
    for (uint32_t at = 0; at < words;) {
        if (words - at < ANCESTOR_HEAD || lineage[at + 2] > words - at - ANCESTOR_HEAD) return false;
        struct epoch e = ancestor_epoch(lineage + at);
        if (e.proposer >= d->node_count || epoch_compare(&e, epoch) >= 0) return false;
        if (at > 0 && epoch_compare(&e, &before) <= 0) return false;
        before = e;
        at += ancestor_words(lineage + at);
    }
    return true;
}

/* Forgets the oldest until the rest is few enough and fits. Returns what is left of *words. */
static uint32_t lineage_trim(uint32_t *lineage, uint32_t words, uint32_t edges)
{
    uint32_t room = (uint32_t)((ALGO_BITS_MAX - edges * sizeof(struct edge)) / sizeof *lineage), count = 0,
             at = 0;
    for (uint32_t i = 0; i < words; i += ancestor_words(lineage + i)) count++;
    for (; at < words && (words - at > room || count > ANCESTORS_MAX); count--)
        at += ancestor_words(lineage + at);
    memmove(lineage, lineage + at, (words - at) * sizeof *lineage);
    return words - at;
}

/* Does our reference come from stamps beyond what claims can tell, as those of a restored model? */
static bool is_beyond_claims(const struct digest *d)
{
    for (uint32_t s = 0; s < d->plan.streams.count; s++)
        if (d->heard[s] == UINT32_MAX) return true;
    return false;
}

uint32_t *digest_lineage_own(const struct digest *d, uint32_t edges, uint32_t *words)
{
    const struct plan *p = &d->plan;
    uint32_t streams = p->streams.count;
    uint32_t *lineage = mem_new(p->lineage_words + ANCESTOR_HEAD + streams, sizeof *lineage);
    uint32_t *own = lineage + p->lineage_words;
    if (p->lineage_words > 0) memcpy(lineage, plan_lineage(p), p->lineage_words * sizeof *lineage);
    own[0] = p->epoch.number;
    own[1] = p->epoch.proposer;
    own[2] = streams;
    if (streams > 0) memcpy(own + ANCESTOR_HEAD, d->heard, streams * sizeof *own);
    bool known = !d->unsure && !is_beyond_claims(d) && (!several(d) || digest_claims_size_max(d) > 0);
    *words = !known ? 0 : lineage_trim(lineage, p->lineage_words + ANCESTOR_HEAD + streams, edges);
    return lineage;
}

/* One ancestor of both lineages: what either has heard. */
static void ancestor_join(uint32_t *into, const uint32_t *other)
{
    for (uint32_t s = 0; s < into[2] && s < other[2]; s++) {
        uint32_t *heard = into + ANCESTOR_HEAD + s;
        if (other[ANCESTOR_HEAD + s] > *heard) *heard = other[ANCESTOR_HEAD + s];
    }
}

/* Both in order of epoch. What is older than the younger one of their ends is left out: one of them may hold it. */
static uint32_t lineages_join(const uint32_t *a, uint32_t a_words, const uint32_t *b, uint32_t b_words,
                              uint32_t *out)
{
    if (a_words == 0 || b_words == 0) return 0;
    struct epoch end = ancestor_epoch(a), b_end = ancestor_epoch(b);
    if (epoch_compare(&b_end, &end) > 0) end = b_end;
    uint32_t i = 0, k = 0, words = 0;
    while (i < a_words || k < b_words) {
        struct epoch x = i < a_words ? ancestor_epoch(a + i) : (struct epoch){UINT32_MAX, RANK_NONE};
        struct epoch y = k < b_words ? ancestor_epoch(b + k) : (struct epoch){UINT32_MAX, RANK_NONE};
        int order = epoch_compare(&x, &y);
        const uint32_t *first = order <= 0 ? a + i : b + k;
        bool wanted = epoch_compare(order <= 0 ? &x : &y, &end) >= 0;
        if (wanted) memcpy(out + words, first, ancestor_words(first) * sizeof *out);
        if (wanted && order == 0) ancestor_join(out + words, b + k);
        if (wanted) words += ancestor_words(first);
        if (order <= 0) i += ancestor_words(a + i);
        if (order >= 0) k += ancestor_words(b + k);
    }
    return words;
}

uint32_t *digest_lineage_merged(const struct digest *d, uint32_t edges, uint32_t *words)
{
    uint32_t own_words;
    uint32_t *own = digest_lineage_own(d, edges, &own_words);
    uint32_t *lineage = mem_new(own_words + d->offer_words + 1, sizeof *lineage);
    *words = lineages_join(own, own_words, d->offer_lineage, d->offer_words, lineage);
    *words = lineage_trim(lineage, *words, edges);
    free(own);
    return lineage;
}

/* The ancestor of that epoch in the lineage; NULL. */
static const uint32_t *lineage_find(const uint32_t *lineage, uint32_t words, const struct epoch *epoch)
{
    for (uint32_t at = 0; at < words; at += ancestor_words(lineage + at)) {
        struct epoch e = ancestor_epoch(lineage + at);
        if (epoch_compare(&e, epoch) == 0) return lineage + at;
    }
    return NULL;
}

uint64_t digest_offer_syncs(const struct digest *d)
{
    uint64_t syncs = UINT64_MAX;
    for (uint32_t at = 0; at < d->offer_words; at += ancestor_words(d->offer_lineage + at)) {
        const uint32_t *a = d->offer_lineage + at;
        struct epoch e = ancestor_epoch(a);
        const uint32_t *ours = lineage_find(plan_lineage(&d->plan), d->plan.lineage_words, &e);
        if (ours != NULL) syncs = 0;
        for (uint32_t s = 0; s < a[2] && syncs != UINT64_MAX; s++) {
            uint32_t before = ours != NULL && s < ours[2] ? ours[ANCESTOR_HEAD + s] : 0;
            if (a[ANCESTOR_HEAD + s] > before) syncs += a[ANCESTOR_HEAD + s] - before;
        }
    }
    return syncs;
}

/* May the base of a plan with this lineage hold what has this tag? */
static bool lineage_holds(const uint32_t *lineage, uint32_t words, const struct tag *t)
{
    for (uint32_t at = 0; at < words; at += ancestor_words(lineage + at)) {
        struct epoch e = ancestor_epoch(lineage + at);
        int order = epoch_compare(&t->epoch, &e);
        if (order < 0) return at == 0;
        if (order == 0)
            return t->stream >= lineage[at + 2] ||
                   claim_of(t->stamp.sequence) <= lineage[at + ANCESTOR_HEAD + t->stream];
    }
    return words == 0;
}

void digest_ledger_heed_plan(struct digest *d)
{
    for (uint32_t i = 0; i < d->handover_count; i++) {
        struct handover *h = &d->handover[i];
        bool held = false;
        for (uint32_t k = 0; k < h->tag_count && !held; k++)
            held = lineage_holds(plan_lineage(&d->plan), d->plan.lineage_words, &h->tag[k]);
        h->owed = !held;
    }
}

/* -- tokens made anew -------------------------------------------------------------------------- */

/* May m's token, of a stream that is the only one of its plan, hold what has this tag? Its generations are a
 * chain, each made from a snapshot of the one before. What is not of this plan is: the base was judged by. */
static bool token_holds(const struct digest *d, const struct stream_seat *m, const struct tag *t)
{
    const struct token_stamp *now = &m->custody.last, *oldest = &m->fork;
    if (epoch_compare(&t->epoch, &d->plan.epoch) != 0 || t->stream != m->stream) return true;
    if (same_generation(&t->stamp, now) || now->generation == 0) return true;
    if (same_generation(&t->stamp, oldest)) return t->stamp.sequence <= oldest->sequence;
    for (uint32_t i = 0; i < m->older_count; i++) {
        oldest = &m->older_fork[i];
        if (same_generation(&t->stamp, oldest)) return t->stamp.sequence <= oldest->sequence;
    }
    return t->stamp.generation < oldest->generation;
}

void digest_ledger_heed_token(struct digest *d, const struct stream_seat *m)
{
    if (several(d)) return;
    for (uint32_t i = 0; i < d->handover_count; i++) {
        struct handover *h = &d->handover[i];
        bool held = false;
        for (uint32_t k = 0; k < h->tag_count && !held; k++) held = token_holds(d, m, &h->tag[k]);
        if (epoch_compare(&h->tag[0].epoch, &d->plan.epoch) == 0) h->owed = !held;
    }
}

/* -- hand-overs -------------------------------------------------------------------------------- */

/* The entry at i goes; its vector stays, behind the entries in use. */
static void entry_drop(struct digest *d, uint32_t i)
{
    struct handover gone = d->handover[i];
    d->handover_count--;
    memmove(&d->handover[i], &d->handover[i + 1], (d->handover_count - i) * sizeof gone);
    d->handover[d->handover_count] = (struct handover){.progress = gone.progress};
}

static bool tags_fit(const struct handover *old, const struct handover *young)
{
    return old->tag_count + young->tag_count <= TAGS_MAX && !old->owed && !young->owed;
}

/* Of two in the same stream of the same plan the earlier one speaks for both. */
static void tag_add(struct handover *h, const struct tag *t)
{
    for (uint32_t k = 0; k < h->tag_count; k++) {
        struct tag *own = &h->tag[k];
        if (epoch_compare(&own->epoch, &t->epoch) != 0 || own->stream != t->stream) continue;
        if (!same_generation(&own->stamp, &t->stamp)) continue;
        if (t->stamp.sequence < own->stamp.sequence) own->stamp = t->stamp;
        return;
    }
    h->tag[h->tag_count++] = *t;
}

static void entry_merge(struct digest *d, uint32_t i)
{
    struct handover *old = &d->handover[i], *young = &d->handover[i + 1];
    for (size_t j = 0; j < d->dim; j++) young->progress[j] += old->progress[j];
    for (uint32_t k = 0; k < old->tag_count; k++) tag_add(young, &old->tag[k]);
    young->size += old->size;
    entry_drop(d, i);
}

/* Where more than `run` entries of one size follow each other, the two oldest of them become one: what is
 * recent is known in detail, the rest ever more coarsely. Otherwise the oldest goes. */
static void entry_make_room(struct digest *d)
{
    uint32_t run = d->handovers_kept < 8 ? 1 : 2, length = 1;
    for (uint32_t i = d->handover_count - 1; i-- > 0;) {
        length = d->handover[i].size == d->handover[i + 1].size ? length + 1 : 1;
        bool oldest = i == 0 || d->handover[i - 1].size != d->handover[i].size;
        if (length <= run || !oldest || !tags_fit(&d->handover[i], &d->handover[i + 1])) continue;
        entry_merge(d, i);
        return;
    }
    entry_drop(d, 0);
}

static void entry_add(struct digest *d)
{
    if (d->handover_count == d->handovers_kept) entry_make_room(d);
    struct handover *h = &d->handover[d->handover_count++];
    if (h->progress == NULL) h->progress = mem_new(d->dim, sizeof *h->progress);
    const float *r = blob_floats(d->reference);
    for (size_t j = 0; j < d->dim; j++) h->progress[j] = d->x[j] - r[j];
    h->size = 1;
    h->open = true;
}

void digest_ledger_open(struct digest *d)
{
    if (d->steps > d->steps_handed_over || d->owes) entry_add(d);
    for (uint32_t i = 0; i < d->handover_count; i++) {
        struct handover *h = &d->handover[i];
        if (!h->owed) continue;
        for (size_t j = 0; j < d->dim; j++) d->x[j] += h->progress[j];
        h->owed = false;
        h->open = true;
    }
}

void digest_ledger_close(struct digest *d, const struct stream_seat *m)
{
    for (uint32_t i = d->handover_count; i-- > 0;) {
        struct handover *h = &d->handover[i];
        if (!h->open) continue;
        h->open = false;
        if (h->tag_count == TAGS_MAX)
            entry_drop(d, i);
        else
            tag_add(h, &(struct tag){d->plan.epoch, m->stream, m->custody.last});
    }
}

void digest_ledger_init(struct digest *d)
{
    size_t fits = LEDGER_BYTES_MAX / (d->dim * sizeof(float));
    d->handovers_kept = fits < 2 ? 2 : fits > HANDOVERS_MAX ? HANDOVERS_MAX : (uint32_t)fits;
}

void digest_ledger_free(struct digest *d)
{
    for (uint32_t i = 0; i < HANDOVERS_MAX; i++) free(d->handover[i].progress);
    free(d->heard);
    free(d->offer_lineage);
}
