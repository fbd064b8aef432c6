/* Two generations in turn: which file is loaded, which is replaced.
 *
 * Normal course
 *  - load looks at both headers and reads the greater generation; the other is looked at no further.
 *  - save replaces the file that is not the last whole generation. After an error in which the new file may be
 *    visible but not durable, the same file is replaced again: the last durable generation is never touched.
 * Failure courses
 *  - the greater generation is damaged, or not of this experiment or node: told in note, the other is read.
 *  - either file is of a later format: load and save refuse, whatever the other is.
 *  - neither can be used: the code of the worst (unreadable, damaged, of another experiment, not there). */
#include "agent/state/checkpoint.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "agent/state/checkpoint_file.h"
#include "agent/state/state_dir.h"
#include "base/check.h"

#define SLOTS CHECKPOINT_SLOT_COUNT

void checkpoint_deinit(struct checkpoint *c)
{
    blob_unref(c->model);
    blob_unref(c->trainer);
    blob_unref(c->method);
    free(c->address);
    *c = (struct checkpoint){0};
}

/* -- loading ----------------------------------------------------------------------------------- */

/* What was found at one slot. */
struct found {
    int err; /* 0 = its header is whole and it is ours */
    uint64_t generation;
    struct err_text reason; /* without the file's name */
};

/* Whether a file with a whole header is this node's, of this experiment. */
static int check_owner(const struct state_dir *s, const struct checkpoint_reading *r, const uint8_t shape[16],
                       struct err_text *reason)
{
    if (memcmp(r->shape, shape, sizeof r->shape) != 0)
        return err_set(reason, ERR_CLUSTER, "is of another experiment (other options or data)");
    if (s->has_identity && r->id != s->id)
        return err_set(reason, ERR_FORMAT, "is of node %" PRIu64 ", and this directory of node %" PRIu64,
                       r->id, s->id);
    return 0;
}

/* Looks at the file of one slot; reads all of it into *out, unless that is NULL. */
static int look(const struct state_dir *s, uint32_t slot, const uint8_t shape[16], struct found *f,
                struct checkpoint *out)
{
    struct checkpoint_reading r;
    *f = (struct found){.err = 0};
    f->err = checkpoint_reading_open(&s->disk, s->folder, checkpoint_name(slot), &r, &f->reason);
    if (f->err != 0) return f->err;
    f->generation = r.generation;
    f->err = check_owner(s, &r, shape, &f->reason);
    if (f->err == 0 && out != NULL) f->err = checkpoint_reading_take(&r, out, &f->reason);
    checkpoint_reading_close(&r);
    return f->err;
}

/* "name reason", "name reason; name reason": of those slots that are there and cannot be used. */
static void tell(const struct found f[SLOTS], struct err_text *out)
{
    const char *join = "";
    struct err_text so_far;
    for (uint32_t i = 0; i < SLOTS; i++) {
        if (f[i].err == 0 || f[i].err == ERR_NOT_FOUND) continue;
        so_far = *out;
        err_set(out, 0, "%.200s%s%s %.200s", so_far.text, join, checkpoint_name(i), f[i].reason.text);
        join = "; ";
    }
}

/* The code for a directory of which no file can be used. */
static int worst(const struct found f[SLOTS])
{
    static const int order[] = {ERR_VERSION, ERR_IO, ERR_CLUSTER, ERR_FORMAT};
    for (size_t k = 0; k < sizeof order / sizeof order[0]; k++)
        for (uint32_t i = 0; i < SLOTS; i++)
            if (f[i].err == order[k]) return order[k];
    return ERR_NOT_FOUND;
}

/* Reads the greatest generation that is whole. Returns its slot, or SLOTS. */
static uint32_t read_greatest(struct state_dir *s, const uint8_t shape[16], struct found f[SLOTS],
                              struct checkpoint *out)
{
    for (uint32_t tries = 0; tries < SLOTS; tries++) {
        uint32_t best = SLOTS;
        for (uint32_t i = 0; i < SLOTS; i++)
            if (f[i].err == 0 && (best == SLOTS || f[i].generation > f[best].generation)) best = i;
        if (best == SLOTS || look(s, best, shape, &f[best], out) == 0) return best;
    }
    return SLOTS;
}

int checkpoint_load(struct state_dir *s, const uint8_t shape[16], struct checkpoint *out,
                    struct err_text *note, struct err_text *why)
{
    struct found f[SLOTS];
    struct err_text told = {""};
    *out = (struct checkpoint){0};
    *note = (struct err_text){""};
    s->generation = 0;
    for (uint32_t i = 0; i < SLOTS; i++) {
        look(s, i, shape, &f[i], NULL);
        s->later[i] = f[i].err == ERR_VERSION;
        if (f[i].generation > s->generation) s->generation = f[i].generation;
    }
    s->surveyed = true;
    s->good_slot = worst(f) == ERR_VERSION ? SLOTS : read_greatest(s, shape, f, out);
    tell(f, &told);
    if (s->good_slot != SLOTS) {
        *note = told;
        return 0;
    }
    int err = worst(f);
    if (err == ERR_NOT_FOUND) return err_set(why, err, "--state: %s holds no checkpoint", s->path);
    return err_set(why, err, "--state: in %s %s", s->path, told.text);
}

/* -- saving ------------------------------------------------------------------------------------ */

/* Finds out what is there, when nothing has been loaded. */
static void survey(struct state_dir *s, const uint8_t shape[16])
{
    struct checkpoint c;
    struct err_text note, why;
    if (!s->surveyed && checkpoint_load(s, shape, &c, &note, &why) == 0) checkpoint_deinit(&c);
}

int checkpoint_save(struct state_dir *s, struct checkpoint *c, struct err_text *why)
{
    survey(s, c->shape);
    for (uint32_t i = 0; i < SLOTS; i++)
        if (s->later[i])
            return err_set(why, ERR_VERSION, "%s/%s is of a later format; it is not replaced", s->path,
                           checkpoint_name(i));
    uint32_t slot = s->good_slot == 0 ? 1 : 0;
    if (s->generation >= CHECKPOINT_GENERATION_MAX)
        return err_set(why, ERR_LIMIT, "%s: no generation is left", s->path);
    c->generation = s->generation + 1;
    struct checkpoint_image image;
    checkpoint_image_init(&image, c);
    int renamed;
    int err =
        disk_replace(&s->disk, s->folder, checkpoint_name(slot), image.piece, image.piece_count, &renamed);
    checkpoint_image_deinit(&image);
    if (err == 0 || renamed) s->generation = c->generation; /* visible: the next one must be greater */
    if (err != 0)
        return err_set(why, ERR_IO, "cannot write %s/%s: %s", s->path, checkpoint_name(slot), strerror(-err));
    s->good_slot = slot;
    return 0;
}
