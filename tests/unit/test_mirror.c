/* Goal: both ends of a mirrored vector hold the same bits after every message, whatever is sent; what cannot be
 * compressed goes whole; bytes that a sender cannot have made change nothing.
 * Method: a sender and a receiver with packs of their own, a vector that walks at random, every compressor;
 * one checker compares the two ends bit for bit and is shown a sender that keeps its own x. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "algo/compress/mirror.h"
#include "tests/unit/compress_fixture.h"

enum { DIM = 100, MESSAGES = 200, SEED = 9 };

struct link {
    struct pack *at_sender, *at_receiver;
    struct mirror out, in;
};

static struct pack *make_pack(const char *text)
{
    struct choice choice;
    struct err_text why;
    if (choice_parse(compress_table, compress_table_count, "--compress", text, &choice, &why) != 0)
        fail_msg("%s", why.text);
    return pack_new(&choice, DIM, NULL, 0);
}

static void link_init(struct link *l, const char *compress, uint32_t channel)
{
    bool none = strcmp(compress, "none") == 0;
    l->at_sender = none ? NULL : make_pack(compress);
    l->at_receiver = none ? NULL : make_pack(compress);
    mirror_init(&l->out, l->at_sender, DIM, SEED, 3, 4, channel);
    mirror_init(&l->in, l->at_receiver, DIM, SEED, 3, 4, channel);
}

static void link_reset(struct link *l)
{
    mirror_forget(&l->out);
    mirror_forget(&l->in);
}

static void link_deinit(struct link *l)
{
    link_reset(l);
    pack_free(l->at_sender);
    pack_free(l->at_receiver);
}

static void message_free(struct algo_msg *m)
{
    blob_unref(m->vec);
    blob_unref(m->packed);
    *m = (struct algo_msg){.kind = 0};
}

/* What one message did. */
struct passed {
    bool whole, agree;
    size_t bytes;
};

/* Sends x; `plant`: the sender takes it that the receiver has all of x. */
static struct passed pass(struct link *l, const float *x, bool plant)
{
    struct algo_msg m = {.kind = 1};
    struct blob *sent = mirror_send(&l->out, x, NULL, &m), *got = NULL;
    if (plant && l->out.value != NULL) {
        blob_unref(l->out.value);
        l->out.value = blob_copy(x, DIM * sizeof *x);
        blob_unref(sent);
        sent = blob_ref(l->out.value);
    }
    assert_true((m.vec == NULL) != (m.packed == NULL));
    assert_int_equal(mirror_receive(&l->in, &m, &got), 0);
    struct passed p = {.whole = m.vec != NULL,
                       .agree = memcmp(sent->data, got->data, DIM * sizeof *x) == 0,
                       .bytes = m.vec != NULL ? m.vec->size : m.packed->size};
    blob_unref(sent);
    blob_unref(got);
    message_free(&m);
    return p;
}

static void walk(struct prng *p, float *x)
{
    for (size_t i = 0; i < DIM; i++) x[i] += (float)prng_normal(p);
}

/* Messages after which the ends differed. */
static uint32_t disagreements(const char *compress, bool plant)
{
    struct link l;
    struct prng p;
    float x[DIM];
    uint32_t count = 0;
    link_init(&l, compress, 0);
    prng_split(&p, 1, "test_mirror", 0);
    fill(DIM, 0, 1, x);
    for (uint32_t k = 0; k < MESSAGES; k++) {
        walk(&p, x);
        struct passed passed = pass(&l, x, plant);
        bool diverges = strstr(compress, "variant=unbiased") != NULL; /* until it is sent whole again */
        if (!diverges) assert_int_equal(passed.whole, k == 0 || l.at_sender == NULL);
        count += !passed.agree;
    }
    link_deinit(&l);
    return count;
}

static void both_ends_hold_the_same_bits(void **state)
{
    (void)state;
    for (size_t i = 0; i < CHOICE_COUNT; i++) {
        uint32_t count = disagreements(choices[i], false);
        if (count != 0) fail_msg("%s: the ends differ after %u messages", choices[i], count);
    }
}

