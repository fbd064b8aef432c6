/* The network in memory of transfer_fixture.h. */
#include "tests/unit/transfer_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "base/check.h"

static size_t chunk_bytes(const struct rig *r, uint64_t chunk)
{
    size_t left = r->dim * sizeof(float) - chunk * RIG_CHUNK;
    return left < RIG_CHUNK ? left : RIG_CHUNK;
}

struct rig *rig_new(size_t floats, uint32_t donor_count, uint64_t seed)
{
    CHECK(donor_count <= RIG_DONOR_MAX);
    struct rig *r = mem_new_zero(1, sizeof *r);
    r->dim = floats;
    r->chunk_count = (uint32_t)((floats * sizeof(float) + RIG_CHUNK - 1) / RIG_CHUNK);
    r->x = mem_new_zero(floats, sizeof *r->x);
    r->before = mem_new_zero(floats, sizeof *r->before);
    r->source = mem_new_zero(r->chunk_count, sizeof *r->source);
    r->copies = mem_new_zero(r->chunk_count, sizeof *r->copies);
    r->arrived = mem_new_zero(r->chunk_count, sizeof *r->arrived);
    prng_seed(&r->p, seed);
    struct fetch_config fetch = {
        .x = r->x, .dim = floats, .donor_max = 3, .window = 4, .silence_us = RIG_SILENCE_US, .seed = seed};
    r->fetch = fetch_new(&fetch);
    struct donor_config config = {.dim = floats,
                                  .chunk_size = RIG_CHUNK,
                                  .newcomer_max = 4,
                                  .snapshot_us = RIG_SNAPSHOT_US,
                                  .queue_max = 8,
                                  .seed = seed};
    for (uint32_t i = 0; i < donor_count; i++) {
        struct rig_donor *d = &r->donor[r->donor_count++];
        config.seed = seed * 100 + i;
        *d = (struct rig_donor){.id = 101 + i, .chunk_us = 1000, .delay_us = 100};
        d->machine = donor_new(&config);
        d->x = mem_new(floats, sizeof *d->x);
        for (size_t k = 0; k < floats; k++) d->x[k] = (float)((i + 1) * 100000 + k);
    }
    return r;
}

static void message_drop(struct rig *r, size_t at)
{
    blob_unref(r->message[at].msg.body);
    r->message[at] = r->message[--r->message_count];
}

void rig_free(struct rig *r)
{
    while (r->message_count > 0) message_drop(r, 0);
    for (size_t i = 0; i < r->snapshot_count; i++) {
        free(r->snapshot[i].x);
        free(r->snapshot[i].sent);
    }
    for (uint32_t i = 0; i < r->donor_count; i++) {
        donor_free(r->donor[i].machine);
        free(r->donor[i].x);
    }
    fetch_free(r->fetch);
    transfer_actions_deinit(&r->acts);
    free(r->message);
    free(r->snapshot);
    free(r->x);
    free(r->before);
    free(r->source);
    free(r->copies);
    free(r->arrived);
    free(r);
}

static void broken(struct rig *r, const char *law, uint64_t chunk)
{
    if (r->wrong[0] == '\0') snprintf(r->wrong, sizeof r->wrong, "chunk %u: %s", (unsigned)chunk, law);
}

/* -- the net ----------------------------------------------------------------------------------- */

static struct rig_donor *donor_of(struct rig *r, node_id id)
{
    for (uint32_t i = 0; i < r->donor_count; i++)
        if (r->donor[i].id == id) return &r->donor[i];
    return NULL;
}

static uint64_t heard_us(const struct rig_donor *d, uint64_t at_us)
{
    return at_us >= d->mute_from_us && at_us < d->mute_until_us ? d->mute_until_us : at_us;
}

