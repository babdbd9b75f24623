/* Attention along the edges of a graph: a row hears the columns it is linked to.

   Edges are sorted by tile, then by row. A tile is as many columns as fit the second
   cache with their keys and values, side by side and padded to whole vectors. A row's
   edges of a tile are worked on at a time. The way back computes scores again, so that
   nothing is kept of an edge between the two but its row's normaliser. */

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
#endif

/* One (batch, head); tables have a row of `width` numbers a column of the tile. */
typedef struct {
    const Edges *e;
    int64_t part, width, base, columns, each; /* each tile's columns, and those of this */
    REAL *k, *v, *d_k, *d_v;
    REAL *q, *d_out, *heard;  /* of one row */
    REAL *share, *slope;      /* of a row's edges in this tile */
    REAL *top, *sum, *out;    /* of all rows */
} NAME(Graph);

/* One sum of every vector, in their order: LANES of them at a time. Neighbouring lanes
   are added, of two vectors into one, then lanes two apart, and so on. */
#if BYTES == 64
INLINE V NAME(halved)(V a, V b, const WHOLE *even) {
    I first = *(const I *)even, second = first + (WHOLE)even[LANES];
#if defined(DOUBLE)
    return (V)_mm512_permutex2var_pd((__m512d)a, (__m512i)first, (__m512d)b)
        + (V)_mm512_permutex2var_pd((__m512d)a, (__m512i)second, (__m512d)b);
#else
    return (V)_mm512_permutex2var_ps((__m512)a, (__m512i)first, (__m512)b)
        + (V)_mm512_permutex2var_ps((__m512)a, (__m512i)second, (__m512)b);
#endif
}

/* Lanes of (a, b) that are added to those `step` further on; then the step. */
#if defined(DOUBLE)
static const WHOLE NAME(order)[3][2 * LANES] __attribute__((aligned(64))) = {
    {0, 8, 2, 10, 4, 12, 6, 14, 1},
    {0, 1, 8, 9, 4, 5, 12, 13, 2},
    {0, 1, 2, 3, 8, 9, 10, 11, 4},
};
#else
static const WHOLE NAME(order)[4][2 * LANES] __attribute__((aligned(64))) = {
    {0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30, 1},
    {0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29, 2},
    {0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27, 4},
    {0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23, 8},
};
#endif

INLINE V NAME(totals)(V *x) {
#pragma GCC unroll 4
    for (int level = 0; level < (LANES == 16 ? 4 : 3); level++)
#pragma GCC unroll 8
        for (int n = 0; n < (LANES >> level) / 2; n++)
            x[n] = NAME(halved)(x[2 * n], x[2 * n + 1], NAME(order)[level]);
    return x[0];
}
#else
INLINE V NAME(totals)(V *x) {
    V sums;
    for (int64_t n = 0; n < LANES; n++) sums[n] = NAME(total)(x[n]);
    return sums;
}
#endif

/* found[n] = a . rows[columns[n] - base]; writes whole vectors. */
INLINE void NAME(edge_dots_sized)(
    const REAL *a, const REAL *rows, const int32_t *columns, int64_t base, int64_t edges,
    REAL *found, int64_t width
) {
    for (int64_t n = 0; n < edges; n += LANES) {
        V sums[LANES];
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) {
            const REAL *row = rows + (columns[least(n + i, edges - 1)] - base) * width;
            sums[i] = LOAD(a) * LOAD(row);
#pragma GCC unroll 4
            for (int64_t d = LANES; d < width; d += LANES)
                sums[i] += LOAD(a + d) * LOAD(row + d);
        }
        STORE(found + n, NAME(totals)(sums));
    }
}

/* to += sum of by[n] * rows[columns[n] - base]; returns the sum of by. */
INLINE REAL NAME(edge_mix_sized)(
    const REAL *by, const REAL *rows, const int32_t *columns, int64_t base, int64_t edges,
    REAL *to, int64_t width
) {
    V sums = (V){0};
    for (int64_t n = 0; n < edges; n += LANES) sums += LOAD(by + n);
    for (int64_t start = 0; start < width; start += 4 * LANES) {
        const int64_t vectors = least(4, (width - start) / LANES);
        V one[4], two[4]; /* two sums, or each addition waits for the last */
        for (int64_t d = 0; d < vectors; d++) one[d] = two[d] = (V){0};
        for (int64_t n = 0; n < edges; n += 2) { /* beyond the edges `by` is 0 */
            const REAL *first = rows + (columns[n] - base) * width + start;
            const REAL *second = rows + (columns[least(n + 1, edges - 1)] - base) * width + start;
            for (int64_t d = 0; d < vectors; d++) {
                one[d] += by[n] * LOAD(first + d * LANES);
                two[d] += by[n + 1] * LOAD(second + d * LANES);
            }
        }
        for (int64_t d = 0; d < vectors; d++) {
            REAL *own = to + start + d * LANES;
            STORE(own, LOAD(own) + one[d] + two[d]);
        }
    }
    return NAME(total)(sums);
}

