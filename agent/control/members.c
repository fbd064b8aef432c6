/* Whom the agent knows, as `gadabout status` shows it: every member but ourselves, ascending by id, with what its
 * link says when it has one; then links to nodes that are no members. Without a membership (all places given) the
 * links alone. */
#include <stdlib.h>
#include <string.h>

#include "agent/control/members.h"
#include "agent/daemon/daemon.h"
#include "agent/files/json.h"
#include "agent/node/places.h"
#include "agent/node/view.h"
#include "base/check.h"
#include "net/relay/relay.h"

static void put(json_t *object, const char *key, json_t *value)
{
    json_object_set_new(object, key, value);
}

static json_t *seconds_or_null(uint64_t us)
{
    return us > 0 ? json_real((double)us / 1e6) : json_null();
}

static int compare_views(const void *a, const void *b)
{
    const struct node_link_view *x = a, *y = b;
    return x->peer < y->peer ? -1 : x->peer > y->peer;
}

/* -- a member ---------------------------------------------------------------------------------- */

static void put_link(json_t *o, const struct node_link_view *v)
{
    put(o, "linked", json_boolean(v != NULL));
    if (v == NULL) return;
    put(o, "dialled", json_boolean(v->dialled));
    put(o, "neighbour", json_boolean(v->neighbour));
    put(o, "heard_s", json_real((double)v->heard_us / 1e6));
    put(o, "round_trip_s", seconds_or_null(v->stats.round_trip_us));
    put(o, "queue_bytes", json_count_or_null(v->stats.queue_bytes));
    put(o, "bytes_received", json_count_or_null(v->stats.bytes_received));
    put(o, "bytes_sent", json_count_or_null(v->stats.bytes_sent));
}

/* A link that goes through another member. */
static void put_relayer(json_t *o, const struct agent *a, const struct node_link_view *v)
{
    node_id relayer;
    if (v != NULL && relay_through(a->relay, v->link, &relayer))
        put(o, "relayed_by", json_count_or_null(relayer));
}

/* Why it is SUSPECT or DEAD. */
static json_t *doubt(const struct agent *a, const struct membership *known, const struct member *m)
{
    struct membership_doubt d;
    uint64_t now_us = a->host->ops->now_us(a->host);
    if (m->state != MEMBER_SUSPECT && m->state != MEMBER_DEAD) return json_null();
    json_t *o = json_object();
    put(o, "evidence", json_string(member_evidence_name(m->evidence)));
    put(o, "accuser", json_count_or_null(m->accuser));
    put(o, "by_us", json_boolean(m->accuser == a->id));
    if (!membership_doubt(known, m->id, &d)) return o;
    json_t *by = json_array();
    for (uint32_t i = 0; i < d.by_count; i++) json_array_append_new(by, json_count_or_null(d.by[i]));
    put(o, "since_s", json_real(now_us > d.since_us ? (double)(now_us - d.since_us) / 1e6 : 0));
    put(o, "dead_in_s", json_real(d.ends_us > now_us ? (double)(d.ends_us - now_us) / 1e6 : 0));
    put(o, "confirmations", json_integer(d.by_count > 0 ? d.by_count - 1 : 0));
    put(o, "wanted", json_integer(d.wanted));
    put(o, "by", by);
    return o;
}

