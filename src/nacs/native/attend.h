/* The work on pairs: scores, circuit, solution, softmax, values. The way back: back.h.

   A chunk of queries with all their pairs is worked on at a time, in arrays that stay
   in the cache. Vectors run over neurons or channels where a pair has many numbers, and
   over pairs where it has one. Widths are padded to whole vectors with zeros, which
   stay zeros: silu(0) = 0. The way back does the forward again, chunk by chunk, so
   nothing of a pair is kept between the two. */

#define TOGETHER 8 /* pairs whose sums are in registers at a time */
#define CHUNK 64   /* pairs, at least those of one query */

#ifndef ATTEND
#define ATTEND
typedef struct {
    View q, k, v;        /* (batch, heads, queries or keys, width) */
    View asking, asked;  /* what queries and keys send to the inter neurons */
    const int64_t *chosen;                   /* (batch, heads, queries, pairs) */
    const uint8_t *alive;                    /* of the same shape, or NULL */
    const void *query_times, *key_times;     /* (batch, queries or keys), or NULL */
    const void *pace;                        /* (heads): of the horizon, or NULL */
    const void *scale;                       /* (heads): of the logits, or NULL */
    const void *command, *bias, *recurrent;  /* (command, inter), (command), square */
    const void *heads_weight, *heads_bias;   /* (2, command), (2) */
    View out;            /* values heard */
    void *weights;       /* of the pairs, shape of chosen */
    /* The way back only: */
    View d_out, d_q, d_k, d_v, d_asking, d_asked;
    const void *d_weights;                   /* of the shape of weights, or NULL */
    void *d_shared;      /* (batch, heads, ...), a part's gradients of what all share:
                            scale, pace, heads_bias, heads_weight, bias, command
                            transposed, recurrent transposed */
    int64_t heads, asked_count, count, width, pairs, inter, commands;
    int64_t circuit, from_score;             /* whether logits go through the circuit,
                                                and start from the score */
    double shrink;                           /* 1 / sqrt(width) */
} Attend;

/* Widths are padded to whole vectors of any instruction set. */
static int64_t padded(int64_t width) { return (width + 15) / 16 * 16; }
#endif

/* Everything one part works with. Arrays of a chunk have a row a pair. */
typedef struct {
    const Attend *a;
    int64_t part, width, inter, commands, told; /* padded; told: of a key's row */
    REAL *keys, *d_keys;            /* rows [k, v, asked] and their gradients */
    REAL *up, *across;              /* weights to command neurons, a row a sender */
    REAL *down, *back;              /* the same, a row a receiver */
    REAL *bias, *heads, *zeros;     /* (commands), (2, commands) */
    NAME(Short) *both;              /* heads, a row a command neuron */
    REAL *d_up, *d_across, *d_bias, *d_heads;
    REAL *q, *asking, *d_out, *d_q, *d_asking; /* rows of the chunk's queries */
    REAL *in, *heard, *before, *after, *slope_in, *slope_before, *slope_after;
    REAL *score, *time, *drive, *rate, *logit, *weight, *d_score, *d_time, *d_logit;
    int32_t *key;
    uint8_t *live;
    REAL scale, pace, d_scale, d_pace, d_heads_bias[2];
} NAME(Work);

/* to[p] = start[p] + from[p] W; W has a row a sender. */
INLINE void NAME(layer_part)(
    const REAL *from, int64_t senders, const REAL *w, int64_t receivers,
    const REAL *start, int64_t step, REAL *to, const int pairs
) {
    for (int64_t o = 0; o < receivers; o += LANES) {
        V sum[TOGETHER];
        for (int p = 0; p < pairs; p++) sum[p] = LOAD(start + p * step + o);
        for (int64_t i = 0; i < senders; i++) {
            V row = LOAD(w + i * receivers + o);
            for (int p = 0; p < pairs; p++) sum[p] += from[p * senders + i] * row;
        }
        for (int p = 0; p < pairs; p++) STORE(to + p * receivers + o, sum[p]);
    }
}

