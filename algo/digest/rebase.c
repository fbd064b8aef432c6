/* DIGEST's re-base: a new plan when nodes or links come and go (docs/algorithms.md, "membership change").
 *
 * The greater epoch (number, proposer) wins wherever two plans meet within a part.
 *
 * Normal course
 *  - plan 0 leaves nothing out and starts from x0; every node computes it, nothing is sent.
 * Failure courses
 *  - a neighbour is gone for `patience` and some stream needs it (it glues two streams, or bridges one):
 *    after a random moment the node proposes a plan without that neighbour's edges. That the peer is dead is
 *    a guess, made once per loss; a node whose link to it stands proposes its edges back, and then only the
 *    broken edge is left out. Each node answers only for its own links, so the guesses end.
 *  - a left-out neighbour is back, on the same plan: a plan with the edges between its part and ours.
 *  - it is back and has another plan (the parts went on by themselves): the side with the greater epoch asks
 *    for the other's aggregate (OFFER) and proposes the average of both, weighted by the data of the parts. Where
 *    weights stay (reweigh=no) and the other side has done little alone, it proposes its own: they hand over anew.
 *  - a glue node restarted and forgot what its streams told each other, or a token was lost: a plan with the
 *    same edges.
 *  - all stopped and began again: who begins first (restored) has no token unless it is the first of a stream,
 *    who joins it makes none. It proposes a plan, `patience` after a neighbour is there, until it has mixed.
 *  - adopting: r = q = base, x = base + (x - r): progress not yet handed over is kept; what a node has handed over
 *    of late and the base lacks it hands over once more (ledger.c).
 *  - a message of another epoch changes nothing; the side that is behind gets the plan.
 *  - a plan that is malformed, or whose edges are not in the graph: ERR_PROTO.
 */
#include <stdlib.h>
#include <string.h>

#include "algo/digest/internal.h"
#include "base/check.h"

enum { ALONE_SYNCS_MAX = 100 };
enum { DOWN_EDGE_MAX = ALGO_BITS_MAX / sizeof(struct edge), EPOCH_STEP_MAX = 1000000 };

static const double WEIGHT_UNIT = 1e9; /* weights travel as whole billionths */

/* -- edges ------------------------------------------------------------------------------------- */

static bool left_out(const struct digest *d, size_t slot)
{
    return edge_listed(d->plan.down, d->plan.down_count, edge_of(d->rank, neighbour_at(d, slot)));
}

/* -- wanting a plan ---------------------------------------------------------------------------- */

static void want_plan(struct digest *d)
{
    if (d->propose_us != TIME_NEVER) return;
    /* A random moment lets one proposal win instead of all neighbours proposing at once. */
    d->propose_us = d->now_us + 1 + (uint64_t)(prng_unit(&d->prng) * (double)d->patience_us / 4);
}

/* Looks at our own links; wants a new plan where plan and links disagree. A peer with a greater epoch will
 * propose itself; one with a smaller epoch is waited for until it has offered its aggregate. */
static void reconsider(struct digest *d)
{
    for (size_t i = 0; i < neighbour_count(d); i++) {
        if (d->up[i] && left_out(d, i) && epoch_compare(&d->known[i], &d->plan.epoch) == 0) want_plan(d);
        if (!digest_gone(d, i) || left_out(d, i) || d->judged[i]) continue;
        d->judged[i] = true;
        if (digest_loss_matters(d, i)) want_plan(d);
    }
}

/* -- proposing --------------------------------------------------------------------------------- */

/* A neighbour that the plan leaves out, that is back, and whose plan is ours (or whose aggregate we hold). */
static bool welcome(const struct digest *d, size_t slot)
{
    if (!d->up[slot] || !left_out(d, slot)) return false;
    return epoch_compare(&d->known[slot], &d->plan.epoch) == 0 || (d->offer != NULL && d->offer_slot == slot);
}

/* Does edge e come back into use together with the neighbour at `slot`? Its own edges do, and those
 * between its part and ours; should one of them still be broken, its owner will say so. */
