/* Vectors of REAL as wide as the instruction set has them, and functions on them. */

#define V NAME(V)
#define I NAME(I)
#undef LANES
#define LANES ((int64_t)(BYTES / sizeof(REAL)))

typedef REAL V __attribute__((vector_size(BYTES), may_alias));
typedef WHOLE I __attribute__((vector_size(BYTES), may_alias));
/* For the two numbers of a pair, drive and rate. */
#undef SHORT
#define SHORT ((int64_t)(16 / sizeof(REAL)))
typedef REAL NAME(Short) __attribute__((vector_size(16), may_alias));
typedef V NAME(Loose) __attribute__((aligned(sizeof(REAL))));

#define LOAD(from) (*(const V *)(from))
#define STORE(to, value) (*(V *)(to) = (value))
#define LOAD_ANY(from) (*(const NAME(Loose) *)(from))
#define STORE_ANY(to, value) (*(NAME(Loose) *)(to) = (value))

INLINE V NAME(all)(REAL x) { return x - (V){0}; }

/* True in the first lanes. */
INLINE I NAME(lanes)(int64_t count) {
    I found;
    for (int64_t l = 0; l < LANES; l++) found[l] = l;
    return found < (WHOLE)count;
}

/* The first `count` numbers of a vector; the others are 0. */
INLINE V NAME(some)(const REAL *from, int64_t count) {
    if (count == LANES) return LOAD_ANY(from);
#if defined(DOUBLE) && BYTES == 64
    return (V)_mm512_maskz_loadu_pd((__mmask8)((1u << count) - 1), from);
#elif BYTES == 64
    return (V)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), from);
#elif BYTES == 32 && defined(DOUBLE)
    return (V)_mm256_maskload_pd(from, (__m256i)NAME(lanes)(count));
#elif BYTES == 32
    return (V)_mm256_maskload_ps(from, (__m256i)NAME(lanes)(count));
#else
    V found = {0};
    memcpy(&found, from, (size_t)count * sizeof(REAL));
    return found;
#endif
}

INLINE void NAME(put_some)(REAL *to, V x, int64_t count) {
    if (count == LANES) STORE_ANY(to, x);
#if defined(DOUBLE) && BYTES == 64
    else _mm512_mask_storeu_pd(to, (__mmask8)((1u << count) - 1), (__m512d)x);
#elif BYTES == 64
    else _mm512_mask_storeu_ps(to, (__mmask16)((1u << count) - 1), (__m512)x);
#else
    else memcpy(to, &x, (size_t)count * sizeof(REAL));
#endif
}

INLINE V NAME(blend)(I where, V yes, V no) {
    return (V)((where & (I)yes) | (~where & (I)no));
}

/* a where a > b, else b: a NaN in b stays, one in a does not. */
INLINE V NAME(larger)(V a, V b) {
#if defined(DOUBLE) && BYTES == 64
    return (V)_mm512_max_pd((__m512d)a, (__m512d)b);
#elif defined(DOUBLE) && BYTES == 32
    return (V)_mm256_max_pd((__m256d)a, (__m256d)b);
#elif defined(DOUBLE) && defined(__SSE2__)
    return (V)_mm_max_pd((__m128d)a, (__m128d)b);
#elif BYTES == 64
    return (V)_mm512_max_ps((__m512)a, (__m512)b);
#elif BYTES == 32
    return (V)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
    return (V)_mm_max_ps((__m128)a, (__m128)b);
#else
    return NAME(blend)(a > b, a, b);
#endif
}

/* a where a < b, else b. */
INLINE V NAME(smaller)(V a, V b) {
#if defined(DOUBLE) && BYTES == 64
    return (V)_mm512_min_pd((__m512d)a, (__m512d)b);
#elif defined(DOUBLE) && BYTES == 32
    return (V)_mm256_min_pd((__m256d)a, (__m256d)b);
#elif defined(DOUBLE) && defined(__SSE2__)
    return (V)_mm_min_pd((__m128d)a, (__m128d)b);
#elif BYTES == 64
    return (V)_mm512_min_ps((__m512)a, (__m512)b);
#elif BYTES == 32
    return (V)_mm256_min_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
    return (V)_mm_min_ps((__m128)a, (__m128)b);
#else
    return NAME(blend)(a < b, a, b);
#endif
}

/* 1 / x, to a unit in the last place or so. */
INLINE V NAME(inverse)(V x) {
#if !defined(DOUBLE) && BYTES == 64
    V near = (V)_mm512_rcp14_ps((__m512)x);
    return near + near * (1 - x * near);
#else
    return 1 / x;
#endif
}

