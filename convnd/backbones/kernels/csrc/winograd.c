/* A 3x3 convolution with padding 1 by Winograd's algorithm F(4x4, 3x3), see winograd.py for the
 * algorithm and its sources. */
#include "products.h"

#if HAS_KERNELS

/* One axis of the transform of data. */
INLINE void data_axis(const Vector d[6], Vector v[6]) {
    Vector even = fused(-4, d[2], d[4]), odd = fused(-4, d[1], d[3]);
    Vector near = _mm256_sub_ps(d[4], d[2]), far = _mm256_sub_ps(d[3], d[1]);
    v[0] = fused(4, d[0], fused(-5, d[2], d[4]));
    v[1] = _mm256_add_ps(even, odd);
    v[2] = _mm256_sub_ps(even, odd);
    v[3] = fused(2, far, near);
    v[4] = fused(-2, far, near);
    v[5] = fused(4, d[1], fused(-5, d[3], d[5]));
}

/* One axis of the transform of products. */
INLINE void output_axis(const Vector m[6], Vector y[4]) {
    Vector s = _mm256_add_ps(m[1], m[2]), d = _mm256_sub_ps(m[1], m[2]);
    Vector t = _mm256_add_ps(m[3], m[4]), e = _mm256_sub_ps(m[3], m[4]);
    y[0] = _mm256_add_ps(m[0], _mm256_add_ps(s, t));
    y[1] = fused(2, e, d);
    y[2] = fused(4, t, s);
    y[3] = _mm256_add_ps(m[5], fused(8, e, d));
}

/* One axis of the transform of taps. */
INLINE void taps_axis(const Vector g[3], Vector u[6]) {
    Vector outer = _mm256_add_ps(g[0], g[2]), wide = fused(4, g[2], g[0]);
    u[0] = scaled(1.f / 4, g[0]);
    u[1] = scaled(-1.f / 6, _mm256_add_ps(outer, g[1]));
    u[2] = scaled(-1.f / 6, _mm256_sub_ps(outer, g[1]));
    u[3] = scaled(1.f / 24, fused(2, g[1], wide));
    u[4] = scaled(1.f / 24, fused(-2, g[1], wide));
    u[5] = g[2];
}

/* Taps (3, 3, channels, outputs) to the order in which `convolve` reads them:
 * (pairs of panels, points, panels of the pair, channels, 16). */
TARGET void pack_3x3(const float *taps, Size channels, Size outputs, float *kernel) {
    Size depth = round_up(channels, LANES), panels = round_up(outputs, PANEL) / PANEL;
    for (Size pair = 0; pair < panels; pair += PAIR) {
        Size count = panels - pair < PAIR ? panels - pair : PAIR;
        float *first = kernel + pair * POINTS * depth * PANEL;
        for (Size c = 0; c < depth; c++)
            for (Size part = 0; part < count * PANEL; part += LANES) {
                Size output = pair * PANEL + part;
                float *to = first + (part / PANEL * depth + c) * PANEL + part % PANEL;
                Vector rows[6][3], column[3], u[6];
                for (int j = 0; j < 3; j++) {
                    for (int i = 0; i < 3; i++) {
                        const float *from = taps + ((i * 3 + j) * channels + c) * outputs + output;
                        float values[LANES] = {0};
                        Size valid = outputs - output < LANES ? outputs - output : LANES;
                        if (c < channels && valid == LANES) {
                            column[i] = load(from);
                        } else {
                            for (Size n = 0; c < channels && n < valid; n++) values[n] = from[n];
                            column[i] = load(values);
                        }
                    }
                    taps_axis(column, u);
                    for (int i = 0; i < 6; i++) rows[i][j] = u[i];
                }
                for (int i = 0; i < 6; i++) {
                    taps_axis(rows[i], u);
                    for (int j = 0; j < 6; j++)
                        store(to + (i * 6 + j) * count * depth * PANEL, u[j]);
                }
            }
    }
}

/* Transform 8 channels of a patch of 6x6 samples, at `index` of x, into 36 planes. */
INLINE void transform_patch(const float *x, const void *gate, int kind, Size index, Size row,
                            Size column, float *data, Size plane) {
    Vector rows[6][6];
    for (int j = 0; j < 6; j++) {
        Vector d[6], v[6];
        for (int i = 0; i < 6; i++)
            d[i] = load_gated(x, gate, kind, index + i * row + j * column);
        data_axis(d, v);
        for (int i = 0; i < 6; i++) rows[i][j] = v[i];
    }
    for (int i = 0; i < 6; i++) {
        Vector v[6];
        data_axis(rows[i], v);
        for (int j = 0; j < 6; j++) store(data + (i * 6 + j) * plane, v[j]);
    }
}

/* Copy a patch that the border cuts, with zeros in channels that do not exist. */
static void copy_patch(const Convolution *c, Size item, Size top, Size left, Size depth,
                       float *patch) {
    memset(patch, 0, sizeof(float) * POINTS * depth);
    for (Size i = 0; i < 6; i++)
        for (Size j = 0; j < 6; j++) {
            Size y = clamp(top + i, c->height), x = clamp(left + j, c->width);
            if (!c->replicate && (y != top + i || x != left + j)) continue;
            Size index = ((item * c->height + y) * c->width + x) * c->channels;
            float *to = patch + (i * 6 + j) * depth;
            for (Size n = 0; n < c->channels; n++)
                to[n] = gated_value(c->x, c->gate, c->gate_kind, index + n);
        }
}

