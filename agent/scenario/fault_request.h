/* Injected faults in JSON: what the control socket's `fault` and the orders of `up` to its agents say, and the
 * answers.
 *
 *   -> {"op": "fault", "kind": "delay", "peer": 3 | "any", "direction": "both", "for_s": 30, "delay_s": 0.05,
 *       "jitter_s": 0.01, "rate": 100000, "one_in": 10000}     <- {"fault": 1, "what": "delay of 50 ms ..."}
 *   -> {"op": "fault", "heal": 1 | "all"}                      <- {"healed": 1, "faults": [{"id": 1, ...}]}
 *   -> {"op": "fault"}                                         <- {"faults": [{"id": 1, ...}]} */
#ifndef GADABOUT_AGENT_SCENARIO_FAULT_REQUEST_H
#define GADABOUT_AGENT_SCENARIO_FAULT_REQUEST_H

#include <jansson.h>

#include "base/err.h"
#include "net/fault/fault.h"
#include "net/transport.h"

/* Does what the request asks of the transport; now_us is the transport's clock. reply is an object to add to.
 * Errors: ERR_USAGE, ERR_LIMIT with why; nothing was done. */
int fault_request(struct transport *t, uint64_t now_us, const json_t *request, json_t *reply,
                  struct err_text *why);

json_t *fault_request_make(const struct fault_rule *r); /* returns owned */
json_t *fault_request_heal(int id);                     /* 0 = all; returns owned */

/* The counters in one element of "faults". */
void fault_request_counts(const json_t *fault, struct fault_counts *out);

#endif
