/* Splits by class. Pure.
 *
 * label:k  Every class is cut into equal shares, n*k in all, which are dealt out so that every node gets k
 *          distinct classes. With classes of equal size whose number does not divide n*k that leaves nodes
 *          with quite different totals (8 nodes, k=2, 10 classes: 800 or 1,200 rows of 8,000). Then the
 *          classes are laid on a line, in seeded order, and the line is cut into n equal blocks; if every
 *          block touches exactly k classes, this more even deal is taken.
 *          With n*k < classes some nodes get more than k classes, so that no class is lost.
 *    dirichlet  Hsu et al. 2019, section 3: every node draws its mixture q ~ Dirichlet(alpha) over classes; the
 *          nodes take rows in turn, each from a class drawn from q among those that are left. */
#include <stdlib.h>

#include "agent/dataset/split_internal.h"
#include "base/check.h"

/* Rows first..last of class_rows go to a node. */
struct piece {
    uint32_t node, first, last;
};

struct plan {
    struct piece *piece;
    uint32_t count;
    uint32_t spread; /* rows of the largest node minus rows of the smallest */
};

struct holder {
    uint32_t node, order;
    uint32_t slots; /* classes it may still get */
    uint32_t load;  /* rows it has */
};

struct class_share {
    uint32_t class_index, order;
    uint32_t rows, shares;
};

/* -- equal shares ----------------------------------------------------------------------------------- */

