/* Goal: members that hear of each other in any order end with the same list and the same ranks, and stop
 * talking about it. Method: small cases by hand; two lists that contradict each other are exchanged until
 * nothing is new; a roster over a shared list against one that learnt everything. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/roster.h"
#include "base/prng.h"

static struct wire_member member_of(node_id id, uint64_t boot, const char *address)
{
    struct wire_member m = {.id = id, .boot = boot};
    strncpy(m.address, address, sizeof m.address - 1);
    return m;
}

static bool learn(struct roster *r, node_id id, uint64_t boot, const char *address)
{
    struct wire_member m = member_of(id, boot, address);
    return roster_learn(r, &m);
}

static void ranks_are_positions_by_id_once_complete(void **state)
{
    (void)state;
    struct roster r;
    roster_init(&r, 3, NULL, 0);
    assert_true(learn(&r, 900, 1, "a:1"));
    assert_true(learn(&r, 5, 1, "b:1"));
    assert_false(roster_complete(&r));
    assert_int_equal(roster_rank(&r, 5), RANK_NONE);
    assert_true(learn(&r, 77, 1, ""));
    assert_true(roster_complete(&r));
    assert_int_equal(roster_rank(&r, 5), 0);
    assert_int_equal(roster_rank(&r, 77), 1);
    assert_int_equal(roster_rank(&r, 900), 2);
    assert_int_equal(roster_rank(&r, 6), RANK_NONE);
    assert_true(roster_at(&r, 1)->id == 77);
    roster_deinit(&r);
}

static void one_member_too_many_is_refused(void **state)
{
    (void)state;
    struct roster r;
    roster_init(&r, 1, NULL, 0);
    assert_true(learn(&r, 1, 1, ""));
    assert_false(learn(&r, 2, 1, ""));
    assert_null(roster_find(&r, 2));
    struct wire_member m = member_of(3, 1, "c:1");
    assert_false(roster_meet(&r, &m));
    assert_int_equal(roster_rank(&r, 1), 0);
    roster_deinit(&r);
}

static void hearsay_only_moves_forward(void **state)
{
    (void)state;
    struct roster r;
    roster_init(&r, 2, NULL, 0);
    assert_true(learn(&r, 1, 10, ""));
    assert_false(learn(&r, 1, 10, ""));
    assert_true(learn(&r, 1, 10, "old:1"));    /* fills a gap */
    assert_false(learn(&r, 1, 10, "other:1")); /* two views of one address: the first stays */
    assert_false(learn(&r, 1, 9, "older:1"));  /* from a past life */
    assert_string_equal(roster_find(&r, 1)->address, "old:1");
    assert_true(learn(&r, 1, 11, "new:1"));
    assert_true(learn(&r, 1, 12, "")); /* a newer boot without an address keeps the last one */
    assert_string_equal(roster_find(&r, 1)->address, "new:1");
    assert_true(roster_find(&r, 1)->boot == 12);
    roster_deinit(&r);
}

static void what_a_peer_says_of_itself_stands(void **state)
{
    (void)state;
    struct roster r;
    roster_init(&r, 2, NULL, 0);
    assert_true(learn(&r, 1, 50, "old:1"));
    struct wire_member hello = member_of(1, 7, "new:1"); /* its clock went back over the restart */
    assert_true(roster_meet(&r, &hello));
    assert_false(roster_meet(&r, &hello));
    assert_true(roster_find(&r, 1)->boot == 7);
    assert_string_equal(roster_find(&r, 1)->address, "new:1");
    hello.address[0] = '\0';
    assert_false(roster_meet(&r, &hello));
    assert_string_equal(roster_find(&r, 1)->address, "new:1");
    roster_deinit(&r);
}

/* Passes b's whole list to a; returns how many entries were new. */
static uint32_t tell(struct roster *a, const struct roster *b)
{
    uint32_t news = 0;
    for (uint32_t i = 0; i < b->total; i++) {
        struct wire_member m = *roster_at(b, i);
        news += roster_learn(a, &m);
    }
    return news;
}

static void crossing_lists_come_to_rest(void **state)
{
    (void)state;
    struct roster r[3];
    struct prng p;
    prng_seed(&p, 4);
    for (int i = 0; i < 3; i++) {
        roster_init(&r[i], 6, NULL, 0);
        for (node_id id = 0; id < 6; id++) {
            char address[8] = {(char)('a' + prng_below(&p, 3)), ':', '1', '\0'};
            learn(&r[i], id, prng_below(&p, 4), prng_below(&p, 2) == 0 ? "" : address);
        }
    }
    uint32_t news = 1, rounds = 0;
    for (; news > 0; rounds++) {
        assert_in_range(rounds, 0, 4);
        news = 0;
        for (int i = 0; i < 3; i++) news += tell(&r[i], &r[(i + 1) % 3]) + tell(&r[(i + 1) % 3], &r[i]);
    }
    for (node_id id = 0; id < 6; id++) {
        assert_true(roster_find(&r[0], id)->boot == roster_find(&r[1], id)->boot);
        assert_true(roster_find(&r[0], id)->boot == roster_find(&r[2], id)->boot);
    }
    for (int i = 0; i < 3; i++) roster_deinit(&r[i]);
}

