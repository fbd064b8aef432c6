/* Injected faults in the libuv transport: which links they concern, and how bytes go through their lenses.
 *
 * Normal course
 *  - inject and heal note the rule; the next turn of the loop looks at every link. One that a rule concerns
 *    gets two lenses; when no rule concerns it any more and the lenses are empty, it reads and writes straight
 *    again.
 *  - reading: from the socket into the lens, from there into the conn when it is due. No room: reading stops,
 *    and TCP holds the sender back. Writing: from the conn into the lens, from there to the socket.
 *  - the deadlines of lenses and rules are set with the one timer of the transport: milliseconds.
 *
 * Failures, which are what this is for
 *  - nothing gets through (drop, half_open): the conn finds the silence. The socket of a link that is then given
 *    up stays open without it, in a grave, or the peer would hear of its end; it is reset when the fault ends.
 *  - a new link greets through such a fault: no answer, and into a grave. A dial to where that peer was last: as
 *    if nobody answered.
 *  - bytes were swallowed: the stream has a hole; the link is reset when the fault ends.
 *  - reset: the socket is closed so that the peer gets a reset.
 *  - more graves than GRAVE_MAX: the oldest is closed early.
 *  - the process ends, or the transport closes, during a fault: the kernel tells the peers after all. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/check.h"
#include "net/uv/internal.h"

#define FAULT_BUFFER_SIZE (64u * 1024u)

struct link_fault {
    struct fault_lens *in, *out;
    long ended; /* what the socket said when it ended, 0 = not yet: told when the line is empty */
    /* of what goes out, since it is blocked: a conn that gives up forgets its queue first */
    uint64_t held_most;
    bool reading; /* uv_read is on */
    bool lens_write;
    bool buries; /* when it closes, even if only what comes in is held: nobody has ever answered */
    bool resets; /* when it closes */
    const struct fault_status *grave_of;
};

/* -- proof ------------------------------------------------------------------------------------- */

/* Bytes that wait on both sides of a socket because of a fault that lets nothing through. */
static uint64_t held_in(const struct link *l)
{
    uv_os_fd_t fd;
    int waiting = 0;
    if (uv_fileno((const uv_handle_t *)&l->tcp, &fd) != 0 || ioctl(fd, FIONREAD, &waiting) != 0) waiting = 0;
    return (uint64_t)(waiting > 0 ? waiting : 0) + fault_lens_held(l->fault->in);
}

static uint64_t held_out(const struct link *l)
{
    struct link_stats stats;
    conn_stats(l->conn, &stats);
    uint64_t held = stats.queue_bytes + fault_lens_held(l->fault->out);
    return held > l->fault->held_most ? held : l->fault->held_most;
}

static struct fault_status *blocker(const struct fault_lens *lens)
{
    return fault_effect_block(fault_lens_effect(lens));
}

static void count_held(const struct link *l)
{
    struct fault_status *in = blocker(l->fault->in), *out = blocker(l->fault->out);
    if (in != NULL) in->counts.bytes_held += held_in(l);
    if (out != NULL) out->counts.bytes_held += held_out(l);
    l->fault->held_most = 0;
}

/* -- graves ------------------------------------------------------------------------------------ */

static void grave_open(struct uv_tcp *t, uint32_t at)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0}; /* a reset instead of an end */
    (void)setsockopt(t->grave[at].fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(t->grave[at].fd);
    memmove(t->grave + at, t->grave + at + 1, (--t->grave_count - at) * sizeof *t->grave);
}

static void bury(struct link *l, const struct fault_status *fault)
{
    struct uv_tcp *t = l->owner;
    uv_os_fd_t fd;
    if (uv_fileno((uv_handle_t *)&l->tcp, &fd) != 0) return;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) return; /* too few descriptors: the peer hears of it */
    if (t->grave == NULL) t->grave = mem_new(GRAVE_MAX, sizeof *t->grave);
    if (t->grave_count == GRAVE_MAX) grave_open(t, 0);
    t->grave[t->grave_count++] = (struct grave){copy, fault};
}

