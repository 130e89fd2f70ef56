/* Maximum pooling of one window, forwards and backwards. */
#ifndef CONVND_POOLING_H
#define CONVND_POOLING_H

#include "products.h"

#if HAS_KERNELS

/* 8 numbers in float32, or in bfloat16 if `half`. */
INLINE Vector load_kind(const void *p, Size index, int half) {
    if (!half) return load((const float *)p + index);
    __m128i bits = _mm_loadu_si128((const __m128i *)((const uint16_t *)p + index));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

/* The same, of numbers that bfloat16 holds exactly. */
INLINE void store_kind(void *p, Size index, int half, Vector v) {
    if (!half) {
        store((float *)p + index, v);
        return;
    }
    __m256i words = _mm256_srli_epi32(_mm256_castps_si256(v), 16);
    __m128i bits = _mm_packus_epi32(_mm256_castsi256_si128(words),
                                    _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128((__m128i *)((uint16_t *)p + index), bits);
}

INLINE void pool_position(const Pooling *p, const char *x, char *y, uint8_t *codes, int half) {
    Size size = half ? 2 : 4;
    for (Size n = 0; n < p->channels; n += LANES) {
        Vector most = load_kind(x, n, half);
        __m256i code = _mm256_setzero_si256();
        int32_t number = 0;
        for (Size i = 0; i < p->kernel[0]; i++)
            for (Size j = 0; j < p->kernel[1]; j++)
                for (Size k = 0; k < p->kernel[2]; k++, number++) {
                    Size offset = ((i * p->size[1] + j) * p->size[2] + k) * p->step;
                    Vector value = load_kind(x + offset * size, n, half);
                    /* As torch does: the first of equals, and NaN before all. */
                    Vector more = _mm256_or_ps(_mm256_cmp_ps(value, most, _CMP_GT_OQ),
                                               _mm256_cmp_ps(value, value, _CMP_UNORD_Q));
                    most = _mm256_blendv_ps(most, value, more);
                    code = _mm256_blendv_epi8(code, _mm256_set1_epi32(number),
                                              _mm256_castps_si256(more));
                }
        store_kind(y, n, half, most);
        if (!codes) continue;
        if (p->mask) { /* `number` is now beyond the window */
            Vector open = _mm256_cmp_ps(most, _mm256_setzero_ps(), _CMP_GT_OQ);
            code = _mm256_blendv_epi8(_mm256_set1_epi32(number), code, _mm256_castps_si256(open));
        }
        __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(code),
                                         _mm256_extracti128_si256(code, 1));
        _mm_storel_epi64((__m128i *)(codes + n), _mm_packus_epi16(words, words));
    }
}

INLINE void unpool_position(const Pooling *p, const char *y, char *x, const uint8_t *codes,
                            int half) {
    Size size = half ? 2 : 4;
    for (Size n = 0; n < p->channels; n += LANES) {
        Vector gradient = load_kind(y, n, half);
        __m256i code = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(codes + n)));
        int32_t number = 0;
        for (Size i = 0; i < p->kernel[0]; i++)
            for (Size j = 0; j < p->kernel[1]; j++)
                for (Size k = 0; k < p->kernel[2]; k++, number++) {
                    Size offset = ((i * p->size[1] + j) * p->size[2] + k) * p->step;
                    __m256i here = _mm256_cmpeq_epi32(code, _mm256_set1_epi32(number));
                    Vector value = _mm256_and_ps(gradient, _mm256_castsi256_ps(here));
                    store_kind(x + offset * size, n, half, value);
                }
    }
}

#endif
#endif
