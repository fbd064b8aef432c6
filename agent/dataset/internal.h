/* Inside of agent/dataset: the streaming reader, what a source keeps, and what a format offers. */
#ifndef GADABOUT_AGENT_DATASET_INTERNAL_H
#define GADABOUT_AGENT_DATASET_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/dataset/dataset.h"
#include "base/err.h"
#include "base/limits.h"

/* -- reader: one file as a stream of bytes or lines, plain, .gz or .xz ------------------------------ */

struct reader;

/* Returns an owned reader in *out. The packing is told by the first bytes; a name in .gz or .xz whose
 * content is not is refused. Errors: ERR_IO, ERR_FORMAT; why names the file. */
int reader_open(const char *path, struct reader **out, struct err_text *why);
void reader_close(struct reader *r); /* r may be NULL */

/* Reads up to size bytes; *got < size only at the end of the data. Errors: ERR_IO (unreadable, truncated),
 * ERR_FORMAT (corrupt packing). */
int reader_read(struct reader *r, void *out, size_t size, size_t *got, struct err_text *why);

/* Reads exactly size bytes of `what`, or fails with ERR_FORMAT when the data ends before. */
int reader_read_exactly(struct reader *r, void *out, size_t size, const char *what, struct err_text *why);
int reader_skip(struct reader *r, uint64_t size, const char *what, struct err_text *why); /* likewise */
int reader_expect_end(struct reader *r, struct err_text *why); /* ERR_FORMAT when data is left */

/* Returns 1 and the next line, without its LF or CRLF and terminated by '\0', in *line (borrowed until the
 * next call); 0 at the end; or an error. Errors: as reader_read, ERR_LIMIT for a line over
 * DATASET_LINE_MAX. */
int reader_line(struct reader *r, const char **line, size_t *length, struct err_text *why);

const char *reader_path(const struct reader *r);               /* borrowed */
unsigned long long reader_line_number(const struct reader *r); /* of the line given last, from 1 */
uint64_t reader_size(const struct reader *r);                  /* bytes of data; UINT64_MAX when packed */

/* -- small helpers ---------------------------------------------------------------------------------- */

/* Reads a decimal number that fits a finite float32 at text. Returns what follows it, or NULL. */
const char *text_number(const char *text, double *out);

/* Returns old with room for `need` elements, doubling up to `total`, so that memory follows the data that
 * arrived and not a count that a file claims. Takes old. */
void *room_for(void *old, size_t *capacity, size_t need, size_t total, size_t size);

/* -- source ----------------------------------------------------------------------------------------- */

#define PART_FILE_MAX 16u

struct source_part {
    char *file[PART_FILE_MAX]; /* idx: images, labels; CIFAR: the batches; else one; owned */
    uint32_t file_count;
    double *label; /* (file_rows) as in the file; only while dataset_open runs */
    size_t label_capacity;
    uint32_t file_rows;
    uint32_t *kept; /* (rows) numbers among the file's rows, ascending; NULL = all */
    float *target;  /* (rows) */
    uint32_t rows;
};

struct dataset_source {
    const struct data_format *format;
    struct source_part part[2]; /* by enum dataset_part */
    bool has_test;              /* a test part was found */
    bool held_out;              /* the test part was drawn from the training files */
    char *name;                 /* of the set, without folder, packing and ".t"; owned */
    uint32_t features;          /* 0 until given or found */
    uint32_t label_count;       /* labels are 0..label_count-1; 0 = whatever the training part holds */
    struct choice mixture;      /* format_mixture only */
    uint64_t seed;
    struct dataset_info info;
};

struct data_format {
    const char *name;
    bool sparse;
    /* Reads the labels of a part with source_add_label; sets features (training part) or checks them. */
    int (*scan)(struct dataset_source *s, enum dataset_part part, struct err_text *why);
    /* Reads the file rows row[0..count), ascending, of the files of a part into out, whose rows, features
     * and classes are set. What it allocated is freed by the caller on error too. */
    int (*load)(const struct dataset_source *s, enum dataset_part part, const uint32_t *row, uint32_t count,
                struct dataset *out, struct err_text *why);
};

extern const struct data_format format_idx, format_cifar, format_libsvm, format_csv, format_mixture;

/* Appends the label of the next file row. Errors: ERR_LIMIT naming path. */
int source_add_label(struct source_part *p, double label, const char *path, struct err_text *why);

/* Notes that `path` has `features` a row: the training part decides, the test part must agree. */
int source_set_features(struct dataset_source *s, uint32_t features, const char *path, struct err_text *why);

/* find.c: path to format and files; fills format, part[].file, name, mixture. */
int source_find(const char *path, struct dataset_source *s, struct err_text *why);

/* synthetic.c: parses "mixture:rows=20000,..." */
int mixture_parse(const char *text, struct choice *out, struct err_text *why);

#define FOUND_CLASS_MAX 100u /* labels.c: more different whole numbers than this are a regression's targets */

/* labels.c: turns part[].label into targets and kept rows; fills info.classes. */
int source_select(struct dataset_source *s, const char *classes, struct err_text *why);

#endif
