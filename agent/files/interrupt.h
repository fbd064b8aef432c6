/* Ctrl-C and SIGTERM as a question: commands that compute in the foreground ask and come to an end. */
#ifndef GADABOUT_AGENT_FILES_INTERRUPT_H
#define GADABOUT_AGENT_FILES_INTERRUPT_H

#include <stdbool.h>

/* Takes both signals from now on. The handler is in place once: a second signal ends the process. Calling it
 * again changes nothing. */
void interrupt_catch(void);
bool interrupted(void); /* a signal has come */

/* Between the making of a run directory and whoever ends it as a whole, both signals wait. rundir.h holds them;
 * interrupt_catch lets them go, and so do owners of an event loop once their own handlers are in place. */
void interrupt_hold(void);
void interrupt_release(void);

#endif
