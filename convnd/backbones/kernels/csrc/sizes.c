/* How a convolution is computed, and the memory that it needs. */
#include "kernels.h"

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
Size pooled_windows(Size block, const Size kernel[3]) {
    Size windows = block / (kernel[0] * kernel[1] * kernel[2]);
    return windows > 1 ? windows : 1;
}

Size pooled_rows(Size block, const Size kernel[3]) {
    return kernel[0] * kernel[1] * round_up(pooled_windows(block, kernel) * kernel[2], ROWS);
}

/* How a convolution is computed whose kernel is `width` wide. */
int algorithm(Size width, Size channels, Size outputs) {
    if (width == 1) return MATRIX;
    if (channels <= FEW) return FROM_FEW;
    return outputs <= FEW ? TO_FEW : WINOGRAD;
}

Size scratch_floats(int kind, Size channels, Size outputs, Size block) {
    if (kind == FROM_FEW) return scratch_floats_from_few(channels, outputs, block);
    if (kind == TO_FEW) return scratch_floats_to_few(channels, outputs, block);
    if (kind == WINOGRAD) return scratch_floats_3x3(channels, block);
    return scratch_floats_1x1(channels, outputs, block);
}

Size kernel_floats(int kind, Size channels, Size outputs) {
    if (kind == FROM_FEW) return TAPS * TAPS * channels * round_up(outputs, PANEL);
    if (kind == TO_FEW) return channels * round_up(TAPS * TAPS * outputs, PANEL);
    if (kind == WINOGRAD) return POINTS * round_up(channels, LANES) * round_up(outputs, PANEL);
    return channels * round_up(outputs, PANEL);
}