/* rows[columns[n] - base] += by[n] * a */
INLINE void NAME(edge_scatter_sized)(
    const REAL *by, const REAL *a, const int32_t *columns, int64_t base, int64_t edges,
    REAL *rows, int64_t width
) {
    for (int64_t n = 0; n < edges; n++) {
        REAL *own = rows + (columns[n] - base) * width;
        for (int64_t d = 0; d < width; d += LANES)
            STORE(own + d, LOAD(own + d) + by[n] * LOAD(a + d));
    }
}

/* The usual widths are known to the compiler, each in a function of its own: in
   branches of one it would merge them again. */
#define ROWS const REAL *rows, const int32_t *columns, int64_t base, int64_t edges
#define GIVEN rows, columns, base, edges
#define ONE static __attribute__((noinline))
#define FOR_WIDTH(name, width) \
    ONE void NAME(edge_dots_##name)(const REAL *a, ROWS, REAL *to, int64_t any) { \
        (void)any, NAME(edge_dots_sized)(a, GIVEN, to, width); \
    } \
    ONE REAL NAME(edge_mix_##name)(const REAL *by, ROWS, REAL *to, int64_t any) { \
        return (void)any, NAME(edge_mix_sized)(by, GIVEN, to, width); \
    } \
    ONE void NAME(edge_scatter_##name)(const REAL *by, const REAL *a, ROWS, int64_t any) { \
        (void)any, NAME(edge_scatter_sized)(by, a, columns, base, edges, (REAL *)rows, width); \
    }