INLINE void NAME(layer_sized)(
    const REAL *from, int64_t senders, const REAL *w, int64_t receivers,
    const REAL *start, int64_t step, REAL *to, int64_t pairs
) {
    int64_t p = 0;
    for (; p + TOGETHER <= pairs; p += TOGETHER)
        NAME(layer_part)(from + p * senders, senders, w, receivers, start + p * step,
            step, to + p * receivers, TOGETHER);
    for (; p < pairs; p++)
        NAME(layer_part)(from + p * senders, senders, w, receivers, start + p * step,
            step, to + p * receivers, 1);
}

/* The usual sizes are known to the compiler. */
static void NAME(layer)(
    const REAL *from, int64_t senders, const REAL *w, int64_t receivers,
    const REAL *start, int64_t step, REAL *to, int64_t pairs
) {
    if (senders == 32 && receivers == 16)
        NAME(layer_sized)(from, 32, w, 16, start, step, to, pairs);
    else if (senders == 16 && receivers == 16)
        NAME(layer_sized)(from, 16, w, 16, start, step, to, pairs);
    else if (senders == 16 && receivers == 32)
        NAME(layer_sized)(from, 16, w, 32, start, step, to, pairs);
    else NAME(layer_sized)(from, senders, w, receivers, start, step, to, pairs);
}

INLINE REAL NAME(dot)(const REAL *a, const REAL *b, int64_t width) {
    V sum = (V){0};
    for (int64_t o = 0; o < width; o += LANES) sum += LOAD(a + o) * LOAD(b + o);
    return NAME(total)(sum);
}

/* to += by * from */
INLINE void NAME(add)(REAL *to, REAL by, const REAL *from, int64_t width) {
    for (int64_t o = 0; o < width; o += LANES)
        STORE(to + o, LOAD(to + o) + by * LOAD(from + o));
}

static void NAME(silus)(const REAL *from, REAL *to, REAL *slope, int64_t size) {
    for (int64_t o = 0; o < size; o += LANES)
        STORE(to + o, NAME(silu)(LOAD(from + o), slope ? slope + o : NULL));
}

/* The chunk's queries, keys, scores and times. */
static void NAME(fetch)(NAME(Work) *w, int64_t row, int64_t rows) {
    const Attend *a = w->a;
    int64_t start = w->part * a->asked_count + row, batch = w->part / a->heads;
    const REAL *q = rows_of(a->q, w->part, a->heads, sizeof(REAL));
    const REAL *asking = rows_of(a->asking, w->part, a->heads, sizeof(REAL));
    for (int64_t r = 0; r < rows; r++) {
        REAL *own = w->q + r * w->width, asked = 0;
        const REAL *told = NULL, *from = q + (row + r) * a->q.row;
        for (int64_t d = 0; d < a->width; d++) own[d] = from[d] * (REAL)a->shrink;
        if (a->circuit)
            memcpy(w->asking + r * w->inter, asking + (row + r) * a->asking.row,
                a->inter * sizeof(REAL));
        if (a->pace) {
            asked = ((REAL *)a->query_times)[start - w->part * a->asked_count
                + batch * a->asked_count + r];
            told = (REAL *)a->key_times + batch * a->count;
        }
        for (int64_t n = 0; n < a->pairs; n++) {
            int64_t p = r * a->pairs + n, from = start * a->pairs + p;
            w->live[p] = a->alive ? a->alive[from] : 1;
            /* What only fills up gets the row of zeros behind the last key. */
            w->key[p] = (int32_t)(w->live[p] ? a->chosen[from] : a->count);
            w->score[p] = NAME(dot)(own, w->keys + w->key[p] * w->told, w->width);
            REAL apart = a->pace && w->live[p] ? asked - told[w->key[p]] : 1;
            w->time[p] = (apart < 0 ? -apart : apart) * w->pace;
        }
    }
}

