/* Goal: whatever a peer sends, the message decoder answers with success, ERR_FORMAT or ERR_LIMIT, and every
 * registered algorithm with success or ERR_PROTO, without a crash and with a finite model.
 * Method: seeded mutation, so that a failure repeats. Heads: valid ones of each kind are changed byte by byte and
 * given to the fuzz target (fuzz_wire.c), which clang's libFuzzer can drive as well. Algorithms: clusters whose
 * messages are tampered with (fuzz_algo.h); sanitizers and the algorithms' own checks watch. Planted faults show
 * that the watch sees. More: test_fuzz_wire ROUNDS [SEED [ALGORITHM]]. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/wire/wire.h"
#include "algo/compress/compress.h"
#include "base/check.h"
#include "base/prng.h"
#include "tests/fuzz/fuzz_algo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEADS = 50000, HEAD_ROOM = 4096, EVENTS = 20000 };

static uint64_t rounds = 1, first_seed = 1;
static const char *only; /* NULL = all */

/* -- heads ------------------------------------------------------------------------------------- */

static struct blob *algo_head(struct prng *p)
{
    uint8_t bits[40];
    struct algo_msg m = {.kind = (uint8_t)prng_next(p),
                         .field_count = (uint8_t)prng_below(p, ALGO_FIELD_MAX + 1)};
    for (uint32_t i = 0; i < m.field_count; i++) m.field[i] = prng_next(p) >> prng_below(p, 64);
    m.bits_size = prng_below(p, sizeof bits);
    for (uint32_t i = 0; i < m.bits_size; i++) bits[i] = (uint8_t)prng_next(p);
    m.bits = m.bits_size > 0 ? bits : NULL;
    return wire_encode_algo(1 + prng_below(p, 1000), &m);
}

static struct blob *swim_head(struct prng *p)
{
    struct member member[8];
    struct swim_msg m = {
        .kind = (enum swim_kind)(1 + prng_below(p, 7)), .number = prng_next(p), .update = member};
    m.update_count = prng_below(p, 9);
    for (uint32_t i = 0; i < m.update_count; i++) {
        member[i] = (struct member){.id = prng_next(p) >> prng_below(p, 64),
                                    .boot = 1 + (prng_next(p) >> 20),
                                    .state = (enum member_state)prng_below(p, 4),
                                    .evidence = (enum member_evidence)prng_below(p, 5)};
        for (uint32_t k = 0; k < MEMBER_META_MAX; k++) member[i].meta[k] = prng_next(p) >> prng_below(p, 64);
        snprintf(member[i].address, sizeof member[i].address, "host-%u:%u", i, 1 + prng_below(p, 65535));
    }
    return wire_encode_swim(1 + prng_below(p, 1000), &m);
}

static struct blob *overlay_head(struct prng *p)
{
    struct overlay_peer peer[OVERLAY_PEER_MAX];
    struct overlay_msg m = {
        .kind = (enum overlay_kind)(1 + prng_below(p, 8)), .ttl = prng_below(p, 9), .peer = peer};
    m.peer_count = prng_below(p, OVERLAY_PEER_MAX + 1);
    for (uint32_t i = 0; i < m.peer_count; i++) {
        peer[i].id = prng_next(p) >> prng_below(p, 64);
        snprintf(peer[i].address, sizeof peer[i].address, "host-%u:%u", i, 1 + prng_below(p, 65535));
    }
    return wire_encode_overlay(1 + prng_below(p, 1000), &m);
}

static struct blob *valid_head(struct prng *p)
{
    struct wire_ready ready = {.claimed = prng_next(p)};
    struct state_msg chunk = {.kind = (enum state_kind)(1 + prng_below(p, 7)), .snapshot = prng_next(p)};
    switch (prng_below(p, 5)) {
    case 0:
        return swim_head(p);
    case 1:
        ready.place = prng_below(p, NODE_COUNT_MAX);
        ready.your_place = prng_below(p, NODE_COUNT_MAX);
        return wire_encode_ready(1 + prng_below(p, 1000), &ready);
    case 2:
        return overlay_head(p);
    case 3:
        chunk.first = prng_next(p) >> prng_below(p, 64);
        chunk.count = prng_below(p, 9);
        return wire_encode_state(1 + prng_below(p, 1000), &chunk);
    }
    return algo_head(p);
}

