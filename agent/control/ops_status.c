/* The answer to {"op": "status"}: the agent in figures, and whom it knows. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/control/control.h"
#include "agent/control/members.h"
#include "agent/daemon/daemon.h"
#include "agent/files/json.h"
#include "net/relay/relay.h"

static void put(json_t *object, const char *key, json_t *value)
{
    json_object_set_new(object, key, value);
}

static json_t *place(rank_t rank)
{
    return rank != RANK_NONE ? json_integer(rank) : json_null();
}

static uint64_t memory_bytes(void)
{
    unsigned long long all, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f == NULL) return UINT64_MAX;
    int got = fscanf(f, "%llu %llu", &all, &resident);
    fclose(f);
    return got == 2 ? resident * (uint64_t)sysconf(_SC_PAGESIZE) : UINT64_MAX;
}

static const char *phase_name(const struct agent *a, enum node_phase phase)
{
    if (a->stopped_by != NULL) return "stopping";
    return node_phase_name(phase);
}

/* The share of the model that has come, while it is fetched. */
static json_t *fetched(const struct node_report *r)
{
    if (r->fetch_chunks_total == 0) return json_null();
    return json_real((double)r->fetch_chunks / (double)r->fetch_chunks_total);
}

/* Of this life. */
static json_t *loop_lag(const struct agent *a)
{
    json_t *o = json_object();
    put(o, "p99_s", json_real((double)lag_percentile_us(&a->loop_lag, 0.99) * 1e-6));
    put(o, "max_s", json_real((double)a->loop_lag.max_us * 1e-6));
    return o;
}

/* What the agent passes on for others. */
static void put_relays(json_t *o, const struct relay *relay)
{
    struct relay_totals t;
    relay_totals(relay, &t);
    put(o, "relays", json_integer(t.pairs));
    put(o, "relayed_bytes", json_count_or_null(t.bytes));
    put(o, "relayed_messages", json_count_or_null(t.messages));
    put(o, "relays_refused", json_count_or_null(t.refused));
}

/* -- the agent --------------------------------------------------------------------------------- */

int control_status(struct agent *a, struct control_call *call)
{
    struct node_report r;
    node_report(a->node, &r);
    uint32_t links;
    char waits[NODE_WAIT_MAX];
    json_t *o = call->reply, *known = control_members(a, &links), *membership = control_membership(a);
    put(o, "id", json_count_or_null(a->id));
    put(o, "pid", json_integer(getpid()));
    put(o, "version", json_string(GADABOUT_VERSION));
    put(o, "cluster", json_text_or_null(a->config->cluster));
    put(o, "address", json_text_or_null(a->address));
    put(o, "directory", json_text_or_null(a->dir.path));
    put(o, "algorithm", json_choice(&a->config->algorithm_params));
    if (node_rival_at(a->node) != NULL) put(o, "id_also_at", json_text_or_null(node_rival_at(a->node)));
    put(o, "place", place(r.place));
    put(o, "places", json_integer(a->config->nodes));
    put(o, "phase", json_string(phase_name(a, r.phase)));
    put(o, "waits_for", json_text_or_null(node_waits_for(a->node, waits)));
    put(o, "fetched", fetched(&r));
    put(o, "steps", json_count_or_null(a->steps_before + r.algo.steps));
    put(o, "model_steps", json_count_or_null(r.progress));
    put(o, "mixes", json_count_or_null(r.algo.mixes));
    put(o, "loss", r.algo.steps > 0 ? json_number_or_null(r.loss) : json_null());
    put(o, "accuracy", json_number_or_null(a->accuracy));
    put(o, "health",
        json_is_object(membership) ? json_incref(json_object_get(membership, "health")) : json_null());
    put(o, "links", json_integer(links));
    put_relays(o, a->relay);
    put(o, "neighbours", json_integer(r.neighbours));
    put(o, "neighbours_up", json_integer(r.neighbours_up));
    put(o, "bytes_sent", json_count_or_null(r.net.bytes_sent));
    put(o, "bytes_received", json_count_or_null(r.net.bytes_received));
    put(o, "loop_lag", loop_lag(a));
    put(o, "memory_bytes", json_count_or_null(memory_bytes()));
    put(o, "checkpoint_age_s", json_number_or_null(agent_state_age_s(a)));
    put(o, "checkpoint_ok", a->state != NULL ? json_boolean(agent_state_ok(a)) : json_null());
    put(o, "uptime_s", json_number_or_null(wall_clock_s() - a->began_s));
    put(o, "membership", membership);
    put(o, "members", known);
    return 0;
}
