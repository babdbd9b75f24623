/* The way back of attend.h: gradients of everything it reads, chunk by chunk. */

/* d_w += from' d_to, summed over pairs. */
INLINE void NAME(outer_sized)(
    const REAL *from, int64_t senders, const REAL *d_to, int64_t receivers, REAL *d_w,
    int64_t pairs
) {
    for (int64_t o = 0; o < receivers; o += LANES)
        for (int64_t i = 0; i < senders; i += TOGETHER) {
            V sum[TOGETHER];
            for (int u = 0; u < TOGETHER; u++)
                sum[u] = LOAD(d_w + (i + u) * receivers + o);
            for (int64_t p = 0; p < pairs; p++) {
                V d = LOAD(d_to + p * receivers + o);
                for (int u = 0; u < TOGETHER; u++)
                    sum[u] += from[p * senders + i + u] * d;
            }
            for (int u = 0; u < TOGETHER; u++)
                STORE(d_w + (i + u) * receivers + o, sum[u]);
        }
}

static void NAME(outer)(
    const REAL *from, int64_t senders, const REAL *d_to, int64_t receivers, REAL *d_w,
    int64_t pairs
) {
    if (senders == 32 && receivers == 16)
        NAME(outer_sized)(from, 32, d_to, 16, d_w, pairs);
    else if (senders == 16 && receivers == 16)
        NAME(outer_sized)(from, 16, d_to, 16, d_w, pairs);
    else NAME(outer_sized)(from, senders, d_to, receivers, d_w, pairs);
}

/* From what the chunk's queries heard to its scaled logits, values on the way. */
static void NAME(back_to_logits)(NAME(Work) *w, int64_t row, int64_t rows) {
    const Attend *a = w->a;
    const REAL *d_out = rows_of(a->d_out, w->part, a->heads, sizeof(REAL));
    const REAL *d_weights = a->d_weights;
    if (d_weights) d_weights += (w->part * a->asked_count + row) * a->pairs;
    for (int64_t r = 0; r < rows; r++) {
        REAL *d = w->d_out + r * w->width, mean = 0;
        memcpy(d, d_out + (row + r) * a->d_out.row, a->width * sizeof(REAL));
        for (int64_t p = r * a->pairs; p < (r + 1) * a->pairs; p++) {
            w->d_logit[p] = 0;
            if (!w->live[p]) continue;
            int64_t value = w->key[p] * w->told + w->width;
            w->d_logit[p] = NAME(dot)(d, w->keys + value, w->width);
            if (d_weights) w->d_logit[p] += d_weights[p];
            NAME(add)(w->d_keys + value, w->weight[p], d, w->width);
            mean += w->weight[p] * w->d_logit[p];
        }
        for (int64_t p = r * a->pairs; p < (r + 1) * a->pairs; p++)
            w->d_logit[p] = w->live[p] ? w->weight[p] * (w->d_logit[p] - mean) : 0;
    }
}

/* On to the score, the time, drive and rate before their functions. */
static void NAME(back_to_gates)(NAME(Work) *w, int64_t pairs) {
    for (int64_t p = 0; p < pairs; p++)
        if (w->live[p]) w->d_scale += w->d_logit[p] * w->logit[p];
    for (int64_t p = 0; p < pairs; p += LANES) {
        V d = LOAD(w->d_logit + p) * w->scale;
        if (!w->a->circuit) {
            STORE(w->d_score + p, d);
            continue;
        }
        STORE(w->d_score + p, LOAD(w->d_score + p) * d);
        STORE(w->d_time + p, LOAD(w->d_time + p) * d * LOAD(w->time + p));
        STORE(w->drive + p, LOAD(w->drive + p) * d);
        STORE(w->rate + p, LOAD(w->rate + p) * d);
    }
    for (int64_t p = 0; w->a->circuit && p < pairs; p++) {
        w->d_pace += w->d_time[p];
        w->d_heads_bias[0] += w->drive[p];
        w->d_heads_bias[1] += w->rate[p];
    }
}