static bool comes_back(const struct digest *d, struct edge e, size_t slot)
{
    rank_t peer = neighbour_at(d, slot);
    if (e.a == peer || e.b == peer) return true;
    rank_t ours = d->plan.part[d->rank], theirs = d->plan.part[peer];
    rank_t a = d->plan.part[e.a], b = d->plan.part[e.b];
    return (a == ours && b == theirs) || (a == theirs && b == ours);
}

/* The edges the next plan leaves out, from the present plan and our own links. Returns owned memory. */
static struct edge *edges_wanted(struct digest *d, uint32_t *count)
{
    const struct plan *p = &d->plan;
    struct edge *list = mem_new(p->down_count + 2 * (size_t)d->graph->edge_count + 1, sizeof *list);
    uint32_t n = 0;
    for (uint32_t e = 0; e < p->down_count; e++) {
        bool back = false;
        for (size_t i = 0; i < neighbour_count(d) && !back; i++)
            back = welcome(d, i) && comes_back(d, p->down[e], i);
        if (!back) list[n++] = p->down[e];
    }
    for (size_t i = 0; i < neighbour_count(d); i++) {
        struct edge own = edge_of(d->rank, neighbour_at(d, i));
        if (!digest_gone(d, i) || edge_listed(list, n, own)) continue;
        if (d->guessed[i])
            n = edge_add(list, n, own);
        else
            n = edge_add_all_of(d->graph, neighbour_at(d, i), list, n);
        d->guessed[i] = true;
    }
    *count = n;
    return list;
}

/* Takes down, with the lineage behind it. */
static void plan_adopt(struct digest *d, struct epoch epoch, struct edge *down, uint32_t count,
                       uint32_t lineage_words, struct blob *base)
{
    const float *old = blob_floats(d->reference);
    const float *new_base = blob_floats(base);
    if (d->rejoining && d->steps_handed_over == 0 && !d->owes)
        memcpy(d->x, new_base, d->dim * sizeof(float)); /* our start was long ago for the others */
    else
        for (size_t j = 0; j < d->dim; j++) d->x[j] = new_base[j] + (d->x[j] - old[j]);
    blob_unref(d->reference);
    d->reference = blob_ref(base);
    blob_unref(d->plan.base);
    d->plan.base = blob_ref(base);
    digest_offer_drop(d);
    digest_streams_drop(d);
    digest_spend(d, d->plan.down);
    d->plan.epoch = epoch;
    d->plan.down = down;
    d->plan.down_count = count;
    d->plan.lineage_words = lineage_words;
    d->unsure = false;
    digest_ledger_heed_plan(d);
    digest_plan_settle(d);
    d->late = false;
    d->counters.rebases++;
    trace_line(d->trace, TRACE_INFO, "plan %u.%u: %u edges left out, %u streams here, weight %.4f",
               epoch.number, epoch.proposer, count, d->own_count, d->share);
}

static void plan_flood(struct digest *d, rank_t except, struct algo_actions *acts)
{
    for (size_t i = 0; i < neighbour_count(d); i++)
        if (d->up[i] && neighbour_at(d, i) != except) digest_plan_send(d, neighbour_at(d, i), acts);
}

void digest_offer_drop(struct digest *d)
{
    blob_unref(d->offer);
    d->offer = NULL;
    d->offer_words = 0;
}

/* Is what the other part has done alone nothing, or so little that its nodes still have it and can hand it over
 * once more? With weights that stay what they are this keeps all of both, an average half of each. */
static bool offer_is_little(const struct digest *d)
{
    if (d->offer_weight <= 0) return true;
    uint32_t theirs = d->plan.part[neighbour_at(d, d->offer_slot)];
    uint64_t nodes = 0;
    for (uint32_t v = 0; v < d->node_count; v++) nodes += d->plan.part[v] == theirs;
    return !d->reweigh && digest_offer_syncs(d) <= ALONE_SYNCS_MAX * nodes;
}

