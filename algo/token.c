/* Custody of a travelling token. See token.h for the courses. */
#include "algo/token.h"

#include "base/check.h"

static const uint32_t generation_top = UINT32_MAX / 2; /* so that the next one never wraps */

enum { LOST_FACTOR = 4, FIRST_FACTOR = 8, MISSING_FACTOR = 2, FRUITLESS_MAX = 6 };

int token_stamp_compare(const struct token_stamp *a, const struct token_stamp *b)
{
    if (a->generation != b->generation) return a->generation < b->generation ? -1 : 1;
    if (a->maker != b->maker) return a->maker < b->maker ? -1 : 1;
    if (a->sequence != b->sequence) return a->sequence < b->sequence ? -1 : 1;
    return 0;
}

static int generation_compare(const struct token_stamp *a, const struct token_stamp *b)
{
    struct token_stamp x = {a->generation, a->maker, 0}, y = {b->generation, b->maker, 0};
    return token_stamp_compare(&x, &y);
}

static uint64_t later_of(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* The token was alive at `at_us` with that stamp: the clock of its absence starts from there. */
static void note_alive(struct custody *c, const struct token_stamp *stamp, uint64_t at_us)
{
    c->seeking = false;
    c->fruitless = 0;
    c->known = *stamp;
    c->alive_us = at_us;
    c->lost_us = at_us + later_of(LOST_FACTOR * c->absence_us, 2 * c->patience_us);
}

void custody_init(struct custody *c, rank_t self, bool here, uint64_t patience_us, uint64_t now_us)
{
    CHECK(patience_us > 0);
    *c = (struct custody){.self = self, .patience_us = patience_us};
    c->place = here ? CUSTODY_HELD : CUSTODY_AWAY;
    c->give_up_us = TIME_NEVER;
    c->seen_us = c->alive_us = now_us;
    c->lost_us = now_us + FIRST_FACTOR * patience_us;
}

void custody_begin_behind(struct custody *c, uint64_t sequence)
{
    CHECK(c->place == CUSTODY_HELD && c->last.generation == 0 && c->last.sequence == 0);
    c->last.sequence = c->known.sequence = sequence;
}

void custody_await_first(struct custody *c, bool missing, uint64_t now_us)
{
    if (c->place != CUSTODY_AWAY || c->seeking || c->known.generation > 0 || c->known.sequence > 0) return;
    c->lost_us = now_us + (missing ? MISSING_FACTOR : FIRST_FACTOR) * c->patience_us;
}

bool custody_stamp_fits(const struct custody *c, const struct token_stamp *stamp)
{
    uint32_t known = c->known.generation;
    bool near = stamp->generation <= known || stamp->generation - known <= TOKEN_GENERATION_AHEAD_MAX;
    return near && stamp->generation <= generation_top && stamp->sequence < UINT64_MAX / 2;
}

enum custody_verdict custody_receive(struct custody *c, const struct token_stamp *stamp, uint64_t now_us)
{
    if (token_stamp_compare(stamp, &c->last) <= 0 || generation_compare(stamp, &c->known) < 0)
        return CUSTODY_REPEAT;
    uint64_t absence = now_us - c->seen_us;
    c->absence_us = later_of(absence, c->absence_us - c->absence_us / 8);
    c->last = *stamp;
    c->place = CUSTODY_HELD;
    c->link_lost = false;
    c->seen_us = now_us;
    note_alive(c, &c->last, now_us);
    return CUSTODY_ACCEPT;
}

void custody_advance(struct custody *c)
{
    CHECK(c->place == CUSTODY_HELD);
    c->last.sequence++;
    c->known = c->last;
}

void custody_send(struct custody *c, rank_t to)
{
    CHECK(c->place == CUSTODY_HELD);
    c->place = CUSTODY_SENT;
    c->sent_to = to;
    c->link_lost = false;
    c->give_up_us = TIME_NEVER;
}

bool custody_acknowledged(struct custody *c, rank_t from, const struct token_stamp *stamp, uint64_t now_us)
{
    if (c->place != CUSTODY_SENT || c->sent_to != from) return false;
    if (token_stamp_compare(stamp, &c->last) != 0) return false;
    c->place = CUSTODY_AWAY;
    c->seen_us = now_us;
    if (token_stamp_compare(&c->last, &c->known) < 0) /* it was seen further on since: no news of life */
        c->lost_us = later_of(c->lost_us, now_us + c->patience_us);
    else
        note_alive(c, &c->last, now_us);
    return true;
}

void custody_peer_down(struct custody *c, rank_t peer, uint64_t now_us)
{
    if (c->place == CUSTODY_SENT && c->sent_to == peer) {
        c->link_lost = true;
        c->give_up_us = now_us + c->patience_us;
    } else if (c->place == CUSTODY_AWAY && c->sent_to == peer && c->seen_us + c->patience_us > now_us) {
        /* It may have died with the token we have just given it: look sooner than its usual absence. */
        uint64_t soon = now_us + c->patience_us;
        if (soon < c->lost_us) c->lost_us = soon;
    }
}

bool custody_peer_up(struct custody *c, rank_t peer, bool restarted, uint64_t now_us)
{
    if (c->place != CUSTODY_SENT || c->sent_to != peer || !c->link_lost) return false;
    if (restarted) {
        c->give_up_us = now_us;
        return false;
    }
    c->link_lost = false;
    c->give_up_us = TIME_NEVER;
    return true;
}

bool custody_living(const struct custody *c)
{
    return c->place == CUSTODY_HELD || (c->place == CUSTODY_SENT && !c->link_lost);
}

/* -- search ------------------------------------------------------------------------------------ */

/* Is (stamp, at) a better source than the best heard of? Equal stamps: the lower rank. */
static bool better(const struct custody *c, const struct token_stamp *stamp, rank_t at)
{
    int order = token_stamp_compare(stamp, &c->best);
    return order > 0 || (order == 0 && at < c->best_at);
}

static void search_begin(struct custody *c, uint64_t now_us)
{
    c->seeking = true;
    c->best = c->last;
    c->best_at = c->self;
    c->decide_us = now_us + c->patience_us;
}

uint64_t custody_age_us(const struct custody *c, uint64_t now_us)
{
    if (custody_living(c)) return 0;
    return c->alive_us == TIME_NEVER ? TIME_NEVER : now_us - c->alive_us;
}

/* A snapshot with a greater stamp than any heard of: the token got that far, but who knows when. Holding an
 * older generation ends here. */
static void raise_known(struct custody *c, const struct token_stamp *stamp)
{
    if (token_stamp_compare(stamp, &c->known) <= 0) return;
    if (generation_compare(stamp, &c->known) > 0) c->place = CUSTODY_AWAY;
    c->known = *stamp;
    c->alive_us = TIME_NEVER;
}

/* Somebody saw the token alive with `stamp` at at_us. */
static enum custody_seek heard_alive(struct custody *c, const struct token_stamp *stamp, uint64_t at_us,
                                     uint64_t now_us)
{
    int order = token_stamp_compare(stamp, &c->known);
    bool later = c->alive_us == TIME_NEVER || at_us > c->alive_us + c->patience_us / 2;
    if (order < 0 || (order == 0 && (!later || custody_living(c)))) return CUSTODY_QUIET;
    bool was_seeking = c->seeking;
    c->place = CUSTODY_AWAY; /* it is elsewhere: what we sent has arrived, what we held is fenced */
    note_alive(c, stamp, at_us);
    c->lost_us = later_of(c->lost_us, now_us + c->patience_us); /* never a search on the heels of an answer */
    return was_seeking ? CUSTODY_FLOOD_LIVE : CUSTODY_QUIET;
}

enum custody_seek custody_heard(struct custody *c, const struct token_stamp *stamp, rank_t claimant,
                                bool living, uint64_t age_us, uint64_t now_us)
{
    if (living && age_us >= c->patience_us) return CUSTODY_QUIET;
    if (living) return heard_alive(c, stamp, now_us > age_us ? now_us - age_us : 0, now_us);
    raise_known(c, stamp);
    if (custody_living(c)) {
        c->seeking = false;
        return CUSTODY_FLOOD_LIVE;
    }
    bool ahead = token_stamp_compare(&c->known, stamp) > 0;
    if (!c->seeking && ahead && custody_age_us(c, now_us) < c->patience_us) return CUSTODY_ANSWER_LIVE;
    bool news = !c->seeking;
    if (news) search_begin(c, now_us);
    if (better(c, stamp, claimant)) {
        c->best = *stamp;
        c->best_at = claimant;
        news = true;
    }
    return news ? CUSTODY_FLOOD : CUSTODY_QUIET;
}

/* The search is over. The owner of the newest snapshot makes the token anew. */
static enum custody_due decide(struct custody *c, uint64_t now_us)
{
    c->seeking = false;
    if (custody_living(c)) return CUSTODY_NOT_DUE;
    if (c->best_at != c->self || token_stamp_compare(&c->best, &c->last) != 0) {
        if (c->place == CUSTODY_SENT) c->place = CUSTODY_AWAY; /* somebody is ahead of us: our copy is old */
        if (c->fruitless < FRUITLESS_MAX) c->fruitless++;
        c->lost_us = now_us + ((2 * c->patience_us) << c->fruitless);
        return CUSTODY_NOT_DUE;
    }
    c->last.generation = c->known.generation + 1;
    c->last.maker = c->self;
    c->last.sequence++;
    c->place = CUSTODY_HELD;
    c->link_lost = false;
    c->seen_us = now_us;
    note_alive(c, &c->last, now_us);
    return CUSTODY_REGENERATE;
}

enum custody_due custody_tick(struct custody *c, uint64_t now_us)
{
    if (c->seeking) return now_us >= c->decide_us ? decide(c, now_us) : CUSTODY_NOT_DUE;
    bool overdue = c->place == CUSTODY_AWAY && now_us >= c->lost_us;
    bool stranded = c->place == CUSTODY_SENT && c->link_lost && now_us >= c->give_up_us;
    if (!overdue && !stranded) return CUSTODY_NOT_DUE;
    search_begin(c, now_us);
    return CUSTODY_SEARCH;
}

uint64_t custody_deadline_us(const struct custody *c)
{
    if (c->seeking) return c->decide_us;
    switch (c->place) {
    case CUSTODY_AWAY:
        return c->lost_us;
    case CUSTODY_SENT:
        return c->link_lost ? c->give_up_us : TIME_NEVER;
    case CUSTODY_HELD:
        return TIME_NEVER;
    }
    UNREACHABLE();
}
