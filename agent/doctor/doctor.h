/* What the files of `gadabout doctor` share: command/doctor.c (what is looked at), doctor/visit.c (one visit),
 * doctor/address.c (what kind of address it is), doctor/peer.c (what a visit means), doctor/state.c (what was
 * saved). Private to them. */
#ifndef GADABOUT_AGENT_DOCTOR_DOCTOR_H
#define GADABOUT_AGENT_DOCTOR_DOCTOR_H

#include <jansson.h>
#include <sys/socket.h>

#include "agent/config/config.h"
#include "net/link/hello.h"

#define DOCTOR_PATIENCE_MS 3000u /* of a connect, and of an answer */
#define DOCTOR_TARGET_MAX 16u    /* addresses of one name that are visited */

struct doctor {
    const struct config *config;
    struct hello hello; /* what a visitor says */
    bool compare;       /* the experiment is known: hello.cluster counts */
    bool compare_id;    /* --id is given: hello asks who has it */
    bool met;           /* somebody has answered as a member */
    json_t *good, *findings;
};

/* A line of what is well, and of what is wrong with its remedy. code names the kind of finding for programs. */
void doctor_good(struct doctor *d, const char *format, ...) __attribute__((format(printf, 2, 3)));
void doctor_finding(struct doctor *d, const char *code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* -- doctor/address.c */
enum address_kind { ADDRESS_LOOPBACK, ADDRESS_LINK_LOCAL, ADDRESS_PRIVATE, ADDRESS_WILDCARD, ADDRESS_PUBLIC };

struct doctor_target {
    struct sockaddr_storage address;
    socklen_t size;
    char host[ADDRESS_TEXT_MAX], text[ADDRESS_TEXT_MAX]; /* "10.0.0.5", "10.0.0.5:7946" */
};

/* Splits "host:port" ("[::1]:7946"); false when it is none. */
bool doctor_split(const char *text, char host[ADDRESS_TEXT_MAX], char port[8]);

/* Resolves it to at most `max` targets; returns how many, or a negative code of getaddrinfo. */
int doctor_resolve(const char *text, bool passive, struct doctor_target *out, int max);
enum address_kind doctor_kind(const struct sockaddr_storage *address);
const char *doctor_kind_name(enum address_kind kind);        /* "an address of this machine alone" */
bool doctor_is_ours(const struct sockaddr_storage *address); /* one of this machine's interfaces has it */
bool doctor_same_host(const struct sockaddr_storage *a, const struct sockaddr_storage *b);

/* -- doctor/visit.c */
enum visit_end {
    VISIT_MET,
    VISIT_REFUSED,     /* nobody listens */
    VISIT_UNREACHABLE, /* no answer from the host; reason is an errno, ETIMEDOUT for our patience */
    VISIT_SILENT,      /* connected, and not a word */
    VISIT_HUNG_UP,     /* connected, and closed without a word */
    VISIT_STRANGE,     /* what it says is not our protocol */
    VISIT_VERSION,     /* it speaks another one; version 0 = it did not say which */
};

struct visit {
    enum visit_end end;
    int reason;
    uint16_t version;
    struct hello hello;           /* MET */
    char seen[ADDRESS_TEXT_MAX];  /* MET: where it sees us; "" = it did not say */
    bool used;                    /* MET: a living member has the id that we asked for, .. */
    char user[ADDRESS_TEXT_MAX];  /* .. there; "" = it did not say */
    struct sockaddr_storage from; /* our end of the connection */
    double answer_s;              /* from the connect to its hello */
};

void visit_make(const struct doctor_target *to, const struct hello *mine, struct visit *out);

/* -- doctor/state.c */
void doctor_state(struct doctor *d); /* --state, if it is given */

/* -- doctor/peer.c */

/* Visits every address that one --join stands for, and says what is wrong there. */
void doctor_join(struct doctor *d, const char *join);

#endif
