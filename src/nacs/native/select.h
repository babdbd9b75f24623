/* The best keys of every query by q . k, without an array of all scores.

   A tile is as many queries as a vector has lanes. Its scores of a stretch of keys stay
   in the cache; keys are dealt to groups, and the K-th largest of the groups' maxima is
   a bound that at least K keys reach. What reaches it is a candidate, about K + 3 of a
   stretch, and a heap keeps the best K of those. */

#define STRETCH 512 /* keys at a time */
#define BLOCK 8     /* keys whose scores are in registers at a time */

#ifndef SELECT
#define SELECT
typedef struct {
    View queries, keys;
    const uint8_t *keep;  /* (batch, keys), 0 where a key is padding; NULL for none */
    int64_t *chosen;      /* (batch, heads, queries, pairs) */
    uint8_t *alive;       /* of the same shape; 0 where a position only fills up */
    int64_t heads, count, asked, width, pairs;
    int64_t causal, window, first; /* query i stands at key first + i */
} Select;
#endif

typedef struct {
    REAL *values;
    int32_t *places;
} NAME(Heap);

/* The smallest of `size` values on top. */
INLINE void NAME(sink)(NAME(Heap) heap, int64_t at, int64_t size) {
    REAL value = heap.values[at];
    int32_t place = heap.places[at];
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= size) break;
        if (child + 1 < size && heap.values[child + 1] < heap.values[child]) child++;
        if (heap.values[child] >= value) break;
        heap.values[at] = heap.values[child];
        heap.places[at] = heap.places[child];
        at = child;
    }
    heap.values[at] = value;
    heap.places[at] = place;
}

/* Put the best `pairs` of `size` in front, the least of them first. */
static void NAME(best)(NAME(Heap) heap, int64_t size, int64_t pairs) {
    for (int64_t n = pairs / 2 - 1; n >= 0; n--) NAME(sink)(heap, n, pairs);
    for (int64_t n = pairs; n < size; n++) {
        if (!(heap.values[n] > heap.values[0])) continue;
        heap.values[0] = heap.values[n];
        heap.places[0] = heap.places[n];
        NAME(sink)(heap, 0, pairs);
    }
}

/* Kept keys in blocks of BLOCK, each transposed, with their positions. */
static int64_t NAME(pack_keys)(
    const Select *s, int64_t part, REAL *packed, WHOLE *places
) {
    const REAL *keys = rows_of(s->keys, part, s->heads, sizeof(REAL));
    const uint8_t *keep = s->keep ? s->keep + part / s->heads * s->count : NULL;
    int64_t kept = 0, width = s->width;
    for (int64_t n = 0; n < s->count; n++) {
        if (keep && !keep[n]) continue;
        REAL *to = packed + kept / BLOCK * BLOCK * width + kept % BLOCK;
        for (int64_t d = 0; d < width; d++) to[d * BLOCK] = keys[n * s->keys.row + d];
        places[kept++] = (WHOLE)n;
    }
    int64_t blocks = (kept + BLOCK - 1) / BLOCK;
    for (int64_t n = kept; n < blocks * BLOCK; n++) {
        REAL *to = packed + n / BLOCK * BLOCK * width + n % BLOCK;
        for (int64_t d = 0; d < width; d++) to[d * BLOCK] = 0;
        places[n] = INT32_MAX; /* behind every query */
    }
    return blocks;
}

/* Scores of a tile and a block of keys; -inf where a key is out of sight. */
INLINE void NAME(score)(
    const V *asked, const REAL *keys, const WHOLE *places, int64_t width, const I *sight,
    V *scores
) {
    V sum[BLOCK];
    for (int u = 0; u < BLOCK; u++) sum[u] = (V){0};
    for (int64_t d = 0; d < width; d++) {
        V q = asked[d];
        for (int u = 0; u < BLOCK; u++) sum[u] += q * keys[d * BLOCK + u];
    }
    for (int u = 0; u < BLOCK; u++) {
        if (sight) {
            I seen = (sight[0] <= places[u]) & (sight[1] >= places[u]);
            sum[u] = NAME(blend)(seen, sum[u], NAME(all)(-INFINITY));
        }
        scores[u] = sum[u];
    }
}

/* The `pairs`-th largest in every lane. */
static V NAME(bound)(const V *found, int64_t count, int64_t pairs, V *sorted) {
    for (int64_t n = 0; n < pairs; n++) sorted[n] = NAME(all)(-INFINITY);
    for (int64_t n = 0; n < count; n++) {
        V value = found[n];
        for (int64_t p = 0; p < pairs; p++) {
            V up = NAME(larger)(value, sorted[p]);
            value = NAME(smaller)(value, sorted[p]);
            sorted[p] = up;
        }
    }
    return sorted[pairs - 1];
}

/* Room of one tile: scores and group maxima of a stretch, a heap of every lane. */
typedef struct {
    V *scores, *maxima, *sorted;
    NAME(Heap) heaps[LANES];
    int64_t sizes[LANES];
    int64_t groups;
} NAME(Tile);