static void post(struct rig *r, struct rig_donor *d, node_id from, node_id to, const struct state_msg *msg)
{
    if (!d->linked) return;
    if (msg->body != NULL && d->capacity > 0 && d->in_flight >= d->capacity) {
        d->full = true;
        donor_full(d->machine, to, msg->first);
        return;
    }
    uint64_t at_us = r->now_us + d->delay_us;
    if (msg->body != NULL) {
        d->free_us = (d->free_us > r->now_us ? d->free_us : r->now_us) + d->chunk_us;
        at_us = d->free_us + d->delay_us;
        d->in_flight++;
        d->sent++;
    }
    if (r->message_count == r->message_capacity) {
        r->message_capacity = 2 * r->message_capacity + 16;
        r->message = mem_resize(r->message, r->message_capacity, sizeof *r->message);
    }
    struct rig_message *m = &r->message[r->message_count++];
    *m = (struct rig_message){heard_us(d, at_us), r->order++, from, to, *msg};
    blob_ref(m->msg.body);
}

static struct rig_snapshot *snapshot_of(struct rig *r, uint64_t id)
{
    for (size_t i = 0; i < r->snapshot_count; i++)
        if (r->snapshot[i].id == id) return &r->snapshot[i];
    return NULL;
}

/* A chunk of a snapshot is from its first sending on what the donor's model was then. */
static void remember_chunk(struct rig *r, const struct rig_donor *d, const struct state_msg *m)
{
    struct rig_snapshot *s = snapshot_of(r, m->snapshot);
    if (s == NULL) {
        r->snapshot = mem_resize(r->snapshot, r->snapshot_count + 1, sizeof *r->snapshot);
        s = &r->snapshot[r->snapshot_count++];
        *s = (struct rig_snapshot){m->snapshot, mem_new(r->dim, sizeof(float)),
                                   mem_new_zero(r->chunk_count, sizeof(bool))};
    }
    if (s->sent[m->first]) return;
    s->sent[m->first] = true;
    size_t at = m->first * RIG_CHUNK;
    memcpy((uint8_t *)s->x + at, (const uint8_t *)d->x + at, chunk_bytes(r, m->first));
}

static void carry_from_newcomer(struct rig *r)
{
    for (size_t i = 0; i < r->acts.count; i++) {
        const struct transfer_action *a = &r->acts.item[i];
        if (a->kind != TRANSFER_SEND) continue;
        r->gets += a->msg.kind == STATE_GET;
        struct rig_donor *d = donor_of(r, a->to);
        if (d == NULL || !d->linked)
            broken(r, "asked of a donor without a link", a->msg.first);
        else
            post(r, d, RIG_NEWCOMER, a->to, &a->msg);
    }
    transfer_actions_clear(&r->acts);
}

/* BUG_SNAPSHOT_SHARED: the chunk as the donor's model is now. */
static void forge_chunk(struct rig *r, const struct rig_donor *d, struct state_msg *m)
{
    const uint8_t *now = (const uint8_t *)d->x + m->first * RIG_CHUNK;
    blob_unref(m->body);
    m->body = blob_copy(now, chunk_bytes(r, m->first));
    m->hash = XXH3_64bits_withSeed(now, m->body->size, m->snapshot + m->first);
}

static void carry_from_donor(struct rig *r, struct rig_donor *d)
{
    for (size_t i = 0; i < r->acts.count; i++) {
        struct transfer_action *a = &r->acts.item[i];
        r->busy += a->msg.kind == STATE_BUSY;
        if (a->msg.kind == STATE_CHUNK) remember_chunk(r, d, &a->msg);
        if (a->msg.kind == STATE_CHUNK && r->bug == BUG_SNAPSHOT_SHARED) forge_chunk(r, d, &a->msg);
        post(r, d, d->id, a->to, &a->msg);
    }
    transfer_actions_clear(&r->acts);
}

void rig_up(struct rig *r, uint32_t donor)
{
    struct rig_donor *d = &r->donor[donor];
    CHECK(!d->linked);
    d->linked = true;
    d->full = false;
    d->in_flight = 0;
    d->free_us = r->now_us;
    (d->keeper ? fetch_keeper_up : fetch_donor_up)(r->fetch, d->id, 10 + donor, r->now_us, &r->acts);
    carry_from_newcomer(r);
}

