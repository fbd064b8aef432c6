/* What visits to the members that --join names say about the set-up.
 *
 * Each failure course of a visit is a finding with its remedy. Of one that was met: is it of our cluster and
 * experiment, is its clock ours, can others reach the address it tells, and can it reach ours. */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/doctor/doctor.h"
#include "base/check.h"

#define CLOCK_SLACK_S 60.0
#define BOOT_PER_S (1024.0 * 1e6) /* boot ids: microseconds since 1970 times 1024 */

/* -- addresses --------------------------------------------------------------------------------- */

static const char *listen_port(const struct config *c)
{
    const char *colon = strrchr(c->listen, ':');
    return colon != NULL ? colon + 1 : "0";
}

/* Where the peer sees us; the far end of its word is not taken on trust: at most a finding is wrong. */
static bool where_seen(const struct visit *v, struct doctor_target *out)
{
    if (v->seen[0] != '\0' && doctor_resolve(v->seen, false, out, 1) == 1) return true;
    *out = (struct doctor_target){.address = v->from};
    int err = getnameinfo((const struct sockaddr *)&v->from, sizeof v->from, out->host, sizeof out->host,
                          NULL, 0, NI_NUMERICHOST);
    return err == 0;
}

/* --advertise is a promise that peers can reach us there. */
static void check_promise(struct doctor *d, const char *peer, const struct doctor_target *seen)
{
    const char *ours = d->config->advertise;
    struct doctor_target to;
    int got = doctor_resolve(ours, false, &to, 1);
    if (got < 1) {
        doctor_finding(d, "name",
                       "--advertise: %s does not resolve here (%s); give an address that every peer can "
                       "resolve",
                       ours, got < 0 ? gai_strerror(got) : "no address");
        return;
    }
    if (doctor_same_host(&to.address, &seen->address)) {
        doctor_good(d, "--advertise: %s is where %s sees us", ours, peer);
        return;
    }
    enum address_kind kind = doctor_kind(&to.address);
    bool elsewhere = doctor_kind(&seen->address) == ADDRESS_PUBLIC || !doctor_is_ours(&to.address);
    bool stays_here = kind == ADDRESS_LOOPBACK && doctor_kind(&seen->address) != ADDRESS_LOOPBACK;
    if (stays_here || (kind != ADDRESS_PUBLIC && elsewhere))
        doctor_finding(d, "advertised",
                       "--advertise: %s is %s, and %s sees us as %s; leave --advertise out, or give "
                       "one that peers can reach",
                       ours, doctor_kind_name(kind), peer, seen->host);
    else
        doctor_good(d, "--advertise: %s; %s sees us as %s", ours, peer, seen->host);
}

/* Without --advertise peers dial the host they see, at the port we listen on. */
static void check_listen_seen(struct doctor *d, const char *peer, const struct doctor_target *seen)
{
    const struct config *c = d->config;
    struct doctor_target here;
    if (strcmp(c->listen, "none") == 0) return; /* nobody is to */
    bool known = doctor_resolve(c->listen, true, &here, 1) == 1;
    if (known && doctor_kind(&here.address) == ADDRESS_LOOPBACK &&
        doctor_kind(&seen->address) != ADDRESS_LOOPBACK)
        doctor_finding(d, "advertised",
                       "--listen: %s takes links from this machine only, and %s sees us as %s: no "
                       "peer can call us; give --listen 0.0.0.0:%s",
                       c->listen, peer, seen->host,
                       strcmp(listen_port(c), "0") == 0 ? "7946" : listen_port(c));
    else if (!doctor_is_ours(&seen->address))
        doctor_finding(d, "advertised",
                       "%s sees us as %s, which is no address of this machine: behind a NAT peers "
                       "cannot call us (we can call them); forward a port and give it as --advertise %s:PORT",
                       peer, seen->host, seen->host);
    else
        doctor_good(d, "peers can call %s, port %s", seen->host,
                    strcmp(listen_port(c), "0") == 0 ? "as the agent gets it" : listen_port(c));
}

/* What the member tells others about where it is: they cannot join it by an address that only it can use. */
static void check_its_address(struct doctor *d, const struct doctor_target *at, const struct visit *met)
{
    const char *told = met->hello.address;
    struct doctor_target to;
    struct visit v;
    if (told[0] == '\0' || strcmp(told, at->text) == 0) return;
    int got = doctor_resolve(told, false, &to, 1);
    if (got < 1) {
        doctor_finding(d, "advertised",
                       "%s tells others that it is at %s, which does not resolve here (%s); start it "
                       "with an --advertise that peers can reach",
                       at->text, told, got < 0 ? gai_strerror(got) : "no address");
        return;
    }
    bool its_own =
        doctor_kind(&to.address) == ADDRESS_LOOPBACK && doctor_kind(&at->address) != ADDRESS_LOOPBACK;
    v.end = VISIT_UNREACHABLE;
    if (!its_own) visit_make(&to, &d->hello, &v);
    if (v.end == VISIT_MET && v.hello.id == met->hello.id) return;
    doctor_finding(d, "advertised",
                   "%s tells others that it is at %s, %s, where %s; start it with an --advertise "
                   "that peers can reach, or without",
                   at->text, told, doctor_kind_name(doctor_kind(&to.address)),
                   v.end == VISIT_MET ? "another member answers" : "it does not answer from here");
}

/* -- a member ---------------------------------------------------------------------------------- */

