/* The simulated world: virtual time, one heap of events ordered by (time, sequence), nodes' hosts, and
 * links with seeded latency, bandwidth, cuts, one-way cuts, resets, pauses, crashes and restarts. It keeps
 * the transport contract (transport.h) and models TCP: order within a lane, no loss or duplicates inside a
 * link; faults take whole links down or stall them.
 *
 * Determinism: everything is a function of the seed and of the calls made; ties run in order of insertion;
 * each concern and each ordered link draws from its own random stream, so that neither more traffic on one
 * link nor another fault changes the delays of another. sim_observe shows every callback.
 *
 * What is simplified: heartbeats and hellos are no events and cost no bytes; a message counts as queued until
 * it is delivered; what was on its way when a link died is lost in both directions, goodbyes included. */
#ifndef GADABOUT_NET_SIM_SIM_H
#define GADABOUT_NET_SIM_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/choice.h"
#include "net/host.h"
#include "net/transport.h"

/* --latency: how long a message takes over a link.
 *   transfer:shift=1s,low=1s,high=9s,control=0s   (default; DIGEST's experiments) each link has a mean m,
 *        a whole number of seconds uniform in low..high; a message with a body takes shift + Exp(m), drawn
 *        afresh; one without takes `control`
 *   exp:mean=50ms        every message Exp(mean)
 *   fixed:delay=1ms      every message
 *   uniform:low=1ms,high=9ms
 * --bandwidth is a field of struct sim_options. */
extern const struct choice_spec latency_table[];
extern const size_t latency_table_count;

/* Mean delay in seconds of a message without a body, of a choice from latency_table. */
double sim_latency_control_s(const struct choice *latency);

/* --step-time: virtual duration of one local step: constant:value=1s | uniform:low=1s,high=5s (drawn once per
 * node) | drawn per step: exp:mean=1s, and the laws of AsGrad's experiments (arXiv:2310.20452), whole numbers
 * of units: poisson:mean=1s (may be 0), normal:scale=1s (floor |N(s, s)| + 1), jitter:scale=1s (floor U(0, s)
 * + 1). */
extern const struct choice_spec step_time_table[];
extern const size_t step_time_table_count;

/* Mean duration of a local step of a node that is not slowed down, in seconds. */
double sim_step_time_mean_s(const struct choice *step_time);

/* --speeds: how many times slower than the step time says each node is; the factor scales the parameter of its
 * law: equal | linear (node v is v + 1 times slower: AsGrad's s_i = i) | uniform:low=1,high=10 (drawn once per
 * node) | list:values=1-1-4 (repeated for further nodes). */
extern const struct choice_spec speeds_table[];
extern const size_t speeds_table_count;

/* Fills slowness[0..node_count), each > 0. Errors: ERR_USAGE with why for a list that is none. */
int sim_speeds(const struct choice *speeds, uint32_t node_count, uint64_t seed, double *slowness,
               struct err_text *why);

struct sim_options {
    uint64_t seed;
    uint32_t node_count;
    const struct choice *latency;   /* borrowed for life */
    const struct choice *step_time; /* borrowed for life */
    const double *slowness;     /* (node_count) of sim_speeds, borrowed during sim_world_new; NULL = all 1 */
    uint64_t bandwidth_bytes_s; /* per link and direction; 0 = unlimited */
    uint64_t link_silence_us;   /* how long until a cut or paused peer is noticed as DOWN_SILENT, counted
                                     * from the later of the fault and the last delivery; each end's timer
                                     * adds a drawn slack of less than a sixteenth */
    uint64_t redial_us;         /* mean interval of dial tries, > 0; drawn from half to one and a half */
    const struct trace *trace;
};

struct sim_world;

struct sim_world *sim_world_new(const struct sim_options *options); /* returns owned */
void sim_world_free(struct sim_world *w); /* and the transports and hosts of all nodes */

/* The transport and host of node v, address "sim:<v>"; config->id is normally v. config and sink are copied.
 * The sinks are called from sim_step only. Valid until the node crashes or the world is freed. A transport
 * that has closed (on_closed came) may be replaced by another call without a crash, a host without a running
 * job likewise. */
struct transport *sim_transport(struct sim_world *w, uint32_t v, const struct transport_config *config,
                                const struct transport_sink *sink);
struct host *sim_host(struct sim_world *w, uint32_t v, const struct host_sink *sink);

/* From now on nobody can dial node v: tries get no answer, as from behind a NAT, and its peers see no address. */
void sim_dial_only(struct sim_world *w, uint32_t v);

uint64_t sim_now_us(const struct sim_world *w);

/* Delivers the next event: at most one callback, or a dial try. Returns false when none is left at or before
 * limit_us; then now = limit_us, unless that is TIME_NEVER. A wanted address that cannot be reached always
 * has a next try: give a limit. */
bool sim_step(struct sim_world *w, uint64_t limit_us);

/* Mean delay of link a-b in seconds, as drawn from `latency` (for graph.delay; `transfer`: m without the
 * shift, as in DIGEST). Symmetric. */
double sim_link_mean_s(const struct sim_world *w, uint32_t a, uint32_t b);

/* -- faults ------------------------------------------------------------------------------------ */

/* The faults are called between steps, not from a sink; callbacks follow from sim_step.
 *
 * The node vanishes: its links go down at the peers after link_silence_us (or at once with `reset`), its
 * pending job and deadline are gone. Its transport and host are freed here: the caller frees its node object
 * without using them, then may attach a new one after sim_restart. */
void sim_crash(struct sim_world *w, uint32_t v, bool reset);
void sim_restart(struct sim_world *w, uint32_t v); /* the slot may be used again; boot ids are the caller's */
void sim_pause(struct sim_world *w, uint32_t v);   /* SIGSTOP: nothing is delivered, peers see silence */
void sim_resume(struct sim_world *w, uint32_t v);  /* what TCP still holds is delivered if the link lives */
void sim_cut(struct sim_world *w, uint32_t a, uint32_t b); /* both directions drop; silence follows */
void sim_cut_one_way(struct sim_world *w, uint32_t from, uint32_t to);
void sim_heal(struct sim_world *w, uint32_t a, uint32_t b);       /* both directions */
void sim_reset_link(struct sim_world *w, uint32_t a, uint32_t b); /* down now, messages in flight are lost */
void sim_heal_all(struct sim_world *w);                           /* all cuts and pauses, not crashes */
bool sim_alive(const struct sim_world *w, uint32_t v);

/* -- observation ------------------------------------------------------------------------------- */

/* Called before every callback with its canonical bytes (time, kind, nodes, lane or reason, sizes, content
 * hash; all little-endian 64-bit words), to be hashed by the caller. Set before the first step. */
void sim_observe(struct sim_world *w, void (*event)(void *ctx, const void *bytes, size_t size), void *ctx);

struct sim_totals {
    uint64_t events;                  /* steps that returned true */
    uint64_t messages, bodies, bytes; /* delivered; bytes as framed on the wire */
};
void sim_totals(const struct sim_world *w, struct sim_totals *out);

#endif
