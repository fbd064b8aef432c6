/* Every study, one per file. To add one: a file with its struct study, a line here and one in study.c. */
#ifndef GADABOUT_AGENT_REPRODUCE_LIST_H
#define GADABOUT_AGENT_REPRODUCE_LIST_H

#include "agent/reproduce/study.h"

extern const struct study study_digest, study_delicoco, study_def, study_hsgd, study_async, study_bytes;

#endif