static void shared_list_gives_the_same_ranks_as_a_learnt_one(void **state)
{
    (void)state;
    enum { COUNT = 20 };
    struct wire_member all[COUNT];
    for (uint32_t i = 0; i < COUNT; i++) all[i] = member_of(3 * i + 1, 1, "x:1");
    for (uint32_t known_count = 0; known_count <= COUNT; known_count += 5) {
        /* Every fourth member is known from the start in the middle case, a prefix otherwise. */
        struct wire_member known[COUNT];
        uint32_t n = 0;
        for (uint32_t i = 0; i < COUNT && n < known_count; i++) {
            if (known_count != 5 || i % 4 == 0) known[n++] = all[i];
        }
        struct roster r, learnt;
        roster_init(&r, COUNT, known, n);
        roster_init(&learnt, COUNT, NULL, 0);
        for (uint32_t i = COUNT; i-- > 0;) {
            struct wire_member newer = member_of(all[i].id, i % 3, "y:2"); /* some shadow a known entry */
            roster_learn(&r, &newer);
            roster_learn(&learnt, &newer);
        }
        assert_true(roster_complete(&r));
        assert_true(roster_fingerprint(&r) == roster_fingerprint(&learnt));
        for (uint32_t i = 0; i < COUNT; i++) {
            assert_int_equal(roster_rank(&r, all[i].id), i);
            assert_true(roster_at(&r, i)->id == all[i].id);
            assert_true(roster_at(&r, i) == roster_find(&r, all[i].id));
        }
        roster_deinit(&r);
        roster_deinit(&learnt);
    }
}

static void fingerprint_tells_lists_apart(void **state)
{
    (void)state;
    struct roster a, b;
    roster_init(&a, 2, NULL, 0);
    roster_init(&b, 2, NULL, 0);
    learn(&a, 1, 1, "x:1");
    learn(&a, 2, 1, "");
    learn(&b, 2, 9, "z:1");
    learn(&b, 1, 8, "");
    assert_true(roster_fingerprint(&a) == roster_fingerprint(&b)); /* boots and addresses do not matter */
    roster_deinit(&b);
    roster_init(&b, 2, NULL, 0);
    learn(&b, 1, 1, "");
    learn(&b, 3, 1, "");
    assert_false(roster_fingerprint(&a) == roster_fingerprint(&b));
    roster_deinit(&a);
    roster_deinit(&b);
}

static void a_tag_fills_a_gap_and_stays(void **state)
{
    (void)state;
    struct roster r, plain;
    roster_init(&r, 2, NULL, 0);
    roster_init(&plain, 2, NULL, 0);
    learn(&r, 1, 5, "a:1");
    learn(&plain, 1, 5, "a:1");
    assert_false(roster_tag(&r, 9, "x")); /* nobody */
    assert_false(roster_tag(&r, 1, ""));
    assert_true(roster_tag(&r, 1, "rack=a"));
    assert_false(roster_tag(&r, 1, "rack=b"));
    struct wire_member hello = member_of(1, 6, "a:2"); /* a hello knows of no tag, a restart changes none */
    assert_true(roster_meet(&r, &hello));
    struct wire_member other = member_of(1, 7, "a:3");
    strcpy(other.tag, "rack=b");
    assert_true(roster_learn(&r, &other));
    assert_string_equal(roster_find(&r, 1)->tag, "rack=a");
    assert_string_equal(roster_find(&r, 1)->address, "a:3");
    learn(&r, 2, 1, "b:1");
    learn(&plain, 2, 1, "b:1");
    assert_false(roster_tagged(&r));
    assert_true(roster_tag(&r, 2, "rack=b"));
    assert_true(roster_tagged(&r));
    assert_false(roster_fingerprint(&r) == roster_fingerprint(&plain)); /* other groups, another experiment */
    roster_deinit(&r);
    roster_deinit(&plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_are_positions_by_id_once_complete),
        cmocka_unit_test(one_member_too_many_is_refused),
        cmocka_unit_test(hearsay_only_moves_forward),
        cmocka_unit_test(what_a_peer_says_of_itself_stands),
        cmocka_unit_test(crossing_lists_come_to_rest),
        cmocka_unit_test(shared_list_gives_the_same_ranks_as_a_learnt_one),
        cmocka_unit_test(fingerprint_tells_lists_apart),
        cmocka_unit_test(a_tag_fills_a_gap_and_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
