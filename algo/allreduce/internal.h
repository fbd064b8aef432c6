/* Shared by the files of the all-reduce only: its state, and what each file offers the others. */
#ifndef GADABOUT_ALGO_ALLREDUCE_INTERNAL_H
#define GADABOUT_ALGO_ALLREDUCE_INTERNAL_H

#include "algo/allreduce/allreduce.h"
#include "algo/bitmap.h"

enum { NO_MEMBER = -1 };

enum message {
    MSG_DATA,   /* number proposer round slice chunk phase size weight, packed floats */
    MSG_STATUS, /* number proposer round done.number done.proposer flags, bits: members, then links */
    MSG_STATE,  /* number proposer round done.number done.proposer, bits: contributions, vec */
    MSG_ASK,    /* number proposer: answer with STATUS */
};

enum { WAY_UP, WAY_DOWN }; /* phase of DATA: a partial sum towards the owner, the sum away from it */

enum {
    FLAG_BEGUN = 1,
    FLAG_OUTSIDE = 2, /* in no view at present: waits to be taken in */
    FLAG_FRESH = 4,   /* remembers nothing: started anew and has not been in a running view since */
    FLAG_NEW = 8,     /* said on taking up the view, not in answer to something */
    FLAG_READY = 16,  /* has not begun, but waits for others itself: it does not train */
    FLAG_ALL = 31,
};

enum phase {
    PHASE_RUN,  /* all members stand at the same history: rounds run */
    PHASE_SYNC, /* the view is new: waits for the STATUS of every member */
    PHASE_COPY, /* this node is behind: waits for STATE */
    PHASE_OUT,  /* left out, or fresh: waits for a view with this node in it */
};

/* What counts as the greater history: more rounds; the later view that the last of them ended in. */
struct history {
    uint64_t round; /* rounds over */
    struct view_id done;
};

/* A history cut short, for maps: enough to tell it from others of one round. */
struct history_mark {
    uint32_t round, number, proposer;
};

struct participant {
    rank_t rank;
    uint32_t group; /* of the paths */
    uint32_t home;  /* of the count of what crosses groups */
    bool up, ever_up;
    uint64_t boot;       /* of its last coming in this view; 0 = none */
    uint64_t changed_us; /* of up */
    bool lost;           /* its link went down since something in this view may have been on it */
    bool in_view;        /* the present view's */
    bool adjacent;       /* parent or child of ours in some slice */
    bool curious;        /* it asked while we had not begun */
    bool suspect;        /* was silent when asked; until it speaks */
    bool replaced;       /* another holds its place since this view may have things of the one before */
    bool synced;         /* its STATUS of this view is here */
    /* its last STATUS on this link */
    bool heard, has_us;
    uint8_t flags;
    uint64_t heard_us;
    struct view_id view;
    struct history history;
    uint8_t *links; /* (map_size) whom it is linked to */
    struct history_mark
        contribution; /* in our history: rounds over with its latest vector, and in which view */
};

struct slice {
    int32_t parent, child[2];  /* members, or NO_MEMBER; child[0] in the own group */
    size_t start, count;       /* floats */
    uint32_t chunks, began;    /* began: of those that start here */
    uint32_t up_next[2], sums; /* chunks here: partial sums of each child, sums */
    struct blob **wait;        /* (2 * window) partial sums that wait for those of the other child */
    double *wait_weight;       /* (2 * window) */
};

/* DATA for a round that does not run here yet. */
struct kept {
    struct blob *body;
    int32_t from;
    uint32_t slice, chunk;
    uint64_t round, size;
    double weight;
};

struct spent {
    struct spent *next;
    uint8_t bits[];
};

struct allreduce {
    struct allreduce_config config;
    struct participant *member; /* (member_count) of the configuration, ascending rank */
    uint32_t count, self;       /* self: own place among them */
    uint32_t map_size;          /* bytes of a map of ranks */
    bool grouped;
    uint64_t now_us;

    enum phase phase;
    struct view_id view;
    uint64_t adopted_us;  /* when it began */
    uint64_t number_max;  /* of any view heard of */
    uint32_t view_count;  /* members of the view */
    uint64_t entered_us;  /* of the phase */
    uint64_t keeper_us;   /* OUT: when last a view without us was known to go on */
    bool fresh, conflict; /* conflict: another view under our number */
    bool skipped;         /* the owner skipped rounds that members of the view may be at */
    uint64_t merge_us;    /* TIME_NEVER, or since when others could be taken in */
    uint64_t asked_us;    /* TIME_NEVER, or when all were asked */
    struct history history;

    const float *state, *x;
    size_t size;
    double weight;
    bool ready;           /* the owner waits for something else, see allreduce_set_ready */
    bool begun, running;  /* running: x is in the sums of this view */
    uint64_t progress_us; /* of the round begun */
    struct view_id *ran;  /* (ran_count) views that ran with the x of this round */
    size_t ran_count, ran_capacity;

