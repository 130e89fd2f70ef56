/* A 1x1 convolution with ReLU whose result is pooled at once. */
#include "pooling.h"

#if HAS_KERNELS

/* Blocks [first, last) of windows of a 1x1 convolution with ReLU that is pooled at once: what is
 * pooled exists for one block only. Backwards, `c` is the adjoint convolution, and its data are the
 * gradients of maxima at their places. */
TARGET void multiply_pool(const Convolution *c, const Pooling *p, Size first, Size last) {
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

#endif
