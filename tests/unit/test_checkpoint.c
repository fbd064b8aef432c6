/* Goal: what is saved is what is loaded; of two generations the greater; one agent per directory, one identity for
 * ever; what is no checkpoint, or one of a later program, another node or experiment, is refused in words and left
 * as it is.
 * Method: real directories below /tmp, files planted beside or instead of ours. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "agent/state/checkpoint_file.h"
#include "base/check.h"
#include "checkpoint_fixture.h"

struct place {
    char path[64];
};

static int make_place(void **state)
{
    struct place *p = test_calloc(1, sizeof *p);
    snprintf(p->path, sizeof p->path, "/tmp/gadabout-state-XXXXXX");
    assert_non_null(mkdtemp(p->path));
    *state = p;
    return 0;
}

static char *in(const struct place *p, const char *name, char out[128])
{
    snprintf(out, 128, "%s/%s", p->path, name);
    return out;
}

static int remove_place(void **state)
{
    struct place *p = *state;
    char path[128];
    static const char *const names[] = {
        "lock",         "identity",         "checkpoint-0", "checkpoint-1",    "elsewhere",
        "identity.tmp", "checkpoint-0.tmp", "deep/er/lock", "deep/er/identity"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) unlink(in(p, names[i], path));
    rmdir(in(p, "deep/er", path));
    rmdir(in(p, "deep", path));
    int err = rmdir(p->path);
    test_free(p);
    return err; /* nothing else was left */
}

static struct state_dir *open_place(const struct place *p)
{
    struct state_dir *s;
    struct err_text why;
    node_id id;
    if (state_dir_open(p->path, &s, &why) != 0) fail_msg("%s", why.text);
    if (state_dir_identity(s, FIXTURE_NODE, &id, &why) != 0) fail_msg("%s", why.text);
    return s;
}

static void put_file(const char *path, const void *bytes, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static size_t get_file(const char *path, uint8_t *out, size_t max)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t size = fread(out, 1, max, f);
    assert_int_equal(fclose(f), 0);
    return size;
}

/* -- generations ------------------------------------------------------------------------------- */