/* One bit a lane: 0 where a < b, so 1 where a is NaN. */
INLINE unsigned NAME(not_less)(V a, V b) {
#if defined(DOUBLE) && BYTES == 64
    return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_NLT_UQ);
#elif defined(DOUBLE) && BYTES == 32
    return _mm256_movemask_pd(_mm256_cmp_pd((__m256d)a, (__m256d)b, _CMP_NLT_UQ));
#elif defined(DOUBLE) && defined(__SSE2__)
    return _mm_movemask_pd(_mm_cmpnlt_pd((__m128d)a, (__m128d)b));
#elif BYTES == 64
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_NLT_UQ);
#elif BYTES == 32
    return _mm256_movemask_ps(_mm256_cmp_ps((__m256)a, (__m256)b, _CMP_NLT_UQ));
#elif defined(__SSE2__)
    return _mm_movemask_ps(_mm_cmpnlt_ps((__m128)a, (__m128)b));
#else
    unsigned bits = 0;
    for (int64_t l = 0; l < LANES; l++) bits |= (unsigned)!(a[l] < b[l]) << l;
    return bits;
#endif
}

INLINE REAL NAME(total)(V x) {
#if defined(DOUBLE) && BYTES == 64
    return _mm512_reduce_add_pd((__m512d)x);
#elif BYTES == 64
    return _mm512_reduce_add_ps((__m512)x);
#else
    REAL sum = 0;
    for (int64_t l = 0; l < LANES; l++) sum += x[l];
    return sum;
#endif
}

#undef MAGIC
#undef MANTISSA
#undef LARGEST
#undef LOWEST
#undef HIGHEST
#undef LN2_HIGH
#undef LN2_LOW
#undef SQRT_HALF_BITS
#undef NEAR
#undef STEEP
#if defined(DOUBLE)
#define MAGIC 0x1.8p52
#define MANTISSA 52
#define LARGEST 0x1.fffffffffffffp1023
#define LOWEST (-708.0)
#define HIGHEST 709.0
#define LN2_HIGH 6.93145751953125E-1
#define LN2_LOW 1.42860682030941723212E-6
#define SQRT_HALF_BITS 0x3fe6a09e667f3bcdLL
static const double NAME(exponential)[] = {
    1.0 / 6227020800.0, 1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0,
    1.0 / 362880.0, 1.0 / 40320.0, 1.0 / 5040.0, 1.0 / 720.0,
    1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5,
};
/* Of ½ erfc(x / √2) e^(x²/2), 0 <= x <= 13, in a linear map of 1 / (1 + NEAR x) to
   [-1, 1]; from values at Chebyshev's nodes. */
#define NEAR 0.4101219330881975
#define STEEP 2.370782350760104
static const double NAME(tail)[] = {
    -1.0005001756102608e-09, 9.0225542717049239e-10,  6.4902507684328318e-09,
    -1.3435680905605154e-08, -1.652944058869789e-09,  5.8366196215158906e-08,
    -1.5658942452465819e-07, 1.1390287160316355e-07,  6.7302408909340125e-07,
    -2.5658264744974402e-06, 2.0897722719034307e-06,  1.3115276659067445e-05,
    -4.6880040835417741e-05, -3.2237515127529316e-06, 0.00041970600865534846,
    -0.00066028689240636305, -0.0039458451966216191,  0.010240326924853684,
    0.085547880912788435,    0.22533228666271174,     0.18310271614279533,
};
static const double NAME(artanh)[] = {
    1.0 / 21, 1.0 / 19, 1.0 / 17, 1.0 / 15, 1.0 / 13,
    1.0 / 11, 1.0 / 9,  1.0 / 7,  1.0 / 5,  1.0 / 3,
};
#else
#define MAGIC 0x1.8p23f
#define MANTISSA 23
#define LARGEST 0x1.fffffep127f
#define LOWEST (-87.0f)
#define HIGHEST 88.0f
#define LN2_HIGH 0.693359375f
#define LN2_LOW (-2.12194440e-4f)
#define SQRT_HALF_BITS 0x3f3504f3
static const float NAME(exponential)[] = {  /* cephes, expf */
    1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
    4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f,
};
#define NEAR 0.29698485f
#define STEEP 2.5120328f
static const float NAME(tail)[] = {
    2.4484626e-05f, 1.6067129e-05f, -3.9440407e-04f, -5.9278161e-04f, 5.9244190e-03f,
    3.5653083e-02f, 1.0463619e-01f, 1.9984345e-01f,  1.5488950e-01f,
};
static const float NAME(artanh)[] = {
    1.0f / 11, 1.0f / 9, 1.0f / 7, 1.0f / 5, 1.0f / 3,
};
#endif
#undef TERMS
#define TERMS(series) ((int)(sizeof(series) / sizeof(series[0])))

