"""Poolings as modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.overrides import has_torch_function_unary

from convnd.nn._native import NO_NODE, check_batched, trace_as_leaf
from convnd.nn._scripting import is_scripting, script_avg_pool, script_max_pool
from convnd.nn.pool import avg_pool_nd, max_pool_nd
from convnd.shapes import Layer, Padding, ntuple

__all__ = ["AvgPoolNd", "MaxPoolNd"]


class _PoolNd(nn.Module):
    """The attributes of a pooling, with torch's names; they may be changed."""

    __jit_unused_properties__ = ("layer",)

    kind = ""

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None,
        padding: Padding,
        dilation: int | Sequence[int],
        ceil_mode: bool,
        spatial_dims: int,
    ) -> None:
        super().__init__()
        self.spatial_dims = ntuple(spatial_dims, 1, "spatial_dims")[0]
        self.kernel_size: Any = _hashable(kernel_size)
        self.stride: Any = self.kernel_size if stride is None else _hashable(stride)
        self.padding: Any = _hashable(padding)
        self.dilation: Any = _hashable(dilation)
        self.ceil_mode = ceil_mode
        _ = self.layer  # checks the arguments

    @property
    def layer(self) -> Layer:
        """Geometry of the layer, computed from the attributes."""
        return Layer.build(
            self.kind,
            self.spatial_dims,
            kernel=self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            ceil_mode=self.ceil_mode,
        )

    def __prepare_scriptable__(self) -> _PoolNd:
        """Store sizes and padding as lists of numbers; called by ``torch.jit.script``."""
        layer = self.layer
        self._script_sizes = [list(layer.kernel), list(layer.stride), list(layer.dilation)]
        self._script_padding = [count for pair in layer.padding for count in pair]
        return self

    def extra_repr(self) -> str:
        """The geometry, for ``print``."""
        return f"{self.layer}, spatial_dims={self.spatial_dims}"


def _hashable(value: Any) -> Any:
    """Convert sequences to tuples, so that geometries can be cached by them."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        return value
    return tuple(_hashable(item) for item in value)


class MaxPoolNd(_PoolNd):
    """`max_pool_nd` as a module; arguments and attributes are those of torch's ``MaxPool2d``.

    Args:
        kernel_size: samples in a window, one number or one per axis.
        stride: step between windows, one number or one per axis; None is the window itself.
        padding: samples beyond the border, see `max_pool_nd`.
        dilation: distance between the samples of a window, one number or one per axis.
        return_indices: whether to return the positions of the maxima too.
        ceil_mode: whether a last window may reach beyond the padding.
        spatial_dims: number of spatial axes.

    Raises:
        ShapeError: an argument does not fit ``spatial_dims``, or the input does not.

    >>> import torch
    >>> MaxPoolNd(2, spatial_dims=4)(torch.zeros(1, 3, 4, 4, 4, 4)).shape
    torch.Size([1, 3, 2, 2, 2, 2])
    """

    kind = "maxpool"

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
        *,
        spatial_dims: int,
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode, spatial_dims)
        self.return_indices = return_indices

    # Without an annotation: TorchScript would take the union of both result types, which no next
    # layer accepts.
    def forward(self, x: Tensor):  # type: ignore[no-untyped-def]
        """``(B, C, *S)`` to ``(B, C, *S')``; with ``return_indices``, also the positions."""
        if is_scripting():
            kernel, stride, dilation = self._script_sizes
            y = script_max_pool(x, kernel, stride, self._script_padding, dilation, self.ceil_mode)
        else:
            y = trace_as_leaf(self, x) if has_torch_function_unary(x) else NO_NODE
            if y is None:
                if not has_torch_function_unary(x) and x.ndim != self.spatial_dims + 2:
                    check_batched("MaxPoolNd", x, self.spatial_dims)
                y = max_pool_nd(
                    x,
                    self.kernel_size,
                    self.stride,
                    self.padding,
                    self.dilation,
                    self.ceil_mode,
                    self.return_indices,
                )
        return y


class AvgPoolNd(_PoolNd):
    """`avg_pool_nd` as a module; arguments and attributes are those of torch's ``AvgPool2d``.

    Args:
        kernel_size: samples in a window, one number or one per axis.
        stride: step between windows, one number or one per axis; None is the window itself.
        padding: zeros beyond the border, see `avg_pool_nd`.
        ceil_mode: whether a last window may reach beyond the padding.
        count_include_pad: whether padding counts as samples of a window.
        divisor_override: divides the sum of every window, instead of a number of samples.
        spatial_dims: number of spatial axes.

    Raises:
        ShapeError: an argument does not fit ``spatial_dims``, or the input does not.

    >>> import torch
    >>> AvgPoolNd(2, spatial_dims=1)(torch.arange(4.0).view(1, 1, 4)).tolist()
    [[[0.5, 2.5]]]
    """

    kind = "avgpool"

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
        *,
        spatial_dims: int,
    ) -> None:
        super().__init__(kernel_size, stride, padding, 1, ceil_mode, spatial_dims)
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, *S)`` to ``(B, C, *S')``."""
        if is_scripting():
            kernel, stride, _ = self._script_sizes
            divisor = self.divisor_override
            y = script_avg_pool(
                x,
                kernel,
                stride,
                self._script_padding,
                self.ceil_mode,
                self.count_include_pad,
                0 if divisor is None else divisor,
            )
        else:
            y = trace_as_leaf(self, x) if has_torch_function_unary(x) else NO_NODE
            if y is None:
                if not has_torch_function_unary(x) and x.ndim != self.spatial_dims + 2:
                    check_batched("AvgPoolNd", x, self.spatial_dims)
                y = avg_pool_nd(
                    x,
                    self.kernel_size,
                    self.stride,
                    self.padding,
                    self.ceil_mode,
                    self.count_include_pad,
                    self.divisor_override,
                )
        return y