void rig_down(struct rig *r, uint32_t donor)
{
    struct rig_donor *d = &r->donor[donor];
    CHECK(d->linked);
    d->linked = false;
    for (size_t i = r->message_count; i-- > 0;)
        if (r->message[i].from == d->id || r->message[i].to == d->id) message_drop(r, i);
    donor_link_down(d->machine, RIG_NEWCOMER);
    if (r->bug != BUG_DEATH_IGNORED) fetch_donor_down(r->fetch, d->id, r->now_us, &r->acts);
    carry_from_newcomer(r);
}

/* -- what arrives ------------------------------------------------------------------------------ */

/* Compares x with what it was: which chunks changed? */
static void watch_x(struct rig *r, const struct state_msg *m, int err)
{
    bool brings = m->kind == STATE_CHUNK && err == 0;
    for (uint64_t c = 0; c < r->chunk_count; c++) {
        uint8_t *was = (uint8_t *)r->before + c * RIG_CHUNK;
        const uint8_t *is = (const uint8_t *)r->x + c * RIG_CHUNK;
        if (memcmp(was, is, chunk_bytes(r, c)) == 0) continue;
        memcpy(was, is, chunk_bytes(r, c));
        if (!brings || c != m->first) broken(r, "changed by a message that does not bring it", c);
        if (r->copies[c]++ > 0) broken(r, "changed twice", c);
    }
}

static void damage(struct state_msg *m)
{
    struct blob *bad = blob_copy(m->body->data, m->body->size);
    blob_unref(m->body);
    bad->data[bad->size / 2] ^= 1;
    m->body = bad;
}

/* The bugs that stand between the net and the newcomer. */
static void plant(struct rig *r, const struct state_msg *m, struct state_msg *seen)
{
    *seen = *m;
    if (m->kind != STATE_CHUNK || m->body == NULL) return;
    if (r->bug == BUG_HASH_NOT_CHECKED)
        seen->hash = XXH3_64bits_withSeed(m->body->data, m->body->size, m->snapshot + m->first);
    if (m->first >= r->chunk_count || r->arrived[m->first] == 0) return;
    if (r->bug == BUG_OVERWRITTEN)
        memcpy((uint8_t *)r->x + m->first * RIG_CHUNK, m->body->data, m->body->size);
    if (r->bug == BUG_COUNTED_TWICE) r->bug_done = true;
}

/* Chunks that come although nobody sent them are taken like others: only x, and what follows, are watched. */
int rig_tell_newcomer(struct rig *r, struct rig_donor *d, const struct state_msg *msg)
{
    int err = fetch_message(r->fetch, d->id, msg, r->now_us, &r->acts);
    watch_x(r, msg, err);
    if (err == 0 && msg->kind == STATE_CHUNK && r->arrived[msg->first]++ == 0)
        r->source[msg->first] = msg->snapshot;
    if (err != 0 && r->acts.count > 0) broken(r, "a refused message had consequences", msg->first);
    r->proto_errors += err != 0;
    carry_from_newcomer(r);
    return err;
}

int rig_tell_donor(struct rig *r, struct rig_donor *d, const struct state_msg *msg)
{
    int err = donor_message(d->machine, RIG_NEWCOMER, msg, d->x, 10, r->now_us, &r->acts);
    if (err != 0 && r->acts.count > 0) broken(r, "a refused message had consequences", msg->first);
    r->proto_errors += err != 0;
    carry_from_donor(r, d);
    return err;
}

static void to_newcomer(struct rig *r, struct rig_message *m)
{
    struct rig_donor *d = donor_of(r, m->from);
    bool last = false;
    if (m->msg.kind == STATE_CHUNK) {
        r->delivered++;
        d->in_flight--;
        if (r->delivered == r->corrupt_at) damage(&m->msg);
        last = r->delivered == r->kill_at;
    }
    struct state_msg seen;
    plant(r, &m->msg, &seen);
    int err = rig_tell_newcomer(r, d, &seen);
    uint32_t at = (uint32_t)(d - r->donor);
    if (err != 0 || last) rig_down(r, at);
    if (err != 0) rig_up(r, at);
    if (d->full && d->in_flight <= d->capacity / 2) {
        d->full = false;
        donor_writable(d->machine, RIG_NEWCOMER, d->x, r->now_us, &r->acts);
        carry_from_donor(r, d);
    }
}

