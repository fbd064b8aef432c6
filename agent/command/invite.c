/* `gadabout invite`: the line with which others join a running agent's cluster.
 *
 * Normal course: the agent that --agent means, or the only one here, is asked; its line goes to stdout,
 * alone.
 * Failure courses: no such agent, no answer within ANSWER_MS, an agent that does not know how others
 * reach it: one line on stderr, exit 1 (2 when --agent means several). Addresses that only this machine can
 * reach: a note on stderr. */
#include <stdio.h>

#include "agent/command/commands.h"
#include "agent/control/control.h"

#define ANSWER_MS 5000u

static int ask(const struct config *config, json_t **reply, struct err_text *why)
{
    char path[CONTROL_PATH_MAX];
    int err = control_find(config->agent, path, why);
    if (err != 0) return err;
    json_t *request = json_pack("{s:s}", "op", "invite");
    err = control_request(path, request, ANSWER_MS, reply, why);
    json_decref(request);
    return err;
}

int command_invite(struct config *config)
{
    struct err_text why = {""};
    json_t *reply = NULL;
    int err = ask(config, &reply, &why);
    const char *text = err == 0 ? json_string_value(json_object_get(reply, "text")) : NULL;
    if (err == 0 && text == NULL) err = err_set(&why, ERR_FORMAT, "the agent's answer holds no invitation");
    if (err == 0 && json_is_true(json_object_get(reply, "this_machine_only")))
        fprintf(
            stderr,
            "gadabout: note: only this machine can reach these addresses; for others start the agent with "
            "--listen 0.0.0.0:PORT --advertise HOST:PORT\n");
    if (err == 0 && (printf("%s\n", text) < 0 || fflush(stdout) != 0))
        err = err_set(&why, ERR_IO, "cannot write to stdout");
    json_decref(reply);
    if (err == 0) return EXIT_DONE;
    fprintf(stderr, "gadabout: %s\n", why.text);
    return err == ERR_USAGE ? EXIT_USAGE : EXIT_FAILED;
}