    struct slice *slice; /* (view_count) */
    uint32_t chunk_size, window;
    uint64_t missing; /* sums of chunks */
    float *sum;       /* (size_max) */
    float *group_sum; /* (size_max) of the own group, for the slices that it gives on from here; NULL = not
                         kept */
    double group_weight;
    double sum_weight;
    uint32_t sum_contributors;
    bool contributed;
    struct blob *copy;
    struct kept *kept;
    size_t kept_count, kept_capacity;
    struct spent *spent; /* maps that actions of this step point into */
    enum allreduce_outcome outcome;
    struct allreduce_counts counts;
};

/* -- allreduce.c ------------------------------------------------------------------------------- */

enum { LIFE_BITS = 48 }; /* of view_id.proposer, below the rank */

static inline uint64_t life_token(uint64_t life)
{
    return (life ^ life >> LIFE_BITS) & ((UINT64_C(1) << LIFE_BITS) - 1);
}

/* Whether a peer may say so. */
static inline bool view_fits(const struct allreduce *a, struct view_id view)
{
    return number_fits(view.number, a->number_max) && view.proposer >> LIFE_BITS < a->config.node_count;
}

static inline bool history_fits(const struct allreduce *a, struct history h)
{
    return number_fits(h.round, a->history.round) && view_fits(a, h.done);
}

static inline int view_compare(struct view_id a, struct view_id b)
{
    if (a.number != b.number) return a.number < b.number ? -1 : 1;
    return a.proposer == b.proposer ? 0 : a.proposer < b.proposer ? -1 : 1;
}

static inline struct history_mark history_mark(struct history h)
{
    return (struct history_mark){(uint32_t)h.round, (uint32_t)h.done.number,
                                 (uint32_t)(h.done.proposer ^ h.done.proposer >> 32)};
}

static inline int history_compare(struct history a, struct history b)
{
    if (a.round != b.round) return a.round < b.round ? -1 : 1;
    return view_compare(a.done, b.done);
}

/* Whether the own group's sum of this slice is complete here and goes on to another group, or is the end. */
static inline bool slice_leaves_group(const struct allreduce *a, const struct slice *s)
{
    return s->parent == NO_MEMBER || a->member[s->parent].group != a->member[a->self].group;
}

static inline void crossing_count(struct allreduce *a, uint32_t to, size_t floats)
{
    if (a->member[to].home != a->member[a->self].home) a->counts.floats_sent_across += floats;
}

int32_t member_find(const struct allreduce *a, rank_t rank); /* NO_MEMBER when there is none */
uint8_t *spent_new(struct allreduce *a, size_t size);        /* zeroed, valid until the next step */
struct algo_msg *message_new(struct allreduce *a, uint32_t to, enum message kind,
                             struct algo_actions *acts); /* with number and proposer */

/* -- plan.c: trees ----------------------------------------------------------------------------- */

void plan_make(struct allreduce *a); /* for the members with in_view */
void plan_clear(struct allreduce *a);

/* -- run.c: one round in one view -------------------------------------------------------------- */

void run_try(struct allreduce *a, struct algo_actions *acts); /* starts when nothing is in the way */
void run_stop(struct allreduce *a);                           /* partial sums are void */
void kept_drop(struct allreduce *a, bool all);                /* or only what is of rounds over */
void round_cut(struct allreduce *a, size_t size); /* gives the slices their parts of `size` floats */
int on_data(struct allreduce *a, uint32_t from, const struct algo_msg *m, struct algo_actions *acts);

/* -- view.c: agreement ------------------------------------------------------------------------- */

void status_send(struct allreduce *a, uint32_t to, uint8_t flags, struct algo_actions *acts);
int on_status(struct allreduce *a, uint32_t from, const struct algo_msg *m, struct algo_actions *acts);
int on_state(struct allreduce *a, uint32_t from, const struct algo_msg *m);
int on_ask(struct allreduce *a, uint32_t from, const struct algo_msg *m, struct algo_actions *acts);
void sync_try(struct allreduce *a, struct algo_actions *acts);
void status_spread(struct allreduce *a, uint8_t flags, struct algo_actions *acts); /* to all linked */
void view_propose(struct allreduce *a, struct algo_actions *acts);

/* -- watch.c: when a new view is due ------------------------------------------------------------ */

/* Fills map with whom a view proposed now would hold; returns how many. */
uint32_t candidates(const struct allreduce *a, uint8_t *map);
bool is_keeper(const struct allreduce *a, const struct participant *p);
bool others_wait(const struct allreduce *a,
                 uint64_t since_us); /* somebody outside the view could be taken in */
void watch(struct allreduce *a, struct algo_actions *acts);
uint64_t watch_us(const struct allreduce *a);

#endif
