/* Attention along the edges of a graph: a row hears the columns it is linked to.

   Edges are sorted by tile, then by row. A tile is so few columns that their keys, or
   their values, stay in the first cache; it is larger where edges are few. A strip of
   rows goes through the tiles in turn, and for its edges in a tile there is one step
   after another, each a loop of its own:

       logits of edges = q . k + bias     reads the tile's keys
       shares = e^logits
       out += share * v                   reads the tile's values

   The way back computes shares again, so that nothing is kept of an edge between the two
   but its row's normaliser. */

#ifndef EDGES
#define EDGES
typedef struct {
    View q, k, v;           /* (batch, heads, rows or columns, width) */
    const int64_t *starts;  /* (tiles, rows) and one more: where their edges begin */
    const int32_t *columns; /* (edges): whom they come from */
    const void *bias;       /* (batch or 1, edges): added to the logits, or NULL */
    View out;
    void *normaliser;       /* (batch, heads, rows): log sum exp of the logits */
    /* The way back only: */
    View d_out, d_q, d_k, d_v;
    void *d_bias;           /* (batch, heads, edges), or NULL */
    int64_t heads, rows, count, width, tiles, bias_batch;
    double shrink;          /* 1 / sqrt(width) */
} Edges;

#define STRIP 256 /* rows: what is kept of them fits the second cache */
#define FOUR 4    /* edges whose dots are added up at a time */
/* Vectors of a row that are summed at a time, and edges that are summed apart: eight
   sums, or each addition waits for the last. */
#define SPAN (BYTES == 64 ? 4 : 8)
#define TURNS (8 / SPAN)
#endif

/* One (batch, head); rows of all tables are padded to whole vectors. */
typedef struct {
    const Edges *e;
    int64_t part, width;
    int64_t row, rows;          /* the strip: its first row, and how many */
    int64_t first, edges;       /* the strip's in the tile */
    const int64_t *starts;      /* of the strip's rows, and one more */
    const int32_t *from;        /* of these edges */
    REAL *k, *v, *d_k, *d_v;    /* of all columns */
    REAL *q, *out, *d_out;      /* of the strip's rows; `out` is d_q on the way back */
    REAL *top, *sum;
    REAL *share, *slope;        /* of the strip's edges in the tile */
} NAME(Graph);

/* The sums of four vectors, side by side. */
INLINE void NAME(totals)(const V *x, REAL *to) {
#if BYTES == 64 && defined(DOUBLE)
#define FOLDED(n) _mm256_add_pd( \
    _mm512_castpd512_pd256((__m512d)x[n]), _mm512_extractf64x4_pd((__m512d)x[n], 1))
#elif BYTES == 64
#define FOLDED(n) _mm256_add_ps( \
    _mm512_castps512_ps256((__m512)x[n]), _mm512_extractf32x8_ps((__m512)x[n], 1))
#elif BYTES == 32 && defined(DOUBLE)
#define FOLDED(n) (__m256d)x[n]
#elif BYTES == 32
#define FOLDED(n) (__m256)x[n]
#endif
#if BYTES < 32
    for (int i = 0; i < FOUR; i++) to[i] = NAME(total)(x[i]);
#elif defined(DOUBLE)
    __m256d a = _mm256_hadd_pd(FOLDED(0), FOLDED(1)), b = _mm256_hadd_pd(FOLDED(2), FOLDED(3));
    __m256d low = _mm256_permute2f128_pd(a, b, 0x20), high = _mm256_permute2f128_pd(a, b, 0x31);
    _mm256_storeu_pd(to, _mm256_add_pd(low, high));
#else
    __m256 a = _mm256_hadd_ps(FOLDED(0), FOLDED(1)), b = _mm256_hadd_ps(FOLDED(2), FOLDED(3));
    __m256 both = _mm256_hadd_ps(a, b);
    _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps(both, 1)));
#endif
#undef FOLDED
}

/* For the edges n of the strip's row r in the tile. */
#define EDGES_OF(g, r, n) \
    for (int64_t n = (g)->starts[r] - (g)->first, end_ = (g)->starts[(r) + 1] - (g)->first; \
         n < end_; n++)

/* found[n] = a[row of n] . b[from[n]]; writes up to three numbers more. */
INLINE void NAME(edge_dots_sized)(
    const NAME(Graph) *g, const REAL *a, const REAL *b, REAL *found, int64_t width
) {
    for (int64_t r = 0; r < g->rows; r++) {
        const int64_t end = g->starts[r + 1] - g->first;
        const REAL *x = a + r * width;
        for (int64_t n = g->starts[r] - g->first; n < end; n += FOUR) {
            const REAL *y[FOUR];
            V sums[FOUR];
#pragma GCC unroll 4
            for (int i = 0; i < FOUR; i++) {
                y[i] = b + g->from[least(n + i, end - 1)] * width;
                sums[i] = LOAD(x) * LOAD(y[i]);
            }
#pragma GCC unroll 8
            for (int64_t d = LANES; d < width; d += LANES)
#pragma GCC unroll 4
                for (int i = 0; i < FOUR; i++) sums[i] += LOAD(x + d) * LOAD(y[i] + d);
            NAME(totals)(sums, found + n);
        }
    }
}

