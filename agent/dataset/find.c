/* From --data to format and files.
 *
 * Normal course
 *  - "mixture:..." is a synthetic set; otherwise the path is looked up as given (with .gz or .xz added where
 *    that makes it a file), then under $GADABOUT_DATA: whole, and its last component.
 *  - a directory is an idx set (train-images-idx3-ubyte and friends), CIFAR batches (train*, data_batch*,
 *    test* in .bin), libsvm text (a file named like the directory and its .t, or *.train and *.test), or
 *    CSV (train*.csv and test*.csv, or a single .csv): the first that fits.
 *  - a single file is judged by its name, then by its content.
 * Failure courses
 *  - nothing there, nothing that fits: ERR_IO naming --data, the path and what would fit.
 *  - several CSV files without a choice: ERR_USAGE. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/dataset/internal.h"
#include "base/check.h"

static const char *const packings[] = {"", ".gz", ".xz"};

#define WHAT_FITS                                                                                            \
    "give a directory with train-images-idx3-ubyte[.gz|.xz] and its labels, CIFAR *.bin, libsvm text, "      \
    "or .csv; a file of these; or mixture:rows=20000"

/* -- paths ------------------------------------------------------------------------------------------ */

/* Returns owned "a/b", or a copy of b when a is empty. */
static char *join(const char *a, const char *b)
{
    size_t size = strlen(a) + strlen(b) + 2;
    char *path = mem_new(size, 1);
    snprintf(path, size, "%s%s%s", a, a[0] != '\0' ? "/" : "", b);
    return path;
}

static bool is_directory(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* Returns the owned path of dir/name in the first packing that is there, or NULL. */
static char *find_file(const char *dir, const char *name)
{
    for (size_t i = 0; i < sizeof packings / sizeof packings[0]; i++) {
        char *base = join(dir, name);
        size_t size = strlen(base) + strlen(packings[i]) + 1;
        char *path = mem_new(size, 1);
        snprintf(path, size, "%s%s", base, packings[i]);
        free(base);
        struct stat info;
        if (stat(path, &info) == 0 && !S_ISDIR(info.st_mode)) return path;
        free(path);
    }
    return NULL;
}

static bool cut_suffix(char *text, const char *suffix)
{
    size_t n = strlen(text), m = strlen(suffix);
    if (n <= m || strcmp(text + n - m, suffix) != 0) return false;
    text[n - m] = '\0';
    return true;
}

static void cut_packing(char *name)
{
    for (size_t i = 1; i < sizeof packings / sizeof packings[0]; i++)
        if (cut_suffix(name, packings[i])) return;
}

/* Returns the owned last component of a path. */
static char *last_component(const char *path)
{
    char resolved[PATH_MAX];
    if (realpath(path, resolved) != NULL) path = resolved;
    char *copy = mem_copy_text(path);
    for (size_t n = strlen(copy); n > 1 && copy[n - 1] == '/'; n--) copy[n - 1] = '\0';
    const char *slash = strrchr(copy, '/');
    char *name = mem_copy_text(slash != NULL && slash[1] != '\0' ? slash + 1 : copy);
    free(copy);
    return name;
}

/* Returns the owned name of a set: without folder, packing, part and kind of text. */
static char *set_name(const char *path)
{
    static const char *const parts[] = {".t", ".train", ".test", ".csv", ".bin", ".libsvm", ".svm", ".txt"};
    char *name = last_component(path);
    cut_packing(name);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) cut_suffix(name, parts[i]);
    return name;
}

/* Returns the owned path of what `path` means (a directory or a file), or NULL. */
static char *locate(const char *path)
{
    const char *root = getenv("GADABOUT_DATA");
    char *found = is_directory(path) ? mem_copy_text(path) : find_file("", path);
    if (found != NULL || root == NULL || root[0] == '\0') return found;
    char *last = last_component(path);
    const char *tries[] = {path, last};
    for (size_t i = 0; i < 2 && found == NULL; i++) {
        char *under = join(root, tries[i]);
        found = is_directory(under) ? mem_copy_text(under) : find_file("", under);
        free(under);
    }
    free(last);
    return found;
}

/* -- files of a part -------------------------------------------------------------------------------- */

/* Takes path. */
static void take_file(struct source_part *p, char *path)
{
    CHECK(p->file_count < PART_FILE_MAX);
    p->file[p->file_count++] = path;
}