/* e^x = scale (1 + more), with |more| < 0.42. NaN stays NaN. */
INLINE V NAME(exp_parts)(V x, V *scale) {
    x = NAME(smaller)(NAME(all)(HIGHEST), NAME(larger)(NAME(all)(LOWEST), x));
    V shifted = x * (REAL)1.44269504088896340736 + (REAL)MAGIC;
    V whole = shifted - (REAL)MAGIC;
    V r = x - whole * (REAL)LN2_HIGH - whole * (REAL)LN2_LOW;
    *scale = (V)(((I)shifted << MANTISSA) + (I)NAME(all)(1));
    V sum = NAME(all)(NAME(exponential)[0]);
    for (int n = 1; n < TERMS(NAME(exponential)); n++)
        sum = sum * r + NAME(exponential)[n];
    return r + r * r * sum;
}

INLINE V NAME(exp)(V x) {
    V scale, more = NAME(exp_parts)(x, &scale);
    return scale + scale * more;
}

INLINE V NAME(expm1)(V x) {
    V scale, more = NAME(exp_parts)(x, &scale);
    return scale * more + (scale - 1);
}

/* ln u + lost, for a normal u > 0. */
INLINE V NAME(log_sum)(V u, V lost) {
    I power = ((I)u - (WHOLE)SQRT_HALF_BITS) >> MANTISSA;
    V m = (V)((I)u - (power << MANTISSA));
    V e = (V)(power + (I)NAME(all)(MAGIC)) - (REAL)MAGIC;
    V s = (m - 1) / (m + 1), square = s * s;
    V sum = NAME(all)(NAME(artanh)[0]);
    for (int n = 1; n < TERMS(NAME(artanh)); n++) sum = sum * square + NAME(artanh)[n];
    V log = 2 * (s + s * square * sum) + e * (REAL)LN2_LOW + lost;
    return log + e * (REAL)LN2_HIGH;
}

INLINE V NAME(log)(V x) { return NAME(log_sum)(x, (V){0}); }

/* ln(1 + y), y >= 0. */
INLINE V NAME(log1p)(V y) {
    V u = 1 + y;
    return NAME(log_sum)(u, (y - (u - 1)) / u);
}

INLINE V NAME(sigmoid)(V x) { return NAME(inverse)(1 + NAME(exp)(-x)); }

/* As torch has it: x itself above 20. */
INLINE V NAME(softplus)(V x) {
    V soft = NAME(log1p)(NAME(exp)(NAME(smaller)(NAME(all)(20), x)));
    return NAME(blend)(x > 20, x, soft);
}

/* x sigmoid(x), and its derivative unless NULL. */
INLINE V NAME(silu)(V x, REAL *slope) {
    V s = NAME(sigmoid)(x), y = x * s;
    if (slope) STORE(slope, s + y * (1 - s));
    return y;
}

/* Φ(x), the share of a standard normal below x, and its density at x. */
INLINE V NAME(normal)(V x, V *density) {
    V size = NAME(smaller)(NAME(all)(13), NAME(larger)(x, -x));
    V bell = NAME(exp)(size * size * (REAL)-0.5);
    V y = NAME(inverse)(1 + size * (REAL)NEAR) * (REAL)STEEP + (REAL)(1 - STEEP);
    V sum = NAME(all)(NAME(tail)[0]);
    for (int n = 1; n < TERMS(NAME(tail)); n++) sum = sum * y + NAME(tail)[n];
    V beyond = bell * sum;
    *density = bell * (REAL)0.39894228040143267794;
    return NAME(blend)(x < 0, beyond, 1 - beyond);
}

/* What the tests ask: 0 exp, 1 expm1, 2 log1p, 3 sigmoid, 4 softplus, 5 silu. */
EXPORT void NAME(apply)(int64_t which, const REAL *from, REAL *to, int64_t vectors) {
    for (int64_t n = 0; n < vectors * LANES; n += LANES) {
        V x = LOAD_ANY(from + n), y = x;
        if (which == 0) y = NAME(exp)(x);
        if (which == 1) y = NAME(expm1)(x);
        if (which == 2) y = NAME(log1p)(x);
        if (which == 3) y = NAME(sigmoid)(x);
        if (which == 4) y = NAME(softplus)(x);
        if (which == 5) y = NAME(silu)(x, NULL);
        STORE_ANY(to + n, y);
    }
}
