/* A temporary directory and small data files in it, plain or packed. */
#ifndef GADABOUT_TESTS_DATASET_FIXTURE_H
#define GADABOUT_TESTS_DATASET_FIXTURE_H

#include <stddef.h>
#include <stdint.h>

#include "agent/dataset/dataset.h"

enum fixture_packing { FIXTURE_PLAIN, FIXTURE_GZ, FIXTURE_XZ, FIXTURE_PACKING_COUNT };

struct fixture {
    char dir[64];
    char path[320]; /* of the file asked for last */
};

void fixture_init(struct fixture *f);
void fixture_deinit(struct fixture *f); /* removes the directory and the files in it */

/* dir/name; valid until the next call. */
const char *fixture_path(struct fixture *f, const char *name);

/* Writes name, or name.gz, or name.xz. */
void fixture_write(struct fixture *f, const char *name, enum fixture_packing packing, const void *data,
                   size_t size);
void fixture_write_text(struct fixture *f, const char *name, enum fixture_packing packing, const char *text);

/* Cuts the last `bytes` off a file (its full name). */
void fixture_cut(struct fixture *f, const char *name, size_t bytes);

/* The idx image and label files of a part ("train", "t10k"): images of 2 x 3 pixels, pixel j of image i is
 * (i * 7 + j) mod 256. */
#define FIXTURE_PIXELS 6u
void fixture_write_idx(struct fixture *f, const char *part, enum fixture_packing packing,
                       const uint8_t *label, uint32_t count);
uint8_t fixture_pixel(uint32_t row, uint32_t column);

/* dataset_load of a whole part, or of rows row[0..count), expecting success. */
void fixture_load_all(const struct dataset_source *s, enum dataset_part part, struct dataset *out);
void fixture_load_rows(const struct dataset_source *s, enum dataset_part part, const uint32_t *row,
                       uint32_t count, struct dataset *out);

/* dataset_open with a path, expecting success or the given code; on failure `says` must be in the line. */
struct dataset_source *fixture_open(const struct dataset_options *options);
void fixture_open_fails(const struct dataset_options *options, int code, const char *says);

#endif