/* What the neurons do for every pair, to what drive and rate are functions of. */
static void NAME(circuit)(NAME(Work) *w, int64_t rows, int back) {
    const Attend *a = w->a;
    int64_t pairs = rows * a->pairs, size = pairs * w->commands;
    for (int64_t r = 0, p = 0; r < rows; r++)
        for (int64_t n = 0; n < a->pairs; n++, p++) {
            const REAL *x = w->asking + r * w->inter;
            const REAL *y = w->keys + w->key[p] * w->told + 2 * w->width;
            REAL *to = w->in + p * w->inter, *slope = w->slope_in + p * w->inter;
            for (int64_t o = 0; o < w->inter; o += LANES)
                STORE(to + o,
                    NAME(silu)(LOAD(x + o) + LOAD(y + o), back ? slope + o : NULL));
        }
    NAME(layer)(w->in, w->inter, w->up, w->commands, w->bias, 0, w->heard, pairs);
    NAME(silus)(w->heard, w->before, back ? w->slope_before : NULL, size);
    NAME(layer)(w->before, w->commands, w->across, w->commands, w->heard, w->commands,
        w->after, pairs);
    NAME(silus)(w->after, w->after, back ? w->slope_after : NULL, size);
    const REAL *bias = a->heads_bias;
    NAME(Short) start = {bias[0], bias[1]};
    for (int64_t p = 0; p < pairs; p += TOGETHER) {
        NAME(Short) sum[TOGETHER];
        const REAL *from = w->after + p * w->commands;
        for (int u = 0; u < TOGETHER; u++) sum[u] = start;
        for (int64_t i = 0; i < w->commands; i++)
            for (int u = 0; u < TOGETHER; u++)
                sum[u] += from[u * w->commands + i] * w->both[i];
        for (int u = 0; u < TOGETHER; u++) {
            w->drive[p + u] = sum[u][0];
            w->rate[p + u] = sum[u][1];
        }
    }
}

/* The relaxed logits of a chunk. With `back` the derivatives of a logit take the place
   of what they are by: the score, the time, drive and rate before their functions. */
static void NAME(solve)(NAME(Work) *w, int64_t pairs, int back) {
    const Attend *a = w->a;
    for (int64_t p = 0; p < pairs; p += LANES) {
        V score = LOAD(w->score + p), initial = a->from_score ? score : (V){0};
        if (!a->circuit) {
            STORE(w->logit + p, score);
            continue;
        }
        V drive = NAME(sigmoid)(LOAD(w->drive + p)), input = LOAD(w->rate + p);
        V rate = NAME(softplus)(input) + (REAL)1e-6, time = LOAD(w->time + p);
        V grown = -NAME(expm1)(-rate * time), left = 1 - grown, share = grown / rate;
        STORE(w->logit + p, initial * left + drive * share);
        if (!back) continue;
        V d_rate = drive * (time * left - share) / rate - time * left * initial;
        V slope = NAME(blend)(input > 20, NAME(all)(1), NAME(sigmoid)(input));
        STORE(w->d_score + p, a->from_score ? left : (V){0});
        STORE(w->d_time + p, left * (drive - rate * initial));
        STORE(w->drive + p, share * drive * (1 - drive));
        STORE(w->rate + p, d_rate * slope);
    }
}

