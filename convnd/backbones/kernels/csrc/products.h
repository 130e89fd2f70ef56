/* Vectors of 8 floats, and products of matrices whose panels lie as `pack_matrix` lays them. */
#ifndef CONVND_PRODUCTS_H
#define CONVND_PRODUCTS_H

#include "kernels.h"

#if HAS_KERNELS
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline)) TARGET
typedef __m256 Vector;

INLINE Vector load(const float *p) { return _mm256_loadu_ps(p); }
INLINE void store(float *p, Vector v) { _mm256_storeu_ps(p, v); }
INLINE Vector scaled(float s, Vector v) { return _mm256_mul_ps(_mm256_set1_ps(s), v); }
/* s * a + b */
INLINE Vector fused(float s, Vector a, Vector b) {
    return _mm256_fmadd_ps(_mm256_set1_ps(s), a, b);
}

/* 8 values where the gate at the same index is above 0, else 0. */
INLINE Vector load_gated(const float *x, const void *gate, int kind, Size index) {
    Vector values = load(x + index);
    if (kind == BYTE_GATE) {
        __m128i bytes = _mm_loadl_epi64((const __m128i *)((const uint8_t *)gate + index));
        __m256i words = _mm256_cmpgt_epi32(_mm256_cvtepu8_epi32(bytes), _mm256_setzero_si256());
        return _mm256_and_ps(values, _mm256_castsi256_ps(words));
    }
    if (kind == FLOAT_GATE) {
        Vector open = _mm256_cmp_ps(load((const float *)gate + index), _mm256_setzero_ps(),
                                    _CMP_GT_OQ);
        return _mm256_and_ps(values, open);
    }
    return values;
}

static inline float gated_value(const float *x, const void *gate, int kind, Size index) {
    if (kind == BYTE_GATE && !((const uint8_t *)gate)[index]) return 0;
    if (kind == FLOAT_GATE && !(((const float *)gate)[index] > 0)) return 0;
    return x[index];
}

/* m (6, 16) = or += a (6, depth) times b (depth, 16); `ahead` is what the next call reads. */
INLINE void product(Size depth, const float *a, Size a_stride, const float *b, float *m,
                    Size m_stride, int add, const float *ahead) {
    const float *a0 = a, *a1 = a + a_stride, *a2 = a + 2 * a_stride, *a3 = a + 3 * a_stride,
                *a4 = a + 4 * a_stride, *a5 = a + 5 * a_stride;
    Vector c00, c01, c10, c11, c20, c21, c30, c31, c40, c41, c50, c51;
#define START(i)                                                                                  \
    c##i##0 = c##i##1 = _mm256_setzero_ps();
#define STEP(i, k)                                                                                \
    factor = _mm256_broadcast_ss(a##i + (k));                                                     \
    c##i##0 = _mm256_fmadd_ps(factor, b0, c##i##0);                                               \
    c##i##1 = _mm256_fmadd_ps(factor, b1, c##i##1);
#define STEPS(k)                                                                                  \
    b0 = load(b + (k) * PANEL);                                                                   \
    b1 = load(b + (k) * PANEL + LANES);                                                           \
    STEP(0, k) STEP(1, k) STEP(2, k) STEP(3, k) STEP(4, k) STEP(5, k)
#define END(i)                                                                                    \
    if (add) {                                                                                    \
        c##i##0 = _mm256_add_ps(c##i##0, load(m + i * m_stride));                                 \
        c##i##1 = _mm256_add_ps(c##i##1, load(m + i * m_stride + LANES));                         \
    }                                                                                             \
    store(m + i * m_stride, c##i##0);                                                             \
    store(m + i * m_stride + LANES, c##i##1);
    START(0) START(1) START(2) START(3) START(4) START(5)
    Vector b0, b1, factor;
    Size k = 0;
    for (; k + 8 <= depth; k += 8) {
        _mm_prefetch((const char *)ahead, _MM_HINT_T1);
        STEPS(0) STEPS(1) STEPS(2) STEPS(3) STEPS(4) STEPS(5) STEPS(6) STEPS(7)
        a0 += 8, a1 += 8, a2 += 8, a3 += 8, a4 += 8, a5 += 8, b += 8 * PANEL, ahead += PANEL;
    }
    for (; k < depth; k++) {
        STEPS(0)
        a0++, a1++, a2++, a3++, a4++, a5++, b += PANEL;
    }
    END(0) END(1) END(2) END(3) END(4) END(5)
#undef START
#undef STEP
#undef STEPS
#undef END
}

/* m (rows, 16) = or += a (rows, depth) times b (depth, 16), a block of rows after the other;
 * `ahead` is memory that is read soon, rows / 6 * depth * 2 floats of it. */
TARGET static inline void products(Size rows, Size depth, const float *a, Size a_stride, const float *b,
                            float *m, Size m_stride, int add, const float *ahead) {
    for (Size row = 0; row < rows; row += ROWS, ahead += depth / 8 * PANEL)
        product(depth, a + row * a_stride, a_stride, b, m + row * m_stride, m_stride, add, ahead);
}

/* Add the bias, apply ReLU, and store the first `valid` of 8 outputs. */
INLINE void finish(Vector y, Vector bias, Vector least, Size valid, float *to) {
    float values[LANES];
    /* Of two numbers that cannot be compared, the maximum is the second: NaN remains. */
    y = _mm256_max_ps(least, _mm256_add_ps(y, bias));
    if (valid >= LANES) {
        store(to, y);
    } else {
        store(values, y);
        for (Size n = 0; n < valid; n++) to[n] = values[n];
    }
}

/* What an output is at least. */
INLINE Vector lower_bound(const Convolution *c) {
    return _mm256_set1_ps(c->relu ? 0 : -__builtin_inff());
}

INLINE Vector load_bias(const Convolution *c, Size output) {
    float values[LANES] = {0};
    if (!c->bias) return _mm256_setzero_ps();
    if (c->outputs - output >= LANES) return load(c->bias + output);
    for (Size n = 0; n < c->outputs - output; n++) values[n] = c->bias[output + n];
    return load(values);
}

/* m (rows, panels) = a (rows, channels) times the kernel of panels [panel, end). The next data come
 * into the cache meanwhile, from `ahead` to `ahead_end`, and then the memory of the result. */
INLINE void multiply_rows(const Convolution *c, const float *a, Size rows, Size panel, Size end,
                          float *m, const float *ahead, const float *ahead_end, float *result) {
    Size depth = c->channels, columns = (end - panel) * PANEL;
    for (Size n = panel; n < end; n++) {
        const float *kernel = c->kernel + n * depth * PANEL;
        for (Size slab = 0; slab < depth; slab += SLAB) {
            Size wide = depth - slab < SLAB ? depth - slab : SLAB;
            products(rows, wide, a + slab, depth, kernel + slab * PANEL, m + (n - panel) * PANEL,
                     columns, slab > 0, ahead);
            ahead += rows / ROWS * (wide / 8) * PANEL;
            if (ahead_end && ahead >= ahead_end) ahead = result, ahead_end = NULL;
        }
    }
}

/* Add the bias, apply ReLU, and store rows of panels [panel, end), in the order of the memory. */
INLINE void finish_rows(const Convolution *c, const float *m, Size columns, Size rows, Size panel,
                        Size end, float *to, Size step) {
    Vector least = lower_bound(c);
    for (Size row = 0; row < rows; row++)
        for (Size n = panel * PANEL; n < end * PANEL && n < c->outputs; n += LANES)
            finish(load(m + row * columns + n - panel * PANEL), load_bias(c, n), least,
                   c->outputs - n, to + row * step + n);
}

#endif
#endif