/* out[row of n] += by[n] * b[from[n]], and sum[row of n] += by[n], of which the way back
   has no use. */
INLINE void NAME(edge_mix_sized)(
    const NAME(Graph) *g, const REAL *by, const REAL *b, REAL *out, int64_t width
) {
    for (int64_t r = 0; r < g->rows; r++) {
        const int64_t first = g->starts[r] - g->first, end = g->starts[r + 1] - g->first;
        if (first == end) continue;
#pragma GCC unroll 2
        for (int64_t start = 0; start < width; start += SPAN * LANES) {
            const int64_t vectors = least(SPAN, (width - start) / LANES);
            REAL *to = out + r * width + start;
            V all[TURNS][SPAN], sum = (V){0};
            for (int64_t d = 0; d < vectors; d++) {
                all[0][d] = LOAD(to + d * LANES);
                for (int t = 1; t < TURNS; t++) all[t][d] = (V){0};
            }
            int64_t n = first;
            for (; n + TURNS <= end; n += TURNS)
#pragma GCC unroll 2
                for (int t = 0; t < TURNS; t++) {
                    const REAL *y = b + g->from[n + t] * width + start;
                    V share = NAME(all)(by[n + t]);
                    sum += share;
#pragma GCC unroll 8
                    for (int64_t d = 0; d < vectors; d++) all[t][d] += share * LOAD(y + d * LANES);
                }
            for (; TURNS > 1 && n < end; n++) {
                const REAL *y = b + g->from[n] * width + start;
                sum += by[n];
                for (int64_t d = 0; d < vectors; d++) all[0][d] += by[n] * LOAD(y + d * LANES);
            }
            if (!start) g->sum[r] += sum[0];
            for (int64_t d = 0; d < vectors; d++) {
                for (int t = 1; t < TURNS; t++) all[0][d] += all[t][d];
                STORE(to + d * LANES, all[0][d]);
            }
        }
    }
}

/* b[from[n]] += by[n] * a[row of n] */
INLINE void NAME(edge_scatter_sized)(
    const NAME(Graph) *g, const REAL *by, const REAL *a, REAL *b, int64_t width
) {
    for (int64_t r = 0; r < g->rows; r++) {
        const REAL *x = a + r * width;
        EDGES_OF(g, r, n) {
            REAL *own = b + g->from[n] * width;
#pragma GCC unroll 8
            for (int64_t d = 0; d < width; d += LANES)
                STORE(own + d, LOAD(own + d) + by[n] * LOAD(x + d));
        }
    }
}

/* The usual widths are known to the compiler, each in a function of its own: in
   branches of one it would merge them again. */
