/* The answer to {"op": "invite"}: the line with which others join.
 *
 * Normal course: our own address as given with --advertise, or as bound, or as peers see us; then those of
 * living members, so that the line is good when this agent is gone; the cluster's name and the experiment's
 * fingerprint.
 * Failure course: we listen on all addresses of a machine and nobody has told which one others see, and no
 * member has an address either: an error with the remedy. Addresses of the machine itself are left out beside
 * others, and noted when there are no others. */
#include <stdio.h>
#include <string.h>

#include "agent/control/control.h"
#include "agent/control/invite.h"
#include "agent/daemon/daemon.h"
#include "agent/files/json.h"

static bool begins_with(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static bool is_wildcard(const char *address)
{
    return begins_with(address, "0.0.0.0:") || begins_with(address, "[::]:");
}

static bool is_loopback(const char *address)
{
    return begins_with(address, "127.") || begins_with(address, "[::1]:") ||
           begins_with(address, "localhost:");
}

static void add(struct invite *invite, const char *address)
{
    if (address == NULL || address[0] == '\0' || is_wildcard(address) || strlen(address) >= ADDRESS_TEXT_MAX)
        return;
    for (uint32_t i = 0; i < invite->address_count; i++)
        if (strcmp(invite->address[i], address) == 0) return;
    if (invite->address_count == INVITE_ADDRESS_MAX) return;
    snprintf(invite->address[invite->address_count++], ADDRESS_TEXT_MAX, "%s", address);
}

static bool is_gone(const json_t *member)
{
    const char *state = json_string_value(json_object_get(member, "state"));
    return state != NULL && (strcmp(state, "dead") == 0 || strcmp(state, "left") == 0);
}

/* As given, or as bound, or as peers see us. */
static const char *own_address(const struct agent *a)
{
    if (a->config->advertise != NULL) return a->config->advertise;
    return is_wildcard(a->address) ? membership_self(node_membership(a->node))->address : a->address;
}

static void add_all(struct invite *invite, const struct agent *a, const json_t *status, bool of_this_machine)
{
    size_t i;
    const json_t *member;
    const char *own = own_address(a);
    if (is_loopback(own) == of_this_machine) add(invite, own);
    json_array_foreach(json_object_get(status, "members"), i, member)
    {
        const char *address = json_string_value(json_object_get(member, "address"));
        if (address != NULL && !is_gone(member) && is_loopback(address) == of_this_machine)
            add(invite, address);
    }
}

int control_invite(struct agent *a, struct control_call *call)
{
    struct invite invite = {.address_count = 0};
    struct control_call status = {.request = call->request, .reply = json_object()};
    char text[INVITE_TEXT_MAX], mark[12];
    int err = control_status(a, &status);
    if (err == 0) add_all(&invite, a, status.reply, false);
    bool local = invite.address_count == 0;
    if (err == 0 && local) add_all(&invite, a, status.reply, true);
    json_decref(status.reply);
    if (err != 0) return err;
    if (invite.address_count == 0)
        return err_set(
            &call->why, ERR_NOT_FOUND,
            "nobody knows an address of this agent yet: it listens on %s; start it with --advertise "
            "HOST:PORT, the address at which others reach it",
            a->address[0] != '\0' ? a->address : "no address");
    if (strlen(a->config->cluster) < sizeof invite.cluster)
        memcpy(invite.cluster, a->config->cluster, strlen(a->config->cluster) + 1);
    experiment_cluster_id(&a->experiment, invite.shape);
    err = invite_encode(&invite, text, &call->why);
    if (err != 0) return err;
    json_t *addresses = json_array();
    for (uint32_t i = 0; i < invite.address_count; i++)
        json_array_append_new(addresses, json_text_or_null(invite.address[i]));
    json_object_set_new(call->reply, "text", json_text_or_null(text));
    json_object_set_new(call->reply, "addresses", addresses);
    json_object_set_new(call->reply, "cluster", json_text_or_null(invite.cluster));
    json_object_set_new(call->reply, "fingerprint",
                        json_text_or_null(invite_fingerprint(invite.shape, mark)));
    json_object_set_new(call->reply, "this_machine_only", json_boolean(local));
    return 0;
}