static int compare_names(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static bool name_fits(const char *file, const char *prefix, const char *suffix)
{
    char *name = mem_copy_text(file);
    cut_packing(name);
    bool fits = strncmp(name, prefix, strlen(prefix)) == 0 && name[0] != '.' && cut_suffix(name, suffix);
    free(name);
    return fits;
}

/* Adds the files prefix*suffix[.gz|.xz] of a directory by name. A file there in two packings counts once. */
static int take_matching(struct source_part *p, const char *dir, const char *prefix, const char *suffix,
                         struct err_text *why)
{
    struct dirent **entry;
    int count = scandir(dir, &entry, NULL, compare_names);
    if (count < 0) return err_set(why, ERR_IO, "--data: cannot list %s: %s", dir, strerror(errno));
    int err = 0;
    char *before = mem_copy_text("");
    for (int i = 0; i < count; i++) {
        char *name = mem_copy_text(entry[i]->d_name);
        bool fits = name_fits(name, prefix, suffix);
        cut_packing(name);
        if (err == 0 && fits && strcmp(name, before) != 0) {
            if (p->file_count == PART_FILE_MAX)
                err = err_set(why, ERR_LIMIT, "--data: %s holds more than %u files %s*%s", dir, PART_FILE_MAX,
                              prefix, suffix);
            else
                take_file(p, join(dir, entry[i]->d_name));
            free(before);
            before = name;
        } else {
            free(name);
        }
        free(entry[i]);
    }
    free(before);
    free(entry);
    return err;
}

static void drop_files(struct source_part *p)
{
    for (uint32_t i = 0; i < p->file_count; i++) free(p->file[i]);
    p->file_count = 0;
}

/* -- kinds of directories: each returns 1 when it fits, 0, or an error -------------------------------- */

/* One part of an idx set; both spellings that are about: "-idx3" and ".idx3". */
static int take_idx_part(struct source_part *p, const char *dir, const char *part, struct err_text *why)
{
    static const char *const marks = "-.";
    for (const char *mark = marks; *mark != '\0'; mark++) {
        char name[64];
        snprintf(name, sizeof name, "%s-images%cidx3-ubyte", part, *mark);
        char *images = find_file(dir, name);
        if (images == NULL) continue;
        take_file(p, images);
        snprintf(name, sizeof name, "%s-labels%cidx1-ubyte", part, *mark);
        char *labels = find_file(dir, name);
        if (labels == NULL)
            return err_set(why, ERR_IO, "--data: %s has no labels beside it; %s[.gz|.xz] must be in %s",
                           images, name, dir);
        take_file(p, labels);
        return 1;
    }
    return 0;
}

static int take_idx(struct dataset_source *s, const char *dir, struct err_text *why)
{
    int fits = take_idx_part(&s->part[DATASET_TRAIN], dir, "train", why);
    if (fits <= 0) return fits;
    s->format = &format_idx;
    int test = take_idx_part(&s->part[DATASET_TEST], dir, "t10k", why);
    return test < 0 ? test : 1;
}

static int take_cifar(struct dataset_source *s, const char *dir, struct err_text *why)
{
    struct source_part *train = &s->part[DATASET_TRAIN];
    int err = take_matching(train, dir, "train", ".bin", why);
    if (err == 0) err = take_matching(train, dir, "data_batch", ".bin", why);
    if (err == 0) err = take_matching(&s->part[DATASET_TEST], dir, "test", ".bin", why);
    if (err != 0) return err;
    if (train->file_count > 0) s->format = &format_cifar;
    return train->file_count > 0;
}

static int take_libsvm(struct dataset_source *s, const char *dir, struct err_text *why)
{
    struct source_part *train = &s->part[DATASET_TRAIN], *test = &s->part[DATASET_TEST];
    char *name = last_component(dir);
    char *file = find_file(dir, name);
    s->format = &format_libsvm;
    if (file != NULL) {
        take_file(train, file);
        char test_name[NAME_MAX + 3];
        snprintf(test_name, sizeof test_name, "%s.t", name);
        file = find_file(dir, test_name);
        if (file != NULL) take_file(test, file);
        free(name);
        return 1;
    }
    free(name);
    int err = take_matching(train, dir, "", ".train", why);
    if (err == 0) err = take_matching(test, dir, "", ".test", why);
    if (err != 0) return err;
    return train->file_count == 1 && test->file_count <= 1;
}

static int take_csv(struct dataset_source *s, const char *dir, struct err_text *why)
{
    struct source_part *train = &s->part[DATASET_TRAIN], *test = &s->part[DATASET_TEST];
    s->format = &format_csv;
    int err = take_matching(train, dir, "train", ".csv", why);
    if (err == 0) err = take_matching(test, dir, "test", ".csv", why);
    if (err == 0 && train->file_count == 0) {
        drop_files(test);
        err = take_matching(train, dir, "", ".csv", why);
    }
    if (err != 0) return err;
    if (train->file_count <= 1 && test->file_count <= 1) return train->file_count == 1;
    return err_set(why, ERR_USAGE, "--data: %s holds several .csv files; name one of them, such as %s", dir,
                   train->file[0]);
}

static int find_in_directory(struct dataset_source *s, const char *dir, struct err_text *why)
{
    static int (*const kinds[])(struct dataset_source *, const char *,
                                struct err_text *) = {take_idx, take_cifar, take_libsvm, take_csv};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        int fits = kinds[i](s, dir, why);
        if (fits < 0) return fits;
        if (fits > 0) return 0;
        drop_files(&s->part[DATASET_TRAIN]);
        drop_files(&s->part[DATASET_TEST]);
    }
    return err_set(why, ERR_IO, "--data: %s holds no data set; " WHAT_FITS, dir);
}

