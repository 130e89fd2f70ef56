/* Convolutions of frozen networks in float32 for x86-64 processors with AVX2 and FMA.
 *
 * `convolve` is a 3x3 convolution with padding 1 by Winograd's algorithm F(4x4, 3x3), see winograd.py
 * for the algorithm and its sources. `convolve_from_few` and `convolve_to_few` are direct
 * ones, from few channels and to few outputs, where Winograd's transforms would take longer than
 * its products. `multiply` is a 1x1 convolution, `multiply_pool` one whose result is pooled at once.
 * `gram` multiplies features by their transpose. Values have their channels innermost: (H, W, C).
 * Every function computes a range of the result, so that the caller divides the work among threads;
 * the bytes do not depend on the division.
 *
 * On other processors, and with other compilers than GCC and Clang, the module exists, and
 * `is_supported` is false.
 */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#define HAS_KERNELS 1
#include <immintrin.h>
#else
#define HAS_KERNELS 0
#endif

typedef Py_ssize_t Size;

enum {
    LANES = 8,   /* floats of a vector */
    ROWS = 6,    /* rows of a product that registers hold; the block of rows is a multiple */
    PANEL = 16,  /* columns of a product that registers hold */
    PAIR = 2,    /* panels between two transforms of the output */
    SLAB = 128,  /* channels of a product whose kernel stays in the first-level cache */
    POINTS = 36, /* products of a tile */
    FEW = 3,     /* channels or outputs of a direct convolution */
    TAPS = 3,    /* of a kernel along an axis */
    GROUP = 3,   /* vectors of columns of a Gram matrix that registers hold */
    STRIP = 4,   /* rows of a Gram matrix that registers hold */
    SPAN = 128,  /* positions of a Gram matrix that are added up in registers */
    SKEW = 16,   /* floats between planes, so that they do not fall on the same cache sets */
};

enum { NO_GATE, BYTE_GATE, FLOAT_GATE };

enum { MATRIX, FROM_FEW, TO_FEW, WINOGRAD };

typedef struct {
    const float *x;      /* (items, height, width, channels) */
    const void *gate;    /* shaped as x: where it is not above 0, x counts as 0 */
    int gate_kind;
    const float *kernel; /* from `pack_3x3` or `pack_matrix` */
    const float *bias;   /* (outputs), or NULL */
    float *out;          /* (items, height, width, outputs) */
    Size height, width, channels, outputs;
    int relu;
    int replicate;       /* the outermost samples repeat beyond the border, instead of zeros */
    Size block;          /* tiles or positions of a block, a multiple of ROWS */
    float *scratch;
} Convolution;

typedef struct {
    char *x;        /* (depth, height, width, channels); backwards, its gradient, written */
    char *y;        /* of the windows, their maxima; backwards, the gradient of these */
    uint8_t *codes; /* number of the maximum in its window, or NULL */
    Size size[3], kernel[3], channels;
    Size step;      /* numbers from one position of x to the next: channels, or more */
    int half;       /* bfloat16 instead of float32 */
    int mask;       /* a maximum that is not above 0 has a number beyond the window */
    int backwards;
} Pooling;

typedef struct {
    const float *x; /* (count, channels); channels are a multiple of LANES */
    float *out;     /* (channels, channels), zero at first */
    Size count, channels;
    float *scratch; /* SPAN * channels */
} Gram;

static Size round_up(Size count, Size step) { return (count + step - 1) / step * step; }

static Size scratch_floats_3x3(Size channels, Size block) {
    Size depth = round_up(channels, LANES), slabs = (depth + SLAB - 1) / SLAB;
    return POINTS * (block * depth + slabs * SKEW) + POINTS * (block * PAIR * PANEL + SKEW)
           + POINTS * depth;
}

static Size scratch_floats_1x1(Size channels, Size outputs, Size block) {
    return block * (channels + round_up(outputs, PANEL));
}

/* Lines of a block with their borders, and products of all panels. */
static Size scratch_floats_from_few(Size channels, Size outputs, Size block) {
    return TAPS * (block + TAPS - 1) * channels + block * round_up(outputs, PANEL);
}

/* A block of data, and the products of three lines. */
static Size scratch_floats_to_few(Size channels, Size outputs, Size block) {
    return block * (channels + TAPS * round_up(TAPS * TAPS * outputs, PANEL));
}

