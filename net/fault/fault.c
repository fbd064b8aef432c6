/* Injected faults: words, and the rules of one transport. See fault.h; the lens is in fault/lens.c. Pure. */
#include "net/fault/fault.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* -- words ------------------------------------------------------------------------------------- */

static const char *const kind_names[FAULT_KIND_COUNT] = {"drop",      "delay", "limit",
                                                         "half_open", "reset", "corrupt"};
static const char *const direction_names[] = {"in", "out", "both"};

const char *fault_kind_name(enum fault_kind kind)
{
    CHECK((unsigned)kind < FAULT_KIND_COUNT);
    return kind_names[kind];
}

int fault_kind_parse(const char *text, enum fault_kind *out)
{
    for (unsigned i = 0; i < FAULT_KIND_COUNT; i++)
        if (strcmp(text, kind_names[i]) == 0) {
            *out = (enum fault_kind)i;
            return 0;
        }
    return ERR_USAGE;
}

const char *fault_direction_name(enum fault_direction direction)
{
    CHECK(direction >= FAULT_IN && direction <= FAULT_BOTH);
    return direction_names[direction - FAULT_IN];
}

int fault_direction_parse(const char *text, enum fault_direction *out)
{
    for (unsigned i = 0; i < FAULT_BOTH; i++)
        if (strcmp(text, direction_names[i]) == 0) {
            *out = (enum fault_direction)(FAULT_IN + i);
            return 0;
        }
    return ERR_USAGE;
}

int fault_rule_check(const struct fault_rule *r, struct err_text *why)
{
    const char *name = fault_kind_name(r->kind);
    if (r->kind == FAULT_DELAY && r->delay_us == 0 && r->jitter_us == 0)
        return err_set(why, ERR_USAGE, "delay: a fault of kind delay needs it, as in 50ms");
    if (r->kind == FAULT_LIMIT && r->bytes_s == 0)
        return err_set(why, ERR_USAGE,
                       "rate: a fault of kind limit needs it, in bytes per second, as in 100000");
    if (r->kind == FAULT_CORRUPT && r->one_in == 0)
        return err_set(why, ERR_USAGE, "one_in: a fault of kind corrupt needs it, as in 10000");
    if (r->kind != FAULT_DELAY && (r->delay_us > 0 || r->jitter_us > 0))
        return err_set(why, ERR_USAGE, "delay and jitter go with the kind delay, not with %s", name);
    if (r->kind != FAULT_LIMIT && r->bytes_s > 0)
        return err_set(why, ERR_USAGE, "rate goes with the kind limit, not with %s", name);
    if (r->kind != FAULT_CORRUPT && r->one_in > 0)
        return err_set(why, ERR_USAGE, "one_in goes with the kind corrupt, not with %s", name);
    if (r->kind == FAULT_RESET && r->direction != FAULT_BOTH)
        return err_set(why, ERR_USAGE, "direction: a reset is always both ways");
    return 0;
}

__attribute__((format(printf, 2, 3))) static void append(char out[FAULT_TEXT_MAX], const char *format, ...)
{
    size_t used = strlen(out);
    va_list args;
    va_start(args, format);
    vsnprintf(out + used, FAULT_TEXT_MAX - used, format, args);
    va_end(args);
}

static void append_time(char out[FAULT_TEXT_MAX], uint64_t us)
{
    if (us < 1000000)
        append(out, "%g ms", (double)us * 1e-3);
    else
        append(out, "%g s", (double)us * 1e-6);
}

void fault_rule_print(const struct fault_rule *r, char out[FAULT_TEXT_MAX])
{
    snprintf(out, FAULT_TEXT_MAX, "%s", fault_kind_name(r->kind));
    if (r->kind == FAULT_DELAY) {
        append(out, " of ");
        append_time(out, r->delay_us);
        if (r->jitter_us > 0) {
            append(out, " +- ");
            append_time(out, r->jitter_us);
        }
    }
    if (r->kind == FAULT_LIMIT) append(out, " of %" PRIu64 " bytes/s", r->bytes_s);
    if (r->kind == FAULT_CORRUPT) append(out, " of one byte in %" PRIu64, r->one_in);
    if (r->direction == FAULT_BOTH)
        append(out, ", both ways");
    else
        append(out, ", only what %s", r->direction == FAULT_IN ? "comes in" : "goes out");
    if (r->any)
        append(out, ", with every peer");
    else
        append(out, ", with node %" PRIu64, r->peer);
    if (r->for_us > 0) {
        append(out, ", for ");
        append_time(out, r->for_us);
    } else {
        append(out, ", until healed");
    }
}

bool fault_has_bitten(const struct fault_counts *c)
{
    return c->bytes_held + c->bytes_slowed + c->bytes_swallowed + c->bytes_corrupted + c->links_reset +
               c->links_refused >
           0;
}

