"""Padding of any number of axes in every mode."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from convnd.errors import ShapeError, UsageError
from convnd.nn._native import NATIVE, NO_NODE, apply_separably, cached, check_batched, trace_as_leaf
from convnd.nn._scripting import is_scripting, script_pad
from convnd.registry import check_name
from convnd.shapes import Padding, Pairs, ntuple, pad_pairs

__all__ = ["PADDING_MODES", "PAD_MODES", "PadNd", "pad_nd", "wrapped_crop"]

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
"""Values beyond the border that a convolution reads: zeros, the mirror image without the border
sample, the border sample, or the samples at the other end. The names are those of torch's
convolutions."""

PAD_MODES = ("constant", *PADDING_MODES[1:])
"""The modes of `pad_nd`, with the names of `torch.nn.functional.pad`."""


def check_mode(mode: str, padding: Padding = 0) -> None:
    """Check that a name is one of `PADDING_MODES`, and that it goes with the padding.

    Raises:
        UnknownNameError: there is no such mode.
        UsageError: the padding is causal, and the mode reads later samples.
    """
    check_name("padding_mode", mode, PADDING_MODES)
    if isinstance(padding, str) and padding == "causal" and mode in ("reflect", "circular"):
        raise UsageError(
            "padding_mode",
            expected='zeros or replicate with padding="causal"',
            got=mode,
            remedy="the other modes read samples that come later",
        )


def pad_nd(
    x: Tensor, padding: Padding, mode: str = "constant", value: float | None = None
) -> Tensor:
    """Extend every spatial axis beyond its ends, or crop it.

    Args:
        x: ``(B, C, *S)``, any number of spatial axes.
        padding: samples to add: one number, one per axis, or a ``(low, high)`` pair per axis. In
            the order of the axes, unlike `torch.nn.functional.pad`, which starts from the last. A
            negative number crops.
        mode: one of `PAD_MODES`.
        value: number that a constant padding is filled with; None is 0.

    Returns:
        ``(B, C, *S')`` with ``S' = low + S + high``; ``x`` itself if the padding is 0.

    Raises:
        UnknownNameError: no such mode.
        UsageError: a value is given with another mode.
        ShapeError: the padding does not fit the axes, asks reflect for as many samples as the axis
            has, or circular for more; or it leaves nothing.

    Torch's own function reflects, replicates and wraps around at most three axes. This one supports
    any number: it pads the last three together, and the others one by one. If one end is cropped
    and the other padded, reflect and replicate read the whole input, and circular reads the cropped
    one. As in torch, the gradient of reflect and replicate padding is not deterministic on CUDA.

    >>> import torch
    >>> pad_nd(torch.arange(4.0).view(1, 1, 4), ((2, 1),), "reflect").tolist()
    [[[2.0, 1.0, 0.0, 1.0, 2.0, 3.0, 2.0]]]
    >>> pad_nd(torch.arange(4.0).view(1, 1, 4), ((-1, 2),), value=9.0).tolist()
    [[[1.0, 2.0, 3.0, 9.0, 9.0]]]
    """
    if has_torch_function_unary(x):
        result: Tensor = handle_torch_function(pad_nd, (x,), x, padding, mode, value)
        return result
    check_batched("pad", x, max(1, x.ndim - 2))
    pairs = _pairs(padding, x.ndim - 2, mode, value)
    return pad_by_pairs(x, pairs, mode, value) if pairs else x


@cached
def _pairs(padding: Padding, ndim: int, mode: str, value: float | None) -> Pairs:
    """The padding of each axis; empty if it is 0 everywhere."""
    _check_pad_mode(mode, value)
    pairs = pad_pairs(padding, ndim, minimum=None)
    return pairs if any(map(any, pairs)) else ()


def pad_by_pairs(x: Tensor, pairs: Pairs, mode: str, value: float | None = None) -> Tensor:
    """Pad as `pad_nd`, whose arguments have been checked.

    Args:
        x: ``(B, C, *S)``.
        pairs: samples to add before and after each axis; negative numbers crop.
        mode: one of `PAD_MODES` or `PADDING_MODES`.
        value: number that a constant padding is filled with; None is 0.
    """
    if not any(map(any, pairs)):
        return x
    if mode == "circular" and min(map(min, pairs)) < 0:  # as in torch
        x = _crop(x, pairs)
        pairs = tuple((max(low, 0), max(high, 0)) for low, high in pairs)
    if mode in ("constant", "zeros") or len(pairs) in NATIVE:
        try:
            if mode in ("constant", "zeros"):
                y = F.pad(x, _innermost_first(pairs), value=value)
            else:
                y = F.pad(x, _innermost_first(pairs), mode)
        except RuntimeError:
            _check_extents(x, pairs, mode)
            raise
        if 0 in y.shape[2:]:
            _check_extents(x, pairs, mode)
        return y
    _check_extents(x, pairs, mode)
    margins = tuple((max(low, 0), max(high, 0)) for low, high in pairs)

    def apply(part: Tensor, axes: tuple[int | None, ...]) -> Tensor:
        part_pairs = tuple((0, 0) if axis is None else margins[axis] for axis in axes)
        if not any(map(any, part_pairs)):
            return part
        return F.pad(part, _innermost_first(part_pairs), mode)

    return _crop(apply_separably(x, apply), pairs)


def wrapped_crop(x: Tensor, crop: Sequence[slice], *, mirror: bool = False) -> Tensor:
    """Cut a crop out of a periodic field.

    Args:
        x: one period ``(B, C, *S)``.
        crop: start and stop along each axis; both may lie outside of ``x``, by any number of
            periods.
        mirror: whether ``x`` is continued by its mirror image instead, without the border sample
            twice.

    Returns:
        The crop; a view of ``x`` if it lies inside.

    >>> import torch
    >>> wrapped_crop(torch.arange(3).view(1, 1, 3), [slice(-2, 6)]).flatten().tolist()
    [1, 2, 0, 1, 2, 0, 1, 2]
    """
    for axis, part in enumerate(crop, start=2):
        extent = x.shape[axis]
        if part.start >= 0 and part.stop <= extent:
            x = x.narrow(axis, part.start, part.stop - part.start)
        else:
            position = torch.arange(part.start, part.stop, device=x.device)
            if mirror and extent > 1:
                last = extent - 1
                position = last - (position % (2 * last) - last).abs()
            x = x.index_select(axis, position % extent)
    return x


def _check_extents(x: Tensor, pairs: Pairs, mode: str) -> None:
    """Raise a ShapeError if an axis is too short for its padding."""
    for axis, (samples, pair) in enumerate(zip(x.shape[2:], pairs, strict=True)):
        limit = {"reflect": samples - 1, "circular": samples}.get(mode)
        if limit is not None and max(pair) > limit:
            raise ShapeError(
                "pad",
                expected=(
                    f"at most {limit} samples of {mode} padding on axis {axis} of {samples} samples"
                ),
                got=pair,
                remedy="pad less, or use replicate or constant",
            )
        if samples + sum(pair) < 1:
            raise ShapeError(
                "pad",
                expected=f"at least one sample left of {samples} on axis {axis}",
                got=f"padding {pair}",
                remedy="crop less",
            )


def _crop(x: Tensor, pairs: Pairs) -> Tensor:
    """Crop the ends whose padding is negative."""
    for axis, (low, high) in enumerate(pairs, start=2):
        if min(low, high) < 0:
            start = max(-low, 0)
            x = x.narrow(axis, start, max(0, x.shape[axis] - start - max(-high, 0)))
    return x


def _check_pad_mode(mode: str, value: float | None) -> None:
    check_name("padding mode", mode, PAD_MODES)
    if mode != "constant" and value:
        raise UsageError(
            "pad", expected=f"no value with mode {mode}", got=value, remedy="use constant"
        )


def _innermost_first(pairs: Pairs) -> list[int]:
    return [count for pair in reversed(pairs) for count in pair]


class PadNd(nn.Module):
    """`pad_nd` as a module.

    By its mode, it is torch's ``ConstantPad``, ``ZeroPad``, ``ReflectionPad``, ``ReplicationPad``
    or ``CircularPad``.

    Args:
        padding: samples to add, see `pad_nd`; negative numbers crop.
        mode: one of `PAD_MODES`.
        value: number that a constant padding is filled with; None is 0.
        spatial_dims: number of spatial axes.

    Raises:
        UnknownNameError: no such mode.
        UsageError: a value is given with another mode.
        ShapeError: the padding does not fit ``spatial_dims``; in `forward`, the input does not.

    >>> import torch
    >>> PadNd(1, "circular", spatial_dims=4)(torch.ones(1, 2, 3, 3, 3, 3)).shape
    torch.Size([1, 2, 5, 5, 5, 5])
    """

    def __init__(
        self,
        padding: Padding,
        mode: str = "constant",
        value: float | None = None,
        *,
        spatial_dims: int,
    ) -> None:
        super().__init__()
        _check_pad_mode(mode, value)
        self.spatial_dims = ntuple(spatial_dims, 1, "spatial_dims")[0]
        self.padding = pad_pairs(padding, self.spatial_dims, minimum=None)
        self.mode = mode
        self.value = 0.0 if value is None else value

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, *S)`` to ``(B, C, *S')``."""
        if is_scripting():
            y = script_pad(x, self._script_padding, self.mode, self.value)
        else:
            y = trace_as_leaf(self, x) if has_torch_function_unary(x) else NO_NODE
            if y is None:
                if not has_torch_function_unary(x):
                    check_batched("PadNd", x, self.spatial_dims)
                y = pad_nd(x, self.padding, self.mode, self.value)
        return y

    def __prepare_scriptable__(self) -> PadNd:
        """Store the padding as a list of numbers; called by ``torch.jit.script``."""
        self._script_padding = [count for pair in self.padding for count in pair]
        return self

    def extra_repr(self) -> str:
        """The arguments, for ``print``."""
        value = f", value={self.value}" if self.value else ""
        return f"{self.padding}, mode={self.mode!r}{value}, spatial_dims={self.spatial_dims}"