static void to_donor(struct rig *r, const struct rig_message *m)
{
    struct rig_donor *d = donor_of(r, m->to);
    int err = rig_tell_donor(r, d, &m->msg);
    CHECK(err == 0 || r->tolerant);
    if (err != 0) {
        rig_down(r, (uint32_t)(d - r->donor));
        rig_up(r, (uint32_t)(d - r->donor));
    }
    for (size_t k = 0; k < r->dim; k++) d->x[k] += 0.5f; /* it trains on */
}

/* -- time -------------------------------------------------------------------------------------- */

static size_t first_message(const struct rig *r)
{
    size_t first = 0;
    for (size_t i = 1; i < r->message_count; i++) {
        const struct rig_message *a = &r->message[i], *b = &r->message[first];
        if (a->at_us < b->at_us || (a->at_us == b->at_us && a->order < b->order)) first = i;
    }
    return first;
}

static void step_message(struct rig *r)
{
    size_t at = first_message(r);
    struct rig_message m = r->message[at];
    r->message[at] = r->message[--r->message_count];
    r->now_us = m.at_us > r->now_us ? m.at_us : r->now_us;
    if (m.to == RIG_NEWCOMER)
        to_newcomer(r, &m);
    else
        to_donor(r, &m);
    blob_unref(m.msg.body);
}

/* Deadlines of everybody that are due at now_us. */
static void step_time(struct rig *r)
{
    if (fetch_deadline_us(r->fetch) <= r->now_us) {
        fetch_deadline(r->fetch, r->now_us, &r->acts);
        carry_from_newcomer(r);
    }
    for (uint32_t i = 0; i < r->donor_count; i++) {
        struct rig_donor *d = &r->donor[i];
        if (donor_deadline_us(d->machine) > r->now_us) continue;
        donor_deadline(d->machine, d->x, r->now_us, &r->acts);
        carry_from_donor(r, d);
    }
}

static uint64_t next_deadline_us(const struct rig *r)
{
    uint64_t at_us = fetch_deadline_us(r->fetch);
    for (uint32_t i = 0; i < r->donor_count; i++) {
        uint64_t donor_us = donor_deadline_us(r->donor[i].machine);
        if (donor_us < at_us) at_us = donor_us;
    }
    return at_us;
}

bool rig_run(struct rig *r, uint64_t until_us)
{
    while (!fetch_done(r->fetch) && !r->bug_done && r->wrong[0] == '\0') {
        uint64_t message_us = r->message_count > 0 ? r->message[first_message(r)].at_us : TIME_NEVER;
        uint64_t at_us = next_deadline_us(r);
        if (message_us < at_us) at_us = message_us;
        if (at_us > until_us) {
            r->now_us = until_us;
            break;
        }
        if (at_us == message_us) {
            step_message(r);
            continue;
        }
        if (at_us > r->now_us) r->now_us = at_us;
        step_time(r);
    }
    return fetch_done(r->fetch) || r->bug_done;
}

/* -- the laws ---------------------------------------------------------------------------------- */

const char *rig_verdict(struct rig *r)
{
    for (uint64_t c = 0; c < r->chunk_count && r->wrong[0] == '\0'; c++) {
        const struct rig_snapshot *right = snapshot_of(r, r->source[c]);
        size_t at = c * RIG_CHUNK / sizeof(float);
        if (right == NULL || !right->sent[c])
            broken(r, "never came", c);
        else if (memcmp(r->x + at, right->x + at, chunk_bytes(r, c)) != 0)
            broken(r, "is not that of the snapshot it came from", c);
        else if (r->copies[c] != 1)
            broken(r, "was not copied exactly once", c);
    }
    return r->wrong[0] != '\0' ? r->wrong : NULL;
}

uint32_t rig_arrived_twice(const struct rig *r)
{
    uint32_t count = 0;
    for (uint32_t c = 0; c < r->chunk_count; c++) count += r->arrived[c] > 1 ? r->arrived[c] - 1 : 0;
    return count;
}
