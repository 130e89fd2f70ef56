"""Padding of any number of axes in every mode."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from convnd.errors import ShapeError
from convnd.nn._native import apply_separably, check_batched
from convnd.registry import check_name
from convnd.shapes import Padding, Pairs, pad_pairs

__all__ = ["PADDING_MODES", "PadNd", "pad_nd"]

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
"""Values beyond the border: zeros, the mirror image without the border sample, the border sample,
or the samples at the other end."""


def check_mode(mode: str) -> None:
    """Check that a name is in `PADDING_MODES`."""
    check_name("padding_mode", mode, PADDING_MODES)


def pad_nd(x: Tensor, padding: Padding, mode: str = "zeros") -> Tensor:
    """Extend every spatial axis beyond its ends.

    Args:
        x: ``(B, C, *S)``, any number of spatial axes.
        padding: samples to add: one number, one per axis, or a ``(low, high)`` pair per axis. In
            the order of the axes, unlike `torch.nn.functional.pad`, which starts from the last.
        mode: one of `PADDING_MODES`.

    Returns:
        ``(B, C, *S')`` with ``S' = low + S + high``; ``x`` itself where nothing is to be added.

    Raises:
        UnknownNameError: no such mode.
        ShapeError: the padding does not fit the axes, or asks reflect for as many samples as the
            axis has, or circular for more.

    Torch's own function reflects, replicates and wraps around up to three axes. This one supports
    any number: the last three together, the others one by one. As in torch, the gradient of reflect
    and replicate padding is not deterministic on CUDA.

    >>> import torch
    >>> pad_nd(torch.arange(4.0).view(1, 1, 4), ((2, 1),), "reflect").tolist()
    [[[2.0, 1.0, 0.0, 1.0, 2.0, 3.0, 2.0]]]
    """
    check_mode(mode)
    check_batched("pad", x, max(1, x.ndim - 2))
    pairs = pad_pairs(padding, x.ndim - 2)
    return _pad(x, pairs, mode) if any(map(any, pairs)) else x


def _pad(x: Tensor, pairs: Pairs, mode: str) -> Tensor:
    if mode == "zeros":
        return F.pad(x, _innermost_first(pairs))
    for axis, (samples, pair) in enumerate(zip(x.shape[2:], pairs, strict=True)):
        limit = {"reflect": samples - 1, "circular": samples}.get(mode)
        if limit is not None and max(pair) > limit:
            raise ShapeError(
                "pad",
                expected=(
                    f"at most {limit} samples of {mode} padding on axis {axis} of {samples} samples"
                ),
                got=pair,
                remedy="pad less, or use replicate or zeros",
            )

    def apply(part: Tensor, axes: tuple[int | None, ...]) -> Tensor:
        part_pairs = tuple((0, 0) if axis is None else pairs[axis] for axis in axes)
        if not any(map(any, part_pairs)):
            return part
        return F.pad(part, _innermost_first(part_pairs), mode)

    return apply_separably(x, apply)


def _innermost_first(pairs: Pairs) -> list[int]:
    return [count for pair in reversed(pairs) for count in pair]


class PadNd(nn.Module):
    """`pad_nd` as a module.

    Args:
        padding: as in `pad_nd`.
        mode: one of `PADDING_MODES`.
        spatial_dims: number of spatial axes.

    Raises:
        UnknownNameError: no such mode.
        ShapeError: the padding does not fit ``spatial_dims``; in `forward`, the input does not.

    >>> import torch
    >>> PadNd(1, "circular", spatial_dims=4)(torch.ones(1, 2, 3, 3, 3, 3)).shape
    torch.Size([1, 2, 5, 5, 5, 5])
    """

    def __init__(self, padding: Padding, mode: str = "zeros", *, spatial_dims: int) -> None:
        super().__init__()
        check_mode(mode)
        self.padding = pad_pairs(padding, spatial_dims)
        self.mode = mode
        self.spatial_dims = spatial_dims

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, *S)`` to ``(B, C, *S')``."""
        check_batched("PadNd", x, self.spatial_dims)
        return pad_nd(x, self.padding, self.mode)

    def extra_repr(self) -> str:
        """The arguments, for ``print``."""
        return f"{self.padding}, mode={self.mode!r}, spatial_dims={self.spatial_dims}"
