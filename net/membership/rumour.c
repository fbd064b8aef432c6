/* How news travels: in every message, in gossip of its own, and in SYNC.
 *
 * Normal course
 *  - a record that changed is a rumour: it goes with every message and, every gossip_us, to gossip_fanout random
 *    linked members, until it was sent 4 * ceil(log10(n + 1)) times. Ours goes first, then what was sent least.
 *  - an accusation goes with each of its accusers in turn, so that all confirmations get round.
 *  - a new link: our record and a hash of what we know. Incarnations are not in the hash: they grow with each word
 *    about load or progress, and most links are made for one probe.
 *  - SYNC: all records, ours first, in parts of SWIM_UPDATE_MAX; only the last part is a SYNC and asks, those
 *    before it are SYNC_REPLYs. The answer holds what the asker did not tell or told older, and our own record.
 *  - who cannot be dialled says anew, with each SYNC, that it is there: those without its link cannot ask.
 * Failure courses
 *  - a message to a member that is not ALIVE for us says so first, that it may refute.
 *  - nobody is linked: rumours wait. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "net/membership/internal.h"

/* -- memory of what is sent -------------------------------------------------------------------- */

/* Room for `count` records that stays until the next step. */
static struct member *store_take(struct membership *m, uint32_t count)
{
    struct update_store *s = &m->store;
    CHECK(count <= SWIM_UPDATE_MAX);
    if (s->block_count > 0 && s->used + count > SWIM_UPDATE_MAX) {
        s->block_now++;
        s->used = 0;
    }
    if (s->block_now == s->block_count) {
        s->block = mem_resize(s->block, s->block_count + 1, sizeof *s->block);
        s->block[s->block_count++] = mem_new(SWIM_UPDATE_MAX, sizeof(struct member));
    }
    struct member *taken = s->block[s->block_now] + s->used;
    s->used += count;
    return taken;
}

/* Returns what was taken but not used. */
static void store_give_back(struct membership *m, uint32_t count)
{
    CHECK(count <= m->store.used);
    m->store.used -= count;
}

/* -- rumours ----------------------------------------------------------------------------------- */

uint32_t membership_transmit_max(const struct membership *m)
{
    return 4 * (uint32_t)ceil(log10((double)m->live + 1));
}

void membership_rumour_start(struct membership *m, struct record *r)
{
    r->sent = 0;
    if (r->is_rumour) return;
    r->is_rumour = true;
    if (m->rumour_count == m->rumour_capacity) {
        m->rumour_capacity = m->rumour_capacity == 0 ? 16 : m->rumour_capacity * 2;
        m->rumour = mem_resize(m->rumour, m->rumour_capacity, sizeof *m->rumour);
    }
    m->rumour[m->rumour_count++] = r;
    if (m->rumour_count > 1) return;
    uint64_t soon_us = time_after(m->now_us, prng_below(&m->prng, (uint32_t)(m->config.gossip_us / 2) + 1));
    uint64_t next_us = m->gossiped_us == 0 ? 0 : time_after(m->gossiped_us, m->config.gossip_us);
    m->gossip_at_us = soon_us > next_us ? soon_us : next_us;
}

void membership_rumour_stop(struct membership *m, struct record *r)
{
    if (!r->is_rumour) return;
    r->is_rumour = false;
    for (uint32_t i = 0; i < m->rumour_count; i++) {
        if (m->rumour[i] != r) continue;
        m->rumour[i] = m->rumour[--m->rumour_count];
        return;
    }
}

static int by_times_sent(const void *left, const void *right)
{
    const struct record *a = *(struct record *const *)left, *b = *(struct record *const *)right;
    if (a->sent != b->sent) return a->sent < b->sent ? -1 : 1;
    return a->m.id < b->m.id ? -1 : a->m.id > b->m.id;
}

