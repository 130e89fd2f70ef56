"""Sampling at any positions of a grid of any number of axes."""

from __future__ import annotations

import itertools
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from convnd.errors import ShapeError
from convnd.nn._native import check_batched
from convnd.nn.transforms import is_transformed
from convnd.registry import check_name

__all__ = ["SAMPLE_MODES", "SAMPLE_PADDING_MODES", "grid_sample_nd"]

SAMPLE_MODES = ("nearest", "linear", "cubic")
"""Modes of `grid_sample_nd`. Torch's names ``"bilinear"`` and ``"bicubic"`` mean the last two."""

SAMPLE_PADDING_MODES = ("zeros", "border", "reflection")
"""Values beyond the border that `grid_sample_nd` reads: zeros, the border sample, or the mirror
image. The names are those of `torch.nn.functional.grid_sample`."""

_ALIASES = {"bilinear": "linear", "trilinear": "linear", "bicubic": "cubic"}
_TORCHS = {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}


def grid_sample_nd(
    x: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    r"""Sample at given positions, as `torch.nn.functional.grid_sample`, for any number of axes.

    .. math:: y_c[n] = \sum_{k} x_c[k] \prod_i w(g_i[n] - k_i)

    with w the kernel of the mode, such as ``max(0, 1 - |t|)``, and g the positions in samples.

    Args:
        x: ``(B, C, *S)``, any number N of spatial axes.
        grid: positions ``(B, *S', N)``. The N numbers of a position begin with that along the last
            axis, as in torch: −1 is the beginning of the axis and 1 its end. NaN means −1.
        mode: one of `SAMPLE_MODES`, or torch's name of it.
        padding_mode: one of `SAMPLE_PADDING_MODES`.
        align_corners: whether −1 and 1 are the first and last samples; else, and by default, they
            are the outer borders of their cells.

    Returns:
        ``(B, C, *S')``.

    Raises:
        UnknownNameError: no such mode.
        ShapeError: the grid does not fit ``x``.

    Torch's operator samples up to three axes. Above, for ``"cubic"`` along three, and under
    ``torch.func``, values are summed over each position's neighbours, 2 or 4 along each axis.

    >>> x = torch.tensor([[[0.0, 10.0, 20.0]]])
    >>> grid_sample_nd(x, torch.tensor([[[-1.0], [0.5]]]), align_corners=True).tolist()
    [[[0.0, 15.0]]]
    """
    if has_torch_function((x, grid)):
        options = mode, padding_mode, align_corners
        result: Tensor = handle_torch_function(grid_sample_nd, (x, grid), x, grid, *options)
        return result
    mode = _ALIASES.get(mode, mode)
    check_name("grid_sample: mode", mode, SAMPLE_MODES)
    check_name("grid_sample: padding_mode", padding_mode, SAMPLE_PADDING_MODES)
    ndim = max(1, x.ndim - 2)
    check_batched("grid_sample", x, ndim)
    if grid.ndim != ndim + 2 or grid.shape[0] != x.shape[0] or grid.shape[-1] != ndim:
        raise ShapeError(
            "grid_sample",
            expected=f"a grid ({x.shape[0]}, *S', {ndim}) of rank {ndim + 2}",
            got=f"shape {tuple(grid.shape)}",
            remedy="give one position for each sample of the result, coordinates last",
        )
    corners = bool(align_corners)
    transformed = is_transformed() and not torch.compiler.is_compiling()
    if transformed or ndim > 3 or (ndim == 3 and mode == "cubic"):
        return _sample(x, grid, mode, padding_mode, align_corners=corners)
    if ndim > 1:
        return F.grid_sample(x, grid, _TORCHS[mode], padding_mode, corners)
    plane = F.pad(grid, (0, 1)).unsqueeze(1)  # 0 is the only sample of the new axis
    return F.grid_sample(x.unsqueeze(2), plane, _TORCHS[mode], padding_mode, corners).squeeze(2)


def _sample(
    x: Tensor, grid: Tensor, mode: str, padding_mode: str, *, align_corners: bool
) -> Tensor:
    """Sum over the neighbours of each position."""
    taps = []
    for extent, positions in zip(x.shape[2:], grid.unbind(-1)[::-1], strict=True):
        scale = extent - 1 if align_corners else extent
        place = (positions.nan_to_num(nan=-1.0) * scale + (extent - 1)) / 2
        taps.append(_taps(place, extent, mode, padding_mode, align_corners=align_corners))
    samples = x.flatten(2)
    channels = samples.shape[1]

    def read(corner: tuple[tuple[Tensor, Tensor], ...]) -> Tensor:
        index, weight = corner[0]
        for extent, (step, factor) in zip(x.shape[3:], corner[1:], strict=True):
            index, weight = index * extent + step, weight * factor
        rows = index.flatten(1).unsqueeze(1).expand(-1, channels, -1)
        values = samples.gather(2, rows).reshape(*samples.shape[:2], *grid.shape[1:-1])
        return values * weight.unsqueeze(1)

    y: Tensor = reduce(torch.add, map(read, itertools.product(*taps)))
    return y.to(x.dtype)


def _taps(
    place: Tensor, extent: int, mode: str, padding_mode: str, *, align_corners: bool
) -> list[tuple[Tensor, Tensor]]:
    """Index and weight of each neighbour along one axis; the weight is 0 beyond the border."""
    if mode != "cubic":  # which moves its neighbours into the axis, and not the position
        place = _inside(place, extent, padding_mode, align_corners=align_corners)
    if mode == "nearest":
        neighbours = [(place.round(), torch.ones_like(place))]
    else:
        first = place.detach().floor()
        part = place - first
        if mode == "linear":
            neighbours = [(first, 1 - part), (first + 1, part)]
        else:
            weights = _cubic_weights(part)
            neighbours = [(first + step, weight) for step, weight in enumerate(weights, start=-1)]
    taps = []
    for position, weight in neighbours:
        if mode == "cubic":
            position = _inside(position, extent, padding_mode, align_corners=align_corners)
        valid = (position >= 0) & (position <= extent - 1)
        index = position.detach().clamp(0, extent - 1).long()
        taps.append((index, torch.where(valid, weight, 0.0)))
    return taps


def _inside(place: Tensor, extent: int, padding_mode: str, *, align_corners: bool) -> Tensor:
    """Move positions beyond the border into the axis, for the padding modes that do."""
    if padding_mode == "zeros":
        return place
    if padding_mode == "reflection":
        low = 0.0 if align_corners else -0.5
        span = extent - 1 - 2 * low
        distance = (place - low).remainder(2 * span or 1.0).nan_to_num(0.0)  # of infinity: 0
        place = low + torch.where(distance > span, 2 * span - distance, distance)
    return place.clamp(0, extent - 1)


def _cubic_weights(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights of the four neighbours at distances 1 + t, t, 1 − t and 2 − t (Keys, a = −¾)."""
    a = -0.75

    def near(d: Tensor) -> Tensor:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Tensor) -> Tensor:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return far(1 + t), near(t), near(1 - t), far(2 - t)
