/* What an agent asks of its transport and its node: the configuration, and what it has resumed from. */
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "agent/daemon/daemon.h"
#include "algo/compress/pack.h"
#include "base/check.h"

#define BODY_SLACK 64u
#define PATIENCE_US 2000000u
#define LISTEN_US 500000u

uint64_t agent_random_bits(void)
{
    uint64_t bits = 0;
    ssize_t got = getrandom(&bits, sizeof bits, 0);
    CHECK(got == (ssize_t)sizeof bits);
    return bits;
}

uint64_t agent_make_boot(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t now_us = (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
    return now_us << 10 | (agent_random_bits() & 1023u);
}

/* Some compressors may lengthen what they cannot shorten, and references travel whole. */
static size_t body_size_max(const struct agent *a)
{
    size_t dim = a->experiment.dim, packed;
    packed = pack_bound(&a->config->compress, dim, a->experiment.tensor, a->experiment.tensor_count);
    size_t largest = dim * sizeof(float) > packed ? dim * sizeof(float) : packed;
    return (largest > STATE_CHUNK_SIZE ? largest : STATE_CHUNK_SIZE) + BODY_SLACK;
}

static bool find_member(void *ctx, node_id id, char address[ADDRESS_TEXT_MAX])
{
    const struct agent *a = ctx;
    const struct member *m = membership_find(node_membership(a->node), id);
    if (m == NULL || m->state != MEMBER_ALIVE) return false;
    memcpy(address, m->address, ADDRESS_TEXT_MAX);
    return true;
}

struct transport_config agent_transport_settings(struct agent *a)
{
    struct transport_config c = {
        .id = a->id,
        .boot = a->boot,
        .body_size_max = body_size_max(a),
        .heartbeat_us = 500000,
        .silence_us = 2000000,
        .hello_us = 5000000,
        .redial_min_us = 50000,
        .redial_max_us = 2000000,
        .seed = agent_random_bits(),
        .trace = &a->trace,
        .find_member = find_member,
        .ctx = a,
    };
    experiment_cluster_id(&a->experiment, c.cluster);
    c.cluster_name = cluster_name_hash(a->config->cluster);
    if (a->config->advertise != NULL) {
        size_t size = strlen(a->config->advertise) + 1;
        CHECK(size <= sizeof c.advertise); /* options are checked */
        memcpy(c.advertise, a->config->advertise, size);
    }
    return c;
}

struct relay_config agent_relay_settings(const struct agent *a, const struct transport_config *transport)
{
    return (struct relay_config){
        .id = transport->id,
        .boot = transport->boot,
        .seed = transport->seed,
        .bytes_s = a->config->relay_rate < RELAY_RATE_MAX ? a->config->relay_rate : RELAY_RATE_MAX,
        .answer_us = transport->silence_us,
        .redial_min_us = transport->redial_min_us,
        .redial_max_us = transport->redial_max_us,
        .trace = &a->trace,
    };
}

struct node_config agent_node_settings(const struct agent *a)
{
    const struct config *c = a->config;
    const struct checkpoint *resumed = agent_state_resumed(a);
    return (struct node_config){
        .id = a->id,
        .boot = a->boot,
        .node_count = c->nodes,
        .min_nodes = c->min_nodes,
        .keeper = c->keeper,
        .keep_every_us = (uint64_t)(c->keep_every_s * 1e6),
        .listen_us = c->launched || c->nodes == 1 ? 0 : LISTEN_US, /* `up` starts no keepers */
        .address = c->advertise,
        .had_place =
            c->launched || (resumed != NULL && resumed->place != RANK_NONE), /* `up` numbers by rank */
        .place = c->launched       ? (rank_t)c->id
                 : resumed != NULL ? resumed->place
                                   : 0,
        .claimed = resumed != NULL ? resumed->claimed : 0,
        .incarnation = resumed != NULL ? resumed->incarnation : 0,
        .overlay = strcmp(c->topology.spec->name, "overlay") == 0,
        .algo = c->algorithm,
        .algo_params = &c->algorithm_params,
        .compress = &c->compress,
        .tensor = a->experiment.tensor,
        .tensor_count = a->experiment.tensor_count,
        .topology = &c->topology,
        .seed = c->seed,
        .dim = a->experiment.dim,
        .x0 = resumed != NULL ? blob_floats(resumed->model) : a->experiment.x0,
        .start = a->experiment.x0,
        .give_bytes_s = c->give_rate,
        .method = resumed != NULL ? resumed->method : NULL,
        .steps_done = resumed != NULL ? resumed->steps : 0,
        .site = a->experiment.site,
        .tag = c->tag,
        .patience_us = c->patience_s > 0 ? (uint64_t)(c->patience_s * 1e6) : PATIENCE_US,
        .steps_max = c->launched ? 0 : c->steps, /* `up` counts, and ends the training of all at once */
        .trace = &a->trace,
    };
}