/* Softmax of the scaled logits over each query's pairs that count. */
static void NAME(weigh)(NAME(Work) *w, int64_t rows) {
    int64_t each = w->a->pairs;
    for (int64_t r = 0; r < rows; r++) {
        REAL *logit = w->logit + r * each, *weight = w->weight + r * each;
        uint8_t *live = w->live + r * each;
        REAL top = -INFINITY;
        for (int64_t p = 0; p < each; p++) {
            weight[p] = live[p] ? logit[p] * w->scale : -INFINITY;
            top = weight[p] > top ? weight[p] : top;
        }
        for (int64_t p = 0; p < each; p++) weight[p] -= top;
    }
    for (int64_t p = 0; p < rows * each; p += LANES)
        STORE(w->weight + p, NAME(exp)(LOAD(w->weight + p)));
    for (int64_t r = 0; r < rows; r++) {
        REAL *weight = w->weight + r * each, sum = 0;
        uint8_t *live = w->live + r * each;
        for (int64_t p = 0; p < each; p++) sum += weight[p];
        for (int64_t p = 0; p < each; p++) weight[p] = live[p] ? weight[p] / sum : 0;
    }
}

/* All up to the weights of a chunk. */
static void NAME(forth)(NAME(Work) *w, int64_t row, int64_t rows, int back) {
    NAME(fetch)(w, row, rows);
    if (w->a->circuit) NAME(circuit)(w, rows, back);
    NAME(solve)(w, rows * w->a->pairs, back);
    NAME(weigh)(w, rows);
}

/* Sum the values. */
static void NAME(hear)(NAME(Work) *w, int64_t row, int64_t rows) {
    const Attend *a = w->a;
    REAL *out = rows_of(a->out, w->part, a->heads, sizeof(REAL));
    REAL *weights = (REAL *)a->weights + (w->part * a->asked_count + row) * a->pairs;
    memcpy(weights, w->weight, rows * a->pairs * sizeof(REAL));
    for (int64_t r = 0, p = 0; r < rows; r++) {
        REAL *sum = w->d_out; /* free on the way forward */
        memset(sum, 0, w->width * sizeof(REAL));
        for (int64_t n = 0; n < a->pairs; n++, p++)
            NAME(add)(sum, w->weight[p], w->keys + w->key[p] * w->told + w->width,
                w->width);
        memcpy(out + (row + r) * a->out.row, sum, a->width * sizeof(REAL));
    }
}

/* Hand out room: first counts, then points into `from`. */
INLINE REAL *NAME(take)(REAL *from, int64_t *used, int64_t size) {
    REAL *here = from ? from + *used : NULL;
    *used += padded(size);
    return here;
}

static int64_t NAME(lay_out)(NAME(Work) *w, REAL *from, int64_t rows, int back) {
    int64_t used = 0, pairs = padded(rows * w->a->pairs), i = w->inter, n = w->commands;
    REAL **of_chunk[] = {&w->score, &w->time, &w->drive, &w->rate, &w->logit,
        &w->weight, &w->d_score, &w->d_time, &w->d_logit};
    for (int k = 0; k < 9; k++) *of_chunk[k] = NAME(take)(from, &used, pairs);
    w->keys = NAME(take)(from, &used, (w->a->count + 1) * w->told);
    w->q = NAME(take)(from, &used, rows * w->width);
    w->d_out = NAME(take)(from, &used, rows * w->width);
    w->asking = NAME(take)(from, &used, rows * i);
    w->in = NAME(take)(from, &used, pairs * i);
    REAL **of_commands[] = {&w->heard, &w->before, &w->after};
    for (int k = 0; k < 3; k++) *of_commands[k] = NAME(take)(from, &used, pairs * n);
    w->up = NAME(take)(from, &used, i * n);
    w->across = NAME(take)(from, &used, n * n);
    w->bias = NAME(take)(from, &used, n);
    w->heads = NAME(take)(from, &used, 2 * n);
    w->both = (NAME(Short) *)NAME(take)(from, &used, n * SHORT);
    if (!back) return used;
    w->d_keys = NAME(take)(from, &used, w->a->count * w->told);
    w->d_q = NAME(take)(from, &used, w->width);
    w->d_asking = NAME(take)(from, &used, i);
    w->slope_in = NAME(take)(from, &used, pairs * i);
    w->slope_before = NAME(take)(from, &used, pairs * n);
    w->slope_after = NAME(take)(from, &used, pairs * n);
    w->down = NAME(take)(from, &used, i * n);
    w->back = NAME(take)(from, &used, n * n);
    w->zeros = NAME(take)(from, &used, i + n);
    w->d_up = NAME(take)(from, &used, i * n);
    w->d_across = NAME(take)(from, &used, n * n);
    w->d_bias = NAME(take)(from, &used, n);
    w->d_heads = NAME(take)(from, &used, 2 * n);
    return used;
}

