/* The control socket of a running agent: a unix socket, one JSON object a line in, one a line out.
 *
 *   -> {"op": "status"}                    <- {"ok": true, "id": 17, "steps": 1200, ...}
 *   -> {"op": "leap"}                      <- {"ok": false, "error": "'leap' is not an operation: ..."}
 *
 * What it can do is a table (control/ops.c): a row more is an operation more. This header is the server, the
 * places of sockets and the client that the commands use. */
#ifndef GADABOUT_AGENT_CONTROL_CONTROL_H
#define GADABOUT_AGENT_CONTROL_CONTROL_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"
#include "base/ids.h"
#include "base/trace.h"

#define CONTROL_LINE_MAX (64u * 1024u)          /* bytes of a request with its newline */
#define CONTROL_REPLY_MAX (16u * 1024u * 1024u) /* bytes of a reply that a client takes */
#define CONTROL_CLIENT_MAX 8u                   /* at once */
#define CONTROL_IDLE_MS 10000u  /* a client that neither asks nor reads for so long is closed */
#define CONTROL_PATH_MAX 108u   /* bytes of a socket's path with terminator: sun_path */
#define CONTROL_AGENT_MAX 4096u /* sockets that are looked at in a directory */

struct agent;
struct control;

/* -- operations -------------------------------------------------------------------------------- */

/* One request under way. */
struct control_call {
    const json_t *request; /* an object; borrowed */
    json_t *reply;         /* an object to put the answer in; "ok" is added */
    struct err_text why;   /* of an error */

    /* What may take long (writing a file) is left to `work`, which `run` may set: it is called in another
     * thread after run has returned 0, and touches nothing but the call. job is freed by job_free, always. */
    int (*work)(struct control_call *call);
    void *job;
    void (*job_free)(void *job);
};

struct control_op {
    const char *name;
    /* In the loop's thread. 0, or an error with call->why: then the reply says that and nothing else. */
    int (*run)(struct agent *a, struct control_call *call);
};

extern const struct control_op control_ops[]; /* control/ops.c: of an agent */
extern const size_t control_op_count;

/* control/ops_status.c: everything that `gadabout status` shows. */
int control_status(struct agent *a, struct control_call *call);

/* control/ops_invite.c: what `gadabout invite` prints. */
int control_invite(struct agent *a, struct control_call *call);

/* -- the server: control.c --------------------------------------------------------------------- */

struct control_config {
    uv_loop_t *loop;
    const char *path; /* of the socket; NULL = named by id in the default directory */
    node_id id;
    const struct control_op *op; /* (op_count) borrowed for life */
    size_t op_count;
    struct agent *agent; /* for the operations; borrowed for life */
    const struct trace *trace;
};

/* Listens. Errors: ERR_BUSY when an agent listens on `path` already, ERR_IO, ERR_LIMIT (path too long), with
 * why naming --control. */
int control_open(const struct control_config *config, struct control **out, struct err_text *why);
const char *control_path(const struct control *c);

/* Ends it, c may be NULL: the socket file is removed, clients are closed. The memory goes when the loop has
 * closed the handles, and work under way has ended. */
void control_close(struct control *c);

/* -- where sockets are: control/path.c --------------------------------------------------------- */

/* The directory of an agent's socket, made with mode 0700 when it is missing: $XDG_RUNTIME_DIR/gadabout, or
 * /tmp/gadabout-<uid> when there is no such place. Refused (ERR_IO) when it is not ours alone. */
int control_directory(char out[CONTROL_PATH_MAX], struct err_text *why);

/* Binds and listens; the name appears when the socket answers, never before. A socket file that nobody listens
 * on any more is replaced. Returns a descriptor, or ERR_BUSY, ERR_IO, ERR_LIMIT with why. */
int control_bind(const char *path, struct err_text *why);

/* The sockets of this user's agents on this machine, in the order of their ids; files of dead agents are
 * removed. Returns owned; free with control_list_free. */
struct control_list {
    char (*path)[CONTROL_PATH_MAX];
    size_t count;
};
void control_list_make(struct control_list *out);
void control_list_free(struct control_list *list);

/* The socket meant by `text`: a path (it has a slash), or a number with which exactly one agent's id begins.
 * text NULL: the only agent there is. Errors: ERR_NOT_FOUND, ERR_USAGE naming --agent. */
int control_find(const char *text, char out[CONTROL_PATH_MAX], struct err_text *why);

/* -- the client: control/client.c -------------------------------------------------------------- */

/* Requests to several agents run at the same time: start them all, then finish each. */
struct control_ask {
    int fd; /* -1 = none */
    const char *path;
    char *line; /* owned */
    size_t used, room;
};

/* Connects and sends; request is borrowed. ERR_IO, ERR_NOT_FOUND (nobody listens) with why. */
int control_ask_start(struct control_ask *ask, const char *path, const json_t *request, struct err_text *why);

/* Waits for the answer until deadline_ms of control_clock_ms. An owned object in *reply; ERR_TIMEOUT, ERR_IO,
 * ERR_FORMAT, or ERR_USAGE when the agent answered with an error (why is its text). */
int control_ask_finish(struct control_ask *ask, uint64_t deadline_ms, json_t **reply, struct err_text *why);
uint64_t control_clock_ms(void);

/* Both in one, waiting at most timeout_ms. */
int control_request(const char *path, const json_t *request, uint64_t timeout_ms, json_t **reply,
                    struct err_text *why);

#endif
