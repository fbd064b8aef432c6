/* Configuration files. The form is flat: one mapping from option names (with _) to their text.
 *
 * Normal course
 *  - the file is read whole, then libyaml's events are walked: key, value, key, value.
 *  - keys of other commands are skipped, so that one file serves all; so are `version` and `command`, which
 *    config.yml of a run carries for its reader.
 *  - `join` may be a list.
 * Failure courses, each one line that begins with file:line
 *  - not YAML, more than one document, an alias, a value that is a mapping, a list where none may be.
 *  - an unknown key (the nearest known one is named), a key given twice, a value that its option refuses.
 *  - the file cannot be read or is over CONFIG_FILE_MAX.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "agent/config/internal.h"
#include "base/check.h"

/* -- reading ----------------------------------------------------------------------------------- */

struct yaml_walk {
    struct config_parse *parse;
    const char *path;
    yaml_parser_t parser;
    yaml_event_t event;                    /* the last one; deleted before the next */
    unsigned long line[CONFIG_OPTION_MAX]; /* where each option was set; 0 = not yet */
};

static int read_whole(const char *path, char **out, size_t *size, struct err_text *why)
{
    *out = NULL;
    *size = 0;
    FILE *f = fopen(path, "rb");
    if (f == NULL) return err_set(why, ERR_IO, "--config: cannot open %s: %s", path, strerror(errno));
    char *text = mem_new(CONFIG_FILE_MAX + 1, 1);
    size_t got = fread(text, 1, CONFIG_FILE_MAX + 1, f);
    int err = 0;
    if (ferror(f) != 0)
        err = err_set(why, ERR_IO, "--config: cannot read %s: %s", path, strerror(errno));
    else if (got > CONFIG_FILE_MAX)
        err = err_set(why, ERR_LIMIT, "--config: %s is over %u bytes; is it a configuration file?", path,
                      CONFIG_FILE_MAX);
    fclose(f);
    if (err != 0) {
        free(text);
        return err;
    }
    *out = text;
    *size = got;
    return 0;
}

static unsigned long event_line(const struct yaml_walk *w)
{
    return (unsigned long)w->event.start_mark.line + 1;
}

static int next_event(struct yaml_walk *w, struct err_text *why)
{
    yaml_event_delete(&w->event);
    if (yaml_parser_parse(&w->parser, &w->event) != 0) return 0;
    memset(&w->event, 0, sizeof w->event);
    return err_set(why, ERR_FORMAT, "%s:%lu: not valid YAML: %s", w->path,
                   (unsigned long)w->parser.problem_mark.line + 1,
                   w->parser.problem != NULL ? w->parser.problem : "cannot be read");
}

static const char *scalar_text(const struct yaml_walk *w)
{
    return (const char *)w->event.data.scalar.value;
}

static bool is_note(const char *key)
{
    return strcmp(key, "version") == 0 || strcmp(key, "command") == 0;
}

static int unknown_key(const struct yaml_walk *w, const char *key, struct err_text *why)
{
    char names[CONFIG_OPTION_MAX][32];
    const char *known[CONFIG_OPTION_MAX];
    size_t count = 0;
    for (size_t i = 0; i < config_option_count; i++) {
        if (config_options[i].kind == OPTION_CONFIG || (config_options[i].properties & OPTION_HIDDEN) != 0)
            continue;
        option_key(&config_options[i], names[count], sizeof names[count]);
        known[count] = names[count];
        count++;
    }
    const char *near = nearest_word(key, known, count);
    return err_set(why, ERR_USAGE, "%s:%lu: unknown key '%s'%s%s%s", w->path, event_line(w), key,
                   near != NULL ? ", did you mean '" : "; gadabout <command> --help lists them",
                   near != NULL ? near : "", near != NULL ? "'?" : "");
}

/* The option of the key in the current event; *out is NULL for a note. */
static int find_key(struct yaml_walk *w, const struct config_option **out, struct err_text *why)
{
    *out = NULL;
    if (w->event.type != YAML_SCALAR_EVENT)
        return err_set(why, ERR_FORMAT, "%s:%lu: expected `key: value`", w->path, event_line(w));
    const char *key = scalar_text(w);
    if (is_note(key)) return 0;
    for (size_t i = 0; i < config_option_count && *out == NULL; i++) {
        const struct config_option *o = &config_options[i];
        char name[32];
        option_key(o, name, sizeof name);
        if (o->kind != OPTION_CONFIG && (o->properties & OPTION_HIDDEN) == 0 && strcmp(name, key) == 0)
            *out = o;
    }
    if (*out == NULL) return unknown_key(w, key, why);
    unsigned long *line = &w->line[option_index(*out)];
    if (*line != 0)
        return err_set(why, ERR_USAGE, "%s:%lu: key '%s' is given twice (first in line %lu); remove one",
                       w->path, event_line(w), key, *line);
    *line = event_line(w);
    return 0;
}

static int set_scalar(struct yaml_walk *w, const struct config_option *o, struct err_text *why)
{
    struct config_parse *p = w->parse;
    if (o == NULL || (o->commands & (1u << p->config->command)) == 0) return 0;
    char key[32], where[ERR_TEXT_MAX / 2];
    option_key(o, key, sizeof key);
    snprintf(where, sizeof where, "%s:%lu: %s", w->path, event_line(w), key);
    p->given[option_index(o)] = true;
    return option_set(o, p->config, where, scalar_text(w), why);
}