/* Our aggregate, averaged with an offered one by the weight of data behind each. Returns owned. */
static struct blob *base_average(const struct digest *d)
{
    double ours = digest_data_behind(d), theirs = d->offer_weight;
    if (theirs > 1 - ours) theirs = 1 - ours; /* the parts are apart: it cannot have counted ours truly */
    float share = (float)(theirs > 0 ? theirs / (ours + theirs) : 0);
    const float *own = blob_floats(d->reference);
    const float *other = blob_floats(d->offer);
    struct blob *base = blob_new(d->dim * sizeof(float));
    float *out = blob_floats_own(base);
    for (size_t j = 0; j < d->dim; j++) out[j] = own[j] + share * (other[j] - own[j]);
    trace_line(d->trace, TRACE_INFO, "merging with rank %u's part: its share is %.3f",
               neighbour_at(d, d->offer_slot), (double)share);
    return base;
}

uint32_t digest_plan_number(const struct digest *d)
{
    uint32_t now = d->plan.epoch.number, former = d->former_plan;
    return (former > now && former - now < EPOCH_STEP_MAX ? former : now) + 1;
}

/* Adopts the next plan. Takes down. */
static void plan_make(struct digest *d, struct edge *down, uint32_t count)
{
    struct epoch epoch = {digest_plan_number(d), d->rank};
    bool average = d->offer != NULL && !offer_is_little(d);
    uint32_t words;
    uint32_t *lineage =
        average ? digest_lineage_merged(d, count, &words) : digest_lineage_own(d, count, &words);
    struct blob *base = average ? base_average(d) : blob_ref(d->reference);
    down = mem_resize(down, count * sizeof *down + words * sizeof *lineage + 1, 1);
    if (words > 0) memcpy(down + count, lineage, words * sizeof *lineage);
    plan_adopt(d, epoch, down, count, words, base);
    free(lineage);
    blob_unref(base);
}

static void propose(struct digest *d, struct algo_actions *acts)
{
    d->propose_us = TIME_NEVER;
    d->late = false;
    uint32_t count;
    struct edge *down = edges_wanted(d, &count);
    bool same =
        count == d->plan.down_count && (count == 0 || memcmp(down, d->plan.down, count * sizeof *down) == 0);
    if (same && !d->forced) { /* what was lost is back */
        free(down);
        return;
    }
    if (count > DOWN_EDGE_MAX) {
        trace_line(d->trace, TRACE_WARN, "cannot re-plan: %u lost edges, at most %d fit a plan", count,
                   DOWN_EDGE_MAX);
        free(down);
        return;
    }
    plan_make(d, down, count);
    plan_flood(d, RANK_NONE, acts);
}

/* -- events ------------------------------------------------------------------------------------ */

void digest_rebase_peer_up(struct digest *d, size_t slot, bool restarted)
{
    d->judged[slot] = d->guessed[slot] = false;
    if (d->restored && d->counters.mixes == 0) {
        d->forced = true;
        if (d->propose_us == TIME_NEVER) d->propose_us = d->now_us + d->patience_us;
    }
    /* A restarted node has forgotten what its streams told each other. In one stream only, nothing is lost. */
    if (!restarted || digest_streams_of(d, neighbour_at(d, slot)) < 2) return;
    d->forced = true;
    want_plan(d);
}

void digest_rebase_peer_down(struct digest *d, size_t slot)
{
    d->judged[slot] = false;
}

void digest_rebase_tick(struct digest *d, struct algo_actions *acts)
{
    reconsider(d);
    if (d->now_us < d->propose_us) return;
    if (digest_plan_blank(d) && d->now_us < d->blank_until_us)
        d->propose_us = d->now_us + d->patience_us;
    else
        propose(d, acts);
}

void digest_rebase_force(struct digest *d, struct algo_actions *acts)
{
    d->forced = true;
    propose(d, acts);
}

uint64_t digest_rebase_deadline_us(const struct digest *d)
{
    uint64_t next = d->propose_us;
    for (size_t i = 0; i < neighbour_count(d); i++) {
        if (d->down_us[i] == TIME_NEVER || d->judged[i]) continue;
        if (left_out(d, i)) continue;
        uint64_t at = d->down_us[i] + d->patience_us;
        if (at < next) next = at;
    }
    return next;
}

/* -- messages ---------------------------------------------------------------------------------- */

void digest_status_send(struct digest *d, rank_t to, bool wanted, struct algo_actions *acts)
{
    struct algo_msg *msg = algo_send(acts, to, DIGEST_STATUS);
    msg->field_count = STATUS_FIELDS;
    msg->field[FIELD_EPOCH] = d->plan.epoch.number;
    msg->field[FIELD_PROPOSER] = d->plan.epoch.proposer;
    msg->field[FIELD_WANTED] = wanted;
    msg->field[FIELD_LATE] = d->late;
}

