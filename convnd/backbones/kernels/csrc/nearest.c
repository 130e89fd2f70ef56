/* The nearest key of each query. */
#include "products.h"

#if HAS_KERNELS

/* Keep the smaller of 8 distances so far and those of panel `panel`, and the panel of each. */
INLINE void keep_smaller(Vector distances, int32_t panel, float *least, int32_t *panels) {
    Vector before = load(least), smaller = _mm256_cmp_ps(distances, before, _CMP_LT_OQ);
    __m256i found = _mm256_loadu_si256((const __m256i *)panels);
    found = _mm256_blendv_epi8(found, _mm256_set1_epi32(panel), _mm256_castps_si256(smaller));
    store(least, _mm256_blendv_ps(before, distances, smaller));
    _mm256_storeu_si256((__m256i *)panels, found);
}

/* Queries [first, last). A distance is that of the squares, without the query's own length, which
 * does not change the order. Of equal distances, the first key is found. */
TARGET void find_nearest(const Nearest *n, Size first, Size last) {
    Size depth = n->channels;
    float *queries = n->scratch, *distances = queries + NEAREST_ROWS * depth;
    float *least = distances + NEAREST_ROWS * PANEL;
    int32_t *panels = (int32_t *)(least + NEAREST_ROWS * PANEL);
    for (; first < last; first += NEAREST_ROWS) {
        Size count = last - first < NEAREST_ROWS ? last - first : NEAREST_ROWS;
        Size rows = round_up(count, ROWS);
        memcpy(queries, n->queries + first * depth, sizeof(float) * count * depth);
        memset(queries + count * depth, 0, sizeof(float) * (rows - count) * depth);
        memset(panels, 0, sizeof(int32_t) * rows * PANEL);
        for (Size k = 0; k < rows * PANEL; k++) least[k] = __builtin_inff();
        for (Size panel = 0; panel < n->panels; panel++) {
            const float *keys = n->keys + panel * depth * PANEL;
            const float *offsets = n->offsets + panel * PANEL;
            for (Size slab = 0; slab < depth; slab += SLAB) {
                Size wide = depth - slab < SLAB ? depth - slab : SLAB;
                products(rows, wide, queries + slab, depth, keys + slab * PANEL, distances, PANEL,
                         slab > 0, keys + depth * PANEL);
            }
            for (Size k = 0; k < rows * PANEL; k += LANES)
                keep_smaller(_mm256_add_ps(load(distances + k), load(offsets + k % PANEL)),
                             (int32_t)panel, least + k, panels + k);
        }
        for (Size row = 0; row < count; row++) {
            const float *own = least + row * PANEL;
            int64_t best = -1;
            float smallest = 0;
            for (Size k = 0; k < PANEL; k++) {
                int64_t key = (int64_t)panels[row * PANEL + k] * PANEL + k;
                if (best < 0 || own[k] < smallest || (own[k] == smallest && key < best))
                    best = key, smallest = own[k];
            }
            n->rows[first + row] = best;
        }
    }
}

#endif
