/* Random graphs: d-regular and Erdos-Renyi. Only whole numbers and comparisons decide, no library
 * logarithm: nodes on different machines must draw the same graph. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "algo/topology/make.h"
#include "base/check.h"
#include "base/limits.h"
#include "base/prng.h"

enum { DRAW_MAX = 1000 };

/* -- edge lists -------------------------------------------------------------------------------- */

void edges_add(struct edge_list *list, uint32_t a, uint32_t b)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity > 0 ? 2 * list->capacity : 64;
        list->pair = mem_resize(list->pair, list->capacity, sizeof *list->pair);
    }
    list->pair[list->count][0] = a;
    list->pair[list->count++][1] = b;
}

void edges_deinit(struct edge_list *list)
{
    free(list->pair);
    free(list->delay);
    memset(list, 0, sizeof *list);
}

static uint32_t part_of(uint32_t *up, uint32_t v)
{
    while (up[v] != v) v = up[v] = up[up[v]];
    return v;
}

bool edges_connect(const struct edge_list *list, uint32_t node_count)
{
    uint32_t *up = mem_new(node_count, sizeof *up);
    uint32_t parts = node_count;
    for (uint32_t v = 0; v < node_count; v++) up[v] = v;
    for (size_t i = 0; i < list->count; i++) {
        uint32_t a = part_of(up, list->pair[i][0]), b = part_of(up, list->pair[i][1]);
        if (a == b) continue;
        up[a] = b;
        parts--;
    }
    free(up);
    return parts <= 1;
}

/* -- a set of edges ---------------------------------------------------------------------------- */

/* Open addressing. A key is lower * 2^32 + higher + 1; removed keys stay as KEY_REMOVED so that probes
 * go on past them. */
struct edge_set {
    uint64_t *key;
    size_t mask;
};

#define KEY_REMOVED UINT64_MAX

static uint64_t edge_key(uint32_t a, uint32_t b)
{
    return (a < b ? (uint64_t)a << 32 | b : (uint64_t)b << 32 | a) + 1;
}

static size_t edge_slot(const struct edge_set *s, uint64_t key)
{
    size_t at = (size_t)((key * 0x9e3779b97f4a7c15u) >> 20) & s->mask;
    while (s->key[at] != 0 && s->key[at] != key) at = (at + 1) & s->mask;
    return at;
}

static bool set_has(const struct edge_set *s, uint32_t a, uint32_t b)
{
    return s->key[edge_slot(s, edge_key(a, b))] != 0;
}

static void set_add(struct edge_set *s, uint32_t a, uint32_t b)
{
    uint64_t key = edge_key(a, b);
    s->key[edge_slot(s, key)] = key;
}

static void set_remove(struct edge_set *s, uint32_t a, uint32_t b)
{
    s->key[edge_slot(s, edge_key(a, b))] = KEY_REMOVED;
}

static void set_init(struct edge_set *s, size_t edge_count)
{
    size_t size = 64;
    while (size < 4 * edge_count) size *= 2; /* removed keys are at most as many as edges repaired */
    s->key = mem_new_zero(size, sizeof *s->key);
    s->mask = size - 1;
}

/* -- regular ----------------------------------------------------------------------------------- */

/* Replaces the bad pair (a, b) - a loop or a double edge - and a random good edge (c, d) by (a, c) and
 * (b, d). Every degree stays. Returns false when no switch was found. */
static bool repair_pair(struct prng *p, uint32_t a, uint32_t b, struct edge_list *good, struct edge_set *set)
{
    for (uint32_t tries = 0; tries < 10000 && good->count > 0; tries++) {
        uint32_t pick = prng_below(p, (uint32_t)good->count);
        uint32_t turn = prng_below(p, 2);
        uint32_t c = good->pair[pick][turn], d = good->pair[pick][1 - turn];
        if (a == c || b == d || edge_key(a, c) == edge_key(b, d)) continue;
        if (set_has(set, a, c) || set_has(set, b, d)) continue;
        set_remove(set, c, d);
        set_add(set, a, c);
        set_add(set, b, d);
        good->pair[pick][0] = a;
        good->pair[pick][1] = c;
        edges_add(good, b, d);
        return true;
    }
    return false;
}