void link_fault_close(struct link *l)
{
    struct link_fault *f = l->fault;
    count_held(l);
    if (f->resets && uv_tcp_close_reset(&l->tcp, link_closed_cb) == 0) return;
    const struct fault_status *out = blocker(f->out);
    if (out != NULL || f->buries) bury(l, out != NULL ? out : f->grave_of);
    uv_close((uv_handle_t *)&l->tcp, link_closed_cb);
}

/* -- which links ------------------------------------------------------------------------------- */

static void effects_of(const struct link *l, struct fault_effect *in, struct fault_effect *out)
{
    const struct fault_set *s = &l->owner->faults;
    node_id peer = conn_peer(l->conn)->id;
    fault_set_match(s, &peer, FAULT_IN, in);
    fault_set_match(s, &peer, FAULT_OUT, out);
}

static void fault_attach(struct link *l)
{
    struct uv_tcp *t = l->owner;
    uint64_t index = (uint64_t)l->id.slot << 32 | l->id.generation;
    l->fault = mem_new_zero(1, sizeof *l->fault);
    l->fault->in = fault_lens_new(FAULT_IN, t->config.seed, index);
    l->fault->out = fault_lens_new(FAULT_OUT, t->config.seed, index);
    l->fault->reading = true;
    if (t->fault_buffer == NULL) t->fault_buffer = mem_new(FAULT_BUFFER_SIZE, 1);
}

void link_fault_free(struct link *l)
{
    fault_lens_free(l->fault->in);
    fault_lens_free(l->fault->out);
    free(l->fault);
    l->fault = NULL;
}

static void reset_link(struct link *l, struct fault_status *fault)
{
    l->fault->resets = true;
    if (fault != NULL) fault->counts.links_reset++;
    link_end(l, DOWN_RESET, 0, false);
}

/* Sets what the link's lenses do. Returns false when that ends the link. */
static bool link_look(struct link *l)
{
    struct fault_effect in, out;
    effects_of(l, &in, &out);
    if (l->fault == NULL && fault_effect_none(&in) && fault_effect_none(&out)) return true;
    if (l->fault == NULL) fault_attach(l);
    struct link_fault *f = l->fault;
    if (blocker(f->in) != fault_effect_block(&in) || blocker(f->out) != fault_effect_block(&out))
        count_held(l);
    fault_lens_set(f->in, &in);
    fault_lens_set(f->out, &out);
    bool torn = fault_lens_torn(f->out) && out.by[FAULT_HALF_OPEN] == NULL;
    if (in.by[FAULT_RESET] != NULL || torn) {
        reset_link(l, in.by[FAULT_RESET]);
        return false;
    }
    l->dirty = true;
    tcp_want_turn(l->owner);
    return true;
}

bool link_fault_greeted(struct link *l)
{
    if (!link_look(l)) return true;
    if (l->fault == NULL) return false;
    struct fault_status *in = blocker(l->fault->in), *out = blocker(l->fault->out);
    struct fault_status *block = out != NULL ? out : in;
    if (block == NULL) return false;
    block->counts.links_refused++;
    l->fault->buries = true;
    l->fault->grave_of = block;
    link_end(l, DOWN_SILENT, 0, false);
    return true;
}

bool fault_stops_dial(struct dial_target *target)
{
    const struct fault_set *s = &target->name->owner->faults;
    struct fault_effect e;
    fault_set_match(s, target->peer_known ? &target->peer : NULL, FAULT_BOTH, &e);
    struct fault_status *block = fault_effect_block(&e);
    if (block != NULL) block->counts.links_refused++;
    return block != NULL;
}

/* -- bytes ------------------------------------------------------------------------------------- */

uv_buf_t link_fault_space(struct link *l)
{
    size_t room = fault_lens_room(l->fault->in);
    return uv_buf_init((char *)l->owner->fault_buffer,
                       (unsigned)(room < FAULT_BUFFER_SIZE ? room : FAULT_BUFFER_SIZE));
}

void link_fault_read(struct link *l, ssize_t count, const char *bytes)
{
    if (count == UV_ENOBUFS) return; /* the fault came just now: reading is about to stop */
    if (count < 0) {
        l->fault->ended = count;
        l->fault->reading = false;
        uv_read_stop((uv_stream_t *)&l->tcp);
    } else {
        fault_lens_put(l->fault->in, (const uint8_t *)bytes, (size_t)count, tcp_now_us());
    }
    link_flush(l);
}