static void a_sender_that_keeps_its_own_x_is_caught(void **state)
{
    (void)state;
    static const char *const lossy[] = {"fp16",  "int8", "topk:fraction=0.1", "randk:fraction=0.1",
                                        "block", "sign", "bernoulli:p=0.2",   "qsgd:bits=2"};
    for (size_t i = 0; i < sizeof lossy / sizeof lossy[0]; i++)
        assert_true(disagreements(lossy[i], true) >= MESSAGES - 2); /* the first messages may agree by luck */
}

static void a_vector_that_rests_arrives_in_the_end(void **state)
{
    (void)state;
    static const char *const contracting[] = {"fp16",
                                              "int8",
                                              "topk:fraction=0.1",
                                              "randk:fraction=0.1",
                                              "block:fraction=0.1",
                                              "bernoulli:p=0.2",
                                              "sign",
                                              "qsgd:bits=2"};
    for (size_t i = 0; i < sizeof contracting / sizeof contracting[0]; i++) {
        struct link l;
        float start[DIM] = {0}, x[DIM];
        link_init(&l, contracting[i], 0);
        fill(DIM, 0, 2, x);
        pass(&l, start, false);
        for (uint32_t k = 0; k < 10 * MESSAGES; k++) pass(&l, x, false);
        double left = error2(DIM, x, (const float *)(const void *)l.in.value->data) / norm2(DIM, x);
        if (!(left < 1e-6)) fail_msg("%s: %g of the vector is still missing", contracting[i], left);
        link_deinit(&l);
    }
}

static void a_new_link_begins_with_the_whole_vector(void **state)
{
    (void)state;
    struct link l;
    float x[DIM];
    link_init(&l, "topk:fraction=0.1", 0);
    fill(DIM, 0, 3, x);
    for (int life = 0; life < 3; life++) {
        struct passed first = pass(&l, x, false), second = pass(&l, x, false);
        assert_true(first.whole && first.agree && first.bytes == DIM * sizeof *x);
        assert_true(!second.whole && second.agree && second.bytes < DIM);
        link_reset(&l);
        assert_true(l.out.value == NULL && l.out.count == 0);
    }
    link_deinit(&l);
}

static void without_a_compressor_nothing_is_kept(void **state)
{
    (void)state;
    struct link l;
    float x[DIM];
    link_init(&l, "none", 0);
    fill(DIM, 0, 4, x);
    struct blob *shared = blob_copy(x, sizeof x);
    struct algo_msg m = {.kind = 1};
    struct blob *sent = mirror_send(&l.out, x, shared, &m);
    assert_ptr_equal(sent, shared); /* no copy is made */
    assert_ptr_equal(m.vec, shared);
    assert_true(l.out.value == NULL);
    assert_true(mirror_sends_whole(&l.out));
    blob_unref(sent);
    message_free(&m);
    assert_int_equal(shared->references, 1);
    blob_unref(shared);
    link_deinit(&l);
}

/* Differences out of the compressor's reach: the ends stay together all the same. */
static void what_cannot_be_compressed_goes_whole(void **state)
{
    (void)state;
    static const float far[] = {1e20f, 3e38f, -3e38f, 1.0f};
    for (size_t i = 1; i < CHOICE_COUNT; i++) {
        struct link l;
        float x[DIM];
        link_init(&l, choices[i], 0);
        fill(DIM, 0, 5, x);
        pass(&l, x, false);
        for (size_t k = 0; k < sizeof far / sizeof far[0]; k++) { /* the third difference overflows */
            x[7] = far[k];
            struct passed passed = pass(&l, x, false);
            assert_true(passed.whole && passed.agree);
        }
        x[7] = 2;
        struct passed passed = pass(&l, x, false);
        assert_true(!passed.whole && passed.agree);
        link_deinit(&l);
    }
}

static void a_vector_may_be_sent_whole_in_between(void **state)
{
    (void)state;
    struct link l;
    float x[DIM];
    link_init(&l, "randk:fraction=0.1", 0);
    fill(DIM, 0, 6, x);
    for (int k = 0; k < 5; k++) {
        struct algo_msg m = {.kind = 1};
        struct blob *exact = blob_copy(x, sizeof x), *got = NULL;
        mirror_send_whole(&l.out, exact, &m);
        assert_int_equal(mirror_receive(&l.in, &m, &got), 0);
        assert_memory_equal(got->data, x, sizeof x);
        blob_unref(got);
        blob_unref(exact);
        message_free(&m);
        x[k] += 1;
        struct passed passed = pass(&l, x, false); /* shared positions: the ends count alike */
        assert_true(!passed.whole && passed.agree);
    }
    link_deinit(&l);
}