/* Most slots first (Gale and Ryser: then dealing never gets stuck), then the lightest, then seeded order. */
static int compare_holders(const void *a, const void *b)
{
    const struct holder *x = a, *y = b;
    if (x->slots != y->slots) return x->slots > y->slots ? -1 : 1;
    if (x->load != y->load) return x->load < y->load ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

/* Largest shares first. */
static int compare_shares(const void *a, const void *b)
{
    const struct class_share *x = a, *y = b;
    uint64_t left = (uint64_t)x->rows * y->shares, right = (uint64_t)y->rows * x->shares;
    if (left != right) return left > right ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

/* Gives every class one share and the rest where shares are largest (D'Hondt); a class has at most
 * min(nodes, rows) shares. */
static void count_shares(struct class_share *share, uint32_t classes, uint32_t total, uint32_t nodes)
{
    for (uint32_t c = 0; c < classes; c++) share[c].shares = 1;
    for (uint32_t given = classes; given < total; given++) {
        struct class_share *best = NULL;
        for (uint32_t c = 0; c < classes; c++) {
            struct class_share *s = &share[c];
            if (s->shares == nodes || s->shares == s->rows) continue;
            if (best == NULL || (uint64_t)s->rows * best->shares > (uint64_t)best->rows * s->shares) best = s;
        }
        CHECK(best != NULL); /* the caller compared total with what the classes can give */
        best->shares++;
    }
}

static uint32_t load_spread(const struct holder *holder, uint32_t nodes)
{
    uint32_t low = UINT32_MAX, high = 0;
    for (uint32_t v = 0; v < nodes; v++) {
        if (holder[v].load < low) low = holder[v].load;
        if (holder[v].load > high) high = holder[v].load;
    }
    return high - low;
}

static void deal_shares(const struct class_rows *rows, struct class_share *share, uint32_t classes,
                        uint32_t total, const uint32_t *node_order, uint32_t nodes, struct plan *out)
{
    struct holder *holder = mem_new(nodes, sizeof *holder);
    for (uint32_t v = 0; v < nodes; v++)
        holder[v] = (struct holder){v, node_order[v], total / nodes + (node_order[v] < total % nodes), 0};
    out->piece = mem_new(total, sizeof *out->piece);
    out->count = 0;
    qsort(share, classes, sizeof *share, compare_shares);
    for (uint32_t c = 0; c < classes; c++) {
        const struct class_share *s = &share[c];
        uint32_t start = rows->start[s->class_index];
        qsort(holder, nodes, sizeof *holder, compare_holders);
        for (uint32_t i = 0; i < s->shares; i++) {
            uint32_t first = start + (uint32_t)((uint64_t)s->rows * i / s->shares);
            uint32_t last = start + (uint32_t)((uint64_t)s->rows * (i + 1) / s->shares);
            CHECK(holder[i].slots > 0);
            holder[i].slots--;
            holder[i].load += last - first;
            out->piece[out->count++] = (struct piece){holder[i].node, first, last};
        }
    }
    out->spread = load_spread(holder, nodes);
    free(holder);
}

/* -- one line --------------------------------------------------------------------------------------- */

/* End of block v, moved onto a class boundary that is nearer than a twentieth of a block, so that a few
 * rows do not count as a class. edge is (classes + 1): boundaries on the line. */
static uint32_t block_end(uint32_t v, uint32_t nodes, const uint32_t *edge, uint32_t classes)
{
    uint32_t rows = edge[classes];
    uint32_t cut = (uint32_t)((uint64_t)rows * (v + 1) / nodes), near = rows / nodes / 20;
    for (uint32_t c = 1; c < classes; c++) {
        uint32_t distance = edge[c] > cut ? edge[c] - cut : cut - edge[c];
        if (distance <= near) return edge[c];
    }
    return cut;
}

/* Returns whether every block touches exactly k classes; then *out is filled. share is in line order. */
static bool cut_line(const struct class_rows *rows, const struct class_share *share, uint32_t classes,
                     uint32_t k, const uint32_t *node_order, uint32_t nodes, struct plan *out)
{
    uint32_t *edge = mem_new((size_t)classes + 1, sizeof *edge);
    edge[0] = 0;
    for (uint32_t c = 0; c < classes; c++) edge[c + 1] = edge[c] + share[c].rows;
    out->piece = mem_new((size_t)nodes * k, sizeof *out->piece);
    out->count = 0;
    uint32_t at = 0, c = 0, low = UINT32_MAX, high = 0;
    bool fits = true;
    for (uint32_t v = 0; v < nodes && fits; v++) {
        uint32_t begin = at, end = block_end(v, nodes, edge, classes), kinds = 0;
        while (at < end && kinds < k) {
            uint32_t stop = edge[c + 1] < end ? edge[c + 1] : end, start = rows->start[share[c].class_index];
            out->piece[out->count++] =
                (struct piece){node_order[v], start + at - edge[c], start + stop - edge[c]};
            kinds++;
            at = stop;
            if (at == edge[c + 1]) c++;
        }
        fits = kinds == k && at == end;
        low = end - begin < low ? end - begin : low;
        high = end - begin > high ? end - begin : high;
    }
    out->spread = high - low;
    free(edge);
    if (!fits) free(out->piece);
    return fits;
}

/* -- label ------------------------------------------------------------------------------------------ */

/* Returns the owned classes that have rows, in seeded order. */
static struct class_share *present_classes(const struct split_input *in, const struct class_rows *rows,
                                           struct prng *p, uint32_t *count)
{
    uint32_t *order = mem_new(in->classes, sizeof *order);
    struct class_share *share = mem_new(in->classes, sizeof *share);
    *count = 0;
    for (uint32_t c = 0; c < in->classes; c++) order[c] = c;
    prng_shuffle(p, order, in->classes);
    for (uint32_t i = 0; i < in->classes; i++) {
        uint32_t size = rows->start[order[i] + 1] - rows->start[order[i]];
        if (size > 0) share[*count] = (struct class_share){order[i], *count, size, 0};
        *count += size > 0;
    }
    free(order);
    return share;
}

static int check_shares(const struct split_input *in, const struct class_share *share, uint32_t classes,
                        uint32_t k, struct err_text *why)
{
    uint64_t wanted = (uint64_t)in->node_count * k, possible = 0;
    if (k > classes)
        return err_set(why, ERR_USAGE, "--split: label:k=%u, but the training rows have only %u classes", k,
                       classes);
    for (uint32_t c = 0; c < classes; c++)
        possible += share[c].rows < in->node_count ? share[c].rows : in->node_count;
    if (wanted <= possible) return 0;
    return err_set(why, ERR_USAGE,
                   "--split: label:k=%u with %u nodes needs %llu shares of a class, but the %u "
                   "training rows give only %llu; take a smaller k or fewer nodes",
                   k, in->node_count, (unsigned long long)wanted, in->rows, (unsigned long long)possible);
}

static void plan_apply(const struct plan *plan, const struct class_rows *rows, uint32_t *owner)
{
    for (uint32_t i = 0; i < plan->count; i++)
        for (uint32_t j = plan->piece[i].first; j < plan->piece[i].last; j++)
            owner[rows->row[j]] = plan->piece[i].node;
}

int split_by_label(const struct split_input *in, uint32_t *owner, struct err_text *why)
{
    uint32_t n = in->node_count, k = choice_integer(in->choice, "k"), classes;
    struct class_rows rows;
    class_rows_init(&rows, in);
    struct prng p;
    prng_split(&p, in->seed, "split label", 0);
    struct class_share *share = present_classes(in, &rows, &p, &classes);
    uint32_t *node_order = mem_new(n, sizeof *node_order);
    for (uint32_t v = 0; v < n; v++) node_order[v] = v;
    prng_shuffle(&p, node_order, n);
    int err = check_shares(in, share, classes, k, why);
    if (err == 0) {
        uint32_t total = n * k > classes ? n * k : classes; /* n * k <= rows */
        struct plan line, shares;
        bool has_line = cut_line(&rows, share, classes, k, node_order, n, &line);
        count_shares(share, classes, total, n);
        deal_shares(&rows, share, classes, total, node_order, n, &shares);
        bool even = shares.spread <= k || shares.spread <= in->rows / n / 20;
        plan_apply(has_line && !even && line.spread < shares.spread ? &line : &shares, &rows, owner);
        free(shares.piece);
        if (has_line) free(line.piece);
    }
    free(node_order);
    free(share);
    class_rows_deinit(&rows);
    return err;
}

/* -- dirichlet -------------------------------------------------------------------------------------- */

#define MIXTURE_CELL_MAX (1u << 28) /* nodes x classes: 2 GiB */

/* Draws q (classes) ~ Dirichlet(alpha). */
static void draw_mixture(struct prng *p, double alpha, double *q, uint32_t classes)
{
    double sum = 0;
    for (uint32_t c = 0; c < classes; c++) sum += q[c] = prng_gamma(p, alpha);
    if (sum > 0) return;           /* q need not add to 1: drawing divides by what is left */
    q[prng_below(p, classes)] = 1; /* every gamma underflowed: the limit for alpha -> 0 */
}

/* Draws a class from q among those with rows left. left_total > 0. */
static uint32_t draw_class(struct prng *p, const double *q, const uint32_t *left, uint32_t left_total,
                           uint32_t classes)
{
    double mass = 0;
    uint32_t last = UINT32_MAX;
    for (uint32_t c = 0; c < classes; c++)
        if (left[c] > 0) mass += q[c];
    if (mass > 0) {
        double u = prng_unit(p) * mass;
        for (uint32_t c = 0; c < classes; c++) {
            if (left[c] == 0 || q[c] <= 0) continue;
            last = c;
            if (u < q[c]) return c;
            u -= q[c];
        }
        return last; /* rounding carried u past the end */
    }
    uint32_t draw = prng_below(p, left_total); /* the node's classes are used up: any row that is left */
    for (uint32_t c = 0;; c++) {
        if (draw < left[c]) return c;
        draw -= left[c];
    }
}

int split_by_dirichlet(const struct split_input *in, uint32_t *owner, struct err_text *why)
{
    uint32_t n = in->node_count, classes = in->classes;
    if ((uint64_t)n * classes > MIXTURE_CELL_MAX)
        return err_set(why, ERR_LIMIT,
                       "--split: dirichlet with %u nodes and %u classes is over the limit of %u "
                       "proportions",
                       n, classes, MIXTURE_CELL_MAX);
    double alpha = choice_number(in->choice, "alpha");
    struct class_rows rows;
    class_rows_init(&rows, in);
    struct prng p;
    prng_split(&p, in->seed, "split dirichlet", 0);
    double *q = mem_new((size_t)n * classes, sizeof *q);
    uint32_t *left = mem_new(classes, sizeof *left);
    for (uint32_t v = 0; v < n; v++) draw_mixture(&p, alpha, q + (size_t)v * classes, classes);
    for (uint32_t c = 0; c < classes; c++) left[c] = rows.start[c + 1] - rows.start[c];
    for (uint32_t i = 0; i < in->rows; i++) {
        uint32_t v = i % n;
        uint32_t c = draw_class(&p, q + (size_t)v * classes, left, in->rows - i, classes);
        owner[rows.row[rows.start[c + 1] - left[c]--]] = v;
    }
    free(left);
    free(q);
    class_rows_deinit(&rows);
    return 0;
}
