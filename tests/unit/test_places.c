/* Goal: all who know the same members agree on who holds which place, newcomers choose apart from each other, and no
 * claim of a peer, however absurd, takes what is not vacant (places.h). Method: tables of members fed in every order;
 * the planted claims are those a liar would make. */
#include "agent/node/places.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/node/node.h"
#include "base/limits.h"
#include "base/prng.h"

#define NOW (1000ull * 1000000u * BOOT_UNITS_PER_US)
#define DAY (86400ull * 1000000u * BOOT_UNITS_PER_US)

/* place: RANK_NONE = none. */
static struct member member_at(node_id id, rank_t place, uint64_t claimed, enum member_state state)
{
    struct member m = {.id = id, .state = state};
    m.meta[META_PLACE] = place == RANK_NONE ? 0 : (uint64_t)place + 1;
    m.meta[META_CLAIMED] = claimed;
    return m;
}

static void learn(struct places *p, node_id id, rank_t place, uint64_t claimed, enum member_state state)
{
    struct member m = member_at(id, place, claimed, state);
    places_learn(p, &m, NOW);
}

static void founders_take_places_in_order_of_id_whoever_claims_first(void **state)
{
    (void)state;
    struct prng random;
    prng_split(&random, 1, "places", 0);
    for (int round = 0; round < 50; round++) {
        struct places p;
        places_init(&p, 8, NULL);
        node_id id[8];
        for (uint32_t i = 0; i < 8; i++) {
            id[i] = 10 * i + prng_below(&random, 10);
            learn(&p, id[i], RANK_NONE, 0, MEMBER_ALIVE);
        }
        bool done[8] = {false};
        for (uint32_t k = 0; k < 8;) { /* one after the other, in any order */
            uint32_t i = prng_below(&random, 8);
            if (done[i]) continue;
            done[i] = true;
            k++;
            assert_int_equal(places_choose(&p, id[i], RANK_NONE), i);
            learn(&p, id[i], i, NOW - k, MEMBER_ALIVE);
        }
        for (uint32_t i = 0; i < 8; i++) assert_int_equal(places_of(&p, id[i]), i);
        assert_int_equal(places_held(&p), 8);
        places_deinit(&p);
    }
}

static void late_comers_take_vacant_places_then_deserted_ones_then_none(void **state)
{
    (void)state;
    struct places p;
    places_init(&p, 4, NULL);
    learn(&p, 1, 1, NOW - 5, MEMBER_ALIVE);
    learn(&p, 2, 2, NOW - 4, MEMBER_DEAD);
    learn(&p, 3, 3, NOW - 3, MEMBER_LEFT);
    learn(&p, 9, RANK_NONE, 0, MEMBER_ALIVE);
    assert_int_equal(places_choose(&p, 9, RANK_NONE), 0);
    learn(&p, 9, 0, NOW - 2, MEMBER_ALIVE);
    learn(&p, 7, RANK_NONE, 0, MEMBER_ALIVE);
    learn(&p, 8, RANK_NONE, 0, MEMBER_SUSPECT);
    learn(&p, 10, RANK_NONE, 0, MEMBER_ALIVE);
    assert_int_equal(places_choose(&p, 7, RANK_NONE), 2);
    assert_int_equal(places_choose(&p, 8, RANK_NONE), 3);
    assert_int_equal(places_choose(&p, 10, RANK_NONE), RANK_NONE); /* those before it have taken the rest */
    learn(&p, 8, RANK_NONE, 0, MEMBER_DEAD);
    assert_int_equal(places_choose(&p, 10, RANK_NONE), 3);
    places_deinit(&p);
}

static void the_place_held_before_is_taken_unless_somebody_living_has_it(void **state)
{
    (void)state;
    struct places p;
    places_init(&p, 3, NULL);
    learn(&p, 1, 0, NOW - 5, MEMBER_ALIVE);
    learn(&p, 2, 1, NOW - 4, MEMBER_DEAD);
    learn(&p, 5, RANK_NONE, 0, MEMBER_ALIVE);
    assert_int_equal(places_choose(&p, 5, 1), 1);
    assert_int_equal(places_choose(&p, 5, 0), 2);
    assert_int_equal(places_choose(&p, 5, 77), 2); /* of an experiment with more places */
    places_deinit(&p);
}

static void the_earlier_claim_holds_in_whatever_order_it_is_heard(void **state)
{
    (void)state;
    static const struct {
        node_id id;
        uint64_t claimed;
        enum member_state state;
    } claims[3] = {{5, NOW - 9, MEMBER_ALIVE}, {4, NOW - 8, MEMBER_ALIVE}, {3, NOW - 99, MEMBER_DEAD}};
    for (uint32_t order = 0; order < 6; order++) {
        struct places p;
        places_init(&p, 1, NULL);
        uint32_t a = order % 3, b = (a + 1 + order / 3) % 3, c = 3 - a - b;
        uint32_t each[3] = {a, b, c};
        for (uint32_t i = 0; i < 3; i++)
            learn(&p, claims[each[i]].id, 0, claims[each[i]].claimed, claims[each[i]].state);
        node_id holder = 0;
        assert_true(places_holder(&p, 0, &holder));
        assert_int_equal(holder, 5);
        assert_int_equal(places_of(&p, 4), RANK_NONE);
        learn(&p, 5, 0, NOW - 9, MEMBER_SUSPECT); /* it still lives */
        assert_int_equal(places_of(&p, 5), 0);
        learn(&p, 5, 0, NOW - 9, MEMBER_DEAD);
        assert_int_equal(places_of(&p, 4), 0);
        learn(&p, 4, 0, NOW - 8, MEMBER_LEFT);
        assert_false(places_holder(&p, 0, &holder));
        assert_int_equal(places_state(&p, 0), PLACE_DESERTED);
        places_deinit(&p);
    }
}

