/* Saving again and again.
 *
 * Normal course
 *  - due every every_us, counted from the end of the save before: a slow disk is never given two at once.
 * Failure courses
 *  - a save fails: one line in words, training goes on; the next attempt, on a new file, after a second, two, four ...
 *  - it fails again: no further line. It goes well again: one line. */
#include "agent/state/saver.h"

#include <inttypes.h>

#include "base/check.h"

void saver_init(struct saver *s, struct state_dir *dir, uint64_t every_us, uint64_t now_us,
                const struct trace *trace)
{
    *s = (struct saver){.dir = dir, .trace = trace, .every_us = every_us, .ok = true};
    s->due_us = time_after(now_us, every_us);
}

void saver_deinit(struct saver *s)
{
    CHECK(!s->writing);
}

bool saver_is_due(const struct saver *s, uint64_t now_us)
{
    return !s->writing && now_us >= s->due_us;
}

void saver_put_off(struct saver *s, uint64_t now_us)
{
    s->due_us = time_after(now_us, s->every_us);
}

void saver_begin(struct saver *s, struct checkpoint *c)
{
    CHECK(!s->writing);
    s->writing = true;
    s->save = *c;
    *c = (struct checkpoint){0};
}

void saver_write(struct saver *s)
{
    s->err = checkpoint_save(s->dir, &s->save, &s->why);
}

static void note_error(struct saver *s, uint64_t now_us)
{
    uint64_t most_us = s->every_us > SAVER_RETRY_MIN_US ? s->every_us : SAVER_RETRY_MIN_US;
    if (s->ok)
        trace_line(s->trace, TRACE_WARN, "%s; training goes on, the save will be tried again", s->why.text);
    s->ok = false;
    s->failed++;
    s->wait_us = s->wait_us == 0 ? SAVER_RETRY_MIN_US : 2 * s->wait_us;
    if (s->wait_us > most_us) s->wait_us = most_us;
    s->due_us = time_after(now_us, s->wait_us);
}

void saver_end(struct saver *s, uint64_t now_us)
{
    CHECK(s->writing);
    s->writing = false;
    if (s->err != 0) {
        note_error(s, now_us);
    } else {
        s->generation = s->save.generation;
        if (!s->ok)
            trace_line(s->trace, TRACE_WARN, "the state is saved again: generation %" PRIu64, s->generation);
        s->ok = true;
        s->wait_us = 0;
        s->due_us = time_after(now_us, s->every_us);
    }
    checkpoint_deinit(&s->save);
}
