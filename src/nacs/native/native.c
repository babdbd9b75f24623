/* Selection of keys and the work on pairs, without Python's and torch's headers.

   One build is for one instruction set (build.py); each holds every function for float
   and for double: the headers below are read once for either. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX2__)
#define BYTES 32
#else
#define BYTES 16
#endif

#define INLINE static inline __attribute__((always_inline))
#define EXPORT __attribute__((visibility("default")))

/* Rows of a tensor (batch, heads, rows, width): strides count numbers, width's is 1. */
typedef struct {
    void *data;
    int64_t batch, head, row;
} View;

static void *rows_of(View view, int64_t part, int64_t heads, size_t size) {
    int64_t start = part / heads * view.batch + part % heads * view.head;
    return (char *)view.data + start * (int64_t)size;
}

/* Aligned for vectors, never of size 0. */
static void *room(size_t bytes) {
    void *found = NULL;
    return posix_memalign(&found, 64, bytes + 64) ? NULL : found;
}

/* The same, kept by the thread for its next call: fresh pages cost more than the work
   on a small graph. */
static void *kept_room(size_t bytes) {
    static __thread void *kept = NULL;
    static __thread size_t size = 0;
    if (bytes > size) {
        free(kept);
        kept = room(bytes);
        size = kept ? bytes : 0;
    }
    return kept;
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

#define REAL float
#define WHOLE int32_t
#define NAME(x) x##_f32
#include "vector.h"
#include "select.h"
#include "attend.h"
#include "back.h"
#include "edges.h"
#include "gate.h"
#define CELL float
#define KIND(x) x##_f32
#include "modulate.h"
#undef CELL
#undef KIND
#define HALF
#define CELL uint16_t
#define KIND(x) x##_bf16
#include "modulate.h"
#undef HALF
#undef CELL
#undef KIND
#undef REAL
#undef WHOLE
#undef NAME

#define DOUBLE
#define REAL double
#define WHOLE int64_t
#define NAME(x) x##_f64
#include "vector.h"
#include "select.h"
#include "attend.h"
#include "back.h"
#include "edges.h"
#include "gate.h"
#define CELL double
#define KIND(x) x##_f64
#include "modulate.h"