/* Windows of a block that a convolution pools at once, and the rows of their samples. */
static Size pooled_windows(Size block, const Size kernel[3]) {
    Size windows = block / (kernel[0] * kernel[1] * kernel[2]);
    return windows > 1 ? windows : 1;
}

static Size pooled_rows(Size block, const Size kernel[3]) {
    return kernel[0] * kernel[1] * round_up(pooled_windows(block, kernel) * kernel[2], ROWS);
}

/* How a convolution is computed whose kernel is `width` wide. */
static int algorithm(Size width, Size channels, Size outputs) {
    if (width == 1) return MATRIX;
    if (channels <= FEW) return FROM_FEW;
    return outputs <= FEW ? TO_FEW : WINOGRAD;
}

static Size scratch_floats(int kind, Size channels, Size outputs, Size block) {
    if (kind == FROM_FEW) return scratch_floats_from_few(channels, outputs, block);
    if (kind == TO_FEW) return scratch_floats_to_few(channels, outputs, block);
    if (kind == WINOGRAD) return scratch_floats_3x3(channels, block);
    return scratch_floats_1x1(channels, outputs, block);
}

static Size kernel_floats(int kind, Size channels, Size outputs) {
    if (kind == FROM_FEW) return TAPS * TAPS * channels * round_up(outputs, PANEL);
    if (kind == TO_FEW) return channels * round_up(TAPS * TAPS * outputs, PANEL);
    if (kind == WINOGRAD) return POINTS * round_up(channels, LANES) * round_up(outputs, PANEL);
    return channels * round_up(outputs, PANEL);
}

#if HAS_KERNELS

#define TARGET __attribute__((target("avx2,fma")))
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