static bool takes_word(const struct link *l)
{
    return l->fault != NULL && (l->state == LINK_GREETING || l->state == LINK_UP);
}

/* What is due goes to the conn, whose upcalls may end the link. */
static void pump_in(struct link *l)
{
    while (takes_word(l)) {
        const uint8_t *from;
        uint64_t now_us = tcp_now_us();
        size_t size = fault_lens_peek(l->fault->in, now_us, &from);
        if (size == 0) break;
        uint8_t *to;
        size_t space = conn_recv_space(l->conn, &to);
        if (size > space) size = space;
        memcpy(to, from, size);
        fault_lens_take(l->fault->in, size);
        conn_received(l->conn, size, now_us);
        link_drain(l);
    }
    if (!takes_word(l)) return;
    struct link_fault *f = l->fault;
    bool over = f->ended != 0 && fault_lens_held(f->in) == 0 && blocker(f->in) == NULL;
    if (over) {
        link_socket_ended(l, f->ended);
        return;
    }
    bool wanted = f->ended == 0 && fault_lens_room(f->in) > 0;
    if (wanted && !f->reading) link_read_on(l);
    if (!wanted && f->reading) uv_read_stop((uv_stream_t *)&l->tcp);
    f->reading = wanted;
}

/* Moves what the conn has to say into the line, as far as there is room. */
static void feed(struct link *l, uint64_t now_us)
{
    struct fault_lens *out = l->fault->out;
    for (;;) {
        uv_buf_t bufs[IOV_COUNT];
        size_t size, fed = 0, room = fault_lens_room(out);
        unsigned count = room > 0 ? link_peek(l, bufs, &size) : 0;
        for (unsigned i = 0; i < count && room > 0; i++) {
            size_t part = bufs[i].len < room ? bufs[i].len : room;
            fault_lens_put(out, (const uint8_t *)bufs[i].base, part, now_us);
            fed += part;
            room = fault_lens_room(out);
        }
        if (fed == 0) return;
        conn_sent(l->conn, fed);
    }
}

static void pump_out(struct link *l)
{
    if (l->fault != NULL && blocker(l->fault->out) != NULL) l->fault->held_most = held_out(l);
    while (!l->writing && l->fault != NULL && l->state != LINK_CLOSING) {
        uint64_t now_us = tcp_now_us();
        const uint8_t *from;
        feed(l, now_us);
        size_t size = fault_lens_peek(l->fault->out, now_us, &from);
        if (size == 0) return;
        uv_buf_t buf = uv_buf_init((char *)(uintptr_t)from, (unsigned)size);
        int written = uv_try_write((uv_stream_t *)&l->tcp, &buf, 1);
        if (written > 0) fault_lens_take(l->fault->out, (size_t)written);
        if (written > 0) continue;
        if (written == UV_EAGAIN) {
            link_write_later(l, buf);
            l->fault->lens_write = l->writing;
        } else if (written < 0) {
            link_socket_ended(l, written);
            return;
        }
    }
}

/* The link is as others again when no rule concerns it and nothing is on the way. */
static void detach_when_idle(struct link *l)
{
    const struct link_fault *f = l->fault;
    if (f == NULL || l->state == LINK_CLOSING || f->lens_write || f->ended != 0) return;
    if (!fault_effect_none(fault_lens_effect(f->in)) || !fault_effect_none(fault_lens_effect(f->out))) return;
    if (fault_lens_held(f->in) + fault_lens_held(f->out) > 0) return;
    if (!f->reading) link_read_on(l);
    link_fault_free(l);
    l->dirty = true;
    tcp_want_turn(l->owner);
}

void link_fault_flush(struct link *l)
{
    pump_in(l);
    pump_out(l);
    if (l->fault == NULL || l->state == LINK_CLOSING) return;
    uint64_t in_us = fault_lens_next_us(l->fault->in);
    uint64_t out_us = l->writing ? TIME_NEVER : fault_lens_next_us(l->fault->out);
    uint64_t next_us = in_us < out_us ? in_us : out_us;
    if (next_us != TIME_NEVER) tcp_wake_at(l->owner, next_us);
    detach_when_idle(l);
}

