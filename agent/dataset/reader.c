/* One file as a stream of bytes or lines.
 *
 * Normal course
 *  - the first bytes tell the packing: gzip (zlib's gzFile), xz (liblzma's stream decoder), or none.
 *  - bytes pass through one buffer; large reads go around it. Lines are handed out inside the buffer where
 *    they fit.
 * Failure courses
 *  - missing or unreadable: ERR_IO with the system's reason.
 *  - a packed file that ends before its stream does: ERR_IO "truncated", never a short read.
 *  - a damaged stream, a wrong checksum, a .gz or .xz that is none: ERR_FORMAT.
 *  - fewer bytes than the caller's format needs: ERR_FORMAT with what was being read.
 *  - a line without end: ERR_LIMIT before memory is gone. */
#include <errno.h>
#include <lzma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#include "agent/dataset/internal.h"
#include "base/check.h"

#define BUFFER_SIZE (256u * 1024u)
#define XZ_MEMORY_MAX (256ull * 1024u * 1024u) /* a preset -9 file needs 65 MiB */

enum packing { PACKING_NONE, PACKING_GZIP, PACKING_XZ };

struct reader {
    char *path;
    enum packing packing;
    FILE *file; /* PACKING_NONE, PACKING_XZ */
    gzFile gz;
    lzma_stream xz;
    uint8_t *packed;   /* PACKING_XZ: input of the decoder */
    uint64_t size;     /* UINT64_MAX when packed */
    uint64_t position; /* bytes handed out */
    uint8_t *buffer;   /* (BUFFER_SIZE) unpacked bytes start..end */
    size_t start, end;
    bool ended; /* nothing comes after the buffer */
    char *line; /* a line that does not lie whole in the buffer */
    size_t line_capacity;
    unsigned long long line_number;
};

static bool ends_in(const char *text, const char *suffix)
{
    size_t n = strlen(text), m = strlen(suffix);
    return n >= m && strcmp(text + n - m, suffix) == 0;
}

static int truncated(const struct reader *r, struct err_text *why)
{
    return err_set(why, ERR_IO, "%s: truncated: the packed data ends in the middle; fetch the file again",
                   r->path);
}

/* -- opening ---------------------------------------------------------------------------------------- */

static int open_packing(struct reader *r, const uint8_t *head, size_t got, struct err_text *why)
{
    static const uint8_t xz_magic[6] = {0xfd, '7', 'z', 'X', 'Z', 0};
    bool is_gzip = got >= 2 && head[0] == 0x1f && head[1] == 0x8b;
    bool is_xz = got >= sizeof xz_magic && memcmp(head, xz_magic, sizeof xz_magic) == 0;
    if (ends_in(r->path, ".gz") && !is_gzip)
        return err_set(why, ERR_FORMAT, "%s: is not a gzip file, whatever its name says", r->path);
    if (ends_in(r->path, ".xz") && !is_xz)
        return err_set(why, ERR_FORMAT, "%s: is not an xz file, whatever its name says", r->path);
    if (is_gzip) {
        r->packing = PACKING_GZIP;
        r->gz = gzopen(r->path, "rb");
        if (r->gz == NULL) return err_set(why, ERR_IO, "%s: cannot open: %s", r->path, strerror(errno));
        gzbuffer(r->gz, BUFFER_SIZE);
    } else if (is_xz) {
        r->packing = PACKING_XZ;
        r->packed = mem_new(BUFFER_SIZE, 1);
        if (lzma_stream_decoder(&r->xz, XZ_MEMORY_MAX, LZMA_CONCATENATED) != LZMA_OK)
            return err_set(why, ERR_IO, "%s: cannot start the xz decoder", r->path);
    }
    rewind(r->file);
    return 0;
}