void fault_counts_add(struct fault_counts *to, const struct fault_counts *c)
{
    to->bytes_held += c->bytes_held;
    to->bytes_slowed += c->bytes_slowed;
    to->bytes_swallowed += c->bytes_swallowed;
    to->bytes_corrupted += c->bytes_corrupted;
    to->links_reset += c->links_reset;
    to->links_refused += c->links_refused;
}

void fault_counts_print(const struct fault_counts *c, char out[FAULT_TEXT_MAX])
{
    const struct {
        uint64_t count;
        const char *what;
    } parts[] = {{c->bytes_held, "bytes held"},           {c->bytes_slowed, "bytes slowed"},
                 {c->bytes_swallowed, "bytes swallowed"}, {c->bytes_corrupted, "bytes corrupted"},
                 {c->links_reset, "links reset"},         {c->links_refused, "links refused"}};
    out[0] = '\0';
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (parts[i].count > 0)
            append(out, "%s%" PRIu64 " %s", out[0] != '\0' ? ", " : "", parts[i].count, parts[i].what);
    if (out[0] == '\0') append(out, "it met nothing");
}

/* -- rules ------------------------------------------------------------------------------------- */

void fault_set_deinit(struct fault_set *s)
{
    for (uint32_t i = 0; i < s->count; i++) free(s->each[i]);
    free(s->each);
    *s = (struct fault_set){0};
}

/* Room for one more; the oldest ended rule is forgotten when there is none. */
static struct fault_status *set_grow(struct fault_set *s)
{
    uint32_t at = 0;
    if (s->count < FAULT_RULE_MAX) {
        s->each = mem_resize(s->each, s->count + 1, sizeof(struct fault_status *));
        return s->each[s->count++] = mem_new_zero(1, sizeof(struct fault_status));
    }
    while (at < s->count && !s->each[at]->ended) at++;
    if (at == s->count) return NULL;
    struct fault_status *oldest = s->each[at];
    memmove(s->each + at, s->each + at + 1, (s->count - at - 1) * sizeof(struct fault_status *));
    memset(oldest, 0, sizeof *oldest);
    return s->each[s->count - 1] = oldest;
}

int fault_set_add(struct fault_set *s, const struct fault_rule *r, uint64_t now_us)
{
    CHECK(fault_rule_check(r, NULL) == 0);
    struct fault_status *f = set_grow(s);
    if (f == NULL) return ERR_LIMIT;
    f->id = ++s->last_id;
    f->rule = *r;
    f->until_us = r->for_us > 0 && r->for_us < TIME_NEVER - now_us ? now_us + r->for_us : TIME_NEVER;
    s->live++;
    return f->id;
}

uint64_t fault_set_next_us(const struct fault_set *s)
{
    uint64_t next_us = TIME_NEVER;
    for (uint32_t i = 0; i < s->count && s->live > 0; i++)
        if (!s->each[i]->ended && s->each[i]->until_us < next_us) next_us = s->each[i]->until_us;
    return next_us;
}

static struct fault_status *set_end(struct fault_set *s, struct fault_status *f)
{
    CHECK(s->live > 0);
    f->ended = true;
    s->live--;
    return f;
}

struct fault_status *fault_set_expire(struct fault_set *s, uint64_t now_us)
{
    for (uint32_t i = 0; i < s->count; i++)
        if (!s->each[i]->ended && s->each[i]->until_us <= now_us) return set_end(s, s->each[i]);
    return NULL;
}

struct fault_status *fault_set_heal(struct fault_set *s, int id)
{
    for (uint32_t i = 0; i < s->count; i++)
        if (!s->each[i]->ended && (id == 0 || s->each[i]->id == id)) return set_end(s, s->each[i]);
    return NULL;
}

uint32_t fault_set_list(const struct fault_set *s, struct fault_status *out, uint32_t max)
{
    uint32_t count = s->count < max ? s->count : max;
    for (uint32_t i = 0; i < count; i++) out[i] = *s->each[s->count - count + i];
    return count;
}

void fault_set_match(const struct fault_set *s, const node_id *peer, enum fault_direction direction,
                     struct fault_effect *out)
{
    *out = (struct fault_effect){{NULL}};
    for (uint32_t i = 0; i < s->count && s->live > 0; i++) {
        struct fault_status *f = s->each[i];
        bool meant = f->rule.any || (peer != NULL && f->rule.peer == *peer);
        if (!f->ended && meant && (f->rule.direction & direction) != 0) out->by[f->rule.kind] = f;
    }
}

bool fault_effect_none(const struct fault_effect *e)
{
    for (unsigned i = 0; i < FAULT_KIND_COUNT; i++)
        if (e->by[i] != NULL) return false;
    return true;
}

struct fault_status *fault_effect_block(const struct fault_effect *e)
{
    return e->by[FAULT_DROP] != NULL ? e->by[FAULT_DROP] : e->by[FAULT_HALF_OPEN];
}
