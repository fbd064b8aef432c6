/* What the files of `gadabout agent` share: daemon/daemon.c (the whole), daemon/loop.c (handles, why it
 * stops, the order of closing), daemon/transport.c (TCP and relay), daemon/place.c (the rows of its place),
 * daemon/settings.c (what it asks of transport and node), daemon/join.c (finding the others), daemon/save.c (the
 * state directory), daemon/report.c (what it says), daemon/lag.c (how late the loop is).
 * Private to them. */
#ifndef GADABOUT_AGENT_DAEMON_DAEMON_H
#define GADABOUT_AGENT_DAEMON_DAEMON_H

#include <jansson.h>
#include <uv.h>

#include "agent/command/commands.h"
#include "agent/control/heard.h"
#include "agent/experiment/experiment.h"
#include "agent/experiment/worker.h"
#include "agent/files/rundir.h"
#include "agent/node/node.h"
#include "agent/report/lag.h"
#include "agent/report/progress.h"
#include "agent/state/checkpoint.h"
#include "net/relay/relay.h"

struct agent_state;
struct agent_orders;

struct agent {
    const struct config *config;
    struct experiment experiment;
    struct progress progress;
    struct trace trace;
    struct rundir dir;
    struct worker *worker; /* NULL until the rank is known */
    struct node *node;
    struct relay *relay;             /* between the two below and what is under them */
    struct transport *tcp;           /* under it; NULL until it is open */
    struct host *uv_host;            /* likewise */
    struct transport *transport;     /* the relay's */
    struct transport_sink node_sink; /* where the transport's calls go, by way of daemon/transport.c */
    struct host *host;
    struct host_sink host_sink;
    struct control *control; /* NULL = none */
    struct heard heard;      /* sampled with each report */
    struct events *events;   /* events.jsonl; NULL until the run directory is there */

    struct search *search;           /* daemon/join.c; NULL = not open */
    char (*known)[ADDRESS_TEXT_MAX]; /* (known_count) its book when it was closed; owned */
    uint32_t known_count;

    uv_loop_t loop;
    uv_timer_t report, limit; /* limit: of --time, or of the settle time once the steps are done */
    uv_timer_t count;         /* with --launched: how often the count of steps is told */
    uv_timer_t end;           /* closes the transport, once the code that wants the end has returned */
    uv_timer_t lag;           /* daemon/lag.c */
    uv_signal_t interrupt, terminate, freeze;
    uv_handle_t *own[8]; /* (own_count) of these eight, those that are open */
    uint32_t own_count;
    struct lag loop_lag;
    uint64_t lag_due_us;
    bool loop_open;
    bool transport_closed; /* nothing but the job that runs is waited for */
    char address[ADDRESS_TEXT_MAX];
    struct agent_orders *orders; /* daemon/orders.c; NULL = `up` gives none */
    node_id id;
    uint64_t boot;
    uint64_t steps_before;     /* of former lives */
    struct agent_state *state; /* daemon/save.c; NULL = nothing is kept */
    rank_t place;              /* that the worker has the rows of */
    struct worker_load *load;  /* daemon/place.c: the rows of load_place, being loaded; NULL = none */
    rank_t load_place;
    bool loaded; /* the job of `load` is done */

    double began_s, ranked_s; /* wall_clock_s; ranked_s is NAN while joining */
    bool disturbed;           /* faults were asked for */
    bool finished;            /* the steps are done */
    const char *stopped_by;   /* NULL while running */
    bool reached;             /* the target */
    struct err_text failure;  /* "" = none */
    uint64_t steps_told;
    double progress_s;       /* wall_clock_s of the last progress of the baselines */
    struct node_report last; /* taken when the end began, later its counters are up to date */
    double loss, accuracy;   /* of the node's own model on held-out rows, as last known; NAN */
};

/* -- daemon/loop.c */

/* Opens loop, transport, host and node; nothing is dialled yet. Errors leave nothing open but what
 * agent_loop_close ends. */
int agent_loop_open(struct agent *a, struct err_text *why);

/* Starts the node and runs until everything is closed again. a->failure tells what went wrong. */
void agent_loop_run(struct agent *a);

/* Closes what is open; the loop must be empty then (checked). */
void agent_loop_close(struct agent *a);

/* Begins the end, once; a later call changes nothing. The transport is closed from the loop, so this may be
 * called from within its callbacks. stopped_by is static. */
void agent_tell_faults(struct agent *a); /* injected ones that have begun or ended since, into events.jsonl */
void agent_stop(struct agent *a, const char *stopped_by);

bool agent_target_asked(const struct config *c);

