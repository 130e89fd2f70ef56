/* Maximum pooling of lines. */
#include "pooling.h"

#if HAS_KERNELS

/* Lines [first, last) of the result, of (depth, height) lines; backwards, of y's gradient. */
TARGET void pool(const Pooling *p, Size first, Size last) {
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

#endif
