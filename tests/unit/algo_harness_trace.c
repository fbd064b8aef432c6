/* The trace of a harness: a hash of every event and send, and a line for each when somebody reads them. */
#include "tests/unit/algo_harness_internal.h"

#include <inttypes.h>

static void hash_bytes(struct harness *h, const void *data, size_t size)
{
    const uint8_t *byte = data;
    for (size_t i = 0; i < size; i++) h->hash = (h->hash ^ byte[i]) * 0x100000001b3u; /* FNV-1a */
}

static void hash_word(struct harness *h, uint64_t word)
{
    hash_bytes(h, &word, sizeof word);
}

void harness_trace_msg(struct harness *h, const char *verb, rank_t a, rank_t b, const struct algo_msg *m)
{
    hash_word(h, h->now_us);
    hash_word(h, ((uint64_t)a << 32) | b);
    hash_word(h, m->kind);
    hash_bytes(h, m->field, m->field_count * sizeof m->field[0]);
    if (m->bits_size > 0) hash_bytes(h, m->bits, m->bits_size);
    if (m->vec != NULL) hash_bytes(h, m->vec->data, m->vec->size);
    if (m->packed != NULL) hash_bytes(h, m->packed->data, m->packed->size);
    if (h->trace == NULL) return;
    fprintf(h->trace, "%10" PRIu64 " %u %s %u kind %u", h->now_us, a, verb, b, m->kind);
    for (uint8_t i = 0; i < m->field_count; i++) fprintf(h->trace, " %" PRIu64, m->field[i]);
    fprintf(h->trace, "%s%s%s\n", m->bits_size > 0 ? " +bits" : "", m->vec != NULL ? " +vec" : "",
            m->packed != NULL ? " +packed" : "");
}

void harness_trace_event(struct harness *h, rank_t r, const struct algo_event *e)
{
    static const char *const names[] = {"start", "peer_up", "peer_down", "message", "trained", "deadline"};
    if (e->kind == ALGO_MESSAGE) {
        harness_trace_msg(h, "from", r, e->peer, e->msg);
        return;
    }
    hash_word(h, h->now_us);
    hash_word(h, ((uint64_t)r << 32) | (uint64_t)e->kind);
    hash_word(h, e->kind == ALGO_TRAINED ? e->trained.steps : e->peer);
    if (h->trace == NULL) return;
    fprintf(h->trace, "%10" PRIu64 " %u %s", h->now_us, r, names[e->kind]);
    if (e->kind == ALGO_TRAINED) fprintf(h->trace, " %u", e->trained.steps);
    if (e->kind == ALGO_PEER_UP || e->kind == ALGO_PEER_DOWN) fprintf(h->trace, " %u", e->peer);
    fputc('\n', h->trace);
}