/* One change: a bit, a byte, a hole, a stretch repeated, an end. Returns the new size. */
static size_t mutate(struct prng *p, uint8_t *bytes, size_t size)
{
    size_t at = prng_below(p, (uint32_t)size + 1), length = 1 + prng_below(p, 8);
    switch (prng_below(p, 5)) {
    case 0:
        if (at < size) bytes[at] ^= (uint8_t)(1u << prng_below(p, 8));
        return size;
    case 1: /* the bytes that begin containers and long numbers */
        if (at < size)
            bytes[at] = (uint8_t)(prng_below(p, 2) == 0 ? 0x80 + prng_below(p, 128) : prng_next(p));
        return size;
    case 2:
        if (length > size - at) length = size - at;
        memmove(bytes + at, bytes + at + length, size - at - length);
        return size - length;
    case 3:
        if (length > size - at) length = size - at;
        if (size + length > HEAD_ROOM) return size;
        memmove(bytes + at + length, bytes + at, size - at);
        return size + length;
    }
    return at;
}

static void any_head_is_decoded_or_refused(void **state)
{
    (void)state;
    static uint8_t bytes[HEAD_ROOM];
    struct prng p;
    uint64_t refused = 0, count = rounds * HEADS;
    prng_split(&p, first_seed, "heads", 0);
    for (uint64_t i = 0; i < count; i++) {
        struct blob *head = valid_head(&p);
        size_t size = head->size < HEAD_ROOM ? head->size : HEAD_ROOM;
        memcpy(bytes, head->data, size);
        blob_unref(head);
        for (uint32_t k = prng_below(&p, 4); k > 0 && size > 0; k--) size = mutate(&p, bytes, size);
        uint8_t *exact = mem_new(size > 0 ? size : 1, 1); /* reads beyond the end are seen */
        memcpy(exact, bytes, size);
        struct wire_message m;
        int err = wire_decode(exact, size, &m, NULL);
        if (err == 0) wire_message_deinit(&m);
        refused += err != 0;
        LLVMFuzzerTestOneInput(exact, size);
        free(exact);
    }
    printf("%llu heads, %llu refused\n", (unsigned long long)count, (unsigned long long)refused);
    assert_in_range(refused, count / 4, count * 3 / 4); /* both courses were taken */
}

/* -- algorithms -------------------------------------------------------------------------------- */

/* Compressors with something to drop from a short vector. */
static const char *const compressors[] = {"none",
                                          "fp16",
                                          "bf16",
                                          "int8:block=5",
                                          "topk:fraction=0.3",
                                          "randk:fraction=0.3",
                                          "block:fraction=0.3",
                                          "bernoulli:p=0.3",
                                          "sign",
                                          "qsgd:bits=2",
                                          "powersgd:rank=1"};

/* Choices beside the defaults that take other courses. */
static const char *const variants[] = {"gossip:mode=sync",
                                       "local:every=3",
                                       "walk:walks=3",
                                       "choco:gamma=0.3",
                                       "delicoco:q=2,gamma=0.3",
                                       "digest:streams=single,sync_every=2",
                                       "digest:streams=edge,sync_every=3"};

static void fuzz(const char *text, struct fuzz_tally *tally)
{
    struct choice params;
    const struct algo_type *type;
    CHECK(algo_choose(text, &params, &type, NULL) == 0);
    for (size_t k = 0; k < sizeof compressors / sizeof compressors[0]; k++) {
        struct choice compress;
        CHECK(choice_parse(compress_table, compress_table_count, "--compress", compressors[k], &compress,
                           NULL) == 0);
        if (algo_fit_compress(type, &compress, FUZZ_DIM, NULL) != 0) continue;
        for (uint64_t seed = first_seed; seed < first_seed + 2 * rounds; seed++) {
            struct err_text why = {""};
            const struct fuzz_plan plan = {
                .type = type,
                .params = &params,
                .compress = &compress,
                .topology = type->links == ALGO_LINKS_ALL || seed % 2 == 0 ? "complete" : "ring",
                .seed = seed,
                .events = EVENTS};
            if (!fuzz_algo_run(&plan, tally, &why)) fail_msg("%s: %s", text, why.text);
        }
    }
}

static void report(const char *name, const struct fuzz_tally *t)
{
    printf("%-36s %llu steps, %llu messages, %llu refused, %llu jobs, %llu mixings\n", name,
           (unsigned long long)t->steps, (unsigned long long)t->messages, (unsigned long long)t->refused,
           (unsigned long long)t->trained, (unsigned long long)t->mixed);
}