FOR_WIDTH(64, 64)
FOR_WIDTH(32, 32)
FOR_WIDTH(16, 16)
FOR_WIDTH(any, any)
#define SIZED(function, ...) \
    (g->width == 64 ? NAME(function##_64)(__VA_ARGS__, g->width) \
        : g->width == 32 ? NAME(function##_32)(__VA_ARGS__, g->width) \
        : g->width == 16 ? NAME(function##_16)(__VA_ARGS__, g->width) \
        : NAME(function##_any)(__VA_ARGS__, g->width))

static void NAME(edge_dots)(
    const NAME(Graph) *g, const REAL *a, const REAL *rows, const int32_t *columns,
    int64_t edges, REAL *to
) { SIZED(edge_dots, a, rows, columns, g->base, edges, to); }

static REAL NAME(edge_mix)(
    const NAME(Graph) *g, const REAL *by, const REAL *rows, const int32_t *columns,
    int64_t edges, REAL *to
) { return SIZED(edge_mix, by, rows, columns, g->base, edges, to); }

static void NAME(edge_scatter)(
    const NAME(Graph) *g, const REAL *by, const REAL *a, const int32_t *columns,
    int64_t edges, REAL *rows
) { SIZED(edge_scatter, by, a, rows, columns, g->base, edges); }
#undef SIZED
#undef FOR_WIDTH
#undef ONE
#undef GIVEN
#undef ROWS

static REAL *NAME(edge_row)(const NAME(Graph) *g, View view, int64_t row) {
    return (REAL *)rows_of(view, g->part, g->e->heads, sizeof(REAL)) + row * view.row;
}

/* Between rows of a tensor and rows that are padded. */
static void NAME(edge_in)(const NAME(Graph) *g, View view, int64_t row, int64_t rows, REAL *to) {
    for (int64_t r = 0; r < rows; r++)
        memcpy(to + r * g->width, NAME(edge_row)(g, view, row + r),
            g->e->width * sizeof(REAL));
}

static void NAME(edge_out)(const NAME(Graph) *g, const REAL *from, int64_t rows, View view, int64_t row) {
    for (int64_t r = 0; r < rows; r++)
        memcpy(NAME(edge_row)(g, view, row + r), from + r * g->width,
            g->e->width * sizeof(REAL));
}

static int NAME(edge_begin)(NAME(Graph) *g, const Edges *e, int64_t part, int back) {
    *g = (NAME(Graph)){.e = e, .part = part};
    g->width = (e->width + LANES - 1) / LANES * LANES;
    g->each = (e->count + e->tiles - 1) / e->tiles;
    int64_t longest = 0, table = g->each * g->width;
    for (int64_t r = 0; r < e->tiles * e->rows; r++)
        longest = most(longest, e->starts[r + 1] - e->starts[r]);
    longest = (longest + LANES - 1) / LANES * LANES;
    int64_t rows = (e->rows + LANES - 1) / LANES * LANES;
    int64_t size = (back ? 4 : 2) * table + 3 * g->width + 2 * longest + 2 * rows
        + e->rows * g->width;
    REAL *next = kept_room(size * sizeof(REAL));
    if (!next) return 1;
    g->k = next, next += table;
    g->v = next, next += table;
    if (back) g->d_k = next, next += table, g->d_v = next, next += table;
    g->q = next, next += g->width;
    g->d_out = next, next += g->width;
    g->heard = next, next += g->width;
    g->share = next, next += longest;
    g->slope = next, next += longest;
    g->top = next, next += rows;
    g->sum = next, next += rows;
    g->out = next;
    memset(g->q, 0, 3 * g->width * sizeof(REAL)); /* padding stays 0 */
    memset(g->top, 0, rows * sizeof(REAL));
    if (g->width > e->width) memset(g->k, 0, 2 * table * sizeof(REAL));
    return 0;
}

/* Turn to a tile. */
static void NAME(edge_turn)(NAME(Graph) *g, int64_t tile) {
    g->base = tile * g->each;
    g->columns = least(g->each, g->e->count - g->base);
    NAME(edge_in)(g, g->e->k, g->base, g->columns, g->k);
    NAME(edge_in)(g, g->e->v, g->base, g->columns, g->v);
}

/* Logits of a row's edges in the tile; returns how many. */
static int64_t NAME(edge_logits)(NAME(Graph) *g, int64_t tile, int64_t row) {
    const Edges *e = g->e;
    int64_t first = e->starts[tile * e->rows + row];
    int64_t edges = e->starts[tile * e->rows + row + 1] - first;
    if (!edges) return 0;
    NAME(edge_in)(g, e->q, row, 1, g->q);
    for (int64_t d = 0; d < g->width; d += LANES)
        STORE(g->q + d, LOAD(g->q + d) * (REAL)e->shrink);
    NAME(edge_dots)(g, g->q, g->k, e->columns + first, edges, g->share);
    if (e->bias) {
        const REAL *bias = (const REAL *)e->bias + g->part / e->heads * e->bias_batch;
        for (int64_t n = 0; n < edges; n++) g->share[n] += bias[first + n];
    }
    return edges;
}

/* share = e^(logit - top), 0 beyond the edges. */
static void NAME(edge_shares)(NAME(Graph) *g, int64_t edges, REAL top) {
    int64_t whole = (edges + LANES - 1) / LANES * LANES;
    for (int64_t n = edges; n < whole; n++) g->share[n] = -INFINITY;
    for (int64_t n = 0; n < edges; n += LANES) {
        V logit = LOAD(g->share + n), share = NAME(exp)(logit - top);
        STORE(g->share + n, NAME(blend)(logit == -INFINITY, NAME(all)(0), share));
    }
}

/* Sums and values of all rows; whether every sum is far from the ends of the numbers. */
static int NAME(edge_hear)(NAME(Graph) *g) {
    const Edges *e = g->e;
    int fine = 1;
    memset(g->sum, 0, e->rows * sizeof(REAL));
    memset(g->out, 0, e->rows * g->width * sizeof(REAL));
    for (int64_t tile = 0; tile < e->tiles; tile++) {
        NAME(edge_turn)(g, tile);
        for (int64_t row = 0; row < e->rows; row++) {
            int64_t edges = NAME(edge_logits)(g, tile, row);
            NAME(edge_shares)(g, edges, g->top[row]);
            g->sum[row] += NAME(edge_mix)(g, g->share, g->v,
                e->columns + e->starts[tile * e->rows + row], edges,
                g->out + row * g->width);
        }
    }
    for (int64_t r = 0; r < e->rows; r++)
        fine &= g->sum[r] > (REAL)1e-20 && g->sum[r] < (REAL)1e20;
    return fine;
}

/* The largest logit of every row. */
static void NAME(edge_tops)(NAME(Graph) *g) {
    const Edges *e = g->e;
    for (int64_t r = 0; r < e->rows; r++) g->top[r] = -INFINITY;
    for (int64_t tile = 0; tile < e->tiles; tile++) {
        NAME(edge_turn)(g, tile);
        for (int64_t row = 0; row < e->rows; row++) {
            int64_t edges = NAME(edge_logits)(g, tile, row);
            for (int64_t n = 0; n < edges; n++)
                if (!(g->share[n] <= g->top[row])) g->top[row] = g->share[n];
        }
    }
}

/* One (batch, head); 1 where there is no memory. */
EXPORT int NAME(edges)(const Edges *e, int64_t part) {
    NAME(Graph) g;
    if (NAME(edge_begin)(&g, e, part, 0)) return 1;
    if (!NAME(edge_hear)(&g)) { /* some logits are large: take the largest off */
        NAME(edge_tops)(&g);
        NAME(edge_hear)(&g);
    }
    REAL *normaliser = (REAL *)e->normaliser + part * e->rows;
    for (int64_t r = 0; r < e->rows; r++) {
        int silent = g.sum[r] == 0; /* nobody is heard: zeros */
        REAL by = silent ? 0 : 1 / g.sum[r], *out = g.out + r * g.width;
        for (int64_t d = 0; d < g.width; d += LANES) STORE(out + d, LOAD(out + d) * by);
        normaliser[r] = silent ? 0 : g.top[r] + (REAL)log(g.sum[r]);
    }
    NAME(edge_out)(&g, g.out, e->rows, e->out, 0);
    return 0;
}

/* The way back of one row's edges in the tile. */
static void NAME(edge_row_back)(NAME(Graph) *g, int64_t tile, int64_t row) {
    const Edges *e = g->e;
    int64_t first = e->starts[tile * e->rows + row];
    const int32_t *columns = e->columns + first;
    int64_t edges = NAME(edge_logits)(g, tile, row);
    if (!edges) return;
    NAME(edge_shares)(g, edges, ((REAL *)e->normaliser)[g->part * e->rows + row]);
    NAME(edge_in)(g, e->out, row, 1, g->heard);
    NAME(edge_in)(g, e->d_out, row, 1, g->d_out);
    REAL shared = NAME(dot)(g->heard, g->d_out, g->width);
    NAME(edge_dots)(g, g->d_out, g->v, columns, edges, g->slope);
    for (int64_t n = 0; n < edges; n += LANES)
        STORE(g->slope + n, LOAD(g->share + n) * (LOAD(g->slope + n) - shared));
    NAME(edge_scatter)(g, g->share, g->d_out, columns, edges, g->d_v);
    NAME(edge_scatter)(g, g->slope, g->q, columns, edges, g->d_k);
    NAME(edge_mix)(g, g->slope, g->k, columns, edges, g->out + row * g->width);
    if (e->d_bias)
        memcpy((REAL *)e->d_bias + g->part * e->starts[e->tiles * e->rows] + first,
            g->slope, edges * sizeof(REAL));
}

/* The way back of one (batch, head). */
EXPORT int NAME(edges_back)(const Edges *e, int64_t part) {
    NAME(Graph) g;
    if (NAME(edge_begin)(&g, e, part, 1)) return 1;
    memset(g.out, 0, e->rows * g.width * sizeof(REAL));
    for (int64_t tile = 0; tile < e->tiles; tile++) {
        NAME(edge_turn)(&g, tile);
        memset(g.d_k, 0, g.columns * g.width * sizeof(REAL));
        memset(g.d_v, 0, g.columns * g.width * sizeof(REAL));
        for (int64_t row = 0; row < e->rows; row++) NAME(edge_row_back)(&g, tile, row);
        NAME(edge_out)(&g, g.d_k, g.columns, e->d_k, g.base);
        NAME(edge_out)(&g, g.d_v, g.columns, e->d_v, g.base);
    }
    for (int64_t n = 0; n < e->rows * g.width; n += LANES)
        STORE(g.out + n, LOAD(g.out + n) * (REAL)e->shrink);
    NAME(edge_out)(&g, g.out, e->rows, e->d_q, 0);
    return 0;
}
