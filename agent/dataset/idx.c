/* idx files (MNIST, Fashion-MNIST): a big-endian header, then bytes. Images: magic 2051, count, rows,
 * columns; labels: magic 2049, count.
 *
 * Normal course
 *  - scan reads the labels and the images' header only; load streams the images past and keeps the chosen.
 * Failure courses
 *  - wrong magic, images and labels that disagree in count, too few or too many bytes: ERR_FORMAT.
 *  - a header that claims more than the limits allow: ERR_LIMIT. Memory grows with the bytes that arrive,
 *    so a lying header costs nothing. */
#include <stdio.h>
#include <string.h>

#include "agent/dataset/internal.h"
#include "base/check.h"

#define IMAGE_MAGIC 2051u
#define LABEL_MAGIC 2049u
#define IMAGE_HEADER 16u
#define LABEL_HEADER 8u

static uint32_t big_endian(const uint8_t *b)
{
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

/* Reads magic and count. */
static int read_count(struct reader *r, uint32_t magic, uint32_t *count, struct err_text *why)
{
    uint8_t head[8];
    int err = reader_read_exactly(r, head, sizeof head, "the idx header", why);
    if (err != 0) return err;
    uint32_t found = big_endian(head);
    if (found != magic)
        return err_set(why, ERR_FORMAT, "%s: starts with magic number %u, not %u: not an idx file of %s",
                       reader_path(r), found, magic, magic == IMAGE_MAGIC ? "images" : "labels");
    *count = big_endian(head + 4);
    if (*count <= DATASET_ROW_MAX) return 0;
    return err_set(why, ERR_LIMIT, "%s: header claims %u rows, at most %u are read", reader_path(r), *count,
                   DATASET_ROW_MAX);
}

static int check_size(struct reader *r, uint64_t expected, struct err_text *why)
{
    if (reader_size(r) == UINT64_MAX || reader_size(r) == expected) return 0;
    return err_set(why, ERR_FORMAT, "%s: header asks for %llu bytes, but the file has %llu", reader_path(r),
                   (unsigned long long)expected, (unsigned long long)reader_size(r));
}

static int open_images(const char *path, struct reader **out, uint32_t *count, uint32_t *features,
                       struct err_text *why)
{
    struct reader *r;
    int err = reader_open(path, &r, why);
    if (err != 0) return err;
    uint8_t shape[8];
    err = read_count(r, IMAGE_MAGIC, count, why);
    if (err == 0) err = reader_read_exactly(r, shape, sizeof shape, "the idx header", why);
    if (err == 0) {
        uint64_t pixels = (uint64_t)big_endian(shape) * big_endian(shape + 4);
        if (pixels == 0 || pixels > DATASET_FEATURE_MAX)
            err = err_set(why, ERR_LIMIT, "%s: header claims %llu pixels an image, allowed are 1 to %u", path,
                          (unsigned long long)pixels, DATASET_FEATURE_MAX);
        else
            err = check_size(r, IMAGE_HEADER + pixels * *count, why);
        *features = (uint32_t)pixels;
    }
    if (err != 0) {
        reader_close(r);
        return err;
    }
    *out = r;
    return 0;
}

static int read_labels(struct source_part *p, struct err_text *why)
{
    struct reader *r;
    uint32_t count;
    int err = reader_open(p->file[1], &r, why);
    if (err != 0) return err;
    err = read_count(r, LABEL_MAGIC, &count, why);
    if (err == 0) err = check_size(r, LABEL_HEADER + (uint64_t)count, why);
    while (err == 0 && p->file_rows < count) {
        uint8_t chunk[4096];
        uint32_t wanted = count - p->file_rows < sizeof chunk ? count - p->file_rows : (uint32_t)sizeof chunk;
        err = reader_read_exactly(r, chunk, wanted, "the labels its header counts", why);
        for (uint32_t i = 0; err == 0 && i < wanted; i++)
            err = source_add_label(p, chunk[i], p->file[1], why);
    }
    if (err == 0) err = reader_expect_end(r, why);
    reader_close(r);
    return err;
}

static uint32_t count_distinct(const struct source_part *p)
{
    bool seen[UINT8_MAX + 1] = {false};
    uint32_t count = 0;
    for (uint32_t i = 0; i < p->file_rows; i++) {
        count += !seen[(size_t)p->label[i]];
        seen[(size_t)p->label[i]] = true;
    }
    return count;
}

/* The classes are the labels found, so that a part of a set (two digits of ten) is a set of its own. Were there too
 * many for labels.c to take them for classes, they would still be none of a regression. */
static int idx_scan(struct dataset_source *s, enum dataset_part part, struct err_text *why)
{
    struct source_part *p = &s->part[part];
    int err = read_labels(p, why);
    if (err != 0) return err;
    struct reader *images;
    uint32_t count, features;
    err = open_images(p->file[0], &images, &count, &features, why);
    if (err != 0) return err;
    reader_close(images);
    if (count != p->file_rows)
        return err_set(why, ERR_FORMAT, "%s: holds %u images, but %s holds %u labels", p->file[0], count,
                       p->file[1], p->file_rows);
    if (part == DATASET_TRAIN && count_distinct(p) > FOUND_CLASS_MAX) s->label_count = UINT8_MAX + 1;
    return source_set_features(s, features, p->file[0], why);
}

static int idx_load(const struct dataset_source *s, enum dataset_part part, const uint32_t *row,
                    uint32_t count, struct dataset *out, struct err_text *why)
{
    const struct source_part *p = &s->part[part];
    struct reader *r;
    uint32_t rows, features, next = 0;
    int err = open_images(p->file[0], &r, &rows, &features, why);
    if (err != 0) return err;
    if (rows != p->file_rows || features != s->features)
        err = err_set(why, ERR_FORMAT, "%s: changed since it was opened", p->file[0]);
    size_t capacity = 0, total = (size_t)count * features;
    for (uint32_t i = 0; err == 0 && i < count; i++) {
        err = reader_skip(r, (uint64_t)(row[i] - next) * features, "the images its header counts", why);
        if (err != 0) break;
        out->bytes = room_for(out->bytes, &capacity, (size_t)(i + 1) * features, total, 1);
        err = reader_read_exactly(r, out->bytes + (size_t)i * features, features,
                                  "the images its header counts", why);
        next = row[i] + 1;
    }
    if (err == 0 && next == rows) err = reader_expect_end(r, why);
    reader_close(r);
    return err;
}

const struct data_format format_idx = {"idx", false, idx_scan, idx_load};