/* The news that go into one message, best first. */
static uint32_t order_rumours(struct membership *m)
{
    if (m->rumour_count > GOSSIP_UPDATE_MAX)
        qsort(m->rumour, m->rumour_count, sizeof *m->rumour, by_times_sent);
    for (uint32_t i = 1; i < m->rumour_count; i++) {
        if (m->rumour[i] != m->self) continue;
        m->rumour[i] = m->rumour[0];
        m->rumour[0] = m->self;
    }
    return m->rumour_count < GOSSIP_UPDATE_MAX ? m->rumour_count : GOSSIP_UPDATE_MAX;
}

static void copy_out(struct member *to, const struct record *r)
{
    *to = r->m;
    if (r->m.state == MEMBER_SUSPECT) to->accuser = r->suspicion.by[r->turn % r->suspicion.count];
}

/* The first `count` rumours went out to `copies` members; those that went often enough end. */
static void count_sent(struct membership *m, uint32_t count, uint32_t copies)
{
    uint32_t limit = membership_transmit_max(m), kept = 0;
    for (uint32_t i = 0; i < m->rumour_count; i++) {
        struct record *r = m->rumour[i];
        if (i < count) {
            r->sent += copies;
            r->turn++;
        }
        r->is_rumour = r->sent < limit;
        if (r->is_rumour) m->rumour[kept++] = r;
    }
    m->rumour_count = kept;
}

/* What a message to `to` carries; `to` NOBODY: the same for several. Counts nothing. */
static uint32_t collect(struct membership *m, node_id to, const struct member **out, uint32_t *rumours)
{
    const struct record *of_receiver = membership_record(m, to);
    bool say_so = of_receiver != NULL && of_receiver->m.state != MEMBER_ALIVE;
    *rumours = order_rumours(m);
    *out = NULL;
    if (*rumours == 0 && !say_so) return 0;
    struct member *u = store_take(m, *rumours + 1);
    uint32_t count = 0;
    if (say_so) copy_out(&u[count++], of_receiver);
    for (uint32_t i = 0; i < *rumours; i++)
        if (!say_so || m->rumour[i] != of_receiver) copy_out(&u[count++], m->rumour[i]);
    store_give_back(m, *rumours + 1 - count);
    *out = u;
    return count;
}

/* -- messages ---------------------------------------------------------------------------------- */

void membership_send(struct membership *m, node_id to, struct swim_msg msg)
{
    uint32_t rumours;
    msg.update_count = collect(m, to, &msg.update, &rumours);
    count_sent(m, rumours, 1);
    membership_act(m, MEMBERSHIP_SEND, to)->msg = msg;
}

void membership_tell(struct membership *m, node_id to, const struct record *r)
{
    struct member *u = store_take(m, 1);
    copy_out(u, r);
    membership_act(m, MEMBERSHIP_SEND, to)->msg =
        (struct swim_msg){.kind = SWIM_GOSSIP, .update = u, .update_count = 1};
}

/* Draws up to `wanted` links other than that to `but` into m->scratch; returns how many there are. */
uint32_t membership_pick_links(struct membership *m, uint32_t wanted, node_id but)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < m->link_count; i++)
        if (m->link[i]->id != but) m->scratch[count++] = i;
    if (wanted > count) wanted = count;
    for (uint32_t i = 0; i < wanted; i++) {
        uint32_t j = i + prng_below(&m->prng, count - i), swapped = m->scratch[i];
        m->scratch[i] = m->scratch[j];
        m->scratch[j] = swapped;
    }
    return wanted;
}

void membership_gossip_now(struct membership *m, node_id to)
{
    if (m->link_count == 0 || m->rumour_count == 0) return;
    bool direct = membership_link(m, to) != NULL;
    uint32_t picked = membership_pick_links(m, m->config.gossip_fanout, direct ? to : NOBODY), rumours;
    struct swim_msg msg = {.kind = SWIM_GOSSIP};
    msg.update_count = collect(m, NOBODY, &msg.update, &rumours);
    if (direct) membership_act(m, MEMBERSHIP_SEND, to)->msg = msg;
    for (uint32_t i = 0; i < picked; i++)
        membership_act(m, MEMBERSHIP_SEND, m->link[m->scratch[i]]->id)->msg = msg;
    count_sent(m, rumours, picked + (direct ? 1 : 0));
}

