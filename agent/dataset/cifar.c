/* CIFAR-10 records: 3073 bytes each, a label 0..9 and 3 x 1024 pixels; no header; a part may be several
 * files.
 *
 * Normal course: scan reads every record and keeps its label; load keeps the pixels of the chosen records.
 * Failure courses: a file that does not end with a record, a label above 9: ERR_FORMAT naming the record. */
#include <string.h>

#include "agent/dataset/internal.h"

#define RECORD_PIXELS 3072u
#define RECORD_SIZE (RECORD_PIXELS + 1)
#define LABEL_COUNT 10u

static int scan_file(struct source_part *p, const char *path, struct err_text *why)
{
    struct reader *r;
    int err = reader_open(path, &r, why);
    if (err != 0) return err;
    for (unsigned long record = 1; err == 0; record++) {
        uint8_t bytes[RECORD_SIZE];
        size_t got;
        err = reader_read(r, bytes, sizeof bytes, &got, why);
        if (err != 0 || got == 0) break;
        if (got < sizeof bytes)
            err = err_set(why, ERR_FORMAT,
                          "%s: ends in the middle of record %lu: not a file of %u-byte CIFAR records", path,
                          record, RECORD_SIZE);
        else if (bytes[0] >= LABEL_COUNT)
            err = err_set(why, ERR_FORMAT, "%s: record %lu has label %u, allowed are 0 to %u", path, record,
                          bytes[0], LABEL_COUNT - 1);
        else
            err = source_add_label(p, bytes[0], path, why);
    }
    reader_close(r);
    return err;
}

static int cifar_scan(struct dataset_source *s, enum dataset_part part, struct err_text *why)
{
    struct source_part *p = &s->part[part];
    s->label_count = LABEL_COUNT;
    for (uint32_t i = 0; i < p->file_count; i++) {
        int err = scan_file(p, p->file[i], why);
        if (err != 0) return err;
    }
    return source_set_features(s, RECORD_PIXELS, p->file[0], why);
}

/* The records of a part, one after another through its files. */
struct record_stream {
    const struct source_part *part;
    struct reader *reader;
    uint32_t file; /* the next one to open */
};

/* Reads one record, opening the next file at the end of one. */
static int next_record(struct record_stream *in, uint8_t *bytes, struct err_text *why)
{
    for (;;) {
        size_t got = 0;
        int err = in->reader != NULL ? reader_read(in->reader, bytes, RECORD_SIZE, &got, why) : 0;
        if (err != 0 || got == RECORD_SIZE) return err;
        if (got > 0 || in->file == in->part->file_count)
            return err_set(why, ERR_FORMAT, "%s: changed since it was opened", in->part->file[in->file - 1]);
        reader_close(in->reader);
        in->reader = NULL;
        err = reader_open(in->part->file[in->file], &in->reader, why);
        if (err != 0) return err;
        in->file++;
    }
}

static int cifar_load(const struct dataset_source *s, enum dataset_part part, const uint32_t *row,
                      uint32_t count, struct dataset *out, struct err_text *why)
{
    struct record_stream in = {&s->part[part], NULL, 0};
    size_t capacity = 0, total = (size_t)count * RECORD_PIXELS;
    uint8_t bytes[RECORD_SIZE];
    uint32_t next = 0;
    int err = 0;
    for (uint32_t i = 0; err == 0 && i < count; i++) {
        while (err == 0 && next <= row[i]) {
            err = next_record(&in, bytes, why);
            next++;
        }
        if (err != 0) break;
        out->bytes = room_for(out->bytes, &capacity, (size_t)(i + 1) * RECORD_PIXELS, total, 1);
        memcpy(out->bytes + (size_t)i * RECORD_PIXELS, bytes + 1, RECORD_PIXELS);
    }
    reader_close(in.reader);
    return err;
}

const struct data_format format_cifar = {"CIFAR", false, cifar_scan, cifar_load};