INLINE void transform_tile(const Convolution *c, int kind, const float *x, Size index, Size row,
                           Size column, Size depth, Size slot, float *data) {
    for (Size slab = 0; slab < depth; slab += SLAB) {
        Size wide = depth - slab < SLAB ? depth - slab : SLAB, plane = c->block * wide + SKEW;
        for (Size n = 0; n < wide; n += LANES)
            transform_patch(x, c->gate, kind, index + slab + n, row, column,
                            data + slot * wide + n, plane);
        data += POINTS * plane;
    }
}

/* Transform tiles [first, last) of all items into data, (slabs, 36, block, channels of a slab). */
TARGET static void transform_data(const Convolution *c, Size first, Size last, float *data,
                                  float *patch) {
    Size depth = round_up(c->channels, LANES), across = (c->width + 3) / 4;
    Size tiles = across * ((c->height + 3) / 4);
    for (Size tile = first; tile < last; tile++) {
        Size item = tile / tiles, top = tile % tiles / across * 4 - 1, left = tile % across * 4 - 1;
        Size index = ((item * c->height + top) * c->width + left) * c->channels;
        Size row = c->width * c->channels;
        int inside = top >= 0 && left >= 0 && top + 6 <= c->height && left + 6 <= c->width;
        if (!inside || depth != c->channels) {
            copy_patch(c, item, top, left, depth, patch);
            transform_tile(c, NO_GATE, patch, 0, 6 * depth, depth, depth, tile - first, data);
        } else if (c->gate_kind == BYTE_GATE) {
            transform_tile(c, BYTE_GATE, c->x, index, row, depth, depth, tile - first, data);
        } else if (c->gate_kind == FLOAT_GATE) {
            transform_tile(c, FLOAT_GATE, c->x, index, row, depth, depth, tile - first, data);
        } else {
            transform_tile(c, NO_GATE, c->x, index, row, depth, depth, tile - first, data);
        }
    }
    for (Size slab = 0; slab < depth; slab += SLAB) { /* rows without a tile */
        Size wide = depth - slab < SLAB ? depth - slab : SLAB, plane = c->block * wide + SKEW;
        Size rows = round_up(last - first, ROWS) - (last - first);
        for (Size point = 0; point < POINTS; point++)
            memset(data + point * plane + (last - first) * wide, 0, sizeof(float) * rows * wide);
        data += POINTS * plane;
    }
}

/* Transform the products of tiles [first, last) and `count` panels from `panel` on. */
TARGET static void transform_output(const Convolution *c, Size first, Size last, Size panel,
                                    Size count, const float *m, Size plane) {
    Size across = (c->width + 3) / 4, tiles = across * ((c->height + 3) / 4);
    Vector least = lower_bound(c);
    for (Size tile = first; tile < last; tile++) {
        Size item = tile / tiles, top = tile % tiles / across * 4, left = tile % across * 4;
        Size high = c->height - top < 4 ? c->height - top : 4;
        Size wide = c->width - left < 4 ? c->width - left : 4;
        for (Size n = 0; n < count * PANEL; n += LANES) {
            Size output = panel * PANEL + n;
            if (output >= c->outputs) break;
            const float *from = m + (tile - first) * count * PANEL + n;
            Vector bias = load_bias(c, output), columns[4][6];
            for (int j = 0; j < 6; j++) {
                Vector products[6], y[4];
                for (int i = 0; i < 6; i++) products[i] = load(from + (i * 6 + j) * plane);
                output_axis(products, y);
                for (int i = 0; i < 4; i++) columns[i][j] = y[i];
            }
            for (Size i = 0; i < high; i++) {
                Vector y[4];
                output_axis(columns[i], y);
                float *to = c->out + ((item * c->height + top + i) * c->width + left) * c->outputs + output;
                for (Size j = 0; j < wide; j++)
                    finish(y[j], bias, least, c->outputs - output, to + j * c->outputs);
            }
        }
    }
}

/* Tiles [first, last) and panels [panel, end) of the result; `panel` is even. */
TARGET void convolve(const Convolution *c, Size first, Size last, Size panel, Size end) {
    Size depth = round_up(c->channels, LANES), slabs = (depth + SLAB - 1) / SLAB;
    float *data = c->scratch, *m = data + POINTS * (c->block * depth + slabs * SKEW);
    Size m_plane = c->block * PAIR * PANEL + SKEW;
    float *patch = m + POINTS * m_plane;
    for (; first < last; first += c->block) {
        Size stop = last - first < c->block ? last : first + c->block;
        Size rows = round_up(stop - first, ROWS);
        transform_data(c, first, stop, data, patch);
        for (Size pair = panel; pair < end; pair += PAIR) {
            Size count = end - pair < PAIR ? end - pair : PAIR, m_stride = count * PANEL;
            const float *kernel = c->kernel + pair * POINTS * depth * PANEL;
            for (Size point = 0; point < POINTS; point++)
                for (Size n = 0; n < count; n++) {
                    const float *a = data;
                    for (Size slab = 0; slab < depth; slab += SLAB) {
                        Size wide = depth - slab < SLAB ? depth - slab : SLAB;
                        Size plane = c->block * wide + SKEW;
                        products(rows, wide, a + point * plane, wide, kernel,
                                 m + point * m_plane + n * PANEL, m_stride, slab > 0,
                                 kernel + wide * PANEL);
                        a += POINTS * plane, kernel += wide * PANEL;
                    }
                }
            transform_output(c, first, stop, pair, count, m, m_plane);
        }
    }
}

#endif
