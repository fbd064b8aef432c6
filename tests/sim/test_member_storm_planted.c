/* Goal: the checkers of the storm of members have power: each planted bug is found within 30 seeds.
 * Method: mutants (member_mutants.h) tamper with the nodes' state from outside, between events, or a fault is done as
 * the bug would; the same storms without bugs are weathered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/sim/member_mutants.h"

enum { SEEDS_MAX = 30 };

static const struct member_mutant mutants[] = {
    {.name = "a place kept that another claimed before", .tamper = member_keep_a_place_of_another},
    {.name = "the dead keep their places", .tamper = member_keep_the_places_of_the_dead},
    {.name = "the fetch skipped", .tamper = member_skip_the_fetch},
    {.name = "what was fetched is dropped", .tamper = member_drop_what_was_fetched},
    {.name = "steps forgotten at an eviction", .tamper = member_forget_steps_when_evicted},
    {.name = "bridges over vacant places left out",
     .algorithm = "gossip:mode=async",
     .tamper = member_leave_bridges_out},
    {.name = "a suspicion never cancelled", .tamper = member_never_cancel_a_suspicion},
    {.name = "a suspicion that never ends", .tamper = member_never_end_a_suspicion},
    {.name = "the dead are never dialled again", .tamper = member_never_redial_the_dead},
    {.name = "the incarnation never raised", .tamper = member_never_raise_the_incarnation},
    {.name = "the dead taken for living", .tamper = member_take_the_dead_for_living},
    {.name = "a lost place told on", .tamper = member_tell_a_place_that_is_lost},
    {.name = "a message relayed twice", .relays = true, .tamper = member_relay_a_message_twice},
    {.name = "a relayer that leaves one out", .relays = true, .tamper = member_relay_with_a_hole},
    {.name = "a sender that ignores the window", .relays = true, .tamper = member_relay_over_the_window},
    {.name = "a pair forgotten by its relayer", .relays = true, .tamper = member_relay_forget_a_pair},
    {.name = "a relayed link that outlives its relayer",
     .relays = true,
     .tamper = member_relay_outlive_the_relayer},
    {.name = "a keeper claims a place", .tamper = member_claim_a_place_as_keeper},
    {.name = "a keeper counts for the founding", .tamper = member_count_keepers},
    {.name = "a keeper never fetches again", .tamper = member_keep_the_first_model},
    {.name = "founders pass over the keeper", .tamper = member_found_without_the_keeper},
    {.name = "a leave that nobody is told of", .leaves_in_silence = true},
    {.name = "two holders of a place taken for one",
     .algorithm = "allreduce:every=3",
     .tamper = member_take_two_holders_for_one},
    {.name = "the time of a claim not saved", .forgets_claim = true},
    {.name = "the steps not saved", .forgets_steps = true},
};

static void every_planted_bug_is_found(void **state)
{
    (void)state;
    unsigned living = 0;
    for (size_t i = 0; i < sizeof mutants / sizeof mutants[0]; i++) {
        struct err_text why = {""};
        const struct member_plan plan = {.mutant = &mutants[i]};
        uint64_t seed = 1;
        while (seed <= SEEDS_MAX && member_storm_run(seed, &plan, NULL, &why)) seed++;
        living += seed > SEEDS_MAX;
        if (seed > SEEDS_MAX) print_message("\"%s\" lives through %d seeds\n", mutants[i].name, SEEDS_MAX);
        printf("%-42s found: %s\n", mutants[i].name, why.text);
    }
    assert_int_equal(living, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_planted_bug_is_found)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