void digest_plan_send(struct digest *d, rank_t to, struct algo_actions *acts)
{
    CHECK(d->plan.base != NULL); /* plan 0 is never below anybody's */
    size_t size = d->plan.down_count * sizeof(struct edge) + d->plan.lineage_words * sizeof(uint32_t);
    d->known[digest_slot(d, to)] = d->plan.epoch;
    struct algo_msg *msg = algo_send(acts, to, DIGEST_PLAN);
    msg->field_count = PLAN_FIELDS;
    msg->field[FIELD_EPOCH] = d->plan.epoch.number;
    msg->field[FIELD_PROPOSER] = d->plan.epoch.proposer;
    msg->field[FIELD_EDGES] = d->plan.down_count;
    msg->bits = size > 0 ? (const uint8_t *)d->plan.down : NULL;
    msg->bits_size = (uint32_t)size;
    msg->vec = blob_ref(d->plan.base);
    d->counters.model_transfers++;
}

static struct epoch epoch_of(const struct algo_msg *msg)
{
    return (struct epoch){(uint32_t)msg->field[FIELD_EPOCH], (rank_t)msg->field[FIELD_PROPOSER]};
}

static bool epoch_is_sound(const struct digest *d, const struct algo_msg *msg)
{
    return msg->field[FIELD_EPOCH] <= (uint64_t)d->plan.epoch.number + EPOCH_STEP_MAX &&
           msg->field[FIELD_EPOCH] < UINT32_MAX && msg->field[FIELD_PROPOSER] < d->node_count;
}

/* The peer is behind us: it gets the plan if it is in our part; if the plan leaves it out, its part went on
 * alone and we ask for its aggregate first. */
static void help_behind(struct digest *d, rank_t peer, struct algo_actions *acts)
{
    if (left_out(d, digest_slot(d, peer)))
        digest_status_send(d, peer, true, acts);
    else
        digest_plan_send(d, peer, acts);
}

bool digest_epoch_matches(struct digest *d, rank_t from, const struct algo_msg *msg,
                          struct algo_actions *acts)
{
    struct epoch theirs = epoch_of(msg);
    d->known[digest_slot(d, from)] = theirs;
    int order = epoch_compare(&theirs, &d->plan.epoch);
    if (order == 0) return true;
    d->counters.duplicates_dropped++;
    if (order < 0)
        help_behind(d, from, acts);
    else
        digest_status_send(d, from, false, acts);
    return false;
}

static void offer_send(struct digest *d, rank_t to, struct algo_actions *acts)
{
    struct algo_msg *msg = algo_send(acts, to, DIGEST_OFFER);
    msg->field_count = OFFER_FIELDS;
    msg->field[FIELD_EPOCH] = d->plan.epoch.number;
    msg->field[FIELD_PROPOSER] = d->plan.epoch.proposer;
    msg->field[FIELD_WEIGHT] = (uint64_t)(digest_data_behind(d) * WEIGHT_UNIT);
    uint32_t words;
    uint32_t *lineage = digest_lineage_own(d, 0, &words);
    digest_spend(d, lineage);
    msg->bits = words > 0 ? (const uint8_t *)lineage : NULL;
    msg->bits_size = words * (uint32_t)sizeof *lineage;
    msg->vec = blob_ref(d->reference);
}

int digest_status_message(struct digest *d, rank_t from, const struct algo_msg *msg,
                          struct algo_actions *acts)
{
    if (msg->field_count != STATUS_FIELDS || !epoch_is_sound(d, msg) || msg->field[FIELD_WANTED] > 1 ||
        msg->field[FIELD_LATE] > 1)
        return ERR_PROTO;
    struct epoch theirs = epoch_of(msg);
    d->known[digest_slot(d, from)] = theirs;
    int order = epoch_compare(&theirs, &d->plan.epoch);
    if (order == 0 && msg->field[FIELD_LATE] == 0) d->late = false;
    if (order > 0 && msg->field[FIELD_WANTED] == 1) {
        offer_send(d, from, acts);
        d->counters.model_transfers++;
    }
    if (order >= 0) return 0;
    help_behind(d, from, acts);
    for (uint32_t i = 0; i < d->own_count; i++) { /* a token it could not place before it knew the plan */
        struct stream_seat *m = &d->own[i];
        const struct custody *c = &m->custody;
        /* Not when its process is another one: the one before may have passed the token on. */
        if (c->place == CUSTODY_SENT && c->sent_to == from && !c->link_lost) digest_token_repeat(d, m, acts);
    }
    return 0;
}