void link_fault_written(struct link *l)
{
    l->fault->lens_write = false;
    fault_lens_take(l->fault->out, l->write_size);
}

bool link_fault_writes(const struct link *l)
{
    return l->fault != NULL && l->fault->lens_write;
}

bool link_fault_drained(const struct link *l)
{
    return fault_lens_held(l->fault->out) == 0 && blocker(l->fault->out) == NULL;
}

bool link_fault_blocks(const struct link *l)
{
    return blocker(l->fault->out) != NULL;
}

/* -- rules ------------------------------------------------------------------------------------- */

int fault_inject(struct uv_tcp *t, const struct fault_rule *rule)
{
    char text[FAULT_TEXT_MAX];
    if (fault_rule_check(rule, NULL) != 0) return ERR_USAGE;
    if (t->faults_changed) fault_turn(t); /* a rule may be forgotten for the new one: none is in use then */
    int id = fault_set_add(&t->faults, rule, tcp_now_us());
    if (id < 0) return id;
    t->faults_changed = true;
    tcp_want_turn(t);
    tcp_wake_at(t, fault_set_next_us(&t->faults));
    fault_rule_print(rule, text);
    trace_line(t->config.trace, TRACE_INFO, "fault %d begins: %s", id, text);
    return id;
}

static void say_ended(const struct uv_tcp *t, const struct fault_status *f)
{
    static const struct fault_counts none;
    char text[FAULT_TEXT_MAX], did[FAULT_TEXT_MAX];
    fault_rule_print(&f->rule, text);
    fault_counts_print(&f->counts, did);
    /* one of a peer may have met a link that goes through another, which relay/fault.c tells */
    bool here = f->rule.any || memcmp(&f->counts, &none, sizeof none) != 0;
    trace_line(t->config.trace, TRACE_INFO, "fault %d ends: %s%s%s", f->id, text, here ? "; " : "",
               here ? did : "");
}

int fault_heal(struct uv_tcp *t, int id)
{
    int healed = 0;
    for (const struct fault_status *f; (f = fault_set_heal(&t->faults, id)) != NULL; healed++)
        say_ended(t, f);
    if (healed > 0) t->faults_changed = true;
    if (healed > 0) tcp_want_turn(t);
    return healed;
}

uint64_t fault_tick(struct uv_tcp *t, uint64_t now_us)
{
    for (const struct fault_status *f; (f = fault_set_expire(&t->faults, now_us)) != NULL;) {
        say_ended(t, f);
        t->faults_changed = true;
        tcp_want_turn(t);
    }
    return fault_set_next_us(&t->faults);
}

void fault_turn(struct uv_tcp *t)
{
    t->faults_changed = false;
    for (uint32_t i = 0; i < t->slot_count; i++) {
        struct link *l = t->slots[i].link;
        if (l != NULL && (l->state == LINK_UP || (l->fault != NULL && l->state == LINK_LINGERING)))
            link_look(l);
    }
    for (uint32_t i = t->grave_count; i-- > 0;)
        if (t->grave[i].fault->ended) grave_open(t, i);
}

uint32_t fault_list(const struct uv_tcp *t, struct fault_status *out, uint32_t max)
{
    uint32_t count = fault_set_list(&t->faults, out, max);
    for (uint32_t i = 0; i < t->slot_count; i++) {
        const struct link *l = t->slots[i].link;
        if (l == NULL || l->fault == NULL || l->state == LINK_CLOSING) continue;
        const struct fault_status *in = blocker(l->fault->in), *outward = blocker(l->fault->out);
        for (uint32_t k = 0; k < count; k++) {
            if (in != NULL && out[k].id == in->id) out[k].counts.bytes_held += held_in(l);
            if (outward != NULL && out[k].id == outward->id) out[k].counts.bytes_held += held_out(l);
        }
    }
    return count;
}

void fault_close(struct uv_tcp *t)
{
    while (t->grave_count > 0) grave_open(t, 0);
    free(t->grave);
    t->grave = NULL;
}