static void what_is_saved_is_loaded_and_the_greater_generation_wins(void **state)
{
    struct err_text why, note;
    struct state_dir *s = open_place(*state);
    assert_int_equal(load_generation(s, &note), 0);
    for (uint64_t g = 1; g <= 12; g++) {
        assert_int_equal(save_generation(s, g, &why), 0);
        assert_int_equal(load_generation(s, &note), g);
        state_dir_close(s);
        s = open_place(*state); /* a restart that loads nothing goes on counting */
        if (g % 2 == 0) assert_int_equal(load_generation(s, &note), g);
        assert_string_equal(note.text, "");
    }
    state_dir_close(s);
    char path[128];
    struct stat status;
    assert_int_equal(stat(in(*state, "checkpoint-0", path), &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
}

static void a_large_model_comes_back_bit_for_bit(void **state)
{
    struct err_text why, note;
    struct state_dir *s = open_place(*state);
    struct checkpoint c = checkpoint_of(FIXTURE_NODE, 1), back;
    blob_unref(c.model);
    c.dim = 1000003;
    c.model = blob_new(c.dim * sizeof(float));
    for (size_t i = 0; i < c.dim; i++) blob_floats_own(c.model)[i] = (float)(i * 2654435761u % 1000003);
    assert_int_equal(checkpoint_save(s, &c, &why), 0);
    assert_int_equal(checkpoint_load(s, fixture_shape, &back, &note, &why), 0);
    assert_true(checkpoint_equal(&c, &back));
    checkpoint_deinit(&back);
    checkpoint_deinit(&c);
    state_dir_close(s);
}

static void leftovers_of_a_crash_are_removed_at_open(void **state)
{
    char path[128];
    put_file(in(*state, "checkpoint-0.tmp", path), "half", 4);
    put_file(in(*state, "identity.tmp", path), "half", 4);
    struct state_dir *s = open_place(*state);
    assert_int_not_equal(access(in(*state, "checkpoint-0.tmp", path), F_OK), 0);
    assert_int_not_equal(access(in(*state, "identity.tmp", path), F_OK), 0);
    state_dir_close(s);
}

/* -- the directory ----------------------------------------------------------------------------- */

static void the_second_agent_is_told_who_has_the_directory(void **state)
{
    const struct place *p = *state;
    struct err_text why;
    char holder[64];
    struct state_dir *s = open_place(p), *second = NULL;
    assert_int_equal(state_dir_open(p->path, &second, &why), ERR_BUSY);
    assert_null(second);
    snprintf(holder, sizeof holder, "process %ld", (long)getpid());
    assert_non_null(strstr(why.text, "--state"));
    assert_non_null(strstr(why.text, holder));
    state_dir_close(s);
    assert_int_equal(state_dir_open(p->path, &second, &why), 0);
    state_dir_close(second);
}

static void the_directory_is_made_with_its_parents(void **state)
{
    char path[128];
    struct err_text why;
    struct state_dir *s;
    struct stat status;
    assert_int_equal(state_dir_open(in(*state, "deep/er", path), &s, &why), 0);
    assert_string_equal(state_dir_path(s), path);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0700);
    state_dir_close(s);
}

static void what_is_no_directory_is_refused(void **state)
{
    char path[128];
    struct err_text why;
    struct state_dir *s;
    put_file(in(*state, "elsewhere", path), "x", 1);
    assert_int_equal(state_dir_open(path, &s, &why), ERR_IO);
    assert_non_null(strstr(why.text, "--state"));
    assert_int_equal(state_dir_open("/proc/no/such", &s, &why), ERR_IO);
    assert_non_null(strstr(why.text, "/proc/no/such"));
}

static void a_lock_or_identity_that_is_no_file_is_refused_at_once(void **state)
{
    static const char *const names[] = {"lock", "identity"};
    char path[128], target[128];
    struct err_text why;
    node_id id;
    for (size_t i = 0; i < 2; i++)
        for (int fifo = 0; fifo < 2; fifo++) {
            struct state_dir *s = NULL;
            if (fifo)
                assert_int_equal(mkfifo(in(*state, names[i], path), 0600), 0);
            else
                assert_int_equal(symlink(in(*state, "elsewhere", target), in(*state, names[i], path)), 0);
            int err = state_dir_open(((struct place *)*state)->path, &s, &why);
            if (i == 1) {
                assert_int_equal(err, 0);
                err = state_dir_identity(s, 5, &id, &why);
            }
            assert_int_equal(err, ERR_IO);
            assert_non_null(strstr(why.text, fifo ? "not a regular file" : "symbolic link"));
            state_dir_close(s);
            assert_int_not_equal(access(in(*state, "elsewhere", target), F_OK), 0);
            assert_int_equal(unlink(in(*state, names[i], path)), 0);
        }
}

static void the_identity_is_drawn_once_and_kept(void **state)
{
    const struct place *p = *state;
    struct err_text why;
    for (uint64_t fresh = UINT64_MAX; fresh > UINT64_MAX - 3; fresh--) {
        struct state_dir *s;
        node_id id = 0;
        assert_int_equal(state_dir_open(p->path, &s, &why), 0);
        assert_int_equal(state_dir_identity(s, fresh, &id, &why), 0);
        assert_true(id == UINT64_MAX);
        state_dir_close(s);
    }
}

static void a_damaged_identity_is_refused_and_left(void **state)
{
    char path[128];
    uint8_t whole[256], after[256];
    struct err_text why;
    node_id id;
    state_dir_close(open_place(*state));
    size_t size = get_file(in(*state, "identity", path), whole, sizeof whole);
    assert_true(size > 40 && size < sizeof whole);
    for (size_t i = 0; i < 2 * size; i++) { /* each byte changed; each length */
        uint8_t bad[256];
        memcpy(bad, whole, size);
        if (i < size) bad[i] ^= 1;
        size_t length = i < size ? size : i - size;
        put_file(path, bad, length);
        struct state_dir *s;
        assert_int_equal(state_dir_open(((struct place *)*state)->path, &s, &why), 0);
        assert_int_equal(state_dir_identity(s, 5, &id, &why), ERR_FORMAT);
        assert_non_null(strstr(why.text, "identity is damaged"));
        state_dir_close(s);
        assert_int_equal(get_file(path, after, sizeof after), length);
        assert_memory_equal(bad, after, length);
    }
}

/* -- what is not ours -------------------------------------------------------------------------- */

static void a_link_or_a_fifo_is_not_followed_and_the_other_generation_used(void **state)
{
    char path[128], target[128];
    struct err_text why, note;
    struct state_dir *s = open_place(*state);
    assert_int_equal(save_generation(s, 1, &why), 0);
    assert_int_equal(save_generation(s, 2, &why), 0);
    assert_int_equal(rename(in(*state, "checkpoint-1", path), in(*state, "elsewhere", target)), 0);
    assert_int_equal(symlink("elsewhere", path), 0);
    assert_int_equal(load_generation(s, &note), 1);
    assert_string_equal(note.text, "checkpoint-1 is a symbolic link");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(load_generation(s, &note), 1);
    assert_string_equal(note.text, "checkpoint-1 is not a regular file");
    state_dir_close(s);
}

/* As a later program would write it: the first 24 bytes are whole, the rest is anything. */
static size_t later_file(uint8_t out[64])
{
    memset(out, 0xa5, 64);
    memcpy(out, "gadabCKP", 8);
    uint32_t version = CHECKPOINT_VERSION + 1, count = 900;
    memcpy(out + 8, &version, 4);
    memcpy(out + 12, &count, 4);
    uint64_t hash = XXH3_64bits(out, 16);
    memcpy(out + 16, &hash, 8);
    return 64;
}

static void a_later_format_is_refused_and_never_replaced(void **state)
{
    char path[128];
    uint8_t later[64], after[128];
    struct err_text why, note;
    struct checkpoint c;
    for (int slot = 0; slot < 2; slot++) {
        struct state_dir *s = open_place(*state);
        assert_int_equal(save_generation(s, 1, &why), 0);
        assert_int_equal(save_generation(s, 2, &why), 0);
        state_dir_close(s);
        put_file(in(*state, slot == 0 ? "checkpoint-0" : "checkpoint-1", path), later, later_file(later));
        s = open_place(*state);
        for (int loads = 0; loads < 2; loads++) {
            if (loads == 1) {
                assert_int_equal(checkpoint_load(s, fixture_shape, &c, &note, &why), ERR_VERSION);
                assert_non_null(strstr(why.text, "is of format 2"));
            }
            for (uint64_t g = 3; g < 6; g++) assert_int_equal(save_generation(s, g, &why), ERR_VERSION);
        }
        assert_int_equal(get_file(path, after, sizeof after), 64);
        assert_memory_equal(later, after, 64);
        state_dir_close(s);
        unlink(in(*state, "checkpoint-0", path));
        unlink(in(*state, "checkpoint-1", path));
    }
}

static void another_experiment_is_told_apart(void **state)
{
    static const uint8_t other[16] = {9};
    struct err_text why, note;
    struct checkpoint c;
    struct state_dir *s = open_place(*state);
    assert_int_equal(save_generation(s, 1, &why), 0);
    assert_int_equal(checkpoint_load(s, other, &c, &note, &why), ERR_CLUSTER);
    assert_non_null(strstr(why.text, "another experiment"));
    assert_null(c.model);
    assert_int_equal(load_generation(s, &note), 1);
    state_dir_close(s);
}

static void a_node_takes_up_no_other_nodes_checkpoint(void **state)
{
    char path[128];
    struct err_text why, note;
    struct checkpoint c;
    struct state_dir *s = open_place(*state);
    assert_int_equal(save_generation(s, 1, &why), 0);
    state_dir_close(s);
    assert_int_equal(unlink(in(*state, "identity", path)), 0);
    node_id id;
    assert_int_equal(state_dir_open(((struct place *)*state)->path, &s, &why), 0);
    assert_int_equal(state_dir_identity(s, 5, &id, &why), 0);
    assert_int_equal(checkpoint_load(s, fixture_shape, &c, &note, &why), ERR_FORMAT);
    assert_non_null(strstr(why.text, "is of node 77, and this directory of node 5"));
    state_dir_close(s);
}

int main(void)
{
#define WITH_PLACE(f) cmocka_unit_test_setup_teardown(f, make_place, remove_place)
    const struct CMUnitTest tests[] = {
        WITH_PLACE(what_is_saved_is_loaded_and_the_greater_generation_wins),
        WITH_PLACE(a_large_model_comes_back_bit_for_bit),
        WITH_PLACE(leftovers_of_a_crash_are_removed_at_open),
        WITH_PLACE(the_second_agent_is_told_who_has_the_directory),
        WITH_PLACE(the_directory_is_made_with_its_parents),
        WITH_PLACE(what_is_no_directory_is_refused),
        WITH_PLACE(a_lock_or_identity_that_is_no_file_is_refused_at_once),
        WITH_PLACE(the_identity_is_drawn_once_and_kept),
        WITH_PLACE(a_damaged_identity_is_refused_and_left),
        WITH_PLACE(a_link_or_a_fifo_is_not_followed_and_the_other_generation_used),
        WITH_PLACE(a_later_format_is_refused_and_never_replaced),
        WITH_PLACE(another_experiment_is_told_apart),
        WITH_PLACE(a_node_takes_up_no_other_nodes_checkpoint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