int digest_offer_message(struct digest *d, rank_t from, const struct algo_msg *msg)
{
    if (msg->field_count != OFFER_FIELDS || msg->vec == NULL || !epoch_is_sound(d, msg) ||
        msg->field[FIELD_WEIGHT] > (uint64_t)WEIGHT_UNIT + 1000 || msg->bits_size % sizeof(uint32_t) != 0)
        return ERR_PROTO;
    struct epoch theirs = epoch_of(msg), after = {theirs.number, theirs.proposer + 1};
    uint32_t *lineage = mem_new(msg->bits_size + 1, 1);
    if (msg->bits_size > 0) memcpy(lineage, msg->bits, msg->bits_size);
    if (!digest_lineage_is_sound(d, lineage, msg->bits_size / (uint32_t)sizeof *lineage, &after)) {
        free(lineage);
        return ERR_PROTO;
    }
    if (epoch_compare(&theirs, &d->plan.epoch) >= 0 || !left_out(d, digest_slot(d, from))) {
        free(lineage);
        d->counters.duplicates_dropped++;
        return 0;
    }
    digest_offer_drop(d);
    free(d->offer_lineage);
    d->offer = blob_ref(msg->vec);
    d->offer_lineage = lineage;
    d->offer_words = msg->bits_size / (uint32_t)sizeof *lineage;
    d->offer_slot = digest_slot(d, from);
    d->offer_weight = (double)msg->field[FIELD_WEIGHT] / WEIGHT_UNIT;
    want_plan(d);
    return 0;
}

/* Ascending, distinct, and edges of our graph. */
static bool edges_are_sound(const struct digest *d, const struct edge *list, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (list[i].a >= list[i].b || list[i].b >= d->node_count) return false;
        if (!graph_has_edge(d->graph, list[i].a, list[i].b)) return false;
        if (i > 0 && edge_compare(&list[i - 1], &list[i]) >= 0) return false;
    }
    return true;
}

/* Edges, then the lineage. */
static bool plan_is_sound(const struct digest *d, const struct algo_msg *msg)
{
    if (msg->field_count != PLAN_FIELDS || msg->vec == NULL || !epoch_is_sound(d, msg)) return false;
    return msg->bits_size % sizeof(uint32_t) == 0 &&
           msg->field[FIELD_EDGES] <= msg->bits_size / sizeof(struct edge);
}

int digest_plan_message(struct digest *d, rank_t from, const struct algo_msg *msg, struct algo_actions *acts)
{
    if (!plan_is_sound(d, msg)) return ERR_PROTO;
    struct epoch theirs = epoch_of(msg);
    uint32_t count = (uint32_t)msg->field[FIELD_EDGES];
    uint32_t lineage_words =
        (msg->bits_size - count * (uint32_t)sizeof(struct edge)) / (uint32_t)sizeof(uint32_t);
    struct edge *down = mem_new(msg->bits_size, 1);
    if (msg->bits_size > 0) memcpy(down, msg->bits, msg->bits_size);
    if (!edges_are_sound(d, down, count) ||
        !digest_lineage_is_sound(d, (const uint32_t *)(down + count), lineage_words, &theirs)) {
        free(down);
        return ERR_PROTO;
    }
    d->known[digest_slot(d, from)] = theirs;
    if (epoch_compare(&theirs, &d->plan.epoch) <= 0) {
        free(down);
        d->counters.duplicates_dropped++;
        return 0;
    }
    plan_adopt(d, theirs, down, count, lineage_words, msg->vec);
    d->counters.mixes++;
    plan_flood(d, from, acts);
    return 0;
}
