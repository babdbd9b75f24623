/* Modulation, and GEGLU before it, in one pass each way: nothing is kept between the two
   but what came in.

       geglu:    out = value · gate Φ(gate) · scale
       rescale:  out = states · scale

   Read once for every type of the rows; CELL is theirs, REAL that of the arithmetic. */

#ifndef MODULATE
#define MODULATE
typedef struct {
    const void *given; /* (batch, modules, channels, or twice: value, then gate) */
    const void *scale; /* (modules, channels) of REAL, or NULL */
    void *out;         /* (batch, modules, channels) */
    /* The way back only: */
    const void *d_out;
    void *d_given;
    void *d_scale; /* (modules, channels) of REAL, or NULL */
    int64_t batch, modules, channels, parts;
    int64_t exact; /* rescale: whether what comes in is of REAL */
} Modulate;
#endif

typedef CELL KIND(Cells) __attribute__((vector_size(sizeof(CELL) * LANES), may_alias));
typedef KIND(Cells) KIND(Loose) __attribute__((aligned(sizeof(CELL))));

INLINE V KIND(get)(const CELL *from, int64_t count) {
    KIND(Cells) cells = {0};
    if (count == LANES) cells = *(const KIND(Loose) *)from;
    else memcpy(&cells, from, (size_t)count * sizeof(CELL));
#if defined(HALF)
    return (V)(__builtin_convertvector(cells, I) << 16);
#else
    return cells;
#endif
}

INLINE void KIND(put)(CELL *to, V x, int64_t count) {
#if defined(HALF) /* to the nearest, ties to even */
    I bits = (I)x + 0x7fff + (((I)x >> 16) & 1);
    bits = (I)NAME(blend)(x == x, (V)bits, (V)((I){0} + 0x7fc00000));
    KIND(Cells) cells = __builtin_convertvector(bits >> 16, KIND(Cells));
#else
    KIND(Cells) cells = x;
#endif
    if (count == LANES) *(KIND(Loose) *)to = cells;
    else memcpy(to, &cells, (size_t)count * sizeof(CELL));
}

/* Φ is 0 below: with −∞ the product is 0, not NaN. */
INLINE V KIND(above)(V gate) { return NAME(larger)(NAME(all)(-13), gate); }

/* `count` channels from j on: where they are in a row, and in the scale of its module. */
typedef struct {
    int64_t row, own, count;
} KIND(Place);

INLINE V KIND(scale)(const Modulate *g, KIND(Place) at) {
    return NAME(some)((const REAL *)g->scale + at.own, at.count);
}

INLINE void KIND(add_to_scale)(const Modulate *g, KIND(Place) at, V slope) {
    REAL *to = (REAL *)g->d_scale + at.own;
    slope += NAME(some)(to, at.count);
    NAME(put_some)(to, slope, at.count);
}

INLINE void KIND(gated)(const Modulate *g, KIND(Place) at, int64_t j) {
    const CELL *value = (const CELL *)g->given + 2 * at.row - j;
    V gate = KIND(above)(KIND(get)(value + g->channels, at.count)), density;
    V out = KIND(get)(value, at.count) * (gate * NAME(normal)(gate, &density));
    if (g->scale) out *= KIND(scale)(g, at);
    KIND(put)((CELL *)g->out + at.row, out, at.count);
}

INLINE void KIND(gated_back)(const Modulate *g, KIND(Place) at, int64_t j) {
    const CELL *given = (const CELL *)g->given + 2 * at.row - j;
    CELL *d_given = (CELL *)g->d_given + 2 * at.row - j;
    V value = KIND(get)(given, at.count), density;
    V gate = KIND(above)(KIND(get)(given + g->channels, at.count));
    V below = NAME(normal)(gate, &density), bent = gate * below;
    V d = KIND(get)((const CELL *)g->d_out + at.row, at.count);
    if (g->d_scale) KIND(add_to_scale)(g, at, d * value * bent);
    if (g->scale) d *= KIND(scale)(g, at);
    KIND(put)(d_given, d * bent, at.count);
    KIND(put)(d_given + g->channels, d * value * (below + gate * density), at.count);
}

INLINE V KIND(states)(const Modulate *g, KIND(Place) at) {
    return g->exact ? NAME(some)((const REAL *)g->given + at.row, at.count)
                    : KIND(get)((const CELL *)g->given + at.row, at.count);
}

INLINE void KIND(rescaled)(const Modulate *g, KIND(Place) at, int64_t j) {
    (void)j;
    V out = KIND(states)(g, at) * KIND(scale)(g, at);
    KIND(put)((CELL *)g->out + at.row, out, at.count);
}

INLINE void KIND(rescaled_back)(const Modulate *g, KIND(Place) at, int64_t j) {
    (void)j;
    V d = KIND(get)((const CELL *)g->d_out + at.row, at.count);
    KIND(add_to_scale)(g, at, d * KIND(states)(g, at));
    d *= KIND(scale)(g, at);
    if (g->exact) NAME(put_some)((REAL *)g->d_given + at.row, d, at.count);
    else KIND(put)((CELL *)g->d_given + at.row, d, at.count);
}

/* Modules are divided among the parts, so that one alone adds to a module's slope. */
#define EACH(act)                                                                        \
    int64_t width = g->channels, rest = width % LANES;                                   \
    int64_t first = g->modules * part / g->parts;                                        \
    for (int64_t m = first; m < g->modules * (part + 1) / g->parts; m++)                 \
        for (int64_t b = 0; b < g->batch; b++) {                                         \
            int64_t row = (b * g->modules + m) * width, own = m * width, j = 0;          \
            for (; j < width - rest; j += LANES)                                         \
                act(g, (KIND(Place)){row + j, own + j, LANES}, j);                       \
            if (rest) act(g, (KIND(Place)){row + j, own + j, rest}, j);                  \
        }                                                                                \
    return 0;

EXPORT int KIND(geglu)(const Modulate *g, int64_t part) { EACH(KIND(gated)) }
EXPORT int KIND(geglu_back)(const Modulate *g, int64_t part) { EACH(KIND(gated_back)) }
EXPORT int KIND(rescale)(const Modulate *g, int64_t part) { EACH(KIND(rescaled)) }
EXPORT int KIND(rescale_back)(const Modulate *g, int64_t part) {
    EACH(KIND(rescaled_back))
}
#undef EACH