static void check_clock(struct doctor *d, const char *peer, const struct hello *h)
{
    double ahead_s = (double)h->boot / BOOT_PER_S - (double)time(NULL);
    if (ahead_s > CLOCK_SLACK_S)
        doctor_finding(d, "clock",
                       "%s was started %.0f s from now, by its clock: one of the two clocks is wrong, and "
                       "members drop what comes from the day after; set both by NTP",
                       peer, ahead_s);
}

static void check_member(struct doctor *d, const struct doctor_target *at, const struct visit *v)
{
    const struct hello *h = &v->hello;
    unsigned long long id = (unsigned long long)h->id;
    if (h->name != d->hello.name)
        doctor_finding(d, "cluster",
                       "%s is node %llu of another cluster: its name is not --cluster %s; give the name "
                       "that the others have, or join others",
                       at->text, id, d->config->cluster);
    else if (!d->compare)
        doctor_good(
            d,
            "%s answers in %.3g ms: node %llu of cluster %s; give -n and the other options of the agent "
            "to compare the experiment",
            at->text, 1e3 * v->answer_s, id, d->config->cluster);
    else if (memcmp(h->cluster, d->hello.cluster, sizeof h->cluster) != 0)
        doctor_finding(
            d, "experiment",
            "%s is node %llu of the same cluster name, but of another experiment: model, "
            "data, -n, seed and all that shapes it must be equal; compare with config.yml in its run "
            "directory, or give another --cluster",
            at->text, id);
    else
        doctor_good(d, "%s answers in %.3g ms: node %llu, same cluster, same experiment", at->text,
                    1e3 * v->answer_s, id);
}

/* Of the member itself, and of all that it knows: it need not know of everybody yet. */
static void check_id(struct doctor *d, const struct doctor_target *at, const struct visit *v)
{
    unsigned long long id = (unsigned long long)d->config->id;
    if (d->config->id == v->hello.id)
        doctor_finding(d, "id", "--id: %llu is in use at %s; ids must differ, leave it out to draw one", id,
                       at->text);
    else if (v->used && d->compare_id)
        doctor_finding(
            d, "id",
            "--id: %llu is in use%s%s, says %s; ids must differ, leave it out to draw one (if that agent was "
            "killed, the others know in some seconds)",
            id, v->user[0] != '\0' ? " at " : "", v->user, at->text);
}

static void met(struct doctor *d, const struct doctor_target *at, const struct visit *v)
{
    struct doctor_target seen;
    check_member(d, at, v);
    check_id(d, at, v);
    check_clock(d, at->text, &v->hello);
    check_its_address(d, at, v);
    if (d->met || !where_seen(v, &seen)) return; /* one peer's word about us is enough */
    d->met = true;
    if (d->config->advertise != NULL)
        check_promise(d, at->text, &seen);
    else
        check_listen_seen(d, at->text, &seen);
}

/* -- visits ------------------------------------------------------------------------------------ */

static void judge(struct doctor *d, const struct doctor_target *at, const struct visit *v)
{
    char version[32] = "another protocol version";
    switch (v->end) {
    case VISIT_MET:
        met(d, at, v);
        return;
    case VISIT_REFUSED:
        doctor_finding(d, "refused",
                       "--join: %s refuses connections: nobody listens there; start that agent, and look "
                       "at the port it listens on (its --listen)",
                       at->text);
        return;
    case VISIT_UNREACHABLE:
        doctor_finding(d, "unreachable",
                       "--join: %s cannot be reached: %s; is the machine on, is the address right, "
                       "does a firewall drop it?",
                       at->text, v->reason == ETIMEDOUT ? "no answer to a connect" : strerror(v->reason));
        return;
    case VISIT_SILENT:
        doctor_finding(d, "silent",
                       "--join: %s takes connections but says nothing for %u s: the process is stopped or "
                       "swamped, or it is no gadabout agent; look at it there",
                       at->text, DOCTOR_PATIENCE_MS / 1000);
        return;
    case VISIT_HUNG_UP:
        doctor_finding(d, "silent",
                       "--join: %s takes connections and hangs up without a word: a proxy whose agent is "
                       "gone, or no gadabout agent; look at what listens there",
                       at->text);
        return;
    case VISIT_STRANGE:
        doctor_finding(d, "protocol",
                       "--join: what listens at %s does not speak gadabout's protocol; give the port of "
                       "an agent",
                       at->text);
        return;
    case VISIT_VERSION:
        if (v->version != 0) snprintf(version, sizeof version, "protocol version %u", v->version);
        doctor_finding(d, "version",
                       "--join: %s speaks %s, this program speaks %u; run the same version of gadabout "
                       "everywhere",
                       at->text, version, PROTOCOL_VERSION);
        return;
    }
    UNREACHABLE();
}

void doctor_join(struct doctor *d, const char *join)
{
    struct doctor_target *to = mem_new(DOCTOR_TARGET_MAX, sizeof *to);
    int count = doctor_resolve(join, false, to, (int)DOCTOR_TARGET_MAX);
    if (count <= 0)
        doctor_finding(d, "name",
                       "--join: %s does not resolve: %s; look at the spelling, or give the address as "
                       "numbers",
                       join, count < 0 ? gai_strerror(count) : "no address");
    for (int i = 0; i < count; i++) {
        struct visit v;
        visit_make(&to[i], &d->hello, &v);
        judge(d, &to[i], &v);
    }
    free(to);
}
