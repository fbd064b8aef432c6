/* The commands of gadabout, one file each. config is borrowed and valid; errors go to stderr as one line. */
#ifndef GADABOUT_AGENT_COMMAND_COMMANDS_H
#define GADABOUT_AGENT_COMMAND_COMMANDS_H

#include "agent/config/config.h"

enum exit_status {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,        /* at run time */
    EXIT_USAGE = 2,         /* options, configuration or data files, before anything started */
    EXIT_NOT_REACHED = 3,   /* the asked target was not reached; a claim does not hold */
    EXIT_INTERRUPTED = 130, /* Ctrl-C or SIGTERM; the run directory is complete */
};

/* Each returns an exit status. */
int command_up(struct config *config);
int command_agent(struct config *config);
int command_sim(struct config *config);
int command_eval(struct config *config);
int command_algorithms(struct config *config);
int command_reproduce(struct config *config);
int command_status(struct config *config);
int command_invite(struct config *config);
int command_doctor(struct config *config);
int command_fault(struct config *config);

#endif