static void equal_claims_go_to_the_smaller_id(void **state)
{
    (void)state;
    struct places p;
    places_init(&p, 2, NULL);
    learn(&p, 8, 1, NOW, MEMBER_ALIVE);
    learn(&p, 6, 1, NOW, MEMBER_ALIVE);
    learn(&p, 7, 1, NOW, MEMBER_ALIVE);
    assert_int_equal(places_of(&p, 6), 1);
    places_deinit(&p);
}

static void absurd_claims_are_none(void **state)
{
    (void)state;
    static const struct {
        rank_t place;
        uint64_t claimed;
    } absurd[] = {{2, NOW}, {65536, NOW}, {UINT32_MAX - 1, NOW}, {0, 0}, {0, NOW + DAY + 1}, {0, UINT64_MAX}};
    for (size_t i = 0; i < sizeof absurd / sizeof absurd[0]; i++) {
        struct places p;
        places_init(&p, 2, NULL);
        learn(&p, 1, absurd[i].place, absurd[i].claimed, MEMBER_ALIVE);
        assert_int_equal(places_of(&p, 1), RANK_NONE);
        assert_int_equal(places_held(&p), 0);
        assert_int_equal(p.living, 1);
        learn(&p, 1, 0, NOW + DAY, MEMBER_ALIVE); /* clocks that differ by less are taken */
        assert_int_equal(places_of(&p, 1), 0);
        places_deinit(&p);
    }
    struct places p;
    struct member m = member_at(1, 0, NOW, MEMBER_ALIVE);
    places_init(&p, 2, NULL);
    m.meta[META_PLACE] = UINT64_MAX;
    places_learn(&p, &m, NOW);
    assert_int_equal(places_of(&p, 1), RANK_NONE);
    places_deinit(&p);
}

static void change_of_hands_is_told_and_nothing_else(void **state)
{
    (void)state;
    struct places p;
    places_init(&p, 2, NULL);
    struct member a = member_at(1, 0, NOW - 5, MEMBER_ALIVE), b = member_at(2, 0, NOW - 9, MEMBER_ALIVE);
    assert_true(places_learn(&p, &a, NOW));
    assert_false(places_learn(&p, &a, NOW));
    a.meta[META_PROGRESS] = 100;
    assert_false(places_learn(&p, &a, NOW));
    assert_true(places_learn(&p, &b, NOW)); /* the earlier claim */
    b.meta[META_PLACE] = 2;
    assert_true(places_learn(&p, &b, NOW));
    assert_int_equal(places_of(&p, 1), 0);
    assert_int_equal(places_of(&p, 2), 1);
    assert_true(places_forget(&p, 2));
    assert_false(places_forget(&p, 2));
    assert_int_equal(places_state(&p, 1), PLACE_VACANT);
    assert_int_equal(p.living, 1);
    places_deinit(&p);
}

static void given_members_hold_their_places_for_good(void **state)
{
    (void)state;
    struct member all[3] = {{.id = 4}, {.id = 7}, {.id = 9}};
    struct places p;
    places_init(&p, 3, all);
    node_id id = 0;
    assert_int_equal(places_of(&p, 4), 0);
    assert_int_equal(places_of(&p, 9), 2);
    assert_int_equal(places_of(&p, 8), RANK_NONE);
    assert_int_equal(places_of(&p, 10), RANK_NONE);
    assert_true(places_holder(&p, 1, &id));
    assert_int_equal(id, 7);
    assert_int_equal(places_held(&p), 3);
    places_deinit(&p);
}

/* It would else take a place from who comes after it, or be counted for the founding; and what it claims is nothing. */
static void a_keeper_is_nobody(void **state)
{
    (void)state;
    struct places p;
    places_init(&p, 3, NULL);
    struct member keeper = member_at(1, 0, NOW - 5, MEMBER_ALIVE);
    keeper.meta[META_PHASE] = NODE_KEEPING + 1;
    assert_false(places_learn(&p, &keeper, NOW));
    learn(&p, 2, RANK_NONE, 0, MEMBER_ALIVE);
    assert_int_equal(p.living, 1);
    assert_int_equal(places_of(&p, 1), RANK_NONE);
    assert_int_equal(places_state(&p, 0), PLACE_VACANT);
    assert_int_equal(places_choose(&p, 2, RANK_NONE), 0);
    learn(&p, 2, 0, NOW, MEMBER_ALIVE);
    assert_int_equal(places_of(&p, 2), 0);
    keeper.meta[META_PHASE] = NODE_TRAINING + 1; /* the same id comes back as somebody who trains */
    assert_true(places_learn(&p, &keeper, NOW));
    assert_int_equal(places_of(&p, 1), 0);
    keeper.meta[META_PHASE] = NODE_KEEPING + 1;
    assert_true(places_learn(&p, &keeper, NOW));
    assert_int_equal(p.living, 1);
    assert_int_equal(places_of(&p, 2), 0);
    places_deinit(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(founders_take_places_in_order_of_id_whoever_claims_first),
        cmocka_unit_test(late_comers_take_vacant_places_then_deserted_ones_then_none),
        cmocka_unit_test(the_place_held_before_is_taken_unless_somebody_living_has_it),
        cmocka_unit_test(the_earlier_claim_holds_in_whatever_order_it_is_heard),
        cmocka_unit_test(equal_claims_go_to_the_smaller_id),
        cmocka_unit_test(absurd_claims_are_none),
        cmocka_unit_test(change_of_hands_is_told_and_nothing_else),
        cmocka_unit_test(given_members_hold_their_places_for_good),
        cmocka_unit_test(a_keeper_is_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