static void expect_refused(struct mirror *in, const struct algo_msg *m)
{
    struct blob *before = in->value, *got = NULL;
    uint64_t count = in->count;
    float bits[DIM];
    if (before != NULL) memcpy(bits, before->data, sizeof bits);
    assert_int_equal(mirror_receive(in, m, &got), ERR_PROTO);
    assert_ptr_equal(in->value, before);
    assert_int_equal(in->count, count);
    if (before != NULL) assert_memory_equal(bits, before->data, sizeof bits);
}

static void bad_messages_change_nothing(void **state)
{
    (void)state;
    struct link l;
    float x[DIM];
    uint8_t junk[3 * DIM];
    memset(junk, 0xff, sizeof junk);
    link_init(&l, "topk:fraction=0.1", 0);
    fill(DIM, 0, 7, x);
    struct blob *vec = blob_copy(x, sizeof x), *bytes = blob_copy(junk, sizeof junk);
    struct blob *nothing = blob_new(0);
    struct algo_msg early = {.packed = bytes}, empty = {.kind = 1}, both = {.vec = vec, .packed = bytes},
                    hollow = {.packed = nothing};
    expect_refused(&l.in, &early); /* before any whole vector */
    expect_refused(&l.in, &empty);
    expect_refused(&l.in, &both);
    pass(&l, x, false);
    expect_refused(&l.in, &early);
    expect_refused(&l.in, &empty);
    expect_refused(&l.in, &both);
    expect_refused(&l.in, &hollow);
    struct passed passed = pass(&l, x, false);
    assert_true(!passed.whole && passed.agree); /* the link lives on */
    blob_unref(vec);
    blob_unref(bytes);
    blob_unref(nothing);
    link_deinit(&l);
}

/* Who keeps an earlier vector keeps its bits; a vector that nobody keeps is followed in its own memory. */
static void vectors_handed_out_stand_still(void **state)
{
    (void)state;
    struct link l;
    struct prng p;
    float x[DIM], kept_bits[DIM];
    struct blob *kept = NULL;
    link_init(&l, "topk:fraction=0.1", 0);
    prng_split(&p, 2, "test_mirror", 0);
    fill(DIM, 0, 8, x);
    pass(&l, x, false);
    for (uint32_t k = 0; k < MESSAGES; k++) {
        walk(&p, x);
        const struct blob *before = l.in.value;
        bool is_kept = kept != NULL && before == kept;
        assert_true(pass(&l, x, false).agree);
        assert_true((l.in.value != before) == is_kept);
        if (kept != NULL) assert_memory_equal(kept->data, kept_bits, sizeof kept_bits);
        if (k % 3 != 0) continue;
        blob_unref(kept);
        kept = blob_ref(l.in.value);
        memcpy(kept_bits, kept->data, sizeof kept_bits);
    }
    blob_unref(kept);
    link_deinit(&l);
}

static void directions_and_channels_draw_apart(void **state)
{
    (void)state;
    struct mirror a, b, c, d;
    mirror_init(&a, NULL, DIM, SEED, 1, 2, 0);
    mirror_init(&b, NULL, DIM, SEED, 2, 1, 0);
    mirror_init(&c, NULL, DIM, SEED, 1, 2, 1);
    mirror_init(&d, NULL, DIM, SEED, 1, 2, 0);
    assert_true(a.seed != b.seed && a.seed != c.seed && b.seed != c.seed);
    assert_true(a.seed == d.seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ends_hold_the_same_bits),
        cmocka_unit_test(a_sender_that_keeps_its_own_x_is_caught),
        cmocka_unit_test(a_vector_that_rests_arrives_in_the_end),
        cmocka_unit_test(a_new_link_begins_with_the_whole_vector),
        cmocka_unit_test(without_a_compressor_nothing_is_kept),
        cmocka_unit_test(what_cannot_be_compressed_goes_whole),
        cmocka_unit_test(a_vector_may_be_sent_whole_in_between),
        cmocka_unit_test(bad_messages_change_nothing),
        cmocka_unit_test(vectors_handed_out_stand_still),
        cmocka_unit_test(directions_and_channels_draw_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