static float gated_value(const float *x, const void *gate, int kind, Size index) {
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
TARGET static void products(Size rows, Size depth, const float *a, Size a_stride, const float *b,
                            float *m, Size m_stride, int add, const float *ahead) {
    for (Size row = 0; row < rows; row += ROWS, ahead += depth / 8 * PANEL)
        product(depth, a + row * a_stride, a_stride, b, m + row * m_stride, m_stride, add, ahead);
}

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
TARGET static void pack_3x3(const float *taps, Size channels, Size outputs, float *kernel) {
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

/* `points` matrices (rows, columns) side by side: to (panels, rows, 16). */
static void pack_matrix(const float *taps, Size points, Size rows, Size columns, float *kernel) {
    for (Size panel = 0; panel < points * columns; panel += PANEL)
        for (Size row = 0; row < rows; row++)
            for (Size n = panel; n < panel + PANEL; n++) {
                Size point = n / columns;
                *kernel++ = point < points ? taps[(point * rows + row) * columns + n % columns] : 0;
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

static Size clamp(Size place, Size extent) {
    return place < 0 ? 0 : place < extent ? place : extent - 1;
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
TARGET static void convolve(const Convolution *c, Size first, Size last, Size panel, Size end) {
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

/* Copy `count` positions of a line from column `left` on. */
TARGET static void copy_line(const Convolution *c, Size item, Size line, Size left, Size count,
                             float *to) {
    Size depth = c->channels, source = clamp(line, c->height);
    Size start = left < 0 ? -left : 0, stop = c->width - left < count ? c->width - left : count;
    Size index = ((item * c->height + source) * c->width + left) * depth;
    Size n = start * depth, end = stop * depth;
    if (source != line && !c->replicate) {
        memset(to, 0, sizeof(float) * count * depth);
        return;
    }
    memset(to, 0, sizeof(float) * n);
    for (; n + LANES <= end; n += LANES)
        store(to + n, load_gated(c->x, c->gate, c->gate_kind, index + n));
    for (; n < end; n++) to[n] = gated_value(c->x, c->gate, c->gate_kind, index + n);
    memset(to + end, 0, sizeof(float) * (count - stop) * depth);
    if (!c->replicate) return;
    if (start) memcpy(to, to + depth, sizeof(float) * depth);
    if (stop < count) memcpy(to + end, to + end - depth, sizeof(float) * depth);
}

/* Lines [first, last) of all items of a 3x3 convolution from few channels. The three samples under
 * a line of the kernel are neighbours in memory, so that a line of data is a matrix whose rows
 * overlap. */
TARGET static void convolve_from_few(const Convolution *c, Size first, Size last) {
    Size run = TAPS * c->channels, length = (c->block + TAPS - 1) * c->channels;
    Size panels = round_up(c->outputs, PANEL) / PANEL, columns = panels * PANEL;
    float *m = c->scratch + TAPS * length;
    for (; first < last; first++)
        for (Size left = 0; left < c->width; left += c->block) {
            Size count = c->width - left < c->block ? c->width - left : c->block;
            Size rows = round_up(count, ROWS);
            float *out = c->out + (first * c->width + left) * c->outputs;
            for (Size i = 0; i < TAPS; i++)
                copy_line(c, first / c->height, first % c->height + i - 1, left - 1,
                          rows + TAPS - 1, c->scratch + i * length);
            for (Size n = 0; n < panels; n++)
                for (Size i = 0; i < TAPS; i++)
                    products(rows, run, c->scratch + i * length, c->channels,
                             c->kernel + (n * TAPS + i) * run * PANEL, m + n * PANEL, columns,
                             i > 0, out + (n * TAPS + i) * rows / ROWS * PANEL);
            finish_rows(c, m, columns, count, 0, panels, out, c->outputs);
        }
}

/* Outputs of `count` positions of a line, from the products of each sample and all taps. */
INLINE void add_taps(const Convolution *c, const float *lines[TAPS], Size stride, Size count,
                     float *out) {
    float bias[4] = {0}, values[4];
    for (Size n = 0; c->bias && n < c->outputs; n++) bias[n] = c->bias[n];
    __m128 least = _mm256_castps256_ps128(lower_bound(c));
    for (Size p = 0; p < count; p++, out += c->outputs) {
        __m128 y = _mm_loadu_ps(bias);
        for (Size i = 0; i < TAPS; i++)
            for (Size j = 0; j < TAPS; j++)
                y = _mm_add_ps(y, _mm_loadu_ps(lines[i] + (p + j) * stride
                                               + (i * TAPS + j) * c->outputs));
        _mm_storeu_ps(values, _mm_max_ps(least, y)); /* NaN remains, see `finish` */
        for (Size n = 0; n < c->outputs; n++) out[n] = values[n];
    }
}

/* Lines [first, last) of all items of a 3x3 convolution to few outputs. Every sample is multiplied
 * by all taps once, and an output is the sum of the products of its nine samples. A strip of columns
 * goes down the lines, and the products of three lines are kept. */
TARGET static void convolve_to_few(const Convolution *c, Size first, Size last) {
    Size depth = c->channels, strip = c->block - (TAPS - 1), columns = TAPS * TAPS * c->outputs;
    Size panels = round_up(columns, PANEL) / PANEL, stride = panels * PANEL;
    float *m = c->scratch + c->block * depth;
    for (Size stop; first < last; first = stop) {
        Size item = first / c->height, top = first % c->height;
        stop = last < (item + 1) * c->height ? last : (item + 1) * c->height;
        for (Size left = 0; left < c->width; left += strip)
            for (Size line = top - 1; line <= top + stop - first; line++) {
                const float *lines[TAPS]; /* the products of this line are the last */
                for (Size i = 0; i < TAPS; i++)
                    lines[i] = m + (line + 1 + i) % TAPS * c->block * stride;
                Size position = (item * c->height + line) * c->width + left;
                Size count = c->width - left < strip ? c->width - left : strip;
                copy_line(c, item, line, left - 1, c->block, c->scratch);
                multiply_rows(c, c->scratch, c->block, 0, panels, (float *)lines[TAPS - 1],
                              c->x + (position + c->width) * depth, NULL, NULL);
                if (line > top)
                    add_taps(c, lines, stride, count, c->out + (position - c->width) * c->outputs);
            }
    }
}

/* Positions [first, last) and panels [panel, end) of a 1x1 convolution. */
TARGET static void multiply(const Convolution *c, Size first, Size last, Size panel, Size end) {
    Size depth = c->channels, columns = (end - panel) * PANEL;
    float *rows = c->scratch, *m = rows + c->block * depth;
    for (; first < last; first += c->block) {
        Size stop = last - first < c->block ? last : first + c->block, count = stop - first;
        const float *a = c->x + first * depth;
        const float *ahead = c->x + stop * depth, *ahead_end = ahead + c->block * depth;
        if (c->gate_kind != NO_GATE || count % ROWS) {
            Size values = count * depth, n = 0;
            for (; n + LANES <= values; n += LANES)
                store(rows + n, load_gated(c->x, c->gate, c->gate_kind, first * depth + n));
            for (; n < values; n++)
                rows[n] = gated_value(c->x, c->gate, c->gate_kind, first * depth + n);
            memset(rows + values, 0, sizeof(float) * (round_up(count, ROWS) - count) * depth);
            a = rows;
        }
        multiply_rows(c, a, round_up(count, ROWS), panel, end, m, ahead, ahead_end,
                      c->out + first * c->outputs);
        finish_rows(c, m, columns, count, panel, end, c->out + first * c->outputs, c->outputs);
    }
}

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

/* Lines [first, last) of the result, of (depth, height) lines; backwards, of y's gradient. */
TARGET static void pool(const Pooling *p, Size first, Size last) {
    Size height = p->size[1] / p->kernel[1], width = p->size[2] / p->kernel[2];
    Size itemsize = p->half ? 2 : 4;
    for (Size line = first; line < last; line++)
        for (Size column = 0; column < width; column++) {
            Size z = line / height * p->kernel[0], t = line % height * p->kernel[1];
            Size from = ((z * p->size[1] + t) * p->size[2] + column * p->kernel[2]) * p->channels;
            Size to = (line * width + column) * p->channels;
            char *x = p->x + from * itemsize, *y = p->y + to * itemsize;
            uint8_t *codes = p->codes ? p->codes + to : NULL;
            if (p->backwards && p->half) unpool_position(p, y, x, codes, 1);
            else if (p->backwards) unpool_position(p, y, x, codes, 0);
            else if (p->half) pool_position(p, x, y, codes, 1);
            else pool_position(p, x, y, codes, 0);
        }
}

/* Blocks [first, last) of windows of a 1x1 convolution with ReLU that is pooled at once: what is
 * pooled exists for one block only. Backwards, `c` is the adjoint convolution, and its data are the
 * gradients of maxima at their places. */
TARGET static void multiply_pool(const Convolution *c, const Pooling *p, Size first, Size last) {
    Size height = p->size[1] / p->kernel[1], width = p->size[2] / p->kernel[2];
    Size windows = pooled_windows(c->block, p->kernel), across = (width + windows - 1) / windows;
    Size runs = p->kernel[0] * p->kernel[1], depth = c->channels;
    Size panels = round_up(c->outputs, PANEL) / PANEL, columns = panels * PANEL;
    float *m = c->scratch + pooled_rows(c->block, p->kernel) * depth;
    for (; first < last; first++) {
        Size line = first / across, column = first % across * windows;
        Size count = width - column < windows ? width - column : windows;
        Size samples = count * p->kernel[2], rows = round_up(samples, ROWS);
        Size z = line / height * p->kernel[0], t = line % height * p->kernel[1];
        Size start = (line * width + column) * p->channels;
        float *y = (float *)p->y + start;
        uint8_t *codes = p->codes ? p->codes + start : NULL;
        Pooling block = *p; /* the samples of the windows of this block: (runs, rows, channels) */
        block.size[1] = p->kernel[1], block.size[2] = rows;
        if (p->backwards) {
            block.step = depth;
            for (Size n = 0; n < count; n++)
                unpool_position(&block, (char *)(y + n * depth),
                                (char *)(c->scratch + n * p->kernel[2] * depth),
                                codes + n * depth, 0);
        }
        for (Size run = 0; run < runs; run++) {
            Size i = run / p->kernel[1], j = run % p->kernel[1];
            Size position = ((z + i) * p->size[1] + t + j) * p->size[2] + column * p->kernel[2];
            float *data = c->scratch + run * rows * depth, *product = m + run * rows * columns;
            const float *a = c->x + position * depth;
            if (p->backwards) {
                a = data;
            } else if (samples != rows) {
                memcpy(data, a, sizeof(float) * samples * depth);
                a = data;
            }
            if (a == data)
                memset(data + samples * depth, 0, sizeof(float) * (rows - samples) * depth);
            multiply_rows(c, a, rows, 0, panels, product, a + rows * depth, NULL, NULL);
            if (p->backwards)
                finish_rows(c, product, columns, samples, 0, panels,
                            c->out + position * c->outputs, c->outputs);
            else
                finish_rows(c, product, columns, samples, 0, panels, product, columns);
        }
        if (p->backwards) continue;
        block.step = columns;
        for (Size n = 0; n < count; n++)
            pool_position(&block, (char *)(m + n * p->kernel[2] * columns),
                          (char *)(y + n * p->channels), codes ? codes + n * p->channels : NULL, 0);
    }
}

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
TARGET static void gram(const Gram *g, Size first, Size last) {
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

static int is_supported(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

#else

static int is_supported(void) { return 0; }
static void pack_3x3(const float *a, Size b, Size c, float *d) { (void)a, (void)b, (void)c, (void)d; }
static void pack_matrix(const float *a, Size b, Size c, Size d, float *e) {
    (void)a, (void)b, (void)c, (void)d, (void)e;
}
static void convolve(const Convolution *a, Size b, Size c, Size d, Size e) {
    (void)a, (void)b, (void)c, (void)d, (void)e;
}
static void multiply(const Convolution *a, Size b, Size c, Size d, Size e) {
    (void)a, (void)b, (void)c, (void)d, (void)e;
}
static void convolve_from_few(const Convolution *a, Size b, Size c) { (void)a, (void)b, (void)c; }
static void convolve_to_few(const Convolution *a, Size b, Size c) { (void)a, (void)b, (void)c; }
static void multiply_pool(const Convolution *a, const Pooling *b, Size c, Size d) {
    (void)a, (void)b, (void)c, (void)d;
}
static void pool(const Pooling *a, Size b, Size c) { (void)a, (void)b, (void)c; }
static void gram(const Gram *a, Size b, Size c) { (void)a, (void)b, (void)c; }

#endif

static PyObject *py_is_supported(PyObject *self, PyObject *arguments) {
    (void)self, (void)arguments;
    return PyBool_FromLong(is_supported());
}

static PyObject *py_scratch_floats(PyObject *self, PyObject *arguments) {
    Size width, channels, outputs, block;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "nnnn", &width, &channels, &outputs, &block)) return NULL;
    int kind = algorithm(width, channels, outputs);
    return PyLong_FromSsize_t(scratch_floats(kind, channels, outputs, block));
}

static PyObject *py_kernel_floats(PyObject *self, PyObject *arguments) {
    Size width, channels, outputs;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "nnn", &width, &channels, &outputs)) return NULL;
    return PyLong_FromSsize_t(kernel_floats(algorithm(width, channels, outputs), channels, outputs));
}

static PyObject *py_is_direct(PyObject *self, PyObject *arguments) {
    Size width, channels, outputs;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "nnn", &width, &channels, &outputs)) return NULL;
    int kind = algorithm(width, channels, outputs);
    return PyBool_FromLong(kind == FROM_FEW || kind == TO_FEW);
}

static PyObject *py_pack(PyObject *self, PyObject *arguments) {
    Size width, channels, outputs;
    unsigned long long taps_address, kernel_address;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "nKnnK", &width, &taps_address, &channels, &outputs,
                          &kernel_address))
        return NULL;
    const float *taps = (const float *)(uintptr_t)taps_address;
    float *kernel = (float *)(uintptr_t)kernel_address;
    int kind = algorithm(width, channels, outputs);
    Py_BEGIN_ALLOW_THREADS
    if (kind == WINOGRAD) pack_3x3(taps, channels, outputs, kernel);
    else if (kind == TO_FEW) pack_matrix(taps, TAPS * TAPS, channels, outputs, kernel);
    else pack_matrix(taps, 1, width * width * channels, outputs, kernel);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *py_convolve(PyObject *self, PyObject *arguments) {
    Size width, first, last, panel, end;
    unsigned long long x, gate, kernel, bias, out, scratch;
    Convolution c;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "n(KKi)(KK)K(nnnn)(pp)(nnnnn)K", &width, &x, &gate,
                          &c.gate_kind, &kernel, &bias, &out, &c.height, &c.width, &c.channels,
                          &c.outputs, &c.relu, &c.replicate, &first, &last, &panel, &end, &c.block,
                          &scratch))
        return NULL;
    c.x = (const float *)(uintptr_t)x, c.gate = (const void *)(uintptr_t)gate;
    c.kernel = (const float *)(uintptr_t)kernel, c.bias = (const float *)(uintptr_t)bias;
    c.out = (float *)(uintptr_t)out, c.scratch = (float *)(uintptr_t)scratch;
    Py_BEGIN_ALLOW_THREADS
    int kind = algorithm(width, c.channels, c.outputs);
    if (kind == WINOGRAD) convolve(&c, first, last, panel, end);
    else if (kind == FROM_FEW) convolve_from_few(&c, first, last);
    else if (kind == TO_FEW) convolve_to_few(&c, first, last);
    else multiply(&c, first, last, panel, end);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *py_pool(PyObject *self, PyObject *arguments) {
    unsigned long long x, y, codes;
    Size first, last;
    Pooling p;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "(KKK)(nnn)(nnn)nppp(nn)", &x, &y, &codes, &p.size[0],
                          &p.size[1], &p.size[2], &p.kernel[0], &p.kernel[1], &p.kernel[2],
                          &p.channels, &p.half, &p.mask, &p.backwards, &first, &last))
        return NULL;
    p.x = (char *)(uintptr_t)x, p.y = (char *)(uintptr_t)y, p.codes = (uint8_t *)(uintptr_t)codes;
    p.step = p.channels;
    Py_BEGIN_ALLOW_THREADS
    pool(&p, first, last);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *py_pooled_sizes(PyObject *self, PyObject *arguments) {
    Size block, kernel[3], channels, outputs;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "n(nnn)nn", &block, &kernel[0], &kernel[1], &kernel[2],
                          &channels, &outputs))
        return NULL;
    return Py_BuildValue("nn", pooled_windows(block, kernel),
                         scratch_floats_1x1(channels, outputs, pooled_rows(block, kernel)));
}