/* Rows of keys side by side, weights in both orders. */
static void NAME(pack)(NAME(Work) *w, int back) {
    const Attend *a = w->a;
    const View views[] = {a->k, a->v, a->asked};
    const int64_t sizes[] = {a->width, a->width, a->inter};
    for (int which = 0; which < (a->circuit ? 3 : 2); which++) {
        const REAL *from = rows_of(views[which], w->part, a->heads, sizeof(REAL));
        REAL *to = w->keys + which * w->width;
        for (int64_t n = 0; n < a->count; n++, from += views[which].row, to += w->told)
            memcpy(to, from, sizes[which] * sizeof(REAL));
    }
    w->scale = a->scale ? ((REAL *)a->scale)[w->part % a->heads] : 1;
    w->pace = a->pace ? ((REAL *)a->pace)[w->part % a->heads] : 1;
    if (!a->circuit) return;
    const REAL *command = a->command, *recurrent = a->recurrent;
    for (int64_t to = 0; to < a->commands; to++) {
        for (int64_t i = 0; i < a->inter; i++) {
            w->up[i * w->commands + to] = command[to * a->inter + i];
            if (back) w->down[to * w->inter + i] = command[to * a->inter + i];
        }
        for (int64_t i = 0; i < a->commands; i++) {
            w->across[i * w->commands + to] = recurrent[to * a->commands + i];
            if (back) w->back[to * w->commands + i] = recurrent[to * a->commands + i];
        }
        w->bias[to] = ((REAL *)a->bias)[to];
        w->heads[to] = ((REAL *)a->heads_weight)[to];
        w->heads[w->commands + to] = ((REAL *)a->heads_weight)[a->commands + to];
        w->both[to] = (NAME(Short)){w->heads[to], w->heads[w->commands + to]};
    }
}

/* The scratch of one part, zero where nothing is packed; NULL where memory is out. */
static void *NAME(prepare)(
    NAME(Work) *w, const Attend *a, int64_t part, int64_t rows, int back
) {
    memset(w, 0, sizeof(*w));
    w->a = a;
    w->part = part;
    w->width = padded(a->width);
    w->inter = a->circuit ? padded(a->inter) : 0;
    w->commands = a->circuit ? padded(a->commands) : 0;
    w->told = 2 * w->width + w->inter;
    int64_t pairs = padded(rows * a->pairs);
    int64_t numbers = NAME(lay_out)(w, NULL, rows, back);
    size_t bytes = numbers * sizeof(REAL);
    char *all = room(bytes + pairs * (sizeof(int32_t) + 1));
    if (!all) return NULL;
    memset(all, 0, bytes);
    NAME(lay_out)(w, (REAL *)all, rows, back);
    w->key = (int32_t *)(all + bytes);
    w->live = (uint8_t *)(w->key + pairs);
    NAME(pack)(w, back);
    return all;
}

/* What the queries of one (batch, head) hear. Returns 0, or 1 where memory is out. */
EXPORT int64_t NAME(attend)(const Attend *a, int64_t part) {
    NAME(Work) w;
    int64_t rows = most(1, CHUNK / a->pairs);
    void *all = NAME(prepare)(&w, a, part, rows, 0);
    if (!all) return 1;
    for (int64_t row = 0; row < a->asked_count; row += rows) {
        int64_t here = least(rows, a->asked_count - row);
        NAME(forth)(&w, row, here, 0);
        NAME(hear)(&w, row, here);
    }
    free(all);
    return 0;
}
