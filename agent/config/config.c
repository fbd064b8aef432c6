/* From argv, environment and YAML to a struct config.
 *
 * Normal course
 *  - the command line is scanned first, so that its errors, --help and --config are known first.
 *  - values are set in the order YAML, environment, command line: a later source overrides an earlier one.
 *  - what nobody gave is filled in (config/defaults.c), then options are checked against each other.
 *  - `eval` takes the config.yml beside the model file when no --config is given.
 * Failure courses
 *  - an unknown option, one of another command, one without value, a stray word: one line, ERR_USAGE.
 *  - a variable GADABOUT_X that names no option is ignored: container platforms set such variables by
 *    themselves (GADABOUT_SERVICE_HOST for a service called gadabout).
 *  - an agent started by `up` (--launched) was told everything on its command line, so the environment of
 *    the user, which `up` has read already, is not read again.
 */
#include "agent/config/config.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/config/internal.h"
#include "base/check.h"

static const char *const command_names[COMMAND_COUNT] = {
    [COMMAND_UP] = "up",         [COMMAND_AGENT] = "agent",           [COMMAND_SIM] = "sim",
    [COMMAND_EVAL] = "eval",     [COMMAND_ALGORITHMS] = "algorithms", [COMMAND_REPRODUCE] = "reproduce",
    [COMMAND_STATUS] = "status", [COMMAND_INVITE] = "invite",         [COMMAND_DOCTOR] = "doctor",
    [COMMAND_FAULT] = "fault",
};

const char *command_name(enum command command)
{
    CHECK(command < COMMAND_COUNT);
    return command_names[command];
}

/* -- command line ------------------------------------------------------------------------------ */

struct argument {
    const struct config_option *option;
    const char *text; /* borrowed from argv, or static */
};

static bool serves(const struct config_option *o, enum command command)
{
    return (o->commands & (1u << command)) != 0;
}

static int unknown_option(enum command command, const char *given, size_t length, struct err_text *why)
{
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)length, given);
    const struct config_option *other = option_find(name);
    if (other != NULL) {
        const char *owner = "";
        for (unsigned i = COMMAND_COUNT; i-- > 0;)
            if (serves(other, (enum command)i)) owner = command_names[i];
        return err_set(why, ERR_USAGE, "--%s: not an option of gadabout %s but of gadabout %s", name,
                       command_name(command), owner);
    }
    const char *known[CONFIG_OPTION_MAX + 1];
    size_t count = 0;
    for (size_t i = 0; i < config_option_count; i++)
        if (serves(&config_options[i], command) && (config_options[i].properties & OPTION_HIDDEN) == 0)
            known[count++] = config_options[i].name;
    known[count++] = "help";
    const char *near = nearest_word(name, known, count);
    return err_set(why, ERR_USAGE, "--%s: unknown option%s%s%s gadabout %s --help shows all", name,
                   near != NULL ? ", did you mean --" : "", near != NULL ? near : "",
                   near != NULL ? "?" : ";", command_name(command));
}

static const struct config_option *find_word(enum command command, const char *name, size_t length)
{
    for (size_t i = 0; i < config_option_count; i++) {
        const struct config_option *o = &config_options[i];
        if (strlen(o->name) == length && strncmp(o->name, name, length) == 0)
            return serves(o, command) ? o : NULL;
    }
    return NULL;
}

static const struct config_option *find_letter(enum command command, char letter)
{
    for (size_t i = 0; i < config_option_count; i++)
        if (config_options[i].letter == letter && serves(&config_options[i], command))
            return &config_options[i];
    return NULL;
}

static const struct config_option *find_bare(enum command command)
{
    for (size_t i = 0; i < config_option_count; i++)
        if ((config_options[i].properties & OPTION_BARE) != 0 && serves(&config_options[i], command))
            return &config_options[i];
    return NULL;
}

static int stray_word(enum command command, const char *word, struct err_text *why)
{
    return err_set(why, ERR_USAGE, "'%s': options begin with --; see gadabout %s --help", word,
                   command_name(command));
}