static void any_message_leaves_every_algorithm_whole(void **state)
{
    (void)state;
    if (only != NULL) {
        struct fuzz_tally tally = {.steps = 0};
        fuzz(only, &tally);
        report(only, &tally);
        return;
    }
    for (size_t i = 0; i < algo_type_count; i++) {
        struct fuzz_tally tally = {.steps = 0};
        fuzz(algo_types[i]->spec.name, &tally);
        report(algo_types[i]->spec.name, &tally);
        assert_true(tally.trained > 100 && tally.refused > 10); /* they did work, and were attacked */
    }
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        struct fuzz_tally tally = {.steps = 0};
        fuzz(variants[i], &tally);
        report(variants[i], &tally);
        assert_true(tally.mixed > 100); /* training came through */
    }
}

/* -- planted faults ---------------------------------------------------------------------------- */

enum fault {
    NO_FAULT,
    KEEPS_WHAT_IT_REFUSES,
    ADDS_ANY_FIELD,
    TRAINS_TWICE,
    SPEAKS_TO_NOBODY,
    ANSWERS_STRANGELY
};

struct faulty {
    enum fault fault;
    float x[FUZZ_DIM];
};

static int faulty_create(const struct algo_config *config, const struct choice *params, struct algo **out,
                         struct err_text *why)
{
    (void)config, (void)why;
    struct faulty *f = mem_new_zero(1, sizeof *f);
    f->fault = (enum fault)params->index;
    *out = (struct algo *)(void *)f;
    return 0;
}

static void faulty_destroy(struct algo *a)
{
    free(a);
}

static int faulty_message(struct faulty *f, const struct algo_event *e)
{
    double number = 0;
    if (e->msg->field_count > 0) memcpy(&number, &e->msg->field[0], sizeof number);
    if (f->fault == KEEPS_WHAT_IT_REFUSES) f->x[0] += 1;
    if (f->fault == ADDS_ANY_FIELD) f->x[0] += (float)number;
    if (f->fault == ANSWERS_STRANGELY) return ERR_LIMIT;
    return e->msg->kind == 1 ? 0 : ERR_PROTO;
}

static int faulty_step(struct algo *a, const struct algo_event *e, struct algo_actions *acts)
{
    struct faulty *f = (struct faulty *)(void *)a;
    if (e->kind == ALGO_START || e->kind == ALGO_TRAINED) algo_train(acts, f->x, 1);
    if (e->kind == ALGO_TRAINED && f->fault == TRAINS_TWICE) algo_train(acts, f->x, 1);
    if (e->kind == ALGO_PEER_UP) algo_send(acts, f->fault == SPEAKS_TO_NOBODY ? FUZZ_NODES : e->peer, 1);
    return e->kind == ALGO_MESSAGE ? faulty_message(f, e) : 0;
}

static uint64_t faulty_deadline_us(const struct algo *a)
{
    (void)a;
    return TIME_NEVER;
}

static const float *faulty_model(const struct algo *a)
{
    return ((const struct faulty *)(const void *)a)->x;
}

static void faulty_report(const struct algo *a, struct algo_report *out)
{
    (void)a;
    *out = (struct algo_report){.steps = 0};
}

static const struct algo_type faulty_type = {.spec = {.name = "faulty"},
                                             .create = faulty_create,
                                             .destroy = faulty_destroy,
                                             .step = faulty_step,
                                             .deadline_us = faulty_deadline_us,
                                             .model = faulty_model,
                                             .report = faulty_report};

static void planted_faults_are_seen(void **state)
{
    (void)state;
    static const char *const says[] = {[KEEPS_WHAT_IT_REFUSES] = "changed the model",
                                       [ADDS_ANY_FIELD] = "", /* changed by a refused one, or not finite */
                                       [TRAINS_TWICE] = "two TRAINs",
                                       [SPEAKS_TO_NOBODY] = "no neighbour",
                                       [ANSWERS_STRANGELY] = "strange answer"};
    for (int fault = NO_FAULT; fault <= ANSWERS_STRANGELY; fault++) {
        struct choice params = {.index = (size_t)fault};
        struct fuzz_tally tally = {.steps = 0};
        struct err_text why = {""};
        const struct fuzz_plan plan = {
            .type = &faulty_type, .params = &params, .topology = "ring", .seed = 1, .events = EVENTS};
        assert_int_equal(fuzz_algo_run(&plan, &tally, &why), fault == NO_FAULT);
        if (fault != NO_FAULT && strstr(why.text, says[fault]) == NULL)
            fail_msg("fault %d: %s", fault, why.text);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1) rounds = strtoull(argv[1], NULL, 10);
    if (argc > 2) first_seed = strtoull(argv[2], NULL, 10);
    if (argc > 3) only = argv[3];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_head_is_decoded_or_refused),
        cmocka_unit_test(any_message_leaves_every_algorithm_whole),
        cmocka_unit_test(planted_faults_are_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