void membership_gossip(struct membership *m)
{
    if (m->rumour_count == 0 || m->now_us < m->gossip_at_us) return;
    m->gossiped_us = m->now_us;
    m->gossip_at_us = time_after(m->now_us, m->config.gossip_us);
    membership_gossip_now(m, NOBODY);
}

/* -- SYNC -------------------------------------------------------------------------------------- */

static void sync_part(struct membership *m, const struct member_link *l, struct swim_msg msg)
{
    struct membership_action *a = membership_act(m, MEMBERSHIP_SEND, l->id);
    a->msg = msg;
    snprintf(a->msg.seen, sizeof a->msg.seen, "%s", l->address);
}

/* Sends our record, then those that pass; the last part is of kind `last`. */
static void sync_send(struct membership *m, const struct member_link *l, enum swim_kind last, bool all)
{
    struct member *u = store_take(m, SWIM_UPDATE_MAX);
    uint32_t count = 0;
    copy_out(&u[count++], m->self);
    for (uint32_t i = 0; i < m->record_count; i++) {
        const struct record *r = m->record[i];
        if (r == m->self || (!all && r->told == l->serial)) continue;
        if (count == SWIM_UPDATE_MAX) {
            sync_part(m, l, (struct swim_msg){.kind = SWIM_SYNC_REPLY, .update = u, .update_count = count});
            u = store_take(m, SWIM_UPDATE_MAX);
            count = 0;
        }
        copy_out(&u[count++], r);
    }
    store_give_back(m, SWIM_UPDATE_MAX - count);
    sync_part(m, l, (struct swim_msg){.kind = last, .update = u, .update_count = count});
}

uint64_t membership_sync_hash(const struct membership *m)
{
    uint64_t hash = 0;
    for (uint32_t i = 0; i < m->record_count; i++) {
        const struct member *u = &m->record[i]->m;
        hash = membership_mix(membership_mix(membership_mix(hash, u->id), u->boot), (uint64_t)u->state);
    }
    return hash | 1;
}

void membership_sync_short(struct membership *m, const struct member_link *l)
{
    struct member *u = store_take(m, 1);
    copy_out(u, m->self);
    sync_part(m, l,
              (struct swim_msg){
                  .kind = SWIM_SYNC, .number = membership_sync_hash(m), .update = u, .update_count = 1});
}

void membership_sync(struct membership *m, const struct member_link *l)
{
    sync_send(m, l, SWIM_SYNC, true);
}

void membership_sync_reply(struct membership *m, const struct member_link *l)
{
    sync_send(m, l, SWIM_SYNC_REPLY, false);
}

/* Stretched above 32 members, so that the load of a large cluster does not grow with its square. */
uint64_t membership_sync_interval_us(const struct membership *m)
{
    if (m->live <= 32) return m->config.sync_us;
    return m->config.sync_us * ((uint64_t)ceil(log2((double)m->live) - 5) + 1);
}

uint64_t membership_unheard_us(const struct membership *m)
{
    return 4 * membership_sync_interval_us(m);
}

static void say_that_we_are_here(struct membership *m)
{
    if (m->self->m.address[0] != '\0') return;
    m->self->m.incarnation++;
    m->self->told = 0;
    membership_rumour_start(m, m->self);
}

void membership_sync_random(struct membership *m)
{
    if (m->now_us < m->sync_at_us) return;
    m->sync_at_us = time_after(m->now_us, membership_sync_interval_us(m));
    say_that_we_are_here(m);
    if (membership_pick_links(m, 1, NOBODY) == 1) membership_sync(m, m->link[m->scratch[0]]);
}