/* Reads argv[*at], and the value behind it where it needs one; *at ends at the last word used. */
static int scan_argument(enum command command, int argc, char **argv, int *at, struct argument *out,
                         struct err_text *why)
{
    const char *word = argv[*at];
    const char *value = NULL;
    if (word[0] == '-' && word[1] == '-' && word[2] != '\0') {
        size_t length = strcspn(word + 2, "=");
        out->option = find_word(command, word + 2, length);
        if (out->option == NULL) return unknown_option(command, word + 2, length, why);
        if (word[2 + length] == '=') value = word + 2 + length + 1;
    } else if (word[0] == '-' && isalpha((unsigned char)word[1])) {
        out->option = find_letter(command, word[1]);
        if (out->option == NULL) return unknown_option(command, word + 1, 1, why);
        if (word[2] != '\0') value = word + 2;
    } else {
        out->option = word[0] != '-' ? find_bare(command) : NULL;
        if (out->option == NULL) return stray_word(command, word, why);
        value = word;
    }
    if (value == NULL && out->option->kind == OPTION_FLAG) value = "on";
    if (value == NULL && *at + 1 < argc) {
        value = argv[++*at];
        /* `--data --json` is a forgotten value, not a directory called --json */
        if (strncmp(value, "--", 2) == 0) value = NULL;
    }
    if (value == NULL)
        return err_set(why, ERR_USAGE, "--%s: has no value; give one, as in --%s %s", out->option->name,
                       out->option->name, out->option->example);
    out->text = value;
    return 0;
}

/* Where on the command line help is asked for; 0 = nowhere. */
static int help_at(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return i;
    return 0;
}

static int set_arguments(struct config_parse *p, const struct argument *argument, size_t count,
                         struct err_text *why)
{
    bool seen[CONFIG_OPTION_MAX] = {false};
    for (size_t i = 0; i < count; i++) {
        const struct config_option *o = argument[i].option;
        char where[64];
        snprintf(where, sizeof where, "--%s", o->name);
        if (!seen[option_index(o)]) option_clear(o, p->config); /* repeats add up, other sources do not */
        seen[option_index(o)] = p->given[option_index(o)] = true;
        int err = option_set(o, p->config, where, argument[i].text, why);
        if (err != 0) return err;
    }
    return 0;
}

/* Text of the last mention of an option; NULL when there is none. */
static const char *argument_text(const struct argument *argument, size_t count, const char *name)
{
    const struct config_option *o = option_find(name);
    while (count-- > 0)
        if (argument[count].option == o) return argument[count].text;
    return NULL;
}

/* -- environment ------------------------------------------------------------------------------- */

/* Value of the variable of an option; NULL when unset or empty, as compose files leave it. */
static const char *environment_text(const struct config_option *o, char *name, size_t size)
{
    snprintf(name, size, "GADABOUT_%s", o->name);
    for (char *c = name; *c != '\0'; c++) *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
    const char *text = getenv(name);
    return text != NULL && text[0] != '\0' ? text : NULL;
}

static int set_environment(struct config_parse *p, struct err_text *why)
{
    for (size_t i = 0; i < config_option_count; i++) {
        const struct config_option *o = &config_options[i];
        if (!serves(o, p->config->command) || (o->properties & OPTION_HIDDEN) != 0) continue;
        char name[64];
        const char *text = environment_text(o, name, sizeof name);
        if (text == NULL) continue;
        option_clear(o, p->config);
        p->given[i] = true;
        int err = option_set(o, p->config, name, text, why);
        if (err != 0) return err;
    }
    return 0;
}

/* -- files ------------------------------------------------------------------------------------- */