static json_t *member_object(const struct agent *a, const struct membership *known, const struct member *m,
                             const struct node_link_view *v)
{
    json_t *o = json_object();
    uint64_t claim = m->meta[META_PLACE];
    put(o, "id", json_count_or_null(m->id));
    put(o, "place",
        claim > 0 && claim <= a->config->nodes ? json_integer((json_int_t)claim - 1) : json_null());
    if (m->meta[META_PHASE] == NODE_KEEPING + 1) put(o, "keeper", json_true());
    put(o, "state", json_string(member_state_name(m->state)));
    put(o, "address", json_text_or_null(v != NULL ? v->address : m->address));
    put(o, "model_steps", json_count_or_null(m->meta[META_PROGRESS]));
    put(o, "incarnation", json_count_or_null(m->incarnation));
    if (m->tag[0] != '\0') put(o, "tag", json_text_or_null(m->tag));
    put_link(o, v);
    put_relayer(o, a, v);
    uint64_t heard_us = heard_at_us(&a->heard, m->id), now_us = a->host->ops->now_us(a->host);
    if (v == NULL && heard_us > 0 && heard_us < now_us)
        put(o, "heard_s", json_real((double)(now_us - heard_us) / 1e6));
    put(o, "doubt", doubt(a, known, m));
    return o;
}

static json_t *stranger_object(const struct node_link_view *v)
{
    json_t *o = json_object();
    put(o, "id", json_count_or_null(v->peer));
    put(o, "place", v->rank != RANK_NONE ? json_integer(v->rank) : json_null());
    put(o, "state", json_string("linked"));
    put(o, "address", json_text_or_null(v->address));
    put_link(o, v);
    put(o, "doubt", json_null());
    return o;
}

/* -- when they spoke ---------------------------------------------------------------------------- */

static void note_all(struct agent *a, const struct node_link_view *view, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) heard_note(&a->heard, view[i].peer, view[i].stats.last_word_us);
}

void control_members_listen(struct agent *a)
{
    struct node_link_view *view = mem_new(LINK_COUNT_MAX, sizeof *view);
    note_all(a, view, node_link_views(a->node, view, LINK_COUNT_MAX));
    free(view);
}

/* -- all of them ------------------------------------------------------------------------------- */

json_t *control_members(struct agent *a, uint32_t *links)
{
    const struct membership *known = node_membership(a->node);
    struct node_link_view *view = mem_new(LINK_COUNT_MAX, sizeof *view);
    json_t *list = json_array();
    *links = node_link_views(a->node, view, LINK_COUNT_MAX);
    note_all(a, view, *links);
    qsort(view, *links, sizeof *view, compare_views);
    for (uint32_t i = 0; known != NULL && i < membership_count(known); i++) {
        const struct member *m = membership_at(known, i);
        struct node_link_view key = {.peer = m->id};
        if (m->id == a->id) continue;
        json_array_append_new(
            list, member_object(a, known, m, bsearch(&key, view, *links, sizeof *view, compare_views)));
    }
    for (uint32_t i = 0; i < *links; i++)
        if (known == NULL || membership_find(known, view[i].peer) == NULL)
            json_array_append_new(list, stranger_object(&view[i]));
    free(view);
    return list;
}

json_t *control_membership(const struct agent *a)
{
    const struct membership *known = node_membership(a->node);
    if (known == NULL) return json_null();
    struct membership_totals totals;
    json_int_t in_state[4] = {0};
    char view[24];
    for (uint32_t i = 0; i < membership_count(known); i++) in_state[membership_at(known, i)->state]++;
    membership_totals(known, &totals);
    snprintf(view, sizeof view, "%016llx", (unsigned long long)membership_view_hash(known));
    json_t *o = json_object();
    for (int s = MEMBER_ALIVE; s <= MEMBER_LEFT; s++)
        put(o, member_state_name((enum member_state)s), json_integer(in_state[s]));
    put(o, "view", json_string(view));
    put(o, "incarnation", json_count_or_null(membership_self(known)->incarnation));
    put(o, "address", json_text_or_null(membership_self(known)->address)); /* as the others have it */
    put(o, "health", json_integer(totals.health));
    put(o, "suspicions", json_count_or_null(totals.suspicions));
    put(o, "deaths", json_count_or_null(totals.deaths));
    put(o, "refutations", json_count_or_null(totals.refutations));
    put(o, "records_dropped", json_count_or_null(totals.records_dropped));
    put(o, "stops", json_count_or_null(totals.stops));
    return o;
}
