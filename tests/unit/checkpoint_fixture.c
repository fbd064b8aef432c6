#include "checkpoint_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

const uint8_t fixture_shape[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

static struct blob *bytes_of(uint64_t generation, size_t size)
{
    struct blob *b = blob_new(size);
    for (size_t i = 0; i < size; i++) b->data[i] = (uint8_t)(generation * 31 + i * 7);
    return b;
}

struct checkpoint checkpoint_of(node_id node, uint64_t generation)
{
    struct checkpoint c = {
        .id = node,
        .boot = 1000 + generation,
        .incarnation = 2000 + generation,
        .generation = generation,
        .place = generation % 5 == 0 ? RANK_NONE : (rank_t)(generation % 5),
        .claimed = 3000 + generation,
        .steps = 100 * generation,
        .dim = FIXTURE_DIM,
        .model = blob_new(FIXTURE_DIM * sizeof(float)),
        .trainer = generation % 3 == 0 ? NULL : bytes_of(generation, 13),
        .method = generation % 4 == 0 ? NULL : bytes_of(generation, 6),
        .address_count = (uint32_t)(generation % 4),
    };
    memcpy(c.shape, fixture_shape, sizeof c.shape);
    for (size_t i = 0; i < FIXTURE_DIM; i++)
        blob_floats_own(c.model)[i] = (float)generation + 0.25F * (float)i;
    if (c.address_count > 0) c.address = mem_new_zero(c.address_count, sizeof *c.address);
    for (uint32_t i = 0; i < c.address_count; i++)
        snprintf(c.address[i], sizeof c.address[i], "host-%u:%u", i, (unsigned)(7000 + generation));
    return c;
}

static bool blobs_equal(const struct blob *a, const struct blob *b)
{
    if (a == NULL || b == NULL) return a == b;
    return a->size == b->size && memcmp(a->data, b->data, a->size) == 0;
}

bool checkpoint_equal(const struct checkpoint *a, const struct checkpoint *b)
{
    bool same = memcmp(a->shape, b->shape, sizeof a->shape) == 0 && a->id == b->id && a->boot == b->boot &&
                a->incarnation == b->incarnation && a->generation == b->generation && a->place == b->place &&
                a->claimed == b->claimed && a->steps == b->steps && a->dim == b->dim &&
                blobs_equal(a->model, b->model) && blobs_equal(a->trainer, b->trainer) &&
                blobs_equal(a->method, b->method) && a->address_count == b->address_count;
    for (uint32_t i = 0; same && i < a->address_count; i++) same = strcmp(a->address[i], b->address[i]) == 0;
    return same;
}

struct state_dir *checkpoint_state_of(const struct disk *disk)
{
    struct state_dir *s;
    struct err_text why;
    node_id id;
    if (state_dir_attach(disk, "state", &s, &why) != 0) fail_msg("%s", why.text);
    if (state_dir_identity(s, FIXTURE_NODE, &id, &why) != 0) fail_msg("%s", why.text);
    assert_int_equal(id, FIXTURE_NODE);
    return s;
}

int save_generation(struct state_dir *s, uint64_t generation, struct err_text *why)
{
    struct checkpoint c = checkpoint_of(FIXTURE_NODE, generation);
    int err = checkpoint_save(s, &c, why);
    if (err == 0) assert_int_equal(c.generation, generation);
    checkpoint_deinit(&c);
    return err;
}

uint64_t load_generation(struct state_dir *s, struct err_text *note)
{
    struct checkpoint found;
    struct err_text why;
    int err = checkpoint_load(s, fixture_shape, &found, note, &why);
    if (err == ERR_NOT_FOUND) return 0;
    if (err != 0) fail_msg("%s", why.text);
    struct checkpoint expected = checkpoint_of(FIXTURE_NODE, found.generation);
    assert_true(checkpoint_equal(&found, &expected));
    uint64_t generation = found.generation;
    checkpoint_deinit(&expected);
    checkpoint_deinit(&found);
    return generation;
}
