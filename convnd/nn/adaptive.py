"""Pooling to a fixed number of windows over any number of axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from convnd.nn._native import NATIVE, NO_NODE, apply_separably, cached, check_batched, trace_as_leaf
from convnd.nn._pool_indices import pool_axes_with_indices
from convnd.nn._scripting import is_scripting, script_per_axis
from convnd.shapes import ntuple

__all__ = ["AdaptiveAvgPoolNd", "AdaptiveMaxPoolNd", "adaptive_avg_pool_nd", "adaptive_max_pool_nd"]

Sizes = int | Sequence[int | None] | None
"""Number of windows along each axis, one or one per axis; None keeps the number of samples."""


def adaptive_avg_pool_nd(x: Tensor, output_size: Sizes) -> Tensor:
    r"""Average a fixed number of windows, whatever the size of the input.

    Window ``i`` of ``n`` along an axis of ``S`` samples covers the samples from
    :math:`\lfloor iS/n \rfloor` to :math:`\lceil (i+1)S/n \rceil`, as in torch.

    Args:
        x: ``(B, C, *S)``, any number of spatial axes.
        output_size: windows along each axis: one number, or one per axis; None keeps the samples.

    Returns:
        ``(B, C, *output_size)``.

    Raises:
        ShapeError: the sizes do not fit the axes of ``x``, or are below 1.

    >>> adaptive_avg_pool_nd(torch.arange(16.0).view(1, 1, 2, 2, 2, 2), 1).flatten().tolist()
    [7.5]
    """
    if has_torch_function_unary(x):
        result: Tensor = handle_torch_function(adaptive_avg_pool_nd, (x,), x, output_size)
        return result
    sizes = _sizes("adaptive_avg_pool", tuple(x.shape[2:]), output_size)
    if len(sizes) in NATIVE:
        return NATIVE[len(sizes)].adaptive_avg_pool(x, sizes)

    def apply(part: Tensor, axes: tuple[int | None, ...]) -> Tensor:
        part_sizes = [
            extent if axis is None else sizes[axis]
            for axis, extent in zip(axes, part.shape[2:], strict=True)
        ]
        return NATIVE[len(axes)].adaptive_avg_pool(part, part_sizes)

    return apply_separably(x, apply)


def adaptive_max_pool_nd(x: Tensor, output_size: Sizes, return_indices: bool = False) -> Any:
    """Take the maxima of a fixed number of windows, which are those of `adaptive_avg_pool_nd`.

    Args:
        x: ``(B, C, *S)``, any number of spatial axes.
        output_size: windows along each axis: one number, or one per axis; None keeps the samples.
        return_indices: whether to return the positions of the maxima in ``x.flatten(2)`` too.

    Returns:
        ``(B, C, *output_size)``; with ``return_indices``, also the positions in the same shape.

    Raises:
        ShapeError: the sizes do not fit the axes of ``x``, or are below 1.

    >>> adaptive_max_pool_nd(torch.arange(16.0).view(1, 1, 2, 2, 2, 2), 1).flatten().tolist()
    [15.0]
    """
    if has_torch_function_unary(x):
        options = output_size, return_indices
        return handle_torch_function(adaptive_max_pool_nd, (x,), x, *options)
    sizes = _sizes("adaptive_max_pool", tuple(x.shape[2:]), output_size)
    if len(sizes) in NATIVE:
        values, positions = NATIVE[len(sizes)].adaptive_max_pool(x, sizes)
    else:

        def pool(part: Tensor, axis: int) -> tuple[Tensor, Tensor]:
            return NATIVE[2].adaptive_max_pool(part, (sizes[axis], part.shape[3]))

        values, positions = pool_axes_with_indices(x, pool)
    return (values, positions) if return_indices else values


@cached
def _sizes(operation: str, extents: tuple[int, ...], output_size: Sizes) -> tuple[int, ...]:
    """Number of windows along each axis of a tensor ``(B, C, *extents)``."""
    if not extents:  # raise the error for a tensor without spatial axes
        check_batched(operation, torch.empty((1, 1), device="meta"), 1)
    if output_size is None or isinstance(output_size, int):
        output_size = (output_size,) * len(extents)
    full_size: list[Any] = [
        extents[axis] if count is None and axis < len(extents) else count
        for axis, count in enumerate(output_size)
    ]
    return ntuple(full_size, len(extents), f"{operation} output_size")


class _AdaptivePoolNd(nn.Module):
    """The attributes of an adaptive pooling, with torch's names."""

    kind = ""

    def __init__(self, output_size: Sizes, spatial_dims: int) -> None:
        super().__init__()
        self.spatial_dims = ntuple(spatial_dims, 1, "spatial_dims")[0]
        if not isinstance(output_size, int | None):
            output_size = tuple(output_size)
        self.output_size: Any = output_size
        _sizes(type(self).__name__, (1,) * self.spatial_dims, output_size)  # checks the sizes

    def __prepare_scriptable__(self) -> _AdaptivePoolNd:
        """Store the sizes as a list of numbers; called by ``torch.jit.script``."""
        sizes: Any = self.output_size
        sizes = [sizes] * self.spatial_dims if isinstance(sizes, int | None) else sizes
        self._script_sizes = [0 if count is None else count for count in sizes]
        self._script_kind = self.kind
        return self

    def extra_repr(self) -> str:
        """The arguments, for ``print``."""
        return f"output_size={self.output_size}, spatial_dims={self.spatial_dims}"