/* Candidates among the keys of one stretch. */
static void NAME(collect)(NAME(Tile) *t, V bound, const WHOLE *places, int64_t keys) {
    for (int64_t n = 0; n < keys; n += 4) {
        uint64_t bits = 0;
        for (int u = 0; u < 4; u++)
            bits |= (uint64_t)NAME(not_less)(t->scores[n + u], bound) << (16 * u);
        for (; bits; bits &= bits - 1) {
            int at = __builtin_ctzll(bits), lane = at & 15;
            int64_t key = n + (at >> 4);
            REAL value = t->scores[key][lane];
            t->heaps[lane].values[t->sizes[lane]] = value == value ? value : INFINITY;
            t->heaps[lane].places[t->sizes[lane]++] = (int32_t)places[key];
        }
    }
}

static void NAME(tile)(
    const Select *s, NAME(Tile) *t, const V *asked, const REAL *keys,
    const WHOLE *places, int64_t blocks, const I *sight
) {
    int64_t lowest = sight[0][0], highest = sight[1][LANES - 1];
    int64_t from = 0, wide = t->groups / BLOCK;
    V bar = NAME(all)(-INFINITY);
    for (int64_t l = 0; l < LANES; l++) t->sizes[l] = 0;
    while (from < blocks && places[from * BLOCK + BLOCK - 1] < lowest) from++;
    while (from < blocks && places[from * BLOCK] <= highest) {
        for (int64_t g = 0; g < t->groups; g++) t->maxima[g] = NAME(all)(-INFINITY);
        int64_t start = from, end = least(blocks, from + STRETCH / BLOCK);
        for (; from < end && places[from * BLOCK] <= highest; from++) {
            const WHOLE *here = places + from * BLOCK;
            V *scores = t->scores + (from - start) * BLOCK;
            V *maxima = t->maxima + (from - start) % wide * BLOCK;
            int whole = here[0] >= sight[0][LANES - 1] && here[BLOCK - 1] <= sight[1][0];
            const REAL *block = keys + from * BLOCK * s->width;
            if (whole) NAME(score)(asked, block, here, s->width, NULL, scores);
            else NAME(score)(asked, block, here, s->width, sight, scores);
            for (int u = 0; u < BLOCK; u++)
                maxima[u] = NAME(larger)(scores[u], maxima[u]);
        }
        /* -inf is no candidate: a key with that score is as good as out of sight. */
        V low = NAME(larger)(NAME(all)(-LARGEST), bar);
        V bound = NAME(bound)(t->maxima, t->groups, s->pairs, t->sorted);
        bound = NAME(larger)(bound, low);
        NAME(collect)(t, bound, places + start * BLOCK, (from - start) * BLOCK);
        for (int64_t l = 0; l < LANES; l++) {
            if (t->sizes[l] < s->pairs) continue;
            NAME(best)(t->heaps[l], t->sizes[l], s->pairs);
            t->sizes[l] = s->pairs;
            bar[l] = t->heaps[l].values[0];
        }
    }
}

static void NAME(tell)(
    const Select *s, const NAME(Tile) *t, int64_t part, int64_t row, int64_t rows
) {
    for (int64_t l = 0; l < rows; l++) {
        int64_t to = (part * s->asked + row + l) * s->pairs, live = t->sizes[l];
        for (int64_t p = 0; p < s->pairs; p++) {
            s->chosen[to + p] = p < live ? t->heaps[l].places[p] : 0;
            s->alive[to + p] = p < live;
        }
    }
}

/* All queries of one (batch, head). Returns 0, or 1 where memory is out. */
EXPORT int64_t NAME(select)(const Select *s, int64_t part) {
    int64_t blocks = s->count / BLOCK + 1, most_found = STRETCH + s->pairs;
    NAME(Tile) t;
    t.groups = (2 * s->pairs + BLOCK - 1) / BLOCK * BLOCK;
    size_t vectors = STRETCH + t.groups + s->pairs + s->width;
    REAL *packed = room(blocks * BLOCK * s->width * sizeof(REAL));
    WHOLE *places = room(blocks * BLOCK * sizeof(WHOLE));
    V *all = room(vectors * sizeof(V));
    REAL *values = room(LANES * most_found * sizeof(REAL));
    int32_t *found = room(LANES * most_found * sizeof(int32_t));
    int failed = !packed || !places || !all || !values || !found;
    if (!failed) {
        blocks = NAME(pack_keys)(s, part, packed, places);
        t.scores = all;
        t.maxima = all + STRETCH;
        t.sorted = t.maxima + t.groups;
        V *asked = t.sorted + s->pairs;
        for (int64_t l = 0; l < LANES; l++)
            t.heaps[l] =
                (NAME(Heap)){values + l * most_found, found + l * most_found};
        const REAL *queries = rows_of(s->queries, part, s->heads, sizeof(REAL));
        for (int64_t row = 0; row < s->asked; row += LANES) {
            I sight[2];
            for (int64_t l = 0; l < LANES; l++) {
                int64_t query = least(row + l, s->asked - 1), at = s->first + query;
                sight[0][l] = s->window ? (WHOLE)most(0, at - s->window + 1) : 0;
                sight[1][l] = s->causal ? (WHOLE)at : INT32_MAX - 1;
                for (int64_t d = 0; d < s->width; d++)
                    asked[d][l] = queries[query * s->queries.row + d];
            }
            NAME(tile)(s, &t, asked, packed, places, blocks, sight);
            NAME(tell)(s, &t, part, row, least(LANES, s->asked - row));
        }
    }
    free(packed), free(places), free(all), free(values), free(found);
    return failed;
}
