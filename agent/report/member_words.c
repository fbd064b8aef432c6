/* Sentences about members. */
#include "agent/report/member_words.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"

void member_evidence_words(enum member_evidence evidence, const char *accuser, char out[MEMBER_WORDS_MAX])
{
    bool us = strcmp(accuser, "us") == 0;
    switch (evidence) {
    case EVIDENCE_NONE:
        out[0] = '\0';
        return;
    case EVIDENCE_TIMEOUT:
        snprintf(out, MEMBER_WORDS_MAX, "no answer to %s and those %s asked", accuser, us ? "we" : "it");
        return;
    case EVIDENCE_RESET:
        snprintf(out, MEMBER_WORDS_MAX, "its link with %s was cut off", accuser);
        return;
    case EVIDENCE_SILENT:
        snprintf(out, MEMBER_WORDS_MAX, "its link with %s fell silent", accuser);
        return;
    case EVIDENCE_REFUSED:
        snprintf(out, MEMBER_WORDS_MAX, "its host refuses %s: the process is gone", accuser);
        return;
    }
    UNREACHABLE();
}

void member_doubt_words(enum member_evidence evidence, const char *accuser, double since_s,
                        uint32_t confirmations, uint32_t wanted, char out[MEMBER_WORDS_MAX])
{
    char what[MEMBER_WORDS_MAX];
    member_evidence_words(evidence, accuser, what);
    if (what[0] == '\0') snprintf(what, sizeof what, "accused by %s", accuser);
    int used = snprintf(out, MEMBER_WORDS_MAX, "suspect %.1f s: %.100s", since_s, what);
    if (wanted > 0) /* none in a cluster of two or three */
        snprintf(out + used, MEMBER_WORDS_MAX - (size_t)used, ", %u of %u confirmations", confirmations,
                 wanted);
}
