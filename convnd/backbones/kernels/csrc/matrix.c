/* A 1x1 convolution, which is a product of matrices. */
#include "products.h"

#if HAS_KERNELS

/* `points` matrices (rows, columns) side by side: to (panels, rows, 16). */
TARGET void pack_matrix(const float *taps, Size points, Size rows, Size columns, float *kernel) {
    for (Size panel = 0; panel < points * columns; panel += PANEL)
        for (Size row = 0; row < rows; row++)
            for (Size n = panel; n < panel + PANEL; n++) {
                Size point = n / columns;
                *kernel++ = point < points ? taps[(point * rows + row) * columns + n % columns] : 0;
            }
}

/* Positions [first, last) and panels [panel, end) of a 1x1 convolution. */
TARGET void multiply(const Convolution *c, Size first, Size last, Size panel, Size end) {
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

#endif
