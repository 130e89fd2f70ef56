"""Resampling to another size, over any number of axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary

from convnd.errors import ShapeError, UsageError
from convnd.nn._native import apply_separably, check_batched
from convnd.nn._rounding import in_floating_point, to_type
from convnd.nn.pad import wrapped_crop
from convnd.registry import check_name
from convnd.shapes import ntuple

__all__ = ["RESIZE_MODES", "resize_nd", "resize_period", "scale_factors"]

RESIZE_MODES = {
    "nearest": "nearest-exact",
    "linear": "bilinear",
    "cubic": "bicubic",
    "area": "area",
}
"""Names of the resampling modes, and torch's names of their operators of two axes."""


def resize_nd(
    x: Tensor,
    size: int | Sequence[int] | None = None,
    *,
    scale: float | Sequence[float] | None = None,
    mode: str = "linear",
    antialias: bool = True,
) -> Tensor:
    """Resample to another number of samples along each axis, with the same field of view.

    A sample represents a cell: the centre of cell ``i`` of S lies at ``(i + ½) / S`` of the extent
    (``align_corners=False``).

    Args:
        x: ``(B, C, *S)``, any number of spatial axes.
        size: samples of the result along each axis: one number, or one per axis.
        scale: factor of the size, one for all axes or one per axis, instead of ``size``; the
            resulting size is rounded, and at least 1.
        mode: one of `RESIZE_MODES`: nearest sample, linear or cubic interpolation, or the mean of
            the samples that a new cell overlaps.
        antialias: whether linear and cubic interpolation widen their kernel when shrinking, so
            that detail finer than the new samples is averaged and not aliased. As in torch and
            Pillow, the cubic kernel then is that of Keys (1981), a = −½, also when enlarging;
            without it, torch uses a = −¾.

    Returns:
        ``(B, C, *size)``, of the type of ``x``; ``x`` itself if the size is the same.

    Raises:
        UsageError: both or neither of size and scale are given, or a scale is not positive.
        UnknownNameError: no such mode.
        ShapeError: the size does not fit the axes of ``x``.

    All four modes are separable, so torch's 2-D operators process two axes at a time, for any rank.
    Results are deterministic; on CUDA torch's gradients are not.

    >>> resize_nd(torch.arange(4.0).view(1, 1, 4), 2, mode="area").tolist()
    [[[0.5, 2.5]]]
    """
    if has_torch_function_unary(x):
        result: Tensor = handle_torch_function(
            resize_nd, (x,), x, size, scale=scale, mode=mode, antialias=antialias
        )
        return result
    check_name("resize: mode", mode, RESIZE_MODES)
    ndim = x.ndim - 2
    check_batched("resize", x, max(1, ndim))
    target = _target(tuple(x.shape[2:]), size, scale)
    if target == tuple(x.shape[2:]):
        return x
    return _resample(x, target, mode, antialias=antialias and mode in ("linear", "cubic"))


def _resample(x: Tensor, target: tuple[int, ...], mode: str, *, antialias: bool) -> Tensor:
    """Resample with torch's operators of two axes."""

    def apply(part: Tensor, axes: tuple[int | None, ...]) -> Tensor:
        part_size = [
            samples if axis is None else target[axis]
            for axis, samples in zip(axes, part.shape[2:], strict=True)
        ]
        if part_size == list(part.shape[2:]):
            return part
        # If the last axis becomes 1 long, torch 2.13 wrongly repeats one value along the other.
        swap = antialias and part_size[1] == 1
        part, part_size = (part.mT, part_size[::-1]) if swap else (part, part_size)
        y = F.interpolate(part, part_size, mode=RESIZE_MODES[mode], antialias=antialias)
        return y.mT if swap else y

    y = x if mode == "nearest" else in_floating_point(x)
    # Torch's antialiased operators do not support 16-bit types.
    y = y.float() if antialias and y.element_size() < 4 else y
    if len(target) == 1:
        y = apply(y[:, :, None], (None, 0))[:, :, 0]
    else:
        y = apply_separably(y, apply, max_rank=2)
    return to_type(y, x.dtype)


def _target(
    shape: tuple[int, ...], size: int | Sequence[int] | None, scale: float | Sequence[float] | None
) -> tuple[int, ...]:
    factors = scale_factors("resize", "scale", len(shape), size, scale)
    if factors is None:
        assert size is not None
        return ntuple(size, len(shape), "resize: size")
    return tuple(
        max(1, round(samples * factor)) for samples, factor in zip(shape, factors, strict=True)
    )


def resize_period(
    x: Tensor, size: Sequence[int], *, mode: str = "linear", antialias: bool = True
) -> Tensor:
    """Resample one period of a periodic field: `resize_nd` that reads across the border.

    Args:
        x: one period ``(B, C, *S)``.
        size: samples of the result along each axis.
        mode: one of `RESIZE_MODES`.
        antialias: as for `resize_nd`.

    Returns:
        ``(B, C, *size)``.

    >>> import torch
    >>> resize_period(torch.tensor([[[0.0, 4.0]]]), [4]).tolist()
    [[[1.0, 1.0, 3.0, 3.0]]]
    """
    crop, padded_size, starts = [], [], []
    for extent, new_extent in zip(x.shape[2:], size, strict=True):
        # The margin of a cubic kernel, enlarged to a whole number of new samples.
        step = extent // math.gcd(extent, new_extent)
        reach = 0 if extent == new_extent else 3 * max(1, math.ceil(extent / new_extent))
        margin = math.ceil(reach / step) * step
        start = margin * new_extent // extent
        crop.append(slice(-margin, extent + margin))
        padded_size.append(new_extent + 2 * start)
        starts.append(start)
    resized = resize_nd(wrapped_crop(x, crop), padded_size, mode=mode, antialias=antialias)
    return wrapped_crop(
        resized, [slice(start, start + n) for start, n in zip(starts, size, strict=True)]
    )


def scale_factors(
    operation: str,
    argument: str,
    ndim: int,
    size: int | Sequence[int] | None,
    factor: float | Sequence[float] | None,
) -> list[float] | None:
    """Check size and factor of a resampling, and return one factor per axis.

    Args:
        operation: name of the operation, for messages.
        argument: name of ``factor``, for messages.
        ndim: number of axes.
        size: number of samples of the result, or None.
        factor: one factor, one per axis, or None.

    Returns:
        None if a size is given instead.

    Raises:
        UsageError: both or neither is given, or a factor is not above 0 and finite.
        ShapeError: another number of factors.
    """
    if (size is None) == (factor is None):
        raise UsageError(
            operation,
            expected=f"either size or {argument}",
            got=f"size={size}, {argument}={factor}",
            remedy="give one",
        )
    if factor is None:
        return None
    factors = [float(factor)] * ndim if isinstance(factor, int | float) else list(factor)
    if len(factors) != ndim:
        raise ShapeError(
            operation,
            expected=f"one {argument} or {ndim}",
            got=factor,
            remedy="give one for each axis",
        )
    if not all(0 < number < torch.inf for number in factors):
        raise UsageError(
            operation,
            expected=f"positive finite {argument}",
            got=factor,
            remedy="0.5 halves, 2 doubles",
        )
    return factors