/* -- daemon/lag.c: how late the loop is, in a->loop_lag */
void agent_lag_start(struct agent *a);

/* Training begins: the time counts from the first time on. */
void agent_loop_ranked(struct agent *a);

/* -- daemon/place.c: the rows of the node's place. The first two are the node's (node_sink); ctx is the agent. */
bool agent_place_ready(void *ctx, rank_t rank);
int agent_place_take(void *ctx, rank_t rank, struct trainer **trainer, double *weight, struct err_text *why);
bool agent_place_job_done(struct agent *a, const struct job *j); /* false: not a job of ours */
void agent_place_close(struct agent *a);                         /* no job runs any more */

/* -- daemon/transport.c: opens a->transport and a->host; on_closed as in transport.h, ctx is the agent */
int agent_transport_open(struct agent *a, void (*on_closed)(void *ctx), const struct host_sink *host_sink,
                         struct err_text *why);

/* -- daemon/settings.c */
uint64_t agent_random_bits(void);
uint64_t agent_make_boot(void); /* greater at every start, as membership expects, and never twice the same */
struct transport_config agent_transport_settings(struct agent *a);
struct relay_config agent_relay_settings(const struct agent *a, const struct transport_config *transport);
struct node_config agent_node_settings(const struct agent *a); /* borrows from a and its state */

/* -- daemon/orders.c: with --launched, what `up` asks for on our standard input, when that is a pipe */
void agent_orders_open(struct agent *a);
void agent_orders_close(struct agent *a); /* before the loop ends; does nothing when there are none */

/* -- daemon/save.c: the state directory. All but the first do nothing when none is open. */

/* Opens and locks the directory, settles a->id, loads what is there and says so. Before the node is made. What it has
 * opened agent_state_close closes, also after an error. */
int agent_state_open(struct agent *a, const char *path, struct err_text *why);
const struct checkpoint *agent_state_resumed(const struct agent *a); /* NULL = nothing; borrowed */
void agent_state_restore_trainer(struct agent *a);                   /* of a new worker */
double agent_state_age_s(const struct agent *a); /* since the last save; NAN = there was none yet */
bool agent_state_ok(const struct agent *a);      /* the last save, if there was one, went well */
void agent_state_start(struct agent *a);         /* the loop runs: saves from now on */
void agent_state_still(struct agent *a); /* the node's on_still: saves now, if one is due */
void agent_state_hurry(struct agent *a); /* its on_save: saves as soon as may be, and tells it */
void agent_state_stop(struct agent *a);   /* no more; a save under way keeps the loop up until it is done */
void agent_state_finish(struct agent *a); /* the loop is empty: saves once more */
void agent_state_close(struct agent *a);

/* -- daemon/join.c: the search for others (daemon/search.h), joined to transport and node. What the
 * transport tells comes here after the node has had it; once the agent is stopping nothing is looked for. */
int agent_join_open(struct agent *a,
                    struct err_text *why); /* after transport and state; errors name --multicast */
void agent_join_start(struct agent *a);    /* after node_start */
void agent_join_close(struct agent *a);    /* keeps the book */
void agent_join_up(struct agent *a, const struct peer_info *peer);
void agent_join_down(struct agent *a);
/* True: nobody is left to join, and the agent ends with that as its reason. Comes before the node has had it. */
bool agent_join_refused(struct agent *a, const char *address, int err, const char *reason);
void agent_join_unreachable(struct agent *a, const char *address, int err);
void agent_join_member(struct agent *a, const struct member *m); /* its record has changed */
uint32_t agent_join_book(const struct agent *a, char out[][ADDRESS_TEXT_MAX], uint32_t max);
void agent_fail(struct agent *a, const struct err_text *why); /* daemon/loop.c: it cannot go on */

/* -- daemon/report.c: to a person on stderr, or with --launched to `up` as JSON lines on stdout */
void agent_say_listening(struct agent *a);
void agent_say_ranked(struct agent *a, rank_t rank);
void agent_say_finished(struct agent *a);
void agent_say_failed(struct agent *a);
void agent_say_steps(struct agent *a);                  /* with --launched: when the count has changed */
void agent_say_answer(struct agent *a, json_t *answer); /* to an order; takes answer */
uint64_t agent_model_steps(const struct agent *a, const struct node_report *r); /* 0 = as many as it did itself */
void agent_say_state(struct agent *a);                  /* each interval: metrics line and progress */
void agent_say_evaluation(struct agent *a);             /* a->loss and a->accuracy are new */
void agent_say_metrics(struct agent *a, const struct node_report *report);
void agent_trace_line(void *ctx, enum trace_level level, const char *text);

#endif