#define ROWS const NAME(Graph) *g, const REAL *a, const REAL *b, REAL *c
#define OF_WIDTH(name, suffix, width) \
    static __attribute__((noinline)) void NAME(name##suffix)(ROWS) { \
        NAME(name##_sized)(g, a, b, c, width); \
    }
#define FOR_WIDTH(name) \
    OF_WIDTH(name, _64, 64) \
    OF_WIDTH(name, _32, 32) \
    OF_WIDTH(name, _16, 16) \
    OF_WIDTH(name, _any, g->width) \
    static void NAME(name)(ROWS) { \
        (g->width == 64 ? NAME(name##_64) : g->width == 32 ? NAME(name##_32) \
            : g->width == 16 ? NAME(name##_16) : NAME(name##_any))(g, a, b, c); \
    }
FOR_WIDTH(edge_dots)
FOR_WIDTH(edge_mix)
FOR_WIDTH(edge_scatter)
#undef FOR_WIDTH
#undef OF_WIDTH
#undef ROWS

static REAL *NAME(edge_row)(const NAME(Graph) *g, View view, int64_t row) {
    return (REAL *)rows_of(view, g->part, g->e->heads, sizeof(REAL)) + row * view.row;
}

/* Rows of a tensor, times a number, into rows that are padded with zeros. */
static void NAME(edge_in)(
    const NAME(Graph) *g, View view, int64_t row, int64_t rows, REAL by, REAL *to
) {
    const REAL *from = NAME(edge_row)(g, view, row);
    const int64_t more = g->e->width % LANES, whole = g->e->width - more;
    for (int64_t r = 0; r < rows; r++, from += view.row, to += g->width) {
        for (int64_t d = 0; d < whole; d += LANES) STORE(to + d, by * LOAD_ANY(from + d));
        if (more) STORE(to + whole, by * NAME(some)(from + whole, more));
    }
}

/* Padded rows, times a number, into rows of a tensor. */
static void NAME(edge_out)(
    const NAME(Graph) *g, const REAL *from, REAL by, int64_t rows, View view, int64_t row
) {
    REAL *to = NAME(edge_row)(g, view, row);
    const int64_t more = g->e->width % LANES, whole = g->e->width - more;
    for (int64_t r = 0; r < rows; r++, from += g->width, to += view.row) {
        for (int64_t d = 0; d < whole; d += LANES) STORE_ANY(to + d, by * LOAD(from + d));
        if (more) NAME(put_some)(to + whole, by * LOAD(from + whole), more);
    }
}

/* Turn to the edges of the strip in a tile; how many there are. */
static int64_t NAME(edge_turn)(NAME(Graph) *g, int64_t tile) {
    g->starts = g->e->starts + tile * g->e->rows + g->row;
    g->first = g->starts[0];
    g->from = g->e->columns + g->first;
    return g->edges = g->starts[g->rows] - g->first;
}

/* Turn to the next rows; the number of them. */
static int64_t NAME(edge_strip)(NAME(Graph) *g) {
    g->row += g->rows;
    return g->rows = least(STRIP, g->e->rows - g->row);
}

static int NAME(edge_begin)(NAME(Graph) *g, const Edges *e, int64_t part, int back) {
    *g = (NAME(Graph)){.e = e, .part = part};
    g->width = (e->width + LANES - 1) / LANES * LANES;
    int64_t most_edges = 0;
    while (NAME(edge_strip)(g))
        for (int64_t tile = 0; tile < e->tiles; tile++)
            most_edges = most(most_edges, NAME(edge_turn)(g, tile));
    g->row = 0;
    most_edges = (most_edges + FOUR + LANES - 1) / LANES * LANES;
    int64_t columns = e->count * g->width, rows = STRIP * g->width;
    int64_t numbers = (back ? 4 : 2) * columns + 3 * rows + 2 * STRIP + 2 * most_edges;
    REAL *next = kept_room(numbers * sizeof(REAL));
    if (!next) return 1;
    g->k = next, next += columns;
    g->v = next, next += columns;
    if (back) {
        memset(next, 0, 2 * columns * sizeof(REAL));
        g->d_k = next, next += columns;
        g->d_v = next, next += columns;
    }
    g->q = next, next += rows;
    g->out = next, next += rows;
    g->d_out = next, next += rows;
    g->top = next, next += STRIP;
    g->sum = next, next += STRIP;
    g->share = next, next += most_edges;
    g->slope = next;
    NAME(edge_in)(g, e->k, 0, e->count, 1, g->k);
    NAME(edge_in)(g, e->v, 0, e->count, 1, g->v);
    return 0;
}

/* share = the logit of every edge. */
static void NAME(edge_logits)(NAME(Graph) *g) {
    NAME(edge_dots)(g, g->q, g->k, g->share);
    if (!g->e->bias) return;
    const REAL *bias = (const REAL *)g->e->bias + g->part / g->e->heads * g->e->bias_batch;
    for (int64_t n = 0; n < g->edges; n += LANES) {
        V more = NAME(some)(bias + g->first + n, least(LANES, g->edges - n));
        STORE(g->share + n, LOAD(g->share + n) + more);
    }
}

/* share = e^(logit - top), or e^logit if every top is 0 and not given. */
static void NAME(edge_shares)(NAME(Graph) *g, const REAL *top) {
    for (int64_t r = 0; top && r < g->rows; r++)
        EDGES_OF(g, r, n)
            if (g->share[n] != -INFINITY) g->share[n] -= top[r];
    for (int64_t n = 0; n < g->edges; n += LANES) {
        V logit = LOAD(g->share + n);
        STORE(g->share + n, NAME(blend)(logit == -INFINITY, NAME(all)(0), NAME(exp)(logit)));
    }
}

/* What the strip's rows hear, less their tops; whether every row that hears anybody has a
   sum far from the ends of the numbers. */
static int NAME(edge_hear)(NAME(Graph) *g, const REAL *top) {
    char heard[STRIP] = {0};
    int fine = 1;
    memset(g->sum, 0, STRIP * sizeof(REAL));
    memset(g->out, 0, g->rows * g->width * sizeof(REAL));
    for (int64_t tile = 0; tile < g->e->tiles; tile++) {
        if (!NAME(edge_turn)(g, tile)) continue;
        NAME(edge_logits)(g);
        NAME(edge_shares)(g, top);
        NAME(edge_mix)(g, g->share, g->v, g->out);
        for (int64_t r = 0; r < g->rows; r++) heard[r] |= g->starts[r] < g->starts[r + 1];
    }
    for (int64_t r = 0; r < g->rows; r++)
        fine &= !heard[r] || (g->sum[r] > (REAL)1e-20 && g->sum[r] < (REAL)1e20);
    return fine;
}

/* The largest logit of every row of the strip. */
static void NAME(edge_tops)(NAME(Graph) *g) {
    for (int64_t r = 0; r < STRIP; r++) g->top[r] = -INFINITY;
    for (int64_t tile = 0; tile < g->e->tiles; tile++) {
        if (!NAME(edge_turn)(g, tile)) continue;
        NAME(edge_logits)(g);
        for (int64_t r = 0; r < g->rows; r++)
            EDGES_OF(g, r, n)
                if (!(g->share[n] <= g->top[r])) g->top[r] = g->share[n];
    }
}

/* One (batch, head); 1 where there is no memory. */
EXPORT int NAME(edges)(const Edges *e, int64_t part) {
    NAME(Graph) g;
    if (NAME(edge_begin)(&g, e, part, 0)) return 1;
    while (NAME(edge_strip)(&g)) {
        NAME(edge_in)(&g, e->q, g.row, g.rows, (REAL)e->shrink, g.q);
        memset(g.top, 0, STRIP * sizeof(REAL));
        if (!NAME(edge_hear)(&g, NULL)) { /* some logits are large: take the largest off */
            NAME(edge_tops)(&g);
            NAME(edge_hear)(&g, g.top);
        }
        REAL *normaliser = (REAL *)e->normaliser + part * e->rows + g.row;
        for (int64_t r = 0; r < g.rows; r += LANES) { /* nobody is heard: zeros */
            V sum = LOAD(g.sum + r), zero = NAME(all)(0);
            V size = NAME(blend)(sum == 0, zero, LOAD(g.top + r) + NAME(log)(sum));
            STORE(g.sum + r, NAME(blend)(sum == 0, zero, 1 / sum));
            NAME(put_some)(normaliser + r, size, least(LANES, g.rows - r));
        }
        for (int64_t r = 0; r < g.rows; r++)
            NAME(edge_out)(&g, g.out + r * g.width, g.sum[r], 1, e->out, g.row + r);
    }
    return 0;
}

/* The way back of one (batch, head). */
EXPORT int NAME(edges_back)(const Edges *e, int64_t part) {
    NAME(Graph) g;
    if (NAME(edge_begin)(&g, e, part, 1)) return 1;
    while (NAME(edge_strip)(&g)) {
        REAL shared[STRIP];
        NAME(edge_in)(&g, e->q, g.row, g.rows, (REAL)e->shrink, g.q);
        NAME(edge_in)(&g, e->out, g.row, g.rows, 1, g.out);
        NAME(edge_in)(&g, e->d_out, g.row, g.rows, 1, g.d_out);
        for (int64_t r = 0; r < g.rows; r++)
            shared[r] = NAME(dot)(g.out + r * g.width, g.d_out + r * g.width, g.width);
        memset(g.out, 0, g.rows * g.width * sizeof(REAL));
        for (int64_t tile = 0; tile < e->tiles; tile++) {
            if (!NAME(edge_turn)(&g, tile)) continue;
            NAME(edge_logits)(&g);
            NAME(edge_shares)(&g, (REAL *)e->normaliser + part * e->rows + g.row);
            NAME(edge_dots)(&g, g.d_out, g.v, g.slope);
            for (int64_t r = 0; r < g.rows; r++)
                EDGES_OF(&g, r, n) g.slope[n] = g.share[n] * (g.slope[n] - shared[r]);
            NAME(edge_scatter)(&g, g.share, g.d_out, g.d_v);
            NAME(edge_scatter)(&g, g.slope, g.q, g.d_k);
            NAME(edge_mix)(&g, g.slope, g.k, g.out);
            if (e->d_bias)
                memcpy((REAL *)e->d_bias + part * e->starts[e->tiles * e->rows] + g.first,
                    g.slope, g.edges * sizeof(REAL));
        }
        NAME(edge_out)(&g, g.out, (REAL)e->shrink, g.rows, e->d_q, g.row);
    }
    NAME(edge_out)(&g, g.d_k, 1, e->count, e->d_k, 0);
    NAME(edge_out)(&g, g.d_v, 1, e->count, e->d_v, 0);
    return 0;
}
#undef EDGES_OF
