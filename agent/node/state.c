/* The node's side of the model's transfer: fetching it before training, giving it once we train (transfer.h).
 *
 * Normal course
 *  - FETCHING: each linked member that trains, and has at least half the progress of the best, is a donor; what
 *    comes goes into a buffer of its own and becomes x0 when it is whole. Keepers with more than we have are asked
 *    while nobody who trains can be.
 *  - training, or a keeper with a model: whoever asks is answered out of a snapshot of our model; chunks go in the bulk
 *    lane while it takes them, and as fast as give_bytes_s allows, all newcomers together.
 * Failure courses
 *  - we are asked and do not train (yet): BUSY, for a second.
 *  - what has come has no more steps behind it than what we have: a keeper, or a founder, keeps its own.
 *  - those with most progress give nothing for STALL_US: whoever trains is asked, however far behind.
 *  - what comes after the fetch is over: dropped.
 *  - a fetch ends before all has come: links on which an answer may be on its way are closed, so that it is not taken
 *    for one to the next fetch.
 *  - a peer that membership does not know, a body where none belongs or longer than a chunk: the link is closed. */
#include <stdlib.h>
#include <string.h>

#include "agent/node/internal.h"
#include "base/check.h"

#define BUSY_US 1000000u
#define DONOR_MAX 3u
#define NEWCOMER_MAX 4u
#define WINDOW 4u
#define KEEPER_AFTER_US 1000000u /* links to those who train may be on their way */
#define STALL_US 30000000u       /* a fetch that nothing comes from for so long takes any donor */
#define QUEUE_MAX 16u
#define SILENCE_US 2000000u
#define SNAPSHOT_US 3000000u /* who comes later gets a newer model */

static void state_apply(struct node *n)
{
    for (size_t i = 0; i < n->state_actions.count; i++) {
        const struct transfer_action *a = &n->state_actions.item[i];
        if (a->kind == TRANSFER_DONE) {
            n->dirty = true;
            continue;
        }
        struct link *l = node_link_of(n, a->to);
        if (l == NULL) continue;
        int err = node_send_state(n, l, &a->msg);
        if (err == ERR_FULL && a->msg.kind == STATE_CHUNK && n->donor != NULL)
            donor_full(n->donor, a->to, a->msg.first);
    }
    transfer_actions_clear(&n->state_actions);
}

/* -- fetching ---------------------------------------------------------------------------------- */

static bool fetch_stalls(const struct node *n)
{
    return n->fetch != NULL && node_now_us(n) >= time_after(n->came_us, STALL_US);
}

uint64_t node_progress_best(const struct node *n)
{
    uint64_t best = 0;
    if (fetch_stalls(n)) return 0;
    for (uint32_t i = 0; i < membership_count(n->membership); i++) {
        const struct member *m = membership_at(n->membership, i);
        if (node_member_trains(n, m) && m->meta[META_PROGRESS] > best) best = m->meta[META_PROGRESS];
    }
    return best;
}

bool node_member_gives(const struct node *n, const struct member *m, uint64_t best)
{
    uint64_t progress = m->meta[META_PROGRESS];
    if (progress < best / 2) return false;
    if (node_member_keeps(n, m)) return progress > n->steps;
    return node_member_trains(n, m) && (progress > n->steps || !n->config.keeper);
}

static void donor_found(struct node *n, const struct link *l, uint64_t best)
{
    const struct member *m = membership_find(n->membership, l->peer);
    if (m == NULL || !node_member_gives(n, m, best)) return;
    bool keeps = node_member_keeps(n, m);
    if (keeps && node_now_us(n) < n->fetch_us + KEEPER_AFTER_US && node_trainers(n) > 0) return;
    (keeps ? fetch_keeper_up : fetch_donor_up)(n->fetch, l->peer, m->meta[META_PROGRESS], node_now_us(n),
                                               &n->state_actions);
}

void node_fetch_begin(struct node *n)
{
    CHECK(n->fetch == NULL);
    n->fetched = mem_new(n->config.dim, sizeof *n->fetched);
    struct fetch_config config = {
        .x = n->fetched,
        .dim = n->config.dim,
        .donor_max = DONOR_MAX,
        .window = WINDOW,
        .silence_us = SILENCE_US,
        .seed = n->config.seed ^ n->config.id ^ n->config.boot,
        .again = n->fetched_once,
    };
    n->fetch = fetch_new(&config);
    n->fetched_once = true;
    n->fetch_us = n->came_us = node_now_us(n);
    n->came_chunks = 0;
    node_state_members(n);
}

static void fetch_abandon(struct node *n)
{
    for (struct link *l = n->oldest; l != NULL; l = l->newer)
        if (!l->closing && fetch_awaits(n->fetch, l->peer)) node_link_close(n, l, DOWN_LOCAL);
}

