/* What the files of the libuv transport share: uv/tcp.c (the whole), uv/listen.c (who comes), uv/dial.c (whom
 * we call), uv/link.c (one connection), uv/slot.c (their ids), uv/peer.c (which one stays), uv/address.c (texts),
 * uv/fault.c (faults on request). Private to them.
 *
 * Everything that is found inside a downcall or deep inside a callback is noted and done by tcp_turn, which
 * runs twice per loop turn, before and after the poll. Memory of a link is freed by its close callback only.
 */
#ifndef GADABOUT_NET_UV_INTERNAL_H
#define GADABOUT_NET_UV_INTERNAL_H

#include <sys/socket.h>
#include <uv.h>

#include "base/prng.h"
#include "net/fault/fault.h"
#include "net/link/conn.h"
#include "net/link/inbox.h"
#include "net/transport.h"
#include "net/uv/resolve.h"
#include "net/uv/uv.h"

#define STRANGER_COUNT_MAX 64u /* accepted connections whose hello has not come */
#define STRANGER_HOST_MAX 32u /* of them from one address that is not our own machine's */
#define SLOT_COUNT_MAX (2u * LINK_COUNT_MAX) /* links up, coming up and going down */
#define DIAL_NAME_MAX LINK_COUNT_MAX
#define DIAL_TARGET_MAX 256u    /* addresses of one name */
#define LINGER_US 1000000u      /* for the last words of a closing link */
#define ACCEPT_PAUSE_US 200000u /* after running out of file descriptors */
#define GRAVE_MAX 256u          /* sockets of dead links that a fault keeps the peer from hearing of */

enum { IOV_COUNT = 2 * OUTBOX_FRAME_MAX };

enum link_state {
    LINK_DIALLING, /* connect in progress; no conn yet */
    LINK_GREETING, /* hello expected */
    LINK_UP,
    LINK_LINGERING, /* dead for the owner; last words are going out, what comes is thrown away */
    LINK_CLOSING,   /* uv_close was called */
};

struct uv_tcp;
struct dial_target;
struct link_fault;

struct link {
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    struct uv_tcp *owner;
    struct conn *conn;          /* NULL while dialling */
    struct dial_target *target; /* NULL when accepted, or when the target is gone */
    struct link_id id;
    enum link_state state;
    bool dialled;
    bool announced; /* on_up was called and on_down was not */
    bool writing;   /* a uv_write is in flight */
    bool refused;   /* the host refused the connection */
    bool shut;      /* we said that nothing more will come */
    bool dirty;     /* tcp_turn is to flush it */
    bool stranger;  /* counted as one: accepted, and never up */
    size_t write_size;
    struct link_fault *fault;      /* NULL = no fault concerns it */
    enum down_reason why;          /* valid once the state is past LINK_UP */
    uint64_t deadline_us;          /* of the connect, or of the last words */
    uint64_t up_us;                /* when it was announced */
    struct peer_info peer;         /* valid from LINK_UP on */
    char remote[ADDRESS_TEXT_MAX]; /* "host:port" of the socket */
};

struct slot {
    struct link *link; /* NULL = free */
    uint32_t generation;
};

/* One address that a dialled name stands for. */
struct dial_target {
    struct dial_name *name;
    struct sockaddr_storage address;
    char text[ADDRESS_TEXT_MAX];
    struct link *link; /* of the attempt or its result; NULL = none */
    bool refused;      /* never again: ourselves, another cluster, another version */
    bool stale;        /* the name no longer resolves to it */
    bool peer_known;
    node_id peer;      /* who was there */
    uint32_t failures; /* since a link last lasted for redial_max_us */
    /* since when it has a link with our id, and we have none with it; 0 = it is not so */
    uint64_t usurped_us;
    bool usurped_told;
    uint64_t next_us;
    struct dial_target *next;
};

/* What dial() was called with. */
struct dial_name {
    struct uv_tcp *owner;
    struct question *question; /* being resolved; NULL */
    bool numeric;              /* one target, never resolved */
    char text[ADDRESS_TEXT_MAX], host[ADDRESS_TEXT_MAX], port[8];
    uint32_t failures;
    uint64_t next_us;     /* of the next resolution */
    uint64_t resolved_us; /* when it last succeeded; 0 = never */
    struct dial_target *targets;
    struct dial_name *next;
};

/* A socket kept open without its link: were it closed, the peer would hear of it through a fault that lets
 * nothing through. It is reset when that fault ends. */
struct grave {
    int fd;
    const struct fault_status *fault;
};

struct uv_tcp {
    struct transport base;
    uv_loop_t *loop;
    struct transport_config config;
    struct transport_sink sink;
    struct prng jitter;

    int listen_fd;
    uint16_t port;
    uv_poll_t listener;
    uv_timer_t timer; /* the nearest of all deadlines */
    uv_prepare_t before;
    uv_check_t after;
    uv_idle_t awake;       /* keeps the poll from blocking while work waits */
    uint32_t open_handles; /* of the five above, and the resolver's */
    uint64_t timer_us;     /* when the timer fires; TIME_NEVER = it is stopped */
    bool due;              /* the timer fired; deadlines are looked at after the next poll */
    bool work;             /* something waits for tcp_turn */
    bool accept_paused;
    bool accept_warned;
    uint64_t accept_us; /* when accepting goes on after a pause; TIME_NEVER = when a stranger leaves */
    bool closing, closed;

