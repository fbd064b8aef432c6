/* Bugs of the member side, planted from outside: what each does to the state of nodes between events, as the bug
 * would have. member_mutants.c tampers with nodes, member_mutants_swim.c with their membership, member_mutants_relay.c with
 * the relays under them. */
#ifndef GADABOUT_TESTS_SIM_MEMBER_MUTANTS_H
#define GADABOUT_TESTS_SIM_MEMBER_MUTANTS_H

#include "tests/sim/member_storm.h"

void member_keep_a_place_of_another(struct member_storm *s);
void member_keep_the_places_of_the_dead(struct member_storm *s);
void member_skip_the_fetch(struct member_storm *s);
void member_drop_what_was_fetched(struct member_storm *s);
void member_forget_steps_when_evicted(struct member_storm *s);
void member_leave_bridges_out(struct member_storm *s);
void member_take_two_holders_for_one(struct member_storm *s);

void member_claim_a_place_as_keeper(struct member_storm *s);
void member_count_keepers(struct member_storm *s);
void member_keep_the_first_model(struct member_storm *s);
void member_found_without_the_keeper(struct member_storm *s);

void member_never_cancel_a_suspicion(struct member_storm *s);
void member_never_end_a_suspicion(struct member_storm *s);
void member_never_redial_the_dead(struct member_storm *s);
void member_never_raise_the_incarnation(struct member_storm *s);
void member_take_the_dead_for_living(struct member_storm *s);
void member_tell_a_place_that_is_lost(struct member_storm *s);

void member_relay_a_message_twice(struct member_storm *s);
void member_relay_with_a_hole(struct member_storm *s);
void member_relay_over_the_window(struct member_storm *s);
void member_relay_forget_a_pair(struct member_storm *s);
void member_relay_outlive_the_relayer(struct member_storm *s);

#endif
