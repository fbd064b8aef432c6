/* Ctrl-C and SIGTERM as a question: commands that compute in the foreground ask and come to an end. */
#ifndef GADABOUT_AGENT_FILES_INTERRUPT_H
#define GADABOUT_AGENT_FILES_INTERRUPT_H

#include <stdbool.h>

/* Takes both signals from now on. The handler is in place once: a second signal ends the process. Calling it
 * again changes nothing. */
void interrupt_catch(void);
bool interrupted(void); /* a signal has come */

#endif