/* config.yml in the folder of the model file, when it is there. Returns owned or NULL. */
static char *file_beside_model(const char *model)
{
    const char *slash = strrchr(model, '/');
    size_t folder = slash != NULL ? (size_t)(slash - model) + 1 : 0;
    static const char name[] = "config.yml";
    char *path = mem_new(folder + sizeof name, 1);
    memcpy(path, model, folder);
    memcpy(path + folder, name, sizeof name);
    if (access(path, F_OK) == 0) return path;
    free(path);
    return NULL;
}

static int set_file(struct config_parse *p, const struct argument *argument, size_t count, bool launched,
                    struct err_text *why)
{
    char name[64];
    const char *path = argument_text(argument, count, "config");
    if (path == NULL && !launched) path = environment_text(option_find("config"), name, sizeof name);
    if (path != NULL) return config_read_yaml(p, path, why);
    if (p->config->command != COMMAND_EVAL) return 0;
    const char *model = argument_text(argument, count, "model");
    if (model == NULL) model = environment_text(option_find("model"), name, sizeof name);
    char *beside = model != NULL ? file_beside_model(model) : NULL;
    int err = beside != NULL ? config_read_yaml(p, beside, why) : 0;
    free(beside);
    return err;
}

/* -- all together ------------------------------------------------------------------------------ */

static void config_clear(struct config *c, enum command command)
{
    memset(c, 0, sizeof *c);
    c->command = command;
    c->target_loss = NAN;
    c->target_accuracy = NAN;
    c->id = UINT64_MAX;
}

static int parse_sources(struct config_parse *p, int argc, char **argv, struct argument *argument,
                         struct err_text *why)
{
    size_t count = 0;
    for (int at = 1; at < argc; at++) {
        int err = scan_argument(p->config->command, argc, argv, &at, &argument[count++], why);
        if (err != 0) return err;
    }
    bool launched = argument_text(argument, count, "launched") != NULL;
    int err = set_file(p, argument, count, launched, why);
    if (err == 0 && !launched) err = set_environment(p, why);
    if (err == 0) err = set_arguments(p, argument, count, why);
    if (err == 0) err = config_fill(p, why);
    return err != 0 ? err : config_check(p, why);
}

/* A value may hold terminal codes; what is told about it must not (err_set sees to line breaks). */
static void make_plain(struct err_text *why)
{
    if (why == NULL) return;
    for (char *c = why->text; *c != '\0'; c++)
        if (iscntrl((unsigned char)*c)) *c = '?';
}

int config_parse(enum command command, int argc, char **argv, struct config *out, struct err_text *why)
{
    config_clear(out, command);
    int help = help_at(argc, argv);
    if (help > 0) {
        config_print_help(command, help + 1 < argc && strcmp(argv[help + 1], "all") == 0, stdout);
        return CONFIG_HELP;
    }
    struct config_parse p = {.config = out};
    struct argument *argument = mem_new((size_t)argc + 1, sizeof *argument);
    int err = parse_sources(&p, argc, argv, argument, why);
    free(argument);
    if (err != 0) {
        make_plain(why);
        config_deinit(out);
    }
    return err;
}

void config_deinit(struct config *c)
{
    for (size_t i = 0; i < config_option_count; i++) {
        const struct config_option *o = &config_options[i];
        if (o->kind != OPTION_TEXT && o->kind != OPTION_ADDRESS) continue;
        char **field = (char **)((char *)c + o->field);
        free(*field);
        *field = NULL;
    }
    option_clear(option_find("join"), c);
}

char **config_experiment_arguments(const struct config *c, size_t *count)
{
    char **list = mem_new_zero(config_option_count + 1, sizeof *list);
    char text[CONFIG_VALUE_MAX];
    *count = 0;
    for (size_t i = 0; i < config_option_count; i++) {
        const struct config_option *o = &config_options[i];
        if ((o->properties & OPTION_PASSED) == 0 || !option_print(o, c, text, sizeof text)) continue;
        size_t size = strlen(o->name) + strlen(text) + sizeof "--=";
        list[*count] = mem_new(size, 1);
        snprintf(list[(*count)++], size, "--%s=%s", o->name, text);
    }
    return list;
}
