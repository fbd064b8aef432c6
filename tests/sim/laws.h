/* The hooks of the laws (checkers.h), by method. Only laws.c and the law_*.c include this. */
#ifndef GADABOUT_TESTS_SIM_LAWS_H
#define GADABOUT_TESTS_SIM_LAWS_H

#include "tests/sim/checkers.h"

void digest_look(struct storm *s, rank_t v);
void digest_look_at_rest(struct storm *s, rank_t v);
const char *digest_unrest(struct storm *s);
const char *digest_disagreement(struct storm *s);
void digest_quiet(struct storm *s);
void digest_end(struct storm *s);
const char *digest_loss_name(enum digest_loss cause);
void digest_losses_look(struct storm *s, rank_t v);
void digest_losses_crash(struct storm *s, rank_t v); /* it is about to */

void copies_look_at_rest(struct storm *s, rank_t v);
void copies_end(struct storm *s);

void async_look(struct storm *s, rank_t v);
void async_look_at_rest(struct storm *s, rank_t v);
const char *async_unrest(struct storm *s);
rank_t async_pillar(const struct storm *s);

const char *residuals_disagreement(struct storm *s);
const char *estimates_disagreement(struct storm *s);

#endif
