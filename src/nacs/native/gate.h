/* What the way back of gated attention does between its products, in one pass.

       weights = exp(score / √width + mask − normaliser)
       slope   = (heard − along) · weights,     d_mask += Σ_heads slope

   in the place of the scores and of what is heard. */

#ifndef GATE
#define GATE
typedef struct {
    /* (samples, heads, rows, senders); no number lies between two senders. */
    View score, heard, mask, d_mask;
    View normaliser, along; /* (samples, heads, rows) */
    int64_t samples, heads, rows, senders, parts;
    double shrink;
} Gate;
#endif

/* A row of one head: `count` of its numbers from each of the four on, two of which do not
   change along it. A weight whose exponent is out of reach is 0. */
typedef struct {
    REAL *score, *heard, *mask, *d_mask;
    V normaliser, along, shrink;
} NAME(GateRow);

INLINE void NAME(gate_some)(const NAME(GateRow) *g, int64_t j, int64_t count) {
    V known = NAME(some)(g->mask + j, count) - g->normaliser;
    V x = NAME(some)(g->score + j, count) * g->shrink + known;
    V weight = NAME(blend)(x < (REAL)LOWEST, (V){0}, NAME(exp)(x));
    V slope = (NAME(some)(g->heard + j, count) - g->along) * weight;
    NAME(put_some)(g->score + j, weight, count);
    NAME(put_some)(g->heard + j, slope, count);
    NAME(put_some)(g->d_mask + j, NAME(some)(g->d_mask + j, count) + slope, count);
}

INLINE REAL *NAME(row)(View view, int64_t s, int64_t h, int64_t r) {
    return (REAL *)view.data + s * view.batch + h * view.head + r * view.row;
}

INLINE void NAME(gate_row)(const Gate *g, int64_t s, int64_t h, int64_t r) {
    int64_t j = 0, rest = g->senders % LANES;
    NAME(GateRow) row = {
        NAME(row)(g->score, s, h, r),
        NAME(row)(g->heard, s, h, r),
        NAME(row)(g->mask, s, h, r),
        NAME(row)(g->d_mask, s, h, r),
        NAME(all)(*NAME(row)(g->normaliser, s, h, r)),
        NAME(all)(*NAME(row)(g->along, s, h, r)),
        NAME(all)((REAL)g->shrink),
    };
    for (; j < g->senders - rest; j += LANES) NAME(gate_some)(&row, j, LANES);
    if (rest) NAME(gate_some)(&row, j, rest);
}

/* Rows are divided among the parts: all heads add to the mask of one. */
EXPORT int NAME(gate)(const Gate *g, int64_t part) {
    int64_t first = g->rows * part / g->parts, end = g->rows * (part + 1) / g->parts;
    for (int64_t s = 0; s < g->samples; s++)
        for (int64_t r = first; r < end; r++)
            for (int64_t h = 0; h < g->heads; h++) NAME(gate_row)(g, s, h, r);
    return 0;
}
