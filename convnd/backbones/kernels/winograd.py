"""Convolution with fewer multiplications, for 3-wide kernels in float32 on CPUs."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from convnd.errors import ShapeError

__all__ = ["empty_channels_last", "scratch", "winograd_conv_nd", "winograd_is_faster"]

# F(4, 3) of Winograd (1980), as given for networks by Lavin and Gray (2016), section 4.3: from 6
# samples and 3 taps to 4 outputs by 6 products instead of 12, with points 0, ±1, ±2 and infinity.
_TILE, _PATCH = 4, 6  # outputs of a tile along an axis, and the samples that they depend on
_DATA = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_TAPS = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))

# Numbers in one block of transformed data, which must stay in the cache from its transform to its
# product. With 2 MiB of second-level cache, half and twice as many were measured as equally fast.
_BLOCK = 36 * 128 * 256


def winograd_is_faster(size: tuple[int, ...], in_channels: int, out_channels: int) -> bool:
    """Whether `winograd_conv_nd` is likely to be faster than the direct convolution.

    The cost of the transforms grows with the number of channels, and the multiplications that they
    save grow with its square. So with few channels, or few tiles, the direct convolution is as
    fast. The thresholds were measured.

    Args:
        size: extent of each spatial axis that is longer than 1.
        in_channels: channels of the input.
        out_channels: channels of the output.

    >>> winograd_is_faster((64, 64), 512, 512), winograd_is_faster((512, 512), 3, 64)
    (True, False)
    """
    tiles = math.prod(-(-extent // _TILE) for extent in size[-2:])
    if not size or len(size) > 3 or tiles * math.prod(size[:-2]) < 16:
        return False
    mean = 2 * in_channels * out_channels / (in_channels + out_channels)  # harmonic
    return mean >= {1: 108.8, 2: 81.6, 3: 27.2}[len(size)]


def winograd_conv_nd(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    adjoint: bool = False,
    mask: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    r"""Convolve with a 3-wide kernel and zero padding 1, by Winograd's algorithm.

    Along two axes (one in 1-D), patches of 6 samples are transformed, multiplied by the transformed
    kernel, and transformed back to tiles of 4 outputs,

    .. math:: Y = A^T \left[ (G g G^T) \odot (B^T d B) \right] A

    which takes a quarter of the multiplications (half in 1-D). Along a third axis the three taps of
    the kernel are summed directly. In exact arithmetic this is the convolution. In float32 its
    rounding error was measured as 3 to 5 times that of the direct sum, about 1e-6 of the result.
    The function itself is not differentiable; `frozen_conv` is.

    Args:
        x: ``(B, C, *S)``, one to three axes, float32; fastest with channels innermost in memory.
        weight: ``(O, C, *K)``, 3 wide along each axis; fastest as ``(*K, C, O)`` in memory.
        bias: ``(O,)``.
        adjoint: whether to apply the transposed map from ``(B, O, *S)`` to ``(B, C, *S)``, which
            computes the gradient.
        mask: boolean, of the shape of ``x``; where it is False, ``x`` counts as 0.
        relu: whether the result is ``max(0, y)``.

    Returns:
        ``(B, O, *S)``, or ``(B, C, *S)`` for the adjoint, channels innermost in memory.

    Raises:
        ShapeError: another kernel width, rank or number of channels.

    S. Winograd, Arithmetic Complexity of Computations (1980); A. Lavin and S. Gray, Fast
    algorithms for convolutional neural networks, CVPR 2016.

    >>> x = torch.arange(5.0).view(1, 1, 5)
    >>> winograd_conv_nd(x, torch.ones(1, 1, 3)).round(decimals=4)
    tensor([[[1., 3., 6., 9., 7.]]])
    """
    ndim = weight.ndim - 2
    channels = weight.shape[0 if adjoint else 1]
    _check_shapes(x, weight, channels)
    axes = min(ndim, 2)
    taps = _transform_taps(weight, axes, adjoint)  # (3^(N - axes), 6^axes, C, O)
    shape = (x.shape[0], *[1] * (3 - ndim), *x.shape[2:])  # (B, D, H, W)
    convolution = _BlockedConvolution(shape[1:], axes, taps, bias, relu)
    rows = x.movedim(1, -1).reshape(*shape, channels)
    masks = None if mask is None else mask.movedim(1, -1).reshape(*shape, channels)
    y = empty_channels_last(x, taps.shape[-1])
    out = y.movedim(1, -1).view(*shape, -1)
    for item in range(x.shape[0]):
        convolution.run(rows[item], None if masks is None else masks[item], out[item])
    return y


def _check_shapes(x: Tensor, weight: Tensor, channels: int) -> None:
    ndim = weight.ndim - 2
    if set(weight.shape[2:]) != {3} or ndim > 3 or x.ndim != ndim + 2 or x.shape[1] != channels:
        raise ShapeError(
            "winograd_conv_nd",
            expected=f"1 to 3 axes with 3 taps and x with {channels} channels",
            got=f"x {tuple(x.shape)} and weight {tuple(weight.shape)}",
            remedy="use conv_nd",
        )


def empty_channels_last(like: Tensor, channels: int, size: Sequence[int] | None = None) -> Tensor:
    """Allocate ``(B, channels, *S)`` with channels innermost in memory, not as a view.

    Automatic differentiation adds gradients in place only if they are not views.

    Args:
        like: tensor ``(B, C, *S)`` that gives number format, device and number of items.
        channels: number of channels.
        size: extent along each axis; None is that of ``like``.
    """
    batch, size = like.shape[0], like.shape[2:] if size is None else size
    steps = [channels]
    for extent in reversed(size[1:]):
        steps.insert(0, steps[0] * extent)
    strides = (steps[0] * size[0], 1, *steps)
    return torch.empty_strided(
        (batch, channels, *size), strides, dtype=like.dtype, device=like.device
    )


def _transform_taps(weight: Tensor, axes: int, adjoint: bool) -> Tensor:
    split = 2 + (weight.ndim - 2 - axes)
    # (*K, C, O); contiguous if the backbone's weights have that layout, see `Precision.apply`.
    taps = weight.movedim((1, 0), (-2, -1))
    channels = taps.shape[-2:]
    matrix = _kron(_TAPS, axes)
    if adjoint:  # the taps in reverse order
        matrix = matrix.flip(1)
        lead = tuple(range(split - 2))
        taps = taps.flip(lead) if lead else taps
    taps = taps.reshape(-1, 3**axes, channels.numel())
    result = scratch("taps", taps, len(taps), _PATCH**axes, taps.shape[-1])
    torch.matmul(matrix.expand(len(taps), -1, -1), taps, out=result)
    result = result.view(-1, _PATCH**axes, *channels)
    return result.mT if adjoint else result


class _BlockedConvolution:
    """The convolution of one item in blocks of tiles, with the buffers that it needs."""

    def __init__(
        self, size: tuple[int, ...], axes: int, taps: Tensor, bias: Tensor | None, relu: bool
    ) -> None:
        self.depth, self.height, self.width = size
        self.taps, self.bias, self.relu = taps, bias, relu
        channels, outputs = taps.shape[-2:]
        products = _PATCH**axes
        # If the height is not tiled, each of its rows counts as a tile.
        self.step, self.margin = (_TILE, 1) if axes == 2 else (1, 0)
        limit = max(1, _BLOCK // (products * max(channels, outputs)))
        # Tiles of a block along the width and along the height.
        self.across = min(-(-self.width // _TILE), limit)
        self.down = min(-(-self.height // self.step), max(1, limit // self.across))
        tiles = self.down * self.across
        reach = self.down * self.step + 2 * self.margin
        self.window = scratch("window", taps, reach, self.across * _TILE + 2, channels)
        self.gathered = scratch("gathered", taps, products, tiles, channels)
        slots = 3 if len(taps) > 1 else 1
        data = scratch("data", taps, slots, products, tiles, channels)
        self.data = list(data.unbind())
        self.multiplied = scratch("multiplied", taps, products, tiles, outputs)
        self.output = scratch("output", taps, self.step * _TILE, tiles * outputs)
        self.to_data, self.to_output = _kron(_DATA, axes), _kron(_OUTPUT, axes)

    def run(self, x: Tensor, mask: Tensor | None, out: Tensor) -> None:
        """Convolve ``x`` ``(D, H, W, C)``, masked by ``mask``, into ``out`` ``(D, H, W, O)``."""
        for top in range(0, self.height, self.down * self.step):
            for left in range(0, self.width, self.across * _TILE):
                self._column(x, mask, out, top, left)

    def _column(self, x: Tensor, mask: Tensor | None, out: Tensor, top: int, left: int) -> None:
        """Convolve the block that starts at ``(top, left)``, slice by slice along the depth."""
        half = len(self.taps) // 2  # taps on either side along the depth, 0 or 1
        slots = len(self.data)
        for depth in range(-half, self.depth):
            newest = depth + half  # the buffers hold the slices depth - half … depth + half
            if newest < self.depth:
                slice_mask = None if mask is None else mask[newest]
                self._transform(x[newest], slice_mask, top, left, self.data[newest % slots])
            if depth < 0:
                continue
            torch.bmm(self.data[depth % slots], self.taps[half], out=self.multiplied)
            for shift in (-half, half) if half else ():
                if 0 <= depth + shift < self.depth:
                    source = self.data[(depth + shift) % slots]
                    self.multiplied.baddbmm_(source, self.taps[half + shift])
            self._finish(out[depth], top, left)

    def _transform(self, x: Tensor, mask: Tensor | None, top: int, left: int, data: Tensor) -> None:
        """Transform the patches of a block of a slice ``(H, W, C)``, padded with zeros."""
        reach, width, channels = self.window.shape
        inner, borders = [], []  # for each axis: slices of x and window, and what lies outside of x
        for first, length, extent in (
            (top - self.margin, reach, self.height),
            (left - 1, width, self.width),
        ):
            low, high = max(first, 0), min(first + length, extent)
            inner.append((slice(low, high), slice(low - first, high - first)))
            borders.append((slice(0, low - first), slice(high - first, length)))
        (rows, window_rows), (columns, window_columns) = inner
        target = self.window[window_rows, window_columns]
        if mask is None:
            target.copy_(x[rows, columns])
        else:
            torch.mul(x[rows, columns], mask[rows, columns], out=target)
        for border in borders[0]:
            self.window[border].zero_()
        for border in borders[1]:
            self.window[:, border].zero_()
        line, sample, last = self.window.stride()
        shape: tuple[int, ...] = (_PATCH, self.down, self.across, channels)
        strides: tuple[int, ...] = (sample, self.step * line, _TILE * sample, last)
        if self.margin:
            shape, strides = (_PATCH, *shape), (line, *strides)
        self.gathered.view(shape).copy_(self.window.as_strided(shape, strides))
        products = len(self.gathered)
        torch.mm(self.to_data, self.gathered.view(products, -1), out=data.view(products, -1))

    def _finish(self, out: Tensor, top: int, left: int) -> None:
        """Transform products to outputs, and copy these into a slice ``(H, W, O)``."""
        products = len(self.multiplied)
        torch.mm(self.to_output, self.multiplied.view(products, -1), out=self.output)
        channels = out.shape[-1]
        y = self.output.view(self.step, _TILE, self.down, self.across, channels)
        if self.bias is not None:
            y.add_(self.bias)
        if self.relu:
            y.clamp_min_(0)
        tiles = y.permute(2, 0, 3, 1, 4)  # (down, step, across, tile, O)
        high, wide = self.down * self.step, self.across * _TILE
        target = out[top : top + high, left : left + wide]
        if target.shape[:2] == (high, wide):
            line, sample, last = out.stride()
            strides = (self.step * line, line, _TILE * sample, sample, last)
            target.as_strided(tiles.shape, strides, target.storage_offset()).copy_(tiles)
        else:
            image = tiles.reshape(high, wide, channels)
            target.copy_(image[: target.shape[0], : target.shape[1]])


class _Scratch(threading.local):
    """Buffers of a thread, reused from call to call, since the system clears new pages slowly."""

    def __init__(self) -> None:
        self.buffers: dict[str, Tensor] = {}


_SCRATCH = _Scratch()


def scratch(name: str, like: Tensor, *shape: int) -> Tensor:
    """Return a buffer of this thread, enlarged if it is too small.

    Args:
        name: name of the buffer.
        like: tensor that gives number format and device of a new buffer.
        shape: shape of the result.
    """
    count = math.prod(shape)
    buffer = _SCRATCH.buffers.get(name)
    if buffer is None or buffer.numel() < count:
        _SCRATCH.buffers.pop(name, None)  # free the old one before the new one is allocated
        buffer = _SCRATCH.buffers[name] = like.new_empty(count)
    return buffer[:count].view(shape)


@cache
def _kron(rows: tuple[tuple[float, ...], ...], axes: int) -> Tensor:
    """Return the matrix of a transform along one axis, or along two at once."""
    matrix = torch.tensor(rows, dtype=torch.float64)
    return (torch.kron(matrix, matrix) if axes == 2 else matrix).float()
