/* Direct 3x3 convolutions with padding 1, from few channels and to few outputs, where Winograd's
 * transforms would take longer than its products. */
#include "products.h"

#if HAS_KERNELS

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
TARGET void convolve_from_few(const Convolution *c, Size first, Size last) {
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
TARGET void convolve_to_few(const Convolution *c, Size first, Size last) {
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

#endif
