/* What membership knows of a member, in words for people. */
#ifndef GADABOUT_AGENT_REPORT_MEMBER_WORDS_H
#define GADABOUT_AGENT_REPORT_MEMBER_WORDS_H

#include "net/membership/membership.h"

#define MEMBER_WORDS_MAX 160u

/* Who accuses, and of what: "no answer to 91 and those it asked"; accuser is a text ("us", "91"). "" for
 * EVIDENCE_NONE. */
void member_evidence_words(enum member_evidence evidence, const char *accuser, char out[MEMBER_WORDS_MAX]);

/* "suspect 3.2 s: no answer to 91 and those it asked, 1 of 2 confirmations". */
void member_doubt_words(enum member_evidence evidence, const char *accuser, double since_s,
                        uint32_t confirmations, uint32_t wanted, char out[MEMBER_WORDS_MAX]);

#endif
