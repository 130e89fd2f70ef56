"""`unfold_nd` and `fold_nd` as modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.overrides import has_torch_function_unary

from convnd.nn._native import NO_NODE, check_batched, trace_as_leaf
from convnd.nn._scripting import is_scripting, script_pad
from convnd.nn.unfold import fold_nd, fold_windows, unfold_nd, unfold_windows, window_geometry
from convnd.shapes import Layer, Padding, ntuple
from convnd.shapes import output_size as size_of_windows

__all__ = ["FoldNd", "UnfoldNd"]


class UnfoldNd(nn.Module):
    """`unfold_nd` as a module; torch's ``Unfold`` for two axes.

    Args:
        kernel_size: number of taps, one number or one per axis.
        dilation: distance between taps, one number or one per axis.
        padding: zeros beyond the border, in any notation of `convnd.nn.conv_nd`.
        stride: step between windows, one number or one per axis.
        spatial_dims: number of spatial axes.

    Raises:
        ShapeError: an argument does not fit ``spatial_dims``; in `forward`, the input does not fit.

    >>> import torch
    >>> UnfoldNd(2, spatial_dims=4)(torch.zeros(1, 3, 3, 3, 3, 3)).shape
    torch.Size([1, 48, 16])
    """

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        dilation: int | Sequence[int] = 1,
        padding: Padding = 0,
        stride: int | Sequence[int] = 1,
        *,
        spatial_dims: int,
    ) -> None:
        super().__init__()
        self.spatial_dims = ntuple(spatial_dims, 1, "spatial_dims")[0]
        self.kernel_size: Any = kernel_size
        self.dilation: Any = dilation
        self.padding: Any = padding
        self.stride: Any = stride
        _geometry_of(self)  # checks the arguments

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, *S)`` to ``(B, C · K, L)``."""
        if is_scripting():
            padded = script_pad(x, self._script_padding, "constant", 0.0)
            y = unfold_windows(
                padded, self._script_kernel, self._script_stride, self._script_dilation
            )
        else:
            y = trace_as_leaf(self, x) if has_torch_function_unary(x) else NO_NODE
            if y is None:
                if not has_torch_function_unary(x):
                    check_batched("UnfoldNd", x, self.spatial_dims)
                y = unfold_nd(x, self.kernel_size, self.dilation, self.padding, self.stride)
        return y

    def __prepare_scriptable__(self) -> UnfoldNd:
        """Store one number for each axis; called by ``torch.jit.script``."""
        layer = _geometry_of(self)
        self._script_kernel, self._script_stride = list(layer.kernel), list(layer.stride)
        self._script_dilation = list(layer.dilation)
        self._script_padding = [count for pair in layer.padding for count in pair]
        return self

    def extra_repr(self) -> str:
        """The arguments, for ``print``."""
        return _describe(self)


class FoldNd(nn.Module):
    """`fold_nd` as a module; torch's ``Fold`` for two axes.

    Args:
        output_size: size S of the result, one number or one per axis.
        kernel_size: number of taps, one number or one per axis.
        dilation: distance between taps, one number or one per axis.
        padding: samples beyond the border of the result, which are left out.
        stride: step between windows, one number or one per axis.
        spatial_dims: number of spatial axes.

    Raises:
        ShapeError: an argument does not fit ``spatial_dims``; in `forward`, the input does not fit.

    >>> import torch
    >>> FoldNd(3, 2, spatial_dims=4)(torch.zeros(1, 48, 16)).shape
    torch.Size([1, 3, 3, 3, 3, 3])
    """

    def __init__(
        self,
        output_size: int | Sequence[int],
        kernel_size: int | Sequence[int],
        dilation: int | Sequence[int] = 1,
        padding: Padding = 0,
        stride: int | Sequence[int] = 1,
        *,
        spatial_dims: int,
    ) -> None:
        super().__init__()
        self.spatial_dims = ntuple(spatial_dims, 1, "spatial_dims")[0]
        self.output_size: Any = output_size
        self.kernel_size: Any = kernel_size
        self.dilation: Any = dilation
        self.padding: Any = padding
        self.stride: Any = stride
        size_of_windows(self._size(), _geometry_of(self))  # checks the size

    def _size(self) -> tuple[int, ...]:
        """The size of the result, one number for each axis."""
        return ntuple(self.output_size, self.spatial_dims, "FoldNd output_size")

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C · K, L)`` to ``(B, C, *S)``."""
        if is_scripting():
            y = fold_windows(
                x,
                self._script_size,
                self._script_counts,
                self._script_kernel,
                self._script_stride,
                self._script_dilation,
                self._script_padding,
            )
        else:
            y = trace_as_leaf(self, x) if has_torch_function_unary(x) else NO_NODE
            if y is None:
                geometry = self.kernel_size, self.dilation, self.padding, self.stride
                y = fold_nd(x, self._size(), *geometry)
        return y

    def __prepare_scriptable__(self) -> FoldNd:
        """Store one number for each axis; called by ``torch.jit.script``."""
        layer = _geometry_of(self)
        self._script_kernel, self._script_stride = list(layer.kernel), list(layer.stride)
        self._script_dilation = list(layer.dilation)
        self._script_padding = [count for pair in layer.padding for count in pair]
        self._script_size = list(self._size())
        self._script_counts = list(size_of_windows(self._size(), layer))
        return self

    def extra_repr(self) -> str:
        """The arguments, for ``print``."""
        return f"output_size={self.output_size}, {_describe(self)}"


def _geometry_of(module: Any) -> Layer:
    """The windows of `UnfoldNd` or `FoldNd`, from its attributes."""
    geometry = module.kernel_size, module.dilation, module.padding, module.stride
    return window_geometry(module.spatial_dims, 1, *geometry)


def _describe(module: Any) -> str:
    """The arguments that `UnfoldNd` and `FoldNd` share."""
    return (
        f"kernel_size={module.kernel_size}, dilation={module.dilation}, padding={module.padding!r},"
        f" stride={module.stride}, spatial_dims={module.spatial_dims}"
    )
