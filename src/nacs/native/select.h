/* The best keys of every query by q . k, without an array of all scores.

   A tile is as many queries as a vector has lanes. Its scores of a stretch of keys stay
   in the cache; keys are dealt to groups, and the K-th largest of the groups' maxima is
   a bound that at least K keys reach. What reaches it is a candidate, about K + 3 of a
   stretch, and those are sorted into the best K so far, all lanes at once. */

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
INLINE void NAME(score_sized)(
    const V *asked, const REAL *keys, const WHOLE *places, int64_t width,
    const I *sight, V *restrict scores, V *restrict maxima
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
        maxima[u] = NAME(larger)(sum[u], maxima[u]);
    }
}

static void NAME(score)(
    const V *asked, const REAL *keys, const WHOLE *places, int64_t width,
    const I *sight, V *scores, V *maxima
) {
    if (sight) NAME(score_sized)(asked, keys, places, width, sight, scores, maxima);
    else NAME(score_sized)(asked, keys, places, width, NULL, scores, maxima);
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

/* Room of one tile. A candidate of lane l lies in that lane of a vector. */
typedef struct {
    V *scores, *maxima, *sorted; /* of a stretch */
    V *candidates, *best;
    I *candidates_at, *best_at;  /* positions of keys */
    uint64_t *words;             /* one bit a score that reaches the bound */
    int64_t sizes[LANES];        /* candidates of every lane */
    int64_t groups;
} NAME(Tile);

/* Candidates among the keys of one stretch; returns how many the fullest lane has. */
static int64_t NAME(collect)(
    NAME(Tile) *t, V bound, const WHOLE *places, int64_t keys
) {
    uint64_t *words = t->words;
    int64_t filled = 0, fullest = 0;
    int32_t at[STRETCH / 4];
    for (int64_t n = 0; n < keys; n += 4) {
        uint64_t bits = 0;
        for (int u = 0; u < 4; u++)
            bits |= (uint64_t)NAME(not_less)(t->scores[n + u], bound) << (16 * u);
        words[filled] = bits;
        at[filled] = (int32_t)n;
        filled += bits != 0; /* no branch that nobody could predict */
    }
    for (int64_t l = 0; l < LANES; l++) t->sizes[l] = 0;
    for (int64_t n = 0; n < filled; n++) {
        uint64_t bits = words[n];
        do {
            int first = __builtin_ctzll(bits), lane = first & 15;
            int64_t key = at[n] + (first >> 4), to = t->sizes[lane]++ * LANES + lane;
            REAL value = ((REAL *)t->scores)[key * LANES + lane];
            ((REAL *)t->candidates)[to] = value == value ? value : INFINITY;
            ((WHOLE *)t->candidates_at)[to] = places[key];
            bits &= bits - 1;
        } while (bits);
    }
    for (int64_t l = 0; l < LANES; l++) fullest = most(fullest, t->sizes[l]);
    return fullest;
}

/* Sort the candidates into the best, which fall from the first to the last. */
static void NAME(enter)(NAME(Tile) *t, int64_t fullest, int64_t pairs) {
    I sizes;
    for (int64_t l = 0; l < LANES; l++) sizes[l] = (WHOLE)t->sizes[l];
    for (int64_t n = 0; n < fullest; n++) {
        V value = NAME(blend)(sizes > (WHOLE)n, t->candidates[n], NAME(all)(-INFINITY));
        I at = t->candidates_at[n];
        for (int64_t p = 0; p < pairs; p++) {
            V other = t->best[p];
            I other_at = t->best_at[p], up = value > other;
            t->best[p] = NAME(blend)(up, value, other);
            t->best_at[p] = (up & at) | (~up & other_at);
            value = NAME(blend)(up, other, value);
            at = (up & other_at) | (~up & at);
        }
    }
}

static void NAME(tile)(
    const Select *s, NAME(Tile) *t, const V *asked, const REAL *keys,
    const WHOLE *places, int64_t blocks, const I *sight
) {
    int64_t lowest = sight[0][0], highest = sight[1][LANES - 1], from = 0;
    for (int64_t p = 0; p < s->pairs; p++) t->best[p] = NAME(all)(-INFINITY);
    memset(t->best_at, 0, s->pairs * sizeof(I));
    while (from < blocks && places[from * BLOCK + BLOCK - 1] < lowest) from++;
    while (from < blocks && places[from * BLOCK] <= highest) {
        for (int64_t g = 0; g < t->groups; g++) t->maxima[g] = NAME(all)(-INFINITY);
        int64_t start = from, end = least(blocks, from + STRETCH / BLOCK), group = 0;
        V *scores = t->scores;
        for (; from < end && places[from * BLOCK] <= highest; from++, scores += BLOCK) {
            const WHOLE *here = places + from * BLOCK;
            V *maxima = t->maxima + group;
            int whole =
                here[0] >= sight[0][LANES - 1] && here[BLOCK - 1] <= sight[1][0];
            const REAL *block = keys + from * BLOCK * s->width;
            NAME(score)(
                asked, block, here, s->width, whole ? NULL : sight, scores, maxima);
            group = group + BLOCK < t->groups ? group + BLOCK : 0;
        }
        /* -inf is no candidate: a key with that score is as good as out of sight. */
        V low = NAME(larger)(NAME(all)(-LARGEST), t->best[s->pairs - 1]);
        V bound = NAME(bound)(t->maxima, t->groups, s->pairs, t->sorted);
        bound = NAME(larger)(bound, low);
        const WHOLE *here = places + start * BLOCK;
        NAME(enter)(t, NAME(collect)(t, bound, here, (from - start) * BLOCK), s->pairs);
    }
}

static void NAME(tell)(
    const Select *s, const NAME(Tile) *t, int64_t part, int64_t row, int64_t rows
) {
    for (int64_t l = 0; l < rows; l++) {
        int64_t to = (part * s->asked + row + l) * s->pairs;
        for (int64_t p = 0; p < s->pairs; p++) {
            s->chosen[to + p] = t->best_at[p][l];
            s->alive[to + p] = t->best[p][l] > -INFINITY;
        }
    }
}

/* All queries of one (batch, head). Returns 0, or 1 where memory is out. */
EXPORT int64_t NAME(select)(const Select *s, int64_t part) {
    int64_t blocks = s->count / BLOCK + 1, groups;
    groups = (2 * s->pairs + BLOCK - 1) / BLOCK * BLOCK;
    /* scores, maxima, sorted, candidates with places, best with places, asked, words */
    size_t vectors = 4 * STRETCH + groups + 3 * s->pairs + s->width;
    REAL *packed = room(blocks * BLOCK * s->width * sizeof(REAL));
    WHOLE *places = room(blocks * BLOCK * sizeof(WHOLE));
    V *all = room(vectors * sizeof(V));
    int failed = !packed || !places || !all;
    if (!failed) {
        blocks = NAME(pack_keys)(s, part, packed, places);
        NAME(Tile) t = {.groups = groups, .scores = all, .maxima = all + STRETCH};
        t.sorted = t.maxima + groups;
        t.candidates = t.sorted + s->pairs;
        t.candidates_at = (I *)(t.candidates + STRETCH);
        t.best = t.candidates + 2 * STRETCH;
        t.best_at = (I *)(t.best + s->pairs);
        V *asked = t.best + 2 * s->pairs;
        t.words = (uint64_t *)(asked + s->width);
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
    free(packed), free(places), free(all);
    return failed;
}