class AdaptiveAvgPoolNd(_AdaptivePoolNd):
    """`adaptive_avg_pool_nd` as a module: torch's ``AdaptiveAvgPool1d``, ``2d`` and ``3d``.

    Args:
        output_size: as in `adaptive_avg_pool_nd`.
        spatial_dims: number of spatial axes.

    Raises:
        ShapeError: the sizes do not fit ``spatial_dims``; in `forward`, the input does not.

    >>> AdaptiveAvgPoolNd((2, None), spatial_dims=2)(torch.zeros(1, 3, 5, 7)).shape
    torch.Size([1, 3, 2, 7])
    """

    kind = "avg"

    def __init__(self, output_size: Sizes, *, spatial_dims: int) -> None:
        super().__init__(output_size, spatial_dims)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, *S)`` to ``(B, C, *output_size)``."""
        if is_scripting():
            y = script_per_axis(x, self._script_kind, self._script_sizes)
        else:
            y = trace_as_leaf(self, x) if has_torch_function_unary(x) else NO_NODE
            if y is None:
                if not has_torch_function_unary(x):
                    check_batched("AdaptiveAvgPoolNd", x, self.spatial_dims)
                y = adaptive_avg_pool_nd(x, self.output_size)
        return y


class AdaptiveMaxPoolNd(_AdaptivePoolNd):
    """`adaptive_max_pool_nd` as a module: torch's ``AdaptiveMaxPool1d``, ``2d`` and ``3d``.

    Args:
        output_size: as in `adaptive_max_pool_nd`.
        return_indices: whether to return the positions of the maxima too.
        spatial_dims: number of spatial axes.

    Raises:
        ShapeError: the sizes do not fit ``spatial_dims``; in `forward`, the input does not.

    >>> AdaptiveMaxPoolNd(2, spatial_dims=4)(torch.zeros(1, 3, 5, 5, 5, 5)).shape
    torch.Size([1, 3, 2, 2, 2, 2])
    """

    kind = "max"

    def __init__(
        self, output_size: Sizes, return_indices: bool = False, *, spatial_dims: int
    ) -> None:
        super().__init__(output_size, spatial_dims)
        self.return_indices = return_indices

    # Without an annotation: TorchScript would take the union of both result types, which no next
    # layer accepts.
    def forward(self, x: Tensor):  # type: ignore[no-untyped-def]
        """``(B, C, *S)`` to ``(B, C, *output_size)``; with ``return_indices``, also positions."""
        if is_scripting():
            y = script_per_axis(x, self._script_kind, self._script_sizes)
        else:
            y = trace_as_leaf(self, x) if has_torch_function_unary(x) else NO_NODE
            if y is None:
                if not has_torch_function_unary(x):
                    check_batched("AdaptiveMaxPoolNd", x, self.spatial_dims)
                y = adaptive_max_pool_nd(x, self.output_size, self.return_indices)
        return y