/* The pairing model: degree stubs a node, paired at random; bad pairs are repaired by switches. */
static bool pair_stubs(struct prng *p, uint32_t n, uint32_t degree, struct edge_list *good,
                       struct edge_set *set)
{
    uint32_t stub_count = n * degree;
    uint32_t *stub = mem_new(stub_count, sizeof *stub);
    for (uint32_t i = 0; i < stub_count; i++) stub[i] = i / degree;
    prng_shuffle(p, stub, stub_count);
    struct edge_list bad = {0};
    for (uint32_t i = 0; i < stub_count; i += 2) {
        uint32_t a = stub[i], b = stub[i + 1];
        if (a == b || set_has(set, a, b)) {
            edges_add(&bad, a, b);
            continue;
        }
        set_add(set, a, b);
        edges_add(good, a, b);
    }
    bool done = true;
    for (size_t i = 0; i < bad.count && done; i++)
        done = repair_pair(p, bad.pair[i][0], bad.pair[i][1], good, set);
    edges_deinit(&bad);
    free(stub);
    return done;
}

static void complement(uint32_t n, struct edge_list *edges, const struct edge_set *set)
{
    edges->count = 0;
    for (uint32_t a = 0; a < n; a++)
        for (uint32_t b = a + 1; b < n; b++)
            if (!set_has(set, a, b)) edges_add(edges, a, b);
}

/* Dense graphs are drawn as the complement of sparse ones, where repair has room to switch. */
static bool draw_regular(struct prng *p, uint32_t n, uint32_t degree, struct edge_list *out)
{
    bool dense = degree > (n - 1) / 2;
    uint32_t drawn = dense ? n - 1 - degree : degree;
    struct edge_set set;
    set_init(&set, (size_t)n * drawn / 2);
    out->count = 0;
    bool done = drawn == 0 || pair_stubs(p, n, drawn, out, &set);
    if (done && dense) complement(n, out, &set);
    free(set.key);
    return done && edges_connect(out, n);
}

/* A connected graph of degree 2 is a ring; the pairing model would hardly ever connect a large one. */
static void draw_ring(uint32_t n, uint64_t seed, struct edge_list *out)
{
    struct prng p;
    prng_split(&p, seed, "topology regular", 0);
    uint32_t *order = mem_new(n, sizeof *order);
    for (uint32_t v = 0; v < n; v++) order[v] = v;
    prng_shuffle(&p, order, n);
    for (uint32_t i = 0; i < n; i++) edges_add(out, order[i], order[(i + 1) % n]);
    free(order);
}

static int check_regular(uint32_t n, uint32_t degree, struct err_text *why)
{
    if (n < 2) return err_set(why, ERR_USAGE, "--topology regular: a lone node has no links; use ring");
    if (degree >= n)
        return err_set(why, ERR_USAGE, "--topology regular:d=%u: %u nodes have at most d=%u", degree, n,
                       n - 1);
    if (degree == 1 && n > 2)
        return err_set(why, ERR_USAGE, "--topology regular:d=1 cannot connect %u nodes; use d=%u", n,
                       n % 2 == 0 && n > 3 ? 3 : 2);
    if ((uint64_t)n * degree % 2 != 0)
        return err_set(
            why, ERR_USAGE,
            "--topology regular:d=%u: %u nodes times %u links is odd; use d=%u or an even number of nodes",
            degree, n, degree, degree + 1 < n ? degree + 1 : degree - 1);
    if ((uint64_t)n * degree / 2 > EDGE_COUNT_MAX)
        return err_set(why, ERR_USAGE, "--topology regular:d=%u: more than %u links; use d=%u or less",
                       degree, EDGE_COUNT_MAX, 2 * EDGE_COUNT_MAX / n / 2 * 2);
    return 0;
}

