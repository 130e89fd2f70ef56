/* The product of features with their transpose. */
#include "products.h"

#if HAS_KERNELS

/* m (4, 8 * wide) += a^T b over `count` positions; a is (count, 8), and b is `wide` of them. */
INLINE void gram_tile(const float *a, const float *b, Size count, int wide, float *m, Size stride) {
    Vector c[STRIP][GROUP];
    for (int i = 0; i < STRIP; i++)
        for (int j = 0; j < wide; j++) c[i][j] = _mm256_setzero_ps();
    for (Size k = 0; k < count; k++) {
        Vector columns[GROUP];
        for (int j = 0; j < wide; j++) columns[j] = load(b + (j * SPAN + k) * LANES);
        for (int i = 0; i < STRIP; i++) {
            Vector factor = _mm256_broadcast_ss(a + k * LANES + i);
            for (int j = 0; j < wide; j++) c[i][j] = _mm256_fmadd_ps(factor, columns[j], c[i][j]);
        }
    }
    for (int i = 0; i < STRIP; i++)
        for (int j = 0; j < wide; j++) {
            float *to = m + i * stride + j * LANES;
            store(to, _mm256_add_ps(load(to), c[i][j]));
        }
}

/* Rows [first, last) of the matrix, in vectors, from the diagonal on, and their mirror image. */
TARGET void gram(const Gram *g, Size first, Size last) {
    Size vectors = g->channels / LANES;
    float *out = g->out;
    for (Size start = 0; start < g->count; start += SPAN) {
        Size count = g->count - start < SPAN ? g->count - start : SPAN;
        for (Size k = 0; k < count; k++)
            for (Size n = first; n < vectors; n++)
                store(g->scratch + (n * SPAN + k) * LANES,
                      load(g->x + (start + k) * g->channels + n * LANES));
        for (Size row = first; row < last; row++)
            for (Size column = row; column < vectors; column += GROUP)
                for (Size half = 0; half < LANES; half += STRIP) {
                    const float *a = g->scratch + row * SPAN * LANES + half;
                    const float *b = g->scratch + column * SPAN * LANES;
                    float *m = out + (row * LANES + half) * g->channels + column * LANES;
                    Size wide = vectors - column;
                    if (wide >= 3) gram_tile(a, b, count, 3, m, g->channels);
                    else if (wide == 2) gram_tile(a, b, count, 2, m, g->channels);
                    else gram_tile(a, b, count, 1, m, g->channels);
                }
    }
    for (Size row = first * LANES; row < last * LANES; row++)
        for (Size column = row + 1; column < g->channels; column++)
            out[column * g->channels + row] = out[row * g->channels + column];
}

#endif
