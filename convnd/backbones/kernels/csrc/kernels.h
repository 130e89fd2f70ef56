/* What all sources share: the sizes of blocks, what a computation reads, and its functions.
 *
 * Values have their channels innermost: (H, W, C). Every function computes a range of the result, so
 * that the caller divides the work among threads; the bytes do not depend on the division.
 *
 * On other processors than x86-64, and with other compilers than GCC and Clang, HAS_KERNELS is 0, and
 * the module tells only that nothing is supported.
 */
#ifndef CONVND_KERNELS_H
#define CONVND_KERNELS_H

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#define HAS_KERNELS 1
#define TARGET __attribute__((target("avx2,fma")))
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

enum { NEAREST_ROWS = 96 }; /* queries that are compared at once, a multiple of ROWS */

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

typedef struct {
    const float *queries; /* (queries, channels) */
    const float *keys;    /* from `pack_matrix`, of minus twice the keys (channels, keys) */
    const float *offsets; /* squared length of each key, and infinity up to a whole panel */
    int64_t *rows;        /* (queries), written */
    Size channels, panels;
    float *scratch;       /* NEAREST_ROWS * (channels + 3 * PANEL) */
} Nearest;

static inline Size round_up(Size count, Size step) { return (count + step - 1) / step * step; }

static inline Size clamp(Size place, Size extent) {
    return place < 0 ? 0 : place < extent ? place : extent - 1;
}

/* sizes.c */
int algorithm(Size width, Size channels, Size outputs);
Size scratch_floats(int kind, Size channels, Size outputs, Size block);
Size kernel_floats(int kind, Size channels, Size outputs);
Size pooled_windows(Size block, const Size kernel[3]);
Size pooled_rows(Size block, const Size kernel[3]);

#if HAS_KERNELS

/* winograd.c, direct.c, matrix.c, pooling.c, conv_pool.c, gram.c, nearest.c */
TARGET void pack_3x3(const float *taps, Size channels, Size outputs, float *kernel);
TARGET void convolve(const Convolution *c, Size first, Size last, Size panel, Size end);
TARGET void convolve_from_few(const Convolution *c, Size first, Size last);
TARGET void convolve_to_few(const Convolution *c, Size first, Size last);
TARGET void pack_matrix(const float *taps, Size points, Size rows, Size columns, float *kernel);
TARGET void multiply(const Convolution *c, Size first, Size last, Size panel, Size end);
TARGET void pool(const Pooling *p, Size first, Size last);
TARGET void multiply_pool(const Convolution *c, const Pooling *p, Size first, Size last);
TARGET void gram(const Gram *g, Size first, Size last);
TARGET void find_nearest(const Nearest *n, Size first, Size last);

#endif
#endif