static PyObject *py_convolve_pool(PyObject *self, PyObject *arguments) {
    unsigned long long x, kernel, bias, y, codes, scratch;
    Size first, last;
    Convolution c = {0};
    Pooling p = {0};
    (void)self;
    if (!PyArg_ParseTuple(arguments, "(KKK)(KK)(nn)(nnn)(nnn)p(nnn)K", &x, &y, &codes, &kernel,
                          &bias, &c.channels, &c.outputs, &p.size[0], &p.size[1], &p.size[2],
                          &p.kernel[0], &p.kernel[1], &p.kernel[2], &p.backwards, &first, &last,
                          &c.block, &scratch))
        return NULL;
    c.x = (const float *)(uintptr_t)x, c.out = (float *)(uintptr_t)x;
    c.kernel = (const float *)(uintptr_t)kernel, c.bias = (const float *)(uintptr_t)bias;
    c.relu = !p.backwards, c.scratch = (float *)(uintptr_t)scratch;
    p.y = (char *)(uintptr_t)y, p.codes = (uint8_t *)(uintptr_t)codes, p.mask = 1;
    p.channels = p.backwards ? c.channels : c.outputs;
    Py_BEGIN_ALLOW_THREADS
    multiply_pool(&c, &p, first, last);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *py_gram(PyObject *self, PyObject *arguments) {
    unsigned long long x, out, scratch;
    Size first, last;
    Gram g;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "KKnnnnK", &x, &out, &g.count, &g.channels, &first, &last,
                          &scratch))
        return NULL;
    g.x = (const float *)(uintptr_t)x, g.out = (float *)(uintptr_t)out;
    g.scratch = (float *)(uintptr_t)scratch;
    Py_BEGIN_ALLOW_THREADS
    gram(&g, first, last);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"is_supported", py_is_supported, METH_NOARGS, NULL},
    {"is_direct", py_is_direct, METH_VARARGS, NULL},
    {"scratch_floats", py_scratch_floats, METH_VARARGS, NULL},
    {"kernel_floats", py_kernel_floats, METH_VARARGS, NULL},
    {"pack", py_pack, METH_VARARGS, NULL},
    {"convolve", py_convolve, METH_VARARGS, NULL},
    {"pooled_sizes", py_pooled_sizes, METH_VARARGS, NULL},
    {"convolve_pool", py_convolve_pool, METH_VARARGS, NULL},
    {"pool", py_pool, METH_VARARGS, NULL},
    {"gram", py_gram, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_native",
                                        "Convolution and pooling compiled from C.", -1, methods,
                                        NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) { return PyModule_Create(&definition); }