int reader_open(const char *path, struct reader **out, struct err_text *why)
{
    struct reader *r = mem_new_zero(1, sizeof *r);
    r->path = mem_copy_text(path);
    r->size = UINT64_MAX;
    r->buffer = mem_new(BUFFER_SIZE, 1);
    r->xz = (lzma_stream)LZMA_STREAM_INIT;
    r->file = fopen(path, "rb");
    int err = 0;
    struct stat info;
    uint8_t head[6];
    if (r->file == NULL || fstat(fileno(r->file), &info) != 0) {
        err = err_set(why, ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    } else if (S_ISDIR(info.st_mode)) {
        err = err_set(why, ERR_IO, "%s: is a directory where a file is needed", path);
    } else {
        size_t got = fread(head, 1, sizeof head, r->file);
        if (ferror(r->file))
            err = err_set(why, ERR_IO, "%s: cannot read: %s", path, strerror(errno));
        else
            err = open_packing(r, head, got, why);
        if (r->packing == PACKING_NONE) r->size = (uint64_t)info.st_size;
    }
    if (err != 0) {
        reader_close(r);
        return err;
    }
    *out = r;
    return 0;
}

void reader_close(struct reader *r)
{
    if (r == NULL) return;
    if (r->file != NULL) fclose(r->file);
    if (r->gz != NULL) gzclose_r(r->gz);
    lzma_end(&r->xz);
    free(r->packed);
    free(r->buffer);
    free(r->line);
    free(r->path);
    free(r);
}

/* -- filling ---------------------------------------------------------------------------------------- */

static int fill_plain(struct reader *r, uint8_t *out, size_t size, size_t *got, struct err_text *why)
{
    *got = fread(out, 1, size, r->file);
    if (ferror(r->file)) return err_set(why, ERR_IO, "%s: cannot read: %s", r->path, strerror(errno));
    r->ended = *got < size;
    return 0;
}

static int fill_gzip(struct reader *r, uint8_t *out, size_t size, size_t *got, struct err_text *why)
{
    if (size > BUFFER_SIZE) size = BUFFER_SIZE; /* gzread counts in unsigned int */
    int count = gzread(r->gz, out, (unsigned)size);
    int code = Z_OK;
    const char *text = gzerror(r->gz, &code);
    if (code == Z_BUF_ERROR) return truncated(r, why);
    if (code == Z_ERRNO) return err_set(why, ERR_IO, "%s: cannot read: %s", r->path, strerror(errno));
    if (count < 0 || code != Z_OK)
        return err_set(why, ERR_FORMAT, "%s: damaged gzip data: %s", r->path, text);
    *got = (size_t)count;
    r->ended = *got < size;
    return 0;
}

/* Gives the decoder more input when it has none. */
static int feed_xz(struct reader *r, struct err_text *why)
{
    if (r->xz.avail_in > 0 || feof(r->file)) return 0;
    r->xz.next_in = r->packed;
    r->xz.avail_in = fread(r->packed, 1, BUFFER_SIZE, r->file);
    if (ferror(r->file)) return err_set(why, ERR_IO, "%s: cannot read: %s", r->path, strerror(errno));
    return 0;
}

static int fill_xz(struct reader *r, uint8_t *out, size_t size, size_t *got, struct err_text *why)
{
    r->xz.next_out = out;
    r->xz.avail_out = size;
    while (r->xz.avail_out > 0 && !r->ended) {
        int err = feed_xz(r, why);
        if (err != 0) return err;
        lzma_ret code = lzma_code(&r->xz, feof(r->file) ? LZMA_FINISH : LZMA_RUN);
        if (code == LZMA_BUF_ERROR) return truncated(r, why);
        if (code == LZMA_MEMLIMIT_ERROR)
            return err_set(why, ERR_LIMIT,
                           "%s: unpacking needs more than %llu MiB; pack it with a lower preset", r->path,
                           XZ_MEMORY_MAX >> 20);
        if (code != LZMA_OK && code != LZMA_STREAM_END)
            return err_set(why, ERR_FORMAT, "%s: damaged xz data (liblzma code %d)", r->path, (int)code);
        r->ended = code == LZMA_STREAM_END;
    }
    *got = size - r->xz.avail_out;
    return 0;
}

static int fill(struct reader *r, uint8_t *out, size_t size, size_t *got, struct err_text *why)
{
    *got = 0;
    if (r->ended) return 0;
    switch (r->packing) {
    case PACKING_NONE:
        return fill_plain(r, out, size, got, why);
    case PACKING_GZIP:
        return fill_gzip(r, out, size, got, why);
    case PACKING_XZ:
        return fill_xz(r, out, size, got, why);
    }
    UNREACHABLE();
}

/* Refills the buffer, which must be empty. */
static int refill(struct reader *r, struct err_text *why)
{
    CHECK(r->start == r->end);
    r->start = r->end = 0;
    return fill(r, r->buffer, BUFFER_SIZE, &r->end, why);
}

/* -- bytes ------------------------------------------------------------------------------------------ */

int reader_read(struct reader *r, void *out, size_t size, size_t *got, struct err_text *why)
{
    uint8_t *to = out;
    *got = 0;
    while (*got < size && (r->start < r->end || !r->ended)) {
        size_t left = size - *got, taken = 0;
        int err = 0;
        if (r->start == r->end && left >= BUFFER_SIZE) {
            err = fill(r, to + *got, left, &taken, why);
        } else {
            if (r->start == r->end) err = refill(r, why);
            taken = r->end - r->start < left ? r->end - r->start : left;
            if (err == 0) memcpy(to + *got, r->buffer + r->start, taken);
            r->start += taken;
        }
        if (err != 0) return err;
        *got += taken;
    }
    r->position += *got;
    return 0;
}

static int too_short(const struct reader *r, const char *what, struct err_text *why)
{
    return err_set(why, ERR_FORMAT, "%s: ends after %llu bytes, in the middle of %s", r->path,
                   (unsigned long long)r->position, what);
}

int reader_read_exactly(struct reader *r, void *out, size_t size, const char *what, struct err_text *why)
{
    size_t got;
    int err = reader_read(r, out, size, &got, why);
    if (err != 0 || got == size) return err;
    return too_short(r, what, why);
}

int reader_skip(struct reader *r, uint64_t size, const char *what, struct err_text *why)
{
    while (size > 0) {
        if (r->start == r->end) {
            if (r->ended) return too_short(r, what, why);
            int err = refill(r, why);
            if (err != 0) return err;
        }
        size_t taken = r->end - r->start < size ? r->end - r->start : (size_t)size;
        r->start += taken;
        r->position += taken;
        size -= taken;
    }
    return 0;
}

int reader_expect_end(struct reader *r, struct err_text *why)
{
    uint8_t byte;
    size_t got;
    int err = reader_read(r, &byte, 1, &got, why);
    if (err != 0 || got == 0) return err;
    return err_set(why, ERR_FORMAT, "%s: more data after byte %llu than its header counts", r->path,
                   (unsigned long long)(r->position - 1));
}

/* -- lines ------------------------------------------------------------------------------------------ */

static int line_append(struct reader *r, size_t *length, const uint8_t *bytes, size_t count,
                       struct err_text *why)
{
    if (*length + count > DATASET_LINE_MAX)
        return err_set(why, ERR_LIMIT, "%s:%llu: line is longer than %u bytes; is this a text file?", r->path,
                       r->line_number + 1, DATASET_LINE_MAX);
    r->line = room_for(r->line, &r->line_capacity, *length + count + 1, DATASET_LINE_MAX + 1, 1);
    if (count > 0) memcpy(r->line + *length, bytes, count);
    *length += count;
    return 0;
}

static int line_finish(struct reader *r, char *start, size_t count, const char **line, size_t *length)
{
    if (count > 0 && start[count - 1] == '\r') count--;
    start[count] = '\0';
    r->line_number++;
    *line = start;
    *length = count;
    return 1;
}

int reader_line(struct reader *r, const char **line, size_t *length, struct err_text *why)
{
    size_t gathered = 0;
    for (;;) {
        if (r->start == r->end) {
            int err = refill(r, why);
            if (err != 0) return err;
            if (r->start == r->end) break;
        }
        uint8_t *from = r->buffer + r->start;
        uint8_t *newline = memchr(from, '\n', r->end - r->start);
        size_t count = newline != NULL ? (size_t)(newline - from) : r->end - r->start;
        r->start += count + (newline != NULL);
        if (newline != NULL && gathered == 0) return line_finish(r, (char *)from, count, line, length);
        int err = line_append(r, &gathered, from, count, why);
        if (err != 0) return err;
        if (newline != NULL) return line_finish(r, r->line, gathered, line, length);
    }
    if (gathered == 0) return 0;
    return line_finish(r, r->line, gathered, line, length); /* the last line has no end */
}

/* -- reading about it ------------------------------------------------------------------------------- */

const char *reader_path(const struct reader *r)
{
    return r->path;
}

unsigned long long reader_line_number(const struct reader *r)
{
    return r->line_number;
}

uint64_t reader_size(const struct reader *r)
{
    return r->size;
}