void node_fetch_end(struct node *n)
{
    if (!fetch_done(n->fetch)) fetch_abandon(n);
    uint64_t steps = fetch_steps(n->fetch);
    bool late = !n->config.keeper && node_trainers(n) > 0; /* what the others have is what counts */
    if (fetch_done(n->fetch) && (late || steps > n->steps)) {
        trace_line(n->config.trace, TRACE_INFO, "the model of %llu steps has been fetched",
                   (unsigned long long)steps);
        free(n->x0);
        n->x0 = n->fetched;
        n->fetched = NULL;
        n->has_model = true;
        if (!late) { /* a keeper's: what the method kept belongs to a model that is gone */
            blob_unref(n->method);
            n->method = NULL;
        }
        if (steps > n->steps) n->steps = n->steps_told = steps;
        n->self.meta[META_PROGRESS] = n->steps;
        n->self_changed = n->dirty = true; /* others should know at once: our start is no common one */
    }
    free(n->fetched);
    n->fetched = NULL;
    fetch_free(n->fetch);
    n->fetch = NULL;
}

void node_state_members(struct node *n)
{
    if (n->fetch == NULL) return;
    uint64_t best = node_progress_best(n);
    for (const struct link *l = n->oldest; l != NULL; l = l->newer)
        if (!l->closing) donor_found(n, l, best);
    state_apply(n);
}

void node_state_up(struct node *n, const struct link *l)
{
    if (n->fetch == NULL) return;
    donor_found(n, l, node_progress_best(n));
    state_apply(n);
}

void node_state_down(struct node *n, node_id peer)
{
    if (n->fetch != NULL) fetch_donor_down(n->fetch, peer, node_now_us(n), &n->state_actions);
    if (n->donor != NULL) donor_link_down(n->donor, peer);
    state_apply(n);
}

/* -- giving ------------------------------------------------------------------------------------ */

void node_donor_begin(struct node *n)
{
    CHECK(n->donor == NULL);
    struct donor_config config = {
        .dim = n->config.dim,
        .chunk_size = STATE_CHUNK_SIZE,
        .newcomer_max = NEWCOMER_MAX,
        .rate_bytes_s = n->config.give_bytes_s,
        .snapshot_us = SNAPSHOT_US,
        .queue_max = QUEUE_MAX,
        .seed = n->config.seed ^ n->config.id ^ n->config.boot,
    };
    n->donor = donor_new(&config);
}

void node_donor_end(struct node *n)
{
    donor_free(n->donor);
    n->donor = NULL;
}

void node_state_writable(struct node *n, const struct link *l)
{
    if (n->donor == NULL) return;
    donor_writable(n->donor, l->peer, node_model(n), node_now_us(n), &n->state_actions);
    state_apply(n);
}

static int donor_asked(struct node *n, struct link *from, const struct state_msg *msg)
{
    if (n->donor == NULL) {
        const struct state_msg busy = {.kind = STATE_BUSY, .wait_us = BUSY_US};
        if (msg->kind == STATE_ASK) node_send_state(n, from, &busy);
        return 0;
    }
    int err =
        donor_message(n->donor, from->peer, msg, node_model(n), n->steps, node_now_us(n), &n->state_actions);
    state_apply(n);
    return err;
}

/* Looks whether anything has come. */
static void fetch_note(struct node *n)
{
    uint64_t chunks, of;
    uint32_t donors;
    fetch_progress(n->fetch, &chunks, &of, &donors);
    if (chunks == n->came_chunks) return;
    n->came_chunks = chunks;
    n->came_us = node_now_us(n);
    node_keeper_gives(n);
}

static int fetch_told(struct node *n, const struct link *from, const struct state_msg *msg)
{
    if (n->fetch == NULL) return 0;
    int err = fetch_message(n->fetch, from->peer, msg, node_now_us(n), &n->state_actions);
    fetch_note(n);
    state_apply(n);
    return err;
}

const char *node_state_heard(struct node *n, struct link *from, struct state_msg *msg, struct blob *body)
{
    if (n->membership == NULL || membership_find(n->membership, from->peer) == NULL)
        return "speaks of the model and is no member";
    if ((body != NULL) != (msg->kind == STATE_CHUNK))
        return "sent a chunk without a body, or a body without a chunk";
    if (body != NULL && body->size > STATE_CHUNK_SIZE) return "sent a chunk that is too long";
    msg->body = body;
    int err = 0;
    switch (msg->kind) {
    case STATE_ASK:
    case STATE_GET:
    case STATE_DONE:
        err = donor_asked(n, from, msg);
        break;
    case STATE_OFFER:
    case STATE_CHUNK:
    case STATE_BUSY:
    case STATE_GONE:
        err = fetch_told(n, from, msg);
        break;
    }
    return err == 0 ? NULL : "sent a message about the model that makes no sense";
}

/* -- time -------------------------------------------------------------------------------------- */

void node_state_tick(struct node *n, uint64_t now_us)
{
    if (n->fetch != NULL && fetch_deadline_us(n->fetch) <= now_us)
        fetch_deadline(n->fetch, now_us, &n->state_actions);
    if (n->donor != NULL && donor_deadline_us(n->donor) <= now_us)
        donor_deadline(n->donor, node_model(n), now_us, &n->state_actions);
    state_apply(n);
}

uint64_t node_state_deadline_us(const struct node *n)
{
    uint64_t at_us = n->fetch != NULL ? fetch_deadline_us(n->fetch) : TIME_NEVER;
    uint64_t donor_us = n->donor != NULL ? donor_deadline_us(n->donor) : TIME_NEVER;
    return donor_us < at_us ? donor_us : at_us;
}

void node_state_deinit(struct node *n)
{
    transfer_actions_deinit(&n->state_actions);
    fetch_free(n->fetch);
    donor_free(n->donor);
    free(n->fetched);
}