int edges_draw_regular(uint32_t node_count, uint32_t degree, uint64_t seed, struct edge_list *out,
                       struct err_text *why)
{
    int err = check_regular(node_count, degree, why);
    if (err != 0) return err;
    if (degree == 2) {
        draw_ring(node_count, seed, out);
        return 0;
    }
    for (uint32_t draw = 0; draw < DRAW_MAX; draw++) {
        struct prng p;
        prng_split(&p, seed, "topology regular", draw);
        if (draw_regular(&p, node_count, degree, out)) return 0;
    }
    return err_set(
        why, ERR_USAGE,
        "--topology regular:d=%u: no connected graph of %u nodes in %d draws; use another d or --seed",
        degree, node_count, DRAW_MAX);
}

/* -- Erdos-Renyi ------------------------------------------------------------------------------- */

/* 64 independent bits that are 1 with probability p53 / 2^53: lane by lane a random binary fraction is
 * compared with p from the first digit on; half the lanes still open are decided by each digit. */
static uint64_t bernoulli_word(struct prng *rng, uint64_t p53)
{
    uint64_t open = UINT64_MAX, ones = 0;
    if (p53 >> 53 != 0) return UINT64_MAX;
    for (int digit = 52; digit >= 0 && open != 0; digit--) {
        uint64_t drawn = prng_next(rng);
        if (p53 >> digit & 1) {
            ones |= open & ~drawn;
            open &= drawn;
        } else {
            open &= ~drawn;
        }
    }
    return ones; /* lanes equal in all digits are not below p */
}

/* Returns false when there are more edges than allowed. */
static bool draw_er(struct prng *rng, uint32_t n, uint64_t p53, struct edge_list *out)
{
    out->count = 0;
    for (uint32_t a = 0; a < n; a++)
        for (uint32_t low = a + 1; low < n; low += 64) {
            uint64_t word = bernoulli_word(rng, p53);
            if (n - low < 64) word &= (UINT64_C(1) << (n - low)) - 1;
            for (; word != 0; word &= word - 1) {
                if (out->count == EDGE_COUNT_MAX) return false;
                edges_add(out, a, low + (uint32_t)__builtin_ctzll(word));
            }
        }
    return true;
}

static int er_hopeless(uint32_t n, double p, struct err_text *why)
{
    return err_set(why, ERR_USAGE,
                   "--topology er:p=%g: no connected graph of %u nodes is to be expected; use p=%.3g or more "
                   "(ln n / n)",
                   p, n, ceil(1e5 * log(n) / n) / 1e5);
}

int edges_draw_er(uint32_t node_count, double p, uint64_t seed, struct edge_list *out, struct err_text *why)
{
    uint32_t n = node_count;
    if (p * n * (n - 1.0) / 2 > 1.1 * EDGE_COUNT_MAX)
        return err_set(why, ERR_USAGE,
                       "--topology er:p=%g: about %.0f links; at most %u, so use p=%.2g or less", p,
                       p * n * (n - 1.0) / 2, EDGE_COUNT_MAX, 1.9 * EDGE_COUNT_MAX / n / (n - 1.0));
    /* Isolated nodes are about Poisson with this mean, so a draw connects with probability about exp(-mean).
     * Eight is below one in DRAW_MAX: not worth an hour of draws. The comparison is far from any edge that
     * another machine's pow() could move: a borderline p fails or succeeds in the draws. */
    if (n > 64 && n * pow(1 - p, n - 1.0) > 8) return er_hopeless(n, p, why);
    for (uint32_t draw = 0; draw < DRAW_MAX; draw++) {
        struct prng rng;
        prng_split(&rng, seed, "topology er", draw);
        if (!draw_er(&rng, n, (uint64_t)(p * 0x1.0p53), out))
            return err_set(why, ERR_LIMIT, "--topology er:p=%g: more than %u links; use a smaller p", p,
                           EDGE_COUNT_MAX);
        if (edges_connect(out, n)) return 0;
    }
    return er_hopeless(n, p, why);
}