/* Through the circuit, to what its inter neurons heard. */
static void NAME(back_through)(NAME(Work) *w, int64_t pairs) {
    int64_t n = w->commands, i = w->inter;
    REAL *d_after = w->slope_after, *d_heard = w->slope_before, *d_before = w->heard;
    for (int64_t o = 0; o < n; o += LANES) {
        V first = LOAD(w->d_heads + o), second = LOAD(w->d_heads + n + o);
        V drives = LOAD(w->heads + o), rates = LOAD(w->heads + n + o);
        for (int64_t p = 0; p < pairs; p++) {
            V sent = LOAD(w->after + p * n + o), slope = LOAD(d_after + p * n + o);
            first += w->drive[p] * sent;
            second += w->rate[p] * sent;
            STORE(d_after + p * n + o,
                slope * (w->drive[p] * drives + w->rate[p] * rates));
        }
        STORE(w->d_heads + o, first);
        STORE(w->d_heads + n + o, second);
    }
    NAME(outer)(w->before, n, d_after, n, w->d_across, pairs);
    NAME(layer)(d_after, n, w->back, n, w->zeros, 0, d_before, pairs);
    for (int64_t o = 0; o < n; o += LANES) {
        V sum = LOAD(w->d_bias + o);
        for (int64_t p = 0; p < pairs; p++) {
            V d = LOAD(d_after + p * n + o)
                + LOAD(d_before + p * n + o) * LOAD(d_heard + p * n + o);
            STORE(d_heard + p * n + o, d);
            sum += d;
        }
        STORE(w->d_bias + o, sum);
    }
    NAME(outer)(w->in, i, d_heard, n, w->d_up, pairs);
    NAME(layer)(d_heard, n, w->down, i, w->zeros, 0, w->in, pairs);
    for (int64_t o = 0; o < pairs * i; o += LANES)
        STORE(w->in + o, LOAD(w->in + o) * LOAD(w->slope_in + o));
}

/* To the rows of queries and keys. */
static void NAME(back_to_rows)(NAME(Work) *w, int64_t row, int64_t rows) {
    const Attend *a = w->a;
    REAL *d_q = rows_of(a->d_q, w->part, a->heads, sizeof(REAL));
    REAL *d_asking = rows_of(a->d_asking, w->part, a->heads, sizeof(REAL));
    for (int64_t r = 0, p = 0; r < rows; r++) {
        memset(w->d_q, 0, w->width * sizeof(REAL));
        memset(w->d_asking, 0, w->inter * sizeof(REAL));
        for (int64_t n = 0; n < a->pairs; n++, p++) {
            if (!w->live[p]) continue;
            REAL *key = w->keys + w->key[p] * w->told;
            REAL *d_key = w->d_keys + w->key[p] * w->told;
            NAME(add)(w->d_q, w->d_score[p], key, w->width);
            NAME(add)(d_key, w->d_score[p], w->q + r * w->width, w->width);
            NAME(add)(w->d_asking, 1, w->in + p * w->inter, w->inter);
            NAME(add)(d_key + 2 * w->width, 1, w->in + p * w->inter, w->inter);
        }
        REAL *to = d_q + (row + r) * a->d_q.row;
        for (int64_t d = 0; d < a->width; d++) to[d] = w->d_q[d] * (REAL)a->shrink;
        if (a->circuit)
            memcpy(d_asking + (row + r) * a->d_asking.row, w->d_asking,
                a->inter * sizeof(REAL));
    }
}

/* Out of the padded scratch. */
static void NAME(unpack)(NAME(Work) *w) {
    const Attend *a = w->a;
    const View views[] = {a->d_k, a->d_v, a->d_asked};
    const int64_t sizes[] = {a->width, a->width, a->inter};
    for (int which = 0; which < (a->circuit ? 3 : 2); which++) {
        REAL *to = rows_of(views[which], w->part, a->heads, sizeof(REAL));
        const REAL *from = w->d_keys + which * w->width;
        for (int64_t n = 0; n < a->count; n++, from += w->told, to += views[which].row)
            memcpy(to, from, sizes[which] * sizeof(REAL));
    }
    int64_t n = a->circuit ? a->commands : 0, i = a->circuit ? a->inter : 0;
    REAL *to = (REAL *)a->d_shared + w->part * (4 + n * (3 + i + n));
    *to++ = w->d_scale;
    *to++ = w->pace ? w->d_pace / w->pace : 0;
    *to++ = w->d_heads_bias[0];
    *to++ = w->d_heads_bias[1];
    const REAL *rows[] = {w->d_heads, w->d_bias, w->d_up, w->d_across};
    const int64_t counts[] = {2, 1, i, n};
    for (int which = 0; which < 4; which++)
        for (int64_t r = 0; r < counts[which] && n; r++, to += n)
            memcpy(to, rows[which] + r * w->commands, n * sizeof(REAL));
}

/* Gradients of one (batch, head). Returns 0, or 1 where memory is out. */
EXPORT int64_t NAME(attend_back)(const Attend *a, int64_t part) {
    NAME(Work) w;
    int64_t rows = most(1, CHUNK / a->pairs);
    void *all = NAME(prepare)(&w, a, part, rows, 1);
    if (!all) return 1;
    for (int64_t row = 0; row < a->asked_count; row += rows) {
        int64_t here = least(rows, a->asked_count - row);
        NAME(forth)(&w, row, here, 1);
        NAME(back_to_logits)(&w, row, here);
        NAME(back_to_gates)(&w, here * a->pairs);
        if (a->circuit) NAME(back_through)(&w, here * a->pairs);
        NAME(back_to_rows)(&w, row, here);
    }
    NAME(unpack)(&w);
    free(all);
    return 0;
}
