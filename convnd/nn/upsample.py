"""Interpolation by torch's rules over any number of axes."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from convnd.errors import ShapeError, UsageError
from convnd.nn._native import NATIVE, NO_NODE, apply_separably, check_batched, trace_as_leaf
from convnd.nn._scripting import is_scripting, script_interpolate
from convnd.nn.resize import scale_factors
from convnd.registry import check_name
from convnd.shapes import ntuple

__all__ = ["INTERPOLATION_MODES", "UpsampleNd", "interpolate_nd"]

INTERPOLATION_MODES = {
    "nearest": "nearest",
    "nearest-exact": "nearest-exact",
    "linear": "bilinear",
    "cubic": "bicubic",
    "area": "area",
}
"""Modes of `interpolate_nd`, and torch's names of their operators of two axes. Torch's other names
(``"bilinear"``, ``"trilinear"``, ``"bicubic"``) mean the same."""

_ALIASES = {"bilinear": "linear", "trilinear": "linear", "bicubic": "cubic"}


def interpolate_nd(
    x: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
) -> Tensor:
    """Interpolate as `torch.nn.functional.interpolate`, for any number of axes.

    Arguments, their order and their defaults are torch's.

    Args:
        x: ``(B, C, *S)``, any number of spatial axes.
        size: samples of the result along each axis: one number, or one per axis.
        scale_factor: factor of the size, one for all axes or one per axis, instead of ``size``; the
            resulting size is rounded down.
        mode: one of `INTERPOLATION_MODES`.
        align_corners: for ``"linear"`` and ``"cubic"``, whether the first and last samples keep
            their places; else the outer borders of their cells do.
        recompute_scale_factor: whether positions are computed from the sizes instead of
            ``scale_factor``; rounding makes the two differ.

    Returns:
        ``(B, C, *S')``.

    Raises:
        UnknownNameError: no such mode.
        UsageError: both or neither of size and scale are given, a factor is not positive, or
            ``align_corners`` is given with another mode.
        ShapeError: the numbers do not fit the axes of ``x``, or leave no sample.

    All modes are separable, so torch's operators of two axes process two axes at a time. For
    shrinking without aliasing, see `convnd.nn.resize_nd`.

    >>> import torch
    >>> interpolate_nd(torch.tensor([[[1.0, 3.0]]]), scale_factor=2).tolist()
    [[[1.0, 1.0, 3.0, 3.0]]]
    """
    if has_torch_function_unary(x):
        options = size, scale_factor, mode, align_corners, recompute_scale_factor
        result: Tensor = handle_torch_function(interpolate_nd, (x,), x, *options)
        return result
    mode = _ALIASES.get(mode, mode)
    check_name("interpolate: mode", mode, INTERPOLATION_MODES)
    ndim = max(1, x.ndim - 2)
    check_batched("interpolate", x, ndim)
    if align_corners is not None and mode not in ("linear", "cubic"):
        raise UsageError(
            "interpolate",
            expected=f"no align_corners with mode {mode}",
            got=align_corners,
            remedy="leave it out, or use linear or cubic",
        )
    sizes, factors = _target(tuple(x.shape[2:]), size, scale_factor)
    factors = None if recompute_scale_factor else factors
    name = _native_name(mode, ndim)
    if name:
        return F.interpolate(x, None if factors else sizes, factors, name, align_corners)
    return _interpolate_separably(x, sizes, factors, mode, align_corners)


def _interpolate_separably(
    x: Tensor,
    sizes: tuple[int, ...],
    factors: list[float] | None,
    mode: str,
    align_corners: bool | None,
) -> Tensor:
    """Interpolate with torch's operators of two axes."""

    def apply(part: Tensor, axes: tuple[int | None, ...]) -> Tensor:
        extents = part.shape[2:]
        target, scale = None, None
        if factors is None:
            target = [
                extent if axis is None else sizes[axis]
                for axis, extent in zip(axes, extents, strict=True)
            ]
        else:
            scale = [1.0 if axis is None else factors[axis] for axis in axes]
        return F.interpolate(part, target, scale, INTERPOLATION_MODES[mode], align_corners)

    if len(sizes) == 1:
        return apply(x.unsqueeze(2), (None, 0)).squeeze(2)
    return apply_separably(x, apply, max_rank=2)


def _native_name(mode: str, ndim: int) -> str | None:
    """Torch's name of a mode in a rank; None where torch has none."""
    names = {"linear": {1: "linear", 2: "bilinear", 3: "trilinear"}, "cubic": {2: "bicubic"}}
    return names[mode].get(ndim) if mode in names else mode if ndim in NATIVE else None


def _target(
    shape: tuple[int, ...], size: int | Sequence[int] | None, factor: float | Sequence[float] | None
) -> tuple[tuple[int, ...], list[float] | None]:
    """Return the size of the result, and the factors; None for the factors if a size is given."""
    factors = scale_factors("interpolate", "scale_factor", len(shape), size, factor)
    if factors is None:
        assert size is not None
        return ntuple(size, len(shape), "interpolate: size"), None
    sizes = tuple(int(samples * number) for samples, number in zip(shape, factors, strict=True))
    if min(sizes) < 1:
        raise ShapeError(
            "interpolate",
            expected="at least one sample along each axis",
            got=f"{sizes} from {shape} times {factor}",
            remedy="use a larger scale_factor, or give size",
        )
    return sizes, factors


class UpsampleNd(nn.Module):
    """`interpolate_nd` as a module; arguments and attributes are those of torch's ``Upsample``.

    Args:
        size: samples of the result along each axis: one number, or one per axis.
        scale_factor: factor of the size, one for all axes or one per axis, instead of ``size``.
        mode: one of `INTERPOLATION_MODES`.
        align_corners: whether the first and last samples keep their places, see `interpolate_nd`.
        recompute_scale_factor: whether positions are computed from the sizes, see `interpolate_nd`.
        spatial_dims: number of spatial axes.

    Raises:
        UnknownNameError: no such mode.
        UsageError: see `interpolate_nd`.
        ShapeError: the input has another rank.

    >>> import torch
    >>> UpsampleNd(scale_factor=2, spatial_dims=4)(torch.zeros(1, 1, 2, 2, 2, 3)).shape
    torch.Size([1, 1, 4, 4, 4, 6])
    """

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        scale_factor: float | Sequence[float] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
        *,
        spatial_dims: int,
    ) -> None:
        super().__init__()
        self.spatial_dims = ntuple(spatial_dims, 1, "spatial_dims")[0]
        check_name("UpsampleNd: mode", mode, [*INTERPOLATION_MODES, *_ALIASES])
        _target((2**30,) * self.spatial_dims, size, scale_factor)  # checks the arguments
        self.size = tuple(size) if isinstance(size, Sequence) else size
        factors = scale_factor
        self.scale_factor = tuple(factors) if isinstance(factors, Sequence) else factors
        self.mode, self.align_corners = mode, align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, *S)`` to ``(B, C, *S')``."""
        if is_scripting():
            y = script_interpolate(
                x,
                self._script_size,
                self._script_factors,
                self._script_mode,
                self.align_corners,
                self.recompute_scale_factor,
            )
        else:
            y = trace_as_leaf(self, x) if has_torch_function_unary(x) else NO_NODE
            if y is None:
                if not has_torch_function_unary(x):
                    check_batched("UpsampleNd", x, self.spatial_dims)
                y = interpolate_nd(
                    x,
                    self.size,
                    self.scale_factor,
                    self.mode,
                    self.align_corners,
                    self.recompute_scale_factor,
                )
        return y

    def __prepare_scriptable__(self) -> UpsampleNd:
        """Store sizes, factors and mode in plain types; called by ``torch.jit.script``."""
        shape = (2**30,) * self.spatial_dims
        sizes, factors = _target(shape, self.size, self.scale_factor)
        self._script_size = [0] if factors is not None else list(sizes)
        self._script_factors = [0.0] if factors is None else factors
        self._script_mode = INTERPOLATION_MODES[_ALIASES.get(self.mode, self.mode)]
        return self

    def extra_repr(self) -> str:
        """The arguments, for ``print``."""
        target = f"size={self.size}" if self.size else f"scale_factor={self.scale_factor}"
        return f"{target}, mode={self.mode!r}, spatial_dims={self.spatial_dims}"
