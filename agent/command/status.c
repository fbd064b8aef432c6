/* `gadabout status`: what the agents of this user on this machine do, and whom they know.
 *
 * Normal course
 *  - every agent that has a control socket is asked, all at the same time; each answer is a paragraph: the agent in
 *    figures, a line for every member. --json prints the answers as they came; --watch does it each second.
 * Failure courses
 *  - no agent here, or not the one that --agent means: one line, exit 1 (2 when it means several).
 *  - an agent that does not answer within ANSWER_MS is shown as that: it is stopped, or swamped.
 *  - none answered: exit 1. With --watch it goes on until Ctrl-C, or until no agent is left. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/command/commands.h"
#include "agent/control/control.h"
#include "agent/files/interrupt.h"
#include "agent/report/status_print.h"
#include "base/check.h"

#define ANSWER_MS 2000u
#define ASK_AT_ONCE 64u /* descriptors */

/* -- asking ------------------------------------------------------------------------------------ */

static void ask_some(const struct control_list *list, size_t from, size_t count, struct status_answer *answer)
{
    struct control_ask ask[ASK_AT_ONCE];
    json_t *request = json_object();
    json_object_set_new(request, "op", json_string("status"));
    for (size_t i = 0; i < count; i++) {
        struct status_answer *to = &answer[from + i];
        *to = (struct status_answer){.path = list->path[from + i]};
        to->err = control_ask_start(&ask[i], to->path, request, &to->why);
    }
    uint64_t deadline_ms = control_clock_ms() + ANSWER_MS;
    for (size_t i = 0; i < count; i++) {
        struct status_answer *to = &answer[from + i];
        if (to->err == 0) to->err = control_ask_finish(&ask[i], deadline_ms, &to->reply, &to->why);
    }
    json_decref(request);
}

static struct status_answer *ask_all(const struct control_list *list)
{
    struct status_answer *answer = mem_new_zero(list->count, sizeof *answer);
    for (size_t from = 0; from < list->count && !interrupted(); from += ASK_AT_ONCE) {
        size_t left = list->count - from;
        ask_some(list, from, left < ASK_AT_ONCE ? left : ASK_AT_ONCE, answer);
    }
    return answer;
}

static int choose(const struct config *config, struct control_list *list, struct err_text *why)
{
    if (config->agent == NULL) {
        control_list_make(list);
        if (list->count > 0) return 0;
        return err_set(why, ERR_NOT_FOUND, "no agent of this user runs on this machine");
    }
    *list = (struct control_list){.path = mem_new(1, sizeof *list->path), .count = 1};
    return control_find(config->agent, list->path[0], why);
}

/* -- showing ----------------------------------------------------------------------------------- */

static int show_json(const struct status_answer *answer, size_t count)
{
    json_t *all = json_object(), *agents = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *one = answer[i].err == 0 ? json_incref(answer[i].reply) : json_object();
        json_object_set_new(one, "socket", json_string(answer[i].path));
        if (answer[i].err != 0) json_object_set_new(one, "error", json_string(answer[i].why.text));
        json_array_append_new(agents, one);
    }
    json_object_set_new(all, "agents", agents);
    int err = json_dumpf(all, stdout, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(all);
    return err == 0 && putchar('\n') != EOF ? 0 : ERR_IO;
}

/* Returns an exit status. *left: an agent was there. */
static int show_once(const struct config *config, bool *left)
{
    struct control_list list;
    struct err_text why = {""};
    int err = choose(config, &list, &why);
    *left = err == 0;
    if (err != 0) {
        control_list_free(&list);
        fprintf(stderr, "gadabout: %s\n", why.text);
        return err == ERR_USAGE ? EXIT_USAGE : EXIT_FAILED;
    }
    struct status_answer *answer = ask_all(&list);
    if (config->watch && isatty(STDOUT_FILENO)) fputs("\033[H\033[2J", stdout); /* home, and all erased */
    err = 0;
    if (config->json)
        err = show_json(answer, list.count);
    else
        status_print(answer, list.count, stdout);
    int status = EXIT_FAILED;
    for (size_t i = 0; i < list.count; i++) {
        if (answer[i].err == 0) status = EXIT_DONE;
        json_decref(answer[i].reply);
    }
    free(answer);
    control_list_free(&list);
    return err == 0 && fflush(stdout) == 0 && ferror(stdout) == 0 ? status : EXIT_FAILED;
}

static void wait_a_second(void)
{
    struct timespec second = {.tv_sec = 1};
    (void)nanosleep(&second, NULL); /* a signal ends it early, and is asked for */
}

int command_status(struct config *config)
{
    bool left;
    if (!config->watch) return show_once(config, &left);
    interrupt_catch();
    int status = show_once(config, &left);
    while (left && !interrupted() && ferror(stdout) == 0) {
        wait_a_second();
        if (interrupted()) break;
        if (!config->json) putchar('\n');
        status = show_once(config, &left);
    }
    return interrupted() ? EXIT_INTERRUPTED : status;
}