/* -- a single file ---------------------------------------------------------------------------------- */

/* Is the first line of text a label, alone or with index:value pairs? */
static bool looks_libsvm(const char *text)
{
    double number;
    const char *after = text_number(text, &number);
    if (after == NULL) return false;
    after += strspn(after, " \t");
    size_t digits = strspn(after, "0123456789");
    return *after == '\0' || *after == '\r' || *after == '\n' || (digits > 0 && after[digits] == ':');
}

static int judge_content(struct dataset_source *s, const char *path, struct err_text *why)
{
    static const uint8_t image_magic[4] = {0, 0, 8, 3};
    struct reader *r;
    int err = reader_open(path, &r, why);
    if (err != 0) return err;
    char head[4096];
    size_t got;
    err = reader_read(r, head, sizeof head - 1, &got, why);
    reader_close(r);
    if (err != 0) return err;
    head[got] = '\0';
    if (got >= sizeof image_magic && memcmp(head, image_magic, sizeof image_magic) == 0)
        s->format = &format_idx;
    else if (looks_libsvm(head))
        s->format = &format_libsvm;
    else if (strchr(head, ',') != NULL)
        s->format = &format_csv;
    else
        return err_set(why, ERR_FORMAT, "--data: %s is neither idx images, libsvm text nor CSV; " WHAT_FITS,
                       path);
    return 0;
}

/* Finds the labels beside an idx file of images. */
static int take_labels_beside(struct source_part *p, struct err_text *why)
{
    char *path = mem_copy_text(p->file[0]);
    cut_packing(path);
    char *slash = strrchr(path, '/');
    char *name = slash != NULL ? slash + 1 : path;
    char *images = strstr(name, "images"), *three = strstr(name, "idx3");
    if (images != NULL) memcpy(images, "labels", 6);
    if (three != NULL) three[3] = '1';
    char *labels = images != NULL ? find_file("", path) : NULL;
    int err = 0;
    if (labels == NULL)
        err = err_set(why, ERR_IO, "--data: no labels beside %s; expected %s[.gz|.xz]", p->file[0],
                      images != NULL ? path : "a name with 'images' and one with 'labels'");
    else
        take_file(p, labels);
    free(path);
    return err;
}

static int find_single(struct dataset_source *s, const char *path, struct err_text *why)
{
    struct source_part *p = &s->part[DATASET_TRAIN];
    take_file(p, mem_copy_text(path));
    char *name = mem_copy_text(path);
    cut_packing(name);
    if (cut_suffix(name, ".csv"))
        s->format = &format_csv;
    else if (cut_suffix(name, ".bin"))
        s->format = &format_cifar;
    else if (cut_suffix(name, ".libsvm") || cut_suffix(name, ".svm"))
        s->format = &format_libsvm;
    free(name);
    int err = s->format == NULL ? judge_content(s, path, why) : 0;
    if (err == 0 && s->format == &format_idx) err = take_labels_beside(p, why);
    return err;
}

int source_find(const char *path, struct dataset_source *s, struct err_text *why)
{
    if (path == NULL || path[0] == '\0') return err_set(why, ERR_USAGE, "--data: nothing given; " WHAT_FITS);
    if (strlen(path) >= PATH_MAX)
        return err_set(why, ERR_USAGE, "--data: path of %zu bytes is too long", strlen(path));
    char *place = locate(path);
    size_t word = strcspn(path, ":");
    if (place == NULL && word == 7 && strncmp(path, "mixture", word) == 0) {
        int err = mixture_parse(path, &s->mixture, why);
        s->name = mem_copy_text("mixture");
        s->format = &format_mixture;
        s->has_test = err == 0 && choice_integer(&s->mixture, "test") > 0;
        return err;
    }
    if (place == NULL)
        return err_set(why, ERR_IO, "--data: '%.150s' is not there%s; " WHAT_FITS, path,
                       getenv("GADABOUT_DATA") != NULL ? ", nor under $GADABOUT_DATA" : "");
    int err = is_directory(place) ? find_in_directory(s, place, why) : find_single(s, place, why);
    if (err == 0) {
        s->name = set_name(place);
        s->has_test = s->part[DATASET_TEST].file_count > 0;
    }
    free(place);
    return err;
}