static int bad_value(const struct yaml_walk *w, const struct config_option *o, struct err_text *why)
{
    return err_set(why, ERR_FORMAT, "%s:%lu: the value of %s must be one text%s%s", w->path, event_line(w),
                   o != NULL ? o->name : "a note", o != NULL ? ", as in " : "", o != NULL ? o->example : "");
}

/* The value that follows a key. */
static int read_value(struct yaml_walk *w, const struct config_option *o, struct err_text *why)
{
    int err = next_event(w, why);
    if (err != 0) return err;
    if (o != NULL) option_clear(o, w->parse->config);
    if (w->event.type == YAML_SCALAR_EVENT) return set_scalar(w, o, why);
    if (w->event.type != YAML_SEQUENCE_START_EVENT || o == NULL || o->kind != OPTION_ADDRESSES)
        return bad_value(w, o, why);
    while ((err = next_event(w, why)) == 0 && w->event.type != YAML_SEQUENCE_END_EVENT) {
        if (w->event.type != YAML_SCALAR_EVENT) return bad_value(w, o, why);
        if ((err = set_scalar(w, o, why)) != 0) return err;
    }
    return err;
}

static int read_mapping(struct yaml_walk *w, struct err_text *why)
{
    int err;
    while ((err = next_event(w, why)) == 0 && w->event.type != YAML_MAPPING_END_EVENT) {
        const struct config_option *o;
        err = find_key(w, &o, why);
        if (err == 0) err = read_value(w, o, why);
        if (err != 0) return err;
    }
    return err;
}

static int read_document(struct yaml_walk *w, struct err_text *why)
{
    int err = next_event(w, why); /* stream start */
    if (err == 0) err = next_event(w, why);
    if (err != 0 || w->event.type == YAML_STREAM_END_EVENT) return err; /* an empty file says nothing */
    err = next_event(w, why);
    if (err != 0) return err;
    bool empty = w->event.type == YAML_SCALAR_EVENT && scalar_text(w)[0] == '\0'; /* `---` alone */
    if (w->event.type != YAML_MAPPING_START_EVENT && !empty)
        return err_set(why, ERR_FORMAT, "%s:%lu: expected lines of `key: value`, as in `seed: 1`", w->path,
                       event_line(w));
    if (!empty) err = read_mapping(w, why);
    if (err == 0) err = next_event(w, why); /* document end */
    if (err == 0) err = next_event(w, why);
    if (err != 0 || w->event.type == YAML_STREAM_END_EVENT) return err;
    return err_set(why, ERR_FORMAT, "%s:%lu: a second document; keep one", w->path, event_line(w));
}

int config_read_yaml(struct config_parse *p, const char *path, struct err_text *why)
{
    char *text;
    size_t size;
    int err = read_whole(path, &text, &size, why);
    if (err != 0) return err;
    struct yaml_walk w = {.parse = p, .path = path};
    CHECK(yaml_parser_initialize(&w.parser) != 0); /* fails only when memory is exhausted */
    yaml_parser_set_input_string(&w.parser, (const unsigned char *)text, size);
    err = read_document(&w, why);
    yaml_event_delete(&w.event);
    yaml_parser_delete(&w.parser);
    free(text);
    return err;
}

/* -- writing ----------------------------------------------------------------------------------- */

static bool emit(yaml_emitter_t *e, yaml_event_t *event, int initialised)
{
    return initialised != 0 && yaml_emitter_emit(e, event) != 0;
}

static bool emit_text(yaml_emitter_t *e, const char *text)
{
    yaml_event_t event;
    return emit(e, &event,
                yaml_scalar_event_initialize(&event, NULL, NULL, (const unsigned char *)text,
                                             (int)strlen(text), 1, 1, YAML_ANY_SCALAR_STYLE));
}

static bool emit_options(yaml_emitter_t *e, const struct config *c)
{
    char key[32], text[CONFIG_VALUE_MAX];
    bool ok = emit_text(e, "version") && emit_text(e, GADABOUT_VERSION) && emit_text(e, "command") &&
              emit_text(e, command_name(c->command));
    for (size_t i = 0; i < config_option_count && ok; i++) {
        const struct config_option *o = &config_options[i];
        bool kept = (o->commands & (1u << c->command)) != 0 && (o->properties & OPTION_NOT_KEPT) == 0;
        if (!kept || !option_print(o, c, text, sizeof text)) continue;
        option_key(o, key, sizeof key);
        ok = emit_text(e, key) && emit_text(e, text);
    }
    return ok;
}

int config_write_yaml(const struct config *c, FILE *to)
{
    fprintf(to, "# Every option of this run. To run it again: gadabout %s --config THIS-FILE\n",
            command_name(c->command));
    yaml_emitter_t e;
    yaml_event_t event;
    CHECK(yaml_emitter_initialize(&e) != 0);
    yaml_emitter_set_output_file(&e, to);
    yaml_emitter_set_width(&e, -1);
    yaml_emitter_set_unicode(&e, 1);
    bool ok = emit(&e, &event, yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING)) &&
              emit(&e, &event, yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1)) &&
              emit(&e, &event,
                   yaml_mapping_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE)) &&
              emit_options(&e, c) && emit(&e, &event, yaml_mapping_end_event_initialize(&event)) &&
              emit(&e, &event, yaml_document_end_event_initialize(&event, 1)) &&
              emit(&e, &event, yaml_stream_end_event_initialize(&event));
    yaml_emitter_delete(&e);
    return ok && fflush(to) == 0 && ferror(to) == 0 ? 0 : ERR_IO;
}