    struct slot *slots; /* (slot_count) */
    uint32_t slot_count, free_hint;
    uint32_t link_count; /* slots in use */
    uint32_t stranger_count;
    struct resolver *resolver; /* NULL until the first name */
    struct dial_name *names;
    uint32_t name_count;
    struct trace_limit complained;  /* of links that ended for a fault */
    struct trace_limit replaced;    /* of links that were replaced by those of another boot */
    struct inbox_budget bodies;     /* of all links: bytes of bodies that are under way to us */
    struct transport_totals totals; /* bytes: of links that are gone */

    struct fault_set faults;
    bool faults_changed;   /* tcp_turn is to look which links they concern */
    uint8_t *fault_buffer; /* for what is read before it goes through a lens; NULL = no fault yet */
    struct grave *grave;   /* (grave_count), the oldest first */
    uint32_t grave_count;
};

/* uv/tcp.c */
uint64_t tcp_now_us(void);
void tcp_wake_at(struct uv_tcp *t, uint64_t at_us); /* a deadline was set */
void tcp_want_turn(struct uv_tcp *t);

/* uv/address.c */
int address_split(const char *text, char host[ADDRESS_TEXT_MAX],
                  char port[8]); /* "h:p", "[v6]:p"; 0, ERR_USAGE */
bool address_from_numbers(const char *host, const char *port, struct sockaddr_storage *out);
void address_print(const struct sockaddr *address, bool with_port, char out[ADDRESS_TEXT_MAX]);
bool address_equal(const struct sockaddr_storage *a, const struct sockaddr_storage *b);
uint16_t address_port(const struct sockaddr_storage *a);

/* uv/listen.c */
int listen_open(struct uv_tcp *t, const char *listen, char address[ADDRESS_TEXT_MAX], struct err_text *why);
void listen_close(struct uv_tcp *t, uv_close_cb closed);
void listen_resume(struct uv_tcp *t, uint64_t now_us); /* accepts again when it may */

/* uv/slot.c */
uint32_t slot_take(struct uv_tcp *t); /* a free one; more are made when there is none */
struct link *link_find(const struct uv_tcp *t, struct link_id id); /* NULL unless up */
struct link *link_of_peer(const struct uv_tcp *t, node_id peer);   /* NULL unless up */

/* uv/link.c */
int link_dial(struct uv_tcp *t, struct dial_target *target); /* 0 or a libuv error; sets target->link */
void link_accept(struct uv_tcp *t, int fd);                  /* takes fd */
void link_flush(struct link *l);
void link_end(struct link *l, enum down_reason why, int goodbye, bool flush); /* the one way down */
void link_report_down(struct link *l);
uint64_t link_tick(struct link *l, uint64_t now_us); /* returns its next deadline */
void link_close(struct link *l);
void link_closed_cb(uv_handle_t *handle);
void link_drain(struct link *l); /* carries out what the conn has found */
void link_read_on(struct link *l);
void link_socket_ended(struct link *l, long err); /* what reading or writing said */
unsigned link_peek(struct link *l, uv_buf_t bufs[IOV_COUNT], size_t *size);
void link_write_later(struct link *l, uv_buf_t buf); /* by uv_write; sets l->writing when it can */

/* uv/fault.c: of links with a fault (l->fault != NULL), unless it says otherwise */
uv_buf_t link_fault_space(struct link *l);
void link_fault_read(struct link *l, ssize_t count, const char *bytes);
void link_fault_flush(struct link *l); /* moves what is due, both ways */
void link_fault_written(struct link *l);
bool link_fault_writes(const struct link *l);  /* the uv_write in flight is of a fault's delay line */
bool link_fault_drained(const struct link *l); /* nothing is left in the line that goes out */
bool link_fault_blocks(const struct link *l);  /* nothing goes out now: no word, not even the last one */
void link_fault_close(struct link *l);         /* instead of uv_close */
void link_fault_free(struct link *l);
bool link_fault_greeted(struct link *l);           /* any link: true = it ends here, without an answer */
bool fault_stops_dial(struct dial_target *target); /* true = as if nobody were there */
int fault_inject(struct uv_tcp *t, const struct fault_rule *rule);
int fault_heal(struct uv_tcp *t, int id);
uint32_t fault_list(const struct uv_tcp *t, struct fault_status *out, uint32_t max);
uint64_t fault_tick(struct uv_tcp *t, uint64_t now_us); /* ends what is over; returns the next end */
void fault_turn(struct uv_tcp *t);                      /* looks which links the faults concern now */
void fault_close(struct uv_tcp *t);

/* uv/peer.c */
void link_greeted(struct link *l);

/* uv/dial.c */
int dial_add(struct uv_tcp *t, const char *address);
void dial_remove(struct uv_tcp *t, const char *address);
void dial_remove_all(struct uv_tcp *t);
uint64_t dial_tick(struct uv_tcp *t, uint64_t now_us);  /* starts what is due; returns the next deadline */
void dial_up(struct dial_target *target, node_id peer); /* a peer spoke */
/* The link of target is gone; lasted: it was up for redial_max_us at least. failed: as on_unreachable, when it never
 * was up; else 0. */
void dial_down(struct dial_target *target, bool lasted, int err, const char *why, int failed);
void dial_peer_lost(struct uv_tcp *t, node_id peer); /* targets known to be `peer` are dialled again */

#endif
